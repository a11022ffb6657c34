"""Writing variants with scores: tables that come back equal, and copies whose every column is the one that was read."""

from __future__ import annotations

import errno
import gzip
import os
import sys
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import COLUMNS, FORMS, HEADER, record, vcf_text, write_form

from embedstore.errors import DiskSpaceError, InputError
from embedstore.variants import read_variants, write_scores

SAMPLES = (*COLUMNS, "FORMAT", "s1", "s2")
FORMATS = (
    *HEADER,
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">',
    '##FORMAT=<ID=GP,Number=.,Type=Float,Description="p">',
)
RECORDS = [
    f"{record('chr2', 100, 'rs1', 'A', 'G', '30.5', 'PASS', 'AF=0.25;DP=7')}\tGT:GP\t0/1:0.5,0.25\t0|1:.",
    f"{record('chr1', 5, '.', 'A', 'C,G,AT', info='AF=0.5,.,0.125;AD=4,3,2,1;DB;GENE=x')}\tGT\t./.\t1/1",
    f"{record('chr1', 5, 'rs2;rs3', 'A', '.', filter='q10')}\tGT\t0\t0",
    f"{record('chr1', 0, '.', 'N', '<DEL>')}\tGT\t0\t.",
    f"{record('chr1', 5, '.', 'ACG', '*,A')}\tGT\t0\t1",
]


@pytest.fixture
def source(tmp_path):
    return write_form(tmp_path / "source.vcf", vcf_text(RECORDS, FORMATS, SAMPLES), "plain")


def scored(source, **options):
    table = read_variants(source, **options)
    rng = np.random.default_rng(0)
    table["cosine"] = rng.random(len(table))
    table["llr_masked"] = rng.normal(size=len(table)) * 1e-7
    table["reason"] = ""
    odd = ~table["alt"].str.fullmatch("[ACGT]+")
    table.loc[odd, ["cosine", "llr_masked"]] = np.nan
    table.loc[odd, "reason"] = "no alternate, or: a symbolic one; 50% = half"
    return table


def body(path):
    data = path.read_bytes()
    text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    assert "\r" not in text
    return [line.split("\t") for line in text.splitlines() if not line.startswith("##")]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_come_back_equal(source, tmp_path, ending):
    table = scored(source, columns=["AF", "DB", "GENE"])
    table["label"] = np.where(table["record"] == 1, 1, np.nan)
    path = write_scores(table, tmp_path / f"out.{ending}")
    assert path == tmp_path / f"out.{ending}"
    if ending == "parquet":
        back = pd.read_parquet(path)
    else:
        numbers = table.select_dtypes("number").columns
        back = pd.read_csv(
            path,
            sep="," if ending == "csv" else "\t",
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )
    pd.testing.assert_frame_equal(back, table, check_exact=True)


@pytest.mark.parametrize("ending", ["vcf", "vcf.gz", "bcf"])
@pytest.mark.parametrize("form", FORMS)
def test_copies_keep_every_column_and_every_record(tmp_path, form, ending):
    source = write_form(tmp_path / "source", vcf_text(RECORDS, FORMATS, SAMPLES), form)
    before = source.read_bytes()
    table = scored(source)
    path = write_scores(table, tmp_path / f"out.{ending}", source=source, scores=["cosine", "llr_masked"])
    assert source.read_bytes() == before
    with pysam.VariantFile(str(path)) as theirs:
        assert theirs.format == ("BCF" if ending == "bcf" else "VCF")
        assert theirs.header.info["ES_COSINE"].number == "A"
        for number, one in enumerate(theirs):
            own = table[table["record"] == number]
            for name in ("cosine", "llr_masked"):
                values = np.array(one.info[f"ES_{name.upper()}"], np.float64)
                np.testing.assert_array_equal(values, own[name].astype(np.float32))
            reasons = [unquote(part).replace("_", " ") for part in one.info["ES_REASON"]]
            assert reasons == [reason or "." for reason in own["reason"]]
    if ending == "bcf":
        view = tmp_path / "view.vcf"
        with view.open("w") as file, pysam.VariantFile(str(path)) as theirs:
            file.write(str(theirs.header))
            file.writelines(map(str, theirs))
        path = view
    lines = body(path)
    assert lines[0] == list(SAMPLES)
    for cells, text in zip(lines[1:], RECORDS, strict=True):
        kept = [part for part in cells[7].split(";") if not part.startswith("ES_")]
        cells[7] = ";".join(kept) or "."
        wanted = text.split("\t")
        assert cells == wanted


def test_text_is_copied_letter_by_letter(tmp_path):
    """What htslib would write otherwise: numbers, order of the header, and what the header lacks."""
    records = [
        record(qual="30.00", info="AF=0.10;ZZ=1,2;DP=3000000000", filter="odd"),
        record("chrUn", 7, info="AF=1e-3"),
    ]
    header = [HEADER[0], "##note=a,b", *HEADER[:0:-1]]
    text = vcf_text(records, header)
    source = write_form(tmp_path / "source.vcf", text, "crlf")
    table = read_variants(source).assign(reason="", s=[0.1 + 0.2, 1e-300])
    path = write_scores(table, tmp_path / "out.vcf", source=source, scores=["s"])
    lines = path.read_text().splitlines()
    added = [line for line in lines if line.startswith("##INFO=<ID=ES_")]
    assert len(added) == 2
    assert [line for line in lines if line not in added][:-2] == text.splitlines()[:-2]
    assert lines[-2:] == [
        f"{records[0]};ES_S=0.30000000000000004;ES_REASON=.",
        f"{records[1]};ES_S=1e-300;ES_REASON=.",
    ]
    again = read_variants(path, columns=["ES_S"])
    assert again["ES_S"].tolist() == table["s"].tolist()


def test_alleles_are_the_same_in_either_case(tmp_path):
    """A table that was checked has all of them in upper case."""
    source = tmp_path / "source.vcf"
    source.write_text(vcf_text([record(ref="a", alt="c,<del>,g]chr2:5]")]))
    table = read_variants(source).assign(reason="", s=0.5)
    assert table["alt"].tolist() == ["C", "<del>", "g]chr2:5]"]
    table["alt"] = table["alt"].str.upper()
    path = write_scores(table, tmp_path / "out.vcf", source=source, scores=["s"])
    assert body(path)[1][3:5] == ["a", "c,<del>,g]chr2:5]"]


def test_a_bcf_of_a_text_without_header_lines(tmp_path):
    source = tmp_path / "source.vcf"
    source.write_text(vcf_text([record("chrUn", 5, info="ZZ=1,2;F", filter="odd"), record()], HEADER[:1]))
    table = read_variants(source).assign(reason="", s=[0.5, np.nan])
    path = write_scores(table, tmp_path / "out.bcf", source=source, scores=["s"])
    back = read_variants(path, columns=["ZZ", "ES_S"])
    assert back["chromosome"].tolist() == ["chrUn", "chr1"]
    assert back["ZZ"].tolist() == ["1,2", ""]
    np.testing.assert_array_equal(back["ES_S"], [0.5, np.nan])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            {"info": "DP=3000000000"},
            r"source.vcf:11: BCF cannot keep 'DP=3000000000;ES_S.* would become 'DP=\.;.*vcf.gz",
        ),
        ({"info": "AF=x"}, r"source.vcf:11: BCF cannot keep 'AF=x;.* in column 8"),
        ({"qual": "high"}, r"source.vcf:11: BCF cannot keep 'high' in column 6: it would become '0'"),
        ({"qual": "1e39"}, r"source.vcf:11: BCF cannot keep '1e39' in column 6: it would become 'inf'"),
    ],
)
def test_what_bcf_would_change_in_silence_is_refused(tmp_path, cells, message):
    source = tmp_path / "source.vcf"
    source.write_text(vcf_text([record(**cells)]))
    table = read_variants(source).assign(reason="", s=0.5)
    with pytest.raises(InputError, match=message):
        write_scores(table, tmp_path / "out.bcf", source=source, scores=["s"])
    assert [path.name for path in tmp_path.iterdir()] == ["source.vcf"]
    write_scores(table, tmp_path / "out.vcf.gz", source=source, scores=["s"])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from(["C", "GT", "*", "<DEL>"]), max_size=3), st.booleans()), max_size=6))
def test_any_copy_read_again_is_the_table(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("copies")
    texts = [record(pos=place, alt=",".join(alts) or ".") for place, (alts, _) in enumerate([(["C"], True), *rows])]
    source = write_form(folder / "source.vcf", vcf_text(texts), "plain")
    table = read_variants(source)
    rng = np.random.default_rng(len(rows))
    known = np.array([True, *(known for _, known in rows)])[table["record"]] & (table["allele"] > 0).to_numpy()
    table["s"] = np.where(known, rng.random(len(table), np.float32), np.nan)
    table["reason"] = np.where(known, "", "because")
    shuffled = table.sample(frac=1, random_state=0)
    for ending in ("vcf", "vcf.gz", "bcf"):
        path = write_scores(shuffled, folder / f"out.{ending}", source=source, scores=["s"])
        back = read_variants(path, columns=["ES_S"])
        np.testing.assert_array_equal(back["ES_S"].to_numpy(np.float32), table["s"].to_numpy(np.float32))
        names = ["record", "allele", "chromosome", "position", "ref", "alt", "id"]
        pd.testing.assert_frame_equal(back[names], table[names])


def test_another_source_or_another_table_is_refused(source, tmp_path):
    table = scored(source)
    out = tmp_path / "out.vcf"
    out.write_text("before")

    def refused(message, changed=table, path=source):
        with pytest.raises(InputError, match=message):
            write_scores(changed, out, source=path, scores=["cosine"])
        assert out.read_text() == "before"
        assert sorted(each.name for each in tmp_path.iterdir() if "out" in each.name) == ["out.vcf"]

    other = tmp_path / "other.vcf"
    other.write_text(vcf_text(RECORDS[:-1], FORMATS, SAMPLES))
    refused(r"other.vcf: has 6 alternates in all, and the table 8 rows", path=other)
    other.write_text(vcf_text([*RECORDS, RECORDS[0]], FORMATS, SAMPLES))
    refused(r"other.vcf:18: record 5 is chr2:99 A>G, and the table has nothing there. Pass", path=other)
    other.write_text(vcf_text([RECORDS[0].replace("rs1\tA", "rs1\tC"), *RECORDS[1:]], FORMATS, SAMPLES))
    refused(r"other.vcf:13: record 0 is chr2:99 C>G, and the table has chr2:99 A>G there", path=other)
    other.write_text(vcf_text([RECORDS[1], RECORDS[0], *RECORDS[2:]], FORMATS, SAMPLES))
    refused(r"other.vcf:13: record 0 is chr1:4 A>C, chr1:4 A>G, chr1:4 A>AT, and the table has chr2:99", path=other)
    refused(
        r"source.vcf:14: record 1 is .*, and the table has chr1:4 A>C, chr1:4 A>AT, chr1:4 A>\. there", table.drop(2)
    )
    refused(r"source.vcf:14: record 1 is", pd.concat([table, table.iloc[[2]]]))
    refused(r"record 4 is .* and the table has chr1:4 ACG>\* there", table.iloc[:-1])


def test_what_cannot_be_written(source, tmp_path, monkeypatch):
    table = scored(source)
    out = tmp_path / "out.vcf"
    for options, message in (
        (
            {"path": tmp_path / "out.txt"},
            r"a name ending in one of .parquet, .csv, .tsv, .vcf, .vcf.gz, .bcf is wanted",
        ),
        ({"source": None}, r"is a copy of the one that was read, with scores added: pass source="),
        ({"scores": []}, r"pass scores=\["),
        ({"scores": "cosine"}, r"pass scores=\["),
        ({"scores": ["cosin"]}, r"the table has no column 'cosin'. Did you mean 'cosine'\?"),
        ({"scores": ["chromosome"]}, r"column 'chromosome' holds .*; the numbers of a score are wanted"),
        ({"table": table.drop(columns="reason")}, r"the table has no column 'reason'"),
        (
            {"table": table.rename(columns={"cosine": "co sine"}), "scores": ["co sine"]},
            r"'co sine' cannot be the name",
        ),
        ({"table": table.assign(Reason=1.0), "scores": ["Reason"]}, r"'Reason' cannot be the name"),
        ({"path": tmp_path / "none" / "out.vcf"}, r"out.vcf: cannot be written: No such file"),
        ({"path": tmp_path / "none" / "out.csv"}, r"out.csv: cannot be written: "),
        ({"source": tmp_path / "none.vcf"}, r"none.vcf: cannot be read: No such file"),
    ):
        given = {"table": table, "path": out, "source": source, "scores": ["cosine"], **options}
        with pytest.raises(InputError, match=message):
            write_scores(given.pop("table"), given.pop("path"), **given)
    first = write_scores(table, tmp_path / "first.vcf", source=source, scores=["cosine"])
    with pytest.raises(
        InputError, match=r"first.vcf: has the INFO field ES_COSINE already. .*annotate -x INFO/ES_COSINE"
    ):
        write_scores(table, out, source=first, scores=["cosine"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"Parquet needs pyarrow; install 'embedstore\[tables\]'"):
        write_scores(table, tmp_path / "out.parquet")


def test_a_full_disk_leaves_the_file_that_was_there(source, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("before")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskSpaceError, match=r"out.csv: the disk is full"):
        write_scores(scored(source), out)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "source.vcf"]
