"""A small language of its own for synthesised speech: a harbour, a garden, the weather, and a teacher who listens.

Every sentence belongs to one split for good, by its checksum, so that no sentence of dev or test is ever trained on,
whatever the seed or the size of a corpus.
"""

import re
import zlib

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
PHRASES = {name: [" ".join(phrase.split()) for phrase in phrases.split("|")] for name, phrases in GRAMMAR.items()}
SHORTEST, LONGEST = 3, 9  # words


def home(sentence):
    """The split to which a sentence belongs: "dev" and "test" own a tenth of all sentences each, "train" the rest.

    Parameters
    ----------
    sentence : str

    Returns
    -------
    str
    """
    return {0: "dev", 1: "test"}.get(zlib.crc32(sentence.encode()) % 10, "train")


def compose(split, generator):
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
        if SHORTEST <= len(words) <= LONGEST and not repeats and home(sentence) == split:
            return sentence
