"""CITATION.cff is whole, and valid by what the Citation File Format 1.2.0 asks of such a file."""

import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
TEXT = {"type": "string", "minLength": 1}
URL = {"type": "string", "pattern": r"^https?://\S+$"}
DOI = {"type": "string", "pattern": r"^10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+$"}
DATE = {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[012])-(0[1-9]|[12]\d|3[01])$"}
PERSON = {
    "properties": {"family-names": TEXT, "given-names": TEXT},
    "required": ["family-names"],
    "additionalProperties": False,
}
ENTITY = {"properties": {"name": TEXT}, "required": ["name"], "additionalProperties": False}
AUTHORS = {"type": "array", "minItems": 1, "items": {"anyOf": [PERSON, ENTITY]}}
REFERENCE = {
    "properties": {
        "type": {"enum": ["article", "book", "conference-paper"]},
        "title": TEXT,
        "authors": AUTHORS,
        "year": {"type": "integer"},
        "journal": TEXT,
        "collection-title": TEXT,
        "doi": DOI,
        "url": URL,
    },
    "required": ["type", "title", "authors"],
    "additionalProperties": False,
}
# The part of the format that this file uses: keys that the format knows not are refused.
SCHEMA = {
    "type": "object",
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "message": TEXT,
        "type": {"enum": ["software", "dataset"]},
        "title": TEXT,
        "abstract": TEXT,
        "authors": AUTHORS,
        "version": TEXT,
        "date-released": DATE,
        "license": {"const": "MIT"},
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
        "references": {"type": "array", "minItems": 1, "uniqueItems": True, "items": REFERENCE},
    },
    "required": ["cff-version", "message", "title", "authors"],
    "additionalProperties": False,
}


@pytest.fixture
def citation():
    return yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))


def test_citation_is_valid_and_leaves_nothing_out(citation):
    jsonschema.validate(citation, SCHEMA)
    assert set(citation) == set(SCHEMA["properties"])


def test_citation_is_of_the_version_and_licence_that_are_installed(citation):
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("Hinton", 2015),
        ("Polino", 2018),
        ("Romero", 2015),
        ("Collobert", 2016),
        ("Graves", 2006),
        ("Kriman", 2020),
    ],
)
def test_citation_names_the_paper_that_a_notebook_builds_on(citation, name, year):
    firsts = [(paper["authors"][0]["family-names"], paper) for paper in citation["references"]]
    (paper,) = [paper for first, paper in firsts if first == name]
    assert paper["year"] == year
    assert paper["doi"] and paper["url"]


@pytest.mark.parametrize(
    "change",
    [
        {"authors": []},
        {"authors": [{"family-names": "A", "name": "B"}]},
        {"date-released": "28-11-2026"},
        {"licence": "MIT"},
        {"references": [{"type": "paper", "title": "T", "authors": [{"name": "A"}]}]},
        {"references": [{"type": "article", "title": "T"}]},
    ],
)
def test_check_of_the_citation_refuses_what_the_format_does(citation, change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(citation | change, SCHEMA)
