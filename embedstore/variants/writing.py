"""Writing variants with their scores: tables, and copies of the VCF or BCF that was read."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from embedstore.errors import DiskSpaceError, InputError, did_you_mean
from embedstore.outputs import written_whole
from embedstore.variants.columns import letters
from embedstore.variants.source import import_pysam, open_source, quiet_htslib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from embedstore.variants.source import Record, Source

_TABLES = (".parquet", ".csv", ".tsv")
_COPIES = (".vcf", ".vcf.gz", ".bcf")
_KEYS = ["record", "allele", "chromosome", "position", "ref", "alt"]
_CLOSE = 1e-7  # BCF keeps 24 bits of a number
_REASON = "ES_REASON"
_SAFE = "()[]<>/'+*:!?&@^|$#"


def write_scores(
    table: pd.DataFrame,
    path: str | Path,
    *,
    source: str | Path | None = None,
    scores: Sequence[str] = (),
) -> Path:
    """Write variants with their scores; the file is there whole or not at all.

    Parameters
    ----------
    table
        From :func:`embedstore.variants.read_variants`, with the columns of scores and ``reason``.
    path
        Where to; a file of that name is replaced. The name decides: ``.parquet`` (needs pyarrow), ``.csv`` and
        ``.tsv`` hold the whole table (pandas reads text back to the last digit; ``keep_default_na=False``, with
        ``na_values`` ``""`` for the columns of numbers, keeps empty text apart from NaN); ``.vcf``, ``.vcf.gz``
        (bgzip) and ``.bcf`` a copy of `source`.
    source
        The VCF or BCF file that the table was read from, for a copy. All its records are there in their order, with
        every column as it was, and with INFO fields added: ``ES_`` and the name of each score (Number=A, ``.`` where
        an alternate was not scored), and ``ES_REASON``, why not (``.`` where it was; underscores for spaces, and
        other signs that INFO cannot hold percent-encoded). Numbers have all their digits in VCF; BCF keeps 32 bits.
    scores
        Columns of scores for a copy. Not used for the others, which hold all columns.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the name ends otherwise, a column is missing, `source` is missing or is not what the table was read from,
        has such INFO fields already, or cannot be kept as BCF without loss.
    """
    path = Path(path)
    kind = next((ending for ending in (*_TABLES, *_COPIES) if path.name.lower().endswith(ending)), None)
    if kind is None:
        raise InputError(f"{path}: a name ending in one of {', '.join((*_TABLES, *_COPIES))} is wanted.")
    if kind in _TABLES:
        with _whole(path) as part:
            _write_table(table, part, kind)
        return path
    if source is None:
        raise InputError(f"{path}: a VCF or BCF is a copy of the one that was read, with scores added: pass source=.")
    fields = _score_fields(table, scores)
    with _whole(path) as part, open_source(source) as opened:
        header, lines = _header(opened, fields), _annotated(opened, table, fields)
        if kind == ".bcf":
            _write_bcf(part, header, lines)
        elif kind == ".vcf.gz":
            with import_pysam().BGZFile(str(part), "wb") as file:
                _write_lines(file, header, lines)
        else:
            with part.open("wb") as file:
                _write_lines(file, header, lines)
    return path


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, as `written_whole` does; an error says which file was not written."""
    try:
        with written_whole(path) as part:
            yield part
    except DiskSpaceError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


def _write_table(table: pd.DataFrame, path: Path, kind: str) -> None:
    """Write all rows and columns."""
    if kind == ".parquet":
        try:
            table.to_parquet(path, index=False)
        except ImportError as error:
            raise InputError("Parquet needs pyarrow; install 'embedstore[tables]'.") from error
    else:
        table.to_csv(path, sep="," if kind == ".csv" else "\t", index=False, lineterminator="\n")


class _Score(NamedTuple):
    """An INFO field to be added: its name, and the text for each row of the table."""

    field: str
    column: str
    texts: list[str]


def _score_fields(table: pd.DataFrame, scores: Sequence[str]) -> list[_Score]:
    """Write each score, and the reasons, as text."""
    if not scores or isinstance(scores, str):
        raise InputError("a copy of a VCF or BCF needs the names of its columns of scores: pass scores=[...].")
    for name in (*scores, "reason", *_KEYS):
        if name not in table:
            raise InputError(f"the table has no column {name!r}.{did_you_mean(name, map(str, table.columns))}")
    fields = []
    for name in scores:
        field = _field(name)
        if not re.fullmatch(r"\w[\w.]*", field, re.ASCII) or field == _REASON:
            raise InputError(f"score {name!r} cannot be the name of an INFO field; letters, digits and _ are wanted.")
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError(f"column {name!r} holds {table[name].dtype}; the numbers of a score are wanted.")
        values = table[name].to_numpy(np.float64, na_value=np.nan).tolist()
        fields.append(_Score(field, name, ["." if math.isnan(value) else repr(value) for value in values]))
    reasons = table["reason"].astype(str)
    return [*fields, _Score(_REASON, "reason", [quote(one.replace(" ", "_"), safe=_SAFE) or "." for one in reasons])]


def check_source(path: str | Path, scores: Sequence[str]) -> None:
    """Make sure that a file is one that `write_scores` can copy with scores added, before they are computed.

    Parameters
    ----------
    path
        The file.
    scores
        Names of the columns of scores.

    Raises
    ------
    InputError
        If it cannot be read as VCF or BCF, or has fields of these scores already.
    """
    with open_source(path) as source:
        _refuse_fields(source, [*map(_field, scores), _REASON])


def _field(score: str) -> str:
    """Return the INFO field of a score."""
    return f"ES_{score.upper()}"


def _refuse_fields(source: Source, fields: Sequence[str]) -> None:
    """Refuse a file that has one of the fields."""
    again = [field for field in fields if field in source.info]
    if again:
        raise InputError(
            f"{source.path}: has the INFO field {again[0]} already. Remove it first (`bcftools annotate -x "
            f"INFO/{again[0]}`), or read and copy the file without scores."
        )


def _header(source: Source, fields: list[_Score]) -> list[str]:
    """Return the lines of the header, with those of the fields added."""
    _refuse_fields(source, [field.field for field in fields])
    described = [
        f'##INFO=<ID={field.field},Number=A,Type=Float,Description="Score {field.column} of the alternate, by '
        'embedstore">'
        for field in fields[:-1]
    ]
    described.append(
        f'##INFO=<ID={_REASON},Number=.,Type=String,Description="Why each alternate has no score, by embedstore; _ for '
        'spaces, other signs percent-encoded">'
    )
    return [*source.header[:-1], *described, source.header[-1]]


def _annotated(source: Source, table: pd.DataFrame, fields: list[_Score]) -> Iterator[tuple[str, str]]:
    """Copy the records with the fields added: the place and the text of each."""
    order = np.lexsort((table["allele"], table["record"])).tolist()
    # Checking writes all alleles in upper case, also those that are no letters.
    upper = table.assign(ref=table["ref"].str.upper(), alt=table["alt"].str.upper())
    keys = list(zip(*(upper[name].to_list() for name in _KEYS), strict=True))
    done = 0
    for number, record in enumerate(source.records):
        wanted = _expected(number, record)
        rows = order[done : done + len(wanted)]
        found = [keys[row] for row in rows]
        if found != wanted:
            raise InputError(
                f"{record.where}: record {number} is {_shown(wanted)}, and the table has {_shown(found)} there. Pass "
                "source= the file that the table was read from, and a table with all its rows."
            )
        done += len(rows)
        added = ";".join(f"{field.field}={','.join(field.texts[row] for row in rows)}" for field in fields)
        cells = list(record.cells)
        cells[7] = added if cells[7] in {".", ""} else f"{cells[7]};{added}"
        yield record.where, "\t".join(cells)
    if done != len(order):
        raise InputError(
            f"{source.path}: has {done:,} alternates in all, and the table {len(order):,} rows. Pass source= the file "
            "that the table was read from, and a table without further rows."
        )


def _expected(number: int, record: Record) -> list[tuple[Any, ...]]:
    """Return what the table has for a record, as read_variants reads it; alleles in upper case."""
    chromosome, position, _, ref = record.cells[:4]
    own = (chromosome, int(position) - 1, ref.upper())
    alts = record.alternates
    return [(number, place + 1 if alts else 0, *own, letters(alt).upper()) for place, alt in enumerate(alts or ["."])]


def _shown(keys: list[tuple[Any, ...]]) -> str:
    """Write variants for a message."""
    return ", ".join(f"{key[2]}:{key[3]} {key[4]}>{key[5] or '.'}"[:80] for key in keys[:3]) or "nothing"


def _write_lines(file: BinaryIO, header: list[str], lines: Iterable[tuple[str, str]]) -> list[str]:
    """Write a VCF; return the place of each record."""
    file.write("".join(f"{line}\n" for line in header).encode())
    places = []
    for where, line in lines:
        file.write(f"{line}\n".encode())
        places.append(where)
    return places


def _write_bcf(path: Path, header: list[str], lines: Iterable[tuple[str, str]]) -> None:
    """Write a BCF by way of a VCF, and compare what it keeps with what was to be kept."""
    with tempfile.TemporaryDirectory(prefix="embedstore_") as folder, quiet_htslib() as package:
        from pysam import bcftools

        given, whole = Path(folder) / "given.vcf", Path(folder) / "whole.vcf"
        with given.open("wb") as file:
            places = _write_lines(file, header, lines)
        # BCF needs a line of the header for everything; htslib makes those that are missing as it reads.
        with package.VariantFile(str(given)) as reader:
            for _ in reader:
                pass
            complete = str(reader.header)
        with given.open("rb") as text, whole.open("wb") as file:
            for _ in header:
                text.readline()
            file.write(complete.encode())
            shutil.copyfileobj(text, file)
        # pysam's own writer would add END to symbolic alleles and take it away from others.
        bcftools.view("--no-version", "-Ob", "-o", str(path), str(whole), catch_stdout=False)
        with whole.open("rb") as text, open_source(path) as kept:
            body = (line.decode().rstrip("\n") for line in text if not line.startswith(b"#"))
            for where, line, record in zip(places, body, kept.records, strict=True):
                _compare(where, line.split("\t"), record.cells)


def _compare(where: str, wanted: list[str], kept: list[str]) -> None:
    """Refuse a record that BCF does not keep as it is."""
    for column, (before, after) in enumerate(zip(wanted, kept, strict=True)):
        if before != after and not _same(before, after, sample=column > 8):
            raise InputError(
                f"{where}: BCF cannot keep {before[:80]!r} in column {column + 1}: it would become {after[:80]!r}. "
                "Write .vcf.gz instead."
            )


def _same(before: str, after: str, *, sample: bool) -> bool:
    """Tell whether two cells mean the same: numbers may be written otherwise, missing values at the end left out."""
    pairs = zip_longest(*(re.split("[;:=]", cell) for cell in (before, after)), fillvalue="." if sample else "")
    for one, other in pairs:
        ones, others = one.split(","), other.split(",")
        if len(ones) != len(others) or not all(map(_equal, ones, others)):
            return False
    return True


def _equal(before: str, after: str) -> bool:
    """Tell whether two texts are the same, or the same number to the digits that BCF keeps."""
    if before == after:
        return True
    try:
        return math.isclose(float(before), float(after), rel_tol=_CLOSE, abs_tol=1e-37)
    except ValueError:
        return False
