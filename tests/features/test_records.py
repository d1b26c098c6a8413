"""Records: what is written, what is left out and why, what survives a crash, and in what order it is read."""

import csv
import hashlib
import json
import os
import random
import tracemalloc
from dataclasses import replace

import joblib
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from lttlib.features import (
    FeatureConfig,
    Records,
    RecordsError,
    extract,
    load_audio,
    workers,
    write_records,
)
from lttlib.speech import Utterance, text

FEATURES = FeatureConfig(sampling_rate=8000)
WORDS = "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE BALLOON".split()


def utterance(folder, number, words=None, wave=None, sampling_rate=8000, name="{}.flac", **how):
    """One recording: noise of 0.4 to 1.4 s, unless a wave is given."""
    noise = np.random.default_rng(number)
    if wave is None:
        wave = noise.normal(scale=0.1, size=noise.integers(3200, 11200))
    path = folder / name.format(f"u{number:03d}")
    soundfile.write(path, wave, sampling_rate, **how)
    words = WORDS[number % len(WORDS)] if words is None else words
    return Utterance(f"u{number:03d}", f"s{number % 3}", "train", path, words)


@pytest.fixture
def some(tmp_path):
    return [utterance(tmp_path, number) for number in range(10)]


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """40 utterances at two speeds, written in shards of 7."""
    folder = tmp_path_factory.mktemp("forty")
    utterances = [utterance(folder, number) for number in range(40)]
    write_records(
        utterances, folder / "records", FEATURES, speeds=(1.0, 0.9), cores=1, shard_size=7
    )
    return utterances, folder / "records"


def content(folder):
    """Every file of a folder but the indices' fingerprints, which hold times."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in files:
        if name[:5].isdigit() and name.endswith(".json"):
            files[name] = {
                key: value for key, value in json.loads(files[name]).items() if key != "fingerprint"
            }
    return files


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord")}


def ids(dataset):
    return [name.decode() for batch in dataset for name in batch["id"].numpy()]


# Writing


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path, some):
    for cores in (1, 2):
        done = write_records(some, tmp_path / f"{cores}", FEATURES, cores=cores, shard_size=4)
        assert done["examples"] == 10 and done["shards_made"] == 3 and done["rejected"] == 0
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_hours_are_those_of_the_speech_that_was_written(tmp_path, some):
    seconds = sum(soundfile.info(u.audio).duration for u in some)
    assert write_records(some, tmp_path / "r", FEATURES, cores=1)["hours"] == pytest.approx(
        seconds / 3600
    )


@pytest.mark.parametrize("variable", ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_workers_share_the_cores_and_leave_the_environment_as_it_was(variable):
    before, cores = dict(os.environ), max(2, os.cpu_count())
    with workers(cores) as pool:
        assert set(pool([(os.getenv, (variable,), {})] * 3)) == {"1"}
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "cores, used", [(3, 3), (0, joblib.cpu_count()), (None, joblib.cpu_count())]
)
def test_without_a_number_there_is_a_worker_for_each_core(monkeypatch, cores, used):
    if used == 1:
        pytest.skip("a machine of one core")
    with workers(cores) as pool:
        assert pool._effective_n_jobs() == used


def test_the_callers_backend_computes_the_same_bytes(tmp_path, some):
    """As a cluster's would; its workers are those of joblib's configuration."""
    write_records(some, tmp_path / "alone", FEATURES, cores=1, shard_size=4)
    with joblib.parallel_config("threading", n_jobs=3):
        with workers() as pool:
            assert set(pool([(os.getpid, (), {})] * 2)) == {os.getpid()} and pool.n_jobs == 3
        write_records(some, tmp_path / "threads", FEATURES, shard_size=4)
    assert content(tmp_path / "threads") == content(tmp_path / "alone")


def test_a_cluster_can_be_named_by_a_variable(monkeypatch):
    monkeypatch.setenv("LTT_WORKERS", "threading")
    with workers() as pool:
        assert list(pool([(os.getpid, (), {})])) == [os.getpid()]
    monkeypatch.setenv("LTT_WORKERS", "dusk:tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="dusk"), workers():
        pass


def test_a_finished_shard_is_not_made_again(tmp_path, some):
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=4)
    before, files = times(tmp_path / "r"), content(tmp_path / "r")
    assert write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=4)["shards_made"] == 0
    assert times(tmp_path / "r") == before and content(tmp_path / "r") == files


@pytest.mark.parametrize("what", ["transcript", "audio", "speaker"])
def test_one_changed_utterance_remakes_its_shard_only(tmp_path, some, what):
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=2)
    before = times(tmp_path / "r")
    if what == "audio":
        some[3] = utterance(
            tmp_path, 3, wave=np.random.default_rng(99).normal(scale=0.1, size=9000)
        )
    else:
        some[3] = replace(
            some[3], **({"text": "ZERO"} if what == "transcript" else {"speaker": "new"})
        )
    assert write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=2)["shards_made"] == 1
    assert sum(before[name] != time for name, time in times(tmp_path / "r").items()) == 1
    write_records(some, tmp_path / "fresh", FEATURES, cores=1, shard_size=2)
    assert content(tmp_path / "r") == content(tmp_path / "fresh")


@pytest.mark.parametrize(
    "change",
    [{"features": FeatureConfig()}, {"speeds": (1.0, 1.1)}, {"alphabet": text.ALPHABET[::-1]}],
)
def test_another_recipe_remakes_every_shard(tmp_path, some, change):
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=5)
    recipe = {"features": FEATURES, "cores": 1, "shard_size": 5} | change
    assert write_records(some, tmp_path / "r", **recipe)["shards_made"] == (
        4 if "speeds" in change else 2
    )
    write_records(some, tmp_path / "fresh", **recipe)
    assert content(tmp_path / "r") == content(tmp_path / "fresh")


def test_a_smaller_corpus_leaves_no_stale_shards(tmp_path, some):
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=2)
    write_records(some[:3], tmp_path / "r", FEATURES, cores=1, shard_size=2)
    write_records(some[:3], tmp_path / "fresh", FEATURES, cores=1, shard_size=2)
    assert content(tmp_path / "r") == content(tmp_path / "fresh")
    assert sorted(ids(Records(tmp_path / "r").batches(2))) == ["u000", "u001", "u002"]


def test_transcripts_and_vocabulary_are_saved_once_as_json(tmp_path, some):
    write_records(some, tmp_path / "r", FEATURES, cores=1)
    assert json.loads((tmp_path / "r" / "transcripts.json").read_text()) == {
        u.id: u.text for u in some
    }
    vocabulary = json.loads((tmp_path / "r" / "vocabulary.json").read_text())
    assert vocabulary == {"alphabet": text.ALPHABET, "blank": 28}


# What dies midway. An utterance whose text is a number makes the code raise what nobody foresaw.


@pytest.mark.parametrize("cores", [1, 2])
def test_a_first_write_that_dies_midway_does_not_pass_for_whole(tmp_path, cores):
    some = [utterance(tmp_path, number) for number in range(100)]
    order = list(range(100))
    random.Random(0).shuffle(
        order
    )  # as `write` mixes them: the last one comes long after the first
    bad = list(some)
    bad[order[-1]] = replace(some[order[-1]], text=7)
    with pytest.raises(AttributeError):
        write_records(bad, tmp_path / "r", FEATURES, cores=cores, shard_size=1)
    made = len(times(tmp_path / "r"))
    assert 0 < made < 100, "the test needs a write that dies in the middle"
    assert not [path for path in (tmp_path / "r").iterdir() if path.name.startswith(".")]
    with pytest.raises(RecordsError, match="write"):
        Records(tmp_path / "r")
    assert (
        write_records(some, tmp_path / "r", FEATURES, cores=cores, shard_size=1)["shards_made"]
        == 100 - made
    )
    write_records(some, tmp_path / "fresh", FEATURES, cores=1, shard_size=1)
    assert content(tmp_path / "r") == content(tmp_path / "fresh")


def test_a_rewrite_that_dies_midway_does_not_pass_for_the_old_records(tmp_path, some):
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=4)
    bad = [*some[:-1], replace(some[-1], text=7)]
    with pytest.raises(AttributeError):
        write_records(
            bad, tmp_path / "r", FeatureConfig(sampling_rate=8000, n_mfcc=12), cores=1, shard_size=4
        )
    with pytest.raises(RecordsError):
        Records(tmp_path / "r")
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=4)
    write_records(some, tmp_path / "fresh", FEATURES, cores=1, shard_size=4)
    assert content(tmp_path / "r") == content(tmp_path / "fresh")


def test_what_a_killed_process_leaves_is_neither_read_nor_kept_as_done(tmp_path, some):
    folder = tmp_path / "r"
    write_records(some, folder, FEATURES, cores=1, shard_size=4)
    half = (folder / "00001.tfrecord").read_bytes()[:1000]
    (folder / ".00001.tfrecord.4711").write_bytes(half)
    assert len(ids(Records(folder).batches(4))) == 10
    (folder / "00001.tfrecord").write_bytes(half)
    (folder / "00001.json").unlink()  # it goes before its shard is begun
    with pytest.raises(RecordsError, match="00001.*again"):
        Records(folder)
    assert write_records(some, folder, FEATURES, cores=1, shard_size=4)["shards_made"] == 1
    assert len(ids(Records(folder).batches(4))) == 10


@pytest.mark.parametrize("size", [0, 1000])
def test_a_shard_that_was_cut_short_is_neither_read_nor_kept_as_done(tmp_path, some, size):
    write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=4)
    os.truncate(tmp_path / "r" / "00001.tfrecord", size)
    with pytest.raises(RecordsError, match="00001.*again"):
        Records(tmp_path / "r")
    assert write_records(some, tmp_path / "r", FEATURES, cores=1, shard_size=4)["shards_made"] == 1
    assert len(ids(Records(tmp_path / "r").batches(4))) == 10


# What is left out


def unusable(folder):
    """One utterance of each kind that cannot be used, and the reason that is expected."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=8000)
    missing = Utterance("u100", "s", "train", folder / "u100.flac", "ONE")
    broken = utterance(folder, 103)
    broken.audio.write_bytes(broken.audio.read_bytes()[:300])
    nothing = utterance(folder, 109, wave=np.zeros(0), name="{}.wav")
    return [
        (missing, "no such audio file"),
        (replace(utterance(folder, 101), text=None), "no transcript"),
        (utterance(folder, 102, words=""), "transcript is empty"),
        (utterance(folder, 110, words=" "), "transcript is empty"),
        (broken, "readable|ends"),
        (utterance(folder, 104, wave=[np.nan] * 800, name="{}.wav", subtype="FLOAT"), "not finite"),
        (utterance(folder, 105, wave=np.zeros(8000)), "silence"),
        (utterance(folder, 106, wave=np.clip(50 * noise, -1, 1)), "clipped"),
        (utterance(folder, 107, words="CAFÉ 1"), "'1', 'É'"),
        (utterance(folder, 108, words="A" * 60, wave=noise), "cannot carry"),
        (nothing, "0 samples"),
    ]


def test_everything_unusable_is_listed_with_its_reason_and_nothing_is_lost(tmp_path, some):
    kinds = unusable(tmp_path)
    given = [u for u, _ in kinds] + some
    done = write_records(given, tmp_path / "r", FEATURES, speeds=(1.0, 0.9), cores=1, shard_size=3)
    assert done["examples"] == 2 * len(some) and done["rejected"] == 2 * len(kinds)
    assert done["examples"] + done["rejected"] == 2 * len(given)
    with open(tmp_path / "r" / "rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(kinds)
    for bad, reason in kinds:
        for speed, row in zip(
            ("0.9", "1.0"), [row for row in rows if row["id"] == bad.id], strict=True
        ):
            assert row["speed"] == speed and row["file"] == str(bad.audio)
            with pytest.raises(ValueError, match=reason):
                raise ValueError(row["reason"])
    assert set(json.loads((tmp_path / "r" / "transcripts.json").read_text())) == {
        u.id for u in some
    }
    names = {u.id + at for u in some for at in ("", "@0.9")}
    assert set(ids(Records(tmp_path / "r").batches(4))) == names, (
        "a shard of nothing usable must not disturb"
    )


def test_a_label_that_just_fits_is_kept_also_if_a_faster_copy_is_not(tmp_path):
    words = (
        "A B" * 17
    )  # 51 characters, no doubled letters; 8000 samples give 101 frames at 80 a frame
    fits = utterance(
        tmp_path, 1, words=words[:51], wave=np.random.default_rng(0).normal(scale=0.1, size=50 * 80)
    )
    done = write_records([fits], tmp_path / "r", FEATURES, speeds=(1.0, 1.1), cores=1)
    assert done["examples"] == done["rejected"] == 1
    assert json.loads((tmp_path / "r" / "transcripts.json").read_text()) == {fits.id: fits.text}


def test_a_split_without_one_usable_utterance_is_an_error_that_tells_where_to_look(tmp_path):
    with pytest.raises(RecordsError, match="rejected.csv"):
        write_records([u for u, _ in unusable(tmp_path)], tmp_path / "r", FEATURES, cores=1)
    with pytest.raises(RecordsError):
        Records(tmp_path / "r")


def test_no_more_than_a_shard_is_held_in_memory(tmp_path):
    wave = np.random.default_rng(0).normal(scale=0.1, size=80000)
    many = [utterance(tmp_path, number, wave=wave) for number in range(24)]

    def peak(utterances, name):
        tracemalloc.start()
        write_records(
            utterances,
            tmp_path / name,
            FeatureConfig("raw", sampling_rate=8000),
            cores=1,
            shard_size=4,
        )
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(many[:4], "warm")
    assert peak(many, "large") < 1.3 * peak(many[:4], "small")


# Reading


def test_each_epoch_reads_each_utterance_once_at_each_speed(forty):
    utterances, folder = forty
    expected = sorted(u.id + at for u in utterances for at in ("", "@0.9"))
    for epoch in (0, 1):
        assert sorted(ids(Records(folder).batches(8, seed=0, epoch=epoch))) == expected
    assert sorted(ids(Records(folder).batches(8))) == expected


def test_features_and_labels_are_those_of_the_file_and_padding_is_zero(forty):
    utterances, folder = forty
    known = {u.id: u for u in utterances}
    seen = 0
    for batch in Records(folder).batches(8, seed=3):
        for row in zip(*(batch[key].numpy() for key in sorted(batch)), strict=True):
            row = dict(zip(sorted(batch), row, strict=True))
            name, _, speed = row["id"].decode().partition("@")
            values = extract(load_audio(known[name].audio, 8000, float(speed or 1)), FEATURES)
            length = row["feature_lengths"]
            np.testing.assert_array_equal(row["features"][:length], values)
            assert not row["features"][length:].any()
            assert (
                text.decode(row["labels"][: row["label_lengths"]])
                == row["text"].decode()
                == known[name].text
            )
            assert row["speaker"].decode() == known[name].speaker
            seen += 1
    assert seen == 80


def test_batches_have_the_names_types_and_ranks_of_the_design(forty):
    batch = next(iter(Records(forty[1]).batches(8)))
    assert {name: (value.dtype, value.shape.rank) for name, value in batch.items()} == {
        "id": (tf.string, 1), "speaker": (tf.string, 1), "text": (tf.string, 1), "features": (tf.float32, 3),
        "feature_lengths": (tf.int32, 1), "labels": (tf.int32, 2), "label_lengths": (tf.int32, 1),
    }  # fmt: skip


def test_batches_have_few_shapes_and_no_more_padding_than_their_bucket(forty):
    opened = Records(forty[1])
    shapes = opened.bucket_lengths()
    assert len(shapes) <= 8 and shapes == sorted(set(shapes))
    assert shapes[-1] < max(entry.frames for entry in opened.entries) + 16
    for batch in opened.batches(8, seed=0):
        smallest = [
            min(shape for shape in shapes if shape >= length)
            for length in batch["feature_lengths"].numpy()
        ]
        assert set(smallest) == {batch["features"].shape[1]}


@pytest.mark.parametrize("batch_size", [3, 200])
def test_steps_are_the_number_of_batches(forty, batch_size):
    for opened in (Records(forty[1]), Records(forty[1]).filter(lambda entry: entry.frames > 90)):
        for seed in (None, 5):
            sizes = [len(batch["id"]) for batch in opened.batches(batch_size, seed=seed)]
            assert len(sizes) == opened.num_batches(batch_size) and max(sizes) <= batch_size


def test_the_order_is_a_function_of_seed_and_epoch(forty):
    def order(**how):
        return ids(Records(forty[1]).batches(8, **how))

    orders = [order(), order(seed=0, epoch=0), order(seed=0, epoch=1), order(seed=1, epoch=0)]
    assert len(set(map(tuple, orders))) == 4
    assert orders[0] == order()
    dataset = Records(forty[1]).batches(8, seed=1, epoch=0)
    assert ids(dataset) == ids(dataset) == orders[3]


def test_where_composes_and_leaves_the_original_alone(forty):
    opened = Records(forty[1])
    slow = opened.filter(lambda entry: entry.id.endswith("@0.9"))
    chosen = slow.filter(lambda entry: entry.speaker == "s1")
    expected = sorted(f"{u.id}@0.9" for u in forty[0] if u.speaker == "s1")
    assert (
        sorted(ids(chosen.batches(4, seed=0)))
        == sorted(entry.id for entry in chosen.entries)
        == expected
    )
    assert len(opened.entries) == 80 and len(slow.entries) == 40
    with pytest.raises(RecordsError, match="no utterance is left"):
        chosen.filter(lambda entry: False).batches(4)


def test_by_shard_covers_each_utterance_once_under_the_hash_of_its_file(forty):
    opened = Records(forty[1])
    shards = dict(opened.split_by_shard())
    assert len(shards) == 12 and list(shards) == opened.provenance
    assert sorted(name for part in shards.values() for name in ids(part.batches(4))) == sorted(
        ids(opened.batches(8))
    )
    for (content, part), path in zip(
        shards.items(), sorted(forty[1].glob("*.tfrecord")), strict=True
    ):
        raw = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        assert content == hashlib.sha256(b"".join(raw)).hexdigest() and part.provenance == [content]
        assert [entry.id for entry in part.entries] == [tf.train.Example.FromString(r).features.feature["id"]
                                                        .bytes_list.value[0].decode() for r in raw]  # fmt: skip
    assert len(opened.shards) == len(opened.provenance) == 12


def test_by_shard_keeps_to_what_where_chose(forty):
    known = {"u007", "u007@0.9", "u031"}
    chosen = Records(forty[1]).filter(lambda entry: entry.id in known)
    parts = list(chosen.split_by_shard())
    assert len(parts) <= 3 and all(part.entries for _, part in parts), (
        "a shard of which nothing is read is left out"
    )
    assert sorted(name for _, part in parts for name in ids(part.batches(4))) == sorted(known)


def test_mapped_passes_each_batch_through_its_functions_in_order_and_changes_the_contents(forty):
    opened = Records(forty[1])
    before = list(opened.provenance)
    once = opened.map(lambda batch: batch | {"sizes": tf.strings.length(batch["text"])}, "sizes")
    twice = once.map(lambda batch: batch | {"doubled": 2 * batch["sizes"]}, "doubled")
    assert opened.provenance == before and twice.provenance == [*before, "sizes", "doubled"]
    seen = []
    for batch in twice.filter(lambda entry: entry.speaker == "s1").batches(4, seed=2):
        np.testing.assert_array_equal(batch["doubled"], 2 * batch["label_lengths"])
        seen += [name.decode() for name in batch["id"].numpy()]
    assert sorted(seen) == sorted(entry.id for entry in opened.entries if entry.speaker == "s1")
    assert (
        "sizes" not in opened.batches(4).element_spec
        and "doubled" not in once.batches(4).element_spec
    )
    assert [content for content, _ in twice.split_by_shard()] == before


def test_entries_tell_frames_characters_and_what_ctc_needs(forty):
    known = {u.id: u for u in forty[0]}
    for entry in Records(forty[1]).entries:
        words = known[entry.id.partition("@")[0]].text
        assert entry.characters == len(words)
        assert entry.min_frames == len(words) + {"THREE": 1, "BALLOON": 2}.get(words, 0)


def test_folders_are_read_as_one(tmp_path, some, forty):
    moved = [replace(u, id=f"v{u.id}") for u in some]
    write_records(moved, tmp_path / "r", FEATURES, cores=1, shard_size=3)
    both = Records(forty[1], tmp_path / "r")
    assert len(ids(both.batches(8, seed=0))) == len(set(ids(both.batches(8)))) == 90


@pytest.mark.parametrize(
    "other",
    [{"features": FeatureConfig(sampling_rate=8000, n_mfcc=12)}, {"alphabet": text.ALPHABET[::-1]}],
)
def test_records_of_different_features_or_alphabets_are_not_mixed(tmp_path, some, forty, other):
    write_records(some, tmp_path / "r", **{"features": FEATURES, "cores": 1} | other)
    with pytest.raises(RecordsError, match="different"):
        Records(forty[1], tmp_path / "r")


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_a_folder_without_records_is_an_error_that_names_it_and_the_cure(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordsError, match=f"{folder}.*01"):
        Records(tmp_path / folder)
