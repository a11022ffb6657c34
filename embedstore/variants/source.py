"""VCF and BCF files, record by record: htslib reads them, and every record is held against what stands in the file.

htslib by itself passes over much: a file that ends at the end of a compressed block of BCF, numbers it cannot read
(QUAL and INFO become 0 or missing), an empty POS (0), further columns. It also keeps numbers in 32 bits. The text of a
VCF is therefore read beside it and is what counts; both must see the same records.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.variants.info import Field
from embedstore.variants.packed import beginning, blaming_damage, compression, open_bytes, whole

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import pysam

_log = logging.getLogger(__name__)

_FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
_BCF = b"BCF\2"
_SHOWN = 80


class Record(NamedTuple):
    """A record: its place in the file, and its cells as text (for BCF, as VCF writes them)."""

    line: int  # -1 for BCF
    where: str
    cells: list[str]

    @property
    def alternates(self) -> list[str]:
        """The alternates as given; none where ALT is a dot."""
        return [] if self.cells[4] == "." else self.cells[4].split(",")


class Source(NamedTuple):
    """An open VCF or BCF file.

    Attributes
    ----------
    path : Path
        The file.
    header : list of str
        Lines of the header, the last of which names the columns.
    info : dict of str to Field
        The INFO fields that the header describes.
    text : bool
        Whether it is VCF, and not BCF.
    records : iterator of Record
        To be read once, and to the end: only then is the file known to be whole.
    """

    path: Path
    header: list[str]
    info: dict[str, Field]
    text: bool
    records: Iterator[Record]


def import_pysam() -> Any:
    """Return the package pysam.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import pysam
    except ImportError as error:
        raise InputError("VCF and BCF files need pysam; install 'embedstore[variants]'.") from error
    return pysam


@contextlib.contextmanager
def quiet_htslib() -> Iterator[Any]:
    """Keep htslib from writing to stderr, as long as the context lasts.

    Yields
    ------
    module
        pysam.
    """
    package = import_pysam()
    before = package.set_verbosity(0)
    try:
        yield package
    finally:
        package.set_verbosity(before)


@contextlib.contextmanager
def open_source(path: str | Path) -> Iterator[Source]:
    """Open a VCF or BCF file; plain, or packed by gzip or bgzip.

    Parameters
    ----------
    path
        The file. One of gzip is unpacked into the temporary directory while it is open: htslib reads only bgzip.

    Yields
    ------
    Source
        With records in the order of the file.

    Raises
    ------
    InputError
        With file and line where they are known, if the file is cut off, is not what it must be, or if htslib reads a
        record otherwise than it stands in the file.
    """
    path = Path(path)
    with quiet_htslib() as package, blaming_damage(path), contextlib.ExitStack() as stack:
        text = not beginning(path).startswith(_BCF)
        lines = stack.enter_context(contextlib.closing(_lines(path)))
        header = _read_header(path, lines) if text else []
        records = 0 if text else _count_bcf(path)
        readable = stack.enter_context(_unpacked(path)) if compression(path) == "gzip" else path
        try:
            file = package.VariantFile(str(readable), drop_samples=text)
        except (OSError, ValueError, NotImplementedError) as error:
            raise InputError(
                f"{path}: htslib does not read the header ({str(error).replace(str(readable), path.name)}). "
                "`bcftools head` shows which line is at fault."
            ) from error
        stack.enter_context(_closing(path, file))
        header = header or str(file.header).splitlines()
        info = {name: Field(str(each.number), each.type, each.description or "") for name, each in _declared(file)}
        if text:
            yield Source(path, header, info, text, _text_records(path, lines, file, header[-1].count("\t") + 1))
        else:
            yield Source(path, header, info, text, _bcf_records(path, file, records, info))


@contextlib.contextmanager
def _closing(path: Path, file: pysam.VariantFile) -> Iterator[None]:
    """Close a file at the end; htslib may find only then that it is damaged."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise InputError(f"{path}: the file is damaged ({error}). Fetch it again.") from error


def _declared(file: pysam.VariantFile) -> list[tuple[str, Any]]:
    """Return the INFO fields of the header as it stands before htslib adds those that it meets."""
    return list(file.header.info.items())


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack a file into the temporary directory."""
    with tempfile.TemporaryDirectory(prefix="embedstore_") as folder:
        plain = Path(folder) / "records.vcf"
        with whole(path), open_bytes(path) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        yield plain


def _lines(path: Path) -> Generator[tuple[int, str]]:
    """Read the lines of a text file with their numbers; blank lines at its end are left out."""
    blank = raw = b""
    number = 0
    with whole(path), open_bytes(path) as file:
        for number, raw in enumerate(file, 1):
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            if not line:
                blank = blank or b"%d" % number
                continue
            if blank:
                raise InputError(f"{path}:{int(blank)}: the line is blank; a record is wanted. Remove the line.")
            yield number, _clean(line, f"{path}:{number}")
    if not raw.endswith(b"\n"):
        _log.warning("%s:%d: the last line has no line end: was the file cut off there?", path, number)


def _clean(line: bytes, where: str) -> str:
    """Decode a line and refuse what is no text."""
    if line.startswith(b"\xef\xbb\xbf"):
        raise InputError(f"{where}: begins with a byte order mark. Save the file as UTF-8 without one (no BOM).")
    for odd, name in ((b"\r", "a carriage return within a line"), (b"\0", "a NUL byte")):
        if odd in line:
            raise InputError(f"{where}: {name}; plain text with one record per line is wanted.")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not UTF-8 text.") from None


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    """Read the header up to the line that names the columns."""
    header: list[str] = []
    for number, line in lines:
        where = f"{path}:{number}: the line is {line[:_SHOWN]!r}"
        if number == 1 and not line.startswith("##fileformat=VCF"):
            raise InputError(f"{where}; a VCF begins with ##fileformat=VCFv4.2 (or another version). Put it there.")
        header.append(line)
        if line.startswith("##"):
            continue
        cells = line.split("\t")
        if tuple(cells[:8]) == _FIXED and cells[8:9] in ([], ["FORMAT"]):
            return header
        cause = " It is separated by spaces." if len(line.split()) > len(cells) else ""
        raise InputError(
            f"{where}; before the first record a line is wanted that names the columns: {' '.join(_FIXED)} (and "
            f"FORMAT and samples), separated by tabs.{cause}"
        )
    raise InputError(f"{path}: no line names the columns (#CHROM POS ...). Is the file whole?")


def _text_records(
    path: Path, lines: Iterator[tuple[int, str]], file: pysam.VariantFile, columns: int
) -> Iterator[Record]:
    """Read records from the text, each held against what htslib makes of it."""
    where, failed = f"{path}", (OSError, ValueError)
    for number, line in lines:
        where = f"{path}:{number}"
        record = Record(number, where, line.split("\t"))
        _check_cells(record, line, columns)
        chromosome, position, _, ref = record.cells[:4]
        try:
            seen = next(file, None)
        except failed as error:
            raise InputError(
                f"{where}: htslib cannot read the record {line[:_SHOWN]!r} ({error}). Mend or remove it."
            ) from error
        wanted = (chromosome, int(position), ref, tuple(record.alternates) or None)
        found = seen and (seen.chrom, seen.pos, seen.ref, seen.alts)
        if found != wanted:
            raise InputError(f"{where}: htslib reads the record as {found}, and the text says {wanted}.")
        yield record
    further = None
    with contextlib.suppress(*failed):  # blank lines at the end, which were left out above
        further = next(file, None)
    if further is not None:
        raise InputError(f"{where}: htslib reads a record after this one, the last of the text. Was the file changed?")


def _check_cells(record: Record, line: str, columns: int) -> None:
    """Refuse a line that is no record."""
    where, cells = record.where, record.cells
    if line.startswith("#"):
        raise InputError(
            f"{where}: a line of a header among the records: {line[:_SHOWN]!r}. If files were joined, join them with "
            "`bcftools concat`."
        )
    if len(cells) != columns:
        cause = " It is separated by spaces." if "\t" not in line and len(line.split()) == columns else ""
        raise InputError(
            f"{where}: {len(cells)} column(s), {columns} are wanted as in the header: {line[:_SHOWN]!r}.{cause}"
        )
    chromosome, position, _, ref, alt = cells[:5]
    if not (position.isascii() and position.isdecimal() and len(position) <= 18):
        raise InputError(f"{where}: POS is {position!r}; a whole number is wanted, 1 for the first nucleotide.")
    for name, cell in (("CHROM", chromosome), ("REF", ref), ("ALT", alt)):
        if not cell or cell.split() != [cell] or (name == "ALT" and not all(cell.split(","))):
            raise InputError(f"{where}: {name} is {cell!r}; text without spaces is wanted ('.' for no alternate).")


def _count_bcf(path: Path) -> int:
    """Count the records of a BCF file by their lengths, and unpack all of it: htslib overlooks some damage."""
    with whole(path), open_bytes(path) as file:
        header = file.read(9)
        rest = int.from_bytes(header[5:], "little")
        complete = len(file.read(rest)) == rest and len(header) == 9
        records = 0
        while complete and (lengths := file.read(8)):
            body = int.from_bytes(lengths[:4], "little") + int.from_bytes(lengths[4:], "little")
            complete = len(lengths) == 8 and len(file.read(body)) == body
            records += complete
    if not complete:
        raise InputError(f"{path}: the BCF file is cut off after {records:,} records. Fetch it again.")
    return records


def _bcf_records(path: Path, file: pysam.VariantFile, records: int, info: dict[str, Field]) -> Iterator[Record]:
    """Read the records of a BCF file as the text of VCF, with every digit that is stored."""
    floats = {name for name, field in info.items() if field.type == "Float"}
    for number in range(records):
        where = f"{path}: record {number}"
        try:
            seen = next(file, None)
            cells = None if seen is None else _cells(seen, floats)
        except (OSError, ValueError) as error:
            raise InputError(f"{where}: htslib cannot read it ({error}). Fetch the file again.") from error
        if cells is None:
            raise InputError(f"{where}: htslib ends before it; {records:,} records are in the file.")
        yield Record(-1, where, cells)


def _cells(record: pysam.VariantRecord, floats: set[str]) -> list[str]:
    """Write a record as VCF; htslib would write six digits of each number."""
    cells = str(record).rstrip("\n").split("\t")
    cells[5] = _digits(cells[5], record.qual)
    parts = [part.partition("=") for part in cells[7].split(";")]
    cells[7] = ";".join(
        name + equals + (_digits(value, record.info[name]) if name in floats and equals else value)
        for name, equals, value in parts
    )
    formats = record.header.formats
    keys = cells[8].split(":") if len(cells) > 8 else []
    loose = [place for place, key in enumerate(keys) if key in formats and formats[key].type == "Float"]
    for sample, values in enumerate(record.samples.values() if loose else ()):
        own = cells[9 + sample].split(":")
        for place in loose:
            if place < len(own):
                own[place] = _digits(own[place], values[keys[place]])
        cells[9 + sample] = ":".join(own)
    return cells


def _digits(text: str, values: Any) -> str:
    """Write numbers of 32 bits with all their digits, where the text that stands for them has fewer."""
    numbers = values if isinstance(values, tuple) else (values,)
    parts = text.split(",")
    for place, number in enumerate(numbers[: len(parts)]):
        if number is not None and parts[place] != "." and np.float32(parts[place]) != np.float32(number):
            parts[place] = str(np.float32(number))
    return ",".join(parts)
