"""Blocks, shards and chunks: no row is shared, nothing is larger than meant, and every array says what it is."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore import layout
from embedstore.errors import FormatVersionError, InputError, StoreError
from embedstore.layout import ARRAYS, block_geometry, check_name, check_version, create_array, first_rows

ROW_COUNTS = st.one_of(
    st.lists(st.integers(1, 400), min_size=1, max_size=120),
    st.tuples(st.integers(1, 400), st.integers(1, 120)).map(lambda pair: [pair[0]] * pair[1]),
    st.lists(st.sampled_from([1, 2, 5000]), min_size=1, max_size=80),  # a few long ones pile up
)
REAL = {name: getattr(layout, name) for name in ("CHUNK_BYTES", "SHARD_BYTES", "SMALLEST_SHARD_BYTES")}
BYTES = st.sampled_from([2, 8, 48, 1024, 5120, 300_000])


@pytest.fixture(scope="module", autouse=True)
def small_limits():
    """Limits scaled down, so that a hundred samples have many blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_BYTES", 4096)
        patch.setattr(layout, "SHARD_BYTES", 256 * 1024)
        patch.setattr(layout, "SMALLEST_SHARD_BYTES", 16 * 1024)
        yield


def target(counts: np.ndarray, row_bytes: int) -> int:
    return min(256 * 1024, max(16 * 1024, int(counts.sum()) * row_bytes // 16))


@settings(deadline=None)
@given(ROW_COUNTS, BYTES)
def test_blocks_tile_the_samples_and_fit_their_shards(counts, row_bytes):
    counts = np.array(counts)
    geometry = block_geometry(counts, row_bytes)
    blocks = [geometry.block_samples(block) for block in range(geometry.blocks)]
    assert [sample for block in blocks for sample in block] == list(range(len(counts)))
    assert {len(block) for block in blocks[:-1]} <= {geometry.samples_per_block}
    assert geometry.shard_rows % geometry.chunk_rows == 0
    rows = [counts[block.start : block.stop].sum() for block in blocks]
    assert geometry.shard_rows >= max(rows)
    assert geometry.shard_rows - max(rows) < geometry.chunk_rows  # no chunk that no block uses
    for block, size in zip(blocks, rows, strict=True):
        # Rounding to whole chunks of samples adds less than a chunk.
        assert len(block) == 1 or size * row_bytes <= 2 * target(counts, row_bytes) + 1.5 * 4096


@settings(deadline=None)
@given(ROW_COUNTS, BYTES)
def test_rows_of_samples_never_overlap_and_never_cross_a_shard(counts, row_bytes):
    counts = np.array(counts)
    geometry = block_geometry(counts, row_bytes)
    first = first_rows(counts, geometry)
    assert first.dtype == np.int64
    taken = np.zeros(geometry.blocks * geometry.shard_rows, np.int8)
    for sample, (start, count) in enumerate(zip(first, counts, strict=True)):
        taken[start : start + count] += 1
        shards = {start // geometry.shard_rows, (start + count - 1) // geometry.shard_rows}
        assert shards == {sample // geometry.samples_per_block}
    assert taken.max() == 1
    assert taken.sum() == counts.sum()


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 120))
def test_equal_samples_are_never_cut_by_a_chunk(length, samples):
    geometry = block_geometry(np.full(samples, length), 200)
    if length * 200 <= 1.5 * 4096:
        assert geometry.chunk_rows % length == 0
    assert (geometry.blocks == 1) or geometry.samples_per_block * length <= geometry.shard_rows


def test_a_real_task_has_the_sizes_of_the_design(monkeypatch):
    """The enhancer task under a 2560-channel model: shards near 128 MiB, chunks near 384 KiB."""
    for name, value in REAL.items():
        monkeypatch.setattr(layout, name, value)
    geometry = block_geometry(np.full(285, 16_683), 2 * 2560)
    assert 64 <= geometry.shard_rows * 5120 / 2**20 <= 256
    assert 300 <= geometry.chunk_rows * 5120 / 2**10 <= 500


@pytest.mark.parametrize("long_ones", [slice(80, 100), slice(0, 20), slice(40, 60)])
def test_long_samples_that_pile_up_make_smaller_blocks(long_ones):
    counts = np.ones(100, np.int64)
    counts[long_ones] = 130  # 3 long ones would take more than twice the shard that is meant
    geometry = block_geometry(counts, 1024)
    sizes = np.add.reduceat(counts, np.arange(0, 100, geometry.samples_per_block)) * 1024
    assert sizes.max() > target(counts, 1024) / 2
    assert sizes.max() <= 2 * target(counts, 1024)


def test_few_rows_are_not_filled_up_to_a_whole_chunk():
    """An inner chunk is stored whole: one of the usual size would be mostly padding here."""
    geometry = block_geometry(np.array([5, 1, 1, 3]), 64)
    assert (geometry.chunk_rows, geometry.shard_rows, geometry.blocks) == (10, 10, 1)


def test_a_block_that_is_not_there():
    geometry = block_geometry(np.array([3, 4]), 8)
    for block in (-1, geometry.blocks):
        with pytest.raises(InputError, match=f"no block {block}: blocks are numbered 0 to {geometry.blocks - 1}"):
            geometry.block_samples(block)


# ---- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, spec in ARRAYS.items() if spec.dtype])
def test_every_array_is_created_as_its_spec_says(name):
    spec = ARRAYS[name]
    shape = (4,) * len(spec.dims)
    array = create_array(zarr.group(), name, shape, chunks=shape)
    assert array.metadata.dimension_names == spec.dims
    assert array.dtype == spec.dtype
    np.testing.assert_array_equal(array[...], np.full(shape, spec.fill, spec.dtype))
    assert spec.meaning.endswith(".")


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("shards", [None, (8, 2)])
def test_every_array_ends_in_a_checksum(codec, shards):
    array = create_array(zarr.group(), "vector", (16, 2), dtype="float16", chunks=(4, 2), shards=shards, codec=codec)
    assert np.isnan(array[...]).all()
    codecs = [type(one).__name__ for one in array.compressors]
    assert codecs == (["ZstdCodec"] if codec == "zstd" else []) + ["Crc32cCodec"]
    assert array.shards == shards
    again = create_array(zarr.group(), "vector", (16, 2), dtype="float32", chunks=(0, 2))
    assert again.chunks == (1, 2)  # an empty axis still needs a chunk


@pytest.mark.parametrize(
    ("dtype", "legal"),
    [("int16", -100), ("int8", -100), ("uint8", 0), ("uint8", 1), ("float32", np.nan), ("float32", 0)],
)
def test_labels_that_were_never_written_are_seen(dtype, legal):
    array = create_array(zarr.group(), "label", (3, 2), dtype=dtype, dims=("sample", "target"), chunks=(1, 2))
    assert layout.unwritten_labels(array[...])
    array[:2] = legal
    assert layout.unwritten_labels(array[...])
    array[2] = legal
    assert not layout.unwritten_labels(array[...])
    assert array.metadata.dimension_names == ("sample", "target")


@pytest.mark.parametrize(
    ("dtype", "fill"), [(str, ""), (bool, False), ("int64", 0), ("uint16", 0), ("float64", 0), (object, "")]
)
@pytest.mark.parametrize("name", ["tissue", "sample/label", "sample/vector", "sample/row_count"])
def test_columns_of_the_sample_table_may_have_any_name_and_type(name, dtype, fill):
    array = create_array(zarr.group(), name, (2,), dtype=dtype, dims=("sample",), chunks=(2,))
    assert list(array[...]) == [fill, fill]
    assert array.metadata.dimension_names == ("sample",)


# ---- names and versions --------------------------------------------------------------------------


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True))
def test_plain_names_are_taken(name):
    if name != "c" and name != "zarr.json" and any(letter.isalnum() for letter in name):
        check_name(name, "task")


@settings(deadline=None)
@given(st.text(st.sampled_from("aZ9._-/\\ \n\0é٣~$:*") | st.characters(), max_size=5))
def test_no_name_leaves_the_store(name):
    with contextlib.suppress(InputError):
        check_name(name, "model")
        assert re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "../x", "/x", "a/b", "a\\b", "-", "__", "c", "zarr.json", "a\n", "ß"]
)
def test_names_that_would_do_harm(name):
    with pytest.raises(InputError, match="use letters, digits"):
        check_name(name, "task")


def test_versions():
    check_version({"format_version": layout.FORMAT_VERSION, "kind": "task"}, "here", "task")
    for ours in (None, {}, [], "1"):
        with pytest.raises(StoreError, match="here is a zarr group, but not an embedstore store"):
            check_version(ours, "here", "store")
    with pytest.raises(FormatVersionError, match="version 2; this embedstore reads version 1. Install a newer"):
        check_version({"format_version": 2, "kind": "store"}, "here", "store")
    for version in (0, None, "2", 1.5):
        with pytest.raises(FormatVersionError, match="damaged; it must be a whole number"):
            check_version({"format_version": version, "kind": "store"}, "here", "store")
    with pytest.raises(StoreError, match="here is an embedstore task, not a store. Give the path of the store"):
        check_version({"format_version": 1, "kind": "task"}, "here", "store")
