"""Features against librosa, and sound files that are not what they seem."""

import librosa
import numpy as np
import pytest
import soundfile

from lttlib.features import AudioError, FeatureConfig, extract, load_audio, spectral
from lttlib.features.spectral import KINDS

TOLERANCE = {"atol": 1e-4, "rtol": 1e-6}  # float32 rounding of values of several hundred


def signal(sampling_rate=16000, seconds=1.5, seed=0):
    """A chirp over most of the band, fading, with noise."""
    time = np.arange(int(seconds * sampling_rate)) / sampling_rate
    chirp = np.sin(2 * np.pi * (100 + 0.2 * sampling_rate / seconds * time) * time) * np.exp(-time)
    return (0.3 * chirp + 0.01 * np.random.default_rng(seed).normal(size=len(time))).astype(
        np.float32
    )


def sine(hertz, sampling_rate, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * sampling_rate)) / sampling_rate)


def peak(wave, sampling_rate):
    """Frequency in Hz of the loudest sine."""
    return np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave))))) * sampling_rate / len(wave)


def file(folder, wave, sampling_rate=16000, name="x.flac", **how):
    soundfile.write(folder / name, wave, sampling_rate, **how)
    return folder / name


def assert_equals_librosa(wave, chosen):
    rate, sizes = chosen.sampling_rate, {"n_fft": chosen.n_fft, "hop_length": chosen.hop_length}
    power = np.abs(librosa.stft(wave, pad_mode="constant", **sizes)) ** 2
    np.testing.assert_allclose(spectral.power_spectrogram(wave, chosen).T, power, **TOLERANCE)
    np.testing.assert_allclose(spectral.power_to_db(power), librosa.power_to_db(power), **TOLERANCE)
    cepstra = spectral.mfccs(wave, chosen)
    mfcc = librosa.feature.mfcc(
        y=wave, sr=rate, n_mfcc=chosen.n_mfcc, n_mels=chosen.n_mels, pad_mode="constant", **sizes
    )
    np.testing.assert_allclose(cepstra.T, mfcc, **TOLERANCE)
    deltas = [librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)]
    np.testing.assert_allclose(spectral.delta(cepstra).T, deltas[0], **TOLERANCE)
    np.testing.assert_allclose(spectral.delta(cepstra, order=2).T, deltas[1], **TOLERANCE)
    stacked = np.concatenate([mfcc, *deltas]).T
    expected = (stacked - stacked.mean(axis=0)) / stacked.std(axis=0)
    np.testing.assert_allclose(extract(wave, chosen), expected, atol=1e-4)


# Against librosa


@pytest.mark.parametrize("sampling_rate", [8000, 16000])
@pytest.mark.parametrize("other", [{}, {"window_ms": 25.0, "n_mfcc": 20, "n_mels": 64}])
def test_a_generated_signal_has_the_features_of_librosa(sampling_rate, other):
    assert_equals_librosa(
        signal(sampling_rate), FeatureConfig(sampling_rate=sampling_rate, **other)
    )


@pytest.mark.parametrize(
    "corpus, sampling_rate", [("SpokenDigits", 8000), ("LJSpeech", 16000), ("SpokenDigits", 16000)]
)
def test_real_speech_has_the_features_of_librosa(corpora, corpus, sampling_rate):
    files = sorted((corpora / corpus / "dev").glob("*/*/*.flac"))[::10]
    assert files
    for path in files:
        assert_equals_librosa(
            load_audio(path, sampling_rate), FeatureConfig(sampling_rate=sampling_rate)
        )


@pytest.mark.parametrize(
    "sampling_rate, n_fft, n_mels", [(8000, 256, 40), (16000, 512, 40), (22050, 2048, 128)]
)
def test_mel_filters_are_those_of_librosa(sampling_rate, n_fft, n_mels):
    expected = librosa.filters.mel(sr=sampling_rate, n_fft=n_fft, n_mels=n_mels)
    np.testing.assert_allclose(
        spectral.mel_filters(sampling_rate, n_fft, n_mels).T, expected, rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize("sampling_rate, speech", [(8000, "SpokenDigits"), (16000, "LJSpeech")])
def test_a_file_is_read_as_librosa_reads_it(corpora, sampling_rate, speech):
    path = min((corpora / speech / "dev").glob("*/*/*.flac"))
    expected, rate = librosa.load(path, sr=None)
    assert rate == sampling_rate
    np.testing.assert_array_equal(load_audio(path, rate), expected)
    ours, theirs = load_audio(path, 11025), librosa.load(path, sr=11025)[0]
    assert 0 <= len(theirs) - len(ours) <= 1, "librosa rounds the length up"
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=1e-6)


# Normalisation and sizes


@pytest.mark.parametrize("kind, channels", [("raw", 1), ("power", 257), ("mfccs", 39)])
def test_each_channel_has_mean_0_and_variance_1(kind, channels):
    chosen = FeatureConfig(kind=kind)
    values = extract(signal(), chosen)
    assert values.dtype == np.float32 and values.shape[1] == channels == chosen.channels
    assert len(values) == (24000 if kind == "raw" else 1 + 24000 // 160)
    np.testing.assert_allclose(values.mean(axis=0, dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=0, dtype=float), 1, atol=1e-4)


def test_channels_follow_the_parameters():
    assert FeatureConfig(sampling_rate=8000, kind="power").channels == 129
    assert FeatureConfig(window_ms=20, kind="power").channels == 161
    assert FeatureConfig(n_mfcc=20).channels == 60


@pytest.mark.parametrize("kind", KINDS)
def test_loudness_of_the_recording_changes_nothing(kind):
    wave = signal()
    np.testing.assert_allclose(
        extract(0.25 * wave, FeatureConfig(kind=kind)),
        extract(wave, FeatureConfig(kind=kind)),
        atol=2e-4,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 2, 400, 3333, 160123])
@pytest.mark.filterwarnings("error")
def test_silence_gives_zeros_never_nan(kind, samples):
    np.testing.assert_array_equal(
        extract(np.zeros(samples, np.float32), FeatureConfig(kind=kind)), 0
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 2, 480])
@pytest.mark.filterwarnings("error")
def test_a_sound_shorter_than_the_derivatives_window_has_finite_features(tmp_path, kind, samples):
    chosen = FeatureConfig(kind=kind)
    values = extract(load_audio(file(tmp_path, signal()[:samples]), 16000), chosen)
    assert values.shape == (samples if kind == "raw" else 1 + samples // 160, chosen.channels)
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
    ],
    ids=str,
)
def test_impossible_features_are_refused_by_name(wrong):
    with pytest.raises(
        ValueError,
        match="|".join(map(str, wrong.values())) if "kind" in wrong else next(iter(wrong)),
    ):
        FeatureConfig(**wrong)


# Loading


def test_stereo_is_averaged(tmp_path):
    left, right = signal(seed=1), signal(seed=2)
    wave = load_audio(
        file(tmp_path, np.stack([left, right], axis=1), name="x.wav", subtype="FLOAT"), 16000
    )
    np.testing.assert_allclose(wave, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 44100, 48000])
def test_resampling_keeps_frequency_amplitude_and_duration(tmp_path, sampling_rate):
    wave = load_audio(file(tmp_path, sine(1000, sampling_rate), sampling_rate), 16000)
    assert wave.dtype == np.float32 and abs(len(wave) - 16000) <= 1
    middle = wave[2000:-2000]
    assert peak(middle, 16000) == pytest.approx(1000, abs=1)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, abs=1e-3)


def test_what_the_lower_rate_cannot_hold_is_filtered_not_folded(tmp_path):
    wave = load_audio(file(tmp_path, sine(13000, 48000), 48000), 16000)
    assert np.abs(wave[2000:-2000]).max() < 1e-3


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
@pytest.mark.parametrize("sampling_rate", [8000, 16000])
def test_speed_scales_duration_and_pitch(tmp_path, speed, sampling_rate):
    wave = load_audio(file(tmp_path, sine(1000, sampling_rate), sampling_rate), 16000, speed)
    assert len(wave) == pytest.approx(16000 / speed, abs=1)
    assert peak(wave[2000:-2000], 16000) == pytest.approx(1000 * speed, abs=2)
    assert np.sqrt(2 * np.mean(wave[2000:-2000] ** 2)) == pytest.approx(0.5, abs=1e-3)


def test_a_wav_of_unknown_length_as_a_pipe_writes_it_is_read(tmp_path):
    whole = file(tmp_path, signal(), name="x.wav").read_bytes()
    (tmp_path / "pipe.wav").write_bytes(
        whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:]
    )
    assert len(load_audio(tmp_path / "pipe.wav", 16000)) == len(signal())


def cut(folder, name, share):
    whole = file(folder, signal(), name=f"whole.{name}").read_bytes()
    (folder / f"cut.{name}").write_bytes(whole[: int(share * len(whole))])
    return folder / f"cut.{name}"


def content(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


BROKEN = {
    "missing": (lambda folder: folder / "missing.flac", "no such"),
    "a folder": (lambda folder: folder, "no such"),
    "text named .flac": (lambda folder: content(folder, "x.flac", b"7-1-0 HI"), "not readable"),
    "0 bytes": (lambda folder: content(folder, "x.wav", b""), "not readable"),
    "0 samples": (lambda folder: file(folder, np.zeros(0), name="x.wav"), "0 samples"),
    "too short for the rate": (lambda folder: file(folder, np.ones(1), 48000), "0 samples"),
    "FLAC, last byte missing": (lambda folder: cut(folder, "flac", 0.9999), "readable|ends"),
    "half a FLAC": (lambda folder: cut(folder, "flac", 0.5), "readable|ends"),
    "head of a FLAC": (lambda folder: cut(folder, "flac", 0.002), "readable|ends"),
    "WAV, last bytes missing": (lambda folder: cut(folder, "wav", 0.9999), "ends"),
    "half a WAV": (lambda folder: cut(folder, "wav", 0.5), "ends"),
    "half an AIFF": (lambda folder: cut(folder, "aiff", 0.5), "ends"),
    "NaN": (
        lambda folder: file(folder, np.array([0.1, np.nan]), name="x.wav", subtype="FLOAT"),
        "not finite",
    ),
    "infinite": (
        lambda folder: file(folder, np.array([0.1, -np.inf]), name="x.wav", subtype="FLOAT"),
        "not finite",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_whole_sound_is_an_error_that_names_the_file(tmp_path, kind):
    make, reason = BROKEN[kind]
    path = make(tmp_path)
    with pytest.raises(AudioError, match=reason) as error:
        load_audio(path, 16000)
    assert str(path) in str(error.value)
