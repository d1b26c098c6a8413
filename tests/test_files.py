"""Files are whole or absent, checksums notice damage, and long work shows its progress."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lttlib import Error, files
from lttlib.files import (
    CHECKSUM_KEY,
    atomic_write,
    lock,
    parse_json,
    progress,
    silent_stderr,
    temporary_folder,
    verify_checksum,
    with_checksum,
    write_json,
)


def test_atomic_write_that_fails_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("half")
        assert json.loads(path.read_text()) == {"old": 1}, "until the end, the old file stands"
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(path.parent.iterdir()) == [path]


def test_write_json_of_what_cannot_be_json_does_not_destroy_what_was_there(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, ["É", 1.5])
    with pytest.raises(TypeError):
        write_json(path, {"set": {1}})
    assert path.read_text(encoding="utf-8") == '[\n "É",\n 1.5\n]\n'
    assert list(tmp_path.iterdir()) == [path]


def dead_process():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_atomic_write_removes_what_a_dead_process_left_and_keeps_what_a_running_one_writes(
    tmp_path,
):
    with atomic_write(tmp_path / "x") as own:
        assert own.name.endswith(f".{os.getpid()}")
        of_running = own.with_suffix(f".{os.getppid()}")
        of_other_file = own.with_name(".y" + own.suffix)
        for path in (own, of_running, of_other_file):
            path.write_text("half")
    of_dead = of_running.with_suffix(f".{dead_process()}")
    of_dead.write_text("half")
    write_json(tmp_path / "x", 1)
    assert not of_dead.exists()
    assert of_running.exists() and of_other_file.exists()


# Outputs that are no plain new file.


def test_atomic_write_follows_the_umask_and_keeps_the_permissions_of_what_is_there(tmp_path):
    path = tmp_path / "x"
    umask = os.umask(0o027)
    try:
        write_json(path, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_json(path, 2)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604 and json.loads(path.read_text()) == 2


@pytest.mark.parametrize("exists", [True, False])
def test_atomic_write_goes_through_a_link(tmp_path, exists):
    target = tmp_path / "elsewhere" / "x"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to("elsewhere/x")
    write_json(link, 1)
    assert link.is_symlink() and json.loads(target.read_text()) == 1
    assert list(target.parent.iterdir()) == [target]


def test_atomic_write_refuses_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    null = Path(os.devnull)
    before = null.stat()
    for name in ("folder", "pipe", "link", null):
        with pytest.raises(Error, match="a folder|a device") as error:
            write_json(tmp_path / name, 1)
        assert error.value.path == tmp_path / name and error.value.cure
    assert (null.stat().st_mode, null.stat().st_ino) == (before.st_mode, before.st_ino)
    assert len(list(tmp_path.iterdir())) == 3


PRINT_AND_WRITE = """
import sys
from lttlib.files import write_json
write_json(sys.argv[1], 1)
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "out"])
def test_atomic_write_refuses_the_file_that_messages_go_to(tmp_path, name):
    with open(tmp_path / "out", "w") as out:
        command = [sys.executable, "-c", PRINT_AND_WRITE, name]
        ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path)
    assert b"messages are printed there; name another file" in ended.stderr
    assert (tmp_path / "out").read_text() == ""


# Locks.

HOLD = """
import os, sys, time
from lttlib.files import lock
with lock(sys.argv[1]):
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path, how="alone"):
    """A process that holds the lock of a path."""
    command = [sys.executable, "-c", HOLD, path, how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_lock_waits_for_another_process_and_names_it(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    process = hold(tmp_path / "records")
    timer = threading.Timer(0.5, process.terminate)
    timer.start()
    with lock(tmp_path / "records"):
        assert process.wait(10) is not None, "not before the other process has ended"
    message = capfd.readouterr().err
    assert f"{tmp_path / 'records'}: waiting for process {process.pid} on " in message
    assert message.count("waiting") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_lock_of_a_killed_process_blocks_nobody(tmp_path, capfd, how):
    """Nor do its children, which live on."""
    process = hold(tmp_path / "records", how)
    process.kill()
    process.wait()
    with lock(tmp_path / "records"):
        pass
    assert capfd.readouterr().err == "" and list(tmp_path.iterdir()) == []


def test_lock_lets_one_thread_at_a_time_work(tmp_path):
    path = tmp_path / "count"
    write_json(path, 0)

    def count():
        for _ in range(20):
            with lock(path):
                write_json(path, json.loads(path.read_text()) + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(path.read_text()) == 80


def test_lock_may_be_taken_again_by_its_thread_and_is_kept_until_the_last_end(tmp_path):
    with lock(tmp_path / "records"):
        with lock(tmp_path / "records"):
            pass
        (path,) = tmp_path.iterdir()
        assert f"process {os.getpid()} on " in path.read_text()
    (tmp_path / "link").symlink_to(tmp_path)
    with lock(tmp_path / "a"), lock(tmp_path / "link" / "a"), lock(tmp_path / "b"):
        assert len(list(tmp_path.glob(".*.lock"))) == 2


COUNT = """
import sys
from pathlib import Path
from lttlib import files
files.LOCK_SECONDS = 0.001
path = Path(sys.argv[1])
for _ in range(50):
    with files.lock(path):
        path.write_text(str(int(path.read_text()) + 1))
"""


def test_lock_lets_one_process_at_a_time_work(tmp_path):
    """Though its file is removed and made again each time."""
    path = tmp_path / "count"
    path.write_text("0")
    command = [sys.executable, "-c", COUNT, path]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert path.read_text() == "150"


def test_lock_is_done_without_where_a_file_system_has_none(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "lockf", fail)
    with lock(tmp_path / "records"):
        pass
    assert list(tmp_path.iterdir()) == []


ABORT = """
import os, sys
from lttlib.files import temporary_folder
with temporary_folder(sys.argv[1]) as folder:
    os.abort()
"""


def test_temporary_folder_goes_at_the_end_and_so_does_what_a_killed_process_left(tmp_path):
    subprocess.run([sys.executable, "-c", ABORT, tmp_path / "corpus"], capture_output=True)
    (leftover,) = tmp_path.iterdir()
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path / "corpus") as folder:
        (folder / "half").write_text("half")
        assert list(tmp_path.iterdir()) == [folder] != [leftover]
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


WRITERS = """
import resource, sys
import numpy as np
from lttlib.files import atomic_write
path, writer = sys.argv[1:]
if writer == "tensorflow":
    import tensorflow as tf
if writer == "safetensors":
    import safetensors.numpy
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_write(path) as temporary:
    if writer == "python":
        temporary.write_bytes(bytes(2000))
    elif writer == "safetensors":
        safetensors.numpy.save_file({"a": np.zeros(2000, np.uint8)}, temporary)
    else:
        with tf.io.TFRecordWriter(str(temporary)) as file:
            file.write(bytes(2000))
"""


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["python", "safetensors", "tensorflow"])
def test_atomic_write_names_a_full_disk_and_keeps_the_old_file(tmp_path, writer):
    """Each library has its own error for this. A limit on a file's size stands for a full disk."""
    path = tmp_path / "x"
    write_json(path, "old")
    command = [sys.executable, "-c", WRITERS, path, writer]
    process = subprocess.run(command, capture_output=True, text=True)
    last_line = process.stderr.strip().splitlines()[-1]
    problem = f"OSError: {path}: no room to write it (File too large)"
    assert last_line.startswith(f"{problem}; make room and start again")
    assert list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text()) == "old"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "Expecting value"),
        (b'{"a": ', "Expecting value"),
        (b'{"a": "\xff\xfe"}', "utf-8"),
        (b"[1, 2]", "a JSON object is needed, not list"),
        (b"28", "a JSON object is needed, not int"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_parse_json_refuses_all_but_an_object(data, message):
    assert parse_json(b'{"a": [1]}') == parse_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(Error, match=message):
        parse_json(data)


def test_checksum_notices_what_changes_in_metadata_and_contents():
    metadata = {"b": 1, "a": "É"}
    contents = (b"bytes", np.arange(3))
    checked = with_checksum(metadata, *contents)
    assert verify_checksum(checked, *contents) == metadata
    assert verify_checksum(metadata, *contents) == metadata, "of before there were checksums"
    assert CHECKSUM_KEY in checked and CHECKSUM_KEY not in metadata
    for changed, *changed_contents in (
        (checked | {"b": 2}, *contents),
        (checked | {CHECKSUM_KEY: None}, *contents),
        (checked, b"bytez", np.arange(3)),
        (checked, b"bytes", np.arange(4)),
    ):
        with pytest.raises(Error, match="checksum is wrong"):
            verify_checksum(changed, *changed_contents)


@pytest.mark.parametrize(
    "other, same",
    [
        ("def f(x):\n    # why\n    return (x +\n            1)\n", True),
        ('"""Module."""\ndef f(x):\n    """Text."""\n    return x + 1', True),
        ("def f(x):\n    return x + 2", False),
        ("def f(x):\n    'text'; y = 'text'\n    return x + 1", False),
    ],
)
def test_code_is_what_it_does_and_not_how_it_reads(other, same):
    code = "def f(x):\n    return x + 1\n"
    assert (files.without_comments(other) == files.without_comments(code)) is same


def test_code_has_the_same_bytes_in_every_version_of_python():
    """Trees differ above all in f-strings: 3.12 has an empty text at the end of this format."""
    source = '"""Text."""\nf"{1:>{9}}"  # why\n'
    width = "['FormattedValue', ['value', ['Constant', ['value', 9]]], ['conversion', -1]]"
    form = f"['JoinedStr', ['values', [['Constant', ['value', '>']], {width}]]]"
    number = "['value', ['Constant', ['value', 1]]], ['conversion', -1]"
    field = f"['FormattedValue', {number}, ['format_spec', {form}]]"
    text = f"['Expr', ['value', ['JoinedStr', ['values', [{field}]]]]]"
    expected = f"['Module', ['body', [{text}]]]"
    assert files.without_comments(source) == expected.encode()


def test_code_fingerprint_is_of_the_wings_that_are_named():
    fingerprints = {files.code_fingerprint(*wings) for wings in ((), ("network",), ("speech",))}
    assert len(fingerprints) == 3
    assert files.code_fingerprint("network") == files.code_fingerprint("network")


def test_progress_is_a_bar_for_a_person_and_seldom_a_line_in_a_batch_run(monkeypatch, capsys):
    def shown():
        items = []
        for item in progress(range(3), desc="work"):
            time.sleep(0.15)
            items.append(item)
        assert items == [0, 1, 2]
        return capsys.readouterr().err

    monkeypatch.delenv("LTT_BATCH", raising=False)
    assert shown() == ""  # a moment's work
    monkeypatch.setattr(files, "PATIENCE", 0)
    bar = shown()
    assert "work" in bar and "2/3" in bar and "it/s" in bar
    monkeypatch.setenv("LTT_BATCH", "1")
    assert shown() == ""
    monkeypatch.setattr(files, "BATCH_SECONDS", 0.1)
    assert "work" in shown()


@pytest.mark.parametrize(
    "value, lines",
    [
        ({"errors": [0, 12, 3], "rate": 1.5}, 4),
        ({"interval": [-1.5, 2e-08], "many": list(range(300))}, 4),
        ({"nested": [[1, 2], [3, 4]]}, 6),
        ({"words": ["ONE", "2"], "mixed": [1, "a"], "none": []}, 11),
        ({"text": "[\n 1,\n 2\n]"}, 3),
    ],
)
def test_json_has_lists_of_numbers_on_a_line_and_means_the_same(tmp_path, value, lines):
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == value
    assert len(text.splitlines()) == lines, text


def test_silent_stderr_hides_what_is_written_past_python_and_gives_stderr_back(capfd):
    with silent_stderr():
        os.write(2, b"of a library\n")
    os.write(2, b"of ours\n")
    assert capfd.readouterr().err == "of ours\n"


def test_silent_stderr_does_without_a_stderr():
    program = "import os; from lttlib.files import silent_stderr; os.close(2)\n"
    program += "with silent_stderr(): print('done')"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "done\n"
