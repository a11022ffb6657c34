"""Reading rows of one task and model: every sample that is handed out has been checked against its commit record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.digests import crc32c, fingerprint_word, rows_checksum
from embedstore.direct import DirectReader, Wanted
from embedstore.errors import CorruptError, IncompleteError, InputError, NonFiniteError
from embedstore.indices import offsets, sample_indices
from embedstore.layout import COMMIT_HEADER, Geometry
from embedstore.through_zarr import ZarrReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from embedstore.store import Store


class Rows(NamedTuple):
    """Rows of some samples, one sample after another, without padding.

    Attributes
    ----------
    samples
        Indices of the samples, shape (n,).
    vector
        The rows in the stored precision, shape (row, channel).
    span
        Nucleotides that each row stands for, shape (row,).
    first_row
        Offsets: sample ``i`` of these has rows ``first_row[i]`` to ``first_row[i + 1]``, shape (n + 1,).
    start
        First nucleotide of each row in its sample, shape (row,), where only some rows were kept; else None.
    """

    samples: NDArray[np.int64]
    vector: NDArray[Any]
    span: NDArray[np.int64]
    first_row: NDArray[np.int64]
    start: NDArray[np.int64] | None = None

    def nucleotides(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the rows at nucleotide resolution: each repeated by its span, shape (nucleotide, channel), float32.

        Parameters
        ----------
        out
            A buffer to fill and return, where it has the right shape: fresh memory costs more than the repeat.

        Raises
        ------
        InputError
            If only some rows of the samples were kept.
        """
        if self.start is not None:
            raise InputError("Only some rows of each sample were kept (positions): they do not make whole sequences.")
        shape = (int(self.span.sum()), self.vector.shape[1])
        if out is None or out.shape != shape:
            out = np.empty(shape, np.float32)
        if len(self.vector) == len(out):
            out[...] = self.vector
            return out
        tokens = self.vector.astype(np.float32, copy=False)
        # Indices are in range by construction; "clip" spares the buffering that "raise" needs with `out`.
        return np.take(tokens, np.repeat(np.arange(len(tokens)), self.span), axis=0, out=out, mode="clip")


class Embedding:
    """The stored rows of one task and model; made by :meth:`embedstore.store.Store.embedding`.

    Attributes
    ----------
    task, name
        Names of the task and the model.
    width
        Channels of a row.
    dtype
        Stored precision of the rows.
    resolution
        ``"token"`` or ``"nucleotide"``: what a stored row stands for.
    row_count
        Rows of each sample, shape (sample,); zeros where rows are not kept.
    geometry
        How samples lie in blocks.
    keeps_rows, keeps_pooled
        Whether rows are stored, and the mean of each sample.
    keeps_some
        Whether only some rows of each sample are stored.
    record, fingerprint
        What the model is, and everything that decided the numbers.
    """

    def __init__(self, store: Store, task: str, name: str) -> None:
        self.store, self.task, self.name = store, task, name
        group = store.model_group(task, name)
        attributes = group.attrs["embedstore"]
        assert isinstance(attributes, dict)
        layout: dict[str, Any] = attributes["layout"]
        self.attributes: dict[str, Any] = attributes
        self.record: dict[str, Any] = attributes["record"]
        self.fingerprint: dict[str, str] = attributes["fingerprint"]
        self.resolution: str = layout["resolution"]
        self.codec: str = layout["codec"]
        self.dtype = np.dtype(layout["dtype"])
        self.width = int(layout["width"])
        self.geometry = Geometry(**layout["geometry"])
        self._names: list[str] = layout["arrays"]
        self.keeps_rows, self.keeps_pooled, self.keeps_some = (
            name in self._names for name in ("vector", "pooled", "start")
        )
        where = f"{task}/embedding/{name}"
        self.row_count: NDArray[np.int64] = np.zeros(self.geometry.samples, np.int64)
        self._first = self.row_count
        if self.keeps_rows:
            self.row_count = store.read(f"{where}/row_count")
            self._first = store.read(f"{where}/first_row")
        if (self.row_count < 0).any() or (self._first < 0).any():
            raise CorruptError(
                f"{store.path}: {where}: stored row counts are gone. Run `embedstore repair {store.path}`."
            )
        self._zarr = ZarrReader(store, where, self._names, self.geometry, self.where)
        self._direct = None
        if store.local is not None:
            row_bytes = self.width * self.dtype.itemsize
            self._direct = DirectReader(store.local / where, self.geometry, row_bytes, self.where)
        self._committed: dict[int, NDArray[np.uint32]] = {}

    def __repr__(self) -> str:
        done = self.blocks - len(self.missing())
        return (
            f"<embedstore.Embedding {self.task}/{self.name}: {len(self.row_count):,} samples, {self.width} channels, "
            f"{self.dtype} per {self.resolution}, {done} of {self.blocks} blocks>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Tasks sent to other processes carry where to read, never what was read.
        return type(self), (self.store, self.task, self.name)

    @property
    def has_spans(self) -> bool:
        """Whether rows stand for other numbers of nucleotides than one."""
        return "span" in self._names

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.geometry.blocks

    def block_samples(self, block: int) -> range:
        """Return the indices of the samples of a block."""
        return self.geometry.block_samples(block)

    def missing(self) -> list[int]:
        """Return the blocks that no run has committed yet."""
        return [block for block in range(self.blocks) if self.commit(block) is None]

    def commit(self, block: int) -> NDArray[np.uint32] | None:
        """Return the commit record of a block, or None where there is none.

        Raises
        ------
        CorruptError
            If the record is damaged or was made under another fingerprint.
        """
        if block in self._committed:
            return self._committed[block]
        words = self._zarr.part("commit", np.s_[block], block)
        if not words[0]:
            return None
        body = words[COMMIT_HEADER:]
        if words[0] != fingerprint_word(self.fingerprint) or words[2] != crc32c(body):
            raise CorruptError(
                f"{self.where(block)}: the commit record does not belong here. "
                f"Run `embedstore repair {self.store.path}`, then embed again."
            )
        self._committed[block] = words
        return words

    def where(self, block: int) -> str:
        """Name a block and its samples for a message."""
        samples = self.block_samples(block)
        return f"{self.store.path}: {self.task}/{self.name}: block {block} (samples {samples[0]} to {samples[-1]})"

    def read_block(self, block: int, *, quarantined: bool = False, out: NDArray[Any] | None = None) -> Rows:
        """Read all rows of a block: one read per shard, the fast path.

        Parameters
        ----------
        block
            Which one.
        quarantined
            Give samples that were quarantined as rows of NaN, too; by default reading one is refused.
        out
            Memory for the rows, shape (row or more, channel), in the stored precision: fresh memory costs several times
            what the copy does. The rows are a view of it.

        Raises
        ------
        IncompleteError
            If the block is not committed.
        CorruptError
            If what is stored differs from what was committed.
        NonFiniteError
            If a sample is quarantined.
        """
        return self.read(np.array(self.block_samples(block)), quarantined=quarantined, out=out)

    def read(self, samples: ArrayLike, *, quarantined: bool = False, out: NDArray[Any] | None = None) -> Rows:
        """Read the rows of some samples, in the order asked for, from only the chunks they lie in.

        Parameters
        ----------
        samples
            Their indices.
        quarantined, out
            As for `read_block`, with the same errors.

        Returns
        -------
        Rows
        """
        wanted = sample_indices(samples, len(self.row_count))
        if not self.keeps_rows:
            raise InputError(
                f"{self.store.path}: {self.task}/{self.name} holds the mean of each sample only, no rows. Embed with "
                "keep='both' (--keep both) under another name."
            )
        first = offsets(self.row_count[wanted])
        vector = self._memory(int(first[-1]), out)
        span = np.ones(first[-1], np.int64)
        start = np.empty(first[-1], np.int64) if self.keeps_some else None
        rows = Rows(wanted, vector, span, first, start)
        # Checked block by block, as they come: what has just been read is in the processor's cache.
        for block, places in self.fill(rows):
            self.check(rows, block, places, quarantined=quarantined)
        return rows

    def _memory(self, rows: int, out: NDArray[Any] | None) -> NDArray[Any]:
        """Return memory for rows: that which was given, if it is fit for it."""
        if out is None:
            return np.empty((rows, self.width), self.dtype)
        fit = out.ndim == 2 and out.shape[1] == self.width and out.dtype == self.dtype and len(out) >= rows
        if not (fit and out.flags.c_contiguous and out.flags.writeable):
            raise InputError(
                f"out has shape {out.shape} and dtype {out.dtype}: wanted are at least {rows:,} rows of {self.width} "
                f"channels, {self.dtype}, contiguous and writeable."
            )
        return out[:rows]

    def fill(self, rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Read the rows of samples into memory, unchecked: what `read` and epochs do first.

        Parameters
        ----------
        rows
            Names the samples; its `vector` is filled.

        Yields
        ------
        tuple of int and numpy.ndarray
            A block when it is there, and the places of its samples in `rows`: what to tell `check`.
        """
        owner = rows.samples // self.geometry.samples_per_block
        order = np.argsort(owner, kind="stable")
        edges = np.flatnonzero(np.diff(owner[order])) + 1
        places = {int(owner[part[0]]): part for part in np.split(order, edges) if len(part)}
        wanted = []
        for block, part in places.items():
            self._checksums(block)  # what is not committed is not there to be read
            row = self._first[rows.samples[part]] - block * self.geometry.shard_rows
            wanted.append(Wanted(block, row, self.row_count[rows.samples[part]], rows.first_row[part]))
        reader = self._direct if self._direct is not None and self.codec == "none" else self._zarr
        yield from ((block, places[block]) for block in reader.rows(wanted, rows.vector))

    def check(self, rows: Rows, block: int, places: NDArray[np.int64], *, quarantined: bool = False) -> None:
        """Compare samples of a block with its commit record, and fill in their spans and starts.

        Parameters
        ----------
        rows
            With the rows that `fill` read.
        block, places
            What `fill` gave.
        quarantined
            As for `read_block`.
        """
        sums, before = self._checksums(block).tolist(), block * self.geometry.samples_per_block
        small = self._direct or self._zarr
        span, start = (small.small(name, block) if name in self._names else None for name in ("span", "start"))
        marks = self._marks(block)
        samples = rows.samples[places]
        row = (self._first[samples] - block * self.geometry.shard_rows).tolist()
        begin, end = rows.first_row[places].tolist(), rows.first_row[places + 1].tolist()
        for sample, at, a, b in zip(samples.tolist(), row, begin, end, strict=True):
            own = slice(at, at + b - a)
            spans, starts = (None if values is None else values[own] for values in (span, start))
            bad = marks is not None and bool(marks[sample - before])
            if rows_checksum(rows.vector[a:b], spans, starts, quarantined=bad) != sums[sample - before]:
                raise self._damaged(block, sample, "rows")
            if bad and not quarantined:
                raise self._quarantine(block, np.array([sample]))
            if spans is not None:
                rows.span[a:b] = spans
            if rows.start is not None and starts is not None:
                rows.start[a:b] = starts

    def pooled(self, samples: ArrayLike | None = None, *, quarantined: bool = False) -> NDArray[np.float32]:
        """Read the mean over the nucleotides of samples (all by default).

        Where only rows are stored, the means are taken from them.

        Parameters
        ----------
        samples
            Their indices.
        quarantined
            Give samples that were quarantined as NaN, too; by default reading one is refused.

        Returns
        -------
        numpy.ndarray
            Shape (sample, channel), float32.
        """
        wanted = sample_indices(samples, len(self.row_count))
        out = np.empty((len(wanted), self.width), np.float32)
        per_block = self.geometry.samples_per_block
        for block in np.unique(wanted // per_block):
            here = np.flatnonzero(wanted // per_block == block)
            values = self._pooled_block(int(block))[wanted[here] % per_block]
            bad = np.isnan(values).any(1)
            if bad.any() and not quarantined:
                raise self._quarantine(int(block), wanted[here][bad])
            out[here] = values
        return out

    def _pooled_block(self, block: int) -> NDArray[np.float32]:
        """Read and check the pooled rows of a block."""
        samples = self.block_samples(block)
        if not self.keeps_pooled:
            return self._means(block)
        sums = self._checksums(block)[len(samples) :]
        values = self._zarr.samples("pooled", block)
        for place, sample in enumerate(samples):
            if crc32c(values[place]) != sums[place]:
                raise self._damaged(block, sample, "pooled row")
        return values

    def _means(self, block: int) -> NDArray[np.float32]:
        """Return the means of a block's samples from their rows, taken in float64."""
        if self.keeps_some:
            raise InputError(
                f"{self.store.path}: {self.task}/{self.name} holds some rows of each sample only: there is no mean. "
                "Embed with keep='both' (--keep both) under another name."
            )
        rows = self.read_block(block, quarantined=True)
        weighted = rows.vector * rows.span[:, None].astype(np.float64)
        total = np.add.reduceat(rows.span, rows.first_row[:-1])[:, None]
        means = np.add.reduceat(weighted, rows.first_row[:-1]) / total
        return means.astype(np.float32)

    def quarantined(self) -> NDArray[np.int64]:
        """Return the samples whose rows were not finite and were stored as NaN on request: their indices."""
        if "quarantined" not in self._names:
            return np.empty(0, np.int64)
        marks = self.store.read_part(self._zarr.arrays["quarantined"], np.s_[:], f"{self.store.path}: {self.task}")
        return np.flatnonzero(marks)

    def _quarantine(self, block: int, samples: NDArray[np.int64]) -> NonFiniteError:
        """Describe samples that were quarantined."""
        ids = ", ".join(repr(self.store.sample_id(self.task, int(sample))) for sample in samples[:5])
        return NonFiniteError(
            f"{self.where(block)}: {len(samples)} samples were quarantined, because the model gave NaN or infinity for "
            f"them: {ids}{', ...' if len(samples) > 5 else ''}. `quarantined()` lists all of them: leave them out."
        )

    def _marks(self, block: int) -> NDArray[np.bool_] | None:
        """Tell which samples of a block are quarantined; None where none are."""
        if "quarantined" not in self._names or (
            self._direct is not None and not self._direct.has("quarantined", block)
        ):
            return None
        marks: NDArray[np.bool_] = self._zarr.samples("quarantined", block) != 0
        return marks

    def _checksums(self, block: int) -> NDArray[np.uint32]:
        """Return the checksums of a committed block: of each sample's rows, then of each pooled row."""
        words = self.commit(block)
        if words is None:
            raise IncompleteError(
                f"{self.where(block)} is not embedded yet. Run `embedstore embed {self.task}` with the same model "
                "and store: it does only the blocks that are missing."
            )
        return words[COMMIT_HEADER : COMMIT_HEADER + 2 * len(self.block_samples(block))]

    def _damaged(self, block: int, sample: int, what: str) -> CorruptError:
        """Describe a sample whose bytes are not those that were committed."""
        return CorruptError(
            f"{self.where(block)}: the {what} of sample {sample} ({self.store.sample_id(self.task, sample)!r}) differ "
            "from what was committed: a file was damaged, exchanged or deleted. "
            f"Run `embedstore repair {self.store.path}`, then embed again: only this block is done anew."
        )
