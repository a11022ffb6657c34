from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.tasks import TaskRecord
from probes import intervals, metrics
from probes.metrics import Scores

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics" / "metrics.json").read_text())
CASES = GOLDEN["cases"]
CLOSE = {"atol": GOLDEN["tolerance_abs"], "rtol": 0}


def column(values: list[float]) -> np.ndarray:
    return np.array(values, float)[:, None]


@pytest.mark.parametrize("case", ["mcc_multiclass", "mcc_constant_prediction", "mcc_binary"])
def test_mcc_golden(case: str) -> None:
    true, said = np.array(CASES[case]["y_true"]), np.array(CASES[case]["y_pred"])
    classes = int(max(true.max(), said.max())) + 1
    counts = metrics.confusions(np.zeros_like(true), true, said, 1, classes)
    np.testing.assert_allclose(metrics.mcc(counts[0]), CASES[case]["value"], **CLOSE)
    table = metrics.per_class(Scores(0.0, counts), tuple(map(str, range(classes))))
    if "recall_per_class" in CASES[case]:
        np.testing.assert_allclose(table["recall"], CASES[case]["recall_per_class"], **CLOSE)
        np.testing.assert_allclose(table["precision"], CASES[case]["precision_per_class"], **CLOSE)
        np.testing.assert_allclose(table["f1"].mean(), CASES[case]["f1_macro"], **CLOSE)


@pytest.mark.parametrize(
    "case", ["auroc_multilabel_with_constant_label", "auroc_multilabel_two_constant_labels", "auroc_multilabel"]
)
def test_auroc_golden(case: str) -> None:
    values = metrics.auroc(np.array(CASES[case]["y_true"], float), np.array(CASES[case]["y_score"]))
    np.testing.assert_allclose(values, np.array(CASES[case]["per_label"], float), **CLOSE)
    mean = CASES[case].get("mean_over_defined_labels", CASES[case].get("macro"))
    np.testing.assert_allclose(metrics.mean_defined(values), mean, **CLOSE)


def test_auprc_golden() -> None:
    case = CASES["auprc_binary_with_ties"]
    values = metrics.auprc(column(case["y_true"]), column(case["y_score"]))
    np.testing.assert_allclose(values, [case["value"]], **CLOSE)
    case = CASES["auprc_multilabel_flattened"]
    values = metrics.auprc(np.array(case["y_true"], float), np.array(case["y_score"]))
    np.testing.assert_allclose(values, case["per_label"], **CLOSE)


@pytest.mark.parametrize("case", ["r2", "r2_negative"])
def test_r2_golden(case: str) -> None:
    values = metrics.r2(column(CASES[case]["y_true"]), column(CASES[case]["y_pred"]))
    np.testing.assert_allclose(values, [CASES[case]["value"]], **CLOSE)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_mcc_is_scikit_learns(pairs) -> None:
    true, said = np.array(pairs).T
    counts = metrics.confusions(np.zeros_like(true), true, said, 1, 4)[0]
    np.testing.assert_allclose(metrics.mcc(counts), sklearn.metrics.matthews_corrcoef(true, said), atol=1e-12)


def test_confusions_are_those_of_each_sample_and_skip_what_has_no_label() -> None:
    rng = np.random.default_rng(0)
    sample, true, said = np.repeat([0, 1, 2], 50), rng.integers(0, 3, 150), rng.integers(0, 3, 150)
    hidden = rng.random(150) < 0.3
    counts = metrics.confusions(sample, np.where(hidden, -100, true), said, 3, 3)
    for i in range(3):
        kept = (sample == i) & ~hidden
        assert (counts[i] == sklearn.metrics.confusion_matrix(true[kept], said[kept], labels=range(3))).all()


def test_unlabelled_entries_do_not_count() -> None:
    rng = np.random.default_rng(1)
    target, score = (rng.random((80, 2)) < 0.4).astype(float), rng.normal(size=(80, 2))
    longer = np.concatenate([target, np.full((40, 2), np.nan)]), np.concatenate([score, np.full((40, 2), 9.0)])
    for function in (metrics.auroc, metrics.auprc, metrics.r2):
        np.testing.assert_array_equal(function(*longer), function(target, score))
    np.testing.assert_allclose(metrics.base_rate(longer[0]), target.mean(axis=0))


def test_nothing_defined_is_nan_without_a_warning() -> None:
    target = np.array([[0.0, 1.0, np.nan]] * 4)
    for function in (metrics.auroc, metrics.auprc, metrics.r2):
        assert np.isnan(function(target, np.zeros((4, 3)))).all()
    assert np.isnan(metrics.mean_defined(np.full(3, np.nan)))
    np.testing.assert_array_equal(metrics.base_rate(target), [0, 1, np.nan])


def test_tables_per_target() -> None:
    rng = np.random.default_rng(2)
    target, score = (rng.random((60, 2)) < 0.4).astype(np.float32), rng.normal(size=(60, 2)).astype(np.float32)
    target[:10, 1] = np.nan
    table = metrics.per_class(Scores(0.0, None, np.arange(60), target, score), ("a", "b"))
    assert table["name"].tolist() == ["a", "b"]
    assert table["n"].tolist() == [60, 50]
    assert table["positives"].tolist() == [target[:, 0].sum(), target[10:, 1].sum()]
    np.testing.assert_allclose(table["auroc"], metrics.auroc(target, score))
    np.testing.assert_allclose(table["base_rate"], table["positives"] / table["n"])
    values = rng.normal(size=(60, 1)).astype(np.float32)
    table = metrics.per_class(Scores(0.0, None, np.arange(60), values, values + 0.5), ("value",))
    np.testing.assert_allclose(table["rmse"], 0.5, rtol=1e-5)


def test_a_metric_that_does_not_fit_is_refused() -> None:
    record = TaskRecord(name="x", level="sequence", type="class", names=("a", "b"), metric="auroc")
    with pytest.raises(InputError, match="'x' is of type 'class' and has the metric 'auroc'; probes compute mcc"):
        metrics.check_metric(record)


# ---- intervals


def drawn(copies: np.ndarray, sample: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays with each sample's positions repeated as often as it was drawn."""
    return [np.repeat(array, copies[sample].astype(int), axis=0) for array in arrays]


@pytest.mark.parametrize("metric", ["mcc", "auroc", "auprc", "r2"])
def test_every_draw_is_the_metric_of_the_drawn_samples(metric: str, monkeypatch) -> None:
    monkeypatch.setattr(intervals, "_ELEMENTS", 700)  # several chunks of draws
    rng = np.random.default_rng(3)
    sample = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    n = len(sample)
    if metric == "mcc":
        true, said = rng.integers(0, 3, n), rng.integers(0, 3, n)
        scores = Scores(0.0, metrics.confusions(sample, true, said, 12, 3))
    else:
        target = rng.normal(size=(n, 2)) if metric == "r2" else (rng.random((n, 2)) < 0.4).astype(float)
        target[rng.random((n, 2)) < 0.2] = np.nan
        score = np.round(rng.normal(size=(n, 2)), 1)  # with ties
        target[:, 1] = np.where(sample < 2, target[:, 1], np.nan)  # undefined where samples 0 and 1 are not drawn
        scores = Scores(0.0, None, sample, target.astype(np.float32), score.astype(np.float32))
    draws = intervals.bootstrap(metric, scores, draws=40, seed=5)
    again = np.random.default_rng(5)
    defined = 0
    for value in draws:
        copies = np.bincount(again.integers(0, 12, 12), minlength=12)
        if metric == "mcc":
            expected = sklearn.metrics.matthews_corrcoef(*drawn(copies, sample, true, said))
        else:
            per_target = metrics.per_target(
                metric, Scores(0.0, None, None, *drawn(copies, sample, scores.target, scores.score))
            )
            expected = metrics.mean_defined(per_target)
            defined += int(np.isnan(per_target).any())
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    assert metric == "mcc" or 0 < defined < 40


def test_interval_covers_and_widens_with_clusters() -> None:
    """Copies of one position in a sample carry no information: the interval must stay as wide."""
    rng = np.random.default_rng(4)
    true, said = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    once = metrics.confusions(np.arange(200), true, said, 200, 2)
    widths = []
    for copies in (1, 50):
        low, high = intervals.interval(intervals.bootstrap("mcc", Scores(0.0, once * copies), seed=1))
        assert low < metrics.mcc(once.sum(axis=0)) < high
        widths.append(high - low)
    np.testing.assert_allclose(widths[0], widths[1])
    # The large-sample standard error of a correlation of 0 is 1 / sqrt(n).
    assert 0.8 < widths[0] / (2 * 1.96 / np.sqrt(200)) < 1.2


def test_nothing_defined_has_no_interval() -> None:
    scores = Scores(0.0, None, np.arange(4), np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32))
    draws = intervals.bootstrap("auroc", scores, draws=10)
    assert np.isnan(draws).all()
    assert np.isnan(intervals.interval(draws)).all()
