"""Measures against hand-computed vectors, scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from analysis.melting_point.measures import measures, partial_r2, r2_about, species_means
from embedstore.errors import InputError, NonFiniteError


def test_hand_computed():
    """Errors 1, 0, -1, 2: sum of squares 6; about the mean 25, labels deviate by -5, -3, 3, 5: 68."""
    found = measures([20, 22, 28, 30], [19, 22, 29, 28], train_mean=26, species_mean=[21, 21, 29, 29])
    assert found.r2 == pytest.approx(1 - 6 / 68)
    assert found.r2_oos == pytest.approx(1 - 6 / 72)  # about 26: 36 + 16 + 4 + 16
    assert found.r2_within == pytest.approx(1 - 6 / 4)
    assert found.mae == pytest.approx(1.0)
    assert found.rmse == pytest.approx(np.sqrt(1.5))
    assert found.spearman == pytest.approx(0.8)  # ranks 1 2 4 3: 1 - 6 * 2 / 60
    assert (found.n, found.flag) == (4, "")


def test_equal_to_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    y = rng.normal(50, 8, 300).round()  # ties
    said = y + rng.normal(0, 5, 300).round()
    found = measures(y, said, train_mean=49.0)
    assert found.r2 == pytest.approx(r2_score(y, said))
    assert found.r2_pearson == pytest.approx(pearsonr(y, said).statistic ** 2)
    assert found.spearman == pytest.approx(spearmanr(y, said).statistic)
    assert found.mae == pytest.approx(mean_absolute_error(y, said))
    assert found.rmse == pytest.approx(root_mean_squared_error(y, said))
    assert np.isnan(found.r2_within)


@given(st.floats(-30, 30).filter(lambda shift: abs(shift) > 0.1), st.floats(0.2, 3).filter(lambda f: abs(f - 1) > 0.05))
def test_shift_and_factor_change_r2_and_not_the_correlations(shift, factor):
    rng = np.random.default_rng(1)
    y = rng.normal(50, 8, 50)
    said = y + rng.normal(0, 3, 50)
    # Of the best linear prediction any change is for the worse.
    said = np.polyval(np.polyfit(said, y, 1), said)
    plain, moved = measures(y, said), measures(y, factor * said + shift)
    assert moved.r2 < plain.r2
    assert plain.r2 == pytest.approx(plain.r2_pearson)
    assert moved.r2_pearson == pytest.approx(plain.r2_pearson)
    assert moved.spearman == pytest.approx(plain.spearman)


def test_a_constant_prediction_has_no_rank_correlation():
    found = measures([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert np.isnan(found.spearman)
    assert np.isnan(found.r2_pearson)
    assert found.flag == "constant prediction"
    assert found.r2 == 0


def test_labels_that_are_alike_and_single_samples():
    found = measures([2.0, 2.0], [1.0, 2.0])
    assert np.isnan(found.r2)
    assert (found.flag, found.mae) == ("constant labels", 0.5)
    one = measures([2.0], [1.0])
    assert (one.flag, one.mae, one.n) == ("fewer than 2 samples", 1.0, 1)
    assert np.isnan(one.r2)
    none = measures([], [])
    assert np.isnan(none.rmse)


def test_the_mean_of_each_species_scores_0_within():
    """However much of the total it explains."""
    rng = np.random.default_rng(0)
    species = np.array(list("abc"))[np.arange(3000) % 3]
    y = np.array([40.0, 50.0, 80.0])[np.arange(3000) % 3] + rng.normal(size=3000)
    train = np.arange(3000) < 2000
    means = species_means(y, species, train)
    found = measures(y[~train], means[~train], species_mean=means[~train])
    assert found.r2 > 0.99
    assert found.r2_within == 0
    np.testing.assert_allclose(means[:3], [y[train & (species == name)].mean() for name in "abc"])


def test_partial_r2_by_hand():
    assert partial_r2([1.0, 2.0], [0.0, 0.0], [1.0, 1.0]) == pytest.approx(1 - 1 / 5)
    assert np.isnan(partial_r2([1.0], [1.0], [0.0]))
    # A ratio of partial R2: (R2_full - R2_reduced) / (1 - R2_reduced).
    rng = np.random.default_rng(0)
    y, reduced, full = rng.normal(size=(3, 40))
    wanted = (r2_score(y, full) - r2_score(y, reduced)) / (1 - r2_score(y, reduced))
    assert partial_r2(y, reduced, full) == pytest.approx(wanted)


def test_what_is_not_a_prediction_is_refused():
    with pytest.raises(InputError, match=r"labels are \(2,\) and predictions \(3,\)"):
        measures([1, 2], [1, 2, 3])
    with pytest.raises(NonFiniteError, match="1 of 2 predictions are not finite"):
        r2_about([1, 2], [1, np.nan], 0)
    with pytest.raises(NonFiniteError, match="2 of 2 labels are not finite"):
        partial_r2([np.inf, np.nan], [1, 2], [1, 2])
    with pytest.raises(InputError, match="no training sample"):
        species_means([1.0], ["a"], np.array([False]))
