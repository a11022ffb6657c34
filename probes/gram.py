"""Least squares from sums: one pass over the rows, then every penalty, target and fold without reading again.

The sums of a group of samples (count, sums of x and y, X'X, X'Y, Y'Y; float64) are all that a linear fit and its
squared error need, and sums of groups add up: the training samples of a fold are the groups that are not held out. Rows
are counted relative to the first one, so that large means of channels take no digits from their variances.

A token that stands for s nucleotides counts as s rows: its vector enters X'X times the number of its labels and X'Y
times their sum. Nothing is repeated to nucleotides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError, NonFiniteError
from embedstore.progress import progress_bar
from probes.chunks import BATCH, Chunk, chunk_of
from probes.targets import labelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from probes.dataset import ProbeData

CHUNK_BYTES = 64 * 2**20
"""Rows that are summed up at once, as float64."""
CONSTANT = 1e-13
"""A channel whose variance is a smaller share of its mean square about the shift is rounding noise: it is constant."""


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums over labelled positions; those of disjoint groups add up, and a group can be taken out again.

    Attributes
    ----------
    n
        Number of positions.
    shift
        (channel,) what was subtracted from every row before it was summed.
    x, y
        (channel,) and (target,) sums.
    xx, xy, yy
        (channel, channel), (channel, target) and (target,) sums of products; of Y'Y the diagonal.
    """

    n: float
    shift: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    yy: NDArray[np.float64]

    def __add__(self, other: Gram) -> Gram:
        return self._combine(other, 1)

    def __sub__(self, other: Gram) -> Gram:
        return self._combine(other, -1)

    def _combine(self, other: Gram, sign: int) -> Gram:
        if self.xy.shape != other.xy.shape:
            raise InputError(
                f"sums of {self.xy.shape} and of {other.xy.shape} (channels, targets) do not add up: they are of "
                "different models or tasks."
            )
        there = other.about(self.shift)
        sums = (getattr(self, name) + sign * getattr(there, name) for name in ("x", "y", "xx", "xy", "yy"))
        return Gram(self.n + sign * there.n, self.shift, *sums)

    def about(self, shift: NDArray[np.float64]) -> Gram:
        """Return the sums of rows less another shift.

        Parameters
        ----------
        shift
            (channel,) float64.

        Returns
        -------
        Gram
        """
        move = self.shift - shift
        if not move.any():
            return self
        cross = np.outer(self.x, move)
        xx = self.xx + cross + cross.T + self.n * np.outer(move, move)
        return Gram(self.n, shift, self.x + self.n * move, self.y, xx, self.xy + np.outer(move, self.y), self.yy)

    @property
    def variance(self) -> NDArray[np.float64]:
        """(target,) variance of the labels."""
        return np.asarray(np.maximum(self.yy - self.y**2 / max(self.n, 1), 0) / max(self.n, 1))


def gram_sums(
    data: ProbeData, groups: ArrayLike, targets: ArrayLike | None = None, *, progress: bool = False
) -> dict[str, Gram]:
    """Go through samples once and sum up each group of them.

    Memory is that of two chunks and of the sums, however many rows there are. Positions without a label are left out.
    The size of the chunks changes results by rounding only (about 1e-13 of the largest sum).

    Parameters
    ----------
    data
        The samples. Labels of classes become one target of 0 and 1 for each.
    groups
        (sample,) name of the group of each, in the order of `data.samples`.
    targets
        Indices of targets that have labels at the same positions (`label_patterns`), default all.
    progress
        Show a progress bar.

    Returns
    -------
    dict of str to Gram
        In the order of their names.

    Raises
    ------
    NonFiniteError
        A row with labels holds NaN or infinity.
    InputError
        Groups are not as many as samples, or targets lack labels at different positions.
    """
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if group_of.shape != data.samples.shape:
        raise InputError(f"{data!r}: {group_of.shape} groups for {len(data):,} samples; each needs exactly one.")
    chosen = np.arange(len(data.targets.names)) if targets is None else np.asarray(targets)
    sums: list[_Sums] = []
    shift = None
    for chunk in _chunks(data, chosen, progress):
        if shift is None:
            shift = chunk.x[0].astype(np.float64)
            shift[~np.isfinite(shift)] = 0
            sums = [_Sums(data.width, len(chosen)) for _ in names]
        _add(sums, chunk, shift, group_of, data)
    if shift is None:
        shift, sums = np.zeros(data.width), [_Sums(data.width, len(chosen)) for _ in names]
    return {str(name): one.gram(shift) for name, one in zip(names, sums, strict=True)}


def label_patterns(*parts: ProbeData) -> list[NDArray[np.int64]]:
    """Group the targets that have labels at the same positions: each group is fitted from sums of its own.

    Parameters
    ----------
    *parts
        Samples of one task.

    Returns
    -------
    list of numpy.ndarray
        Indices of targets; one group where no labels are missing, or whole positions are.
    """
    targets, record = parts[0].targets, parts[0].record
    pattern = np.zeros(len(targets.names), np.int64)
    if record.type != "class" and record.level != "nucleotide":  # else there is one label per position
        for samples in (part.samples[start : start + BATCH] for part in parts for start in range(0, len(part), BATCH)):
            known = labelled(targets.of(samples)).numpy()
            if not known.all():
                pattern = np.unique(np.vstack([pattern, known]), axis=1, return_inverse=True)[1]
    first = np.unique(pattern, return_index=True)[1]
    return [np.flatnonzero(pattern == pattern[target]) for target in np.sort(first)]


def solve_ridge(
    gram: Gram, penalties: ArrayLike, *, scale: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Solve ridge regressions with intercepts for all penalties and targets by one eigendecomposition.

    Equal to `sklearn.linear_model.Ridge(alpha)` on standardised rows, expressed for rows as they are.

    Parameters
    ----------
    gram
        Sums of the training positions.
    penalties
        (p,) factors of the squared norm of the coefficients, above 0; scikit-learn's alpha.
    scale
        Scale channels to unit variance (default); constant channels get coefficient 0. Else the penalty is on
        the coefficients of the rows as they are.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Coefficients (p, channel, target) and intercepts (p, target).

    Raises
    ------
    InputError
        There is no labelled position, or a penalty is not above 0.
    """
    alphas = checked_penalties(penalties)
    if gram.n < 1:
        raise InputError("there is no labelled position to fit: the sums are empty.")
    mean, label_mean = gram.x / gram.n, gram.y / gram.n
    xx = gram.xx - np.outer(mean, gram.x)
    spread = np.maximum(np.diag(xx), 0) / gram.n
    varies = spread > CONSTANT * np.diag(gram.xx) / gram.n
    factor = np.where(varies, 1 / np.sqrt(np.where(varies & scale, spread, 1)), 0)
    value, vector = np.linalg.eigh(factor[:, None] * xx * factor)
    right = vector.T @ (factor[:, None] * (gram.xy - np.outer(mean, gram.y)))
    damped = right[:, None, :] / (np.maximum(value, 0)[:, None, None] + alphas[:, None])
    channels, targets = gram.xy.shape
    solved = factor[:, None] * (vector @ damped.reshape(channels, -1))
    coefficient = solved.reshape(channels, len(alphas), targets).transpose(1, 0, 2)
    return coefficient, label_mean - (gram.shift + mean) @ coefficient


def squared_error(gram: Gram, coefficient: NDArray[np.float64], intercept: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of squared errors of linear predictions, from sums alone.

    Parameters
    ----------
    gram
        Sums of the positions to predict.
    coefficient, intercept
        (..., channel, target) and (..., target).

    Returns
    -------
    numpy.ndarray
        (..., target) float64, 0 or more.
    """
    channels = len(gram.x)
    flat = np.moveaxis(coefficient, -2, 0)
    shape = flat.shape[1:]
    flat = flat.reshape(channels, -1)
    quadratic = np.einsum("ck,ck->k", flat, gram.xx @ flat).reshape(shape)
    linear = (gram.x @ flat).reshape(shape)
    product = np.einsum("c...t,ct->...t", flat.reshape(channels, *shape), gram.xy)
    constant = intercept + (gram.shift @ flat).reshape(shape)
    error = gram.yy - 2 * (product + constant * gram.y) + quadratic + 2 * constant * linear + gram.n * constant**2
    return np.asarray(np.maximum(error, 0))


def checked_penalties(penalties: ArrayLike) -> NDArray[np.float64]:
    """Refuse penalties that are not finite numbers above 0.

    Parameters
    ----------
    penalties
        One or more.

    Returns
    -------
    numpy.ndarray
        (p,) float64.

    Raises
    ------
    InputError
        There is none, or one is out of range.
    """
    values = np.atleast_1d(np.asarray(penalties, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"penalties must be one or more finite numbers above 0; got {values.tolist()}")
    return values


class _Sums:
    """Sums of a group while they grow; X'X in the order and the triangle that BLAS updates in place."""

    def __init__(self, channels: int, targets: int) -> None:
        self.n = 0.0
        self.x, self.y, self.yy = np.zeros(channels), np.zeros(targets), np.zeros(targets)
        self.xx, self.xy = np.zeros((channels, channels), order="F"), np.zeros((channels, targets))

    def add(self, x: NDArray[np.float64], n: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Add rows, shifted; those that stand for several labels are changed."""
        from scipy.linalg.blas import dsyrk

        self.n += float(n.sum())
        self.x += n @ x
        self.y += y.sum(axis=0)
        self.xy += x.T @ y
        if (n != 1).any():
            x *= np.sqrt(n)[:, None]
        self.xx = dsyrk(1.0, x.T, beta=1.0, c=self.xx, overwrite_c=1)

    def gram(self, shift: NDArray[np.float64]) -> Gram:
        """Return the sums."""
        xx = np.triu(self.xx) + np.triu(self.xx, 1).T
        return Gram(self.n, shift, self.x, self.y, xx, self.xy, self.yy)


def _add(
    sums: list[_Sums], chunk: Chunk, shift: NDArray[np.float64], group_of: NDArray[np.int64], data: ProbeData
) -> None:
    """Add a chunk to the sums of the groups of its samples."""
    owner = group_of[chunk.sample]
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(len(sums) + 1))
    for number, one in enumerate(sums):
        own = order[edges[number] : edges[number + 1]]
        if not len(own):
            continue
        x = np.subtract(chunk.x[own], shift, dtype=np.float64)
        if not np.isfinite(x.sum()):
            bad = np.unique(chunk.sample[own][~np.isfinite(x).all(axis=1)])
            raise NonFiniteError(
                f"{data!r}: rows of {len(bad):,} samples hold NaN or infinity: {data.samples[bad][:9].tolist()}. "
                "A fit would be NaN: leave these samples out, or embed again with a precision that holds the values."
            )
        one.add(x, chunk.n[own], chunk.y[own])
        one.yy += chunk.square[own].sum(axis=0)


def _chunks(data: ProbeData, targets: NDArray[np.int64], progress: bool) -> Iterator[Chunk]:
    """Yield the labelled rows of samples in chunks of about `CHUNK_BYTES` as float64."""
    limit = max(CHUNK_BYTES // (8 * data.width), 1)
    waiting: list[Chunk] = []
    rows = 0
    bar = progress_bar(None, "summing up", show=progress, total=len(data), unit="sample")
    with bar:
        for part in (part for parts in data.batches(BATCH) for part in parts):
            one = chunk_of(part, data, targets)
            waiting.append(one)
            rows += len(one.n)
            bar.update(len(part.samples))
            if rows >= limit:
                yield _join(waiting)
                waiting, rows = [], 0
    if rows:
        yield _join(waiting)


def _join(chunks: list[Chunk]) -> Chunk:
    return chunks[0] if len(chunks) == 1 else Chunk(*(np.concatenate(field) for field in zip(*chunks, strict=True)))
