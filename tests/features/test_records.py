"""Records: what is written, what is left out and why, what survives a crash, how it is read."""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from builders import NOISE_CONFIG as CONFIG
from builders import WORKSPACE_FEATURES, noise_wave
from damage import assert_refused, cuts, naming, remove, rows, series
from damage import content as contents_of

from lttlib import Error
from lttlib.features import (
    AudioWarning,
    FeatureConfig,
    Records,
    RecordsError,
    examples,
    extract,
    load_audio,
    shards,
    write_records,
)
from lttlib.files import checksum
from lttlib.speech import Utterance, read_corpus, text

WORDS = "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE BALLOON".split()
SPEEDS = (1.0, 0.9)
# Written by lttlib 0.1.0.
OLD_RECORDS = Path(__file__).parents[1] / "models" / "formats" / "records"


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=samples)


def write_wave(folder, number, wave, suffix=".flac", **options):
    path = folder / f"u{number:03d}{suffix}"
    soundfile.write(path, wave, 8000, **options)
    return path


def make_utterance(folder, number, words=None, wave=None, path=None):
    """One recording: noise of 0.4 to 1.4 s, unless a wave or a file is given."""
    if wave is None:
        seconds = np.random.default_rng(number).uniform(0.4, 1.4)
        wave = noise_wave(seconds, number)
    if path is None:
        path = write_wave(folder, number, wave)
    if words is None:
        words = WORDS[number % len(WORDS)]
    return Utterance(f"u{number:03d}", f"s{number % 3}", "train", path, words)


@pytest.fixture
def utterances(tmp_path):
    return [make_utterance(tmp_path, number) for number in range(10)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """40 utterances."""
    folder = tmp_path_factory.mktemp("corpus")
    return [make_utterance(folder, number) for number in range(40)]


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    """The corpus at two speeds, written in shards of 7."""
    folder = tmp_path_factory.mktemp("records")
    write(corpus, folder, speeds=SPEEDS, shard_size=7)
    return folder


@pytest.fixture(scope="module")
def untranscribed_folder(corpus, tmp_path_factory):
    """12 utterances of the corpus at two speeds, as if nobody had transcribed them."""
    folder = tmp_path_factory.mktemp("untranscribed")
    renamed = [replace(utterance, id=f"n{utterance.id}") for utterance in corpus[:12]]
    write(renamed, folder, speeds=SPEEDS, shard_size=7, untranscribed=True)
    return folder


def write(utterances, folder, **options):
    """Write records by one process; options may name other features, too."""
    return write_records(utterances, folder, **{"config": CONFIG, "cores": 1} | options)


def read_files(folder):
    """Every file of a folder, but without the indices' fingerprints, which hold times."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in files:
        if name[:5].isdigit() and name.endswith(".json"):
            index = json.loads(files[name])
            del index["fingerprint"]
            files[name] = index
    return files


def read_json(path):
    return json.loads(path.read_text())


def modification_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord")}


def ids(dataset):
    return [name.decode() for batch in dataset for name in batch["id"].numpy()]


def ids_at_both_speeds(utterances):
    return sorted(u.id + suffix for u in utterances for suffix in ("", "@0.9"))


# Writing


def test_write_records_gives_the_same_files_for_any_number_of_processes(tmp_path, utterances):
    for cores in (1, 2):
        result = write(utterances, tmp_path / f"{cores}", cores=cores, shard_size=4)
        assert result["examples"] == 10 and result["shards_made"] == 3 and result["rejected"] == 0
    assert read_files(tmp_path / "1") == read_files(tmp_path / "2")


def test_write_records_gives_the_same_files_by_the_backend_of_the_caller(tmp_path, utterances):
    """As a cluster's would; its workers are those of joblib's configuration."""
    write(utterances, tmp_path / "alone", shard_size=4)
    with joblib.parallel_config("threading", n_jobs=3):
        write(utterances, tmp_path / "threads", cores=None, shard_size=4)
    assert read_files(tmp_path / "threads") == read_files(tmp_path / "alone")


def test_write_records_returns_the_hours_of_the_speech_that_was_written(tmp_path, utterances):
    seconds = sum(soundfile.info(utterance.audio).duration for utterance in utterances)
    result = write(utterances, tmp_path / "r")
    assert result["hours"] == pytest.approx(seconds / 3600)


@pytest.mark.parametrize("speeds", [(1.0, 1.0), (0.0,), (-1.0, 1.0), (float("nan"),)], ids=str)
def test_write_records_refuses_impossible_speeds(tmp_path, utterances, speeds):
    with pytest.raises(Error):
        write(utterances, tmp_path / "r", speeds=speeds)
    assert not (tmp_path / "r").exists()


def test_finished_shard_is_not_made_again(tmp_path, utterances):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=4)
    times, files = modification_times(folder), read_files(folder)
    assert write(utterances, folder, shard_size=4)["shards_made"] == 0
    assert modification_times(folder) == times and read_files(folder) == files


@pytest.mark.parametrize("what", ["transcript", "audio", "speaker"])
def test_changed_utterance_remakes_its_shard_only(tmp_path, utterances, what):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=2)
    before = modification_times(folder)
    if what == "audio":
        utterances[3] = make_utterance(tmp_path, 3, wave=noise(9000, seed=99))
    if what == "transcript":
        utterances[3] = replace(utterances[3], text="ZERO")
    if what == "speaker":
        utterances[3] = replace(utterances[3], speaker="new")
    assert write(utterances, folder, shard_size=2)["shards_made"] == 1
    after = modification_times(folder)
    assert sum(before[name] != after[name] for name in after) == 1
    write(utterances, tmp_path / "fresh", shard_size=2)
    assert read_files(folder) == read_files(tmp_path / "fresh")


@pytest.mark.parametrize(
    "change",
    [{"config": FeatureConfig()}, {"speeds": (1.0, 1.1)}, {"alphabet": text.ALPHABET[::-1]}],
)
def test_changed_features_speeds_or_alphabet_remake_every_shard(tmp_path, utterances, change):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=5)
    result = write(utterances, folder, shard_size=5, **change)
    assert result["shards_made"] == (4 if "speeds" in change else 2)
    write(utterances, tmp_path / "fresh", shard_size=5, **change)
    assert read_files(folder) == read_files(tmp_path / "fresh")


def test_smaller_corpus_leaves_no_stale_shards(tmp_path, utterances):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=2)
    write(utterances[:3], folder, shard_size=2)
    write(utterances[:3], tmp_path / "fresh", shard_size=2)
    assert read_files(folder) == read_files(tmp_path / "fresh")
    assert sorted(ids(Records(folder).batches(2))) == ["u000", "u001", "u002"]


def test_transcripts_and_vocabulary_are_saved_once_as_json(tmp_path, utterances):
    folder = tmp_path / "r"
    write(utterances, folder)
    transcripts = {utterance.id: utterance.text for utterance in utterances}
    assert read_json(folder / "transcripts.json") == transcripts
    vocabulary = {"alphabet": text.ALPHABET, "blank": 28}
    assert read_json(folder / "vocabulary.json") == vocabulary


# What dies midway. A text that is a number makes the code raise what nobody foresaw.


@pytest.mark.parametrize("cores", [1, 2])
def test_first_write_that_dies_midway_does_not_pass_for_whole(tmp_path, cores):
    folder = tmp_path / "r"
    utterances = [make_utterance(tmp_path, number) for number in range(100)]
    # As they are mixed when they are written: the last one comes long after the first.
    order = list(range(100))
    random.Random(0).shuffle(order)
    broken = list(utterances)
    broken[order[-1]] = replace(utterances[order[-1]], text=7)
    with pytest.raises(AttributeError):
        write(broken, folder, cores=cores, shard_size=1)

    finished = len(modification_times(folder))
    assert 0 < finished < 100, "the test needs a write that dies in the middle"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    with pytest.raises(RecordsError) as error:
        Records(folder)
    assert error.value.path == folder and "write the records again" in error.value.cure
    result = write(utterances, folder, cores=cores, shard_size=1)
    assert result["shards_made"] == 100 - finished
    write(utterances, tmp_path / "fresh", shard_size=1)
    assert read_files(folder) == read_files(tmp_path / "fresh")


def test_rewrite_that_dies_midway_does_not_pass_for_the_old_records(tmp_path, utterances):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=4)
    broken = [*utterances[:-1], replace(utterances[-1], text=7)]
    with pytest.raises(AttributeError):
        write(broken, folder, config=replace(CONFIG, n_mfcc=12), shard_size=4)
    with pytest.raises(RecordsError):
        Records(folder)
    write(utterances, folder, shard_size=4)
    write(utterances, tmp_path / "fresh", shard_size=4)
    assert read_files(folder) == read_files(tmp_path / "fresh")


def test_files_of_a_killed_process_are_neither_read_nor_kept_as_done(tmp_path, utterances):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=4)
    half = (folder / "00001.tfrecord").read_bytes()[:1000]
    (folder / ".00001.tfrecord.4711").write_bytes(half)
    assert len(ids(Records(folder).batches(4))) == 10
    (folder / "00001.tfrecord").write_bytes(half)
    (folder / "00001.json").unlink()  # it goes before its shard is begun
    with pytest.raises(RecordsError) as error:
        Records(folder)
    assert error.value.path == folder / "00001.tfrecord" and "again" in error.value.cure
    assert write(utterances, folder, shard_size=4)["shards_made"] == 1
    assert len(ids(Records(folder).batches(4))) == 10


@pytest.mark.parametrize("size", [0, 1000])
def test_shard_that_was_cut_short_is_neither_read_nor_kept_as_done(tmp_path, utterances, size):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=4)
    os.truncate(folder / "00001.tfrecord", size)
    with pytest.raises(RecordsError) as error:
        Records(folder)
    assert error.value.path == folder / "00001.tfrecord" and "again" in error.value.cure
    assert write(utterances, folder, shard_size=4)["shards_made"] == 1
    assert len(ids(Records(folder).batches(4))) == 10


# What is left out


def unusable(folder):
    """One utterance of each kind that cannot be used, and the reason that is expected."""
    missing = Utterance("u100", "s", "train", folder / "u100.flac", "ONE")
    untold = replace(make_utterance(folder, 101), text=None)
    broken = make_utterance(folder, 103)
    broken.audio.write_bytes(broken.audio.read_bytes()[:300])
    no_numbers = write_wave(folder, 104, [np.nan] * 800, ".wav", subtype="FLOAT")
    nothing = write_wave(folder, 109, np.zeros(0), ".wav")
    problem = "x.sph: has the id of x.wav, which is used; remove one of the two"
    text_problem = "x.trans.txt: line 2: not UTF-8; save the file as UTF-8"
    loud = np.clip(50 * noise(8000), -1, 1)
    return [
        (missing, "no such audio file"),
        (untold, "no transcript"),
        (make_utterance(folder, 102, words=""), "transcript is empty"),
        (make_utterance(folder, 110, words=" "), "transcript is empty"),
        (broken, "readable|ends"),
        (make_utterance(folder, 104, path=no_numbers), "not finite"),
        (make_utterance(folder, 105, wave=np.zeros(8000)), "silence"),
        (make_utterance(folder, 106, wave=loud), "clipped"),
        (make_utterance(folder, 107, words="CAFÉ 1"), "'1', 'É'"),
        (make_utterance(folder, 108, words="A" * 60, wave=noise(8000)), "cannot carry"),
        (make_utterance(folder, 109, path=nothing), "0 samples"),
        (replace(make_utterance(folder, 112), problem=problem), problem),
        (replace(make_utterance(folder, 113), text=None, text_problem=text_problem), text_problem),
        (make_utterance(folder, 114, path=folder / ("x" * 999)), "name too long"),
        (make_utterance(folder, 115, path=folder / "x\0y.flac"), "no such audio file"),
    ]


def read_rejected(folder):
    with open(folder / "rejected.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_rejected_utterances_are_listed_with_their_reasons_and_nothing_is_lost(
    tmp_path, utterances
):
    folder = tmp_path / "r"
    kinds = unusable(tmp_path)
    items = [utterance for utterance, _ in kinds] + utterances
    result = write(items, folder, speeds=SPEEDS, shard_size=3)
    assert result["examples"] == 2 * len(utterances) and result["rejected"] == 2 * len(kinds)
    assert result["examples"] + result["rejected"] == 2 * len(items)

    rejected = read_rejected(folder)
    assert len(rejected) == 2 * len(kinds)
    for utterance, reason in kinds:
        slow, normal = (row for row in rejected if row["id"] == utterance.id)
        assert slow["speed"] == "0.9" and normal["speed"] == "1.0"
        for row in (slow, normal):
            assert row["file"] == str(utterance.audio)
            assert re.search(reason, row["reason"])

    assert set(read_json(folder / "transcripts.json")) == {u.id for u in utterances}
    read = sorted(ids(Records(folder).batches(4)))
    assert read == ids_at_both_speeds(utterances), "a shard of nothing usable must not disturb"


def test_label_that_just_fits_is_kept_also_if_a_faster_copy_is_not(tmp_path):
    # 51 characters, no doubled letters; 4000 samples give 51 frames, one every 80 samples.
    words = ("A B" * 17)[:51]
    fitting = make_utterance(tmp_path, 1, words=words, wave=noise(50 * 80))
    # At 1.05 to 1.25 the copies have pauses before them, and so enough frames.
    result = write([fitting], tmp_path / "r", speeds=(1.0, 1.3))
    assert result["examples"] == result["rejected"] == 1
    assert read_json(tmp_path / "r" / "transcripts.json") == {fitting.id: fitting.text}


def test_split_without_one_usable_utterance_is_an_error_that_says_where_to_look(tmp_path):
    with pytest.raises(RecordsError) as error:
        write([utterance for utterance, _ in unusable(tmp_path)], tmp_path / "r")
    assert error.value.path == tmp_path / "r" and "rejected.csv" in error.value.cure
    with pytest.raises(RecordsError):
        Records(tmp_path / "r")


def test_problem_of_a_text_is_none_of_speech_without_texts(tmp_path, utterances):
    utterances[3] = replace(utterances[3], text=None, text_problem="not UTF-8")
    utterances[4] = replace(utterances[4], problem="the second file of its name")
    result = write(utterances, tmp_path / "r", untranscribed=True)
    assert result["examples"] == 9 and result["rejected"] == 1
    assert read_rejected(tmp_path / "r")[0]["id"] == utterances[4].id


def test_problem_that_is_mended_remakes_its_shard_only(tmp_path, utterances):
    bad = list(utterances)
    bad[3] = replace(utterances[3], problem="the second file of its name")
    assert write(bad, tmp_path / "r", shard_size=2)["rejected"] == 1
    assert write(utterances, tmp_path / "r", shard_size=2)["shards_made"] == 1


def test_corpus_with_names_of_every_kind_is_written_and_read(workspace):
    """Names that are not UTF-8, the same names in two folders, and what cannot be read."""
    corpus = workspace / "corpus" / "train"
    first = corpus / "1" / "1"
    other = corpus / os.fsdecode(b"caf\xe9") / "1"
    other.mkdir(parents=True)
    (other / "1-1.trans.txt").write_bytes(b"1-1-0 ONE\ncaf\xe9 TWO\ngone\xe9 TEN\n")
    shutil.copy(first / "1-1-0.flac", other)
    shutil.copy(first / "1-1-1.flac", other / os.fsdecode(b"caf\xe9.flac"))
    (other / "1-1-0.ogg").write_bytes(b"no sound")

    utterances = read_corpus(workspace / "corpus", "train")
    for cores in (1, 2):
        folder = workspace / f"of {cores}"
        result = write(utterances, folder, config=WORKSPACE_FEATURES, cores=cores)
        assert result["examples"] == 10 and result["rejected"] == 2
        rejected = {row["id"]: row["file"] for row in read_rejected(folder)}
        place = f"{corpus}/caf\\udce9/1"
        expected = {"1-1-0.ogg": f"{place}/1-1-0.ogg", "gone\\udce9": f"{place}/gone\\udce9.flac"}
        assert rejected == expected
        names = ids(Records(folder).batches(4))
        assert {"1/1/1-1-0", "caf\\udce9/1/1-1-0", "caf\\udce9", "1-1-1"} <= set(names)
    assert write(utterances, folder, config=WORKSPACE_FEATURES)["shards_made"] == 0


def test_sound_that_never_changes_is_silence(tmp_path, utterances):
    utterances[3] = make_utterance(tmp_path, 3, wave=np.full(8000, 0.3))
    assert write(utterances, tmp_path / "r")["rejected"] == 1
    assert "silence" in read_rejected(tmp_path / "r")[0]["reason"]


def test_channels_that_are_left_out_are_told_once_for_all_recordings(tmp_path, utterances):
    for number in (3, 5, 7):
        utterances[number] = make_utterance(tmp_path, number, wave=noise((8000, 2)))
    expected = f"{utterances[3].audio}: channels differ, left out: 2; 2 others like it"
    with pytest.warns(AudioWarning) as caught:
        write(utterances, tmp_path / "r", speeds=SPEEDS, shard_size=4)
    assert [str(warning.message) for warning in caught] == [expected]


def test_damaged_sounds_are_listed_and_the_others_are_written(workspace):
    sounds = sorted((workspace / "corpus" / "train" / "1" / "1").glob("*.flac"))
    sounds[0].write_bytes(sounds[0].read_bytes()[:-200])
    soundfile.write(sounds[1], [0.1, np.nan] * 2000, 8000, format="WAV", subtype="FLOAT")
    utterances = read_corpus(workspace / "corpus", "train")
    result = write(utterances, workspace / "new", config=WORKSPACE_FEATURES)
    assert (result["examples"], result["rejected"]) == (6, 2)
    rejected = read_rejected(workspace / "new")
    assert [row["file"] for row in rejected] == [str(path) for path in sounds[:2]]
    assert all(row["file"] in row["reason"] for row in rejected)


def test_write_records_holds_no_more_than_a_shard_in_memory(tmp_path):
    wave = noise(80000)
    utterances = [make_utterance(tmp_path, number, wave=wave) for number in range(24)]

    def peak(utterances, name):
        tracemalloc.start()
        write(utterances, tmp_path / name, config=replace(CONFIG, kind="raw"), shard_size=4)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(utterances[:4], "warm")
    assert peak(utterances, "large") < 1.3 * peak(utterances[:4], "small")


# Reading


def test_batches_of_an_epoch_hold_each_utterance_once_at_each_speed(corpus, folder):
    expected = ids_at_both_speeds(corpus)
    for epoch in (0, 1):
        assert sorted(ids(Records(folder).batches(8, seed=0, epoch=epoch))) == expected
    assert sorted(ids(Records(folder).batches(8))) == expected


def extract_copy(utterance, name, speed):
    """Features of a copy of an utterance: at other speeds in surroundings that its name decides."""
    wave = load_audio(utterance.audio, 8000, speed)
    if speed != 1:
        wave = examples.add_surroundings(wave, 8000, checksum(name.encode()))
    return extract(wave, CONFIG)


def rows_of(batch):
    """The utterances of a batch, each a dict of arrays."""
    for number in range(len(batch["id"])):
        yield {name: values[number].numpy() for name, values in batch.items()}


def test_batches_hold_features_and_labels_of_the_file_and_zeros_for_padding(corpus, folder):
    known = {utterance.id: utterance for utterance in corpus}
    count = 0
    for batch in Records(folder).batches(8, seed=3):
        for row in rows_of(batch):
            name, _, speed = row["id"].decode().partition("@")
            utterance = known[name]
            expected = extract_copy(utterance, row["id"].decode(), float(speed or 1))
            length = row["feature_lengths"]
            np.testing.assert_array_equal(row["features"][:length], expected)
            assert not row["features"][length:].any()
            spelt = text.decode(row["labels"][: row["label_lengths"]])
            assert spelt == row["text"].decode() == utterance.text
            assert row["speaker"].decode() == utterance.speaker
            count += 1
    assert count == 80


def test_batches_have_the_names_types_and_ranks_of_the_design(folder):
    batch = next(iter(Records(folder).batches(8)))
    assert {name: (value.dtype, value.shape.rank) for name, value in batch.items()} == {
        "id": (tf.string, 1),
        "speaker": (tf.string, 1),
        "text": (tf.string, 1),
        "features": (tf.float32, 3),
        "feature_lengths": (tf.int32, 1),
        "labels": (tf.int32, 2),
        "label_lengths": (tf.int32, 1),
    }


def test_batches_have_few_shapes_and_no_more_padding_than_their_bucket(folder):
    opened = Records(folder)
    buckets = opened.bucket_lengths()
    assert len(buckets) <= 8 and buckets == sorted(set(buckets))
    assert buckets[-1] < max(entry.frames for entry in opened.entries) + 16
    for batch in opened.batches(8, seed=0):
        lengths = batch["feature_lengths"].numpy()
        smallest = {min(b for b in buckets if b >= length) for length in lengths}
        assert smallest == {batch["features"].shape[1]}


def test_batches_have_no_tuner(folder):
    """An epoch could not end before tf.data's tuner looked again, up to as long as it had run."""
    assert Records(folder).batches(8).skip(1).options().autotune.enabled is False


@pytest.mark.parametrize("batch_size", [3, 200])
def test_num_batches_is_the_number_of_batches(folder, batch_size):
    opened = Records(folder)
    for records in (opened, opened.filter(lambda entry: entry.frames > 90)):
        for seed in (None, 5):
            sizes = [len(batch["id"]) for batch in records.batches(batch_size, seed=seed)]
            assert len(sizes) == records.num_batches(batch_size) and max(sizes) <= batch_size


def test_order_is_a_function_of_seed_and_epoch(folder):
    def order(**options):
        return ids(Records(folder).batches(8, **options))

    orders = [order(), order(seed=0, epoch=0), order(seed=0, epoch=1), order(seed=1, epoch=0)]
    assert len(set(map(tuple, orders))) == 4
    assert orders[0] == order()
    dataset = Records(folder).batches(8, seed=1, epoch=0)
    assert ids(dataset) == ids(dataset) == orders[3]


def test_filter_composes_and_leaves_the_original_alone(corpus, folder):
    opened = Records(folder)
    slow = opened.filter(lambda entry: entry.id.endswith("@0.9"))
    chosen = slow.filter(lambda entry: entry.speaker == "s1")
    expected = sorted(f"{u.id}@0.9" for u in corpus if u.speaker == "s1")
    assert sorted(ids(chosen.batches(4, seed=0))) == expected
    assert sorted(entry.id for entry in chosen.entries) == expected
    assert len(opened.entries) == 80 and len(slow.entries) == 40
    with pytest.raises(RecordsError):
        chosen.filter(lambda entry: False).batches(4)


def id_of(record):
    example = tf.train.Example.FromString(record)
    return example.features.feature["id"].bytes_list.value[0].decode()


def test_split_by_shard_covers_each_utterance_once_under_the_hash_of_its_file(folder):
    opened = Records(folder)
    parts = dict(opened.split_by_shard())
    assert len(parts) == 12 and list(parts) == opened.provenance
    read = [name for part in parts.values() for name in ids(part.batches(4))]
    assert sorted(read) == sorted(ids(opened.batches(8)))
    paths = sorted(folder.glob("*.tfrecord"))
    for (content, part), path in zip(parts.items(), paths, strict=True):
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        assert content == hashlib.sha256(b"".join(records)).hexdigest()
        assert part.provenance == [content]
        assert [entry.id for entry in part.entries] == [id_of(record) for record in records]
    assert len(opened.shards) == len(opened.provenance) == 12


def test_split_by_shard_keeps_to_what_a_filter_chose(folder):
    names = {"u007", "u007@0.9", "u031"}
    chosen = Records(folder).filter(lambda entry: entry.id in names)
    parts = [part for _, part in chosen.split_by_shard()]
    assert len(parts) <= 3
    assert all(part.entries for part in parts), "a shard of which nothing is read is left out"
    read = [name for part in parts for name in ids(part.batches(4))]
    assert sorted(read) == sorted(names)


def test_map_passes_batches_through_its_functions_in_order_and_changes_the_provenance(folder):
    def add_sizes(batch):
        return batch | {"sizes": tf.strings.length(batch["text"])}

    def add_doubled(batch):
        return batch | {"doubled": 2 * batch["sizes"]}

    opened = Records(folder)
    before = list(opened.provenance)
    once = opened.map(add_sizes, "sizes")
    twice = once.map(add_doubled, "doubled")
    assert opened.provenance == before and twice.provenance == [*before, "sizes", "doubled"]
    read = []
    for batch in twice.filter(lambda entry: entry.speaker == "s1").batches(4, seed=2):
        np.testing.assert_array_equal(batch["doubled"], 2 * batch["label_lengths"])
        read += [name.decode() for name in batch["id"].numpy()]
    expected = sorted(entry.id for entry in opened.entries if entry.speaker == "s1")
    assert sorted(read) == expected
    assert "sizes" not in opened.batches(4).element_spec
    assert "doubled" not in once.batches(4).element_spec
    assert [content for content, _ in twice.split_by_shard()] == before


def test_entries_have_the_characters_and_the_frames_that_ctc_needs(corpus, folder):
    known = {utterance.id: utterance for utterance in corpus}
    for entry in Records(folder).entries:
        words = known[entry.id.partition("@")[0]].text
        assert entry.characters == len(words)
        assert entry.min_frames == len(words) + {"THREE": 1, "BALLOON": 2}.get(words, 0)


def test_several_folders_are_read_as_one(tmp_path, utterances, folder):
    renamed = [replace(utterance, id=f"v{utterance.id}") for utterance in utterances]
    write(renamed, tmp_path / "r", shard_size=3)
    both = Records(folder, tmp_path / "r")
    assert len(ids(both.batches(8, seed=0))) == len(set(ids(both.batches(8)))) == 90


@pytest.mark.parametrize(
    "other",
    [{"config": replace(CONFIG, n_mfcc=12)}, {"alphabet": text.ALPHABET[::-1]}],
)
def test_records_of_different_features_or_alphabets_are_not_mixed(
    tmp_path, utterances, folder, other
):
    write(utterances, tmp_path / "r", **other)
    with pytest.raises(RecordsError) as error:
        Records(folder, tmp_path / "r")
    assert error.value.path == tmp_path / "r" / "00000.tfrecord" and error.value.cure


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_folder_without_records_is_an_error_that_names_it_and_the_cure(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordsError) as error:
        Records(tmp_path / name)
    assert error.value.path == tmp_path / name and "notebook 01" in error.value.cure


HOLD = """
import sys, time
from lttlib.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(1)
    open(sys.argv[1] + "/.00000.tfrecord.elsewhere.1", "w").close()
"""


def test_write_records_waits_for_another_process_that_writes_them(tmp_path, utterances, capfd):
    """Only then are the temporary files there nobody's, and removed."""
    folder = tmp_path / "r"
    folder.mkdir()
    command = [sys.executable, "-c", HOLD, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert write(utterances, folder)["examples"] == 10
    assert f"{folder}: waiting for process {process.pid} on " in capfd.readouterr().err
    assert not [*folder.glob(".*")] and not [*tmp_path.glob(".*.lock")]


# A corpus that is moved or copied


def moved(utterances, folder, times=0):
    """The utterances with copies of their sound files, which are of another time."""
    folder.mkdir()
    elsewhere = []
    for utterance in utterances:
        path = folder / utterance.audio.name
        path.write_bytes(utterance.audio.read_bytes())
        os.utime(path, (times, times))
        elsewhere.append(replace(utterance, audio=path))
    return elsewhere


def test_records_of_a_corpus_that_was_copied_are_not_made_again(tmp_path, utterances, monkeypatch):
    silence = make_utterance(tmp_path, 10, wave=np.zeros(8000))
    items = [*utterances, silence]
    folder = tmp_path / "r"
    write(items, folder, shard_size=4, speeds=SPEEDS)
    before = modification_times(folder)
    elsewhere = moved(items, tmp_path / "elsewhere")
    result = write(elsewhere, folder, shard_size=4, speeds=SPEEDS)
    assert result["shards_made"] == 0 and modification_times(folder) == before
    write(elsewhere, tmp_path / "fresh", shard_size=4, speeds=SPEEDS)
    assert read_files(folder) == read_files(tmp_path / "fresh"), "rejected.csv names the new place"
    # From now on, sizes and times will do.
    monkeypatch.setattr(shards, "_sound_hash", None)
    assert write(elsewhere, folder, shard_size=4, speeds=SPEEDS)["shards_made"] == 0


def change_sound(elsewhere):
    path = elsewhere[3].audio
    path.write_bytes(utterance_of_other_noise(path))
    return elsewhere


def utterance_of_other_noise(path):
    soundfile.write(path.with_suffix(".wav"), noise(8000, seed=77), 8000)
    return path.with_suffix(".wav").read_bytes()


def change_text(elsewhere):
    return [replace(elsewhere[0], text="OTHER"), *elsewhere[1:]]


def change_id(elsewhere):
    return [replace(elsewhere[0], id="other"), *elsewhere[1:]]


def take_away_a_sound(elsewhere):
    elsewhere[5].audio.unlink()
    return elsewhere


@pytest.mark.parametrize("change", [change_sound, change_text, change_id, take_away_a_sound])
def test_records_of_a_copy_that_is_another_are_made_again(tmp_path, utterances, change):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=20)
    elsewhere = change(moved(utterances, tmp_path / "elsewhere"))
    assert write(elsewhere, folder, shard_size=20)["shards_made"] == 1
    write(elsewhere, tmp_path / "fresh", shard_size=20)
    assert read_files(folder) == read_files(tmp_path / "fresh")


def test_records_can_be_read_while_they_are_found_up_to_date(tmp_path, utterances, monkeypatch):
    folder = tmp_path / "r"
    write(utterances, folder)
    readable = []
    find = shards.remove_surplus

    def look(*arguments):
        readable.append(len(Records(folder).entries))
        find(*arguments)

    monkeypatch.setattr(shards, "remove_surplus", look)
    write(utterances, folder)
    assert readable == [10]


# Speech that nobody transcribed


def without_texts(utterances):
    return [replace(utterance, text=None) for utterance in utterances]


def test_transcribed_records_are_described_as_by_versions_that_knew_no_others(folder):
    """These were computed by the code before: otherwise all records there are would be remade."""
    utterance = Utterance("u1", "s1", "train", Path("u1.flac"), "HELLO")
    tasks = [(utterance, 1.0), (utterance, 0.9)]
    former = replace(CONFIG, normalisation="utterance")
    described = shards.fingerprint(tasks, former, " ABC")
    assert described == "02bb1c30edacc379520a365ef5edbdeaafef084ff79d91d1e97e8e435701c538"
    features = np.arange(78, dtype=np.float32).reshape(2, 39)
    example = {"id": "u1", "speaker": "s1", "text": "HELLO", "labels": [1, 2, 2]}
    record = shards.serialise(example | {"features": features})
    digest = hashlib.sha256(record).hexdigest()
    assert digest == "2692317b824ee7d29b0d2de38a0c0f6b32750915ecc68a17a3a6d5c6ad369221"

    old = read_json(OLD_RECORDS / "00000.json")
    new = read_json(folder / "00000.json")
    assert set(new) - set(old) == {"contents"} and set(old) < set(new)
    assert {len(row) for row in new["entries"]} == {len(old["entries"][0])}


def test_untranscribed_records_hold_the_features_of_their_files_and_no_labels(
    corpus, untranscribed_folder
):
    known = {f"n{utterance.id}": utterance for utterance in corpus}
    read = []
    for batch in Records(untranscribed_folder).batches(8, seed=3):
        assert batch["labels"].shape == (len(batch["id"]), 0)
        for row in rows_of(batch):
            name, _, speed = row["id"].decode().partition("@")
            expected = extract_copy(known[name], row["id"].decode(), float(speed or 1))
            length = row["feature_lengths"]
            np.testing.assert_array_equal(row["features"][:length], expected)
            assert row["text"] == b"" and row["label_lengths"] == row["transcribed"] == 0
            assert row["speaker"].decode() == known[name].speaker
            read.append(row["id"].decode())
    expected = [f"n{name}" for name in ids_at_both_speeds(corpus[:12])]
    assert sorted(read) == expected


def test_untranscribed_records_say_so_in_their_indices_and_entries(untranscribed_folder):
    opened = Records(untranscribed_folder)
    assert opened.untranscribed and opened.alphabet == text.ALPHABET
    for entry in opened.entries:
        assert not entry.transcribed and entry.frames > 0
        assert entry.characters == entry.min_frames == 0
    for path, _ in opened.shards:
        assert read_json(path.with_suffix(".json"))["untranscribed"] is True
    assert read_json(untranscribed_folder / "transcripts.json") == {}


def test_untranscribed_records_are_the_same_whatever_transcripts_there_are(tmp_path, utterances):
    """Also if they could not be learnt from: empty, out of the alphabet, too long, or none."""
    texts = [None, "", " ", "CAFÉ 1", "A" * 500, "ONE"]
    odd = [replace(item, text=words) for item, words in zip(utterances, texts, strict=False)]
    for name, items in (("odd", odd), ("none", without_texts(odd))):
        result = write(items, tmp_path / name, untranscribed=True, shard_size=4)
        assert result["examples"] == len(texts) and result["rejected"] == 0
    fingerprints = [read_json(tmp_path / name / "00000.json") for name in ("odd", "none")]
    assert fingerprints[0] == fingerprints[1]
    assert read_files(tmp_path / "odd") == read_files(tmp_path / "none")
    assert write(odd, tmp_path / "none", untranscribed=True, shard_size=4)["shards_made"] == 0


@pytest.mark.parametrize("first", [False, True], ids=["transcribed first", "untranscribed first"])
def test_records_that_are_written_as_the_other_kind_are_made_again(tmp_path, utterances, first):
    folder = tmp_path / "r"
    write(utterances, folder, shard_size=5, untranscribed=first)
    result = write(utterances, folder, shard_size=5, untranscribed=not first)
    assert result["shards_made"] == 2
    write(utterances, tmp_path / "fresh", shard_size=5, untranscribed=not first)
    assert read_files(folder) == read_files(tmp_path / "fresh")
    assert Records(folder).untranscribed is not first


def test_untranscribed_sounds_that_cannot_be_used_are_rejected_as_transcribed_ones_are(
    tmp_path, utterances
):
    of_texts = ("transcript", "'1'", "cannot carry", "not UTF-8")
    of_sounds = {}
    for utterance, reason in unusable(tmp_path):
        if not any(part in reason for part in of_texts):
            of_sounds[utterance.id] = utterance, reason
    assert {"silence", "clipped"} < {reason for _, reason in of_sounds.values()}
    items = [utterance for utterance, _ in of_sounds.values()] + utterances
    result = write(items, tmp_path / "r", untranscribed=True)
    assert result["examples"] == len(utterances)
    rejected = read_rejected(tmp_path / "r")
    assert [row["id"] for row in rejected] == sorted(of_sounds)
    for row in rejected:
        utterance, reason = of_sounds[row["id"]]
        assert row["file"] == str(utterance.audio) and re.search(reason, row["reason"])


def test_corpus_of_sounds_alone_is_rejected_unless_it_is_asked_for_untranscribed(workspace):
    (workspace / "corpus" / "train" / "1" / "1" / "1-1.trans.txt").unlink()
    utterances = read_corpus(workspace / "corpus", "train")
    assert len(utterances) == 8 and {item.text for item in utterances} == {None}
    with pytest.raises(RecordsError) as error:
        write(utterances, workspace / "new", config=WORKSPACE_FEATURES)
    assert error.value.path == workspace / "new"
    reasons = {row["reason"] for row in read_rejected(workspace / "new")}
    assert all(reason.startswith("no transcript for this audio file; ") for reason in reasons)
    options = {"config": WORKSPACE_FEATURES, "untranscribed": True}
    assert write(utterances, workspace / "new", **options)["examples"] == 8


def test_records_of_both_kinds_are_read_as_one_and_each_batch_says_which_is_which(
    folder, untranscribed_folder
):
    both = Records(folder, untranscribed_folder)
    transcribed = {entry.id: entry.transcribed for entry in both.entries}
    assert both.untranscribed and sum(transcribed.values()) == 80 and len(transcribed) == 104
    kinds = set()
    for batch in both.batches(8, seed=1):
        assert batch["transcribed"].dtype == tf.float32
        assert set(batch) == {*Records(folder).batches(8).element_spec, "transcribed"}
        for row in rows_of(batch):
            expected = transcribed.pop(row["id"].decode())
            assert row["transcribed"] == expected
            assert (row["label_lengths"] > 0) == (row["text"] != b"") == expected
        kinds.add(tuple(sorted(set(batch["transcribed"].numpy()))))
    assert not transcribed and (0, 1) in kinds, "no batch held both kinds"


def test_records_of_both_kinds_that_are_filtered_to_the_transcribed_are_those_alone(
    folder, untranscribed_folder
):
    alone = Records(folder)
    both = Records(folder, untranscribed_folder)
    chosen = both.filter(lambda entry: entry.transcribed)
    assert not alone.untranscribed and not chosen.untranscribed
    for batch, expected in zip(chosen.batches(8), alone.batches(8), strict=True):
        assert set(batch) == set(expected)
        for name in batch:
            np.testing.assert_array_equal(batch[name], expected[name])


def test_split_by_shard_of_both_kinds_knows_the_kind_of_each(folder, untranscribed_folder):
    both = Records(folder, untranscribed_folder)
    kinds = [part.untranscribed for _, part in both.split_by_shard()]
    assert kinds == 12 * [False] + 4 * [True]


# Damage. That of shards and indices is in their own tests.

VOCABULARY = "records/vocabulary.json"
OTHER_VOCABULARY = contents_of(VOCABULARY, b'{"alphabet": "AB"}')
SHARD = "records/00000.tfrecord"
CURE = "write (the|these) records again"


def open_records(workspace, path):
    Records(workspace / "records")


def cuts_of_text(data):
    """Without the line's end, of which the loss is none."""
    return cuts(10)(data.rstrip())


def row(kind, damage):
    return kind, damage, open_records, RecordsError, CURE


BAD_VOCABULARIES = [
    row("vocabulary missing", remove(VOCABULARY, "records")),
    row("vocabulary cut", series(VOCABULARY, cuts_of_text)),
    row("vocabulary is a number", contents_of(VOCABULARY, b"28")),
    row("vocabulary of another alphabet", naming(SHARD, OTHER_VOCABULARY)),
]


@rows(BAD_VOCABULARIES)
def test_damaged_vocabulary_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_vocabulary_of_another_alphabet_than_the_shards_is_named_as_well(workspace):
    list(OTHER_VOCABULARY(workspace))
    with pytest.raises(RecordsError) as error:
        open_records(workspace, None)
    assert error.value.path == workspace / SHARD
    assert str(workspace / VOCABULARY) in error.value.problem


def test_reading_lets_errors_pass_that_are_not_of_reading(workspace, monkeypatch):
    opened = Records(workspace / "records")
    errors = (
        tf.errors.InvalidArgumentError(None, None, "a loss"),
        ValueError("other"),
        KeyboardInterrupt(),
    )
    with monkeypatch.context() as patch:
        patch.setattr(shards, "verify", lambda *_: pytest.fail("nobody wants to wait for it"))
        for error in errors:
            with pytest.raises(type(error)) as caught, opened.reading():
                raise error
            assert caught.value is error

    def reshape(batch):
        return batch | {"x": tf.reshape(batch["features"], [7, 11, 13])}

    broken = opened.map(reshape, "x")
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"), broken.reading():
        list(broken.batches(3))


def test_reading_forgets_an_error_of_an_earlier_one(workspace):
    opened = Records(workspace / "records")
    opened.errors.append(Error("of before"))
    path = workspace / "records" / "00000.tfrecord"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(RecordsError) as error, opened.reading():
        list(opened.batches(3))
    assert error.value.path == path


def test_reading_names_all_damaged_shards(workspace):
    opened = Records(workspace / "records")
    paths = [path for path, _ in opened.shards[:2]]
    for path in paths:
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(RecordsError) as error, opened.reading():
        list(opened.batches(3))
    assert error.value.path == paths[0] and str(paths[1]) in str(error.value)
