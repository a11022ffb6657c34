from __future__ import annotations

import threading
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_tasks import planted_store
from toys import ToyModel

import embedstore
from embedstore import layout, tasks
from embedstore.errors import CorruptError, IncompleteError, InputError, NonFiniteError, NotInStoreError
from embedstore.rows import Rows
from embedstore.tasks import Labels
from probes import dataset, pools, reading
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
    monkeypatch.setattr(pools, "POOL_BLOCKS", 3)
    assert store.embedding("planted", "toy").blocks > 4 * pools.POOL_BLOCKS


@cache
def shared_store() -> embedstore.Store:
    return planted_store()


def split_part(part):
    bounds = zip(part.first_row[:-1], part.first_row[1:], strict=True)
    return [(sample, part.vector[a:b]) for sample, (a, b) in zip(part.samples, bounds, strict=True)]


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
    batches = [held._source.block_of(np.array(order[seed][:7])) for seed in order]
    assert min(len(set(batch)) for batch in batches) >= 3
    assert max(np.ptp(batch) for batch in batches) > 2 * pools.POOL_BLOCKS


def test_reading_holds_two_pools_at_most_and_each_block_once_an_epoch(store, monkeypatch) -> None:
    monkeypatch.setattr(pools, "POOL_BLOCKS", 2)
    data = ProbeData.from_store(store, "planted", "onehot", "train", memory_limit=0, progress=False)
    alive: list[int] = []
    calls: list[object] = []
    parts = ProbeData._parts
    load = ProbeData._load

    def watched_parts(self, chunk, held):
        alive.append(len(held))
        return parts(self, chunk, held)

    def watched_load(self, pool):
        blocks = np.unique(data._source.block_of(pool)).tolist()
        calls.append((threading.current_thread() is threading.main_thread(), blocks))
        return load(self, pool)

    monkeypatch.setattr(ProbeData, "_parts", watched_parts)
    monkeypatch.setattr(ProbeData, "_load", watched_load)
    flat(data, 3, (0, 1))
    assert max(alive) <= 4
    assert not any(main for main, _ in calls)
    read = [block for _, blocks in calls for block in blocks]
    assert len(read) == len(set(read)) == len(np.unique(data._source.block_of(data.samples)))


@pytest.mark.parametrize("seed", [0, 1])
def test_pools_are_the_blocks_in_the_order_drawn(seed) -> None:
    samples, block_of = np.arange(5, 45), np.repeat([2, 3, 5, 8, 9, 11, 12, 20], 5)
    drawn = np.random.default_rng([seed]).permutation([2, 3, 5, 8, 9, 11, 12, 20])
    found = pools.draw_pools(samples, block_of, (seed,))
    assert [set(block_of[pool - 5]) for pool in found] == [set(drawn[i : i + 3]) for i in (0, 3, 6)]
    assert sorted(np.concatenate(found)) == samples.tolist()
    assert [pool.tolist() for pool in pools.draw_pools(samples, block_of, None)] == samples.reshape(8, 5).tolist()


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
            assert (data._held.vector.nbytes if held else 0) == (nbytes if held else 0)
            assert (data._held is not None) == held


def test_free_memory_is_plausible(tmp_path, monkeypatch) -> None:
    free = reading.free_memory()
    assert 1e6 < free < 1e14
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.current").write_text("2000000\n")
    monkeypatch.setattr(reading, "_GROUP", group)
    assert reading.free_memory() == 3_000_000
    (group / "memory.max").write_text("max\n")
    assert reading.free_memory() > 3_000_000
    monkeypatch.setattr(reading, "_GROUP", tmp_path / "none")
    monkeypatch.setattr(reading, "_MEMORY", tmp_path / "none")
    assert 1e5 < reading.free_memory() < 1e14


def test_rows_of_ones_own() -> None:
    rows = Rows(np.arange(2), np.eye(5, dtype=np.float32), np.array([3, 1, 2, 2, 2]), np.array([0, 2, 5]))
    labels = Labels(np.arange(10, dtype=np.float32), ("nucleotide",))
    record = tasks.TaskRecord(name="mine", level="nucleotide", type="value", metric="r2")
    data = ProbeData.from_rows(rows, labels, record)
    assert repr(data) == "<ProbeData mine/rows: 2 samples, 5 channels, in memory (cpu)>"
    ((part,),) = data.batches(8)
    assert torch.equal(part.vector, torch.eye(5))
    assert part.target[:, 0].tolist() == list(range(10))
    assert part.labels == 10
    other = ProbeData.from_rows(rows._replace(vector=rows.vector * 2), labels, record)
    assert other.description != data.description
    assert ProbeData.from_rows(rows, labels, record).description == data.description


def test_rows_that_do_not_fill_their_sample(store) -> None:
    data = ProbeData.from_store(store, "planted", "toy", "test", progress=False)
    data._held.span[:] += 1
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
        with pytest.raises(
            IncompleteError, match=r"planted/half: \d+ of 18 blocks are not embedded yet; .*again to add"
        ):
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


def test_means_are_read_where_that_is_all_a_probe_needs() -> None:
    store = planted_store("sequence", "multilabel")
    embedstore.embed(store, "planted", ToyModel(width=48), name="means", keep="pooled", progress=False)  # type: ignore[arg-type]
    rows = ProbeData.from_store(store, "planted", "toy", "train", progress=False)
    for name in ("toy", "means", "onehot"):
        for limit in (None, 0):
            data = ProbeData.from_store(
                store, "planted", name, "train", pooled=True, memory_limit=limit, progress=False
            )
            found = [part for parts in data.batches(5, (1,)) for part in parts]
            samples = np.concatenate([part.samples for part in found])
            assert sorted(samples) == rows.samples.tolist()
            np.testing.assert_array_equal(
                torch.cat([part.vector for part in found]), store.embedding("planted", name).pooled(samples)
            )
            assert np.concatenate([part.span for part in found]).tolist() == rows.targets.lengths[samples].tolist()
    nucleotides = planted_store()
    with pytest.raises(InputError, match=r"belong to a nucleotide; the mean of a whole sample \(pooled\)"):
        ProbeData.from_store(nucleotides, "planted", "toy", "train", pooled=True)


def test_what_is_there_is_used_where_that_is_allowed() -> None:
    store = planted_store()
    names = sorted(set(store.samples("planted")["split"]))
    embedstore.embed(store, "planted", ToyModel(), name="some", blocks=[0, 1, 5], progress=False)  # type: ignore[arg-type]
    embedding = store.embedding("planted", "some")
    there = [sample for block in (0, 1, 5) for sample in embedding.block_samples(block)]
    data = ProbeData.from_store(store, "planted", "some", names, allow_partial=True, progress=False)
    assert data.samples.tolist() == there
    assert data.blocks_missing == embedding.blocks - 3
    whole = ProbeData.from_store(store, "planted", "toy", names, allow_partial=True, progress=False)
    assert (len(whole), whole.blocks_missing) == (48, 0)
    embedstore.embed(store, "planted", ToyModel(), name="none", blocks=[], progress=False)  # type: ignore[arg-type]
    with pytest.raises(IncompleteError, match="none of the samples that are needed here is"):
        ProbeData.from_store(store, "planted", "none", names, allow_partial=True, progress=False)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_samples_taken_out_are_those_of_the_places(data) -> None:
    store = shared_store()
    whole = ProbeData.from_store(store, "planted", "toy", "train", progress=False)
    places = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, unique=True))
    some = whole[np.array(places)]
    assert some.samples.tolist() == sorted(whole.samples[places])
    assert some.description["samples"] != whole[np.array([0, 1, 2])].description["samples"] or len(places) == 3
    every = {int(sample): vector for parts in whole.batches(100) for p in parts for sample, vector in split_part(p)}
    for parts in some.batches(4, (3,)):
        for part in parts:
            for sample, vector in split_part(part):
                assert torch.equal(vector, every[int(sample)])


def test_places_that_name_no_set_of_samples() -> None:
    data = ProbeData.from_store(shared_store(), "planted", "toy", "train", progress=False)
    for places, what in (
        ([1, 1], "the same sample twice"),
        ([], "no sample"),
        (np.zeros(len(data), bool), "no sample"),
    ):
        with pytest.raises(InputError, match=f"name {what}"):
            data[np.array(places, dtype=None if len(places) else int)]


def test_samples_shared_between_training_and_validation_are_found() -> None:
    data = ProbeData.from_store(shared_store(), "planted", "toy", ["train", "valid"], progress=False)
    valid = ProbeData.from_store(shared_store(), "planted", "toy", "valid", progress=False)
    with pytest.raises(InputError, match=f"share {len(valid)} samples, the first is sample {valid.samples[0]}"):
        data.check_apart(valid)
    ProbeData.from_store(shared_store(), "planted", "toy", "train", progress=False).check_apart(valid)


def test_labels_that_are_all_alike() -> None:
    record = tasks.TaskRecord(name="t", level="sequence", type="multilabel", names=("a", "b"), metric="auroc")
    rows = Rows(np.arange(3), np.ones((3, 2), np.float32), np.ones(3, int), np.arange(4))
    for values, wrong in (([[1, 0], [1, 0], [1, 0]], True), ([[1, 0], [1, 1], [1, 0]], False)):
        data = ProbeData.from_rows(rows, Labels(np.array(values, np.uint8), ("sample", "target")), record)
        if wrong:
            with pytest.raises(InputError, match="splits given have one value only, 1, in every target"):
                data.check_labels()
        else:
            data.check_labels()
    one = tasks.TaskRecord(name="t", level="sequence", type="class", names=("a", "b"), metric="mcc")
    bare = ProbeData.from_rows(rows, Labels(np.full(3, -100, np.int16), ("sample",)), one)
    with pytest.raises(InputError, match="have no label in every target"):
        bare.check_labels()


def test_rows_that_are_not_finite_are_refused() -> None:
    vector = np.ones((4, 2), np.float32)
    vector[2, 1] = np.nan
    rows = Rows(np.arange(2), vector, np.ones(4, int), np.array([0, 2, 4]))
    record = tasks.TaskRecord(name="mine", level="nucleotide", type="value", metric="r2")
    with pytest.raises(NonFiniteError, match="mine: 1 of 4 rows hold NaN or infinity; the first is of sample 1"):
        ProbeData.from_rows(rows, Labels(np.zeros(4, np.float32), ("nucleotide",)), record)


def test_rows_go_to_a_device_where_they_are_in_memory() -> None:
    store = shared_store()
    held = ProbeData.from_store(store, "planted", "toy", "train", progress=False)
    assert held.to("cpu") is held
    moved = held.to("meta")
    assert "in memory (meta)" in repr(moved)
    assert next(iter(moved.batches(4)))[0].vector.device.type == "meta"
    streamed = ProbeData.from_store(store, "planted", "toy", "train", memory_limit=0, progress=False)
    assert streamed.to("meta") is streamed
