"""Where a probe's rows come from: blocks of a store, read into memory or anew in every epoch."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from embedstore.errors import IncompleteError, InputError
from embedstore.indices import offsets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedstore.rows import Embedding, Rows
    from embedstore.store import Store
    from embedstore.tasks import TaskRecord

logger = logging.getLogger(__name__)

_MEMORY, _GROUP, _PROCESS = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/statm")


class Held(NamedTuple):
    """Rows of some samples in the memory of a device."""

    samples: NDArray[np.int64]
    vector: torch.Tensor
    span: NDArray[np.int64]
    first_row: NDArray[np.int64]

    def has(self, samples: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some samples are here."""
        places = np.minimum(np.searchsorted(self.samples, samples), len(self.samples) - 1)
        found: NDArray[np.bool_] = self.samples[places] == samples
        return found

    def take(self, samples: NDArray[np.int64]) -> Held:
        """Return some of the samples, in the order asked for; consecutive ones share memory."""
        places = np.searchsorted(self.samples, samples)
        begin, end = self.first_row[places], self.first_row[places + 1]
        first_row = offsets(end - begin)
        if (np.diff(places) == 1).all():
            part = slice(int(begin[0]), int(end[-1]))
            return Held(samples, self.vector[part], self.span[part], first_row)
        if (end - begin == 1).all():
            rows = torch.from_numpy(begin).to(self.vector.device)
            return Held(samples, self.vector.index_select(0, rows), self.span[begin], first_row)
        parts = [slice(*pair) for pair in zip(begin.tolist(), end.tolist(), strict=True)]
        vector = torch.cat([self.vector[part] for part in parts])
        return Held(samples, vector, np.concatenate([self.span[part] for part in parts]), first_row)


def take(held: Sequence[Held], samples: NDArray[np.int64]) -> Held:
    """Return samples of which each is in one of several places.

    Parameters
    ----------
    held
        Where they are.
    samples
        Which.

    Returns
    -------
    Held
        In the order asked for.
    """
    owner = np.argmax([one.has(samples) for one in held], axis=0)
    runs = np.split(np.arange(len(samples)), np.flatnonzero(np.diff(owner)) + 1)
    parts = [held[int(owner[run[0]])].take(samples[run]) for run in runs]
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([np.diff(part.first_row) for part in parts])
    vector, span = torch.cat([part.vector for part in parts]), np.concatenate([part.span for part in parts])
    return Held(samples, vector, span, offsets(rows))


def hold(rows: Rows) -> Held:
    """Hold rows that were read.

    Parameters
    ----------
    rows
        Whole samples, ascending.

    Returns
    -------
    Held
        The same memory.
    """
    return Held(np.asarray(rows.samples), torch.from_numpy(rows.vector), rows.span, rows.first_row)


class Source(NamedTuple):
    """Where rows are read from."""

    embedding: Embedding | None
    lengths: NDArray[np.int64]
    pooled: bool

    def block_of(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the block of each sample."""
        if self.embedding is None:
            return np.zeros(len(samples), np.int64)
        return samples // self.embedding.geometry.samples_per_block

    def row_count(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of each sample."""
        assert self.embedding is not None
        return np.ones(len(samples), np.int64) if self.pooled else self.embedding.row_count[samples]

    def nbytes(self, samples: NDArray[np.int64]) -> int:
        """Return the bytes of the rows of samples."""
        assert self.embedding is not None
        return int(self.row_count(samples).sum()) * self.embedding.width * self._dtype.itemsize

    @property
    def _dtype(self) -> np.dtype[Any]:
        assert self.embedding is not None
        return np.dtype(np.float32) if self.pooled else self.embedding.dtype

    def there(self, samples: NDArray[np.int64], allow_partial: bool) -> tuple[NDArray[np.int64], int]:
        """Return the samples whose blocks are embedded, and how many blocks are not."""
        emb = self.embedding
        assert emb is not None
        block_of = self.block_of(samples)
        needed = np.unique(block_of)
        missing = emb.missing()
        lacking = np.intersect1d(needed, missing)
        if not len(lacking):
            return samples, 0
        where = f"{emb.store.path}: {emb.task}/{emb.name}: {len(missing)} of {emb.blocks} blocks are not embedded yet"
        if not allow_partial:
            raise IncompleteError(
                f"{where}; {len(lacking)} of them hold samples that are needed here. {_add_them(emb)}, or use what is "
                "there with allow_partial=True (--allow-partial): every result then says so."
            )
        kept = samples[~np.isin(block_of, lacking)]
        if not len(kept):
            raise IncompleteError(f"{where}; none of the samples that are needed here is. Embed more first.")
        logger.warning("%s: %d of %d samples are left out", where, len(samples) - len(kept), len(samples))
        return kept, len(missing)

    def load(self, samples: NDArray[np.int64], portions: Iterable[NDArray[np.int64]]) -> Rows:
        """Read the rows of samples, which are ascending and follow one another in the portions."""
        from embedstore.rows import Rows

        emb = self.embedding
        assert emb is not None
        first = offsets(self.row_count(samples))
        vector = np.empty((first[-1], emb.width), self._dtype)
        span = self.lengths[samples].astype(np.int64) if self.pooled else np.ones(first[-1], np.int64)
        for portion in portions:
            for here in np.split(portion, np.flatnonzero(np.diff(self.block_of(portion))) + 1):
                begin = int(np.searchsorted(samples, here[0]))
                at = slice(int(first[begin]), int(first[begin + len(here)]))
                if self.pooled:
                    vector[at] = emb.pooled(here)
                    continue
                block = int(self.block_of(here[:1])[0])
                if len(here) < len(emb.block_samples(block)) < 2 * len(here):  # reading all of it is faster
                    rows = _subset(emb.read_block(block), here)
                    vector[at] = rows.vector
                else:
                    rows = emb.read(here, out=vector[at])
                span[at] = rows.span
        return Rows(samples, vector, span, first)


def _add_them(embedding: Embedding) -> str:
    """Say how to embed the blocks that are not there: as the last run was told to."""
    from embedstore.provenance import runs

    records = [*runs(embedding).values()]
    command = records[-1]["command"] if records else ""
    if " embed " in command:
        return f"Run `{command}` again to add them"
    return f"Call embedstore.embed(store, {embedding.task!r}, ..., name={embedding.name!r}) again to add them"


def open_rows(store: Store, task: str, model: str) -> Embedding:
    """Open the rows of a model, or of a baseline that is computed from the letters.

    Parameters
    ----------
    store
        An open store.
    task, model
        Names.

    Returns
    -------
    Embedding
    """
    from probes.letters import open_letters

    return open_letters(store, task, model) or store.embedding(task, model)


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
        "embedding": dict(open_rows(store, task, model).fingerprint),
        "digest": dict(store.task_digests(task)),
        "splits": list(splits),
    }


def check_kept(embedding: Embedding, record: TaskRecord, pooled: bool) -> None:
    """Refuse an embedding that does not hold what is asked for.

    Parameters
    ----------
    embedding
        Of the task.
    record
        Of the task.
    pooled
        Whether the mean of each sample is asked for, and not its rows.

    Raises
    ------
    InputError
        It does not hold them.
    """
    where = f"{embedding.store.path}: {embedding.task}/{embedding.name}"
    if pooled and record.level != "sequence":
        raise InputError(
            f"{where}: the labels of task {embedding.task!r} belong to a {record.level}; the mean of a whole sample "
            "(pooled) is for labels of whole sequences."
        )
    if pooled and (embedding.keeps_pooled or (embedding.keeps_rows and not embedding.keeps_some)):
        return
    if embedding.keeps_some or not embedding.keeps_rows:
        what = "the rows of some positions" if embedding.keeps_some else "the mean of each sample"
        raise InputError(
            f"{where} holds {what} only; this probe needs all rows. Embed the task with keep='both' and without "
            "positions under another name, or use a probe on means (linear, mlp, ridge, logistic)."
        )


def _subset(rows: Rows, samples: NDArray[np.int64]) -> Rows:
    """Copy the rows of some of the samples, so that the others' memory is free again."""
    if len(samples) == len(rows.samples):
        return rows
    places = np.searchsorted(rows.samples, samples)
    kept = [slice(rows.first_row[place], rows.first_row[place + 1]) for place in places]
    first_row = offsets(np.diff(rows.first_row)[places])
    return type(rows)(
        samples,
        np.concatenate([rows.vector[part] for part in kept]),
        np.concatenate([rows.span[part] for part in kept]),
        first_row,
    )


def _worker_memory() -> int | None:
    """Return what dask lets this process have, where it is a worker with a limit: above it dask kills the worker."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        limit: int | None = distributed.get_worker().memory_manager.memory_limit
    except ValueError:
        return None
    return limit


def free_memory() -> int:
    """Return the bytes that can be had now, within the limits of a job's control group and of a dask worker.

    Returns
    -------
    int
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    try:
        lines = _MEMORY.read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        limit = (_GROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((_GROUP / "memory.current").read_text()))
        share = _worker_memory()
        if share is not None:
            mine = int(_PROCESS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            free = min(free, max(0, share - mine))
    except (OSError, StopIteration):
        logger.debug("no /proc/meminfo or control group here: counting free pages only")
    return free
