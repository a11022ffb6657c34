"""What figures of models and species share: points with intervals, legends that fit, room for long names."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from analysis.plots import SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MARKS = "osD^v<>Ph*X"
"""Shapes of points, in the order in which they are taken; with the colours they repeat only after 77."""

_POINTS = 72
"""Of an inch."""

_HANDLE, _BETWEEN, _AROUND, _LINE = 2.8, 2.0, 1.0, 1.6
"""Of a legend, in sizes of its letters: a handle with its gap, between columns, the pad, and a line."""


def offset(number: int, many: int) -> float:
    """Return how far one of several stands from the middle of its row.

    Parameters
    ----------
    number, many
        Which of how many, from 0.

    Returns
    -------
    float
        The first stands highest, and all lie within 0.35 of the middle.

    Examples
    --------
    >>> [round(offset(number, 2), 2) for number in range(2)]
    [0.11, -0.11]
    """
    return ((many - 1) / 2 - number) * min(0.22, 0.7 / many)


def columns_of(table: pd.DataFrame, *names: str) -> list[NDArray[np.float64]]:
    """Return columns of a table as arrays of numbers.

    Parameters
    ----------
    table
        The table.
    *names
        Of its columns.

    Returns
    -------
    list of numpy.ndarray
        (row,) each.
    """
    return [table[name].to_numpy(np.float64) for name in names]


def points_with_intervals(
    ax: Axes, numbers: Sequence[NDArray[np.float64]], place: NDArray[np.floating], number: int, name: str
) -> None:
    """Draw numbers and their intervals, which need not contain them: percentiles of draws can lie to one side.

    Parameters
    ----------
    ax
        Where to draw.
    numbers
        (point,) values, and the lower and upper ends of their intervals; where an end is NaN, the value stands alone.
    place
        (point,) heights.
    number
        Which of several this is: it has a colour and a shape of its own.
    name
        In the legend; empty for none.
    """
    value, low, high = numbers
    colour = SEQUENCE[number % len(SEQUENCE)]
    ax.errorbar((low + high) / 2, place, xerr=(high - low) / 2, fmt="none", ecolor=colour, capsize=3, linewidth=1.2)
    ax.plot(value, place, MARKS[number % len(MARKS)], color=colour, markersize=5, label=name or None, linestyle="none")


def bars_with_intervals(ax: Axes, numbers: Sequence[NDArray[np.float64]], colour: str) -> NDArray[np.float64]:
    """Draw horizontal bars from top to bottom with their intervals.

    Parameters
    ----------
    ax
        Where to draw.
    numbers
        (bar,) lengths, and the lower and upper ends of their intervals, which need not contain them.
    colour
        Of the bars.

    Returns
    -------
    numpy.ndarray
        (bar,) heights: 0, -1, ...
    """
    value, low, high = numbers
    place = -np.arange(len(value), dtype=np.float64)
    ax.barh(place, value, height=0.6, color=colour)
    ax.errorbar((low + high) / 2, place, xerr=(high - low) / 2, fmt="none", ecolor="black", capsize=3, linewidth=1)
    return place


def number_beside(ax: Axes, ends: Iterable[float], height: float, text: str) -> None:
    """Write a number to the right of everything that is drawn for it.

    Parameters
    ----------
    ax
        Where to draw.
    ends
        How far right each part of it reaches; those that are NaN are not there.
    height
        Of the row.
    text
        The number.
    """
    known = [end for end in ends if not math.isnan(end)]
    ax.annotate(text, (max(known, default=0.0), height), (6, 0), textcoords="offset points", va="center", size="small")


def text_width(text: str, size: str = "small") -> float:
    """Return how wide a text is in a figure.

    Parameters
    ----------
    text
        The text; of several lines, the widest counts.
    size
        Of its letters, as matplotlib names sizes. Default ``"small"``.

    Returns
    -------
    float
        Inches.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    widths = (text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.splitlines())
    return float(max(widths, default=0.0)) / _POINTS


def room_for(names: Iterable[str], usual: float = 1.6) -> float:
    """Return how much wider than usual a figure must be for the names beside its rows.

    Parameters
    ----------
    names
        Beside the rows.
    usual
        Inches that a figure has for them anyway. Default 1.6.

    Returns
    -------
    float
        Inches.
    """
    return max(0.0, max(map(text_width, names), default=0.0) - usual)


def legend_height(names: Sequence[str], width: float, most: int = 3) -> float:
    """Return how much taller a figure must be for its legend to have more than one line.

    Parameters
    ----------
    names
        In the legend.
    width
        Of the figure, in inches.
    most
        Columns at the most. Default 3.

    Returns
    -------
    float
        Inches.
    """
    lines = math.ceil(len(names) / _columns(names, width, most))
    return max(0, lines - 1) * _LINE * _letters()


def finished(ax: Axes, *, most: int = 3) -> Axes:
    """Put the legend above, in as many columns as fit, and take away what says nothing.

    The legend ends where the axes end: to their left stand names, and there is room above them. A legend that reached
    beyond the figure would leave no room for the axes.

    Parameters
    ----------
    ax
        The axes, with everything drawn.
    most
        Columns at the most. Default 3.

    Returns
    -------
    matplotlib.axes.Axes
        The same.
    """
    names = ax.get_legend_handles_labels()[1]
    width = _share(ax) * ax.figure.bbox.width / ax.figure.dpi
    if names:
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=_columns(names, width, most),
            frameon=False,
            fontsize="small",
        )
    label = ax.get_xlabel()
    size = text_width(label, "medium")
    if size > 0.5 * width:
        # A long label that ends where the axes end goes on below the names at the left, not over the edge.
        fitting = int(len(label) * min(1, (width - 0.2) / size))
        ax.set_xlabel("\n".join(textwrap.wrap(label, fitting)), loc="right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _share(ax: Axes) -> float:
    """Return which part of the width of its figure is for these axes and what stands beside them."""
    spec = ax.get_subplotspec()
    if spec is None:
        return 1.0
    ratios = np.asarray(spec.get_gridspec().get_width_ratios(), np.float64)
    return float(ratios[list(spec.colspan)].sum() / ratios.sum())


def _columns(names: Sequence[str], width: float, most: int) -> int:
    """Return how many columns of a legend fit into a width (inches)."""
    column = max(map(text_width, names), default=0.0) + _HANDLE * _letters()
    fitting = int((width - _AROUND * _letters()) / (column + _BETWEEN * _letters()))
    return max(1, min(most, len(names), fitting))


def _letters() -> float:
    """Return the size of small letters in inches."""
    from matplotlib.font_manager import FontProperties

    return float(FontProperties(size="small").get_size_in_points()) / _POINTS
