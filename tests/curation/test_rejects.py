"""The catalogue of bad input: each kind has its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from databases import CDS, OTHER, PROTEIN, embl, entry, gene, reject

from embedstore.coding.reasons import REASONS, TRANSIENT
from embedstore.curation.checking import Match, check_record, choose
from embedstore.curation.client import Fault
from embedstore.curation.records import CodingRecord

UNKNOWN = entry("P00001", PROTEIN)
ALTERED = entry("P00001", PROTEIN, [("AAP00001.1", "ALT_FRAME", "mRNA")])

RECORDS = {
    "not_multiple_of_3": {"cds": gene(OTHER)[:-1]},
    "internal_stop": {"cds": gene(OTHER)[:30] + "TAA" + gene(OTHER)[33:]},
    "partial_5": {"cds": CDS[60:]},
    "partial_5 said": {"cds": CDS[60:], "location": "J1.1:<1..99"},
    "partial_3": {"cds": CDS[:-60]},
    "partial_3 said": {"cds": CDS[:-60] + "AA", "location": "J1.1:1..>99"},
    "wrong_frame": {"cds": "GG" + CDS},
    "wrong_frame said": {"cds": gene(OTHER), "extra": ("/codon_start=2",)},
    "frameshift": {"cds": CDS[:120] + "A" + CDS[120:]},
    "frameshift said": {"cds": gene(OTHER), "extra": ("/ribosomal_slippage",)},
    "recoded": {"cds": gene(OTHER), "extra": ("/transl_except=(pos:9..11,aa:Sec)",)},
    "ambiguous_codon": {"cds": CDS[:30] + "N" * 12 + CDS[42:]},
    "translation_differs": {"cds": gene(PROTEIN.replace("V", "A"))},
    "contig": {"cds": "ACGTTGCA" * 40 + CDS + "ACGTTGCA" * 40},
    "contig said": {"cds": "ACGTTGCA" * 40 + CDS, "location": "321..500"},
    "precursor": {"cds": gene("MKKLLLAAVAGG" + PROTEIN)},
    "protein_instead_of_nucleotide": {"cds": PROTEIN},
}


@pytest.mark.parametrize("name", RECORDS)
def test_bad_coding_sequences(world, run, name):
    world.add("P00001", PROTEIN, **RECORDS[name])
    stage, reason, detail = reject(run(("P00001", PROTEIN)))
    assert reason == name.removesuffix(" said")
    assert stage == ("fetched" if name == "contig said" else "checked")
    assert detail


def test_a_protein_entry_instead_of_a_coding_sequence(world, run):
    world.add("P00001", PROTEIN)
    world.embl["AAP00001.1"] = world.embl["AAP00001.1"].replace(" BP.", " AA.")
    assert reject(run(("P00001", PROTEIN)))[:2] == ("fetched", "protein_instead_of_nucleotide")


def test_empty_sequences():
    assert check_record(CodingRecord("A.1", "---", "f", table=1), PROTEIN).reason == "empty"


def test_letters_that_are_none():
    for letters in ("ATG\u00e9", "ATG<b>", "ATG123"):
        assert check_record(CodingRecord("A.1", letters, "f"), "M").reason == "not_nucleotides"


def test_isoforms_are_named(world, run):
    world.add("P00001", PROTEIN)
    found = run(("P00001-2", PROTEIN[:40] + PROTEIN[60:]), ("P00001-1", PROTEIN))
    assert found.dataset["id"].tolist() == ["P00001-1"]
    stage, reason, detail = reject(found)
    assert (stage, reason) == ("checked", "isoform")
    assert detail.startswith("isoform 2 of P00001; translation_differs: ")


def test_coding_sequences_of_other_species(world, run):
    world.add("P00001", PROTEIN, organism="Mus musculus", taxon=10090)
    world.entries["P00001"]["organism"] = {"scientificName": "Homo sapiens", "taxonId": 9606}
    row = {"accession": "P00001", "protein": PROTEIN, "species": "Homo sapiens"}
    stage, reason, detail = reject(run(row))
    assert (stage, reason) == ("checked", "species_mismatch")
    assert detail == "homo sapiens is wanted; there is AAP00001.1 of Mus musculus"
    assert run(row, other_species=True).dataset["flags"].tolist() == ["other_species"]


@pytest.mark.parametrize(
    ("species", "taxon", "organism", "found_taxon", "kept"),
    [
        ("Oleispira antarctica_RB-8", None, "Oleispira antarctica", 188908, True),
        ("Escherichia coli", None, "Escherichia coli str. K-12 substr. MG1655", 511145, True),
        ("Geobacillus stearothermophilus", 1422, "Bacillus stearothermophilus", 1422, True),
        ("Escherichia coli", 562, "Bacillus subtilis", 1423, False),
        ("", None, "Bacillus subtilis", 1423, True),
        ("Escherichia coli", None, "", None, True),
    ],
)
def test_which_species_are_the_same(species, taxon, organism, found_taxon, kept):
    record = CodingRecord("A.1", CDS, "ENA", organism=organism, taxon=found_taxon)
    choice = choose([Match(record, CDS, 11, True, True)], taxon=taxon, organisms=[species])
    assert isinstance(choice, Fault) != kept


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("P00001", "MKV"), ("P00001", "MKV")], "repeated_id"),
        ([("P00001", "MKV"), ("", "MKV")], "repeated_id"),
        ([("P00001", "MKV"), ("P00002", " * ")], "empty"),
        ([("P00001", "MKV"), ("P00002", "MK1")], "not_a_protein"),
        ([("P00001", "MKV"), ("P00002", "ACGT" * 10)], "not_a_protein"),
        ([("P00001", "MKV"), ("ENSP000002", "MKV")], "not_an_accession"),
    ],
)
def test_bad_rows_of_the_list(world, run, rows, reason):
    world.add("P00001", "MKV")
    stage, found, detail = reject(run(*rows))
    assert (stage, found) == ("accessions", reason)
    assert "row 2" in detail or "no accession of UniProt" in detail


@pytest.mark.parametrize(
    ("spoil", "stage", "reason"),
    [
        (lambda w: w.embl.clear(), "fetched", "not_found"),
        (lambda w: w.faults.append(["/ena/", "410", 9]), "fetched", "withdrawn"),
        (lambda w: w.embl.update({"AAP00001.1": embl("B.1", CDS)}), "fetched", "wrong_record"),
        (lambda w: w.mapping.clear() or w.entries.clear(), "candidates", "obsolete_accession"),
        (lambda w: w.mapping.clear() or w.entries.update(P00001=UNKNOWN), "candidates", "no_cds_known"),
        (lambda w: w.entries.update(P00001=ALTERED), "candidates", "no_natural_cds"),
    ],
)  # fmt: skip
def test_what_the_databases_do_not_have(world, run, spoil, stage, reason):
    world.add("P00001", PROTEIN)
    spoil(world)
    found = run(("P00001", PROTEIN))
    assert reject(found)[:2] == (stage, reason)
    assert found.undecided == 0


def test_every_reason_of_curation_is_tested():
    """Reasons that no test names are not known to be given."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    text = (Path(__file__).parents[2] / "embedstore" / "coding" / "reasons.py").read_text()
    ours = re.findall(r'^    "(\w+)":', text.partition("# Below: what curation finds")[2], re.MULTILINE)
    assert len(ours) > 30
    assert [reason for reason in ours if f'"{reason}' not in tests] == []
    assert set(REASONS) >= TRANSIENT
