"""The variants of a VCF or BCF file as a table: a row per record and alternate, in the order of the file."""

from __future__ import annotations

from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.text import TextTable
from embedstore.variants.columns import BASE, add_columns, letters
from embedstore.variants.consequences import consequence_reader
from embedstore.variants.info import Field, info_column, per_alternate, split_info
from embedstore.variants.labels import label_values
from embedstore.variants.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

    from embedstore.variants.source import Record

_LABELS = ("label", "CLNSIG")
_CONSEQUENCES = ("consequence", "MC", "CSQ", "ANN")
_CELLS = {"qual": (5, Field("1", "Float")), "filter": (6, Field("1", "String"))}


class _Column(NamedTuple):
    """A column to be made from an INFO field."""

    purpose: str  # label, consequence, or column
    name: str
    field: Field
    asked: bool  # else it may be absent
    read: Callable[[str, str, Sequence[str], str], list[str]]  # (value, ref, alternates, place) to one per alternate


def read_vcf(
    path: str | Path, *, label: str | None = None, consequence: str | None = None, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the variants of a VCF or BCF file; see :func:`embedstore.variants.read_variants`.

    Parameters
    ----------
    path
        The file.
    label
        INFO field of the label; by default ``label`` or ``CLNSIG``, where there is one.
    consequence
        INFO field of the consequence; by default ``consequence``, ``MC``, ``CSQ`` or ``ANN``.
    columns
        Further INFO fields, and ``qual`` or ``filter``.

    Returns
    -------
    pandas.DataFrame
        The table of variants.

    Raises
    ------
    InputError
        If the file or a field is not as it must be.
    """
    import pandas as pd

    path = Path(path)
    with open_source(path) as source:
        wanted = list(_wanted(source.info, label, consequence, columns))
        base, texts, present = _collect(source.records, wanted)
    for column in wanted:
        if column.asked and column.name not in {*present, *source.info, *_CELLS}:
            known = sorted({*present, *source.info})
            raise InputError(f"{path}: no INFO field {column.name!r}.{did_you_mean(column.name, known)}")
    if not base["record"]:
        raise InputError(f"{path}: has a header but no records.")
    table = pd.DataFrame(base)
    where = TextTable(path, table, table["line"].to_numpy(np.int64) if source.text else None).where
    others = {}
    for column, values in zip(wanted, texts, strict=True):
        if not (column.asked or column.name in present):
            continue
        if column.purpose == "label":
            table["label"] = label_values(values, column.name, where)
        elif column.purpose == "consequence":
            table["consequence"] = pd.Series(values, dtype=str)
        else:
            others[column.name] = info_column(values, column.field, column.name, where)
    return add_columns(table, pd.DataFrame(others, index=table.index), path)


def _wanted(
    info: Mapping[str, Field], label: str | None, consequence: str | None, columns: Sequence[str]
) -> Iterator[_Column]:
    """Choose the INFO fields that become columns."""
    # A field that is used without a line in the header is found, too, where that says enough to read it.
    name = label or next((name for name in _LABELS if name in info), "CLNSIG")
    field = info.get(name, Field())
    read = _significance_reader(field.number) if name == "CLNSIG" else _value_reader(name, field.number)
    yield _Column("label", name, field, label is not None, read)
    name = consequence or next((name for name in _CONSEQUENCES if name in info), "MC")
    field = info.get(name, Field())
    yield _Column("consequence", name, field, consequence is not None, consequence_reader(name, *_described(field)))
    for name in dict.fromkeys(columns):
        field = _CELLS[name][1] if name in _CELLS else info.get(name, Field())
        yield _Column("column", name, field, True, _value_reader(name, field.number))


def _described(field: Field) -> tuple[str, str]:
    return field.number, field.description


def _value_reader(name: str, number: str) -> Callable[[str, str, Sequence[str], str], list[str]]:
    """Return what shares the values of a field out among the alternates."""
    return lambda value, ref, alts, where: per_alternate(value, number, len(alts), f"{where}: {name}")  # noqa: ARG005


def _significance_reader(number: str) -> Callable[[str, str, Sequence[str], str], list[str]]:
    """Return what shares CLNSIG out: ClinVar has one alternate per record, and commas within a class."""

    def read(value: str, _: str, alts: Sequence[str], where: str) -> list[str]:
        parts = value.split(",")
        each = len(parts) == len(alts) > 1 and not any(part.startswith("_") for part in parts)
        return per_alternate(value, "A" if each else number, len(alts), f"{where}: CLNSIG")

    return read


def _collect(
    records: Iterator[Record], wanted: list[_Column]
) -> tuple[dict[str, list[object]], list[list[str]], set[str]]:
    """Read all records: the columns of a row per alternate, the texts of each wanted one, the fields that occur."""
    base: dict[str, list[object]] = {name: [] for name in BASE}
    texts: list[list[str]] = [[] for _ in wanted]
    names = {column.name for column in wanted}
    present: set[str] = set()
    for number, record in enumerate(records):
        chromosome, position, identifier, ref = record.cells[:4]
        alts = record.alternates
        for place, alt in enumerate(alts or ["."]):
            allele = place + 1 if alts else 0
            own = (number, allele, record.line, intern(chromosome), int(position) - 1, letters(ref) or ref)
            for cells, cell in zip(
                base.values(), (*own, letters(alt), "" if identifier == "." else identifier), strict=True
            ):
                cells.append(cell)
        found = split_info(record.cells[7], names, record.where)
        present |= found.keys()
        found |= {name: record.cells[cell] for name, (cell, _) in _CELLS.items()}
        for column, values in zip(wanted, texts, strict=True):
            values.extend(_shared_out(column, found.get(column.name, ""), ref, alts, record.where))
    return base, texts, present


def _shared_out(column: _Column, value: str, ref: str, alts: list[str], where: str) -> list[str]:
    """Return the value of each alternate; of the record, where it has none."""
    if not alts and column.field.number in {"A", "R"}:
        return [""]
    if value in {"", "."}:
        return [""] * max(len(alts), 1)
    return column.read(value, ref, alts or ["."], where)
