"""A process that only transcribes, and what it takes."""

import subprocess

import pytest
import soundfile
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib import recognition
from lttlib.device import Recogniser
from lttlib.models import convert, peak_memory


def test_peak_memory_is_that_of_a_process_which_writes_what_this_one_does(tmp_path):
    audio, file = tmp_path / "a.wav", tmp_path / "a.tflite"
    soundfile.write(audio, noise_wave(1.0), NOISE_CONFIG.sampling_rate)
    convert(noise_model(), file)
    text, peak = peak_memory(file, audio)
    assert text == recognition.transcribe(Recogniser(file), audio)
    assert 2e7 < peak < 4e8, "more than Python has, less than TensorFlow takes"


def test_peak_memory_of_a_process_that_fails_is_an_error(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        peak_memory(tmp_path / "none.tflite", tmp_path / "none.wav")
