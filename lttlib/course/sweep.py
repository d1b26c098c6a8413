"""A grid of experiments: notebooks run with each combination of values, several at a time.

A combination is a run of `ltt run` in a process of its own. Its reports stand in
`data/<profile>/reports/<name>`, the names of its models begin with that name. One that was stopped
is run again; one whose reports are whole is not, unless it would be made otherwise today.
`data/<profile>/reports/sweep.json` lists the combinations of all sweeps by their names: their
values, and for each notebook the parameters, code and inputs that made its report.
"""

import itertools
import json
import re
import subprocess

import numpy as np
import scipy.stats

from lttlib import Error, speech
from lttlib.course.experiments import hash_of_records, outdated
from lttlib.course.notebooks import parameters as declared_parameters
from lttlib.course.notebooks import plan, profile_folder
from lttlib.course.report import batch_environment, map_in_processes, run_command
from lttlib.files import code_fingerprint, fingerprint, lock, parse_json, write_json
from lttlib.models.folder import CARD_FILE, read_card

# Whose code numbers depend on; not that of commands, figures and pages.
WINGS = ("speech", "features", "network", "training", "recognition", "device", "models")


def names(grid) -> dict:
    """The combinations of a grid by name, such as "alpha=0.5,seed=1".

    Parameters
    ----------
    grid : dict of str to list of str
        Values to try for each parameter.

    Returns
    -------
    dict of str to dict: the name of each combination to its values.

    Raises
    ------
    lttlib.Error
        If two combinations would have one name, or there is none.
    """
    combinations = {}
    for texts in itertools.product(*grid.values()):
        values = dict(zip(grid, texts, strict=True))
        name = ",".join(_folder_name(f"{key}={value}") for key, value in values.items())
        if name in combinations:
            problem = f"{combinations[name]} and {values} would both be named {name!r}"
            raise Error(problem, cure="leave one out")
        combinations[name] = values
    if not combinations or "" in combinations:
        raise Error(f"a grid needs parameters, and values for each, not {grid}")
    return combinations


def _folder_name(text):
    """A text without what folders cannot have: "held=['george']" is held=george."""
    return re.sub(r"[^\w.=+-]", "", text)


def run(profile, only, grid, parameters=None, jobs=1, naming="student") -> list:
    """Run notebooks with each combination of a grid.

    Parameters
    ----------
    profile : str
    only : list of str
        Notebooks, as `course.run` takes them.
    grid : dict of str to list of str
    parameters : dict, optional
        The same for all combinations.
    jobs : int
        Processes at a time, among whom the processors are shared out: small networks learn faster
        so than one after another on all of them. On another number of processors sums are rounded
        in another order, and weights end a little different.
    naming : str
        The parameter that gets the combination's name.

    Returns
    -------
    list of str: the names of combinations that failed; `<name>.log` in the folder of the reports
    holds what they printed.

    Raises
    ------
    lttlib.Error
        Before anything runs, as `course.run` does.
    """
    parameters = dict(parameters or {})
    _check_arguments(grid, parameters, jobs, naming)
    combinations = names(grid)

    # Each combination is checked before the first one runs.
    values_of = {}
    origins = {}
    for name, values in combinations.items():
        values_of[name] = parameters | values | {naming: name}
        origins[name] = _origins(profile, plan(profile, only, None, values_of[name]))
    _record(profile, combinations, values=combinations)

    # Those that are done already are not run again.
    unfinished = _unfinished(profile, origins)
    done = len(combinations) - len(unfinished)
    print(f"{done} of {len(combinations)} done before", flush=True)

    def run_combination(name):
        reports = profile_folder(profile) / "reports"
        # Another sweep may be making it.
        with lock(reports / name):
            if _is_done(profile, name, origins[name]):
                return True
            command = run_command(profile, only, values_of[name], name)
            # Its origin is recorded only once its reports are complete.
            success = _run_process(name, command, reports / f"{name}.log")
            if success:
                _record(profile, [name], made=origins[name], stale=False)
        return success

    # Each in a process of its own.
    successes = map_in_processes(run_combination, unfinished, jobs)
    outcomes = zip(unfinished, successes, strict=True)
    return [name for name, success in outcomes if not success]


def _unfinished(profile, origins):
    """Names of the combinations to run; those made otherwise do not count until they are done."""
    names = []
    stale = []
    for name, origin in origins.items():
        changes = _changes(profile, name, origin)
        if changes:
            stale.append(name)
            print(f"{name}: made anew: {', '.join(changes)}", flush=True)
        if changes or not _is_complete(profile, name, origin):
            names.append(name)
    _record(profile, stale, stale=True)
    return names


def _is_done(profile, name, origin):
    """Whether the reports of a combination are whole and what would be made today."""
    return _is_complete(profile, name, origin) and not _changes(profile, name, origin)


def _is_complete(profile, name, stems):
    """Whether all reports of a combination are there."""
    reports = profile_folder(profile) / "reports" / name
    return all((reports / f"{stem}.html").exists() for stem in stems)


def _changes(profile, name, origin):
    """What changed in parameters, code and inputs since a combination's reports were written."""
    entry = _read_record(profile).get(name, {})
    recorded = entry.get("made", {})
    changes = ["its last run was not finished"] if entry.get("stale") else []
    for stem, parts in origin.items():
        if not _is_complete(profile, name, [stem]):
            continue
        if stem not in recorded:
            changes.append(f"no record of how {stem} was run")
            continue
        for part, value in parts.items():
            before = recorded[stem].get(part)
            if before != value:
                changes.append(f"other {part} of {stem}{_changed_keys(before, value)}")
    return changes


def _changed_keys(before, value):
    """The keys in which two dictionaries differ, as text; nothing of other values."""
    if not isinstance(before, dict) or not isinstance(value, dict):
        return ""
    keys = [key for key in before | value if before.get(key) != value.get(key)]
    return f" ({', '.join(keys)})"


def _origins(profile, steps):
    """What the results of a combination depend on: for each notebook, by its name.

    That is its parameters; code, of its cells and of lttlib's wings, without comments; and inputs:
    records, teacher and student where other notebooks than these have made them.
    """
    code = code_fingerprint(*WINGS).encode()
    stems = [notebook.stem for notebook, _ in steps]
    origins = {}
    for notebook, values in steps:
        defaults = {key: row[1] for key, row in declared_parameters(notebook).items()}
        values = defaults | values
        values.pop("cores", None)  # the features do not depend on it
        origins[notebook.stem] = {
            "parameters": values,
            "code": fingerprint(code, _code_cells(notebook)),
            "inputs": _inputs(profile, stems, values),
        }
    return origins


def _code_cells(notebook):
    """The code of a notebook."""
    cells = parse_json(notebook.read_bytes())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(sources).encode()


def _inputs(profile, stems, values):
    """Hashes of what a notebook of a sweep reads and others have made; None where it is not yet."""
    folder = profile_folder(profile)
    inputs = {}
    splits = [values.get("train_split"), *values.get("score_splits", ())]
    for split in filter(None, splits):
        if "01_features" not in stems:
            inputs[split] = hash_of_records(folder / "records" / split)
        elif values.get("corpus_root"):
            inputs[split] = _corpus_hash(values["corpus_root"], split)
    models = []
    if "02_teacher" not in stems and "teacher" in values:
        models += [values["teacher"], *values.get("more_teachers", ())]
    if "04_distilled_student" not in stems and "student" in values:
        models.append(f"{values['student']}-distilled")
    for name in models:
        path = folder / "models" / name / CARD_FILE
        inputs[name] = parse_json(path.read_bytes()).get("fingerprint") if path.exists() else None
    return inputs


def _corpus_hash(root, split):
    """Hash of a split of a corpus: ids, texts, and sizes and times of its files."""
    rows = []
    for utterance in speech.read_corpus(root, split):
        stat = utterance.audio.stat() if utterance.audio.exists() else None
        rows.append([utterance.id, utterance.text, stat and [stat.st_size, stat.st_mtime_ns]])
    return fingerprint(json.dumps(rows).encode())


def _check_arguments(grid, parameters, jobs, naming):
    """Refuse what `plan` cannot see in the parameters of one combination."""
    if jobs < 1:
        raise Error(f"jobs must be at least 1, not {jobs}")
    twice = ({naming} & set(grid)) | ({naming, *grid} & set(parameters))
    if twice:
        raise Error(f"{', '.join(sorted(twice))}: the sweep itself gives these their values")


def _run_process(name, command, log):
    """Run a command that prints to a log; return whether it succeeded."""
    with open(log, "w", encoding="utf-8") as file:
        ended = subprocess.run(command, stdout=file, stderr=file, env=batch_environment())
    success = ended.returncode == 0
    print(f"{name}: {'done' if success else 'failed'}", flush=True)
    return success


def _sweep_path(profile):
    """Path of the list of all combinations."""
    return profile_folder(profile) / "reports" / "sweep.json"


def _read_record(profile):
    """The combinations of all sweeps by name: dicts of values and made; empty without a sweep."""
    path = _sweep_path(profile)
    if not path.exists():
        return {}
    try:
        record = parse_json(path.read_bytes())
    except ValueError as error:
        cure = "remove it, and start the sweeps again: trainings that are done are not done again"
        raise Error(f"no whole list of combinations ({error})", path, cure) from error
    # Older versions wrote the values alone.
    for name, entry in record.items():
        if not isinstance(entry.get("made"), dict):
            record[name] = {"values": entry, "made": {}}
    return record


def _record(profile, names, values=None, **changes):
    """Enter combinations into the list of all sweeps, with their values by name.

    Changes are made, what `_origins` returns, and stale, whether results are to be made anew.
    """
    path = _sweep_path(profile)
    with lock(path):
        recorded = _read_record(profile)
        for name in names:
            entry = recorded.setdefault(name, {"values": {}, "made": {}})
            if values:
                entry["values"] = {key: str(value) for key, value in values[name].items()}
            entry["made"] |= changes.get("made", {})
            entry["stale"] = changes.get("stale", entry.get("stale", False))
        write_json(path, recorded)


def summary(profile, grid, over="seed") -> list:
    """Results of a sweep, a row for each technique and combination of all parameters but `over`.

    Left out are models that are to be made anew: the sweep was stopped, or they are of another
    teacher or other records than those that are there now.

    Returns
    -------
    list of dict: technique, values, split, parameters, bytes (of the weights), LER (mean over
    `over`), ci_half_width (of the 95 % interval of that mean, by Student's t; NaN for a single
    run), runs.
    """
    combinations = names(grid)
    recorded = _read_record(profile)
    known = {*combinations, *recorded}
    rows = {}
    rates = {}
    for name, values in combinations.items():
        # Not the old numbers of what is to be made anew.
        if recorded.get(name, {}).get("stale"):
            continue
        # Runs that differ in `over` alone share a row.
        others = {key: value for key, value in values.items() if key != over}
        for folder in _models(profile, name, known):
            if outdated(folder):
                continue
            # Models are named after their combination and technique.
            card = read_card(folder)
            technique = folder.name.removeprefix(f"{name}-")
            # Their rates are collected, the rest is the same.
            for split, result in card.get("results", {}).items():
                key = (technique, *others.values(), split)
                row = {"technique": technique, "values": others, "split": split}
                row |= {"parameters": card["parameters"], "bytes": max(card["files"].values())}
                rows.setdefault(key, row)
                rates.setdefault(key, []).append(result["LER"])
    return [row | _mean_and_interval(rates[key]) for key, row in rows.items()]


def _models(profile, name, known):
    """Folders of a combination's models, `<name>-<technique>`.

    Where one name begins with another (teacher=big, teacher=big-2), a model is of the longest.
    """
    models = profile_folder(profile) / "models"
    folders = [card.parent for card in sorted(models.glob(f"{name}-*/{CARD_FILE}"))]
    longer = tuple(f"{other}-" for other in known if other.startswith(f"{name}-"))
    return [folder for folder in folders if not folder.name.startswith(longer)]


def _mean_and_interval(rates):
    """The mean of error rates, and half the width of its 95 % interval."""
    half_width = float("nan")
    if len(rates) > 1:
        quantile = scipy.stats.t.ppf(0.975, len(rates) - 1)
        half_width = float(scipy.stats.sem(rates) * quantile)
    return {"LER": float(np.mean(rates)), "ci_half_width": half_width, "runs": len(rates)}
