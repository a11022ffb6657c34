"""The stages between the stored sequences and the committed blocks, each beside the others, joined by bounded queues.

One thread reads and tokenises a slab of samples while the one before it is computed; one copies what was computed to
its place; one writes blocks, and one flushes and commits them. A slab is a run of samples of a few batches, so the
memory of a run depends on the budget of a batch and not on the size of blocks or of the task.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.batches import plan_batches
from embedstore.blocks import LARGEST_SPAN
from embedstore.errors import InputError, NonFiniteError
from embedstore.indices import offsets
from embedstore.selection import runs
from embedstore.threads import Ahead, Behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedstore.blocks import BlockWriter, OpenBlock
    from embedstore.computing import Computed, Runner
    from embedstore.placing import Job, Placed
    from embedstore.rows import Embedding
    from embedstore.selection import Selection

SLABS = 4
"""Slabs in a run at most: one being read, one ready or computed, one being copied, one being written."""
BATCHES_PER_SLAB = 4
SLAB_BYTES = 256 * 1024**2
"""Rows of a slab take at most so much, one run of samples more or less."""
COMMITS_AHEAD = 1
_READ_LETTERS, _READ_SAMPLES = 2**18, 256
_LOOK = 0.1  # seconds after which a thread that waits for a buffer looks whether the run goes on


class Slab(NamedTuple):
    """A run of samples on its way through the stages.

    Attributes
    ----------
    samples
        Their indices, ascending, shape (sample,).
    lengths
        Nucleotides of each.
    placed
        What is computed for each, and its stored rows.
    first
        Where the rows of each begin in `vector`, shape (sample + 1,).
    jobs, owner, row
        All jobs, the place of each one's sample in the slab, and its first row in `vector`.
    vector
        Rows, shape (row, channel); None where they are not kept.
    pooled
        Sums over the nucleotides, then means, shape (sample, channel), float32.
    bad
        Samples with rows that are not finite, shape (sample,).
    """

    samples: NDArray[np.int64]
    lengths: NDArray[np.int64]
    placed: list[Placed]
    first: NDArray[np.int64]
    jobs: list[Job]
    owner: list[int]
    row: list[int]
    vector: NDArray[Any] | None
    pooled: NDArray[np.float32]
    bad: NDArray[np.bool_]


class Seconds(NamedTuple):
    """Busy time of each stage, and how long the device stood still, in seconds.

    Attributes
    ----------
    tokenising, computing, copying, writing, committing
        Work of each stage; they run beside each other.
    waiting_for_tokens
        The device waited for the next slab.
    waiting_for_disk
        It waited for a free buffer, because writing was behind.
    total
        Wall time.
    """

    tokenising: float
    computing: float
    copying: float
    writing: float
    committing: float
    waiting_for_tokens: float
    waiting_for_disk: float
    total: float


class Pipeline:
    """Embeds blocks of one embedding.

    Parameters
    ----------
    writer
        Of the embedding.
    runner
        Runs the model.
    selection
        Which rows of which strands are kept.
    quarantine
        Store NaN for samples whose rows are not finite; else stop.
    """

    def __init__(self, writer: BlockWriter, runner: Runner, selection: Selection, *, quarantine: bool) -> None:
        self.embedding: Embedding = writer.embedding
        self.runner = runner
        self.bytes = self.samples = self.rows = 0
        self.quarantined: list[str] = []
        self._writer, self._selection, self._quarantine = writer, selection, quarantine
        self._buffers: queue.Queue[NDArray[Any] | None] = queue.Queue()
        for _ in range(SLABS):
            self._buffers.put(None)
        self._stopping = threading.Event()
        self._open: dict[int, tuple[OpenBlock, contextlib.ExitStack]] = {}
        self._computing = self._buffer_waits = 0.0

    def run(self, blocks: list[int], bar: Any) -> Seconds:
        """Compute, write and commit blocks.

        Parameters
        ----------
        blocks
            Which, ascending.
        bar
            A progress bar of samples.

        Returns
        -------
        Seconds
        """
        began = time.perf_counter()
        committing = Behind(self._commit, COMMITS_AHEAD, "embedstore-commit", discard=self._give_up)
        writing = Behind(lambda slab: self._write(slab, committing), 1, "embedstore-write", discard=self._free)
        copying = Behind(lambda item: self._copy(item, writing, bar), 2, "embedstore-copy", discard=self._drop)
        tokens = Ahead(self._slabs(blocks), 1, "embedstore-tokenise")
        try:
            # Left from the inside out: what is computed is copied, written and committed even when the run stops.
            with committing, writing, copying, tokens:
                try:
                    for slab in tokens:
                        self._compute(slab, copying)
                finally:
                    self._stopping.set()
        finally:
            for part, held in self._open.values():
                part.discard()
                held.close()
            self._open.clear()
        return Seconds(
            tokens.seconds - self._buffer_waits,
            self._computing,
            copying.seconds - writing.waited,
            writing.seconds - committing.waited,
            committing.seconds,
            max(0.0, tokens.waited - self._buffer_waits),
            copying.waited + min(self._buffer_waits, tokens.waited),
            time.perf_counter() - began,
        )

    # ---- reading and tokenising ------------------------------------------------------------------

    def _slabs(self, blocks: list[int]) -> Iterator[Slab]:
        """Yield slabs of the samples of blocks."""
        emb, lengths = self.embedding, self.embedding.store.lengths(self.embedding.task)
        samples = np.concatenate([np.array(emb.block_samples(block)) for block in blocks] or [np.empty(0, np.int64)])
        held: list[tuple[NDArray[np.int64], list[Placed]]] = []
        tokens = size = 0
        letters = min(_READ_LETTERS, BATCHES_PER_SLAB * self.runner.budget)
        for run in runs(samples, lengths, letters, _READ_SAMPLES):
            placed = self._placed(run)
            held.append((run, placed))
            tokens += sum(len(job.ids) for each in placed for job in each.jobs)
            size += sum(len(each.span) for each in placed) * self._row_bytes
            if tokens >= BATCHES_PER_SLAB * self.runner.budget or size >= SLAB_BYTES:
                yield self._slab(held)
                held, tokens, size = [], 0, 0
        if held:
            yield self._slab(held)

    def _placed(self, samples: NDArray[np.int64]) -> list[Placed]:
        """Read and tokenise samples, and check that their rows are those that were planned."""
        emb = self.embedding
        placed = self._selection.place(emb.store, emb.task, self.runner.model, samples)
        for sample, each in zip(samples.tolist(), placed, strict=True):
            if emb.has_spans and len(each.span) and each.span.max() > LARGEST_SPAN:
                raise InputError(
                    f"{emb.task}: sample {emb.store.sample_id(emb.task, sample)!r} has a token of "
                    f"{each.span.max():,} nucleotides; the store holds spans up to {LARGEST_SPAN:,}. It is a run of "
                    "letters that the model does not know: cut it out of the task."
                )
            assert not emb.keeps_rows or len(each.span) == emb.row_count[sample]
        return placed

    @property
    def _row_bytes(self) -> int:
        return self.embedding.width * self._stored.itemsize if self.embedding.keeps_rows else 0

    @property
    def _stored(self) -> np.dtype[Any]:
        """The precision of a slab's rows: the mean of two strands is rounded once, at the end."""
        return np.dtype(np.float32) if self._selection.strands == "both" else self.embedding.dtype

    def _slab(self, held: list[tuple[NDArray[np.int64], list[Placed]]]) -> Slab:
        """Make a slab, waiting for a free buffer."""
        emb = self.embedding
        samples = np.concatenate([which for which, _ in held])
        placed = [each for _, parts in held for each in parts]
        first = offsets(np.array([len(each.span) for each in placed], np.int64))
        jobs = [(number, job) for number, each in enumerate(placed) for job in each.jobs]
        buffer = self._buffer()
        vector = None
        if emb.keeps_rows:
            if buffer is None or len(buffer) < first[-1]:
                buffer = np.empty((int(first[-1]), emb.width), self._stored)
            vector = buffer[: first[-1]]
            if self._selection.strands == "both":
                vector[:] = 0
        return Slab(
            samples,
            emb.store.lengths(emb.task)[samples],
            placed,
            first,
            [job for _, job in jobs],
            [number for number, _ in jobs],
            [int(first[number]) + job.row for number, job in jobs],
            vector,
            np.zeros((len(samples), emb.width), np.float32),
            np.zeros(len(samples), bool),
        )

    def _buffer(self) -> NDArray[Any] | None:
        """Return a buffer that a slab before this one no longer needs."""
        began = time.perf_counter()
        while True:
            try:
                buffer = self._buffers.get(timeout=_LOOK)
            except queue.Empty:
                if self._stopping.is_set():
                    raise InterruptedError("the run is being stopped") from None
            else:
                self._buffer_waits += time.perf_counter() - began
                return buffer

    # ---- computing -------------------------------------------------------------------------------

    def _compute(self, slab: Slab, copying: Behind[tuple[Slab, Computed | None]]) -> None:
        """Run the batches of a slab."""
        model = self.runner.model
        lengths = np.array([len(job.ids) for job in slab.jobs], np.int64)
        for batch in plan_batches(lengths, self.runner.budget, packs=model.packs, pads=model.pads):
            for computed in self.runner.run(slab.jobs, batch):
                copying.put((slab, computed))
        copying.put((slab, None))

    def _copy(self, item: tuple[Slab, Computed | None], writing: Behind[Slab], bar: Any) -> None:
        """Copy the rows of a batch to their places; hand the slab on after its last one."""
        slab, computed = item
        if computed is None:
            self._end(slab)
            bar.update(len(slab.samples))
            writing.put(slab)
            return
        output, seconds = computed.wait()
        self._computing += seconds
        bad: dict[int, float] = {}
        row = 0
        for number, job in enumerate(computed.batch.tolist()):
            owner, this = slab.owner[job], slab.jobs[job]
            if output.sums is not None:
                slab.pooled[owner] += output.sums[number]
            taken = (len(this.span) if this.take is None else len(this.take)) if output.rows is not None else 1
            largest = float(output.largest[row : row + taken].max(initial=0))  # NaN where any is
            if output.rows is not None:
                self._place(slab, job, output.rows[row : row + taken])
            row += taken
            if not largest <= self._limit:
                bad[owner] = largest
        computed.release()
        if bad and not self._quarantine:
            raise self._non_finite(slab, bad)
        slab.bad[list(bad)] = True

    def _place(self, slab: Slab, job: int, values: NDArray[Any]) -> None:
        """Copy the rows of a job to their place."""
        this = slab.jobs[job]
        assert slab.vector is not None
        if this.repeat is not None:
            values = np.repeat(values, this.repeat, axis=0)
        place = slab.vector[slab.row[job] : slab.row[job] + this.rows]
        if self._selection.strands == "both":
            place += values * np.float32(0.5)
        else:
            place[:] = values

    @property
    def _limit(self) -> float:
        """The largest number that can be stored: half a step more than the largest of the format rounds to that."""
        most = np.finfo(self.embedding.dtype if self.embedding.keeps_rows else np.float32)
        return float(most.max) * (1 + float(most.eps) / 4)

    def _non_finite(self, slab: Slab, bad: dict[int, float]) -> NonFiniteError:
        """Name samples whose rows cannot be stored, and why."""
        emb = self.embedding
        ids = [repr(emb.store.sample_id(emb.task, int(slab.samples[owner]))) for owner in list(bad)[:5]]
        names = f"samples {', '.join(ids)}{', ...' if len(bad) > 5 else ''} ({len(bad)} in a batch)"
        largest = max(bad.values(), key=lambda value: np.inf if np.isnan(value) else value)
        if np.isfinite(largest):
            why = f"values up to {largest:g} do not fit {emb.dtype} (largest {np.finfo(emb.dtype).max:g})"
            cure = "Embed with dtype float32 (--dtype float32) under another name"
        else:
            why, cure = "the model gave NaN or infinity", "Check the checkpoint and these sequences"
        return NonFiniteError(
            f"{emb.store.path}: {emb.task}/{emb.name}: {names}: {why}. {cure}; or give quarantine=True (--quarantine) "
            "to store such samples as NaN and list them."
        )

    def _end(self, slab: Slab) -> None:
        """Turn sums into means, and rows of quarantined samples into NaN."""
        strands = 2 if self._selection.strands == "both" else 1
        np.divide(slab.pooled, (strands * slab.lengths).astype(np.float32)[:, None], out=slab.pooled)
        for number in np.flatnonzero(slab.bad).tolist():
            slab.pooled[number] = np.nan
            if slab.vector is not None:
                slab.vector[slab.first[number] : slab.first[number + 1]] = np.nan
            self.quarantined.append(self.embedding.store.sample_id(self.embedding.task, int(slab.samples[number])))

    # ---- writing ---------------------------------------------------------------------------------

    def _write(self, slab: Slab, committing: Behind[int]) -> None:
        """Add the samples of a slab to their blocks; hand on the blocks that are whole."""
        emb = self.embedding
        try:
            for block in np.unique(slab.samples // emb.geometry.samples_per_block).tolist():
                here = np.flatnonzero(slab.samples // emb.geometry.samples_per_block == block)
                self._add(slab, block, int(here[0]), int(here[-1]) + 1)
                if slab.samples[here[-1]] == emb.block_samples(block)[-1]:
                    committing.put(block)
        finally:
            self._free(slab)

    def _add(self, slab: Slab, block: int, a: int, b: int) -> None:
        """Add samples a to b of a slab to a block, which is claimed with its first one."""
        emb = self.embedding
        if block not in self._open:
            with contextlib.ExitStack() as held:
                held.enter_context(self._writer.claim(block))
                self._open[block] = self._writer.begin(block), held.pop_all()
        vector = span = start = None
        if slab.vector is not None:
            vector = slab.vector[slab.first[a] : slab.first[b]].astype(emb.dtype, copy=False)
            placed = slab.placed[a:b]
            if emb.has_spans:
                span = np.concatenate([each.span for each in placed]).astype(np.uint16)
            if emb.keeps_some:
                starts = [each.start for each in placed if each.start is not None]
                start = np.concatenate(starts).astype(np.uint32)
            self.rows += len(vector)
        pooled = slab.pooled[a:b] if emb.keeps_pooled else None
        self._open[block][0].add(b - a, vector, span, start, pooled, slab.bad[a:b])
        self.samples += b - a

    def _commit(self, block: int) -> None:
        """Flush and commit a block, and let go of it."""
        part, held = self._open[block]
        with held:
            self.bytes += part.commit()
        del self._open[block]

    def _free(self, slab: Slab) -> None:
        """Give the buffer of a slab back."""
        self._buffers.put(None if slab.vector is None else slab.vector.base)

    def _drop(self, item: tuple[Slab, Computed | None]) -> None:
        """Let go of what is not needed after an error."""
        slab, computed = item
        if computed is None:
            self._free(slab)
        else:
            computed.wait()
            computed.release()

    def _give_up(self, block: int) -> None:
        """Leave a block uncommitted after an error; it is discarded when the run ends."""
