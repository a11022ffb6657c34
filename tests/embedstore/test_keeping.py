"""What is kept of each sample: rows, means, some positions, both strands; worked out by hand on the toy model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tensorstore
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.errors import FingerprintError, InputError, NonFiniteError
from embedstore.sequences import reverse_complement

LENGTHS = [7, 61, 200, 64, 1, 33, 120, 59, 60, 3] * 3
COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.fixture
def store(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences(LENGTHS)))
    return store


def embed(store, model=None, **options):
    return embedstore.embed(store, "t", model or ToyModel(), progress=False, **options)


def truth(store):
    model = ToyModel()
    return [model.expected(codes) for codes in store.sequences("t")]


@pytest.mark.parametrize("keep", ["rows", "pooled", "some"])
def test_a_plan_knows_rows_and_blocks_of_what_is_kept(store, keep):
    """Blocks are smaller where little is kept of each sample; the plan must say so before and after."""
    options = {"keep": keep}
    if keep == "some":
        options = {"positions": pd.DataFrame({"id": store.samples("t")["id"], "position": 0})}
    before = embedstore.plan(store, "t", ToyModel(), trial=False, progress=False, **options)
    report = embed(store, **options)
    after = embedstore.plan(store, "t", ToyModel(), trial=False, progress=False, **options)
    assert (before.rows, before.blocks, before.blocks_done) == (report.rows, report.blocks, 0)
    assert (after.rows_done, after.blocks_done) == (report.rows, report.blocks)
    assert before.bytes == after.bytes


def test_means_only(store, tmp_path):
    report = embed(store, keep="pooled", batch_tokens=50)
    assert (report.rows, report.samples) == (0, len(LENGTHS))
    emb = store.embedding("t", "toy")
    assert emb.blocks > 1
    expected = np.stack([rows.mean(0) for rows in truth(store)])
    np.testing.assert_allclose(emb.pooled(), expected, rtol=1e-4, atol=1e-6)
    folder = tmp_path / "s.zarr/t/embedding/toy"
    assert not [name for name in ("vector", "span", "row_count", "first_row") if (folder / name).exists()]
    dataset = store.open("t", "toy")
    assert dataset["pooled"].dims == ("sample", "channel")
    np.testing.assert_array_equal(dataset["pooled"].to_numpy(), emb.pooled())
    assert list(dataset["sample"].to_numpy()) == list(store.samples("t")["id"])
    with pytest.raises(InputError, match="holds the mean of each sample only, no rows"):
        emb.read([0])
    assert store.verify().sound
    assert "float32 means only" in repr(store)
    outside = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "pooled")}}, open=True
    ).result()
    np.testing.assert_array_equal(outside.read().result(), emb.pooled())


def test_rows_only(store):
    embed(store, keep="rows", dtype="float32")
    emb = store.embedding("t", "toy")
    assert not emb.keeps_pooled
    for sample, expected in enumerate(truth(store)):
        np.testing.assert_array_equal(emb.read([sample]).nucleotides(), expected)
    np.testing.assert_allclose(emb.pooled(), np.stack([rows.mean(0) for rows in truth(store)]), rtol=1e-5, atol=1e-6)
    assert store.verify().sound


@pytest.mark.parametrize("resolution", ["token", "nucleotide"])
def test_some_positions(store, resolution, tmp_path):
    rng = np.random.default_rng(3)
    pairs = [(str(i), int(p)) for i, n in enumerate(LENGTHS) if i % 4 for p in rng.integers(0, n, 3)]
    wanted = pd.DataFrame(pairs, columns=["id", "position"])
    embed(store, positions=wanted, resolution=resolution, dtype="float32")
    emb = store.embedding("t", "toy")
    assert emb.keeps_some
    assert emb.row_count.sum() <= len(pairs)
    expected = truth(store)
    for sample in range(len(LENGTHS)):
        rows = emb.read([sample])
        asked = {p for i, p in pairs if i == str(sample)}
        for position in asked:
            here = np.flatnonzero((rows.start <= position) & (position < rows.start + rows.span))
            assert len(here) == 1
            np.testing.assert_array_equal(rows.vector[here[0]], expected[sample][position])
        if resolution == "nucleotide":
            assert rows.start.tolist() == sorted(asked)
    np.testing.assert_allclose(emb.pooled(), np.stack([rows.mean(0) for rows in expected]), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="do not make whole sequences"):
        emb.read([1]).nucleotides()
    dataset = store.open("t", "toy")
    assert dataset["rows"].dims == ("row", "channel")
    sample, start = int(dataset["row_sample"][5]), int(dataset["row_start"][5])
    np.testing.assert_array_equal(dataset["rows"][5].to_numpy(), expected[sample][start])
    assert store.verify().sound
    assert "some positions" in repr(store)
    # A file says the same as the table, whatever the order of its lines; other positions are another embedding.
    file = tmp_path / "positions.tsv"
    wanted.sample(frac=1, random_state=0).to_csv(file, sep="\t", index=False)
    assert embed(store, positions=file, resolution=resolution, dtype="float32").blocks == 0
    with pytest.raises(FingerprintError, match="positions: stored"):
        embed(store, positions=wanted[:-1], resolution=resolution, dtype="float32")
    with pytest.raises(FingerprintError, match="positions: stored '.*', now None"):
        embed(store, resolution=resolution, dtype="float32")


def test_positions_from_a_column(tmp_path):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    (tmp_path / "t.tsv").write_text("id\tsequence\toffset\n" + "".join(f"s{i}\tACGTACGTAC\t{i}\n" for i in range(10)))
    store.add_task(tasks.from_table(tmp_path / "t.tsv", name="t", split=""))
    embed(store, positions="offset", keep="rows", dtype="float32")
    rows = store.embedding("t", "toy").read(np.arange(10))
    assert rows.start.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    with pytest.raises(InputError, match=r"'ofset' is neither a file nor a column .* Did you mean 'offset'"):
        embed(store, positions="ofset", name="x")
    with pytest.raises(InputError, match="position is of type"):
        embed(store, positions="sequence" if "sequence" in store.samples("t") else "id", name="x")


def test_positions_that_are_wrong(store, tmp_path):
    def table(**columns):
        return pd.DataFrame(columns)

    for wrong, message in (
        (table(id=["0", "0"], position=[0, 7]), "row 2: position 7 of sample '0': its positions are 0 to 6"),
        (table(id=["0"], position=[-1]), "position -1 of sample '0'"),
        (table(id=["nobody"], position=[0]), "no sample 'nobody'"),
        (table(id=["0"]), "no column position"),
        (table(id=["0"], position=[0.5]), "whole numbers"),
        (table(id=[], position=[]), "names no position"),
    ):
        with pytest.raises((InputError, embedstore.errors.NotInStoreError), match=message):
            embed(store, positions=wrong)
    with pytest.raises(InputError, match="keeps no rows"):
        embed(store, positions=table(id=["0"], position=[0]), keep="pooled")
    for content in (b"", b"id\tposition\n\xff\xfe\t1\n"):
        (tmp_path / "positions.tsv").write_bytes(content)
        with pytest.raises(
            InputError, match=r"positions.tsv: cannot be read: .* id and position \(0-based\) is wanted"
        ):
            embed(store, positions=tmp_path / "positions.tsv")
    assert store.models("t") == []


@pytest.mark.parametrize("resolution", ["token", "nucleotide"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_both_strands(store, resolution, dtype):
    """The mean at each nucleotide of the sequence's rows and of its reverse complement's, turned round."""
    report = embed(store, strands="both", resolution=resolution, dtype=dtype, batch_tokens=64)
    model = ToyModel()
    emb = store.embedding("t", "toy")
    for sample, codes in enumerate(store.sequences("t")):
        text = codes.tobytes().decode()
        turned = np.frombuffer(text.translate(COMPLEMENT)[::-1].encode(), np.uint8)
        assert bytes(reverse_complement(codes)) == bytes(turned)
        mean = (model.expected(codes).astype(np.float64) + model.expected(turned)[::-1]) / 2
        got = emb.read([sample]).nucleotides()
        tolerance = 1e-3 if dtype == "float16" else 1e-6
        np.testing.assert_allclose(got, mean, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(emb.pooled([sample])[0], mean.mean(0), rtol=1e-4, atol=1e-6)
    single = embed(store, name="forward", batch_tokens=64)
    assert report.tokens == 2 * single.tokens
    assert store.verify().sound
    with pytest.raises(FingerprintError, match="strands: stored 'both', now None"):
        embed(store, resolution=resolution, dtype=dtype)


def test_strands_of_proteins_are_refused(tmp_path):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("p", ["MKV", "MAA"], alphabet="protein"))
    model = ToyModel()
    model.alphabet = "protein"
    with pytest.raises(InputError, match="proteins of task 'p' have no reverse complement|no reverse complement"):
        embedstore.embed(store, "p", model, strands="both", progress=False)


@pytest.mark.parametrize("option", [{"keep": "all"}, {"strands": "reverse"}, {"resolution": "base"}, {"dtype": "int8"}])
def test_choices_that_are_none(store, option):
    with pytest.raises(InputError, match="it must be one of"):
        embed(store, **option)
    assert store.models("t") == []


class Sick(ToyModel):
    """Gives NaN for windows that begin with a certain word."""

    word_of_death = "ACG"

    def hidden(self, ids):
        rows = super().hidden(ids)
        sick = ids[:, 1] == int(self.pieces(np.frombuffer(b"ACG", np.uint8))[0].ids[1])
        rows[sick, -1] = float("nan")
        return rows


@pytest.mark.parametrize("keep", ["both", "rows", "pooled"])
def test_samples_that_are_not_finite(store, keep, tmp_path):
    letters = [codes.tobytes().decode() for codes in store.sequences("t")]
    sick = [i for i, text in enumerate(letters) if any(text[s : s + 3] == "ACG" for s in range(0, len(text), 60))]
    sequences = [*letters, "ACG" * 30, "TTACG" * 9]
    store.add_task(tasks.from_sequences("sick", sequences))
    sick.append(len(letters))
    with pytest.raises(NonFiniteError, match=rf"samples .*'{sick[-1]}'.*NaN or infinity.*--quarantine"):
        embedstore.embed(store, "sick", Sick(), keep=keep, progress=False)
    report = embedstore.embed(store, "sick", Sick(), keep=keep, quarantine=True, progress=False)
    assert report.quarantined == sorted(str(i) for i in sick)
    emb = store.embedding("sick", "toy")
    assert emb.quarantined().tolist() == sick
    sound = [i for i in range(len(sequences)) if i not in sick]
    expected = [ToyModel().expected(codes) for codes in store.sequences("sick")]
    means = np.stack([rows.mean(0) for rows in expected])
    np.testing.assert_allclose(emb.pooled(sound), means[sound], rtol=2e-3, atol=1e-3)
    assert np.isnan(emb.pooled(quarantined=True)[sick]).all()
    with pytest.raises(NonFiniteError, match=rf"1 samples were quarantined.*'{sick[-1]}'"):
        emb.pooled([sick[-1]])
    if keep != "pooled":
        with pytest.raises(NonFiniteError, match="were quarantined"):
            emb.read([sick[-1]])
        for sample in sound:
            np.testing.assert_array_equal(emb.read([sample]).nucleotides(), expected[sample].astype(np.float16))
        opened = store.open("sick", "toy")["embedding"].to_numpy()
        assert np.isnan(opened).any()
        assert not np.isnan(opened).all()
    assert store.verify().sound
    assert f"{len(sick)} sequences quarantined" in repr(store)
    # The list of quarantined samples cannot be lost unseen: rows of NaN then no longer fit their checksum.
    if keep != "pooled":
        for file in (tmp_path / "s.zarr/sick/embedding/toy/quarantined/c").iterdir():
            file.unlink()
        assert not embedstore.open_store(tmp_path / "s.zarr").verify().sound


def test_values_too_large_for_float16_can_be_quarantined_or_stored_as_float32(store):
    class Large(ToyModel):
        def hidden(self, ids):
            return super().hidden(ids) * 1e5

    with pytest.raises(NonFiniteError, match=r"do not fit float16 \(largest 65504\).*--dtype float32"):
        embed(store, Large())
    report = embed(store, Large(), quarantine=True, name="q")
    assert 0 < len(report.quarantined) <= len(LENGTHS)
    assert embed(store, Large(), dtype="float32", name="f").quarantined == []


def test_what_a_run_leaves_behind(store, monkeypatch):
    monkeypatch.setattr("sys.argv", ["embedstore", "embed", "a task"])
    embed(store, batch_tokens=77)
    embed(store)
    from embedstore.describe import contents

    item = next(item for item in contents(store) if item["model"])
    (run,) = item["runs"].values()  # a run with nothing to do leaves no record
    assert run["command"] == "embedstore embed 'a task'"
    assert run["settings"]["batch_tokens"] == 77
    assert run["samples"] == len(LENGTHS)
    assert run["begun"] <= run["ended"]
    assert run["device"].startswith("cpu, ")
    assert {"embedstore", "torch", "zarr", "python"} <= set(run["software"])
    assert item["fingerprint"]["sequences"] == store.task_digests("t")["sequence"]
    json.dumps(contents(store))
