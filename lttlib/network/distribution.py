"""What trains: one device, several of this machine, or several machines that share each batch."""

import os

import tensorflow as tf


def sum_over_replicas(value):
    """The sum over all devices that share a batch."""
    context = tf.distribute.get_replica_context()
    return (
        context.all_reduce("sum", value) if context and context.num_replicas_in_sync > 1 else value
    )


def distribution_strategy():
    """What trains on the devices of this process, and of others where the variable TF_CONFIG names them.

    Returns
    -------
    tf.distribute.Strategy: MultiWorkerMirroredStrategy with TF_CONFIG, MirroredStrategy with several GPUs, else the
    default. Networks are made, trained and saved under its `scope()`. With TF_CONFIG it is asked for once in a process,
    before TensorFlow computes anything.
    """
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief() -> bool:
    """Whether this process writes for all that train together: it is the first of them, or the only one."""
    cluster = tf.distribute.get_strategy().cluster_resolver
    return cluster is None or not cluster.task_id


def barrier() -> None:
    """Wait until all processes that train together have come here."""
    together = tf.distribute.get_strategy()
    if together.cluster_resolver is None:
        return

    @tf.function
    def arrive():
        return together.run(
            lambda: tf.distribute.get_replica_context().all_reduce("sum", tf.ones([]))
        )

    arrive()


def distribute_batches(batches, strategy):
    """Each batch dealt row by row to the replicas.

    One that gets none, of a last batch smaller than their number, takes the first row with weight 0: it adds nothing to
    the loss, though batch norm sees that row twice.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def part(batch, replica):
        size = tf.cast(tf.shape(batch["labels"])[0], tf.int64)
        rows = tf.cond(
            replica < size,
            lambda: tf.range(replica, size, replicas),
            lambda: tf.zeros([1], tf.int64),
        )
        weights = tf.fill([tf.shape(rows)[0]], tf.cast(replica < size, tf.float32))
        return {name: tf.gather(value, rows) for name, value in batch.items()} | {
            "weights": weights
        }

    def pipeline(context):
        local = replicas // context.num_input_pipelines
        mine = tf.data.Dataset.range(
            context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local
        )
        return batches.flat_map(lambda batch: mine.map(lambda replica: part(batch, replica)))

    return strategy.distribute_datasets_from_function(pipeline)
