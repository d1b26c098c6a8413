"""espeak-ng in a process of its own: the same requests give the same bytes."""

import hashlib

import pytest

from lttlib.speech import espeak, synthesis

# The first digits of the SHA-256 of a sentence in one process, in this order.
VOICES = {
    "en-us+f4": "ddc8b5d321f9ff9b",
    "en+steph": "7a54de5e9a728ae8",
    "en-029+Gene": "dee32acdd6d93c00",
}


def test_espeak_speaks_version_1_in_these_voices():
    """If this fails by intent, increment VERSION: corpora on disk are other ones then."""
    assert synthesis.VERSION == 1
    with espeak.espeak_process() as speak:
        for voice, digest in VOICES.items():
            wave = speak("a good teacher listens to the rain", voice, 140, 50)
            assert hashlib.sha256(wave).hexdigest()[:16] == digest, voice


def test_espeak_speaks_the_same_in_every_process_in_every_voice():
    variants = [variant for split in synthesis.VARIANTS.values() for variant in split]
    accents = synthesis.ACCENTS[:2]
    voices = [f"{accent}+{variant}" for variant in variants for accent in accents]

    def speak_all():
        with espeak.espeak_process() as speak:
            return [speak("who followed the evening song", voice, 140, 50) for voice in voices]

    assert speak_all() == speak_all()


def test_espeak_names_a_voice_that_it_does_not_know():
    with espeak.espeak_process() as speak:
        with pytest.raises(RuntimeError, match="espeak-ng stopped: no voice 'nobody'"):
            speak("a word", "nobody", 140, 50)
