"""Labels of coding sequences: one number, or the class of each residue, in the forms that files have them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.coding.reasons import REASONS
from embedstore.tasks.labels import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedstore.tasks.records import TaskRecord

NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
"""How a number is written."""

_LARGEST = float(np.finfo(np.float32).max)


class WrongRow(Exception):  # noqa: N818 - caught where rows are checked, and never seen outside
    """A row is not as it must be.

    Parameters
    ----------
    reason
        A key of :data:`embedstore.coding.reasons.REASONS`.
    detail
        What was seen, and what was wanted.
    """

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def missing(cell: object) -> bool:
    """Tell whether a cell of a table holds nothing.

    Parameters
    ----------
    cell
        Any value.

    Returns
    -------
    bool
        True for None, NaN, and text that is empty or blank.
    """
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, (float, np.floating)) and math.isnan(cell))


def read_label(
    given: Mapping[str, Any], record: TaskRecord, order: Sequence[str], residues: int
) -> float | tuple[int, ...]:
    """Read the label of a row.

    Parameters
    ----------
    given
        Its cells ``label`` and, perhaps, ``mask``.
    record
        What the label is.
    order
        Classes of residues in the order of their numbers in the input.
    residues
        How many there are.

    Returns
    -------
    float or tuple of int
        One number, or the class of each residue.

    Raises
    ------
    WrongRow
        If it is something else.
    """
    if record.level == "nucleotide":
        return _residue_labels(given["label"], given.get("mask"), record, order, residues)
    cell = given["label"]
    if missing(cell):
        raise WrongRow("no_label", f"the label is {cell!r}; a finite number is wanted.")
    if isinstance(cell, str) and not NUMBER.fullmatch(cell.strip()):
        raise WrongRow("label_is_no_number", f"the label is {cell[:80]!r}; a finite number is wanted.")
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise WrongRow("label_is_no_number", f"the label is {cell!r}; a finite number is wanted.") from None
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise WrongRow("label_is_no_number", f"the label is {cell!r}; a finite number that float32 can hold is wanted.")
    return value


def _residue_labels(cell: Any, mask: Any, record: TaskRecord, order: Sequence[str], residues: int) -> tuple[int, ...]:
    """Read the classes of a row's residues."""
    if missing(cell):
        raise WrongRow("no_label", f"the label is {cell!r}; a class for each of {residues} residues is wanted.")
    values = read_residues(cell, record.names, order)
    if len(values) != residues:
        raise WrongRow("label_length", f"{len(values)} labels for {residues} residues; one for each residue is wanted.")
    if not missing(mask):
        kept = np.array(_whole_numbers(mask, "mask"))
        if len(kept) != residues or not np.isin(kept, (0, 1)).all():
            raise WrongRow(
                "mask", f"the mask has {len(kept)} values; 0 or 1 for each of {residues} residues is wanted."
            )
        values = np.where(kept == 1, values, UNLABELLED)
    return tuple(values.tolist())


def read_residues(cell: str | Sequence[int], names: Sequence[str], order: Sequence[str]) -> NDArray[np.int64]:
    """Read the classes of residues.

    Parameters
    ----------
    cell
        Letters of the classes, digits, or whole numbers, in a list or joined by commas or spaces; -100 for a residue
        without a class.
    names
        The classes in the order of their indices here.
    order
        The same classes in the order of their numbers in the input.

    Returns
    -------
    numpy.ndarray
        (residue,) int64.
    """
    if isinstance(cell, str) and re.fullmatch(f"[{re.escape(''.join(names))}]+", cell.strip()):
        return np.array([names.index(letter) for letter in cell.strip()])
    numbers = np.array(_whole_numbers(cell, "label"))
    wrong = np.flatnonzero(((numbers < 0) | (numbers >= len(names))) & (numbers != UNLABELLED))
    if wrong.size:
        raise WrongRow(
            "unknown_class",
            f"residue {wrong[0] + 1} has the class {numbers[wrong[0]]}; 0 to {len(names) - 1}, or {UNLABELLED} for "
            "none, is wanted.",
        )
    place = np.array([names.index(letter) for letter in order])
    return np.where(numbers == UNLABELLED, UNLABELLED, place[np.clip(numbers, 0, None)])


def residues_or_none(cell: str, names: Sequence[str], order: Sequence[str]) -> list[int] | None:
    """Read the classes of residues, if a text holds any.

    Parameters
    ----------
    cell, names, order
        As for :func:`read_residues`.

    Returns
    -------
    list of int or None
        None where the text is something else.
    """
    try:
        return [int(value) for value in read_residues(cell, names, order)]
    except WrongRow:
        return None


def _whole_numbers(cell: Any, what: str) -> list[int]:
    """Read a list of whole numbers, or digits."""
    if not isinstance(cell, str):
        values = np.asarray(cell)
        if values.dtype == bool:
            values = values.astype(np.int64)
        if values.ndim == 1 and values.dtype.kind in "iu":
            return [int(value) for value in values]
    text = str(cell).strip().removeprefix("[").removesuffix("]").strip()
    if re.fullmatch(r"\d+", text):
        return [int(digit) for digit in text]
    parts = re.split(r"\s*,\s*|\s+", text)
    if not all(re.fullmatch(r"-?\d{1,4}", part) for part in parts):
        raise WrongRow(
            "unknown_class" if what == "label" else "mask",
            f"the {what} is {text[:80]!r}; "
            + (
                "letters of the classes, digits or whole numbers are wanted."
                if what == "label"
                else "0s and 1s are wanted."
            ),
        )
    return [int(part) for part in parts]
