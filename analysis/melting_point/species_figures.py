"""Figures of the analyses of species: every function draws on a matplotlib Axes and returns it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.drawing import (
    MARKS,
    bars_with_intervals,
    columns_of,
    finished,
    number_beside,
    offset,
    points_with_intervals,
    room_for,
)
from analysis.melting_point.figures import title_of
from analysis.melting_point.transplant import ALL
from analysis.melting_point.within import OVERALL
from analysis.plots import COLOURS, SEQUENCE, new_axes
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from matplotlib.axes import Axes


def plot_decodability(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how well species can be told from each embedding, against guessing the most frequent one.

    Parameters
    ----------
    table
        From `analysis.melting_point.species.species_decodability`; drawn from top to bottom.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = ax or new_axes(5.5, 1.1 + 0.42 * len(table))
    numbers = columns_of(table, "accuracy", "low", "high")
    place = bars_with_intervals(ax, numbers, COLOURS["blue"])
    for height, *ends in zip(place.tolist(), *(values.tolist() for values in numbers), strict=True):
        number_beside(ax, ends, height, "not known" if np.isnan(ends[0]) else f"{ends[0]:.2f}")
    guess = float(table["majority"].iloc[0])
    ax.axvline(guess, color=COLOURS["vermillion"], linestyle="--", label=f"most frequent species, {guess:.2f}")
    ax.set_yticks(place, [title_of(name) for name in table["features"]])
    ax.set(xlabel="accuracy of telling the species (95 % interval)", xlim=(0, 1.12))
    return finished(ax)


def plot_erasure(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw total R2 and accuracy of telling species before and after species are erased, as arrows.

    Parameters
    ----------
    table
        From `analysis.melting_point.erasure.species_erased`.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One arrow per features, from before to after; the vertical line is the share of the most frequent species.
    """
    ax = ax or new_axes(5.5, 4)
    for name, fill in (("as it is", "0.4"), ("species erased", "white")):
        ax.plot([], [], "o", color="0.4", markersize=7, markerfacecolor=fill, label=name)
    for number, row in enumerate(table.to_dict("records")):
        colour = SEQUENCE[number % len(SEQUENCE)]
        begin = (row["accuracy_before"], row["r2_before"])
        end = (row["accuracy_after"], row["r2_after"])
        ax.annotate("", end, begin, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.4})
        mark = MARKS[number % len(MARKS)]
        ax.plot(*begin, mark, color=colour, markersize=7, label=title_of(row["features"]))
        ax.plot(*end, mark, color=colour, markersize=7, markerfacecolor="white")
    guess = float(table["majority"].iloc[0])
    ax.axvline(guess, color="0.5", linestyle="--", linewidth=0.8)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xlabel="accuracy of telling the species", ylabel="R2 of melting points, in total", xlim=(0, 1.05))
    return finished(ax)


def plot_left_out(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the bias on each species that was left out against that of the mean of the others.

    Parameters
    ----------
    table
        From `analysis.melting_point.left_out.leave_one_species_out`.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        On the diagonal a model knows no more of a new species than the mean of the others; on the horizontal line it is
        right on average.
    """
    ax = ax or new_axes(6, 4.6)
    for number, (name, own) in enumerate(table.groupby("features", sort=False)):
        colour, mark = SEQUENCE[number % len(SEQUENCE)], MARKS[number % len(MARKS)]
        ax.plot(own["expected"], own["bias"], mark, color=colour, markersize=6, alpha=0.8, label=title_of(str(name)))
    ends = np.array([table["expected"].min(), table["expected"].max()])
    ax.plot(ends, ends, color="0.5", linestyle="--", linewidth=0.9)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(
        xlabel="mean of the other species less that of the one left out (°C)",
        ylabel="bias of predictions for it (°C)",
    )
    return finished(ax)


def plot_per_species(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the rank correlation within each species, and their random-effects mean, as a forest plot.

    Parameters
    ----------
    table
        From `analysis.melting_point.within.per_species`.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    return _forest(table, "spearman", "features", "Spearman correlation within species (95 % interval)", ax)


def plot_codon_bias(table: pd.DataFrame, ax: Axes | None = None, *, fixed: str | None = None) -> Axes:
    """Draw the partial correlations of melting points with codon adaptation and GC3 as a forest plot.

    Parameters
    ----------
    table
        From `analysis.melting_point.within.codon_bias_correlations`.
    ax
        Where to draw, default a new figure.
    fixed
        What is held fixed, default species and amino acids.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        The table has nothing of `fixed`.
    """
    wanted = "species, amino acids" if fixed is None else fixed
    rows = table[table["fixed"] == wanted]
    if rows.empty:
        raise InputError(f"nothing is held fixed as {wanted!r}; there are {', '.join(table['fixed'].unique())}.")
    names = {"cai": "codon adaptation (CAI)", "gc3": "GC3"}
    shown = rows.assign(variable=rows["variable"].map(names))
    return _forest(shown, "r", "variable", "partial correlation with the melting point (95 % interval)", ax)


def plot_transplant(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the slope of each donor, and of all, between no use of species (0) and nothing but species (1).

    Parameters
    ----------
    table
        From `analysis.melting_point.transplant.transplant`; drawn from top to bottom.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Where slopes are refused, the reason stands in their place.
    """
    rows = table.sort_values("donor", key=lambda names: names == ALL, kind="stable").reset_index(drop=True)
    ax = ax or new_axes(5.5 + room_for(rows["donor"]), 1.2 + 0.36 * len(rows))
    place = -np.arange(len(rows), dtype=np.float64)
    numbers = columns_of(rows, "slope", "low", "high")
    points_with_intervals(ax, numbers, place, 0, "")
    for line, name in ((0.0, "0: species not used"), (1.0, "1: species only")):
        ax.axvline(line, color="0.5", linestyle=":" if line else "--", linewidth=1, label=name)
    if np.isnan(numbers[0]).all():
        reason = "\n".join(textwrap.wrap(str(rows["note"].iloc[0]), 34))
        ax.text(0.5, 0.5, reason, ha="center", va="center", transform=ax.transAxes, fontsize="small")
        ax.set_xlim(-0.2, 1.2)
    ax.set_yticks(place, ["all donors" if name == ALL else name for name in rows["donor"]], fontsize="small")
    ax.set(xlabel="predicted change / difference of species means", ylim=(-len(rows) + 0.5, 0.5))
    return finished(ax)


def plot_controls(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the R2 within species of every control, which must not lie above 0.

    Parameters
    ----------
    table
        From `analysis.melting_point.controls.control_table`.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With species beside the features only: without it a model that does not know species is far below 0.
    """
    rows = table[table["features"].str.endswith("+species")]
    controls = list(dict.fromkeys(rows["control"]))
    names = list(dict.fromkeys(rows["features"]))
    ax = ax or new_axes(6 + room_for(controls), 1.2 + 0.5 * len(controls))
    for number, name in enumerate(names):
        own = rows[rows["features"] == name].set_index("control").reindex(controls)
        place = -np.arange(len(controls)) + offset(number, len(names))
        numbers = columns_of(own, "r2_within", "within_low", "within_high")
        points_with_intervals(ax, numbers, place, number, title_of(name))
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(-np.arange(len(controls)), controls, fontsize="small")
    ax.set(xlabel="R2 within species (95 % interval)")
    reach = float(rows[["r2_within", "within_low", "within_high"]].abs().max().max())
    # Without any number there is no reach either.
    ax.set_xlim(*(np.array([-1.1, 1.1]) * np.nanmax([reach, 0.045])))
    return finished(ax, most=2)


def _forest(table: pd.DataFrame, value: str, by: str, label: str, ax: Axes | None) -> Axes:
    """Draw numbers of species with intervals, their mean below a line."""
    species = [name for name in dict.fromkeys(table["species"]) if name != OVERALL]
    names = list(dict.fromkeys(table[by]))
    ax = ax or new_axes(6 + room_for(species), 1.2 + 0.42 * (len(species) + 1))
    place = -np.append(np.arange(len(species)), len(species) + 0.4)
    for number, name in enumerate(names):
        own = table[table[by] == name].set_index("species").reindex([*species, OVERALL])
        where = place + offset(number, len(names))
        points_with_intervals(ax, columns_of(own, value, "low", "high"), where, number, title_of(str(name)))
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axhline(place[-1] + 0.7, color="0.7", linewidth=0.8)
    ax.set_yticks(place, [*species, OVERALL], fontsize="small")
    ax.set(xlabel=label)
    return finished(ax, most=2)


class SpeciesFigure(NamedTuple):
    """A figure of one table of a study.

    Attributes
    ----------
    table
        Name of the table, also that of the figure.
    caption
        What can be seen.
    draw
        Takes the table of one model, and an Axes, default a new figure of a size that suits it.
    """

    table: str
    caption: str
    draw: Callable[..., Axes]


SPECIES_FIGURES = (
    SpeciesFigure(
        "decodability", "How often the species of a test sample is told right from its embedding.", plot_decodability
    ),
    SpeciesFigure(
        "erased",
        "What is left of R2 when nothing linear in an embedding tells the species: arrows lead from the embedding as "
        "it is to the erased one, which must stand on the dashed line, the share of the most frequent species.",
        plot_erasure,
    ),
    SpeciesFigure(
        "left_out",
        "Bias on species that were left out. On the dashed line a model predicts for a new species what the mean of "
        "the others would; on the horizontal one it is right on average.",
        plot_left_out,
    ),
    SpeciesFigure(
        "by_species",
        "Rank correlation within each species, and the random-effects mean (DerSimonian and Laird, Hartung and Knapp).",
        plot_per_species,
    ),
    SpeciesFigure(
        "transplant",
        "How far predictions follow the mean of the species whose codons a protein is written with: 1 is all the way.",
        plot_transplant,
    ),
    SpeciesFigure(
        "usage",
        "Codon adaptation and GC3 against melting points within species, amino acids and length held fixed.",
        plot_codon_bias,
    ),
    SpeciesFigure("controls", "Labels and features that cannot say anything must not lie above 0.", plot_controls),
)
"""Figures by the name of the table of `analysis.melting_point.study.CAPTIONS` that they show."""
