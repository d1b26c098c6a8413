"""One experiment: train a network, write it, load and score what was written, fill in its card.

A card says what its results are of (a hash of ids and texts), and what the model was made of
(records, other models): where these are others now, its numbers are not shown.
"""

import functools
import json
import os
import random
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from lttlib import Error, models, recognition, speech, training
from lttlib.course.notebooks import require
from lttlib.features import shards
from lttlib.files import fingerprint, lock, parse_json, write_json
from lttlib.models.folder import CARD_FILE, PACKED_FILE
from lttlib.network.distribution import is_chief
from lttlib.network.quantization import quantize_kernels
from lttlib.training.checkpoint import describe_run

CORPUS_FILE = "corpus.json"  # beside the records of a profile: where their corpus is


def write_corpus_root(records_folder, root) -> None:
    """Note where the corpus of records is: within `data/`, which may move, as a relative path."""
    folder = os.path.abspath(records_folder)
    root = os.path.abspath(root)
    data = os.path.dirname(os.path.dirname(folder))
    if root.startswith(data + os.sep):
        root = os.path.relpath(root, folder)
    write_json(Path(folder) / CORPUS_FILE, {"root": root})


def corpus_root(records_folder) -> Path:
    """Return the folder of the corpus that records are of.

    Raises
    ------
    lttlib.Error
        If the corpus is there no more, or nothing says where it is.
    """
    path = Path(records_folder) / CORPUS_FILE
    cure = "run notebook 01; with -p corpus_root=FOLDER it is told where the corpus is now"
    try:
        root = parse_json(path.read_bytes())["root"]
        root = Path(os.path.normpath(path.parent / root))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise Error(f"does not say where the corpus is ({error!r})", path, cure) from error
    if not root.is_dir():
        problem = "the corpus of these records is not there any more"
        raise Error(problem, root, f"{cure}, and records of the same files are kept")
    return root


def splits(records_folder, score_splits, train_split="train", held_speakers=()) -> dict:
    """The utterances that models are scored on, by the name of their split.

    Parameters
    ----------
    records_folder : path-like
        `data/<profile>/records`; it says where the corpus is (`corpus_root`).
    score_splits : list of str
    train_split : str
    held_speakers : list of str
        Left out of these splits; their utterances, of training and other splits, are the split
        `unseen`.

    Returns
    -------
    dict of str to list of speech.Utterance; a split of held speakers alone is not there.

    Raises
    ------
    lttlib.Error
        If a held speaker is not in the corpus.
    """
    root = corpus_root(records_folder)
    scored = {}
    for split in score_splits:
        utterances = speech.read_corpus(root, split)
        scored[split] = [item for item in utterances if item.speaker not in held_speakers]
    if held_speakers:
        names = list(dict.fromkeys([train_split, *score_splits]))
        utterances = speech.read_corpus(root, names)
        scored["unseen"] = [item for item in utterances if item.speaker in held_speakers]
        missing = set(held_speakers) - {item.speaker for item in utterances}
        if missing:
            places = ", ".join([train_split, *score_splits])
            raise Error(f"held_speakers {sorted(missing)} do not speak in {places}")
    return {split: utterances for split, utterances in scored.items() if utterances}


def transcribed_speakers(records, share: float) -> set:
    """The speakers whose transcripts a training may use, the same at each call.

    With them an experiment can act as if nobody had transcribed the speech of the others.

    Parameters
    ----------
    records : features.Records
    share : float
        Of the speakers of the records, above 0 and up to 1.
    """
    speakers = sorted({entry.speaker for entry in records.entries})
    if not 0 < share <= 1:
        raise Error(f"transcribed_share must lie in (0, 1], not {share}")
    random.Random(0).shuffle(speakers)
    return set(speakers[: max(1, round(share * len(speakers)))])


def run_experiment(
    folder, network, objective, records, config, scored, *, cores=None, same_as=None, **metadata
) -> dict:
    """Train a network into a model folder.

    Parameters
    ----------
    folder : path-like
        The model's folder; the checkpoint of its training stands beside it.
    network, objective, records, config
        As `training.train` takes them.
    scored : dict
        What `splits` returns.
    cores : int, optional
        Processes that compute features, by default as `features.workers` has it.
    same_as : path-like, optional
        Folder of a model that is taken instead if it is of the very same training.
    **metadata
        More entries of the card, such as technique.

    Returns
    -------
    dict: the model's card, with results of the model that was loaded from the folder again.
    """
    folder = Path(folder)
    learnable = training.with_feasible_labels(records, network.spec)
    description = describe_run(network, objective, learnable, config)
    identity = fingerprint(description.encode())

    # A model of the very same training is taken instead.
    if same_as:
        if models.read_card(same_as).get("training") == identity:
            return current_card(same_as, scored, cores)
        print(f"{same_as} is of another training: {folder.name} is trained", flush=True)

    # Of two processes that train to one folder, the second waits until the model is written.
    checkpoint = f"{folder}.checkpoint"
    with lock(checkpoint) if is_chief() else nullcontext():
        history = training.train(network, objective, records, config, checkpoint=checkpoint)
        card = {
            "training": identity,
            "seed": config.seed,
            "objective": training.describe(objective),
            "recipe": asdict(config),
            "precision": network.output_layer.dtype_policy.name,
        }
        # What is scored is read from the folder again.
        model = models.Model(network, records.feature_config, records.alphabet)
        models.save(folder, model, **card, **history, **metadata)
        return score(folder, scored, cores)


def score(folder, scored, cores=None) -> dict:
    """Score a model as it stands in its folder; return its card, which then has the results."""
    model = models.load(folder)
    results = {}
    for split, utterances in scored.items():
        result = recognition.evaluate(model, utterances, cores=cores)
        results[split] = result | {"scored_on": hash_of_utterances(utterances)}
    return models.update_card(folder, results=results)


def ship(folder, target, scored, bits=4, bucket_size=256) -> dict:
    """Write a model of a run to a folder that stays with the project, packed, and score it there.

    Parameters
    ----------
    folder : path-like
        A packed file is copied; other weights are rounded.
    target : path-like
    scored : dict
        What `splits` returns.
    bits, bucket_size : int
        Of the rounding.

    Returns
    -------
    dict: the card, with what its users need to know.
    """
    folder = Path(folder)
    target = Path(target)
    card = models.read_card(folder)
    metadata = {"technique": card["technique"], "bits": bits, "seed": card["seed"]}
    if PACKED_FILE in card["files"]:
        metadata["bits"] = card["bits"]
        target.mkdir(parents=True, exist_ok=True)
        for name in card["files"]:
            shutil.copyfile(folder / name, target / name)
        models.write_card(target, parameters=card["parameters"], **metadata)
    else:
        model = models.load(folder)
        quantize_kernels(model.network, bits, bucket_size)
        metadata["technique"] += ", rounded after training"
        models.save(target, model, **metadata)
    return score(target, scored)


def hash_of_utterances(utterances) -> str:
    """Hash of ids and texts: the entry `scored_on` of results."""
    rows = [[utterance.id, utterance.text] for utterance in utterances]
    return fingerprint(json.dumps(rows).encode())


def current_card(folder, scored, cores=None) -> dict:
    """Return the card of a model with results on these utterances; arguments are as of `score`.

    Re-scores the model if its results are for other utterances or lack `scored_on`.
    """
    card = models.read_card(folder)
    results = card.get("results", {})
    stale = [split for split in scored if not _is_of(results.get(split, {}), scored[split])]
    if not stale:
        return card
    print(f"{card['name']}: scored anew on {', '.join(stale)}", flush=True)
    return score(folder, scored, cores)


def _is_of(result, utterances):
    """Whether a result is of these utterances."""
    return result.get("scored_on") == hash_of_utterances(utterances)


def made_of(folder, splits=(), names=()) -> dict:
    """Describe what a model is made of, for the entry `made_of` of its card.

    Parameters
    ----------
    folder : path-like
        `data/<profile>`.
    splits : iterable of str
        Of the records that it learned from.
    names : iterable of str
        Models that taught it, or that it began as.
    """
    folder = Path(folder)
    records = {split: hash_of_records(folder / "records" / split) for split in splits}
    teachers = {}
    for name in names:
        teachers[name] = models.read_card(folder / "models" / name)["fingerprint"]
    return {"records": records, "models": teachers}


def hash_of_records(folder) -> str:
    """Hash of the contents of all shards of a split, as their indices have it."""
    paths = shards.shard_paths(Path(folder))
    indices = [path.with_suffix(".json") for path in paths]
    times = [index.exists() and index.stat().st_mtime_ns for index in indices]
    return _hash_of_shards(tuple(paths), tuple(times))


@functools.lru_cache(16)  # asked for each model of a profile
def _hash_of_shards(paths, times):
    """Hash of the shards' contents; `times` (mtimes of the indices) only keys the cache."""
    hashes = [shards.read_index(path).get("sha256", "") for path in paths]
    return fingerprint(*map(str.encode, hashes))


def outdated(folder) -> str:
    """Describe the first input (records or model) that changed since training; "" if none."""
    folder = Path(folder)
    inputs = models.read_card(folder).get("made_of", {})
    for split, content in inputs.get("records", {}).items():
        if hash_of_records(folder.parents[1] / "records" / split) != content:
            return f"it learned from other records of {split} than those that are there now"
    for name, content in inputs.get("models", {}).items():
        path = folder.with_name(name)
        if path.exists() and models.read_card(path)["fingerprint"] != content:
            return f"it was made of another {name} than the one that is there now"
    return ""


def require_current(folder, made_by, **entries) -> Path:
    """Return the folder of another notebook's model, if its inputs and entries are unchanged.

    Parameters
    ----------
    folder : path-like
        `data/<profile>/models/<name>`.
    made_by : str
        The notebook, "04_distilled_student", say.
    **entries
        What its card must have, such as seed, unless it has no such entry.

    Raises
    ------
    FileNotFoundError
        There is no such model.
    lttlib.Error
        An input of the model changed since its training, or an entry of the card differs.
    """
    folder = require(Path(folder) / CARD_FILE, made_by).parent
    card = models.read_card(folder)
    problem = outdated(folder)
    for name, value in entries.items():
        if card.get(name, value) != value:
            problem = f"it was made with {name} {card[name]!r}, not {value!r}"
    if problem:
        profile = folder.parents[1].name
        cure = f"run {made_by} again (ltt run {profile} --only {made_by})"
        raise Error(problem, folder, cure)
    return folder


def load_results(folder, prefixes=("",), scored=None, cores=None) -> list:
    """Results in the cards of all models in a folder, a row for each model, split and decoder.

    Parameters
    ----------
    folder : path-like
        `data/<profile>/models`.
    prefixes : tuple of str
        Models whose names begin so.
    scored, cores : optional
        As `score` takes them: models with results of other utterances are scored anew.

    Returns
    -------
    list of dict: name, technique, parameters, bytes (of the largest file: the weights), split,
    decoder, LER, LER_ci, WER, WER_ci, result (all of it, as `recognition.difference` takes it), and
    real_time_factor and seconds (of training), None where the card has none. A folder without a
    whole card, or with one that has no results or is of other records or models than those that are
    there now, is a row of name and `problem` alone.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/")):
        if path.name.startswith(tuple(prefixes)) and not path.name.startswith("."):
            rows += _model_rows(path, scored or {}, cores)
    return rows


def _model_rows(folder, scored, cores):
    """The rows of one model."""
    # Inputs or results that cannot be read, or have changed, are a problem.
    try:
        card = models.read_card(folder)
        problem = outdated(folder)
        if "results" in card and not problem:
            card = current_card(folder, scored, cores)
    except ValueError as error:
        problem = str(error)
    if problem:
        return [{"name": folder.name, "problem": problem}]

    # What all rows of the model have.
    model = {
        "name": folder.name,
        "technique": card.get("technique", folder.name),
        "parameters": card["parameters"],
        "bytes": max(card["files"].values()),
        "real_time_factor": card.get("real_time_factor"),
        "seconds": card.get("seconds"),
    }

    # A row for each decoder and split.
    rows = []
    for decoder, key in (("greedy", "results"), ("lm", "lm_results")):
        for split, result in card.get(key, {}).items():
            # Greedy results are current now; those of a language model may be old.
            if split in scored and not _is_of(result, scored[split]):
                problem = f"its words by a language model are not of this {split}"
                rows.append({"name": folder.name, "problem": problem})
                continue
            # Its rates beside the whole result.
            rates = {rate: result[rate] for rate in ("LER", "LER_ci", "WER", "WER_ci")}
            row = {"split": split, "decoder": decoder, "result": result}
            rows.append(model | row | rates)

    # A model without any row would be missed.
    if not rows:
        problem = "its card has no results: score it, or run its notebook again"
        return [{"name": folder.name, "problem": problem}]
    return rows


def pareto_front(rows, cost="bytes", rate="LER") -> list:
    """The Pareto front of cost and error rate, the cheapest first; rows need a cost to be on it."""
    priced = [row for row in rows if row.get(cost) is not None]
    front = []
    for row in sorted(priced, key=lambda row: (row[cost], row[rate])):
        if not front or row[rate] < front[-1][rate]:
            front.append(row)
    return front


def typical_utterance(result, utterances) -> speech.Utterance:
    """The utterance on which a model errs as it typically does: nearest to its median LER.

    Parameters
    ----------
    result : dict
        What `recognition.evaluate` returned for these utterances.
    utterances : list of speech.Utterance
    """
    rejected = {entry["id"] for entry in result.get("rejected", [])}
    usable = [utterance for utterance in utterances if utterance.id not in rejected]
    errors = result["errors"]["characters"]
    lengths = result["lengths"]["characters"]
    if len(usable) != len(errors):
        raise Error("the result is of other utterances", cure="score the model again")

    rates = [error / length for error, length in zip(errors, lengths, strict=True)]
    median = sorted(rates)[len(rates) // 2]
    distances = [abs(rate - median) for rate in rates]
    return usable[distances.index(min(distances))]
