"""Files that are there whole or not at all."""

import json
import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path):
    """A temporary path beside `path` to write to; it takes its place at the end, and goes if anything fails.

    Parameters
    ----------
    path : path-like
        Its folder is made.

    Yields
    ------
    pathlib.Path
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, value) -> None:
    """Write a value as readable JSON."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
