"""Which of many sequences are cut in the same way, so that one of them answers for all."""

from __future__ import annotations

from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError
from embedstore.sequences import AMINO_ACIDS

if TYPE_CHECKING:
    from embedstore.tokenizers.tokens import Alphabet

# Tables for bytes.translate, which is twice as fast as numpy's take: 1 for a letter that is not plain ...
_ODD = {
    "dna": bytes(chr(code) not in "ACGT" for code in range(256)),
    "protein": bytes(chr(code) not in AMINO_ACIDS for code in range(256)),
}
# ... and 1 for an amino acid whose letter stands for no nucleotide.
_NOT_NUCLEOTIDE = bytes(chr(code) in AMINO_ACIDS and chr(code) not in "ACGTUN" for code in range(256))


def alike(letters: np.ndarray, lengths: np.ndarray, alphabet: Alphabet, regular: bool) -> list[np.ndarray]:
    """Group the sequences that a rule cuts in the same way.

    Parameters
    ----------
    letters
        Sequences one after the other, shape (letter,), uint8.
    lengths
        Letters of each, shape (sequence,), int64.
    alphabet
        What the letters are.
    regular
        Whether the rule is (`WindowRule`); if not, each sequence is by itself.

    Returns
    -------
    list of ndarray
        Numbers of sequences, ascending, shape (sequence of the group,), int64: those of plain letters and one length
        together, each other one by itself. Groups are in the order of their first sequences. No sequence of a group of
        several is one that `embedstore.sequences.check_letters` refuses.

    Raises
    ------
    InputError
        If the lengths do not add up to the letters.
    """
    if int(np.sum(lengths)) != len(letters):
        raise InputError(
            f"The lengths of {len(lengths):,} sequences add up to {int(np.sum(lengths)):,}; there are {len(letters):,} "
            "letters. Give the sequences one after the other."
        )
    if not regular or len(lengths) < 2:
        return list(np.arange(len(lengths))[:, None])
    key = -1 - np.arange(len(lengths))
    filled = lengths.nonzero()[0]
    start = (lengths.cumsum() - lengths)[filled]
    text = letters.tobytes()
    plain = ~_any(text.translate(_ODD[alphabet]), start)
    if alphabet == "protein":  # letters of nucleotides alone may be DNA by mistake
        plain &= _any(text.translate(_NOT_NUCLEOTIDE), start)
    key[filled[plain]] = lengths[filled[plain]]
    if (key == key[0]).all():
        return [np.arange(len(lengths))]
    order = key.argsort(kind="stable")
    bounds = [0, *((key[order[1:]] != key[order[:-1]]).nonzero()[0] + 1).tolist(), len(order)]
    return sorted((order[low:high] for low, high in pairwise(bounds)), key=itemgetter(0))


def _any(marks: bytes, start: np.ndarray) -> np.ndarray:
    """Return whether each sequence has a letter that is marked by 1, shape (sequence,)."""
    found: np.ndarray = np.logical_or.reduceat(np.frombuffer(marks, bool), start)
    return found
