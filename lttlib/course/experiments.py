"""One experiment: train a network, write it, load what was written, score that, and note all of it in its card."""

import json
from pathlib import Path

from lttlib import models, training
from lttlib.models.folder import read_card, update_card
from lttlib.models.model import Model
from lttlib.recognition.scoring import evaluate
from lttlib.speech.layout import read_corpus
from lttlib.training import checkpoint


def splits(records_folder, score_splits, train_split="train", held_speakers=()) -> dict:
    """The utterances that models are scored on, by the name of their split.

    Parameters
    ----------
    records_folder : path-like
        `data/<profile>/records`; it says where the corpus is.
    score_splits : list of str
    train_split : str
    held_speakers : list of str
        Left out of these splits; all that they say, in training and other splits, is the split `unseen`.

    Returns
    -------
    dict of str to list of speech.Utterance; a split of held speakers alone is not there.

    Raises
    ------
    ValueError
        If a held speaker is not in the corpus.
    """
    root = json.loads((Path(records_folder) / "corpus.json").read_text("utf-8"))["root"]
    found = {
        split: [u for u in read_corpus(root, split) if u.speaker not in held_speakers]
        for split in score_splits
    }
    if held_speakers:
        every = read_corpus(root, list(dict.fromkeys([train_split, *score_splits])))
        found["unseen"] = [utterance for utterance in every if utterance.speaker in held_speakers]
        if missing := set(held_speakers) - {utterance.speaker for utterance in every}:
            raise ValueError(
                f"held_speakers {sorted(missing)} do not speak in {', '.join([train_split, *score_splits])}"
            )
    return {split: utterances for split, utterances in found.items() if utterances}


def run_experiment(
    home, network, objective, records, recipe, scored, *, cores=None, **facts
) -> dict:
    """Train a network into a model folder.

    Parameters
    ----------
    home : path-like
        The model's folder; the checkpoint of its training stands beside it.
    network, objective, records, recipe
        As `training.train` takes them.
    scored : dict
        What `splits` returns.
    cores : int, optional
        Processes that compute features, by default as `features.workers` has it.
    **facts
        What the card shall tell besides, such as technique.

    Returns
    -------
    dict: the model's card, with results of the model that was loaded from the folder again.
    """
    home = Path(home)
    history = training.train(network, objective, records, recipe, f"{home}.checkpoint")
    model = Model(network, records.feature_config, records.alphabet)
    about = {
        "seed": recipe.seed,
        "objective": checkpoint.describe(objective),
        "recipe": vars(recipe),
    }
    models.save(
        home, model, **about, precision=network.output_layer.dtype_policy.name, **history, **facts
    )
    return score(home, scored, cores)


def score(home, scored, cores=None) -> dict:
    """Score a model as it stands in its folder, and note the results in its card; returns the card."""
    model = models.load(home)
    results = {
        split: evaluate(model, utterances, cores=cores) for split, utterances in scored.items()
    }
    return update_card(home, results=results)


def load_results(folder, prefixes=("",)) -> list:
    """What the cards of the models in a folder tell, a row for each model, split and decoder.

    Parameters
    ----------
    folder : path-like
        `data/<profile>/models`.
    prefixes : tuple of str
        Models whose names begin so.

    Returns
    -------
    list of dict: name, technique, parameters, bytes (of the largest file: the weights), split, decoder, LER, LER_ci,
    WER, WER_ci, and real_time_factor and seconds (of training), None where the card does not tell. A folder without a
    whole card is a row of name and `problem` alone.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/")):
        if not path.name.startswith(tuple(prefixes)) or path.name.startswith("."):
            continue
        try:
            card = read_card(path)
        except ValueError as error:
            rows.append({"name": path.name, "problem": str(error)})
            continue
        about = {
            "name": path.name,
            "technique": card.get("technique", path.name),
            "parameters": card["parameters"],
        }
        about |= {"bytes": max(card["files"].values())}
        about |= {key: card.get(key) for key in ("real_time_factor", "seconds")}
        scores = [("greedy", split, found) for split, found in card.get("results", {}).items()]
        scores += [("lm", split, found) for split, found in card.get("lm_results", {}).items()]
        for decoder, split, found in scores:
            rates = {key: found[key] for key in ("LER", "LER_ci", "WER", "WER_ci")}
            rows.append(about | {"split": split, "decoder": decoder, **rates})
        if not scores:
            rows.append(
                {
                    "name": path.name,
                    "problem": "its card has no results: score it, or run its notebook again",
                }
            )
    return rows


def pareto_front(rows, cost="bytes", rate="LER") -> list:
    """The rows that no other beats: none costs as little and errs less. The cheapest first."""
    best = []
    for row in sorted(
        (row for row in rows if row.get(cost) is not None), key=lambda row: (row[cost], row[rate])
    ):
        if not best or row[rate] < best[-1][rate]:
            best.append(row)
    return best
