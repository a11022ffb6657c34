"""What a store looks like: one record per stored array, and how rows are laid out in blocks.

This module is the only place that knows array names, dimensions, data types, fill values and codecs. Creation, checks,
``repr`` and the format page of the documentation all read :data:`ARRAYS`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from embedstore.errors import FormatVersionError, InputError, StoreError
from embedstore.indices import offsets

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

FORMAT_VERSION = 1
"""Version of the format that this code writes, and the newest that it reads."""

CHUNK_BYTES = 384 * 1024
SHARD_BYTES = 128 * 1024**2
SMALLEST_SHARD_BYTES = 8 * 1024**2
SMALL_BLOCKS = 32
"""How many times smaller blocks are where few rows of a sample are kept, or only their mean: what counts there is how
much is computed again after a kill, and that blocks can be shared out among workers."""
FEWEST_BLOCKS = 16

Resolution = Literal["token", "nucleotide"]
Keep = Literal["rows", "pooled", "both"]
Strands = Literal["forward", "both"]
Codec = Literal["none", "zstd"]


class ArraySpec(NamedTuple):
    """One stored array.

    Attributes
    ----------
    dims
        Names of the dimensions, in order.
    dtype
        Data type, or ``""`` where the input decides.
    fill
        Value of what was never written. It is never a legal value where the data type has one to spare.
    meaning
        One sentence for the documentation.
    """

    dims: tuple[str, ...]
    dtype: str
    fill: float | str | bool
    meaning: str


ARRAYS: dict[str, ArraySpec] = {
    "sequence": ArraySpec(("nucleotide",), "uint8", 0, "Upper-case ASCII letters of all samples, one after another."),
    "first_nucleotide": ArraySpec(
        ("sample",), "int64", -1, "Where a sample begins on the nucleotide axis; it takes `length` of it."
    ),
    "label": ArraySpec((), "", -1, "Labels of the task; the dimensions are named in the array."),
    "vector": ArraySpec(("row", "channel"), "", np.nan, "One row per token, or per nucleotide."),
    "span": ArraySpec(("row",), "uint16", 0, "Nucleotides that a row stands for; absent where it is always 1."),
    "start": ArraySpec(
        ("row",), "uint32", 2**32 - 1, "First nucleotide of a row in its sample; only where some rows were kept."
    ),
    "first_row": ArraySpec(("sample",), "int64", -1, "A sample's rows are first_row ... + row_count."),
    "row_count": ArraySpec(("sample",), "int64", -1, "Number of rows of a sample."),
    "pooled": ArraySpec(("sample", "channel"), "float32", np.nan, "Mean over the nucleotides of a sample."),
    "quarantined": ArraySpec(
        ("sample",), "uint8", 0, "1 where the model gave NaN or infinity: the rows are NaN and not read unasked."
    ),
    "commit": ArraySpec(
        ("block", "word"),
        "uint32",
        0,
        "One chunk per block, written last: fingerprint word, sample count, digest of the words that follow, "
        "crc32c of each sample's rows and spans, crc32c of each sample's pooled row.",
    ),
}
"""Every array of a store by name. Columns of the sample table are named by the input."""

COMMIT_HEADER = 3
"""Words of a commit record before the checksums of the samples."""


class Geometry(NamedTuple):
    """How the samples of a task are laid out on the row axis of one model.

    Every block holds the same number of consecutive samples (the last may hold fewer) and begins on a shard boundary,
    so a sample's block is a division and no two writers share a shard. The rows left over at the end of a shard are
    never stored.

    Attributes
    ----------
    samples, blocks
        How many there are.
    samples_per_block
        Consecutive samples in a block.
    chunk_rows, shard_rows
        Rows of an inner chunk and of a shard (a block's place on the row axis).
    """

    samples: int
    blocks: int
    samples_per_block: int
    chunk_rows: int
    shard_rows: int

    def block_samples(self, block: int) -> range:
        """Return the indices of the samples of a block."""
        if not 0 <= block < self.blocks:
            raise InputError(f"There is no block {block}: blocks are numbered 0 to {self.blocks - 1}.")
        start = block * self.samples_per_block
        return range(start, min(start + self.samples_per_block, self.samples))


def block_geometry(row_count: NDArray[np.int64], row_bytes: int, *, few: bool = False) -> Geometry:
    """Choose blocks, shards and chunks for samples of given row counts.

    Shards come near 128 MiB, or less where there would be fewer than 16 blocks (but not below 8 MiB). Chunks come near
    384 KiB: whole samples where all are equally long and fit, rows otherwise. Measured layouts stand behind both
    numbers: smaller chunks slow down scans, larger ones slow down single samples.

    Parameters
    ----------
    row_count
        Rows of each sample, shape (sample,).
    row_bytes
        Bytes of one stored row.
    few
        Most of what is computed is not stored: blocks of 256 KiB to 8 MiB.

    Returns
    -------
    Geometry

    Examples
    --------
    >>> block_geometry(np.full(2048, 86), 1024)
    Geometry(samples=2048, blocks=16, samples_per_block=128, chunk_rows=344, shard_rows=11008)
    """
    samples = len(row_count)
    total = int(row_count.sum()) * row_bytes
    largest, smallest = SHARD_BYTES, SMALLEST_SHARD_BYTES
    if few:
        largest, smallest = smallest, smallest // SMALL_BLOCKS
    target = min(largest, max(smallest, total // FEWEST_BLOCKS))
    per_block = max(1, min(samples, target * samples // max(total, 1)))
    starts = offsets(row_count)

    def largest_block(n: int) -> int:
        edges = np.append(np.arange(0, samples, n), samples)
        return int(np.diff(starts[edges]).max())

    # Uneven lengths may pile up in one block: halve until no block takes more than twice the memory that was meant.
    while per_block > 1 and largest_block(per_block) * row_bytes > 2 * target:
        per_block = (per_block + 1) // 2
    chunk_rows = max(1, round(CHUNK_BYTES / row_bytes))
    longest = int(row_count.max())
    if (row_count == longest).all() and longest * row_bytes <= 1.5 * CHUNK_BYTES:
        whole = max(1, round(CHUNK_BYTES / (longest * row_bytes)))
        per_block = max(whole, per_block // whole * whole) if per_block > whole else per_block
        chunk_rows = longest * min(whole, per_block)
    chunk_rows = min(chunk_rows, largest_block(per_block))  # an inner chunk is stored whole, filled up with NaN
    shard_rows = -(-largest_block(per_block) // chunk_rows) * chunk_rows
    return Geometry(samples, -(-samples // per_block), per_block, chunk_rows, shard_rows)


def first_rows(row_count: NDArray[np.int64], geometry: Geometry) -> NDArray[np.int64]:
    """Return where each sample's rows begin on the padded row axis, shape (sample,)."""
    index = np.arange(len(row_count))
    block = index // geometry.samples_per_block
    before = np.cumsum(row_count) - row_count
    first: NDArray[np.int64] = block * geometry.shard_rows + before - before[block * geometry.samples_per_block]
    return first


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    *,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
    dtype: Any = None,
    dims: tuple[str, ...] | None = None,
    codec: Codec = "none",
    fill: Any = None,
) -> zarr.Array[Any]:
    """Create one array of the format; ``dtype``, ``dims``, ``fill`` only where :data:`ARRAYS` says nothing of them."""
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.storage import LocalStore

    spec = ARRAYS.get(name, ArraySpec(dims or (), "", 0, ""))
    kind = np.dtype(dtype if dtype is not None else spec.dtype)
    # Plain zarr serves flipped bits silently, so every array ends in a checksum, compressed or not.
    packing = [ZstdCodec(level=1, checksum=True)] if codec == "zstd" else []
    settings: dict[str, Any] = {
        "shape": shape,
        "dtype": "string" if kind.kind in "OUT" else kind,
        "chunks": tuple(max(1, c) for c in chunks),
        "shards": shards,
        "compressors": [*packing, Crc32cCodec()],
        "fill_value": _fill(name, spec, kind) if fill is None else fill,
        "dimension_names": dims or spec.dims,
    }
    if isinstance(group.store, LocalStore):
        return group.create_array(name, **settings, overwrite=True)
    return _create_shared(group, name, settings)


def ensure_group(group: zarr.Group, path: str) -> zarr.Group:
    """Return a group below another, created where there is none.

    ``Group.require_group`` looks first and writes then. Where another run creates the same group in between, it fails,
    or replaces the attributes that the other run has written.
    """
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.group import GroupMetadata
    from zarr.core.sync import sync

    content = GroupMetadata().to_buffer_dict(default_buffer_prototype())["zarr.json"]
    place = group.store_path
    for name in path.split("/"):
        place = place / name
        sync(place.store.set_if_not_exists(f"{place.path}/zarr.json", content))
    return zarr.open_group(place, mode="r+", use_consolidated=False)


def _create_shared(group: zarr.Group, name: str, settings: dict[str, Any]) -> zarr.Array[Any]:
    """Create an array where others may be creating it too: nothing is removed, what is there must be the same."""
    import zarr

    with contextlib.suppress(zarr.errors.ContainsArrayError):
        return group.create_array(name, **settings)
    there = group[name]
    wanted = zarr.create_group(zarr.storage.MemoryStore()).create_array(name, **settings)
    if not isinstance(there, zarr.Array) or _described(there) != _described(wanted):
        raise StoreError(
            f"{group.store_path}/{name} is there with another shape, data type or codec than now: an unfinished run "
            "with other settings has left it. Make sure that it has stopped, run `embedstore repair`, and try again."
        )
    return there


def _described(array: zarr.Array[Any]) -> bytes:
    """Return the metadata of an array as it is stored; two fill values of NaN are equal there."""
    from zarr.core.buffer import default_buffer_prototype

    return array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()


def _fill(name: str, spec: ArraySpec, kind: np.dtype[Any]) -> Any:
    """Return the fill value; one that no label takes, so that a label never written is seen."""
    if kind.kind in "OUT":
        return ""
    if name == "label":
        return -np.inf if kind.kind == "f" else (np.iinfo(kind).max if kind.kind == "u" else np.iinfo(kind).min)
    return kind.type(spec.fill)


def unwritten_labels(values: NDArray[Any]) -> bool:
    """Tell whether labels hold the fill value, which means that a stored chunk is gone."""
    fill = _fill("label", ARRAYS["label"], values.dtype)
    return bool((values == fill).any())


def check_version(ours: Any, where: str, kind: str) -> None:
    """Refuse what is not ours, what a newer version wrote, and one kind of thing where another is wanted.

    Raises
    ------
    StoreError
        If the attributes are not those of embedstore, or of another kind.
    FormatVersionError
        If the format version is not one that this code reads.
    """
    if not isinstance(ours, dict) or "format_version" not in ours:
        raise StoreError(f"{where} is a zarr group, but not an embedstore {kind}: it lacks the attribute 'embedstore'.")
    version = ours["format_version"]
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        cure = (
            "Install a newer embedstore to use it." if newer else "The attribute is damaged; it must be a whole number."
        )
        raise FormatVersionError(
            f"{where} has format version {version!r}; this embedstore reads version {FORMAT_VERSION}. {cure}"
        )
    if ours.get("kind") != kind:
        raise StoreError(
            f"{where} is an embedstore {ours.get('kind')}, not a {kind}. Give the path of the store that it lies in."
        )


def check_name(name: str, what: str) -> None:
    """Refuse names that could leave the store or collide with its own.

    Raises
    ------
    InputError
        If the name is empty, has other characters than letters, digits, ``.``, ``_`` and ``-``, or begins with a dot.
    """
    allowed = name.replace("_", "").replace("-", "").replace(".", "")
    if not (allowed.isascii() and allowed.isalnum()) or name.startswith(".") or name in ("zarr.json", "c"):
        raise InputError(
            f"{name!r} cannot be the name of a {what}: use letters, digits, '_', '-' and '.', not beginning with '.'."
        )
