"""Rounding against the formula of Polino et al. 2018, training against twins of rounded kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lttlib.network import (
    CONVS,
    ConvNet,
    ConvSpec,
    LearnedQuantizer,
    Quantizer,
    fitted_levels,
    named_variables,
    quantize_kernels,
    quantize_uniform,
)

SPEC = {"filters": (6, 5), "widths": (4, 3), "strides": (2, 1), "input_channels": 3, "classes": 5}
SHAPES = [
    ((), None),
    ((1,), 1),
    ((7,), 3),
    ((7,), 1),
    ((3, 5, 4), 16),
    ((3, 5, 4), None),
    ((2, 3, 1, 2), 999),
]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def buckets(flat, bucket_size):
    size = bucket_size or len(flat)
    return [flat[start : start + size] for start in range(0, len(flat), size)]


def by_formula(values, bits, bucket_size):
    """Q(v) = alpha * round((v - beta) / alpha * s) / s + beta, in float64; and alpha."""
    s, quantized, alphas = 2**bits - 1, [], []
    for bucket in buckets(np.asarray(values, np.float64).ravel(), bucket_size):
        beta, alpha = min(bucket), max(bucket) - min(bucket)
        quantized += [
            alpha * round((v - beta) / alpha * s) / s + beta if alpha else v for v in bucket
        ]
        alphas += [alpha] * len(bucket)
    return np.reshape(quantized, np.shape(values)), np.reshape(alphas, np.shape(values))


def by_levels(values, levels, bucket_size):
    """The same for learned levels; and the number of the nearest level."""
    quantized, alphas, codes = [], [], []
    for bucket in buckets(np.asarray(values, np.float64).ravel(), bucket_size):
        beta, alpha = min(bucket), max(bucket) - min(bucket)
        for v in bucket:
            codes.append(min(range(len(levels)), key=lambda j: abs(levels[j] - (v - beta) / alpha)))
            quantized.append(alpha * levels[codes[-1]] + beta)
            alphas.append(alpha)
    return tuple(np.reshape(each, np.shape(values)) for each in (quantized, alphas, codes))


@pytest.mark.parametrize(
    "values, bits, bucket_size, expected",
    [
        ([0, 1, 2, 10], 1, None, [0, 0, 0, 10]),
        ([0, 1, 2, 10], 2, None, [0, 0, 10 / 3, 10]),  # 0, 0.3, 0.6 and 3 thirds
        ([10, -2, 3, 7], 2, None, [10, -2, 2, 6]),  # from -2 in steps of 4: 3, 0, 1.25 and 2.25
        ([0, 1, 2, 10], 1, 2, [0, 1, 2, 10]),
        ([0, 1, 3, 4, 10], 1, 3, [0, 0, 3, 4, 10]),
        ([3, 3, 3, 5], 4, 3, [3, 3, 3, 5]),
        ([0, 0.4, 254.6, 255], 8, None, [0, 0, 255, 255]),
    ],
)
def test_quantization_equals_the_formula_worked_by_hand(values, bits, bucket_size, expected):
    quantized = quantize_uniform(tf.constant(values, tf.float32), bits, bucket_size)
    np.testing.assert_allclose(quantized, expected, rtol=1e-6)


@pytest.mark.parametrize("shape, bucket_size", SHAPES)
@pytest.mark.parametrize("bits", range(1, 9))
def test_quantization_equals_the_formula_for_any_shape_and_bucket(shape, bucket_size, bits):
    values = noise(*shape, seed=bits)
    quantized = quantize_uniform(values, bits, bucket_size)
    expected, alpha = by_formula(values, bits, bucket_size)
    assert quantized.shape == shape and quantized.dtype == tf.float32
    np.testing.assert_allclose(quantized, expected, atol=1e-5)
    assert np.all(np.abs(quantized - values) <= alpha / (2**bits - 1) / 2 + 1e-6)
    np.testing.assert_array_equal(quantize_uniform(quantized, bits, bucket_size), quantized)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantization_gives_the_least_and_largest_value_of_a_bucket_back_exactly(bits, stochastic):
    values = noise(1000) * 10.0 ** np.arange(-5, 5).repeat(100).astype(np.float32) + 7
    quantized = quantize_uniform(values, bits, 30, stochastic)
    for bucket, rounded in zip(buckets(values, 30), buckets(quantized.numpy(), 30), strict=True):
        assert (rounded.min(), rounded.max()) == (bucket.min(), bucket.max())
        assert rounded[bucket.argmin()] == bucket.min() and rounded[bucket.argmax()] == bucket.max()


@pytest.mark.parametrize("stochastic", [False, True])
def test_quantization_leaves_constant_buckets_as_they_are(stochastic):
    values = np.repeat(np.float32([0, -0.1, 3e-20, 1e20]), 4)
    for bits in range(1, 9):
        np.testing.assert_array_equal(quantize_uniform(values, bits, 4, stochastic), values)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_stochastic_rounding_is_right_on_average_and_lands_on_the_two_levels_beside(bits):
    values, bucket_size, seeds = noise(70), 32, 500
    rounded = tf.function(lambda seed: quantize_uniform(values, bits, bucket_size, True, seed))
    quantized = np.stack(
        [rounded(tf.constant([3, seed])).numpy().astype(np.float64) for seed in range(seeds)]
    )
    _, alpha = by_formula(values, bits, bucket_size)
    beta = np.concatenate(
        [np.full(len(bucket), bucket.min()) for bucket in buckets(values, bucket_size)]
    )
    step = alpha / (2**bits - 1)
    place = (values - beta) / step
    share = place - np.floor(place)
    lower, upper = beta + np.floor(place) * step, beta + np.ceil(place) * step
    assert np.all(np.minimum(np.abs(quantized - lower), np.abs(quantized - upper)) < 1e-5)
    error = step * np.sqrt(share * (1 - share) / seeds)  # of the mean of so many Bernoulli draws
    assert np.all(np.abs(quantized.mean(axis=0) - values) <= 4.5 * error + 1e-5)
    inner = error > 1e-3
    assert inner.sum() > 40 and np.all(quantized[:, inner].std(axis=0) > 0)
    # Rounding to the nearest would fail by far: its mean is off by up to half a step.
    assert np.abs(
        ((quantized.mean(axis=0) - values) / np.maximum(error, 1e-9))[inner].mean()
    ) < 4.5 / np.sqrt(inner.sum())


def test_stochastic_rounding_is_decided_by_its_seed():
    values = noise(200)
    first, same, other = (
        quantize_uniform(values, 2, None, True, seed) for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)
    # Nor do two neighbours share their luck.
    assert (
        len(np.unique(quantize_uniform(np.float32([0, *[0.5] * 50, 1]), 1, None, True)[1:-1])) == 2
    )


@pytest.mark.parametrize(
    "values, bits, bucket_size, message",
    [
        ([1.0, 2.0], 0, None, "bits must be 1 to 8, not 0"),
        ([1.0, 2.0], 9, None, "bits must be 1 to 8, not 9"),
        ([1.0, 2.0], 4, 0, "bucket_size must be positive, not 0"),
        (np.zeros([3, 0]), 4, None, r"shape \(3, 0\)"),
    ],
)
def test_quantization_refuses_what_cannot_be_quantized(values, bits, bucket_size, message):
    with pytest.raises(ValueError, match=message):
        quantize_uniform(values, bits, bucket_size)


def small_network(conv="conv", dropouts=(0.1, 0.2), **options):
    """A network whose biases and batch norm are not those of the start; always the same kernels."""
    network = ConvNet(ConvSpec(**SPEC, conv=conv, dropouts=dropouts), seed=1, **options)
    for number, variable in enumerate(
        variable for variable in network.variables if "levels" not in variable.path
    ):
        if "kernel" not in variable.path:
            variable.assign(np.abs(noise(*variable.shape, seed=number)) + 0.5)
    return network


def twin(rounded, conv="conv", dropouts=(0.1, 0.2)):
    """A network without quantizers, whose kernels are those of `rounded` (by name)."""
    network = small_network(conv, dropouts)
    for name, variable in named_variables(network).items():
        if name in rounded:
            variable.assign(rounded[name])
    return network


def kernels(network):
    return {
        name: value.numpy()
        for name, value in named_variables(network).items()
        if name.endswith(("kernel", "depthwise"))
    }


def run(network, seed=(5, 6)):
    """Logits of a batch, and the gradient of a loss with respect to each trainable variable."""
    x, lengths = tf.constant(noise(2, 20, 3)), tf.constant([20, 13])
    seed = None if seed is None else tf.constant(seed)
    with tf.GradientTape() as tape:
        logits, _ = network(x, lengths, training=seed is not None, seed=seed)
        loss = tf.reduce_mean(tf.square(logits - noise(*logits.shape, seed=9)))
    trainable = network.trainable_variables
    gradients = tape.gradient(loss, trainable)
    return logits.numpy(), {
        variable.path: None if gradient is None else tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(trainable, gradients, strict=True)
    }


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("bits, bucket_size", [(2, 10), (5, None)])
def test_quantizer_gives_forward_and_gradient_of_the_quantized_kernel(conv, bits, bucket_size):
    network = small_network(conv)
    quantize_kernels(network, bits, bucket_size)
    rounded = {
        name: by_formula(value, bits, bucket_size)[0] for name, value in kernels(network).items()
    }
    logits, gradients = run(network)
    expected_logits, expected = run(twin(rounded, conv))
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == expected.keys()  # kernels, biases and batch norm
    for name in expected:
        np.testing.assert_allclose(
            gradients[name], expected[name], rtol=1e-3, atol=1e-5, err_msg=name
        )
    plain_logits, plain = run(small_network(conv))
    assert np.abs(logits - plain_logits).max() > 1e-3
    assert np.abs(gradients["layer01/kernel"] - plain["layer01/kernel"]).max() > 1e-4


def test_quantizer_applies_the_gradient_to_the_full_kernel():
    network = small_network()
    quantize_kernels(network, 2, 10)
    full, (_, gradients) = kernels(network), run(network)
    rate, trainable = 1e-3, network.trainable_variables
    keras.optimizers.SGD(rate).apply(
        [gradients[variable.path] for variable in trainable], trainable
    )
    for name, value in kernels(network).items():
        assert np.any(gradients[name])
        np.testing.assert_allclose(value, full[name] - rate * gradients[name], atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"stochastic": True}, {"learned": True}])
def test_quantized_step_traced_computes_what_an_eager_one_does(options):
    network = small_network(levels=8 if "learned" in options else 0)
    quantize_kernels(network, 3, 10, **options)

    def step():
        with tf.GradientTape() as tape:
            logits, _ = network(
                tf.constant(noise(2, 20, 3)),
                tf.constant([20, 13]),
                training=True,
                seed=tf.constant([5, 6]),
            )
            loss = tf.reduce_mean(logits**2)
        return [
            logits,
            *map(tf.convert_to_tensor, tape.gradient(loss, network.trainable_variables)),
        ]

    for eager, traced in zip(step(), tf.function(step)(), strict=True):
        np.testing.assert_allclose(traced, eager, rtol=1e-3, atol=1e-4)


def test_stochastic_rounding_follows_the_seed_in_training_and_is_not_random_afterwards():
    network = small_network(dropouts=(0, 0))
    quantize_kernels(network, 2, 10, stochastic=True)
    rounded = {name: by_formula(value, 2, 10)[0] for name, value in kernels(network).items()}
    expected, _ = run(twin(rounded), seed=None)
    for _ in range(2):
        np.testing.assert_allclose(run(network, seed=None)[0], expected, rtol=1e-4, atol=1e-5)
    first, same, other = (run(network, seed)[0] for seed in ((5, 6), (5, 6), (5, 7)))
    np.testing.assert_allclose(first, same, atol=1e-6)
    assert np.abs(first - other).max() > 1e-3


def test_stochastic_rounding_reaches_each_kernel_and_each_with_its_own_luck():
    network = small_network("separable_conv", dropouts=(0, 0))
    draws = []

    class Spy(Quantizer):
        def __call__(self, kernel, seed=None):
            draws.append(tuple(seed.numpy()))
            return super().__call__(kernel, seed)

    for layer in network.layers:
        for name in layer.kernels:
            layer.quantizers[name] = Spy(2, 10, stochastic=True)
            difference = run(network, (5, 6))[0] - run(network, (5, 7))[0]
            assert np.abs(difference).max() > 1e-3, (layer.name, name)
            layer.quantizers.clear()
    assert len(draws) == 2 * len(kernels(network)) == 8

    # All at once: none draws what another one does.
    draws.clear()
    for layer in network.layers:
        for name in layer.kernels:
            layer.quantizers[name] = Spy(2, 10, stochastic=True)
    run(network, (5, 6))
    assert len(set(draws)) == 4


@pytest.mark.parametrize("conv", CONVS)
def test_learned_level_gets_the_gradient_of_the_weights_that_lie_there(conv):
    levels = [0.8, 0.05, 0.33, 1.1]  # in no order, and not all within [0, 1]
    network = small_network(conv, levels=4)
    quantize_kernels(network, 2, 10, learned=True)
    for layer in network.layers:
        for variable in layer.levels.values():
            variable.assign(levels)
    by_hand = {name: by_levels(value, levels, 10) for name, value in kernels(network).items()}
    logits, gradients = run(network)
    expected_logits, expected = run(twin({name: each[0] for name, each in by_hand.items()}, conv))
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)
    for name, (_, alpha, codes) in by_hand.items():
        sums = [(alpha * expected[name])[codes == level].sum() for level in range(4)]
        path = name.replace("kernel", "levels").replace("depthwise", "depthwise_levels")
        np.testing.assert_allclose(gradients[path], sums, rtol=1e-3, atol=1e-5)
    for name in expected:  # kernels, straight-through; biases and batch norm
        np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-3, atol=1e-5)


def test_learned_levels_gradient_equals_finite_differences_in_any_order_of_them():
    kernel, weights, order = tf.constant(noise(4, 6)), noise(4, 6, seed=1), [2, 0, 3, 1]
    levels = np.float32([0.1, 0.3, 0.45, 0.9])

    def loss(levels):
        return tf.reduce_sum(weights * tf.sin(LearnedQuantizer(levels, 7)(kernel)))

    results = []
    for places in (levels, levels[order]):
        variable = tf.Variable(places)
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            value = loss(variable)
        gradient, to_kernel = tape.gradient(value, [variable, kernel])
        assert np.any(to_kernel), "straight-through"
        results.append((value, tf.convert_to_tensor(gradient).numpy()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    np.testing.assert_allclose(results[0][1][order], results[1][1], rtol=1e-5)
    for level, step in enumerate(1e-3 * np.eye(4, dtype=np.float32)):
        slope = (loss(levels + step) - loss(levels - step)) / 2e-3
        np.testing.assert_allclose(results[0][1][level], slope, atol=5e-3)


def mean_square(values, levels, bucket_size):
    """Mean square error of values rounded to levels, in float64."""
    return np.square(by_levels(values, levels, bucket_size)[0] - values).mean()


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_fitted_levels_round_better_than_even_ones_and_than_any_beside_them(bits):
    values = noise(40, 7, seed=bits).astype(np.float64)
    levels = fitted_levels(values, bits, 28)
    assert levels.shape == (2**bits,) and np.all(np.diff(levels) > 0)
    error = mean_square(values, levels, 28)
    assert error < 0.8 * mean_square(values, np.linspace(0, 1, 2**bits), 28)
    for place in range(2**bits):
        for step in (-0.02, 0.02):
            moved = levels.copy()
            moved[place] += step
            assert mean_square(values, moved, 28) > error


def test_fitted_levels_of_few_different_values_are_these_values():
    levels = fitted_levels(np.float32([0, 0, 0.25, 0.25, 0.75, 0.75, 1, 1]), 2)
    np.testing.assert_allclose(levels, [0, 0.25, 0.75, 1], atol=1e-6)
    assert np.all(np.isfinite(fitted_levels(np.zeros(9, np.float32), 3)))


def test_kernels_rounded_to_fitted_levels_are_nearer_than_to_even_ones():
    errors = []
    for fitted in (False, True):
        network = small_network("separable_conv")
        quantize_kernels(network, 2, 10, fitted=fitted)
        error = 0.0
        for layer in network.layers:
            for name, kernel in layer.rounded_kernels().items():
                error += np.square(kernel - layer.kernels[name]).sum()
        errors.append(error)
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("fixed_kernels", [False, True])
def test_learned_levels_begin_fitted_and_what_is_not_fixed_moves(fixed_kernels):
    network = small_network(levels=8)
    quantize_kernels(network, 3, 10, learned=True, fixed_kernels=fixed_kernels)
    fitted = small_network()
    quantize_kernels(fitted, 3, 10, fitted=True)
    np.testing.assert_allclose(run(network)[0], run(fitted)[0], rtol=1e-4, atol=1e-5)
    names = ["output/bias", "layer01/levels", "layer02/levels", "output/levels"]
    for layer in ("layer01", "layer02"):
        names += [f"{layer}/{what}" for what in ("bias", "norm/scale", "norm/shift")]
    if not fixed_kernels:
        names += ["layer01/kernel", "layer02/kernel", "output/kernel"]
    assert sorted(variable.path for variable in network.trainable_variables) == sorted(names)
    before = {name: value.numpy() for name, value in named_variables(network).items()}
    _, gradients = run(network)
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
    optimizer.apply(
        [gradients[variable.path] for variable in network.trainable_variables],
        network.trainable_variables,
    )
    for name, value in named_variables(network).items():
        if "mean" not in name and "variance" not in name:
            assert np.any(value.numpy() != before[name]) == (name in names), name


@pytest.mark.parametrize("learned", [False, True])
def test_skipping_first_and_last_leaves_these_layers_as_they_are(learned):
    network = small_network(levels=4 * learned)
    quantize_kernels(network, 2, 10, learned=learned, skip_first_and_last=True)
    kernel = kernels(network)["layer02/kernel"]
    if learned:
        rounded = by_levels(kernel, fitted_levels(kernel, 2, 10), 10)[0]
    else:
        rounded = by_formula(kernel, 2, 10)[0]
    logits, gradients = run(network)
    expected_logits, expected = run(twin({"layer02/kernel": rounded}))
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)
    if learned:
        assert np.any(gradients.pop("layer02/levels"))
    assert gradients.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(
            gradients[name], expected[name], rtol=1e-3, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("conv", CONVS)
def test_sensitive_kernels_have_their_own_bits(conv, fitted):
    """The depthwise ones and the output layer, against rounding kernel by kernel."""
    network = small_network(conv)
    quantize_kernels(network, 2, 10, sensitive_bits=5, fitted=fitted)
    rounded = {}
    for name, kernel in kernels(network).items():
        bits = 5 if "depthwise" in name or name.startswith("output") else 2
        if fitted:
            rounded[name] = by_levels(kernel, fitted_levels(kernel, bits, 10), 10)[0]
        else:
            rounded[name] = by_formula(kernel, bits, 10)[0]
    expected, _ = run(twin(rounded, conv))
    np.testing.assert_allclose(run(network)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "levels, bits, options, message",
    [
        (0, 0, {}, "bits must be 1 to 8, not 0"),
        (0, 9, {}, "bits must be 1 to 8, not 9"),
        (4, 2, {"learned": True, "stochastic": True}, "choose one"),
        (0, 2, {"fitted": True, "stochastic": True}, "choose one"),
        (4, 2, {"fixed_kernels": True}, "nothing is left to learn"),
        (0, 2, {"learned": True}, "levels=4"),
        (8, 2, {"learned": True}, "levels=4"),
        (0, 2, {"sensitive_bits": 9}, "bits must be 1 to 8, not 9"),
        (4, 2, {"learned": True, "sensitive_bits": 4}, "levels=16"),
    ],
)
def test_quantize_kernels_refuses_what_does_not_go_together_and_changes_nothing(
    levels, bits, options, message
):
    network = small_network(levels=levels)
    names = [variable.path for variable in network.trainable_variables]
    with pytest.raises(ValueError, match=message):
        quantize_kernels(network, bits, **options)
    assert not any(layer.quantizers for layer in [*network.convolutions, network.output_layer])
    assert names == [variable.path for variable in network.trainable_variables]


def test_mixed_precision_quantizes_in_float32():
    network = small_network(dtype="mixed_bfloat16")
    quantize_kernels(network, 8, 10)
    rounded = []
    network.output_layer.quantizers["kernel"] = lambda kernel, seed: (
        rounded.append(Quantizer(8, 10)(kernel)) or rounded[-1]
    )
    _, gradients = run(network)
    np.testing.assert_allclose(
        rounded[0], by_formula(network.output_layer.kernel, 8, 10)[0], atol=1e-6
    )
    assert all(gradient.dtype == np.float32 and np.any(gradient) for gradient in gradients.values())
