"""What figures share: nothing is cut off, whatever the names and the numbers."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import representation_plots
from analysis.drawing import MARKS, finished, legend_height, number_beside, offset, room_for, text_width
from analysis.melting_point import figures
from analysis.melting_point.species_figures import SPECIES_FIGURES
from analysis.plots import SEQUENCE

mpl.use("Agg")
MODELS = [
    "nucleotide_transformer_v2_500m_multi_species",
    "dnabert2_117m_of_many_genomes",
    "codon_composition",
    "calm_codon_adapted_language_model",
    "hyenadna_large_1m_seqlen_hf",
]
SPECIES = [
    "Bacillus subtilis subsp. subtilis str. 168",
    "Geobacillus stearothermophilus NBRC 12550",
    *(f"Escherichia coli K-12 substr. {number}" for number in range(11)),
]
DRAW = {one.table: one.draw for one in SPECIES_FIGURES}
INPUTS = ("protein", "true", "permuted", "uniform")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def interval(value, head=""):
    return {f"{head}low": value - 0.1, f"{head}high": value + 0.2}


def tables(models, species, value) -> dict[str, pd.DataFrame]:
    """Tables of every figure, with the same number everywhere."""
    measures, names = ("within", "total"), [*figures.SHOWN, "uniform+species"]
    both = {"r2": value, "r2_within": value, **interval(value), **interval(value, "within_")}
    one = {"estimate": value, **interval(value)}
    all_species = [*species, "mean of species"]
    rows = {
        "partition": [
            {"model": m, "contrast": c, "measure": s, **one}
            for m in models
            for c in figures.TERM_TITLES
            for s in measures
        ],
        "scores": [{"model": m, "name": n, **both} for m in models for n in names],
        "window_curve": [
            {"model": m, "measure": "within", "width": w, **one} for m in models for w in (1, 2, 4, np.inf)
        ],
        "decodability": [
            {"features": n, "accuracy": value, **interval(value), "majority": 0.2, "target": "gc", "r2": value}
            for n in INPUTS
        ],
        "erased": [
            {"features": n, "accuracy_before": 0.9, "accuracy_after": 0.2, "majority": 0.2}
            | {"r2_before": value, "r2_after": value / 2}
            for n in INPUTS
        ],
        "left_out": [
            {"features": n + g, "species": s, "expected": value, "bias": value}
            for n in INPUTS
            for g in ("", "+growth")
            for s in species
        ],
        "by_species": [
            {"features": f"{n}+species", "species": s, "spearman": value, **interval(value)}
            for n in INPUTS
            for s in all_species
        ],
        "usage": [
            {"variable": v, "fixed": "species, amino acids", "species": s, "r": value, **interval(value)}
            for v in ("cai", "gc3")
            for s in all_species
        ],
        "transplant": [{"donor": s, "slope": value, **interval(value), "note": ""} for s in ("all", *species)],
        "controls": [
            {"features": f"{n}+species", "control": c, **both} for n in INPUTS for c in ("labels shuffled", "constant")
        ],
    }
    return {name: pd.DataFrame(own) for name, own in rows.items()}


def drawn(made) -> dict:
    """Every figure of the study by its name."""
    found = {name: draw(made[name]) for name, draw in DRAW.items()}
    for measure in ("within", "total"):
        found[f"partition {measure}"] = figures.plot_partition(made["partition"], measure=measure)
        found[f"strategies {measure}"] = figures.plot_strategies(made["scores"], measure=measure)
    found["window_curve"] = figures.plot_window_curve(made["window_curve"])
    found["total_and_within"] = figures.plot_total_and_within(made["scores"].drop_duplicates("name"))
    return found


def check_inside(ax, *, least: float = 0.4) -> None:
    """Every text and the legend lie in the figure, and the axes have room."""
    figure = ax.figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    whole = figure.bbox
    texts = [ax.xaxis.label, ax.yaxis.label, *(() if ax.get_legend() is None else (ax.get_legend(),))]
    for number, (labels, ends) in enumerate(
        ((ax.get_xticklabels(), ax.get_xlim()), (ax.get_yticklabels(), ax.get_ylim()))
    ):
        # Ticks beyond the ends of an axis are not drawn.
        texts += [one for one in labels if min(ends) <= one.get_position()[number] <= max(ends)]
    for text in texts:
        if isinstance(text, Text) and not text.get_text():
            continue
        box = text.get_window_extent()
        assert box.x0 >= whole.x0 - 1, text
        assert box.x1 <= whole.x1 + 1, text
        assert box.y0 >= whole.y0 - 1, text
        assert box.y1 <= whole.y1 + 1, text
    assert ax.get_position().width > least
    assert ax.get_position().height > 0.35
    if ax.get_legend() is not None:
        assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1 - 1  # not over the data


@pytest.mark.parametrize(
    ("models", "species", "value"),
    [(MODELS[2:3], SPECIES[2:4], 0.3), (MODELS, SPECIES, 0.0), (MODELS[:2], SPECIES[:1], -7.0)],
    ids=["one model", "five models, 13 species, all the same", "far below 0"],
)
def test_nothing_is_cut_off(models, species, value):
    for ax in drawn(tables(models, species, value)).values():
        check_inside(ax)


@pytest.mark.parametrize("lacking", ["one", "all"])
def test_missing_numbers_are_left_out(lacking):
    """What has no interval stands alone; nothing warns, and no text says nan."""
    made = tables(MODELS[:2], SPECIES[:3], 0.3)
    for table in made.values():
        for name in table.columns.intersection(["low", "high", "within_low", "within_high"]):
            table.loc[slice(None) if lacking == "all" else 1, name] = np.nan
        for name in table.columns.intersection(["estimate", "r2", "r2_within", "spearman", "r", "accuracy"]):
            table.loc[slice(None) if lacking == "all" else 2, name] = np.nan
    for ax in drawn(made).values():
        if lacking == "all":
            check_inside(ax)
        assert not [text for text in ax.texts if "nan" in text.get_text()]


def test_a_legend_has_as_many_columns_as_fit():
    def columns(names, width, **options):
        ax = Figure(figsize=(width, 3), layout="constrained").subplots()
        for name in names:
            ax.plot([0, 1], label=name)
        return finished(ax, **options).get_legend()._ncols  # matplotlib has no other way to ask

    assert columns("abcd", 6) == 3
    assert columns("abcd", 6, most=2) == 2
    assert columns("a", 6) == 1
    assert columns(MODELS, 6) == 1
    assert columns(MODELS, 12) == 3
    assert legend_height("abc", 6) == legend_height([], 6) == 0
    assert legend_height(MODELS, 6) == pytest.approx(4 * legend_height(MODELS[:2], 6))
    empty = Figure().subplots()
    assert finished(empty).get_legend() is None


def test_of_several_axes_each_has_its_share_of_the_figure():
    left, right = Figure(figsize=(12, 3), layout="constrained").subplots(1, 2, width_ratios=(1, 3))
    for ax in (left, right):
        for name in MODELS[:2]:
            ax.plot([0, 1], label=name)
    assert (finished(left).get_legend()._ncols, finished(right).get_legend()._ncols) == (1, 2)
    outside = Figure(figsize=(6, 3)).add_axes((0.2, 0.2, 0.5, 0.5))
    outside.plot([0, 1], label="a")
    assert finished(outside).get_legend() is not None


def test_a_long_label_breaks_its_lines():
    ax = Figure(figsize=(3, 2)).subplots()
    ax.set_xlabel("a label that is much longer than this figure is wide, and longer still")
    lines = finished(ax).get_xlabel().splitlines()
    assert len(lines) > 1
    assert max(text_width(line, "medium") for line in lines) < 3
    assert " ".join(lines).startswith("a label that is much")


def test_widths_of_texts():
    """Against what is drawn."""
    figure = Figure(figsize=(8, 2), dpi=100)
    for text in ("i", "nucleotide_transformer", "Wide WIDE", "of\ntwo lines"):
        box = figure.text(0, 0.5, text, fontsize="small").get_window_extent()
        assert text_width(text) == pytest.approx(box.width / 100, rel=0.1, abs=0.02)
    assert room_for(["a"]) == room_for([]) == 0
    assert room_for(["x" * 60]) == pytest.approx(text_width("x" * 60) - 1.6)


def test_figures_are_wider_for_long_names_at_the_side():
    short, long = (tables(MODELS[:1], names, 0.3) for names in (["yeast", "mouse"], SPECIES[:2]))
    for name in ("by_species", "usage", "transplant"):
        widths = [DRAW[name](made[name]).figure.get_figwidth() for made in (short, long)]
        assert widths[1] - widths[0] == pytest.approx(room_for(SPECIES[:2])), name


def test_a_number_stands_right_of_what_is_known():
    ax = Figure().subplots()
    for number, ends in enumerate(((np.nan, 0.5), (0.2, np.nan), (0.1, 0.3, 0.2), (np.nan, np.nan), (-0.5, -0.2))):
        number_beside(ax, ends, -number, "1")
    assert [text.xy for text in ax.texts] == [(0.5, 0), (0.2, -1), (0.3, -2), (0.0, -3), (-0.2, -4)]


@pytest.mark.parametrize("many", [1, 2, 5, 12])
def test_offsets_are_even_and_do_not_meet_the_next_row(many):
    places = [offset(number, many) for number in range(many)]
    assert sum(places) == pytest.approx(0)
    assert max(places) <= 0.35
    assert places == sorted(places, reverse=True)


def test_shapes_and_colours_repeat_late():
    pairs = [(MARKS[number % len(MARKS)], SEQUENCE[number % len(SEQUENCE)]) for number in range(77)]
    assert len(set(pairs)) == 77


# ---- figures of spaces ---------------------------------------------------------------------------


def test_maps_and_matrices_with_long_names():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 2)), columns=["x", "y"]).assign(gc=0.5, none=np.nan)
    table["species"] = [SPECIES[number % 13] for number in range(60)]
    table["family"] = [f"family number {number % 40}" for number in range(60)]
    table.attrs = {"method": "pca", "task": "melting_point.permuted.seed0", "model": MODELS[0]}
    for colour in ("gc", "species", "family", "none"):
        ax = representation_plots.plot_embedding_map(table, colour=colour)
        ax.figure.canvas.draw()
        boxes = [one.get_window_extent() for one in (ax._left_title, ax.get_legend()) if one is not None]
        assert min(box.x0 for box in boxes) >= 0
        assert max(box.x1 for box in boxes) <= ax.figure.bbox.x1
        assert min(box.y0 for box in boxes) >= 0
        assert ax.get_position().width > 0.3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no none (60)"]
    assert len(ax.figure.axes) == 1  # no scale of colours that nothing has
    for names in (MODELS[:1], MODELS):
        rows = [{"a": a, "b": b, "cka": 1, "cka_debiased": 0.5} for a in names for b in names]
        ax = representation_plots.plot_similarity(pd.DataFrame(rows))
        check_inside(ax, least=0.3)
        assert [text.get_text() for text in ax.get_xticklabels()] == [str(1 + n) for n in range(len(names))]
        assert ax.get_yticklabels()[0].get_text() == f"{names[0]}  1"


def test_decodability_and_neighbours_with_long_names_and_missing_ends():
    rows = [{"model": m, "target": t, "r2": 0.5, **interval(0.5)} for m in MODELS for t in ("gc", "length")]
    table = pd.DataFrame(rows)
    table.loc[1, ["low", "high"]] = np.nan
    ax = representation_plots.plot_decodability(table)
    check_inside(ax)
    assert [text.get_text() for text in ax.texts] == ["0.500"] * 10
    near = pd.DataFrame({"by": ["a_column_with_a_name_that_is_long", "gc"], "share": [0.5, 0.3], "low": [np.nan, 0.2]})
    ax = representation_plots.plot_neighbours(near.assign(high=near["low"] + 0.2, chance=0.1, groups=2, k=10))
    check_inside(ax)
    assert [text.get_text() for text in ax.texts] == ["0.50", "0.30"]
