"""Figures show their data: places, numbers and letters are read back from what was drawn."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lttlib.course import plots


@pytest.fixture
def axes():
    plots.style()
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_posteriors_have_letters_over_the_frame_in_which_they_begin_to_lead(axes):
    leading = [2, 0, 0, 2, 0, 1, 2]  # classes A, space, blank: A, then A again, then a space
    probabilities = np.full((7, 3), 0.1)
    probabilities[np.arange(7), leading] = 0.8
    plots.posteriors(axes, probabilities, ["A", " "], 0.02)
    marks = [(text.get_text(), round(text.xy[0], 3)) for text in axes.texts]
    assert marks == [("A", 0.03), ("A", 0.09), ("␣", 0.11)]
    assert len(axes.lines) == 2 and axes.get_xlim() == (0, pytest.approx(0.14))


def test_specshow_has_time_to_the_right_and_its_channels_or_a_scale_upwards(axes):
    values = np.arange(12).reshape(4, 3)
    shown = plots.specshow(axes, values, 0.01, "dB")
    np.testing.assert_array_equal(shown.get_array(), values.T)
    assert shown.get_extent() == pytest.approx([0, 0.04, -0.5, 2.5]) and shown.origin == "lower"
    assert plots.specshow(axes, values, 0.01, top=8).get_extent() == pytest.approx([0, 0.04, 0, 8])


def test_wave_lasts_as_long_as_it_sounds(axes):
    plots.wave(axes, np.zeros(8000), 16000)
    assert axes.get_xlim() == (0, 0.5)


def test_error_bars_have_the_length_of_their_rates_and_stand_in_order(axes):
    plots.error_bars(axes, ["first", "second"], [10.0, 4.0], [[8, 13], [3, 6]])
    bars = sorted(axes.patches, key=lambda bar: -bar.get_y())
    assert [bar.get_width() for bar in bars] == [10, 4]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    heights = dict(zip(labels, axes.get_yticks(), strict=True))
    assert heights == {"first": 1, "second": 0}
    assert [text.get_text() for text in axes.texts] == [" 10.0", " 4.0"]
    (segments,) = [collection.get_segments() for collection in axes.collections]
    assert [segment[:, 0].tolist() for segment in segments] == [[8, 13], [3, 6]]


def test_error_bar_of_utterances_that_err_alike_is_drawn_despite_rounding(axes):
    rate = 100 / 6
    plots.error_bars(axes, ["same"], [rate], [[np.nextafter(rate, 20), np.nextafter(rate, 20)]])
    assert axes.patches[0].get_width() == rate


def test_error_bar_of_a_single_utterance_has_a_number_and_no_interval(axes):
    plots.error_bars(axes, ["one", "many"], [10.0, 4.0], [None, [3, 6]])
    assert [text.get_position() for text in axes.texts] == [(10, 1), (6, 0)]
    (segments,) = [collection.get_segments() for collection in axes.collections]
    assert not segments[0].size and segments[1][:, 0].tolist() == [3, 6]


def test_colours_differ_for_readers_who_see_no_red_or_no_green():
    """Simulated by Viénot, Brettel and Mollon 1999 in linear RGB; 0.1 is easily seen."""
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in plots.COLOURS.values()]) ** 2.2
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for simulated in (protan, deutan):
        seen = np.clip(rgb @ simulated.T, 0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert distances[np.triu_indices(len(seen), 1)].min() > 0.1


def test_interact_makes_no_widget_where_nobody_can_choose(monkeypatch):
    monkeypatch.setenv("LTT_BATCH", "1")
    plots.interact(lambda number: pytest.fail("drawn"), number=[1, 2])
    monkeypatch.delenv("LTT_BATCH")
    drawn = []
    plots.interact(lambda number: drawn.append(number), number=[1, 2])
    assert drawn == [1]


def test_record_draws_a_recording_and_has_no_button_in_a_batch_run(monkeypatch):
    import IPython.display

    widgets, recordings = [], []
    monkeypatch.setattr(IPython.display, "display", lambda *shown: widgets.extend(shown))
    plots.record(recordings.append, 8000)
    assert not widgets, "conftest.py sets LTT_BATCH"
    monkeypatch.delenv("LTT_BATCH")
    plots.record(recordings.append, 8000)
    recorder, _ = widgets
    assert recorder.sampling_rate == 8000 and "getUserMedia" in recorder._esm
    sound = np.array([0.5, -0.25], np.float32)
    recorder.samples = memoryview(sound.tobytes())  # as it comes from the browser
    (recording,) = recordings
    np.testing.assert_array_equal(recording, sound)


def test_recorder_is_shipped_with_the_library():
    assert plots.RECORDER.parent == Path(plots.__file__).parent
    assert plots.RECORDER.read_text(encoding="utf-8").endswith("export default { render };\n")


MODELS = [
    {"name": "tiny", "bytes": 1000, "LER": 20.0},
    {"name": "beaten", "bytes": 1100, "LER": 21.0},
    {"name": "small", "bytes": 1050, "LER": 10.0},
    {"name": "smaller than large", "bytes": 1080, "LER": 9.5},
    {"name": "large", "bytes": 9000, "LER": 1.0},
    {"name": "without a size", "bytes": None, "LER": 0.5},
]
FRONT = [MODELS[0], MODELS[2], MODELS[3], MODELS[4]]


def label_boxes(axes):
    axes.figure.draw_without_rendering()
    return [matplotlib.text.Text.get_window_extent(label) for label in axes.texts]


def test_frontier_shows_all_models_with_a_size_and_joins_those_that_no_other_beats(axes):
    plots.frontier(axes, MODELS, FRONT)
    others, line = axes.lines
    assert [tuple(point) for point in others.get_xydata()] == [(1100, 21)]
    assert [tuple(point) for point in line.get_xydata()] == [
        (row["bytes"], row["LER"]) for row in FRONT
    ]
    assert line.get_drawstyle() == "steps-post"
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.texts] == [row["name"] for row in FRONT]


def test_names_of_the_frontier_cover_neither_each_other_nor_a_point(axes):
    plots.frontier(axes, MODELS, FRONT)
    boxes = label_boxes(axes)
    inside = axes.get_window_extent()
    points = axes.transData.transform([(row["bytes"], row["LER"]) for row in MODELS[:5]])
    for number, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:number])
        assert not any(box.contains(*point) for point in points)
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1
        assert inside.y0 <= box.y0 and box.y1 <= inside.y1


def test_frontier_with_a_model_without_errors_has_a_linear_scale_that_shows_it(axes):
    rows = [{"name": "a", "bytes": 10, "LER": 2.0}, {"name": "b", "bytes": 20, "LER": 0.0}]
    plots.frontier(axes, rows, rows)
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] <= 0


def test_forest_shows_each_interval_and_is_grey_where_it_includes_0(axes):
    changes = [
        {"points": -2.0, "points_ci": [-3, -1]},
        {"points": 1.0, "points_ci": [-1, 3]},
        {"points": 4.0, "points_ci": [2, 6]},
        {"points": 5.0, "points_ci": None},
    ]
    plots.forest(axes, list("abcd"), changes, "points")
    intervals = axes.lines[1::2]
    ends = [line.get_xdata().tolist() for line in intervals]
    assert ends[:3] == [[-3, -1], [-1, 3], [2, 6]]
    colours = [line.get_color() for line in intervals]
    green, red = plots.COLOURS["green"], plots.COLOURS["red"]
    assert colours == [green, "0.6", red, "0.6"]
    assert [int(line.get_ydata()[0]) for line in intervals] == [3, 2, 1, 0]
    assert axes.texts[0].get_text() == "−2.0 (−3.0 to −1.0)"


def test_words_that_were_not_said_are_red():
    said = "THE CAT SAT"
    lines = [("said", said), ("heard", "THE BAT SAT")]
    figure = plots.texts_under_wave(np.zeros(1600), 16000, lines)
    words = [text for text in figure.axes[1].texts if text.get_fontfamily() != ["sans-serif"]]
    red = [text.get_text() for text in words if text.get_color() == plots.COLOURS["red"]]
    assert [text.get_text() for text in words] == said.split() + "THE BAT SAT".split()
    assert red == ["BAT"]
    plt.close(figure)
