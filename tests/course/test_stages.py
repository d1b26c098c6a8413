"""Notebooks run side by side only where none reads what the other writes, and each line is told."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from lttlib import Error, cli, course
from lttlib.course import report

NOTEBOOKS = sorted(course.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
FAILS = "04_distilled_student"

# Stands for a notebook: notes when it begins and ends, and waits for another one if it can.
NOTEBOOK = """
import os, pathlib, sys, time
folder, name, others = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / f"{name}.begun").touch()
end = time.monotonic() + 20
while len(list(folder.glob("*.begun"))) < others and time.monotonic() < end:
    time.sleep(0.01)
done = sorted(path.stem for path in folder.glob("*.done"))
print(f"{name} after {len(done)} on {len(os.sched_getaffinity(0))}")
print(f"Report: {name}")
(folder / f"{name}.done").touch()
sys.exit(name == sys.argv[4])
"""


def links_to_what_is_read(path):
    """Notebooks that the table at the top of a notebook names as the sources of what it reads."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (table,) = ["".join(c["source"]) for c in cells if "| reads |" in "".join(c["source"])]
    row = table[table.index("| reads |") :].splitlines()[2]
    return re.findall(r"\]\((\d\d_\w+)\.ipynb\)", row.split("|")[1])


def test_stages_hold_each_notebook_once():
    assert sorted(sum(report.STAGES, ())) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_stages_come_after_those_whose_notebooks_they_read(path):
    number = {stem: n for n, stage in enumerate(report.STAGES) for stem in stage}
    for source in links_to_what_is_read(path):
        assert number[source] < number[path.stem]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Has small programs run instead of notebooks; returns the arguments they were asked for."""
    asked = []

    def run_command(profile, only, parameters, reports):
        (stem,) = only
        asked.append((profile, stem, parameters, reports))
        script = [sys.executable, "-c", NOTEBOOK, str(tmp_path), stem]
        return [*script, "2" if stem in report.STAGES[0] else "0", FAILS]

    monkeypatch.setattr(report, "run_command", run_command)
    return asked


def steps(*stems):
    return [(Path(f"{stem}.ipynb"), {"profile": "quick", "seed": 3}) for stem in stems]


def test_notebooks_of_a_stage_run_at_once_and_the_next_stage_after_them(commands, capsys):
    """The first two wait for one another; the third then has all processors."""
    every = len(os.sched_getaffinity(0))
    names = ["00_overview", "01_features", "02_teacher", "10_added"]
    report.run_in_stages("quick", steps(*names), 2, "mine")
    assert commands == [("quick", name, {"seed": 3}, "mine") for name in names]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and {line[:2] for line in lines[:2]} == {"00", "01"}
    assert lines[2] == f"02  02_teacher after 2 on {every}"
    assert lines[3] == f"10  10_added after 3 on {every}"


def test_notebooks_after_one_that_failed_do_not_begin(commands):
    with pytest.raises(report.NotebookError, match="04_distilled_student stopped"):
        report.run_in_stages("quick", steps("03_guidance", FAILS, "05_quantized_student"), 2)
    assert [stem for _, stem, _, _ in commands] == ["03_guidance", FAILS]


def test_run_with_jobs_gives_each_notebook_its_own_values(small_course, monkeypatch):
    """And the command that is made of them is read again as the same values."""
    requests = []

    def noted(profile, steps, number, reports):
        assert number == 2
        for notebook, values in steps:
            values.pop("profile")
            command = report.run_command(profile, [notebook.stem], values, reports)
            request = cli.parser().parse_args(command[4:])
            parameters = dict(request.parameter)
            requests.append(course.plan(request.profile, request.only, None, parameters))

    monkeypatch.setattr("lttlib.course.report.run_in_stages", noted)
    cli.main(["run", "quick", "--jobs", "2", "-p", "epochs", "7"])
    assert requests == [[step] for step in course.plan("quick", overrides={"epochs": "7"})]


def test_run_refuses_no_jobs(small_course):
    with pytest.raises(Error, match="at least 1"):
        course.run("quick", jobs=0)
