"""The columns of a table of variants, and the names among them that are taken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_log = logging.getLogger(__name__)

BASE = ("record", "allele", "line", "chromosome", "position", "ref", "alt", "id")
"""The columns that every table of variants begins with."""

TAKEN = (
    *("label", "consequence", "reason", "kind", "start", "removed", "added", "reference", "alternate", "offset"),
    *("window_start", "window_end", "window_n"),
)
"""The names of columns that are added later, or that mean something of their own."""


def letters(allele: str) -> str:
    """Write an allele in upper case, and one that is not letters only (``<DEL>``, ``*``) as it stands; ``.`` is none.

    Parameters
    ----------
    allele
        As in the file.

    Returns
    -------
    str
        As in the table.
    """
    if allele == ".":
        return ""
    return allele.upper() if allele.isascii() and allele.isalpha() else allele


def add_columns(table: pd.DataFrame, others: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Put the further columns of a file beside those of the table.

    Parameters
    ----------
    table
        With :data:`BASE`, and ``label`` and ``consequence`` where there are any.
    others
        The further columns, row by row.
    path
        The file, for the log.

    Returns
    -------
    pandas.DataFrame
        Both. A further column whose name is taken has ``_input`` behind it, which is logged.
    """
    taken = {*table.columns, *TAKEN}
    renamed: dict[str, str] = {}
    for name in others.columns:
        free = str(name)
        while free in taken:
            free += "_input"
        taken.add(free)
        if free != name:
            renamed[str(name)] = free
            _log.warning("%s: the name of column %r is taken; it is kept as %r.", path, name, free)
    return table.join(others.rename(columns=renamed))
