"""Which of two probes is better, and how sure that is: intervals of differences, seeds and folds averaged.

Two probes tested on the same samples are compared draw by draw: what makes a sample hard makes it hard for both, so
their difference varies less than either. Draws are averaged over seeds (the same samples) within a draw, and over folds
(other samples, drawn on their own) after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from embedstore.errors import InputError
from probes.intervals import interval, two_sided
from probes.tested import SAME_SAMPLES, by_fold, common_metric, draw, read_tested

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from probes.tested import Draws, Finished, Result

_GROUP = ["task", "model", "probe", "recipe", "layer"]


class Comparison(NamedTuple):
    """How much better one probe is than another.

    Attributes
    ----------
    difference
        Metric of the first less that of the second.
    low, high
        95 % bootstrap interval of the difference over test samples.
    p
        Two-sided: twice the smaller share of draws whose difference is not above, or not below, 0. The smallest is
        2 / (draws + 1). It is not corrected for how many comparisons are made.
    n
        Test samples.
    draws
        Draws for which both metrics are defined.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    draws: int


class Average(NamedTuple):
    """Mean of a metric over seeds and folds.

    Attributes
    ----------
    mean
        Over folds, and in each over seeds.
    low, high
        95 % bootstrap interval of that mean over test samples.
    deviation
        Standard deviation (of a population, as BEND reports it) over folds, or where there is one, over seeds.
    n
        Test samples.
    seeds, folds
        How many.
    """

    mean: float
    low: float
    high: float
    deviation: float
    n: int
    seeds: int
    folds: int


def compare(
    a: Result | Sequence[Result],
    b: Result | Sequence[Result],
    *,
    metric: str | None = None,
    draws: int = 1000,
) -> Comparison:
    """Compare two probes that were tested on the same samples, by a paired bootstrap.

    Source of interval and p: Davison and Hinkley 1997, sections 5.3 and 4.2; one is added to the counts of draws, so
    that p is never 0.

    Parameters
    ----------
    a, b
        A result, or several of one probe: other seeds, other folds, or both. A result is its folder, or what
        `probes.run_probe` returned.
    metric
        See `probes.metrics.per_target`; default that of the task.
    draws
        Bootstrap draws, default 1000.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The two were not tested on the same samples, or by different metrics, or a result is not complete.
    CorruptError
        A file of a result is damaged.

    Examples
    --------
    Two folders of results, or lists of folders where there are several seeds::

        compare("results/genes/dnabert/1c0e...", "results/genes/onehot/7f31...")
    """
    sides = [read_tested(side) for side in (a, b)]
    name = common_metric([*sides[0], *sides[1]], metric)
    folds = [by_fold(side) for side in sides]
    _check_same(*folds)
    first, second = (draw(part, name, draws) for part in folds)
    if first.truth != second.truth:
        raise InputError(
            f"{sides[0][0].folder} and {sides[1][0].folder}: the labels of the test samples differ, so these are not "
            "the same samples. Test both probes on the same, complete embeddings."
        )
    return _difference(first, second)


def seed_interval(results: Result | Sequence[Result], *, metric: str | None = None, draws: int = 1000) -> Average:
    """Average a metric over the seeds and folds of one probe.

    Parameters
    ----------
    results
        A result or several, as for `compare`.
    metric
        See `probes.metrics.per_target`; default that of the task.
    draws
        Bootstrap draws, default 1000.

    Returns
    -------
    Average

    Raises
    ------
    InputError
        The results are of several tasks, or by different metrics, or one is not complete.
    """
    tested = read_tested(results)
    return _average(draw(by_fold(tested), common_metric(tested, metric), draws))


def comparison_table(
    results: pd.DataFrame,
    baseline: str | Mapping[str, Any],
    *,
    metric: str | None = None,
    draws: int = 1000,
) -> pd.DataFrame:
    """Compare every probe with a baseline.

    Parameters
    ----------
    results
        Rows of results, as `probes.read_results` gives them; their column ``path`` says where the scores are.
    baseline
        Name of a model, or values of the columns model, probe, recipe and layer that say which rows are the baseline.
        Where several of them are left, each row is compared with that of its own probe and recipe.
    metric
        See `probes.metrics.per_target`; default that of the task.
    draws
        Bootstrap draws, default 1000.

    Returns
    -------
    pandas.DataFrame
        One row per task, model, probe, recipe and layer: these, metric, test, low, high, deviation, n, seeds, folds
        (see `Average`), difference, difference_low, difference_high, p (see `Comparison`; NaN for the baseline itself).

    Raises
    ------
    InputError
        A column is missing, or a row has no baseline, or several, or one that was tested on other samples.
    """
    import pandas as pd

    wanted = {"model": baseline} if isinstance(baseline, str) else dict(baseline)
    if not set(wanted) <= set(_GROUP):
        raise InputError(f"the baseline is {wanted}; it is said by {', '.join(_GROUP[1:])}.")
    table = results.assign(layer=_layers(results["layer"] if "layer" in results else [None] * len(results)).to_numpy())
    for name in (*_GROUP, "path"):
        if name not in table:
            raise InputError(
                f"the table of results has no column {name!r}, only {', '.join(results.columns) or 'none at all'}. A "
                "comparison needs what was computed, and the path of each result, where its scores are."
            )
    groups: dict[tuple[Any, ...], Draws] = {}
    for values, rows in table.groupby(_GROUP, sort=False, dropna=False):
        tested = read_tested([Path(path) for path in rows["path"]])
        key = tuple(None if pd.isna(value) else value for value in cast("tuple[Any, ...]", values))
        groups[key] = draw(by_fold(tested), common_metric(tested, metric), draws)
    lines = []
    for key, drawn in groups.items():
        average = _average(drawn)._asdict()
        line = {**dict(zip(_GROUP, key, strict=True)), "metric": drawn.metric, "test": average.pop("mean"), **average}
        other = groups[_baseline(key, groups, wanted)]
        if other is not drawn:
            if other.truth != drawn.truth or other.metric != drawn.metric:
                raise InputError(f"{_name(key)} and its baseline were not tested on the same samples by one metric.")
            found = _difference(drawn, other)
            line |= {"difference": found.difference, "difference_low": found.low, "difference_high": found.high}
            line["p"] = found.p
        lines.append(line)
    columns = [*_GROUP, "metric", "test", *Average._fields[1:], "difference", "difference_low", "difference_high", "p"]
    made = pd.DataFrame(lines, columns=columns)
    return made.assign(layer=_layers(made["layer"]))


def _layers(values: Iterable[Any]) -> pd.Series[Any]:
    """Return layers as whole numbers, which JSON's null makes fractions; as they are where one is a mean of several."""
    import pandas as pd

    whole = [None if pd.isna(one) else one if isinstance(one, str) else int(one) for one in values]
    return pd.Series(whole, dtype=object if any(isinstance(one, str) for one in whole) else "Int64")


def _check_same(first: list[list[Finished]], second: list[list[Finished]]) -> None:
    """Refuse two probes that were tested on different samples."""
    pairs = zip(first, second, strict=False)
    for one, other in ((fold[0], against[0]) for fold, against in pairs):
        for key in SAME_SAMPLES:
            if one.test[key] != other.test[key]:
                raise InputError(
                    f"{one.folder} and {other.folder} were not tested on the same samples: {key} is "
                    f"{one.test[key]} in the first and {other.test[key]} in the second."
                )
    if len(first) != len(second):
        raise InputError(
            f"the first probe was tested on {len(first)} sets of samples, the second on {len(second)}: give the "
            "results of the same folds for both."
        )


def _average(drawn: Draws) -> Average:
    """Summarise draws."""
    folds, seeds = len(drawn.folds), max(len(seeds) for seeds in drawn.folds)
    deviation = float(np.std(drawn.means if folds > 1 else drawn.folds[0]))
    return Average(float(np.mean(drawn.means)), *interval(drawn.draws), deviation, drawn.n, seeds, folds)


def _difference(first: Draws, second: Draws) -> Comparison:
    """Summarise the differences of paired draws."""
    difference = float(np.mean(first.means) - np.mean(second.means))
    drawn = first.draws - second.draws
    drawn = drawn[~np.isnan(drawn)]
    return Comparison(difference, *interval(drawn), two_sided(drawn), first.n, len(drawn))


def _baseline(
    key: tuple[Any, ...], groups: Mapping[tuple[Any, ...], Draws], wanted: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return the baseline of a group of results: of the same task and, where there are several, of the same kind."""
    task = [other for other in groups if other[0] == key[0]]
    fitting = [other for other in task if all(other[_GROUP.index(name)] == value for name, value in wanted.items())]
    found = fitting
    for part in (slice(2, 4), slice(2, 5)):  # of the same probe and recipe, then also of the same layer
        if len(found) > 1:
            found = [other for other in found if other[part] == key[part]]
    if len(found) != 1:
        raise InputError(
            f"{_name(key)}: the baseline {dict(wanted)} must be one probe, and it is {len(fitting)}. There are: "
            f"{'; '.join(_name(other) for other in (fitting or task))}. Say which by model, probe, recipe and layer."
        )
    return found[0]


def _name(key: tuple[Any, ...]) -> str:
    """Return a group of results in words."""
    return " ".join(f"{name} {value}" for name, value in zip(_GROUP, key, strict=True) if value is not None)
