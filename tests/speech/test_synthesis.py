"""Synthesised speech: its sentences and voices, and to which split they belong."""

import numpy as np

from lttlib.speech import synthesis, text

SENTENCES = {
    "train": [
        "the yellow lantern stood in the village",
        "the old baker wanted to share warm bread",
    ],
    "dev": ["our fisherman carried the blue lantern home", "good pupils learn every word softly"],
    "test": [
        "the morning light drifted at the market",
        "my father wanted to wait behind the school",
    ],
}
# The first recording of each split: its length, and every 4000th sample of its first second and a
# half.
SAMPLES = {
    "train": (47614, [-0.002674, 0.026335, 0.008098, 0.006557, -0.002511]),
    "dev": (58638, [-0.096132, 0.016509, -0.086981, 0.048826, 0.011371]),
    "test": (43727, [-0.04862, -0.032265, 0.015048, 0.000197, -0.043701]),
}


def test_synthesis_of_version_1_is_these_sentences_in_these_voices():
    """If this fails by intent, increment VERSION: corpora on disk are other ones then.

    test_espeak.py pins the voices themselves.
    """
    assert synthesis.VERSION == 1
    for split, expected in SENTENCES.items():
        recordings = list(synthesis.synthesise(split, 0.05, 2, seed=0))
        assert [sentence for _, _, sentence in recordings] == expected
        _, wave, _ = recordings[0]
        length, samples = SAMPLES[split]
        assert len(wave) == length
        np.testing.assert_allclose(wave[4000:24000:4000], samples, atol=2**-15)


class SilentProcess:
    """In place of espeak-ng: a second of one value, and the names of the voices that spoke."""

    voices = []
    texts = []

    def __enter__(self):
        return self.speak

    def __exit__(self, *_):
        pass

    def speak(self, text, voice, rate, pitch):
        self.voices.append(voice)
        self.texts.append(text)
        return np.ones(22050, np.int16).tobytes()


def test_synthesis_has_no_timbre_in_two_splits_and_gives_no_voice_twice(monkeypatch):
    variants = [variant for split in synthesis.VARIANTS.values() for variant in split]
    assert len(variants) == len(set(variants))
    monkeypatch.setattr(synthesis.espeak, "espeak_process", SilentProcess)
    for split, count in (("train", 40), ("dev", 24), ("test", 24)):
        SilentProcess.voices.clear()
        recordings = synthesis.synthesise(split, minutes=0, speakers=count, seed=0)
        assert [speaker for speaker, _, _ in recordings] == list(range(count))
        voices = set(SilentProcess.voices)
        assert len(voices) == count
        assert {voice.split("+")[1] for voice in voices} == set(synthesis.VARIANTS[split])


def test_sentences_keep_to_their_split_and_use_every_letter_of_the_alphabet():
    generator = np.random.default_rng(0)
    sentences = {}
    for split in ("train", "dev", "test"):
        samples = (synthesis.sample_sentence(split, generator) for _ in range(1500))
        sentences[split] = set(samples)
    assert not sentences["train"] & sentences["dev"]
    assert not sentences["train"] & sentences["test"]
    assert not sentences["dev"] & sentences["test"]
    words = set(" ".join(set().union(*sentences.values())).split())
    assert 150 <= len(words) <= 300
    assert set("".join(words).upper()) == set(text.ALPHABET) - {" "}
    assert len(sentences["train"]) > 1000


def test_own_sentences_are_said_in_small_letters_by_all_voices_of_a_split(monkeypatch):
    monkeypatch.setattr(synthesis.espeak, "espeak_process", SilentProcess)
    SilentProcess.voices.clear()
    SilentProcess.texts.clear()
    waves = list(synthesis.say(["TO BE", "Or not"] * 13, "dev"))
    assert len(waves) == 26
    assert all(wave.dtype == np.float32 and np.abs(wave).max() <= 0.9 for wave in waves)
    assert SilentProcess.texts == ["to be", "or not"] * 13
    assert {voice.split("+")[1] for voice in SilentProcess.voices} == set(synthesis.VARIANTS["dev"])
    assert len(set(SilentProcess.voices)) == 24


def test_own_sentences_sound_the_same_again_and_otherwise_with_another_seed():
    first, again = (list(synthesis.say(["it rained"], "test", seed=1)) for _ in range(2))
    (other,) = synthesis.say(["it rained"], "test", seed=2)
    np.testing.assert_array_equal(first, again)
    assert len(other) != len(first[0]) or not np.array_equal(other, first[0])
