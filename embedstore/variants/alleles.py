"""What a variant takes out of a chromosome and puts in: one answer for every way of writing the same change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_READ = 16
_MOST_READ = 1 << 16


class Change(NamedTuple):
    """A change of a chromosome.

    Attributes
    ----------
    start
        0-based place of the first nucleotide that is taken out, or before which something is put in.
    removed
        Letters that are taken out there; ``""`` for an insertion.
    added
        Letters that are put in; ``""`` for a deletion.
    """

    start: int
    removed: str
    added: str


def trim(ref: str, alt: str, position: int) -> Change:
    """Take what two alleles share off their ends: first the common end, then the common beginning.

    The padding that VCF files write around insertions, deletions and records with several alternates goes away, and an
    allele may become empty. An insertion or deletion within a repeat is not yet in its leftmost place: `left_align`.

    Parameters
    ----------
    ref, alt
        The two alleles, upper case.
    position
        0-based place of the first letter of `ref`.

    Returns
    -------
    Change
        Both letters are empty only where `ref` equals `alt`.

    Examples
    --------
    >>> trim("AC", "GC", 100)
    Change(start=100, removed='A', added='G')
    >>> trim("CTT", "CT", 100)
    Change(start=101, removed='T', added='')
    """
    end = _shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - end], alt[: len(alt) - end]
    begin = _shared(ref, alt)
    return Change(position + begin, ref[begin:], alt[begin:])


def _shared(one: str, other: str) -> int:
    """Count the letters that two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def left_align(change: Change, letters: Callable[[int, int], str]) -> Change:
    """Move an insertion or deletion as far to the left as the chromosome allows without another outcome.

    Source: Tan, Abecasis & Kang 2015, Bioinformatics 31:2202 (``vt normalize``; ``bcftools norm`` does the same), for
    alleles without padding. Every way of writing one insertion or one deletion ends in the same place.

    Parameters
    ----------
    change
        As `trim` gives it. A change that takes letters out and puts others in is not moved: it has one place only.
    letters
        Gives the letters of the chromosome from one 0-based place up to another, upper case. It is asked for places
        left of the change only.

    Returns
    -------
    Change
        The same kind of change; its start is not below 0.

    Examples
    --------
    >>> chromosome = "GGCACACAT"
    >>> left_align(Change(6, "CA", ""), lambda start, end: chromosome[start:end])
    Change(start=2, removed='CA', added='')
    """
    start, moving = change.start, change.removed or change.added
    if (change.removed and change.added) or not moving:
        return change
    steps, size, period = 0, _FIRST_READ, len(moving)
    while steps < start:
        low = max(0, start - steps - size)
        before = letters(low, start - steps)
        # One step left puts the last letter first: after n steps the last letter is the n-th from the end, around.
        same = 0
        while same < len(before) and before[-1 - same] == moving[-1 - (steps + same) % period]:
            same += 1
        steps += same
        if same < len(before):
            break
        size = min(2 * size, _MOST_READ)
    turn = period - steps % period
    moved = moving[turn:] + moving[:turn]
    return Change(start - steps, *((moved, "") if change.removed else ("", moved)))


def change_kind(change: Change) -> str:
    """Name the kind of a change.

    Parameters
    ----------
    change
        As `trim` or `left_align` gives it.

    Returns
    -------
    str
        ``"snv"`` (one nucleotide for one), ``"mnv"`` (several for as many), ``"insertion"``, ``"deletion"``,
        ``"delins"`` (some for another number), or ``""`` where nothing changes.

    Examples
    --------
    >>> [change_kind(Change(5, *pair)) for pair in (("A", "G"), ("AC", "GT"), ("", "T"), ("T", ""), ("A", "GG"))]
    ['snv', 'mnv', 'insertion', 'deletion', 'delins']
    """
    removed, added = len(change.removed), len(change.added)
    if not removed or not added:
        return "deletion" if removed else "insertion" if added else ""
    if removed != added:
        return "delins"
    return "snv" if removed == 1 else "mnv"
