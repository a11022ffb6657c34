"""Variants in tab-separated files: BED with columns ref and alt, as BEND releases them, and TSV with CHROM and POS."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.regions import integers
from embedstore.text import TextTable, read_tabbed, typed
from embedstore.variants.columns import BASE, add_columns, letters
from embedstore.variants.consequences import consequence_reader
from embedstore.variants.labels import label_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

BED = ("chromosome", "start", "end")
"""The columns that a BED file begins with."""

COLUMNS = {
    "chromosome": ("chrom", "chr", "chromosome", "#chrom", "#chr", "#chromosome"),
    "position": ("pos",),
    "ref": ("ref",),
    "alt": ("alt",),
}
"""Names of the columns of a TSV file, in lower case."""

_NAMED = ("chromosome", "ref", "alt")
_ROWS = ("end = start", "end = start + 1", "end = start + length of ref")
_ALLELE = r"(?!-(?:,|$))[^\s,]+"


def read_bed(
    path: str | Path, *, label: str | None = None, consequence: str | None = None, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the variants of a BED file; see :func:`embedstore.variants.read_variants`.

    Parameters
    ----------
    path
        The file.
    label, consequence
        Columns; by default ``label`` and ``consequence``, where there are such.
    columns
        Columns that must be there.

    Returns
    -------
    pandas.DataFrame
        The table of variants; ``attrs["rows"]`` counts the rows by what ``end`` is.

    Raises
    ------
    InputError
        With file and line, if a row is malformed or ``end`` is none of the three.
    """
    table = read_tabbed(path, first=BED)
    for name in ("ref", "alt"):
        if name not in table.frame:
            raise InputError(f"{path}:1: no column {name!r}.{did_you_mean(name, table.frame.columns)}")
    start, end = integers(table, "start"), integers(table, "end")
    table.refuse(start < 0, lambda row: f"start is {start[row]}; it must be 0 or more")
    ref = table.frame["ref"]
    kinds = [end == start, end == start + 1, end == start + ref.str.len().to_numpy(np.int64)]
    table.refuse(
        ~np.any(kinds, axis=0),
        lambda row: f"start is {start[row]}, end is {end[row]} and ref is {ref[row]!r}; a variant begins at start",
        "start is its first nucleotide, 0-based, and end is start (as BEND has it), start + 1 or start + length of "
        "ref.",
    )
    kind = np.argmax(kinds, axis=0)
    counts = {name: int((kind == number).sum()) for number, name in enumerate(_ROWS) if (kind == number).any()}
    _log.info("%s: rows: %s.", path, ", ".join(f"{count:,} with {name}" for name, count in counts.items()))
    variants = _assemble(table, {name: name for name in _NAMED}, start, [*BED], label, consequence, columns)
    variants.attrs["rows"] = counts
    return variants


def read_tsv(
    path: str | Path, *, label: str | None = None, consequence: str | None = None, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the variants of a TSV file; see :func:`embedstore.variants.read_variants`.

    Parameters
    ----------
    path
        The file.
    label, consequence
        Columns; by default ``label`` and ``consequence``, where there are such.
    columns
        Columns that must be there.

    Returns
    -------
    pandas.DataFrame
        The table of variants.

    Raises
    ------
    InputError
        With file and line, if a row is malformed, a column is missing, or it cannot be known from which number
        positions are counted.
    """
    table = read_tabbed(path)
    named = _named(table)
    pos = integers(table, named["position"])
    table.refuse(pos < 0, lambda row: f"{named['position']} is {pos[row]}; it must be 0 or more, and 1 is the first")
    return _assemble(table, named, pos - 1, [named["chromosome"], named["position"]], label, consequence, columns)


def _named(table: TextTable) -> dict[str, str]:
    """Find the columns of chromosome, position, ref and alt."""
    names = list(table.frame.columns)
    where, named = f"{table.path}:1", {}
    for wanted, choices in COLUMNS.items():
        found = [name for name in names if name.lower() in choices]
        if len(found) > 1:
            raise InputError(f"{where}: columns {' and '.join(found)} both name the {wanted}. Rename one of them.")
        if not found and wanted == "position" and {"position", "start"} & {name.lower() for name in names}:
            seen = next(name for name in names if name.lower() in {"position", "start"})
            raise InputError(
                f"{where}: column {seen!r} does not say whether the first nucleotide is 0 or 1, and no other does. "
                "Rename it to 'pos' if positions count from 1, as in VCF; if they count from 0, write a BED file "
                "(chromosome, start, end, ref, alt)."
            )
        if not found:
            raise InputError(
                f"{where}: no column {choices[0]!r}.{did_you_mean(choices[0], names)} A TSV file of variants has the "
                "columns CHROM, POS (1-based), REF and ALT."
            )
        named[wanted] = found[0]
    return named


def _assemble(
    table: TextTable,
    named: dict[str, str],
    position: NDArray[np.int64],
    used: list[str],
    label: str | None,
    consequence: str | None,
    columns: Sequence[str],
) -> pd.DataFrame:
    """Make the table of variants from a table of text."""
    import pandas as pd

    frame = table.frame
    for name in (label, consequence, *columns):
        if name is not None and name not in frame:
            raise InputError(f"{table.path}:1: no column {name!r}.{did_you_mean(name, frame.columns)}")
    ref, alt = (frame[named[name]] for name in ("ref", "alt"))
    _check_alleles(table, ref, _ALLELE)
    _check_alleles(table, alt, f"{_ALLELE}(?:,{_ALLELE})*")
    chromosome = frame[named["chromosome"]]
    table.refuse(
        ~chromosome.str.fullmatch(r"\S+"),
        lambda row: f"{chromosome.name} is {chromosome[row]!r}; a name without spaces is wanted",
    )
    alts = [one.split(",") for one in alt]
    count = np.array([len(each) for each in alts], np.int64)
    record = np.repeat(np.arange(len(frame)), count)
    allele = np.arange(len(record)) - np.repeat(np.cumsum(count) - count, count) + 1
    ids = frame["id"].replace(".", "") if "id" in frame else pd.Series("", index=frame.index)
    flat = pd.Series([letters(one) for each in alts for one in each], dtype=str)
    assert table.lines is not None
    values = {
        "record": record,
        "allele": np.where(np.repeat(alt == ".", count), 0, allele),
        "line": table.lines[record],
        "chromosome": chromosome.to_numpy()[record],
        "position": position[record],
        "ref": ref.map(lambda one: letters(one) or one).to_numpy()[record],
        "alt": flat,
        "id": ids.to_numpy()[record],
    }
    variants = pd.DataFrame({name: values[name] for name in BASE})
    split = table._replace(frame=frame.iloc[record].reset_index(drop=True), lines=table.lines[record])
    read = _add_meanings(variants, split, label, consequence)
    used = [*used, named["ref"], named["alt"], *(name for name in ("id", *read) if name in frame)]
    return add_columns(variants, typed(split.frame.drop(columns=used)), table.path)


def _check_alleles(table: TextTable, column: pd.Series[str], pattern: str) -> None:
    """Refuse cells that are no alleles, and those of formats that leave out the letters before a deletion."""
    table.refuse(
        ~column.str.fullmatch(pattern),
        lambda row: f"{column.name} is {column[row]!r}; letters without spaces are wanted",
        "Write insertions and deletions as VCF does, with the nucleotide before them; '.' in alt is for none.",
    )


def _add_meanings(variants: pd.DataFrame, table: TextTable, label: str | None, consequence: str | None) -> list[str]:
    """Add the columns label and consequence; return the columns of the file that they are."""
    frame, read = table.frame, []
    name = label or next((name for name in ("label", "CLNSIG") if name in frame), None)
    if name is not None:
        variants["label"] = label_values(frame[name].to_list(), name, table.where)
        read.append(name if name == "label" else "")
    name = consequence or ("consequence" if "consequence" in frame else None)
    if name is not None:
        reader = consequence_reader(name, "", "")
        variants["consequence"] = [
            "" if value in {"", "."} else reader(value, "", [""], table.where(row))[0]
            for row, value in enumerate(frame[name])
        ]
        read.append(name if name == "consequence" else "")
    return read


def read_published(path: str | Path, name: str | Path) -> pd.DataFrame:
    """Read the BED file of a published variant task, for :func:`analysis.score_variants`.

    What :func:`embedstore.variants.read_variants` reads, and more strictly: every row is one nucleotide for another,
    labelled 0 or 1, and there once.

    Parameters
    ----------
    path
        Tab-separated, plain or gzip, with a header: ``chromosome``, ``start``, ``end`` first, then ``ref``, ``alt``,
        ``label`` and any others by name. ``start`` is the variant's nucleotide, 0-based. BEND's rows have no length
        (``end == start``); rows of one nucleotide (``end == start + 1``) name the same one and are read too.
    name
        The task: ``"variant_effects_expression"``, ``"variant_effects_disease"``, or a ``.toml`` file of one's own
        whose labels are of source ``"variants"``.

    Returns
    -------
    pandas.DataFrame
        One row per variant, in the order of the file: chromosome, position (int64, 0-based), ref, alt, label (int64,
        0 or 1), then the other columns.

    Raises
    ------
    InputError
        With file and line, if a row is longer, an allele is not one of A, C, G, T, a label is neither 0 nor 1, or a
        variant is there twice. Reference letters are compared with the genome when they are scored.
    """
    from embedstore.tasks.published import publication

    task = publication(name)
    if task.labels.source != "variants":
        raise InputError(
            f"task {task.record.name!r} is not one of variants; its regions are read by embedstore.tasks.from_bed."
        )
    variants = read_bed(path)
    if "label" not in variants:
        raise InputError(
            f"{path}:1: no column 'label', which {task.record.name} has.{did_you_mean('label', variants.columns)}"
        )
    table = TextTable(Path(path), variants, variants["line"].to_numpy(np.int64))
    ref, alt = variants["ref"], variants["alt"]
    table.refuse(
        ~(ref.isin(list("ACGT")) & alt.isin(list("ACGT"))),
        lambda row: f"ref is {ref[row]!r} and alt is {alt[row]!r}; each must be one of A, C, G, T",
    )
    table.refuse(ref == alt, lambda row: f"ref and alt are both {ref[row]!r}")
    table.refuse(variants["label"].isna(), lambda _: "there is no label; 0 or 1 is wanted")
    again = variants.duplicated(["chromosome", "position", "ref", "alt"]).to_numpy(bool)
    table.refuse(again, lambda row: _twice(variants, row), "Remove the copies.")
    kept = variants.drop(columns=["record", "allele", "line", "id"])
    front = ["chromosome", "position", "ref", "alt", "label"]
    return kept[[*front, *kept.columns.drop(front)]].astype({"label": np.int64})


def _twice(variants: pd.DataFrame, row: int) -> str:
    """Say which variant is there again."""
    chromosome, position, ref, alt = variants.loc[row, ["chromosome", "position", "ref", "alt"]]
    return f"{chromosome}:{position} {ref}>{alt} is there already"
