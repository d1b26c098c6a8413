"""The command ``ltt``: run the course; use and measure models; get corpora and language models."""

import argparse
import contextlib
import errno
import json
import os
import sys
from pathlib import Path

from lttlib import Error

BROKEN_PIPE = 141  # what a shell says of a program that died of writing to nobody
UNFORESEEN = 70  # EX_SOFTWARE of sysexits.h

# What to install for a package that is not there; all others come with the course.
REQUIREMENTS = dict.fromkeys(("numpy", "scipy", "soundfile", "soxr"), ".")
REQUIREMENTS["ai_edge_litert"] = "'.[device]'"


def main(argv=None):
    """Run the command; return its exit code.

    That is 0; 1 when a notebook or a recording failed, or what is printed cannot be written; 2 for
    a wrong request. What the library refuses on purpose becomes one line on stderr. So does an
    error that nobody foresaw, with 70: its traceback is in the file that the line names.
    """
    if not _prepare_streams():
        return _complain("error: standard output is closed; lead it to a file or /dev/null", 1)
    try:
        try:
            arguments = parser().parse_args(argv)
            return arguments.command(arguments)
        finally:
            sys.stdout.flush()  # once Python exits, nobody can be told that it failed
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except Exception as error:
        return _explain(error)


def _prepare_streams():
    """Make all standard streams usable; return whether standard output leads somewhere.

    Where one is closed (`>&-`), the next file that is opened would get its number, and whatever a
    library prints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    is_open = sys.stdout is not None
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w", errors="backslashreplace")
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files are printed as the bytes that they are, letters as far as they can be.
        is_unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_unicode else "backslashreplace")
    return is_open


def _complain(message, code):
    """Say one line on stderr, if somebody listens; return the exit code."""
    with contextlib.suppress(OSError):
        print(f"ltt: {message}", file=sys.stderr)
    return code


def _explain(error):
    """Say in one line what stopped the command; return the exit code."""
    loss = _give_up_streams()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE  # `| head` has read enough
    if loss:
        return _complain(f"error: what is printed cannot be written ({loss.strerror})", 1)
    foreseen = _foresee(error)
    if foreseen:
        return _complain(f"error: {foreseen}", 2)
    summary = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    place = _write_traceback(error)
    return _complain(f"unforeseen error: {summary}; its traceback is in {place}", UNFORESEEN)


def _give_up_streams():
    """Lead standard streams that fail to nowhere: Python would try again. Return the error."""
    loss = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            loss = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
    return loss


def _foresee(error):
    """The sentence for an error that was foreseen; None for others."""
    if os.strerror(errno.EMFILE) in str(error):  # libraries have errors of their own for it
        problem = f"too many files are open at once ({error})"
        return Error(problem, cure="allow more of them: `ulimit -n 1024`")
    if isinstance(error, ImportError):
        return _foresee_import(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename2 or error.filename}: {error.strerror}"
    return error if isinstance(error, Error | OSError) else None


def _foresee_import(error):
    """What to install where a package is missing; None if it is a module of lttlib."""
    package = (error.name or "a package").partition(".")[0]
    if package == "lttlib":
        return None
    problem = f"needs {package}, which is not installed"
    if not isinstance(error, ModuleNotFoundError):
        problem = f"needs {package}, which cannot be loaded ({error})"
    requirement = REQUIREMENTS.get(package, "'.[course]'")
    return Error(problem, cure=f"in the clone of the course: pip install {requirement}")


def _write_traceback(error):
    """Write the traceback of an error to a file and return its path."""
    import tempfile
    import traceback

    options = {"encoding": "utf-8", "errors": "backslashreplace", "delete": False}
    try:
        with tempfile.NamedTemporaryFile("w", prefix="ltt-", suffix=".txt", **options) as file:
            print(f"ltt {sys.argv[1:]}, Python {sys.version}", file=file)
            traceback.print_exception(error, file=file)
    except OSError:  # no room: then here
        traceback.print_exception(error)
        return "the lines above"
    return file.name


def parser():
    """Build the parser; nothing heavy is imported before a subcommand needs it."""
    top = argparse.ArgumentParser(
        prog="ltt", description="Listen to the Teacher! Small speech recognisers, taught."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_sweep(commands)
    _add_quantize(commands)
    _add_deploy(commands)
    _add_evaluate(commands)
    _add_transcribe(commands)
    _add_corpus(commands)
    _add_lm(commands)
    return top


def _add_parameter_option(command):
    """The option of the commands that run notebooks."""
    command.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="another value for a parameter; may be repeated",
    )


def _add_run(commands):
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
    _add_parameter_option(run)
    run.add_argument(
        "--reports", default="", metavar="NAME", help="keep the reports of this run apart"
    )
    run.set_defaults(command=_run)


def _run(arguments):
    from lttlib import course
    from lttlib.course import report

    try:
        course.run(
            arguments.profile,
            arguments.only,
            arguments.start,
            parameters=dict(arguments.parameter),
            reports=arguments.reports,
        )
    except report.NotebookError as error:
        print(f"ltt: {error}", file=sys.stderr)
        return 1
    return 0


def _add_sweep(commands):
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
    _add_parameter_option(sweep)
    sweep.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    sweep.set_defaults(command=_sweep)


def _sweep(arguments):
    from lttlib.course import sweep

    grid = {}
    for name, *values in arguments.grid:
        grid.setdefault(name, []).extend(values)
    failed = sweep.run(
        arguments.profile,
        arguments.only,
        grid,
        parameters=dict(arguments.parameter),
        jobs=arguments.jobs,
    )
    for row in sweep.summary(arguments.profile, grid):
        values = " ".join(f"{name}={value}" for name, value in row["values"].items())
        rate = f"{row['LER']:7.2f} +- {row['ci_half_width']:.2f} %"
        size = f"{row['parameters']:9,} parameters {row['bytes']:9,} bytes"
        place = f"{row['technique']:16}{values:24}{row['split']:8}"
        print(f"{place}{rate} {size} {row['runs']} runs")
    return 1 if failed else 0


def _add_quantize(commands):
    quantize = commands.add_parser(
        "quantize", help="round the weights of a trained model and write it as one small file"
    )
    quantize.add_argument("model", type=_model_path, help="folder of a model, or a packed file")
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


def _quantize(arguments):
    with _quiet_stdout():
        path = _output_path(arguments, f"{arguments.bits}bits.safetensors")
        model = _load_network(arguments.model)

        from lttlib import models, network

        network.quantize_kernels(
            model.network, arguments.bits, arguments.bucket, stochastic=arguments.stochastic
        )
        size = models.packed.save(
            path,
            model.network,
            model.feature_config,
            model.alphabet,
            seed=0 if arguments.stochastic else None,
        )
    _print_size(path, size, model)
    return 0


def _add_deploy(commands):
    deploy = commands.add_parser(
        "deploy", help="write a trained model as one LiteRT file, for a device"
    )
    deploy.add_argument("model", type=_model_path, help="folder of a model, or a packed file")
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


def _deploy(arguments):
    with _quiet_stdout():
        path = _output_path(arguments, f"{arguments.form}.tflite")
        model = _load_network(arguments.model)
        waves = []
        if arguments.speech:
            root, split = arguments.speech
            waves = _calibration_waves(root, split, model.feature_config.sampling_rate)
        from lttlib import models

        name = arguments.model.name
        size = models.convert(model, path, arguments.form, waves, name=name)
    _print_size(path, size, model)
    return 0


def _calibration_waves(root, split, sampling_rate):
    """Waves of utterances from all over a split, as many as the scales of a model need."""
    from lttlib import features, speech
    from lttlib.models.litert import CALIBRATION_UTTERANCES

    utterances = speech.read_corpus(root, split)
    step = max(1, len(utterances) // CALIBRATION_UTTERANCES)
    chosen = utterances[::step][:CALIBRATION_UTTERANCES]
    return [features.load_audio(utterance.audio, sampling_rate) for utterance in chosen]


def _add_evaluate(commands):
    evaluate = commands.add_parser(
        "evaluate", help="measure the error rates of a model on a split of a corpus"
    )
    evaluate.add_argument(
        "model",
        type=_model_path,
        help="folder of a model, such as data/quick/models/teacher, or a packed or deployed file",
    )
    evaluate.add_argument(
        "corpus_root", type=Path, help="folder of a corpus in the LibriSpeech layout"
    )
    evaluate.add_argument("split", help="dev-clean is one folder, dev all that begin with dev-")
    _add_decoder_options(evaluate)
    evaluate.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    evaluate.set_defaults(command=_evaluate)


DECODER_OPTIONS = ("lm", "lexicon", "lm_weight", "word_score", "beam_width")


def _add_decoder_options(evaluate):
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


def _evaluate(arguments):
    with _quiet_stdout():
        from lttlib import models, recognition, speech

        options = {name: getattr(arguments, name) for name in DECODER_OPTIONS}
        given = {name: value for name, value in options.items() if value is not None}
        decoder = recognition.make_decoder(arguments.decoder, **given)
        utterances = speech.read_corpus(arguments.corpus_root, arguments.split)
        model = models.load(arguments.model)
        result = recognition.evaluate(model, utterances, decoder, cores=None)
    for item in result["rejected"]:
        print(f"ltt: left out: {item['id']}: {item['reason']}", file=sys.stderr)
    for item in result.get("lexicon_rejected", ()):
        print(f"ltt: not in the lexicon: {item['word']}: {item['reason']}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))
    else:
        _print_result(result)
    return 0


def _print_result(result):
    """Error rates, their intervals and parts, as a table."""
    columns = f"{'rate':>9}{'95 % interval':>20}"
    kinds = ("substitutions", "deletions", "insertions")
    print(f"{'':4}{columns}{'substituted':>13}{'deleted':>13}{'inserted':>13}")
    for rate, unit in (("LER", "characters"), ("WER", "words")):
        low, high = result[f"{rate}_ci"]
        parts = "".join(f"{result[kind][unit]:11.2f} %" for kind in kinds)
        print(f"{rate:4}{result[rate]:7.2f} %{low:9.2f} to {high:5.2f} %{parts}")
    speed = f"real-time factor {result['real_time_factor']:.4f}"
    print(f"{result['utterances']} utterances, {len(result['rejected'])} left out; {speed}")
    if "out_of_lexicon" not in result:
        return
    missing = result["out_of_lexicon"]
    words = ", ".join(missing["words"][:10]) or "none"
    dots = ", ..." if len(missing["words"]) > 10 else ""
    share = f"{missing['percent']:.2f} % of the words"
    print(f"{share} are out of the lexicon and never written: {words}{dots}")


def _add_transcribe(commands):
    transcribe = commands.add_parser(
        "transcribe", help="write down what recordings say, a line each"
    )
    transcribe.add_argument(
        "model",
        type=_model_path,
        help="a deployed file, a packed file, or the folder of a model",
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


def _transcribe(arguments):
    from lttlib import features, recognition

    model = _load_recogniser(arguments.model)
    failed = 0
    for path in arguments.audio:
        try:
            if arguments.chunk:
                text = _stream(model, path, arguments.chunk)
            else:
                text = recognition.transcribe(model, path)
        except features.AudioError as error:
            print(f"ltt: {error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{path}\t{text}", flush=True)
    return failed


def _load_recogniser(path):
    """A model to transcribe with; for a deployed one, TensorFlow is not needed."""
    if path.suffix == ".tflite":
        from lttlib import device

        return device.Recogniser(path)
    with _quiet_stdout():
        from lttlib import models

        return models.load(path)


def _stream(model, path, chunk):
    """Show the text of a file as it comes, on stderr; return the final one."""
    from lttlib.device import StreamingRecogniser
    from lttlib.features import load_audio

    stream = StreamingRecogniser(model)
    rate = model.feature_config.sampling_rate
    wave = load_audio(path, rate)
    size = max(1, rate * chunk // 1000)
    for start in range(0, len(wave), size):
        if stream.accept_waveform(wave[start : start + size]):
            seconds = (start + size) / rate
            print(f"{seconds:7.1f} s  {stream.text}", file=sys.stderr, flush=True)
    return stream.finalize()


def _add_corpus(commands):
    corpus = commands.add_parser("corpus", help="download a corpus, or synthesise one")
    corpus.add_argument("name", help="synthetic, or a name of data/README.md")
    corpus.add_argument(
        "--root", type=Path, help="folder to put it in (default: data/corpora/NAME)"
    )
    corpus.set_defaults(command=_corpus)


def _corpus(arguments):
    from lttlib import course, speech

    root = arguments.root or course.DATA / "corpora" / arguments.name
    print(speech.get_corpus(arguments.name, root))
    return 0


def _add_lm(commands):
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


def _lm(arguments):
    from lttlib import recognition

    if arguments.texts == ["librispeech"]:
        print(recognition.fetch_librispeech_arpa(arguments.out))
        return 0
    # Else `ltt lm TEXT TEXT` would write its model over the second text.
    if arguments.out.suffix != ".arpa":
        problem = f"the last file is the one to write and ends in .arpa, not {arguments.out}"
        raise Error(problem)

    # Lines that are no sentences are named, and left out.
    sentences, rejected = [], []
    for path in arguments.texts:
        accepted, unusable = recognition.read_sentences(path)
        sentences += accepted
        rejected += unusable
    for line in rejected:
        place = f"{line['file']}, line {line['line']}"
        print(f"ltt: left out: {place}: {line['reason']}", file=sys.stderr)

    # The model, and how much it was learned from.
    model = recognition.estimate_ngrams(sentences, arguments.order)
    recognition.write_arpa(arguments.out, model)
    _print_ngrams(arguments.out, model)
    words = sum(len(sentence.split()) for sentence in sentences)
    print(f"{len(sentences):,} sentences, {words:,} words; {len(rejected):,} lines left out")
    _print_fallbacks(model)
    return 0


def _print_ngrams(path, model):
    """How many n-grams of each order a model has."""
    counts = []
    for order, ngrams in enumerate(model.probabilities, 1):
        counts.append(f"{len(ngrams):,} {order}-grams")
    print(f"{path}: {', '.join(counts)}")


def _print_fallbacks(model):
    """The orders of a model whose discounts could not be estimated."""
    from lttlib.recognition.ngram import DISCOUNT_FALLBACK

    for order, discounts in enumerate(model.discounts, 1):
        if discounts == DISCOUNT_FALLBACK:
            cause = f"too little text for the discounts of {order}-grams"
            print(f"ltt: {cause}: {discounts} were taken", file=sys.stderr)


def _quiet_stdout():
    """Whatever a library prints stays out of the result."""
    return contextlib.redirect_stdout(sys.stderr)


def _model_path(text):
    """Path of a model, with a name that others can be made of: that of the folder for `.`."""
    path = Path(text)
    if path.name in ("", ".."):
        return Path(os.path.abspath(path))
    return path


def _output_path(arguments, ending):
    """Path of the file to write: beside its model, unless another one is named."""
    model = arguments.model
    path = arguments.out or model.parent / f"{model.name}-{ending}"
    suffix = Path(ending).suffix
    if path.suffix != suffix:  # files are read by their suffixes
        cure = "name a file that does (--out)"
        raise Error(f"the file to write must end in {suffix}", path=path, cure=cure)
    return path


def _load_network(path):
    """Read a model that another file is made of."""
    from lttlib import device, models

    model = models.load(path)
    if isinstance(model, device.Recogniser):
        problem = "deployed, and nothing else can be made of that"
        raise Error(problem, path=path, cure="name the model that it was made of")
    return model


def _print_size(path, size, model):
    """What was written, and how large it is."""
    print(f"{path}: {size:,} bytes for {model.network.count_params():,} parameters")


if __name__ == "__main__":
    sys.exit(main())
