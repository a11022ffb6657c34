"""The space that an embedding makes of a task's samples: maps and neighbours.

Everything is about the means of samples, read from the store block by block.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from embedstore.errors import InputError, NotInStoreError, check_seed, did_you_mean
from embedstore.sequences import gc_fraction
from probes.intervals import bootstrap_sums, interval
from probes.metrics import ratio
from probes.reading import open_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from embedstore.rows import Embedding
    from embedstore.store import Store

logger = logging.getLogger(__name__)

Method = Literal["pca", "tsne", "umap"]
Metric = Literal["cosine", "euclidean"]

CHANCE = "chance"
_AT_ONCE = 4096
_FIRST_CHANNELS = 50
"""Principal components that t-SNE and UMAP begin with, as their authors advise for wide data."""


# ---- samples and what is known of them -----------------------------------------------------------


def sample_values(store: Store, task: str, samples: ArrayLike | None = None) -> pd.DataFrame:
    """Return what is known of samples: their table, GC content, and labels of whole sequences.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    samples
        Indices, default all.

    Returns
    -------
    pandas.DataFrame
        The columns of `Store.samples`; of nucleotides ``gc`` (NaN without any of A, C, G, T); of labels of whole
        sequences ``label``, the name of the class, or else the value of the first target. Columns of the input that
        have these two names are called ``sample_gc`` and ``sample_label``.
    """
    record, table = store.record(task), store.samples(task)
    chosen = np.arange(len(table)) if samples is None else np.asarray(samples)
    table = table.iloc[chosen].reset_index(drop=True)
    table = table.rename(columns={name: f"sample_{name}" for name in ("gc", "label") if name in table})
    if record.alphabet == "dna":
        parts = (chosen[start : start + _AT_ONCE] for start in range(0, len(chosen), _AT_ONCE))
        table["gc"] = [gc_fraction(codes) for part in parts for codes in store.sequences(task, part)]
    labels = store.labels(task)
    if labels is not None and record.level == "sequence":
        values = labels.values[chosen].reshape(len(chosen), -1)[:, 0]
        if record.type == "class":
            names = np.array([*record.names, None], dtype=object)
            table["label"] = names[np.where(values < 0, len(record.names), values)]
        else:
            table["label"] = values.astype(np.float64)
    return table


def choose_samples(
    embedding: Embedding, splits: str | Sequence[str] | None = None, limit: int | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Return the samples of some splits, without those that were quarantined, drawn at random where there are too many.

    Parameters
    ----------
    embedding
        From `probes.reading.open_rows`.
    splits
        Names; None (default) for all.
    limit
        Samples at most; None (default) for no limit.
    seed
        Of the draw, default 0.

    Returns
    -------
    numpy.ndarray
        (sample,) int64 indices, ascending.

    Raises
    ------
    NotInStoreError
        A split has no samples.
    """
    check_seed(seed)
    store, task = embedding.store, embedding.task
    split = store.samples(task)["split"]
    known = sorted(split.unique())
    wanted = known if splits is None else [splits] if isinstance(splits, str) else [*splits]
    for name in wanted:
        if name not in known:
            raise NotInStoreError(
                f"{store.path}: task {task!r} has no samples of split {name!r}.{did_you_mean(name, known)}"
            )
    asked = np.flatnonzero(split.isin(wanted))
    found = np.setdiff1d(asked, embedding.quarantined())
    if len(found) < len(asked):
        left_out = len(asked) - len(found)
        logger.warning("%s/%s: %d quarantined samples are left out", task, embedding.name, left_out)
    if limit is None or len(found) <= limit:
        return found
    logger.info("%s/%s: %d of %d samples are drawn", task, embedding.name, limit, len(found))
    return np.sort(np.random.default_rng(seed).choice(found, limit, replace=False))


# ---- maps ----------------------------------------------------------------------------------------


def embedding_map(
    store: Store,
    task: str,
    model: str,
    *,
    method: Method = "pca",
    limit: int = 5000,
    splits: str | Sequence[str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Lay samples out in two dimensions.

    Parameters
    ----------
    store
        An open store.
    task, model
        Names; a baseline computed from the letters is a model too.
    method
        ``"pca"`` (default): the two principal components, by scikit-learn. ``"tsne"``: t-SNE by scikit-learn, of the
        first fifty principal components. ``"umap"``: UMAP by the package umap-learn, which is not installed with
        embedstore. Distances between far groups mean nothing in the last two.
    limit
        Samples at most, drawn at random; default 5,000. Memory: their means, float32.
    splits
        Use the samples of these splits only, default all.
    seed
        Of the draw and of the method, default 0.

    Returns
    -------
    pandas.DataFrame
        A row per sample: ``x``, ``y`` and the columns of `sample_values`. `attrs` has ``method``, ``model``, ``task``
        and, of PCA, ``explained``: the shares of variance of the two components.

    Raises
    ------
    InputError
        The method is unknown, UMAP is not installed, or there are fewer than three samples.
    """
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}.{did_you_mean(method, get_args(Method))}")
    embedding = open_rows(store, task, model)
    chosen = choose_samples(embedding, splits, limit, seed)
    if len(chosen) < 3:
        raise InputError(f"{store.path}: {task}/{model}: {len(chosen)} samples; a map needs three or more.")
    place, explained = _project(embedding.pooled(chosen), method, seed)
    table = sample_values(store, task, chosen)
    table.insert(1, "x", place[:, 0])
    table.insert(2, "y", place[:, 1])
    table.attrs = {"method": method, "task": task, "model": model}
    if method == "pca":
        table.attrs["explained"] = explained[:2]
    return table


def _project(vectors: NDArray[np.float32], method: Method, seed: int) -> tuple[NDArray[np.float64], list[float]]:
    """Return two coordinates, and the shares of variance of the principal components."""
    from sklearn.decomposition import PCA

    channels = 2 if method == "pca" else min(_FIRST_CHANNELS, *vectors.shape)
    pca = PCA(min(channels, vectors.shape[1]), random_state=seed)
    components = np.asarray(pca.fit_transform(vectors.astype(np.float64)))
    shares = pca.explained_variance_ratio_.tolist()
    if method == "pca":
        flat = np.zeros((len(components), 2 - components.shape[1]))  # a model of one channel has one component
        return np.concatenate([components, flat], axis=1), [*shares, *[0.0] * flat.shape[1]]
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30, (len(vectors) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=seed).fit_transform(components)), shares
    try:
        from umap import UMAP
    except ImportError as error:
        raise InputError(
            "method 'umap' needs the package umap-learn, which is not installed. `pip install umap-learn` adds it; "
            "method='tsne' shows the same kind of map without it."
        ) from error
    neighbours = min(15, len(vectors) - 1)
    return np.asarray(UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(components)), shares


# ---- neighbours ----------------------------------------------------------------------------------


def neighbours(
    store: Store,
    task: str,
    model: str,
    by: str | Sequence[str],
    *,
    k: int = 10,
    metric: Metric = "cosine",
    bins: int = 5,
    limit: int = 5000,
    splits: str | Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare what a sample's nearest neighbours are with what chance would give.

    Parameters
    ----------
    store, task, model, limit, splits
        As for `embedding_map`.
    by
        Names of columns of `sample_values`: ``"species"``, ``"gc"``, ``"label"``, ... Numbers with more than `bins`
        values are cut at their quantiles. Samples without a value are left out.
    k
        Neighbours of each sample, default 10.
    metric
        ``"cosine"`` (default) or ``"euclidean"``, of means as they are.
    bins
        Of numbers, default 5.
    draws, seed
        Bootstrap draws of samples behind the intervals, default 1000, and the seed of draws, default 0.

    Returns
    -------
    pandas.DataFrame
        A row for each column: by; share, low, high: of neighbours that are alike in it, mean over samples, and its 95 %
        interval; chance, the share that neighbours drawn at random from the other samples would reach; groups, k and
        samples.

    Raises
    ------
    InputError
        The metric is unknown, or there are not more than `k` samples with a value.
    NotInStoreError
        There is no such column.
    """
    if metric not in get_args(Metric):
        raise InputError(f"metric is {metric!r}.{did_you_mean(metric, get_args(Metric))}")
    embedding = open_rows(store, task, model)
    chosen = choose_samples(embedding, splits, limit, seed)
    table = sample_values(store, task, chosen)
    vectors = embedding.pooled(chosen)
    rows = []
    for name in [by] if isinstance(by, str) else by:
        if name not in table:
            raise NotInStoreError(f"{store.path}: task {task!r} has no {name!r}.{did_you_mean(name, table.columns)}")
        kept = table[name].notna().to_numpy()
        if not 1 <= k < kept.sum():
            raise InputError(
                f"{store.path}: {task}/{model}: {kept.sum()} samples have a value of {name!r}; k = {k} neighbours "
                "need 1 or more, and more samples than that."
            )
        group = _groups(table.loc[kept, name], bins)
        alike = (group[_nearest(vectors[kept], k, metric)] == group[:, None]).mean(axis=1)
        counts = np.bincount(group)
        chance = float((counts * (counts - 1)).sum() / (len(group) * (len(group) - 1)))
        sums = np.stack([alike, np.ones_like(alike)], axis=1)
        low, high = interval(bootstrap_sums(sums, lambda sums: ratio(sums[:, 0], sums[:, 1]), draws=draws, seed=seed))
        found = {"by": name, "share": float(alike.mean()), "low": low, "high": high, CHANCE: chance}
        rows.append(found | {"groups": int((counts > 0).sum()), "k": k, "samples": len(group)})
    return pd.DataFrame(rows)


def _groups(values: pd.Series[Any], bins: int) -> NDArray[np.int64]:
    """Return the group of each value: itself, or its quantile."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > bins:
        values = pd.qcut(values, bins, duplicates="drop")
    return np.asarray(pd.factorize(values)[0], np.int64)


def _nearest(vectors: NDArray[np.float32], k: int, metric: Metric) -> NDArray[np.int64]:
    """Return the places of the nearest other samples, (sample, k)."""
    from sklearn.neighbors import NearestNeighbors

    # Without a query, a sample is no neighbour of its own.
    found = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(vectors).kneighbors(None, k, False)
    return np.asarray(found, np.int64)
