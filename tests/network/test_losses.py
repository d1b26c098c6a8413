"""Distillation and hints against formulas worked by hand and finite differences."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from lttlib.network import FRAME_SELECTIONS, distillation_loss, frame_mask, hint_loss


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def divergence(student, teacher, temperature=1.0):
    """T^2 KL(teacher || student) of each frame, from its definition, in float64."""
    p, q = (softmax(np.asarray(logits, np.float64) / temperature) for logits in (teacher, student))
    return temperature**2 * (p * np.log(p / q)).sum(axis=-1)


def pair(seed=0, lengths=(12, 7), channels=6, scale=2.0):
    """Two float32 arrays [batch, frames, channels], and the lengths."""
    random = np.random.default_rng(seed)
    ours, theirs = random.normal(
        scale=scale, size=(2, len(lengths), max(lengths), channels)
    ).astype(np.float32)
    return ours, theirs, np.array(lengths, np.int32)


def gradients(loss, *inputs):
    """The loss of each utterance, and the gradients of their sum."""
    inputs = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(*inputs)
    assert value.dtype == tf.float32 and value.shape == (len(inputs[0]),)
    return value.numpy(), *tape.gradient(value, inputs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_divergence_of_the_softened_distributions_over_the_valid_frames(
    temperature,
):
    student, teacher, lengths = pair()
    loss = distillation_loss(tf.constant(student), tf.constant(teacher), lengths, temperature)
    by_frame = divergence(student, teacher, temperature)
    np.testing.assert_allclose(loss, [by_frame[0].sum(), by_frame[1, :7].sum()], rtol=1e-5)
    swapped = divergence(teacher, student, temperature)
    assert np.all(np.abs(loss - [swapped[0].sum(), swapped[1, :7].sum()]) > 0.01 * loss), (
        "the test sees no direction"
    )


def test_distillation_equals_a_hand_worked_divergence():
    """The teacher is sure of 3:1, the student undecided: 3/4 ln(3/2) + 1/4 ln(1/2)."""
    loss = distillation_loss(tf.zeros([1, 1, 2]), tf.math.log([[[3.0, 1.0]]]), [1])
    np.testing.assert_allclose(loss, [0.75 * np.log(1.5) - 0.25 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_gradient_equals_finite_differences_and_none_goes_to_the_teacher(
    temperature,
):
    student, teacher, lengths = pair()
    _, ours, theirs = gradients(
        lambda s, t: distillation_loss(s, t, lengths, temperature), student, teacher
    )
    assert theirs is None
    for place in [(0, 0, 1), (0, 5, 5), (0, 11, 2), (1, 3, 0), (1, 6, 5)]:
        step = np.zeros(student.shape)
        step[place] = 1e-5
        up, down = (divergence(student + s, teacher, temperature)[place[:2]] for s in (step, -step))
        np.testing.assert_allclose(ours[place], (up - down) / 2e-5, atol=1e-5)


def test_distillation_of_a_student_that_agrees_with_its_teacher_is_zero():
    student, _, lengths = pair()
    for teacher in (student, student + 3.0):  # a shift of all logits changes no distribution
        loss, gradient, _ = gradients(
            lambda s, t: distillation_loss(s, t, lengths, 2.0), student, teacher
        )
        np.testing.assert_allclose(loss, 0, atol=1e-5)
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_distillation_gradient_has_the_same_size_at_any_temperature():
    """For small logits the divergence is their squared distance / (2 T^2): T^2 cancels it."""
    student, teacher, lengths = pair(scale=0.05)
    sizes = []
    for temperature in (1.0, 2.0, 8.0):
        loss = functools.partial(distillation_loss, logit_lengths=lengths, temperature=temperature)
        _, gradient, _ = gradients(loss, student, teacher)
        sizes.append(np.linalg.norm(gradient))
    np.testing.assert_allclose(sizes, sizes[0], rtol=0.03)


JUNK = [7.0, np.inf, np.nan]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("frames", FRAME_SELECTIONS)
def test_distillation_and_its_gradient_ignore_what_stands_in_the_padding(frames, junk):
    student, teacher, lengths = pair()
    expected, gradient, _ = gradients(
        lambda s, t: distillation_loss(s, t, lengths, 2.0, frames), student, teacher
    )
    assert np.all(expected > 0)
    more = [np.pad(value, [(0, 0), (0, 3), (0, 0)]) for value in (student, teacher)]
    for value, sign in zip(more, (1, -1), strict=True):
        value[0, 12:, ::2] = value[1, 7:, ::2] = sign * junk
    loss, padded, _ = gradients(lambda s, t: distillation_loss(s, t, lengths, 2.0, frames), *more)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(padded[0, :12], gradient[0], rtol=1e-6)
    assert not np.any(padded[0, 12:]) and not np.any(padded[1, 7:])


# The teacher's best class of each frame: "_" is the blank, what stands behind "|" is padding.
SELECTIONS = [
    ("a___b_c___", {"non_blank": "x...x.x...", "symmetric": "xx.xxxxx.."}),
    ("____a|aaaaa", {"non_blank": "....x|.....", "symmetric": "...xx|....."}),
    ("_____|a____", {"non_blank": ".....|.....", "symmetric": ".....|....."}),
    ("a_____|___b", {"non_blank": "x.....|....", "symmetric": "xx....|...."}),
]


@pytest.mark.parametrize("frames", FRAME_SELECTIONS)
def test_frame_mask_marks_the_frames_that_a_hand_would_mark(frames):
    """In one batch, where neither a neighbour in the batch nor padding may lend its letter."""
    best = np.array(
        [["abc_".index(letter) for letter in path.replace("|", "")] for path, _ in SELECTIONS]
    )
    lengths = np.array([path.find("|") if "|" in path else len(path) for path, _ in SELECTIONS])
    if frames == "all":
        expected = np.arange(10) < lengths[:, None]
    else:
        expected = np.array(
            [[mark == "x" for mark in marks[frames].replace("|", "")] for _, marks in SELECTIONS]
        )
    teacher = np.eye(4)[best].astype(np.float32)
    np.testing.assert_array_equal(frame_mask(tf.constant(teacher), lengths, frames), expected)
    student = np.random.default_rng(0).normal(size=teacher.shape).astype(np.float32)
    loss = distillation_loss(tf.constant(student), tf.constant(teacher), lengths, 2.0, frames)
    np.testing.assert_allclose(
        loss, (divergence(student, teacher, 2.0) * expected).sum(axis=1), rtol=1e-5
    )


@pytest.mark.parametrize("frames", FRAME_SELECTIONS)
def test_frame_mask_of_an_utterance_alone_is_that_in_a_batch(frames):
    _, teacher, lengths = pair(seed=4, channels=3)
    together = frame_mask(tf.constant(teacher), lengths, frames)[1, :7]
    np.testing.assert_array_equal(
        frame_mask(tf.constant(teacher[1:, :7]), lengths[1:], frames)[0], together
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frame_selection": "blank"}, "unknown frame_selection 'blank'.*non_blank"),
        ({"temperature": 0}, "temperature.*0"),
        ({"temperature": -1.0}, "temperature.*-1"),
        ({"teacher": (2, 5, 4)}, r"5, 3\).*5, 4\)"),
        ({"teacher": (2, 4, 3)}, r"5, 3\).*4, 3\)"),
    ],
)
def test_distillation_refuses_what_it_cannot_compare(options, message):
    teacher = tf.zeros(options.pop("teacher", (2, 5, 3)))
    with pytest.raises(ValueError, match=message):
        distillation_loss(tf.zeros([2, 5, 3]), teacher, [5, 3], **options)


def hint_by_hand(ours, theirs, lengths):
    squares = (np.asarray(ours, np.float64) - theirs) ** 2
    return [squares[row, :length].mean() for row, length in enumerate(lengths)]


def test_hint_is_the_mean_squared_difference_over_the_valid_frames():
    ours, theirs, lengths = pair()
    loss, gradient, to_the_hints = gradients(lambda a, h: hint_loss(a, h, lengths), ours, theirs)
    np.testing.assert_allclose(loss, hint_by_hand(ours, theirs, lengths), rtol=1e-5)
    assert to_the_hints is None
    for place in [(0, 0, 1), (0, 11, 2), (1, 3, 0), (1, 6, 5)]:
        step = np.zeros(ours.shape)
        step[place] = 1e-4
        up, down = (hint_by_hand(ours + s, theirs, lengths)[place[0]] for s in (step, -step))
        np.testing.assert_allclose(gradient[place], (up - down) / 2e-4, atol=1e-6)
    np.testing.assert_array_equal(hint_loss(tf.constant(ours), tf.constant(ours), lengths), [0, 0])


@pytest.mark.parametrize("junk", JUNK)
def test_hint_and_its_gradient_ignore_what_stands_in_the_padding(junk):
    ours, theirs, lengths = pair()
    ours[1, 7:, ::2], theirs[1, 7:, 1:] = junk, -junk
    loss, gradient, _ = gradients(lambda a, h: hint_loss(a, h, lengths), ours, theirs)
    np.testing.assert_allclose(loss, hint_by_hand(ours, theirs, lengths), rtol=1e-5)
    assert np.all(np.isfinite(gradient)) and not np.any(gradient[1, 7:])


def test_hint_refuses_another_width():
    with pytest.raises(ValueError, match=r"5, 3\).*5, 4\)"):
        hint_loss(tf.zeros([2, 5, 3]), tf.zeros([2, 5, 4]), [5, 5])
