"""Run the course: its notebooks in order, with parameters that are checked before anything runs.

A notebook declares its parameters in the cell tagged ``parameters``, as
``name: type = value  # help``. A profile (``notebooks/params/<name>.yaml``) and the command line
give some of them other values. papermill would inject a misspelt name and carry on; here it is
refused. Relative paths in notebooks and profiles count from notebooks/.
"""

import ast
import difflib
import functools
import json
import math
import os
import re
import reprlib
from pathlib import Path

import yaml

from lttlib import Error
from lttlib.course import report
from lttlib.files import lock

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
DATA = Path(os.environ.get("LTT_DATA") or NOTEBOOKS.parent / "data").expanduser().resolve()

# Parameters that once had another name, which profiles and command lines may still use.
RENAMED = {
    "stride_ms": "frame_shift_ms",
    "frames": "frame_selection",
    "float_ends": "skip_first_and_last",
    "clip": "clip_norm",
}

# What the values of a parameter may be: by its name, or by the last words of that. Where nothing
# is said, any value of its type will do.
RANGES = {
    "[1, inf)": "epochs batch_size filters widths strides hint_layer guided bucket_size order "
    "beam_width calibration chunk_ms sampling_rate n_mfcc n_mels sentences "
    "watched_steps",
    "[0, inf)": "cores listen_to masks mask_width lm_weights",
    "(0, inf)": "learning_rate clip_norm temperature speeds window_ms frame_shift_ms",
    "[0, 1]": "alpha warmup",
    "[0, 1)": "dropouts",
    "(0, 1]": "transcribed_share",
    "[1, 8]": "bits",
    "[0, 2147483647]": "seed",
}
CHOICES = {
    "kind": "raw power mfccs",
    "normalisation": "speech utterance",
    "conv": "conv gated_conv separable_conv",
    "guidance": "float32 float16 log8 top4 online",
    "frame_selection": "all non_blank symmetric",
    "precision": "auto float32 mixed_bfloat16",
}
# Names of folders within those of the course, and files anywhere.
FOLDERS = "corpus train_split score_splits teacher more_teachers student label_student".split()
FILES = ("_root", "_path", "lm_ready")
MAY_BE_EMPTY = ("more_teachers", "label_student")

SHORT_REPR = reprlib.Repr()  # a few lines of YAML can stand for a list of billions
SHORT_REPR.maxlevel = 2
SHORT_REPR.maxlist = 20
SHORT_REPR.maxstring = 200


class MissingError(Error, FileNotFoundError):
    """What another notebook, or the installation, makes is not there."""


def _parse_bool(text):
    """The truth value that a text names, as YAML 1.1 has it."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    return words[text.lower()]


PARSERS = {"int": int, "float": float, "str": str, "bool": _parse_bool}

# What a value of another type may raise; nested without end it is too much for Python's own parser.
WRONG_TYPE = (ArithmeticError, KeyError, SyntaxError, TypeError, ValueError)
UNREADABLE = (*WRONG_TYPE, MemoryError, RecursionError)


class _TextLoader(yaml.SafeLoader):
    """Leaves values as they are typed: YAML 1.1 reads 010 as 8, 12:30 as 750, and no as false."""


def _null_and_merge(rows):
    """The rows (tag, pattern) of values that are not read as text."""
    return [row for row in rows if row[0].endswith((":null", ":merge"))]


_TextLoader.yaml_implicit_resolvers = {
    first: _null_and_merge(rows) for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def profile_folder(profile):
    """Path of the records, guidance, models and reports of `profile`. It may not exist yet."""
    return DATA / profile


def reports_path(profile):
    """Folder of the reports of this run: that of the profile, or one of its own."""
    return Path(os.environ.get("LTT_REPORTS") or profile_folder(profile) / "reports")


def figure_path(profile, name):
    """Path for a figure that a page outside the notebooks shows: ``figures/<profile>-<name>.png``.

    Runs with data of their own, and those with reports of their own (such as of a sweep), have
    figures of their own.
    """
    repository = NOTEBOOKS.parent
    if "LTT_REPORTS" in os.environ:
        folder = reports_path(profile)
    elif DATA == repository / "data":
        folder = repository / "figures"
    else:
        folder = DATA / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{profile}-{name}.png"


def require(path, made_by):
    """Return `path` as a Path if it exists.

    Raises
    ------
    MissingError
        It does not; the cure names `made_by`, the notebook that writes it ("02_teacher", say).
    """
    path = Path(path)
    if path.exists():
        return path
    profile = path.relative_to(DATA).parts[0] if path.is_relative_to(DATA) else "PROFILE"
    cure = f"run {made_by} first (ltt run {profile} --only {made_by})"
    raise MissingError("not there", path, cure)


def parameters(notebook):
    """Read what a notebook declares in its cell tagged ``parameters``.

    Returns
    -------
    dict
        Name to (type, default, help); the type is "int", "float", "str", "bool" or "list[...]" of
        one of these.

    Raises
    ------
    lttlib.Error
        No such cell, two, or one that holds anything but lines of ``name: type = literal  # help``.
    """
    notebook = Path(notebook)
    declared = {}
    for line in _parameters_cell(notebook).splitlines():
        if not line.strip():
            continue
        try:
            name, kind, default, help_text = _parse_declaration(line)
            if name in declared or _convert(name, kind, default) != default:
                raise ValueError
        except (AttributeError, SyntaxError, TypeError, ValueError) as error:
            problem = f"this declares no parameter: {line}"
            cure = "write `name: type = literal  # help`, each name once"
            raise Error(problem, notebook, cure) from error
        declared[name] = kind, default, help_text
    return declared


def _parameters_cell(notebook):
    """Source of the one cell of a notebook that is tagged ``parameters``."""
    cure = "get it again (git restore)"
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        sources = ["".join(cell["source"]) for cell in tagged]
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Error(f"no whole notebook ({error!r})", notebook, cure) from error
    if len(sources) != 1:
        raise Error(f"{len(sources)} cells tagged `parameters`, not one", notebook, cure)
    return sources[0]


def _parse_declaration(line):
    """Name, type, default and help of ``name: type = literal  # help``."""
    code, help_text = line.split("  # ", 1)
    (statement,) = ast.parse(code).body
    kind = ast.unparse(statement.annotation)
    default = ast.literal_eval(statement.value)
    return statement.target.id, kind, default, help_text.strip()


def profile(name):
    """Read ``notebooks/params/<name>.yaml``: a dictionary of parameters, not checked yet.

    Values are texts as they are typed, or lists of texts; `plan` has them as their types.

    Raises
    ------
    lttlib.Error
        No such profile, or a file that is not a YAML mapping, or gives a parameter twice.
    """
    files = {path.stem: path for path in sorted(NOTEBOOKS.glob("params/*.yaml"))}
    if name not in files:
        raise _unknown("profile", name, files)
    try:
        text = files[name].read_text(encoding="utf-8")
        values = _TextLoader(text).get_single_data() or {}
        if not isinstance(values, dict):
            raise Error(f"it holds a {type(values).__name__}")
        if values and len(yaml.compose(text).value) > len(values):
            raise Error("a name stands twice")
    except (RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        problem = f"it does not map names to values ({error})"
        raise Error(problem, files[name], "write `name: value`, a line each") from error
    return values


def plan(name, only=(), start=None, overrides=None):
    """List what `run` would run, as (Path of a notebook, its values); arguments as there."""
    notebooks = _notebooks()
    declared = {stem: parameters(path) for stem, path in notebooks.items()}
    known = sorted(set().union(*declared.values()))

    # What the caller gives goes before what the profile gives.
    path = NOTEBOOKS / "params" / f"{name}.yaml"
    overrides = _current_names(overrides or {}, known)
    values = _current_names(profile(name), known, path) | overrides
    sources = {key: None if key in overrides else path for key in values}
    _check_names(values, known, sources)
    _check_profile(name, values, sources)

    stems = _select(notebooks, only, start)
    _check_effect(overrides, [declared[stem] for stem in stems])
    values["profile"] = name
    return [(notebooks[stem], _convert_all(declared[stem], values, sources)) for stem in stems]


def run(profile="quick", only=(), start=None, parameters=None, reports="", jobs=1):
    """Run notebooks in their order, with what they print, and return the Path of the page to read.

    That is the report of notebook 09 if this run includes it, else the index of all reports.

    Parameters
    ----------
    profile : str
        Name of a file in notebooks/params, without ``.yaml``.
    only, start : sequence of str, str or None
        Notebooks to run (all when empty), and the first to run, by number ("02") or name
        ("02_teacher").
    parameters : dict, optional
        Values that go before the profile's; a text is read as the declared type. A relative path
        (`FILES` has the names) counts from the caller's folder.
    reports : str, optional
        A folder within ``data/<profile>/reports`` for the reports and figures of this run alone.
    jobs : int
        Notebooks at a time, where they read nothing of one another; each in a process of its own.

    Raises
    ------
    lttlib.Error
        Before anything runs: a notebook, profile or parameter that does not exist (the nearest
        that does is named), a value of the wrong type or out of its range, a file that is not
        there, or a parameter that no notebook of this run declares.
    lttlib.course.report.NotebookError
        A notebook failed; those after it have not run.
    """
    if jobs < 1:
        raise Error(f"jobs must be at least 1, not {jobs}")
    steps = plan(profile, only, start, parameters)
    folder = _reports_folder(profile, reports)
    folder.mkdir(parents=True, exist_ok=True)

    # The index links what there is, also after a failure.
    try:
        if jobs > 1:
            report.run_in_stages(profile, steps, jobs, reports)
        else:
            _run_in_turn(profile, steps, folder, reports)
    finally:
        page = report.write_index(folder, profile)
    if report.ALL_MODELS in [notebook.stem for notebook, _ in steps]:
        page = folder / f"{report.ALL_MODELS}.html"
    print(f"Report: {page}")
    return page


def _run_in_turn(profile, steps, folder, reports):
    """Run notebooks in this process, one after the other."""
    variables = {"LTT_DATA": str(DATA)}
    if reports:
        variables["LTT_REPORTS"] = str(folder)
    for notebook, values in steps:
        print(f"{notebook.stem} ...", flush=True)
        # Of two runs that would write the same, the second one waits.
        with lock(folder / notebook.name), lock(_results_path(profile, notebook, values)):
            seconds = report.execute(notebook, values, folder, variables)
        print(f"{notebook.stem} {seconds:.0f} s", flush=True)


def _reports_folder(profile, name):
    """Folder of the reports of a run, within that of the profile."""
    reports = profile_folder(profile) / "reports"
    folder = Path(os.path.normpath(reports / name))
    if not folder.is_relative_to(reports):
        raise Error(f"reports {name!r} would leave their folder", reports, "name one within it")
    return folder


def _results_path(profile, notebook, values):
    """Lock path for a notebook's outputs (models named after its student or teacher)."""
    declared = parameters(notebook)
    names = [values.get(key, declared[key][1]) for key in ("teacher", "student") if key in declared]
    return profile_folder(profile) / ".".join([*names[-1:], notebook.stem])


def _notebooks():
    """Paths of the notebooks by their names, in their order."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        cure = "install in a clone, with pip install -e '.[course]'"
        raise MissingError("no notebooks are there", NOTEBOOKS, cure)
    return {path.stem: path for path in paths}


def _current_names(values, known, path=None):
    """The values under the names that their parameters have today."""
    current = {}
    for name, value in values.items():
        if name in RENAMED and name not in known:
            _announce(name)
            name = RENAMED[name]
            if name in values:
                problem = f"parameter {name!r} is given under its old name too"
                raise Error(problem, path, "leave that out")
        current[name] = value
    return current


@functools.cache  # a sweep plans many runs
def _announce(old):
    """Print what a parameter is called today."""
    print(f"The parameter {old} is called {RENAMED[old]} now.", flush=True)


def _check_names(values, known, sources):
    """Refuse a parameter that no notebook declares, whichever are to run."""
    for name in values:
        if name not in known:
            raise _unknown("parameter", str(name), known, sources[name])


def _check_profile(name, values, sources):
    """Refuse another name for the profile than that of the run."""
    other = values.get("profile", name)
    if other != name:
        problem = f"the parameter `profile` is {SHORT_REPR.repr(other)} in a run of {name!r}"
        raise Error(problem, sources["profile"], "leave it out")


def _select(notebooks, only, start):
    """Names of the notebooks to run, in their order."""
    selected = {_find(word, notebooks) for word in only} or set(notebooks)
    first = _find(start, notebooks) if start else ""
    stems = [stem for stem in notebooks if stem in selected and stem >= first]
    if not stems:
        raise Error(f"nothing to run: {', '.join(only)} come before {start}")
    return stems


def _find(word, notebooks):
    """Name of the notebook that a number or a name means."""
    for stem in notebooks:
        if word.removesuffix(".ipynb") == stem or word.zfill(2) == stem[:2]:
            return stem
    raise _unknown("notebook", word, notebooks)


def _check_effect(overrides, declared):
    """Refuse a parameter of the caller that no notebook of the run declares."""
    used = set().union(*declared)
    for name in overrides:
        if name not in used:
            problem = (
                f"parameter {name!r} would change nothing: no notebook of this run declares it"
            )
            raise Error(problem)


def _unknown(what, word, names, path=None):
    """The error about a word that names nothing; its cure is the nearest name, and all of them."""
    nearest = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    cure = f"{hint}There are: {', '.join(names) or 'none'}"
    return Error(f"unknown {what} {word!r}", path, cure)


def _convert_all(declared, values, sources):
    """Values of the parameters that a notebook declares, in their order, as their types."""
    converted = {}
    for name, (kind, _, _) in declared.items():
        if name in values:
            source = sources.get(name)
            value = _convert(name, kind, values[name], source)
            _check_value(name, value, source)
            # The caller's paths count from the folder of the caller.
            folder = NOTEBOOKS if source else Path()
            converted[name] = _absolute_path(name, value, folder)
    return converted


def _absolute_path(name, value, folder):
    """The path that a parameter names, if it names a file or folder; else its value."""
    is_file = name.endswith(FILES) and (name, value) != ("lm_ready", "librispeech")
    if not is_file or not value or not isinstance(value, str):
        return value
    path = os.path.abspath(folder / os.path.expanduser(value))
    needs_folder = name.endswith("_root")
    is_there = os.path.isdir if needs_folder else os.path.exists
    if not is_there(path):
        kind = "folder" if needs_folder else "file"
        problem = f"parameter {name!r} needs a {kind}, which this is not"
        raise Error(problem, path, "name one that exists")
    return path


def _convert(name, kind, value, path=None):
    """Return `value` as the declared type; text is read, nothing is rounded or guessed."""
    try:
        return _parse(kind, value)
    except UNREADABLE as error:
        problem = f"parameter {name!r} expects {kind}, not {SHORT_REPR.repr(value)}"
        cure = None if path is None else "write a value of this type"
        raise Error(problem, path, cure) from error


def _check_value(name, value, path):
    """Refuse a value of the right type that makes no sense."""
    items = value if isinstance(value, list) else [value]
    numbers = [item for item in items if isinstance(item, int | float)]
    text = SHORT_REPR.repr(value)
    for interval in _rules(RANGES, name):
        if not items or not all(_lies_in(number, interval) for number in numbers):
            problem = f"parameter {name!r} must lie in {interval}, not {text}"
            raise Error(problem, path, "give a number that does")
    for choice, words in CHOICES.items():
        if any(_rules({words: choice}, name)) and value not in words.split():
            problem = f"parameter {name!r} has no choice {text}"
            raise Error(problem, path, f"there are: {', '.join(words.split())}")

    # Folders of the course: a path would lead out of it.
    if name in FOLDERS and (value or name not in MAY_BE_EMPTY):
        if not items or not all(_is_folder_name(str(item)) for item in items):
            problem = f"parameter {name!r} needs the plain name of a folder, not {text}"
            raise Error(problem, path, "leave out what leads elsewhere")


def _is_folder_name(text):
    """Whether a text names a folder that is neither hidden nor in another folder."""
    return bool(re.fullmatch(r"[^./][^/]*", text)) and text.isprintable()


def _rules(table, name):
    """The keys of a table for a parameter of this name."""
    for rule, words in table.items():
        if any(name == word or name.endswith(f"_{word}") for word in words.split()):
            yield rule


def _lies_in(number, interval):
    """Whether a number lies in an interval such as "(0, 1]"."""
    least, greatest = map(float, interval[1:-1].split(","))
    if number == least:
        return interval[0] == "["
    if number == greatest:
        return interval[-1] == "]"
    return least < number < greatest


def _parse(kind, value):
    """A value as a declared type: a scalar, or a list of them."""
    element = kind.removeprefix("list[").removesuffix("]")
    if element == kind:
        return _parse_scalar(kind, value)
    items = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise TypeError
    return [_parse(element, item) for item in items]


def _parse_scalar(kind, value):
    """A value as one of the types of PARSERS."""
    is_whole_float = kind == "float" and type(value) is int
    if isinstance(value, str) or is_whole_float:
        value = PARSERS[kind](value)
    # Not isinstance: True is no int.
    if kind not in PARSERS or type(value).__name__ != kind:
        raise TypeError
    if kind == "float" and not math.isfinite(value):
        raise ValueError
    return value
