"""The error of the library names the file and the cure, wherever it comes from."""

import ast
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import lttlib
from lttlib import Error, ceil_div

MODULES = sorted(Path(lttlib.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize(
    "path, cure, message",
    [
        (None, None, "too loud"),
        ("a.flac", None, "a.flac: too loud"),
        (None, "record again", "too loud; record again"),
        (Path("a.flac"), "record again", "a.flac: too loud; record again"),
    ],
)
def test_error_says_path_problem_and_cure_and_keeps_them(path, cure, message):
    error = Error("too loud", path=path, cure=cure)
    assert (str(error), error.path, error.cure) == (message, path, cure)
    assert isinstance(error, ValueError)


def test_error_comes_back_whole_from_another_process():
    error = pickle.loads(pickle.dumps(Error("too loud", path="a.flac", cure="record again")))
    assert str(error) == "a.flac: too loud; record again"
    assert (error.path, error.cure) == ("a.flac", "record again")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_error_of_the_library_is_what_it_refuses_with(path):
    """The command shows an `Error` as one line; a bare ValueError would show a traceback."""
    bare = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if ast.unparse(node.exc.func) in ("ValueError", "TypeError", "Exception"):
                bare.append(f"line {node.lineno}: {ast.unparse(node.exc)}")
    assert not bare


@pytest.mark.parametrize("divisor", [1, 2, 7])
def test_ceil_div_rounds_up_numbers_arrays_and_tensors(divisor):
    import tensorflow as tf

    dividends = np.arange(30)
    expected = [math.ceil(dividend / divisor) for dividend in dividends]
    assert [ceil_div(int(dividend), divisor) for dividend in dividends] == expected
    np.testing.assert_array_equal(ceil_div(dividends, divisor), expected)
    np.testing.assert_array_equal(ceil_div(tf.constant(dividends), divisor), expected)
