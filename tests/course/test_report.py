"""The table of results and the index of reports against a parser of HTML."""

import html.parser

import nbformat
import pytest
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError

from lttlib import Error
from lttlib.course import report

RATES = {"LER": 5.0, "LER_ci": [4.0, 6.0], "WER": 20.0, "WER_ci": [15.0, 25.0]}


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, the text, and the text of each cell of a table."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.cells = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        self.text += data
        if self.cells:
            self.cells[-1] += data

    def is_self_contained(self):
        values = [str(value) for _, attributes in self.tags for value in attributes.values()]
        return not any(value.startswith("http") for value in values)


def result(name, decoder="greedy", speed=None, **rates):
    row = {"name": name, "technique": "some <technique>", "decoder": decoder, "split": "dev"}
    row |= {"parameters": 12345, "bytes": 900, "real_time_factor": speed, "seconds": None}
    return row | RATES | rates


def test_results_table_shows_rates_intervals_and_sizes_as_text():
    rows = [result("A <model>"), result("another", speed=0.1)]
    reader = Reader(report.results_table(rows))
    tags = [tag for tag, _ in reader.tags]
    assert (
        tags.count("td") == 8 * len(rows) and tags.count("th") == 8 and reader.is_self_contained()
    )
    first, second = (" ".join(reader.cells[start : start + 8]).split() for start in (8, 16))
    sizes, rates = ["greedy", "12,345", "900"], "5.00 (4.0 to 6.0) 20.00 (15.0 to 25.0)".split()
    assert first == ["A", "<model>", "some", "<technique>", *sizes, *rates, "–"]
    assert second == ["another", "some", "<technique>", *sizes, *rates, "0.10000"]


def test_results_table_shows_no_interval_of_a_single_utterance():
    reader = Reader(report.results_table([result("a", LER_ci=None, WER_ci=None)]))
    assert reader.cells[13:15] == ["5.00", "20.00"]


def test_results_table_has_those_with_a_language_model_first_and_the_best_of_each():
    rows = [
        result("worse", LER=7.0, WER=1.0),
        result("better", LER=6.0, WER=30.0),
        result("worse", "lm", LER=1.0, WER=15.0),
        result("better", "lm", LER=9.0, WER=10.0),
    ]
    cells = Reader(report.results_table(rows)).cells[8:]
    order = list(zip(cells[::8], cells[2::8], strict=True))
    assert order == [("better", "lm"), ("worse", "lm"), ("better", "greedy"), ("worse", "greedy")]


@pytest.fixture
def reports(tmp_path):
    """Executed notebooks: one whole, one failed, one that was killed."""

    def write(name, heading, seconds=None):
        cells = [nbformat.v4.new_markdown_cell(heading)]
        metadata = {} if seconds is None else {"papermill": {"duration": seconds}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / name)

    write("01_features.ipynb", "Text\n\n# Features <of> speech", 12.3)
    (tmp_path / "01_features.html").write_text("whole")
    write("02_teacher.failed.ipynb", "# A teacher")
    write("03_guidance.partial.ipynb", "# Guidance")
    return tmp_path


def test_index_links_reports_by_heading_and_failures_and_needs_nothing_from_outside(reports):
    path = report.write_index(reports, "A <profile>")
    reader = Reader(path.read_text(encoding="utf-8"))
    assert path == reports / "index.html" and reader.is_self_contained()
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in reader.tags
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert links == ["01_features.html", "02_teacher.failed.ipynb"]
    cells = [cell.strip() for cell in reader.cells]
    assert cells == ["01 Features <of> speech", "12 s", "02_teacher", "failed"]
    assert "Listen to the Teacher! A <profile>" in reader.text


def test_index_gives_a_heading_that_has_its_number_no_other_one(reports):
    path = reports / "01_features.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("# Features", "# 01 Features"), encoding="utf-8")
    reader = Reader(report.write_index(reports, "quick").read_text(encoding="utf-8"))
    assert reader.cells[0].strip() == "01 Features <of> speech"


def test_index_links_the_report_of_all_models_first(reports):
    (reports / "09_report.html").write_text("whole")
    reader = Reader(report.write_index(reports, "quick").read_text(encoding="utf-8"))
    assert reader.tags[[tag for tag, _ in reader.tags].index("a")][1] == {"href": "09_report.html"}
    assert reader.cells[0].strip() == "All models side by side"


@pytest.mark.parametrize(
    "error, cause",
    [
        (RuntimeError("Kernel died before replying to kernel_info"), "did not start"),
        (NoSuchKernel("python3"), "did not start"),
        (DeadKernelError("Kernel died"), "enough memory"),
    ],
)
def test_notebook_whose_kernel_dies_is_told_in_words(tmp_path, monkeypatch, error, cause):
    def run_cells(*_):
        raise error

    monkeypatch.setattr(report, "_run_cells", run_cells)
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "01_features.ipynb")
    with pytest.raises(report.NotebookError, match=f"01_features stopped in .*{cause}"):
        report.execute(tmp_path / "01_features.ipynb", {}, tmp_path, {})


def test_notebook_that_cannot_become_a_page_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_run_cells", lambda *_: pytest.fail("it ran"))
    cell = nbformat.v4.new_markdown_cell("# A $\\nosuch$")
    path = tmp_path / "01_features.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(Error, match="cell 0 .*nosuch"):
        report.execute(path, {}, tmp_path / "reports", {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("teacher", "teacher"),
        ("student-labels", "label only"),
        ("student-quantized4", "quantized distillation, 4 bits"),
        ("student-teacher-rounded3", "teacher, 3 bits"),
        ("student-int8", "8 bits throughout"),
        ("student-float16", "float16"),
        ("student-of-mine", "of-mine"),
    ],
)
def test_names_of_models_become_words(name, words):
    assert report.readable_name(name) == words


CHANGE = {"points": -1.94, "points_ci": [-3.5, -0.37], "certain": True}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "1.9 points of LER less than B (95 %: −3.5 to −0.4)"),
        (
            {"points": 2.0, "points_ci": [1, 3]},
            "2.0 points of LER more than B (95 %: +1.0 to +3.0)",
        ),
        (
            {"points_ci": [-3.5, 0.1], "certain": False},
            "of LER beside B nothing can be said (95 %: −3.5 to +0.1)",
        ),
        (
            {"points_ci": None, "certain": False},
            "of LER beside B nothing can be said (no interval: a single utterance)",
        ),
    ],
)
def test_difference_is_claimed_only_where_its_interval_is_without_0(change, text):
    shown = report.describe_difference(CHANGE | change, "B")
    assert shown.replace("\u00a0", " ") == text


def test_difference_leaves_the_hyphen_of_a_name():
    shown = report.describe_difference(CHANGE, "8-bit weights")
    assert "less than 8-bit weights (95" in shown and "−3.5" in shown


def test_choice_table_names_a_model_for_each_device_or_none():
    errors = {"characters": [1, 0, 2]}
    scored = {"errors": errors, "lengths": {"characters": [10, 10, 10]}}
    worse = scored | {"errors": {"characters": [2, 1, 3]}}
    small = result("student-a") | {"label": "a <small>", "result": worse}
    large = result("teacher") | {"label": "teacher", "result": scored}
    page = report.choice_table({"1 kB": small, "1 byte": None, "all": large}, large, "models")
    cells = [cell.strip() for cell in Reader(page).cells]
    assert cells[4] == "beside teacher"
    assert cells[6:9] == ["1 kB", "a <small>", "900"]
    assert cells[10:12] == ["+10.0 (+10.0 to +10.0)", "ltt transcribe models/student-a speech.wav"]
    assert cells[12:14] == ["1 byte", "none is as small"]
    assert cells[22] == "+0.0 (+0.0 to +0.0): not certain"
