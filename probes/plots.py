"""Figures of results: every function draws on a matplotlib Axes, returns it, and writes nothing.

Colours are those of Okabe and Ito (2008, "Color universal design"), which people with any colour vision tell apart;
markers and line styles say the same a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError
from probes.calibration import calibration_table, expected_calibration_error
from probes.metrics import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_LINES = ("-", "--", "-.", ":")


FEWEST = 20
"""Statements in a bin below which the share that is right says too little to be drawn."""


def plot_confusion(confusion: ArrayLike, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw which classes are taken for which: of each true class, the share that was predicted as each class.

    Parameters
    ----------
    confusion
        (true class, predicted class) counts, or (sample, true class, predicted class) of `probes.scores.Scores`.
    names
        Names of the classes.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Rows are true classes, with how many positions they have; a class without any has an empty row.

    Raises
    ------
    InputError
        There are not as many names as classes.
    """
    counts = np.asarray(confusion)
    counts = counts.sum(axis=0) if counts.ndim == 3 else counts
    many = len(names)
    if counts.shape != (many, many):
        raise InputError(f"a confusion matrix of shape {counts.shape} and {many} names: one name per class is wanted.")
    ax = ax or _new_axes(2.2 + 0.52 * many, 1.4 + 0.46 * many)
    n = counts.sum(axis=1)
    share = ratio(counts, np.repeat(n[:, None], many, axis=1))
    image = ax.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(counts > 0).tolist():
        value = share[row, column]
        ax.text(
            column,
            row,
            _percent(value),
            ha="center",
            va="center",
            fontsize=8 if many <= 12 else 5,
            color="white" if value > 0.55 else "black",
        )
    ax.set_xticks(range(many), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(many), [f"{name}  ({count:,})" for name, count in zip(names, n.tolist(), strict=True)])
    ax.set(xlabel="predicted", ylabel="true (positions)")
    ax.set_xticks(np.arange(many + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(many + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="0.85", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="share of the true class, %", format=lambda x, _: f"{100 * x:.0f}")
    return ax


def _percent(share: float) -> str:
    """Return a share that is above 0 as percent in three characters at most."""
    percent = 100 * share
    if percent < 0.1:
        return "<.1"
    return f"{percent:.1f}".lstrip("0") if percent < 9.95 else f"{percent:.0f}"


def plot_reliability(
    counts: NDArray[np.float64], ax: Axes | None = None, *, label: str = "probe", fewest: int = FEWEST
) -> Axes:
    """Draw how often statements of each probability are right, and how many there are.

    Source: reliability diagram, Guo et al. 2017, On calibration of modern neural networks, ICML, section 2.

    Parameters
    ----------
    counts
        (bin, 3) from `probes.calibration.calibration_counts`.
    ax
        Where to draw, default a new figure. Called again on the same Axes it adds another line, without bars.
    label
        Name of the line; the expected calibration error is written behind it.
    fewest
        Bins with fewer statements, default 20, are left out of the line, and not of the error.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = ax or _new_axes(4.4, 4.2)
    table = calibration_table(counts)
    number = sum(line.get_gid() == "reliability" for line in ax.get_lines())
    if number == 0:
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="calibrated")
        total = max(table["n"].sum(), 1)
        width = table["high"] - table["low"]
        ax.bar(table["low"], table["n"] / total, width, align="edge", color="0.87", zorder=0, label="share of all")
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        ax.set(xlabel="stated probability", ylabel="share that is right")
        ax.spines[["top", "right"]].set_visible(False)
    ax.plot(
        *table.loc[table["n"] >= fewest, ["stated", "right"]].to_numpy().T,
        marker=_MARKERS[number % len(_MARKERS)],
        color=_COLOURS[number % len(_COLOURS)],
        linestyle=_LINES[number % len(_LINES)],
        markersize=4.5,
        label=f"{label} (ECE {expected_calibration_error(counts):.3f})",
        gid="reliability",
    )
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def plot_layers(table: pd.DataFrame, ax: Axes | None = None, *, metric: str = "test metric") -> Axes:
    """Draw a metric by the layer whose embedding was probed, with intervals as bands.

    Parameters
    ----------
    table
        layer, test, low, high; checkpoint or model where there are several; valid, the validation metric, where it is
        known. Rows without a layer (means of several) are left out.
    ax
        Where to draw, default a new figure.
    metric
        Its name, for the axis.

    Returns
    -------
    matplotlib.axes.Axes
        The best layer of each model, by the validation metric where it is known, is ringed and named in the legend.
    """
    from matplotlib.ticker import MaxNLocator

    ax = ax or _new_axes(5.5, 3.6)
    table = table[table["layer"].notna()]
    key = next((name for name in ("checkpoint", "model") if name in table), None)
    models = [None] if key is None else list(dict.fromkeys(table[key]))
    for number, model in enumerate(models):
        rows = (table if key is None else table[table[key] == model]).sort_values("layer")
        layer, test, low, high = (rows[name].to_numpy(np.float64) for name in ("layer", "test", "low", "high"))
        known = "valid" in rows and rows["valid"].notna().all()
        judge = rows["valid"].to_numpy(np.float64) if known else test
        colour = _COLOURS[number % len(_COLOURS)]
        ax.fill_between(layer, low, high, color=colour, alpha=0.18, linewidth=0)
        # A profile has one embedding per layer; the last one's name stands for the model.
        name = "" if model is None else str(rows["model"].iloc[-1] if "model" in rows else model)
        if not np.isnan(judge).all():
            best = int(np.nanargmax(judge))
            ax.plot(layer[best], test[best], "o", markersize=11, markerfacecolor="none", color=colour)
            name += f"{', ' if name else ''}best: layer {layer[best]:.0f}"
        ax.plot(
            layer,
            test,
            color=colour,
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle=_LINES[number % len(_LINES)],
            markersize=4,
            label=name,
        )
    ax.set(xlabel="layer", ylabel=f"{metric} (95 % interval)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_results(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw every model's metric on every task as a dot with its interval.

    Parameters
    ----------
    table
        One row per result: task, model, metric, test, low, high; probe and recipe where they differ. Seeds and folds
        must be averaged before, see `probes.comparison.comparison_table`.
    ax
        Where to draw, default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Models from top to bottom in the order of the table, tasks by colour and marker.

    Raises
    ------
    InputError
        There are none, or a model has two on one task.
    """
    if table.empty:
        raise InputError("there are no results to draw.")
    table = table.reset_index(drop=True)
    kinds = [name for name in ("probe", "recipe") if name in table and len(set(table[name])) > 1]
    labels = table[["model", *kinds]].astype(str).agg(" · ".join, axis=1)
    twice = table["task"][table.assign(label=labels).duplicated(["task", "label"])]
    if len(twice):
        raise InputError(
            f"{labels[twice.index[0]]} has several results on {twice.iloc[0]}: average seeds and folds, or choose one."
        )
    models, tasks = list(dict.fromkeys(labels)), list(dict.fromkeys(table["task"]))
    ax = ax or _new_axes(6.5, 1.2 + len(models) * max(0.32, 0.1 * len(tasks)))
    step = 0.72 / len(tasks)
    for number, task in enumerate(tasks):
        rows, here = table[table["task"] == task], labels[table["task"] == task]
        place = np.array([models.index(model) for model in here]) + (number - (len(tasks) - 1) / 2) * step
        test, low, high = (rows[name].to_numpy(np.float64) for name in ("test", "low", "high"))
        ax.errorbar(
            test,
            place,
            xerr=np.maximum(0, [test - low, high - test]),
            fmt=_MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            markersize=4.5,
            elinewidth=1.2,
            label=f"{task} ({', '.join(dict.fromkeys(rows['metric']))})",
        )
    for border in range(1, len(models)):
        ax.axhline(border - 0.5, color="0.9", linewidth=0.7, zorder=0)
    ax.set_yticks(range(len(models)), models)
    ax.set(ylim=(len(models) - 0.5, -0.5), xlabel="test metric (95 % interval)")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="x", color="0.92", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=min(2, len(tasks)))
    return ax


def _new_axes(width: float, height: float) -> Any:
    """Return the axes of a new figure of so many inches."""
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
