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

from lttlib import training
from lttlib.features.examples import workers
from lttlib.features.records import Records, write_records
from lttlib.features.spectral import FeatureConfig
from lttlib.files import temporary_folder
from lttlib.network.convnet import ConvNet, ConvSpec
from lttlib.speech.corpus import synthesise_corpus
from lttlib.speech.layout import read_corpus
from lttlib.training.loop import TrainingConfig, default_dtype_policy
from lttlib.training.objectives import ctc_objective

VOICES = 8  # of each corpus, however long


def measure(minutes, spec, features, folder, batch_size=8, cores=None) -> list:
    """Prepare and train on corpora of different length.

    Parameters
    ----------
    minutes : list of float
        Synthesised speech of each corpus, at least.
    spec : network.ConvSpec
    features : features.FeatureConfig
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
    facts = {
        "spec": asdict(spec),
        "features": features.to_json(),
        "batch_size": batch_size,
        "cores": cores,
    }
    rows = []
    for length in minutes:
        with temporary_folder(Path(folder) / "growth") as temporary:
            synthesise_corpus(temporary / "corpus", {"train": length}, {"train": VOICES})
            row = {}
            for step in (prepare, train):
                command = [
                    sys.executable,
                    __file__,
                    step.__name__,
                    str(temporary),
                    json.dumps(facts),
                ]
                ran = subprocess.run(command, capture_output=True, text=True)
                if ran.returncode:
                    raise RuntimeError(
                        f"{step.__name__} of {length} minutes stopped: {ran.stderr[-3000:]}"
                    )
                row |= json.loads(ran.stdout.splitlines()[-1])
        rows.append(row)
    return rows


def prepare(folder, features, cores=None, **_) -> dict:
    """Write the records of the corpus in a folder; tell its part of a row of `measure`."""
    utterances = read_corpus(folder / "corpus", "train")
    write_records(
        utterances[:4], folder / "some", FeatureConfig.from_json(features), cores=cores
    )  # the workers start
    started = time.perf_counter()
    told = write_records(
        utterances, folder / "records", FeatureConfig.from_json(features), cores=cores
    )
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in (folder / "records").glob("*.tfrecord"))
    with workers(cores) as pool:  # the same ones as before
        worker = max(pool([(peak_memory, (), {})] * 64)) if pool else 0
    found = {
        "minutes": 60 * told["hours"],
        "utterances": len(utterances),
        "bytes": size,
        "prepare_seconds": seconds,
    }
    return found | {"prepare_bytes": peak_memory() + worker}


def train(folder, spec, batch_size, **_) -> dict:
    """Train on the records in a folder; tell its part of a row of `measure`."""
    network = ConvNet(ConvSpec(**spec), dtype=default_dtype_policy())
    data, recipe = Records(folder / "records"), TrainingConfig(2, batch_size, clip_norm=5.0)
    first, second = training.train(network, ctc_objective, data, recipe, folder / "checkpoint")[
        "epochs"
    ]
    found = {"train_seconds": second["seconds"] - first["seconds"], "train_bytes": peak_memory()}
    started = time.perf_counter()
    for _ in data.batches(batch_size, seed=0):
        pass
    return found | {"read_seconds": time.perf_counter() - started}


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells includes the parent's before this program began
        return next(
            int(line.split()[1]) * 1024
            for line in status.read_text().splitlines()
            if "VmHWM" in line
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    os.environ["LTT_BATCH"] = "1"
    step, place, given = sys.argv[1:]
    print(json.dumps({"prepare": prepare, "train": train}[step](Path(place), **json.loads(given))))
