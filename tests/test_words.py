"""The pages of words: the glossary is a list that can be searched, no symbol means two things."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
PAGES = ("glossary.md", "notation.md")
ENTRY = re.compile(r"\*\*(?P<term>[^*]+)\.\*\* (?P<text>.+) \[(?P<number>\d\d)\]\((?P<link>\S+)\)")


def read(page):
    return (NOTEBOOKS / page).read_text(encoding="utf-8")


def entries():
    """The glossary's paragraphs but for its heading and its introduction, as matches."""
    paragraphs = read("glossary.md").strip().split("\n\n")[2:]
    matches = [ENTRY.fullmatch(" ".join(paragraph.split("\n"))) for paragraph in paragraphs]
    for paragraph, match in zip(paragraphs, matches, strict=True):
        assert match, f"no entry: {paragraph}"
    return matches


def symbol_rows():
    """Cells of the table of notation."""
    lines = [line for line in read("notation.md").splitlines() if line.startswith("| $")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def text_of(notebook):
    """All that stands in the cells of a notebook."""
    notebook = nbformat.read(NOTEBOOKS / notebook, as_version=4)
    return "\n".join(cell.source for cell in notebook.cells)


def test_glossary_is_sorted_and_names_each_term_once():
    terms = [entry["term"].lower() for entry in entries()]
    assert len(terms) > 80
    assert terms == sorted(set(terms))


def test_glossary_explains_each_term_in_two_sentences():
    for entry in entries():
        text = entry["text"]
        assert text[-1] in ".!?", entry["term"]
        assert len(re.findall(r"[.!?](?= [A-Z`*]|$)", text)) == 2, entry["term"]
        assert 10 <= len(text.split()) <= 60, entry["term"]


def test_glossary_leads_from_each_term_to_a_notebook_that_uses_it():
    texts = {}
    for entry in entries():
        link = entry["link"]
        assert link.startswith(f"{entry['number']}_") and (NOTEBOOKS / link).is_file(), link
        if link not in texts:
            texts[link] = text_of(link).lower()
        # The beginnings of its words: "folding" stands there as "folded".
        stems = [word[:5] for word in re.findall(r"\w{3,}", entry["term"].lower())]
        missing = [stem for stem in stems if stem.removesuffix("s") not in texts[link]]
        assert not missing, f"{entry['term']} is not in {link}"


def test_glossary_says_what_others_call_the_ler():
    (text,) = [entry["text"] for entry in entries() if entry["term"] == "LER"]
    assert "CER" in text


def test_notation_gives_no_symbol_two_meanings():
    symbols = [row[0] for row in symbol_rows()]
    assert len(symbols) > 30
    assert len(symbols) == len(set(symbols))
    assert all(len(row) == 5 for row in symbol_rows())


def test_notation_says_where_each_symbol_is_at_home():
    for symbol, meaning, *_, link in symbol_rows():
        assert meaning, symbol
        match = re.fullmatch(r"\[(\d\d)\]\((\S+)\)", link)
        assert match and match[2].startswith(f"{match[1]}_"), symbol


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_words_lead_somewhere_and_to_each_other(page):
    targets = re.findall(r"\]\(([^)#\s]+)\)", read(page))
    assert not [target for target in targets if not (NOTEBOOKS / target).exists()]
    (other,) = set(PAGES) - {page}
    assert {other, "00_overview.ipynb"} <= set(targets)
    assert f"({page})" in text_of("00_overview.ipynb")
