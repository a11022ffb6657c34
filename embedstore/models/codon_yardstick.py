"""What codon usage alone says about masked letters: the yardstick for a language model of coding sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.models.corpus import CODON, FIRST_LETTER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedstore.models.corpus import Batch

_CODONS = 64
# (codon, place): the letter, 0 to 3.
_LETTERS = np.array(np.unravel_index(np.arange(_CODONS), (4, 4, 4))).T


def codon_counts(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Count the codons of sequences.

    Parameters
    ----------
    parts
        Sequences of 0, 1, 2, 3 (A, C, G, T) and 4 (any other letter), each of shape (nucleotide,), uint8, whole codons.
        Codons with a 4 are left out.

    Returns
    -------
    numpy.ndarray
        Counts, shape (64,), int64, in alphabetical order of the codons.

    Examples
    --------
    >>> np.flatnonzero(codon_counts([np.array([0, 1, 3, 0, 1, 4], np.uint8)]))
    array([7])
    """
    counts = np.zeros(_CODONS, np.int64)
    for letters in parts:
        codons = letters.reshape(-1, CODON)
        counts += np.bincount(codons[(codons < 4).all(1)] @ [16, 4, 1], minlength=_CODONS)
    return counts


def codon_perplexity(counts: np.ndarray, batches: Iterable[Batch], pseudo_count: float = 1.0) -> float:
    """Return the perplexity of masked letters under codon usage: each given the letters of its own codon that are seen.

    Parameters
    ----------
    counts
        From `codon_counts` on other sequences, shape (64,).
    batches
        Of a masked language model, in frame; see `embedstore.models.corpus.Corpus.validation_batches`.
    pseudo_count
        Added to every count (default 1), so that nothing has the probability zero.

    Returns
    -------
    float
        exp of the mean negative log likelihood per masked letter: what a model reaches that reads single codons, and
        neither their neighbours nor the amino acids around them. NaN where nothing is masked.
    """
    weight = counts + pseudo_count
    total, count = 0.0, 0
    for batch in batches:
        # Masked and unknown letters are below 0: any letter may stand there.
        seen = (batch.ids - FIRST_LETTER).reshape(-1, CODON)
        truth: np.ndarray = np.full(batch.ids.shape, -1)
        truth[batch.chosen] = batch.targets - FIRST_LETTER
        truth = truth.reshape(-1, CODON)
        with_mask = (truth >= 0).any(axis=1)
        seen, truth = seen[with_mask], truth[with_mask]
        fits = ((seen[:, None] < 0) | (seen[:, None] == _LETTERS)).all(axis=2) * weight
        for place in range(CODON):
            rows = truth[:, place] >= 0
            agrees = _LETTERS[:, place] == truth[rows, place][:, None]
            total -= np.log((fits[rows] * agrees).sum(axis=1) / fits[rows].sum(axis=1)).sum()
            count += int(rows.sum())
    return float(np.exp(total / count)) if count else float("nan")
