from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import CorruptError, InputError
from embedstore.tasks import TaskRecord
from probes import intervals, metrics
from probes.scores import Scores, load_scores, per_class, save_scores, undefined, undefined_note

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
    table = per_class(Scores(0.0, counts), tuple(map(str, range(classes))))
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


def test_areas_of_pooled_labels_golden() -> None:
    case = CASES["auprc_binary_with_ties"]
    np.testing.assert_allclose(metrics.auroc(column(case["y_true"]), column(case["y_score"])), [case["auroc"]], **CLOSE)
    for name, function in (("auroc_multilabel", metrics.auroc), ("auprc_multilabel_flattened", metrics.auprc)):
        case = CASES[name]
        flat = (np.ravel(case[key]).astype(float)[:, None] for key in ("y_true", "y_score"))
        np.testing.assert_allclose(function(*flat), [case["flattened"]], **CLOSE)


@pytest.mark.parametrize("case", ["r2", "r2_negative"])
def test_r2_golden(case: str) -> None:
    values = metrics.r2(column(CASES[case]["y_true"]), column(CASES[case]["y_pred"]))
    np.testing.assert_allclose(values, [CASES[case]["value"]], **CLOSE)


def test_correlations_golden() -> None:
    case = CASES["r2"]
    values = metrics.correlation(column(case["y_true"]), column(case["y_pred"]))
    np.testing.assert_allclose(values, [case["pearson"]], **CLOSE)
    np.testing.assert_allclose(values**2, [case["pearson_squared"]], **CLOSE)
    for name in ("spearman_with_ties", "spearman_no_ties", "spearman_constant"):
        case = CASES[name]
        expected = np.array([case["value"]], float)
        for x, y in (("x", "y"), ("y", "x")):
            values = metrics.correlation(column(case[x]), column(case[y]), "spearman")
            np.testing.assert_allclose(values, expected, **CLOSE)


def test_every_golden_case_is_used() -> None:
    source = Path(__file__).read_text()
    assert [name for name in CASES if f'"{name}"' not in source] == []


def test_table_of_classes_is_scikit_learns_report() -> None:
    rng = np.random.default_rng(6)
    true, said = rng.integers(0, 4, (2, 300))
    said[said == 3] = 2  # one class is never predicted
    names = ("a", "b", "c", "d")
    counts = metrics.confusions(np.arange(300) // 60, true, said, 5, 4)
    table = per_class(Scores(0.0, counts), names).set_index("name")
    report = sklearn.metrics.classification_report(
        true, said, target_names=names, output_dict=True, zero_division=np.nan
    )
    for name in names:
        assert table.loc[name, "n"] == report[name]["support"]
        for column_, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            np.testing.assert_allclose(table.loc[name, column_], report[name][key], rtol=1e-12)
    assert np.isnan(table.loc["d", "precision"])
    assert table["predicted"].tolist() == np.bincount(said, minlength=4).tolist()


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
    for kind in ("pearson", "spearman"):
        assert np.isnan(metrics.correlation(target, np.zeros((4, 3)), kind)).all()
        assert np.isnan(metrics.correlation(np.arange(4.0)[:, None], np.ones((4, 1)), kind)).all()
    assert np.isnan(metrics.mcc(np.zeros((3, 3))))
    assert np.isnan(metrics.mean_defined(np.full(3, np.nan)))
    np.testing.assert_array_equal(metrics.base_rate(target), [0, 1, np.nan])


def test_tables_per_target() -> None:
    rng = np.random.default_rng(2)
    target, score = (rng.random((60, 2)) < 0.4).astype(np.float32), rng.normal(size=(60, 2)).astype(np.float32)
    target[:10, 1] = np.nan
    table = per_class(Scores(0.0, None, np.arange(60), target, score), ("a", "b"))
    assert table["name"].tolist() == ["a", "b"]
    assert table["n"].tolist() == [60, 50]
    assert table["positives"].tolist() == [target[:, 0].sum(), target[10:, 1].sum()]
    np.testing.assert_allclose(table["auroc"], metrics.auroc(target, score))
    np.testing.assert_allclose(table["base_rate"], table["positives"] / table["n"])
    values = rng.normal(size=(60, 1)).astype(np.float32)
    table = per_class(Scores(0.0, None, np.arange(60), values, values + 0.5), ("value",))
    np.testing.assert_allclose(table["rmse"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(table[["pearson", "spearman"]], 1, rtol=1e-6)


def test_a_metric_that_does_not_fit_is_refused() -> None:
    record = TaskRecord(name="x", level="sequence", type="class", names=("a", "b"), metric="auroc")
    with pytest.raises(InputError, match="'x' is of type 'class' and has the metric 'auroc'; probes compute mcc"):
        metrics.check_metric(record)


def test_a_metric_of_other_scores_is_refused() -> None:
    classes, values = Scores(0.0, np.ones((2, 3, 3), int)), Scores(0.0, None, *np.zeros((3, 2, 1)))
    for function in (metrics.per_target, intervals.bootstrap):
        with pytest.raises(InputError, match="auroc needs a score of every position; these scores are of a task of cl"):
            function("auroc", classes)
        with pytest.raises(InputError, match="mcc needs a task of classes; these scores have none"):
            function("mcc", values)
        with pytest.raises(InputError, match="exon_f1 needs a task of exons; these scores have none"):
            function("exon_f1", classes)
        with pytest.raises(InputError, match="no metric 'aurok'. Did you mean 'auroc'?"):
            function("aurok", values)


# ---- what is said of targets that are not defined


def test_targets_that_are_not_defined_are_named() -> None:
    target = np.tile([[0, 1, np.nan, 0]], (6, 1)).astype(np.float32)
    target[:3, 3] = 1
    scores = Scores(0.0, None, np.arange(6), target, np.zeros_like(target))
    names = ("never", "always", "unlabelled", "both")
    assert undefined("auroc", scores, names) == ["never", "always", "unlabelled"]
    assert undefined_note("auroc", scores, names, shown=2) == (
        "auroc is not defined for 3 of 4, whose labels are all alike or missing; its mean leaves them out: never, "
        "always and 1 more"
    )
    assert undefined_note("auroc", scores, names).endswith("out: never, always, unlabelled")
    confusion = np.zeros((2, 4, 4), int)
    assert undefined("mcc", Scores(0.0, confusion), names) == list(names)
    confusion[0, 1, 1] = 1
    assert undefined_note("mcc", Scores(0.0, confusion), names) == ""


# ---- scores on disk


@pytest.mark.parametrize("kind", ["classes", "targets", "nothing"])
def test_scores_come_back_to_the_bit(kind: str, tmp_path) -> None:
    rng = np.random.default_rng(7)
    scores = {
        "classes": Scores(1 / 3, rng.integers(0, 9, (4, 3, 3)), exons=np.arange(32).reshape(4, 8)),
        "targets": Scores(
            float("nan"),
            None,
            np.arange(5),
            np.array([[0, 1, np.nan]] * 5, np.float32),
            rng.normal(size=(5, 3)).astype(np.float32),
            calibration=rng.random((15, 3)),
        ),
        "nothing": Scores(0.0),
    }[kind]
    save_scores(tmp_path / "scores.npz", scores)
    again = load_scores(tmp_path / "scores.npz")
    for one, other in zip(scores, again, strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(one, other)
        if one is not None and not isinstance(one, float):
            assert one.dtype == other.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npz"]


def test_files_that_hold_no_scores(tmp_path) -> None:
    path = tmp_path / "scores.npz"
    save_scores(path, Scores(0.0, np.ones((2, 3, 3), int)))
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", a=1)
    np.savez(tmp_path / "more.npz", loss=1.0, a=1)
    np.save(tmp_path / "one.npy", np.zeros(3))
    contents = [b"", b"no scores", whole[:-30], whole[:100] + b"?" + whole[101:]]
    contents += [(tmp_path / name).read_bytes() for name in ("other.npz", "more.npz", "one.npy")]
    for bad in contents:
        path.write_bytes(bad)
        with pytest.raises(CorruptError, match=r"scores.npz: not the scores of a probe, or damaged .*run the probe"):
            load_scores(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            again = load_scores(path)
        except CorruptError:
            continue
        assert again.loss == 0  # a byte that says nothing of the numbers, such as the time
        np.testing.assert_array_equal(again.confusion, np.ones((2, 3, 3), int))
    with pytest.raises(FileNotFoundError):
        load_scores(tmp_path / "nothing.npz")


# ---- intervals


def drawn(copies: np.ndarray, sample: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays with each sample's positions repeated as often as it was drawn."""
    return [np.repeat(array, copies[sample].astype(int), axis=0) for array in arrays]


OF_CLASSES = {"mcc": sklearn.metrics.matthews_corrcoef, "accuracy": sklearn.metrics.accuracy_score}


@pytest.mark.parametrize("metric", [*OF_CLASSES, "auroc", "auprc", "r2", "pearson", "spearman"])
def test_every_draw_is_the_metric_of_the_drawn_samples(metric: str, monkeypatch) -> None:
    monkeypatch.setattr(intervals, "_ELEMENTS", 700)  # several chunks of draws
    rng = np.random.default_rng(3)
    sample = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    n = len(sample)
    if metric in OF_CLASSES:
        true, said = rng.integers(0, 3, n), rng.integers(0, 3, n)
        scores = Scores(0.0, metrics.confusions(sample, true, said, 12, 3))
    else:
        binary = metric in ("auroc", "auprc")
        target = (rng.random((n, 2)) < 0.4).astype(float) if binary else np.round(rng.normal(size=(n, 2)), 1)
        target[rng.random((n, 2)) < 0.2] = np.nan
        score = np.round(rng.normal(size=(n, 2)), 1)  # with ties
        target[:, 1] = np.where(sample < 2, target[:, 1], np.nan)  # undefined where samples 0 and 1 are not drawn
        scores = Scores(0.0, None, sample, target.astype(np.float32), score.astype(np.float32))
    draws = intervals.bootstrap(metric, scores, draws=40, seed=5)
    again = np.random.default_rng(5)
    defined = 0
    for value in draws:
        copies = np.bincount(again.integers(0, 12, 12), minlength=12)
        if metric in OF_CLASSES:
            expected = OF_CLASSES[metric](*drawn(copies, sample, true, said))
        else:
            per_target = metrics.per_target(
                metric, Scores(0.0, None, None, *drawn(copies, sample, scores.target, scores.score))
            )
            expected = metrics.mean_defined(per_target)
            defined += int(np.isnan(per_target).any())
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    assert metric in OF_CLASSES or 0 < defined < 40


def test_a_constant_prediction_has_no_rank_correlation_and_no_interval() -> None:
    scores = Scores(0.0, None, np.arange(6), np.arange(6.0)[:, None], np.full((6, 1), 0.3))
    assert np.isnan(metrics.per_target("spearman", scores)).all()
    draws = intervals.bootstrap("spearman", scores, draws=20)
    assert np.isnan(draws).all()
    assert np.isnan(intervals.interval(draws)).all()
    assert undefined_note("spearman", scores, ("value",)) == (
        "spearman is not defined for 1 of 1, whose labels or predictions are all alike or missing; its mean leaves "
        "them out: value"
    )


def test_accuracy_is_over_all_labelled_positions_of_all_samples() -> None:
    """Micro: a long protein counts for more than a short one, and a masked residue for nothing."""
    sample, true, said = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 1, 1, -100, 0, 2]), np.array([1, 1, 1, 1, 1, 1])
    scores = Scores(0.0, metrics.confusions(sample, true, said, 2, 3))
    np.testing.assert_array_equal(metrics.per_target("accuracy", scores), [3 / 5])
    np.testing.assert_array_equal(metrics.accuracy(scores.confusion), [1, 0])
    assert np.isnan(metrics.accuracy(np.zeros((3, 3))))


def test_spearman_does_not_see_scale_but_r2_does() -> None:
    rng = np.random.default_rng(7)
    target = rng.normal(size=(50, 1))
    for metric, same in (("spearman", True), ("pearson", True), ("r2", False)):
        values = [
            metrics.per_target(metric, Scores(0.0, None, np.arange(50), target, score))[0]
            for score in (target + 0.1, 3 * target + 5)
        ]
        assert np.isclose(*values) == same


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


@pytest.mark.parametrize("metric", ["auroc", "auprc"])
def test_draws_are_those_of_many_scores_in_double_precision(metric: str, monkeypatch) -> None:
    rng = np.random.default_rng(8)
    target = (rng.random((400, 1)) < 0.3).astype(np.float32)
    scores = Scores(0.0, None, np.arange(400) // 4, target, np.round(target + rng.normal(size=(400, 1)), 1))
    draws = intervals.bootstrap(metric, scores, draws=50)
    monkeypatch.setattr(intervals, "_EXACT", 0)
    np.testing.assert_array_equal(intervals.bootstrap(metric, scores, draws=50), draws)


@pytest.mark.parametrize("metric", ["auroc", "auprc"])
@pytest.mark.parametrize("rare", [0, 1])
def test_draws_of_one_label_only_are_not_defined(metric: str, rare: int) -> None:
    target = np.full((6, 1), 1 - rare, np.float32)
    target[2] = rare
    draws = intervals.bootstrap(metric, Scores(0.0, None, np.arange(6), target, target + 1), draws=60, seed=2)
    rng = np.random.default_rng(2)
    drawn = [2 in (kept := rng.integers(0, 6, 6)) and set(kept) != {2} for _ in range(60)]
    np.testing.assert_array_equal(draws, np.where(drawn, 1.0, np.nan))


def test_draws_are_the_same_however_many_are_made_at_once(monkeypatch) -> None:
    scores = Scores(0.0, np.random.default_rng(9).integers(0, 5, (30, 3, 3)))
    draws = intervals.bootstrap("mcc", scores, draws=70)
    monkeypatch.setattr(intervals, "_AT_ONCE", 3)
    np.testing.assert_array_equal(intervals.bootstrap("mcc", scores, draws=70), draws)
    np.testing.assert_array_equal(intervals.bootstrap("mcc", scores, draws=20), draws[:20])
    assert (intervals.bootstrap("mcc", scores, draws=70, seed=1) != draws).mean() > 0.9
    monkeypatch.setattr(intervals, "_ELEMENTS", 100)  # bounds the memory of many positions
    assert [part.shape for part in intervals._copies(5, 30, 0, 45)] == [(2, 30), (2, 30), (1, 30)]
    assert [len(part) for part in intervals._copies(2, 30, 0, 450)] == [1, 1]


def test_intervals_over_samples_hold_the_truth_as_often_as_they_say() -> None:
    """Positions of a sample are alike: each sample has its own share of right ones. MCC is 2 x 0.8 - 1 on average."""
    rng = np.random.default_rng(10)
    samples, each, data = 100, 20, 300
    held = {"samples": 0, "positions": 0}
    for _ in range(data):
        sample = np.repeat(np.arange(samples), each)
        true = np.tile([0, 1], samples * each // 2)
        said = np.where(rng.random(len(true)) < rng.beta(8, 2, samples)[sample], true, 1 - true)
        for unit, owner in (("samples", sample), ("positions", np.arange(len(true)))):
            counts = metrics.confusions(owner, true, said, int(owner[-1]) + 1, 2)
            low, high = intervals.interval(intervals.bootstrap("mcc", Scores(0.0, counts), draws=200))
            held[unit] += low < 0.6 < high
    assert 0.91 < held["samples"] / data < 0.98
    assert held["positions"] / data < 0.85


def test_intervals_of_an_area_hold_the_truth_as_often_as_they_say() -> None:
    """Two normal distributions one standard deviation apart: the area is that of the normal below 1 / sqrt(2)."""
    rng = np.random.default_rng(11)
    data, held = 200, 0
    for _ in range(data):
        target = np.repeat([[0.0], [1.0]], 60, axis=0).astype(np.float32)
        score = (target + rng.normal(size=target.shape)).astype(np.float32)
        draws = intervals.bootstrap("auroc", Scores(0.0, None, np.arange(120), target, score), draws=200)
        low, high = intervals.interval(draws)
        held += low < 0.760250 < high
    assert 0.90 < held / data < 0.985


def test_nothing_defined_has_no_interval() -> None:
    scores = Scores(0.0, None, np.arange(4), np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32))
    draws = intervals.bootstrap("auroc", scores, draws=10)
    assert np.isnan(draws).all()
    assert np.isnan(intervals.interval(draws)).all()
