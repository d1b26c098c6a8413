"""Files are there whole or not at all."""

import json
import os
import subprocess
import sys
import time

import pytest

from lttlib import files
from lttlib.files import atomic_write, progress, temporary_folder, write_json


def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("half")
        assert json.loads(path.read_text()) == {"old": 1}, "until the end, the old file stands"
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"old": 1} and list(path.parent.iterdir()) == [path]


def test_what_cannot_be_json_does_not_destroy_what_was_there(tmp_path):
    write_json(tmp_path / "x.json", ["É", 1.5])
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"set": {1}})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '[\n "É",\n 1.5\n]\n'
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_goes_and_what_a_running_one_writes_stays(tmp_path):
    with atomic_write(tmp_path / "x") as mine:
        assert mine.name.endswith(f".{os.getpid()}")
        running, other = mine.with_suffix(f".{os.getppid()}"), mine.with_name(".y" + mine.suffix)
        for path in (mine, running, other):
            path.write_text("half")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = running.with_suffix(f".{gone.pid}")
    left.write_text("half")
    write_json(tmp_path / "x", 1)
    assert not left.exists() and running.exists() and other.exists()


def test_a_folder_to_work_in_goes_at_the_end_and_so_does_what_a_killed_process_left(tmp_path):
    program = "import os, sys; from lttlib.files import temporary_folder\nwith temporary_folder(sys.argv[1]) as folder:\n    os.abort()"
    subprocess.run([sys.executable, "-c", program, tmp_path / "corpus"], capture_output=True)
    (left,) = tmp_path.iterdir()
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path / "corpus") as folder:
        (folder / "half").write_text("half")
        assert list(tmp_path.iterdir()) == [folder] != [left]
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
def test_where_there_is_no_room_the_error_says_so_and_the_old_file_stays(tmp_path, writer):
    """Each library has an error of its own for this. What a full disk is for them, a limit on a file's size is too."""
    write_json(tmp_path / "x", "old")
    ran = subprocess.run(
        [sys.executable, "-c", WRITERS, tmp_path / "x", writer], capture_output=True, text=True
    )
    last, path = ran.stderr.strip().splitlines()[-1], tmp_path / "x"
    assert last.startswith(
        f"OSError: {path}: no room to write it (File too large); make room and start again"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and json.loads(
        (tmp_path / "x").read_text()
    ) == "old"


def test_progress_is_a_bar_for_a_person_and_seldom_a_line_in_a_batch_run(monkeypatch, capsys):
    def shown():
        assert [time.sleep(0.15) or item for item in progress(range(3), desc="work")] == [0, 1, 2]
        return capsys.readouterr().err

    monkeypatch.delenv("LTT_BATCH", raising=False)
    assert shown() == ""  # a moment's work
    monkeypatch.setattr(files, "PATIENCE", 0)
    told = shown()
    assert "work" in told and "2/3" in told and "it/s" in told
    monkeypatch.setenv("LTT_BATCH", "1")
    assert shown() == ""
    monkeypatch.setattr(files, "BATCH_SECONDS", 0.1)
    assert "work" in shown()
