"""Devices that share a batch: two logical processors of this machine."""

import numpy as np
import tensorflow as tf

from lttlib.network import barrier, distribution_strategy, is_chief
from lttlib.network.distribution import sum_over_replicas


def test_distribution_strategy_of_one_processor_is_the_default(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution_strategy() is tf.distribute.get_strategy()
    assert distribution_strategy().num_replicas_in_sync == 1


def test_is_chief_and_barrier_of_a_process_alone():
    assert is_chief()
    barrier()  # there is nobody to wait for


def test_sum_over_replicas_counts_what_each_device_has():
    assert sum_over_replicas(3.0) == 3.0  # one device
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    @tf.function
    def add():
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            return sum_over_replicas(tf.cast(number, tf.float32) + 1)

        return strategy.run(replica)

    sums = strategy.experimental_local_results(add())
    np.testing.assert_array_equal(sums, [3, 3])  # 1 + 2, on both
