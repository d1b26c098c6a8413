"""One device, several of this machine, or several machines that share each batch."""

import os

import tensorflow as tf


def distribution_strategy():
    """Return the `tf.distribute.Strategy` for this process.

    MultiWorkerMirroredStrategy where the variable TF_CONFIG names a cluster, MirroredStrategy with
    several GPUs, else the default. Networks are made, trained and saved under its `scope()`. With
    TF_CONFIG it is asked for once in a process, before TensorFlow computes anything.
    """
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief() -> bool:
    """Whether this is the chief worker, which writes for all, or the only one."""
    cluster = tf.distribute.get_strategy().cluster_resolver
    return cluster is None or not cluster.task_id


def barrier() -> None:
    """Wait until all workers have come here."""
    strategy = tf.distribute.get_strategy()
    if strategy.cluster_resolver is None:
        return

    def sum_of_ones():
        return tf.distribute.get_replica_context().all_reduce("sum", tf.ones([]))

    tf.function(lambda: strategy.run(sum_of_ones))()


def sum_over_replicas(value):
    """The sum over all devices that share a batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce("sum", value)


def distribute_batches(batches, strategy):
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
