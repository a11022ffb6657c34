"""Variant scores: distances against scipy, windows and rows against counting by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cosine
from sklearn.metrics import roc_auc_score
from toys import ToyModel, random_sequences

import embedstore
from analysis.variants import auroc_table, cosine_distance, score_variants, variant_task
from embedstore.errors import IncompleteError, InputError
from embedstore.genome import Genome
from embedstore.tasks import from_sequences

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


# ---- the task --------------------------------------------------------------------------------------------


def test_windows_hold_the_two_alleles_and_nothing_else_differs(genome):
    variants = snvs(("chr2", 350), ("chr1", 450), consequence=["a", "b"], label=[1, 0])
    task = variant_task(variants, genome, name="v")
    assert task.name == "v"
    assert task.labels is None
    samples = task.samples
    ref, alt = variants["ref"][0], variants["alt"][0]
    assert samples["id"].tolist()[:2] == [f"chr2:350:{ref}>{alt}:ref", f"chr2:350:{ref}>{alt}:alt"]
    assert samples["variant"].tolist() == [0, 0, 1, 1]
    assert samples["allele"].tolist() == ["ref", "alt"] * 2
    assert samples["position"].tolist() == [350, 350, 450, 450]
    assert samples["consequence"].tolist() == ["a", "a", "b", "b"]
    assert samples["label"].tolist() == [1, 1, 0, 0]
    assert samples["offset"].tolist() == [256] * 4
    assert (samples["length"] == 512).all()
    assert samples["split"].tolist() == [""] * 4
    for row, codes in enumerate(task.sequences(0, 4)):
        chromosome, position, letter = (
            ("chr2", 350, (ref, alt)[row]) if row < 2 else ("chr1", 450, samples[["ref", "alt"][row - 2]][row])
        )
        window = (
            CONTIGS[chromosome][position - 256 : position] + letter + CONTIGS[chromosome][position + 1 : position + 256]
        )
        assert codes.tobytes().decode() == window
    assert task.sequences(3, 4)[0].tobytes() == task.sequences(0, 4)[3].tobytes()
    assert task.source["genome_digest"] == genome.digest


@pytest.mark.parametrize(
    ("place", "start", "end"),
    [
        (("chr1", 0), 0, 512),
        (("chr1", 255), 0, 512),
        (("chr1", 256), 0, 512),
        (("chr1", 257), 1, 513),
        (("chr1", 644), 388, 900),
        (("chr1", 645), 388, 900),
        (("chr1", 899), 388, 900),
        (("short", 0), 0, 37),
        (("short", 36), 0, 37),
    ],
)
def test_windows_move_inside_at_the_ends_of_a_chromosome(genome, place, start, end):
    task = variant_task(snvs(place), genome)
    assert task.samples[["start", "end"]].to_numpy().tolist() == [[start, end]] * 2
    assert task.samples["offset"].tolist() == [place[1] - start] * 2
    ref, alt = (codes.tobytes().decode() for codes in task.sequences(0, 2))
    assert ref == CONTIGS[place[0]][start:end]
    assert [i for i, (a, b) in enumerate(zip(ref, alt, strict=True)) if a != b] == [place[1] - start]


def test_context_and_split_are_the_users(genome):
    task = variant_task(snvs(("chr1", 450), split=["test"]), genome, context=10)
    assert task.samples[["start", "end", "offset", "split"]].to_numpy().tolist() == [[440, 460, 10, "test"]] * 2


def test_index_of_the_table_does_not_matter(genome):
    variants = snvs(("chr1", 100), ("chr1", 200))
    shuffled = variants.set_index(pd.Index([7, 7]))
    pd.testing.assert_frame_equal(variant_task(shuffled, genome).samples, variant_task(variants, genome).samples)


def test_every_wrong_reference_is_found_before_anything_runs(genome):
    variants = snvs(*[("chr1", 10 * i) for i in range(60)], ("chr2", 5))
    assert len(variant_task(variants, genome).samples) == 122
    wrong = variants.copy()
    for row in (3, 60):
        wrong.loc[row, ["ref", "alt"]] = wrong.loc[row, ["alt", "ref"]].tolist()
    with pytest.raises(InputError, match=r"2 of 61 variants whose ref is not the letter of genome.fa") as caught:
        variant_task(wrong, genome)
    said = str(caught.value)
    assert f"row 3: chr1:30 {wrong['ref'][3]}>{wrong['alt'][3]} (genome: {variants['ref'][3]})" in said
    assert "row 60: chr2:5" in said
    shifted = variants.assign(position=variants["position"] + 1)
    with pytest.raises(InputError, match=r"positions are 0-based.*, \.\.\.\."):
        variant_task(shifted, genome)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.drop(columns=["ref", "alt"]), "no column ref, alt"),
        (lambda v: v.assign(start=1, offset=2), "columns start, offset, which the samples get"),
        (lambda v: v.iloc[:0], "there are no variants"),
        (lambda v: v.assign(position=v["position"].astype(float)), "position is of type float64"),
        (lambda v: v.assign(alt="AT"), "2 of 2 variants whose alt is not one letter"),
        (lambda v: v.assign(ref=v["ref"].str.lower()), "whose ref is not one letter of A, C, G, T"),
        (lambda v: v.assign(alt=v["ref"]), "whose ref and alt are the same"),
        (
            lambda v: v.assign(chromosome=["chr1", "chr9"]),
            r"1 of 2 variants on chromosomes that genome.fa does not have: row 1: chr9",
        ),
        (lambda v: v.assign(position=[100, 900]), r"1 of 2 variants outside of their chromosomes: row 1: chr1:900"),
        (lambda v: v.assign(position=[-1, 100]), "1 of 2 variants outside"),
        (lambda v: v.iloc[[0, 0]], "1 of 2 variants that are given twice: row 1"),
    ],
)
def test_faulty_tables_are_refused(genome, change, said):
    with pytest.raises(InputError, match=said):
        variant_task(change(snvs(("chr1", 100), ("chr1", 200))), genome)


def test_context_must_be_positive(genome):
    with pytest.raises(InputError, match="context is 0"):
        variant_task(snvs(("chr1", 100)), genome, context=0)


# ---- scores --------------------------------------------------------------------------------------------


@pytest.fixture(params=["one block", "a block per sample"])
def scored(genome, request):
    """Variants at token borders, in a window's last word, at the ends of chromosomes."""
    if request.param != "one block":
        request.getfixturevalue("many_blocks")
    places = [("chr1", p) for p in (0, 1, 2, 3, 59, 60, 61, 300, 301, 302, 450, 899)] + [("short", 36), ("chr2", 699)]
    variants = snvs(*places, label=[0, 1] * 7, consequence=["x", "y"] * 7)
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(variant_task(variants, genome))
    model = ToyModel()
    embedstore.embed(store, "variants", model, dtype="float32", progress=False)
    return store, model, variants


def test_scores_compare_the_rows_that_cover_the_variant(scored):
    store, model, variants = scored
    assert store.embedding("variants", "toy").blocks in (1, 2 * len(variants))
    found = score_variants(store, "variants", "toy")
    assert list(found) == ["chromosome", "position", "ref", "alt", "label", "consequence", "score"]
    pd.testing.assert_frame_equal(found[list(variants)], variants, check_dtype=False)
    samples, sequences = store.samples("variants"), store.sequences("variants")
    for row, score in enumerate(found["score"]):
        u, v = (model.expected(sequences[i])[samples["offset"][i]] for i in (2 * row, 2 * row + 1))
        assert score == pytest.approx(cosine(u.astype(np.float64), v.astype(np.float64)), abs=1e-6)
        assert score > 0.01


def test_rows_of_the_variants_alone_are_enough(scored):
    store, model, _ = scored
    embedstore.embed(
        store, "variants", model, name="few", dtype="float32", positions="offset", keep="rows", progress=False
    )
    few = store.embedding("variants", "few")
    assert (few.row_count == 1).all()
    pd.testing.assert_frame_equal(score_variants(store, "variants", "few"), score_variants(store, "variants", "toy"))
    other = pd.DataFrame({"id": store.samples("variants")["id"], "position": 10})
    embedstore.embed(
        store, "variants", model, name="other", dtype="float32", positions=other, keep="rows", progress=False
    )
    with pytest.raises(InputError, match='rows of other positions .*positions="offset"'):
        score_variants(store, "variants", "other")


def test_one_hot_letters_are_all_equally_far(scored):
    store, _, variants = scored
    assert score_variants(store, "variants", "onehot")["score"].tolist() == [1.0] * len(variants)


def test_half_precision_and_other_tasks_are_refused(scored, toy_model):
    store, _, _ = scored
    embedstore.embed(store, "variants", toy_model, name="half", progress=False)
    with pytest.raises(InputError, match=r"variants/half is stored as float16"):
        score_variants(store, "variants", "half")
    # Rows stored in float32, but not computed in it.
    toy_model.fingerprint = {**toy_model.fingerprint, "precision": "bfloat16"}
    embedstore.embed(store, "variants", toy_model, name="rough", dtype="float32", progress=False)
    with pytest.raises(InputError, match=r"variants/rough was computed in bfloat16.*precision=\"float32\""):
        score_variants(store, "variants", "rough")
    store.add_task(from_sequences("plain", ["ACGT"]))
    with pytest.raises(InputError, match="'plain' is not one of variants"):
        score_variants(store, "plain", "onehot")


def test_a_missing_block_is_an_error(genome, many_blocks, monkeypatch):
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(variant_task(snvs(*[("chr1", p) for p in range(0, 900, 30)]), genome))
    model = ToyModel()
    monkeypatch.setattr(model, "hidden", lambda ids: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        embedstore.embed(store, "variants", model, dtype="float32", progress=False)
    with pytest.raises(IncompleteError, match="not embedded yet"):
        score_variants(store, "variants", "toy")


def scores_of(seed=0, n=300):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.3).astype(int)
    control = np.where(rng.random(n) < 0.5, "near", "far")
    # Differences far below the precision of float32.
    score = 0.5 + 1e-12 * (rng.normal(size=n) + 1.5 * label - (control == "far"))
    return pd.DataFrame({"score": score, "label": label, "consequence": np.where(label == 1, "hit", control)})


def test_auroc_table_compares_with_each_kind_of_control():
    scores = scores_of()
    table = auroc_table(scores, draws=200, seed=3)
    assert table["controls"].tolist() == ["all", "far", "near"]
    for row in table.itertuples():
        kept = scores if row.controls == "all" else scores[scores["consequence"].isin(["hit", row.controls])]
        assert row.auroc == pytest.approx(roc_auc_score(kept["label"], kept["score"]), abs=1e-12)
        assert row.low < row.auroc < row.high
        assert (row.positives, row.negatives) == ((kept["label"] == 1).sum(), (kept["label"] == 0).sum())
    assert (table["draws"] == 200).all()
    assert (table["seed"] == 3).all()
    pd.testing.assert_frame_equal(table, auroc_table(scores, draws=200, seed=3))


def test_intervals_have_the_width_that_theory_gives():
    """Hanley and McNeil 1982, Radiology 143:29, for a binormal score; within a third of it."""
    table = auroc_table(scores_of(n=2000), draws=400).iloc[1]
    area, m, n = table["auroc"], table["positives"], table["negatives"]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n))
    assert table["high"] - table["low"] == pytest.approx(2 * 1.96 * error, rel=1 / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.drop(columns="consequence"), "no column consequence"),
        (lambda s: s.assign(score=np.nan), "300 scores are NaN"),
        (lambda s: s.assign(label=1), "same label"),
        (lambda s: s.assign(label=0), "same label"),
    ],
)
def test_scores_that_cannot_be_compared(change, said):
    with pytest.raises(InputError, match=said):
        auroc_table(change(scores_of()))
