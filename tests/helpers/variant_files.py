"""Variant files written by plain Python: what the reader is held against."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pysam
from pysam import bcftools

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEADER = (
    "##fileformat=VCFv4.2",
    '##FILTER=<ID=q10,Description="low">',
    "##contig=<ID=chr1,length=100000>",
    "##contig=<ID=chr2>",
    '##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">',
    '##INFO=<ID=AD,Number=R,Type=Integer,Description="depth">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">',
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="in a database">',
    '##INFO=<ID=GENE,Number=1,Type=String,Description="gene">',
)
COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
FORMS = ("plain", "crlf", "gzip", "bgzip", "bcf", "bcf_plain", "bcf_gzip")


def record(
    chrom: str = "chr1",
    pos: object = 10,
    id: str = ".",  # noqa: A002
    ref: str = "A",
    alt: str = "C",
    qual: str = ".",
    filter: str = ".",  # noqa: A002
    info: str = ".",
) -> str:
    return "\t".join([chrom, str(pos), id, ref, alt, qual, filter, info])


def vcf_text(records: Sequence[str], header: Sequence[str] = HEADER, columns: Sequence[str] = COLUMNS) -> str:
    return "".join(f"{line}\n" for line in (*header, "\t".join(columns), *records))


def write_form(path: Path, text: str, form: str) -> Path:
    """Write a VCF in one of FORMS."""
    data = text.encode()
    if form == "plain":
        path.write_bytes(data)
    elif form == "crlf":
        path.write_bytes(data.replace(b"\n", b"\r\n"))
    elif form == "gzip":
        path.write_bytes(gzip.compress(data))
    elif form == "bgzip":
        with pysam.BGZFile(str(path), "wb") as file:
            file.write(data)
    else:
        plain = path.with_name(f"{path.name}.text")
        plain.write_bytes(data)
        made = path.with_name(f"{path.name}.bcf")  # bcftools goes by the name
        bcftools.view("--no-version", "-Ob", "-o", str(made), str(plain), catch_stdout=False)
        made.replace(path)
        unpacked = gzip.decompress(path.read_bytes())
        if form == "bcf_plain":
            path.write_bytes(unpacked)
        elif form == "bcf_gzip":
            path.write_bytes(gzip.compress(unpacked))
    return path
