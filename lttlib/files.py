"""Files that are there whole or not at all, and how far the work on them has come."""

import errno
import glob
import json
import os
import platform
import shutil
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 2  # seconds of work that pass without a bar
BATCH_SECONDS = 600  # between two lines of progress where nobody watches
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path):
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
    path, temporary = Path(path), _beside(path)
    try:
        with room_for(path):
            yield temporary
            with open(temporary, "rb+") as file:  # a rename that outlives a power cut shall not name an empty file
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch(path):
    """A folder beside `path` to work in; it goes at the end, and so does what a killed process left of the same.

    Yields
    ------
    pathlib.Path
    """
    temporary = _beside(path)
    try:
        temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path):
    """Name of this process for what shall become `path`; those of processes that have ended are removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(name)}*"):
        if not _runs(left.name.removeprefix(name)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{name}{os.getpid()}")


@contextmanager
def room_for(path):
    """Where there is no room to write `path`, an OSError says so, whatever class of error a library has for it."""
    try:
        yield
    except Exception as error:
        for number in NO_ROOM:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                cure = "make room and start again: what was finished before is kept"
                raise OSError(f"{path}: no room to write it ({os.strerror(number)}); {cure}") from error
        raise


def _runs(process: str) -> bool:
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
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def progress(items=None, **options):
    """A bar with rate and time left, as `tqdm.tqdm` makes it with these options, once work takes more than a moment.

    In a batch run (LTT_BATCH) it is a line every ten minutes.
    """
    from tqdm import tqdm  # comes with the course, not with the base

    every = {"delay": PATIENCE}
    if "LTT_BATCH" in os.environ:
        every = {"delay": BATCH_SECONDS, "mininterval": BATCH_SECONDS, "maxinterval": BATCH_SECONDS, "ncols": 100}
    return tqdm(items, leave=False, **every, **options)
