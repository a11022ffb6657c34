"""Coding sequences of proteins from the public databases: UniProt says which there are, ENA or NCBI gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstore.coding.reasons import TRANSIENT
from embedstore.curation import rcsb, uniprot
from embedstore.curation.client import Fault
from embedstore.curation.fetching import ENA, NCBI, fetch
from embedstore.curation.records import CodingRecord
from embedstore.curation.uniprot import Candidate, Entry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from embedstore.curation.client import Client
    from embedstore.curation.rcsb import Part
    from embedstore.curation.rows import Row

_NATURAL = ("", "mRNA", "Genomic_DNA", "Genomic_RNA")


class Servers(NamedTuple):
    """Where each service is; the public ones by default."""

    uniprot: str = uniprot.ADDRESS
    ena: str = ENA.address
    ncbi: str = NCBI.address
    rcsb_data: str = rcsb.DATA
    rcsb_coordinates: str = rcsb.COORDINATES


class Named(NamedTuple):
    """What the databases name for one protein.

    Attributes
    ----------
    accession
        Its accession in UniProt.
    part
        First residue and the one after the last, for chains of structures; else None.
    organism, taxon
        Of its entry; ``""`` and None where there is none.
    candidates
        Coding sequences, those to be fetched.
    dropped
        How many were named but have a status (``ALT_SEQ``, ...) or are no natural sequence.
    fault
        Why there are none; else None.
    """

    accession: str
    part: tuple[int, int] | None = None
    organism: str = ""
    taxon: int | None = None
    candidates: tuple[str, ...] = ()
    dropped: int = 0
    fault: Fault | None = None


def find_chains(client: Client, rows: Sequence[Row], servers: Servers) -> dict[str, Part | Fault]:
    """Find what the chains of structures among some proteins are parts of.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    rows
        The proteins; those without a chain are left out.
    servers
        Where the services are.

    Returns
    -------
    dict of str to (Part or Fault)
        By id of the protein. ``residues_differ`` where the chain is not the protein of the list.
    """
    chains = {row.id: row.chain for row in rows if row.chain}
    parts = rcsb.chain_parts(client, chains.values(), data=servers.rcsb_data, coordinates=servers.rcsb_coordinates)
    found = {name: parts[chain] for name, chain in chains.items()}
    for row in rows:
        part = found.get(row.id)
        if part is not None and not isinstance(part, Fault) and part.protein != row.protein:
            found[row.id] = Fault("residues_differ", f"chain {row.chain} is another sequence than the list has")
    return found


def find_candidates(
    client: Client, proteins: Mapping[str, Collection[str]], mapping: uniprot.Mapping, servers: Servers
) -> dict[str, Named]:
    """Find which coding sequences may encode proteins.

    Those of the entry and of the ID mapping are joined. Left out are those that UniProt gives a status, because they
    differ from the protein, and those of synthetic and unassigned molecules, whose codons nobody's genome chose.
    Accessions that were merged or split are followed; for those that UniProt has dropped, UniParc is asked for the
    sequence.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    proteins
        Sequences that are wanted of each accession.
    mapping
        What `embedstore.curation.uniprot.map_ids` gave for the accessions.
    servers
        Where the services are.

    Returns
    -------
    dict of str to Named
        By accession.
    """
    entries = uniprot.read_entries(client, proteins, address=servers.uniprot)
    moved = {name for entry in entries.values() if isinstance(entry, Entry) for name in entry.successors}
    entries |= uniprot.read_entries(client, moved - set(entries), address=servers.uniprot)
    return {name: _named(client, name, wanted, mapping, entries, servers) for name, wanted in proteins.items()}


def _named(
    client: Client,
    name: str,
    proteins: Collection[str],
    mapping: uniprot.Mapping,
    entries: dict[str, Entry | Fault],
    servers: Servers,
) -> Named:
    """Put together what is known of one accession."""
    entry = entries[name]
    successors = [entries[one] for one in entry.successors] if isinstance(entry, Entry) else []
    family = [one for one in (entry, *successors) if isinstance(one, Entry)]
    faults = [one for one in (entry, *successors) if isinstance(one, Fault) and one.reason in TRANSIENT]
    listed = [candidate for one in family for candidate in one.candidates]
    known = {candidate.accession for candidate in listed}
    listed += [Candidate(one) for one in mapping.pairs.get(name, []) if one not in known]
    if not listed and not faults:
        for protein in sorted(proteins):
            archived = uniprot.archived_ids(client, protein, address=servers.uniprot)
            if isinstance(archived, Fault):
                faults.append(archived)
            else:
                listed += [Candidate(one) for one in archived]
    kept = [one for one in listed if not one.status and one.molecule in _NATURAL]
    alive = next((one for one in family if not one.inactive), None)
    fault = faults[0] if faults else None if kept else _no_candidate(name, entry, listed, name in mapping.failed)
    return Named(
        name,
        organism=alive.organism if alive else "",
        taxon=alive.taxon if alive else None,
        candidates=() if fault else tuple(dict.fromkeys(one.accession for one in kept)),
        dropped=len(listed) - len(kept),
        fault=fault,
    )


def _no_candidate(name: str, entry: Entry | Fault, listed: list[Candidate], failed: bool) -> Fault:
    """Say why a protein has no coding sequence to fetch."""
    if listed:
        seen = ", ".join(sorted({one.status or one.molecule for one in listed}))
        return Fault("no_natural_cds", f"{name}: {len(listed)} coding sequences, all {seen}")
    mapped = "the ID mapping failed for it" if failed else "the ID mapping has none"
    if isinstance(entry, Fault) or entry.inactive:
        state = entry.detail if isinstance(entry, Fault) else entry.inactive.lower()
        return Fault("obsolete_accession", f"{name}: {state}; {mapped}, and UniParc knows none of this sequence")
    return Fault("no_cds_known", f"{name}: {mapped}, and the entry names none")


def fetch_records(
    client: Client,
    accessions: Iterable[str],
    servers: Servers,
    *,
    workers: int = 4,
    progress: bool = False,
) -> dict[str, CodingRecord | Fault]:
    """Fetch coding sequences from ENA, and what ENA does not have from NCBI.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    accessions
        Protein accessions of coding sequences.
    servers
        Where the services are.
    workers
        Requests under way at a time.
    progress
        Show bars.

    Returns
    -------
    dict of str to (CodingRecord or Fault)
        A record, or what ENA said; what went wrong at NCBI where only that is left.
    """
    found = fetch(client, accessions, ENA, address=servers.ena, workers=workers, progress=progress)
    elsewhere = ("not_found", "wrong_record")
    missing = [name for name, one in found.items() if isinstance(one, Fault) and one.reason in elsewhere]
    second = fetch(client, missing, NCBI, address=servers.ncbi, workers=min(workers, 2), progress=progress)
    for name, record in second.items():
        if isinstance(record, CodingRecord) or record.reason in TRANSIENT:
            found[name] = record
    return found
