"""A course of a few seconds, and what kills it at random moments until it is done: for test_resume.py.

Run as a program: `short_course.py CORPUS FOLDER KILLS SEED`. The runs are forked from one process that has imported
TensorFlow, and not used it yet: their time is work.
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
SPEC = ConvSpec((16, 16), (3, 5), (1, 1), (0.1, 0.1), input_channels=39, classes=4)
RECIPE = TrainingConfig(epochs=3, batch_size=8, learning_rate=0.02, clip_norm=5.0)


def run(root, home, phase=print):
    """Records, a teacher, its guidance and hints, and a student of every technique, as the notebooks make them."""
    phase("records")
    utterances = read_corpus(root, "train")
    write_records(
        utterances,
        home / "records",
        FEATURES,
        alphabet="ABC",
        speeds=(0.9, 1.0),
        cores=2,
        shard_size=8,
    )
    data, scored = Records(home / "records"), {"train": utterances[:4]}
    said, hints, teacher = (
        home / "guidance" / "said",
        home / "guidance" / "hints",
        home / "models" / "teacher",
    )

    def learn(name, objective, heard, recipe=RECIPE, network=None):
        phase(name)
        network = network or ConvNet(SPEC)
        return experiments.run_experiment(
            home / "models" / name, network, objective, heard, recipe, scored, cores=1
        )

    learn("teacher", ctc_objective, data, recipe=replace(RECIPE, time_masks=1, channel_masks=1))
    phase("guidance")
    write_guidance(data, models.load_teacher(teacher), said)
    write_guidance(data, models.load_teacher(teacher), hints, layer=1)
    guided = Guidance(said, models.load_teacher(teacher)).join(data, SPEC)
    learn("distilled", Distillation(0.5, 2.0), guided)
    network = ConvNet(SPEC)
    quantize_kernels(network, 2, 64, stochastic=True)
    learn("quantized", Distillation(0.5, 2.0), guided, network=network)
    network = ConvNet(SPEC, levels=4)
    quantize_kernels(network, 2, 64, learned=True)
    learn("levels", Distillation(0.5, 2.0), guided, network=network)
    part = guided_layers(SPEC, 1, 16)
    phase("hinted")
    first, listening = ConvNet(part), Guidance(hints, models.load_teacher(teacher)).join(data, part)
    facts = training.train(
        first, hint_objective, listening, RECIPE, home / "models" / "hinted.checkpoint"
    )
    models.save(home / "models" / "hinted", Model(first, data.feature_config, ""), **facts)
    network = ConvNet(SPEC)
    copy_layers(models.load(home / "models" / "hinted").network, network, 1)
    learn("fitnet", Distillation(0.5, 2.0), guided, network=network)


def start(root, home):
    """Fork a run of the course; what it does stands in `<home>.phase`, what it prints in `<home>.log`."""
    if child := os.fork():
        return child
    try:
        log = os.open(f"{home}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        loop.CHECKPOINT_SECONDS = 0  # a checkpoint each step
        run(root, home, Path(f"{home}.phase").write_text)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(root, folder, kills, seed):
    """Leave one course alone, then kill others; print the phases of the kills, and how many came to an end.

    The first run of a course is killed while it writes records; one that goes on is done sooner than one from the
    start, and is killed within half of that one's time.
    """
    folder, moments = Path(folder), random.Random(seed)
    begun = time.monotonic()
    assert os.waitpid(start(root, folder / "alone"), 0)[1] == 0, (folder / "alone.log").read_text()
    whole, phases, done = time.monotonic() - begun, [], 0
    while True:
        home = folder / f"killed{done}"
        fresh, shards = not home.exists(), moments.randrange(16)
        child, ends = start(root, home), time.monotonic() + moments.uniform(0, whole / 2)
        while not (status := os.waitpid(child, os.WNOHANG))[0] and len(phases) < kills:
            written = len(list((home / "records").glob("*.tfrecord")))
            if (written >= shards) if fresh else (time.monotonic() > ends):
                break
            time.sleep(0.002)
        if len(phases) == kills and not status[0]:
            status = os.waitpid(child, 0)
        if status[0]:
            assert status[1] == 0, Path(f"{home}.log").read_text()
            done += 1
            if len(phases) == kills:
                break
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            phases.append(
                Path(f"{home}.phase").read_text() if Path(f"{home}.phase").exists() else "start"
            )
    print("TOLD", json.dumps({"phases": phases, "done": done, "seconds": whole}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
