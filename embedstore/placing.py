"""Which rows of a network's output are stored, and where: tokens or nucleotides, all or some, of one strand or of both.

A sample's stored rows stand for segments of its sequence. As a rule these are the tokens. Where both strands are
averaged they are the pieces between the token borders of either strand, so that the mean is exact at each nucleotide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedstore.layout import Resolution
    from embedstore.models import Piece


class Job(NamedTuple):
    """One input of a network and what becomes of its output.

    Attributes
    ----------
    ids
        All tokens that the network sees, shape (token,), int64.
    first, span
        The tokens `first` and those after it stand for so many nucleotides each, shape (kept token,); they weigh the
        mean over the sample.
    take
        Which output rows are stored, shape (row,), int64; None for those that `span` covers, in order.
    repeat
        How often each taken row is stored, shape (taken row,); None for once.
    row, rows
        Where they go: the first row, counted within the sample, and how many rows.
    """

    ids: NDArray[np.int64]
    first: int
    span: NDArray[np.int32]
    take: NDArray[np.int64] | None
    repeat: NDArray[np.int32] | None
    row: int
    rows: int


class Placed(NamedTuple):
    """The stored rows of a sample.

    Attributes
    ----------
    jobs
        What is computed for it.
    span
        Nucleotides of each stored row, shape (row,).
    start
        First nucleotide of each stored row, shape (row,); None where rows tile the sequence.
    """

    jobs: list[Job]
    span: NDArray[np.int64]
    start: NDArray[np.int64] | None


def place(
    pieces: Sequence[Piece],
    *,
    reverse: Sequence[Piece] | None = None,
    resolution: Resolution = "token",
    positions: NDArray[np.int64] | None = None,
) -> Placed:
    """Lay the outputs of a sample's pieces out on its stored rows.

    Parameters
    ----------
    pieces
        From `Model.pieces` of the sequence.
    reverse
        From `Model.pieces` of its reverse complement, where both strands are averaged.
    resolution
        ``"token"`` (default) or ``"nucleotide"``.
    positions
        Nucleotides whose rows are kept, 0-based, shape (position,); None (default) for all.

    Returns
    -------
    Placed
        Jobs of the forward strand first. Where there are two strands, the stored row is the mean of both.

    Raises
    ------
    InputError
        If a position lies outside of the sequence.
    """
    if reverse is None and positions is None:
        return _all_rows(pieces, resolution)
    length = sum(int(piece.span.sum()) for piece in pieces)
    ends = np.cumsum(np.concatenate([piece.span for piece in pieces]))
    if reverse is not None:
        ends = np.union1d(ends, length - np.cumsum(np.concatenate([piece.span for piece in reverse]))[:-1])
    if resolution == "nucleotide":
        ends = np.arange(1, length + 1)
    starts = np.concatenate([[0], ends[:-1]])
    if positions is not None:
        outside = positions[(positions < 0) | (positions >= length)]
        if len(outside):
            raise InputError(f"there is no position {outside[0]}: they are numbered 0 to {length - 1}.")
        kept = np.unique(np.searchsorted(ends, positions, side="right"))
        starts, ends = starts[kept], ends[kept]
    jobs = _jobs(pieces, ends)
    if reverse is not None:
        # On the other strand a segment [start, end) is [length - end, length - start), and rows come in reverse.
        total = len(ends)
        for job in _jobs(reverse, (length - starts)[::-1]):
            assert job.take is not None
            jobs.append(job._replace(take=job.take[::-1], row=total - job.row - job.rows))
    return Placed(jobs, ends - starts, starts if positions is not None else None)


def _all_rows(pieces: Sequence[Piece], resolution: Resolution) -> Placed:
    """Keep every row of the forward strand: what is done nearly always."""
    jobs, row = [], 0
    for piece in pieces:
        repeat = piece.span if resolution == "nucleotide" else None
        rows = int(piece.span.sum()) if repeat is not None else len(piece.span)
        jobs.append(Job(piece.ids, piece.first, piece.span, None, repeat, row, rows))
        row += rows
    if resolution == "nucleotide":
        return Placed(jobs, np.ones(row, np.int64), None)
    span = pieces[0].span if len(pieces) == 1 else np.concatenate([piece.span for piece in pieces])
    return Placed(jobs, span, None)


def _jobs(pieces: Sequence[Piece], ends: NDArray[np.int64]) -> list[Job]:
    """Find the token of each segment; pieces in order, segments by their ends on the same strand."""
    jobs, begin, row = [], 0, 0
    for piece in pieces:
        borders = begin + np.cumsum(piece.span)
        stop = int(np.searchsorted(ends, borders[-1], side="right"))
        # A segment never straddles the border of a token: the token that covers it is the first to end at or after it.
        take = piece.first + np.searchsorted(borders, ends[row:stop], side="left")
        jobs.append(Job(piece.ids, piece.first, piece.span, take.astype(np.int64), None, row, stop - row))
        begin, row = int(borders[-1]), stop
    return jobs
