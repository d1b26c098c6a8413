"""Where speech comes from: a folder in the LibriSpeech layout, a download, or a synthesised corpus.

The layout is `<split>/<speaker>/<chapter>/<id>.flac` with `<speaker>-<chapter>.trans.txt` beside it: a line an
utterance.
"""

import itertools
import json
from importlib import metadata
from pathlib import Path

from lttlib.files import parse_json, temporary_folder
from lttlib.speech import synthesis
from lttlib.speech.datasets import CORPORA
from lttlib.speech.layout import CorpusError, write_chapter


def get_corpus(name, root):
    """Make ("synthetic": `synthesise`) or download (`fetch`) a corpus unless it is there; give its folder."""
    return synthesise_corpus(root) if name == "synthetic" else fetch_corpus(name, root)


def fetch_corpus(name, root):
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
    from lttlib.speech import download  # pooch and requests come with the course, not with the base

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
            raise CorpusError(
                f"{root / there[0]} is not (all) of {name}: remove it or name another folder"
            )
        downloads.mkdir(parents=True, exist_ok=True)
        try:
            download.download_file(archive.url, file, archive.hash)
            with temporary_folder(root / "unpacking") as temporary:
                download.unpack(file, temporary)
                try:
                    made = archive.arrange(temporary)
                except (FileNotFoundError, LookupError, RuntimeError, ValueError) as error:
                    cure = f"has it changed at {archive.url}? Remove it to download it again"
                    raise CorpusError(
                        f"{file} holds something else than {name} ({error!r}): {cure}"
                    ) from error
                if missing := [split for split in archive.splits if not (made / split).is_dir()]:
                    raise CorpusError(
                        f"{file} holds no {', '.join(missing)}: has it changed at {archive.url}?"
                    )
                for split in archive.splits:
                    (made / split).rename(root / split)
        except download.ArchiveError as error:
            raise CorpusError(str(error)) from error
        done.touch()
        file.unlink()
    return root


def synthesise_corpus(root, minutes=None, speakers=None, seed=0):
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
    recipe = {
        "minutes": minutes,
        "speakers": {split: speakers.get(split) for split in minutes},
        "seed": seed,
    }
    recipe |= {"version": synthesis.VERSION, "espeakng": metadata.version("espeakng-loader")}
    note = root / "synthesis.json"
    try:
        if parse_json(note.read_bytes()) in (recipe, _unnumbered(recipe)):
            return root
    except (OSError, ValueError):  # then it is of no recipe
        pass
    if root.exists():
        raise CorpusError(f"{root} is there, but not of {recipe}: remove it or name another folder")
    if unknown := set(minutes) - set(synthesis.SPLITS):
        raise CorpusError(
            f"no split {sorted(unknown)} is synthesised: choose among {', '.join(synthesis.SPLITS)}"
        )
    with temporary_folder(root) as temporary:
        made = temporary / "corpus"
        for split in minutes:
            first = 100 * (
                1 + synthesis.SPLITS.index(split)
            )  # speaker ids are numbers, as in LibriSpeech
            try:
                spoken = synthesis.synthesise(split, minutes[split], speakers[split], seed)
                for speaker, items in itertools.groupby(spoken, key=lambda item: item[0]):
                    chapter = (
                        (number, wave, words.upper())
                        for number, (_, wave, words) in enumerate(items)
                    )
                    write_chapter(
                        made / split, f"{first + speaker}", "1", chapter, synthesis.SAMPLING_RATE
                    )
            except (RuntimeError, ValueError) as error:
                raise CorpusError(str(error)) from error
        (made / note.name).write_text(json.dumps(recipe))
        made.rename(root)
    return root


def _unnumbered(recipe):
    """Version 1 as it was written before versions had numbers: by a checksum of sources and of espeakng-loader 0.2.4."""
    if (recipe["version"], recipe["espeakng"]) != (1, "0.2.4"):
        return recipe
    return {name: value for name, value in recipe.items() if name != "espeakng"} | {
        "version": 2054655564
    }
