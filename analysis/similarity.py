"""How alike the spaces are that models make of the same samples: centred kernel alignment, from one pass of sums."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.representations import choose_samples
from embedstore.errors import InputError
from probes.reading import open_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from embedstore.rows import Embedding
    from embedstore.store import Store

_AT_ONCE = 4096


class _Moments(NamedTuple):
    """Sums over samples of two spaces x and y, from which both kinds of HSIC follow; all arrays float64.

    xy: (x channel, y channel). x, y: (channel,). x_norms, y_norms, norms: sums of |x|^2, |y|^2 and |x|^2 |y|^2 of each
    sample. x_by, y_by: (channel,) x times |y|^2, y times |x|^2.
    """

    xy: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_norms: float
    y_norms: float
    norms: float
    x_by: NDArray[np.float64]
    y_by: NDArray[np.float64]

    @classmethod
    def of(cls, x: NDArray[np.float64], y: NDArray[np.float64]) -> _Moments:
        """Sum up samples, (sample, channel) each."""
        k, l = (x**2).sum(axis=1), (y**2).sum(axis=1)  # noqa: E741 - the names of the two kernels in the source
        return cls(x.T @ y, x.sum(axis=0), y.sum(axis=0), k.sum(), l.sum(), k @ l, l @ x, k @ y)

    def plus(self, other: _Moments) -> _Moments:
        """Add the sums of other samples."""
        pairs: Any = zip(self, other, strict=True)
        return _Moments(*(mine + theirs for mine, theirs in pairs))

    def hsic(self, n: int) -> float:
        """Return the biased estimate times (n - 1)^2: the squared norm of the centred cross product."""
        return float(((self.xy - np.outer(self.x, self.y) / n) ** 2).sum())

    def unbiased(self, n: int) -> float:
        """Return the estimate of Song et al. 2012, equation 5, times n (n - 3); its kernels have no diagonal."""
        trace = (self.xy**2).sum() - self.norms
        ones_k, ones_l = self.x @ self.x - self.x_norms, self.y @ self.y - self.y_norms
        both = self.x @ self.xy @ self.y - self.y_by @ self.y - self.x_by @ self.x + self.norms
        return float(trace + ones_k * ones_l / ((n - 1) * (n - 2)) - 2 * both / (n - 2))


def cka(x: ArrayLike, y: ArrayLike, *, debiased: bool = True) -> float:
    """Linear centred kernel alignment of two sets of vectors of the same samples.

    Parameters
    ----------
    x, y
        (sample, channel) each; the numbers of channels may differ.
    debiased
        Use the unbiased estimate of HSIC (default), whose value of unrelated vectors is 0 on average. The biased one
        rises to 1 where channels are as many as samples, whatever the vectors are.

    Returns
    -------
    float
        1 where one is the other turned, moved and scaled as a whole; NaN where a space does not vary, or so little that
        the unbiased estimate is not above 0.

    Raises
    ------
    InputError
        The samples are not as many, or fewer than four.

    Notes
    -----
    Sources: Kornblith et al. 2019, arXiv:1905.00414; unbiased HSIC, Song et al. 2012, JMLR 13:1393, equation 5. Both
    are computed from sums over samples; the kernel of all pairs of samples is never made.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(cka(points, 7 * points[:, ::-1] + 1), 6)
    1.0
    """
    spaces = [np.asarray(each, np.float64) for each in (x, y)]
    if len(spaces[0]) != len(spaces[1]) or len(spaces[0]) < 4:
        raise InputError(f"{len(spaces[0])} and {len(spaces[1])} samples; as many are wanted, four or more.")
    return _alignment(_sums(iter([spaces])), (0, 1), len(spaces[0]), debiased)


def similarity_table(
    store: Store,
    spaces: Sequence[tuple[str, str]],
    *,
    limit: int = 50_000,
    splits: str | Sequence[str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the spaces of several models, pair by pair, by linear CKA over means of samples.

    Samples are told by their ids, so that coding sequences under one model compare with their proteins under another.

    Parameters
    ----------
    store
        An open store.
    spaces
        (task, model) of each. The samples are those of the first one; the others must have all of them.
    limit
        Samples at most, drawn at random; default 50,000. Memory does not depend on it: it is that of the channels of
        each pair of spaces, squared.
    splits, seed
        As for `embedding_map`, of the first space.

    Returns
    -------
    pandas.DataFrame
        A row per pair, each with itself included: a, b (``"task/model"``, or the model where all are of one task), cka,
        cka_debiased, samples. See `cka`.

    Raises
    ------
    InputError
        There are fewer than four samples, or no space.
    NotInStoreError
        A sample of the first space is not in another.
    """
    if not spaces:
        raise InputError("no space to compare: give (task, model) pairs.")
    embeddings = [open_rows(store, task, model) for task, model in spaces]
    chosen = [choose_samples(embeddings[0], splits, limit, seed)]
    ids = store.samples(spaces[0][0])["id"].to_numpy()[chosen[0]].tolist()
    chosen += [store.indices(task, ids) for task, _ in spaces[1:]]
    n = len(ids)
    if n < 4:
        raise InputError(f"{store.path}: {n} samples; similarity needs four or more.")
    sums = _sums(_chunks(embeddings, chosen))
    one = len({task for task, _ in spaces}) == 1
    names = [model if one else f"{task}/{model}" for task, model in spaces]
    rows = []
    for a, b in combinations_with_replacement(range(len(spaces)), 2):
        values = {"cka": _alignment(sums, (a, b), n, False), "cka_debiased": _alignment(sums, (a, b), n, True)}
        rows.append({"a": names[a], "b": names[b], **values, "samples": n})
    return pd.DataFrame(rows)


def _chunks(
    embeddings: Sequence[Embedding], chosen: Sequence[NDArray[np.int64]]
) -> Iterator[list[NDArray[np.float64]]]:
    """Yield the means of some samples at a time, of every space."""
    for start in range(0, len(chosen[0]), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        yield [one.pooled(own[part]).astype(np.float64) for one, own in zip(embeddings, chosen, strict=True)]


def _sums(chunks: Iterator[list[NDArray[np.float64]]]) -> dict[tuple[int, int], _Moments]:
    """Add up the moments of every pair of spaces."""
    found: dict[tuple[int, int], _Moments] = {}
    shift: list[NDArray[np.float64]] = []
    for chunk in chunks:
        shift = shift or [x.mean(axis=0) for x in chunk]  # large means would take digits from what varies
        moved = [x - mean for x, mean in zip(chunk, shift, strict=True)]
        for pair in combinations_with_replacement(range(len(chunk)), 2):
            here = _Moments.of(moved[pair[0]], moved[pair[1]])
            found[pair] = found[pair].plus(here) if pair in found else here
    return found


def _alignment(sums: dict[tuple[int, int], _Moments], pair: tuple[int, int], n: int, debiased: bool) -> float:
    """Return CKA of a pair of spaces."""
    between, *own = (sums[each] for each in (pair, (pair[0], pair[0]), (pair[1], pair[1])))
    across, first, second = ((one.unbiased if debiased else one.hsic)(n) for one in (between, *own))
    # What rounding leaves of a space that does not vary is no variance.
    least = [1e-24 * (each.x_norms**2 + (each.x @ each.x) ** 2) for each in own]
    if first <= least[0] or second <= least[1]:
        return float("nan")
    return across / float(np.sqrt(first) * np.sqrt(second))
