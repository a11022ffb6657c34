"""Bootstrap intervals: whole samples are drawn with replacement, and the metric of each draw computed exactly.

A draw is a number of copies per sample, so each metric is a weighted one. Sorting, the slow part, is done once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probes.metrics import mcc, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from probes.metrics import Scores

    _Weighted = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_ELEMENTS = 4_000_000


def bootstrap(metric: str, scores: Scores, *, draws: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Compute a metric on draws of samples.

    Source: cluster bootstrap, Davison and Hinkley 1997, section 3.8 (clusters drawn, all of a cluster kept).

    Parameters
    ----------
    metric
        ``"mcc"``, ``"auroc"``, ``"auprc"`` or ``"r2"``; mean over targets.
    scores
        Predictions and truth.
    draws
        How often to draw, default 1000.
    seed
        Of the random numbers.

    Returns
    -------
    numpy.ndarray
        (draw,) float64; NaN where a draw has no target with a defined metric.
    """
    rng = np.random.default_rng(seed)
    if scores.confusion is not None:
        n, classes = scores.confusion.shape[:2]
        flat = scores.confusion.reshape(n, -1).astype(np.float64)
        chunks = [(copies @ flat).reshape(-1, classes, classes) for copies in _copies(rng, draws, n, n)]
        return mcc(np.concatenate(chunks))
    assert scores.sample is not None
    assert scores.target is not None
    assert scores.score is not None
    prepare = {"auroc": _auroc, "auprc": _auprc, "r2": _r2}[metric]
    weighted = []
    for column in range(scores.target.shape[1]):
        kept = ~np.isnan(scores.target[:, column])
        truth, score = scores.target[kept, column].astype(np.float64), scores.score[kept, column].astype(np.float64)
        if truth.size and truth.min() != truth.max():
            weighted.append(prepare(truth, score, scores.sample[kept]))
    n = int(scores.sample[-1]) + 1
    parts = []
    for copies in _copies(rng, draws, n, len(scores.sample)):
        values = np.array([function(copies) for function in weighted]).reshape(len(weighted), len(copies))
        known = ~np.isnan(values)
        parts.append(ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0)))
    return np.concatenate(parts)


def interval(draws: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap draws.

    Parameters
    ----------
    draws
        (draw,) float, from `bootstrap`.
    level
        Share of the draws inside, default 0.95.

    Returns
    -------
    tuple of float
        Lower and upper end, NaN without any defined draw.

    Examples
    --------
    >>> interval(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    kept = draws[~np.isnan(draws)]
    if not kept.size:
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _copies(rng: np.random.Generator, draws: int, n: int, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield the copies of each sample, (draws at once, sample), few enough at once to bound memory."""
    at_once = max(1, _ELEMENTS // max(width, 1))
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        yield np.array([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(rows)], dtype=np.float64)


def _ranked(
    truth: NDArray[np.float64], score: NDArray[np.float64], sample: NDArray[np.int64], descending: bool
) -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Sort once; return what gives positives and negatives per distinct score, (draw, distinct score)."""
    order = np.argsort(-score if descending else score, kind="stable")
    begin = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)
    positive, owner = truth[order], sample[order]

    def count(copies: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight = copies[:, owner]
        return (
            np.add.reduceat(weight * positive, begin, axis=1),
            np.add.reduceat(weight * (1 - positive), begin, axis=1),
        )

    return count


def _auroc(truth: NDArray[np.float64], score: NDArray[np.float64], sample: NDArray[np.int64]) -> _Weighted:
    """Share of positive-negative pairs in the right order, ties counting half."""
    count = _ranked(truth, score, sample, descending=False)

    def weighted(copies: NDArray[np.float64]) -> NDArray[np.float64]:
        positives, negatives = count(copies)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        return ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))

    return weighted


def _auprc(truth: NDArray[np.float64], score: NDArray[np.float64], sample: NDArray[np.int64]) -> _Weighted:
    """Mean precision over the positives, each at the threshold that is its score."""
    count = _ranked(truth, score, sample, descending=True)

    def weighted(copies: NDArray[np.float64]) -> NDArray[np.float64]:
        positives, negatives = count(copies)
        found, called = np.cumsum(positives, axis=1), np.cumsum(positives + negatives, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total = np.where(negatives.sum(axis=1) > 0, positives.sum(axis=1), 0)
        return ratio((positives * precision).sum(axis=1), total)

    return weighted


def _r2(truth: NDArray[np.float64], prediction: NDArray[np.float64], sample: NDArray[np.int64]) -> _Weighted:
    """1 - squared error / squared deviation from the mean, from sums per sample."""
    centred = truth - truth.mean()
    many = int(sample[-1]) + 1
    moments = np.stack(
        [
            np.bincount(sample, values, minlength=many)
            for values in (np.ones_like(truth), centred, centred**2, (truth - prediction) ** 2)
        ],
        axis=1,
    )

    def weighted(copies: NDArray[np.float64]) -> NDArray[np.float64]:
        n, total, squares, error = (copies[:, :many] @ moments).T
        deviation = squares - ratio(total**2, n)
        # Rounding leaves a little where all drawn values are one value.
        return 1 - ratio(error, np.where(deviation > 1e-12 * squares, deviation, 0))

    return weighted
