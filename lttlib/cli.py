"""The command ``ltt``: run the course; use and measure models; get corpora and language models."""

import argparse
import contextlib
import errno
import json
import math
import os
import re
import sys
import warnings
from pathlib import Path

from lttlib import Error

MAX_COMPLAINTS = 10  # lines of each kind
MAX_COMPLAINT = 300  # characters
# Files of a model folder that --out must not overwrite.
MODEL_FILES = ("weights.safetensors", "packed.safetensors", "model.tflite")
BROKEN_PIPE = 141  # 128 + SIGPIPE
UNFORESEEN = 70  # EX_SOFTWARE of sysexits.h

# What to install for a package that is not there; all others come with the course.
REQUIREMENTS = dict.fromkeys(("numpy", "soundfile", "soxr"), ".")
REQUIREMENTS["ai_edge_litert"] = "'.[device]'"


def main(argv=None):
    """Run the command; return its exit code.

    That is 0; 1 when a notebook or a recording failed, or what is printed cannot be written; 2 for
    a wrong request. What the library refuses on purpose becomes one line on stderr. So does an
    error that nobody foresaw, with 70: its traceback is in the file that the line names.
    """
    if not _prepare_streams():
        return _stop("error: standard output is closed; lead it to a file or /dev/null", 1)
    warnings.formatwarning = _format_warning
    try:
        try:
            arguments = parser().parse_args(argv)
            return arguments.command(arguments)
        finally:
            sys.stdout.flush()  # once Python exits, nobody can be told that it failed
    except KeyboardInterrupt:
        return _stop("interrupted", 130)
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
    for stream in (sys.stdout, sys.stderr):
        # Any name can be printed: one that is not UTF-8 as its escapes.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    return is_open


def _stop(message, code):
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
        return _stop(f"error: what is printed cannot be written ({loss.strerror})", 1)
    foreseen = _foresee(error)
    if foreseen:
        return _stop(f"error: {foreseen}", 2)
    summary = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    place = _write_traceback(error)
    return _stop(f"unforeseen error: {summary}; its traceback is in {place}", UNFORESEEN)


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


def _format_warning(message, category, filename, lineno, line=None):
    """One line for a warning of lttlib, which is of a file and not of a line of code."""
    if category.__module__.startswith("lttlib."):
        return f"ltt: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


class _Parser(argparse.ArgumentParser):
    """Takes -1e-3 and -inf for numbers, not for options; `-p` takes one word or two."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")

    def parse_known_args(self, args=None, namespace=None):
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(_join_assignments(words), namespace)


def _join_assignments(words):
    """The words of a command line, with each parameter and its value as one."""
    joined = []
    while words:
        word = words.pop(0)
        if word == "--":
            return [*joined, word, *words]
        values = words[:1]
        # With a name and its value in two words, one more.
        if values and "=" not in values[0]:
            values = words[:2]
        is_assignment = len(values) > 1 or "=" in "".join(values)
        if word in ("-p", "--parameter") and is_assignment and not values[-1].startswith("--"):
            del words[: len(values)]
            word = f"--parameter={'='.join(values)}"
        joined.append(word)
    return joined


def _assignment(text):
    """Name and value of `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} has no value: write NAME=VALUE")
    return name.strip(), value


def _finite(text):
    """A number that is neither infinite nor none."""
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"a finite number is needed, not {text!r}")


def parser():
    """Build the parser; nothing heavy is imported before a subcommand needs it."""
    top = _Parser(
        prog="ltt", description="Listen to the Teacher! Small speech recognisers, taught."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_sweep(commands)
    _add_pages(commands)
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
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a parameter, also as NAME VALUE; may be repeated",
    )


def _add_run(commands):
    # Which notebooks.
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

    # How they run.
    _add_parameter_option(run)
    run.add_argument(
        "--reports", default="", metavar="NAME", help="keep the reports of this run apart"
    )
    run.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="notebooks at a time, where none reads what the other writes (default: %(default)s)",
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
            jobs=arguments.jobs,
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


def _add_pages(commands):
    pages = commands.add_parser(
        "pages", help="write the course, with the outputs of its last run, as a static site"
    )
    pages.add_argument(
        "profile", nargs="?", default="quick", help="whose run is shown (default: %(default)s)"
    )
    pages.add_argument(
        "--to", type=Path, metavar="FOLDER", help="another folder for it (default: data/pages)"
    )
    pages.set_defaults(command=_pages)


def _pages(arguments):
    from lttlib.course import pages

    print(f"Pages: {pages.write_site(arguments.profile, arguments.to)}")
    return 0


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
        "--sensitive-bits",
        type=int,
        metavar="BITS",
        help="of depthwise kernels and of the output layer (default: as many as the others have)",
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
            model.network,
            arguments.bits,
            arguments.bucket,
            stochastic=arguments.stochastic,
            sensitive_bits=arguments.sensitive_bits,
        )
        size = models.packed.save(
            path,
            model.network,
            model.feature_config,
            model.alphabet,
            stochastic=arguments.stochastic,
        )
    _print_size(path, size, model)
    return 0


def _add_deploy(commands):
    deploy = commands.add_parser(
        "deploy", help="write a trained model as one LiteRT file, for a device"
    )
    deploy.add_argument("model", type=_model_path, help="folder of a model, or a packed file")
    deploy.add_argument(
        "--quantization",
        default="float32",
        help="float32, float16, dynamic_int8, int8 (default: %(default)s)",
    )
    # Its name in older versions.
    deploy.add_argument(
        "--form", dest="quantization", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    deploy.add_argument(
        "--speech",
        nargs=2,
        metavar=("CORPUS_ROOT", "SPLIT"),
        help="training speech, which int8 needs",
    )
    deploy.add_argument("--out", type=Path, help="(default: MODEL-<quantization>.tflite)")
    deploy.set_defaults(command=_deploy)


def _deploy(arguments):
    with _quiet_stdout():
        path = _output_path(arguments, f"{arguments.quantization}.tflite")
        model = _load_network(arguments.model)
        waves = []
        if arguments.speech:
            root, split = arguments.speech
            waves = _calibration_waves(root, split, model.feature_config.sampling_rate)
        from lttlib import models

        name = arguments.model.name
        size = models.convert(model, path, arguments.quantization, waves, name=name)
    _print_size(path, size, model)
    return 0


def _calibration_waves(root, split, sampling_rate):
    """Waves of utterances from all over a split, as many as the scales of a model need.

    What cannot be used is named, and others are taken in its place.
    """
    from lttlib import features, speech
    from lttlib.models.litert import CALIBRATION_UTTERANCES

    # From all over the split first, then those between.
    utterances = speech.read_corpus(root, split)
    step = max(1, len(utterances) // CALIBRATION_UTTERANCES)
    in_turn = [item for start in range(step) for item in utterances[start::step]]

    # As many as are needed, of those that can be read.
    waves = []
    rejected = 0
    for utterance, wave, reason in features.load_waves(in_turn, sampling_rate):
        if reason:
            rejected += 1
            print(f"ltt: left out: {utterance.id}: {reason}", file=sys.stderr)
        else:
            waves.append(wave)
        # The rest is not even read.
        if len(waves) == CALIBRATION_UTTERANCES:
            break

    # Scales of little speech are poor: say how much there was.
    if not waves:
        problem = f"none of {rejected} recordings of {split} can be listened to"
        raise Error(problem, path=root, cure="name a split of speech")
    minutes = sum(map(len, waves)) / sampling_rate / 60
    amount = f"{len(waves)} recordings, {minutes:.1f} minutes, of {split}"
    print(f"ltt: listened to {amount}; {rejected} left out", file=sys.stderr)
    return waves


def _add_evaluate(commands):
    # What is measured, and on what.
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

    # How.
    evaluate.add_argument(
        "--normalise",
        action="store_true",
        help="score against the transcripts in capitals and without punctuation, as `ltt lm` reads",
    )
    _add_decoder_options(evaluate)
    evaluate.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    evaluate.set_defaults(command=_evaluate)


DECODER_OPTIONS = ("lm", "lexicon", "lm_weight", "word_score", "beam_width", "capitals")


def _add_decoder_options(evaluate):
    # The decoder and its language model.
    evaluate.add_argument(
        "--decoder", default="greedy", help="greedy, beam or lm (default: %(default)s)"
    )
    evaluate.add_argument(
        "--lm", metavar="FILE", help="language model of the decoder lm, an ARPA file"
    )
    evaluate.add_argument(
        "--lexicon", metavar="FILE", help="words it may write, one per line (default: all it knows)"
    )
    evaluate.add_argument(
        "--capitals",
        action="store_true",
        default=None,
        help="write the words of language model and lexicon in capitals",
    )

    # Numbers of the search.
    evaluate.add_argument(
        "--lm-weight", type=_finite, metavar="X", help="of its natural logarithms (default: 1.25)"
    )
    evaluate.add_argument(
        "--word-score", type=_finite, metavar="X", help="added for each word (default: 0)"
    )
    evaluate.add_argument(
        "--beam-width", type=int, metavar="N", help="hypotheses (default: beam 50, lm 100)"
    )


def _evaluate(arguments):
    with _quiet_stdout():
        from lttlib import models, recognition, speech

        # Only options that are set: a decoder refuses those of another.
        options = {name: getattr(arguments, name) for name in DECODER_OPTIONS}
        options = {name: value for name, value in options.items() if value is not None}
        decoder = recognition.make_decoder(arguments.decoder, **options)
        # What can be refused comes before what takes time.
        utterances = speech.read_corpus(arguments.corpus_root, arguments.split)
        model = models.load(arguments.model)
        result = recognition.evaluate(
            model,
            utterances,
            decoder,
            cores=None,
            normalise_transcripts=arguments.normalise,
        )

    # What was left out or is doubtful goes to stderr.
    _complain("left out", [f"{item['id']}: {item['reason']}" for item in result["rejected"]])
    _complain("remark", result.get("remarks", ()))
    missing = result.get("lexicon_rejected", ())
    _complain("not in the lexicon", [f"{item['word']}: {item['reason']}" for item in missing])
    _complain("lexicon", result.get("lexicon_advice", ()))

    # Only the result goes to stdout.
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
        interval = _format_interval(result[f"{rate}_ci"])
        parts = "".join(f"{result[kind][unit]:11.2f} %" for kind in kinds)
        print(f"{rate:4}{result[rate]:7.2f} %{interval:>20}{parts}")
    speed = f"real-time factor {result['real_time_factor']:.4f}"
    print(f"{result['utterances']} utterances, {len(result['rejected'])} left out; {speed}")
    if result["unwritable"]["characters"]:
        _print_unwritable(result)
    if "out_of_lexicon" not in result:
        return
    missing = result["out_of_lexicon"]
    words = ", ".join(missing["words"][:10]) or "none"
    dots = ", ..." if len(missing["words"]) > 10 else ""
    share = f"{missing['percent']:.2f} % of the words"
    print(f"{share} are out of the lexicon and never written: {words}{dots}")


def _format_interval(interval):
    """Both ends, or why there are none."""
    if interval is None:
        return "one utterance: none"
    low, high = interval
    return f"{low:9.2f} to {high:5.2f} %"


def _print_unwritable(result):
    """How many characters of the references the model cannot write, and which ones."""
    characters = result["unwritable"]["characters"]
    names = result["unwritable"]["names"]
    share = f"{characters:,} characters of the references ({result['unwritable']['percent']:.2f} %)"
    cure = "" if result["normalised"] else "; --normalise removes capitals and punctuation"
    print(f"{share} are not in the model's alphabet and count as errors{cure}:")
    for name, count in list(names.items())[:MAX_COMPLAINTS]:
        print(f"{count:9,} {name}")
    if len(names) > MAX_COMPLAINTS:
        print(f"{'':10}and {len(names) - MAX_COMPLAINTS:,} others")


def _add_transcribe(commands):
    transcribe = commands.add_parser("transcribe", help="transcribe recordings, one line per file")
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
    transcribe.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object per line: file, text, and words with the seconds of each letter",
    )
    transcribe.set_defaults(command=_transcribe)


def _transcribe(arguments):
    from lttlib import features, recognition

    model = _load_recogniser(arguments.model)
    failed = 0
    for path in arguments.audio:
        # In pieces, or in one go with the times of the words.
        try:
            if arguments.chunk:
                line = {"file": str(path), "text": _stream(model, path, arguments.chunk)}
            else:
                logits = recognition.file_logits(model, path)
                (text,) = recognition.greedy([logits], [len(logits)], model.alphabet)
                frame_seconds = model.stride * model.feature_config.frame_period_ms / 1000
                words = recognition.timed_words(logits, model.alphabet, frame_seconds)
                line = {"file": str(path), "text": text, "words": words}
        # One bad file does not stop the others.
        except features.AudioError as error:
            print(f"ltt: {error}", file=sys.stderr)
            failed = 1
        # Each line is printed as soon as it is known.
        else:
            text = json.dumps(line) if arguments.json else f"{path}\t{line['text']}"
            print(text, flush=True)
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
        help="one sentence per line, plain, .gz, .bz2 or .xz; or the word librispeech: the 3-gram "
        "of OpenSLR 11",
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

    # One that is ready is downloaded.
    if arguments.texts == ["librispeech"]:
        print(recognition.fetch_librispeech_arpa(arguments.out))
        return 0
    # Else `ltt lm TEXT TEXT` would write its model over the second text.
    if arguments.out.suffix != ".arpa":
        problem = f"the last file is the one to write and ends in .arpa, not {arguments.out}"
        raise Error(problem)
    _check_output(arguments.out, ".arpa", *arguments.texts)

    # Lines that are no sentences are named, and left out.
    sentences = []
    rejected = []
    for path in arguments.texts:
        accepted, unusable = recognition.read_sentences(path)
        sentences += accepted
        rejected += unusable
    _complain(
        "left out", [f"{line['file']}, line {line['line']}: {line['reason']}" for line in rejected]
    )
    # A model of less than half of a text would mislead.
    if len(rejected) > len(sentences):
        problem = f"{len(rejected):,} of {len(rejected) + len(sentences):,} lines cannot be read"
        cure = "write numbers as words; letters but those of A to Z cannot be learned"
        raise Error(problem, path=rejected[0]["file"], cure=cure)

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


def _complain(problem, lines):
    """Say on stderr what was left out or is doubtful: the first of it, and how much more."""
    for line in lines[:MAX_COMPLAINTS]:
        print(f"ltt: {problem}: {_shorten(line)}", file=sys.stderr)
    if len(lines) > MAX_COMPLAINTS:
        print(f"ltt: {problem}: {len(lines) - MAX_COMPLAINTS:,} more", file=sys.stderr)


def _shorten(line):
    """A line as far as anybody reads it."""
    return line if len(line) <= MAX_COMPLAINT else f"{line[:MAX_COMPLAINT]}..."


def _quiet_stdout():
    """Whatever a library prints stays out of the result."""
    return contextlib.redirect_stdout(sys.stderr)


def _model_path(text):
    """Resolve `.` and `..`, so that the path has a name to derive output names from."""
    path = Path(text)
    if path.name in ("", ".."):
        return Path(os.path.abspath(path))
    return path


def _output_path(arguments, ending):
    """Path of the file to write: beside its model, unless another one is named."""
    model = arguments.model
    path = arguments.out or model.parent / f"{model.name}-{ending}"
    suffix = Path(ending).suffix
    _check_output(path, suffix, model)
    return path


def _load_network(path):
    """Read a model that another file is made of."""
    from lttlib import device, models

    model = models.load(path)
    if isinstance(model, device.Recogniser):
        problem = "a deployed model cannot be converted"
        raise Error(problem, path=path, cure="name the model that it was converted from")
    return model


def _check_output(path, suffix, *inputs):
    """Refuse, before any work, to write over an input, or a file of the wrong name.

    An input may be a folder: then its files are.
    """
    from lttlib.files import output_path

    target = output_path(path)
    if path.suffix != suffix:  # files are read by their suffixes
        cure = "name a file that does (--out)"
        raise Error(f"the file to write must end in {suffix}", path=path, cure=cure)

    for item in map(Path, inputs):
        files = [item / name for name in MODEL_FILES] if item.is_dir() else [item]
        for file in files:
            if target.exists() and file.exists() and file.samefile(target):
                raise Error("this is read, and would be written over", path, "name another file")


def _print_size(path, size, model):
    """What was written, and how large it is."""
    print(f"{path}: {size:,} bytes for {model.network.count_params():,} parameters")


if __name__ == "__main__":
    sys.exit(main())
