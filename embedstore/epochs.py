"""A task in random order, as torch tensors: neighbouring samples are read ahead, and shuffled in memory.

Reading single samples in random order costs several times what reading neighbours does. Here a thread reads runs of
neighbours in random order, and the samples of a few runs are shuffled among each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.indices import offsets, sample_indices
from embedstore.threads import Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import ArrayLike, NDArray

    from embedstore.rows import Embedding, Rows


class Batch(NamedTuple):
    """Some samples of an epoch.

    Attributes
    ----------
    samples
        Their indices in the task, shape (sample,), int64.
    vector
        Their rows in the stored precision, one sample after another: tokens, shape (row, channel), or nucleotides. The
        memory is used again for the batch after the next one.
    span
        Nucleotides of each row, shape (row,), int64; ones for nucleotides.
    first_row
        Where the rows of each sample begin, shape (sample + 1,), int64.
    """

    samples: NDArray[np.int64]
    vector: torch.Tensor
    span: NDArray[np.int64]
    first_row: NDArray[np.int64]


def shuffled(
    embedding: Embedding,
    *,
    batch: int = 64,
    seed: int = 0,
    epoch: int = 0,
    samples: ArrayLike | None = None,
    read: int = 64,
    window: int = 256,
    nucleotides: bool = False,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yield the samples of a task in random order, each once.

    Parameters
    ----------
    embedding
        From `Store.embedding`; all rows must be kept.
    batch
        Samples of a batch.
    seed, epoch
        Decide the order, together with `samples`, `read` and `window`.
    samples
        Indices of the samples to go through; all by default.
    read
        Neighbouring samples that are read together.
    window
        Samples that are shuffled among each other.
    nucleotides
        Give one row per nucleotide, not per stored row.
    pin
        Use pinned memory, from which tensors go to a CUDA device beside other work.

    Yields
    ------
    Batch
        Every sample was compared with its commit record.

    Raises
    ------
    InputError
        If a size is below 1, or only some rows were kept.
    IncompleteError, CorruptError, NonFiniteError
        When a block is read that is not there, is damaged, or holds a sample that was quarantined.
    """
    for name, value in (("batch", batch), ("read", read), ("window", window)):
        if value < 1:
            raise InputError(f"{name} is {value}: it must be at least 1.")
    if pin:
        import torch

        if not torch.cuda.is_available():
            raise InputError("pin needs a CUDA device, and there is none: leave it out.")
    if embedding.keeps_some:
        raise InputError(f"{embedding.task}/{embedding.name} holds the rows of some positions only: no whole samples.")
    everything = np.arange(len(embedding.row_count))
    wanted = everything if samples is None else np.unique(sample_indices(samples, len(everything)))
    rng = np.random.default_rng([seed, epoch])
    windows = _windows(wanted, embedding.geometry.samples_per_block, read, max(1, window // read), rng)
    memory = _Memory(embedding, pin=pin)
    with Ahead(_read(embedding, windows, rng.spawn(1)[0], memory), 1, "embedstore-epoch") as held:
        for rows in held:
            for start in range(0, len(rows.samples), batch):
                yield _batch(rows, start, min(start + batch, len(rows.samples)), memory, nucleotides=nucleotides)


def _windows(
    samples: NDArray[np.int64], per_block: int, read: int, runs: int, rng: np.random.Generator
) -> list[list[NDArray[np.int64]]]:
    """Split samples into runs within blocks, and put the runs into windows in random order."""
    edges = np.flatnonzero(np.diff(samples // per_block)) + 1
    cut = [part[start : start + read] for part in np.split(samples, edges) for start in range(0, len(part), read)]
    order = rng.permutation(len(cut))
    return [[cut[i] for i in order[start : start + runs]] for start in range(0, len(cut), runs)]


class _Memory:
    """Buffers that are used in turn: fresh memory costs several times what filling it does.

    Of windows there are four: one that a batch still in use is of, the one after it, one that is ready, and one being
    read.
    """

    def __init__(self, embedding: Embedding, *, pin: bool) -> None:
        self._embedding, self._pin = embedding, pin
        self._buffers: dict[tuple[str, int], torch.Tensor] = {}
        self._turn = {"window": 0, "batch": 0}

    def take(self, what: str, rows: int) -> torch.Tensor:
        """Return memory for rows of a window or a batch."""
        import torch

        self._turn[what] = (self._turn[what] + 1) % (4 if what == "window" else 2)
        key = what, self._turn[what]
        known = self._buffers.get(key)
        if known is None or len(known) < rows:
            # numpy asks for huge pages, which are filled for the first time with a tenth of the faults.
            known = torch.from_numpy(np.empty((rows, self._embedding.width), self._embedding.dtype))
            known = self._buffers[key] = known.pin_memory() if self._pin else known
        return known[:rows]


def _read(
    embedding: Embedding, windows: list[list[NDArray[np.int64]]], rng: np.random.Generator, memory: _Memory
) -> Iterator[Rows]:
    """Read windows, the samples of each in random order: rows go from the file to their place in a batch at once."""
    for runs in windows:
        samples = rng.permutation(np.concatenate(runs))
        buffer = memory.take("window", int(embedding.row_count[samples].sum()))
        yield embedding.read(samples, out=buffer.numpy())


def _batch(rows: Rows, start: int, stop: int, memory: _Memory, *, nucleotides: bool) -> Batch:
    """Return samples that follow each other in a window."""
    import torch

    own = slice(int(rows.first_row[start]), int(rows.first_row[stop]))
    first = rows.first_row[start : stop + 1] - rows.first_row[start]
    vector, span = torch.from_numpy(rows.vector[own]), rows.span[own]
    if not nucleotides:
        return Batch(rows.samples[start:stop], vector, span, first)
    ends = offsets(span)
    out = memory.take("batch", int(ends[-1]))
    index = torch.from_numpy(np.repeat(np.arange(len(span)), span))
    torch.index_select(vector, 0, index, out=out)
    return Batch(rows.samples[start:stop], out, np.ones(len(out), np.int64), ends[first])
