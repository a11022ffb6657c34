"""Which nucleotides of the windows of a variant are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.store import Store


class Pairs(NamedTuple):
    """Nucleotides of the reference and the alternate window that are compared.

    Attributes
    ----------
    variant
        Row of the variant table, ascending, shape (pair,).
    reference, alternate
        0-based place in either window, shape (pair,).
    """

    variant: NDArray[np.int64]
    reference: NDArray[np.int64]
    alternate: NDArray[np.int64]


def variant_positions(store: Store, task: str, *, around: int = 0) -> pd.DataFrame:
    """Return the nucleotides of each window that scores need, for ``embed(positions=...)``.

    Parameters
    ----------
    store, task
        Where a task of variants is.
    around
        Nucleotides on either side of the changed ones that are compared too, default 0; see `aligned_positions`.

    Returns
    -------
    pandas.DataFrame
        id, position (0-based in the window).
    """
    import pandas as pd

    table = store.variants(task)
    lengths, ids = store.lengths(task), store.samples(task)["id"].to_numpy()
    pairs = aligned_positions(table, lengths, around=around)
    reference, alternate = (table[column].to_numpy()[pairs.variant] for column in ("reference", "alternate"))
    sample = np.concatenate([reference, alternate[alternate >= 0]])
    position = np.concatenate([pairs.reference, pairs.alternate[alternate >= 0]])
    unique = np.unique(np.stack([sample, position], axis=1), axis=0)
    return pd.DataFrame({"id": ids[unique[:, 0]], "position": unique[:, 1]})


def aligned_positions(variants: pd.DataFrame, lengths: NDArray[np.int64], *, around: int = 0) -> Pairs:
    """Return which nucleotides of the two windows of each variant stand for the same place.

    Parameters
    ----------
    variants
        Of a task: reference, alternate, offset, removed, added.
    lengths
        Nucleotides of each sample of the task.
    around
        Nucleotides on either side that are compared too.

    Returns
    -------
    Pairs
        Where as many letters are put in as are taken out: these, and `around` on either side. Else the flanks only,
        `around` or at least one nucleotide on either side. Nucleotides outside of a window are left out, and variants
        that are not scored have none.

    Raises
    ------
    InputError
        If `around` is negative.
    """
    if around < 0:
        raise InputError(f"around is {around}; it must be 0 or more nucleotides.")
    scored = np.flatnonzero(variants["reference"].to_numpy() >= 0)
    table = variants.iloc[scored]
    offset = table["offset"].to_numpy(np.int64)
    removed, added = (table[column].str.len().to_numpy(np.int64) for column in ("removed", "added"))
    same = removed == added
    flank = max(around, 1)
    # One run of neighbours where the alleles are equally long, else one on the left and one on the right.
    begin = np.concatenate([np.where(same, offset - around, offset - flank), (offset + removed)[~same]])
    shift = np.concatenate([np.zeros_like(offset), (added - removed)[~same]])
    count = np.concatenate([np.where(same, removed + 2 * around, flank), np.full((~same).sum(), flank)])
    owner = np.concatenate([np.arange(len(scored)), np.flatnonzero(~same)])
    row = np.repeat(np.arange(len(begin)), count)
    place = begin[row] + np.arange(len(row)) - (np.cumsum(count) - count)[row]
    other = place + shift[row]
    number = owner[row]
    order = np.lexsort((place, number))
    reference = table["reference"].to_numpy(np.int64)[number]
    alternate = table["alternate"].to_numpy(np.int64)[number]
    inside = (place >= 0) & (place < lengths[reference]) & (other >= 0)
    inside &= other < np.where(alternate >= 0, lengths[alternate], lengths[reference])
    kept = order[inside[order]]
    return Pairs(scored[number[kept]], place[kept], other[kept])
