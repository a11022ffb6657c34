"""UniProt: which coding sequences belong to a protein.

Source: the UniProt manual, "Programmatic access: ID mapping" (https://www.uniprot.org/help/id_mapping).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.curation.cache import Request
from embedstore.curation.client import Fault, json_fault, post_request
from embedstore.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embedstore.curation.cache import Answer
    from embedstore.curation.client import Client

logger = logging.getLogger(__name__)

ADDRESS = "https://rest.uniprot.org"
"""Where UniProt's interface is."""

# From the UniProt manual, "Accession numbers".
ACCESSION = re.compile(r"([OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(?:-(\d+))?")
"""An accession of UniProt: itself, and the number of an isoform."""

_PAGE = 500
_IDS = 50_000  # of one job; the server takes 100,000 and maps to at most 500,000
_ENTRIES = 100  # of one request
_POLL = 3.0  # seconds
_LOOKS = 1200  # an hour
_JOB_FAULTS = {"job_error", "job_not_done", "paging_loop", "incomplete_pages"}
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class Candidate(NamedTuple):
    """A coding sequence that UniProt names for a protein.

    Attributes
    ----------
    accession
        Protein identifier of EMBL, GenBank or DDBJ, with its version.
    status
        What UniProt says of it: ``""``, or ``ALT_SEQ``, ``ALT_INIT``, ``ALT_FRAME``, ``ALT_TERM``, ``JOINED``, ...
    molecule
        ``mRNA``, ``Genomic_DNA``, ...; ``""`` where it is not known.
    """

    accession: str
    status: str = ""
    molecule: str = ""


class Entry(NamedTuple):
    """What UniProt says of a protein.

    Attributes
    ----------
    accession
        Its primary accession.
    protein
        Its canonical sequence; ``""`` for an inactive entry.
    organism, taxon
        Scientific name and NCBI taxon identifier; ``""`` and None for an inactive entry.
    candidates
        Its coding sequences.
    inactive
        ``"MERGED"``, ``"DEMERGED"`` or ``"DELETED"``; else ``""``.
    successors
        Accessions that an inactive entry went to.
    """

    accession: str
    protein: str = ""
    organism: str = ""
    taxon: int | None = None
    candidates: tuple[Candidate, ...] = ()
    inactive: str = ""
    successors: tuple[str, ...] = ()


class Mapping(NamedTuple):
    """What an ID mapping gave.

    Attributes
    ----------
    pairs
        Identifiers of each accession, in the server's order.
    failed
        Accessions that the server could not map.
    """

    pairs: dict[str, list[str]]
    failed: list[str]


def map_ids(
    client: Client,
    accessions: Iterable[str],
    *,
    address: str = ADDRESS,
    source: str = "UniProtKB_AC-ID",
    target: str = "EMBL-GenBank-DDBJ_CDS",
) -> Mapping:
    """Map accessions to identifiers of another database.

    A job is started, looked at every 3 s until it ends, and its result is read page by page.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    accessions
        What to map; sorted and without repeats before it is sent, so that the same set is the same question.
    address
        Where UniProt is.
    source, target
        Databases as UniProt names them (``/configure/idmapping/fields``).

    Returns
    -------
    Mapping
        One accession may have many identifiers.

    Raises
    ------
    ServerError
        The job failed (``job_error``) or does not end (``job_not_done``); its pages go round in a circle
        (``paging_loop``), or together hold another number of rows than the server says (``incomplete_pages``).
    """
    wanted = sorted(set(accessions))
    pairs: dict[str, list[str]] = {}
    failed: list[str] = []
    for start in range(0, len(wanted), _IDS):
        form = {"from": source, "to": target, "ids": ",".join(wanted[start : start + _IDS])}
        part = _job(client, address.rstrip("/"), form)
        for name, identifiers in part.pairs.items():
            pairs.setdefault(name, []).extend(identifiers)
        failed += part.failed
    return Mapping(pairs, sorted(set(failed)))


def _job(client: Client, base: str, form: dict[str, str], *, again: bool = False) -> Mapping:
    """Run one job; one that was started earlier and is forgotten by the server is started again."""
    run = post_request(f"{base}/idmapping/run", form)
    answer = client.send(run, check=lambda one: json_fault(one, "jobId"))
    if answer.status != 200:
        client.forget(run)
        raise ServerError(f"{run.url}: refused with status {answer.status}: {answer.text[:200]}", "job_error")
    job = str(answer.json["jobId"])
    pages: list[Request] = []
    try:
        if _wait(client, base, job):
            return _pages(client, f"{base}/idmapping/results/{job}?size={_PAGE}", pages)
        if again:
            raise ServerError(f"{base}/idmapping/status/{job}: the server does not know its own job", "job_error")
    except ServerError as error:
        # Kept answers of a job that went wrong would go wrong for ever; those of one that only stopped are good.
        if error.reason in _JOB_FAULTS:
            for request in [run, _status(base, job), *pages]:
                client.forget(request)
        raise
    logger.info("job %s is gone: it is started again", job)
    for request in (run, _status(base, job)):
        client.forget(request)
    return _job(client, base, form, again=True)


def _status(base: str, job: str) -> Request:
    return Request("GET", f"{base}/idmapping/status/{job}")


def _wait(client: Client, base: str, job: str) -> bool:
    """Wait until a job has ended; False where the server does not know it."""
    for _ in range(_LOOKS):
        # A finished job redirects to its results; where the redirect is followed on the way, they come at once.
        answer = client.send(
            _status(base, job),
            check=lambda one: json_fault(one, "jobStatus", "results", "failedIds"),
            keep=_has_ended,
            follow=False,
        )
        if answer.status in (400, 404, 410):
            return False
        if _has_ended(answer):
            return True
        state = answer.json["jobStatus"]
        if state not in ("NEW", "RUNNING"):
            errors = answer.json.get("errors") or answer.json.get("messages") or ""
            raise ServerError(f"{base}/idmapping/status/{job}: the job ended with {state}: {errors}", "job_error")
        client.pause(_POLL)
    raise ServerError(
        f"{base}/idmapping/status/{job}: the job is still {state} after {_LOOKS * _POLL:,.0f} s", "job_not_done"
    )


def _has_ended(answer: Answer) -> bool:
    if answer.status == 200:
        return bool(answer.json.get("jobStatus", "FINISHED") == "FINISHED")
    return 300 <= answer.status < 400


def _pages(client: Client, url: str, asked: list[Request]) -> Mapping:
    """Read all pages of a result."""
    pairs: dict[str, list[str]] = {}
    failed: set[str] = set()
    rows, total, following = 0, None, url
    while following:
        request = Request("GET", following)
        if request in asked:
            raise ServerError(f"{following}: page {len(asked)} names this one again as the next", "paging_loop")
        asked.append(request)
        answer = client.send(request, check=lambda one: json_fault(one, "results", "failedIds"))
        if answer.status != 200:
            raise ServerError(f"{following}: a page of the result has status {answer.status}", "incomplete_pages")
        page = answer.json.get("results", [])
        failed |= set(answer.json.get("failedIds", []))
        for row in page:
            to = row["to"]
            pairs.setdefault(row["from"], []).append(to if isinstance(to, str) else str(to.get("primaryAccession")))
        rows += len(page)
        total = int(answer.headers.get("x-total-results", -1 if total is None else total))
        if 0 <= total < rows or (not page and asked[1:]):
            raise ServerError(f"{following}: page {len(asked)} makes {rows} rows of {total}", "paging_loop")
        link = _NEXT.search(answer.headers.get("link", ""))
        following = link[1] if link else ""
    if total is not None and total >= 0 and rows != total:
        raise ServerError(f"{url}: {rows} rows came of {total}", "incomplete_pages")
    return Mapping(pairs, sorted(failed))


def read_entries(client: Client, accessions: Iterable[str], *, address: str = ADDRESS) -> dict[str, Entry | Fault]:
    """Read what UniProt says of proteins, a hundred at a time; those that moved are followed by one request each.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    accessions
        Accessions without isoform numbers.
    address
        Where UniProt is.

    Returns
    -------
    dict of str to (Entry or Fault)
        For each accession its entry; that of its successor where it was merged into one.

    Raises
    ------
    RemoteError
        The server failed twenty times in a row.
    """
    base = address.rstrip("/")
    wanted = sorted(set(accessions))
    found: dict[str, Entry | Fault] = {}
    for start in range(0, len(wanted), _ENTRIES):
        batch = wanted[start : start + _ENTRIES]
        query = {
            "accessions": ",".join(batch),
            "fields": "accession,organism_name,organism_id,sequence,xref_embl",
            "format": "json",
            "size": str(_PAGE),
        }
        answer = _ask(client, f"{base}/uniprotkb/accessions", query, "results")
        if not isinstance(answer, Fault) and answer.status == 200:
            known = {value["primaryAccession"]: _entry(value) for value in answer.json["results"]}
            found |= {name: entry for name, entry in known.items() if name in batch and not entry.inactive}
        for accession in batch:
            if accession not in found:
                found[accession] = _one(client, base, accession)
    return found


def _ask(client: Client, url: str, query: dict[str, str] | None, *fields: str) -> Answer | Fault:
    try:
        return client.get(url, query, check=lambda one: json_fault(one, *fields))
    except ServerError as error:
        return Fault(error.reason, str(error))


def _one(client: Client, base: str, accession: str) -> Entry | Fault:
    """Read one entry."""
    answer = _ask(client, f"{base}/uniprotkb/{accession}.json", None, "primaryAccession")
    if isinstance(answer, Fault):
        return answer
    if answer.status != 200:
        return Fault("not_found", f"{accession}: UniProt answers with status {answer.status}")
    value = answer.json
    if accession not in [value["primaryAccession"], *value.get("secondaryAccessions", [])]:
        return Fault("wrong_record", f"asked for {accession}, the answer has {value['primaryAccession']}")
    return _entry(value)


def _entry(value: dict[str, Any]) -> Entry:
    """Turn the JSON of an entry into what is needed of it."""
    reason = value.get("inactiveReason") or {}
    organism = value.get("organism", {})
    return Entry(
        value["primaryAccession"],
        value.get("sequence", {}).get("value", ""),
        organism.get("scientificName", ""),
        organism.get("taxonId"),
        tuple(_candidates(value.get("uniProtKBCrossReferences", []))),
        reason.get("inactiveReasonType", "DELETED") if value.get("entryType") == "Inactive" else "",
        tuple(reason.get("mergeDemergeTo", ())),
    )


def _candidates(references: list[dict[str, Any]]) -> Iterator[Candidate]:
    """Give the coding sequences among the cross-references of an entry."""
    for reference in references:
        facts = {one["key"]: one["value"] for one in reference.get("properties", [])}
        if reference.get("database") == "EMBL" and facts.get("ProteinId", "-") != "-":
            status = facts.get("Status", "-")
            yield Candidate(facts["ProteinId"], "" if status == "-" else status, facts.get("MoleculeType", ""))


def archived_ids(client: Client, protein: str, *, address: str = ADDRESS) -> list[str] | Fault:
    """Return coding sequences that UniParc knows for a sequence: the way for proteins that UniProtKB has dropped.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    protein
        The sequence.
    address
        Where UniProt is.

    Returns
    -------
    list of str or Fault
        Protein identifiers of EMBL, GenBank or DDBJ with their versions, sorted; none where UniParc does not have
        exactly this sequence. A fault where the server failed.
    """
    from Bio.SeqUtils.CheckSum import crc64

    base = address.rstrip("/")
    query = {"query": f"checksum:{crc64(protein).removeprefix('CRC-')}", "format": "json", "size": "25"}
    answer = _ask(client, f"{base}/uniparc/search", query, "results")
    if isinstance(answer, Fault):
        return answer
    if answer.status != 200:
        return []
    found: set[str] = set()
    for hit in answer.json["results"]:
        entry = _ask(client, f"{base}/uniparc/{hit['uniParcId']}", {"format": "json"}, "uniParcId")
        if isinstance(entry, Fault):
            return entry
        # Two sequences may share a checksum.
        if entry.status != 200 or entry.json.get("sequence", {}).get("value") != protein:
            continue
        for reference in entry.json.get("uniParcCrossReferences", []):
            if str(reference.get("database", "")).startswith("EMBL"):
                version = f".{reference['version']}" if reference.get("version") else ""
                found.add(reference["id"] if "." in reference["id"] else f"{reference['id']}{version}")
    return sorted(found)
