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
