"""The partition on worlds whose causes are planted, and what its terms are made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.melting_point.data import StudyData, check_study
from analysis.melting_point.inference import contrast_table, estimate
from analysis.melting_point.partition import (
    designs,
    fit_designs,
    partition_contrasts,
    score_table,
    window_curve,
)
from analysis.melting_point.regression import ONE_PENALTY, RATIOS
from analysis.melting_point.shapley import PLAYERS, shapley_contrasts, shapley_table
from analysis.melting_point.study_tables import draw_predictions
from analysis.melting_point.verdict import judge
from embedstore.coding import recode
from embedstore.errors import InputError
from embedstore.models.composition_models import amino_acid, codon_composition
from embedstore.simulated_coding import WORLDS, coding_world

STRATEGIES = {"permuted": 4, "uniform": 2, "window_permuted(4)": 1, "window_permuted(16)": 1}


def pooled(encoder, texts):
    return np.stack([rows.mean(axis=0) for rows, _ in encoder(texts)])


@pytest.fixture(scope="module")
def table():
    return coding_world("mixed").data.table


@pytest.fixture(scope="module")
def features(table):
    """The sequences are the same in all worlds of one seed; only labels differ."""
    cds = [np.frombuffer(one.encode(), np.uint8) for one in table["cds"]]
    made = {"protein": pooled(amino_acid, table["protein"].tolist()), "true": pooled(codon_composition, table["cds"])}
    for strategy, seeds in STRATEGIES.items():
        every = [recode(cds, strategy, ids=table["id"].tolist(), seed=seed) for seed in range(seeds)]
        arrays = [pooled(codon_composition, [one.tobytes().decode() for one in part]) for part in every]
        made[strategy] = np.mean(arrays, axis=0)
    return made


@pytest.fixture(scope="module")
def worlds(features):
    """World -> (study, predictions, draws)."""
    found = {}
    for name in WORLDS:
        table = coding_world(name).data.table
        samples = table[["id", "split", "species"]].assign(group=table["id"], y=table["label"].astype(float))
        data = check_study(StudyData(samples, features))
        fitted = fit_designs(data, designs(data), seeds=(0, 1))
        found[name] = (data, fitted, draw_predictions(data, fitted, 400))
    return found


def r2(world, name, measure="total"):
    drawn = world[2]
    return drawn.point[measure][drawn.names.index(name)]


# What the recipe of the worlds was measured to give (ten seeds of plain arrays), and how far a single seed may be off.
@pytest.mark.parametrize(
    ("world", "expected"),
    [
        ("mixed", {"species": 0.49, "protein": 0.13, "protein+species": 0.63, "uniform": 0.10, "permuted": 0.58,
                   "true": 0.71, "permuted+species": 0.67, "true+species": 0.81}),
        ("species_only", {"species": 0.65, "protein": 0.13, "protein+species": 0.80, "uniform": 0.11, "permuted": 0.66,
                          "true": 0.66, "permuted+species": 0.78, "true+species": 0.78}),
        ("local_only", {"species": 0.0, "protein+species": 0.12, "permuted": 0.10, "true": 0.52, "true+species": 0.52}),
        ("gc_only", {"species": 0.0, "protein": 0.13, "permuted": 0.61, "true": 0.60, "true+species": 0.62}),
    ],
)  # fmt: skip
def test_r2_is_what_was_planted(worlds, world, expected):
    for name, value in expected.items():
        assert r2(worlds[world], name) == pytest.approx(value, abs=0.09), name


@pytest.mark.parametrize(
    ("world", "local", "composition"),
    [("mixed", (0.096, 0.178), (0.02, 0.09)), ("species_only", (-0.02, 0.02), (-0.02, 0.02)),
     ("local_only", (0.33, 0.5), (-0.02, 0.02)), ("gc_only", (-0.02, 0.02), (0.43, 0.57))],
)  # fmt: skip
def test_terms_lie_in_the_planted_ranges(worlds, world, local, composition):
    drawn = worlds[world][2]
    terms = partition_contrasts(drawn)
    for name, (low, high) in (("d_local", local), ("d_comp", composition)):
        found = estimate(drawn, terms[name], "total").estimate
        assert low <= found <= high, (name, found)


def test_the_species_mean_scores_0_within_species(worlds):
    for world in worlds.values():
        assert r2(world, "species", "within") == pytest.approx(0, abs=0.005)


def test_a_gain_from_species_fools_nobody(worlds):
    """The regression test of the rule: species only, yet the true codons lag behind protein and species, and adding the
    species to them helps, from which the order of codons has been concluded."""
    world = worlds["species_only"]
    assert r2(world, "true") < r2(world, "protein+species") - 0.05
    assert r2(world, "true+species") > r2(world, "true") + 0.05
    assert abs(r2(world, "true+species") - r2(world, "permuted+species")) < 0.02
    assert r2(world, "true", "within") < 0.15
    assert r2(world, "true") > 0.55  # in total it looks like a good model


@pytest.mark.parametrize(
    ("world", "conclusion"),
    [("mixed", "local"), ("species_only", "species only"), ("local_only", "local"), ("gc_only", "composition")],
)
def test_the_verdict_is_the_planted_cause(worlds, world, conclusion):
    """Two models that are the same, so that two agree."""
    drawn = worlds[world][2]
    terms = contrast_table(drawn, partition_contrasts(drawn), flips=99)
    curve = window_curve(drawn)
    twice = [part.assign(model=name) for part in (terms, curve) for name in "ab"]
    assert judge(pd.concat(twice[:2]), pd.concat(twice[2:])).conclusion == conclusion


def test_the_window_curve_rises_where_order_counts_only(worlds):
    """Losses in total at w = 4, 16 and all in the mixed world: .011, .071, .138."""
    curve = window_curve(worlds["mixed"][2]).query("measure == 'total'").set_index("width")["estimate"]
    assert curve.index.tolist() == [1, 4, 16, np.inf]
    assert curve[1] == 0
    for width, loss in ((4, 0.011), (16, 0.071), (np.inf, 0.138)):
        assert curve[width] == pytest.approx(loss, abs=0.035)
    assert curve.is_monotonic_increasing
    flat = window_curve(worlds["species_only"][2]).query("measure == 'total'")
    assert flat["estimate"].abs().max() < 0.01
    steps = window_curve(worlds["mixed"][2]).query("measure == 'within'")
    np.testing.assert_allclose(steps["step"].cumsum(), steps["estimate"], atol=1e-12)


def test_a_plain_probe_of_scikit_learn_says_the_same(worlds):
    data, fitted, _ = worlds["mixed"]
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
    x, y = data.features["true"], data.y
    said = probe.fit(x[data.train], y[data.train]).predict(x[data.test])
    ours = r2_score(y[data.test], fitted.predictions["true"][0])
    assert r2_score(y[data.test], said) == pytest.approx(ours, abs=0.01)
    hot = (data.species[:, None] == np.unique(data.species)).astype(float)
    plain = LinearRegression().fit(hot[data.train], y[data.train]).predict(hot[data.test])
    np.testing.assert_allclose(fitted.predictions["species"][0], plain)


def test_contributions_add_up(worlds):
    drawn = worlds["mixed"][2]
    table = shapley_table(drawn)
    for measure in ("total", "within"):
        whole = r2(worlds["mixed"], "protein+species+true", measure) - r2(worlds["mixed"], "mean", measure)
        assert table[table["measure"] == measure]["estimate"].sum() == pytest.approx(whole)
    total = table[table["measure"] == "total"].set_index("player")
    assert total.loc["local", "low"] > 0.05
    only = shapley_table(worlds["species_only"][2]).query("measure == 'total'").set_index("player")
    assert abs(only.loc["local", "estimate"]) < 0.01
    assert only.loc["composition", "estimate"] > 0.2  # half of what gives the species away: why no rule uses it


def test_contributions_by_hand():
    """A game in which each player adds so much whoever is there: its contribution is just that."""
    worth = {"protein": 1.0, "species": 2.0, "composition": 4.0, "local": 8.0}
    names = {
        "mean": (), "protein": ("protein",), "species": ("species",), "protein+species": ("protein", "species"),
        "permuted": ("composition",), "true": ("composition", "local"),
        "protein+permuted": ("protein", "composition"), "protein+true": ("protein", "composition", "local"),
        "permuted+species": ("species", "composition"), "true+species": ("species", "composition", "local"),
        "protein+species+permuted": PLAYERS[:3], "protein+species+true": PLAYERS,
    }  # fmt: skip
    for player, weights in shapley_contrasts().items():
        assert set(weights) <= set(names)
        value = sum(weight * sum(worth[one] for one in names[name]) for name, weight in weights.items())
        assert value == pytest.approx(worth[player])


def test_scores_hold_every_measure(worlds):
    data, fitted, drawn = worlds["mixed"]
    table = score_table(data, fitted, drawn).set_index("name")
    assert list(table.index) == list(drawn.names)
    assert table.loc["true", "r2"] == pytest.approx(r2(worlds["mixed"], "true"))
    assert table.loc["mean", "flag"] == "constant prediction"
    assert np.isnan(table.loc["mean", "penalty"])
    assert (table["within_low"] <= table["r2_within"] + 1e-9).all()  # that of the species is 0 but for rounding
    assert table["n"].unique().tolist() == [500]


def test_the_ratio_of_the_penalties_is_in_the_table(worlds):
    table = score_table(*worlds["species_only"]).set_index("name")
    assert table.loc["protein+species+permuted", "ratio"] == 0
    assert table.loc[["mean", "protein", "true", "true+species"], "ratio"].isna().all()
    assert score_table(*worlds["gc_only"]).set_index("name").loc["protein+species+true", "ratio"] > 0


def test_channels_of_noise_do_not_make_the_protein_worse(worlds):
    """With one penalty codon usage seems to take R2 away where it does nothing, and to add too little where it does."""
    found = {}
    for world in ("species_only", "mixed"):
        data, _, _ = worlds[world]
        noise = np.random.default_rng(0).normal(size=(len(data.samples), 120))
        wide = {name: np.hstack([data.feature(name), noise]) for name in ("true", "permuted")}
        data = data._replace(features={"protein": data.feature("protein"), **wide})
        made = {name: designs(data)[name] for name in ("protein+species", "protein+species+permuted")}
        for ratios in (ONE_PENALTY, RATIOS):
            drawn = draw_predictions(data, fit_designs(data, made, seeds=(0,), ratios=ratios), 40)
            found[world, ratios] = estimate(drawn, partition_contrasts(drawn)["d_comp"], "total").estimate
    assert found["species_only", ONE_PENALTY] < -0.01
    assert found["species_only", RATIOS] == pytest.approx(0, abs=0.003)
    assert found["mixed", RATIOS] > 0.02
    assert found["mixed", ONE_PENALTY] < found["mixed", RATIOS] - 0.005


def test_the_smallest_penalty_is_named(caplog, table, features):
    rng = np.random.default_rng(0)
    samples = table[["id", "split", "species"]].assign(group=table["id"], y=rng.normal(size=len(table)))
    data = StudyData(samples, {**features, "true": samples["y"].to_numpy()[:, None]})
    fit_designs(data, {"true": designs(data)["true"]}, seeds=(0,), penalties=(1.0, 100.0))
    assert "true: the smallest penalty, 1, predicts best" in caplog.text
    caplog.clear()
    fit_designs(data, {"true": designs(data)["true"]}, seeds=(0,), penalties=(1e-9, 1e-8, 1e3))
    assert "smallest" not in caplog.text  # so small that neither shrinks anything


def test_a_study_without_what_the_partition_needs(table, features):
    samples = table[["id", "split", "species"]].assign(group=table["id"], y=table["label"].astype(float))
    with pytest.raises(InputError, match="the study has no features 'permuted'"):
        designs(StudyData(samples, {"protein": features["protein"], "true": features["true"]}))
    data = StudyData(samples, {name: features[name] for name in ("protein", "true", "permuted")})
    made = designs(data, alone=False)
    assert "protein+species+uniform" not in made
    assert "true" not in made
