"""Samples of a task with their stored embeddings and labels, in batches.

The order of the samples depends on the seed alone, not on what fits in memory: blocks are drawn, eight at a time, and
the samples of these eight shuffled. So a task that is read anew each epoch gives the same numbers as one held in
memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from embedstore.errors import CorruptError, InputError, NotInStoreError, did_you_mean
from embedstore.progress import progress_bar
from probes.targets import Targets, labelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedstore.rows import Embedding, Rows
    from embedstore.store import Store
    from embedstore.tasks import Labels, TaskRecord

logger = logging.getLogger(__name__)

POOL_BLOCKS = 8
PART_NUCLEOTIDES = 50_000
_MEMORY, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class Part(NamedTuple):
    """Some samples of a batch: few enough that what a network computes for them stays in the processor's cache.

    Attributes
    ----------
    samples
        (n,) int64, indices in the task.
    vector
        (row, channel) in stored precision.
    span
        (row,) int64, nucleotides per row.
    first_row
        (n + 1,) int64, where each sample's rows begin.
    target
        Labels of all positions, as `probes.targets.Targets.of` gives them.
    """

    samples: NDArray[np.int64]
    vector: torch.Tensor
    span: NDArray[np.int64]
    first_row: NDArray[np.int64]
    target: torch.Tensor

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return int(labelled(self.target).sum())


class _Pool(NamedTuple):
    """Samples that are shuffled among each other, and the blocks they lie in."""

    blocks: NDArray[np.int64]
    samples: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Some samples of a task: what a probe is trained or tested on.

    Make one with `ProbeData.from_store` or, for arrays of your own, `ProbeData.from_rows`.

    Attributes
    ----------
    record
        The task's record.
    targets
        Labels of all samples of the task.
    samples
        (n,) int64, indices of these samples, ascending.
    width
        Channels of the embedding.
    description
        What decides the numbers: names, digests, fingerprints. Seeds are derived from it.
    in_memory
        Whether the rows are held in memory; else they are read anew in every epoch.
    """

    record: TaskRecord
    targets: Targets
    samples: NDArray[np.int64]
    width: int
    description: dict[str, Any]
    in_memory: bool
    _first_sample: NDArray[np.int64]
    _held: dict[int, Rows]
    _embedding: Embedding | None = None

    def __repr__(self) -> str:
        where = "in memory" if self.in_memory else "read from the store"
        names = f"{self.description.get('task', self.record.name)}/{self.description.get('model', 'rows')}"
        return f"<ProbeData {names}: {len(self.samples):,} samples, {self.width} channels, {where}>"

    def __len__(self) -> int:
        return len(self.samples)

    @classmethod
    def from_store(
        cls,
        store: Store,
        task: str,
        model: str,
        splits: str | Sequence[str],
        *,
        memory_limit: int | None = None,
        progress: bool = True,
    ) -> ProbeData:
        """Take the samples of some splits from a store.

        Parameters
        ----------
        store
            An open store.
        task
            Name of the task.
        model
            Name of the model, or ``"onehot"``.
        splits
            Name of a split, or several.
        memory_limit
            Hold the rows in memory if they take no more bytes than this, default half of the memory that is free now;
            0 reads them block by block in every epoch. The numbers are the same.
        progress
            Show a progress bar while rows are read into memory.

        Returns
        -------
        ProbeData

        Raises
        ------
        InputError
            The task has no labels.
        NotInStoreError
            The store has no such task or model, or a split has no samples.
        IncompleteError
            A block that is needed is not embedded yet.
        """
        record, labels = store.record(task), store.labels(task)
        if labels is None:
            raise InputError(f"{store.path}: task {task!r} has no labels; a probe needs them")
        table = store.samples(task)
        wanted = [splits] if isinstance(splits, str) else list(splits)
        known = sorted(table["split"].unique())
        for split in wanted:
            if split not in known:
                raise NotInStoreError(
                    f"{store.path}: task {task!r} has no samples of split {split!r}.{did_you_mean(split, known)}"
                )
        samples = np.flatnonzero(table["split"].isin(wanted))
        embedding = store.embedding(task, model)
        if embedding.keeps_some or not embedding.keeps_rows:
            what = "the rows of some positions" if embedding.keeps_some else "the mean of each sample"
            raise InputError(
                f"{store.path}: {task}/{model} holds {what} only; this probe needs all rows. Embed the task with "
                "keep='both' and without positions under another name."
            )
        targets = Targets(record, labels, table["length"].to_numpy())
        starts = np.array([embedding.block_samples(block).start for block in range(embedding.blocks)])
        nbytes = int(embedding.row_count[samples].sum()) * embedding.width * embedding.dtype.itemsize
        limit = _free_memory() // 2 if memory_limit is None else memory_limit
        description = describe(store, task, model, wanted)
        data = cls(record, targets, samples, embedding.width, description, nbytes <= limit, starts, {}, embedding)
        logger.info(
            "%s/%s %s: %d samples, %.2f GB, %s",
            task,
            model,
            "+".join(wanted),
            len(samples),
            nbytes / 1e9,
            "held in memory" if data.in_memory else f"read in every epoch (limit {limit / 1e9:.2f} GB)",
        )
        if data.in_memory:
            for pool in progress_bar(data._pools(None), f"reading {'+'.join(wanted)}", show=progress, unit="pool"):
                data._held.update(data._load(pool))
        return data

    @classmethod
    def from_rows(cls, rows: Rows, labels: Labels, record: TaskRecord) -> ProbeData:
        """Take all samples of rows in memory.

        Parameters
        ----------
        rows
            The rows; `samples` must be 0, 1, 2, ...
        labels
            Labels of these samples.
        record
            Says what the labels are.

        Returns
        -------
        ProbeData
        """
        digest = hashlib.sha256()
        for array in (*rows, labels.values):
            digest.update(np.ascontiguousarray(array).data)
        span = np.concatenate([[0], np.cumsum(rows.span, dtype=np.int64)])
        targets = Targets(record, labels, np.diff(span[rows.first_row]))
        description = {"record": record.to_dict(), "digest": {"rows and labels": digest.hexdigest()}}
        samples, width = np.asarray(rows.samples), rows.vector.shape[1]
        return cls(record, targets, samples, width, description, True, np.zeros(1, np.int64), {0: rows})

    def batches(self, size: int, seed: Sequence[int] | None = None) -> Iterator[list[Part]]:
        """Go through all samples once.

        Where rows are not held in memory, one thread reads the next eight blocks while these are used.

        Parameters
        ----------
        size
            Samples per batch; the last has fewer.
        seed
            Numbers that decide the order; None (default) keeps the order of the task.

        Yields
        ------
        list of Part
            One batch, in parts of about 50,000 nucleotides or one longer sample.
        """
        pools = self._pools(seed)
        order = np.concatenate([pool.samples for pool in pools])
        ends = np.cumsum([len(pool.samples) for pool in pools])
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        if self.in_memory:
            yield from (self._parts(chunk, self._held) for chunk in chunks)
            return
        held: dict[int, Rows] = {}
        loaded = done = used = 0
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(self._load, pools[0])
            for chunk in chunks:
                used += len(chunk)
                while loaded == 0 or ends[loaded - 1] < used:
                    held |= pending.result()
                    loaded += 1
                    if loaded < len(pools):
                        pending = reader.submit(self._load, pools[loaded])
                parts = self._parts(chunk, held)
                while done < loaded and ends[done] <= used:
                    for block in pools[done].blocks:
                        del held[int(block)]
                    done += 1
                yield parts

    def _block_of(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._first_sample, samples, side="right") - 1

    def _pools(self, seed: Sequence[int] | None) -> list[_Pool]:
        """Group the blocks, and the samples of each group, in the order of a seed."""
        block_of = self._block_of(self.samples)
        blocks = np.unique(block_of)
        rng = None if seed is None else np.random.default_rng(seed)
        if rng is not None:
            blocks = rng.permutation(blocks)
        pool_of = np.zeros(len(self._first_sample), np.int64)
        pool_of[blocks] = np.arange(len(blocks)) // POOL_BLOCKS
        order = np.argsort(pool_of[block_of], kind="stable")
        ends = np.cumsum(np.bincount(pool_of[block_of]))
        pools = []
        for number, samples in enumerate(np.split(self.samples[order], ends[:-1])):
            group = blocks[number * POOL_BLOCKS : (number + 1) * POOL_BLOCKS]
            pools.append(_Pool(group, samples if rng is None else rng.permutation(samples)))
        return pools

    def _load(self, pool: _Pool) -> dict[int, Rows]:
        """Read a pool's blocks; of a block that few samples are wanted of, only these."""
        assert self._embedding is not None
        wanted = np.sort(pool.samples)
        block_of = self._block_of(wanted)
        rows = {}
        for block in pool.blocks.tolist():
            here, every = wanted[block_of == block], self._embedding.block_samples(block)
            whole = self._embedding.read_block(block) if 2 * len(here) > len(every) else self._embedding.read(here)
            rows[block] = _subset(whole, here)
        return rows

    def _parts(self, chunk: NDArray[np.int64], held: dict[int, Rows]) -> list[Part]:
        """Copy the rows of some samples next to each other, about 50,000 nucleotides at a time."""
        before = np.cumsum(self.targets.lengths[chunk]) - self.targets.lengths[chunk]
        cuts = np.flatnonzero(np.diff(before // PART_NUCLEOTIDES)) + 1
        return [self._part(samples, held) for samples in np.split(chunk, cuts)]

    def _part(self, samples: NDArray[np.int64], held: dict[int, Rows]) -> Part:
        vectors, spans = [], []
        for sample, block in zip(samples.tolist(), self._block_of(samples).tolist(), strict=True):
            rows = held[block]
            place = int(np.searchsorted(rows.samples, sample))
            part = slice(int(rows.first_row[place]), int(rows.first_row[place + 1]))
            vectors.append(rows.vector[part])
            spans.append(rows.span[part])
            if spans[-1].sum() != self.targets.lengths[sample]:
                raise CorruptError(
                    f"{self!r}: the rows of sample {sample} stand for {spans[-1].sum():,} nucleotides; the sample has "
                    f"{self.targets.lengths[sample]:,}. Run `embedstore verify` on the store."
                )
        first_row = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        vector = torch.from_numpy(np.concatenate(vectors))
        return Part(samples, vector, np.concatenate(spans), first_row, self.targets.of(samples))


def describe(store: Store, task: str, model: str, splits: Sequence[str]) -> dict[str, Any]:
    """Say what decides the numbers of some samples, without reading any.

    Parameters
    ----------
    store
        An open store.
    task, model
        Names.
    splits
        Names of the splits.

    Returns
    -------
    dict
        Plain data: names, the task's record and digests, the fingerprint of the embedding.
    """
    return {
        "task": task,
        "model": model,
        "record": store.record(task).to_dict(),
        "embedding": dict(store.embedding(task, model).fingerprint),
        "digest": dict(store.task_digests(task)),
        "splits": list(splits),
    }


def _subset(rows: Rows, samples: NDArray[np.int64]) -> Rows:
    """Copy the rows of some of the samples, so that the others' memory is free again."""
    if len(samples) == len(rows.samples):
        return rows
    places = np.searchsorted(rows.samples, samples)
    kept = [slice(rows.first_row[place], rows.first_row[place + 1]) for place in places]
    first_row = np.concatenate([[0], np.cumsum([part.stop - part.start for part in kept])])
    return type(rows)(
        samples,
        np.concatenate([rows.vector[part] for part in kept]),
        np.concatenate([rows.span[part] for part in kept]),
        first_row,
    )


def _free_memory() -> int:
    """Return the bytes that can be had now, within the limit of a job's control group where there is one."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    try:
        lines = _MEMORY.read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        limit = (_GROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((_GROUP / "memory.current").read_text()))
    except (OSError, StopIteration):
        logger.debug("no /proc/meminfo or control group here: counting free pages only")
    return free
