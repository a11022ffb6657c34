"""Scores of variants without training, read from a store: how far a variant moves the embedding of its nucleotide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from embedstore.covering import rows_at
from embedstore.errors import InputError, did_you_mean
from embedstore.variants.aligned import aligned_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import dask.array as da
    import pandas as pd
    import xarray as xr
    from numpy.typing import ArrayLike, NDArray

    from embedstore.rows import Embedding
    from embedstore.store import Store

_NOT_FINITE = "the model gave NaN or infinity, or only zeros, for its window"


class ScoreKind(NamedTuple):
    """A score.

    Attributes
    ----------
    title
        In words.
    needs
        What is read: ``"rows"`` of the changed nucleotides, ``"pooled"`` means of windows, or log probabilities:
        ``"masked"`` or ``"reference"`` windows, what a causal model expects after the letters on the left
        (``"left"``), or whole windows of one (``"sequence"``).
    direction
        1 where a larger score means a larger effect, -1 where a smaller one does.
    """

    title: str
    needs: Literal["rows", "pooled", "masked", "reference", "left", "sequence"]
    direction: int


SCORES = {
    "cosine": ScoreKind("cosine distance at the variant", "rows", 1),
    "l2": ScoreKind("Euclidean distance at the variant", "rows", 1),
    "inner_product": ScoreKind("inner product at the variant", "rows", -1),
    "window_cosine": ScoreKind("cosine distance of the window's mean", "pooled", 1),
    "window_l2": ScoreKind("Euclidean distance of the window's mean", "pooled", 1),
    "window_inner_product": ScoreKind("inner product of the window's mean", "pooled", -1),
    "llr_masked": ScoreKind("log-likelihood ratio, variant masked", "masked", -1),
    "llr_wild_type": ScoreKind("log-likelihood ratio, reference in place", "reference", -1),
    "llr_causal": ScoreKind("log-likelihood ratio after the letters on the left", "left", -1),
    "llr_sequence": ScoreKind("log-likelihood ratio of the whole windows", "sequence", -1),
    "entropy_masked": ScoreKind("entropy of the four letters, variant masked", "masked", -1),
    "entropy_wild_type": ScoreKind("entropy of the four letters, reference in place", "reference", -1),
    "entropy_causal": ScoreKind("entropy of the four letters after those on the left", "left", -1),
}
"""Every score by name."""


def score_kinds(names: Iterable[str]) -> dict[str, ScoreKind]:
    """Return scores by name.

    Raises
    ------
    InputError
        If there is none of a name, or no name.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in SCORES:
            close = did_you_mean(name, SCORES)
            listed = "" if "Known" in close else f" There are {', '.join(SCORES)}."
            raise InputError(f"There is no score {name!r}.{close}{listed}")
    if not wanted:
        raise InputError(f"No score was named. There are {', '.join(SCORES)}.")
    return {name: SCORES[name] for name in wanted}


def cosine_distance(u: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
    """Return 1 - cosine of the angle between vectors.

    Computed in float64 as half the squared distance of the unit vectors, which keeps its digits where the vectors are
    nearly parallel; ``1 - u.v / |u||v|`` loses them there.

    Parameters
    ----------
    u, v
        (..., channel), numbers of any precision.

    Returns
    -------
    numpy.ndarray
        (...) float64 from 0 to 2; NaN where a vector is zero or not finite.

    Examples
    --------
    >>> cosine_distance([[1, 0], [1, 1], [0, 0]], [[3, 0], [-1, 1], [1, 0]])
    array([ 0.,  1., nan])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        one, other = (
            vector / np.linalg.norm(vector, axis=-1, keepdims=True)
            for vector in (np.asarray(u, np.float64), np.asarray(v, np.float64))
        )
        return np.asarray(np.minimum(np.square(one - other).sum(axis=-1) / 2, 2))


def _l2(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Euclidean distances in float64."""
    return np.asarray(np.linalg.norm(u.astype(np.float64) - v, axis=-1))


def _inner_product(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return inner products in float64."""
    return np.asarray(np.einsum("...c,...c->...", u.astype(np.float64), v.astype(np.float64)))


_DISTANCES: dict[str, Callable[..., NDArray[np.float64]]] = {
    "cosine": cosine_distance,
    "l2": _l2,
    "inner_product": _inner_product,
}


def open_pairs(store: Store, task: str, model: str, *, pooled: bool = False, around: int = 0) -> xr.Dataset:
    """Open the rows of variants, reference beside alternate, lazily.

    Parameters
    ----------
    store
        An open store.
    task
        A task that `embedstore.variants.variant_task` made with ``alleles="both"``.
    model
        Name of an embedding of it, computed and stored in float32.
    pooled
        The means of the windows in place of the rows of the changed nucleotides.
    around
        Nucleotides on either side of the changed ones that are compared too, default 0; their rows must have been kept
        (`embedstore.variants.variant_positions`).

    Returns
    -------
    xarray.Dataset
        ``reference`` and ``alternate`` (pair, channel) float32, in dask chunks; the coordinate ``variant`` is the row
        of ``store.variants(task)`` that a pair is of. A variant of several nucleotides has several pairs; one that is
        not scored has none. Pairs are in the order of the samples, which is that of the store.

    Raises
    ------
    InputError
        If the task is not one of variants, or the embedding was not computed and stored in float32.
    """
    import xarray as xr

    table = store.variants(task)
    embedding = float32_embedding(store, task, model)
    if pooled:
        variant = np.flatnonzero(table["reference"].to_numpy() >= 0)
        places: tuple[NDArray[np.int64] | None, ...] = (None, None)
    else:
        pairs = aligned_positions(table, store.lengths(task), around=around)
        variant, places = pairs.variant, (pairs.reference, pairs.alternate)
    samples = [table[column].to_numpy(np.int64)[variant] for column in ("reference", "alternate")]
    if (samples[1] < 0).any():
        raise InputError(f"{store.path}: task {task!r} has no alternate windows: it is for log probabilities only.")
    order = np.argsort(samples[1], kind="stable")
    variables = {
        name: (("pair", "channel"), _rows(embedding, sample[order], None if place is None else place[order]))
        for name, sample, place in zip(("reference", "alternate"), samples, places, strict=True)
    }
    attributes = {"store": store.path, "task": task, "model": model}
    return xr.Dataset(variables, {"variant": ("pair", variant[order])}, attributes)


def _rows(embedding: Embedding, sample: NDArray[np.int64], position: NDArray[np.int64] | None) -> da.Array:
    """Return rows in the order asked for; each is read once."""
    keys = np.stack([sample, np.zeros_like(sample) if position is None else position], axis=1)
    unique, number = np.unique(keys, axis=0, return_inverse=True)
    rows = rows_at(embedding, unique[:, 0], None if position is None else unique[:, 1])
    return rows[number.ravel()]  # type: ignore[no-any-return]


def float32_embedding(store: Store, task: str, model: str) -> Embedding:
    """Return an embedding whose numbers are good enough for the small differences that variants make.

    Raises
    ------
    InputError
        If it was not computed and stored in float32.
    """
    embedding = store.embedding(task, model)
    if embedding.keeps_rows and embedding.dtype != np.float32:
        raise InputError(
            f"{store.path}: {task}/{model} is stored as {embedding.dtype}; the small differences of variants need "
            'float32: embed the task with dtype="float32".'
        )
    precision = embedding.fingerprint.get("precision", "float32")
    if precision != "float32":
        raise InputError(
            f"{store.path}: {task}/{model} was computed in {precision}, whose errors are as large as what variants "
            'change: embed the task with a model loaded with precision="float32".'
        )
    return embedding


def variant_scores(
    store: Store, tasks: str | Sequence[str], model: str, scores: Iterable[str] = ("cosine",), *, around: int = 0
) -> pd.DataFrame:
    """Score variants by how far reference and alternate are from each other in a stored embedding.

    The row compared is the one whose span covers the nucleotide: of a nucleotide for character models, of a token for
    others. Where several nucleotides are compared (alleles of several letters, the flanks of insertions and deletions,
    ``around``), the score is the mean over them.

    Parameters
    ----------
    store
        An open store.
    tasks
        A task that `embedstore.variants.variant_task` made; several, made from the same variants (frames, strands),
        are averaged.
    model
        Name of an embedding of each, computed and stored in float32.
    scores
        Among ``cosine``, ``l2``, ``inner_product`` and the same of the windows' means, ``window_...``.
    around
        As for `open_pairs`.

    Returns
    -------
    pandas.DataFrame
        The table of variants, in their order, with a column per score: float64, NaN where ``reason`` says why.

    Raises
    ------
    InputError
        If a task is not one of variants, tasks are of other variants, a score is not of this kind, or the embedding was
        not computed and stored in float32.
    IncompleteError
        If a block is not embedded yet.

    References
    ----------
    Marin et al. 2024, BEND, section 3.2; ``scripts/predict_variant_effects.py``.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    kinds = score_kinds(scores)
    other = [name for name, kind in kinds.items() if kind.needs not in ("rows", "pooled")]
    if other:
        raise InputError(f"{', '.join(other)} is of log probabilities; analysis.score_variants gives it.")
    tables = [_scored(store, task, model, kinds, around) for task in names]
    return average_tables(tables, list(kinds))


def _scored(store: Store, task: str, model: str, kinds: dict[str, ScoreKind], around: int) -> pd.DataFrame:
    """Return the table of variants of one task with its scores."""
    from dask.base import compute

    table = store.variants(task)
    lazy = {}
    for needs in dict.fromkeys(kind.needs for kind in kinds.values()):
        pairs = open_pairs(store, task, model, pooled=needs == "pooled", around=around)
        for name in (name for name, kind in kinds.items() if kind.needs == needs):
            distance = _DISTANCES[name.removeprefix("window_")]
            lazy[name] = (pairs["variant"].to_numpy(), _distances(distance, pairs))
    for name, (variant, values) in zip(lazy, compute(*lazy.values()), strict=True):
        total = np.bincount(variant, values, len(table)) if len(variant) else np.zeros(len(table))
        with np.errstate(invalid="ignore"):
            table[name] = total / np.bincount(variant, minlength=len(table))
    lost = (table["reason"] == "") & table[list(kinds)].isna().any(axis=1)
    table.loc[lost, "reason"] = _NOT_FINITE
    return table


def _distances(distance: Callable[..., NDArray[np.float64]], pairs: xr.Dataset) -> da.Array:
    """Return a distance per pair, lazily, without putting more than a chunk of both side by side."""
    import dask.array as da

    one = pairs["reference"].data
    other = pairs["alternate"].data.rechunk(one.chunks)
    return da.map_blocks(  # type: ignore[no-any-return]
        distance, one, other, drop_axis=1, dtype=np.float64, meta=np.empty(0, np.float64)
    )


def average_tables(tables: Sequence[pd.DataFrame], scores: Sequence[str]) -> pd.DataFrame:
    """Average the scores of the same variants over frames or strands.

    Parameters
    ----------
    tables
        Tables of variants with the same scores.
    scores
        Names of the columns.

    Returns
    -------
    pandas.DataFrame
        The first table with the means; NaN, and the reason, where any of them has no score.

    Raises
    ------
    InputError
        If they are not of the same variants.
    """
    same = ["chromosome", "position", "ref", "alt"]
    out = tables[0].copy()
    for table in tables[1:]:
        if not table[same].equals(out[same]):
            raise InputError("Scores of other variants cannot be averaged: tasks must be made from the same table.")
        out["reason"] = out["reason"].where(out["reason"] != "", table["reason"])
    for name in scores:
        out[name] = np.mean([table[name].to_numpy(np.float64) for table in tables], axis=0)
    return out
