"""A grid of experiments: notebooks run with each combination of values, several at a time.

A combination is a run of `ltt run` in a process of its own. Its reports stand in
`data/<profile>/reports/<name>`, the names of its models begin with that name. One that was stopped
is run again; one whose reports are whole is not. `data/<profile>/reports/sweep.json` lists the
combinations of all sweeps by their names.
"""

import itertools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.stats

from lttlib import Error
from lttlib.course.notebooks import plan, profile_folder
from lttlib.files import parse_json, write_json
from lttlib.models import read_card


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
        so than one after another on all of them.
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
    reports = profile_folder(profile) / "reports"
    unfinished = {}
    for name, values in combinations.items():
        given = parameters | values | {naming: name}
        steps = plan(profile, only, None, given)
        pages = [reports / name / f"{notebook.stem}.html" for notebook, _ in steps]
        if not all(page.exists() for page in pages):
            unfinished[name] = given
    _record(profile, combinations)

    # Threads wait for processes, which may use the processors of the thread that starts them.
    shares = _processor_shares(jobs)

    def take_share():
        if shares:
            os.sched_setaffinity(0, shares.pop())

    done = len(combinations) - len(unfinished)
    print(f"{done} of {len(combinations)} done before", flush=True)

    def run_combination(name):
        command = _command(profile, only, unfinished[name], name)
        return _run_process(name, command, reports / f"{name}.log")

    with ThreadPoolExecutor(jobs, initializer=take_share) as pool:
        successes = list(pool.map(run_combination, unfinished))
    outcomes = zip(unfinished, successes, strict=True)
    return [name for name, success in outcomes if not success]


def _processor_shares(jobs):
    """Sets of processors, one for each job; an empty list where they cannot be shared out."""
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return []
    processors = sorted(os.sched_getaffinity(0))
    if jobs > len(processors):
        return []
    return [processors[number::jobs] for number in range(jobs)]


def _check_arguments(grid, parameters, jobs, naming):
    """Refuse what `plan` cannot see in the parameters of one combination."""
    if jobs < 1:
        raise Error(f"jobs must be at least 1, not {jobs}")
    twice = ({naming} & set(grid)) | ({naming, *grid} & set(parameters))
    if twice:
        raise Error(f"{', '.join(sorted(twice))}: the sweep itself gives these their values")


def _command(profile, only, parameters, reports):
    """The words of `ltt run` for one combination."""
    command = [sys.executable, "-m", "lttlib.cli", "run", profile]
    for notebook in only:
        command += ["--only", notebook]
    for key, value in parameters.items():
        command += ["-p", key, str(value)]
    return [*command, "--reports", reports]


def _run_process(name, command, log):
    """Run a command that prints to a log; return whether it succeeded."""
    environment = os.environ | {"LTT_BATCH": "1"}
    with open(log, "w", encoding="utf-8") as file:
        ended = subprocess.run(command, stdout=file, stderr=file, env=environment)
    success = ended.returncode == 0
    print(f"{name}: {'done' if success else 'failed'}", flush=True)
    return success


def _sweep_path(profile):
    """Path of the list of all combinations."""
    return profile_folder(profile) / "reports" / "sweep.json"


def _read_record(profile):
    """Values of the combinations of all sweeps by name; empty where there was no sweep."""
    path = _sweep_path(profile)
    if not path.exists():
        return {}
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        cure = "remove it, and start the sweeps again: what is done is not run again"
        raise Error(f"no whole list of combinations ({error})", path, cure) from error


def _record(profile, combinations):
    """Add combinations to the list of all sweeps."""
    recorded = _read_record(profile)
    for name, values in combinations.items():
        recorded[name] = {key: str(value) for key, value in values.items()}
    write_json(_sweep_path(profile), recorded)


def summary(profile, grid, over="seed") -> list:
    """Results of a sweep, a row for each technique and combination of all parameters but `over`.

    Returns
    -------
    list of dict: technique, values, split, parameters, bytes (of the weights), LER (mean over
    `over`), ci_half_width (of the 95 % interval of that mean, by Student's t; NaN for a single
    run), runs.
    """
    rows, rates = {}, {}
    combinations = names(grid)
    known = {*combinations, *_read_record(profile)}
    for name, values in combinations.items():
        others = {key: value for key, value in values.items() if key != over}
        for folder in _models(profile, name, known):
            card = read_card(folder)
            technique = folder.name.removeprefix(f"{name}-")
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
    folders = [card.parent for card in sorted(models.glob(f"{name}-*/card.json"))]
    longer = tuple(f"{other}-" for other in known if other.startswith(f"{name}-"))
    return [folder for folder in folders if not folder.name.startswith(longer)]


def _mean_and_interval(rates):
    """The mean of error rates, and half the width of its 95 % interval."""
    half_width = float("nan")
    if len(rates) > 1:
        quantile = scipy.stats.t.ppf(0.975, len(rates) - 1)
        half_width = float(scipy.stats.sem(rates) * quantile)
    return {"LER": float(np.mean(rates)), "ci_half_width": half_width, "runs": len(rates)}
