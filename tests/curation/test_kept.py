"""Which coding sequences are kept, and what is said of them."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from databases import CDS, OTHER, PROTEIN, alignment, embl, entry, gene, inactive, put_chain

from embedstore.curation.checking import check_record
from embedstore.curation.records import CodingRecord
from embedstore.curation.retention import STAGES


def test_a_gene_that_begins_with_gtg_is_kept(world, run):
    cds = gene(OTHER, start="GTG", stop="TGA")
    world.add("P00001", PROTEIN)
    world.add("P00002", OTHER, cds=cds)
    found = run({"id": "x", "accession": "P00002", "protein": OTHER.lower() + "*", "label": 41.5, "split": "test"})
    (row,) = found.dataset.to_dict("records")
    assert row == {
        "id": "x",
        "accession": "P00002",
        "protein": OTHER,
        "label": 41.5,
        "split": "test",
        "cds": cds,
        "transl_table": 11,
        "has_start": True,
        "has_stop": True,
        "cds_accession": "AAP00002.1",
        "cds_source": "ENA",
        "cds_organism": "Escherichia coli",
        "distinct_cds": 1,
        "flags": "",
    }
    assert (len(found.rejects), found.undecided) == (0, 0)


def test_the_stages_are_files(world, run, tmp_path):
    world.add("P00001", PROTEIN)
    world.add("P00002", OTHER, cds=CDS)
    found = run(("P00001", PROTEIN), ("P00002", OTHER), ("nothing", PROTEIN))

    def lines(name):
        return [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]

    assert [row["accession"] for row in lines("accessions")] == ["P00001", "P00002", ""]
    assert lines("mapping")[0] == {"accession": "P00001", "to": ["AAP00001.1"], "failed": False}
    assert lines("candidates")[1]["candidates"] == ["AAP00002.1"]
    assert [row["asked"] for row in lines("fetched")] == ["AAP00001.1", "AAP00002.1"]
    assert lines("fetched")[0]["cds"] == CDS.lower().upper()
    assert [(row["id"], row["reason"]) for row in lines("checked")] == [
        ("P00001", ""),
        ("P00002", "translation_differs"),
    ]
    assert lines("dataset") == found.dataset.to_dict("records")
    assert [(row["id"], row["stage"], row["reason"]) for row in lines("rejects")] == [
        ("P00002", "checked", "translation_differs"),
        ("nothing", "accessions", "not_an_accession"),
    ]
    written = pd.read_csv(tmp_path / "out" / "retention.tsv", sep="\t")
    assert written.loc[0, [*STAGES]].tolist() == [2, 2, 2, 2, 1]


def test_one_accession_may_stand_in_many_rows(world, run):
    world.add("P00001", PROTEIN)
    rows = [{"id": f"P00001_run{i}", "accession": "P00001", "protein": PROTEIN, "label": i} for i in range(3)]
    assert run(*rows).dataset["label"].tolist() == [0, 1, 2]
    assert len(world.asked("/ena/")) == 1


def test_keys_of_flip_hold_the_accession(world, run):
    world.add("P00001", PROTEIN)
    found = run({"id": "P00001_Escherichia coli lysate", "protein": PROTEIN})
    assert found.dataset["cds"].tolist() == [CDS]


@pytest.mark.parametrize(
    ("flag", "cds", "facts"),
    [
        ("codon_start", "GG" + CDS, {"extra": ("/codon_start=3",)}),
        ("partial", CDS[:-3], {"location": "J1.1:1..>9"}),
        ("stop_completed", CDS[:-3] + "T", {"extra": ("/transl_except=(pos:9,aa:TERM)",)}),
        (
            "recoded",
            gene(PROTEIN.replace("V", "C", 1)).replace("TGC", "TGA", 1),
            {"extra": ("/transl_except=(pos:9,aa:Sec)",)},
        ),
        ("", CDS.lower().replace("t", "u").upper().replace("U", "u"), {}),
    ],
)
def test_what_is_unusual_and_right_is_flagged(world, run, flag, cds, facts):
    protein = PROTEIN.replace("V", "U", 1) if flag == "recoded" else PROTEIN
    world.add("P00001", protein, cds=cds, **facts)
    (row,) = run(("P00001", protein)).dataset.to_dict("records")
    assert row["flags"] == flag
    assert set(row["cds"]) <= set("ACGT")
    assert len(row["cds"]) == 3 * (len(protein) + row["has_stop"])


def test_an_accession_without_version_is_flagged(world, run):
    world.entries["P00001"] = entry("P00001", PROTEIN, [("AAB", "-", "mRNA")])
    world.embl["AAB.2"] = embl("AAB.2", CDS)
    (row,) = run(("P00001", PROTEIN)).dataset.to_dict("records")
    assert (row["flags"], row["cds_accession"]) == ("versionless", "AAB.2")


def test_the_best_of_several_exact_ones(world, run):
    """Of its own taxon; then the most frequent; then the smallest accession."""
    for name, pick, taxon in (
        *(("A.1", 1, 1), ("B.1", 1, 1), ("C.1", 1, 1)),
        *(("D.1", 2, 562), ("F.1", 3, 562), ("E.1", 3, 562)),
    ):
        world.add("P00001", PROTEIN, name=name, cds=gene(PROTEIN, pick=pick), taxon=taxon)
    world.entries["P00001"]["organism"]["taxonId"] = 562
    (row,) = run(("P00001", PROTEIN)).dataset.to_dict("records")
    assert (row["cds_accession"], row["distinct_cds"]) == ("E.1", 3)


def test_the_first_reference_is_not_trusted(world, run):
    wrong = gene(PROTEIN.replace("V", "A"))
    world.add("P00001", PROTEIN, name="A.1", cds=wrong)
    world.add("P00001", PROTEIN, name="Z.1")
    assert run(("P00001", PROTEIN)).dataset["cds_accession"].tolist() == ["Z.1"]


def test_merged_and_deleted_accessions_are_followed(world, run):
    world.add("P00001", PROTEIN)
    world.entries["P00001"]["secondaryAccessions"] = ["Q00001"]
    world.entries["Q00001"] = inactive("Q00001", "MERGED", ["P00001"])
    world.entries["Q00002"] = inactive("Q00002", "DELETED")
    world.uniparc["UPI1"] = (OTHER, [{"database": "EMBL", "id": "AAX", "version": 3}])
    world.embl["AAX.3"] = embl("AAX.3", gene(OTHER))
    found = run(("Q00001", PROTEIN), ("Q00002", OTHER))
    assert found.dataset["cds_accession"].tolist() == ["AAP00001.1", "AAX.3"]


def test_a_part_of_a_structure(world, run):
    world.add("P00001", PROTEIN)
    put_chain(world, PROTEIN[3:12], alignment(PROTEIN[3:12], PROTEIN))
    found = run(
        {"id": "2uzi-C", "chain": "2uzi-C", "protein": PROTEIN[3:12], "label": "HHHHCCCCC"},
        {"id": "again", "chain": "2uzi-C", "protein": PROTEIN[3:11]},
        {"id": "2uzi-X", "chain": "2uzi-X", "protein": PROTEIN[3:12]},
    )
    (row,) = found.dataset.to_dict("records")
    assert (row["cds"], row["flags"], row["has_start"], row["has_stop"]) == (CDS[9:36], "part", False, False)
    assert found.rejects[["stage", "reason"]].to_numpy().tolist() == [
        ["mapping", "residues_differ"],
        ["mapping", "no_chain"],
    ]


def test_within_a_protein_no_codon_starts_translation():
    record = CodingRecord("A.1", "ATGAAAACAGTGTATTAA", "ENA", table=11)
    assert check_record(record, "MY", part=(3, 5)).reason == "translation_differs"
    match = check_record(record, "VY", part=(3, 5))
    assert (match.cds, match.has_start, match.has_stop) == ("GTGTAT", False, False)
    assert check_record(record, "MKT", part=(0, 3)).has_start


def test_a_part_past_the_end_of_a_coding_sequence():
    record = CodingRecord("A.1", CDS[:30], "ENA", table=11)
    assert check_record(record, PROTEIN[3:12], part=(3, 12)).reason == "partial_3"
