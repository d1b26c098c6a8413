"""Features and labels of a split as TFRecord files: written in parallel, read as batches.

A split is a folder: shards `00000.tfrecord` with an index `00000.json` beside each, `rejected.csv`, `transcripts.json`
and `vocabulary.json`. A shard stands there whole or not at all, and one that is up to date is not made again. The
vocabulary is written last: a folder without it was never finished, and is not read. Whether bytes have changed since is
noticed where they are read (`Records.reading`): to look at all of them at every start would take too long.
"""

import copy
import csv
import hashlib
import json
import random
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from lttlib.features import shards
from lttlib.features.examples import make_examples, workers
from lttlib.features.spectral import FeatureConfig
from lttlib.files import atomic_write, parse_json, progress, with_checksum, write_json
from lttlib.speech import text

END = shards.Entry("", "", 0, 0, 0)
SHUFFLE_BUFFER = 1024  # utterances; shards are mixed when written, so that a part of a large corpus is mixed enough


class RecordsError(ValueError):
    """Records that are missing or do not belong together; the message names the folder and the cure."""


def write_records(
    utterances,
    folder,
    features,
    *,
    alphabet=text.ALPHABET,
    speeds=(1.0,),
    cores=None,
    shard_size=128,
) -> dict:
    """Write the records of one split.

    Parameters
    ----------
    utterances : list of speech.Utterance
    folder : path-like
        The split's folder, `data/<profile>/records/<split>`.
    features : Features
    alphabet : str
    speeds : tuple of float
        Each utterance is written once for each of them (Ko et al. 2015), as `<id>@0.9` for a speed of 0.9.
    cores : int, optional
        Processes that compute features, by default as `features.workers` has it. The files do not depend on it.
    shard_size : int
        Examples a file. No more than that are held in memory.

    Returns
    -------
    dict with examples (utterances times speeds), their hours, rejected, and shards_made (0 if all was up to date).

    Raises
    ------
    OSError
        If the folder cannot be written.
    ValueError
        If not one utterance can be used (`RecordsError`), or a speed stands twice or is not positive.
    """
    import tensorflow as tf

    if len(set(speeds)) < len(speeds) or not all(speed > 0 for speed in speeds):
        raise ValueError(f"speeds must be positive and different, not {list(speeds)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / "vocabulary.json"
    finished.unlink(missing_ok=True)
    for left in folder.glob(".*.tfrecord.*"):  # by a run that was killed
        left.unlink()
    tasks = [(utterance, speed) for utterance in utterances for speed in speeds]
    random.Random(0).shuffle(tasks)
    parts = [tasks[start : start + shard_size] for start in range(0, len(tasks), shard_size)]
    todo = []
    for number, shard in enumerate(parts):
        path, fingerprint = (
            folder / f"{number:05d}.tfrecord",
            shards.fingerprint(shard, features, alphabet),
        )
        if shards.read_index(path).get("fingerprint") != fingerprint:
            todo.append((path, fingerprint, shard))
    remaining = [task for *_, shard in todo for task in shard]
    bar = progress(total=len(remaining), desc=f"records of {folder.name}", unit="utterance")
    with workers(cores) as pool, bar:
        made = make_examples(
            remaining, features, alphabet, pool
        )  # in one stream: nobody waits at the end of a shard
        for path, fingerprint, shard in todo:
            path.with_suffix(".json").unlink(missing_ok=True)
            entries, rejected, seconds, content = [], [], 0.0, hashlib.sha256()
            with atomic_write(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
                for (utterance, speed), found, reason in islice(made, len(shard)):
                    bar.update()
                    if reason:
                        rejected.append([utterance.id, speed, str(utterance.audio), reason])
                        continue
                    record = shards.serialise(found)
                    writer.write(record)
                    content.update(record)
                    labels = found["labels"]
                    entries.append([found["id"], found["speaker"], len(found["features"]), len(labels),
                                    text.min_ctc_frames(labels)])  # fmt: skip
                    seconds += found["seconds"]
            write_json(path.with_suffix(".json"), {"fingerprint": fingerprint} | with_checksum({
                "bytes": path.stat().st_size, "sha256": content.hexdigest(),
                "features": features.to_json(),
                "alphabet": alphabet, "seconds": seconds, "entries": entries, "rejected": rejected,
            }))  # fmt: skip
    for old in folder.glob(f"{shards.NUMBER}.*"):
        if int(old.stem) >= len(parts):
            old.unlink()
    indices = [shards.read_index(path) for path in shards.shard_paths(folder)]
    rejected = sorted(row for index in indices for row in index["rejected"])
    with (
        atomic_write(folder / "rejected.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([["id", "speed", "file", "reason"], *rejected])
    lost = Counter(row[0] for row in rejected)
    heard = {u.id: u.text for u in utterances if lost[u.id] < len(speeds)}
    write_json(folder / "transcripts.json", heard)
    count = sum(len(index["entries"]) for index in indices)
    if not count:
        raise RecordsError(
            f"none of {len(tasks)} utterances can be used: {folder / 'rejected.csv'} says why"
        )
    write_json(finished, {"alphabet": alphabet, "blank": len(alphabet)})
    hours = sum(index["seconds"] for index in indices) / 3600
    return {"examples": count, "hours": hours, "rejected": len(rejected), "shards_made": len(todo)}


class Records:
    """The records of one or several splits, opened for reading.

    Parameters
    ----------
    *folders : path-like
        Split folders, read as one.

    Raises
    ------
    RecordsError
        If a folder holds no records, or they differ in features or alphabet.
    """

    def __init__(self, *folders):
        self.shards = []  # (path, its entries)
        self.provenance = []  # a hash of each shard
        described = {}
        for folder in folders:
            paths = shards.shard_paths(Path(folder))
            if not paths:
                raise RecordsError(
                    f"{folder}: no records here; notebook 01 (or records.write) makes them"
                )
            vocabulary = Path(folder) / "vocabulary.json"
            if not vocabulary.exists():
                raise RecordsError(
                    f"{folder}: never finished; write these records again, what is there is kept"
                )
            try:
                alphabet = parse_json(vocabulary.read_bytes()).get("alphabet")
            except ValueError as error:
                raise RecordsError(
                    f"{vocabulary} is not whole ({error}); write the records again"
                ) from error
            for path in paths:
                index = shards.read_index(path)
                if not index:
                    raise RecordsError(
                        f"{path}: this shard or its index is not whole; write the records again"
                    )
                if index["alphabet"] != alphabet:
                    raise RecordsError(
                        f"{path}: not in the alphabet of {vocabulary}; write the records again"
                    )
                described[json.dumps([index["features"], index["alphabet"]])] = path
                self.shards.append((path, [shards.Entry(*entry) for entry in index["entries"]]))
                self.provenance.append(index["sha256"])
        if len(described) > 1:
            raise RecordsError(
                f"records of different features or alphabets: {', '.join(map(str, described.values()))}"
            )
        features, self.alphabet = json.loads(next(iter(described)))
        self.feature_config = FeatureConfig.from_json(features)
        self.keep, self.maps = lambda entry: True, []
        self.errors = []  # what went wrong in functions of `map`: TensorFlow would hand on a text of it

    @property
    def entries(self) -> list:
        """The `Entry` of each utterance that is read."""
        return [entry for _, entries in self.shards for entry in entries if self.keep(entry)]

    def filter(self, keep) -> "Records":
        """The same records, only those utterances for whose `Entry` keep(entry) is true (as well)."""
        chosen = copy.copy(self)
        chosen.keep = lambda entry, before=self.keep: before(entry) and keep(entry)
        return chosen

    def map(self, function, provenance: str) -> "Records":
        """The same records, each batch passed through a function; `provenance` names what it adds."""
        chosen = copy.copy(self)
        chosen.maps, chosen.provenance = [*self.maps, function], [*self.provenance, provenance]
        return chosen

    def split_by_shard(self):
        """Yield (hash of its content, its records) for each shard."""
        for shard, content in zip(
            self.shards, self.provenance, strict=False
        ):  # more contents where `map` added some
            part = copy.copy(self)
            part.shards, part.provenance = [shard], [content]
            if part.entries:
                yield content, part

    def bucket_lengths(self, buckets: int = 8) -> list:
        """The few lengths, in frames, that batches are padded to: quantiles of the utterances', ascending."""
        frames = np.array([entry.frames for entry in self.entries])
        if not len(frames):
            raise RecordsError("no utterance is left to read: nothing fits what was asked for")
        edges = np.quantile(frames, np.arange(1, buckets + 1) / buckets, method="higher")
        return sorted({int(-(-edge // 16) * 16) for edge in edges})

    def num_batches(self, batch_size: int) -> int:
        """Batches in one epoch."""
        sizes = np.bincount(
            np.searchsorted(self.bucket_lengths(), [entry.frames for entry in self.entries])
        )
        return int(np.sum(-(-sizes // batch_size)))

    def batches(self, batch_size: int, seed=None, epoch: int = 0):
        """One epoch as a dataset of batches, each utterance once.

        Parameters
        ----------
        batch_size : int
        seed : int, optional
            Shuffle; the order is a function of seed and epoch (and of `tf.random.set_seed`, if that was called).
            Without it the order is always the same.
        epoch : int

        Returns
        -------
        tf.data.Dataset of dicts: id, speaker, text (string [batch]), features (float32 [batch, time, channels]),
        feature_lengths (int32 [batch]), labels (int32 [batch, chars]), label_lengths (int32 [batch]).
        """
        import tensorflow as tf

        shapes = tf.constant(self.bucket_lengths(), tf.int64)
        # After the last of each shard comes an entry, and a record, without a name: both must come together.
        rows = [
            (e is not END and self.keep(e), e.id)
            for _, entries in self.shards
            for e in (*entries, END)
        ]
        sizes = [len(entries) + 1 for _, entries in self.shards]
        chosen, names = (
            tf.RaggedTensor.from_row_lengths(column, sizes) for column in zip(*rows, strict=True)
        )
        data = tf.data.Dataset.from_tensor_slices(
            ([str(path) for path, _ in self.shards], chosen, names)
        )
        if seed is not None:
            data = data.shuffle(
                len(self.shards), seed=fold_seeds(seed, epoch, 0), reshuffle_each_iteration=False
            )

        def read(path, keep, names):
            records = tf.data.TFRecordDataset(path).concatenate(tf.data.Dataset.from_tensors(""))
            pairs = tf.data.Dataset.zip(records, tf.data.Dataset.from_tensor_slices((keep, names)))
            needed = pairs.filter(
                lambda record, row: tf.where(row[1] == "", record != "", row[0] | (record == ""))
            )
            return needed.map(lambda record, row: (record, row[1]))

        data = data.interleave(read, cycle_length=8)
        if seed is not None:
            buffer = min(len(self.entries), SHUFFLE_BUFFER)
            data = data.shuffle(
                buffer, seed=fold_seeds(seed, epoch, 1), reshuffle_each_iteration=False
            )
        channels = self.feature_config.channels
        data = data.map(
            lambda record, name: shards.parse(record, name, channels),
            num_parallel_calls=2,
            deterministic=True,
        )

        def pad(bucket, window):
            padded = {"features": [shapes[bucket], channels], "labels": [None]}
            return window.padded_batch(batch_size, dict.fromkeys(window.element_spec, []) | padded)

        data = data.group_by_window(
            lambda e: tf.searchsorted(
                shapes, [tf.cast(e["feature_lengths"], tf.int64)], out_type=tf.int64
            )[0],
            pad,
            window_size=batch_size,
        )
        for function in self.maps:
            data = data.map(function, num_parallel_calls=2, deterministic=True)
        return data.prefetch(4)

    @contextmanager
    def reading(self):
        """A loop over `batches` within it fails by an error that names what is damaged, and the cure.

        Raises
        ------
        RecordsError
            If a shard is not what its index tells; all such are named.
        Exception
            Of a function of `map`, as it raised it. All other errors pass as they are.
        """
        import tensorflow as tf

        self.errors.clear()
        try:
            yield
        except tf.errors.OpError as error:
            if self.errors:
                raise self.errors[0] from error
            if "IteratorGetNext" not in str(error):  # of the network, say, and not of what is read
                raise
            read = zip(self.shards, self.provenance, strict=False)
            if not (
                bad := [
                    str(path)
                    for (path, entries), made in read
                    if not shards.verify(path, entries, made)
                ]
            ):
                raise
            cure = (
                "delete what is named and write the records again (notebook 01): the rest is kept"
            )
            raise RecordsError(f"{', '.join(bad)}: damaged, or of another index; {cure}") from error


def fold_seeds(*numbers) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0] >> 1)
