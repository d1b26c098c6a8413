"""Guidance: what is stored of a teacher, how exactly, for whom, and that each utterance gets its own."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import soundfile
import tensorflow as tf
from safetensors import safe_open

from lttlib import models
from lttlib.features import FeatureConfig, Records, extract, load_audio, write_records
from lttlib.files import with_checksum
from lttlib.models import Model, read_card
from lttlib.network import ConvNet, ConvSpec, guided_layers, output_lengths
from lttlib.speech import Utterance, text
from lttlib.training import Guidance, soft_targets, write_guidance

FEATURES = FeatureConfig(sampling_rate=8000, window_ms=20.0, frame_shift_ms=20.0, n_mels=20)
SPEC = ConvSpec((8, 6), (5, 3), (2, 1), (0.1, 0.1), "gated_conv", input_channels=39)
STEP, FLOOR = 1 / 8, 255 / 8  # nats: between two 8-bit log-probabilities, and the least of them
SPEEDS = (1.0, 0.9)


def spoken(folder, numbers):
    """Utterances of noise, 0.4 to 1.4 s each."""
    utterances = []
    for number in numbers:
        random = np.random.default_rng(number)
        path = folder / f"u{number:02d}.flac"
        soundfile.write(path, random.normal(scale=0.1, size=random.integers(3200, 11200)), 8000)
        utterances.append(Utterance(path.stem, "1", "train", path, "ONE"))
    return utterances


def teacher(folder, seed=0, spec=SPEC, features=FEATURES, alphabet=text.ALPHABET):
    """A network that says something else in each frame."""
    network = ConvNet(spec, seed)
    for variable in (network.output_layer.kernel, network.output_layer.bias):
        variable.assign(3 * np.random.default_rng(seed).normal(size=variable.shape))
    models.save(folder, Model(network, features, alphabet))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """12 utterances at two speeds in shards of 8, a teacher, and what it says about them, exactly."""
    folder = tmp_path_factory.mktemp("made")
    utterances = spoken(folder, range(12))
    write_records(utterances, folder / "records", FEATURES, speeds=SPEEDS, cores=1, shard_size=8)
    opened = Records(folder / "records")
    done = write_guidance(
        opened,
        models.load_teacher(teacher(folder / "teacher")),
        folder / "said",
        encoding="float32",
    )
    return utterances, opened, folder / "teacher", folder / "said", done


@pytest.fixture(scope="module")
def hints(made, tmp_path_factory):
    """The activations after the teacher's first layer."""
    folder = tmp_path_factory.mktemp("hints")
    write_guidance(made[1], models.load_teacher(made[2]), folder, 1, "float32", batch_size=5)
    return folder


@pytest.fixture(scope="module")
def halves(made, tmp_path_factory):
    """What the teacher says in float16."""
    folder = tmp_path_factory.mktemp("halves")
    write_guidance(made[1], models.load_teacher(made[2]), folder)
    return folder


@pytest.fixture(scope="module")
def other(made, tmp_path_factory):
    """Another teacher, and what it says in float16."""
    folder = tmp_path_factory.mktemp("other")
    write_guidance(made[1], models.load_teacher(teacher(folder / "other", seed=1)), folder / "said")
    return folder / "other", folder / "said"


@pytest.fixture(scope="module")
def alone(made):
    """What the teacher says of each utterance alone, from the sound on: {id: (activations of layer 1, logits)}."""
    utterances, _, folder, _, _ = made
    network, said = models.load(folder).network, {}
    for utterance in utterances:
        for speed in SPEEDS:
            features = extract(load_audio(utterance.audio, 8000, speed), FEATURES)[None]
            name = utterance.id if speed == 1 else f"{utterance.id}@{speed}"
            said[name] = [
                network(features, tf.constant([features.shape[1]]), up_to=n)[0][0].numpy()
                for n in (1, None)
            ]
    assert len({len(logits) for _, logits in said.values()}) > 5
    return said


def content(folder):
    """Every file of a folder: what stands at its head and what it holds."""
    files = {}
    for path in folder.iterdir():
        with safe_open(path, "numpy") as file:
            files[path.name] = (
                json.loads(file.metadata()["guidance"]),
                {key: file.get_tensor(key).tobytes() for key in file.keys()},
            )
    return files


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# What is stored of one utterance


def some_logits(channels=29, scale=4.0):
    return (
        np.random.default_rng(channels).normal(scale=scale, size=(50, channels)).astype(np.float32)
    )


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def there_and_back(values, form):
    restored = soft_targets.decode(soft_targets.encode(values, form), values.shape[1], form)
    assert restored.dtype == np.float32 and restored.shape == values.shape
    return restored


@pytest.mark.parametrize("channels", [1, 29, 300])
def test_float32_is_exact(channels):
    values = some_logits(channels, scale=1e4)
    np.testing.assert_array_equal(there_and_back(values, "float32"), values)
    np.testing.assert_array_equal(there_and_back(values[::-1, ::-1], "float32"), values[::-1, ::-1])


def test_float16_keeps_eleven_bits():
    values = some_logits()
    np.testing.assert_allclose(there_and_back(values, "float16"), values, rtol=2**-11, atol=2**-25)


def test_log8_is_within_half_a_step_down_to_its_floor():
    values = some_logits(scale=12.0)
    exact, restored = log_softmax(values), there_and_back(values, "log8")
    above = exact > -FLOOR
    assert 100 < above.sum() < above.size - 100
    np.testing.assert_allclose(restored[above], exact[above], atol=STEP / 2 + 1e-5)
    np.testing.assert_allclose(restored[~above], -FLOOR, atol=1e-5)


def test_top4_keeps_the_four_largest_and_shares_out_the_rest():
    values = some_logits(scale=2.0)
    values[:10, 20:] = values[:10, :1] + np.linspace(
        5, 5.02, 9, dtype=np.float32
    )  # closer than a step of 8 bits
    exact, restored = log_softmax(values), there_and_back(values, "top4")
    best = np.argsort(-values, axis=1)[:, :4]
    kept = np.zeros(values.shape, bool)
    np.put_along_axis(kept, best, True, axis=1)
    np.testing.assert_allclose(restored[kept], exact[kept], atol=STEP / 2 + 1e-5)
    others = restored[~kept].reshape(50, -1)
    assert np.all(others == others[:, :1])
    left = np.log(np.exp(exact).sum(axis=1, where=~kept))
    np.testing.assert_allclose(others[:, 0] + np.log(25), left, atol=STEP / 2 + 1e-5)
    total = np.exp(restored).sum(axis=1)
    assert np.exp(-STEP / 2) < total.min() and total.max() < np.exp(STEP / 2)


def test_top4_of_a_teacher_that_is_sure():
    values = np.zeros((3, 29), np.float32)
    values[:, 7] = 200
    restored = there_and_back(values, "top4")
    assert np.all(restored[:, 7] == 0) and np.isfinite(restored).all()
    np.testing.assert_allclose(np.exp(restored).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.filterwarnings("error")
def test_top4_keeps_all_of_a_small_alphabet(channels):
    values = some_logits(channels, scale=1.0)
    np.testing.assert_allclose(
        there_and_back(values, "top4"), log_softmax(values), atol=STEP / 2 + 1e-5
    )


def test_each_form_is_smaller_than_the_one_before():
    sizes = [len(soft_targets.encode(some_logits(), form)) for form in soft_targets.ENCODINGS]
    assert sizes == sorted(sizes, reverse=True) and sizes[3] < 0.2 * sizes[0]


def test_what_does_not_fit_a_form_is_refused():
    values = some_logits()
    values[3, 5] = -70000
    with pytest.raises(soft_targets.GuidanceError, match="7e[+]04.*float16.*float32"):
        soft_targets.encode(values, "float16")
    np.testing.assert_array_equal(there_and_back(values, "float32"), values)
    for bad in (np.nan, np.inf):
        values[3, 5] = bad
        for form in soft_targets.ENCODINGS:
            with pytest.raises(soft_targets.GuidanceError, match="finite"):
                soft_targets.encode(values, form)


# Writing and reading


@pytest.mark.parametrize("layer", [None, 1])
def test_what_is_read_is_what_the_teacher_says_of_each_utterance_alone(made, hints, alone, layer):
    _, _, folder, said, _ = made
    stored = Guidance(hints if layer else said, models.load_teacher(folder))
    assert (stored.layer, stored.encoding, stored.channels) == (
        layer,
        "float32",
        8 if layer else 29,
    )
    assert stored.teacher == read_card(folder)["fingerprint"]
    assert set(stored.paths) == set(alone) and "u03@0.9" in alone
    for name, expected in alone.items():
        expected = expected[0 if layer else 1]
        assert stored.frames[name] == len(expected)
        np.testing.assert_allclose(stored.read(name), expected, atol=1e-4)


@pytest.mark.parametrize("form", ["float16", "log8", "top4"])
def test_a_form_is_read_as_it_was_written(made, halves, alone, tmp_path, form):
    _, opened, folder, said, _ = made
    opened = opened.filter(lambda entry: entry.id < "u04")
    where = halves if form == "float16" else tmp_path
    write_guidance(opened, models.load_teacher(folder), where, encoding=form)
    stored, exact = Guidance(where), Guidance(said)
    for entry in opened.entries:
        np.testing.assert_array_equal(
            stored.read(entry.id), there_and_back(exact.read(entry.id), form)
        )


def test_what_was_written_is_counted_and_a_second_write_makes_no_file(made):
    _, opened, folder, said, done = made
    before = times(said)
    assert done["utterances"] == 24 and done["files_made"] == len(before) == 3
    assert done["frames"] == sum(output_lengths(SPEC, entry.frames) for entry in opened.entries)
    assert done["bytes"] == sum(path.stat().st_size for path in said.iterdir())
    assert write_guidance(opened, models.load_teacher(folder), said, encoding="float32") == done | {
        "files_made": 0
    }
    assert times(said) == before


@pytest.mark.parametrize("change", ["teacher", "form", "layer"])
def test_another_teacher_form_or_layer_makes_all_anew(made, halves, hints, other, tmp_path, change):
    _, opened, folder, said, _ = made
    (deaf, fresh), hint = other, {"layer": 1, "encoding": "float32"}
    teacher, fresh, how = {
        "teacher": (deaf, fresh, {}),
        "encoding": (folder, halves, {}),
        "layer": (folder, hints, hint),
    }[change]
    shutil.copytree(halves if change == "teacher" else said, tmp_path / "said")
    assert (
        write_guidance(opened, models.load_teacher(teacher), tmp_path / "said", **how)["files_made"]
        == 3
    )
    after = times(tmp_path / "said")
    assert (
        write_guidance(opened, models.load_teacher(teacher), tmp_path / "said", **how)["files_made"]
        == 0
    )
    assert times(tmp_path / "said") == after
    ours, theirs = Guidance(tmp_path / "said", models.load_teacher(teacher)), Guidance(fresh)
    assert (
        set(after) == set(times(fresh))
        and ours.layer == theirs.layer
        and ours.encoding == theirs.encoding
    )
    for entry in opened.entries:
        np.testing.assert_allclose(ours.read(entry.id), theirs.read(entry.id), rtol=1e-3, atol=1e-4)


def test_changed_records_make_their_shards_anew_and_leave_no_stale_file(tmp_path):
    folder = teacher(tmp_path / "teacher")
    utterances = spoken(tmp_path, range(4))

    def made(utterances):
        write_records(utterances, tmp_path / "records", FEATURES, cores=1, shard_size=2)
        opened = Records(tmp_path / "records")
        done = write_guidance(opened, models.load_teacher(folder), tmp_path / "said")
        assert set(times(tmp_path / "said")) == {
            f"{name[:16]}.safetensors" for name in opened.provenance
        }
        Guidance(tmp_path / "said").join(opened, SPEC)
        return done["files_made"]

    assert made(utterances) == 2
    assert made([replace(utterances[0], text="TWO"), *utterances[1:]]) == 1
    assert made(utterances[:2]) == 1 and len(times(tmp_path / "said")) == 1


def test_more_of_the_same_records_makes_what_is_missing(made, tmp_path):
    _, opened, folder, said, _ = made
    few = opened.filter(lambda entry: entry.id != "u03")
    shutil.copytree(said, tmp_path / "said")
    done = write_guidance(few, models.load_teacher(folder), tmp_path / "said", encoding="float32")
    assert (done["files_made"], done["utterances"]) == (0, 23)
    path = Guidance(said).paths["u03"]
    (metadata, tensors) = content(said)[path.name]
    del metadata["utterances"]["u03"], metadata["crc32"], tensors["u03"]
    tensors = {key: np.frombuffer(value, np.uint8) for key, value in tensors.items()}
    told = {"guidance": json.dumps(with_checksum(metadata))}
    safetensors.numpy.save_file(tensors, tmp_path / "said" / path.name, told)
    assert (
        write_guidance(few, models.load_teacher(folder), tmp_path / "said", encoding="float32")[
            "files_made"
        ]
        == 0
    )
    assert (
        write_guidance(opened, models.load_teacher(folder), tmp_path / "said", encoding="float32")[
            "files_made"
        ]
        == 1
    )
    assert set(content(tmp_path / "said")[path.name][1]) == set(content(said)[path.name][1])


class Killed(Exception):
    pass


def dying(monkeypatch, after):
    """Let the writing die after so many utterances."""
    compress, count = soft_targets.encode, iter(range(1000))

    def compress_or_die(*arguments):
        if next(count) == after:
            raise Killed
        return compress(*arguments)

    monkeypatch.setattr(soft_targets, "encode", compress_or_die)


def test_a_write_that_fails_midway_leaves_nothing_half_written(made, tmp_path, monkeypatch):
    _, opened, folder, said, _ = made
    with monkeypatch.context() as patch, pytest.raises(Killed):
        dying(patch, after=12)
        write_guidance(opened, models.load_teacher(folder), tmp_path / "said", encoding="float32")
    left, whole = content(tmp_path / "said"), content(said)
    assert len(left) == 1 and left == {name: whole[name] for name in left}
    with pytest.raises(soft_targets.GuidanceError, match="no guidance for u"):
        Guidance(tmp_path / "said").join(opened, SPEC)
    assert (
        write_guidance(opened, models.load_teacher(folder), tmp_path / "said", encoding="float32")[
            "files_made"
        ]
        == 2
    )
    assert content(tmp_path / "said") == whole


def test_a_rewrite_that_fails_midway_does_not_pass_for_either_teacher(
    made, halves, other, tmp_path, monkeypatch
):
    _, opened, folder, _, _ = made
    shutil.copytree(halves, tmp_path / "said")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        dying(patch, after=12)
        write_guidance(opened, models.load_teacher(other[0]), tmp_path / "said")
    assert len(times(tmp_path / "said")) == 3
    with pytest.raises(soft_targets.GuidanceError, match="said: guidance of different kinds"):
        Guidance(tmp_path / "said")
    assert write_guidance(opened, models.load_teacher(folder), tmp_path / "said")["files_made"] == 1
    Guidance(tmp_path / "said", models.load_teacher(folder))


@pytest.mark.parametrize(
    "how, message",
    [
        ({"encoding": "float8"}, "unknown encoding 'float8'.*float32, float16, log8, top4"),
        ({"encoding": "log8", "layer": 1}, "unknown encoding 'log8'.*float32, float16$"),
        ({"layer": 3}, "layer 3.*teacher has layers 1 to 2"),
        ({"layer": 0}, "layer 0.*teacher has layers 1 to 2"),
    ],
)
def test_an_unknown_form_or_layer_is_refused_before_anything_is_written(
    made, tmp_path, how, message
):
    _, opened, folder, _, _ = made
    with pytest.raises(ValueError, match=message):
        write_guidance(opened, models.load_teacher(folder), tmp_path / "said", **how)
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize(
    "other", [{"features": replace(FEATURES, n_mels=21)}, {"alphabet": text.ALPHABET[::-1]}]
)
def test_a_teacher_of_other_features_or_another_alphabet_is_refused(made, tmp_path, other):
    _, opened, folder, _, _ = made
    deaf = teacher(tmp_path / "deaf", **other)
    theirs = re.escape(repr(*other.values()))
    with pytest.raises(
        soft_targets.GuidanceError, match=f"deaf hears .*{theirs}.*the records hold"
    ):
        write_guidance(opened, models.load_teacher(deaf), tmp_path / "said")
    assert not (tmp_path / "said").exists()


# Joining


def check_rows(dataset, name, expected):
    """Each row of each batch holds what the teacher says of just that utterance, then zeros; give back the ids."""
    seen = []
    for batch in dataset:
        assert batch[name].dtype == tf.float32
        frames = output_lengths(SPEC, batch["features"].shape[1])
        assert batch[name].shape == (len(batch["id"]), frames, dataset.element_spec[name].shape[-1])
        for row, key in zip(batch[name].numpy(), batch["id"].numpy(), strict=True):
            own = expected[key.decode()]
            np.testing.assert_allclose(row[: len(own)], own, atol=1e-4)
            assert not row[len(own) :].any()
            seen.append(key.decode())
    return seen


def test_every_row_of_every_shuffled_batch_holds_the_logits_of_its_own_utterance(made, alone):
    _, opened, folder, said, _ = made
    expected = {name: logits for name, (_, logits) in alone.items()}
    firsts = [logits[0].round(2).tobytes() for logits in expected.values()]
    assert len(set(firsts)) == len(firsts), "the test needs utterances that can be told apart"
    joined = Guidance(said, models.load_teacher(folder)).join(opened, replace(SPEC, filters=(4, 4)))
    orders = [check_rows(joined.batches(5), "teacher_logits", expected)]
    for epoch in range(3):
        orders.append(
            check_rows(joined.batches(5, seed=1, epoch=epoch), "teacher_logits", expected)
        )
    assert len(set(map(tuple, orders))) == 4 and all(
        sorted(order) == sorted(expected) for order in orders
    )
    some = joined.filter(lambda entry: entry.id > "u05")  # u05@0.9 comes after it
    assert len(check_rows(some.batches(4, seed=0), "teacher_logits", expected)) == 13


def test_hints_and_logits_can_stand_in_the_same_batch(made, hints, alone):
    _, opened, folder, said, _ = made
    both = Guidance(hints, models.load_teacher(folder)).join(
        Guidance(said, models.load_teacher(folder)).join(opened, SPEC), guided_layers(SPEC, 1, 8)
    )
    for name, which in (("hints", 0), ("teacher_logits", 1)):
        check_rows(
            both.batches(5, seed=1), name, {key: values[which] for key, values in alone.items()}
        )
    assert "hints" not in opened.batches(5).element_spec


def test_joined_records_tell_whose_guidance_they_hold(made, halves, hints, other):
    """By this a checkpoint knows that it is of a training with other guidance."""
    _, opened, _, said, _ = made
    joined = [Guidance(where).join(opened, SPEC) for where in (said, halves, hints, other[1])]
    assert len({tuple(records.provenance) for records in (opened, *joined)}) == 5


def test_a_student_whose_frames_are_not_the_teachers_is_refused(made):
    _, opened, folder, said, _ = made
    name = opened.entries[0].id
    with pytest.raises(
        soft_targets.GuidanceError,
        match=rf"{name}: \d+ frames of the teacher, \d+ of the student.*\(2, 2\)",
    ):
        Guidance(said, models.load_teacher(folder)).join(opened, replace(SPEC, strides=(2, 2)))
    Guidance(said, models.load_teacher(folder)).join(opened, replace(SPEC, strides=(1, 2)))


def test_an_utterance_without_guidance_is_named(made, tmp_path):
    _, opened, folder, _, _ = made
    few = opened.filter(lambda entry: entry.id in ("u06", "u06@0.9"))
    write_guidance(
        few.filter(lambda entry: entry.id != "u06@0.9"),
        models.load_teacher(folder),
        tmp_path / "said",
    )
    stored = Guidance(tmp_path / "said")
    with pytest.raises(soft_targets.GuidanceError, match="said: no guidance for u06@0.9.*again"):
        stored.join(few, SPEC)
    with pytest.raises(soft_targets.GuidanceError, match="said: no guidance for u06@0.9.*again"):
        stored.read("u06@0.9")
    stored.join(few.filter(lambda entry: entry.id != "u06@0.9"), SPEC)


@pytest.mark.parametrize("change", [{"features": replace(FEATURES, n_mfcc=12)}, {"number": 99}])
def test_guidance_of_other_records_is_refused(made, tmp_path, change):
    """Of the same ids and frames, but of other features or another sound."""
    utterances, _, folder, said, _ = made
    if "number" in change:
        frames = soundfile.info(utterances[0].audio).frames
        soundfile.write(
            tmp_path / "new.flac", np.random.default_rng(99).normal(scale=0.1, size=frames), 8000
        )
        utterances = [replace(utterances[0], audio=tmp_path / "new.flac"), *utterances[1:]]
    write_records(
        utterances,
        tmp_path / "r",
        change.get("features", FEATURES),
        speeds=SPEEDS,
        cores=1,
        shard_size=8,
    )
    with pytest.raises(soft_targets.GuidanceError, match="said: .* u.* is of other records"):
        Guidance(said, models.load_teacher(folder)).join(Records(tmp_path / "r"), SPEC)


def test_guidance_of_another_teacher_is_refused(made, other):
    with pytest.raises(soft_targets.GuidanceError, match="said: this is not what .*other says"):
        Guidance(made[3], models.load_teacher(other[0]))


def test_a_folder_without_guidance_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        with pytest.raises(soft_targets.GuidanceError, match=f"{name}: no guidance here.*03"):
            Guidance(tmp_path / name)


def test_a_folder_of_different_kinds_is_refused(made, halves, tmp_path):
    path = next(made[3].iterdir())
    for name in ("form", "foreign"):
        shutil.copytree(halves, tmp_path / name)
    shutil.copy(path, tmp_path / "form" / path.name)
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "foreign" / "a.safetensors")
    with pytest.raises(soft_targets.GuidanceError, match="form: .*different kinds.*again"):
        Guidance(tmp_path / "form")
    with pytest.raises(
        soft_targets.GuidanceError, match="foreign/a.safetensors is no guidance.*again"
    ):
        Guidance(tmp_path / "foreign")


def test_what_stands_in_a_file_says_whose_it_is(made):
    _, opened, folder, said, _ = made
    for (_, part), (metadata, tensors) in zip(
        sorted(opened.split_by_shard(), key=lambda pair: pair[0]), [content(said)[name] for name in sorted(times(said))],
        strict=True,
    ):  # fmt: skip
        assert (
            metadata["teacher"] == read_card(folder)["fingerprint"]
            and metadata["form"] == "float32"
        )
        assert set(metadata["utterances"]) == set(tensors) == {entry.id for entry in part.entries}
