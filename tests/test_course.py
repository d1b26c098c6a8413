"""The course on a corpus with accidents: it runs through, and what it says of itself can be measured again."""

import csv
import json

import numpy as np
import pytest
import soundfile

from lttlib import cli, course
from lttlib.course import notebooks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Notebooks 00 to 02 on a few minutes of tones by three speakers, one of them held out, with broken files."""
    home = tmp_path_factory.mktemp("accidents")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("dev", 4)):
        for speaker in ("1", "2", "3"):
            chapter = home / "corpus" / split / speaker / "1"
            chapter.mkdir(parents=True)
            lines = []
            for number in range(count):
                letters = random.integers(3, size=6)
                tones = np.concatenate(
                    [np.sin(np.arange(2400) * (0.1 + 0.3 * letter)) for letter in letters]
                )
                soundfile.write(
                    chapter / f"{speaker}-1-{number:02}.flac",
                    0.3 * tones + 0.01 * random.normal(size=14400),
                    16000,
                )
                lines.append(
                    f"{speaker}-1-{number:02} {''.join('ABC'[letter] for letter in letters)}"
                )
            (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(lines))
    chapter = home / "corpus" / "train" / "1" / "1"
    (chapter / "1-1-00.flac").write_bytes((chapter / "1-1-00.flac").read_bytes()[:3000])
    (chapter / "1-1-01.flac").unlink()
    soundfile.write(chapter / "1-1-99.flac", np.zeros(8000), 16000)
    (home / "corpus" / "dev" / "1" / "1" / "1-1-00.flac").write_text("no sound")
    small = {
        "filters": "[8, 8]",
        "widths": "[5, 3]",
        "strides": "[2, 1]",
        "dropouts": "[0, 0.1]",
        "epochs": "2",
    }
    small |= {
        "score_splits": "['dev']",
        "held_speakers": "['3']",
        "highest_ler": "1000",
        "listen_to": "20",
    }
    small |= {"speeds": "[0.9, 1.0]"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "DATA", home / "data")
        patch.setenv("LTT_DATA", str(home / "data"))
        course.run(
            "quick", ["00", "01", "02"], parameters=small | {"corpus_root": str(home / "corpus")}
        )
    return home


def test_it_ends_with_reports_and_says_what_it_left_out(run):
    assert len(list((run / "data" / "quick" / "reports").glob("0*.html"))) == 3
    with open(run / "data" / "quick" / "records" / "train" / "rejected.csv") as file:
        rejected = [(row["id"], row["speed"]) for row in csv.DictReader(file)]
    assert sorted(rejected) == [
        (name, speed) for name in ("1-1-00", "1-1-01", "1-1-99") for speed in ("0.9", "1.0")
    ]


def test_a_held_speaker_is_not_learned_from_but_scored_as_unseen(run):
    card = json.loads((run / "data" / "quick" / "models" / "teacher" / "card.json").read_text())
    assert card["held_speakers"] == ["3"]
    assert (
        card["results"]["dev"]["utterances"] == 7 and card["results"]["unseen"]["utterances"] == 16
    )
    assert [lost["id"] for lost in card["results"]["dev"]["rejected"]] == ["1-1-00"]


def test_evaluate_measures_what_the_card_says(run, capsys, tmp_path):
    """The corpus without speaker 3, whom the card scores apart."""
    card = json.loads((run / "data" / "quick" / "models" / "teacher" / "card.json").read_text())
    for speaker in "12":
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / speaker).symlink_to(run / "corpus" / "dev" / speaker)
    model = run / "data" / "quick" / "models" / "teacher"
    assert cli.main(["evaluate", str(model), str(tmp_path), "dev", "--json"]) == 0
    again, said = json.loads(capsys.readouterr().out), card["results"]["dev"]
    for key in (
        "utterances",
        "LER",
        "WER",
        "LER_ci",
        "WER_ci",
        "substitutions",
        "deletions",
        "insertions",
    ):
        assert again[key] == said[key], key
