"""Baselines without a model: k-mer frequencies and GC content of the stored sequence, computed as they are read.

A row stands for one position of the task: a sample, a bin, or a nucleotide, which is described by its surroundings.
Words are those of the strand as it is stored; a word with a letter other than A, C, G and T is left out of the counts
and of the total.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError
from embedstore.indices import offsets, sample_indices
from embedstore.onehot import LETTER_BASELINES, Computed
from embedstore.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embedstore.store import Store

CONTEXT = 101
"""Nucleotides, the one in the middle included, that describe a nucleotide; cut at the ends of the sample."""

GC = "gc"
NAMES = LETTER_BASELINES
"""Names of the baselines: ``"kmer1"`` to ``"kmer6"`` and ``"gc"``."""

RULE = "1"
"""Version of the rules by which letters become rows; part of the fingerprint."""

_MEANT = re.compile(r"k[-_ ]?mers?[-_ ]?\d*|\d+[-_ ]?mers?|gc[-_ ]?(content|fraction|share|percent)?", re.IGNORECASE)
_DIGIT = np.full(256, -1, np.int64)
_DIGIT[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)


class Letters(Computed):
    """Word frequencies or GC content of samples, bins or nucleotides, computed as they are read and never stored.

    Channels are the 4^k words in alphabetical order, or the share of G and C alone. The last, incomplete bin of a
    sample has a row, too: rows cover the whole sample.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task; its level says what a row stands for.
    name
        One of `NAMES`.
    """

    def __init__(self, store: Store, task: str, name: str) -> None:
        record, lengths = store.record(task), store.lengths(task)
        self.level, self.bin_size = record.level, record.bin_size
        self.word = 1 if name == GC else int(name.removeprefix("kmer"))
        rule = {"sequence": "sample", "bin": f"bins of {self.bin_size}", "nucleotide": f"window of {CONTEXT}"}
        rows = {"sequence": np.ones_like(lengths), "bin": -(-lengths // self.bin_size), "nucleotide": lengths}
        super().__init__(
            store,
            task,
            name,
            record={"name": name, "architecture": "letters"},
            fingerprint={"architecture": name, "rule": f"{RULE}, {rule[self.level]}"},
            resolution=self.level,
            width=1 if name == GC else 4**self.word,
            row_count=rows[self.level],
        )

    @property
    def has_spans(self) -> bool:
        """Whether rows stand for other numbers of nucleotides than one."""
        return self.level != "nucleotide"

    def read(self, samples: ArrayLike, *, quarantined: bool = False, out: NDArray[Any] | None = None) -> Rows:  # noqa: ARG002
        """Read the rows of some samples, in the order asked for."""
        wanted = sample_indices(samples, len(self.row_count))
        first = offsets(self.row_count[wanted])
        vector, span = self._memory(int(first[-1]), out), np.ones(first[-1], np.int64)
        for place, codes in enumerate(self.store.sequences(self.task, wanted)):
            own = slice(int(first[place]), int(first[place + 1]))
            vector[own] = self._rows(codes)
            if self.level != "nucleotide":
                span[own] = self._spans(len(codes))
        return Rows(wanted, vector, span, first)

    def pooled(self, samples: ArrayLike | None = None, *, quarantined: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        """Return the mean over the nucleotides of samples (all by default), shape (sample, channel), float32."""
        wanted = sample_indices(samples, len(self.row_count))
        if self.level == "sequence":
            return np.asarray(self.read(wanted).vector)
        means = np.empty((len(wanted), self.width), np.float32)
        for place, sample in enumerate(wanted):
            rows = self.read([sample])
            means[place] = np.average(rows.vector, axis=0, weights=rows.span)
        return means

    def _spans(self, length: int) -> NDArray[np.int64]:
        """Return the nucleotides of each row of a sample of this length."""
        if self.level == "sequence":
            return np.array([length])
        begins = np.arange(0, length, self.bin_size)
        return np.minimum(self.bin_size, length - begins)

    def _rows(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of a sequence."""
        words, begins = _words(codes, self.word)
        if self.level == "nucleotide":
            # A window holds the words that lie wholly inside it.
            reach = CONTEXT // 2
            first, after = np.maximum(begins + self.word - 1 - reach, 0), begins + reach + 1
            counts = _counts(words, first, after, len(codes), 4**self.word)
        else:
            # A bin holds the words that begin in it, so that none is lost between two.
            first = begins // self.bin_size if self.level == "bin" else np.zeros_like(begins)
            counts = _counts(words, first, first + 1, len(self._spans(len(codes))), 4**self.word)
        total = counts.sum(axis=1, keepdims=True)
        if self.name != GC:
            return np.asarray(counts / np.maximum(total, 1), np.float32)
        strong = counts[:, 1:3].sum(axis=1, keepdims=True)
        return np.where(total > 0, strong / np.maximum(total, 1), 0.5).astype(np.float32)


def _words(codes: NDArray[np.uint8], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the words of plain letters in a sequence, as numbers to the base four, and where they begin."""
    digit = _DIGIT[codes]
    many = max(len(codes) - k + 1, 0)
    word, plain = np.zeros(many, np.int64), np.ones(many, dtype=bool)
    for place in range(k):
        here = digit[place : place + many]
        word = 4 * word + here
        plain &= here >= 0
    return word[plain], np.flatnonzero(plain)


def _counts(
    words: NDArray[np.int64], first: NDArray[np.int64], after: NDArray[np.int64], rows: int, width: int
) -> NDArray[np.int32]:
    """Count words in rows, where each word counts in all rows from `first` to before `after`.

    A word is noted where it comes in and where it goes out; the running sum over the rows is the count.
    """
    counts = np.zeros((rows + 1, width), np.int32)
    np.add.at(counts, (first, words), 1)
    np.subtract.at(counts, (np.minimum(after, rows), words), 1)
    return np.cumsum(counts, axis=0, dtype=np.int32, out=counts)[:rows]


def open_letters(store: Store, task: str, name: str) -> Letters | None:
    """Open the rows of a baseline that is computed from letters.

    k-mer rows hold the count of each of the 4^k words divided by the number of words, all 0 where there is no word
    without N. ``"gc"`` is the share of G and C among A, C, G and T, one half where there is none of them. Counted are:
    for labels of sequences, the words of the sample; for labels of bins, the words that begin in the bin; for labels
    of nucleotides, the words inside the `CONTEXT` nucleotides around each, cut at the ends of the sample.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    name
        Name of a model.

    Returns
    -------
    Letters or None
        None where the name is not that of such a baseline.

    Raises
    ------
    InputError
        The name is nearly that of a baseline, the store holds an embedding of the baseline's name, or the task is one
        of proteins.
    """
    if name not in NAMES:
        if _MEANT.fullmatch(name) and name not in store.models(task):
            raise InputError(f"there is no baseline {name!r}; those computed from letters are {', '.join(NAMES)}.")
        return None
    if store.record(task).alphabet != "dna":
        raise InputError(f"{store.path}: task {task!r} is of proteins; {name} counts A, C, G and T.")
    if name in store.models(task):
        raise InputError(
            f"{store.path}: task {task!r} has an embedding named {name!r}, which is also the name of the baseline "
            "computed from its letters. Embed again under another name and delete that one."
        )
    return Letters(store, task, name)
