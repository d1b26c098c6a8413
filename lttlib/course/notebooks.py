"""Run the course: its notebooks in order, with parameters that are checked before anything runs.

A notebook declares its parameters in the cell tagged ``parameters``, as ``name: type = value  # help``. A profile
(``notebooks/params/<name>.yaml``) and the command line give some of them other values. papermill would inject a
misspelt name and carry on; here it is refused. Relative paths in notebooks and profiles count from notebooks/.
"""

import ast
import difflib
import json
import math
import os
import reprlib
from pathlib import Path

import yaml

from lttlib.course import report

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
DATA = Path(os.environ.get("LTT_DATA") or NOTEBOOKS.parent / "data").expanduser().resolve()
SHORT_REPR = reprlib.Repr()  # a few lines of YAML can stand for a list of billions


SHORT_REPR.maxlevel, SHORT_REPR.maxlist, SHORT_REPR.maxstring = 2, 20, 200


PARSERS = {
    "int": int,
    "float": float,
    "str": str,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
}


def profile_folder(profile):
    """Path of what the runs of `profile` make: records, guidance, models, reports. It may not exist yet."""
    return DATA / profile


def reports_path(profile):
    """Folder of the reports of this run: ``data/<profile>/reports``, or that of a run with reports of its own."""
    return Path(os.environ.get("LTT_REPORTS") or profile_folder(profile) / "reports")


def figure_path(profile, name):
    """Path for a figure that a page outside the notebooks shows: ``figures/<profile>-<name>.png``.

    Runs with data of their own, and those with reports of their own (such as of a sweep), have figures of their own.
    """
    home = NOTEBOOKS.parent if DATA == NOTEBOOKS.parent / "data" else DATA
    place = reports_path(profile) if "LTT_REPORTS" in os.environ else home / "figures"
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{profile}-{name}.png"


def require(path, made_by):
    """Return `path` as a Path if it exists.

    Raises
    ------
    FileNotFoundError
        It does not; the message names the notebook that makes it, `made_by` (such as "02_teacher").
    """
    path = Path(path)
    if not path.exists():
        profile = path.relative_to(DATA).parts[0] if path.is_relative_to(DATA) else "PROFILE"
        raise FileNotFoundError(
            f"{path} is not there: run {made_by} first (ltt run {profile} --only {made_by})"
        )
    return path


def parameters(notebook):
    """Read what a notebook declares in its cell tagged ``parameters``.

    Returns
    -------
    dict
        Name to (type, default, help); the type is "int", "float", "str", "bool" or "list[...]" of one of these.

    Raises
    ------
    ValueError
        No such cell, two, or one that holds anything but lines of ``name: type = literal  # help``.
    """
    notebook = Path(notebook)
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [
            "".join(cell["source"])
            for cell in cells
            if "parameters" in cell["metadata"].get("tags", [])
        ]
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{notebook.name} is no whole notebook ({error!r}): get it again (git restore)"
        ) from error
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook.name} has {len(tagged)} cells tagged `parameters`, not one: get it again"
        )
    declared = {}
    for line in filter(str.strip, tagged[0].splitlines()):
        try:
            code, note = line.split("  # ", 1)
            (node,) = ast.parse(code).body
            name, kind, default = (
                node.target.id,
                ast.unparse(node.annotation),
                ast.literal_eval(node.value),
            )
            if name in declared or _convert(name, kind, default) != default:
                raise ValueError
            declared[name] = kind, default, note.strip()
        except (AttributeError, SyntaxError, TypeError, ValueError) as error:
            raise ValueError(
                f"{notebook.name}, parameters: not `name: type = literal  # help`: {line}"
            ) from error
    return declared


def profile(name):
    """Read the parameters that ``notebooks/params/<name>.yaml`` gives, as a dictionary, not checked yet.

    Raises
    ------
    ValueError
        No such profile, or a file that is not a YAML mapping, or gives a parameter twice.
    """
    files = {path.stem: path for path in sorted(NOTEBOOKS.glob("params/*.yaml"))}
    if name not in files:
        raise ValueError(_unknown("profile", name, files))
    try:
        text = files[name].read_text(encoding="utf-8")
        given = yaml.safe_load(text) or {}
        if not isinstance(given, dict):
            raise TypeError(f"it holds a {type(given).__name__}")
        if len(yaml.compose(text).value if given else ()) > len(given):
            raise ValueError("a name stands twice")
        return given
    except (RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{files[name]} does not map names to values, a line each: {error}"
        ) from error


def plan(name, only=(), start=None, overrides=None):
    """List what `run` would run as (notebook's Path, its values); the arguments and errors are those of `run`."""
    if not (
        notebooks := {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    ):
        raise FileNotFoundError(
            f"no notebooks in {NOTEBOOKS}: install in a clone, with pip install -e '.[course]'"
        )
    declared = {stem: parameters(path) for stem, path in notebooks.items()}
    every = sorted(set().union(*declared.values()))
    overrides = dict(overrides or {})
    for key, value in overrides.items():
        if key.endswith(("_root", "_path")) and value:
            overrides[key] = os.path.abspath(os.path.expanduser(value))
            if key.endswith("_root") and not os.path.isdir(overrides[key]):
                raise ValueError(f"parameter {key!r}: {overrides[key]} is no folder")
    given = {**profile(name), **overrides}
    if unknown := [key for key in given if key not in every]:
        raise ValueError(_unknown("parameter", str(unknown[0]), every))
    if given.setdefault("profile", name) != name:
        raise ValueError(
            f"the parameter `profile` is {SHORT_REPR.repr(given['profile'])} in a run of {name!r}: leave it out"
        )
    wanted = {_find(word, notebooks) for word in only} or set(notebooks)
    first = _find(start, notebooks) if start else ""
    if not (stems := [stem for stem in notebooks if stem in wanted and stem >= first]):
        raise ValueError(f"nothing to run: {', '.join(only)} come before {start}")
    if idle := [key for key in overrides if not any(key in declared[stem] for stem in stems)]:
        raise ValueError(
            f"parameter {idle[0]!r} would change nothing: no notebook of this run declares it"
        )
    return [
        (
            notebooks[stem],
            {
                key: _convert(key, kind, given[key])
                for key, (kind, *_) in kinds.items()
                if key in given
            },
        )
        for stem, kinds in declared.items()
        if stem in stems
    ]


def run(profile="quick", only=(), start=None, parameters=None, reports=""):
    """Run notebooks in their order, showing what they print, and return the Path of the page to read.

    That is the report of notebook 09 if this run made it, else the index of all notebooks' reports.

    Parameters
    ----------
    profile : str
        Name of a file in notebooks/params, without ``.yaml``.
    only, start : sequence of str, str or None
        Notebooks to run (all when empty), and the first to run, by number ("02") or name ("02_teacher").
    parameters : dict, optional
        Values that go before the profile's; a text is read as the declared type. A relative path (the name ends in
        ``_root`` or ``_path``) counts from the caller's folder.
    reports : str, optional
        A folder within ``data/<profile>/reports`` for the reports and figures of this run alone.

    Raises
    ------
    ValueError, FileNotFoundError
        Before anything runs: a notebook, profile or parameter that does not exist (the nearest that does is named), a
        value of the wrong type, or a parameter that no notebook of this run declares.
    lttlib.report.NotebookError
        A notebook failed; those after it have not run.
    """
    steps = plan(profile, only, start, parameters)
    place = profile_folder(profile) / "reports" / reports
    place.mkdir(parents=True, exist_ok=True)
    variables = {"LTT_DATA": str(DATA)} | ({"LTT_REPORTS": str(place)} if reports else {})
    try:
        for notebook, values in steps:
            print(f"{notebook.stem} ...", flush=True)
            print(
                f"{notebook.stem} {report.execute(notebook, values, place, variables):.0f} s",
                flush=True,
            )
    finally:
        page = report.write_index(place, profile)
    if steps[-1][0].stem == "09_report":
        page = place / "report.html"
    print(f"Report: {page}")
    return page


def _find(word, notebooks):
    for stem in notebooks:
        if word.removesuffix(".ipynb") == stem or word.zfill(2) == stem[:2]:
            return stem
    raise ValueError(_unknown("notebook", word, notebooks))


def _unknown(what, word, known):
    close = difflib.get_close_matches(word, known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return f"unknown {what} {word!r}{hint} There are: {', '.join(known) or 'none'}"


def _convert(name, kind, value):
    """Return `value` as the declared type; text is read, nothing is rounded or guessed."""
    element = kind.removeprefix("list[").removesuffix("]")
    try:
        if kind != element:
            items = ast.literal_eval(value) if isinstance(value, str) else value
            if not isinstance(items, list | tuple):
                raise TypeError
            return [_convert(name, element, item) for item in items]
        read = (
            PARSERS[kind](value)
            if isinstance(value, str) or (kind, type(value)) == ("float", int)
            else value
        )
        # Not isinstance: True is no int.
        if (
            kind in PARSERS
            and type(read).__name__ == kind
            and not (kind == "float" and not math.isfinite(read))
        ):
            return read
        raise TypeError
    except (KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"parameter {name!r} expects {kind}, not {SHORT_REPR.repr(value)}"
        ) from error
