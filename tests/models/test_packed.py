"""A packed model: bytes against whole numbers, and what is loaded against what was saved."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from damage import assert_refused, content, cuts, flips, rows, series
from safetensors import safe_open

from lttlib import Error, ceil_div, models
from lttlib.features import FeatureConfig
from lttlib.files import CHECKSUM_KEY, with_checksum
from lttlib.models import Model, packed
from lttlib.network import CONVS, ConvNet, ConvSpec, named_variables, quantize_kernels

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
def test_pack_gives_bytes_worked_by_hand(codes, bits, expected):
    assert packed.pack(np.array(codes, np.int32), bits).tolist() == expected
    assert packed.unpack(np.array(expected, np.uint8), bits, len(codes)).tolist() == list(codes)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 1000, 1001])
def test_pack_and_unpack_keep_codes_in_one_whole_number_of_no_byte_too_many(bits, count):
    codes = random_codes(count, bits)
    bytes_ = packed.pack(codes, bits)
    number = sum(int(code) << bits * place for place, code in enumerate(codes))
    assert bytes_.dtype == np.uint8
    assert bytes_.tobytes() == number.to_bytes((count * bits + 7) // 8, "little")
    unpacked = packed.unpack(bytes_, bits, count)
    assert unpacked.dtype == np.int32
    np.testing.assert_array_equal(unpacked, codes)


def trained(conv="conv", levels=0):
    """A model in which no variable has the values of the start."""
    network = ConvNet(ConvSpec(**SPEC, conv=conv), seed=3, levels=levels)
    random = np.random.default_rng(1)
    for variable in network.variables:
        if not variable.path.endswith(("kernel", "depthwise")):
            variable.assign(random.uniform(0.5, 1, variable.shape))
    return Model(network, FeatureConfig(n_mels=30), "ABCD")


def save(path, model):
    return packed.save(path, model.network, model.feature_config, model.alphabet)


def logits(network):
    x = np.random.default_rng(2).normal(size=(2, 20, 39)).astype(np.float32)
    return network(tf.constant(x), tf.constant([20, 9]))[0].numpy()


def by_kernel(network, rounded=False):
    """The kernels of a network by their paths, if asked for as it computes with them."""
    kernels = {}
    for layer in network.layers:
        values = layer.rounded_kernels() if rounded else layer.kernels
        for name, kernel in layer.kernels.items():
            kernels[kernel.path] = np.asarray(values[name])
    return kernels


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
        ("separable_conv", 4, 256, {}),
        ("separable_conv", 2, 10, {"stochastic": True}),
        ("separable_conv", 2, 64, {"sensitive_bits": 5}),
        ("conv", 2, 64, {"sensitive_bits": 3, "stochastic": True}),
        ("separable_conv", 2, 8, {"learned": True, "skip_first_and_last": True}),
    ],
)
def test_load_computes_what_was_saved(tmp_path, conv, bits, bucket_size, options):
    learned = options.get("learned", False)
    model = trained(conv, levels=2**bits if learned else 0)
    full = logits(model.network)
    quantize_kernels(model.network, bits, bucket_size, **options)
    layers = model.network.layers
    if learned:
        for layer in layers:  # in no order, as training may leave them
            levels = np.random.default_rng(bits).permutation(np.linspace(-0.1, 1.05, 2**bits))
            for variable in layer.levels.values():
                variable.assign(levels)
    path = tmp_path / "small.safetensors"
    size = save(path, model)
    network, feature_config, alphabet = packed.load(path)
    assert network.spec == model.network.spec
    assert (feature_config, alphabet) == (model.feature_config, "ABCD")
    expected = logits(model.network)
    np.testing.assert_allclose(logits(network), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - full).max() > 1e-3 * np.abs(full).max()
    kernels = by_kernel(network)
    for name, kernel in by_kernel(model.network, rounded=True).items():
        np.testing.assert_array_equal(kernels[name], kernel, err_msg=name)
    assert size == path.stat().st_size

    # The sizes by hand: codes of each kernel to the next byte, two scales a bucket, 2^bits levels;
    # gain and shift of 6 and 5 channels, biases of 5 classes and, where gated, of 22 channels.
    counts = {name: kernel.size for name, kernel in kernels.items()}
    floats = 2 * 11 + 5 + (22 if conv == "gated_conv" else 0)
    if options.get("skip_first_and_last"):
        floats += counts.pop("layer01/kernel") + counts.pop("output/kernel")
    codes = 0
    for name, count in counts.items():
        is_sensitive = "depthwise" in name or name == "output/kernel"
        kernel_bits = options.get("sensitive_bits", bits) if is_sensitive else bits
        codes += (count * kernel_bits + 7) // 8
    counts = counts.values()
    scales = sum(2 * ceil_div(count, bucket_size or count) for count in counts)
    if learned:
        scales += len(counts) * 2**bits
    with safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    assert {name: (value.shape, value.dtype) for name, value in tensors.items()} == {
        "codes": ((codes,), np.uint8),
        "scales": ((scales,), np.float32),
        "floats": ((floats,), np.float32),
    }
    assert size < sum(value.nbytes for value in tensors.values()) + 2000


@pytest.mark.parametrize("conv", CONVS)
def test_save_packs_a_network_that_is_not_quantized_in_float32(tmp_path, conv):
    model = trained(conv)
    save(tmp_path / "full.safetensors", model)
    network, _, _ = packed.load(tmp_path / "full.safetensors")
    kernels = by_kernel(network)
    for path, kernel in by_kernel(model.network).items():
        np.testing.assert_array_equal(kernels[path], kernel)
    expected = logits(model.network)
    np.testing.assert_allclose(logits(network), expected, atol=1e-5 * np.abs(expected).max())


def rounded(path, model, **rounding):
    """The bytes of a file, and the kernels in it."""
    packed.save(path, model.network, model.feature_config, model.alphabet, **rounding)
    kernels = {}
    for name, variable in named_variables(packed.load(path)[0]).items():
        if name.endswith("kernel"):
            kernels[name] = variable.numpy()
    return path.read_bytes(), kernels


def test_seed_decides_the_rounding_of_stochastic_quantizers_and_of_no_others(tmp_path):
    model = trained()
    quantize_kernels(model.network, 2, 16)
    nearest, _ = rounded(tmp_path / "file", model)
    assert rounded(tmp_path / "file", model, stochastic=True, seed=5)[0] == nearest
    quantize_kernels(model.network, 2, 16, stochastic=True)
    assert rounded(tmp_path / "file", model)[0] == nearest
    seeded = []
    for seed in (0, 1, 0):
        seeded.append(rounded(tmp_path / "file", model, stochastic=True, seed=seed)[0])
    assert seeded[0] == seeded[2]
    assert len({nearest, *seeded}) == 3
    assert len({len(data) for data in (nearest, *seeded)}) == 1


def test_stochastic_rounding_goes_to_a_level_around_and_is_right_on_average(tmp_path):
    """Levels worked out in float64, in buckets of 16: low + (high - low) k / 3."""
    model = trained()
    quantize_kernels(model.network, 2, 16, stochastic=True)
    runs = []
    for seed in range(40):
        runs.append(rounded(tmp_path / "file", model, stochastic=True, seed=seed)[1])
    for layer in model.network.layers:
        kernel = layer.kernel.numpy().astype(float).ravel()
        rounded_kernels = np.array([run[layer.kernel.path].ravel() for run in runs])
        for start in range(0, len(kernel), 16):
            values = kernel[start : start + 16]
            step = (values.max() - values.min()) / 3
            position = (values - values.min()) / step
            codes = (rounded_kernels[:, start : start + 16] - values.min()) / step
            np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
            assert np.all(np.abs(codes - position) < 1 + 1e-4)
            # Each has a deviation of at most half a step, the mean of the bucket over 40 runs of
            # much less.
            assert abs((codes - position).mean()) < 5 * 0.5 / np.sqrt(codes.size)


def test_stochastic_rounding_of_equal_kernels_is_not_equal(tmp_path):
    spec = ConvSpec((6, 6), (3, 3), (1, 1), (0.0, 0.0), input_channels=6, classes=5)
    network = ConvNet(spec)
    network.convolutions[1].kernel.assign(network.convolutions[0].kernel)
    quantize_kernels(network, 2, 16, stochastic=True)
    model = Model(network, FeatureConfig(n_mfcc=2), "ABCD")
    for stochastic, same in ((False, True), (True, False)):
        _, kernels = rounded(tmp_path / "file", model, stochastic=stochastic)
        assert np.array_equal(kernels["layer01/kernel"], kernels["layer02/kernel"]) == same


def test_save_leaves_the_model_as_it_was_and_can_be_repeated(tmp_path):
    model = trained()
    quantize_kernels(model.network, 3, 7)
    before = [variable.numpy() for variable in model.network.variables]
    for name in ("one", "two"):
        save(tmp_path / name, model)
    for variable, value in zip(model.network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_save_of_what_was_loaded_gives_the_same_bytes(tmp_path):
    model = trained()
    quantize_kernels(model.network, 3, 7)
    save(tmp_path / "one", model)
    network, feature_config, alphabet = packed.load(tmp_path / "one")
    quantize_kernels(network, 3, 7)
    packed.save(tmp_path / "two", network, feature_config, alphabet)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_load_names_a_file_that_was_cut_short(tmp_path, share):
    model = trained()
    path = tmp_path / "small.safetensors"
    quantize_kernels(model.network, 4)
    save(path, model)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(Error, match="small.safetensors: no packed model") as refused:
        packed.load(path)
    assert refused.value.path == path


def test_load_names_a_file_that_is_no_packed_model(tmp_path):
    text = "A text, and longer than the eight bytes of a header's length."
    (tmp_path / "notes.txt").write_text(text)
    tensors = {name: np.zeros(3, np.float32) for name in ("codes", "scales", "floats")}
    safetensors.numpy.save_file(tensors, tmp_path / "bare")
    safetensors.numpy.save_file(tensors, tmp_path / "other", {"format": "pt"})
    safetensors.numpy.save_file(tensors, tmp_path / "broken", {"model": "{"})
    safetensors.numpy.save_file({"weights": np.zeros(3)}, tmp_path / "unlike", {"model": "{}"})
    for name in ("notes.txt", "bare", "other", "broken", "unlike", "nowhere"):
        with pytest.raises(Error, match=f"{name}: no packed model"):
            packed.load(tmp_path / name)


def test_save_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    model = trained()
    path = tmp_path / "models" / "small.safetensors"
    quantize_kernels(model.network, 4)

    def half(file, content):
        with open(file, "wb") as opened:
            opened.write(content[:10])
        raise OSError("no space left")

    def save_half():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", half)
            with pytest.raises(OSError, match="no space left"):
                save(path, model)

    save_half()
    assert list(path.parent.iterdir()) == []
    save(path, model)
    data = path.read_bytes()
    save_half()
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == data


# Bad input.

PACKED = "packed.safetensors"  # of the fixture `workspace`


def repacked(change):
    """A packed file with other metadata or tensors, and a valid checksum."""

    def damage(workspace):
        path = workspace / PACKED
        with safe_open(path, "numpy") as file:
            metadata = json.loads(file.metadata()["model"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        del metadata[CHECKSUM_KEY]
        change(metadata, tensors)
        contents = [tensors[key] for key in ("codes", "scales", "floats")]
        header = {"model": json.dumps(with_checksum(metadata, *contents))}
        safetensors.numpy.save_file(tensors, path, header)
        yield path

    return damage


def packed_with(**changes):
    return repacked(lambda metadata, tensors: metadata.update(changes))


def packed_spec(**changes):
    return repacked(lambda metadata, tensors: metadata["spec"].update(changes))


def packed_kernel(**changes):
    def change(metadata, tensors):
        metadata["quantized"][0].update(changes)

    return repacked(change)


def packed_floats(function):
    """A packed file with function(its floats)."""
    return repacked(lambda metadata, tensors: tensors.update(floats=function(tensors["floats"])))


def without_a_spec(metadata, tensors):
    del metadata["spec"]


def with_other_features(metadata, tensors):
    metadata["features"].update(n_mfcc=12)


def safetensors_head(head, length=None):
    """A file of a hand-made head, which may lie about its length."""
    text = json.dumps(head).encode()
    if length is None:
        length = len(text)
    return content(PACKED, struct.pack("<Q", length) + text + bytes(64))


def codes_of(dtype, shape, end):
    """A head that tells of one tensor alone."""
    return safetensors_head({"codes": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}})


def load_file(workspace, path):
    models.load(path)


QUANTIZE = "`ltt quantize` writes one"
LAMBDA = {
    "class_name": "__lambda__",
    "config": {"code": "4wAAAA==", "defaults": None, "closure": None},
}
LAYER = {"class_name": "ReLU", "module": "keras.layers", "config": {}, "registered_name": None}
ONES = [1] * 10**5
MANY = {"filters": ONES, "widths": ONES, "strides": ONES, "dropouts": [0.0] * 10**5}
FEWER = {"filters": [4], "widths": [3], "strides": [2], "dropouts": [0.1]}
# fmt: off
BAD_PACKED = [
    ("packed cut", series(PACKED, cuts(40)), load_file, Error, QUANTIZE),
    ("packed flipped bits", series(PACKED, flips(50)), load_file, Error, QUANTIZE),
    ("packed wrong magic", content(PACKED, b"PK\3\4" * 50), load_file, Error, QUANTIZE),
    ("packed head of 2^60 bytes", safetensors_head({}, 2**60), load_file, Error, QUANTIZE),
    ("packed tensors of 2^40 values", codes_of("U8", [2**40], 2**40), load_file, Error, QUANTIZE),
    ("packed tensors of fewer bytes than values", codes_of("F32", [2**40], 64), load_file, Error,
     QUANTIZE),
    ("packed tensors of a negative shape", codes_of("U8", [-64], 64), load_file, Error, QUANTIZE),
    ("packed filters of 2^30", packed_spec(filters=[2**30, 5]), load_file, Error, QUANTIZE),
    ("packed filters of gigabytes", packed_spec(filters=[2**21, 5]), load_file, Error, QUANTIZE),
    ("packed filters below zero", packed_spec(filters=[-4, 5]), load_file, Error, QUANTIZE),
    ("packed width of 2^40", packed_spec(widths=[2**40, 3]), load_file, Error, QUANTIZE),
    ("packed filters are text", packed_spec(filters=["4", "5"]), load_file, Error, QUANTIZE),
    ("packed of a hundred thousand layers", packed_spec(**MANY), load_file, Error, QUANTIZE),
    ("packed of fewer layers", packed_spec(**FEWER), load_file, Error, QUANTIZE),
    ("packed of an unknown activation", packed_spec(activation="eval"), load_file, Error,
     QUANTIZE),
    ("packed of an object of Keras", packed_spec(activation=LAYER), load_file, Error, QUANTIZE),
    ("packed of a Keras lambda", packed_spec(activation=LAMBDA), load_file, Error, QUANTIZE),
    ("packed 0 bits", packed_kernel(bits=0), load_file, Error, QUANTIZE),
    ("packed 99 bits", packed_kernel(bits=99), load_file, Error, QUANTIZE),
    ("packed -1 bits", packed_kernel(bits=-1), load_file, Error, QUANTIZE),
    ("packed buckets of 0", packed_kernel(bucket_size=0), load_file, Error, QUANTIZE),
    ("packed buckets below zero", packed_kernel(bucket_size=-16), load_file, Error, QUANTIZE),
    ("packed buckets of 2^30", packed_kernel(bucket_size=2**30), load_file, Error, QUANTIZE),
    ("packed buckets of text", packed_kernel(bucket_size="16"), load_file, Error, QUANTIZE),
    ("packed levels that are not there", packed_kernel(learned=True), load_file, Error, QUANTIZE),
    ("packed classes of another alphabet", packed_with(alphabet="AB"), load_file, Error, QUANTIZE),
    ("packed letters that stand twice", packed_with(alphabet="A" * 28), load_file, Error,
     QUANTIZE),
    ("packed features of other channels", repacked(with_other_features), load_file, Error,
     QUANTIZE),
    ("packed without a spec", repacked(without_a_spec), load_file, Error, QUANTIZE),
    ("packed floats of another type", packed_floats(np.int32), load_file, Error, QUANTIZE),
    ("packed floats too few", packed_floats(lambda floats: floats[:-1]), load_file, Error,
     QUANTIZE),
    ("packed floats too many", packed_floats(lambda floats: np.tile(floats, 2)), load_file, Error,
     QUANTIZE),
]
# fmt: on


@rows(BAD_PACKED)
def test_damaged_packed_file_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_packed_file_that_is_whole_is_loaded(workspace):
    models.load(workspace / PACKED)


def test_packed_file_from_before_there_were_checksums_is_loaded(workspace):
    path = workspace / PACKED
    with safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["model"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    del metadata[CHECKSUM_KEY]
    safetensors.numpy.save_file(tensors, path, {"model": json.dumps(metadata)})
    models.load(path)
