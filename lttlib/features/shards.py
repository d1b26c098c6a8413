"""One shard of records: examples in a TFRecord file, with an index of them beside it.

Numbered files `00000.tfrecord` and `00000.json` are shards; others in the folder are left alone.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from lttlib import files
from lttlib.features.spectral import FeatureConfig
from lttlib.files import (
    atomic_write,
    parse_json,
    printable,
    verify_checksum,
    with_checksum,
    write_json,
)
from lttlib.speech import text

NUMBER = "[0-9]" * 5
# Of an index.
FIELD_TYPES = {
    "fingerprint": str,
    "bytes": int,
    "sha256": str,
    "features": dict,
    "alphabet": str,
    "seconds": float,
    "untranscribed": bool,
    "contents": str,
}
# What older versions, or indices of transcribed speech, do not say.
DEFAULTS = {"untranscribed": False, "contents": ""}
ROW_TYPES = {"entries": (str, str, int, int, int), "rejected": (str, int | float, str, str)}


@dataclass(frozen=True)
class Entry:
    """One utterance in an index.

    Attributes
    ----------
    id, speaker : str
    frames, characters : int
        Of its features and its labels.
    min_frames : int
        Least output frames for which CTC has a finite loss.
    transcribed : bool
        Whether there are labels; without them, characters and min_frames are 0.
    """

    id: str
    speaker: str
    frames: int
    characters: int
    min_frames: int
    transcribed: bool = True


@dataclass(frozen=True)
class Shard:
    """A shard as it is to be written.

    Attributes
    ----------
    path : Path
    tasks : list of (speech.Utterance, float)
        Utterances and their speeds.
    config : FeatureConfig
    alphabet : str
    untranscribed : bool
        Whether the sound alone is written, without labels.
    fingerprint : str
        Changes with whatever the content depends on.
    """

    path: Path
    tasks: list
    config: FeatureConfig
    alphabet: str
    untranscribed: bool
    fingerprint: str

    def is_current(self) -> bool:
        """Whether the shard on disk is whole and what would be written.

        Sound files that were moved or copied are known by what they hold; then the index is written
        again, and the shard is not.
        """
        index = read_index(self.path)
        if not index or index["fingerprint"] == self.fingerprint:
            return bool(index)
        # Their contents are read only where nothing else is different.
        settings = [index["features"], index["alphabet"], index["untranscribed"]]
        if settings != [self.config.to_json(), self.alphabet, self.untranscribed]:
            return False
        if len(index["entries"]) + len(index["rejected"]) != len(self.tasks):
            return False
        if index["contents"] != self.content_hash():
            return False
        _write_index(self, _with_moved_files(index, self.tasks))
        return True

    def content_hash(self) -> str:
        """Hash like `fingerprint`, but of the bytes of sound files, not their paths and times."""
        rows = []
        for utterance, speed in self.tasks:
            row = _describe_task(utterance, speed) | {"sound": _sound_hash(utterance.audio)}
            rows.append(row)
        return _hash(rows, self.config, self.alphabet, self.untranscribed)


def plan(tasks, folder: Path, config, alphabet, *, untranscribed, shard_size) -> list:
    """The shards of a folder, each of the next `shard_size` tasks."""
    shards = []
    for start in range(0, len(tasks), shard_size):
        part = tasks[start : start + shard_size]
        path = _shard_path(folder, len(shards))
        settings = {"config": config, "alphabet": alphabet, "untranscribed": untranscribed}
        shards.append(Shard(path, part, **settings, fingerprint=fingerprint(part, **settings)))
    return shards


def write(shard: Shard, results, bar) -> list:
    """Write a shard and its index from what `make_examples` yields; return remarks on sounds."""
    import tensorflow as tf

    # Without an index, a shard that is begun does not count.
    shard.path.with_suffix(".json").unlink(missing_ok=True)

    # What the index says of the examples.
    entries = []
    rejected = []
    remarks = []
    seconds = 0.0
    digest = hashlib.sha256()  # of the records alone, as `verify` reads them
    with atomic_write(shard.path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
        for (utterance, speed), example, reason in results:
            bar.update()
            # What cannot be used is listed with the reason.
            if reason:
                rejected.append([utterance.id, speed, printable(utterance.audio), reason])
                continue
            # Written as soon as it is there: no shard is held in memory as a whole.
            record = serialise(example)
            writer.write(record)
            digest.update(record)
            entries.append(_row(example))
            seconds += example["seconds"]
            # Of channels that are left out.
            if example["remark"]:
                remarks.append(example["remark"])

    # What `read_index` and `verify` compare with the shard, and what makes it stale.
    index = {
        "bytes": shard.path.stat().st_size,
        "sha256": digest.hexdigest(),
        "features": shard.config.to_json(),
        "alphabet": shard.alphabet,
        "seconds": seconds,
        "entries": entries,
        "rejected": rejected,
    }
    index |= {"untranscribed": shard.untranscribed, "contents": shard.content_hash()}
    _write_index(shard, index)
    return remarks


def _write_index(shard, index):
    """Write the index of a shard."""
    # In one order, whether it was read or made.
    index = {name: index[name] for name in sorted(index) if name != "fingerprint"}
    # Absent where speech is transcribed: its indices stay as those of older versions are.
    if not index["untranscribed"]:
        del index["untranscribed"]
    # The fingerprint holds times of sound files: within the checksum, it would make that of every
    # copy of a corpus another one.
    index = {"fingerprint": shard.fingerprint} | with_checksum(index)
    write_json(shard.path.with_suffix(".json"), index)


def _with_moved_files(index, tasks):
    """An index in which the rejected files have the paths of today."""
    paths = {utterance.id: printable(utterance.audio) for utterance, _ in tasks}
    rejected = []
    for name, speed, path, reason in index["rejected"]:
        moved = paths[name]
        rejected.append([name, speed, moved, reason.replace(path, moved)])
    return index | {"rejected": rejected}


def _row(example):
    """The row of an index that an `Entry` is made of."""
    frames = len(example["features"])
    labels = example["labels"]
    min_frames = text.min_ctc_frames(labels)
    return [example["id"], example["speaker"], frames, len(labels), min_frames]


def entries(index) -> list:
    """The `Entry` of each utterance in an index."""
    transcribed = not index["untranscribed"]
    return [Entry(*row, transcribed) for row in index["entries"]]


def serialise(example) -> bytes:
    """An example of `features.make_example` as a record."""
    import tensorflow as tf

    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    fields = {
        "id": of_bytes(example["id"].encode()),
        "speaker": of_bytes(example["speaker"].encode()),
        "text": of_bytes(example["text"].encode()),
        "features": of_bytes(example["features"].tobytes()),
        "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=example["labels"])),
    }
    message = tf.train.Example(features=tf.train.Features(feature=fields))
    return message.SerializeToString(deterministic=True)


def parse(record, name, channels):
    """The tensors of a record, which must be of the utterance that the index names."""
    import tensorflow as tf

    string = tf.io.FixedLenFeature([], tf.string)
    numbers = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    fields = {
        "id": string,
        "speaker": string,
        "text": string,
        "features": string,
        "labels": numbers,
    }
    example = tf.io.parse_single_example(record, fields)
    message = ["in the place of", name, "the shard holds", example["id"]]
    tf.debugging.Assert(example["id"] == name, message)

    # [frames, channels] and [characters]
    values = tf.io.decode_raw(example["features"], tf.float32)
    example["features"] = tf.reshape(values, [-1, channels])
    example["feature_lengths"] = tf.shape(example["features"])[0]
    example["labels"] = tf.cast(example["labels"], tf.int32)
    example["label_lengths"] = tf.shape(example["labels"])[0]
    return example


def fingerprint(tasks, config, alphabet, untranscribed=False) -> str:
    """Hash of whatever the content of a shard depends on; a sound file by its size and time."""
    # The examples, in their order.
    task_descriptions = []
    for utterance, speed in tasks:
        description = _describe_task(utterance, speed)
        description["audio"] = str(utterance.audio)
        description["file"] = _size_and_time(utterance.audio)
        task_descriptions.append(description)
    return _hash(task_descriptions, config, alphabet, untranscribed)


def _describe_task(utterance, speed):
    """What an example depends on beside its sound."""
    description = {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "split": utterance.split,
        "text": utterance.text,
        "speed": speed,
    }
    # Absent from most: their fingerprints stay as those of older versions are.
    problem = utterance.problem or utterance.text_problem
    if problem:
        description["problem"] = problem
    return description


def _sound_hash(path):
    """Hash of the bytes of a sound file; None if it cannot be read."""
    try:
        stat = path.stat()
        return _file_hash(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError):  # ValueError: of a name that no file can have
        return None


@functools.lru_cache(2**18)  # each speed of an utterance is in another shard
def _file_hash(path, size, time):
    """Hash of a file that has this size and time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(task_descriptions, config, alphabet, untranscribed) -> str:
    """Hash of tasks, and of how they are turned into features and labels."""
    content = {
        "format": "shard 1",
        "features": config.to_json(),
        "alphabet": alphabet,
        "tasks": task_descriptions,
    }
    if untranscribed:
        content["untranscribed"] = True
    return files.fingerprint(json.dumps(content, sort_keys=True).encode())


def _size_and_time(path):
    """Size and time of a file; None if there is none, or none that can be read."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: of a name that no file can have
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _shard_path(folder, number):
    return folder / f"{number:05d}.tfrecord"


def shard_paths(folder: Path) -> list:
    """Paths of all shards from 0 to the last, including missing ones."""
    numbers = {int(path.stem) for path in folder.glob(f"{NUMBER}.*")}
    return [_shard_path(folder, number) for number in range(max(numbers, default=-1) + 1)]


def remove_surplus(folder: Path, count: int) -> None:
    """Remove all files of shards but the first ones."""
    for path in folder.glob(f"{NUMBER}.*"):
        if int(path.stem) >= count:
            path.unlink()


def read_index(shard: Path) -> dict:
    """The index of a shard; empty if one of the two is missing or damaged, as far as sizes show."""
    try:
        index = parse_json(shard.with_suffix(".json").read_bytes())
        index = {"fingerprint": index.pop("fingerprint")} | verify_checksum(index)
        index = DEFAULTS | index
        FeatureConfig.from_json(index["features"])
        valid = _has_types(index) and index["bytes"] == shard.stat().st_size
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return {}
    return index if valid else {}


def _has_types(index):
    """Whether an index has the fields and rows of this version."""
    for name, kind in FIELD_TYPES.items():
        if type(index[name]) is not kind:
            return False
    for name, kinds in ROW_TYPES.items():
        for row in index[name]:
            if len(row) != len(kinds) or not all(map(isinstance, row, kinds)):
                return False
    return True


def verify(shard: Path, entries, sha256) -> bool:
    """Whether the shard holds the records of its entries, and just the bytes that were written."""
    import tensorflow as tf

    digest = hashlib.sha256()
    names = []
    try:
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            digest.update(record)
            example = tf.train.Example.FromString(record)
            names.append(example.features.feature["id"].bytes_list.value[0].decode())
    except (tf.errors.DataLossError, tf.errors.NotFoundError):
        return False
    return digest.hexdigest() == sha256 and names == [entry.id for entry in entries]
