"""Melting-point studies read from a store: of one model of coding sequences, or of several that are to be compared."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.melting_point.data import PERMUTED, PROTEIN, STRATEGIES, TRANSPLANTS, TRUE, StudyData, check_study
from embedstore.errors import InputError, NotInStoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.store import Store

logger = logging.getLogger(__name__)


def read_study(
    store: Store,
    task: str = "melting_point",
    *,
    coding_model: str,
    protein_model: str | None = None,
    protein_task: str | None = None,
    strategies: Sequence[str] | None = None,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    keep_seeds: bool = True,
) -> StudyData:
    """Read the study of one model from the pooled embeddings of a store.

    Parameters
    ----------
    store
        Holds the task of coding sequences, tasks recoded from it (`embedstore.coding.recoding.recoded_task`) and that
        of proteins (`embedstore.tasks.coding.protein_task`), embedded.
    task
        The task of coding sequences, default ``"melting_point"``.
    coding_model
        Model of coding sequences, with which the task and those recoded from it are embedded.
    protein_model
        Model of proteins; None for a study without.
    protein_task
        Default ``"<task>.protein"``.
    strategies
        Codon strategies; those of which nothing is embedded with the model are left out, which is logged, but
        ``"true"`` must be there. Default: `STRATEGIES`, and ``"transplant(<species>)"`` of every species of the task
        for which it is embedded.
    seeds
        Seeds of every strategy, or strategy -> seeds, all of which must be embedded; default, those that are.
    keep_seeds
        Keep the features of each seed of ``"permuted"``, default True.

    Returns
    -------
    StudyData
        Features are float32.

    Raises
    ------
    NotInStoreError
        A task, a model, a seed, or the true sequences embedded with the model are missing.
    InputError
        The samples of two tasks differ, or as for `check_study`.

    See Also
    --------
    read_studies : several models, with equally many recodings of each.
    """
    samples = _samples(store, task)
    features: dict[str, NDArray[np.floating]] = {}
    by_seed: dict[str, Sequence[NDArray[np.floating]]] = {}
    found: dict[str, Sequence[int]] = {}
    for strategy in _wanted(strategies, samples):
        if strategy == TRUE:
            features[strategy] = _pooled(store, task, coding_model, samples)
            continue
        chosen = seeds.get(strategy) if isinstance(seeds, Mapping) else seeds
        known = embedded_seeds(store, task, strategy, coding_model) if chosen is None else list(chosen)
        if not known:
            logger.info("%s: nothing of %s is embedded with it; left out.", coding_model, strategy)
            continue
        names = recoded_names(store, task, strategy, known)
        arrays = [_pooled(store, name, coding_model, samples) for name in names]
        features[strategy], found[strategy] = _mean(arrays), known
        if keep_seeds and strategy == PERMUTED and len(arrays) > 1:
            by_seed[strategy] = arrays
    models = {"coding": coding_model}
    sequences = {"cds": store.sequences(task)}
    if protein_model is not None:
        name = protein_task or f"{task}.protein"
        features = {PROTEIN: _pooled(store, name, protein_model, samples), **features}
        sequences["protein"] = store.sequences(name)
        models["protein"] = protein_model
    return check_study(StudyData(samples, features, by_seed, sequences, models, found))


def read_studies(
    store: Store,
    task: str = "melting_point",
    *,
    coding_models: Sequence[str],
    protein_model: str | None = None,
    protein_task: str | None = None,
    strategies: Sequence[str] | None = None,
    keep_seeds: bool = True,
) -> dict[str, StudyData]:
    """Read the studies of several models that are to be compared, each with what is embedded with it.

    The mean over more recodings has less noise, so models are only comparable with equally many: of each strategy as
    many as the model has that has the fewest, those first that all of them have. A model of which a strategy is not
    embedded at all goes without, and does not count. What is left out is logged.

    Parameters
    ----------
    store, task, protein_model, protein_task, strategies, keep_seeds
        See `read_study`.
    coding_models
        Models of coding sequences.

    Returns
    -------
    dict of str to StudyData
        By the name of the model.

    Raises
    ------
    NotInStoreError
        A task or a model is missing, or true coding sequences embedded with one of the models.
    InputError
        Nothing of ``"permuted"`` is embedded with one of the models, though it is asked for: there is nothing to
        compare. Or as for `read_study`.
    """
    wanted = [name for name in _wanted(strategies, _samples(store, task)) if name != TRUE]
    every = {name: {model: embedded_seeds(store, task, name, model) for model in coding_models} for name in wanted}
    for model, seeds in every.get(PERMUTED, {}).items():
        if not seeds and model in store.models(task):
            raise InputError(
                f"{store.path}: no permutation of task {task!r} is embedded with {model!r}, without which there is "
                f"nothing to compare. `embedstore recode {task} --strategy permuted --seeds 5`, then `embed`."
            )
    even = {name: even_seeds(seeds) for name, seeds in every.items()}
    for name, of_models in every.items():
        for model, known in of_models.items():
            if len(even[name][model]) < len(known):
                logger.warning(
                    "%s: the mean over %d of %d recodings of %s, as many as every model has.",
                    model, len(even[name][model]), len(known), name,
                )  # fmt: skip
    return {
        model: read_study(
            store,
            task,
            coding_model=model,
            protein_model=protein_model,
            protein_task=protein_task,
            strategies=strategies,
            seeds={name: seeds[model] for name, seeds in even.items()},
            keep_seeds=keep_seeds,
        )
        for model in coding_models
    }


def even_seeds(known: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Choose equally many recodings for every model, the same ones as far as they have them.

    Parameters
    ----------
    known
        Model -> seeds of one strategy that are embedded with it.

    Returns
    -------
    dict of str to list of int
        Model -> seeds, ascending: as many as the model has that has the fewest; none where it has none.

    Examples
    --------
    >>> even_seeds({"a": [0, 1, 2, 3], "b": [1, 2, 5], "c": []})
    {'a': [0, 1, 2], 'b': [1, 2, 5], 'c': []}
    """
    having = [set(seeds) for seeds in known.values() if seeds]
    many = min(map(len, having), default=0)
    common = set.intersection(*having) if having else set()
    return {
        model: sorted(sorted(seeds, key=lambda seed: (seed not in common, seed))[:many])
        for model, seeds in known.items()
    }


def embedded_seeds(store: Store, task: str, strategy: str, model: str) -> list[int]:
    """Return the recodings of a task that are embedded with a model.

    Parameters
    ----------
    store
        A store.
    task
        The task of true coding sequences.
    strategy
        A codon strategy other than ``"true"``.
    model
        Name of a model.

    Returns
    -------
    list of int
        Seeds, ascending.
    """
    names = recoded_names(store, task, strategy)
    return [int(name.rpartition(".seed")[2]) for name in names if model in store.models(name)]


def recoded_names(store: Store, task: str, strategy: str, seeds: Sequence[int] | None = None) -> list[str]:
    """Return the tasks of a store that are another one's sequences recoded.

    Parameters
    ----------
    store
        A store.
    task
        The task of true coding sequences.
    strategy
        Codon strategy; ``"true"`` is the task itself.
    seeds
        Default, all there are.

    Returns
    -------
    list of str
        In the order of the seeds; empty where there are none.

    Raises
    ------
    NotInStoreError
        A seed that was asked for is missing.
    """
    from embedstore.coding.recoding import recoded_name

    if strategy == TRUE:
        return [task]
    if seeds is None:
        prefix = recoded_name(task, strategy, 0).removesuffix("0")
        tails = [name.removeprefix(prefix) for name in store.tasks() if name.startswith(prefix)]
        return [f"{prefix}{seed}" for seed in sorted(int(tail) for tail in tails if tail.isdigit())]
    wanted = [recoded_name(task, strategy, seed) for seed in seeds]
    known = set(store.tasks())
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotInStoreError(
            f"{store.path} has no task {missing[0]!r} ({len(missing)} of {len(wanted)} seeds are missing): "
            f"`embedstore recode {task} --strategy '{strategy}'` adds it."
        )
    return wanted


def _wanted(strategies: Sequence[str] | None, samples: pd.DataFrame) -> Sequence[str]:
    """Return the strategies that are looked for."""
    if strategies is not None:
        return strategies
    return (*STRATEGIES, *(f"{TRANSPLANTS}{name})" for name in sorted(set(samples["species"]))))


def _samples(store: Store, task: str) -> pd.DataFrame:
    """Return the sample table of a task with labels, and a group of its own for each sample that has none."""
    labels = store.labels(task)
    if labels is None:
        raise InputError(f"{store.path}: task {task!r} has no labels; melting points are wanted.")
    if labels.values.shape not in ((len(labels.values),), (len(labels.values), 1)):
        raise InputError(f"{store.path}: task {task!r} has labels {labels.values.shape}; one per sample is wanted.")
    table = store.samples(task).assign(y=labels.values.reshape(-1).astype(np.float64))
    if "species" not in table:
        raise InputError(
            f"{store.path}: task {task!r} has no column 'species', without which nothing can be said about it. Join it "
            "when the task is read (`embedstore coding --species FILE`)."
        )
    species = table["species"].astype(object)
    table["species"] = species.mask(species.isna() | (species == ""), "unknown").astype(str)
    group = table["group"].astype(object) if "group" in table else table["id"]
    table["group"] = group.mask(group.isna() | (group == ""), "sample " + table["id"].astype(str)).astype(str)
    return table


def _mean(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean of arrays of one shape, without a copy of all of them."""
    total = arrays[0].copy()
    for one in arrays[1:]:
        total += one
    total /= len(arrays)
    return total


def _pooled(store: Store, task: str, model: str, samples: pd.DataFrame) -> NDArray[np.float32]:
    """Return the pooled embeddings of a task that must have the same samples."""
    ids = store.samples(task)["id"]
    if not np.array_equal(ids.to_numpy(dtype=str), samples["id"].to_numpy(dtype=str)):
        raise InputError(f"{store.path}: task {task!r} has other samples, or another order, than the coding sequences.")
    return store.embedding(task, model).pooled()
