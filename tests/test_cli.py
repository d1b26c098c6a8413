"""The command: quick help, one-line errors, and results that a program can read."""

import importlib
import json
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile
from test_course import PARAMETERS, home, write_notebook  # noqa: F401 (a fixture is used by its name)

from lttlib import cli

RESULT = {
    "utterances": 86,
    "LER": 4.81,
    "LER_ci": [3.9, 5.75],
    "WER": 12.5,
    "WER_ci": [10.0, 15.25],
    "substitutions": {"characters": 2.0, "words": 8.0},
    "deletions": {"characters": 1.81, "words": 3.0},
    "insertions": {"characters": 1.0, "words": 1.5},
    "real_time_factor": 0.0123,
    "rejected": 2,
}


@pytest.fixture
def evaluation(monkeypatch):
    """A stand-in for lttlib.evaluation, which needs TensorFlow and a model; it prints, as libraries do."""
    stand_in = types.ModuleType("lttlib.evaluation")

    def evaluate(model, corpus_root, split, decoder="greedy"):
        print("a library's chatter")
        return RESULT

    stand_in.evaluate = evaluate
    stand_in.transcribe = lambda model, audio: [f"HEARD {path.stem.upper()}" for path in audio]
    monkeypatch.setitem(sys.modules, "lttlib.evaluation", stand_in)
    monkeypatch.setattr(importlib.import_module("lttlib"), "evaluation", stand_in, raising=False)


def test_help_names_every_command_and_imports_nothing_heavy():
    look = (
        "import sys, lttlib.cli as c; c.parser().print_help(); print(sorted(m.partition('.')[0] for m in sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert all(command in shown for command in ("run", "evaluate", "transcribe", "corpus"))
    assert not any(f"'{heavy}'" in shown for heavy in ("tensorflow", "keras", "numpy", "papermill", "librosa"))


@pytest.mark.parametrize("arguments", [[], ["evaluate", "model"], ["walk"], ["run", "-p", "epochs"]])
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and "usage: ltt" in capsys.readouterr().err


def test_a_refused_request_is_one_line_on_stderr(home, capsys):  # noqa: F811
    assert cli.main(["run", "quick", "--only", "02", "-p", "epoch", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("ltt: error: unknown parameter 'epoch', did you mean 'epochs'?")


def test_a_failing_notebook_exits_with_1_and_a_short_message(home, capsys):  # noqa: F811
    write_notebook(home / "notebooks", "01_features.ipynb", PARAMETERS, "1 / 0")
    assert cli.main(["run"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err and "Traceback" not in err and err.count("\n") == 3


def test_an_error_that_nobody_foresaw_keeps_its_traceback(evaluation, monkeypatch):
    monkeypatch.setattr(sys.modules["lttlib.evaluation"], "evaluate", lambda *_, **__: np.zeros(3).reshape(2, 2))
    with pytest.raises(ValueError, match="reshape"):
        cli.main(["evaluate", "model", "corpus", "dev"])


def test_json_is_one_object_and_nothing_else_on_stdout(evaluation, capsys):
    assert cli.main(["evaluate", "model", "corpus", "dev", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == RESULT
    assert "chatter" in err


def test_the_table_shows_rates_intervals_and_kinds_of_error(evaluation, capsys):
    assert cli.main(["evaluate", "model", "corpus", "dev"]) == 0
    head, characters, words, tail = capsys.readouterr().out.splitlines()
    assert characters.split() == "LER 4.81 % 3.90 to 5.75 % 2.00 % 1.81 % 1.00 %".split()
    assert words.split() == "WER 12.50 % 10.00 to 15.25 % 8.00 % 3.00 % 1.50 %".split()
    assert len(head) == len(characters) == len(words)
    assert "86 utterances, 2 left out" in tail and "0.0123" in tail


def test_transcribe_reports_what_it_cannot_use_and_reads_the_rest(evaluation, tmp_path, capsys):
    for name in ("first.wav", "last.wav"):
        soundfile.write(tmp_path / name, np.sin(np.arange(8000) / 10), 16000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    names = ["first.wav", "broken.wav", "missing.wav", "last.wav"]
    assert cli.main(["transcribe", "model", *(str(tmp_path / name) for name in names)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'first.wav'}\tHEARD FIRST\n{tmp_path / 'last.wav'}\tHEARD LAST\n"
    assert "broken.wav" in err and "missing.wav" in err and err.count("\n") == 2
    assert cli.main(["transcribe", "model", str(tmp_path / "first.wav")]) == 0
