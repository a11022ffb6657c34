"""Figures: what is drawn, read back from the artists; laying them out must not warn."""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from embedstore.errors import InputError
from embedstore.tasks import record
from probes import plots
from probes.calibration import calibration_counts

mpl.use("Agg")


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(ax) -> None:
    """Lay everything out; a warning would fail."""
    ax.figure.savefig("/dev/null", format="png")


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_confusion_shows_shares_of_the_true_class(ax):
    counts = np.array([[900, 99, 1], [0, 5, 5], [0, 0, 0]])
    assert plots.plot_confusion(counts, ("a", "b", "none"), ax) is ax
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in ax.texts}
    assert cells == {(0, 0): "90", (0, 1): "9.9", (0, 2): ".1", (1, 1): "50", (1, 2): "50"}
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array()[:2], [[0.9, 0.099, 0.001], [0, 0.5, 0.5]])
    assert image.get_array().mask[2].all()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a  (1,000)", "b  (10)", "none  (0)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "none"]
    dark = {text.get_text(): text.get_color() for text in ax.texts}
    assert (dark["90"], dark["9.9"]) == ("white", "black")
    drawn(ax)


def test_confusion_of_samples_is_added_up_and_nine_numbers_fit_their_cells():
    names = record("gene_finding").names
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 1000, (5, 9, 9)) * (1 + 50 * np.eye(9, dtype=int))
    ax = plots.plot_confusion(counts, names)
    np.testing.assert_allclose(ax.images[0].get_array(), counts.sum(axis=0) / counts.sum(axis=(0, 2))[:, None])
    drawn(ax)
    cell = ax.get_window_extent().width / 9, ax.get_window_extent().height / 9
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 81
    assert all(box.width < cell[0] and box.height < cell[1] for box in boxes)
    labels = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(one.overlaps(other) for i, one in enumerate(labels) for other in labels[:i])


def test_names_that_do_not_fit_a_confusion_matrix(ax):
    with pytest.raises(InputError, match=r"shape \(3, 3\) and 2 names: one name per class is wanted"):
        plots.plot_confusion(np.ones((3, 3)), ("a", "b"), ax)


@pytest.mark.parametrize(
    ("share", "text"), [(0.00001, "<.1"), (0.001, ".1"), (0.0994, "9.9"), (0.0996, "10"), (0.996, "100"), (1, "100")]
)
def test_percent_takes_three_characters(share, text):
    assert plots._percent(share) == text


def test_reliability_lines_and_share_bars():
    counts = calibration_counts([0.05, 0.95, 0.95, 0.95], [0, 1, 1, 0], bins=10)
    ax = plots.plot_reliability(counts, fewest=1)
    diagonal, line = ax.get_lines()
    np.testing.assert_allclose(line.get_xydata(), [[0.05, 0], [0.95, 2 / 3]])
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.25] + [0] * 8 + [0.75])
    plots.plot_reliability(calibration_counts([0.5], [1], bins=10), ax, label="second", fewest=1)
    assert len(ax.patches) == 10
    assert [one.get_label() for one in ax.get_lines()] == [
        "calibrated",
        "probe (ECE 0.225)",
        "second (ECE 0.500)",
    ]
    assert len({one.get_color() for one in ax.get_lines()}) == 3
    np.testing.assert_allclose(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert "share of all" in legend(ax)
    drawn(ax)


def test_reliability_of_nothing(ax):
    plots.plot_reliability(np.zeros((15, 3)), ax)
    assert "probe (ECE nan)" in legend(ax)
    drawn(ax)


def test_layers_are_sorted_and_the_best_is_ringed():
    table = pd.DataFrame(
        {"layer": [2, 0, 1, 0, 1], "test": [0.4, 0.1, 0.5, np.nan, 0.3], "model": list("aaabb")}
    ).assign(low=lambda t: t["test"] - 0.1, high=lambda t: t["test"] + 0.2)
    ax = plots.plot_layers(table, metric="MCC")
    lines = ax.get_lines()
    np.testing.assert_allclose(lines[0].get_xydata(), [[1, 0.5]])
    np.testing.assert_allclose(lines[1].get_xydata(), [[0, 0.1], [1, 0.5], [2, 0.4]])
    np.testing.assert_allclose(lines[2].get_xydata(), [[1, 0.3]])
    assert legend(ax) == ["a, best: layer 1", "b, best: layer 1"]
    band = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [0.0, 0.7])
    assert ax.get_ylabel() == "MCC (95 % interval)"
    assert all(float(tick).is_integer() for tick in ax.get_xticks())
    drawn(ax)


def test_layers_of_one_model_need_no_name(ax):
    table = pd.DataFrame({"layer": [0, 1], "test": [0.4, 0.3], "low": [0.3, 0.2], "high": [0.5, 0.4]})
    assert legend(plots.plot_layers(table, ax)) == ["best: layer 0"]


def results(models=("big", "small"), tasks=("genes", "cpg"), **columns) -> pd.DataFrame:
    rows = [(task, model, 0.1 * i + 0.3 * j) for i, task in enumerate(tasks) for j, model in enumerate(models)]
    table = pd.DataFrame(rows, columns=["task", "model", "test"]).assign(metric="mcc", **columns)
    return table.assign(low=table["test"] - 0.02, high=table["test"] + 0.05)


def dots(ax) -> dict[str, list]:
    return {bars.get_label(): bars.lines[0].get_xydata() for bars in ax.containers}


def test_results_are_dots_with_intervals():
    ax = plots.plot_results(results())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["big", "small"]
    found = dots(ax)
    assert list(found) == ["genes (mcc)", "cpg (mcc)"] == legend(ax)
    np.testing.assert_allclose(found["genes (mcc)"], [[0, -0.18], [0.3, 0.82]])
    np.testing.assert_allclose(found["cpg (mcc)"], [[0.1, 0.18], [0.4, 1.18]])
    segments = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in segments], [[-0.02, 0.05], [0.28, 0.35]])
    assert ax.yaxis_inverted()
    drawn(ax)


def test_probes_and_recipes_are_named_where_they_differ(ax):
    table = pd.concat([results(("m",), ("t",), probe="cnn", recipe=name) for name in ("bend", "best")])
    plots.plot_results(table, ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["m · bend", "m · best"]


def test_layers_without_a_defined_metric_have_no_best(ax):
    nothing = [np.nan, np.nan]
    table = pd.DataFrame({"layer": [0, 1], "test": nothing, "low": nothing, "high": nothing, "model": "a"})
    assert legend(plots.plot_layers(table, ax)) == ["a"]
    assert len(ax.get_lines()) == 1


def test_no_results_are_refused(ax):
    with pytest.raises(InputError, match="there are no results to draw"):
        plots.plot_results(results().iloc[:0], ax)


def test_two_results_in_one_place_are_refused(ax):
    table = pd.concat([results(), results(tasks=("cpg",), models=("small",))])
    with pytest.raises(InputError, match="small has several results on cpg: average seeds and folds, or choose one"):
        plots.plot_results(table, ax)


def test_a_table_as_large_as_bends_is_readable():
    models = [f"a_model_with_a_long_name_{i}" for i in range(13)]
    ax = plots.plot_results(results(models, record_names := (*record("gene_finding").names[:7],)))
    drawn(ax)
    labels = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(labels))
    whole = ax.figure.bbox
    for box in [*labels, ax.get_legend().get_window_extent()]:
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert box.y1 <= whole.y1
    seen = {(to_rgb(bars.lines[0].get_color()), bars.lines[0].get_marker()) for bars in ax.containers}
    assert len(seen) == len(record_names)


def test_bins_with_few_statements_are_left_out_of_the_line():
    counts = np.zeros((10, 3))
    counts[2], counts[9] = (20, 5, 6), (19, 18, 2)
    ax = plots.plot_reliability(counts)
    (line,) = (line for line in ax.get_lines() if line.get_gid() == "reliability")
    np.testing.assert_allclose(line.get_xydata(), [[0.25, 0.3]])


def test_the_layers_of_a_checkpoint_are_one_line_and_validation_chooses():
    table = pd.DataFrame(
        {
            "checkpoint": ["a"] * 4,
            "model": ["lm.1", "lm.2", "lm.mean", "lm"],
            "layer": [1, 2, np.nan, 3],
            "test": [0.1, 0.5, 0.9, 0.3],
            "low": 0.0,
            "high": 1.0,
            "valid": [0.1, 0.2, 0.9, 0.4],
        }
    )
    ax = plots.plot_layers(table)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["lm, best: layer 3"]
    assert ax.get_lines()[-1].get_xydata().tolist() == [[1, 0.1], [2, 0.5], [3, 0.3]]
    without = plots.plot_layers(table.drop(columns="valid"))
    assert [text.get_text() for text in without.get_legend().get_texts()] == ["lm, best: layer 2"]
