"""RCSB: which part of which UniProt sequence a chain of a structure is.

Source: Sequence Coordinates API (https://sequence-coordinates.rcsb.org) and Data API (https://data.rcsb.org), both
GraphQL; the former replaces the 1D Coordinate Server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.curation.client import Fault, json_fault
from embedstore.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedstore.curation.client import Client

COORDINATES = "https://sequence-coordinates.rcsb.org"
DATA = "https://data.rcsb.org"

_CHAINS = """query($id: String!) { entry(entry_id: $id) { polymer_entities { polymer_entity_instances {
rcsb_polymer_entity_instance_container_identifiers { asym_id auth_asym_id } } } } }"""
_ALIGNMENTS = """query($id: String!) { alignments(from: PDB_INSTANCE, to: UNIPROT, queryId: $id) { query_sequence
target_alignments { target_id target_sequence coverage { query_coverage target_coverage query_length }
aligned_regions { query_begin query_end target_begin target_end } } } }"""


class Part(NamedTuple):
    """A stretch of a UniProt sequence.

    Attributes
    ----------
    accession
        Of UniProt.
    begin, end
        First residue and the one after the last, 0-based.
    protein
        The residues.
    """

    accession: str
    begin: int
    end: int
    protein: str


def chain_part(client: Client, chain: str, *, data: str = DATA, coordinates: str = COORDINATES) -> Part | Fault:
    """Find what a chain of a structure is part of.

    Kept are chains that are, from the first residue to the last, one stretch without gaps of one UniProt sequence.
    Chains with tags, modified residues or engineered mutations have no natural coding sequence and are not.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    chain
        ``2uzi-C``: the structure, and the chain as its authors call it (as NetSurfP does).
    data, coordinates
        Where the two interfaces are.

    Returns
    -------
    Part or Fault
        Reasons: ``no_chain``, ``no_alignment``, ``part_of_chain``, ``gapped_alignment``, ``residues_differ``,
        ``graphql_error``, and those of a server that fails.

    Raises
    ------
    RemoteError
        The server failed twenty times in a row.
    """
    structure, _, author = chain.partition("-")
    if not (len(structure) == 4 and structure.isalnum() and author):
        return Fault("no_chain", f"{chain!r} is not a structure and a chain, such as 2uzi-C")
    found = _query(client, data, _CHAINS, structure.upper())
    if isinstance(found, Fault):
        return found
    label = _label(found, author)
    if label is None:
        return Fault("no_chain", f"{structure.upper()} has no protein chain that its authors call {author!r}")
    found = _query(client, coordinates, _ALIGNMENTS, f"{structure.upper()}.{label}")
    if isinstance(found, Fault):
        return found
    aligned = found.get("alignments") or {}
    targets = aligned.get("target_alignments") or []
    if not targets:
        return Fault("no_alignment", f"{structure.upper()}.{label} is aligned with no UniProt sequence")
    outcomes = [_part(aligned["query_sequence"], target) for target in targets]
    return next((one for one in outcomes if isinstance(one, Part)), outcomes[0])


def _query(client: Client, address: str, text: str, identifier: str) -> dict[str, Any] | Fault:
    """Ask a GraphQL server; its errors come with status 200."""
    body = {"query": " ".join(text.split()), "variables": {"id": identifier}}
    try:
        answer = client.post(
            f"{address.rstrip('/')}/graphql",
            data=body,
            check=lambda one: json_fault(one, "data", "errors"),
            keep=lambda one: one.status == 200 and not one.json.get("errors"),
        )
    except ServerError as error:
        return Fault(error.reason, str(error))
    value: dict[str, Any] = (
        answer.json if answer.status == 200 else {"errors": [{"message": f"status {answer.status}"}]}
    )
    if value.get("errors"):
        return Fault("graphql_error", "; ".join(str(one.get("message", one)) for one in value["errors"])[:200])
    return dict(value.get("data") or {})


def _label(found: dict[str, Any], author: str) -> str | None:
    """Translate the authors' name of a chain into the archive's own."""
    for entity in (found.get("entry") or {}).get("polymer_entities") or []:
        for instance in entity.get("polymer_entity_instances") or []:
            names = instance["rcsb_polymer_entity_instance_container_identifiers"]
            if names["auth_asym_id"] == author:
                return str(names["asym_id"])
    return None


def _part(query: str, target: dict[str, Any]) -> Part | Fault:
    """Judge one alignment."""
    name, regions = target["target_id"], target["aligned_regions"]
    if target["coverage"]["query_coverage"] != 1:
        return Fault("part_of_chain", f"{target['coverage']['query_coverage']:.3f} of the chain is aligned with {name}")
    if len(regions) != 1:
        return Fault("gapped_alignment", f"{len(regions)} aligned regions with {name}")
    region = regions[0]
    begin, end = region["target_begin"] - 1, region["target_end"]
    protein = target["target_sequence"][begin:end]
    if protein != query:
        differ = sum(a != b for a, b in zip(protein, query, strict=False)) + abs(len(protein) - len(query))
        return Fault("residues_differ", f"{differ} residues of the chain differ from {name}")
    return Part(name, begin, end, protein)


def chain_parts(
    client: Client, chains: Iterable[str], *, data: str = DATA, coordinates: str = COORDINATES
) -> dict[str, Part | Fault]:
    """Find what chains of structures are parts of; see :func:`chain_part`.

    Parameters
    ----------
    client, data, coordinates
        As for :func:`chain_part`.
    chains
        Such as ``2uzi-C``.

    Returns
    -------
    dict of str to (Part or Fault)
    """
    return {chain: chain_part(client, chain, data=data, coordinates=coordinates) for chain in sorted(set(chains))}
