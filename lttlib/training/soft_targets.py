"""What is stored of a teacher: encodings of logits and hints, and the files they stand in."""

import json
import zlib

import numpy as np
from safetensors import safe_open

from lttlib.files import CHECKSUM_KEY, parse_json, verify_checksum

ENCODINGS = ("float32", "float16", "log8", "top4")
LOG_PROB_STEP = 1 / 8  # nats between two 8-bit log-probabilities, which reach down to e^-31.9
TOP_K = 4  # classes that `top4` keeps
CURE = "write it again (notebook 03): what is whole is kept"


class GuidanceError(ValueError):
    """Guidance that is missing or belongs to something else; the message names what and where, and the cure."""


def encode(values, encoding="float16") -> bytes:
    """What is stored of one utterance.

    Parameters
    ----------
    values : float array [frames, channels]
        Logits or hints.
    encoding : {"float32", "float16", "log8", "top4"}
        `log8`: log-probabilities in steps of 1/8 nat, none under e^-31.9. `top4`: the same for each frame's four
        likeliest classes, their numbers, and what they leave, which `restore` shares out evenly.

    Returns
    -------
    bytes
    """
    if not np.isfinite(values).all():
        raise GuidanceError("values that are not finite: nobody can learn from this teacher")
    if encoding in ("float32", "float16"):
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(values, encoding)
        if not np.isfinite(kept).all():
            raise GuidanceError(
                f"values up to {np.abs(values).max():.3g} do not fit {encoding}: store float32"
            )
        # Byte by byte and channel by channel: what is alike stands together, and packs better.
        return zlib.compress(
            np.moveaxis(kept.view(np.uint8).reshape(*kept.shape, -1), 0, 2).tobytes(), 6
        )
    log = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    if encoding == "top4":
        best = np.argsort(-log, axis=1, kind="stable")[:, :TOP_K].astype(np.uint8)
        kept = np.take_along_axis(log, best, axis=1)
        left = np.log(np.maximum(1 - np.exp(kept).sum(axis=1, keepdims=True), 1e-9))
        steps = np.concatenate([best, _to_uint8(kept), _to_uint8(left)], axis=1)
    else:
        steps = _to_uint8(log)
    return zlib.compress(np.ascontiguousarray(steps.T).tobytes(), 6)


def _to_uint8(log):
    """Log-probabilities in 8 bits."""
    return np.rint(np.minimum(-log / LOG_PROB_STEP, 255)).astype(np.uint8)


def decode(stored: bytes, channels: int, encoding="float16"):
    """The inverse of `compress`, as far as there is one: float32 array [frames, channels].

    For `log8` and `top4` the values are log-probabilities, which are logits of the same distribution.
    """
    raw = np.frombuffer(zlib.decompress(stored), np.uint8)
    if encoding in ("float32", "float16"):
        kept = np.ascontiguousarray(
            np.moveaxis(raw.reshape(channels, np.dtype(encoding).itemsize, -1), 2, 0)
        )
        return kept.view(encoding)[..., 0].astype(np.float32)
    if encoding == "log8":
        return raw.reshape(channels, -1).T.astype(np.float32) * -LOG_PROB_STEP
    top = min(TOP_K, channels)
    rows = raw.reshape(2 * top + 1, -1)
    best, log = rows[:top].T, rows[top:].T.astype(np.float32) * -LOG_PROB_STEP
    values = np.repeat(
        log[:, -1:] - np.log(max(channels - top, 1), dtype=np.float32), channels, axis=1
    )
    np.put_along_axis(values, best.astype(np.int64), log[:, :-1], axis=1)
    return values


def _header(path) -> dict:
    """What stands at the head of a file of guidance."""
    try:
        with safe_open(path, "numpy") as file:
            told = parse_json((file.metadata() or {})["guidance"])
            found = verify_checksum(told)
            expected = True, found["records"][:16], set(found["utterances"])
            if (CHECKSUM_KEY in told, path.stem, set(file.keys())) != expected:
                raise ValueError("its name, entries or checksum are not those that its head tells")
        return found
    except OSError:
        raise
    except Exception as error:  # safetensors raises an exception of its own, without a common base
        raise GuidanceError(f"{path} is no guidance, or damaged ({error!r}); {CURE}") from error


def _byte_ranges(path) -> dict:
    """First byte and end of each entry in a file whose head is whole."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(start - 8))
    return {
        name: [start + at for at in entry["data_offsets"]]
        for name, entry in head.items()
        if "shape" in entry
    }


def _valid_entries(path, facts) -> dict:
    """Frames and checksum of each utterance of a file of these facts; none if it is missing or damaged."""
    try:
        found = _header(path)
        said = found.pop("utterances")
        with safe_open(path, "numpy") as file:
            whole = all(
                zlib.crc32(file.get_tensor(name)) == checksum
                for name, (_, checksum) in said.items()
            )
        return said if whole and found == facts else {}
    except (FileNotFoundError, GuidanceError):
        return {}
