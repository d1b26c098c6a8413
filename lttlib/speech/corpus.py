"""Get a corpus: download one that others made, or synthesise one."""

import itertools
import json
import os
from importlib import metadata
from operator import itemgetter
from pathlib import Path

from lttlib.files import lock, parse_json, temporary_folder
from lttlib.speech import download, synthesis
from lttlib.speech.datasets import CORPORA
from lttlib.speech.layout import CorpusError, write_chapter

MINUTES = {"train": 30, "dev": 3, "test": 3}
SPEAKERS = {"train": 120, "dev": 8, "test": 8}
DESCRIPTION_FILE = "synthesis.json"
# What stood for version 1 with espeakng-loader 0.2.4 before versions had numbers: a checksum.
UNNUMBERED_VERSION = 2054655564
ELSEWHERE = "remove it or name another folder"


def get_corpus(name, root):
    """Return the folder of a corpus; download it, or synthesise "synthetic", unless it is there."""
    if name == "synthetic":
        return synthesise_corpus(root)
    return fetch_corpus(name, root)


def fetch_corpus(name, root):
    """Download a corpus of data/README.md, unless it is there.

    Parameters
    ----------
    name : str
        A name of `CORPORA`.
    root : path-like
        Folder of the corpus. A split appears in it whole or not at all; archives are removed once
        they are unpacked.

    Returns
    -------
    Path
        `root`.

    Raises
    ------
    CorpusError
        If no corpus has this name, `root` has such a split from elsewhere, the download stops (the
        next call continues it), or its hash or contents are wrong.
    """
    if name not in CORPORA:
        cure = f"choose among synthetic, {', '.join(CORPORA)}"
        raise CorpusError(f"no corpus {name!r}", cure=cure)
    root = Path(root)
    for archive in CORPORA[name]:
        if not _is_there(archive, root):
            with lock(root):
                _fetch_archive(archive, name, root)
    return root


def _is_there(archive, root):
    """Whether the splits of an archive were brought to `root`."""
    path = root / ".downloads" / f"{archive.file_name}.done"
    return path.exists() and all((root / split).exists() for split in archive.splits)


def _fetch_archive(archive, name, root):
    """Bring the splits of an archive of the corpus `name` to `root`, unless they are there."""
    # Nothing to do if all is there; a split of another origin is not replaced.
    path = root / ".downloads" / archive.file_name
    if _is_there(archive, root):  # by now
        return
    done = path.with_name(f"{path.name}.done")
    existing = [split for split in archive.splits if (root / split).exists()]
    if existing:
        raise CorpusError(f"not (all) of {name}", path=root / existing[0], cure=ELSEWHERE)

    # The splits are moved last: all that may fail has been done by then.
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download.download_file(archive.url, path, archive.hash)
        with temporary_folder(root / "unpacking") as temporary:
            download.unpack(path, temporary)
            prepared = _prepare(archive, name, path, unpacked=temporary)
            for split in archive.splits:
                (prepared / split).rename(root / split)
    except download.ArchiveError as error:
        raise CorpusError(error.problem, path=error.path, cure=error.cure) from error
    done.touch()
    path.unlink()


def _prepare(archive, name, path, unpacked):
    """Return a folder that holds the splits of an unpacked archive in the LibriSpeech layout."""
    cure = f"has it changed at {archive.url}? Remove it to download it again"
    try:
        folder = archive.prepare(unpacked)
    except (FileNotFoundError, LookupError, RuntimeError, ValueError) as error:
        problem = f"holds something else than {name} ({error!r})"
        raise CorpusError(problem, path=path, cure=cure) from error
    missing = [split for split in archive.splits if not (folder / split).is_dir()]
    if missing:
        raise CorpusError(f"holds no {', '.join(missing)}", path=path, cure=cure)
    return folder


def synthesise_corpus(root, minutes=None, speakers=None, seed=0):
    """Make a corpus by speech synthesis: sentences in many voices and accents, as FLAC at 16 kHz.

    No voice, timbre or sentence of dev or test is in train. The same arguments give the same bytes.

    Parameters
    ----------
    root : path-like
        Folder of the corpus; it appears whole or not at all. If it holds the same corpus already,
        nothing is done.
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
        If the folder holds something else, a split or number of speakers does not exist, or
        espeak-ng fails.
    """
    # The request.
    root = Path(root)
    if minutes is None:
        minutes = MINUTES
    speakers = SPEAKERS | (speakers or {})
    unknown = sorted(set(minutes) - set(synthesis.SPLITS))
    if unknown:
        cure = f"choose among {', '.join(synthesis.SPLITS)}"
        raise CorpusError(f"no split {unknown} is synthesised", cure=cure)

    # What is there: the same corpus, something else, or nothing.
    description = _describe(minutes, speakers, seed)
    same = (description, _without_number(description))
    if _read_description(root) in same:
        return root
    with lock(root):
        if _read_description(root) not in same:  # another process may have made it by now
            _synthesise(root, description)
    return root


def _synthesise(root, description):
    """Make the described corpus at `root`, which is locked."""
    if root.exists():
        problem = f"holds something else than {description}"
        raise CorpusError(problem, path=root, cure=ELSEWHERE)

    # The corpus is moved to its place when it is whole.
    with temporary_folder(os.path.realpath(root)) as temporary:
        folder = temporary / "corpus"
        for split, minutes in description["minutes"].items():
            speakers = description["speakers"][split]
            recordings = synthesis.synthesise(split, minutes, speakers, description["seed"])
            _write_split(folder / split, split, recordings)
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description))
        folder.rename(os.path.realpath(root))  # where it leads to, as a link


def _describe(minutes, speakers, seed):
    """Return what the bytes of a synthesised corpus depend on."""
    return {
        "minutes": minutes,
        "speakers": {split: speakers[split] for split in minutes},
        "seed": seed,
        "version": synthesis.VERSION,
        "espeakng": metadata.version("espeakng-loader"),
    }


def _without_number(description):
    """Return the description of the same corpus as it was written before versions had numbers."""
    if (description["version"], description["espeakng"]) != (1, "0.2.4"):
        return description
    unnumbered = description | {"version": UNNUMBERED_VERSION}
    del unnumbered["espeakng"]
    return unnumbered


def _read_description(root):
    """Read the description of a synthesised corpus; None if there is none."""
    try:
        return parse_json((root / DESCRIPTION_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def _write_split(folder, split, recordings):
    """Write one split of a synthesised corpus, a chapter for each speaker."""
    # Speaker ids are numbers, as in LibriSpeech: from 100 on in train, from 200 on in dev.
    first_id = 100 * (1 + synthesis.SPLITS.index(split))
    try:
        for speaker, items in itertools.groupby(recordings, key=itemgetter(0)):
            chapter = (
                (number, wave, sentence.upper()) for number, (_, wave, sentence) in enumerate(items)
            )
            speaker_id = str(first_id + speaker)
            write_chapter(folder, speaker_id, "1", chapter, sampling_rate=synthesis.SAMPLING_RATE)
    except RuntimeError as error:  # of espeak-ng
        raise CorpusError(str(error)) from error
