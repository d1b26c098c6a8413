"""Guidance: a teacher's outputs for every utterance, written once, found by id, joined to records.

A folder holds a file of `soft_targets` for each shard of the records. The teacher's fingerprint
stands in each: guidance of another teacher, or of other records, is refused, and so is what has
been damaged since: each entry is read with its checksum.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from lttlib import Error
from lttlib.files import lock, progress
from lttlib.network.convnet import output_lengths
from lttlib.training.soft_targets import (
    ENCODINGS,
    FLOAT_ENCODINGS,
    GuidanceError,
    decode,
    encode,
    read_entry,
    read_header,
    stored_entries,
    valid_entries,
    write_file,
)

WRITE_AGAIN = "write it again (notebook 03)"


def write_guidance(records, teacher, folder, layer=None, encoding="float16", batch_size=16) -> dict:
    """Store a teacher's outputs for records.

    A file that is whole and up to date is not made again; others are there whole or not at all.

    Parameters
    ----------
    records : features.Records
    teacher : Teacher, Ensemble or OutOfFold
    folder : path-like
        Where the guidance goes.
    layer : int, optional
        Store hints, the activations after this layer; without it logits.
    encoding : str
        One of `ENCODINGS`; for hints "float32" or "float16".
    batch_size : int

    Returns
    -------
    dict with utterances, frames, bytes, files_made.

    Raises
    ------
    GuidanceError
        If the records' features or alphabet are not the teacher's.
    Error
        If encoding or layer do not exist.
    """
    allowed = FLOAT_ENCODINGS if layer else ENCODINGS
    if encoding not in allowed:
        raise Error(f"unknown encoding '{encoding}'", cure=f"choose one of {', '.join(allowed)}")
    _check_records(teacher, records)

    # What all files have in common.
    common = {
        "teacher": teacher.fingerprint,
        "layer": layer,
        "form": encoding,
        "channels": teacher.channels(layer),
    }

    # Logits or hints of a batch, and their lengths.
    @tf.function(reduce_retracing=True)
    def run_teacher(batch):
        return teacher.outputs(batch, layer)

    # Of two processes that write to one folder, the second finds all done.
    folder = Path(folder)
    with lock(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return _write_files(folder, records, common, run_teacher, batch_size=batch_size)


def _write_files(folder, records, common, run_teacher, *, batch_size):
    """One file for each shard of records, written unless it is whole and up to date; totals."""
    totals = {"utterances": 0, "frames": 0, "bytes": 0, "files_made": 0}
    paths = set()
    shards = list(records.split_by_shard())
    for records_hash, shard in progress(shards, desc=f"guidance {folder.name}", unit="shard"):
        path = folder / f"{records_hash[:16]}.safetensors"
        paths.add(path)
        metadata = common | {"records": records_hash}
        ids = {entry.id for entry in shard.entries}
        entries = valid_entries(path, metadata)
        if not ids <= entries.keys():
            outputs = _encode_shard(shard, run_teacher, common["form"], batch_size)
            entries = write_file(path, metadata, outputs)
            totals["files_made"] += 1
        totals["utterances"] += len(ids)
        totals["frames"] += sum(entries[name][0] for name in ids)
        totals["bytes"] += path.stat().st_size

    # Files of shards that are no more.
    for path in set(folder.glob("*.safetensors")) - paths:
        path.unlink()
    return totals


def _check_records(teacher, records):
    """Raise a GuidanceError if records have other features or another alphabet than a teacher."""
    needed = [teacher.feature_config, teacher.alphabet]
    stored = [records.feature_config, records.alphabet]
    if needed != stored:
        raise GuidanceError(
            f"{teacher.name} takes features and alphabet {needed}, the records hold {stored}",
            cure="write the records again as the teacher takes them",
        )


def _encode_shard(shard, run_teacher, encoding, batch_size):
    """Frames and encoded outputs of a teacher for each utterance of a shard, by id."""
    outputs = {}
    with shard.reading():
        for batch in shard.batches(batch_size):
            values, lengths = run_teacher(batch)
            values = values.numpy()
            lengths = lengths.numpy()
            for row, name in enumerate(batch["id"].numpy()):
                frames = int(lengths[row])
                outputs[name.decode()] = frames, encode(values[row, :frames], encoding)
    return outputs


class Guidance:
    """Guidance opened for reading.

    Parameters
    ----------
    folder : path-like
    teacher : Teacher, optional
        To be sure that the guidance is this teacher's.

    Attributes
    ----------
    folder : pathlib.Path
    paths, frames : dict
        File, and number of frames, of each utterance by its id.
    teacher : str
        The teacher's fingerprint.
    layer : int or None
        The layer that hints were taken from; None: logits.
    encoding : str
    channels : int

    Raises
    ------
    GuidanceError
        If there is none, it is another teacher's, or a file is cut, damaged at its head, or has
        another one's name.
    """

    def __init__(self, folder, teacher=None):
        self.folder = Path(folder)
        self.paths = {}
        self.frames = {}
        self._entries = {}
        common = self._read_headers()
        self.teacher = common["teacher"]
        self.layer = common["layer"]
        self.encoding = common["form"]
        self.channels = common["channels"]
        if teacher is not None and teacher.fingerprint != self.teacher:
            raise GuidanceError(
                f"not the guidance of {teacher.name}",
                path=self.folder,
                cure="write its guidance again (notebook 03)",
            )

    def _read_headers(self):
        """Read the headers of all files; return what they have in common."""
        kinds = set()
        for path in sorted(self.folder.glob("*.safetensors")):
            header = read_header(path)
            utterances = header.pop("utterances")
            self.paths |= dict.fromkeys(utterances, path)
            self.frames |= {name: frames for name, (frames, _) in utterances.items()}
            self._entries |= stored_entries(path, utterances)
            del header["records"]
            kinds.add(json.dumps(header, sort_keys=True))
        if not self.paths:
            cure = "notebook 03 (or training.write_guidance) makes it"
            raise GuidanceError("no guidance here", path=self.folder, cure=cure)
        if len(kinds) > 1:
            problem = "guidance of different kinds in one folder"
            raise GuidanceError(problem, path=self.folder, cure="delete it and write it again")
        return json.loads(kinds.pop())

    def read(self, name: str):
        """Logits or hints of one utterance: float32 array [frames, channels].

        Raises
        ------
        GuidanceError
            If there are none, or they are damaged.
        """
        self._check_exists(name)
        stored = read_entry(self.paths[name], name, self._entries[name])
        return decode(stored, self.channels, self.encoding)

    def _check_exists(self, name):
        if name not in self.paths:
            raise GuidanceError(f"no guidance for {name}", path=self.folder, cure=WRITE_AGAIN)

    def join(self, records, spec):
        """Records whose batches hold this guidance too, as `teacher_logits` or `hints`.

        They are float32 [batch, frames, channels], 0 beyond the frames of each utterance.

        Parameters
        ----------
        records : features.Records
        spec : network.ConvSpec
            The student's, or as much of it as learns from hints; its frames must be the teacher's.

        Returns
        -------
        features.Records

        Raises
        ------
        GuidanceError
            If an utterance has no guidance, or guidance of other records or of another number of
            frames than the student has.
        """
        for records_hash, shard in records.split_by_shard():
            for entry in shard.entries:
                self._check_entry(entry, records_hash, spec)
        key = "hints" if self.layer else "teacher_logits"

        def read_batch(names, frames):
            try:
                return self._read_batch(names, frames)
            except GuidanceError as error:
                records.errors.append(error)  # `Records.reading` raises it
                raise

        def add_guidance(batch):
            frames = output_lengths(spec, tf.shape(batch["features"])[1])
            values = tf.numpy_function(read_batch, [batch["id"], frames], tf.float32)
            values.set_shape([None, None, self.channels])
            return batch | {key: values}

        return records.map(add_guidance, f"guidance {self.teacher} {self.layer} {self.encoding}")

    def _check_entry(self, entry, records_hash, spec):
        """Raise a GuidanceError if there is no guidance of a record that fits a student."""
        self._check_exists(entry.id)
        if self.paths[entry.id].stem != records_hash[:16]:
            problem = f"the guidance of {entry.id} is of other records"
            raise GuidanceError(problem, path=self.folder, cure=WRITE_AGAIN)
        frames = self.frames[entry.id]
        student_frames = output_lengths(spec, entry.frames)
        if frames != student_frames:
            raise GuidanceError(
                f"{entry.id}: {frames} frames of the teacher, {student_frames} of the student",
                cure=f"give it strides whose product is the teacher's, not {spec.strides}",
            )

    def _read_batch(self, names, frames):
        """Logits or hints of a batch, padded with zeros: float32 [batch, frames, channels]."""
        batch = np.zeros((len(names), frames, self.channels), np.float32)
        for row, name in enumerate(names):
            values = self.read(name.decode())
            batch[row, : len(values)] = values
        return batch
