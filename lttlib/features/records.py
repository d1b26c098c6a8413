"""Features and labels of a split as TFRecord files: written in parallel, read as batches.

A split is a folder: shards `00000.tfrecord`, each with an index `00000.json`, `rejected.csv`,
`transcripts.json` and `vocabulary.json`. A shard is there whole or not at all, and one that is up
to date is not made again. The vocabulary is written last: a folder without it was never finished,
and is not read. Changed bytes are noticed where they are read (`Records.reading`): to look at all
of them at every start would take too long.

Records may be of speech that nobody transcribed, `write_records(untranscribed=True)`: sound without
labels, for a network to learn from what another one hears.
"""

import copy
import csv
import random
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from lttlib import Error, ceil_div
from lttlib.features import shards
from lttlib.features.audio import AudioWarning
from lttlib.features.examples import make_examples, workers
from lttlib.features.spectral import FeatureConfig
from lttlib.files import atomic_write, lock, parse_json, progress, write_json
from lttlib.speech import text

# Written last.
VOCABULARY_FILE = "vocabulary.json"
# Utterances: enough for a large corpus, since shards are mixed when they are written.
SHUFFLE_BUFFER = 1024
# Shards read at a time.
CYCLE_LENGTH = 8
# Frames of which the padded lengths are multiples.
LENGTH_STEP = 16
WRITE_AGAIN = "write the records again"


class RecordsError(Error):
    """Records that are missing, damaged, or do not belong together."""


def write_records(
    utterances,
    folder,
    config,
    *,
    alphabet=text.ALPHABET,
    untranscribed=False,
    speeds=(1.0,),
    cores=None,
    shard_size=128,
) -> dict:
    """Write the records of one split.

    Parameters
    ----------
    utterances : list of speech.Utterance
    folder : path-like
        The split's folder, `data/<profile>/records/<split>`. A process that writes it as well is
        waited for.
    config : FeatureConfig
    alphabet : str
    untranscribed : bool
        Write the sound alone, without labels, of utterances with or without a transcript: of a
        split that has transcripts, the records are those of the same split without them.
    speeds : tuple of float
        Each utterance is written once for each of these speed perturbation factors (Ko et al.
        2015), as `<id>@0.9` for 0.9.
    cores : int, optional
        Processes that compute features, as `features.workers` takes it. The files do not depend
        on it.
    shard_size : int
        Examples in a file. No more than that are held in memory.

    Returns
    -------
    dict with examples (utterances times speeds), their hours, rejected, and shards_made (0 if all
    was up to date).

    Raises
    ------
    OSError
        If the folder cannot be written.
    RecordsError
        If not one utterance can be used.
    lttlib.Error
        If a speed stands twice or is not positive.

    Warns
    -----
    AudioWarning
        If channels of recordings are left out, as `load_audio` says; once for all of them.
    """
    if len(set(speeds)) < len(speeds) or not all(speed > 0 for speed in speeds):
        raise Error(f"speeds must be positive and different, not {list(speeds)}")
    folder = Path(folder)
    options = {"alphabet": alphabet, "untranscribed": untranscribed, "speeds": speeds}
    options |= {"cores": cores, "shard_size": shard_size}
    with lock(folder):
        return _write_split(utterances, folder, config, **options)


def _write_split(
    utterances, folder, config, *, alphabet, untranscribed, speeds, cores, shard_size
) -> dict:
    """Write the records of a split into a folder that is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(".*.tfrecord.*"):  # of runs that were killed
        path.unlink()

    if untranscribed:
        no_text = {"text": None, "text_problem": None}
        utterances = [replace(utterance, **no_text) for utterance in utterances]
    # Shuffled once, and cut into shards.
    tasks = [(utterance, speed) for utterance in utterances for speed in speeds]
    random.Random(0).shuffle(tasks)
    plan = shards.plan(
        tasks, folder, config, alphabet, untranscribed=untranscribed, shard_size=shard_size
    )
    stale = [shard for shard in plan if not shard.is_current()]
    # If all is up to date, the folder stays readable all the while.
    if stale or len(shards.shard_paths(folder)) > len(plan):
        (folder / VOCABULARY_FILE).unlink(missing_ok=True)

    # One stream of examples for all shards: no worker waits at the end of one.
    tasks = [task for shard in stale for task in shard.tasks]
    remarks = []
    bar = progress(total=len(tasks), desc=f"records of {folder.name}", unit="utterance")
    with workers(cores) as pool, bar:
        results = make_examples(tasks, config, alphabet, pool, untranscribed=untranscribed)
        # Each shard takes its own from it.
        for shard in stale:
            remarks += shards.write(shard, islice(results, len(shard.tasks)), bar)
    # One warning for all of them.
    if remarks:
        _warn_once(remarks)

    # The folder is finished once the summary is written.
    shards.remove_surplus(folder, len(plan))
    summary = _write_summary(folder, utterances, speeds, alphabet)
    return summary | {"shards_made": len(stale)}


def _warn_once(remarks):
    """Emit one AudioWarning: the first remark and the number of the others."""
    first, *others = sorted(set(remarks))
    warnings.warn(f"{first}; {len(others)} others like it", AudioWarning, stacklevel=3)


def _write_summary(folder, utterances, speeds, alphabet) -> dict:
    """Write the files that a folder has beside its shards; the vocabulary marks it as finished."""
    # Of the stale shards and of those that were up to date.
    indices = [shards.read_index(path) for path in shards.shard_paths(folder)]
    examples = sum(len(index["entries"]) for index in indices)
    seconds = sum(index["seconds"] for index in indices)
    rejected = []
    for index in indices:
        rejected += index["rejected"]

    # For the user: what was rejected, and why.
    rejected_path = folder / "rejected.csv"
    header = ["id", "speed", "file", "reason"]
    with atomic_write(rejected_path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *sorted(rejected)])

    # The texts of utterances of which at least one speed was written.
    rejections = Counter(row[0] for row in rejected)
    written = [u for u in utterances if rejections[u.id] < len(speeds)]
    transcripts = {u.id: u.text for u in written if u.text is not None}
    write_json(folder / "transcripts.json", transcripts)

    # Without a single example, the folder stays unfinished.
    if not examples:
        problem = f"none of {len(rejected)} utterances can be used"
        raise RecordsError(problem, path=folder, cure=f"{rejected_path} has the reasons")
    write_json(folder / VOCABULARY_FILE, {"alphabet": alphabet, "blank": len(alphabet)})
    return {"examples": examples, "hours": seconds / 3600, "rejected": len(rejected)}


class Records:
    """The records of one or several splits, opened for reading.

    Parameters
    ----------
    *folders : path-like
        Split folders, read as one; some may be of transcribed speech, others of untranscribed.

    Attributes
    ----------
    feature_config : FeatureConfig
    alphabet : str
    shards : list of (path, list of Entry)
    provenance : list of str
        A hash of each shard, and the names of all functions of `map`.
    errors : list of Exception
        Of functions of `map`, which append theirs: TensorFlow would pass on only a text of them.

    Raises
    ------
    RecordsError
        If a folder holds no records, or they differ in features or alphabet.
    """

    def __init__(self, *folders):
        self.shards = []
        self.provenance = []
        self.errors = []
        self.maps = []
        self.keep = lambda entry: True

        indices = []
        for folder in folders:
            indices += _read_indices(Path(folder))
        for path, index in indices:
            self.shards.append((path, shards.entries(index)))
            self.provenance.append(index["sha256"])

        first_path, first = indices[0]
        for path, index in indices:
            if _encoding(index) != _encoding(first):
                problem = f"features or alphabet are different from {first_path}'s"
                raise RecordsError(problem, path=path, cure="open records of one kind together")
        self.feature_config = FeatureConfig.from_json(first["features"])
        self.alphabet = first["alphabet"]

    @property
    def entries(self) -> list:
        """The `Entry` of each utterance that is read."""
        return [entry for _, entries in self.shards for entry in entries if self.keep(entry)]

    @property
    def untranscribed(self) -> bool:
        """Whether any utterance that is read has no labels."""
        return not all(entry.transcribed for entry in self.entries)

    def filter(self, keep) -> "Records":
        """The same records, but only of the utterances for whose `Entry` keep(entry) is true."""
        earlier = self.keep
        chosen = copy.copy(self)
        chosen.keep = lambda entry: earlier(entry) and keep(entry)
        return chosen

    def map(self, function, provenance: str) -> "Records":
        """The same records, each batch passed through a function.

        `provenance` is a name that distinguishes these records from unmapped ones.
        """
        mapped = copy.copy(self)
        mapped.maps = [*self.maps, function]
        mapped.provenance = [*self.provenance, provenance]
        return mapped

    def split_by_shard(self):
        """Yield (hash of its content, its records) for each shard of which something is read."""
        # There are more names than shards where `map` added some.
        for shard, content_hash in zip(self.shards, self.provenance, strict=False):
            part = copy.copy(self)
            part.shards = [shard]
            part.provenance = [content_hash]
            if part.entries:
                yield content_hash, part

    def bucket_lengths(self, buckets: int = 8) -> list:
        """The lengths, in frames, that batches are padded to: quantiles of the utterances'."""
        frames = np.array([entry.frames for entry in self.entries])
        if not len(frames):
            raise RecordsError("no utterance is left to read: the filter keeps none")
        shares = np.arange(1, buckets + 1) / buckets
        edges = np.quantile(frames, shares, method="higher")
        lengths = ceil_div(edges, LENGTH_STEP) * LENGTH_STEP
        return np.unique(lengths.astype(int)).tolist()

    def num_batches(self, batch_size: int) -> int:
        """Number of batches in one epoch."""
        frames = [entry.frames for entry in self.entries]
        sizes = np.bincount(np.searchsorted(self.bucket_lengths(), frames))
        return int(np.sum(ceil_div(sizes, batch_size)))

    def batches(self, batch_size: int, seed=None, epoch: int = 0):
        """One epoch as a dataset of batches, each utterance once.

        Parameters
        ----------
        batch_size : int
        seed : int, optional
            Shuffle; the order is a function of seed and epoch (and of `tf.random.set_seed`, if that
            was called). Without it the order is always the same.
        epoch : int

        Returns
        -------
        tf.data.Dataset of dicts: id, speaker, text (string [batch]), features (float32 [batch,
        time, channels]), feature_lengths (int32 [batch]), labels (int32 [batch, chars]),
        label_lengths (int32 [batch]). Where the records are `untranscribed`, in whole or in part,
        each batch has transcribed as well (float32 [batch]): 1, or 0 for an utterance without
        labels, whose text is empty and whose label length is 0.
        """
        import tensorflow as tf

        # Read once, not in the functions of the dataset.
        lengths = tf.constant(self.bucket_lengths(), tf.int64)
        channels = self.feature_config.channels
        untranscribed = self.untranscribed

        def parse(record, name):
            example = shards.parse(record, name, channels)
            if untranscribed:
                # An empty transcript is rejected: no labels, no transcript.
                is_transcribed = example["label_lengths"] > 0
                example["transcribed"] = tf.cast(is_transcribed, tf.float32)
            return example

        # The number of the length that an example is padded to.
        def bucket(example):
            frames = tf.cast(example["feature_lengths"], tf.int64)
            return tf.searchsorted(lengths, [frames], out_type=tf.int64)[0]

        # One batch of the examples of a bucket.
        def pad(number, window):
            shapes = dict.fromkeys(window.element_spec, [])
            shapes |= {"features": [lengths[number], channels], "labels": [None]}
            return window.padded_batch(batch_size, shapes)

        # Examples of about equal length come together.
        in_order = {"num_parallel_calls": 2, "deterministic": True}
        data = self._stored_examples(seed, epoch)
        data = data.map(parse, **in_order)
        data = data.group_by_window(bucket, pad, window_size=batch_size)
        for function in self.maps:
            data = data.map(function, **in_order)

        # There is nothing to tune, and the end of an epoch often waits for the tuner's next look:
        # 10.2, 20.5, 41, ... seconds after the beginning.
        options = tf.data.Options()
        options.autotune.enabled = False
        return data.prefetch(4).with_options(options)

    def _stored_examples(self, seed, epoch):
        """Dataset of (record, id) of the utterances that are read, in the order of an epoch."""
        import tensorflow as tf
        from tensorflow.data import Dataset, TFRecordDataset
        from tensorflow.data.experimental import assert_cardinality

        # Of each shard: its path, and for each of its records whether it is read, and its id.
        paths = [str(path) for path, _ in self.shards]
        entries = [entry for _, entries in self.shards for entry in entries]
        counts = [len(entries) for _, entries in self.shards]
        keep = tf.RaggedTensor.from_row_lengths([self.keep(entry) for entry in entries], counts)
        names = tf.RaggedTensor.from_row_lengths([entry.id for entry in entries], counts)
        data = Dataset.from_tensor_slices((paths, keep, names))

        # First the shards, then the records, each with a seed of its own.
        def shuffled(data, size, purpose):
            if seed is None:
                return data
            seeds = fold_seeds(seed, epoch, purpose)
            return data.shuffle(size, seeds, reshuffle_each_iteration=False)

        # The records of one shard; a record too few, or too many, is an error.
        def read(path, keep, names):
            count = tf.size(names, tf.int64)
            records = TFRecordDataset(path).apply(assert_cardinality(count))
            flags = Dataset.from_tensor_slices(keep)
            ids = Dataset.from_tensor_slices(names)
            rows = Dataset.zip(records, flags, ids)
            # Skipped here, since a TFRecord file can be read from its start only.
            rows = rows.filter(lambda record, keep, name: keep)
            return rows.map(lambda record, keep, name: (record, name))

        data = shuffled(data, len(self.shards), 0)
        data = data.interleave(read, cycle_length=CYCLE_LENGTH)
        return shuffled(data, min(len(self.entries), SHUFFLE_BUFFER), 1)

    @contextmanager
    def reading(self):
        """A context for loops over `batches`, in which damage is an error that names file and cure.

        Raises
        ------
        RecordsError
            If a shard is not what its index says; all such are named.
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
            # Without a graph, `error.op` is None: only the message names the operation that failed.
            # If it is not the one that reads, the error is of the network, say.
            if "IteratorGetNext" not in str(error):
                raise
            damaged = self._damaged_shards()
            if not damaged:
                raise
            problem = "damaged, or of another index"
            if len(damaged) > 1:
                problem += f", and so are {', '.join(map(str, damaged[1:]))}"
            cure = f"delete what is named and {WRITE_AGAIN} (notebook 01): the rest is kept"
            raise RecordsError(problem, path=damaged[0], cure=cure) from error

    def _damaged_shards(self):
        """Paths of the shards whose content is not that of their indices."""
        damaged = []
        for (path, entries), content_hash in zip(self.shards, self.provenance, strict=False):
            if not shards.verify(path, entries, content_hash):
                damaged.append(path)
        return damaged


def _read_indices(folder: Path) -> list:
    """The (path, index) of each shard of a folder, checked as far as no shard is read."""
    paths = shards.shard_paths(folder)
    if not paths:
        cure = "notebook 01 (or features.write_records) makes them"
        raise RecordsError("no records here", path=folder, cure=cure)
    alphabet = _read_alphabet(folder)
    indices = []
    for path in paths:
        index = shards.read_index(path)
        if not index:
            raise RecordsError("shard or index is not whole", path=path, cure=WRITE_AGAIN)
        if index["alphabet"] != alphabet:
            problem = f"not in the alphabet of {folder / VOCABULARY_FILE}"
            raise RecordsError(problem, path=path, cure=WRITE_AGAIN)
        indices.append((path, index))
    return indices


def _read_alphabet(folder):
    """The alphabet of a folder of records that was finished."""
    path = folder / VOCABULARY_FILE
    if not path.exists():
        cure = f"{WRITE_AGAIN}: what is there is kept"
        raise RecordsError("never finished", path=folder, cure=cure)
    try:
        return parse_json(path.read_bytes()).get("alphabet")
    except ValueError as error:
        raise RecordsError(f"not whole ({error})", path=path, cure=WRITE_AGAIN) from error


def _encoding(index):
    """What the records of one network must have in common."""
    return index["features"], index["alphabet"]


def fold_seeds(*numbers) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0] >> 1)
