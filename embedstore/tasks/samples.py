"""Sequences and sample tables that come as values, not as regions of a genome."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError
from embedstore.regions import sample_table
from embedstore.sequences import clean_letters, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Literal

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.tokenizers.tokens import Alphabet

LETTER = {"dna": "nucleotide", "protein": "residue"}
"""What a letter of a sequence stands for."""


def encode_all(
    sequences: Iterable[str | NDArray[np.uint8]],
    other_letters: Literal["refuse", "N"],
    where: Callable[[int], str],
    alphabet: Alphabet = "dna",
) -> list[NDArray[np.uint8]]:
    """Encode sequences and check their letters.

    Parameters
    ----------
    sequences
        Texts or uint8 arrays of ASCII letters.
    other_letters
        ``"refuse"`` or ``"N"``.
    where
        Names the place of a row, for messages.
    alphabet
        ``"dna"`` (default) or ``"protein"``.

    Returns
    -------
    list of numpy.ndarray
        Each of shape (nucleotide,), dtype uint8.

    Raises
    ------
    InputError
        If a sequence is empty, of another type, or has a letter that is refused.
    """
    codes = []
    for row, given in enumerate(sequences):
        if not isinstance(given, str) and (given.dtype != np.uint8 or given.ndim != 1):
            raise InputError(f"{where(row)}: an array of {given.dtype}, shape {given.shape}; text or uint8 is wanted.")
        if not len(given):
            raise InputError(f"{where(row)}: the sequence is empty.")
        try:
            letters = encode(given if isinstance(given, str) else given.tobytes())
        except InputError as error:
            raise InputError(f"{where(row)}: {error}") from None
        codes.append(clean_letters(letters, other_letters, partial(_place, where(row), alphabet), alphabet))
    return codes


def _place(where: str, alphabet: Alphabet, index: int) -> str:
    return f"{where}: {LETTER[alphabet]} {index} (0-based)"


def loose_samples(
    ids: Sequence[str] | pd.Series[str],
    lengths: NDArray[np.int64],
    splits: Sequence[str] | pd.Series[str] | str | None,
    columns: pd.DataFrame | None,
    where: Callable[[int], str],
    alphabet: Alphabet,
) -> pd.DataFrame:
    """Make the sample table of sequences that were not cut from a genome.

    Parameters
    ----------
    ids
        One per sample.
    lengths
        Shape (sample,), int64, nucleotides.
    splits
        One per sample, one for all, or None for ``""``.
    columns
        More columns, one row per sample, or None.
    where
        Names the place of a row, for messages.
    alphabet
        What the sequences are made of.

    Returns
    -------
    pandas.DataFrame
        As :attr:`Task.samples`.

    Raises
    ------
    InputError
        If the numbers of rows differ, an id cannot be used, a column has a name that is taken, or a protein has a
        strand.
    """
    import pandas as pd

    others = pd.DataFrame(index=range(len(lengths))) if columns is None else columns.reset_index(drop=True)
    sizes = {"ids": len(ids), "columns": len(others)}
    if splits is not None and not isinstance(splits, str):
        sizes["splits"] = len(splits)
    for what, size in sizes.items():
        if size != len(lengths):
            raise InputError(f"{what} has {size:,} entries for {len(lengths):,} samples.")
    taken = [name for name in ("id", "split", "length") if name in others]
    if taken:
        raise InputError(f"columns has {taken[0]!r}, which every task has already. Give the column another name.")
    samples = pd.DataFrame({"chromosome": "", "start": 0, "end": lengths, "strand": ".", "length": lengths})
    samples["split"] = "" if splits is None else splits
    for name in ("chromosome", "start", "end", "strand"):
        if name in others:
            samples[name] = others.pop(name).astype(samples[name].dtype)
    stranded = np.flatnonzero(samples["strand"] == "-")
    if alphabet == "protein" and stranded.size:
        raise InputError(
            f"{where(int(stranded[0]))}: strand is '-', but a protein has no other strand. Give a column that holds "
            "the strand of its gene another name."
        )
    return sample_table(pd.Series(list(ids), dtype=str), samples, plain_columns(others), where)


def plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Bring columns to the types a store holds: int64, float64, bool or text.

    Parameters
    ----------
    frame
        Any columns.

    Returns
    -------
    pandas.DataFrame
        Numbers and truth values without gaps as they are; all else as text, a missing cell as ``""``.
    """
    frame = frame.copy()
    for name in frame.columns:
        column = frame[name]
        wide = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}.get(column.dtype.kind)
        if wide is not None and not (column.isna().any() and column.dtype.kind != "f"):
            frame[name] = column.to_numpy(wide)
        else:
            frame[name] = ["" if missing else str(cell) for cell, missing in zip(column, column.isna(), strict=True)]
    return frame
