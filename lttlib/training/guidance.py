"""What a teacher says about every utterance: written once, found by id, joined to the records of its students.

A folder holds one safetensors file for each shard of the records, in it one compressed entry an utterance under its id.
The teacher's fingerprint stands in each file: guidance of another teacher, or of other records, is refused, and so is
what has been damaged since: each entry is read with its checksum.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import safetensors.numpy
import tensorflow as tf

from lttlib.files import atomic_write, progress, with_checksum
from lttlib.network.convnet import output_lengths
from lttlib.training import soft_targets


def write_guidance(records, teacher, folder, layer=None, encoding="float16", batch_size=16) -> dict:
    """Store what a teacher says about records.

    A file that is whole and up to date is not made again; others are there whole or not at all.

    Parameters
    ----------
    records : features.Records
    teacher : Teacher
    folder : path-like
        Where the guidance goes.
    layer : int, optional
        Store hints, the activations after this layer; without it logits.
    encoding : str
        One of `FORMS`; for hints "float32" or "float16".
    batch_size : int

    Returns
    -------
    dict with utterances, frames, bytes, files_made.

    Raises
    ------
    GuidanceError
        If the records' features or alphabet are not the teacher's.
    ValueError
        If encoding or layer do not exist.
    """
    if encoding not in soft_targets.ENCODINGS or (layer and not encoding.startswith("float")):
        allowed = soft_targets.ENCODINGS[:2] if layer else soft_targets.ENCODINGS
        raise ValueError(f"unknown encoding '{encoding}': choose one of {', '.join(allowed)}")
    spec, folder = teacher.network.spec, Path(folder)
    if layer is not None and not 1 <= layer <= len(spec.filters):
        raise ValueError(f"layer {layer}: {teacher.name} has layers 1 to {len(spec.filters)}")
    if (teacher.feature_config, teacher.alphabet) != (records.feature_config, records.alphabet):
        ours, theirs = (
            f"{x.feature_config} in the alphabet {x.alphabet!r}" for x in (teacher, records)
        )
        raise soft_targets.GuidanceError(f"{teacher.name} hears {ours}, the records hold {theirs}")
    channels = spec.filters[layer - 1] if layer else spec.classes
    run = tf.function(
        lambda x, lengths: teacher.network(x, lengths, up_to=layer), reduce_retracing=True
    )
    folder.mkdir(parents=True, exist_ok=True)
    total = {"utterances": 0, "frames": 0, "bytes": 0, "files_made": 0}
    names = set()
    for content, part in progress(
        list(records.split_by_shard()), desc=f"guidance {folder.name}", unit="shard"
    ):
        path = folder / f"{content[:16]}.safetensors"
        names.add(path.name)
        facts = {
            "teacher": teacher.fingerprint,
            "layer": layer,
            "form": encoding,
            "channels": channels,
            "records": content,
        }
        ids = {entry.id for entry in part.entries}
        said = soft_targets._valid_entries(path, facts)
        if not ids <= set(said):
            stored, said = {}, {}
            with part.reading():
                for batch in part.batches(batch_size):
                    values, lengths = run(batch["features"], batch["feature_lengths"])
                    for name, value, length in zip(
                        batch["id"].numpy(), values.numpy(), lengths.numpy(), strict=True
                    ):
                        kept = soft_targets.encode(value[:length], encoding)
                        said[name.decode()] = int(length), zlib.crc32(kept)
                        stored[name.decode()] = np.frombuffer(kept, np.uint8)
            # Under one key: the order of several varies from process to process.
            told = {"guidance": json.dumps(with_checksum(facts | {"utterances": said}))}
            with atomic_write(path) as temporary:
                safetensors.numpy.save_file(stored, temporary, told)
            total["files_made"] += 1
        total["utterances"] += len(ids)
        total["frames"] += sum(frames for name, (frames, _) in said.items() if name in ids)
        total["bytes"] += path.stat().st_size
    for old in folder.glob("*.safetensors"):
        if old.name not in names:
            old.unlink()
    return total


class Guidance:
    """Guidance opened for reading.

    Parameters
    ----------
    folder : path-like
    teacher : Teacher, optional
        To be sure that the guidance is this teacher's.

    Raises
    ------
    GuidanceError
        If there is none, it is another teacher's, or a file is cut, damaged at its head, or has another one's name.
    """

    def __init__(self, folder, teacher=None):
        self.folder, self.paths, self.frames, facts = Path(folder), {}, {}, set()
        self._stored = {}  # where in its file each entry begins and ends, and its checksum
        for path in sorted(self.folder.glob("*.safetensors")):
            found = soft_targets._header(path)
            spans = soft_targets._byte_ranges(path)
            for name, (frames, checksum) in found.pop("utterances").items():
                self.paths[name], self.frames[name], self._stored[name] = (
                    path,
                    frames,
                    (*spans[name], checksum),
                )
            del found["records"]
            facts.add(json.dumps(found, sort_keys=True))
        if not self.paths:
            raise soft_targets.GuidanceError(
                f"{folder}: no guidance here; notebook 03 (or guidance.write) makes it"
            )
        if len(facts) > 1:
            raise soft_targets.GuidanceError(
                f"{folder}: guidance of different kinds in one folder; delete it and write it again"
            )
        facts = json.loads(facts.pop())
        self.teacher, self.layer = facts["teacher"], facts["layer"]
        self.encoding, self.channels = facts["form"], facts["channels"]
        if teacher is not None and teacher.fingerprint != self.teacher:
            raise soft_targets.GuidanceError(
                f"{folder}: this is not what {teacher.name} says; write its guidance again (notebook 03)"
            )

    def read(self, name: str):
        """Logits or hints of one utterance: float32 array [frames, channels]; `GuidanceError` if they are damaged."""
        if name not in self.paths:
            raise soft_targets.GuidanceError(
                f"{self.folder}: no guidance for {name}; write it again (notebook 03)"
            )
        start, end, checksum = self._stored[name]
        with self.paths[name].open(
            "rb"
        ) as file:  # mapped into memory, a file that is cut now would end the process
            file.seek(start)
            stored = file.read(end - start)
        if zlib.crc32(stored) != checksum:
            raise soft_targets.GuidanceError(
                f"{self.paths[name]}: what is said of {name} is damaged; {soft_targets.CURE}"
            )
        return soft_targets.decode(stored, self.channels, self.encoding)

    def join(self, records, spec):
        """Records whose batches hold this guidance too, as `teacher_logits` or `hints` [batch, frames, channels].

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
            If an utterance has no guidance, or guidance of other records or of another number of frames than the
            student has.
        """
        pairs = (
            (content, entry) for content, part in records.split_by_shard() for entry in part.entries
        )
        for content, entry in pairs:
            frames = self.frames.get(entry.id)
            if frames is None:
                raise soft_targets.GuidanceError(
                    f"{self.folder}: no guidance for {entry.id}; write it again (notebook 03)"
                )
            if self.paths[entry.id].stem != content[:16]:
                raise soft_targets.GuidanceError(
                    f"{self.folder}: what is said of {entry.id} is of other records; write it again"
                )
            if frames != output_lengths(spec, entry.frames):
                raise soft_targets.GuidanceError(
                    f"{entry.id}: {frames} frames of the teacher, {output_lengths(spec, entry.frames)} of the student: "
                    f"give it strides whose product is the teacher's, not {spec.strides}"
                )

        def look_up(names, frames):
            values = np.zeros((len(names), frames, self.channels), np.float32)
            try:
                for row, name in enumerate(names):
                    found = self.read(name.decode())
                    values[row, : len(found)] = found
            except soft_targets.GuidanceError as error:
                records.errors.append(error)  # `Records.reading` raises it
                raise
            return values

        def add(batch):
            frames = output_lengths(spec, tf.shape(batch["features"])[1])
            values = tf.numpy_function(look_up, [batch["id"], frames], tf.float32)
            values.set_shape([None, None, self.channels])
            return batch | {"hints" if self.layer else "teacher_logits": values}

        return records.map(add, f"guidance {self.teacher} {self.layer} {self.encoding}")
