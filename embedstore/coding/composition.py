"""Composition of coding sequences and proteins: one row of numbers per sample, the features of the simplest baselines.

Shares are over what is counted; where a sample has nothing to count they are NaN, never 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.coding.codons import Codons, read_codons
from embedstore.coding.genetic_code import genetic_code
from embedstore.indices import offsets
from embedstore.sequences import AMINO_ACIDS, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Coding = Codons | Sequence[NDArray[np.uint8]]
    """Coding sequences: as codons, or each (nucleotide,) uint8 of whole codons."""

_BASE = np.full(256, 4, np.uint8)
_BASE[list(b"ACGT")] = range(4)
_RESIDUE = np.full(256, -1, np.int64)
_RESIDUE[list(AMINO_ACIDS.encode())] = range(20)


def gc(sequences: Coding) -> NDArray[np.float64]:
    """Share of G and C among A, C, G and T.

    Parameters
    ----------
    sequences
        Coding sequences.

    Returns
    -------
    numpy.ndarray
        (sample, 1) float64.

    Examples
    --------
    >>> gc([encode("GGCATT"), encode("GCN")]).ravel()
    array([0.5, 1. ])
    """
    return _strong(_bases(sequences).sum(axis=1))


def gc3(sequences: Coding) -> NDArray[np.float64]:
    """Share of G and C among the third nucleotides of codons, those of Met, Trp and stop codons included.

    Parameters
    ----------
    sequences
        Coding sequences.

    Returns
    -------
    numpy.ndarray
        (sample, 1) float64.
    """
    return _strong(_bases(sequences)[:, 2])


def gc_skew(sequences: Coding) -> NDArray[np.float64]:
    """Return (G - C) / (G + C), between -1 and 1.

    Parameters
    ----------
    sequences
        Coding sequences.

    Returns
    -------
    numpy.ndarray
        (sample, 1) float64.
    """
    counts = _bases(sequences).sum(axis=1)
    return _share((counts[:, 2] - counts[:, 1])[:, None], counts[:, [1, 2]])


def codon_counts(sequences: Coding) -> NDArray[np.int64]:
    """Count the codons of each sample.

    Parameters
    ----------
    sequences
        Coding sequences.

    Returns
    -------
    numpy.ndarray
        (sample, 64) int64, in the order of `embedstore.coding.CODONS`; codons with other letters than A, C, G, T are
        not counted.
    """
    codons = _codons(sequences)
    return _table(codons.index, codons.first, 64)


def codon_frequencies(sequences: Coding) -> NDArray[np.float64]:
    """Share of each codon among all codons of a sample, stop codons included.

    Parameters
    ----------
    sequences
        Coding sequences.

    Returns
    -------
    numpy.ndarray
        (sample, 64) float64, in the order of `embedstore.coding.CODONS`.
    """
    counts = codon_counts(sequences)
    return _share(counts, counts)


def rscu(sequences: Coding, table: int = 1) -> NDArray[np.float64]:
    """Relative synonymous codon usage: how often a codon is used, over the mean of the codons of its amino acid.

    Parameters
    ----------
    sequences
        Coding sequences.
    table
        Genetic code, default 1.

    Returns
    -------
    numpy.ndarray
        (sample, codon) float64; the codons, `rscu_codons`, are those of amino acids with two or more, 59 in table 1. 1
        for all codons of an amino acid that a sample does not have: nothing is known against even usage.

    Notes
    -----
    Sharp, Tuohy and Mosurski 1986, Nucleic Acids Res. 14:5125.
    """
    code, counts = genetic_code(table), codon_counts(sequences)
    mean = counts @ (code.family[:, None] == code.family) / code.size
    values: NDArray[np.float64] = np.divide(counts, mean, out=np.ones(counts.shape), where=mean > 0)
    return values.take(rscu_codons(table), axis=1)


def rscu_codons(table: int = 1) -> NDArray[np.int64]:
    """Return the indices of the codons of amino acids that have two codons or more.

    Parameters
    ----------
    table
        Genetic code, default 1.

    Returns
    -------
    numpy.ndarray
        (codon,) int64, ascending.
    """
    code = genetic_code(table)
    return np.flatnonzero((code.size > 1) & (code.family > 0))


def codon_pairs(sequences: Coding) -> NDArray[np.float64]:
    """Share of each pair of codons that follow one another.

    Parameters
    ----------
    sequences
        Coding sequences.

    Returns
    -------
    numpy.ndarray
        (sample, 4096) float64, 32 KiB per sample; column 64 first + second. Pairs with a codon of other letters than A,
        C, G, T are not counted.
    """
    codons = _codons(sequences)
    return _pairs(codons.index.astype(np.int64), codons.first, 64)


def amino_acid_frequencies(proteins: Sequence[str]) -> NDArray[np.float64]:
    """Share of each amino acid among the twenty.

    Parameters
    ----------
    proteins
        Their letters; others than the twenty are not counted.

    Returns
    -------
    numpy.ndarray
        (sample, 20) float64, in the order of `embedstore.sequences.AMINO_ACIDS`.
    """
    residue, first = _residues(proteins)
    counts = _table(residue, first, 20)
    return _share(counts, counts)


def amino_acid_pairs(proteins: Sequence[str]) -> NDArray[np.float64]:
    """Share of each pair of amino acids that follow one another.

    Parameters
    ----------
    proteins
        Their letters; pairs with others than the twenty are not counted.

    Returns
    -------
    numpy.ndarray
        (sample, 400) float64; column 20 first + second.
    """
    residue, first = _residues(proteins)
    return _pairs(residue, first, 20)


def length(sequences: Sequence[NDArray[np.uint8]] | Sequence[str]) -> NDArray[np.float64]:
    """Letters of each sequence: nucleotides, or residues of proteins.

    Parameters
    ----------
    sequences
        Codes or texts.

    Returns
    -------
    numpy.ndarray
        (sample, 1) float64.
    """
    return np.array([[len(one)] for one in sequences], np.float64).reshape(-1, 1)


def _codons(sequences: Coding) -> Codons:
    return sequences if isinstance(sequences, Codons) else read_codons(sequences)


def _residues(proteins: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the amino acids of all proteins as numbers, -1 for others, and where each protein begins."""
    return _RESIDUE[encode("".join(proteins))], offsets(np.array([len(one) for one in proteins], np.int64))


def _bases(sequences: Coding) -> NDArray[np.int64]:
    """Count A, C, G, T at each of the three places of codons: (sample, 3, 4)."""
    codons = _codons(sequences)
    base = _BASE[codons.letters]
    places = np.where(base < 4, base + 4 * np.arange(3), -1)
    return _table(places.ravel(), 3 * codons.first, 12).reshape(-1, 3, 4)


def _strong(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of C and G in (sample, 4) counts."""
    return _share(counts[:, [1, 2]].sum(axis=1, keepdims=True), counts)


def _table(value: NDArray[np.int64] | NDArray[np.int16], first: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Count the values 0 to width - 1 of each sample; negative ones are left out."""
    samples = len(first) - 1
    cell = np.repeat(np.arange(samples) * width, np.diff(first)) + value
    return np.bincount(cell[value >= 0], minlength=samples * width).reshape(samples, width)


def _pairs(value: NDArray[np.int64], first: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Share of each pair of values that follow one another within a sample."""
    pair = np.full(len(value), -1)
    known = (value[:-1] >= 0) & (value[1:] >= 0)
    pair[1:][known] = (value[:-1] * width + value[1:])[known]
    pair[first[:-1][np.diff(first) > 0]] = -1  # its left neighbour is of another sample
    counts = _table(pair, first, width * width)
    return _share(counts, counts)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide by the sum of each row; NaN where it is 0."""
    total = whole.sum(axis=1, keepdims=True)
    share: NDArray[np.float64] = np.divide(part, total, out=np.full(part.shape, np.nan), where=total > 0)
    return share
