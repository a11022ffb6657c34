"""Convolution and averaging over rows that stand for several nucleotides each.

A row of a token stands for `span` nucleotides that all have its vector. A convolution over nucleotides sees, inside a
long span, the same vectors at every position, so its result again has few different values per token: those near
the token's two ends, and one for everything between. The functions here work out which: they turn rows with spans
into rows with spans, and nothing is ever repeated to nucleotides before the last layer.

Every step is a sum of gathered rows, kept as a sparse matrix together with its transpose. Forward and backward pass
are then both gathers, fast on a processor and deterministic on a GPU, where a scatter-add is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch.nn.functional import embedding_bag

from embedstore.errors import InputError
from embedstore.indices import offsets

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Window = int | Literal["all"] | None


class Bags(NamedTuple):
    """Rows of a table to add up: `row[start[i]:start[i + 1]]` for output i, times `weight` where there is one."""

    row: torch.Tensor
    start: torch.Tensor
    weight: torch.Tensor | None

    def sum(self, table: torch.Tensor) -> torch.Tensor:
        """Add up the rows of `table` (row, channel); outputs without rows are zero."""
        weight = None if self.weight is None else self.weight.to(table.dtype)
        return embedding_bag(
            self.row, table, self.start, mode="sum", per_sample_weights=weight, include_last_offset=True
        )

    def to(self, device: torch.device | str) -> Bags:
        """Copy to a device."""
        weight = None if self.weight is None else self.weight.to(device)
        return Bags(self.row.to(device), self.start.to(device), weight)


class Gather(NamedTuple):
    """A sparse matrix as the bags of its rows (`forward`) and of its columns (`backward`)."""

    forward: Bags
    backward: Bags

    def to(self, device: torch.device | str) -> Gather:
        """Copy to a device."""
        return Gather(self.forward.to(device), self.backward.to(device))


class Layout(NamedTuple):
    """How the rows of some sequences become the outputs of a two-layer CNN; made by `layout`."""

    conv1: Gather
    conv2: Gather
    output: Gather

    def to(self, device: torch.device | str) -> Layout:
        """Copy to a device.

        Parameters
        ----------
        device
            Where the network is.

        Returns
        -------
        Layout
            The same layout there.
        """
        return Layout(*(part.to(device) for part in self))


class _GatherSum(torch.autograd.Function):
    """Product of a constant sparse matrix and a dense table; the gradient is the product with its transpose."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, gather: Gather) -> torch.Tensor:
        ctx.backward_bags = gather.backward
        return gather.forward.sum(table)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.backward_bags.sum(gradient.contiguous()), None


def gather_sum(table: torch.Tensor, gather: Gather) -> torch.Tensor:
    """Multiply a sparse matrix by a table, with a gradient for the table.

    Parameters
    ----------
    table
        (row, channel) float.
    gather
        The sparse matrix, (output, row).

    Returns
    -------
    torch.Tensor
        (output, channel), of the type of `table`.
    """
    result: torch.Tensor = _GatherSum.apply(table, gather)  # type: ignore[no-untyped-call]
    return result


def layout(span: ArrayLike, first_row: ArrayLike, kernel: int = 3, window: Window = None) -> Layout:
    """Plan a two-layer CNN over the rows of some sequences, each as if it were alone.

    Parameters
    ----------
    span
        (row,) int, nucleotides that each row stands for, the sequences one after another.
    first_row
        (sequence + 1,) int, where each sequence's rows begin, and the end.
    kernel
        Width of both convolutions in nucleotides, odd.
    window
        What an output stands for: None, one nucleotide; a number, that many nucleotides, an incomplete last window
        being dropped; ``"all"``, the sequence.

    Returns
    -------
    Layout
        For `probes.cnn.CNN.forward_tokens`; outputs are in the order of the sequences, without gaps.

    Raises
    ------
    InputError
        The kernel is even or a window is less than one nucleotide.

    Examples
    --------
    Two six-letter tokens: rows after the first convolution are their first letter, the four between, the last.

    >>> layout([6, 6], [0, 2]).conv1.forward.start.tolist()
    [0, 2, 5, 8, 11, 14, 16]
    """
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"the kernel must be an odd number of nucleotides; got {kernel}")
    if isinstance(window, int) and window < 1:
        raise InputError(f"the window must be one nucleotide or more; got {window}")
    spans, first = np.asarray(span, dtype=np.int64), np.asarray(first_row, dtype=np.int64)
    gathers = []
    for _ in range(2):
        rows = len(spans) * kernel
        spans, first, index, start = _convolve(spans, first, kernel)
        gathers.append(_gather(index, start, rows))
    return Layout(gathers[0], gathers[1], output_gather(spans, first, window))


def output_gather(span: ArrayLike, first_row: ArrayLike, window: Window) -> Gather:
    """Plan the last step of a network: rows become outputs, by repeating or averaging them.

    Parameters
    ----------
    span, first_row, window
        As for `layout`.

    Returns
    -------
    Gather
        One output per nucleotide (the row that stands for it), or per window (the mean over its nucleotides).
    """
    spans, first = np.asarray(span, dtype=np.int64), np.asarray(first_row, dtype=np.int64)
    if window is None:
        index = np.repeat(np.arange(len(spans)), spans)
        return selection(index, len(spans))
    index, start, nucleotides, widths = window_rows(spans, first, window)
    return _gather(index, start, len(spans), nucleotides / np.repeat(widths, np.diff(start)))


def _gather(
    index: NDArray[np.int64], start: NDArray[np.int64], rows: int, weight: NDArray[np.float64] | None = None
) -> Gather:
    """Make the sparse matrix and its transpose from the bags of its rows."""
    data = np.ones(len(index), dtype=np.int8) if weight is None else weight
    shape = (len(start) - 1, rows)
    matrix = scipy.sparse.csr_array((data, index.astype(np.int32), start.astype(np.int32)), shape=shape)
    transpose = matrix.tocsc()

    def bags(part: Any) -> Bags:
        kept = None if weight is None else torch.from_numpy(part.data)
        return Bags(torch.from_numpy(part.indices), torch.from_numpy(part.indptr), kept)

    return Gather(bags(matrix), bags(transpose))


def _convolve(
    span: NDArray[np.int64], first: NDArray[np.int64], kernel: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows after a convolution (span, first) and, for each, its products in a (row x kernel) table."""
    reach = kernel // 2
    pieces = np.minimum(span, 2 * reach + 1)
    row = np.repeat(np.arange(len(span)), pieces)
    number = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    # The middle piece stands for all positions that see nothing but this row.
    new_span = np.where(number == reach, np.maximum(span[row] - 2 * reach, 1), 1)
    new_first = offsets(pieces)[first]

    row_at = np.repeat(np.arange(len(span)), span)
    edges = offsets(span)[first]
    low, high = (np.repeat(edge, np.diff(new_first))[:, None] for edge in (edges[:-1], edges[1:]))
    seen = (np.cumsum(new_span) - new_span)[:, None] + np.arange(-reach, reach + 1)
    inside = (seen >= low) & (seen < high)
    table_row = row_at[np.where(inside, seen, 0)] * kernel + np.arange(kernel)
    return new_span, new_first, table_row[inside], offsets(inside.sum(axis=1))


def selection(index: NDArray[np.int64], rows: int) -> Gather:
    """Plan to take rows by their numbers.

    Parameters
    ----------
    index
        (output,) row of each output.
    rows
        How many rows there are.

    Returns
    -------
    Gather
    """
    return _gather(index, np.arange(len(index) + 1), rows)


def window_rows(
    span: NDArray[np.int64], first: NDArray[np.int64], window: int | Literal["all"]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows in each window; one that straddles two windows is in both.

    Parameters
    ----------
    span, first, window
        As for `layout`.

    Returns
    -------
    index : numpy.ndarray
        (entry,) row; the entries of the windows follow one another.
    start : numpy.ndarray
        (window + 1,) where each window's entries begin.
    nucleotides : numpy.ndarray
        (entry,) nucleotides of the row inside the window.
    widths : numpy.ndarray
        (window,) nucleotides of each window.
    """
    edges = offsets(span)[first]
    lengths = np.diff(edges)
    widths = lengths if window == "all" else np.full(len(lengths), window)
    windows = lengths // np.maximum(widths, 1)

    place = np.arange(edges[-1]) - np.repeat(edges[:-1], lengths)
    number = place // np.repeat(widths, lengths)
    kept = number < np.repeat(windows, lengths)
    number = (number + np.repeat(np.cumsum(windows) - windows, lengths))[kept]
    row = np.repeat(np.arange(len(span)), span)[kept]
    begin = np.flatnonzero(np.diff(number, prepend=-1) | np.diff(row, prepend=-1))
    nucleotides = np.diff(begin, append=len(row))
    start = offsets(np.bincount(number[begin], minlength=int(windows.sum())))
    return row[begin], start, nucleotides, np.repeat(widths, windows)
