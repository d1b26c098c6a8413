"""CTC against a sum over every alignment and torch; what a teacher teaches against numpy; gradients; padding."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lttlib.network import FRAME_SELECTIONS, ctc_loss, distillation_loss, frame_mask, hint_loss


def brute_force(logits, labels):
    """-log of the probability of all paths that collapse to the labels; logits [frames, classes], blank last."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frames, classes = logits.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=frames):
        collapsed = [c for c, _ in itertools.groupby(path) if c != classes - 1]
        if collapsed == list(labels):
            total += np.prod(probabilities[np.arange(frames), path])
    return -np.log(total)


CASES = [(4, [0, 1]), (5, [0, 0]), (4, [1]), (5, [2, 0, 2]), (3, [0, 1, 2])]


@pytest.mark.parametrize("frames, labels", CASES)
def test_equals_the_sum_over_all_alignments(frames, labels):
    logits = np.random.default_rng(frames).normal(size=(frames, 4))
    padded = np.array([labels + [0] * (4 - len(labels))], np.int32)
    loss = ctc_loss(
        tf.constant(logits[None]),
        tf.constant([frames]),
        tf.constant(padded),
        tf.constant([len(labels)]),
    )
    assert loss.shape == (1,) and loss.dtype == tf.float32
    np.testing.assert_allclose(loss[0], brute_force(logits, labels), rtol=1e-5)


def batch(seed=0, frames=(12, 7), characters=(4, 2), classes=6):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(frames), max(frames), classes)).astype(np.float32)
    labels = random.integers(classes - 1, size=(len(frames), max(characters))).astype(np.int32)
    return tf.constant(logits), tf.constant(frames), tf.constant(labels), tf.constant(characters)


def test_gradient_equals_finite_differences():
    logits, lengths, labels, label_lengths = batch()
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(ctc_loss(logits, lengths, labels, label_lengths))
    gradient = tape.gradient(loss, logits).numpy()
    for place in [(0, 0, 1), (0, 5, 5), (0, 11, 2), (1, 3, 0), (1, 6, 5)]:
        step = np.zeros(logits.shape, np.float32)
        step[place] = 1e-2
        up, down = (
            tf.reduce_sum(ctc_loss(logits + s, lengths, labels, label_lengths))
            for s in (step, -step)
        )
        np.testing.assert_allclose(gradient[place], (up - down) / 2e-2, atol=2e-3)


def test_padding_of_frames_and_labels_changes_nothing():
    logits, lengths, labels, label_lengths = batch()
    padded = tf.pad(logits, [[0, 0], [0, 5], [0, 0]], constant_values=9.0)
    with tf.GradientTape() as tape:
        tape.watch(padded)
        loss = ctc_loss(
            padded, lengths, tf.pad(labels, [[0, 0], [0, 3]], constant_values=1), label_lengths
        )
    np.testing.assert_allclose(loss, ctc_loss(logits, lengths, labels, label_lengths), rtol=1e-6)
    gradient = tape.gradient(loss, padded)
    assert np.any(gradient[0, 11]) and not np.any(gradient[0, 12:]) and not np.any(gradient[1, 7:])


def test_an_utterance_alone_has_the_loss_that_it_has_in_a_batch():
    logits, lengths, labels, label_lengths = batch()
    together = ctc_loss(logits, lengths, labels, label_lengths)
    alone = ctc_loss(logits[1:, :7], lengths[1:], labels[1:, :2], label_lengths[1:])
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-6)


def test_a_label_that_does_not_fit_is_never_a_finite_loss():
    logits, frames = tf.zeros([1, 3, 4]), tf.constant([3])
    with pytest.raises(tf.errors.InvalidArgumentError):
        ctc_loss(logits, frames, tf.constant([[0, 1, 2, 1]]), tf.constant([4]))
    assert ctc_loss(logits, frames, tf.constant([[0, 0, 1]]), tf.constant([3])) == np.inf


def logarithmic(logits, labels):
    """-log of the probability of the labels by the forward recursion of Graves et al., in float64 logarithms."""
    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    states = np.full(2 * len(labels) + 1, logits.shape[1] - 1)
    states[1::2] = labels
    before = np.full(len(states), -np.inf)
    before[0] = 0.0  # before the first frame: as if a blank had come
    for frame, values in enumerate(log):
        after = np.full(len(states), -np.inf)
        for s, state in enumerate(states):
            ways = [before[s]] + [before[s - 1]] * (s > 0)
            ways += [before[s - 2]] * int(s > 1 and state != states[s - 2])
            after[s] = values[state] + np.logaddexp.reduce(ways)
        before = after if frame else np.where(np.arange(len(states)) < 2, values[states], -np.inf)
    return -np.logaddexp(before[-1], before[-2])


@pytest.mark.parametrize(
    "frames, characters, scale, blank", [(300, 90, 1, 0), (400, 20, 20, 10), (250, 60, 60, 40)]
)
def test_long_labels_and_extreme_logits_keep_their_loss_and_gradient(
    frames, characters, scale, blank
):
    """Where the probability of all alignments lies far below the least float, and single ones next to nothing."""
    random = np.random.default_rng(frames)
    logits = (scale * random.normal(size=(frames, 29))).astype(np.float32)
    logits[:, -1] += blank
    labels = random.integers(28, size=characters).astype(np.int32)
    given = tf.constant(logits[None])
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = ctc_loss(
            given, tf.constant([frames]), tf.constant(labels[None]), tf.constant([characters])
        )
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(loss[0], logarithmic(wide, labels), rtol=1e-6)
    gradient = tape.gradient(loss, given)[0].numpy()
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-5)
    for place in [
        (0, labels[0]),
        (frames // 2, 28),
        (frames // 2, labels[characters // 2]),
        (frames - 1, labels[-1]),
    ]:
        step = np.zeros(logits.shape)
        step[place] = 1e-4
        up, down = logarithmic(wide + step, labels), logarithmic(wide - step, labels)
        np.testing.assert_allclose(gradient[place], (up - down) / 2e-4, atol=1e-5)


def test_equals_the_kernel_of_tensorflow():
    """Which graphics processors use; the labels as they go there."""
    logits, lengths, labels, label_lengths = batch(
        seed=3, frames=(60, 41), characters=(17, 9), classes=29
    )
    found = {}
    for name, devices in (("ours", []), ("theirs", ["a GPU"])):
        with pytest.MonkeyPatch.context() as patch, tf.GradientTape() as tape:
            patch.setattr(tf.config, "list_physical_devices", lambda kind, devices=devices: devices)
            tape.watch(logits)
            loss = ctc_loss(logits, lengths, labels, label_lengths)
        found[name] = loss, tape.gradient(loss, logits)
    np.testing.assert_allclose(*(loss for loss, _ in found.values()), rtol=1e-5)
    np.testing.assert_allclose(
        *(gradient for _, gradient in found.values()), atol=5e-5
    )  # it sums in float32
    assert not np.array_equal(found["ours"][1], found["theirs"][1]), "these were one kernel"


def test_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: no second opinion on CTC")
    logits, lengths, labels, label_lengths = batch(
        seed=3, frames=(60, 41), characters=(17, 9), classes=29
    )
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = ctc_loss(logits, lengths, labels, label_lengths)
    theirs = torch.tensor(logits.numpy(), dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(-1).transpose(0, 1), torch.tensor(labels.numpy()), torch.tensor(lengths.numpy()),
        torch.tensor(label_lengths.numpy()), blank=28, reduction="none",
    )  # fmt: skip
    expected.sum().backward()
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), theirs.grad, atol=5e-5)


# What a teacher teaches


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


def test_a_hand_worked_divergence():
    """The teacher is sure of 3:1, the student undecided: 3/4 ln(3/2) + 1/4 ln(1/2)."""
    loss = distillation_loss(tf.zeros([1, 1, 2]), tf.math.log([[[3.0, 1.0]]]), [1])
    np.testing.assert_allclose(loss, [0.75 * np.log(1.5) - 0.25 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_gradient_of_distillation_equals_finite_differences_and_none_goes_to_the_teacher(
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


def test_who_agrees_with_the_teacher_has_nothing_to_learn():
    student, _, lengths = pair()
    for teacher in (student, student + 3.0):  # a shift of all logits changes no distribution
        loss, gradient, _ = gradients(
            lambda s, t: distillation_loss(s, t, lengths, 2.0), student, teacher
        )
        np.testing.assert_allclose(loss, 0, atol=1e-5)
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_the_size_of_the_gradient_does_not_depend_on_the_temperature():
    """For small logits the divergence is their squared distance / (2 T^2): T^2 makes up for it exactly."""
    student, teacher, lengths = pair(scale=0.05)
    sizes = [
        np.linalg.norm(
            gradients(lambda s, t: distillation_loss(s, t, lengths, heat), student, teacher)[1]
        )  # noqa: B023
        for heat in (1.0, 2.0, 8.0)
    ]
    np.testing.assert_allclose(sizes, sizes[0], rtol=0.03)


JUNK = [7.0, np.inf, np.nan]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("frames", FRAME_SELECTIONS)
def test_what_stands_in_the_padding_counts_neither_in_distillation_nor_in_its_gradient(
    frames, junk
):
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
def test_the_frames_that_count_are_those_that_a_hand_would_mark(frames):
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
def test_the_frames_of_an_utterance_alone_are_those_that_it_has_in_a_batch(frames):
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
def test_what_stands_in_the_padding_counts_neither_in_hint_nor_in_its_gradient(junk):
    ours, theirs, lengths = pair()
    ours[1, 7:, ::2], theirs[1, 7:, 1:] = junk, -junk
    loss, gradient, _ = gradients(lambda a, h: hint_loss(a, h, lengths), ours, theirs)
    np.testing.assert_allclose(loss, hint_by_hand(ours, theirs, lengths), rtol=1e-5)
    assert np.all(np.isfinite(gradient)) and not np.any(gradient[1, 7:])


def test_hints_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"5, 3\).*5, 4\)"):
        hint_loss(tf.zeros([2, 5, 3]), tf.zeros([2, 5, 4]), [5, 5])
