"""A sweep runs each combination once and mixes nothing up; its intervals are the textbook's."""

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from builders import PARAMETERS, write_notebook

from lttlib import Error, cli, course
from lttlib.course import notebooks, report, sweep

REAL_RUN = subprocess.run
OLD_RECORDS = Path(__file__).parents[1] / "models" / "formats" / "records"

STUDENT = """student: str = "student"  # names of the students begin with it
seed: int = 0  # of weights
alpha: float = 0.5  # share of the teacher
held: list[str] = []  # left out
"""


def test_names_are_those_of_the_product_in_the_order_of_the_grid():
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
def test_names_are_those_of_folders_and_values_stay_as_they_are(value, name):
    assert sweep.names({"held": [value]}) == {name: {"held": value}}


@pytest.mark.parametrize(
    "values", [["[0.91]", "[0.9, 1]"], ["['a']", '["a"]'], ["a/b", "ab"], ["1", "2", "1"]]
)
def test_names_are_never_shared(values):
    with pytest.raises(Error, match="both be named 'speeds="):
        sweep.names({"speeds": values, "seed": ["1", "2"]})


@pytest.mark.parametrize("grid", [{}, {"seed": []}, {"alpha": ["1"], "seed": []}])
def test_names_of_an_empty_grid_are_refused(grid):
    with pytest.raises(Error, match="a grid needs"):
        sweep.names(grid)


class Runs:
    """Stands for the processes of a sweep: leaves the reports that each `ltt run` would."""

    def __init__(self, folder):
        self.reports = folder / "reports"
        self.requests = []
        self.failing = set()
        self.environments = []

    def __call__(self, command, stdout, stderr, env):
        assert command[:4] == [sys.executable, "-P", "-m", "lttlib.cli"]
        request = cli.parser().parse_args(command[4:])
        self.requests.append(request)
        self.environments.append(env)
        stdout.write("04_student ...\n")
        assert request.profile == "quick"
        folder = self.reports / request.reports
        folder.mkdir(parents=True, exist_ok=True)
        if request.reports in self.failing:
            (folder / "04_student.failed.ipynb").write_text("so far")
            stderr.write("ltt: 04_student stopped in cell [3]\n")
            return subprocess.CompletedProcess(command, 1)
        for number in request.only:
            page = {"02": "02_teacher.html", "04": "04_student.html"}[number]
            (folder / page).write_text("whole")
        return subprocess.CompletedProcess(command, 0)

    def names(self):
        """The combinations that were requested since the last call."""
        names = [request.reports for request in self.requests]
        self.requests = []
        return names


@pytest.fixture
def runs(small_course, monkeypatch):
    write_notebook(
        small_course / "notebooks", "04_student.ipynb", PARAMETERS + STUDENT, "print(student)"
    )
    runs = Runs(course.profile_folder("quick"))
    monkeypatch.setattr(sweep.subprocess, "run", runs)
    return runs


GRID = {"alpha": ["0", "0.5"], "seed": ["1", "2"]}
NAMES = ["alpha=0,seed=1", "alpha=0,seed=2", "alpha=0.5,seed=1", "alpha=0.5,seed=2"]


def test_sweep_runs_each_combination_in_a_process_with_its_parameters_and_reports(
    runs, monkeypatch, capsys
):
    monkeypatch.setenv("LTT_DATA", "set before")
    assert sweep.run("quick", ["02", "04"], GRID, {"held": "['x']", "epochs": "1"}) == []
    assert [request.reports for request in runs.requests] == NAMES
    values = [("0", "1"), ("0", "2"), ("0.5", "1"), ("0.5", "2")]
    for request, (alpha, seed) in zip(runs.requests, values, strict=True):
        assert (request.command, request.profile) == (cli._run, "quick")
        assert (request.only, request.start) == (["02", "04"], None)
        parameters = dict(request.parameter)
        assert len(parameters) == len(request.parameter)
        same = {"held": "['x']", "epochs": "1"}
        assert parameters == same | {"alpha": alpha, "seed": seed, "student": request.reports}
    assert all(variables["LTT_BATCH"] == "1" for variables in runs.environments)
    assert all(variables["LTT_DATA"] == "set before" for variables in runs.environments)
    out = capsys.readouterr().out.splitlines()
    assert out == ["0 of 4 done before", *(f"{name}: done" for name in NAMES)]


def test_sweep_passes_on_values_that_are_no_text(runs):
    sweep.run("quick", ["04"], {"seed": [3], "alpha": [1e-4]}, {"held": ["x", "y's"]})
    (request,) = runs.requests
    ((_, values),) = course.plan("quick", request.only, None, dict(request.parameter))
    assert (values["seed"], values["alpha"], values["held"]) == (3, 1e-4, ["x", "y's"])


def test_sweep_takes_an_old_name_of_a_parameter_and_prints_the_new_one_once(
    runs, monkeypatch, capsys
):
    monkeypatch.setattr(notebooks, "RENAMED", {"share": "alpha"})
    grid = {"share": ["0", "0.5"]}
    assert sweep.run("quick", ["04"], grid) == [] and runs.names() == ["share=0", "share=0.5"]
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["The parameter share is called alpha now.", "0 of 2 done before"]
    assert sweep.run("quick", ["04"], grid) == [] and runs.names() == []


def test_sweep_does_not_run_again_what_is_done_but_what_was_stopped(runs, capsys):
    sweep.run("quick", ["02", "04"], GRID)
    runs.names()
    capsys.readouterr()
    assert sweep.run("quick", ["02", "04"], GRID) == [] and runs.names() == []
    assert capsys.readouterr().out == "4 of 4 done before\n"
    page = runs.reports / NAMES[1] / "04_student.html"
    page.rename(page.with_name("04_student.partial.ipynb"))
    (runs.reports / NAMES[2] / "02_teacher.html").unlink()
    assert sweep.run("quick", ["02", "04"], GRID) == [] and runs.names() == [NAMES[1], NAMES[2]]
    assert sweep.run("quick", ["04"], GRID | {"seed": ["1", "2", "10"]}) == []
    assert runs.names() == ["alpha=0,seed=10", "alpha=0.5,seed=10"], "a grid may grow"


def test_sweep_lists_the_combinations_of_all_sweeps_with_their_values(runs):
    sweep.run("quick", ["04"], {"held": ["['x', 'y']"], "seed": [3]})
    sweep.run("quick", ["04"], {"seed": ["3", "4"]})
    record = json.loads((runs.reports / "sweep.json").read_text())
    assert {name: entry["values"] for name, entry in record.items()} == {
        "held=xy,seed=3": {"held": "['x', 'y']", "seed": "3"},
        "seed=3": {"seed": "3"},
        "seed=4": {"seed": "4"},
    }
    for entry in record.values():
        assert list(entry["made"]) == ["04_student"] and not entry["stale"]
        assert list(entry["made"]["04_student"]) == ["parameters", "code", "inputs"]


# What would be made otherwise today


def change_parameter(folder, parameters):
    parameters["epochs"] = "7"
    return "other parameters of 02_teacher (epochs)"


def change_profile(folder, parameters):
    (folder / "notebooks" / "params" / "quick.yaml").write_text("epochs: 4\nlearning_rate: 1e-3\n")
    return "other parameters of 02_teacher (epochs)"


def change_notebook(folder, parameters):
    cells = ("print(student, 2)",)
    write_notebook(folder / "notebooks", "04_student.ipynb", PARAMETERS + STUDENT, *cells)
    return "other code of 04_student"


def change_records(folder, parameters):
    records = folder / "data" / "quick" / "records" / "train"
    shutil.copytree(OLD_RECORDS, records)
    return "other inputs of 04_student (train)"


SPLITS = 'train_split: str = "train"  # split\n'
CHANGES = [change_parameter, change_profile, change_notebook, change_records]


@pytest.mark.parametrize("change", CHANGES)
def test_sweep_makes_anew_what_would_be_made_otherwise_and_says_why(
    runs, small_course, capsys, change
):
    folder = small_course / "notebooks"
    write_notebook(folder, "04_student.ipynb", PARAMETERS + STUDENT + SPLITS, "print(student)")
    parameters = {}
    sweep.run("quick", ["02", "04"], GRID, parameters)
    runs.names()
    capsys.readouterr()
    reason = change(small_course, parameters)
    assert sweep.run("quick", ["02", "04"], GRID, parameters) == [] and runs.names() == NAMES
    out = capsys.readouterr().out.splitlines()
    assert len([line for line in out if "made anew" in line and reason in line]) == 4
    assert "0 of 4 done before" in out
    assert sweep.run("quick", ["02", "04"], GRID, parameters) == [] and runs.names() == []


def test_sweep_is_not_made_anew_for_another_number_of_processors(runs, small_course):
    declared = PARAMETERS + STUDENT + "cores: int = 0  # processes\n"
    write_notebook(small_course / "notebooks", "04_student.ipynb", declared, "print(student)")
    sweep.run("quick", ["04"], GRID, {"cores": "1"})
    runs.names()
    assert sweep.run("quick", ["04"], GRID, {"cores": "2"}) == [] and runs.names() == []


def test_sweep_of_an_older_version_is_made_anew_with_a_sentence(runs, capsys):
    sweep.run("quick", ["04"], {"seed": ["1"]})
    (runs.reports / "sweep.json").write_text('{"seed=1": {"seed": "1"}}')
    runs.names()
    assert sweep.run("quick", ["04"], {"seed": ["1"]}) == [] and runs.names() == ["seed=1"]
    assert "no record of how 04_student was run" in capsys.readouterr().out


def test_sweep_counts_no_old_numbers_of_what_was_to_be_made_anew_and_failed(runs, write_card):
    for seed in "12":
        write_card(f"seed={seed}-distilled", dev=5.0)
    grid = {"seed": ["1", "2"]}
    sweep.run("quick", ["04"], grid)
    assert [row["runs"] for row in sweep.summary("quick", grid)] == [2]
    runs.failing = {"seed=2"}
    assert sweep.run("quick", ["04"], grid, {"alpha": "0"}) == ["seed=2"]
    assert [row["runs"] for row in sweep.summary("quick", grid)] == [1]
    # Not even with the parameters from before: what was begun has written over it.
    runs.names()
    runs.failing = set()
    assert sweep.run("quick", ["04"], {"seed": ["2"]}) == [] and runs.names() == ["seed=2"]
    assert [row["runs"] for row in sweep.summary("quick", grid)] == [2]


def test_sweep_runs_the_library_that_it_is_of_wherever_it_is_started(runs, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere" / "lttlib"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("raise SystemExit('the other one')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    sweep.run("quick", ["04"], {"seed": ["1"]})
    (variables,) = runs.environments
    library, more = variables["PYTHONPATH"].split(os.pathsep)
    assert Path(library) == Path(sweep.__file__).parents[2] and more == str(tmp_path / "more")
    command = [sys.executable, "-P", "-c", "import lttlib; print(lttlib.__file__)"]
    run = REAL_RUN(command, capture_output=True, text=True, env=variables, cwd=elsewhere.parent)
    assert run.stdout.strip() == str(Path(library) / "lttlib" / "__init__.py")


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_sweep_refuses_a_damaged_list_of_combinations(runs, text):
    runs.reports.mkdir(parents=True)
    path = runs.reports / "sweep.json"
    path.write_text(text)
    for use in (lambda: sweep.run("quick", ["04"], GRID), lambda: sweep.summary("quick", GRID)):
        with pytest.raises(Error) as error:
            use()
        assert error.value.path == path and "remove it" in error.value.cure
    assert runs.requests == [] and path.read_text() == text


def test_sweep_names_a_failure_keeps_its_log_and_runs_it_alone_again(runs, capsys):
    runs.failing = {NAMES[0], NAMES[2]}
    assert sweep.run("quick", ["04"], GRID) == [NAMES[0], NAMES[2]] and runs.names() == NAMES
    out = capsys.readouterr().out.splitlines()
    failures = [f"{NAMES[0]}: failed", f"{NAMES[2]}: failed"]
    assert [line for line in out if "failed" in line] == failures
    logs = {path.stem: path.read_text() for path in runs.reports.glob("*.log")}
    assert sorted(logs) == NAMES
    assert logs[NAMES[0]] == "04_student ...\nltt: 04_student stopped in cell [3]\n"
    runs.failing = {NAMES[2]}
    assert sweep.run("quick", ["04"], GRID) == [NAMES[2]] and runs.names() == [NAMES[0], NAMES[2]]
    assert "stopped" in (runs.reports / f"{NAMES[2]}.log").read_text()
    assert "stopped" not in (runs.reports / f"{NAMES[0]}.log").read_text()
    assert not [path for path in runs.reports.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "only, grid, parameters, jobs, problem",
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
def test_sweep_refuses_a_request_before_anything_runs(runs, only, grid, parameters, jobs, problem):
    with pytest.raises(Error, match=problem):
        sweep.run("quick", only, grid, parameters, jobs)
    assert runs.requests == [] and not course.DATA.exists()


def test_sweep_of_an_unknown_profile_is_refused(runs):
    with pytest.raises(Error, match="unknown profile 'quik'"):
        sweep.run("quik", ["04"], GRID)


@pytest.mark.parametrize("jobs", [1, 2])
def test_sweep_runs_as_many_at_a_time_as_jobs(runs, monkeypatch, jobs):
    running, most = 0, 0
    lock, pair = threading.Lock(), threading.Barrier(jobs, timeout=10)

    def counted(*arguments, **options):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait()
        with lock:
            running -= 1
        return runs(*arguments, **options)

    monkeypatch.setattr(sweep.subprocess, "run", counted)
    assert sweep.run("quick", ["04"], GRID, jobs=jobs) == []
    assert most == jobs and sorted(runs.names()) == NAMES


SHOW_FIGURE = """from lttlib import course
course.figure_path(profile, 'shown').write_text(f'{student} {alpha}')"""
NEED_CURE = """import pathlib
assert seed < 2 or pathlib.Path('cure').exists(), 'not yet'"""


def names_in(folder):
    """Names of the files in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
@pytest.mark.skipif(os.cpu_count() < 2, reason="a single processor is not shared out")
def test_sweep_shares_the_processors_out_among_its_jobs(runs, monkeypatch):
    """A process takes over the processors of the thread that starts it."""
    before = os.sched_getaffinity(0)
    shares = set()
    pair = threading.Barrier(2, timeout=10)

    def noted(*arguments, **options):
        pair.wait()
        shares.add(frozenset(os.sched_getaffinity(0)))
        return runs(*arguments, **options)

    monkeypatch.setattr(sweep.subprocess, "run", noted)
    sweep.run("quick", ["04"], GRID, jobs=2)
    assert len(shares) == 2 and frozenset.union(*shares) == before
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_sweep_of_real_processes_keeps_their_figures_apart(small_course, monkeypatch, capsys):
    """All of it is real: a clone with its own library, two processes at a time, and kernels."""
    library = Path(sweep.__file__).parents[1]
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(library, small_course / "lttlib", ignore=ignore)
    cells = (SHOW_FIGURE, NEED_CURE)
    write_notebook(small_course / "notebooks", "04_student.ipynb", PARAMETERS + STUDENT, *cells)
    monkeypatch.chdir(small_course)
    monkeypatch.setattr(report, "LIBRARY", small_course)
    monkeypatch.delenv("LTT_DATA", raising=False)
    reports, grid = small_course / "data" / "quick" / "reports", {"seed": ["1", "2"]}
    assert sweep.run("quick", ["04"], grid, {"alpha": "0.25"}, jobs=2) == ["seed=2"]
    names = ["04_student.html", "04_student.ipynb", "index.html", "quick-shown.png"]
    assert names_in(reports / "seed=1") == names
    assert (reports / "seed=1" / "quick-shown.png").read_text() == "seed=1 0.25"
    assert "AssertionError: not yet" in (reports / "seed=2.log").read_text()
    assert not (small_course / "figures").exists()
    assert not (small_course / "data" / "figures").exists()

    (small_course / "notebooks" / "cure").touch()
    before = (reports / "seed=1" / "04_student.html").stat().st_mtime_ns
    assert sweep.run("quick", ["04"], grid, {"alpha": "0.25"}) == []
    assert "1 of 2 done before" in capsys.readouterr().out
    assert (reports / "seed=1" / "04_student.html").stat().st_mtime_ns == before
    assert names_in(reports / "seed=2") == names
    logs = ["seed=1.log", "seed=2.log"]
    assert names_in(reports) == sorted([*logs, "seed=1", "seed=2", "sweep.json"])


@pytest.fixture
def write_card(small_course):
    """Writes models of which there is only the card, with an error rate for each split."""

    def write(name, parameters=100, size=4000, **rates):
        files = {"spec.json": 30, "weights.safetensors": size}
        card = {"name": name, "parameters": parameters, "files": files}
        if rates:
            card["results"] = {split: {"LER": rate, "WER": 90.0} for split, rate in rates.items()}
        folder = course.profile_folder("quick") / "models" / name
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(json.dumps(card))

    return write


def test_summary_has_the_mean_and_its_interval_worked_by_hand(write_card):
    """t sd / sqrt(n) for n values, with t from the table: 4.303 for n = 3, 12.706 for n = 2."""
    for seed, rate in {"1": 10.0, "2": 12.0, "3": 14.0}.items():
        write_card(f"seed={seed}-distilled", dev=rate)
    (row,) = sweep.summary("quick", {"seed": ["1", "2", "3"]})
    assert row.pop("ci_half_width") == pytest.approx(4.302653 * 2 / math.sqrt(3), abs=1e-5)
    model = {"technique": "distilled", "values": {}, "parameters": 100, "bytes": 4000}
    assert row == model | {"split": "dev", "LER": 12.0, "runs": 3}
    (row,) = sweep.summary("quick", {"seed": ["3", "1"]})
    assert (row["LER"], row["runs"]) == (12.0, 2)
    assert row["ci_half_width"] == pytest.approx(12.706205 * 2, abs=1e-5)
    (row,) = sweep.summary("quick", {"seed": ["2"]})
    assert (row["LER"], row["runs"]) == (12.0, 1) and math.isnan(row["ci_half_width"])


def test_summary_of_equal_rates_has_an_interval_of_nothing(write_card):
    for seed in "12":
        write_card(f"seed={seed}-labels", test=7.5)
    (row,) = sweep.summary("quick", {"seed": ["1", "2"]})
    assert (row["LER"], row["ci_half_width"]) == (7.5, 0.0)


TECHNIQUES = {"distilled": (100, 1000), "labels": (200, 2000)}  # parameters and bytes


@pytest.fixture
def swept(write_card):
    """Models of two techniques, alphas and seeds; their error rates on dev, on test 0.5 more."""
    rates = {}
    for alpha, seed in itertools.product("01", "12"):
        for number, (technique, sizes) in enumerate(TECHNIQUES.items()):
            rate = 10 * int(alpha) + int(seed) + 30 * number
            rates[technique, alpha, seed] = rate
            name = f"alpha={alpha},seed={seed}-{technique}"
            write_card(name, *sizes, dev=rate, test=rate + 0.5)
    return rates


def test_summary_has_a_row_for_each_technique_split_and_value_of_all_but_over(swept):
    grid = {"alpha": ["0", "1"], "seed": ["1", "2"]}
    rows = sweep.summary("quick", grid)
    keys = {(row["technique"], row["values"]["alpha"], row["split"]) for row in rows}
    assert len(keys) == len(rows) == 8 and {len(row["values"]) for row in rows} == {1}
    for row in rows:
        technique, alpha = row["technique"], row["values"]["alpha"]
        mean = (swept[technique, alpha, "1"] + swept[technique, alpha, "2"]) / 2
        assert (row["LER"], row["runs"]) == (mean + 0.5 * (row["split"] == "test"), 2)
        assert row["ci_half_width"] == pytest.approx(12.706205 * 0.5, abs=1e-5)
        assert (row["parameters"], row["bytes"]) == TECHNIQUES[technique]
    over_alpha = sweep.summary("quick", grid, over="alpha")
    assert {(row["values"]["seed"], row["runs"]) for row in over_alpha} == {("1", 2), ("2", 2)}
    for row in sweep.summary("quick", grid, over="epochs"):
        assert math.isnan(row["ci_half_width"]) and row["runs"] == 1


def test_summary_does_not_mix_up_names_that_begin_with_one_another(write_card):
    for number, name in enumerate(["seed=1", "seed=10", "seed=1,alpha=2", "seed=1e"]):
        write_card(f"{name}-labels", dev=10.0 + number)
    rows = sweep.summary("quick", {"seed": ["1", "10"]}, over="alpha")
    results = {row["values"]["seed"]: (row["LER"], row["runs"]) for row in rows}
    assert results == {"1": (10.0, 1), "10": (11.0, 1)}
    for number, name in enumerate(["teacher=big", "teacher=big-2", "teacher=big-2-b"]):
        for technique in ("distilled", "b"):
            write_card(f"{name}-{technique}", dev=20.0 + number)
    rows = sweep.summary("quick", {"teacher": ["big", "big-2", "big-2-b"]})
    results = [(row["values"]["teacher"], row["technique"], row["LER"]) for row in rows]
    assert sorted(results) == [
        ("big", "b", 20.0),
        ("big", "distilled", 20.0),
        ("big-2", "b", 21.0),
        ("big-2", "distilled", 21.0),
        ("big-2-b", "b", 22.0),
        ("big-2-b", "distilled", 22.0),
    ]


def test_summary_knows_the_models_of_other_sweeps_by_their_names(runs, write_card):
    for name in ("held=big", "held=big-2"):
        write_card(f"{name}-labels", dev=10.0)
    sweep.run("quick", ["04"], {"held": ["['big']"]})
    assert len(sweep.summary("quick", {"held": ["['big']"]})) == 2, "2-labels may be a technique"
    sweep.run("quick", ["04"], {"held": ["['big-2']"]})
    (row,) = sweep.summary("quick", {"held": ["['big']"]})
    assert row["technique"] == "labels"


def test_summary_leaves_out_what_has_no_results_and_what_is_of_no_sweep(write_card):
    write_card("seed=1-labels", dev=10.0, test=20.0)
    write_card("seed=2-labels", dev=12.0)  # a run that was stopped, with other splits
    write_card("seed=2-hinted")
    for other in ("teacher", "student-labels", "seed=3-labels", "labels"):
        write_card(other, dev=99.0)
    models = course.profile_folder("quick") / "models"
    (models / "seed=1-labels.checkpoint").write_text("no folder")
    (models / "seed=2-distilled").mkdir()
    rows = sweep.summary("quick", {"seed": ["1", "2"]})
    results = [(row["split"], row["LER"], row["runs"]) for row in rows]
    assert results == [("dev", 11.0, 2), ("test", 20.0, 1)]
    assert sweep.summary("digits", {"seed": ["1", "2"]}) == []
