"""Tables of a run of quick, from cards and times worked by hand."""

import quick_tables

RESULT = {
    "LER": 10.04,
    "LER_ci": [8.0, 12.0],
    "WER": 20.0,
    "WER_ci": [15.0, 25.0],
    "errors": {"characters": [1, 1]},
    "lengths": {"characters": [10, 10]},
}
CARD = {
    "parameters": 1234,
    "files": {"spec.json": 10, "weights": 5678},
    "seconds": 61.2,
    "results": {"dev": RESULT, "test": RESULT},
    "lm_results": {"test": RESULT | {"WER": 5.0, "WER_ci": [4.0, 6.0]}},
}


def test_tables_of_quick_have_a_row_for_each_model_and_notebook():
    cards = {name: CARD for name in quick_tables.STUDENTS}
    better = RESULT | {"errors": {"characters": [0, 0]}}
    cards["student-distilled"] = CARD | {"results": {"dev": better, "test": better}}
    rows = quick_tables.rows_by_table(cards, {"00": 0.5, "01": 1.25, "all": 1.6})
    assert rows["teachers-quick"][1] == [
        "test: others never heard", "1,234", "61 s", "10.04 (8.0 to 12.0)", "20.0 (15.0 to 25.0)",
    ]  # fmt: skip
    assert len(rows["students-quick"]) == len(quick_tables.STUDENTS)
    assert rows["students-quick"][0] == ["teacher", "1,234", "5,678", "10.0 (8.0 to 12.0)"]
    assert rows["listening-quick"][0] == ["test", "-10.0", "-10.0 to -10.0"]
    words = ["teacher", "20.0 (15.0 to 25.0)", "5.0 (4.0 to 6.0)"]
    assert rows["words-quick"][0] == words
    assert rows["minutes-quick"] == [["00", "0.5"], ["01", "1.2"], ["all", "2"]]


def test_tables_of_quick_are_those_of_the_file():
    entries = quick_tables.parse_json(quick_tables.TABLES.read_bytes())
    names = [row[0] for row in entries["students-quick"]["rows"]]
    assert names == list(quick_tables.STUDENTS.values())
    words = [row[0] for row in entries["words-quick"]["rows"]]
    assert words == list(quick_tables.WORDS.values())


def test_minutes_of_all_are_those_that_one_waits_where_notebooks_run_side_by_side():
    times = {
        "05": ("2026-01-01T10:00:00+00:00", "2026-01-01T10:03:00+00:00", 180.0),
        "06": ("2026-01-01T10:00:30+00:00", "2026-01-01T10:05:00+00:00", 270.0),
    }
    runs = {}
    for number, (start, end, seconds) in times.items():
        runs[number] = {"start_time": start, "end_time": end, "duration": seconds}
    assert quick_tables.minutes_of(runs) == {"05": 3.0, "06": 4.5, "all": 5.0}
