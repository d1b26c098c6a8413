"""Corpora to download: how they come into the LibriSpeech layout, and where they are."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lttlib import course
from lttlib.speech import CORPORA, fetch_corpus, read_corpus
from lttlib.speech.datasets import AN4_DEV_SPEAKERS, prepare_ljspeech, prepare_spoken_digits

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


SAMPLES = np.array([0, 1, -1, 256, 16385, 2**15 - 1, -(2**15)] * 200, np.int16)


def an4_members(train, test, samples=SAMPLES, lines=None):
    """Members of an archive of AN4's shape: pairs of a speaker and a name in either part.

    `lines` maps pairs to lines of the transcription; by default each says ONE TWO.
    """
    members = {}
    for part, folder, pairs in (("train", "an4_clstk", train), ("test", "an4test_clstk", test)):
        files = [f"{folder}/{speaker}/{name}-{speaker}-b" for speaker, name in pairs]
        for file in files:
            members[f"an4/wav/{file}.raw"] = samples.astype(">i2").tobytes()
        transcription = [
            (lines or {}).get(pair, f"<s> ONE TWO </s> ({pair[1]}-{pair[0]}-b)") for pair in pairs
        ]
        members[f"an4/etc/an4_{part}.fileids"] = "\n".join(files).encode()
        members[f"an4/etc/an4_{part}.transcription"] = "\n".join(transcription).encode()
    return members


def test_an4_has_the_test_set_of_its_makers_and_a_dev_set_of_other_speakers_than_train(
    serve_corpus, tmp_path
):
    """In the transcription of the test set, most copies do not mark where a sentence starts."""
    train = [("fash", "cen1"), ("fash", "an251"), ("mrmg", "an36"), ("mdcs2", "an7")]
    test = [("fcaw", "an406"), ("fcaw", "cen8"), ("mjwl", "an391")]
    lines = {
        ("fash", "an251"): "<s> YES </s> (an251-fash-b)",
        ("fcaw", "an406"): "RUBOUT G M (an406-fcaw-b)",
        ("fcaw", "cen8"): "<s>  J  U L Y</s>  (cen8-fcaw-b) ",
    }
    serve_corpus("an4", an4_members(train, test, lines=lines))
    fetch_corpus("an4", tmp_path)
    utterances = read_corpus(tmp_path, ["train", "dev", "test"])
    assert [(item.split, item.speaker, item.id, item.text) for item in utterances] == [
        ("train", "fash", "fash-1-an251", "YES"),
        ("train", "fash", "fash-1-cen1", "ONE TWO"),
        ("train", "mdcs2", "mdcs2-1-an7", "ONE TWO"),
        ("dev", "mrmg", "mrmg-1-an36", "ONE TWO"),
        ("test", "fcaw", "fcaw-1-an406", "RUBOUT G M"),
        ("test", "fcaw", "fcaw-1-cen8", "J U L Y"),
        ("test", "mjwl", "mjwl-1-an391", "ONE TWO"),
    ]


def test_an4_keeps_every_bit_of_its_samples(serve_corpus, tmp_path):
    """Those that floats would round or clip, and those whose bytes could be swapped, too."""
    serve_corpus("an4", an4_members([("fash", "an1"), ("mrmg", "an2")], [("fcaw", "an3")]))
    fetch_corpus("an4", tmp_path)
    for utterance in read_corpus(tmp_path, ["train", "dev", "test"]):
        samples, sampling_rate = soundfile.read(utterance.audio, dtype="int16")
        np.testing.assert_array_equal(samples, SAMPLES)
        assert sampling_rate == 16000


def test_an4_of_its_makers_gives_the_utterances_of_the_real_copy(corpora, serve_corpus, tmp_path):
    """The copy's dev split, packed as its makers pack it: what is measured is what users get."""
    copy = corpora / "AN4"
    if not copy.is_dir():
        pytest.skip("LTT_CORPORA holds no AN4")
    assert sorted(AN4_DEV_SPEAKERS) == sorted(path.name for path in (copy / "dev").iterdir())
    assert not set(AN4_DEV_SPEAKERS) & {path.name for path in (copy / "train").iterdir()}

    real = read_corpus(copy, "dev")
    pairs = [(item.speaker, item.id.rpartition("-")[2]) for item in real]
    lines = {
        (speaker, name): f"<s> {item.text} </s> ({name}-{speaker}-b)"
        for (speaker, name), item in zip(pairs, real, strict=True)
    }
    members = an4_members([("fash", "an1"), *pairs], [("fcaw", "an3")], lines=lines)
    serve_corpus("an4", members)
    fetch_corpus("an4", tmp_path)
    fetched = read_corpus(tmp_path, "dev")
    assert len(fetched) == 102
    for ours, theirs in zip(fetched, real, strict=True):
        assert (ours.id, ours.speaker, ours.text) == (theirs.id, theirs.speaker, theirs.text)
        assert ours.audio.relative_to(tmp_path) == theirs.audio.relative_to(copy)


def librispeech_members(split, speaker, words):
    """Members of an archive of LibriSpeech's shape, of one utterance."""
    folder = f"LibriSpeech/{split}/{speaker}/5"
    return {
        "LibriSpeech/README.TXT": b"read me",
        f"{folder}/{speaker}-5-0000.flac": wav(),
        f"{folder}/{speaker}-5.trans.txt": f"{speaker}-5-0000 {words}\n".encode(),
    }


def serve_mini_librispeech(serve_corpus):
    train = librispeech_members("train-clean-5", 19, "TO LEARN FROM")
    dev = librispeech_members("dev-clean-2", 84, "TO SCORE BY")
    serve_corpus("mini-librispeech", train, dev)


def serve_an4(serve_corpus):
    serve_corpus("an4", an4_members([("fash", "an1"), ("mrmg", "an2")], [("fcaw", "an3")]))


def test_mini_librispeech_has_two_archives_that_are_read_as_train_and_dev(serve_corpus, tmp_path):
    serve_mini_librispeech(serve_corpus)
    fetch_corpus("mini-librispeech", tmp_path)
    assert (tmp_path / "train-clean-5").is_dir() and (tmp_path / "dev-clean-2").is_dir()
    utterances = read_corpus(tmp_path, ["train", "dev"])
    assert [(item.split, item.id, item.text) for item in utterances] == [
        ("train", "19-5-0000", "TO LEARN FROM"),
        ("dev", "84-5-0000", "TO SCORE BY"),
    ]


@pytest.mark.parametrize(
    "profile, serve, score_splits",
    [("an4", serve_an4, ["dev", "test"]), ("mini-librispeech", serve_mini_librispeech, ["dev"])],
)
def test_profile_learns_from_and_is_scored_on_splits_that_its_corpus_has(
    serve_corpus, tmp_path, profile, serve, score_splits
):
    parameters = course.profile(profile)
    assert parameters["score_splits"] == score_splits
    serve(serve_corpus)
    fetch_corpus(parameters["corpus"], tmp_path)
    for split in [parameters.get("train_split", "train"), *score_splits]:
        (utterance,) = read_corpus(tmp_path, split)
        assert utterance.text and utterance.audio.exists()


def test_corpora_are_named_with_their_hashes_in_the_data_page():
    page = DATA_PAGE.read_text(encoding="utf-8")
    for archives in CORPORA.values():
        for archive in archives:
            # Where the makers offer nothing else, the page warns.
            safe = archive.url.startswith("https://")
            assert safe or f"`{archive.file_name}` comes without encryption" in page
            assert archive.file_name in page
            assert (archive.hash or "none").removeprefix("md5:") in page
