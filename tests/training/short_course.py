"""A course of a few seconds, killed at random moments until it is done: for test_resume.py.

Run as a program: `short_course.py CORPUS FOLDER KILLS SEED`. The runs are forked from one process
that has imported TensorFlow, and not used it yet: all their time goes to the course.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import tensorflow as tf  # noqa: F401 (imported once for all runs)

from lttlib import models, training
from lttlib.course import experiments
from lttlib.features import FeatureConfig, Records, write_records
from lttlib.models import Model
from lttlib.network import ConvNet, ConvSpec, copy_layers, guided_layers, quantize_kernels
from lttlib.speech import read_corpus
from lttlib.training import (
    Distillation,
    Guidance,
    TrainingConfig,
    ctc_objective,
    hint_objective,
    loop,
    write_guidance,
)

FEATURES = FeatureConfig(sampling_rate=8000, window_ms=20.0, frame_shift_ms=20.0, n_mels=20)
SPEC = ConvSpec(
    (16, 16), (3, 5), (1, 1), (0.1, 0.1), "separable_conv", input_channels=39, classes=4
)
CONFIG = TrainingConfig(epochs=3, batch_size=8, learning_rate=0.02, clip_norm=5.0)


def run(corpus, folder, phase=print):
    """Records, a teacher, its guidance and hints, and a student of every technique.

    As the notebooks make them. `phase` is called with the name of each part.
    """
    phase("records")
    utterances = read_corpus(corpus, "train")
    write_records(
        utterances,
        folder / "records",
        FEATURES,
        alphabet="ABC",
        speeds=(0.9, 1.0),
        cores=2,
        shard_size=8,
    )
    records = Records(folder / "records")
    scored = {"train": utterances[:4]}

    def learn(name, objective, data, config=CONFIG, network=None):
        phase(name)
        network = network or ConvNet(SPEC)
        model = folder / "models" / name
        experiments.run_experiment(model, network, objective, data, config, scored, cores=1)

    augmented = replace(CONFIG, time_masks=1, channel_masks=1)
    learn("teacher", ctc_objective, records, config=augmented)

    phase("guidance")
    teacher = folder / "models" / "teacher"
    logits = folder / "guidance" / "said"
    hints = folder / "guidance" / "hints"
    write_guidance(records, models.load_teacher(teacher), logits)
    write_guidance(records, models.load_teacher(teacher), hints, layer=1)

    guided = Guidance(logits, models.load_teacher(teacher)).join(records, SPEC)
    distillation = Distillation(0.5, 2.0)
    learn("distilled", distillation, guided)
    network = ConvNet(SPEC)
    quantize_kernels(network, 2, 64, stochastic=True)
    learn("quantized", distillation, guided, network=network)
    network = ConvNet(SPEC, levels=4)
    quantize_kernels(network, 2, 64, learned=True)
    learn("levels", distillation, guided, network=network)

    phase("hinted")
    part = guided_layers(SPEC, 1, 16)
    first_layers = ConvNet(part)
    hinted = Guidance(hints, models.load_teacher(teacher)).join(records, part)
    path = folder / "models" / "hinted"
    history = training.train(first_layers, hint_objective, hinted, CONFIG, f"{path}.checkpoint")
    models.save(path, Model(first_layers, records.feature_config, ""), **history)
    network = ConvNet(SPEC)
    copy_layers(models.load(path).network, network, 1)
    learn("fitnet", distillation, guided, network=network)


def start(corpus, folder):
    """Fork a run of the course: its phase goes to <folder>.phase, its output to <folder>.log."""
    if child := os.fork():
        return child
    try:
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        loop.CHECKPOINT_SECONDS = 0  # a checkpoint each step
        run(corpus, folder, Path(f"{folder}.phase").write_text)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def phase_of(folder):
    """The phase in which a run was killed."""
    path = Path(f"{folder}.phase")
    return path.read_text() if path.exists() else "start"


def is_due(folder, shards, end):
    """Whether a run is to be killed now: it has written so many shards, or its time has come."""
    if shards is None:
        return time.monotonic() > end
    return len(list((folder / "records").glob("*.tfrecord"))) >= shards


def main(corpus, folder, kills, seed):
    """Run one course undisturbed, then kill others; print when that was, and how many ended.

    The first run of a course is killed while it writes records; one that goes on is done sooner
    than one from the start, and is killed within half of that one's time.
    """
    folder = Path(folder)
    moments = random.Random(seed)
    begin = time.monotonic()
    _, status = os.waitpid(start(corpus, folder / "alone"), 0)
    assert status == 0, (folder / "alone.log").read_text()
    seconds = time.monotonic() - begin

    phases = []
    done = 0
    while True:
        course = folder / f"killed{done}"
        shards = moments.randrange(16)
        if course.exists():
            shards = None
        child = start(corpus, course)
        end = time.monotonic() + moments.uniform(0, seconds / 2)

        # Wait until it has ended, or is to be killed; the last run is left alone.
        ended, status = os.waitpid(child, os.WNOHANG)
        while not ended and len(phases) < kills and not is_due(course, shards, end):
            time.sleep(0.002)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and len(phases) == kills:
            ended, status = os.waitpid(child, 0)

        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            phases.append(phase_of(course))
            continue
        assert status == 0, Path(f"{course}.log").read_text()
        done += 1
        if len(phases) == kills:
            break
    print("RESULT", json.dumps({"phases": phases, "done": done, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
