"""Reading files directly: what other libraries read, from any order of chunks, and never past what is there."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorstore
import zarr
from toys import ToyModel, random_sequences

import embedstore
from embedstore import direct, tasks
from embedstore.direct import DirectReader, Wanted
from embedstore.errors import CorruptError, InputError
from embedstore.shards import chunk_parts

RAGGED = np.random.default_rng(0).integers(3, 200, 60)


@pytest.fixture(params=["ragged", "equal"])
def store(request, tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    lengths = RAGGED if request.param == "ragged" else [90] * 61
    store.add_task(tasks.from_sequences("t", random_sequences(lengths)))
    embedstore.embed(store, "t", ToyModel(), progress=False)
    return store


def reader_of(store):
    emb = store.embedding("t", "toy")
    folder = store.local / "t/embedding/toy"
    return emb, folder, DirectReader(folder, emb.geometry, emb.width * emb.dtype.itemsize, emb.where)


def read(reader, block, row, out):
    assert list(reader.rows([Wanted(block, *(np.array([n]) for n in (row, len(out), 0)))], out)) == [block]


def by_zarr(store):
    return zarr.open_array(store.local / "t/embedding/toy/vector", mode="r", zarr_format=3)[:]


def test_the_rows_that_other_libraries_read(store, monkeypatch):
    emb, folder, reader = reader_of(store)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "vector")}}
    theirs = tensorstore.open(spec, open=True).result().read().result()
    np.testing.assert_array_equal(theirs, by_zarr(store))
    step = emb.geometry.shard_rows
    rng = np.random.default_rng(1)
    for most in (1000, 2):  # buffers of one system call
        monkeypatch.setattr(direct, "_MOST_BUFFERS", most)
        for block in range(emb.blocks):
            rows = int(emb.row_count[np.array(emb.block_samples(block))].sum())
            for start, stop in [(0, rows), *np.sort(rng.integers(0, rows + 1, (6, 2)), axis=1)]:
                out = np.empty((stop - start, emb.width), emb.dtype)
                read(reader, block, int(start), out)
                np.testing.assert_array_equal(out, theirs[block * step + start : block * step + stop])
            spans = reader.small("span", block)
            assert spans[:rows].tolist() == emb.read_block(block).span.tolist()


def test_rows_that_zarr_python_has_written(store):
    """Another writer may put the chunks of a shard in another order."""
    before = [store.embedding("t", "toy").read_block(block).vector.copy() for block in range(2)]
    array = zarr.open_array(store.local / "t/embedding/toy/vector", mode="r+", zarr_format=3)
    array[:] = array[:]
    for block in range(2):
        np.testing.assert_array_equal(store.embedding("t", "toy").read_block(block).vector, before[block])


def test_chunks_in_any_order(store):
    """The same shard with its inner chunks reversed, and holes between them, gives the same rows."""
    emb, folder, reader = reader_of(store)
    path = folder / "vector/c/0/0"
    content = path.read_bytes()
    count = emb.geometry.shard_rows // emb.geometry.chunk_rows
    size = emb.geometry.chunk_rows * emb.width * emb.dtype.itemsize + 4
    index = np.frombuffer(content[-count * 16 - 4 : -4], "<u8").reshape(-1, 2).copy()
    there = np.flatnonzero(index[:, 1] != 2**64 - 1)
    body = b""
    for chunk in there[::-1]:
        old = int(index[chunk, 0])
        index[chunk, 0] = len(body) + 3
        body += b"???" + content[old : old + size]
    expected = np.empty((int(emb.row_count[np.array(emb.block_samples(0))].sum()), emb.width), emb.dtype)
    read(reader, 0, 0, expected)
    path.write_bytes(body + b"".join(bytes(part) for part in chunk_parts(index)))
    got = np.empty_like(expected)
    read(reader, 0, 0, got)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(emb.read_block(0).vector, expected)


def test_a_file_that_was_replaced_is_seen(store):
    emb, folder, reader = reader_of(store)
    out = np.empty((1, emb.width), emb.dtype)
    read(reader, 0, 0, out)
    path = folder / "vector/c/0/0"
    (folder / "vector/c/1/0").replace(path)
    read(reader, 0, 0, out)
    with pytest.raises(CorruptError, match="rows of sample"):
        emb.read([0])
    with pytest.raises(CorruptError, match=r"block 1 .*is gone"):
        emb.read_block(1)


def damaged_index(content, count, change):
    index = np.frombuffer(content[-count * 16 - 4 : -4], "<u8").reshape(-1, 2).copy()
    change(index)
    return content[: -count * 16 - 4] + b"".join(bytes(part) for part in chunk_parts(index))


def test_hostile_and_damaged_shards(store):
    emb, folder, _ = reader_of(store)
    path = folder / "vector/c/0/0"
    content = path.read_bytes()
    count = emb.geometry.shard_rows // emb.geometry.chunk_rows

    def far(index):
        index[0, 0] = 2**63

    def long(index):
        index[0, 1] = 2**40

    def wrap(index):
        index[0, 0] = 2**64 - 8

    def absent(index):
        index[0] = 2**64 - 1

    for wrong, message in (
        (b"", "its index alone takes"),
        (content[: len(content) // 2], "checksum does not fit|index alone"),
        (content[:-1] + bytes([content[-1] ^ 1]), "checksum does not fit"),
        (damaged_index(content, count, far), "names bytes that are not there"),
        (damaged_index(content, count, long), "names bytes that are not there"),
        (damaged_index(content, count, wrap), "names bytes that are not there"),
        (damaged_index(content, count, absent), "with these rows are not stored"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(CorruptError, match=rf"block 0 \(samples .*({message})"):
            embedstore.open_store(store.local).embedding("t", "toy").read_block(0)
    path.write_bytes(content)
    store.embedding("t", "toy").read_block(0)
    for name in ("span",):
        file = folder / name / "c/0"
        whole = file.read_bytes()
        for wrong in (b"", b"abc", whole[:-3], bytes([whole[0] ^ 1]) + whole[1:]):
            file.write_bytes(wrong)
            with pytest.raises(CorruptError, match="checksum does not fit|bytes and should have"):
                store.embedding("t", "toy").read_block(0)
        file.unlink()
        with pytest.raises(CorruptError, match="it is gone"):
            store.embedding("t", "toy").read_block(0)


def test_short_reads_go_on(store, monkeypatch):
    """A system call may give fewer bytes than were asked for, or none where the file ends."""
    emb, _, reader = reader_of(store)
    whole = emb.read_block(0).vector.copy()
    real = os.preadv

    def few(handle, buffers, offset):
        return real(handle, [buffers[0][:7]], offset)

    monkeypatch.setattr("embedstore.direct.os.preadv", few)
    out = np.empty_like(whole)
    read(reader, 0, 0, out)
    np.testing.assert_array_equal(out, whole)
    monkeypatch.setattr("embedstore.direct.os.preadv", lambda *_: 0)
    with pytest.raises(CorruptError, match="it ends at byte"):
        read(reader, 0, 0, out)


def test_rows_that_zarrs_reads(store):
    import zarrs  # noqa: F401 - registers the pipeline

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        theirs = by_zarr(store)
    emb, step = store.embedding("t", "toy"), store.embedding("t", "toy").geometry.shard_rows
    for block in range(emb.blocks):
        rows = emb.read_block(block).vector
        np.testing.assert_array_equal(rows, theirs[block * step : block * step + len(rows)])


def test_files_that_cannot_be_opened(store):
    path = store.local / "t/embedding/toy/vector/c/0/0"
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptError, match=r"block 0 \(samples"):
        store.embedding("t", "toy").read_block(0)


def test_memory_that_does_not_fit(store):
    emb = store.embedding("t", "toy")
    rows = int(emb.row_count[3])
    frozen = np.empty((rows, 8), np.float16)
    frozen.flags.writeable = False
    for out in (
        np.empty((rows, 8), np.float32),
        np.empty((rows, 9), np.float16),
        np.empty((rows - 1, 8), np.float16),
        np.empty((8, rows), np.float16).T,
        np.empty(rows * 8, np.float16),
        frozen,
    ):
        with pytest.raises(InputError, match="out has shape .* wanted are at least"):
            emb.read([3], out=out)


def test_what_is_kept_of_small_files_is_bounded(store, monkeypatch):
    emb, _, reader = reader_of(store)
    monkeypatch.setattr(direct, "_KEPT_BYTES", 600)
    for _ in range(2):
        for block in range(emb.blocks):
            assert reader.small("span", block)[0] == 3
    assert 1 <= len(reader._kept) < emb.blocks


def test_rows_into_memory_that_is_there(store):
    emb = store.embedding("t", "toy")
    buffer = np.empty((int(emb.row_count.sum()), emb.width), emb.dtype)
    rows = emb.read([5, 6, 7, 3], out=buffer)
    assert rows.vector.base is buffer or rows.vector.base is buffer.base
    np.testing.assert_array_equal(rows.vector, emb.read([5, 6, 7, 3]).vector)
