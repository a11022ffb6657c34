"""Bootstrap intervals: whole samples are drawn with replacement, and the metric of each draw computed exactly.

A draw is a number of copies per sample, so each metric is a weighted one: sums over positions are a sparse matrix
times the copies, and sorting, the slow part, is done once. Draws depend on the seed and on how many samples there are,
nothing else: two probes tested on the same samples have the same draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probes.metrics import ratio, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from probes.scores import Scores

    _Weighted = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_AT_ONCE = 32
"""Draws computed together: their copies of one sample are neighbours in memory, and all of them stay in the cache."""

_ELEMENTS = 4_000_000
"""Positions times draws that are in memory at once, at most."""

_EXACT = 2**22
"""Single precision adds up the copies of so many positions exactly, even where four times as many are drawn."""


def bootstrap(metric: str, scores: Scores, *, draws: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Compute a metric on draws of samples.

    Source: cluster bootstrap, Davison and Hinkley 1997, section 3.8 (clusters drawn, all of a cluster kept). Memory:
    about 30 bytes per position and target beside the scores (no more for counts, or for r2 and Pearson's correlation,
    than a few numbers per sample and target).

    Parameters
    ----------
    metric
        One that `probes.metrics.per_target` knows; mean over targets.
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

    Raises
    ------
    InputError
        The metric is unknown, or the scores are those of a task of another type.
    """
    sums = summed(metric, scores)
    if sums is not None:
        return bootstrap_sums(*sums, draws=draws, seed=seed)
    assert scores.sample is not None
    assert scores.target is not None
    assert scores.score is not None
    prepare = _PREPARE[metric]
    n = int(scores.sample[-1]) + 1
    weighted = []
    for column in range(scores.target.shape[1]):
        kept = ~np.isnan(scores.target[:, column])
        truth, score = scores.target[kept, column], scores.score[kept, column]
        if truth.size and truth.min() != truth.max():
            weighted.append(prepare(truth, score, scores.sample[kept], n))
    parts = []
    for copies in _copies(draws, n, seed, len(scores.sample)):
        by_sample = np.ascontiguousarray(copies.T, dtype=np.float32)
        values = np.array([function(by_sample) for function in weighted]).reshape(len(weighted), len(copies))
        known = ~np.isnan(values)
        parts.append(ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0)))
    return np.concatenate(parts)


def bootstrap_sums(
    counts: NDArray[np.int64],
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute what follows from counts that add up over samples, on draws of samples.

    Parameters
    ----------
    counts
        (sample, ...) counts.
    function
        Takes (draw, ...) sums and returns (draw,) values.
    draws
        How often to draw, default 1000.
    seed
        Of the random numbers, default 0.

    Returns
    -------
    numpy.ndarray
        (draw,) float64.

    Examples
    --------
    >>> bootstrap_sums(np.full((5, 1), 2), lambda sums: sums[:, 0], draws=3)
    array([10., 10., 10.])
    """
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    sums = [copies.astype(np.float64) @ flat for copies in _copies(draws, len(counts), seed, len(counts))]
    return function(np.concatenate(sums).reshape(-1, *counts.shape[1:]))


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


def two_sided(differences: NDArray[np.float64]) -> float:
    """Return the p of a difference from its bootstrap draws.

    Source: Davison and Hinkley 1997, section 4.2; one is added to the counts of draws, so that p is never 0.

    Parameters
    ----------
    differences
        (draw,) float, NaN where one of the two is not defined.

    Returns
    -------
    float
        Twice the smaller share of draws that are not above, or not below, 0; at most 1, at least 2 / (draws + 1).

    Examples
    --------
    >>> two_sided(np.array([-1.0, 1.0, 2.0]))
    1.0
    >>> two_sided(np.full(99, 0.5))
    0.02
    """
    kept = differences[~np.isnan(differences)]
    fewest = min((kept <= 0).sum(), (kept >= 0).sum())
    return min(1.0, 2 * (int(fewest) + 1) / (len(kept) + 1))


def average_draws(draws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average a metric over seeds or folds within each draw.

    Parameters
    ----------
    draws
        (draw,) float64 of each, from `probes.intervals.bootstrap`.

    Returns
    -------
    numpy.ndarray
        (draw,) float64, NaN where one of them is.

    Examples
    --------
    >>> average_draws([np.array([1.0, 2.0]), np.array([3.0, np.nan])])
    array([ 2., nan])
    """
    mean: NDArray[np.float64] = np.mean(draws, axis=0)
    return mean


def _copies(draws: int, n: int, seed: int, positions: int) -> Iterator[NDArray[np.int64]]:
    """Yield the copies of each sample, (draws at once, sample)."""
    rng = np.random.default_rng(seed)
    at_once = min(_AT_ONCE, max(1, _ELEMENTS // max(positions, 1)))
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        yield np.array([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(rows)])


def _adder(group: NDArray[np.int64], sample: NDArray[np.int64], groups: int, n: int) -> csr_array:
    """Return the matrix that turns copies (sample, draw) into how many positions each group then has (group, draw)."""
    from scipy.sparse import csr_array

    precision = np.float32 if len(group) < _EXACT else np.float64
    return csr_array((np.ones(len(group), precision), (group, sample)), shape=(groups, n))


def _auroc(truth: NDArray[Any], score: NDArray[Any], sample: NDArray[np.int64], n: int) -> _Weighted:
    """Share of positive-negative pairs in the right order, ties counting half."""
    positive = truth == 1
    threshold, group = np.unique(score[positive], return_inverse=True)
    positives = _adder(group, sample[positive], len(threshold), n)
    # Each negative counts twice: below the thresholds from `from_` on and from `above` on, so once where it is a tie.
    from_, above = (np.searchsorted(threshold, score[~positive], side) for side in ("left", "right"))
    owner = np.tile(sample[~positive], 2)
    negatives = _adder(np.concatenate([from_, above]), owner, len(threshold) + 1, n)

    def weighted(copies: NDArray[np.float32]) -> NDArray[np.float64]:
        found, steps = (positives @ copies).astype(np.float64), negatives @ copies
        below = np.cumsum(steps, axis=0, dtype=np.float64)
        return ratio((found * below[:-1]).sum(axis=0), found.sum(axis=0) * below[-1])

    return weighted


def _auprc(truth: NDArray[Any], score: NDArray[Any], sample: NDArray[np.int64], n: int) -> _Weighted:
    """Mean precision over the positives, each at the threshold that is its score."""
    positive = truth == 1
    threshold, group = np.unique(-score[positive], return_inverse=True)
    positives = _adder(group, sample[positive], len(threshold), n)
    called = np.searchsorted(threshold, -score[~positive])
    negatives = _adder(called, sample[~positive], len(threshold) + 1, n)

    def weighted(copies: NDArray[np.float32]) -> NDArray[np.float64]:
        here, steps = (positives @ copies).astype(np.float64), negatives @ copies
        found, wrong = np.cumsum(here, axis=0), np.cumsum(steps, axis=0, dtype=np.float64)
        precision = np.divide(found, found + wrong[:-1], out=np.zeros_like(found), where=found > 0)
        return ratio((here * precision).sum(axis=0), np.where(wrong[-1] > 0, found[-1], 0))

    return weighted


def _r2(truth: NDArray[Any], prediction: NDArray[Any], sample: NDArray[np.int64], n: int) -> _Weighted:
    """1 - squared error / squared deviation from the mean."""
    moments = _moments(truth, prediction, sample, n)

    def weighted(copies: NDArray[np.float32]) -> NDArray[np.float64]:
        deviation, _, _, squared_error = moments(copies)
        return 1 - ratio(squared_error, deviation)

    return weighted


def _pearson(truth: NDArray[Any], prediction: NDArray[Any], sample: NDArray[np.int64], n: int) -> _Weighted:
    """Covariance / root of the product of the variances."""
    moments = _moments(truth, prediction, sample, n)

    def weighted(copies: NDArray[np.float32]) -> NDArray[np.float64]:
        of_truth, of_prediction, covariance, _ = moments(copies)
        return ratio(covariance, np.sqrt(of_truth * of_prediction))

    return weighted


def _moments(
    truth: NDArray[Any], prediction: NDArray[Any], sample: NDArray[np.int64], n: int
) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], ...]]:
    """Return what gives, per draw, squared deviations of both, their product and the squared error, all summed."""
    x, y = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (truth, prediction))
    error = truth.astype(np.float64) - prediction
    columns = (np.ones_like(x), x, y, x**2, y**2, x * y, error**2)
    table = np.stack([np.bincount(sample, column, minlength=n) for column in columns])

    def sums(copies: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
        many, x, y, xx, yy, xy, squared_error = table @ copies.astype(np.float64)
        return _about_mean(xx, x, many), _about_mean(yy, y, many), xy - ratio(x * y, many), squared_error

    return sums


def _about_mean(
    squares: NDArray[np.float64], total: NDArray[np.float64], many: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of squared deviations from the mean."""
    deviation = squares - ratio(total**2, many)
    # Rounding leaves a little where all drawn values are one value.
    return np.where(deviation > 1e-12 * squares, deviation, 0)


def _spearman(truth: NDArray[Any], prediction: NDArray[Any], sample: NDArray[np.int64], n: int) -> _Weighted:
    """Pearson's correlation of the ranks among what is drawn, ties sharing the mean of theirs."""
    groups = [np.unique(values, return_inverse=True)[1] for values in (truth, prediction)]
    adders = [_adder(group, sample, int(group.max()) + 1, n) for group in groups]

    def weighted(copies: NDArray[np.float32]) -> NDArray[np.float64]:
        weight = copies[sample].astype(np.float64)
        total = weight.sum(axis=0)
        ranks = []
        for group, adder in zip(groups, adders, strict=True):
            size = (adder @ copies).astype(np.float64)
            ranks.append((np.cumsum(size, axis=0) - size / 2 - total / 2)[group])
        x, y = ranks
        return ratio((weight * x * y).sum(axis=0), np.sqrt((weight * x**2).sum(axis=0) * (weight * y**2).sum(axis=0)))

    return weighted


_PREPARE = {"auroc": _auroc, "auprc": _auprc, "r2": _r2, "pearson": _pearson, "spearman": _spearman}
