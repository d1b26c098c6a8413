"""Decoders by their names, and all of them on the same speech."""

import json

import pytest

from lttlib.recognition import (
    BeamSearch,
    DecodingError,
    LexiconBeamSearch,
    describe_decoder,
    greedy,
    make_decoder,
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("HHEE_L_LL_OO", "HELLO"),
        ("  HEL_LO WORLD", "HELLO WORLD"),
        ("HEL_LO _ _  WORLD  _ ", "HELLO WORLD"),
        ("DON'T   ASK", "DON'T ASK"),
        ("___", ""),
        (" _ _ ", ""),
        ("", ""),
    ],
)
def test_decoders_read_clear_speech_alike(spell, english, path, expected):
    decoders = [
        greedy,
        BeamSearch(),
        LexiconBeamSearch(english),
        LexiconBeamSearch(english, lm_weight=0),
    ]
    for decoder in decoders:
        assert decoder(3 * spell(path), [len(path)]) == [expected]


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("beem", {}, "unknown decoder 'beem'; choose one of greedy, beam, lm"),
        ("greedy", {"lm": "a"}, "'greedy' has no lm: it has no parameters"),
        ("beam", {"lm_weight": 1.0}, "'beam' has no lm_weight: it has beam_width"),
        ("lm", {"beam_width": 5}, "needs a language model"),
    ],
)
def test_make_decoder_refuses_unknown_names_and_options(name, options, message):
    with pytest.raises(DecodingError, match=message):
        make_decoder(name, **options)


def test_description_of_every_decoder_fits_in_a_card(english):
    assert describe_decoder(make_decoder("greedy")) == "greedy"
    decoder = make_decoder("lm", lm=english, beam_width=7)
    card = json.loads(json.dumps(describe_decoder(decoder)))
    expected = {"name": "lm", "lm": str(english), "lexicon": None, "beam_width": 7}
    assert card.items() >= expected.items()
    name = card.pop("name")
    assert make_decoder(name, **card) == LexiconBeamSearch(str(english), beam_width=7)
    assert describe_decoder(BeamSearch(5)) == {
        "name": "beam",
        "beam_width": 5,
        "beam_threshold": 25.0,
        "top_paths": 10,
    }
