"""Sound files: read as librosa reads them, resampled, and refused if they are damaged."""

import io
import os
import struct
import tracemalloc
import warnings

import hypothesis
import librosa
import numpy as np
import pytest
import soundfile
from builders import WORKSPACE_FEATURES, chirp
from damage import MAX_MEMORY, assert_refused, content, cuts, peak_memory, rows, series
from hypothesis import strategies

from lttlib.features import AudioError, AudioWarning, audio, extract, load_audio

RATE = 16000


def sine(hertz, sampling_rate, seconds=1.0):
    time = np.arange(int(seconds * sampling_rate)) / sampling_rate
    return 0.5 * np.sin(2 * np.pi * hertz * time)


def loudest_frequency(wave, sampling_rate):
    """Frequency in Hz of the loudest sine."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return np.argmax(spectrum) * sampling_rate / len(wave)


def amplitude(wave):
    """Amplitude of a sine."""
    return np.sqrt(2 * np.mean(wave**2))


def write(path, wave, sampling_rate=RATE, **options):
    soundfile.write(path, wave, sampling_rate, **options)
    return path


# What is read


@pytest.mark.parametrize("sampling_rate, speech", [(8000, "SpokenDigits"), (16000, "LJSpeech")])
def test_load_audio_reads_a_file_as_librosa_reads_it(corpora, sampling_rate, speech):
    path = min((corpora / speech / "dev").glob("*/*/*.flac"))
    expected, rate = librosa.load(path, sr=None)
    assert rate == sampling_rate
    np.testing.assert_array_equal(load_audio(path, rate), expected)
    ours = load_audio(path, 11025)
    theirs = librosa.load(path, sr=11025)[0]
    assert 0 <= len(theirs) - len(ours) <= 1, "librosa rounds the length up"
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=1e-6)


def test_load_audio_averages_the_channels_of_a_stereo_file(tmp_path):
    left, right = chirp(seed=1), chirp(seed=2)
    path = write(tmp_path / "x.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path, RATE), (left + right) / 2, atol=1e-7)


def test_load_audio_reads_a_wav_of_unknown_length_as_a_pipe_writes_it(tmp_path):
    data = write(tmp_path / "x.wav", chirp()).read_bytes()
    unknown = b"\xff" * 4
    piped = data[:4] + unknown + data[8:40] + unknown + data[44:]
    (tmp_path / "pipe.wav").write_bytes(piped)
    assert len(load_audio(tmp_path / "pipe.wav", RATE)) == len(chirp())


@pytest.mark.parametrize("order", ["<i2", ">i2"])
@pytest.mark.parametrize("channels", [1, 2])
def test_load_audio_reads_a_nist_sphere_file_of_either_byte_order(tmp_path, order, channels):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, size=(3000, 1))
    samples = np.concatenate([samples, samples // 2], axis=1)[:, :channels]
    (tmp_path / "x.sph").write_bytes(sphere(samples, order))
    expected = (samples / 2**15).mean(axis=1)
    np.testing.assert_allclose(load_audio(tmp_path / "x.sph", RATE), expected, atol=1e-7)


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 48000])
def test_load_audio_reads_opus_at_its_own_length_and_near_its_sound(tmp_path, sampling_rate):
    path = tmp_path / "x.opus"
    wave = sine(1000, sampling_rate)
    soundfile.write(path, wave, sampling_rate, format="OGG", subtype="OPUS")
    read = load_audio(path, sampling_rate)
    assert len(read) == sampling_rate
    middle = slice(sampling_rate // 4, -sampling_rate // 4)
    np.testing.assert_allclose(read[middle], wave[middle], atol=0.1)


# Channels: the first voice that is there, and whatever says the same.


def voice(seed, amplitude=0.1, seconds=0.5):
    """Noise that comes and goes, like nobody else's."""
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.uniform(size=20), int(seconds * RATE) // 20)
    return amplitude * loudness * random.normal(size=len(loudness))


VOICE, OTHER, SILENCE = voice(1), voice(2), 0 * voice(1)
HISS = 1e-4 * np.random.default_rng(3).normal(size=len(VOICE))
OPPOSITE = -0.7 * VOICE
CHANNELS = {
    "the same": ([VOICE, VOICE], VOICE, ()),
    "the same at another level": ([VOICE, 0.4 * VOICE], 0.7 * VOICE, ()),
    "the same with noise": ([VOICE, VOICE + 0.3 * OTHER], VOICE + 0.15 * OTHER, ()),
    "the second silent": ([VOICE, SILENCE], VOICE, ()),
    "the second hiss": ([VOICE, HISS], VOICE, ()),
    "the second a constant": ([VOICE, SILENCE + 0.5], VOICE, ()),
    "the second faint": ([VOICE, 0.001 * VOICE], VOICE, ()),
    "the second in opposite phase": ([VOICE, OPPOSITE], VOICE, "2"),
    "the second another voice": ([VOICE, OTHER], VOICE, "2"),
    "the second another voice, louder": ([VOICE, 4 * OTHER], VOICE, "2"),
    "both with the same offset": ([VOICE + 0.5, OTHER + 0.5], VOICE + 0.5, "2"),
    "the first silent": ([SILENCE, VOICE], VOICE, ()),
    "the first hiss": ([HISS, VOICE], VOICE, ()),
    "all silent": ([SILENCE, SILENCE], SILENCE, ()),
    "three, one silent": ([VOICE, SILENCE, 0.5 * VOICE], 0.75 * VOICE, ()),
    "six, the centre speaks": ([HISS, HISS, VOICE, SILENCE, HISS, SILENCE], VOICE, ()),
    "three voices": ([VOICE, OTHER, voice(4)], VOICE, "2, 3"),
}


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("block", [audio.BLOCK_VALUES, 1000])
def test_channels_that_say_something_else_do_not_cost_the_voice(tmp_path, monkeypatch, kind, block):
    monkeypatch.setattr(audio, "BLOCK_VALUES", block)
    channels, expected, omitted = CHANNELS[kind]
    path = write(tmp_path / "x.wav", np.stack(channels, axis=1), subtype="FLOAT")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wave = load_audio(path, RATE)
    np.testing.assert_allclose(wave, expected, atol=1e-7)
    messages = [str(warning.message) for warning in caught if warning.category is AudioWarning]
    assert messages == ([f"{path}: channels differ, left out: {omitted}"] if omitted else [])


def test_channels_that_agree_are_averaged_to_the_same_bits_as_ever(tmp_path):
    samples = np.stack([VOICE, 0.5 * VOICE + 0.1 * OTHER], axis=1)
    path = write(tmp_path / "x.flac", samples)
    expected = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    np.testing.assert_array_equal(load_audio(path, RATE), expected)


@pytest.mark.parametrize("form, subtype", [
    ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
    ("WAV", "MS_ADPCM"), ("NIST", "PCM_16"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*channels differ")
def test_channel_is_taken_alone_from_files_of_every_kind(tmp_path, form, subtype):
    left, right = sine(300, RATE), sine(1100, RATE)
    path = tmp_path / "x.snd"
    write(path, np.stack([left, right], axis=1), format=form, subtype=subtype)
    wave = load_audio(path, RATE)
    assert np.corrcoef(wave[: len(left)], left[: len(wave)])[0, 1] > 0.95


def test_channels_of_which_one_is_no_number_are_refused(tmp_path):
    channels = np.stack([VOICE, OTHER], axis=1)
    channels[7, 1] = np.nan
    path = write(tmp_path / "x.wav", channels, subtype="FLOAT")
    with pytest.raises(AudioError, match="not finite"):
        load_audio(path, RATE)


# Numbers


@pytest.mark.parametrize("form, subtype, error", [
    ("WAV", "PCM_U8", 1e-2), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_32", 1e-7), ("WAV", "FLOAT", 0),
    ("WAV", "DOUBLE", 1e-7), ("WAV", "ULAW", 2e-2), ("WAVEX", "PCM_24", 1e-6),
    ("WAVEX", "FLOAT", 0), ("RF64", "PCM_16", 1e-4), ("W64", "PCM_16", 1e-4),
    ("AIFF", "PCM_S8", 1e-2), ("AU", "ALAW", 2e-2), ("CAF", "ALAC_16", 1e-4),
])  # fmt: skip
def test_load_audio_reads_numbers_of_every_format(tmp_path, form, subtype, error):
    path = write(tmp_path / "x.sound", chirp(), format=form, subtype=subtype)
    wave = load_audio(path, RATE)
    np.testing.assert_allclose(wave, chirp(), atol=error, rtol=0)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("scale", [2**15, 2**23, 2**31])
def test_whole_numbers_that_were_written_as_floats_are_what_they_were(tmp_path, subtype, scale):
    path = write(tmp_path / "x.wav", scale * chirp().astype(np.float64), subtype=subtype)
    np.testing.assert_allclose(load_audio(path, RATE), chirp(), atol=1e-7)


def test_floats_beyond_full_scale_are_scaled_to_it_and_those_within_stay(tmp_path):
    for peak in (1.0, 1.5, 40):
        loud = (peak * chirp() / np.abs(chirp()).max()).astype(np.float32)
        path = write(tmp_path / "x.wav", loud, subtype="FLOAT")
        np.testing.assert_array_equal(load_audio(path, RATE), loud / np.float32(peak))


# Names


def test_load_audio_reads_a_file_whose_name_is_not_utf8(tmp_path):
    path = write(tmp_path / "x.flac", chirp())
    path = path.rename(tmp_path / os.fsdecode(b"caf\xe9.flac"))
    np.testing.assert_allclose(load_audio(path, RATE), chirp(), atol=1e-4)
    path.write_bytes(b"no sound")
    with pytest.raises(AudioError, match="not readable as audio") as refused:
        load_audio(path, RATE)
    assert "caf\\udce9.flac" in str(refused.value)


def test_load_audio_refuses_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """As root may read everything, the system's refusal is acted here."""

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    path = write(tmp_path / "x.flac", chirp())
    monkeypatch.setattr(audio, "open", refuse, raising=False)
    with pytest.raises(AudioError, match="not readable .Permission denied.; give") as refused:
        load_audio(path, RATE)
    assert refused.value.path == path


def test_load_audio_reads_a_whole_file(workspace):
    load_sound(workspace, workspace / "corpus/train/1/1/1-1-0.flac")


# Resampling


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 44100, 48000])
def test_resampling_keeps_frequency_amplitude_and_duration(tmp_path, sampling_rate):
    path = write(tmp_path / "x.flac", sine(1000, sampling_rate), sampling_rate)
    wave = load_audio(path, RATE)
    assert wave.dtype == np.float32 and abs(len(wave) - RATE) <= 1
    middle = wave[2000:-2000]
    assert loudest_frequency(middle, RATE) == pytest.approx(1000, abs=1)
    assert amplitude(middle) == pytest.approx(0.5, abs=1e-3)


def test_resampling_filters_what_the_lower_rate_cannot_hold_and_does_not_fold_it(tmp_path):
    wave = load_audio(write(tmp_path / "x.flac", sine(13000, 48000), 48000), RATE)
    assert np.abs(wave[2000:-2000]).max() < 1e-3


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
@pytest.mark.parametrize("sampling_rate", [8000, 16000])
def test_speed_scales_duration_and_pitch(tmp_path, speed, sampling_rate):
    path = write(tmp_path / "x.flac", sine(1000, sampling_rate), sampling_rate)
    wave = load_audio(path, RATE, speed)
    assert len(wave) == pytest.approx(RATE / speed, abs=1)
    middle = wave[2000:-2000]
    assert loudest_frequency(middle, RATE) == pytest.approx(1000 * speed, abs=2)
    assert amplitude(middle) == pytest.approx(0.5, abs=1e-3)


# What is no whole sound


def cut(folder, name, share, **options):
    """The first part of a file, which is a whole one but for that."""
    data = write(folder / f"whole.{name}", chirp(), **options).read_bytes()
    path = folder / f"cut.{name}"
    path.write_bytes(data[: int(share * len(data))])
    return path


def sphere(samples, order="<i2", coding="pcm", count=None):
    """A NIST SPHERE file of samples [time, channels]; its header may state another count."""
    lines = [
        "NIST_1A",
        "   1024",
        f"channel_count -i {samples.shape[1]}",
        f"sample_count -i {len(samples) if count is None else count}",
        f"sample_rate -i {RATE}",
        "sample_n_bytes -i 2",
        f"sample_byte_format -s2 {'01' if order == '<i2' else '10'}",
        f"sample_coding -s{len(coding)} {coding}",
        "end_head",
        "",
    ]
    return "\n".join(lines).encode().ljust(1024) + samples.astype(order).tobytes()


def text_file(folder):
    (folder / "x.flac").write_bytes(b"7-1-0 HI")
    return folder / "x.flac"


def empty_file(folder):
    (folder / "x.wav").write_bytes(b"")
    return folder / "x.wav"


def cut_sphere(folder, count):
    """The first of the 3000 samples that the header states."""
    (folder / "x.sph").write_bytes(sphere(np.ones((count, 1)), count=3000))
    return folder / "x.sph"


def cut_opus(folder, share):
    return cut(folder, "opus", share, format="OGG", subtype="OPUS")


def float_file(folder, *samples):
    return write(folder / "x.wav", np.array(samples), subtype="FLOAT")


def raw_file(folder):
    (folder / "x.raw").write_bytes(bytes(1000))
    return folder / "x.raw"


def apple_file(folder):
    """The head of an MPEG-4 file."""
    (folder / "my x.m4a").write_bytes(b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom" + bytes(500))
    return folder / "my x.m4a"


def link_to_itself(folder):
    (folder / "x.wav").symlink_to(folder / "x.wav")
    return folder / "x.wav"


BROKEN = {
    "missing": (lambda folder: folder / "missing.flac", "no such"),
    "missing folder": (lambda folder: folder / "missing" / "x.flac", "no such"),
    "in a file": (lambda folder: text_file(folder) / "x.flac", "no such"),
    "a name with a NUL": (lambda folder: folder / "x\0.flac", "no such"),
    "a name that is too long": (lambda folder: folder / ("x" * 999), "not readable .*too long"),
    "a link to itself": (link_to_itself, "not readable .*links"),
    "samples alone": (raw_file, "without a header.*ffmpeg -f s16le -ar 16000.* x.raw x.flac"),
    "MPEG-4": (apple_file, "not recognised.*`ffmpeg -i 'my x.m4a' 'my x.flac'`"),
    "a folder": (lambda folder: folder, "no such"),
    "text named .flac": (text_file, "not readable"),
    "0 bytes": (empty_file, "not readable"),
    "0 samples": (lambda folder: write(folder / "x.wav", np.zeros(0)), "0 samples"),
    "too short for the rate": (
        lambda folder: write(folder / "x.flac", np.ones(1), 48000),
        "0 samples",
    ),
    "FLAC, last byte missing": (lambda folder: cut(folder, "flac", 0.9999), "readable|ends"),
    "half a FLAC": (lambda folder: cut(folder, "flac", 0.5), "readable|ends"),
    "head of a FLAC": (lambda folder: cut(folder, "flac", 0.002), "readable|ends"),
    "WAV, last bytes missing": (lambda folder: cut(folder, "wav", 0.9999), "ends"),
    "half a WAV": (lambda folder: cut(folder, "wav", 0.5), "ends"),
    "half an AIFF": (lambda folder: cut(folder, "aiff", 0.5), "ends"),
    "SPHERE, last bytes missing": (lambda folder: cut_sphere(folder, 2999), "2999 of 3000"),
    "half an Ogg": (lambda folder: cut(folder, "ogg", 0.5), "readable|goes on"),
    "Ogg, last byte missing": (lambda folder: cut(folder, "ogg", 0.9999), "readable|goes on"),
    "half an Opus": (lambda folder: cut_opus(folder, 0.5), "readable|goes on"),
    "Opus, last byte missing": (lambda folder: cut_opus(folder, 0.9999), "goes on"),
    "NaN": (lambda folder: float_file(folder, 0.1, np.nan), "not finite"),
    "infinite": (lambda folder: float_file(folder, 0.1, -np.inf), "not finite"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_load_audio_refuses_what_is_no_whole_sound_and_names_the_file(tmp_path, kind):
    make, reason = BROKEN[kind]
    path = make(tmp_path)
    with pytest.raises(AudioError, match=reason) as error:
        load_audio(path, RATE)
    assert str(path) in str(error.value)
    assert error.value.path == path and error.value.cure


# Damaged files


def wave_file(values=None, form="WAV", rate=8000, **options):
    """The bytes of a sound file, of half a second of noise by default."""
    file = io.BytesIO()
    if values is None:
        values = np.random.default_rng(0).normal(scale=0.1, size=4000)
    soundfile.write(file, values, rate, format=form, **options)
    return file.getvalue()


def sound(name, data):
    return content(f"sound/{name}", data)


def patched_wave(place, value, form="WAV"):
    """A file with other bytes at one place of its head."""
    data = bytearray(wave_file(form=form))
    data[place : place + len(value)] = value
    return bytes(data)


def four_bytes(number):
    return struct.pack("<I", number)


def float_wave(values):
    return wave_file(values, subtype="FLOAT")


def bomb(workspace):
    """Silence, of which a few bytes hold any amount."""
    path = workspace / "sound" / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC", subtype="PCM_16") as file:
        file.write(np.zeros(2**22, np.int16))
    assert path.stat().st_size < 2**15
    yield path


def load_sound(workspace, path):
    # It counts the memory that is asked for; of what is never written to, the system gives nothing.
    tracemalloc.start()
    try:
        load_audio(path, 8000)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MAX_MEMORY


def load_long_sound(workspace, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "MAX_SAMPLES", 2**20)
        patch.setattr(audio, "BLOCK_VALUES", 2**16)
        load_audio(path, 8000)


CURE = "was it copied whole|copy (or download )?it again|cut it into shorter files|record again"
EXPAND = "expand it with `sph2pipe -f wav`"


def row(kind, damage, use=load_sound, cure=CURE):
    return kind, damage, use, AudioError, cure


def compressed_sphere(coding):
    """A header of compressed samples, and what begins like them."""
    junk = np.frombuffer(b"ajkg" * 500, "<i2")[:, None]
    return sound("a.sph", sphere(junk, coding=coding))


BAD_AUDIO = [
    row("sound of no bytes", sound("a.flac", b"")),
    row("sound is text", sound("a.wav", b"1-1-0 HI\n" * 9)),
    row(
        "sound is junk after the head of an MP3",
        sound("a.mp3", b"\xff\xfb\x90\x00" * 500),
    ),
    row("sound without any head", sound("a.raw", bytes(100))),
    row("sound of no channels", sound("a.wav", patched_wave(22, b"\0\0"))),
    row("sound of 65535 channels", sound("a.wav", patched_wave(22, b"\xff\xff"))),
    row("sound of 0 Hz", sound("a.wav", patched_wave(24, four_bytes(0)))),
    row("sound of 1 Hz", sound("a.wav", patched_wave(24, four_bytes(1)))),
    row("sound of 2^31 - 1 Hz", sound("a.wav", patched_wave(24, four_bytes(2**31 - 1)))),
    row(
        "sound of 2 GB less some, as a WAV tells",
        sound("a.wav", patched_wave(40, four_bytes(0x7FFFEFFE))),
    ),
    row(
        "sound of 2^36 samples, as a FLAC tells",
        sound("a.flac", patched_wave(22, b"\xff" * 4, form="FLAC")),
    ),
    row("sound that unpacks to hours", bomb, load_long_sound),
    row("sound that is no number", sound("a.wav", float_wave([0.1, np.nan]))),
    row("sound that is infinite", sound("a.wav", float_wave([0.1, -np.inf]))),
    row(
        "sound whose channels add up to infinity",
        sound("a.wav", float_wave([[3e38, 3e38]] * 9)),
    ),
    row(
        "sound in NIST SPHERE, shortened",
        compressed_sphere("pcm,embedded-shorten-v2.00"),
        cure=EXPAND,
    ),
    row(
        "sound in NIST SPHERE, mu-law and shortened",
        compressed_sphere("ulaw,embedded-shorten-v1.09"),
        cure=EXPAND,
    ),
    row("sound cut, FLAC", series("corpus/train/1/1/1-1-0.flac", cuts(20))),
]


@rows(BAD_AUDIO)
def test_damaged_audio_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


# Audio of any bytes

WHOLE = [
    wave_file(),
    wave_file(subtype="FLOAT"),
    wave_file(np.zeros((500, 2))),
    wave_file(form="FLAC"),
    wave_file(form="OGG"),
    wave_file(form="OGG", subtype="OPUS"),
    wave_file(form="NIST"),
    wave_file(form="AIFF"),
    wave_file(form="MP3"),
]
HEADS = [b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"NIST_1A\n   1024\n"]
NAMES = strategies.sampled_from(["a.wav", "a.flac", "a.opus", "a.sph", "a.mp3", "a.raw", "a"])
PLACES = strategies.integers(0, 2**16)
CHANGE = strategies.tuples(PLACES, strategies.binary(min_size=1, max_size=4))
CHANGES = strategies.lists(CHANGE, max_size=6)


@strategies.composite
def damaged_bytes(draw):
    """Random bytes, or a file with bytes changed, cut out, or followed by another file's."""
    if draw(strategies.integers(0, 4)) == 0:
        return draw(strategies.sampled_from(HEADS)) + draw(strategies.binary())

    # Of its head mostly.
    data = bytearray(draw(strategies.sampled_from(WHOLE)))
    for place, change in draw(CHANGES):
        place %= draw(strategies.sampled_from([48, 128, len(data)]))
        data[place : place + len(change)] = change

    start, end = sorted((draw(PLACES) % len(data), draw(PLACES) % len(data)))
    damage = draw(strategies.integers(0, 3))
    if damage == 1:
        del data[start:end]
    elif damage == 2:
        data[start:] = draw(strategies.sampled_from(WHOLE))[draw(PLACES) % 5000 :]
    return bytes(data)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A folder, and how often its files were a wave or an error."""
    return tmp_path_factory.mktemp("sounds"), {"wave": 0, "error": 0}


@hypothesis.given(name=NAMES, data=damaged_bytes())
@hypothesis.settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_audio_of_any_bytes_is_a_wave_or_an_error_that_names_it(outcomes, name, data):
    folder, counts = outcomes
    memory = peak_memory()
    (folder / name).write_bytes(data)
    try:
        wave = load_audio(folder / name, 8000)
    except AudioError as error:
        assert str(folder / name) in str(error)
        assert error.path == folder / name and error.cure
        counts["error"] += 1
    else:
        assert wave.dtype == np.float32 and wave.ndim == 1
        assert len(wave) and np.isfinite(wave).all()
        counts["wave"] += 1
    assert peak_memory() < memory + MAX_MEMORY


def test_audio_of_any_bytes_was_of_both_kinds(outcomes):
    _, counts = outcomes
    assert min(counts.values()) > 20


@pytest.mark.parametrize("value", [1e4, 2.0**31, 1e11])
def test_audio_that_is_far_too_loud_has_finite_features(tmp_path, value):
    """Whole numbers of 32 bits that were written as floats, say."""
    noise = np.random.default_rng(0).normal(size=4000)
    noise /= np.abs(noise).max()
    (tmp_path / "loud.wav").write_bytes(float_wave(value * noise))
    (tmp_path / "soft.wav").write_bytes(float_wave(0.5 * noise))
    loud = extract(load_audio(tmp_path / "loud.wav", 8000), WORKSPACE_FEATURES)
    soft = extract(load_audio(tmp_path / "soft.wav", 8000), WORKSPACE_FEATURES)
    np.testing.assert_allclose(loud, soft, atol=0.05)


# Piece by piece


@pytest.mark.parametrize("rate", [8000, 11025])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_stream_audio_gives_what_load_audio_does(tmp_path, monkeypatch, rate, channels, subtype):
    monkeypatch.setattr(audio, "BLOCK_VALUES", 5000)
    random = np.random.default_rng(channels)
    wave = 0.2 * random.normal(size=(20_000, channels))  # the second channel says something else
    if subtype == "FLOAT":
        wave *= 8  # beyond full scale
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, rate, subtype=subtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load_audio(path, 8000)
        pieces = list(audio.stream_audio(path, 8000))
    assert len(pieces) > 3 and len(caught) == 2 * (channels - 1)
    assert len({str(warning.message) for warning in caught}) <= 1
    streamed = np.concatenate(pieces)
    assert abs(len(streamed) - len(loaded)) <= 1
    length = min(len(streamed), len(loaded))
    np.testing.assert_allclose(streamed[:length], loaded[:length], atol=1e-4)
    if rate == 8000:
        np.testing.assert_array_equal(streamed, loaded)


def test_stream_audio_refuses_a_damaged_file_before_its_first_piece(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(50_000), 8000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AudioError, match="ends after|not readable"):
        next(audio.stream_audio(path, 8000))
    with pytest.raises(AudioError, match="no such audio file"):
        next(audio.stream_audio(tmp_path / "b.flac", 8000))


def test_stream_audio_holds_no_more_of_a_long_file_than_of_a_short_one(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_VALUES", 8000)
    peaks = []
    for seconds in (10, 100):
        path = tmp_path / f"{seconds}.wav"
        soundfile.write(path, np.tile(np.linspace(-0.5, 0.5, 8000), seconds), 8000)
        list(map(len, audio.stream_audio(path, 16000)))  # what is allocated once
        tracemalloc.start()
        for _ in audio.stream_audio(path, 16000):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], peaks
