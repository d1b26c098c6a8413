"""Bad input of every kind: the error is the module's own, names the file and the cure, and nothing new is left behind.

A kind is a row of a table: what damages a good file, what is done with it, the class of the error, and its cure. Where
a kind is a series (cut at every hundredth, say), its damage yields once for each of them.
"""

import ast
import hashlib
import io
import json
import pickle
import re
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
import soundfile
from builders import WORKSPACE_FEATURES, WORKSPACE_SPEC
from damage import (
    MAX_MEMORY,
    change,
    content,
    cuts,
    flips,
    naming,
    peak_memory,
    remove,
    replaced,
    series,
    swapped,
    tree,
)
from hypothesis import strategies
from safetensors import safe_open

from lttlib import course, models
from lttlib.course import notebooks
from lttlib.device import Recogniser
from lttlib.device.recogniser import METADATA_FILE
from lttlib.features import (
    AudioError,
    Records,
    RecordsError,
    audio,
    extract,
    load_audio,
    shards,
    write_records,
)
from lttlib.files import CHECKSUM_KEY, with_checksum
from lttlib.models import write_card
from lttlib.models.model import count_values
from lttlib.network import ACTIVATIONS, CONVS, ConvNet, ConvSpec, named_variables
from lttlib.recognition import (
    DecodingError,
    LanguageModelError,
    LexiconBeamSearch,
)
from lttlib.speech import CORPORA, CorpusError, fetch_corpus, read_corpus, synthesise_corpus
from lttlib.speech.datasets import Archive, librispeech, ljspeech, spoken_digits
from lttlib.training import Guidance, soft_targets, write_guidance

HOME = Path(__file__).resolve().parent.parent
FEATURES, SPEC, MOST_MEMORY = WORKSPACE_FEATURES, WORKSPACE_SPEC, MAX_MEMORY


@pytest.fixture
def home(workspace):
    return workspace


# What damages. Each gives a function of the folder that yields, once for each damage, the path that is to be named.


def unsealed(told):
    return {key: value for key, value in told.items() if key != CHECKSUM_KEY}


def remade_index(path, **changes):
    """The index of a shard with the shard's size and other changes, sealed as if it had been written so."""
    told = json.loads(path.with_suffix(".json").read_bytes())
    mark = told.pop("fingerprint")
    told = unsealed(told) | {"bytes": path.stat().st_size} | changes
    path.with_suffix(".json").write_text(json.dumps({"fingerprint": mark} | with_checksum(told)))


def index_with(**changes):
    def damage(home):
        remade_index(home / "records" / "00000.tfrecord", **changes)
        yield home / "records" / "00000.tfrecord"

    return damage


def recounted(count):
    """A shard that ends between two records, or goes on, and an index of the right size."""

    def damage(home):
        import tensorflow as tf

        path = home / "records" / "00000.tfrecord"
        found = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in (found * 2)[: len(found) + count]:
                writer.write(record)
        remade_index(path)
        yield path

    return damage


def cut_features(home):
    """Records of the right ids, written whole, but a number is missing in each."""
    import tensorflow as tf

    path = home / "records" / "00000.tfrecord"
    found = [
        tf.train.Example.FromString(record)
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in found:
            values = example.features.feature["features"].bytes_list.value
            values[0] = values[0][:-4]
            writer.write(example.SerializeToString())
    remade_index(path)
    yield path


def first_guidance(home, folder="said"):
    return min((home / folder).iterdir())


def guidance_file(versions):
    def damage(home):
        yield from series(first_guidance(home).relative_to(home), versions)(home)

    return damage


def guidance_renamed(home):
    one, two = sorted((home / "said").iterdir())[:2]
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    yield one


def guidance_copied(home):
    path = first_guidance(home)
    yield Path(shutil.copy(path, path.with_name("copy.safetensors")))


def guidance_without_a_seal(home):
    path = first_guidance(home)
    with safe_open(path, "numpy") as file:
        told, tensors = (
            json.loads(file.metadata()["guidance"]),
            {key: file.get_tensor(key) for key in file.keys()},
        )
    safetensors.numpy.save_file(tensors, path, {"guidance": json.dumps(unsealed(told))})
    yield path


def guidance_of_two_teachers(home):
    shutil.copy(first_guidance(home, "others"), home / "said")
    yield home / "said"


def guidance_of_another(home):
    shutil.rmtree(home / "said")
    shutil.copytree(home / "others", home / "said")
    yield home / "said"


def no_guidance(home):
    shutil.rmtree(home / "said")
    yield home / "said"


def repacked(change):
    """A packed file with other facts or tensors, sealed as if it had been written so."""

    def damage(home):
        path = home / "packed.safetensors"
        with safe_open(path, "numpy") as file:
            told, tensors = (
                json.loads(file.metadata()["model"]),
                {key: file.get_tensor(key) for key in file.keys()},
            )
        told = unsealed(told)
        change(told, tensors)
        sealed = json.dumps(
            with_checksum(told, *(tensors[key] for key in ("codes", "scales", "floats")))
        )
        safetensors.numpy.save_file(tensors, path, {"model": sealed})
        yield path

    return damage


def packed_spec(**changes):
    return repacked(lambda told, tensors: told["spec"].update(changes))


def packed_kernel(**changes):
    return repacked(lambda told, tensors: told["quantized"]["layer01/kernel"].update(changes))


def safetensors_head(head, length=None, name="packed.safetensors"):
    """A file of a hand-made head, which may lie about its length."""
    head = json.dumps(head).encode()
    return content(
        name, struct.pack("<Q", len(head) if length is None else length) + head + bytes(64)
    )


def forged(name, data):
    """A model folder with a file of somebody else, and a card that fits it."""

    def damage(home):
        folder = home / "teacher"
        (folder / name).write_bytes(data(folder) if callable(data) else data)
        write_card(folder)
        yield folder

    return damage


def forged_spec(**changes):
    return forged(
        "spec.json",
        lambda folder: json.dumps(
            json.loads((folder / "spec.json").read_bytes()) | changes
        ).encode(),
    )


def card_with(**changes):
    def damage(home):
        path = home / "teacher" / "card.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
        yield path

    return damage


def zipped(change, how=zipfile.ZIP_STORED, name=METADATA_FILE):
    """A deployed model with other facts, sealed as if it had been written so."""

    def damage(home):
        path = home / "model.tflite"
        with zipfile.ZipFile(path) as archive:
            body = path.read_bytes()[: archive.getinfo(METADATA_FILE).header_offset]
            told = unsealed(json.loads(archive.read(METADATA_FILE)))
        told = change(told)
        path.write_bytes(body)
        with zipfile.ZipFile(path, "a", how) as archive:
            archive.writestr(
                name, told if isinstance(told, str) else json.dumps(with_checksum(told, body))
            )
        yield path

    return damage


def tflite_flips(home):
    with zipfile.ZipFile(home / "model.tflite") as archive:
        end = archive.getinfo(METADATA_FILE).header_offset
    yield from series("model.tflite", flips(40, 0, end))(home)


class Evil:
    """Unpickled, it makes a file, which the comparison of the folder before and after would show."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def evil(name):
    def damage(home):
        (home / name).write_bytes(pickle.dumps(Evil(home / "pwned")))
        if "teacher" in name:
            write_card(home / "teacher")
        yield (home / name).parent if "teacher" in name else home / name

    return damage


def sound(name, data):
    return content(f"sound/{name}", data)


def wave_file(values=None, form="WAV", rate=8000, **how):
    file = io.BytesIO()
    values = np.random.default_rng(0).normal(scale=0.1, size=4000) if values is None else values
    soundfile.write(file, values, rate, format=form, **how)
    return file.getvalue()


def patched(data, *changes):
    """Bytes with others at some places."""
    data = bytearray(data)
    for place, new in changes:
        data[place : place + len(new)] = new
    return bytes(data)


def long(number):
    return struct.pack("<I", number)


def bomb(home):
    """Silence, of which a few bytes hold any amount."""
    path = home / "sound" / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC", subtype="PCM_16") as file:
        file.write(np.zeros(2**22, np.int16))
    assert path.stat().st_size < 2**15
    yield path


def tar(*members):
    """An archive where a download would lie, with its hash. A member is (name, bytes or changes of a TarInfo)."""

    def damage(home):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for name, what in (
                ("LibriSpeech/dev-clean/1/1/1-1.trans.txt", b"1-1-0 HI\n"),
                *members,
            ):
                member = tarfile.TarInfo(name)
                if isinstance(what, bytes):
                    member.size = len(what)
                else:
                    for key, value in what.items():
                        setattr(member, key, value)
                archive.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
        yield from archived([data.getvalue()])(home)

    return damage


def archived(versions):
    def damage(home):
        folder = home / "root" / ".downloads"
        for version in versions:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "tiny.tar").write_bytes(version)
            (folder / "tiny.tar.sha256").write_text(
                f"sha256:{hashlib.sha256(version).hexdigest()}\n"
            )
            yield folder / "tiny.tar"

    return damage


def a_tar():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("LibriSpeech/dev-clean/1/1/1-1-0.flac")
        member.size = 30_000
        archive.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(30_000)))
    return data.getvalue()


def synthesis_of(note):
    return naming("spoken", content("spoken/synthesis.json", note))


def profile(yaml_text, named="quick.yaml"):
    """A profile; `named` is what the message tells, a parameter where the profile can be read."""

    def damage(home):
        data = (
            yaml_text
            if isinstance(yaml_text, bytes)
            else yaml_text.replace("HOME", str(home)).encode()
        )
        (home / "notebooks" / "params" / "quick.yaml").write_bytes(data)
        yield Path(named)

    return damage


def notebook(function):
    return change("notebooks/01_features.ipynb", function)


def arpa(old, new):
    return change("words.arpa", replaced(old, new))


# What is done with it.


def open_records(home, path):
    Records(home / "records")


def read_records(home, path):
    opened = Records(home / "records")
    with opened.reading():
        for _ in opened.batches(3, seed=1):
            pass


def guide(home, path):
    write_guidance(Records(home / "records"), models.load_teacher(home / "teacher"), home / "new")


def write_guidance_of_it(home, path):
    write_guidance(Records(home / "records"), models.load_teacher(path), home / "new")


def open_guidance(home, path):
    Guidance(home / "said", models.load_teacher(home / "teacher"))


def read_guidance(home, path):
    stored = Guidance(home / "said")
    for name in stored.paths:
        stored.read(name)


def learn_from_guidance(home, path):
    joined = Guidance(home / "said").join(Records(home / "records"), SPEC)
    with joined.reading():
        for _ in joined.batches(3):
            pass


def load_model(home, path):
    models.load(home / "teacher")


def load_file(home, path):
    models.load(path)


def recognise(home, path):
    Recogniser(path)


def load_sound(home, path):
    tracemalloc.start()  # which counts what is asked for; of what is never written to, the system gives nothing
    try:
        load_audio(path, 8000)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_MEMORY


def load_long_sound(home, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "MAX_SAMPLES", 2**20)
        patch.setattr(audio, "BLOCK_VALUES", 2**16)
        load_audio(path, 8000)


def use_words(home, path):
    LexiconBeamSearch(path).words()


def use_lexicon(home, path):
    LexiconBeamSearch(home / "words.arpa", lexicon=path).words()


def use_with_lexicon(home, path):
    LexiconBeamSearch(path, home / "words.txt").words()


def read_the_corpus(home, path):
    read_corpus(home / "corpus", "train")


def fetch(arrange, splits=("dev-clean",)):
    def use(home, path):
        with pytest.MonkeyPatch.context() as patch:
            archive = Archive(
                "http://127.0.0.1:9/tiny.tar", None, splits, arrange
            )  # port 9 discards: no download
            patch.setitem(CORPORA, "tiny", (archive,))
            fetch_corpus("tiny", home / "root")

    return use


def synthesise(home, path):
    synthesise_corpus(home / "spoken", {"dev": 0.1})


def plan(home, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "NOTEBOOKS", home / "notebooks")
        course.plan("quick")


# The table.

SHARD, INDEX, VOCABULARY = "records/00000.tfrecord", "records/00000.json", "records/vocabulary.json"
AGAIN = "write (the|these) records again"
ANEW = r"write it again \(notebook 03\)"
COPY = "train or copy the model again"
QUANTIZE, DEPLOY = "`ltt quantize` writes one", "`ltt deploy` writes one"
SOUND = "was it copied whole|copy (or download )?it again|cut it into shorter files|record again"
GET = "remove it and get it again|`ltt lm` (makes one|does)|convert it, or get it again"
DEEP = b"[" * 100_000
LAMBDA = {
    "class_name": "__lambda__",
    "config": {"code": "4wAAAA==", "defaults": None, "closure": None},
}
LAYER = {"class_name": "ReLU", "module": "keras.layers", "config": {}, "registered_name": None}
OS_SYSTEM = {
    "class_name": "function",
    "config": "system",
    "module": "os",
    "registered_name": "system",
}
FSDD = "fsdd/recordings/0_anna_0.wav"

KINDS = [
    # Records
    ("shard cut at every 1 %", series(SHARD, cuts(100)), open_records, RecordsError, AGAIN),
    ("shard cut, its index of that size", series(SHARD, cuts(5), remade_index), read_records, RecordsError, AGAIN),
    ("shard flipped bits", series(SHARD, flips(9)), read_records, RecordsError, AGAIN),
    ("shard flipped bits, told in guidance", series(SHARD, flips(2)), guide, RecordsError, AGAIN),
    ("shard missing", remove(SHARD), open_records, RecordsError, AGAIN),
    ("shard missing with its index", lambda home: [*remove(INDEX)(home), *remove(SHARD)(home)][1:], open_records,
     RecordsError, AGAIN),
    ("shards exchanged, of equal size", swapped(SHARD, "records/00001.tfrecord"), read_records, RecordsError, AGAIN),
    ("indices exchanged, of equal size", naming(SHARD, swapped(INDEX, "records/00001.json")), read_records,
     RecordsError, AGAIN),
    ("shard with a record too few", recounted(-1), read_records, RecordsError, AGAIN),
    ("shard with a record too many", recounted(+1), read_records, RecordsError, AGAIN),
    ("shard with numbers missing in its records", cut_features, read_records, RecordsError, AGAIN),
    ("index missing", remove(INDEX, SHARD), open_records, RecordsError, AGAIN),
    ("index cut", naming(SHARD, series(INDEX, cuts(20))), open_records, RecordsError, AGAIN),
    ("index flipped bits", naming(SHARD, series(INDEX, flips(60, 90, -30))), open_records, RecordsError, AGAIN),
    ("index is a list", naming(SHARD, content(INDEX, b"[1, 2]")), open_records, RecordsError, AGAIN),
    ("index nested without end", naming(SHARD, content(INDEX, DEEP)), open_records, RecordsError, AGAIN),
    ("index not UTF-8", naming(SHARD, content(INDEX, b'{"bytes": "\xff\xfe"}')), open_records, RecordsError, AGAIN),
    ("index without entries", index_with(entries=None), open_records, RecordsError, AGAIN),
    ("index with entries of other types", index_with(entries=[["a", "b", "c", 1, 1]]), open_records, RecordsError,
     AGAIN),
    ("index with entries too short", index_with(entries=[["a", "b"]]), open_records, RecordsError, AGAIN),
    ("index with unknown features", index_with(features={"kind": "mel"}), open_records, RecordsError, AGAIN),
    ("index with features of another type", index_with(features=["raw"]), open_records, RecordsError, AGAIN),
    ("index of another alphabet", index_with(alphabet="AB"), open_records, RecordsError, AGAIN),
    ("vocabulary missing", remove(VOCABULARY, "records"), open_records, RecordsError, AGAIN),
    ("vocabulary cut", series(VOCABULARY, lambda whole: cuts(10)(whole.rstrip())), open_records, RecordsError, AGAIN),
    ("vocabulary is a number", content(VOCABULARY, b"28"), open_records, RecordsError, AGAIN),
    ("vocabulary of another alphabet", content(VOCABULARY, b'{"alphabet": "AB"}'), open_records, RecordsError, AGAIN),
    # Guidance
    ("guidance cut at every 5 %", guidance_file(cuts(20)), open_guidance, soft_targets.GuidanceError, ANEW),
    ("guidance flipped bits", guidance_file(flips(120)), read_guidance, soft_targets.GuidanceError, ANEW),
    ("guidance flipped bits, in a training", guidance_file(flips(4, -200, -1)), learn_from_guidance, soft_targets.GuidanceError,
     ANEW),
    ("guidance empty", guidance_file(lambda whole: [b""]), open_guidance, soft_targets.GuidanceError, ANEW),
    ("guidance files exchanged", guidance_renamed, open_guidance, soft_targets.GuidanceError, ANEW),
    ("guidance file copied under another name", guidance_copied, open_guidance, soft_targets.GuidanceError, ANEW),
    ("guidance without a checksum", guidance_without_a_seal, open_guidance, soft_targets.GuidanceError, ANEW),
    ("guidance of another teacher", guidance_of_another, open_guidance, soft_targets.GuidanceError, "write its guidance again"),
    ("guidance of a deployed teacher", lambda home: [home / "deployed"], write_guidance_of_it, soft_targets.GuidanceError,
     "name the model that it was made of"),
    ("guidance missing", no_guidance, open_guidance, soft_targets.GuidanceError, "notebook 03"),
    # Model folders
    ("card missing", remove("teacher/card.json"), load_model, ValueError, "notebook 02 makes"),
    ("card cut", series("teacher/card.json", lambda whole: cuts(10)(whole.rstrip())), load_model, ValueError, COPY),
    ("card is a list", content("teacher/card.json", b"[]"), load_model, ValueError, COPY),
    ("card nested without end", content("teacher/card.json", DEEP), load_model, ValueError, COPY),
    ("card of a newer version", card_with(version=2), load_model, ValueError, "update lttlib"),
    ("card of a version that is no number", card_with(version="new"), load_model, ValueError, COPY),
    ("card with files of another type", card_with(files=7), load_model, ValueError, COPY),
    ("spec missing", remove("teacher/spec.json"), load_model, ValueError, COPY),
    ("weights missing", remove("teacher/weights.safetensors"), load_model, ValueError, COPY),
    ("weights flipped bits", naming("teacher", series("teacher/weights.safetensors", flips(20))), load_model,
     ValueError, COPY),
    ("weights of another network", forged_spec(filters=[4, 6]), load_model, ValueError, COPY),
    ("weights fewer than the layers", forged_spec(filters=[2**30, 2**30]), load_model, ValueError, COPY),
    ("spec of huge layers", forged_spec(filters=[2**21, 4]), load_model, ValueError, COPY),
    ("spec of negative widths", forged_spec(widths=[-3, 3]), load_model, ValueError, COPY),
    ("spec of a part of a filter", forged_spec(filters=[4.5, 5]), load_model, ValueError, COPY),
    ("spec of an unknown field", forged_spec(colour="red"), load_model, ValueError, COPY),
    ("spec of an unknown activation", forged_spec(activation="softmaxx"), load_model, ValueError, COPY),
    ("spec of a Keras lambda", forged_spec(activation=LAMBDA), load_model, ValueError, COPY),
    ("spec of an object of Keras", forged_spec(activation=LAYER), load_model, ValueError, COPY),
    ("spec of a function of the system", forged_spec(activation=OS_SYSTEM), load_model, ValueError, COPY),
    ("spec is a list", forged("spec.json", b"[]"), load_model, ValueError, COPY),
    ("features of an absurd rate", forged("features.json", b'{"sampling_rate": 1e300}'), load_model, ValueError, COPY),
    ("features of an endless window", forged("features.json", b'{"window_ms": Infinity}'), load_model, ValueError,
     COPY),
    ("features of other channels", forged("features.json", b'{"n_mfcc": 12}'), load_model, ValueError, COPY),
    ("model's alphabet of other classes", forged("vocabulary.json", b'{"alphabet": "AB"}'), load_model, ValueError,
     COPY),
    ("model's alphabet is a number", forged("vocabulary.json", b'{"alphabet": 28}'), load_model, ValueError, COPY),
    ("model's vocabulary cut", forged("vocabulary.json", b'{"alpha'), load_model, ValueError, COPY),
    ("weights are a pickle", evil("teacher/weights.safetensors"), load_model, ValueError, COPY),
    ("spec is a pickle", evil("teacher/spec.json"), load_model, ValueError, COPY),
    ("a pickle beside the weights", evil("teacher/packed.safetensors"), load_model, ValueError, QUANTIZE),
    ("a pickle deployed", evil("teacher/model.tflite"), load_model, ValueError, DEPLOY),
    ("a pickle named as Keras does", evil("model.keras"), load_file, ValueError, QUANTIZE),
    # Packed files
    ("packed cut", series("packed.safetensors", cuts(40)), load_file, ValueError, QUANTIZE),
    ("packed flipped bits", series("packed.safetensors", flips(50)), load_file, ValueError, QUANTIZE),
    ("packed wrong magic", content("packed.safetensors", b"PK\3\4" * 50), load_file, ValueError, QUANTIZE),
    ("packed is a pickle", evil("packed.safetensors"), load_file, ValueError, QUANTIZE),
    ("packed head of 2^60 bytes", safetensors_head({}, 2**60), load_file, ValueError, QUANTIZE),
    ("packed tensors of 2^40 values",
     safetensors_head({"codes": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}}),
     load_file, ValueError, QUANTIZE),
    ("packed tensors of fewer bytes than values",
     safetensors_head({"codes": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 64]}}),
     load_file, ValueError, QUANTIZE),
    ("packed tensors of a negative shape",
     safetensors_head({"codes": {"dtype": "U8", "shape": [-64], "data_offsets": [0, 64]}}),
     load_file, ValueError, QUANTIZE),
    ("packed filters of 2^30", packed_spec(filters=[2**30, 5]), load_file, ValueError, QUANTIZE),
    ("packed filters of gigabytes", packed_spec(filters=[2**21, 5]), load_file, ValueError, QUANTIZE),
    ("packed filters below zero", packed_spec(filters=[-4, 5]), load_file, ValueError, QUANTIZE),
    ("packed width of 2^40", packed_spec(widths=[2**40, 3]), load_file, ValueError, QUANTIZE),
    ("packed filters are text", packed_spec(filters=["4", "5"]), load_file, ValueError, QUANTIZE),
    ("packed of a hundred thousand layers",
     packed_spec(**dict.fromkeys(("filters", "widths", "strides"), [1] * 10**5), dropouts=[0.0] * 10**5),
     load_file, ValueError, QUANTIZE),
    ("packed of fewer layers", packed_spec(**{key: [value[0]] for key, value in {
        "filters": (4,), "widths": (3,), "strides": (2,), "dropouts": (0.1,)}.items()}),
     load_file, ValueError, QUANTIZE),
    ("packed of an unknown activation", packed_spec(activation="eval"), load_file, ValueError, QUANTIZE),
    ("packed of an object of Keras", packed_spec(activation=LAYER), load_file, ValueError, QUANTIZE),
    ("packed of a Keras lambda", packed_spec(activation=LAMBDA), load_file, ValueError, QUANTIZE),
    ("packed 0 bits", packed_kernel(bits=0), load_file, ValueError, QUANTIZE),
    ("packed 99 bits", packed_kernel(bits=99), load_file, ValueError, QUANTIZE),
    ("packed -1 bits", packed_kernel(bits=-1), load_file, ValueError, QUANTIZE),
    ("packed buckets of 0", packed_kernel(bucket_size=0), load_file, ValueError, QUANTIZE),
    ("packed buckets below zero", packed_kernel(bucket_size=-16), load_file, ValueError, QUANTIZE),
    ("packed buckets of 2^30", packed_kernel(bucket_size=2**30), load_file, ValueError, QUANTIZE),
    ("packed buckets of text", packed_kernel(bucket_size="16"), load_file, ValueError, QUANTIZE),
    ("packed levels that are not there", packed_kernel(learned=True), load_file, ValueError, QUANTIZE),
    ("packed classes of another alphabet", repacked(lambda told, _: told.update(alphabet="AB")),
     load_file, ValueError, QUANTIZE),
    ("packed letters that stand twice", repacked(lambda told, _: told.update(alphabet="A" * 28)),
     load_file, ValueError, QUANTIZE),
    ("packed features of other channels", repacked(lambda told, _: told["features"].update(n_mfcc=12)),
     load_file, ValueError, QUANTIZE),
    ("packed without a spec", repacked(lambda told, _: told.pop("spec")), load_file, ValueError, QUANTIZE),
    ("packed floats of another type",
     repacked(lambda _, tensors: tensors.update(floats=tensors["floats"].astype(np.int32))),
     load_file, ValueError, QUANTIZE),
    ("packed floats too few", repacked(lambda _, tensors: tensors.update(floats=tensors["floats"][:-1])),
     load_file, ValueError, QUANTIZE),
    ("packed floats too many", repacked(lambda _, tensors: tensors.update(floats=np.tile(tensors["floats"], 2))),
     load_file, ValueError, QUANTIZE),
    # Deployed files
    ("deployed cut", series("model.tflite", cuts(40)), recognise, ValueError, DEPLOY),
    ("deployed flipped bits", tflite_flips, recognise, ValueError, DEPLOY),
    ("deployed empty", content("model.tflite", b""), recognise, ValueError, DEPLOY),
    ("deployed with another network", change("model.tflite", lambda whole: whole[4:]), recognise, ValueError, DEPLOY),
    ("deployed without facts", zipped(lambda told: told, name="other.json"), recognise, ValueError, DEPLOY),
    ("deployed damaged archive", change("model.tflite", replaced("PK\1\2", "PK\1\3")), recognise, ValueError, DEPLOY),
    ("deployed facts are a list", zipped(lambda told: "[1]"), recognise, ValueError, DEPLOY),
    ("deployed facts nested without end", zipped(lambda told: DEEP.decode()), recognise, ValueError, DEPLOY),
    ("deployed facts of megabytes", zipped(lambda told: json.dumps(told) + " " * 2**22, zipfile.ZIP_DEFLATED),
     recognise, ValueError,
     DEPLOY),
    ("deployed without features", zipped(lambda told: told | {"features": None}), recognise, ValueError, DEPLOY),
    ("deployed features of other channels", zipped(lambda told: told | {"features": {"n_mfcc": 12}}), recognise,
     ValueError, DEPLOY),
    ("deployed alphabet of other classes", zipped(lambda told: told | {"alphabet": "AB"}), recognise, ValueError,
     DEPLOY),
    # Sound
    ("sound of no bytes", sound("a.flac", b""), load_sound, AudioError, SOUND),
    ("sound is text", sound("a.wav", b"1-1-0 HI\n" * 9), load_sound, AudioError, SOUND),
    ("sound is junk after the head of an MP3", sound("a.mp3", b"\xff\xfb\x90\x00" * 500), load_sound, AudioError,
     SOUND),
    ("sound without any head", sound("a.raw", bytes(100)), load_sound, AudioError, SOUND),
    ("sound of no channels", sound("a.wav", patched(wave_file(), (22, b"\0\0"))), load_sound, AudioError, SOUND),
    ("sound of 65535 channels", sound("a.wav", patched(wave_file(), (22, b"\xff\xff"))), load_sound, AudioError, SOUND),
    ("sound of 0 Hz", sound("a.wav", patched(wave_file(), (24, long(0)))), load_sound, AudioError, SOUND),
    ("sound of 1 Hz", sound("a.wav", patched(wave_file(), (24, long(1)))), load_sound, AudioError, SOUND),
    ("sound of 2^31 - 1 Hz", sound("a.wav", patched(wave_file(), (24, long(2**31 - 1)))), load_sound, AudioError,
     SOUND),
    ("sound of 2 GB less some, as a WAV tells", sound("a.wav", patched(wave_file(), (40, long(0x7FFFEFFE)))),
     load_sound,
     AudioError, SOUND),
    ("sound of 2^36 samples, as a FLAC tells", sound("a.flac", patched(wave_file(form="FLAC"), (22, b"\xff" * 4))),
     load_sound, AudioError, SOUND),
    ("sound that unpacks to hours", bomb, load_long_sound, AudioError, SOUND),
    ("sound that is no number", sound("a.wav", wave_file([0.1, np.nan], subtype="FLOAT")), load_sound, AudioError,
     SOUND),
    ("sound that is infinite", sound("a.wav", wave_file([0.1, -np.inf], subtype="FLOAT")), load_sound, AudioError,
     SOUND),
    ("sound whose channels add up to infinity", sound("a.wav", wave_file([[3e38, 3e38]] * 9, subtype="FLOAT")),
     load_sound, AudioError, SOUND),
    ("sound cut, FLAC", series("corpus/train/1/1/1-1-0.flac", cuts(20)), load_sound, AudioError, SOUND),
    # Language models and lexicons
    ("ARPA cut at every 10 %", series("words.arpa", cuts(10)), use_words, (LanguageModelError, DecodingError), GET),
    ("ARPA of gzip cut at every 10 %", series("words.arpa.gz", cuts(10)), use_words,
     (LanguageModelError, DecodingError),
     GET),
    ("ARPA of gzip flipped bits", series("words.arpa.gz", flips(3, -60, -9)), use_words,
     (LanguageModelError, DecodingError), GET),
    ("ARPA empty", content("words.arpa", b""), use_words, LanguageModelError, GET),
    ("ARPA is junk", content("words.arpa", np.random.default_rng(0).bytes(5000)), use_words, LanguageModelError, GET),
    ("ARPA without its first line", arpa("\\data\\", ""), use_words, LanguageModelError, GET),
    ("ARPA of more 1-grams than listed", arpa("ngram 1=5", "ngram 1=6"), use_words, LanguageModelError, GET),
    ("ARPA of fewer 2-grams than listed", arpa("ngram 2=8", "ngram 2=7"), use_words, DecodingError, GET),
    ("ARPA of less than no 2-grams", arpa("ngram 2=8", "ngram 2=-8"), use_words, LanguageModelError, GET),
    ("ARPA of billions of 2-grams", arpa("ngram 2=8", "ngram 2=2000000000"), use_words, LanguageModelError, GET),
    ("ARPA of a count that is no number", arpa("ngram 2=8", "ngram 2=many"), use_words, LanguageModelError, GET),
    ("ARPA of probabilities above 1", arpa("-0.60205999\t</s>", "0.5\t</s>"), use_words, LanguageModelError, GET),
    ("ARPA of no number", arpa("-0.60205999\t</s>", "nan\t</s>"), use_words, LanguageModelError, GET),
    ("ARPA of probability 0", arpa("-0.60205999\t</s>", "-inf\t</s>"), use_words, LanguageModelError, GET),
    ("ARPA of 2-grams above 1", arpa("-0.31017338\t<s> A", "0.5\t<s> A"), use_words, DecodingError, GET),
    ("ARPA of 2-grams of no number", arpa("-0.31017338\t<s> A", "nan\t<s> A"), use_words, DecodingError, GET),
    ("ARPA of 2-grams of unknown words", arpa("<s> A\t", "<s> Q\t"), use_words, DecodingError, GET),
    ("ARPA with a word that stands twice", change("words.arpa", lambda whole: replaced("ngram 1=5", "ngram 1=6")(
        replaced("\t</s>\t0\n", "\t</s>\t0\n-0.6\tA\t0\n")(whole))), use_words, LanguageModelError,
     GET),
    ("ARPA not UTF-8", change("words.arpa", lambda whole: whole.replace(b"\tA\t", b"\t\xc4\t")), use_words,
     LanguageModelError, GET),
    ("ARPA without </s>", arpa("-0.60205999\t</s>\t0\n", "-0.6\tQ\t0\n"), use_words, DecodingError, GET),
    ("binary model that is none", content("words.arpa", b"mmap lm http://kheafield.com/code format version 5\n\0" * 9),
     use_with_lexicon, DecodingError, GET),
    ("lexicon not UTF-8", content("words.txt", b"A\nCAF\xc9\n"), use_lexicon, LanguageModelError, "write it anew"),
    ("lexicon missing", remove("words.txt"), use_lexicon, LanguageModelError, "write it anew"),
    ("lexicon empty", content("words.txt", b"\n"), use_lexicon, DecodingError, "no word in the letters"),
    ("lexicon is binary", content("words.txt", bytes(range(1, 64))), use_lexicon, DecodingError,
     "no word in the letters"),
    ("lexicon of one endless word", content("words.txt", b"A" * 10**6), use_lexicon, DecodingError, "longer than 100"),
    # Corpora
    ("transcript not UTF-8", content("corpus/train/1/1/1-1.trans.txt", b"1-1-0 CAF\xc9\n"), read_the_corpus, CorpusError,
     "save the file as UTF-8"),
    ("transcript with an id twice", content("corpus/train/1/1/1-1.trans.txt", b"1-1-0 HI\n1-1-0 HO\n"), read_the_corpus,
     CorpusError, "remove one of the two"),
    ("sound with an id twice", content("corpus/train/1/2/1-1-0.wav", b""), read_the_corpus, CorpusError,
     "remove one of the two"),
    ("split missing", lambda home: [(home / "corpus" / "train").rename(home / "corpus" / "trian")], read_the_corpus,
     CorpusError, "its folders are trian"),
    ("split empty", lambda home: [shutil.rmtree(home / "corpus" / "train" / "1"), (home / "corpus" / "train")][1:],
     read_the_corpus, CorpusError, "put it in the LibriSpeech layout"),
    ("archive with a path above", tar(("../evil", b"evil")), fetch(librispeech), CorpusError, "run it again"),
    ("archive with a path above, within", tar(("a/../../evil", b"evil")), fetch(librispeech), CorpusError,
     "run it again"),
    ("archive with an absolute path", tar(("/evil", b"evil")), fetch(librispeech), CorpusError, "run it again"),
    ("archive with a link out", tar(("evil", {"type": tarfile.SYMTYPE, "linkname": "../../evil"})), fetch(librispeech),
     CorpusError, "run it again"),
    ("archive with a hard link out", tar(("evil", {"type": tarfile.LNKTYPE, "linkname": "../../evil"})),
     fetch(librispeech), CorpusError, "run it again"),
    ("archive with a device", tar(("evil", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})),
     fetch(librispeech),
     CorpusError, "run it again"),
    ("archive with a pipe", tar(("evil", {"type": tarfile.FIFOTYPE})), fetch(librispeech), CorpusError, "run it again"),
    ("archive cut", archived([a_tar()[: len(a_tar()) * part // 10] for part in range(10)]), fetch(librispeech),
     CorpusError, "run it again"),
    ("archive flipped bits", archived(flips(20, 20, -8)(a_tar())), fetch(librispeech), CorpusError, "run it again"),
    ("archive is junk", archived([b"<html>" * 99]), fetch(librispeech), CorpusError, "run it again"),
    ("archive of other splits", tar(), fetch(librispeech, ("train",)), CorpusError, "has it changed"),
    ("archive of digits with other names", tar(("fsdd/recordings/a_b_c.wav", b"")), fetch(spoken_digits), CorpusError,
     "Remove it to download it again"),
    ("archive of digits without sound", tar((FSDD, b"")), fetch(spoken_digits), CorpusError,
     "Remove it to download it again"),
    ("archive of LJSpeech without its texts", tar(("LJSpeech-1/a", b"")), fetch(ljspeech), CorpusError,
     "Remove it to download it again"),
    ("archive of LJSpeech with other texts", tar(("LJSpeech-1/metadata.csv", b"a,b,c")), fetch(ljspeech), CorpusError,
     "Remove it to download it again"),
    ("hash of an archive is junk", lambda home: [*archived([a_tar()])(home),
                                                 *content("root/.downloads/tiny.tar.sha256", b"\xff")(home)][1:],
     fetch(librispeech), CorpusError, "remove it"),
    ("synthesised corpus of other contents", synthesis_of(b'{"seed": 5}'), synthesise, CorpusError,
     "remove it or name"),
    ("synthesised corpus with a note cut", synthesis_of(b'{"seed"'), synthesise, CorpusError, "remove it or name"),
    ("synthesised corpus with a note of bytes", synthesis_of(b"\xff"), synthesise, CorpusError, "remove it or name"),
    # Parameters
    ("profile with a tab", profile("epochs:\t2\n\tspeeds: [1.0]"), plan, ValueError, "a line each"),
    ("profile is a list", profile("- epochs\n- 2"), plan, ValueError, "a line each"),
    ("profile is a list of pairs", profile("- [epochs, 2]"), plan, ValueError, "a line each"),
    ("profile is a text", profile("epochs"), plan, ValueError, "a line each"),
    ("profile not UTF-8", profile(b"epochs: \xff"), plan, ValueError, "a line each"),
    ("profile nested without end", profile(DEEP[:2000]), plan, ValueError, "a line each"),
    ("profile with a parameter twice", profile("epochs: 1\nepochs: 2"), plan, ValueError, "stands twice"),
    ("profile that would run a command",
     profile("epochs: !!python/object/apply:os.system ['touch HOME/pwned']"), plan, ValueError, "a line each"),
    ("profile that would make an object",
     profile("epochs: !!python/object/new:pathlib.Path.touch [HOME/pwned]"), plan, ValueError, "a line each"),
    ("profile with a text for a number", profile("epochs: two", "epochs"), plan, ValueError, "expects int, not 'two'"),
    ("profile with true for a number", profile("epochs: true", "epochs"), plan, ValueError, "expects int, not True"),
    ("profile with a rate that is no number", profile("rate: .nan", "rate"), plan, ValueError,
     "expects float, not nan"),
    ("profile with an infinite rate", profile("rate: .inf", "rate"), plan, ValueError, "expects float, not inf"),
    ("profile that nests billions", profile("".join(
        [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '1'] * 9)}]\n" for n in range(9)]).replace("a8:", "speeds:"),
        "parameter"), plan, ValueError, "unknown parameter 'a0'"),
    ("profile with a value that nests billions", profile("speeds: " + "[&a [1, 1], " + "".join(
        f"&{x} [{', '.join([f'*{y}'] * 9)}], " for x, y in zip("bcdefghi", "abcdefgh", strict=True)) + "2]", "speeds"),
     plan, ValueError, "expects list"),
    ("profile with a misspelt parameter", profile("epoch: 2", "epoch"), plan, ValueError, "did you mean 'epochs'"),
    ("profile with an unknown parameter", profile("colour: red", "colour"), plan, ValueError, "There are: epochs"),
    ("notebook cut", notebook(lambda whole: whole[:-20]), plan, ValueError, "get it again"),
    ("notebook is a list", notebook(lambda whole: b"[]"), plan, ValueError, "get it again"),
    ("notebook without cells", notebook(lambda whole: b"{}"), plan, ValueError, "get it again"),
    ("notebook without parameters", notebook(replaced("parameters", "parameter")), plan, ValueError, "get it again"),
    ("notebook with code among parameters", notebook(replaced("epochs: int = 3 ", "import os; epochs = 3 ")), plan,
     ValueError, "name: type = literal"),
    ("notebook with a parameter of another type", notebook(replaced("int = 3", "int = 3.5")), plan, ValueError,
     "name: type = literal"),
]  # fmt: skip


def test_the_table_is_long_and_names_each_kind_once():
    assert len({kind for kind, *_ in KINDS}) == len(KINDS) >= 60


@pytest.mark.parametrize(
    "damage, use, classes, cure", [pytest.param(*row, id=kind) for kind, *row in KINDS]
)
def test_bad_input_names_file_and_cure_and_leaves_nothing(home, damage, use, classes, cure):
    times, memory = 0, peak_memory()
    for path in damage(home):
        but = {
            path.name,
            f"{path.name}.sha256",
        }  # a downloaded archive that is damaged is removed, and its hash
        before = tree(home, but)
        with pytest.raises(Exception) as caught:  # noqa: B017, of which class is looked at below
            use(home, path)
        assert type(caught.value) in (classes if isinstance(classes, tuple) else (classes,)), repr(
            caught.value
        )
        message = str(caught.value)
        assert path.name in message and re.search(cure, message), message
        assert len(message) < 4000, "nobody reads that much"
        assert tree(home, but) == before
        times += 1
    assert times, "nothing was damaged"
    assert peak_memory() < memory + MOST_MEMORY


USES = [
    open_records,
    read_records,
    guide,
    open_guidance,
    read_guidance,
    learn_from_guidance,
    load_model,
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_what_is_whole_passes(home, use):
    use(home, None)


FILES = {
    "packed.safetensors": load_file, "small": load_file, "model.tflite": recognise, "words.arpa": use_words,
    "words.arpa.gz": use_words, "words.txt": use_lexicon, "corpus/train/1/1/1-1-0.flac": load_sound,
    "corpus": read_the_corpus, "notebooks": plan,
}  # fmt: skip


@pytest.mark.parametrize("name, use", FILES.items())
def test_a_file_that_is_whole_passes(home, name, use):
    use(home, home / name)


# That the cure is one.


def written(home):
    """The records, as the copy of the corpus in this folder gives them."""
    return write_records(
        read_corpus(home / "corpus", "train"), home / "records", FEATURES, cores=1, shard_size=3
    )


def test_what_the_error_names_is_made_again_and_no_more(home):
    written(home)
    path = home / "records" / "00001.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:500] + b"x" + whole[501:])
    with pytest.raises(RecordsError, match="00001.tfrecord: damaged"):
        read_records(home, None)
    path.unlink()
    assert written(home)["shards_made"] == 1 and path.read_bytes() == whole
    read_records(home, None)


@pytest.mark.parametrize(
    "name, made", [("00001.json", 1), ("00001.tfrecord", 1), ("vocabulary.json", 0)]
)
def test_records_written_again_mend_what_was_cut(home, name, made):
    path = home / "records" / name
    written(home)
    whole = {path.name: path.read_bytes() for path in (home / "records").iterdir()}
    path.write_bytes(path.read_bytes()[:20])
    assert written(home)["shards_made"] == made
    assert {path.name: path.read_bytes() for path in (home / "records").iterdir()} == whole


def test_an_index_too_many_is_removed_and_files_of_others_are_left_alone(home):
    (home / "records" / "notes.tfrecord").write_bytes(b"mine")
    read_records(home, None)
    shutil.copy(home / INDEX, home / "records" / "00007.json")
    with pytest.raises(RecordsError, match=AGAIN):
        open_records(home, None)
    written(home)
    read_records(home, None)
    assert (home / "records" / "notes.tfrecord").read_bytes() == b"mine"


@pytest.mark.parametrize("versions", [cuts(2), flips(5)])
def test_guidance_written_again_mends_the_damaged_file_and_keeps_the_others(home, versions):
    path = first_guidance(home)
    whole, others = (
        path.read_bytes(),
        {other: other.stat().st_mtime_ns for other in (home / "said").iterdir()},
    )
    for version in versions(whole):
        path.write_bytes(version)
        done = write_guidance(
            Records(home / "records"),
            models.load_teacher(home / "teacher"),
            home / "said",
            encoding="log8",
        )
        assert done["files_made"] == 1 and path.read_bytes() == whole
    times = {other: other.stat().st_mtime_ns for other in (home / "said").iterdir()}
    assert {other for other in times if times[other] != others[other]} == {path}


def test_guidance_has_the_same_bytes_in_every_process(home):
    """In a header of several keys, their order would be another one in each process."""
    with safe_open(first_guidance(home), "numpy") as file:
        assert list(file.metadata()) == ["guidance"]


def test_a_sound_that_is_damaged_is_listed_and_the_others_are_written(home):
    sounds = sorted((home / "corpus" / "train" / "1" / "1").glob("*.flac"))
    sounds[0].write_bytes(sounds[0].read_bytes()[:-200])
    sounds[1].write_bytes(wave_file([0.1, np.nan] * 2000, subtype="FLOAT"))
    done = write_records(read_corpus(home / "corpus", "train"), home / "new", FEATURES, cores=1)
    assert (done["examples"], done["rejected"]) == (6, 2)
    rows = (home / "new" / "rejected.csv").read_text().splitlines()[1:]
    assert all(str(path) in row for path, row in zip(sounds, rows, strict=False)) and len(rows) == 2


def test_words_that_are_left_out_of_a_lexicon_are_listed(home):
    (home / "words.txt").write_text("A\nB1\n" + "B" * 101)
    kept, left_out = LexiconBeamSearch(home / "words.arpa", lexicon=home / "words.txt").words()
    assert kept == {"A"} and [lost["reason"] for lost in left_out] == [
        "not in the alphabet: '1'",
        "longer than 100 letters",
    ]


def test_a_language_model_without_unknown_words_is_used(home):
    """As SRILM writes one of a closed vocabulary; what is not in it cannot be written anyway."""
    told = (home / "words.arpa").read_text()
    line = next(line for line in told.split("\n") if "<unk>" in line)
    (home / "words.arpa").write_text(
        told.replace(f"{line}\n", "").replace("ngram 1=5", "ngram 1=4")
    )
    heard = LexiconBeamSearch(home / "words.arpa")(np.eye(29)[None, [2, 28, 3]] * 9, [3])
    assert set(heard[0]) <= set("AB ")


# That other errors pass, and what was written before there were checksums.


def test_errors_that_are_not_of_reading_pass_as_they_are(home, monkeypatch):
    import tensorflow as tf

    opened = Records(home / "records")
    with monkeypatch.context() as patch:
        patch.setattr(shards, "verify", lambda *_: pytest.fail("nobody wants to wait for this now"))
        for error in (
            tf.errors.InvalidArgumentError(None, None, "a loss"),
            ValueError("other"),
            KeyboardInterrupt(),
        ):
            with pytest.raises(type(error)) as caught, opened.reading():
                raise error
            assert caught.value is error
    broken = opened.map(
        lambda batch: batch | {"x": tf.reshape(batch["features"], [7, 11, 13])}, "x"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"), broken.reading():
        list(broken.batches(3))


def test_a_fault_of_an_earlier_reading_is_forgotten(home):
    opened = Records(home / "records")
    opened.errors.append(soft_targets.GuidanceError("of before"))
    (home / SHARD).write_bytes(bytes((home / SHARD).stat().st_size))
    with pytest.raises(RecordsError, match="00000.tfrecord: damaged"), opened.reading():
        list(opened.batches(3))


def test_an_index_a_card_and_files_from_before_there_were_checksums_are_read(home):
    for path in (home / "records").glob("0*.json"):
        told = json.loads(path.read_text())
        del told["crc32"]
        path.write_text(json.dumps(told))
    read_records(home, None)
    card = json.loads((home / "teacher" / "card.json").read_text())
    assert card.pop("version") == 1
    (home / "teacher" / "card.json").write_text(json.dumps(card))
    load_model(home, None)
    with safe_open(home / "packed.safetensors", "numpy") as file:
        told, tensors = (
            json.loads(file.metadata()["model"]),
            {key: file.get_tensor(key) for key in file.keys()},
        )
    safetensors.numpy.save_file(
        tensors, home / "packed.safetensors", {"model": json.dumps(unsealed(told))}
    )
    load_file(home, home / "packed.safetensors")


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_values_of_a_network_are_counted_without_making_it(conv, batch_norm):
    spec = ConvSpec(
        (4, 5, 3), (3, 1, 2), (2, 1, 1), (0.1,) * 3, conv, batch_norm=batch_norm, classes=7
    )
    made = named_variables(ConvNet(spec))
    assert count_values(spec) == sum(int(np.prod(variable.shape)) for variable in made.values())


def test_all_activations_that_are_read_are_those_of_keras():
    for name in ACTIVATIONS:
        ConvSpec((1,), (1,), (1,), (0.0,), activation=name)


# Sound of any bytes.

WHOLE = [wave_file(), wave_file(subtype="FLOAT"), wave_file(np.zeros((500, 2))), wave_file(form="FLAC"),
         wave_file(form="OGG"), wave_file(form="AIFF"), wave_file(form="MP3")]  # fmt: skip
NAMES = strategies.sampled_from(["a.wav", "a.flac", "a.ogg", "a.aiff", "a.mp3", "a.raw", "a"])
PLACES = strategies.integers(0, 2**16)
CHANGES = strategies.lists(
    strategies.tuples(PLACES, strategies.binary(min_size=1, max_size=4)), max_size=6
)


@strategies.composite
def damaged_sound(draw):
    """Random bytes, or a file with bytes changed (of its head mostly), cut out, or followed by another file's."""
    if draw(strategies.integers(0, 4)) == 0:
        return draw(strategies.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3"])) + draw(
            strategies.binary()
        )
    data = bytearray(draw(strategies.sampled_from(WHOLE)))
    for place, new in draw(CHANGES):
        place %= draw(strategies.sampled_from([48, 128, len(data)]))
        data[place : place + len(new)] = new
    start, end = sorted((draw(PLACES) % len(data), draw(PLACES) % len(data)))
    what = draw(strategies.integers(0, 3))
    if what == 1:
        del data[start:end]
    elif what == 2:
        data[start:] = draw(strategies.sampled_from(WHOLE))[draw(PLACES) % 5000 :]
    return bytes(data)


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return tmp_path_factory.mktemp("heard"), {"wave": 0, "error": 0}


@hypothesis.given(name=NAMES, data=damaged_sound())
@hypothesis.settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_sound_of_any_bytes_is_a_wave_or_an_error_that_names_it(heard, name, data):
    folder, seen = heard
    memory = peak_memory()
    (folder / name).write_bytes(data)
    try:
        wave = load_audio(folder / name, 8000)
    except AudioError as error:
        assert str(folder / name) in str(error)
        seen["error"] += 1
    else:
        assert wave.dtype == np.float32 and wave.ndim == 1 and len(wave) and np.isfinite(wave).all()
        seen["wave"] += 1
    assert peak_memory() < memory + MOST_MEMORY


def test_the_sounds_above_were_of_both_kinds(heard):
    assert min(heard[1].values()) > 20


@pytest.mark.parametrize("value", [1e4, 2.0**31, 1e11])
def test_features_of_a_loud_file_are_finite(home, value):
    """Whole numbers of 32 bits that were written as floats, say."""
    noise = np.random.default_rng(0).normal(size=4000)
    (home / "loud.wav").write_bytes(wave_file(value * noise / np.abs(noise).max(), subtype="FLOAT"))
    (home / "soft.wav").write_bytes(wave_file(0.5 * noise / np.abs(noise).max(), subtype="FLOAT"))
    loud, soft = (
        extract(load_audio(home / f"{name}.wav", 8000), FEATURES) for name in ("loud", "soft")
    )
    np.testing.assert_allclose(loud, soft, atol=0.05)


# Nothing that a file tells is run.

FORBIDDEN = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib.load", "torch.load",
             "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "eval", "exec", "compile", "os.system",
             "__import__", "load_model", "deserialize", "deserialize_keras_object", "enable_unsafe_deserialization",
             "allow_pickle", "shell"}  # fmt: skip


def run_by_files(source):
    """Names in a module that would let a file run code, and archives that are unpacked without a filter."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Name | ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.keyword):
            names = [node.arg or ""] if getattr(node.value, "value", True) else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            (".extractall", ".extract", "unpack_archive")
        ):
            found |= (
                set()
                if "filter" in [keyword.arg for keyword in node.keywords]
                else {ast.unparse(node)}
            )
        for name in names:
            last = name.rpartition(".")[2]
            plain = FORBIDDEN & (
                {name, last} if "." in name and not name.startswith("re.") else {name}
            )
            found |= plain | ({name} if name.partition(".")[0] in FORBIDDEN else set())
    return found


@pytest.mark.parametrize(
    "module", sorted((HOME / "lttlib").rglob("*.py")), ids=lambda path: path.stem
)
def test_no_module_runs_what_a_file_tells(module):
    assert not run_by_files(module.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from dill import loads", "import joblib\njoblib.load(path)", "from joblib import load",
        "np.load(path, allow_pickle=True)", "yaml.load(text, yaml.Loader)", "eval(text)", "exec(text)",
        "keras.saving.load_model(path)", "keras.models.load_model(path, safe_mode=False)", "torch.load(path)",
        "subprocess.run(line, shell=True)", "os.system(line)", "tarfile.open(path).extractall(folder)",
        "keras.activations.deserialize(config)", "shutil.unpack_archive(path)",
    ],
)  # fmt: skip
def test_what_would_run_it_is_found(source):
    assert run_by_files(source)


def test_jupyterlab_keeps_its_token_and_listens_to_this_machine_only():
    words = r"\.(token|password|hashed_password)\b|allow[-_]root|0\.0\.0\.0|disable_check_xsrf"
    off = r"token\s*=\s*(''|\"\"|\\?['\"] *\\?['\"])|" + words
    for planted in (
        "jupyter lab --ServerApp.token=''",
        "--IdentityProvider.token=x",
        "--allow-root",
        "--ip 0.0.0.0",
    ):
        assert re.search(off, planted)
    for path in (HOME / "Makefile", *(HOME / "lttlib").rglob("*.py")):
        assert not re.search(off, path.read_text(encoding="utf-8")), path.name
    assert "jupyter lab" in (HOME / "Makefile").read_text(encoding="utf-8")
