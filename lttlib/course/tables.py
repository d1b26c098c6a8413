"""Results that were measured elsewhere: notebooks, README and RESULTS read them from one file.

`notebooks/measured.json` holds tables by name. Each says what ran, where and when, so that no
number stands anywhere without its origin. Notebooks show a table as a box; `write_pages` puts
tables between the markers of README and makes RESULTS.md.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from lttlib import Error
from lttlib.course.notebooks import NOTEBOOKS
from lttlib.files import atomic_write, parse_json

TABLES = NOTEBOOKS / "measured.json"

# Where a table was measured, in the order in which it is told.
ORIGIN = ("profile", "corpus", "machine", "seeds", "commit", "date", "command")

RESULTS = """# Results

What was measured, with what, where and when. The tables stand in `notebooks/measured.json`;
`make results` writes this page and the tables of README from it.
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
    """

    name: str
    title: str
    columns: list
    rows: list
    origin: dict
    note: str = ""

    def value(self, row, column):
        """What stands in a column, in the row that begins with this text."""
        (cells,) = [cells for cells in self.rows if cells[0] == row]
        return cells[self.columns.index(column)]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)

    def origin_line(self) -> str:
        """Where it was measured, in one line."""
        return "; ".join(f"{key} {self.origin[key]}" for key in ORIGIN if key in self.origin)

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
        If a table names no machine or no date, or a row is longer or shorter than its columns.
    """
    path = path or TABLES
    tables = {}
    for name, entry in parse_json(path.read_bytes()).items():
        table = Table(name, **entry)
        for key in ("machine", "date", "command"):
            if not table.origin.get(key):
                raise Error(f"{name} does not say its {key}", path)
        if any(len(row) != len(table.columns) for row in table.rows):
            raise Error(f"{name} has rows that do not fit its columns", path)
        tables[name] = table
    return tables


def measured(name) -> Table:
    """A table of results that were measured elsewhere; in a notebook it shows as a box."""
    tables = measured_tables()
    if name not in tables:
        raise Error(f"no table {name!r}; there are {', '.join(tables)}", TABLES)
    return tables[name]


def write_pages(folder) -> None:
    """Write RESULTS.md, and the tables between the markers of README.md, in this folder.

    Parameters
    ----------
    folder : Path
        The folder of the project.
    """
    folder = Path(folder)
    readme = folder / "README.md"
    pages = {
        folder / "RESULTS.md": results_page(),
        readme: with_tables(readme.read_text(encoding="utf-8")),
    }
    for path, text in pages.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def results_page() -> str:
    """All tables in Markdown, each with its title, its note and its origin."""
    parts = [RESULTS]
    for table in measured_tables().values():
        parts.append(f"## {table.title}\n")
        if table.note:
            parts.append(f"{table.note}\n")
        parts.append(f"{table.markdown()}\n")
        parts.append(f"{table.origin_line()}\n")
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
