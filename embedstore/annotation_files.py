"""Reading annotations of genomes, GFF3 and GTF, into tables.

The parser is small and strict: a line that is not as it must be is refused with its number. Formats: GFF3 1.26
(Sequence Ontology) and GTF 2.2 (Brent lab; as Ensembl and GENCODE write it). No database is made.
"""

from __future__ import annotations

import gzip
import logging
import re
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

_log = logging.getLogger(__name__)

_COLUMNS = ("chromosome", "start", "end", "strand", "gene", "transcript")
_PARTS = {"exon": "exon", "pseudogenic_exon": "exon", "CDS": "cds"}
# TAIR names the protein as a second parent of a CDS: it is no transcript.
_PROTEINS = ("protein", "polypeptide")
_TRANSCRIPT = re.compile("RNA|transcript")
_GFF3_PAIR = re.compile(r"\s*[^\s=;\"]+=")
# Where the id of a line and that of its parent stand: for a transcript of GTF, its own and that of its gene.
_IDS = {
    False: (re.compile(r"(?:^|;)\s*ID=([^;]+)"), re.compile(r"(?:^|;)\s*Parent=([^;]+)")),
    True: (
        re.compile(r'(?:^|;)\s*transcript_id\s+"?([^";]+)'),
        re.compile(r'(?:^|;)\s*gene_id\s+"?([^";]+)'),
    ),
}


class Annotation(NamedTuple):
    """Genes of a genome.

    Each table has the columns chromosome, start, end (0-based, half-open), strand (``+``, ``-``, or ``.`` where it is
    not known), gene and transcript (ids as in the file; transcript is ``""`` in `genes`), in the order of the file.

    Attributes
    ----------
    genes : pandas.DataFrame
        Genes.
    transcripts : pandas.DataFrame
        Transcripts.
    exons : pandas.DataFrame
        Exons, one row for each transcript that an exon is part of.
    cds : pandas.DataFrame
        Coding parts of exons. GFF3 counts the stop codon in; GTF leaves it out.
    """

    genes: pd.DataFrame
    transcripts: pd.DataFrame
    exons: pd.DataFrame
    cds: pd.DataFrame


class _Feature(NamedTuple):
    """A line of a file."""

    line: int
    kind: str
    chromosome: str
    start: int
    end: int
    strand: str
    name: str  # "" where there is none, here and below
    parent: str

    def row(self, gene: str, transcript: str) -> tuple[Any, ...]:
        """Return a row of a table."""
        return (self.chromosome, self.start, self.end, self.strand, gene, transcript)


def read_annotation(path: str | Path) -> Annotation:
    """Read a GFF3 or GTF file.

    GFF3: a transcript is what exons and coding sequences name as their parent (proteins apart), and any other child of
    a gene that is an RNA or a transcript by its type; its gene is its topmost ancestor (of several, the first named). A
    gene that has exons of its own is its own transcript. Exons whose parent the file does not have, as at the ends of a
    region that was cut out, make a transcript of that name, which is also its gene; this is logged. GTF: exons and
    coding sequences name transcript and gene. Where either has no line, it reaches from its first to its last exon.

    Parameters
    ----------
    path
        The file, plain or gzip. The format is told by its attributes, not by its name.

    Returns
    -------
    Annotation
        The tables.

    Raises
    ------
    InputError
        With file and line, if a line has not nine columns, coordinates are not 1 <= start <= end, a strand or an
        attribute is malformed, or an exon or coding sequence names no parent; if the file cannot be read, is cut off,
        or has no exons and no coding sequences.
    """
    path = Path(path)
    features: list[_Feature] = []
    gtf: bool | None = None
    for line, text in _lines(path):
        if gtf is None:
            gtf = _is_gtf(path, line, text)
        feature = _feature(path, line, text, bool(gtf))
        if feature is not None:
            features.append(feature)
    tables = _from_gtf(path, features) if gtf else _from_gff3(path, features)
    if not tables["exon"] and not tables["cds"]:
        raise InputError(f"{path}: has no lines of type exon or CDS; a GFF3 or GTF file of genes is wanted.")
    return Annotation(*(_table(tables[name]) for name in ("gene", "transcript", "exon", "cds")))


def _table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Make a table, each row once."""
    import pandas as pd

    table = pd.DataFrame(list(dict.fromkeys(rows)), columns=list(_COLUMNS))
    return table.astype({name: np.int64 if name in ("start", "end") else str for name in _COLUMNS})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that describe features, counted from 1."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as lines:
            for line, text in enumerate(lines, 1):
                if text.startswith((">", "##FASTA")):
                    return
                if text.strip() and not text.startswith("#"):
                    yield line, text.rstrip("\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}). Fetch it again.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason}); a GFF3 or GTF file is wanted.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error


def _cells(path: Path, line: int, text: str) -> list[str]:
    """Split a line into its nine columns."""
    cells = text.split("\t")
    if len(cells) != 9:
        raise InputError(
            f"{path}:{line}: {len(cells)} column(s); GFF3 and GTF have nine, separated by tabs: {text[:80]!r}."
        )
    return cells


def _is_gtf(path: Path, line: int, text: str) -> bool | None:
    """Tell the format by the attributes of a line: ``key "value";`` or ``key=value;``; None where it has none."""
    attributes = _cells(path, line, text)[8]
    return None if attributes.strip() in ("", ".") else not _GFF3_PAIR.match(attributes)


def _feature(path: Path, line: int, text: str, gtf: bool) -> _Feature | None:
    """Read a line; None where it is about something else than genes, transcripts, exons and coding sequences."""
    chromosome, _, kind, first, last, _, strand, _, attributes = _cells(path, line, text)
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise InputError(
            f"{path}:{line}: start is {first!r} and end is {last!r}; whole numbers are wanted, 1 <= start <= end."
        )
    if strand not in ("+", "-", ".", "?"):
        raise InputError(f"{path}:{line}: strand is {strand!r}; it must be '+', '-', '.' or '?'.")
    name, parent = (match[1].strip() if match else "" for match in (one.search(attributes) for one in _IDS[gtf]))
    if kind not in (*_PARTS, "gene", "transcript") if gtf else kind not in _PARTS and not name:
        return None
    strand = "." if strand == "?" else strand
    # Few different texts, on millions of lines.
    kind, chromosome, name, parent = map(sys.intern, (kind, unquote(chromosome), name, parent))
    return _Feature(line, kind, chromosome, int(first) - 1, int(last), strand, name, parent)


def _from_gtf(path: Path, features: list[_Feature]) -> dict[str, list[tuple[Any, ...]]]:
    """Sort the features of a GTF file into tables."""
    tables: dict[str, list[tuple[Any, ...]]] = {"gene": [], "transcript": [], "exon": [], "cds": []}
    for feature in features:
        for key, value in {"gene_id": feature.parent, "transcript_id": feature.name or feature.kind == "gene"}.items():
            if not value:
                raise InputError(f"{path}:{feature.line}: a line of type {feature.kind} needs the attribute {key}.")
        table = _PARTS.get(feature.kind, feature.kind)
        tables[table].append(feature.row(feature.parent, "" if table == "gene" else feature.name))
    return _completed(tables)


def _completed(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Add transcripts and genes that have no lines of their own."""
    tables["transcript"] += _reaches(tables["exon"] + tables["cds"], tables["transcript"])
    tables["gene"] += _reaches([(*row[:5], "") for row in tables["transcript"]], tables["gene"])
    return tables


def _reaches(parts: list[tuple[Any, ...]], given: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Give a row from first to last part for what has parts and no line of its own."""
    known = {row[4:] for row in given}
    reach: dict[tuple[str, ...], tuple[int, int]] = {}
    for chromosome, start, end, strand, *names in parts:
        if tuple(names) not in known:
            key = (chromosome, strand, *names)
            low, high = reach.get(key, (start, end))
            reach[key] = min(low, start), max(high, end)
    for (chromosome, strand, *names), (low, high) in reach.items():
        yield (chromosome, low, high, strand, *names)


def _from_gff3(path: Path, features: list[_Feature]) -> dict[str, list[tuple[Any, ...]]]:
    """Sort the features of a GFF3 file into tables."""
    named: dict[str, list[_Feature]] = {}
    for feature in features:
        if feature.name:
            named.setdefault(feature.name, []).append(feature)
    tables: dict[str, list[tuple[Any, ...]]] = {"exon": [], "cds": []}
    transcripts: dict[str, str] = {}  # id -> that of its gene
    for feature in features:
        if feature.kind in _PARTS:
            owners = _parents(path, feature, named)
            for owner in owners:
                transcripts[owner] = transcripts.get(owner) or _ancestor(path, owner, named)
                row = feature.row(unquote(transcripts[owner]), unquote(owner))
                tables[_PARTS[feature.kind]].append(row)
        elif feature.parent and _TRANSCRIPT.search(feature.kind):
            transcripts[feature.name] = transcripts.get(feature.name) or _ancestor(path, feature.name, named)
    genes = dict.fromkeys(transcripts.values())
    genes |= {
        name: None for name, (feature, *_) in named.items() if not feature.parent and feature.kind.endswith("gene")
    }
    tables["gene"] = [one.row(unquote(name), "") for name in named if name in genes for one in named[name]]
    tables["transcript"] = [
        one.row(unquote(transcripts[name]), unquote(name))
        for name in named
        if name in transcripts
        for one in named[name]
    ]
    lost = [name for name in dict.fromkeys((*genes, *transcripts)) if name not in named]
    if lost:
        _log.warning(
            "%s: %d parents of exons or transcripts are not in the file, %s for one.", path, len(lost), lost[0]
        )
    return _completed(tables)


def _parents(path: Path, feature: _Feature, named: dict[str, list[_Feature]]) -> list[str]:
    """Return the ids of the transcripts of an exon or a coding sequence."""
    parents = [name for name in feature.parent.split(",") if name]
    if not parents:
        raise InputError(f"{path}:{feature.line}: a line of type {feature.kind} needs the attribute Parent.")
    found = [name for name in parents if name in named and named[name][0].kind not in _PROTEINS]
    found = found or [name for name in parents if name not in named][:1]
    if not found:
        raise InputError(f"{path}:{feature.line}: Parent={','.join(parents)} is a protein; a transcript is wanted.")
    return found


def _ancestor(path: Path, name: str, named: dict[str, list[_Feature]]) -> str:
    """Return the id of the topmost ancestor of a feature; its own where it is not in the file."""
    seen = {name}
    while name in named and named[name][0].parent:
        line, parent = named[name][0].line, named[name][0].parent.split(",")[0]
        if parent in seen:
            raise InputError(f"{path}:{line}: Parent={parent}: a line must not be its own ancestor.")
        name = parent
        seen.add(name)
    return name
