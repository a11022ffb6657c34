from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import zarr
from probe_tasks import SPLITS, planted_labels, planted_record, planted_store
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.errors import (
    CorruptError,
    FingerprintError,
    InputError,
    NonFiniteError,
    NotInStoreError,
    StoreError,
)
from embedstore.objects import stored_bytes
from probes import predicted, predictions
from probes.dataset import ProbeData
from probes.predicted import gene_track_table
from probes.predictions import check_writable, list_predictions, open_predictions, save_predictions

NAME = "0123456789ab"
ABOUT = {
    "spec": {"version": 2, "splits": ["part1", "part2"]},
    "row": {"task": "planted", "model": "toy", "probe": "cnn", "test": math.nan, "seed": 3},
}
CASES = [
    ("nucleotide", "class"),
    ("nucleotide", "value"),
    ("bin", "class"),
    ("bin", "multilabel"),
    ("sequence", "class"),
    ("sequence", "multilabel"),
    ("sequence", "value"),
]


def chosen(store):
    return ProbeData.from_store(store, "planted", "toy", "test", progress=False)


def said(data, size=3):
    """Random outputs for samples, in parts."""
    rng = torch.Generator().manual_seed(5)
    for parts in data.batches(size):
        for part in parts:
            positions = int(data.targets.counts[part.samples].sum())
            yield part, torch.randn(positions, len(data.targets.names), generator=rng)


def raw(data):
    return torch.cat([output for _, output in said(data)])


def own_store(sequences, level, kind, path="memory://", **columns):
    """A store whose task has the sequences given."""
    bin_size = 30 if level == "bin" else 1
    store = embedstore.open_store(path, mode="a")
    task = tasks.from_sequences(
        "planted",
        sequences,
        splits=[SPLITS[i % len(SPLITS)] for i in range(len(sequences))],
        labels=planted_labels(level, kind, sequences, bin_size),
        record=planted_record(level, kind, bin_size),
    )
    for name, values in columns.items():
        task.samples[name] = values
    store.add_task(task)
    embedstore.embed(store, "planted", ToyModel(width=8), progress=False)
    return store


@pytest.fixture
def store(tmp_path):
    return planted_store(path=tmp_path / "s.zarr")


def save(store, name=NAME, **options):
    data = chosen(store)
    return save_predictions(store, said(data), data, name, attributes=ABOUT, **options)


@pytest.mark.parametrize(("level", "kind"), CASES)
def test_what_is_stored_and_what_is_read(level, kind):
    store = planted_store(level, kind)
    data = chosen(store)
    where = save(store)
    assert where == f"planted/prediction/toy/{NAME}"
    outputs, group = raw(data), zarr.open_group(store.zarr_store, path=where, mode="r")
    np.testing.assert_array_equal(group["sample"][:], data.samples)
    np.testing.assert_array_equal(np.diff(group["first"][:]), data.targets.counts[data.samples])
    if kind == "class":
        assert set(group.array_keys()) == {"sample", "first", "prediction"}
        assert group["prediction"].dtype == np.uint8
        assert group["prediction"].metadata.dimension_names == ("position",)
        np.testing.assert_array_equal(group["prediction"][:], outputs.argmax(dim=1))
    else:
        name, wanted = ("probability", torch.sigmoid(outputs)) if kind == "multilabel" else ("value", outputs)
        assert set(group.array_keys()) == {"sample", "first", name}
        assert group[name].dtype == np.float32
        assert group[name].metadata.dimension_names == ("position", "target")
        np.testing.assert_allclose(group[name][:], wanted, rtol=1e-6)

    read, whole = open_predictions(store, "planted", "toy", NAME), store.open("planted", "toy")
    assert read["label"].dims == whole["label"].dims
    assert read["sample"].values.tolist() == whole["sample"].values[data.samples].tolist()
    assert read["split"].values.tolist() == ["test"] * len(data)
    if level != "nucleotide":
        np.testing.assert_array_equal(read["label"], whole["label"].values[data.samples])
    there = read["prediction" if kind == "class" else "probability" if kind == "multilabel" else "value"]
    assert there.shape == read["label"].shape
    wanted = outputs.argmax(dim=1) if kind == "class" else torch.sigmoid(outputs) if kind == "multilabel" else outputs
    np.testing.assert_allclose(there.values.ravel(), wanted.ravel(), rtol=1e-6)
    if "target" in read["label"].dims:
        assert read["target"].values.tolist() == list(data.targets.names)
    assert read.attrs["record"]["name"] == store.record("planted").name
    assert read.attrs["row"] == {**ABOUT["row"], "test": None}


def test_nucleotides_of_ragged_samples_lie_beside_their_labels(store):
    save(store)
    read, data = open_predictions(store, "planted", "toy", NAME), chosen(store)
    ids = store.samples("planted")["id"].to_numpy()[data.samples]
    flat, first = store.labels("planted").values, np.cumsum(store.lengths("planted"))
    outputs, before = raw(data).argmax(dim=1).numpy(), 0
    for sample, name in zip(data.samples, ids, strict=True):
        table = gene_track_table(read, name)
        truth = flat[first[sample] - len(table) : first[sample]]
        assert len(table) == store.lengths("planted")[sample]
        assert table.columns.tolist() == ["position", "truth", "predicted"]
        np.testing.assert_array_equal(table["position"], np.arange(len(table)))
        np.testing.assert_array_equal(table["truth"], truth)
        np.testing.assert_array_equal(table["predicted"], outputs[before : before + len(table)])
        before += len(table)
    with pytest.raises(NotInStoreError, match=r"sample 'x' is not among the 8 that were predicted"):
        gene_track_table(read, "x")


def test_nucleotides_of_samples_of_one_length():
    store = own_store(random_sequences([50] * 12, seed=1), "nucleotide", "class")
    save(store, class_probability=True)
    read, whole, data = (
        open_predictions(store, "planted", "toy", NAME),
        store.open("planted", "toy"),
        chosen(store),
    )
    assert read["prediction"].dims == ("sample", "position")
    np.testing.assert_array_equal(read["label"], whole["label"].values[data.samples])
    np.testing.assert_array_equal(read["prediction"].values.ravel(), raw(data).argmax(dim=1))
    assert read["probability"].dims == ("sample", "position", "class")
    assert read["probability"].dtype == np.float16
    assert read["class"].values.tolist() == ["other", "G", "C"]
    np.testing.assert_allclose(read["probability"].values.reshape(-1, 3), raw(data).softmax(dim=1), atol=1e-3)
    np.testing.assert_array_equal(read["position"], np.arange(50))
    name = str(read["sample"].values[1])
    np.testing.assert_array_equal(gene_track_table(read, name)["truth"], read["label"].values[1])


def test_bins_that_a_sample_does_not_have():
    laid = predicted._in_bins(np.array([1, 2, 3], np.uint8), np.array([0, 1, 3]), 3)
    np.testing.assert_array_equal(laid, [[1, -100, -100], [2, 3, -100]])
    laid = predicted._in_bins(np.array([[0.5], [0.25], [1]], np.float32), np.array([0, 1, 3]), 2)
    np.testing.assert_array_equal(laid[..., 0], [[0.5, np.nan], [0.25, 1]])


def test_a_track_needs_nucleotides():
    store = planted_store("sequence", "class", samples=12)
    save(store)
    with pytest.raises(InputError, match="have the dimensions sample: a track needs a class for each nucleotide"):
        gene_track_table(open_predictions(store, "planted", "toy", NAME), "x")


def test_columns_of_the_table_with_the_names_of_variables():
    columns = {"value": np.arange(12), "prediction": [f"p{i}" for i in range(12)]}
    store = own_store(random_sequences([40] * 12, seed=1), "sequence", "value", **columns)
    save(store)
    read = open_predictions(store, "planted", "toy", NAME)
    assert read["value"].dims == ("sample", "target")
    assert read["sample_value"].values.tolist() == [5, 11]
    assert read["sample_prediction"].values.tolist() == ["p5", "p11"]


def test_a_probe_says_itself_whether_it_has_probabilities():
    class Ridge:
        probabilities = False

        def outputs(self, data):
            return said(data)

    for kind, name in (("class", "prediction"), ("multilabel", "value")):
        store = planted_store("sequence", kind)
        data = chosen(store)
        save_predictions(store, Ridge(), data, NAME, attributes={}, class_probability=True)
        read = open_predictions(store, "planted", "toy", NAME)
        assert [key for key in read.data_vars if key != "label"] == [name]
        wanted = raw(data).argmax(dim=1) if kind == "class" else raw(data)
        np.testing.assert_array_equal(read[name], wanted)


def test_chunks_and_checksums():
    store = own_store(random_sequences([3000] * 600, seed=1), "nucleotide", "class")
    save(store, class_probability=True)
    group = zarr.open_group(store.zarr_store, path=f"planted/prediction/toy/{NAME}", mode="r")
    for array in group.array_values():
        assert "crc32c" in str(array.metadata.codecs).lower()
        assert array.chunks[0] * array[:1].nbytes <= 2**20
    assert group["probability"].chunks == (2**20 // 6, 3)
    assert group["prediction"].shape == (300_000,)


def test_the_store_takes_predictions_for_what_they_are(store, tmp_path):
    # A task's own size must not change by what lies beside it.
    def info():
        from embedstore.describe import contents

        return contents(store)

    before, text = info(), repr(store)
    save(store)
    assert info() == before
    assert repr(store) == text
    assert store.models("planted") == ["toy"]
    assert store.tasks() == ["planted"]
    assert store.verify().sound
    assert store.repair().empty
    assert len(list_predictions(store, "planted")) == 1
    assert stored_bytes(store, "planted/prediction") > 0


def test_the_list_of_predictions(store):
    assert list_predictions(store, "planted").columns.tolist() == ["model", "name", "samples"]
    save(store)
    save(store, "ffffffffffff")
    listed = list_predictions(store, "planted")
    assert listed["name"].tolist() == [NAME, "ffffffffffff"]
    assert listed["probe"].tolist() == ["cnn", "cnn"]
    assert listed.columns.tolist() == ["model", "name", "samples", "probe", "test", "seed"]
    assert list_predictions(store, "planted", "other").empty
    with pytest.raises(NotInStoreError, match="no finished predictions 'fff' of model 'toy'. Did you mean 'ffff"):
        open_predictions(store, "planted", "toy", "fff")
    with pytest.raises(NotInStoreError, match="embedstore probe planted --model other --predictions"):
        open_predictions(store, "planted", "other", NAME)
    with pytest.raises(InputError, match="cannot be the name of a prediction"):
        open_predictions(store, "planted", "toy", "../x")


STEPS = [("ensure_group", 0), ("create_array", 0), ("create_array", 2), ("remove_tree", 0), ("sync_tree", 0)]


@pytest.mark.parametrize("where", ["local", "memory"])
def test_what_is_half_written_is_never_read(where, tmp_path, monkeypatch):
    """Stopped at every step, in a new place and over finished predictions of that name."""
    store = planted_store(samples=12, path=tmp_path / "s.zarr" if where == "local" else "memory://")
    for replaced, (step, call) in [(replaced, step) for replaced in (False, True) for step in STEPS]:
        if (step == "remove_tree" and not replaced) or (step == "sync_tree" and where == "memory"):
            continue  # not called
        if replaced:
            save(store)
        function, left = getattr(predictions, step), iter(range(call))

        def stopping(*args, function=function, left=left, **options):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return function(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(predictions, step, stopping)
            with pytest.raises(KeyboardInterrupt):
                save(store)
        with pytest.raises(NotInStoreError, match="no finished predictions"):
            open_predictions(store, "planted", "toy", NAME)
        assert list_predictions(store, "planted").empty
        assert store.verify().sound
        assert store.models("planted") == ["toy"]
    save(store)
    assert len(open_predictions(store, "planted", "toy", NAME)["sample"]) == 2


def test_repair_removes_what_is_unfinished_and_nothing_else(store, monkeypatch):
    save(store)
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "sync_tree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(store, "ffffffffffff")
    done = store.repair()
    assert done["path"].tolist() == ["planted/prediction/toy/ffffffffffff"]
    assert done["reason"].tolist() == ["never finished"]
    assert not (store.local / "planted/prediction/toy/ffffffffffff").exists()
    open_predictions(store, "planted", "toy", NAME)


def test_damage_is_an_error(store):
    folder = store.local / save(store)
    (chunk,) = folder.glob("prediction/c/*")
    whole = chunk.read_bytes()
    chunk.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(CorruptError, match="prediction"):
        open_predictions(store, "planted", "toy", NAME)
    chunk.unlink()
    with pytest.raises(CorruptError, match=f"{NAME}/prediction: differs from its digest. Run the probe again"):
        open_predictions(store, "planted", "toy", NAME)
    chunk.write_bytes(whole)
    open_predictions(store, "planted", "toy", NAME)
    (folder / "prediction/zarr.json").unlink()
    with pytest.raises(CorruptError, match="metadata is gone"):
        open_predictions(store, "planted", "toy", NAME)


def test_another_task_of_that_name(store):
    save(store)
    group = zarr.open_group(store.zarr_store, path="planted", mode="r+")
    ours = dict(group.attrs["embedstore"])
    group.attrs["embedstore"] = {**ours, "digest": {**ours["digest"], "label": "0" * 64}}
    with pytest.raises(FingerprintError, match="for other samples or labels than those of task 'planted' now"):
        open_predictions(store, "planted", "toy", NAME)


def test_a_store_that_cannot_be_written_to(store, monkeypatch):
    check_writable(store)
    closed = embedstore.open_store(store.local)
    with pytest.raises(
        StoreError, match=r"open for reading, and predictions are kept in the store: open it with mode='a'"
    ):
        check_writable(closed)
    with pytest.raises(StoreError, match="open for reading"):
        save(closed)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match="its folder may not be written to"):
        check_writable(store)


def test_outputs_that_are_not_those_of_the_data(store):
    data = chosen(store)

    def refused(outputs, message, error=InputError, data=data, **options):
        with pytest.raises(error, match=message):
            save_predictions(store, outputs, data, NAME, **{"attributes": {}, **options})
        assert list_predictions(store, "planted").empty

    parts = list(said(data))
    refused(parts[::-1], "samples in the order of the data, next")
    refused(parts[:-1], r"outputs for 6 of 8 samples; all are wanted")
    refused([(part, output[:, :2]) for part, output in parts], "do not fit")
    refused([(part, output[:-1]) for part, output in parts], "do not fit")
    refused([(part, output * math.nan) for part, output in parts], "is not finite", NonFiniteError)
    refused(parts, "attributes of predictions cannot be named kind, record", attributes={"kind": 1, "record": 2})
    refused(parts, "data that JSON can hold", attributes={"row": {"test": math.inf}})
    refused(parts, "data that JSON can hold", attributes={"row": {"path": store.local}})
    rows = store.embedding("planted", "toy").read(range(len(store.lengths("planted"))))
    mine = ProbeData.from_rows(rows, store.labels("planted"), store.record("planted"))
    refused(parts, "only predictions for samples of a store", data=mine)


def test_many_at_once(store):
    """Workers of a sweep write predictions of one task, and of the same name, at the same time."""
    names = [f"{number:012x}" for number in [*range(6), *range(6)]]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: save(embedstore.open_store(store.local, mode="a"), name), names))
    assert list_predictions(store, "planted")["name"].tolist() == sorted(set(names))
    first = open_predictions(store, "planted", "toy", names[0])
    for name in set(names):
        np.testing.assert_array_equal(
            open_predictions(store, "planted", "toy", name)["prediction"], first["prediction"]
        )
