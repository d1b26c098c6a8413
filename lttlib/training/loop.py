"""One short loop that trains a network for any objective, on what the machine has, and resumes exactly.

What an objective is stands in `objectives`. It is a function of a module, or a frozen dataclass where it has
parameters: a checkpoint tells by its name or its fields whether it is the same.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lttlib.features.records import fold_seeds
from lttlib.files import progress
from lttlib.network.convnet import output_lengths
from lttlib.network.distribution import distribute_batches
from lttlib.training.checkpoint import restore_checkpoint, run_fingerprint, save_checkpoint
from lttlib.training.spec_augment import spec_augment

CHECKPOINT_SECONDS = 600


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    epochs, batch_size : int
    learning_rate : float
        Highest rate of Adam: reached after `warmup` of all steps, then lowered to 0 along a cosine.
    warmup : float
        Share of the steps.
    clip_norm : float
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
    clip_norm: float = 1.0
    time_masks: int = 0
    time_mask_width: int = 30
    channel_masks: int = 0
    channel_mask_width: int = 5
    seed: int = 0


def default_dtype_policy() -> str:
    """The fastest sound precision here: "mixed_bfloat16" where the processor computes with it, else "float32"."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get(
            "compute_capability", (0, 0)
        )
        return "mixed_bfloat16" if capability >= (8, 0) else "float32"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def with_feasible_labels(records, spec):
    """Those of the records whose labels fit the output frames of a network: CTC has no finite loss for the others."""
    return records.filter(lambda entry: output_lengths(spec, entry.frames) >= entry.min_frames)


def train(network, objective, records, recipe, checkpoint, on_epoch_end=None) -> dict:
    """Train a network, or go on where a killed run of the same stopped.

    The order of the data, the masks and dropout are functions of seed, epoch and step, so a run that was killed and
    started again ends with the weights of one that was left alone, bit for bit.

    Parameters
    ----------
    network : network.ConvNet
        Made under the scope of `network.distribution_strategy()` where there are several devices, as this is called.
    objective : function
        Called with (network, batch, seed), as those of `objectives` are.
    records : features.Records
        Utterances whose labels do not fit the network's frames are left out and listed in the result.
    recipe : Recipe
    checkpoint : path-like
        A file, which several processes share; written after each epoch, and every ten minutes. The one before it stays
        as `<checkpoint>.previous`, from which it goes on if this one is damaged.
    on_epoch_end : function, optional
        Called after each epoch with (network, epoch); returns numbers to note (a dict, or None).

    Returns
    -------
    dict with epochs (a list of dicts: epoch, seconds, the mean of each loss, what `on_epoch_end` noted), seconds (of
    training, without on_epoch_end), left_out (list of ids).

    Raises
    ------
    FloatingPointError
        If a loss is not finite; the last checkpoint, in which all was, is kept.
    ValueError
        If the objective hides its parameters in a function within a function, stored guidance would be masked, or
        records or guidance are damaged.
    """
    spec, strategy = network.spec, tf.distribute.get_strategy()
    learnable = with_feasible_labels(records, spec)
    chosen = {entry.id for entry in learnable.entries}
    left_out = [entry.id for entry in records.entries if entry.id not in chosen]
    steps = learnable.num_batches(recipe.batch_size)
    total = steps * recipe.epochs
    warmup = max(1, round(recipe.warmup * total))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, total - warmup), warmup_target=recipe.learning_rate, warmup_steps=warmup
    )
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=recipe.clip_norm)
    optimizer.build(network.trainable_variables)
    state = [*network.variables, *optimizer.variables]

    # One trace for all shapes; a distributed batch cannot be described beforehand.
    described = (learnable.batches(1).element_spec, tf.TensorSpec([2], tf.int32))
    if {"teacher_logits", "hints"} & described[0].keys() and (
        recipe.time_masks or recipe.channel_masks
    ):
        raise ValueError("the stored guidance was made of speech without masks: let the teacher listen beside the "
                         "student (guidance online), or set time_masks and channel_masks to 0")  # fmt: skip
    single = strategy.num_replicas_in_sync == 1

    @tf.function(input_signature=described if single else None, reduce_retracing=not single)
    def step(batch, seed):
        def replica(batch):
            context = tf.distribute.get_replica_context()
            seeds = seed + [0, tf.cast(context.replica_id_in_sync_group, tf.int32) * 2**24]
            weights = batch.get("weights", 1.0)
            batch = batch | {
                "features": spec_augment(batch["features"], batch["feature_lengths"], seeds, recipe)
            }
            with tf.GradientTape() as tape:
                terms = objective(network, batch, training=True, seed=seeds)
                loss = tf.reduce_sum(terms["loss"] * weights) / recipe.batch_size
            gradients = tape.gradient(loss, network.trainable_variables)
            gradients = context.all_reduce("sum", gradients)
            optimizer.apply(gradients, network.trainable_variables)
            sums = {name: tf.reduce_sum(term * weights) for name, term in terms.items()}
            return {name: context.all_reduce("sum", value) for name, value in sums.items()}

        return strategy.run(replica, (batch,))

    identity = run_fingerprint(network, objective, learnable, recipe)
    run = restore_checkpoint(checkpoint, identity, state) or {
        "epoch": 0,
        "step": 0,
        "sums": {},
        "seconds": 0.0,
        "epochs": [],
    }
    while run["epoch"] < recipe.epochs:
        batches = learnable.batches(recipe.batch_size, recipe.seed, run["epoch"]).skip(run["step"])
        clock, saved = time.perf_counter() - run["seconds"], time.perf_counter()
        label = f"epoch {run['epoch'] + 1}/{recipe.epochs}"
        with (
            learnable.reading(),
            progress(total=steps, initial=run["step"], desc=label, unit="step") as bar,
        ):
            for batch in distribute_batches(batches, strategy):
                seed = tf.constant(
                    [fold_seeds(recipe.seed), run["epoch"] * steps + run["step"]], tf.int32
                )
                for name, term in step(batch, seed).items():
                    run["sums"][name] = run["sums"].get(name, 0.0) + float(
                        strategy.experimental_local_results(term)[0]
                    )
                run["step"] += 1
                bar.update()
                if not np.isfinite(list(run["sums"].values())).all():
                    raise FloatingPointError(
                        f"{label}: {run['sums']}: not finite; lower learning_rate or clip_norm"
                    )
                if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    saved = time.perf_counter()
                    save_checkpoint(checkpoint, identity, state, run | {"seconds": saved - clock})
        means = {name: total / len(learnable.entries) for name, total in run["sums"].items()}
        run["seconds"] = time.perf_counter() - clock
        noted = (on_epoch_end and on_epoch_end(network, run["epoch"])) or {}
        run["epochs"].append(
            {"epoch": run["epoch"] + 1, "seconds": run["seconds"], **means, **noted}
        )
        told = ", ".join(f"{name} {value:.3f}" for name, value in (means | noted).items())
        left = run["seconds"] / (run["epoch"] + 1) * (recipe.epochs - run["epoch"] - 1)
        print(f"{label}: {told} ({run['seconds']:.0f} s, {left:.0f} s left)", flush=True)
        run |= {"epoch": run["epoch"] + 1, "step": 0, "sums": {}}
        save_checkpoint(checkpoint, identity, state, run)
    return {"epochs": run["epochs"], "seconds": run["seconds"], "left_out": left_out}
