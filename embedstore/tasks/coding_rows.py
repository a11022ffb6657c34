"""Rows of coding sequences: which column is what, and what may be wrong with a row."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.coding.codons import check_cds, clean_cds, find_table, translate
from embedstore.errors import InputError, did_you_mean
from embedstore.regions import ID, WANTED_ID
from embedstore.tasks.coding_labels import WrongRow, missing, read_label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.tasks.records import TaskRecord

NAMES_OF_COLUMNS = {
    "id": ("id",),
    "split": ("split", "set", "stage"),
    "cds": ("cds", "sequence", "seq"),
    "protein": ("protein",),
    "label": (
        *("label", "labels", "target", "melting_temperature"),
        *("log_fluorescence", "stability_score", "scaled_effect1"),
    ),
    "mask": ("mask", "valid_mask"),
    "species": ("species", "organism"),
    "group": ("group", "group_id"),
    "transl_table": ("transl_table",),
    "has_start": ("has_start",),
    "validation": ("validation",),
}
"""Columns that have a meaning, and the names under which they are known."""

COLUMNS = (
    "id",
    "split",
    "cds",
    "protein",
    "label",
    "species",
    "group",
    "transl_table",
    "has_start",
    "has_stop",
    "flags",
)
"""Columns of a table of coding sequences; any others follow."""

UNKNOWN_SPECIES = "unknown"

FIND = "find"
"""In place of the number of a genetic code: the one that gives the protein is found for each row."""

TRAIN_OR_VALID = "train/valid"
"""Split of a sample that the input has among its training and its validation samples both."""

_SPLITS = {
    "training": "train",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "testing": "test",
    **dict.fromkeys(("train/val", "train/valid", "train/validation"), TRAIN_OR_VALID),
}


class Fault(NamedTuple):
    """What is wrong with a row.

    Attributes
    ----------
    row : int
        Which one, from 0.
    reason : str
        A key of :data:`embedstore.coding.reasons.REASONS`.
    detail : str
        What was seen, and what was wanted.
    """

    row: int
    reason: str
    detail: str


class Reading(NamedTuple):
    """How rows are to be read.

    Attributes
    ----------
    record : TaskRecord
        What the labels are.
    table : int or str
        Genetic code of rows that name none, or :data:`FIND`.
    genes : bool
        Whether each sequence is a whole gene, whose first codon reads M wherever it can be a start.
    stops : bool
        Whether stop codons inside a sequence are part of the data.
    order : tuple of str
        Classes of residues in the order of their numbers in the input.
    """

    record: TaskRecord
    table: int | str
    genes: bool
    stops: bool
    order: tuple[str, ...]


def named_columns(frame: pd.DataFrame, columns: Mapping[str, str] | None, split: str | None) -> pd.DataFrame:
    """Give the columns that have a meaning the names they have here.

    Parameters
    ----------
    frame
        Any table.
    columns
        Column of the table by the name it has here, where it is under none of :data:`NAMES_OF_COLUMNS`.
    split
        Split of all rows, for a table that does not say.

    Returns
    -------
    pandas.DataFrame
        The same rows, numbered from 0.

    Raises
    ------
    InputError
        If a column is missing, is not there, or two could be meant.
    """
    renamed: dict[str, str] = {}
    columns = columns or {}
    for name, theirs in columns.items():
        if name not in NAMES_OF_COLUMNS:
            raise InputError(f"columns names {name!r}, which means nothing here.{did_you_mean(name, NAMES_OF_COLUMNS)}")
        if theirs not in frame:
            hint = did_you_mean(theirs, map(str, frame.columns))
            raise InputError(f"columns says that {name} is {theirs!r}, which is no column.{hint}")
        renamed[theirs] = name
    for name, aliases in NAMES_OF_COLUMNS.items():
        if name in columns:
            continue
        found = [name] if name in frame else [alias for alias in aliases if alias in frame and alias not in renamed]
        if len(found) > 1:
            raise InputError(
                f"columns {' and '.join(map(repr, found))} could both be the {name}. Say which by columns="
                f"{{{name!r}: {found[0]!r}}} (--column {name}={found[0]})."
            )
        renamed |= dict.fromkeys(found, name)
    # What already has a name that another column is given would be there twice.
    beside = {str(name): f"input_{name}" for name in frame if name not in renamed and name in renamed.values()}
    frame = frame.reset_index(drop=True).rename(columns={**renamed, **beside})
    for name in ("cds", "label"):
        if name not in frame:
            known = ", ".join(NAMES_OF_COLUMNS[name])
            raise InputError(
                f"no column with the {name}: none is called {known}.{did_you_mean(name, map(str, frame.columns))} Say "
                f"which by columns={{{name!r}: ...}} (--column {name}=...)."
            )
    if split is not None and "split" in frame:
        raise InputError(f"split={split!r} is given, but the table has a column for it. Leave out one of the two.")
    if split is None and "split" not in frame:
        raise InputError(
            f"no column with the split: none is called {', '.join(NAMES_OF_COLUMNS['split'])}. Pass split= (--split) "
            "for a table whose rows are all of one split."
        )
    if "id" not in frame:
        frame["id"] = [str(row) for row in range(len(frame))]
    frame["split"] = usual_splits(frame, split)
    return frame.drop(columns="validation", errors="ignore")


def usual_splits(frame: pd.DataFrame, split: str | None) -> list[str]:
    """Return the split of each row under its usual name.

    Parameters
    ----------
    frame
        With a column ``split`` unless ``split`` is given, and perhaps one ``validation``, true for the rows of
        ``train`` that are for validation, as FLIP has it.
    split
        Split of all rows, or None.

    Returns
    -------
    list of str
        ``val`` and ``validation`` are ``valid``; names that are not known stay.
    """
    given = (
        [split] * len(frame) if split is not None else ["" if missing(cell) else str(cell) for cell in frame["split"]]
    )
    splits = [
        _SPLITS.get(name.lower(), name.lower() if name.lower() in ("train", "valid", "test") else name)
        for name in given
    ]
    if "validation" in frame:
        held_out = [str(cell).lower() in ("true", "1", "1.0") for cell in frame["validation"]]
        splits = ["valid" if out and name == "train" else name for name, out in zip(splits, held_out, strict=True)]
    return splits


def check_rows(frame: pd.DataFrame, how: Reading) -> tuple[list[dict[str, Any]], list[Fault]]:
    """Check every row, and translate it.

    Parameters
    ----------
    frame
        From :func:`named_columns`.
    how
        How to read it.

    Returns
    -------
    list of dict, list of Fault
        A row of :data:`COLUMNS` for each row that is as it must be, with ``row``, its number in the input; and one
        fault for each that is not.
    """
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    seen: set[str] = set()
    known = [name for name in frame if name in NAMES_OF_COLUMNS]
    for row, cells in enumerate(zip(*(frame[name] for name in known), strict=True)):
        given = dict(zip(known, cells, strict=True))
        try:
            made = _row(given, how)
            if made["id"] in seen:
                raise WrongRow(
                    "repeated_id",
                    f"id {made['id']!r} is that of a row before it; each needs its own (ids='row' numbers them).",
                )
        except WrongRow as wrong:
            faults.append(Fault(row, wrong.reason, wrong.detail))
            continue
        seen.add(made["id"])
        rows.append({"row": row, **made})
    return rows, faults


def _row(given: dict[str, Any], how: Reading) -> dict[str, Any]:
    """Check one row."""
    name = "" if missing(given["id"]) else str(given["id"]).strip()
    if not re.fullmatch(ID, name):
        raise WrongRow("wrong_id", f"id is {name[:60]!r}; {WANTED_ID}")
    text = "" if missing(given["cds"]) else given["cds"]
    try:
        codes = clean_cds(text)
    except InputError as error:
        raise WrongRow("not_nucleotides", str(error)) from None
    protein = None if missing(given.get("protein")) else str(given["protein"]).strip().upper().removesuffix("*")
    if not missing(given.get("has_start")):
        begins: bool | None = _truth(given["has_start"])
    else:
        begins = how.genes if protein is None else None
    table = how.table if missing(given.get("transl_table")) else _table(given["transl_table"])
    number = _found_table(codes, protein) if table == FIND else table
    assert isinstance(number, int)
    found = check_cds(codes, number, protein=protein, start=begins, stops=how.stops)
    if found.reason is not None:
        raise WrongRow(found.reason, found.detail)
    translated = translate(codes, number, start=found.has_start, stop=True) if protein is None else protein
    flags = {
        "other_letters": codes.tobytes().decode() != text,
        "ambiguous_codons": found.n_ambiguous > 0,
        "stop_inside": "*" in translated,
    }
    return {
        "id": name,
        "split": given["split"],
        "cds": codes.tobytes().decode(),
        "protein": translated,
        "label": read_label(given, how.record, how.order, len(translated)),
        "species": UNKNOWN_SPECIES if missing(given.get("species")) else str(given["species"]).strip(),
        "group": protein_digest(translated)[:16] if missing(given.get("group")) else str(given["group"]).strip(),
        "transl_table": number,
        "has_start": found.has_start,
        "has_stop": found.has_stop,
        "flags": ",".join(name for name, there in flags.items() if there),
    }


def _found_table(codes: NDArray[np.uint8], protein: str | None) -> int:
    """Find the genetic code of a row that names none."""
    if protein is None:
        raise WrongRow("no_protein", "there is no protein; with table='find' each row without transl_table needs one.")
    number = find_table(codes, protein)
    if number is None:
        why = check_cds(codes, protein=protein)
        cure = "several genetic codes, with different codons, give the protein; transl_table is wanted."
        raise WrongRow(why.reason or "several_tables", f"{why.detail} in genetic code 1" if why.reason else cure)
    return number


def protein_digest(protein: str) -> str:
    """Return what a protein is known by in tables of species.

    Parameters
    ----------
    protein
        Its letters, upper case.

    Returns
    -------
    str
        sha256, in hex.
    """
    return hashlib.sha256(protein.encode()).hexdigest()


def _table(cell: object) -> int:
    """Read the number of a genetic code."""
    from embedstore.coding.genetic_code import genetic_code

    try:
        table = int(str(cell).strip().removesuffix(".0"))
        genetic_code(table)
    except (ValueError, InputError) as error:
        raise WrongRow(
            "unknown_table", f"transl_table is {cell!r}; the number of a genetic code is wanted. {error}"
        ) from None
    return table


def _truth(cell: object) -> bool:
    """Read a cell that is true or false."""
    text = str(cell).strip().lower()
    if text not in ("true", "false", "1", "0", "1.0", "0.0"):
        raise WrongRow("not_true_or_false", f"has_start is {cell!r}; true or false is wanted.")
    return text in ("true", "1", "1.0")


def rejects_table(faults: Sequence[Fault], frame: pd.DataFrame, where: Callable[[int], str]) -> pd.DataFrame:
    """Return what is told of rows that are left out.

    Parameters
    ----------
    faults
        What is wrong.
    frame
        The rows, with a column ``id``.
    where
        Names the place of a row.

    Returns
    -------
    pandas.DataFrame
        Columns row, where, id, reason, detail.
    """
    import pandas as pd

    return pd.DataFrame(
        [(one.row, where(one.row), str(frame["id"].iloc[one.row]), one.reason, one.detail) for one in faults],
        columns=["row", "where", "id", "reason", "detail"],
    )


def refuse(faults: Sequence[Fault], rows: int, where: Callable[[int], str], shown: int = 20) -> None:
    """Raise an error that names every faulty row, if there are any.

    Parameters
    ----------
    faults
        What is wrong.
    rows
        Rows of the input.
    where
        Names the place of a row.
    shown
        Faults to write out, default 20; of all others the number is given.

    Raises
    ------
    InputError
        If there are faults.
    """
    if not faults:
        return
    lines = [f"  {where(fault.row)}: {fault.reason}: {fault.detail}" for fault in faults[:shown]]
    if len(faults) > shown:
        lines.append(f"  and {len(faults) - shown:,} more.")
    raise InputError(
        f"{len(faults):,} of {rows:,} rows are not as they must be; the first is at {where(faults[0].row)}.\n"
        + "\n".join(lines)
        + "\nCorrect them, or leave them out with faults='reject' (--faults reject), which lists each with its reason."
    )
