"""The command: quick help, one-line errors, and results that a program can read."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from test_course import PARAMETERS, home, write_notebook  # noqa: F401 (a fixture is used by its name)

from lttlib import cli


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A model that has learned nothing, and a corpus of noise: what it writes is nonsense, but always the same."""
    from lttlib import models, storage
    from lttlib.features import Features

    folder = tmp_path_factory.mktemp("spoken")
    spec = models.ConvSpec((8,), (5,), (2,), (0,), input_channels=39)
    storage.save(folder / "pupil", storage.Model(models.ConvNet(spec), Features(sampling_rate=8000)))
    chapter = folder / "corpus" / "dev" / "7" / "1"
    chapter.mkdir(parents=True)
    for number in range(4):
        noise = 0.1 * np.random.default_rng(number).normal(size=8000 + 500 * number)
        soundfile.write(chapter / f"7-1-{number}.flac", noise, 8000)
    lines = [f"7-1-{number} SOME WORDS\n" for number in range(3)]
    (chapter / "7-1.trans.txt").write_text("".join(lines))
    return folder


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


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch):
    from lttlib import course

    monkeypatch.setattr(course, "run", lambda *_: np.zeros(3).reshape(2, 2))
    with pytest.raises(ValueError, match="reshape"):
        cli.main(["run"])


def test_json_is_one_object_that_adds_up_and_nothing_else_on_stdout(spoken, capsys):
    asked = ["evaluate", str(spoken / "pupil"), str(spoken / "corpus"), "dev"]
    assert cli.main([*asked, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["utterances"] == 3 and [lost["id"] for lost in result["rejected"]] == ["7-1-3"]
    assert "7-1-3: no transcript" in err
    for rate, unit in (("LER", "characters"), ("WER", "words")):
        kinds = sum(result[kind][unit] for kind in ("substitutions", "deletions", "insertions"))
        assert kinds == pytest.approx(result[rate]) and result[rate] > 50
        assert result[f"{rate}_ci"][0] <= result[rate] <= result[f"{rate}_ci"][1]
    assert 0 < result["real_time_factor"] < 10

    assert cli.main(asked) == 0
    head, characters, words, tail = capsys.readouterr().out.splitlines()
    numbers = [f"{result[key]['characters']:.2f}" for key in ("substitutions", "deletions", "insertions")]
    assert (
        characters.split()[1] == f"{result['LER']:.2f}" and [n for n in characters.split() if n in numbers] == numbers
    )
    assert words.split()[1] == f"{result['WER']:.2f}" and "3 utterances, 1 left out" in tail
    assert "substituted" in head


@pytest.mark.parametrize(
    "model, corpus, split, told",
    [
        ("nobody", "corpus", "dev", "nobody is no model"),
        ("pupil", "nowhere", "dev", "nowhere is no folder"),
        ("pupil", "corpus", "test", "no split 'test'"),
    ],
)
def test_what_is_missing_is_named(spoken, capsys, model, corpus, split, told):
    assert cli.main(["evaluate", str(spoken / model), str(spoken / corpus), split]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.count("\n") == 1


def test_transcribe_reports_what_it_cannot_use_and_reads_the_rest(spoken, tmp_path, capsys):
    whole = [str(path) for path in sorted((spoken / "corpus").rglob("*.flac"))]
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    files = [whole[0], str(tmp_path / "broken.wav"), str(tmp_path / "missing.wav"), whole[1]]
    assert cli.main(["transcribe", str(spoken / "pupil"), *files]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == whole[:2]
    assert "broken.wav" in err and "missing.wav" in err and err.count("\n") == 2
    assert cli.main(["transcribe", str(spoken / "pupil"), *whole]) == 0
    assert capsys.readouterr().out.startswith(out.splitlines()[0])
