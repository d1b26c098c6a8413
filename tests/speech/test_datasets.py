"""Corpora to download: how they come into the LibriSpeech layout, and where they are."""

import io
from pathlib import Path

import numpy as np
import soundfile

from lttlib.speech import CORPORA, fetch_corpus, read_corpus
from lttlib.speech.datasets import prepare_ljspeech, prepare_spoken_digits

WORDS = {"0": "ZERO", "1": "ONE", "9": "NINE"}
DATA_PAGE = Path(__file__).parents[2] / "data" / "README.md"


def wav(value=0.1, seconds=0.1, sampling_rate=8000):
    """Bytes of a WAV file that holds one value."""
    file = io.BytesIO()
    wave = np.full(int(seconds * sampling_rate), value)
    soundfile.write(file, wave, sampling_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def recording_names():
    """Names of recordings of the test set (indices 0 to 4) and of others."""
    return [
        f"{digit}_{speaker}_{index}"
        for speaker in ("anna", "bob")
        for digit in (0, 1, 9)
        for index in (0, 4, 5, 12)
    ]


def test_spoken_digits_keep_train_and_dev_recordings_apart_and_use_each_as_often_as_promised(
    serve, tmp_path
):
    """Every recording is a constant of its own, so that its uses can be counted in the strings."""
    names = recording_names()
    members = {
        f"fsdd-1/recordings/{name}.wav": wav(value=(number + 1) / 100)
        for number, name in enumerate(names)
    }
    serve(members, ("train", "dev"), prepare_spoken_digits, known_hash=None)
    fetch_corpus("tiny", tmp_path)
    uses = {name: [] for name in names}
    for split in ("train", "dev"):
        for utterance in read_corpus(tmp_path, split):
            wave, sampling_rate = soundfile.read(utterance.audio)
            assert sampling_rate == 8000
            # A pause stands before each recording.
            starts = np.flatnonzero(np.diff(wave) > 0.005) + 1
            string = [names[round(100 * wave[start]) - 1] for start in starts]
            assert utterance.text == " ".join(WORDS[name[0]] for name in string)
            assert 3 <= len(string) <= 7
            assert {name.split("_")[1] for name in string} == {utterance.speaker}
            for name in string:
                uses[name].append(split)
    for name in names:
        in_test_set = name.endswith(("_0", "_4"))
        assert uses[name] == (["dev"] if in_test_set else 3 * ["train"])


def test_ljspeech_is_split_by_chapter_at_16_khz_with_the_text_as_read_aloud(serve, tmp_path):
    lines = []
    members = {}
    for number in range(1, 5):
        name = f"LJ{number:03d}-0007"
        printed = f"In 14{number}5, printing"
        lines.append(f"{name}|{printed}|In fourteen, Mr. “Gutenberg’s” time; printing-press\n")
        members[f"LJSpeech-1.1/wavs/{name}.wav"] = wav(seconds=0.5, sampling_rate=22050)
    members["LJSpeech-1.1/metadata.csv"] = "".join(lines).encode()
    serve(members, ("train", "dev", "test"), prepare_ljspeech, mode="bz2")
    fetch_corpus("tiny", tmp_path)
    utterances = read_corpus(tmp_path, ["train", "dev", "test"])
    assert [(utterance.split, utterance.id) for utterance in utterances] == [
        ("train", "LJ-001-0007"),
        ("train", "LJ-002-0007"),
        ("dev", "LJ-003-0007"),
        ("test", "LJ-004-0007"),
    ]
    texts = {utterance.text for utterance in utterances}
    assert texts == {"IN FOURTEEN MR GUTENBERG'S TIME PRINTING PRESS"}
    info = soundfile.info(utterances[0].audio)
    assert (info.samplerate, info.frames, info.format) == (16000, 8000, "FLAC")


def test_corpora_are_named_with_their_hashes_in_the_data_page():
    page = DATA_PAGE.read_text(encoding="utf-8")
    for archives in CORPORA.values():
        for archive in archives:
            assert archive.url.startswith("https://")
            assert archive.file_name in page
            assert (archive.hash or "none").removeprefix("md5:") in page
