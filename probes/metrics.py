"""Metrics of probes, as scikit-learn defines them, and their bootstrap intervals over samples.

Nucleotides of one gene, or bins of one region, are not independent: intervals come from drawing whole samples.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.tasks.records import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from embedstore.tasks.records import TaskRecord
    from probes.scores import Scores


def confusions(
    sample: NDArray[np.int64], target: NDArray[np.int64], predicted: NDArray[np.int64], samples: int, classes: int
) -> NDArray[np.int64]:
    """Count pairs of true and predicted class in each sample; positions without a label (negative) are left out.

    Parameters
    ----------
    sample
        (position,) int, number of the sample that a position belongs to.
    target
        (position,) int, true class.
    predicted
        (position,) int, predicted class.
    samples, classes
        How many there are.

    Returns
    -------
    numpy.ndarray
        (sample, true class, predicted class) int64.

    Examples
    --------
    >>> confusions(np.zeros(4, int), np.array([0, 1, 1, -100]), np.array([0, 1, 0, 0]), 1, 2)
    array([[[1, 0],
            [1, 1]]])
    """
    kept = target >= 0
    cell = (sample[kept] * classes + target[kept]) * classes + predicted[kept]
    return np.bincount(cell, minlength=samples * classes * classes).reshape(samples, classes, classes)


def mcc(counts: ArrayLike) -> NDArray[np.float64]:
    """Matthews correlation of any number of classes from confusion matrices.

    Source: Gorodkin 2004, Comput. Biol. Chem. 28:367; equal to `sklearn.metrics.matthews_corrcoef`, and 0 where that is
    0 because all labels or all predictions are one class. NaN where nothing is counted.

    Parameters
    ----------
    counts
        (..., true class, predicted class).

    Returns
    -------
    numpy.ndarray
        (...) float64.

    Examples
    --------
    >>> mcc([[5, 0], [0, 3]])
    array(1.)
    """
    matrix = np.asarray(counts, dtype=np.float64)
    true, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    n = true.sum(axis=-1)
    covariance = np.trace(matrix, axis1=-2, axis2=-1) * n - (true * predicted).sum(axis=-1)
    spread = (n**2 - (true**2).sum(axis=-1)) * (n**2 - (predicted**2).sum(axis=-1))
    undefined = np.where(n > 0, 0.0, np.nan)
    return np.asarray(np.divide(covariance, np.sqrt(spread), out=undefined, where=spread > 0))


def accuracy(counts: ArrayLike) -> NDArray[np.float64]:
    """Share of what is counted that is on the diagonal of confusion matrices.

    Over all labelled positions of a test set together, as TAPE (Rao et al. 2019) and NetSurfP-2.0 (Klausen et al. 2019)
    report secondary structure; equal to `sklearn.metrics.accuracy_score`.

    Parameters
    ----------
    counts
        (..., true class, predicted class).

    Returns
    -------
    numpy.ndarray
        (...) float64, NaN where nothing is counted.

    Examples
    --------
    >>> accuracy([[5, 1], [1, 3]])
    array(0.8)
    """
    matrix = np.asarray(counts, dtype=np.float64)
    return np.asarray(ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1))))


def auroc(target: NDArray[np.floating], score: NDArray[np.floating]) -> NDArray[np.float64]:
    """Area under the receiver operating characteristic per target.

    Parameters
    ----------
    target
        (position, target) 0, 1 or NaN (no label; left out).
    score
        (position, target) higher for positives.

    Returns
    -------
    numpy.ndarray
        (target,) float64, NaN where a target's labels are all alike.
    """
    from sklearn.metrics import roc_auc_score

    return _per_target(roc_auc_score, target, score)


def auprc(target: NDArray[np.floating], score: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average precision (area under the precision-recall curve, as scikit-learn sums it) per target.

    Parameters
    ----------
    target
        (position, target) 0, 1 or NaN (no label; left out).
    score
        (position, target) higher for positives.

    Returns
    -------
    numpy.ndarray
        (target,) float64, NaN where a target's labels are all alike. A score without information reaches the share of
        positives, `base_rate`.
    """
    from sklearn.metrics import average_precision_score

    return _per_target(average_precision_score, target, score)


def base_rate(target: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of positives per target.

    Parameters
    ----------
    target
        (position, target) 0, 1 or NaN (no label; left out).

    Returns
    -------
    numpy.ndarray
        (target,) float64, NaN where a target has no labels.
    """
    known = ~np.isnan(target)
    n = known.sum(axis=0)
    positives = np.where(known, target, 0).sum(axis=0, dtype=np.float64)
    return ratio(positives, n)


def r2(target: NDArray[np.floating], prediction: NDArray[np.floating]) -> NDArray[np.float64]:
    """Coefficient of determination per target.

    Parameters
    ----------
    target
        (position, target) values, NaN where there is no label.
    prediction
        (position, target) predicted values.

    Returns
    -------
    numpy.ndarray
        (target,) float64, NaN where a target's values are all alike.
    """
    from sklearn.metrics import r2_score

    return _per_target(r2_score, target, prediction)


def correlation(
    target: NDArray[np.floating], prediction: NDArray[np.floating], kind: str = "pearson"
) -> NDArray[np.float64]:
    """Correlation per target.

    Parameters
    ----------
    target
        (position, target) values, NaN where there is no label.
    prediction
        (position, target) predicted values.
    kind
        ``"pearson"`` (default), or ``"spearman"``, that of ranks, ties sharing the mean of theirs.

    Returns
    -------
    numpy.ndarray
        (target,) float64, NaN where a target's values, or all that is predicted for it, are alike.
    """
    from scipy.stats import pearsonr, spearmanr

    function: Any = {"pearson": pearsonr, "spearman": spearmanr}[kind]

    def correlate(truth: NDArray[np.floating], said: NDArray[np.floating]) -> float:
        if said.min() == said.max():  # SciPy would warn.
            return float("nan")
        return float(function(truth.astype(np.float64), said.astype(np.float64)).statistic)

    return _per_target(correlate, target, prediction)


def _per_target(
    function: Callable[..., float], target: NDArray[np.floating], score: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Apply a scikit-learn metric to each target's labelled positions; NaN where the labels are all alike."""
    values = np.full(target.shape[1], np.nan)
    for column in range(target.shape[1]):
        kept = ~np.isnan(target[:, column])
        truth = target[kept, column]
        if truth.size and truth.min() != truth.max():
            values[column] = function(truth, score[kept, column])
    return values


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where there is nothing to divide by.

    Parameters
    ----------
    part, whole
        Numbers of one shape.

    Returns
    -------
    numpy.ndarray
        float64, NaN where `whole` is not above 0.

    Examples
    --------
    >>> ratio(np.array([1, 0]), np.array([4, 0]))
    array([0.25,  nan])
    """
    quotient: NDArray[np.float64] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return quotient


_OF_CLASSES: dict[str, Callable[..., NDArray[np.float64]]] = {"mcc": mcc, "accuracy": accuracy}
_PER_POSITION: dict[str, Callable[..., NDArray[np.float64]]] = {
    "auroc": auroc,
    "auprc": auprc,
    "r2": r2,
    "pearson": correlation,
    "spearman": partial(correlation, kind="spearman"),
}


def summed(
    metric: str, scores: Scores
) -> tuple[NDArray[np.int64], Callable[[NDArray[Any]], NDArray[np.float64]]] | None:
    """Return the counts per sample that a metric needs no more than the sum of, and the metric of such sums.

    Parameters
    ----------
    metric
        ``"mcc"``, ``"accuracy"``, one of `probes.exons.EXON_METRICS`, or one that needs every position.
    scores
        Predictions and truth.

    Returns
    -------
    tuple or None
        (sample, ...) counts and what takes (..., ...) sums of them; None where the metric needs every position.

    Raises
    ------
    InputError
        The metric is unknown, or these scores are of a task of another type.
    """
    from probes.exons import EXON_METRICS, exon_metric

    if metric in _PER_POSITION:
        if scores.target is None:
            raise InputError(f"{metric} needs a score of every position; these scores are of a task of classes.")
        return None
    if metric not in (*_OF_CLASSES, *EXON_METRICS):
        raise InputError(f"no metric {metric!r}.{did_you_mean(metric, (*_OF_CLASSES, *_PER_POSITION, *EXON_METRICS))}")
    counts = scores.confusion if metric in _OF_CLASSES else scores.exons
    if counts is None:
        raise InputError(
            f"{metric} needs a task of {'classes' if metric in _OF_CLASSES else 'exons'}; these scores have none."
        )
    return counts, _OF_CLASSES.get(metric) or partial(exon_metric, metric)


def per_target(metric: str, scores: Scores) -> NDArray[np.float64]:
    """Return a metric for every target; one value for those of classes.

    Parameters
    ----------
    metric
        ``"mcc"``, ``"accuracy"``, ``"auroc"``, ``"auprc"``, ``"r2"``, ``"pearson"``, ``"spearman"``, or one of
        `probes.exons.EXON_METRICS`.
    scores
        Predictions and truth.

    Returns
    -------
    numpy.ndarray
        (target,) float64, NaN where it is not defined.

    Raises
    ------
    InputError
        The metric is unknown, or these scores are of a task of another type.
    """
    sums = summed(metric, scores)
    if sums is not None:
        counts, function = sums
        return function(counts.sum(axis=0))[None]
    assert scores.target is not None
    assert scores.score is not None
    return _PER_POSITION[metric](scores.target, scores.score)


def why_undefined(metric: str) -> str:
    """Say for which targets a metric is not defined.

    Parameters
    ----------
    metric
        See `per_target`.

    Returns
    -------
    str
        What is all alike for such a target.

    Examples
    --------
    >>> why_undefined("auroc"), why_undefined("spearman")
    ('labels', 'labels or predictions')
    """
    return "labels or predictions" if metric in ("pearson", "spearman") else "labels"


def mean_defined(values: NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; NaN where there is none.

    Parameters
    ----------
    values
        (target,) float.

    Returns
    -------
    float

    Examples
    --------
    >>> mean_defined(np.array([0.5, np.nan, 0.7]))
    0.6
    """
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


def check_metric(record: TaskRecord) -> None:
    """Refuse a task whose metric does not fit its type.

    Parameters
    ----------
    record
        The task's record.

    Raises
    ------
    InputError
        The two do not go together.
    """
    allowed = METRICS[record.type]
    if record.metric not in allowed:
        raise InputError(
            f"task {record.name!r} is of type {record.type!r} and has the metric {record.metric!r}; probes compute "
            f"{' or '.join(allowed)} for that type. Two classes can be one target of type 'multilabel'."
        )
