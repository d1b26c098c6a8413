"""Figures of the course: one look, colours that everybody can tell apart, claims as titles."""

import difflib
import os
import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
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

ONLY_LIVE = "Interactive: open this notebook in JupyterLab."

# Of classes in `posteriors`.
KIND_COLOURS = {"vowel": "red", "consonant": "blue", "space": "green"}

# Where a name may stand beside its point, in points of 1/72 inch: the nearest places first.
DISTANCES = ((5, 5), (5, 16), (14, 26), (30, 14), (40, 34), (10, 48), (70, 20), (60, 60))

PLACES = [
    (sign_x * x, sign_y * y)
    for x, y in DISTANCES
    for sign_x, sign_y in ((-1, -1), (1, 1), (-1, 1), (1, -1))
]

LETTER_WIDTH = 0.602  # of DejaVu Sans Mono, as a share of its size


def style() -> None:
    """Set the look of all figures that follow, which get an alternative text as well.

    Call it once, at the top of a notebook.
    """
    plt.rcParams.update(STYLE)
    notebook = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if notebook:
        # Metadata alone: whatever draws the figure stays as it is.
        formatter = notebook.display_formatter.mimebundle_formatter
        formatter.for_type(Figure, lambda shown: ({}, {"image/png": {"alt": alt_text(shown)}}))


def label_axes(axes, text: str, x: str = "", y: str = "") -> None:
    """Title that says what a figure shows, and labels with units."""
    axes.set_title(_broken(text))
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _broken(text, width=80):
    """A title in lines of about the same length; a number and its % stay together."""
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(text, width)
    for narrower in range(width, width // 2, -1):
        shorter = textwrap.wrap(text, narrower)
        if len(shorter) > len(lines):
            break
        lines = shorter
    return "\n".join(lines)


def wave(axes, samples, sampling_rate: int) -> None:
    """A wave [samples] over seconds."""
    seconds = np.arange(len(samples)) / sampling_rate
    axes.plot(seconds, samples, linewidth=0.5)
    axes.set_xlim(0, len(samples) / sampling_rate)


def specshow(
    axes, values, seconds_per_frame: float, label: str = "", top: float | None = None, **options
):
    """Draw values [frames, channels] over seconds, with a colour bar; return the AxesImage.

    The first channel stands for 0 and the last for `top` (kHz, say); without it channels are
    numbered. Options are those of `imshow`: vmin, vmax, ...
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
    """Probabilities over seconds of the blank, in grey, and of each class that ever leads.

    Vowels, consonants and the space have a colour each; a letter stands where it begins to lead.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    probabilities : float array [frames, classes]
        The blank is the last class.
    classes : sequence of str
        Names of all classes but the blank.
    seconds_per_frame : float
    """
    # Which class leads in which frame, and when.
    blank = len(classes)
    leading = probabilities.argmax(axis=1)
    seconds = (np.arange(len(probabilities)) + 0.5) * seconds_per_frame

    # Curves; the legend names each kind once.
    axes.fill_between(seconds, probabilities[:, blank], color="0.88", label="blank")
    labelled = set()
    for index in sorted(set(leading) - {blank}):
        kind = _kind_of(classes[index])
        label = None if kind in labelled else kind
        labelled.add(kind)
        colour = COLOURS[KIND_COLOURS[kind]]
        axes.plot(seconds, probabilities[:, index], color=colour, linewidth=1.4, label=label)

    # A letter stands where its class begins to lead.
    previous = blank
    for frame, index in enumerate(leading):
        if index not in (previous, blank):
            kind = _kind_of(classes[index])
            name = "·" if kind == "space" else classes[index]
            style = {"ha": "center", "fontsize": 9, "color": COLOURS[KIND_COLOURS[kind]]}
            axes.annotate(name, (seconds[frame], 1.03), **style)
        previous = index

    # Room above for the letters.
    axes.set(ylim=(0, 1.15), xlim=(0, len(probabilities) * seconds_per_frame))
    # Short enough to end before the label of the axis, which is in the middle.
    below = {"loc": "upper left", "bbox_to_anchor": (0, -0.18), "ncols": 4, "fontsize": 8}
    axes.legend(**below, columnspacing=1, handlelength=1.4)


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
    nothing = (np.nan, np.nan)
    ends = np.array([pair or nothing for pair in intervals], float)
    low, high = ends.reshape(-1, 2).T
    axes.barh(heights, rates, color=COLOURS["sky"], height=0.6)
    # Where all utterances err alike, an end may lie beyond the rate by a rounding error.
    widths = np.maximum([rates - low, high - rates], 0)
    axes.errorbar(rates, heights, xerr=widths, fmt="none", ecolor="black", capsize=3)
    for height, rate, end in zip(heights, rates, np.fmax(rates, high), strict=True):
        axes.annotate(f" {rate:.1f}", (end, height), va="center")
    axes.set_yticks(heights, names)
    axes.set_xlabel(unit)


def interact(draw, **choices):
    """A widget that redraws for each choice; a line that says so in a batch run.

    Parameters
    ----------
    draw : function
        Called with the choices by name; draws a figure.
    **choices
        What `ipywidgets.interact` takes: lists, ranges, widgets.
    """
    if "LTT_BATCH" in os.environ:
        print(ONLY_LIVE)
        return
    import ipywidgets

    ipywidgets.interact(draw, **choices)


def record(draw, sampling_rate: int):
    """A button that records speech in the browser; a line that says so in a batch run.

    Parameters
    ----------
    draw : function
        Called with each recording, a float32 array [samples]; what it draws or prints appears
        under the button.
    sampling_rate : int
        Hz of the recording.
    """
    if "LTT_BATCH" in os.environ:
        print(ONLY_LIVE)
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


def alt_text(figure) -> str:
    """What a figure shows, in words: its titles, labels, bars with names, and curves with names."""
    sentences = [figure.get_suptitle()]
    for axes in figure.axes:
        sentences += [axes.get_title(place) for place in ("left", "center", "right")]
        labels = {"Across": axes.get_xlabel(), "Up": axes.get_ylabel()}
        sentences += [f"{way}: {label}" for way, label in labels.items() if label]
        for container in axes.containers:
            if isinstance(container, BarContainer):
                sentences.append(_bars_in_words(axes, container))
        for line in axes.lines:
            sentences.append(_curve_in_words(line))
    sentences = [" ".join(sentence.split()).rstrip(".") for sentence in sentences]
    # Panels may share a label.
    return ". ".join(dict.fromkeys(filter(None, sentences))) or "A figure without a title"


def _bars_in_words(axes, bars):
    """How long bars are, such as "teacher: 2.9; student: 11"; nothing where they have no names."""
    lying = bars.orientation == "horizontal"
    axis = axes.yaxis if lying else axes.xaxis
    names = {}
    for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True):
        names[f"{place:.4f}"] = label.get_text()

    # A bar's name is the label of the tick at its middle.
    words = []
    for bar, length in zip(bars, bars.datavalues, strict=True):
        across, up = bar.get_center()
        place = up if lying else across
        key = f"{place:.4f}"
        if key not in names:
            return ""
        words.append(f"{names[key]}: {length:.3g}")
    return "; ".join(words)


def _curve_in_words(line):
    """The ends and extremes of a curve; nothing where it has no name."""
    name = line.get_label()
    if name.startswith("_"):
        return ""
    heights = np.asarray(line.get_ydata(orig=False), float)
    heights = heights[np.isfinite(heights)]
    if not len(heights):
        return ""
    if line.axes.get_yscale() == "linear":
        # What nobody could see is 0.
        heights[abs(heights) < max(abs(heights)) / 1000] = 0
    first = heights[0]
    text = f"{name}: {first:.3g}"
    if len(heights) > 1:
        last = heights[-1]
        low = min(heights)
        high = max(heights)
        text += f" to {last:.3g}, between {low:.3g} and {high:.3g}"
    return text


def _kind_of(character):
    """The kind of a class that has a colour of its own."""
    if character == " ":
        return "space"
    return "vowel" if character in "AEIOUY" else "consonant"


def lattice(axes, shares, symbols, path) -> None:
    """CTC's lattice: dots for places of a text in each frame, its arrows, and one alignment.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    shares : float array [frames, places]
        How much of the alignments' probability passes through each place; a dot is as large.
    symbols : list of str
        What is written at each place; the first is the blank.
    path : list of int
        The place in each frame of an alignment, which is marked.
    """
    frames, places = shares.shape
    arrow = {"arrowstyle": "-|>", "color": "0.6", "shrinkA": 5, "shrinkB": 7}
    for frame, place in np.argwhere(shares[:-1] > 0):
        start = (frame + 1, place)
        for target in _targets(symbols, place):
            if shares[frame + 1, target] > 0:
                axes.annotate("", (frame + 2, target), start, arrowprops=arrow)
    numbers = np.arange(1, frames + 1)
    axes.plot(numbers, path, color=COLOURS["orange"], linewidth=5, alpha=0.6)

    frame, place = np.nonzero(shares > 0)
    sizes = 30 + 400 * shares[frame, place]
    axes.scatter(frame + 1, place, sizes, color=COLOURS["blue"], zorder=3)
    axes.set_xticks(numbers)
    axes.set_yticks(range(places), symbols)
    axes.set_ylim(places - 0.5, -0.5)  # a text is read downwards


def _targets(symbols, place):
    """The places that an alignment may go to: the same, the next, or past a blank."""
    targets = [place, place + 1]
    beyond = place + 2
    if beyond < len(symbols) and symbols[beyond] not in (symbols[0], symbols[place]):
        targets.append(beyond)
    return [target for target in targets if target < len(symbols)]


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
    # Those that others beat are small dots.
    if other_points:
        axes.plot(*zip(*other_points, strict=True), "o", color=COLOURS["sky"], markersize=4)
    # What a device may hold rises along the line, the errors fall only at a model.
    axes.step(*zip(*front_points, strict=True), "o-", where="post", color=COLOURS["blue"])

    # A logarithmic scale has no 0.
    has_errors = all(row[rate] > 0 for row in rows)
    axes.set(xscale="log", yscale="log" if has_errors else "linear")
    axes.margins(0.35, 0.15)
    if has_errors:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")

    # Names keep clear of the line: along the step, then down.
    named = [*front, *(row for row in also if row not in front)]
    names = [row.get("label", row["name"]) for row in named]
    points = [(row[cost], row[rate]) for row in named]
    line = front_points[:1]
    for x, y in front_points[1:]:
        line += [(x, line[-1][1]), (x, y)]
    name_points(axes, points, names, others=other_points, line=line)


def name_points(axes, points, names, others=(), line=()) -> None:
    """Write a name beside each point, joined to it by a thin line.

    No name covers another, a point, one of the others, or a line, as far as there is room; and no
    thin line crosses another name. Call it last: scales, limits and titles decide where there is
    room.

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
    # In pixels: the axes, and what points and the line occupy in them.
    axes.figure.draw_without_rendering()
    inside = axes.get_window_extent()
    pixels = axes.transData.transform([*points, *others])
    occupied = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in pixels]
    # A line counts as many small boxes.
    corners = axes.transData.transform(line) if len(line) else []
    for start, end in zip(corners, corners[1:], strict=False):
        occupied += _boxes_along(start, end)

    # One name after the other gets the best place that those before it leave.
    written = []
    leader = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.7, "shrinkB": 3}
    for point, name in zip(points, names, strict=True):
        label = axes.annotate(
            name, point, (0, 0), textcoords="offset points", fontsize=9, arrowprops=leader
        )
        costs = {}
        for place in PLACES:
            costs[place] = _crowding(label, place, occupied, written, inside=inside)
        # Measuring moves the name there.
        best = min(costs, key=costs.get)
        box, line_boxes = _boxes_of(label, best)
        written.append(box)
        occupied += [box, *line_boxes]


def _move(label, place):
    """Put a name left or right of its point, under or over it."""
    x, y = place
    label.set_position(place)
    label.set(ha="right" if x < 0 else "left", va="top" if y < 0 else "bottom")


def _boxes_along(start, end):
    """Small boxes along a line, a few pixels apart."""
    length = np.hypot(*(end - start))
    places = np.linspace(start, end, 2 + int(length / 6))
    boxes = []
    for x, y in places:
        box = Bbox.from_bounds(x - 1, y - 1, 2, 2)
        boxes.append(box)
    return boxes


def _boxes_of(label, place):
    """The box of a name at a place, and those along the thin line to its point."""
    _move(label, place)
    label.get_window_extent()  # with its line: this sets the position of the text
    box = Text.get_window_extent(label)
    point = label.axes.transData.transform(label.xy)
    nearest = np.clip(point, box.min, box.max)  # of the name
    along = _boxes_along(nearest, point)
    return box, along[1:-1]


def _crowding(label, place, occupied, written, inside):
    """How much a name at a place covers or leaves the axes; of free places, the nearest is best."""
    box, line_boxes = _boxes_of(label, place)
    overlaps = box.count_overlaps(occupied)
    for name in written:
        if name.count_overlaps(line_boxes):
            overlaps += 1
    is_outside = not (inside.contains(*box.min) and inside.contains(*box.max))
    distance = np.hypot(*place)
    return 1000 * is_outside + 100 * overlaps + distance / 100


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
        # Fewer errors for certain are green, more are red.
        colour = "0.6"
        if low > 0 or high < 0:
            colour = COLOURS["green" if points < 0 else "red"]
        axes.plot([low, high], [height, height], color=colour)
        axes.plot(points, height, "o", color=colour)
        # The numbers stand right of the axes.
        numbers = f"{points:+.1f} ({low:+.1f} to {high:+.1f})"
        axes.annotate(numbers.replace("-", "−"), (1.02, height), **beside)
    axes.set_yticks(heights, names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel(unit)

    # A linear scale would leave small differences no room beside large ones.
    sizes = [abs(change["points"]) for change in changes]
    if max(sizes) > 20 and min(sizes) < 5:
        low, high = axes.get_xlim()
        axes.set_xscale("symlog", linthresh=5)
        axes.set_xlim(1.3 * low, 1.3 * high)
        # Symlog's own ticks stand too close together around 0.
        ticks = np.array([-40, -10, -5, 0, 5, 10, 40])
        axes.set_xticks(ticks[(ticks > low) & (ticks < high)])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"{unit} (logarithmic beyond 5)")


def texts_under_wave(samples, sampling_rate: int, lines):
    """Figure of a wave [samples] above the reference and transcripts of it, wrong words in red.

    Lines are pairs of a name and a text; the first holds the reference.
    """
    figure, (top, bottom) = plt.subplots(
        2, figsize=(8, 1.6 + 0.35 * len(lines)), height_ratios=[1.3, 0.35 * len(lines)]
    )
    wave(top, samples, sampling_rate)
    top.set(xlabel="time (s)", yticks=[])
    bottom.axis("off")
    bottom.set_ylim(-len(lines), 0)
    reference = lines[0][1].split()
    for number, (who, text) in enumerate(lines):
        bottom.text(0, -number - 0.5, who, va="center", fontweight="bold")
        _coloured_words(bottom, -number - 0.5, reference, text.split())
    return figure


def _coloured_words(axes, height, reference, hypothesis):
    """Words in one line from a third of the axes on; those not in the reference are red."""
    matcher = difflib.SequenceMatcher(None, reference, hypothesis, autojunk=False)
    right = set()
    for _, start, size in matcher.get_matching_blocks():
        right.update(range(start, start + size))
    column = 0
    for index, word in enumerate(hypothesis):
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


def grouped_bars(axes, groups, names) -> None:
    """Bars side by side: a group for each name, in it a bar of each entry of `groups`.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    groups : dict of str to float array [names]
        Heights, by what the legend says of them.
    names : list of str
    """
    width = 0.8 / len(groups)
    places = np.arange(len(names)) - (0.8 - width) / 2
    for label, heights in groups.items():
        axes.bar(places, heights, width, label=label)
        places = places + width
    axes.set_xticks(range(len(names)), names)
    axes.legend(loc="upper right")


def heat_map(axes, values, rows, columns, label: str = "", marks=None, numbers=False):
    """Draw values [rows, columns] as colours, with a bar if it has a label; return the AxesImage.

    `marks` [rows] are columns to be marked by a dot, -1 for none. Numbers are written in black or
    white, which can be read better.
    """
    image = axes.imshow(values, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.spines[:].set_visible(False)
    if label:
        axes.figure.colorbar(image, ax=axes, label=label, pad=0.02)
    if marks is not None:
        marked = np.flatnonzero(np.asarray(marks) >= 0)
        axes.plot(np.asarray(marks)[marked], marked, ".", color=COLOURS["orange"])
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            # Rec. 709: what the eye sees of red, green and blue.
            light = image.to_rgba(value)[:3] @ np.array([0.2126, 0.7152, 0.0722])
            colour = "black" if light > 0.45 else "white"
            options = {"ha": "center", "va": "center", "color": colour}
            axes.text(column, row, f"{value:.1f}", **options)
    return image


def posterior_rows(rows, classes, seconds_per_frame: float, seconds: float = 4.0):
    """Several networks on one utterance, one under the other, as `posteriors` draws each.

    Parameters
    ----------
    rows : dict of str to float array [frames, classes]
        Probabilities, by the name of what gives them.
    classes : sequence of str
        Names of all classes but the blank.
    seconds_per_frame : float
    seconds : float
        How much of the utterance is shown: more is too narrow to read.

    Returns
    -------
    matplotlib.figure.Figure, array of its axes
    """
    size = (10, 1.7 * len(rows) + 0.6)
    figure, all_axes = plt.subplots(len(rows), figsize=size, sharex=True, squeeze=False)
    for axes, (name, probabilities) in zip(all_axes[:, 0], rows.items(), strict=True):
        posteriors(axes, probabilities, classes, seconds_per_frame)
        axes.set_xlim(0, min(len(probabilities) * seconds_per_frame, seconds))
        axes.set_ylabel(name)
        for text in axes.texts:
            text.set_clip_on(True)
        if axes.get_legend() and axes is not all_axes[-1, 0]:
            axes.get_legend().remove()
    all_axes[-1, 0].set_xlabel("time (s)")
    return figure, all_axes[:, 0]


def table(columns, rows):
    """Rows of text and numbers as a table under a cell, in IPython's Markdown."""
    from IPython.display import Markdown

    lines = [columns, ["---"] * len(columns), *rows]
    return Markdown("\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines))


def level_histogram(axes, values, levels) -> None:
    """Histogram of weights on the scale of their bucket, and lines where levels lie.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : float array
        From 0, the least weight of a bucket, to 1, its largest.
    levels : dict of str to sequence of float
        Sets of levels by name, at most three.
    """
    axes.hist(np.ravel(values), bins=60, range=(0, 1), color="0.82")
    styles = zip(("orange", "blue", "black"), ("--", "-", ":"), strict=True)
    for (name, places), (colour, dashes) in zip(levels.items(), styles, strict=False):
        for number, place in enumerate(places):
            label = None if number else name
            axes.axvline(place, color=COLOURS[colour], linestyle=dashes, label=label)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def labelled_curve(axes, x, y, texts, name: str) -> None:
    """A curve with a dot and a text at each of its points; the legend shows its name."""
    (line,) = axes.plot(x, y, marker="o", label=name)
    for place, height, text in zip(x, y, texts, strict=True):
        axes.annotate(
            f"{text}",
            (place, height),
            xytext=(4, 4),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=9,
        )


def log_scales(axes) -> None:
    """Logarithmic scales with plain numbers at 1, 2 and 5; linear where a curve comes to 0."""
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        values = [getattr(line, f"get_{name}data")() for line in axes.lines]
        if np.concatenate(values).min() <= 0:
            continue
        axes.set(**{f"{name}scale": "log"})
        axis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
