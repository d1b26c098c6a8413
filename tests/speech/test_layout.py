"""The LibriSpeech layout: which utterances a folder holds, and which folders are refused."""

import shutil

import pytest
from damage import assert_refused, content, rows

from lttlib.speech import CorpusError, Utterance, read_corpus, text

SPLITS = "dev-clean dev-clean-2 dev-other train-clean-5 train devel Dev test".split()
TRANSCRIPT = "corpus/train/1/1/1-1.trans.txt"


def make_chapter(root, split, lines=("7-1-0 HI",), audio=("7-1-0.flac",)):
    """Make chapter 1 of speaker 7, with empty recordings."""
    folder = root / split / "7" / "1"
    folder.mkdir(parents=True)
    transcript = "".join(f"{line}\n" for line in lines)
    (folder / "7-1.trans.txt").write_text(transcript, encoding="utf-8")
    for name in audio:
        (folder / name).touch()
    return folder


def refusal(root, splits):
    """The error of reading a corpus."""
    with pytest.raises(CorpusError) as caught:
        read_corpus(root, splits)
    return caught.value


def test_read_corpus_gives_sorted_utterances_with_capital_single_spaced_text(tmp_path):
    lines = ["7-1-1  so  it\tis ", "", "7-1-0 HI"]
    folder = make_chapter(tmp_path, "train", lines, audio=["7-1-0.flac", "7-1-1.wav"])
    assert read_corpus(tmp_path, "train") == [
        Utterance("7-1-0", "7", "train", folder / "7-1-0.flac", "HI"),
        Utterance("7-1-1", "7", "train", folder / "7-1-1.wav", "SO IT IS"),
    ]


def test_read_corpus_takes_sound_files_of_every_suffix_in_small_letters_or_capitals(tmp_path):
    suffixes = [".flac", ".wav", ".ogg", ".opus", ".mp3", ".sph", ".SPH"]
    audio = [f"7-1-{number}{suffix}" for number, suffix in enumerate(suffixes)]
    make_chapter(tmp_path, "train", lines=(), audio=[*audio, "7-1-9.txt", "7-1-8.raw"])
    assert [item.audio.name for item in read_corpus(tmp_path, "train")] == audio


def test_split_is_matched_by_its_own_folder_not_by_the_path_above(tmp_path):
    root = tmp_path / "dev" / "train-data"
    for split in SPLITS:
        make_chapter(root, split, lines=[f"{split} HI"], audio=[f"{split}.flac"])
    (root / "dev.txt").touch()

    def ids(splits):
        return [utterance.id for utterance in read_corpus(root, splits)]

    assert ids("dev-clean") == ["dev-clean"]
    assert ids("dev") == ["dev-clean", "dev-clean-2", "dev-other"]
    assert ids("train") == ["train", "train-clean-5"]
    assert ids(["test", "dev-other"]) == ["test", "dev-other"]
    assert {utterance.split for utterance in read_corpus(root, "dev")} == {"dev"}
    assert "dev-clean-2, dev-other, devel, test, train" in refusal(root, "train-clean").cure


def test_text_without_audio_and_audio_without_text_are_kept_for_the_records_to_list(tmp_path):
    lines = ["7-1-0 HI", "7-1-2"]
    folder = make_chapter(tmp_path, "dev", lines, audio=["7-1-1.flac", "7-1-2.flac"])
    silent, untranscribed, empty = read_corpus(tmp_path, "dev")
    assert silent.text == "HI"
    assert silent.audio == folder / "7-1-0.flac" and not silent.audio.exists()
    assert untranscribed.text is None and untranscribed.audio.exists()
    assert empty.text == "" and empty.audio.exists()


def test_split_of_audio_alone_is_read_as_utterances_without_text(tmp_path):
    audio = ["7-1-0.flac", "7-1-1.opus"]
    folder = make_chapter(tmp_path, "train", audio=audio)
    (folder / "7-1.trans.txt").unlink()
    assert read_corpus(tmp_path, "train") == [
        Utterance("7-1-0", "7", "train", folder / "7-1-0.flac", None),
        Utterance("7-1-1", "7", "train", folder / "7-1-1.opus", None),
    ]


def test_read_corpus_names_what_is_missing_and_the_cure(tmp_path):
    error = refusal(tmp_path / "nowhere", "dev")
    assert error.path == tmp_path / "nowhere"
    assert "no such folder" in str(error) and "ltt corpus" in error.cure

    root = tmp_path / "LibriSpeech"
    make_chapter(root, "dev-clean")
    error = refusal(tmp_path, "dev")
    assert error.path == tmp_path and error.cure == f"did you mean the folder {root}?"

    (root / "test" / "flat").mkdir(parents=True)
    error = refusal(root, "test")
    assert error.path == root / "test" and "holds no <speaker>/<chapter>" in str(error)


def test_id_that_stands_twice_is_an_error_that_names_file_and_line(tmp_path):
    folder = make_chapter(tmp_path / "texts", "dev", lines=["7-1-0 HI", "7-1-0 HO"])
    error = refusal(tmp_path / "texts", "dev")
    assert error.path == folder / "7-1.trans.txt" and "line 2: 7-1-0 has" in str(error)

    folder = make_chapter(tmp_path / "audio", "dev", audio=["7-1-0.flac", "7-1-0.wav"])
    error = refusal(tmp_path / "audio", "dev")
    assert error.path == folder / "7-1-0.wav" and "has the id of" in str(error)

    make_chapter(tmp_path / "merged", "dev-clean")
    make_chapter(tmp_path / "merged", "dev-other")
    assert "dev-other" in str(refusal(tmp_path / "merged", "dev").path)


def test_transcript_that_is_not_utf8_is_an_error_that_names_file_and_line(tmp_path):
    path = make_chapter(tmp_path, "dev") / "7-1.trans.txt"
    path.write_bytes(b"\xef\xbb\xbf7-1-0 HI\r\n7-1-1 CAF\xe9\r\n")
    error = refusal(tmp_path, "dev")
    assert error.path == path and "line 2: not UTF-8" in str(error) and "UTF-8" in error.cure
    path.write_bytes(b"\xef\xbb\xbf7-1-0 HI\r\n")
    assert read_corpus(tmp_path, "dev")[0].text == "HI"


@pytest.mark.parametrize("name, train, dev", [("SpokenDigits", 1083, 86), ("LJSpeech", 304, 40)])
def test_read_corpus_finds_every_utterance_of_real_speech(corpora, name, train, dev):
    for split, count in (("train", train), ("dev", dev)):
        utterances = read_corpus(corpora / name, split)
        assert len(utterances) == count
        for utterance in utterances:
            assert utterance.audio.is_file()
            assert set(utterance.text) <= set(text.ALPHABET)


# Bad input.


def read_train(workspace, path):
    read_corpus(workspace / "corpus", "train")


def rename_split(workspace):
    (workspace / "corpus" / "train").rename(workspace / "corpus" / "trian")
    yield workspace / "corpus"


def empty_split(workspace):
    shutil.rmtree(workspace / "corpus" / "train" / "1")
    yield workspace / "corpus" / "train"


BAD_CORPORA = [
    ("transcript not UTF-8", content(TRANSCRIPT, b"1-1-0 CAF\xc9\n"), read_train, CorpusError,
     "save the file as UTF-8"),
    ("transcript with an id twice", content(TRANSCRIPT, b"1-1-0 HI\n1-1-0 HO\n"), read_train,
     CorpusError, "remove one of the two"),
    ("sound with an id twice", content("corpus/train/1/2/1-1-0.wav", b""), read_train, CorpusError,
     "remove one of the two"),
    ("split missing", rename_split, read_train, CorpusError, "its folders are trian"),
    ("split empty", empty_split, read_train, CorpusError, "put it in the LibriSpeech layout"),
]  # fmt: skip


@rows(BAD_CORPORA)
def test_damaged_corpus_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_corpus_that_is_whole_is_read(workspace):
    read_train(workspace, workspace / "corpus")
