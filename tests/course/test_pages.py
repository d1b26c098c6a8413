"""Pages of notebooks against a parser of HTML: whole, offline, with a text for all that is seen."""

import re
from xml.etree import ElementTree

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lttlib import Error, cli
from lttlib.course import notebooks, pages

COURSE = pages._sources(notebooks.NOTEBOOKS)
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
)
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
AUDIO = '<audio controls><source src="data:audio/wav;base64,UklG" type="audio/wav"/></audio>'
FORMULA = re.compile(r"(?<!\\)\$\$.+?\$\$|(?<![\\$])\$[^$]+\$", re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def read(text):
    return BeautifulSoup(text, "html.parser")


def page_of(*cells, path="01_a.ipynb", folder=None):
    """The parsed page of a notebook of these cells."""
    source = (folder or notebooks.NOTEBOOKS) / path
    return read(pages.notebook_page(new_notebook(cells=list(cells)), source))


def output_of(*outputs, **metadata):
    """What the page shows of a cell with these outputs, under a heading."""
    cell = new_code_cell("1", outputs=list(outputs), metadata=metadata)
    return page_of(new_markdown_cell("# 01 A: why?\n\n## Some <em>sounds</em>"), cell).main


def display(**data):
    kinds = {name.replace("__", "/").replace("svg_", "svg+"): data[name] for name in data}
    return new_output("display_data", kinds)


def assert_stands_alone(page):
    """Nothing is fetched; ids are unique and their links lead there; all pictures have a text."""
    for element in page.find_all(True):
        for name in ("src", "srcset", "data", "poster"):
            assert str(element.get(name, "data:")).startswith("data:"), element.name
    assert not page.find_all(["script", "link", "iframe", "object", "embed"])
    style = "".join(sheet.string for sheet in page.find_all("style"))
    assert not re.search(r"url\(|@import", style)
    for word in ("mathjax", "require.js", "jquery", "cdn."):
        assert word not in str(page).lower()
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for link in page.find_all("a", href=re.compile("^#")):
        assert link["href"][1:] in ids
    for image in page.find_all("img"):
        assert len(image["alt"]) > 3 and "No description" not in image["alt"]


@pytest.mark.parametrize(
    "tex, expected",
    [
        ("x^2", "<msup><mi>x</mi><mn>2</mn></msup>"),
        (r"\tfrac{1}{2}", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>"),
        (r"\log p", '<mi>log</mi><mspace width="0.17em"></mspace><mi>p</mi>'),
        (r"\log_2 p", '<mn>2</mn></msub><mspace width="0.17em"></mspace><mi>p</mi>'),
        (r"\log(p)", '<mi>log</mi><mo stretchy="false">(</mo>'),
        (r"\arg\max_w w", "arg\u2009max</mo><mi>w</mi></msub><mi>w</mi>"),
        (r"\text{a & b}", "<mtext>a\xa0&amp;\xa0b</mtext>"),
    ],
)
def test_formula_is_mathml(tex, expected):
    assert expected in pages.mathml(tex)


def test_formula_with_brackets_and_quotes_is_well_formed_and_keeps_its_source():
    tex = r'a < b > "c" \& \text{<script>}'
    element = ElementTree.fromstring(pages.mathml(tex))
    assert element.tag == "math" and element.get("alttext") == tex
    assert [part.text for part in element.iter() if part.text][:5] == ["a", "<", "b", ">", '"']
    page = page_of(new_markdown_cell(f"# A\n\nInline ${tex}$ and\n\n$$ {tex} $$\n"))
    assert_stands_alone(page)
    inline, block = page.find_all("math")
    assert (inline["display"], block["display"]) == ("inline", "block")
    assert inline.mtext.string == "<script>"


def test_brackets_of_a_given_size_are_stretched():
    (bracket,) = ElementTree.fromstring(pages.mathml(r"\Big|")).iter("mo")
    assert bracket.get("stretchy") == "true" and float(bracket.get("minsize")[:-2]) > 1


def test_lines_of_a_formula_stand_below_each_other():
    tex = "\\begin{aligned} a &= b \\\\ &= c \\end{aligned}"
    for text in (f"$${tex}$$", tex):
        math = page_of(new_markdown_cell(f"# A\n\n{text}")).math
        assert len(math.find_all("mtr")) == 2


WRONG = [r"\nosuch{x}", r"\frac{1}", "x_a_b", r"\left( x", "{x", "a & b", "x^"]


@pytest.mark.parametrize("tex", WRONG)
def test_formula_that_cannot_be_converted_is_an_error_that_names_the_cell(tex):
    cells = [new_markdown_cell("# A"), new_markdown_cell(f"Here: $x$, ${tex}$", id="guilty")]
    with pytest.raises(Error, match=r"cell 1 \(guilty\)") as error:
        page_of(*cells)
    assert repr(tex) in error.value.problem and "latex2mathml" in error.value.cure
    assert error.value.path == notebooks.NOTEBOOKS / "01_a.ipynb"


def test_dollars_in_code_are_no_formula_and_those_in_html_are():
    text = "# A\n\n`$x$` and `a $` `$ b`\n\n```\n$$x$$\n```\n\n"
    text += "<details><summary>What is $x < 3$?</summary>It is <code>$y$</code>: $$y^2$$</details>"
    page = page_of(new_markdown_cell(text))
    formulas = [math["alttext"] for math in page.find_all("math")]
    assert formulas == ["x < 3", "y^2"]
    assert page.details.math.parent.name == "summary"
    assert [code.string.strip() for code in page.find_all("code")] == [
        "$x$",
        "a $",
        "$ b",
        "$$x$$",
        "$y$",
    ]


@pytest.mark.parametrize("source", COURSE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_page_of_the_course_stands_alone_and_has_all_its_formulas(source):
    if source.suffix == ".md":
        page = read(pages.markdown_page(source))
        texts = [source.read_text(encoding="utf-8")]
    else:
        notebook = nbformat.read(source, as_version=4)
        texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
        page = read(pages.notebook_page(notebook, source))
    assert_stands_alone(page)
    formulas = FORMULA.findall(CODE.sub("", "\n\n".join(texts)))
    assert len(page.find_all("math")) == len(formulas)
    for code in page.find_all(["code", "pre", "math"]):
        code.decompose()
    assert "$" not in page.main.get_text()
    # Titles, contents, neighbours.
    assert page.title.string.endswith(pages.TITLE) and page.h1
    headings = [heading["id"] for heading in page.find_all("h2")]
    contents = [link["href"][1:] for link in page.select(".contents a")]
    assert contents == (headings if len(headings) > 1 else [])
    for link in page.find_all("a", href=True):
        if not re.match(r"https?:|#", link["href"]) and "index.html" not in link["href"]:
            target = source.parent / link["href"].split("#")[0]
            sources = [target.with_suffix(suffix).resolve() for suffix in (".ipynb", ".md")]
            assert set(sources) & set(COURSE), link["href"]


def test_pages_lead_to_the_ones_before_and_after_and_to_all(small_course):
    folder = small_course / "notebooks"
    for name, text in (("00_a", "# A"), ("02_c", "# 02 C & D: *why?*"), ("solutions/02_c", "# S")):
        (folder / name).parent.mkdir(exist_ok=True)
        nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), folder / f"{name}.ipynb")
    text = (
        "# 01 B: `how`?\n\n[two](02_c.ipynb#why) [s](solutions/02_c.ipynb) [no](params/quick.yaml)"
    )
    text += " [out](https://example.org/a.ipynb)\n\nBefore: [A](00_a.ipynb) · Next: [C](02_c.ipynb)"
    page = page_of(new_markdown_cell(text), folder=folder, path="01_features.ipynb")
    for ways in (page.header, page.footer):
        links = [(link.get("rel"), link["href"], link.string) for link in ways.find_all("a")]
        assert links[0] == (["prev"], "00_a.html", "← A")
        assert links[1] == (None, "index.html", "All notebooks")
        assert links[2] == (["next"], "02_c.html", "02 C & D →")
    links = [link["href"] for link in page.main.find_all("a")]
    assert links == ["02_c.html#why", "solutions/02_c.html", "https://example.org/a.ipynb"]
    assert "no" in page.main.get_text() and "Before" not in page.main.get_text()
    assert page.title.string == f"01 B: how? · {pages.TITLE}"

    solution = new_markdown_cell("# S\n\n[C](../02_c.ipynb)")
    page = page_of(solution, folder=folder, path="solutions/02_c.ipynb")
    assert [link["href"] for link in page.header.find_all("a")] == ["../02_c.html", "../index.html"]
    assert page.main.a["href"] == "../02_c.html"


def test_pictures_are_embedded_with_their_text_and_one_that_is_not_there_is_an_error(small_course):
    folder = small_course / "notebooks"
    (small_course / "figures").mkdir()
    (small_course / "figures" / "a.svg").write_text(DRAWING)
    text = '# A\n\n![A "wave" < 3](../figures/a.svg)\n\n<img src="../figures/a.svg" alt="again">'
    page = page_of(new_markdown_cell(text), folder=folder)
    assert_stands_alone(page)
    texts = [image["alt"] for image in page.find_all("img")]
    assert texts == ['A "wave" < 3', "again"]
    assert page.img["src"].startswith("data:image/svg+xml;base64,")
    with pytest.raises(Error, match=r"cell 0 .*no picture ../figures/b.svg"):
        page_of(new_markdown_cell("# A\n\n![b](../figures/b.svg)"), folder=folder)


def test_equal_headings_get_ids_of_their_own():
    page = page_of(new_markdown_cell("# A\n\n## By hand\n\n## By hand\n\n### By hand"))
    ids = [heading["id"] for heading in page.find_all(re.compile("h[23]"))]
    assert ids == ["By-hand", "By-hand-2", "By-hand-3"]
    assert [link["href"] for link in page.select(".contents a")] == ["#By-hand", "#By-hand-2"]


def test_figures_have_the_text_that_they_were_given_or_that_of_their_section():
    described = new_output("display_data", {"image/png": PIXEL + "\n", "text/plain": "<Figure>"})
    described.metadata = {"image/png": {"alt": 'The "loss" < 3', "width": 90}}
    cell = output_of(described, display(image__png=PIXEL), display(image__svg_xml=DRAWING))
    assert_stands_alone(cell)
    texts = [image["alt"] for image in cell.find_all("img")]
    assert texts[:2] == ['The "loss" < 3', "Figure: Some sounds"]
    assert cell.img["width"] == "90" and "<Figure>" not in str(cell)


def test_sounds_are_named_by_the_line_printed_before_them():
    line = new_output("stream", name="stdout", text='first\nspeaker 3: "YES"\n')
    cell = output_of(line, display(text__html=AUDIO))
    assert cell.audio["aria-label"] == 'Sound: speaker 3: "YES"'
    assert output_of(display(text__html=AUDIO)).audio["aria-label"] == "Sound: Some sounds"


def test_tables_scroll_and_scripts_are_left_out():
    html = "<table><tr><td>1</td></tr></table><script src='https://example.org/a.js'></script>"
    cell = output_of(display(text__html=html, text__plain="1"))
    assert cell.table.parent["class"] == ["scroll"] and not cell.script
    page = page_of(new_markdown_cell("# A\n\n| a | b |\n| --- | --- |\n| $x$ | 2 |"))
    assert page.table.parent["class"] == ["scroll"] and page.table.math
    assert_stands_alone(page)


def test_markdown_formulas_texts_and_errors_of_a_cell_are_shown():
    latex = display(text__latex="$\\displaystyle x^2$", text__plain="x**2")
    cell = output_of(display(text__markdown="**so** $y$"), latex, display(text__plain="<1>"))
    assert cell.strong.string == "so" and len(cell.find_all("math")) == 2
    assert cell.select(".output pre")[-1].string == "<1>"
    error = new_output("error", ename="E", evalue="v", traceback=["\x1b[31mE\x1b[0m: <v>"])
    assert output_of(error).select_one(".output pre").get_text() == "E: <v>"


def test_widget_is_a_line_that_says_where_it_works():
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "i(1)"}
    cell = output_of(new_output("display_data", data))
    assert cell.select_one(".note").string == pages.ONLY_LIVE and "i(1)" not in str(cell)


LOGS = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795849119.715755   24891 cudart_stub.cc:31] Could not find cuda drivers
WARNING:absl:Please consider providing the trackable_obj argument
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
/a/site-packages/tensorflow/lite/python/convert.py:846: UserWarning: Statistics were expected
  warnings.warn(
fully_quantize: 0, inference_type: 6
2026-11-28 08:00:00.123456: W tensorflow/core/a.cc:1] more
"""


def test_logs_of_libraries_are_left_out_and_warnings_of_the_course_are_not():
    outputs = [new_output("stream", name="stderr", text=text) for text in LOGS.splitlines(True)]
    assert not output_of(*outputs).select(".output")
    outputs.insert(3, new_output("stream", name="stderr", text="ltt: left out: a.wav\n"))
    outputs.append(new_output("stream", name="stdout", text=" 10%\r 90%\rdone\nI0 said\n"))
    texts = [block.string for block in output_of(*outputs).select(".output pre")]
    assert texts == ["ltt: left out: a.wav", "done\nI0 said"]


def test_parameters_and_hidden_code_are_folded_and_other_code_is_not():
    tagged = [new_code_cell("a = 1", metadata={"tags": [tag]}) for tag in pages.FOLDED]
    hidden = new_code_cell("b = 2", metadata={"jupyter": {"source_hidden": True}})
    page = page_of(new_markdown_cell("# A"), *tagged, hidden, new_code_cell("c = '<3'"))
    titles = [summary.string for summary in page.select("details.code > summary")]
    assert titles == [*pages.FOLDED.values(), "Code"]
    (shown,) = [cell for cell in page.select(".cell") if not cell.details]
    assert shown.get_text().strip() == "c = '<3'"
    assert not page.select("details.code[open]")


def test_solutions_are_folded_until_asked_for():
    printed = new_output("stream", name="stdout", text="42\n")
    cells = [
        new_markdown_cell("# 01 A: solutions\n\nTo the exercises."),
        new_code_cell("import re"),
    ]
    cells += [
        new_markdown_cell("## 1. First\n\nIt is *this*."),
        new_code_cell("6", outputs=[printed]),
    ]
    cells += [new_markdown_cell("Said afterwards.\n\n## 2. Second"), new_code_cell("7")]
    page = page_of(*cells, path="solutions/01_a.ipynb")
    assert_stands_alone(page)
    first, second = page.select("details.solution")
    assert not page.select("details[open]:not(.contents)")
    assert (first.summary.h2.string, second.summary.h2.string) == ("1. First", "2. Second")
    assert "42" in first.get_text() and "Said afterwards." in first.get_text()
    assert second.select_one(".cell").get_text().strip() == "7"
    assert page.select_one("details.code > summary").string == "Preparations"
    assert [link["href"] for link in page.select(".contents a")] == ["#1-First", "#2-Second"]


@pytest.fixture
def course(small_course, monkeypatch):
    """A course of two notebooks that ran, with a solution, a glossary and a picture."""
    monkeypatch.delenv("LTT_REPORTS", raising=False)
    folder = small_course / "notebooks"
    (folder / "solutions").mkdir()
    solution = [new_markdown_cell("# 01: solutions\n\n## 1. One"), new_code_cell("1 + 1")]
    nbformat.write(new_notebook(cells=solution), folder / "solutions" / "01_features.ipynb")
    (folder / "glossary.md").write_text("# A *glossary*\n\n[first](01_features.ipynb) $x$\n")
    (small_course / "figures").mkdir()
    (small_course / "figures" / "path.svg").write_text(DRAWING)
    for number, name in enumerate(("01_features", "02_teacher")):
        text = f"# {name[:2]} Heading: what | is it?\n\n## A\n\n## B"
        cells = [new_markdown_cell(text), new_code_cell("print(1)")]
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
        write_run(small_course, name, "it ran", seconds=5 + 60 * number)
    return small_course


def write_run(course, name, printed, seconds=5.4):
    """The executed copy of a notebook."""
    path = course / "data" / "quick" / "reports" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(course / "notebooks" / f"{name}.ipynb", as_version=4)
    notebook.cells[1].outputs = [new_output("stream", name="stdout", text=printed)]
    notebook.metadata["papermill"] = {"duration": seconds}
    nbformat.write(notebook, path)


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


SITE = ["01_features.html", "02_teacher.html", "glossary.html", "index.html"]
SITE += ["solutions/01_features.html"]


def test_site_is_the_course_with_its_outputs_and_every_link_leads_somewhere(course):
    index = pages.write_site("quick")
    folder = course / "data" / "pages"
    assert index == folder / "index.html" and names_in(folder) == SITE
    for name in SITE:
        page = read((folder / name).read_text(encoding="utf-8"))
        assert_stands_alone(page)
        for link in page.find_all("a", href=re.compile("^[^#]")):
            assert (folder / name).parent.joinpath(link["href"]).is_file(), link
    assert "it ran" in (folder / "01_features.html").read_text()

    page = read(index.read_text(encoding="utf-8"))
    assert page.title.string == page.h1.string == pages.TITLE
    rows = [[cell.get_text() for cell in row.find_all("td")] for row in page.find_all("tr")]
    assert rows[1] == ["01 Heading", "What | is it?", "5 s", "solutions"]
    assert rows[2] == ["02 Heading", "What | is it?", "65 s", ""]
    assert page.img["src"].startswith("data:image/svg+xml")
    assert page.find("a", href="glossary.html").get_text() == "A glossary"


def test_site_shows_an_executed_copy_of_a_solution(course):
    (course / "data" / "quick" / "reports" / "solutions").mkdir()
    write_run(course, "solutions/01_features", "two")
    folder = pages.write_site("quick").parent
    assert "two" in (folder / "solutions" / "01_features.html").read_text()


def test_second_site_takes_the_place_of_the_first(course):
    folder = pages.write_site("quick", course / "mine").parent
    (folder / "02_teacher.html").rename(folder / "old.html")
    write_run(course, "01_features", "it ran again")
    assert pages.write_site("quick", course / "mine") == folder / "index.html"
    assert names_in(folder) == SITE and "again" in (folder / "01_features.html").read_text()
    assert not [path for path in course.iterdir() if "mine" in path.name and path != folder]


def test_site_that_cannot_be_finished_leaves_the_one_before(course, monkeypatch):
    folder = pages.write_site("quick").parent
    before = {name: (folder / name).read_bytes() for name in SITE}
    write_run(course, "01_features", "it ran again")
    monkeypatch.setattr(pages, "_index_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pages.write_site("quick")
    assert {name: (folder / name).read_bytes() for name in names_in(folder)} == before
    assert [path.name for path in folder.parent.iterdir() if "pages" in path.name] == ["pages"]


def test_site_comes_back_when_the_new_one_cannot_take_its_place(course, monkeypatch):
    folder = pages.write_site("quick").parent
    rename = pages.os.rename

    def fail_once(source, target):
        if source.name == "site":
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(pages.os, "rename", fail_once)
    with pytest.raises(OSError, match="no"):
        pages.write_site("quick")
    assert names_in(folder) == SITE


def test_site_of_a_course_that_never_ran_says_what_to_run(course, capsys):
    (course / "data" / "quick" / "reports" / "02_teacher.ipynb").unlink()
    assert cli.main(["pages"]) == 2
    assert "ltt run quick --only 02_teacher" in capsys.readouterr().err
    assert not (course / "data" / "pages").exists()
    assert cli.main(["pages", "quik"]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err


def test_site_replaces_nothing_else(course, capsys):
    folder = course / "home"
    folder.mkdir()
    (folder / "index.html").write_text("my own")
    assert cli.main(["pages", "--to", str(folder)]) == 2
    assert "would be lost" in capsys.readouterr().err and names_in(folder) == ["index.html"]
    reports = course / "data" / "quick" / "reports"
    (reports / "index.html").write_text(pages.whole_page("reports", ""))
    with pytest.raises(Error, match="would be lost"):
        pages.write_site("quick", reports)
    (course / "file").touch()
    assert cli.main(["pages", "--to", str(course / "file")]) == 2
    (course / "empty").mkdir()
    assert cli.main(["pages", "--to", str(course / "empty")]) == 0
    assert capsys.readouterr().out == f"Pages: {course / 'empty' / 'index.html'}\n"


def test_pages_that_a_report_leads_to_are_beside_it(course):
    folder = course / "data" / "quick" / "reports"
    pages.write_companions(course / "notebooks" / "01_features.ipynb", folder)
    names = [name for name in names_in(folder) if name.endswith("html")]
    assert names == ["glossary.html", "solutions/01_features.html"]
    page = read((folder / "solutions" / "01_features.html").read_text())
    assert page.select_one(".cell").get_text().strip() == "1 + 1"


def test_style_is_shipped_with_the_library():
    assert "css" in (notebooks.NOTEBOOKS.parent / "pyproject.toml").read_text()
    assert pages.STYLE.read_text(encoding="utf-8").startswith("/* The pages")
