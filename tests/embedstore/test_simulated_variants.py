"""Variants of simulated genomes in motifs and anywhere, and their VCF; for splice variants see test_simulate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pysam
import pytest
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore import gene_model
from embedstore.errors import InputError
from embedstore.simulate import motif_variants, random_variants, simulate_genome, splice_variants, write_vcf

SIM = simulate_genome(400_000, chromosomes=4, seed=3)
TEXT = {name: codes.tobytes().decode() for name, codes in SIM.contigs.items()}
VARIANTS = motif_variants(SIM, 150, seed=2)


def boxes_at(variant):
    """TATA boxes that a variant lies in."""
    motifs = SIM.motifs
    inside = (motifs["start"] <= variant.position) & (variant.position < motifs["end"])
    return motifs[inside & (motifs["chromosome"] == variant.chromosome) & (motifs["kind"] == "tata_box")]


def sense(text, strand):
    return text if strand == "+" else str(Seq(text).reverse_complement())


def test_reference_letters_order_and_columns():
    assert list(VARIANTS) == ["chromosome", "position", "ref", "alt", "consequence", "label"]
    assert [TEXT[v.chromosome][v.position] for v in VARIANTS.itertuples()] == VARIANTS["ref"].tolist()
    assert (VARIANTS["ref"] != VARIANTS["alt"]).all()
    assert not VARIANTS.duplicated(["chromosome", "position"]).any()
    pd.testing.assert_frame_equal(VARIANTS, VARIANTS.sort_values(["chromosome", "position"]))
    assert VARIANTS["consequence"].value_counts().to_dict() == {"tata_box": 150, "promoter": 150, "intergenic": 150}
    assert (VARIANTS["label"] == (VARIANTS["consequence"] == "tata_box")).all()


def test_all_three_kinds_have_the_same_changes():
    table = pd.crosstab(VARIANTS["ref"] + ">" + VARIANTS["alt"], VARIANTS["consequence"])
    assert len(table) >= 6
    assert (table["tata_box"] == table["promoter"]).all()
    assert (table["tata_box"] == table["intergenic"]).all()


def test_variants_in_boxes_put_a_rare_letter_in_place_of_a_common_one():
    seen = set()
    for variant in VARIANTS[VARIANTS["label"] == 1].itertuples():
        (box,) = boxes_at(variant).itertuples()
        text = TEXT[box.chromosome][box.start : box.end]
        place = variant.position - box.start
        before = sense(text, box.strand)
        after = sense(text[:place] + variant.alt + text[place + 1 :], box.strand)
        (changed,) = (k for k in range(8) if before[k] != after[k])
        odds = gene_model.TATA_BOX[changed]
        assert odds["ACGT".index(before[changed])] >= 10 * odds["ACGT".index(after[changed])]
        seen.add((box.strand, changed))
    # The last position is so loose that no letter is ten times as likely as another.
    assert {place for _, place in seen} == set(range(7))
    assert {strand for strand, _ in seen} == {"+", "-"}


def test_controls_are_where_they_are_said_to_be():
    for variant in VARIANTS[VARIANTS["label"] == 0].itertuples():
        assert boxes_at(variant).empty
        genes = SIM.genes[SIM.genes["chromosome"] == variant.chromosome]
        assert not ((genes["start"] <= variant.position) & (variant.position < genes["end"])).any()
        before = np.where(
            genes["strand"] == "+", genes["start"] - variant.position, variant.position - genes["end"] + 1
        )
        assert ((before >= 1) & (before <= 40)).any() == (variant.consequence == "promoter")


def test_the_seed_decides():
    pd.testing.assert_frame_equal(VARIANTS, motif_variants(SIM, 150, seed=2))
    assert not VARIANTS.equals(motif_variants(SIM, 150, seed=3))


def test_more_than_there_are():
    with pytest.raises(InputError, match=r"100,000 variants in TATA boxes are wanted; the genome has [\d,]+ letters"):
        motif_variants(SIM, 100_000)
    few = SIM._replace(genes=SIM.genes[:1])  # without genes there are no promoters
    with pytest.raises(InputError, match=r"promoter variants \w>\w are wanted to match TATA box variants"):
        motif_variants(few, 150)


# ---- anywhere -----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ACGTN", min_size=1, max_size=30), min_size=1, max_size=4), st.integers(0, 5))
def test_random_variants_change_letters_once_each_on_any_contigs(texts, seed):
    contigs = {f"c{i}": np.frombuffer(text.encode(), np.uint8) for i, text in enumerate(texts)}
    letters = sum(len(text) - text.count("N") for text in texts)
    variants = random_variants(contigs, letters, seed)
    places = [(f"c{i}", at) for i, text in enumerate(texts) for at, letter in enumerate(text) if letter != "N"]
    assert list(zip(variants["chromosome"], variants["position"], strict=True)) == places
    assert variants["ref"].tolist() == [texts[int(name[1:])][at] for name, at in places]
    assert (variants["ref"] != variants["alt"]).all()
    assert set(variants["alt"]) <= set("ACGT")
    with pytest.raises(InputError, match=f"{letters + 1} variants are wanted; the contigs have {letters} letters"):
        random_variants(contigs, letters + 1, seed)


def test_random_variants_are_spread_evenly_over_places_and_changes():
    contig = {"chr1": SIM.contigs["chr1"]}
    variants = random_variants(contig, 6000, seed=1)
    counts, _ = np.histogram(variants["position"], bins=10, range=(0, 100_000))
    assert abs(counts - 600).max() < 120  # five standard deviations
    share = pd.crosstab(variants["ref"], variants["alt"], normalize="index").to_numpy()
    assert abs(share - (1 - np.eye(4)) / 3).max() < 0.07
    assert not variants.equals(random_variants(contig, 6000, seed=2))


# ---- files --------------------------------------------------------------------------------------------------

TERMS = {
    "splice_donor": "SO:0001575|splice_donor_variant",
    "splice_acceptor": "SO:0001574|splice_acceptor_variant",
    "synonymous": "SO:0001819|synonymous_variant",
    "intergenic": "SO:0001628|intergenic_variant",
    "tata_box": "SO:0001782|TF_binding_site_variant",
    "promoter": "SO:0001631|upstream_gene_variant",
}


def test_pysam_reads_back_what_was_written(tmp_path):
    table = pd.concat([VARIANTS, splice_variants(SIM, 20)], ignore_index=True)
    path = write_vcf(tmp_path / "variants.vcf", table, SIM.contigs)
    with pysam.VariantFile(str(path)) as file:
        assert {name: contig.length for name, contig in file.header.contigs.items()} == dict.fromkeys(
            SIM.contigs, 100000
        )
        records = list(file)
    assert len(records) == len(table)
    assert set(table["consequence"]) == set(TERMS)
    for record, row in zip(records, table.itertuples(), strict=True):
        assert (record.chrom, record.start, record.ref, record.alts) == (
            row.chromosome,
            row.position,
            row.ref,
            (row.alt,),
        )
        assert record.info["CLNSIG"] == (("Benign", "Pathogenic")[row.label],)
        assert record.info["MC"] == (TERMS[row.consequence],)


def test_variants_without_labels_have_no_info(tmp_path):
    table = random_variants(SIM.contigs, 5)
    lines = write_vcf(tmp_path / "variants.vcf", table, SIM.contigs).read_text().splitlines()
    assert [line.split("\t")[7] for line in lines[-5:]] == ["."] * 5
    assert not any("INFO=" in line for line in lines)


def test_labels_and_consequences_that_cannot_be_written(tmp_path):
    table = VARIANTS[:4]
    with pytest.raises(InputError, match=r"label is 2 in 4 of 4 variants; 0, 1 can be written to INFO CLNSIG"):
        write_vcf(tmp_path / "variants.vcf", table.assign(label=2), SIM.contigs)
    with pytest.raises(InputError, match=r"consequence is 'stop' in 4 of 4 variants; splice_donor, .* to INFO MC"):
        write_vcf(tmp_path / "variants.vcf", table.assign(consequence="stop"), SIM.contigs)
    assert not list(tmp_path.iterdir())
