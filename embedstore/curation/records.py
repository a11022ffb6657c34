"""Coding sequences as databases give them: EMBL flat files, and FASTA with the headers of NCBI and Ensembl."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

from embedstore.curation.client import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from Bio.SeqFeature import SeqFeature
    from Bio.SeqRecord import SeqRecord

_VERSION = re.compile(r"\.\d+$")
_BRACKETS = re.compile(r"\[(\w+)=((?:[^\[\]]|\[[^\]]*\])*)\]")
_EMBL_ID = re.compile(r"ID   (\S+?);(?: SV (\S+);)?.*?(?:(\d+) (BP|AA)\.)?\s*$", re.MULTILINE)
_EXCEPTION = re.compile(r"aa:(\w+)")
_PLACES = ("protein_id", "locus_tag", "gene", "gene_symbol", "db_xref", "transcript", "gene_id", "GeneID")


class CodingRecord(NamedTuple):
    """One coding sequence of a database.

    Attributes
    ----------
    accession
        Its identifier, with the version where the database has versions.
    cds
        The letters as they came.
    source
        The database, or the name of the file.
    table
        ``transl_table``; None where the record does not say.
    codon_start
        1, 2 or 3: where the first whole codon begins.
    partial
        ``"5"``, ``"3"``, ``"53"``: which ends the record says are missing; else ``""``.
    recoded
        Amino acids that the record says are not read by the genetic code (``Sec``, ``Pyl``, ``OTHER``), and
        ``"slippage"`` or ``"editing"`` where the record names these.
    stop_completed
        Whether the last, incomplete codon becomes a stop codon by polyadenylation (``aa:TERM``).
    organism
        Scientific name; ``""`` where the record does not say.
    taxon
        NCBI taxon identifier; None where the record does not say.
    """

    accession: str
    cds: str
    source: str
    table: int | None = None
    codon_start: int = 1
    partial: str = ""
    recoded: tuple[str, ...] = ()
    stop_completed: bool = False
    organism: str = ""
    taxon: int | None = None


def without_version(accession: str) -> str:
    """Return an accession without its version.

    Parameters
    ----------
    accession
        With a version or without.

    Returns
    -------
    str

    Examples
    --------
    >>> without_version("AAB59737.1"), without_version("AAB59737")
    ('AAB59737', 'AAB59737')
    """
    return _VERSION.sub("", accession)


def embl_is_whole(text: str) -> bool:
    """Tell whether every entry has its end and as many letters as its first line says.

    Parameters
    ----------
    text
        EMBL flat files, or the message that came instead of them, which is whole.

    Returns
    -------
    bool
    """
    *entries, rest = re.split(r"^//\s*$", text, flags=re.MULTILINE)
    for entry in entries:
        named = _EMBL_ID.match(entry.lstrip())
        letters = re.sub(r"[^A-Za-z]", "", entry.partition("\nSQ ")[2].partition("\n")[2])
        if named and named[3] and len(letters) != int(named[3]):
            return False
    return not rest.strip() or not (entries or rest.startswith("ID "))


def read_embl(text: str, source: str = "ENA") -> Iterator[tuple[str, CodingRecord | Fault]]:
    """Read EMBL flat files of coding sequences.

    Parameters
    ----------
    text
        Any number of entries, of which :func:`embl_is_whole` says that nothing is missing.
    source
        What the records say of where they came from.

    Yields
    ------
    tuple of str and (CodingRecord or Fault)
        The accession of each entry, and the entry: a fault where it is a protein
        (``protein_instead_of_nucleotide``), not one coding sequence (``contig``), or ``unreadable``.
    """
    from Bio import SeqIO

    entries = re.split(r"^//\s*$", text, flags=re.MULTILINE)
    for entry in entries:
        named = _EMBL_ID.match(entry.lstrip())
        if named is None:
            continue
        accession = named[1] + (f".{named[2]}" if named[2] else "")
        if named[4] == "AA":
            yield accession, Fault("protein_instead_of_nucleotide", f"an entry of {named[3]} amino acids")
        else:
            try:
                with warnings.catch_warnings():
                    # Biopython reads on with a warning where a location or a line is not as it must be.
                    warnings.simplefilter("error")
                    record = next(SeqIO.parse(io.StringIO(entry.lstrip() + "//\n"), "embl"))
            except (ValueError, StopIteration, Warning) as error:
                yield accession, Fault("unreadable", f"{error}")
                continue
            yield accession, _from_embl(record, accession, source)


def _from_embl(record: SeqRecord, accession: str, source: str) -> CodingRecord | Fault:
    """Turn an entry that was parsed into a coding sequence."""
    cds = str(record.seq)
    coding = [feature for feature in record.features if feature.type == "CDS"]
    whole = [one for one in coding if _is_whole(one, len(cds))]
    if len(coding) != 1 or not whole:
        return Fault("contig", f"an entry of {len(cds):,} nucleotides with {len(coding)} coding sequences")
    facts = {name: values[0] for name, values in coding[0].qualifiers.items()}
    origin = next((f.qualifiers for f in record.features if f.type == "source"), {})
    taxa = [x.removeprefix("taxon:") for x in origin.get("db_xref", []) if x.startswith("taxon:")]
    recoded, completed = _exceptions(" ".join(coding[0].qualifiers.get("transl_except", [])))
    if "ribosomal_slippage" in facts or "slippage" in facts.get("exception", ""):
        recoded.append("slippage")
    elif "exception" in facts:
        recoded.append("editing")
    return CodingRecord(
        accession,
        cds,
        source,
        table=int(facts.get("transl_table", 1)),
        codon_start=int(facts.get("codon_start", 1)),
        partial=_open_ends(coding[0]),
        recoded=tuple(recoded),
        stop_completed=completed,
        organism=origin.get("organism", [""])[0],
        taxon=int(taxa[0]) if taxa else None,
    )


def _is_whole(feature: SeqFeature, letters: int) -> bool:
    """Tell whether a coding sequence is the whole entry.

    The locations of ENA's coding entries point into the entry that they were cut from.
    """
    parts = feature.location.parts if feature.location is not None else []
    return any(part.ref for part in parts) or sum(map(len, parts)) == letters


def _open_ends(feature: SeqFeature) -> str:
    """Return which ends of a coding sequence are marked with < or >, in the direction of reading."""
    from Bio.SeqFeature import AfterPosition, BeforePosition

    assert feature.location is not None
    parts = feature.location.parts
    forward = parts[0].strand != -1
    ends = (parts[0].start, parts[-1].end) if forward else (parts[0].end, parts[-1].start)
    return "".join(
        name for name, end in zip("53", ends, strict=True) if isinstance(end, BeforePosition | AfterPosition)
    )


def _exceptions(text: str) -> tuple[list[str], bool]:
    """Read /transl_except: which amino acids are not by the code, and whether a stop codon is completed."""
    found = _EXCEPTION.findall(text)
    return [amino for amino in found if amino != "TERM"], "TERM" in found


def read_fasta(text: str, source: str) -> Iterator[tuple[list[str], CodingRecord | Fault]]:
    """Read FASTA of coding sequences with the headers of NCBI (``fasta_cds_na``), Ensembl, ENA or one's own.

    Parameters
    ----------
    text
        The file. Its last line must end: FASTA says nothing of its length, so that is all that tells of a cut.
    source
        What the records say of where they came from.

    Yields
    ------
    tuple of list of str and (CodingRecord or Fault)
        All identifiers that the header has, the first the record's own, and the record; a fault where it has no
        letters, or was cut off (``truncated``).
    """
    entries = re.split(r"^>", text, flags=re.MULTILINE)
    for place, entry in enumerate(entries[1:], 1):
        header, _, letters = entry.partition("\n")
        identifiers, facts = _header(header.strip())
        if not letters.strip() or (place + 1 == len(entries) and not entry.endswith("\n")):
            yield identifiers, Fault("truncated", f"the last line of >{header.strip()[:60]} does not end")
            continue
        recoded, completed = _exceptions(facts.get("transl_except", ""))
        if "exception" in facts:
            recoded.append("slippage" if "slippage" in facts["exception"] else "editing")
        table = facts.get("transl_table", "")
        yield (
            identifiers,
            CodingRecord(
                identifiers[0],
                "".join(letters.split()),
                source,
                table=int(table) if table.isdigit() else None,
                codon_start=int(facts.get("frame", "1")) if facts.get("frame", "1") in "123" else 1,
                partial="".join(end for end in "53" if f"{end}'" in facts.get("partial", "")),
                recoded=tuple(recoded),
                stop_completed=completed,
                organism=facts.get("organism", ""),
            ),
        )


def _header(header: str) -> tuple[list[str], dict[str, str]]:
    """Return the identifiers of a FASTA header, its own first, and its ``[name=value]`` or ``name:value`` fields."""
    words = header.split() or [""]
    facts = dict(_BRACKETS.findall(header))
    facts |= {
        name: value for name, _, value in (word.partition(":") for word in words[1:]) if value and "=" not in name
    }
    own = words[0].split("|")
    # NCBI writes lcl|CONTIG_cds_PROTEIN_7, ENA writes ENA|PROTEIN|PROTEIN.1.
    first = facts.get("protein_id") or next((part for part in reversed(own) if part), "")
    found = [first, words[0], *own]
    for name in _PLACES:
        found += [part.rpartition(":")[2] for part in facts.get(name, "").split(",")]
    kept = dict.fromkeys(name for name in found if name and name not in {"lcl", "ENA", "gnl", "ref"})
    return list(kept) or [""], facts
