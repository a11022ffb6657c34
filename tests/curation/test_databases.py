"""UniProt, ENA, NCBI and RCSB, each against a local server that answers as they do, and as they should not."""

from __future__ import annotations

import pytest
from databases import CDS, PROTEIN, alignment, embl, entry, inactive, put_chain

from embedstore.curation.client import Fault
from embedstore.curation.fetching import ENA, NCBI, fetch
from embedstore.curation.network import fetch_records, find_candidates
from embedstore.curation.rcsb import Part, chain_part, chain_parts
from embedstore.curation.records import CodingRecord, embl_is_whole, read_embl, read_fasta, without_version
from embedstore.curation.uniprot import ACCESSION, Mapping, archived_ids, map_ids, read_entries
from embedstore.errors import ServerError

# ---- UniProt: ID mapping --------------------------------------------------------------------------


@pytest.mark.parametrize("finished", ["redirect", "json", "results"])
@pytest.mark.parametrize("page", [1, 2, 500])
def test_mapping_reads_all_pages_whatever_form_the_end_takes(world, client, finished, page):
    world.mapping = {"P00001": ["A.1", "B.1", "C.1"], "P00002": ["B.1"]}
    world.finished, world.page, world.polls = finished, page, 2
    found = map_ids(client, ["P00002", "P00001", "P99999", "P00001"], address=world.servers.uniprot)
    assert found == Mapping({"P00001": ["A.1", "B.1", "C.1"], "P00002": ["B.1"]}, ["P99999"])
    assert world.jobs == {"job0": ["P00001", "P00002", "P99999"]}
    assert len(world.asked("results")) == -(-4 // page)
    assert client.time.slept.count(3.0) == 2  # a look every three seconds
    sent = len(world.log)
    assert map_ids(client, ["P00001", "P00002", "P99999"], address=world.servers.uniprot + "/") == found
    assert len(world.log) == sent


def test_mapping_of_nothing_asks_nothing(world, client):
    assert map_ids(client, [], address=world.servers.uniprot) == Mapping({}, [])
    assert world.log == []


def test_rows_may_hold_whole_entries(world, client):
    world.mapping = {"P00001": [{"primaryAccession": "P00002"}]}
    assert map_ids(client, ["P00001"], address=world.servers.uniprot).pairs == {"P00001": ["P00002"]}


def test_large_lists_are_split_into_jobs(world, client, monkeypatch):
    monkeypatch.setattr("embedstore.curation.uniprot._IDS", 2)
    world.mapping = {f"P0000{i}": [f"A{i}.1"] for i in range(5)}
    assert len(map_ids(client, world.mapping, address=world.servers.uniprot).pairs) == 5
    assert [len(ids) for ids in world.jobs.values()] == [2, 2, 1]


def _ruin(world, how):
    if how == "job_error":
        world.job_status = "ERROR"
    elif how == "job_not_done":
        world.polls = 10**9
    elif how == "paging_loop":
        world.loop, world.page = True, 1
    elif how == "incomplete_pages":
        world.announced = 1
    elif how == "more rows than announced":
        world.announced = -1


@pytest.mark.parametrize(
    ("how", "reason", "message"),
    [
        ("job_error", "job_error", "status/job0: the job ended with ERROR: .*too many"),
        ("job_not_done", "job_not_done", "the job is still RUNNING after 12 s"),
        ("paging_loop", "paging_loop", "page 2 names this one again as the next"),
        ("incomplete_pages", "incomplete_pages", "results/job0.*: 3 rows came of 4"),
        ("more rows than announced", "paging_loop", "page 2 makes 3 rows of 2"),
    ],
)
def test_jobs_that_go_wrong_are_named_and_not_kept(world, client, monkeypatch, how, reason, message):
    monkeypatch.setattr("embedstore.curation.uniprot._LOOKS", 4)
    world.mapping = {"P00001": ["A.1", "B.1", "C.1"]}
    _ruin(world, how)
    with pytest.raises(ServerError, match=message) as raised:
        map_ids(client, ["P00001"], address=world.servers.uniprot)
    assert raised.value.reason == reason
    if how == "job_not_done":
        assert client.time.slept.count(3.0) == 4
    world.job_status, world.polls, world.loop, world.announced = "FINISHED", 1, False, 0
    assert len(map_ids(client, ["P00001"], address=world.servers.uniprot).pairs["P00001"]) == 3


def test_pages_that_name_ever_new_pages_end(world, client):
    """A server that counts on past its last row never repeats an address."""
    world.mapping, world.page = {"P00001": ["A.1"]}, 0
    with pytest.raises(ServerError, match="page 2 makes 0 rows of 1") as raised:
        map_ids(client, ["P00001"], address=world.servers.uniprot)
    assert raised.value.reason == "paging_loop"


@pytest.mark.parametrize(("pattern", "reason"), [("run", "job_error"), ("results", "incomplete_pages")])
def test_a_refused_job_or_page(world, client, pattern, reason):
    world.mapping = {"P00001": ["A.1"]}
    world.faults.append([pattern, "400", 1])
    with pytest.raises(ServerError, match="status 400") as raised:
        map_ids(client, ["P00001"], address=world.servers.uniprot)
    assert raised.value.reason == reason
    assert map_ids(client, ["P00001"], address=world.servers.uniprot).pairs == {"P00001": ["A.1"]}


def test_a_job_that_the_server_forgot_is_started_again(world, client):
    world.mapping = {"P00001": ["A.1"]}
    world.faults.append(["status", "500", 6])
    with pytest.raises(ServerError):
        map_ids(client, ["P00001"], address=world.servers.uniprot)
    world.jobs.clear()  # the next run comes too late for it
    assert map_ids(client, ["P00001"], address=world.servers.uniprot).pairs == {"P00001": ["A.1"]}
    assert len(world.asked("run")) == 2
    world.faults.append(["status", "404", 99])
    with pytest.raises(ServerError, match="the server does not know its own job"):
        map_ids(client, ["P00002"], address=world.servers.uniprot)


# ---- UniProt: entries -----------------------------------------------------------------------------


def test_entries_with_their_coding_sequences(world, client):
    references = [
        ("A.1", "-", "mRNA"),
        ("B.1", "ALT_INIT", "mRNA"),
        ("-", "-", "mRNA"),
        ("C.1", "JOINED", "Genomic_DNA"),
    ]
    world.entries = {
        "P00001": entry("P00001", PROTEIN, references, secondary=["Q00009"]),
        "Q00009": inactive("Q00009", "MERGED", ["P00001"]),
        "P00003": inactive("P00003", "DELETED"),
    }
    found = read_entries(client, ["P00001", "Q00009", "P00003", "P00004"], address=world.servers.uniprot)
    assert found["P00001"].candidates == (
        ("A.1", "", "mRNA"),
        ("B.1", "ALT_INIT", "mRNA"),
        ("C.1", "JOINED", "Genomic_DNA"),
    )
    assert found["P00001"][:4] == ("P00001", PROTEIN, "Escherichia coli", 562)
    assert found["Q00009"] == found["P00001"]
    assert found["P00003"].inactive == "DELETED"
    assert found["P00004"] == Fault("not_found", "P00004: UniProt answers with status 404")


def test_entries_of_another_protein_and_of_a_failing_server(world, client):
    world.entries = {"P00001": inactive("P00001", "MERGED", ["P00002"]), "P00002": entry("P00002", PROTEIN)}
    world.faults.append(["P00003.json", "500", 99])
    found = read_entries(client, ["P00001", "P00003"], address=world.servers.uniprot)
    assert found["P00001"] == Fault("wrong_record", "asked for P00001, the answer has P00002")
    assert found["P00003"].reason == "server_error"


def test_a_failing_list_is_read_one_by_one(world, client):
    world.entries = {"P00001": entry("P00001", PROTEIN)}
    world.faults.append(["accessions", "400", 1])
    assert read_entries(client, ["P00001"], address=world.servers.uniprot)["P00001"].protein == PROTEIN


def test_what_uniprot_dropped_is_found_by_its_sequence(world, client):
    world.uniparc = {
        "UPI0001": (
            PROTEIN,
            [
                {"database": "EMBL", "id": "AAB12345", "version": 2, "active": True},
                {"database": "EMBLWGS", "id": "EAA00001.1", "version": 1},
                {"database": "RefSeq", "id": "NP_1", "version": 1},
            ],
        )
    }
    assert archived_ids(client, PROTEIN, address=world.servers.uniprot) == ["AAB12345.2", "EAA00001.1"]
    assert archived_ids(client, PROTEIN[:-1], address=world.servers.uniprot) == []
    assert world.asked("checksum:[0-9A-F]{16}&")


def test_a_checksum_is_not_taken_for_a_sequence(world, client, monkeypatch):
    world.uniparc = {"UPI0001": ("MKK", [{"database": "EMBL", "id": "A", "version": 1}])}
    monkeypatch.setattr("Bio.SeqUtils.CheckSum.crc64", lambda text: "CRC-1")
    monkeypatch.setattr("databases.crc64", lambda text: "CRC-1")
    assert archived_ids(client, PROTEIN, address=world.servers.uniprot) == []


@pytest.mark.parametrize("pattern", ["search", "UPI"])
def test_uniparc_that_fails_is_not_one_that_knows_nothing(world, client, pattern):
    world.uniparc = {"UPI0001": (PROTEIN, [{"database": "EMBL", "id": "A.1"}])}
    world.faults.append([pattern, "404", 1])
    assert archived_ids(client, PROTEIN, address=world.servers.uniprot) == []
    world.uniparc = {"UPI0002": (PROTEIN[:-1], [])}
    world.faults.append([pattern if pattern == "search" else "UPI0002", "500", 99])
    assert archived_ids(client, PROTEIN[:-1], address=world.servers.uniprot).reason == "server_error"


def test_candidates_are_joined_followed_and_sifted(world, client):
    natural, alt, made = ("A.1", "-", "mRNA"), ("B.1", "ALT_SEQ", "mRNA"), ("C.1", "-", "Other_DNA")
    world.entries = {
        "P00001": entry("P00001", PROTEIN, [natural, alt, made]),
        "P00002": entry("P00002", PROTEIN, [alt, made]),
        "P00003": inactive("P00003", "DEMERGED", ["P00001", "P00005"]),
        "P00005": entry("P00005", PROTEIN, [("D.1", "-", "Genomic_DNA")], organism="Bacillus subtilis", taxon=1423),
        "P00006": inactive("P00006", "DELETED"),
        "P00008": entry("P00008", PROTEIN),
    }
    world.faults.append(["P00009.json", "500", 99])
    names = ["P00001", "P00002", "P00003", "P00006", "P00007", "P00008", "P00009"]
    mapping = Mapping({"P00001": ["A.1", "B.1", "E.1"]}, ["P00006"])
    found = find_candidates(client, {name: {PROTEIN} for name in names}, mapping, world.servers)
    assert {name: (one.candidates, one.dropped, one.fault and one.fault.reason) for name, one in found.items()} == {
        "P00001": (("A.1", "E.1"), 2, None),
        "P00002": ((), 2, "no_natural_cds"),
        "P00003": (("A.1", "D.1"), 2, None),
        "P00006": ((), 0, "obsolete_accession"),
        "P00007": ((), 0, "obsolete_accession"),
        "P00008": ((), 0, "no_cds_known"),
        "P00009": ((), 0, "server_error"),
    }
    assert found["P00002"].fault.detail == "P00002: 2 coding sequences, all ALT_SEQ, Other_DNA"
    assert "deleted; the ID mapping failed for it, and UniParc" in found["P00006"].fault.detail
    assert (found["P00001"].organism, found["P00001"].taxon) == ("Escherichia coli", 562)
    assert found["P00003"].taxon == 562


def test_candidates_of_failing_servers_are_undecided(world, client):
    world.entries = {
        "P00001": inactive("P00001", "DEMERGED", ["P00002", "P00003"]),
        "P00002": entry("P00002", PROTEIN, [("A.1", "-", "mRNA")]),
        "P00004": inactive("P00004", "DELETED"),
    }
    world.faults += [["P00003.json", "500", 99], ["uniparc", "html", 99]]
    found = find_candidates(client, {"P00001": {PROTEIN}, "P00004": {PROTEIN}}, Mapping({}, []), world.servers)
    assert {name: (one.candidates, one.fault.reason) for name, one in found.items()} == {
        "P00001": ((), "server_error"),
        "P00004": ((), "html_page"),
    }


def test_ncbi_that_fails_leaves_it_undecided(world, client):
    world.faults.append(["ncbi", "500", 99])
    assert fetch_records(client, ["A.1"], world.servers)["A.1"].reason == "server_error"


def test_accessions():
    for good in ("P62593", "A0A024R161", "O15520", "P12345-2"):
        assert ACCESSION.fullmatch(good)
    for bad in ("AAB59737.1", "ENSP00000256078", "", "P1234"):
        assert not ACCESSION.fullmatch(bad)
    assert ACCESSION.fullmatch("P12345-2").groups() == ("P12345", "2")


# ---- ENA and NCBI ---------------------------------------------------------------------------------


def test_an_entry_of_ena_says_all(world, client):
    name = world.add("P00001", PROTEIN)
    found = fetch(client, [name], address=world.servers.ena)
    assert found == {name: CodingRecord(name, CDS, "ENA", table=11, organism="Escherichia coli", taxon=562)}


def test_without_a_table_ena_means_the_standard_code(world, client):
    world.embl["A.1"] = embl("A.1", CDS, table=None)
    assert fetch(client, ["A.1"], address=world.servers.ena)["A.1"].table == 1


@pytest.mark.parametrize(
    ("location", "extra", "fields"),
    [
        ("J1.1:<1..>66", (), {"partial": "53"}),
        ("complement(J1.1:<1..66)", (), {"partial": "3"}),
        ("complement(J1.1:1..>66)", (), {"partial": "5"}),
        ("complement(join(J1.1:<1..33,J1.1:50..82))", (), {"partial": "3"}),
        ("join(J1.1:<1..33,J1.1:50..82)", ("/codon_start=2",), {"partial": "5", "codon_start": 2}),
        (None, ("/transl_except=(pos:7..9,aa:Sec)",), {"recoded": ("Sec",)}),
        (None, ("/transl_except=(pos:66,aa:TERM)",), {"stop_completed": True}),
        (None, ("/ribosomal_slippage",), {"recoded": ("slippage",)}),
        (None, ('/exception="ribosomal slippage"',), {"recoded": ("slippage",)}),
        (None, ('/exception="RNA editing"',), {"recoded": ("editing",)}),
    ],
)
def test_what_is_special_about_an_entry(location, extra, fields):
    ((_, record),) = read_embl(embl("A.1", CDS, location=location, extra=extra))
    plain = CodingRecord("A.1", CDS, "ENA", table=11, organism="Escherichia coli", taxon=562)
    assert record == plain._replace(**fields)


def test_contigs_proteins_and_nonsense_are_faults():
    contig = embl("A.1", CDS + "ACGT" * 9, location=f"1..{len(CDS)}")
    two = embl("B.1", CDS).replace("XX\nSQ", "FT   CDS             J01749.1:1..9\nXX\nSQ")
    protein = embl("C.1", CDS).replace(" BP.", " AA.")
    odd = embl("D.1", CDS, location="somewhere(7")
    found = dict(read_embl(contig + two + protein + odd))
    reasons = {name: one.reason for name, one in found.items()}
    assert reasons == {"A.1": "contig", "B.1": "contig", "C.1": "protein_instead_of_nucleotide", "D.1": "unreadable"}
    assert found["A.1"].detail == f"an entry of {len(CDS) + 36} nucleotides with 1 coding sequences"
    assert isinstance(dict(read_embl(embl("E.1", CDS, location=f"1..{len(CDS)}")))["E.1"], CodingRecord)


def test_cut_entries_are_not_whole():
    text = embl("A.1", CDS) + embl("B.1", CDS)
    assert embl_is_whole(text)
    assert embl_is_whole("No record found")
    assert embl_is_whole(text[: len(text) // 2])
    for cut in range(len(text) // 2 + 2, len(text) - 4):
        assert not embl_is_whole(text[:cut])
    assert not embl_is_whole(embl("A.1", CDS, bases=len(CDS) + 1))


@pytest.mark.parametrize("service", ["ENA", "NCBI"])
def test_a_cut_answer_is_asked_for_again(world, client, service, tmp_path):
    world.add("P00001", PROTEIN, name="A.1")
    world.ncbi["A.1"] = f">lcl|J1.1_cds_A.1_1 [protein_id=A.1]\n{CDS}"
    one, address = (ENA, world.servers.ena) if service == "ENA" else (NCBI, world.servers.ncbi)
    world.faults.append([service.lower(), "half", 2])
    assert fetch(client, ["A.1"], one, address=address)["A.1"].cds == CDS
    assert len(world.log) == 3
    world.faults[:] = [[service.lower(), "half", 99]]
    assert fetch(world.client(tmp_path / "other"), ["A.1"], one, address=address)["A.1"].reason == "truncated"


def test_batches_are_halved_down_to_the_one_at_fault(world, client, tmp_path):
    names = [world.add(f"P0000{i}", PROTEIN, name=f"A{i}.1") for i in range(16)]
    world.strict = True
    found = fetch(client, [*names, "A99.1"], address=world.servers.ena, workers=1)
    assert found["A99.1"] == Fault("not_found", "A99.1: status 404, 'No record found for A99.1'")
    assert all(isinstance(found[name], CodingRecord) for name in names)
    assert len(world.log) < 12
    world.faults.append(["A3.1", "500", 99])
    found = fetch(world.client(tmp_path / "other"), names, address=world.servers.ena, workers=1)
    assert [name for name, one in found.items() if isinstance(one, Fault)] == ["A3.1"]


def test_addresses_stay_short_and_batches_do_not_depend_on_order(world, client):
    names = [world.add(f"P{i:05}", PROTEIN, name=f"AAA{i:05}.1") for i in range(130)]
    fetch(client, names[::-1], address=world.servers.ena)
    assert len(world.log) == 3
    assert max(map(len, world.log)) < 1000
    fetch(client, names, address=world.servers.ena, workers=1)
    assert len(world.log) == 3


def test_a_missing_record_is_asked_for_alone(world, client):
    world.add("P00001", PROTEIN, name="A.1")
    found = fetch(client, ["A.1", "B.1"], address=world.servers.ena)
    assert found["B.1"].reason == "not_found"
    assert len(world.log) == 2


@pytest.mark.parametrize("asked", ["B.1", "A.2"])
def test_a_wrong_record_is_not_taken(world, client, asked):
    world.embl[asked] = embl("A.1", CDS)
    found = fetch(client, [asked], address=world.servers.ena)
    assert found[asked] == Fault("wrong_record", f"asked for {asked}, the answer has A.1")


def test_an_accession_without_version_finds_its_record(world, client):
    world.add("P00001", PROTEIN, name="A.3")
    assert fetch(client, ["A"], address=world.servers.ena)["A"].accession == "A.3"
    assert (without_version("A.3"), without_version("A")) == ("A", "A")


@pytest.mark.parametrize("how", ["410", "text"])
def test_withdrawn_records(world, client, how):
    if how == "text":
        world.embl["A.1"] = "Entry A.1 was suppressed at the submitter's request\n"
    else:
        world.faults.append(["A.1", "410", 1])
    assert fetch(client, ["A.1"], address=world.servers.ena)["A.1"].reason == "withdrawn"


def test_ncbi_gives_what_ena_does_not_have(world, client):
    world.add("P00001", PROTEIN, name="A.1")
    world.ncbi["B.1"] = (
        f">lcl|J1.1_cds_B.1_1 [gene=b] [protein=a [b] c] [protein_id=B.1] [frame=2] [partial=5'] "
        f"[transl_except=(pos:4..6,aa:Sec)] [exception=ribosomal slippage] [location=<1..66]\n{CDS[:30]}\n{CDS[30:]}\n"
    )
    found = fetch_records(client, ["A.1", "B.1", "C.1"], world.servers)
    assert found["B.1"] == CodingRecord("B.1", CDS, "NCBI", codon_start=2, partial="5", recoded=("Sec", "slippage"))
    assert (found["A.1"].source, found["C.1"].reason) == ("ENA", "not_found")
    (first, *_) = world.asked("ncbi")
    assert "db=protein&rettype=fasta_cds_na&retmode=text&id=B.1,C.1&tool=embedstore&email=me%40example.org" in first


def test_fasta_headers_give_all_identifiers():
    text = (
        ">ENA|AAB59737|AAB59737.1 Cloning vector\nACG\n"
        ">YAL001C_mRNA cds chromosome:R64-1-1:I:147594:151166:-1 gene:YAL001C gene_symbol:TFC3 description:x:y\nA\nC\n"
        ">mine [transl_table=11] [db_xref=UniProtKB/Swiss-Prot:P0A7B8,GeneID:12] [exception=RNA editing]\nACG\n"
    )
    (ena, _), (ensembl, record), (mine, third) = read_fasta(text, "f.fa")
    assert {"AAB59737.1", "AAB59737"} <= set(ena)
    assert ena[0] == "AAB59737.1"
    assert {"YAL001C_mRNA", "YAL001C", "TFC3"} <= set(ensembl)
    assert record.cds == "AC"
    assert {"mine", "P0A7B8", "12"} <= set(mine)
    assert (third.table, third.recoded) == (11, ("editing",))


def test_fasta_that_is_cut_or_empty():
    found = [record for _, record in read_fasta(">a\n>b\nACG\n>c\nAC", "f.fa")]
    assert [one.reason if isinstance(one, Fault) else one.cds for one in found] == ["truncated", "ACG", "truncated"]
    assert found[2].detail == "the last line of >c does not end"


# ---- RCSB -----------------------------------------------------------------------------------------


def test_the_part_of_a_chain(world, client):
    put_chain(world, PROTEIN[3:12], alignment("x", "x", coverage=0.5), alignment(PROTEIN[3:12], PROTEIN))
    where = {"data": world.servers.rcsb_data, "coordinates": world.servers.rcsb_coordinates}
    assert chain_parts(client, ["2uzi-C", "2uzi-C"], **where) == {"2uzi-C": Part("P00001", 3, 12, PROTEIN[3:12])}
    assert len(world.log) == 2
    assert chain_part(client, "2uzi-C", **where).accession == "P00001"
    assert len(world.log) == 2


@pytest.mark.parametrize(
    ("chain", "target", "reason", "detail"),
    [
        ("2uzi", {}, "no_chain", "'2uzi' is not a structure and a chain, such as 2uzi-C"),
        ("2uzi-X", {}, "no_chain", "2UZI has no protein chain that its authors call 'X'"),
        ("9zzz-A", {}, "no_chain", "9ZZZ has no protein chain"),
        ("2uzi-C", {"coverage": 0.9}, "part_of_chain", "0.900 of the chain is aligned with P00001"),
        ("2uzi-C", {"regions": [{}, {}]}, "gapped_alignment", "2 aligned regions with P00001"),
        ("2uzi-C", {"target": "MKT" + "G" * 19}, "residues_differ", "9 residues of the chain differ from P00001"),
    ],
)
def test_chains_without_a_natural_part(world, client, chain, target, reason, detail):
    target = {"target": PROTEIN, **target}
    put_chain(world, PROTEIN[3:12], alignment(PROTEIN[3:12], **target))
    fault = chain_part(client, chain, data=world.servers.rcsb_data, coordinates=world.servers.rcsb_coordinates)
    assert fault.reason == reason
    assert fault.detail.startswith(detail)


def test_a_chain_without_any_alignment(world, client):
    put_chain(world, PROTEIN)
    fault = chain_part(client, "2uzi-C", data=world.servers.rcsb_data, coordinates=world.servers.rcsb_coordinates)
    assert fault == Fault("no_alignment", "2UZI.B is aligned with no UniProt sequence")


def test_errors_of_graphql_come_with_status_200_and_are_not_kept(world, client, tmp_path):
    put_chain(world, PROTEIN[3:12], alignment(PROTEIN[3:12], PROTEIN))
    good = world.alignments["2UZI.B"]
    world.alignments["2UZI.B"] = {"data": None, "errors": [{"message": "Exception while fetching data"}]}
    where = {"data": world.servers.rcsb_data, "coordinates": world.servers.rcsb_coordinates}
    assert chain_part(client, "2uzi-C", **where) == Fault("graphql_error", "Exception while fetching data")
    world.alignments["2UZI.B"] = good
    assert isinstance(chain_part(client, "2uzi-C", **where), Part)
    world.faults.append(["coordinates", "400", 1])
    assert chain_part(world.client(tmp_path / "other"), "2uzi-C", **where) == Fault("graphql_error", "status 400")
    world.faults.append(["data", "500", 99])
    assert chain_part(world.client(tmp_path / "third"), "2uzi-C", **where).reason == "server_error"
