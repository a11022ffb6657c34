"""Channels of an embedding about their mean and at unit variance, those that hold only rounding noise left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONSTANT = 1e-6
"""A channel whose deviation is a smaller share of its mean, or of the largest deviation in its block, is constant:
single precision leaves rounding noise of 1e-7, which scaling to unit variance would blow up."""

TINY = 1e-12
"""A channel whose deviation is smaller is constant whatever else there is."""


class Scaling(NamedTuple):
    """How channels are standardised; see `scaling`.

    Attributes
    ----------
    mean
        (channel,) float64.
    deviation
        (channel,) float64, of a population; 0 where the channel is constant.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(channel,) which channels are not constant."""
        return self.deviation > 0


def scaling(values: NDArray[np.floating]) -> Scaling:
    """Return mean and deviation of channels, with what is only rounding noise as constant.

    Every analysis of melting points that scales to unit variance does it by this rule.

    Parameters
    ----------
    values
        (sample, channel) float, of the training samples.

    Returns
    -------
    Scaling
        A channel whose deviation is below `CONSTANT` times its mean or times the largest deviation of any, or below
        `TINY`, has deviation 0.

    Examples
    --------
    >>> scaling(np.array([[1.0, 0.3], [3.0, 0.3 + 1e-17]])).deviation.tolist()
    [1.0, 0.0]
    """
    rows = np.asarray(values, np.float64)
    mean = rows.mean(axis=0)
    deviation = rows.std(axis=0)
    least = np.maximum(CONSTANT * np.maximum(np.abs(mean), deviation.max(initial=0)), TINY)
    return Scaling(mean, np.where(deviation > least, deviation, 0))


def standardise(train: NDArray[np.floating], *others: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    """Scale channels to mean 0 and unit variance over the training samples; constant ones are left out.

    Parameters
    ----------
    train
        (sample, channel) float.
    *others
        (sample, channel) float, to be scaled alike.

    Returns
    -------
    list of numpy.ndarray
        (sample, channel that varies) float64 of each, `train` first.
    """
    found = scaling(train)
    kept = found.kept
    return [
        (np.asarray(part, np.float64)[:, kept] - found.mean[kept]) / found.deviation[kept] for part in (train, *others)
    ]
