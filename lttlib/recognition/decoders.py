"""Decoders by their names: for the command line, and for the card of a model."""

from dataclasses import asdict, fields
from pathlib import Path

from lttlib.recognition.beam_search import BeamSearch, LexiconBeamSearch
from lttlib.recognition.greedy import DecodingError, greedy

DECODERS = {"greedy": greedy, "beam": BeamSearch, "lm": LexiconBeamSearch}


def make_decoder(name, **options):
    """Return the decoder of a name in `DECODERS`, with options of its own.

    Raises
    ------
    DecodingError
        If there is no such decoder, it has no such option, or "lm" gets no language model.
    """
    if name not in DECODERS:
        raise DecodingError(
            f"unknown decoder '{name}'", cure=f"choose one of {', '.join(DECODERS)}"
        )
    decoder = DECODERS[name]
    known = [] if decoder is greedy else [field.name for field in fields(decoder)]
    for option in options:
        if option not in known:
            names = ", ".join(known) or "no parameters"
            raise DecodingError(f"decoder '{name}' has no {option}: it has {names}")
    if name == "lm" and "lm" not in options:
        raise DecodingError(
            "decoder 'lm' needs a language model",
            cure="name an ARPA file (--lm): `ltt lm` makes one",
        )
    return greedy if decoder is greedy else decoder(**options)


def describe_decoder(decoder):
    """Return what a model's card says of a decoder: its name, or a dict of its name and fields."""
    for name, kind in DECODERS.items():
        if type(decoder) is kind:
            return {"name": name} | _to_json(asdict(decoder))
    return decoder.__name__


def _to_json(options):
    """Return options with their paths as text."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items()
    }
