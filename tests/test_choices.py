"""Every notebook with every value of every parameter that is a choice, on a minute of tones.

Three runs of the course, each with features of another kind, hold all values but the numbers of
bits and some forms of guidance: these repeat single notebooks.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import tone_wave

from lttlib import course
from lttlib.features.spectral import FEATURE_KINDS, NORMALISATIONS
from lttlib.network import CONVS, FRAME_SELECTIONS
from lttlib.training import ENCODINGS

NOTEBOOKS = sorted(path.stem for path in course.NOTEBOOKS.glob("*.ipynb"))
SWITCH = {"true", "false"}
BITS = {str(bits) for bits in range(1, 9)}
CHOICES = {
    "kind": set(FEATURE_KINDS),
    "normalisation": set(NORMALISATIONS),
    "guidance": {*ENCODINGS, "online"},
    "conv": set(CONVS),
    "student_conv": set(CONVS),
    "fitnet_conv": set(CONVS),
    "frame_selection": set(FRAME_SELECTIONS),
    "precision": {"auto", "float32", "mixed_bfloat16"},
    "bits": BITS,
    "few_bits": BITS,
    "sensitive_bits": BITS,
    "alpha_falls": SWITCH,
    "teachers_listen": SWITCH,
    "batch_norm": SWITCH,
    "stochastic": SWITCH,
    "skip_first_and_last": SWITCH,
}

# Small networks that learn tones in seconds; what a claim of a notebook may cost is not asked here.
SMALL = {
    "speeds": "[1.0]",
    "more_teachers": "['second']",
    "filters": "[16, 16]",
    "widths": "[5, 3]",
    "strides": "[2, 2]",
    "dropouts": "[0.0]",
    "epochs": "8",
    "batch_size": "2",
    "learning_rate": "0.01",
    "highest_ler": "1000",
    "largest_disturbance": "1000",
    "student_filters": "[12, 12]",
    "student_widths": "[5, 3]",
    "student_strides": "[2, 2]",
    "student_epochs": "5",
    "student_batch_size": "2",
    "student_learning_rate": "0.01",
    "label_learning_rate": "0.01",
    "largest_ratio": "1000",
    "quantized_epochs": "1",
    "levels_epochs": "1",
    "largest_loss": "1000",
    "fitnet_filters": "[10, 10, 10]",
    "fitnet_widths": "[5, 3, 3]",
    "fitnet_strides": "[2, 2, 1]",
    "hint_layer": "2",
    "guided": "2",
    "hint_epochs": "3",
    "largest_with_hints": "1000",
    "largest_first_loss": "1000",
    "beam_width": "5",
    "lm_weights": "[0.5]",
    "word_scores": "[0.0]",
    "largest_wer_ratio": "1000",
    "calibration": "4",
    "chunk_ms": "40",
    "largest_int8_loss": "1000",
    "cores": "1",
}
# A network for the wave itself begins with strides down to a frame rate.
FOR_RAW = {
    "widths": "[41, 9]",
    "strides": "[20, 8]",
    "student_widths": "[41, 9]",
    "student_strides": "[20, 8]",
    "fitnet_widths": "[41, 9, 3]",
    "fitnet_strides": "[20, 8, 1]",
}


def values(names, texts):
    return dict(zip(names.split(), texts.split(), strict=True))


NAMES = "kind normalisation guidance conv student_conv fitnet_conv frame_selection precision "
NAMES += "alpha_falls teachers_listen batch_norm stochastic skip_first_and_last "
NAMES += "bits few_bits sensitive_bits"
MFCCS = "mfccs speech float32 separable_conv gated_conv "
MFCCS += "conv all float32 false false false false true 1 8 2"
POWER = "power utterance top4 gated_conv conv "
POWER += "separable_conv symmetric mixed_bfloat16 true true true true false 2 7 1"
RAW = "raw speech online conv separable_conv "
RAW += "gated_conv non_blank auto true true true false false 3 6 8"
# What repeats single notebooks after each run: (notebooks, other values than those of the run).
RUNS = {
    MFCCS: [
        ("03 04", values("guidance", "log8")),
        ("05", values("guidance bits few_bits sensitive_bits", "log8 4 5 3")),
        ("05", values("bits few_bits sensitive_bits", "5 4 4")),
    ],
    POWER: [
        ("03 04", values("guidance", "float16")),
        ("05", values("guidance bits few_bits sensitive_bits", "float16 6 3 5")),
        ("05", values("bits few_bits sensitive_bits", "7 2 6")),
    ],
    RAW: [("05", values("bits few_bits sensitive_bits", "8 1 7"))],
}


def steps_of(run):
    """The steps of a run: all notebooks, and then those that are repeated."""
    first = SMALL | values(NAMES, run)
    if first["kind"] == "raw":
        first |= FOR_RAW
    steps = [(NOTEBOOKS, first)]
    for numbers, others in RUNS[run]:
        stems = [stem for stem in NOTEBOOKS if stem[:2] in numbers.split()]
        steps.append((stems, first | others))
    return steps


def test_runs_hold_each_value_of_each_choice():
    declared = {}
    for stem in NOTEBOOKS:
        for name, (kind, *_) in course.parameters(course.NOTEBOOKS / f"{stem}.ipynb").items():
            declared.setdefault(name, (kind, set()))[1].add(stem)
    switches = {name for name, (kind, _) in declared.items() if kind == "bool"}
    assert switches <= set(CHOICES)
    for name, choices in CHOICES.items():
        _, stems = declared[name]
        steps = [step for run in RUNS for step in steps_of(run)]
        tried = {values[name] for notebooks, values in steps if stems & set(notebooks)}
        assert tried == choices, name
    assert set(SMALL) | set(FOR_RAW) <= set(declared)


def write_tones(folder):
    """A corpus of three speakers; a letter is a tone of 0.15 s, a text two words of three."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("dev", 2), ("test", 2)):
        for speaker in "123":
            chapter = folder / split / speaker / "1"
            chapter.mkdir(parents=True)
            lines = []
            for number in range(count):
                letters = random.integers(3, size=6)
                wave = tone_wave(letters, random)
                name = f"{speaker}-1-{number:02}"
                soundfile.write(chapter / f"{name}.flac", wave, 16000)
                text = "".join("ABC"[letter] for letter in letters)
                if split != "train":
                    text = f"D{text[1:]}"  # what nobody could know: no model is without errors
                lines.append(f"{name} {text[:3]} {text[3:]}\n")
            (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))


@pytest.mark.slow
def test_notebooks_run_with_every_value_of_every_choice(tmp_path):
    write_tones(tmp_path / "corpus")
    script = Path(__file__).with_name("notebooks_alone.py")

    def run_course(run):
        steps = steps_of(run)
        for _, values in steps:
            values["corpus_root"] = str(tmp_path / "corpus")
        command = [sys.executable, str(script), json.dumps(steps)]
        environment = os.environ | {"LTT_DATA": str(tmp_path / run.split()[0]), "LTT_BATCH": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    with ThreadPoolExecutor(2) as pool:
        for run, ended in zip(RUNS, pool.map(run_course, RUNS), strict=True):
            assert ended.returncode == 0, f"{run}\n{ended.stderr[-3000:]}"
