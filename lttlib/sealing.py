"""Facts in JSON, sealed with a checksum of them and of what they stand for: damage is noticed, not computed with."""

import json
import zlib

SEAL = "crc32"


def parse(text) -> dict:
    """The JSON object that a text or UTF-8 bytes hold.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:  # brackets within brackets, thousands deep
        raise ValueError("nothing that lttlib writes is nested as deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is needed, not {type(value).__name__}")
    return value


def seal(facts, *contents) -> dict:
    """Facts with a checksum of them, and of contents (bytes or arrays) that lie elsewhere in the file."""
    return facts | {SEAL: _checksum(facts, contents)}


def check(sealed, *contents) -> dict:
    """The facts without their seal. Those of files written before there were seals have none, and pass.

    Raises
    ------
    ValueError
        If they or the contents are not those that were sealed.
    """
    facts = {name: value for name, value in sealed.items() if name != SEAL}
    if SEAL in sealed and sealed[SEAL] != _checksum(facts, contents):
        raise ValueError("its checksum is wrong, bytes have changed")
    return facts


def _checksum(facts, contents):
    found = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    for content in contents:
        found = zlib.crc32(content, found)
    return f"{found:08x}"  # as long as any other: a file's size does not depend on it
