"""Calibration, against scikit-learn's calibration curve, a closed form and planted miscalibration."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from embedstore.errors import InputError
from probes.calibration import calibration_counts, calibration_table, expected_calibration_error


def test_curve_is_scikit_learns_and_batches_add_up():
    rng = np.random.default_rng(0)
    stated = np.concatenate([rng.random(500), [0, 0.2, 0.4, 1]])  # with ends of bins
    right = rng.random(len(stated)) < stated**2
    counts = calibration_counts(stated, right, bins=10)
    share, mean = calibration_curve(right, stated, n_bins=10)
    table = calibration_table(counts)
    assert (table["n"] > 0).all()
    np.testing.assert_allclose(table["right"], share, rtol=1e-12)
    np.testing.assert_allclose(table["stated"], mean, rtol=1e-12)
    np.testing.assert_allclose(table[["low", "high"]], np.stack([np.arange(10) / 10, np.arange(1, 11) / 10], axis=1))
    parts = sum(calibration_counts(stated[part], right[part], bins=10) for part in (slice(0, 200), slice(200, None)))
    np.testing.assert_allclose(parts, counts, rtol=1e-12)


def test_error_is_the_planted_one():
    # 0.9 where half are right, 0.3 where seven of ten are: off by 0.4, too sure and not sure enough.
    stated = np.repeat([0.9, 0.3], 1000)
    right = np.concatenate([np.arange(1000) % 2, np.arange(1000) % 10 < 7])
    assert expected_calibration_error(calibration_counts(stated, right)) == pytest.approx(0.4)


def test_calibrated_statements_have_no_error_beyond_chance():
    rng = np.random.default_rng(1)
    stated = rng.random(200_000)
    error = expected_calibration_error(calibration_counts(stated, rng.random(200_000) < stated))
    # Mean of |normal| with the standard error of 13,000 statements of mean variance 1/6, at most.
    assert 0 < error < 0.8 * np.sqrt(0.25 / (200_000 / 15)) * 1.5


def test_nothing_stated_is_not_defined():
    counts = calibration_counts(np.empty((0, 3), np.float32), np.empty((0, 3), bool))
    assert counts.shape == (15, 3)
    assert np.isnan(expected_calibration_error(counts))
    assert calibration_table(counts)[["stated", "right"]].isna().all(axis=None)


def test_a_probability_a_little_above_one_by_rounding_is_taken():
    assert calibration_counts(np.array([1.0000001], np.float32), [1])[-1, 0] == 1


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(InputError, match=f"1 of 2 probabilities are not within 0 and 1; the first is {bad}.*sigmoid"):
        calibration_counts([0.5, bad], [0, 1])


def test_a_statement_without_its_label_is_refused():
    with pytest.raises(InputError, match="3 probabilities, but 2 labels: each needs its own"):
        calibration_counts([0.5] * 3, [0, 1])
