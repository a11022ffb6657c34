"""Writing the blocks of one task and model: create the arrays once, then claim, write and commit block by block."""

from __future__ import annotations

import contextlib
import itertools
import logging
import platform
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.adding import ANOTHER_NAME, WAIT_FOR_OTHERS, refuse_difference, writing
from embedstore.digests import crc32c, fingerprint_word, rows_checksum
from embedstore.errors import BlockTakenError, InputError, StoreError
from embedstore.indices import offsets
from embedstore.layout import (
    COMMIT_HEADER,
    FORMAT_VERSION,
    Codec,
    Keep,
    Resolution,
    block_geometry,
    check_name,
    create_array,
    ensure_group,
    first_rows,
)
from embedstore.objects import commit_block, put
from embedstore.onehot import LETTER_BASELINES, ONE_HOT
from embedstore.rows import Embedding
from embedstore.shards import DurableFile, ShardEncoder, chunk_parts, sync_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from embedstore.store import Store

logger = logging.getLogger(__name__)

LARGEST_SPAN = np.iinfo(np.uint16).max


def create_embedding(
    store: Store,
    task: str,
    model: str,
    *,
    record: dict[str, Any],
    fingerprint: dict[str, str],
    width: int,
    row_count: Callable[[], NDArray[np.int64]],
    dtype: str = "float16",
    resolution: Resolution = "token",
    codec: Codec = "none",
    keep: Keep = "both",
    few: bool = False,
) -> BlockWriter:
    """Create the arrays of an embedding, or take up those that are there under the same fingerprint.

    Parameters
    ----------
    store
        Opened with ``mode="a"``.
    task, model
        Names in the store.
    record
        What the model is, for people.
    fingerprint
        Everything that decides the numbers. What is stored under another one is refused.
    width
        Channels.
    row_count
        Gives the rows of each sample, shape (sample,); called only when the arrays are new.
    dtype
        ``"float16"`` (default) or ``"float32"``.
    resolution
        What a row stands for.
    codec
        ``"none"`` (default) or ``"zstd"``.
    keep
        ``"rows"``, ``"pooled"`` (the mean of each sample only) or ``"both"`` (default).
    few
        Only some rows of each sample are kept: where each begins is stored with it.

    Returns
    -------
    BlockWriter

    Raises
    ------
    FingerprintError
        If rows made under another fingerprint are stored under this name; both are shown field by field.
    """
    check_name(model, "model")
    if model == ONE_HOT:
        raise InputError(
            "One-hot rows are computed from the stored sequence as they are read and never stored. "
            "Use model 'onehot' in a probe or `store.open` as it is."
        )
    if model in LETTER_BASELINES:
        raise InputError(
            f"{model!r} is the name of a baseline that probes compute from the stored sequence; it is never stored. "
            "Use it in a probe as it is, and give an embedding another name."
        )
    if store.mode == "r":
        raise StoreError(f"{store.path} is open for reading. Open it with mode='a' to embed.")
    where = f"{task}/embedding/{model}"
    with writing(store, f"{task}.{model}.lock", f"{where} of {store.path}", wait=WAIT_FOR_OTHERS):
        stored = store._attributes(where, "embedding")  # noqa: SLF001 - same package
        if stored is None:
            layout = {"resolution": resolution, "dtype": dtype, "codec": codec, "width": width}
            counts = None if keep == "pooled" else row_count()
            _create(store, task, model, {"record": record, "fingerprint": fingerprint}, layout, counts, keep, few=few)
        else:
            refuse_difference(
                store,
                f"{task}/{model}",
                stored["fingerprint"],
                fingerprint,
                ANOTHER_NAME,
            )
    return BlockWriter(Embedding(store, task, model))


def _create(
    store: Store,
    task: str,
    model: str,
    described: dict[str, Any],
    layout: dict[str, Any],
    row_count: NDArray[np.int64] | None,
    keep: Keep,
    *,
    few: bool,
) -> None:
    """Create the arrays and, last, the attributes that make them count."""
    import zarr

    where, width, lengths = f"{task}/embedding/{model}", layout["width"], store.lengths(task)
    group = ensure_group(zarr.open_group(store.zarr_store, mode="r+", use_consolidated=False), where)
    samples = len(lengths)
    row_bytes = width * np.dtype(layout["dtype"] if row_count is not None else np.float32).itemsize
    counts = row_count if row_count is not None else np.ones(samples, np.int64)
    geometry = block_geometry(counts, row_bytes, few=few or row_count is None)
    rows, per_block = geometry.blocks * geometry.shard_rows, geometry.samples_per_block
    arrays: list[str] = []

    def create(name: str, shape: tuple[int, ...], **settings: Any) -> Any:
        arrays.append(name)
        return create_array(group, name, shape, **settings)

    if row_count is not None:
        inner, shard = (geometry.chunk_rows, width), (geometry.shard_rows, width)
        create("vector", (rows, width), dtype=layout["dtype"], chunks=inner, shards=shard, codec=layout["codec"])
        for name, values in (("row_count", row_count), ("first_row", first_rows(row_count, geometry))):
            create(name, (samples,), chunks=(2**16,), codec="zstd")[:] = values
        for name, there in (("span", few or (row_count != lengths).any()), ("start", few)):
            if there:
                create(name, (rows,), chunks=(geometry.shard_rows,))
    if keep != "rows":
        create("pooled", (samples, width), chunks=(per_block, width))
    words = COMMIT_HEADER + 2 * per_block
    create("quarantined", (samples,), chunks=(per_block,))
    create("commit", (geometry.blocks, words), chunks=(1, words))
    if store.local is not None:
        sync_tree(store.local / where)
    group.attrs["embedstore"] = {
        "format_version": FORMAT_VERSION,
        "kind": "embedding",
        **described,
        "layout": {**layout, "arrays": arrays, "geometry": geometry._asdict()},
        "software": software(),
    }
    if store.local is not None:
        sync_tree(store.local / where, below=False)


def software() -> dict[str, str]:
    """Return the versions of what decides or writes the numbers."""
    names = ("embedstore", "torch", "transformers", "tokenizers", "zarr", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(ImportError):
            found[name] = version(name)
    return found


class BlockWriter:
    """Writes the blocks of one embedding; made by :func:`create_embedding`."""

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding

    @contextlib.contextmanager
    def claim(self, block: int) -> Iterator[None]:
        """Hold a block while its rows are computed and written.

        Raises
        ------
        BlockTakenError
            If another run holds it, or has committed it since this one began.
        """
        emb = self.embedding
        with writing(emb.store, f"{emb.task}.{emb.name}.{block}.lock", emb.where(block)):
            if emb.commit(block) is not None:
                raise BlockTakenError(f"{emb.where(block)} has just been committed by another run.")
            yield

    def begin(self, block: int) -> OpenBlock:
        """Begin to write a block, which must be claimed."""
        return OpenBlock(self.embedding, block)

    def write(
        self,
        block: int,
        vector: NDArray[Any] | None,
        span: NDArray[np.uint16] | None,
        pooled: NDArray[np.float32] | None,
        start: NDArray[np.uint32] | None = None,
    ) -> int:
        """Write a whole block and commit it. The block must be claimed.

        Parameters
        ----------
        block
            Which one.
        vector
            Rows of its samples, one after another, shape (row, channel), in the stored precision; None where rows are
            not kept.
        span
            Nucleotides of each row, shape (row,); None where always 1.
        pooled
            Mean over the nucleotides of each sample, shape (sample, channel); None where it is not kept.
        start
            First nucleotide of each row in its sample, shape (row,); None where all rows are kept.

        Returns
        -------
        int
            Bytes written.
        """
        part = self.begin(block)
        part.add(len(self.embedding.block_samples(block)), vector, span, start, pooled)
        return part.commit()

    def finish(self) -> bool:
        """Write consolidated metadata once every block is committed, for readers that want it; tell whether it is."""
        import zarr

        if self.embedding.missing():
            return False
        with warnings.catch_warnings():
            # zarr-python warns that consolidated metadata is not yet part of the v3 specification. Our reader never
            # relies on it, but xarray opens a store that cannot be listed as an empty dataset without it.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(self.embedding.store.zarr_store)
        return True


class OpenBlock:
    """A block that is being written: samples are added in order, then it is committed.

    On a local disk rows go to the shard's file as they come; for an object store they are held until they are sent.

    Parameters
    ----------
    embedding
        The embedding.
    block
        Which block of it.
    """

    def __init__(self, embedding: Embedding, block: int) -> None:
        self._embedding, self._block = embedding, block
        self._samples = 0
        self._rows = 0
        self._sums: list[int] = []
        self._pooled_sums: list[int] = []
        self._small: dict[str, list[NDArray[Any]]] = {"span": [], "start": [], "pooled": [], "quarantined": []}
        geometry = embedding.geometry
        self._encoder = ShardEncoder(geometry.chunk_rows, geometry.shard_rows, embedding.codec)  # type: ignore[arg-type]
        self._held: list[bytes] = []
        self._file: DurableFile | None = None
        if embedding.keeps_rows and embedding.store.local is not None:
            self._file = DurableFile(embedding.store.local / self._key("vector", "0"))

    def add(
        self,
        samples: int,
        vector: NDArray[Any] | None,
        span: NDArray[np.uint16] | None,
        start: NDArray[np.uint32] | None,
        pooled: NDArray[np.float32] | None,
        quarantined: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the next samples of the block; the arrays may be used again afterwards.

        Parameters
        ----------
        samples
            How many.
        vector, span, start, pooled
            As for `BlockWriter.write`, of these samples.
        quarantined
            Samples whose rows are not finite, shape (sample,); none by default.
        """
        emb = self._embedding
        first = emb.block_samples(self._block).start + self._samples
        marked = np.zeros(samples, bool) if quarantined is None else quarantined
        if vector is not None:
            bounds = offsets(emb.row_count[first : first + samples])
            assert len(vector) == bounds[-1]
            for (a, b), bad in zip(itertools.pairwise(bounds.tolist()), marked.tolist(), strict=True):
                parts = [None if whole is None else whole[a:b] for whole in (span, start)]
                self._sums.append(rows_checksum(vector[a:b], *parts, quarantined=bad))  # type: ignore[arg-type]
            self._write(self._encoder.add(vector))
            self._rows += len(vector)
        if pooled is not None:
            assert len(pooled) == samples
            self._pooled_sums += [crc32c(row) for row in pooled]
        marks = marked.astype(np.uint8)
        for name, values in (("span", span), ("start", start), ("pooled", pooled), ("quarantined", marks)):
            if values is not None:
                self._small[name].append(values.copy())
        self._samples += samples

    def _write(self, parts: Iterable[NDArray[Any] | bytes]) -> None:
        if self._file is not None:
            self._file.write(parts)
        else:
            self._held += [bytes(part) if isinstance(part, bytes) else part.tobytes() for part in parts]

    def commit(self) -> int:
        """Make what was added durable, then write the commit record; return the bytes written."""
        emb, geometry = self._embedding, self._embedding.geometry
        wanted = len(emb.block_samples(self._block))
        assert self._samples == wanted
        sums = np.array([*(self._sums or [0] * wanted), *(self._pooled_sums or [0] * wanted)], np.uint32)
        words = np.zeros(COMMIT_HEADER + 2 * geometry.samples_per_block, np.uint32)
        words[COMMIT_HEADER : COMMIT_HEADER + len(sums)] = sums
        words[:COMMIT_HEADER] = fingerprint_word(emb.fingerprint), wanted, crc32c(words[COMMIT_HEADER:])
        if emb.keeps_rows:
            self._write(self._encoder.end())
        size = commit_block(emb, self._block, self._put_data, self._key("commit", "0"), chunk_parts(words))
        logger.debug("%s: committed, %d bytes", emb.where(self._block), size)
        return size

    def discard(self) -> None:
        """Give up: what was written of the block is removed."""
        if self._file is not None:
            self._file.discard()

    def _put_data(self) -> int:
        """Write everything of the block but its commit record; on an object store it may be done again."""
        emb, geometry, size = self._embedding, self._embedding.geometry, 0
        if emb.keeps_rows:
            size += self._file.publish() if self._file else put(emb.store, self._key("vector", "0"), self._held)
        lengths = {"span": geometry.shard_rows, "start": geometry.shard_rows}
        fills = {"span": 0, "start": 2**32 - 1, "pooled": np.nan, "quarantined": 0}
        for name, parts in self._small.items():
            if not parts or (name == "quarantined" and not any(part.any() for part in parts)):
                continue
            values = _padded(np.concatenate(parts), lengths.get(name, geometry.samples_per_block), fills[name])
            key = self._key(name, "0") if values.ndim == 2 else self._key(name)
            size += put(emb.store, key, chunk_parts(values))
        return size

    def _key(self, array: str, *rest: str) -> str:
        """Return the name of the block's part of an array below the store's root."""
        emb = self._embedding
        return "/".join([emb.task, "embedding", emb.name, array, "c", str(self._block), *rest])


def _padded(values: NDArray[Any], length: int, fill: float) -> NDArray[Any]:
    """Return values with their first axis filled up to a length."""
    pad = np.full((length - len(values), *values.shape[1:]), fill, values.dtype)
    return np.concatenate([values, pad])
