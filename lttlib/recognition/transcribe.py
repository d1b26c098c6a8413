"""From sound to text with a trained model: one file, one that grows, or a whole split."""

import time
from dataclasses import dataclass, field

import numpy as np

from lttlib import Error, ceil_div
from lttlib.features.audio import audio_seconds, load_audio, stream_audio
from lttlib.features.examples import make_examples, workers
from lttlib.features.normalisation import WINDOW_SECONDS, find_speech
from lttlib.features.spectral import DELTA_WIDTH, extract
from lttlib.files import printable, progress
from lttlib.recognition.decoders import make_decoder
from lttlib.recognition.greedy import greedy

CHUNK_UTTERANCES = 256  # utterances whose features are held at a time
SURE = 30.0  # logit of a class, beside 0 of all others, that no decoder doubts
BLOCK_SECONDS = 0.16  # duration of the logits that a stream computes at a time
CUT_PAUSE_SECONDS = 0.2  # least length of a pause in which a long file is cut
PART_SECONDS = 1.5  # least length of the parts
BLOCKS_PER_SECOND = 50  # blocks of samples that are speech, or none


def transcribe(model, path, decoder=greedy) -> str:
    """Return the text of a sound file.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    path : path-like
    decoder : callable
        `greedy`, or what `make_decoder` returns.

    Raises
    ------
    features.AudioError
        If the file cannot be used; silence can, and gives "".
    Error
        If the model has no alphabet.
    """
    logits = file_logits(model, path)
    (text,) = decoder([logits], [len(logits)], model.alphabet)
    return text


def file_logits(model, path):
    """Return the logits of a sound file: float32 array [frames, classes].

    A file longer than the window of the normalisation is cut in its pauses (`split_at_pauses`).
    Each part is normalised and recognised by itself, since another voice may speak there, and the
    parts are joined by spaces. No more of the sound than a window is in memory at a time.
    """
    check_letters(model)
    config = model.feature_config
    if audio_seconds(path) <= WINDOW_SECONDS:
        wave = load_audio(path, config.sampling_rate)
        (logits,) = logits_of(model, [extract(wave, config)])
        return logits

    # Parts of a longer file, cut between frames of logits.
    unit = config.hop_length * model.stride  # samples from one frame of logits to the next
    pieces = stream_audio(path, config.sampling_rate)
    blocks = []
    lengths = []  # in frames of logits
    for part in split_at_pauses(pieces, config.sampling_rate, unit):
        (logits,) = logits_of(model, [extract(part, config)])
        blocks.append(logits)
        lengths.append(len(part) // unit)

    # The logits of a space: [classes].
    blank = len(model.alphabet)
    space = np.zeros(blank + 1, np.float32)
    space[model.alphabet.find(" ")] = SURE  # the blank, if there is no space
    for number, frames in enumerate(lengths[:-1]):
        # Except for `raw`, a part has one frame too many: of the last two a letter is kept.
        logits = blocks[number]
        if len(logits) > frames and logits[frames - 1].argmax() == blank:
            logits[frames - 1] = logits[frames]
        blocks[number] = logits[:frames]
        # The next part begins with a space, unless it begins with a letter.
        first = blocks[number + 1][0]
        if first.argmax() == blank:
            first[:] = space
    return np.concatenate(blocks)


def split_at_pauses(pieces, sampling_rate: int, unit: int = 1):
    """Cut a long recording in the middle of its pauses.

    Where there is no pause within the window of the normalisation, it is cut at the lowest power in
    the second half of that window.

    Parameters
    ----------
    pieces : iterable of float array [samples]
        Pieces of any lengths that follow one another.
    sampling_rate : int
        Hz.
    unit : int
        The lengths of all parts but the last are multiples of this number of samples.

    Yields
    ------
    float array [samples]
        Parts of at least `PART_SECONDS`, but for the last; as long as the window at most.
    """
    window = round(WINDOW_SECONDS * sampling_rate)
    wave = np.zeros(0, np.float32)
    for piece in pieces:
        wave = np.concatenate([wave, piece])
        while len(wave) > window:
            *parts, wave = np.split(wave, _cuts(wave[:window], sampling_rate, unit))
            yield from parts

    # The rest is no longer than the window: cut only in pauses.
    yield from np.split(wave, _cuts(wave, sampling_rate, unit, must_cut=False))


def _cuts(wave, sampling_rate, unit, must_cut=True):
    """Return the samples before which a wave is cut."""
    length = sampling_rate // BLOCKS_PER_SECOND
    blocks = wave[: len(wave) // length * length].reshape(-1, length)
    power = np.square(blocks - wave.mean()).mean(axis=1, keepdims=True)
    if not len(power):
        return []
    _, is_speech = find_speech(power, len(power))

    # Each run of blocks that are no speech: its first block, and the one after its last.
    edges = np.flatnonzero(np.diff(is_speech, prepend=True, append=True))
    pauses = edges.reshape(-1, 2)
    pauses = pauses[np.diff(pauses)[:, 0] >= CUT_PAUSE_SECONDS * BLOCKS_PER_SECOND]
    cuts = [0]
    for middle in pauses.mean(axis=1) * length:
        cut = int(middle) // unit * unit
        if min(cut - cuts[-1], len(wave) - cut) >= PART_SECONDS * sampling_rate:
            cuts.append(cut)
    if len(cuts) > 1 or not must_cut:
        return cuts[1:]

    half = len(power) // 2
    softest = half + np.argmin(power[half:])
    return [int((softest + 0.5) * length) // unit * unit]


def check_letters(model) -> None:
    """Refuse a model without an alphabet, whose outputs are hints for a student."""
    if not model.alphabet:
        problem = "the model gives hints (stage 1 of a FitNet) and no letters"
        raise Error(problem, cure="name one that was trained to write")


def transcribe_features(model, features, decoder=greedy) -> str:
    """Return the text of one utterance's features [time, channels]."""
    check_letters(model)
    (logits,) = logits_of(model, [features])
    (text,) = decoder([logits], [len(logits)], model.alphabet)
    return text


def logits_of(model, utterances) -> list:
    """Return the logits of features [time, channels] of utterances; blanks for silence alone.

    The features of silence are 0 throughout (see `features.sliding_cmvn`). A network is not trained
    on these, and may write letters.
    """
    logits = model.logits(utterances)
    for features, rows in zip(utterances, logits, strict=True):
        if not features.any():
            rows[:] = 0
            rows[:, -1] = SURE
    return logits


class LogitStream:
    """Logits of a sound that grows.

    A block of frames is computed once all samples that it depends on have come: those of the right
    half of the network's receptive field, and those that the features look ahead. The features of a
    block are normalised by the last samples before its computation, as many as the window of the
    normalisation has.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    block_seconds : float
        Longer blocks come later and cost less.
    ahead_seconds : float
        Least time after a block that is awaited: so that the window of the normalisation lies
        around the block.

    Attributes
    ----------
    frames : int
        Frames of logits so far.
    frame_seconds : float
        From one of them to the next.
    """

    def __init__(self, model, block_seconds=BLOCK_SECONDS, ahead_seconds=0.0):
        config = model.feature_config
        self.model = model
        self.stride = model.stride  # feature frames to a logit frame
        self.left, self.right = model.receptive_field  # feature frames
        self.frame_seconds = self.stride * config.frame_period_ms / 1000
        self.block = max(1, round(block_seconds / self.frame_seconds))  # logit frames

        # Feature frames after the last one of a block, and samples after the centre of a frame.
        ahead = max(self.right, round(1000 * ahead_seconds / config.frame_period_ms))
        deltas = DELTA_WIDTH // 2 if config.kind == "mfccs" else 0
        self.ahead = ahead + deltas  # feature frames
        self.half_window = 1 if config.kind == "raw" else config.n_fft // 2  # samples
        self.window = round(WINDOW_SECONDS * config.sampling_rate)  # samples

        self.wave = np.zeros(0, np.float32)  # samples that are still needed
        self.start = 0  # samples before them
        self.frames = 0  # logit frames

    @property
    def latency(self) -> float:
        """Worst-case delay in seconds from a sample to its block of logits.

        It is that of the block's first frame.
        """
        config = self.model.feature_config
        feature_frames = self.ahead + (self.block - 1) * self.stride
        seconds = feature_frames * config.frame_period_ms / 1000
        return seconds + self.half_window / config.sampling_rate

    def accept_waveform(self, samples, last=False):
        """Take the next samples and return the logits that they complete.

        Parameters
        ----------
        samples : array [any number]
            At the sampling rate of the features.
        last : bool
            No more will come: zeros complete the last block.

        Returns
        -------
        float32 array [frames, classes]
        """
        self.wave = np.concatenate([self.wave, np.asarray(samples, np.float32)])
        blocks = [np.zeros((0, len(self.model.alphabet) + 1), np.float32)]
        samples_received = self.start + len(self.wave)
        while self._samples_needed(self.frames + self.block) <= samples_received:
            end = self.frames + self.block
            blocks.append(self._compute_block(end, self._samples_needed(end)))
        if last and samples_received:
            hop_length = self.model.feature_config.hop_length
            feature_frames = samples_received // hop_length
            if hop_length > 1:  # one more is centred on the end
                feature_frames += 1
            end = ceil_div(feature_frames, self.stride)
            blocks.append(self._compute_block(end, samples_received))
        return np.concatenate(blocks)

    def _samples_needed(self, end):
        """Return how many samples must have come for the logits before logit frame `end`."""
        feature_frames = (end - 1) * self.stride + self.ahead
        return feature_frames * self.model.feature_config.hop_length + self.half_window

    def _compute_block(self, end, samples):
        """Return the logits from the next logit frame to frame `end`, from so many samples."""
        hop_length = self.model.feature_config.hop_length
        features = extract(self.wave[: samples - self.start], self.model.feature_config)

        # The feature frames of the receptive fields; they begin with one of a logit frame.
        first = self.start // hop_length  # feature frames before `features`
        first_logit = self.frames - ceil_div(self.left, self.stride)  # logit frames
        begin = max(first, first_logit * self.stride)
        end_feature = (end - 1) * self.stride + self.right + 1
        (logits,) = logits_of(self.model, [features[begin - first : end_feature - first]])
        offset = begin // self.stride  # logit frames
        block = logits[self.frames - offset : end - offset]
        self.frames = end

        # Samples that no later block needs go; the others begin with a logit frame.
        unit = hop_length * self.stride
        first_needed = (end * self.stride - self.left) * hop_length
        start = min(samples - self.window, first_needed) // unit * unit
        if start > self.start:
            self.wave = self.wave[start - self.start :]
            self.start = start
        return block


def real_time_factor(model, wave, repeats=9) -> dict:
    """Measure the real-time factor of a wave: processing time divided by its duration.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    wave : float array [samples]
        At the sampling rate of the model.
    repeats : int
        The shortest counts: whatever disturbs a measurement makes it longer.

    Returns
    -------
    dict
        The factors of features, network and total, which includes greedy decoding.
    """
    measurements = []
    for _ in range(repeats):
        start = time.perf_counter()
        features = extract(wave, model.feature_config)
        features_end = time.perf_counter()
        (logits,) = model.logits([features])
        network_end = time.perf_counter()
        greedy([logits], [len(logits)], model.alphabet)
        end = time.perf_counter()
        measurements.append((features_end - start, network_end - features_end, end - start))
    audio_seconds = len(wave) / model.feature_config.sampling_rate
    factors = np.min(measurements, axis=0) / audio_seconds
    return dict(zip(("features", "network", "total"), factors.tolist(), strict=True))


@dataclass
class SplitLogits:
    """Logits of a split, ready for any decoder.

    Attributes
    ----------
    alphabet : str
    utterances : list of speech.Utterance
        All that can be scored, in the order given.
    logits : list of float32 array [frames, classes]
    rejected : list of dict
        id, file and reason of each utterance that cannot be scored, since its sound cannot be read
        or it has no transcript. Silence is scored.
    remarks : list of str
        Remarks on recordings that are scored, such as channels that were ignored.
    seconds, audio_seconds : float
        Time for features and network, and duration of the audio.
    """

    alphabet: str
    utterances: list = field(default_factory=list)
    logits: list = field(default_factory=list)
    rejected: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    seconds: float = 0.0
    audio_seconds: float = 0.0


@dataclass
class Transcripts:
    """Texts of a split.

    Attributes
    ----------
    pairs : list of (speech.Utterance, str)
        Utterances and hypotheses, in the order given.
    rejected, remarks : list
        As in `SplitLogits`.
    seconds, audio_seconds : float
        Time for features, network and decoder, and duration of the audio.
    """

    pairs: list
    rejected: list
    seconds: float
    audio_seconds: float
    remarks: list = field(default_factory=list)


def compute_logits(model, utterances, cores=1) -> SplitLogits:
    """Compute the logits of a split once, to decode them in many ways.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    utterances : list of speech.Utterance
    cores : int, optional
        Processes that compute features; None: as in `features.workers`.

    Raises
    ------
    Error
        If no utterance can be used, or the model has no alphabet.
    """
    check_letters(model)
    split = SplitLogits(model.alphabet)
    starts = range(0, len(utterances), CHUNK_UTTERANCES)
    with workers(cores) as pool:
        started = time.perf_counter()
        for start in progress(starts, desc="listening", unit=f" x {CHUNK_UTTERANCES} utterances"):
            chunk = utterances[start : start + CHUNK_UTTERANCES]
            features = _add_utterances(split, chunk, model.feature_config, pool)
            split.logits += logits_of(model, features)
        split.seconds = time.perf_counter() - started
    if not split.utterances:
        raise _nothing_usable(split.rejected)
    return split


def _nothing_usable(rejected):
    """The error for a split without a usable utterance; `rejected` is the whole list."""
    if not rejected:
        return Error("no utterance can be used, since there is none")
    first = rejected[0]
    problem = f"none of {len(rejected)} utterances can be used; the first: {first['reason']}"
    cure = "mend what the reason names, or name another split"
    return Error(problem, path=first["file"], cure=cure)


def _add_utterances(split, utterances, config, pool):
    """Add utterances to a split, and return the features of the usable ones."""
    features = []
    tasks = [(utterance, 1.0) for utterance in utterances]
    for (utterance, _), example, reason in make_examples(tasks, config, pool=pool):
        if reason:
            file = printable(utterance.audio)
            split.rejected.append({"id": utterance.id, "file": file, "reason": reason})
            continue
        split.utterances.append(utterance)
        split.audio_seconds += example["seconds"]
        if example["remark"]:
            split.remarks.append(example["remark"])
        features.append(example["features"])
    return features


def decode(split, decoder="greedy") -> Transcripts:
    """Turn the logits of a split into texts.

    Parameters
    ----------
    split : SplitLogits
    decoder : str or callable
        A name that `make_decoder` knows, or a decoder: `BeamSearch(beam_width=100)`, for example.

    Raises
    ------
    DecodingError, LanguageModelError
        If the decoder is unknown, or a file that it needs cannot be used.
    """
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)
    started = time.perf_counter()
    pairs = []
    for utterance, logits in zip(split.utterances, split.logits, strict=True):
        (text,) = decoder([logits], [len(logits)], split.alphabet)
        pairs.append((utterance, text))
    seconds = split.seconds + time.perf_counter() - started
    return Transcripts(pairs, split.rejected, seconds, split.audio_seconds, remarks=split.remarks)


def transcribe_split(model, utterances, decoder="greedy", cores=1) -> Transcripts:
    """Recognise a split: `compute_logits`, then `decode`, with their parameters and errors."""
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)  # a wrong name is refused before the work
    return decode(compute_logits(model, utterances, cores), decoder)
