"""Figures of spaces: what is drawn is what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from analysis import plot_decodability, plot_decoded, plot_embedding_map, plot_neighbours, plot_similarity
from analysis.plots import SEQUENCE
from embedstore.errors import InputError


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def space(n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"s{i}" for i in range(n)], "x": rng.normal(size=n), "y": rng.normal(size=n)})
    table["gc"] = np.linspace(0.2, 0.8, n)
    table["species"] = ["yeast"] * 6 + ["human"] * 4 + [None] * 2 + ["fly"] * (n - 12)
    table.attrs = {"method": "pca", "task": "t", "model": "m", "explained": [0.5, 0.25]}
    return table


def points(collection) -> np.ndarray:
    return np.asarray(collection.get_offsets())


def test_a_map_coloured_by_a_number_has_its_values() -> None:
    table = space()
    fig, ax = plt.subplots()
    assert plot_embedding_map(table, ax) is ax
    (drawn,) = ax.collections
    np.testing.assert_allclose(points(drawn), table[["x", "y"]])
    np.testing.assert_allclose(drawn.get_array(), table["gc"])
    assert fig.axes[1].get_ylabel() == "GC content"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("principal component 1 (50%)", "principal component 2 (25%)")
    assert ax.get_title(loc="left") == "t, m"


def test_a_map_coloured_by_species_names_them_by_frequency() -> None:
    table = space()
    ax = plot_embedding_map(table, colour="species")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no species (2)", "yeast (6)", "human (4)"]
    for place, (name, colour) in enumerate(zip(["yeast", "human"], SEQUENCE, strict=False), start=1):
        np.testing.assert_allclose(points(ax.collections[place]), table.loc[table["species"] == name, ["x", "y"]])
        assert to_hex(ax.collections[place].get_facecolor()[0]).upper() == colour
    paths = [len(one.get_paths()[0].vertices) for one in ax.collections]
    assert paths[1] != paths[2]  # shape says it a second time


def test_classes_that_are_as_frequent_stand_in_the_order_of_their_names() -> None:
    table = space().assign(species=["c", "a", "b"] * 4)
    ax = plot_embedding_map(table, colour="species")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (4)", "b (4)", "c (4)"]


def test_too_many_classes_are_drawn_as_one() -> None:
    table = pd.DataFrame({"x": range(40), "y": range(40), "family": [f"f{i:02d}" for i in range(40)]})
    table.loc[39, "family"] = "f00"
    ax = plot_embedding_map(table, colour="family")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert (len(names), names[0], names[-1]) == (22, "f00 (2)", "18 others (18)")
    assert sum(len(points(one)) for one in ax.collections) == 40
    assert ax.get_xlabel() == "component 1"


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_axes_without_meaning_have_no_numbers(method) -> None:
    table = space()
    table.attrs = {"method": method, "task": "t", "model": "m"}
    ax = plot_embedding_map(table)
    assert len(ax.get_xticks()) == 0
    assert ax.get_xlabel() == {"tsne": "t-SNE 1", "umap": "UMAP 1"}[method]
    with pytest.raises(InputError, match="no column 'speceis'. Did you mean 'species'"):
        plot_embedding_map(table, colour="speceis")


def decoded() -> pd.DataFrame:
    rows = [("gc", 0.9, 0.85, 0.95), ("length", -3.0, -4.0, -2.0), ("n_share", np.nan, np.nan, np.nan)]
    return pd.DataFrame(rows, columns=["target", "r2", "low", "high"])


def test_decodability_is_drawn_with_its_numbers() -> None:
    ax = plot_decodability(decoded())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["GC content", "length", "share of N"]
    assert [text.get_text() for text in ax.texts] == ["0.900", "-3.000", "the same everywhere"]
    lines = [
        (line.get_xdata(), line.get_ydata()) for line in ax.lines if len(line.get_xdata()) and line.get_ydata()[0] <= 0
    ]
    np.testing.assert_allclose(lines[0][0], [0.85, 0.95])
    np.testing.assert_allclose(lines[1][0], [0.9])
    np.testing.assert_allclose(
        lines[3][0], [-0.1]
    )  # what lies far below is drawn at the edge; the number stands beside
    assert ax.get_legend() is None
    both = pd.concat([decoded().assign(model="a"), decoded().iloc[:1].assign(model="b")])
    ax = plot_decodability(both)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert len(ax.texts) == 4


def test_names_of_several_models_leave_room_for_the_numbers() -> None:
    models = ("nucleotide_transformer", "dnabert2_117m", "codon_composition")
    targets = decoded().replace({"target": {"length": "gc_beyond_confounds"}})
    ax = plot_decodability(pd.concat([targets.assign(model=name) for name in models]))
    ax.figure.canvas.draw()
    assert ax.get_position().width > 0.6


def test_predictions_are_drawn_against_values() -> None:
    table = pd.DataFrame({"gc": [0.2, np.nan, 0.6], "gc_predicted": [0.3, np.nan, 0.5]})
    ax = plot_decoded(table)
    np.testing.assert_allclose(points(ax.collections[0]), [[0.2, 0.3], [0.6, 0.5]])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.2, 0.6])
    assert ax.get_ylabel() == "GC content, predicted"
    with pytest.raises(InputError, match="no predictions of 'length'"):
        plot_decoded(table, target="length")


def test_neighbours_are_drawn_beside_chance() -> None:
    table = pd.DataFrame(
        {"by": ["species", "gc"], "share": [0.8, 0.3], "low": [0.7, 0.2], "high": [0.9, 0.4], "chance": [0.5, 0.2]}
    ).assign(groups=[2, 5], k=10, samples=50)
    ax = plot_neighbours(table)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["share"])
    chance = next(one for one in ax.collections if one.get_label() == "chance")
    np.testing.assert_allclose([segment[0, 0] for segment in chance.get_segments()], table["chance"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["species (2)", "GC content (5)"]
    assert [text.get_text() for text in ax.texts] == ["0.80", "0.30"]
    assert ax.get_xlabel() == "share of the 10 nearest neighbours that are alike"


def test_similarity_is_a_symmetric_matrix() -> None:
    rows = [("a", "a", 1, 1), ("a", "b", 0.7, 0.4), ("b", "b", np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["a", "b", "cka", "cka_debiased"])
    ax = plot_similarity(table)
    np.testing.assert_allclose(np.ma.filled(ax.images[0].get_array(), np.nan), [[1, 0.4], [0.4, np.nan]])
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.40", "0.40", "\u2013"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]
    ax = plot_similarity(table, value="cka")
    assert ax.texts[1].get_text() == "0.70"
