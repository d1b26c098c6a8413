"""House rules: what a reader may rely on in every notebook and every module."""

import argparse
import ast
import json
import math
import re
import shlex
import statistics
import tomllib
from contextlib import suppress
from pathlib import Path

import density
import nbformat
import pytest
import yaml

from lttlib import cli, course

CHECKOUT = Path(__file__).resolve().parent.parent
LIBRARY = CHECKOUT / "lttlib"
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((CHECKOUT / "notebooks" / "solutions").glob("*.ipynb"))
PROFILES = sorted((CHECKOUT / "notebooks" / "params").glob("*.yaml"))
MODULES = sorted(LIBRARY.rglob("*.py"))
# From the roof down: a wing imports only those after it, and from the package its foundation.
WINGS = "cli course models device recognition training features speech network files".split()
FOUNDATION = {"lttlib.Error", "lttlib.ceil_div", "lttlib.import_lazily"}
WITHOUT_TENSORFLOW = {"device", "recognition", "speech"}
SECTIONS = [
    "Why it matters",
    "What you will learn",
    "Parameters",
    "The idea",
    "By hand",
    "The experiment",
    "What can go wrong",
    "What we learned",
    "Check yourself",
    "Exercises",
    "Further reading",
]
# They name no thing.
NO_NOUNS = set(
    "everything facts found given heard home kept made one said some spoken told whole".split()
)
# Mean characters and names of a code line, longest function: as in whisper and jiwer, and for the
# core, whose lines are formulas, almost as many names as in nanoGPT.
DENSITY = {"network": (46, 3.25, 40)}
DEFAULT_DENSITY = (46, 2.8, 40)


def each(paths):
    """Parametrise over files, by name; that there are some is a test of its own."""
    return pytest.mark.parametrize("path", paths, ids=short_name)


def short_name(path):
    return "-".join(path.relative_to(CHECKOUT).with_suffix("").parts[1:])


def cells(path, kind):
    """Sources of a notebook's cells of one kind ("code" or "markdown")."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def headings(path):
    """Headings of a notebook's Markdown; a # within a code block is none."""
    text = "\n".join(cells(path, "markdown"))
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#{1,6} .+$", text, re.MULTILINE)


def test_notebooks_are_numbered_without_a_gap_and_there_are_profiles_and_modules():
    assert NOTEBOOKS, "no notebooks: every test of them would pass without one"
    numbers = [path.stem[:3] for path in NOTEBOOKS]
    assert numbers == [f"{number:02}_" for number in range(len(NOTEBOOKS))]
    assert "quick" in [path.stem for path in PROFILES]
    assert len(MODULES) > 40


@each(NOTEBOOKS + SOLUTIONS)
def test_notebook_is_valid_stripped_and_runs_on_any_python3(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell.get("id") for cell in stored["cells"]]
    assert None not in ids, "a cell without id gives a diff whenever it is saved"
    assert len(set(ids)) == len(ids)
    nbformat.validate(stored)  # only now: it gives an id to a cell without one
    for cell in stored["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, "strip the outputs"
    source = "\n".join(cells(path, "code"))
    assert "sys.path" not in source
    assert not re.search(r"^\s*[!%]\s*(pip|conda)\b", source, re.MULTILINE)


@each(NOTEBOOKS)
def test_notebook_has_one_title_in_its_first_cell(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \w", first.source)  # "# # 02" shows the second #
    assert len([heading for heading in headings(path) if heading.startswith("# ")]) == 1


@each(NOTEBOOKS)
def test_notebook_has_its_sections_in_order_and_links_to_its_neighbours(path):
    number = NOTEBOOKS.index(path)
    outline = "\n".join(headings(path)).lower()
    wanted = [section.lower() for section in SECTIONS]
    if number == 0:
        wanted.remove("exercises")
    assert not [section for section in wanted if section not in outline]
    assert sorted(wanted, key=outline.index) == wanted
    text = "\n".join(cells(path, "markdown"))
    neighbours = NOTEBOOKS[max(number - 1, 0) : number] + NOTEBOOKS[number + 1 : number + 2]
    for neighbour in neighbours:
        assert f"({neighbour.name})" in text, f"no link to {neighbour.name}"


@each(NOTEBOOKS)
def test_notebook_takes_about_as_long_as_it_says(path):
    """At most half as long again as its table says: machines differ."""
    numbers = ["half a", "a", *"two three four five six seven eight nine ten eleven twelve".split()]
    minutes = dict(zip(numbers, [0.5, *range(1, 13)], strict=True))
    (row,) = re.findall(r"^\| reads .*\n\| --- .*\n(.*)$", cells(path, "markdown")[2], re.MULTILINE)
    stated = re.findall(rf"\b({'|'.join(numbers)}) minutes?\b", row)
    measured = float(course.measured("minutes-quick").value(path.stem[:2], "minutes"))
    assert measured <= 1.5 * minutes[stated[-1]]


@each(NOTEBOOKS)
def test_links_to_files_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", "\n".join(cells(path, "markdown"))):
        if not re.match(r"\w+:", target) and not target.startswith("attachment"):
            assert (path.parent / target).exists(), target


@each(NOTEBOOKS)
def test_notebook_shows_small_code_and_asserts_what_it_claims(path):
    """But for the parameters, which are a table more than code."""
    sources = [source for source in cells(path, "code") if not source.startswith("profile: ")]
    lengths = sorted(sum(bool(line.strip()) for line in source.splitlines()) for source in sources)
    assert statistics.median(lengths) <= 6
    assert lengths[math.ceil(0.9 * len(lengths)) - 1] <= 15
    assert lengths[-1] <= 25
    if NOTEBOOKS.index(path) > 0:
        assert re.search(r"^\s*assert |\.assert_", "\n".join(sources), re.MULTILINE)


@each(NOTEBOOKS + SOLUTIONS)
def test_notebook_code_fits_a_narrow_window(path):
    lines = "\n".join(cells(path, "code")).splitlines()
    assert not [line for line in lines if len(line) > 90]


@each(NOTEBOOKS)
def test_notebook_declares_its_parameters(path):
    assert course.parameters(path)["profile"][:2] == ("str", "quick")


def test_parameter_means_the_same_in_all_notebooks():
    meanings = {}
    for path in NOTEBOOKS:
        for name, (kind, default, _) in course.parameters(path).items():
            meanings.setdefault(name, set()).add(repr((kind, default)))
    assert not {name: kinds for name, kinds in meanings.items() if len(kinds) > 1}


@each(PROFILES)
def test_profile_keys_are_parameters_of_their_type(path):
    assert course.plan(path.stem)


@pytest.mark.parametrize("wing", ["(front)", *WINGS[1:-1]])
def test_code_of_a_wing_is_no_denser_than_its_reader_can_hold(wing):
    measured = density.measure(density.wings(LIBRARY)[wing])
    mean, names, longest = DENSITY.get(wing, DEFAULT_DENSITY)
    assert measured["wide"] == 0
    assert measured["mean"] <= mean
    assert measured["names"] <= names
    assert not [row for row in measured["functions"] if row[0] > longest]
    assert not [row for row in measured["silent"] if row[0] > 8], "say what each step is for"


@each(MODULES)
def test_line_holds_one_thought(path):
    assert not list(density.shapes(path))


def test_density_is_counted_as_by_hand(tmp_path):
    lines = ['"""Text."""', "", "# why", "x = a.b  # c", "", ""]
    lines += ["def f():", '    """More."""', "    # step", "    return 1"]
    path = tmp_path / "module.py"
    path.write_text("\n".join(lines) + "\n")
    measured = density.measure([path])
    assert (measured["lines"], measured["code"]) == (10, 3)
    assert measured["mean"] == (len(lines[3]) + len(lines[6]) + len(lines[9])) / 3
    assert measured["names"] == 3 / 3  # x, a and a.b
    assert measured["comments"] == 100 * 2 / 3
    assert measured["functions"] == [(2, "f", 7, path)]


def test_shape_of_more_than_one_thought_is_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("f(a, b, c, d, e)\nx = [[b for b in a] for a in c]\nx, y = [], []\n")
    assert sorted(line for line, _ in density.shapes(path)) == [1, 2, 3]
    path.write_text("f(a, b, c, d, e=e)\nx = [b for a in c for b in a]\nx, y = 0, z[0]\n")
    assert not list(density.shapes(path))


def test_step_without_a_comment_is_seen(tmp_path):
    steps = [f"    x{number} = {number}" for number in range(21)]
    steps[10:10] = ["    # half of them"]
    path = tmp_path / "module.py"
    path.write_text("\n".join(["def f():", *steps]))
    ((run, name, _, _),) = density.measure([path])["silent"]
    assert (run, name) == (11, "f")


def test_network_can_be_read_in_an_afternoon():
    assert density.measure(density.wings(LIBRARY)["network"])["lines"] <= 980


def bound_names(path):
    """Yield (line, name) of all that a module or a notebook gives a name to."""
    if path.suffix == ".ipynb":
        sources = [
            re.sub(r"^[%!].*$", "", cell, flags=re.MULTILINE) for cell in cells(path, "code")
        ]
    else:
        sources = [path.read_text(encoding="utf-8")]
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.lineno, getattr(node, "id", None) or node.attr
            elif isinstance(node, ast.arg):
                yield node.lineno, node.arg
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.lineno, node.name


@each(MODULES + NOTEBOOKS + SOLUTIONS + sorted((CHECKOUT / "tests").rglob("*.py")))
def test_name_is_a_noun_of_the_thing(path):
    assert not [(line, name) for line, name in bound_names(path) if name in NO_NOUNS]


def imported(path):
    """Modules, or names in them, that a module imports anywhere, in programs it starts as well."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    for node in list(nodes):
        if isinstance(node, ast.Constant) and re.search(r"^(from|import) ", str(node.value), re.M):
            with suppress(SyntaxError):  # a text, no program
                nodes += ast.walk(ast.parse(node.value))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "name the wing"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wing_of(path):
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


@each([path for path in MODULES if path != LIBRARY / "__init__.py"])
def test_wing_knows_only_the_wings_under_it(path):
    wing = wing_of(path)
    names = {name for name in imported(path) if name.startswith("lttlib.")} - FOUNDATION
    known = {name.split(".")[1] for name in names}
    assert known <= set(WINGS[WINGS.index(wing) :])
    if wing == "network":
        assert known <= {"network"}, "the core knows nothing else of the library"
    if path.stem == "plots":
        assert not known, "figures know numbers alone"


@each([path for path in MODULES if wing_of(path) in WITHOUT_TENSORFLOW])
def test_wing_of_a_device_does_without_tensorflow(path):
    assert not {"tensorflow", "keras"} & {name.split(".")[0] for name in imported(path)}


@each(MODULES)
def test_no_library_makes_temporary_files_of_its_own(path):
    """A killed `save_file` of safetensors leaves one beside its file, which nobody finds again."""
    assert "save_file(" not in path.read_text("utf-8")


def test_wing_is_a_folder_of_at_most_seven_files():
    for wing in WINGS:
        files = [path for path in MODULES if wing_of(path) == wing and path.stem != "__init__"]
        assert 1 <= len(files) <= 7, wing


def version(text):
    return tuple(map(int, text.split(".")))


def test_conda_and_pip_install_the_same():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = yaml.safe_load((CHECKOUT / "environment.yml").read_text(encoding="utf-8"))
    (python,) = [item for item in conda["dependencies"] if str(item).startswith("python=")]
    least, below = map(version, re.findall(r"[\d.]+", project["requires-python"]))
    assert least <= version(python.removeprefix("python=")) < below
    ((pip,),) = [item["pip"] for item in conda["dependencies"] if isinstance(item, dict)]
    extras = re.search(r"\.\[(.+)\]", pip)[1]
    optional = project["optional-dependencies"]
    assert set(extras.split(",")) == set(optional) - {"course-cpu", "notebooks"}
    make = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert f".[{extras.replace('course', '$(COURSE)')}]" in make
    assert optional["course-cpu"] == [
        requirement.replace("tensorflow", "tensorflow-cpu") for requirement in optional["course"]
    ]
    assert f"{least} <= sys.version_info < {below}" in make


PAGES = ["README.md", "CONTRIBUTING.md", "RESULTS.md", "notebooks/running.md", "data/README.md"]
PAGES += ["notebooks/shipped/README.md", "notebooks/glossary.md", "notebooks/notation.md"]


@pytest.mark.parametrize("page", PAGES)
def test_page_mentions_only_commands_that_exist(page):
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", text)
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        spans += block.split("\n")
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for span in spans:
        program, *words = shlex.split(span.removeprefix("$ "), comments=True) or [""]
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, span
        elif program.rpartition("/")[2] == "ltt" and words:
            assert_understood(cli.parser(), words, span)


def assert_understood(parser, words, span):
    """Subcommand and options exist; the line may stand for several (`ltt run [PROFILE]`)."""
    (commands,) = [
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    assert words[0] in commands or words[0].startswith("-"), span
    known = commands.get(words[0], parser)._option_string_actions
    options = {word.strip("[]") for word in words if word.strip("[]").startswith("-")}
    assert options <= set(known), span


@pytest.mark.parametrize("page", PAGES)
def test_page_names_only_files_that_exist(page):
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    folder = (CHECKOUT / page).parent
    roots = [CHECKOUT, LIBRARY]
    for name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|md))`", text):
        assert any((root / name).exists() for root in roots), name
    for target in re.findall(r"\]\(([^)#\s:]+)\)", text):
        assert (folder / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_pictures_of_a_page_say_what_one_sees(page):
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    for alt, target in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", text):
        assert len(alt.split()) >= 8, target


def test_readme_is_read_in_minutes_and_begins_with_a_picture():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->", "", text)
    assert text.index("![") < text.index("\n## ")
    seen = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)  # not where a link leads
    words = [word for word in re.split(r"[\s|]+", seen) if re.search(r"\w", word)]
    assert len(words) <= 1200


def test_readme_lists_each_notebook_and_names_profiles_that_exist():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in text
    named = set(re.findall(r"^ltt run ([a-z][\w-]*)", text, re.MULTILINE))
    assert named and named <= {path.stem for path in PROFILES}


def test_each_figure_of_a_run_is_shown_somewhere():
    """Pictures of ideas are asked for by tests/course/test_pictures.py."""
    texts = [path.read_text(encoding="utf-8") for path in [*NOTEBOOKS, *SOLUTIONS]]
    texts += [(CHECKOUT / page).read_text(encoding="utf-8") for page in PAGES]
    shown = "\n".join(texts)
    ignored = re.compile(r"quick-(?!sweep|two-texts)")  # of a run in this checkout
    figures = [path.name for path in (CHECKOUT / "figures").glob("*.png")]
    permanent = [name for name in figures if not ignored.match(name)]
    assert not [name for name in permanent if f"figures/{name}" not in shown]


def test_no_file_names_a_folder_of_the_machine_that_it_was_written_on():
    kinds = {".py", ".ipynb", ".md", ".yaml", ".yml", ".toml", ".cff", ".js"}
    paths = [CHECKOUT / "Makefile", CHECKOUT / ".ci" / "run", CHECKOUT / "data" / "README.md"]
    paths += [path for path in CHECKOUT.glob("*") if path.suffix in kinds]
    for folder in ("lttlib", "tests", "notebooks"):
        paths += [path for path in (CHECKOUT / folder).rglob("*") if path.suffix in kinds]
    machine = re.compile(r"(?<![\w.])/(home|root|Users|work|opt|tmp|mnt|scratch)/")
    named = {path: machine.findall(path.read_text(encoding="utf-8")) for path in paths}
    assert not {path: folders for path, folders in named.items() if folders}
