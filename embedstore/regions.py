"""BED files in BEND's format: every row becomes a sample or is refused with its file and line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.genome import contig_hint
from embedstore.text import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.text import TextTable

_log = logging.getLogger(__name__)

# Letters that look alike, or are not shown at all, would make two ids that no one can tell apart.
ID = r"[!-~](?:[ -~]{0,998}[!-~])?"
"""What an id looks like, as a regular expression."""
WANTED_ID = "1 to 1000 printable ASCII characters without spaces around them are wanted."

SAMPLE_COLUMNS = ("id", "chromosome", "start", "end", "strand", "split", "length")
"""The columns every sample table has, in this order; others follow."""


def read_regions(
    table: TextTable,
    contigs: Mapping[str, int],
    *,
    strand: Literal["forward", "given"] = "forward",
    split: str | None = None,
) -> pd.DataFrame:
    """Turn a BED table into samples; every coordinate is checked, no sequence is read.

    The id of a sample is the column ``id`` where there is one. Otherwise it is ``chromosome:start-end(strand)``,
    then ``|`` and the cell of each column that is called ``name`` or ends in ``_id``, so that two transcripts with the
    same coordinates are two samples. It depends on nothing but the row.

    Parameters
    ----------
    table
        From :func:`embedstore.text.read_tabbed`: columns ``chromosome``, ``start``, ``end`` (0-based, half-open),
        ``split``, and ``strand`` (``+``, ``-``, or ``.`` for unknown). Without that last one every strand is ``.``,
        which only the rule ``"forward"`` allows.
    contigs
        Length of each contig in nucleotides.
    strand
        The rule of the task: whether the strand matters (``"given"``) or not (``"forward"``).
    split
        Split of all samples, for a table without a column ``split``; may be ``""`` for none. Without it (default
        None) such a table is refused.

    Returns
    -------
    pandas.DataFrame
        One row per row of the table, in its order: :data:`SAMPLE_COLUMNS`, then the other columns of the table as
        text, int64, float64 or bool, as their cells allow. A column ``length`` of the file that is not the length of
        the region is kept as ``input_length``.

    Raises
    ------
    InputError
        With file and line, if a row is malformed, lies outside its contig, or has the id of another.
    """
    import pandas as pd

    frame = table.frame
    chromosome = frame["chromosome"]
    unknown = ~chromosome.isin(list(contigs))
    hint = contig_hint(chromosome[unknown].iloc[0], contigs).strip() if unknown.any() else ""
    table.refuse(unknown, lambda row: f"no contig {chromosome[row]!r} in the genome", hint)
    start, end = integers(table, "start"), integers(table, "end")
    size = chromosome.map(dict(contigs)).to_numpy(np.int64)
    table.refuse(start < 0, lambda row: f"start is {start[row]}; it must be 0 or more")
    table.refuse(
        end <= start,
        lambda row: f"start is {start[row]} and end is {end[row]}; end must be greater",
        "Coordinates are 0-based, half-open.",
    )
    table.refuse(
        end > size,
        lambda row: f"end is {end[row]}, past the end of {chromosome[row]!r} ({size[row]} nucleotides)",
        "Is the FASTA of the build that the coordinates are for, and whole?",
    )
    samples = pd.DataFrame({"chromosome": chromosome, "start": start, "end": end})
    samples["strand"] = _strands(table, strand)
    samples["split"] = read_splits(table, split)
    samples["length"] = end - start
    others = frame.drop(columns=["chromosome", "start", "end", "strand", "split", "id"], errors="ignore")
    if "length" in others and (others["length"] == samples["length"].astype(str)).all():
        others = others.drop(columns="length")
    elif "length" in others:
        _log.warning("%s: column 'length' is not end - start; it is kept as 'input_length'.", table.path)
        others = others.rename(columns={"length": "input_length"})
    ids = frame["id"] if "id" in frame else _region_ids(samples, others)
    return sample_table(ids, samples, typed(others), table.where)


def integers(table: TextTable, name: str) -> NDArray[np.int64]:
    """Read a column of whole numbers.

    Parameters
    ----------
    table
        The table.
    name
        Name of the column.

    Returns
    -------
    numpy.ndarray
        Shape (row,), int64.

    Raises
    ------
    InputError
        With file and line, if a cell is not a whole number.
    """
    texts = table.frame[name]
    bad = ~texts.str.fullmatch(r"-?\d{1,18}")
    table.refuse(bad, lambda row: f"{name} is {texts[row]!r}; a whole number is wanted")
    return texts.to_numpy(object).astype(np.int64)


def _strands(table: TextTable, rule: str) -> pd.Series[str] | str:
    """Read the strands; where they do not matter, a table may lack them."""
    frame = table.frame
    if "strand" not in frame:
        if rule == "given":
            raise InputError(
                f"{table.path}:1: no column 'strand', which a record with strand 'given' needs."
                f"{did_you_mean('strand', frame.columns)} Add it, or use a record with strand 'forward'."
            )
        return "."
    allowed = ("+", "-") if rule == "given" else ("+", "-", ".")
    column = frame["strand"]
    table.refuse(
        ~column.isin(allowed), lambda row: f"strand is {column[row]!r}; {' or '.join(allowed)} is wanted for this task"
    )
    return column


def _region_ids(samples: pd.DataFrame, others: pd.DataFrame) -> pd.Series[str]:
    """Name each region by its coordinates, and by whatever else the table calls it."""
    ids = samples["chromosome"] + ":" + samples["start"].astype(str) + "-" + samples["end"].astype(str)
    ids = ids + "(" + samples["strand"] + ")"
    for name in others:
        if name == "name" or str(name).endswith("_id"):
            ids = ids + "|" + others[name]
    return ids


def read_splits(table: TextTable, split: str | None) -> pd.Series[str] | str:
    """Read the column ``split`` of a table.

    Parameters
    ----------
    table
        The table.
    split
        Split of all samples for a table without that column, or None to refuse such a table.

    Returns
    -------
    pandas.Series or str
        The split of each row, or one for all.

    Raises
    ------
    InputError
        If there is neither a column nor ``split``, or both, or a cell is empty or has spaces around it.
    """
    frame = table.frame
    if "split" not in frame:
        if split is None:
            raise InputError(
                f"{table.path}:1: no column 'split'.{did_you_mean('split', frame.columns)} Add it (train, valid, test, "
                "or any names), or pass split='...' to put every sample into one; split='' is for none."
            )
        return split
    if split is not None:
        raise InputError(f"{table.path}:1: has a column 'split', and split={split!r} was passed. Give one of the two.")
    column = frame["split"]
    table.refuse(
        (column == "") | (column != column.str.strip()),
        lambda row: f"split is {column[row]!r}; a name without spaces around it is wanted",
    )
    return column


def sample_table(
    ids: pd.Series[str], samples: pd.DataFrame, others: pd.DataFrame, where: Callable[[int], str]
) -> pd.DataFrame:
    """Put a sample table together.

    Parameters
    ----------
    ids
        One id per sample.
    samples
        The other columns of :data:`SAMPLE_COLUMNS`.
    others
        Any further columns.
    where
        Names the place of a row, for messages.

    Returns
    -------
    pandas.DataFrame
        All columns in order, rows counted from 0.

    Raises
    ------
    InputError
        If an id is empty, longer than 1000 characters, not printable ASCII, begins or ends with a space, or is used
        twice.
    """
    import pandas as pd

    ids = pd.Series(ids, dtype=str).rename("id").reset_index(drop=True)
    bad = np.flatnonzero(~ids.str.fullmatch(ID).to_numpy(bool))
    if bad.size:
        row = int(bad[0])
        raise InputError(f"{where(row)}: id is {ids[row][:60]!r}; {WANTED_ID}")
    again = ids.duplicated()
    if again.any():
        shown = [
            f"{ids[row]!r} at {where(int(np.flatnonzero(ids == ids[row])[0]))} and {where(int(row))}"
            for row in np.flatnonzero(again)[:5]
        ]
        raise InputError(
            f"{where(int(np.flatnonzero(again)[0]))}: {again.sum():,} ids are there already: {'; '.join(shown)}. "
            "Remove the copies, or add a column 'id' that tells the samples apart."
        )
    rest = samples[list(SAMPLE_COLUMNS[1:])].reset_index(drop=True)
    return pd.concat([ids, rest, others.reset_index(drop=True)], axis=1)
