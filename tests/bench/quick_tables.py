"""Put what `ltt run quick` measured on this machine into the tables of notebooks/measured.json.

    .venv/bin/python tests/bench/quick_tables.py "two cores of ..., float32"

The argument says the machine. `make results` then writes the pages.
"""

import datetime
import json
import subprocess
import sys
from pathlib import Path

from lttlib.course.notebooks import profile_folder
from lttlib.course.tables import TABLES
from lttlib.files import parse_json
from lttlib.recognition import difference

# Rows of the table students-quick by the folder of their model.
STUDENTS = {
    "teacher": "teacher",
    "student-teacher-rounded8": "the teacher rounded afterwards, 8 bits",
    "student-teacher-rounded4": "the teacher rounded afterwards, 4 bits",
    "student-teacher-rounded3": "the teacher rounded afterwards, 3 bits",
    "student-teacher-rounded2": "the teacher rounded afterwards, 2 bits",
    "student-labels": "label only",
    "student-distilled": "distilled",
    "student-deep": "distilled, deep and thin",
    "student-deep-longer": "the same for the epochs of hints as well",
    "student-fitnet": "deep and thin, after hints (FitNet)",
    "student-quantized4": "quantized distillation, 4 bits",
    "student-quantized2": "quantized distillation, 2 bits",
    "student-mixed2": "... four for depthwise kernels and the output layer",
    "student-levels2": "levels that learn as well, 2 bits",
    "student-rounded4": "rounded afterwards, 4 bits",
    "student-rounded3": "rounded afterwards, 3 bits",
    "student-rounded2": "rounded afterwards, 2 bits",
    "student-fitted4": "the same to fitted levels, 4 bits",
    "student-fitted3": "the same to fitted levels, 3 bits",
    "student-fitted2": "the same to fitted levels, 2 bits",
}
SPLITS = {"dev": "dev: voices never heard", "test": "test: others never heard"}
WORDS = {"teacher": "teacher", "student-distilled": "distilled student"}


def rate(result, name="LER", digits=1) -> str:
    """An error rate with its interval, as the tables have it."""
    low, high = result[f"{name}_ci"]
    return f"{result[name]:.{digits}f} ({low:.1f} to {high:.1f})"


def rows_by_table(cards, minutes) -> dict:
    """The rows of each table, from the cards by model and the minutes by notebook and of all."""
    teacher = cards["teacher"]
    teacher_rows = []
    for split, name in SPLITS.items():
        result = teacher["results"][split]
        size = [f"{teacher['parameters']:,}", f"{teacher['seconds']:.0f} s"]
        teacher_rows.append([name, *size, rate(result, digits=2), rate(result, "WER")])

    student_rows = []
    for folder, name in STUDENTS.items():
        card = cards[folder]
        size = [f"{card['parameters']:,}", f"{max(card['files'].values()):,}"]
        student_rows.append([name, *size, rate(card["results"]["test"])])

    listening_rows = []
    for split in ("test", "dev"):
        results = [cards[f"student-{name}"]["results"] for name in ("distilled", "labels")]
        change = difference(*(result[split] for result in results))
        low, high = change["points_ci"]
        listening_rows.append([split, f"{change['points']:.1f}", f"{low:.1f} to {high:.1f}"])

    word_rows = []
    for folder, name in WORDS.items():
        card = cards[folder]
        results = [card["results"]["test"], card["lm_results"]["test"]]
        word_rows.append([name, *(rate(result, "WER") for result in results)])

    minute_rows = [[number, f"{value:.1f}"] for number, value in sorted(minutes.items())]
    minute_rows[-1][1] = f"{minutes['all']:.0f}"
    return {
        "teachers-quick": teacher_rows,
        "students-quick": student_rows,
        "listening-quick": listening_rows,
        "words-quick": word_rows,
        "minutes-quick": minute_rows,
    }


def minutes_of(runs) -> dict:
    """Minutes of each notebook, and of all from the first start to the last end."""
    minutes = {number: run["duration"] / 60 for number, run in runs.items()}
    times = {}
    for end in ("start_time", "end_time"):
        times[end] = [datetime.datetime.fromisoformat(run[end]) for run in runs.values()]
    elapsed = max(times["end_time"]) - min(times["start_time"])
    return minutes | {"all": elapsed.total_seconds() / 60}


def main(machine):
    """Read the cards and reports of quick, and write the tables."""
    folder = profile_folder("quick")
    cards = {}
    for name in STUDENTS:
        cards[name] = parse_json((folder / "models" / name / "card.json").read_bytes())
    runs = {}
    for path in sorted((folder / "reports").glob("0[0-9]_*.ipynb")):
        runs[path.name[:2]] = parse_json(path.read_bytes())["metadata"]["papermill"]
    if len(runs) != 10:
        raise SystemExit(f"run all notebooks first; there are reports of {', '.join(runs)}")
    minutes = minutes_of(runs)

    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    origin = {"machine": machine, "commit": commit, "date": f"{datetime.date.today()}"}
    entries = parse_json(TABLES.read_bytes())
    for name, rows in rows_by_table(cards, minutes).items():
        entries[name]["rows"] = rows
        entries[name]["origin"] |= origin
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    Path(TABLES).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
