"""The LibriSpeech layout, in which every corpus lies on disk.

A recording is `<split>/<speaker>/<chapter>/<id>.flac`, or of another of `AUDIO_SUFFIXES`. The
transcript of a chapter lies in the same folder, `<speaker>-<chapter>.trans.txt`: on each line an id
and the words.

A recording without such a line has no transcript. Records reject it, unless they are asked for
untranscribed speech: a split may consist of nothing else, and needs no `.trans.txt` then.

Whatever cannot be used is an utterance as well, one with a `problem`: records, evaluation and
calibration list it with the reason, and use the others. Hidden files are none of the corpus: other
systems leave them beside the sound (`._1-1-0.flac`, `.ipynb_checkpoints`).
"""

import codecs
import io
import os
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from lttlib import Error
from lttlib.files import disk_full_errors, printable

# What libsndfile reads.
READABLE_SUFFIXES = (
    ".flac .wav .wave .bwf .rf64 .w64 .aif .aiff .aifc .caf .au .snd .sph .nist .wv1 .wv2 .voc"
    " .ircam .paf .pvf .avr .ogg .oga .opus .mp3 .mp2"
).split()
# What it does not: the list of what was left out says how to convert it.
OTHER_SUFFIXES = (
    ".m4a .m4b .mp4 .aac .webm .weba .mka .mkv .mov .avi .3gp .3g2 .wma .amr .awb .ape .wv .tta"
    " .shn .spx .ra .rm .ac3 .dsf .raw .pcm"
).split()
# Of several files with one name, the first of these is used.
AUDIO_SUFFIXES = READABLE_SUFFIXES + OTHER_SUFFIXES
TRANSCRIPT_SUFFIX = ".trans.txt"
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class CorpusError(Error):
    """A corpus that cannot be read, downloaded or synthesised."""


@dataclass(frozen=True)
class Utterance:
    """One recording; `text` is None if it has no transcript.

    A line of a transcript without a recording is an utterance whose `audio` does not exist.

    Attributes
    ----------
    id : str
        Name of the file without its suffix; where that stands in several folders of the split,
        `<speaker>/<chapter>/<name>`.
    speaker, split : str
    audio : Path
    text : str or None
    problem : str or None
        Why nothing of it can be used, with file and cure: it is the second of two files of one
        name, say, or a folder that cannot be read.
    text_problem : str or None
        Why it has no text, if a transcript has a line of it.
    """

    id: str
    speaker: str
    split: str
    audio: Path
    text: str | None
    problem: str | None = None
    text_problem: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of a transcript; `text` is None if it cannot be read, and `problem` says why."""

    transcript: Path
    number: int
    name: str
    text: str | None
    problem: str | None = None

    @property
    def folder(self):
        """The chapter."""
        return self.transcript.parent


def read_corpus(root, splits):
    """List the utterances of one or more splits.

    A split is matched by the names of the folders directly in `root`: "dev-clean" is that folder,
    "dev" merges every folder that is "dev" or begins with "dev-".

    `splits` is one name or a list of names.

    Returns
    -------
    list of Utterance
        In the order of `splits`, sorted by id within each; texts in capitals, with single spaces.
        What cannot be used is there, too, with its `problem`.

    Raises
    ------
    CorpusError
        If the folder or a split is missing, or holds no speech.
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
    searchable = (folder for folder in folders if os.access(folder, os.R_OK | os.X_OK))
    parents = [folder for folder in searchable if _split_folders(folder, split)]
    if parents:
        cure = f"did you mean the folder {parents[0]}?"
    else:
        names = [folder.name for folder in folders]
        cure = f"its folders are {', '.join(names) or 'nothing'}"
    return CorpusError(f"no split {split!r}", path=root, cure=cure)


def _read_split(folders, split):
    """List the utterances in the folders of one split, sorted by id."""
    # Recordings and lines of transcripts; errors by the path of what cannot be read.
    problems = {}
    recordings = []
    lines = []
    for chapter in _list_chapters(folders, problems):
        paths = _list_folder(chapter, problems)
        transcripts = [path for path in paths if _is_transcript(path)]
        # Transcripts of one chapter may be several.
        chapter_lines = []
        for path in transcripts:
            chapter_lines += _read_transcript(path, problems)
        # A line may name a file in full, whatever its suffix.
        names = {line.name for line in chapter_lines}
        sounds = [path for path in paths if _is_sound(path, names)]
        recordings += _drop_second_files(sounds, problems)
        lines += chapter_lines

    # An utterance of each recording.
    lines_of, others = _match(lines, recordings)
    utterances = []
    for path in recordings:
        text, problem = _choose_text(path, lines_of[path])
        utterances.append(_make_utterance(_stem(path), split, path, text, text_problem=problem))
    # And of each line without a recording, and of each error.
    utterances += _make_missing(others, split)
    for path, error in problems.items():
        utterances.append(_make_utterance(path.name, split, path, None, problem=str(error)))

    # Ids are unique in the end.
    if not utterances:
        cure = "put it in the LibriSpeech layout"
        raise CorpusError("holds no <speaker>/<chapter>/<id>.flac", path=folders[0], cure=cure)
    return sorted(_qualify_ids(utterances), key=lambda utterance: utterance.id)


def _list_chapters(folders, problems):
    """Yield the folders of chapters, each once, though links may lead to it from elsewhere."""
    known = set()
    # Real folders before symlinks, so that a chapter reached by both keeps its real path.
    for _ in range(2):
        paths = []
        for folder in sorted(folders, key=os.path.islink):
            paths += _list_folder(folder, problems)
        folders = [path for path in paths if os.path.isdir(path)]
    for chapter in sorted(folders, key=os.path.islink):
        stat = chapter.stat()
        identity = stat.st_dev, stat.st_ino
        if identity not in known:
            known.add(identity)
            yield chapter


def _list_folder(folder, problems):
    """List what is in a folder, sorted, without what is hidden."""
    try:
        # That it may be entered as well.
        os.stat(os.path.join(folder, os.curdir))
        paths = sorted(folder.iterdir())
    except OSError as error:
        cure = "give yourself the right to read it, or move it away"
        problem = f"not readable ({error.strerror})"
        problems[folder] = CorpusError(problem, path=folder, cure=cure)
        return []
    return [path for path in paths if not path.name.startswith(".")]


def _is_transcript(path):
    return path.name.lower().endswith(TRANSCRIPT_SUFFIX)


def _is_sound(path, names):
    """Whether a file is a recording: by its suffix, or since a transcript names it in full."""
    if _is_transcript(path):
        return False
    return path.suffix.lower() in AUDIO_SUFFIXES or printable(path.name) in names


def _stem(path):
    """Name of a recording without the suffix of a sound file, as text that can be printed."""
    is_suffix = path.suffix.lower() in AUDIO_SUFFIXES
    return printable(path.stem if is_suffix else path.name)


def _drop_second_files(sounds, problems):
    """List the recordings of a folder, of each name one file only."""
    recordings = {}
    for path in sorted(sounds, key=_preference):
        first = recordings.setdefault(_stem(path), path)
        # Beside a sound, others may be its film, or what it was converted from.
        if first != path and path.suffix.lower() in READABLE_SUFFIXES:
            problem = f"has the id of {first.name}, which is used"
            cure = "remove one of the two"
            problems[path] = CorpusError(problem, path=path, cure=cure)
    return list(recordings.values())


def _preference(path):
    """Place of a file among those of one name."""
    suffix = path.suffix.lower()
    if suffix in AUDIO_SUFFIXES:
        return AUDIO_SUFFIXES.index(suffix)
    return len(AUDIO_SUFFIXES)


def _read_transcript(path, problems):
    """List the lines of a transcript that are not blank."""
    try:
        # A pipe of this name would be waited for.
        if not path.is_file():
            raise CorpusError("no file", path=path, cure="remove it")
        data = path.read_bytes()
        if data.startswith(UTF16_MARKS):
            data = data.decode("utf-16").encode()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"not readable ({error})"
        problems[path] = CorpusError(problem, path=path, cure="save the file as UTF-8")
        return []
    except CorpusError as error:
        problems[path] = error
        return []
    lines = []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            lines += _parse_line(path, number, line)
    return lines


def _parse_line(path, number, line):
    """List the one `Line` of some bytes, or none if there are only marks and spaces in them."""
    try:
        words = line.decode("utf-8-sig").split()
        if not words:
            return []
        return [Line(path, number, words[0], text=" ".join(words[1:]).upper())]
    except UnicodeDecodeError as error:
        # The name may be one of a file that is not UTF-8, either.
        name, *words = line.split(maxsplit=1)
        name = printable(os.fsdecode(name))
        text = b"".join(words)
        if text.isascii():
            return [Line(path, number, name, text=" ".join(text.decode().split()).upper())]
        problem = f"line {number}: not UTF-8 ({error.reason})"
        problem = CorpusError(problem, path=path, cure="save the file as UTF-8")
        return [Line(path, number, name, text=None, problem=str(problem))]


def _match(lines, recordings):
    """Map recordings to the lines that speak of them; return that and the other lines.

    A line speaks of the file of its name in its folder; if there is none, of the only one of this
    name in the split. Else its id may have a suffix, a path, other capitals or another Unicode
    normal form than the file.
    """
    stems = [_stem(path) for path in recordings]
    keys = [_name_here, _name_anywhere, _path_of_three, _path_of_two, _loose_here, _loose_anywhere]
    # Where names are unique in their folders only, a line does not speak of another folder.
    if len(set(stems)) < len(stems):
        keys.remove(_name_anywhere)
        keys.remove(_loose_anywhere)

    # By one key after the other, until each line has its recording.
    lines_of = defaultdict(list)
    for key in keys:
        if not lines:
            break
        # The recordings without a line so far, by this key.
        index = defaultdict(list)
        for path, stem in zip(recordings, stems, strict=True):
            if path not in lines_of:
                index[key(path.parent, stem, [*path.parent.parts, stem])].append(path)
        # A line with just one of them is of that one.
        others = []
        for line in lines:
            paths = index.get(key(line.folder, line.name, _split_name(line.name)), ())
            if len(paths) == 1:
                lines_of[paths[0]].append(line)
            # Of none, or of several: left for the next key.
            else:
                others.append(line)
        lines = others
    return lines_of, lines


def _split_name(name):
    """Parts of an id that may be a path, without the suffix of a sound file."""
    *folders, name = name.replace("\\", "/").split("/")
    stem, suffix = os.path.splitext(name)
    return [*folders, stem if suffix.lower() in AUDIO_SUFFIXES else name]


def _loosen(parts):
    return tuple(unicodedata.normalize("NFC", part.casefold()) for part in parts)


# Match keys, strictest first: a line and a recording match if the key function gives equal values.
# It is called with the folder of either, its name as written there, and the parts of its path.


def _name_here(folder, name, parts):
    return folder, name


def _name_anywhere(folder, name, parts):
    return name


def _path_of_three(folder, name, parts):
    return _loosen(parts[-3:]) if len(parts) > 2 else folder


def _path_of_two(folder, name, parts):
    return _loosen(parts[-2:]) if len(parts) > 1 else folder


def _loose_here(folder, name, parts):
    return folder, *_loosen(parts[-1:])


def _loose_anywhere(folder, name, parts):
    return _loosen(parts[-1:])


def _choose_text(recording, lines):
    """Return the text of a recording that some lines speak of, and why it has none if so."""
    if not lines:
        return None, None
    # The transcript that the layout names comes before others, copies of old ones for example.
    chapter = recording.parent
    name = f"{chapter.parent.name}-{chapter.name}{TRANSCRIPT_SUFFIX}"
    lines = [line for line in lines if line.transcript.name == name] or lines
    first = lines[0]
    for line in lines:
        if line.text != first.text:
            problem = f"line {line.number}: {line.name} has another text in line {first.number}"
            if line.transcript != first.transcript:
                problem += f" of {first.transcript.name}"
            cure = "remove one of the two"
            return None, str(CorpusError(problem, path=line.transcript, cure=cure))
    return first.text, first.problem


def _make_missing(lines, split):
    """List the utterances of lines without a recording."""
    # Lines with one name in one chapter are one utterance.
    lines_of = defaultdict(list)
    for line in lines:
        lines_of[line.folder, line.name].append(line)
    utterances = []
    for (folder, name), same in lines_of.items():
        # The file that should be there.
        has_suffix = os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES
        audio = folder / (name if has_suffix else f"{name}.flac")
        problem = None
        # A name that no file in the chapter could have.
        if os.path.basename(name) != name or not name.isprintable():
            audio = same[0].transcript
            problem = f"line {same[0].number}: no recording is called {name!r}"
            cure = "write the name of a file without its suffix"
            problem = str(CorpusError(problem, path=audio, cure=cure))
            name = ascii(name)[1:-1]
        # The file that is missing is the problem, or that the lines differ.
        text, text_problem = _choose_text(audio, same)
        utterance = _make_utterance(
            name, split, audio, text, problem=problem, text_problem=text_problem
        )
        utterances.append(utterance)
    return utterances


def _make_utterance(name, split, audio, text, **problems):
    speaker = printable(audio.parts[-3])
    return Utterance(printable(name), speaker, split, audio, text=text, **problems)


def _qualify_ids(utterances):
    """Put speaker and chapter before ids that several have, and the split's folder if need be."""
    for start, end in ((-3, -1), (-4, -3)):
        counts = Counter(utterance.id for utterance in utterances)
        qualified = []
        for utterance in utterances:
            if counts[utterance.id] > 1:
                folders = "/".join(utterance.audio.parts[start:end])
                utterance = replace(utterance, id=printable(f"{folders}/{utterance.id}"))
            qualified.append(utterance)
        utterances = qualified
    return utterances


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
