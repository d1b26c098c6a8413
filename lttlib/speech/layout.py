"""The LibriSpeech layout, in which every corpus lies on disk.

A recording is `<split>/<speaker>/<chapter>/<id>.flac`, or of another of `AUDIO_SUFFIXES`. The
transcript of a chapter lies in the same folder, `<speaker>-<chapter>.trans.txt`: on each line an id
and the words.

A recording without such a line has no transcript. Records reject it, unless they are asked for
untranscribed speech: a split may consist of nothing else, and needs no `.trans.txt` then.
"""

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import soundfile

from lttlib import Error
from lttlib.files import disk_full_errors

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".sph")


class CorpusError(Error):
    """A corpus that cannot be read, downloaded or synthesised."""


@dataclass(frozen=True)
class Utterance:
    """One recording; `text` is None if it has no transcript.

    A line of a transcript without a recording is an utterance whose `audio` does not exist.
    """

    id: str
    speaker: str
    split: str
    audio: Path
    text: str | None


def read_corpus(root, splits):
    """List the utterances of one or more splits.

    A split is matched by the names of the folders directly in `root`: "dev-clean" is that folder,
    "dev" merges every folder that is "dev" or begins with "dev-".

    Parameters
    ----------
    root : path-like
    splits : str or list of str

    Returns
    -------
    list of Utterance
        In the order of `splits`, sorted by id within each; texts in capitals, with single spaces.

    Raises
    ------
    CorpusError
        If the folder or a split is missing or holds no speech, two utterances have the same id,
        or a transcript is not UTF-8.
    """
    root = Path(root)
    if not root.is_dir():
        cure = "name one that holds splits, or get a corpus with `ltt corpus`"
        raise CorpusError("no such folder", path=root, cure=cure)
    utterances = []
    for split in [splits] if isinstance(splits, str) else splits:
        folders = _split_folders(root, split)
        if not folders:
            raise _missing_split(root, split)
        utterances += _read_split(folders, split)
    return utterances


def _subfolders(root):
    """List the folders in a folder, sorted, without hidden ones."""
    folders = (path for path in root.iterdir() if path.is_dir())
    return sorted(folder for folder in folders if not folder.name.startswith("."))


def _split_folders(root, split):
    """List the folders that make up a split: maybe several if its name has no hyphen."""
    folders = _subfolders(root)
    if "-" in split:
        return [folder for folder in folders if folder.name == split]
    return [folder for folder in folders if folder.name.partition("-")[0] == split]


def _missing_split(root, split):
    """Return the error for a split that `root` does not hold."""
    folders = _subfolders(root)
    parents = [folder for folder in folders if _split_folders(folder, split)]
    if parents:
        cure = f"did you mean the folder {parents[0]}?"
    else:
        names = [folder.name for folder in folders]
        cure = f"its folders are {', '.join(names) or 'nothing'}"
    return CorpusError(f"no split {split!r}", path=root, cure=cure)


def _read_split(folders, split):
    """List the utterances in the folders of one split, sorted by id."""
    transcripts = _read_transcripts(folders)
    recordings = _find_recordings(folders)
    if not transcripts and not recordings:
        cure = "put it in the LibriSpeech layout"
        raise CorpusError("holds no <speaker>/<chapter>/<id>.flac", path=folders[0], cure=cure)
    utterances = []
    for name in sorted(transcripts | recordings):
        transcript, text = transcripts.get(name, (None, None))
        audio = recordings.get(name) or transcript.with_name(f"{name}.flac")
        speaker = audio.parts[-3]
        utterances.append(Utterance(name, speaker, split, audio=audio, text=text))
    return utterances


def _read_transcripts(folders):
    """Map ids to pairs of transcript path and text."""
    transcripts = {}
    for path in _glob_sorted(folders, "*/*/*.trans.txt"):
        for number, name, text in _read_lines(path):
            if name in transcripts:
                problem = f"line {number}: {name} has a text already"
                raise CorpusError(problem, path=path, cure="remove one of the two")
            transcripts[name] = path, text
    return transcripts


def _read_lines(path):
    """Yield number, id and text of the lines of a transcript that are not blank."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            words = line.decode("utf-8-sig").split()
        except UnicodeDecodeError as error:
            problem = f"line {number}: not UTF-8 ({error.reason})"
            raise CorpusError(problem, path=path, cure="save the file as UTF-8") from error
        if words:
            yield number, words[0], " ".join(words[1:]).upper()


def _find_recordings(folders):
    """Map ids to paths of recordings."""
    recordings = {}
    for path in _glob_sorted(folders, "*/*/*"):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        if path.stem in recordings:
            problem = f"has the id of {recordings[path.stem]}"
            raise CorpusError(problem, path=path, cure="remove one of the two")
        recordings[path.stem] = path
    return recordings


def _glob_sorted(folders, pattern):
    """List the paths that match in each of the folders, in the order of the folders."""
    matches = (sorted(folder.glob(pattern)) for folder in folders)
    return itertools.chain.from_iterable(matches)


def write_chapter(folder, speaker, chapter, recordings, sampling_rate):
    """Write one chapter of a split as FLAC with its transcript.

    Parameters
    ----------
    folder : Path
        Of the split.
    speaker, chapter : str
    recordings : iterable of (str or int, numpy.ndarray [samples], str)
        Name, wave and text of each utterance, whose id is `<speaker>-<chapter>-<name>`. A number is
        written with four digits. The wave is float in [-1, 1], or int16, which is kept as it is.
    sampling_rate : int
        Hz.
    """
    folder = folder / speaker / chapter
    folder.mkdir(parents=True)
    lines = []
    for name, wave, text in recordings:
        if isinstance(name, int):
            name = f"{name:04d}"
        name = f"{speaker}-{chapter}-{name}"
        sound = io.BytesIO()
        soundfile.write(sound, wave, sampling_rate, format="FLAC", subtype="PCM_16")
        # Written from memory: of a full disk, libsndfile says "System error" only.
        path = folder / f"{name}.flac"
        with disk_full_errors(path):
            path.write_bytes(sound.getvalue())
        lines.append(f"{name} {text}\n")
    transcript = folder / f"{speaker}-{chapter}.trans.txt"
    transcript.write_text("".join(lines), encoding="utf-8", newline="\n")
