"""The description of a model: what is read is what was written, and its size is known before."""

import json

import numpy as np
import pytest
from builders import noise_model

from lttlib import Error
from lttlib.models.model import count_values, describe_model, parse_description
from lttlib.network import ACTIVATIONS, CONVS, ConvNet, ConvSpec, named_variables


def description_of(model):
    """As it is in a file: lists for tuples."""
    description = describe_model(model.network.spec, model.feature_config, model.alphabet)
    return json.loads(json.dumps(description))


@pytest.mark.parametrize("conv", CONVS)
def test_description_that_is_parsed_is_the_one_that_was_written(conv):
    model = noise_model(conv=conv)
    spec, feature_config, alphabet = parse_description(description_of(model), 10**6)
    assert spec == model.network.spec
    assert feature_config == model.feature_config
    assert alphabet == model.alphabet


def test_description_of_more_values_than_the_file_can_hold_is_refused():
    model = noise_model()
    values = count_values(model.network.spec)
    parse_description(description_of(model), values)
    with pytest.raises(Error, match=f"network of {values} values is larger than the file"):
        parse_description(description_of(model), values - 1)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_count_values_counts_those_of_the_network_without_making_it(conv, batch_norm):
    sizes = {"filters": (4, 5, 3), "widths": (3, 1, 2), "strides": (2, 1, 1)}
    spec = ConvSpec(**sizes, dropouts=(0.1,) * 3, conv=conv, batch_norm=batch_norm, classes=7)
    variables = named_variables(ConvNet(spec)).values()
    assert count_values(spec) == sum(int(np.prod(variable.shape)) for variable in variables)


def test_activations_that_are_read_are_those_of_keras():
    for name in ACTIVATIONS:
        ConvSpec((1,), (1,), (1,), (0.0,), activation=name)
