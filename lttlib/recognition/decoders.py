"""From logits to text: the likeliest classes, the likeliest text, or the likeliest words of a language model."""

from dataclasses import asdict, fields
from pathlib import Path

from lttlib.recognition.beam_search import BeamSearch, LexiconBeamSearch, _BeamSearch
from lttlib.recognition.greedy import DecodingError, greedy

DECODERS = {"greedy": greedy, "beam": BeamSearch, "lm": LexiconBeamSearch}


def make_decoder(name, **options):
    """A decoder by its name in `DECODERS`, with parameters of its own; `DecodingError` if it has no such ones."""
    if name not in DECODERS:
        raise DecodingError(f"unknown decoder '{name}': choose one of {', '.join(DECODERS)}")
    known = [] if name == "greedy" else [field.name for field in fields(DECODERS[name])]
    for option in options:
        if option not in known:
            raise DecodingError(
                f"decoder '{name}' has no {option}: it has {', '.join(known) or 'no parameters'}"
            )
    if name == "lm" and "lm" not in options:
        raise DecodingError(
            "decoder 'lm' needs a language model, an ARPA file (--lm): `ltt lm` makes one"
        )
    return DECODERS[name](**options) if known else DECODERS[name]


def describe_decoder(decoder):
    """A decoder for a model's card: its name, or a dict of its name and parameters."""
    if not isinstance(decoder, _BeamSearch):
        return decoder.__name__
    told = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(decoder).items()
    }
    return {"name": next(name for name, kind in DECODERS.items() if kind is type(decoder)), **told}
