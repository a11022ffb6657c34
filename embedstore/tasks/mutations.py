"""Variants of one parent, given as genotypes: their coding sequences, with every reference letter checked.

A table of amino-acid variants does not say which codon was made. The rule here, ``"nearest"``: of the codons of the new
amino acid, the one with the fewest nucleotides changed from the parent's codon; among equals the one that the parent's
coding sequence uses most, then the first in the order of the letters. It changes as little of the parent as can be, and
every variant keeps the parent's codons everywhere else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.coding import CODONS, clean_cds, genetic_code, read_codons, translate
from embedstore.errors import InputError
from embedstore.sequences import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Mutation", "change_nucleotides", "change_residues", "parse_genotype"]

_TOKEN = re.compile(r"S?([A-Z*])(\d+)([A-Z*])")


class Mutation(NamedTuple):
    """A letter in place of another.

    Attributes
    ----------
    position : int
        Place in the parent's sequence, from 0.
    reference : str
        The parent's letter there.
    alternate : str
        The letter in its place.
    """

    position: int
    reference: str
    alternate: str


def parse_genotype(text: str, *, first: int = 0) -> list[Mutation]:
    """Read a genotype as Sarkisyan et al. 2016 write it.

    Parameters
    ----------
    text
        Substitutions joined by ``:``, each of the reference letter, the position and the new letter, with or without an
        ``S`` before it: ``SA108D:SN144D``. Empty for the parent itself.
    first
        Position of the first letter; 0 by default.

    Returns
    -------
    list of Mutation
        In the order of the text.

    Raises
    ------
    InputError
        If a part is something else, or a position is given twice.

    Examples
    --------
    >>> parse_genotype("SA108D:SN144D")
    [Mutation(position=108, reference='A', alternate='D'), Mutation(position=144, reference='N', alternate='D')]
    """
    found = []
    for part in text.strip().split(":") if text.strip() else []:
        match = _TOKEN.fullmatch(part)
        # The S is the sign of a substitution; in S65T it is serine.
        if match is None:
            raise InputError(
                f"genotype {text!r}: {part!r} is no substitution; the reference letter, the position and the new "
                "letter are wanted, as in SA108D."
            )
        found.append(Mutation(int(match[2]) - first, match[1], match[3]))
    if len({one.position for one in found}) != len(found):
        raise InputError(f"genotype {text!r}: a position is changed twice; each once is wanted.")
    return found


def change_nucleotides(parent: NDArray[np.uint8], mutations: Sequence[Mutation]) -> NDArray[np.uint8]:
    """Return a coding sequence with nucleotides changed.

    Parameters
    ----------
    parent
        (nucleotide,) uint8, the parent's coding sequence.
    mutations
        What to change; positions are nucleotides.

    Returns
    -------
    numpy.ndarray
        (nucleotide,) uint8, a new array.

    Raises
    ------
    InputError
        If a reference letter is not the parent's, or a position is outside.
    """
    _check(decode(parent), mutations, "nucleotide")
    changed = parent.copy()
    for one in mutations:
        if one.alternate not in "ACGT":
            raise InputError(f"nucleotide {one.position}: {one.alternate!r} is none of A, C, G, T.")
        changed[one.position] = ord(one.alternate)
    return changed


def change_residues(parent: NDArray[np.uint8], mutations: Sequence[Mutation], *, table: int = 1) -> NDArray[np.uint8]:
    """Return a coding sequence with residues changed; see the head of this module for the choice of codons.

    Parameters
    ----------
    parent
        (nucleotide,) uint8, the parent's coding sequence.
    mutations
        What to change; positions are residues, and ``*`` is a stop codon.
    table
        Genetic code; 1 by default.

    Returns
    -------
    numpy.ndarray
        (nucleotide,) uint8, a new array.

    Raises
    ------
    InputError
        If a reference letter is not the parent's, a position is outside, or a letter has no codon.

    Examples
    --------
    >>> from embedstore.sequences import decode, encode
    >>> decode(change_residues(encode("ATGGCTTGG"), [Mutation(1, "A", "V")]))
    'ATGGTTTGG'
    """
    letters = decode(parent)
    _check(_residues(letters, table), mutations, "residue")
    changed = parent.copy()
    for one in mutations:
        start = 3 * one.position
        changed[start : start + 3] = list(_nearest(letters, letters[start : start + 3], one.alternate, table).encode())
    return changed


@lru_cache(maxsize=8)
def _residues(parent: str, table: int) -> str:
    """Translate a parent."""
    return translate(clean_cds(parent), table)


@lru_cache(maxsize=8)
def _usage(parent: str) -> NDArray[np.int64]:
    """Count the codons of a parent."""
    index = read_codons([clean_cds(parent)]).index
    return np.bincount(index[index >= 0], minlength=64)


@lru_cache(maxsize=10_000)
def _nearest(parent: str, codon: str, amino_acid: str, table: int) -> str:
    """Return the codon of an amino acid that is nearest to another codon."""
    synonyms = genetic_code(table).synonyms(amino_acid)
    if not len(synonyms):
        raise InputError(
            f"{amino_acid!r} has no codon in genetic code {table}; one of the twenty amino acids, or *, is wanted."
        )
    usage = _usage(parent)
    changes = {index: sum(a != b for a, b in zip(CODONS[index], codon, strict=True)) for index in map(int, synonyms)}
    return str(CODONS[min(changes, key=lambda index: (changes[index], -usage[index], index))])


def _check(letters: str, mutations: Sequence[Mutation], what: str) -> None:
    """Refuse mutations of letters that are not the parent's."""
    for one in mutations:
        if not 0 <= one.position < len(letters):
            raise InputError(f"{what} {one.position} (from 0) is outside the parent, which has {len(letters):,}.")
        if letters[one.position] != one.reference:
            near = [
                step for step in (-1, 1, -2, 2)
                if 0 <= one.position + step < len(letters) and letters[one.position + step] == one.reference
            ]  # fmt: skip
            hint = (
                f" It is {one.reference!r} at {one.position + near[0]}: is the count from another first?"
                if near
                else ""
            )
            raise InputError(
                f"{what} {one.position} (from 0) of the parent is {letters[one.position]!r}, the genotype says "
                f"{one.reference!r}.{hint}"
            )
