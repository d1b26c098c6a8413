"""A deployed model: what the file says against the network that it was made of, and use without TensorFlow."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from lttlib import deploy, device, models, quantize, storage
from lttlib.features import Features, extract

FEATURES = Features(sampling_rate=8000)
LISTS = {"filters": (12, 9, 7), "widths": (7, 4, 1), "strides": (2, 3, 1), "dropouts": (0.1, 0.2, 0.0)}


def trained(seed=0, levels=0, **changes):
    """A model in which no variable has the values of the start."""
    network = models.ConvNet(models.ConvSpec(**LISTS | changes, input_channels=39, classes=29), seed, levels=levels)
    random = np.random.default_rng(seed)
    for variable in network.variables:
        if "kernel" not in variable.path:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return storage.Model(network, FEATURES)


def wave(seconds, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=int(8000 * seconds))).astype(np.float32)


def said(model, values):
    logits, lengths = model.network(tf.constant(values[None]), tf.constant([len(values)]))
    return logits[0, : lengths[0]].numpy()


@pytest.mark.parametrize("conv", models.CONVS)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_the_file_says_what_the_network_says_at_any_length(tmp_path, conv, batch_norm, activation):
    model = trained(conv=conv, batch_norm=batch_norm, activation=activation)
    size = deploy.convert(model, tmp_path / "a.tflite")
    assert size == (tmp_path / "a.tflite").stat().st_size
    recogniser = device.Recogniser(tmp_path / "a.tflite")
    values = [extract(wave(seconds), FEATURES) for seconds in (1.0, 0.031, 0.4)]
    for ours, one in zip(recogniser.logits(values), values, strict=True):
        expected = said(model, one)
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, atol=2e-4 * np.abs(expected).max())


def test_every_form_is_smaller_and_says_nearly_the_same(tmp_path):
    model = trained(conv="gated_conv", filters=(48, 48, 48))
    waves = [wave(seconds, seed) for seed, seconds in enumerate((1.0, 0.6, 0.8))]
    sizes, differences = {}, {}
    values = extract(waves[0], FEATURES)
    for form in deploy.FORMS:
        sizes[form] = deploy.convert(model, tmp_path / form, form, waves)
        (ours,) = device.Recogniser(tmp_path / form).logits([values])
        expected = said(model, values)
        differences[form] = np.abs(ours - expected).max() / np.abs(expected).max()
    assert sizes["float16"] < 0.65 * sizes["float32"]
    assert max(sizes["int8"], sizes["dynamic_int8"]) < 0.5 * sizes["float32"]
    assert differences["float32"] < 1e-4 and differences["float16"] < 0.01
    assert max(differences["int8"], differences["dynamic_int8"]) < 0.2
    assert min(differences["int8"], differences["dynamic_int8"]) > differences["float16"], "they are not of 8 bits"


def test_a_quantized_network_is_deployed_with_the_kernels_that_it_computes_with(tmp_path):
    model = trained()
    quantize.attach(model.network, 2, 64)
    deploy.convert(model, tmp_path / "a.tflite")
    values = extract(wave(0.5), FEATURES)
    (ours,) = device.Recogniser(tmp_path / "a.tflite").logits([values])
    np.testing.assert_allclose(ours, said(model, values), atol=1e-3)
    model.network.layers[0].quantizer = None
    assert np.abs(ours - said(model, values)).max() > 0.01


def test_the_context_is_what_an_output_depends_on_and_no_more(tmp_path):
    model = trained()
    values = np.random.default_rng(0).normal(size=(80, 39)).astype(np.float32)
    before, after = models.context(model.network.spec)
    frame, step = 6, 6
    touched = []
    for place in range(80):
        other = values.copy()
        other[place] += 1
        if np.abs(said(model, other)[frame] - said(model, values)[frame]).max() > 0:
            touched.append(place)
    assert (min(touched), max(touched)) == (frame * step - before, frame * step + after)


def test_what_cannot_be_converted_or_read_is_refused(tmp_path):
    model, path = trained(), tmp_path / "a.tflite"
    with pytest.raises(ValueError, match="unknown form 'int4'"):
        deploy.convert(model, path, "int4")
    with pytest.raises(ValueError, match="int8 needs speech"):
        deploy.convert(model, path, "int8")
    assert not list(tmp_path.iterdir())
    deploy.convert(model, path)
    content = path.read_bytes()
    for name, broken in {"cut": content[:-40], "other": b"no model", "empty": b""}.items():
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(ValueError, match=f"{name} is no deployed model.*ltt deploy"):
            device.Recogniser(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(ValueError, match="zip is no deployed model"):
        device.Recogniser(tmp_path / "zip")
    with pytest.raises(ValueError, match="nowhere is no deployed model"):
        device.Recogniser(tmp_path / "nowhere")


def test_an_utterance_without_frames_has_no_text(tmp_path):
    deploy.convert(trained(), tmp_path / "a.tflite")
    recogniser = device.Recogniser(tmp_path / "a.tflite")
    assert recogniser.logits([np.zeros((0, 39), np.float32)])[0].shape == (0, 29)
    assert device.spell(recogniser, np.zeros((0, 39), np.float32)) == ""


def test_a_deployed_model_is_a_folder_like_any_other(tmp_path):
    model = trained()
    card = deploy.save(tmp_path / "small", model, "float16", [wave(1)], technique="distilled")
    assert card == storage.card(tmp_path / "small") and card["form"] == "float16" and card["technique"] == "distilled"
    size = (tmp_path / "small" / "model.tflite").stat().st_size
    assert card["files"] == {"model.tflite": size} and card["parameters"] == model.network.count_params()
    loaded = storage.load(tmp_path / "small")
    assert isinstance(loaded, device.Recogniser) and loaded.facts["name"] == "small"
    values = [extract(wave(seconds), FEATURES) for seconds in (0.5, 0.8)]
    for ours, theirs in zip(loaded.logits(values), model.logits(values), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.01 * np.abs(theirs).max())
    content = (tmp_path / "small" / "model.tflite").read_bytes()
    (tmp_path / "small" / "model.tflite").write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match="not those that card.json describes"):
        storage.load(tmp_path / "small")


def test_the_real_time_factor_is_time_over_time(tmp_path, monkeypatch):
    class Slow:
        features, alphabet = FEATURES, storage.text.ALPHABET

        def logits(self, values):
            clock[0] += 0.5
            return [np.zeros((3, 29), np.float32)]

    clock = [0.0]
    monkeypatch.setattr(device.time, "perf_counter", lambda: clock[0])
    found = device.real_time_factor(Slow(), wave(2.0), repeats=3)
    assert found == {"features": 0.0, "network": 0.25, "total": 0.25}


ALONE = """
import sys
for name in ("tensorflow", "keras", "loky", "jiwer", "safetensors", "matplotlib", "librosa", "pooch"):
    sys.modules[name] = None  # importing it fails
from lttlib.cli import main
sys.exit(main(["transcribe", *sys.argv[1:]]))
"""


def test_a_file_is_transcribed_without_tensorflow(tmp_path):
    model = trained(seed=2)
    deploy.convert(model, tmp_path / "a.tflite", waves=[wave(1)])
    soundfile.write(tmp_path / "a.flac", wave(1.5), 8000)
    expected = device.transcribe(model, tmp_path / "a.flac")
    assert len(expected) > 3
    for options in ([], ["--chunk", "100"]):
        command = [sys.executable, "-c", ALONE, *options, str(tmp_path / "a.tflite"), str(tmp_path / "a.flac")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"{tmp_path / 'a.flac'}\t{expected}"


@pytest.mark.parallel
def test_the_device_extra_is_all_that_a_device_needs(tmp_path):
    """A new environment with the extra `device` alone; its packages come from where pip takes packages."""
    home = Path(__file__).resolve().parent.parent
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # pip leaves a folder `build` where it installs from
        shutil.copy(home / name, tmp_path / name)
    shutil.copytree(home / "lttlib", tmp_path / "lttlib")
    model = trained(seed=2)
    deploy.convert(model, tmp_path / "a.tflite", "dynamic_int8")
    soundfile.write(tmp_path / "a.flac", wave(1.5), 8000)
    expected = device.transcribe(device.Recogniser(tmp_path / "a.tflite"), tmp_path / "a.flac")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{tmp_path}[device]"]
    done = subprocess.run(install, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"pip cannot install the extra: {done.stderr[-2000:]}"
    ltt = [tmp_path / "venv" / "bin" / "ltt", "transcribe", tmp_path / "a.tflite", tmp_path / "a.flac"]
    done = subprocess.run(ltt, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"{tmp_path / 'a.flac'}\t{expected}\n", done.stderr
    found = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "tensorflow" not in found.lower() and "ai-edge-litert" in found
