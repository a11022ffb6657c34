"""Holding coding sequences against the protein they should encode, and choosing one of several."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from embedstore.coding import check_cds, clean_cds, find_table
from embedstore.curation.client import Fault
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedstore.curation.records import CodingRecord


TABLES = (1, 11, 2, 3, 5)
"""Genetic codes that are tried where nothing says which one it is."""


class Match(NamedTuple):
    """A coding sequence that encodes exactly the wanted protein.

    Attributes
    ----------
    record
        Where it comes from.
    cds
        The letters, upper case, in frame; only the wanted part of it where a part was asked for.
    table
        Genetic code that gives the protein.
    has_start, has_stop
        Whether it begins with a start codon, and ends with a stop codon.
    flags
        What is unusual and yet right: ``codon_start``, ``partial``, ``recoded``, ``stop_completed``, ``part``,
        ``table_found``, ``other_species``, ``versionless``, ``candidates_missing``.
    """

    record: CodingRecord
    cds: str
    table: int
    has_start: bool
    has_stop: bool
    flags: tuple[str, ...] = ()


def check_record(
    record: CodingRecord,
    protein: str,
    *,
    table: int | None = None,
    tables: Sequence[int] = TABLES,
    part: tuple[int, int] | None = None,
) -> Match | Fault:
    """Translate a coding sequence and compare it with a protein, letter by letter.

    A start codon of the table reads M, and a stop codon at the end is not part of the protein: genes that begin with
    GTG or TTG would else be lost, and bacteria with them.

    Parameters
    ----------
    record
        The coding sequence.
    protein
        What it should encode.
    table
        Genetic code where the record does not say; None (default) where that is not known either.
    tables
        Genetic codes for that case: the only one that gives the protein is taken, and the match flagged
        ``table_found``. Codes that differ in their start codons alone, as 1 and 11 do, count as one.
    part
        First residue, and the one after the last, of the part that `protein` is; by default it is the whole.

    Returns
    -------
    Match or Fault
        Reasons are those of `embedstore.coding.check_cds`, and ``several_tables``. Where the record itself says what is
        special, that is the reason: ``recoded``, ``frameshift``, ``partial_5``, ``partial_3`` or ``wrong_frame``.
    """
    try:
        codes = clean_cds(record.cds)[record.codon_start - 1 :]
    except InputError as error:
        return Fault("not_nucleotides", str(error))
    flags = [name for name in ("partial", "recoded", "stop_completed") if getattr(record, name)]
    flags += ["codon_start"] if record.codon_start > 1 else []
    if record.stop_completed:
        codes = codes[: len(codes) // 3 * 3]
    if part is not None:
        if len(codes) < 3 * part[1]:
            return Fault("partial_3", f"{len(codes)} nucleotides; residue {part[1]} is wanted")
        codes = codes[3 * part[0] : 3 * part[1]]
        flags.append("part")
    known = record.table or table
    if known is None:
        known = find_table(codes, protein, tables)
        flags.append("table_found")
    # Within a protein no codon starts translation.
    verdict = check_cds(codes, known or tables[0], protein=protein, start=False if part and part[0] else None)
    if verdict.reason is None and known is None:
        return Fault("several_tables", f"of {', '.join(map(str, tables))}: give it in a column transl_table")
    if verdict.reason is None:
        return Match(
            record, codes.tobytes().decode(), known or tables[0], verdict.has_start, verdict.has_stop, tuple(flags)
        )
    return _explained(record, Fault(verdict.reason, verdict.detail))


def _explained(record: CodingRecord, fault: Fault) -> Fault:
    """Prefer what the record says of itself to what the letters suggest."""
    if "slippage" in record.recoded:
        return Fault("frameshift", f"the record says ribosomal slippage; {fault.detail}")
    if record.recoded:
        return Fault("recoded", f"the record says {', '.join(record.recoded)}; {fault.detail}")
    if record.partial:
        return Fault(
            f"partial_{record.partial[0]}", f"the record is open at {' and '.join(record.partial)}'; {fault.detail}"
        )
    if record.codon_start > 1:
        return Fault("wrong_frame", f"codon_start is {record.codon_start}; {fault.detail}")
    return fault


def species_of(organism: str) -> str:
    """Return the species in a name of an organism, for comparisons.

    Parameters
    ----------
    organism
        A scientific name, with or without a strain; underscores are blanks.

    Returns
    -------
    str
        Genus and species in lower case; ``""`` for a name of one word.

    Examples
    --------
    >>> species_of("Oleispira antarctica_RB-8"), species_of("synthetic")
    ('oleispira antarctica', '')
    """
    words = organism.replace("_", " ").lower().split()
    return " ".join(words[:2]) if len(words) > 1 else ""


class Choice(NamedTuple):
    """The coding sequence taken for a protein.

    Attributes
    ----------
    match
        The one taken.
    distinct
        How many different coding sequences encode exactly the protein.
    """

    match: Match
    distinct: int


def choose(
    outcomes: Sequence[Match | Fault],
    *,
    taxon: int | None = None,
    organisms: Iterable[str] = (),
    other_species: bool = False,
) -> Choice | Fault:
    """Choose among the coding sequences of a protein: its own taxon, then the most frequent one, then by accession.

    Parameters
    ----------
    outcomes
        What :func:`check_record` said of each candidate.
    taxon
        NCBI taxon identifier of the protein's organism, where it is known.
    organisms
        Names of the protein's organism, where they are known. A coding sequence whose record names another species is
        refused: its codon usage is that of another genome.
    other_species
        Take such a sequence where there is no other, flagged ``other_species``; default False.

    Returns
    -------
    Choice or Fault
        The fault is ``species_mismatch``, or that of the first candidate with what is wrong with each of the others.
    """
    matches = [one for one in outcomes if isinstance(one, Match)]
    faults = [one for one in outcomes if isinstance(one, Fault)]
    if not matches:
        detail = "; ".join(f"{one.reason}: {one.detail}" for one in faults[1:6])
        more = f" [others: {detail}{'; ...' if len(faults) > 6 else ''}]" if detail else ""
        return Fault(faults[0].reason, f"{faults[0].detail}{more}")
    wanted = {species_of(name) for name in organisms} - {""}
    own = [one for one in matches if _is_own(one.record, taxon, wanted)]
    if not own and not other_species:
        seen = sorted({f"{one.record.accession} of {one.record.organism}" for one in matches})
        return Fault("species_mismatch", f"{', '.join(sorted(wanted))} is wanted; there is {'; '.join(seen[:5])}")
    taken = own or [one._replace(flags=(*one.flags, "other_species")) for one in matches]
    count = Counter(one.cds for one in taken)
    best = min(
        taken,
        key=lambda one: (
            taxon is None or one.record.taxon != taxon,
            -count[one.cds],
            one.record.accession,
        ),
    )
    return Choice(best, len(count))


def _is_own(record: CodingRecord, taxon: int | None, wanted: set[str]) -> bool:
    """Tell whether a record is of the wanted organism, as far as both are known."""
    found = species_of(record.organism)
    return not wanted or not found or found in wanted or (taxon is not None and record.taxon == taxon)
