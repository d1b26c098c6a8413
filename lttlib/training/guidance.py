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
from safetensors import safe_open

from lttlib import sealing, storage
from lttlib.files import progress, whole
from lttlib.models import output_lengths

FORMS = ("float32", "float16", "log8", "top4")
STEP = 1 / 8  # nats between two 8-bit log-probabilities, which reach down to e^-31.9
TOP = 4  # classes that `top4` keeps
CURE = "write it again (notebook 03): what is whole is kept"


class GuidanceError(ValueError):
    """Guidance that is missing or belongs to something else; the message names what and where, and the cure."""


def compress(values, form="float16") -> bytes:
    """What is stored of one utterance.

    Parameters
    ----------
    values : float array [frames, channels]
        Logits or hints.
    form : {"float32", "float16", "log8", "top4"}
        `log8`: log-probabilities in steps of 1/8 nat, none under e^-31.9. `top4`: the same for each frame's four
        likeliest classes, their numbers, and what they leave, which `restore` shares out evenly.

    Returns
    -------
    bytes
    """
    if not np.isfinite(values).all():
        raise GuidanceError("values that are not finite: nobody can learn from this teacher")
    if form in ("float32", "float16"):
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(values, form)
        if not np.isfinite(kept).all():
            raise GuidanceError(f"values up to {np.abs(values).max():.3g} do not fit {form}: store float32")
        # Byte by byte and channel by channel: what is alike stands together, and packs better.
        return zlib.compress(np.moveaxis(kept.view(np.uint8).reshape(*kept.shape, -1), 0, 2).tobytes(), 6)
    log = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    if form == "top4":
        best = np.argsort(-log, axis=1, kind="stable")[:, :TOP].astype(np.uint8)
        kept = np.take_along_axis(log, best, axis=1)
        left = np.log(np.maximum(1 - np.exp(kept).sum(axis=1, keepdims=True), 1e-9))
        steps = np.concatenate([best, _steps(kept), _steps(left)], axis=1)
    else:
        steps = _steps(log)
    return zlib.compress(np.ascontiguousarray(steps.T).tobytes(), 6)


def _steps(log):
    """Log-probabilities in 8 bits."""
    return np.rint(np.minimum(-log / STEP, 255)).astype(np.uint8)


def restore(stored: bytes, channels: int, form="float16"):
    """The inverse of `compress`, as far as there is one: float32 array [frames, channels].

    For `log8` and `top4` the values are log-probabilities, which are logits of the same distribution.
    """
    raw = np.frombuffer(zlib.decompress(stored), np.uint8)
    if form in ("float32", "float16"):
        kept = np.ascontiguousarray(np.moveaxis(raw.reshape(channels, np.dtype(form).itemsize, -1), 2, 0))
        return kept.view(form)[..., 0].astype(np.float32)
    if form == "log8":
        return raw.reshape(channels, -1).T.astype(np.float32) * -STEP
    top = min(TOP, channels)
    rows = raw.reshape(2 * top + 1, -1)
    best, log = rows[:top].T, rows[top:].T.astype(np.float32) * -STEP
    values = np.repeat(log[:, -1:] - np.log(max(channels - top, 1), dtype=np.float32), channels, axis=1)
    np.put_along_axis(values, best.astype(np.int64), log[:, :-1], axis=1)
    return values


def write(records, teacher, folder, layer=None, form="float16", batch_size=16) -> dict:
    """Store what a teacher says about records.

    A file that is whole and up to date is not made again; others are there whole or not at all.

    Parameters
    ----------
    records : records.Records
    teacher : path-like
        A model folder.
    folder : path-like
        Where the guidance goes.
    layer : int, optional
        Store hints, the activations after this layer; without it logits.
    form : str
        One of `FORMS`; for hints "float32" or "float16".
    batch_size : int

    Returns
    -------
    dict with utterances, frames, bytes, files_made.

    Raises
    ------
    GuidanceError
        If the records' features or alphabet are not the teacher's, or it is a deployed file.
    ValueError
        If form or layer do not exist.
    """
    if form not in FORMS or (layer and not form.startswith("float")):
        allowed = FORMS[:2] if layer else FORMS
        raise ValueError(f"unknown form '{form}': choose one of {', '.join(allowed)}")
    model, fingerprint, folder = storage.load(teacher), storage.card(teacher)["fingerprint"], Path(folder)
    if isinstance(model, storage.Recogniser):
        raise GuidanceError(f"{teacher} is deployed, which teaches nobody: name the model that it was made of")
    spec = model.network.spec
    if layer is not None and not 1 <= layer <= len(spec.filters):
        raise ValueError(f"layer {layer}: {teacher} has layers 1 to {len(spec.filters)}")
    if (model.features, model.alphabet) != (records.features, records.alphabet):
        ours, theirs = (f"{x.features} in the alphabet {x.alphabet!r}" for x in (model, records))
        raise GuidanceError(f"{teacher} hears {ours}, the records hold {theirs}")
    channels = spec.filters[layer - 1] if layer else spec.classes
    run = tf.function(lambda x, lengths: model.network(x, lengths, up_to=layer), reduce_retracing=True)
    folder.mkdir(parents=True, exist_ok=True)
    total = {"utterances": 0, "frames": 0, "bytes": 0, "files_made": 0}
    names = set()
    for content, part in progress(list(records.by_shard()), desc=f"guidance {folder.name}", unit="shard"):
        path = folder / f"{content[:16]}.safetensors"
        names.add(path.name)
        facts = {"teacher": fingerprint, "layer": layer, "form": form, "channels": channels, "records": content}
        ids = {entry.id for entry in part.entries}
        said = _said(path, facts)
        if not ids <= set(said):
            stored, said = {}, {}
            with part.reading():
                for batch in part.batches(batch_size):
                    values, lengths = run(batch["features"], batch["feature_lengths"])
                    for name, value, length in zip(batch["id"].numpy(), values.numpy(), lengths.numpy(), strict=True):
                        kept = compress(value[:length], form)
                        said[name.decode()] = int(length), zlib.crc32(kept)
                        stored[name.decode()] = np.frombuffer(kept, np.uint8)
            # Under one key: the order of several varies from process to process.
            told = {"guidance": json.dumps(sealing.seal(facts | {"utterances": said}))}
            with whole(path) as temporary:
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
    teacher : path-like, optional
        A model folder, to be sure that the guidance is this teacher's.

    Raises
    ------
    GuidanceError
        If there is none, it is another teacher's, or a file is cut, damaged at its head, or has another one's name.
    """

    def __init__(self, folder, teacher=None):
        self.folder, self.places, self.frames, facts = Path(folder), {}, {}, set()
        self._stored = {}  # where in its file each entry begins and ends, and its checksum
        for path in sorted(self.folder.glob("*.safetensors")):
            found = _header(path)
            spans = _spans(path)
            for name, (frames, checksum) in found.pop("utterances").items():
                self.places[name], self.frames[name], self._stored[name] = path, frames, (*spans[name], checksum)
            del found["records"]
            facts.add(json.dumps(found, sort_keys=True))
        if not self.places:
            raise GuidanceError(f"{folder}: no guidance here; notebook 03 (or guidance.write) makes it")
        if len(facts) > 1:
            raise GuidanceError(f"{folder}: guidance of different kinds in one folder; delete it and write it again")
        facts = json.loads(facts.pop())
        self.teacher, self.layer = facts["teacher"], facts["layer"]
        self.form, self.channels = facts["form"], facts["channels"]
        if teacher is not None and storage.card(teacher)["fingerprint"] != self.teacher:
            raise GuidanceError(f"{folder}: this is not what {teacher} says; write its guidance again (notebook 03)")

    def read(self, name: str):
        """Logits or hints of one utterance: float32 array [frames, channels]; `GuidanceError` if they are damaged."""
        if name not in self.places:
            raise GuidanceError(f"{self.folder}: no guidance for {name}; write it again (notebook 03)")
        start, end, checksum = self._stored[name]
        with self.places[name].open("rb") as file:  # mapped into memory, a file that is cut now would end the process
            file.seek(start)
            stored = file.read(end - start)
        if zlib.crc32(stored) != checksum:
            raise GuidanceError(f"{self.places[name]}: what is said of {name} is damaged; {CURE}")
        return restore(stored, self.channels, self.form)

    def join(self, records, spec):
        """Records whose batches hold this guidance too, as `teacher_logits` or `hints` [batch, frames, channels].

        Parameters
        ----------
        records : records.Records
        spec : models.ConvSpec
            The student's, or as much of it as learns from hints; its frames must be the teacher's.

        Returns
        -------
        records.Records

        Raises
        ------
        GuidanceError
            If an utterance has no guidance, or guidance of other records or of another number of frames than the
            student has.
        """
        pairs = ((content, entry) for content, part in records.by_shard() for entry in part.entries)
        for content, entry in pairs:
            frames = self.frames.get(entry.id)
            if frames is None:
                raise GuidanceError(f"{self.folder}: no guidance for {entry.id}; write it again (notebook 03)")
            if self.places[entry.id].stem != content[:16]:
                raise GuidanceError(f"{self.folder}: what is said of {entry.id} is of other records; write it again")
            if frames != output_lengths(spec, entry.frames):
                raise GuidanceError(
                    f"{entry.id}: {frames} frames of the teacher, {output_lengths(spec, entry.frames)} of the student: "
                    f"give it strides whose product is the teacher's, not {spec.strides}"
                )

        def look_up(names, frames):
            values = np.zeros((len(names), frames, self.channels), np.float32)
            try:
                for row, name in enumerate(names):
                    found = self.read(name.decode())
                    values[row, : len(found)] = found
            except GuidanceError as error:
                records.faults.append(error)  # `Records.reading` raises it
                raise
            return values

        def add(batch):
            frames = output_lengths(spec, tf.shape(batch["features"])[1])
            values = tf.numpy_function(look_up, [batch["id"], frames], tf.float32)
            values.set_shape([None, None, self.channels])
            return batch | {"hints" if self.layer else "teacher_logits": values}

        return records.mapped(add, f"guidance {self.teacher} {self.layer} {self.form}")


def _header(path) -> dict:
    """What stands at the head of a file of guidance."""
    try:
        with safe_open(path, "numpy") as file:
            told = sealing.parse((file.metadata() or {})["guidance"])
            found = sealing.check(told)
            expected = True, found["records"][:16], set(found["utterances"])
            if (sealing.SEAL in told, path.stem, set(file.keys())) != expected:
                raise ValueError("its name, entries or checksum are not those that its head tells")
        return found
    except OSError:
        raise
    except Exception as error:  # safetensors raises an exception of its own, without a common base
        raise GuidanceError(f"{path} is no guidance, or damaged ({error!r}); {CURE}") from error


def _spans(path) -> dict:
    """First byte and end of each entry in a file whose head is whole."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(start - 8))
    return {name: [start + at for at in entry["data_offsets"]] for name, entry in head.items() if "shape" in entry}


def _said(path, facts) -> dict:
    """Frames and checksum of each utterance of a file of these facts; none if it is missing or damaged."""
    try:
        found = _header(path)
        said = found.pop("utterances")
        with safe_open(path, "numpy") as file:
            whole = all(zlib.crc32(file.get_tensor(name)) == checksum for name, (_, checksum) in said.items())
        return said if whole and found == facts else {}
    except (FileNotFoundError, GuidanceError):
        return {}
