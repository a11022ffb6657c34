"""Consequences of variants on transcripts: the order of severity, and the INFO fields that hold them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from embedstore.errors import InputError
from embedstore.variants.info import per_alternate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEVERITY = (
    ("SO:0001893", "transcript_ablation"),
    ("SO:0001574", "splice_acceptor_variant"),
    ("SO:0001575", "splice_donor_variant"),
    ("SO:0001587", "stop_gained"),
    ("SO:0001589", "frameshift_variant"),
    ("SO:0001578", "stop_lost"),
    ("SO:0002012", "start_lost"),
    ("SO:0001889", "transcript_amplification"),
    ("SO:0001907", "feature_elongation"),
    ("SO:0001906", "feature_truncation"),
    ("SO:0001821", "inframe_insertion"),
    ("SO:0001822", "inframe_deletion"),
    ("SO:0001583", "missense_variant"),
    ("SO:0001818", "protein_altering_variant"),
    ("SO:0001787", "splice_donor_5th_base_variant"),
    ("SO:0001630", "splice_region_variant"),
    ("SO:0002170", "splice_donor_region_variant"),
    ("SO:0002169", "splice_polypyrimidine_tract_variant"),
    ("SO:0001626", "incomplete_terminal_codon_variant"),
    ("SO:0002019", "start_retained_variant"),
    ("SO:0001567", "stop_retained_variant"),
    ("SO:0001819", "synonymous_variant"),
    ("SO:0001580", "coding_sequence_variant"),
    ("SO:0001620", "mature_miRNA_variant"),
    ("SO:0001623", "5_prime_UTR_variant"),
    ("SO:0001624", "3_prime_UTR_variant"),
    ("SO:0001792", "non_coding_transcript_exon_variant"),
    ("SO:0001627", "intron_variant"),
    ("SO:0001621", "NMD_transcript_variant"),
    ("SO:0001619", "non_coding_transcript_variant"),
    ("SO:0001968", "coding_transcript_variant"),
    ("SO:0001631", "upstream_gene_variant"),
    ("SO:0001632", "downstream_gene_variant"),
    ("SO:0001895", "TFBS_ablation"),
    ("SO:0001892", "TFBS_amplification"),
    ("SO:0001782", "TF_binding_site_variant"),
    ("SO:0001894", "regulatory_region_ablation"),
    ("SO:0001891", "regulatory_region_amplification"),
    ("SO:0001566", "regulatory_region_variant"),
    ("SO:0001628", "intergenic_variant"),
    ("SO:0001060", "sequence_variant"),
)
"""Accession and name of each consequence in the Sequence Ontology, the most severe first.

The order is that of Ensembl (release 115, "Calculated consequences"). Terms that are not here, such as ClinVar's
``genic_upstream_transcript_variant``, come after all of these.
"""

_RANK = {term: rank for rank, (_, term) in enumerate(SEVERITY)}
_TERM = dict(SEVERITY)
_NAMED = ("consequence", "annotation")  # Ensembl VEP's name of the part, and SnpEff's


class Entries(NamedTuple):
    """Where the parts of an annotation stand that is written as ``A|intron_variant|...``."""

    parts: int
    allele: int | None
    consequence: int
    number: int | None  # of the alternate, which VEP writes on request
    in_full: bool  # SnpEff names alternates as the record does


def most_severe(terms: Sequence[str]) -> str:
    """Return the most severe of some consequences.

    Parameters
    ----------
    terms
        Names of the Sequence Ontology; empty ones are passed over.

    Returns
    -------
    str
        The one that stands first in :data:`SEVERITY`; the first given, where none stands there; ``""`` for none.

    Examples
    --------
    >>> most_severe(["intron_variant", "splice_region_variant"])
    'splice_region_variant'
    """
    return min(filter(None, terms), key=lambda term: _RANK.get(term, len(_RANK)), default="")


@cache
def molecular_consequence(value: str) -> str:
    """Return the most severe consequence of ClinVar's INFO field MC.

    Parameters
    ----------
    value
        ``SO:0001583|missense_variant,SO:0001627|intron_variant``. The accession decides, because ClinVar's names are
        not all those of Ensembl (``nonsense`` is ``stop_gained``).

    Returns
    -------
    str
        Its name in :data:`SEVERITY`, or the name that was given, where the accession is not there.

    Examples
    --------
    >>> molecular_consequence("SO:0001627|intron_variant,SO:0001587|nonsense")
    'stop_gained'
    """
    parts = [part.partition("|") for part in value.split(",")]
    return most_severe([_TERM.get(accession, name or accession) for accession, _, name in parts])


def entries_of(description: str) -> Entries | None:
    """Read the layout of an annotation from the description of its INFO field.

    Parameters
    ----------
    description
        As Ensembl VEP (``... Format: Allele|Consequence|...``) or SnpEff (``... 'Allele | Annotation | ...'``)
        writes it into the header.

    Returns
    -------
    Entries or None
        None where it describes nothing of the kind.

    Examples
    --------
    >>> entries_of("Consequence annotations from Ensembl VEP. Format: Allele|Consequence|IMPACT")
    Entries(parts=3, allele=0, consequence=1, number=None, in_full=False)
    """
    _, marked, rest = description.partition("Format:")
    if not marked:
        rest = "".join(re.findall(r"'([^']*\|[^']*)'", description)[:1])
    names = [name.strip(" '\"").lower() for name in rest.split("|")]
    found = [names.index(name) for name in _NAMED if name in names]
    if len(names) < 2 or not found:
        return None
    allele, number = (names.index(name) if name in names else None for name in ("allele", "allele_num"))
    return Entries(len(names), allele, found[0], number, names[found[0]] == _NAMED[1])


def consequences(value: str, entries: Entries, ref: str, alts: Sequence[str], where: str) -> list[str]:
    """Return the most severe consequence of each alternate in an annotation.

    Parameters
    ----------
    value
        Of the INFO field: entries joined by commas.
    entries
        How one is laid out.
    ref, alts
        Alleles of the record.
    where
        Place of the record, for the message.

    Returns
    -------
    list of str
        One per alternate; ``""`` where no entry is of it.

    Raises
    ------
    InputError
        If an entry has another number of parts.
    """
    rows = [entry.split("|") for entry in value.split(",")]
    for row in rows:
        if len(row) != entries.parts:
            raise InputError(
                f"{where}: an annotation has {len(row)} parts, {entries.parts} are wanted by the header: "
                f"{'|'.join(row)[:80]!r}."
            )
    terms = [row[entries.consequence].split("&") for row in rows]
    owners = _owners(rows, entries, ref, alts)
    return [
        most_severe([term for row, own in enumerate(terms) if owners[row] in (alternate, None) for term in own])
        for alternate in range(len(alts))
    ]


def _owners(rows: list[list[str]], entries: Entries, ref: str, alts: Sequence[str]) -> list[int | None]:
    """Tell of which alternate each entry is: its index, -1 for another, None for all.

    Annotators name the alternate of an insertion or deletion in more than one way. The way that explains the most
    entries is taken, the annotator's own of equals, so that a name that means one alternate in one way and another in
    the other is read rightly.
    """
    if entries.number is not None:
        numbers = [row[entries.number] for row in rows]
        # Records that were split after they were annotated keep the numbers of the record they come from.
        if all(number.isdecimal() and 1 <= int(number) <= len(alts) for number in numbers):
            return [int(number) - 1 for number in numbers]
    if entries.allele is None:
        return [None] * len(rows)
    alleles = [row[entries.allele].upper() for row in rows]
    best: list[int | None] = [-1] * len(rows)
    namings = (_in_full, _as_vep, _shortest) if entries.in_full else (_as_vep, _in_full, _shortest)
    for naming in namings:
        names = naming(ref.upper(), [alt.upper() for alt in alts])
        found: list[int | None] = [names.index(allele) if allele in names else -1 for allele in alleles]
        if found.count(-1) < best.count(-1):
            best = found
    return best


def _in_full(_: str, alts: Sequence[str]) -> list[str]:
    """Name alternates as the record does."""
    return list(alts)


def _as_vep(ref: str, alts: Sequence[str]) -> list[str]:
    """Name alternates as VEP does: without the first letter, where lengths differ and all begin with the same one."""
    plain = [alt for alt in alts if alt.isalpha()]
    if not any(len(alt) != len(ref) for alt in plain) or {alt[0] for alt in plain} != {ref[:1]}:
        return list(alts)
    return [(alt[1:] or "-") if alt.isalpha() else alt for alt in alts]


def _shortest(ref: str, alts: Sequence[str]) -> list[str]:
    """Name alternates by what is put in: without the letters shared with ref at either end."""
    return [_trimmed(ref, alt) or "-" for alt in alts]


def _trimmed(ref: str, alt: str) -> str:
    """Take off the letters that ref and alt begin with, then those that they end with, as VEP --minimal does."""
    while ref and alt and ref[0] == alt[0]:
        ref, alt = ref[1:], alt[1:]
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    return alt


def consequence_reader(name: str, number: str, description: str) -> Callable[[str, str, Sequence[str], str], list[str]]:
    """Return what reads the consequence of each alternate from an INFO field.

    Parameters
    ----------
    name, number, description
        Of the field, as its header line gives them; ``""`` for what has none.

    Returns
    -------
    callable
        (value, ref, alternates, where) to a list of one text per alternate: the most severe consequence for MC and
        for annotations of VEP and SnpEff (any field whose description names their parts), else the value.

    Raises
    ------
    InputError
        If the field is CSQ or ANN, and its description does not say where the consequence stands.
    """
    entries = entries_of(description)
    if entries is not None:
        return lambda value, ref, alts, where: consequences(value, entries, ref, alts, where)
    if name in {"CSQ", "ANN"}:
        raise InputError(
            f"INFO field {name} has no header line that says where the consequence stands in it (Format: "
            f"Allele|Consequence|...), but {description!r}. Take the header of the file as the annotator wrote it."
        )
    if name == "MC":
        return lambda value, ref, alts, where: [molecular_consequence(value)] * len(alts)  # noqa: ARG005
    return lambda value, ref, alts, where: per_alternate(value, number, len(alts), f"{where}: {name}")  # noqa: ARG005
