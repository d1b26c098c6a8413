"""The command ``ltt``: run the course, measure a model, transcribe recordings, get a corpus."""

import argparse
import contextlib
import json
import os
import sys
import traceback
from pathlib import Path


def main(argv=None):
    """Run the command; return its exit code: 0, 1 when a notebook or a recording failed, 2 for a wrong request.

    What the library refuses on purpose becomes one line on stderr; an error that nobody foresaw keeps its traceback.
    """
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except KeyboardInterrupt:
        print("ltt: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        raised_in, _ = list(traceback.walk_tb(error.__traceback__))[-1]
        if isinstance(error, ValueError) and not raised_in.f_globals["__name__"].startswith("lttlib."):
            raise
        print(f"ltt: error: {error}", file=sys.stderr)
        return 2


def parser():
    """Build the parser; nothing heavy is imported before a subcommand needs it."""
    top = argparse.ArgumentParser(prog="ltt", description="Listen to the Teacher! Small speech recognisers, taught.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the notebooks of the course in order")
    run.add_argument("profile", nargs="?", default="quick", help="a file of notebooks/params (default: %(default)s)")
    run.add_argument(
        "--only", action="append", default=[], metavar="02", help="run this notebook alone; may be repeated"
    )
    run.add_argument("--from", dest="start", metavar="02", help="begin with this notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    run.add_argument("-p", "--parameter", **pair, help="another value for a parameter; may be repeated")
    run.set_defaults(command=_run)

    evaluate = commands.add_parser("evaluate", help="measure the error rates of a model on a split of a corpus")
    evaluate.add_argument("model", type=Path, help="folder of a model, such as data/quick/models/teacher")
    evaluate.add_argument("corpus_root", type=Path, help="folder of a corpus in the LibriSpeech layout")
    evaluate.add_argument("split", help="dev-clean is one folder, dev all that begin with dev-")
    evaluate.add_argument("--decoder", default="greedy", help="(default: %(default)s)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    evaluate.set_defaults(command=_evaluate)

    transcribe = commands.add_parser("transcribe", help="write down what recordings say, a line each")
    transcribe.add_argument("model", type=Path, help="folder of a model")
    transcribe.add_argument("audio", type=Path, nargs="+", help="sound files")
    transcribe.set_defaults(command=_transcribe)

    corpus = commands.add_parser("corpus", help="download a corpus, or synthesise one")
    corpus.add_argument("name", help="synthetic, or a name of data/README.md")
    corpus.add_argument("--root", type=Path, help="folder to put it in (default: data/corpora/NAME)")
    corpus.set_defaults(command=_corpus)
    return top


def _run(arguments):
    from lttlib import course, report

    try:
        course.run(arguments.profile, arguments.only, arguments.start, dict(arguments.parameter))
    except report.NotebookError as error:
        print(f"ltt: {error}", file=sys.stderr)
        return 1
    return 0


def _evaluate(arguments):
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints stays out of the result
        from lttlib import corpus, evaluation, storage

        utterances = corpus.read(arguments.corpus_root, arguments.split)
        result = evaluation.evaluate(storage.load(arguments.model), utterances, arguments.decoder, os.cpu_count())
    for lost in result["rejected"]:
        print(f"ltt: left out: {lost['id']}: {lost['reason']}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(f"{'':4}{'rate':>9}{'95 % interval':>20}{'substituted':>13}{'deleted':>13}{'inserted':>13}")
    for rate, unit in (("LER", "characters"), ("WER", "words")):
        low, high = result[f"{rate}_ci"]
        kinds = "".join(f"{result[kind][unit]:11.2f} %" for kind in ("substitutions", "deletions", "insertions"))
        print(f"{rate:4}{result[rate]:7.2f} %{low:9.2f} to {high:5.2f} %{kinds}")
    tail = f"{len(result['rejected'])} left out; real-time factor {result['real_time_factor']:.4f}"
    print(f"{result['utterances']} utterances, {tail}")
    return 0


def _transcribe(arguments):
    with contextlib.redirect_stdout(sys.stderr):
        from lttlib import evaluation, storage

        model = storage.load(arguments.model)
    failed = 0
    for path in arguments.audio:
        try:
            (text,) = evaluation.transcribe(model, [path])
            print(f"{path}\t{text}", flush=True)
        except ValueError as error:
            print(f"ltt: {error}", file=sys.stderr)
            failed = 1
    return failed


def _corpus(arguments):
    from lttlib import corpus, course

    root = arguments.root or course.DATA / "corpora" / arguments.name
    print(corpus.obtain(arguments.name, root))
    return 0
