"""Whether probabilities are what they say: of all statements made with probability 0.8, 80 % should be right.

Source: Guo et al. 2017, On calibration of modern neural networks, ICML, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError
from probes.metrics import ratio

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray


def calibration_counts(probability: ArrayLike, correct: ArrayLike, bins: int = 15) -> NDArray[np.float64]:
    """Count how probable statements were and how often they were right, in bins of probability.

    Where each position has one of several classes, a statement is the most probable class: its probability, and whether
    it is the true one. Where targets are 0 or 1, it is that the target is 1: its probability, and the label.

    Parameters
    ----------
    probability
        Any number of probabilities, of positions that have a label.
    correct
        As many, 1 or True where the statement is right, else 0 or False.
    bins
        Bins of equal width from 0 to 1, default 15. A bin holds its upper end, as in `sklearn.calibration`.

    Returns
    -------
    numpy.ndarray
        (bin, 3) float64: how many, sum of probabilities, how many right. Counts of several batches add up.

    Raises
    ------
    InputError
        The two differ in length, or a probability is not within 0 and 1.

    Examples
    --------
    >>> calibration_counts([0.1, 0.9, 1.0], [False, True, True], bins=2).tolist()
    [[1.0, 0.1, 0.0], [2.0, 1.9, 2.0]]
    """
    stated, right = np.asarray(probability).ravel(), np.asarray(correct).ravel()
    if stated.shape != right.shape:
        raise InputError(f"{stated.size:,} probabilities, but {right.size:,} labels: each needs its own.")
    # Rounding carries a softmax in single precision this far beyond 1.
    outside = ~((stated >= 0) & (stated <= 1 + 1e-6))
    if outside.any():
        raise InputError(
            f"{int(outside.sum()):,} of {stated.size:,} probabilities are not within 0 and 1; the first is "
            f"{stated[outside][0]}. Apply softmax or sigmoid to the outputs of a network first."
        )
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], stated)
    columns = [np.bincount(place, weights, minlength=bins) for weights in (None, stated, right)]
    return np.stack(columns, axis=1).astype(np.float64)


def expected_calibration_error(counts: NDArray[np.float64]) -> float:
    """Return how far stated probabilities are from the share that is right, mean over statements.

    Parameters
    ----------
    counts
        (bin, 3) from `calibration_counts`.

    Returns
    -------
    float
        0 (calibrated) to 1, NaN without any statement.

    Examples
    --------
    >>> expected_calibration_error(np.array([[10, 8.0, 5]]))
    0.3
    """
    n, stated, right = counts.T
    return float(ratio(np.abs(stated - right).sum(), n.sum()))


def calibration_table(counts: NDArray[np.float64]) -> pd.DataFrame:
    """Table of a reliability diagram.

    Parameters
    ----------
    counts
        (bin, 3) from `calibration_counts`.

    Returns
    -------
    pandas.DataFrame
        low and high (ends of the bin), n, stated (mean probability) and right (share), NaN where a bin is empty.
    """
    import pandas as pd

    n, stated, right = counts.T
    edges = np.linspace(0, 1, len(counts) + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n.astype(np.int64),
            "stated": ratio(stated, n),
            "right": ratio(right, n),
        }
    )
