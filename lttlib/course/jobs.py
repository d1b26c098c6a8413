"""Runs of notebooks in processes of their own, several at a time, which share the processors."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from lttlib.course.report import NotebookError, library_path

# Notebooks that read nothing of one another, stage by stage: each reads what earlier stages wrote.
STAGES = (
    ("00_overview", "01_features"),
    ("02_teacher",),
    ("03_guidance",),
    ("04_distilled_student",),
    ("05_quantized_student", "06_fitnet", "07_language_model"),
    ("08_deployment",),
    ("09_report",),
)


def run_in_stages(profile, steps, jobs, reports=""):
    """Run notebooks, at most so many at a time, and print what each of them prints.

    Parameters
    ----------
    profile, reports : str
        As `course.run` takes them.
    steps : list of (Path, dict)
        Notebooks and their values, as `course.plan` returns them.
    jobs : int

    Raises
    ------
    NotebookError
        Notebooks failed; those of their stage have run to their end, later ones have not begun.
    """
    values = {notebook.stem: given for notebook, given in steps}
    known = {stem for stage in STAGES for stem in stage}
    others = [(stem,) for stem in values if stem not in known]
    for stage in (*STAGES, *others):
        stems = [stem for stem in stage if stem in values]

        def run_notebook(stem):
            parameters = {key: value for key, value in values[stem].items() if key != "profile"}
            return _run_printing(stem[:2], run_command(profile, [stem], parameters, reports))

        # Alone, a notebook has all processors.
        successes = map_in_processes(run_notebook, stems, min(jobs, len(stems)))
        failed = [stem for stem, success in zip(stems, successes, strict=True) if not success]
        if failed:
            raise NotebookError(f"{', '.join(failed)} stopped; see above")


def _run_printing(number, command):
    """Run a command; print its lines with a number before each. Return whether it succeeded."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=batch_environment(), errors="replace", **pipe) as process:
        for line in process.stdout:
            if not line.startswith("Report: "):  # of this notebook alone
                print(f"{number}  {line}", end="", flush=True)
    return process.returncode == 0


def batch_environment():
    """The environment of another process that runs notebooks with this lttlib."""
    return os.environ | {"LTT_BATCH": "1", "PYTHONPATH": library_path()}


def run_command(profile, only, parameters, reports):
    """The words of the command `ltt run` with these arguments."""
    # -P: the lttlib of the folder that one stands in may be another one.
    command = [sys.executable, "-P", "-m", "lttlib.cli", "run", profile]
    for notebook in only:
        command += ["--only", notebook]
    for key, value in parameters.items():
        command += ["-p", f"{key}={value}"]
    return [*command, "--reports", reports]


def map_in_processes(function, items, jobs):
    """Apply a function that starts a process to each item, so many at a time, and list the results.

    Each of these processes, and so its children, has its share of the processors.
    """
    # Threads wait for processes, which may use the processors of the thread that starts them.
    shares = _processor_shares(jobs)

    def take_share():
        if shares:
            os.sched_setaffinity(0, shares.pop())

    with ThreadPoolExecutor(max(jobs, 1), initializer=take_share) as pool:
        return list(pool.map(function, items))


def _processor_shares(jobs):
    """Sets of processors, one for each job; an empty list where they cannot be shared out."""
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return []
    processors = sorted(os.sched_getaffinity(0))
    if jobs > len(processors):
        return []
    return [processors[number::jobs] for number in range(jobs)]
