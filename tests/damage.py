"""The language of broken files: what damages a good file, and what every refusal must be like.

A damage is a function of the folder `workspace` (the fixture: one good file of each kind). It is a
generator: once for each damage it yields the path that the error is to name. A table of bad input
is a list of rows (id, damage, use, error class, cure): `use(folder, path)` does with the file what
a user would do, and `cure` is a pattern that is searched in the error's cure. `assert_refused`
tests a row.
"""

import re
import resource
import sys

import numpy as np
import pytest

MAX_MEMORY = 300 * 2**20  # bytes that a refusal may take


def rows(table):
    """Parametrise a test with the rows of a table, by their ids."""
    assert len({kind for kind, *_ in table}) == len(table), "each kind stands once"
    parameters = [pytest.param(*row, id=kind) for kind, *row in table]
    return pytest.mark.parametrize("damage, use, error, cure", parameters)


def assert_refused(workspace, damage, use, error, cure):
    """Each damage gives an error of this class (or one of several) and leaves nothing behind."""
    classes = error if isinstance(error, tuple) else (error,)
    times, memory = 0, peak_memory()
    for path in damage(workspace):
        # A downloaded archive that is damaged is removed, and its hash.
        aside = {path.name, f"{path.name}.sha256"}
        before = tree(workspace, aside)
        with pytest.raises(Exception) as caught:  # noqa: B017, of which class is looked at below
            use(workspace, path)
        refused = caught.value
        assert type(refused) in classes, repr(refused)
        assert path.name in str(refused.path) and path.name in str(refused)
        assert re.search(cure, refused.cure) and refused.cure in str(refused)
        assert len(str(refused)) < 4000, "nobody reads that much"
        assert tree(workspace, aside) == before
        times += 1
    assert times, "nothing was damaged"
    assert peak_memory() < memory + MAX_MEMORY


def tree(folder, but):
    """Size, time and number of each file and link of a folder, but for those of some names."""
    files = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        if path.name not in but and not path.is_dir():
            files[path] = stat.st_size, stat.st_mtime_ns, stat.st_ino
    return files


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def change(name, function):
    """Write function(bytes of the file) to it."""

    def damage(workspace):
        path = workspace / name
        path.write_bytes(function(path.read_bytes()))
        yield path

    return damage


def content(name, data):
    """Write these bytes, whatever was there."""

    def damage(workspace):
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        yield path

    return damage


def remove(name, named=None):
    def damage(workspace):
        (workspace / name).unlink()
        yield workspace / (named or name)

    return damage


def replaced(old, new):
    """One text in a file by another."""

    def function(data):
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    return function


def naming(name, damage):
    """The same damage, where the message is to name something else."""

    def other(workspace):
        for _ in damage(workspace):
            yield workspace / name

    return other


def series(name, versions, after=lambda path: None):
    """Each of versions(bytes of the file) in turn."""

    def damage(workspace):
        path = workspace / name
        data = path.read_bytes()
        for version in versions(data):
            path.write_bytes(version)
            after(path)
            yield path
        path.write_bytes(data)

    return damage


def cuts(parts):
    """The first 0, 1, ... of so many parts."""
    return lambda data: (data[: len(data) * part // parts] for part in range(parts))


def flips(count, start=0, end=None):
    """The same with one bit changed, at so many places."""

    def versions(data):
        first, beyond, _ = slice(start, end).indices(len(data))
        for number, place in enumerate(np.linspace(first, beyond - 1, count).astype(int)):
            yield data[:place] + bytes([data[place] ^ 1 << number % 8]) + data[place + 1 :]

    return versions


def swapped(first, second):
    def damage(workspace):
        here = workspace / first
        there = workspace / second
        assert here.stat().st_size == there.stat().st_size or here.suffix != ".tfrecord"
        content_here = here.read_bytes()
        assert content_here != there.read_bytes()
        here.write_bytes(there.read_bytes())
        there.write_bytes(content_here)
        yield here

    return damage
