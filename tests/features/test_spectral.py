"""Features against librosa, their sizes, and what silence and short sounds give."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile
from builders import chirp

from lttlib import Error
from lttlib.features import FeatureConfig, extract, load_audio, spectral
from lttlib.features.spectral import FEATURE_KINDS

TOLERANCE = {"atol": 1e-4, "rtol": 1e-6}  # float32 rounding of values of several hundred


# Against librosa


def assert_equals_librosa(wave, config):
    """Compare the spectrogram, decibels, MFCCs, derivatives and normalised features."""
    rate = config.sampling_rate
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length}
    power = np.abs(librosa.stft(wave, pad_mode="constant", **sizes)) ** 2
    np.testing.assert_allclose(spectral.power_spectrogram(wave, config).T, power, **TOLERANCE)
    decibels = librosa.power_to_db(power)
    np.testing.assert_allclose(spectral.power_to_db(power), decibels, **TOLERANCE)

    bands = {"n_mfcc": config.n_mfcc, "n_mels": config.n_mels}
    mfcc = librosa.feature.mfcc(y=wave, sr=rate, pad_mode="constant", **bands, **sizes)
    cepstra = spectral.mfccs(wave, config)
    np.testing.assert_allclose(cepstra.T, mfcc, **TOLERANCE)

    slopes = librosa.feature.delta(mfcc, order=1, mode="nearest")
    curvatures = librosa.feature.delta(mfcc, order=2, mode="nearest")
    np.testing.assert_allclose(spectral.delta(cepstra).T, slopes, **TOLERANCE)
    np.testing.assert_allclose(spectral.delta(cepstra, order=2).T, curvatures, **TOLERANCE)

    stacked = np.concatenate([mfcc, slopes, curvatures]).T
    expected = (stacked - stacked.mean(axis=0)) / stacked.std(axis=0)
    former = replace(config, normalisation="utterance")
    np.testing.assert_allclose(extract(wave, former), expected, atol=1e-4)


@pytest.mark.parametrize("sampling_rate", [8000, 16000])
@pytest.mark.parametrize("other", [{}, {"window_ms": 25.0, "n_mfcc": 20, "n_mels": 64}])
def test_features_of_a_generated_signal_are_those_of_librosa(sampling_rate, other):
    config = FeatureConfig(sampling_rate=sampling_rate, **other)
    assert_equals_librosa(chirp(sampling_rate=sampling_rate), config)


@pytest.mark.parametrize(
    "corpus, sampling_rate", [("SpokenDigits", 8000), ("LJSpeech", 16000), ("SpokenDigits", 16000)]
)
def test_features_of_real_speech_are_those_of_librosa(corpora, corpus, sampling_rate):
    paths = sorted((corpora / corpus / "dev").glob("*/*/*.flac"))[::10]
    assert paths
    config = FeatureConfig(sampling_rate=sampling_rate)
    for path in paths:
        assert_equals_librosa(load_audio(path, sampling_rate), config)


@pytest.mark.parametrize(
    "sampling_rate, n_fft, n_mels", [(8000, 256, 40), (16000, 512, 40), (22050, 2048, 128)]
)
def test_mel_filters_are_those_of_librosa(sampling_rate, n_fft, n_mels):
    expected = librosa.filters.mel(sr=sampling_rate, n_fft=n_fft, n_mels=n_mels)
    filters = spectral.mel_filters(sampling_rate, n_fft, n_mels)
    np.testing.assert_allclose(filters.T, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_mfccs_are_the_same_whatever_kind_the_settings_name(kind):
    wave = chirp()
    expected = spectral.mfccs(wave, FeatureConfig("mfccs"))
    np.testing.assert_array_equal(spectral.mfccs(wave, FeatureConfig(kind)), expected)


# Sizes


@pytest.mark.parametrize("kind, channels", [("raw", 1), ("power", 257), ("mfccs", 39)])
def test_extract_normalised_by_the_utterance_has_mean_0_and_variance_1(kind, channels):
    config = FeatureConfig(kind=kind, normalisation="utterance")
    values = extract(chirp(), config)
    assert values.dtype == np.float32 and values.shape[1] == channels == config.channels
    assert len(values) == (24000 if kind == "raw" else 1 + 24000 // 160)
    np.testing.assert_allclose(values.mean(axis=0, dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=0, dtype=float), 1, atol=1e-4)


def test_channels_follow_the_parameters():
    assert FeatureConfig(sampling_rate=8000, kind="power").channels == 129
    assert FeatureConfig(window_ms=20, kind="power").channels == 161
    assert FeatureConfig(n_mfcc=20).channels == 60


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_extract_does_not_depend_on_the_loudness_of_the_recording(kind):
    config = FeatureConfig(kind=kind)
    expected = extract(chirp(), config)
    np.testing.assert_allclose(extract(0.25 * chirp(), config), expected, atol=2e-4)


@pytest.mark.parametrize("kind", FEATURE_KINDS)
@pytest.mark.parametrize("samples", [1, 2, 400, 3333, 160123])
@pytest.mark.filterwarnings("error")
def test_extract_gives_zeros_for_silence_never_nan(kind, samples):
    values = extract(np.zeros(samples, np.float32), FeatureConfig(kind=kind))
    np.testing.assert_array_equal(values, 0)


@pytest.mark.parametrize("kind", FEATURE_KINDS)
@pytest.mark.parametrize("samples", [1, 2, 480])
@pytest.mark.filterwarnings("error")
def test_extract_of_a_sound_shorter_than_the_derivatives_window_is_finite(tmp_path, kind, samples):
    config = FeatureConfig(kind=kind)
    soundfile.write(tmp_path / "x.flac", chirp()[:samples], 16000)
    values = extract(load_audio(tmp_path / "x.flac", 16000), config)
    assert values.shape == (samples if kind == "raw" else 1 + samples // 160, config.channels)
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "mfcc"},
        {"sampling_rate": 0},
        {"window_ms": -1},
        {"window_ms": float("nan")},
        {"frame_shift_ms": 0},
        {"frame_shift_ms": 0.01},
        {"window_ms": 0.01},
        {"n_mfcc": 0},
        {"n_mfcc": 41},
        {"normalisation": "none"},
    ],
    ids=str,
)
def test_feature_config_refuses_impossible_features_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(Error, match=value if isinstance(value, str) else name):
        FeatureConfig(**wrong)
