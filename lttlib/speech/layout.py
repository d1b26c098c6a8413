"""The LibriSpeech layout: `<split>/<speaker>/<chapter>/<id>.flac` with `<speaker>-<chapter>.trans.txt` beside it."""

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import soundfile

from lttlib.files import disk_full_errors

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")


class CorpusError(ValueError):
    """A corpus that cannot be read, had or made; the message names the file and the cure."""


@dataclass(frozen=True)
class Utterance:
    """One recording. `text` is None without a transcript; without a recording, `audio` does not exist."""

    id: str
    speaker: str
    split: str
    audio: Path
    text: str | None


def read_corpus(root, splits):
    """The utterances of one or more splits.

    A split is matched by the names of the folders directly in `root`: "dev-clean" is that folder, "dev" merges every
    folder that is "dev" or begins with "dev-".

    Parameters
    ----------
    root : path
    splits : str or list of str

    Returns
    -------
    list of Utterance
        Split by split as asked, sorted by id within each; texts in capitals, with single spaces.

    Raises
    ------
    CorpusError
        If the folder or a split is missing or holds no speech, an id stands twice, or a transcript is not UTF-8.
    """
    root = Path(root)
    if not root.is_dir():
        raise CorpusError(
            f"{root} is no folder: name one that holds splits, or get a corpus with `ltt corpus`"
        )
    utterances = []
    for split in [splits] if isinstance(splits, str) else splits:
        folders = _folders(root, split)
        if not folders:
            below = [folder for folder in _subfolders(root) if _folders(folder, split)]
            found = ", ".join(folder.name for folder in _subfolders(root)) or "nothing"
            cure = f"did you mean the folder {below[0]}?" if below else f"its folders are {found}"
            raise CorpusError(f"no split {split!r} in {root}: {cure}")
        utterances += _read_split(folders, split)
    return utterances


def _subfolders(root):
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _folders(root, split):
    merges = "-" not in split
    return [
        path
        for path in _subfolders(root)
        if path.name == split or merges and path.name.startswith(f"{split}-")
    ]


def _read_split(folders, split):
    texts, audio = {}, {}
    for transcript in itertools.chain.from_iterable(
        sorted(folder.glob("*/*/*.trans.txt")) for folder in folders
    ):
        for number, line in enumerate(transcript.read_bytes().splitlines(), start=1):
            try:
                name, *words = line.decode("utf-8-sig").split() or [None]
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{transcript}, line {number}: save the file as UTF-8 ({error.reason})"
                ) from error
            if name in texts:
                raise CorpusError(
                    f"{transcript}, line {number}: {name} has a text already: remove one of the two"
                )
            if name:
                texts[name] = transcript, " ".join(words).upper()
    for file in itertools.chain.from_iterable(sorted(folder.glob("*/*/*")) for folder in folders):
        if file.suffix.lower() in AUDIO_SUFFIXES and audio.setdefault(file.stem, file) != file:
            raise CorpusError(f"{file} has the id of {audio[file.stem]}: remove one of the two")
    if not texts and not audio:
        raise CorpusError(
            f"{folders[0]} holds no <speaker>/<chapter>/<id>.flac: put it in the LibriSpeech layout"
        )
    utterances = []
    for name in sorted(texts | audio):
        transcript, words = texts.get(name, (None, None))
        file = audio.get(name) or transcript.with_name(f"{name}.flac")
        utterances.append(Utterance(name, file.parts[-3], split, file, words))
    return utterances


def write_chapter(folder, speaker, chapter, recordings, sampling_rate):
    """Write one chapter of a split as FLAC with its transcript.

    Parameters
    ----------
    folder : Path
        Of the split.
    speaker, chapter : str
    recordings : iterable of (int, numpy.ndarray [samples], str)
        Number, wave in [-1, 1] and text of each utterance, whose id becomes `<speaker>-<chapter>-<number>`.
    sampling_rate : int
        Hz.
    """
    folder = folder / speaker / chapter
    folder.mkdir(parents=True)
    lines = []
    for number, wave, words in recordings:
        name = f"{speaker}-{chapter}-{number:04d}"
        soundfile.write(sound := io.BytesIO(), wave, sampling_rate, format="FLAC", subtype="PCM_16")
        with disk_full_errors(
            path := folder / f"{name}.flac"
        ):  # libsndfile would say "System error"
            path.write_bytes(sound.getvalue())
        lines.append(f"{name} {words}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text(
        "".join(lines), encoding="utf-8", newline="\n"
    )
