"""Killed at any moment and started again, a course ends with the bytes of one that was left alone."""

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


def made_by_hand(root, count=64):
    """A corpus of a language of three letters, each a tone of 0.1 s."""
    chapter, random, lines = root / "train" / "1" / "1", np.random.default_rng(0), []
    chapter.mkdir(parents=True)
    for number in range(count):
        letters = random.integers(3, size=random.integers(2, 6))
        tune = [
            np.r_[np.sin(np.pi * (1 + 2 * letter) * np.arange(800) / 10), np.zeros(400)]
            for letter in letters
        ]
        wave = 0.3 * np.concatenate(tune) + 0.001 * random.normal(size=1200 * len(letters))
        soundfile.write(chapter / f"1-1-{number:04d}.flac", wave, 8000)
        lines.append(f"1-1-{number:04d} {''.join('ABC'[letter] for letter in letters)}\n")
    (chapter / "1-1.trans.txt").write_text("".join(lines))
    return root


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def content(folder):
    """What stands in every file below a folder, times aside."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        elif "checkpoint" in name:
            with safe_open(path, "numpy") as file:
                facts = without_times(json.loads(file.metadata()["checkpoint"]))
            tensors = safetensors.numpy.load_file(path)
            found[name] = (
                facts,
                {key: (value.dtype.str, value.tobytes()) for key, value in tensors.items()},
            )
        else:
            found[name] = path.read_bytes()
    return found


def still_running(mark):
    """Numbers of the processes that have a mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [place.parent.name] if mark in place.read_bytes() else []
        except OSError:  # it has ended, or is another user's
            pass
    return found


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_byte(tmp_path):
    if not Path("/proc").exists():
        pytest.skip("no /proc here to see what still runs")
    root, mark = made_by_hand(tmp_path / "corpus"), f"LTT_MARK={tmp_path}".encode()
    command = [
        sys.executable,
        Path(__file__).with_name("short_course.py"),
        root,
        tmp_path,
        str(KILLS),
        "0",
    ]
    environment = os.environ | {"LTT_MARK": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)
    assert ran.returncode == 0, ran.stderr[-5000:]
    told = json.loads(ran.stdout.split("TOLD")[1])
    print(told)
    assert len(told["phases"]) == KILLS, told
    assert "records" in told["phases"] and len(set(told["phases"])) >= 5, (
        "the kills have missed most of the work"
    )
    alone = content(tmp_path / "alone")
    assert len(alone) > 60
    for number in range(told["done"]):
        killed = content(tmp_path / f"killed{number}")
        assert killed.keys() == alone.keys()
        assert not [name for name in alone if killed[name] != alone[name]]
    until = time.monotonic() + 60
    while still_running(mark) and time.monotonic() < until:
        time.sleep(0.5)
    assert not still_running(mark), "workers outlive the runs that were killed"
