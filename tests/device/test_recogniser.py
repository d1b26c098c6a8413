"""A recogniser on a device: without TensorFlow, and of whole files only."""

import json
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
from builders import NOISE_CONFIG, noise_model, noise_wave
from damage import assert_refused, change, content, cuts, flips, replaced, rows, series

from lttlib import Error, recognition
from lttlib.device import Recogniser
from lttlib.device.recogniser import METADATA_FILE
from lttlib.files import CHECKSUM_KEY, with_checksum
from lttlib.models import convert
from lttlib.speech import ALPHABET

REPOSITORY = Path(__file__).resolve().parents[2]


def test_recogniser_gives_no_logits_and_no_text_for_no_frames(tmp_path):
    convert(noise_model(), tmp_path / "a.tflite")
    recogniser = Recogniser(tmp_path / "a.tflite")
    features = np.zeros((0, 39), np.float32)
    assert recogniser.logits([features])[0].shape == (0, 29)
    assert recognition.transcribe_features(recogniser, features) == ""


def test_real_time_factor_is_time_over_time(monkeypatch):
    class Slow:
        feature_config, alphabet = NOISE_CONFIG, ALPHABET

        def logits(self, utterances):
            clock[0] += 0.5
            return [np.zeros((3, 29), np.float32)]

    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    factors = recognition.real_time_factor(Slow(), noise_wave(2.0), repeats=3)
    assert factors == {"features": 0.0, "network": 0.25, "total": 0.25}


ALONE = """
import sys
heavy = "tensorflow keras scipy loky jiwer safetensors matplotlib librosa pooch"
for name in heavy.split():
    sys.modules[name] = None  # importing it fails
from lttlib.cli import main
sys.exit(main(["transcribe", *sys.argv[1:]]))
"""


def run(*command, **options):
    """A process that has ended, with its output."""
    arguments = [str(argument) for argument in command]
    return subprocess.run(arguments, capture_output=True, text=True, **options)


def test_recogniser_transcribes_a_file_without_tensorflow(tmp_path):
    model = noise_model(seed=2)
    path, sound = tmp_path / "a.tflite", tmp_path / "a.flac"
    convert(model, path, waves=[noise_wave(1)])
    soundfile.write(sound, noise_wave(1.5), 8000)
    expected = recognition.transcribe(model, sound)
    assert len(expected) > 3
    for options in ([], ["--chunk", "100"]):
        done = run(sys.executable, "-c", ALONE, *options, path, sound)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"{sound}\t{expected}"


@pytest.mark.slow
def test_device_extra_is_all_that_a_device_needs(tmp_path):
    """A new environment with the extra `device` alone, of packages from where pip takes them."""
    # A copy, since pip leaves a folder `build` where it installs from.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copytree(REPOSITORY / "lttlib", tmp_path / "lttlib")
    path, sound = tmp_path / "a.tflite", tmp_path / "a.flac"
    convert(noise_model(seed=2), path, "dynamic_int8")
    soundfile.write(sound, noise_wave(1.5), 8000)
    expected = recognition.transcribe(Recogniser(path), sound)

    programs = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    pip = (programs / "python", "-m", "pip")
    quiet = ("--quiet", "--disable-pip-version-check")
    done = run(*pip, "install", *quiet, f"{tmp_path}[device]", env=environment)
    assert done.returncode == 0, f"pip cannot install the extra: {done.stderr[-2000:]}"

    done = run(programs / "ltt", "transcribe", path, sound, cwd=tmp_path)
    assert done.stdout == f"{sound}\t{expected}\n", done.stderr
    packages = run(*pip, "list", check=True).stdout
    assert "tensorflow" not in packages.lower() and "ai-edge-litert" in packages


# Bad input.


def test_recogniser_refuses_files_that_are_no_deployed_model(tmp_path):
    path = tmp_path / "a.tflite"
    convert(noise_model(), path)
    data = path.read_bytes()
    for name, broken in {"cut": data[:-40], "other": b"no model", "empty": b""}.items():
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(Error, match=f"{name}: no deployed model.*ltt deploy"):
            Recogniser(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "")
    for name in ("zip", "nowhere"):
        with pytest.raises(Error, match=f"{name}: no deployed model") as refused:
            Recogniser(tmp_path / name)
        assert refused.value.path == tmp_path / name


def test_recogniser_names_the_interpreter_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(Error, match="a.tflite: needs LiteRT") as refused:
        Recogniser(tmp_path / "a.tflite")
    assert "pip install" in refused.value.cure


DEPLOYED = "model.tflite"  # of the fixture `workspace`


def network_and_metadata(path):
    """Bytes before the archive of a file, and the metadata in it without their checksum."""
    with zipfile.ZipFile(path) as archive:
        network = path.read_bytes()[: archive.getinfo(METADATA_FILE).header_offset]
        metadata = json.loads(archive.read(METADATA_FILE))
    del metadata[CHECKSUM_KEY]
    return network, metadata


def rewritten(network, text, path, compression=zipfile.ZIP_STORED, name=METADATA_FILE):
    path.write_bytes(network)
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr(name, text)


def metadata_with(name=METADATA_FILE, **changes):
    """A file with other metadata, and a valid checksum."""

    def damage(workspace):
        path = workspace / DEPLOYED
        network, metadata = network_and_metadata(path)
        text = json.dumps(with_checksum(metadata | changes, network))
        rewritten(network, text, path, name=name)
        yield path

    return damage


def metadata_of(text):
    """A file with any text for metadata."""

    def damage(workspace):
        path = workspace / DEPLOYED
        network, _ = network_and_metadata(path)
        rewritten(network, text, path)
        yield path

    return damage


def metadata_of_megabytes(workspace):
    path = workspace / DEPLOYED
    network, metadata = network_and_metadata(path)
    rewritten(network, json.dumps(metadata) + " " * 2**22, path, zipfile.ZIP_DEFLATED)
    yield path


def network_flips(workspace):
    network, _ = network_and_metadata(workspace / DEPLOYED)
    yield from series(DEPLOYED, flips(40, 0, len(network)))(workspace)


def recognise(workspace, path):
    Recogniser(path)


DEPLOY = "`ltt deploy` writes one"
DEEP = "[" * 100_000
# fmt: off
BAD_DEPLOYED = [
    ("deployed cut", series(DEPLOYED, cuts(40)), recognise, Error, DEPLOY),
    ("deployed flipped bits", network_flips, recognise, Error, DEPLOY),
    ("deployed empty", content(DEPLOYED, b""), recognise, Error, DEPLOY),
    ("deployed with another network", change(DEPLOYED, lambda data: data[4:]), recognise, Error,
     DEPLOY),
    ("deployed without metadata", metadata_with(name="other.json"), recognise, Error, DEPLOY),
    ("deployed damaged archive", change(DEPLOYED, replaced("PK\1\2", "PK\1\3")), recognise, Error,
     DEPLOY),
    ("deployed metadata are a list", metadata_of("[1]"), recognise, Error, DEPLOY),
    ("deployed metadata nested without end", metadata_of(DEEP), recognise, Error, DEPLOY),
    ("deployed metadata of megabytes", metadata_of_megabytes, recognise, Error, DEPLOY),
    ("deployed without features", metadata_with(features=None), recognise, Error, DEPLOY),
    ("deployed features of other channels", metadata_with(features={"n_mfcc": 12}), recognise,
     Error, DEPLOY),
    ("deployed alphabet of other classes", metadata_with(alphabet="AB"), recognise, Error, DEPLOY),
    ("deployed alphabet is a list", metadata_with(alphabet=[*ALPHABET]), recognise, Error, DEPLOY),
    ("deployed alphabet of one letter", metadata_with(alphabet="A" * 28), recognise, Error,
     DEPLOY),
    ("deployed stride of none", metadata_with(stride=0), recognise, Error, DEPLOY),
    ("deployed stride is a text", metadata_with(stride="6"), recognise, Error, DEPLOY),
    ("deployed context of one side", metadata_with(context=[7]), recognise, Error, DEPLOY),
    ("deployed context below 0", metadata_with(context=[-1, 7]), recognise, Error, DEPLOY),
]
# fmt: on


@rows(BAD_DEPLOYED)
def test_damaged_deployed_file_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_deployed_file_that_is_whole_is_opened(workspace):
    Recogniser(workspace / DEPLOYED)
