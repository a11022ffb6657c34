"""Tables of a study as they are read: titles instead of the names of columns, intervals beside their numbers.

The files of a study keep every column, unrounded; here are the columns that a reader needs.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from analysis.melting_point.figures import TERM_TITLES, title_of
from analysis.pages import MINUS, NOTHING, shown
from analysis.published_proteins import METRICS, MODELS, published_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

INTERVAL = "95 % interval"
"""Title of the column of an interval; it belongs to the column before it."""

_TOTAL = ("R2 in total", "r2", "low", "high")
_WITHIN = ("R2 within species", "r2_within", "within_low", "within_high")
_GAIN = ("gain of R2", "estimate", "low", "high")
_MODEL = ("model", "model")
_INPUT = ("input", "features")
_DIFFERENCE = (_MODEL, ("measure", "measure"), ("difference", "contrast"), _GAIN, ("p (Holm)", "p_holm"))

_COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    # title, column; or title, value, lower and upper end of its interval
    "samples": (
        ("species", "species"),
        ("training samples", "train"),
        ("test samples", "test"),
        ("mean (°C)", "mean"),
        ("standard deviation (°C)", "deviation"),
    ),
    "baselines": (
        ("input", "title"),
        ("species beside it", "with_species"),
        _WITHIN,
        _TOTAL,
        ("Spearman", "spearman"),
        ("mean error (°C)", "mae"),
        ("remark", "flag"),
        ("not known because", "missing"),
    ),
    "scores": (
        _MODEL,
        ("input", "name"),
        _WITHIN,
        _TOTAL,
        ("Spearman", "spearman"),
        ("mean error (°C)", "mae"),
        ("remark", "flag"),
    ),
    "partition": _DIFFERENCE,
    "augmentations": _DIFFERENCE,
    "joint": _DIFFERENCE,
    "shapley": (_MODEL, ("measure", "measure"), ("part", "player"), ("share of R2", *_GAIN[1:]), ("p", "p")),
    "window_curve": (
        _MODEL,
        ("measure", "measure"),
        ("width (codons)", "width"),
        ("loss of R2", *_GAIN[1:]),
        ("p", "p"),
        ("more than the width before", "step", "step_low", "step_high"),
    ),
    "permutations": (_MODEL, ("permutation", "permutation"), _WITHIN, _TOTAL),
    "decodability": (
        _MODEL,
        _INPUT,
        ("accuracy", "accuracy", "low", "high"),
        ("balanced accuracy", "balanced"),
        ("most frequent species", "majority"),
        ("species", "species"),
        ("converged", "converged"),
    ),
    "erased": (
        _MODEL,
        _INPUT,
        ("accuracy before", "accuracy_before"),
        ("accuracy after", "accuracy_after"),
        ("R2 in total before", "r2_before"),
        ("R2 in total after", "r2_after", "low", "high"),
        ("R2 within species before", "within_before"),
        ("R2 within species after", "within_after", "within_low", "within_high"),
    ),
    "left_out": (
        _MODEL,
        _INPUT,
        ("species left out", "species"),
        ("test samples", "n_test"),
        ("bias (°C)", "bias"),
        ("bias of the others' mean (°C)", "expected"),
        ("R2, bias taken away", "r2_centred"),
        ("Spearman", "spearman"),
    ),
    "by_species": (
        _MODEL,
        _INPUT,
        ("species", "species"),
        ("test samples", "n"),
        ("Spearman", "spearman", "low", "high"),
        ("bias (°C)", "bias"),
        ("heterogeneity (I2)", "i2"),
    ),
    "usage": (
        _MODEL,
        ("variable", "variable"),
        ("held fixed", "fixed"),
        ("species", "species"),
        ("samples", "n"),
        ("partial correlation", "r", "low", "high"),
        ("heterogeneity (I2)", "i2"),
    ),
    "transplant": (
        _MODEL,
        ("donor", "donor"),
        ("slope", "slope", "low", "high"),
        ("change of predictions (°C)", "change"),
        ("pairs", "n"),
        ("remark", "note"),
    ),
    "controls": (
        _MODEL,
        ("control", "control"),
        _INPUT,
        _WITHIN,
        _TOTAL,
        ("expected", "expected"),
        ("as expected", "passed"),
    ),
}
_COUNTS = ("train", "test", "n", "n_test", "species")
_ORDER = ("measure", "contrast", "player", "width", "control", "species", "donor", "permutation")
"""What belongs side by side: the models of one term rather than the terms of one model."""

_MEASURES = {"within": "within species", "total": "in total"}
_WORDS: dict[str, Callable[[Any], Any]] = {
    "measure": lambda value: _MEASURES.get(value, value),
    "contrast": lambda value: _term(str(value)),
    "player": lambda value: {"composition": "codon usage", "local": "order of codons"}.get(value, value),
    "variable": lambda value: {"cai": "codon adaptation (CAI)", "gc3": "GC3"}.get(value, value),
    "width": lambda value: "whole sequence" if math.isinf(value) else f"{value:.0f}",
    "features": lambda value: title_of(str(value)),
    "name": lambda value: title_of(str(value)),
    "p": lambda value: p_value(value),
    "p_holm": lambda value: p_value(value),
}
_CRITERIA = {"d_local > 0": "order of codons (d_local) adds", "d_comp > 0": "codon usage within species (d_comp) adds"}


def readable(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of a study with the columns that a reader needs, under titles.

    Parameters
    ----------
    name
        Of the table, as `analysis.melting_point.study.CAPTIONS` has it; one that is not known stays as it is.
    table
        As the folder of the study has it.

    Returns
    -------
    pandas.DataFrame
        Columns without any value are left out. An interval stands in the column after its number, as text.
    """
    import pandas as pd

    if name not in _COLUMNS:
        return table
    # The models of one term stand together, in the order in which the table has the terms.
    order = [column for column in _ORDER if column in table and name not in ("left_out", "by_species", "usage")]
    first = {column: {value: at for at, value in enumerate(dict.fromkeys(table[column]))} for column in order}
    if order:
        table = table.reset_index(drop=True)
        ranks = pd.DataFrame({column: table[column].map(first[column]) for column in order})
        table = table.loc[ranks.sort_values(order, kind="stable").index]
    titles: list[str] = []
    columns: list[list[Any]] = []
    for title, value, *ends in _COLUMNS[name]:
        if value not in table or table[value].isna().all() or (table[value].astype(str) == "").all():
            continue
        titles.append(title)
        columns.append(_values(value, table[value]))
        if ends and all(end in table for end in ends):
            titles.append(INTERVAL)
            columns.append([interval(low, high) for low, high in zip(*(table[end] for end in ends), strict=True)])
    return pd.DataFrame(dict(enumerate(columns))).set_axis(titles, axis=1)


def _values(column: str, values: pd.Series[Any]) -> list[Any]:
    """Return a column as it is shown; numbers stay numbers."""
    if column in _WORDS:
        return [_WORDS[column](value) for value in values]
    if column in _COUNTS and values.dtype.kind == "f":
        return ["" if math.isnan(value) else shown(round(value)) for value in values]
    return values.tolist()


def _term(contrast: str) -> str:
    """Return what a difference is called, with its name in the files."""
    title = TERM_TITLES.get(contrast, "").replace("\n", " ")
    return f"{title} ({contrast})" if title else contrast


def interval(low: float, high: float) -> str:
    """Return an interval as text; nothing where an end is not known.

    Parameters
    ----------
    low, high
        Its ends.

    Returns
    -------
    str

    Examples
    --------
    >>> interval(0.1, 0.25)
    '[0.100, 0.250]'
    """
    return "" if math.isnan(low) or math.isnan(high) else f"[{shown(float(low))}, {shown(float(high))}]"


def p_value(value: float) -> str:
    """Return a p-value as text.

    Parameters
    ----------
    value
        The number.

    Returns
    -------
    str

    Examples
    --------
    >>> p_value(0.00099), p_value(0.25)
    ('< 0.001', '0.250')
    """
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def evidence_by_model(evidence: pd.DataFrame) -> pd.DataFrame:
    """Return what a verdict rests on: a row for each criterion, a column for each model.

    Parameters
    ----------
    evidence
        model, criterion, estimate, low, high, wanted, holds.

    Returns
    -------
    pandas.DataFrame
        criterion, for each model whether it holds, with the number and its interval, and what is wanted.
    """
    import pandas as pd

    shape = re.compile(r", [-\d.]+$")  # what a share is of differs between models
    made: dict[str, dict[str, str]] = {}
    wanted: dict[str, str] = {}
    for row in evidence.to_dict("records"):
        name = str(row["criterion"])
        line = made.setdefault(name, {"criterion": _CRITERIA.get(name, name)})
        wanted.setdefault(name, shape.sub("", str(row.get("wanted") or "")))
        numbers = [float(row.get(each, math.nan)) for each in ("estimate", "low", "high")]
        value = "" if math.isnan(numbers[0]) else f"{numbers[0]:+.3f}".replace("-", MINUS)
        holds = shown(row["holds"])
        said = " ".join(part for part in (value, interval(*numbers[1:])) if part)
        line[str(row["model"])] = f"{holds}: {said}" if said else holds
    return pd.DataFrame(list(made.values())).fillna("").assign(wanted=list(wanted.values()))


def worded(task: str) -> str:
    """Return the name of a task in words.

    Parameters
    ----------
    task
        Such as ``beta_lactamase_complete``.

    Returns
    -------
    str

    Examples
    --------
    >>> worded("beta_lactamase_complete")
    'beta lactamase complete'
    """
    return task.replace("_", " ")


def table_two() -> pd.DataFrame:
    """Return the paper's Table 2 with titles.

    Returns
    -------
    pandas.DataFrame
        A row per model; columns are tasks with their test set and metric.
    """
    table = published_table()
    names = [tuple(map(str, name)) for name in table.columns.to_list()]
    titles = [f"{worded(task)} {of}".strip() + f", {METRICS[metric]}" for task, of, metric in names]
    return table.set_axis(titles, axis=1)


def beside_published(found: pd.DataFrame) -> pd.DataFrame:
    """Return numbers of ours beside published ones as they are read.

    Parameters
    ----------
    found
        From `analysis.published_proteins.compare_with_published`.

    Returns
    -------
    pandas.DataFrame
        Only rows with a number of ours, and only columns with a value.
    """
    kept = found[found["value"].notna()]
    columns: dict[str, list[Any]] = {
        "task": [worded(task) for task in kept["task"]],
        "test set": kept["test_set"].tolist(),
        "metric": [METRICS.get(metric, metric) for metric in kept["metric"]],
        "model": [MODELS.get(model, model) for model in kept["model"]],
        "input": [title_of(given) for given in kept["input"]],
        "added": kept["added"].tolist(),
        "published": [f"{row.bound} {row.published:.2f}".strip() for row in kept.itertuples()],
        "ours": kept["value"].tolist(),
        INTERVAL: [interval(low, high) for low, high in zip(kept["low"], kept["high"], strict=True)],
        "published one inside": kept["agrees"].tolist(),
        "difference": kept["difference"].tolist(),
        "probe": kept["probe"].tolist(),
        "recipe": kept["recipe"].tolist(),
        "settings": kept["settings"].tolist(),
        "layer": kept["layer"].tolist(),
        "recodings": kept["recodings"].astype(int).tolist(),
    }
    import pandas as pd

    table = pd.DataFrame(columns)
    return table.loc[:, [not (table[name].isna() | (table[name].astype(str) == "")).all() for name in table]]
