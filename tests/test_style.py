"""House rules: what a reader may rely on in every notebook and every module."""

import argparse
import ast
import json
import math
import re
import shlex
import statistics
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from lttlib import cli, course

HOME = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((HOME / "notebooks" / "solutions").glob("*.ipynb"))
PROFILES = sorted((HOME / "notebooks" / "params").glob("*.yaml"))
MODULES = sorted((HOME / "lttlib").rglob("*.py"))
# From the roof down: a wing imports only those after it. files, and the error class of the package, are everybody's.
WINGS = "cli course models device recognition training features speech network files".split()
WITHOUT_TENSORFLOW = "device recognition speech".split()
SECTIONS = [
    "What you will learn",
    "What can go wrong",
    "What we learned",
    "Exercises",
    "References",
]


def each(paths):
    """Parametrise over files, by name; that there are some is a test of its own."""
    return pytest.mark.parametrize(
        "path", paths, ids=lambda path: "-".join(path.relative_to(HOME).with_suffix("").parts[1:])
    )


def cells(path, kind):
    """Return the sources of a notebook's cells of one kind ("code" or "markdown")."""
    return [
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind
    ]


def test_there_are_notebooks_numbered_without_a_gap_and_profiles_and_modules():
    assert NOTEBOOKS, "no notebooks: every test of them would pass without one"
    assert [path.stem[:3] for path in NOTEBOOKS] == [
        f"{number:02}_" for number in range(len(NOTEBOOKS))
    ]
    assert PROFILES and "quick" in [path.stem for path in PROFILES]
    assert len(MODULES) > 10


@each(NOTEBOOKS + SOLUTIONS)
def test_a_notebook_is_valid_stripped_and_runs_on_any_python3(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell.get("id") for cell in stored["cells"]]
    assert None not in ids and len(set(ids)) == len(ids), (
        "a cell without id gives a diff whenever it is saved"
    )
    nbformat.validate(stored)  # only now: it gives an id to a cell without one
    for cell in stored["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, "strip the outputs"
    source = "\n".join(cells(path, "code"))
    assert "sys.path" not in source and not re.search(
        r"^\s*[!%]\s*(pip|conda)\b", source, re.MULTILINE
    )


@each(NOTEBOOKS)
def test_a_notebook_has_one_title_in_its_first_cell(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and re.match(
        r"# \w", first.source
    )  # "# # 02" shows the second #
    titles = [
        line for text in cells(path, "markdown") for line in headings(text) if line.startswith("# ")
    ]
    assert len(titles) == 1


def headings(text):
    """Return the headings of a Markdown text; a # within a code block is none."""
    return re.findall(
        r"^#{1,6} .+$",
        re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL),
        re.MULTILINE,
    )


@each(NOTEBOOKS)
def test_a_notebook_has_its_sections_in_order_and_links_to_its_neighbours(path):
    found = "\n".join(line for text in cells(path, "markdown") for line in headings(text))
    wanted = [
        section for section in SECTIONS if section != "Exercises" or NOTEBOOKS.index(path) > 0
    ]
    missing = [section for section in wanted if section.lower() not in found.lower()]
    assert not missing
    assert sorted(wanted, key=lambda section: found.lower().index(section.lower())) == wanted
    here, text = NOTEBOOKS.index(path), "\n".join(cells(path, "markdown"))
    for neighbour in NOTEBOOKS[max(here - 1, 0) : here] + NOTEBOOKS[here + 1 : here + 2]:
        assert f"({neighbour.name})" in text, f"no link to {neighbour.name}"


@each(NOTEBOOKS)
def test_links_to_files_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", "\n".join(cells(path, "markdown"))):
        if not re.match(r"\w+:", target) and not target.startswith("attachment"):
            assert (path.parent / target).exists(), target


@each(NOTEBOOKS)
def test_a_notebook_shows_small_code_and_asserts_what_it_claims(path):
    sources = cells(path, "code")
    lengths = sorted(sum(bool(line.strip()) for line in source.splitlines()) for source in sources)
    assert statistics.median(lengths) <= 6
    assert lengths[math.ceil(0.9 * len(lengths)) - 1] <= 15
    assert lengths[-1] <= 25
    if NOTEBOOKS.index(path) > 0:
        assert re.search(r"^\s*assert |\.assert_", "\n".join(sources), re.MULTILINE)


@each(NOTEBOOKS)
def test_a_notebook_declares_its_parameters(path):
    assert course.parameters(path)["profile"][:2] == ("str", "quick")


def test_a_parameter_means_the_same_in_all_notebooks():
    declared = [
        (name, entry[:2]) for path in NOTEBOOKS for name, entry in course.parameters(path).items()
    ]
    meanings = {
        name: {repr(entry) for other, entry in declared if other == name} for name, _ in declared
    }
    assert not {name: kinds for name, kinds in meanings.items() if len(kinds) > 1}


@each(PROFILES)
def test_every_key_of_a_profile_is_a_parameter_of_its_type(path):
    assert course.plan(path.stem)


@each(MODULES)
def test_a_public_name_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    named = [
        node for body in bodies for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert not [
        node.name for node in named if not node.name.startswith("_") and not ast.get_docstring(node)
    ]


def test_the_core_can_be_read_in_an_afternoon():
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in MODULES
        if wing_of(path) == "network"
    )
    assert lines <= 900


def imported(path):
    """Modules, or names in them, that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "name the wing"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wing_of(path):
    return path.relative_to(HOME / "lttlib").with_suffix("").parts[0]


@each([path for path in MODULES if path.parent.name != "lttlib" or path.stem != "__init__"])
def test_a_wing_knows_only_the_wings_under_it(path):
    wing, known = wing_of(path), set()
    for name in imported(path):
        if name.startswith("lttlib.") and name not in ("lttlib.Error", "lttlib.ceil_div"):
            known.add(name.split(".")[1])
    below = WINGS[WINGS.index(wing) :]
    assert known <= set(below)
    if wing == "network":
        assert known <= {"network"}, "the core knows nothing else of the library"
    if path.stem == "plots":
        assert not known, "figures know numbers alone"


@each([path for path in MODULES if wing_of(path) in WITHOUT_TENSORFLOW])
def test_a_wing_of_the_device_does_without_tensorflow(path):
    assert not {"tensorflow", "keras"} & {name.split(".")[0] for name in imported(path)}


def test_a_wing_is_a_folder_of_at_most_seven_files():
    for wing in WINGS:
        files = [path for path in MODULES if wing_of(path) == wing and path.stem != "__init__"]
        assert 1 <= len(files) <= 7, wing


def test_conda_and_pip_install_the_same():
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = yaml.safe_load((HOME / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    python = tuple(
        map(int, next(item for item in conda if "python=" in item).partition("=")[2].split("."))
    )
    least, below = (
        tuple(map(int, bound.split(".")))
        for bound in re.findall(r"[\d.]+", project["requires-python"])
    )
    assert least <= python < below
    (pip,) = next(item["pip"] for item in conda if isinstance(item, dict))
    extras = re.search(r"\.\[(.+)\]", pip)[1]
    assert set(extras.split(",")) == set(project["optional-dependencies"])
    make = (HOME / "Makefile").read_text(encoding="utf-8")
    assert f".[{extras}]" in make
    assert f"{least} <= sys.version_info < {below}" in make


def test_readme_mentions_only_commands_that_exist():
    text = (HOME / "README.md").read_text(encoding="utf-8")
    spans = [
        line
        for block in re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.split("\n")
    ]
    spans += re.findall(r"`([^`\n]+)`", text)
    targets = re.findall(
        r"^([a-z-]+):", (HOME / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    for span in spans:
        program, *words = shlex.split(span.removeprefix("$ "), comments=True) or [""]
        if program == "make":
            assert set(word for word in words if "=" not in word) <= set(targets), span
        elif program.rpartition("/")[2] == "ltt" and words:
            understands(cli.parser(), words, span)


def understands(parser, words, span):
    """Check the subcommand and the options of a command line that may stand for several (`ltt run [PROFILE]`)."""
    commands = next(
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert words[0] in commands or words[0].startswith("-"), span
    options = (
        commands[words[0]]._option_string_actions
        if words[0] in commands
        else parser._option_string_actions
    )
    assert {word.strip("[]") for word in words if word.strip("[]").startswith("-")} <= set(
        options
    ), span


def test_no_file_names_a_folder_of_the_machine_that_it_was_written_on():
    kinds = ("*.py", "*.ipynb", "*.md", "*.yaml", "*.yml", "*.toml", "*.cff", "Makefile", ".ci/run")
    folders = (
        "",
        "lttlib/",
        "tests/",
        "notebooks/",
        "notebooks/params/",
        "notebooks/solutions/",
        "data/",
    )
    files = {
        path
        for folder in folders
        for kind in kinds
        for path in HOME.glob(folder + kind)
        if path.is_file()
    }
    assert HOME / "Makefile" in files and HOME / ".ci" / "run" in files
    machine = re.compile(r"(?<![\w.])/(home|root|Users|work|opt|tmp|mnt|scratch)/")
    found = {str(path): machine.findall(path.read_text(encoding="utf-8")) for path in files}
    assert not {path: folders for path, folders in found.items() if folders}
