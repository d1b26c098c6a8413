"""Files that are whole or absent, their checksums, and the progress of long work."""

import ast
import collections
import errno
import functools
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

from lttlib import Error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE = 2  # seconds of work before a bar appears
BATCH_SECONDS = 600  # between two lines of progress in a batch run
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOCKED = (errno.EACCES, errno.EAGAIN)  # by another process
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # on this file system
LOCK_SECONDS = 0.5  # between two looks at a lock that another process holds
CHECKSUM_KEY = "crc32"
NUMBERS = re.compile(r"\[\n\s*-?\d[-+.\deE]*(,\n\s*-?\d[-+.\deE]*)*\n\s*\]")


@contextmanager
def atomic_write(path):
    """Write a file whole or not at all: the temporary path that is given is renamed at the end.

    If anything fails, the temporary file is removed and the old file at `path` stays. Temporary
    files of the same path that killed processes of this machine left are removed as well. A file
    that is there already keeps its permissions, and a link stays: what it leads to is written. The
    folder of `path` is made.

    Raises
    ------
    Error
        If `path` is there and no file, as `output_path` has it.
    OSError
        If the disk is full, whatever class of error a library has for it.
    """
    path = output_path(path)
    temporary = _temporary_path(path)
    try:
        with disk_full_errors(path):
            yield temporary
            # Sync before the rename: otherwise a power cut can leave an empty file at `path`.
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            # Some file systems have no permissions to copy.
            with suppress(FileNotFoundError, PermissionError):
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def output_path(path) -> Path:
    """Where a file of this name is to be written: at `path`, or where it leads to as a link.

    Raises
    ------
    Error
        If a folder, a device or a pipe has this name, or what this process prints goes there.
    """
    path = Path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        status = path.stat()
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(status.st_mode):
        raise Error("a folder, where a file is to be written", path, "name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise Error("a device or a pipe, and no file", path, "name a file")
    for stream in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(status, os.fstat(stream)):
                raise Error("messages are printed there", path, "name another file")
    return target


@contextmanager
def lock(path):
    """Work on a file or folder alone: another process that wants to waits, and says for whom.

    The lock is the system's, on the file `.<name>.lock` beside `path`. It ends with its process,
    however that ends; on a network file system the server keeps it, for all machines. Where there
    are no locks, the work is done without. A thread may take a lock that it holds once more. The
    folder of `path` is made.
    """
    path = Path(os.path.realpath(path))
    lock_path = path.with_name(f".{path.name}.lock")
    with _thread_locks[lock_path]:  # the system's is not between threads
        if fcntl is None or lock_path in _held:
            yield
            return
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        file = _acquire(lock_path, path)
        _held.add(lock_path)
        try:
            yield
        finally:
            _held.remove(lock_path)
            # Before it is free: who waits for it finds it gone, and makes a new one.
            with suppress(OSError):
                lock_path.unlink()
            os.close(file)


# Of this process, by the paths of their files.
_thread_locks = collections.defaultdict(threading.RLock)
_held = set()


def _acquire(lock_path, path):
    """Wait for a lock; return the open file that holds it.

    Locks of fcntl, not of flock: processes that this one has started do not hold them on.
    """
    is_announced = False
    while True:
        file = os.open(lock_path, os.O_RDWR | os.O_CREAT)
        # Other users of a shared folder lock the same file.
        with suppress(PermissionError):
            os.fchmod(file, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # On a file system without locks, the work goes on without.
            if error.errno in NO_LOCKS:
                return file
            if error.errno not in LOCKED:
                raise
            # Another process holds it: name that process once.
            if not is_announced:
                holder = os.read(file, 300).decode(errors="replace") or "another process"
                _print_message(f"{path}: waiting for {holder}\n")
                is_announced = True
            # Opened anew for the next try: the process that holds it removes the file at its end.
            os.close(file)
            time.sleep(LOCK_SECONDS)
            continue
        # The last process that held it may have removed it: then others lock a newer file.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(lock_path)):
                break
        os.close(file)

    # For the message of a process that waits.
    words = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    with suppress(OSError):  # a full disk
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()} ({words[:200]})".encode())
    return file


@contextmanager
def temporary_folder(path):
    """Make a folder next to `path` to work in; it is removed at the end.

    Those that killed processes of this machine left for the same path are removed as well.
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
        # A lone surrogate, of a name that is not UTF-8, is written as JSON escapes it.
        temporary.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


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


def printable(path) -> str:
    """Return a path as text that any file can hold: of bytes that are not UTF-8, the escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _print_message(text):
    """Write to file descriptor 2, which is the terminal for a notebook's kernel as well."""
    with suppress(OSError):  # closed
        os.write(2, text.encode(errors="backslashreplace"))


@functools.cache
def code_fingerprint(*wings) -> str:
    """Hash of the code of some wings, or of all of lttlib, without comments and docstrings."""
    library = Path(__file__).parent
    folders = [library / wing for wing in wings] or [library]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    return fingerprint(*(without_comments(path.read_text("utf-8")) for path in sorted(paths)))


def without_comments(source) -> bytes:
    """The syntax tree of Python code as text: without comments, docstrings and the form of lines.

    It is the same for all versions of Python, unlike the texts of `ast.unparse` and `ast.dump`.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[:1] = [] if body[1:] else [ast.Pass()]
        # Python 3.12 has empty texts in formats that end with a field.
        if isinstance(node, ast.JoinedStr):
            node.values = [part for part in node.values if getattr(part, "value", None) != ""]
    return ascii(_nested_lists(tree)).encode()


def _is_text(statement):
    """Whether a statement is nothing but a text, such as a docstring."""
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(value, ast.Constant)


def _nested_lists(node):
    """A syntax tree as lists; empty fields are left out, of which newer versions have more."""
    if isinstance(node, list):
        return [_nested_lists(child) for child in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if value is not None and value != []:
            fields.append([name, _nested_lists(value)])
    return fields


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


@contextmanager
def silent_stderr():
    """Send file descriptor 2 nowhere: libraries in C++ write on it, past Python.

    Where there is none, nothing is sent anywhere.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # closed by whoever started this process
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def damage_errors(path, problem, cure):
    """Raise an `Error` that names file and cure for all that reading a damaged file raises.

    These have no common class: that of safetensors has no base but Exception, and JSON of other
    keys and types gives KeyError, TypeError, OverflowError, MemoryError...
    """
    try:
        yield
    except Exception as damage:
        raise Error(f"{problem} ({damage!r})", path=path, cure=cure) from damage
