"""The command ``ltt``: run the course; measure, deploy, use a model; get a corpus or a language model."""

import argparse
import contextlib
import json
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
        if isinstance(error, ValueError) and not raised_in.f_globals["__name__"].startswith(
            "lttlib."
        ):
            raise
        print(f"ltt: error: {error}", file=sys.stderr)
        return 2


def parser():
    """Build the parser; nothing heavy is imported before a subcommand needs it."""
    top = argparse.ArgumentParser(
        prog="ltt", description="Listen to the Teacher! Small speech recognisers, taught."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the notebooks of the course in order")
    run.add_argument(
        "profile",
        nargs="?",
        default="quick",
        help="a file of notebooks/params (default: %(default)s)",
    )
    run.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="02",
        help="run this notebook alone; may be repeated",
    )
    run.add_argument("--from", dest="start", metavar="02", help="begin with this notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    run.add_argument(
        "-p", "--parameter", **pair, help="another value for a parameter; may be repeated"
    )
    run.add_argument(
        "--reports", default="", metavar="NAME", help="keep the reports of this run apart"
    )
    run.set_defaults(command=_run)

    sweep = commands.add_parser(
        "sweep", help="run notebooks with each combination of some values; goes on where it stopped"
    )
    sweep.add_argument("profile", help="a file of notebooks/params")
    sweep.add_argument(
        "--only", action="append", required=True, metavar="04", help="a notebook; may be repeated"
    )
    sweep.add_argument(
        "--grid",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "VALUE"),
        help="values of a parameter",
    )
    sweep.add_argument(
        "-p", "--parameter", **pair, help="another value for a parameter; may be repeated"
    )
    sweep.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    sweep.set_defaults(command=_sweep)

    quantize = commands.add_parser(
        "quantize", help="round the weights of a trained model and write it as one small file"
    )
    quantize.add_argument("model", type=Path, help="folder of a model")
    quantize.add_argument(
        "--bits", type=int, default=4, help="of a weight, 1 to 8 (default: %(default)s)"
    )
    quantize.add_argument(
        "--bucket", type=int, default=256, help="weights that share a scale (default: %(default)s)"
    )
    quantize.add_argument(
        "--stochastic", action="store_true", help="round up or down by chance, right on average"
    )
    quantize.add_argument("--out", type=Path, help="(default: MODEL-<bits>bits.safetensors)")
    quantize.set_defaults(command=_quantize)

    deploy = commands.add_parser(
        "deploy", help="write a trained model as one LiteRT file, for a device"
    )
    deploy.add_argument("model", type=Path, help="folder of a model, or a packed file")
    deploy.add_argument(
        "--form",
        default="float32",
        help="float32, float16, dynamic_int8, int8 (default: %(default)s)",
    )
    deploy.add_argument(
        "--speech",
        nargs=2,
        metavar=("CORPUS_ROOT", "SPLIT"),
        help="training speech: int8 needs it, streaming does",
    )
    deploy.add_argument("--out", type=Path, help="(default: MODEL-<form>.tflite)")
    deploy.set_defaults(command=_deploy)

    evaluate = commands.add_parser(
        "evaluate", help="measure the error rates of a model on a split of a corpus"
    )
    evaluate.add_argument(
        "model",
        type=Path,
        help="folder of a model, such as data/quick/models/teacher, or a packed or deployed file",
    )
    evaluate.add_argument(
        "corpus_root", type=Path, help="folder of a corpus in the LibriSpeech layout"
    )
    evaluate.add_argument("split", help="dev-clean is one folder, dev all that begin with dev-")
    evaluate.add_argument(
        "--decoder", default="greedy", help="greedy, beam or lm (default: %(default)s)"
    )
    evaluate.add_argument(
        "--lm", metavar="FILE", help="language model of the decoder lm, an ARPA file"
    )
    evaluate.add_argument(
        "--lexicon", metavar="FILE", help="words it may write, one a line (default: all it knows)"
    )
    evaluate.add_argument(
        "--lm-weight", type=float, metavar="X", help="of its natural logarithms (default: 1.25)"
    )
    evaluate.add_argument(
        "--word-score", type=float, metavar="X", help="added for each word (default: 0)"
    )
    evaluate.add_argument(
        "--beam-width", type=int, metavar="N", help="hypotheses (default: beam 50, lm 100)"
    )
    evaluate.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    evaluate.set_defaults(command=_evaluate)

    transcribe = commands.add_parser(
        "transcribe", help="write down what recordings say, a line each"
    )
    transcribe.add_argument(
        "model", type=Path, help="a deployed file, a packed file, or the folder of a model"
    )
    transcribe.add_argument("audio", type=Path, nargs="+", help="sound files")
    transcribe.add_argument(
        "--chunk",
        type=int,
        default=0,
        metavar="MS",
        help="listen in pieces, and show the text as it comes",
    )
    transcribe.set_defaults(command=_transcribe)

    corpus = commands.add_parser("corpus", help="download a corpus, or synthesise one")
    corpus.add_argument("name", help="synthetic, or a name of data/README.md")
    corpus.add_argument(
        "--root", type=Path, help="folder to put it in (default: data/corpora/NAME)"
    )
    corpus.set_defaults(command=_corpus)

    lm = commands.add_parser("lm", help="learn an n-gram language model from text, or download one")
    lm.add_argument(
        "texts",
        nargs="+",
        metavar="TEXT",
        help="a sentence a line; or the word librispeech: the 3-gram of OpenSLR 11",
    )
    lm.add_argument(
        "out", type=Path, metavar="OUT", help="the ARPA file to write; for librispeech, its folder"
    )
    lm.add_argument(
        "--order", type=int, default=3, help="words of the longest n-gram (default: %(default)s)"
    )
    lm.set_defaults(command=_lm)
    return top


def _run(arguments):
    from lttlib import course
    from lttlib.course import report

    try:
        course.run(
            arguments.profile,
            arguments.only,
            arguments.start,
            dict(arguments.parameter),
            arguments.reports,
        )
    except report.NotebookError as error:
        print(f"ltt: {error}", file=sys.stderr)
        return 1
    return 0


def _sweep(arguments):
    from lttlib.course import sweep

    grid = {}
    for name, *values in arguments.grid:
        grid.setdefault(name, []).extend(values)
    failed = sweep.run(
        arguments.profile, arguments.only, grid, dict(arguments.parameter), arguments.jobs
    )
    for row in sweep.summary(arguments.profile, grid):
        values = " ".join(f"{name}={value}" for name, value in row["values"].items())
        about = f"{row['parameters']:9,} parameters {row['bytes']:9,} bytes {row['runs']} runs"
        print(
            f"{row['technique']:16}{values:24}{row['split']:8}{row['LER']:7.2f} +- {row['ci_half_width']:.2f} % {about}"
        )
    return 1 if failed else 0


def _quantize(arguments):
    with contextlib.redirect_stdout(sys.stderr):
        from lttlib import models, network

        model = models.load(arguments.model)
        network.quantize_kernels(
            model.network, arguments.bits, arguments.bucket, stochastic=arguments.stochastic
        )
        out = arguments.out or arguments.model.with_name(
            f"{arguments.model.name}-{arguments.bits}bits.safetensors"
        )
        size = models.packed.save(
            out,
            model.network,
            model.feature_config,
            model.alphabet,
            0 if arguments.stochastic else None,
        )
    print(f"{out}: {size:,} bytes for {model.network.count_params():,} parameters")
    return 0


def _evaluate(arguments):
    with contextlib.redirect_stdout(
        sys.stderr
    ):  # whatever a library prints stays out of the result
        from lttlib import models, recognition, speech

        names = ("lm", "lexicon", "lm_weight", "word_score", "beam_width")
        asked = {
            name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None
        }
        decoder = recognition.make_decoder(arguments.decoder, **asked)
        utterances = speech.read_corpus(arguments.corpus_root, arguments.split)
        result = recognition.evaluate(models.load(arguments.model), utterances, decoder, None)
    for lost in result["rejected"]:
        print(f"ltt: left out: {lost['id']}: {lost['reason']}", file=sys.stderr)
    for lost in result.get("lexicon_rejected", ()):
        print(f"ltt: not in the lexicon: {lost['word']}: {lost['reason']}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(
        f"{'':4}{'rate':>9}{'95 % interval':>20}{'substituted':>13}{'deleted':>13}{'inserted':>13}"
    )
    for rate, unit in (("LER", "characters"), ("WER", "words")):
        low, high = result[f"{rate}_ci"]
        kinds = "".join(
            f"{result[kind][unit]:11.2f} %" for kind in ("substitutions", "deletions", "insertions")
        )
        print(f"{rate:4}{result[rate]:7.2f} %{low:9.2f} to {high:5.2f} %{kinds}")
    tail = f"{len(result['rejected'])} left out; real-time factor {result['real_time_factor']:.4f}"
    print(f"{result['utterances']} utterances, {tail}")
    if "out_of_lexicon" in result:
        missing = result["out_of_lexicon"]
        few = ", ".join(missing["words"][:10]) + (", ..." if len(missing["words"]) > 10 else "")
        print(
            f"{missing['percent']:.2f} % of the words are out of the lexicon and never written: {few or 'none'}"
        )
    return 0


def _transcribe(arguments):
    from lttlib import device, features, recognition

    if arguments.model.suffix == ".tflite":  # without TensorFlow, which a device does not have
        model = device.Recogniser(arguments.model)
    else:
        with contextlib.redirect_stdout(sys.stderr):
            from lttlib import models

            model = models.load(arguments.model)
    failed = 0
    for path in arguments.audio:
        try:
            text = (
                _stream(model, path, arguments.chunk)
                if arguments.chunk
                else recognition.transcribe(model, path)
            )
            print(f"{path}\t{text}", flush=True)
        except features.AudioError as error:
            print(f"ltt: {error}", file=sys.stderr)
            failed = 1
    return failed


def _stream(model, path, chunk):
    """Show the text of a file as it comes, on stderr; give the final one."""
    from lttlib.device import StreamingRecogniser
    from lttlib.features import load_audio

    stream, rate = StreamingRecogniser(model), model.feature_config.sampling_rate
    wave, size = load_audio(path, rate), max(1, rate * chunk // 1000)
    for start in range(0, len(wave), size):
        if stream.accept_waveform(wave[start : start + size]):
            print(f"{(start + size) / rate:7.1f} s  {stream.text}", file=sys.stderr, flush=True)
    return stream.finalize()


def _deploy(arguments):
    with contextlib.redirect_stdout(sys.stderr):
        from lttlib import features, models, speech
        from lttlib.models.litert import CALIBRATION_UTTERANCES

        model, waves = models.load(arguments.model), []
        if arguments.speech:
            root, split = arguments.speech
            utterances = speech.read_corpus(root, split)
            rate, every = (
                model.feature_config.sampling_rate,
                max(1, len(utterances) // CALIBRATION_UTTERANCES),
            )
            waves = [
                features.load_audio(one.audio, rate)
                for one in utterances[::every][:CALIBRATION_UTTERANCES]
            ]
        out = arguments.out or arguments.model.with_name(
            f"{arguments.model.name}-{arguments.form}.tflite"
        )
        size = models.convert(model, out, arguments.form, waves, name=arguments.model.name)
    print(f"{out}: {size:,} bytes for {model.network.count_params():,} parameters")
    return 0


def _corpus(arguments):
    from lttlib import course, speech

    root = arguments.root or course.DATA / "corpora" / arguments.name
    print(speech.get_corpus(arguments.name, root))
    return 0


def _lm(arguments):
    from lttlib import recognition
    from lttlib.recognition.ngram import DISCOUNT_FALLBACK

    if arguments.texts == ["librispeech"]:
        print(recognition.fetch_librispeech_arpa(arguments.out))
        return 0
    if (
        arguments.out.suffix != ".arpa"
    ):  # else `ltt lm TEXT TEXT` would write its model over the second text
        raise recognition.LanguageModelError(
            f"the last file is the one to write and ends in .arpa, not {arguments.out}"
        )
    sentences, left_out = [], []
    for path in arguments.texts:
        found, lost = recognition.read_sentences(path)
        sentences += found
        left_out += lost
    for line in left_out:
        print(
            f"ltt: left out: {line['file']}, line {line['line']}: {line['reason']}", file=sys.stderr
        )
    model = recognition.estimate_ngrams(sentences, arguments.order)
    recognition.write_arpa(arguments.out, model)
    words = sum(len(sentence.split()) for sentence in sentences)
    grams = ", ".join(
        f"{len(grams):,} {order}-grams" for order, grams in enumerate(model.probabilities, 1)
    )
    print(f"{arguments.out}: {grams}")
    print(f"{len(sentences):,} sentences, {words:,} words; {len(left_out):,} lines left out")
    for order, discounts in enumerate(model.discounts, 1):
        if discounts == DISCOUNT_FALLBACK:
            print(
                f"ltt: too little text for the discounts of {order}-grams: {discounts} were taken",
                file=sys.stderr,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
