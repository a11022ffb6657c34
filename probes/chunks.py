"""Labelled rows of a part of the data: tokens with the labels they stand for, or means over bins and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError
from probes.spans import window_rows
from probes.targets import UNLABELLED, labelled, window_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from embedstore.tasks import TaskRecord
    from probes.dataset import Part, ProbeData

BATCH = 512
"""Samples that are asked for at once."""


class Chunk(NamedTuple):
    """Rows of some samples with the labels they stand for.

    Attributes
    ----------
    x
        (row, channel) any float.
    n
        (row,) labelled positions that the row stands for.
    y
        (row, target) float64, sum of the labels of these positions.
    square
        (row, target) float64, sum of their squares.
    sample
        (row,) place of the row's sample in the data.
    """

    x: NDArray[Any]
    n: NDArray[np.float64]
    y: NDArray[np.float64]
    square: NDArray[np.float64]
    sample: NDArray[np.int64]


def chunk_of(part: Part, data: ProbeData, targets: NDArray[np.int64]) -> Chunk:
    """Return the labelled rows of a part: tokens for labels of nucleotides, else means over the positions.

    Parameters
    ----------
    part
        Some samples.
    data
        Where they come from.
    targets
        Indices of targets.

    Returns
    -------
    Chunk

    Raises
    ------
    InputError
        Targets lack labels at different positions.
    """
    record = data.record
    x = part.vector.cpu().numpy()
    counts = data.targets.counts[part.samples]
    place = np.searchsorted(data.samples, part.samples)
    if record.level == "nucleotide":
        row, sample = np.repeat(np.arange(len(x)), part.span), np.repeat(place, np.diff(part.first_row))
    else:
        x, sample = position_means(x, part, record), np.repeat(place, counts)
        row = np.arange(len(x))
    n, y, square = _label_sums(part.target, row, len(x), len(data.targets.names), targets)
    if n.ndim != 1:
        raise InputError(
            f"{data!r}: some of the targets {targets.tolist()} have no label where others have one; sum up each "
            "group of `label_patterns` for itself."
        )
    kept = n > 0
    if kept.all():
        return Chunk(x, n, y, square, sample)
    return Chunk(x[kept], n[kept], y[kept], square[kept], sample[kept])


def position_means(values: NDArray[Any], part: Part, record: TaskRecord) -> NDArray[Any]:
    """Average rows over the nucleotides of each bin or sample.

    Parameters
    ----------
    values
        (row, channel) something per row of the part.
    part
        Says which nucleotides the rows stand for.
    record
        Of a task with labels of bins or of sequences.

    Returns
    -------
    numpy.ndarray
        (position, channel), float64 unless each position is one row.
    """
    from scipy.sparse import csr_array

    window = window_of(record)
    assert window is not None
    if window == "all" and len(values) == len(part.samples):
        return values
    row, start, nucleotides, widths = window_rows(part.span, part.first_row, window)
    shares = csr_array((nucleotides / np.repeat(widths, np.diff(start)), row, start), shape=(len(widths), len(values)))
    means: NDArray[Any] = shares @ values.astype(np.float64)
    return means


def _label_sums(
    target: torch.Tensor, row: NDArray[np.int64], rows: int, names: int, targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return for each row how many labels it stands for, their sum, and the sum of their squares.

    The first has a second axis where the targets differ in it.
    """
    labels = target.numpy()
    if not target.is_floating_point():
        known = labels != UNLABELLED
        cell = row[known] * names + labels[known]
        counts = np.bincount(cell, minlength=rows * names).reshape(rows, names).astype(np.float64)
        return counts.sum(axis=1), counts[:, targets], counts[:, targets]
    values = labels[:, targets].astype(np.float64)
    known = labelled(target).numpy()[:, targets]
    whole = bool((known == known[:, :1]).all())
    values = np.where(known, values, 0)
    n = (known[:, 0] if whole else known).astype(np.float64)
    if len(row) == rows:
        return n, values, values**2
    start = np.searchsorted(row, np.arange(rows))
    return tuple(np.add.reduceat(each, start, axis=0) for each in (n, values, values**2))  # type: ignore[return-value]
