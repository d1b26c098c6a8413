"""Corpora to download: where they are, and how each comes into the LibriSpeech layout."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lttlib.speech import text
from lttlib.speech.layout import write_chapter

SAMPLING_RATE = 16000  # Hz, of what is resampled here
OPENSLR = "https://www.openslr.org/resources"
DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
TEST_RECORDINGS = (
    5  # the first of each speaker and digit are the test set of the Free Spoken Digit Dataset
)
TIMES = {"train": 3, "dev": 1}  # in how many strings a recording stands
STRING = 3, 7  # digits
PAUSES = 0.05, 0.35  # s


def librispeech(unpacked):
    """LibriSpeech and its parts have the layout already."""
    return unpacked / "LibriSpeech"


def spoken_digits(unpacked):
    """Free Spoken Digit Dataset: recordings `{digit}_{speaker}_{index}.wav`, strung together with pauses.

    A string holds 3 to 7 recordings of one speaker. Indices 0 to 4 (the test set of its makers) go to dev, each in one
    string, all others to train, each in three; the strings are the same every time. They stay at 8 kHz.
    """
    generator = np.random.default_rng(0)
    speakers = defaultdict(list)
    for file in sorted(unpacked.glob("*/recordings/*_*_*.wav")):
        digit, speaker, index = file.stem.split("_")
        speakers["dev" if int(index) < TEST_RECORDINGS else "train", speaker].append(
            (DIGITS[int(digit)], file)
        )
    for (split, speaker), files in sorted(speakers.items()):
        waves = [soundfile.read(file, dtype="float32") for _, file in files]
        strings = [
            string for _ in range(TIMES[split]) for string in _strings(len(files), generator)
        ]
        (sampling_rate,) = {rate for _, rate in waves}
        recordings = []
        for number, string in enumerate(strings):
            pauses = (generator.uniform(*PAUSES, size=len(string)) * sampling_rate).astype(int)
            wave = np.concatenate(
                [np.pad(waves[i][0], (pause, 0)) for i, pause in zip(string, pauses, strict=True)]
            )
            recordings.append((number, wave, " ".join(files[i][0] for i in string)))
        write_chapter(
            unpacked / split, speaker, "0" if split == "train" else "1", recordings, sampling_rate
        )
    return unpacked


def _strings(count, generator):
    """The numbers below `count`, shuffled and cut into strings of 3 to 7."""
    shortest, longest = STRING
    numbers = generator.permutation(count).tolist()
    while numbers:
        length = int(generator.integers(shortest, longest + 1))
        if len(numbers) - length < shortest:  # what is left makes no string of its own
            length = len(numbers) if len(numbers) <= longest else len(numbers) - shortest
        yield numbers[:length]
        numbers = numbers[length:]


def ljspeech(unpacked):
    """LJSpeech: one speaker reads seven books, cut into chapters LJ001 to LJ050; resampled to 16 kHz, texts normalised.

    The last chapter goes to test, the one before it to dev, all others to train: no page is in two splits.
    """
    (source,) = unpacked.glob("LJSpeech-*")
    lines = (source / "metadata.csv").read_text(encoding="utf-8").strip().split("\n")
    chapters = defaultdict(list)
    for line in sorted(lines):
        name, _, words = line.split("|")  # LJ001-0001|as printed|as read aloud
        chapters[name[2:5]].append((name, words))
    *_, dev, test = chapters
    for chapter, rows in chapters.items():
        recordings = []
        for name, words in rows:
            wave, sampling_rate = soundfile.read(source / "wavs" / f"{name}.wav", dtype="float32")
            wave = soxr.resample(wave, sampling_rate, SAMPLING_RATE)
            recordings.append((int(name[6:]), wave, text.normalise(words)))
        split = {dev: "dev", test: "test"}.get(chapter, "train")
        write_chapter(unpacked / split, "LJ", chapter, recordings, SAMPLING_RATE)
    return unpacked


@dataclass(frozen=True)
class Archive:
    """A part of a corpus: where it is, the splits it holds, and how to find them in what it unpacks to."""

    url: str
    hash: str | None
    splits: tuple[str, ...]
    arrange: Callable[[Path], Path] = librispeech


def _openslr(number, **parts):
    """Archives of one split each, by their MD5."""
    archives = {}
    for name, md5 in parts.items():
        split = name.replace("_", "-")
        archives[split] = Archive(f"{OPENSLR}/{number}/{split}.tar.gz", f"md5:{md5}", (split,))
    return archives


LIBRISPEECH = _openslr(
    12,
    dev_clean="42e2234ba48799c1f50f24a7926300a1",
    dev_other="c8d0bcc9cca99d4f8b62fcc847357931",
    test_clean="32fa31d27d2e1cad72775fee3f4849a9",
    test_other="fb5a50374b501bb3bac4815ee91d3135",
    train_clean_100="2a93770f6d5c6c964bc36631d331a522",
    train_clean_360="c0e676e450a7ff2f54aeade5171606fa",
    train_other_500="d1a0fd59409feb2c614ce4d30c387708",
)
MINI_LIBRISPEECH = _openslr(
    31,
    train_clean_5="5df7d4e78065366204ca6845bb08f490",
    dev_clean_2="6d7ab67ac6a1d2c993d050e16d61080d",
)
# A name may stand for several archives; each is fetched on its own, so that what is there stays.
CORPORA = {name: (archive,) for name, archive in LIBRISPEECH.items()} | {
    "librispeech": tuple(
        LIBRISPEECH[name] for name in ("train-clean-100", "dev-clean", "test-clean")
    ),
    "mini-librispeech": tuple(MINI_LIBRISPEECH.values()),
    "spoken-digits": (
        Archive(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
            None,  # its makers publish none
            ("train", "dev"),
            spoken_digits,
        ),
    ),
    "ljspeech": (
        Archive(
            "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
            "md5:c4763be9595ddfa79c2fc6eaeb3b6c8e",
            ("train", "dev", "test"),
            ljspeech,
        ),
    ),
}
