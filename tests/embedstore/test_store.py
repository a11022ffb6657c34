"""The store: what goes in comes out, by every road, and what does not fit is refused."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import tensorstore
import xarray as xr
import zarr
from toys import ToyModel, random_sequences

import embedstore
from embedstore import layout, tasks
from embedstore.errors import (
    CorruptError,
    FingerprintError,
    FormatVersionError,
    IncompleteError,
    InputError,
    NotInStoreError,
    StoreError,
)

RAGGED = [100, 130, 61, 7, 1, 200, 59, 60] * 4


@pytest.fixture
def ragged(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("ragged", random_sequences(RAGGED)))
    return store


def by_hand(store, model, task="ragged"):
    return [model.expected(codes) for codes in store.sequences(task)]


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("resolution", ["token", "nucleotide"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("lengths", [RAGGED, [50] * 40], ids=["ragged", "fixed"])
def test_what_is_read_is_what_the_model_gave(tmp_path, many_blocks, toy_model, where, resolution, codec, lengths):
    store = embedstore.open_store(tmp_path / "s.zarr" if where == "local" else "memory://", mode="a")
    store.add_task(tasks.from_sequences("ragged", random_sequences(lengths)))
    report = embedstore.embed(
        store, "ragged", toy_model, resolution=resolution, codec=codec, dtype="float32", progress=False
    )
    assert report.samples == len(lengths)
    assert report.blocks > 2
    expected = by_hand(store, toy_model)
    dataset = store.open("ragged", "toy")
    got = dataset["embedding"].to_numpy().reshape(-1, toy_model.width)
    np.testing.assert_array_equal(got, np.concatenate(expected))
    assert "".join(dataset["sequence"].to_numpy().astype(str).ravel()) == "".join(random_sequences(lengths))
    pooled = store.embedding("ragged", "toy").pooled()
    np.testing.assert_allclose(pooled, [rows.mean(0) for rows in expected], atol=1e-6)
    assert store.verify().sound


def test_float16_is_the_rounded_float32(ragged, toy_model):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    rows = ragged.embedding("ragged", "toy").read([3, 0])
    assert rows.vector.dtype == np.float16
    expected = by_hand(ragged, toy_model)
    np.testing.assert_array_equal(rows.nucleotides(), np.concatenate([expected[3], expected[0]]).astype(np.float16))


def test_one_dask_chunk_per_block_and_float32(ragged, toy_model):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    dataset = ragged.open("ragged", "toy")
    emb = ragged.embedding("ragged", "toy")
    assert dataset["embedding"].dtype == np.float32
    assert len(dataset["embedding"].chunks[0]) == emb.blocks == len(dataset["sequence"].chunks[0])
    assert dataset["embedding"].dims == ("nucleotide", "channel")


def test_samples_by_id_and_by_index(ragged, toy_model):
    embedstore.embed(ragged, "ragged", toy_model, dtype="float32", progress=False)
    table = ragged.samples("ragged")
    expected = by_hand(ragged, toy_model)
    for index in (0, 5, 31):
        one = ragged.sample("ragged", "toy", table["id"][index])
        np.testing.assert_array_equal(one["embedding"], expected[index])
        assert one.sizes["position"] == RAGGED[index]
    rows = ragged.embedding("ragged", "toy").read([7, 2, 2, 30])
    np.testing.assert_array_equal(rows.nucleotides(), np.concatenate([expected[i] for i in (7, 2, 2, 30)]))
    np.testing.assert_array_equal(np.diff(rows.first_row), ragged.embedding("ragged", "toy").row_count[[7, 2, 2, 30]])
    assert ragged.embedding("ragged", "toy").read([]).vector.shape == (0, 8)
    with pytest.raises(NotInStoreError, match="no sample 'nobody'"):
        ragged.sample("ragged", "toy", "nobody")
    with pytest.raises(NotInStoreError, match="no sample 99"):
        ragged.embedding("ragged", "toy").read([99])
    with pytest.raises(InputError, match="by index"):
        ragged.embedding("ragged", "toy").read(["a"])


def test_fixed_length_tasks_open_as_sample_position_channel(tmp_path, many_blocks, toy_model):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    labels = tasks.Labels(np.arange(120).reshape(40, 3).astype(np.uint8) % 2, ("sample", "target"), ("a", "b", "c"))
    record = tasks.TaskRecord.from_dict(
        {**tasks.record("cpg_methylation").to_dict(), "name": "fixed", "names": ["a", "b", "c"]}
    )
    sequences = random_sequences([50] * 40)
    store.add_task(tasks.from_sequences("fixed", sequences, labels=labels, record=record))
    embedstore.embed(store, "fixed", toy_model, dtype="float32", progress=False)
    dataset = store.open("fixed", "toy")
    assert dataset["embedding"].dims == ("sample", "position", "channel")
    assert dataset["label"].dims == ("sample", "target")
    identity = store.samples("fixed")["id"][17]
    chosen = dataset.sel(sample=identity)
    np.testing.assert_array_equal(chosen["embedding"], toy_model.expected(store.sequences("fixed", [17])[0]))
    np.testing.assert_array_equal(chosen["label"], labels.values[17])
    assert "".join(chosen["sequence"].to_numpy().astype(str)) == sequences[17]
    one = store.sample("fixed", "toy", identity)
    np.testing.assert_array_equal(one["label"], labels.values[17])


def test_nucleotide_labels_stand_beside_their_nucleotides(tmp_path, many_blocks, toy_model):
    lengths = [30, 40, 30]
    values = np.arange(100, dtype=np.int16) % 9
    labels = tasks.Labels(values, ("nucleotide",), tasks.record("gene_finding").names)
    task = tasks.from_sequences("g", random_sequences(lengths), labels=labels, record=tasks.record("gene_finding"))
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(task)
    embedstore.embed(store, "g", toy_model, progress=False)
    dataset = store.open("g", "toy")
    np.testing.assert_array_equal(dataset["label"], values)
    np.testing.assert_array_equal(store.sample("g", "toy", task.samples["id"][1])["label"], values[30:70])
    assert store.record("g").metric == "mcc"


def test_one_hot_is_computed_and_never_stored(ragged, toy_model):
    dataset = ragged.open("ragged", "onehot")
    letters = dataset["sequence"].to_numpy()
    np.testing.assert_array_equal(dataset["embedding"], letters[:, None] == np.array([b"A", b"C", b"G", b"T"]))
    emb = ragged.embedding("ragged", "onehot")
    assert emb.missing() == []
    share = [(codes == ord("G")).mean() for codes in ragged.sequences("ragged")]
    np.testing.assert_allclose(emb.pooled()[:, 2], share, rtol=1e-6)
    assert ragged.models("ragged") == []
    with pytest.raises(InputError, match="never stored"):
        embedstore.embed(ragged, "ragged", toy_model, name="onehot", progress=False)


def test_other_libraries_read_the_same_rows(ragged, toy_model, tmp_path):
    """zarr-python, the Rust pipeline and tensorstore read what the shard encoder wrote."""
    for codec in ("none", "zstd"):
        embedstore.embed(ragged, "ragged", toy_model, name=codec, codec=codec, dtype="float32", progress=False)
        emb = ragged.embedding("ragged", codec)
        home = tmp_path / "s.zarr" / "ragged" / "embedding" / codec
        plain = zarr.open_array(home / "vector", mode="r")[:]
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            rust = zarr.open_array(home / "vector", mode="r")[:]
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(home / "vector")}}
        other = tensorstore.open(spec).result().read().result()
        first = zarr.open_array(home / "first_row", mode="r")[:]
        count = zarr.open_array(home / "row_count", mode="r")[:]
        span = zarr.open_array(home / "span", mode="r")[:]
        np.testing.assert_array_equal(rust, plain)
        np.testing.assert_array_equal(other, plain)
        for sample, rows in enumerate(by_hand(ragged, toy_model)):
            part = slice(first[sample], first[sample] + count[sample])
            np.testing.assert_array_equal(np.repeat(plain[part], span[part], axis=0), rows)
        used = sum(count)
        assert np.isnan(plain).any(axis=1).sum() == len(plain) - used  # pad rows hold fill
        assert len(emb.missing()) == 0


def test_without_the_rust_pipeline_the_same_bytes_come_back(ragged, toy_model, monkeypatch):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    rust = ragged.embedding("ragged", "toy")
    assert type(rust._zarr.arrays["vector"].async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"
    monkeypatch.setattr("embedstore.store.has_zarrs", lambda: False)
    plain = ragged.embedding("ragged", "toy")
    assert type(plain._zarr.arrays["vector"].async_array.codec_pipeline).__name__ != "ZarrsCodecPipeline"
    for block in range(plain.blocks):
        assert plain.read_block(block).vector.tobytes() == rust.read_block(block).vector.tobytes()


def test_threads_that_open_arrays_at_once_each_get_their_own_pipeline(ragged, toy_model):
    """The setting is one for the process: rows opened in one thread must not lend it to labels opened in another."""
    embedstore.embed(ragged, "ragged", toy_model, progress=False)

    def opened(rust):
        array = ragged.array("ragged/embedding/toy/first_row", rust=rust)
        return type(array.async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"

    wanted = [number % 2 == 0 for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(opened, wanted)) == wanted


def test_an_empty_file_is_damage_to_either_pipeline(ragged, toy_model):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    where = "ragged/embedding/toy/first_row"
    for file in (ragged.local / where / "c").iterdir():
        file.write_bytes(b"")
    for rust in (False, True):
        with pytest.raises(CorruptError, match="first_row cannot be read"):
            ragged.read_part(ragged.array(where, rust=rust), np.s_[:], where)


def test_xarray_opens_a_finished_embedding_without_our_code(ragged, toy_model, tmp_path):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    opened = xr.open_zarr(tmp_path / "s.zarr", group="ragged/embedding/toy", consolidated=False)
    assert opened["vector"].dims == ("row", "channel")
    assert opened["pooled"].dims == ("sample", "channel")
    samples = xr.open_zarr(tmp_path / "s.zarr", group="ragged/sample", consolidated=False)
    assert list(samples["id"].to_numpy()) == list(ragged.samples("ragged")["id"])


def test_a_store_is_read_over_http(ragged, toy_model, tmp_path):
    embedstore.embed(ragged, "ragged", toy_model, dtype="float32", progress=False)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            far = embedstore.open_store(f"http://127.0.0.1:{server.server_address[1]}/s.zarr")
            assert far.tasks() == ["ragged"]
            assert far.models("ragged") == ["toy"]
            got = far.open("ragged", "toy")["embedding"].to_numpy()
            np.testing.assert_array_equal(got, np.concatenate(by_hand(ragged, toy_model)))
            with pytest.raises(NotInStoreError, match="no task 'ragge'.*ragged"):
                far.samples("ragge")
        finally:
            server.shutdown()
            thread.join()


def test_resuming_does_only_what_is_missing(ragged, toy_model):
    class Stops(ToyModel):
        def hidden(self, ids):
            if len(self.calls) == 12:
                raise KeyboardInterrupt
            return super().hidden(ids)

    with pytest.raises(KeyboardInterrupt):
        embedstore.embed(ragged, "ragged", Stops(), dtype="float32", batch_tokens=60, progress=False)
    emb = ragged.embedding("ragged", "toy")
    missing = emb.missing()
    assert 0 < len(missing) < emb.blocks
    with pytest.raises(IncompleteError, match=rf"block {missing[0]} \(samples .*not embedded yet"):
        emb.read_block(missing[0])
    with pytest.raises(IncompleteError, match="embedstore embed ragged"):
        ragged.open("ragged", "toy")["embedding"].compute()
    plan = embedstore.plan(ragged, "ragged", toy_model, dtype="float32", progress=False)
    assert plan.blocks_done == emb.blocks - len(missing)
    assert plan.seconds > 0
    report = embedstore.embed(ragged, "ragged", toy_model, dtype="float32", progress=False)
    assert report.blocks == len(missing)
    assert report.blocks_before == emb.blocks - len(missing)
    got = ragged.open("ragged", "toy")["embedding"].to_numpy()
    np.testing.assert_array_equal(got, np.concatenate(by_hand(ragged, toy_model)))
    again = embedstore.embed(ragged, "ragged", toy_model, dtype="float32", progress=False)
    assert (again.blocks, again.samples) == (0, 0)
    assert embedstore.plan(ragged, "ragged", toy_model, dtype="float32", progress=False).seconds == 0


def test_plan_matches_what_is_written(ragged, toy_model, tmp_path):
    plan = embedstore.plan(ragged, "ragged", toy_model, progress=False)
    assert ragged.models("ragged") == []
    report = embedstore.embed(ragged, "ragged", toy_model, progress=False)
    assert (plan.rows, plan.blocks, plan.samples) == (report.rows, report.blocks, report.samples)
    expected = sum(len(piece.span) for codes in ragged.sequences("ragged") for piece in toy_model.pieces(codes))
    assert plan.rows == expected
    assert plan.free_bytes > 0
    vectors = sum(f.stat().st_size for f in (tmp_path / "s.zarr/ragged/embedding/toy/vector").rglob("0"))
    assert plan.bytes > plan.rows * 8 * 2
    assert vectors >= plan.rows * 8 * 2


def test_another_model_under_the_same_name_is_refused(ragged, toy_model):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    with pytest.raises(FingerprintError, match="checkpoint: stored 'seed 0', now 'seed 1'"):
        embedstore.embed(ragged, "ragged", ToyModel(seed=1), progress=False)
    with pytest.raises(FingerprintError, match="dtype: stored 'float16', now 'float32'"):
        embedstore.embed(ragged, "ragged", toy_model, dtype="float32", progress=False)


def test_adding_a_task_twice_is_nothing_and_another_is_refused(ragged):
    ragged.add_task(tasks.from_sequences("ragged", random_sequences(RAGGED)))
    with pytest.raises(FingerprintError, match="sequence: stored"):
        ragged.add_task(tasks.from_sequences("ragged", random_sequences(RAGGED, seed=1)))


def test_results_do_not_depend_on_the_batch(ragged, toy_model):
    for tokens in (1, 7, 10_000):
        embedstore.embed(ragged, "ragged", toy_model, name=f"b{tokens}", batch_tokens=tokens, progress=False)
    one, seven, many = (ragged.embedding("ragged", f"b{n}").read_block(1).vector for n in (1, 7, 10_000))
    np.testing.assert_array_equal(one, seven)
    np.testing.assert_array_equal(one, many)
    assert max(calls[0] for calls in toy_model.calls) > 1


@pytest.mark.parametrize(("option", "value"), [("resolution", "base"), ("dtype", "bfloat16"), ("codec", "gzip")])
def test_unknown_options_are_refused(ragged, toy_model, option, value):
    with pytest.raises(InputError, match=f"{option} is '{value}'"):
        embedstore.embed(ragged, "ragged", toy_model, progress=False, **{option: value})


def test_wrong_paths_and_names(tmp_path, toy_model):
    with pytest.raises(NotInStoreError, match="no store at"):
        embedstore.open_store(tmp_path / "nothing.zarr")
    assert not (tmp_path / "nothing.zarr").exists()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    with pytest.raises(StoreError, match="not an embedstore store"):
        embedstore.open_store(tmp_path / "folder", mode="a")
    with pytest.raises(StoreError, match="is a file"):
        embedstore.open_store(tmp_path / "folder" / "file")
    with pytest.raises(InputError, match="mode is 'w'"):
        embedstore.open_store(tmp_path / "x", mode="w")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="lacks the attribute 'embedstore'"):
        embedstore.open_store(tmp_path / "other.zarr")
    store = embedstore.open_store(tmp_path / "new.zarr", mode="a")
    for name in ("../up", "/etc", "", ".hidden", "a b", "zarr.json", "ä"):
        with pytest.raises(InputError, match="cannot be the name"):
            store.add_task(tasks.from_sequences(name or " ", ["ACGT"]))
    reading = embedstore.open_store(tmp_path / "new.zarr")
    with pytest.raises(StoreError, match="open for reading"):
        reading.add_task(tasks.from_sequences("t", ["ACGT"]))
    store.add_task(tasks.from_sequences("t", ["ACGT"]))
    with pytest.raises(StoreError, match="open for reading"):
        embedstore.embed(reading, "t", toy_model, progress=False)
    with pytest.raises(NotInStoreError, match="not embedded with model 'toi'"):
        reading.open("t", "toi")


def test_a_newer_format_is_refused(ragged, tmp_path):
    for path in ("s.zarr/zarr.json", "s.zarr/ragged/zarr.json"):
        file = tmp_path / path
        before = file.read_text()
        metadata = json.loads(before)
        metadata["attributes"]["embedstore"]["format_version"] = layout.FORMAT_VERSION + 1
        file.write_text(json.dumps(metadata))
        with pytest.raises(FormatVersionError, match="Install a newer embedstore"):
            embedstore.open_store(tmp_path / "s.zarr").samples("ragged")
        file.write_text(before)
    assert len(embedstore.open_store(tmp_path / "s.zarr").samples("ragged")) == len(RAGGED)


def test_repr_and_html_say_what_is_there(ragged, toy_model):
    assert "ragged" in repr(ragged)
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    text, page = repr(ragged), ragged._repr_html_()
    for words in ("toy", "complete", "8 channels, float16 per token", "of float32 nucleotides"):
        assert words in text
        assert words in page
    assert "blocks>" in repr(ragged.embedding("ragged", "toy"))
    assert "empty" in repr(embedstore.open_store("memory://", mode="a"))


def test_tables_of_any_type_survive(tmp_path):
    columns = pd.DataFrame({"gc": [0.1, 0.2], "n": [1, 2], "name": ["α", ""], "flag": [True, False]})
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", ["ACGT", "AC"], columns=columns))
    table = store.samples("t")
    for name in columns:
        assert list(table[name]) == list(columns[name])


def test_handles_travel_as_paths(ragged, toy_model):
    embedstore.embed(ragged, "ragged", toy_model, progress=False)
    emb = ragged.embedding("ragged", "toy")
    sent = pickle.dumps(emb)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read([3]).vector, emb.read([3]).vector)


def test_models_that_cannot_be_stored_stop_the_run(ragged):
    class Broken(ToyModel):
        value = np.inf

        def hidden(self, ids):
            rows = super().hidden(ids)
            if len(self.calls) > 3:
                rows[0, 1, 0] = self.value
            return rows

    model = Broken()
    with pytest.raises(embedstore.errors.NonFiniteError, match="samples '.*NaN or infinity"):
        embedstore.embed(ragged, "ragged", model, progress=False)
    model = Broken()
    model.value = 1e6
    with pytest.raises(embedstore.errors.NonFiniteError, match="do not fit float16"):
        embedstore.embed(ragged, "ragged", model, name="large", progress=False)
    assert ragged.verify().sound
