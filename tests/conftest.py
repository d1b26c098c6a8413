"""Shared by all tests: a quiet TensorFlow, plain progress, and real speech if there is some."""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of tensorflow
os.environ.setdefault("LTT_BATCH", "1")


@pytest.fixture(scope="session", autouse=True)
def two_devices():
    """Two logical processors, so that devices can share a batch where there is one machine."""
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


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """Records of a language of three letters, each a tone of 0.1 s."""
    from builders import TONES_FEATURES

    from lttlib.features import write_records
    from lttlib.speech import Utterance

    folder, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    utterances = []
    for number in range(30):
        letters = random.integers(3, size=random.integers(2, 6))
        time = np.arange(800) / 8000
        tune = [
            np.r_[np.sin(2 * np.pi * (400 + 700 * letter) * time), np.zeros(400)]
            for letter in letters
        ]
        wave = 0.3 * np.concatenate(tune) + 0.001 * random.normal(size=1200 * len(letters))
        path = folder / f"{number:02d}.flac"
        soundfile.write(path, wave, 8000)
        text = "".join("ABC"[letter] for letter in letters)
        utterances.append(Utterance(path.stem, "1", "train", path, text))
    write_records(
        utterances, folder / "train", TONES_FEATURES, alphabet="ABC", cores=1, shard_size=8
    )
    return folder / "train"


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """A course of two notebooks and two profiles; its data go to tmp_path/data."""
    from builders import PARAMETERS, TEACHER, write_notebook

    from lttlib.course import notebooks

    folder = tmp_path / "notebooks"
    (folder / "params").mkdir(parents=True)
    write_notebook(folder, "01_features.ipynb", PARAMETERS, "print(profile)")
    write_notebook(folder, "02_teacher.ipynb", PARAMETERS + TEACHER, "print(epochs)")
    (folder / "params" / "quick.yaml").write_text("epochs: 2\nlearning_rate: 1e-3\n")
    (folder / "params" / "digits.yaml").write_text("speeds: [0.9, 1]\n")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    monkeypatch.setattr(notebooks, "DATA", tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="session")
def good_files(tmp_path_factory):
    """One good file of each kind; utterances of one length, so that shards are equal in size."""
    from builders import WORKSPACE_FEATURES, WORKSPACE_NOTEBOOK, WORKSPACE_SPEC, noise_wave

    from lttlib import models
    from lttlib.features import Records, write_records
    from lttlib.models import Model, deploy, packed
    from lttlib.models.folder import LITERT_FILE
    from lttlib.network import ConvNet, quantize_kernels
    from lttlib.recognition import estimate_ngrams, write_arpa
    from lttlib.speech import ALPHABET, read_corpus
    from lttlib.training import write_guidance

    folder = tmp_path_factory.mktemp("good")
    chapter = folder / "corpus" / "train" / "1" / "1"
    chapter.mkdir(parents=True)
    words = ["ONE", "TWO", "SIX", "TEN"] * 2
    for number in range(len(words)):
        wave = noise_wave(0.4, number)
        soundfile.write(chapter / f"1-1-{number}.flac", wave, 8000)
    lines = [f"1-1-{number} {word}\n" for number, word in enumerate(words)]
    (chapter / "1-1.trans.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "sound").mkdir()

    # Records, two teachers and what they say about them.
    config = WORKSPACE_FEATURES
    utterances = read_corpus(folder / "corpus", "train")
    write_records(utterances, folder / "records", config, cores=1, shard_size=3)
    records = Records(folder / "records")
    for name, seed, guidance in (("teacher", 0, "said"), ("other", 1, "others")):
        models.save(folder / name, Model(ConvNet(WORKSPACE_SPEC, seed), config))
        teacher = models.load_teacher(folder / name)
        write_guidance(records, teacher, folder / guidance, encoding="log8")

    # The teacher deployed, packed, and as a folder with a packed file.
    model = models.load(folder / "teacher")
    deploy(folder / "deployed", model, "float32")
    shutil.copy(folder / "deployed" / LITERT_FILE, folder)
    quantize_kernels(model.network, 3, 16)
    packed.save(folder / "packed.safetensors", model.network, config, ALPHABET)
    models.save(folder / "small", model)

    # A language model, plain and compressed, and a lexicon.
    write_arpa(folder / "words.arpa", estimate_ngrams(["A A B", "B A", "A B B A"], 3))
    compressed = gzip.compress((folder / "words.arpa").read_bytes(), mtime=0)
    (folder / "words.arpa.gz").write_bytes(compressed)
    (folder / "words.txt").write_text("A\nB\n")

    # A profile and a notebook.
    notebooks = folder / "notebooks"
    (notebooks / "params").mkdir(parents=True)
    (notebooks / "params" / "quick.yaml").write_text("epochs: 2\nspeeds: [1.0, 0.9]\n")
    (notebooks / "01_features.ipynb").write_text(WORKSPACE_NOTEBOOK)
    return folder


@pytest.fixture
def workspace(good_files, tmp_path):
    """A copy of one good file of each kind, to damage."""
    return shutil.copytree(good_files, tmp_path / "workspace")
