"""Corpora to download: where they are, and how each comes into the LibriSpeech layout."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lttlib.speech import text
from lttlib.speech.layout import CorpusError, write_chapter

SAMPLING_RATE = 16000  # Hz, of recordings that are resampled here
OPENSLR = "https://www.openslr.org/resources"

# Of the Free Spoken Digit Dataset. Its test set are the first recordings of each speaker and digit.
DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
TEST_RECORDINGS = 5
ROUNDS = {"train": 3, "dev": 1}  # a recording stands in so many strings
MIN_DIGITS, MAX_DIGITS = 3, 7  # per string
MIN_PAUSE, MAX_PAUSE = 0.05, 0.35  # seconds before a digit

# Of CMU AN4. Its makers publish no dev set: these speakers of the training set are one.
AN4_DEV_SPEAKERS = ("fejs", "fkdo", "flmm2", "mcel", "mdcs", "mgah", "mjbh", "mrmg")
AN4_RECORDING = r"\w+/(\w+)/(\w+)-\1-b"  # an4_clstk/fash/an251-fash-b
AN4_TRANSCRIPT = r"(?:<s>)?(.*?)(?:</s>)?\s*\((\S+)\)"  # <s> YES </s> (an251-fash-b)


def prepare_librispeech(unpacked):
    """Return the folder of LibriSpeech or a part of it, which has the layout already."""
    return unpacked / "LibriSpeech"


def prepare_spoken_digits(unpacked):
    """Prepare the Free Spoken Digit Dataset: its digits, strung together with pauses, at 8 kHz.

    A string holds 3 to 7 recordings of one speaker. Indices 0 to 4 (the test set of its makers) go
    to dev, each in one string, all others to train, each in three; the strings are the same every
    time.
    """
    generator = np.random.default_rng(0)
    for (split, speaker), files in sorted(_digit_files(unpacked).items()):
        words = [DIGITS[int(digit)] for digit, _ in files]
        sounds = [soundfile.read(path, dtype="float32") for _, path in files]
        waves = [wave for wave, _ in sounds]
        (sampling_rate,) = {rate for _, rate in sounds}
        # All strings are drawn before their pauses.
        strings = []
        for _ in range(ROUNDS[split]):
            strings += _draw_strings(len(files), generator)
        recordings = []
        for number, string in enumerate(strings):
            pauses = generator.uniform(MIN_PAUSE, MAX_PAUSE, size=len(string)) * sampling_rate
            wave = _join([waves[i] for i in string], pauses.astype(int))
            recordings.append((number, wave, " ".join(words[i] for i in string)))
        chapter = "0" if split == "train" else "1"
        write_chapter(unpacked / split, speaker, chapter, recordings, sampling_rate=sampling_rate)
    return unpacked


def _digit_files(unpacked):
    """Map (split, speaker) to pairs of digit and path `<digit>_<speaker>_<index>.wav`."""
    files = defaultdict(list)
    for path in sorted(unpacked.glob("*/recordings/*_*_*.wav")):
        digit, speaker, index = path.stem.split("_")
        split = "dev" if int(index) < TEST_RECORDINGS else "train"
        files[split, speaker].append((digit, path))
    return files


def _join(waves, pauses):
    """Join waves, with a pause of so many samples before each."""
    padded = [np.pad(wave, (pause, 0)) for wave, pause in zip(waves, pauses, strict=True)]
    return np.concatenate(padded)


def _draw_strings(count, generator):
    """Yield the numbers below `count`, shuffled and cut into strings of 3 to 7."""
    numbers = generator.permutation(count).tolist()
    while numbers:
        length = int(generator.integers(MIN_DIGITS, MAX_DIGITS + 1))
        # Too few would remain for another string: take all, or leave just enough.
        if len(numbers) - length < MIN_DIGITS:
            fits = len(numbers) <= MAX_DIGITS
            length = len(numbers) if fits else len(numbers) - MIN_DIGITS
        yield numbers[:length]
        numbers = numbers[length:]


def prepare_ljspeech(unpacked):
    """Prepare LJSpeech: one reader, chapters LJ001 to LJ050, at 16 kHz, texts normalised.

    The last chapter goes to test, the one before it to dev, all others to train: no page is in two
    splits.
    """
    (source,) = unpacked.glob("LJSpeech-*")
    chapters = _ljspeech_chapters(source / "metadata.csv")
    *_, dev, test = chapters
    for chapter, rows in chapters.items():
        recordings = []
        for name, words in rows:
            wave, sampling_rate = soundfile.read(source / "wavs" / f"{name}.wav", dtype="float32")
            wave = soxr.resample(wave, sampling_rate, SAMPLING_RATE)
            recordings.append((int(name[6:]), wave, text.normalise(words)))
        split = {dev: "dev", test: "test"}.get(chapter, "train")
        write_chapter(unpacked / split, "LJ", chapter, recordings, sampling_rate=SAMPLING_RATE)
    return unpacked


def _ljspeech_chapters(path):
    """Map chapters to pairs of recording name and words as read aloud, all sorted."""
    lines = path.read_text(encoding="utf-8").strip().split("\n")
    chapters = defaultdict(list)
    for line in sorted(lines):
        name, _, words = line.split("|")  # LJ001-0001|as printed|as read aloud
        chapters[name[2:5]].append((name, words))
    return chapters


def prepare_an4(unpacked):
    """Prepare CMU AN4: spelled names, addresses and numbers, commands, at 16 kHz.

    The test set is that of its makers. Of their training set, eight speakers go to dev, all others
    to train. Their `an251-fash-b` becomes `fash-1-an251`.
    """
    for part in ("train", "test"):
        for speaker, files in _an4_files(unpacked / "an4", part).items():
            is_dev = part == "train" and speaker in AN4_DEV_SPEAKERS
            folder = unpacked / ("dev" if is_dev else part)
            recordings = ((name, _read_big_endian(path), words) for name, path, words in files)
            write_chapter(folder, speaker, "1", recordings, sampling_rate=SAMPLING_RATE)
    return unpacked


def _an4_files(source, part):
    """Map the speakers of a part to name, path and words of each recording."""
    transcripts = _an4_transcripts(source / "etc" / f"an4_{part}.transcription")
    listing = source / "etc" / f"an4_{part}.fileids"
    files = defaultdict(list)
    for line in sorted(listing.read_text(encoding="utf-8").split()):
        match = re.fullmatch(AN4_RECORDING, line)
        if not match:
            problem = f"{line} names no recording of AN4"
            raise CorpusError(problem, path=listing, cure="download the archive again")
        speaker, name = match.groups()
        path = source / "wav" / f"{line}.raw"
        files[speaker].append((name, path, transcripts[path.stem]))
    return files


def _an4_transcripts(path):
    """Map names of recordings to their words; some copies mark where a sentence starts and ends."""
    transcripts = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(AN4_TRANSCRIPT, line.strip())
        if match:
            words, name = match.groups()
            transcripts[name] = words.strip()
    return transcripts


def _read_big_endian(path):
    """Read samples of 16 bits, the most significant byte first, from a file without a header."""
    return np.frombuffer(path.read_bytes(), ">i2").astype(np.int16)


@dataclass(frozen=True)
class Archive:
    """A part of a corpus: where it is, and the splits that it holds.

    `prepare` is given the folder to which it was unpacked, and returns one that holds the splits in
    the LibriSpeech layout.
    """

    url: str
    hash: str | None
    splits: tuple[str, ...]
    prepare: Callable[[Path], Path] = prepare_librispeech

    @property
    def file_name(self):
        """Name of the downloaded file."""
        return self.url.rpartition("/")[2]


def _openslr(number, **hashes):
    """Archives of one split each, by name, from their MD5."""
    archives = {}
    for name, md5 in hashes.items():
        split = name.replace("_", "-")
        url = f"{OPENSLR}/{number}/{split}.tar.gz"
        archives[split] = Archive(url, f"md5:{md5}", (split,))
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
SPOKEN_DIGITS = Archive(
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    hash=None,  # its makers publish none
    splits=("train", "dev"),
    prepare=prepare_spoken_digits,
)
LJSPEECH = Archive(
    "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    hash="md5:c4763be9595ddfa79c2fc6eaeb3b6c8e",
    splits=("train", "dev", "test"),
    prepare=prepare_ljspeech,
)

AN4 = Archive(
    "http://www.speech.cs.cmu.edu/databases/an4/an4_raw.bigendian.tar.gz",
    hash=None,  # its makers publish none
    splits=("train", "dev", "test"),
    prepare=prepare_an4,
)

# A corpus may be several archives. Each is fetched on its own, so that those that are there stay.
CORPORA = {
    **{name: (archive,) for name, archive in LIBRISPEECH.items()},
    "librispeech": (
        LIBRISPEECH["train-clean-100"],
        LIBRISPEECH["dev-clean"],
        LIBRISPEECH["test-clean"],
    ),
    "mini-librispeech": tuple(MINI_LIBRISPEECH.values()),
    "spoken-digits": (SPOKEN_DIGITS,),
    "ljspeech": (LJSPEECH,),
    "an4": (AN4,),
}
