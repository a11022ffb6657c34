"""How sure a difference between predictions is: paired draws of groups of proteins, seeds within.

Every prediction is drawn with the same groups and the same seeds, so that what makes a protein hard makes it hard for
all of them. R2 is a ratio of sums over groups: a draw is a weighted sum, and 2,000 of them one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from analysis.melting_point.significance import FLIPS, holm, sign_flip
from embedstore.errors import InputError, did_you_mean
from probes.intervals import bootstrap_sums, interval, two_sided
from probes.metrics import ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

DRAWS = 2000
"""Bootstrap draws, by default."""

LEAST_DRAWS = 40
"""Of fewer, none lies beyond either end of a 95 % interval."""

_ROUNDING = 1e-10
"""R2 that differ by less, or squared errors by a smaller share, are alike; rounding has a sign, and would be tested."""

WITHIN, TOTAL = "within", "total"
MEASURES = (WITHIN, TOTAL)
"""R2 about the mean of each species in the training samples, and about the mean of the test labels."""


class Draws(NamedTuple):
    """R2 of some predictions on the test samples, on draws of them, and without each group.

    Attributes
    ----------
    names
        Of the predictions.
    point
        Measure -> (prediction,) float64, mean over seeds.
    draws
        Measure -> (draw, prediction) float64.
    without
        Measure -> (group, prediction) float64, with that group left out; for intervals of the kind ``"bca"``.
    errors
        (group, prediction) float64 summed squared errors, mean over seeds.
    n, groups, seeds
        How many test samples, groups of them and seeds.
    """

    names: tuple[str, ...]
    point: dict[str, NDArray[np.float64]]
    draws: dict[str, NDArray[np.float64]]
    without: dict[str, NDArray[np.float64]]
    errors: NDArray[np.float64]
    n: int
    groups: int
    seeds: int

    def weights(self, contrast: Mapping[str, float]) -> NDArray[np.float64]:
        """Return (prediction,) weights of a sum of predictions by name, 0 for the others.

        Raises
        ------
        InputError
            There is no prediction of a name.
        """
        found = np.zeros(len(self.names))
        for name, weight in contrast.items():
            if name not in self.names:
                raise InputError(f"no prediction is called {name!r}.{did_you_mean(name, self.names)}")
            found[self.names.index(name)] += weight
        return found


class Estimate(NamedTuple):
    """A number with its interval.

    Attributes
    ----------
    estimate
        On the test samples.
    low, high
        Ends of the interval.
    p
        Two-sided p of being 0, from the draws; see `probes.intervals.two_sided`.
    """

    estimate: float
    low: float
    high: float
    p: float


def check_numbers(seeds: int, draws: int) -> None:
    """Refuse a study without seeds, or with too few draws for an interval.

    Parameters
    ----------
    seeds, draws
        How many.

    Raises
    ------
    InputError
        There is no seed, or there are fewer than `LEAST_DRAWS` draws.
    """
    for name, value, least in (("seeds", seeds, 1), ("draws", draws, LEAST_DRAWS)):
        if value < least:
            raise InputError(f"{value} {name}: a study needs {least} or more.")


def resample(
    y: ArrayLike,
    predictions: Mapping[str, NDArray[np.floating]],
    *,
    species_mean: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Draws:
    """Draw groups of test samples, and seeds of each fit, with replacement; R2 of every prediction on every draw.

    Source: bootstrap of clusters, Davison and Hinkley 1997, section 3.8; `probes.intervals`.

    Parameters
    ----------
    y
        (test sample,) float.
    predictions
        Name -> (seed, test sample) float, or (test sample,). Seeds of one number are drawn together; a prediction with
        one seed counts for all of them.
    species_mean
        (test sample,) float: mean of the training labels of each one's species.
    groups
        (test sample,) names; samples of one group are drawn together. Default: each its own.
    draws
        Default 2,000.
    seed
        Of the random numbers.

    Returns
    -------
    Draws

    Raises
    ------
    InputError
        Lengths or numbers of seeds differ.
    """
    labels, centre = np.asarray(y, np.float64), np.asarray(species_mean, np.float64)
    every = [np.atleast_2d(np.asarray(values, np.float64)) for values in predictions.values()]
    seeds = max((len(values) for values in every), default=1)
    for name, values in zip(predictions, every, strict=True):
        if values.shape[1:] != labels.shape or len(values) not in (1, seeds):
            raise InputError(
                f"prediction {name!r} is {values.shape}; (seed, test sample) with 1 or {seeds} seeds and "
                f"{len(labels):,} test samples is wanted."
            )
    error = np.stack([np.broadcast_to((labels - values) ** 2, (seeds, len(labels))) for values in every], axis=-1)
    cluster = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    # About a number near the labels, so that squares of temperatures do not cancel.
    about = labels - labels.mean()
    columns = np.column_stack([np.ones_like(about), about, about**2, (labels - centre) ** 2])
    sums = np.zeros((int(cluster.max()) + 1, 4 + seeds * len(every)))
    np.add.at(sums, cluster, np.hstack([columns, error.transpose(1, 0, 2).reshape(len(labels), -1)]))
    even = np.full((1, seeds), 1 / seeds)
    drawn = bootstrap_sums(cast("NDArray[Any]", sums), lambda values: values, draws=draws, seed=seed)
    of_seed = np.random.default_rng([seed, seeds]).multinomial(seeds, even[0], size=draws) / seeds
    whole = sums.sum(axis=0)
    return Draws(
        tuple(predictions),
        {name: values[0] for name, values in _r2(whole[None], even).items()},
        _r2(drawn, of_seed),
        _r2(whole - sums, even),
        np.tensordot(even[0], sums[:, 4:].reshape(len(sums), seeds, -1), (0, 1)),
        len(labels),
        len(sums),
        seeds,
    )


def _r2(sums: NDArray[np.float64], of_seed: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return measure -> (row, prediction) from rows of sums, seeds weighted."""
    n, total, squares, within = sums[:, :4].T
    error = sums[:, 4:].reshape(len(sums), of_seed.shape[1], -1)
    error = np.einsum("rsp,rs->rp", error, np.broadcast_to(of_seed, error.shape[:2]))
    about = squares - ratio(total**2, n)
    return {WITHIN: 1 - ratio(error, _beside(within, error)), TOTAL: 1 - ratio(error, _beside(about, error))}


def _beside(whole: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Repeat a number of each row for every prediction."""
    return np.broadcast_to(whole[:, None], error.shape)


def estimate(
    drawn: Draws, contrast: Mapping[str, float], measure: str = WITHIN, *, kind: str = "percentile", level: float = 0.95
) -> Estimate:
    """Return a weighted sum of the R2 of predictions, such as a difference of two, with its interval.

    Parameters
    ----------
    drawn
        From `resample`.
    contrast
        Name of a prediction -> weight.
    measure
        ``"within"`` (default) or ``"total"``.
    kind
        ``"percentile"`` (default), or ``"bca"``, which corrects for bias and for a spread that changes with the value
        (Efron 1987, J. Am. Stat. Assoc. 82:171).
    level
        Share of the draws inside, default 0.95.

    Returns
    -------
    Estimate

    Raises
    ------
    InputError
        There is no such prediction, measure or kind.
    """
    if measure not in MEASURES or kind not in ("percentile", "bca"):
        raise InputError(
            f"measure {measure!r}, interval {kind!r}: {' or '.join(MEASURES)}, percentile or bca are wanted."
        )
    weight = drawn.weights(contrast)
    point, values = float(drawn.point[measure] @ weight), drawn.draws[measure] @ weight
    values[np.abs(values) < _ROUNDING] = 0
    point = 0.0 if abs(point) < _ROUNDING else point
    if kind == "bca":
        low, high = bca(point, values, drawn.without[measure] @ weight, level)
    else:
        low, high = interval(values, level)
    return Estimate(point, low, high, two_sided(values))


def bca(
    point: float, draws: NDArray[np.float64], without: NDArray[np.float64], level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of bootstrap draws corrected for bias and acceleration.

    Source: Efron 1987, J. Am. Stat. Assoc. 82:171; Davison and Hinkley 1997, section 5.3.2.

    Parameters
    ----------
    point
        The statistic of all.
    draws
        (draw,) float.
    without
        (group,) float, the statistic with each group left out.
    level
        Share inside, default 0.95.

    Returns
    -------
    tuple of float
        Lower and upper end; those of the percentile interval where all draws are alike.
    """
    from scipy.stats import norm

    pull = without.mean() - without
    spread = (pull**2).sum()
    share = ((draws < point).mean() + (draws <= point).mean()) / 2
    if not spread or not 0 < share < 1:
        return interval(draws, level)
    speed, bias = (pull**3).sum() / (6 * spread**1.5), norm.ppf(share)
    ends = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(draws, norm.cdf(bias + ends / (1 - speed * ends)))
    return float(low), float(high)


def contrast_table(
    drawn: Draws,
    contrasts: Mapping[str, Mapping[str, float]],
    *,
    measures: Sequence[str] = MEASURES,
    kind: str = "percentile",
    flips: int = FLIPS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return differences between predictions with intervals and tests.

    Parameters
    ----------
    drawn
        From `resample`.
    contrasts
        Name -> prediction -> weight; two predictions with 1 and -1 also have a partial R2 and a sign-flip test.
    measures
        Default both.
    kind
        Of the intervals; see `estimate`.
    flips
        Sign flips, default 10,000.
    seed
        Of the sign flips.

    Returns
    -------
    pandas.DataFrame
        One row for each contrast and measure: contrast, measure, estimate, low, high, p, p_holm (over the contrasts of
        one measure), p_flip and p_flip_holm (of squared errors, the same for every measure), partial_r2, n, groups,
        seeds.
    """
    import pandas as pd

    pairs = {name: _pair(weights) for name, weights in contrasts.items()}
    partial, flip = np.full(len(contrasts), np.nan), np.full(len(contrasts), np.nan)
    errors = drawn.errors
    with_pair = [(place, *pair) for place, pair in enumerate(pairs.values()) if pair is not None]
    if with_pair:
        places = [place for place, _, _ in with_pair]
        full, reduced = (
            errors[:, np.array([drawn.names.index(str(pair[side])) for pair in with_pair])] for side in (1, 2)
        )
        partial[places] = 1 - ratio(full.sum(axis=0), reduced.sum(axis=0))
        apart = np.abs(reduced - full) > _ROUNDING * reduced.mean(axis=0)
        flip[places] = sign_flip(np.where(apart, reduced - full, 0), flips=flips, seed=seed)
    rows = []
    for measure in measures:
        found = [estimate(drawn, weights, measure, kind=kind) for weights in contrasts.values()]
        part = pd.DataFrame(found).assign(
            contrast=list(contrasts),
            measure=measure,
            p_holm=holm([one.p for one in found]),
            p_flip=flip,
            p_flip_holm=holm(flip),
            partial_r2=partial,
        )
        rows.append(part)
    columns = ["contrast", "measure", *Estimate._fields, "p_holm", "p_flip", "p_flip_holm", "partial_r2"]
    table = pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
    return table.assign(n=drawn.n, groups=drawn.groups, seeds=drawn.seeds)


def _pair(weights: Mapping[str, float]) -> tuple[str, str] | None:
    """Return the names of the two predictions of a plain difference, the one that counts positive first."""
    names = {weight: name for name, weight in weights.items()}
    return (names[1], names[-1]) if len(weights) == 2 and set(names) == {1, -1} else None
