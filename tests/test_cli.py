"""The command: quick help, one-line errors, and results that a program can read."""

import gzip
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import PARAMETERS, noise_wave, write_notebook

import lttlib
from lttlib import cli, course, models, recognition
from lttlib.course import notebooks, report, sweep
from lttlib.device import Recogniser
from lttlib.features import FeatureConfig
from lttlib.models import Model, litert
from lttlib.network import ConvNet, ConvSpec, quantize_kernels
from lttlib.recognition import estimate_ngrams, write_arpa
from lttlib.speech import read_corpus


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A model that has learned nothing, and a corpus of noise: texts of nonsense, but fixed."""
    folder = tmp_path_factory.mktemp("noise")
    spec = ConvSpec((8,), (5,), (2,), (0,), input_channels=39)
    models.save(folder / "pupil", Model(ConvNet(spec), FeatureConfig(sampling_rate=8000)))
    chapter = folder / "corpus" / "dev" / "7" / "1"
    chapter.mkdir(parents=True)
    for number in range(4):
        wave = noise_wave(1 + number / 16, number)
        soundfile.write(chapter / f"7-1-{number}.flac", wave, 8000)
    lines = [f"7-1-{number} SOME WORDS\n" for number in range(3)]
    (chapter / "7-1.trans.txt").write_text("".join(lines))
    return folder


def sounds(folder):
    """Paths of all sound files of a corpus, in order."""
    return [str(path) for path in sorted((folder / "corpus").rglob("*.flac"))]


def run_cli(capsys, *words, code=0):
    """Run the command; return the lines of its output, and its messages as they are."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    return out.splitlines(), err


def assert_refuses(capsys, problem, *words):
    """The command prints one line on stderr, with this problem, and nothing else."""
    out, err = run_cli(capsys, *words, code=2)
    assert out == [] and problem in err
    assert err.startswith("ltt: error: ") and err.count("\n") == 1


COMMANDS = ("run", "sweep", "quantize", "deploy", "evaluate", "transcribe", "corpus", "lm")
HEAVY = ("tensorflow", "keras", "numpy", "papermill", "librosa", "yaml", "matplotlib", "scipy")


def test_help_names_every_command_and_imports_nothing_heavy():
    look = "import sys, lttlib.cli as c; c.parser().print_help()"
    look += "; print(sorted(m.partition('.')[0] for m in sys.modules))"
    command = [sys.executable, "-c", look]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in COMMANDS)
    assert not any(f"'{module}'" in shown for module in HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["evaluate", "model"],
        ["walk"],
        ["run", "-p", "epochs"],
        ["sweep", "quick", "--only", "01"],
        ["sweep", "quick", "--grid", "seed", "1"],
        ["quantize"],
        ["quantize", "model", "--bits", "few"],
        ["lm", "book.txt"],
        ["lm", "book.txt", "book.arpa", "--order", "many"],
        ["evaluate", "model", "root", "dev", "--lm-weight", "much"],
    ],
)
def test_main_exits_with_2_for_a_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and "usage: ltt" in capsys.readouterr().err


def test_run_that_is_refused_is_one_line_on_stderr(small_course, capsys):
    problem = "ltt: error: unknown parameter 'epoch'; did you mean 'epochs'?"
    assert_refuses(capsys, problem, "run", "quick", "--only", "02", "-p", "epoch", "2")


def test_run_of_a_failing_notebook_exits_with_1_and_a_short_message(small_course, capsys):
    write_notebook(small_course / "notebooks", "01_features.ipynb", PARAMETERS, "1 / 0")
    assert cli.main(["run"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err and "Traceback" not in err and err.count("\n") == 3


def test_run_with_named_reports_keeps_them_apart(small_course, monkeypatch, capsys):
    folders = []

    def execute(notebook, values, folder, variables):
        folders.append(folder)
        return 1.0

    monkeypatch.setattr(report, "execute", execute)
    for options in ([], ["--reports", "mine"]):
        assert cli.main(["run", "digits", "--only", "01", *options]) == 0
    reports = small_course / "data" / "digits" / "reports"
    assert folders == [reports, reports / "mine"]
    assert str(reports / "mine" / "index.html") in capsys.readouterr().out.splitlines()[-1]
    assert sorted(path.name for path in reports.rglob("*")) == ["index.html", "index.html", "mine"]


SWEEP = """sweep quick --only 04 --only 05 --grid alpha 0 0.5 --grid seed 1 --grid seed 2
-p epochs 3 --jobs 2"""


@pytest.mark.parametrize("failed, code", [([], 0), (["seed=1"], 1)])
def test_sweep_prints_its_summary_and_exits_with_1_if_a_run_failed(
    small_course, monkeypatch, capsys, failed, code
):
    requests = []

    def run(*arguments, **options):
        requests.append((*arguments, options))
        return failed

    monkeypatch.setattr(sweep, "run", run)
    for alpha, seed, rate in (("0", "1", 10.0), ("0", "2", 12.0), ("0.5", "1", 7.0)):
        folder = course.profile_folder("quick") / "models" / f"alpha={alpha},seed={seed}-distilled"
        folder.mkdir(parents=True)
        card = {"parameters": 12345, "files": {"weights": 6789}, "results": {"dev": {"LER": rate}}}
        (folder / "card.json").write_text(json.dumps(card))
    lines, _ = run_cli(capsys, *SWEEP.split(), code=code)
    grid = {"alpha": ["0", "0.5"], "seed": ["1", "2"]}
    options = {"parameters": {"epochs": "3"}, "jobs": 2}
    assert requests == [("quick", ["04", "05"], grid, options)]
    first, second = (line.split() for line in lines)
    size = ["12,345", "parameters", "6,789", "bytes"]
    assert first == ["distilled", "alpha=0", "dev", "11.00", "+-", "12.71", "%", *size, "2", "runs"]
    assert second == ["distilled", "alpha=0.5", "dev", "7.00", "+-", "nan", "%", *size, "1", "runs"]


@pytest.mark.parametrize(
    "words, problem",
    [
        ("--grid epoch 1 2", "did you mean 'epochs'"),
        ("--grid epochs 1 two", "'epochs' expects int, not 'two'"),
        ("--grid epochs", "a grid needs"),
        ("--grid epochs 1 1", "both be named 'epochs=1'"),
        ("--grid epochs 1 --jobs 0", "jobs must be at least 1"),
    ],
)
def test_sweep_that_is_refused_is_one_line_on_stderr(small_course, capsys, words, problem):
    declared = PARAMETERS + 'epochs: int = 3  # passes\nstudent: str = ""  # name\n'
    write_notebook(small_course / "notebooks", "03_student.ipynb", declared, "1 / 0")
    assert_refuses(capsys, problem, "sweep", "quick", "--only", "03", *words.split())


def test_main_writes_the_traceback_of_an_error_that_nobody_foresaw_to_a_file(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(notebooks, "run", lambda *_, **__: np.zeros(3).reshape(2, 2))
    out, err = run_cli(capsys, "run", code=70)
    (path,) = tmp_path.iterdir()
    assert (
        out == [] and err.count("\n") == 1 and err.startswith("ltt: unforeseen error: ValueError")
    )
    assert err.endswith(f"its traceback is in {path}\n")
    assert "Traceback" in path.read_text() and "reshape(2, 2)" in path.read_text()


def test_main_shows_the_traceback_where_no_file_can_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(notebooks, "run", lambda *_, **__: 1 / 0)
    _, err = run_cli(capsys, "run", code=70)
    assert "Traceback" in err and err.splitlines()[-1].startswith("ltt: unforeseen error: ZeroDiv")


def missing_import():
    import lttlib.nowhere  # noqa: F401


def too_many_files():
    raise RuntimeError("cannot load lib.so: Too many open files")


@pytest.mark.parametrize(
    "fail, code, message",
    [
        (lambda: open("/no/such/file"), 2, "error: /no/such/file: No such file or directory"),
        (too_many_files, 2, "ulimit -n 1024"),
        (missing_import, 70, "unforeseen error: ModuleNotFoundError"),
    ],
    ids=["file", "open files", "module of lttlib"],
)
def test_main_says_in_one_line_what_stopped_it(tmp_path, monkeypatch, capsys, fail, code, message):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(notebooks, "run", lambda *_, **__: fail())
    _, err = run_cli(capsys, "run", code=code)
    assert message in err and err.count("\n") == 1


# A program that runs the command where packages (sys.argv[1]) cannot be imported.
WITHOUT = """
import sys
hidden = sys.argv.pop(1).split(",")
sys.modules.update(dict.fromkeys(hidden))
from lttlib import cli
sys.exit(cli.main())
"""
COURSE = "yaml,tensorflow,keras,safetensors,pooch,numba,jiwer,tqdm,espeakng_loader,librosa,joblib"


@pytest.mark.parametrize(
    "words, requirement",
    [
        ("run quick", "'.[course]'"),
        ("sweep quick --only 01 --grid seed 1", "'.[course]'"),
        ("pages", "'.[course]'"),
        ("quantize model", "'.[course]'"),
        ("deploy model", "'.[course]'"),
        ("evaluate model.tflite root dev", "'.[course]'"),
        ("transcribe model a.flac", "'.[course]'"),
        ("transcribe model.tflite a.flac", "'.[device]'"),
        ("corpus an4", "'.[course]'"),
        ("lm librispeech folder", "'.[course]'"),
    ],
)
def test_command_of_the_base_installation_says_which_extra_it_needs(tmp_path, words, requirement):
    hidden = f"{COURSE},ai_edge_litert,ai_edge_litert.interpreter"
    command = [sys.executable, "-c", WITHOUT, hidden, *words.split()]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("ltt: error: ") and ended.stderr.count("\n") == 1
    assert ended.stderr.endswith(f"pip install {requirement}\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "redirection, code, message",
    [
        (">&-", 1, "standard output is closed"),
        (">&- 2>&-", 1, ""),
        ("2>&-", 0, ""),
        ("<&-", 0, "too little text"),
        ("> /dev/full", 1, "cannot be written (No space left on device)"),
        ("2> /dev/full", 1, ""),
        ("| true", 141, ""),
        ("2>&1 | true", 141, ""),
        ("--help | true", 141, ""),
    ],
)
def test_command_with_a_standard_stream_that_fails_ends_without_a_traceback(
    book, redirection, code, message
):
    command = f"{shlex.quote(sys.executable)} -m lttlib.cli lm one.txt a.arpa {redirection}"
    # Python holds back what it prints, or not.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    script = ["bash", "-c", f"set -o pipefail; {command}"]
    ended = subprocess.run(script, capture_output=True, text=True, cwd=book, env=environment)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr and "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize(
    "encoding, text, expected",
    [
        ("utf-8", "\\udcff", b"\\udcff"),  # a name of a file that is no UTF-8
        ("utf-8", "\\xe9", b"\xc3\xa9"),
        ("ascii", "\\xe9", b"\\xe9"),
        ("latin-1", "\\xe9", b"\xe9"),
    ],
)
def test_prepared_streams_print_all_letters_in_every_encoding(encoding, text, expected):
    program = f"from lttlib import cli; cli._prepare_streams(); print('{text}')"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    assert shown == expected + b"\n"


# A program of libraries that keep files at home; numba cannot do so beside the source here.
AT_HOME = """
import lttlib, numba, numba.core.caching as caching, os, sys
from jupyter_core.paths import jupyter_runtime_dir
caching.CacheImpl._locator_classes = [caching.UserWideCacheLocator]
numba.njit(cache=True)(lttlib.ceil_div)
os.makedirs(jupyter_runtime_dir())
print(*sorted({os.environ[name] for name in lttlib.HOMES}))
"""


def test_libraries_that_cannot_write_at_home_write_elsewhere_until_the_end(tmp_path):
    """A home that is a file cannot be written by root either."""
    (tmp_path / "home").write_text("no folder")
    (tmp_path / "temporary").mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in lttlib.HOMES}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", AT_HOME]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    folders = [Path(folder) for folder in shown.stdout.split()]
    assert [folder.name for folder in folders] == sorted(lttlib.HOMES)
    assert {folder.parents[1] for folder in folders} == {tmp_path / "temporary"}
    assert not list((tmp_path / "temporary").iterdir())


# The parameters of a command line


@pytest.mark.parametrize(
    "words, parameters",
    [
        ("run quick -p epochs 3", {"epochs": "3"}),
        ("run quick -p epochs=3", {"epochs": "3"}),
        ("run -p epochs=3 quick -p seed 1", {"epochs": "3", "seed": "1"}),
        ("run --parameter=epochs=3 quick", {"epochs": "3"}),
        ("run quick -p rate -1e-3 --only 02", {"rate": "-1e-3"}),
        ("run quick -p rate=-1e-3 -p other -.5", {"rate": "-1e-3", "other": "-.5"}),
        ("run quick -p rate -inf", {"rate": "-inf"}),
        ("run quick -p corpus_root /a=b", {"corpus_root": "/a=b"}),
        ("run quick -p teacher= --only 02", {"teacher": ""}),
        ("sweep quick --only 04 --grid w -1e-3 -inf -p seed=2", {"seed": "2"}),
    ],
)
def test_parameter_is_given_in_one_word_or_two_and_a_number_may_be_negative(words, parameters):
    arguments = cli.parser().parse_args(words.split())
    assert dict(arguments.parameter) == parameters and arguments.profile == "quick"
    assert getattr(arguments, "grid", None) in (None, [["w", "-1e-3", "-inf"]])


@pytest.mark.parametrize(
    "words",
    [
        "run -p epochs --only 02",
        "evaluate m c dev --lm-weight nan",
        "evaluate m c dev --word-score -inf",
        "evaluate m c dev --lm-weight",
    ],
)
def test_option_that_has_no_number_or_value_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words.split())
    assert stopped.value.code == 2 and "usage: ltt" in capsys.readouterr().err


def test_evaluate_takes_a_negative_number_in_exponent_form():
    arguments = cli.parser().parse_args("evaluate m c dev --word-score -1e-3".split())
    assert arguments.word_score == -0.001


KINDS = ("substitutions", "deletions", "insertions")


def test_evaluate_prints_one_json_object_that_adds_up_and_nothing_else(noise, capsys):
    words = ["evaluate", noise / "pupil", noise / "corpus", "dev"]
    lines, err = run_cli(capsys, *words, "--json")
    result = json.loads("\n".join(lines))
    assert result["utterances"] == 3 and [item["id"] for item in result["rejected"]] == ["7-1-3"]
    assert "7-1-3: no transcript" in err
    for rate, unit in (("LER", "characters"), ("WER", "words")):
        parts = sum(result[kind][unit] for kind in KINDS)
        assert parts == pytest.approx(result[rate]) and result[rate] > 50
        assert result[f"{rate}_ci"][0] <= result[rate] <= result[f"{rate}_ci"][1]
    assert 0 < result["real_time_factor"] < 10

    (head, characters, words, tail), _ = run_cli(capsys, *words)
    numbers = [f"{result[kind]['characters']:.2f}" for kind in KINDS]
    assert characters.split()[1] == f"{result['LER']:.2f}"
    assert [number for number in characters.split() if number in numbers] == numbers
    assert words.split()[1] == f"{result['WER']:.2f}" and "3 utterances, 1 left out" in tail
    assert "substituted" in head


@pytest.fixture
def single(noise, tmp_path):
    """A corpus of one transcript, with what the model cannot write, beside twelve without one."""
    chapter = tmp_path / "corpus" / "dev" / "7" / "1"
    chapter.mkdir(parents=True)
    for number in range(13):
        shutil.copy(sounds(noise)[0], chapter / f"7-1-{number:02}.flac")
    (chapter / "7-1.trans.txt").write_text("7-1-00 Don\u2019t ask 77\n", encoding="utf-8")
    return tmp_path / "corpus"


def test_evaluate_says_what_the_model_cannot_write_and_where_there_is_no_interval(
    noise, single, capsys
):
    words = ["evaluate", noise / "pupil", single, "dev"]
    lines, err = run_cli(capsys, *words)
    assert [line.count("one utterance: none") for line in lines] == [0, 1, 1, 0, 0, 0, 0]
    assert lines[3].startswith("1 utterances, 12 left out")
    assert "3 characters of the references (25.00 %)" in lines[4] and "--normalise" in lines[4]
    assert [line.split(maxsplit=1) for line in lines[5:]] == [
        ["2", "U+0037 DIGIT SEVEN"],
        ["1", "U+2019 RIGHT SINGLE QUOTATION MARK"],
    ]
    # Ten complaints, and how many more there are.
    assert err.count("no transcript") == 10 and err.endswith("ltt: left out: 2 more\n")

    (line,), _ = run_cli(capsys, *words, "--normalise", "--json")
    result = json.loads(line)
    assert result["LER_ci"] is None and result["WER_ci"] is None and result["normalised"]
    assert result["unwritable"]["names"] == {"U+0037 DIGIT SEVEN": 2}
    assert len(result["rejected"]) == 12


def test_model_of_hints_is_refused_by_every_command_that_wants_letters(noise, tmp_path, capsys):
    model = models.load(noise / "pupil")
    hints = Model(model.network, model.feature_config, alphabet="")
    models.save(tmp_path / "hints", hints)
    problem = "gives hints"
    assert_refuses(capsys, problem, "evaluate", tmp_path / "hints", noise / "corpus", "dev")
    assert_refuses(capsys, problem, "transcribe", tmp_path / "hints", sounds(noise)[0])
    assert_refuses(capsys, problem, "deploy", tmp_path / "hints")
    assert [path.name for path in tmp_path.iterdir()] == ["hints"]


@pytest.mark.parametrize(
    "model, corpus, split, name",
    [
        ("nobody", "corpus", "dev", "nobody"),
        ("pupil", "nowhere", "dev", "nowhere"),
        ("pupil", "corpus", "test", "'test'"),
    ],
)
def test_evaluate_names_what_is_missing(noise, capsys, model, corpus, split, name):
    with pytest.raises(lttlib.Error, match=name) as refused:
        read_corpus(noise / corpus, split)
        models.load(noise / model)
    problem = f"ltt: error: {refused.value}\n"
    assert_refuses(capsys, problem, "evaluate", noise / model, noise / corpus, split)


def test_transcribe_reports_what_it_cannot_use_and_reads_the_rest(noise, tmp_path, capsys):
    recordings = sounds(noise)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    files = [recordings[0], tmp_path / "broken.wav", tmp_path / "missing.wav", recordings[1]]
    lines, err = run_cli(capsys, "transcribe", noise / "pupil", *files, code=1)
    assert [line.split("\t")[0] for line in lines] == recordings[:2]
    assert "broken.wav" in err and "missing.wav" in err and err.count("\n") == 2
    again, _ = run_cli(capsys, "transcribe", noise / "pupil", *recordings)
    assert again[0] == lines[0]


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_transcribe_prints_names_that_are_not_utf8_and_goes_on(noise, tmp_path, capsys):
    recordings = sounds(noise)
    shutil.copy(recordings[0], tmp_path / f"{NOT_UTF8}.flac")
    files = [tmp_path / f"{NOT_UTF8}.wav", tmp_path / f"{NOT_UTF8}.flac", recordings[1]]
    lines, err = run_cli(capsys, "transcribe", noise / "pupil", *files, code=1)
    assert [line.split("\t")[0] for line in lines] == [f"{tmp_path}/caf\\udce9.flac", recordings[1]]
    assert "caf\\udce9.wav: no such audio file" in err and err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_streams_of_any_encoding_take_any_name(noise, monkeypatch, encoding):
    streams = {}
    for name in ("stdout", "stderr"):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, name, streams[name])
    assert cli.main(["transcribe", str(noise / "pupil"), NOT_UTF8, "né"]) == 1
    streams["stderr"].flush()
    err = streams["stderr"].buffer.getvalue().decode(encoding)
    assert "caf\\udce9: no such" in err and ("n\\xe9" if encoding == "ascii" else "né") in err


def test_transcribe_says_which_channels_it_leaves_out(noise, tmp_path):
    random = np.random.default_rng(0)
    soundfile.write(tmp_path / "x.wav", 0.1 * random.normal(size=(8000, 2)), 8000)
    command = [sys.executable, "-m", "lttlib.cli", "transcribe", noise / "pupil", "x.wav"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "ltt: x.wav: channels differ, left out: 2\n" in run.stderr


def make_odd(corpus):
    """Add to a corpus what cannot be used; return the ids of that, and patterns of the reasons."""
    chapter = corpus / "dev" / "8" / "1"
    chapter.mkdir(parents=True)
    (chapter / "8-1.trans.txt").write_bytes(b"8-1-0 CAF\xc9\n8-1-1 A\n8-1-1 B\nx/y A\n8-1-3 A\n")
    for number in (0, 1, 3):
        shutil.copy(corpus / "dev" / "7" / "1" / "7-1-0.flac", chapter / f"8-1-{number}.flac")
    (chapter / "8-1-3.ogg").write_bytes(b"")
    (chapter / "8-1-4.m4a").write_bytes(b"no sound")
    (chapter / "._8-1-3.flac").write_bytes(b"Mac OS X")
    (chapter / f"{NOT_UTF8}.wma").write_bytes(b"")
    return {
        "7-1-3": "no transcript for this audio file; write its line",
        "8-1-0": "8-1.trans.txt: line 1: not UTF-8 .*; save the file as UTF-8",
        "8-1-1": "8-1.trans.txt: line 3: .* another text in line 2; remove one of the two",
        "8-1-3.ogg": "has the id of 8-1-3.flac, which is used; remove one of the two",
        "8-1-4": "no transcript",
        "caf\\udce9": "no transcript",
        "x/y": "8-1.trans.txt: line 4: no recording is called 'x/y'; write the name of a file",
    }


def test_evaluate_scores_what_it_can_and_lists_the_rest(noise, tmp_path, capsys):
    corpus = shutil.copytree(noise / "corpus", tmp_path / "corpus")
    reasons = make_odd(corpus)
    lines, err = run_cli(capsys, "evaluate", noise / "pupil", corpus, "dev", "--json")
    result = json.loads("\n".join(lines))
    assert result["utterances"] == 4
    assert {item["id"] for item in result["rejected"]} == reasons.keys()
    for item in result["rejected"]:
        assert re.search(reasons[item["id"]], item["reason"]) and item["file"].startswith("/")
        assert f"ltt: left out: {item['id']}: {item['reason']}\n" in err
        json.dumps(item, ensure_ascii=False).encode()


def test_evaluate_says_which_channels_it_leaves_out(noise, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "MAX_COMPLAINTS", 2)
    corpus = shutil.copytree(noise / "corpus", tmp_path / "corpus")
    for path in sounds(tmp_path):
        soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=(8000, 2)), 8000)
    lines, err = run_cli(capsys, "evaluate", noise / "pupil", corpus, "dev", "--json")
    remarks = [f"{path}: channels differ, left out: 2" for path in sounds(tmp_path)[:3]]
    assert json.loads("\n".join(lines))["remarks"] == remarks
    expected = [*(f"ltt: remark: {remark}" for remark in remarks[:2]), "ltt: remark: 1 more"]
    assert "\n".join(expected) in err


def test_evaluate_of_a_corpus_of_which_nothing_can_be_used_names_a_file_and_a_cure(
    noise, tmp_path, capsys
):
    corpus = shutil.copytree(noise / "corpus", tmp_path / "corpus")
    for path in corpus.rglob("*.flac"):
        path.write_bytes(b"\0\0\0\x1cftypM4A ")
    problem = "7-1-0.flac: none of 4 utterances can be used; the first: "
    assert_refuses(capsys, problem, "evaluate", noise / "pupil", corpus, "dev")
    assert_refuses(capsys, "ffmpeg -i ", "evaluate", noise / "pupil", corpus, "dev")


def evaluated(model, noise, capsys):
    """The result of `ltt evaluate --json`, less what depends on the clock."""
    lines, _ = run_cli(capsys, "evaluate", model, noise / "corpus", "dev", "--json")
    result = json.loads("\n".join(lines))
    return {name: value for name, value in result.items() if name != "real_time_factor"}


def test_quantize_writes_a_file_of_the_size_that_it_prints(noise, tmp_path, capsys):
    """39 x 5 x 8 and 8 x 29 weights, in buckets of 256: 7 and 1; 69 other numbers."""
    shutil.copytree(noise / "pupil", tmp_path / "pupil")
    lines, err = run_cli(capsys, "quantize", tmp_path / "pupil")
    path = tmp_path / "pupil-4bits.safetensors"
    size = path.stat().st_size
    assert (lines, err) == ([f"{path}: {size:,} bytes for 1,861 parameters"], "")
    values = 780 + 116 + 8 * (7 + 1) + 4 * 69
    assert values < size < values + 1500
    sizes = {}
    for bits, bucket, sensitive in ((1, 256, 1), (8, 256, 8), (8, 16, 8), (1, 256, 8)):
        path = tmp_path / "new" / f"{bits}-{bucket}-{sensitive}.safetensors"
        options = ["--bits", bits, "--bucket", bucket, "--out", path]
        if sensitive != bits:
            options += ["--sensitive-bits", sensitive]
        (line,), _ = run_cli(capsys, "quantize", tmp_path / "pupil", *options)
        assert f"{path}: " in line
        sizes[bits, bucket, sensitive] = path.stat().st_size
    # Seven more bits for each of 1,792 weights; 98 and 15 buckets instead of 7 and 1.
    # The header may vary a little.
    assert sizes[8, 256, 8] - sizes[1, 256, 1] == pytest.approx(7 * 1792 / 8, abs=64)
    assert sizes[8, 16, 8] - sizes[8, 256, 8] == pytest.approx(8 * (98 + 15 - 8), abs=64)
    # The second kernel is that of the output layer; in the header it needs a line of its own.
    assert sizes[1, 256, 8] - sizes[1, 256, 1] == pytest.approx(7 * 232 / 8, abs=128)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["new", "pupil", "pupil-4bits.safetensors"]


def test_quantize_writes_what_can_be_measured_and_transcribed_with(noise, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    options = ["--bits", 1, "--bucket", 64, "--out", path]
    run_cli(capsys, "quantize", noise / "pupil", *options)
    model = models.load(noise / "pupil")
    quantize_kernels(model.network, 1, 64)
    result = evaluated(path, noise, capsys)
    assert result != evaluated(noise / "pupil", noise, capsys)
    audio = sounds(noise)
    texts = [recognition.transcribe(model, file) for file in audio]
    score = recognition.score(["SOME WORDS"] * 3, texts[:3])
    assert result["LER"] == pytest.approx(score["LER"])
    lines, _ = run_cli(capsys, "transcribe", path, *audio)
    assert [line.split("\t")[1] for line in lines] == texts


def test_quantize_rounds_at_random_to_another_file_and_always_the_same(noise, tmp_path, capsys):
    files = []
    for number, options in enumerate(([], ["--stochastic"], ["--stochastic"])):
        path = tmp_path / f"{number}.safetensors"
        options = [*options, "--bits", 2, "--out", path]
        run_cli(capsys, "quantize", noise / "pupil", *options)
        files.append(path.read_bytes())
    assert files[0] != files[1] == files[2] and len(files[0]) == len(files[1])


@pytest.mark.parametrize(
    "options, problem",
    [
        (["--bits", "9"], "bits must be 1 to 8, not 9"),
        (["--bits", "0"], "bits must be 1 to 8, not 0"),
        (["--sensitive-bits", "9"], "bits must be 1 to 8, not 9"),
        (["--bucket", "0"], "bucket_size must be positive, not 0"),
    ],
)
def test_quantize_that_is_refused_is_one_line_and_no_file(
    noise, tmp_path, capsys, options, problem
):
    path = tmp_path / "small.safetensors"
    assert_refuses(capsys, problem, "quantize", noise / "pupil", "--out", path, *options)
    assert list(tmp_path.iterdir()) == []


OUTPUTS = [
    ("small.tflite", "must end in .safetensors; name a file that does"),
    ("small.ARPA", "must end in .safetensors"),
    ("small", "must end in .safetensors"),
    (".", "a folder, where a file is to be written"),
    ("pipe", "a device or a pipe"),
    ("/dev/null", "a device or a pipe"),
    ("link", "a device or a pipe"),
    ("pupil/weights.safetensors", "this is read, and would be written over"),
    ("to-weights.safetensors", "this is read, and would be written over"),
]


@pytest.mark.parametrize("name, problem", OUTPUTS)
def test_quantize_refuses_an_output_that_is_no_new_file(noise, tmp_path, capsys, name, problem):
    shutil.copytree(noise / "pupil", tmp_path / "pupil")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "to-weights.safetensors").symlink_to("pupil/weights.safetensors")
    before = sorted(tmp_path.rglob("*"))
    weights = (tmp_path / "pupil" / "weights.safetensors").read_bytes()
    options = ["--out", tmp_path / name]
    assert_refuses(capsys, problem, "quantize", tmp_path / "pupil", *options)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "pupil" / "weights.safetensors").read_bytes() == weights


def test_deploy_and_lm_refuse_such_outputs_too(noise, book, capsys):
    out = book / "small.safetensors"
    problem = "must end in .tflite; name a file that does"
    assert_refuses(capsys, problem, "deploy", noise / "pupil", "--out", out)
    (book / "link.arpa").symlink_to("one.txt")
    problem = "this is read, and would be written over"
    assert_refuses(capsys, problem, "lm", book / "one.txt", book / "link.arpa")
    assert "Some words" in (book / "one.txt").read_text()


def test_quantize_writes_through_a_link(noise, tmp_path, capsys):
    (tmp_path / "link.safetensors").symlink_to("elsewhere")
    for name in ("link.safetensors", "small.safetensors"):
        run_cli(capsys, "quantize", noise / "pupil", "--out", tmp_path / name)
    assert (tmp_path / "link.safetensors").is_symlink()
    small = (tmp_path / "small.safetensors").read_bytes()
    assert (tmp_path / "elsewhere").read_bytes() == small


@pytest.mark.parametrize("model", ["nobody", "corpus/dev/7/1/7-1.trans.txt"])
def test_quantize_names_what_is_no_model(noise, tmp_path, capsys, model):
    with pytest.raises(lttlib.Error, match=Path(model).name) as refused:
        models.load(noise / model)
    problem = f"ltt: error: {refused.value}\n"
    path = tmp_path / "small.safetensors"
    assert_refuses(capsys, problem, "quantize", noise / model, "--out", path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def book(tmp_path):
    """A folder with two texts to learn from."""
    (tmp_path / "one.txt").write_text("Some words.\nAll the words!\nChapter 2\n")
    (tmp_path / "two.txt").write_text("some more words\n")
    return tmp_path


@pytest.mark.parametrize("interleaved", [True, False])
def test_lm_writes_a_model_and_prints_what_it_is_of(book, capsys, interleaved):
    path = book / "new" / "a.arpa"
    words = ["lm", book / "one.txt", "--order", 2, path]
    sentences = ["SOME WORDS", "ALL THE WORDS"]
    unigrams, bigrams = 4, 6
    if not interleaved:
        words = ["lm", book / "one.txt", book / "two.txt", path, "--order", 2]
        sentences.append("SOME MORE WORDS")
        unigrams, bigrams = 5, 8
    lines, err = run_cli(capsys, *words)
    assert "one.txt, line 3: not in the alphabet: '2'" in err
    assert "too little text for the discounts of 2-grams" in err
    count = len(" ".join(sentences).split())
    assert lines == [
        f"{path}: {unigrams + 3} 1-grams, {bigrams} 2-grams",
        f"{len(sentences)} sentences, {count} words; 1 lines left out",
    ]
    write_arpa(book / "b.arpa", estimate_ngrams(sentences, 2))
    assert path.read_bytes() == (book / "b.arpa").read_bytes()


@pytest.mark.parametrize(
    "words, problem",
    [
        ("one.txt two.txt", "the last file is the one to write and ends in .arpa, not two.txt"),
        ("none.txt a.arpa", "none.txt"),
        ("one.txt a.arpa --order 0", "order must be at least 1"),
        ("one.txt a.arpa --order 7", "order must be at most 6, not 7"),
        ("empty.txt a.arpa", "no words to learn a language model from"),
    ],
)
def test_lm_that_is_refused_is_one_line_and_no_file(book, monkeypatch, capsys, words, problem):
    monkeypatch.chdir(book)
    (book / "empty.txt").write_text("\n")
    before = {path.name: path.read_bytes() for path in book.iterdir()}
    out, err = run_cli(capsys, "lm", *words.split(), code=2)
    rejected = "ltt: left out: one.txt, line 3"
    (error,) = [line for line in err.splitlines() if not line.startswith(rejected)]
    assert out == [] and error.startswith("ltt: error: ") and problem in error
    assert {path.name: path.read_bytes() for path in book.iterdir()} == before


def test_lm_names_ten_lines_that_it_cannot_read_and_counts_the_others(book, capsys):
    bad = [f"Chapter {number}" for number in range(14)]
    unknown = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    lines = [unknown, *bad, *["Some words"] * 15]
    (book / "long.txt").write_text("\n".join(lines), encoding="utf-8")
    out, err = run_cli(capsys, "lm", book / "long.txt", book / "a.arpa", "--order", 1)
    complaints = [line for line in err.splitlines() if "left out" in line]
    assert len(complaints) == 11 and complaints[-1] == "ltt: left out: 5 more"
    assert max(map(len, complaints)) < 500 and out[-1].endswith("15 lines left out")

    (book / "long.txt").write_text("\n".join(lines[:-1]), encoding="utf-8")
    (book / "a.arpa").unlink()
    out, err = run_cli(capsys, "lm", book / "long.txt", book / "a.arpa", code=2)
    assert out == [] and "15 of 29 lines cannot be read; write numbers as words" in err
    assert not (book / "a.arpa").exists()


def test_lm_learns_from_compressed_text(book, capsys):
    (book / "one.txt.gz").write_bytes(gzip.compress((book / "one.txt").read_bytes()))
    for name in ("one.txt", "one.txt.gz"):
        run_cli(capsys, "lm", book / name, book / f"{name}.arpa")
    assert (book / "one.txt.arpa").read_bytes() == (book / "one.txt.gz.arpa").read_bytes()


def test_lm_downloads_that_of_librispeech(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recognition, "fetch_librispeech_arpa", lambda folder: folder / "big.arpa")
    lines, _ = run_cli(capsys, "lm", "librispeech", tmp_path)
    assert lines == [f"{tmp_path / 'big.arpa'}"]


def test_evaluate_decodes_with_a_language_model(noise, book, capsys):
    path = book / "a.arpa"
    write_arpa(path, estimate_ngrams(["SOME MORE"], 2))
    words = ["evaluate", noise / "pupil", noise / "corpus", "dev", "--decoder"]
    with_lm = [*words, "lm", "--lm", path]
    weights = "--lm-weight 0.5 --word-score -1 --beam-width 20".split()
    lines, _ = run_cli(capsys, *with_lm, *weights, "--json")
    result = json.loads("\n".join(lines))
    decoder = {"name": "lm", "lm": str(path)}
    decoder |= {"lm_weight": 0.5, "word_score": -1.0, "beam_width": 20}
    assert result["decoder"].items() >= decoder.items()
    assert result["out_of_lexicon"]["percent"] == 50

    (book / "words.txt").write_text("WORDS\nSOME\nnone\n")
    lines, err = run_cli(capsys, *with_lm, "--lexicon", book / "words.txt")
    assert lines[-1].startswith("0.00 % of the words are out of the lexicon")
    assert lines[-1].endswith(": none")
    assert "not in the lexicon: none: not in the alphabet: 'e', 'n', 'o'" in err
    lines, _ = run_cli(capsys, *with_lm)
    share = "50.00 % of the words are out of the lexicon and never written: WORDS"
    assert lines[-1].endswith(share)

    write_arpa(path, estimate_ngrams(["some words more"], 2))
    _, err = run_cli(capsys, *with_lm, code=2)
    assert "no word in the letters of the model" in err and "--capitals" in err
    lines, err = run_cli(capsys, *with_lm, "--capitals", "--json")
    assert json.loads(lines[0])["out_of_lexicon"]["percent"] == 0 and err.count("\n") == 1

    lines, _ = run_cli(capsys, *words, "beam", "--beam-width", "5", "--json")
    result = json.loads("\n".join(lines))
    assert result["decoder"]["beam_width"] == 5 and "out_of_lexicon" not in result


@pytest.mark.parametrize(
    "words, problem",
    [
        ("--decoder beem", "choose one of greedy, beam, lm"),
        ("--decoder lm", "needs a language model"),
        ("--decoder lm --lm nowhere.arpa", "nowhere.arpa: no language model; `ltt lm` makes"),
        ("--decoder lm --lm nowhere.arpa --beam-width 0", "beam_width must be at least 1"),
        ("--decoder greedy --beam-width 5", "'greedy' has no beam_width"),
        ("--lm some.arpa", "'greedy' has no lm"),
        ("--decoder beam --word-score 1", "'beam' has no word_score"),
        ("--decoder beam --capitals", "'beam' has no capitals"),
    ],
)
def test_evaluate_with_a_decoder_that_is_refused_is_one_line_on_stderr(
    noise, capsys, words, problem
):
    corpus = [noise / "pupil", noise / "corpus", "dev"]
    assert_refuses(capsys, problem, "evaluate", *corpus, *words.split())


def test_deploy_writes_what_measures_and_transcribes_like_its_model(noise, tmp_path, capsys):
    speech = ["--speech", noise / "corpus", "dev"]
    for name, options in (("float32", []), ("int8", speech), ("dynamic_int8", speech)):
        path = tmp_path / f"{name}.tflite"
        options = ["--quantization", name, *options, "--out", path]
        (line,), _ = run_cli(capsys, "deploy", noise / "pupil", *options)
        assert f"{path}: {path.stat().st_size:,} bytes" in line
    deployed = evaluated(tmp_path / "float32.tflite", noise, capsys)
    result = evaluated(noise / "pupil", noise, capsys)
    for key in ("LER", "WER", "utterances"):
        assert deployed[key] == result[key]
    words = [tmp_path / "int8.tflite", *sounds(noise)]
    lines, err = run_cli(capsys, "transcribe", *words)
    streamed, progress = run_cli(capsys, "transcribe", "--chunk", 70, *words)
    assert streamed == lines and " s  " in progress and not err


def test_deploy_listens_to_what_records_would_take_and_says_how_much(noise, tmp_path, capsys):
    corpus = shutil.copytree(noise / "corpus", tmp_path / "corpus")
    words = ["deploy", noise / "pupil", "--quantization", "int8", "--speech", corpus, "dev"]
    run_cli(capsys, *words, "--out", tmp_path / "a.tflite")
    chapter = corpus / "dev" / "7" / "1"
    soundfile.write(chapter / "7-0-0.flac", np.zeros(8000), 8000)
    soundfile.write(chapter / "7-1-8.flac", np.sign(np.arange(8000.0) % 7 - 3), 8000)
    (chapter / "7-1-9.flac").write_bytes(b"no sound")
    _, err = run_cli(capsys, *words, "--out", tmp_path / "b.tflite")
    assert err.splitlines()[-1] == "ltt: listened to 4 recordings, 0.1 minutes, of dev; 3 left out"
    for name, reason in (("7-0-0", "silence"), ("7-1-8", "clipped"), ("7-1-9", "not readable")):
        assert re.search(f"ltt: left out: {name}: .*{reason}.*; ", err)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


@pytest.mark.parametrize("option", ["--quantization", "--form"])  # the second is the older name
@pytest.mark.parametrize("name", ["int8", "float32"])
def test_deploy_of_a_model_that_could_listen_to_nothing_is_refused(
    noise, tmp_path, capsys, option, name
):
    corpus = shutil.copytree(noise / "corpus", tmp_path / "corpus")
    for path in sounds(tmp_path):
        soundfile.write(path, np.zeros(8000), 8000)
    path = tmp_path / "a.tflite"
    words = ["deploy", noise / "pupil", option, name, "--speech", corpus, "dev", "--out", path]
    out, err = run_cli(capsys, *words, code=2)
    *listed, last = err.splitlines()
    assert out == [] and not path.exists() and len(listed) == 4
    assert last == (
        f"ltt: error: {corpus}: none of 4 recordings of dev can be listened to; "
        "name a split of speech"
    )


def test_deploy_takes_other_recordings_in_place_of_those_that_it_cannot_use(
    noise, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(litert, "CALIBRATION_UTTERANCES", 2)
    corpus = shutil.copytree(noise / "corpus", tmp_path / "corpus")
    words = ["deploy", noise / "pupil", "--speech", corpus, "dev", "--out", tmp_path / "a.tflite"]
    chosen = [soundfile.info(path).duration for path in sounds(noise)]
    for missing, expected in ((), (0, 2)), ((2,), (0, 1)), ((0, 2), (1, 3)):
        for number in missing:
            (corpus / "dev" / "7" / "1" / f"7-1-{number}.flac").write_bytes(b"no sound")
        run_cli(capsys, *words)
        listened = Recogniser(tmp_path / "a.tflite").metadata["listened"]
        seconds = sum(chosen[number] for number in expected)
        assert listened == {"utterances": 2, "seconds": pytest.approx(seconds)}


def test_deploy_without_speech_cannot_be_int8_and_streams(noise, tmp_path, capsys):
    path = tmp_path / "a.tflite"
    words = ["deploy", noise / "pupil", "--out", path]
    assert_refuses(capsys, "int8 needs speech", *words, "--quantization", "int8")
    assert not list(tmp_path.iterdir())
    run_cli(capsys, *words)
    texts = []
    for model in (path, noise / "pupil"):
        (line,), _ = run_cli(capsys, "transcribe", "--chunk", 70, model, sounds(noise)[0])
        texts.append(line)
    assert texts[0] == texts[1]


@pytest.fixture(scope="module")
def deployed(noise):
    """The model as a LiteRT file, and as a folder of one."""
    models.deploy(noise / "arrived", models.load(noise / "pupil"), "float32")
    shutil.copy(noise / "arrived" / "model.tflite", noise / "pupil.tflite")
    return noise


@pytest.mark.parametrize("command", ["quantize", "deploy"])
@pytest.mark.parametrize("model", ["arrived", "arrived/", "pupil.tflite"])
def test_deployed_model_is_neither_quantized_nor_deployed_again(deployed, capsys, command, model):
    before = sorted(deployed.rglob("*"))
    path = Path(deployed / model)
    problem = f"{path}: a deployed model cannot be converted; name the model that"
    assert_refuses(capsys, problem, command, f"{deployed}/{model}")
    assert sorted(deployed.rglob("*")) == before


@pytest.mark.parametrize("model", [".", "./", "../pupil", "../pupil/", "deeper/.."])
def test_quantize_within_a_folder_writes_beside_it(noise, tmp_path, monkeypatch, capsys, model):
    shutil.copytree(noise / "pupil", tmp_path / "pupil")
    (tmp_path / "pupil" / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "pupil")
    (line,), _ = run_cli(capsys, "quantize", model)
    path = Path(line.partition(":")[0]).resolve()
    assert path == tmp_path / "pupil-4bits.safetensors" and path.is_file()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["pupil", "pupil-4bits.safetensors"]


@pytest.mark.parametrize(
    "command, out, suffix",
    [
        ("quantize", "small.tflite", ".safetensors"),
        ("quantize", "new/", ".safetensors"),
        ("deploy", "small.safetensors", ".tflite"),
        ("deploy", "small", ".tflite"),
    ],
)
def test_file_to_write_is_refused_under_a_name_that_it_could_not_be_read_by(
    noise, tmp_path, capsys, command, out, suffix
):
    problem = f"{tmp_path / out}: the file to write must end in {suffix}"
    assert_refuses(capsys, problem, command, noise / "pupil", "--out", f"{tmp_path}/{out}")
    assert list(tmp_path.iterdir()) == []


def test_transcribe_prints_json_with_words_and_their_times(noise, capsys):
    words = ["transcribe", noise / "pupil", *sounds(noise)[:2]]
    texts, _ = run_cli(capsys, *words)
    lines, _ = run_cli(capsys, *words, "--json")
    for text, line in zip(texts, lines, strict=True):
        result = json.loads(line)
        assert f"{result['file']}\t{result['text']}" == text
        assert " ".join(word["word"] for word in result["words"]) == result["text"]
        times = [time for word in result["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times) and 0 <= times[0] and times[-1] < 1.3
