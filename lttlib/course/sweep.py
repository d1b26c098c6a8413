"""A grid of experiments: notebooks run with each combination of values, several at a time, and again only what is left.

A combination is a run of `ltt run` in a process of its own. Its reports stand in `data/<profile>/reports/<name>`, its
models begin with that name. One that was stopped is run again; one whose reports are whole is not.
"""

import itertools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.stats

from lttlib.course.notebooks import plan, profile_folder
from lttlib.models.folder import read_card


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
    ValueError
        If two combinations would have one name, or there is none.
    """
    found = {}
    for values in (
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ):
        # The names become folders: "held_speakers=['george']" is held_speakers=george there.
        name = ",".join(re.sub(r"[^\w.=+-]", "", f"{key}={value}") for key, value in values.items())
        if name in found:
            raise ValueError(
                f"{found[name]} and {values} would both be named {name!r}: leave one out"
            )
        found[name] = values
    if not found or "" in found:
        raise ValueError(f"a grid needs parameters, and values for each, not {grid}")
    return found


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
        Processes at a time. Each one trains on all cores; more than one pays where networks are small.
    naming : str
        The parameter that gets the combination's name.

    Returns
    -------
    list of str: the names of combinations that failed; `<name>.log` in the reports' folder tells why.

    Raises
    ------
    ValueError, FileNotFoundError
        Before anything runs, as `course.run` does.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    if twice := {naming, *grid} & set(parameters or {}) or {naming} & set(grid):
        raise ValueError(f"{', '.join(twice)}: the sweep itself gives these their values")
    home = profile_folder(profile) / "reports"
    todo = {}
    for name, values in names(grid).items():
        given = dict(parameters or {}) | values | {naming: name}
        steps = plan(profile, only, None, given)
        if not all((home / name / f"{notebook.stem}.html").exists() for notebook, _ in steps):
            todo[name] = given
    home.mkdir(parents=True, exist_ok=True)
    print(f"{len(names(grid)) - len(todo)} of {len(names(grid))} done before", flush=True)

    def one(name):
        chosen = [word for notebook in only for word in ("--only", notebook)]
        given = [word for key, value in todo[name].items() for word in ("-p", key, str(value))]
        command = [
            sys.executable,
            "-m",
            "lttlib.cli",
            "run",
            profile,
            *chosen,
            *given,
            "--reports",
            name,
        ]
        with open(home / f"{name}.log", "w", encoding="utf-8") as file:
            code = subprocess.run(
                command, stdout=file, stderr=file, env=os.environ | {"LTT_BATCH": "1"}
            ).returncode
        print(f"{name}: {'done' if code == 0 else 'failed'}", flush=True)
        return None if code == 0 else name

    with ThreadPoolExecutor(jobs) as pool:
        return list(filter(None, pool.map(one, todo)))


def summary(profile, grid, over="seed") -> list:
    """What a sweep found, a row for each technique and combination of all parameters but `over`.

    Returns
    -------
    list of dict: technique, values, split, LER (mean over `over`), half (of the 95 % interval of that mean, by
    Student's t; NaN for a single run), runs, parameters, bytes (of the weights).
    """
    rows, known = {}, names(grid)
    for name, values in known.items():
        others = tuple(
            f"{other}-" for other in known if other.startswith(f"{name}-")
        )  # teacher=big, teacher=big-2
        for path in sorted((profile_folder(profile) / "models").glob(f"{name}-*/card.json")):
            if path.parent.name.startswith(others):
                continue
            card = read_card(path.parent)
            for split, result in card.get("results", {}).items():
                key = (
                    path.parent.name.removeprefix(f"{name}-"),
                    *(v for k, v in values.items() if k != over),
                    split,
                )
                row = {
                    "technique": key[0],
                    "values": {k: v for k, v in values.items() if k != over},
                    "split": split,
                }
                row |= {"parameters": card["parameters"], "bytes": max(card["files"].values())}
                rows.setdefault(key, (row, []))[1].append(result["LER"])
    found = []
    for row, rates in rows.values():
        spread = (
            scipy.stats.sem(rates) * scipy.stats.t.ppf(0.975, len(rates) - 1)
            if len(rates) > 1
            else float("nan")
        )
        found.append(
            row | {"LER": float(np.mean(rates)), "ci_half_width": float(spread), "runs": len(rates)}
        )
    return found
