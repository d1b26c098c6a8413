"""The plumbing of `make bench`: what it counts, what it prints and what it writes; nothing is timed here."""

import json
import sys

import bench
import numpy as np
import pytest
import tensorflow as tf

from lttlib.network import ConvSpec

SPEC = ConvSpec((3, 2), (4, 1), (2, 1), (0, 0), input_channels=5, classes=4)


def test_the_largest_network_is_wav2letter():
    spec = bench.network_spec("23.6 M")
    assert (
        spec.filters == (250,) * 8 + (2000,) * 2
        and spec.widths == (48, *[7] * 7, 32, 1)
        and spec.strides[0] == 2
    )
    weights = (
        sum(np.multiply(np.multiply(spec.widths, spec.filters), (39, *spec.filters[:-1])))
        + 2000 * 29
    )
    assert round(weights / 1e6, 1) == 23.6


def test_a_row_says_whether_its_target_is_reached():
    assert bench.row("a", 2.0, 7.0, 3.0)["ratio"] == 3.5
    assert [bench.row("a", 2.0, 6.0, target)["reached"] for target in (3.0, 3.1, None)] == [
        True,
        False,
        None,
    ]


def test_the_table_has_a_line_a_row_and_keeps_the_reason_of_one_that_was_skipped():
    rows = [
        bench.row("one", 0.1, 0.25, 2.0),
        bench.row("longer", 0.2, 0.1, 1.0, "so"),
        bench.skipped("two", "no torch", 1.0),
    ]
    head, one, longer, two = bench.table(rows).split("\n")
    assert one.split() == ["one", "100", "250", "2.50", "2", "yes"]
    assert longer.split() == ["longer", "200", "100", "0.50", "1", "no", "so"]
    assert two.split(maxsplit=2) == ["two", "1", "skipped: no torch"]
    assert head.index("ratio") + 5 == one.index("2.50") + 4 == longer.index("0.50") + 4


def test_calls_take_turns_and_those_that_time_themselves_are_believed():
    order = []
    taken = bench.interleaved(
        2, {"a": lambda: order.append("a"), "b": lambda: order.append("b") or 5.0}
    )
    assert order == ["a", "b"] * 4 and taken["b"] == 5.0 and 0 <= taken["a"] < 1


def test_without_the_other_interpreter_a_part_says_so_and_the_file_is_written_whole(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LTT_BENCH_PYTHON", str(tmp_path / "python"))

    def part(folder, stack):
        yield bench.row("measured", 1.0, 2.0)
        rival, answer = bench.prepared(stack, work="step")
        assert rival is None
        yield bench.skipped("unmeasured", answer, 1.0)

    monkeypatch.setitem(bench.PARTS, "step", part)
    bench.measure(["step"], tmp_path / "bench.json")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    assert written["rows"][0]["ratio"] == 2.0
    assert (
        written["rows"][1]["skipped"]
        == f"no interpreter {tmp_path / 'python'}: make bench-env, or set LTT_BENCH_PYTHON"
    )
    assert (
        written["machine"]["cores"] >= 1
        and written["machine"]["versions"]["tensorflow"] == tf.__version__
    )
    assert "unmeasured" in capsys.readouterr().out


def test_the_other_interpreter_answers_and_tells_what_it_lacks(monkeypatch):
    monkeypatch.setenv("LTT_BENCH_PYTHON", sys.executable)  # TensorFlow's, without pyctcdecode
    with bench.Rival() as rival:
        assert rival.ask(work="versions")["numpy"] == np.__version__
        with pytest.raises(bench.Skipped, match="pyctcdecode|kenlm"):
            rival.ask(work="search", logits="", arpa="", words=[], alphabet="", beam_width=1, lm_weight=0.0,
                      word_score=0.0, threshold=0.0)  # fmt: skip
        with pytest.raises(bench.Skipped, match="KeyError"):
            rival.ask(work="unknown")
