"""Figures that a report draws itself: results of each task by what the models were given."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from analysis.drawing import columns_of, finished, legend_height, offset, points_with_intervals, room_for
from analysis.melting_point.figures import title_of
from analysis.pages import figure
from analysis.plots import new_axes
from analysis.published_proteins import METRICS, regime

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FIRST = ("protein", "true")
"""Inputs that stand above the recoded ones."""


def input_figures(results: pd.DataFrame) -> list[str]:
    """Draw the results of each task that models were given in several ways: as proteins, with true or other codons.

    Parameters
    ----------
    results
        From `probes.results_table`.

    Returns
    -------
    list of str
        Figures for a page; none where every task was given in one way only.
    """
    from matplotlib import pyplot as plt

    said = [regime(str(task)) for task in results["task"]]
    # What differs between results of one model is in its name: only recodings are averaged.
    differ = ["model", *(name for name in ("layer", "probe", "recipe", "settings") if len(set(results[name])) > 1)]
    names = [", ".join(str(part) for part in row if part) for row in results[differ].itertuples(index=False)]
    own = results.assign(task=[one.task for one in said], input=[one.input for one in said], name=names)
    found = []
    for (task, metric), rows in own.groupby(["task", "metric"], sort=False):
        if len(set(rows["input"])) == 1:
            continue
        groups = rows.groupby(["input", "name"], sort=False)
        table = groups[["value", "low", "high"]].mean().reset_index()
        title, measure = str(task).replace("_", " "), METRICS.get(str(metric), str(metric))
        text, many = f"{title}: {measure} by what the models were given, mean of all recodings.", rows["n_test"].max()
        text = text if np.isnan(many) else f"{text} n = {many:,.0f} test samples."
        drawn = cast("Figure", plot_inputs(table, metric=measure).figure)
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "inputs.png"
            drawn.savefig(picture, dpi=150)
            found.append(figure(picture, text, alt=f"Figure of {title}. Its numbers are in the table of results."))
        plt.close(drawn)
    return found


def plot_inputs(table: pd.DataFrame, ax: Axes | None = None, *, metric: str = "Spearman") -> Axes:
    """Draw a metric by what models were given, as points with intervals.

    Parameters
    ----------
    table
        input, name (of the model), value, low, high (95 % interval);
        drawn from top to bottom: proteins, true codons, others.
    ax
        Where to draw, default a new figure.
    metric
        Its name, for the axis.

    Returns
    -------
    matplotlib.axes.Axes
    """
    inputs, names = (list(dict.fromkeys(table[column])) for column in ("input", "name"))
    inputs.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    titles = [title_of(name).replace("_", " ") for name in inputs]
    ax = ax or new_axes(6 + room_for(titles), 1.1 + 0.4 * len(inputs) + legend_height(names, 6))
    for number, name in enumerate(names):
        own = table[table["name"] == name].set_index("input").reindex(inputs)
        place = -np.arange(len(inputs)) + offset(number, len(names))
        points_with_intervals(ax, columns_of(own, "value", "low", "high"), place, number, name)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(-np.arange(len(inputs)), titles, fontsize="small")
    ax.set(xlabel=f"{metric} on test samples (95 % interval)", ylim=(-len(inputs) + 0.5, 0.5))
    return finished(ax)
