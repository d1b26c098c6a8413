"""How time and memory of records and training grow with the corpus, on synthesised speech.

Each measurement is a process of its own, so that its memory is not that of another one.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from lttlib import ceil_div, training
from lttlib.features import FeatureConfig, Records, workers, write_records
from lttlib.files import temporary_folder
from lttlib.network import ConvNet, ConvSpec
from lttlib.speech import read_corpus, synthesise_corpus
from lttlib.training import TrainingConfig, ctc_objective, default_dtype_policy

SPEAKERS = 8  # in each synthesised corpus
MAX_WORKERS = 64


def training_flops(spec, frames: int = 1) -> int:
    """Operations of a training step's convolutions on so many frames: two for a multiply-add."""
    total = 0
    for number, (shape, stride) in enumerate(spec.kernels()):
        frames = ceil_div(frames, stride)
        passes = 3 if number else 2  # the first layer needs no gradient of its input
        total += 2 * passes * frames * math.prod(shape)
    return total


def measure(minutes, spec, config, folder, batch_size=8, cores=None) -> list:
    """Prepare and train on corpora of different length.

    Parameters
    ----------
    minutes : list of float
        Least length of each corpus.
    spec : network.ConvSpec
    config : features.FeatureConfig
    folder : path-like
        For the corpora while they are needed.
    batch_size : int
    cores : int, optional
        Processes that prepare.

    Returns
    -------
    list of dict
        minutes (actual length), utterances, bytes (of the records), prepare_seconds, prepare_bytes
        (peak memory of the process and its largest worker), train_seconds (of the second epoch: in
        the first one TensorFlow traces), train_bytes, read_seconds (of the batches of an epoch
        alone).

    Raises
    ------
    RuntimeError
        If a measurement fails; the message ends with its stderr.
    """
    options = {
        "spec": asdict(spec),
        "config": config.to_json(),
        "batch_size": batch_size,
        "cores": cores,
    }
    measurements = []
    for length in minutes:
        with temporary_folder(Path(folder) / "growth") as temporary:
            synthesise_corpus(temporary / "corpus", {"train": length}, {"train": SPEAKERS})
            measurement = {}
            for step in STEPS:
                measurement |= _run_step(step, temporary, options, length)
        measurements.append(measurement)
    return measurements


def _run_step(step, folder, options, minutes):
    """Return what a step measures in a process of its own."""
    command = [sys.executable, __file__, step, str(folder), json.dumps(options)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{step} of {minutes} minutes stopped: {process.stderr[-3000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def prepare(folder, config, cores=None, **_) -> dict:
    """Write the records of the corpus in a folder, and measure it."""
    config = FeatureConfig.from_json(config)
    utterances = read_corpus(folder / "corpus", "train")
    write_records(utterances[:4], folder / "warm-up", config, cores=cores)  # the workers start

    started = time.perf_counter()
    statistics = write_records(utterances, folder / "records", config, cores=cores)
    seconds = time.perf_counter() - started

    shards = (folder / "records").glob("*.tfrecord")
    worker_memory = 0
    with workers(cores) as pool:  # the same ones as before
        if pool:
            worker_memory = max(pool([(peak_memory, (), {})] * MAX_WORKERS))
    return {
        "minutes": 60 * statistics["hours"],
        "utterances": len(utterances),
        "bytes": sum(path.stat().st_size for path in shards),
        "prepare_seconds": seconds,
        "prepare_bytes": peak_memory() + worker_memory,
    }


def train(folder, spec, batch_size, **_) -> dict:
    """Train on the records in a folder, and measure it."""
    spec = ConvSpec(**spec)
    network = ConvNet(spec, dtype=default_dtype_policy(spec))
    records = Records(folder / "records")
    config = TrainingConfig(epochs=2, batch_size=batch_size, clip_norm=5.0)
    history = training.train(
        network, ctc_objective, records, config, checkpoint=folder / "checkpoint"
    )
    memory = peak_memory()
    first, second = (epoch["seconds"] for epoch in history["epochs"])

    started = time.perf_counter()
    for _ in records.batches(batch_size, seed=0):
        pass
    return {
        "train_seconds": second - first,
        "train_bytes": memory,
        "read_seconds": time.perf_counter() - started,
    }


STEPS = {"prepare": prepare, "train": train}


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage would count the parent's memory from before this program began.
    lines = status.read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(peak.split()[1])


def main():
    """Run one step; arguments: its name, the folder, its options as JSON."""
    os.environ["LTT_BATCH"] = "1"
    step, folder, options = sys.argv[1:]
    print(json.dumps(STEPS[step](Path(folder), **json.loads(options))))


if __name__ == "__main__":
    main()
