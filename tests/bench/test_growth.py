"""What grows with a corpus is measured in processes of their own, and operations are counted as by hand."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import growth
import pytest

from lttlib.features import FeatureConfig
from lttlib.network import CONVS, ConvNet, ConvSpec, training_flops

SPEC = ConvSpec((8, 6), (5, 3), (2, 1), (0, 0), input_channels=3, classes=4)


def test_operations_worked_by_hand():
    # 10 frames become 5. Layer 1: 5 * 3 * 8 multiply-adds for each of 5 frames, forward and for the kernel: 2 times 2.
    # Layer 2: 3 * 8 * 6, the gradient of the input as well; the output layer: 6 * 4, all three.
    assert training_flops(SPEC, 10) == 2 * 5 * (2 * 5 * 3 * 8 + 3 * 3 * 8 * 6 + 3 * 6 * 4)
    gated = dataclasses.replace(SPEC, conv="gated_conv")
    assert training_flops(gated, 9) == 2 * 5 * (2 * 5 * 3 * 16 + 3 * 3 * 8 * 12 + 3 * 6 * 4)


@pytest.mark.parametrize("conv", CONVS)
def test_operations_are_frames_times_weights(conv):
    spec = ConvSpec(
        (6, 5), (3, 7), (1, 1), (0, 0), conv=conv, batch_norm=False, input_channels=3, classes=5
    )
    kernels = [layer.kernel.shape.num_elements() for layer in ConvNet(spec).layers]
    assert training_flops(spec, 10) == 2 * 10 * (2 * kernels[0] + 3 * sum(kernels[1:]))


@pytest.mark.slow
def test_the_peak_is_the_memory_that_a_process_once_had():
    program = "import growth; before = growth.peak_memory(); b'x' * 300_000_000; print(growth.peak_memory() - before)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(growth.__file__).parent,
    ).stdout
    assert int(told.splitlines()[-1]) == pytest.approx(300e6, rel=0.05)


@pytest.mark.slow
def test_a_row_for_each_length_and_nothing_left(tmp_path):
    spec = dataclasses.replace(SPEC, input_channels=39, classes=29, widths=(5, 1), strides=(2, 1))
    short, long = growth.measure([0.3, 0.9], spec, FeatureConfig(), tmp_path, cores=2)
    assert not list(tmp_path.iterdir())
    assert 0.3 < short["minutes"] < 0.6 and 0.9 < long["minutes"] < 1.2
    for row in (short, long):
        assert row["bytes"] == pytest.approx(
            row["minutes"] * 60 * 100 * 39 * 4, rel=0.05
        )  # frames, floats
    assert all(row[f"{step}_seconds"] > 0 for row in (short, long) for step in ("prepare", "train"))
    assert all(
        1e8 < row[f"{step}_bytes"] < 4e9 for row in (short, long) for step in ("prepare", "train")
    )


@pytest.mark.slow
def test_a_measurement_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="(?s)train of 0.3 minutes stopped.*39 channels"):
        growth.measure([0.3], SPEC, FeatureConfig(), tmp_path, cores=1)
    assert not list(tmp_path.iterdir())
