"""How time and memory grow with the corpus: records and training, measured on more and more synthesised speech.

Each measurement is a process of its own: what another one has taken, or a notebook, is not counted in its memory.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from lttlib import corpus, examples, models, objectives, records, training
from lttlib.features import Features
from lttlib.files import scratch

VOICES = 8  # of each corpus, however long


def measure(minutes, spec, features, folder, batch_size=8, cores=None) -> list:
    """Prepare and train on corpora of different length.

    Parameters
    ----------
    minutes : list of float
        Synthesised speech of each corpus, at least.
    spec : models.ConvSpec
    features : features.Features
    folder : path-like
        For the corpora while they are needed.
    batch_size : int
    cores : int, optional
        Processes that prepare.

    Returns
    -------
    list of dict: minutes (as they came out), utterances, bytes (of the records), prepare_seconds, prepare_bytes (peak
    of memory, of the process and its largest worker), train_seconds (of the second epoch: in the first one TensorFlow
    traces), train_bytes, read_seconds (of the batches of an epoch, with nothing done to them).

    Raises
    ------
    RuntimeError
        If a measurement fails; the message ends with what it told.
    """
    facts = {"spec": asdict(spec), "features": asdict(features), "batch_size": batch_size, "cores": cores}
    rows = []
    for length in minutes:
        with scratch(Path(folder) / "growth") as temporary:
            corpus.synthesise(temporary / "corpus", {"train": length}, {"train": VOICES})
            row = {}
            for step in (prepare, train):
                command = [sys.executable, "-m", __name__, step.__name__, str(temporary), json.dumps(facts)]
                ran = subprocess.run(command, capture_output=True, text=True)
                if ran.returncode:
                    raise RuntimeError(f"{step.__name__} of {length} minutes stopped: {ran.stderr[-3000:]}")
                row |= json.loads(ran.stdout.splitlines()[-1])
        rows.append(row)
    return rows


def prepare(folder, features, cores=None, **_) -> dict:
    """Write the records of the corpus in a folder; tell its part of a row of `measure`."""
    utterances = corpus.read(folder / "corpus", "train")
    records.write(utterances[:4], folder / "some", Features(**features), cores=cores)  # the workers start
    started = time.perf_counter()
    told = records.write(utterances, folder / "records", Features(**features), cores=cores)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in (folder / "records").glob("*.tfrecord"))
    with examples.workers(cores) as pool:  # the same ones as before
        worker = max(pool([(peak, (), {})] * 64)) if pool else 0
    found = {"minutes": 60 * told["hours"], "utterances": len(utterances), "bytes": size, "prepare_seconds": seconds}
    return found | {"prepare_bytes": peak() + worker}


def train(folder, spec, batch_size, **_) -> dict:
    """Train on the records in a folder; tell its part of a row of `measure`."""
    network = models.ConvNet(models.ConvSpec(**spec), dtype=training.precision())
    data, recipe = records.Records(folder / "records"), training.Recipe(2, batch_size, clip=5.0)
    first, second = training.train(network, objectives.label_loss, data, recipe, folder / "checkpoint")["epochs"]
    found = {"train_seconds": second["seconds"] - first["seconds"], "train_bytes": peak()}
    started = time.perf_counter()
    for _ in data.batches(batch_size, seed=0):
        pass
    return found | {"read_seconds": time.perf_counter() - started}


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells includes the parent's before this program began
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def operations(spec, frames: int = 1) -> int:
    """Floating-point operations of a network's convolutions for one training step: forward, and both gradients.

    A multiply-add counts as two. Batch norm, activations, optimizer and CTC are left out.

    Parameters
    ----------
    spec : models.ConvSpec
    frames : int
        Of the features.
    """
    total, channels = 0, spec.input_channels
    layers = [*zip(spec.filters, spec.widths, spec.strides, strict=True), (spec.classes, 1, 1)]
    for number, (filters, width, stride) in enumerate(layers):
        frames = -(-frames // stride)
        gates = 2 if spec.conv == "gated_conv" and number < len(spec.filters) else 1
        # The first layer needs no gradient of its input.
        total += 2 * (3 if number else 2) * frames * width * channels * filters * gates
        channels = filters
    return total


if __name__ == "__main__":
    os.environ["LTT_BATCH"] = "1"
    step, place, given = sys.argv[1:]
    print(json.dumps({"prepare": prepare, "train": train}[step](Path(place), **json.loads(given))))
