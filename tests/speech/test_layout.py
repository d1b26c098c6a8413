"""The LibriSpeech layout: which utterances a folder holds, and which folders are refused."""

import os
import re
import shutil
import unicodedata

import pytest
from damage import assert_refused, rows

from lttlib.speech import CorpusError, Utterance, read_corpus, text

SPLITS = "dev-clean dev-clean-2 dev-other train-clean-5 train devel Dev test".split()


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
    suffixes = [".flac", ".wav", ".ogg", ".opus", ".mp3", ".sph", ".SPH", ".AIFF", ".m4a", ".raw"]
    audio = [f"7-1-{number}{suffix}" for number, suffix in enumerate(suffixes)]
    make_chapter(tmp_path, "train", lines=(), audio=[*audio, "7-1-9.txt", "7-1-8.lab"])
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


# A corpus as it comes: of each case the files, what can be used, and of the rest the reason.


def outcome(root, split="dev"):
    """What is usable, id to file and text; and of what is not, id to reason."""
    usable, problems = {}, {}
    for utterance in read_corpus(root, split):
        problem = utterance.problem or utterance.text_problem
        if problem:
            problems[utterance.id] = problem
        else:
            path = utterance.audio.relative_to(root / split)
            usable[utterance.id] = f"{path}", utterance.text
    return usable, problems


def composed(name):
    return unicodedata.normalize("NFC", name)


def decomposed(name):
    return unicodedata.normalize("NFD", name)


LINES = "7-1-0 HI\n7-1-1 HO\n"
HI = {"7-1-0": ("7/1/7-1-0.flac", "HI"), "7-1-1": ("7/1/7-1-1.flac", "HO")}
CHAPTER = {"7/1/7-1.trans.txt": LINES, "7/1/7-1-0.flac": "", "7/1/7-1-1.flac": ""}
NUMBERED = {"7/1/7-1.trans.txt": "0 HI\n", "7/1/0.flac": "", "7/2/7-2.trans.txt": "0 HO\n"}
CASES = [
    ("files that other systems leave", CHAPTER | {
        "7/1/._7-1-0.flac": "Mac OS X", "7/1/._7-1.trans.txt": b"\xff\xfe\0", ".DS_Store": "",
        "7/1/.ipynb_checkpoints/7-1-0.flac": "", "7/.Trash/1/7-1-0.flac": "", "README.txt": "",
        "7/.ipynb_checkpoints/7-1-9.flac": "", "7/Thumbs.db": "", "7/1/Thumbs.db": "",
        "7/1/7-1-0.flac~": "", "7/1/7-1-0.flac.bak": "", "7/1/7-1.trans.txt~": b"\xff",
        "7/1/7-1.trans.txt.bak": b"\xff", "7/1/#7-1-0.flac#": "", "7/1/desktop.ini": "",
    }, HI, {}),
    ("copies of a transcript", CHAPTER | {
        "7/1/7-1 (copy).trans.txt": LINES, "7/1/7-1 old.trans.txt": "7-1-0 HA\n",
    }, HI, {}),
    ("a line twice", CHAPTER | {"7/1/7-1.trans.txt": LINES + LINES}, HI, {}),
    ("two texts", CHAPTER | {"7/1/7-1.trans.txt": LINES + "7-1-1 HA\n"},
     {"7-1-0": HI["7-1-0"]},
     {"7-1-1": "7-1.trans.txt: line 3: .*another text in line 2; remove one"}),
    ("two files of a name", CHAPTER | {"7/1/7-1-0.sph": "", "7/1/7-1-0.WAV": ""},
     HI, {"7-1-0.sph": "the id of 7-1-0.flac.*; remove", "7-1-0.WAV": "the id of 7-1-0.flac"}),
    ("films, and sounds that were converted", CHAPTER | {
        "7/1/7-1-0.mp4": "", "7/1/7-1-1.m4a": "", "7/1/7-1-2.m4a": "",
    }, HI | {"7-1-2": ("7/1/7-1-2.m4a", None)}, {}),
    ("ids of a folder", NUMBERED | {"7/2/0.flac": "", "7/2/1.flac": ""},
     {"7/1/0": ("7/1/0.flac", "HI"), "7/2/0": ("7/2/0.flac", "HO"), "1": ("7/2/1.flac", None)}, {}),
    ("ids of a folder, a file missing",
     NUMBERED | {"7/2/1.flac": "", "7/3/1.flac": "", "8/1/0.flac": ""},
     {"7/1/0": ("7/1/0.flac", "HI"), "7/2/0": ("7/2/0.flac", "HO"), "7/2/1": ("7/2/1.flac", None),
      "7/3/1": ("7/3/1.flac", None), "8/1/0": ("8/1/0.flac", None)}, {}),
    ("a transcript in another folder", {
        "7/1/7-1.trans.txt": LINES, "7/1/7-1-1.flac": "", "7/2/7-1-0.flac": "",
    }, HI | {"7-1-0": ("7/2/7-1-0.flac", "HI")}, {}),
    ("ids with a suffix, capitals, a path", CHAPTER | {
        "7/1/7-1.trans.txt": "7-1-0.WAV HI\n./audio/7-1-1.flac HO\nAbc HA\nc:\\my\\x.wav HE\n",
        "7/1/aBC.flac": "", "7/1/x.flac": "", "7/1/7.1.flac": "",
    }, HI | {"aBC": ("7/1/aBC.flac", "HA"), "x": ("7/1/x.flac", "HE"),
             "7.1": ("7/1/7.1.flac", None)}, {}),
    ("ids with the path of another folder", {
        "7/1/all.trans.txt": "7/1/0.wav HI\ndev/7/2/0 HO\n../../8/1/0 HA\n1/1 HE\n",
        "7/1/0.wav": "", "7/2/0.wav": "", "8/1/0.wav": "", "7/1/1.wav": "", "7/2/1.wav": "",
    }, {"7/1/0": ("7/1/0.wav", "HI"), "7/2/0": ("7/2/0.wav", "HO"), "8/1/0": ("8/1/0.wav", "HA"),
        "7/1/1": ("7/1/1.wav", "HE"), "7/2/1": ("7/2/1.wav", None)}, {}),
    ("ids that are exactly a file's come first", {
        "7/1/7-1.trans.txt": "a HI\nA HO\na.flac HA\n", "7/1/a.flac": "",
    }, {"a": ("7/1/a.flac", "HI"), "A": ("7/1/A.flac", "HO"), "a.flac": ("7/1/a.flac", "HA")}, {}),
    ("another normal form", {
        "7/1/7-1.trans.txt": composed("né HI\n") + decomposed("sé HO\n"),
        f"7/1/{decomposed('né')}.flac": "", f"7/1/{composed('sé')}.flac": "",
    }, {decomposed("né"): (f"7/1/{decomposed('né')}.flac", "HI"),
        composed("sé"): (f"7/1/{composed('sé')}.flac", "HO")}, {}),
    ("words that are no file name", CHAPTER | {
        "7/1/7-1.trans.txt": LINES + "a/b HI\n/etc/passwd HI\nN\0L HI\n../../7-1-9 X\n.. HI\n",
    }, HI | {"..": ("7/1/...flac", "HI")},
     {name: "7-1.trans.txt: line .: no recording is called '" for name in
      ("a/b", "/etc/passwd", "N\\x00L", "../../7-1-9")}),
    ("names that are not UTF-8", CHAPTER | {
        b"7/1/caf\xe9.flac": "", b"7/\xe9/0.flac": "",
        "7/1/7-1.trans.txt": LINES.encode() + b"caf\xe9 HI\n",
    }, HI | {"caf\\udce9": ("7/1/caf\udce9.flac", "HI"), "0": ("7/\udce9/0.flac", None)}, {}),
    ("lines that are not UTF-8", CHAPTER | {
        "7/1/7-1.trans.txt": b"\xef\xbb\xbf7-1-0 HI\r\n7-1-1 CAF\xe9\r\n\xef\xbb\xbf\r\n",
    }, {"7-1-0": HI["7-1-0"]},
     {"7-1-1": "7-1.trans.txt: line 2: not UTF-8.*; save the file as UTF-8"}),
    ("UTF-16", CHAPTER | {"7/1/7-1.trans.txt": LINES.encode("utf-16")}, HI, {}),
    ("half of UTF-16", {
        "7/1/7-1.trans.txt": LINES.encode("utf-16")[:-1], "7/1/7-1-0.flac": "",
    }, {"7-1-0": ("7/1/7-1-0.flac", None)},
     {"7-1.trans.txt": "7-1.trans.txt: not readable.*; save the file as UTF-8"}),
    ("names without a suffix, and unknown ones", {
        "7/1/7-1.TRANS.TXT": "7-1-0 HI\n7-1-1.xyz HO\n", "7/1/7-1-0": "", "7/1/7-1-1.xyz": "",
        "7/1/7-1-2.xyz": "",
    }, {"7-1-0": ("7/1/7-1-0", "HI"), "7-1-1.xyz": ("7/1/7-1-1.xyz", "HO")}, {}),
]  # fmt: skip


def write_files(root, files):
    for name, data in files.items():
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


@pytest.mark.parametrize("files, usable, problems", [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_corpus_as_it_comes_is_used_as_far_as_it_can_be(tmp_path, files, usable, problems):
    write_files(tmp_path / "dev", files)
    read, reasons = outcome(tmp_path)
    assert read == usable
    assert reasons.keys() == problems.keys()
    for name, pattern in problems.items():
        assert re.search(pattern, reasons[name])
        reasons[name].encode()  # it can be printed


def test_ids_of_merged_splits_have_the_folder_of_the_split_where_it_takes_that(tmp_path):
    for split, words in (("dev-clean", "HI"), ("dev-other", "HO")):
        make_chapter(tmp_path, split, lines=[f"7-1-0 {words}"])
    utterances = read_corpus(tmp_path, "dev")
    assert [utterance.id for utterance in utterances] == [
        "dev-clean/7/1/7-1-0",
        "dev-other/7/1/7-1-0",
    ]
    assert [utterance.text for utterance in utterances] == ["HI", "HO"]


def test_links_are_followed_once_and_loops_end(tmp_path):
    write_files(tmp_path / "dev", CHAPTER)
    write_files(tmp_path / "elsewhere", {"1/8-1-0.flac": ""})
    folder = tmp_path / "dev"
    (folder / "8").symlink_to(tmp_path / "elsewhere")
    (folder / "0").symlink_to(folder / "7")
    (folder / "7" / "0").symlink_to(folder / "7" / "1")
    (folder / "7" / "loop").symlink_to(folder)
    (folder / "7" / "1" / "again").symlink_to(folder / "7")
    (folder / "7" / "1" / "gone.trans.txt").symlink_to(folder / "nowhere")
    (folder / "7" / "1" / "self.flac").symlink_to(folder / "7" / "1" / "self.flac")
    os.mkfifo(folder / "7" / "1" / "pipe.trans.txt")
    usable, problems = outcome(tmp_path)
    others = {"8-1-0": ("8/1/8-1-0.flac", None), "self": ("7/1/self.flac", None)}
    assert usable == HI | others
    assert problems.keys() == {"gone.trans.txt", "pipe.trans.txt"}
    assert all("no file; remove it" in problem for problem in problems.values())


def test_folders_and_transcripts_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    """As root may read everything, the system's refusal is acted here."""
    write_files(tmp_path / "dev", CHAPTER)
    write_files(tmp_path / "dev", {"7/2/7-2-0.flac": "", "8/1/8-1.trans.txt": "", "9/1/a.flac": ""})
    forbidden = {"7/2", "8/1/8-1.trans.txt", "9"}
    paths = {str(tmp_path / "dev" / name) for name in forbidden}
    stat, read = os.stat, type(tmp_path).read_bytes

    def refuse(path):
        if os.path.normpath(path) in paths:
            raise PermissionError(13, "Permission denied", str(path))

    def stat_or_refuse(path, **options):
        if str(path).endswith(f"{os.sep}."):
            refuse(path)
        return stat(path, **options)

    def read_or_refuse(path):
        refuse(path)
        return read(path)

    monkeypatch.setattr(os, "stat", stat_or_refuse)
    monkeypatch.setattr(type(tmp_path), "read_bytes", read_or_refuse)
    usable, problems = outcome(tmp_path)
    assert usable == HI and problems.keys() == {"2", "8-1.trans.txt", "9"}
    assert all("Permission denied" in problem for problem in problems.values())


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
    ("split missing", rename_split, read_train, CorpusError, "its folders are trian"),
    ("split empty", empty_split, read_train, CorpusError, "put it in the LibriSpeech layout"),
]  # fmt: skip


@rows(BAD_CORPORA)
def test_damaged_corpus_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_corpus_that_is_whole_is_read(workspace):
    read_train(workspace, workspace / "corpus")
