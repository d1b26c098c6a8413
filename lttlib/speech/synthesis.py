"""A small language of its own for synthesised speech: a harbour, a garden, the weather, and a teacher who listens.

Every sentence belongs to one split for good, by its checksum, so that no sentence of dev or test is ever trained on,
whatever the seed or the size of a corpus.
"""

import re
import zlib

import numpy as np
import soxr

from lttlib.files import progress
from lttlib.speech import espeak

# A slot {name} is filled with one of the phrases of that name, which may hold slots again.
GRAMMAR = {
    "sentence": """{deed} | {deed} | {deed} | {deed} {when} | {deed} {when} | {deed} {when} | {when} {deed}
        | {when} {deed} | {person} wanted to {act} | {person} wanted to {act} | please {act} | please {act}
        | please {act} {soon} | let's {act} {soon} | let's {act} | can you {act} {soon} | don't {act}
        | don't {act} {soon} | {weather} {moved} {where} | {when} {weather} {moved} {where}
        | {boat} {sailed} {afloat} | {boat} {sailed} {when} | {creatures} {lived} {where}
        | {when} {creatures} {lived} {where} | {object} stood {where} | it's {quiet} {where}
        | it was {quiet} {where} {when} | {sound} {rang} {where} | listen {how} to {sound}
        | we heard {sound} {where} | good pupils learn every {unit} {how} | a good teacher listens to {sound}""",
    "deed": "{person} {did}",
    "person": "the {adult} | the {adult} | my {relative} | the old {adult} | our {adult}",
    "adult": "teacher | captain | baker | gardener | sailor | fisherman",
    "relative": "mother | father | sister | brother",
    "did": """listened to {sound} | heard {sound} | painted {object} | carried {object} home | planted {plants} {where}
        | watered {plants} | shared {food} | waited {where} | walked {where} | spoke {how} | repaired {boat}
        | repeated every {unit} {how}""",
    "act": """listen to {sound} | paint {object} | carry {object} home | plant {plants} | water {plants} | share {food}
        | wait {where} | walk {where} | speak {how} | repair {boat} | repeat every {unit}""",
    "quiet": "quiet | warm | cold | dark",
    "sound": """the {soft} rain | the {soft} waves | the {soft} wind | the church bell | the {soft} music
        | a distant voice""",
    "soft": "soft | gentle | heavy | distant",
    "rang": "echoed | faded",
    "object": "the {colour} box | the {colour} lantern | the wooden chair | the garden gate | the {colour} jacket",
    "colour": "red | blue | yellow | green | old | small",
    "plants": "yellow roses | white tulips | six apple trees | jasmine | onions",
    "food": "warm bread | lemon cake | hot soup | ginger tea",
    "weather": "the {grey} fog | a {grey} cloud | the morning light",
    "grey": "grey | white | thick",
    "moved": "drifted | passed | rested",
    "boat": "the {colour} boat | the {colour} ferry | the captain's boat",
    "sailed": "sailed | returned | arrived",
    "afloat": "by the harbour | near the lighthouse | along the shore | under the bridge",
    "creatures": "seven {grey} geese | two brown foxes | three lazy cats | nine ducks | five white horses",
    "lived": "rested | slept | played",
    "where": """in the garden | by the harbour | near the lighthouse | on the bridge | under the willow
        | behind the school | beside the river | at the market | along the shore | in the village""",
    "when": """this morning | last night | in the evening | every Sunday | before lunch | at {hour} o'clock | in July
        | yesterday | after the storm""",
    "soon": "today | tonight | tomorrow | at {hour} o'clock | before dark | together",
    "hour": "two | three | five | seven | eight | ten",
    "how": "slowly | softly | clearly | quickly | with joy",
    "unit": "word | letter | sound | question",
}
PHRASES = {
    name: [" ".join(phrase.split()) for phrase in phrases.split("|")]
    for name, phrases in GRAMMAR.items()
}
SHORTEST, LONGEST = 3, 9  # words


def split_of(sentence):
    """The split to which a sentence belongs: "dev" and "test" own a tenth of all sentences each, "train" the rest.

    Parameters
    ----------
    sentence : str

    Returns
    -------
    str
    """
    return {0: "dev", 1: "test"}.get(zlib.crc32(sentence.encode()) % 10, "train")


def sample_sentence(split, generator):
    """One sentence of 3 to 9 words that belongs to `split`.

    Parameters
    ----------
    split : {"train", "dev", "test"}
    generator : numpy.random.Generator

    Returns
    -------
    str
        Words separated by single spaces, without punctuation but for apostrophes.
    """

    def phrase(slot):
        options = PHRASES[slot[1]]
        return re.sub(r"\{(\w+)\}", phrase, options[generator.integers(len(options))])

    while True:
        sentence = re.sub(r"\{(\w+)\}", phrase, "{sentence}")
        words = sentence.split()
        content = [word for word in words if word not in ("the", "a", "to")]
        repeats = len(content) > len(set(content))
        if SHORTEST <= len(words) <= LONGEST and not repeats and split_of(sentence) == split:
            return sentence


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
RATES = (
    115,
    160,
)  # nominal words a minute; with the pauses, 1.6 to 3.9 words a second, 2.5 in the median
PITCHES = 35, 65  # of 100; 50 is the variant's own
LEVELS = -28.0, -20.0  # dB of full scale, root mean square
NOISES = -40.0, -25.0  # dB of the speech's level
PEAK = 0.9  # of full scale, at most


def synthesise(split, minutes, speakers, seed):
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
    with espeak.espeak_process() as speak:
        for speaker in progress(range(speakers), desc=f"synthesising {split}", unit="voice"):
            # Once round the variants, the accents move on by one: no pair comes twice.
            accent = accents[(speaker + speaker // len(variants)) % len(accents)]
            voice = f"{accent}+{variants[speaker % len(variants)]}"
            rate, pitch = int(generator.integers(*RATES)), int(generator.integers(*PITCHES))
            level, noise, colour = (
                generator.uniform(*LEVELS),
                generator.uniform(*NOISES),
                generator.uniform(),
            )
            share = minutes * 60 * SAMPLING_RATE * (speaker + 1) / speakers
            first = True
            while first or spoken < share:
                first = False
                sentence = sample_sentence(split, generator)
                samples = np.frombuffer(speak(sentence, voice, rate, pitch), np.int16)
                wave = soxr.resample(
                    samples.astype(np.float32) / 2**15, espeak.SAMPLING_RATE, SAMPLING_RATE
                )
                wave = _add_noise_and_pauses(
                    wave, level + generator.uniform(-2, 2), noise, colour, generator
                )
                spoken += len(wave)
                yield speaker, wave, sentence


def _add_noise_and_pauses(wave, level, noise, colour, generator):
    """Speech at a level, between short pauses, over a hiss that is the duller the larger `colour` (0 to 1) is."""
    before, after = (generator.uniform(0.05, 0.3, size=2) * SAMPLING_RATE).astype(int)
    gain = 10 ** (level / 20) / np.sqrt(np.mean(wave**2))
    hiss = generator.standard_normal(before + len(wave) + after + 1, dtype=np.float32)
    hiss = (hiss[1:] + colour * hiss[:-1]) / np.sqrt(1 + colour**2)
    wave = gain * np.pad(wave, (before, after)) + 10 ** ((level + noise) / 20) * hiss
    return (wave * min(1, PEAK / np.abs(wave).max())).astype(np.float32)
