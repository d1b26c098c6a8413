"""Shared by the tests of recognition: logits that spell a text, a language model, a network."""

import numpy as np
import pytest
import soundfile
from builders import NOISE_CONFIG, noise_wave

from lttlib.models import Model
from lttlib.network import ConvNet, ConvSpec
from lttlib.recognition import estimate_ngrams, write_arpa
from lttlib.speech import ALPHABET, Utterance


def _spell(path, frames=None, fill=0):
    """Logits [1, frames, classes] whose best path is the given one: "_" is the blank.

    Frames beyond the path have the class `fill`.
    """
    frames = frames or len(path)
    classes = f"{ALPHABET}_"
    best = [classes.index(character) for character in path]
    best += [fill] * (frames - len(path))
    logits = np.zeros((1, frames, len(classes)), np.float32)
    logits[0, np.arange(frames), best] = 5.0
    return logits


@pytest.fixture(scope="session")
def spell():
    return _spell


@pytest.fixture(scope="session")
def english(tmp_path_factory):
    """Path of an ARPA file."""
    path = tmp_path_factory.mktemp("english") / "english.arpa"
    sentences = ["HELLO WORLD", "HELP THE WORLD", "DON'T ASK", "A HELLO"]
    write_arpa(path, estimate_ngrams(sentences, 3))
    return path


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """A model that has learned nothing, and noise to transcribe; the last two cannot be used."""
    folder = tmp_path_factory.mktemp("untrained")
    spec = ConvSpec((16, 16), (5, 3), (2, 1), (0.5, 0.5))
    utterances = []
    for number, samples in enumerate([9000, 4000, 16000, 7000, 4000, 12000]):
        path = folder / f"{number}.wav"
        wave = noise_wave(samples / 8000, number)
        soundfile.write(path, wave, 8000)
        text = "ABC" if number < 5 else None
        utterances.append(Utterance(path.stem, "1", "dev", path, text))
    utterances.append(Utterance("gone", "1", "dev", folder / "gone.wav", "ABC"))
    return Model(ConvNet(spec, seed=1), NOISE_CONFIG), utterances
