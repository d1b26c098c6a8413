"""A deployed model: what the file computes, against the network that it was made of."""

import numpy as np
import pytest
import tensorflow as tf
from builders import NOISE_CONFIG, noise_model, noise_wave

from lttlib import Error, models
from lttlib.device import Recogniser
from lttlib.features import extract
from lttlib.models import QUANTIZATIONS, convert, deploy, read_card
from lttlib.network import CONVS, quantize_kernels, receptive_field


def network_logits(model, features):
    """Logits of one utterance, from the network itself."""
    lengths = tf.constant([len(features)])
    logits, logit_lengths = model.network(tf.constant(features[None]), lengths)
    return logits[0, : logit_lengths[0]].numpy()


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_convert_keeps_the_logits_at_any_length(tmp_path, conv, batch_norm, activation):
    model = noise_model(conv=conv, batch_norm=batch_norm, activation=activation)
    path = tmp_path / "a.tflite"
    assert convert(model, path) == path.stat().st_size
    utterances = [extract(noise_wave(seconds), NOISE_CONFIG) for seconds in (1.0, 0.031, 0.4)]
    results = Recogniser(path).logits(utterances)
    for logits, features in zip(results, utterances, strict=True):
        expected = network_logits(model, features)
        assert logits.shape == expected.shape
        np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())


def test_convert_in_every_quantization_is_smaller_and_nearly_the_same(tmp_path):
    model = noise_model(conv="gated_conv", filters=(48, 48, 48))
    waves = [noise_wave(seconds, seed) for seed, seconds in enumerate((1.0, 0.6, 0.8))]
    features = extract(waves[0], NOISE_CONFIG)
    expected = network_logits(model, features)
    sizes, differences = {}, {}
    for quantization in QUANTIZATIONS:
        path = tmp_path / quantization
        sizes[quantization] = convert(model, path, quantization, waves)
        (logits,) = Recogniser(path).logits([features])
        differences[quantization] = np.abs(logits - expected).max() / np.abs(expected).max()
    assert sizes["float16"] < 0.65 * sizes["float32"]
    assert max(sizes["int8"], sizes["dynamic_int8"]) < 0.5 * sizes["float32"]
    assert differences["float32"] < 1e-4 and differences["float16"] < 0.01
    of_8_bits = differences["int8"], differences["dynamic_int8"]
    assert max(of_8_bits) < 0.2
    assert min(of_8_bits) > differences["float16"], "they are not of 8 bits"


def test_convert_and_the_first_logits_are_silent(tmp_path, capfd, caplog, recwarn):
    """The converter reports to absl's logger and, past Python, to stderr; so does LiteRT."""
    wave = noise_wave(1.0)
    capfd.readouterr()
    recwarn.clear()
    convert(noise_model(), tmp_path / "a.tflite", "int8", [wave])
    Recogniser(tmp_path / "a.tflite").logits([extract(wave, NOISE_CONFIG)])
    assert capfd.readouterr().err == ""
    assert not caplog.records and not recwarn.list


def test_convert_takes_the_kernels_that_a_quantized_network_computes_with(tmp_path):
    model = noise_model()
    quantize_kernels(model.network, 2, 64)
    convert(model, tmp_path / "a.tflite")
    features = extract(noise_wave(0.5), NOISE_CONFIG)
    (logits,) = Recogniser(tmp_path / "a.tflite").logits([features])
    np.testing.assert_allclose(logits, network_logits(model, features), atol=1e-3)
    model.network.layers[0].quantizers.clear()
    assert np.abs(logits - network_logits(model, features)).max() > 0.01


def test_receptive_field_is_what_an_output_depends_on_and_no_more():
    model = noise_model()
    features = np.random.default_rng(0).normal(size=(80, 39)).astype(np.float32)
    expected = network_logits(model, features)
    before, after = receptive_field(model.network.spec)
    frame, step = 6, 6
    touched = []
    for place in range(80):
        changed = features.copy()
        changed[place] += 1
        if np.abs(network_logits(model, changed)[frame] - expected[frame]).max() > 0:
            touched.append(place)
    assert (min(touched), max(touched)) == (frame * step - before, frame * step + after)


def test_convert_refuses_what_it_cannot_do(tmp_path):
    model = noise_model()
    with pytest.raises(Error, match="unknown quantization 'int4'"):
        convert(model, tmp_path / "a.tflite", "int4")
    with pytest.raises(Error, match="int8 needs speech") as refused:
        convert(model, tmp_path / "a.tflite", "int8")
    assert "ltt deploy --speech" in refused.value.cure
    assert not list(tmp_path.iterdir())


def test_convert_listens_to_what_is_no_silence_and_tells_how_much(tmp_path):
    model = noise_model()
    silence = [np.zeros(8000, np.float32), np.full(800, 0.3, np.float32), np.zeros(0, np.float32)]
    speech = [noise_wave(0.5), noise_wave(1, seed=1)]
    with pytest.raises(Error, match="int8 needs speech"):
        convert(model, tmp_path / "a.tflite", "int8", silence)
    assert not list(tmp_path.iterdir())

    metadata = []
    for waves in (speech, [silence[0], speech[0], *silence, speech[1]]):
        convert(model, tmp_path / "a.tflite", "int8", waves)
        metadata.append(Recogniser(tmp_path / "a.tflite").metadata)
    assert metadata[0] == metadata[1], "and so are the networks, of which they hold a checksum"
    assert metadata[0]["listened"] == {"utterances": 2, "seconds": 1.5}
    convert(model, tmp_path / "a.tflite", "float32", silence)
    silent = Recogniser(tmp_path / "a.tflite").metadata
    assert silent["listened"]["utterances"] == 0


def test_deploy_makes_a_folder_like_any_other(tmp_path):
    model = noise_model()
    folder = tmp_path / "small"
    path = folder / "model.tflite"
    card = deploy(folder, model, "float16", [noise_wave(1)], technique="distilled")
    assert card == read_card(folder)
    assert card["form"] == "float16" and card["technique"] == "distilled"
    assert card["files"] == {"model.tflite": path.stat().st_size}
    assert card["parameters"] == model.network.count_params()

    loaded = models.load(folder)
    assert isinstance(loaded, Recogniser) and loaded.metadata["name"] == "small"
    utterances = [extract(noise_wave(seconds), NOISE_CONFIG) for seconds in (0.5, 0.8)]
    results = zip(loaded.logits(utterances), model.logits(utterances), strict=True)
    for logits, expected in results:
        np.testing.assert_allclose(logits, expected, atol=0.01 * np.abs(expected).max())

    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Error, match="not those that card.json describes"):
        models.load(folder)
