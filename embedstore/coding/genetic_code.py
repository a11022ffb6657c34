"""Genetic codes of the NCBI as arrays over the 64 codons.

A codon of the letters A, C, G, T has the index 16 a + 4 b + c with A, C, G, T = 0, 1, 2, 3, which is also its place in
alphabetical order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODONS = tuple("".join(letters) for letters in product("ACGT", repeat=3))
"""The 64 codons in the order of their indices."""

STOP = ord("*")
"""What stands for a stop codon among amino acids."""


@dataclass(frozen=True, eq=False, repr=False)
class GeneticCode:
    """One translation table of the NCBI.

    Attributes
    ----------
    table : int
        Its number (``transl_table``).
    name : str
        Its name.
    amino_acid : numpy.ndarray
        (64,) uint8, the ASCII letter that a codon is translated to, ``*`` for a stop codon. Read-only.
    start : numpy.ndarray
        (64,) bool, whether translation can start at the codon, which then reads M whatever it stands for elsewhere.
    letters : str
        The letter of each family of synonymous codons, in alphabetical order; the first is ``*``.
    family : numpy.ndarray
        (64,) int64, number of a codon's family in `letters`, 0 for the stop codons.
    size : numpy.ndarray
        (64,) int64, how many codons the family has, the codon itself included.
    """

    table: int
    name: str
    amino_acid: NDArray[np.uint8]
    start: NDArray[np.bool_]
    letters: str
    family: NDArray[np.int64]
    size: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"GeneticCode({self.table}: {self.name})"

    def __reduce__(self) -> tuple[object, ...]:
        return genetic_code, (self.table,)

    def synonyms(self, letter: str) -> NDArray[np.int64]:
        """Return the codons of an amino acid.

        Parameters
        ----------
        letter
            One letter, ``*`` for the stop codons.

        Returns
        -------
        numpy.ndarray
            Indices of its codons, ascending; none where the table has no codon for it.

        Examples
        --------
        >>> [CODONS[i] for i in genetic_code(2).synonyms("W")]
        ['TGA', 'TGG']
        """
        return np.flatnonzero(self.amino_acid == ord(letter))


@cache
def genetic_code(table: int = 1) -> GeneticCode:
    """Return a genetic code by its number.

    Parameters
    ----------
    table
        ``transl_table`` of the NCBI; 1 (default) is the standard code, 11 that of bacteria, archaea and plastids.

    Returns
    -------
    GeneticCode
        The same object for the same number.

    Raises
    ------
    InputError
        There is no such table, or in it a codon is both a stop and an amino acid (27, 28, 31): which of the two a codon
        is there depends on its place, so that neither translation nor recoding is defined.

    Notes
    -----
    From ``Bio.Data.CodonTable`` of biopython, which follows ``gc.prt`` of the NCBI.

    Examples
    --------
    >>> chr(genetic_code(1).amino_acid[0]), genetic_code(11)
    ('K', GeneticCode(11: Bacterial))
    """
    from Bio.Data.CodonTable import unambiguous_dna_by_id

    if table not in unambiguous_dna_by_id:
        known = ", ".join(map(str, sorted(unambiguous_dna_by_id)))
        raise InputError(f"There is no genetic code {table!r}. Known translation tables of the NCBI: {known}.")
    found = unambiguous_dna_by_id[table]
    both = sorted(set(found.stop_codons) & set(found.forward_table))
    if both:
        raise InputError(
            f"In genetic code {table} {', '.join(both)} is a stop codon or an amino acid, depending on its place: "
            "coding sequences of this table can be neither translated nor recoded here."
        )
    text = "".join("*" if codon in found.stop_codons else found.forward_table[codon] for codon in CODONS)
    amino_acid = np.frombuffer(text.encode(), np.uint8)
    letters, family, count = np.unique(amino_acid, return_inverse=True, return_counts=True)
    start = np.isin(CODONS, found.start_codons)
    size = count[family]
    for array in (start, family, size):
        array.flags.writeable = False
    return GeneticCode(table, found.names[0], amino_acid, start, letters.tobytes().decode(), family, size)
