"""Teachers that speak as one, against distributions worked out in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from lttlib import Error
from lttlib.features import FeatureConfig, Records
from lttlib.network import ConvNet, ConvSpec
from lttlib.training import Ensemble, Guidance, OutOfFold, Teacher, speaker_folds, write_guidance

SPEC = ConvSpec((8, 6), (5, 3), (1, 2), (0.1, 0.1), input_channels=39, classes=4)
SPEAKERS = ["anna", "bert", "cleo"]


def teacher(seed, spec=SPEC, **options):
    options = {"alphabet": "ABC"} | options
    return Teacher(f"{seed}" * 64, ConvNet(spec, seed), name=f"teacher {seed}", **options)


@pytest.fixture
def batch():
    features = np.random.default_rng(0).normal(size=(3, 20, 39)).astype(np.float32)
    return {
        "features": tf.constant(features),
        "feature_lengths": tf.constant([20, 13, 17]),
        "speaker": tf.constant(SPEAKERS),
    }


def softmax(logits):
    exponentials = np.exp(np.asarray(logits, np.float64))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_ensemble_is_the_mean_of_the_distributions(batch):
    teachers = [teacher(seed) for seed in (1, 2, 3)]
    logits, lengths = Ensemble(teachers).outputs(batch)
    expected = np.mean([softmax(member.logits(batch)) for member in teachers], axis=0)
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(logits), expected, atol=1e-6, err_msg="no log-probabilities")
    assert lengths.numpy().tolist() == [10, 7, 9]
    np.testing.assert_array_equal(Ensemble(teachers).logits(batch), logits)


def test_teacher_out_of_fold_speaks_about_its_own_speakers_alone(batch):
    teachers = [teacher(1), teacher(2)]
    folded = OutOfFold(teachers, [["bert"], ["anna", "cleo", "dora"]])
    logits, lengths = folded.outputs(batch)
    first, second = (member.logits(batch) for member in teachers)
    np.testing.assert_array_equal(logits, [second[0], first[1], second[2]])
    assert lengths.numpy().tolist() == [10, 7, 9]


@pytest.mark.parametrize("compiled", [False, True])
def test_speaker_of_no_fold_is_an_error(batch, compiled):
    folded = OutOfFold([teacher(1), teacher(2)], [["bert"], ["anna"]])
    run = tf.function(folded.logits) if compiled else folded.logits
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?s)in no fold.*cleo"):
        run(batch)


def test_groups_are_known_by_kind_members_and_order():
    first, second = teacher(1), teacher(2)
    groups = [Ensemble([first, second]), Ensemble([second, first]), Ensemble([first])]
    groups += [OutOfFold([first, second], [["a"], ["b"]]), first]
    assert len({group.fingerprint for group in groups}) == len(groups)
    assert Ensemble([teacher(1), teacher(2)]).fingerprint == groups[0].fingerprint


@pytest.mark.parametrize(
    "other",
    [
        {"feature_config": FeatureConfig(n_mels=30)},
        {"alphabet": "ABD"},
        {"spec": replace(SPEC, strides=(1, 1))},
    ],
)
def test_teachers_of_different_kinds_cannot_speak_as_one(other):
    with pytest.raises(Error, match="teacher 2 takes other features or strides than teacher 1"):
        Ensemble([teacher(1), teacher(2, **other)])


def test_group_refuses_what_it_cannot_be():
    with pytest.raises(Error, match="needs one at least"):
        Ensemble([])
    with pytest.raises(Error, match="2 teachers for 1 folds"):
        OutOfFold([teacher(1), teacher(2)], [["anna"]])
    with pytest.raises(Error, match="no hints in common"):
        Ensemble([teacher(1), teacher(2)]).channels(1)
    with pytest.raises(Error, match="layer 3: teacher 1 has layers 1 to 2"):
        teacher(1).channels(3)
    assert [teacher(1).channels(layer) for layer in (None, 1, 2)] == [4, 8, 6]


def test_folds_deal_each_speaker_to_one_part(tones):
    records = Records(tones)
    entries = records.entries
    for number, entry in enumerate(entries):
        object.__setattr__(entry, "speaker", f"speaker {number % 5}")
    folds = speaker_folds(records, 2)
    assert folds == (("speaker 0", "speaker 2", "speaker 4"), ("speaker 1", "speaker 3"))
    with pytest.raises(Error, match="folds of"):
        speaker_folds(records, 6)
    with pytest.raises(Error, match="folds of"):
        speaker_folds(records, 1)


def test_guidance_of_a_group_is_stored_as_it_speaks_beside_the_student(tones, tmp_path):
    records = Records(tones)
    spec = replace(SPEC, classes=len(records.alphabet) + 1)
    options = {"feature_config": records.feature_config, "alphabet": records.alphabet}
    teachers = [teacher(seed, spec, **options) for seed in (1, 2)]
    (speaker,) = {entry.speaker for entry in records.entries}
    for group in (Ensemble(teachers), OutOfFold(teachers, [["nobody"], [speaker]])):
        folder = tmp_path / group.tag
        write_guidance(records, group, folder, encoding="float32")
        guided = Guidance(folder, group).join(records, spec)
        for batch in guided.batches(4):
            lengths = -(-batch["feature_lengths"] // 2)
            mask = tf.sequence_mask(lengths, tf.shape(batch["teacher_logits"])[1])
            expected = tf.where(mask[..., None], group.logits(batch), 0.0)
            np.testing.assert_allclose(batch["teacher_logits"], expected, atol=1e-5)
