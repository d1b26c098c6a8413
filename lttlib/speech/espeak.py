"""The voice of synthesised speech: espeak-ng from the wheel `espeakng-loader`, called through ctypes.

The library keeps state between calls (the phase of the voice, its echo), which neither another voice nor a new start
clears, so the same sentence sounds different after another. It therefore runs in a process of its own: this file, run
as a script, speaks what it is told in the order in which it is told. One conversation gives the same bytes every time.
espeak-ng is GPL-3.0-or-later: see data/README.md.
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
# The numbers of speak_lib.h, espeak-ng 1.52.
SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1


RATE, VOLUME, PITCH = 1, 2, 3
HALF_VOLUME = 50  # of 100: some voices clip at full volume
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@contextlib.contextmanager
def espeak_process():
    """Start espeak-ng and give a function that speaks with it.

    Yields
    ------
    speak : callable
        `speak(text, voice, rate, pitch) -> bytes`: 16-bit samples at 22,050 Hz, in the machine's byte order. `voice` is
        an accent and a variant ("en-us+f3"), `rate` words a minute (80 to 450), `pitch` 0 to 100.

    Raises
    ------
    RuntimeError
        If espeak-ng cannot be loaded, does not know a voice, or ends early; the message says what it said.
    """
    with tempfile.TemporaryFile() as errors:
        # -P: the names of the modules beside this file must not hide others. Leaving `with` closes the pipes and waits.
        command = [sys.executable, "-P", __file__]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process:

            def speak(text, voice, rate, pitch):
                try:
                    process.stdin.write(json.dumps([text, voice, rate, pitch]).encode() + b"\n")
                    process.stdin.flush()
                    (size,) = struct.unpack("=i", process.stdout.read(4))
                    wave = process.stdout.read(size)
                    if len(wave) < size:
                        raise EOFError
                    return wave
                except (OSError, EOFError, struct.error):
                    with contextlib.suppress(OSError):
                        process.stdin.close()
                    process.wait()
                    errors.seek(0)
                    lines = errors.read().decode(errors="replace").split("\n")
                    raise RuntimeError(
                        "espeak-ng stopped: " + "\n".join(lines[-2:]).strip()
                    ) from None

            yield speak


def main():
    """Answer every request on standard input with samples on standard output, until the input ends."""
    try:
        import espeakng_loader
    except ImportError:
        sys.exit("the voices are not installed: pip install espeakng-loader")
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        sys.exit(
            f"the wheel espeakng-loader does not fit this system ({error}): pip install --force-reinstall it"
        )
    # A relative path, because espeak-ng refuses one of more than 160 characters.
    os.chdir(espeakng_loader.get_data_path())
    if library.espeak_Initialize(SYNCHRONOUS, 0, b".", DO_NOT_EXIT) != SAMPLING_RATE:
        sys.exit(
            f"no espeak-ng data in {os.getcwd()}: pip install --force-reinstall espeakng-loader"
        )

    samples = []

    @CALLBACK
    def keep(wave, count, _events):
        if wave and count > 0:
            samples.append(ctypes.string_at(wave, count * ctypes.sizeof(ctypes.c_short)))
        return 0

    library.espeak_SetSynthCallback(keep)
    for request in sys.stdin:
        text, voice, rate, pitch = json.loads(request)
        if library.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"no voice {voice!r}")
        for parameter, value in ((RATE, rate), (VOLUME, HALF_VOLUME), (PITCH, pitch)):
            library.espeak_SetParameter(parameter, value, 0)
        spoken = text.encode()
        start, character, end = (
            0,
            1,
            0,
        )  # from the first character, positions counted in characters, to the last
        size = ctypes.c_size_t(len(spoken) + 1)
        if library.espeak_Synth(spoken, size, start, character, end, UTF8, None, None):
            sys.exit(f"cannot speak {text!r}")
        wave = b"".join(samples)
        samples.clear()
        sys.stdout.buffer.write(struct.pack("=i", len(wave)) + wave)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
