"""Coding sequences from FASTA files at hand: found by identifier, and by exact translation."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embedstore.coding import clean_cds, genetic_code, translate
from embedstore.curation.client import Fault
from embedstore.curation.records import CodingRecord, read_fasta, without_version
from embedstore.errors import InputError
from embedstore.text import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedstore.curation.rows import Row


class LocalFiles(NamedTuple):
    """Coding sequences of some files.

    Attributes
    ----------
    records
        All of them, in the order of the files.
    by_name
        Indices of the records that an identifier names, with versions and without.
    by_translation
        Indices of the records with a translation, by its digest; see :func:`read_files`.
    """

    records: list[CodingRecord]
    by_name: dict[str, list[int]]
    by_translation: dict[bytes, list[int]]


def read_files(paths: Iterable[str | Path], *, tables: Sequence[int] = (1, 11)) -> LocalFiles:
    """Read FASTA files of coding sequences.

    Headers may be those of NCBI (``[protein_id=...] [gene=...]``), Ensembl (``gene:... gene_symbol:...``), ENA
    (``>ENA|AAB59737|AAB59737.1``) or one's own: every identifier in them can be asked for.

    Parameters
    ----------
    paths
        Files, plain or gzip.
    tables
        Genetic codes for finding a sequence by its translation, default (1, 11); a table in a header comes first.

    Returns
    -------
    LocalFiles

    Raises
    ------
    InputError
        A file cannot be read, is not FASTA, or stops within a record.
    """
    files = LocalFiles([], {}, {})
    for path in map(Path, paths):
        text = read_bytes(path).decode() + "\n"
        if not text.startswith(">"):
            raise InputError(
                f"{path}:1: begins with {text[:40].rstrip()!r}; a FASTA file of coding sequences is wanted."
            )
        for identifiers, record in read_fasta(text, path.name):
            if isinstance(record, Fault):
                raise InputError(
                    f"{path}:{_line_without_sequence(text)}: record {identifiers[0]!r} has no sequence. Is the file "
                    "cut off?"
                )
            _add(files, identifiers, record, tables)
    return files


def _line_without_sequence(text: str) -> int:
    """Return the line of the first header that no letters follow."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    following = [*(line for _, line in lines[1:]), ">"]
    pairs = zip(lines, following, strict=True)
    return next(number for (number, line), after in pairs if line[0] == after[0] == ">")


def _add(files: LocalFiles, identifiers: list[str], record: CodingRecord, tables: Sequence[int]) -> None:
    """Add a record under its names and its translations."""
    index = len(files.records)
    files.records.append(record)
    for name in dict.fromkeys([*identifiers, *map(without_version, identifiers)]):
        files.by_name.setdefault(name, []).append(index)
    codes = clean_cds(record.cds)[record.codon_start - 1 :]
    if len(codes) % 3 and not record.stop_completed:
        return
    codes = codes[: len(codes) // 3 * 3]
    used = [record.table] if record.table else tables
    # Codes with one translation, such as 1 and 11, need one.
    different = {genetic_code(table).amino_acid.tobytes(): table for table in used}.values()
    for key in {_key(translate(codes, table, stop=True)) for table in different}:
        files.by_translation.setdefault(key, []).append(index)


def _key(protein: str) -> bytes:
    """Digest a protein without its first residue, which depends on what may start translation."""
    return hashlib.blake2b(protein[1:].encode(), digest_size=16).digest()


def local_candidates(files: LocalFiles, row: Row) -> list[CodingRecord]:
    """Return the records that may be a protein's coding sequence.

    Parameters
    ----------
    files
        The files.
    row
        The protein, with its names.

    Returns
    -------
    list of CodingRecord
        Those that its names find, then those with its translation; each once.
    """
    found: dict[int, None] = {}
    for name in row.names:
        found |= dict.fromkeys(files.by_name.get(name, ()))
    found |= dict.fromkeys(files.by_translation.get(_key(row.protein), ()))
    return [files.records[index] for index in found]
