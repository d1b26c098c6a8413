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


def test_grouped_bars_of_a_name_stand_around_its_place(axes):
    plots.grouped_bars(axes, {"T = 1": [0.9, 0.1], "T = 4": [0.6, 0.4]}, ["A", "B"])
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    np.testing.assert_allclose(bars, [(-0.2, 0.9), (0.8, 0.1), (0.2, 0.6), (1.2, 0.4)])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["A", "B"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["T = 1", "T = 4"]


def test_heat_map_has_numbers_that_can_be_read_on_their_colours_and_dots(axes):
    values = np.array([[0.0, 1.0], [0.5, 0.2]])
    image = plots.heat_map(axes, values, ["a", "b"], ["c", "d"], marks=[1, -1], numbers=True)
    np.testing.assert_array_equal(image.get_array(), values)
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts[0, 0] == ("0.0", "white") and texts[1, 0] == ("1.0", "black")
    (dots,) = axes.lines
    assert dots.get_xydata().tolist() == [[1, 0]]


def test_posterior_rows_have_one_row_for_each_network_over_the_same_time():
    probabilities = np.full((20, 3), 1 / 3)
    rows = {"student": probabilities, "teacher": probabilities}
    figure, axes = plots.posterior_rows(rows, "AB", 0.1, seconds=1.5)
    assert [item.get_ylabel() for item in axes] == ["student", "teacher"]
    assert [item.get_xlim() for item in axes] == [(0, 1.5)] * 2
    plt.close(figure)


def test_table_has_a_line_for_each_row():
    shown = plots.table(["form", "MB"], [["top4", 1.5], ["log8", 2]])
    lines = ["| form | MB |", "| --- | --- |", "| top4 | 1.5 |", "| log8 | 2 |"]
    assert shown.data.splitlines() == lines
