"""From sound to text: the same alone, in batches of any size, and in several processes."""

import numpy as np
import pytest

import lttlib.models.model as model_file
from lttlib import recognition
from lttlib.models import Model
from lttlib.recognition import BeamSearch, DecodingError, greedy


@pytest.mark.parametrize("batch_size, cores", [(1, 1), (2, 1), (16, 2)])
def test_transcripts_do_not_depend_on_batches_or_processes_and_stay_in_order(
    untrained, monkeypatch, batch_size, cores
):
    model, utterances = untrained
    monkeypatch.setattr(model_file, "BATCH_SIZE", batch_size)
    transcripts = recognition.transcribe_split(model, utterances, cores=cores)
    assert [utterance.id for utterance, _ in transcripts.pairs] == list("01234")
    alone = [recognition.transcribe(model, utterance.audio) for utterance in utterances[:5]]
    assert [text for _, text in transcripts.pairs] == alone and len(set(alone)) == 5
    assert [lost["id"] for lost in transcripts.rejected] == ["5", "gone"]
    assert all(lost["reason"] for lost in transcripts.rejected)
    assert transcripts.audio_seconds == pytest.approx(40000 / 8000)


def test_transcription_refuses_an_unknown_decoder(untrained):
    model, utterances = untrained
    with pytest.raises(DecodingError, match="choose one of greedy"):
        recognition.transcribe_split(model, utterances, decoder="beem")


@pytest.fixture(scope="module")
def split_logits(untrained):
    model, utterances = untrained
    return recognition.compute_logits(model, utterances, cores=1)


def test_logits_of_a_split_are_those_of_its_utterances(untrained, split_logits):
    model, utterances = untrained
    assert split_logits.utterances == utterances[:5]
    assert [lost["id"] for lost in split_logits.rejected] == ["5", "gone"]
    assert split_logits.alphabet == model.alphabet
    assert split_logits.audio_seconds == pytest.approx(5) and split_logits.seconds > 0
    for logits in split_logits.logits:
        assert logits.dtype == np.float32 and logits.shape[1] == 29
        assert logits.base is None, "no padding is kept"


@pytest.mark.parametrize(
    "decoder, function",
    [
        ("greedy", greedy),
        (greedy, greedy),
        ("beam", BeamSearch()),
        (BeamSearch(7), BeamSearch(7)),
    ],
    ids=["name", "function", "name of a search", "search"],
)
def test_logits_of_a_split_are_decoded_many_times(
    untrained, split_logits, monkeypatch, decoder, function
):
    model, utterances = untrained
    monkeypatch.setattr(Model, "logits", None)  # nothing is computed again
    transcripts = recognition.decode(split_logits, decoder)
    texts = []
    for logits in split_logits.logits:
        texts += function([logits], [len(logits)], model.alphabet)
    assert transcripts.pairs == list(zip(utterances[:5], texts, strict=True))
    assert transcripts.seconds > split_logits.seconds
    assert transcripts.rejected == split_logits.rejected
    assert transcripts.audio_seconds == split_logits.audio_seconds
