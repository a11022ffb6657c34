"""What can be known beside an embedding: GC content, the species, the run; as columns of a regression.

Boshar et al. 2024 append the GC content, or a one-hot vector of the species, to the embedding. Here such columns are
not penalised; see `regression`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.melting_point.regression import Block
from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from analysis.melting_point.data import StudyData

SPECIES = "species"
CATEGORIES = (SPECIES, "run", "condition")
"""Augmentations that are one-hot: columns of the sample table."""

NUMBERS = ("gc", "gc3", "gc_skew")
"""Augmentations that are one number of each coding sequence, scaled by mean and deviation over the training samples."""


def one_hot(values: ArrayLike, categories: Sequence[str]) -> NDArray[np.float64]:
    """Return one column for each category.

    Parameters
    ----------
    values
        (sample,) names.
    categories
        Names, each once; see `categories_of`.

    Returns
    -------
    numpy.ndarray
        (sample, category) float64; a row of a value that is no category is all 0.

    Examples
    --------
    >>> one_hot(["b", "c"], ["a", "b"]).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    names = np.asarray(values, dtype=str)
    return np.asarray(names[:, None] == np.asarray(list(categories), dtype=str), np.float64)


def categories_of(values: ArrayLike, train: NDArray[np.bool_]) -> list[str]:
    """Return what the training samples hold, in order.

    Parameters
    ----------
    values
        (sample,) names.
    train
        (sample,) bool.

    Returns
    -------
    list of str
    """
    return [str(name) for name in np.unique(np.asarray(values, dtype=str)[train])]


def augmentation(
    data: StudyData, names: Sequence[str], *, cds: Sequence[NDArray[np.uint8]] | None = None
) -> list[Block]:
    """Return columns that are known beside an embedding, not penalised.

    Parameters
    ----------
    data
        The study. Categories, means and deviations are those of its training samples.
    names
        Some of `CATEGORIES` and `NUMBERS`, or a pair of categories joined by ``+``, such as ``"species+run"``, for one
        column per pair that occurs.
    cds
        The coding sequences that were embedded, where that is not the true ones: recoding changes their GC content.

    Returns
    -------
    list of Block
        One for each name. A species that the training samples lack has a row of zeros; a regression gives it the mean
        over the species, each counting once.

    Raises
    ------
    InputError
        A name is none of these, or the study lacks the column or the sequences.
    """
    return [Block(_columns(data, name, cds), penalised=False) for name in names]


def _columns(data: StudyData, kind: str, cds: Sequence[NDArray[np.uint8]] | None) -> NDArray[np.float64]:
    """Return the columns of one augmentation."""
    if kind in NUMBERS:
        from embedstore.coding import composition

        function: Callable[[Any], NDArray[np.float64]] = getattr(composition, kind)
        values = filled(function(sequences_of(data, "cds") if cds is None else cds), data.train)
        deviation = values[data.train].std(axis=0)
        return np.asarray((values - values[data.train].mean(axis=0)) / np.where(deviation > 0, deviation, 1))
    parts = kind.split("+")
    if not set(parts) <= set(CATEGORIES):
        raise InputError(f"no augmentation is called {kind!r}.{did_you_mean(kind, (*CATEGORIES, *NUMBERS))}")
    for part in parts:
        if part not in data.samples:
            raise InputError(f"the study has no column {part!r}.{did_you_mean(part, map(str, data.samples))}")
    names = joined(data.samples, parts)
    return one_hot(names, categories_of(names, data.train))


def joined(samples: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.str_]:
    """Return what some columns say together.

    Parameters
    ----------
    samples
        A table with these columns.
    columns
        One or more.

    Returns
    -------
    numpy.ndarray
        (sample,) text, values joined by ``" / "``.
    """
    return np.array([" / ".join(map(str, row)) for row in zip(*(samples[name] for name in columns), strict=True)])


def sequences_of(data: StudyData, kind: str) -> Sequence[NDArray[np.uint8]]:
    """Return the sequences of a study.

    Parameters
    ----------
    data
        The study.
    kind
        ``"cds"`` or ``"protein"``.

    Returns
    -------
    sequence of numpy.ndarray

    Raises
    ------
    InputError
        There are none.
    """
    if kind not in data.sequences:
        raise InputError(f"the study has no sequences of kind {kind!r}; read it from a store, or give them.")
    return data.sequences[kind]


def filled(values: NDArray[np.float64], train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Put the mean over the training samples where a sample has nothing to count, and a composition is NaN.

    Parameters
    ----------
    values
        (sample, column) float64.
    train
        (sample,) bool.

    Returns
    -------
    numpy.ndarray
        (sample, column) float64; 0 where no training sample has a value.
    """
    known = ~np.isnan(values) & train[:, None]
    many = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(many, 1)
    return np.where(np.isnan(values), mean, values)
