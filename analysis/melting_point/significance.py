"""Tests of differences: random flips of their signs, and a correction for how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FLIPS = 10_000
"""Sign flips, by default; the smallest p is 1 / (flips + 1)."""


def sign_flip(differences: NDArray[np.float64], *, flips: int = FLIPS, seed: int = 0) -> NDArray[np.float64]:
    """Test whether differences are symmetric about 0, by flipping their signs at random.

    Source: Fisher 1935, The Design of Experiments, section 21; one is added to the counts (Phipson and Smyth 2010).

    Parameters
    ----------
    differences
        (group, contrast) float: squared errors of one prediction less those of another, summed over each group.
    flips
        Default 10,000.
    seed
        Of the random numbers.

    Returns
    -------
    numpy.ndarray
        (contrast,) two-sided p, at least 1 / (flips + 1).

    Examples
    --------
    >>> float(sign_flip(np.zeros((5, 1)), flips=9)[0])
    1.0
    """
    seen = np.abs(differences.sum(axis=0)) * (1 - 1e-9)  # equal sums may differ by rounding
    rng = np.random.default_rng(seed)
    beyond = np.zeros(differences.shape[1])
    for start in range(0, flips, 1000):
        signs = rng.integers(0, 2, (min(1000, flips - start), len(differences)), np.int8) * 2.0 - 1
        beyond += (np.abs(signs @ differences) >= seen).sum(axis=0)
    return np.asarray((beyond + 1) / (flips + 1))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust the p of a family of tests so that the chance of any false one is what a single one states.

    Source: Holm 1979, Scand. J. Statist. 6:65.

    Parameters
    ----------
    p
        (test,) float; NaN where there is no test, which does not count.

    Returns
    -------
    numpy.ndarray
        (test,) float64, at most 1.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted
