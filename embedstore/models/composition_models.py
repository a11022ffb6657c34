"""Encoders without weights, whose mean over a sequence is its composition: what any language model must be set beside.

They are installed under the names ``codon_composition``, ``codon_pair``, ``codon_place`` and ``amino_acid``, so that
``embedstore embed TASK --model codon_composition`` and `embedstore.models.load` find them; see
`embedstore.models.function`. Each says everything about one thing and nothing about any other, so that what a probe
reaches with it is what that thing alone explains.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from embedstore.coding import Codons, read_codons
from embedstore.sequences import AMINO_ACIDS, encode

Answer = list[tuple[np.ndarray, np.ndarray]]

__all__ = ["amino_acid", "codon_composition", "codon_pair", "codon_place"]

_PAIR_CHANNELS = 512
_PLACE_CHANNELS = 160
_PLACES_AT_ONCE = 64
_RESIDUE = np.full(256, -1, np.int64)
_RESIDUE[list(AMINO_ACIDS.encode())] = range(20)


def codon_composition(texts: list[str]) -> Answer:
    """Encode each codon, and the third letters of it and of the codon before.

    Their mean over a sequence is how often each codon is used, and how often each pair of third letters meets in
    neighbouring codons, times (n - 1) / n for n codons.

    Parameters
    ----------
    texts
        Coding sequences, whole codons.

    Returns
    -------
    list of tuple
        Of each sequence: rows (codon, 80) float32, 64 channels in the order of `embedstore.coding.CODONS`, then 16: 4
        times the third letter before + the third letter here; and spans, 3 each. Zeros where a codon has other letters
        than A, C, G, T, and in the 16 channels of the first codon.

    Raises
    ------
    InputError
        If a sequence is no whole codons.

    Examples
    --------
    >>> rows, spans = codon_composition(["AAAACC"])[0]
    >>> np.flatnonzero(rows[1]), spans
    (array([ 5, 65]), array([3, 3]))
    """
    codons = _read(texts)
    third = np.where(codons.index < 0, -1, codons.index % 4)
    return _per_codon(codons, _marked(codons.index, 64), _marked(_pairs(third, codons.first, 4), 16))


def codon_pair(texts: list[str]) -> Answer:
    """Encode each codon with the one before it, hashed: a pair is +1 or -1 in one of 512 channels.

    Their mean over a sequence holds how often each pair of neighbouring codons is used, several pairs in one channel.

    Parameters
    ----------
    texts
        Coding sequences, whole codons.

    Returns
    -------
    list of tuple
        Of each sequence: rows (codon, 512) float32 and spans, 3 each. Zeros in the first row, and where one of the two
        codons has other letters than A, C, G, T.

    Raises
    ------
    InputError
        If a sequence is no whole codons.

    References
    ----------
    Weinberger et al. 2009, Feature hashing for large scale multitask learning, arXiv:0902.2206.
    """
    codons = _read(texts)
    pair = _pairs(codons.index, codons.first, 64)
    channel, sign = _pair_hash()
    rows = _marked(np.where(pair < 0, -1, channel[pair]), _PAIR_CHANNELS) * sign[pair, None]
    return _per_codon(codons, rows)


def codon_place(texts: list[str]) -> Answer:
    """Encode each codon at its place: a random direction of 160 channels for every codon at every place.

    Their mean over a sequence is a random projection of its whole one-hot matrix. Sequences that differ in one codon
    differ in little of it, as variants of one parent do under a language model.

    Parameters
    ----------
    texts
        Coding sequences, whole codons.

    Returns
    -------
    list of tuple
        Of each sequence: rows (codon, 160) float32, normal variables of variance 1; and spans, 3 each. Zeros where a
        codon has other letters than A, C, G, T.

    Raises
    ------
    InputError
        If a sequence is no whole codons.
    """
    codons = _read(texts)
    counts = np.diff(codons.first)
    place = np.arange(len(codons.index)) - np.repeat(codons.first[:-1], counts)
    table = _directions(-(-int(counts.max()) // _PLACES_AT_ONCE))
    return _per_codon(codons, table[place, codons.index] * (codons.index >= 0)[:, None])


def amino_acid(texts: list[str]) -> Answer:
    """Encode each residue; the mean over a protein is how often each amino acid is used.

    Parameters
    ----------
    texts
        Proteins.

    Returns
    -------
    list of tuple
        Of each protein: rows (residue, 20) float32, in the order of `embedstore.sequences.AMINO_ACIDS`, zeros for other
        letters; and spans, 1 each.

    Examples
    --------
    >>> rows, spans = amino_acid(["MA"])[0]
    >>> np.flatnonzero(rows[0]), spans
    (array([10]), array([1, 1]))
    """
    return [(_marked(_RESIDUE[encode(text)], 20), np.ones(len(text), np.int64)) for text in texts]


def _codon_spans(texts: list[str]) -> list[np.ndarray]:
    """Return the letters of each row, without making the rows."""
    return [np.full(count, 3) for count in np.diff(_read(texts).first).tolist()]


# What `embedstore.models.function` reads of an encoder beside calling it.
for _encoder in (codon_composition, codon_pair, codon_place):
    _encoder.spans = _codon_spans  # type: ignore[attr-defined]
amino_acid.alphabet = "protein"  # type: ignore[attr-defined]


def _read(texts: list[str]) -> Codons:
    """Cut sequences into codons."""
    return read_codons([encode(text) for text in texts])


def _marked(value: np.ndarray, width: int) -> np.ndarray:
    """Return the one-hot rows of values, zeros for negative ones."""
    rows = np.zeros((len(value), width), np.float32)
    known = np.flatnonzero(value >= 0)
    rows[known, value[known]] = 1
    return rows


def _pairs(value: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
    """Return, for each codon, `width` times the value before it plus its own; -1 where there is none before."""
    value = value.astype(np.int64)
    before = np.concatenate([[-1], value[:-1]])
    before[first[:-1]] = -1
    return np.where((value < 0) | (before < 0), -1, width * before + value)


def _per_codon(codons: Codons, *rows: np.ndarray) -> Answer:
    """Divide rows among the sequences they are of."""
    parts = np.split(np.hstack(rows), codons.first[1:-1])
    return [(part, np.full(len(part), 3)) for part in parts]


@lru_cache(maxsize=1)
def _pair_hash() -> tuple[np.ndarray, np.ndarray]:
    """Return the channel and the sign of each pair of codons."""
    rng = np.random.default_rng(0)
    return rng.integers(_PAIR_CHANNELS, size=4096), rng.choice(np.array([-1, 1], np.float32), size=4096)


@lru_cache(maxsize=2)
def _directions(parts: int) -> np.ndarray:
    """Return the direction of each codon at each of the first places, (place, 64, channel) float32."""
    # Each part has its own seed, so that what a place has does not depend on how many follow it.
    shape = (_PLACES_AT_ONCE, 64, _PLACE_CHANNELS)
    return np.concatenate([np.random.default_rng(part).standard_normal(shape, np.float32) for part in range(parts)])
