"""Execute one notebook and leave its report: the notebook with its outputs, a web page, a line in an index.

A report stands under its name only when it is whole; a notebook that fails is kept as ``NN_name.failed.ipynb``.
Pages carry their figures and styles; only their equations need a network (MathJax).
"""

import base64
import html
import io
import json
import os
import re
import sys
from pathlib import Path

from lttlib.course.summary import PAGE as MODELS_PAGE
from lttlib.files import atomic_write

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Listen to the Teacher! {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: auto; padding: 1rem }}
table {{ border-collapse: collapse; width: 100% }} td {{ border-top: 1px solid #ccc; padding: .5rem 0 }}
td + td {{ text-align: right; white-space: nowrap }}</style><h1>Listen to the Teacher! {title}</h1>
<table>
{rows}
</table></html>
"""


LOGGED = re.compile(r"((WARNING: All log messages before absl|[IWE]\d{4} ).*\n?)+")


class NotebookError(RuntimeError):
    """A notebook stopped; the message names the cell, its error and the file that holds the notebook so far."""


def execute(notebook, values, reports, variables):
    """Run a notebook, in its own folder, and publish its report in the folder `reports`.

    Parameters
    ----------
    notebook, reports : Path
    values : dict
        Parameters to inject.
    variables : dict
        Environment variables for the kernel.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    NotebookError
        A cell failed or the kernel died.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    partial, failed = (
        reports / f"{notebook.stem}.{state}.ipynb" for state in ("partial", "failed")
    )
    # JUPYTER_PATH: the kernel named python3 is to be this interpreter's, not one that the user installed elsewhere.
    kernels = os.pathsep.join(
        filter(None, [f"{sys.prefix}/share/jupyter", os.environ.get("JUPYTER_PATH")])
    )
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    before = dict(os.environ)
    partial.unlink(missing_ok=True)
    try:
        os.environ.update(quiet, LTT_BATCH="1", JUPYTER_PATH=kernels, **variables)
        executed = papermill.execute_notebook(
            notebook,
            partial,
            values,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=sys.stdout,
            config=Config(
                KernelManager={"transport_encryption": "auto"}
            ),  # without it, a warning a notebook
        )
    except BaseException as error:  # also an interruption from the keyboard
        if partial.exists():
            partial.replace(failed)
        if isinstance(error, papermill.PapermillExecutionError):
            traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
            line = re.search(r"^-+> *\d+ (.*)$", traceback, re.MULTILINE)
            cause = f"cell [{error.exec_count}]: {line[1].strip() if line else ''}\n  {error.ename}: {error.evalue[:500]}"
        elif isinstance(error, DeadKernelError):
            cause = "a dead kernel; was there enough memory?"
        else:
            raise
        raise NotebookError(
            f"{notebook.stem} stopped in {cause}\n  The notebook so far: {failed}"
        ) from None
    finally:
        os.environ.clear()
        os.environ.update(before)
    exporter = HTMLExporter(embed_images=True, require_js_url="", jquery_url="")
    pages = nbformat.from_dict(executed)
    for cell in pages.cells:
        if cell.cell_type == "markdown":  # a link to another notebook means its page here
            cell.source = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.html", cell.source)
        else:  # what TensorFlow logs at its start, before anything can quieten it, helps no reader
            cell.outputs = [
                output for output in cell.outputs if not LOGGED.fullmatch(output.get("text", ""))
            ]
    page, _ = exporter.from_notebook_node(
        pages, {"metadata": {"name": notebook.stem, "path": str(notebook.parent)}}
    )
    with atomic_write(reports / f"{notebook.stem}.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    partial.replace(reports / notebook.name)
    failed.unlink(missing_ok=True)
    return executed.metadata.papermill.duration


def write_index(reports, title):
    """Link every report in the folder, under its notebook's heading, with the time it took; return the page's Path."""
    rows = []
    for path in sorted(reports.glob("[0-9][0-9]_*.ipynb")):
        if path.stem.endswith(".partial"):  # left by a run that was killed
            continue
        link, text, note = path.name, path.stem.removesuffix(".failed"), "failed"
        if path.with_suffix(".html").exists():  # a whole report; a failed one is not even read
            notebook = json.loads(path.read_text(encoding="utf-8"))
            texts = "\n".join(
                "".join(cell["source"])
                for cell in notebook["cells"]
                if cell["cell_type"] == "markdown"
            )
            heading = re.search(r"^# (.+)$", texts, re.MULTILINE)
            link, text = (
                f"{path.stem}.html",
                f"{path.stem[:2]} {heading[1] if heading else path.stem[3:]}",
            )
            note = f"{notebook['metadata']['papermill']['duration']:.0f} s"
        rows.append(f'<tr><td><a href="{link}">{html.escape(text)}</a></td><td>{note}</td></tr>')
    if (reports / "report.html").exists():
        rows.insert(
            0, '<tr><td><a href="report.html">All models side by side</a></td><td></td></tr>'
        )
    with atomic_write(reports / "index.html") as temporary:
        temporary.write_text(
            PAGE.format(title=html.escape(title), rows="\n".join(rows)), encoding="utf-8"
        )
    return reports / "index.html"


def table(rows) -> str:
    """Rows of `collect` as an HTML table, the best first."""
    head = (
        "model",
        "technique",
        "decoder",
        "parameters",
        "bytes",
        "LER (%)",
        "WER (%)",
        "real-time factor",
    )
    lines = [head]
    for row in sorted(
        rows, key=lambda row: row["WER"] if row["decoder"] == "lm" else row["LER"] + 1e3
    ):
        rates = [
            f"{row[rate]:.2f} ({row[f'{rate}_ci'][0]:.1f} to {row[f'{rate}_ci'][1]:.1f})"
            for rate in ("LER", "WER")
        ]
        speed = "–" if row["real_time_factor"] is None else f"{row['real_time_factor']:.5f}"
        numbers = f"{row['parameters']:,}", f"{row['bytes']:,}", *rates, speed
        lines.append((row["name"], row["technique"], row["decoder"], *numbers))
    cells = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>"
        for line, tag in zip(lines, ["th"] + ["td"] * len(rows), strict=True)
    ]
    return '<div class="wide"><table>\n' + "\n".join(cells) + "\n</table></div>"


def figure_html(figure, description: str) -> str:
    """A matplotlib figure as HTML: the image itself, and its description as alternative text and caption."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data, told = base64.b64encode(file.getvalue()).decode(), html.escape(description, quote=True)
    return f'<figure><img alt="{told}" src="data:image/png;base64,{data}"><figcaption>{told}</figcaption></figure>'


def write_page(path, title: str, parts) -> Path:
    """Write a page that carries all it shows; parts are HTML, such as `table` and `picture` give."""
    with atomic_write(path) as temporary:
        temporary.write_text(
            MODELS_PAGE.format(title=html.escape(title), body="\n".join(parts)), encoding="utf-8"
        )
    return Path(path)
