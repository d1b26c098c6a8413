"""How fast this is beside what else does the same work: `make bench`.

Every row is a ratio of two times, measured in turns in one run: a, b, a, b, ...; the medians count.
A ratio carries over to other machines far better than a time. What needs packages that the course
does not need runs in an interpreter of its own (`bench_rivals.py`; `make bench-env` makes it, or
LTT_BENCH_PYTHON names one); without it its rows are skipped.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib import metadata
from itertools import count
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of tensorflow
os.environ.setdefault("LTT_BATCH", "1")

import growth
import keras
import librosa
import numpy as np
import soundfile
import tensorflow as tf

from lttlib import training
from lttlib.course.report import map_in_processes
from lttlib.device import Recogniser
from lttlib.features import FeatureConfig, Records, extract, write_records
from lttlib.files import write_json
from lttlib.models import Model, convert
from lttlib.network import ConvNet, ConvSpec
from lttlib.recognition import LexiconBeamSearch, estimate_ngrams, write_arpa
from lttlib.speech import ALPHABET, read_corpus, synthesis, synthesise_corpus, text
from lttlib.training import (
    FusedAdam,
    TrainingConfig,
    ctc_objective,
    default_dtype_policy,
    spec_augment,
    with_feasible_labels,
)

REPOSITORY = Path(__file__).resolve().parents[2]
RIVALS = Path(__file__).with_name("bench_rivals.py")
CHANNELS, CLASSES = 39, len(ALPHABET) + 1
BATCH_SIZE, FRAMES, CHARACTERS = 16, 1000, 100
# Separable ones are the student and the teacher of AN4. Of the others, by their millions of
# weights, the last is wav2letter (Collobert et al. 2016). Filters, widths, strides.
SIZES = {
    "student": ([64] * 9 + [96], [7] + [11] * 8 + [1], [2, 2] + [1] * 8),
    "teacher": ([160] * 13 + [256], [7] + [11] * 12 + [1], [2, 2] + [1] * 12),
    "0.83 M": ([64] * 5 + [256] * 2, [48] + [7] * 4 + [32, 1], [2] + [1] * 6),
    "3.4 M": ([128] * 8 + [512] * 2, [48] + [7] * 7 + [32, 1], [2] + [1] * 9),
    "23.6 M": ([250] * 8 + [2000] * 2, [48] + [7] * 7 + [32, 1], [2] + [1] * 9),
}
SEPARABLE = ("student", "teacher")
ROUNDS = {"student": 15, "teacher": 7, "0.83 M": 7, "3.4 M": 5, "23.6 M": 2}
KERAS_TARGETS = {"student": 2.0, "teacher": 2.0, "0.83 M": 9.0}  # of the others it takes minutes
TORCH_TARGET, LIBROSA_TARGET, EPOCH_TARGET, JOBS_TARGET = 1.0, 3.0, 0.92, 1.6
DEPTHWISE_TARGET = 1.0  # times that of the convolution over the channels
LIMITS = {  # seconds
    "ltt --help": 0.15,
    "import lttlib.device": 0.4,
    "first text of a LiteRT file": 0.8,
    "features of 10 s, one thread": 0.0015,
    "features and int8 student, 10 s": 0.0025,
    "beam search, width 100, 3-gram, 10 s": 0.020,
}
PEAK_TARGETS = {"3.4 M": 0.60, "23.6 M": 0.85}
MATMUL_SIZE = 2048
GROWTH_MINUTES = [0.5, 1.5, 5.0]


class Skipped(Exception):
    """A row that cannot be measured here; the message says why."""


class Rival:
    """The other side in an interpreter of its own: a line of JSON is a question, one the answer."""

    def __init__(self):
        default = REPOSITORY / ".venv-bench" / "bin" / "python"
        python = Path(os.environ.get("LTT_BENCH_PYTHON", default))
        if not python.exists():
            raise Skipped(f"no interpreter {python}: make bench-env, or set LTT_BENCH_PYTHON")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([python, RIVALS], stdin=pipe, stdout=pipe, text=True)

    def ask(self, **question) -> dict:
        """Return the answer to a question; `Skipped` if there is none."""
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise Skipped("the other interpreter ended")
        answer = json.loads(line)
        if "failed" in answer:
            raise Skipped(answer["failed"])
        return answer

    def seconds(self) -> float:
        """Run once what was prepared, and return the time taken there."""
        return self.ask(run=True)["seconds"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def prepare_rival(stack, **question):
    """Return what runs the other side's work and its answer; or None, and why not."""
    try:
        rival = stack.enter_context(Rival())
        return rival.seconds, rival.ask(**question)
    except Skipped as reason:
        return None, str(reason)


def interleaved(rounds, calls, warm_up=2) -> dict:
    """Return the median seconds of each call, in turns, after some rounds to warm up.

    A call that returns a float has timed itself.
    """
    times = {name: [] for name in calls}
    for index in range(-warm_up, rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            result = call()
            seconds = time.perf_counter() - started
            if index >= 0:
                times[name].append(result if isinstance(result, float) else seconds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def ratio_row(name, ours, other, target=None, note="") -> dict:
    """Return a row of a ratio, other / ours: above 1 lttlib is faster."""
    ratio = other / ours
    return {
        "row": name,
        "ours": ours,
        "other": other,
        "ratio": ratio,
        "target": target,
        "reached": None if target is None else bool(ratio >= target),
        "note": note,
    }


def limit_row(name, seconds, note="") -> dict:
    """Return a row of seconds beside what they may be at most."""
    return ratio_row(name, seconds, LIMITS[name], target=1.0, note=f"other: the limit{note}")


def skipped_row(name, reason, target=None) -> dict:
    """Return a row that was not measured."""
    return {"row": name, "skipped": str(reason), "target": target}


def format_table(rows) -> str:
    """Return the rows as text, times in milliseconds."""
    lines = [["", "ours, ms", "other, ms", "ratio", "target", "reached", ""]]
    lines += [format_cells(row) for row in rows]
    *columns, _ = zip(*lines, strict=True)  # the notes need no width
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(align_cells(line, widths) for line in lines)


def format_cells(row):
    """Return the texts of a row's columns, the note last."""
    target = "" if row["target"] is None else f"{row['target']:g}"
    if "skipped" in row:
        return [row["row"], "", "", "", target, "", f"skipped: {row['skipped']}"]
    ours, other = milliseconds(row["ours"]), milliseconds(row["other"])
    reached = {None: "", True: "yes", False: "no"}[row["reached"]]
    return [row["row"], ours, other, f"{row['ratio']:.2f}", target, reached, row["note"]]


def milliseconds(seconds):
    return f"{1000 * seconds:,.4g}" if seconds < 10 else f"{1000 * seconds:,.0f}"


def align_cells(cells, widths):
    """Return a line: the name to the left, figures to the right, the note as it is."""
    name, *figures, note = cells
    aligned = [name.ljust(widths[0])]
    aligned += [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
    return "  ".join(aligned) + f"  {note}".rstrip()


def network_spec(size) -> ConvSpec:
    """Return one of `SIZES`, without dropout."""
    filters, widths, strides = SIZES[size]
    kind = {"conv": "separable_conv", "activation": "relu"} if size in SEPARABLE else {}
    return ConvSpec(filters, widths, strides, [0.0] * len(filters), **kind)


def our_step(network, config):
    """Return one step as `training.train` takes it: masks, losses, gradients, clipped Adam."""
    optimizer = FusedAdam(1e-3, global_clipnorm=config.clip_norm)
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch, seed):
        features = spec_augment(batch["features"], batch["feature_lengths"], seed, config)
        batch = batch | {"features": features}
        with tf.GradientTape() as tape:
            losses = ctc_objective(network, batch, training=True, seed=seed)["loss"]
            loss = tf.reduce_sum(losses) / config.batch_size
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply(gradients, network.trainable_variables)
        return tf.reduce_sum(losses)

    def run(batch):
        # float() waits for the end of the step, as the loop does.
        loss = float(step(batch, tf.constant([1, 2])))
        if not np.isfinite(loss):
            raise FloatingPointError(f"a loss of {loss}")

    return run


def keras_step(spec, batch):
    """Return the usual step: layers and loss of Keras in float32, its `train_on_batch`."""
    network = keras.Sequential([keras.Input((FRAMES, spec.input_channels))])
    sizes = zip(spec.filters, spec.widths, spec.strides, strict=True)
    for index, (filters, width, stride) in enumerate(sizes):
        separable = spec.is_separable(index)
        layer = keras.layers.SeparableConv1D if separable else keras.layers.Conv1D
        network.add(layer(filters, width, stride, padding="same"))
        network.add(keras.layers.BatchNormalization())
        network.add(keras.layers.Activation(spec.activation))
    network.add(keras.layers.Conv1D(spec.classes, 1))
    adam = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
    network.compile(adam, keras.losses.CTC(), jit_compile=False)
    features = batch["features"].numpy()
    labels = batch["labels"].numpy() + 1  # its blank is class 0

    def run():
        network.train_on_batch(features, labels)

    return run


def has_bfloat16() -> bool:
    """Return whether ordinary convolutions are computed in bfloat16 here."""
    return default_dtype_policy(network_spec("0.83 M")) == "mixed_bfloat16"


def matmul_step(random):
    """Return a multiplication of two matrices, by which a processor's peak is measured."""
    matrix = tf.constant(random.normal(size=(MATMUL_SIZE, MATMUL_SIZE)))
    matrix = tf.cast(matrix, tf.bfloat16 if has_bfloat16() else tf.float32)
    multiply = tf.function(lambda: tf.reduce_sum((matrix @ matrix)[:1]))
    return lambda: multiply().numpy()


def random_batch(random):
    """Return a batch of noise with labels of noise."""
    features = random.normal(size=(BATCH_SIZE, FRAMES, CHANNELS)).astype(np.float32)
    labels = random.integers(0, CLASSES - 1, (BATCH_SIZE, CHARACTERS))
    return {
        "features": tf.constant(features),
        "feature_lengths": tf.fill([BATCH_SIZE], FRAMES),
        "labels": tf.constant(labels, tf.int32),
        "label_lengths": tf.fill([BATCH_SIZE], CHARACTERS),
    }


def training_steps(folder, stack):
    """A training step beside Keras' own, PyTorch's, and what the processor can multiply at most."""
    random = np.random.default_rng(0)
    batch = random_batch(random)
    matmul = matmul_step(random)
    for size in SIZES:
        yield from training_step_rows(size, batch, matmul, stack)


def training_step_rows(size, batch, matmul, stack):
    """Measure a training step of a network of `SIZES`."""
    spec = network_spec(size)
    dtype = default_dtype_policy(spec)
    network = ConvNet(spec, dtype=dtype)
    step = our_step(network, TrainingConfig(epochs=1, batch_size=BATCH_SIZE))

    # PyTorch's, in each precision that the processor computes with: the faster one counts.
    rivals = {}
    for bfloat16 in sorted({False, has_bfloat16()}):
        torch_seconds, answer = prepare_rival(
            stack,
            work="step",
            filters=spec.filters,
            widths=spec.widths,
            strides=spec.strides,
            separable=size in SEPARABLE,
            bfloat16=bfloat16,
            batch=BATCH_SIZE,
            frames=FRAMES,
            characters=CHARACTERS,
        )
        if torch_seconds:
            rivals[answer["name"]] = torch_seconds

    # Ours, Keras', PyTorch's and a matrix multiplication, in turns.
    calls = {"ours": lambda: step(batch), "matmul": matmul} | rivals
    if size in KERAS_TARGETS:
        calls["keras"] = keras_step(spec, batch)
    times = interleaved(ROUNDS[size], calls, warm_up=1 if size == "23.6 M" else 2)
    ours = times["ours"]

    # Beside other frameworks.
    name = f"training step, {size} ({network.count_params():,} weights; {dtype})"
    if size in KERAS_TARGETS:
        target = KERAS_TARGETS[size]
        row_name = f"{name}: Keras' layers and CTC, float32"
        yield ratio_row(row_name, ours, times["keras"], target=target)
    if rivals:
        fastest = min(rivals, key=times.get)
        yield ratio_row(f"{name}: {fastest}", ours, times[fastest], target=TORCH_TARGET)
    else:
        yield skipped_row(f"{name}: PyTorch", answer, TORCH_TARGET)
    if size in SEPARABLE:
        yield depthwise_row(spec)
        return

    # Beside the time that its operations would take at the rate of a matrix multiplication.
    flops = BATCH_SIZE * growth.training_flops(spec, FRAMES)
    peak = 2 * MATMUL_SIZE**3 / times["matmul"]
    rates = f"{flops / 1e9:,.0f} GFLOP; matmul {peak / 1e9:,.0f} GFLOP/s"
    yield ratio_row(
        f"share of the peak, {size}",
        ours,
        flops / peak,
        target=PEAK_TARGETS.get(size),
        note=f"{rates}; other: at that rate",
    )


def depthwise_row(spec):
    """Forward and gradient of a separable layer's convolution over time, beside the other one."""
    width, channels = spec.widths[2], spec.filters[2]
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(BATCH_SIZE, FRAMES // 4, channels)), tf.float32)
    kernels = {
        "depthwise": tf.Variable(random.normal(size=(1, width, channels, 1)), dtype=tf.float32),
        "pointwise": tf.Variable(random.normal(size=(1, channels, channels)), dtype=tf.float32),
    }
    convolutions = {
        "depthwise": lambda x, kernel: tf.nn.depthwise_conv2d(
            x[:, None], kernel, [1, 1, 1, 1], "SAME"
        ),
        "pointwise": lambda x, kernel: tf.nn.conv1d(x, kernel, 1, "SAME"),
    }

    def measured(name):
        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(convolutions[name](x, kernels[name]))
            return tape.gradient(total, [x, kernels[name]])

        return lambda: [gradient.numpy() for gradient in gradients()]

    times = interleaved(25, {name: measured(name) for name in kernels})
    name = f"width {width}, {channels} channels: depthwise beside pointwise, float32"
    return ratio_row(name, times["depthwise"], times["pointwise"], target=DEPTHWISE_TARGET)


def feature_preparation(folder, stack):
    """Records of a split with two processes beside librosa, one file after the other."""
    # Speech, and the rates at which it is measured.
    root = corpus_root(folder)
    utterances = read_corpus(root, "train")[:600]
    corpus_rate = soundfile.info(utterances[0].audio).samplerate
    # Our sampling rate, librosa's. The last one is what librosa.load resamples to by default.
    rates = [(corpus_rate, corpus_rate)]
    if corpus_rate != 16000:
        rates.append((16000, 16000))
    rates.append((corpus_rate, 22050))

    # Both sides at each of them.
    numbers = count()
    for rate, librosa_rate in rates:
        config = FeatureConfig(sampling_rate=rate)

        def ours(config=config):
            write_records(utterances, folder / "features" / str(next(numbers)), config, cores=2)

        def other(config=config, librosa_rate=librosa_rate):
            for utterance in utterances:
                librosa_features(utterance.audio, librosa_rate, config)

        times = interleaved(3, {"ours": ours, "other": other})
        files = f"{len(utterances)} files of {root.name}"
        yield ratio_row(
            f"features at {rate} Hz, 2 processes: librosa at {librosa_rate}",
            times["ours"],
            times["other"],
            target=LIBROSA_TARGET,
            note=f"{files}; ours also checks, normalises and writes records",
        )


def corpus_root(folder):
    """Return the folder of real spoken digits, or of speech that is synthesised there."""
    corpora = os.environ.get("LTT_CORPORA")
    if corpora:
        return Path(corpora) / "SpokenDigits"
    return synthesise_corpus(folder / "speech", {"train": 20.0}, {"train": 20})


def librosa_features(path, rate, config):
    """Return MFCCs and their slopes as librosa computes them."""
    wave, rate = librosa.load(path, sr=rate)
    mfccs = librosa.feature.mfcc(
        y=wave,
        sr=rate,
        n_mfcc=config.n_mfcc,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
    )
    slopes = [librosa.feature.delta(mfccs, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([mfccs, *slopes])


def search(folder, stack):
    """Beam search with a word 3-gram beside pyctcdecode, on the same logits."""
    # A language model of 2000 sentences, and logits of the first 20.
    random = np.random.default_rng(0)
    sentences = [text.normalise(synthesis.sample_sentence("train", random)) for _ in range(2000)]
    arpa = folder / "words.arpa"
    write_arpa(arpa, estimate_ngrams(sentences))
    references = sentences[:20]
    logits = [spoken_logits(reference, random) for reference in references]
    lengths = [len(utterance) for utterance in logits]
    np.savez(folder / "logits.npz", *logits)

    # Sentences of 10 s together: of the network's 40 ms a frame, 250.
    decoder = LexiconBeamSearch(arpa, beam_width=100)
    ten_seconds = np.concatenate(logits)[:250]
    times = interleaved(9, {"ours": lambda: decoder([ten_seconds], [len(ten_seconds)])})
    yield limit_row("beam search, width 100, 3-gram, 10 s", times["ours"])

    # Both sides get the same files and weights.
    words, _ = decoder.words()
    seconds, answer = prepare_rival(
        stack,
        work="search",
        logits=str(folder / "logits.npz"),
        arpa=str(arpa),
        words=sorted(words),
        alphabet=ALPHABET,
        beam_width=decoder.beam_width,
        lm_weight=decoder.lm_weight,
        word_score=decoder.word_score,
        threshold=decoder.beam_threshold,
    )
    search_name = f"beam search, width {decoder.beam_width}, 3-gram"
    name = f"{search_name}, {len(logits)} utterances: pyctcdecode"
    if not seconds:
        yield skipped_row(name, answer)
        return

    # Their times, and how well they do.
    times = interleaved(3, {"ours": lambda: decoder(logits, lengths), "other": seconds})
    ours, theirs = decoder(logits, lengths), answer["texts"]
    right = (
        f"right: ours {agreement(ours, references):.0%}, theirs {agreement(theirs, references):.0%}"
    )
    note = f"{agreement(ours, theirs):.0%} of the texts alike; {right}"
    yield ratio_row(name, times["ours"], times["other"], note=note)


def spoken_logits(sentence, random):
    """Return logits as peaky as a trained network's: two frames per character, then a blank."""
    blank = CLASSES - 1
    path = np.ravel([[label, label, blank] for label in text.encode(sentence)])
    noise = random.normal(size=(len(path), CLASSES))
    return (6 * np.eye(CLASSES)[path] + noise).astype(np.float32)


def agreement(texts, others):
    """Return the share of texts that are equal."""
    return np.mean([ours == theirs for ours, theirs in zip(texts, others, strict=True)])


def inference(folder, stack):
    """LiteRT beside onnxruntime: the small network, 10 s of speech, one thread."""
    # A network, and speech to quantize and to measure it with.
    model = Model(ConvNet(network_spec("0.83 M")), FeatureConfig())
    random = np.random.default_rng(0)
    waves = [random.normal(size=160_000).astype(np.float32) / 10 for _ in range(4)]
    features = extract(waves[0], model.feature_config)

    # The student of AN4, on a device.
    student = Model(ConvNet(network_spec("student")), FeatureConfig())
    convert(student, folder / "student.tflite", "int8", waves)
    student_recogniser = Recogniser(folder / "student.tflite")

    def hear():
        student_recogniser.logits([extract(waves[0], student.feature_config)])

    calls = {"features": lambda: extract(waves[0], student.feature_config), "both": hear}
    times = interleaved(25, calls)
    yield limit_row("features of 10 s, one thread", times["features"])
    yield limit_row("features and int8 student, 10 s", times["both"])

    # Each form in both libraries.
    for form in ("float32", "int8"):
        path = folder / f"{form}.tflite"
        size = convert(model, path, form, waves)
        recogniser = Recogniser(path)
        seconds, answer = prepare_rival(
            stack,
            work="inference",
            form=form,
            folder=str(folder),
            frames=len(features),
            filters=model.network.spec.filters,
            widths=model.network.spec.widths,
            strides=model.network.spec.strides,
        )
        name = f"0.83 M on 10 s, one thread, {form}: onnxruntime"
        if not seconds:
            yield skipped_row(name, answer)
            continue

        def ours(recogniser=recogniser):
            recogniser.logits([features])

        times = interleaved(25, {"ours": ours, "other": seconds})
        note = f"files: {size / 1e3:.0f} and {answer['bytes'] / 1e3:.0f} kB"
        yield ratio_row(name, times["ours"], times["other"], note=note)


def whole_training(folder, stack):
    """An epoch of `training.train` on records beside the bare steps, its batches at hand."""
    # Records, and their batches in memory.
    root = synthesise_corpus(folder / "sentences", {"train": 12.0}, {"train": 20})
    write_records(read_corpus(root, "train"), folder / "records", FeatureConfig())
    records = Records(folder / "records")
    config = TrainingConfig(epochs=5)
    spec = network_spec("0.83 M")
    dtype = default_dtype_policy(spec)
    chosen = with_feasible_labels(records, spec)
    batches = list(chosen.batches(config.batch_size, 0))

    # Both train a network of their own; the bare steps take their turn after each epoch.
    step = our_step(ConvNet(spec, dtype=dtype), config)
    bare_seconds = []

    def run_bare_steps(network, epoch):
        started = time.perf_counter()
        for batch in batches:
            step(batch)
        bare_seconds.append(time.perf_counter() - started)

    history = training.train(
        ConvNet(spec, dtype=dtype),
        ctc_objective,
        records,
        config,
        checkpoint=folder / "checkpoint",
        on_epoch_end=run_bare_steps,
    )

    # Medians without the first epoch, which traces.
    epoch_ends = [epoch["seconds"] for epoch in history["epochs"]]
    epoch_seconds = statistics.median(np.diff(epoch_ends))
    frames = sum(entry.frames for entry in chosen.entries)
    speech_seconds = frames * records.feature_config.frame_period_ms / 1000
    rate = f"{speech_seconds / epoch_seconds:,.0f} s of speech per second"
    yield ratio_row(
        "an epoch of training.train, 0.83 M: its bare steps",
        epoch_seconds,
        statistics.median(bare_seconds[1:]),
        target=EPOCH_TARGET,
        note=f"{rate}; {len(chosen.entries)} utterances, {len(batches)} steps per epoch",
    )


def start_up(folder, stack):
    """How long one waits for the command, and for the first text on a device."""
    model = Model(ConvNet(network_spec("student")), FeatureConfig())
    random = np.random.default_rng(0)
    wave = random.normal(size=16_000).astype(np.float32) / 10
    convert(model, folder / "student.tflite", "int8", [wave])
    soundfile.write(folder / "wave.wav", wave, 16_000)
    first_text = f"""
from lttlib.device import Recogniser
from lttlib.recognition import transcribe
transcribe(Recogniser({str(folder / "student.tflite")!r}), {str(folder / "wave.wav")!r})
"""
    commands = {
        "ltt --help": ["-m", "lttlib.cli", "--help"],
        "import lttlib.device": ["-c", "import lttlib.device"],
        "first text of a LiteRT file": ["-c", first_text],
    }

    def run(name):
        command = [sys.executable, *commands[name]]
        return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    for name, seconds in interleaved(5, {name: run(name) for name in commands}).items():
        yield limit_row(name, seconds)


def several_at_once(folder, stack):
    """Two trainings side by side, a thread each, beside one after the other with all threads."""
    command = [sys.executable, __file__, "--steps", "150"]

    def train(_):
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    apart = map_in_processes(train, range(2), 1)
    together = map_in_processes(train, range(2), 2)
    yield ratio_row(
        "two trainings of the student at once: one after the other",
        max(together),
        sum(apart),
        target=JOBS_TARGET,
        note="150 steps each",
    )


def print_seconds_of_steps(steps):
    """Print how long so many steps of the student take, after ten to warm up."""
    spec = network_spec("student")
    network = ConvNet(spec, dtype=default_dtype_policy(spec))
    step = our_step(network, TrainingConfig(epochs=1, batch_size=BATCH_SIZE))
    batch = random_batch(np.random.default_rng(0))
    for _ in range(10):
        step(batch)
    started = time.perf_counter()
    for _ in range(steps):
        step(batch)
    print(time.perf_counter() - started)


def corpus_growth(folder, stack):
    """Records and an epoch per minute of speech, of longer corpora beside the shortest one."""
    spec = network_spec("0.83 M")
    shortest, *others = growth.measure(GROWTH_MINUTES, spec, FeatureConfig(), folder)
    for measurement in others:
        for step in ("prepare", "train"):
            yield growth_row(step, measurement, shortest)


def growth_row(step, measurement, shortest):
    """Return the ratio of seconds per minute of speech: 1 where time grows with the corpus."""
    minutes, least_minutes = measurement["minutes"], shortest["minutes"]
    memory = measurement[f"{step}_bytes"] / 1e6
    least_memory = shortest[f"{step}_bytes"] / 1e6
    return ratio_row(
        f"{step} {minutes:.1f} minutes of speech, per minute: {least_minutes:.1f} minutes",
        measurement[f"{step}_seconds"] / minutes,
        shortest[f"{step}_seconds"] / least_minutes,
        note=f"peak of memory: {memory:,.0f} and {least_memory:,.0f} MB",
    )


PARTS = {
    "features": feature_preparation,
    "step": training_steps,
    "search": search,
    "inference": inference,
    "training": whole_training,
    "jobs": several_at_once,
    "start": start_up,
    "growth": corpus_growth,
}
PACKAGES = (
    "keras",
    "librosa",
    "numpy",
    "numba",
    "flashlight-text",
    "ai-edge-litert",
)


def describe_machine() -> dict:
    """Return what the figures are measured on and with."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {"tensorflow": tf.__version__} | versions,
        "commit": commit(),
        "date": date.today().isoformat(),
        "rivals": rival_versions(),
    }


def commit():
    """Return the commit that is measured, with a + if files are other than there; or None."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+", "--abbrev=7"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(command, capture_output=True, text=True)
        return answer.stdout.strip() or None


def processor_name():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if "model name" in line:
                return line.partition(":")[2].strip()
    return platform.processor()


def rival_versions():
    """Return the versions of the other side's packages, or why there are none."""
    try:
        with Rival() as rival:
            return rival.ask(work="versions")
    except Skipped as reason:
        return str(reason)


def measure(parts, path) -> list:
    """Run the parts, print their rows as they come, then their table; write it all to a file."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in parts:
            with contextlib.ExitStack() as stack:
                for row in PARTS[name](Path(folder), stack):
                    rows.append(row)
                    _, line = format_table([row]).split("\n")
                    print(line, flush=True)
    machine = describe_machine()
    write_json(path, {"machine": machine, "rows": rows})
    hardware = f"{machine['cpu']}, {machine['cores']} cores"
    print(f"\n{hardware}, {machine['versions']}, {machine['rivals']}")
    print(f"\n{format_table(rows)}\n\n{path}")
    return rows


def main():
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="one part; may stand several times"
    )
    default = REPOSITORY / "data" / "bench.json"
    parser.add_argument("--out", type=Path, default=default, help="file (%(default)s)")
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps:
        print_seconds_of_steps(arguments.steps)
        return
    measure(arguments.only or list(PARTS), arguments.out)


if __name__ == "__main__":
    main()
