"""A sweep runs each combination once, knows what is done, mixes nothing up, and its intervals are the textbook's."""

import json
import math
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from builders import PARAMETERS, write_notebook

from lttlib import cli, course
from lttlib.course import sweep

STUDENT = """student: str = "student"  # names of the students begin with it
seed: int = 0  # of weights
alpha: float = 0.5  # share of the teacher
held: list[str] = []  # left out
"""


def test_combinations_are_the_product_in_the_order_of_the_grid():
    assert list(sweep.names({"seed": ["1", "0"], "alpha": ["0.5", "1e-3"]}).items()) == [
        ("seed=1,alpha=0.5", {"seed": "1", "alpha": "0.5"}),
        ("seed=1,alpha=1e-3", {"seed": "1", "alpha": "1e-3"}),
        ("seed=0,alpha=0.5", {"seed": "0", "alpha": "0.5"}),
        ("seed=0,alpha=1e-3", {"seed": "0", "alpha": "1e-3"}),
    ]


@pytest.mark.parametrize(
    "value, name",
    [
        ("['george']", "held=george"),
        ('["theo", "lucas"]', "held=theolucas"),
        ("[]", "held="),
        ("../../elsewhere", "held=....elsewhere"),
        ("a*[b]?", "held=ab"),
        ("-0.5", "held=-0.5"),
        ("1e+2", "held=1e+2"),
        ("x y:é\n", "held=xyé"),
    ],
)
def test_a_name_is_that_of_a_folder_and_the_value_stays_as_it_is(value, name):
    assert sweep.names({"held": [value]}) == {name: {"held": value}}


@pytest.mark.parametrize(
    "values", [["[0.91]", "[0.9, 1]"], ["['a']", '["a"]'], ["a/b", "ab"], ["1", "2", "1"]]
)
def test_two_combinations_never_share_a_name(values):
    with pytest.raises(ValueError, match="both be named 'speeds="):
        sweep.names({"speeds": values, "seed": ["1", "2"]})


@pytest.mark.parametrize("grid", [{}, {"seed": []}, {"alpha": ["1"], "seed": []}])
def test_a_grid_of_nothing_is_refused(grid):
    with pytest.raises(ValueError, match="a grid needs"):
        sweep.names(grid)


class Runs:
    """Stands for the processes of a sweep: notes what `ltt run` is asked, and leaves the reports that it would."""

    def __init__(self, folder):
        self.reports, self.asked, self.failing, self.environments = (
            folder / "reports",
            [],
            set(),
            [],
        )

    def __call__(self, command, stdout, stderr, env):
        assert command[:3] == [sys.executable, "-m", "lttlib.cli"]
        told = cli.parser().parse_args(command[3:])
        self.asked.append(told)
        self.environments.append(env)
        stdout.write("04_student ...\n")
        assert told.profile == "quick"
        place = self.reports / told.reports
        place.mkdir(parents=True, exist_ok=True)
        if told.reports in self.failing:
            (place / "04_student.failed.ipynb").write_text("so far")
            stderr.write("ltt: 04_student stopped in cell [3]\n")
            return subprocess.CompletedProcess(command, 1)
        for number in told.only:
            (place / {"02": "02_teacher.html", "04": "04_student.html"}[number]).write_text("whole")
        return subprocess.CompletedProcess(command, 0)

    def names(self):
        """The reports that were asked for since the last call."""
        names, self.asked = [told.reports for told in self.asked], []
        return names


@pytest.fixture
def runs(small_course, monkeypatch):
    write_notebook(
        small_course / "notebooks", "04_student.ipynb", PARAMETERS + STUDENT, "print(student)"
    )
    monkeypatch.setattr(sweep.subprocess, "run", made := Runs(course.profile_folder("quick")))
    return made


GRID = {"alpha": ["0", "0.5"], "seed": ["1", "2"]}
NAMES = ["alpha=0,seed=1", "alpha=0,seed=2", "alpha=0.5,seed=1", "alpha=0.5,seed=2"]


def test_each_combination_is_a_process_with_its_parameters_and_reports(runs, monkeypatch, capsys):
    monkeypatch.setenv("LTT_DATA", "told before")
    assert sweep.run("quick", ["02", "04"], GRID, {"held": "['x']", "epochs": "1"}) == []
    assert [told.reports for told in runs.asked] == NAMES
    for told, values in zip(
        runs.asked, [("0", "1"), ("0", "2"), ("0.5", "1"), ("0.5", "2")], strict=True
    ):
        assert (told.command, told.profile, told.only, told.start) == (
            cli._run,
            "quick",
            ["02", "04"],
            None,
        )
        given = dict(told.parameter)
        assert len(given) == len(told.parameter)
        alpha, seed = values
        assert given == {
            "held": "['x']",
            "epochs": "1",
            "alpha": alpha,
            "seed": seed,
            "student": told.reports,
        }
    assert all(
        env["LTT_BATCH"] == "1" and env["LTT_DATA"] == "told before" for env in runs.environments
    )
    out = capsys.readouterr().out.splitlines()
    assert out == ["0 of 4 done before", *(f"{name}: done" for name in NAMES)]


def test_values_that_are_no_text_arrive_as_they_are(runs):
    sweep.run("quick", ["04"], {"seed": [3], "alpha": [1e-4]}, {"held": ["x", "y's"]})
    (told,) = runs.asked
    ((_, values),) = course.plan("quick", told.only, None, dict(told.parameter))
    assert (values["seed"], values["alpha"], values["held"]) == (3, 1e-4, ["x", "y's"])


def test_what_is_done_is_not_run_again_and_what_was_stopped_is(runs, capsys):
    sweep.run("quick", ["02", "04"], GRID)
    runs.names()
    capsys.readouterr()
    assert sweep.run("quick", ["02", "04"], GRID) == [] and runs.names() == []
    assert capsys.readouterr().out == "4 of 4 done before\n"
    (runs.reports / NAMES[1] / "04_student.html").rename(
        runs.reports / NAMES[1] / "04_student.partial.ipynb"
    )
    (runs.reports / NAMES[2] / "02_teacher.html").unlink()
    assert sweep.run("quick", ["02", "04"], GRID) == [] and runs.names() == [NAMES[1], NAMES[2]]
    assert sweep.run("quick", ["04"], GRID | {"seed": ["1", "2", "10"]}) == []
    assert runs.names() == ["alpha=0,seed=10", "alpha=0.5,seed=10"], "a grid may grow"


def test_a_failure_is_named_its_log_is_kept_and_it_alone_is_run_again(runs, capsys):
    runs.failing = {NAMES[0], NAMES[2]}
    assert sweep.run("quick", ["04"], GRID) == [NAMES[0], NAMES[2]] and runs.names() == NAMES
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if "failed" in line] == [
        f"{NAMES[0]}: failed",
        f"{NAMES[2]}: failed",
    ]
    logs = {path.stem: path.read_text() for path in runs.reports.glob("*.log")}
    assert (
        sorted(logs) == NAMES
        and logs[NAMES[0]] == "04_student ...\nltt: 04_student stopped in cell [3]\n"
    )
    runs.failing = {NAMES[2]}
    assert sweep.run("quick", ["04"], GRID) == [NAMES[2]] and runs.names() == [NAMES[0], NAMES[2]]
    assert "stopped" in (runs.reports / f"{NAMES[2]}.log").read_text()
    assert "stopped" not in (runs.reports / f"{NAMES[0]}.log").read_text()
    assert not [path for path in runs.reports.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "only, grid, parameters, jobs, told",
    [
        (["04"], {"sed": ["1"]}, {}, 1, "did you mean 'seed'"),
        (["04"], {"seed": ["1", "two"]}, {}, 1, "'seed' expects int, not 'two'"),
        (["04"], {"seed": ["1"]}, {"alhpa": "1"}, 1, "did you mean 'alpha'"),
        (["04"], {"seed": ["1"]}, {"alpha": "much"}, 1, "'alpha' expects float"),
        (["05"], {"seed": ["1"]}, {}, 1, "unknown notebook '05'"),
        (["02"], {"epochs": ["1"]}, {}, 1, "'student' would change nothing"),
        (["04"], {"held": ["['a']", '["a"]']}, {}, 1, "both be named"),
        (["04"], {"seed": []}, {}, 1, "a grid needs"),
        (["04"], {"seed": ["1"]}, {}, 0, "jobs must be at least 1"),
        (["04"], {"seed": ["1"]}, {"seed": "2"}, 1, "seed: the sweep itself"),
        (["04"], {"seed": ["1"]}, {"student": "mine"}, 1, "student: the sweep itself"),
        (["04"], {"student": ["a", "b"]}, {}, 1, "student: the sweep itself"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(runs, only, grid, parameters, jobs, told):
    with pytest.raises(ValueError, match=told):
        sweep.run("quick", only, grid, parameters, jobs)
    assert runs.asked == [] and not course.DATA.exists()


def test_an_unknown_profile_is_refused(runs):
    with pytest.raises(ValueError, match="unknown profile 'quik'"):
        sweep.run("quik", ["04"], GRID)


@pytest.mark.parametrize("jobs", [1, 2])
def test_as_many_run_at_a_time_as_jobs(runs, monkeypatch, jobs):
    together, most, lock, pair = 0, 0, threading.Lock(), threading.Barrier(jobs, timeout=10)

    def counted(*arguments, **options):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        pair.wait()
        with lock:
            together -= 1
        return runs(*arguments, **options)

    monkeypatch.setattr(sweep.subprocess, "run", counted)
    assert sweep.run("quick", ["04"], GRID, jobs=jobs) == []
    assert most == jobs and sorted(runs.names()) == NAMES


@pytest.mark.slow
def test_processes_run_notebooks_and_keep_their_figures_apart(small_course, monkeypatch, capsys):
    """All of it is real: a clone with its own library, two processes at a time, and kernels."""
    shutil.copytree(
        Path(sweep.__file__).parents[1],
        small_course / "lttlib",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    figure = "from lttlib import course\ncourse.figure_path(profile, 'shown').write_text(f'{student} {alpha}')"
    check = "import pathlib\nassert seed < 2 or pathlib.Path('cure').exists(), 'not yet'"
    write_notebook(
        small_course / "notebooks", "04_student.ipynb", PARAMETERS + STUDENT, figure, check
    )
    monkeypatch.chdir(small_course)
    monkeypatch.setenv("PYTHONPATH", str(small_course))
    monkeypatch.delenv("LTT_DATA", raising=False)
    reports, grid = small_course / "data" / "quick" / "reports", {"seed": ["1", "2"]}
    assert sweep.run("quick", ["04"], grid, {"alpha": "0.25"}, jobs=2) == ["seed=2"]
    names = ["04_student.html", "04_student.ipynb", "index.html", "quick-shown.png"]
    assert sorted(path.name for path in (reports / "seed=1").iterdir()) == names
    assert (reports / "seed=1" / "quick-shown.png").read_text() == "seed=1 0.25"
    assert "AssertionError: not yet" in (reports / "seed=2.log").read_text()
    assert (
        not (small_course / "figures").exists() and not (small_course / "data" / "figures").exists()
    )

    (small_course / "notebooks" / "cure").touch()
    before = (reports / "seed=1" / "04_student.html").stat().st_mtime_ns
    assert sweep.run("quick", ["04"], grid, {"alpha": "0.25"}) == []
    assert "1 of 2 done before" in capsys.readouterr().out
    assert (reports / "seed=1" / "04_student.html").stat().st_mtime_ns == before
    assert sorted(path.name for path in (reports / "seed=2").iterdir()) == names
    assert sorted(path.name for path in reports.iterdir()) == [
        "seed=1",
        "seed=1.log",
        "seed=2",
        "seed=2.log",
    ]


@pytest.fixture
def write_card(small_course):
    """Makes models of which there is only the card, with an error rate for each split."""

    def write(name, parameters=100, size=4000, **rates):
        told = {
            "name": name,
            "parameters": parameters,
            "files": {"spec.json": 30, "weights.safetensors": size},
        }
        if rates:
            told["results"] = {split: {"LER": rate, "WER": 90.0} for split, rate in rates.items()}
        place = course.profile_folder("quick") / "models" / name
        place.mkdir(parents=True)
        (place / "card.json").write_text(json.dumps(told))

    return write


def test_the_mean_and_its_interval_worked_by_hand(write_card):
    """Of n values, the half is t sd / sqrt(n), with t from the table: 4.303 for n = 3, 12.706 for n = 2."""
    for seed, rate in {"1": 10.0, "2": 12.0, "3": 14.0}.items():
        write_card(f"seed={seed}-distilled", dev=rate)
    (row,) = sweep.summary("quick", {"seed": ["1", "2", "3"]})
    assert row.pop("ci_half_width") == pytest.approx(4.302653 * 2 / math.sqrt(3), abs=1e-5)
    assert row == {"technique": "distilled", "values": {}, "split": "dev", "LER": 12.0, "runs": 3,
                   "parameters": 100, "bytes": 4000}  # fmt: skip
    (row,) = sweep.summary("quick", {"seed": ["3", "1"]})
    assert (row["LER"], row["runs"]) == (12.0, 2) and row["ci_half_width"] == pytest.approx(
        12.706205 * 2, abs=1e-5
    )
    (row,) = sweep.summary("quick", {"seed": ["2"]})
    assert (row["LER"], row["runs"]) == (12.0, 1) and math.isnan(row["ci_half_width"])


def test_equal_rates_have_an_interval_of_nothing(write_card):
    for seed in "12":
        write_card(f"seed={seed}-labels", test=7.5)
    (row,) = sweep.summary("quick", {"seed": ["1", "2"]})
    assert (row["LER"], row["ci_half_width"]) == (7.5, 0.0)


def test_rows_are_of_one_technique_one_split_and_one_value_of_all_but_over(write_card):
    rate = {}
    for alpha in ("0", "1"):
        for seed in ("1", "2"):
            for number, technique in enumerate(("distilled", "labels")):
                dev = 10 * int(alpha) + int(seed) + 30 * number
                rate[technique, alpha, seed] = dev
                size = 1000 * (number + 1)
                write_card(
                    f"alpha={alpha},seed={seed}-{technique}",
                    size // 10,
                    size,
                    dev=dev,
                    test=dev + 0.5,
                )
    grid = {"alpha": ["0", "1"], "seed": ["1", "2"]}
    rows = sweep.summary("quick", grid)
    found = {(row["technique"], row["values"]["alpha"], row["split"]): row for row in rows}
    assert len(found) == len(rows) == 8 and {len(row["values"]) for row in rows} == {1}
    for (technique, alpha, split), row in found.items():
        mean = (rate[technique, alpha, "1"] + rate[technique, alpha, "2"]) / 2 + 0.5 * (
            split == "test"
        )
        assert (row["LER"], row["runs"]) == (mean, 2) and row["ci_half_width"] == pytest.approx(
            12.706205 * 0.5, abs=1e-5
        )
        assert (row["parameters"], row["bytes"]) == {
            "distilled": (100, 1000),
            "labels": (200, 2000),
        }[technique]
    over_alpha = sweep.summary("quick", grid, over="alpha")
    assert {(row["values"]["seed"], row["runs"]) for row in over_alpha} == {("1", 2), ("2", 2)}
    assert all(
        math.isnan(row["ci_half_width"]) and row["runs"] == 1
        for row in sweep.summary("quick", grid, over="epochs")
    )


def test_names_that_begin_with_one_another_are_not_mixed_up(write_card):
    for number, name in enumerate(["seed=1", "seed=10", "seed=1,alpha=2", "seed=1e"]):
        write_card(f"{name}-labels", dev=10.0 + number)
    assert {
        row["values"]["seed"]: (row["LER"], row["runs"])
        for row in sweep.summary("quick", {"seed": ["1", "10"]}, over="alpha")
    } == {"1": (10.0, 1), "10": (11.0, 1)}
    for number, name in enumerate(["teacher=big", "teacher=big-2", "teacher=big-2-b"]):
        for technique in ("distilled", "b"):
            write_card(f"{name}-{technique}", dev=20.0 + number)
    rows = sweep.summary("quick", {"teacher": ["big", "big-2", "big-2-b"]})
    assert Counter((row["values"]["teacher"], row["technique"], row["LER"]) for row in rows) == Counter([
        ("big", "distilled", 20.0), ("big", "b", 20.0), ("big-2", "distilled", 21.0),
        ("big-2", "b", 21.0), ("big-2-b", "distilled", 22.0), ("big-2-b", "b", 22.0),
    ])  # fmt: skip


def test_what_has_no_results_and_what_is_of_no_sweep_is_left_out(write_card):
    write_card("seed=1-labels", dev=10.0, test=20.0)
    write_card("seed=2-labels", dev=12.0)  # a run that was stopped, with other splits
    write_card("seed=2-hinted")
    for other in ("teacher", "student-labels", "seed=3-labels", "labels"):
        write_card(other, dev=99.0)
    (course.profile_folder("quick") / "models" / "seed=1-labels.checkpoint").write_text("no folder")
    (course.profile_folder("quick") / "models" / "seed=2-distilled").mkdir()
    rows = sweep.summary("quick", {"seed": ["1", "2"]})
    assert [(row["split"], row["LER"], row["runs"]) for row in rows] == [
        ("dev", 11.0, 2),
        ("test", 20.0, 1),
    ]
    assert sweep.summary("digits", {"seed": ["1", "2"]}) == []
