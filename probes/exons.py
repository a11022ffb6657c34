"""Gene finding scored as annotators score it: by whole exons and genes, beside the metric over nucleotides.

Nearly every nucleotide of an exon can be right while its borders, and so the protein, are wrong. Source: Burset and
Guigo 1996, Genomics 34:353. What they call specificity is called precision here, and sensitivity recall.

An exon is a longest stretch of nucleotides of one exon class, so neighbours on the two strands are two exons. Cut by
the end of a sample, it is counted as far as it lies within. One that touches a nucleotide without a label may go on
there: it is left out, true or predicted. A sample is one gene, as in BEND: a gene is right where every exon is, and no
other is predicted. A sample without exons is no gene, but what is predicted in it counts as wrong; one with a true
exon that is left out is no gene either, because nobody can say whether all of it was found.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError
from embedstore.indices import offsets
from probes.metrics import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

EXON_COUNTS = (
    "true_exons",
    "predicted_exons",
    "exact_exons",
    "true_genes",
    "exact_genes",
    "true_nucleotides",
    "predicted_nucleotides",
    "right_nucleotides",
)
"""What is counted in a sample, in this order. Exact: start, end and strand agree. Nucleotides: those in exons that have
a label; right ones are on the right strand."""

_RATIOS = {
    "exon_precision": (("exact_exons",), ("predicted_exons",)),
    "exon_recall": (("exact_exons",), ("true_exons",)),
    "exon_f1": (("exact_exons", "exact_exons"), ("true_exons", "predicted_exons")),
    "gene_exact": (("exact_genes",), ("true_genes",)),
    "coding_precision": (("right_nucleotides",), ("predicted_nucleotides",)),
    "coding_recall": (("right_nucleotides",), ("true_nucleotides",)),
    "coding_f1": (("right_nucleotides", "right_nucleotides"), ("true_nucleotides", "predicted_nucleotides")),
}

EXON_METRICS = tuple(_RATIOS)
"""Measures that follow from the counts: of exact exons, share of exactly right genes, and of nucleotides in exons."""


def exon_classes(names: Sequence[str]) -> list[int]:
    """Find the classes that are exons; each is a strand of its own.

    Parameters
    ----------
    names
        Names of the classes.

    Returns
    -------
    list of int
        Indices of those called ``exon``, or ``exon_`` and more.

    Examples
    --------
    >>> exon_classes(["exon_forward", "intron_forward", "exon_reverse", "non_coding"])
    [0, 2]
    """
    return [index for index, name in enumerate(names) if name == "exon" or name.startswith("exon_")]


def has_exons(names: Sequence[str]) -> bool:
    """Say whether a task with these classes can be scored by exons.

    Parameters
    ----------
    names
        Names of the classes.

    Returns
    -------
    bool

    Examples
    --------
    >>> has_exons(["exon_forward", "non_coding"]), has_exons(["promoter", "other"])
    (True, False)
    """
    return bool(exon_classes(names))


def exon_counts(truth: ArrayLike, predicted: ArrayLike, names: Sequence[str]) -> NDArray[np.int64]:
    """Count exons and genes of one sample.

    Parameters
    ----------
    truth
        (nucleotide,) true classes; negative, no label.
    predicted
        (nucleotide,) predicted classes.
    names
        Names of the classes.

    Returns
    -------
    numpy.ndarray
        (count,) int64, see `EXON_COUNTS`; those of several samples add up.

    Raises
    ------
    InputError
        The two differ in shape, or no class is an exon.

    Examples
    --------
    >>> exon_counts([0, 0, 1, 0], [0, 0, 1, 1], ["exon", "other"]).tolist()
    [2, 1, 1, 1, 0, 3, 2, 2]
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise InputError(
            f"true classes have the shape {truth.shape}, predicted ones {predicted.shape}; both must be (nucleotide,) "
            "of one sample."
        )
    classes = exon_classes(names)
    if not classes:
        raise InputError(f"none of the classes {', '.join(names)} is an exon; a name that begins with exon is wanted.")
    unlabelled = offsets(truth < 0)
    counts = np.zeros(len(EXON_COUNTS), np.int64)
    left_out = 0
    for number in classes:
        is_true, is_predicted = truth == number, predicted == number
        true, all_true = _exons(is_true, unlabelled)
        said, _ = _exons(is_predicted, unlabelled)
        left_out += all_true - len(true)
        counts[:3] += len(true), len(said), len(np.intersect1d(true, said, assume_unique=True))
        counts[5:] += is_true.sum(), (is_predicted & (truth >= 0)).sum(), (is_true & is_predicted).sum()
    counts[3] = counts[0] > 0 and left_out == 0
    counts[4] = counts[3] and counts[0] == counts[1] == counts[2]
    return counts


def _exons(inside: NDArray[np.bool_], unlabelled: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the exons that touch no unlabelled nucleotide, a number for each start and end, and how many there are."""
    edge = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    start, end = edge[::2], edge[1::2]
    kept = unlabelled[np.minimum(end + 1, len(inside))] == unlabelled[np.maximum(start - 1, 0)]
    return (start * (len(inside) + 1) + end)[kept], len(start)


def exon_metric(name: str, counts: ArrayLike) -> NDArray[np.float64]:
    """Compute a measure from counts.

    Parameters
    ----------
    name
        One of `EXON_METRICS`.
    counts
        (..., count), as from `exon_counts`, added up over samples.

    Returns
    -------
    numpy.ndarray
        (...) float64, NaN where there is nothing to divide by.

    Examples
    --------
    >>> exon_metric("exon_recall", [4, 2, 1, 1, 0, 90, 80, 60])
    array(0.25)
    """
    part, whole = (_sum(counts, columns) for columns in _RATIOS[name])
    return ratio(part, whole)


def _sum(counts: ArrayLike, columns: tuple[str, ...]) -> NDArray[Any]:
    """Add up some of the counts."""
    added: NDArray[Any] = np.asarray(counts)[..., [EXON_COUNTS.index(column) for column in columns]].sum(axis=-1)
    return added


def exon_table(counts: NDArray[np.int64], *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Table of all measures with their 95 % bootstrap intervals over samples.

    Parameters
    ----------
    counts
        (sample, count) from `exon_counts`.
    draws
        Bootstrap draws, default 1000.
    seed
        Of the random numbers, default 0.

    Returns
    -------
    pandas.DataFrame
        metric (`EXON_METRICS`), value, low, high, n: of how many exons, genes or nucleotides (f1: true and predicted
        ones together). NaN where there are none.
    """
    import pandas as pd

    from probes.intervals import bootstrap_sums, interval

    total = counts.sum(axis=0)
    rows = []
    for name in EXON_METRICS:
        drawn = bootstrap_sums(counts, partial(exon_metric, name), draws=draws, seed=seed)
        rows.append((name, float(exon_metric(name, total)), *interval(drawn), int(_sum(total, _RATIOS[name][1]))))
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "n"])
