"""Simulated genomes, against the truth they claim to plant; coordinates are worked out here from the gene table."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from Bio import SeqIO
from Bio.Seq import Seq

from embedstore import gene_model
from embedstore.errors import InputError
from embedstore.simulate import simulate_genome, splice_variants, splits, write_gene_finding

SIM = simulate_genome(seed=3)
TEXT = {name: codes.tobytes().decode() for name, codes in SIM.contigs.items()}


def read(chromosome, start, end, strand="+"):
    """Cut with Python text and complement with Biopython."""
    assert 0 <= start < end
    text = TEXT[chromosome][start:end]
    assert len(text) == end - start
    return str(Seq(text).reverse_complement()) if strand == "-" else text


def transcribed(gene):
    """Exons and introns of a gene in the order of transcription, (start, end) in the genome."""
    introns = [(a[1], b[0]) for a, b in zip(gene.exons[:-1], gene.exons[1:], strict=True)]
    step = 1 if gene.strand == "+" else -1
    return gene.exons[::step], introns[::step]


def coding(gene):
    return "".join(read(gene.chromosome, *exon, gene.strand) for exon in transcribed(gene)[0])


def introns():
    for gene in SIM.genes.itertuples():
        for start, end in transcribed(gene)[1]:
            yield gene, start, end


def words(length, offset_from_end=None):
    """The first letters of all introns, or those from an offset before their ends."""
    out = []
    for gene, start, end in introns():
        intron = read(gene.chromosome, start, end, gene.strand)
        out.append(intron[:length] if offset_from_end is None else intron[-offset_from_end:][:length])
    return out


def assert_matches(found, matrix, tolerance=5.0):
    """Counts of letters per position within so many binomial standard deviations of the planted frequencies."""
    table = np.array([list(word) for word in found])
    for position, frequencies in enumerate(matrix):
        for letter, frequency in zip("ACGT", frequencies, strict=True):
            n = len(table)
            deviation = abs((table[:, position] == letter).sum() - n * frequency)
            assert deviation <= tolerance * np.sqrt(n * frequency * (1 - frequency)) + 1e-9, (position, letter)


def test_every_coding_sequence_translates_from_atg_to_its_only_stop():
    assert len(SIM.genes) == 555
    for gene in SIM.genes.itertuples():
        protein = Seq(coding(gene)).translate()  # warns, so fails, on a partial codon
        assert protein.startswith("M")
        assert protein.endswith("*")
        assert protein.count("*") == 1


def test_sizes_are_those_that_are_promised():
    assert sum(map(len, SIM.contigs.values())) == 1_500_000
    exon = np.array([end - start for gene in SIM.genes.itertuples() for start, end in gene.exons])
    intron = np.array([end - start for _, start, end in introns()])
    assert exon.min() >= 60
    assert exon.max() <= 300
    assert intron.min() == 60
    assert 350 < intron.max() <= 400
    assert set(SIM.genes["exons"].map(len)) == {2, 3, 4, 5, 6, 7}


def test_genes_lie_inside_their_chromosomes_without_touching():
    assert set(SIM.genes["strand"]) == {"+", "-"}
    for name, genes in SIM.genes.groupby("chromosome", sort=False):
        assert (genes["start"].to_numpy()[1:] - genes["end"].to_numpy()[:-1] >= 250).all()
        assert genes["start"].iloc[0] >= 0
        assert genes["end"].iloc[-1] <= len(SIM.contigs[name])
        assert all(gene.start < gene.exons[0][0] for gene in genes.itertuples())
        assert all(gene.end > gene.exons[-1][1] for gene in genes.itertuples())


def test_introns_begin_with_gt_end_with_ag_and_interrupt_all_phases():
    phases = []
    for gene in SIM.genes.itertuples():
        exons, between = transcribed(gene)
        for start, end in between:
            text = read(gene.chromosome, start, end, gene.strand)
            assert (text[:2], text[-2:]) == ("GT", "AG")
        phases += list(np.cumsum([end - start for start, end in exons])[:-1] % 3)
    assert (np.bincount(phases) / len(phases) > 0.2).all()


def test_labels_follow_the_gene_table():
    expected = {name: np.full(len(codes), 8) for name, codes in SIM.contigs.items()}
    for gene in SIM.genes.itertuples():
        label, plus = expected[gene.chromosome], gene.strand == "+"
        for start, end in transcribed(gene)[1]:
            label[start:end] = 2 if plus else 6
            label[start if plus else end - 1] = 1 if plus else 5  # donor: the high end on the reverse strand
            label[end - 1 if plus else start] = 3 if plus else 7
        for start, end in gene.exons:
            label[start:end] = 0 if plus else 4
        stop = (
            slice(gene.exons[-1][1] - 3, gene.exons[-1][1]) if plus else slice(gene.exons[0][0], gene.exons[0][0] + 3)
        )
        label[stop] = 8
    for name, label in SIM.labels.items():
        assert label.dtype == np.int8
        np.testing.assert_array_equal(label, expected[name])


def test_labelled_splice_letters_on_both_strands_and_their_number():
    """As BEND's labels were checked: 1 is GT at p, 3 AG at p - 1; on the other strand 5 is GT at p - 1, 7 AG at p."""
    seen = {1: "", 3: "", 5: "", 7: ""}
    for name, label in SIM.labels.items():
        for index in np.flatnonzero(np.isin(label, [1, 3, 5, 7])).tolist():
            kind = int(label[index])
            start = index if kind in (1, 7) else index - 1
            word = read(name, start, start + 2, "+" if kind < 4 else "-")
            assert word == ("GT" if kind in (1, 5) else "AG")
            seen[kind] += "."
    strands = [gene.strand for gene, _, _ in introns()]
    assert len(seen[1]) == len(seen[3]) == strands.count("+")
    assert len(seen[5]) == len(seen[7]) == strands.count("-")


def test_codon_usage_is_as_planted():
    inner = [
        sequence[i : i + 3] for sequence in map(coding, SIM.genes.itertuples()) for i in range(3, len(sequence) - 3, 3)
    ]
    counts = pd.Series(inner).value_counts()
    for codon, share in zip(gene_model.CODONS, gene_model.CODON_USAGE, strict=True):
        expected, deviation = share * len(inner), np.sqrt(len(inner) * share * (1 - share))
        assert abs(counts.get(codon.tobytes().decode(), 0) - expected) <= 5 * deviation
    # The table itself: the genetic code of Biopython, codons ending in C before those in A.
    code = "".join(str(Seq(codon.tobytes().decode()).translate()) for codon in gene_model.CODONS)
    assert code == gene_model.GENETIC_CODE
    usage = dict(zip((codon.tobytes().decode() for codon in gene_model.CODONS), gene_model.CODON_USAGE, strict=True))
    assert usage["GCC"] == pytest.approx(5 * usage["GCA"])
    assert sum(usage[codon] for codon in ("GCA", "GCC", "GCG", "GCT")) == pytest.approx(0.083 / 0.999, abs=1e-3)


def test_intron_ends_follow_their_matrices():
    assert_matches(words(6), gene_model.DONOR)
    assert_matches(words(16, offset_from_end=16), gene_model.ACCEPTOR)


def test_exon_ends_lean_towards_the_splice_consensus():
    before, after = [], []
    for gene, start, end in introns():
        sides = (start - 3, start), (end, end + 1)
        if gene.strand == "-":
            sides = (end, end + 3), (start - 1, start)
        before.append(read(gene.chromosome, *sides[0], gene.strand))
        after.append(read(gene.chromosome, *sides[1], gene.strand))
    exons = "".join(map(coding, SIM.genes.itertuples()))
    share = {letter: exons.count(letter) / len(exons) for letter in "ACGT"}
    table = np.array([list(word) for word in before])
    assert (table[:, 1] == "A").mean() > share["A"] + 0.15
    assert (table[:, 2] == "G").mean() > share["G"] + 0.3
    assert after.count("G") / len(after) > share["G"] + 0.1


def test_motifs_stand_where_the_table_says():
    matrices = {
        "tata_box": gene_model.TATA_BOX,
        "branch_point": gene_model.BRANCH_POINT,
        "polya_signal": gene_model.POLYA_SIGNAL,
    }
    assert set(SIM.motifs["kind"]) == set(matrices)
    for kind, rows in SIM.motifs.groupby("kind"):
        assert_matches([read(m.chromosome, m.start, m.end, m.strand) for m in rows.itertuples()], matrices[kind])
    assert (SIM.motifs["kind"] == "branch_point").sum() == sum(1 for _ in introns())
    starts = [
        read(
            g.chromosome,
            *((g.exons[0][0] - 4, g.exons[0][0]) if g.strand == "+" else (g.exons[-1][1], g.exons[-1][1] + 4)),
            g.strand,
        )
        for g in SIM.genes.itertuples()
    ]
    assert_matches(starts, gene_model.START_CONTEXT)


def test_tata_box_is_upstream_and_polya_signal_near_the_end():
    genes = SIM.genes.reset_index(drop=True)
    for kind in ("tata_box", "polya_signal"):
        motifs = SIM.motifs[SIM.motifs["kind"] == kind].reset_index(drop=True)
        forward = genes["strand"] == "+"
        anchor = (
            genes["start"].where(forward, genes["end"])
            if kind == "tata_box"
            else genes["end"].where(forward, genes["start"])
        )
        near = motifs["start"].where(forward, motifs["end"])
        assert ((near - anchor).where(forward, anchor - near) == {"tata_box": -31, "polya_signal": -26}[kind]).all()


def test_composition_differs_in_kind_between_exons_introns_and_background():
    def share(kinds, letters):
        found = np.concatenate([SIM.contigs[name][np.isin(label, kinds)] for name, label in SIM.labels.items()])
        return np.isin(found, [ord(letter) for letter in letters]).mean()

    assert share([0], "GC") > 0.55
    assert share([2], "GC") < 0.35
    assert share([8], "GC") < 0.4
    assert share([2], "T") > 0.42
    assert share([6], "A") > 0.42
    assert share([8], "A") == pytest.approx(share([8], "T"), abs=0.03)


def test_background_holds_diverged_copies_of_repeats():
    """Windows of 24 letters that occur often, on either strand, are repeats; chance gives none."""
    counts: dict[str, int] = {}
    for text in list(TEXT.values())[:4]:
        for strand in (text, str(Seq(text).reverse_complement())):
            for i in range(len(strand) - 24):
                word = strand[i : i + 24]
                counts[word] = counts.get(word, 0) + 1
    assert 3 <= max(counts.values()) < 60


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    def files(seed, name):
        sim = simulate_genome(90_000, chromosomes=3, seed=seed)
        variants = splice_variants(sim, 30, seed=seed).to_csv()
        return [path.read_bytes() for path in write_gene_finding(sim, tmp_path / name)[:2]] + [variants]

    first, again, other = files(1, "a"), files(1, "b"), files(2, "c")
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_numbers_of_genes_and_chromosomes_are_kept():
    sim = simulate_genome(100_001, genes=7, chromosomes=4, seed=5)
    assert list(sim.contigs) == ["chr1", "chr2", "chr3", "chr4"]
    assert [len(codes) for codes in sim.contigs.values()] == [25_000, 25_000, 25_000, 25_001]
    assert sim.genes["chromosome"].value_counts().to_dict() == {"chr1": 2, "chr2": 2, "chr3": 2, "chr4": 1}
    empty = simulate_genome(5_000, genes=0, chromosomes=2)
    assert len(empty.genes) == len(empty.motifs) == 0
    assert all((label == 8).all() for label in empty.labels.values())
    assert len(simulate_genome(300, genes=0, chromosomes=1).contigs["chr1"]) == 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"length": 0}, "length=0"), ({"genes": -1}, "genes=-1"), ({"chromosomes": 0}, "chromosomes=0")],
)
def test_impossible_numbers_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        simulate_genome(**arguments)


def test_genes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"chr1 has 10,000 nucleotides; its 10 genes .* need"):
        simulate_genome(30_000, genes=30, chromosomes=3)


# ---- the task in BEND's format -----------------------------------------------------------------------


def test_task_files_give_back_sequence_windows_and_labels(tmp_path):
    files = write_gene_finding(SIM, tmp_path)
    with files.genome.open() as handle:
        assert {record.id: str(record.seq) for record in SeqIO.parse(handle, "fasta")} == TEXT
    bed = pd.read_csv(files.bed, sep="\t")
    assert list(bed.columns) == ["chromosome", "start", "end", "strand", "transcript_id", "split"]
    assert bed["transcript_id"].tolist() == SIM.genes["gene"].tolist()
    left, right = SIM.genes["start"] - bed["start"], bed["end"] - SIM.genes["end"]
    assert left.between(100, 500).all()
    assert right.between(100, 500).all()
    assert len(set(left - right)) > 100
    with h5py.File(files.labels) as file:
        assert file["labels"].dtype.metadata["vlen"] == np.int8
        for row, window in enumerate(bed.itertuples()):
            np.testing.assert_array_equal(file["labels"][row], SIM.labels[window.chromosome][window.start : window.end])


def test_no_window_of_one_split_overlaps_one_of_another(tmp_path):
    bed = pd.read_csv(write_gene_finding(SIM, tmp_path, flank=(0, 3000)).bed, sep="\t")
    assert bed["split"].value_counts(normalize=True).round(1).to_dict() == {"train": 0.7, "test": 0.2, "valid": 0.1}
    assert (bed["start"] == 0).any()
    used = {split: set(part["chromosome"]) for split, part in bed.groupby("split")}
    assert not used["train"] & used["valid"]
    assert not used["train"] & used["test"]
    assert not used["valid"] & used["test"]


def test_windows_end_with_the_chromosome(tmp_path):
    sim = simulate_genome(30_000, chromosomes=3, seed=1)
    bed = pd.read_csv(write_gene_finding(sim, tmp_path, flank=(20_000, 20_000)).bed, sep="\t")
    assert (bed["start"] == 0).all()
    assert (bed["end"] == 10_000).all()


def test_two_chromosomes_cannot_be_split(tmp_path):
    sim = simulate_genome(20_000, chromosomes=2)
    with pytest.raises(InputError, match="2 chromosomes cannot be split"):
        splits(sim)
    with pytest.raises(InputError, match="2 chromosomes"):
        write_gene_finding(sim, tmp_path / "out")


# ---- variants --------------------------------------------------------------------------------------------

VARIANTS = splice_variants(SIM, 400, seed=2)


def test_variants_have_the_genomes_reference_and_another_letter():
    assert [TEXT[v.chromosome][v.position] for v in VARIANTS.itertuples()] == VARIANTS["ref"].tolist()
    assert (VARIANTS["ref"] != VARIANTS["alt"]).all()
    assert set(VARIANTS["alt"]) == set("ACGT")
    assert not VARIANTS.duplicated(["chromosome", "position"]).any()
    chromosome = VARIANTS["chromosome"].str[3:].astype(int)
    assert (chromosome * 10**7 + VARIANTS["position"]).is_monotonic_increasing


def test_kinds_and_labels():
    counts = VARIANTS["consequence"].value_counts()
    assert counts["splice_donor"] + counts["splice_acceptor"] == counts["synonymous"] == counts["intergenic"] == 400
    assert counts["splice_donor"] > 150 < counts["splice_acceptor"]
    assert (VARIANTS["label"] == VARIANTS["consequence"].isin(["splice_donor", "splice_acceptor"])).all()


def test_all_three_kinds_have_the_same_changes():
    change = VARIANTS["ref"] + ">" + VARIANTS["alt"]
    kind = VARIANTS["consequence"].str.replace("_.*", "", regex=True)
    table = pd.crosstab(change, kind)
    assert len(table) == 12
    assert (table["splice"] == table["synonymous"]).all()
    assert (table["splice"] == table["intergenic"]).all()


def mutated(gene, variant):
    """The gene's introns and coding sequence after the variant."""
    text = read(gene.chromosome, gene.start, gene.end)
    place = variant.position - gene.start
    changed = text[:place] + variant.alt + text[place + 1 :]

    def cut(start, end):
        part = Seq(changed[start - gene.start : end - gene.start])
        return str(part if gene.strand == "+" else part.reverse_complement())

    exons, between = transcribed(gene)
    return [cut(*intron) for intron in between], "".join(cut(*exon) for exon in exons)


def test_consequences_are_what_they_are_called():
    for variant in VARIANTS.itertuples():
        genes = SIM.genes[SIM.genes["chromosome"] == variant.chromosome]
        inside = genes[(genes["start"] <= variant.position) & (variant.position < genes["end"])]
        if variant.consequence == "intergenic":
            assert inside.empty
            continue
        (gene,) = inside.itertuples()
        after, sequence = mutated(gene, variant)
        broken_donors = sum(intron[:2] != "GT" for intron in after)
        broken_acceptors = sum(intron[-2:] != "AG" for intron in after)
        if variant.consequence == "synonymous":
            assert sequence != coding(gene)
            assert Seq(sequence).translate() == Seq(coding(gene)).translate()
            assert (broken_donors, broken_acceptors) == (0, 0)
            exon_ends = [edge for start, end in transcribed(gene)[1] for edge in (start - 1, end)]
            assert min(abs(variant.position - edge) for edge in exon_ends) >= 3
        else:
            assert sequence == coding(gene)
            assert (broken_donors, broken_acceptors) == ((1, 0) if variant.consequence == "splice_donor" else (0, 1))


def test_more_variants_than_there_are():
    with pytest.raises(InputError, match="letters of GT and AG"):
        splice_variants(SIM, 10**6)
    with pytest.raises(InputError, match=r"synonymous variants \w>\w are wanted .* the genome has"):
        splice_variants(SIM._replace(genes=SIM.genes[:1]), 400)
