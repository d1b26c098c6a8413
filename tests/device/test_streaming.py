"""Text of sound that comes in pieces: the same for any pieces, and as early as it is stated."""

import numpy as np
import pytest
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib import recognition
from lttlib.device import Recogniser, StreamingRecogniser
from lttlib.features import extract, load_audio
from lttlib.models import convert
from lttlib.network import CONVS
from lttlib.speech import read_corpus

PIECES = [7, 80, 333, 4000, 10**6]


def speech(seconds=0.9, seed=0):
    """Noise whose loudness changes, with a silence in it."""
    wave = noise_wave(seconds, seed) * np.linspace(0.2, 3, int(8000 * seconds))
    wave[2000:2600] = 0
    return wave.astype(np.float32)


@pytest.fixture(scope="module", params=CONVS)
def recogniser(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("deployed") / "a.tflite"
    model = noise_model(seed=5, conv=request.param)
    convert(model, path)
    return Recogniser(path)


def transcribe_in_pieces(recogniser, wave, size):
    """The text that came while the wave was read, and the final one."""
    stream = StreamingRecogniser(recogniser)
    text = ""
    for start in range(0, len(wave), size):
        text += stream.accept_waveform(wave[start : start + size])
    final = stream.finalize()
    assert stream.text.startswith(text)
    return stream.text, final


def test_streamed_text_does_not_depend_on_the_pieces(recogniser):
    wave = speech(3.0)
    results = {size: transcribe_in_pieces(recogniser, wave, size) for size in PIECES}
    text, final = results[PIECES[0]]
    assert len(text) > 10 and len(set(results.values())) == 1, results
    features = extract(wave, NOISE_CONFIG)
    assert final == recognition.transcribe_features(recogniser, features)


def test_streamed_block_comes_as_soon_as_its_context_is_complete_and_not_before(recogniser):
    """What the stream holds back is the latency that it states; no later sound changes the text."""
    stream, other = StreamingRecogniser(recogniser), StreamingRecogniser(recogniser)
    for number in range(200):
        stream.accept_waveform(noise_wave(0.01, number))
    complete = 2.0 - stream.latency + 1e-9
    logits = stream.logit_stream
    block_seconds = logits.block * logits.frame_seconds
    first_sounds = (logits.frames - logits.block) * logits.frame_seconds
    assert first_sounds <= complete < first_sounds + block_seconds
    for number in range(200):
        other.accept_waveform(noise_wave(0.01, number))
    other.accept_waveform(noise_wave(1.0, 77) * 30)
    assert other.text.startswith(stream.text)


def test_streaming_nothing_gives_no_text(recogniser):
    assert StreamingRecogniser(recogniser).finalize() == ""


def test_final_text_of_a_long_stream_is_what_was_written(recogniser):
    stream = StreamingRecogniser(recogniser)
    for number in range(25):
        stream.accept_waveform(noise_wave(1.0, number))
    before = stream.text
    final = stream.finalize()
    assert final == stream.text.rstrip() and final.startswith(before.rstrip())


def test_streamed_text_of_real_speech_does_not_depend_on_the_pieces(corpora, recogniser):
    for utterance in read_corpus(corpora / "SpokenDigits", "dev")[:3]:
        wave = load_audio(utterance.audio, 8000)
        small = transcribe_in_pieces(recogniser, wave, 160)
        assert small == transcribe_in_pieces(recogniser, wave, 5000)
