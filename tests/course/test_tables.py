"""Tables of what was measured elsewhere: one file, and pages that say the same."""

import json
import re
from pathlib import Path

import pytest

from lttlib import Error, course
from lttlib.course import experiments, tables

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


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chapter": "Nowhere"}, "names no chapter"),
        ({"figures": [["a.png", ""]]}, "figure without a text"),
        ({"origin": TABLE["origin"] | {"when": "once"}}, "origin of other names"),
        ({"rows": [["{nothing|big|LER (%)}", 1]]}, "repeats 'nothing'"),
        ({"rows": [["{models|huge|LER (%)}", 1]]}, "not one cell of 'huge'"),
    ],
)
def test_table_that_promises_what_is_not_there_is_refused(file, changes, problem):
    path = file(**changes)
    with pytest.raises(Error, match=problem):
        tables.measured_tables(path)


def test_cell_repeats_what_another_one_says(file):
    path = file(rows=[["big", 1.5], ["again", "LER {models|big|LER (%)} %"]])
    assert tables.measured_tables(path)["models"].rows[1][1] == "LER 1.5 %"


def test_results_have_chapters_notes_pictures_and_commands(file):
    text = "what one sees"
    file(chapter="Students", note="A note.", figures=[["a.png", text]])
    page = tables.results_page()
    order = ["# Results", "## Students", "### Two models", "A note.", "| big | 1.5 |"]
    order += [f"![{text}](figures/a.png)", "machine two cores", "```\nltt run\n```"]
    places = [page.index(part) for part in order]
    assert places == sorted(places)
    assert "## Teachers" not in page


def number(cell):
    return float(cell.replace(",", ""))


def test_frontier_in_bold_is_that_of_its_numbers():
    for name in ("frontier-digits", "frontier-ljspeech"):
        rows, bold = tables._models(course.measured(name))
        assert experiments.pareto_front(rows) == bold


def test_plan_follows_from_the_slopes_of_what_was_measured():
    growth, plan = course.measured("growth"), course.measured("plan")

    def slope(column):
        index = growth.columns.index(column)
        (x, y), (later_x, later_y) = [(number(r[0]), number(r[index])) for r in growth.rows[1:]]
        return (later_y - y) / (later_x - x)

    step = number(
        course.measured("speed").value(
            "training step, 23.6 M; the stock recipe of Keras, float32", "ours (ms)"
        )
    )
    for column, minutes in [("100 h of speech", 6000), ("960 h of speech", 57600)]:
        hours = {
            "records on two cores (hours)": minutes * slope("prepare (s)") / 3600,
            "records (GB)": minutes * slope("records (MB)") / 1000,
            "teacher of 237,869 parameters on two cores (hours)": 20
            * minutes
            * slope("train (s)")
            / 3600,
            "teacher of 23.6 million parameters on two cores (hours)": 20
            * (minutes / 60)
            * step
            / 1000
            / 160
            * 3600,
        }
        for row, expected in hours.items():
            assert number(plan.value(row, column)) == pytest.approx(expected, rel=0.05), row


def test_frontiers_are_drawn_from_their_tables(tmp_path):
    tables.draw_frontiers(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"digits-frontier.png", "ljspeech-frontier.png"}


def test_tables_in_short_are_those_that_readme_begins_with():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"<!-- measured (\S+) -->", readme)
    assert {"course", "in-short"} <= set(names)
    for name in names:
        assert f"### {course.measured(name).title}" in tables.results_page()


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
