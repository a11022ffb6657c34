"""Figures of the melting-point study: every function draws on a matplotlib Axes and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.drawing import MARKS, columns_of, finished, legend_height, offset, points_with_intervals, room_for
from analysis.melting_point.data import PERMUTED, PROTEIN, TRUE, UNIFORM
from analysis.melting_point.design import SPECIES
from analysis.melting_point.inference import TOTAL, WITHIN
from analysis.melting_point.partition import PROTEIN_SPECIES
from analysis.plots import COLOURS, SEQUENCE, new_axes
from embedstore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TERM_TITLES = {
    "d_species": "species\n(beside protein)",
    "d_comp": "codon usage\nwithin species",
    "d_local": "order of codons",
    "d_gLMprotein": "amino acids seen by\nthe nucleotide model",
    "d_usage": "codon usage without\namino acids",
    "pair_local": "order of codons\n(without protein)",
}
"""What figures call the terms of the partition."""

_TITLES = {
    "mean": "mean of all",
    TRUE: "true codons",
    PERMUTED: "permuted codons",
    UNIFORM: "uniform codons",
}


def title_of(name: str) -> str:
    """Return what figures call a prediction.

    Parameters
    ----------
    name
        What it was made from, as tables have it: parts joined by a plus sign.

    Returns
    -------
    str

    Examples
    --------
    >>> title_of("protein+species"), title_of("true")
    ('protein + species', 'true codons')
    """
    return " + ".join(_TITLES.get(part, part) for part in name.split("+"))


def plot_partition(table: pd.DataFrame, ax: Axes | None = None, *, measure: str = WITHIN) -> Axes:
    """Draw the terms of the partition as points with intervals, one colour and shape for each model.

    Parameters
    ----------
    table
        model, contrast, measure, estimate, low, high.
    ax
        Where to draw, default a new figure.
    measure
        ``"within"`` (default) or ``"total"``.

    Returns
    -------
    matplotlib.axes.Axes
        ``d_species`` is left out within species, where its size only says how far a prediction without the species is
        off, and would dwarf the others.

    Raises
    ------
    InputError
        There is nothing of that measure.
    """
    rows = _of_measure(table, measure)
    terms = [name for name in TERM_TITLES if name in set(rows["contrast"])]
    terms = [name for name in terms if measure != WITHIN or name != "d_species"]
    models = list(dict.fromkeys(rows["model"]))
    ax = ax or new_axes(6.5, 0.9 + 0.62 * len(terms) * _rows(models) + legend_height(models, 6.5))
    for number, model in enumerate(models):
        own = rows[rows["model"] == model].set_index("contrast").reindex(terms)
        place = -np.arange(len(terms)) + offset(number, len(models))
        points_with_intervals(ax, columns_of(own, "estimate", "low", "high"), place, number, model)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(-np.arange(len(terms)), [TERM_TITLES[name] for name in terms], fontsize="small")
    ax.set(xlabel=f"gain of R2 {_about(measure)} (95 % interval)", ylim=(-len(terms) + 0.5, 0.5))
    return finished(ax)


def plot_window_curve(table: pd.DataFrame, ax: Axes | None = None, *, measure: str = WITHIN) -> Axes:
    """Draw the R2 lost by permuting codons in windows against the width of the windows.

    Parameters
    ----------
    table
        model, measure, width, estimate, low, high.
    ax
        Where to draw, default a new figure.
    measure
        ``"within"`` (default) or ``"total"``.

    Returns
    -------
    matplotlib.axes.Axes
        The last place of the axis is that of whole sequences.

    Raises
    ------
    InputError
        There is nothing of that measure.
    """
    rows = _of_measure(table, measure)
    ax = ax or new_axes(5.5, 3.4 + legend_height(list(dict.fromkeys(rows["model"])), 5.5))
    widths = np.unique(rows["width"].to_numpy(np.float64))
    for number, (model, own) in enumerate(rows.groupby("model", sort=False)):
        ordered = own.sort_values("width")
        place = np.searchsorted(widths, ordered["width"].to_numpy(np.float64))
        colour = SEQUENCE[number % len(SEQUENCE)]
        low, high = columns_of(ordered, "low", "high")
        ax.plot(
            place, ordered["estimate"], f"-{MARKS[number % len(MARKS)]}", color=colour, markersize=4, label=str(model)
        )
        ax.fill_between(place, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(widths)), ["all" if np.isinf(width) else f"{width:.0f}" for width in widths])
    ax.set(
        xlabel="width of the windows in which codons are permuted", ylabel=f"loss of R2 {_about(measure)} (95 % band)"
    )
    return finished(ax)


def plot_total_and_within(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw total R2 and R2 within species of some predictions beside each other.

    Parameters
    ----------
    table
        name, r2, low, high, r2_within, within_low, within_high; drawn from top to bottom.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A point whose R2 within species is below the axis stands at its left end, with its number.
    """
    titles = [title_of(name) for name in table["name"]]
    ax = ax or new_axes(6.5 + room_for(titles), 1.1 + 0.36 * len(table))
    place = -np.arange(len(table), dtype=np.float64)
    measures = ((TOTAL, ("r2", "low", "high")), (WITHIN, ("r2_within", "within_low", "within_high")))
    least = -0.5
    for number, (measure, columns) in enumerate(measures):
        numbers, heights = columns_of(table, *columns), place - (number - 0.5) * 0.28
        shown = [np.maximum(values, least) for values in numbers]
        points_with_intervals(ax, shown, heights, number, f"R2 {_about(measure)}")
        for value, where in zip(numbers[0], heights, strict=True):
            if value < least:
                ax.text(least + 0.035, where, f"{value:.2f}", va="center", fontsize="x-small")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(place, titles, fontsize="small")
    ax.set(xlabel="R2 on test samples (95 % interval)", xlim=(least - 0.05, 1), ylim=(-len(table) + 0.4, 0.6))
    return finished(ax)


def plot_strategies(table: pd.DataFrame, ax: Axes | None = None, *, measure: str = WITHIN) -> Axes:
    """Draw R2 under each codon strategy, with species beside it, as bars; proteins as a line to compare with.

    Parameters
    ----------
    table
        model, name, and r2, low, high or r2_within, within_low, within_high.
    ax
        Where to draw, default a new figure.
    measure
        ``"within"`` (default) or ``"total"``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        No prediction is of a strategy with species.
    """
    columns = ("r2_within", "within_low", "within_high") if measure == WITHIN else ("r2", "low", "high")
    names = [f"{name}+{SPECIES}" for name in (TRUE, PERMUTED, UNIFORM)]
    shown = [name for name in names if name in set(table["name"])]
    if not shown:
        raise InputError(f"the table has none of {', '.join(names)}: there is nothing to draw.")
    models = list(dict.fromkeys(table["model"]))
    # One name more: that of the line.
    ax = ax or new_axes(5.5, 3.2 + legend_height([*models, "protein + species"], 5.5))
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        own = table[table["model"] == model].set_index("name").reindex(shown)
        value, low, high = columns_of(own, *columns)
        place = np.arange(len(shown)) + (number - (len(models) - 1) / 2) * width
        hatch = ("", "//", "..", "xx")[number % 4]
        colour = SEQUENCE[number % len(SEQUENCE)]
        ax.bar(place, value, 0.92 * width, color=colour, hatch=hatch, edgecolor="white", label=model)
        middle, half = (low + high) / 2, (high - low) / 2
        ax.errorbar(place, middle, yerr=half, fmt="none", ecolor="black", capsize=3, linewidth=1)
    beside = table[table["name"] == PROTEIN_SPECIES]
    if len(beside):
        ax.axhline(
            float(beside[columns[0]].iloc[0]),
            color=COLOURS["grey"],
            linestyle="--",
            label="protein + species",
            linewidth=1.5,
        )
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(shown)), [title_of(name).replace(" + ", "\n+ ") for name in shown])
    ax.set(ylabel=f"R2 {_about(measure)} (95 % interval)")
    return finished(ax)


SHOWN = (SPECIES, PROTEIN, PROTEIN_SPECIES, UNIFORM, PERMUTED, TRUE, *(f"{n}+{SPECIES}" for n in (PERMUTED, TRUE)))
"""Predictions of `plot_total_and_within`, by default; the mean of all is left out."""


def _of_measure(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return the rows of one measure."""
    rows = table[table["measure"] == measure]
    if rows.empty:
        raise InputError(f"the table has no rows of measure {measure!r}: there is nothing to draw.")
    return rows


def _about(measure: str) -> str:
    return "within species" if measure == WITHIN else "in total"


def _rows(models: list[str]) -> float:
    """Return how much taller rows are that many models share."""
    return max(1.0, 0.2 * len(models))
