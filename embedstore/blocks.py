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

from embedstore.adding import ANOTHER_NAME, refuse_difference, writing
from embedstore.digests import crc32c, fingerprint_word, rows_checksum
from embedstore.errors import BlockTakenError, InputError, StoreError
from embedstore.layout import (
    COMMIT_HEADER,
    FORMAT_VERSION,
    Codec,
    Resolution,
    block_geometry,
    check_name,
    create_array,
    first_rows,
)
from embedstore.rows import ONE_HOT, Embedding, offsets
from embedstore.shards import chunk_parts, shard_parts, sync_tree, write_durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    if store.mode == "r":
        raise StoreError(f"{store.path} is open for reading. Open it with mode='a' to embed.")
    where = f"{task}/embedding/{model}"
    with writing(store, f"{task}.{model}.lock", f"{where} of {store.path}"):
        stored = store._attributes(where, "embedding")  # noqa: SLF001 - same package
        if stored is None:
            counts = row_count()
            spans = bool((counts != store.lengths(task)).any())
            _create(store, where, record, fingerprint, width, counts, spans, dtype, resolution, codec)
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
    where: str,
    record: dict[str, Any],
    fingerprint: dict[str, str],
    width: int,
    row_count: NDArray[np.int64],
    spans: bool,
    dtype: str,
    resolution: str,
    codec: Codec,
) -> None:
    """Create the arrays and, last, the attributes that make them count."""
    import zarr

    root = zarr.open_group(store.zarr_store, mode="r+", use_consolidated=False)
    group = root.require_group(where)
    geometry = block_geometry(row_count, width * np.dtype(dtype).itemsize)
    rows, samples, per_block = (
        geometry.blocks * geometry.shard_rows,
        geometry.samples,
        geometry.samples_per_block,
    )
    inner, shard = (geometry.chunk_rows, width), (geometry.shard_rows, width)
    create_array(group, "vector", (rows, width), dtype=dtype, chunks=inner, shards=shard, codec=codec)
    if spans:
        create_array(group, "span", (rows,), chunks=(geometry.shard_rows,))
    create_array(group, "pooled", (samples, width), chunks=(per_block, width))
    words = COMMIT_HEADER + 2 * per_block
    create_array(group, "commit", (geometry.blocks, words), chunks=(1, words))
    for name, values in (("row_count", row_count), ("first_row", first_rows(row_count, geometry))):
        create_array(group, name, (samples,), chunks=(2**16,), codec="zstd")[:] = values
    if store.local is not None:
        sync_tree(store.local / where)
    arrays = ["vector", *(["span"] if spans else []), "pooled", "commit", "row_count", "first_row"]
    group.attrs["embedstore"] = {
        "format_version": FORMAT_VERSION,
        "kind": "embedding",
        "record": record,
        "fingerprint": fingerprint,
        "layout": {
            "resolution": resolution,
            "dtype": dtype,
            "codec": codec,
            "width": width,
            "arrays": arrays,
            "geometry": geometry._asdict(),
        },
        "software": software(),
    }
    if store.local is not None:
        sync_tree(store.local / where, below=False)


def software() -> dict[str, str]:
    """Return the versions of what decides or writes the numbers."""
    names = ("embedstore", "torch", "zarr", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(ImportError):
            found[name] = version(name)
    return found


class BlockWriter:
    """Writes the blocks of one embedding; made by :func:`create_embedding`."""

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding
        self._where = f"{embedding.task}/embedding/{embedding.name}"

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

    def write(
        self, block: int, vector: NDArray[Any], span: NDArray[np.uint16] | None, pooled: NDArray[np.float32]
    ) -> int:
        """Write the rows of a block and commit it. The block must be claimed.

        Parameters
        ----------
        block
            Which one.
        vector
            Rows of its samples, one after another, shape (row, channel), in the stored precision.
        span
            Nucleotides of each row, shape (row,); None where always 1.
        pooled
            Mean over the nucleotides of each sample, shape (sample, channel).

        Returns
        -------
        int
            Bytes written.
        """
        emb, geometry = self.embedding, self.embedding.geometry
        samples = emb.block_samples(block)
        first = offsets(emb.row_count[samples.start : samples.stop])
        assert len(vector) == first[-1]
        assert len(pooled) == len(samples)
        parts = [slice(a, b) for a, b in itertools.pairwise(first)]
        sums = [rows_checksum(vector[part], None if span is None else span[part]) for part in parts]
        sums += [crc32c(row) for row in pooled]
        words = np.zeros(COMMIT_HEADER + 2 * geometry.samples_per_block, np.uint32)
        words[COMMIT_HEADER : COMMIT_HEADER + len(sums)] = sums
        words[:COMMIT_HEADER] = (
            fingerprint_word(emb.fingerprint),
            len(samples),
            crc32c(words[COMMIT_HEADER:]),
        )
        size = self._put_data(block, vector, span, pooled) + self._put_commit(block, words)
        logger.debug("%s: committed, %d bytes", emb.where(block), size)
        return size

    def _put_data(
        self, block: int, vector: NDArray[Any], span: NDArray[np.uint16] | None, pooled: NDArray[np.float32]
    ) -> int:
        """Write everything of a block but its commit record."""
        emb, geometry = self.embedding, self.embedding.geometry
        store, samples = emb.store, emb.block_samples(block)
        if store.local is None:
            import zarr

            group = zarr.open_group(store.zarr_store, path=self._where, mode="r+", use_consolidated=False)
            start = block * geometry.shard_rows
            _array(group, "vector")[start : start + len(vector)] = vector
            if span is not None:
                _array(group, "span")[start : start + len(span)] = span
            _array(group, "pooled")[samples.start : samples.stop] = pooled
            return vector.nbytes
        folder = store.local / self._where
        size = write_durable(
            folder / "vector" / "c" / str(block) / "0",
            shard_parts(vector, geometry.chunk_rows, geometry.shard_rows, emb.codec),  # type: ignore[arg-type]
        )
        if span is not None:
            size += write_durable(
                folder / "span" / "c" / str(block), chunk_parts(_padded(span, geometry.shard_rows, 0))
            )
        return size + write_durable(
            folder / "pooled" / "c" / str(block) / "0",
            chunk_parts(_padded(pooled, geometry.samples_per_block, np.nan)),
        )

    def _put_commit(self, block: int, words: NDArray[np.uint32]) -> int:
        """Write a commit record; on a local disk it cannot replace one that is there."""
        store = self.embedding.store
        if store.local is None:
            import zarr

            group = zarr.open_group(store.zarr_store, path=self._where, mode="r+", use_consolidated=False)
            _array(group, "commit")[block] = words
            return words.nbytes
        return write_durable(
            store.local / self._where / "commit" / "c" / str(block) / "0", chunk_parts(words), exclusive=True
        )

    def finish(self) -> None:
        """Write consolidated metadata, once every block is committed, for readers that want it."""
        import zarr

        if self.embedding.missing():
            return
        with warnings.catch_warnings():
            # zarr-python warns that consolidated metadata is not yet part of the v3 specification. Our reader never
            # relies on it, but xarray opens a store that cannot be listed as an empty dataset without it.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(self.embedding.store.zarr_store)


def _array(group: Any, name: str) -> Any:
    return group[name]


def _padded(values: NDArray[Any], length: int, fill: float) -> NDArray[Any]:
    """Return values with their first axis filled up to a length."""
    pad = np.full((length - len(values), *values.shape[1:]), fill, values.dtype)
    return np.concatenate([values, pad])
