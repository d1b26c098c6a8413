"""Who speaks in a synthesised corpus, and in which room: voices, rates, pitches, levels and a faint noise."""

import numpy as np
import soxr

from lttlib import espeak, sentences
from lttlib.files import progress

# Of the speech that a seed gives. Count on when a change to sentences, voices or rooms alters a single sample: a corpus
# of another version is refused, so that nobody scores a model on sentences that it was trained on.
VERSION = 1
SAMPLING_RATE = 16000  # Hz
SPLITS = ("train", "dev", "test")
# Great Britain, whose language is en-gb, is called "en" by espeak-ng.
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-rp")
# Variants of espeak-ng (voices/!v) that sound like a person: the timbres. Each is in one split, without near doubles of
# it in another. Left out: whispers, robots, croaks and other effects, the buzzing klatt voices, voices without a third
# formant (Andy, Lee), voices that clip (paul, antonio, Marco, ed), doubles (Hugo, Henrique and Diogo of Denis, say),
# and voices with breath (f2, f3, f5, Alicia, victor): espeak-ng 1.52 speaks them differently in every process.
VARIANTS = {
    "train": """f4 Andrea Annie anika grandma m1 m3 m4 m5 m6 m7 m8 Alex
        Denis Mario Michael Nguyen marcelo max pablo robert""".split(),
    "dev": "f1 steph m2 boris".split(),
    "test": "linda shelby quincy Gene".split(),
}
RATES = 115, 160  # nominal words a minute; with the pauses, 1.6 to 3.9 words a second, 2.5 in the median
PITCHES = 35, 65  # of 100; 50 is the variant's own
LEVELS = -28.0, -20.0  # dB of full scale, root mean square
NOISES = -40.0, -25.0  # dB of the speech's level
PEAK = 0.9  # of full scale, at most


def recordings(split, minutes, speakers, seed):
    """Speak sentences of `split` until they fill `minutes`, shared evenly between the speakers.

    Parameters
    ----------
    split : {"train", "dev", "test"}
    minutes : float
        At least as much is spoken, and at least one sentence a speaker.
    speakers : int
        Pairs of a variant and an accent.
    seed : int

    Yields
    ------
    speaker : int
        From 0, ascending.
    wave : numpy.ndarray, float32 [samples]
        At 16 kHz, in [-0.9, 0.9].
    sentence : str

    Raises
    ------
    ValueError
        If there are not as many voices.
    RuntimeError
        If espeak-ng fails.
    """
    variants = VARIANTS[split]
    if not 1 <= speakers <= len(variants) * len(ACCENTS):
        raise ValueError(f"{split} has 1 to {len(variants) * len(ACCENTS)} voices, not {speakers}")
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    variants, accents = generator.permutation(variants), generator.permutation(ACCENTS)
    spoken = 0
    with espeak.conversation() as speak:
        for speaker in progress(range(speakers), desc=f"synthesising {split}", unit="voice"):
            # Once round the variants, the accents move on by one: no pair comes twice.
            accent = accents[(speaker + speaker // len(variants)) % len(accents)]
            voice = f"{accent}+{variants[speaker % len(variants)]}"
            rate, pitch = int(generator.integers(*RATES)), int(generator.integers(*PITCHES))
            level, noise, colour = generator.uniform(*LEVELS), generator.uniform(*NOISES), generator.uniform()
            share = minutes * 60 * SAMPLING_RATE * (speaker + 1) / speakers
            first = True
            while first or spoken < share:
                first = False
                sentence = sentences.compose(split, generator)
                samples = np.frombuffer(speak(sentence, voice, rate, pitch), np.int16)
                wave = soxr.resample(samples.astype(np.float32) / 2**15, espeak.SAMPLING_RATE, SAMPLING_RATE)
                wave = _in_a_room(wave, level + generator.uniform(-2, 2), noise, colour, generator)
                spoken += len(wave)
                yield speaker, wave, sentence


def _in_a_room(wave, level, noise, colour, generator):
    """Speech at a level, between short pauses, over a hiss that is the duller the larger `colour` (0 to 1) is."""
    before, after = (generator.uniform(0.05, 0.3, size=2) * SAMPLING_RATE).astype(int)
    gain = 10 ** (level / 20) / np.sqrt(np.mean(wave**2))
    hiss = generator.standard_normal(before + len(wave) + after + 1, dtype=np.float32)
    hiss = (hiss[1:] + colour * hiss[:-1]) / np.sqrt(1 + colour**2)
    wave = gain * np.pad(wave, (before, after)) + 10 ** ((level + noise) / 20) * hiss
    return (wave * min(1, PEAK / np.abs(wave).max())).astype(np.float32)
