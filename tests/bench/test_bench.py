"""The plumbing of `make bench`: what it counts, prints and writes; nothing is timed here."""

import json
import sys

import bench
import numpy as np
import pytest
import tensorflow as tf


def test_bench_measures_wav2letter_as_the_largest_network():
    spec = bench.network_spec("23.6 M")
    assert spec.filters == (250,) * 8 + (2000,) * 2
    assert spec.widths == (48, *[7] * 7, 32, 1) and spec.strides[0] == 2
    inputs = (39, *spec.filters[:-1])
    weights = np.dot(np.multiply(spec.widths, spec.filters), inputs) + 2000 * 29
    assert round(weights / 1e6, 1) == 23.6


def test_bench_row_says_whether_its_target_is_reached():
    assert bench.ratio_row("a", 2.0, 7.0, 3.0)["ratio"] == 3.5
    for target, reached in ((3.0, True), (3.1, False), (None, None)):
        assert bench.ratio_row("a", 2.0, 6.0, target)["reached"] is reached


def test_bench_table_has_a_line_per_row_and_the_reason_of_one_that_was_skipped():
    rows = [
        bench.ratio_row("one", 0.1, 0.25, 2.0),
        bench.ratio_row("longer", 0.2, 0.1, 1.0, "so"),
        bench.skipped_row("two", "no torch", 1.0),
    ]
    head, first, longer, skipped = bench.format_table(rows).split("\n")
    assert first.split() == ["one", "100", "250", "2.50", "2", "yes"]
    assert longer.split() == ["longer", "200", "100", "0.50", "1", "no", "so"]
    assert skipped.split(maxsplit=2) == ["two", "1", "skipped: no torch"]
    end = head.index("ratio") + 5
    assert end == first.index("2.50") + 4 == longer.index("0.50") + 4


def test_bench_calls_take_turns_and_those_that_time_themselves_are_believed():
    order = []

    def timed():
        order.append("a")

    def times_itself():
        order.append("b")
        return 5.0

    times = bench.interleaved(2, {"a": timed, "b": times_itself})
    assert order == ["a", "b"] * 4 and times["b"] == 5.0 and 0 <= times["a"] < 1


def test_bench_growth_compares_seconds_per_minute_of_speech():
    shortest = {"minutes": 0.5, "train_seconds": 2.0, "train_bytes": 300e6}
    longer = {"minutes": 5.0, "train_seconds": 10.0, "train_bytes": 310e6}
    row = bench.growth_row("train", longer, shortest)
    assert (row["ours"], row["other"], row["ratio"]) == (2.0, 4.0, 2.0)
    assert row["row"] == "train 5.0 minutes of speech, per minute: 0.5 minutes"
    assert row["note"] == "peak of memory: 310 and 300 MB"


def test_bench_without_the_other_interpreter_says_so_and_writes_its_file_whole(
    tmp_path, monkeypatch, capsys
):
    # A part with a row that is measured, and one that is not.
    python = tmp_path / "python"
    monkeypatch.setenv("LTT_BENCH_PYTHON", str(python))

    def part(folder, stack):
        yield bench.ratio_row("measured", 1.0, 2.0)
        rival, answer = bench.prepare_rival(stack, work="step")
        assert rival is None
        yield bench.skipped_row("unmeasured", answer, 1.0)

    # What is written: the rows, the reason, the machine.
    monkeypatch.setitem(bench.PARTS, "step", part)
    bench.measure(["step"], tmp_path / "bench.json")
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    written = json.loads((tmp_path / "bench.json").read_text())
    measured, unmeasured = written["rows"]
    assert measured["ratio"] == 2.0
    reason = f"no interpreter {python}: make bench-env, or set LTT_BENCH_PYTHON"
    assert unmeasured["skipped"] == reason
    machine = written["machine"]
    assert machine["cores"] >= 1 and machine["versions"]["tensorflow"] == tf.__version__
    assert "unmeasured" in capsys.readouterr().out


def test_bench_other_interpreter_answers_and_says_what_it_lacks(monkeypatch):
    monkeypatch.setenv("LTT_BENCH_PYTHON", sys.executable)  # TensorFlow's, without pyctcdecode
    question = {
        "logits": "",
        "arpa": "",
        "words": [],
        "alphabet": "",
        "beam_width": 1,
        "lm_weight": 0.0,
        "word_score": 0.0,
        "threshold": 0.0,
    }
    with bench.Rival() as rival:
        assert rival.ask(work="versions")["numpy"] == np.__version__
        with pytest.raises(bench.Skipped, match="pyctcdecode|kenlm"):
            rival.ask(work="search", **question)
        with pytest.raises(bench.Skipped, match="KeyError"):
            rival.ask(work="unknown")
