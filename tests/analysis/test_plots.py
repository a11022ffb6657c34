"""Figures: what is drawn, read back from the artists; nobody's eyes are needed for where a box begins."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis import plots
from embedstore.errors import InputError

mpl.use("Agg")

# A forward gene: exon, intron with both splice sites, exon; then, after a gap, the same on the reverse strand.
FORWARD = [8] * 10 + [0] * 20 + [1] + [2] * 28 + [3] + [0] * 15
REVERSE = [8] * 5 + [4] * 12 + [7] + [6] * 30 + [5] + [4] * 9 + [8] * 3
TRACK = np.array(FORWARD + REVERSE, np.int16)


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def boxes(ax, colour):
    """(left, right, bottom, top) of all drawn stretches of a colour, in drawing order."""
    found = []
    for collection in ax.collections:
        if to_hex(collection.get_facecolor()[0]) == colour.lower():
            for path in collection.get_paths():
                low, high = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append((low[0], high[0], round(low[1], 3), round(high[1], 3)))
    return found


def test_genes_are_drawn_where_they_are_on_their_strands(ax):
    assert plots.plot_gene_tracks({"truth": TRACK}, ax, start=1000, chromosome="chr7") is ax
    exons = boxes(ax, plots.COLOURS["blue"])
    assert [(left, right) for left, right, _, _ in exons] == [(1010, 1030), (1060, 1075), (1080, 1092), (1124, 1133)]
    assert [(top + bottom) / 2 for _, _, bottom, top in exons] == pytest.approx([-0.25] * 2 + [-0.65] * 2)
    assert [box[:2] for box in boxes(ax, plots.COLOURS["grey"])] == [(1031, 1059), (1093, 1123)]
    donors, acceptors = boxes(ax, plots.COLOURS["vermillion"]), boxes(ax, plots.COLOURS["green"])
    assert [box[:2] for box in donors] == [(1030, 1031), (1123, 1124)]
    assert [box[:2] for box in acceptors] == [(1059, 1060), (1092, 1093)]
    assert [box[2] for box in donors] == [-0.25, -0.65]  # up from the lane
    assert [box[3] for box in acceptors] == [-0.25, -0.65]  # down from it
    assert ax.get_xlim() == (1000, 1000 + len(TRACK))
    assert ax.get_xlabel() == "chr7 position"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["exon", "donor", "intron", "acceptor"]


def test_tracks_are_stacked_in_order_and_unlabelled_places_stay_empty(ax):
    plots.plot_gene_tracks({"one": TRACK, "two": np.full(len(TRACK), -100), "three": TRACK}, ax)
    middles = {(top + bottom) / 2 for _, _, bottom, top in boxes(ax, plots.COLOURS["blue"])}
    assert sorted(middles) == pytest.approx([-2.65, -2.25, -0.65, -0.25])
    labels = dict(zip((label.get_text() for label in ax.get_yticklabels()), ax.get_yticks(), strict=True))
    assert labels == pytest.approx({"one": -0.45, "two": -1.45, "three": -2.45})
    ax.figure.savefig("/dev/null", format="png")  # lays everything out; a warning would fail


@pytest.mark.parametrize(
    ("tracks", "said"),
    [
        ({}, "one or more"),
        ({"a": [8], "b": [8, 8]}, "one length"),
        ({"a": []}, "not empty"),
        ({"a": [0, 9]}, "'a' holds class 9"),
    ],
)
def test_tracks_that_cannot_be_drawn(tracks, said):
    with pytest.raises(InputError, match=said):
        plots.plot_gene_tracks(tracks)


@settings(max_examples=50)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_runs_tile_the_values_and_differ_from_their_neighbours(values):
    start, end, value = plots.runs(values)
    assert np.repeat(value, end - start).tolist() == values
    assert start[0] == 0
    assert (start[1:] == end[:-1]).all()
    assert (value[1:] != value[:-1]).all()


def test_probabilities_add_up_both_strands(ax):
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(9), size=30)
    assert plots.plot_class_probabilities(probability, ax, start=50) is ax
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"exon", "intron", "donor", "acceptor"}
    np.testing.assert_array_equal(lines["exon"].get_xdata(), np.arange(50, 80))
    np.testing.assert_allclose(lines["exon"].get_ydata(), probability[:, 0] + probability[:, 4])
    np.testing.assert_allclose(lines["donor"].get_ydata(), probability[:, 1] + probability[:, 5])
    with pytest.raises(InputError, match=r"\(30, 8\)"):
        plots.plot_class_probabilities(probability[:, :8])


def test_bars_have_the_numbers_and_intervals_of_the_table(ax):
    table = pd.DataFrame({"model": ["a", "b"], "value": [0.8, -0.1], "low": [0.7, -0.2], "high": [0.85, 0.05]})
    assert plots.plot_metric_bars(table, ax, metric="AUROC") is ax
    assert [bar.get_width() for bar in ax.patches] == [0.8, -0.1]
    assert [text.get_text() for text in ax.texts] == ["0.800", "-0.100"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    (errors,) = ax.containers[1][2]
    np.testing.assert_allclose([segment[:, 0] for segment in errors.get_segments()], table[["low", "high"]])
    assert ax.get_xlim()[0] < -0.2
    assert ax.get_xlabel().startswith("AUROC")


def test_a_figure_is_saved_with_its_numbers(tmp_path):
    figure = Figure()
    figure.subplots().plot([1, 2])
    table = pd.DataFrame({"x": [1, 2], "y": [0.5, 0.25]})
    path = plots.save_figure(figure, tmp_path / "deep" / "one.png", table)
    assert path.read_bytes().startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deep" / "one.csv"), table)


def test_without_axes_a_new_figure_is_made():
    from matplotlib import pyplot as plt

    bars = pd.DataFrame({"model": ["a"], "value": [0.5], "low": [0.4], "high": [0.6]})
    drawn = [
        plots.plot_gene_tracks({"truth": TRACK}),
        plots.plot_class_probabilities(np.eye(9)),
        plots.plot_metric_bars(bars),
    ]
    assert len({id(axes.figure) for axes in drawn}) == 3
    for axes in drawn:
        plt.close(axes.figure)
