"""Corpora that are downloaded or synthesised: one that is there is used, none is there by half."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from damage import assert_refused, content, naming, rows

from lttlib.speech import (
    CorpusError,
    fetch_corpus,
    get_corpus,
    read_corpus,
    synthesise_corpus,
    text,
)

REPOSITORY = Path(__file__).resolve().parents[2]
MINUTES = {"train": 0.3, "dev": 0.1, "test": 0.1}
SPEAKERS = {"train": 4, "dev": 2, "test": 2}
SMALL = {"minutes": MINUTES, "speakers": SPEAKERS, "seed": 3}
ELSEWHERE = "remove it or name another folder"


def refusal(function, *arguments, **keywords):
    """The error of getting a corpus."""
    with pytest.raises(CorpusError) as caught:
        function(*arguments, **keywords)
    return caught.value


# Download.


def test_fetch_corpus_unpacks_the_split_and_returns_at_once_when_it_is_there(
    serve, server, tiny, tmp_path
):
    serve(tiny)
    assert fetch_corpus("tiny", tmp_path) == tmp_path
    (utterance,) = read_corpus(tmp_path, "dev")
    assert utterance.audio.read_bytes() == tiny["LibriSpeech/dev-clean/7/1/7-1-0.flac"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".downloads", "dev-clean"]
    assert [path.name for path in (tmp_path / ".downloads").iterdir()] == ["tiny.tar.done"]
    assert get_corpus("tiny", tmp_path) == tmp_path
    assert len(server.requested_ranges) == 1


def test_fetch_corpus_refuses_unknown_names_missing_splits_and_splits_from_elsewhere(
    serve, tiny, tmp_path
):
    error = refusal(fetch_corpus, "tidy", tmp_path)
    assert "no corpus 'tidy'" in str(error)
    assert "choose among synthetic" in error.cure and "mini-librispeech" in error.cure

    serve(tiny, splits=("dev-other",))
    error = refusal(fetch_corpus, "tiny", tmp_path)
    assert error.path == tmp_path / ".downloads" / "tiny.tar"
    assert "holds no dev-other" in str(error)

    serve(tiny)
    (tmp_path / "dev-clean").mkdir()
    error = refusal(fetch_corpus, "tiny", tmp_path)
    assert error.path == tmp_path / "dev-clean" and error.cure == ELSEWHERE


# Synthesis.


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A small synthesised corpus."""
    return synthesise_corpus(tmp_path_factory.mktemp("synthetic") / "corpus", **SMALL)


def contents(root):
    """Bytes of all files in a folder, by their paths in it."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root): path.read_bytes() for path in paths}


def test_synthesised_corpus_has_the_same_bytes_after_other_speech_and_in_another_process(
    synthetic, tmp_path
):
    synthesise_corpus(tmp_path / "before", minutes={"dev": 0.1}, speakers={"dev": 1}, seed=9)
    again = synthesise_corpus(tmp_path / "again", **SMALL)
    assert contents(again) == contents(synthetic)
    program = (
        "from lttlib.speech import synthesise_corpus; "
        f"synthesise_corpus({str(tmp_path / 'other')!r}, **{SMALL!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=REPOSITORY)
    assert contents(tmp_path / "other") == contents(synthetic)
    other_seed = synthesise_corpus(tmp_path / "seed", **(SMALL | {"seed": 4}))
    assert contents(other_seed) != contents(synthetic)


@pytest.mark.skipif(metadata.version("espeakng-loader") != "0.2.4", reason="of another espeak-ng")
def test_synthesised_corpus_from_before_versions_were_numbers_is_used(tmp_path):
    root = tmp_path / "synthetic"
    root.mkdir()
    description = SMALL | {"version": 2054655564}
    (root / "synthesis.json").write_text(json.dumps(description))
    assert synthesise_corpus(root, **SMALL) == root
    (root / "synthesis.json").write_text(json.dumps(description | {"version": 7}))
    assert refusal(synthesise_corpus, root, **SMALL).cure == ELSEWHERE


def test_synthesised_speech_is_16_khz_flac_audible_and_never_clipped(synthetic):
    for split, seconds in (("train", 18), ("dev", 6), ("test", 6)):
        total = 0
        for utterance in read_corpus(synthetic, split):
            info = soundfile.info(utterance.audio)
            assert (info.format, info.subtype) == ("FLAC", "PCM_16")
            assert (info.channels, info.samplerate) == (1, 16000)
            wave, _ = soundfile.read(utterance.audio)
            assert 0.01 < np.sqrt(np.mean(wave**2)) < 0.2
            assert np.abs(wave).max() <= 0.9 + 2**-15
            assert set(utterance.text) <= set(text.ALPHABET)
            assert 3 <= len(utterance.text.split()) <= 9
            letters_per_second = len(utterance.text) / info.duration
            assert 6 < letters_per_second < 24
            total += info.duration
        assert seconds <= total < seconds + 6


def test_synthesised_speakers_are_numbers_and_no_speaker_or_sentence_stands_in_two_splits(
    synthetic,
):
    utterances = read_corpus(synthetic, list(MINUTES))
    speakers = {split: set() for split in MINUTES}
    texts = {split: set() for split in MINUTES}
    for utterance in utterances:
        speakers[utterance.split].add(utterance.speaker)
        texts[utterance.split].add(utterance.text)
    assert {split: len(names) for split, names in speakers.items()} == SPEAKERS
    every_speaker = set().union(*speakers.values())
    assert len(every_speaker) == 8
    assert all(speaker.isdigit() for speaker in every_speaker)
    assert len({utterance.id for utterance in utterances}) == len(utterances)
    assert not texts["train"] & (texts["dev"] | texts["test"])
    assert not texts["dev"] & texts["test"]


def test_synthesise_corpus_returns_what_is_there_but_never_another_corpus(synthetic, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in synthetic.rglob("*")}
    assert synthesise_corpus(synthetic, **SMALL) == synthetic
    assert {path: path.stat().st_mtime_ns for path in synthetic.rglob("*")} == before

    error = refusal(synthesise_corpus, synthetic, **(SMALL | {"seed": 4}))
    assert error.path == synthetic and error.cure == ELSEWHERE

    root = tmp_path / "x"
    error = refusal(synthesise_corpus, root, minutes={"dev": 1}, speakers={"dev": 25})
    assert "dev has 1 to 24 voices, not 25" in str(error)
    error = refusal(synthesise_corpus, root, minutes={"valid": 1})
    assert "no split ['valid']" in str(error) and error.cure == "choose among train, dev, test"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module, message",
    [
        ("raise ImportError", "pip install espeakng-loader"),
        ("get_library_path = lambda: '/nowhere.so'", "does not fit this system"),
    ],
)
def test_synthesise_corpus_without_espeak_names_the_cure_and_leaves_nothing(
    tmp_path, monkeypatch, module, message
):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "espeakng_loader.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    assert message in str(refusal(synthesise_corpus, tmp_path / "synthetic", **SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["path"]


# Bad input.


def described_by(data):
    """A folder whose synthesis.json holds these bytes."""
    return naming("synthetic", content("synthetic/synthesis.json", data))


def synthesise(workspace, path):
    synthesise_corpus(workspace / "synthetic", {"dev": 0.1})


BAD_SYNTHESIS = [
    ("synthesised corpus of other contents", described_by(b'{"seed": 5}'), synthesise,
     CorpusError, "remove it or name"),
    ("synthesised corpus with a note cut", described_by(b'{"seed"'), synthesise, CorpusError,
     "remove it or name"),
    ("synthesised corpus with a note of bytes", described_by(b"\xff"), synthesise, CorpusError,
     "remove it or name"),
]  # fmt: skip


@rows(BAD_SYNTHESIS)
def test_damaged_synthesised_corpus_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)
