"""Shared by all tests: a quiet TensorFlow, plain progress, and real speech if there is some."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of tensorflow
os.environ.setdefault("LTT_BATCH", "1")


@pytest.fixture(scope="session", autouse=True)
def two_devices():
    """Two logical processors, so that sharing a batch among devices is tested where there is one machine."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


@pytest.fixture(scope="session")
def corpora():
    """Folder with the corpora SpokenDigits and LJSpeech in the LibriSpeech layout."""
    folder = os.environ.get("LTT_CORPORA")
    if not folder:
        pytest.skip("no real speech: LTT_CORPORA names no folder with SpokenDigits and LJSpeech")
    return Path(folder)
