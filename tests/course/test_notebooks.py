"""Parameters that cannot be wrong in silence, and reports that are whole or not there."""

import ast
import json
import os
import re
import sys

import nbformat
import pytest
from builders import PARAMETERS, write_notebook
from damage import assert_refused, change, content, replaced, rows

from lttlib import Error, course, network, training
from lttlib.course import notebooks, report
from lttlib.features.spectral import FEATURE_KINDS
from lttlib.network.convnet import CONVS

TEACHER = "02_teacher.ipynb"


def test_parameters_are_read_with_type_default_and_help(small_course):
    declared = course.parameters(small_course / "notebooks" / TEACHER)
    assert declared["epochs"] == ("int", 3, "passes over the data")
    assert declared["speeds"] == ("list[float]", [1.0], "speed perturbation")
    names = ["profile", "epochs", "learning_rate", "augment", "speeds", "corpus_root"]
    assert list(declared) == names


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
def test_parameters_cell_that_holds_anything_else_is_refused(small_course, line):
    path = small_course / "notebooks" / TEACHER
    write_notebook(path.parent, path.name, PARAMETERS + line)
    with pytest.raises(Error, match=TEACHER) as refused:
        course.parameters(path)
    assert refused.value.path == path and "name: type = literal" in refused.value.cure


def test_plan_gives_each_notebook_what_it_declares_and_no_more(small_course):
    (first, features), (second, teacher) = course.plan("quick")
    assert (first.name, features) == ("01_features.ipynb", {"profile": "quick"})
    assert second.name == TEACHER
    assert teacher == {"profile": "quick", "epochs": 2, "learning_rate": 0.001}


def test_plan_puts_an_override_before_the_profile_and_converts_its_text(small_course):
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
def test_plan_with_a_wrong_type_names_parameter_type_and_value(small_course, name, value, kind):
    with pytest.raises(Error) as error:
        course.plan("quick", overrides={name: value})
    assert all(part in str(error.value) for part in (name, kind, repr(value)))
    assert error.value.path is None, "it is the caller's"


def test_plan_with_a_number_beyond_all_floats_names_the_type(small_course):
    with pytest.raises(Error, match="'learning_rate' expects float"):
        course.plan("quick", overrides={"learning_rate": 10**400})


def test_plan_with_a_misspelt_override_names_the_nearest(small_course):
    with pytest.raises(Error, match="'epoch'; did you mean 'epochs'"):
        course.plan("quick", overrides={"epoch": "2"})


def test_plan_with_a_misspelt_parameter_in_a_profile_is_refused_whatever_is_run(small_course):
    path = small_course / "notebooks" / "params" / "quick.yaml"
    path.write_text("learning_rat: 0.1\n")
    with pytest.raises(Error, match="did you mean 'learning_rate'") as error:
        course.plan("quick", only=["01"])
    assert error.value.path == path


@pytest.mark.parametrize(
    "text", ["epochs: [", "- epochs", "profile: other", "epochs: two", "on: 1"]
)
def test_plan_refuses_a_broken_profile(small_course, text):
    path = small_course / "notebooks" / "params" / "quick.yaml"
    path.write_text(text)
    with pytest.raises(Error) as error:
        course.plan("quick")
    assert error.value.path == path and error.value.cure


def test_plan_refuses_an_override_that_no_selected_notebook_declares(small_course):
    with pytest.raises(Error, match="'epochs' would change nothing"):
        course.plan("quick", only=["01"], overrides={"epochs": "2"})


def test_plan_of_a_missing_profile_lists_those_that_exist(small_course):
    message = "'digit'; did you mean 'digits'.* There are: digits, quick"
    with pytest.raises(Error, match=message):
        course.plan("digit")


def test_plan_selects_notebooks_by_number_or_name_and_refuses_others(small_course):
    assert [path.stem for path, _ in course.plan("quick", start="02")] == ["02_teacher"]
    assert [path.stem for path, _ in course.plan("quick", only=["01_features"])] == ["01_features"]
    with pytest.raises(Error, match="did you mean '02_teacher'"):
        course.plan("quick", only=["02_techer"])
    with pytest.raises(Error, match="nothing to run"):
        course.plan("quick", only=["01"], start="02")


def test_plan_counts_a_relative_path_from_the_callers_folder(small_course, monkeypatch):
    (small_course / "here").mkdir()
    (small_course / "speech").mkdir()
    monkeypatch.chdir(small_course / "here")
    ((_, values),) = course.plan("quick", only=["02"], overrides={"corpus_root": "../speech"})
    assert values["corpus_root"] == str(small_course / "speech")
    ((_, values),) = course.plan("quick", only=["02"], overrides={"corpus_root": ""})
    assert values["corpus_root"] == ""
    with pytest.raises(Error, match="nowhere: .*corpus_root.* needs a folder") as error:
        course.plan("quick", only=["02"], overrides={"corpus_root": "nowhere"})
    assert error.value.path == str(small_course / "here" / "nowhere") and error.value.cure


@pytest.mark.parametrize(
    "text, value",
    [("010", 10), ("0x10", None), ("12:30", None), ("1e1", None), ("1_000", 1000), ("~", None)],
)
def test_plan_reads_a_number_of_a_profile_as_it_is_typed(small_course, text, value):
    """YAML 1.1 makes 8 of 010, 750 of 12:30, and of the others what nobody has typed, too."""
    (small_course / "notebooks" / "params" / "quick.yaml").write_text(f"epochs: {text}\n")
    if value is None:
        with pytest.raises(Error, match="'epochs' expects int"):
            course.plan("quick")
        return
    ((_, values),) = course.plan("quick", only=["02"])
    assert values["epochs"] == value


@pytest.mark.parametrize("text", ["no", "on", "12:30", "010", "1e3", "2018-01-01", "1_0", "0o7"])
def test_plan_reads_a_text_of_a_profile_as_it_is_typed(small_course, text):
    folder = small_course / "notebooks"
    declared = PARAMETERS + 'teacher: str = "t"  # name\nheld: list[str] = []  # names\n'
    write_notebook(folder, "03_guidance.ipynb", declared)
    (folder / "params" / "quick.yaml").write_text(f"teacher: {text}\nheld: [a, {text}]\n")
    ((_, values),) = course.plan("quick", only=["03"])
    assert (values["teacher"], values["held"]) == (text, ["a", text])


@pytest.mark.parametrize("text, value", [("no", False), ("True", True), ("on", True)])
def test_plan_reads_a_truth_value_of_a_profile_as_yaml_does(small_course, text, value):
    path = small_course / "notebooks" / "params" / "quick.yaml"
    path.write_text(f"augment: {text}\n")
    ((_, values),) = course.plan("quick", only=["02"])
    assert values["augment"] is value


def test_plan_merges_the_mappings_of_a_profile(small_course):
    path = small_course / "notebooks" / "params" / "quick.yaml"
    path.write_text("<<: {epochs: 5, augment: false}\nlearning_rate: 1.0e-2\n")
    ((_, values),) = course.plan("quick", only=["02"])
    expected = {"profile": "quick", "epochs": 5, "learning_rate": 0.01, "augment": False}
    assert values == expected


@pytest.mark.parametrize("source", ["caller", "profile"])
@pytest.mark.parametrize(
    "declared, value, problem",
    [
        ("epochs: int = 3", "0", "[1, inf)"),
        ("student_epochs: int = 3", "-1", "[1, inf)"),
        ("batch_size: int = 3", "0", "[1, inf)"),
        ("seed: int = 0", "-1", "[0, 2147483647]"),
        ("seed: int = 0", "2147483648", "[0, 2147483647]"),
        ("temperature: float = 1.0", "0", "(0, inf)"),
        ("temperature: float = 1.0", "-1e-3", "(0, inf)"),
        ("few_bits: int = 2", "9", "[1, 8]"),
        ("speeds: list[float] = [1.0]", "[1.0, 0]", "(0, inf)"),
        ("speeds: list[float] = [1.0]", "[]", "(0, inf)"),
        ("student_dropouts: list[float] = [0.0]", "[1]", "[0, 1)"),
        ("transcribed_share: float = 1.0", "0.0", "(0, 1]"),
        ("student_conv: str = 'conv'", "convv", "there are: conv, gated_conv"),
        ("guidance: str = 'top4'", "top5", "no choice 'top5'"),
        ("teacher: str = 't'", "../../elsewhere", "plain name of a folder"),
        ("teacher: str = 't'", "..", "plain name of a folder"),
        ("student: str = 's'", '""', "plain name of a folder"),
        ("student: str = 's'", "a/b", "plain name of a folder"),
        ("label_student: str = ''", "/root", "plain name of a folder"),
        ("more_teachers: list[str] = []", "['a', '.b']", "plain name of a folder"),
        ("score_splits: list[str] = ['dev']", "[]", "plain name of a folder"),
    ],
)
def test_plan_refuses_a_value_out_of_its_range(small_course, source, declared, value, problem):
    folder = small_course / "notebooks"
    write_notebook(folder, "03_some.ipynb", f"{PARAMETERS}{declared}  # help\n")
    name = declared.partition(":")[0]
    path = folder / "params" / "quick.yaml"
    path.write_text(f"{name}: {value}\n" if source == "profile" else "")
    overrides = {name: value.strip('"')} if source == "caller" else {}
    with pytest.raises(Error) as error:
        course.plan("quick", only=["03"], overrides=overrides)
    assert name in error.value.problem and problem in str(error.value)
    assert error.value.path == (path if source == "profile" else None) and error.value.cure


@pytest.mark.parametrize(
    "declared, value",
    [
        ("alpha: float = 0.5", "0"),
        ("alpha: float = 0.5", "1"),
        ("transcribed_share: float = 1.0", "1"),
        ("dropouts: list[float] = [0.1]", "[0.0, 0.5]"),
        ("word_scores: list[float] = [0.0]", "[-1e-3]"),
        ("more_teachers: list[str] = []", "[]"),
        ("label_student: str = ''", ""),
        ("student: str = 's'", "alpha=0.5,seed=1"),
        ("held_speakers: list[str] = []", "['../a']"),
    ],
)
def test_plan_takes_the_values_at_the_ends_of_a_range(small_course, declared, value):
    folder = small_course / "notebooks"
    write_notebook(folder, "03_some.ipynb", f"{PARAMETERS}{declared}  # help\n")
    name = declared.partition(":")[0]
    ((_, values),) = course.plan("digits", only=["03"], overrides={name: value})
    expected = value if "str = " in declared else ast.literal_eval(value)
    assert values[name] == expected


def test_parameters_that_are_numbers_have_a_range_and_choices_are_those_of_the_library():
    free = ("highest_ler", "largest_", "word_scores")
    for path in sorted(notebooks.NOTEBOOKS.glob("*.ipynb")):
        for name, (kind, _, _) in course.parameters(path).items():
            is_number = "int" in kind or "float" in kind
            rules = [*notebooks._rules(notebooks.RANGES, name)]
            assert not is_number or name.startswith(free) or len(rules) == 1, name
    choices = {name: words.split() for name, words in notebooks.CHOICES.items()}
    assert choices["guidance"] == [*training.ENCODINGS, "online"]
    assert choices["conv"] == [*CONVS]
    assert choices["frame_selection"] == [*network.FRAME_SELECTIONS]
    assert choices["kind"] == [*FEATURE_KINDS]


@pytest.mark.parametrize("name", ["corpus_root", "lm_text_path", "lm_ready"])
def test_plan_counts_the_path_of_every_file_from_the_callers_folder_or_the_home(
    small_course, monkeypatch, name
):
    folder = small_course / "notebooks"
    write_notebook(folder, "03_some.ipynb", f'{PARAMETERS}{name}: str = ""  # a file\n')
    (small_course / "here").mkdir()
    monkeypatch.chdir(small_course)
    monkeypatch.setenv("HOME", str(small_course))

    def planned(**overrides):
        ((_, values),) = course.plan("quick", only=["03"], overrides=overrides)
        return values[name]

    (folder / "params" / "quick.yaml").write_text("")
    assert planned(**{name: "here"}) == planned(**{name: "~/here"}) == str(small_course / "here")
    (folder / "params" / "quick.yaml").write_text(f"{name}: ../here\n")
    assert planned() == str(small_course / "here"), "of a profile: from notebooks/"
    (folder / "params" / "quick.yaml").write_text(f"{name}: ~/here\n")
    assert planned() == str(small_course / "here")
    with pytest.raises(Error, match=f"'{name}' needs a") as error:
        planned(**{name: "nowhere"})
    assert error.value.path == str(small_course / "nowhere") and error.value.cure
    if name == "lm_ready":
        assert planned(**{name: "librispeech"}) == "librispeech"


def test_plan_without_notebooks_is_an_error_with_its_cure(small_course, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", small_course / "nowhere")
    with pytest.raises(FileNotFoundError, match="pip install -e"):
        course.plan("quick")


# Names that parameters once had.


RENAMED_PARAMETERS = """frame_shift_ms: float = 10.0  # between windows
frame_selection: str = "all"  # frames to learn from
skip_first_and_last: bool = False  # leave them in 32 bits
clip_norm: float = 5.0  # of the gradient
"""


def test_plan_takes_old_names_of_parameters_and_prints_the_new_ones_once(small_course, capsys):
    folder = small_course / "notebooks"
    write_notebook(folder, "04_student.ipynb", PARAMETERS + RENAMED_PARAMETERS)
    (folder / "params" / "digits.yaml").write_text("stride_ms: 20\nfloat_ends: true\nclip: 2\n")
    overrides = {"frames": "non_blank", "float_ends": "false"}
    for _ in range(2):
        ((_, values),) = course.plan("digits", only=["04"], overrides=overrides)
        assert values == {
            "profile": "digits",
            "frame_shift_ms": 20.0,
            "frame_selection": "non_blank",
            "skip_first_and_last": False,
            "clip_norm": 2.0,
        }
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "The parameter clip is called clip_norm now.",
        "The parameter float_ends is called skip_first_and_last now.",
        "The parameter frames is called frame_selection now.",
        "The parameter stride_ms is called frame_shift_ms now.",
    ]


def test_plan_refuses_a_parameter_under_both_of_its_names(small_course, monkeypatch):
    monkeypatch.setattr(notebooks, "RENAMED", {"passes": "epochs"})
    ((_, values),) = course.plan("quick", only=["02"], overrides={"passes": "5"})
    assert values["epochs"] == 5, "the caller's goes before the profile's, whatever its name"
    with pytest.raises(Error, match="'epochs' is given under its old name too; leave"):
        course.plan("quick", overrides={"passes": "5", "epochs": "5"})


def test_plan_leaves_a_parameter_alone_that_a_notebook_declares(small_course, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "RENAMED", {"epochs": "learning_rate"})
    ((_, values),) = course.plan("quick", only=["02"], overrides={"epochs": "5"})
    assert values["epochs"] == 5 and capsys.readouterr().out == ""


# Bad input: profiles and notebooks that were damaged.


def plan(workspace, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "NOTEBOOKS", workspace / "notebooks")
        course.plan("quick")


def plan_with(problem):
    """The same; the message has this pattern."""

    def use(workspace, path):
        try:
            plan(workspace, path)
        except Error as error:
            assert re.search(problem, str(error)), error
            raise

    return use


def profile(text):
    """A profile of these bytes, or of this text, in which HOME is the folder of the workspace."""

    def damage(workspace):
        data = text
        if isinstance(text, str):
            data = text.replace("HOME", str(workspace)).encode()
        return content("notebooks/params/quick.yaml", data)(workspace)

    return damage


def notebook(function):
    return change("notebooks/01_features.ipynb", function)


def nested_sequences():
    """Nine parameters, each nine times the one before: 9**9 numbers in a few lines."""
    lines = []
    for number in range(9):
        name = "speeds" if number == 8 else f"a{number}"
        item = f"*a{number - 1}" if number else "1"
        lines.append(f"{name}: &a{number} [{', '.join([item] * 9)}]\n")
    return "".join(lines)


def nested_value():
    """The same within one parameter."""
    items = ["&a [1, 1]"]
    for name, previous in zip("bcdefghi", "abcdefgh", strict=True):
        items.append(f"&{name} [{', '.join([f'*{previous}'] * 9)}]")
    return f"speeds: [{', '.join(items)}, 2]"


COMMAND = "epochs: !!python/object/apply:os.system ['touch HOME/pwned']"
OBJECT = "epochs: !!python/object/new:pathlib.Path.touch [HOME/pwned]"
LINES = "a line each"

BAD_PROFILES = [
    ("profile with a tab", profile("epochs:\t2\n\tspeeds: [1.0]"), plan, Error, LINES),
    ("profile is a list", profile("- epochs\n- 2"), plan, Error, LINES),
    ("profile is a list of pairs", profile("- [epochs, 2]"), plan, Error, LINES),
    ("profile is a text", profile("epochs"), plan, Error, LINES),
    ("profile not UTF-8", profile(b"epochs: \xff"), plan, Error, LINES),
    ("profile nested without end", profile(b"[" * 2000), plan, Error, LINES),
    ("profile with a parameter twice", profile("epochs: 1\nepochs: 2"),
     plan_with("stands twice"), Error, LINES),
    ("profile that would run a command", profile(COMMAND), plan, Error, LINES),
    ("profile that would make an object", profile(OBJECT), plan, Error, LINES),
    ("profile with a text for a number", profile("epochs: two"),
     plan_with("'epochs' expects int, not 'two'"), Error, "of this type"),
    ("profile with true for a number", profile("epochs: true"),
     plan_with("'epochs' expects int, not 'true'"), Error, "of this type"),
    ("profile with a rate that is no number", profile("rate: .nan"),
     plan_with("'rate' expects float, not '.nan'"), Error, "of this type"),
    ("profile with an infinite rate", profile("rate: .inf"),
     plan_with("'rate' expects float, not '.inf'"), Error, "of this type"),
    ("profile that nests billions", profile(nested_sequences()),
     plan_with("unknown parameter 'a0'"), Error, "There are: epochs"),
    ("profile with a value that nests billions", profile(nested_value()),
     plan_with("'speeds' expects list"), Error, "of this type"),
    ("profile with a misspelt parameter", profile("epoch: 2"),
     plan_with("unknown parameter 'epoch'"), Error, "did you mean 'epochs'"),
    ("profile with an unknown parameter", profile("colour: red"),
     plan_with("unknown parameter 'colour'"), Error, "There are: epochs"),
]  # fmt: skip


@rows(BAD_PROFILES)
def test_profile_that_is_damaged_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


CODE = replaced("epochs: int = 3 ", "import os; epochs = 3 ")
OTHER_TYPE = replaced("int = 3", "int = 3.5")
DECLARATION = "name: type = literal"

BAD_NOTEBOOKS = [
    ("notebook cut", notebook(lambda content: content[:-20]), plan, Error, "get it again"),
    ("notebook is a list", notebook(lambda content: b"[]"), plan, Error, "get it again"),
    ("notebook without cells", notebook(lambda content: b"{}"), plan, Error, "get it again"),
    ("notebook without parameters", notebook(replaced("parameters", "parameter")), plan, Error,
     "get it again"),
    ("notebook with code among parameters", notebook(CODE), plan, Error, DECLARATION),
    ("notebook with a parameter of another type", notebook(OTHER_TYPE), plan, Error, DECLARATION),
]  # fmt: skip


@rows(BAD_NOTEBOOKS)
def test_notebook_that_is_damaged_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_profile_and_notebook_that_are_whole_pass(workspace):
    plan(workspace, workspace / "notebooks")


# Runs.


@pytest.mark.parametrize("name", ["..", "../../elsewhere", "/tmp", "a/../../b"])
def test_run_refuses_reports_that_leave_their_folder(small_course, name):
    with pytest.raises(Error, match="would leave their folder") as error:
        course.run("quick", only=["01"], reports=name)
    assert error.value.cure and not (small_course / "data").exists()


def test_run_waits_for_another_that_makes_the_same(small_course, monkeypatch):
    """Each notebook locks its report, and what it makes under the names of its models."""
    held = []

    def execute(notebook, values, folder, variables):
        held.append(sorted(path.name for path in (small_course / "data").rglob(".*.lock")))
        return 1.0

    monkeypatch.setattr(report, "execute", execute)
    declared = PARAMETERS + 'teacher: str = "t"  # name\nstudent: str = "s"  # name\n'
    write_notebook(small_course / "notebooks", "04_student.ipynb", declared)
    course.run("digits", only=["01", "04"])
    course.run("digits", only=["04"], parameters={"student": "other"}, reports="apart")
    assert held == [
        [".01_features.ipynb.lock", ".01_features.lock"],
        [".04_student.ipynb.lock", ".s.04_student.lock"],
        [".04_student.ipynb.lock", ".other.04_student.lock"],
    ]
    assert not [*(small_course / "data").rglob(".*.lock")]


def test_require_returns_what_exists_and_names_the_maker_of_what_does_not(small_course):
    assert course.require(small_course / "notebooks", "00_overview") == small_course / "notebooks"
    path = course.profile_folder("digits") / "models" / "teacher"
    with pytest.raises(FileNotFoundError, match="ltt run digits --only 02_teacher") as missing:
        course.require(path, "02_teacher")
    assert missing.value.path == path and "ltt run" in missing.value.cure


def names_in(folder):
    """Names of the files in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_run_leaves_whole_reports_and_an_index(small_course, capsys):
    """A real kernel: this interpreter's, in the notebook's folder, with the data's folder."""
    look = "import json, os, sys; from lttlib import course"
    values = "[sys.executable, os.getcwd(), str(course.DATA), os.environ['LTT_BATCH'], profile]"
    cells = (look, f"print(json.dumps({values}))")
    write_notebook(small_course / "notebooks", "01_features.ipynb", PARAMETERS, *cells)
    before = dict(os.environ)
    index = course.run("digits", only=["01"])
    assert dict(os.environ) == before, "variables of kernels must not stay behind"
    assert index == small_course / "data" / "digits" / "reports" / "index.html"
    assert names_in(index.parent) == ["01_features.html", "01_features.ipynb", "index.html"]
    lines = capsys.readouterr().out.splitlines()
    folders = [str(small_course / "notebooks"), str(small_course / "data")]
    assert json.loads(lines[1]) == [sys.executable, *folders, "1", "digits"]
    assert lines[2].startswith("01_features ") and lines[2].endswith(" s")
    assert str(index) in lines[3]
    page = (index.parent / "01_features.html").read_text()
    assert 'href="02_teacher.html"' in page and "<img" not in page
    assert '<a href="01_features.html">01 Heading of 01_features.ipynb</a>' in index.read_text()
    executed = nbformat.read(index.parent / "01_features.ipynb", as_version=4)
    assert executed.metadata.papermill.parameters == {"profile": "digits"}


FIGURE = """import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(1, 1))
plt.show()"""


@pytest.mark.slow
@pytest.mark.parametrize("reports", ["", "mine"])
def test_run_of_notebook_09_ends_with_its_report(small_course, monkeypatch, capsys, reports):
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    write_notebook(small_course / "notebooks", "09_report.ipynb", PARAMETERS, FIGURE)
    folder = small_course / "data" / "digits" / "reports" / reports
    page = folder / "09_report.html"
    assert course.run("digits", only=["01", "09"], reports=reports) == page
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {page}"
    images = re.findall(r"<img[^>]*>", page.read_text())
    assert len(images) == 1 and 'src="data:image/png;base64,' in images[0]
    links = re.findall(r'href="(.*?)">(.*?)<', (folder / "index.html").read_text())
    assert links[0] == ("09_report.html", "All models side by side")
    assert [link for link, _ in links[1:]] == ["01_features.html", "09_report.html"]
    assert course.run("digits", only=["01"], reports=reports) == folder / "index.html"


def test_figure_path_of_runs_with_folders_of_their_own_is_theirs(small_course, monkeypatch):
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    assert course.figure_path("digits", "path") == small_course / "figures" / "digits-path.png"
    monkeypatch.setattr(notebooks, "DATA", small_course / "elsewhere")
    path = small_course / "elsewhere" / "figures" / "digits-path.png"
    assert course.figure_path("digits", "path") == path
    monkeypatch.setenv("LTT_REPORTS", str(small_course / "a" / "b"))
    assert course.figure_path("digits", "path") == small_course / "a" / "b" / "digits-path.png"
    assert (small_course / "a" / "b").is_dir() and (small_course / "figures").is_dir()


@pytest.mark.slow
def test_run_with_reports_of_its_own_leaves_those_of_others_and_the_figures(
    small_course, monkeypatch
):
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    reports = small_course / "data" / "digits" / "reports"
    reports.mkdir(parents=True)
    (reports / "01_features.html").write_text("another's")
    code = "from lttlib import course\n"
    code += "course.figure_path(profile, 'shown').write_text(str(course.DATA))"
    write_notebook(small_course / "notebooks", "01_features.ipynb", PARAMETERS, code)
    before = dict(os.environ)
    index = course.run("digits", only=["01"], reports="mine")
    assert dict(os.environ) == before and index == reports / "mine" / "index.html"
    names = ["01_features.html", "01_features.ipynb", "digits-shown.png", "index.html"]
    assert names_in(index.parent) == names
    assert (index.parent / "digits-shown.png").read_text() == str(small_course / "data")
    assert names_in(reports) == ["01_features.html", "mine"]
    assert (reports / "01_features.html").read_text() == "another's"
    assert not (small_course / "figures").exists()


@pytest.mark.slow
def test_run_of_a_failing_notebook_keeps_what_it_did_and_the_report_before_it(small_course):
    folder, reports = small_course / "notebooks", small_course / "data" / "quick" / "reports"
    course.run("quick", only=["01"])
    content = (reports / "01_features.ipynb").read_bytes()
    cells = ("print('so far')", "x = 1\nassert x == 2, 'not two'")
    write_notebook(folder, "01_features.ipynb", PARAMETERS, *cells)
    with pytest.raises(report.NotebookError) as error:
        course.run("quick")
    message = str(error.value)
    parts = ("01_features", "assert x == 2", "AssertionError: not two")
    assert all(part in message for part in parts)
    assert len(message.splitlines()) == 3
    # Nothing is half-written, and 02 did not run.
    names = ["01_features.failed.ipynb", "01_features.html", "01_features.ipynb", "index.html"]
    assert names_in(reports) == names
    assert (reports / "01_features.ipynb").read_bytes() == content
    assert "so far" in (reports / "01_features.failed.ipynb").read_text()
    assert "failed" in (reports / "index.html").read_text()
