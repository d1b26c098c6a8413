"""Figures of the course: one look, colours that everybody can tell apart, claims as titles."""

import os
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

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
    """A curve with a dot at each of its points, and a text at each dot.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    x, y : sequence of float
    texts : sequence
        What stands at each point.
    name : str
        Of the curve, for a legend.
    """
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
