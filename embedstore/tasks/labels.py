"""Labels: from a column of text, an hdf5 file or arrays, checked against the task record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Literal

    import h5py
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from embedstore.tasks.records import TaskRecord

UNLABELLED = -100
"""Class index of what has no label: the value that losses skip by default. For values it is NaN."""

_DIMS = (
    ("nucleotide",),
    ("sample",),
    ("sample", "target"),
    ("sample", "bin"),
    ("sample", "bin", "target"),
)
_KEPT_AS: dict[str, type[np.generic]] = {"class": np.int16, "multilabel": np.uint8, "value": np.float32}
_ROWS_AT_ONCE = 100_000  # rows of label text parsed together: bounds the memory


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a task.

    Parameters
    ----------
    values
        int16 class indices (-100: not labelled), uint8 0 or 1, or float32 values (NaN: not labelled).
    dims
        What the axes are: ``("nucleotide",)`` (all samples one after another), ``("sample",)``,
        ``("sample", "target")``, ``("sample", "bin")`` or ``("sample", "bin", "target")``.
    names
        Names of the classes or targets.

    Raises
    ------
    InputError
        If ``dims`` is none of these or has another number of axes than ``values``.
    """

    values: NDArray[Any]
    dims: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dims not in _DIMS or self.values.ndim != len(self.dims):
            raise InputError(f"labels of shape {self.values.shape} cannot have the dimensions {self.dims}.")


def column_labels(
    column: pd.Series[str],
    record: TaskRecord,
    where: Callable[[int], str],
    empty: Literal["refuse", "zero"] = "refuse",
) -> Labels:
    """Read labels of whole sequences from a column of text.

    Parameters
    ----------
    column
        One text per sample. Type ``class``: one index. Type ``multilabel``: indices of the targets that are 1,
        joined by commas; one given twice counts once. Type ``value``: one number per target, joined by commas.
    record
        Says which.
    where
        Names the place of a row (file and line) for messages.
    empty
        What an empty text means for type ``multilabel``: ``"refuse"`` (default) raises, ``"zero"`` sets all targets
        to 0. For the other types it is always refused.

    Returns
    -------
    Labels
        (sample,) for classes and single values, else (sample, target).

    Raises
    ------
    InputError
        If the record is not of level ``sequence``, or a text is empty, malformed or out of range.
    """
    if record.level != "sequence":
        raise InputError(
            f"task {record.name!r} has labels per {record.level}; a column cannot hold those. Give an hdf5 file."
        )
    if empty not in {"refuse", "zero"}:
        raise InputError(f"empty_labels is {empty!r}; it must be 'refuse' or 'zero'.")
    if record.type == "multilabel":
        return Labels(_multi_hot(column, record, where, empty), ("sample", "target"), record.names)
    targets = 1 if record.type == "class" else max(1, len(record.names))
    numbers = np.empty((len(column), targets))
    for row, text in enumerate(column):
        parts = text.split(",")
        try:
            if len(parts) != targets or "_" in text:  # Python reads 1_0 as ten
                raise ValueError(text)
            numbers[row] = [float(part) for part in parts]
        except ValueError:
            wanted = f"{targets} numbers joined by commas" if targets > 1 else "one number"
            raise InputError(_text_fault(where(row), text, wanted, record)) from None
    return array_labels(numbers, record, np.ones(len(column), np.int64), where)


def _text_fault(where: str, text: str, wanted: str, record: TaskRecord) -> str:
    """Say what is wrong with the text of a label."""
    fault = f"{where}: label is {text!r}; {wanted} is wanted."
    if text:
        return fault
    if record.type == "multilabel":
        return f"{fault} Pass empty_labels='zero' if an empty label means that no target is set."
    return f"{fault} Write {UNLABELLED if record.type == 'class' else 'nan'} for a sample without a label."


def _multi_hot(
    column: pd.Series[str], record: TaskRecord, where: Callable[[int], str], empty: str
) -> NDArray[np.uint8]:
    """Set the targets that each row names."""
    blank = (column == "").to_numpy(bool)
    good = column.str.fullmatch(r"\d{1,9}(?:,\d{1,9})*").to_numpy(bool)
    bad = np.flatnonzero(~(good | blank) if empty == "zero" else ~good)
    if bad.size:
        row = int(bad[0])
        raise InputError(
            _text_fault(where(row), column.iloc[row], "a list of target indices, joined by commas,", record)
        )
    values = np.zeros((len(column), len(record.names)), np.uint8)
    filled = np.flatnonzero(good)
    for start in range(0, len(filled), _ROWS_AT_ONCE):
        rows = filled[start : start + _ROWS_AT_ONCE]
        texts = column.iloc[rows]
        rows = np.repeat(rows, texts.str.count(",").to_numpy(np.int64) + 1)
        targets = np.array(",".join(texts).split(","), dtype="S9").astype(np.int64)
        over = np.flatnonzero(targets >= len(record.names))
        if over.size:
            raise InputError(
                f"{where(int(rows[over[0]]))}: label {targets[over[0]]} is out of range; task {record.name!r} has the "
                f"targets 0 to {len(record.names) - 1}."
            )
        values[rows, targets] = 1
    return values


def array_labels(
    values: ArrayLike | Sequence[ArrayLike] | h5py.Dataset,
    record: TaskRecord,
    lengths: NDArray[np.int64],
    where: Callable[[int], str],
    turned: NDArray[np.bool_] | None = None,
) -> Labels:
    """Check labels given as numbers and bring them into the form of a task.

    Parameters
    ----------
    values
        One row per sample. Level ``sequence``: (sample,) or (sample, target). Level ``bin``: rows (bin,) or
        (bin, target). Level ``nucleotide``: rows (nucleotide,) of the sample's length, or one flat array over all
        samples. Any numeric dtype that holds the wanted values exactly.
    record
        Says which.
    lengths
        Shape (sample,), int64, nucleotides of each sample.
    where
        Names the place of a row for messages.
    turned
        Shape (sample,), bool: rows to be read from the other end, for samples that are reverse complemented.

    Returns
    -------
    Labels
        Checked labels in the stored dtype.

    Raises
    ------
    InputError
        If shapes or values do not fit.
    """
    if record.level == "sequence":
        return _sequence_labels(values, record, len(lengths), where)
    positions, rest = np.divmod(lengths, record.bin_size)
    odd = np.flatnonzero((rest != 0) | ((positions != positions[0]) & (record.level == "bin")))
    if odd.size:
        raise InputError(
            f"{where(int(odd[0]))}: {lengths[odd[0]]} nucleotides; labels per bin need samples of one length, a "
            f"multiple of {record.bin_size}."
        )
    ends = np.cumsum(positions)
    if record.level == "nucleotide" and isinstance(values, np.ndarray) and values.shape == (ends[-1],) != lengths.shape:
        values = np.split(values, ends[:-1])
    rows = cast("Sequence[ArrayLike]", values)
    _same_count(len(rows), len(lengths))
    targets = (len(record.names),) if record.type != "class" and len(record.names) > 1 else ()
    kept = np.empty((int(ends[-1]), *targets), _KEPT_AS[record.type])
    for sample, given in enumerate(rows):
        row = _row(given, record, (int(positions[sample]), *targets), where(sample))
        place = kept[ends[sample] - positions[sample] : ends[sample]]
        place[:] = row[::-1] if turned is not None and turned[sample] else row
    if record.level == "nucleotide":
        return Labels(kept, ("nucleotide",), record.names)
    dims = ("sample", "bin", "target") if targets else ("sample", "bin")
    return Labels(kept.reshape(len(lengths), -1, *targets), dims, record.names)


def hdf5_labels(
    path: str | Path,
    record: TaskRecord,
    lengths: NDArray[np.int64],
    where: Callable[[int], str],
    turned: NDArray[np.bool_] | None = None,
) -> Labels:
    """Read labels from the dataset ``labels`` of an hdf5 file, whose rows are in the order of the samples.

    Parameters
    ----------
    path
        hdf5 file. Rows of one length are a dataset of two dimensions or more, ragged rows one of variable length.
    record, lengths, where, turned
        As for :func:`array_labels`.

    Returns
    -------
    Labels
        Checked labels in the stored dtype.

    Raises
    ------
    InputError
        If the file cannot be read, has no such dataset or another number of rows, or a row does not fit its sample.
    """
    import h5py

    def place(row: int) -> str:
        return f"{path}: row {row} of 'labels' ({where(row)})"

    try:
        with h5py.File(path, "r") as file:
            if "labels" not in file:
                raise InputError(f"{path}: no dataset 'labels'.{did_you_mean('labels', file)}")
            dataset = file["labels"]
            rows = dataset.shape[0] if dataset.shape else 0
            if rows != len(lengths):
                last = where(min(rows, len(lengths)) - 1) if rows else "none"
                raise InputError(
                    f"{path}: 'labels' has {rows:,} rows for {len(lengths):,} samples (the last with both: {last}). "
                    "Rows are matched by their order; both files must be of one release."
                )
            return array_labels(dataset[:] if record.level == "sequence" else dataset, record, lengths, place, turned)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as hdf5: {error}.") from error


def _same_count(rows: int, samples: int) -> None:
    if rows != samples:
        raise InputError(f"there are {rows:,} rows of labels for {samples:,} samples.")


def _row(given: ArrayLike, record: TaskRecord, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Check the labels along one sample."""
    row = np.asarray(given)
    if row.shape != shape:
        raise InputError(
            f"{where}: {' x '.join(map(str, row.shape))} labels; the sample needs {' x '.join(map(str, shape))}, one "
            f"per {record.level}."
        )
    return _checked(row, record, lambda index: f"{where}: {record.level} {index}")


def _sequence_labels(values: object, record: TaskRecord, samples: int, where: Callable[[int], str]) -> Labels:
    """Check the labels of whole sequences, all at once."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError("rows of labels differ in length; every sample needs one label per target.") from error
    _same_count(len(array) if array.ndim else 0, samples)
    several = record.type == "multilabel" or (record.type == "value" and len(record.names) > 1)
    if not several and array.shape == (samples, 1):
        array = array[:, 0]
    shape = (samples, len(record.names)) if several else (samples,)
    if array.shape != shape:
        raise InputError(f"labels have shape {array.shape}; {shape} is wanted, one per sample and target.")
    return Labels(_checked(array, record, where), ("sample", "target")[: len(shape)], record.names)


def _checked(values: NDArray[Any], record: TaskRecord, where: Callable[[int], str]) -> NDArray[Any]:
    """Bring labels to the stored dtype; raise for the first that is out of range."""
    if values.dtype.kind not in "biuf":
        raise InputError(f"{where(0)}: labels are of type {values.dtype}; numbers are wanted.")
    if record.type == "value":
        with np.errstate(over="ignore"):
            kept: NDArray[Any] = values.astype(np.float32)
        bad = np.isinf(kept)
    else:
        top = len(record.names) if record.type == "class" else 2
        good = (values >= 0) & (values < top) & (values == np.floor(values))
        bad = ~(good | (values == UNLABELLED)) if record.type == "class" else ~good
        kept = np.where(bad, 0, values).astype(_KEPT_AS[record.type])
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        raise InputError(f"{where(int(place[0]))}: {_value_fault(values[place], record)}")
    return kept


def _value_fault(value: object, record: TaskRecord) -> str:
    """Say what is wrong with a label, and what would be right."""
    if record.type == "value":
        return f"label {value} is not a finite number that float32 can hold (nan: not labelled)."
    if record.type == "multilabel":
        return f"label {value} is neither 0 nor 1."
    return (
        f"label {value} is out of range; task {record.name!r} has the classes 0 to {len(record.names) - 1}, and "
        f"{UNLABELLED} for not labelled."
    )
