"""Download archives, check them, and unpack them safely."""

import lzma
import re
import tarfile
import zlib
from pathlib import Path

from lttlib import Error
from lttlib.files import lock, progress

CHUNK = 2**16  # bytes; an unfinished one is lost when a download stops, so it is small
TIMEOUT = 60  # seconds without an answer
DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)


class ArchiveError(Error):
    """An archive that cannot be downloaded, or must not be used."""


def download_file(url, path, known_hash=None):
    """Download `url` to `path`, unless the file is there.

    An interrupted download stays as `<path>.part`; the next call continues it, or starts again
    where the server cannot. Where no hash is published, that of the first download is kept as
    `<path>.sha256` and is required from then on. `known_hash` is "md5:..." or "sha256:...".

    Returns
    -------
    Path
        `path`, its hash verified.

    Raises
    ------
    ArchiveError
        If the server fails or does not answer, or the hash is wrong; a file with a wrong hash is
        removed.
    """
    import pooch  # pooch and requests come with the course, not with the base
    import requests

    # The hash that is published, or else that of the first download.
    hash_path = _hash_path(path)
    if known_hash is None and hash_path.exists():
        known_hash = _read_hash(hash_path)

    # pooch verifies the hash and moves the file to its place, but cannot continue a download.
    part = path.with_name(f"{path.name}.part")

    def resume(url, output_path, _):
        _download_rest(url, part)
        part.replace(output_path)

    # Its errors as ours, with what to do about them.
    try:
        with lock(path):
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=resume)
    except requests.RequestException as error:
        problem = f"the download of {url} stopped ({error})"
        raise ArchiveError(problem, path=path, cure="run it again, it continues") from error
    except ValueError as error:  # another hash
        cure = f"run it again; a second failure means that {url} has changed"
        raise ArchiveError(str(error).rstrip("."), path=path, cure=cure) from error

    # For the next download.
    if known_hash is None:
        hash_path.write_text(f"sha256:{pooch.file_hash(str(path))}\n")
    return path


def _hash_path(path):
    """Return the path at which the hash of a first download is kept."""
    return path.with_name(f"{path.name}.sha256")


def _read_hash(hash_path):
    """Read the hash of the first download."""
    known_hash = hash_path.read_bytes().decode("ascii", "replace").strip()
    if not re.fullmatch("sha256:[0-9a-f]{64}", known_hash):
        cure = "remove it, and the next download is trusted"
        raise ArchiveError("holds no hash", path=hash_path, cure=cure)
    return known_hash


def _download_rest(url, part):
    """Download what the file `part` lacks of `url`."""
    import requests

    size = part.stat().st_size if part.exists() else 0
    # Else a server may compress, and the bytes counted here would not be those of the file.
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    with requests.get(url, stream=True, headers=headers, timeout=TIMEOUT) as response:
        # Nothing lies beyond the part: it is whole, or wrong, which the hash shows.
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return
        response.raise_for_status()
        # A server that does not know ranges sends the file from its start.
        continues = response.status_code == requests.codes.partial_content
        if not continues:
            size = 0
        total = size + int(response.headers.get("Content-Length", 0))
        bar = progress(desc=part.stem, total=total or None, initial=size, unit="B", unit_scale=True)
        with part.open("ab" if continues else "wb") as file, bar:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def unpack(archive, folder):
    """Unpack a tar archive into `folder`.

    Raises
    ------
    ArchiveError
        If the archive is cut short or damaged, or a member points outside `folder`; the archive is
        removed.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError("unpacking safely needs Python 3.11.4 or later", path=archive)
    try:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter=_refuse_outside)
            _read_to_end(file.fileobj)
    except (*DAMAGED, OSError) as error:
        # With a number it comes from the system, a full disk for instance, not from the archive.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        archive.unlink()
        # The hash of a first download that was cut short would refuse all later ones.
        _hash_path(archive).unlink(missing_ok=True)
        problem = f"cannot be unpacked safely ({error})"
        raise ArchiveError(problem, path=archive, cure="it was removed: run it again") from error


def _read_to_end(file):
    """Read the rest of a file: the checksum of gzip lies behind all that tar reads."""
    while file.read(CHUNK):
        pass


def _refuse_outside(member, folder):
    """Apply the standard filter "data", but refuse absolute paths: it makes them relative."""
    if Path(member.name).is_absolute():
        raise tarfile.AbsolutePathError(member)
    return tarfile.data_filter(member, str(folder))
