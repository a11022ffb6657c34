"""Residues of coding sequences: which stored row stands for the codon of each, and where in its token the codon lies.

Two codons that share one six-letter token have one and the same row, so a head that knows nothing but the row must say
the same of both. Where the codon lies in the token (its slot) tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from embedstore.errors import InputError
from embedstore.indices import offsets
from probes.chunks import BATCH, position_means
from probes.dataset import Part, ProbeData
from probes.targets import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedstore.tasks import TaskRecord

Tail = Literal["slot0", "generic", "drop"]
TAILS: tuple[Tail, ...] = ("slot0", "generic", "drop")
"""What can be done with residues whose three letters are tokens by themselves."""

GENERIC, SINGLE = -1, -2
"""Slots of residues that lie in no slot, and of those whose letters are tokens by themselves."""

OFFSETS = 12
"""Places in a token that the generic head tells apart; the last stands for itself and all after it."""


class Places(NamedTuple):
    """Where residues lie in their tokens.

    Attributes
    ----------
    slot
        (residue,) int64: 0 for the first codon of a token, 1 for the second, ...; `GENERIC` or `SINGLE`.
    offset
        (residue,) int64, letters of the token before the residue's first letter.
    """

    slot: NDArray[np.int64]
    offset: NDArray[np.int64]


def letters_per_residue(record: TaskRecord) -> int:
    """Return how many letters of a sequence one residue takes.

    Parameters
    ----------
    record
        Of the task.

    Returns
    -------
    int
        3 for coding sequences, 1 for proteins.
    """
    return 3 if record.alphabet == "dna" else 1


def residue_places(span: NDArray[np.int64], letters: int, slots: int) -> Places:
    """Find the slot of every residue from the spans of the rows.

    Parameters
    ----------
    span
        (row,) int64, letters that each row stands for: whole samples, one after another.
    letters
        Letters per residue; the length of every sample must be a multiple of it.
    slots
        How many slots a token may have.

    Returns
    -------
    Places

    Examples
    --------
    Five codons under a 6-mer tokenizer: two full tokens, and three letters that are left.

    >>> residue_places(np.array([6, 6, 1, 1, 1]), 3, 2).slot.tolist()
    [0, 1, 0, 1, -2]
    """
    row = np.repeat(np.arange(len(span)), span)
    first, last = row[::letters], row[letters - 1 :: letters]
    offset = np.arange(0, len(row), letters) - (np.cumsum(span) - span)[first]
    number, rest = np.divmod(offset, letters)
    slot = np.where((first == last) & (rest == 0) & (number < slots), number, GENERIC)
    single = (span[row] == 1).reshape(-1, letters).all(axis=1) & (letters > 1)
    return Places(np.where(single, SINGLE, slot), offset)


def slot_name(slot: int) -> str:
    """Return what a slot is called in tables.

    Parameters
    ----------
    slot
        From `Places`.

    Returns
    -------
    str

    Examples
    --------
    >>> slot_name(1), slot_name(GENERIC)
    ('slot 1', 'generic')
    """
    return {GENERIC: "generic", SINGLE: "single letters"}.get(slot, f"slot {slot}")


class ResiduePart(NamedTuple):
    """Residues of some samples.

    Attributes
    ----------
    x
        (residue, channel) mean of the rows of a residue's letters, each weighted by how many of them it stands for.
    places
        Where the residues lie in their tokens.
    label
        (residue,) int64 class, -100 where there is none.
    """

    x: NDArray[Any]
    places: Places
    label: NDArray[np.int64]


def residues_of(part: Part, record: TaskRecord, slots: int) -> ResiduePart:
    """Average the rows of a part over the letters of each residue.

    Parameters
    ----------
    part
        Whole samples.
    record
        Of the task.
    slots
        How many slots a token may have.

    Returns
    -------
    ResiduePart

    Raises
    ------
    InputError
        The letters of one residue have different labels.
    """
    letters = letters_per_residue(record)
    values = part.vector.cpu().numpy()
    if letters == 1:
        x = np.repeat(values, part.span, axis=0)
    else:
        x = position_means(values, part, replace(record, level="bin", bin_size=letters))
    label = part.target.numpy().reshape(-1, letters)
    unlike = (label != label[:, :1]).any(axis=1)
    if unlike.any():
        place = int(np.argmax(unlike))
        edges = np.cumsum(np.add.reduceat(part.span, part.first_row[:-1])) // letters
        number = int(np.searchsorted(edges, place, side="right"))
        within = place - (int(edges[number - 1]) if number else 0)
        raise InputError(
            f"{record.name}: sample {part.samples[number]}, residue {within}: its {letters} letters have the labels "
            f"{label[place].tolist()}; a residue has one. Give all letters of a codon the label of its residue."
        )
    return ResiduePart(x, residue_places(part.span, letters, slots), label[:, 0])


def offset_channels(x: NDArray[Any], offset: NDArray[np.int64]) -> NDArray[np.float64]:
    """Append where in its token a residue begins, as channels of 0 and 1.

    Parameters
    ----------
    x
        (residue, channel).
    offset
        (residue,) from `Places`.

    Returns
    -------
    numpy.ndarray
        (residue, channel + `OFFSETS`) float64.
    """
    return np.concatenate([x, np.eye(OFFSETS)[np.minimum(offset, OFFSETS - 1)]], axis=1, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ResidueData(ProbeData):
    """Residues of samples as rows of three letters each, for probes that know nothing of slots.

    Labels of residues that a head is not to see are hidden, so that one pass over the rows gives each head its own.

    Attributes
    ----------
    head
        Slot whose residues keep their labels; `GENERIC` for all of them, with channels for their offsets.
    slots, tail
        As `probes.slots.SlotProbe` has them.
    """

    head: int = GENERIC
    slots: int = 2
    tail: Tail = "slot0"

    @classmethod
    def of(cls, data: ProbeData, head: int, slots: int, tail: Tail) -> Self:
        """Look at samples in this way.

        Parameters
        ----------
        data
            Samples of a task with a class for each nucleotide.
        head, slots, tail
            See `ResidueData`.

        Returns
        -------
        ResidueData
        """
        given = {one.name: getattr(data, one.name) for one in fields(ProbeData)}
        given["width"] += OFFSETS if head == GENERIC else 0
        return cls(**given, head=head, slots=slots, tail=tail)

    def batches(self, size: int, seed: Sequence[int] | None = None) -> Iterator[list[Part]]:
        """Go through all samples once; see `ProbeData.batches`. Rows are residues."""
        for parts in super().batches(size, seed):
            yield [self._residues(part) for part in parts]

    def _residues(self, part: Part) -> Part:
        letters = letters_per_residue(self.record)
        found = residues_of(part, self.record, self.slots)
        hidden = np.zeros(len(found.label), dtype=bool)
        if self.tail == "drop":
            hidden |= found.places.slot == SINGLE
        x = found.x
        if self.head == GENERIC:
            x = offset_channels(x, found.places.offset)
        else:
            hidden |= assigned(found.places.slot, self.tail) != self.head
        label = np.repeat(np.where(hidden, UNLABELLED, found.label), letters)
        counts = np.add.reduceat(part.span, part.first_row[:-1]) // letters
        first = offsets(counts)
        span = np.full(len(x), letters)
        return Part(part.samples, torch.from_numpy(np.ascontiguousarray(x)), span, first, torch.from_numpy(label))


def assigned(slot: NDArray[np.int64], tail: Tail) -> NDArray[np.int64]:
    """Return the head that each residue belongs to.

    Parameters
    ----------
    slot
        (residue,) from `Places`.
    tail
        What becomes of single letters: ``"generic"``, else slot 0.

    Returns
    -------
    numpy.ndarray
        (residue,) int64, a slot or `GENERIC`.
    """
    return np.where(slot == SINGLE, GENERIC if tail == "generic" else 0, slot)


def count_residues(data: ProbeData, slots: int = 2) -> pd.DataFrame:
    """Count the residues of samples by slot and class.

    Parameters
    ----------
    data
        Samples of a task with a class for each nucleotide.
    slots
        How many slots a token may have, default 2, as tokens of six letters do.

    Returns
    -------
    pandas.DataFrame
        Rows ``slot 0``, ``slot 1``, ..., ``generic`` (the residue straddles two tokens, or does not begin a multiple of
        three letters after its token) and ``single letters``; a column for each class, and ``unlabelled``.

    Raises
    ------
    InputError
        The letters of one residue have different labels, or rows of tokens of several codons were stored for each
        nucleotide.
    """
    kinds = [*range(slots), GENERIC, SINGLE]
    classes = len(data.targets.names)
    counts = np.zeros((len(kinds), classes + 1), np.int64)
    shared = residues = 0
    for part in (part for parts in data.batches(BATCH) for part in parts):
        found = residues_of(part, data.record, slots)
        label = np.where(found.label == UNLABELLED, classes, found.label)
        # Negative slots count from the end, where a table has the kinds that are no slots.
        place = np.where(found.places.slot < 0, slots - 1 - found.places.slot, found.places.slot)
        np.add.at(counts, (place, label), 1)
        residues += len(label)
        shared += _same_row(part, letters_per_residue(data.record))
    if 4 * shared > residues:
        raise InputError(
            f"{data!r}: {shared:,} of {residues:,} residues have the very row of the residue before them, and every "
            "row stands for one nucleotide: tokens of several codons were stored for each nucleotide, so that slots "
            "cannot be told. Embed again with resolution='token' (--resolution token)."
        )
    index = pd.Index([slot_name(kind) for kind in kinds], name="slot")
    return pd.DataFrame(counts, index=index, columns=[*data.targets.names, "unlabelled"])


def _same_row(part: Part, letters: int) -> int:
    """Count codons all of whose rows, one per letter, equal those of the codon before in the same sample."""
    if letters == 1 or (part.span != 1).any():
        return 0
    rows = part.vector.reshape(-1, letters, part.vector.shape[1])
    alike = (rows == rows[:, :1]).all(dim=2).all(dim=1)
    same = alike[1:] & alike[:-1] & (rows[1:, 0] == rows[:-1, 0]).all(dim=1)
    begins = (part.first_row[1:-1] // letters) - 1  # pairs that lie in two samples
    same[begins] = False
    return int(same.sum())
