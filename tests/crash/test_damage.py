"""Damaged stores: every fault is seen, named and repaired; no reader gets a wrong value."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.errors import BlockTakenError, CorruptError, EmbedstoreError, StoreError
from embedstore.shards import claim


def build(path, codec="none"):
    store = embedstore.open_store(path, mode="a")
    labels = tasks.Labels((np.arange(1500) % 9).astype(np.int16), ("nucleotide",), tasks.record("gene_finding").names)
    task = tasks.from_sequences("t", random_sequences([50] * 30), labels=labels, record=tasks.record("gene_finding"))
    store.add_task(task)
    embedstore.embed(store, "t", ToyModel(), codec=codec, progress=False)
    return task


@pytest.fixture
def pristine(tmp_path, many_blocks):
    return build(tmp_path / "s.zarr")


def everything(path):
    store = embedstore.open_store(path)
    emb = store.embedding("t", "toy")
    return store.open("t", "toy").load(), emb.pooled(), store.samples("t")


def data_files(path):
    return sorted(f for f in path.rglob("*") if f.is_file() and f.name != "zarr.json" and ".locks" not in f.parts)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_one_flipped_bit_anywhere(tmp_path, many_blocks, codec):
    """120 bits in all data files: each flip raises on reading or changes nothing, and verify reports it."""
    path = tmp_path / "s.zarr"
    build(path, codec)
    before = everything(path)
    rng = np.random.default_rng(0)
    files = data_files(path)
    silent = unseen = 0
    for trial in range(120):
        file = files[trial % len(files)]
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        try:
            now = everything(path)
        except CorruptError:
            unseen += embedstore.open_store(path).verify().sound
        else:
            same = before[0].equals(now[0]) and np.array_equal(before[1], now[1]) and before[2].equals(now[2])
            silent += not same
        file.write_bytes(content)
    assert (silent, unseen) == (0, 0)


def test_truncated_and_missing_files(tmp_path, pristine):
    path = tmp_path / "s.zarr"
    for file in data_files(path):
        content = file.read_bytes()
        for damaged in (b"", content[: len(content) // 2], None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            report = embedstore.open_store(path).verify()
            if "commit" in file.parts and damaged is None:
                assert report.missing == 1  # without its record a block is simply not there
            else:
                assert not report.sound, file
            with pytest.raises(EmbedstoreError):
                everything(path)
            file.write_bytes(content)
    assert embedstore.open_store(path).verify().sound


def test_a_sound_shard_in_the_wrong_place(tmp_path, pristine):
    """Checksums of chunks cannot see this: those of samples do."""
    folder = tmp_path / "s.zarr/t/embedding/toy/vector/c"
    (folder / "0/0").rename(folder / "kept")
    shutil.copy(folder / "1/0", folder / "0/0")
    emb = embedstore.open_store(tmp_path / "s.zarr").embedding("t", "toy")
    with pytest.raises(CorruptError, match=r"block 0 .*sample 0 .*differ from what was committed"):
        emb.read_block(0)
    emb.read_block(1)


def test_repair_then_embed_restores_the_store(tmp_path, pristine):
    path = tmp_path / "s.zarr"
    before = everything(path)
    home = path / "t/embedding/toy"
    (home / "vector/c/0/0").unlink()
    damaged = bytearray((home / "span/c/1").read_bytes())
    damaged[3] ^= 4
    (home / "span/c/1").write_bytes(damaged)
    (home / "commit/c/2/0").unlink()
    (home / "vector/c/x.embedstore-tmp").write_bytes(b"half")
    store = embedstore.open_store(path, mode="a")
    report = store.verify()
    assert sorted(report.problems["block"]) == [0, 1]
    assert report.missing == 1
    done = store.repair()
    assert {"t/embedding/toy/commit/c/0/0", "t/embedding/toy/vector/c/2/0"} <= set(done["path"])
    assert store.verify().missing == 3
    report = embedstore.embed(store, "t", ToyModel(), progress=False)
    assert report.blocks == 3
    after = everything(path)
    assert before[0].equals(after[0])
    assert store.repair().empty


def test_damaged_task_arrays_are_restored_from_the_input(tmp_path, pristine):
    path = tmp_path / "s.zarr"
    before = everything(path)
    file = next(f for f in data_files(path) if "sequence" in f.parts)
    file.write_bytes(file.read_bytes()[:-3])
    store = embedstore.open_store(path, mode="a")
    with pytest.raises(CorruptError, match="embedstore verify"):
        store.sequences("t")
    assert "Embed it again with its input files" in store.repair()["reason"].iloc[0]
    assert store.tasks() == []
    with pytest.raises(EmbedstoreError, match="sequence: stored"):
        store.add_task(tasks.from_sequences("t", random_sequences([50] * 30, seed=9)))
    store.add_task(pristine)
    assert embedstore.embed(store, "t", ToyModel(), progress=False).blocks == 0
    assert before[0].equals(everything(path)[0])


def test_unfinished_groups_are_removed(tmp_path, pristine):
    path = tmp_path / "s.zarr"
    import zarr

    root = zarr.open_group(path, mode="a", use_consolidated=False)
    root.create_group("half")
    root.create_group("t/embedding/half")
    (path / "t/embedding/toy/row_count/c/0").unlink()
    store = embedstore.open_store(path, mode="a")
    assert not store.verify().sound
    done = store.repair()
    assert {"half", "t/embedding/half", "t/embedding/toy"} == set(done["path"])
    assert store.models("t") == []


def test_repair_keeps_out_of_a_running_writer(tmp_path, pristine):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    with (
        claim(tmp_path / "s.zarr/.locks/t.toy.0.lock", "block 0"),
        pytest.raises(BlockTakenError, match="Another run is writing"),
    ):
        store.repair()
    with pytest.raises(StoreError, match="mode='a'"):
        embedstore.open_store(tmp_path / "s.zarr").repair()


def test_damaged_metadata_is_an_error(tmp_path, pristine):
    """Half a zarr.json is seen by verify, and by readers unless they do not need it."""
    path = tmp_path / "s.zarr"
    before = everything(path)
    for file in sorted(path.rglob("zarr.json")):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(CorruptError):
            report = embedstore.open_store(path).verify()
            if not report.sound:
                raise CorruptError
        with contextlib.suppress(EmbedstoreError):
            assert before[0].equals(everything(path)[0])
        file.write_bytes(content)
    everything(path)
