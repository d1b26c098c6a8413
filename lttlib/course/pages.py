"""The course as web pages that stand alone: nothing in them comes from a network.

Formulas are MathML, which browsers read; pictures, figures and sound are inside the page. A page
of a notebook has the name of the notebook, and lies where the notebook lies in its folder.
"""

import base64
import html
import json
import mimetypes
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import Converter
from nbconvert.filters import ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from lttlib import Error
from lttlib.course import notebooks
from lttlib.course.plots import ONLY_LIVE
from lttlib.files import atomic_write, lock, temporary_folder

TITLE = "Listen to the Teacher!"
STYLE = Path(__file__).with_name("page.css")
PICTURE = Path("figures") / "path.svg"  # of the project: the course in one picture

# The mark of the first page of a site, by which it is known as one that may be replaced.
MARK = '<meta name="generator" content="ltt pages">'
SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{mark}
<style>
{style}</style></head>
<body>
{body}
</body></html>
"""

INDEX = """# {title}

A course in notebooks in which a small speech recogniser, the student, learns to listen to a big
one, the teacher, until it fits on a small device.

{picture}

These are its notebooks with what a run of the profile `{profile}` printed, drew and let one hear.
Code stands where it ran; each number was computed by the code above it, but for those in a box,
which says where they were measured. To change the code and run it again, open the notebooks in
JupyterLab (`make lab` in a clone of the project).

## The notebooks

| notebook | its question | took | exercises |
| --- | --- | --- | --- |
{rows}

{more}
"""

# What libraries write to stderr about themselves; TensorFlow does before anything can quieten it.
LIBRARY_LOG = re.compile(
    r"WARNING: All log messages before absl"
    r"|[IWE]\d{4} [\d:. ]+ \d+ \S+\] "
    r"|\d{4}-\d\d-\d\d [\d:.]+: [IWE] "
    r"|(DEBUG|INFO|WARNING):absl:"
    r"|INFO: (Created|Initialized|Applying) "
    r"|fully_quantize: "
    r"|\S*/(tensorflow|keras|ai_edge_litert)/\S+: \w*Warning: "
    r"|  warnings\.warn\($"
)

# Names of functions of TeX that the converter lacks, and one that it draws at the side.
TEX = {
    r"\\arg\s*\\(max|min)(?![a-zA-Z])": r"\\arg\1 ",
    r"\\arg(?![a-zA-Z])": r"\\operatorname{arg}",
    r"\{aligned\}": "{align*}",
}
# How many children an element of MathML has; the converter would leave one out.
CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "mroot": 2}
CHILDREN |= {"msubsup": 3, "munderover": 3}

FORMULA = re.compile(r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<![$\\])\$(?!\s)(.+?)(?<![$\\])\$", re.DOTALL)
# Of code with what is in it; a < before a space or a digit is none of a tag.
HTML_TAG = re.compile(r"(<(code|pre)\b.*?</\2>|</?[a-zA-Z!][^>]*>)", re.DOTALL)
FOLDED = {
    "parameters": "Parameters and their defaults",
    "injected-parameters": "Parameters of this run",
}


def mathml(tex, display="inline") -> str:
    """A formula as MathML.

    Parameters
    ----------
    tex : str
        Without its dollars.
    display : {"inline", "block"}

    Raises
    ------
    Error
        If it is no formula, or has a command that the converter does not know.
    """
    # The converter knows some functions by other names.
    known = tex
    for pattern, replacement in TEX.items():
        known = re.sub(pattern, replacement, known)
    try:
        element = Converter(xmlns="", display=display).convert_to_element(known)
    except Exception as error:  # each mistake has a class of its own
        raise _formula_error(tex, type(error).__name__) from error

    # What the converter passes over in silence.
    for part in element.iter():
        part.text = html.unescape(part.text or "")
        # A command that it does not know becomes a letter; so does what is left of a table.
        is_left_over = part.text == "&" and r"\&" not in tex
        if "\\" in part.text or is_left_over:
            raise _formula_error(tex, f"unknown: {part.text}")
        # An element that lacks a part, such as a fraction without a denominator.
        if len(part) != CHILDREN.get(part.tag, len(part)):
            raise _formula_error(tex, f"{part.tag} of {len(part)} parts")
    # A brace too many changes what the others enclose.
    if len(re.findall(r"(?<!\\)\{", tex)) != len(re.findall(r"(?<!\\)\}", tex)):
        raise _formula_error(tex, "braces that do not match")

    _set_as_in_tex(element)
    element.attrib.pop("xmlns")
    element.set("alttext", tex.strip())
    return ElementTree.tostring(element, encoding="unicode", short_empty_elements=False)


def _formula_error(tex, problem):
    """The error about a formula."""
    cure = "write it with commands that latex2mathml knows"
    return Error(f"no MathML of the formula {tex.strip()!r} ({problem})", cure=cure)


def _set_as_in_tex(element):
    """What the converter leaves out: brackets of a given size, space after a function's name."""
    for bracket in element.iter("mo"):
        if "minsize" in bracket.attrib:
            bracket.set("stretchy", "true")
            bracket.set("symmetric", "true")
    for row in [*element.iter("mrow"), *element.iter("mtd")]:
        for place in reversed(range(len(row) - 1)):
            name, argument = row[place : place + 2]
            if name.tag in CHILDREN:
                name = name[0]
            is_name = name.tag == "mi" and len(name.text) > 1 and name.text.isalpha()
            if is_name and argument.tag not in ("mo", "mspace"):
                row.insert(place + 1, ElementTree.Element("mspace", width="0.17em"))


def _text_of(markup) -> str:
    """The text of some HTML."""
    return BeautifulSoup(markup, "html.parser").get_text()


class _Renderer(IPythonRenderer):
    """Markdown with its formulas as MathML, those within HTML too."""

    def __init__(self):
        super().__init__(escape=False, exclude_anchor_links=True)

    def inline_math(self, body):
        return mathml(body)

    def block_math(self, body):
        formula = mathml(body, "block")
        return f'<span class="formula" style="display: block">{formula}</span>'

    def latex_environment(self, name, body):
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def block_html(self, html):
        parts = HTML_TAG.split(html)
        # Of each three: text, what stands between the brackets, and the name of its tag or None.
        parts[::3] = [self._text(part) for part in parts[::3]]
        return "".join(part for index, part in enumerate(parts) if index % 3 < 2)

    def _text(self, text):
        """A text within HTML, with its formulas."""

        def convert(match):
            if match[1]:
                return self.block_math(html.unescape(match[1]))
            return self.inline_math(html.unescape(match[2]))

        return FORMULA.sub(convert, text)


class _Page:
    """A page in the making.

    Parameters
    ----------
    source : Path
        The notebook, or the page in Markdown, that it is made from: links and pictures are
        relative to its folder.
    """

    def __init__(self, source):
        self.source = source
        self.headings = []  # (level, id, HTML) of each
        self.printed = ""  # what a cell has printed so far

    def markdown(self, text) -> str:
        """A text in Markdown as HTML."""
        markdown = MarkdownWithMath(renderer=_Renderer())
        soup = BeautifulSoup(markdown.render(text), "html.parser")
        for heading in soup.find_all(re.compile(r"^h[1-4]$")):
            heading["id"] = self._new_id(heading.get_text())
            row = (int(heading.name[1]), heading["id"], heading.decode_contents())
            self.headings.append(row)
        for link in soup.find_all("a", href=True):
            link["href"] = _page_of(link["href"], self.source)
            if not link["href"]:
                link.unwrap()
        for image in soup.find_all("img", src=True):
            image["src"] = _embed(image["src"], self.source)
        return self._finish(soup)

    def _new_id(self, text):
        """A name for a heading, by its text; that of an equal one gets a number."""
        name = re.sub(r"\W+", "-", text).strip("-") or "section"  # Further-reading, as JupyterLab
        used_ids = {known for _, known, _ in self.headings}
        names = [name, *(f"{name}-{number}" for number in range(2, len(used_ids) + 3))]
        return next(name for name in names if name not in used_ids)

    def _finish(self, soup) -> str:
        """HTML whose tables scroll, whose pictures and sounds have a text, without scripts."""
        for table in soup.find_all("table"):
            table.wrap(soup.new_tag("div", attrs={"class": "scroll"}))
        for script in soup.find_all(["script", "link", "iframe"]):
            script.decompose()
        for image in soup.find_all("img", alt=False):
            image["alt"] = self._place()
        for sound in soup.find_all("audio", attrs={"aria-label": False}):
            lines = self.printed.strip().splitlines()
            sound["aria-label"] = f"Sound: {lines[-1] if lines else self._place()}"
        return str(soup)

    def _place(self):
        """The heading under which one is, as a text."""
        return _text_of(self.headings[-1][2]) if self.headings else TITLE

    def code(self, cell) -> str:
        """A cell of code with its outputs."""
        source = highlight(cell.source, PythonLexer(), HtmlFormatter())
        title = self._fold_title(cell.metadata)
        if title:
            source = f'<details class="code"><summary>{title}</summary>\n{source}</details>'
        self.printed = ""
        outputs = [self._output(output) for output in _merged(cell.outputs)]
        parts = [source, *_in_div("output", "\n".join(filter(None, outputs)))]
        return "".join(_in_div("cell", "".join(parts)))

    def _fold_title(self, metadata):
        """What stands in the place of code that is folded; None where it is shown."""
        for tag, title in FOLDED.items():
            if tag in metadata.get("tags", []):
                return title
        if _is_solution(self.source) and all(level < 2 for level, _, _ in self.headings):
            return "Preparations"
        hidden = metadata.get("jupyter", {}).get("source_hidden", False)
        return "Code" if hidden else None

    def _output(self, output) -> str:
        """An output of a cell."""
        if output.output_type == "stream":
            return self._printed(output)
        if output.output_type == "error":
            traceback = "\n".join(output.traceback)
            return f"<pre>{ansi2html(traceback)}</pre>"
        data = output.data
        if "application/vnd.jupyter.widget-view+json" in data:
            return f'<p class="note">{ONLY_LIVE}</p>'
        if "text/html" in data:
            return self._finish(BeautifulSoup(data["text/html"], "html.parser"))
        if "text/markdown" in data:
            return self.markdown(data["text/markdown"])
        for kind in ("image/svg+xml", "image/png", "image/jpeg"):
            if kind in data:
                return self._figure(kind, data[kind], output.metadata.get(kind, {}))
        if "text/latex" in data:
            return self.markdown(data["text/latex"])
        return f"<pre>{ansi2html(data.get('text/plain', ''))}</pre>"

    def _printed(self, output):
        """What a cell printed, without what libraries say of themselves."""
        text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)  # a bar is drawn over itself
        if output.name == "stderr":
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if not LIBRARY_LOG.match(line))
        self.printed += text
        return f"<pre>{ansi2html(text.rstrip())}</pre>" if text.strip() else ""

    def _figure(self, kind, data, metadata):
        """A figure of a cell, with its alternative text."""
        if kind == "image/svg+xml":
            data = base64.b64encode(data.encode()).decode()
        text = html.escape(metadata.get("alt") or f"Figure: {self._place()}")
        size = "".join(
            f' {name}="{metadata[name]}"' for name in ("width", "height") if name in metadata
        )
        address = f"data:{kind};base64,{''.join(data.split())}"
        return f'<img src="{address}" alt="{text}"{size}>'

    def render(self, body) -> str:
        """The whole page around a body."""
        titles = [heading for level, _, heading in self.headings if level == 1]
        title = _text_of(titles[0]) if titles else self.source.stem
        ways = _neighbours(self.source)
        # The contents stand under the title and the promise, where there are some.
        first = re.search(r"<h2\b|<div class=\"cell\">|<details", body)
        place = first.start() if first else len(body)
        body = body[:place] + self._contents() + body[place:]
        body = f"<header>{ways}</header>\n<main>\n{body}\n</main>\n<footer>{ways}</footer>"
        return whole_page(title if TITLE in title else f"{title} · {TITLE}", body)

    def _contents(self):
        """The headings of the page as a list of links that folds."""
        rows = [
            f'<li><a href="#{name}">{heading}</a></li>'
            for level, name, heading in self.headings
            if level == 2
        ]
        if len(rows) < 2:
            return ""
        rows = "\n".join(rows)
        title = "On this page"
        return (
            f'<details class="contents" open><summary>{title}</summary>\n'
            f'<nav aria-label="{title}"><ol>\n{rows}\n</ol></nav></details>\n'
        )


def whole_page(title, body, mark="") -> str:
    """A page of the course: its head and style around a body."""
    style = STYLE.read_text(encoding="utf-8")
    return SHELL.format(title=html.escape(title), body=body, style=style, mark=mark)


def notebook_page(notebook, source) -> str:
    """A notebook, with the outputs it has, as a web page.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    source : Path
        Where it stands in the course.

    Raises
    ------
    Error
        If a formula cannot be converted or a picture is not there; it names the cell.
    """
    page = _Page(source)
    parts = []
    for number, cell in enumerate(notebook.cells):
        try:
            if cell.cell_type == "markdown":
                parts.append(page.markdown(cell.source))
            elif cell.cell_type == "code" and cell.source.strip():
                parts.append(page.code(cell))
        except Error as error:
            problem = f"cell {number} ({cell.get('id', 'without id')}): {error.problem}"
            raise Error(problem, source, error.cure) from error
    body = _without_ways("\n".join(parts))
    return page.render(_fold_sections(body) if _is_solution(source) else body)


def markdown_page(source) -> str:
    """A page in Markdown as a web page."""
    page = _Page(source)
    try:
        body = page.markdown(source.read_text(encoding="utf-8"))
    except Error as error:
        raise Error(error.problem, source, error.cure) from error
    return page.render(body)


def write_page(path, text) -> None:
    """Write a page whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_companions(source, folder) -> None:
    """Write the pages that the page of a notebook leads to and that no run makes.

    These are those in Markdown, and its solutions, with the outputs of an executed copy in
    `folder`, if there is one.

    Parameters
    ----------
    source : Path
        The notebook in the course.
    folder : Path
        Where its page is.
    """
    for companion in _sources(source.parent):
        is_other = companion.suffix == ".ipynb" and companion.name != source.name
        if companion != source and not is_other:
            path = folder / companion.relative_to(source.parent).with_suffix(".html")
            write_page(path, _companion_page(companion, folder))


def _companion_page(source, reports):
    """The page of a source that `ltt run` does not run."""
    if source.suffix == ".md":
        return markdown_page(source)
    executed = reports / source.parent.name / source.name
    path = executed if executed.exists() else source
    return notebook_page(nbformat.read(path, as_version=4), source)


def write_site(profile="quick", folder=None) -> Path:
    """Write the course with the outputs of the last run of a profile as a static site.

    Parameters
    ----------
    profile : str
    folder : path-like, optional
        It is replaced, if it holds a site of the course (default: ``data/pages``).

    Returns
    -------
    Path
        Of its first page.

    Raises
    ------
    Error
        If a notebook was never run with this profile, or the folder holds something else.
    """
    notebooks.profile(profile)  # refuses a name that is none
    folder = Path(os.path.abspath(folder or notebooks.DATA / "pages"))
    _check_replaceable(folder)

    # The outputs of all notebooks are there, or nothing is written.
    reports = notebooks.reports_path(profile)
    runs = {}
    for source in _sources(notebooks.NOTEBOOKS):
        if _is_notebook(source):
            path = notebooks.require(reports / source.name, source.stem)
            runs[source] = nbformat.read(path, as_version=4)

    # The site takes its place only when it is complete.
    with lock(folder), temporary_folder(folder) as temporary:
        site = temporary / "site"
        for source in _sources(notebooks.NOTEBOOKS):
            path = site / source.relative_to(notebooks.NOTEBOOKS).with_suffix(".html")
            # Solutions and pages in Markdown are not run in order.
            if source in runs:
                write_page(path, notebook_page(runs[source], source))
            else:
                write_page(path, _companion_page(source, reports))
        write_page(site / "index.html", _index_page(runs, profile))
        _replace(folder, site, temporary / "old")
    return folder / "index.html"


def _check_replaceable(folder):
    """Refuse to replace what is no site of the course."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    index = folder / "index.html"
    if not index.is_file() or MARK not in index.read_text(encoding="utf-8"):
        problem = "it holds something else than pages of the course, which would be lost"
        raise Error(problem, folder, "name another folder, or remove it")


def _replace(folder, site, old):
    """Put a site in the place of a folder, which goes to `old`; if that fails, it comes back."""
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(site, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise


def _index_page(runs, profile):
    """The first page of a site: what the course is, and its notebooks in a table."""
    folder = notebooks.NOTEBOOKS
    rows = [_index_row(source, run) for source, run in runs.items()]
    pages = [source for source in _sources(folder) if source.suffix == ".md"]
    links = [f"* [{heading(source)}]({source.name})" for source in pages]
    more = "\n".join(["## To look up", "", *links]) if links else ""

    picture = folder.parent / PICTURE
    text = "From a wave to letters, and from the teacher to the student's small file"
    # Relative to the notebooks, as in any of them.
    shown = f"![{text}](../{PICTURE.as_posix()})" if picture.exists() else ""
    values = {"title": TITLE, "profile": profile, "rows": "\n".join(rows), "more": more}
    page = _Page(folder / "index.md")
    body = page.markdown(INDEX.format(picture=shown, **values))
    return whole_page(TITLE, f"<main>\n{body}\n</main>", MARK)


def _index_row(source, run):
    """A row of the table of notebooks, in Markdown."""
    name, _, question = heading(source).partition(": ")
    if not re.match(r"\d", name):
        name = f"{source.stem[:2]} {source.stem[3:].replace('_', ' ').capitalize()}"
    seconds = run.metadata.papermill.duration
    time = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    solution = source.parent / "solutions" / source.name
    link = f"[solutions](solutions/{source.name})" if solution.exists() else ""
    question = question.replace("|", r"\|")
    question = question[:1].upper() + question[1:]
    return f"| [{name}]({source.name}) | {question} | {time} | {link} |"


def _sources(folder):
    """All that has a page in the course of a folder: notebooks, their solutions, Markdown."""
    numbered = "[0-9][0-9]_*.ipynb"
    paths = [*folder.glob(numbered), *folder.glob(f"solutions/{numbered}"), *folder.glob("*.md")]
    return sorted(paths)


def _is_solution(source):
    """Whether a source holds solutions of exercises."""
    return source.parent.name == "solutions"


def _is_notebook(source):
    """Whether a source is one of the notebooks that are run in order."""
    return source.suffix == ".ipynb" and not _is_solution(source)


def _page_of(link, source):
    """Where a link of a source leads to among the pages: "" where that has none."""
    name, sign, part = link.partition("#")
    if re.match(r"[a-z]+:", link) or not name:
        return link
    folder = source.parent.parent if _is_solution(source) else source.parent
    target = Path(os.path.normpath(source.parent / name))
    if target not in _sources(folder):
        return ""
    return str(Path(name).with_suffix(".html").as_posix()) + sign + part


def _embed(address, source):
    """A picture as part of the page."""
    if address.startswith("data:"):
        return address
    path = source.parent / address
    if not path.is_file():
        cure = "pictures are files, with paths from the folder of the notebook"
        raise Error(f"no picture {address}", cure=cure)
    kind, _ = mimetypes.guess_type(path)
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _in_div(name, content):
    """The content in a <div> of a class; nothing where there is none."""
    return [f'<div class="{name}">\n{content}\n</div>'] if content else []


def _merged(outputs):
    """Outputs in their order, with what was printed in pieces to one stream in one piece."""
    merged = []
    for output in outputs:
        name = output.get("name")
        if merged and name and merged[-1].get("name") == name:
            text = merged[-1].text + output.text
            merged[-1] = nbformat.v4.new_output("stream", name=name, text=text)
        else:
            merged.append(output)
    return merged


def _fold_sections(body):
    """Solutions: each stands under its heading, folded until somebody asks for it."""
    head, *sections = re.split(r"(?=<h2\b)", body)
    folded = []
    for section in sections:
        heading, end, rest = section.partition("</h2>")
        summary = f"<summary>{heading}{end}</summary>"
        folded.append(f'<details class="solution">{summary}\n{rest}</details>\n')
    return head + "".join(folded)


def _without_ways(body):
    """A page without the line that names its neighbours: the page does so itself."""
    return re.sub(r"<p>(Before|Next|Start): <a((?!</?p>).)*</p>\s*$", "", body, flags=re.DOTALL)


def _neighbours(source):
    """Links to the page before and after, and to the first."""
    if _is_solution(source):
        before = source.parent.parent / source.name
        after = None
        index = "../index.html"
    else:
        pages = [path for path in _sources(source.parent) if _is_notebook(path)]
        place = pages.index(source) if source in pages else None
        before = pages[place - 1] if place else None
        after = None if place is None else next(iter(pages[place + 1 :]), None)
        index = "index.html"
    links = [f'<a href="{index}">All notebooks</a>']
    if before is not None and before.exists():
        links.insert(0, _way(before, source, "prev", "← {}"))
    if after is not None:
        links.append(_way(after, source, "next", "{} →"))
    return f'<nav class="neighbours" aria-label="Course">{"".join(links)}</nav>'


def _way(target, source, relation, text):
    """A link from one page to another."""
    page = os.path.relpath(target.with_suffix(".html"), source.parent)
    name = html.escape(_plain_title(target).partition(":")[0])
    return f'<a rel="{relation}" href="{Path(page).as_posix()}">{text.format(name)}</a>'


def heading(source):
    """The first heading of a source, in Markdown."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        cells = [cell for cell in cells if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    return title[1].strip() if title else source.stem


def _plain_title(source):
    """The heading of a source without marks of Markdown."""
    return re.sub(r"[*`$\\]", "", heading(source))
