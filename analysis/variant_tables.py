"""How well variant scores tell labels apart: AUROC and AUPRC by kind of variant, and which of two scores is better.

Intervals are by bootstrap; variants of one gene, or close to each other, are not independent and can be drawn together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.variant_groups import (
    ALLELE_FREQUENCY,
    LEAST_DRAWN,
    SPLICE_DISTANCE,
    binned,
    check_directions,
    clusters,
    column_of,
    comparisons,
    few_drawn,
    labels,
    oriented,
)
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.variant_groups import Group
    from probes.scores import Scores

__all__ = [
    "ALLELE_FREQUENCY",
    "LEAST_DRAWN",
    "SPLICE_DISTANCE",
    "auroc_table",
    "binned",
    "compare_scores",
    "score_table",
]

_METRICS = {"auroc": ("low", "high"), "auprc": ("auprc_low", "auprc_high")}
"""Metric -> columns of its interval."""

_SAME_VARIANTS = ("chromosome", "position", "ref", "alt", "label")


def score_table(
    scores: pd.DataFrame,
    columns: str | Sequence[str] = ("cosine",),
    *,
    by: str | None = None,
    least: int = 10,
    groups: str | int | None = None,
    directions: Mapping[str, int] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how well scores tell variants labelled 1 from those labelled 0: over all, and within each group.

    Within a group its own positives and negatives are compared, as in BEND's numbers per consequence. Where all labels
    of a group are alike, all variants of the other label are the counterpart, and ``compared_with`` says so. Source of
    the intervals: cluster bootstrap, see `probes.intervals.bootstrap`. 300,000 variants take about half a minute per
    score for each time that all of them are compared, on one core.

    Parameters
    ----------
    scores
        From `analysis.score_variants`: ``label`` (0, 1, or NaN for none) and a column per score (NaN where a variant
        was not scored). Baselines (`analysis.baseline_scores`) can be further columns.
    columns
        Scores to evaluate, default ``cosine``.
    by
        Column of the groups, such as ``"consequence"`` or one that `binned` made; default none. Categories keep their
        order, other values are sorted; variants without a value are the group ``not given``.
    least
        Fewer positives or negatives than so many, and a group has counts and a ``note``, but no metric. Default 10.
    groups
        What is drawn together: a column (``"gene"``; variants without one are drawn alone), or a number of
        nucleotides, for blocks of that size of a chromosome. Default: variants one by one.
    directions
        +1 where a larger score means a larger effect, -1 otherwise, by column; default that of
        `analysis.variants.SCORES` and `analysis.variant_baselines.BASELINES`, +1 for others.
    draws
        Bootstrap draws, default 1000.
    seed
        Of the draws.

    Returns
    -------
    pandas.DataFrame
        A row per score and group: score, group (``all`` first), auroc, low, high (95 % percentile interval), auprc,
        auprc_low, auprc_high, base_rate (share of positives: AUPRC of a random score), positives, negatives (those with
        a score), compared_with, not_scored (rows of the group without the score), unlabelled (its rows with the score
        and without a label), clusters (how many things were drawn), draws, seed, note (why there is no number, or,
        where fewer than `LEAST_DRAWN` things of either label can be drawn, no interval).

    Raises
    ------
    InputError
        A column is missing, a label is not 0 or 1 or missing, all labels are alike, a score is infinite, or an option
        is not as above.

    References
    ----------
    Marin et al. 2024, BEND, section 3.5 and Table 13.
    """
    import pandas as pd

    names = (columns,) if isinstance(columns, str) else tuple(columns)
    _check_options(least, draws)
    values = {name: oriented(scores, name, directions) for name in names}
    check_directions(directions, names)
    found, cluster = comparisons(scores, by), clusters(scores, groups)
    label = labels(scores)
    rows = [
        {"score": name, "group": group.name, **_evaluated(label, value, cluster, group, least, draws, seed)}
        for name, value in values.items()
        for group in found
    ]
    return pd.DataFrame(rows)


def auroc_table(
    scores: pd.DataFrame, column: str = "cosine", *, by: str = "consequence", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare the variants labelled 1 with those labelled 0: with all, and with each group of controls among them.

    For a table in which the groups of negatives are controls for all positives; `score_table` compares within groups.

    Parameters
    ----------
    scores
        From `analysis.score_variants`, with the columns ``label`` (0, 1, or NaN, left out), `by` and a score.
    column
        The score, default ``cosine``.
    by
        Column of the kinds of controls.
    draws
        Bootstrap draws of variants behind the interval, default 1000.
    seed
        Of the draws.

    Returns
    -------
    pandas.DataFrame
        controls (``all`` or a group), auroc, low, high (95 % percentile interval), positives, negatives, draws, seed,
        note (why there is no interval, see `LEAST_DRAWN`).

    Raises
    ------
    InputError
        If a column is missing, a score is NaN, or all labels are alike.
    """
    import pandas as pd

    found, label, value = comparisons(scores, by, controls=True), labels(scores), oriented(scores, column)
    if np.isnan(value).any():
        raise InputError(
            f"{int(np.isnan(value).sum()):,} scores in {column!r} are NaN: rows of the embedding are zero there, or "
            "the variants were not scored. score_table counts such variants and leaves them out."
        )
    kept = ("auroc", "low", "high", "positives", "negatives", "draws", "seed", "note")
    rows = []
    for group in found:
        row = _evaluated(label, value, np.arange(len(scores)), group, 1, draws, seed, metrics=("auroc",))
        rows.append({"controls": group.name, **{name: row[name] for name in kept}})
    return pd.DataFrame(rows)


def compare_scores(
    first: pd.DataFrame,
    second: pd.DataFrame | None = None,
    columns: str | tuple[str, str] = "cosine",
    *,
    by: str | None = None,
    least: int = 10,
    groups: str | int | None = None,
    directions: Mapping[str, int] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two models by one score, or two scores, on the same variants, by a paired bootstrap.

    What makes a variant hard makes it hard for both, so the difference varies less than either. Source of interval and
    p: Davison and Hinkley 1997, sections 5.3 and 4.2, as in `probes.compare`.

    Parameters
    ----------
    first, second
        Two tables of the same variants in the same order, as `score_table` takes them. Default for the second: the
        first, and `columns` are two of its scores.
    columns
        The score of both, default ``cosine``, or that of the first and that of the second.
    by, least, groups, directions, draws, seed
        As for `score_table`. `by` and `groups` are columns of the first table.

    Returns
    -------
    pandas.DataFrame
        A row per group and metric: group, metric (``auroc``, ``auprc``), first, second, difference (first less second),
        low, high (its 95 % interval), p (two-sided, not corrected for how many comparisons are made; no interval and no
        p where fewer than `LEAST_DRAWN` things of either label can be drawn), positives,
        negatives, compared_with, not_scored (rows of the group that lack either score), clusters, draws, seed, note.

    Raises
    ------
    InputError
        As for `score_table`; the tables hold other variants; or a score would be compared with itself.
    """
    import pandas as pd

    one, other = (columns, columns) if isinstance(columns, str) else columns
    if second is None and one == other:
        raise InputError(f"{one!r} would be compared with itself: give a second table, or two columns of this one.")
    _check_options(least, draws)
    check_directions(directions, (one, other))
    if second is not None:
        check_same(first, second)
    values = [
        oriented(first, one, directions),
        oriented(first if second is None else second, other, directions),
    ]
    both = np.where(np.isnan(values[0]) | np.isnan(values[1]), np.nan, 0.0)
    label, cluster = labels(first), clusters(first, groups)
    rows = []
    for group in comparisons(first, by):
        # Counts are those of variants with both scores.
        counts = _evaluated(label, both, cluster, group, least, draws, seed, metrics=())
        kept = ("positives", "negatives", "compared_with", "not_scored", "clusters", "draws", "seed", "note")
        defined = min(counts["positives"], counts["negatives"]) >= least
        sides = [_compared(label, value + both, cluster, group) for value in values] if defined else []
        for metric in _METRICS:
            row = {"group": group.name, "metric": metric, **_difference(metric, sides, draws, seed)}
            rows.append({**row, **{name: counts[name] for name in kept}})
    return pd.DataFrame(rows)


def _check_options(least: int, draws: int) -> None:
    if least < 1 or draws < 1:
        raise InputError(f"least is {least} and draws is {draws}; both must be 1 or more.")


def check_same(first: pd.DataFrame, second: pd.DataFrame, columns: Sequence[str] = _SAME_VARIANTS) -> None:
    """Refuse two tables that do not hold the same variants in the same order.

    Parameters
    ----------
    first, second
        Tables of variants.
    columns
        What must be the same, default place, alleles and label.

    Raises
    ------
    InputError
        They differ, or lack a column.
    """
    if len(first) != len(second):
        raise InputError(f"the tables have {len(first):,} and {len(second):,} rows: they hold other variants.")
    for name in columns:
        one, other = (column_of(table, name).reset_index(drop=True) for table in (first, second))
        differ = ((one != other) & ~(one.isna() & other.isna())).to_numpy(bool)
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            raise InputError(
                f"the tables hold other variants: {name} differs in {int(differ.sum()):,} of {len(first):,} rows, "
                f"first in row {row}: {one[row]} and {other[row]}. Score the same variants, in the same order."
            )


def scored_variants(
    scores: pd.DataFrame,
    column: str = "cosine",
    *,
    groups: str | int | None = None,
    directions: Mapping[str, int] | None = None,
) -> Scores:
    """Return what metrics and intervals of all labelled and scored variants are computed from.

    Parameters
    ----------
    scores, column, groups, directions
        As for `score_table`.

    Returns
    -------
    probes.scores.Scores
        One target; variants that are drawn together are one sample. Larger scores mean larger effects.

    Raises
    ------
    InputError
        As for `score_table`.
    """
    (every,) = comparisons(scores)
    return _compared(labels(scores), oriented(scores, column, directions), clusters(scores, groups), every)


def _compared(
    label: NDArray[np.float64], value: NDArray[np.float64], cluster: NDArray[np.int64], group: Group
) -> Scores:
    """Return the labelled and scored variants of a comparison, those that are drawn together as one sample."""
    from probes.scores import Scores

    kept = np.flatnonzero(group.compared & ~np.isnan(label) & ~np.isnan(value))
    kept = kept[np.argsort(cluster[kept], kind="stable")]
    sample = np.unique(cluster[kept], return_inverse=True)[1]
    target: Any = label[kept, None]
    score: Any = value[kept, None]
    return Scores(loss=float("nan"), sample=sample, target=target, score=score)


def _evaluated(
    label: NDArray[np.float64],
    value: NDArray[np.float64],
    cluster: NDArray[np.int64],
    group: Group,
    least: int,
    draws: int,
    seed: int,
    metrics: Sequence[str] = tuple(_METRICS),
) -> dict[str, Any]:
    """Return the columns of a comparison."""
    from probes.intervals import bootstrap, interval
    from probes.metrics import base_rate, mean_defined, per_target

    compared = _compared(label, value, cluster, group)
    assert compared.target is not None
    assert compared.sample is not None
    positives, negatives = (int((compared.target == one).sum()) for one in (1, 0))
    undefined = _note(positives, negatives, least)
    note = undefined or few_drawn(compared)
    row: dict[str, Any] = {}
    for metric in metrics:
        row[metric], ends = float("nan"), (float("nan"), float("nan"))
        if not undefined:
            row[metric] = mean_defined(per_target(metric, compared))
        if not note:
            ends = interval(bootstrap(metric, compared, draws=draws, seed=seed))
        row.update(zip(_METRICS[metric], ends, strict=True))
    scored = ~np.isnan(value)
    return row | {
        "base_rate": mean_defined(base_rate(compared.target)),
        "positives": positives,
        "negatives": negatives,
        "compared_with": group.compared_with,
        "not_scored": int((group.members & ~scored).sum()),
        "unlabelled": int((group.members & scored & np.isnan(label)).sum()),
        "clusters": int(compared.sample[-1]) + 1 if len(compared.sample) else 0,
        "draws": draws,
        "seed": seed,
        "note": note,
    }


def _note(positives: int, negatives: int, least: int) -> str:
    """Say why a comparison has no number, if it has none."""
    few = [f"{count} with label {label}" for label, count in ((1, positives), (0, negatives)) if count < least]
    return f"only {' and '.join(few)}; {least} are wanted" if few else ""


def _difference(metric: str, sides: Sequence[Scores], draws: int, seed: int) -> dict[str, float]:
    """Return the columns of a paired comparison; NaN without sides."""
    from probes.intervals import bootstrap, interval, two_sided
    from probes.metrics import mean_defined, per_target

    if not sides:
        return dict.fromkeys(("first", "second", "difference", "low", "high", "p"), float("nan"))
    first, second = (mean_defined(per_target(metric, side)) for side in sides)
    row = {"first": first, "second": second, "difference": first - second}
    if few_drawn(sides[0]):
        return row | dict.fromkeys(("low", "high", "p"), float("nan"))
    one, other = (bootstrap(metric, side, draws=draws, seed=seed) for side in sides)
    low, high = interval(one - other)
    return row | {"low": low, "high": high, "p": two_sided(one - other)}
