"""All models of a profile side by side: a table of what their cards tell, and a page to read it on."""

import base64
import html
import io
from pathlib import Path

from lttlib import storage
from lttlib.files import whole

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem; color: #222 }}
img {{ max-width: 100%; height: auto }} figure {{ margin: 1.5rem 0 }} figcaption {{ color: #444 }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .25rem .6rem; border-top: 1px solid #ccc; text-align: right; white-space: nowrap }}
th:nth-child(-n+3), td:nth-child(-n+3) {{ text-align: left }}</style>
<h1>{title}</h1>
{body}
</html>
"""


def collect(folder, prefixes=("",)) -> list:
    """What the cards of the models in a folder tell, a row for each model, split and decoder.

    Parameters
    ----------
    folder : path-like
        `data/<profile>/models`.
    prefixes : tuple of str
        Models whose names begin so.

    Returns
    -------
    list of dict: name, technique, parameters, bytes (of the largest file: the weights), split, decoder, LER, LER_ci,
    WER, WER_ci, and real_time_factor and seconds (of training), None where the card does not tell. A folder without a
    whole card is a row of name and `problem` alone.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/")):
        if not path.name.startswith(tuple(prefixes)) or path.name.startswith("."):
            continue
        try:
            card = storage.card(path)
        except ValueError as error:
            rows.append({"name": path.name, "problem": str(error)})
            continue
        about = {"name": path.name, "technique": card.get("technique", path.name), "parameters": card["parameters"]}
        about |= {"bytes": max(card["files"].values())}
        about |= {key: card.get(key) for key in ("real_time_factor", "seconds")}
        scores = [("greedy", split, found) for split, found in card.get("results", {}).items()]
        scores += [("lm", split, found) for split, found in card.get("lm_results", {}).items()]
        for decoder, split, found in scores:
            rates = {key: found[key] for key in ("LER", "LER_ci", "WER", "WER_ci")}
            rows.append(about | {"split": split, "decoder": decoder, **rates})
        if not scores:
            rows.append({"name": path.name, "problem": "its card has no results: score it, or run its notebook again"})
    return rows


def frontier(rows, cost="bytes", rate="LER") -> list:
    """The rows that no other beats: none costs as little and errs less. The cheapest first."""
    best = []
    for row in sorted((row for row in rows if row.get(cost) is not None), key=lambda row: (row[cost], row[rate])):
        if not best or row[rate] < best[-1][rate]:
            best.append(row)
    return best


def table(rows) -> str:
    """Rows of `collect` as an HTML table, the best first."""
    head = ("model", "technique", "decoder", "parameters", "bytes", "LER (%)", "WER (%)", "real-time factor")
    lines = [head]
    for row in sorted(rows, key=lambda row: row["WER"] if row["decoder"] == "lm" else row["LER"] + 1e3):
        rates = [
            f"{row[rate]:.2f} ({row[f'{rate}_ci'][0]:.1f} to {row[f'{rate}_ci'][1]:.1f})" for rate in ("LER", "WER")
        ]
        speed = "–" if row["real_time_factor"] is None else f"{row['real_time_factor']:.5f}"
        numbers = f"{row['parameters']:,}", f"{row['bytes']:,}", *rates, speed
        lines.append((row["name"], row["technique"], row["decoder"], *numbers))
    cells = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>"
        for line, tag in zip(lines, ["th"] + ["td"] * len(rows), strict=True)
    ]
    return '<div class="wide"><table>\n' + "\n".join(cells) + "\n</table></div>"


def picture(figure, description: str) -> str:
    """A matplotlib figure as HTML: the image itself, and its description as alternative text and caption."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data, told = base64.b64encode(file.getvalue()).decode(), html.escape(description, quote=True)
    return f'<figure><img alt="{told}" src="data:image/png;base64,{data}"><figcaption>{told}</figcaption></figure>'


def write_page(path, title: str, parts) -> Path:
    """Write a page that carries all it shows; parts are HTML, such as `table` and `picture` give."""
    with whole(path) as temporary:
        temporary.write_text(PAGE.format(title=html.escape(title), body="\n".join(parts)), encoding="utf-8")
    return Path(path)
