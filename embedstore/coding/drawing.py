"""Random words per sample, and codons shuffled or drawn with them, for many samples at once.

Every codon has a random word of its own, made from its own sample alone, so that nothing depends on what else is
recoded beside it. All else is done for many samples together: shuffles are sorts of 64-bit keys, which NumPy
vectorises.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from embedstore.coding.genetic_code import GeneticCode

_CODON_BITS = 6
_PLACE_BITS = 31
_PLACE = 2**_PLACE_BITS - 1
GROUP_BITS = 32
"""Groups within which codons are shuffled have numbers below two to this power."""


def random_words(texts: Iterable[bytes], counts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return random numbers for some samples, those of each decided by its text alone.

    Parameters
    ----------
    texts
        What identifies each sample.
    counts
        (sample,) int64, how many numbers each one takes.

    Returns
    -------
    numpy.ndarray
        (number,) uint64, one sample after another. Those of a sample are the first of the Philox4x64-10 stream whose
        key is the first 16 bytes of the text's sha256, little-endian, and whose counter starts at 0:
        ``numpy.random.Philox(key=int.from_bytes(sha256(text).digest()[:16], "little")).random_raw(count)``.

    Notes
    -----
    Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (SC11).
    """
    # One generator is set to each key in turn: making a new one takes seven times longer.
    generator = np.random.Philox(key=0)
    state, key = generator.state, np.dtype("<u8")
    words = [np.empty(0, np.uint64)]
    for text, count in zip(texts, counts.tolist(), strict=True):
        state["state"]["key"] = np.frombuffer(hashlib.sha256(text).digest(), key, 2)
        generator.state = state
        words.append(generator.random_raw(count))
    return np.concatenate(words)


def shuffle(codon: NDArray[np.integer], group: NDArray[np.integer], words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Shuffle codons among the places of their group, all orders being equally probable.

    Parameters
    ----------
    codon
        (place,) indices 0 to 63.
    group
        (place,) number of the group, below two to the power of `GROUP_BITS`.
    words
        (place,) random numbers.

    Returns
    -------
    numpy.ndarray
        (place,) int64, the codons of each group in random order.
    """
    # Codons ordered by group and random bits go to the places ordered by group. Equal random bits would order two
    # codons by their index; with 26 bits that happens to one pair in 67 million.
    key = words >> np.uint64(GROUP_BITS + _CODON_BITS)
    key <<= np.uint64(_CODON_BITS)
    key |= codon.astype(np.uint64)
    key |= group.astype(np.uint64) << np.uint64(64 - GROUP_BITS)
    key.sort()
    key &= np.uint64(2**_CODON_BITS - 1)
    place = _ordered(group)
    place &= _PLACE
    shuffled = np.empty(len(group), np.int64)
    shuffled[place] = key
    return shuffled


def repeated(group: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the places whose group has another place, ordered by group, then by place.

    Parameters
    ----------
    group
        (place,) number of the group, below two to the power of `GROUP_BITS`.

    Returns
    -------
    numpy.ndarray
        (place of such a group,) int64.
    """
    ordered = _ordered(group)
    number = ordered >> _PLACE_BITS
    same = number[1:] == number[:-1]
    several = np.zeros(len(group), bool)
    several[1:] = same
    several[:-1] |= same
    found: NDArray[np.int64] = ordered[several] & _PLACE
    return found


def _ordered(group: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return group and place in one number, sorted."""
    number = group.astype(np.int64) << _PLACE_BITS
    number |= np.arange(len(group))
    number.sort()
    return number


def cumulate(weights: NDArray[np.integer] | NDArray[np.floating], code: GeneticCode) -> NDArray[np.float64]:
    """Return the cumulative probabilities of the codons of each family.

    Parameters
    ----------
    weights
        (row, 64) how probable each codon is, up to a factor per family.
    code
        Genetic code.

    Returns
    -------
    numpy.ndarray
        (row, family, member) float64, members of a family being its codons in the order of their indices. Exactly 1
        from the last codon on that has a weight, so that no uniform number reaches what follows; 1 throughout where a
        family has no weights.
    """
    padded = np.concatenate([weights, np.zeros((len(weights), 1))], axis=1)
    cumulative = padded.take(_members(code), axis=1).cumsum(axis=2)
    total = cumulative[:, :, -1:]
    shares: NDArray[np.float64] = np.divide(cumulative, total, out=np.ones_like(cumulative), where=total > 0)
    return shares


def draw(
    family: NDArray[np.int64],
    row: NDArray[np.int64],
    cumulative: NDArray[np.float64],
    words: NDArray[np.uint64],
    code: GeneticCode,
) -> NDArray[np.int64]:
    """Draw codons independently, given their amino acids.

    Parameters
    ----------
    family
        (place,) family of each codon to be drawn.
    row
        (place,) which row of the probabilities it is drawn with.
    cumulative
        (row, family, member) from `cumulate`. A codon of weight 0 is never drawn, unless its family has no weights.
    words
        (place,) random numbers.
    code
        Genetic code.

    Returns
    -------
    numpy.ndarray
        (place,) int64, indices of codons.
    """
    members = _members(code)
    families, width = members.shape
    flat = cumulative.ravel()
    uniform = (words >> np.uint64(11)) * 2.0**-53
    first = (row * families + family) * width
    member = family * width
    for place in range(width - 1):
        member += flat[place:].take(first) <= uniform
    codon: NDArray[np.int64] = members.ravel().take(member)
    return codon


@cache
def _members(code: GeneticCode) -> NDArray[np.int64]:
    """Return the codons of each family, (family, most codons of one), filled up with 64."""
    of_family = [code.synonyms(letter) for letter in code.letters]
    members = np.full((len(of_family), max(map(len, of_family))), 64)
    for number, codons in enumerate(of_family):
        members[number, : len(codons)] = codons
    return members
