"""Reading variants, held against files that plain Python wrote."""

from __future__ import annotations

import gzip
import logging
import sys

import numpy as np
import pandas as pd
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import COLUMNS, FORMS, HEADER, record, vcf_text, write_form

from embedstore import variants
from embedstore.errors import InputError
from embedstore.variants import read_variants
from embedstore.variants.consequences import SEVERITY, most_severe

BASE = ["record", "allele", "line", "chromosome", "position", "ref", "alt", "id"]


@pytest.fixture
def write(tmp_path):
    def write(records, *, form="plain", name="v.vcf", header=HEADER, columns=COLUMNS):
        text = records if isinstance(records, str) else vcf_text(records, header, columns)
        return write_form(tmp_path / name, text, form)

    return write


def test_a_file_with_everything(write):
    path = write(
        [
            record("chr2", 100, "rs1", "a", "g", "30.5", "PASS", "AF=0.1;DP=7"),
            record("chr1", 5, ".", "A", "C,G,AT", info="AF=0.1,.,1e-3;AD=4,3,2,1;DB;GENE=x=y"),
            record("chr1", 5, "rs2;rs3", "A", ".", filter="q10;s50"),
            record("chr1", 0, ".", "N", "<DEL>"),
            record("chr1", 5, ".", "ACG", "*,A"),
            record("chr1", 7, ".", "G", "G]chr2:5]"),
            record("chr2", 100, "rs1", "a", "g", "30.5", "PASS", "AF=0.1;DP=7"),
        ]
    )
    table = read_variants(path, columns=["AF", "AD", "DB", "GENE", "qual", "filter", "AF"])
    assert list(table) == [*BASE, "AF", "AD", "DB", "GENE", "qual", "filter"]
    assert table[BASE].to_numpy().tolist() == [
        [0, 1, 11, "chr2", 99, "A", "G", "rs1"],
        [1, 1, 12, "chr1", 4, "A", "C", ""],
        [1, 2, 12, "chr1", 4, "A", "G", ""],
        [1, 3, 12, "chr1", 4, "A", "AT", ""],
        [2, 0, 13, "chr1", 4, "A", "", "rs2;rs3"],
        [3, 1, 14, "chr1", -1, "N", "<DEL>", ""],
        [4, 1, 15, "chr1", 4, "ACG", "*", ""],
        [4, 2, 15, "chr1", 4, "ACG", "A", ""],
        [5, 1, 16, "chr1", 6, "G", "G]chr2:5]", ""],
        [6, 1, 17, "chr2", 99, "A", "G", "rs1"],
    ]
    assert {name: str(table[name].dtype) for name in ("record", "allele", "line", "position")} == dict.fromkeys(
        ("record", "allele", "line", "position"), "int64"
    )
    nan = np.nan
    np.testing.assert_array_equal(table["AF"], [0.1, 0.1, nan, 0.001, nan, nan, nan, nan, nan, 0.1])
    np.testing.assert_array_equal(table["AD"], [nan, 3, 2, 1, *[nan] * 6])
    assert table["DB"].tolist() == [False, True, True, True, *[False] * 6]
    assert table["GENE"].tolist() == ["", "x=y", "x=y", "x=y", *[""] * 6]
    np.testing.assert_array_equal(table["qual"], [30.5, *[nan] * 8, 30.5])
    assert table["filter"].tolist() == ["PASS", "", "", "", "q10;s50", "", "", "", "", "PASS"]


_allele = st.text("ACGTN", min_size=1, max_size=4)
_record = st.fixed_dictionaries(
    {
        "chrom": st.sampled_from(["chr1", "chr2"]),
        "pos": st.integers(0, 100_000),
        "id": st.sampled_from(["", "rs1", "rs7;x"]),
        "ref": _allele,
        "alts": st.lists(_allele | st.sampled_from(["*", "<DEL>", "<INS:ME>"]), max_size=3),
        "depth": st.none() | st.integers(-(2**31) + 10, 2**31 - 1),
        "seed": st.integers(0, 2**32 - 1),
    }
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_record, min_size=1, max_size=8), st.booleans())
def test_any_table_comes_back_from_every_form(tmp_path_factory, rows, low):
    folder = tmp_path_factory.mktemp("forms")
    texts, expected, frequencies, depths = [], [], [], []
    for number, row in enumerate(rows):
        alts = row["alts"]
        # Exact in 32 bits, which is what BCF has.
        values = np.random.default_rng(row["seed"]).random(len(alts), np.float32)
        info = [f"AF={','.join(map(str, values))}"] if alts else []
        info += [] if row["depth"] is None else [f"DP={row['depth']}"]
        text = record(
            row["chrom"], row["pos"], row["id"] or ".", row["ref"], ",".join(alts) or ".", info=";".join(info) or "."
        )
        texts.append(text.replace("A", "a") if low and not info and not alts else text)
        for allele, alt in enumerate(alts or [""], 1):
            expected.append([number, allele if alts else 0, row["chrom"], row["pos"] - 1, row["ref"], alt, row["id"]])
            frequencies.append(values[allele - 1] if alts else np.nan)
            depths.append(np.nan if row["depth"] is None else row["depth"])
    for form in FORMS:
        path = write_form(folder / f"{form}.vcf", vcf_text(texts), form)
        table = read_variants(path, columns=["AF", "DP"])
        assert table[[*BASE[:2], *BASE[3:]]].to_numpy().tolist() == expected
        lines = -1 if form.startswith("bcf") else table["record"] + 11
        assert (table["line"] == lines).all()
        np.testing.assert_array_equal(table["AF"].to_numpy(np.float32), np.array(frequencies, np.float32))
        np.testing.assert_array_equal(table["DP"].to_numpy(np.float64), depths)


def test_text_keeps_digits_that_htslib_would_not(write):
    path = write([record(info="AF=0.123456789012;DP=3000000000", qual="1234567.891")])
    table = read_variants(path, columns=["AF", "DP", "qual"])
    assert (table["AF"][0], table["DP"][0], table["qual"][0]) == (0.123456789012, 3_000_000_000, 1234567.891)
    with pysam.VariantFile(str(path)) as theirs:  # what this guards against
        assert next(theirs).info["AF"] != (0.123456789012,)


def test_bcf_gives_every_digit_it_holds(write):
    columns = (*COLUMNS, "FORMAT", "s1", "s2")
    header = (*HEADER, '##FORMAT=<ID=GQ,Number=1,Type=Float,Description="q">')
    header = (*header, '##FORMAT=<ID=GP,Number=.,Type=Float,Description="p">')
    line = f"{record(info='AF=0.12345679', qual='1.2345678e+06')}\tGP:GQ\t0.12345679,.:.\t.:1.5"
    path = write([line], form="bcf", header=header, columns=columns)
    table = read_variants(path, columns=["AF", "qual"])
    assert np.float32(table["AF"][0]) == np.float32("0.12345679")
    assert table["qual"][0] == 1234567.8
    from embedstore.variants.source import open_source

    with open_source(path) as source:
        (only,) = source.records
    assert only.cells == line.split("\t")


def test_what_the_header_does_not_define_is_not_lost(write, capfd):
    lines = ["##fileformat=VCFv4.2"]
    path = write(
        [record("chrUn", 3, info="X=1,2;Y=4;F;CLNSIG=Benign"), record("chr9", 3, info="X=3;Y=5;MC=SO:0001627|i")],
        header=lines,
    )
    table = read_variants(path, columns=["X", "Y", "F"])
    assert table["chromosome"].tolist() == ["chrUn", "chr9"]
    assert table[["X", "Y", "F"]].to_numpy().tolist() == [["1,2", 4, "True"], ["3", 5, ""]]
    np.testing.assert_array_equal(table["label"], [0, np.nan])
    assert table["consequence"].tolist() == ["", "intron_variant"]
    assert capfd.readouterr() == ("", "")


def test_htslib_is_quiet_meanwhile_and_as_before_afterwards(write, capfd):
    before = pysam.set_verbosity(3)
    try:
        with pytest.raises(InputError, match="htslib does not read the header"):
            read_variants(write([record()], columns=(*COLUMNS, "FORMAT", "s", "s")))
        assert pysam.get_verbosity() == 3
        assert capfd.readouterr() == ("", "")
    finally:
        pysam.set_verbosity(before)


GOOD = vcf_text([record(pos=10), record(pos=20)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"v.vcf: the file is empty; variants are wanted"),
        ("\n \n", r"v.vcf: the file is empty; variants are wanted"),
        (vcf_text([]), r"v.vcf: has a header but no records"),
        ("\n".join(HEADER) + "\n", r"v.vcf: no line names the columns .*Is the file whole"),
        (
            "\n".join([*HEADER, record()]) + "\n",
            r"v.vcf:10: the line is 'chr1.*before the first record a line is wanted",
        ),
        (GOOD.replace("\t", " "), r"v.vcf:10: the line is .* It is separated by spaces"),
        (GOOD.split("\n", 1)[1], r"v.vcf:1: the line is '##FILTER.*; a VCF begins with ##fileformat=VCF"),
        ("\t".join(COLUMNS) + "\n" + record(), r"v.vcf:1: the line is '#CHROM.*; a VCF begins with ##fileformat"),
        ("\ufeff" + GOOD, r"v.vcf:1: begins with a byte order mark"),
        (GOOD + record().replace("\t", " ") + "\n", r"v.vcf:13: 1 column\(s\), 8 are wanted.*separated by spaces"),
        (
            GOOD + record().replace("\t", "\t\t", 1) + "\n",
            r"v.vcf:13: 9 column\(s\), 8 are wanted as in the header: '[^']*'\.$",
        ),
        (GOOD + "chr1\t30\t.\tA\n", r"v.vcf:13: 4 column\(s\), 8 are wanted as in the header: 'chr1\\t30"),
        (GOOD + record() + "\tGT\t0/1\n", r"v.vcf:13: 10 column\(s\), 8 are wanted"),
        (GOOD + GOOD, r"v.vcf:13: a line of a header among the records: '##fileformat.*bcftools concat"),
        (GOOD + "\n" + record() + "\n", r"v.vcf:13: the line is blank; a record is wanted"),
        *[
            (GOOD + record(pos=pos) + "\n", rf"v.vcf:13: POS is '{shown}'; a whole number is wanted, 1 for the first")
            for pos, shown in (("x2", "x2"), ("1.5", "1.5"), ("", ""), ("-4", "-4"), ("+3", r"\+3"), ("٣", "٣"))
        ],
        (GOOD + record(pos="9" * 19) + "\n", r"v.vcf:13: POS is '9+'; a whole number"),
        (GOOD + record(chrom="") + "\n", r"v.vcf:13: CHROM is ''; text without spaces is wanted"),
        (GOOD + record(chrom="chr 1") + "\n", r"v.vcf:13: CHROM is 'chr 1'"),
        (GOOD + record(ref="") + "\n", r"v.vcf:13: REF is ''"),
        (GOOD + record(alt="") + "\n", r"v.vcf:13: ALT is ''.*'.' for no alternate"),
        (GOOD + record(alt="C,,G") + "\n", r"v.vcf:13: ALT is 'C,,G'"),
        (GOOD + record(id="a\rb") + "\n", r"v.vcf:13: a carriage return within a line"),
        (GOOD + record(id="a\0b") + "\n", r"v.vcf:13: a NUL byte"),
        (vcf_text([record(info="AF=1,2")]), r"v.vcf:11: AF is '1,2': 2 value\(s\), 1 are wanted \(Number=A"),
        (vcf_text([record(info="AF=x")]), r"v.vcf:11: AF is 'x'; a number is wanted, as the header says"),
        (vcf_text([record(info="DP=1.5")]), r"v.vcf:11: DP is '1.5'; a whole number is wanted"),
        (vcf_text([record(info="DP=1;DP=2")]), r"v.vcf:11: INFO holds DP twice"),
        (vcf_text([record(qual="abc")]), r"v.vcf:11: qual is 'abc'; a number is wanted"),
    ],
)
def test_a_damaged_vcf_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "v.vcf").write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        read_variants(tmp_path / "v.vcf", columns=["AF", "DP", "qual"])


def test_bytes_that_are_no_variants(tmp_path, write):
    path = tmp_path / "x"
    for data, message in (
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "is neither VCF, BCF, BED nor TSV"),
        (GOOD.encode("utf-16"), "is neither VCF, BCF, BED nor TSV"),
        (GOOD.encode().replace(b"\t.\tA", b"\t\xe9\tA", 1), "x:11: is not UTF-8 text"),
        (b"chr1\t5\t.\tA\tC\n", "x:1: cannot tell what the file is: it begins with 'chr1.*mend its first line"),
        (gzip.compress(b""), "the file is empty"),
        (b"\x1f\x8b", "compressed file is cut off or damaged"),
        (b"BCF\1\1\0\0\0\0", "x:1: cannot tell|x:1: a NUL|x:1: the line is"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            read_variants(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_variants(tmp_path / "none.vcf")
    with pytest.raises(InputError, match="format is 'gff'; it must be one of vcf, bed, tsv"):
        read_variants(path, format="gff")


def many(count=3000):
    rng = np.random.default_rng(0)
    return [record(pos=pos, id=f"rs{rng.integers(2**40)}", info=f"AF={rng.random():.12f}") for pos in range(1, count)]


@pytest.mark.parametrize("form", ["gzip", "bgzip", "bcf", "bcf_gzip"])
def test_a_file_cut_off_anywhere_is_noticed(write, form):
    path = write(many(), form=form)
    data = path.read_bytes()
    assert len(read_variants(path)) == 2999
    cuts = [*np.linspace(30, len(data) - 1, 25, dtype=int)]
    if form in {"bgzip", "bcf"}:  # at the end of each block, and without the empty one that ends the file
        starts = [0]
        while starts[-1] < len(data):
            starts.append(starts[-1] + int.from_bytes(data[starts[-1] + 16 : starts[-1] + 18], "little") + 1)
        assert len(starts) > 3
        cuts += starts[1:-1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match=r"cut off|damaged"):
            read_variants(path)


@pytest.mark.parametrize("form", ["gzip", "bgzip", "bcf"])
def test_a_flipped_bit_is_noticed(write, form):
    path = write(many(), form=form)
    data = bytearray(path.read_bytes())
    for place in np.linspace(40, len(data) - 40, 12, dtype=int):
        data[place] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"cut off or damaged|BCF file is cut off"):
            read_variants(path)
        data[place] ^= 0xFF


def test_a_bcf_whose_records_end_between_blocks(write):
    """Whole blocks and the empty one at the end, but half a record: htslib reads such a file without a word."""
    path = write(many(), form="bcf_plain")
    data = path.read_bytes()
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(data[:-20])
    with pytest.raises(InputError, match=r"the BCF file is cut off after 2,998 records. Fetch it again"):
        read_variants(path)


def test_a_last_line_without_an_end_is_read_and_logged(tmp_path, caplog):
    (tmp_path / "v.vcf").write_text(GOOD[:-1])
    assert len(read_variants(tmp_path / "v.vcf")) == 2
    assert "v.vcf:12: the last line has no line end: was the file cut off there?" in caplog.text
    caplog.clear()
    (tmp_path / "v.vcf").write_text(GOOD + "\n\n")
    assert len(read_variants(tmp_path / "v.vcf")) == 2
    assert caplog.text == ""


def test_htslib_and_the_text_must_agree(write, monkeypatch):
    """Two readers of one record: a difference in either direction stops the reading."""
    path, other = write([record(pos=10), record(pos=20)]), None
    opened = pysam.VariantFile
    for records, message in (
        ([record(pos=10), record(pos=21)], r"v.vcf:12: htslib reads the record as \('chr1', 21, 'A', \('C',\)\), and"),
        ([record(pos=10)], r"v.vcf:12: htslib reads the record as None"),
        ([record(pos=10), record(pos=20), record()], r"v.vcf:12: htslib reads a record after this one"),
        ([record(pos=10), "chr1\t1"], r"v.vcf:12: htslib cannot read the record 'chr1.*Mend or remove it"),
    ):
        other = write(records, name="other.vcf")
        with monkeypatch.context() as patch:
            patch.setattr(pysam, "VariantFile", lambda _, other=other, **options: opened(str(other), **options))
            with pytest.raises(InputError, match=message):
                read_variants(path)
    path, other = write([record(), record()], form="bcf"), write([record()], form="bcf", name="other.vcf")
    monkeypatch.setattr(pysam, "VariantFile", lambda _, **options: opened(str(other), **options))
    with pytest.raises(InputError, match=r"v.vcf: record 1: htslib ends before it; 2 records are in the file"):
        read_variants(path)


def test_a_bcf_that_htslib_cannot_read(write):
    """An allele whose length is not that of the record: sizes are right, the contents are not."""
    path = write([record(), record()], form="bcf_plain")
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    data[-20:-10] = b"\xff" * 10
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"record 1: htslib cannot read it .*Fetch the file again"):
        read_variants(path)


def test_pysam_is_named_where_it_is_missing(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(InputError, match=r"need pysam; install 'embedstore\[variants\]'"):
        read_variants(write([record()]))


# Labels and consequences

CLNSIG = '##INFO=<ID=CLNSIG,Number=.,Type=String,Description="x">'
MC = '##INFO=<ID=MC,Number=.,Type=String,Description="x">'


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Pathogenic", 1),
        ("Likely_pathogenic", 1),
        ("Pathogenic/Likely_pathogenic", 1),
        ("Pathogenic|drug_response", 1),
        ("Pathogenic/Likely_pathogenic/Pathogenic,_low_penetrance|other", 1),
        ("likely pathogenic", 1),
        ("Benign", 0),
        ("Benign/Likely_benign|other", 0),
        ("Uncertain_significance", None),
        ("Conflicting_interpretations_of_pathogenicity", None),
        ("Conflicting_classifications_of_pathogenicity|Pathogenic", None),
        ("Uncertain_significance/Likely_pathogenic", None),
        ("Benign/Pathogenic", None),
        ("not_provided", None),
        ("Affects|risk_factor", None),
        (".", None),
    ],
)
def test_labels_from_clinvar(write, text, label):
    path = write([record(info=f"CLNSIG={text}"), record(info="CLNSIG=Benign")], header=(*HEADER, CLNSIG))
    np.testing.assert_array_equal(read_variants(path)["label"], [np.nan if label is None else label, 0])


def test_clinvar_per_alternate_and_its_old_codes(write):
    records = [record(alt="C,G", info="CLNSIG=Pathogenic,Benign"), record(alt="C,G", info="CLNSIG=Pathogenic,_x")]
    table = read_variants(write(records, header=(*HEADER, CLNSIG)))
    assert table["label"].tolist() == [1, 0, 1, 1]
    with pytest.raises(InputError, match=r"v.vcf:12: CLNSIG is '5\|255': words such as Pathogenic are wanted"):
        read_variants(write([record(info="CLNSIG=5|255")], header=(*HEADER, CLNSIG)))


def test_labels_from_a_field_of_ones_own(write):
    header = (*HEADER, CLNSIG, '##INFO=<ID=TRUTH,Number=A,Type=String,Description="x">')
    words = ["0", "1", "0.0", "1.0", "True", "FALSE", "Pathogenic", "benign", ".", "NaN"]
    path = write([record(alt="C,G", info=f"TRUTH={word},1;CLNSIG=Benign") for word in words], header=header)
    table = read_variants(path, label="TRUTH")
    np.testing.assert_array_equal(table["label"][::2], [0, 1, 0, 1, 1, 0, 1, 0, np.nan, np.nan])
    assert (table["label"][1::2] == 1).all()
    with pytest.raises(InputError, match=r"no INFO field 'TRUHT'. Did you mean 'TRUTH'\?"):
        read_variants(path, label="TRUHT")
    with pytest.raises(InputError, match=r"no INFO field 'XX'. Known: AD, AF"):
        read_variants(path, columns=["XX"])
    assert list(read_variants(write([record()]))) == BASE
    with pytest.raises(InputError, match=r"v.vcf:11: GENE is 'x'; a label is wanted: 0 or 1"):
        read_variants(write([record(info="GENE=x")]), label="GENE")


def test_the_order_of_severity_is_whole():
    """Ensembl's terms, each with an accession of its own."""
    accessions, terms = zip(*SEVERITY, strict=True)
    assert len(set(accessions)) == len(set(terms)) == len(SEVERITY) == 41
    assert all(len(one) == 10 and one.startswith("SO:000") for one in accessions)
    order = ["splice_donor_variant", "stop_gained", "missense_variant", "splice_region_variant", "synonymous_variant"]
    order += ["5_prime_UTR_variant", "intron_variant", "upstream_gene_variant", "intergenic_variant"]
    assert sorted(order, key=terms.index) == order
    assert most_severe(["", "odd", "intron_variant"]) == "intron_variant"
    assert most_severe(["odd", "odder"]) == "odd"
    assert most_severe([""]) == ""


def test_consequences_from_clinvar(write):
    values = {
        "SO:0001627|intron_variant,SO:0001583|missense_variant": "missense_variant",
        "SO:0001587|nonsense": "stop_gained",
        "SO:0001619|non-coding_transcript_variant": "non_coding_transcript_variant",
        "SO:0002153|genic_upstream_transcript_variant,SO:0001628|x": "intergenic_variant",
        "SO:0002153|genic_upstream_transcript_variant": "genic_upstream_transcript_variant",
        "SO:9999999": "SO:9999999",
        ".": "",
    }
    path = write([record(alt="C,T", info=f"MC={value}") for value in values], header=(*HEADER, MC))
    assert read_variants(path)["consequence"].tolist() == np.repeat(list(values.values()), 2).tolist()
    assert read_variants(path, consequence="GENE")["consequence"].tolist() == [""] * 14


def annotated(parts, tool="VEP"):
    if tool == "VEP":
        described = f"Consequence annotations from Ensembl VEP. Format: {parts}"
    else:
        described = f"Functional annotations: '{parts}'"
    return (*HEADER, f'##INFO=<ID={"CSQ" if tool == "VEP" else "ANN"},Number=.,Type=String,Description="{described}">')


@pytest.mark.parametrize(
    ("ref", "alt", "value", "expected"),
    [
        (
            "A",
            "C,G",
            "C|missense_variant|x,G|intron_variant&splice_region_variant|x,C|stop_gained|y",
            ["stop_gained", "splice_region_variant"],
        ),
        ("A", "C,G", "G|intron_variant|x", ["", "intron_variant"]),
        ("CA", "C", "-|frameshift_variant|x", ["frameshift_variant"]),
        ("C", "CAT,CA", "A|frameshift_variant|x,AT|inframe_insertion|x", ["inframe_insertion", "frameshift_variant"]),
        # The same letter names one alternate in full and the other without its first letter.
        ("AT", "AA,A", "A|missense_variant|x,-|frameshift_variant|x", ["missense_variant", "frameshift_variant"]),
        ("AT", "AA,A", "A|missense_variant|x", ["missense_variant", ""]),
        # Different first letters: VEP takes nothing off.
        ("C", "T,CA", "T|missense_variant|x,CA|frameshift_variant|x", ["missense_variant", "frameshift_variant"]),
        # VEP --minimal.
        ("CAG", "CG,CTG", "-|frameshift_variant|x,T|missense_variant|x", ["frameshift_variant", "missense_variant"]),
        # Split after it was annotated: entries of the other alternate stay behind.
        ("A", "G", "C|stop_gained|x,G|intron_variant|x", ["intron_variant"]),
        ("A", "<DEL>", "<DEL>|transcript_ablation|x", ["transcript_ablation"]),
        ("A", "*,C", "C|intron_variant|x", ["", "intron_variant"]),
        ("A", ".", "C|intron_variant|x", [""]),
        ("a", "c", "C||x", [""]),
    ],
)
def test_consequences_of_each_alternate_from_vep(write, ref, alt, value, expected):
    header = annotated("Allele|Consequence|SYMBOL")
    table = read_variants(write([record(ref=ref, alt=alt, info=f"DP=1;CSQ={value}")], header=header))
    assert table["consequence"].tolist() == expected


def test_consequences_by_the_number_of_the_alternate(write):
    header = annotated("Consequence|Allele|ALLELE_NUM")
    records = [
        record(ref="AT", alt="AA,A", info="CSQ=stop_lost|A|2,intron_variant|-|1"),
        record(ref="A", alt="G", info="CSQ=stop_lost|C|1,intron_variant|G|2"),  # split afterwards: numbers are stale
    ]
    assert read_variants(write(records, header=header))["consequence"].tolist() == [
        "intron_variant",
        "stop_lost",
        "intron_variant",
    ]
    header = annotated("Consequence|SYMBOL")
    table = read_variants(write([record(alt="C,G", info="CSQ=stop_lost|x")], header=header))
    assert table["consequence"].tolist() == ["stop_lost", "stop_lost"]


def test_consequences_from_snpeff(write):
    header = annotated("Allele | Annotation | Annotation_Impact", "SnpEff")
    value = "ANN=CAT|inframe_insertion|x,CA|frameshift_variant&splice_region_variant|x"
    table = read_variants(write([record(ref="C", alt="CAT,CA", info=value)], header=header))
    assert table["consequence"].tolist() == ["inframe_insertion", "frameshift_variant"]
    table = read_variants(write([record(ref="AT", alt="AA,A", info="ANN=A|frameshift_variant|x")], header=header))
    assert table["consequence"].tolist() == ["", "frameshift_variant"]


def test_annotations_that_cannot_be_read(write):
    with pytest.raises(InputError, match=r"v.vcf:12: an annotation has 2 parts, 3 are wanted by the header: 'C\|x'"):
        read_variants(write([record(info="CSQ=C|x")], header=annotated("Allele|Consequence|SYMBOL")))
    for header in (HEADER, annotated("Allele|SYMBOL")):
        with pytest.raises(InputError, match=r"INFO field CSQ has no header line that says where the consequence"):
            read_variants(write([record(info="CSQ=C|x")], header=header), consequence="CSQ")
    header = (*HEADER, '##INFO=<ID=vep,Number=.,Type=String,Description="Format: Allele|Consequence">')
    table = read_variants(write([record(info="vep=C|stop_lost")], header=header), consequence="vep")
    assert table["consequence"].tolist() == ["stop_lost"]


def test_names_that_are_taken(write, caplog):
    names = ["reason", "position", "record", "window_n", "reason_input"]
    info = ";".join(f"{name}={place}" for place, name in enumerate(names))
    table = read_variants(write([record(info=info)]), columns=names)
    wanted = ["reason_input", "position_input", "record_input", "window_n_input", "reason_input_input"]
    assert list(table) == [*BASE, *wanted]
    assert table[wanted].to_numpy().tolist() == [[0, 1, 2, 3, 4]]
    assert "the name of column 'reason' is taken; it is kept as 'reason_input'" in caplog.text


# BED and TSV


def tabbed(path, rows, newline="\n"):
    path.write_bytes(newline.join("\t".join(map(str, row)) for row in [*rows, []]).encode())
    return path


BED = ["chromosome", "start", "end", "ref", "alt"]


def test_bed_rows_of_every_length(tmp_path, caplog):
    rows = [["chr1", 4, 4, "A", "C"], ["chr2", 4, 5, "A", "C"], ["chr1", 2, 5, "acg", "a"], ["chr1", 2, 2, "ACG", "A"]]
    path = tabbed(
        tmp_path / "v.bed", [[*BED, "label", "id", "gene", "start_of"], *[[*r, 1, "x", "g", 3] for r in rows]]
    )
    with caplog.at_level(logging.INFO):
        table = read_variants(path)
    assert list(table) == [*BASE, "label", "gene", "start_of"]
    assert table[BASE].to_numpy().tolist() == [
        [0, 1, 2, "chr1", 4, "A", "C", "x"],
        [1, 1, 3, "chr2", 4, "A", "C", "x"],
        [2, 1, 4, "chr1", 2, "ACG", "A", "x"],
        [3, 1, 5, "chr1", 2, "ACG", "A", "x"],
    ]
    assert table["label"].tolist() == [1.0] * 4
    assert table.attrs["rows"] == {"end = start": 2, "end = start + 1": 1, "end = start + length of ref": 1}
    assert "rows: 2 with end = start, 1 with end = start + 1, 1 with end = start + length of ref." in caplog.text
    crlf = tabbed(tmp_path / "w.bed", [line.split("\t") for line in path.read_text().splitlines()], "\r\n")
    pd.testing.assert_frame_equal(read_variants(crlf), table)
    packed = tmp_path / "v.bed.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(read_variants(packed), table)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [BED, ["chr1", 4, 7, "AC", "C"]],
            r"v.bed:2: start is 4, end is 7 and ref is 'AC'.* or start \+ length of ref",
        ),
        ([BED, ["chr1", 4, 3, "A", "C"]], r"v.bed:2: start is 4, end is 3"),
        ([BED, ["chr1", -1, 0, "A", "C"]], r"v.bed:2: start is -1; it must be 0 or more"),
        ([BED, ["chr1", "x", 0, "A", "C"]], r"v.bed:2: start is 'x'; a whole number"),
        ([BED, ["chr1", 4, 5, "A"]], r"v.bed:2: 4 cell\(s\), 5 are wanted"),
        ([BED, ["chr1", 4, 5, "A", "C"], ["chr1", 4, 5, "A", "-"]], r"v.bed:3: alt is '-'; letters .*as VCF does"),
        ([BED, ["chr1", 4, 5, "-", "C"]], r"v.bed:2: ref is '-'; letters"),
        ([BED, ["chr1", 4, 5, "A", ""]], r"v.bed:2: alt is ''; letters"),
        ([BED, ["chr1", 4, 5, "A,C", "G"]], r"v.bed:2: ref is 'A,C'; letters"),
        ([BED, ["chr 1", 4, 5, "A", "G"]], r"v.bed:2: chromosome is 'chr 1'; a name without spaces"),
        ([BED], r"v.bed: has a header but no rows"),
        ([["chr1", 4, 5, "A", "C"]], r"v.bed:1: the first line is 'chr1.*begins with chromosome, start, end"),
        ([[*BED[:4], "alternate"], ["chr1", 4, 5, "A", "C"]], r"v.bed:1: no column 'alt'. Did you mean 'alternate'\?"),
        ([["chrom", *BED[1:]], ["chr1", 4, 5, "A", "C"]], r"v.bed:1: .*a header is wanted that begins with chromosome"),
        ([[*BED, "label"], ["chr1", 4, 5, "A", "C", "maybe"]], r"v.bed:2: label is 'maybe'; a label is wanted: 0 or 1"),
    ],
)
def test_a_bad_bed_is_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_variants(tabbed(tmp_path / "v.bed", rows))


@pytest.mark.parametrize(
    "header",
    [
        ["CHROM", "POS", "REF", "ALT"],
        ["#CHROM", "POS", "REF", "ALT"],
        ["#chrom", "Pos", "ref", "Alt"],
        ["chr", "pos", "ref", "alt"],
        ["chromosome", "pos", "REF", "ALT"],
    ],
)
def test_tsv_counts_from_one(tmp_path, header):
    path = tabbed(
        tmp_path / "v.tsv", [[*header, "AF"], ["1", 1, "a", "c,G", 0.5], ["X", 0, "N", ".", 1], ["X", 9, "A", "*", 2]]
    )
    table = read_variants(path)
    assert list(table) == [*BASE, "AF"]
    assert table[BASE].to_numpy().tolist() == [
        [0, 1, 2, "1", 0, "A", "C", ""],
        [0, 2, 2, "1", 0, "A", "G", ""],
        [1, 0, 3, "X", -1, "N", "", ""],
        [2, 1, 4, "X", 8, "A", "*", ""],
    ]
    assert table["AF"].tolist() == [0.5, 0.5, 1, 2]


def test_tsv_with_other_columns(tmp_path):
    header = ["gene", "ALT", "REF", "POS", "CHROM", "ID", "id", "position", "CLNSIG", "so", "label", "start"]
    row = ["7", "C", "A", 5, "chr1", "R", ".", 4, "Pathogenic", "intron_variant", "0", 77]
    path = tabbed(tmp_path / "v.txt", [header, row])
    table = read_variants(path, consequence="so", label="CLNSIG", columns=["gene"])
    assert table.loc[0].to_dict() == {
        **dict(zip(BASE, [0, 1, 2, "chr1", 4, "A", "C", ""], strict=True)),
        "label": 1.0,
        "consequence": "intron_variant",
        "gene": 7,
        "ID": "R",
        "position_input": 4,
        "CLNSIG": "Pathogenic",
        "so": "intron_variant",
        "label_input": 0,
        "start_input": 77,
    }
    assert read_variants(path)["label"].tolist() == [0]
    named = tabbed(
        tmp_path / "w.tsv",
        [["chr", "pos", "ref", "alt", "MC", "consequence"], ["1", 2, "A", "C", "SO:0001587|x", "odd"]],
    )
    assert read_variants(named)["consequence"].tolist() == ["odd"]
    table = read_variants(named, consequence="MC")
    assert table[["consequence", "consequence_input"]].to_numpy().tolist() == [["stop_gained", "odd"]]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ["chrom", "position", "ref", "alt"],
            r"v.tsv:1: column 'position' does not say whether .* 0 or 1.*Rename it to 'pos'",
        ),
        (["chrom", "Start", "ref", "alt"], r"v.tsv:1: column 'Start' does not say whether the first nucleotide"),
        (["chrom", "chr", "pos", "ref", "alt"], r"v.tsv:1: columns chrom and chr both name the chromosome"),
        (["chrom", "pos", "ref", "alternate"], r"v.tsv:1: no column 'alt'. Did you mean 'alternate'\?.*1-based"),
        (["chrom", "ref", "alt"], r"v.tsv:1: no column 'pos'"),
        (["contig", "pos", "ref", "alt"], r"v.tsv:1: no column 'chrom'"),
        (["a", "b"], r"v.tsv:1: cannot tell what the file is"),
    ],
)
def test_a_tsv_whose_columns_do_not_say_enough(tmp_path, header, message):
    path = tabbed(tmp_path / "v.tsv", [header, ["1"] * len(header)])
    with pytest.raises(InputError, match=message):
        read_variants(path)


def test_bad_rows_and_missing_columns_of_a_tsv(tmp_path):
    path = tabbed(tmp_path / "v.tsv", [["chrom", "pos", "ref", "alt"], ["1", -1, "A", "C"]])
    with pytest.raises(InputError, match=r"v.tsv:2: pos is -1; it must be 0 or more"):
        read_variants(path)
    for option in ({"label": "clin"}, {"consequence": "clin"}, {"columns": ["clin"]}):
        with pytest.raises(InputError, match=r"v.tsv:1: no column 'clin'"):
            read_variants(tabbed(tmp_path / "v.tsv", [["chrom", "pos", "ref", "alt"], ["1", 1, "A", "C"]]), **option)


def test_the_format_can_be_named(tmp_path):
    path = tabbed(tmp_path / "v.bed", [["CHROM", "POS", "REF", "ALT"], ["1", 5, "A", "C"]])
    assert read_variants(path, format="tsv")["position"].tolist() == [4]
    with pytest.raises(InputError, match="a VCF begins with ##fileformat"):
        read_variants(path, format="vcf")


def test_nothing_is_left_in_the_temporary_directory(write, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    read_variants(write([record()], form="gzip"))
    assert list(folder.iterdir()) == []


def test_damage_that_shows_only_when_the_file_is_closed(write, monkeypatch):
    class Closing(pysam.VariantFile):
        def close(self):
            super().close()
            raise OSError("bad block")

    path = write([record()])
    monkeypatch.setattr(pysam, "VariantFile", Closing)
    with pytest.raises(InputError, match=r"v.vcf: the file is damaged \(bad block\). Fetch it again"):
        read_variants(path)


def test_public_names():
    assert variants.__all__ == sorted(variants.__all__)
    for name in variants.__all__:
        assert getattr(variants, name).__doc__
    assert set(variants.__all__) <= set(dir(variants))
    with pytest.raises(AttributeError, match="'embedstore.variants' has no attribute 'nothing'"):
        variants.nothing  # noqa: B018
