"""Features in pieces, against those of the whole sound."""

import numpy as np
import pytest
import scipy.fft
from builders import NOISE_CONFIG, noise_wave

from lttlib import Error
from lttlib.features import (
    FeatureConfig,
    OnlineFeatureExtractor,
    OnlineStatistics,
    extract,
    spectral,
)
from lttlib.features.online import FrameBuffer
from lttlib.features.spectral import FEATURE_KINDS

PIECES = [1, 7, 80, 333, 4000, 10**6]


def speech(seconds=0.9, seed=0):
    """Noise whose loudness changes, with a silence in it."""
    wave = noise_wave(seconds, seed) * np.linspace(0.2, 3, int(8000 * seconds))
    wave[2000:2600] = 0
    return wave.astype(np.float32)


def extract_in_pieces(extractor, wave, size):
    pieces = [wave[start : start + size] for start in range(0, len(wave), size)]
    parts = [extractor.accept_waveform(piece) for piece in pieces]
    parts.append(extractor.accept_waveform([], last=True))
    return np.concatenate(parts)


def unnormalised(wave, config, statistics):
    """The channels of all frames at once; silence is what is far under the loudest so far."""
    if config.kind == "raw":
        return wave[:, None].astype(np.float64)
    decibels = 10 * np.log10(np.maximum(spectral.band_power(wave, config), 1e-10))
    frames = range(len(decibels))
    loudest = [max(statistics.loudest, decibels[: frame + 1].max()) for frame in frames]
    decibels = np.maximum(decibels, np.array(loudest)[:, None] - 80)
    if config.kind == "power":
        return decibels
    cepstra = scipy.fft.dct(decibels, norm="ortho")[:, : config.n_mfcc]
    slopes = spectral.delta(cepstra)
    return np.concatenate([cepstra, slopes, spectral.delta(cepstra, 2)], axis=1)


def extract_at_once(wave, config, statistics):
    """The same features written down for all frames at once."""
    values = unnormalised(wave, config, statistics)
    initial = np.array(statistics.variance)
    weight = 1000 / config.frame_period_ms
    normalised = []
    for frame in range(len(values)):
        past = values[: frame + 1].astype(np.float64) - statistics.mean
        count = weight + frame + 1
        shift = past.sum(axis=0) / count
        variance = (weight * initial + (past**2).sum(axis=0)) / count - shift**2
        deviation = np.sqrt(np.maximum(variance, 0.05 * initial))
        normalised.append((past[-1] - shift) / deviation)
    return np.array(normalised)


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_online_features_in_pieces_are_those_of_the_whole(kind):
    config = FeatureConfig(kind, sampling_rate=8000)
    wave = speech(0.3 if kind == "raw" else 0.9)
    statistics = OnlineStatistics.of([speech(seed=1), speech(seed=2)], config)
    expected = extract_at_once(wave, config, statistics)
    for size in PIECES[(3 if kind == "raw" else 0) :]:
        values = extract_in_pieces(OnlineFeatureExtractor(config, statistics), wave, size)
        np.testing.assert_allclose(values, expected, atol=2e-4, err_msg=f"pieces of {size}")


def test_online_statistics_are_what_utterances_are_on_average():
    waves = [noise_wave(0.9, seed) for seed in range(3)]
    statistics = OnlineStatistics.of(waves, NOISE_CONFIG)
    utterances = [spectral.add_deltas(spectral.mfccs(wave, NOISE_CONFIG)) for wave in waves]
    mean = np.concatenate(utterances).mean(axis=0)
    np.testing.assert_allclose(statistics.mean, mean, atol=1e-3)
    variance = np.mean([values.var(axis=0) for values in utterances], axis=0)
    np.testing.assert_allclose(statistics.variance, variance, rtol=1e-3)
    powers = [spectral.band_power(wave, NOISE_CONFIG) for wave in waves]
    assert statistics.loudest == np.median([spectral.power_to_db(power).max() for power in powers])


def test_online_statistics_need_speech():
    with pytest.raises(Error, match="no speech"):
        OnlineStatistics.of([], NOISE_CONFIG)


def test_online_features_forget_the_average_after_long_speech():
    statistics = OnlineStatistics.of([3 * noise_wave(1, 7)], NOISE_CONFIG)
    wave = noise_wave(60)
    values = extract_in_pieces(OnlineFeatureExtractor(NOISE_CONFIG, statistics), wave, 8000)
    difference = np.abs(values[-500:] - extract(wave, NOISE_CONFIG)[-500:])
    # Noise hardly moves the first channel, but its ends do.
    assert difference[:400, 1:].max() < 0.1


def test_online_features_of_silence_are_numbers_and_of_nothing_none():
    statistics = OnlineStatistics.of([speech()], NOISE_CONFIG)
    silence = np.zeros(8000, np.float32)
    values = extract_in_pieces(OnlineFeatureExtractor(NOISE_CONFIG, statistics), silence, 500)
    assert values.shape == (101, 39) and np.isfinite(values).all()
    nothing = silence[:0]
    values = extract_in_pieces(OnlineFeatureExtractor(NOISE_CONFIG, statistics), nothing, 1)
    assert values.shape == (0, 39)


def test_online_extractor_keeps_little_however_long_the_speech():
    statistics = OnlineStatistics.of([speech()], NOISE_CONFIG)
    extractor = OnlineFeatureExtractor(NOISE_CONFIG, statistics)
    for number in range(30):
        extractor.accept_waveform(noise_wave(1.0, number))
    assert len(extractor.wave) < 2000 and len(extractor.cepstra) < 20


def test_frame_buffer_counts_frames_from_the_first_ever():
    buffer = FrameBuffer(np.arange(3))
    buffer.append(np.arange(3, 6))
    buffer.drop_before(2)
    buffer.append(np.arange(6, 8))
    assert len(buffer) == 6 and buffer.start == 2 and buffer.end == 8
    assert buffer.slice(3, 7).tolist() == [3, 4, 5, 6]
