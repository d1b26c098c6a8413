"""Long files: cut in pauses, each part recognised by itself, joined again in time."""

from importlib import import_module

import numpy as np
import pytest
import soundfile
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib.features import FeatureConfig, extract
from lttlib.recognition import file_logits, greedy

# Not the function of this name.
module = import_module("lttlib.recognition.transcribe")
RATE = NOISE_CONFIG.sampling_rate


def sentences(*seconds, pause=0.4):
    """A wave of bursts of these lengths with pauses between, and the middles of the pauses."""
    pieces = []
    middles = []
    for number, length in enumerate(seconds):
        pieces += [noise_wave(length, number), np.zeros(round(pause * RATE), np.float32)]
        middles.append(sum(map(len, pieces)) / RATE - pause / 2)
    return np.concatenate(pieces[:-1]), middles[:-1]


def parts_of(wave, size=10**9, unit=160):
    pieces = [wave[start : start + size] for start in range(0, len(wave), size)]
    return list(module.split_at_pauses(pieces, RATE, unit))


def test_parts_end_in_the_middle_of_pauses_and_are_the_whole():
    wave, middles = sentences(3.0, 4.0, 2.0, 6.0, 7.0, 5.0, 3.0, 8.0)
    parts = parts_of(wave)
    np.testing.assert_array_equal(np.concatenate(parts), wave)
    ends = np.cumsum([len(part) for part in parts])[:-1] / RATE
    np.testing.assert_allclose(ends, middles, atol=0.03)
    assert all(len(part) % 160 == 0 for part in parts[:-1])


def test_parts_do_not_depend_on_the_pieces_that_are_read():
    wave, _ = sentences(3.0, 4.0, 12.0, 6.0, 9.0)
    lengths = [len(part) for part in parts_of(wave)]
    for size in (999, 5 * RATE):
        assert [len(part) for part in parts_of(wave, size)] == lengths


def test_level_and_offset_move_no_cut():
    wave, _ = sentences(3.0, 4.0, 12.0, 6.0, 9.0)
    lengths = [len(part) for part in parts_of(wave)]
    for other in (0.01 * wave, wave + 0.3):
        assert [len(part) for part in parts_of(other)] == lengths


def test_short_words_are_not_parted():
    wave, _ = sentences(*[0.5] * 40, pause=0.3)
    assert min(len(part) for part in parts_of(wave)[:-1]) >= 1.5 * RATE


@pytest.mark.parametrize(
    "wave", [noise_wave(50.0), np.zeros(50 * RATE, np.float32)], ids=["noise", "silence"]
)
def test_sound_without_a_pause_is_cut_into_parts_of_at_most_the_window(wave):
    parts = parts_of(wave)
    assert sum(map(len, parts)) == len(wave)
    assert max(map(len, parts)) <= module.WINDOW_SECONDS * RATE


def test_sound_without_a_pause_is_cut_where_it_is_softest():
    wave = noise_wave(30.0)
    wave[15 * RATE : round(15.1 * RATE)] *= 0.1  # too short for a pause
    assert 15.0 <= len(parts_of(wave)[0]) / RATE <= 15.1


def test_logits_of_a_long_file_are_those_of_its_parts_in_time(tmp_path):
    wave, middles = sentences(7.0, 8.0, 9.0)
    path = tmp_path / "long.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    model = noise_model()
    logits = file_logits(model, path)
    unit = NOISE_CONFIG.hop_length * model.stride
    assert len(logits) == -(-(1 + len(wave) // NOISE_CONFIG.hop_length) // model.stride)

    start = 0
    for part in parts_of(wave, unit=unit):
        (alone,) = model.logits([extract(part, NOISE_CONFIG)])
        rows = logits[start : start + len(part) // unit]
        np.testing.assert_allclose(rows[1:-1], alone[1 : len(rows) - 1], atol=1e-4)
        start += len(rows)


class OneLetter:
    """A model that writes an A at one place of any sound: in the middle, or at an end."""

    alphabet = "AB "
    feature_config = NOISE_CONFIG
    stride = 2

    def __init__(self, place):
        self.place = place

    def logits(self, utterances):
        rows = np.zeros((-(-len(utterances[0]) // self.stride), 4), np.float32)
        rows[:, 3] = 1
        rows[self.place(len(rows)), 0] = 2
        return [rows]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (lambda rows: rows // 2, "A A A"),
        (lambda rows: rows - 1, "A A A"),  # in the frame that a part has too many
        (lambda rows: rows - 2, "A A A"),
        (lambda rows: 0, "AAA"),  # no space where a letter is
    ],
    ids=["middle", "end", "before the end", "start"],
)
def test_file_logits_keep_all_letters_where_parts_meet(tmp_path, place, text):
    wave, _ = sentences(7.0, 8.0, 9.0)
    path = tmp_path / "long.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    model = OneLetter(place)
    logits = file_logits(model, path)
    assert greedy([logits], [len(logits)], model.alphabet) == [text]


def test_parts_of_a_raw_wave_have_no_frame_too_many(tmp_path):
    wave, _ = sentences(7.0, 8.0, 9.0)
    path = tmp_path / "long.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    model = OneLetter(lambda rows: rows - 1)
    model.feature_config = FeatureConfig(kind="raw", sampling_rate=RATE)
    model.stride = 160
    logits = file_logits(model, path)
    assert len(logits) == -(-len(wave) // 160)
    assert greedy([logits], [len(logits)], model.alphabet) == ["A A A"]


def test_file_within_the_window_is_not_cut(tmp_path):
    wave, _ = sentences(4.0, 5.0)
    path = tmp_path / "short.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    model = noise_model()
    (expected,) = model.logits([extract(wave, NOISE_CONFIG)])
    np.testing.assert_allclose(file_logits(model, path), expected, atol=1e-4)
