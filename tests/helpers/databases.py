"""A local HTTP server that behaves as UniProt, ENA, NCBI and RCSB do, and as they do on bad days."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from Bio.Data.CodonTable import unambiguous_dna_by_id
from Bio.SeqUtils.CheckSum import crc64

from embedstore.coding.reasons import REASONS
from embedstore.curation import Client, Servers

PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEG"
OTHER = (
    "MSIQHFRVALIPFFAAFCLPVFAHPETLVKVKDAEDQLGARVGYIELDLNSGKILESFRPEERFPMMSTFKVLLCGAVLSRVDAGQEQLGRRIHYSQNDLVEYSPVTEKHLTDG"
)
HTML = b"<!DOCTYPE html>\n<html><body>We are down for maintenance.</body></html>"


def gene(protein, *, table=11, start="ATG", stop="TAA", pick=0):
    """A coding sequence of a protein: the first of an amino acid's codons, or every `pick`-th."""
    forward = unambiguous_dna_by_id[table].forward_table
    codons = {letter: sorted(c for c, one in forward.items() if one == letter) for letter in forward.values()}
    body = [codons[one][(pick * place) % len(codons[one])] for place, one in enumerate(protein)]
    return start + "".join(body[1:]) + stop


CDS = gene(PROTEIN)


def embl(accession, cds, *, table=11, location=None, taxon=562, organism="Escherichia coli", bases=None, extra=()):
    """An entry of ENA for a coding sequence, in the form of its flat files."""
    bare, _, version = accession.partition(".")
    qualifiers = [f"/transl_table={table}"] if table else []
    if not any("codon_start" in one for one in extra):
        qualifiers.append("/codon_start=1")
    rows = [cds.lower()[i : i + 60] for i in range(0, len(cds), 60)]
    lines = [
        f"ID   {bare}; SV {version or 1}; linear; genomic DNA; STD; PRO; {bases or len(cds)} BP.",
        "XX",
        "PA   J01749.1",
        "XX",
        "DE   Some organism some protein",
        "XX",
        f"OS   {organism}",
        f"OX   NCBI_TaxID={taxon};",
        "XX",
        "FH   Key             Location/Qualifiers",
        "FH",
        f"FT   source          1..{len(cds)}",
        f'FT                   /organism="{organism}"',
        f'FT                   /db_xref="taxon:{taxon}"',
        f"FT   CDS             {location or f'J01749.1:1..{len(cds)}'}",
        *(f"FT                   {one}" for one in [*qualifiers, *extra]),
        "XX",
        f"SQ   Sequence {len(cds)} BP;",
        *(f"     {' '.join(row[i : i + 10] for i in range(0, len(row), 10)):<66} {len(row)}" for row in rows),
        "//",
    ]
    return "\n".join(lines) + "\n"


def entry(accession, protein, references=(), *, taxon=562, organism="Escherichia coli", secondary=()):
    """An entry of UniProt; references are (identifier, status, molecule)."""
    return {
        "entryType": "UniProtKB reviewed (Swiss-Prot)",
        "primaryAccession": accession,
        "secondaryAccessions": list(secondary),
        "organism": {"scientificName": organism, "taxonId": taxon},
        "sequence": {"value": protein, "length": len(protein)},
        "uniProtKBCrossReferences": [
            {
                "database": "EMBL",
                "id": "J01749",
                "properties": [
                    {"key": "ProteinId", "value": name},
                    {"key": "Status", "value": status},
                    {"key": "MoleculeType", "value": molecule},
                ],
            }
            for name, status, molecule in references
        ],
    }


def inactive(accession, reason, successors=()):
    """An entry of UniProt that is no more."""
    why = {"inactiveReasonType": reason, "mergeDemergeTo": list(successors)}
    return {"entryType": "Inactive", "primaryAccession": accession, "inactiveReason": why}


def instance(label, author):
    """A chain of a structure: the archive's name and the authors'."""
    names = {"asym_id": label, "auth_asym_id": author}
    return {"polymer_entity_instances": [{"rcsb_polymer_entity_instance_container_identifiers": names}]}


def alignment(query, target, *, name="P00001", coverage=1, regions=None):
    return {
        "target_id": name,
        "target_sequence": target,
        "coverage": {"query_coverage": coverage, "target_coverage": 0.5, "query_length": len(query)},
        "aligned_regions": regions
        or [{"query_begin": 1, "query_end": len(query), "target_begin": 4, "target_end": 12}],
    }


def put_chain(world, query, *alignments):
    world.chains["2UZI"] = {"polymer_entities": [instance("A", "H"), instance("B", "C")]}
    world.alignments["2UZI.B"] = {"data": {"alignments": {"query_sequence": query, "target_alignments": alignments}}}


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now, self.slept, self.lock = 0.0, [], threading.Lock()

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        with self.lock:
            self.slept.append(seconds)
            self.now += seconds


class Databases:
    """What the servers hold, how they misbehave, and what they were asked.

    `faults` holds [pattern, kind, times]: the first `times` requests whose address the pattern matches go wrong.
    """

    def __init__(self):
        self.entries, self.mapping, self.embl, self.ncbi, self.uniparc = {}, {}, {}, {}, {}
        self.chains, self.alignments = {}, {}
        self.page, self.polls, self.finished, self.job_status = 2, 1, "redirect", "FINISHED"
        self.announced = 0  # added to x-total-results
        self.loop = False
        self.strict = False  # ENA: one unknown accession fails the whole request
        self.jobs, self.polled = {}, Counter()
        self.faults, self.log = [], []
        self.on_request = lambda count: None
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"world": self}))
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients that give up are part of the plan
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, accession, protein, *, cds=None, name=None, status="-", molecule="Genomic_DNA", **facts):
        """Put a protein with one coding sequence everywhere."""
        name = name or f"AA{accession}.1"
        cds = cds or gene(protein)
        known = self.entries.get(accession)
        references = [(name, status, molecule)]
        if known is None:
            self.entries[accession] = entry(
                accession, protein, references, **{k: v for k, v in facts.items() if k in ("taxon", "organism")}
            )
        else:
            known["uniProtKBCrossReferences"] += entry(accession, protein, references)["uniProtKBCrossReferences"]
        self.mapping.setdefault(accession, []).append(name)
        self.embl[name] = embl(name, cds, **facts)
        return name

    def asked(self, pattern):
        """The requests so far whose address a pattern matches."""
        return [address for address in self.log if re.search(pattern, address)]

    @property
    def servers(self):
        names = ("uniprot", "ena", "ncbi", "data", "coordinates")
        return Servers(*(f"{self.address}/{name}" for name in names))

    def client(self, cache, **options):
        """A client that waits on a clock of its own."""
        clock = Clock()
        client = Client(cache, contact="me@example.org", clock=clock, sleep=clock.sleep, jitter=lambda: 0.0, **options)
        client.time = clock
        return client

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    world: Databases
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        with self.world.lock:
            self.world.log.append(f"{self.command} {self.path}")
            self.world.agent = self.headers["User-Agent"]
            count = len(self.world.log)
            fault = next(
                (one for one in self.world.faults if one[2] > 0 and re.search(one[0], self.world.log[-1])), None
            )
            if fault:
                fault[2] -= 1
        self.world.on_request(count)
        if fault:
            self.misbehave(fault[1], body)
        else:
            self.say(*self.route(body))

    def say(self, status, text, headers=None, cut=0):
        raw = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw) + cut))
        self.end_headers()
        self.wfile.write(raw)
        if cut:
            self.close_connection = True

    def misbehave(self, kind, body):
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif kind == "html":
            self.say(200, HTML, {"Content-Type": "text/html"})
        elif kind == "empty":
            self.say(200, b"")
        elif kind == "cut":  # the connection ends before the announced length
            self.say(*self.route(body)[:2], cut=100)
        elif kind == "half":  # the length is right, and half of the text is missing
            status, text, *rest = self.route(body)
            self.say(status, text[: len(text) // 2], *rest)
        elif kind.startswith("429"):
            self.say(429, "slow down", {"Retry-After": kind[4:]} if kind[4:] else {})
        elif kind == "429-date":
            self.say(429, "slow down")
        else:
            self.say(int(kind), "an error")

    def route(self, body):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        service, _, rest = parts.path.strip("/").partition("/")
        return getattr(self, f"at_{service}")(unquote(rest), query, body)

    def at_uniprot(self, path, query, body):
        kind, _, rest = path.partition("/")
        if kind == "idmapping":
            return self.idmapping(rest, query, body)
        if kind == "uniparc":
            return self.at_uniparc(rest, query)
        if rest == "accessions":
            found = [self.world.entries[one] for one in query["accessions"].split(",") if one in self.world.entries]
            return 200, json.dumps({"results": found})
        accession = rest.removesuffix(".json")
        found = self.world.entries.get(accession)
        if found is None:
            return 404, json.dumps({"messages": ["Resource not found"]})
        reason = found.get("inactiveReason", {})
        if reason.get("inactiveReasonType") == "MERGED":
            return 303, "", {"Location": f"/uniprot/uniprotkb/{reason['mergeDemergeTo'][0]}.json"}
        return 200, json.dumps(found)

    def idmapping(self, path, query, body):
        kind, _, job = path.partition("/")
        if kind == "run":
            form = parse_qs(body.decode())
            job = f"job{len(self.world.jobs)}"
            self.world.jobs[job] = form["ids"][0].split(",")
            return 200, json.dumps({"jobId": job})
        if job not in self.world.jobs:
            return 404, json.dumps({"messages": ["Resource not found"]})
        if kind == "status":
            self.world.polled[job] += 1
            if self.world.polled[job] <= self.world.polls:
                return 200, json.dumps({"jobStatus": "RUNNING"})
            if self.world.job_status != "FINISHED":
                return 200, json.dumps({"jobStatus": self.world.job_status, "errors": [{"message": "too many"}]})
            if self.world.finished == "redirect":
                return 303, "", {"Location": f"/uniprot/idmapping/results/{job}"}
            if self.world.finished == "json":
                return 200, json.dumps({"jobStatus": "FINISHED"})
            return 200, json.dumps({"results": [], "failedIds": []})
        return self.results(job, query)

    def results(self, job, query):
        ids = self.world.jobs[job]
        rows = [{"from": one, "to": to} for one in ids for to in self.world.mapping.get(one, [])]
        failed = [one for one in ids if one not in self.world.mapping]
        start = int(query.get("cursor", 0))
        stop = start + min(self.world.page, int(query.get("size", 25)))
        headers = {"x-total-results": str(len(rows) + self.world.announced)}
        if stop < len(rows) or self.world.loop:
            after = start if self.world.loop else stop
            url = f"{self.world.address}/uniprot/idmapping/results/{job}?size=500&cursor={after}"
            headers["Link"] = f'<{url}>; rel="next"'
        return 200, json.dumps({"results": rows[start:stop], "failedIds": failed}), headers

    def at_uniparc(self, path, query):
        if path == "search":
            sum_ = query["query"].removeprefix("checksum:")
            hits = [name for name, (text, _) in self.world.uniparc.items() if crc64(text) == f"CRC-{sum_}"]
            return 200, json.dumps({"results": [{"uniParcId": name} for name in hits]})
        text, references = self.world.uniparc[path]
        return 200, json.dumps({"uniParcId": path, "sequence": {"value": text}, "uniParcCrossReferences": references})

    def at_ena(self, path, query, body):
        wanted = path.removeprefix("embl/").split(",")
        bare = {name.partition(".")[0]: text for name, text in self.world.embl.items()}
        found = [self.world.embl.get(one) or ("" if "." in one else bare.get(one, "")) for one in wanted]
        if not any(found) or (self.world.strict and not all(found)):
            return 404, f"No record found for {','.join(wanted)}"
        return 200, "".join(found)

    def at_ncbi(self, path, query, body):
        found = [self.world.ncbi[one] for one in query["id"].split(",") if one in self.world.ncbi]
        return (200, "".join(found) + "\n") if found else (400, "Error: no items found")

    def at_data(self, path, query, body):
        found = self.world.chains.get(json.loads(body)["variables"]["id"])
        return 200, json.dumps({"data": {"entry": found}})

    def at_coordinates(self, path, query, body):
        return 200, json.dumps(self.world.alignments[json.loads(body)["variables"]["id"]])


def reject(curation):
    """The stage, reason and detail of the only protein that was not kept."""
    ((_, stage, reason, detail),) = curation.rejects.itertuples(index=False)
    assert reason in REASONS
    return stage, reason, detail
