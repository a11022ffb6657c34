"""Annotations: what is written in a file against what is read, and splice sites against the labels of a simulation."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.annotation import (
    Annotation,
    nearest,
    read_annotation,
    splice_sites,
    transcription_starts,
)
from embedstore.errors import InputError
from embedstore.simulate import simulate_genome, write_gff

SIM = simulate_genome(150_000, chromosomes=3, seed=6)
COLUMNS = ["chromosome", "start", "end", "strand", "gene", "transcript"]


@pytest.fixture(scope="module")
def gff(tmp_path_factory):
    return write_gff(SIM, tmp_path_factory.mktemp("genes") / "genes.gff3")


def write_gtf(path, lines=("gene", "transcript", "exon", "CDS")):
    """As Ensembl writes it: stop codons are no part of the CDS."""
    rows = []
    for gene in SIM.genes.itertuples():
        ids = f'gene_id "{gene.gene}"; gene_name "a; b";'
        own = f'{ids} transcript_id "{gene.gene}.1"; level 2;'
        edges = [gene.start, *np.ravel(gene.exons).tolist()[1:-1], gene.end]
        rows += [("gene", gene.start, gene.end, ids), ("transcript", gene.start, gene.end, own)]
        rows += [("exon", *edges[i : i + 2], own) for i in range(0, len(edges), 2)]
        coding = [list(exon) for exon in gene.exons]
        coding[-1 if gene.strand == "+" else 0][1 if gene.strand == "+" else 0] -= 3 if gene.strand == "+" else -3
        rows += [("CDS", *exon, own) for exon in coding]
        rows += [("stop_codon", gene.start, gene.start + 3, own)]
        rows = [row if len(row) > 4 else (gene.chromosome, gene.strand, *row) for row in rows]
    text = "".join(
        f"{chromosome}\tsim\t{kind}\t{start + 1}\t{end}\t.\t{strand}\t.\t{ids}\n"
        for chromosome, strand, kind, start, end, ids in rows
        if kind in (*lines, "stop_codon")
    )
    path.write_text("#!genome-build simulated\n" + text)
    return path


def write(folder, *lines, name="genes.gff"):
    path = folder / name
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return path


def line(kind, start, end, attributes, strand="+", chromosome="c"):
    return (chromosome, "x", kind, start, end, ".", strand, ".", attributes)


def rows(table):
    return list(table.itertuples(index=False, name=None))


# ---- reading ---------------------------------------------------------------------------------------------


def check_simulated(annotation, stop_codons):
    genes = SIM.genes.assign(transcript="")[COLUMNS]
    assert rows(annotation.genes) == rows(genes)
    assert rows(annotation.transcripts) == rows(genes.assign(transcript=genes["gene"] + ".1"))
    exons, coding = [], []
    for gene in SIM.genes.itertuples():
        for number, (start, end) in enumerate(gene.exons):
            own = (gene.strand, gene.gene, f"{gene.gene}.1")
            first, last = number == 0, number == len(gene.exons) - 1
            exons.append((gene.chromosome, gene.start if first else start, gene.end if last else end, *own))
            left = 0 if stop_codons else 3
            cut = (left if first and gene.strand == "-" else 0, left if last and gene.strand == "+" else 0)
            coding.append((gene.chromosome, start + cut[0], end - cut[1], *own))
    assert rows(annotation.exons) == exons
    assert rows(annotation.cds) == coding
    for table in annotation:
        assert list(table) == COLUMNS
        assert table.dtypes["start"] == table.dtypes["end"] == np.int64


def test_gff3_of_a_simulation(gff):
    check_simulated(read_annotation(gff), stop_codons=True)


def test_phases_say_where_codons_begin(gff):
    """Nucleotides of earlier exons and those before the first whole codon are whole codons together."""
    lines = [text.split("\t") for text in gff.read_text().splitlines() if "\tCDS\t" in text]
    seen = set()
    for gene in SIM.genes.itertuples():
        own = [cells for cells in lines if cells[8] == f"ID={gene.gene}.1.cds;Parent={gene.gene}.1"]
        before = 0
        for cells in own if gene.strand == "+" else own[::-1]:
            assert (before + int(cells[7])) % 3 == 0
            seen.add(cells[7])
            before += int(cells[4]) - int(cells[3]) + 1
    assert seen == {"0", "1", "2"}


def test_gtf_of_a_simulation(tmp_path):
    check_simulated(read_annotation(write_gtf(tmp_path / "genes.gtf")), stop_codons=False)


def test_gtf_without_lines_for_genes_and_transcripts(tmp_path):
    check_simulated(read_annotation(write_gtf(tmp_path / "genes.gtf", ("exon", "CDS"))), stop_codons=False)


@pytest.mark.parametrize("change", ["gzip", "windows", "mark", "mark and gzip", "fasta", "blank"])
def test_other_ways_of_writing_a_file(gff, tmp_path, change):
    raw = gff.read_bytes()
    changed = {
        "gzip": lambda: (
            gzip.compress(raw[: len(raw) // 2].rpartition(b"\n")[0] + b"\n")
            + gzip.compress(raw[len(raw[: len(raw) // 2].rpartition(b"\n")[0]) + 1 :])
        ),  # of several members, as by bgzip
        "windows": lambda: raw.replace(b"\n", b"\r\n"),
        "mark": lambda: b"\xef\xbb\xbf" + raw,
        "mark and gzip": lambda: gzip.compress(b"\xef\xbb\xbf" + raw),
        "fasta": lambda: raw + b"##FASTA\n>chr1\nACGT\n",
        "blank": lambda: raw.replace(b"\n", b"\n\n# a comment\n###\n").rstrip(b"\n"),
    }[change]()
    path = tmp_path / "genes.txt"
    path.write_bytes(changed)
    for found, wanted in zip(read_annotation(path), read_annotation(gff), strict=True):
        pd.testing.assert_frame_equal(found, wanted)


def test_gff3_as_others_write_it(tmp_path):
    path = write(
        tmp_path,
        line("chromosome", 1, 900, "."),
        line("exon", 1, 10, "Parent=t1,t2;Note=before its parents"),
        line("gene", 1, 50, "ID=g1;Name=x"),
        line("mRNA", 1, 50, "ID=t1;Parent=g1"),
        line("mRNA", 1, 50, "Parent=g1;ID=t2"),
        line("protein", 1, 10, "ID=p1;Derives_from=t1"),
        line("CDS", 1, 9, "Parent=t1,p1;"),
        line("exon", 31, 50, " Parent=t1 ; color=red"),
        line("ncRNA_gene", 60, 90, "ID=g2", "-"),
        line("miRNA_primary_transcript", 60, 90, "ID=pri;Parent=g2", "-"),
        line("miRNA", 70, 80, "ID=mi%2C1;Parent=pri", "-"),
        line("exon", 70, 80, "ID=e;Parent=mi%2C1", "-"),
        line("pseudogene", 100, 120, "ID=g3", "?"),
        line("gene", 130, 150, "ID=g4"),
        line("CDS", 130, 150, "ID=cds4;Parent=g4"),
        line("intron", 5, 7, "ID=noise"),
        line("repeat_region", 5, 7, "Note=no id"),
    )
    annotation = read_annotation(path)
    assert annotation.genes["gene"].tolist() == ["g1", "g2", "g3", "g4"]
    assert annotation.genes["strand"].tolist() == ["+", "-", ".", "+"]
    assert rows(annotation.transcripts[["gene", "transcript"]]) == [
        ("g1", "t1"),
        ("g1", "t2"),
        ("g2", "pri"),
        ("g2", "mi,1"),
        ("g4", "g4"),
    ]
    assert rows(annotation.exons[["start", "end", "gene", "transcript"]]) == [
        (0, 10, "g1", "t1"),
        (0, 10, "g1", "t2"),
        (30, 50, "g1", "t1"),
        (69, 80, "g2", "mi,1"),
    ]
    assert rows(annotation.cds[["start", "gene", "transcript"]]) == [(0, "g1", "t1"), (129, "g4", "g4")]


def test_parents_that_were_cut_off(tmp_path, caplog):
    path = write(
        tmp_path,
        line("CDS", 5, 10, "Parent=lost.1,lost.1-Protein"),
        line("exon", 5, 20, "Parent=lost.1"),
        line("mRNA", 30, 40, "ID=t;Parent=lost gene"),
        line("exon", 30, 40, "Parent=t"),
    )
    with caplog.at_level(logging.WARNING):
        annotation = read_annotation(path)
    assert f"{path}: 2 parents of exons or transcripts are not in the file" in caplog.text
    assert rows(annotation.transcripts) == [
        ("c", 29, 40, "+", "lost gene", "t"),
        ("c", 4, 20, "+", "lost.1", "lost.1"),
    ]
    assert rows(annotation.genes) == [("c", 29, 40, "+", "lost gene", ""), ("c", 4, 20, "+", "lost.1", "")]


def test_exons_in_any_order_and_twice(tmp_path):
    """Ensembl lists the exons of the reverse strand from the 5' end on."""
    own = 'gene_id "g"; transcript_id "t";'
    spans = [(31, 40), (1, 10), (11, 20), (1, 10)]
    annotation = read_annotation(write(tmp_path, *(line("exon", *span, own, "-") for span in spans)))
    assert rows(annotation.transcripts) == [("c", 0, 40, "-", "g", "t")]
    assert annotation.exons["start"].tolist() == [30, 0, 10]


def test_gtf_with_values_of_all_kinds(tmp_path):
    path = write(
        tmp_path,
        line("exon", 1, 10, 'gene_id 7; transcript_id "7.1"; tag "x y"'),
        line("exon", 1, 10, 'transcript_id "7.1";gene_id "7";', chromosome="d"),
        line("start_codon", 1, 3, 'gene_id "7"; transcript_id "7.1";'),
    )
    annotation = read_annotation(path)
    assert rows(annotation.exons) == [("c", 0, 10, "+", "7", "7.1"), ("d", 0, 10, "+", "7", "7.1")]
    assert rows(annotation.transcripts) == rows(annotation.exons)


EXON = line("exon", 1, 9, "Parent=t")
GTF_EXON = line("exon", 1, 9, 'gene_id "g"; transcript_id "t";')


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([EXON, EXON[:-1]], r":2: 8 column\(s\); GFF3 and GTF have nine, separated by tabs: 'c\\tx"),
        ([("a b c",)], r":1: 1 column\(s\)"),
        ([EXON, line("exon", 0, 9, "Parent=t")], ":2: start is '0' and end is '9'; .* 1 <= start <= end"),
        ([line("exon", 10, 9, "Parent=t")], ":1: start is '10' and end is '9'"),
        ([line("exon", "1.5", 9, "Parent=t")], "start is '1.5'"),
        ([line("exon", 1, "٣", "Parent=t")], "end is '٣'"),
        ([line("exon", 1, 9, "Parent=t", "*")], r":1: strand is '\*'; it must be"),
        ([EXON, line("exon", 1, 9, "ID=x")], ":2: a line of type exon needs the attribute Parent"),
        ([GTF_EXON, line("CDS", 1, 9, 'gene_id "g";')], ":2: a line of type CDS needs the attribute transcript_id"),
        ([GTF_EXON, line("gene", 1, 9, 'gene_name "g";')], ":2: a line of type gene needs the attribute gene_id"),
        ([line("protein", 1, 9, "ID=p"), line("CDS", 1, 9, "Parent=p")], ":2: Parent=p is a protein"),
        ([line("mRNA", 1, 9, "ID=a;Parent=b"), line("mRNA", 1, 9, "ID=b;Parent=a")], "must not be its own ancestor"),
        ([line("gene", 1, 9, "ID=g")], "has no lines of type exon or CDS"),
        ([], "has no lines of type exon or CDS"),
    ],
)
def test_lines_that_are_refused(tmp_path, lines, said):
    with pytest.raises(InputError, match=said) as caught:
        read_annotation(write(tmp_path, *lines))
    assert str(caught.value).startswith(str(tmp_path))


def test_files_that_cannot_be_read(gff, tmp_path):
    path = tmp_path / "genes.gff.gz"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_annotation(path)
    path.write_bytes(gzip.compress(gff.read_bytes())[:-20])
    with pytest.raises(InputError, match="cut off or damaged"):
        read_annotation(path)
    path.write_bytes(b"\xff\xfe\x00c")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_annotation(path)


# ---- splice sites and starts ---------------------------------------------------------------------------


def test_splice_sites_are_those_of_the_labels(gff):
    """BEND's classes: 1 and 5 are donors, 3 and 7 acceptors, of the forward and the reverse strand."""
    found = rows(splice_sites(read_annotation(gff))[["chromosome", "position", "strand", "kind"]])
    wanted = [
        (name, int(place), "+" if labels[place] < 4 else "-", "donor" if labels[place] in (1, 5) else "acceptor")
        for name, labels in SIM.labels.items()
        for place in np.flatnonzero(np.isin(labels, [1, 3, 5, 7]))
    ]
    assert len(wanted) > 100
    assert found == wanted


def test_sites_know_their_gene_and_alternatives_give_each_site_once(tmp_path):
    annotation = read_annotation(
        write(
            tmp_path,
            *(line("gene", 1, 99, f"ID=g{number}") for number in (1, 2)),
            *(line("mRNA", 1, 99, f"ID=t{number};Parent=g{1 + number // 3}") for number in (1, 2, 3)),
            line("exon", 1, 20, "Parent=t1,t2,t3"),
            line("exon", 61, 99, "Parent=t1,t2,t3"),
            line("exon", 35, 40, "Parent=t2"),
        )
    )
    assert rows(splice_sites(annotation)) == [
        ("c", 20, "+", "donor", "g1"),
        ("c", 20, "+", "donor", "g2"),
        ("c", 33, "+", "acceptor", "g1"),
        ("c", 40, "+", "donor", "g1"),
        ("c", 59, "+", "acceptor", "g1"),
        ("c", 59, "+", "acceptor", "g2"),
    ]
    assert rows(transcription_starts(annotation)) == [("c", 0, "+", "g1"), ("c", 0, "+", "g2")]


@pytest.mark.parametrize(("gap", "introns"), [(-3, 0), (0, 0), (1, 0), (12, 0), (13, 1)])
def test_frameshifts_written_as_gaps_are_no_introns(tmp_path, gap, introns):
    annotation = read_annotation(
        write(tmp_path, line("exon", 1, 50, "Parent=t"), line("exon", 51 + gap, 90, "Parent=t"), EXON)
    )
    assert len(splice_sites(annotation)) == 2 * introns
    assert len(splice_sites(annotation, shortest_intron=1)) == 2 * (gap > 0)


def test_an_exon_inside_of_another_makes_no_intron(tmp_path):
    annotation = read_annotation(
        write(tmp_path, *(line("exon", *span, "Parent=t", "-") for span in ((1, 90), (20, 30), (150, 160))))
    )
    assert rows(splice_sites(annotation)[["position", "kind"]]) == [(90, "acceptor"), (148, "donor")]


def test_coding_parts_stand_for_exons_where_there_are_none(tmp_path):
    annotation = read_annotation(
        write(
            tmp_path,
            *(line("CDS", *span, "Parent=t") for span in ((1, 10), (41, 50))),
            *(line("CDS", *span, "Parent=u") for span in ((1, 10), (45, 50))),
            line("exon", 1, 50, "Parent=u"),
        )
    )
    assert rows(splice_sites(annotation)) == [("c", 10, "+", "donor", "t"), ("c", 39, "+", "acceptor", "t")]


def test_parts_on_other_strands_and_chromosomes_are_apart(tmp_path):
    annotation = read_annotation(
        write(
            tmp_path,
            line("exon", 1, 10, "Parent=t"),
            line("exon", 101, 110, "Parent=t", "-"),
            line("exon", 201, 210, "Parent=t", chromosome="d"),
            line("exon", 41, 50, "Parent=t"),
        )
    )
    assert rows(splice_sites(annotation)[["chromosome", "position"]]) == [("c", 10), ("c", 39)]


def test_where_the_strand_is_unknown(tmp_path, caplog):
    annotation = read_annotation(
        write(tmp_path, *(line("exon", *span, "Parent=t", ".") for span in ((1, 10), (41, 50))))
    )
    with caplog.at_level(logging.WARNING):
        assert rows(splice_sites(annotation)) == rows(transcription_starts(annotation)) == []
    assert "1 introns have no strand" in caplog.text
    assert "1 transcripts have no strand" in caplog.text


def test_transcription_starts_on_both_strands(gff):
    found = rows(transcription_starts(read_annotation(gff)))
    assert found == sorted(
        (gene.chromosome, gene.start if gene.strand == "+" else gene.end - 1, gene.strand, gene.gene)
        for gene in SIM.genes.itertuples()
    )
    assert {row[2] for row in found} == {"+", "-"}


def test_chromosomes_stay_in_the_order_of_the_file(tmp_path):
    parts = [line("exon", *span, "Parent=t" + name, chromosome=name) for name in "ba" for span in ((50, 60), (1, 9))]
    annotation = read_annotation(write(tmp_path, *parts))
    assert splice_sites(annotation)["chromosome"].tolist() == ["b", "b", "a", "a"]


# ---- distances -------------------------------------------------------------------------------------------

SITES = pd.DataFrame(
    {
        "chromosome": ["c", "c", "c", "d"],
        "position": [200, 100, 100, 50],
        "strand": ["-", "+", "-", "-"],
        "kind": ["acceptor", "donor", "donor", "acceptor"],
        "gene": ["g2", "g1", "g3", "g4"],
    }
)


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        (("c", 97), (-3, "donor", "g1")),
        (("c", 100), (0, "donor", "g1")),
        (("c", 104), (4, "donor", "g1")),
        (("c", 150), (50, "donor", "g1")),  # as far from either: the one before
        (("c", 151), (49, "acceptor", "g2")),  # upstream in the genome is downstream on the other strand
        (("c", 200), (0, "acceptor", "g2")),
        (("c", 900), (-700, "acceptor", "g2")),
        (("d", 40), (10, "acceptor", "g4")),
        (("x", 40), (np.nan, "", "")),
    ],
)
def test_the_nearest_site(place, wanted):
    variants = pd.DataFrame([place, ("c", 100)], columns=["chromosome", "position"], index=[7, 3])
    found = nearest(variants, SITES)
    assert found.index.tolist() == [7, 3]
    assert found["distance"].dtype == np.float64
    np.testing.assert_equal(rows(found), [wanted, (0.0, "donor", "g1")])
    assert not np.signbit(found["distance"].to_numpy()[found["distance"] == 0]).any()
    starts = nearest(variants, SITES.drop(columns="kind"))
    np.testing.assert_equal(rows(starts), [(wanted[0], "", wanted[2]), (0.0, "", "g1")])


def test_all_that_is_taken_out_counts():
    variants = pd.DataFrame(
        [
            (90, 91, "A" * 9, -1),  # 91 to 99: the last is next to the site
            (90, 91, "A" * 10, 0),
            (99, 100, "A" * 101, 0),
            (99, 101, "A", 1),
            (100, 101, "", 1),
            (99, 100, "", 0),
            (97, -1, "", -3),  # not scored: the position stands
        ],
        columns=["position", "start", "removed", "wanted"],
    ).assign(chromosome="c")
    assert nearest(variants, SITES)["distance"].tolist() == variants["wanted"].tolist()


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from("+-")), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=8),
)
def test_distances_against_all_pairs(sites, places):
    table = pd.DataFrame(sites, columns=["position", "strand"]).assign(chromosome="c", gene="g")
    variants = pd.DataFrame(
        {"chromosome": "c", "position": 0, "start": [p for p, _ in places], "removed": ["A" * n for _, n in places]}
    )
    found = nearest(variants, table)["distance"].tolist()
    for distance, (start, size) in zip(found, places, strict=True):
        taken = range(start, start + max(size, 1))
        ways = [(abs(p - q), q, p - q if strand == "+" else q - p) for q, strand in sites for p in taken]
        closest = min(way[:2] for way in ways)
        assert distance in {way[2] for way in ways if way[:2] == closest}


def test_names_with_and_without_chr():
    variants = pd.DataFrame({"chromosome": ["chrc"], "position": [5]})
    with pytest.raises(InputError, match="the annotation has no chromosome 'chrc', but 'c'"):
        nearest(variants, SITES)
    with pytest.raises(InputError, match="the annotation has no chromosome 'c', but 'chrc'"):
        nearest(variants.assign(chromosome="c"), SITES.assign(chromosome="chrc"))
    assert nearest(variants.assign(chromosome="M"), SITES)["distance"].isna().all()


def test_no_sites_and_no_variants():
    variants = pd.DataFrame({"chromosome": ["c"], "position": [5]})
    assert rows(nearest(variants, SITES.iloc[:0])[["kind", "gene"]]) == [("", "")]
    assert list(nearest(variants.iloc[:0], SITES)) == ["distance", "kind", "gene"]
    assert isinstance(Annotation(*[SITES] * 4), tuple)
