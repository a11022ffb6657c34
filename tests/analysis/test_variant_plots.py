"""Figures of variant scores: what is drawn, read back from the artists."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from analysis import variant_plots as plots
from analysis.plots import COLOURS
from analysis.variant_distributions import plot_score_distributions
from analysis.variant_tables import score_table
from embedstore.errors import InputError

mpl.use("Agg")


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def scores():
    """Positives of one kind, negatives of two others."""
    rng = np.random.default_rng(1)
    kind = np.repeat(["donor", "silent", "far"], [40, 60, 50])
    label = (kind == "donor").astype(int)
    return pd.DataFrame(
        {"cosine": rng.normal(size=150) + 1.5 * label - 0.5 * (kind == "far"), "label": label, "consequence": kind}
    )


def mixed():
    """Both labels in two kinds, one of them with few; some rows without label or score."""
    table = scores()
    table["label"] = table["label"].astype(float)
    table.loc[45:70, "label"] = 1
    table.loc[100:102, "label"] = 1
    table.loc[110:114, "label"] = np.nan
    table.loc[[0, 50], "cosine"] = np.nan
    return table


def draws(axes):
    """A picture, so that what only fails in drawing fails."""
    axes.figure.savefig("/dev/null", format="png")


def curves(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- ROC -----------------------------------------------------------------------------------------


def test_roc_curves_against_each_kind_of_control(ax):
    table = scores()
    assert plots.plot_roc(table, ax, controls=True) is ax
    lines = curves(ax)
    assert len(lines) == 2
    for control, negatives in (("far", 50), ("silent", 60)):
        kept = table[table["consequence"].isin(["donor", control])]
        area = roc_auc_score(kept["label"], kept["cosine"])
        line = lines[f"against {control}: {area:.3f} (40 / {negatives})"]
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(area)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines.values()}) == 2
    draws(ax)


def test_roc_curves_are_those_of_the_table(ax):
    table = mixed()
    plots.plot_roc(table, ax)
    found = score_table(table, by="consequence", draws=2).set_index("group")
    areas = {name.split(":")[0]: np.trapezoid(line.get_ydata(), line.get_xdata()) for name, line in curves(ax).items()}
    assert areas["silent"] == pytest.approx(found.loc["silent", "auroc"])
    assert areas["donor against all"] == pytest.approx(found.loc["donor", "auroc"])
    too_few = [name for name in curves(ax) if "too few" in name]
    positives, negatives = found.loc["far", ["positives", "negatives"]]
    assert too_few == [f"far: too few ({positives} / {negatives})"]
    assert positives == 3
    assert len(curves(ax)[too_few[0]].get_xdata()) == 0
    assert texts(ax) == list(curves(ax))
    three = plots.plot_roc(table, Figure().subplots(), least=3)
    assert texts(three)[1].startswith("far: 0.")


def test_groups_without_labels_have_no_line_in_the_legend(ax):
    other = mixed().head(20).assign(consequence="unknown", label=np.nan)
    plots.plot_roc(pd.concat([mixed(), other], ignore_index=True), ax)
    assert texts(ax) == texts(plots.plot_roc(mixed(), Figure().subplots()))


def test_one_roc_curve_of_all_and_the_direction_of_a_score(ax):
    table = scores().assign(inner_product=lambda t: -t["cosine"], mine=lambda t: t["cosine"])
    area = roc_auc_score(table["label"], table["cosine"])
    assert texts(plots.plot_roc(table, ax, by=None)) == [f"all: {area:.3f} (40 / 110)"]
    assert texts(plots.plot_roc(table, Figure().subplots(), column="inner_product", by=None)) == texts(ax)
    turned = plots.plot_roc(table, Figure().subplots(), column="mine", by=None, directions={"mine": -1})
    assert texts(turned) == [f"all: {1 - area:.3f} (40 / 110)"]


def test_many_curves_have_their_legend_beside_them():
    table = pd.concat([scores().assign(consequence=f"kind_{i}") for i in range(9)])
    axes = plots.plot_roc(table)
    axes.figure.canvas.draw()
    legend, box = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 > box.x1
    assert legend.x1 < axes.figure.get_window_extent().x1
    assert len({(line.get_color(), line.get_linestyle()) for line in curves(axes).values()}) == 9


@pytest.mark.parametrize("by", [None, "consequence"])
def test_the_legend_of_few_curves_hides_nothing(by):
    """Curves may lie anywhere within the axes."""
    axes = plots.plot_roc(scores(), by=by)
    axes.figure.canvas.draw()
    assert axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1
    assert axes.get_legend().get_window_extent().x1 < axes.figure.get_window_extent().x1


# ---- distributions -------------------------------------------------------------------------------


def boxes(ax):
    """(colour, quartiles) of each box from bottom to top."""
    found = []
    for box in ax.patches:
        points = box.get_path().vertices
        found.append((points[:, 1].mean(), to_hex(box.get_facecolor()), points[:, 0].min(), points[:, 0].max()))
    return sorted(found)


def test_distributions_are_ordered_and_splice_variants_filled(ax):
    table = scores()
    assert plot_score_distributions(table, ax) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == ["far (50)", "silent (60)", "donor (40)"]
    assert [box[1] for box in boxes(ax)] == ["#ffffff", "#ffffff", COLOURS["vermillion"].lower()]
    medians = [
        line.get_xdata()[0]
        for line in ax.get_lines()
        if line.get_color() == "black" and len(set(line.get_xdata())) == 1
    ]
    for (_, _, low, high), name in zip(boxes(ax), ["far", "silent", "donor"], strict=True):
        values = table.loc[table["consequence"] == name, "cosine"]
        assert (low, high) == pytest.approx(tuple(values.quantile([0.25, 0.75])))
        assert any(median == pytest.approx(values.median()) for median in medians), name
    assert ax.get_xlabel() == "cosine distance at the variant"
    assert texts(ax) == ["label 1", "label 0"]
    draws(ax)


def test_a_group_has_a_box_for_each_label(ax):
    table = mixed().assign(consequence=lambda t: t["consequence"].replace("silent", None))
    plot_score_distributions(table, ax)
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(shown) == ["donor (39)", "far (3 + 42 + 5)", "not given (25 + 34)"]
    assert texts(ax) == ["label 1", "label 0", "no label"]
    place = shown.index("far (3 + 42 + 5)")
    three = [box for box in boxes(ax) if round(box[0]) == place + 1]
    assert [box[1] for box in three] == ["#cccccc", "#ffffff", COLOURS["vermillion"].lower()]
    far = table[(table["consequence"] == "far") & (table["label"] == 0)]["cosine"]
    assert three[1][2:] == pytest.approx(tuple(far.quantile([0.25, 0.75])))


def test_distributions_need_no_labels(ax):
    plot_score_distributions(scores().drop(columns="label"), ax)
    assert {box[1] for box in boxes(ax)} == {"#cccccc"}
    assert ax.get_legend() is None
    with pytest.raises(InputError, match="no variant has a score in 'cosine'"):
        plot_score_distributions(scores().assign(cosine=np.nan))


# ---- distance ------------------------------------------------------------------------------------


def near(n=400, seed=3):
    rng = np.random.default_rng(seed)
    distance = np.round(rng.standard_cauchy(n) * 15)
    table = pd.DataFrame({"cosine": rng.exponential(size=n), "away": distance, "label": np.resize([0, 1, np.nan], n)})
    table.loc[:4, "cosine"], table.loc[5:9, "away"] = np.nan, np.nan
    return table


def bars(ax):
    """(from, to, lower quartile, upper quartile, median) of each bin."""
    found = [
        (*collection.get_paths()[0].vertices.min(axis=0), *collection.get_paths()[0].vertices.max(axis=0))
        for collection in ax.collections
        if to_hex(collection.get_facecolor()[0]) == COLOURS["sky"].lower()
    ]
    lines = {line.get_xdata()[0]: line.get_ydata() for line in ax.get_lines()}
    assert all(ends[0] == ends[1] for ends in lines.values())
    return [(left, right, low, high, lines[left][0]) for left, low, right, high in found]


def test_medians_and_quartiles_by_distance_on_both_sides(ax):
    table = near()
    assert plots.plot_score_by_distance(table, "away", ax, edges=(0, 3, 9, 30)) is ax
    kept = table.dropna(subset=["cosine", "away"])
    assert sum(len(points.get_offsets()) for points in ax.collections if len(points.get_offsets()) > 1) == len(kept)
    found = bars(ax)
    far = kept["away"].abs().max()
    assert [bar[:2] for bar in found] == [
        *((-far - 0.5, -29.5), (-29.5, -8.5), (-8.5, -2.5), (-2.5, 2.5), (2.5, 8.5), (8.5, 29.5), (29.5, far + 0.5))
    ]
    for left, right, low, high, median in found:
        here = kept.loc[kept["away"].between(left, right), "cosine"]
        assert (low, median, high) == pytest.approx(tuple(here.quantile([0.25, 0.5, 0.75])))
    assert ax.get_xlabel() == "away (nucleotides)"
    assert ax.get_ylabel() == "cosine distance at the variant"
    positives = (kept["label"] == 1).sum()
    assert texts(ax)[:2] == [f"variants ({len(kept) - positives})", f"variants, label 1 ({positives})"]
    assert texts(ax)[2:] == ["quartiles", "median"]
    draws(ax)


def test_distances_without_sign_begin_at_0(ax):
    table = near().assign(distance_to_splice_site=lambda t: t["away"].abs()).drop(columns="label")
    plots.plot_score_by_distance(table, "distance_to_splice_site", ax)
    found = bars(ax)
    assert [bar[0] for bar in found] == [-0.5, 2.5, 8.5, 20.5, 50.5]
    assert ax.get_xlim()[0] == -1.5
    assert ax.get_xlabel() == "distance to the nearest splice site (nucleotides)"
    assert len(texts(ax)) == 3
    ax.figure.canvas.draw()
    shown = {label.get_text() for label in ax.get_xticklabels()}
    assert {"0", "10", "100", "1k"} <= shown


def test_bins_without_variants_are_left_out(ax):
    plots.plot_score_by_distance(pd.DataFrame({"cosine": [1.0, 2.0], "away": [0, 400]}), "away", ax)
    assert [bar[:2] for bar in bars(ax)] == [(-0.5, 2.5), (50.5, 400.5)]


@pytest.mark.parametrize("edges", [(), (1, 3), (0, 3, 3), (0, 2.5)])
def test_edges_of_distances_begin_at_0(edges):
    with pytest.raises(InputError, match="ascending whole numbers from 0 are wanted"):
        plots.plot_score_by_distance(near(), "away", edges=edges)


def test_nothing_to_draw():
    with pytest.raises(InputError, match="no variant has both 'cosine' and 'away'"):
        plots.plot_score_by_distance(near().assign(away=np.nan), "away")
    with pytest.raises(InputError, match="no column 'distance'"):
        plots.plot_score_by_distance(near(), "distance")


# ---- mutagenesis ---------------------------------------------------------------------------------


def map_of(reference="ACGTNACGGT", negative=False, **attributes):
    rng = np.random.default_rng(5)
    values = rng.exponential(size=(len(reference), 4))
    if negative:
        values = 0.5 - values
    values[[place for place, letter in enumerate(reference) if letter == "N"]] = np.nan
    for place, letter in enumerate(reference):
        if letter != "N":
            values[place, "ACGT".index(letter)] = 0
    coordinates = {
        "position": np.arange(5000, 5000 + len(reference)),
        "letter": list("ACGT"),
        "reference": ("position", list(reference)),
    }
    return xr.DataArray(values, coordinates, ("position", "letter"), "cosine", attributes)


def test_a_map_has_a_cell_for_each_letter_and_a_dot_at_the_reference(ax):
    scores = map_of(chromosome="chr3", score="cosine")
    assert plots.plot_mutagenesis(scores, ax) is ax
    (image,) = ax.images
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), scores.to_numpy().T)
    assert image.get_extent() == [4999.5, 5009.5, 3.5, -0.5]
    assert image.get_clim() == (0, np.nanmax(scores))
    assert [label.get_text() for label in ax.get_yticklabels()] == list("ACGT")
    (dots,) = ax.collections
    marked = dots.get_offsets()
    assert [(int(x), "ACGT"[int(y)]) for x, y in np.ma.filled(marked, np.nan) if not np.isnan(y)] == [
        (5000 + i, letter) for i, letter in enumerate("ACGTNACGGT") if letter != "N"
    ]
    (below,) = ax.child_axes
    assert [label.get_text() for label in below.get_xticklabels()] == list("ACGTNACGGT")
    assert below.get_xticks().tolist() == scores["position"].to_numpy().tolist()
    assert ax.get_xlabel() == "chr3 position"
    (bar,) = [axes for axes in ax.figure.axes if axes is not ax]
    assert bar.get_ylabel() == "cosine distance at\nthe variant"
    draws(ax)


def test_dimensions_may_be_in_any_order(ax):
    plots.plot_mutagenesis(map_of().transpose("letter", "position"), ax)
    np.testing.assert_array_equal(np.ma.filled(ax.images[0].get_array(), np.nan), map_of().to_numpy().T)


def test_scores_of_both_signs_have_white_at_0(ax):
    scores = map_of(negative=True, score="llr_masked")
    plots.plot_mutagenesis(scores, ax)
    image = ax.images[0]
    end = np.nanmax(np.abs(scores))
    assert image.get_clim() == (-end, end)
    assert np.allclose(image.cmap(image.norm(0.0))[:3], 0.97, atol=0.03)


@pytest.mark.parametrize("value", [np.nan, 0.25])
def test_a_map_of_one_value_is_drawn(value, ax):
    plots.plot_mutagenesis(map_of() * 0 + value, ax)
    low, high = ax.images[0].get_clim()
    assert low < high
    draws(ax)


def test_a_long_region_has_no_letters_below():
    short, long = (plots.plot_mutagenesis(map_of("ACGT" * n)) for n in (25, 26))
    assert (len(short.child_axes), len(long.child_axes)) == (1, 0)
    long.figure.canvas.draw()
    places = [int(label.get_text()) for label in long.get_xticklabels() if label.get_text()]
    assert set(places) & set(range(5000, 5104))


@pytest.mark.parametrize(
    "change", [lambda m: m.drop_vars("reference"), lambda m: m.drop_vars("position"), lambda m: m.expand_dims("strand")]
)
def test_a_map_of_another_kind_is_refused(change):
    with pytest.raises(InputError, match=r"\(position, letter\) with a coordinate reference is wanted"):
        plots.plot_mutagenesis(change(map_of()))


def test_without_axes_a_new_figure_is_made():
    from matplotlib import pyplot as plt

    drawn = [
        plots.plot_roc(scores()),
        plot_score_distributions(scores()),
        plots.plot_score_by_distance(near(), "away"),
        plots.plot_mutagenesis(map_of()),
    ]
    assert len({id(axes.figure) for axes in drawn}) == 4
    plt.close("all")
