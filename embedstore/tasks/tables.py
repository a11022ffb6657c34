"""Tables of sequences, and tasks from them: CSV, TSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.regions import read_splits
from embedstore.tasks.labels import column_labels
from embedstore.tasks.samples import encode_all, loose_samples, plain_columns
from embedstore.tasks.task import Task, resolve
from embedstore.text import TextTable, check_header, file_digest, read_bytes, read_tabbed, typed

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Literal

    import pandas as pd

    from embedstore.tasks.records import TaskRecord
    from embedstore.tokenizers.tokens import Alphabet


def from_table(
    path: str | Path,
    *,
    record: TaskRecord | str | Path | None = None,
    name: str | None = None,
    split: str | None = None,
    empty_labels: Literal["refuse", "zero"] = "refuse",
    other_letters: Literal["refuse", "N"] = "refuse",
    alphabet: Alphabet | None = None,
) -> Task:
    """Make a task from a table with a sequence in every row.

    All sequences are held in memory.

    Parameters
    ----------
    path
        A ``.csv``, ``.tsv`` (or ``.txt``) or ``.jsonl`` file, plain or with ``.gz``, or a ``.parquet`` file (needs
        pyarrow). Columns by name: ``id``, ``sequence``, ``split`` and, with a record, ``label``, written as in a BED
        file (see :func:`embedstore.tasks.labels.column_labels`); in Parquet and JSON also a number or a list of
        numbers. All other columns are kept.
    record
        What the labels are: a record, the name of a published task or the path of a TOML file. None (default) for a
        table without labels.
    name
        Name of the task in a store; that of the record, or else of the file, by default.
    split
        Split of all samples, for a table without a column ``split``; may be ``""``. By default such a table is refused.
    empty_labels
        ``"refuse"`` (default), or ``"zero"``: an empty label of type ``multilabel`` sets all targets to 0.
    other_letters
        ``"refuse"`` (default), or ``"N"``: letters other than A, C, G, T, N are read as N. Not for proteins.
    alphabet
        ``"dna"`` or ``"protein"``: what the letters are. By default what the record says, and without one DNA.

    Returns
    -------
    Task
        Samples in the order of the table.

    Raises
    ------
    InputError
        With file and line (row for Parquet), if a row is not as it must be. Nothing is dropped.
    """
    path = Path(path)
    table = read_table(path)
    columns = table.frame.columns
    for wanted in ("id", "sequence", *(["label"] if record is not None else [])):
        if wanted not in columns:
            raise InputError(f"{path}:1: no column {wanted!r}.{did_you_mean(wanted, columns)}")
    if record is None and "label" in columns:
        raise InputError(f"{path}:1: has a column 'label'; pass record= to say what it holds, or rename it.")
    record = resolve(record, name or path.name.split(".")[0], alphabet, other_letters)
    codes = encode_all(table.frame["sequence"].to_list(), other_letters, table.where, record.alphabet)
    lengths = np.array([len(one) for one in codes], np.int64)
    splits = read_splits(table, split)
    others = table.frame.drop(columns=["id", "sequence", "label", "split"], errors="ignore")
    others = typed_columns(table._replace(frame=others))
    if "length" in others:
        others = others.rename(columns={"length": "input_length"})
    samples = loose_samples(table.frame["id"], lengths, splits, others, table.where, record.alphabet)
    labels = column_labels(table.frame["label"], record, table.where, empty_labels) if "label" in columns else None
    source: dict[str, object] = {
        "kind": "table",
        "table": path.name,
        "table_sha256": file_digest(path),
        "split": split,
        "empty_labels": empty_labels,
        "other_letters": other_letters,
    }
    return Task(name or record.name, record, samples, labels, lambda start, stop: codes[start:stop], source)


def typed_columns(table: TextTable, without: Collection[str] = ()) -> pd.DataFrame:
    """Give the columns of a table that was read the types that a store holds.

    Parameters
    ----------
    table
        From :func:`read_table`.
    without
        Columns that stay as they are.

    Returns
    -------
    pandas.DataFrame
        The same columns in the same order.
    """
    frame = table.frame.copy()
    others = frame.drop(columns=[name for name in without if name in frame])
    others = plain_columns(others) if table.lines is None else typed(others)
    return frame.assign(**{str(name): others[name] for name in others})


def read_table(path: Path) -> TextTable:
    """Read a table by the kind that its name tells.

    Parameters
    ----------
    path
        A ``.csv``, ``.tsv``, ``.txt``, ``.jsonl``, ``.ndjson`` (any of them also with ``.gz``) or ``.parquet`` file.

    Returns
    -------
    TextTable
        One row per row of the file. All cells are text; in Parquet only those of ``id``, ``sequence``, ``label`` and
        ``split`` are.

    Raises
    ------
    InputError
        With file and line, if the file cannot be read or is not as its name says.
    """
    kind = "".join(path.suffixes[-2:]).lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        return _read_csv(path)
    if kind in {"tsv", "txt"}:
        return read_tabbed(path)
    if kind == "parquet":
        return _read_parquet(path)
    if kind in {"jsonl", "ndjson"}:
        return _read_json_lines(path)
    raise InputError(f"{path}: a name ending in .csv, .tsv, .txt, .jsonl (plain or .gz) or .parquet is wanted.")


def _read_csv(path: Path) -> TextTable:
    """Read comma-separated text, in which cells may be quoted."""
    import pandas as pd

    raw = read_bytes(path)
    rows, lines = [], []
    reader = csv.reader(io.StringIO(raw.decode(), newline="\n"), strict=True)
    limit = csv.field_size_limit(max(len(raw), 1))  # a sequence may be longer than what csv expects of a cell
    try:
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}.") from None
    finally:
        csv.field_size_limit(limit)
    header = rows.pop(0)
    check_header(path, header)
    if not rows:
        raise InputError(f"{path}: has a header but no rows.")
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) != len(header):
            raise InputError(f"{path}:{line}: {len(row)} cell(s), {len(header)} are wanted as in the header.")
    frame = pd.DataFrame(rows, columns=header, dtype=str)
    return TextTable(path, frame, np.array(lines[1:], np.int64))


def _read_json_lines(path: Path) -> TextTable:
    """Read a file with an object in every line, all of the same keys."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for line, text in enumerate(read_bytes(path).decode().split("\n"), 1):
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}:{line}: is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: holds {type(row).__name__}; an object with a key per column is wanted.")
        if rows and set(row) != set(rows[0]):
            odd = sorted(set(row) ^ set(rows[0]))
            raise InputError(f"{path}:{line}: has other keys than line 1: {', '.join(odd)}. Write null for no value.")
        rows.append(row)
    check_header(path, list(rows[0]))
    frame = pd.DataFrame({name: [_cell(row[name]) for row in rows] for name in rows[0]}, dtype=str)
    return TextTable(path, frame, np.arange(1, len(rows) + 1))


def _read_parquet(path: Path) -> TextTable:
    """Read a Parquet file; the columns that must be text become text."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}.") from error
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow; install 'embedstore[tables]'.") from error
    frame = frame.reset_index(drop=True)
    check_header(path, [str(column) for column in frame])
    if not len(frame):
        raise InputError(f"{path}: has no rows.")
    for name in {"id", "sequence", "label", "split"} & set(frame):
        frame[name] = pd.Series([_cell(cell) for cell in frame[name]], dtype=str)
    return TextTable(path, frame, None)


def _cell(cell: Any) -> str:
    """Write a cell as a text table would have it."""
    import pandas as pd

    if isinstance(cell, (list, np.ndarray)):
        return ",".join(map(str, cell))
    return "" if pd.isna(cell) else str(cell)
