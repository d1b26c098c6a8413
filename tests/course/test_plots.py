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


def test_level_histogram_counts_weights_and_draws_each_level_once(axes):
    values = np.array([[0.0, 0.5], [0.5, 1.0]])
    plots.level_histogram(axes, values, {"even": [0, 1], "fitted": [0.2, 0.5, 0.8]})
    assert sum(patch.get_height() for patch in axes.patches) == 4
    assert [line.get_xdata()[0] for line in axes.lines] == [0, 1, 0.2, 0.5, 0.8]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["even", "fitted"]


def test_labelled_curve_has_a_text_at_each_point_in_the_colour_of_its_line(axes):
    plots.labelled_curve(axes, [2, 3], [0.5, 0.25], [64, "all"], name="2 bits")
    (line,) = axes.lines
    assert line.get_label() == "2 bits"
    assert [text.get_text() for text in axes.texts] == ["64", "all"]
    assert [text.xy for text in axes.texts] == [(2, 0.5), (3, 0.25)]
    assert {text.get_color() for text in axes.texts} == {line.get_color()}


def test_log_scales_have_plain_numbers_and_are_linear_where_a_curve_comes_to_nothing(axes):
    axes.plot([10, 200], [0, 30])
    plots.log_scales(axes)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    axes.figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"10", "20", "50", "100", "200"} <= set(labels)
