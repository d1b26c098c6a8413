"""Killed at any moment and started again, a course ends with the bytes of an undisturbed one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import soundfile
from safetensors import safe_open

KILLS = 20
TIMES = {"seconds", "real_time_factor"}


def write_corpus(root, count=64):
    """A corpus of a language of three letters, each a tone of 0.1 s."""
    chapter = root / "train" / "1" / "1"
    chapter.mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = []
    for number in range(count):
        letters = random.integers(3, size=random.integers(2, 6))
        tune = []
        for letter in letters:
            tone = np.sin(np.pi * (1 + 2 * letter) * np.arange(800) / 10)
            tune += [tone, np.zeros(400)]
        wave = 0.3 * np.concatenate(tune) + 0.001 * random.normal(size=1200 * len(letters))
        soundfile.write(chapter / f"1-1-{number:04d}.flac", wave, 8000)
        text = "".join("ABC"[letter] for letter in letters)
        lines.append(f"1-1-{number:04d} {text}\n")
    (chapter / "1-1.trans.txt").write_text("".join(lines))
    return root


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def checkpoint_content(path):
    """Metadata of a checkpoint, times aside, and its tensors."""
    with safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["checkpoint"])
    del metadata["crc32"]  # of the times too
    tensors = safetensors.numpy.load_file(path)
    contents = {name: (tensor.dtype.str, tensor.tobytes()) for name, tensor in tensors.items()}
    return without_times(metadata), contents


def file_contents(folder):
    """What stands in every file below a folder, times aside."""
    contents = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            contents[name] = without_times(json.loads(path.read_text()))
        elif "checkpoint" in name:
            contents[name] = checkpoint_content(path)
        else:
            contents[name] = path.read_bytes()
    return contents


def still_running(mark):
    """Numbers of the processes that have a mark in their environment."""
    numbers = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            numbers += [path.parent.name] if mark in path.read_bytes() else []
        except OSError:  # it has ended, or is another user's
            pass
    return numbers


@pytest.mark.slow
def test_course_ends_with_the_same_bytes_after_twenty_kills_at_random_moments(tmp_path):
    if not Path("/proc").exists():
        pytest.skip("no /proc here to see what still runs")
    corpus = write_corpus(tmp_path / "corpus")
    program = Path(__file__).with_name("short_course.py")
    command = [sys.executable, program, corpus, tmp_path, str(KILLS), "0"]
    environment = os.environ | {"LTT_MARK": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)
    assert ran.returncode == 0, ran.stderr[-5000:]

    result = json.loads(ran.stdout.split("RESULT")[1])
    print(result)
    phases = result["phases"]
    assert len(phases) == KILLS, result
    assert "records" in phases and len(set(phases)) >= 5, "the kills have missed most of the work"

    alone = file_contents(tmp_path / "alone")
    assert len(alone) > 60
    for number in range(result["done"]):
        killed = file_contents(tmp_path / f"killed{number}")
        assert killed.keys() == alone.keys()
        assert not [name for name in alone if killed[name] != alone[name]]

    mark = f"LTT_MARK={tmp_path}".encode()
    end = time.monotonic() + 60
    while still_running(mark) and time.monotonic() < end:
        time.sleep(0.5)
    assert not still_running(mark), "workers outlive the runs that were killed"
