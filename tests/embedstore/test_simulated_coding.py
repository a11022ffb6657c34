"""Simulated coding worlds: what plain scikit-learn finds in embeddings read from a store, against what was planted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import embedstore
from embedstore.coding import CODONS, codon_usage, genetic_code, read_codons, recode
from embedstore.coding.composition import amino_acid_frequencies, codon_frequencies, gc3
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.models.composition_models import codon_composition
from embedstore.sequences import encode
from embedstore.simulated_coding import MEAN, SPREAD, WORLDS, coding_world, third_base_agreement
from embedstore.tasks.coding import coding_task, protein_task

WORLD = coding_world("mixed", seed=1)
TABLE = WORLD.data.table
TRAIN, TEST = ((TABLE["split"] == split).to_numpy() for split in ("train", "test"))
GENES = [encode(text) for text in TABLE["cds"]]
SPECIES = OneHotEncoder(sparse_output=False).fit_transform(TABLE[["species"]])


def small(name="mixed", **changed):
    return coding_world(name, **{"samples": 90, "test": 30, **changed})


def composition(strategy, seeds=1):
    """The mean over recodings of the means over rows, without a store."""
    recodings = [recode(GENES, strategy, ids=list(TABLE["id"]), seed=seed) for seed in range(seeds)]
    return np.mean(
        [
            [rows.mean(0) for rows, _ in codon_composition([codes.tobytes().decode() for codes in part])]
            for part in recodings
        ],
        axis=0,
    )


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """P, true, permuted, uniform: the first two read from a store, as a user would."""
    store = embedstore.open_store(tmp_path_factory.mktemp("world") / "s.zarr", mode="a")
    found = {}
    for key, task, model in (
        ("P", protein_task(WORLD.data), load("amino_acid")),
        ("true", coding_task(WORLD.data), load("codon_composition")),
    ):
        store.add_task(task)
        embedstore.embed(store, task.name, model, keep="pooled", progress=False)
        found[key] = store.embedding(task.name, model.name).pooled().astype(float)
    return {**found, "S": SPECIES, "permuted": composition("permuted"), "uniform": composition("uniform")}


def label(name):
    """The label of another world: the worlds of one seed differ in the shares only (tested below)."""
    weight = np.sqrt(pd.Series(WORLDS[name]))[list(WORLD.truth)]
    return (MEAN + SPREAD * (WORLD.truth @ weight)).to_numpy()


def r2(y, *blocks, within=False):
    """R2 on test samples; within species, it is about the train mean of the sample's species."""
    X = np.hstack(blocks)
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15))).fit(X[TRAIN], y[TRAIN])
    means = TABLE["species"].map(pd.Series(y[TRAIN]).groupby(TABLE["species"][TRAIN].to_numpy()).mean())
    about = means.to_numpy()[TEST] if within else y[TEST].mean()
    return 1 - np.sum((y[TEST] - probe.predict(X[TEST])) ** 2) / np.sum((y[TEST] - about) ** 2)


# In the order S, P, P+S, uniform, permuted, true, permuted+S, true+S: means of ten seeds of an independent program, to
# be met within the spread of one seed.
PLANTED = {
    "mixed": (0.49, 0.13, 0.63, 0.10, 0.58, 0.71, 0.67, 0.81),
    "species_only": (0.65, 0.13, 0.80, 0.11, 0.66, 0.66, 0.78, 0.78),
    "local_only": (-0.01, 0.13, 0.12, 0.10, 0.10, 0.52, 0.10, 0.52),
    "gc_only": (0.0, 0.13, 0.13, 0.10, 0.61, 0.60, 0.63, 0.62),
}


@pytest.mark.parametrize("name", WORLDS)
def test_probes_reach_what_is_planted(features, name):
    y = label(name)
    blocks = [["S"], ["P"], ["P", "S"], ["uniform"], ["permuted"], ["true"], ["permuted", "S"], ["true", "S"]]
    found = [r2(y, *(features[key] for key in keys)) for keys in blocks]
    np.testing.assert_allclose(found, PLANTED[name], atol=0.08)


@pytest.mark.parametrize("name", WORLDS)
def test_only_what_is_planted_adds_to_a_model_that_knows_protein_and_species(features, name):
    y, known = label(name), (features["P"], features["S"])
    local = r2(y, features["true"], features["S"]) - r2(y, features["permuted"], features["S"])
    beyond_protein = r2(y, *known, features["true"]) - r2(y, *known, features["permuted"])
    gc = r2(y, *known, gc3(GENES)) - r2(y, *known)
    ranges = {"mixed": (0.096, 0.178), "local_only": (0.36, 0.49)}.get(name, (-0.02, 0.02))
    assert ranges[0] < local < ranges[1]
    assert beyond_protein == pytest.approx(local, abs=0.03)
    low, high = {"mixed": (0.02, 0.08), "gc_only": (0.45, 0.58)}.get(name, (-0.02, 0.02))
    assert low < gc < high
    # The mean of its species is what R2 within species is about.
    assert abs(r2(y, features["S"], within=True)) < 0.02


def test_a_high_total_can_be_species_alone(features):
    y = label("species_only")
    assert r2(y, features["true"]) > 0.6
    assert r2(y, features["true"], within=True) < 0.15
    assert r2(label("mixed"), features["true"], features["S"], within=True) == pytest.approx(0.62, abs=0.08)
    assert r2(label("mixed"), features["permuted"], features["S"], within=True) == pytest.approx(0.35, abs=0.1)


def test_codons_betray_the_species_and_proteins_do_not(features):
    def accuracy(X):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        return probe.fit(X[TRAIN], TABLE["species"][TRAIN]).score(X[TEST], TABLE["species"][TEST])

    assert accuracy(features["true"]) > 0.99
    assert accuracy(features["permuted"]) > 0.99
    chance = 1 / 6
    for name in ("P", "uniform"):
        assert abs(accuracy(features[name]) - chance) < 4 * np.sqrt(chance * (1 - chance) / TEST.sum())
    leaking = coding_world("mixed", samples=300, test=100, aa_leak=1.0).data.table
    X, y = amino_acid_frequencies(list(leaking["protein"])), leaking["species"]
    assert LogisticRegression(C=1e4, max_iter=500).fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.7


def test_the_longer_the_windows_of_a_permutation_the_more_is_lost(features):
    y = label("mixed")
    reached = [r2(y, features["true"], features["S"])]
    reached += [r2(y, composition(f"window_permuted({w})"), features["S"]) for w in (4, 16)]
    reached += [r2(y, features["permuted"], features["S"])]
    losses = reached[0] - np.array(reached[1:])
    np.testing.assert_allclose(losses, [0.011, 0.071, 0.138], atol=0.045)
    assert (np.diff(losses) > 0).all()


def test_counts_of_codons_say_nothing_about_their_order():
    local = WORLD.truth["local"].to_numpy()
    assert abs(r2(local, codon_frequencies(GENES), SPECIES)) < 0.05
    agreement = third_base_agreement(read_codons(GENES))
    assert np.corrcoef(agreement, local)[0, 1] > 0.8
    # Most or least regular with even odds: two heaps, with nothing between them.
    assert 0.45 < (local > 0).mean() < 0.55
    assert (abs(local) < 0.3).mean() < 0.02


def test_genes_are_what_they_are_said_to_be():
    for cds, protein in zip(TABLE["cds"], TABLE["protein"], strict=True):
        assert cds.startswith("ATG")
        assert cds.endswith("TAA")
        assert str(Seq(cds).translate(to_stop=True)) == protein
        assert len(cds) == 3 * len(protein) + 3
    length = TABLE["protein"].str.len()
    assert (length.min(), length.max()) == (80, 120)
    assert TABLE["split"].value_counts().to_dict() == {"train": 1000, "test": 500}
    assert TABLE["species"].value_counts().to_dict() == {f"species_{i}": 250 for i in range(1, 7)}
    assert list(WORLD.truth.index) == list(TABLE["id"])
    assert WORLD.data.source["world"] == "mixed"


def test_codon_usage_is_that_of_the_table():
    code = genetic_code(1)
    assert list(WORLD.usage.columns) == list(CODONS)
    assert WORLD.usage.to_numpy() @ (code.family[:, None] == code.family) == pytest.approx(np.ones((6, 64)))
    seen = codon_usage(GENES, list(TABLE["species"]), pseudocount=0)
    inner = (code.family > 0) & (code.size > 1)
    # 25,000 codons per species; genes lean to GC or AT evenly.
    assert abs(seen - WORLD.usage).to_numpy()[:, inner].max() < 0.08
    assert abs(seen - WORLD.usage).to_numpy()[:, inner].mean() < 0.015


def test_genes_of_a_species_lean_to_gc_more_than_chance_does():
    known = np.hstack([SPECIES, amino_acid_frequencies(list(TABLE["protein"]))])
    strong = gc3(GENES)[:, 0]
    left = strong - known @ np.linalg.lstsq(known, strong, rcond=None)[0]
    # Codons drawn independently, of one probability for all genes, would have at most this.
    by_chance = np.sqrt(0.25 / TABLE["protein"].str.len().mean())
    assert left.std() > 1.2 * by_chance


def test_labels_are_the_sum_of_the_components():
    truth = WORLD.truth
    assert truth.mean().to_numpy() == pytest.approx(np.zeros(5), abs=1e-9)
    assert truth.std(ddof=0).to_numpy() == pytest.approx(np.ones(5))
    for name, shares in WORLDS.items():
        world = small(name)
        assert sum(shares.values()) == pytest.approx(1)
        assert world.shares == shares
        parts = sum(np.sqrt(share) * world.truth[part].to_numpy() for part, share in shares.items())
        assert world.data.table["label"].to_numpy() == pytest.approx(50 + 8 * parts)
        # GC is what species and amino acids leave of it.
        known = np.hstack([pd.get_dummies(world.data.table["species"]), [[1.0]] * 90])
        assert known.T @ world.truth["gc"].to_numpy() == pytest.approx(np.zeros(7), abs=1e-8)


def test_worlds_of_one_seed_differ_in_their_labels_only():
    first, again, other = small(), small(), small("gc_only")
    pd.testing.assert_frame_equal(first.data.table, again.data.table)
    assert list(first.data.table["cds"]) == list(other.data.table["cds"])
    pd.testing.assert_frame_equal(first.truth, other.truth)
    assert not np.allclose(first.data.table["label"], other.data.table["label"])
    assert set(first.data.table["cds"]).isdisjoint(small(seed=1).data.table["cds"])


def test_sizes_are_those_asked_for():
    world = small(valid=20, species=3, lengths=(10, 12))
    assert world.data.table["split"].value_counts().to_dict() == {"train": 40, "test": 30, "valid": 20}
    assert set(world.data.table["protein"].str.len()) == {10, 11, 12}
    assert list(world.usage.index) == ["species_1", "species_2", "species_3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "mixd"}, "There is no world 'mixd'. Did you mean 'mixed'?"),
        ({"samples": 51, "test": 5}, "samples=51: wanted at least 52 with 6 species"),
        ({"test": 80, "valid": 10}, "test=80, valid=10: wanted 0 or more, and fewer than samples=90 in all"),
        ({"valid": -1}, "valid=-1: wanted 0 or more"),
        ({"species": 1}, "species=1: wanted at least 2"),
        ({"lengths": (12, 11)}, r"lengths=\(12, 11\): wanted two numbers of residues, at least 10"),
        ({"lengths": (9, 11)}, "at least 10"),
        ({"aa_leak": -0.1}, "aa_leak=-0.1, seed=0: must not be negative"),
        ({"seed": -1}, "seed=-1: must not be negative"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        small(**change)


@given(st.lists(st.lists(st.sampled_from(["ATG", "CCG", "GGA", "TTT", "NNA", "ACN"]), min_size=1), min_size=1))
def test_agreement_is_that_of_a_loop(genes):
    found = third_base_agreement(read_codons([encode("".join(gene)) for gene in genes]))
    for gene, share in zip(genes, found, strict=True):
        same = [a[2] == b[2] and "N" not in a + b for a, b in pairwise(gene)]
        assert share == pytest.approx(np.mean(same) if same else np.nan, nan_ok=True)
