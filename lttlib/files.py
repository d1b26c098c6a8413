"""Files that are whole or absent, their checksums, and the progress of long work."""

import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import zlib
from contextlib import contextmanager
from pathlib import Path

from lttlib import Error

PATIENCE = 2  # seconds of work before a bar appears
BATCH_SECONDS = 600  # between two lines of progress in a batch run
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHECKSUM_KEY = "crc32"
NUMBERS = re.compile(r"\[\n\s*-?\d[-+.\deE]*(,\n\s*-?\d[-+.\deE]*)*\n\s*\]")


@contextmanager
def atomic_write(path):
    """Write a file whole or not at all: the temporary path that is given is renamed at the end.

    If anything fails, the temporary file is removed and the old file at `path` stays. Temporary
    files of the same path that killed processes of this machine left are removed as well.

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
        If the disk is full, whatever class of error a library has for it.
    """
    path = Path(path)
    temporary = _temporary_path(path)
    try:
        with disk_full_errors(path):
            yield temporary
            # Sync before the rename: otherwise a power cut can leave an empty file at `path`.
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path):
    """Make a folder next to `path` to work in; it is removed at the end.

    Those that killed processes of this machine left for the same path are removed as well.

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
    """Return a temporary path next to `path`; delete those of dead processes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{platform.node()}."
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        if _is_alive(leftover.name.removeprefix(prefix)):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}")


def _is_alive(process: str) -> bool:
    """Whether a process of this number runs, as far as that can be known."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # of another user
        return True
    return True


@contextmanager
def disk_full_errors(path):
    """Raise an OSError that names `path` and the cure where the disk is full.

    TensorFlow and safetensors wrap the system's error in one of their own that has no `errno`, so
    that the system's words are searched for in the message.
    """
    try:
        yield
    except Exception as error:
        for number in DISK_FULL:
            words = os.strerror(number)
            if getattr(error, "errno", None) == number or words in str(error):
                cure = "make room and start again: what was finished before is kept"
                full = OSError(f"{path}: no room to write it ({words}); {cure}")
                full.path, full.cure = path, cure
                raise full from error
        raise


def write_json(path, value) -> None:
    """Write a value as readable JSON, lists of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # No text of a value holds a line break: JSON writes it as \\n.
    text = NUMBERS.sub(lambda match: " ".join(match[0].split()), text)
    with atomic_write(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def parse_json(text) -> dict:
    """Return the JSON object of a text or of UTF-8 bytes.

    Raises
    ------
    Error
        If it is anything else.
    """
    try:
        value = json.loads(text)
    except ValueError as error:  # not JSON, or not UTF-8
        raise Error(str(error)) from error
    except RecursionError as error:  # brackets within brackets, thousands deep
        raise Error("nested too deeply for anything that lttlib writes") from error
    if not isinstance(value, dict):
        raise Error(f"a JSON object is needed, not {type(value).__name__}")
    return value


def with_checksum(metadata, *contents) -> dict:
    """Add a checksum to metadata: of them and of contents (bytes or arrays) elsewhere in a file."""
    return metadata | {CHECKSUM_KEY: _checksum_text(metadata, contents)}


def verify_checksum(metadata, *contents) -> dict:
    """Verify the checksum and return the metadata without it.

    Metadata of versions before there were checksums have none, and pass.

    Raises
    ------
    Error
        If the checksum is not that of metadata and contents.
    """
    metadata = dict(metadata)
    if CHECKSUM_KEY not in metadata:
        return metadata
    if metadata.pop(CHECKSUM_KEY) != _checksum_text(metadata, contents):
        raise Error("its checksum is wrong, bytes have changed")
    return metadata


def _checksum_text(metadata, contents) -> str:
    """Return the checksum of metadata and contents as files hold it: eight hexadecimal digits."""
    text = json.dumps(metadata, sort_keys=True)
    return f"{checksum(text.encode(), *contents):08x}"


def checksum(*contents) -> int:
    """CRC-32 of bytes or arrays, one after the other, against damage."""
    value = 0
    for content in contents:
        value = zlib.crc32(content, value)
    return value


def fingerprint(*contents) -> str:
    """SHA-256 of bytes or arrays, one after the other, in hexadecimal: it identifies contents."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def progress(items=None, **options):
    """Return a `tqdm.tqdm` with these options that appears once work takes more than a moment.

    In a batch run (LTT_BATCH) it prints a line every ten minutes.
    """
    from tqdm import tqdm  # comes with the course, not with the base

    timing = {"delay": PATIENCE}
    if "LTT_BATCH" in os.environ:
        timing = {
            "delay": BATCH_SECONDS,
            "mininterval": BATCH_SECONDS,
            "maxinterval": BATCH_SECONDS,
            "ncols": 100,
        }
    return tqdm(items, leave=False, **timing, **options)
