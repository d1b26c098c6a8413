"""How fast this is beside what else does the same work: `make bench`.

Every row is a ratio of two times, measured in turns in one run: a, b, a, b, ...; the medians count. A ratio carries
over to other machines far better than a time. What needs packages that the course does not runs in an interpreter of
its own (`bench_rivals.py`; `make bench-env` makes it, or LTT_BENCH_PYTHON names one); without it its rows are skipped.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from datetime import date
from importlib import metadata
from itertools import count
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of tensorflow
os.environ.setdefault("LTT_BATCH", "1")

import keras
import librosa
import numpy as np
import soundfile
import tensorflow as tf

from lttlib import training
from lttlib.device import Recogniser
from lttlib.features import FeatureConfig, Records, extract, write_records
from lttlib.files import write_json
from lttlib.models import Model, convert
from lttlib.network import ConvNet, ConvSpec, training_flops
from lttlib.recognition import LexiconBeamSearch, estimate_ngrams, write_arpa
from lttlib.speech import read_corpus, synthesis, synthesise_corpus, text
from lttlib.training import (
    TrainingConfig,
    ctc_objective,
    default_dtype_policy,
    spec_augment,
    with_feasible_labels,
)

HOME = Path(__file__).resolve().parents[2]
BATCH, FRAMES, CHARACTERS = 16, 1000, 100
# Millions of weights: filters and widths. The last is wav2letter, the teacher of Collobert et al. 2016.
SIZES = {
    "0.83 M": ([64] * 5 + [256] * 2, [48] + [7] * 4 + [32, 1]),
    "3.4 M": ([128] * 8 + [512] * 2, [48] + [7] * 7 + [32, 1]),
    "23.6 M": ([250] * 8 + [2000] * 2, [48] + [7] * 7 + [32, 1]),
}
ROUNDS = {"0.83 M": 9, "3.4 M": 7, "23.6 M": 3}
STOCK = 9.0
PEAK = {"3.4 M": 0.60, "23.6 M": 0.85}
MATMUL = 2048


class Skipped(Exception):
    """A row that cannot be measured here; the message says why."""


class Rival:
    """The other side in an interpreter of its own: a line of JSON to it is a question, one from it the answer."""

    def __init__(self):
        python = Path(os.environ.get("LTT_BENCH_PYTHON", HOME / ".venv-bench" / "bin" / "python"))
        if not python.exists():
            raise Skipped(f"no interpreter {python}: make bench-env, or set LTT_BENCH_PYTHON")
        command = [python, HOME / "tests" / "bench" / "bench_rivals.py"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **question) -> dict:
        """The answer to a question; `Skipped` if there is none."""
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = json.loads(
            self.process.stdout.readline() or '{"failed": "the other interpreter ended"}'
        )
        if "failed" in answer:
            raise Skipped(answer["failed"])
        return answer

    def seconds(self) -> float:
        """One run of what was prepared, timed over there."""
        return self.ask(run=True)["seconds"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def prepared(stack, **question):
    """What runs the other side's work and gives its seconds, and its answer; or None, and why not."""
    try:
        rival = stack.enter_context(Rival())
        return rival.seconds, rival.ask(**question)
    except Skipped as reason:
        return None, str(reason)


def interleaved(rounds, calls) -> dict:
    """Median seconds of each call; one that returns a float has timed itself. Two rounds more before, to warm up."""
    taken = {name: [] for name in calls}
    for number in range(-2, rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            told = call()
            seconds = told if isinstance(told, float) else time.perf_counter() - started
            if number >= 0:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def row(name, ours, other, target=None, note="") -> dict:
    """A ratio, other / ours: above 1 we are faster."""
    ratio = other / ours
    reached = None if target is None else bool(ratio >= target)
    return {"row": name, "ours": ours, "other": other, "ratio": ratio, "target": target, "reached": reached,
            "note": note}  # fmt: skip


def skipped(name, reason, target=None) -> dict:
    """A row that was not measured."""
    return {"row": name, "skipped": str(reason), "target": target}


def table(rows) -> str:
    """The rows for a person, times in milliseconds."""
    lines = [["", "ours, ms", "other, ms", "ratio", "target", "reached", ""]]
    for one in rows:
        target = "" if one["target"] is None else f"{one['target']:g}"
        if "skipped" in one:
            lines.append([one["row"], "", "", "", target, "", f"skipped: {one['skipped']}"])
            continue
        reached = {None: "", True: "yes", False: "no"}[one["reached"]]
        times = [
            f"{1000 * one[side]:,.4g}" if one[side] < 10 else f"{1000 * one[side]:,.0f}"
            for side in ("ours", "other")
        ]
        lines.append([one["row"], *times, f"{one['ratio']:.2f}", target, reached, one["note"]])
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line[:6], widths, strict=True))
        )
        + f"  {line[6]}".rstrip()
        for line in lines
    )


def network_spec(size) -> ConvSpec:
    """One of `SIZES`: stride 2 in the first layer, batch norm, ELU, no dropout."""
    filters, widths = SIZES[size]
    return ConvSpec(filters, widths, [2] + [1] * (len(filters) - 1), [0.0] * len(filters))


def our_step(network, recipe):
    """One step as `training.train` makes it: masks, losses, gradients, the clipped step of Adam."""
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=recipe.clip_norm)
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(batch, seed):
        batch = batch | {
            "features": spec_augment(batch["features"], batch["feature_lengths"], seed, recipe)
        }
        with tf.GradientTape() as tape:
            losses = ctc_objective(network, batch, training=True, seed=seed)["loss"]
            loss = tf.reduce_sum(losses) / recipe.batch_size
        optimizer.apply(
            tape.gradient(loss, network.trainable_variables), network.trainable_variables
        )
        return tf.reduce_sum(losses)

    def run(batch):
        loss = float(
            step(batch, tf.constant([1, 2]))
        )  # waits for the end of the step, as the loop does
        if not np.isfinite(loss):
            raise FloatingPointError(f"a loss of {loss}")

    return run


def stock_step(spec, batch):
    """The usual recipe: layers and loss of Keras in float32, its `train_on_batch`."""
    network = keras.Sequential([keras.Input((FRAMES, spec.input_channels))])
    for filters, width, stride in zip(spec.filters, spec.widths, spec.strides, strict=True):
        network.add(keras.layers.Conv1D(filters, width, stride, padding="same"))
        network.add(keras.layers.BatchNormalization())
        network.add(keras.layers.Activation(spec.activation))
    network.add(keras.layers.Conv1D(spec.classes, 1))
    network.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=1.0), keras.losses.CTC(), jit_compile=False
    )
    x, labels = batch["features"].numpy(), batch["labels"].numpy() + 1  # its blank is class 0
    return lambda: bool(network.train_on_batch(x, labels))  # not a float, which would be a time


def training_steps(folder, stack):
    """A training step beside Keras' own recipe, PyTorch, and what the processor can multiply at most."""
    random = np.random.default_rng(0)
    batch = {
        "features": tf.constant(random.normal(size=(BATCH, FRAMES, 39)).astype(np.float32)),
        "feature_lengths": tf.fill([BATCH], FRAMES),
        "labels": tf.constant(random.integers(0, 28, (BATCH, CHARACTERS)), tf.int32),
        "label_lengths": tf.fill([BATCH], CHARACTERS),
    }
    matrix = tf.cast(tf.constant(random.normal(size=(MATMUL, MATMUL))), tf.bfloat16)
    multiply = tf.function(lambda: tf.reduce_sum((matrix @ matrix)[:1]))
    precision = default_dtype_policy()
    for size in SIZES:
        spec = network_spec(size)
        network = ConvNet(spec, dtype=precision)
        step = our_step(network, TrainingConfig(epochs=1, batch_size=BATCH))
        question = {"work": "step", "filters": spec.filters, "widths": spec.widths, "strides": spec.strides,
                    "batch": BATCH, "frames": FRAMES, "characters": CHARACTERS}  # fmt: skip
        rival, why_not = prepared(stack, **question)
        calls = {"ours": lambda step=step: step(batch), "matmul": lambda: multiply().numpy()}
        calls |= {"stock": stock_step(spec, batch)} | ({"torch": rival} if rival else {})
        taken = interleaved(ROUNDS[size], calls)
        name = f"training step, {size} ({network.count_params():,} weights; {precision})"
        yield row(f"{name}: Keras' layers and CTC, float32", taken["ours"], taken["stock"], STOCK)
        if rival:
            yield row(f"{name}: {why_not['told']}", taken["ours"], taken["torch"], 1.0)
        else:
            yield skipped(f"{name}: PyTorch", why_not, 1.0)
        work, peak = BATCH * training_flops(spec, FRAMES), 2 * MATMUL**3 / taken["matmul"]
        least, note = (
            work / peak,
            f"{work / 1e9:,.0f} GFLOP; matmul {peak / 1e9:,.0f} GFLOP/s; other: at that rate",
        )
        yield row(f"share of the peak, {size}", taken["ours"], least, PEAK.get(size), note)


def feature_preparation(folder, stack):
    """Records of a split with two processes beside librosa, one file after the other."""
    root, minutes = os.environ.get("LTT_CORPORA"), {"train": 20.0}
    root = (
        Path(root) / "SpokenDigits"
        if root
        else synthesise_corpus(folder / "speech", minutes, {"train": 20})
    )
    heard = read_corpus(root, "train")[:600]
    own, number = soundfile.info(heard[0].audio).samplerate, count()
    default = {"sr": 22050}  # what librosa.load resamples to unless told not to
    for rate, theirs in {own: {"sr": own}, 16000: {"sr": 16000}, f"{own}": default}.items():
        wanted = FeatureConfig(sampling_rate=int(rate))

        def ours(wanted=wanted):
            write_records(heard, folder / "features" / str(next(number)), wanted, cores=2)

        def other(wanted=wanted, theirs=theirs):
            for utterance in heard:
                wave, rate = librosa.load(utterance.audio, **theirs)
                values = librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=wanted.n_mfcc, n_fft=wanted.n_fft,
                                              hop_length=wanted.hop_length, n_mels=wanted.n_mels)  # fmt: skip
                slopes = [
                    librosa.feature.delta(values, order=order, mode="nearest") for order in (1, 2)
                ]
                np.concatenate([values, *slopes])

        taken = interleaved(3, {"ours": ours, "other": other})
        note = f"{len(heard)} files of {root.name}; ours also checks, normalises and writes records"
        yield row(
            f"features at {rate} Hz, 2 processes: librosa at {theirs['sr']}",
            taken["ours"],
            taken["other"],
            3.0,
            note,
        )


def search(folder, stack):
    """Beam search with a word 3-gram beside pyctcdecode, on the same logits."""
    random = np.random.default_rng(0)
    spoken = [text.normalise(synthesis.sample_sentence("train", random)) for _ in range(2000)]
    arpa, logits_file = folder / "words.arpa", folder / "logits.npz"
    write_arpa(arpa, estimate_ngrams(spoken))
    logits = []
    for sentence in spoken[
        :20
    ]:  # as peaky as a trained network: two frames a character, then a blank
        path = np.ravel([[label, label, 28] for label in text.encode(sentence)])
        logits.append(
            (6 * np.eye(29)[path] + random.normal(size=(len(path), 29))).astype(np.float32)
        )
    np.savez(logits_file, *logits)
    decoder = LexiconBeamSearch(arpa, beam_width=100)
    lengths, texts = [len(one) for one in logits], []
    name = f"beam search, width {decoder.beam_width}, 3-gram, {len(logits)} utterances: pyctcdecode"
    words = sorted(decoder.words()[0])
    rival, answer = prepared(stack, work="search", logits=str(logits_file), arpa=str(arpa), words=words,
                             alphabet=text.ALPHABET, beam_width=decoder.beam_width, lm_weight=decoder.lm_weight,
                             word_score=decoder.word_score, threshold=decoder.beam_threshold)  # fmt: skip
    if not rival:
        yield skipped(name, answer)
        return
    taken = interleaved(3, {"ours": lambda: texts.append(decoder(logits, lengths)), "other": rival})
    same = np.mean(
        [ours == theirs for ours, theirs in zip(texts[-1], answer["texts"], strict=True)]
    )
    right = [
        np.mean([a == b for a, b in zip(found, spoken, strict=False)])
        for found in (texts[-1], answer["texts"])
    ]
    note = f"{same:.0%} of the texts alike; right: ours {right[0]:.0%}, theirs {right[1]:.0%}"
    yield row(name, taken["ours"], taken["other"], note=note)


def inference(folder, stack):
    """LiteRT beside onnxruntime: the small network, 10 s of speech, one thread."""
    model = Model(ConvNet(network_spec("0.83 M")), FeatureConfig())
    random = np.random.default_rng(0)
    waves = [random.normal(size=160_000).astype(np.float32) / 10 for _ in range(4)]
    values = extract(waves[0], model.feature_config)
    for form in ("float32", "int8"):
        name = f"0.83 M on 10 s, one thread, {form}: onnxruntime"
        path = folder / f"{form}.tflite"
        size = convert(model, path, form, waves)
        recogniser = Recogniser(path)
        rival, answer = prepared(stack, work="inference", form=form, folder=str(folder), frames=len(values),
                                 filters=model.network.spec.filters, widths=model.network.spec.widths,
                                 strides=model.network.spec.strides)  # fmt: skip
        if not rival:
            yield skipped(name, answer)
            continue
        taken = interleaved(
            25, {"ours": lambda used=recogniser: used.logits([values]), "other": rival}
        )
        yield row(
            name,
            taken["ours"],
            taken["other"],
            note=f"files: {size / 1e3:.0f} and {answer['bytes'] / 1e3:.0f} kB",
        )


def whole_training(folder, stack):
    """An epoch of `training.train` on records beside the bare steps, its batches at hand."""
    root = synthesise_corpus(folder / "sentences", {"train": 12.0}, {"train": 20})
    write_records(read_corpus(root, "train"), folder / "records", FeatureConfig())
    data, recipe = Records(folder / "records"), TrainingConfig(epochs=5)
    spec, precision = network_spec("0.83 M"), default_dtype_policy()
    chosen = with_feasible_labels(data, spec)
    seconds = (
        sum(entry.frames for entry in chosen.entries) * data.feature_config.frame_period_ms / 1000
    )
    batches = list(chosen.batches(recipe.batch_size, 0))
    step, bare = our_step(ConvNet(spec, dtype=precision), recipe), []

    def monitor(network, epoch):
        started = time.perf_counter()
        for batch in batches:
            step(batch)
        bare.append(time.perf_counter() - started)

    told = training.train(ConvNet(spec, dtype=precision), ctc_objective, data, recipe,
                          folder / "checkpoint", monitor)  # fmt: skip
    ends = [epoch["seconds"] for epoch in told["epochs"]]
    loop = statistics.median(np.diff(ends))  # without the first epoch, which traces
    note = f"{seconds / loop:,.0f} s of speech a second; {len(chosen.entries)} utterances, {len(batches)} steps an epoch"
    yield row(
        "an epoch of training.train, 0.83 M: its bare steps",
        loop,
        statistics.median(bare[1:]),
        note=note,
    )


PARTS = {"features": feature_preparation, "step": training_steps, "search": search, "inference": inference,
         "training": whole_training}  # fmt: skip


def machine() -> dict:
    """What the figures were measured on and with."""
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    cpu = found[0].partition(":")[2].strip() if found else platform.processor()
    packages = (
        "tensorflow",
        "keras",
        "librosa",
        "numpy",
        "numba",
        "flashlight-text",
        "ai-edge-litert",
    )
    versions = {name: metadata.version(name) for name in packages}
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions,
            "date": date.today().isoformat()}  # fmt: skip


def measure(parts, out) -> list:
    """Run the parts, print their table, write it all to a file."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in parts:
            with contextlib.ExitStack() as stack:
                for one in PARTS[name](Path(folder), stack):
                    rows.append(one)
                    print(table([one]).split("\n")[1], flush=True)
    about = machine()
    try:
        with Rival() as rival:
            about["rivals"] = rival.ask(work="versions")
    except Skipped as reason:
        about["rivals"] = str(reason)
    write_json(out, {"machine": about, "rows": rows})
    print(
        f"\n{about['cpu']}, {about['cores']} cores, {about['versions']}, {about['rivals']}\n\n{table(rows)}\n\n{out}"
    )
    return rows


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument(
        "--only", choices=PARTS, action="append", help="one part; may stand several times"
    )
    arguments.add_argument(
        "--out", type=Path, default=HOME / "data" / "bench.json", help="file (%(default)s)"
    )
    chosen = arguments.parse_args()
    measure(chosen.only or list(PARTS), chosen.out)
