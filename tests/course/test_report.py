"""The report's rows against cards written by hand, and its page against a parser of HTML."""

import base64
import html.parser

import matplotlib.pyplot as plt
import pytest

from lttlib.course import experiments, report
from lttlib.files import write_json

RATES = {"LER": 5.0, "LER_ci": [4.0, 6.0], "WER": 20.0, "WER_ci": [15.0, 25.0]}


@pytest.fixture
def models(tmp_path):
    def model(name, **facts):
        card = {"name": name, "parameters": 10, "files": {"weights": 900, "spec.json": 100}} | facts
        write_json(tmp_path / name / "card.json", card)

    model(
        "teacher",
        technique="teacher",
        results={"dev": RATES, "test": RATES | {"LER": 7.0}},
        seconds=3.5,
    )
    model(
        "student-distilled",
        results={"dev": RATES},
        lm_results={"dev": RATES | {"WER": 10.0}},
        real_time_factor=0.1,
    )
    model("student-empty")
    (tmp_path / "student-broken").mkdir()
    (tmp_path / "student-broken" / "card.json").write_text("{")
    (tmp_path / "student-half").mkdir()
    model("other", results={"dev": RATES})
    (tmp_path / "teacher.checkpoint").write_bytes(b"")
    return tmp_path


def test_a_row_for_each_model_split_and_decoder(models):
    rows = experiments.load_results(models, ("teacher", "student-"))
    good = [
        (row["name"], row["split"], row["decoder"], row["LER"], row["WER"])
        for row in rows
        if "problem" not in row
    ]
    assert good == [
        ("student-distilled", "dev", "greedy", 5.0, 20.0),
        ("student-distilled", "dev", "lm", 5.0, 10.0),
        ("teacher", "dev", "greedy", 5.0, 20.0),
        ("teacher", "test", "greedy", 7.0, 20.0),
    ]
    assert [row["real_time_factor"] for row in rows if "problem" not in row] == [
        0.1,
        0.1,
        None,
        None,
    ]
    assert {row["bytes"] for row in rows if "problem" not in row} == {900}


def test_what_cannot_be_told_is_told(models):
    problems = {
        row["name"]: row["problem"] for row in experiments.load_results(models) if "problem" in row
    }
    assert set(problems) == {"student-broken", "student-empty", "student-half"}
    assert "not whole" in problems["student-broken"] and "missing" in problems["student-half"]
    assert "no results" in problems["student-empty"]
    assert experiments.load_results(models / "nowhere") == []


def test_the_frontier_is_what_no_other_row_beats():
    rows = [
        {"bytes": size, "LER": rate}
        for size, rate in [(10, 9), (20, 5), (20, 6), (30, 5), (40, 7), (50, 1), (None, 0)]
    ]
    found = experiments.pareto_front(rows)
    beaten = [
        row
        for row in rows
        if row["bytes"] is not None
        and not any(
            o is not row and o["bytes"] and o["bytes"] <= row["bytes"] and o["LER"] <= row["LER"]
            for o in rows
        )
    ]
    assert found == sorted(beaten, key=lambda row: row["bytes"]) == [rows[0], rows[1], rows[5]]


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_page_carries_its_figures_and_says_what_they_show(models, tmp_path):
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    rows = [row for row in experiments.load_results(models) if "problem" not in row]
    parts = [report.table(rows), report.figure_html(figure, 'Errors "rise" & fall')]
    plt.close(figure)
    path = report.write_page(tmp_path / "report.html", "A <report>", parts)
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert [image["alt"] for image in images] == ['Errors "rise" & fall']
    assert base64.b64decode(images[0]["src"].partition(",")[2])[:4] == b"\x89PNG"
    assert (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ) in reader.tags
    assert "A <report>" in reader.text and "5.00 (4.0 to 6.0)" in reader.text
    assert not [a for _, a in reader.tags if any(str(v).startswith("http") for v in a.values())], (
        "nothing from outside"
    )
    cells = [tag for tag, _ in reader.tags if tag == "td"]
    assert len(cells) == 8 * len(rows)
