"""Execute notebooks and leave their reports: outputs, a web page, a line in an index.

A report stands under its name only when it is whole; a notebook that fails is kept as
``NN_name.failed.ipynb``. `pages` makes the pages. Several notebooks at a time run in processes of
their own, which share the processors.
"""

import html
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lttlib import Error

LIBRARY = Path(__file__).resolve().parents[2]  # the folder that lttlib is imported from
ALL_MODELS = "09_report"  # the notebook that shows all models of a profile side by side

# Variables of each kernel: a batch run, and no chatter of TensorFlow and of the debugger.
BATCH = {"LTT_BATCH": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}

# Notebooks that read nothing of one another, stage by stage: each reads what earlier stages wrote.
STAGES = (
    ("00_overview", "01_features"),
    ("02_teacher",),
    ("03_guidance", "04_distilled_student"),
    ("05_quantized_student", "06_fitnet", "07_language_model"),
    ("08_deployment",),
    ("09_report",),
)

COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")

# What the names of models say in words: those that end in a number of bits, and others.
BITS = {
    "teacher-rounded": "teacher",
    "rounded": "rounded",
    "fitted": "fitted levels",
    "quantized": "quantized distillation",
    "levels": "learned levels",
}
WORDS = {
    "labels": "label only",
    "fitnet": "FitNet",
    "deep": "distilled, deep",
    "deep-longer": "distilled, deep, longer",
    "int8": "8 bits throughout",
    "dynamic_int8": "8-bit weights",
}

CHOICE_COLUMNS = ("device", "model", "bytes", "LER (%)", "beside {}", "to use it")

COLUMNS = (
    "model",
    "technique",
    "decoder",
    "parameters",
    "bytes",
    "LER (%)",
    "WER (%)",
    "real-time factor",
)


class NotebookError(Error):
    """A notebook stopped; the message names cell, error and the file of the notebook so far."""


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
    lttlib.Error
        Before it runs, if it cannot become a page: a formula is none, or a picture is not there.
    """
    import nbformat

    from lttlib.course import pages

    # What cannot become a page is refused before it runs.
    pages.notebook_page(nbformat.read(notebook, as_version=4), notebook)
    partial = reports / f"{notebook.stem}.partial.ipynb"
    failed = reports / f"{notebook.stem}.failed.ipynb"
    partial.unlink(missing_ok=True)

    # papermill writes the notebook so far; if it stops, that is kept.
    try:
        with _kernel_environment(variables):
            executed = _run_cells(notebook, values, partial)
    except BaseException as error:  # also an interruption from the keyboard
        if partial.exists():
            partial.replace(failed)
        # Errors that are not the notebook's own go on as they are.
        cause = _describe_stop(error)
        if cause is None:
            raise
        message = f"{notebook.stem} stopped in {cause}\n  The notebook so far: {failed}"
        raise NotebookError(message) from None

    # The report takes the place of an older one.
    page = pages.notebook_page(nbformat.from_dict(executed), notebook)
    pages.write_page(reports / f"{notebook.stem}.html", page)
    pages.write_companions(notebook, reports)
    partial.replace(reports / notebook.name)
    failed.unlink(missing_ok=True)
    return executed.metadata.papermill.duration


def run_in_stages(profile, steps, jobs, reports=""):
    """Run notebooks, at most so many at a time, and print what each of them prints.

    Parameters
    ----------
    profile, reports : str
        As `course.run` takes them.
    steps : list of (Path, dict)
        Notebooks and their values, as `course.plan` returns them.
    jobs : int

    Raises
    ------
    NotebookError
        Notebooks failed; those of their stage have run to their end, later ones have not begun.
    """
    values = {notebook.stem: parameters for notebook, parameters in steps}
    known = {stem for stage in STAGES for stem in stage}
    others = [(stem,) for stem in values if stem not in known]
    for stage in (*STAGES, *others):
        stems = [stem for stem in stage if stem in values]

        def run_notebook(stem):
            parameters = dict(values[stem])
            parameters.pop("profile", None)  # told beside them
            command = run_command(profile, [stem], parameters, reports)
            return _run_printing(stem[:2], command)

        # Alone, a notebook has all processors.
        successes = map_in_processes(run_notebook, stems, min(jobs, len(stems)))
        failed = [stem for stem, success in zip(stems, successes, strict=True) if not success]
        if failed:
            raise NotebookError(f"{', '.join(failed)} stopped; see above")


def _run_printing(number, command):
    """Run a command; print its lines with a number before each. Return whether it succeeded."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=batch_environment(), errors="replace", **pipe) as process:
        for line in process.stdout:
            if not line.startswith("Report: "):  # of this notebook alone
                print(f"{number}  {line}", end="", flush=True)
    return process.returncode == 0


def batch_environment():
    """The environment of another process that runs notebooks with this lttlib."""
    return os.environ | {"LTT_BATCH": "1", "PYTHONPATH": library_path()}


def run_command(profile, only, parameters, reports):
    """The words of the command `ltt run` with these arguments."""
    # -P: the lttlib of the folder that one stands in may be another one.
    command = [sys.executable, "-P", "-m", "lttlib.cli", "run", profile]
    for notebook in only:
        command += ["--only", notebook]
    for key, value in parameters.items():
        command += ["-p", f"{key}={value}"]
    return [*command, "--reports", reports]


def map_in_processes(function, items, jobs):
    """Apply a function that starts a process to each item, so many at a time, and list the results.

    Each of these processes, and so its children, has its share of the processors.
    """
    # Threads wait for processes, which may use the processors of the thread that starts them.
    shares = _processor_shares(jobs)

    def take_share():
        if shares:
            os.sched_setaffinity(0, shares.pop())

    with ThreadPoolExecutor(max(jobs, 1), initializer=take_share) as pool:
        return list(pool.map(function, items))


def _processor_shares(jobs):
    """Sets of processors, one for each job; an empty list where they cannot be shared out."""
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return []
    processors = sorted(os.sched_getaffinity(0))
    if jobs > len(processors):
        return []
    return [processors[number::jobs] for number in range(jobs)]


def library_path() -> str:
    """PYTHONPATH for other processes, so that they import this lttlib and not one elsewhere."""
    return os.pathsep.join(filter(None, [str(LIBRARY), os.environ.get("PYTHONPATH")]))


@contextmanager
def _kernel_environment(variables):
    """The environment that a kernel inherits, for as long as one runs."""
    before = dict(os.environ)
    # The kernel named python3 is to be that of this interpreter, not one installed elsewhere.
    kernels = [f"{sys.prefix}/share/jupyter", os.environ.get("JUPYTER_PATH")]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, kernels))
    os.environ["PYTHONPATH"] = library_path()
    os.environ.update(BATCH | variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run_cells(notebook, values, output):
    """Run a notebook with papermill, which writes it to `output` after each cell; return it."""
    import papermill
    from traitlets.config import Config

    # Without it, each kernel gives a warning.
    config = Config(KernelManager={"transport_encryption": "auto"})
    return papermill.execute_notebook(
        notebook,
        output,
        values,
        kernel_name="python3",
        cwd=notebook.parent,
        progress_bar=False,
        stdout_file=sys.stdout,
        config=config,
    )


def _describe_stop(error):
    """Where and why a notebook stopped; None if the error is not that of a notebook."""
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError

    if isinstance(error, DeadKernelError):
        return "a dead kernel; was there enough memory?"
    # jupyter_client has no class of its own for a kernel that dies while it starts.
    if isinstance(error, NoSuchKernel) or "Kernel died before replying" in str(error):
        return "a kernel that did not start; is the extra [course] installed whole?"
    if not isinstance(error, papermill.PapermillExecutionError):
        return None
    traceback = COLOUR_CODE.sub("", "\n".join(error.traceback))
    arrow = re.search(r"^-+> *\d+ (.*)$", traceback, re.MULTILINE)
    line = arrow[1].strip() if arrow else ""
    return f"cell [{error.exec_count}]: {line}\n  {error.ename}: {error.evalue[:500]}"


def write_index(reports, title):
    """Link all reports in a folder, with headings and times, in its index.html; return its Path."""
    from lttlib.course import pages

    rows = []
    if (reports / f"{ALL_MODELS}.html").exists():
        rows.append(_index_row(f"{ALL_MODELS}.html", "All models side by side", ""))
    for path in sorted(reports.glob("[0-9][0-9]_*.ipynb")):
        page = path.with_suffix(".html")
        if path.stem.endswith(".partial"):  # of a run that was killed
            continue
        if page.exists():
            rows.append(_index_row(page.name, *_heading_and_time(path)))
        else:  # the notebook failed, and is not even read
            rows.append(_index_row(path.name, path.stem.removesuffix(".failed"), "failed"))
    index = reports / "index.html"
    title = f"{pages.TITLE} {title}"
    lines = "\n".join(rows)
    table = f"<table>\n{lines}\n</table>"
    body = f"<main>\n<h1>{html.escape(title)}</h1>\n{table}\n</main>"
    pages.write_page(index, pages.whole_page(title, body))
    return index


def _index_row(link, text, outcome):
    """A row of the index: a report, and the time it took or that it failed."""
    return f'<tr><td><a href="{link}">{html.escape(text)}</a></td><td>{outcome}</td></tr>'


def _heading_and_time(path):
    """Number and title of an executed notebook, and the time it took."""
    from lttlib.course import pages

    notebook = json.loads(path.read_text(encoding="utf-8"))
    heading = pages.heading(path)
    number = path.stem[:2]
    if not heading.startswith(number):
        heading = f"{number} {heading}"
    return heading, f"{notebook['metadata']['papermill']['duration']:.0f} s"


def results_table(rows) -> str:
    """Rows of `experiments.load_results` as an HTML table, the best first.

    Those decoded with a language model go first, by their WER; then the others, by their LER.
    """
    lines = [_table_row("th", COLUMNS)]
    for row in sorted(rows, key=_rank):
        name = row.get("label", row["name"])
        cells = [name, row["technique"], row["decoder"]]
        cells += [f"{row['parameters']:,}", f"{row['bytes']:,}"]
        cells += [_format_rate(row, "LER"), _format_rate(row, "WER")]
        speed = row["real_time_factor"]
        cells.append("–" if speed is None else f"{speed:.5f}")
        lines.append(_table_row("td", cells))
    return _scrolling("\n".join(lines))


def _rank(row):
    """What a row of the table of results is sorted by."""
    if row["decoder"] == "lm":
        return 0, row["WER"]
    return 1, row["LER"]


def _format_rate(row, rate):
    """An error rate and its interval, if there is one."""
    if row[f"{rate}_ci"] is None:
        return f"{row[rate]:.2f}"
    low, high = row[f"{rate}_ci"]
    return f"{row[rate]:.2f} ({low:.1f} to {high:.1f})"


def _table_row(tag, cells):
    """A row of a table, of cells th or td."""
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def readable_name(name, student="student") -> str:
    """What a model is, in words: `student-teacher-rounded3` is the teacher in 3 bits."""
    name = name.removeprefix(f"{student}-")
    match = re.fullmatch(r"(\D+)(\d+)", name)
    if match and match[1] in BITS:
        return f"{BITS[match[1]]}, {match[2]} bits"
    return WORDS.get(name, name)


def describe_difference(change, other, rate="LER") -> str:
    """A difference in words, with its interval; or that nothing can be said of it.

    Parameters
    ----------
    change : dict
        What `recognition.difference` returns.
    other : str
        With what it was compared.
    rate : {"LER", "WER"}
    """
    interval = "no interval: a single utterance"
    if change["points_ci"]:
        low, high = change["points_ci"]
        interval = f"95 %: {low:+.1f} to {high:+.1f}".replace("-", "−")
        interval = interval.replace(" ", "\u00a0")  # in one line
    if not change["certain"]:
        text = f"of {rate} beside {other} nothing can be said ({interval})"
    else:
        more = "more" if change["points"] > 0 else "less"
        text = f"{abs(change['points']):.1f} points of {rate} {more} than {other} ({interval})"
    return text


def choice_table(choices, reference, folder="") -> str:
    """Which model for which device, as an HTML table.

    Parameters
    ----------
    choices : dict
        Rows of `experiments.load_results` with a label, by device; None where no model fits.
    reference : dict
        The row that they are compared with.
    folder : path-like
        Where the models are, as `ltt transcribe` is to be told.
    """
    from lttlib.recognition import difference

    lines = [_table_row("th", [text.format(reference["label"]) for text in CHOICE_COLUMNS])]
    for device, row in choices.items():
        if row is None:
            lines.append(_table_row("td", [device, "none is as small", "", "", "", ""]))
            continue
        change = difference(row["result"], reference["result"])
        command = f"ltt transcribe {Path(folder) / row['name']} speech.wav"
        cells = [device, row["label"], f"{row['bytes']:,}", _format_rate(row, "LER")]
        lines.append(_table_row("td", [*cells, _format_change(change), command]))
    return _scrolling("\n".join(lines))


def _format_change(change):
    """A difference in points, with its interval, and whether it is certain."""
    text = f"{change['points']:+.1f}"
    if change["points_ci"]:
        low, high = change["points_ci"]
        text += f" ({low:+.1f} to {high:+.1f})"
    return text.replace("-", "−") + ("" if change["certain"] else ": not certain")


def _scrolling(lines):
    """A table that can be moved sideways where the window is narrow."""
    return f'<div style="overflow-x: auto"><table>\n{lines}\n</table></div>'
