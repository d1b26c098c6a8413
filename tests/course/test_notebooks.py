"""Parameters that cannot be wrong in silence, and reports that are whole or not there."""

import json
import os
import sys

import nbformat
import pytest
from builders import PARAMETERS, write_notebook

from lttlib import course
from lttlib.course import notebooks, report


def test_parameters_are_read_with_type_default_and_help(small_course):
    declared = course.parameters(small_course / "notebooks" / "02_teacher.ipynb")
    assert declared["epochs"] == ("int", 3, "passes over the data")
    assert declared["speeds"] == ("list[float]", [1.0], "speed perturbation")
    assert list(declared) == [
        "profile",
        "epochs",
        "learning_rate",
        "augment",
        "speeds",
        "corpus_root",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "epochs = 3  # no type",
        "epochs: int = 3",
        "epochs: int = 1 + 2  # not a literal",
        "epochs: int | None = 3  # papermill would not see it",
        'epochs: float = "3"  # a text',
        "options: dict = {}  # neither scalar nor list",
        "import os  # not a parameter",
        "epochs: int = 3  # once\nepochs: int = 4  # twice",
        "epochs: int = (3  # not Python",
    ],
)
def test_a_parameters_cell_that_holds_anything_else_is_refused(small_course, line):
    write_notebook(small_course / "notebooks", "02_teacher.ipynb", PARAMETERS + line)
    with pytest.raises(ValueError, match="02_teacher.ipynb"):
        course.parameters(small_course / "notebooks" / "02_teacher.ipynb")


def test_each_notebook_is_given_what_it_declares_and_no_more(small_course):
    (first, features), (second, teacher) = course.plan("quick")
    assert (first.name, features) == ("01_features.ipynb", {"profile": "quick"})
    assert (second.name, teacher) == (
        "02_teacher.ipynb",
        {"profile": "quick", "epochs": 2, "learning_rate": 0.001},
    )


def test_an_override_goes_before_the_profile_and_text_is_converted(small_course):
    text = {"epochs": "7", "learning_rate": "1e-4", "augment": "false", "speeds": "[0.9, 1]"}
    ((_, values),) = course.plan("quick", only=["2"], overrides=text)
    assert values == {
        "profile": "quick",
        "epochs": 7,
        "learning_rate": 1e-4,
        "augment": False,
        "speeds": [0.9, 1.0],
    }
    assert [type(speed) for speed in values["speeds"]] == [float, float]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("epochs", "many", "int"),
        ("epochs", 2.5, "int"),
        ("epochs", True, "int"),
        ("epochs", "2.0", "int"),
        ("augment", "perhaps", "bool"),
        ("augment", 1, "bool"),
        ("learning_rate", "fast", "float"),
        ("learning_rate", None, "float"),
        ("speeds", "0.9", "list[float]"),
        ("speeds", "[0.9, 'slow']", "list[float]"),
        ("profile", 3, "quick"),
    ],
)
def test_a_wrong_type_names_parameter_type_and_value(small_course, name, value, kind):
    with pytest.raises(ValueError) as error:
        course.plan("quick", overrides={name: value})
    assert all(part in str(error.value) for part in (name, kind, repr(value)))


def test_a_misspelt_override_names_the_nearest(small_course):
    with pytest.raises(ValueError, match="'epoch', did you mean 'epochs'"):
        course.plan("quick", overrides={"epoch": "2"})


def test_a_misspelt_parameter_in_a_profile_is_refused_whatever_is_run(small_course):
    (small_course / "notebooks" / "params" / "quick.yaml").write_text("learning_rat: 0.1\n")
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        course.plan("quick", only=["01"])


@pytest.mark.parametrize(
    "text", ["epochs: [", "- epochs", "profile: other", "epochs: two", "on: 1"]
)
def test_a_profile_that_is_no_good_is_refused(small_course, text):
    (small_course / "notebooks" / "params" / "quick.yaml").write_text(text)
    with pytest.raises(ValueError):
        course.plan("quick")


def test_an_override_that_no_selected_notebook_declares_is_refused(small_course):
    with pytest.raises(ValueError, match="'epochs' would change nothing"):
        course.plan("quick", only=["01"], overrides={"epochs": "2"})


def test_a_missing_profile_lists_those_that_exist(small_course):
    with pytest.raises(
        ValueError, match="'digit', did you mean 'digits'.* There are: digits, quick"
    ):
        course.plan("digit")


def test_a_selection_names_notebooks_by_number_or_name_and_refuses_others(small_course):
    assert [path.stem for path, _ in course.plan("quick", start="02")] == ["02_teacher"]
    assert [path.stem for path, _ in course.plan("quick", only=["01_features"])] == ["01_features"]
    with pytest.raises(ValueError, match="did you mean '02_teacher'"):
        course.plan("quick", only=["02_techer"])
    with pytest.raises(ValueError, match="nothing to run"):
        course.plan("quick", only=["01"], start="02")


def test_a_relative_path_counts_from_the_callers_folder(small_course, monkeypatch):
    (small_course / "here").mkdir()
    (small_course / "speech").mkdir()
    monkeypatch.chdir(small_course / "here")
    ((_, values),) = course.plan("quick", only=["02"], overrides={"corpus_root": "../speech"})
    assert values["corpus_root"] == str(small_course / "speech")
    ((_, values),) = course.plan("quick", only=["02"], overrides={"corpus_root": ""})
    assert values["corpus_root"] == ""
    with pytest.raises(ValueError, match="corpus_root.*nowhere is no folder"):
        course.plan("quick", only=["02"], overrides={"corpus_root": "nowhere"})


def test_no_notebooks_is_an_error_with_its_cure(small_course, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", small_course / "nowhere")
    with pytest.raises(FileNotFoundError, match="pip install -e"):
        course.plan("quick")


def test_require_returns_what_is_there_and_names_the_maker_of_what_is_not(small_course):
    assert course.require(small_course / "notebooks", "00_overview") == small_course / "notebooks"
    with pytest.raises(FileNotFoundError, match="ltt run digits --only 02_teacher"):
        course.require(course.profile_folder("digits") / "models" / "teacher", "02_teacher")


@pytest.mark.slow
def test_run_leaves_whole_reports_and_an_index(small_course, capsys):
    """A real kernel: this interpreter's, in the notebook's folder, told where data go and that it is a batch."""
    look = "import json, os, sys; from lttlib import course"
    seen = "print(json.dumps([sys.executable, os.getcwd(), str(course.DATA), os.environ['LTT_BATCH'], profile]))"
    write_notebook(small_course / "notebooks", "01_features.ipynb", PARAMETERS, look, seen)
    before = dict(os.environ)
    index = course.run("digits", only=["01"])
    assert dict(os.environ) == before, "what kernels are told must not stay behind"
    assert index == small_course / "data" / "digits" / "reports" / "index.html"
    assert sorted(path.name for path in index.parent.iterdir()) == [
        "01_features.html",
        "01_features.ipynb",
        "index.html",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[1]) == [
        sys.executable,
        str(small_course / "notebooks"),
        str(small_course / "data"),
        "1",
        "digits",
    ]
    assert (
        lines[2].startswith("01_features ") and lines[2].endswith(" s") and str(index) in lines[3]
    )
    page = (index.parent / "01_features.html").read_text()
    assert 'href="02_teacher.html"' in page and "<img" not in page
    assert '<a href="01_features.html">01 Heading of 01_features.ipynb</a>' in index.read_text()
    executed = nbformat.read(index.parent / "01_features.ipynb", as_version=4)
    assert executed.metadata.papermill.parameters == {"profile": "digits"}


@pytest.mark.slow
@pytest.mark.parametrize("reports", ["", "mine"])
def test_a_run_of_the_report_ends_with_its_page(small_course, monkeypatch, capsys, reports):
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    page = "from lttlib import course\nplace = course.reports_path(profile)\n"
    page += "place.mkdir(parents=True, exist_ok=True)\n(place / 'report.html').write_text('all')"
    write_notebook(small_course / "notebooks", "09_report.ipynb", PARAMETERS, page)
    place = small_course / "data" / "digits" / "reports" / reports
    assert course.run("digits", only=["01", "09"], reports=reports) == place / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {place / 'report.html'}"
    assert 'href="report.html"' in (place / "index.html").read_text()
    assert course.run("digits", only=["01"], reports=reports) == place / "index.html"


def test_figures_for_other_pages_stand_apart_from_those_of_runs_apart(small_course, monkeypatch):
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    assert course.figure_path("digits", "path") == small_course / "figures" / "digits-path.png"
    monkeypatch.setattr(notebooks, "DATA", small_course / "elsewhere")
    assert (
        course.figure_path("digits", "path")
        == small_course / "elsewhere" / "figures" / "digits-path.png"
    )
    monkeypatch.setenv("LTT_REPORTS", str(small_course / "a" / "b"))
    assert course.figure_path("digits", "path") == small_course / "a" / "b" / "digits-path.png"
    assert (small_course / "a" / "b").is_dir() and (small_course / "figures").is_dir()


@pytest.mark.slow
def test_a_run_with_reports_of_its_own_leaves_those_of_others_and_the_figures(
    small_course, monkeypatch
):
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    reports = small_course / "data" / "digits" / "reports"
    reports.mkdir(parents=True)
    (reports / "01_features.html").write_text("another's")
    look = "from lttlib import course\ncourse.figure_path(profile, 'shown').write_text(str(course.DATA))"
    write_notebook(small_course / "notebooks", "01_features.ipynb", PARAMETERS, look)
    before = dict(os.environ)
    index = course.run("digits", only=["01"], reports="mine")
    assert dict(os.environ) == before and index == reports / "mine" / "index.html"
    names = ["01_features.html", "01_features.ipynb", "digits-shown.png", "index.html"]
    assert sorted(path.name for path in index.parent.iterdir()) == names
    assert (index.parent / "digits-shown.png").read_text() == str(small_course / "data")
    assert sorted(path.name for path in reports.iterdir()) == ["01_features.html", "mine"]
    assert (reports / "01_features.html").read_text() == "another's" and not (
        small_course / "figures"
    ).exists()


@pytest.mark.slow
def test_a_failing_notebook_keeps_what_it_did_and_the_report_before_it(small_course):
    notebooks, reports = small_course / "notebooks", small_course / "data" / "quick" / "reports"
    course.run("quick", only=["01"])
    whole = (reports / "01_features.ipynb").read_bytes()
    write_notebook(
        notebooks,
        "01_features.ipynb",
        PARAMETERS,
        "print('so far')",
        "x = 1\nassert x == 2, 'not two'",
    )
    with pytest.raises(report.NotebookError) as error:
        course.run("quick")
    message = str(error.value)
    assert (
        "01_features" in message
        and "assert x == 2" in message
        and "AssertionError: not two" in message
    )
    assert len(message.splitlines()) == 3
    names = ["01_features.failed.ipynb", "01_features.html", "01_features.ipynb", "index.html"]
    assert (
        sorted(path.name for path in reports.iterdir()) == names
    )  # nothing half-written, and 02 did not run
    assert (reports / "01_features.ipynb").read_bytes() == whole
    assert "so far" in (reports / "01_features.failed.ipynb").read_text()
    assert "failed" in (reports / "index.html").read_text()
