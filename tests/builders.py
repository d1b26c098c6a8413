"""What several tests build on: small networks, models of noise, notebooks of a few cells."""

from dataclasses import dataclass

import nbformat
import numpy as np

from lttlib.features import FeatureConfig
from lttlib.models import Model
from lttlib.network import ConvNet, ConvSpec
from lttlib.training import TrainingConfig, ctc_objective

# A language of three letters, each a tone: see the fixture `tones`.
TONES_FEATURES = FeatureConfig(sampling_rate=8000, window_ms=20.0, frame_shift_ms=20.0, n_mels=20)
TONES_SPEC = ConvSpec((16, 16), (3, 5), (1, 1), (0.1, 0.1), input_channels=39, classes=4)
TONES_CONFIG = TrainingConfig(
    epochs=3, batch_size=8, learning_rate=0.02, time_masks=1, channel_masks=1
)


@dataclass(frozen=True)
class Scaled:
    """An objective with a parameter: CTC times a number."""

    scale: float

    def __call__(self, network, batch, training=False, seed=None):
        return {"loss": self.scale * ctc_objective(network, batch, training, seed)["loss"]}


NOISE_CONFIG = FeatureConfig(sampling_rate=8000)
LISTS = {
    "filters": (12, 9, 9),
    "widths": (7, 4, 3),
    "strides": (2, 3, 1),
    "dropouts": (0.1, 0.2, 0.0),
}


def noise_model(seed=0, levels=0, **changes):
    """A model in which no variable has the values of the start."""
    network = ConvNet(
        ConvSpec(**LISTS | changes, input_channels=39, classes=29), seed, levels=levels
    )
    random = np.random.default_rng(seed)
    for variable in network.variables:
        if "kernel" not in variable.path:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return Model(network, NOISE_CONFIG)


def noise_wave(seconds, seed=0):
    """Noise at 8 kHz that comes and goes three times a second, as syllables do."""
    time = np.arange(int(8000 * seconds)) / 8000
    loudness = 0.1 * (0.02 + np.sin(3 * np.pi * time) ** 2)
    return (loudness * np.random.default_rng(seed).normal(size=len(time))).astype(np.float32)


def chirp(seconds=1.5, seed=0, sampling_rate=16000):
    """A chirp over most of the band, fading, with noise."""
    time = np.arange(int(seconds * sampling_rate)) / sampling_rate
    phase = 2 * np.pi * (100 + 0.2 * sampling_rate / seconds * time) * time
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.3 * np.sin(phase) * np.exp(-time) + 0.01 * noise).astype(np.float32)


def tone_wave(letters, random):
    """Letters 0, 1, 2 as tones at 16 kHz with pauses between them, and a faint noise."""
    tones = []
    for letter in letters:
        tone = np.sin(np.arange(1800) * (0.1 + 0.3 * letter))
        tones += [tone, np.zeros(600)]
    return 0.3 * np.concatenate(tones) + 0.001 * random.normal(size=2400 * len(letters))


PARAMETERS = 'profile: str = "quick"  # name of the run\n'
TEACHER = """epochs: int = 3  # passes over the data
learning_rate: float = 0.002  # of Adam
augment: bool = True  # mask time and frequency
speeds: list[float] = [1.0]  # speed perturbation
corpus_root: str = ""  # folder of a corpus; empty: synthesise one
"""


def write_notebook(folder, name, declared, *sources):
    """Write a notebook with a heading, its parameters and code cells."""
    cells = [
        nbformat.v4.new_markdown_cell(
            f"# Heading of {name}\n\nNext: [teacher](02_teacher.ipynb) at $x^2$"
        )
    ]
    cells += [nbformat.v4.new_code_cell(declared, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)


# Of the fixture `workspace`.
WORKSPACE_FEATURES = TONES_FEATURES
WORKSPACE_SPEC = ConvSpec((4, 5), (3, 3), (2, 1), (0.1, 0.1), batch_norm=True, input_channels=39)
WORKSPACE_NOTEBOOK = """{"cells": [{
"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [
"profile: str = \\"quick\\"  # name\\n",
"epochs: int = 3  # passes\\n",
"rate: float = 0.1  # of Adam\\n",
"speeds: list[float] = [1.0]  # heard at"
]}]}"""
