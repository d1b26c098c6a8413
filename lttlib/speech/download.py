"""Bring an archive home: downloaded to the last byte and checked, unpacked whole and nowhere else."""

import lzma
import re
import tarfile
import zlib
from pathlib import Path

import pooch
import requests

from lttlib.files import progress

CHUNK = 2**16  # bytes; what was received of an unfinished one is lost, so it is small


class ArchiveError(ValueError):
    """An archive that could not be had, or must not be used; the message says what to do."""


def download_file(url, file, known_hash=None):
    """Download `url` to `file`, unless it is there.

    An interrupted download stays beside it as `<file>.part`; the next call continues it, or starts again where the
    server cannot. Where nobody has published a hash, that of the first download is kept as `<file>.sha256` and holds
    from then on.

    Parameters
    ----------
    url : str
    file : Path
    known_hash : str or None
        "md5:..." or "sha256:..." of the whole file.

    Returns
    -------
    Path
        `file`, checked.

    Raises
    ------
    ArchiveError
        If the server fails or falls silent, or the hash is wrong; a file with a wrong hash is removed.
    """
    kept_hash = _kept_hash(file)
    if known_hash is None and kept_hash.exists():
        known_hash = kept_hash.read_bytes().decode("ascii", "replace").strip()
        if not re.fullmatch("sha256:[0-9a-f]{64}", known_hash):
            raise ArchiveError(
                f"{kept_hash} is no hash: remove it, and the next download is taken on trust"
            )
    part = file.with_name(file.name + ".part")
    try:
        pooch.retrieve(
            url,
            known_hash,
            file.name,
            file.parent,
            downloader=lambda url, to, _: _continue(url, part, to),
        )
    except requests.RequestException as error:
        raise ArchiveError(
            f"the download of {url} stopped ({error}): run it again, it continues"
        ) from error
    except ValueError as error:
        raise ArchiveError(
            f"{url}: {error} Run it again; a second failure means that it has changed"
        ) from error
    if known_hash is None:
        kept_hash.write_text(f"sha256:{pooch.file_hash(str(file))}\n")
    return file


def _kept_hash(file):
    return file.with_name(file.name + ".sha256")


def _continue(url, part, output_file):
    """Download what `part` lacks of `url`, then move it to `output_file`."""
    done = part.stat().st_size if part.exists() else 0
    # Without "identity" a server may compress, and the bytes counted here would not be those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, stream=True, headers=headers, timeout=60) as response:
        whole = (
            response.status_code == requests.codes.requested_range_not_satisfiable
        )  # or wrong: the hash tells
        if not whole:
            response.raise_for_status()
            continues = response.status_code == requests.codes.partial_content
            done = done if continues else 0
            total = done + int(response.headers.get("Content-Length", 0))
            bar = progress(
                desc=part.stem, total=total or None, initial=done, unit="B", unit_scale=True
            )
            with part.open("ab" if continues else "wb") as file, bar:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    part.replace(output_file)


def unpack(archive, folder):
    """Unpack a tar archive into `folder`.

    Parameters
    ----------
    archive : Path
    folder : Path

    Raises
    ------
    ArchiveError
        If the archive is cut short or damaged, or a member points outside `folder`; the archive is removed.
    """
    try:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter=_inside)
            while file.fileobj.read(
                CHUNK
            ):  # on to the checksum of gzip, which lies behind all that tar reads
                pass
    except (
        tarfile.TarError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        OSError,
        ValueError,
        OverflowError,
    ) as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # a full disk, say, is not the archive's fault
            raise
        archive.unlink()
        # Else the hash of a first download that was cut short would be the measure of all others.
        _kept_hash(archive).unlink(missing_ok=True)
        raise ArchiveError(
            f"{archive} cannot be unpacked safely ({error}); it was removed: run it again"
        ) from error


def _inside(member, folder):
    """The filter "data" of the standard library, but an absolute path is refused instead of being made relative."""
    if Path(member.name).is_absolute():
        raise tarfile.AbsolutePathError(member)
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError("unpacking safely needs Python 3.11.4 or later")
    return tarfile.data_filter(member, str(folder))
