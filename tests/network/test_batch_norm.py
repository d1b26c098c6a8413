"""Batch norm over valid frames, against Keras' layer and the gradient of its definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lttlib.network import BatchNorm

EPSILON = 1e-3


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(2, 3, size=(4, 9, 5)).astype(np.float32)


@pytest.fixture
def valid():
    return np.arange(9) < np.array([[9], [4], [1], [7]])


@pytest.fixture
def layer():
    layer = BatchNorm()
    layer.build(5)
    layer.scale.assign([0.5, 1, 2, -1, 3])
    layer.shift.assign([0, 1, -1, 2, 0.5])
    return layer


def test_batch_norm_equals_that_of_keras_with_a_mask(x, valid, layer):
    keras_layer = keras.layers.BatchNormalization(momentum=0.95, epsilon=EPSILON)
    keras_layer.build(x.shape)
    keras_layer.gamma.assign(layer.scale)
    keras_layer.beta.assign(layer.shift)
    expected = keras_layer(x, training=True, mask=valid)
    normalised = layer(tf.constant(x), tf.constant(valid, tf.float32), training=True)
    np.testing.assert_allclose(normalised[valid], expected[valid], atol=1e-5)
    np.testing.assert_allclose(layer.mean, keras_layer.moving_mean, atol=1e-6)
    np.testing.assert_allclose(layer.variance, keras_layer.moving_variance, atol=1e-6)
    normalised = layer(tf.constant(x), tf.constant(valid, tf.float32))
    np.testing.assert_allclose(normalised, keras_layer(x, training=False), atol=1e-5)


def test_batch_norm_has_the_gradient_of_its_definition(x, valid, layer):
    """TensorFlow's own gradient of the formula, over the valid frames of all utterances."""
    upstream = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    upstream[~valid] = 0  # as the network has it: frames beyond an utterance are set to 0
    x = tf.Variable(x)
    inputs = [x, layer.scale.value, layer.shift.value]
    with tf.GradientTape() as tape:
        normalised = layer(x, tf.constant(valid, tf.float32), training=True)
    gradients = tape.gradient(normalised, inputs, tf.constant(upstream))
    with tf.GradientTape() as tape:
        mean, variance = tf.nn.moments(tf.boolean_mask(x, valid), axes=[0])
        by_definition = (x - mean) / tf.sqrt(variance + EPSILON) * layer.scale + layer.shift
    expected = tape.gradient(by_definition, inputs, tf.constant(upstream))
    for gradient, by_tensorflow in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, by_tensorflow, rtol=1e-4, atol=1e-5)
    assert np.abs(gradients[0]).max() > 0.01


def test_gain_and_shift_are_what_inference_computes(x, valid, layer):
    layer(tf.constant(x), tf.constant(valid, tf.float32), training=True)
    gain, shift = layer.gain_and_shift()
    expected = layer(tf.constant(x), tf.constant(valid, tf.float32))
    np.testing.assert_allclose(x * gain + shift, expected, atol=1e-5)


def test_batch_norm_of_a_batch_on_two_devices_is_that_of_one(x, valid, layer):
    expected = layer(tf.constant(x), tf.constant(valid, tf.float32), training=True)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        shared = BatchNorm()
        shared.build(5)
        shared.scale.assign(layer.scale.numpy())
        shared.shift.assign(layer.shift.numpy())

    def halves(context):
        rows = slice(2 * context.replica_id_in_sync_group, None)
        return tf.constant(x[rows][:2]), tf.constant(valid[rows][:2], tf.float32)

    parts = strategy.experimental_distribute_values_from_function(halves)
    run = tf.function(lambda part: strategy.run(shared, part, {"training": True}))
    results = strategy.experimental_local_results(run(parts))
    normalised = np.concatenate([result.numpy() for result in results])
    np.testing.assert_allclose(normalised[valid], expected[valid], atol=1e-5)
