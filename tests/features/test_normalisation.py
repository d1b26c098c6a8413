"""Features of speech stay what they are, whatever lies around it; plain loops are the oracle."""

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from lttlib import Error
from lttlib.features import FeatureConfig, extract, normalisation, spectral
from lttlib.features.spectral import FEATURE_KINDS

RATE = 8000
CONFIG = FeatureConfig(sampling_rate=RATE)
WINDOW = 50


def syllables(seconds=2.0, seed=0):
    """Coloured noise that comes and goes, loud and soft, as speech does; its pauses are silent."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(time))
    coloured = np.convolve(noise, [1, 0.9, 0.5], mode="same")
    loudness = np.maximum(np.sin(7 * np.pi * time), 0) * (0.6 + 0.4 * np.sin(11 * time))
    return (0.05 * coloured * loudness).astype(np.float32)


def hiss(seconds, decibels, seed=9):
    """White noise so many decibels (of its root mean square) under full scale."""
    noise = np.random.default_rng(seed).normal(size=int(seconds * RATE))
    return (10 ** (decibels / 20) * noise).astype(np.float32)


# The definition, in plain loops


def mean_weighted_by_amplitude(levels, threshold):
    total = weight = 0.0
    for level in levels:
        if level > threshold:
            weight += 10 ** (level / 20)
            total += 10 ** (level / 20) * level
    return total / weight if weight else None


def window_of(number, count, window):
    """The numbers of the window around one."""
    start = min(max(number - window // 2, 0), max(count - window, 0))
    return range(start, min(start + window, count))


def looped_levels(levels, window):
    overall = -np.inf
    for _ in range(3):
        overall = mean_weighted_by_amplitude(levels, overall - 30)
    if len(levels) <= window:
        return [overall] * len(levels)
    around = [overall] * len(levels)
    for _ in range(3):
        thresholds = [level - 30 for level in around]
        for number in range(len(levels)):
            chosen = window_of(number, len(levels), window)
            inside = [levels[i] for i in chosen if levels[i] > thresholds[i]]
            mean = mean_weighted_by_amplitude(inside, -np.inf)
            around[number] = overall - 20 if mean is None else max(mean, overall - 20)
    return around


def looped_cmvn(values, is_speech, window):
    mean = values[is_speech].mean(axis=0)
    variance = values[is_speech].var(axis=0)
    result = np.zeros(values.shape)
    for number in range(len(values)):
        if len(values) > window:
            chosen = [i for i in window_of(number, len(values), window) if is_speech[i]]
            weight = window / 20
            inside = values[chosen]
            count = len(chosen) + weight
            centre = (inside.sum(axis=0) + weight * mean) / count
            squares = ((inside - mean) ** 2).sum(axis=0) + weight * variance
            spread = np.sqrt(squares / count - (centre - mean) ** 2)
        else:
            centre, spread = mean, np.sqrt(variance)
        result[number] = (values[number] - centre) / spread
    return result


@pytest.mark.parametrize("frames", [20, WINDOW, 3 * WINDOW])
def test_find_speech_and_sliding_cmvn_are_their_definitions(frames):
    random = np.random.default_rng(frames)
    levels = random.uniform(-70, 0, frames)
    levels[: frames // 3] -= 25  # another voice
    power = 10 ** (levels[:, None] / 10) * np.ones((1, 4))
    around, is_speech = normalisation.find_speech(power, WINDOW)
    expected = looped_levels(levels, WINDOW)
    np.testing.assert_allclose(np.broadcast_to(around, frames), expected, rtol=1e-9)
    noise = np.percentile(levels, 5)
    for number, level in enumerate(levels):
        assert is_speech[number] == (level > expected[number] - 30 and level > noise + 6)

    values = random.normal(size=(frames, 3)) * [1, 5, 0.1] + [0, -300, 2]
    normalised = normalisation.sliding_cmvn(values, is_speech, WINDOW)
    expected = looped_cmvn(values, is_speech, WINDOW)
    np.testing.assert_allclose(normalised, expected, rtol=1e-4, atol=1e-5)


def test_sliding_cmvn_divides_what_hardly_varies_by_the_minimum_deviation():
    values = np.array([[0.0, 7.0, 10.0], [1e-3, 7.0, -10.0], [30.0, 7.0, 0.0], [0.0, 7.0, 0.0]])
    is_speech = np.array([True, True, False, True])
    normalised = normalisation.sliding_cmvn(values, is_speech, WINDOW, min_deviation=3.0)
    assert normalised[2, 0] == pytest.approx(10, rel=1e-3)
    assert not normalised[:, 1].any()
    assert normalised[0, 2] == pytest.approx(10 / np.sqrt(200 / 3))


def test_power_features_of_a_slower_copy_have_no_click_of_many_deviations():
    """Slower, it has nothing in the upper bands; a faint click before it has."""
    random, rate = np.random.default_rng(0), 16_000
    spectrum = np.fft.rfft(random.normal(size=rate))
    spectrum[6_000:] = 0  # Hz: it lasts for a second
    loudness = np.interp(np.arange(rate), np.arange(21) * rate / 20, random.uniform(0.3, 1, 21))
    speech = 0.1 * np.fft.irfft(spectrum) * loudness * np.hanning(rate) ** 0.2
    wave = np.r_[np.zeros(rate), speech, np.zeros(rate)].astype(np.float32)
    wave[rate - 1000] = 0.02  # unlimited, 121 deviations
    assert np.abs(extract(wave, FeatureConfig(kind="power"))).max() < 20


def test_power_features_of_before_are_refused():
    fields = FeatureConfig(kind="power").to_json()
    assert FeatureConfig.from_json(fields) == FeatureConfig(kind="power")
    del fields["least_deviation_db"]
    with pytest.raises(Error, match="power features of a former version.* again"):
        FeatureConfig.from_json(fields)


@pytest.mark.parametrize("shape", [(7,), (7, 2)])
def test_window_sums_are_sums(shape):
    values = np.random.default_rng(0).normal(size=shape)
    expected = [values[window_of(number, 7, 3)].sum(axis=0) for number in range(7)]
    np.testing.assert_allclose(normalisation.window_sums(values, 3), expected)


# What lies around speech


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_extract_gives_speech_mean_0_and_variance_1(kind):
    config = FeatureConfig(kind=kind, sampling_rate=RATE)
    wave = syllables()
    power = spectral.band_power(wave - wave.mean(), config)
    values = extract(wave, config)
    if kind == "raw":
        power = np.square(wave - wave.mean())[: len(wave) // 80 * 80].reshape(-1, 80)
        values = values[: len(wave) // 80 * 80].reshape(-1, 80)
    _, is_speech = normalisation.find_speech(power, config.normalised_frames)
    speech = values[is_speech].reshape(-1, config.channels)
    np.testing.assert_allclose(speech.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(speech.std(axis=0), 1, atol=1e-3)


def extract_in_float64(wave, config):
    """The features of `mfccs` for a recording that is normalised as a whole, with scipy.signal."""
    wave = wave.astype(np.float64) - wave.astype(np.float64).mean()
    padded = np.pad(wave, config.n_fft // 2)
    starts = range(0, len(wave) + 1, config.hop_length)
    window = scipy.signal.get_window("hann", config.n_fft)
    frames = [padded[start : start + config.n_fft] * window for start in starts]
    filters = spectral.mel_filters(config.sampling_rate, config.n_fft, config.n_mels)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ filters.astype(np.float64)

    # Speech, and what is near it, in decibels of its level; in float64 without rounding between.
    levels = 10 * np.log10(np.maximum(power.mean(axis=1), 1e-13))
    level = looped_levels(levels, len(levels))[0]
    is_speech = levels > max(level - 30, np.percentile(levels, 5) + 6)
    reach = round(250 / config.frame_shift_ms)
    near_mask = [is_speech[max(t - reach, 0) : t + reach + 1].any() for t in range(len(levels))]
    relative = np.array(near_mask)[:, None] * power / 10 ** (level / 10)
    decibels = 10 * np.log10(relative + 10**-4.5)

    # Cepstra and their derivatives.
    cepstra = scipy.fft.dct(decibels, norm="ortho")[:, : config.n_mfcc]
    savgol = {"window_length": 9, "polyorder": 2, "axis": 0, "mode": "nearest"}
    derivatives = [scipy.signal.savgol_filter(cepstra, deriv=order, **savgol) for order in (1, 2)]
    return looped_cmvn(np.hstack([cepstra, *derivatives]), is_speech, len(levels))


@pytest.mark.parametrize("decibels", [0, -40, -80])
def test_extract_is_its_definition_in_float64_also_where_a_quiet_band_lies_beside_a_loud_one(
    decibels,
):
    wave = syllables()
    tone = np.sin(2 * np.pi * 3000 * np.arange(len(wave)) / RATE)
    low = scipy.signal.sosfilt(scipy.signal.butter(6, 1500, fs=RATE, output="sos"), wave)
    wave = (low + 10 ** (decibels / 20) * 0.05 * tone).astype(np.float32)
    np.testing.assert_allclose(extract(wave, CONFIG), extract_in_float64(wave, CONFIG), atol=2e-4)


def spoken_frames(wave, before=0.0, config=CONFIG):
    """Features of what is said two seconds long after so many seconds of something else."""
    start = round(before * 1000 / config.frame_shift_ms)
    # Without the edges, which hear what is beside them.
    return extract(wave, config)[start + 8 : start + 190]


AROUND = {
    "silence": lambda wave: np.concatenate([np.zeros(10 * RATE, np.float32), wave]),
    "hiss": lambda wave: np.concatenate([hiss(10, -75), wave]) + hiss(12, -90),
}


@pytest.mark.parametrize("what", AROUND)
def test_extract_of_speech_does_not_depend_on_what_came_before(what):
    clean = spoken_frames(syllables())
    changed = spoken_frames(AROUND[what](syllables()), before=10)
    assert np.abs(changed - clean).mean() < 0.1, what
    # Normalised by all that was recorded, it would.
    former = FeatureConfig(sampling_rate=RATE, normalisation="utterance")
    clean = spoken_frames(syllables(), config=former)
    changed = spoken_frames(AROUND[what](syllables()), before=10, config=former)
    assert np.abs(changed - clean).mean() > 0.3


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_extract_depends_neither_on_the_level_nor_on_an_offset(kind):
    config = FeatureConfig(kind=kind, sampling_rate=RATE)
    expected = extract(syllables(), config)
    quiet = extract(syllables() * np.float32(0.01), config)
    np.testing.assert_allclose(quiet, expected, atol=0.02)
    shifted = extract(syllables() + np.float32(0.3), config)
    np.testing.assert_allclose(shifted, expected, atol=0.02)


def test_extract_of_a_soft_voice_after_a_loud_one_is_nearly_that_of_the_voice_alone():
    soft = syllables(30, seed=2) * np.float32(0.15)
    both = np.concatenate([syllables(30, seed=1), soft])
    alone = extract(soft, CONFIG)
    # The windows of the last frames hold the second voice alone.
    difference = extract(both, CONFIG)[-1000:-20] - alone[-1000:-20]
    assert np.abs(difference).mean() < 0.2


@pytest.mark.parametrize("decibels", [-66, -40, -10])
def test_extract_of_noise_alone_is_0(decibels):
    assert not extract(hiss(5, decibels), CONFIG).any()


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_extract_hears_nothing_far_from_speech_and_all_near_it(kind):
    config = FeatureConfig(kind=kind, sampling_rate=RATE)
    wave = hiss(7, -50) + np.pad(syllables(), (4 * RATE, RATE))
    values = extract(wave, config)
    second = len(values) // 7
    # The hiss is heard within a quarter of a second of the first syllable, and not before.
    far = values[second : int(3.5 * second)]
    assert np.ptp(far, axis=0).max() == 0
    near = values[int(3.85 * second) : int(3.98 * second)]
    assert np.ptp(near, axis=0).min() > 0
