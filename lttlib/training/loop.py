"""One short loop that trains a network for any objective, on what the machine has, and resumes exactly.

What an objective is stands in `objectives`. It is a function of a module, or a frozen dataclass where it has
parameters: a checkpoint tells by its name or its fields whether it is the same.
"""

import hashlib
import inspect
import json
import os
import time
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy
import tensorflow as tf
from safetensors import safe_open

from lttlib.devices import leads
from lttlib.files import progress, whole
from lttlib.models import output_lengths
from lttlib.records import mix_seeds

CHECKPOINT_SECONDS = 600
PLAIN = (bool, int, float, str)  # kinds of parameters of an objective that a checkpoint can tell


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    epochs, batch_size : int
    learning_rate : float
        Highest rate of Adam: reached after `warmup` of all steps, then lowered to 0 along a cosine.
    warmup : float
        Share of the steps.
    clip : float
        Largest norm of the gradient of all weights together.
    time_masks, time_mask_width : int
        Stretches of an utterance that are set to 0 in each batch, and the frames of the longest (SpecAugment, Park et
        al. 2019).
    channel_masks, channel_mask_width : int
        The same across the channels of the features.
    seed : int
        Decides the order of the data, the masks and dropout.
    """

    epochs: int
    batch_size: int = 16
    learning_rate: float = 2e-3
    warmup: float = 0.1
    clip: float = 1.0
    time_masks: int = 0
    time_mask_width: int = 30
    channel_masks: int = 0
    channel_mask_width: int = 5
    seed: int = 0


def precision() -> str:
    """The fastest sound precision here: "mixed_bfloat16" where the processor computes with it, else "float32"."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "float32"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def mask(features, feature_lengths, seed, recipe):
    """Set random stretches of time and of channels to 0, which is each channel's mean (SpecAugment).

    Parameters
    ----------
    features : float tensor [batch, time, channels]
    feature_lengths : int tensor [batch]
    seed : int tensor [2]
    recipe : Recipe
        How many masks, and how wide at most. A stretch of time covers at most a fifth of its utterance.

    Returns
    -------
    float tensor of the same shape.
    """
    time, channels = tf.shape(features)[1], features.shape[2]
    lengths = tf.cast(feature_lengths, tf.float32)
    widest = tf.minimum(float(recipe.time_mask_width), lengths / 5)
    kept = _outside(recipe.time_masks, lengths, widest, time, seed + [1, 0])[:, :, None]
    every, widest = (tf.fill(tf.shape(lengths), float(size)) for size in (channels, recipe.channel_mask_width))
    return features * kept * _outside(recipe.channel_masks, every, widest, channels, seed + [2, 0])[:, None, :]


def _outside(masks, lengths, widest, size, seed):
    """1 where none of the random stretches lies, else 0: [batch, size]."""
    if not masks:
        return tf.ones([tf.shape(lengths)[0], size])
    width, start = tf.unstack(tf.random.stateless_uniform([2, tf.shape(lengths)[0], masks, 1], seed))
    width *= widest[:, None, None]
    start *= lengths[:, None, None] - width
    position = tf.range(tf.cast(size, tf.float32))
    return 1 - tf.reduce_max(tf.cast((position >= start) & (position < start + width), tf.float32), axis=1)


def fitting(records, spec):
    """Those of the records whose labels fit the output frames of a network: CTC has no finite loss for the others."""
    return records.where(lambda entry: output_lengths(spec, entry.frames) >= entry.needed)


def train(network, objective, records, recipe, checkpoint, monitor=None) -> dict:
    """Train a network, or go on where a killed run of the same stopped.

    The order of the data, the masks and dropout are functions of seed, epoch and step, so a run that was killed and
    started again ends with the weights of one that was left alone, bit for bit.

    Parameters
    ----------
    network : models.ConvNet
        Made under the scope of `devices.strategy()` where there are several devices, as this is called.
    objective : function
        Called with (network, batch, seed), as those of `objectives` are.
    records : records.Records
        Utterances whose labels do not fit the network's frames are left out and listed in the result.
    recipe : Recipe
    checkpoint : path-like
        A file, which several processes share; written after each epoch, and every ten minutes. The one before it stays
        as `<checkpoint>.previous`, from which it goes on if this one is damaged.
    monitor : function, optional
        Called after each epoch with (network, epoch); returns numbers to note (a dict, or None).

    Returns
    -------
    dict with epochs (a list of dicts: epoch, seconds, the mean of each loss, what `monitor` noted), seconds (of
    training, without monitor), left_out (list of ids).

    Raises
    ------
    FloatingPointError
        If a loss is not finite; the last checkpoint, in which all was, is kept.
    ValueError
        If the objective hides its parameters in a function within a function, stored guidance would be masked, or
        records or guidance are damaged.
    """
    spec, strategy = network.spec, tf.distribute.get_strategy()
    learnable = fitting(records, spec)
    chosen = {entry.id for entry in learnable.entries}
    left_out = [entry.id for entry in records.entries if entry.id not in chosen]
    steps = learnable.steps(recipe.batch_size)
    total = steps * recipe.epochs
    warmup = max(1, round(recipe.warmup * total))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, total - warmup), warmup_target=recipe.learning_rate, warmup_steps=warmup
    )
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=recipe.clip)
    optimizer.build(network.trainable_variables)
    state = [*network.variables, *optimizer.variables]

    # One trace for all shapes; a distributed batch cannot be described beforehand.
    described = (learnable.batches(1).element_spec, tf.TensorSpec([2], tf.int32))
    if {"teacher_logits", "hints"} & described[0].keys() and (recipe.time_masks or recipe.channel_masks):
        raise ValueError("the stored guidance was made of speech without masks: let the teacher listen beside the "
                         "student (guidance online), or set time_masks and channel_masks to 0")  # fmt: skip
    single = strategy.num_replicas_in_sync == 1

    @tf.function(input_signature=described if single else None, reduce_retracing=not single)
    def step(batch, seed):
        def replica(batch):
            context = tf.distribute.get_replica_context()
            seeds = seed + [0, tf.cast(context.replica_id_in_sync_group, tf.int32) * 2**24]
            weights = batch.get("weights", 1.0)
            batch = batch | {"features": mask(batch["features"], batch["feature_lengths"], seeds, recipe)}
            with tf.GradientTape() as tape:
                terms = objective(network, batch, seeds)
                loss = tf.reduce_sum(terms["loss"] * weights) / recipe.batch_size
            gradients = tape.gradient(loss, network.trainable_variables)
            gradients = context.all_reduce("sum", gradients)
            optimizer.apply(gradients, network.trainable_variables)
            sums = {name: tf.reduce_sum(term * weights) for name, term in terms.items()}
            return {name: context.all_reduce("sum", value) for name, value in sums.items()}

        return strategy.run(replica, (batch,))

    identity = _identity(network, objective, learnable, recipe)
    run = _restore(checkpoint, identity, state) or {"epoch": 0, "step": 0, "sums": {}, "seconds": 0.0, "epochs": []}
    while run["epoch"] < recipe.epochs:
        batches = learnable.batches(recipe.batch_size, recipe.seed, run["epoch"]).skip(run["step"])
        clock, saved = time.perf_counter() - run["seconds"], time.perf_counter()
        label = f"epoch {run['epoch'] + 1}/{recipe.epochs}"
        with learnable.reading(), progress(total=steps, initial=run["step"], desc=label, unit="step") as bar:
            for batch in _shared_out(batches, strategy):
                seed = tf.constant([mix_seeds(recipe.seed), run["epoch"] * steps + run["step"]], tf.int32)
                for name, term in step(batch, seed).items():
                    run["sums"][name] = run["sums"].get(name, 0.0) + float(strategy.experimental_local_results(term)[0])
                run["step"] += 1
                bar.update()
                if not np.isfinite(list(run["sums"].values())).all():
                    raise FloatingPointError(f"{label}: {run['sums']}: not finite; lower learning_rate or clip")
                if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    saved = time.perf_counter()
                    _save(checkpoint, identity, state, run | {"seconds": saved - clock})
        means = {name: total / len(learnable.entries) for name, total in run["sums"].items()}
        run["seconds"] = time.perf_counter() - clock
        noted = (monitor and monitor(network, run["epoch"])) or {}
        run["epochs"].append({"epoch": run["epoch"] + 1, "seconds": run["seconds"], **means, **noted})
        told = ", ".join(f"{name} {value:.3f}" for name, value in (means | noted).items())
        left = run["seconds"] / (run["epoch"] + 1) * (recipe.epochs - run["epoch"] - 1)
        print(f"{label}: {told} ({run['seconds']:.0f} s, {left:.0f} s left)", flush=True)
        run |= {"epoch": run["epoch"] + 1, "step": 0, "sums": {}}
        _save(checkpoint, identity, state, run)
    return {"epochs": run["epochs"], "seconds": run["seconds"], "left_out": left_out}


def _shared_out(batches, strategy):
    """Each batch dealt row by row to the replicas.

    One that gets none, of a last batch smaller than their number, takes the first row with weight 0: it adds nothing to
    the loss, though batch norm sees that row twice.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def part(batch, replica):
        size = tf.cast(tf.shape(batch["labels"])[0], tf.int64)
        rows = tf.cond(replica < size, lambda: tf.range(replica, size, replicas), lambda: tf.zeros([1], tf.int64))
        weights = tf.fill([tf.shape(rows)[0]], tf.cast(replica < size, tf.float32))
        return {name: tf.gather(value, rows) for name, value in batch.items()} | {"weights": weights}

    def pipeline(context):
        local = replicas // context.num_input_pipelines
        mine = tf.data.Dataset.range(context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local)
        return batches.flat_map(lambda batch: mine.map(lambda replica: part(batch, replica)))

    return strategy.distribute_datasets_from_function(pipeline)


def describe(objective) -> dict:
    """Plain facts of an objective (or of a part of it): its `tag`, else its name, and its parameters.

    Raises
    ------
    ValueError
        If it hides its parameters: it is neither a function of a module nor a dataclass of plain ones.
    """
    plain = is_dataclass(objective) or inspect.isfunction(objective)
    kind = objective if inspect.isfunction(objective) else type(objective)
    if not plain or "<" in kind.__qualname__:
        raise ValueError(f"the objective {objective!r} hides its parameters: make it a frozen dataclass with __call__")
    facts = {"name": getattr(objective, "tag", kind.__qualname__)}
    for field in fields(objective) if is_dataclass(objective) else ():
        value = getattr(objective, field.name)
        if field.repr:
            facts[field.name] = value if value is None or type(value) in PLAIN else describe(value)
    return facts


def _identity(network, objective, records, recipe) -> str:
    """Plain facts under fixed names, with all that the result of a training depends on."""
    begun = hashlib.sha256(b"".join(np.asarray(variable).tobytes() for variable in network.variables)).hexdigest()
    entries = [[e.id, e.speaker, e.frames, e.characters, e.needed] for e in records.entries]
    data = json.dumps([records.contents, records.alphabet, entries]).encode()
    facts = {
        "format": "training 1",
        "spec": asdict(network.spec),
        "dtype": network.output_layer.compute_dtype,
        "quantizers": [layer.quantizer and describe(layer.quantizer) for layer in network.layers],
        "objective": describe(objective),
        "recipe": asdict(recipe),
        "weights": begun,
        "data": hashlib.sha256(data).hexdigest(),
    }
    return json.dumps(facts, sort_keys=True)


def _save(path, identity, state, run):
    """Write a checkpoint; the one before it stays as `<path>.previous`."""
    if not leads():
        return
    tensors = {f"{number:04d}": np.asarray(variable) for number, variable in enumerate(state)}
    facts = {"identity": identity, "run": run, "sha256": _digest(tensors)}
    with whole(path) as temporary:
        # Under one key: the order of several varies from process to process.
        safetensors.numpy.save_file(tensors, temporary, {"checkpoint": json.dumps(facts)})
        if Path(path).exists():
            os.replace(path, f"{path}.previous")


def _digest(tensors) -> str:
    content = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        content.update(np.ascontiguousarray(tensor))
    return content.hexdigest()


def _restore(path, identity, state):
    """Set the variables from a checkpoint of the same training and give back where it stood; None without one."""
    for place in (Path(path), Path(f"{path}.previous")):
        if not place.exists():
            continue
        try:
            with safe_open(place, "numpy") as file:
                facts = json.loads(file.metadata()["checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if facts["sha256"] != _digest(tensors):
                raise ValueError("its sum is wrong")
        except Exception as error:  # safetensors raises an exception of its own, without a common base
            print(f"{place} is damaged and of no use ({error!r})", flush=True)
            if leads():
                place.unlink(missing_ok=True)
            continue
        if facts["identity"] != identity:
            print(f"{place} is of a training with other settings or data: kept as {path}.old", flush=True)
            if leads():
                place.replace(f"{path}.old")
                Path(f"{path}.previous").unlink(missing_ok=True)
            return None
        for number, variable in enumerate(state):
            variable.assign(tensors[f"{number:04d}"])
        return facts["run"]
    return None
