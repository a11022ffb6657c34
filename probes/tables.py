"""The model x task table of results, in the layout of BEND's Table 3 (Marin et al. 2024), with intervals and notes.

`results_table` averages over seeds and folds and gives numbers, one row per cell; `pivot` and the exports of
`probes.table_formats` give text.
"""

from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedstore.errors import CorruptError, InputError
from embedstore.progress import progress_bar
from probes.metrics import why_undefined
from probes.table_formats import pivot, to_csv, to_latex, to_markdown, to_text
from probes.table_sheet import BASELINE, LANGUAGE_MODEL, row_order
from probes.tested import FREE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

__all__ = ["pivot", "results_table", "to_csv", "to_latex", "to_markdown", "to_text"]

logger = logging.getLogger(__name__)

TASK_ORDER = (
    "gene_finding",
    "chromatin_accessibility",
    "enhancer_annotation",
    "histone_modification",
    "cpg_methylation",
    "variant_effects_expression",
    "variant_effects_disease",
    "fluorescence",
    "beta_lactamase_complete",
    "beta_lactamase_unique",
    "stability",
    "melting_point",
    "secondary_structure",
)
"""Columns of BEND's Table 3 and of Boshar et al. 2024, by the names of the task records; others follow by name."""

COLUMNS = (
    "task",
    "metric",
    "kind",
    "model",
    "layer",
    "probe",
    "recipe",
    "settings",
    "value",
    "low",
    "high",
    "std_folds",
    "seeds",
    "folds",
    "n_test",
    "base_rate",
    "published",
    "targets",
    "targets_defined",
    "blocks_missing",
    "record",
    "remarks",
)
"""Columns of `results_table`."""

_NEEDED = ("task", "model", "probe", "recipe", "seed", "metric", "test", "low", "high")
_OTHERWISE: dict[str, Any] = {
    "layer": math.nan,
    "fold": math.nan,
    "n_test": math.nan,
    "base_rate": math.nan,
    "targets": math.nan,
    "targets_defined": math.nan,
    "blocks_missing": 0,
    "published": False,
    "record": "",
    "path": None,
}
_SAME = ["task", "metric", "model", "layer", "probe", "recipe"]
_CELL = [*_SAME, "settings", "blocks_missing"]
_NO_SETTING = (*FREE, "samples", "blocks_missing")  # which samples: shown as blocks that are missing


def results_table(
    rows: pd.DataFrame, *, published: bool = True, out: str | Path | None = None, progress: bool = False
) -> pd.DataFrame:
    """Average results over seeds and folds: one row per task, model, probe and recipe.

    Results that differ in anything else are never averaged: ``settings`` then says what differs, as the files
    ``spec.json`` in their folders have it.

    Parameters
    ----------
    rows
        Results, as `probes.read_results` gives them, or a sweep. Probes that failed in a sweep are left out, with a
        line in the log. Where there are several seeds or folds, the folder of each result is needed, in the column
        ``path``: the interval comes from the scores in them.
    published
        Look up the published number where a task is the published one (default).
    out
        Folder that the results were written to, for rows without a column ``path``, as those of a sweep.
    progress
        Show a bar while intervals are computed.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`. ``layer`` is empty for the last one. ``value`` is the mean over folds of the mean over seeds;
        ``low`` and ``high`` its 95 % bootstrap interval over test samples, seeds averaged within each draw
        (`probes.comparison.seed_interval`); ``std_folds`` the population standard deviation over folds, as BEND reports
        it, NaN for one fold; ``n_test`` the test samples of all folds together; ``published`` NaN where nothing was
        published. Language models come before baselines, tasks in BEND's order.

    Raises
    ------
    InputError
        There is nothing to show, a column is missing, two results contradict each other, or the scores behind an
        interval are not there.
    """
    import pandas as pd

    rows = _checked(rows)
    if out is not None and rows["path"].isna().all():
        columns = (rows["task"], rows["model"], rows["spec"])
        rows = rows.assign(path=[str(Path(out, t, m, spec[:12])) for t, m, spec in zip(*columns, strict=True)])
    rows = _with_settings(rows)
    groups = [group for _, group in rows.groupby(_CELL, sort=False)]
    bar = progress_bar(groups, "intervals", show=progress, unit="cell")
    cells: list[dict[str, Any]] = [_cell(group, published) for group in bar]
    cells.sort(key=_order)
    return pd.DataFrame(cells, columns=list(COLUMNS))


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    """Return results with all columns, without those of probes that failed."""
    if "status" in rows and (rows["status"] == "failed").any():
        failed = rows["status"] == "failed"
        logger.warning("%d probes that failed are left out of the table", failed.sum())
        rows = rows[~failed]
    if rows.empty:
        raise InputError("there are no results to make a table of.")
    missing = [name for name in _NEEDED if name not in rows]
    if missing:
        raise InputError(
            f"the results have no column {', '.join(missing)}; rows as probes.read_results gives them are wanted."
        )
    rows = rows.assign(**{name: value for name, value in _OTHERWISE.items() if name not in rows})
    nameless = rows[rows["recipe"].isna()]
    if len(nameless):
        raise InputError(
            f"{len(nameless)} results name no recipe, the first {_where(nameless.iloc[0])}: an older version wrote "
            "them. Remove their folders and run these probes again."
        )
    return rows.assign(
        layer=[_layer(value) for value in rows["layer"]],
        blocks_missing=rows["blocks_missing"].fillna(0).astype(int),
        published=rows["published"].fillna(value=False).astype(bool),
    )


def _layer(value: Any) -> str:
    """Return a layer as text, nothing for the last one."""
    if isinstance(value, str):
        return "" if value == "-1" else value
    return "" if value is None or math.isnan(value) or value == -1 else f"{value:.0f}"


def _where(row: pd.Series[Any]) -> str:
    """Say which result it is, for a message."""
    name = f"{row['task']}/{row['model']} {row['probe']} seed {row['seed']}"
    return f"{name} in {row['path']}" if isinstance(row["path"], str) else name


def _with_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what differs between results of one task, model, layer, probe and recipe, beyond seed and fold."""
    import pandas as pd

    parts = []
    for _, group in rows.groupby(_SAME, sort=False):
        found = [_settings(row) for _, row in group.iterrows()]
        names = sorted({name for one in found for name in one})
        differ = [name for name in names if any(one.get(name) != found[0].get(name) for one in found)]
        texts = [", ".join(f"{name}={_short(one.get(name))}" for name in differ) for one in found]
        parts.append(group.assign(settings=texts))
    return pd.concat(parts)


def _settings(row: pd.Series[Any]) -> dict[str, Any]:
    """Return what decides the numbers of a result beyond seed and fold, by name."""
    found: dict[str, Any] = {"missing blocks": row["blocks_missing"]}
    if not isinstance(row["path"], str):
        return found
    path = Path(row["path"]) / "spec.json"
    try:
        spec = json.loads(path.read_text())
    except FileNotFoundError:
        return found
    except ValueError as error:
        raise CorruptError(
            f"{path}: {error}. The file is damaged: remove its folder and run the probe again."
        ) from error
    whole = math.isnan(row["fold"])
    for name, value in _flat(spec):
        leaf = name.rpartition(".")[2]
        if leaf in _NO_SETTING or (leaf == "splits" and not whole):
            continue
        # Training, validation and test samples come from one embedding of one task.
        parts = name.split(".")
        short = parts[2:] if parts[0] == "data" and leaf != "splits" else parts[1:] if len(parts) > 1 else parts
        found[".".join(short)] = value
    return found


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries, by their names joined by dots."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _short(value: Any) -> str:
    """Return a setting as text, a digest by its first digits."""
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:8] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _cell(group: pd.DataFrame, published: bool) -> dict[str, Any]:
    """Average the results of one cell."""
    group = _each_once(group)
    folds = group.groupby("fold", dropna=False)
    means = folds["test"].agg(lambda values: values.mean(skipna=False))
    first = group.iloc[0]
    low, high = _interval(group)
    cell = {
        **{name: first[name] for name in _CELL},
        "kind": BASELINE if is_baseline(first["model"], first["probe"]) else LANGUAGE_MODEL,
        "value": float(means.mean(skipna=False)),
        "low": low,
        "high": high,
        "std_folds": float(means.std(ddof=0, skipna=False)) if len(means) > 1 else math.nan,
        "seeds": int(folds["seed"].nunique().max()),
        "folds": len(means),
        "n_test": float(folds["n_test"].max().sum(skipna=False)),
        "base_rate": float(folds["base_rate"].mean().mean()),
        "published": _published(group) if published else math.nan,
        "targets": float(group["targets"].max()),
        "targets_defined": float(group["targets_defined"].min()),
        "record": first["record"],
    }
    return {**cell, "remarks": "; ".join(_remarks(cell))}


def _each_once(group: pd.DataFrame) -> pd.DataFrame:
    """Return the results of a cell, each seed and fold once; refuse two that differ."""
    for _, same in group.groupby(["fold", "seed"], dropna=False):
        each = same.assign(test=same["test"].fillna(math.inf)).drop_duplicates("test")
        if len(each) > 1:
            said = ", ".join(f"{_where(row)} has {row['test']:.4f}" for _, row in each.iterrows())
            raise InputError(
                "results for the same seed and fold, without any known difference in their settings, have other "
                f"numbers: {said}. Remove the folders of those that are not wanted."
            )
    return group.drop_duplicates(["fold", "seed"])


def _interval(group: pd.DataFrame) -> tuple[float, float]:
    """Return the interval of a cell; of a single result it is in its row."""
    if len(group) == 1:
        return float(group["low"].iloc[0]), float(group["high"].iloc[0])
    if not all(isinstance(path, str) for path in group["path"]):
        raise InputError(
            f"{_where(group.iloc[0])}: the interval of a mean over {len(group)} seeds and folds needs the scores in "
            "the folders of the results, which these rows do not name in a column path. Use probes.read_results."
        )
    from probes.comparison import seed_interval

    found = seed_interval(list(group["path"]))
    return found.low, found.high


def is_baseline(model: str, probe: str) -> bool:
    """Tell whether a probe uses no language model.

    Parameters
    ----------
    model
        Name of an embedding, or of what is computed from the letters.
    probe
        Kind of probe; ``"majority"`` looks at labels only.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_baseline("kmer3", "logistic"), is_baseline("dnabert6", "majority"), is_baseline("dnabert6", "cnn")
    (True, True, False)
    """
    from embedstore.onehot import ONE_HOT
    from probes.letters import NAMES

    return probe == "majority" or model in (ONE_HOT, *NAMES)


def _published(group: pd.DataFrame) -> float:
    """Return the published number for a cell, NaN where there is none."""
    first = group.iloc[0]
    if not group["published"].all() or first["layer"]:
        return math.nan
    from embedstore.tasks.published import publication, published_value

    value = published_value(publication(first["record"]), first["model"], first["probe"])
    return math.nan if value is None else float(value)


def _remarks(cell: dict[str, Any]) -> list[str]:
    """Say what a reader must know of a cell."""
    found = []
    if cell["blocks_missing"]:
        found.append(
            f"partial: {cell['blocks_missing']:,} blocks of the embedding were not there, their samples were left out"
        )
    if cell["targets_defined"] < cell["targets"]:
        fewest = "" if cell["folds"] == cell["seeds"] == 1 else " (the fewest of a fold)"
        found.append(
            f"mean over {cell['targets_defined']:,.0f}{fewest} of {cell['targets']:,.0f} targets: the metric is not "
            f"defined for the others, whose test {why_undefined(cell['metric'])} are all alike"
        )
    return found


def _order(cell: dict[str, Any]) -> tuple[Any, ...]:
    """Return what cells are sorted by: tasks as in BEND, language models first, numbers in names by their size."""
    place = TASK_ORDER.index(cell["record"]) if cell["record"] in TASK_ORDER else len(TASK_ORDER)
    names = [str(cell[name]) for name in ("kind", "model", "layer", "probe", "recipe", "settings")]
    return place, cell["task"], cell["metric"], row_order(names)
