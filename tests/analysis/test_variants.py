"""Scores read from a store: distances against scipy, rows against counting by hand."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cosine, euclidean
from toys import ToyModel, random_sequences

import embedstore
from analysis.variants import (
    SCORES,
    average_tables,
    cosine_distance,
    float32_embedding,
    open_pairs,
    score_kinds,
    variant_scores,
)
from embedstore.errors import IncompleteError, InputError
from embedstore.genome import Genome
from embedstore.tasks import from_sequences
from embedstore.variants.aligned import variant_positions
from embedstore.variants.windows import variant_task

GOLDEN = Path(__file__).parents[1] / "golden" / "cosine"
CONTIGS = dict(zip(("chr1", "chr2", "short"), random_sequences([900, 700, 37], seed=4), strict=True))


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    with Genome(path) as opened:
        yield opened


def snvs(*places, alt=None, **columns):
    """Variants at (chromosome, position), each to the next letter of the alphabet."""
    refs = [CONTIGS[chromosome][position] for chromosome, position in places]
    table = pd.DataFrame(places, columns=["chromosome", "position"])
    return table.assign(ref=refs, alt=[alt or "ACGT"["CGTA".index(ref)] for ref in refs], **columns)


# ---- cosine distance --------------------------------------------------------------------------------------


def test_distances_are_those_of_scipy_on_float64():
    with np.load(GOLDEN / "cosine.npz") as golden:
        found = cosine_distance(golden["u"], golden["v"])
        assert found.dtype == np.float64
        assert golden["u"].dtype == np.float32
        np.testing.assert_allclose(found, golden["distance_float64"], rtol=0, atol=1e-12)
    kinds = np.array(json.loads((GOLDEN / "cosine.json").read_text())["kinds"])
    assert (found[kinds == "equal"] == 0).all()
    assert 2 - 1e-15 < found[kinds == "opposite"].min() <= found.max() <= 2


def test_small_distances_keep_their_digits():
    """At an angle of 1e-9 the distance is 5e-19; 1 - cosine gives 0 there."""
    angle = 10.0 ** -np.arange(1, 10)
    u = np.array([1.0, 0.0])
    v = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(cosine_distance(u, v), 2 * np.sin(angle / 2) ** 2, rtol=1e-6)


vectors = arrays.arrays(np.float64, (2, 7), elements=st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6))


@settings(max_examples=100)
@given(vectors, st.floats(1e-3, 1e3))
def test_distance_is_scipys_symmetric_and_free_of_scale(pair, factor):
    u, v = pair
    if not u.any() or not v.any():
        assert np.isnan(cosine_distance(u, v))
        return
    found = cosine_distance(u, v)
    assert abs(found - cosine(u, v)) < 1e-12
    assert found == cosine_distance(v, u)
    assert abs(found - cosine_distance(factor * u, v)) < 1e-12
    assert cosine_distance(u, u) == 0


def test_zero_and_non_finite_vectors_have_no_distance():
    u = np.array([[0, 0], [1, np.inf], [1, np.nan], [1, 2]], np.float32)
    found = cosine_distance(u, np.ones((4, 2), np.float32))
    assert np.isnan(found).tolist() == [True, True, True, False]
    assert np.isnan(cosine_distance(np.ones(2), np.zeros(2)))


# ---- rows of variants --------------------------------------------------------------------------------------


def embedded(store, task, model, name="toy", around=0, keep="both"):
    embedstore.embed(
        store,
        task,
        model,
        name=name,
        dtype="float32",
        keep=keep,
        positions=variant_positions(store, task, around=around),
        progress=False,
    )


@pytest.fixture(params=["one block", "a block per sample"])
def scored(genome, request):
    """Variants at token borders, in a last word, at ends of chromosomes; not in the order of the genome."""
    if request.param != "one block":
        request.getfixturevalue("many_blocks")
    places = [("chr1", p) for p in (450, 0, 1, 2, 3, 59, 60, 61, 300, 301, 302, 899)] + [("short", 36), ("chr2", 699)]
    variants = snvs(*places, label=[0, 1] * 7, consequence=["x", "y"] * 7)
    pair = {"chromosome": "chr1", "position": 500, "ref": CONTIGS["chr1"][500:502], "label": 1, "consequence": "z"}
    other = "".join("ACGT"["CGTA".index(letter)] for letter in pair["ref"])
    rows = [
        {**pair, "alt": other},
        {**pair, "alt": pair["ref"][0]},
        {**pair, "alt": pair["ref"] + "ACA"},
        {**pair, "alt": "<DEL>"},
    ]
    variants = pd.concat([variants, pd.DataFrame(rows)], ignore_index=True)
    store = embedstore.open_store("memory://", mode="a")
    task = variant_task(variants, genome)
    store.add_task(task)
    model = ToyModel()
    embedded(store, "variants", model)
    return store, model, variants


def vectors_by_hand(store, model, around=0):
    """Rows of both alleles of each variant that are compared, from whole haplotypes, as lists of pairs."""
    sequences, found = store.sequences("variants"), []
    for row in store.variants("variants").itertuples():
        if row.reference < 0:
            found.append(None)
            continue
        one, other = (model.expected(sequences[sample]) for sample in (row.reference, row.alternate))
        n, m = len(row.removed), len(row.added)
        left, right = one[: row.offset], one[row.offset + n :]
        other_left, other_right = other[: row.offset], other[row.offset + m :]
        flank = around if n == m else max(around, 1)
        pairs = (
            list(zip(left[max(len(left) - flank, 0) :], other_left[max(len(left) - flank, 0) :], strict=True))
            if flank
            else []
        )
        if n == m:
            pairs += list(zip(one[row.offset : row.offset + n], other[row.offset : row.offset + m], strict=True))
        pairs += list(zip(right[:flank], other_right[:flank], strict=True))
        found.append((pairs, one, other))
    return found


@pytest.mark.parametrize("around", [0, 2])
def test_scores_compare_the_rows_that_cover_the_variant(scored, around):
    store, model, variants = scored
    if around:
        embedded(store, "variants", model, name="wide", around=around)
    names = ["cosine", "l2", "inner_product", "window_cosine", "window_l2", "window_inner_product"]
    found = variant_scores(store, "variants", "wide" if around else "toy", names, around=around)
    for column in variants:
        assert found[column].tolist() == variants[column].tolist()
    by_hand = {
        "cosine": cosine,
        "l2": euclidean,
        "inner_product": np.dot,
    }
    for row, expected in enumerate(vectors_by_hand(store, model, around)):
        if expected is None:
            assert found["reason"][row]
            assert found.loc[row, names].isna().all()
            continue
        pairs, one, other = expected
        assert found["reason"][row] == ""
        for name, distance in by_hand.items():
            mean = np.mean([distance(u.astype(np.float64), v.astype(np.float64)) for u, v in pairs])
            assert found[name][row] == pytest.approx(mean, abs=1e-6)
            whole = distance(one.astype(np.float64).mean(0), other.astype(np.float64).mean(0))
            assert found[f"window_{name}"][row] == pytest.approx(whole, abs=1e-5)
    assert found["reason"].astype(bool).sum() == 1


def test_pairs_are_lazy_and_of_the_order_of_the_store(scored):
    store, _, _ = scored
    pairs = open_pairs(store, "variants", "toy")
    assert isinstance(pairs["reference"].data, da.Array)
    assert pairs["reference"].dtype == np.float32
    table = store.variants("variants")
    alternate = table["alternate"].to_numpy()[pairs["variant"].to_numpy()]
    assert (np.diff(alternate) >= 0).all()
    means = open_pairs(store, "variants", "toy", pooled=True)
    assert sorted(means["variant"].to_numpy().tolist()) == np.flatnonzero(table["reference"] >= 0).tolist()


def test_rows_of_the_variants_alone_are_enough(scored):
    store, model, _ = scored
    embedded(store, "variants", model, name="few", keep="rows")
    embedstore.embed(store, "variants", model, name="all", dtype="float32", progress=False)
    assert store.embedding("variants", "few").row_count.max() < store.embedding("variants", "all").row_count.min()
    expected = variant_scores(store, "variants", "toy")
    for name in ("few", "all"):
        pd.testing.assert_frame_equal(variant_scores(store, "variants", name), expected)
    other = pd.DataFrame({"id": store.samples("variants")["id"], "position": 10})
    embedstore.embed(
        store, "variants", model, name="other", dtype="float32", positions=other, keep="rows", progress=False
    )
    with pytest.raises(InputError, match="the rows of other positions were kept"):
        variant_scores(store, "variants", "other")


def test_half_precision_and_other_tasks_are_refused(scored, toy_model):
    store, _, _ = scored
    embedstore.embed(store, "variants", toy_model, name="half", progress=False)
    with pytest.raises(InputError, match=r"variants/half is stored as float16"):
        variant_scores(store, "variants", "half")
    # Rows stored in float32, but not computed in it.
    toy_model.fingerprint = {**toy_model.fingerprint, "precision": "bfloat16"}
    embedstore.embed(store, "variants", toy_model, name="rough", dtype="float32", progress=False)
    with pytest.raises(InputError, match=r"variants/rough was computed in bfloat16.*precision=\"float32\""):
        float32_embedding(store, "variants", "rough")
    store.add_task(from_sequences("plain", ["ACGT"]))
    with pytest.raises(InputError, match="'plain' is not one of variants"):
        variant_scores(store, "plain", "onehot")


def test_a_missing_block_is_an_error(genome, many_blocks, monkeypatch):
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(variant_task(snvs(*[("chr1", p) for p in range(0, 900, 30)]), genome))
    model = ToyModel()
    monkeypatch.setattr(model, "hidden", lambda ids: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        embedded(store, "variants", model)
    with pytest.raises(IncompleteError, match="not embedded yet"):
        variant_scores(store, "variants", "toy")


def test_quarantined_windows_have_no_score_and_a_reason(genome, monkeypatch):
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(variant_task(snvs(("chr1", 100), ("chr1", 400)), genome))
    model, calls = ToyModel(), []
    plain = model.hidden

    def hidden(ids):
        rows = plain(ids)
        calls.append(ids)
        if len(calls) == 1:
            rows[0] = float("nan")
        return rows

    monkeypatch.setattr(model, "hidden", hidden)
    embedstore.embed(store, "variants", model, dtype="float32", quarantine=True, progress=False)
    found = variant_scores(store, "variants", "toy")
    assert found["cosine"].isna().sum() == 1
    lost = found["cosine"].isna()
    assert found.loc[lost, "reason"].str.contains("gave NaN or infinity").all()
    assert (found.loc[~lost, "reason"] == "").all()


def test_windows_without_alternates_have_no_distances(genome):
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(variant_task(snvs(("chr1", 100)), genome, alleles="reference"))
    embedded(store, "variants", ToyModel())
    with pytest.raises(InputError, match="has no alternate windows"):
        variant_scores(store, "variants", "toy")


def test_unknown_scores_are_named_with_the_closest():
    with pytest.raises(InputError, match="There is no score 'cosin'. Did you mean 'cosine'"):
        score_kinds(["cosin"])
    with pytest.raises(InputError, match="No score was named"):
        score_kinds([])
    assert list(score_kinds("l2")) == ["l2"]
    with pytest.raises(InputError, match="llr_masked is of log probabilities"):
        variant_scores(embedstore.open_store("memory://", mode="a"), "t", "m", ["llr_masked"])


def test_larger_effects_lie_where_the_records_say():
    """A distance grows with the effect; probabilities and inner products fall."""
    assert {name for name, kind in SCORES.items() if kind.direction == 1} == {
        "cosine",
        "l2",
        "window_cosine",
        "window_l2",
    }


def test_averages_are_of_the_same_variants(genome):
    table = snvs(("chr1", 100), ("chr1", 200)).assign(reason=["", "why"], cosine=[0.5, np.nan])
    other = table.assign(cosine=[0.25, 0.5], reason=["", ""])
    mean = average_tables([table, other], ["cosine"])
    assert mean["cosine"][0] == 0.375
    assert np.isnan(mean["cosine"][1])
    assert mean["reason"].tolist() == ["", "why"]
    assert average_tables([other, table], ["cosine"])["reason"].tolist() == ["", "why"]
    with pytest.raises(InputError, match="other variants cannot be averaged"):
        average_tables([table, other.assign(position=[100, 201])], ["cosine"])
