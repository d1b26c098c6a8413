"""Pictures of ideas: well-formed files that stand alone, and numbers in them that are true."""

import itertools
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from lttlib import features, network, recognition

CHECKOUT = Path(__file__).resolve().parents[2]
FIGURES = CHECKOUT / "figures"
NOTEBOOKS = CHECKOUT / "notebooks"
PICTURES = sorted(FIGURES.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
# What stays when a page is cleaned: shapes, texts, heads of arrows.
TAGS = "svg title desc defs marker g path rect circle line text tspan".split()
LARGEST = 20_000  # bytes
SMALLEST_TEXT = 13  # pixels of a picture that is 800 wide


def read(name):
    return ElementTree.parse(FIGURES / f"{name}.svg").getroot()


def texts(name, group):
    """All texts of a group, in order; a minus is written as programs write it."""
    (element,) = [e for e in read(name).iter(f"{SVG}g") if e.get("id") == f"{name}-{group}"]
    lines = ["".join(line.itertext()) for line in element.iter(f"{SVG}text")]
    return [line.replace("−", "-") for line in lines]


def numbers(name, group):
    return [float(text) for text in texts(name, group)]


@pytest.fixture(params=PICTURES, ids=lambda path: path.stem)
def picture(request):
    return request.param


def test_pictures_are_there():
    assert len(PICTURES) >= 14


def test_picture_is_small(picture):
    assert picture.stat().st_size <= LARGEST


def test_picture_says_what_it_shows(picture):
    root = read(picture.stem)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    title, desc, *_ = root
    assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
    assert 10 < len(title.text.strip()) < 120
    assert len(desc.text.split()) > 30
    assert root.get("aria-labelledby").split() == [title.get("id"), desc.get("id")]


def test_picture_fits_the_page(picture):
    root = read(picture.stem)
    left, top, width, height = map(float, root.get("viewBox").split())
    assert (left, top, width) == (0, 0, 800)
    assert 260 <= height <= 480
    assert (root.get("width"), root.get("height")) == (f"{width:.0f}", f"{height:.0f}")
    # Paper of its own: text is dark on dark pages, too.
    paper = root.find(f"{SVG}rect")
    assert paper.get("fill") == "#ffffff"
    assert float(paper.get("width")) >= width - 1
    assert float(paper.get("height")) >= height - 1


def test_picture_stands_alone(picture):
    """No script, no style sheet, nothing from elsewhere: attributes that every page keeps."""
    ids = []
    for element in read(picture.stem).iter():
        assert element.tag.removeprefix(SVG) in TAGS
        for name, value in element.attrib.items():
            assert name != "style" and not name.startswith("on")
            assert "href" not in name and "://" not in value
            for target in re.findall(r"url\((.*?)\)", value):
                assert target.startswith(f"#{picture.stem}-")
        ids += [element.get("id")] if element.get("id") else []
    # Several pictures may stand on one page.
    assert all(name.startswith(f"{picture.stem}-") for name in ids)
    assert len(ids) == len(set(ids))
    targets = re.findall(r"url\(#(.*?)\)", picture.read_text(encoding="utf-8"))
    assert set(targets) <= set(ids)


def test_picture_can_be_read(picture):
    root = read(picture.stem)
    sizes = [element.get("font-size") for element in root.iter() if element.get("font-size")]
    assert min(map(float, sizes)) >= SMALLEST_TEXT
    assert "sans-serif" in root.get("font-family")
    words = sum(len("".join(e.itertext()).split()) for e in root.iter(f"{SVG}text"))
    assert words <= 120


def collapse(path):
    merged = [symbol for symbol, _ in itertools.groupby(path)]
    return "".join(symbol for symbol in merged if symbol != "–")


def test_lattice_shows_a_path_that_ctc_allows():
    label = texts("lattice", "label")
    path = texts("lattice", "path")
    assert collapse(label) == collapse(path) == "CAT"
    (places,) = [e for e in read("lattice").iter() if e.get("id") == "lattice-places"]
    heights = [float(circle.get("cy")) for circle in places.iter(f"{SVG}circle")]
    rows = np.round((np.array(heights) - 66) / 41).astype(int)
    assert [label[row] for row in rows] == path
    steps = np.diff(rows)
    assert rows[0] in (0, 1) and rows[-1] >= len(label) - 2
    assert set(steps) == {0, 1, 2}
    assert all(label[row] != "–" for row in rows[1:][steps == 2])


def test_mel_has_the_triangles_of_the_library():
    (triangles,) = [e for e in read("mel").iter() if e.get("id") == "mel-triangles"]
    corners = np.array(re.findall(r"-?[\d.]+", triangles.get("d")), float).reshape(-1, 3, 2)
    frequency = (corners[:, :, 0] - 170) * 8000 / 590
    height = 390 - corners[:, 1, 1]
    filters = features.mel_filters(16000, 4096, len(corners))
    peaks = filters.argmax(axis=0) * 16000 / 4096
    np.testing.assert_allclose(frequency[:, 1], peaks, atol=4)
    relative = filters.max(axis=0) / filters.max()
    np.testing.assert_allclose(height / height.max(), relative, atol=0.02)


def test_rounding_gives_the_levels_and_codes_of_the_library():
    weights = np.float32(numbers("rounding", "weights"))
    levels = numbers("rounding", "levels")
    rounded = network.quantize_uniform(weights, 2)
    np.testing.assert_allclose(sorted(set(rounded.numpy())), levels, atol=0.005)
    assert texts("rounding", "codes") == ["00", "01", "10", "11"]


def test_learned_levels_fit_better_round_by_round():
    errors = numbers("learned-levels", "errors")
    assert all(error < before for before, error in itertools.pairwise(errors))


@pytest.mark.parametrize("temperature", [1, 4])
def test_dark_knowledge_is_softmax_of_its_logits(temperature):
    logits = np.array(numbers("dark-knowledge", "logits-T1"))
    divided = numbers("dark-knowledge", f"logits-T{temperature}")
    np.testing.assert_allclose(divided, logits / temperature)
    exponentials = np.exp(logits / temperature)
    percent = 100 * exponentials / exponentials.sum()
    for text, value in zip(texts("dark-knowledge", f"T{temperature}"), percent, strict=True):
        assert value < 0.5 if text == "<1" else float(text) == round(value)


def test_beam_search_sums_the_paths_of_texts_that_were_kept():
    """Each path is listed; it counts as long as its beginnings are among the best two."""
    frames = [{"A": 0.4, "B": 0.1, "–": 0.5}] * 2 + [{"A": 0.1, "B": 0.6, "–": 0.3}]
    beam = {(): 1.0}  # paths and their probabilities
    for number, probabilities in enumerate(frames, start=1):
        sums = {}
        paths = {}
        for (path, product), symbol in itertools.product(beam.items(), probabilities):
            longer = (*path, symbol)
            paths[longer] = product * probabilities[symbol]
            text = collapse(longer) or "∅"
            sums[text] = sums.get(text, 0) + paths[longer]

        shown = texts("beam-search", number)
        boxes = dict(zip(shown[::2], map(float, shown[1::2]), strict=True))
        assert boxes == pytest.approx(sums, abs=5e-4)
        best = sorted(sums, key=sums.get)[-2:]
        beam = {path: paths[path] for path in paths if (collapse(path) or "∅") in best}


def test_beam_search_has_the_probability_of_the_library_where_nothing_was_dropped():
    logits = np.log([[0.4, 0.1, 0.5], [0.4, 0.1, 0.5], [0.1, 0.6, 0.3]])[None]  # A, B, blank
    for number in (1, 2, 3):
        shown = texts("beam-search", number)
        hypotheses = recognition.BeamSearch(top_paths=9).n_best(logits, [number], "AB")[0]
        scores = {hypothesis.text: hypothesis.score for hypothesis in hypotheses}
        probability = float(shown[shown.index("A") + 1])
        assert np.exp(scores["A"]) == pytest.approx(probability, abs=5e-4)


def test_picture_is_shown_in_a_notebook_with_alternative_text(picture):
    pattern = rf"!\[([^\]]*)\]\((?:\.\./)+figures/{re.escape(picture.name)}\)"
    shown = []
    for path in NOTEBOOKS.rglob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                shown += re.findall(pattern, "".join(cell["source"]))
    assert shown, f"no notebook shows {picture.name}"
    assert all(len(text.split()) >= 5 for text in shown)
