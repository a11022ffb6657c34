"""What stands in the cells of the table of results, whatever it is written as."""

from __future__ import annotations

import math
import re
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

LANGUAGE_MODEL, BASELINE = "language model", "baseline"

_ROW = ["kind", "model", "layer", "probe", "recipe", "settings"]
HEAD = ("kind", "model", "probe", "recipe")
_TESTED = ["seeds", "folds", "n_test"]
_TEXT = (*_ROW, "task", "metric", "record", "remarks")
_NOTHING = "-"
DECIMALS = 3
"""Of every metric; the best of a column is found after rounding, so that equal numbers are marked alike."""

METRICS = {"mcc": "MCC", "auroc": "AUROC", "auprc": "AUPRC", "r2": "R2", "spearman": "Spearman"}
"""How metrics are written."""


class Cell(NamedTuple):
    """A cell of an export.

    Attributes
    ----------
    number
        Its number, or its text.
    rest
        What follows the number.
    best
        Whether it is the best of its column.
    marks
        Letters of its notes.
    """

    number: str
    rest: str = ""
    best: bool = False
    marks: str = ""


class Sheet(NamedTuple):
    """A table as it is written.

    Attributes
    ----------
    head
        Names of the columns.
    rows
        Cells of each row.
    notes
        What stands below it: the letter that a cell has, or nothing, and the text.
    left
        How many columns are names and not numbers.
    parts
        How many rows each part has: language models, baselines.
    """

    head: list[str]
    rows: list[list[Cell]]
    notes: list[tuple[str, str]]
    left: int
    parts: list[int]


def sheet(table: pd.DataFrame, *, long: bool) -> Sheet:
    """Lay results out.

    Parameters
    ----------
    table
        From `probes.tables.results_table`.
    long
        One row per result; else a column per task.

    Returns
    -------
    Sheet
    """
    return _long(table) if long else _wide(table)


class _Notes:
    """Notes below a table; the same text has one letter."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Return the letter of a note: a to z, then aa, ab, ..."""
        if text not in self.marks:
            number = len(self.marks)
            before = ascii_lowercase[number // 26 - 1] if number >= 26 else ""
            self.marks[text] = before + ascii_lowercase[number % 26]
        return self.marks[text]

    def of(self, remarks: Sequence[str]) -> str:
        """Return the letters of several notes."""
        return ",".join(self.mark(text) for text in remarks)


def _wide(table: pd.DataFrame) -> Sheet:
    """Lay results out with a column per task."""
    table = table.assign(rounded=table["value"].round(DECIMALS))
    notes, about = _Notes(), []
    head: list[str] = [*HEAD]
    columns: list[dict[tuple[str, ...], Cell]] = []
    for key, column in table.groupby(["task", "metric"], sort=False):
        task, metric = map(str, key)
        name = f"{task} ({METRICS.get(metric, metric)})"
        usual = column[_TESTED].value_counts(dropna=False).index[0]
        about.append(f"{name}: {_tested(usual)}.")
        best = column.loc[column["blocks_missing"] == 0, "rounded"].max()
        head.append(name)
        columns.append({_key(row): _result(row, best, usual, notes) for row in _records(column)})
        if column["published"].notna().any():
            head.append(f"{name} published")
            columns.append({_key(row): Cell(_number(row["published"], 2)) for row in _records(column)})
    keys = sorted({_key(row) for row in _records(table)}, key=row_order)
    rows = [[*map(Cell, _names(key)), *(column.get(key, Cell(_NOTHING)) for column in columns)] for key in keys]
    legend = (
        f"Mean over seeds and folds{', ± standard deviation over folds' if table['std_folds'].notna().any() else ''}, "
        "[95 % bootstrap interval over test samples]. The best of a column is marked; a partial result never is."
    )
    notes_below = [("", legend), *(("", text) for text in about), *((mark, text) for text, mark in notes.marks.items())]
    return Sheet(head, rows, notes_below, len(HEAD), _parts([key[0] for key in keys]))


def _long(table: pd.DataFrame) -> Sheet:
    """Lay results out with a row for each."""
    notes = _Notes()
    numbers = [name for name in table.columns if name not in _TEXT]
    head = [*(name for name in _TEXT if name != "remarks"), *numbers]
    rows = []
    for row in _records(table):
        marks = notes.of(_split(row["remarks"]))
        cells = [Cell(row[name]) for name in head[: len(head) - len(numbers)]]
        for name in numbers:
            text = _count(row[name]) if name in (*_TESTED, "targets", "targets_defined", "blocks_missing") else ""
            number = text or _number(row[name], DECIMALS)
            partial = " partial" if name == "value" and row["blocks_missing"] else ""
            cells.append(Cell(number, partial, marks=marks if name == "value" else ""))
        rows.append(cells)
    return Sheet(
        head, rows, [(mark, text) for text, mark in notes.marks.items()], len(head) - len(numbers), [len(rows)]
    )


def _result(row: dict[str, Any], best: float, usual: Sequence[Any], notes: _Notes) -> Cell:
    """Return the cell of a result."""
    rest = "" if math.isnan(row["std_folds"]) else f" ± {row['std_folds']:.{DECIMALS}f}"
    if not math.isnan(row["low"]):
        rest += f" [{row['low']:.{DECIMALS}f}, {row['high']:.{DECIMALS}f}]"
    if row["metric"] == "auprc":
        rest += f", base rate {_number(row['base_rate'], DECIMALS)}"
    remarks = _split(row["remarks"])
    if row["blocks_missing"]:
        rest += " partial"
    tested = [row[name] for name in _TESTED]
    if not _alike(tested, usual):
        remarks.append(_tested(tested))
    number = "undefined" if math.isnan(row["value"]) else f"{row['value']:.{DECIMALS}f}"
    return Cell(number, rest, not row["blocks_missing"] and row["rounded"] == best, notes.of(remarks))


def _alike(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return [_count(value) for value in one] == [_count(value) for value in other]


def _tested(values: Sequence[Any]) -> str:
    """Say what a mean is over."""
    seeds, folds, samples = (_count(value) for value in values)
    plural = ["" if text == "1" else "s" for text in (seeds, folds, samples)]
    return f"{seeds} seed{plural[0]}, {folds} fold{plural[1]}, {samples} test sample{plural[2]}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _ROW)


def row_order(names: Sequence[str]) -> tuple[Any, ...]:
    """Return what rows are sorted by: language models above baselines, numbers in names by their size.

    Parameters
    ----------
    names
        Kind, model, layer, probe, recipe and settings.

    Returns
    -------
    tuple

    Examples
    --------
    >>> sorted(["kmer10", "kmer9", "gc"], key=lambda name: row_order(["baseline", name]))
    ['gc', 'kmer9', 'kmer10']
    """
    split = [re.findall(r"\d+|\D+", name) for name in names]
    return names[0] == BASELINE, [
        [(part.isdigit(), part.zfill(9) if part.isdigit() else part) for part in parts] for parts in split
    ]


def _names(key: tuple[str, ...]) -> tuple[str, str, str, str]:
    """Return the first cells of a row."""
    kind, model, layer, probe, recipe, settings = key
    return kind, f"{model} layer {layer}" if layer else model, probe, f"{recipe}, {settings}" if settings else recipe


def _parts(kinds: Sequence[str]) -> list[int]:
    return [count for count in (kinds.count(kind) for kind in dict.fromkeys(kinds)) if count]


def _split(remarks: str) -> list[str]:
    return remarks.split("; ") if remarks else []


def _number(value: float, decimals: int) -> str:
    return _NOTHING if math.isnan(value) else f"{value:.{decimals}f}"


def _count(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:,.0f}"
