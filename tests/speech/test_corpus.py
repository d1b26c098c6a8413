"""Where speech comes from: what `read` finds, what `fetch` refuses, what `synthesise` promises."""

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lttlib.speech import (
    CORPORA,
    CorpusError,
    Utterance,
    download,
    fetch_corpus,
    read_corpus,
    synthesis,
    synthesise_corpus,
    text,
)
from lttlib.speech.datasets import Archive, librispeech, ljspeech, spoken_digits


def wav(seconds=0.1, sampling_rate=8000, value=0.1, kind="WAV"):
    file = io.BytesIO()
    soundfile.write(
        file,
        np.full(int(seconds * sampling_rate), value),
        sampling_rate,
        format=kind,
        subtype="PCM_16",
    )
    return file.getvalue()


def chapter(root, split, speaker="7", lines=("7-1-0 HI",), audio=("7-1-0.flac",)):
    folder = root / split / speaker / "1"
    folder.mkdir(parents=True)
    (folder / f"{speaker}-1.trans.txt").write_text(
        "".join(f"{line}\n" for line in lines), encoding="utf-8"
    )
    for name in audio:
        (folder / name).touch()
    return folder


# read


def test_read_gives_sorted_utterances_with_capital_single_spaced_text(tmp_path):
    chapter(
        tmp_path,
        "train",
        lines=["7-1-1  so  it\tis ", "", "7-1-0 HI"],
        audio=["7-1-0.flac", "7-1-1.wav"],
    )
    folder = tmp_path / "train" / "7" / "1"
    assert read_corpus(tmp_path, "train") == [
        Utterance("7-1-0", "7", "train", folder / "7-1-0.flac", "HI"),
        Utterance("7-1-1", "7", "train", folder / "7-1-1.wav", "SO IT IS"),
    ]


def test_a_split_is_matched_by_its_own_folder_not_by_the_path_above(tmp_path):
    root = tmp_path / "dev" / "train-data"
    for split in (
        "dev-clean",
        "dev-clean-2",
        "dev-other",
        "train-clean-5",
        "train",
        "devel",
        "Dev",
        "test",
    ):
        chapter(root, split, lines=[f"{split} HI"], audio=[f"{split}.flac"])
    (root / "dev.txt").touch()

    def ids(splits):
        return [utterance.id for utterance in read_corpus(root, splits)]

    assert ids("dev-clean") == ["dev-clean"]
    assert ids("dev") == ["dev-clean", "dev-clean-2", "dev-other"]
    assert ids("train") == ["train", "train-clean-5"]
    assert ids(["test", "dev-other"]) == ["test", "dev-other"]
    assert {utterance.split for utterance in read_corpus(root, "dev")} == {"dev"}
    with pytest.raises(CorpusError, match="dev-clean-2, dev-other, devel, test, train"):
        read_corpus(root, "train-clean")


def test_text_without_audio_and_audio_without_text_are_kept_for_the_records_to_list(tmp_path):
    folder = chapter(
        tmp_path, "dev", lines=["7-1-0 HI", "7-1-2"], audio=["7-1-1.flac", "7-1-2.flac"]
    )
    silent, wordless, empty = read_corpus(tmp_path, "dev")
    assert (silent.text, silent.audio, silent.audio.exists()) == (
        "HI",
        folder / "7-1-0.flac",
        False,
    )
    assert (wordless.text, wordless.audio.exists()) == (None, True)
    assert (empty.text, empty.audio.exists()) == ("", True)


def test_read_names_what_is_missing_and_the_cure(tmp_path):
    with pytest.raises(CorpusError, match="nowhere is no folder.*ltt corpus"):
        read_corpus(tmp_path / "nowhere", "dev")
    chapter(tmp_path / "LibriSpeech", "dev-clean")
    with pytest.raises(CorpusError, match="did you mean the folder .*LibriSpeech"):
        read_corpus(tmp_path, "dev")
    (tmp_path / "LibriSpeech" / "test" / "flat").mkdir(parents=True)
    with pytest.raises(CorpusError, match="test holds no <speaker>/<chapter>"):
        read_corpus(tmp_path / "LibriSpeech", "test")


def test_an_id_that_stands_twice_is_an_error_that_names_file_and_line(tmp_path):
    chapter(tmp_path / "texts", "dev", lines=["7-1-0 HI", "7-1-0 HO"])
    with pytest.raises(CorpusError, match=r"7-1\.trans\.txt, line 2: 7-1-0"):
        read_corpus(tmp_path / "texts", "dev")
    chapter(tmp_path / "audio", "dev", audio=["7-1-0.flac", "7-1-0.wav"])
    with pytest.raises(CorpusError, match=r"7-1-0\.wav has the id of"):
        read_corpus(tmp_path / "audio", "dev")
    chapter(tmp_path / "merged", "dev-clean"), chapter(tmp_path / "merged", "dev-other")
    with pytest.raises(CorpusError, match="dev-other"):
        read_corpus(tmp_path / "merged", "dev")


def test_a_transcript_that_is_not_utf8_is_an_error_that_names_file_and_line(tmp_path):
    folder = chapter(tmp_path, "dev")
    (folder / "7-1.trans.txt").write_bytes(b"\xef\xbb\xbf7-1-0 HI\r\n7-1-1 CAF\xe9\r\n")
    with pytest.raises(CorpusError, match=r"7-1\.trans\.txt, line 2: .*UTF-8"):
        read_corpus(tmp_path, "dev")
    (folder / "7-1.trans.txt").write_bytes(b"\xef\xbb\xbf7-1-0 HI\r\n")
    assert read_corpus(tmp_path, "dev")[0].text == "HI"


@pytest.mark.parametrize(
    ("name", "train", "dev"), [("SpokenDigits", 1083, 86), ("LJSpeech", 304, 40)]
)
def test_read_finds_every_utterance_of_real_speech(name, train, dev):
    folder = Path(os.environ.get("LTT_CORPORA", "no such folder")) / name
    if not folder.is_dir():
        pytest.skip("LTT_CORPORA names no folder with SpokenDigits and LJSpeech")
    for split, count in (("train", train), ("dev", dev)):
        utterances = read_corpus(folder, split)
        assert len(utterances) == count
        assert all(
            utterance.audio.is_file() and set(utterance.text) <= set(text.ALPHABET)
            for utterance in utterances
        )


# fetch


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; sends only `server.stop_after` bytes of an answer, and knows ranges if `server.ranges`."""

    def do_GET(self):
        body, status = self.server.files.get(self.path), 200
        self.server.asked.append(self.headers.get("Range"))
        if body is None:
            return self.send_error(404)
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.server.ranges else 0
        if start:
            status = 206 if start < len(body) else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(body[start:])))
        self.end_headers()
        self.wfile.write(body[start:][: self.server.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked, server.stop_after, server.ranges = {}, [], None, True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def serve(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LTT_BATCH", "1")

    def add(members, splits=("dev-clean",), arrange=librispeech, known=True, mode="gz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=f"w:{mode}") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                if isinstance(content, str):
                    member.type, member.linkname = tarfile.SYMTYPE, content
                else:
                    member.size = len(content)
                archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
        server.files["/tiny.tar"] = body = file.getvalue()
        known = f"md5:{hashlib.md5(body).hexdigest()}" if known is True else known
        url = f"http://127.0.0.1:{server.server_address[1]}/tiny.tar"
        monkeypatch.setitem(CORPORA, "tiny", (Archive(url, known, splits, arrange),))
        return body

    return add


NOISE = np.random.default_rng(0).bytes(200_000)
TINY = {
    "LibriSpeech/README.TXT": b"read me",
    "LibriSpeech/dev-clean/7/1/7-1.trans.txt": b"7-1-0 HI\n",
    "LibriSpeech/dev-clean/7/1/7-1-0.flac": NOISE,
}


def left(root):
    """What a user sees in a folder, and what stays of downloads."""
    return sorted(
        path.name
        for path in [*root.glob("*"), *root.glob(".downloads/*")]
        if path.name != ".downloads"
    )


def test_fetch_unpacks_the_split_and_returns_at_once_when_it_is_there(serve, server, tmp_path):
    serve(TINY)
    assert fetch_corpus("tiny", tmp_path) == tmp_path
    (utterance,) = read_corpus(tmp_path, "dev")
    assert utterance.audio.read_bytes() == NOISE
    assert left(tmp_path) == ["dev-clean", "tiny.tar.done"]
    fetch_corpus("tiny", tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_never_passes_for_whole_and_ends_right(
    serve, server, tmp_path, ranges
):
    serve(TINY)
    server.ranges, server.stop_after = ranges, 70_000
    for _ in range(2):
        with pytest.raises(CorpusError, match="stopped .* run it again"):
            fetch_corpus("tiny", tmp_path)
        assert left(tmp_path) == ["tiny.tar.part"]
    server.stop_after = None
    fetch_corpus("tiny", tmp_path)
    assert read_corpus(tmp_path, "dev-clean")[0].audio.read_bytes() == NOISE
    assert left(tmp_path) == ["dev-clean", "tiny.tar.done"]
    chunk = download.CHUNK  # the rest of the 70,000 bytes was no whole chunk
    assert server.asked == [None, f"bytes={chunk}-", f"bytes={2 * chunk if ranges else chunk}-"]


def test_a_download_that_was_whole_but_not_yet_in_its_place_is_used(serve, tmp_path):
    body = serve(TINY)
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads" / "tiny.tar.part").write_bytes(body)
    fetch_corpus("tiny", tmp_path)
    assert left(tmp_path) == ["dev-clean", "tiny.tar.done"]


def test_a_wrong_hash_is_an_error_and_the_file_is_removed(serve, tmp_path):
    serve(TINY, known="md5:" + 32 * "0")
    with pytest.raises(CorpusError, match="MD5 hash .* does not match"):
        fetch_corpus("tiny", tmp_path)
    assert left(tmp_path) == []


def test_without_a_published_hash_the_first_download_sets_it(serve, tmp_path):
    serve(TINY, known=None)
    fetch_corpus("tiny", tmp_path)
    assert left(tmp_path) == ["dev-clean", "tiny.tar.done", "tiny.tar.sha256"]
    (tmp_path / "dev-clean").rename(tmp_path / "elsewhere")
    serve(TINY | {"LibriSpeech/more": b"more"}, known=None)
    with pytest.raises(CorpusError, match="SHA256 hash .* does not match"):
        fetch_corpus("tiny", tmp_path)


@pytest.mark.parametrize(
    "evil",
    [
        {"../evil": b"evil"},
        {"LibriSpeech/../../evil": b"evil"},
        {"/evil": b"evil"},
        {"LibriSpeech/evil": "../../../evil"},
        {"LibriSpeech/evil": "/etc/passwd"},
    ],
)
def test_an_archive_that_points_outside_its_folder_is_refused(serve, tmp_path, evil):
    serve(TINY | evil)
    with pytest.raises(CorpusError, match="cannot be unpacked safely"):
        fetch_corpus("tiny", tmp_path / "root")
    assert left(tmp_path / "root") == [] and left(tmp_path) == ["root"]


@pytest.mark.parametrize(
    "damage", [lambda body: body[: len(body) // 2], lambda body: b"<html>" + body]
)
def test_an_archive_cut_short_or_no_archive_at_all_leaves_no_half_corpus(
    serve, server, tmp_path, damage
):
    whole = serve(TINY, known=None)
    server.files["/tiny.tar"] = damage(whole)
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        fetch_corpus("tiny", tmp_path)
    assert left(tmp_path) == []
    server.files["/tiny.tar"] = whole
    assert read_corpus(fetch_corpus("tiny", tmp_path), "dev-clean")[0].audio.read_bytes() == NOISE


def test_fetch_refuses_unknown_names_missing_splits_and_splits_from_elsewhere(
    serve, server, tmp_path
):
    with pytest.raises(CorpusError, match="no corpus 'tidy': choose among .*mini-librispeech"):
        fetch_corpus("tidy", tmp_path)
    serve(TINY, splits=("dev-other",))
    with pytest.raises(CorpusError, match="holds no dev-other"):
        fetch_corpus("tiny", tmp_path)
    serve(TINY)
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(CorpusError, match="dev-clean is not"):
        fetch_corpus("tiny", tmp_path)
    (tmp_path / "dev-clean").rmdir()
    server.files.clear()
    with pytest.raises(CorpusError, match="404"):
        fetch_corpus("tiny", tmp_path / "new")


def test_spoken_digits_keep_train_and_dev_recordings_apart_and_use_each_as_often_as_said(
    serve, tmp_path
):
    """Every recording is a constant of its own, so that its uses can be counted in the strings."""
    names = [
        f"{digit}_{who}_{index}"
        for who in ("anna", "bob")
        for digit in (0, 1, 9)
        for index in (0, 4, 5, 12)
    ]
    values = {name: (number + 1) / 100 for number, name in enumerate(names)}
    members = {f"fsdd-1/recordings/{name}.wav": wav(value=value) for name, value in values.items()}
    serve(members, ("train", "dev"), spoken_digits, known=None)
    fetch_corpus("tiny", tmp_path)
    words, uses = {"0": "ZERO", "1": "ONE", "9": "NINE"}, {name: [] for name in names}
    for split in ("train", "dev"):
        for utterance in read_corpus(tmp_path, split):
            wave, sampling_rate = soundfile.read(utterance.audio)
            assert sampling_rate == 8000
            steps = (
                np.flatnonzero(np.diff(wave) > 0.005) + 1
            )  # a pause stands before each recording
            spoken = [names[round(100 * wave[step]) - 1] for step in steps]
            assert (
                utterance.text == " ".join(words[name[0]] for name in spoken)
                and 3 <= len(spoken) <= 7
            )
            assert {name.split("_")[1] for name in spoken} == {utterance.speaker}
            for name in spoken:
                uses[name].append(split)
    assert uses == {
        name: ["dev"] if name.endswith(("_0", "_4")) else 3 * ["train"] for name in names
    }


def test_ljspeech_is_split_by_chapter_at_16_khz_with_the_text_as_read_aloud(serve, tmp_path):
    lines, members = [], {}
    for number in range(1, 5):
        name = f"LJ{number:03d}-0007"
        lines.append(
            f"{name}|In 14{number}5, printing|In fourteen, Mr. “Gutenberg’s” time; printing-press"
        )
        members[f"LJSpeech-1.1/wavs/{name}.wav"] = wav(seconds=0.5, sampling_rate=22050)
    members["LJSpeech-1.1/metadata.csv"] = "\n".join(lines).encode() + b"\n"
    serve(members, ("train", "dev", "test"), ljspeech, mode="bz2")
    fetch_corpus("tiny", tmp_path)
    utterances = [
        utterance
        for split in ("train", "dev", "test")
        for utterance in read_corpus(tmp_path, split)
    ]
    ids = [
        ("train", "LJ-001-0007"),
        ("train", "LJ-002-0007"),
        ("dev", "LJ-003-0007"),
        ("test", "LJ-004-0007"),
    ]
    assert [(utterance.split, utterance.id) for utterance in utterances] == ids
    assert {utterance.text for utterance in utterances} == {
        "IN FOURTEEN MR GUTENBERG'S TIME PRINTING PRESS"
    }
    info = soundfile.info(utterances[0].audio)
    assert (info.samplerate, info.frames, info.format) == (16000, 8000, "FLAC")


def test_every_download_of_the_course_is_named_with_its_hash_in_the_data_page():
    page = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    for parts in CORPORA.values():
        for archive in parts:
            assert archive.url.startswith("https://")
            assert (
                archive.url.rpartition("/")[2] in page
                and (archive.hash or "none").removeprefix("md5:") in page
            )


# synthesise

SMALL = dict(
    minutes={"train": 0.3, "dev": 0.1, "test": 0.1},
    speakers={"train": 4, "dev": 2, "test": 2},
    seed=3,
)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    return synthesise_corpus(tmp_path_factory.mktemp("spoken") / "synthetic", **SMALL)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_whatever_was_spoken_before_and_in_another_process(
    spoken, tmp_path
):
    synthesise_corpus(tmp_path / "before", minutes={"dev": 0.1}, speakers={"dev": 1}, seed=9)
    assert contents(synthesise_corpus(tmp_path / "again", **SMALL)) == contents(spoken)
    code = f"from lttlib.speech import synthesise_corpus; synthesise_corpus({str(tmp_path / 'other')!r}, **{SMALL!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        cwd=Path(synthesis.__file__).parents[2],
    )
    assert contents(tmp_path / "other") == contents(spoken)
    one = synthesise_corpus(tmp_path / "one", SMALL["minutes"], SMALL["speakers"], seed=4)
    assert contents(one).keys() != contents(spoken).keys() or contents(one) != contents(spoken)


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
SAMPLES = {  # the first recording of each split: how long it is, and every 4000th sample of its first second and a half
    "train": (47614, [-0.002674, 0.026335, 0.008098, 0.006557, -0.002511]),
    "dev": (58638, [-0.096132, 0.016509, -0.086981, 0.048826, 0.011371]),
    "test": (43727, [-0.04862, -0.032265, 0.015048, 0.000197, -0.043701]),
}
VOICES = {
    "en-us+f4": "ddc8b5d321f9ff9b",
    "en+steph": "7a54de5e9a728ae8",
    "en-029+Gene": "dee32acdd6d93c00",
}


def test_version_1_of_the_synthesised_corpus_is_these_sentences_in_these_voices():
    """If this fails by intent, count `speech.VERSION` on: a corpus on somebody's disk is another one then."""
    from lttlib.speech import espeak

    assert synthesis.VERSION == 1
    for split, expected in SENTENCES.items():
        recordings = list(synthesis.synthesise(split, 0.05, 2, seed=0))
        assert [sentence for _, _, sentence in recordings] == expected
        length, samples = SAMPLES[split]
        assert len(recordings[0][1]) == length
        np.testing.assert_allclose(recordings[0][1][4000:24000:4000], samples, atol=2**-15)
    with espeak.espeak_process() as speak:
        for voice, digest in VOICES.items():
            wave = speak("a good teacher listens to the rain", voice, 140, 50)
            assert hashlib.sha256(wave).hexdigest()[:16] == digest, voice


@pytest.mark.skipif(metadata.version("espeakng-loader") != "0.2.4", reason="of another espeak-ng")
def test_a_corpus_from_before_versions_were_numbers_is_used(tmp_path):
    (tmp_path / "synthetic").mkdir()
    speakers = {"train": 4, "dev": 2, "test": 2}
    note = {"minutes": SMALL["minutes"], "speakers": speakers, "seed": 3, "version": 2054655564}
    (tmp_path / "synthetic" / "synthesis.json").write_text(json.dumps(note))
    assert synthesise_corpus(tmp_path / "synthetic", **SMALL) == tmp_path / "synthetic"
    (tmp_path / "synthetic" / "synthesis.json").write_text(json.dumps(note | {"version": 7}))
    with pytest.raises(CorpusError, match="remove it or name another folder"):
        synthesise_corpus(tmp_path / "synthetic", **SMALL)


def test_every_voice_says_the_same_in_every_process():
    from lttlib.speech import espeak

    def say_all():
        with espeak.espeak_process() as speak:
            voices = [f"{accent}+{variant}" for split in synthesis.VARIANTS.values() for variant in split
                      for accent in synthesis.ACCENTS[:2]]  # fmt: skip
            return [speak("who followed the evening song", voice, 140, 50) for voice in voices]

    assert say_all() == say_all()


def test_synthesised_speech_is_16_khz_flac_heard_and_never_clipped(spoken):
    for split, seconds in (("train", 18), ("dev", 6), ("test", 6)):
        total = 0
        for utterance in read_corpus(spoken, split):
            wave, sampling_rate = soundfile.read(utterance.audio)
            info = soundfile.info(utterance.audio)
            assert (info.format, info.subtype, info.channels, sampling_rate) == (
                "FLAC",
                "PCM_16",
                1,
                16000,
            )
            assert 0.01 < np.sqrt(np.mean(wave**2)) < 0.2 and np.abs(wave).max() <= 0.9 + 2**-15
            assert (
                set(utterance.text) <= set(text.ALPHABET) and 3 <= len(utterance.text.split()) <= 9
            )
            assert 6 < len(utterance.text) / (len(wave) / sampling_rate) < 24  # letters a second
            total += len(wave) / sampling_rate
        assert seconds <= total < seconds + 6


def test_speakers_are_numbers_and_no_speaker_id_or_sentence_stands_in_two_splits(spoken):
    utterances = [
        utterance for split in SMALL["minutes"] for utterance in read_corpus(spoken, split)
    ]
    speakers = {
        split: {u.speaker for u in utterances if u.split == split} for split in SMALL["speakers"]
    }
    assert {split: len(found) for split, found in speakers.items()} == SMALL["speakers"]
    assert len({u.speaker for u in utterances}) == 8 and all(
        u.speaker.isdigit() for u in utterances
    )
    assert len({u.id for u in utterances}) == len(utterances)
    texts = {split: {u.text for u in utterances if u.split == split} for split in SMALL["speakers"]}
    assert not texts["train"] & (texts["dev"] | texts["test"]) and not texts["dev"] & texts["test"]


def test_no_timbre_stands_in_two_splits_and_no_voice_is_given_twice(monkeypatch):
    variants = [variant for split in synthesis.VARIANTS.values() for variant in split]
    assert len(variants) == len(set(variants))
    asked = []

    class Silent:
        def __enter__(self):
            return lambda sentence, voice, rate, pitch: (
                asked.append(voice) or np.ones(22050, np.int16).tobytes()
            )

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(synthesis.espeak, "espeak_process", Silent)
    for split, count in (("train", 40), ("dev", 24), ("test", 24)):
        asked.clear()
        assert [speaker for speaker, _, _ in synthesis.synthesise(split, 0, count, 0)] == list(
            range(count)
        )
        assert len(set(asked)) == count and {voice.split("+")[1] for voice in asked} == set(
            synthesis.VARIANTS[split]
        )


def test_sentences_keep_to_their_split_and_use_every_letter_of_the_alphabet():
    generator = np.random.default_rng(0)
    said = {
        split: {synthesis.sample_sentence(split, generator) for _ in range(1500)}
        for split in ("train", "dev", "test")
    }
    assert (
        not said["train"] & said["dev"]
        and not said["train"] & said["test"]
        and not said["dev"] & said["test"]
    )
    words = {word for split in said.values() for sentence in split for word in sentence.split()}
    assert 150 <= len(words) <= 300 and set("".join(words).upper()) == set(text.ALPHABET) - {" "}
    assert len(said["train"]) > 1000


def test_synthesise_returns_what_is_there_but_never_another_recipe(spoken, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in spoken.rglob("*")}
    assert synthesise_corpus(spoken, **SMALL) == spoken
    assert {path: path.stat().st_mtime_ns for path in spoken.rglob("*")} == before
    with pytest.raises(CorpusError, match="remove it or name another folder"):
        synthesise_corpus(spoken, **(SMALL | {"seed": 4}))
    with pytest.raises(CorpusError, match="dev has 1 to 24 voices, not 25"):
        synthesise_corpus(tmp_path / "x", minutes={"dev": 1}, speakers={"dev": 25})
    with pytest.raises(CorpusError, match="no split .*valid.* choose among train, dev, test"):
        synthesise_corpus(tmp_path / "x", minutes={"valid": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("raise ImportError", "pip install espeakng-loader"),
        ("get_library_path = lambda: '/nowhere.so'", "does not fit this system"),
    ],
)
def test_without_espeak_the_error_names_the_cure_and_nothing_is_left(
    tmp_path, monkeypatch, module, message
):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "espeakng_loader.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    with pytest.raises(CorpusError, match=message):
        synthesise_corpus(tmp_path / "synthetic", **SMALL)
    assert left(tmp_path) == ["path"]
