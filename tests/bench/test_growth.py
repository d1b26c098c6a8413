"""What grows with a corpus is measured in processes of their own; operations, by hand."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import growth
import pytest

from lttlib.features import FeatureConfig
from lttlib.network import CONVS, ConvNet, ConvSpec

SPEC = ConvSpec((8, 6), (5, 3), (2, 1), (0, 0), input_channels=3, classes=4)


def test_training_flops_worked_by_hand():
    """10 frames become 5. A multiply-add is 2 operations.

    Layer 1 takes 5 * 3 * 8 multiply-adds for each of 5 frames, forward and for the kernel. Layer 2
    takes 3 * 8 * 6 and the output layer 6 * 4, both also for the gradient of their input.
    """
    layer_1, layer_2, output = 2 * 5 * 3 * 8, 3 * 3 * 8 * 6, 3 * 6 * 4
    assert growth.training_flops(SPEC, 10) == 2 * 5 * (layer_1 + layer_2 + output)
    gated = dataclasses.replace(SPEC, conv="gated_conv")
    assert growth.training_flops(gated, 9) == 2 * 5 * (2 * layer_1 + 2 * layer_2 + output)
    # Separable: the second layer takes 3 * 8 over time, then 8 * 6 over the channels.
    separable = dataclasses.replace(SPEC, conv="separable_conv")
    layer_2 = 3 * (3 * 8 + 8 * 6)
    assert growth.training_flops(separable, 10) == 2 * 5 * (layer_1 + layer_2 + output)


@pytest.mark.parametrize("conv", CONVS)
def test_training_flops_are_frames_times_weights(conv):
    spec = ConvSpec(
        (6, 5), (3, 7), (1, 1), (0, 0), conv=conv, batch_norm=False, input_channels=3, classes=5
    )
    first, *others = [math.prod(shape) for shape, _ in spec.kernels()]
    assert sum([first, *others]) == sum(
        kernel.shape.num_elements()
        for layer in ConvNet(spec).layers
        for kernel in layer.kernels.values()
    )
    assert growth.training_flops(spec, 10) == 2 * 10 * (2 * first + 3 * sum(others))


@pytest.mark.slow
def test_growth_counts_the_memory_that_a_process_once_had():
    program = (
        "import growth; before = growth.peak_memory(); b'x' * 300_000_000; "
        "print(growth.peak_memory() - before)"
    )
    command = [sys.executable, "-c", program]
    folder = Path(growth.__file__).parent
    process = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert int(process.stdout.splitlines()[-1]) == pytest.approx(300e6, rel=0.05)


@pytest.mark.slow
def test_growth_has_a_row_for_each_length_and_leaves_nothing_behind(tmp_path):
    spec = dataclasses.replace(SPEC, input_channels=39, classes=29, widths=(5, 1), strides=(2, 1))
    rows = growth.measure([0.3, 0.9], spec, FeatureConfig(), tmp_path, cores=2)
    assert not list(tmp_path.iterdir())
    short, long = rows
    assert 0.3 < short["minutes"] < 0.6 and 0.9 < long["minutes"] < 1.2
    for row in rows:
        values = row["minutes"] * 60 * 100 * 39  # 100 frames per second
        assert row["bytes"] == pytest.approx(4 * values, rel=0.05)
        assert row["prepare_seconds"] > 0 and row["train_seconds"] > 0
        assert 1e8 < row["prepare_bytes"] < 4e9 and 1e8 < row["train_bytes"] < 4e9


@pytest.mark.slow
def test_growth_says_why_a_measurement_failed(tmp_path):
    with pytest.raises(RuntimeError, match="(?s)train of 0.3 minutes stopped.*39 channels"):
        growth.measure([0.3], SPEC, FeatureConfig(), tmp_path, cores=1)
    assert not list(tmp_path.iterdir())
