"""One short loop: it trains a network for any objective, on all devices, and resumes exactly.

What an objective is stands in `objectives`. It is a function of a module, or a frozen dataclass
where it has parameters: by its tag and its fields a checkpoint knows whether it is the same.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import tensorflow as tf

from lttlib.features.records import fold_seeds
from lttlib.files import lock
from lttlib.files import progress as progress_bar
from lttlib.network.convnet import output_lengths
from lttlib.network.distribution import is_chief
from lttlib.training.checkpoint import describe_run, restore_checkpoint, save_checkpoint
from lttlib.training.spec_augment import spec_augment

CHECKPOINT_SECONDS = 600  # between two checkpoints within an epoch
REPLICA_SEED = 1 << 24  # added for each device that takes a part of a batch


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
        Number of stretches of an utterance that are set to 0 in each batch, and the frames of the
        longest (SpecAugment, Park et al. 2019).
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


@dataclass
class Progress:
    """How far a training is; a checkpoint holds it beside the variables."""

    epoch: int = 0
    step: int = 0  # within this epoch
    sums: dict = field(default_factory=dict)  # of each loss over this epoch's utterances so far
    seconds: float = 0.0  # of training
    history: list = field(default_factory=list)  # a dict for each epoch that is done

    def add(self, losses):
        """Count a step and the sums of its losses."""
        self.step += 1
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(loss)

    def end_epoch(self, metrics):
        """Note the metrics of an epoch and go on to the next."""
        self.epoch += 1
        self.step = 0
        self.sums = {}
        self.history.append({"epoch": self.epoch, "seconds": self.seconds} | metrics)


def default_dtype_policy(spec) -> str:
    """The fastest sound precision for a network here: "mixed_bfloat16" or "float32".

    The first where the hardware computes with it. But on a processor a step of a separable network
    is hardly faster with it, or slower (0.86 to 1.18 times as fast, measured with AVX-512): there
    it is float32, so that results do not hang on what the processor offers.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        has_bfloat16 = details.get("compute_capability", (0, 0)) >= (8, 0)
    elif spec.conv == "separable_conv":
        has_bfloat16 = False
    else:
        cpuinfo = Path("/proc/cpuinfo")
        flags = cpuinfo.read_text() if cpuinfo.exists() else ""
        has_bfloat16 = "avx512_bf16" in flags or "amx_bf16" in flags
    return "mixed_bfloat16" if has_bfloat16 else "float32"


def with_feasible_labels(records, spec):
    """The records whose labels fit the frames of a network: others have no finite CTC loss."""

    def fits(entry):
        return output_lengths(spec, entry.frames) >= entry.min_frames

    return records.filter(fits)


def train(network, objective, records, config, checkpoint, on_epoch_end=None) -> dict:
    """Train a network, or go on where a killed run of the same training stopped.

    The order of the data, the masks and dropout are functions of seed, epoch and step, so a run
    that was killed and started again ends with the weights of an undisturbed one, bit for bit, as
    long as it computes on as many cores: sums in another order are rounded to other last bits.

    Parameters
    ----------
    network : network.ConvNet
        Made under the scope of `network.distribution_strategy()` where there are several devices,
        as this is called.
    objective : function
        Called as objective(network, batch, training=True, seed=seed); see `objectives`.
    records : features.Records
        Utterances whose labels do not fit the network's frames are left out and listed in the
        result.
    config : TrainingConfig
    checkpoint : path-like
        A file, which the workers of one training share; written after each epoch, and every ten
        minutes. The one before it stays as `<checkpoint>.previous`, which is taken if this one is
        damaged. Another process that trains to the same file waits until this one ends.
    on_epoch_end : function, optional
        Called after each epoch with (network, epoch); returns metrics (a dict of numbers, or None).

    Returns
    -------
    dict with epochs (a list of dicts: epoch, seconds, the mean of each loss, the metrics of
    `on_epoch_end`), seconds (of training, without on_epoch_end), left_out (list of ids).

    Raises
    ------
    FloatingPointError
        If a loss is not finite; the last checkpoint, in which all was, is kept.
    Error
        If the objective hides its parameters in a function within a function, records hold speech
        that it cannot learn from, or records or guidance are damaged.
    """
    # CTC has no finite loss for the others.
    learnable = with_feasible_labels(records, network.spec)
    entries = learnable.entries
    ids = {entry.id for entry in entries}
    left_out = [entry.id for entry in records.entries if entry.id not in ids]

    # A pipeline that is never read: its batches have the types of all others.
    batch_spec = learnable.batches(config.batch_size).element_spec
    steps = learnable.num_batches(config.batch_size)
    all_steps = steps * config.epochs
    optimizer = make_optimizer(network, config, all_steps)
    step = make_step(network, objective, optimizer, config, batch_spec=batch_spec, steps=all_steps)

    # Begin, or go on where this training stopped; one process at a time, with its workers.
    state = [*network.variables, *optimizer.variables]
    identity = describe_run(network, objective, learnable, config)
    with lock(checkpoint) if is_chief() else nullcontext():
        progress = Progress(**restore_checkpoint(checkpoint, identity, state))

        def save():
            save_checkpoint(checkpoint, identity, state, asdict(progress))

        # Each epoch adds its mean losses, and the caller's metrics, to the history.
        while progress.epoch < config.epochs:
            run_epoch(step, learnable, config, progress, steps=steps, save=save)
            # Sums over the utterances become means; the caller may add its own.
            metrics = {name: total / len(entries) for name, total in progress.sums.items()}
            if on_epoch_end:
                metrics |= on_epoch_end(network, progress.epoch) or {}
            progress.end_epoch(metrics)
            _print_epoch(progress, config, metrics)
            save()
    return {"epochs": progress.history, "seconds": progress.seconds, "left_out": left_out}


class FusedAdam(keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015), up to rounding that of Keras, by one operation for each variable.

    Keras has some thirty for each: two seconds of tracing, and a twelfth of a small network's step.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update a tf.Variable, and the two moments of its gradient."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def make_optimizer(network, config, steps):
    """Adam for so many steps: the learning rate rises linearly, then falls along a cosine."""
    warmup_steps = max(1, round(config.warmup * steps))
    learning_rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - warmup_steps),
        warmup_target=config.learning_rate,
        warmup_steps=warmup_steps,
    )
    optimizer = FusedAdam(learning_rate, global_clipnorm=config.clip_norm)
    optimizer.build(network.trainable_variables)
    return optimizer


def make_step(network, objective, optimizer, config, batch_spec, steps):
    """The function of a training step: step(batch, seed) returns the sum of each loss over a batch.

    The seed of a step is (training seed, number of the step), and nothing else that is drawn has
    it: replica r adds r << 24 to the number; to the training seed SpecAugment adds 1 (time) and
    2 (channels), the layer of index n adds n << 16, and its quantizer 1 << 15 more.

    Parameters
    ----------
    network : network.ConvNet
    objective : function
    optimizer : keras.optimizers.Optimizer
    config : TrainingConfig
    batch_spec : dict of tf.TensorSpec
        What the batches of one device are like.
    steps : int
        Of the whole training.
    """
    # One trace for all shapes; a distributed batch cannot be described beforehand.
    strategy = tf.distribute.get_strategy()
    options = {"reduce_retracing": True}
    if strategy.num_replicas_in_sync == 1:
        options = {"input_signature": (batch_spec, tf.TensorSpec([2], tf.int32))}

    def replica_step(batch, seed):
        # Each replica draws other masks and another dropout.
        replica = tf.distribute.get_replica_context()
        replica_id = tf.cast(replica.replica_id_in_sync_group, tf.int32)
        seed += [0, replica_id * REPLICA_SEED]
        unmasked = batch["features"]
        features = spec_augment(unmasked, batch["feature_lengths"], seed, config)
        progress = tf.cast(optimizer.iterations, tf.float32) / steps
        batch = batch | {"features": features, "unmasked_features": unmasked, "progress": progress}

        # The loss of the whole batch; a row that only fills up a replica weighs nothing.
        weights = batch.get("weights", 1.0)
        with tf.GradientTape() as tape:
            losses = objective(network, batch, training=True, seed=seed)
            loss = tf.reduce_sum(losses["loss"] * weights) / config.batch_size
        gradients = tape.gradient(loss, network.trainable_variables)

        # All replicas take the same step.
        gradients = replica.all_reduce("sum", gradients)
        optimizer.apply(gradients, network.trainable_variables)
        sums = {name: tf.reduce_sum(losses[name] * weights) for name in losses}
        return {name: replica.all_reduce("sum", sums[name]) for name in sums}

    # Without AutoGraph: there is no control flow to convert, and to look for it takes a second.
    @tf.function(autograph=False, **options)
    def step(batch, seed):
        return strategy.run(replica_step, (batch, seed))

    return step


def run_epoch(step, records, config, progress, steps, save):
    """Train to the end of an epoch of so many steps, from where `progress` stands in it.

    `save` is called every CHECKPOINT_SECONDS.
    """
    # The rest of the epoch's batches, and the first numbers of its seeds.
    strategy = tf.distribute.get_strategy()
    batches = records.batches(config.batch_size, config.seed, progress.epoch)
    batches = _distribute_batches(batches.skip(progress.step), strategy)
    training_seed = fold_seeds(config.seed)
    first_step = progress.epoch * steps

    # Seconds count as if the training had never paused.
    last_save = time.perf_counter()
    start = last_save - progress.seconds
    label = f"epoch {progress.epoch + 1}/{config.epochs}"
    bar = progress_bar(total=steps, initial=progress.step, desc=label, unit="step")
    with records.reading(), bar:
        for batch in batches:
            seed = tf.constant([training_seed, first_step + progress.step], tf.int32)
            # All replicas have the same sums; the first of this process will do.
            losses, *_ = strategy.experimental_local_results(step(batch, seed))
            progress.add(losses)
            bar.update()

            # A checkpoint of what is not finite would be of no use.
            if not all(map(math.isfinite, progress.sums.values())):
                cure = "lower learning_rate or clip_norm"
                raise FloatingPointError(f"{label}: {progress.sums}: not finite; {cure}")
            if time.perf_counter() - last_save > CHECKPOINT_SECONDS:
                last_save = time.perf_counter()
                progress.seconds = last_save - start
                save()
    progress.seconds = time.perf_counter() - start


def _distribute_batches(batches, strategy):
    """Deal each batch row by row to the replicas.

    A replica that gets no row, of a last batch smaller than their number, takes the first one with
    weight 0: it adds nothing to the loss, though batch norm sees that row twice.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def rows_of(batch, replica):
        size = tf.cast(tf.shape(batch["labels"])[0], tf.int64)
        rows = tf.cond(
            replica < size,
            lambda: tf.range(replica, size, replicas),
            lambda: tf.zeros([1], tf.int64),
        )
        weights = tf.fill([tf.shape(rows)[0]], tf.cast(replica < size, tf.float32))
        part = {name: tf.gather(value, rows) for name, value in batch.items()}
        return part | {"weights": weights}

    def pipeline(context):
        count = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * count
        own = tf.data.Dataset.range(first, first + count)
        return batches.flat_map(lambda batch: own.map(lambda replica: rows_of(batch, replica)))

    return strategy.distribute_datasets_from_function(pipeline)


def _print_epoch(progress, config, metrics):
    """Print the metrics of the epoch that has just ended, and how long the others will take."""
    label = f"epoch {progress.epoch}/{config.epochs}"
    values = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    seconds_left = progress.seconds / progress.epoch * (config.epochs - progress.epoch)
    times = f"{progress.seconds:.0f} s, {seconds_left:.0f} s left"
    print(f"{label}: {values} ({times})", flush=True)
