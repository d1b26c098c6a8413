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

from lttlib import corpus, experiments, guidance, models, objectives, quantize, records, storage, training
from lttlib.features import Features

FEATURES = Features(sampling_rate=8000, window_ms=20.0, stride_ms=20.0, n_mels=20)
SPEC = models.ConvSpec((16, 16), (3, 5), (1, 1), (0.1, 0.1), input_channels=39, classes=4)
RECIPE = training.Recipe(epochs=3, batch_size=8, learning_rate=0.02, clip=5.0)


def run(root, home, phase=print):
    """Records, a teacher, its guidance and hints, and a student of every technique, as the notebooks make them."""
    phase("records")
    utterances = corpus.read(root, "train")
    records.write(utterances, home / "records", FEATURES, alphabet="ABC", speeds=(0.9, 1.0), cores=2, shard_size=8)
    data, scored = records.Records(home / "records"), {"train": utterances[:4]}
    said, hints, teacher = home / "guidance" / "said", home / "guidance" / "hints", home / "models" / "teacher"

    def learn(name, objective, heard, recipe=RECIPE, network=None):
        phase(name)
        network = network or models.ConvNet(SPEC)
        return experiments.learn(home / "models" / name, network, objective, heard, recipe, scored, cores=1)

    learn("teacher", objectives.label_loss, data, recipe=replace(RECIPE, time_masks=1, channel_masks=1))
    phase("guidance")
    guidance.write(data, teacher, said)
    guidance.write(data, teacher, hints, layer=1)
    guided = guidance.Guidance(said, teacher).join(data, SPEC)
    learn("distilled", objectives.Distillation(0.5, 2.0), guided)
    network = models.ConvNet(SPEC)
    quantize.attach(network, 2, 64, stochastic=True)
    learn("quantized", objectives.Distillation(0.5, 2.0), guided, network=network)
    network = models.ConvNet(SPEC, levels=4)
    quantize.attach(network, 2, 64, learned=True)
    learn("levels", objectives.Distillation(0.5, 2.0), guided, network=network)
    part = models.guided_part(SPEC, 1, 16)
    phase("hinted")
    first, listening = models.ConvNet(part), guidance.Guidance(hints, teacher).join(data, part)
    facts = training.train(first, objectives.hint_loss, listening, RECIPE, home / "models" / "hinted.checkpoint")
    storage.save(home / "models" / "hinted", storage.Model(first, data.features, ""), **facts)
    network = models.ConvNet(SPEC)
    models.carry_over(storage.load(home / "models" / "hinted").network, network, 1)
    learn("fitnet", objectives.Distillation(0.5, 2.0), guided, network=network)


def start(root, home):
    """Fork a run of the course; what it does stands in `<home>.phase`, what it prints in `<home>.log`."""
    if child := os.fork():
        return child
    try:
        log = os.open(f"{home}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        training.CHECKPOINT_SECONDS = 0  # a checkpoint each step
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
            phases.append(Path(f"{home}.phase").read_text() if Path(f"{home}.phase").exists() else "start")
    print("TOLD", json.dumps({"phases": phases, "done": done, "seconds": whole}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
