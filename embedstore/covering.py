"""Which stored row stands for a nucleotide, where in the row's token it is, and reading such rows lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array as da
    from numpy.typing import DTypeLike, NDArray

    from embedstore.rows import Embedding, Rows


def covering(
    embedding: Embedding, rows: Rows, number: NDArray[np.int64], position: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows that cover some nucleotides.

    Parameters
    ----------
    embedding
        Where the rows are from, for messages.
    rows
        What it read.
    number
        Number of the sample among those of `rows`, shape (nucleotide,).
    position
        0-based nucleotide in that sample, shape (nucleotide,).

    Returns
    -------
    row, within : numpy.ndarray
        Number of the row that covers each nucleotide, and the 0-based place of the nucleotide among those that the row
        stands for, each of shape (nucleotide,), int64.

    Raises
    ------
    InputError
        If no row covers a nucleotide; the first such is named.
    """
    owner = np.repeat(np.arange(len(rows.samples)), np.diff(rows.first_row))
    start = rows.start
    if start is None:
        before = np.cumsum(rows.span) - rows.span
        start = before - before[rows.first_row[:-1]][owner]
    # One ascending key for all samples: the row is the last one that begins at the nucleotide or before.
    longest = int(max((start + rows.span).max(initial=0), position.max(initial=0))) + 1
    row = np.searchsorted(owner * longest + start, number * longest + position, side="right") - 1
    found = row >= 0
    some = row[found]
    found[found] = (owner[some] == number[found]) & (position[found] < start[some] + rows.span[some])
    if not found.all():
        first = int(np.flatnonzero(~found)[0])
        name = embedding.store.sample_id(embedding.task, int(rows.samples[number[first]]))
        raise InputError(
            f"{embedding.store.path}: {embedding.task}/{embedding.name} has no row for nucleotide {position[first]} of "
            f"sample {name!r}: the rows of other positions were kept. Embed the task under another name with the "
            "positions that are wanted."
        )
    return row, position - start[row]


def rows_at(embedding: Embedding, sample: NDArray[np.int64], position: NDArray[np.int64] | None = None) -> da.Array:
    """Open the rows that cover some nucleotides, lazily, one dask chunk per block that has any.

    Parameters
    ----------
    embedding
        From `Store.embedding`.
    sample
        Indices of samples, ascending, shape (row,).
    position
        0-based nucleotide of each sample, shape (row,); None for the samples' means.

    Returns
    -------
    dask.array.Array
        (row, channel) float32; NaN where a sample was quarantined.

    Raises
    ------
    InputError
        If there is no row or mean to give; of positions that were not kept, when they are computed.
    IncompleteError
        If a block that is needed is not embedded yet.
    """
    return by_block(_covering_rows, embedding, sample, position, (embedding.width,), np.float32)


def by_block(
    function: Callable[..., NDArray[Any]],
    embedding: Embedding,
    sample: NDArray[np.int64],
    position: NDArray[np.int64] | None,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> da.Array:
    """Apply a function to what is asked of each block, lazily, one dask chunk per block that has any.

    Parameters
    ----------
    function
        Of the embedding, and the samples and positions that are all of one block; gives an array of as many values.
    embedding, sample, position
        As for `rows_at`.
    shape, dtype
        Of one value.

    Returns
    -------
    dask.array.Array
        (row, ...), in the order of `sample`.
    """
    import dask.array as da
    from dask.delayed import delayed

    edges = np.flatnonzero(np.diff(sample // embedding.geometry.samples_per_block)) + 1
    read: Any = delayed(function, pure=True)
    parts = []
    for place in np.split(np.arange(len(sample)), edges):
        where = None if position is None else position[place]
        parts.append(da.from_delayed(read(embedding, sample[place], where), (len(place), *shape), dtype))
    return da.concatenate(parts)  # type: ignore[no-any-return]


def _covering_rows(
    embedding: Embedding, sample: NDArray[np.int64], position: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Read the rows that cover a nucleotide of each sample, or the samples' means, all of one block."""
    wanted, number = np.unique(sample, return_inverse=True)
    if position is None:
        return embedding.pooled(wanted, quarantined=True)[number]
    rows = embedding.read(wanted, quarantined=True)
    return rows.vector[covering(embedding, rows, number, position)[0]].astype(np.float32)
