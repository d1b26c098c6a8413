"""One shard of records: an example as a TFRecord, and the index beside the file that tells what is in it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from lttlib.features.spectral import FeatureConfig
from lttlib.files import parse_json, verify_checksum

NUMBER = "[0-9]" * 5  # names of the files of a shard; others in the folder are nobody's business
KINDS = {
    "fingerprint": str,
    "bytes": int,
    "sha256": str,
    "features": dict,
    "alphabet": str,
    "seconds": float,
}
ROWS = {"entries": (str, str, int, int, int), "rejected": (str, int | float, str, str)}


@dataclass(frozen=True)
class Entry:
    """What the index says of one utterance: frames and characters, and the least output frames that CTC needs."""

    id: str
    speaker: str
    frames: int
    characters: int
    min_frames: int


def serialise(made) -> bytes:
    """An example of `features.make_example` as a record."""
    import tensorflow as tf

    def blob(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    labels = tf.train.Feature(int64_list=tf.train.Int64List(value=made["labels"]))
    fields = {name: blob(made[name].encode()) for name in ("id", "speaker", "text")}
    fields |= {"features": blob(made["features"].tobytes()), "labels": labels}
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString(
        deterministic=True
    )


def parse(record, name, channels):
    """The tensors of a record, which must be the one of the utterance that the index names."""
    import tensorflow as tf

    strings = dict.fromkeys(
        ("id", "speaker", "text", "features"), tf.io.FixedLenFeature([], tf.string)
    )
    labels = {"labels": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)}
    fields = tf.io.parse_single_example(record, strings | labels)
    tf.debugging.Assert(
        fields["id"] == name, ["in the place of", name, "the shard holds", fields["id"]]
    )
    fields["features"] = tf.reshape(
        tf.io.decode_raw(fields["features"], tf.float32), [-1, channels]
    )
    fields["feature_lengths"] = tf.shape(fields["features"])[0]
    fields["labels"] = tf.cast(fields["labels"], tf.int32)
    fields["label_lengths"] = tf.shape(fields["labels"])[0]
    return fields


def fingerprint(tasks, features, alphabet) -> str:
    """Changes with whatever the content of a shard depends on; a file is known by its size and time."""
    facts = {"format": "shard 1", "features": features.to_json(), "alphabet": alphabet, "tasks": []}
    for utterance, speed in tasks:
        stat = utterance.audio.stat() if utterance.audio.exists() else None
        about = {
            "id": utterance.id,
            "speaker": utterance.speaker,
            "split": utterance.split,
            "text": utterance.text,
        }
        about |= {
            "audio": str(utterance.audio),
            "file": stat and [stat.st_size, stat.st_mtime_ns],
            "speed": speed,
        }
        facts["tasks"].append(about)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def shard_paths(folder: Path) -> list:
    """Paths of the shards that a folder holds, or that an index or a gap in their numbers shows to be missing."""
    numbers = {int(path.stem) for path in folder.glob(f"{NUMBER}.*")}
    return [folder / f"{number:05d}.tfrecord" for number in range(max(numbers, default=-1) + 1)]


def read_index(shard: Path) -> dict:
    """The index of a shard; empty if either is missing, it is damaged, or the shard has another size than it tells."""
    try:
        found = parse_json(shard.with_suffix(".json").read_bytes())
        # The times of sound files are in the fingerprint: a seal of it would make every corpus another one.
        found = {"fingerprint": found.pop("fingerprint")} | verify_checksum(found)
        FeatureConfig.from_json(found["features"])
        whole = all(type(found[name]) is kind for name, kind in KINDS.items())
        for name, kinds in ROWS.items():
            whole &= all(
                len(row) == len(kinds) and all(map(isinstance, row, kinds)) for row in found[name]
            )
        return found if whole and found["bytes"] == shard.stat().st_size else {}
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return {}


def verify(shard: Path, entries, sha256) -> bool:
    """Whether the shard holds the records of its entries, and just the bytes that were written."""
    import tensorflow as tf

    content, names = hashlib.sha256(), []
    try:
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            content.update(record)
            names.append(
                tf.train.Example.FromString(record)
                .features.feature["id"]
                .bytes_list.value[0]
                .decode()
            )
    except (tf.errors.DataLossError, tf.errors.NotFoundError):
        return False
    return content.hexdigest() == sha256 and names == [entry.id for entry in entries]
