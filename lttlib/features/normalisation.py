"""Speech at its own level and spread, whatever lies around it.

The mean and variance of a whole recording depend on how long its pauses are, and on what is heard
in them. So those of speech alone are taken: of the frames that are not far below its level. What
is far below is masked, so that silence is always the same. Level, mean and variance follow a window
of some seconds, since another voice may come.
"""

import numpy as np

# Length of the normalisation window. Shorter recordings have one level, mean and variance.
WINDOW_SECONDS = 20.0
# Maximum dB of a speech frame below the level of speech.
ACTIVE_DB = 30.0
# Minimum dB of a speech frame above the noise level, the `NOISE_PERCENT` percentile of all frames.
NOISE_DB = 6.0
NOISE_PERCENT = 5
# Distance from speech beyond which frames are masked.
NEAR_SECONDS = 0.25
# Floor of a band, in dB below the level of speech.
FLOOR_DB = 45.0
# Maximum dB of the level of speech in a window below that of the recording.
MAX_SPEECH_DROP_DB = 20.0
# Lower bound of a band's standard deviation in dB, for power spectrograms: near-constant bands,
# which slower copies of recordings have, would be scaled up hugely.
MIN_DEVIATION_DB = 3.0
# Power of digital silence.
MIN_POWER = 1e-13
# Seconds of speech as which the recording's mean and variance count in each window.
WHOLE_SECONDS = 1.0


def find_speech(power, window: int):
    """Level of the speech around each frame in decibels, and which frames are speech.

    Parameters
    ----------
    power : float array [frames, bands]
    window : int
        Frames that have a level in common.

    Returns
    -------
    float array [frames], or [1] if the window holds them all; bool array [frames]
    """
    mean_power = power.mean(axis=1, dtype=np.float64)
    levels = 10 * np.log10(np.maximum(mean_power, MIN_POWER))
    around = speech_levels(levels, window)
    noise = np.percentile(levels, NOISE_PERCENT)
    return around, levels > np.maximum(around - ACTIVE_DB, noise + NOISE_DB)


def near_speech(is_speech, frames: int):
    """Whether each frame is speech, or within so many frames of it: bool array [frames]."""
    counts = np.concatenate([[0], np.cumsum(is_speech)])
    numbers = np.arange(len(is_speech))
    first = np.maximum(numbers - frames, 0)
    end = np.minimum(numbers + frames + 1, len(is_speech))
    return counts[end] > counts[first]


def speech_levels(levels, window: int):
    """Level of the speech around each frame, in decibels.

    It is the mean of the frames that are speech, weighted by their amplitudes: pauses do not lower
    it, however long, and a click hardly raises it.

    Parameters
    ----------
    levels : float array [frames]
        Of the mean of the bands of each, in decibels.
    window : int
        Frames that have a level in common.

    Returns
    -------
    float array [frames]; [1] if the window holds them all.
    """
    # Which frames are speech depends on the level, and the level on them.
    amplitudes = 10 ** (levels / 20)
    overall = -np.inf
    for _ in range(3):
        weights = amplitudes * (levels > overall - ACTIVE_DB)
        overall = (weights @ levels) / weights.sum()
    if len(levels) <= window:
        return np.array([overall])

    # In a window without speech, the minimum level.
    minimum = overall - MAX_SPEECH_DROP_DB
    around = np.full(len(levels), overall)
    for _ in range(3):
        weights = amplitudes * (levels > around - ACTIVE_DB)
        total = window_sums(weights, window)
        mean = window_sums(weights * levels, window) / np.maximum(total, 1e-30)
        around = np.where(total > 0, np.maximum(mean, minimum), minimum)
    return around


def sliding_cmvn(values, is_speech, window: int, min_deviation: float = 0.0):
    """Mean 0 and variance 1 of the speech around each frame; a constant channel becomes 0.

    Where nothing is speech, all is 0.

    Parameters
    ----------
    values : float array [frames, channels]
    is_speech : bool array [frames]
    window : int
        Frames that have a mean and a variance in common.
    min_deviation : float
        Lower bound of the standard deviation that a channel is divided by.

    Returns
    -------
    float32 array [frames, channels]
    """
    if not is_speech.any():
        return np.zeros(values.shape, np.float32)

    # Summed in float64: a constant channel then has a deviation of rounding size, far under 1e-6.
    centred = values - values[is_speech].mean(axis=0, dtype=np.float64)
    variance = np.mean(np.square(centred[is_speech]), axis=0)

    # Around each frame, where the recording, of mean 0 now, counts as more speech.
    if len(values) > window:
        weight = window * WHOLE_SECONDS / WINDOW_SECONDS
        speech = centred * is_speech[:, None]
        count = (window_sums(is_speech, window) + weight)[:, None]
        shift = window_sums(speech, window) / count
        squares = window_sums(np.square(speech), window) + weight * variance
        variance = squares / count - np.square(shift)
        centred -= shift
    deviation = np.sqrt(variance)
    divisor = np.where(deviation > 1e-6, np.maximum(deviation, min_deviation), np.inf)
    return (centred / divisor).astype(np.float32)


def window_sums(values, window: int):
    """Sums over the window around each frame; at both ends it is the first, or the last, whole one.

    Parameters
    ----------
    values : array [frames, ...]
    window : int
        Frames, fewer than there are.
    """
    zero = np.zeros_like(values[:1], np.float64)
    sums = np.cumsum(np.concatenate([zero, values]), axis=0)
    middle = np.arange(len(values)) - window // 2
    starts = np.clip(middle, 0, len(values) - window)
    return sums[starts + window] - sums[starts]
