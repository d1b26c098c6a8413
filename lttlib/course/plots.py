"""Figures of the course: one look, colours that everybody can tell apart, claims as titles."""

import difflib
import os
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.text import Text
from matplotlib.ticker import LogLocator
from matplotlib.transforms import Bbox

# Okabe and Ito 2008: distinct for colour-blind readers, and in grey.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
}

STYLE = {
    "figure.figsize": (8, 3),
    "figure.dpi": 96,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
    "lines.linewidth": 1.8,
    "image.cmap": "viridis",
    "legend.frameon": False,
}

RECORDER = Path(__file__).with_name("recorder.js")

# Where a name may stand beside its point, in points of 1/72 inch: the nearest places first.
DISTANCES = ((5, 5), (5, 16), (14, 26), (30, 14), (40, 34), (10, 48), (70, 20), (60, 60))
PLACES = [
    (sign_x * x, sign_y * y)
    for x, y in DISTANCES
    for sign_x, sign_y in ((-1, -1), (1, 1), (-1, 1), (1, -1))
]
LETTER_WIDTH = 0.602  # of DejaVu Sans Mono, as a share of its size


def style() -> None:
    """Set the look of all figures that follow; call it once, at the top of a notebook."""
    plt.rcParams.update(STYLE)


def label_axes(axes, text: str, x: str = "", y: str = "") -> None:
    """Title that says what a figure shows, and labels with units."""
    axes.set_title("\n".join(textwrap.wrap(text, 80)))
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def wave(axes, samples, sampling_rate: int) -> None:
    """A wave [samples] over seconds."""
    seconds = np.arange(len(samples)) / sampling_rate
    axes.plot(seconds, samples, linewidth=0.5)
    axes.set_xlim(0, len(samples) / sampling_rate)


def specshow(
    axes, values, seconds_per_frame: float, label: str = "", top: float | None = None, **options
):
    """Something that changes over time, as a picture with a colour bar.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : array [frames, channels]
    seconds_per_frame : float
    label : str
        Of the colour bar.
    top : float, optional
        What the last channel stands for, where the first stands for 0 (kHz, say); without it
        channels are numbered.
    **options
        Of `imshow`: vmin, vmax, ...

    Returns
    -------
    matplotlib.image.AxesImage
    """
    frames, channels = values.shape
    heights = (-0.5, channels - 0.5) if top is None else (0, top)
    image = axes.imshow(
        values.T,
        aspect="auto",
        origin="lower",
        extent=(0, frames * seconds_per_frame, *heights),
        interpolation="nearest",
        **options,
    )
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.01)
    return image


def posteriors(axes, probabilities, classes, seconds_per_frame: float) -> None:
    """Probabilities over seconds: the blank in grey, each class that ever leads in a colour.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    probabilities : float array [frames, classes]
        The blank is the last class.
    classes : sequence of str
        Names of all classes but the blank.
    seconds_per_frame : float
    """
    blank = len(classes)
    leading = probabilities.argmax(axis=1)
    seconds = (np.arange(len(probabilities)) + 0.5) * seconds_per_frame

    axes.fill_between(seconds, probabilities[:, blank], color="0.88", label="blank")
    for index in sorted(set(leading) - {blank}):
        axes.plot(seconds, probabilities[:, index], linewidth=1.4)

    # A letter stands where its class begins to lead.
    previous = blank
    for frame, index in enumerate(leading):
        if index not in (previous, blank):
            name = classes[index] if classes[index] != " " else "␣"
            axes.annotate(name, (seconds[frame], 1.03), ha="center", fontsize=9)
        previous = index
    axes.set(ylim=(0, 1.15), xlim=(0, len(probabilities) * seconds_per_frame))


def error_bars(axes, names, rates, intervals, unit: str = "LER (%)") -> None:
    """Error rates as horizontal bars with their 95 % intervals and numbers; the first name on top.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    names : list of str
    rates : list of float
        In percent.
    intervals : list of (float, float)
        Low and high end of each; None for none.
    unit : str
        Label of the axis.
    """
    heights = np.arange(len(names))[::-1]
    rates = np.array(rates, float)
    ends = [(np.nan, np.nan) if pair is None else pair for pair in intervals]
    low, high = np.array(ends, float).reshape(-1, 2).T
    axes.barh(heights, rates, color=COLOURS["sky"], height=0.6)
    # Where all utterances err alike, an end may lie beyond the rate by a rounding error.
    widths = np.maximum([rates - low, high - rates], 0)
    axes.errorbar(rates, heights, xerr=widths, fmt="none", ecolor="black", capsize=3)
    for height, rate, end in zip(heights, rates, np.fmax(rates, high), strict=True):
        axes.annotate(f" {rate:.1f}", (end, height), va="center")
    axes.set_yticks(heights, names)
    axes.set_xlabel(unit)


def interact(draw, **choices):
    """A widget that redraws for each choice; nothing where nobody can choose (a batch run).

    Parameters
    ----------
    draw : function
        Called with the choices by name; draws a figure.
    **choices
        What `ipywidgets.interact` takes: lists, ranges, widgets.
    """
    if "LTT_BATCH" in os.environ:
        return
    import ipywidgets

    ipywidgets.interact(draw, **choices)


def record(draw, sampling_rate: int):
    """A button that records speech in the browser; nothing where nobody can speak (a batch run).

    Parameters
    ----------
    draw : function
        Called with each recording, a float32 array [samples]; what it draws or prints appears
        under the button.
    sampling_rate : int
        Hz of the recording.
    """
    if "LTT_BATCH" in os.environ:
        return
    import anywidget
    import ipywidgets
    import traitlets
    from IPython.display import display

    class Recorder(anywidget.AnyWidget):
        _esm = RECORDER
        sampling_rate = traitlets.Int().tag(sync=True)
        # Bytes arrive as a memoryview, which the trait Bytes would refuse.
        samples = traitlets.Any(b"").tag(sync=True)

    recorder = Recorder(sampling_rate=sampling_rate)
    output = ipywidgets.Output()

    def show(change):
        output.clear_output(wait=True)
        with output:
            draw(np.frombuffer(change["new"], np.float32))

    recorder.observe(show, names="samples")
    display(recorder, output)


def frontier(axes, rows, front, cost: str = "bytes", rate: str = "LER", also=()) -> None:
    """Models by cost and error rate; those of the frontier are joined, and named.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    rows : list of dict
        name (or label), and the cost and rate; models without a cost are left out.
    front : list of dict
        Those of them that no other beats, the cheapest first.
    cost, rate : str
        Keys of the rows. Both scales are logarithmic, unless a model is without errors.
    also : list of dict
        Models that are named as well.
    """
    rows = [row for row in rows if row[cost] is not None]
    front_points = [(row[cost], row[rate]) for row in front]
    other_points = [(row[cost], row[rate]) for row in rows if row not in front]
    if other_points:
        axes.plot(*zip(*other_points, strict=True), "o", color=COLOURS["sky"], markersize=4)
    # What a device may hold rises along the line, the errors fall only at a model.
    axes.step(*zip(*front_points, strict=True), "o-", where="post", color=COLOURS["blue"])

    has_errors = all(row[rate] > 0 for row in rows)
    axes.set(xscale="log", yscale="log" if has_errors else "linear")
    axes.margins(0.35, 0.15)
    if has_errors:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    named = [*front, *(row for row in also if row not in front)]
    names = [row.get("label", row["name"]) for row in named]
    points = [(row[cost], row[rate]) for row in named]
    corners = [(x, y) for (_, y), (x, _) in zip(front_points, front_points[1:], strict=False)]
    line = [point for pair in zip(front_points, corners, strict=False) for point in pair]
    name_points(axes, points, names, other_points, [*line, front_points[-1]])


def name_points(axes, points, names, others=(), line=()) -> None:
    """Write a name beside each point, joined to it by a thin line.

    No name covers another, a point, one of the others, or the line, as far as there is room. Call
    it last: scales, limits and titles decide where there is room.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    points : list of (float, float)
    names : list of str
    others : list of (float, float)
        Points without a name.
    line : list of (float, float)
        Corners of a line that is drawn through the points.
    """
    axes.figure.draw_without_rendering()
    inside = axes.get_window_extent()
    pixels = axes.transData.transform([*points, *others])
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in pixels]
    if len(line):
        corners = axes.transData.transform(line)
        for start, end in zip(corners, corners[1:], strict=False):
            steps = np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 6))
            taken += [Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in steps]
    leader = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.7, "shrinkB": 3}
    for point, name in zip(points, names, strict=True):
        label = axes.annotate(
            name, point, (0, 0), textcoords="offset points", fontsize=9, arrowprops=leader
        )
        costs = [_crowding(label, place, taken, inside) for place in PLACES]
        _move(label, PLACES[int(np.argmin(costs))])
        label.get_window_extent()
        taken.append(Text.get_window_extent(label))


def _move(label, place):
    """Put a name left or right of its point, under or over it."""
    x, y = place
    label.set_position(place)
    label.set(ha="right" if x < 0 else "left", va="top" if y < 0 else "bottom")


def _crowding(label, place, taken, inside):
    """How much a name at a place covers or leaves the axes; of free places, the nearest is best."""
    _move(label, place)
    label.get_window_extent()  # with its line: this sets the position of the text
    box = Text.get_window_extent(label)
    is_outside = box.x0 < inside.x0 or box.x1 > inside.x1
    is_outside |= box.y0 < inside.y0 or box.y1 > inside.y1
    return 1000 * is_outside + 100 * box.count_overlaps(taken) + np.hypot(*place) / 100


def forest(axes, names, changes, unit: str) -> None:
    """Differences with their 95 % intervals, one under another, as medicine shows its trials.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    names : list of str
    changes : list of dict
        points and points_ci, as `recognition.difference` returns them. Of those whose interval
        includes 0, nothing can be said: they are grey.
    unit : str
        Label of the axis. Where some are far larger than others, it is logarithmic beyond 5
        points, so that small ones can be seen as well.
    """
    heights = np.arange(len(names))[::-1]
    beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
    axes.axvline(0, color="black", linewidth=0.8)
    for height, change in zip(heights, changes, strict=True):
        points = change["points"]
        low, high = change["points_ci"] or (np.nan, np.nan)
        colour = "0.6"
        if low > 0 or high < 0:
            colour = COLOURS["green" if points < 0 else "red"]
        axes.plot([low, high], [height, height], color=colour)
        axes.plot(points, height, "o", color=colour)
        numbers = f"{points:+.1f} ({low:+.1f} to {high:+.1f})"
        axes.annotate(numbers.replace("-", "−"), (1.02, height), **beside)
    axes.set_yticks(heights, names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel(unit)
    sizes = [abs(change["points"]) for change in changes]
    if max(sizes) > 20 and min(sizes) < 5:
        low, high = axes.get_xlim()
        axes.set_xscale("symlog", linthresh=5)
        axes.set_xlim(1.3 * low, 1.3 * high)
        ticks = np.array([-40, -10, -5, 0, 5, 10, 40])
        axes.set_xticks(ticks[(ticks > low) & (ticks < high)])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"{unit} (logarithmic beyond 5)")


def texts_under_wave(samples, sampling_rate: int, lines):
    """A wave, and under it what was said and what others wrote; wrong words are red.

    Parameters
    ----------
    samples : float array [samples]
    sampling_rate : int
    lines : list of (str, str)
        Who, and the text; the first is what was said.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (top, bottom) = plt.subplots(
        2, figsize=(8, 1.6 + 0.35 * len(lines)), height_ratios=[1.3, 0.35 * len(lines)]
    )
    wave(top, samples, sampling_rate)
    top.set(xlabel="time (s)", yticks=[])
    bottom.axis("off")
    bottom.set_ylim(-len(lines), 0)
    said = lines[0][1].split()
    for number, (who, text) in enumerate(lines):
        bottom.text(0, -number - 0.5, who, va="center", fontweight="bold")
        _coloured_words(bottom, -number - 0.5, said, text.split())
    return figure


def _coloured_words(axes, height, said, written):
    """Words in one line from a third of the axes on; those that were not said are red."""
    matcher = difflib.SequenceMatcher(None, said, written, autojunk=False)
    right = set()
    for block in matcher.get_matching_blocks():
        right |= set(range(block.b, block.b + block.size))
    column = 0
    for index, word in enumerate(written):
        axes.annotate(
            word,
            (0.3, height),
            (9 * LETTER_WIDTH * column, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontfamily="DejaVu Sans Mono",
            color=COLOURS["black" if index in right else "red"],
        )
        column += len(word) + 1
