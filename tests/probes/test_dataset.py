from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from probe_tasks import planted_store
from toys import ToyModel

import embedstore
from embedstore import layout, tasks
from embedstore.errors import CorruptError, IncompleteError, InputError, NotInStoreError
from embedstore.rows import Rows
from embedstore.tasks import Labels
from probes import dataset
from probes.dataset import ProbeData


@pytest.fixture(scope="module")
def store() -> embedstore.Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
        patch.setattr(layout, "CHUNK_BYTES", 512)
        return planted_store(samples=120)


@pytest.fixture(autouse=True)
def small_pools(monkeypatch, store) -> None:
    monkeypatch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
    monkeypatch.setattr(dataset, "POOL_BLOCKS", 3)
    assert store.embedding("planted", "toy").blocks > 4 * dataset.POOL_BLOCKS


def flat(data: ProbeData, size: int, seed=None) -> list[tuple]:
    """Every sample of every batch with its rows, spans and labels."""
    found = []
    for number, parts in enumerate(data.batches(size, seed)):
        for part in parts:
            ends = np.cumsum(data.targets.counts[part.samples])
            for i, sample in enumerate(part.samples):
                rows = slice(part.first_row[i], part.first_row[i + 1])
                label = part.target[ends[i] - data.targets.counts[sample] : ends[i]]
                found.append((number, int(sample), part.vector[rows].numpy(), part.span[rows], label.numpy()))
    return found


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("model", ["toy", "onehot"])
def test_every_sample_once_with_its_own_rows_and_labels(store, model, limit) -> None:
    data = ProbeData.from_store(store, "planted", model, ["train", "valid"], memory_limit=limit, progress=False)
    assert data.in_memory == (limit is None)
    table, labels = store.samples("planted"), store.labels("planted").values
    wanted = np.flatnonzero(table["split"].isin(["train", "valid"]))
    assert len(data) == len(wanted)
    first = np.concatenate([[0], np.cumsum(table["length"])])
    rows = store.embedding("planted", model).read(np.arange(len(table)))
    for seed in (None, (7, 1)):
        found = flat(data, 10, seed)
        order = [sample for _, sample, *_ in found]
        assert sorted(order) == wanted.tolist()
        assert (order == wanted.tolist()) == (seed is None)
        for _, sample, vector, span, label in found:
            own = slice(rows.first_row[sample], rows.first_row[sample + 1])
            np.testing.assert_array_equal(vector, rows.vector[own])
            np.testing.assert_array_equal(span, rows.span[own])
            np.testing.assert_array_equal(label, labels[first[sample] : first[sample + 1]])
        assert np.bincount([number for number, *_ in found]).tolist() == [10] * (len(wanted) // 10)


def test_order_depends_on_the_seed_and_not_on_memory(store) -> None:
    held, read = (
        ProbeData.from_store(store, "planted", "toy", "train", memory_limit=limit, progress=False)
        for limit in (None, 0)
    )
    order = {seed: [s for _, s, *_ in flat(held, 7, seed)] for seed in ((1, 1), (1, 2), (2, 1))}
    assert order[1, 1] == [s for _, s, *_ in flat(read, 7, (1, 1))]
    assert len({tuple(o) for o in order.values()}) == 3
    # Samples of many blocks, far from each other, meet in a batch.
    batches = [held._block_of(np.array(order[seed][:7])) for seed in order]
    assert min(len(set(batch)) for batch in batches) >= 3
    assert max(np.ptp(batch) for batch in batches) > 2 * dataset.POOL_BLOCKS


def test_reading_holds_two_pools_at_most_and_each_block_once_an_epoch(store, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "POOL_BLOCKS", 2)
    data = ProbeData.from_store(store, "planted", "onehot", "train", memory_limit=0, progress=False)
    alive: list[int] = []
    calls: list[object] = []
    parts = ProbeData._parts
    load = ProbeData._load

    def watched_parts(self, chunk, held):
        alive.append(len(held))
        return parts(self, chunk, held)

    def watched_load(self, pool):
        calls.append((threading.current_thread() is threading.main_thread(), pool.blocks.tolist()))
        return load(self, pool)

    monkeypatch.setattr(ProbeData, "_parts", watched_parts)
    monkeypatch.setattr(ProbeData, "_load", watched_load)
    flat(data, 3, (0, 1))
    assert max(alive) <= 4
    assert not any(main for main, _ in calls)
    read = [block for _, blocks in calls for block in blocks]
    assert len(read) == len(set(read)) == len(np.unique(data._block_of(data.samples)))


def test_leaving_early_stops_the_reading_thread(store) -> None:
    data = ProbeData.from_store(store, "planted", "toy", "train", memory_limit=0, progress=False)
    before = threading.active_count()
    batches = data.batches(4)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_parts_are_small_and_whole(store, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "PART_NUCLEOTIDES", 300)
    data = ProbeData.from_store(store, "planted", "toy", "train", progress=False)
    parts = [part for parts in data.batches(16) for part in parts]
    sizes = [int(part.span.sum()) for part in parts]
    assert max(sizes) < 300 + 160
    assert len(parts) > len(data) / 16
    assert np.concatenate([part.samples for part in parts]).tolist() == data.samples.tolist()


def test_the_limit_is_compared_with_the_bytes_of_the_rows(store) -> None:
    embedding, table = store.embedding("planted", "toy"), store.samples("planted")
    for split in ("train", "test"):  # most and few samples of every block
        nbytes = int(embedding.row_count[np.flatnonzero(table["split"] == split)].sum()) * 48 * 2
        for limit, held in ((nbytes, True), (nbytes - 1, False)):
            data = ProbeData.from_store(store, "planted", "toy", split, memory_limit=limit, progress=False)
            assert data.in_memory == held
            assert ("in memory" in repr(data)) == held
            assert sum(rows.vector.nbytes for rows in data._held.values()) == (nbytes if held else 0)


def test_free_memory_is_plausible(tmp_path, monkeypatch) -> None:
    free = dataset._free_memory()
    assert 1e6 < free < 1e14
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.current").write_text("2000000\n")
    monkeypatch.setattr(dataset, "_GROUP", group)
    assert dataset._free_memory() == 3_000_000
    (group / "memory.max").write_text("max\n")
    assert dataset._free_memory() > 3_000_000
    monkeypatch.setattr(dataset, "_GROUP", tmp_path / "none")
    monkeypatch.setattr(dataset, "_MEMORY", tmp_path / "none")
    assert 1e5 < dataset._free_memory() < 1e14


def test_rows_of_ones_own() -> None:
    rows = Rows(np.arange(2), np.eye(5, dtype=np.float32), np.array([3, 1, 2, 2, 2]), np.array([0, 2, 5]))
    labels = Labels(np.arange(10, dtype=np.float32), ("nucleotide",))
    record = tasks.TaskRecord(name="mine", level="nucleotide", type="value", metric="r2")
    data = ProbeData.from_rows(rows, labels, record)
    assert repr(data) == "<ProbeData mine/rows: 2 samples, 5 channels, in memory>"
    ((part,),) = data.batches(8)
    assert torch.equal(part.vector, torch.eye(5))
    assert part.target[:, 0].tolist() == list(range(10))
    assert part.labels == 10
    other = ProbeData.from_rows(rows._replace(vector=rows.vector * 2), labels, record)
    assert other.description != data.description
    assert ProbeData.from_rows(rows, labels, record).description == data.description


def test_rows_that_do_not_fill_their_sample(store) -> None:
    data = ProbeData.from_store(store, "planted", "toy", "test", progress=False)
    block, rows = next(iter(data._held.items()))
    data._held[block] = rows._replace(span=rows.span + 1)
    with pytest.raises(CorruptError, match=r"planted/toy: .*the rows of sample \d+ stand for"):
        list(data.batches(8))


def test_refusals(store) -> None:
    with pytest.raises(NotInStoreError, match="no samples of split 'tain'. Did you mean 'train'"):
        ProbeData.from_store(store, "planted", "toy", "tain")
    with pytest.raises(NotInStoreError, match="not embedded with model 'toi'"):
        ProbeData.from_store(store, "planted", "toi", "train")
    store.add_task(tasks.from_sequences("bare", ["ACGT"], splits=["train"]))
    with pytest.raises(InputError, match="task 'bare' has no labels"):
        ProbeData.from_store(store, "bare", "onehot", "train")


def test_a_block_that_is_not_embedded_yet_is_named(store, monkeypatch) -> None:
    class Failing(ToyModel):
        def hidden(self, ids):
            if len(self.calls) > 5:
                raise KeyboardInterrupt
            return super().hidden(ids)

    with pytest.raises(KeyboardInterrupt):
        embedstore.embed(store, "planted", Failing(), name="half", progress=False)
    for limit in (None, 0):
        with pytest.raises(IncompleteError, match="is not embedded yet"):
            list(ProbeData.from_store(store, "planted", "half", "train", memory_limit=limit, progress=False).batches(4))


@pytest.mark.parametrize("how", [{"keep": "pooled"}, {"positions": "offset"}])
def test_what_lacks_rows_is_refused(tmp_path, how):
    from toys import ToyModel

    import embedstore
    from embedstore import tasks

    lines = [f"s{i}\tACGTACGT\t{i % 2}\ttrain\t{i % 8}" for i in range(6)]
    (tmp_path / "t.tsv").write_text("id\tsequence\tlabel\tsplit\toffset\n" + "\n".join(lines) + "\n")
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    (tmp_path / "r.toml").write_text('name = "t"\ntitle = "T"\nlevel = "sequence"\ntype = "value"\nmetric = "r2"\n')
    store.add_task(tasks.from_table(tmp_path / "t.tsv", record=tmp_path / "r.toml", name="t"))
    embedstore.embed(store, "t", ToyModel(), progress=False, **how)
    what = "the mean of each sample" if "keep" in how else "the rows of some positions"
    with pytest.raises(InputError, match=f"holds {what} only; this probe needs all rows"):
        ProbeData.from_store(store, "t", "toy", "train")
