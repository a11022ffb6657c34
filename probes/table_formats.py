"""Exports of the table of results: text, CSV, Markdown and LaTeX, each with the same marks and notes."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from probes.table_sheet import HEAD, sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from probes.table_sheet import Cell, Sheet


def pivot(table: pd.DataFrame) -> pd.DataFrame:
    """Lay results out as BEND's Table 3 does: a row per model and probe, a column per task.

    Parameters
    ----------
    table
        From `probes.tables.results_table`.

    Returns
    -------
    pandas.DataFrame
        Text. Index: kind (language models above baselines), model (with its layer where that is not the last), probe,
        recipe (with the settings that differ). Columns: tasks with their metric, and the published number beside those
        that have one. A cell is the mean, its deviation over folds, its interval, and for AUPRC the base rate; ``*``
        marks the best of the column (no partial result is), ``partial`` what was tested on a part of the samples, a
        letter one of the notes in ``attrs["notes"]``.
    """
    import pandas as pd

    laid = sheet(table, long=False)
    index = pd.MultiIndex.from_tuples([tuple(cell.number for cell in row[:4]) for row in laid.rows], names=HEAD)
    cells = [[_plain(cell) for cell in row[4:]] for row in laid.rows]
    wide = pd.DataFrame(cells, index=index, columns=laid.head[4:])
    wide.attrs["notes"] = [_note(*note) for note in laid.notes]
    return wide


def to_text(table: pd.DataFrame, *, long: bool = False) -> str:
    """Write results as aligned text.

    Parameters
    ----------
    table
        From `probes.tables.results_table`.
    long
        One row per result with all numbers; default the layout of `pivot`.

    Returns
    -------
    str
    """
    laid = sheet(table, long=long)
    names = _once(laid)
    lines = [
        laid.head,
        *([*name, *map(_plain, row[laid.left :])] for name, row in zip(names, laid.rows, strict=True)),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "-" * max(map(len, text))
    text.insert(1, rule)
    if len(laid.parts) > 1:
        text.insert(2 + laid.parts[0], rule)
    return "\n".join([*text, rule, *(_note(*note) for note in laid.notes)]) + "\n"


def to_csv(table: pd.DataFrame, *, long: bool = False) -> str:
    """Write results as comma-separated values.

    Parameters
    ----------
    table
        From `probes.tables.results_table`.
    long
        One row per result with all numbers unrounded, and its notes in the column ``remarks``; default the layout of
        `pivot`, with its notes as lines that begin with ``#``.

    Returns
    -------
    str
    """
    if long:
        return table.to_csv(index=False)
    laid = sheet(table, long=False)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([laid.head, *([_plain(cell) for cell in row] for row in laid.rows)])
    return file.getvalue() + "".join(f"# {_note(*note)}\n" for note in laid.notes)


def to_markdown(table: pd.DataFrame, *, long: bool = False) -> str:
    """Write results as a table of GitHub's Markdown.

    Parameters
    ----------
    table
        From `probes.tables.results_table`.
    long
        One row per result with all numbers; default the layout of `pivot`.

    Returns
    -------
    str
    """
    laid = sheet(table, long=long)

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rules = ["---"] * laid.left + ["---:"] * (len(laid.head) - laid.left)
    rows = [[_render(cell, _markdown, "**", "**", " ({})") for cell in row] for row in laid.rows]
    notes = [f"- {_markdown(_note(*note))}" for note in laid.notes]
    return "\n".join([line([*map(_markdown, laid.head)]), line(rules), *map(line, rows), "", *notes]) + "\n"


def to_latex(table: pd.DataFrame, *, long: bool = False) -> str:
    r"""Write results as a LaTeX tabular of the package booktabs, the best of each column in bold.

    Parameters
    ----------
    table
        From `probes.tables.results_table`.
    long
        One row per result with all numbers; default the layout of `pivot`.

    Returns
    -------
    str
        To be put between ``\begin{table}`` and ``\end{table}``; its notes follow below it.
    """
    laid = sheet(table, long=long)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    names = _once(laid)
    rows = [
        line([*map(_latex, name), *(_render(cell, _latex, r"\textbf{", "}", "$^{{{}}}$") for cell in row[laid.left :])])
        for name, row in zip(names, laid.rows, strict=True)
    ]
    if len(laid.parts) > 1:
        rows.insert(laid.parts[0], r"\midrule")
    notes = [f"{f'$^{{{mark}}}$ ' if mark else ''}{_latex(text)}" for mark, text in laid.notes]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{'l' * len(laid.head)}}}",
            r"\toprule",
            line([*map(_latex, laid.head)]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            "{\\footnotesize\n" + "\\\\\n".join(notes) + "\n\\par}",
            "",
        ]
    )


def _once(sheet: Sheet) -> list[list[str]]:
    """Return the first cells of rows, the kind only where it changes."""
    names = [[cell.number for cell in row[: sheet.left]] for row in sheet.rows]
    return [
        ["", *name[1:]] if place and len(sheet.parts) <= 2 and name[0] == names[place - 1][0] else name
        for place, name in enumerate(names)
    ]


def _plain(cell: Cell) -> str:
    return f"{cell.number}{'*' if cell.best else ''}{cell.rest}{f' ({cell.marks})' if cell.marks else ''}"


def _note(mark: str, text: str) -> str:
    return f"({mark}) {text}" if mark else text


def _render(cell: Cell, escape: Callable[[str], str], before: str, after: str, mark: str) -> str:
    number = f"{before}{escape(cell.number)}{after}" if cell.best else escape(cell.number)
    return number + escape(cell.rest) + (mark.format(cell.marks) if cell.marks else "")


def _markdown(text: str) -> str:
    """Escape what Markdown reads as markup; an underscore within a word is none."""
    return re.sub(r"([\\`*|<>~&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_LATEX |= {"<": r"$<$", ">": r"$>$", "|": r"$|$"}


def _latex(text: str) -> str:
    """Escape what LaTeX reads as markup."""
    return "".join(_LATEX.get(character, character) for character in text)
