"""How much memory a process takes that only transcribes."""

import json
import subprocess
import sys

# The system is asked by the child itself: what it says of a child counts the parent too, on Linux.
PROGRAM = """
import json, sys
from lttlib import recognition

model, audio = sys.argv[1:]
if model.endswith(".tflite"):
    from lttlib.device import Recogniser as load
else:
    from lttlib.models import load
text = recognition.transcribe(load(model), audio)
try:
    lines = open("/proc/self/status").readlines()
    (peak,) = [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
except OSError:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([text, peak]))
"""


def peak_memory(model, audio):
    """Transcribe a sound file in a process of its own, and measure its memory.

    Parameters
    ----------
    model : path-like
        A .tflite file, which runs on LiteRT, or a model folder, which runs on TensorFlow.
    audio : path-like

    Returns
    -------
    text : str
    peak : int
        The most bytes of memory that the process had.

    Raises
    ------
    subprocess.CalledProcessError
        If it could not.
    """
    command = [sys.executable, "-c", PROGRAM, str(model), str(audio)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    text, peak = json.loads(finished.stdout.splitlines()[-1])
    return text, peak
