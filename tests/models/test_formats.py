"""Files that lttlib 0.1.0 (commit 3d962d6) wrote to formats/ are read, with the same logits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lttlib import models
from lttlib.features import FeatureConfig, Records, extract
from lttlib.models import read_card, update_card
from lttlib.training import Guidance

FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("name", ["teacher", "quantized", "packed.safetensors", "model.tflite"])
def test_model_of_0_1_0_gives_the_logits_that_it_gave(name):
    model = models.load(FORMATS / name)
    config = FeatureConfig("mfccs", 8000, 20.0, 20.0, 5, 10, normalisation="utterance")
    assert model.feature_config == config
    wave = np.load(FORMATS / "wave.npy").astype(np.float32) / 2**15
    (logits,) = model.logits([extract(wave, model.feature_config)])
    np.testing.assert_allclose(logits, np.load(FORMATS / "logits.npz")[name], atol=1e-4)


def test_card_of_0_1_0_is_read_and_added_to(tmp_path):
    folder = shutil.copytree(FORMATS / "teacher", tmp_path / "teacher")
    before = read_card(folder)
    assert before["parameters"] == 708 and before["results"]["dev"]["LER"] == 50.0
    assert update_card(folder, lm_results={}) == before | {"lm_results": {}}
    assert json.loads((folder / "card.json").read_text()) == before | {"lm_results": {}}


def test_records_and_guidance_of_0_1_0_are_read_and_belong_together():
    records = Records(FORMATS / "records")
    assert [entry.id for entry in records.entries] == ["1-1-0", "1-1-2", "1-1-1"]
    assert not records.untranscribed, "versions that do not say so knew transcribed speech alone"
    guidance = Guidance(FORMATS / "guidance", models.load_teacher(FORMATS / "teacher"))
    spec = models.load(FORMATS / "teacher").network.spec
    (batch,) = guidance.join(records, spec).batches(3)
    assert batch["teacher_logits"].shape == (3, 16, 29)
    assert [text.decode() for text in batch["text"].numpy()] == ["ONE", "SIX", "TWO"]
