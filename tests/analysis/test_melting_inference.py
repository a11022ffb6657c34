"""Intervals and tests: coverage on simulated normals, SciPy's bootstrap, hand-computed corrections."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from analysis.melting_point.inference import (
    bca,
    contrast_table,
    estimate,
    resample,
)
from analysis.melting_point.significance import holm, sign_flip
from embedstore.errors import InputError


def normals(n=300, seed=0, quality=(0.5, 0.3)):
    """Labels, and predictions that are right to some degree."""
    rng = np.random.default_rng(seed)
    y = rng.normal(50, 8, n)
    return y, {name: y + rng.normal(0, 8 * (1 - q), n) for name, q in zip("ab", quality, strict=True)}


def test_the_point_is_scikit_learns():
    y, said = normals()
    centre = np.where(np.arange(300) % 2, 48.0, 52.0)
    drawn = resample(y, said, species_mean=centre, draws=10)
    for place, values in enumerate(said.values()):
        assert drawn.point["total"][place] == pytest.approx(r2_score(y, values))
        within = 1 - ((y - values) ** 2).sum() / ((y - centre) ** 2).sum()
        assert drawn.point["within"][place] == pytest.approx(within)
    assert (drawn.n, drawn.groups, drawn.seeds) == (300, 300, 1)


def test_a_draw_is_the_metric_of_the_drawn_samples():
    """Drawn again by hand: all samples of each group that is drawn, as often as it is."""
    y, said = normals(60)
    group = np.arange(60) // 3
    drawn = resample(y, said, species_mean=np.full(60, 50.0), groups=group, draws=4, seed=5)
    rng = np.random.default_rng(5)
    for row in range(4):
        rows = np.concatenate([np.flatnonzero(group == one) for one in rng.integers(0, 20, 20)])
        assert drawn.draws["total"][row, 0] == pytest.approx(r2_score(y[rows], said["a"][rows]))
        within = 1 - ((y - said["b"])[rows] ** 2).sum() / ((y - 50)[rows] ** 2).sum()
        assert drawn.draws["within"][row, 1] == pytest.approx(within)
    kept = group != 7
    assert drawn.without["total"][7, 0] == pytest.approx(r2_score(y[kept], said["a"][kept]))


def test_the_interval_of_a_difference_covers_the_truth():
    """95 % of 120 simulated studies, give or take 3.5 standard errors of such a share."""
    rng = np.random.default_rng(0)
    noise = {"a": 4.0, "b": 5.0}
    truth = (noise["b"] ** 2 - noise["a"] ** 2) / 64
    inside = {"percentile": 0, "bca": 0}
    for seed in range(120):
        y = rng.normal(0, 8, 200)
        shared = rng.normal(size=200)
        said = {n: y + s * (0.8 * shared + 0.6 * rng.normal(size=200)) for n, s in noise.items()}
        drawn = resample(y, said, species_mean=np.zeros(200), draws=200, seed=seed)
        for kind in inside:
            found = estimate(drawn, {"a": 1, "b": -1}, kind=kind)
            inside[kind] += found.low <= truth <= found.high
    for kind, many in inside.items():
        assert 0.88 * 120 <= many < 120, kind


def test_paired_draws_are_sharper_than_two_of_their_own():
    rng = np.random.default_rng(0)
    y = rng.normal(0, 8, 400)
    shared = rng.normal(0, 4, 400)
    said = {"a": y + shared, "b": y + shared + rng.normal(0, 0.5, 400)}
    drawn = resample(y, said, species_mean=np.zeros(400), draws=500)
    other = resample(y, said, species_mean=np.zeros(400), draws=500, seed=1)
    paired = np.std(drawn.draws["total"] @ [1, -1])
    alone = np.std(drawn.draws["total"][:, 0] - other.draws["total"][:, 1])
    assert paired < 0.3 * alone


def test_groups_widen_intervals():
    """Twins count once: the interval of doubled samples is that of single ones."""
    y, said = normals(200)
    twice = {name: np.repeat(values, 2) for name, values in said.items()}
    centre = np.full(400, 50.0)
    once = estimate(resample(y, said, species_mean=centre[:200]), {"a": 1}, "total")
    grouped = estimate(
        resample(np.repeat(y, 2), twice, species_mean=centre, groups=np.repeat(np.arange(200), 2)), {"a": 1}, "total"
    )
    naive = estimate(resample(np.repeat(y, 2), twice, species_mean=centre), {"a": 1}, "total")
    assert grouped == pytest.approx(once)
    assert naive.high - naive.low < 0.8 * (grouped.high - grouped.low)


def test_seeds_are_drawn_too():
    """Predictions that differ between seeds have wider intervals; one seed counts for all of the others."""
    y, said = normals(300)
    rng = np.random.default_rng(1)
    fixed = np.stack([said["a"]] * 5)
    noisy = np.stack([said["a"] + 6 * rng.normal() for _ in range(5)])
    drawn = resample(y, {"fixed": fixed, "noisy": noisy, "one": said["a"]}, species_mean=np.full(300, 50.0))
    spread = drawn.draws["within"].std(axis=0)
    assert spread[1] > 1.5 * spread[0]
    np.testing.assert_allclose(drawn.draws["within"][:, 0], drawn.draws["within"][:, 2])
    assert drawn.seeds == 5
    # Over seeds a mean: R2 is linear in the squared error.
    errors = [((y - values) ** 2).sum() for values in noisy]
    assert drawn.point["within"][1] == pytest.approx(1 - np.mean(errors) / ((y - 50) ** 2).sum())
    assert drawn.errors[:, 1].sum() == pytest.approx(np.mean(errors))


def test_bca_is_scipys():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=60)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(1), vectorized=True
    )
    without = (values.sum() - values) / 59
    ours = bca(values.mean(), theirs.bootstrap_distribution, without)
    interval = theirs.confidence_interval
    np.testing.assert_allclose(ours, (interval.low, interval.high), rtol=1e-3)
    assert bca(1.0, np.ones(10), np.ones(5)) == (1.0, 1.0)


def test_holm_by_hand():
    """Holm 1979: times 4, 3, 2, 1 from the smallest, never falling, at most 1."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.9]), [1.0, np.nan, 1.0])
    assert holm([]).tolist() == []


def test_sign_flips_are_scipys_exact_test():
    """All 2^10 patterns of signs, which SciPy goes through."""
    rng = np.random.default_rng(0)
    differences = np.column_stack([rng.normal(0.7, 1, 10), rng.normal(0, 1, 10)])
    found = sign_flip(differences, flips=40_000, seed=1)
    for place in range(2):
        exact = stats.permutation_test(
            (differences[:, place],), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        assert found[place] == pytest.approx(exact, abs=0.01)
    assert sign_flip(np.ones((30, 1)), flips=999)[0] == pytest.approx(0.001)


def test_sign_flips_hold_their_level():
    rng = np.random.default_rng(0)
    found = sign_flip(rng.normal(size=(40, 400)), flips=400)
    assert 0.02 < (found <= 0.05).mean() < 0.085


def test_the_table_of_contrasts():
    y, said = normals(300)
    said["c"] = said["a"].copy()
    drawn = resample(y, said, species_mean=np.full(300, 50.0), draws=300)
    table = contrast_table(
        drawn,
        {"a-b": {"a": 1, "b": -1}, "a-c": {"a": 1, "c": -1}, "a": {"a": 1}, "half": {"a": 0.5, "b": 0.5}},
        flips=99,
    )
    assert table["measure"].value_counts().to_dict() == {"within": 4, "total": 4}
    one = table[(table["contrast"] == "a-b") & (table["measure"] == "total")].iloc[0]
    assert one["estimate"] == pytest.approx(r2_score(y, said["a"]) - r2_score(y, said["b"]))
    sse = {name: ((y - values) ** 2).sum() for name, values in said.items()}
    assert one["partial_r2"] == pytest.approx(1 - sse["a"] / sse["b"])
    assert one["p_flip"] == pytest.approx(0.01)
    assert one["p_flip_holm"] == pytest.approx(0.02)
    same = table[table["contrast"] == "a-c"].iloc[0]
    assert same[["estimate", "low", "high", "p", "p_flip"]].tolist() == [0, 0, 0, 1, 1]
    assert table[table["contrast"].isin(["a", "half"])]["p_flip"].isna().all()
    said["c"] = y + (said["a"] - y) * (1 - 1e-14)  # better everywhere, but by rounding
    drawn = resample(y, said, species_mean=np.full(300, 50.0), draws=300)
    assert contrast_table(drawn, {"a-c": {"a": 1, "c": -1}}, flips=99)[["p", "p_flip"]].to_numpy().min() == 1
    assert (table["p_holm"] >= table["p"]).all()


def test_what_cannot_be_drawn_is_refused():
    y, said = normals(20)
    with pytest.raises(
        InputError, match=r"prediction 'a' is \(1, 19\); \(seed, test sample\) with 1 or 1 seeds and 20"
    ):
        resample(y, {"a": y[1:]}, species_mean=y)
    with pytest.raises(InputError, match=r"prediction 'b' is \(2, 20\)"):
        resample(y, {"a": np.stack([y] * 3), "b": np.stack([y] * 2)}, species_mean=y)
    drawn = resample(y, said, species_mean=np.zeros(20), draws=3)
    with pytest.raises(InputError, match="no prediction is called 'aa'"):
        estimate(drawn, {"aa": 1})
    with pytest.raises(InputError, match="measure 'r2', interval 'percentile'"):
        estimate(drawn, {"a": 1}, "r2")
    with pytest.raises(InputError, match="interval 'normal'"):
        estimate(drawn, {"a": 1}, kind="normal")
