"""Within species and controls: averages over species, codon adaptation, labels that say nothing, other sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from species_worlds import GROWTH, small_study, world_study

from analysis.melting_point import controls
from analysis.melting_point.controls import (
    CONSTANT,
    OFFSETS,
    SHUFFLED,
    SHUFFLED_WITHIN,
    condition_table,
    control_labels,
    control_table,
    joint_table,
    mesophile_table,
    mesophiles,
    shuffled_within,
    species_offsets,
)
from analysis.melting_point.within import (
    OVERALL,
    codon_adaptation,
    codon_bias_correlations,
    correlation_mean,
    partial_correlation,
    per_species,
    random_effects,
)
from embedstore.coding import CODONS, codon_usage, genetic_code
from embedstore.errors import InputError

# ---- averages over species -----------------------------------------------------------------------


def test_random_effects_by_hand():
    """Three experiments, every number worked out on paper from the formulas of the two papers."""
    found = random_effects([0.1, 0.3, 0.35], [0.01, 0.02, 0.015])
    weight = [100, 50, 200 / 3]
    fixed = (10 + 15 + 70 / 3) / sum(weight)  # 0.223077
    q = 100 * (0.1 - fixed) ** 2 + 50 * (0.3 - fixed) ** 2 + 200 / 3 * (0.35 - fixed) ** 2  # 2.884615
    c = sum(weight) - (100**2 + 50**2 + (200 / 3) ** 2) / sum(weight)  # 138.461538
    tau2 = (q - 2) / c  # 0.006389
    assert (found.q, found.tau2) == (pytest.approx(2.884615, abs=1e-6), pytest.approx(0.00638889, abs=1e-8))
    assert found.tau2 == pytest.approx(tau2)
    new = [1 / (variance + tau2) for variance in (0.01, 0.02, 0.015)]
    mean = (0.1 * new[0] + 0.3 * new[1] + 0.35 * new[2]) / sum(new)
    assert found.mean == pytest.approx(mean) == pytest.approx(0.232271, abs=1e-6)
    factor = (new[0] * (0.1 - mean) ** 2 + new[1] * (0.3 - mean) ** 2 + new[2] * (0.35 - mean) ** 2) / 2
    reach = 4.302653 * np.sqrt(max(1, factor) / sum(new))  # t of 2 degrees of freedom, 97.5 %
    assert (found.low, found.high) == (pytest.approx(mean - reach), pytest.approx(mean + reach))
    assert found.i2 == pytest.approx(1 - 2 / q)
    assert found.k == 3


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), min_size=2, max_size=8),
    st.floats(-2, 2),
    st.floats(0.5, 4),
)
@settings(max_examples=50)
def test_random_effects_move_and_stretch_with_the_values(rows, shift, factor):
    values, variances = (np.array(column) for column in zip(*rows, strict=True))
    one = random_effects(values, variances)
    other = random_effects(factor * values + shift, factor**2 * variances)
    assert other.mean == pytest.approx(factor * one.mean + shift, abs=1e-9)
    assert other.tau2 == pytest.approx(factor**2 * one.tau2, abs=1e-9)
    assert other.high - other.low == pytest.approx(factor * (one.high - one.low))
    assert min(values) - 1e-9 <= one.mean <= max(values) + 1e-9


def test_random_effects_of_few_or_equal_experiments():
    assert random_effects([0.4, np.nan], [0.1, 0.1])[:2] == pytest.approx((0.4, np.nan), nan_ok=True)
    assert random_effects([0.4], [0.1]).k == 1
    assert np.isnan(random_effects([], []).mean)
    same = random_effects([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert (same.mean, same.tau2, same.i2) == (pytest.approx(0.5), 0, 0)


def test_correlations_are_averaged_on_fishers_scale():
    found = correlation_mean([0.5, 0.5], [103, 103], ranks=False)
    assert found.mean == pytest.approx(0.5)
    assert found.high == pytest.approx(np.tanh(np.arctanh(0.5) + 12.7062 / np.sqrt(200)), abs=1e-4)
    ranks = correlation_mean([0.5, 0.5], [103, 103], ranks=True)
    assert ranks.high > found.high
    # A correlation of 1, and one of 3 samples, have no place on that scale.
    assert correlation_mean([1.0, 0.5, 0.2, 0.5], [50, 103, 3, 103], ranks=False) == found
    assert correlation_mean([0.5, 0.5], [113, 113], ranks=False, controls=10) == found


def test_scores_per_species_are_those_of_their_samples():
    data = small_study()
    table = per_species(data, features=["true"], seeds=(0,))
    rows = table[table["species"] != OVERALL]
    assert rows["species"].tolist() == sorted(GROWTH)
    assert rows["n"].sum() == data.test.sum() == table.loc[table["species"] == OVERALL, "n"].iloc[0]
    mean = table[table["species"] == OVERALL].iloc[0]
    assert mean["spearman"] == pytest.approx(correlation_mean(rows["spearman"], rows["n"], ranks=True).mean)
    assert mean["low"] < mean["spearman"] < mean["high"]
    assert mean["k"] == 6


def test_within_species_the_order_of_codons_predicts_where_it_was_planted():
    mean = {}
    for world in ("mixed", "species_only"):
        table = per_species(world_study(world), features=["protein", "true"], seeds=(0,))
        overall = table[table["species"] == OVERALL].set_index("features")["spearman"]
        mean[world] = overall["true+species"] - overall["protein+species"]
    assert mean["mixed"] > 0.15
    assert abs(mean["species_only"]) < 0.06


def test_too_few_samples_of_a_species_have_no_correlation():
    data = world_study("mixed")
    drop = data.test & (data.species == "species_3")
    few = data.rows(~drop | (np.cumsum(drop) <= 4))
    row = per_species(few, features=["protein"], seeds=(0,)).set_index("species").loc["species_3"]
    assert row["n"] == 4
    assert np.isnan(row["spearman"])


# ---- codon adaptation ----------------------------------------------------------------------------


def test_codon_adaptation_by_hand():
    code = genetic_code(1)
    usage = np.ones(64)
    used = {"AAA": 0.8, "AAG": 0.2, "TTT": 0.5, "TTC": 0.5, "GCA": 0.1, "GCC": 0.2, "GCG": 0.3, "GCT": 0.4}
    for codon, share in used.items():
        usage[CODONS.index(codon)] = share
    counts = np.zeros((3, 64))
    for codon, many in {"ATG": 1, "AAA": 2, "AAG": 1, "GCC": 2, "TTC": 1, "TGG": 4, "TAA": 1}.items():
        counts[0, CODONS.index(codon)] = many
    counts[1, [CODONS.index("AAA"), CODONS.index("GCT")]] = 7
    counts[2, CODONS.index("ATG")] = 5
    # Weights 1, 1, 0.25, 0.5, 0.5, 1; methionine, tryptophan and the stop codon do not count.
    found = codon_adaptation(counts, usage)
    assert found[0] == pytest.approx((0.25 * 0.5 * 0.5) ** (1 / 6))
    assert found[1] == pytest.approx(1)
    assert np.isnan(found[2])
    assert codon_adaptation(counts, np.tile(usage, (3, 1)))[0] == found[0]
    # In the code of vertebrate mitochondria tryptophan has two codons, and counts.
    both = codon_adaptation(counts, np.where(np.array(CODONS) == "TGG", 0.5, usage), table=2)
    assert both[0] == pytest.approx((0.25 * 0.5 * 0.5 * 0.5**4) ** (1 / 11))
    usage[CODONS.index("AAG")] = 0
    with pytest.raises(InputError, match="codon usage holds zeros.*add a pseudocount"):
        codon_adaptation(counts, usage)
    assert code.size[CODONS.index("ATG")] == 1


def test_partial_correlation_is_that_of_the_textbook():
    rng = np.random.default_rng(0)
    z, e, f = rng.standard_normal((3, 400))
    x, y = z + e, z + 0.5 * e + f
    rxy, rxz, ryz = np.corrcoef(x, y)[0, 1], np.corrcoef(x, z)[0, 1], np.corrcoef(y, z)[0, 1]
    wanted = (rxy - rxz * ryz) / np.sqrt((1 - rxz**2) * (1 - ryz**2))
    assert partial_correlation(x, y, z[:, None]) == pytest.approx(wanted)
    assert partial_correlation(x, y, np.empty((400, 0))) == pytest.approx(rxy)
    assert np.isnan(partial_correlation(x, 2 * z + 1, z[:, None]))


def test_planted_gc3_is_found_within_species_and_only_there():
    planted = codon_bias_correlations(world_study("gc_only"))
    none = codon_bias_correlations(world_study("species_only"))
    for table, least, most in ((planted, 0.6, 0.85), (none, -0.1, 0.1)):
        overall = table[table["species"] == OVERALL].set_index(["variable", "fixed"])
        row = overall.loc[("gc3", "species, amino acids")]
        assert least < row["r"] < most
        assert overall.loc[("cai", "species, amino acids, gc3"), "low"] < 0.1
    assert set(planted["fixed"]) == {
        "species", "species, amino acids", "species, amino acids, gc3", "species, amino acids, cai",
    }  # fmt: skip
    each = planted[(planted["species"] != OVERALL) & (planted["variable"] == "gc3")]
    assert ((each["low"] < each["r"]) & (each["r"] < each["high"])).all()


def test_codon_usage_of_ones_own_choice():
    data = small_study()
    usage = codon_usage(data.sequences["cds"], data.species.tolist())
    given = codon_bias_correlations(data, usage=usage)
    assert given["r"].notna().any()
    with pytest.raises(InputError, match="there is no codon usage of species_1: give one row for each species"):
        codon_bias_correlations(data, usage=usage.drop(index="species_1"))
    with pytest.raises(InputError, match="no sequences of kind 'cds'"):
        codon_bias_correlations(data._replace(sequences={}))


# ---- controls ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-9, 9)), min_size=1, max_size=30), st.integers(0, 9))
@settings(max_examples=50)
def test_shuffling_within_species_keeps_the_values_of_each(rows, seed):
    species, values = (np.array(column) for column in zip(*rows, strict=True))
    shuffled = shuffled_within(values, species, seed)
    for name in set(species):
        assert sorted(shuffled[species == name]) == sorted(values[species == name])
    assert np.array_equal(shuffled, shuffled_within(values, species, seed))


def test_offsets_are_those_of_names():
    some = species_offsets(np.array(["a", "b", "a"]))
    assert some[0] == some[2] != some[1]
    assert species_offsets(np.array(["c", "b"]))[1] == some[1]
    assert species_offsets(np.array(["a"]), seed=1)[0] != some[0]
    many = species_offsets(np.arange(2000).astype(str))
    assert (many.mean(), many.std()) == (pytest.approx(0, abs=0.08), pytest.approx(1, abs=0.06))


def test_control_labels_keep_what_they_must():
    data = small_study("species_only")
    made = control_labels(data)
    assert list(made) == [SHUFFLED_WITHIN, SHUFFLED, OFFSETS, CONSTANT]
    for part in (data.train, data.test):
        assert sorted(made[SHUFFLED].y[part]) == sorted(data.y[part])
        for name in np.unique(data.species):
            here = part & (data.species == name)
            assert sorted(made[SHUFFLED_WITHIN].y[here]) == sorted(data.y[here])
    assert not np.array_equal(made[SHUFFLED_WITHIN].y, data.y)
    by_species = pd.Series(made[OFFSETS].y[data.train]).groupby(data.species[data.train]).mean()
    wanted = data.y.mean() + data.y.std() * pd.Series(species_offsets(data.species)).groupby(data.species).first()
    assert np.allclose(by_species, wanted)
    assert np.ptp(made[CONSTANT].feature("true")) == 0


@pytest.mark.parametrize("world", ["mixed", "gc_only"])
def test_controls_say_nothing(world):
    table = control_table(world_study(world), features=["true"], draws=200)
    assert table["passed"].all()
    rows = table.set_index(["control", "features"])
    assert -0.08 <= rows.loc[(SHUFFLED_WITHIN, "true+species"), "r2_within"] <= 0.005
    assert rows.loc[(SHUFFLED, "true"), "r2"] < 0.01
    assert rows.loc[(CONSTANT, "true"), "r2"] == pytest.approx(0, abs=0.03)
    # Knowing the species alone is worth much in total, nothing within.
    assert rows.loc[(OFFSETS, "true"), "r2"] > 0.1
    assert rows.loc[(OFFSETS, "true"), "r2_within"] < 0
    if world == "mixed":
        assert rows.loc[(SHUFFLED_WITHIN, "true"), "r2"] > 0.25


def test_a_control_that_does_not_control_is_seen(monkeypatch):
    """Labels that are not shuffled after all: the control must say so."""
    monkeypatch.setattr(controls, "shuffled_within", lambda values, *_: values)
    table = control_table(world_study("mixed"), features=["true"], draws=100)
    broken = table.set_index(["control", "features"])["passed"]
    assert not broken[(SHUFFLED_WITHIN, "true+species")]
    assert broken[(SHUFFLED, "true+species")]


# ---- other sets, runs, both models ---------------------------------------------------------------


def test_mesophiles_are_species_below_fifty_degrees():
    data = world_study("mixed")
    kept = mesophiles(data, growth=GROWTH)
    assert np.unique(kept.species).tolist() == ["species_1", "species_2", "species_3"]
    assert len(kept.sequences["cds"]) == len(kept.samples)
    table = mesophile_table(data._replace(features={"true": data.feature("true")}), growth=GROWTH, seeds=(0,), draws=50)
    assert table.groupby("set", sort=False)["species"].first().to_dict() == {"all species": 6, "mesophiles": 3}
    assert table["name"].tolist() == 2 * ["species", "true", "true+species"]
    assert (table.loc[table["name"] == "species", "r2_within"].abs() < 0.005).all()
    with pytest.raises(InputError, match="grow best is not known: species_1, species_2.*'growth' of the samples"):
        mesophiles(data)
    with pytest.raises(InputError, match="no training or test samples are left"):
        mesophiles(data, growth=dict.fromkeys(GROWTH, 80.0))
    with pytest.raises(InputError, match="all species grow best below 50 degrees: the whole study is one of mesophile"):
        mesophile_table(data, growth=dict.fromkeys(GROWTH, 30.0))


def test_a_run_counts_where_it_was_planted():
    data = world_study("species_only")
    run = np.random.default_rng(0).choice(["run 1", "run 2"], len(data.y))
    shifted = data.with_y(data.y + 6 * (run == "run 2"))
    shifted = shifted._replace(samples=shifted.samples.assign(run=run))
    table = condition_table(shifted, features=["protein"], seeds=(0,), draws=100)
    assert table["contrast"].unique().tolist() == ["species: +run", "protein+species: +run"]
    within = table[table["measure"] == "within"]
    assert (within["estimate"] > 0.2).all()
    assert (within["low"] > 0.1).all()
    noise = data._replace(samples=data.samples.assign(run=run, condition=run))
    table = condition_table(noise, features=["protein"], seeds=(0,), draws=100)
    assert table["contrast"].str.contains(r"\+condition").any()
    assert table["estimate"].abs().max() < 0.02
    with pytest.raises(InputError, match="has no column run or condition"):
        condition_table(data)


def test_both_models_together():
    table = joint_table(world_study("mixed"), seeds=(0,), draws=200)
    within = table[table["measure"] == "within"].set_index("contrast")
    assert within.loc["coding beside protein", "low"] > 0.2
    # Codons say which amino acids there are: the protein adds nothing to them here.
    assert abs(within.loc["protein beside coding", "estimate"]) < 0.03
    gap = within.loc["coding beside protein", "estimate"] - within.loc["protein beside coding", "estimate"]
    assert gap == pytest.approx(within.loc["coding against protein", "estimate"])


def test_spearman_per_species_is_scipys():
    from analysis.melting_point.design import augmentation
    from analysis.melting_point.regression import Block, fit_predict

    data = small_study()
    blocks = [Block(data.feature("protein")), *augmentation(data, ["species"])]
    said = fit_predict(blocks, data.y, data.train, data.test, groups=data.group, seeds=(0,))[0][0]
    table = per_species(data, features=["protein"], seeds=(0,)).set_index("species")
    for name in np.unique(data.species):
        here = data.species[data.test] == name
        assert table.loc[name, "spearman"] == pytest.approx(spearmanr(said[here], data.y[data.test][here]).statistic)
