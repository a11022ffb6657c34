"""Which sequences go through a network together: batches under a token budget, with next to no padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PADDING = 1.05
"""Largest ratio of padded to real tokens in a batch."""


def plan_batches(
    lengths: NDArray[np.int64], budget: int, *, packs: bool = False, pads: bool = False
) -> list[NDArray[np.int64]]:
    """Put sequences into batches of about equal size, longest first, so that memory is tried out at the start.

    Parameters
    ----------
    lengths
        Tokens of each sequence, shape (sequence,).
    budget
        Most tokens of a batch; a longer sequence is a batch by itself.
    packs
        The network takes sequences of any lengths in one stream.
    pads
        It takes sequences that are padded on the right; the padded length counts, and stays within `MOST_PADDING` of
        the real one. Where it neither packs nor pads, a batch has sequences of one length.

    Returns
    -------
    list of numpy.ndarray
        Indices of the sequences of each batch, int64, by falling length. Every sequence is in one batch.

    Examples
    --------
    >>> [batch.tolist() for batch in plan_batches(np.array([5, 90, 5, 88]), 200, pads=True)]
    [[1, 3], [0, 2]]
    >>> [batch.tolist() for batch in plan_batches(np.array([5, 90, 5, 88]), 200, packs=True)]
    [[1, 3, 0, 2]]
    """
    order = np.argsort(-lengths, kind="stable")
    total = int(lengths.sum())
    # Batches of one size: the last one of a full budget and a small rest would leave a device half empty.
    even = min(budget, -(-total // max(1, -(-total // budget))) + int(lengths.max(initial=0)))
    batches: list[NDArray[np.int64]] = []
    start = real = 0
    for end, index in enumerate(order):
        longest, here = int(lengths[order[start]]), int(lengths[index])
        padded = longest * (end - start + 1)
        if packs:
            fits = real + here <= even
        elif pads:
            fits = padded <= even and padded <= MOST_PADDING * (real + here)
        else:
            fits = padded <= even and here == longest
        if end > start and not fits:
            batches.append(order[start:end])
            start, real = end, 0
        real += here
    if len(order):
        batches.append(order[start:])
    return batches


def split(batch: NDArray[np.int64], lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Cut a batch in parts of at most so many padded tokens, each of at least one sequence.

    Parameters
    ----------
    batch
        Indices of its sequences, by falling length.
    lengths
        Tokens of all sequences, shape (sequence,).
    budget
        Most tokens of a part.

    Returns
    -------
    list of numpy.ndarray
        The parts, in order.
    """
    parts, start = [], 0
    while start < len(batch):
        step = max(1, budget // int(lengths[batch[start]]))
        parts.append(batch[start : start + step])
        start += step
    return parts
