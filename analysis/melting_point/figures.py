"""Figures of the melting-point study: every function draws on a matplotlib Axes and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.melting_point.data import PERMUTED, PROTEIN, TRUE, UNIFORM
from analysis.melting_point.design import SPECIES
from analysis.melting_point.inference import TOTAL, WITHIN
from analysis.melting_point.partition import PROTEIN_SPECIES
from analysis.plots import COLOURS, SEQUENCE, new_axes
from embedstore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MARKS = "osD^v"

TERM_TITLES = {
    "d_species": "species\n(beside protein)",
    "d_comp": "codon usage\nwithin species",
    "d_local": "order of codons",
    "d_gLMprotein": "amino acids seen by\nthe nucleotide model",
    "d_usage": "codon usage without\namino acids",
    "pair_local": "order of codons\n(without protein)",
}
"""What figures call the terms of the partition."""


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
    ax = ax or new_axes(6.5, 0.9 + 0.62 * len(terms))
    models = list(dict.fromkeys(rows["model"]))
    for number, model in enumerate(models):
        own = rows[rows["model"] == model].set_index("contrast").reindex(terms)
        place = -np.arange(len(terms)) + _offset(number, len(models))
        _points(ax, own, place, number, model)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(-np.arange(len(terms)), [TERM_TITLES[name] for name in terms], fontsize="small")
    ax.set(xlabel=f"gain of R2 {_about(measure)} (95 % interval)", ylim=(-len(terms) + 0.5, 0.5))
    return _finished(ax)


def _points(ax: Axes, rows: pd.DataFrame, place: np.ndarray, number: int, name: str) -> None:
    """Draw estimates with intervals."""
    value, low, high = (rows[column].to_numpy(np.float64) for column in ("estimate", "low", "high"))
    points_with_intervals(ax, value, low, high, place, number, name)


def points_with_intervals(
    ax: Axes,
    value: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    place: NDArray[np.floating],
    number: int,
    name: str,
) -> None:
    """Draw numbers and their intervals, which need not contain them: percentiles of draws can lie to one side.

    Parameters
    ----------
    ax
        Where to draw.
    value, low, high
        (point,) numbers, and the ends of their intervals.
    place
        (point,) heights.
    number
        Which of several this is: it has a colour and a shape of its own.
    name
        In the legend; empty for none.
    """
    colour = SEQUENCE[number % len(SEQUENCE)]
    ax.errorbar((low + high) / 2, place, xerr=(high - low) / 2, fmt="none", ecolor=colour, capsize=3, linewidth=1.2)
    ax.plot(value, place, MARKS[number % 5], color=colour, markersize=5, label=name or None)


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
    ax = ax or new_axes(5.5, 3.4)
    widths = np.unique(rows["width"].to_numpy(np.float64))
    for number, (model, own) in enumerate(rows.groupby("model", sort=False)):
        ordered = own.sort_values("width")
        place = np.searchsorted(widths, ordered["width"].to_numpy(np.float64))
        colour = SEQUENCE[number % len(SEQUENCE)]
        low, high = (ordered[name].to_numpy(np.float64) for name in ("low", "high"))
        ax.plot(place, ordered["estimate"], f"-{MARKS[number % 5]}", color=colour, markersize=4, label=str(model))
        ax.fill_between(place, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(widths)), ["all" if np.isinf(width) else f"{width:.0f}" for width in widths])
    ax.set(xlabel="codons are permuted inside windows of so many", ylabel=f"loss of R2 {_about(measure)}")
    return _finished(ax)


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
    import pandas as pd

    ax = ax or new_axes(6.5, 1.1 + 0.36 * len(table))
    place = -np.arange(len(table), dtype=np.float64)
    measures = ((TOTAL, ("r2", "low", "high")), (WITHIN, ("r2_within", "within_low", "within_high")))
    least = -0.5
    for number, (measure, columns) in enumerate(measures):
        own = pd.DataFrame(dict(zip(("estimate", "low", "high"), (table[name] for name in columns), strict=True)))
        shown = own.clip(lower=least)
        _points(ax, shown, place - (number - 0.5) * 0.28, number, f"R2 {_about(measure)}")
        for value, where in zip(own["estimate"], place - (number - 0.5) * 0.28, strict=True):
            if value < least:
                ax.text(least + 0.035, where, f"{value:.2f}", va="center", fontsize="x-small", color=SEQUENCE[number])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(place, table["name"].tolist(), fontsize="small")
    ax.set(xlabel="R2 on test samples (95 % interval)", xlim=(least - 0.05, 1), ylim=(-len(table) + 0.4, 0.6))
    return _finished(ax)


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
    ax = ax or new_axes(5.5, 3.2)
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        own = table[table["model"] == model].set_index("name").reindex(shown)
        value, low, high = (own[column].to_numpy(np.float64) for column in columns)
        place = np.arange(len(shown)) + (number - (len(models) - 1) / 2) * width
        hatch = ("", "//", "..", "xx")[number % 4]
        colour = SEQUENCE[number % len(SEQUENCE)]
        ax.bar(place, value, 0.92 * width, color=colour, hatch=hatch, edgecolor="white", label=model)
        middle, half = (low + high) / 2, (high - low) / 2
        ax.errorbar(place, middle, yerr=half, fmt="none", ecolor="black", capsize=3, linewidth=1)
    beside = table[table["name"] == PROTEIN_SPECIES]
    if len(beside):
        ax.axhline(float(beside[columns[0]].iloc[0]), color=COLOURS["grey"], linestyle="--", label="protein + species")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(shown)), [name.replace("+", " + ") for name in shown])
    ax.set(ylabel=f"R2 {_about(measure)}")
    return _finished(ax)


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


def _offset(number: int, many: int) -> float:
    """Return how far a model stands from the middle of its row."""
    return ((many - 1) / 2 - number) * min(0.22, 0.7 / many)


def _finished(ax: Axes) -> Axes:
    """Put the legend above, and take away what says nothing."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
