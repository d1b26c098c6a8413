"""Shared by the tests of training: a network that learns the language of tones."""

import pytest
from builders import TONES_CONFIG, TONES_SPEC

from lttlib import training
from lttlib.features import Records
from lttlib.network import ConvNet
from lttlib.training import ctc_objective


@pytest.fixture(scope="session")
def train_tones(tones):
    """A function that trains a network on the tones, and returns it and its history."""

    def train(checkpoint, config=TONES_CONFIG, spec=TONES_SPEC, **options):
        network = ConvNet(spec)
        records = Records(tones)
        history = training.train(network, ctc_objective, records, config, checkpoint, **options)
        return network, history

    return train


@pytest.fixture(scope="session")
def undisturbed_path(tmp_path_factory):
    """Path of the last checkpoint of `undisturbed`; the one before it stands beside it."""
    return tmp_path_factory.mktemp("undisturbed") / "run"


@pytest.fixture(scope="session")
def undisturbed(train_tones, undisturbed_path):
    """Network and history of a training that nothing has interrupted."""
    return train_tones(undisturbed_path)
