"""What each codon strategy does with the codons that are not pinned."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.coding.codons import Codons, read_codons
from embedstore.coding.drawing import cumulate, draw, random_words, repeated, shuffle
from embedstore.coding.genetic_code import CODONS, GeneticCode
from embedstore.coding.usage import usage_rows
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

LETTERS = np.frombuffer("".join(CODONS).encode(), np.uint8).reshape(64, 3)
"""The letters of the 64 codons, (64, 3) uint8."""

MOST_SEQUENCES = 2**13
"""Sequences that are recoded together at most: their number shares 32 bits with a family and two neighbours."""

_EDGE, _OTHER = 64, 65  # neighbours that are no codon: the sequence ends here, or there are other letters
_EVEN = np.ones((1, 64))


class Part(NamedTuple):
    """Coding sequences of one genetic code that are recoded together.

    Attributes
    ----------
    sequences
        Each (nucleotide,) uint8.
    ids
        (sequence,) their ids.
    row
        (sequence,) int64, which row of the weights each is drawn with.
    codons
        Their codons.
    code
        Their genetic code.
    place
        (free,) int64, which codons are not pinned.
    codon, family, sequence
        (free,) indices of these codons, their families, and which sequence each is of.
    """

    sequences: Sequence[NDArray[np.uint8]]
    ids: Sequence[str]
    row: NDArray[np.int64]
    codons: Codons
    code: GeneticCode
    place: NDArray[np.int64]
    codon: NDArray[np.int64]
    family: NDArray[np.int64]
    sequence: NDArray[np.int64]


class Shared(NamedTuple):
    """What all variants of one parent have in common.

    Attributes
    ----------
    codons
        (codon,) int16, the parent recoded; -1 where it has other letters.
    drawn
        (codon, family) int64, the codon of any other amino acid there.
    """

    codons: NDArray[np.int16]
    drawn: NDArray[np.int64]


class Request(NamedTuple):
    """What was asked for, and what is made once for all sequences of one genetic code.

    Attributes
    ----------
    name
        The strategy, with its parameter.
    argument
        The parameter, or ``""``.
    seed
        As for `embedstore.coding.recode`.
    cumulative
        Of weights that are the same for many sequences, from `embedstore.coding.drawing.cumulate`, or None.
    shared
        What all variants have in common, or None.
    """

    name: str
    argument: str = ""
    seed: int = 0
    cumulative: NDArray[np.float64] | None = None
    shared: Shared | None = None


def read_part(
    sequences: Sequence[NDArray[np.uint8]],
    code: GeneticCode,
    ids: Sequence[str],
    row: NDArray[np.int64] | None = None,
    has_start: Sequence[bool] | None = None,
    pinned: Sequence[Sequence[int]] | None = None,
) -> Part:
    """Read coding sequences and find what is pinned in them; see `embedstore.coding.recode` for the arguments."""
    codons = read_codons(sequences, ids)
    first, index = codons.first, codons.index
    fixed = np.append((code.size == 1) | (code.family == 0), True).take(index)  # -1, other letters, is the last
    begins = first[:-1][np.diff(first) > 0]
    starting = np.append(code.start, True).take(index[begins])
    if has_start is not None:
        starting = np.asarray(has_start, bool)[np.diff(first) > 0]
    fixed[begins] |= starting | (np.append(code.amino_acid, 0).take(index[begins]) == ord("M"))
    for number, places in enumerate(pinned or ()):
        outside = [place for place in places if not 0 <= place < first[number + 1] - first[number]]
        if outside:
            raise InputError(
                f"coding sequence {ids[number]!r}: codon {outside[0]} is to be pinned; it has the codons 0 to "
                f"{first[number + 1] - first[number] - 1}."
            )
        fixed[first[number] + np.asarray(places, np.int64)] = True
    place = np.flatnonzero(~fixed)
    sequence = np.repeat(np.arange(len(first) - 1), np.diff(first)).take(place)
    codon = index.take(place).astype(np.int64)
    row = np.zeros(len(sequences), np.int64) if row is None else row
    return Part(sequences, ids, row, codons, code, place, codon, code.family.take(codon), sequence)


def written(part: Part, new: NDArray[np.integer]) -> list[NDArray[np.uint8]]:
    """Return the sequences with new codons in the places that are not pinned.

    Parameters
    ----------
    part
        The sequences.
    new
        (free,) indices of codons.

    Returns
    -------
    list of numpy.ndarray
        Each (nucleotide,) uint8.
    """
    index = part.codons.index.copy()
    index[part.place] = new
    letters = LETTERS.take(index, axis=0)
    other = np.flatnonzero(index < 0)
    letters[other] = part.codons.letters[other]
    flat = letters.ravel()
    ends = (3 * part.codons.first).tolist()
    return [flat[start:end] for start, end in pairwise(ends)]


def _words(part: Part, request: Request) -> NDArray[np.uint64]:
    """Return a random number for each codon that is not pinned."""
    head = f"{request.name}|{request.seed}|"
    texts = (f"{head}{name}|".encode() + codes.tobytes() for name, codes in zip(part.ids, part.sequences, strict=True))
    return random_words(texts, np.diff(part.codons.first)).take(part.place)


def _permuted(part: Part, request: Request) -> NDArray[np.integer]:
    return shuffle(part.codon, part.sequence * 32 + part.family, _words(part, request))


def _window_permuted(part: Part, request: Request) -> NDArray[np.integer]:
    width, first = int(request.argument), part.codons.first
    length = np.diff(first)
    windows = -(-length // width)
    before = np.cumsum(windows) - windows
    window = (np.arange(first[-1]) - np.repeat(first[:-1], length)) // width + np.repeat(before, length)
    return shuffle(part.codon, window.take(part.place) * 32 + part.family, _words(part, request))


def _codonpair_preserving(part: Part, request: Request) -> NDArray[np.integer]:
    """Shuffle codons between the same neighbours: first those at even places, then, between these, the others."""
    first, words = part.codons.first, _words(part, request)
    begins, ends = first[:-1][np.diff(first) > 0], first[1:][np.diff(first) > 0] - 1
    index = part.codons.index.astype(np.int64)
    index[index < 0] = _OTHER
    left, right = np.empty_like(index), np.empty_like(index)
    own = part.sequence << 19 | part.family
    odd = (part.place ^ first.take(part.sequence)) & 1
    for parity in (0, 1):
        left[1:], right[:-1] = index[:-1], index[1:]
        left[begins] = right[ends] = _EDGE
        between = left << 7 | right
        chosen = np.flatnonzero(odd == parity)
        group = between.take(part.place.take(chosen)) << 5 | own.take(chosen)
        some = repeated(group)  # most codons are alone between their neighbours
        several = chosen[some]
        index[part.place[several]] = shuffle(part.codon[several], group[some], words[several])
    return index[part.place]


def _freq_cds(part: Part, request: Request) -> NDArray[np.integer]:
    sequences = len(part.sequences)
    counts = np.bincount(part.sequence * 64 + part.codon, minlength=64 * sequences).reshape(sequences, 64)
    return draw(part.family, part.sequence, cumulate(counts, part.code), _words(part, request), part.code)


def _drawn(part: Part, request: Request) -> NDArray[np.integer]:
    assert request.cumulative is not None
    return draw(part.family, part.row[part.sequence], request.cumulative, _words(part, request), part.code)


def _shared(part: Part, request: Request) -> NDArray[np.integer]:
    """Give variants the new codons of their parent, and other amino acids those drawn once for all variants."""
    assert request.shared is not None
    codons, drawn = request.shared
    length = np.diff(part.codons.first)
    if (length != len(codons)).any():
        which = int((length != len(codons)).argmax())
        raise InputError(
            f"coding sequence {part.ids[which]!r} has {length[which]:,} codons, the parent {len(codons):,}: "
            f"{request.name} takes substitutions only. Recode sequences of other lengths with another strategy."
        )
    place = part.place - part.codons.first[part.sequence]
    same = np.append(part.code.family, -1).take(codons)[place] == part.family
    chosen: NDArray[np.int64] = np.where(same, codons[place], drawn[place, part.family])
    return chosen


RULES: dict[str, Callable[[Part, Request], NDArray[np.integer]]] = {
    "permuted": _permuted,
    "freq_cds": _freq_cds,
    "freq_species": _drawn,
    "freq_global": _drawn,
    "uniform": _drawn,
    "permuted_shared": _shared,
    "uniform_shared": _shared,
    "window_permuted": _window_permuted,
    "codonpair_preserving": _codonpair_preserving,
    "transplant": _drawn,
}
"""New codons, (free,), of each strategy but ``true``."""


def make_request(
    strategy: str,
    argument: str,
    seed: int,
    code: GeneticCode,
    *,
    groups: list[str],
    usage: pd.DataFrame | None = None,
    parent: NDArray[np.uint8] | None = None,
) -> Request:
    """Make what all sequences of one genetic code are recoded with.

    Parameters
    ----------
    strategy, argument, seed
        Name of the strategy, its parameter, and the seed.
    code
        Genetic code.
    groups
        Names of the rows of the codon usage that are drawn with.
    usage, parent
        As for `embedstore.coding.recode`.

    Returns
    -------
    Request

    Raises
    ------
    InputError
        The codon usage has no such group, or is not as it must be.
    """
    request = Request(f"{strategy}({argument})" if argument else strategy, argument, seed)
    if strategy.endswith("_shared"):
        assert parent is not None
        return request._replace(shared=_recode_parent(strategy, request, parent, code))
    if strategy == "uniform":
        return request._replace(cumulative=cumulate(_EVEN, code))
    if usage is not None and groups:
        return request._replace(cumulative=cumulate(usage_rows(usage, groups, code.table), code))
    return request


def _recode_parent(strategy: str, request: Request, parent: NDArray[np.uint8], code: GeneticCode) -> Shared:
    """Recode the parent, and draw a codon for every amino acid at every place."""
    part = read_part([parent], code, ["parent"])
    if strategy == "permuted_shared":
        new = _permuted(part, request)
        counts = np.bincount(part.codon, minlength=64)
        weights = np.where(np.isin(code.family, part.family), counts, 1)[None, :]
    else:
        new = _drawn(part, request._replace(cumulative=cumulate(_EVEN, code)))
        weights = _EVEN
    codons = part.codons.index.copy()
    codons[part.place] = new
    text = f"{request.name}|{request.seed}|variants|".encode() + parent.tobytes()
    families = len(code.letters)
    words = random_words([text], np.array([len(codons) * families]))
    family = np.tile(np.arange(families), len(codons))
    drawn = draw(family, np.zeros_like(family), cumulate(weights, code), words, code)
    return Shared(codons, drawn.reshape(-1, families))
