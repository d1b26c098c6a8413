"""What trains: one device, several of this machine, or several machines that share each batch."""

import os

import tensorflow as tf


def strategy():
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


def leads() -> bool:
    """Whether this process writes for all that train together: it is the first of them, or the only one."""
    cluster = tf.distribute.get_strategy().cluster_resolver
    return cluster is None or not cluster.task_id


def meet() -> None:
    """Wait until all processes that train together have come here."""
    together = tf.distribute.get_strategy()
    if together.cluster_resolver is None:
        return

    @tf.function
    def arrive():
        return together.run(lambda: tf.distribute.get_replica_context().all_reduce("sum", tf.ones([])))

    arrive()
