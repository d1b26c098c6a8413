"""One experiment: train a network, write it, load and score what was written, fill in its card."""

import json
import random
from dataclasses import asdict
from pathlib import Path

from lttlib import Error, models, recognition, speech, training


def splits(records_folder, score_splits, train_split="train", held_speakers=()) -> dict:
    """The utterances that models are scored on, by the name of their split.

    Parameters
    ----------
    records_folder : path-like
        `data/<profile>/records`; it says where the corpus is.
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
    root = json.loads((Path(records_folder) / "corpus.json").read_text("utf-8"))["root"]
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
    folder, network, objective, records, config, scored, *, cores=None, **metadata
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
    **metadata
        More entries of the card, such as technique.

    Returns
    -------
    dict: the model's card, with results of the model that was loaded from the folder again.
    """
    folder = Path(folder)
    history = training.train(network, objective, records, config, f"{folder}.checkpoint")
    card = {
        "seed": config.seed,
        "objective": training.describe(objective),
        "recipe": asdict(config),
        "precision": network.output_layer.dtype_policy.name,
    }
    model = models.Model(network, records.feature_config, records.alphabet)
    models.save(folder, model, **card, **history, **metadata)
    return score(folder, scored, cores)


def score(folder, scored, cores=None) -> dict:
    """Score a model as it stands in its folder; return its card, which then has the results."""
    model = models.load(folder)
    results = {}
    for split, utterances in scored.items():
        results[split] = recognition.evaluate(model, utterances, cores=cores)
    return models.update_card(folder, results=results)


def load_results(folder, prefixes=("",)) -> list:
    """Results in the cards of all models in a folder, a row for each model, split and decoder.

    Parameters
    ----------
    folder : path-like
        `data/<profile>/models`.
    prefixes : tuple of str
        Models whose names begin so.

    Returns
    -------
    list of dict: name, technique, parameters, bytes (of the largest file: the weights), split,
    decoder, LER, LER_ci, WER, WER_ci, result (all of it, as `recognition.difference` takes it), and
    real_time_factor and seconds (of training), None where the card has none. A folder without a
    whole card, or with one that has no results, is a row of name and `problem` alone.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/")):
        if path.name.startswith(tuple(prefixes)) and not path.name.startswith("."):
            rows += _model_rows(path)
    return rows


def _model_rows(folder):
    """The rows of one model."""
    # What all rows of the model have.
    try:
        card = models.read_card(folder)
    except ValueError as error:
        return [{"name": folder.name, "problem": str(error)}]
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
            rates = {rate: result[rate] for rate in ("LER", "LER_ci", "WER", "WER_ci")}
            row = {"split": split, "decoder": decoder, "result": result}
            rows.append(model | row | rates)
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
