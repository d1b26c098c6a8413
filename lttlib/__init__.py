"""Listen to the Teacher! The library under the notebooks."""

import os

# TensorFlow tells at length which GPU it did not find; errors still come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
