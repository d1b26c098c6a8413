"""One experiment: train a network, write it, load what was written, score that, and note all of it in its card."""

import json
from pathlib import Path

from lttlib import corpus, evaluation, storage, training


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
    dict of str to list of corpus.Utterance; a split of held speakers alone is not there.

    Raises
    ------
    ValueError
        If a held speaker is not in the corpus.
    """
    root = json.loads((Path(records_folder) / "corpus.json").read_text("utf-8"))["root"]
    found = {split: [u for u in corpus.read(root, split) if u.speaker not in held_speakers] for split in score_splits}
    if held_speakers:
        every = corpus.read(root, list(dict.fromkeys([train_split, *score_splits])))
        found["unseen"] = [utterance for utterance in every if utterance.speaker in held_speakers]
        if missing := set(held_speakers) - {utterance.speaker for utterance in every}:
            raise ValueError(
                f"held_speakers {sorted(missing)} do not speak in {', '.join([train_split, *score_splits])}"
            )
    return {split: utterances for split, utterances in found.items() if utterances}


def learn(home, network, objective, records, recipe, scored, *, cores=None, **facts) -> dict:
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
        Processes that compute features, by default as `examples.workers` has it.
    **facts
        What the card shall tell besides, such as technique.

    Returns
    -------
    dict: the model's card, with results of the model that was loaded from the folder again.
    """
    home = Path(home)
    history = training.train(network, objective, records, recipe, f"{home}.checkpoint")
    model = storage.Model(network, records.features, records.alphabet)
    about = {"seed": recipe.seed, "objective": training.describe(objective), "recipe": vars(recipe)}
    storage.save(home, model, **about, precision=network.output_layer.dtype_policy.name, **history, **facts)
    return score(home, scored, cores)


def score(home, scored, cores=None) -> dict:
    """Score a model as it stands in its folder, and note the results in its card; returns the card."""
    model = storage.load(home)
    results = {split: evaluation.evaluate(model, utterances, cores=cores) for split, utterances in scored.items()}
    return storage.note(home, results=results)
