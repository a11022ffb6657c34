"""Numbers of samples and rows: where pieces begin, which samples are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError, NotInStoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def offsets(counts: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where each of consecutive pieces begins, and where the last ends.

    Parameters
    ----------
    counts
        How long each piece is, shape (n,).

    Returns
    -------
    numpy.ndarray
        0 and the running sum, shape (n + 1,), int64.

    Examples
    --------
    >>> offsets(np.array([3, 1, 2]))
    array([0, 3, 4, 6])
    """
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def sample_indices(samples: ArrayLike | None, total: int) -> NDArray[np.int64]:
    """Return sample indices as an array, refusing any that do not exist.

    Parameters
    ----------
    samples
        Numbers of samples, from 0, in any order; None: all.
    total
        How many samples there are.

    Returns
    -------
    numpy.ndarray
        Shape (n,), int64.

    Raises
    ------
    InputError
        If they are no whole numbers.
    NotInStoreError
        If there is no such sample.
    """
    if samples is None:
        return np.arange(total)
    wanted = np.atleast_1d(np.asarray(samples))
    if wanted.size == 0:
        return np.empty(0, np.int64)
    if wanted.dtype.kind not in "iu":
        raise InputError(
            f"Samples are asked for by index (whole numbers from 0 to {total - 1}), not by {wanted.dtype}. "
            "`store.indices(task, ids)` gives the indices of ids."
        )
    bad = wanted[(wanted < 0) | (wanted >= total)]
    if len(bad):
        raise NotInStoreError(f"There is no sample {bad[0]}: samples are numbered 0 to {total - 1}.")
    return wanted.astype(np.int64).reshape(-1)


def ids_to_indices(ids: Sequence[str], known: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Return the index of each id, naming the first one that is unknown."""
    from embedstore.errors import did_you_mean

    place = {str(name): index for index, name in enumerate(known)}
    for name in ids:
        if name not in place:
            close = did_you_mean(name, place) if len(place) <= 100_000 else ""
            raise NotInStoreError(f"{where} has no sample {name!r}.{close}")
    return np.array([place[name] for name in ids], np.int64)
