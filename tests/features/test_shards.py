"""Shards and their indices, damaged in every way: the error names the shard and the cure."""

import json

import pytest
from builders import WORKSPACE_FEATURES
from damage import (
    assert_refused,
    content,
    cuts,
    flips,
    naming,
    remove,
    rows,
    series,
    swapped,
)

from lttlib import models
from lttlib.features import Records, RecordsError, write_records
from lttlib.files import CHECKSUM_KEY, with_checksum
from lttlib.speech import read_corpus
from lttlib.training import write_guidance

SHARD = "records/00000.tfrecord"
INDEX = "records/00000.json"
OTHER_SHARD = "records/00001.tfrecord"
OTHER_INDEX = "records/00001.json"
CURE = "write (the|these) records again"
DEEP = b"[" * 100_000

# What damages


def rewrite_index(path, **changes):
    """The index of a shard with the shard's size and other changes, its checksum right for them."""
    index = json.loads(path.with_suffix(".json").read_bytes())
    fingerprint = index.pop("fingerprint")
    del index[CHECKSUM_KEY]
    index |= {"bytes": path.stat().st_size} | changes
    written = {"fingerprint": fingerprint} | with_checksum(index)
    path.with_suffix(".json").write_text(json.dumps(written))


def index_with(**changes):
    def damage(workspace):
        rewrite_index(workspace / SHARD, **changes)
        yield workspace / SHARD

    return damage


def bad_index(damage):
    """A damage of an index, of which the error is to name the shard."""
    return naming(SHARD, damage)


def stored_records(path):
    import tensorflow as tf

    return list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())


def write_shard(path, records):
    """A shard, and its index with the right size."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    rewrite_index(path)


def recounted(count):
    """A shard that ends between two records, or goes on, and an index of the right size."""

    def damage(workspace):
        path = workspace / SHARD
        records = stored_records(path)
        write_shard(path, (records * 2)[: len(records) + count])
        yield path

    return damage


def cut_features(workspace):
    """Records of the right ids, written whole, but a number is missing in each."""
    import tensorflow as tf

    path = workspace / SHARD
    records = []
    for record in stored_records(path):
        example = tf.train.Example.FromString(record)
        values = example.features.feature["features"].bytes_list.value
        values[0] = values[0][:-4]
        records.append(example.SerializeToString())
    write_shard(path, records)
    yield path


def remove_shard_and_index(workspace):
    (workspace / INDEX).unlink()
    (workspace / SHARD).unlink()
    yield workspace / SHARD


# What is done with it


def open_records(workspace, path):
    Records(workspace / "records")


def read_records(workspace, path):
    opened = Records(workspace / "records")
    with opened.reading():
        for _ in opened.batches(3, seed=1):
            pass


def guide(workspace, path):
    teacher = models.load_teacher(workspace / "teacher")
    write_guidance(Records(workspace / "records"), teacher, workspace / "new")


def row(kind, damage, use=open_records):
    return kind, damage, use, RecordsError, CURE


BAD_SHARDS = [
    row("shard cut at every 1 %", series(SHARD, cuts(100))),
    row(
        "shard cut, its index of that size",
        series(SHARD, cuts(5), rewrite_index),
        read_records,
    ),
    row("shard flipped bits", series(SHARD, flips(9)), read_records),
    row("shard flipped bits, told in guidance", series(SHARD, flips(2)), guide),
    row("shard missing", remove(SHARD)),
    row("shard missing with its index", remove_shard_and_index),
    row("shards exchanged, of equal size", swapped(SHARD, OTHER_SHARD), read_records),
    row(
        "indices exchanged, of equal size",
        bad_index(swapped(INDEX, OTHER_INDEX)),
        read_records,
    ),
    row("shard with a record too few", recounted(-1), read_records),
    row("shard with a record too many", recounted(+1), read_records),
    row("shard with numbers missing in its records", cut_features, read_records),
]
BAD_INDICES = [
    row("index missing", remove(INDEX, SHARD)),
    row("index cut", bad_index(series(INDEX, cuts(20)))),
    row("index flipped bits", bad_index(series(INDEX, flips(60, 90, -30)))),
    row("index is a list", bad_index(content(INDEX, b"[1, 2]"))),
    row("index nested without end", bad_index(content(INDEX, DEEP))),
    row("index not UTF-8", bad_index(content(INDEX, b'{"bytes": "\xff\xfe"}'))),
    row("index without entries", index_with(entries=None)),
    row("index with entries of other types", index_with(entries=[["a", "b", "c", 1, 1]])),
    row("index with entries too short", index_with(entries=[["a", "b"]])),
    row("index with unknown features", index_with(features={"kind": "mel"})),
    row("index with features of another type", index_with(features=["raw"])),
    row("index of a kind that is no bool", index_with(untranscribed="no")),
    row("index of another alphabet", index_with(alphabet="AB")),
]


@rows(BAD_SHARDS)
def test_damaged_shard_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


@rows(BAD_INDICES)
def test_damaged_index_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


@pytest.mark.parametrize("use", [open_records, read_records, guide], ids=lambda use: use.__name__)
def test_whole_shards_pass(workspace, use):
    use(workspace, None)


def test_index_from_before_there_were_checksums_is_read(workspace):
    for path in (workspace / "records").glob("0*.json"):
        index = json.loads(path.read_text())
        del index[CHECKSUM_KEY]
        path.write_text(json.dumps(index))
    read_records(workspace, None)


@pytest.mark.parametrize("count", [-1, +1], ids=["too few", "too many"])
def test_shard_with_another_number_of_records_is_damaged_also_if_none_of_it_is_read(
    workspace, count
):
    """Of a shard of which a filter keeps nothing, too, each record is counted."""
    list(recounted(count)(workspace))
    opened = Records(workspace / "records")
    _, entries = opened.shards[0]
    chosen = opened.filter(lambda entry: entry not in entries)
    with pytest.raises(RecordsError) as error, chosen.reading():
        list(chosen.batches(3))
    assert error.value.path == workspace / SHARD


# That the cure is one


def write_again(workspace):
    """The records, as the copy of the corpus in this folder gives them."""
    return write_records(
        read_corpus(workspace / "corpus", "train"),
        workspace / "records",
        WORKSPACE_FEATURES,
        cores=1,
        shard_size=3,
    )


def test_damaged_shard_that_is_deleted_is_made_again_and_no_more(workspace):
    write_again(workspace)
    path = workspace / OTHER_SHARD
    data = path.read_bytes()
    path.write_bytes(data[:500] + b"x" + data[501:])
    with pytest.raises(RecordsError) as error:
        read_records(workspace, None)
    assert error.value.path == path
    path.unlink()
    assert write_again(workspace)["shards_made"] == 1 and path.read_bytes() == data
    read_records(workspace, None)


@pytest.mark.parametrize(
    "name, shards_made", [("00001.json", 1), ("00001.tfrecord", 1), ("vocabulary.json", 0)]
)
def test_damaged_records_that_are_written_again_are_mended(workspace, name, shards_made):
    folder = workspace / "records"
    write_again(workspace)
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    path = folder / name
    path.write_bytes(path.read_bytes()[:20])
    assert write_again(workspace)["shards_made"] == shards_made
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_index_too_many_is_removed_and_files_of_others_are_left_alone(workspace):
    folder = workspace / "records"
    (folder / "notes.tfrecord").write_bytes(b"mine")
    read_records(workspace, None)
    (folder / "00007.json").write_bytes((workspace / INDEX).read_bytes())
    with pytest.raises(RecordsError) as error:
        open_records(workspace, None)
    assert "write the records again" in error.value.cure
    write_again(workspace)
    read_records(workspace, None)
    assert (folder / "notes.tfrecord").read_bytes() == b"mine"
