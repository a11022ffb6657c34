"""What the melting-point study is about: proteins, their species and melting points, and their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError, NotInStoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.store import Store

PROTEIN, TRUE, PERMUTED, UNIFORM = "protein", "true", "permuted", "uniform"
"""Names of features: of the protein's embedding, and of the coding sequence's under codon strategies."""

WINDOWS = (2, 4, 8, 16, 32)
"""Codons within which ``window_permuted`` shuffles, by default."""

STRATEGIES = (TRUE, PERMUTED, UNIFORM, *(f"window_permuted({width})" for width in WINDOWS))
"""Codon strategies that `read_study` looks for by default, besides transplants."""

TRANSPLANTS = "transplant("
"""How the names of features begin whose sequences were written with the codons of another species."""

TRAINING = ("train", "valid")
"""Splits that regressions are fitted to; their penalties come from cross-validation in them."""

_COLUMNS = ("id", "split", "species", "group", "y")


class StudyData(NamedTuple):
    """Samples with their melting points, and features of them.

    Attributes
    ----------
    samples
        One row per sample: id, split (train, valid, test), species (``"unknown"`` where it is), group (samples of one
        group are drawn together and never on both sides of a fold: proteins that are the same or alike), y (melting
        point, degrees Celsius); further columns of the task, such as run and condition, where there are any.
    features
        Name -> (sample, channel) float: ``"protein"``, and one for each codon strategy, such as ``"true"``,
        ``"permuted"`` and ``"window_permuted(8)"``. Those of a strategy with several seeds are the mean over them.
    by_seed
        Name of a strategy -> one (sample, channel) array per seed; empty where they are not kept.
    sequences
        ``"cds"`` and ``"protein"`` -> upper-case ASCII letters of each sample, uint8; empty where there are none.
    models
        Names of what made the features: ``"protein"`` and ``"coding"``.
    """

    samples: pd.DataFrame
    features: Mapping[str, NDArray[np.floating]]
    by_seed: Mapping[str, Sequence[NDArray[np.floating]]] = {}
    sequences: Mapping[str, Sequence[NDArray[np.uint8]]] = {}
    models: Mapping[str, str] = {}

    @property
    def y(self) -> NDArray[np.float64]:
        """(sample,) melting points."""
        return self.samples["y"].to_numpy(np.float64)

    @property
    def species(self) -> NDArray[np.str_]:
        """(sample,) names."""
        return self.samples["species"].to_numpy(dtype=str)

    @property
    def group(self) -> NDArray[np.str_]:
        """(sample,) names of groups."""
        return self.samples["group"].to_numpy(dtype=str)

    @property
    def train(self) -> NDArray[np.bool_]:
        """(sample,) which are for fitting: those of `TRAINING`."""
        return self.samples["split"].isin(TRAINING).to_numpy(bool)

    @property
    def test(self) -> NDArray[np.bool_]:
        """(sample,) which are for testing."""
        return (self.samples["split"] == "test").to_numpy(bool)

    def feature(self, name: str) -> NDArray[np.floating]:
        """Return features by name.

        Raises
        ------
        InputError
            There are none of that name.
        """
        if name not in self.features:
            raise InputError(f"the study has no features {name!r}.{did_you_mean(name, self.features)}")
        return self.features[name]

    def with_y(self, y: NDArray[np.floating]) -> StudyData:
        """Return the same study of other labels, for controls.

        Parameters
        ----------
        y
            (sample,) float.
        """
        return self._replace(samples=self.samples.assign(y=np.asarray(y, np.float64)))

    def rows(self, kept: NDArray[np.bool_]) -> StudyData:
        """Return some samples.

        Parameters
        ----------
        kept
            (sample,) bool.
        """
        return self._replace(
            samples=self.samples[kept].reset_index(drop=True),
            features={name: values[kept] for name, values in self.features.items()},
            by_seed={name: [values[kept] for values in every] for name, every in self.by_seed.items()},
            sequences={
                name: [one for one, keep in zip(every, kept, strict=True) if keep]
                for name, every in self.sequences.items()
            },
        )


def check_study(data: StudyData) -> StudyData:
    """Refuse a study that cannot be what it says.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    StudyData
        The same.

    Raises
    ------
    InputError
        A column is missing, features or sequences are not of these samples, a label is not finite, a split is none of
        train, valid and test, there are no samples to train or to test with, or a group is in both.
    """
    for name in _COLUMNS:
        if name not in data.samples:
            raise InputError(
                f"samples have no column {name!r}, only {', '.join(map(str, data.samples.columns))}. A study needs "
                f"{', '.join(_COLUMNS)}."
            )
    n = len(data.samples)
    for name, values in data.features.items():
        if np.ndim(values) != 2 or len(values) != n:
            raise InputError(f"features {name!r} are {np.shape(values)}; (sample, channel) of {n:,} samples is wanted.")
    lengths = [(name, len(every)) for name, every in data.sequences.items()]
    lengths += [(name, len(one)) for name, seeds in data.by_seed.items() for one in seeds]
    for name, length in lengths:
        if length != n:
            raise InputError(f"{length:,} of {name!r} for {n:,} samples.")
    if not np.isfinite(data.y).all():
        bad = data.samples["id"][~np.isfinite(data.y)].tolist()
        raise InputError(f"{len(bad):,} samples have no melting point: {bad[:5]}. Leave them out.")
    _check_splits(data)
    return data


def _check_splits(data: StudyData) -> None:
    """Refuse splits of other names, empty ones, and groups on both sides."""
    others = sorted(set(data.samples["split"]) - {*TRAINING, "test"})
    if others:
        raise InputError(f"splits are called {others}; {', '.join(TRAINING)} and test are wanted.")
    for name, part in (("train", data.train), ("test", data.test)):
        if not part.any():
            raise InputError(f"no sample is in split {name!r}; a study needs samples to fit and samples to test.")
    shared = np.intersect1d(data.group[data.train], data.group[data.test])
    if len(shared):
        raise InputError(
            f"{len(shared):,} groups have training and test samples, the first {str(shared[0])!r}: what is tested "
            "would have been seen. Split by group, or name groups more finely where these proteins are not alike."
        )


def read_study(
    store: Store,
    task: str = "melting_point",
    *,
    coding_model: str,
    protein_model: str | None = None,
    protein_task: str | None = None,
    strategies: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    keep_seeds: bool = True,
) -> StudyData:
    """Read a study from the pooled embeddings of a store.

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
        Codon strategies; those of which the store has nothing are left out, but ``"true"`` must be there. Default:
        `STRATEGIES`, and ``"transplant(<species>)"`` of every species of the task for which it is embedded.
    seeds
        Seeds of each strategy, all of which must be there; default, those that are.
    keep_seeds
        Keep the features of each seed of ``"permuted"``, default True.

    Returns
    -------
    StudyData
        Features are float32.

    Raises
    ------
    NotInStoreError
        A task, model or seed is missing.
    InputError
        The samples of two tasks differ, or as for `check_study`.
    """
    samples = _samples(store, task)
    features: dict[str, NDArray[np.floating]] = {}
    by_seed: dict[str, Sequence[NDArray[np.floating]]] = {}
    if strategies is None:
        strategies = (*STRATEGIES, *_transplants(store, task, coding_model, samples["species"].tolist()))
    for strategy in strategies:
        arrays = [_pooled(store, name, coding_model, samples) for name in recoded_names(store, task, strategy, seeds)]
        if not arrays:
            continue
        features[strategy] = _mean(arrays)
        if keep_seeds and strategy == PERMUTED and len(arrays) > 1:
            by_seed[strategy] = arrays
    models = {"coding": coding_model}
    sequences = {"cds": store.sequences(task)}
    if protein_model is not None:
        name = protein_task or f"{task}.protein"
        features = {PROTEIN: _pooled(store, name, protein_model, samples), **features}
        sequences["protein"] = store.sequences(name)
        models["protein"] = protein_model
    return check_study(StudyData(samples, features, by_seed, sequences, models))


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


def _transplants(store: Store, task: str, model: str, species: Sequence[str]) -> list[str]:
    """Return the transplants of a task that are embedded with a model."""
    every = [f"{TRANSPLANTS}{name})" for name in sorted(set(species))]
    return [one for one in every if any(model in store.models(name) for name in recoded_names(store, task, one, None))]


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
