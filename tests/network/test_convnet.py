"""The networks against naive loops in numpy, against Keras' layers, and against padding."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lttlib import Error
from lttlib.network import (
    CONVS,
    ConvNet,
    ConvSpec,
    copy_layers,
    ctc_loss,
    guided_layers,
    named_variables,
    output_lengths,
)
from lttlib.recognition import greedy

# Of three layers of a separable network the first is ordinary, the second residual.
SPEC = ConvSpec((6, 6, 8), (4, 3, 7), (2, 1, 3), (0.1, 0.2, 0.3), input_channels=3, classes=5)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def warmed(network, seed=1):
    """The network with batch norm statistics, scales and biases that are not those of the start."""
    for number, variable in enumerate(network.variables):
        if "kernel" not in variable.path:
            variable.assign(np.abs(noise(*variable.shape, seed=seed + number)) + 0.5)
    return network


def naive_convolution(x, kernel, bias, stride):
    """The definition, [time, channels]: output t sees inputs t*stride - (width - 1) // 2, ..."""
    width, outputs = kernel.shape[0], []
    for t in range(-(-len(x) // stride)):
        total = bias.copy()
        for offset in range(width):
            place = t * stride - (width - 1) // 2 + offset
            if 0 <= place < len(x):
                total = total + x[place] @ kernel[offset]
        outputs.append(total)
    return np.array(outputs)


def naive_depthwise(x, depthwise, stride):
    """Of each channel alone: a convolution whose kernel is 0 between different channels."""
    kernel = depthwise[:, :, None] * np.eye(depthwise.shape[1])
    return naive_convolution(x, kernel, np.zeros(depthwise.shape[1]), stride)


def naive(network, x):
    """Logits of one utterance by loops, in float64."""
    for layer in network.layers:
        kernel = layer.kernel.numpy().astype(np.float64)
        bias = layer.bias.numpy().astype(np.float64)
        shortcut, stride, filters = x, layer.stride, layer.filters
        if layer.separable:
            x = naive_depthwise(x, layer.kernels["depthwise"].numpy(), stride)
            stride = 1
        if layer.gated:
            h = naive_convolution(x, kernel[..., :filters], bias[:filters], stride)
            gate = naive_convolution(x, kernel[..., filters:], bias[filters:], stride)
            x = h * (1 / (1 + np.exp(-gate)))
        else:
            x = naive_convolution(x, kernel, bias, stride)
        if layer.norm:
            scale, shift, mean, variance = (variable.numpy() for variable in layer.norm.variables)
            x = (x - mean) / np.sqrt(variance + layer.norm.epsilon) * scale + shift
        if layer.residual:
            x = x + shortcut
        if layer is not network.output_layer and not layer.gated:
            x = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)
    return x


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("time", [1, 2, 17, 24])
def test_network_logits_are_those_of_the_definition(conv, batch_norm, time):
    network = warmed(ConvNet(dataclasses.replace(SPEC, conv=conv, batch_norm=batch_norm)))
    x = noise(time, 3)
    logits, lengths = network(tf.constant(x[None]), tf.constant([time]))
    np.testing.assert_allclose(logits[0], naive(network, x), rtol=1e-4, atol=1e-4)
    assert lengths.numpy() == [logits.shape[1]] == [output_lengths(SPEC, time)]


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("time", [9, 10, 11, 12, 13])
def test_network_gives_an_utterance_alone_the_logits_loss_and_text_of_any_batch(conv, time):
    network = warmed(ConvNet(dataclasses.replace(SPEC, conv=conv)))
    x = noise(3, 40, 3, seed=time)  # what stands beyond an utterance's end is noise, not zeros
    together, together_lengths = network(tf.constant(x), tf.constant([40, time, 23]))
    alone, alone_lengths = network(tf.constant(x[1:2, :time]), tf.constant([time]))
    frames = alone_lengths.numpy()[0]
    assert together_lengths.numpy()[1] == frames
    np.testing.assert_allclose(together[1, :frames], alone[0], atol=1e-5)
    labels = (tf.constant([[1, 0]]), tf.constant([2]))
    np.testing.assert_allclose(
        ctc_loss(together[1:2], together_lengths[1:2], *labels),
        ctc_loss(alone, alone_lengths, *labels),
        rtol=1e-5,
    )
    texts = greedy(together.numpy(), together_lengths.numpy(), "ABCD")
    assert texts[1:2] == greedy(alone.numpy(), alone_lengths.numpy(), "ABCD")


def test_network_in_training_does_not_see_how_far_a_batch_is_padded():
    x, lengths = noise(2, 30, 3), tf.constant([30, 21])
    results = []
    for more in (0, 19):
        network = ConvNet(dataclasses.replace(SPEC, dropouts=(0, 0, 0)), seed=4)
        padded = tf.pad(tf.constant(x), [[0, 0], [0, more], [0, 0]], constant_values=5.0)
        with tf.GradientTape() as tape:
            logits, frames = network(padded, lengths, training=True, seed=tf.constant([0, 0]))
            loss = tf.reduce_sum(
                ctc_loss(logits, frames, tf.constant([[1, 2], [3, 0]]), tf.constant([2, 1]))
            )
        results.append([*tape.gradient(loss, network.trainable_variables), *network.variables])
    for short, long in zip(*results, strict=True):
        np.testing.assert_allclose(short, long, atol=1e-4)


def test_separable_layer_equals_that_of_keras():
    """Stride 1 and an odd width: Keras pads as many frames on either side there."""
    spec = ConvSpec(
        (6, 8), (3, 5), (1, 1), (0, 0), "separable_conv", "relu", False, input_channels=4, classes=5
    )
    layer = warmed(ConvNet(spec)).convolutions[1]
    theirs = keras.layers.SeparableConv1D(8, 5, padding="same", activation="relu")
    x = tf.constant(noise(2, 20, 6))
    theirs(x)
    depthwise = layer.kernels["depthwise"].numpy()[..., None]
    theirs.set_weights([depthwise, layer.kernel.numpy(), layer.bias.numpy()])
    outputs, _ = layer(x, tf.constant([20, 20]))
    np.testing.assert_allclose(outputs, theirs(x), atol=1e-5)


def test_separable_network_begins_with_an_ordinary_layer_and_adds_inputs_where_they_fit():
    filters, widths, strides = (8, 8, 8, 8, 6, 6), (5, 3, 3, 1, 3, 1), (1, 2, 1, 1, 1, 1)
    spec = ConvSpec(filters, widths, strides, [0] * 6, conv="separable_conv")
    layers = ConvNet(spec).convolutions
    assert [layer.separable for layer in layers] == [False, True, True, False, True, False]
    assert [layer.residual for layer in layers] == [False, False, True, True, False, True]
    shapes = [layer.kernel.shape[0] for layer in layers]
    assert shapes == [5, 1, 1, 1, 1, 1]
    plain = ConvNet(dataclasses.replace(spec, conv="conv"))
    assert not any(layer.separable or layer.residual for layer in plain.layers)


def test_dropout_follows_its_seed_and_training_differs_from_inference():
    network, x, lengths = ConvNet(SPEC), tf.constant(noise(2, 20, 3)), tf.constant([20, 20])
    inference = network(x, lengths)[0]
    trained = [
        network(x, lengths, training=True, seed=tf.constant(seed))[0]
        for seed in ([1, 2], [1, 2], [1, 3])
    ]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert (
        np.abs(trained[0] - trained[2]).max() > 0.01 and np.abs(trained[0] - inference).max() > 0.01
    )
    np.testing.assert_array_equal(inference.shape, trained[0].shape)


def test_hints_are_the_activations_after_a_layer_by_number():
    network, x, lengths = warmed(ConvNet(SPEC)), tf.constant(noise(2, 20, 3)), tf.constant([20, 13])
    hints, frames = network(x, lengths, up_to=2)
    assert hints.shape == (2, 10, 6) and list(frames) == [10, 7] and not np.any(hints[1, 7:])
    after, frames = network.convolutions[2](hints, frames)
    np.testing.assert_allclose(
        network.output_layer(after, frames)[0], network(x, lengths)[0], atol=1e-5
    )


def test_network_of_the_original_teacher_has_its_size():
    spec = ConvSpec(
        [250] * 8 + [2000] * 2,
        [48] + [7] * 7 + [32, 1],
        [2] + [1] * 9,
        [0.2] * 10,
        batch_norm=False,
        input_channels=39,
    )
    sizes = [
        48 * 39 * 250 + 250,
        *7 * [7 * 250 * 250 + 250],
        32 * 250 * 2000 + 2000,
        2000 * 2000 + 2000,
        2000 * 29 + 29,
    ]
    assert ConvNet(spec).count_params() == sum(sizes) == 23_594_529


def test_mixed_precision_keeps_weights_and_logits_in_float32():
    network, x = ConvNet(SPEC, dtype="mixed_bfloat16"), noise(1, 20, 3)
    logits, _ = network(tf.constant(x), tf.constant([20]))
    assert logits.dtype == tf.float32 and {v.dtype for v in network.variables} == {"float32"}
    np.testing.assert_allclose(logits[0], naive(network, x[0]), atol=0.15)
    assert np.abs(logits[0] - naive(network, x[0])).max() > 1e-4  # it did compute in bfloat16


def test_mixed_precision_trains_and_keeps_the_statistics_in_float32():
    """Read through Keras' autocast they would be rounded to bfloat16 at each step."""
    network, x = ConvNet(SPEC, dtype="mixed_bfloat16"), noise(2, 20, 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(
            network(tf.constant(x), tf.constant([20, 15]), training=True, seed=tf.constant([1, 2]))[
                0
            ]
        )
    gradients = tape.gradient(loss, network.trainable_variables)
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    norm = network.convolutions[0].norm
    for statistic in (norm.mean, norm.variance):
        assert (
            np.asarray(statistic).view(np.uint32) & 0xFFFF
        ).any()  # bfloat16 is the upper half of float32
    norm.mean.assign(np.full(norm.mean.shape, 1e-4, np.float32) + norm.mean)
    before = np.asarray(norm.mean)
    norm.momentum = 1.0
    network(tf.constant(x), tf.constant([20, 15]), training=True, seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(norm.mean, before)


def test_network_seed_decides_the_initial_weights():
    first, same, other = (
        ConvNet(SPEC, seed=seed).convolutions[1].kernel.numpy() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1
    network = ConvNet(ConvSpec((4, 4), (3, 3), (1, 1), (0, 0), input_channels=4))
    assert np.abs(network.convolutions[0].kernel - network.convolutions[1].kernel).max() > 0.1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"widths": (3, 3)}, "widths 2"),
        ({"filters": ()}, "filters 0"),
        ({"strides": (1, 0, 1)}, "at least 1"),
        ({"dropouts": (0, 0, 1.0)}, "dropouts"),
        ({"conv": "gated"}, "gated_conv"),
        ({"activation": "relux"}, "relux"),
    ],
)
def test_specification_that_is_wrong_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **change)


def test_network_refuses_features_of_other_channels():
    with pytest.raises(ValueError, match="4 channels.*input_channels 3"):
        ConvNet(SPEC)(tf.zeros([1, 9, 4]), tf.constant([9]))


def test_guided_layers_are_the_first_layers_with_a_regressor_to_the_hints():
    spec = dataclasses.replace(SPEC, conv="gated_conv", activation="relu", batch_norm=False)
    expected = ConvSpec(
        (6, 6),
        (4, 3),
        (2, 1),
        (0.1, 0.2),
        "gated_conv",
        "relu",
        batch_norm=False,
        input_channels=3,
        classes=12,
    )
    assert guided_layers(spec, 2, 12) == expected
    assert guided_layers(SPEC, 3, 5) == SPEC
    network = ConvNet(expected)
    x, frames = network(tf.constant(noise(2, 20, 3)), tf.constant([20, 13]))
    assert x.shape == (2, 10, 12) and list(frames) == [10, 7]
    assert network.output_layer.kernel.shape == (1, 6, 12)


@pytest.mark.parametrize("layers", [-1, 0, 4])
def test_guided_layers_that_the_student_does_not_have_are_refused(layers):
    with pytest.raises(ValueError, match=f"guided {layers}: .* 1 to 3"):
        guided_layers(SPEC, layers, 12)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_copied_layers_are_the_first_ones_with_their_statistics_and_nothing_else(conv, layers):
    spec = dataclasses.replace(SPEC, conv=conv)
    guided = warmed(ConvNet(guided_layers(spec, layers, 12), seed=5))
    student = warmed(ConvNet(spec, seed=6), seed=30)
    before = {name: value.numpy() for name, value in named_variables(student).items()}
    copy_layers(guided, student, layers)
    x, lengths = tf.constant(noise(2, 20, 3)), tf.constant([20, 13])
    np.testing.assert_array_equal(
        student(x, lengths, up_to=layers)[0], guided(x, lengths, up_to=layers)[0]
    )
    carried = tuple(f"layer{number:02}/" for number in range(1, layers + 1))
    for name, value in named_variables(student).items():
        source = named_variables(guided)[name].numpy() if name.startswith(carried) else before[name]
        np.testing.assert_array_equal(value, source, err_msg=name)
        assert not name.startswith(carried) or np.any(source != before[name]), name
    guided.convolutions[0].kernel.assign(0 * guided.convolutions[0].kernel)
    assert np.any(student.convolutions[0].kernel)  # a copy


def test_network_refuses_to_train_without_a_seed():
    network = ConvNet(SPEC)
    with pytest.raises(Error, match="training needs a seed"):
        network(tf.constant(noise(1, 9, 3)), tf.constant([9]), training=True)
