"""Figures of variant scores: every function draws on a matplotlib Axes and returns it; colours of `analysis.plots`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.plots import COLOURS, SEQUENCE, new_axes
from analysis.variant_groups import (
    ALL,
    SAME_GROUP,
    SPLICE_DISTANCE,
    comparisons,
    labels,
    numbers_of,
    oriented,
    title_of,
)
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from analysis.variant_groups import Group

_LEGEND = "AUROC (label 1 / label 0)"
_LETTERS_SHOWN = 100
"""Up to so many positions each letter of the reference has its place along the axis."""


def plot_roc(
    scores: pd.DataFrame,
    ax: Axes | None = None,
    *,
    column: str = "cosine",
    by: str | None = "consequence",
    controls: bool = False,
    least: int = 10,
    directions: Mapping[str, int] | None = None,
) -> Axes:
    """Draw ROC curves of a variant score, one for each group: what `analysis.score_table` puts into numbers.

    Parameters
    ----------
    scores
        From `analysis.score_variants`, with ``label``; variants without label or score are left out.
    ax
        Where to draw, default a new figure.
    column
        The score, default ``cosine``.
    by
        Column of the groups, default ``consequence``; None for one curve of all variants.
    controls
        Compare all positives with the negatives of each group that has some; default: within each group, and with all
        variants of the other label where those of a group are alike.
    least
        Groups with fewer positives or negatives than so many are named in the legend and not drawn. Default 10.
    directions
        See `analysis.score_table`.

    Returns
    -------
    matplotlib.axes.Axes
        The legend has AUROC, and the numbers of positives and negatives.

    Raises
    ------
    InputError
        A column is missing, or all labels are alike.
    """
    value, label = oriented(scores, column, directions), labels(scores)
    known = ~np.isnan(value) & ~np.isnan(label)
    found = comparisons(scores, by, controls=controls)
    # Groups of variants without labels, such as those that are not in a database, have no curve and no line.
    found = [group for group in found[1:] if (group.compared & known).any()] or found[:1]
    curves = [
        _Curve.of(_curve_name(group, controls), label[group.compared & known], value[group.compared & known], least)
        for group in found
    ]
    # Beside the axes: within, a curve may lie anywhere.
    ax = ax or new_axes(4.4 + 0.068 * max(len(_LEGEND), *(len(curve.text) for curve in curves)), 4)
    for number, curve in enumerate(curves):
        _draw_roc(ax, number, curve)
    ax.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    ax.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="false positive rate",
        ylabel="true positive rate",
        aspect="equal",
        anchor="W",
    )
    style: dict[str, Any] = {"fontsize": "small", "title_fontsize": "small", "frameon": False}
    ax.legend(title=_LEGEND, loc="center left", bbox_to_anchor=(1, 0.5), **style)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


class _Curve(NamedTuple):
    """A line of the legend, and the curve where there are variants enough."""

    text: str
    points: tuple[NDArray[np.float64], NDArray[np.float64]] | None

    @classmethod
    def of(cls, name: str, label: NDArray[np.float64], value: NDArray[np.float64], least: int) -> _Curve:
        """Compute the curve of some variants."""
        from sklearn.metrics import roc_auc_score, roc_curve

        positives = int(label.sum())
        negatives = len(label) - positives
        many = f"({positives:,} / {negatives:,})"
        if min(positives, negatives) < max(least, 1):
            return cls(f"{name}: too few {many}", None)
        false, true, _ = roc_curve(label, value)
        return cls(f"{name}: {roc_auc_score(label, value):.3f} {many}", (false, true))


def _curve_name(group: Group, controls: bool) -> str:
    """Return what the legend calls a comparison."""
    if controls:
        return group.name if group.name == ALL else f"against {group.name}"
    return group.name if group.compared_with == SAME_GROUP else f"{group.name} against all"


def _draw_roc(ax: Axes, number: int, curve: _Curve) -> None:
    """Draw one curve; what has none gets a line in the legend only."""
    false, true = curve.points or ([], [])
    style: dict[str, Any] = {"linestyle": ("-", "--", ":", "-.")[number % 4] if curve.points else "none"}
    ax.plot(false, true, color=SEQUENCE[number % len(SEQUENCE)], label=curve.text, **style)


def plot_score_by_distance(
    scores: pd.DataFrame,
    distance: str,
    ax: Axes | None = None,
    *,
    column: str = "cosine",
    edges: Sequence[int] = SPLICE_DISTANCE,
) -> Axes:
    """Draw a variant score against a distance: every variant as a point, and medians and quartiles in bins.

    Parameters
    ----------
    scores
        From `analysis.score_variants`, with a column of distances. Variants without score or distance are left out.
    distance
        Name of that column: nucleotides to the nearest splice site, as `embedstore.annotation.nearest` gives them
        (negative: upstream), or without sign.
    ax
        Where to draw, default a new figure.
    column
        The score, default ``cosine``.
    edges
        Where bins of the distance begin, whole numbers, ascending from 0; the last has no end. Default as `binned`
        takes for splice sites; where there are negative distances, the same on both sides.

    Returns
    -------
    matplotlib.axes.Axes
        The axis of distances is linear up to 10 nucleotides and logarithmic beyond. Variants labelled 1, where there
        are labels, have another colour.

    Raises
    ------
    InputError
        A column is missing, the edges are not as above, or no variant has both numbers.
    """
    place, value = numbers_of(scores, distance), numbers_of(scores, column)
    known = ~np.isnan(place) & ~np.isnan(value)
    if not known.any():
        raise InputError(f"no variant has both {column!r} and {distance!r}: there is nothing to draw.")
    spans = _spans(edges, place[known])
    ax = ax or new_axes(6.5, 3.8)
    positive = labels(scores) == 1 if "label" in scores else np.zeros(len(scores), bool)
    for kept, colour, name in ((~positive, "0.6", "variants"), (positive, COLOURS["orange"], "variants, label 1")):
        here = known & kept
        if here.any():
            # A million points in a vector picture would be of no use to anyone.
            style: dict[str, Any] = {"s": 5, "linewidths": 0, "alpha": 0.5, "rasterized": True}
            ax.scatter(place[here], value[here], color=colour, label=f"{name} ({int(here.sum()):,})", **style)
    _draw_quartiles(ax, spans, place[known], value[known])
    ax.set_xscale("symlog", linthresh=10, linscale=1.5, subs=[2, 3, 4, 5, 6, 7, 8, 9])
    ax.set(xlim=(spans[0][0] - 1, spans[-1][1]), xlabel=_distance_title(distance), ylabel=title_of(column))
    ax.xaxis.set_major_formatter(lambda number, _: f"{number / 1000:g}k" if abs(number) >= 1000 else f"{number:g}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize="small", markerscale=2)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _distance_title(distance: str) -> str:
    """Return what the axis of a distance is called."""
    title = title_of(distance)
    return f"{distance.replace('_', ' ') if title == distance else title} (nucleotides)"


def _spans(edges: Sequence[int], place: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return where bins begin and end on the axis, half a nucleotide off, on both sides of 0 where needed."""
    edge = np.asarray(edges, np.float64)
    if len(edge) < 1 or edge[0] != 0 or (np.diff(edge) <= 0).any() or (edge != np.round(edge)).any():
        raise InputError(f"edges are {tuple(edges)}; ascending whole numbers from 0 are wanted.")
    end = max(float(np.abs(place).max()), edge[-1]) + 1
    bounds = [*(edge - 0.5).tolist(), end - 0.5]
    right = [(low, high) for low, high in pairwise(bounds)]
    if (place >= 0).all():
        return right
    # The first bin lies around 0 and is one bin.
    return [(-high, -low) for low, high in reversed(right[1:])] + [(-right[0][1], right[0][1]), *right[1:]]


def _draw_quartiles(
    ax: Axes, spans: Sequence[tuple[float, float]], place: NDArray[np.float64], value: NDArray[np.float64]
) -> None:
    """Draw medians as lines and quartiles as boxes, one for each bin that holds variants."""
    named = False
    for low, high in spans:
        here = value[(place > low) & (place < high)]
        if not len(here):
            continue
        lower, median, upper = np.quantile(here, [0.25, 0.5, 0.75])
        box: dict[str, Any] = {
            "facecolor": COLOURS["sky"],
            "alpha": 0.45,
            "edgecolor": COLOURS["blue"],
            "linewidth": 0.6,
        }
        ax.fill_between([low, high], lower, upper, zorder=3, label=None if named else "quartiles", **box)
        name = None if named else "median"
        ax.plot([low, high], [median, median], color=COLOURS["blue"], linewidth=2.2, zorder=4, label=name)
        named = True


def plot_mutagenesis(scores: xr.DataArray, ax: Axes | None = None) -> Axes:
    """Draw the score of every change in a region: positions along, the four letters up.

    Parameters
    ----------
    scores
        (position, letter), as `analysis.mutagenesis` gives it: coordinates ``position`` (0-based), ``letter`` (A, C, G,
        T) and along ``position`` the letter of the genome, ``reference``. NaN where there is no score.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A dot marks the letter of the genome; up to 100 positions the letters also stand below. Colours run from light
        to dark where no score is negative, else from orange over white (0) to purple.

    Raises
    ------
    InputError
        A dimension or coordinate is missing.
    """
    missing = [name for name in ("position", "letter", "reference") if name not in scores.coords]
    if missing or set(scores.dims) != {"position", "letter"}:
        raise InputError(
            f"the scores have dimensions {tuple(map(str, scores.dims))} and coordinates "
            f"{', '.join(map(str, scores.coords))}; (position, letter) with a coordinate reference is wanted."
        )
    values = scores.transpose("letter", "position").to_numpy().astype(np.float64)
    position = scores["position"].to_numpy()
    letter, reference = scores["letter"].to_numpy().tolist(), scores["reference"].to_numpy().tolist()
    first, last = int(position[0]), int(position[-1])
    ax = ax or new_axes(min(max(4.0, 1.6 + 0.17 * len(position)), 14), 2.2)
    extent = (first - 0.5, last + 0.5, len(letter) - 0.5, -0.5)
    image = ax.imshow(values, aspect="auto", interpolation="nearest", extent=extent, **_colours(values))
    ax.set_facecolor("0.85")
    row = [letter.index(one) if one in letter else np.nan for one in reference]
    size = float(np.clip(900 / len(position), 1, 16))
    ax.scatter(position, row, s=size, color="black", edgecolors="white", linewidths=0.4 if size > 4 else 0, zorder=3)
    ax.set_yticks(range(len(letter)), letter)
    ax.set(xlabel=" ".join(filter(None, (scores.attrs.get("chromosome"), "position"))))
    _number_positions(ax)
    if len(position) <= _LETTERS_SHOWN:
        _draw_reference(ax, position, reference)
    name = str(scores.attrs.get("score") or scores.name or "score")
    ax.figure.colorbar(image, ax=ax, label=_wrapped(title_of(name)), pad=0.01, aspect=10)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
    return ax


def _number_positions(ax: Axes) -> None:
    """Write as many positions below the axes as there is room for."""
    from matplotlib.ticker import MaxNLocator

    inches = ax.figure.get_window_extent().width / ax.figure.dpi
    ax.xaxis.set_major_locator(MaxNLocator(max(1, int(inches / 1.5)), steps=[1, 2, 5, 10], integer=True))
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")


def _wrapped(text: str) -> str:
    """Return a title in lines that fit beside a low picture."""
    from textwrap import fill

    return fill(text, 20)


def _colours(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return colours and their range, which is symmetric where there are negative scores."""
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low < 0:
        end = max(-low, high)
        return {"cmap": "PuOr", "vmin": -end, "vmax": end}
    return {"cmap": "Blues", "vmin": low, "vmax": high if high > low else low + 1}


def _draw_reference(ax: Axes, position: NDArray[np.int64], reference: Sequence[str]) -> None:
    """Write the letters of the genome below the picture, and positions below them."""
    letters = ax.secondary_xaxis("bottom")
    letters.set_xticks(position, reference)
    size = float(np.clip(560 / len(position), 5.5, 10))
    letters.tick_params(axis="x", length=0, labelsize=size, pad=1)
    letters.spines["bottom"].set_visible(False)
    ax.tick_params(axis="x", pad=size + 3, length=0)
