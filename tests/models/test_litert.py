"""A deployed model: what the file says against the network that it was made of, and use without TensorFlow."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib import models, recognition
from lttlib.device import Recogniser
from lttlib.features import extract
from lttlib.models import QUANTIZATIONS, convert, deploy, read_card
from lttlib.network import CONVS, quantize_kernels, receptive_field
from lttlib.speech import ALPHABET


def said(model, values):
    logits, lengths = model.network(tf.constant(values[None]), tf.constant([len(values)]))
    return logits[0, : lengths[0]].numpy()


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_the_file_says_what_the_network_says_at_any_length(tmp_path, conv, batch_norm, activation):
    model = noise_model(conv=conv, batch_norm=batch_norm, activation=activation)
    size = convert(model, tmp_path / "a.tflite")
    assert size == (tmp_path / "a.tflite").stat().st_size
    recogniser = Recogniser(tmp_path / "a.tflite")
    values = [extract(noise_wave(seconds), NOISE_CONFIG) for seconds in (1.0, 0.031, 0.4)]
    for ours, one in zip(recogniser.logits(values), values, strict=True):
        expected = said(model, one)
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, atol=2e-4 * np.abs(expected).max())


def test_every_form_is_smaller_and_says_nearly_the_same(tmp_path):
    model = noise_model(conv="gated_conv", filters=(48, 48, 48))
    waves = [noise_wave(seconds, seed) for seed, seconds in enumerate((1.0, 0.6, 0.8))]
    sizes, differences = {}, {}
    values = extract(waves[0], NOISE_CONFIG)
    for form in QUANTIZATIONS:
        sizes[form] = convert(model, tmp_path / form, form, waves)
        (ours,) = Recogniser(tmp_path / form).logits([values])
        expected = said(model, values)
        differences[form] = np.abs(ours - expected).max() / np.abs(expected).max()
    assert sizes["float16"] < 0.65 * sizes["float32"]
    assert max(sizes["int8"], sizes["dynamic_int8"]) < 0.5 * sizes["float32"]
    assert differences["float32"] < 1e-4 and differences["float16"] < 0.01
    assert max(differences["int8"], differences["dynamic_int8"]) < 0.2
    assert min(differences["int8"], differences["dynamic_int8"]) > differences["float16"], (
        "they are not of 8 bits"
    )


def test_a_quantized_network_is_deployed_with_the_kernels_that_it_computes_with(tmp_path):
    model = noise_model()
    quantize_kernels(model.network, 2, 64)
    convert(model, tmp_path / "a.tflite")
    values = extract(noise_wave(0.5), NOISE_CONFIG)
    (ours,) = Recogniser(tmp_path / "a.tflite").logits([values])
    np.testing.assert_allclose(ours, said(model, values), atol=1e-3)
    model.network.layers[0].quantizer = None
    assert np.abs(ours - said(model, values)).max() > 0.01


def test_the_context_is_what_an_output_depends_on_and_no_more(tmp_path):
    model = noise_model()
    values = np.random.default_rng(0).normal(size=(80, 39)).astype(np.float32)
    before, after = receptive_field(model.network.spec)
    frame, step = 6, 6
    touched = []
    for place in range(80):
        other = values.copy()
        other[place] += 1
        if np.abs(said(model, other)[frame] - said(model, values)[frame]).max() > 0:
            touched.append(place)
    assert (min(touched), max(touched)) == (frame * step - before, frame * step + after)


def test_what_cannot_be_converted_or_read_is_refused(tmp_path):
    model, path = noise_model(), tmp_path / "a.tflite"
    with pytest.raises(ValueError, match="unknown quantization 'int4'"):
        convert(model, path, "int4")
    with pytest.raises(ValueError, match="int8 needs speech"):
        convert(model, path, "int8")
    assert not list(tmp_path.iterdir())
    convert(model, path)
    content = path.read_bytes()
    for name, broken in {"cut": content[:-40], "other": b"no model", "empty": b""}.items():
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(ValueError, match=f"{name} is no deployed model.*ltt deploy"):
            Recogniser(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(ValueError, match="zip is no deployed model"):
        Recogniser(tmp_path / "zip")
    with pytest.raises(ValueError, match="nowhere is no deployed model"):
        Recogniser(tmp_path / "nowhere")


def test_an_utterance_without_frames_has_no_text(tmp_path):
    convert(noise_model(), tmp_path / "a.tflite")
    recogniser = Recogniser(tmp_path / "a.tflite")
    assert recogniser.logits([np.zeros((0, 39), np.float32)])[0].shape == (0, 29)
    assert recognition.transcribe_features(recogniser, np.zeros((0, 39), np.float32)) == ""


def test_a_deployed_model_is_a_folder_like_any_other(tmp_path):
    model = noise_model()
    card = deploy(tmp_path / "small", model, "float16", [noise_wave(1)], technique="distilled")
    assert (
        card == read_card(tmp_path / "small")
        and card["form"] == "float16"
        and card["technique"] == "distilled"
    )
    size = (tmp_path / "small" / "model.tflite").stat().st_size
    assert (
        card["files"] == {"model.tflite": size}
        and card["parameters"] == model.network.count_params()
    )
    loaded = models.load(tmp_path / "small")
    assert isinstance(loaded, Recogniser) and loaded.metadata["name"] == "small"
    values = [extract(noise_wave(seconds), NOISE_CONFIG) for seconds in (0.5, 0.8)]
    for ours, theirs in zip(loaded.logits(values), model.logits(values), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.01 * np.abs(theirs).max())
    content = (tmp_path / "small" / "model.tflite").read_bytes()
    (tmp_path / "small" / "model.tflite").write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match="not those that card.json describes"):
        models.load(tmp_path / "small")


def test_the_real_time_factor_is_time_over_time(tmp_path, monkeypatch):
    class Slow:
        feature_config, alphabet = NOISE_CONFIG, ALPHABET

        def logits(self, values):
            clock[0] += 0.5
            return [np.zeros((3, 29), np.float32)]

    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    found = recognition.real_time_factor(Slow(), noise_wave(2.0), repeats=3)
    assert found == {"features": 0.0, "network": 0.25, "total": 0.25}


ALONE = """
import sys
for name in ("tensorflow", "keras", "loky", "jiwer", "safetensors", "matplotlib", "librosa", "pooch"):
    sys.modules[name] = None  # importing it fails
from lttlib.cli import main
sys.exit(main(["transcribe", *sys.argv[1:]]))
"""


def test_a_file_is_transcribed_without_tensorflow(tmp_path):
    model = noise_model(seed=2)
    convert(model, tmp_path / "a.tflite", waves=[noise_wave(1)])
    soundfile.write(tmp_path / "a.flac", noise_wave(1.5), 8000)
    expected = recognition.transcribe(model, tmp_path / "a.flac")
    assert len(expected) > 3
    for options in ([], ["--chunk", "100"]):
        command = [
            sys.executable,
            "-c",
            ALONE,
            *options,
            str(tmp_path / "a.tflite"),
            str(tmp_path / "a.flac"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"{tmp_path / 'a.flac'}\t{expected}"


@pytest.mark.slow
def test_the_device_extra_is_all_that_a_device_needs(tmp_path):
    """A new environment with the extra `device` alone; its packages come from where pip takes packages."""
    home = Path(__file__).resolve().parents[2]
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):  # pip leaves a folder `build` where it installs from
        shutil.copy(home / name, tmp_path / name)
    shutil.copytree(home / "lttlib", tmp_path / "lttlib")
    model = noise_model(seed=2)
    convert(model, tmp_path / "a.tflite", "dynamic_int8")
    soundfile.write(tmp_path / "a.flac", noise_wave(1.5), 8000)
    expected = recognition.transcribe(Recogniser(tmp_path / "a.tflite"), tmp_path / "a.flac")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
    }
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"{tmp_path}[device]",
    ]
    done = subprocess.run(install, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"pip cannot install the extra: {done.stderr[-2000:]}"
    ltt = [
        tmp_path / "venv" / "bin" / "ltt",
        "transcribe",
        tmp_path / "a.tflite",
        tmp_path / "a.flac",
    ]
    done = subprocess.run(ltt, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"{tmp_path / 'a.flac'}\t{expected}\n", done.stderr
    found = subprocess.run(
        [python, "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "tensorflow" not in found.lower() and "ai-edge-litert" in found
