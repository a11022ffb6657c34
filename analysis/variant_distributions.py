"""The figure of how a variant score is distributed in every group, with a box for each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.plots import COLOURS, new_axes
from analysis.variant_groups import column_of, labels, numbers_of, title_of
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_LABELLED = {"label 1": COLOURS["vermillion"], "label 0": "white", "no label": "0.8"}


def plot_score_distributions(
    scores: pd.DataFrame, ax: Axes | None = None, *, column: str = "cosine", by: str = "consequence"
) -> Axes:
    """Draw how a variant score is distributed in every group: median, quartiles, 5th and 95th percentile.

    Parameters
    ----------
    scores
        From `analysis.score_variants`; ``label`` is used where it is there. Variants without a score are left out.
    ax
        Where to draw, default a new figure.
    column
        The score, default ``cosine``.
    by
        Column of the groups, default ``consequence``.

    Returns
    -------
    matplotlib.axes.Axes
        Groups in the order of their medians, the largest on top, with a box for each label in them: filled for 1, white
        for 0, grey for none. The number of variants of each box is beside the name.

    Raises
    ------
    InputError
        A column is missing, or no variant has a score.
    """
    boxes = _boxes(scores, column, by)
    names = list(dict.fromkeys(name for name, _, _ in boxes))
    ax = ax or new_axes(5.5, 0.9 + 0.42 * len(names))
    ticks = []
    for place, name in enumerate(names, 1):
        here = [(kind, values) for other, kind, values in boxes if other == name]
        offsets = (np.arange(len(here)) - (len(here) - 1) / 2) * -0.8 / len(here)
        for offset, (kind, values) in zip(offsets.tolist(), here, strict=True):
            ax.boxplot(
                [values],
                positions=[place + offset],
                orientation="horizontal",
                whis=(5, 95),
                showfliers=False,
                widths=0.6 / len(here),
                patch_artist=True,
                manage_ticks=False,
                medianprops={"color": "black"},
                boxprops={"facecolor": _LABELLED[kind], "edgecolor": "black"},
            )
        ticks.append(f"{name} ({' + '.join(f'{len(values):,}' for _, values in here)})")
    ax.set_yticks(range(1, len(names) + 1), ticks)
    ax.set(xlabel=title_of(column), ylim=(0.4, len(names) + 0.6))
    _label_legend(ax, [kind for kind in _LABELLED if kind in {kind for _, kind, _ in boxes}])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _boxes(scores: pd.DataFrame, column: str, by: str) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Return the scores of each group and label, (group, label, scores), groups in the order of their medians."""
    value = numbers_of(scores, column)
    label = labels(scores) if "label" in scores else np.full(len(scores), np.nan)
    kind = np.where(label == 1, "label 1", np.where(label == 0, "label 0", "no label"))
    name = column_of(scores, by).astype(object).mask(column_of(scores, by).isna(), "").astype(str).to_numpy()
    known = ~np.isnan(value)
    if not known.any():
        raise InputError(f"no variant has a score in {column!r}: there is nothing to draw.")
    order = sorted(set(name[known]), key=lambda one: float(np.median(value[known & (name == one)])))
    cells = ((one, mark, value[known & (name == one) & (kind == mark)]) for one in order for mark in _LABELLED)
    return [(one or "not given", mark, values) for one, mark, values in cells if len(values)]


def _label_legend(ax: Axes, kinds: Sequence[str]) -> None:
    """Say which colour is which label, where there are two or more."""
    from matplotlib.patches import Patch

    if len(kinds) > 1:
        handles = [Patch(facecolor=_LABELLED[kind], edgecolor="black", label=kind) for kind in kinds]
        ax.legend(
            handles=handles, ncols=len(kinds), loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize="small"
        )
