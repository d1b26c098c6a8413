"""Figures show their data: places, numbers and letters are read back from what was drawn."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lttlib.course import plots

matplotlib.use("Agg")

MODELS = [
    {"name": "tiny", "bytes": 1000, "LER": 20.0},
    {"name": "beaten", "bytes": 1100, "LER": 21.0},
    {"name": "small", "bytes": 1050, "LER": 10.0},
    {"name": "smaller than large", "bytes": 1080, "LER": 9.5},
    {"name": "large", "bytes": 9000, "LER": 1.0},
    {"name": "without a size", "bytes": None, "LER": 0.5},
]

FRONT = [MODELS[0], MODELS[2], MODELS[3], MODELS[4]]


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
    assert marks == [("A", 0.03), ("A", 0.09), ("·", 0.11)]
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


def test_interact_makes_no_widget_where_nobody_can_choose(monkeypatch, capsys):
    monkeypatch.setenv("LTT_BATCH", "1")
    plots.interact(lambda number: pytest.fail("drawn"), number=[1, 2])
    assert capsys.readouterr().out == f"{plots.ONLY_LIVE}\n"
    monkeypatch.delenv("LTT_BATCH")
    drawn = []
    plots.interact(lambda number: drawn.append(number), number=[1, 2])
    assert drawn == [1]


def test_record_draws_a_recording_and_has_no_button_in_a_batch_run(monkeypatch, capsys):
    import IPython.display

    widgets, recordings = [], []
    monkeypatch.setattr(IPython.display, "display", lambda *shown: widgets.extend(shown))
    plots.record(recordings.append, 8000)
    assert not widgets, "conftest.py sets LTT_BATCH"
    assert capsys.readouterr().out == f"{plots.ONLY_LIVE}\n"
    monkeypatch.delenv("LTT_BATCH")
    plots.record(recordings.append, 8000)
    recorder, _ = widgets
    assert recorder.sampling_rate == 8000 and "getUserMedia" in recorder._esm
    sound = np.array([0.5, -0.25], np.float32)
    recorder.samples = memoryview(sound.tobytes())  # as it comes from the browser
    (recording,) = recordings
    np.testing.assert_array_equal(recording, sound)


def test_long_title_has_lines_of_about_one_length_and_a_number_stays_with_its_percent(axes):
    for count in range(12, 24):
        plots.label_axes(axes, "word " * count + "6.2 % of all")
        lines = axes.get_title("left").split("\n")
        assert len(lines) == 1 + (5 * count + 12 > 80)
        assert max(map(len, lines)) - min(map(len, lines)) <= 12
        assert any("6.2\N{NO-BREAK SPACE}%" in line for line in lines)


def test_alternative_text_of_a_figure_is_its_titles_and_labels():
    figure, (first, second) = plt.subplots(2)
    assert plots.alt_text(figure) == "A figure without a title"
    plots.label_axes(first, "The loss falls.", "step", "loss (nats)")
    plots.label_axes(second, "So do\nerrors", "step", "LER (%)")
    expected = "The loss falls. Across: step. Up: loss (nats). So do errors. Up: LER (%)"
    assert plots.alt_text(figure) == expected
    figure.suptitle("Both")
    assert plots.alt_text(figure) == f"Both. {expected}"
    plt.close(figure)


def test_alt_text_has_the_numbers_of_bars_and_curves_with_names(axes):
    plots.error_bars(axes, ["teacher", "student"], [2.94, 11.6], [(2, 4), None])
    axes.plot([0, 1, 2, 3], [30, 4, 1e-9, np.nan], label="loss")
    axes.plot([0, 1], [8, 9])
    expected = "Across: LER (%). teacher: 2.94; student: 11.6. loss: 30 to 0, between 0 and 30"
    assert plots.alt_text(axes.figure) == expected


def test_alt_text_leaves_out_what_has_no_name(axes):
    plots.label_axes(axes, "A histogram")
    axes.hist(np.linspace(0, 1, 50), 7)
    axes.plot([], [], label="nothing")
    assert plots.alt_text(axes.figure) == "A histogram"


def test_shown_figures_carry_their_text_whatever_draws_them(monkeypatch):
    """As in a notebook: the figures' format is chosen after `style`."""
    from IPython.core.formatters import DisplayFormatter
    from IPython.core.pylabtools import select_figure_formats

    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    plots.style()
    select_figure_formats(shell, {"png"})
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.set_title('"A"')
    data, metadata = shell.display_formatter.format(figure)
    plt.close(figure)
    assert data["image/png"] and metadata == {"image/png": {"alt": '"A"'}}


def test_recorder_is_shipped_with_the_library():
    assert plots.RECORDER.parent == Path(plots.__file__).parent
    assert plots.RECORDER.read_text(encoding="utf-8").endswith("export default { render };\n")


def test_posteriors_tell_vowels_consonants_space_and_blank_apart_in_colour_and_legend(axes):
    classes = ["A", "E", "B", " "]
    plots.posteriors(axes, np.eye(5), classes, 0.02)
    vowel, other_vowel, consonant, space = [line.get_color() for line in axes.lines]
    assert vowel == other_vowel and len({vowel, consonant, space}) == 3
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(legend) == ["blank", "consonant", "space", "vowel"]
    letters = {text.get_text(): text.get_color() for text in axes.texts}
    assert letters == {"A": vowel, "E": vowel, "B": consonant, "·": space}


def arrows_of(text, shares, path):
    """The arrows of a lattice, (frame, place) to (frame, place)."""
    _, axes = plt.subplots()
    plots.lattice(axes, np.array(shares), list(text), path)
    arrows = {(tuple(arrow.xyann), tuple(arrow.xy)) for arrow in axes.texts}
    (marked,) = axes.lines
    assert marked.get_ydata().tolist() == path
    (dots,) = axes.collections
    assert len(dots.get_offsets()) == np.count_nonzero(shares)
    plt.close()
    return arrows


def test_lattice_has_an_arrow_for_each_way_to_stay_go_on_or_jump():
    full = np.ones((2, 5))
    arrows = arrows_of("-A-B-", full, [1, 3])
    steps = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4)]
    assert arrows == {((1, start), (2, end)) for start, end in steps}


def test_lattice_has_no_jump_between_equal_letters_and_no_arrow_to_what_is_impossible():
    full = np.ones((2, 5))
    assert ((1, 1), (2, 3)) not in arrows_of("-A-A-", full, [1, 2])
    full[1, 4] = 0
    assert ((1, 3), (2, 4)) not in arrows_of("-A-B-", full, [1, 2])


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


def test_line_from_a_name_to_its_point_crosses_no_other_name(axes):
    """Points so near to each other that not every name can stand beside its own."""
    axes.set(xlim=(3.6, 6.3), ylim=(0, 2.2))
    points = [(4.04, 1.47), (4.23, 1.08), (4.47, 1.02), (4.67, 1.04), (4.88, 0.79), (4.98, 0.54)]
    names = ["distillation, 2 bits", "distillation, 4 bits", "rounded, 8 bits"]
    names += ["8-bit weights", "teacher, 3 bits", "teacher, 4 bits"]
    line = points[:1]
    for x, y in points[1:]:
        line += [(x, line[-1][1]), (x, y)]
    plots.name_points(axes, points, names, line=line)
    boxes = label_boxes(axes)
    for number, label in enumerate(axes.texts):
        path = label.arrow_patch.get_path()
        start, *_, end = label.arrow_patch.get_transform().transform(path.vertices)
        others = boxes[:number] + boxes[number + 1 :]
        for place in np.linspace(start, end, 50):
            assert not any(box.contains(*place) for box in others), label.get_text()


def test_frontier_names_others_on_request_and_its_line_stays_free(axes):
    plots.frontier(axes, MODELS, FRONT, also=[MODELS[1], MODELS[0]])
    texts = [label.get_text() for label in axes.texts]
    assert sorted(texts) == sorted([*(row["name"] for row in FRONT), "beaten"])
    corner = axes.transData.transform((9000, 9.5))  # of the last step
    assert not any(box.contains(*corner) for box in label_boxes(axes))


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
    assert axes.get_xscale() == "linear"


def test_forest_of_large_and_small_differences_shows_both(axes):
    changes = [{"points": points, "points_ci": [points - 1, points + 1]} for points in (-50.0, 2.0)]
    plots.forest(axes, ["large", "small"], changes, "points")
    assert axes.get_xscale() == "symlog" and "logarithmic" in axes.get_xlabel()
    places = axes.transData.transform([(-50, 0), (0, 0), (2, 0)])[:, 0]
    assert places[2] - places[1] > 0.05 * (places[1] - places[0])
    assert {-40, -5, 0} <= set(axes.get_xticks().tolist())


def test_texts_under_wave_show_words_that_are_not_in_the_reference_in_red():
    reference = "THE CAT SAT"
    lines = [("said", reference), ("heard", "THE BAT SAT")]
    figure = plots.texts_under_wave(np.zeros(1600), 16000, lines)
    words = [text for text in figure.axes[1].texts if text.get_fontfamily() != ["sans-serif"]]
    red = [text.get_text() for text in words if text.get_color() == plots.COLOURS["red"]]
    assert [text.get_text() for text in words] == reference.split() + "THE BAT SAT".split()
    assert red == ["BAT"]
    plt.close(figure)


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
