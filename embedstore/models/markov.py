"""A Markov model of nucleotides: the yardstick for a language model's perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKOV_ORDER = 5
"""Letters of a context in the yardstick of pretraining."""


def markov_counts(stretches: Iterable[np.ndarray], order: int) -> np.ndarray:
    """Count which nucleotide follows each context.

    Parameters
    ----------
    stretches
        Sequences of 0, 1, 2, 3 (A, C, G, T) and 4 (any other letter), each of shape (nucleotide,), uint8. Contexts do
        not reach across their ends, and those with a 4 are left out.
    order
        Letters of a context.

    Returns
    -------
    numpy.ndarray
        Counts, shape (4 ** order, 4), int64; the leftmost letter of a context is the most significant.

    Examples
    --------
    >>> import numpy as np
    >>> markov_counts([np.array([0, 1, 0, 1, 2], np.uint8)], order=1)[:2]
    array([[0, 2, 0, 0],
           [1, 0, 1, 0]])
    """
    counts = np.zeros(4 ** (order + 1), np.int64)
    for letters in stretches:
        counts += np.bincount(_words(letters, order), minlength=len(counts))
    return counts.reshape(-1, 4)


def markov_perplexity(counts: np.ndarray, stretches: Iterable[np.ndarray], pseudo_count: float = 1.0) -> float:
    """Return the perplexity of a Markov model on sequences.

    Parameters
    ----------
    counts
        From `markov_counts` on other sequences, shape (4 ** order, 4).
    stretches
        As for `markov_counts`. The first `order` nucleotides of each have no context and do not count.
    pseudo_count
        Added to every count (default 1), so that nothing has the probability zero.

    Returns
    -------
    float
        exp of the mean negative log likelihood, between 1 and (typically) 4; NaN when nothing could be counted.
    """
    order = round(np.log(len(counts)) / np.log(4))
    smooth = counts + pseudo_count
    surprise = -np.log(smooth / smooth.sum(1, keepdims=True))
    seen = markov_counts(stretches, order)
    return float(np.exp((seen * surprise).sum() / seen.sum())) if seen.any() else float("nan")


def _words(letters: np.ndarray, order: int) -> np.ndarray:
    """Return the words of order + 1 letters as base-4 numbers, without those that hold another letter."""
    if len(letters) <= order:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(letters, order + 1)
    packed = np.zeros(len(windows), np.int64)
    known = np.ones(len(windows), bool)
    for column in windows.T:
        packed = packed * 4 + column
        known &= column < 4
    return packed[known]
