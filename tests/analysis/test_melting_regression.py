"""Ridge with unpenalised blocks against scikit-learn, closed forms, and planted traps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.melting_point import problem as problems
from analysis.melting_point import solving
from analysis.melting_point.regression import (
    ONE_PENALTY,
    PENALTIES,
    RATIOS,
    Block,
    fit_predict,
    fit_ridge,
    predict,
)
from analysis.melting_point.scaling import scaling, standardise
from embedstore.errors import InputError, NonFiniteError


def problem(n=200, channels=30, seed=0, signal=0.2):
    """Rows of channels with scales and means of their own, labels that depend on some, groups of one size."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, channels)) * rng.lognormal(size=channels) + 5 * rng.normal(size=channels)
    y = (x - x.mean(0)) @ (rng.normal(size=channels) * (rng.random(channels) < signal)) + 10 * rng.normal(size=n) + 50
    return x, y, np.arange(n) // 4


@pytest.mark.parametrize(("n", "channels"), [(200, 30), (80, 100), (300, 60)])
@pytest.mark.parametrize("direct", [0, 10**6])
def test_equals_scikit_learn_with_grouped_folds(monkeypatch, n, channels, direct):
    """Fewer channels than samples and more; folds solved by steps and directly."""
    monkeypatch.setattr(problems, "DIRECT", direct)
    x, y, group = problem(n, channels)
    penalties = PENALTIES[4::3]
    (found,) = fit_ridge([Block(x)], y, groups=group, seeds=[3], penalties=penalties)
    scaler = StandardScaler().fit(x)
    folds = GroupKFold(5, shuffle=True, random_state=3).split(x, groups=group)
    wanted = RidgeCV(penalties, cv=list(folds), scoring="neg_mean_squared_error").fit(scaler.transform(x), y)
    assert found.penalty == pytest.approx(wanted.alpha_)
    np.testing.assert_allclose(found.coefficient * scaler.scale_, wanted.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(predict(found, [Block(x)]), wanted.predict(scaler.transform(x)), rtol=1e-9)


@pytest.mark.parametrize("direct", [0, 10**6])
@pytest.mark.parametrize(("n", "channels"), [(120, 20), (90, 140)])
def test_the_error_of_every_penalty_is_that_of_refitting_without_each_fold(monkeypatch, direct, n, channels):
    """Unpenalised columns, too: each fold fits its own."""
    monkeypatch.setattr(problems, "DIRECT", direct)
    x, y, group = problem(n, channels)
    u = np.random.default_rng(1).normal(size=(n, 3)) + x[:, :3]
    alphas = [0.1, 10.0, 1000.0]
    (found,) = fit_ridge([Block(u, penalised=False), Block(x)], y, groups=group, penalties=alphas, folds=4, seeds=[7])
    z = StandardScaler().fit_transform(x)
    errors = np.zeros(3)
    for inside, out in GroupKFold(4, shuffle=True, random_state=7).split(z, groups=group):
        free = np.column_stack([np.ones(len(inside)), u[inside]])
        for place, alpha in enumerate(alphas):  # as one system: the penalty is on some columns only
            both = np.hstack([free, z[inside]])
            penalty = np.diag([0.0] * 4 + [alpha] * channels)
            solved = np.linalg.solve(both.T @ both + penalty, both.T @ y[inside])
            said = np.column_stack([np.ones(len(out)), u[out], z[out]]) @ solved
            errors[place] += ((y[out] - said) ** 2).sum()
    np.testing.assert_allclose(found.errors, errors / n, rtol=1e-5)
    assert found.penalty == alphas[int(np.argmin(errors))]


@pytest.mark.parametrize("channels", [20, 100])
@pytest.mark.parametrize("lost", [False, True])
def test_what_steps_do_not_solve_is_solved_exactly(monkeypatch, channels, lost):
    """From the residuals of all samples, or directly: with few channels, and where a fold takes a column away."""
    x, y, group = problem(120, channels)
    free = np.zeros((120, 2))
    free[:, 0] = x[:, 0] + 1
    free[:4, 1] = lost  # one group has it alone
    blocks, penalties = [Block(x), Block(free, penalised=False)], [1e-3, 1.0, 1e5]
    plain = fit_ridge(blocks, y, groups=group, penalties=penalties)[0]
    monkeypatch.setattr(problems, "DIRECT", 0)
    monkeypatch.setattr(solving, "_STEPS", 2)
    ways = {name: [] for name in ("directly", "residuals_left_out")}
    for name, calls in ways.items():
        original = getattr(problems, name)
        monkeypatch.setattr(
            problems, name, lambda *values, f=original, calls=calls: calls.append(values[-1]) or f(*values)
        )
    found = fit_ridge(blocks, y, groups=group, penalties=penalties)[0]
    np.testing.assert_allclose(found.errors, plain.errors, rtol=1e-7)
    assert bool(ways["residuals_left_out"]) == (channels == 100)
    assert bool(ways["directly"]) == (channels == 20 or lost)


def test_frisch_and_waugh():
    """What is left of both sides after least squares on the unpenalised columns is an ordinary ridge."""
    x, y, _ = problem(150, 12)
    u = np.random.default_rng(2).normal(size=(150, 4)) + 0.3 * x[:, :4]
    (found,) = fit_ridge([Block(x), Block(u, penalised=False)], y, penalties=5.0)
    z = StandardScaler().fit_transform(x)
    rest = [values - LinearRegression().fit(u, values).predict(u) for values in (z, y)]
    wanted = Ridge(alpha=5.0, fit_intercept=False).fit(*rest)
    np.testing.assert_allclose(found.coefficient[:12] * x.std(0), wanted.coef_, rtol=1e-8)
    assert len(found.errors) == 0
    # As one system, too: coefficients of the unpenalised columns and the intercept.
    both = np.hstack([np.ones((150, 1)), u, z])
    solved = np.linalg.solve(both.T @ both + np.diag([0.0] * 5 + [5.0] * 12), both.T @ y)
    np.testing.assert_allclose(found.coefficient[12:], solved[1:5], rtol=1e-8)
    np.testing.assert_allclose(predict(found, [Block(x), Block(u, penalised=False)]), both @ solved, rtol=1e-9)


def test_without_a_penalty_it_is_least_squares():
    x, y, _ = problem(80, 5)
    (found,) = fit_ridge([Block(x, penalised=False)], y)
    wanted = LinearRegression().fit(x, y)
    np.testing.assert_allclose(found.coefficient, wanted.coef_, rtol=1e-8)
    assert found.intercept == pytest.approx(wanted.intercept_)
    assert np.isnan(found.penalty)
    assert found.channels == 0
    assert not found.at_edge


def test_a_one_hot_vector_is_not_shrunk_by_the_penalty_of_the_embedding():
    """With the largest penalty the prediction is the species mean; penalised one-hot columns would be shrunk."""
    rng = np.random.default_rng(0)
    species = np.arange(90) % 3
    hot = np.eye(3)[species]
    y = np.array([40.0, 50.0, 80.0])[species] + rng.normal(size=90)
    blocks = [Block(rng.normal(size=(90, 40))), Block(hot, penalised=False)]
    (found,) = fit_ridge(blocks, y, penalties=1e12)
    means = np.array([y[species == number].mean() for number in range(3)])
    np.testing.assert_allclose(predict(found, blocks), means[species], atol=1e-6)
    unseen = [Block(np.zeros((1, 40))), Block(np.zeros((1, 3)), penalised=False)]
    assert predict(found, unseen)[0] == pytest.approx(means.mean(), abs=1e-6)
    shrunk = make_pipeline(StandardScaler(), Ridge(1e4)).fit(np.hstack([b.values for b in blocks]), y)
    assert np.ptp(shrunk.predict(np.hstack([b.values for b in blocks]))) < 5


def test_an_unseen_species_gets_the_mean_over_species_not_over_samples():
    y = np.array([10.0, 10.0, 10.0, 40.0])
    (found,) = fit_ridge([Block(np.eye(2)[[0, 0, 0, 1]], penalised=False)], y)
    assert predict(found, [Block(np.zeros((1, 2)))])[0] == pytest.approx(25)


def test_near_constant_channels_are_not_blown_up():
    """Channels that hold rounding noise only must not come back at unit variance."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4))
    label = rng.integers(0, 2, 100)
    traps = np.column_stack(
        [0.3 + 1e-17 * label, 1e-17 * label, 5 + 1e-7 * label, np.full(100, 2.0), 1e-14 * rng.normal(size=100)]
    )
    whole = np.hstack([x, traps])
    assert scaling(whole).kept.tolist() == [True] * 4 + [False] * 5
    scaled, other = standardise(whole, whole[:3])
    assert scaled.shape == (100, 4)
    np.testing.assert_allclose(scaled, StandardScaler().fit_transform(x))
    np.testing.assert_allclose(other, scaled[:3])
    (found,) = fit_ridge([Block(whole)], label.astype(float), penalties=1.0)
    assert found.coefficient[4:].tolist() == [0.0] * 5
    assert found.channels == 4
    assert scaling(np.zeros((3, 2))).kept.tolist() == [False, False]
    assert StandardScaler().fit_transform(traps)[:, 1].std() > 0.5  # what would have happened


def test_constant_features_predict_the_mean():
    y = np.arange(20.0)
    (found,) = fit_ridge([Block(np.full((20, 3), 0.1))], y, groups=np.arange(20) // 2)
    assert found.channels == 0
    np.testing.assert_allclose(predict(found, [Block(np.full((2, 3), 0.1))]), y.mean())


def test_several_targets_are_fitted_as_each_alone():
    x, y, group = problem(120, 15)
    other = np.random.default_rng(5).normal(size=120)
    (both,) = fit_ridge([Block(x)], np.column_stack([y, other]), groups=group)
    for place, target in enumerate((y, other)):
        (one,) = fit_ridge([Block(x)], target, groups=group)
        np.testing.assert_allclose(both.coefficient[:, place], one.coefficient, rtol=1e-9, atol=1e-12)
        assert both.penalty[place] == one.penalty
        assert both.at_edge[place] == one.at_edge
    assert both.penalty[0] != both.penalty[1]
    assert predict(both, [Block(x)]).shape == (120, 2)


def test_seeds_differ_in_their_folds_only():
    x, y, group = problem(200, 30)
    first, second, again = fit_ridge([Block(x)], y, groups=group, seeds=[0, 1, 0])
    assert first.errors.tolist() == again.errors.tolist()
    assert first.errors.tolist() != second.errors.tolist()
    said, fits = fit_predict(
        [Block(x)], y, np.arange(200) < 150, np.arange(200) >= 170, groups=group, seeds=[0, 1], penalties=[1.0, 10.0]
    )
    assert said.shape == (2, 30)
    (alone,) = fit_ridge([Block(x[:150])], y[:150], groups=group[:150], penalties=[1.0, 10.0])
    np.testing.assert_allclose(said[0], predict(alone, [Block(x[170:])]), rtol=1e-12)
    assert fits[0].penalty == alone.penalty


def test_a_group_is_never_on_both_sides():
    """Labels of groups cannot be predicted from noise, though twins of every sample are there."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 100)), 2, axis=0)
    y = np.repeat(rng.normal(size=60), 2)
    (grouped,) = fit_ridge([Block(x)], y, groups=np.repeat(np.arange(60), 2))
    (alone,) = fit_ridge([Block(x)], y)
    assert grouped.errors.min() > 0.8 * y.var()
    assert alone.errors.min() < 0.5 * y.var()
    assert grouped.penalty > 100 * alone.penalty


def two_blocks(n=160, widths=(12, 20), seed=0):
    """Two blocks of channels, the second a weaker signal among more noise; groups of one size."""
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(n, width)) * rng.lognormal(size=width) + rng.normal(size=width) for width in widths]
    signal = 2 * StandardScaler().fit_transform(blocks[0])[:, :6].sum(1) + blocks[1][:, 0] / blocks[1][:, 0].std()
    return [Block(values) for values in blocks], signal + 3 * rng.normal(size=n), np.arange(n) // 4


class Scaled(BaseEstimator, TransformerMixin):
    """scikit-learn's way to a penalty per block: its standardised channels times the root of a ratio."""

    def __init__(self, width=0, ratio=1.0):
        self.width, self.ratio = width, ratio

    def fit(self, x, y=None):
        return self

    def transform(self, x):
        return np.hstack([x[:, : self.width], x[:, self.width :] * np.sqrt(self.ratio)])


@pytest.mark.parametrize(("n", "widths"), [(160, (12, 20)), (60, (20, 70))])
@pytest.mark.parametrize("direct", [0, 10**6])
def test_penalties_of_blocks_are_scikit_learns_of_scaled_channels(monkeypatch, n, widths, direct):
    """Fewer channels than samples and more; the same folds, every ratio with every penalty."""
    monkeypatch.setattr(problems, "DIRECT", direct)
    blocks, y, group = two_blocks(n, widths)
    penalties, ratios = [0.1, 1.0, 10.0, 100.0, 1000.0], [0.0, 0.03, 0.3, 3.0]
    for seed in (1, 2):
        (found,) = fit_ridge(blocks, y, groups=group, penalties=penalties, ratios=ratios, seeds=[seed])
        x = StandardScaler().fit_transform(np.hstack([block.values for block in blocks]))
        search = GridSearchCV(
            make_pipeline(Scaled(widths[0]), Ridge()),
            {"ridge__alpha": penalties, "scaled__ratio": ratios},
            cv=GroupKFold(5, shuffle=True, random_state=seed),
            scoring="neg_mean_squared_error",
        ).fit(x, y, groups=group)
        assert {"ridge__alpha": found.penalty, "scaled__ratio": found.ratio[1]} == search.best_params_
        assert found.ratio.tolist() == [1.0, search.best_params_["scaled__ratio"]]
        assert found.errors.min() == pytest.approx(-search.best_score_, rel=1e-6)
        np.testing.assert_allclose(predict(found, blocks), search.predict(x), rtol=1e-8)


@pytest.mark.parametrize("widths", [(12, 20), (100, 90)])
def test_a_ratio_divides_the_penalty_of_its_block(widths):
    """Closed form: (Z'Z + diagonal of alpha / ratio)^-1 Z'y, and unpenalised columns beside it."""
    blocks, y, _ = two_blocks(160, widths)
    free = np.random.default_rng(5).normal(size=(160, 2))
    (found,) = fit_ridge([blocks[0], Block(free, penalised=False), blocks[1]], y, penalties=7.0, ratios=[0.2])
    z = StandardScaler().fit_transform(np.hstack([block.values for block in blocks]))
    both = np.hstack([np.ones((160, 1)), free, z])
    penalty = np.concatenate([np.zeros(3), np.full(widths[0], 7.0), np.full(widths[1], 35.0)])
    solved = np.linalg.solve(both.T @ both + np.diag(penalty), both.T @ y)
    np.testing.assert_allclose(found.coefficient[widths[0] : widths[0] + 2], solved[1:3], rtol=1e-7)
    said = predict(found, [blocks[0], Block(free, penalised=False), blocks[1]])
    np.testing.assert_allclose(said, both @ solved, rtol=1e-9)
    assert (found.penalty, found.ratio.tolist()) == (7.0, [1.0, 0.2])
    assert len(found.errors) == 0


def test_of_ratio_0_the_block_is_left_out():
    blocks, y, group = two_blocks()
    (found,) = fit_ridge(blocks, y, groups=group, ratios=[0.0])
    (alone,) = fit_ridge(blocks[:1], y, groups=group)
    np.testing.assert_allclose(found.coefficient[:12], alone.coefficient, rtol=1e-10)
    assert not found.coefficient[12:].any()
    np.testing.assert_allclose(found.errors, alone.errors, rtol=1e-10)
    assert (found.ratio.tolist(), alone.ratio.tolist()) == ([1.0, 0.0], [1.0])


def test_one_penalised_block_knows_no_ratio():
    """Whatever is asked for, and with blocks that are constant or not penalised beside it."""
    blocks, y, group = two_blocks()
    flat, free = Block(np.full((160, 3), 0.1)), Block(blocks[1].values[:, :2], penalised=False)
    (plain,) = fit_ridge([blocks[0], free], y, groups=group, ratios=ONE_PENALTY)
    (other,) = fit_ridge([blocks[0], free], y, groups=group)
    assert all(np.array_equal(*pair) for pair in zip(plain, other, strict=True))
    (beside,) = fit_ridge([flat, blocks[0], free], y, groups=group)
    np.testing.assert_array_equal(beside.coefficient[3:], plain.coefficient)
    assert beside.ratio.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("columns", [100, 400])
def test_a_wide_block_of_noise_costs_little(columns):
    """With one penalty it takes a large part of what the informative block explains; left out it takes nothing."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(600, 15)), rng.normal(size=(600, columns))
    y = x @ rng.normal(size=15) + 3 * rng.normal(size=600)
    train = np.arange(600) < 300
    error = {}
    for name, blocks, ratios in (
        ("alone", [Block(x)], RATIOS),
        ("one penalty", [Block(x), Block(noise)], ONE_PENALTY),
        ("penalties of blocks", [Block(x), Block(noise)], RATIOS),
        ("noise first", [Block(noise), Block(x)], RATIOS),
    ):
        said, fits = fit_predict(blocks, y, train, ~train, seeds=range(3), ratios=ratios)
        error[name] = ((said - y[~train]) ** 2).mean()
        if name == "noise first":
            assert min(fit.ratio[1] for fit in fits) > 1
    cost = {name: value / error["alone"] - 1 for name, value in error.items()}
    assert cost["one penalty"] > 0.1
    assert cost["penalties of blocks"] < 0.2 * cost["one penalty"]
    assert cost["noise first"] < 0.5 * cost["one penalty"]


def test_a_block_that_says_something_is_not_lost():
    """Two blocks that are both needed: the second keeps what it says, and no less than with one penalty."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(600, 20)), rng.normal(size=(600, 200))
    y = first.sum(1) + second[:, :5] @ np.full(5, 1.5) + 2 * rng.normal(size=600)
    train = np.arange(600) < 400
    said = {
        name: fit_predict([Block(part) for part in parts], y, train, ~train, ratios=ratios)[0][0]
        for name, parts, ratios in (
            ("alone", [first], RATIOS), ("one", [first, second], ONE_PENALTY), ("blocks", [first, second], RATIOS)
        )
    }  # fmt: skip
    error = {name: ((values - y[~train]) ** 2).mean() for name, values in said.items()}
    assert error["blocks"] < 0.85 * error["alone"]
    assert error["blocks"] < error["one"]


def test_ratios_are_chosen_for_each_target():
    """And for every further block: of three, the second helps the first label and the third the other one."""
    rng = np.random.default_rng(2)
    parts = [Block(rng.normal(size=(200, width))) for width in (5, 40, 40)]
    labels = np.column_stack([parts[number].values[:, :8].sum(1) + parts[0].values.sum(1) for number in (1, 2)])
    labels += rng.normal(size=labels.shape)
    (both,) = fit_ridge(parts, labels, ratios=[0.0, 0.1, 1.0], penalties=[1.0, 10.0, 100.0])
    assert both.ratio.shape == (3, 2)
    assert both.ratio[1, 0] > 0
    assert both.ratio[2, 1] > 0
    for number in range(2):
        (one,) = fit_ridge(parts, labels[:, number], ratios=[0.0, 0.1, 1.0], penalties=[1.0, 10.0, 100.0])
        np.testing.assert_allclose(both.coefficient[:, number], one.coefficient, rtol=1e-8, atol=1e-12)
        assert both.ratio[:, number].tolist() == one.ratio.tolist()
        np.testing.assert_allclose(both.errors[:, number], one.errors, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 5))
def test_scale_and_shift_of_channels_change_nothing(factor, shift, seed):
    x, y, group = problem(60, 8, seed)
    one, other = Block(x), Block(x * factor + shift)
    first, second = (fit_ridge([block], y, groups=group, penalties=[1.0, 100.0])[0] for block in (one, other))
    np.testing.assert_allclose(predict(first, [one]), predict(second, [other]), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(3)}, r"block 0 is \(20, 2\); \(sample, channel\) with the 3 samples of the labels is wanted"),
        ({"y": np.full(20, np.nan)}, "20 of 20 labels are not finite"),
        (
            {"blocks": [Block(np.full((20, 2), np.inf))]},
            "block 0: 20 samples hold NaN or infinity, the first is sample 0",
        ),
        ({"blocks": [Block(np.zeros((0, 2)))], "y": np.zeros(0)}, "there is no training sample"),
        ({"groups": np.zeros(20)}, "1 groups of training samples and 5 folds"),
        ({"groups": np.zeros(3)}, "3 groups for 20 samples"),
        ({"penalties": [0.0]}, "penalties must be one or more finite numbers above 0"),
        ({"ratios": [1.0, -1.0]}, r"ratios are \[1.0, -1.0\]; they must be one or more finite numbers, 0 \(the block"),
        ({"ratios": []}, r"ratios are \[\]; they must be one or more"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    x, y, _ = problem(20, 2)
    arguments = {"blocks": [Block(x)], "y": y, **change}
    with pytest.raises((InputError, NonFiniteError), match=message):
        fit_ridge(arguments.pop("blocks"), arguments.pop("y"), **arguments)


def test_other_columns_and_shared_samples_are_refused():
    x, y, _ = problem(20, 2)
    (found,) = fit_ridge([Block(x)], y, penalties=1.0)
    with pytest.raises(InputError, match=r"have 3 columns; the regression was fitted to 2"):
        predict(found, [Block(np.zeros((1, 3)))])
    every = np.ones(20, bool)
    with pytest.raises(InputError, match="20 samples are both for training and for testing"):
        fit_predict([Block(x)], y, every, every)
