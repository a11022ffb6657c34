"""Letters of the genome at many places at once: alleles held against it under one or several hypotheses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from embedstore.genome import Genome

DIFFERS, MATCHES, NOT_COMPARED = 0, 1, 2
"""What `compare` says of an allele."""

# A request costs about as much time as reading so many nucleotides more: places closer than that are read together.
_GAP = 2048
_SPAN = 1 << 20
_BATCH = 1 << 23
_UNREAD = ord("?")
_UNKNOWN = np.zeros(256, bool)
_UNKNOWN[[ord("N"), _UNREAD]] = True


class Texts(NamedTuple):
    """Alleles one after another.

    Attributes
    ----------
    codes
        (letter,) uint8, ASCII.
    first
        Allele ``i`` is ``codes[first[i]:first[i + 1]]``, shape (n + 1,).
    """

    codes: NDArray[np.uint8]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, alleles: Sequence[str]) -> Texts:
        """Join alleles, each of one ASCII letter or more."""
        lengths = np.fromiter(map(len, alleles), np.int64, len(alleles))
        return cls(np.frombuffer("".join(alleles).encode("ascii"), np.uint8), np.cumsum([0, *lengths]))


def compare(
    genome: Genome,
    chromosome: Sequence[str],
    hypotheses: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]],
) -> dict[str, NDArray[np.int8]]:
    """Hold alleles against the genome, each chromosome read once and a few million nucleotides at a time.

    Parameters
    ----------
    genome
        The genome.
    chromosome
        (row,) a contig of the genome for each row.
    hypotheses
        Name -> where the allele of each row would begin (0-based, may be outside of its chromosome), and what it is
        (letters A, C, G, T; one or more).

    Returns
    -------
    dict of str to numpy.ndarray
        Name -> (row,) int8: `MATCHES`; `DIFFERS` where a letter is another one; `NOT_COMPARED` where the allele is not
        inside of its chromosome, or no letter differs but some are N, or the genome refuses to give them.
    """
    names, code = np.unique(np.asarray(chromosome, dtype=object), return_inverse=True)
    size = np.array([genome.contigs[name] for name in names], np.int64)[code]
    lengths = {name: np.fromiter(map(len, alleles), np.int64, len(size)) for name, (_, alleles) in hypotheses.items()}
    starts = {name: start for name, (start, _) in hypotheses.items()}
    low = np.clip(np.min(list(starts.values()), axis=0), 0, size - 1)
    high = np.clip(np.max([starts[name] + lengths[name] for name in starts], axis=0), low + 1, size)
    order = np.lexsort((low, code))
    texts = {name: Texts.of([alleles[row] for row in order.tolist()]) for name, (_, alleles) in hypotheses.items()}
    states = {name: np.full(len(size), NOT_COMPARED, np.int8) for name in hypotheses}
    for some, letters, place in _batches(genome, names, code[order], low[order], high[order]):
        rows = order[some]
        for name, state in states.items():
            start = starts[name][rows]
            inside = (start >= 0) & (start + lengths[name][rows] <= size[rows])
            found = _states(texts[name], some, letters, place + start - low[rows])
            state[rows] = np.where(inside, found, NOT_COMPARED)
    return states


def _states(texts: Texts, some: slice, letters: NDArray[np.uint8], place: NDArray[np.int64]) -> NDArray[np.int8]:
    """Compare alleles with letters, each from its own place on; what lies outside of the letters is the caller's."""
    first = texts.first[some.start : some.stop + 1]
    begin = first[:-1] - first[0]
    at = np.arange(first[-1] - first[0]) + np.repeat(place - begin, np.diff(first))
    seen = letters.take(at, mode="clip")
    unknown = _UNKNOWN[seen]
    differs = (seen != texts.codes[first[0] : first[-1]]) & ~unknown
    state = np.where(np.logical_or.reduceat(unknown, begin), NOT_COMPARED, MATCHES)
    return np.where(np.logical_or.reduceat(differs, begin), DIFFERS, state).astype(np.int8)


def _batches(
    genome: Genome,
    names: NDArray[np.object_],
    code: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.int64]]]:
    """Read intervals that are in order; give the rows of a batch, its letters, and where each row's begin in them."""
    apart = (np.diff(code) != 0) | (low[1:] > high[:-1] + _GAP) | (np.diff(low // _SPAN) != 0)
    group = np.flatnonzero(np.concatenate([[True], apart]))
    start, end = low[group], np.maximum.reduceat(high, group)
    last = np.append(group[1:], len(low))
    batch = np.flatnonzero(np.diff((np.cumsum(end - start) - (end - start)) // _BATCH, prepend=-1))
    for begin, stop in zip(batch, np.append(batch[1:], len(group)), strict=True):
        many = slice(begin, stop)
        parts = [
            _read(genome, names[code[row]], low[row:until], high[row:until], int(to))
            for row, until, to in zip(group[many], last[many], end[many], strict=True)
        ]
        ahead = np.cumsum(end[many] - start[many]) - (end[many] - start[many])
        some = slice(int(group[begin]), int(last[stop - 1]))
        yield some, np.concatenate(parts), low[some] + np.repeat(ahead - start[many], (last - group)[many])


def _read(
    genome: Genome, chromosome: str, low: NDArray[np.int64], high: NDArray[np.int64], end: int
) -> NDArray[np.uint8]:
    """Read intervals that lie close together; question marks where the genome refuses to give letters."""
    try:
        return genome.fetch(chromosome, int(low[0]), end)
    except InputError:
        letters = np.full(end - int(low[0]), _UNREAD, np.uint8)
        for one, other in zip(low.tolist(), high.tolist(), strict=True):
            part = letters[one - low[0] : other - low[0]]
            part[:] = read_refused(genome, chromosome, one, other)
        return letters


def read_refused(genome: Genome, chromosome: str, start: int, end: int) -> NDArray[np.uint8]:
    """Read a stretch; question marks stand for letters that the genome refuses to give.

    Parameters
    ----------
    genome, chromosome, start, end
        As for :meth:`embedstore.genome.Genome.fetch`.

    Returns
    -------
    numpy.ndarray
        (end - start,) uint8.
    """
    try:
        return genome.fetch(chromosome, start, end)
    except InputError:
        if end - start == 1:
            return np.array([_UNREAD], np.uint8)
        middle = (start + end) // 2
        return np.concatenate(
            [read_refused(genome, chromosome, start, middle), read_refused(genome, chromosome, middle, end)]
        )
