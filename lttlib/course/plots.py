"""Figures of the course: one look, colours that everybody can tell apart, claims as titles."""

import os
import textwrap

import matplotlib.pyplot as plt
import numpy as np

# Okabe and Ito 2008: distinct for colour-blind readers, and in grey.
COLOURS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00", "purple": "#CC79A7",
           "sky": "#56B4E9", "black": "#000000"}  # fmt: skip


def style() -> None:
    """Set the look of all figures that follow; call it once, at the top of a notebook."""
    plt.rcParams.update({
        "figure.figsize": (8, 3), "figure.dpi": 96, "savefig.dpi": 150, "figure.constrained_layout.use": True,
        "font.size": 11, "axes.titlesize": 12, "axes.titlelocation": "left", "axes.spines.top": False,
        "axes.spines.right": False, "lines.linewidth": 1.8, "image.cmap": "viridis", "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
    })  # fmt: skip


def label_axes(axes, text: str, x: str = "", y: str = "") -> None:
    """Title that says what is to be seen, and labels with units."""
    axes.set_title("\n".join(textwrap.wrap(text, 80)))
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def wave(axes, samples, sampling_rate: int) -> None:
    """A wave [samples] over seconds."""
    axes.plot(np.arange(len(samples)) / sampling_rate, samples, linewidth=0.5)
    axes.set_xlim(0, len(samples) / sampling_rate)


def specshow(
    axes, values, seconds_a_frame: float, label: str = "", top: float | None = None, **options
):
    """Something that changes over time, as a picture with a colour bar.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : array [frames, channels]
    seconds_a_frame : float
    label : str
        Of the colour bar.
    top : float, optional
        What the last channel stands for, where the first stands for 0 (kHz, say); without it channels are numbered.
    **options
        Of `imshow`: vmin, vmax, ...
    """
    heights = (-0.5, values.shape[1] - 0.5) if top is None else (0, top)
    extent = (0, len(values) * seconds_a_frame, *heights)
    shown = axes.imshow(
        values.T, aspect="auto", origin="lower", extent=extent, interpolation="nearest", **options
    )
    axes.figure.colorbar(shown, ax=axes, label=label, pad=0.01)
    return shown


def posteriors(axes, probabilities, classes, seconds_a_frame: float) -> None:
    """Probabilities [frames, classes] over seconds: the blank in grey, each class that ever leads in a colour.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    probabilities : float array [frames, classes]
        The blank is the last class.
    classes : sequence of str
        Names of all classes but the blank.
    seconds_a_frame : float
    """
    time = (np.arange(len(probabilities)) + 0.5) * seconds_a_frame
    axes.fill_between(time, probabilities[:, -1], color="0.88", label="blank")
    leading = probabilities.argmax(axis=1)
    for label in sorted(set(leading) - {len(classes)}):
        axes.plot(time, probabilities[:, label], linewidth=1.4)
    previous = len(classes)
    for frame, label in enumerate(leading):
        if label not in (previous, len(classes)):
            name = classes[label] if classes[label] != " " else "␣"
            axes.annotate(name, (time[frame], 1.03), ha="center", fontsize=9)
        previous = label
    axes.set(ylim=(0, 1.15), xlim=(0, len(probabilities) * seconds_a_frame))


def error_bars(axes, names, rates, intervals, unit: str = "LER (%)") -> None:
    """Error rates as horizontal bars with their 95 % intervals and numbers; the first name on top."""
    places = np.arange(len(names))[::-1]
    low, high = np.array(intervals, float).reshape(-1, 2).T
    rates = np.array(rates, float)
    axes.barh(places, rates, color=COLOURS["sky"], height=0.6)
    axes.errorbar(
        rates, places, xerr=[rates - low, high - rates], fmt="none", ecolor="black", capsize=3
    )
    for place, rate, end in zip(places, rates, high, strict=True):
        axes.annotate(f" {rate:.1f}", (end, place), va="center")
    axes.set_yticks(places, names)
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


RECORDER = """
function render({ model, el }) {
  const button = document.createElement("button");
  const label = text => { button.textContent = text; };
  let recorder = null;
  label("Record");
  button.onclick = async () => {
    if (recorder) { recorder.stop(); return; }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const pieces = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = event => pieces.push(event.data);
      recorder.onstop = async () => {
        stream.getTracks().forEach(track => track.stop());
        recorder = null;
        label("Record");
        const context = new AudioContext({ sampleRate: model.get("sampling_rate") });  // decoding resamples to it
        try {
          const sound = await context.decodeAudioData(await new Blob(pieces).arrayBuffer());
          model.set("samples", new DataView(sound.getChannelData(0).slice().buffer));
          model.save_changes();
        } catch (error) { label(`Nothing recorded (${error.message}); again?`); }
        context.close();
      };
      recorder.start();
      label("Stop");
    } catch (error) { label(`No microphone: ${error.message}`); }
  };
  el.appendChild(button);
}
export default { render };
"""


def record(draw, sampling_rate: int):
    """A button that records speech in the browser; nothing where nobody can speak (a batch run).

    Parameters
    ----------
    draw : function
        Called with each recording, a float32 array [samples]; what it draws or prints appears under the button.
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
        samples = traitlets.Any(b"").tag(
            sync=True
        )  # bytes arrive as a memoryview, which Bytes would refuse

    recorder, output = Recorder(sampling_rate=sampling_rate), ipywidgets.Output()

    def show(change):
        output.clear_output(wait=True)
        with output:
            draw(np.frombuffer(change["new"], np.float32))

    recorder.observe(show, names="samples")
    display(recorder, output)
