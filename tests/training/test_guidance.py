"""Guidance: for whom it is, that each utterance gets its own, and that damage is noticed."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import soundfile
import tensorflow as tf
from builders import TONES_FEATURES, WORKSPACE_SPEC, noise_wave
from damage import assert_refused, cuts, flips, rows, series
from safetensors import safe_open

from lttlib import Error, models
from lttlib.features import Records, RecordsError, extract, load_audio, write_records
from lttlib.features.examples import add_surroundings
from lttlib.files import checksum, with_checksum
from lttlib.models import Model, read_card
from lttlib.network import ConvNet, ConvSpec, guided_layers, output_lengths
from lttlib.speech import Utterance, text
from lttlib.training import Guidance, GuidanceError, guidance, soft_targets, write_guidance

SPEC = ConvSpec((8, 6), (5, 3), (2, 1), (0.1, 0.1), "gated_conv", input_channels=39)
SPEEDS = (1.0, 0.9)


def noise_utterances(folder, numbers):
    """Utterances of noise, 0.4 to 1.4 s each."""
    utterances = []
    for number in numbers:
        random = np.random.default_rng(number)
        path = folder / f"u{number:02d}.flac"
        soundfile.write(path, noise_wave(random.uniform(0.4, 1.4), number), 8000)
        utterances.append(Utterance(path.stem, "1", "train", path, "ONE"))
    return utterances


def save_teacher(folder, seed=0, feature_config=TONES_FEATURES, alphabet=text.ALPHABET):
    """A network whose output is different in each frame, as a model folder and opened."""
    network = ConvNet(SPEC, seed)
    for variable in (network.output_layer.kernel, network.output_layer.bias):
        random = np.random.default_rng(seed)
        variable.assign(3 * random.normal(size=variable.shape))
    models.save(folder, Model(network, feature_config, alphabet))
    return models.load_teacher(folder)


@dataclass
class Example:
    """Records and a teacher, and its logits in float32."""

    utterances: list
    records: Records
    teacher_folder: Path
    folder: Path
    result: dict

    @property
    def teacher(self):
        return models.load_teacher(self.teacher_folder)

    def write(self, folder, records=None, **options):
        """Write guidance of the teacher for these records, or some of them."""
        return write_guidance(records or self.records, self.teacher, folder, **options)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """12 utterances at two speeds in shards of 8, a teacher, and its exact guidance."""
    folder = tmp_path_factory.mktemp("example")
    utterances = noise_utterances(folder, range(12))
    write_records(
        utterances, folder / "records", TONES_FEATURES, speeds=SPEEDS, cores=1, shard_size=8
    )
    records = Records(folder / "records")
    teacher = save_teacher(folder / "teacher")
    result = write_guidance(records, teacher, folder / "logits", encoding="float32")
    return Example(utterances, records, folder / "teacher", folder / "logits", result)


@pytest.fixture(scope="module")
def hints(example, tmp_path_factory):
    """The activations after the teacher's first layer."""
    folder = tmp_path_factory.mktemp("hints")
    example.write(folder, layer=1, encoding="float32", batch_size=5)
    return folder


@pytest.fixture(scope="module")
def halves(example, tmp_path_factory):
    """The teacher's logits in float16."""
    folder = tmp_path_factory.mktemp("halves")
    example.write(folder)
    return folder


@pytest.fixture(scope="module")
def other(example, tmp_path_factory):
    """Another teacher, and its logits in float16."""
    folder = tmp_path_factory.mktemp("other")
    teacher = save_teacher(folder / "other", seed=1)
    write_guidance(example.records, teacher, folder / "logits")
    return teacher, folder / "logits"


@pytest.fixture(scope="module")
def alone(example):
    """The teacher's outputs for each utterance alone, from the sound on, by id: (hints, logits)."""
    network = example.teacher.network
    outputs = {}
    for utterance in example.utterances:
        for speed in SPEEDS:
            name = utterance.id if speed == 1 else f"{utterance.id}@{speed}"
            wave = load_audio(utterance.audio, 8000, speed)
            if speed != 1:
                wave = add_surroundings(wave, 8000, checksum(name.encode()))
            features = extract(wave, TONES_FEATURES)[None]
            lengths = tf.constant([features.shape[1]])
            hints, _ = network(features, lengths, up_to=1)
            logits, _ = network(features, lengths)
            outputs[name] = hints[0].numpy(), logits[0].numpy()
    assert len({len(logits) for _, logits in outputs.values()}) > 5
    return outputs


def decoded(values, encoding):
    """The values, encoded and decoded."""
    encoded = soft_targets.encode(values, encoding)
    return soft_targets.decode(encoded, values.shape[1], encoding)


def read_file(path):
    """Metadata of a file of guidance, and the bytes of its entries."""
    with safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["guidance"])
        return metadata, {key: file.get_tensor(key).tobytes() for key in file.keys()}


def contents(folder):
    """What is in every file of a folder."""
    return {path.name: read_file(path) for path in folder.iterdir()}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# Writing and reading


@pytest.mark.parametrize("layer", [None, 1])
def test_guidance_is_what_the_teacher_gives_for_each_utterance_alone(example, hints, alone, layer):
    stored = Guidance(hints if layer else example.folder, example.teacher)
    channels = 8 if layer else 29
    assert (stored.layer, stored.encoding, stored.channels) == (layer, "float32", channels)
    assert stored.teacher == read_card(example.teacher_folder)["fingerprint"]
    assert set(stored.paths) == set(alone) and "u03@0.9" in alone
    for name, (activations, logits) in alone.items():
        expected = activations if layer else logits
        assert stored.frames[name] == len(expected)
        np.testing.assert_allclose(stored.read(name), expected, atol=1e-4)


@pytest.mark.parametrize("encoding", ["float16", "log8", "top4"])
def test_guidance_is_read_as_it_was_encoded(example, halves, tmp_path, encoding):
    records = example.records.filter(lambda entry: entry.id < "u04")
    folder = halves if encoding == "float16" else tmp_path
    example.write(folder, records, encoding=encoding)
    stored = Guidance(folder)
    exact = Guidance(example.folder)
    for entry in records.entries:
        expected = decoded(exact.read(entry.id), encoding)
        np.testing.assert_array_equal(stored.read(entry.id), expected)


def test_write_guidance_counts_what_it_wrote_and_makes_no_file_twice(example):
    before = times(example.folder)
    result = example.result
    frames = [output_lengths(SPEC, entry.frames) for entry in example.records.entries]
    assert result["utterances"] == 24 and result["files_made"] == len(before) == 3
    assert result["frames"] == sum(frames)
    assert result["bytes"] == sum(path.stat().st_size for path in example.folder.iterdir())
    again = example.write(example.folder, encoding="float32")
    assert again == result | {"files_made": 0}
    assert times(example.folder) == before


@pytest.mark.parametrize("change", ["teacher", "encoding", "layer"])
def test_write_guidance_of_another_teacher_encoding_or_layer_makes_all_anew(
    example, halves, hints, other, tmp_path, change
):
    other_teacher, others = other
    teacher, expected, options = {
        "teacher": (other_teacher, others, {}),
        "encoding": (example.teacher, halves, {}),
        "layer": (example.teacher, hints, {"layer": 1, "encoding": "float32"}),
    }[change]
    folder = tmp_path / "logits"
    shutil.copytree(halves if change == "teacher" else example.folder, folder)
    assert write_guidance(example.records, teacher, folder, **options)["files_made"] == 3
    after = times(folder)
    assert write_guidance(example.records, teacher, folder, **options)["files_made"] == 0
    assert times(folder) == after

    ours = Guidance(folder, teacher)
    theirs = Guidance(expected)
    assert set(after) == set(times(expected))
    assert ours.layer == theirs.layer and ours.encoding == theirs.encoding
    for entry in example.records.entries:
        name = entry.id
        np.testing.assert_allclose(ours.read(name), theirs.read(name), rtol=1e-3, atol=1e-4)


def test_write_guidance_of_changed_records_makes_their_shards_anew_and_leaves_no_stale_file(
    tmp_path,
):
    teacher = save_teacher(tmp_path / "teacher")
    utterances = noise_utterances(tmp_path, range(4))
    folder = tmp_path / "logits"

    def files_made(utterances):
        write_records(utterances, tmp_path / "records", TONES_FEATURES, cores=1, shard_size=2)
        records = Records(tmp_path / "records")
        result = write_guidance(records, teacher, folder)
        assert set(times(folder)) == {f"{name[:16]}.safetensors" for name in records.provenance}
        Guidance(folder).join(records, SPEC)
        return result["files_made"]

    assert files_made(utterances) == 2
    assert files_made([replace(utterances[0], text="TWO"), *utterances[1:]]) == 1
    assert files_made(utterances[:2]) == 1 and len(times(folder)) == 1


def test_write_guidance_of_more_of_the_same_records_makes_what_is_missing(example, tmp_path):
    fewer = example.records.filter(lambda entry: entry.id != "u03")
    folder = tmp_path / "logits"
    shutil.copytree(example.folder, folder)
    result = example.write(folder, fewer, encoding="float32")
    assert (result["files_made"], result["utterances"]) == (0, 23)

    # A file without one utterance will do for all others.
    path = folder / Guidance(example.folder).paths["u03"].name
    metadata, encoded = read_file(path)
    del metadata["utterances"]["u03"], metadata["crc32"], encoded["u03"]
    tensors = {key: np.frombuffer(value, np.uint8) for key, value in encoded.items()}
    header = {"guidance": json.dumps(with_checksum(metadata))}
    safetensors.numpy.save_file(tensors, path, header)
    assert example.write(folder, fewer, encoding="float32")["files_made"] == 0
    assert example.write(folder, encoding="float32")["files_made"] == 1
    _, mended = read_file(path)
    _, expected = read_file(example.folder / path.name)
    assert set(mended) == set(expected)


class Killed(Exception):
    pass


def die_after(monkeypatch, utterances):
    """Let the writing die after so many utterances."""
    encode = soft_targets.encode
    count = iter(range(1000))

    def encode_or_die(*arguments):
        if next(count) == utterances:
            raise Killed
        return encode(*arguments)

    monkeypatch.setattr(guidance, "encode", encode_or_die)


def test_write_guidance_that_fails_midway_leaves_nothing_half_written(
    example, tmp_path, monkeypatch
):
    folder = tmp_path / "logits"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 12)
        example.write(folder, encoding="float32")
    partial = contents(folder)
    expected = contents(example.folder)
    assert len(partial) == 1 and partial == {name: expected[name] for name in partial}
    with pytest.raises(GuidanceError, match="no guidance for u"):
        Guidance(folder).join(example.records, SPEC)
    assert example.write(folder, encoding="float32")["files_made"] == 2
    assert contents(folder) == expected


def test_guidance_of_a_rewrite_that_failed_midway_does_not_pass_for_either_teacher(
    example, halves, other, tmp_path, monkeypatch
):
    folder = tmp_path / "logits"
    shutil.copytree(halves, folder)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 12)
        write_guidance(example.records, other[0], folder)
    assert len(times(folder)) == 3
    with pytest.raises(GuidanceError, match="logits: guidance of different kinds"):
        Guidance(folder)
    assert example.write(folder)["files_made"] == 1
    Guidance(folder, example.teacher)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"encoding": "float8"}, "unknown encoding 'float8'.*float32, float16, log8, top4"),
        ({"encoding": "log8", "layer": 1}, "unknown encoding 'log8'.*float32, float16$"),
        ({"layer": 3}, "layer 3.*teacher has layers 1 to 2"),
        ({"layer": 0}, "layer 0.*teacher has layers 1 to 2"),
    ],
)
def test_write_guidance_refuses_an_unknown_encoding_or_layer_before_anything_is_written(
    example, tmp_path, options, message
):
    with pytest.raises(Error, match=message):
        example.write(tmp_path / "logits", **options)
    assert not (tmp_path / "logits").exists()


@pytest.mark.parametrize(
    "other",
    [{"feature_config": replace(TONES_FEATURES, n_mels=21)}, {"alphabet": text.ALPHABET[::-1]}],
)
def test_write_guidance_refuses_a_teacher_of_other_features_or_another_alphabet(
    example, tmp_path, other
):
    teacher = save_teacher(tmp_path / "stranger", **other)
    theirs = re.escape(repr(*other.values()))
    with pytest.raises(GuidanceError, match=f"stranger takes .*{theirs}.*the records hold"):
        write_guidance(example.records, teacher, tmp_path / "logits")
    assert not (tmp_path / "logits").exists()


# Joining


def check_rows(dataset, name, expected):
    """Assert that each row holds its own utterance's guidance, then zeros; return the ids."""
    ids = []
    for batch in dataset:
        assert batch[name].dtype == tf.float32
        frames = output_lengths(SPEC, batch["features"].shape[1])
        channels = dataset.element_spec[name].shape[-1]
        assert batch[name].shape == (len(batch["id"]), frames, channels)
        for row, key in zip(batch[name].numpy(), batch["id"].numpy(), strict=True):
            values = expected[key.decode()]
            np.testing.assert_allclose(row[: len(values)], values, atol=1e-4)
            assert not row[len(values) :].any()
            ids.append(key.decode())
    return ids


def test_join_gives_every_row_of_every_shuffled_batch_the_logits_of_its_own_utterance(
    example, alone
):
    expected = {name: logits for name, (_, logits) in alone.items()}
    firsts = {logits[0].round(2).tobytes() for logits in expected.values()}
    assert len(firsts) == len(expected), "the test needs utterances that can be told apart"
    student = replace(SPEC, filters=(4, 4))
    joined = Guidance(example.folder, example.teacher).join(example.records, student)
    datasets = [joined.batches(5)]
    datasets += [joined.batches(5, seed=1, epoch=epoch) for epoch in range(3)]
    orders = [check_rows(dataset, "teacher_logits", expected) for dataset in datasets]
    assert len(set(map(tuple, orders))) == 4
    assert all(sorted(order) == sorted(expected) for order in orders)
    fewer = joined.filter(lambda entry: entry.id > "u05")  # u05@0.9 comes after it
    assert len(check_rows(fewer.batches(4, seed=0), "teacher_logits", expected)) == 13


def test_join_puts_hints_and_logits_into_the_same_batch(example, hints, alone):
    guided = Guidance(example.folder, example.teacher).join(example.records, SPEC)
    both = Guidance(hints, example.teacher).join(guided, guided_layers(SPEC, 1, 8))
    batches = both.batches(5, seed=1)
    check_rows(batches, "hints", {name: values for name, (values, _) in alone.items()})
    check_rows(batches, "teacher_logits", {name: values for name, (_, values) in alone.items()})
    assert "hints" not in example.records.batches(5).element_spec


def test_join_notes_in_the_provenance_whose_guidance_it_is(example, halves, hints, other):
    """By this a checkpoint knows that it is of a training with other guidance."""
    folders = [example.folder, halves, hints, other[1]]
    variants = [Guidance(folder).join(example.records, SPEC) for folder in folders]
    variants.append(example.records)
    assert len({tuple(records.provenance) for records in variants}) == 5


def test_join_refuses_a_student_whose_frames_are_not_the_teachers(example):
    name = example.records.entries[0].id
    stored = Guidance(example.folder, example.teacher)
    message = rf"{name}: \d+ frames of the teacher, \d+ of the student.*\(2, 2\)"
    with pytest.raises(GuidanceError, match=message):
        stored.join(example.records, replace(SPEC, strides=(2, 2)))
    stored.join(example.records, replace(SPEC, strides=(1, 2)))


def test_guidance_names_an_utterance_without_any(example, tmp_path):
    folder = tmp_path / "logits"
    records = example.records.filter(lambda entry: entry.id in ("u06", "u06@0.9"))
    guided = records.filter(lambda entry: entry.id != "u06@0.9")
    example.write(folder, guided)
    stored = Guidance(folder)
    message = "logits: no guidance for u06@0.9.*again"
    with pytest.raises(GuidanceError, match=message):
        stored.join(records, SPEC)
    with pytest.raises(GuidanceError, match=message):
        stored.read("u06@0.9")
    stored.join(guided, SPEC)


@pytest.mark.parametrize(
    "change", [{"features": replace(TONES_FEATURES, n_mfcc=12)}, {"number": 99}]
)
def test_join_refuses_guidance_of_other_records(example, tmp_path, change):
    """Of the same ids and frames, but of other features or another sound."""
    utterances = example.utterances
    if "number" in change:
        path = tmp_path / "new.flac"
        samples = soundfile.info(utterances[0].audio).frames
        soundfile.write(path, noise_wave(samples / 8000, 99), 8000)
        utterances = [replace(utterances[0], audio=path), *utterances[1:]]
    features = change.get("features", TONES_FEATURES)
    write_records(utterances, tmp_path / "r", features, speeds=SPEEDS, cores=1, shard_size=8)
    stored = Guidance(example.folder, example.teacher)
    with pytest.raises(GuidanceError, match="logits: .* u.* is of other records"):
        stored.join(Records(tmp_path / "r"), SPEC)


def test_guidance_of_another_teacher_is_refused(example, other):
    with pytest.raises(GuidanceError, match="logits: not the guidance of .*other"):
        Guidance(example.folder, other[0])


def test_guidance_that_is_missing_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        with pytest.raises(GuidanceError, match=f"{name}: no guidance here.*03"):
            Guidance(tmp_path / name)


def test_guidance_of_different_kinds_in_one_folder_is_refused(example, halves, tmp_path):
    path = next(example.folder.iterdir())
    for name in ("encoding", "foreign"):
        shutil.copytree(halves, tmp_path / name)
    shutil.copy(path, tmp_path / "encoding" / path.name)
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "foreign" / "a.safetensors")
    with pytest.raises(GuidanceError, match="encoding: .*different kinds.*again"):
        Guidance(tmp_path / "encoding")
    with pytest.raises(GuidanceError, match="foreign/a.safetensors: no guidance.*again"):
        Guidance(tmp_path / "foreign")


def test_guidance_files_name_their_teacher_encoding_and_utterances(example):
    shards = sorted(example.records.split_by_shard(), key=lambda pair: pair[0])
    files = sorted(contents(example.folder).items())
    for (_, shard), (_, (metadata, encoded)) in zip(shards, files, strict=True):
        assert metadata["teacher"] == read_card(example.teacher_folder)["fingerprint"]
        assert metadata["form"] == "float32"
        ids = {entry.id for entry in shard.entries}
        assert set(metadata["utterances"]) == set(encoded) == ids


# Bad input


def first_guidance(workspace, folder="said"):
    return min((workspace / folder).iterdir())


def guidance_file(versions):
    def damage(workspace):
        name = first_guidance(workspace).relative_to(workspace)
        yield from series(name, versions)(workspace)

    return damage


def guidance_renamed(workspace):
    first, second = sorted((workspace / "said").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    yield first


def guidance_copied(workspace):
    path = first_guidance(workspace)
    yield Path(shutil.copy(path, path.with_name("copy.safetensors")))


def guidance_without_a_checksum(workspace):
    path = first_guidance(workspace)
    metadata, _ = read_file(path)
    del metadata["crc32"]
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(tensors, path, {"guidance": json.dumps(metadata)})
    yield path


def guidance_of_another(workspace):
    shutil.rmtree(workspace / "said")
    shutil.copytree(workspace / "others", workspace / "said")
    yield workspace / "said"


def no_guidance(workspace):
    shutil.rmtree(workspace / "said")
    yield workspace / "said"


def load_teacher(workspace):
    return models.load_teacher(workspace / "teacher")


def guide(workspace, path):
    write_guidance(Records(workspace / "records"), load_teacher(workspace), workspace / "new")


def deployed_teacher(workspace):
    yield workspace / "deployed"


def guide_by(workspace, path):
    write_guidance(Records(workspace / "records"), models.load_teacher(path), workspace / "new")


def open_guidance(workspace, path):
    Guidance(workspace / "said", load_teacher(workspace))


def read_guidance(workspace, path):
    stored = Guidance(workspace / "said")
    for name in stored.paths:
        stored.read(name)


def learn_from_guidance(workspace, path):
    joined = Guidance(workspace / "said").join(Records(workspace / "records"), WORKSPACE_SPEC)
    with joined.reading():
        for _ in joined.batches(3):
            pass


@pytest.mark.parametrize(
    "use",
    [guide, open_guidance, read_guidance, learn_from_guidance],
    ids=lambda use: use.__name__,
)
def test_guidance_that_is_whole_passes(workspace, use):
    use(workspace, None)


WRITE_AGAIN = r"write it again \(notebook 03\)"
BAD_GUIDANCE = [
    ("guidance cut at every 5 %", guidance_file(cuts(20)), open_guidance, WRITE_AGAIN),
    ("guidance flipped bits", guidance_file(flips(120)), read_guidance, WRITE_AGAIN),
    (
        "guidance flipped bits, in a training",
        guidance_file(flips(4, -200, -1)),
        learn_from_guidance,
        WRITE_AGAIN,
    ),
    ("guidance empty", guidance_file(lambda data: [b""]), open_guidance, WRITE_AGAIN),
    ("guidance files exchanged", guidance_renamed, open_guidance, WRITE_AGAIN),
    ("guidance file copied under another name", guidance_copied, open_guidance, WRITE_AGAIN),
    ("guidance without a checksum", guidance_without_a_checksum, open_guidance, WRITE_AGAIN),
    (
        "guidance of another teacher",
        guidance_of_another,
        open_guidance,
        "write its guidance again",
    ),
    (
        "guidance of a deployed teacher",
        deployed_teacher,
        guide_by,
        "name the model that it was made of",
    ),
    ("guidance missing", no_guidance, open_guidance, "notebook 03"),
]


@rows([(kind, damage, use, GuidanceError, cure) for kind, damage, use, cure in BAD_GUIDANCE])
def test_guidance_that_is_damaged_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


@pytest.mark.parametrize("versions", [cuts(2), flips(5)])
def test_guidance_written_again_mends_the_damaged_file_and_keeps_the_others(workspace, versions):
    folder = workspace / "said"
    path = first_guidance(workspace)
    data = path.read_bytes()
    before = times(folder)
    for version in versions(data):
        path.write_bytes(version)
        records = Records(workspace / "records")
        result = write_guidance(records, load_teacher(workspace), folder, encoding="log8")
        assert result["files_made"] == 1 and path.read_bytes() == data
    after = times(folder)
    assert {name for name in after if after[name] != before[name]} == {path.name}


def test_guidance_has_the_same_bytes_in_every_process(workspace):
    """In a header of several keys, their order would be another one in each process."""
    with safe_open(first_guidance(workspace), "numpy") as file:
        assert list(file.metadata()) == ["guidance"]


def test_guidance_error_of_an_earlier_reading_is_forgotten(workspace):
    records = Records(workspace / "records")
    records.errors.append(GuidanceError("of before"))
    shard = workspace / "records" / "00000.tfrecord"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(RecordsError, match="00000.tfrecord: damaged"), records.reading():
        list(records.batches(3))
