"""Files that are there whole or not at all, and how far the work on them has come."""

import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import zlib
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 2  # seconds of work that pass without a bar
BATCH_SECONDS = 600  # between two lines of progress where nobody watches
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path):
    """A temporary path beside `path` to write to; it takes its place at the end, and goes if anything fails.

    What a killed process of this machine left of the same file goes as well.

    Parameters
    ----------
    path : path-like
        Its folder is made.

    Yields
    ------
    pathlib.Path

    Raises
    ------
    OSError
        If there is no room for it, whichever library says so and in whatever class of error; what stood at `path` is
        kept.
    """
    path, temporary = Path(path), _temporary_path(path)
    try:
        with disk_full_errors(path):
            yield temporary
            with open(
                temporary, "rb+"
            ) as file:  # a rename that outlives a power cut shall not name an empty file
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path):
    """A folder beside `path` to work in; it goes at the end, and so does what a killed process left of the same.

    Yields
    ------
    pathlib.Path
    """
    temporary = _temporary_path(path)
    try:
        temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_path(path):
    """Name of this process for what shall become `path`; those of processes that have ended are removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(name)}*"):
        if not _is_alive(left.name.removeprefix(name)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{name}{os.getpid()}")


@contextmanager
def disk_full_errors(path):
    """Where there is no room to write `path`, an OSError says so, whatever class of error a library has for it."""
    try:
        yield
    except Exception as error:
        for number in NO_ROOM:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                cure = "make room and start again: what was finished before is kept"
                raise OSError(
                    f"{path}: no room to write it ({os.strerror(number)}); {cure}"
                ) from error
        raise


def _is_alive(process: str) -> bool:
    """Whether a process of this number runs, as far as can be told."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_json(path, value) -> None:
    """Write a value as readable JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def progress(items=None, **options):
    """A bar with rate and time left, as `tqdm.tqdm` makes it with these options, once work takes more than a moment.

    In a batch run (LTT_BATCH) it is a line every ten minutes.
    """
    from tqdm import tqdm  # comes with the course, not with the base

    every = {"delay": PATIENCE}
    if "LTT_BATCH" in os.environ:
        every = {
            "delay": BATCH_SECONDS,
            "mininterval": BATCH_SECONDS,
            "maxinterval": BATCH_SECONDS,
            "ncols": 100,
        }
    return tqdm(items, leave=False, **every, **options)


CHECKSUM_KEY = "crc32"


def parse_json(text) -> dict:
    """The JSON object that a text or UTF-8 bytes hold.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:  # brackets within brackets, thousands deep
        raise ValueError("nothing that lttlib writes is nested as deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is needed, not {type(value).__name__}")
    return value


def with_checksum(facts, *contents) -> dict:
    """Facts with a checksum of them, and of contents (bytes or arrays) that lie elsewhere in the file."""
    return facts | {CHECKSUM_KEY: _seal(facts, contents)}


def verify_checksum(sealed, *contents) -> dict:
    """The facts without their seal. Those of files written before there were seals have none, and pass.

    Raises
    ------
    ValueError
        If they or the contents are not those that were sealed.
    """
    facts = {name: value for name, value in sealed.items() if name != CHECKSUM_KEY}
    if CHECKSUM_KEY in sealed and sealed[CHECKSUM_KEY] != _seal(facts, contents):
        raise ValueError("its checksum is wrong, bytes have changed")
    return facts


def checksum(*contents) -> int:
    """CRC-32 of bytes or arrays, one after the other: notices damage."""
    value = 0
    for content in contents:
        value = zlib.crc32(content, value)
    return value


def fingerprint(*contents) -> str:
    """SHA-256 of bytes or arrays, one after the other, in hexadecimal: tells contents apart."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _seal(facts, contents) -> str:
    """The checksum of metadata and contents as it stands in files: as long as any other."""
    return f"{checksum(json.dumps(facts, sort_keys=True).encode(), *contents):08x}"
