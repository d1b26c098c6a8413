"""A small language of its own for synthesised speech: a harbour, a garden, the weather, and a teacher who listens.

Every sentence belongs to one split for good, by its checksum, so that no sentence of dev or test is ever trained on,
whatever the seed or the size of a corpus.
"""

import re
import zlib

# A slot {name} is filled with one of the phrases of that name, which may hold slots again.
GRAMMAR = {
    "sentence": """{person} {did} | {person} {did} {when} | {when} {person} {did} | who {did} {when}
        | {person} {wanted} to {act} | please {act} | let's {act} {soon} | can you {act} {soon} | don't {act} {soon}
        | did {person} {act} {when} | {person} didn't {act} | {person} said {remark} | {weather} {moved} {where}
        | {weather} {moved} {where} {when} | {boat} {sailed} {afloat} | {boat} {sailed} {when}
        | {when} {boat} {sailed} {afloat} | {creatures} {lived} {where} | {when} {creatures} {lived} {where}
        | {object} {stood} {where} | it's {quiet} {where} | it's {quiet} {where} today
        | it was {quiet} {where} {when} | {sound} {rang} {where} | speak {how} and hear every {unit}
        | listen {how} to {sound} | we {heard} {sound} {where} | good pupils learn every {unit} {how}
        | a good teacher listens to {sound}""",
    "person": """the {adult} | the {adult} | my {relative} | the {adult}'s {relative} | the {young} {adult}
        | the old {adult} | her {relative} | his {relative} | our {adult}""",
    "adult": "teacher | captain | baker | gardener | sailor | fisherman | doctor | painter | librarian",
    "young": "young | patient | cheerful | clever | kind",
    "relative": "mother | father | sister | brother | uncle | daughter | pupil | neighbour",
    "did": """listened to {sound} | heard {sound} | painted {object} | found {object} {where} | carried {object} home
        | opened {lid} | planted {plants} {where} | watered {plants} | picked {plants} | baked {cake}
        | shared {food} | brought {food} to {person} | waited {where} | walked {where} | spoke {how}
        | answered {how} | asked {person} a question | wrote a long letter | repaired {boat}
        | repeated every {unit} {how} | smiled""",
    "wanted": "wanted | hoped | promised | forgot | decided",
    "act": """listen to {sound} | follow {sound} | paint {object} | find {object} | carry {object} home | open {lid}
        | plant {plants} | water {plants} | bake {cake} | share {food} | bring {food} | wait {where} | walk {where}
        | speak {how} | ask {person} | write a letter | repair {boat} | repeat every {unit} | light the lantern""",
    "remark": """it was {quiet} {where} | {object} was {broken} | {food} was {tasty} | {boat} was late
        | {sound} was lovely""",
    "quiet": "quiet | warm | cold | dark | peaceful | foggy",
    "broken": "broken | heavy | beautiful",
    "tasty": "ready | delicious | too hot | cold",
    "sound": """the {soft} rain | the {soft} waves | the {soft} wind | the church bell | the {soft} music
        | a distant voice | the evening song | the quiet voices | the old piano""",
    "soft": "soft | gentle | steady | distant | heavy | early",
    "rang": "echoed | faded | drifted | woke {person}",
    "heard": "heard | followed | remembered | loved",
    "object": """{lid} | the {colour} lantern | the wooden chair | the {colour} jacket | the little clock
        | the silver key""",
    "lid": """the {colour} box | the kitchen window | the garden gate | a glass jar | the {colour} basket
        | the blue umbrella""",
    "colour": "red | blue | yellow | green | old | small",
    "stood": "stood | was hidden | was lost | stayed",
    "plants": "yellow roses | white tulips | six apple trees | a dozen onions | jasmine | red berries | beans",
    "food": "{cake} | hot soup | ginger tea | a jug of milk",
    "cake": "warm bread | fresh bread | lemon cake | honey cake | an apple pie",
    "weather": "a {soft} breeze | the {grey} fog | the {grey} mist | a {grey} cloud | the morning light",
    "grey": "grey | white | thick | silver | slow",
    "moved": "drifted | came | passed | rested | settled",
    "boat": "the {colour} boat | the {colour} ferry | a fishing boat | the captain's boat | a {grey} ship",
    "sailed": "sailed | returned | waited | arrived | turned",
    "afloat": "by the harbour | near the lighthouse | along the shore | under the bridge | down the river",
    "creatures": """seven {grey} geese | two brown foxes | three lazy cats | the {grey} gulls | five {grey} swans
        | a small fox | the {grey} horses | nine ducks""",
    "lived": "rested | slept | gathered | played | wandered",
    "where": """in the garden | by the harbour | near the lighthouse | on the bridge | under the willow
        | behind the school | across the valley | beside the river | at the market | along the shore
        | by the old wall | in the village | over the hills""",
    "when": """this morning | last night | at dawn | in the evening | every Sunday | before breakfast | after lunch
        | at {hour} o'clock | all winter | in July | yesterday | after the storm | before the lesson""",
    "soon": "today | tonight | tomorrow | at {hour} o'clock | before dark | after lunch | together | this evening",
    "hour": "two | three | five | six | seven | eight | nine | ten",
    "how": "slowly | softly | clearly | quickly | patiently | quietly | with joy",
    "unit": "word | letter | sound | verse | question",
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
