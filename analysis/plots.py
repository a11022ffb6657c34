"""Figures: every function draws on a matplotlib Axes and returns it.

Colours are those of Okabe and Ito (2008, "Color universal design"), which people with any colour vision tell apart;
shape, height or a label says the same a second time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError
from embedstore.outputs import written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "grey": "#7F7F7F",
}
"""Name -> hexadecimal colour."""

SEQUENCE = [COLOURS[name] for name in ("blue", "orange", "green", "vermillion", "purple", "sky", "grey")]
"""Colours of curves, in the order in which they are taken."""

_CLASSES = ("exon", "donor", "intron", "acceptor")
_CLASS_COLOUR = dict(zip(_CLASSES, (COLOURS[name] for name in ("blue", "vermillion", "grey", "green")), strict=True))
_NON_CODING = 8


def plot_gene_tracks(
    tracks: Mapping[str, ArrayLike], ax: Axes | None = None, *, start: int = 0, chromosome: str = ""
) -> Axes:
    """Draw gene structure as a genome browser does: exons as boxes, introns as lines, splice sites as ticks.

    Every track has two lanes, the forward strand above the reverse one. Donors are ticks that reach up, acceptors
    ticks that reach down.

    Parameters
    ----------
    tracks
        Name -> (nucleotide,) int, BEND's nine gene-finding classes: 0 exon, 1 donor, 2 intron, 3 acceptor, 4 to 7 the
        same on the reverse strand, 8 non-coding; negative, no label. Drawn from top to bottom.
    ax
        Where to draw, default a new figure.
    start
        Coordinate of the first nucleotide, 0-based.
    chromosome
        Its name, for the axis.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are no tracks, they differ in length, or hold other numbers than -100 to 8.
    """
    from matplotlib.patches import Patch

    classes = _track_classes(tracks)
    ax = ax or new_axes(9, 0.9 + 0.9 * len(classes))
    for number, track in enumerate(classes.values()):
        for strand, first in enumerate((0, 4)):
            _draw_lane(ax, track - first, start, middle=-number - 0.25 - 0.4 * strand)
    length = len(next(iter(classes.values())))
    ax.set(xlim=(start, start + length), ylim=(-len(classes) + 0.1, 0.1), xlabel=f"{chromosome} position".strip())
    ax.set_yticks([-number - 0.45 for number in range(len(classes))], list(classes))
    lanes = ax.secondary_yaxis("right")
    lanes.set_yticks(
        [-n - 0.25 - 0.4 * strand for n in range(len(classes)) for strand in (0, 1)], ["+", "\u2212"] * len(classes)
    )
    for axis in (ax, lanes):
        axis.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    lanes.spines["right"].set_visible(False)
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    handles = [Patch(color=_CLASS_COLOUR[name], label=name) for name in _CLASSES]
    ax.legend(handles=handles, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize="small")
    return ax


def _track_classes(tracks: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.int64]]:
    """Return tracks as arrays of one length."""
    classes = {name: np.asarray(values).astype(np.int64) for name, values in tracks.items()}
    lengths = {name: len(track) for name, track in classes.items()}
    if not lengths or len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise InputError(f"tracks must be one or more of one length, not empty; got {lengths}.")
    for name, track in classes.items():
        if track.max() > _NON_CODING:
            raise InputError(f"track {name!r} holds class {track.max()}; gene-finding classes are 0 to {_NON_CODING}.")
    return classes


def runs(values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the stretches of equal values.

    Parameters
    ----------
    values
        (position,) integers.

    Returns
    -------
    start, end, value : numpy.ndarray
        (stretch,) int64 each; stretches are half-open and in order.

    Examples
    --------
    >>> [part.tolist() for part in runs([8, 8, 0, 0, 0, 8])]
    [[0, 2, 5], [2, 5, 6], [8, 0, 8]]
    """
    array = np.asarray(values).astype(np.int64)
    start = np.flatnonzero(np.diff(array, prepend=array[:1] - 1))
    return start, np.append(start[1:], len(array)), array[start]


def _draw_lane(ax: Axes, classes: NDArray[np.int64], offset: int, middle: float) -> None:
    """Draw one strand of a track; classes outside of 0 to 3 are left white."""
    start, end, value = runs(classes)
    ax.axhline(middle, color="0.9", linewidth=0.6, zorder=0)
    # Extent below and above the middle: exons are boxes, introns lines, splice sites ticks to either side.
    for kind, (below, above) in enumerate(((0.13, 0.13), (0.0, 0.19), (0.018, 0.018), (0.19, 0.0))):
        kept = value == kind
        spans = list(zip((start[kept] + offset).tolist(), (end - start)[kept].tolist(), strict=True))
        if spans:
            colour = _CLASS_COLOUR[_CLASSES[kind]]
            # One nucleotide is thinner than a pixel: the outline keeps a tick in sight.
            width = 1.2 if kind in (1, 3) else 0
            ax.broken_barh(
                spans,
                (middle - below, below + above),
                facecolor=colour,
                edgecolor=colour,
                linewidth=width,
                zorder=3 if width else 2,
            )


def plot_class_probabilities(probability: ArrayLike, ax: Axes | None = None, *, start: int = 0) -> Axes:
    """Draw the probability of exon, intron and splice site along a sequence, both strands added up.

    Parameters
    ----------
    probability
        (nucleotide, 9) probabilities of BEND's gene-finding classes.
    ax
        Where to draw, default a new figure.
    start
        Coordinate of the first nucleotide, 0-based.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are not nine classes.
    """
    values = np.asarray(probability, np.float64)
    if values.ndim != 2 or values.shape[1] != _NON_CODING + 1:
        raise InputError(f"probabilities of shape {values.shape}; (nucleotide, {_NON_CODING + 1}) is wanted.")
    ax = ax or new_axes(9, 2)
    both = values[:, :4] + values[:, 4:8]
    place = np.arange(start, start + len(values))
    lines = {
        "exon": (both[:, 0], "-"),
        "intron": (both[:, 2], "--"),
        "donor": (both[:, 1], "-"),
        "acceptor": (both[:, 3], "-"),
    }
    for name, (line, style) in lines.items():
        ax.plot(place, line, style, color=_CLASS_COLOUR[name], linewidth=1, label=name)
    ax.set(xlim=(start, start + len(values)), ylim=(0, 1), ylabel="probability", xlabel="position")
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize="small")
    return ax


def plot_metric_bars(table: pd.DataFrame, ax: Axes | None = None, *, metric: str = "MCC") -> Axes:
    """Draw a metric per model as bars with intervals and the number beside.

    Parameters
    ----------
    table
        model, value, low, high; drawn from top to bottom.
    ax
        Where to draw, default a new figure.
    metric
        Its name, for the axis.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = ax or new_axes(5, 0.8 + 0.4 * len(table))
    place = -np.arange(len(table))
    value, low, high = (table[column].to_numpy(np.float64) for column in ("value", "low", "high"))
    ax.barh(place, value, height=0.6, color=COLOURS["blue"])
    ax.errorbar(value, place, xerr=[value - low, high - value], fmt="none", ecolor="black", capsize=3, linewidth=1)
    for where, number, end in zip(place.tolist(), value.tolist(), np.maximum(high, 0).tolist(), strict=True):
        ax.text(end + 0.015, where, f"{number:.3f}", va="center", fontsize="small")
    ax.set_yticks(place, table["model"].tolist())
    ax.set(xlabel=f"{metric} (95 % interval)", xlim=(min(0, float(low.min()) - 0.02), 1.1))
    ax.axvline(0, color="black", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def save_figure(figure: Figure, path: str | Path, table: pd.DataFrame) -> Path:
    """Write a figure, and the numbers it shows as CSV of the same name beside it.

    Parameters
    ----------
    figure
        The figure.
    path
        The picture; its ending says which kind.
    table
        The numbers.

    Returns
    -------
    pathlib.Path
        The picture.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path.with_suffix(".csv")) as part:  # first: a picture that is there has its numbers
        table.to_csv(part, index=False)
    with written_whole(path) as part:
        figure.savefig(part, dpi=150)
    return path


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure.

    Parameters
    ----------
    width, height
        Of the figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
