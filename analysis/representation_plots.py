"""Figures of embedding spaces: each draws on a matplotlib Axes and returns it; colours of `analysis.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.drawing import (
    MARKS,
    bars_with_intervals,
    columns_of,
    finished,
    legend_height,
    number_beside,
    offset,
    room_for,
    text_width,
)
from analysis.plots import COLOURS, SEQUENCE, new_axes
from analysis.representations import CHANCE
from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_TITLES = {
    "gc": "GC content",
    "gc_from_confounds": "GC content,\nfrom the confounds alone",
    "gc_beyond_confounds": "GC content beyond\nthe confounds (partial)",
    "position": "position",
    "length": "length",
    "n_share": "share of N",
}
_CLASSES = 3 * len(SEQUENCE)
"""More classes than so many, and the rest is drawn as one."""

_LEGEND = 18
"""Lines of a legend that a map has room for."""

_SHORT = 1.2
"""Inches: the longest names that stand below a matrix; longer ones are numbered."""


def plot_embedding_map(table: pd.DataFrame, ax: Axes | None = None, *, colour: str = "gc") -> Axes:
    """Draw a map of samples, coloured by something that is known of them.

    Parameters
    ----------
    table
        From `analysis.embedding_map`: x, y and columns; `attrs` name the axes.
    ax
        Where to draw, default a new figure.
    colour
        Column to colour by, default ``gc``. Numbers have a scale; everything else has a colour and a marker for each
        value, the most frequent first, in the legend with its number of samples. Samples without a value are grey.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        There is no such column.
    """
    for name in ("x", "y", colour):
        if name not in table:
            raise InputError(f"the table has no column {name!r}.{did_you_mean(name, table.columns)}")
    values = table[colour]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    ax = ax or new_axes(6.2 + (0 if numeric else _legend_room(values)), 4.4)
    known = values.notna().to_numpy()
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    style: dict[str, Any] = {"s": float(np.clip(9000 / max(len(table), 1), 4, 30)), "linewidths": 0, "rasterized": True}
    if not known.all():
        ax.scatter(x[~known], y[~known], color="0.8", label=f"no {colour} ({int((~known).sum()):,})", **style)
    if numeric:
        if known.any():
            drawn = ax.scatter(x[known], y[known], c=values[known].to_numpy(np.float64), cmap="viridis", **style)
            ax.figure.colorbar(drawn, ax=ax, label=_TITLES.get(colour, colour), pad=0.02)
        _name_axes(ax, table)
        return finished(ax)
    _draw_classes(ax, x[known], y[known], values[known].to_numpy(np.str_), style)
    names = ax.get_legend_handles_labels()[1]
    ax.legend(
        title=_TITLES.get(colour, colour),
        loc="upper left",
        bbox_to_anchor=(1, 1),
        ncols=1 + (len(names) - 1) // _LEGEND if names else 1,
        frameon=False,
        fontsize="small",
        markerscale=1.5,
    )
    _name_axes(ax, table)
    return ax


def _legend_room(values: pd.Series[Any]) -> float:
    """Return how much wider than usual a map must be for the names of its classes (inches)."""
    names = values.dropna().astype(str).unique()
    more = (min(len(names), _CLASSES + 1) - 1) // _LEGEND
    return room_for(names, 0.5) + more * (room_for(names, 0) + 1)


def _draw_classes(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], names: NDArray[np.str_], style: dict[str, Any]
) -> None:
    """Draw the samples of each class in a colour and with a marker of its own."""
    counts = pd.Series(names).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    for number, (name, many) in enumerate(counts.iloc[:_CLASSES].items()):
        own = names == name
        marker = MARKS[number % len(MARKS)]
        ax.scatter(
            x[own], y[own], color=SEQUENCE[number % len(SEQUENCE)], marker=marker, label=f"{name} ({many:,})", **style
        )
    rest = counts.iloc[_CLASSES:]
    if len(rest):
        own = np.isin(names, rest.index.to_numpy(str))
        ax.scatter(x[own], y[own], color="0.6", label=f"{len(rest)} others ({rest.sum():,})", **style)


def _name_axes(ax: Axes, table: pd.DataFrame) -> None:
    """Say what the axes are; those of t-SNE and UMAP have no numbers that mean anything."""
    method, explained = table.attrs.get("method", ""), table.attrs.get("explained")
    names = {"pca": "principal component", "tsne": "t-SNE", "umap": "UMAP"}
    title = names.get(method, "component")
    share = [f" ({each:.0%})" for each in explained] if explained else ["", ""]
    ax.set(xlabel=f"{title} 1{share[0]}", ylabel=f"{title} 2{share[1]}")
    if "model" in table.attrs:
        title, room = f"{table.attrs['task']}, {table.attrs['model']}", ax.figure.bbox.width / ax.figure.dpi - 1.2
        if text_width(title, "medium") > room:
            title = title.replace(", ", ",\n", 1)
        ax.set_title(title, fontsize="medium", loc="left")
    if method in ("tsne", "umap"):
        ax.set(xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)


def plot_decodability(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how well each target is decoded, with intervals and the number beside.

    Parameters
    ----------
    table
        From `analysis.gc_decodability` (`Decodability.table`), or several of them with a column ``model``.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Targets that are the same everywhere have no point and say so. An R2 below -0.1 is drawn there.
    """
    models = table["model"].astype(str) if "model" in table else pd.Series("", table.index)
    names = list(dict.fromkeys(models))
    targets = list(dict.fromkeys(table["target"]))
    height = 1.2 + 0.3 * len(targets) * max(1, 0.7 * len(names))
    ax = ax or new_axes(6, height + legend_height(names, 6))
    for number, name in enumerate(names):
        own = table[models == name].set_index("target")
        for place, target in enumerate(targets):
            if target in own.index:
                height = offset(number, len(names)) - place
                _draw_r2(ax, own.loc[target], height, number, name if place == 0 else "")
    ax.set_yticks([-place for place in range(len(targets))], [_TITLES.get(target, target) for target in targets])
    ax.set(xlabel="R² of held-out predictions (95 % interval)", xlim=(-0.14, 1.15), ylim=(-len(targets) + 0.5, 0.5))
    ax.axvline(0, color="black", linewidth=0.8, zorder=0)
    return finished(ax)


def _draw_r2(ax: Axes, row: pd.Series[Any], height: float, number: int, label: str) -> None:
    """Draw one value with its interval."""
    if np.isnan(row["r2"]):
        ax.text(0.02, height, "the same everywhere", va="center", fontsize="small", color="0.4")
        return
    value, low, high = (float(np.clip(row[name], -0.1, 1)) for name in ("r2", "low", "high"))
    colour = SEQUENCE[number % len(SEQUENCE)]
    ax.plot([low, high], [height, height], color=colour, linewidth=1.5)
    ax.plot(value, height, MARKS[number % len(MARKS)], color=colour, markersize=6, label=label or None, ls="none")
    number_beside(ax, (value, high), height, f"{row['r2']:.3f}")


def plot_decoded(predictions: pd.DataFrame, ax: Axes | None = None, *, target: str = "gc") -> Axes:
    """Draw held-out predictions of a target against its values.

    Parameters
    ----------
    predictions
        `Decodability.predictions`.
    ax
        Where to draw, default a new figure.
    target
        Which, default ``gc``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        There is no such target, or no sample has a prediction of it.
    """
    if f"{target}_predicted" not in predictions:
        raise InputError(f"there are no predictions of {target!r}.{did_you_mean(target, predictions.columns)}")
    x, y = (predictions[name].to_numpy(np.float64) for name in (target, f"{target}_predicted"))
    known = ~(np.isnan(x) | np.isnan(y))
    if not known.any():
        raise InputError(f"no sample has both a value and a prediction of {target!r}: there is nothing to draw.")
    ax = ax or new_axes(4.2, 3.8)
    ax.scatter(x[known], y[known], s=6, linewidths=0, alpha=0.4, color=COLOURS["blue"], rasterized=True)
    ends = [float(min(x[known].min(), y[known].min())), float(max(x[known].max(), y[known].max()))]
    ax.plot(ends, ends, "--", color="black", linewidth=1)
    title = _TITLES.get(target, target)
    ax.set(xlabel=title, ylabel=f"{title}, predicted", aspect="equal")
    return finished(ax)


def plot_neighbours(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the share of nearest neighbours that are alike, with its interval, and that of chance as a line.

    Parameters
    ----------
    table
        From `analysis.neighbours`.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    titles = [
        f"{_TITLES.get(name, name)} ({groups})" for name, groups in zip(table["by"], table["groups"], strict=True)
    ]
    ax = ax or new_axes(5.5 + room_for(titles), 1.1 + 0.45 * len(table))
    *numbers, chance = columns_of(table, "share", "low", "high", CHANCE)
    place = bars_with_intervals(ax, numbers, COLOURS["sky"])
    ax.vlines(chance, place - 0.38, place + 0.38, color=COLOURS["vermillion"], linewidth=2.2, label="chance")
    for height, *ends in zip(place.tolist(), *(values.tolist() for values in (*numbers, chance)), strict=True):
        number_beside(ax, ends, height, f"{ends[0]:.2f}")
    ax.set_yticks(place, titles)
    ax.set(xlabel=f"share of the {table['k'].iloc[0]} nearest neighbours that are alike", xlim=(0, 1.1))
    return finished(ax)


def plot_similarity(table: pd.DataFrame, ax: Axes | None = None, *, value: str = "cka_debiased") -> Axes:
    """Draw how alike spaces are as a matrix with its numbers.

    Parameters
    ----------
    table
        From `analysis.similarity_table`.
    ax
        Where to draw, default a new figure.
    value
        ``"cka_debiased"`` (default) or ``"cka"``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    names = list(dict.fromkeys(table["a"]))
    matrix = np.full((len(names), len(names)), np.nan)
    for a, b, number in zip(table["a"], table["b"], table[value], strict=True):
        matrix[names.index(a), names.index(b)] = matrix[names.index(b), names.index(a)] = number
    size, beside = 0.55 * len(names), max(map(text_width, names))
    numbered = beside > _SHORT
    ax = ax or new_axes(2.8 + size + (beside if numbered else 0), max(2.2, 1.8 + size - (1 if numbered else 0)))
    image = ax.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
    for (row, column), number in np.ndenumerate(matrix):
        text = "\u2013" if np.isnan(number) else f"{number:.2f}"
        ax.text(
            column, row, text, ha="center", va="center", color="white" if number > 0.6 else "black", fontsize="small"
        )
    places = range(len(names))
    if numbered:
        # Slanted below the matrix, long names would take more room than the matrix.
        ax.set_xticks(places, [str(place + 1) for place in places])
        ax.set_yticks(places, [f"{name}  {place + 1}" for place, name in enumerate(names)], fontsize="small")
    else:
        ax.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(places, names)
    title = {"cka_debiased": "CKA, debiased", "cka": "CKA"}[value]
    ax.figure.colorbar(image, ax=ax, label=title, pad=0.02)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
