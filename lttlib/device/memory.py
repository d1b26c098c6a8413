"""How much memory a process takes that only transcribes."""

import subprocess
import sys

# Of this program alone: what the system says of a child counts its parent as well, on Linux.
PROGRAM = """
import sys
from lttlib.cli import main
code = main(sys.argv[1:])
if code:
    sys.exit(code)
try:
    lines = open("/proc/self/status").readlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    print(1024 * int(peak))
except OSError:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(model, audio):
    """Let a process of its own transcribe a sound file, as `ltt transcribe` does.

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
    command = [sys.executable, "-c", PROGRAM, "transcribe", str(model), str(audio)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, line, peak = finished.stdout.splitlines()
    return line.split("\t")[1], int(peak)
