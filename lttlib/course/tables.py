"""Results that were measured elsewhere: notebooks, README and RESULTS read them from one file.

`notebooks/measured.json` holds tables by name. Each says what ran, where and when, so that no
number stands anywhere without its origin. Notebooks show a table as a box; `write_results` puts
tables between the markers of README and makes RESULTS.md.

A cell may repeat what another table says: ``{words|quick: teacher|greedy}`` becomes what stands
there in the row that begins with the second name, under the third; so a number is kept once.
"""

import html
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from lttlib import Error
from lttlib.course.notebooks import NOTEBOOKS
from lttlib.files import atomic_write, parse_json

TABLES = NOTEBOOKS / "measured.json"

# Where a table was measured, in the order in which it is told.
ORIGIN = ("profile", "corpus", "machine", "seeds", "commit", "date", "command")

# Chapters of RESULTS.md, in their order; tables that name none stand in the last.
CHAPTERS = (
    "In short",
    "Teachers",
    "Students",
    "What each byte buys",
    "Words",
    "On a device",
    "What disturbs a recogniser",
    "Speed",
    "Measured with earlier versions",
)

REFERENCE = re.compile(r"\{([^{}|]+)\|([^{}|]+)\|([^{}|]+)\}")

RESULTS = """# Results

What was measured, with what, where and when. Nothing here is of another run than the line under
its table says. The course has changed since the tables of the last chapter, whose networks were
gated or whose features were normalised by the whole utterance: a run of today gives other numbers.
LER is the share of letters that are wrong (others call it CER), WER that of words.

The tables stand in `notebooks/measured.json`; `make results` writes this page and the tables of
[README.md](README.md) from it. Notebooks show single ones as boxes.
"""

BOX = """<div style="border: 1px solid #888; border-left-width: 6px; padding: .4em 1em">
<p><b>Measured elsewhere: {title}.</b> {note}</p>
{table}
<p><small>{origin}</small></p>
</div>"""


@dataclass(frozen=True)
class Table:
    """A table of results, and where it was measured.

    Parameters
    ----------
    name : str
        Its name in measured.json.
    title : str
        What it compares.
    columns : list of str
    rows : list of list
        Text or numbers, one for each column.
    origin : dict of str to str
        Of `ORIGIN`: the corpus, the machine, ...
    note : str
        How it is read, and what follows from it.
    chapter : str
        Of `CHAPTERS`.
    figures : list of [str, str]
        Files in figures/, each with a text for those who do not see it.
    """

    name: str
    title: str
    columns: list
    rows: list
    origin: dict
    note: str = ""
    chapter: str = CHAPTERS[-1]
    figures: list = field(default_factory=list)

    def value(self, row, column):
        """What stands in a column, in the row that begins with this text."""
        matching_rows = [cells for cells in self.rows if cells[0] == row]
        if len(matching_rows) != 1 or column not in self.columns:
            raise Error(f"{self.name} has not one cell of {row!r} and {column!r}", TABLES)
        (cells,) = matching_rows
        return cells[self.columns.index(column)]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)

    def origin_line(self, without=()) -> str:
        """Where it was measured, in one line; but for these entries."""
        keys = [key for key in ORIGIN if key in self.origin and key not in without]
        return "; ".join(f"{key} {self.origin[key]}" for key in keys).replace("\n", "; ")

    def section(self) -> str:
        """The table in Markdown with all that belongs to it, as RESULTS.md shows it."""
        parts = [f"### {self.title}", self.markdown()]
        if self.note:
            parts.insert(1, self.note)
        for file, alt in self.figures:
            parts.append(f"![{alt}](figures/{file})")
        parts.append(f"`{self.name}`: {self.origin_line(without=['command'])}")
        parts.append(f"```\n{self.origin['command']}\n```")
        return "\n\n".join(parts) + "\n"

    def _repr_html_(self):
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        rows = [f"<tr>{head}</tr>"]
        for row in self.rows:
            cells = [f"<td>{html.escape(str(cell))}</td>" for cell in row]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return BOX.format(
            title=html.escape(self.title),
            note=html.escape(self.note),
            table=f"<table>{''.join(rows)}</table>",
            origin=html.escape(self.origin_line()),
        )

    def __str__(self):
        return f"Measured elsewhere: {self.title}\n{self.markdown()}\n({self.origin_line()})"


def measured_tables(path=None) -> dict:
    """All tables of measured.json by name.

    Returns
    -------
    dict of str to Table

    Raises
    ------
    lttlib.Error
        If a table names no machine, date or command, or a chapter that there is not; a row is
        longer or shorter than its columns; a figure has no text; or a cell repeats one that is
        not there.
    """
    path = path or TABLES
    tables = {}
    for name, entry in parse_json(path.read_bytes()).items():
        tables[name] = Table(name, **entry)
        _check(tables[name], path)
    return {name: _resolve(table, tables) for name, table in tables.items()}


def _check(table, path):
    """Refuse a table that does not say all it must."""
    for key in ("machine", "date", "command"):
        if not table.origin.get(key):
            raise Error(f"{table.name} does not say its {key}", path)
    unknown = set(table.origin) - set(ORIGIN)
    if unknown:
        raise Error(f"{table.name} has an origin of other names: {sorted(unknown)}", path)
    if any(len(row) != len(table.columns) for row in table.rows):
        raise Error(f"{table.name} has rows that do not fit its columns", path)
    if table.chapter not in CHAPTERS:
        raise Error(f"{table.name} names no chapter of {', '.join(CHAPTERS)}", path)
    if not all(alt for _, alt in table.figures):
        raise Error(f"{table.name} has a figure without a text", path)


def _resolve(table, tables):
    """A table in which cells that repeat others say what stands there."""

    def value(match):
        name, row, column = match.groups()
        if name not in tables:
            raise Error(f"{table.name} repeats {name!r}, which is not there", TABLES)
        return str(tables[name].value(row, column))

    rows = []
    for cells in table.rows:
        row = [REFERENCE.sub(value, cell) if isinstance(cell, str) else cell for cell in cells]
        rows.append(row)
    return replace(table, rows=rows)


def measured(name) -> Table:
    """A table of results that were measured elsewhere; in a notebook it shows as a box."""
    tables = measured_tables()
    if name not in tables:
        raise Error(f"no table {name!r}; there are {', '.join(tables)}", TABLES)
    return tables[name]


def write_results(folder) -> None:
    """Write RESULTS.md, the tables in README.md and the frontiers of the project in `folder`."""
    folder = Path(folder)
    readme = folder / "README.md"
    pages = {
        folder / "RESULTS.md": results_page(),
        readme: with_tables(readme.read_text(encoding="utf-8")),
    }
    for path, text in pages.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    draw_frontiers(folder / "figures")


def draw_frontiers(folder) -> None:
    """Draw the tables that have a figure `<profile>-frontier.png`, into this folder.

    Models in bold are those that no other beats in bytes and LER.
    """
    from matplotlib.figure import Figure

    from lttlib.course import plots

    plots.style()
    for table in measured_tables().values():
        files = [file for file, _ in table.figures if file.endswith("-frontier.png")]
        for file in files:
            figure = Figure(figsize=(8, 4.5))
            axes = figure.subplots()
            plots.label_axes(axes, table.title, "bytes of the file", "LER on dev (%)")
            rows, front = _models(table)
            teachers = [row for row in rows if row["name"] == "teacher"]
            plots.frontier(axes, rows, front, also=teachers)
            figure.savefig(Path(folder) / file)


def _models(table):
    """The models of a table, and those of them in bold, as `plots.frontier` takes them."""
    rows = []
    front = []
    for cells in table.rows:
        size = float(cells[table.columns.index("bytes")].replace(",", ""))
        ler = float(cells[table.columns.index("LER on dev (%)")])
        rows.append({"name": cells[0].strip("*"), "bytes": size, "LER": ler})
        if cells[0].startswith("**"):
            front.append(rows[-1])
    return rows, front


def results_page() -> str:
    """All tables in Markdown, by chapter, each with its note, its figures and its origin."""
    tables = measured_tables().values()
    parts = [RESULTS]
    for chapter in CHAPTERS:
        sections = [table.section() for table in tables if table.chapter == chapter]
        if sections:
            parts += [f"## {chapter}\n", *sections]
    return "\n".join(parts)


def with_tables(text) -> str:
    """A page in Markdown with each table between its markers, as measured.json has it today.

    The markers are `<!-- measured NAME -->` and `<!-- end -->`.
    """
    tables = measured_tables()

    def fill(match):
        if match[1] not in tables:
            raise Error(f"no table {match[1]!r}, which a page shows", TABLES)
        return f"<!-- measured {match[1]} -->\n{tables[match[1]].markdown()}\n<!-- end -->"

    return re.sub(r"<!-- measured (\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)
