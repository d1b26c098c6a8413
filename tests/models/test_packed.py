"""A packed model: bytes against whole numbers, and what is loaded against the network that was saved."""

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from safetensors import safe_open

from lttlib.features import FeatureConfig
from lttlib.models import Model, packed
from lttlib.network import ConvNet, ConvSpec, named_variables, quantize_kernels

SPEC = {
    "filters": (6, 5),
    "widths": (4, 3),
    "strides": (2, 1),
    "dropouts": (0.1, 0.2),
    "classes": 5,
}


def random_codes(count, bits):
    return np.random.default_rng(count).integers(2**bits, size=count)


@pytest.mark.parametrize(
    "codes, bits, expected",
    [
        ([1, 0, 0, 1, 1, 0, 0, 0, 1], 1, [0b00011001, 0b1]),
        ([1, 2, 3], 2, [0b111001]),
        ([5, 2, 7], 3, [0b11010101, 0b1]),  # 7, 2, 5 side by side: 1 11010101
        ([0x1, 0xF, 0xA], 4, [0xF1, 0x0A]),
        ([255, 0, 7], 8, [255, 0, 7]),
        ([], 3, []),
    ],
)
def test_bytes_worked_by_hand(codes, bits, expected):
    assert packed.pack(np.array(codes, np.int32), bits).tolist() == expected
    assert packed.unpack(np.array(expected, np.uint8), bits, len(codes)).tolist() == list(codes)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 1000, 1001])
def test_codes_come_back_and_are_one_whole_number_of_no_byte_too_many(bits, count):
    codes = random_codes(count, bits)
    bytes_ = packed.pack(codes, bits)
    number = sum(int(code) << bits * place for place, code in enumerate(codes))
    assert bytes_.dtype == np.uint8 and bytes_.tobytes() == number.to_bytes(
        (count * bits + 7) // 8, "little"
    )
    found = packed.unpack(bytes_, bits, count)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, codes)


def trained(conv="conv", levels=0):
    """A model in which no variable has the values of the start."""
    network = ConvNet(ConvSpec(**SPEC, conv=conv), seed=3, levels=levels)
    random = np.random.default_rng(1)
    for variable in network.variables:
        if "kernel" not in variable.path:
            variable.assign(random.uniform(0.5, 1, variable.shape))
    return Model(network, FeatureConfig(n_mels=30), "ABCD")


def save(path, model):
    return packed.save(path, model.network, model.feature_config, model.alphabet)


def logits(network):
    x = np.random.default_rng(2).normal(size=(2, 20, 39)).astype(np.float32)
    return network(tf.constant(x), tf.constant([20, 9]))[0].numpy()


@pytest.mark.parametrize(
    "conv, bits, bucket_size, options",
    [
        ("conv", 4, 256, {}),
        ("conv", 3, 7, {}),
        ("conv", 1, None, {}),
        ("conv", 8, 10**6, {}),
        ("conv", 2, 16, {"stochastic": True}),
        ("conv", 5, 100, {"skip_first_and_last": True}),
        ("gated_conv", 7, 33, {}),
        ("gated_conv", 3, None, {"learned": True}),
        ("conv", 2, 10, {"learned": True}),
        ("conv", 5, 64, {"learned": True, "skip_first_and_last": True}),
    ],
)
def test_what_is_loaded_computes_bit_for_bit_what_was_saved(
    tmp_path, conv, bits, bucket_size, options
):
    model = trained(conv, levels=2**bits if options.get("learned") else 0)
    full = logits(model.network)
    quantize_kernels(model.network, bits, bucket_size, **options)
    layers = [*model.network.convolutions, model.network.output_layer]
    if options.get("learned"):
        for layer in layers:  # in no order, as training may leave them
            layer.levels.assign(
                np.random.default_rng(bits).permutation(np.linspace(-0.1, 1.05, 2**bits))
            )
    size = save(tmp_path / "small.safetensors", model)
    network, features, alphabet = packed.load(tmp_path / "small.safetensors")
    assert (network.spec, features, alphabet) == (model.network.spec, model.feature_config, "ABCD")
    np.testing.assert_array_equal(logits(network), logits(model.network))
    assert np.any(logits(network) != full)
    assert size == (tmp_path / "small.safetensors").stat().st_size

    # The sizes by hand: codes of each kernel to the next byte, two scales a bucket, 2^bits levels a layer.
    counts = [
        int(np.prod(layer.kernel.shape))
        for layer in (layers[1:-1] if options.get("skip_first_and_last") else layers)
    ]
    scales = sum(2 * -(-count // (bucket_size or count)) for count in counts)
    scales += len(counts) * 2**bits if options.get("learned") else 0
    floats = sum(variable.numpy().size for variable in network.variables) - sum(counts)
    with safe_open(tmp_path / "small.safetensors", "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    assert {name: (value.shape, value.dtype) for name, value in tensors.items()} == {
        "codes": ((sum((count * bits + 7) // 8 for count in counts),), np.uint8),
        "scales": ((scales,), np.float32),
        "floats": ((floats,), np.float32),
    }
    assert size < sum(value.nbytes for value in tensors.values()) + 2000


def test_a_network_that_is_not_quantized_is_packed_in_float32(tmp_path):
    model = trained()
    save(tmp_path / "full.safetensors", model)
    network, _, _ = packed.load(tmp_path / "full.safetensors")
    for name, variable in named_variables(model.network).items():
        np.testing.assert_array_equal(named_variables(network)[name], variable)


def rounded(path, model, seed=None):
    """The bytes of a file, and the kernels that stand in it."""
    packed.save(path, model.network, model.feature_config, model.alphabet, seed)
    found = named_variables(packed.load(path)[0])
    return path.read_bytes(), {
        name: value.numpy() for name, value in found.items() if name.endswith("kernel")
    }


def test_the_seed_decides_the_rounding_of_stochastic_quantizers_and_of_no_others(tmp_path):
    model = trained()
    quantize_kernels(model.network, 2, 16)
    nearest, _ = rounded(tmp_path / "file", model)
    assert rounded(tmp_path / "file", model, 5)[0] == nearest
    quantize_kernels(model.network, 2, 16, stochastic=True)
    assert rounded(tmp_path / "file", model)[0] == nearest
    found = [rounded(tmp_path / "file", model, seed)[0] for seed in (0, 1, 0)]
    assert (
        found[0] == found[2]
        and len({nearest, *found}) == 3
        and len({len(one) for one in (nearest, *found)}) == 1
    )


def test_stochastic_rounding_goes_to_one_of_the_two_levels_around_and_is_right_on_average(tmp_path):
    """Levels worked out in float64, in buckets of 16: low + (high - low) k / 3."""
    model = trained()
    quantize_kernels(model.network, 2, 16, stochastic=True)
    runs = [rounded(tmp_path / "file", model, seed)[1] for seed in range(40)]
    for layer in model.network.layers:
        flat, seen = (
            layer.kernel.numpy().astype(float).ravel(),
            [run[layer.kernel.path].ravel() for run in runs],
        )
        for start in range(0, len(flat), 16):
            values, found = flat[start : start + 16], np.array(seen)[:, start : start + 16]
            step = (values.max() - values.min()) / 3
            position, codes = (values - values.min()) / step, (found - values.min()) / step
            np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
            assert np.all(np.abs(codes - position) < 1 + 1e-4)
            # Each has a deviation of at most half a step, their mean over 40 and the bucket of much less.
            assert abs((codes - position).mean()) < 5 * 0.5 / np.sqrt(codes.size)


def test_kernels_that_are_alike_are_not_rounded_alike(tmp_path):
    spec = ConvSpec((6, 6), (3, 3), (1, 1), (0.0, 0.0), input_channels=6, classes=5)
    network = ConvNet(spec)
    network.convolutions[1].kernel.assign(network.convolutions[0].kernel)
    quantize_kernels(network, 2, 16, stochastic=True)
    model = Model(network, FeatureConfig(n_mfcc=2), "ABCD")
    for seed, same in ((None, True), (0, False)):
        _, kernels = rounded(tmp_path / "file", model, seed)
        assert np.array_equal(kernels["layer01/kernel"], kernels["layer02/kernel"]) == same


def test_the_model_that_is_saved_stays_as_it_was_and_can_be_saved_again(tmp_path):
    model = trained()
    quantize_kernels(model.network, 3, 7)
    before = [variable.numpy() for variable in model.network.variables]
    for name in ("one", "two"):
        save(tmp_path / name, model)
    for variable, value in zip(model.network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_loaded_can_be_packed_again_without_a_change(tmp_path):
    model = trained()
    quantize_kernels(model.network, 3, 7)
    save(tmp_path / "one", model)
    network, features, alphabet = packed.load(tmp_path / "one")
    quantize_kernels(network, 3, 7)
    packed.save(tmp_path / "two", network, features, alphabet)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_named(tmp_path, share):
    model, path = trained(), tmp_path / "small.safetensors"
    quantize_kernels(model.network, 4)
    save(path, model)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="small.safetensors is no packed model"):
        packed.load(path)


def test_a_file_that_is_no_packed_model_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text(
        "A text, and longer than the eight bytes of a header's length."
    )
    tensors = {name: np.zeros(3, np.float32) for name in ("codes", "scales", "floats")}
    safetensors.numpy.save_file(tensors, tmp_path / "bare")
    safetensors.numpy.save_file(tensors, tmp_path / "other", {"format": "pt"})
    safetensors.numpy.save_file(tensors, tmp_path / "broken", {"model": "{"})
    safetensors.numpy.save_file({"weights": np.zeros(3)}, tmp_path / "unlike", {"model": "{}"})
    for name in ("notes.txt", "bare", "other", "broken", "unlike", "nowhere"):
        with pytest.raises(ValueError, match=f"{name} is no packed model"):
            packed.load(tmp_path / name)


def test_saving_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    model, path = trained(), tmp_path / "models" / "small.safetensors"
    quantize_kernels(model.network, 4)

    def half(tensors, file, metadata):
        file.write_bytes(b"half of it")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", half)
        with pytest.raises(OSError, match="no space left"):
            save(path, model)
        assert list(path.parent.iterdir()) == []
    save(path, model)
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", half)
        with pytest.raises(OSError, match="no space left"):
            save(path, model)
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == content
