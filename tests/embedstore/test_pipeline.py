"""The stages of a run: the same rows whatever the batches, shares and memory; errors end everything."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import zarr
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.computing import Runner
from embedstore.errors import BlockTakenError, DeviceMemoryError, InputError
from embedstore.placing import place

LENGTHS = np.random.default_rng(5).integers(1, 300, 150)


class Padding(ToyModel):
    """The toy model, which takes padding: rows of pads are NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.pads = True

    def hidden(self, ids, lengths=None):
        rows = super().hidden(ids)
        if lengths is not None:
            rows[torch.arange(ids.shape[1]) >= lengths[:, None]] = float("nan")
        return rows


class Packing(ToyModel):
    """The toy model, which takes sequences in one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.packs = True

    def hidden_packed(self, ids, lengths):
        return torch.cat([super(Packing, self).hidden(part[None])[0] for part in ids.split(list(lengths))])


@pytest.fixture
def store(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences(LENGTHS)))
    return store


def values(store, name):
    return store.open("t", name)["embedding"].to_numpy()


@pytest.mark.parametrize("model", [ToyModel, Padding, Packing])
def test_rows_do_not_depend_on_batches(store, model):
    expected = np.concatenate([ToyModel().expected(codes) for codes in store.sequences("t")])
    for budget in (1, 7, 64, 1000, 100_000):
        report = embedstore.embed(
            store, "t", model(), name=f"b{budget}", dtype="float32", batch_tokens=budget, progress=False
        )
        np.testing.assert_array_equal(values(store, f"b{budget}"), expected)
        assert report.padding <= 1.05 if model is Padding else report.padding == 1
        assert report.tokens == sum(len(p.ids) for c in store.sequences("t") for p in ToyModel().pieces(c))
    pooled = [store.embedding("t", f"b{budget}").pooled() for budget in (1, 64, 100_000)]
    np.testing.assert_allclose(pooled[0], pooled[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled[0], pooled[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of", [2, 3, 40])
def test_shards_make_the_whole(store, of):
    embedstore.embed(store, "t", ToyModel(), name="whole", progress=False)
    blocks = store.embedding("t", "whole").blocks
    done = 0
    for number in range(of, 0, -1):
        report = embedstore.embed(store, "t", ToyModel(), shard=(number, of), progress=False)
        done += report.blocks
        assert report.blocks_left == blocks - done
    assert done == blocks
    np.testing.assert_array_equal(values(store, "toy"), values(store, "whole"))
    assert embedstore.embed(store, "t", ToyModel(), shard=(1, of), progress=False).blocks == 0


def test_only_some_blocks(store):
    writer = embedstore.prepare(store, "t", ToyModel())
    assert writer.embedding.missing() == list(range(writer.embedding.blocks))
    report = embedstore.embed(store, "t", ToyModel(), blocks=[3, 1, 3], progress=False)
    assert report.blocks == 2
    missing = store.embedding("t", "toy").missing()
    assert missing == [b for b in range(writer.embedding.blocks) if b not in (1, 3)]
    with pytest.raises(InputError, match="There is no block 999: blocks are numbered 0 to"):
        embedstore.embed(store, "t", ToyModel(), blocks=[999], progress=False)
    with pytest.raises(InputError, match="a shard or blocks, not both"):
        embedstore.embed(store, "t", ToyModel(), blocks=[0], shard=(1, 2), progress=False)
    for shard in ((0, 2), (3, 2)):
        with pytest.raises(InputError, match="the number must be from 1 to 2"):
            embedstore.embed(store, "t", ToyModel(), shard=shard, progress=False)


class Small(Packing):
    """A device that takes so many tokens at a time."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.most, self.error = most, error

    def hidden_packed(self, ids, lengths):
        self.check(len(ids))
        return super().hidden_packed(ids, lengths)

    def hidden(self, ids):
        self.check(ids.numel())
        return super().hidden(ids)

    def check(self, tokens):
        if tokens > self.most:
            raise self.error("not enough memory: you tried to allocate 1 TB")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_batches_are_halved_once_when_memory_is_exhausted(store, error, caplog):
    expected = np.concatenate([ToyModel().expected(codes) for codes in store.sequences("t")])
    report = embedstore.embed(store, "t", Small(700, error), dtype="float32", batch_tokens=1000, progress=False)
    assert report.batch_tokens <= 700
    assert "batches have" in caplog.text
    np.testing.assert_array_equal(values(store, "toy"), expected)
    with pytest.raises(DeviceMemoryError, match=r"after they were halved once.*--batch-tokens"):
        embedstore.embed(store, "t", Small(100, error), name="x", batch_tokens=1000, progress=False)
    with pytest.raises(DeviceMemoryError, match="of one sequence"):
        embedstore.embed(store, "t", Small(5, error), name="y", batch_tokens=1, progress=False)
    assert store.verify().sound


def test_other_errors_of_a_device_are_not_taken_for_memory():
    class Broken(ToyModel):
        def hidden(self, ids):
            raise RuntimeError("shapes do not match")

    jobs = place(ToyModel().pieces(np.frombuffer(b"ACGT", np.uint8))).jobs
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(Runner(Broken(), 10, "float32").run(jobs, np.array([0])))


@pytest.mark.parametrize("where", ["model", "write", "commit", "pieces"])
def test_an_error_in_any_stage_ends_the_run_and_all_threads(store, where, monkeypatch):
    from embedstore.blocks import OpenBlock

    model = ToyModel()
    calls = [0]

    def failing(*_, **__):
        calls[0] += 1
        if calls[0] > 3:
            raise OSError(f"failed in {where}")
        return real[0](*_, **__)

    real = [None]
    target = {
        "model": (model, "hidden"),
        "pieces": (model, "pieces_of"),
        "write": (OpenBlock, "add"),
        "commit": (OpenBlock, "commit"),
    }[where]
    real[0] = getattr(*target)
    if where in ("write", "commit"):
        monkeypatch.setattr(*target, lambda self, *a, **k: failing(self, *a, **k))
    else:
        monkeypatch.setattr(*target, failing)
    if where == "pieces":
        model.row_counts = ToyModel().row_counts
    with pytest.raises(OSError, match=f"failed in {where}"):
        embedstore.embed(store, "t", model, batch_tokens=40, progress=False)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embedstore-")]
    assert not list((store.local / "t").rglob("*.embedstore-tmp"))
    assert store.verify().sound
    monkeypatch.undo()
    embedstore.embed(store, "t", ToyModel(), progress=False)
    expected = np.concatenate([ToyModel().expected(codes) for codes in store.sequences("t")])
    np.testing.assert_array_equal(values(store, "toy"), expected.astype(np.float16))


def test_a_block_that_another_run_took_meanwhile(store):
    """Both compute it; the one that comes second is told, and the store keeps what the first wrote."""
    other = embedstore.open_store(store.local, mode="a")

    class Slow(ToyModel):
        done = False

        def hidden(self, ids):
            if not self.done:
                self.done = True
                embedstore.embed(other, "t", ToyModel(), blocks=[0], progress=False)
            return super().hidden(ids)

    with pytest.raises(BlockTakenError, match=r"block 0 .*has just been committed by another run"):
        embedstore.embed(store, "t", Slow(), progress=False)
    assert store.verify().sound


def test_a_report_says_what_held_it_up(store):
    report = embedstore.embed(store, "t", ToyModel(), progress=False)
    as_dict = report.to_dict()
    assert as_dict["bottleneck"] in ("tokenising", "computing", "copying", "writing", "committing")
    assert 0 <= report.idle <= 1
    assert set(as_dict["busy"]) == set(report.busy._fields)
    assert np.isnan(report.utilisation)
    slow = report._replace(seconds=10.0, busy=report.busy._replace(computing=9.9, waiting_for_tokens=0.0))
    assert slow._replace(busy=slow.busy._replace(waiting_for_disk=0.1)).bottleneck == "computing"
    disk = slow.busy._replace(computing=4.0, waiting_for_disk=6.0, copying=1.0, writing=2.0, committing=9.0)
    assert slow._replace(busy=disk).bottleneck == "committing"
    assert slow._replace(busy=disk._replace(waiting_for_tokens=7.0)).bottleneck == "tokenising"
    assert slow._replace(flops=50.0, matmul_rate=10.0).utilisation == 0.5
    assert slow._replace(busy=disk).idle == pytest.approx(0.6)


def test_a_clock_that_runs_backwards_changes_nothing(store, monkeypatch):
    import time

    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    embedstore.embed(store, "t", ToyModel(), progress=False)
    expected = np.concatenate([ToyModel().expected(codes) for codes in store.sequences("t")])
    np.testing.assert_array_equal(values(store, "toy"), expected.astype(np.float16))
    assert store.verify().sound


def test_groups_that_another_run_makes_at_the_same_moment_keep_what_it_wrote(monkeypatch):
    """Nothing is there when this run looks, and the other run's group, with attributes, when it writes."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    from embedstore.layout import ensure_group

    memory = zarr.storage.MemoryStore()
    root = zarr.create_group(memory)
    theirs = zarr.create_group(zarr.storage.MemoryStore(), attributes={"whose": "theirs"})
    text = sync(theirs.store.get("zarr.json", default_buffer_prototype()))
    create = zarr.storage.MemoryStore.set_if_not_exists

    async def raced(self, key, value):
        if key == "a/b/zarr.json":
            await self.set(key, text)
        await create(self, key, value)

    monkeypatch.setattr(zarr.storage.MemoryStore, "set_if_not_exists", raced)
    assert dict(ensure_group(root, "a/b").attrs) == {"whose": "theirs"}
    assert dict(ensure_group(root, "a/b/c").attrs) == {}
    assert sorted(key for key in memory._store_dict) == ["a/b/c/zarr.json", "a/b/zarr.json", "a/zarr.json", "zarr.json"]
