"""The command: quick help, one-line errors, and results that a program can read."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from builders import PARAMETERS, write_notebook

from lttlib import cli, models, recognition
from lttlib.course import notebooks
from lttlib.features import FeatureConfig
from lttlib.models import Model
from lttlib.network import ConvNet, ConvSpec, quantize_kernels
from lttlib.recognition import estimate_ngrams, write_arpa


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A model that has learned nothing, and a corpus of noise: what it writes is nonsense, but always the same."""
    from lttlib import models

    folder = tmp_path_factory.mktemp("spoken")
    spec = ConvSpec((8,), (5,), (2,), (0,), input_channels=39)
    models.save(folder / "pupil", Model(ConvNet(spec), FeatureConfig(sampling_rate=8000)))
    chapter = folder / "corpus" / "dev" / "7" / "1"
    chapter.mkdir(parents=True)
    for number in range(4):
        noise = 0.1 * np.random.default_rng(number).normal(size=8000 + 500 * number)
        soundfile.write(chapter / f"7-1-{number}.flac", noise, 8000)
    lines = [f"7-1-{number} SOME WORDS\n" for number in range(3)]
    (chapter / "7-1.trans.txt").write_text("".join(lines))
    return folder


def test_help_names_every_command_and_imports_nothing_heavy():
    look = "import sys, lttlib.cli as c; c.parser().print_help(); print(sorted(m.partition('.')[0] for m in sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True
    ).stdout
    assert all(
        command in shown
        for command in (
            "run",
            "sweep",
            "quantize",
            "deploy",
            "evaluate",
            "transcribe",
            "corpus",
            "lm",
        )
    )
    assert not any(
        f"'{heavy}'" in shown for heavy in ("tensorflow", "keras", "numpy", "papermill", "librosa")
    )


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
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and "usage: ltt" in capsys.readouterr().err


def test_a_refused_request_is_one_line_on_stderr(small_course, capsys):
    assert cli.main(["run", "quick", "--only", "02", "-p", "epoch", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("ltt: error: unknown parameter 'epoch', did you mean 'epochs'?")


def test_a_failing_notebook_exits_with_1_and_a_short_message(small_course, capsys):
    write_notebook(small_course / "notebooks", "01_features.ipynb", PARAMETERS, "1 / 0")
    assert cli.main(["run"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err and "Traceback" not in err and err.count("\n") == 3


def test_reports_with_a_name_are_kept_apart(small_course, monkeypatch, capsys):
    from lttlib.course import report

    places = []
    monkeypatch.setattr(
        report, "execute", lambda notebook, values, place, variables: places.append(place) or 1.0
    )
    for options in ([], ["--reports", "mine"]):
        assert cli.main(["run", "digits", "--only", "01", *options]) == 0
    reports = small_course / "data" / "digits" / "reports"
    assert places == [reports, reports / "mine"]
    assert str(reports / "mine" / "index.html") in capsys.readouterr().out.splitlines()[-1]
    assert sorted(path.name for path in reports.rglob("*")) == ["index.html", "index.html", "mine"]


@pytest.mark.parametrize("failed, code", [([], 0), (["seed=1"], 1)])
def test_a_sweep_shows_what_it_found_and_exits_with_1_if_a_run_failed(
    small_course, monkeypatch, capsys, failed, code
):
    from lttlib.course import sweep

    asked = []
    monkeypatch.setattr(sweep, "run", lambda *arguments: asked.append(arguments) or failed)
    for alpha, seed, rate in (("0", "1", 10.0), ("0", "2", 12.0), ("0.5", "1", 7.0)):
        place = small_course / "data" / "quick" / "models" / f"alpha={alpha},seed={seed}-distilled"
        place.mkdir(parents=True)
        card = {"parameters": 12345, "files": {"weights": 6789}, "results": {"dev": {"LER": rate}}}
        (place / "card.json").write_text(json.dumps(card))
    words = "sweep quick --only 04 --only 05 --grid alpha 0 0.5 --grid seed 1 --grid seed 2 -p epochs 3 --jobs 2"
    assert cli.main(words.split()) == code
    grid = {"alpha": ["0", "0.5"], "seed": ["1", "2"]}
    assert asked == [("quick", ["04", "05"], grid, {"epochs": "3"}, 2)]
    one, two = (line.split() for line in capsys.readouterr().out.splitlines())
    about = ["12,345", "parameters", "6,789", "bytes"]
    assert one == ["distilled", "alpha=0", "dev", "11.00", "+-", "12.71", "%", *about, "2", "runs"]
    assert two == ["distilled", "alpha=0.5", "dev", "7.00", "+-", "nan", "%", *about, "1", "runs"]


@pytest.mark.parametrize(
    "words, told",
    [
        ("--grid epoch 1 2", "did you mean 'epochs'"),
        ("--grid epochs 1 two", "'epochs' expects int, not 'two'"),
        ("--grid epochs", "a grid needs"),
        ("--grid epochs 1 1", "both be named 'epochs=1'"),
        ("--grid epochs 1 --jobs 0", "jobs must be at least 1"),
    ],
)
def test_a_refused_sweep_is_one_line_on_stderr(small_course, capsys, words, told):
    declared = PARAMETERS + 'epochs: int = 3  # passes\nstudent: str = ""  # name\n'
    write_notebook(small_course / "notebooks", "03_student.ipynb", declared, "1 / 0")
    assert cli.main(["sweep", "quick", "--only", "03", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.startswith("ltt: error: ") and err.count("\n") == 1


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch):

    monkeypatch.setattr(notebooks, "run", lambda *_: np.zeros(3).reshape(2, 2))
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
    numbers = [
        f"{result[key]['characters']:.2f}" for key in ("substitutions", "deletions", "insertions")
    ]
    assert (
        characters.split()[1] == f"{result['LER']:.2f}"
        and [n for n in characters.split() if n in numbers] == numbers
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


def evaluated(model, spoken, capsys):
    """What `ltt evaluate --json` tells, less what depends on the clock."""
    assert cli.main(["evaluate", str(model), str(spoken / "corpus"), "dev", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    return {name: value for name, value in result.items() if name != "real_time_factor"}


def test_quantize_writes_a_file_of_the_size_it_tells(spoken, tmp_path, capsys):
    """39 x 5 x 8 and 8 x 29 weights, in buckets of 256: 7 and 1; 69 other numbers."""
    shutil.copytree(spoken / "pupil", tmp_path / "pupil")
    assert cli.main(["quantize", str(tmp_path / "pupil")]) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "pupil-4bits.safetensors"
    size = path.stat().st_size
    assert (out, err) == (f"{path}: {size:,} bytes for 1,861 parameters\n", "")
    assert 780 + 116 + 8 * (7 + 1) + 4 * 69 < size < 780 + 116 + 8 * (7 + 1) + 4 * 69 + 1500
    sizes = {}
    for bits, bucket in (("1", "256"), ("8", "256"), ("8", "16")):
        path = tmp_path / "made" / f"{bits}-{bucket}.safetensors"
        command = [
            "quantize",
            str(tmp_path / "pupil"),
            "--bits",
            bits,
            "--bucket",
            bucket,
            "--out",
            str(path),
        ]
        assert cli.main(command) == 0 and f"{path}: " in capsys.readouterr().out
        sizes[bits, bucket] = path.stat().st_size
    # Seven more bits for each of 1,792 weights; 98 and 15 buckets instead of 7 and 1; the header may vary a little.
    assert sizes["8", "256"] - sizes["1", "256"] == pytest.approx(7 * 1792 / 8, abs=64)
    assert sizes["8", "16"] - sizes["8", "256"] == pytest.approx(8 * (98 + 15 - 8), abs=64)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "made",
        "pupil",
        "pupil-4bits.safetensors",
    ]


def test_what_quantize_writes_can_be_measured_and_listened_with(spoken, tmp_path, capsys):

    path = tmp_path / "small.safetensors"
    assert (
        cli.main(
            ["quantize", str(spoken / "pupil"), "--bits", "1", "--bucket", "64", "--out", str(path)]
        )
        == 0
    )
    capsys.readouterr()
    model = models.load(spoken / "pupil")
    quantize_kernels(model.network, 1, 64)
    assert evaluated(path, spoken, capsys) != evaluated(spoken / "pupil", spoken, capsys)
    result, audio = evaluated(path, spoken, capsys), sorted((spoken / "corpus").rglob("*.flac"))
    texts = [recognition.transcribe(model, path) for path in audio]
    assert result["LER"] == pytest.approx(recognition.score(["SOME WORDS"] * 3, texts[:3])["LER"])
    assert cli.main(["transcribe", str(path), *map(str, audio)]) == 0
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == texts


def test_stochastic_rounding_is_another_one_and_always_the_same(spoken, tmp_path, capsys):
    made = []
    for number, options in enumerate(([], ["--stochastic"], ["--stochastic"])):
        path = tmp_path / f"{number}.safetensors"
        assert (
            cli.main(
                ["quantize", str(spoken / "pupil"), "--bits", "2", "--out", str(path), *options]
            )
            == 0
        )
        made.append(path.read_bytes())
    assert made[0] != made[1] == made[2] and len(made[0]) == len(made[1])


@pytest.mark.parametrize(
    "model, options, told",
    [
        ("pupil", ["--bits", "9"], "bits must be 1 to 8, not 9"),
        ("pupil", ["--bits", "0"], "bits must be 1 to 8, not 0"),
        ("pupil", ["--bucket", "0"], "bucket_size must be positive, not 0"),
        ("nobody", [], "nobody is no model"),
        ("corpus/dev/7/1/7-1.trans.txt", [], "7-1.trans.txt is no packed model"),
    ],
)
def test_what_cannot_be_quantized_is_one_line_and_no_file(
    spoken, tmp_path, capsys, model, options, told
):
    path = tmp_path / "small.safetensors"
    assert cli.main(["quantize", str(spoken / model), "--out", str(path), *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.fixture
def book(tmp_path):
    (tmp_path / "one.txt").write_text("Some words.\nAll the words!\nChapter 2\n")
    (tmp_path / "two.txt").write_text("some more words\n")
    return tmp_path


@pytest.mark.parametrize("interleaved", [True, False])
def test_lm_writes_a_model_and_tells_what_it_learned_from(book, capsys, interleaved):

    texts, out = (
        [str(book / "one.txt")] + [str(book / "two.txt")] * (not interleaved),
        str(book / "new" / "a.arpa"),
    )
    assert (
        cli.main(
            ["lm", *texts, "--order", "2", out]
            if interleaved
            else ["lm", *texts, out, "--order", "2"]
        )
        == 0
    )
    shown, err = capsys.readouterr()
    assert "one.txt, line 3: not in the alphabet: '2'" in err
    assert "too little text for the discounts of 2-grams" in err
    sentences = ["SOME WORDS", "ALL THE WORDS"] + ["SOME MORE WORDS"] * (not interleaved)
    words, twos = (4, 6) if interleaved else (5, 8)
    assert shown.splitlines() == [
        f"{out}: {words + 3} 1-grams, {twos} 2-grams",
        f"{len(sentences)} sentences, {len(' '.join(sentences).split())} words; 1 lines left out",
    ]
    write_arpa(book / "b.arpa", estimate_ngrams(sentences, 2))
    assert (book / "new" / "a.arpa").read_bytes() == (book / "b.arpa").read_bytes()


@pytest.mark.parametrize(
    "words, told",
    [
        ("one.txt two.txt", "the last file is the one to write and ends in .arpa, not two.txt"),
        ("none.txt a.arpa", "none.txt"),
        ("one.txt a.arpa --order 0", "order must be at least 1"),
        ("empty.txt a.arpa", "no words to learn a language model from"),
    ],
)
def test_a_text_that_gives_no_model_is_one_line_and_no_file(book, monkeypatch, capsys, words, told):
    monkeypatch.chdir(book)
    (book / "empty.txt").write_text("\n")
    before = {path.name: path.read_bytes() for path in book.iterdir()}
    assert cli.main(["lm", *words.split()]) == 2
    out, err = capsys.readouterr()
    (error,) = [
        line for line in err.splitlines() if not line.startswith("ltt: left out: one.txt, line 3")
    ]
    assert out == "" and error.startswith("ltt: error: ") and told in error
    assert {path.name: path.read_bytes() for path in book.iterdir()} == before


def test_lm_downloads_that_of_librispeech(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recognition, "fetch_librispeech_arpa", lambda folder: folder / "big.arpa")
    assert cli.main(["lm", "librispeech", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'big.arpa'}\n"


def test_evaluate_decodes_with_a_language_model(spoken, book, capsys):

    path = str(book / "a.arpa")
    write_arpa(path, estimate_ngrams(["SOME MORE"], 2))
    asked = ["evaluate", str(spoken / "pupil"), str(spoken / "corpus"), "dev", "--decoder"]
    options = "--lm-weight 0.5 --word-score -1 --beam-width 20".split()
    assert cli.main([*asked, "lm", "--lm", path, *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    told = {"name": "lm", "lm": path, "lm_weight": 0.5, "word_score": -1.0, "beam_width": 20}
    assert result["decoder"].items() >= told.items() and result["out_of_lexicon"]["percent"] == 50
    (book / "words.txt").write_text("WORDS\nSOME\nnone\n")
    assert cli.main([*asked, "lm", "--lm", path, "--lexicon", str(book / "words.txt")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(
        "0.00 % of the words are out of the lexicon"
    ) and out.endswith(": none\n")
    assert "not in the lexicon: none: not in the alphabet: 'e', 'n', 'o'" in err
    assert cli.main([*asked, "lm", "--lm", path]) == 0
    assert capsys.readouterr().out.endswith(
        "50.00 % of the words are out of the lexicon and never written: WORDS\n"
    )
    assert cli.main([*asked, "beam", "--beam-width", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["decoder"]["beam_width"] == 5 and "out_of_lexicon" not in result


@pytest.mark.parametrize(
    "words, told",
    [
        ("--decoder beem", "choose one of greedy, beam, lm"),
        ("--decoder lm", "needs a language model"),
        ("--decoder lm --lm nowhere.arpa", "no language model nowhere.arpa"),
        ("--decoder lm --lm nowhere.arpa --beam-width 0", "beam_width must be at least 1"),
        ("--decoder greedy --beam-width 5", "'greedy' has no beam_width"),
        ("--lm some.arpa", "'greedy' has no lm"),
        ("--decoder beam --word-score 1", "'beam' has no word_score"),
    ],
)
def test_a_decoder_that_cannot_be_had_is_one_line_on_stderr(spoken, capsys, words, told):
    assert (
        cli.main(["evaluate", str(spoken / "pupil"), str(spoken / "corpus"), "dev", *words.split()])
        == 2
    )
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.startswith("ltt: error: ") and err.count("\n") == 1


def test_what_deploy_writes_is_measured_and_listened_with_like_its_model(spoken, tmp_path, capsys):
    speech = ["--speech", str(spoken / "corpus"), "dev"]
    for form, options in (("float32", []), ("int8", speech), ("dynamic_int8", speech)):
        path = tmp_path / f"{form}.tflite"
        command = ["deploy", str(spoken / "pupil"), "--form", form, *options, "--out", str(path)]
        assert (
            cli.main(command) == 0
            and f"{path}: {path.stat().st_size:,} bytes" in capsys.readouterr().out
        )
    for key in ("LER", "WER", "utterances"):
        assert (
            evaluated(tmp_path / "float32.tflite", spoken, capsys)[key]
            == evaluated(spoken / "pupil", spoken, capsys)[key]
        )
    audio = [str(path) for path in sorted((spoken / "corpus").rglob("*.flac"))]
    assert cli.main(["transcribe", str(tmp_path / "int8.tflite"), *audio]) == 0
    whole = capsys.readouterr()
    assert cli.main(["transcribe", "--chunk", "70", str(tmp_path / "int8.tflite"), *audio]) == 0
    pieces = capsys.readouterr()
    assert pieces.out == whole.out and " s  " in pieces.err and not whole.err


def test_what_cannot_be_deployed_or_streamed_is_told_in_a_line(spoken, tmp_path, capsys):
    assert (
        cli.main(
            ["deploy", str(spoken / "pupil"), "--form", "int8", "--out", str(tmp_path / "a.tflite")]
        )
        == 2
    )
    assert "int8 needs speech" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert cli.main(["deploy", str(spoken / "pupil"), "--out", str(tmp_path / "a.tflite")]) == 0
    audio = str(next((spoken / "corpus").rglob("*.flac")))
    assert cli.main(["transcribe", "--chunk", "70", str(tmp_path / "a.tflite"), audio]) == 2
    assert cli.main(["transcribe", "--chunk", "70", str(spoken / "pupil"), audio]) == 2
    assert capsys.readouterr().err.count("ltt deploy --speech") == 2
