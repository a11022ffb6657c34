"""Species of the melting-point study: the table, telling them apart, erasing them, leaving them out, transplants."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from species_worlds import GROWTH, composition, small_study, world_study

from analysis.melting_point.erasure import erase, erase_species, species_erased
from analysis.melting_point.left_out import leave_one_species_out
from analysis.melting_point.species import (
    SPECIES,
    decode_species,
    growth_temperatures,
    known_species,
    majority,
    share_interval,
    species_decodability,
    species_table,
    study_growth,
)
from analysis.melting_point.transplant import transplant, transplant_features
from embedstore.errors import InputError

WORLDS = ("mixed", "species_only", "local_only", "gc_only")


# ---- the table -----------------------------------------------------------------------------------


def test_growth_and_melting_go_together_as_published():
    table = species_table()
    assert len(table) == 13
    slope, intercept = np.polyfit(table["growth"], table["melting"], 1)
    assert slope == pytest.approx(0.79, abs=0.03)
    assert intercept == pytest.approx(24.5, abs=1)
    assert np.corrcoef(table["growth"], table["melting"])[0, 1] == pytest.approx(0.97, abs=0.01)
    assert table.loc[~table["mesophile"], "species"].tolist() == [
        "Geobacillus stearothermophilus",
        "Picrophilus torridus",
        "Thermus thermophilus",
    ]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Escherichia coli lysate", "Escherichia coli"),
        ("Oleispira_antarctica_RB-8_lysate_R1", "Oleispira antarctica"),
        ("  homo sapiens ", "Homo sapiens"),
        ("yeast", "Saccharomyces cerevisiae"),
        ("Bacillus stearothermophilus", "Geobacillus stearothermophilus"),
        ("Escherichia colicky", None),
        ("humanoid", None),
        ("", None),
    ],
)
def test_names_of_species(name, known):
    assert known_species(name) == known


def test_growth_of_a_study():
    data = small_study()
    assert np.isnan(study_growth(data)).all()
    given = study_growth(data, GROWTH)
    assert given.tolist() == [GROWTH[name] for name in data.species]
    column = data._replace(samples=data.samples.assign(growth=30.0))
    assert (study_growth(column) == 30).all()
    mixed = study_growth(column, {"species_1": 5.0})
    assert np.array_equal(mixed == 5, data.species == "species_1")
    assert growth_temperatures(["mouse"], {"mouse": 1.0}).tolist() == [1.0]
    assert growth_temperatures(["mouse"]).tolist() == [SPECIES["Mus musculus"].growth]


# ---- telling species -----------------------------------------------------------------------------


@pytest.mark.parametrize("world", WORLDS)
def test_codons_tell_species_and_proteins_do_not(world):
    table = species_decodability(world_study(world), draws=200).set_index("features")
    assert list(table.index) == ["protein", "true", "permuted", "uniform"]
    assert (table.loc[["true", "permuted"], "accuracy"] >= 0.97).all()
    assert (table.loc[["protein", "uniform"], "accuracy"] <= 0.24).all()
    assert (table.loc[["protein", "uniform"], "low"] <= table["majority"].iloc[0]).all()
    assert table["chance"].iloc[0] == pytest.approx(1 / 6)
    assert table["converged"].all()


def test_telling_species_is_a_logistic_regression():
    data = small_study()
    features = np.column_stack([data.feature("true"), np.full(len(data.y), 0.3)])
    features[:, -1] += 1e-17 * np.arange(len(data.y))
    found = decode_species(features, data.species, data.train, data.test)
    usable = features[:, features[data.train].std(axis=0) > 1e-9]
    scaler = StandardScaler().fit(usable[data.train])
    model = LogisticRegression(max_iter=5000).fit(scaler.transform(usable[data.train]), data.species[data.train])
    right = model.predict(scaler.transform(usable[data.test])) == data.species[data.test]
    assert (found.right == right).mean() > 0.98
    each = [right[data.species[data.test] == name].mean() for name in np.unique(data.species[data.test])]
    assert found.balanced == pytest.approx(np.mean(each), abs=0.02)


def test_nothing_is_told_from_constant_features_nor_of_one_species():
    data = small_study()
    found = decode_species(np.ones((len(data.y), 3)), data.species, data.train, data.test)
    assert found.right.mean() == majority(data)
    assert found.converged
    with pytest.raises(InputError, match="all training samples are of one species, 'a'"):
        decode_species(data.feature("true"), np.full(len(data.y), "a"), data.train, data.test)
    short = decode_species(data.feature("true"), data.species, data.train, data.test, max_iter=1)
    assert not short.converged


def test_the_interval_of_a_share_draws_groups():
    right = np.tile([True, False], 50)
    groups = np.repeat([f"g{number}" for number in range(50)], 2)
    assert share_interval(right, groups, draws=100) == (0.5, 0.5)
    low, high = share_interval(right, np.arange(100).astype(str), draws=500)
    assert low < 0.45 < 0.55 < high


# ---- erasing species -----------------------------------------------------------------------------


LEFT = {"mixed": 0.31, "species_only": 0.12, "local_only": 0.54, "gc_only": 0.61}


@pytest.mark.parametrize("world", WORLDS)
def test_what_is_left_without_species(world):
    data = world_study(world)
    row = species_erased(data, features=["true"], draws=200).iloc[0]
    assert row["accuracy_before"] >= 0.97
    assert row["accuracy_after"] <= 0.19
    assert row["r2_after"] == pytest.approx(LEFT[world], abs=0.1)
    assert row["low"] < row["r2_after"] < row["high"]
    if world in ("local_only", "gc_only"):  # nothing of species to lose
        assert row["r2_after"] == pytest.approx(row["r2_before"], abs=0.05)
    assert row["within_after"] == pytest.approx(row["within_before"], abs=0.04)


def test_erased_features_have_equal_means_of_species_and_no_noise_is_blown_up():
    data = world_study("species_only")
    noise = 0.3 + 1e-17 * np.random.default_rng(0).standard_normal((len(data.y), 5))
    member = (data.species == "species_1").astype(float)[:, None]
    # What tells one species exactly has no variance left: scaled to unit variance, its rest would tell it again.
    features = np.hstack([data.feature("true"), noise, member])
    erased = erase(features, data.species, data.train)
    assert erased.shape[1] == (data.feature("true")[data.train].std(axis=0) > 1e-9).sum() + 1
    means = pd.DataFrame(erased[data.train]).groupby(data.species[data.train]).mean()
    assert np.abs(means - means.mean()).to_numpy().max() < 1e-9
    assert decode_species(erased, data.species, data.train, data.test).right.mean() <= 0.19


def test_rare_species_are_erased_too():
    rng = np.random.default_rng(1)
    species = np.array(["common"] * 3000 + ["rare"] * 3)
    features = rng.standard_normal((3003, 4)) + (species == "rare")[:, None] * [0.5, 0, 0, 0]
    erased = erase(features, species, np.ones(3003, bool))
    gap = erased[species == "rare"].mean(axis=0) - erased[species == "common"].mean(axis=0)
    assert np.abs(gap).max() < 1e-9


def test_erasing_refuses_what_it_cannot_do(monkeypatch):
    data = small_study()
    with pytest.raises(InputError, match="takes two names or more"):
        erase(data.feature("true"), np.full(len(data.y), "a"), data.train)
    with pytest.raises(InputError, match="no features 'tru'"):
        erase_species(data, features=["tru"])
    monkeypatch.setitem(sys.modules, "concept_erasure", None)
    with pytest.raises(InputError, match=r"needs the package concept-erasure .*pip install 'embedstore\[proteins\]'"):
        erase_species(data)


def test_an_erased_study_goes_through_other_analyses():
    erased = erase_species(small_study())
    assert list(erased.features) == ["protein", "true", "permuted", "uniform"]
    assert species_decodability(erased, features=["true"], draws=50)["accuracy"].iloc[0] < 0.3


# ---- leaving species out -------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["mixed", "species_only"])
def test_a_protein_model_says_the_mean_of_the_others(world):
    data = world_study(world)
    table = leave_one_species_out(data, features=["protein"])
    assert table["species"].tolist() == [f"species_{number}" for number in range(1, 7)]
    assert table["beyond"].abs().max() < 0.6
    assert (table["bias"] - table["expected"] - table["beyond"]).abs().max() < 1e-12
    for row in table.to_dict("records"):
        here = data.species == row["species"]
        train, test = data.y[data.train & ~here], data.y[data.test & here]
        assert row["expected"] == pytest.approx(train.mean() - test.mean())
        assert (row["n_train"], row["n_test"]) == (len(train), len(test))
    assert (table["r2_centred"] > 0.05).all()
    assert (table["spearman"] > 0.2).all()


def test_growth_temperature_stands_for_the_species():
    data = world_study("species_only")
    means = pd.Series(data.y).groupby(data.species).mean()
    # Temperatures that say all there is to know of a species.
    table = leave_one_species_out(data, features=["protein"], growth=means.to_dict())
    assert list(dict.fromkeys(table["features"])) == ["protein", "growth", "protein+growth"]
    by = table.groupby("features")["bias"].apply(lambda values: values.abs().mean())
    assert by["protein+growth"] < 1.5 < by["protein"]
    growth = table[table["features"] == "growth"]
    assert growth["r2_centred"].abs().max() < 1e-9
    assert growth["spearman"].isna().all()
    # Two temperatures are a group, not a line.
    halves = {name: 20.0 + 10 * (name > "species_3") for name in GROWTH}
    assert set(leave_one_species_out(small_study(), features=["protein"], growth=halves)["features"]) == {"protein"}


def test_leaving_out_needs_three_species():
    data = small_study()
    two = data.rows(np.isin(data.species, ["species_1", "species_2"]))
    with pytest.raises(
        InputError, match="takes three or more with 10 test samples each; there are 2: species_1, species"
    ):
        leave_one_species_out(two)
    with pytest.raises(InputError, match="there are 0: none"):
        leave_one_species_out(data, least=1000)


# ---- transplants ---------------------------------------------------------------------------------


def arms_of(world: str, recodings: int = 10):
    return transplant_features(world_study(world), composition, recodings=recodings)


@pytest.mark.parametrize("world", ["mixed", "species_only"])
def test_predictions_follow_the_species_of_the_codons(world):
    data = world_study(world)
    arms = arms_of(world)
    table = transplant(data, arms=arms, draws=200).set_index("donor")
    assert 0.76 <= table.loc["all", "slope"] <= 0.92
    assert (table.loc["all", "high"] - table.loc["all", "low"]) < 0.1
    assert 4.5 <= table.loc["all", "change"] <= 9
    donors = table.drop(index="all")
    assert list(donors.index) == sorted(GROWTH)
    assert donors["n"].sum() == table.loc["all", "n"] == 5 * data.test.sum()
    assert donors["slope"].between(0.6, 1.1).all()
    # A donor above the mean of the others moves predictions up.
    assert (np.sign(donors["shift"]) == np.sign(donors["expected"]))[donors["expected"].abs() > 1].all()
    assert (table["note"] == "").all()


@pytest.mark.parametrize("world", ["local_only", "gc_only"])
def test_a_slope_between_species_that_do_not_differ_is_refused(world):
    table = transplant(world_study(world), arms=arms_of(world, recodings=3), draws=50)
    assert table[["slope", "low", "high"]].isna().all(axis=None)
    assert table["note"].str.startswith("no slope: species means spread 0.").all()
    assert (table["change"] < 3).all()


def test_the_slope_of_features_that_are_the_species():
    """Features that are nothing but one-hot species follow the donor all the way; proteins not at all."""
    data = world_study("species_only")
    names = sorted(GROWTH)
    hot = (data.species[:, None] == names).astype(float)
    given = {name: np.tile([float(name == other) for other in names], (len(data.y), 1)) for name in names}
    every = data._replace(features={"hot": hot, **{f"transplant({name})": rows for name, rows in given.items()}})
    table = transplant(every, features="hot", draws=50)
    assert table["slope"].iloc[0] == pytest.approx(1, abs=0.02)
    tested = {name: data.feature("protein")[data.test] for name in names}
    still = transplant(data, features="protein", arms=tested, draws=50)
    assert still["slope"].iloc[0] == pytest.approx(0, abs=1e-9)
    assert still["change"].iloc[0] == pytest.approx(0, abs=1e-9)


def test_transplants_recode_with_the_usage_of_training_samples():
    data = small_study()
    arms = transplant_features(
        data, lambda cds: np.array([[len(one)] for one in cds]), recodings=2, donors=["species_2"]
    )
    assert list(arms) == ["species_2"]
    assert arms["species_2"][:, 0].tolist() == [
        len(one) for one, keep in zip(data.sequences["cds"], data.test, strict=True) if keep
    ]


def test_two_species_have_no_slope_of_one_donor_but_one_of_both():
    data = world_study("mixed")
    two = data.rows(np.isin(data.species, ["species_1", "species_2"]))
    two = two.with_y(two.y + 30 * (two.species == "species_1"))
    arms = {name: two.feature("true")[two.test] + number for number, name in enumerate(["species_1", "species_2"])}
    table = transplant(two, arms=arms, draws=20).set_index("donor")
    assert table["spread"].iloc[0] > 0.5
    assert table.loc["species_1", "note"] == "no slope: all differences between species are alike"
    assert np.isfinite(table.loc["all", "slope"])


def test_transplants_refuse_missing_arms():
    data = small_study()
    with pytest.raises(InputError, match="takes arms of two species or more; there are 0"):
        transplant(data)
    arm = data.feature("true")
    with pytest.raises(InputError, match="arms are of a, b; test samples are of species_1"):
        transplant(data, arms={"a": arm, "b": arm})
    with pytest.raises(InputError, match="the arm of 'species_1' has 3 samples; the study has 300"):
        transplant(data, arms={"species_1": arm[:3], "species_2": arm})
