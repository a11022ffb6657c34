"""The embedding stage: plan, then blocks, batches of equal length, device, cast, rows, a writing thread, commits.

The device never waits for the disk as long as the disk keeps up: finished blocks are written by a thread of their own
while the next one is computed. Three block buffers go round, so memory does not grow with the task.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from embedstore.blocks import LARGEST_SPAN, BlockWriter, create_embedding
from embedstore.errors import InputError, NonFiniteError
from embedstore.planning import (
    batch_ids,
    check_alphabet,
    check_choices,
    check_space,
    fingerprint,
    pieces_of,
    row_counts,
)
from embedstore.progress import progress_bar
from embedstore.rows import Embedding, offsets
from embedstore.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from embedstore.layout import Codec, Resolution
    from embedstore.models import Model, Piece

logger = logging.getLogger(__name__)

BUFFERS = 3
"""Block buffers in a run: one being computed, one waiting, one being written."""


class EmbedReport(NamedTuple):
    """What a run did.

    Attributes
    ----------
    samples, rows, blocks, bytes
        Embedded and written by this run.
    blocks_before
        Blocks that were committed before and not done again.
    seconds
        Wall time of computing and writing.
    seconds_model
        Time inside the model, its copy to the host included.
    seconds_waiting
        Time in which the next block waited for the writer to free a buffer.
    seconds_writing
        Time of the writing thread, which runs beside the others.
    """

    task: str
    model: str
    samples: int
    rows: int
    blocks: int
    bytes: int
    blocks_before: int
    seconds: float
    seconds_model: float
    seconds_waiting: float
    seconds_writing: float


def embed(
    store: Store | str | Path,
    task: str,
    model: Model,
    *,
    name: str | None = None,
    resolution: Resolution = "token",
    dtype: str = "float16",
    codec: Codec = "none",
    batch_tokens: int | None = None,
    progress: bool = True,
) -> EmbedReport:
    """Embed a task with a model into a store; blocks that are committed already are not done again.

    The result does not depend on `batch_tokens` (to float32 rounding). A run may be stopped at any moment: what is
    committed stays, and the same call goes on from there.

    Parameters
    ----------
    store
        A store opened with ``mode="a"``, or its path.
    task
        Name of a task in it.
    model
        From :func:`embedstore.models.load`.
    name
        Name of the embedding in the store; the model's own by default.
    resolution
        ``"token"`` (default): one stored row per token. ``"nucleotide"``: each token's row repeated on disk, for tools
        that know nothing of spans.
    dtype
        ``"float16"`` (default) or ``"float32"``.
    codec
        ``"none"`` (default) or ``"zstd"``.
    batch_tokens
        Most tokens in a batch. Default: 16,384 on a CPU, 131,072 on a GPU.
    progress
        Show a bar.

    Returns
    -------
    EmbedReport

    Raises
    ------
    FingerprintError
        If the store holds rows under this name that were made from something else.
    NonFiniteError
        If the model gives NaN or infinity, or a value too large for `dtype`; the samples are named.
    DiskSpaceError
        If the disk has not enough room for what is left, or fills up.
    BlockTakenError
        If another run is writing the same blocks.
    """
    check_choices(resolution=resolution, dtype=dtype, codec=codec)
    if batch_tokens is None:
        batch_tokens = 131_072 if model.device.type == "cuda" else 16_384
    if batch_tokens < 1:
        raise InputError(f"batch_tokens is {batch_tokens}: it must be at least 1.")
    store = store if isinstance(store, Store) else open_store(store, mode="a")
    check_alphabet(store, task, model)
    lengths = store.lengths(task)
    writer = create_embedding(
        store,
        task,
        name or model.name,
        record=dict(model.record),
        fingerprint=fingerprint(store, task, model, resolution=resolution, dtype=dtype, codec=codec),
        width=model.width,
        row_count=lambda: lengths if resolution == "nucleotide" else row_counts(store, task, model, progress=progress),
        dtype=dtype,
        resolution=resolution,
        codec=codec,
    )
    todo = writer.embedding.missing()
    logger.info("%s: %d of %d blocks to embed", writer.embedding, len(todo), writer.embedding.blocks)
    check_space(writer.embedding, todo)
    report = _run(writer, model, todo, batch_tokens, progress=progress)
    writer.finish()
    return report


def _run(writer: BlockWriter, model: Model, todo: list[int], batch_tokens: int, *, progress: bool) -> EmbedReport:
    """Compute and write blocks."""
    emb = writer.embedding
    begun = time.perf_counter()
    clock = {"model": 0.0, "waiting": 0.0}
    samples = rows = 0
    total = sum(len(emb.block_samples(block)) for block in range(emb.blocks))
    before = total - sum(len(emb.block_samples(block)) for block in todo)
    bar = progress_bar(None, f"embed {emb.task}/{emb.name}", show=progress, total=total, initial=before, unit="seq")
    with bar, _WritingThread(writer) as thread:
        for block in todo:
            with contextlib.ExitStack() as held:
                held.enter_context(writer.claim(block))
                waited = time.perf_counter()
                buffer = thread.free_buffer()
                clock["waiting"] += time.perf_counter() - waited
                vector, span, pooled = _compute(emb, model, block, buffer, batch_tokens, clock, bar)
                thread.put(block, buffer, vector, span, pooled, held.pop_all())
            samples, rows = samples + len(pooled), rows + len(vector)
            bar.set_postfix_str(f"{thread.bytes / 1e6:,.0f} MB written", refresh=False)
    return EmbedReport(
        emb.task,
        emb.name,
        samples,
        rows,
        len(todo),
        thread.bytes,
        emb.blocks - len(todo),
        time.perf_counter() - begun,
        clock["model"],
        clock["waiting"],
        thread.seconds,
    )


class _Place(NamedTuple):
    """Where the rows of a piece go."""

    sample: int  # within the block
    row: int  # within the block
    piece: Piece
    last: bool  # of its sample


def _compute(
    emb: Embedding,
    model: Model,
    block: int,
    buffer: NDArray[Any],
    batch_tokens: int,
    clock: dict[str, float],
    bar: Any,
) -> tuple[NDArray[Any], NDArray[np.uint16] | None, NDArray[np.float32]]:
    """Compute rows, spans and pooled rows of a block."""
    samples = emb.block_samples(block)
    sequences = emb.store.sequences(emb.task, np.array(samples))
    pieces = [
        pieces_of(emb.store, emb.task, sample, model, codes) for sample, codes in zip(samples, sequences, strict=True)
    ]
    places = _places(emb, samples, pieces)
    first = offsets(emb.row_count[samples.start : samples.stop])
    vector = buffer[: first[-1]]
    pooled = np.zeros((len(samples), emb.width), np.float32)
    for batch in _batches(places, batch_tokens):
        began = time.perf_counter()
        rows, sums = _forward(batch, model, emb, samples.start)
        clock["model"] += time.perf_counter() - began
        for place, values, total in zip(batch, rows, sums, strict=True):
            if emb.resolution == "nucleotide":
                values = np.repeat(values, place.piece.span, axis=0)  # noqa: PLW2901 - what is stored of the piece
            vector[place.row : place.row + len(values)] = values
            pooled[place.sample] += total
        bar.update(sum(place.last for place in batch))
    pooled /= np.array([len(codes) for codes in sequences], np.float32)[:, None]
    span = None
    if emb.has_spans:
        # Places are in order of samples and pieces, so their spans are in order of rows.
        span = np.concatenate([place.piece.span for place in places]).astype(np.uint16)
    return vector, span, pooled


def _places(emb: Embedding, samples: range, pieces: list[list[Piece]]) -> list[_Place]:
    """Lay the pieces of a block out on its rows, checking that they fill them."""
    places = []
    row = 0
    for number, (sample, parts) in enumerate(zip(samples, pieces, strict=True)):
        start = row
        for part, piece in enumerate(parts):
            if len(piece.span) and piece.span.max() > LARGEST_SPAN:
                raise InputError(
                    f"{emb.task}: sample {emb.store.sample_id(emb.task, sample)!r} has a token of "
                    f"{piece.span.max():,} nucleotides; the store holds spans up to {LARGEST_SPAN:,}. It is a run of "
                    "letters that the model does not know: cut it out of the task."
                )
            places.append(_Place(number, row, piece, part == len(parts) - 1))
            row += int(piece.span.sum()) if emb.resolution == "nucleotide" else len(piece.span)
        assert row - start == emb.row_count[sample]
    return places


def _batches(places: list[_Place], batch_tokens: int) -> Iterator[list[_Place]]:
    """Yield batches of pieces with equal shapes, longest first, so that memory is tried out at the start."""
    groups: dict[tuple[int, int, int], list[_Place]] = {}
    for place in places:
        piece = place.piece
        groups.setdefault((len(piece.ids), piece.first, len(piece.span)), []).append(place)
    for key in sorted(groups, reverse=True):
        size = max(1, batch_tokens // key[0])
        members = groups[key]
        yield from (members[start : start + size] for start in range(0, len(members), size))


def _forward(batch: list[_Place], model: Model, emb: Embedding, first: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Run the model on a batch; return rows (piece, row, channel) as stored, and sums over nucleotides."""
    import torch

    piece = batch[0].piece
    hidden = model.hidden(batch_ids([place.piece for place in batch], model))
    kept = hidden[:, piece.first : piece.first + len(piece.span)]
    span = torch.from_numpy(np.stack([place.piece.span for place in batch])).to(kept)
    sums = torch.einsum("btc,bt->bc", kept, span)
    rows = kept.to(getattr(torch, emb.dtype.name))
    finite = torch.isfinite(rows).flatten(1).all(1)
    if not finite.all():
        bad = [place for place, fine in zip(batch, finite.tolist(), strict=True) if not fine]
        raise _non_finite(emb, first, bad, kept[~finite])
    return rows.cpu().numpy(), sums.cpu().numpy()


def _non_finite(emb: Embedding, first: int, bad: list[_Place], values: Any) -> NonFiniteError:
    """Name the samples whose rows cannot be stored, and why."""
    ids = [repr(emb.store.sample_id(emb.task, first + place.sample)) for place in bad[:5]]
    names = f"{len(bad)} pieces of samples {', '.join(ids)}"
    largest = float(values.abs().max())
    if np.isfinite(largest):
        why = f"values up to {largest:g} do not fit {emb.dtype} (largest {np.finfo(emb.dtype).max:g})"
        cure = "Embed with dtype float32 (--dtype float32) under another name."
    else:
        why, cure = "the model gave NaN or infinity", "Check the checkpoint and these sequences."
    return NonFiniteError(f"{emb.store.path}: {emb.task}/{emb.name}: {names}: {why}. {cure}")


class _WritingThread:
    """Writes and commits finished blocks while the next one is computed."""

    def __init__(self, writer: BlockWriter) -> None:
        self.bytes = 0
        self.seconds = 0.0
        self._writer = writer
        self._error: BaseException | None = None
        emb = writer.embedding
        largest = emb.geometry.shard_rows
        self._free: queue.Queue[NDArray[Any]] = queue.Queue()
        for _ in range(min(BUFFERS, emb.blocks)):
            self._free.put(np.empty((largest, emb.width), emb.dtype))
        self._todo: queue.Queue[tuple[Any, ...] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="embedstore-writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Finished blocks are worth keeping even when the run stops: they are written and committed before it ends.
        self._todo.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def free_buffer(self) -> NDArray[Any]:
        """Return a buffer for a block, waiting until the writer is done with one."""
        buffer = self._free.get()
        self._raise()
        return buffer

    def put(self, block: int, buffer: NDArray[Any], *rest: Any) -> None:
        """Hand a block over to be written; the last argument holds its claim."""
        self._todo.put((block, buffer, *rest))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            block, buffer, vector, span, pooled, held = item
            began = time.perf_counter()
            try:
                with held:
                    if self._error is None:
                        self.bytes += self._writer.write(block, vector, span, pooled)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that computes
                self._error = error
            self.seconds += time.perf_counter() - began
            self._free.put(buffer)
