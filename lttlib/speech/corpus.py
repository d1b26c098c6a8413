"""Where speech comes from: a folder in the LibriSpeech layout, a download, or a synthesised corpus.

The layout is `<split>/<speaker>/<chapter>/<id>.flac` with `<speaker>-<chapter>.trans.txt` beside it: a line an
utterance.
"""

import itertools
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lttlib import sealing, sources, synthesis
from lttlib.files import scratch
from lttlib.sources import CORPORA

AUDIO = (".flac", ".wav", ".ogg", ".mp3")


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


def read(root, splits):
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
        raise CorpusError(f"{root} is no folder: name one that holds splits, or get a corpus with `ltt corpus`")
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
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _folders(root, split):
    merges = "-" not in split
    return [path for path in _subfolders(root) if path.name == split or merges and path.name.startswith(f"{split}-")]


def _read_split(folders, split):
    texts, audio = {}, {}
    for transcript in itertools.chain.from_iterable(sorted(folder.glob("*/*/*.trans.txt")) for folder in folders):
        for number, line in enumerate(transcript.read_bytes().splitlines(), start=1):
            try:
                name, *words = line.decode("utf-8-sig").split() or [None]
            except UnicodeDecodeError as error:
                raise CorpusError(f"{transcript}, line {number}: save the file as UTF-8 ({error.reason})") from error
            if name in texts:
                raise CorpusError(f"{transcript}, line {number}: {name} has a text already: remove one of the two")
            if name:
                texts[name] = transcript, " ".join(words).upper()
    for file in itertools.chain.from_iterable(sorted(folder.glob("*/*/*")) for folder in folders):
        if file.suffix.lower() in AUDIO and audio.setdefault(file.stem, file) != file:
            raise CorpusError(f"{file} has the id of {audio[file.stem]}: remove one of the two")
    if not texts and not audio:
        raise CorpusError(f"{folders[0]} holds no <speaker>/<chapter>/<id>.flac: put it in the LibriSpeech layout")
    utterances = []
    for name in sorted(texts | audio):
        transcript, words = texts.get(name, (None, None))
        file = audio.get(name) or transcript.with_name(f"{name}.flac")
        utterances.append(Utterance(name, file.parts[-3], split, file, words))
    return utterances


def obtain(name, root):
    """Make ("synthetic": `synthesise`) or download (`fetch`) a corpus unless it is there; give its folder."""
    return synthesise(root) if name == "synthetic" else fetch(name, root)


def fetch(name, root):
    """Download a corpus of data/README.md, unless it is there; the archives are removed once unpacked.

    Parameters
    ----------
    name : str
        A name of `CORPORA`.
    root : path
        Folder of the corpus. A split appears in it whole or not at all.

    Returns
    -------
    Path
        `root`.

    Raises
    ------
    CorpusError
        If no corpus has this name, `root` has such a split from elsewhere, the download stops (the next call continues
        it), or its hash or contents are not as they should be.
    """
    from lttlib import archives  # pooch and requests come with the course, not with the base that `read` serves

    if name not in CORPORA:
        raise CorpusError(f"no corpus {name!r}: choose among synthetic, {', '.join(CORPORA)}")
    root = Path(root)
    downloads = root / ".downloads"
    for archive in CORPORA[name]:
        file = downloads / archive.url.rpartition("/")[2]
        done = file.with_name(f"{file.name}.done")
        there = [split for split in archive.splits if (root / split).exists()]
        if done.exists() and len(there) == len(archive.splits):
            continue
        if there:
            raise CorpusError(f"{root / there[0]} is not (all) of {name}: remove it or name another folder")
        downloads.mkdir(parents=True, exist_ok=True)
        try:
            archives.download(archive.url, file, archive.hash)
            with scratch(root / "unpacking") as temporary:
                archives.unpack(file, temporary)
                try:
                    made = archive.arrange(temporary)
                except (FileNotFoundError, LookupError, RuntimeError, ValueError) as error:
                    cure = f"has it changed at {archive.url}? Remove it to download it again"
                    raise CorpusError(f"{file} holds something else than {name} ({error!r}): {cure}") from error
                if missing := [split for split in archive.splits if not (made / split).is_dir()]:
                    raise CorpusError(f"{file} holds no {', '.join(missing)}: has it changed at {archive.url}?")
                for split in archive.splits:
                    (made / split).rename(root / split)
        except archives.ArchiveError as error:
            raise CorpusError(str(error)) from error
        done.touch()
        file.unlink()
    return root


def synthesise(root, minutes=None, speakers=None, seed=0):
    """Make a corpus by speech synthesis: generated sentences in many voices and accents, as FLAC at 16 kHz.

    No voice, timbre or sentence of dev or test is in train. The same arguments give the same bytes.

    Parameters
    ----------
    root : path
        Folder of the corpus. Returns at once if the same corpus is there; it appears whole or not at all.
    minutes : dict of str to float, optional
        Speech of each split; {"train": 30, "dev": 3, "test": 3}.
    speakers : dict of str to int, optional
        Voices of each split; {"train": 120, "dev": 8, "test": 8}.
    seed : int

    Returns
    -------
    Path
        `root`.

    Raises
    ------
    CorpusError
        If the folder holds something else, a split or number of speakers does not exist, or espeak-ng fails.
    """
    root = Path(root)
    minutes = {"train": 30, "dev": 3, "test": 3} if minutes is None else minutes
    speakers = {"train": 120, "dev": 8, "test": 8} | (speakers or {})
    recipe = {"minutes": minutes, "speakers": {split: speakers.get(split) for split in minutes}, "seed": seed}
    recipe |= {"version": synthesis.VERSION, "espeakng": metadata.version("espeakng-loader")}
    note = root / "synthesis.json"
    try:
        if sealing.parse(note.read_bytes()) in (recipe, _unnumbered(recipe)):
            return root
    except (OSError, ValueError):  # then it is of no recipe
        pass
    if root.exists():
        raise CorpusError(f"{root} is there, but not of {recipe}: remove it or name another folder")
    if unknown := set(minutes) - set(synthesis.SPLITS):
        raise CorpusError(f"no split {sorted(unknown)} is synthesised: choose among {', '.join(synthesis.SPLITS)}")
    with scratch(root) as temporary:
        made = temporary / "corpus"
        for split in minutes:
            first = 100 * (1 + synthesis.SPLITS.index(split))  # speaker ids are numbers, as in LibriSpeech
            try:
                spoken = synthesis.recordings(split, minutes[split], speakers[split], seed)
                for speaker, items in itertools.groupby(spoken, key=lambda item: item[0]):
                    chapter = ((number, wave, words.upper()) for number, (_, wave, words) in enumerate(items))
                    sources.write_chapter(made / split, f"{first + speaker}", "1", chapter, synthesis.SAMPLING_RATE)
            except (RuntimeError, ValueError) as error:
                raise CorpusError(str(error)) from error
        (made / note.name).write_text(json.dumps(recipe))
        made.rename(root)
    return root


def _unnumbered(recipe):
    """Version 1 as it was written before versions had numbers: by a checksum of sources and of espeakng-loader 0.2.4."""
    if (recipe["version"], recipe["espeakng"]) != (1, "0.2.4"):
        return recipe
    return {name: value for name, value in recipe.items() if name != "espeakng"} | {"version": 2054655564}
