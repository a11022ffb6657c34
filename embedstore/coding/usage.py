"""Codon usage: how probable each codon is given its amino acid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.coding.composition import codon_counts
from embedstore.coding.genetic_code import CODONS, genetic_code
from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.coding.composition import Coding

ALL = "all"
"""The name of the group of all sequences."""


def codon_usage(
    sequences: Coding, groups: Sequence[str] | None = None, *, table: int = 1, pseudocount: float = 1.0
) -> pd.DataFrame:
    """Estimate the probability of each codon given its amino acid, per group of coding sequences.

    Parameters
    ----------
    sequences
        Coding sequences.
    groups
        The group of each sequence, such as its species. By default all are one group, ``"all"``.
    table
        Genetic code, default 1.
    pseudocount
        Added to the count of every codon, default 1: a Dirichlet prior, even over the synonymous codons. With 0, an
        amino acid that a group does not have has NaN.

    Returns
    -------
    pandas.DataFrame
        One row per group in alphabetical order, one column per codon in the order of `embedstore.coding.CODONS`;
        within a row the codons of one amino acid sum to 1, and so do the stop codons.

    Raises
    ------
    InputError
        There are no sequences, `groups` has another length than they, or the pseudocount is negative.

    Examples
    --------
    >>> from embedstore.sequences import encode
    >>> codon_usage([encode("AAAAAAAAG")], ["yeast"], pseudocount=0)[["AAA", "AAG"]].round(2)
            AAA   AAG
    yeast  0.67  0.33
    """
    import pandas as pd

    counts = codon_counts(sequences)
    names = [ALL] * len(counts) if groups is None else [str(group) for group in groups]
    if not len(counts) or len(names) != len(counts):
        raise InputError(f"{len(counts):,} coding sequences and {len(names):,} groups: codon usage takes one of each.")
    if pseudocount < 0:
        raise InputError(f"pseudocount={pseudocount}: it is added to counts, and cannot be negative.")
    summed = pd.DataFrame(counts, columns=list(CODONS)).groupby(np.array(names)).sum() + float(pseudocount)
    return pd.DataFrame(within_families(summed.to_numpy(), table), summed.index, summed.columns)


def within_families(weights: NDArray[np.floating], table: int) -> NDArray[np.float64]:
    """Divide by the sum over the synonymous codons.

    Parameters
    ----------
    weights
        (..., 64), none negative.
    table
        Genetic code.

    Returns
    -------
    numpy.ndarray
        (..., 64) float64; NaN for the codons of an amino acid whose weights are all 0.
    """
    family = genetic_code(table).family
    total = weights @ (family[:, None] == family)
    share: NDArray[np.float64] = np.divide(weights, total, out=np.full(weights.shape, np.nan), where=total > 0)
    return share


def usage_rows(usage: pd.DataFrame, groups: Sequence[str], table: int) -> NDArray[np.float64]:
    """Return the usage of some groups, checked.

    Parameters
    ----------
    usage
        As `codon_usage` gives it; columns in any order. Rows that do not sum to 1 within an amino acid, such as those
        rounded to two decimals or made for another genetic code, are brought to 1.
    groups
        Names of rows, any number of times.
    table
        Genetic code of the sequences to be drawn.

    Returns
    -------
    numpy.ndarray
        (group, 64) float64.

    Raises
    ------
    InputError
        A column or a group is missing or there twice, a value is negative or not finite, or all codons of an amino acid
        are 0.
    """
    columns = [str(column).upper().replace("U", "T") for column in usage.columns]
    missing = [codon for codon in CODONS if columns.count(codon) != 1]
    if missing:
        raise InputError(
            f"A table of codon usage has one column for each codon; this one not for {', '.join(missing)}."
        )
    wanted = sorted(set(groups))
    known = [str(name) for name in usage.index]
    for group in wanted:
        if known.count(group) != 1:
            raise InputError(
                f"The table of codon usage has {known.count(group)} rows for {group!r}; one is wanted."
                f"{did_you_mean(group, known)}"
            )
    values = usage.to_numpy(np.float64)[[known.index(group) for group in wanted]]
    values = values[:, [columns.index(codon) for codon in CODONS]]
    bad = ~(np.isfinite(values) & (values >= 0)).all(axis=1)
    shares = within_families(np.where(bad[:, None], 1.0, values), table)
    code = genetic_code(table)
    drawn = (code.family > 0) & (code.size > 1)
    for group, wrong in zip(wanted, bad | np.isnan(shares[:, drawn]).any(axis=1), strict=True):
        if wrong:
            raise InputError(
                f"The codon usage of {group!r} has a value that is negative or not finite, or zeros for all codons of "
                f"an amino acid of genetic code {table}. Estimate it with a pseudocount above 0."
            )
    return shares[[wanted.index(group) for group in groups]]
