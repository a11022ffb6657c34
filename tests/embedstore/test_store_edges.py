"""What a store refuses, and what it must still do at the edges: odd columns, long sequences, foreign commits."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import zarr
from toys import ToyModel, ToyPiece, random_sequences

import embedstore
from embedstore import adding, describe, planning, tasks
from embedstore.blocks import create_embedding
from embedstore.errors import CorruptError, FingerprintError, InputError, StoreError
from embedstore.integrity import verify
from embedstore.objects import children

LENGTHS = [50, 61, 7, 120] * 6


@pytest.fixture
def store(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences(LENGTHS)))
    return store


@pytest.fixture
def embedded(store, toy_model):
    embedstore.embed(store, "t", toy_model, progress=False)
    return store


# ---- tasks ---------------------------------------------------------------------------------------


def changed(**fields):
    task = tasks.from_sequences("new", ["ACGT", "GG", "TTA"])
    table = fields.pop("table", {})
    return dataclasses.replace(task, samples=task.samples.assign(**table), **fields)


CLASSES = tasks.Labels(np.zeros(8, np.int16), ("nucleotide",), ("a",))


@pytest.mark.parametrize(
    ("task", "match"),
    [
        (lambda: changed(table={"length": [4, 3, 3]}), "sample '1' has 2 letters, its table says 3"),
        (lambda: changed(table={"id": ["a", "b", "a"]}), "1 sample ids repeat, the first: \\['a'\\]"),
        (lambda: changed(table={"length": [4, 0, 3]}), "a sample has no letters: '1'"),
        (lambda: changed(labels=CLASSES), "labels have shape \\(8,\\).*must be 9"),
        (lambda: changed(labels=dataclasses.replace(CLASSES, dims=("sample",))), "dimensions .*sample.*must be 3"),
    ],
)
def test_tasks_that_do_not_add_up_are_refused(store, task, match):
    with pytest.raises(InputError, match=f"'new'.*{match}"):
        store.add_task(task())
    assert store.tasks() == ["t"]


def test_an_empty_task_is_refused(store):
    task = tasks.from_sequences("new", ["ACGT"])
    with pytest.raises(InputError, match="'new' has no samples"):
        store.add_task(dataclasses.replace(task, samples=task.samples.iloc[:0]))


def test_long_sequences_are_written_in_steps(tmp_path, monkeypatch):
    """Sequences shorter and longer than a step, and one of many steps."""
    monkeypatch.setattr(adding, "_STEP", 8)
    sequences = random_sequences([3, 500, 127, 1, 128, 129, 5])
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", sequences))
    assert [codes.tobytes().decode() for codes in store.sequences("t")] == sequences


@pytest.mark.parametrize("lengths", [[4, 4], [4, 6]], ids=["fixed", "ragged"])
def test_columns_may_be_called_as_dimensions_and_arrays_are(tmp_path, toy_model, lengths):
    columns = {
        "label": [True, False],
        "sample": ["liver", "brain"],
        "position": [7, 8],
        "first_nucleotide": [0.5, 1.5],
        "vector": [1, 2],
        "row_count": np.array([3, 4], np.int64),
        "tissue": ["x", "y"],
    }
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    sequences = random_sequences(lengths)
    store.add_task(tasks.from_sequences("t", sequences, ids=["a", "b"], columns=pd.DataFrame(columns)))
    assert verify(store).sound
    embedstore.embed(store, "t", toy_model, progress=False)
    table, dataset = store.samples("t"), store.open("t", "toy")
    one = store.sample("t", "toy", "b")
    assert list(dataset["sample"].to_numpy()) == ["a", "b"]
    assert one["sample"].item() == "b"
    assert one["position"].size == lengths[1]
    for name, values in columns.items():
        assert list(table[name]) == list(values)
        known = name if name in ("vector", "row_count", "tissue") else f"sample_{name}"
        assert list(dataset[known].to_numpy()) == list(values)
        assert one[known].item() == values[1]
    if lengths[0] != lengths[1]:
        assert list(dataset["first_nucleotide"].to_numpy()) == [0, lengths[0]]


# ---- embeddings ----------------------------------------------------------------------------------


def test_a_plan_of_what_embed_would_refuse_is_refused(embedded, toy_model):
    plan = embedstore.plan(embedded, "t", toy_model, progress=False)
    assert (plan.rows_done, plan.blocks_done) == (plan.rows, plan.blocks)
    with pytest.raises(FingerprintError, match="checkpoint: stored 'seed 0', now 'seed 1'"):
        embedstore.plan(embedded, "t", ToyModel(seed=1), progress=False)
    with pytest.raises(FingerprintError, match="dtype: stored 'float16', now 'float32'"):
        embedstore.plan(embedded, "t", toy_model, dtype="float32", progress=False)
    for option in ({"dtype": "float64"}, {"resolution": "base"}):
        with pytest.raises(InputError, match="it must be one of"):
            embedstore.plan(embedded, "t", toy_model, progress=False, **option)


def test_a_plan_ends_its_trial_in_time(store, toy_model, monkeypatch):
    monkeypatch.setattr(planning, "_TRIAL_SECONDS", 0.0)
    assert embedstore.plan(store, "t", toy_model, progress=False).seconds > 0
    assert len(toy_model.calls) == 2  # one that pays for set-up, and one batch
    toy_model.calls.clear()
    assert np.isnan(embedstore.plan(store, "t", toy_model, trial=False, progress=False).seconds)
    assert toy_model.calls == []


def test_batches_need_room_for_a_token(tmp_path, toy_model):
    with pytest.raises(InputError, match="batch_tokens is 0: it must be at least 1"):
        embedstore.embed(tmp_path / "new.zarr", "t", toy_model, batch_tokens=0)
    assert not (tmp_path / "new.zarr").exists()


def test_a_token_longer_than_a_span_can_say_is_refused(store):
    class Long(ToyModel):
        def pieces(self, codes):
            return [ToyPiece(np.zeros(2, np.int64), 1, np.array([70_000], np.int32))]

    with pytest.raises(InputError, match="sample '0' has a token of 70,000 nucleotides; .* up to 65,535"):
        embedstore.embed(store, "t", Long(), progress=False)


def test_consolidated_metadata_waits_for_the_last_block(embedded, toy_model, tmp_path):
    counts = embedded.embedding("t", "toy").row_count
    writer = create_embedding(embedded, "t", "n", record={}, fingerprint={"a": "1"}, width=8, row_count=lambda: counts)
    before = (tmp_path / "s.zarr" / "zarr.json").read_bytes()
    writer.finish()
    assert (tmp_path / "s.zarr" / "zarr.json").read_bytes() == before
    embedstore.embed(embedded, "t", toy_model, name="m", progress=False)
    assert (
        "t/embedding/m" in zarr.open_consolidated(tmp_path / "s.zarr").metadata.consolidated_metadata.flattened_metadata
    )


def test_commits_of_another_fingerprint_do_not_count(embedded, tmp_path):
    """As if the attributes had been copied from another store."""
    file = tmp_path / "s.zarr" / "t" / "embedding" / "toy" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["attributes"]["embedstore"]["fingerprint"]["sequences"] = "0" * 64
    file.write_text(json.dumps(metadata))
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    emb = store.embedding("t", "toy")
    with pytest.raises(CorruptError, match="block 0 .*the commit record does not belong here"):
        emb.read([0])
    report = verify(store)
    assert "made from other sequences" in report.problems["problem"][0]
    assert list(report.problems["block"]) == [-1, *range(emb.blocks)]
    item = describe.contents(store)[1]
    assert (item["blocks_done"], item["rows_done"]) == (0, 0)
    assert f"0 of {emb.blocks} blocks" in repr(store)


# ---- integrity -----------------------------------------------------------------------------------


def test_other_letters_with_sound_checksums_are_seen(embedded, tmp_path):
    letters = zarr.open_array(tmp_path / "s.zarr" / "t" / "sequence", mode="r+")
    letters[5] = ord("A") if letters[5] != ord("A") else ord("C")
    (problem,) = verify(embedstore.open_store(tmp_path / "s.zarr")).problems["problem"]
    assert "task 't': the sequences differ from their digest" in problem


def test_verify_of_a_part(embedded, toy_model):
    embedstore.embed(embedded, "t", toy_model, name="two", progress=False)
    whole, part = verify(embedded), verify(embedded, "t", "two")
    assert whole.samples == 2 * part.samples == 2 * len(LENGTHS)
    assert whole.blocks == 2 * part.blocks
    with pytest.raises(InputError, match="give the task as well"):
        verify(embedded, model="toy")


def test_repair_clears_what_a_killed_run_left(embedded, tmp_path):
    locks = tmp_path / "s.zarr" / ".locks"
    locks.mkdir()
    (locks / "t.toy.3.lock").touch()
    (tmp_path / "s.zarr" / "t" / "x.embedstore-tmp").write_bytes(b"half")
    done = embedded.repair()
    assert list(done["path"]) == ["t/x.embedstore-tmp"]
    assert not locks.exists()


# ---- descriptions --------------------------------------------------------------------------------


def test_a_store_that_is_no_folder_has_no_sizes(toy_model):
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([30])))
    embedstore.embed(store, "t", toy_model, progress=False)
    task, embedding = describe.contents(store)
    assert task["stored_bytes"] is None
    assert (embedding["stored_bytes"], embedding["ratio"]) == (None, None)
    assert "?" in repr(store)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB"), (1.5 * 2**30, "1.5 GiB"),
     (2**40, "1.0 TiB"), (3000 * 2**40, "3000.0 TiB"), (None, "?")],
)  # fmt: skip
def test_bytes_for_people(size, text):
    assert describe.human_bytes(size) == text


# ---- places --------------------------------------------------------------------------------------


def test_a_store_may_be_named_in_many_ways(embedded, tmp_path):
    rows = embedded.embedding("t", "toy").read([3]).vector
    path = tmp_path / "s.zarr"
    for place in (str(path), f"file://{path}", zarr.storage.LocalStore(path)):
        store = embedstore.open_store(place)
        assert store.local == path
        np.testing.assert_array_equal(store.embedding("t", "toy").read([3]).vector, rows)
    with pytest.raises(InputError, match=r"nowhere://x cannot be opened: a store's URL begins with one of s3://"):
        embedstore.open_store("nowhere://x")


def test_a_store_in_memory_is_shared_not_copied(toy_model):
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([30, 40])))
    embedstore.embed(store, "t", toy_model, progress=False)
    again = embedstore.open_store(store.zarr_store, mode="r")
    assert again.tasks() == ["t"]
    shared = copy.copy(store)
    assert shared.zarr_store is store.zarr_store
    assert shared.open("t", "toy").equals(store.open("t", "toy"))


class Silent(zarr.storage.MemoryStore):
    """Does not list."""

    async def list_dir(self, prefix):
        raise NotImplementedError
        yield ""


def test_children_are_those_of_one_group_whatever_lists_them(toy_model, tmp_path):
    memory = zarr.storage.MemoryStore()
    stores = [embedstore.open_store(place, mode="a") for place in (tmp_path / "s.zarr", memory)]
    for store in stores:
        store.add_task(tasks.from_sequences("t", ["ACGT"] * 3))
        embedstore.embed(store, "t", toy_model, name="m", progress=False)
    for store in (*stores, embedstore.open_store(Silent(memory._store_dict, read_only=True))):
        assert [children(store, path) for path in ("", "t/embedding", "t/embeddin")] == [["t"], ["m"], []]


def test_a_server_that_does_not_list_is_read_by_consolidated_metadata(toy_model):
    store = embedstore.open_store("memory://", mode="a")
    far = embedstore.open_store(Silent(store.zarr_store._store_dict, read_only=True))
    with pytest.raises(StoreError, match="cannot be listed and lacks consolidated metadata"):
        far.tasks()
    for name in ("a", "b"):
        store.add_task(tasks.from_sequences(name, random_sequences([30, 40])))
        embedstore.embed(store, name, toy_model, name=f"{name}-toy", progress=False)
    assert far.tasks() == ["a", "b"]
    assert (far.models("a"), far.models("b")) == (["a-toy"], ["b-toy"])
    assert far.open("a", "a-toy").equals(store.open("a", "a-toy"))


def test_lost_lengths_are_seen_by_who_needs_nothing_else(embedded, tmp_path):
    (tmp_path / "s.zarr" / "t" / "sample" / "length" / "c" / "0").unlink()
    with pytest.raises(CorruptError, match="task 't': sample lengths are gone. Run `embedstore repair"):
        embedstore.open_store(tmp_path / "s.zarr").lengths("t")
