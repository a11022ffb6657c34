"""Reading variants: one table from VCF, BCF, BED or TSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedstore.errors import InputError
from embedstore.variants.packed import beginning
from embedstore.variants.tabular import BED, COLUMNS, read_bed, read_tsv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    import pandas as pd

_FORMATS = ("vcf", "bed", "tsv")


def read_variants(
    path: str | Path,
    *,
    format: Literal["vcf", "bed", "tsv"] | None = None,  # noqa: A002
    label: str | None = None,
    consequence: str | None = None,
    columns: Sequence[str] = (),
) -> pd.DataFrame:
    """Read variants from a file.

    Nothing is dropped, sorted or repaired: duplicates stay, and alleles that cannot be scored are kept as they are.

    Parameters
    ----------
    path
        VCF or BCF, plain or packed by gzip or bgzip, needs pysam (the extra ``variants``). BED: tab-separated with a
        header, plain or gzip, ``chromosome``, ``start``, ``end`` first, then ``ref``, ``alt`` and others by name;
        ``start`` is the first letter of ref, 0-based; ``end`` is ``start`` (as BEND releases them), ``start + 1`` or
        ``start + len(ref)``. TSV: tab-separated with a header, plain or gzip, columns ``CHROM`` (``#CHROM``, ``chr``),
        ``POS`` (1-based), ``REF``, ``ALT`` in any case and order, and others by name.
    format
        ``"vcf"`` (also for BCF), ``"bed"`` or ``"tsv"``. By default told by the content.
    label
        Column or INFO field of the label. By default ``label``, or else ``CLNSIG``, where there is one. Texts:
        :func:`embedstore.variants.labels.label_values`.
    consequence
        Column or INFO field of the consequence. By default ``consequence``, or else the INFO fields MC, CSQ or ANN.
        Of MC and of the annotations of Ensembl VEP and SnpEff (of the entries of each alternate) the most severe is
        taken (:data:`embedstore.variants.consequences.SEVERITY`).
    columns
        INFO fields to keep, and ``qual`` or ``filter``; with one value per alternate (Number=A, Number=R) each
        alternate has its own. From BED and TSV all columns are kept; those named here must be there.

    Returns
    -------
    pandas.DataFrame
        A row per record and alternate, in the order of the file: ``record`` (int64, from 0), ``allele`` (int64, number
        of the alternate from 1; 0 where there is none), ``line`` (int64, of the file, from 1; -1 for BCF),
        ``chromosome``, ``position`` (int64, 0-based, first letter of ref; -1 for POS 0), ``ref``, ``alt`` (upper case;
        ``""`` where there is none; symbolic alleles, breakends and ``*`` as they are), ``id`` (``""`` where there is
        none), ``label`` (float64: 0, 1, or NaN) and ``consequence`` (``""`` for none) where asked for or there, then
        other columns. Those whose name is taken have ``_input`` behind it, which is logged. For BED,
        ``attrs["rows"]`` counts the rows of each length.

    Raises
    ------
    InputError
        With file and line where they are known, if the file is empty, cut off, damaged or malformed, has no records,
        does not say how positions are counted, or has no such column or field.
    """
    path = Path(path)
    if format is not None and format not in _FORMATS:
        raise InputError(f"format is {format!r}; it must be one of {', '.join(_FORMATS)}.")
    if format == "vcf" or (format is None and _is_vcf(path)):
        from embedstore.variants.vcf import read_vcf

        return read_vcf(path, label=label, consequence=consequence, columns=columns)
    read = read_bed if (format or _tabular_format(path)) == "bed" else read_tsv
    return read(path, label=label, consequence=consequence, columns=columns)


def _is_vcf(path: Path) -> bool:
    """Tell whether a file is VCF or BCF, by its first bytes."""
    head = beginning(path).removeprefix(b"\xef\xbb\xbf")  # which is refused when the file is read
    # A lone line of column names is a VCF without the rest of its header, and not a table: what reads it says so.
    return head.startswith((b"BCF", b"##", b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"))


def _tabular_format(path: Path) -> str:
    """Tell whether a text file is BED or TSV, by the names of its columns."""
    head = beginning(path)
    if b"\0" in head:
        raise InputError(f"{path}: is neither VCF, BCF, BED nor TSV: it begins with {head[:8]!r}. Give one of these.")
    first, _, _ = head.partition(b"\n")
    names = [name.strip("#\r ").lower() for name in first.decode(errors="replace").split("\t")]
    if tuple(names[1:3]) == BED[1:] or path.name.removesuffix(".gz").lower().endswith(".bed"):
        return "bed"
    if not set(names) & {name for choices in COLUMNS.values() for name in choices}:
        raise InputError(
            f"{path}:1: cannot tell what the file is: it begins with {first[:80].decode(errors='replace')!r}. Wanted "
            "are VCF or BCF; a BED file with a header (chromosome, start, end, ref, alt); or a TSV file with a header "
            "(CHROM, POS, REF, ALT). If it is one of these, mend its first line."
        )
    return "tsv"
