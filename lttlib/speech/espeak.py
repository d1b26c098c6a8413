"""espeak-ng, the speech synthesiser of the wheel `espeakng-loader`, called through ctypes.

The library keeps state between calls (the phase of the voice, its echo), which neither another
voice nor a new start clears, so the same sentence sounds different after another. It therefore runs
in a process of its own: this file, run as a script, answers requests in their order. The same
requests give the same bytes every time. espeak-ng is GPL-3.0-or-later: see data/README.md.
"""

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile

SAMPLING_RATE = 22050  # Hz, of every espeak-ng voice
HALF_VOLUME = 50  # of 100: some voices clip at full volume
REINSTALL = "pip install --force-reinstall espeakng-loader"

# The numbers of speak_lib.h, espeak-ng 1.52.
SYNCHRONOUS = 2
DO_NOT_EXIT = 0x8000
UTF8 = 1
RATE, VOLUME, PITCH = 1, 2, 3
FIRST, CHARACTERS, LAST = 0, 1, 0  # speak from the first character, counted so, to the last
SAMPLES = ctypes.POINTER(ctypes.c_short)
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, SAMPLES, ctypes.c_int, ctypes.c_void_p)


@contextlib.contextmanager
def espeak_process():
    """Start espeak-ng and yield a function that speaks with it.

    Yields
    ------
    speak : callable
        `speak(text, voice, rate, pitch) -> bytes`: 16-bit samples at 22,050 Hz, in the machine's
        byte order. `voice` is an accent and a variant ("en-us+f3"), `rate` words per minute (80 to
        450), `pitch` 0 to 100.

    Raises
    ------
    RuntimeError
        If espeak-ng cannot be loaded, does not know a voice, or ends early; the message says why.
    """
    # -P: the names of the modules beside this file must not hide others.
    command = [sys.executable, "-P", __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with tempfile.TemporaryFile() as errors:
        # Leaving `with` closes the pipes and waits.
        with subprocess.Popen(command, stderr=errors, **pipes) as process:

            def speak(text, voice, rate, pitch):
                try:
                    return _send_request(process, [text, voice, rate, pitch])
                except (OSError, EOFError, struct.error):
                    message = _last_message(process, errors)
                    raise RuntimeError(f"espeak-ng stopped: {message}") from None

            yield speak


def _send_request(process, request):
    """Return the process's answer to a request."""
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    (size,) = struct.unpack("=i", process.stdout.read(4))
    wave = process.stdout.read(size)
    if len(wave) < size:
        raise EOFError
    return wave


def _last_message(process, errors):
    """Wait for the process to end and return the last line of its errors."""
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.wait()
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    return "\n".join(lines[-2:]).strip()


def main():
    """Answer requests on standard input with samples on standard output, until the input ends.

    A request is a line of JSON: [text, voice, rate, pitch]. An answer is the number of its bytes,
    and the samples.
    """
    library = _load_library()
    chunks = []

    @CALLBACK
    def append(samples, count, _events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_short)))
        return 0

    library.espeak_SetSynthCallback(append)
    for line in sys.stdin:
        text, voice, rate, pitch = json.loads(line)
        _set_voice(library, voice, rate, pitch)
        _speak(library, text)
        wave = b"".join(chunks)
        chunks.clear()
        sys.stdout.buffer.write(struct.pack("=i", len(wave)) + wave)
        sys.stdout.buffer.flush()


def _load_library():
    """Load and initialise espeak-ng, or exit with what to install."""
    try:
        import espeakng_loader
    except ImportError:
        sys.exit("the voices are not installed: pip install espeakng-loader")
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        sys.exit(f"the wheel espeakng-loader does not fit this system ({error}): {REINSTALL}")
    # A relative path, because espeak-ng refuses one of more than 160 characters.
    os.chdir(espeakng_loader.get_data_path())
    if library.espeak_Initialize(SYNCHRONOUS, 0, b".", DO_NOT_EXIT) != SAMPLING_RATE:
        sys.exit(f"no espeak-ng data in {os.getcwd()}: {REINSTALL}")
    return library


def _set_voice(library, voice, rate, pitch):
    """Set the voice of all that follows, or exit if there is none of this name."""
    if library.espeak_SetVoiceByName(voice.encode()):
        sys.exit(f"no voice {voice!r}")
    library.espeak_SetParameter(RATE, rate, 0)
    library.espeak_SetParameter(VOLUME, HALF_VOLUME, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)


def _speak(library, text):
    """Speak a text to the callback, or exit if it cannot be spoken."""
    data = text.encode()
    size = ctypes.c_size_t(len(data) + 1)
    arguments = (data, size, FIRST, CHARACTERS, LAST, UTF8, None, None)
    if library.espeak_Synth(*arguments):
        sys.exit(f"cannot speak {text!r}")


if __name__ == "__main__":
    main()
