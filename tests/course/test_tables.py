"""Tables of what was measured elsewhere: one file, and pages that say the same."""

import json
from pathlib import Path

import pytest

from lttlib import Error, course
from lttlib.course import tables

CHECKOUT = Path(__file__).resolve().parents[2]

TABLE = {
    "title": "Two models",
    "columns": ["model", "LER (%)"],
    "rows": [["big", 1.5], ["small", "2.5 ± 0.3"]],
    "origin": {"machine": "two cores", "date": "2026-01-02", "command": "ltt run"},
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "measured.json"
    monkeypatch.setattr(tables, "TABLES", path)

    def write(**changes):
        path.write_text(json.dumps({"models": TABLE | changes}), encoding="utf-8")
        return path

    return write


def test_table_says_its_numbers_and_their_origin(file):
    file()
    table = tables.measured_tables(tables.TABLES)["models"]
    assert table.value("small", "LER (%)") == "2.5 ± 0.3"
    page = table._repr_html_()
    for text in ["<td>2.5 ± 0.3</td>", "machine two cores", "date 2026-01-02"]:
        assert text in page
    assert table.markdown().splitlines()[2] == "| big | 1.5 |"


@pytest.mark.parametrize("key", ["machine", "date", "command"])
def test_number_without_an_origin_is_refused(file, key):
    path = file(origin=TABLE["origin"] | {key: ""})
    with pytest.raises(Error, match=f"models does not say its {key}"):
        tables.measured_tables(path)


def test_row_that_does_not_fit_is_refused(file):
    path = file(rows=[["big"]])
    with pytest.raises(Error, match="do not fit"):
        tables.measured_tables(path)


def test_unknown_table_is_refused_with_the_names_that_there_are():
    with pytest.raises(Error, match="guidance-forms"):
        course.measured("nothing")


def test_pages_say_what_is_in_the_file_today():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert tables.with_tables(readme) == readme, "make results"
    results = (CHECKOUT / "RESULTS.md").read_text(encoding="utf-8")
    assert tables.results_page() == results, "make results"


def test_table_between_markers_is_replaced():
    old = "before\n<!-- measured guidance-forms -->\nold\n<!-- end -->\nafter\n"
    new = tables.with_tables(old)
    assert "old" not in new and "float16" in new
    assert new.startswith("before\n") and new.endswith("<!-- end -->\nafter\n")
    assert tables.with_tables(new) == new


def test_page_with_an_unknown_table_is_refused():
    with pytest.raises(Error, match="no table 'x'"):
        tables.with_tables("<!-- measured x -->\n<!-- end -->")
