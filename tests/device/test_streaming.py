"""Listening in pieces: features against those of the whole sound, text against any other pieces."""

import numpy as np
import pytest
import scipy.fft
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib import recognition
from lttlib.device import Recogniser, StreamingRecogniser
from lttlib.features import (
    FeatureConfig,
    OnlineFeatureExtractor,
    OnlineStatistics,
    extract,
    load_audio,
    spectral,
)
from lttlib.features.spectral import KINDS
from lttlib.models import convert
from lttlib.speech import read_corpus

PIECES = [1, 7, 80, 333, 4000, 10**6]


def speech(seconds=0.9, seed=0):
    """Noise whose loudness changes, with a silence in it."""
    sound = noise_wave(seconds, seed) * np.linspace(0.2, 3, int(8000 * seconds))
    sound[2000:2600] = 0
    return sound.astype(np.float32)


def in_pieces(front, sound, size):
    parts = [
        front.accept_waveform(sound[start : start + size]) for start in range(0, len(sound), size)
    ]
    return np.concatenate([*parts, front.accept_waveform([], last=True)])


def of_the_whole(sound, chosen, prior):
    """The same features written down for all frames at once."""
    if chosen.kind == "raw":
        values = sound[:, None].astype(np.float64)
    else:
        values = 10 * np.log10(np.maximum(spectral.band_power(sound, chosen), 1e-10))
        loudest = [max(prior.loudest, values[: frame + 1].max()) for frame in range(len(values))]
        values = np.maximum(values, np.array(loudest)[:, None] - 80)
    if chosen.kind == "mfccs":
        values = scipy.fft.dct(values, norm="ortho")[:, : chosen.n_mfcc]
        values = np.concatenate([values, spectral.delta(values), spectral.delta(values, 2)], axis=1)
    weight, normalised = 1000 / chosen.frame_period_ms, []
    for frame in range(len(values)):
        past = values[: frame + 1].astype(np.float64) - prior.mean
        shift = past.sum(axis=0) / (weight + frame + 1)
        variance = (weight * np.array(prior.variance) + (past**2).sum(axis=0)) / (
            weight + frame + 1
        ) - shift**2
        deviation = np.sqrt(np.maximum(variance, 0.05 * np.array(prior.variance)))
        normalised.append((past[-1] - shift) / deviation)
    return np.array(normalised)


@pytest.mark.parametrize("kind", KINDS)
def test_features_in_pieces_are_those_of_the_whole(kind):
    chosen = FeatureConfig(kind, sampling_rate=8000)
    sound = speech(0.3 if kind == "raw" else 0.9)
    prior = OnlineStatistics.of([speech(seed=1), speech(seed=2)], chosen)
    expected = of_the_whole(sound, chosen, prior)
    for size in PIECES[(3 if kind == "raw" else 0) :]:
        found = in_pieces(OnlineFeatureExtractor(chosen, prior), sound, size)
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=f"pieces of {size}")


def test_average_speech_is_what_its_utterances_are_on_average():
    waves = [noise_wave(0.9, seed) for seed in range(3)]
    prior = OnlineStatistics.of(waves, NOISE_CONFIG)
    spoken = [spectral.add_deltas(spectral.mfccs(sound, NOISE_CONFIG)) for sound in waves]
    np.testing.assert_allclose(prior.mean, np.concatenate(spoken).mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(
        prior.variance, np.mean([values.var(axis=0) for values in spoken], axis=0), rtol=1e-3
    )
    assert prior.loudest == np.median(
        [spectral.power_to_db(spectral.band_power(sound, NOISE_CONFIG)).max() for sound in waves]
    )
    with pytest.raises(ValueError, match="no speech"):
        OnlineStatistics.of([], NOISE_CONFIG)


def test_after_long_speech_the_prior_is_forgotten():
    prior = OnlineStatistics.of([3 * noise_wave(1, 7)], NOISE_CONFIG)
    sound = noise_wave(60)
    found = in_pieces(OnlineFeatureExtractor(NOISE_CONFIG, prior), sound, 8000)[-500:]
    difference = np.abs(found - extract(sound, NOISE_CONFIG)[-500:])
    assert difference[:400, 1:].max() < 0.1  # noise hardly moves the first channel, but its ends do


def test_silence_gives_numbers_and_nothing_gives_nothing():
    prior = OnlineStatistics.of([speech()], NOISE_CONFIG)
    found = in_pieces(OnlineFeatureExtractor(NOISE_CONFIG, prior), np.zeros(8000, np.float32), 500)
    assert found.shape == (101, 39) and np.isfinite(found).all()
    assert in_pieces(
        OnlineFeatureExtractor(NOISE_CONFIG, prior), np.zeros(0, np.float32), 1
    ).shape == (
        0,
        39,
    )


@pytest.fixture(scope="module", params=["conv", "gated_conv"])
def recogniser(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("deployed") / "a.tflite"
    convert(noise_model(seed=5, conv=request.param), path, waves=[speech(seed=1), speech(seed=2)])
    return Recogniser(path)


def listen(recogniser, sound, size):
    stream = StreamingRecogniser(recogniser)
    written = "".join(
        stream.accept_waveform(sound[start : start + size]) for start in range(0, len(sound), size)
    )
    final = stream.finalize()
    assert stream.text.startswith(written)
    return stream.text, final


def test_the_text_does_not_depend_on_the_pieces(recogniser):
    sound = speech(3.0)
    texts = {size: listen(recogniser, sound, size) for size in (7, *PIECES[2:])}
    (text, final), *others = texts.values()
    assert len(text) > 10 and len(set(texts.values())) == 1, texts
    assert final == recognition.transcribe_features(recogniser, extract(sound, NOISE_CONFIG))


def test_a_frame_comes_as_soon_as_its_context_is_heard_and_not_before(recogniser):
    """What the stream holds back is the latency that it states, and no later sound changes what it gave."""
    stream, other = StreamingRecogniser(recogniser), StreamingRecogniser(recogniser)
    for number in range(200):
        stream.accept_waveform(noise_wave(0.01, number))
    heard = 2.0
    step = stream.stride * 0.01
    assert (stream.frames - 1) * step <= heard - stream.latency + 1e-9 < (stream.frames + 1) * step
    for number in range(200):
        other.accept_waveform(noise_wave(0.01, number))
    other.accept_waveform(noise_wave(1.0, 77) * 30)
    assert other.text.startswith(stream.text)


def test_nothing_heard_is_no_text_and_a_model_without_speech_cannot_stream(recogniser, tmp_path):
    assert StreamingRecogniser(recogniser).finalize() == ""
    convert(noise_model(), tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="ltt deploy --speech"):
        StreamingRecogniser(Recogniser(tmp_path / "a.tflite"))


def test_what_it_computes_with_stays_short_however_long_it_listens(recogniser):
    stream = StreamingRecogniser(recogniser)
    for number in range(30):
        stream.accept_waveform(noise_wave(1.0, number))
    assert len(stream.front.samples) < 2000 and len(stream.front.values) < 20
    assert len(stream.values) <= stream.left + stream.right + 3 * stream.stride + 1


def test_real_speech_is_written_alike_in_any_pieces(corpora, recogniser):

    for utterance in read_corpus(corpora / "SpokenDigits", "dev")[:3]:
        sound = load_audio(utterance.audio, 8000)
        assert listen(recogniser, sound, 160) == listen(recogniser, sound, 5000)
