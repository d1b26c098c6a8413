"""The course on a corpus with accidents: it runs through, and its results can be measured again."""

import csv
import json

import numpy as np
import pytest
import soundfile
from builders import tone_wave

from lttlib import cli, course
from lttlib.course import notebooks

SMALL = {
    "filters": "[8, 8]",
    "widths": "[5, 3]",
    "strides": "[2, 1]",
    "dropouts": "[0, 0.1]",
    "epochs": "2",
    "score_splits": "['dev']",
    "held_speakers": "['3']",
    "highest_ler": "1000",
    "largest_disturbance": "1000",
    "listen_to": "20",
    "speeds": "[0.9, 1.0]",
}


def write_speaker(folder, speaker, count, random):
    """A chapter of utterances of six tones, each a letter."""
    chapter = folder / speaker / "1"
    chapter.mkdir(parents=True)
    lines = []
    for number in range(count):
        letters = random.integers(3, size=6)
        wave = tone_wave(letters, random)
        name = f"{speaker}-1-{number:02}"
        soundfile.write(chapter / f"{name}.flac", wave, 16000)
        lines.append(f"{name} {''.join('ABC'[letter] for letter in letters)}")
    (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(lines))


def break_files(corpus):
    """One sound is cut, one is missing, one has no transcript, one is no sound."""
    chapter = corpus / "train" / "1" / "1"
    cut = chapter / "1-1-00.flac"
    cut.write_bytes(cut.read_bytes()[:3000])
    (chapter / "1-1-01.flac").unlink()
    soundfile.write(chapter / "1-1-99.flac", np.zeros(8000), 16000)
    (corpus / "dev" / "1" / "1" / "1-1-00.flac").write_text("no sound")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Notebooks 00 to 02 on a few minutes of tones by three speakers, with broken files.

    One of the speakers is held out.
    """
    folder = tmp_path_factory.mktemp("accidents")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("dev", 4)):
        for speaker in ("1", "2", "3"):
            write_speaker(folder / "corpus" / split, speaker, count, random)
    break_files(folder / "corpus")
    parameters = SMALL | {"corpus_root": str(folder / "corpus")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "DATA", folder / "data")
        patch.setenv("LTT_DATA", str(folder / "data"))
        course.run("quick", ["00", "01", "02"], parameters=parameters)
    return folder


def read_json(path):
    return json.loads(path.read_text())


def test_course_ends_with_reports_and_lists_what_it_left_out(run):
    assert len(list((run / "data" / "quick" / "reports").glob("0*.html"))) == 3
    with open(run / "data" / "quick" / "records" / "train" / "rejected.csv") as file:
        rejected = [(row["id"], row["speed"]) for row in csv.DictReader(file)]
    names = ("1-1-00", "1-1-01", "1-1-99")
    assert sorted(rejected) == [(name, speed) for name in names for speed in ("0.9", "1.0")]


def test_course_does_not_learn_from_a_held_speaker_and_scores_it_as_unseen(run):
    card = read_json(run / "data" / "quick" / "models" / "teacher" / "card.json")
    assert card["held_speakers"] == ["3"]
    results = card["results"]
    assert results["dev"]["utterances"] == 7 and results["unseen"]["utterances"] == 16
    assert [item["id"] for item in results["dev"]["rejected"]] == ["1-1-00"]


RATES = ("LER", "WER", "LER_ci", "WER_ci", "substitutions", "deletions", "insertions")


def test_evaluate_measures_what_the_card_has(run, capsys, tmp_path):
    """The corpus without speaker 3, whom the card scores apart."""
    (tmp_path / "dev").mkdir()
    for speaker in "12":
        (tmp_path / "dev" / speaker).symlink_to(run / "corpus" / "dev" / speaker)
    model = run / "data" / "quick" / "models" / "teacher"
    assert cli.main(["evaluate", str(model), str(tmp_path), "dev", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = read_json(model / "card.json")["results"]["dev"]
    for key in ("utterances", *RATES):
        assert result[key] == expected[key], key
