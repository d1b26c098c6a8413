"""Encodings of logits and hints: how exact and how small they are, and what they refuse."""

import numpy as np
import pytest

from lttlib.training import GuidanceError, soft_targets

# nats: between two 8-bit log-probabilities, and the least of them
STEP, FLOOR = 1 / 8, 255 / 8


def random_logits(channels=29, scale=4.0):
    random = np.random.default_rng(channels)
    return random.normal(scale=scale, size=(50, channels)).astype(np.float32)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def decoded(values, encoding):
    """The values, encoded and decoded."""
    encoded = soft_targets.encode(values, encoding)
    result = soft_targets.decode(encoded, values.shape[1], encoding)
    assert result.dtype == np.float32 and result.shape == values.shape
    return result


@pytest.mark.parametrize("channels", [1, 29, 300])
def test_float32_is_exact(channels):
    values = random_logits(channels, scale=1e4)
    np.testing.assert_array_equal(decoded(values, "float32"), values)
    reversed_values = values[::-1, ::-1]
    np.testing.assert_array_equal(decoded(reversed_values, "float32"), reversed_values)


def test_float16_keeps_eleven_bits():
    values = random_logits()
    np.testing.assert_allclose(decoded(values, "float16"), values, rtol=2**-11, atol=2**-25)


def test_log8_is_within_half_a_step_down_to_its_floor():
    values = random_logits(scale=12.0)
    exact = log_softmax(values)
    result = decoded(values, "log8")
    above = exact > -FLOOR
    assert 100 < above.sum() < above.size - 100
    np.testing.assert_allclose(result[above], exact[above], atol=STEP / 2 + 1e-5)
    np.testing.assert_allclose(result[~above], -FLOOR, atol=1e-5)


def test_top4_keeps_the_four_largest_and_shares_out_the_rest():
    values = random_logits(scale=2.0)
    closer_than_a_step = np.linspace(5, 5.02, 9, dtype=np.float32)
    values[:10, 20:] = values[:10, :1] + closer_than_a_step
    exact = log_softmax(values)
    result = decoded(values, "top4")

    best = np.argsort(-values, axis=1)[:, :4]
    mask = np.zeros(values.shape, bool)
    np.put_along_axis(mask, best, True, axis=1)
    np.testing.assert_allclose(result[mask], exact[mask], atol=STEP / 2 + 1e-5)

    others = result[~mask].reshape(50, -1)
    assert np.all(others == others[:, :1])
    rest = np.log(np.exp(exact).sum(axis=1, where=~mask))
    np.testing.assert_allclose(others[:, 0] + np.log(25), rest, atol=STEP / 2 + 1e-5)

    total = np.exp(result).sum(axis=1)
    assert np.exp(-STEP / 2) < total.min() and total.max() < np.exp(STEP / 2)


def test_top4_of_a_teacher_that_is_sure():
    values = np.zeros((3, 29), np.float32)
    values[:, 7] = 200
    result = decoded(values, "top4")
    assert np.all(result[:, 7] == 0) and np.isfinite(result).all()
    np.testing.assert_allclose(np.exp(result).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.filterwarnings("error")
def test_top4_keeps_all_of_a_small_alphabet(channels):
    values = random_logits(channels, scale=1.0)
    np.testing.assert_allclose(decoded(values, "top4"), log_softmax(values), atol=STEP / 2 + 1e-5)


def test_encodings_are_each_smaller_than_the_one_before():
    values = random_logits()
    sizes = [len(soft_targets.encode(values, encoding)) for encoding in soft_targets.ENCODINGS]
    assert sizes == sorted(sizes, reverse=True) and sizes[3] < 0.2 * sizes[0]


def test_encode_refuses_what_does_not_fit():
    values = random_logits()
    values[3, 5] = -70000
    with pytest.raises(GuidanceError, match="7e[+]04.*float16.*float32"):
        soft_targets.encode(values, "float16")
    np.testing.assert_array_equal(decoded(values, "float32"), values)
    for value in (np.nan, np.inf):
        values[3, 5] = value
        for encoding in soft_targets.ENCODINGS:
            with pytest.raises(GuidanceError, match="finite"):
                soft_targets.encode(values, encoding)
