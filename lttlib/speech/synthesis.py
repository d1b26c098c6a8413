"""Synthesised speech: sentences of a small grammar, spoken by espeak-ng in many voices and rooms.

The grammar speaks of a harbour, a garden, the weather, and a teacher who listens. Each sentence
belongs to one split, by its checksum, so that no sentence of dev or test is ever trained on,
whatever the seed or the size of a corpus. A timbre belongs to one split as well. A voice is a
timbre, an accent, a rate and a pitch, and keeps its distance to the microphone and its noise.
"""

import itertools
import re
import zlib
from dataclasses import dataclass

import numpy as np
import soxr

from lttlib.files import progress
from lttlib.speech import espeak
from lttlib.speech.layout import CorpusError

# Of the speech that a seed gives. Increment it when a change to sentences, voices or rooms alters a
# single sample: a corpus of another version is refused, so that nobody scores a model on sentences
# that it was trained on.
VERSION = 1
SAMPLING_RATE = 16000  # Hz
SPLITS = ("train", "dev", "test")

# Sentences. A slot {name} is filled with a phrase of that name, which may hold slots again.
GRAMMAR = {
    "sentence": """
        {deed} | {deed} | {deed} | {deed} {when} | {deed} {when} | {deed} {when} | {when} {deed}
        | {when} {deed} | {person} wanted to {act} | {person} wanted to {act} | please {act}
        | please {act} | please {act} {soon} | let's {act} {soon} | let's {act}
        | can you {act} {soon} | don't {act} | don't {act} {soon} | {weather} {moved} {where}
        | {when} {weather} {moved} {where} | {boat} {sailed} {afloat} | {boat} {sailed} {when}
        | {creatures} {lived} {where} | {when} {creatures} {lived} {where}
        | {object} stood {where} | it's {quiet} {where} | it was {quiet} {where} {when}
        | {sound} {rang} {where} | listen {how} to {sound} | we heard {sound} {where}
        | good pupils learn every {unit} {how} | a good teacher listens to {sound}""",
    "deed": "{person} {did}",
    "person": "the {adult} | the {adult} | my {relative} | the old {adult} | our {adult}",
    "adult": "teacher | captain | baker | gardener | sailor | fisherman",
    "relative": "mother | father | sister | brother",
    "did": """
        listened to {sound} | heard {sound} | painted {object} | carried {object} home
        | planted {plants} {where} | watered {plants} | shared {food} | waited {where}
        | walked {where} | spoke {how} | repaired {boat} | repeated every {unit} {how}""",
    "act": """
        listen to {sound} | paint {object} | carry {object} home | plant {plants} | water {plants}
        | share {food} | wait {where} | walk {where} | speak {how} | repair {boat}
        | repeat every {unit}""",
    "quiet": "quiet | warm | cold | dark",
    "sound": """
        the {soft} rain | the {soft} waves | the {soft} wind | the church bell | the {soft} music
        | a distant voice""",
    "soft": "soft | gentle | heavy | distant",
    "rang": "echoed | faded",
    "object": """
        the {colour} box | the {colour} lantern | the wooden chair | the garden gate
        | the {colour} jacket""",
    "colour": "red | blue | yellow | green | old | small",
    "plants": "yellow roses | white tulips | six apple trees | jasmine | onions",
    "food": "warm bread | lemon cake | hot soup | ginger tea",
    "weather": "the {grey} fog | a {grey} cloud | the morning light",
    "grey": "grey | white | thick",
    "moved": "drifted | passed | rested",
    "boat": "the {colour} boat | the {colour} ferry | the captain's boat",
    "sailed": "sailed | returned | arrived",
    "afloat": "by the harbour | near the lighthouse | along the shore | under the bridge",
    "creatures": """
        seven {grey} geese | two brown foxes | three lazy cats | nine ducks | five white horses""",
    "lived": "rested | slept | played",
    "where": """
        in the garden | by the harbour | near the lighthouse | on the bridge | under the willow
        | behind the school | beside the river | at the market | along the shore
        | in the village""",
    "when": """
        this morning | last night | in the evening | every Sunday | before lunch
        | at {hour} o'clock | in July | yesterday | after the storm""",
    "soon": "today | tonight | tomorrow | at {hour} o'clock | before dark | together",
    "hour": "two | three | five | seven | eight | ten",
    "how": "slowly | softly | clearly | quickly | with joy",
    "unit": "word | letter | sound | question",
}
PHRASES = {name: " ".join(text.split()).split(" | ") for name, text in GRAMMAR.items()}
SLOT = re.compile(r"\{(\w+)\}")
MIN_WORDS, MAX_WORDS = 3, 9
MAY_REPEAT = ("the", "a", "to")


def split_of(sentence):
    """Return the split of a sentence: "dev" or "test" for a tenth of all each, else "train"."""
    return {0: "dev", 1: "test"}.get(zlib.crc32(sentence.encode()) % 10, "train")


def sample_sentence(split, generator):
    """Draw a sentence of 3 to 9 words that belongs to `split`, without punctuation.

    The generator is one of numpy. Words are separated by single spaces; apostrophes stay.
    """
    while True:
        sentence = _fill("{sentence}", generator)
        words = sentence.split()
        fits = MIN_WORDS <= len(words) <= MAX_WORDS
        if fits and not _repeats(words) and split_of(sentence) == split:
            return sentence


def _fill(text, generator):
    """Replace each slot of a text by a random phrase, whose slots are filled first."""

    def draw(slot):
        phrases = PHRASES[slot[1]]
        return _fill(phrases[generator.integers(len(phrases))], generator)

    return SLOT.sub(draw, text)


def _repeats(words):
    """Whether a word stands twice, other than articles and the like."""
    content = [word for word in words if word not in MAY_REPEAT]
    return len(content) > len(set(content))


# Great Britain, whose language is en-gb, is called "en" by espeak-ng.
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-rp")
# Variants of espeak-ng (voices/!v) that sound like a person: the timbres. Each is in one split,
# without near doubles of it in another. Left out: whispers, robots, croaks and other effects, the
# buzzing klatt voices, voices without a third formant (Andy, Lee), voices that clip (paul, antonio,
# Marco, ed), doubles (Hugo, Henrique and Diogo of Denis, say), and voices with breath (f2, f3, f5,
# Alicia, victor): espeak-ng 1.52 speaks them differently in every process.
VARIANTS = {
    "train": """f4 Andrea Annie anika grandma m1 m3 m4 m5 m6 m7 m8 Alex
        Denis Mario Michael Nguyen marcelo max pablo robert""".split(),
    "dev": "f1 steph m2 boris".split(),
    "test": "linda shelby quincy Gene".split(),
}
# Nominal words per minute; with the pauses, 1.6 to 3.9 words per second, 2.5 in the median.
RATES = 115, 160
PITCHES = 35, 65  # of 100; 50 is the variant's own

LEVELS = -28.0, -20.0  # dB of full scale, root mean square
LEVEL_CHANGES = -2, 2  # dB, of each sentence
NOISES = -40.0, -25.0  # dB of the speech's level
PAUSES = 0.05, 0.3  # seconds before and after a sentence
PEAK = 0.9  # of full scale, at most


@dataclass(frozen=True)
class Voice:
    """How a speaker sounds in all sentences."""

    name: str  # accent and variant as espeak-ng names them, "en-us+f4"
    rate: int  # nominal words per minute
    pitch: int  # of 100
    level: float  # dB of full scale
    noise_level: float  # dB of the speech's level
    noise_colour: float  # 0 (white) to 1 (dull)


def synthesise(split, minutes, speakers, seed):
    """Speak sentences of `split` until they fill `minutes`, shared evenly between the speakers.

    Parameters
    ----------
    split : {"train", "dev", "test"}
    minutes : float
        At least as much is spoken, and at least one sentence per speaker.
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
    CorpusError
        If there are not as many voices.
    RuntimeError
        If espeak-ng fails.
    """
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    names = _voice_names(split, speakers, generator)
    samples = 0
    with espeak.espeak_process() as speak:
        bar = progress(names, desc=f"synthesising {split}", unit="voice")
        for speaker, name in enumerate(bar):
            voice = _draw_voice(name, generator)
            share = minutes * 60 * SAMPLING_RATE * (speaker + 1) / speakers
            while True:
                sentence = sample_sentence(split, generator)
                wave = _speak(speak, sentence, voice)
                wave = _add_noise_and_pauses(wave, voice, generator)
                samples += len(wave)
                yield speaker, wave, sentence
                if samples >= share:  # of this speaker and those before
                    break


def say(sentences, split="test", seed=0):
    """Speak sentences of your own, each in the next voice of `split`, as those of a corpus sound.

    Parameters
    ----------
    sentences : iterable of str
    split : {"train", "dev", "test"}
    seed : int
        Of the voices, their noise and their pauses.

    Yields
    ------
    numpy.ndarray, float32 [samples]
        At 16 kHz, in [-0.9, 0.9].

    Raises
    ------
    RuntimeError
        If espeak-ng fails.
    """
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    count = len(VARIANTS[split]) * len(ACCENTS)
    names = itertools.cycle(_voice_names(split, count, generator))
    with espeak.espeak_process() as speak:
        for sentence in sentences:
            voice = _draw_voice(next(names), generator)
            wave = _speak(speak, sentence.lower(), voice)
            yield _add_noise_and_pauses(wave, voice, generator)


def _voice_names(split, count, generator):
    """Draw `count` different voices: accents and variants as espeak-ng names them."""
    available = len(VARIANTS[split]) * len(ACCENTS)
    if not 1 <= count <= available:
        raise CorpusError(f"{split} has 1 to {available} voices, not {count}")
    variants = generator.permutation(VARIANTS[split])
    accents = generator.permutation(ACCENTS)
    names = []
    for number in range(count):
        # After each round of the variants, the accents move on by one: no pair comes twice.
        accent = accents[(number + number // len(variants)) % len(accents)]
        names.append(f"{accent}+{variants[number % len(variants)]}")
    return names


def _draw_voice(name, generator):
    """Draw the properties of a voice; the bytes of a corpus depend on their order."""
    return Voice(
        name,
        rate=int(generator.integers(*RATES)),
        pitch=int(generator.integers(*PITCHES)),
        level=generator.uniform(*LEVELS),
        noise_level=generator.uniform(*NOISES),
        noise_colour=generator.uniform(),
    )


def _speak(speak, sentence, voice):
    """Return a sentence as espeak-ng speaks it, at 16 kHz, in [-1, 1]."""
    samples = np.frombuffer(speak(sentence, voice.name, voice.rate, voice.pitch), np.int16)
    wave = samples.astype(np.float32) / 2**15
    return soxr.resample(wave, espeak.SAMPLING_RATE, SAMPLING_RATE)


def _add_noise_and_pauses(wave, voice, generator):
    """Bring speech to the voice's level, between short pauses, over noise of its colour."""
    level = voice.level + generator.uniform(*LEVEL_CHANGES)
    pauses = generator.uniform(*PAUSES, size=2) * SAMPLING_RATE
    before, after = pauses.astype(int)
    gain = 10 ** (level / 20) / np.sqrt(np.mean(wave**2))
    padded = np.pad(wave, (before, after))

    # White noise plus itself one sample later is duller; the root keeps its power.
    noise = generator.standard_normal(len(padded) + 1, dtype=np.float32)
    noise = noise[1:] + voice.noise_colour * noise[:-1]
    noise = noise / np.sqrt(1 + voice.noise_colour**2)
    noise_gain = 10 ** ((level + voice.noise_level) / 20)

    wave = gain * padded + noise_gain * noise
    scale = min(1, PEAK / np.abs(wave).max())
    return (wave * scale).astype(np.float32)
