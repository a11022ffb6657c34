"""Fetching coding sequences by accession, from ENA or NCBI."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from embedstore.curation.client import Fault
from embedstore.curation.records import CodingRecord, embl_is_whole, read_embl, read_fasta, without_version
from embedstore.errors import ServerError
from embedstore.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from embedstore.curation.cache import Answer
    from embedstore.curation.client import Client

    Found = CodingRecord | Fault

_WITHDRAWN = re.compile(r"suppress|withdraw|killed|removed|obsolete", re.IGNORECASE)


class Service(NamedTuple):
    """A database of coding sequences.

    Attributes
    ----------
    name
        What it is called in records.
    address
        Where its interface is.
    batch
        Accessions per request.
    rate
        Requests per second.
    ask
        Makes path and query from accessions and the contact's address.
    read
        Reads the text of an answer: accession and record of each entry.
    is_whole
        Whether a text of this kind ends as it must.
    """

    name: str
    address: str
    batch: int
    rate: float
    ask: Callable[[Sequence[str], str], tuple[str, dict[str, str]]]
    read: Callable[[str], Iterator[tuple[str, Found]]]
    is_whole: Callable[[str], bool]


def _read_ncbi(text: str) -> Iterator[tuple[str, Found]]:
    return ((identifiers[0], record) for identifiers, record in read_fasta(text, "NCBI"))


ENA = Service(
    "ENA",
    "https://www.ebi.ac.uk/ena/browser/api",
    60,  # the address stays below 1 kB
    5.0,
    # The flat file has the sequence and what FASTA leaves out: table, frame, open ends, exceptions, taxon.
    lambda accessions, _: (f"/embl/{','.join(accessions)}", {"lineLimit": "0"}),
    read_embl,
    embl_is_whole,
)
"""European Nucleotide Archive, Browser API."""

NCBI = Service(
    "NCBI",
    "https://eutils.ncbi.nlm.nih.gov/entrez/eutils",
    200,
    3.0,
    lambda accessions, contact: (
        "/efetch.fcgi",
        {
            "db": "protein",
            "rettype": "fasta_cds_na",
            "retmode": "text",
            "id": ",".join(accessions),
            "tool": "embedstore",
            "email": contact,
        },
    ),
    _read_ncbi,
    lambda text: not text.startswith(">") or text.endswith("\n"),
)
"""NCBI E-utilities, without a key; FASTA says neither the table nor the taxon."""


def fetch(
    client: Client,
    accessions: Iterable[str],
    service: Service = ENA,
    *,
    address: str | None = None,
    workers: int = 4,
    progress: bool = False,
) -> dict[str, Found]:
    """Fetch coding sequences.

    Batches are made of the sorted accessions, so that the same input asks the same questions and finds the answers in
    the cache. Where a batch is refused its halves are asked, down to the accession that is at fault; what a batch's
    answer lacks is asked for alone.

    Parameters
    ----------
    client
        Asks and keeps the answers.
    accessions
        Protein accessions of coding sequences (``AAB59737.1``), with a version or without.
    service
        `ENA` (default) or `NCBI`.
    address
        Where the service is; its own address by default.
    workers
        Requests under way at a time, default 4; the rate holds over all of them.
    progress
        Show a bar, default False.

    Returns
    -------
    dict of str to (CodingRecord or Fault)
        For each accession its record, or why there is none.

    Raises
    ------
    RemoteError
        The server failed twenty times in a row.
    """
    base = (address or service.address).rstrip("/")

    def check(answer: Answer) -> Fault | None:
        return None if service.is_whole(answer.text) else Fault("truncated", "the answer stops within an entry")

    def ask(batch: list[str]) -> list[tuple[list[str], Answer | Fault]]:
        path, query = service.ask(batch, client.contact)
        outcome: Answer | Fault
        try:
            outcome = client.get(base + path, query, rate=service.rate, check=check)
        except ServerError as error:
            outcome = Fault(error.reason, str(error))
        if len(batch) == 1 or (not isinstance(outcome, Fault) and outcome.status == 200):
            return [(batch, outcome)]
        half = len(batch) // 2
        return ask(batch[:half]) + ask(batch[half:])

    wanted = sorted(set(accessions))
    batches = [wanted[start : start + service.batch] for start in range(0, len(wanted), service.batch)]
    found: dict[str, Found] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for outcomes in progress_bar(pool.map(ask, batches), service.name, show=progress, total=len(batches)):
            for batch, outcome in outcomes:
                found |= _match(batch, outcome, service)
        lacking = [[accession] for accession in wanted if accession not in found]
        for outcomes in pool.map(ask, lacking):
            found |= _match(*outcomes[0], service)
    return found


def _match(batch: list[str], outcome: Answer | Fault, service: Service) -> dict[str, Found]:
    """Give each accession its record; those of a larger batch that have none are left out."""
    if isinstance(outcome, Fault):
        return dict.fromkeys(batch, outcome)
    entries = dict(service.read(outcome.text)) if outcome.status == 200 else {}
    bare = {without_version(accession): accession for accession in entries}
    found: dict[str, Found] = {}
    for accession in batch:
        if accession in entries:
            found[accession] = entries[accession]
        elif accession in bare:
            found[accession] = entries[bare[accession]]
        elif len(batch) == 1:
            found[accession] = _none(accession, outcome, list(entries))
    return found


def _none(accession: str, outcome: Answer, others: list[str]) -> Fault:
    """Say why an accession that was asked for alone has no record."""
    if others:
        return Fault("wrong_record", f"asked for {accession}, the answer has {', '.join(others[:3])}")
    said = " ".join(outcome.text[:200].split())
    gone = outcome.status == 410 or _WITHDRAWN.search(said)
    return Fault("withdrawn" if gone else "not_found", f"{accession}: status {outcome.status}, {said[:80]!r}")
