"""Files of coding sequences: a folder of FASTA files with labels in their headers, or a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError
from embedstore.tasks.coding_labels import NUMBER, residues_or_none
from embedstore.tasks.coding_rows import NAMES_OF_COLUMNS
from embedstore.text import file_digest, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from embedstore.tasks.published import Publication
    from embedstore.tasks.records import TaskRecord

FASTA = (".fna", ".fa", ".fasta", ".ffn")
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson")
_FILES = {"train": ("train",), "valid": ("val", "valid", "validation"), "test": ("test",)}


class CodingFile(NamedTuple):
    """What was read of a file or folder, not checked yet.

    Attributes
    ----------
    frame : pandas.DataFrame
        One row per sequence.
    where : callable
        Names the place of a row.
    digests : dict of str to str
        sha256 of each file, by its name.
    """

    frame: pd.DataFrame
    where: Callable[[int], str]
    digests: dict[str, str]


class _Entry(NamedTuple):
    """A record of a FASTA file."""

    line: int
    header: str
    sequence: str


def read_file(path: str | Path, record: TaskRecord, known: Publication | None, order: Sequence[str]) -> CodingFile:
    """Read a folder of FASTA files, a single one, or a table.

    Parameters
    ----------
    path
        A folder with ``train.fna``, ``val.fna``, ``test.fna`` (of the task ``secondary_structure``: ``train``,
        ``CASP12``, ``CB513``, ``TS115``), or the folder above it; a FASTA file; or a table: CSV, TSV, Parquet, or JSON
        lines.
    record
        What the labels are.
    known
        What was published of the task, where it is a published one.
    order
        Classes of residues in the order of their numbers in the input.

    Returns
    -------
    CodingFile
        Rows in the order of the files.

    Raises
    ------
    InputError
        If a file is not there or cannot be read, or a header can be read in two ways.
    """
    from embedstore.tasks.tables import read_table, typed_columns

    path = Path(path)
    if path.is_dir():
        files = _files_of(path, known)
    elif _is_fasta(path):
        files = {"": path}
    elif (path.suffix.lower() == ".gz" and Path(path.stem).suffix.lower() in _TABLES) or path.suffix.lower() in _TABLES:
        table = read_table(path)
        meant = {name for names in NAMES_OF_COLUMNS.values() for name in names}
        return CodingFile(typed_columns(table, meant), table.where, {path.name: file_digest(path)})
    else:
        raise InputError(
            f"{path}: a folder, a FASTA file ({', '.join(FASTA)}) or a table ({', '.join(_TABLES)}) is wanted, plain "
            f"or with .gz.{'' if path.exists() else ' There is no such file.'}"
        )
    return _read_fastas(files, record, order)


def _is_fasta(path: Path) -> bool:
    return Path(path.name.lower().removesuffix(".gz")).suffix in FASTA


def _files_of(folder: Path, known: Publication | None) -> dict[str, Path]:
    """Return the FASTA file of each split in a folder, or in the task's folder within it."""
    below = folder / known.coding.folder if known is not None else folder
    folder = below if below.is_dir() else folder
    splits = [name for name in known.splits if name not in _FILES] if known is not None else []
    wanted = {**_FILES, **{name: (name.lower(),) for name in splits}}
    found: dict[str, Path] = {}
    for file in sorted(file for file in folder.iterdir() if file.is_file() and _is_fasta(file)):
        stem = file.name.split(".")[0].lower()
        split = next((name for name, stems in wanted.items() if stem in stems), None)
        if split is None:
            raise InputError(
                f"{file}: which split it holds does not follow from its name; "
                f"{', '.join(stem for stems in wanted.values() for stem in stems)} are known. Rename it, or move it "
                "away."
            )
        if split in found:
            raise InputError(f"{file}: {found[split].name} is there as well, and both are the split {split!r}.")
        found[split] = file
    if "train" not in found:
        seen = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
        raise InputError(
            f"{folder}: no file train.fna; it holds {seen}. A folder with a FASTA file per split is wanted."
        )
    return {split: found[split] for split in wanted if split in found}


def _read_fastas(files: dict[str, Path], record: TaskRecord, order: Sequence[str]) -> CodingFile:
    """Read the FASTA files of a task; a single one has no splits."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    places: list[str] = []
    for split, file in files.items():
        for number, entry in enumerate(_entries(file)):
            name, label = _header(entry, file, record, order)
            row = {"id": name or f"{split or file.name.split('.')[0]}_{number}", "cds": entry.sequence, "label": label}
            rows.append({**row, "split": split} if split else row)
            places.append(f"{file}:{entry.line}")
    digests = {file.name: file_digest(file) for file in files.values()}
    return CodingFile(pd.DataFrame(rows), places.__getitem__, digests)


def _entries(path: Path) -> list[_Entry]:
    """Read a FASTA file."""
    lines = read_bytes(path).decode().split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith(">")]
    if not starts or any(line.strip() for line in lines[: starts[0]]):
        raise InputError(f"{path}:1: the first line is {lines[0][:80]!r}; FASTA begins with '>' and a header.")
    ends = [*starts[1:], len(lines)]
    return [
        _Entry(start + 1, lines[start][1:].strip(), "".join(lines[start + 1 : end]))
        for start, end in zip(starts, ends, strict=True)
    ]


def _header(entry: _Entry, path: Path, record: TaskRecord, order: Sequence[str]) -> tuple[str, str]:
    """Split a header into id, which may be missing, and label."""
    fields = [field for field in re.split(r"[|\t ]+", entry.header) if field]
    named = [
        field.partition("=")[2] for field in fields if field.partition("=")[0].lower() in NAMES_OF_COLUMNS["label"]
    ]
    name = fields[0] if len(fields) > 1 and "=" not in fields[0] else ""
    if len(named) == 1 and named[0]:
        return name, named[0]
    found = _residues(fields, entry, record, order) if record.level == "nucleotide" else _numbers(entry.header)
    if len(found) != 1:
        wanted = "the classes of its residues" if record.level == "nucleotide" else "its label, one number"
        what = f"can be read in {len(found)} ways ({'; '.join(found)[:80]})" if found else "has no label"
        raise InputError(
            f"{path}:{entry.line}: the header {entry.header[:80]!r} {what}. The id, then {wanted} as the last field is "
            "wanted, or label=...; fields are separated by '|', a tab, a space or ','."
        )
    if len(fields) == 1 and "," in entry.header and record.level != "nucleotide":
        name = entry.header.split(",")[0].strip()
    return name, found[0]


def _numbers(header: str) -> list[str]:
    """Return what the label of a sequence could be: the last field, and any other that is written with a point."""
    fields = [field for field in re.split(r"[|\t ,]+", header) if field]
    if not fields or not NUMBER.fullmatch(fields[-1]):
        return []
    others = [field for field in fields[:-1] if "." in field and NUMBER.fullmatch(field)]
    return [*dict.fromkeys([fields[-1], *others])]


def _residues(fields: Sequence[str], entry: _Entry, record: TaskRecord, order: Sequence[str]) -> list[str]:
    """Return what the labels of residues could be: the last field, or all numbers at the end, of a fitting length."""
    letters = re.sub(r"[-.\s]", "", entry.sequence)
    sizes = {len(letters) // 3, len(letters) // 3 - 1}
    ways = [fields[-1]] if fields else []
    joined = re.search(r"(?:^|[|\t ])\[?\s*(-?\d+(?:\s*[, |\t]\s*-?\d+)+)\s*\]?$", entry.header)
    if joined:
        ways.append(re.sub(r"[\s,|]+", ",", joined[1]))
    read = {way: residues_or_none(way, record.names, order) for way in ways}
    fitting = {tuple(values): way for way, values in read.items() if values is not None and len(values) in sizes}
    if fitting:
        return list(fitting.values())
    # Of a length that does not fit: the row is refused later, with its length.
    return [way for way, values in read.items() if values is not None][:1]
