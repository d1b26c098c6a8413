"""Logits of a stream: the same for any pieces, defined by the last seconds, in constant memory."""

from importlib import import_module

import numpy as np
import pytest
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib.features import extract
from lttlib.network import CONVS
from lttlib.recognition import LogitStream, greedy, timed_words

# Not the function of this name.
module = import_module("lttlib.recognition.transcribe")
RATE = NOISE_CONFIG.sampling_rate


def in_pieces(stream, wave, size):
    """All logits of a wave that comes in pieces of one size."""
    blocks = []
    for start in range(0, len(wave), size):
        blocks.append(stream.accept_waveform(wave[start : start + size]))
    blocks.append(stream.accept_waveform([], last=True))
    return np.concatenate(blocks)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("kind", ["mfccs", "power"])
def test_stream_does_not_depend_on_the_pieces(conv, kind):
    model = noise_model(conv=conv)
    wave = noise_wave(4.0)
    results = [in_pieces(LogitStream(model), wave, size) for size in (77, 3000, 10**6)]
    (expected,) = model.logits([extract(wave, NOISE_CONFIG)])
    for logits in results:
        np.testing.assert_array_equal(logits, results[0])
        assert logits.shape == expected.shape


def test_block_is_what_the_last_seconds_give(monkeypatch):
    """Blocks by their definition: features of a window that ends with what the block needs."""
    monkeypatch.setattr(module, "WINDOW_SECONDS", 2.0)
    model = noise_model()
    wave = noise_wave(6.0)
    stream = LogitStream(model, block_seconds=0.3)
    logits = in_pieces(stream, wave, 800)
    hop, stride = NOISE_CONFIG.hop_length, model.stride
    left, right = model.receptive_field
    block = stream.block
    for first in range(0, 15 * block, block):
        last = first + block - 1
        needed = (last * stride + right + 4) * hop + NOISE_CONFIG.n_fft // 2
        # The previous block decided where the window begins.
        previous = needed - block * stride * hop
        first_needed = (first * stride - left) * hop
        start = max(0, min(previous - 2 * RATE, first_needed)) // (hop * stride)
        features = extract(wave[start * hop * stride : needed], NOISE_CONFIG)
        (expected,) = model.logits([features])
        expected = expected[first - start : last + 1 - start]
        np.testing.assert_allclose(logits[first : last + 1], expected, atol=1e-4)


def test_stream_keeps_no_more_than_its_window(monkeypatch):
    monkeypatch.setattr(module, "WINDOW_SECONDS", 2.0)
    stream = LogitStream(noise_model())
    for number in range(20):
        stream.accept_waveform(noise_wave(1.0, number))
    assert len(stream.wave) < 3.5 * RATE


def test_stream_writes_nothing_where_nothing_is_heard():
    hiss = np.random.default_rng(0).normal(size=5 * RATE) * 0.01
    logits = in_pieces(LogitStream(noise_model()), hiss, 1000)
    assert len(logits) and greedy([logits], [len(logits)]) == [""]


def test_timed_words_have_the_times_of_their_letters():
    alphabet = " ABHI"
    classes = alphabet + "."  # the blank
    #                                                   0123456789
    labels = [classes.index(character) for character in "HH..I   A.B."]
    logits = np.eye(len(alphabet) + 1)[labels]
    words = timed_words(logits, alphabet, frame_seconds=0.04)
    assert words == [
        {"word": "HI", "start": 0.0, "end": 0.16},
        {"word": "AB", "start": 0.32, "end": 0.4},
    ]
    assert greedy([logits], [len(logits)], alphabet) == ["HI AB"]
