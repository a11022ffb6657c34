"""The commands about variants: what they print and write, what they refuse, and that a stopped run goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from encoders import copy_of, rename_weights
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from toys import random_sequences
from variant_inputs import write_files, write_gff, write_vcf

import embedstore
import probes
from analysis.scoring import score_variants
from analysis.variant_files import VARIANT_FILES, beside, read_scores, suffix, task_name
from analysis.variant_reports import in_short
from embedstore.cli import main
from embedstore.errors import InputError, NotInStoreError
from embedstore.models import load
from embedstore.variants import write_scores
from embedstore.variants.reasons import REASONS

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "nt_v1"
FIELDS = ["--label", "LABEL", "--consequence", "KIND"]
DEADLINE = 120.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def run(run):
    return partial(run, "variants")


@pytest.fixture
def score(run, files):
    """Score the variants of the files, or of another file; without a store nothing is kept."""

    def score(*words, file=files.vcf, model=MODEL, fields=FIELDS, store="memory://"):
        where = ["--fasta", files.genome, "--store", store]
        return run("score", file, *where, "--model", model, *fields, "--context", 32, *words)

    return score


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """A folder with finished scores in a store of several blocks; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    words = [
        "--fasta",
        files.genome,
        "--model",
        MODEL,
        "--store",
        folder / "s.zarr",
        "--out",
        folder / "scores.parquet",
    ]
    scores = ["--scores", "cosine,l2,llr_masked", "--context", 32, "--columns", "AF"]
    assert main(["variants", "score", *map(str, (files.vcf, *words, *FIELDS, *scores))]) == 0
    return folder


# ---- check ---------------------------------------------------------------------------------------


def test_check_counts_kinds_and_reasons(run, files):
    chrom, pos, ref, alt = files.table.iloc[0][["chromosome", "position", "ref", "alt"]]
    lines = [
        (chrom, pos + 1, ref, alt, "."),
        (chrom, pos + 1, ref, f"{ref}{alt}A", "."),
        (chrom, pos + 1, ref, "<DEL>", "."),
        (chrom, pos + 1, ref, "<DUP>", "."),
        ("chrX", 5, "A", "C", "."),
    ]
    write_vcf(Path("some.vcf"), files.sim, lines)
    code, out, _ = run("check", "some.vcf", "--fasta", files.genome)
    assert code == 0
    assert "5 variants in 5 records\n" in out
    for pattern in (
        r"snv +1",
        r"insertion +1",
        r"The alternate allele is symbolic +2",
        r"The genome has no chromo\w+ +1",
    ):
        assert re.search(rf"^{pattern}$", out, re.MULTILINE), pattern
    assert re.search(r"^as given +2 +2 +100.0%$", out, re.MULTILINE)
    assert out.endswith("Every REF that can be compared is that of the genome.\n")


def wrong_letters(files, rows):
    """The variants with other letters as ref in some rows."""
    table = files.table.copy()
    for row in rows:
        other = next(letter for letter in "ACGT" if letter not in table.loc[row, ["ref", "alt"]].tolist())
        table.loc[row, "ref"] = other
    return [
        (r.chromosome, r.position + 1, r.ref, r.alt, f"LABEL={r.label};KIND={r.consequence}")
        for r in table.itertuples()
    ]


def test_check_lists_mismatches_and_writes_them(run, files):
    rows = list(range(2, 24))
    write_vcf(Path("wrong.vcf"), files.sim, wrong_letters(files, rows))
    code, out, _ = run("check", "wrong.vcf", "--fasta", files.genome)
    assert code == 1
    assert "22 mismatches" in out
    assert "... and 2 more; --out mismatches.tsv writes all of them." in out
    code, out, _ = run("check", "wrong.vcf", "--fasta", files.genome, "--out", "all.tsv")
    assert code == 1
    assert "All are in all.tsv." in out
    written = pd.read_csv("all.tsv", sep="\t")
    assert written["record"].tolist() == rows
    assert written["position"].tolist() == files.table["position"].iloc[rows].tolist()
    assert written["reason"].str.startswith("The reference allele differs").all()


def test_check_of_a_file_with_nothing_but_mismatches(run, files):
    write_vcf(Path("wrong.vcf"), files.sim, wrong_letters(files, range(36)))
    code, out, _ = run("check", "wrong.vcf", "--fasta", files.genome, "--out", "all.csv")
    assert (code, len(pd.read_csv("all.csv"))) == (1, 36)
    assert re.search(r"^as given +0 +36 +0.0%$", out, re.MULTILINE)
    # Rows with other reasons are counted too.
    write_vcf(Path("few.vcf"), files.sim, [*wrong_letters(files, range(36))[:1], ("chrX", 5, "A", "C", ".")])
    code, out, _ = run("check", "few.vcf", "--fasta", files.genome, "--out", "few.csv")
    assert (code, len(pd.read_csv("few.csv"))) == (1, 1)
    assert "2 variants in 2 records\n" in out
    assert re.search(r"^The genome has no chromosome +1$", out, re.MULTILINE)


def test_check_says_how_a_shifted_file_is_shifted(run, files, caplog):
    bed = files.table.assign(start=files.table["position"] + 1, end=files.table["position"] + 1)
    bed[["chromosome", "start", "end", "ref", "alt"]].to_csv("shifted.bed", sep="\t", index=False)
    code, out, _ = run("check", "shifted.bed", "--fasta", files.genome)
    assert code == 1
    assert "36 variants in 36 records, 36 with end = start\n" in out
    assert re.search(r"^one to the left +36 +36 +100.0%$", out, re.MULTILINE)
    assert "subtract 1" in caplog.text


# ---- score: what is written ----------------------------------------------------------------------


def test_scores_are_those_of_the_function(finished, files):
    table = pd.read_parquet(finished / "scores.parquet")
    assert table["position"].tolist() == files.table["position"].tolist()
    expected = score_variants(
        files.table, files.genome, load(MODEL), scores=("cosine", "l2", "llr_masked"), context=32, progress=False
    )
    for name in ("cosine", "l2", "llr_masked"):
        assert table[name].notna().all()
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-4, atol=1e-7)
    curves = pd.read_csv(finished / "scores.auroc.csv").set_index(["score", "group"])
    assert curves.loc[("cosine", "all"), "auroc"] == pytest.approx(roc_auc_score(table["label"], table["cosine"]))
    assert curves.loc[("llr_masked", "all"), "auroc"] == pytest.approx(
        roc_auc_score(table["label"], -table["llr_masked"])
    )
    assert set(curves.loc["l2"].index) == {"all", "splice_donor", "splice_acceptor", "synonymous", "intergenic"}
    assert (finished / "scores.roc.png").read_bytes().startswith(b"\x89PNG")
    assert not (finished / "scores.not_scored.tsv").exists()


def test_the_same_command_again_does_nothing(score):
    code, out, _ = score("--out", "a.csv", fields=[], store="store.zarr")
    assert code == 0
    assert "36 variants read, 36 scored in full, 0 not" in out
    assert re.search(r"^variants/nt_v1: \d+ windows, [\d.]+ \w+ stored per variant; [\d.]+ s$", out, re.MULTILINE)
    rows = sorted(Path("store.zarr/variants/embedding").rglob("*"))
    before = {path: path.stat().st_mtime_ns for path in rows}
    code, again, _ = score("--out", "b.csv", fields=[], store="store.zarr")
    assert re.search(r"^variants/nt_v1: .*; 0.0 s, (\d+) of \1 blocks were there already$", again, re.MULTILINE)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_every_row_stays_and_those_without_scores_are_written(score, files):
    lines = [*wrong_letters(files, [3]), (files.table["chromosome"][0], 50, "N", "*", ".")]
    write_vcf(Path("mixed.vcf"), files.sim, lines)
    code, out, _ = score("--out", "s.tsv", "--drop-mismatches", file="mixed.vcf", fields=[])
    assert code == 0
    assert "37 variants read, 35 scored in full, 2 not" in out
    assert re.search(r"^The reference allele differs from the genome, which has \.\.\. here +1$", out, re.MULTILINE)
    assert "These are in s.not_scored.tsv." in out
    table, lacking = pd.read_csv("s.tsv", sep="\t"), pd.read_csv("s.not_scored.tsv", sep="\t")
    assert len(table) == 37
    assert lacking["record"].tolist() == [3, 36]
    assert table["cosine"].isna().to_numpy().nonzero()[0].tolist() == [3, 36]
    # A later run without such rows leaves no list that is not its own.
    assert score("--out", "s.tsv", fields=[])[0] == 0
    assert not Path("s.not_scored.tsv").exists()


def test_without_labels_there_is_no_auroc(score, files):
    code, out, _ = score("--out", "s.csv", fields=[])
    assert code == 0
    assert "There are no labels, so there is no AUROC." in out
    assert sorted(path.name for path in Path().iterdir()) == ["s.csv"]
    write_vcf(Path("ones.vcf"), files.sim, [line for line in wrong_letters(files, []) if "LABEL=1" in line[4]])
    code, out, _ = score("--out", "s.csv", file="ones.vcf")
    assert "12 scored variants have the label 1, 0 the label 0: no AUROC." in out


def test_vcf_out_has_the_records_of_the_input(score, files, finished):
    import pysam

    code, _, _ = score("--out", "s.vcf.gz", fields=[])
    assert code == 0
    with pysam.VariantFile("s.vcf.gz") as written:
        found = [(record.chrom, record.start, record.info["ES_COSINE"][0]) for record in written]
    table = pd.read_parquet(finished / "scores.parquet")
    assert [row[:2] for row in found] == list(
        files.table[["chromosome", "position"]].itertuples(index=False, name=None)
    )
    np.testing.assert_allclose([row[2] for row in found], table["cosine"], rtol=1e-4, atol=1e-7)


def test_the_name_of_the_embedding_and_groups_of_allele_frequency(score):
    words = ["--name", "mine", "--task", "windows", "--columns", "AF", "--by", "AF", "--frames", 2, "--strands", "both"]
    code, out, err = score("--out", "s.csv", *words)
    assert code == 0, err
    assert len(re.findall(r"^windows\S*/mine: ", out, re.MULTILINE)) == 4
    groups = pd.read_csv("s.auroc.csv").query("positives + negatives > 0")["group"].tolist()
    assert groups == ["all", "[0.001, 0.01)", "[0.01, 0.05)", ">=0.05"]


def test_a_causal_model_and_its_off_by_one_windows_differ(score):
    causal = GOLDEN / "hyenadna"
    assert score("--out", "a.csv", "--scores", "cosine,llr_causal,llr_sequence", model=causal, fields=[])[0] == 0
    assert score("--out", "b.csv", "--off-by-one", model=causal, fields=[])[0] == 0
    right, slip = pd.read_csv("a.csv"), pd.read_csv("b.csv")
    assert (right["cosine"] != slip["cosine"]).all()
    assert right[["llr_causal", "llr_sequence"]].notna().all(axis=None)


# ---- score: what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "no/s.csv"], "--out no/s.csv: there is no folder no. Make it, or name another place."),
        (["--out", "s.xlsx"], "--out s.xlsx: the name must end in one of .parquet, .csv, .tsv, .vcf"),
        (["--out", "folder.csv"], "--out folder.csv is a folder; a file is wanted."),
        (["--out", "s.csv", "--scores", "cosin"], "There is no score 'cosin'. Did you mean 'cosine'?"),
        (["--out", "s.csv", "--scores", ","], "No score was named."),
        (["--out", "s.csv", "--by", "consequenc"], "has no column 'consequenc'. Did you mean 'consequence'?"),
        (["--out", "s.csv", "--label", "LABL"], "no INFO field 'LABL'. Did you mean 'LABEL'?"),
        (["--out", "s.csv", "--columns", "AFF"], "no INFO field 'AFF'. Did you mean 'AF'?"),
        (["--out", "s.csv", "--task", "../x"], "'../x' cannot be the name of a task"),
    ],
)
def test_what_is_asked_for_is_checked_before_the_model_is_loaded(score, words, message):
    """The model does not exist: whoever loads it first says that."""
    Path("folder.csv").mkdir()
    code, _, err = score(*words, model="no_such_model", store="store.zarr")
    assert (code, message in err) == (1, True), err
    assert not Path("store.zarr").exists()


def test_files_are_checked_before_the_model_is_loaded(score, run, files):
    model = "no_such_model"
    code, _, err = score("--out", "s.csv", file="no.vcf", model=model)
    assert (code, "no.vcf" in err) == (1, True)
    code, _, err = run("score", files.vcf, "--fasta", "no.fa", "--model", model, "--out", "s.csv")
    assert (code, "no.fa" in err) == (1, True)
    shutil.copy(files.vcf, "own.vcf")
    code, _, err = score("--out", "./own.vcf", file="own.vcf", model=model)
    assert (code, "is the input file, which would be overwritten" in err) == (1, True)
    write_vcf(Path("wrong.vcf"), files.sim, wrong_letters(files, [5]))
    code, _, err = score("--out", "s.csv", file="wrong.vcf", model=model)
    assert (code, "1 of 36 variants" in err, "--drop-mismatches" in err) == (1, True, True)
    bed = files.table.assign(start=files.table["position"], end=files.table["position"])
    bed[["chromosome", "start", "end", "ref", "alt"]].to_csv("v.bed", sep="\t", index=False)
    code, _, err = score("--out", "s.vcf", file="v.bed", model=model, fields=[])
    assert (code, "write a table (.parquet, .csv, .tsv) instead" in err) == (1, True)
    text = files.vcf.read_text().replace("##contig", "##INFO=<ID=ES_L2,Number=A,Type=Float,Description=x>\n##contig", 1)
    Path("scored.vcf").write_text(text)
    code, _, err = score("--out", "s.vcf", "--scores", "cosine,l2", file="scored.vcf", model=model)
    assert (code, "has the INFO field ES_L2 already" in err, "no_such_model" in err) == (1, True, False)
    store = embedstore.open_store("store.zarr", mode="a")
    store.add_task(embedstore.tasks.from_sequences("variants", random_sequences([30])))
    code, _, err = score("--out", "s.csv", model=model, store="store.zarr")
    assert (code, "has a task 'variants' that is not one of variants" in err) == (1, True)
    code, _, err = score("--out", "s.csv", "--task", "free", model=model, store="store.zarr")
    assert (code, "no_such_model" in err) == (1, True)


def test_other_variants_under_the_same_name_are_refused(score, files):
    assert score("--out", "s.csv", fields=[], store="store.zarr")[0] == 0
    write_vcf(Path("variants.vcf"), files.sim, wrong_letters(files, [])[:20])
    code, _, err = score("--out", "s.csv", file="variants.vcf", store="store.zarr")
    assert (code, "--task" in err or "another name" in err) == (1, True)


def test_a_model_that_cannot_give_a_score_is_refused(score, tmp_path):
    (tmp_path / "bare").mkdir()
    folder = copy_of("resnet_lm", tmp_path / "bare")
    shutil.copy(GOLDEN / "resnet_lm" / "tokenizer.json", folder)
    body = {
        name: None if name.startswith("cls.") else name.removeprefix("model.")
        for name in load_file(folder / "model.safetensors")
    }
    rename_weights(folder, body.get)
    code, _, err = score("--out", "s.csv", "--scores", "cosine,llr_masked", model=folder)
    assert (code, "has no language-model head" in err) == (1, True), err
    code, _, err = score("--out", "s.csv", "--precision", "bfloat16")
    assert (code, "computes in bfloat16, whose errors" in err) == (1, True)
    code, _, err = score("--out", "s.csv", "--scores", "llr_causal")
    assert (code, "llr_masked" in err) == (1, True)


@pytest.mark.parametrize("command", ["score", "mutagenesis"])
def test_a_mistyped_command_gets_a_hint(run, command):
    code, _, err = run(command[:-1])
    assert (code, f"Did you mean {command!r}?" in err) == (2, True)


# ---- evaluate and compare ------------------------------------------------------------------------


def test_evaluate_over_all_by_group_and_with_baselines(run, finished, files, tmp_path):
    gff = write_gff(tmp_path / "genes.gff3", files.sim)
    words = ["--fasta", files.genome, "--annotation", gff, "--out", "all.csv", "--draws", 20, "--groups", "1,000"]
    code, out, _ = run("evaluate", finished / "scores.parquet", "--scores", "cosine,llr_masked", *words)
    assert code == 0
    found = pd.read_csv("all.csv", keep_default_na=False, na_values={"auroc": ""}).set_index(["by", "score", "group"])
    table = pd.read_parquet(finished / "scores.parquet")
    expected = roc_auc_score(table["label"], -table["llr_masked"])
    assert found.loc[("consequence", "llr_masked", "all"), "auroc"] == pytest.approx(expected)
    assert found.loc[("consequence", "distance_to_splice_site", "all"), "auroc"] == 1
    assert found["clusters"].max() < 36
    assert "transition" in found.index.get_level_values("score")
    bins = found.loc["distance_to_splice_site"]
    assert bins.loc[("cosine", "0-2"), "positives"] == 12
    assert "all" not in bins.index.get_level_values("group")
    assert re.search(
        rf"^llr_masked +all +{expected:.3f} .* no interval: \d+ groups with label 1 and \d+ gr", out, re.MULTILINE
    )
    assert found.loc[("consequence", "llr_masked", "all"), "low"] == ""
    assert re.search(r"only 6 with label 1; 10 are wanted$", out, re.MULTILINE)
    assert "3-8" not in out


def test_evaluate_writes_among_the_results(run, finished, files, capsys):
    """Windows and embedding behind each score are found; the tables of probes then have the number."""
    path, store = finished / "scores.parquet", finished / "s.zarr"
    words = ["--store", store, "--results", "found", "--draws", 20, "--setting", "run=first"]
    code, out, _ = run("evaluate", path, "--scores", "cosine,llr_masked", *words)
    assert code == 0
    assert re.search(
        r"^cosine, all variants, of variants/nt_v1: among the results, found/variants/nt_v1/", out, re.MULTILINE
    )
    assert re.search(r"^llr_masked, all variants, of variants.masked/nt_v1.letters: among the res", out, re.MULTILINE)
    table, rows = pd.read_parquet(path), probes.read_results("found").set_index("task")
    assert rows.loc["variants", "test"] == pytest.approx(roc_auc_score(table["label"], table["cosine"]))
    assert rows.loc["variants.masked", "test"] == pytest.approx(roc_auc_score(table["label"], -table["llr_masked"]))
    assert (rows["probe"] == "zero-shot").all()
    capsys.readouterr()
    assert main(["results", str(store), "--out", "found", "--format", "csv"]) == 0
    assert f"{rows.loc['variants', 'test']:.3f}" in capsys.readouterr().out
    assert json.loads((Path(rows.loc["variants", "path"]) / "spec.json").read_text())["probe"]["run"] == "first"
    code, _, err = run("evaluate", path, "--scores", "AF", "--store", store, "--results", "found")
    assert (code, "AF may be of variants/nt_v1, variants.masked/nt_v1.letters. Say which one" in err) == (1, True)
    code, out, _ = run("evaluate", path, "--scores", "AF", *words, "--task", "variants", "--model", "nt_v1")
    assert (code, "AF, all variants, of variants/nt_v1: among the results" in out) == (0, True)


def test_evaluate_takes_any_column_of_numbers_and_any_format(run, finished, capsys):
    table = pd.read_parquet(finished / "scores.parquet").assign(mine=lambda t: t["label"] + 0.5, consequence="")
    table.to_csv("t.tsv", sep="\t", index=False)
    code, out, _ = run("evaluate", "t.tsv", "--scores", "mine", "--draws", 5)
    assert code == 0
    assert out.startswith("all variants\n")
    assert re.search(
        r"1.000 +1.000 .* no interval: \d+ variants with label [01].* to draw; 20 are wanted$", out, re.MULTILINE
    )
    pd.concat([table, table]).to_csv("t.tsv", sep="\t", index=False)
    assert "1.000 (1.000 to 1.000)" in run("evaluate", "t.tsv", "--scores", "mine", "--draws", 5)[1]


def test_compare_gives_the_difference_of_two_scores_and_of_two_tables(run, finished):
    path = finished / "scores.parquet"
    code, out, _ = run("compare", path, "--score", "l2,llr_masked", "--draws", 20, "--out", "d.csv")
    assert code == 0
    table, found = pd.read_parquet(path), pd.read_csv("d.csv").set_index(["group", "metric"]).loc[("all", "auroc")]
    sides = [roc_auc_score(table["label"], table["l2"]), roc_auc_score(table["label"], -table["llr_masked"])]
    assert found[["first", "second", "difference"]].tolist() == pytest.approx([*sides, sides[0] - sides[1]])
    assert f"first: l2 in {path}; second: llr_masked in {path}" in out
    table.assign(l2=-table["l2"]).to_csv("b.csv", index=False)
    code, out, _ = run("compare", path, "b.csv", "--score", "l2", "--draws", 20, "--by", "label", "--out", "e.csv")
    assert code == 0
    other = pd.read_csv("e.csv").set_index(["group", "metric"]).loc[("all", "auroc"), "second"]
    assert other == pytest.approx(1 - sides[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "no.parquet"], "no.parquet: there is no such file; `embedstore variants score"),
        (["evaluate", "scores.xls"], "scores.xls: a table of scores ends in .parquet, .csv, .tsv"),
        (["evaluate", "broken.parquet"], "broken.parquet cannot be read as a parquet table"),
        (["evaluate", "other.csv"], "other.csv has no column position, ref, alt, reason: it is not what"),
        (["evaluate", "plain.csv"], "plain.csv has no scores; name columns of numbers with --scores. Known: AF."),
        (
            ["evaluate", "T", "--scores", "cosin"],
            "There is no column of numbers in T called 'cosin'. Did you mean 'cosine'?",
        ),
        (["evaluate", "T", "--scores", "reason"], "There is no column of numbers in T called 'reason'"),
        (["evaluate", "T", "--by", "kin"], "has no column 'kin'. Did you mean 'kind'?"),
        (["evaluate", "T", "--groups", "gene"], "no column 'gene'"),
        (["evaluate", "T", "--annotation", "g.gff3"], "give the genome with --fasta"),
        (["evaluate", "T", "--setting", "a=b"], "--setting says what is written among the results: give --store"),
        (["evaluate", "T", "--out", "o.txt"], "--out o.txt: the name must end in one of .parquet, .csv, .tsv"),
        (["evaluate", "T", "--out", "T"], "is the input file, which would be overwritten"),
        (["compare", "plain.csv", "T", "--out", "T"], "is the input file, which would be overwritten"),
        (["compare", "T"], "'cosine' would be compared with itself"),
        (
            ["compare", "T", "--score", "l2,cosine,l2"],
            "--score l2,cosine,l2: one column of both tables, or two, are wanted",
        ),
        (
            ["compare", "T", "T", "--score", "cosime"],
            "There is no column of numbers in T called 'cosime'. Did you mean",
        ),
    ],
)
def test_tables_that_cannot_be_evaluated(run, finished, words, message):
    shutil.copy(finished / "scores.parquet", "T.parquet")
    Path("broken.parquet").write_bytes(b"PAR1")
    Path("other.csv").write_text("chromosome,score\nchr1,1\n")
    Path("plain.csv").write_text("chromosome,position,ref,alt,reason,AF\nchr1,1,A,C,,0.1\n")
    code, _, err = run(*(re.sub("^T$", "T.parquet", word) for word in words))
    assert code == 1
    assert re.sub(r" T\b", " T.parquet", message) in err


def test_scores_that_are_all_missing_have_no_table(run, finished):
    table = pd.read_parquet(finished / "scores.parquet")
    table.assign(cosine=np.nan).to_parquet("none.parquet")
    code, out, _ = run("evaluate", "none.parquet", "--scores", "cosine")
    assert (code, "No variant has both a label and a score." in out, "Empty" in out) == (0, True, False)
    table.drop(columns="label").to_parquet("plain.parquet")
    code, _, err = run("evaluate", "plain.parquet")
    assert (code, "no column 'label'" in err, "--label" in err) == (1, True, True)


# ---- mutagenesis ---------------------------------------------------------------------------------


def test_mutagenesis_writes_a_map_as_picture_and_numbers(run, files):
    import xarray as xr

    words = ["--fasta", files.genome, "--model", MODEL, "--context", 16]
    code, out, _ = run("mutagenesis", "chr1:100-112", *words, "--out", "map.png")
    assert code == 0
    assert "12 positions x 4 letters: map.png and map.csv" in out
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv("map.csv")
    assert "".join(table["reference"]) == files.sim.contigs["chr1"][100:112].tobytes().decode()
    code, _, _ = run("mutagenesis", "chr1:100-112", *words, "--out", "map.nc", "--store", "s.zarr")
    assert code == 0
    with xr.open_dataarray("map.nc") as found:
        np.testing.assert_allclose(found.to_numpy(), table[list("ACGT")], rtol=1e-4, atol=1e-7)
    changed = files.sim.contigs["chr1"][103:104].tobytes().decode()
    alt = next(letter for letter in "ACGT" if letter != changed)
    one = pd.DataFrame({"chromosome": ["chr1"], "position": [103], "ref": [changed], "alt": [alt]})
    expected = score_variants(one, files.genome, load(MODEL), context=16, progress=False)["cosine"]
    np.testing.assert_allclose(table[alt][3], expected[0], rtol=1e-4)
    code, _, _ = run("mutagenesis", "chr1:100-112", *words, "--out", "plain.csv", "--store", "s.zarr")
    assert code == 0
    pd.testing.assert_frame_equal(pd.read_csv("plain.csv"), table, rtol=1e-4)


def test_mutagenesis_refuses_at_once_what_it_cannot_do(run, files):
    words = ["--fasta", files.genome, "--model", "no_such_model"]
    for more, message in (
        (["--out", "map.gif"], "the name must end in one of .png, .pdf, .svg, .csv, .nc"),
        (["--out", "map.png", "--score", "cosin"], "Did you mean 'cosine'?"),
        (["--out", "map.png"], "no_such_model"),
    ):
        code, _, err = run("mutagenesis", "chr1:100-112", *words, *more)
        assert (code, message in err) == (1, True), err
    code, _, err = run("mutagenesis", "chr1:9", "--fasta", files.genome, "--model", MODEL, "--out", "map.png")
    assert (code, "chr1:9" in err) == (1, True)


# ---- names, files and texts ----------------------------------------------------------------------


def test_names_of_files(tmp_path):
    assert suffix(Path(".vcf"), VARIANT_FILES) == ""
    assert beside(Path("a/b.c.vcf.gz"), ".x") == Path("a/b.c.x")
    assert beside(Path("b.png"), ".x") == Path("b.x")
    for text in ("a.b.vcf.gz", "a.b.bed", "a.b.tsv.gz", "a.b.bcf", "a.b"):
        assert task_name(None, f"somewhere/{text}", str(tmp_path / "no.zarr")) == "a.b"
    with pytest.raises(InputError, match=r"'a b' cannot be the name of a task.* Name it with --task\."):
        task_name(None, "a b.vcf", str(tmp_path / "no.zarr"))


def test_reasons_are_counted_by_what_they_have_in_common():
    values = {"name": "chrX", "hint": "", "letters": "N", "position": 3, "end": 9, "size": 8, "genome": "A"}
    for template in REASONS.values():
        texts = {in_short(template.format(**values | {"alt": alt, "error": alt})) for alt in ("<A>", "<B>")}
        assert len(texts) == 1
        assert "{" not in texts.pop()
    assert in_short("the window holds a letter that is refused: R") == "the window holds a letter that is refused"
    assert in_short("llr_masked: only single nucleotides") == "llr_masked: only single nucleotides"
    past = REASONS["past"].format(end="9", size="8")
    assert in_short(past) == "The reference allele ends at ..., past the end of the chromosome (... nucleotides)"


def test_columns_that_have_the_name_of_a_score_are_kept(score, files, caplog):
    table = files.table.assign(chrom=files.table["chromosome"], pos=files.table["position"] + 1, cosine=7.5, l2=0.5)
    table[["chrom", "pos", "ref", "alt", "cosine", "l2"]].to_csv("own.tsv", sep="\t", index=False)
    assert score("--out", "s.parquet", file="own.tsv", fields=[])[0] == 0
    found = pd.read_parquet("s.parquet")
    assert (found["cosine_input"] == 7.5).all()
    assert (found["l2"] == 0.5).all()
    assert (found["cosine"] < 7.5).all()
    assert "column 'cosine' is taken by a score; it is kept as 'cosine_input'" in caplog.text


def test_text_tables_come_back_as_they_were_written(tmp_path):
    table = pd.DataFrame(
        {
            "chromosome": ["1", "2"],
            "position": [4, 5],
            "ref": ["NA", "A"],
            "alt": ["", "NA"],
            "reason": ["", "no"],
            "cosine": [0.1234567890123, np.nan],
            "gene": ["", "NA"],
            "empty": ["", ""],
        }
    )
    for name in ("t.csv", "t.tsv", "t.parquet"):
        write_scores(table, tmp_path / name)
        pd.testing.assert_frame_equal(read_scores(tmp_path / name), table, check_dtype=False)


# ---- killed --------------------------------------------------------------------------------------

SLOW = """
import sys, time
from toys import small_blocks
from embedstore.cli import main
from embedstore.models.model import Model
small_blocks()
hidden = Model.hidden
def slow(*arguments, **options):
    time.sleep(0.1)
    return hidden(*arguments, **options)
Model.hidden = slow
sys.exit(main(sys.argv[1:]))
"""


def committed(store: str) -> set[int]:
    try:
        embedding = embedstore.open_store(store).embedding("variants", "resnet_lm")
    except NotInStoreError:
        return set()
    return set(range(embedding.blocks)) - set(embedding.missing())


def test_a_killed_run_goes_on_where_it_was(score, files, tmp_path, many_blocks):
    """Killed between two blocks: those before are not written again, and the table is that of an undisturbed run."""
    model, words = GOLDEN / "resnet_lm", ["--out", "s.csv", "--batch-tokens", 64]
    command = ["variants", "score", files.vcf, "--fasta", files.genome, "--model", model, "--context", 32]
    command += ["--store", "s.zarr", *words]
    path = f"{Path(__file__).parents[1] / 'helpers'}:{Path(__file__).parents[2]}"
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with Path("log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *map(str, command)], env=environment, stderr=log, stdout=log
        )
        deadline = time.monotonic() + DEADLINE
        try:
            while not committed("s.zarr"):
                assert process.poll() is None, Path("log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL
    embedding = embedstore.open_store("s.zarr").embedding("variants", "resnet_lm")
    commits = {block: Path(f"s.zarr/variants/embedding/resnet_lm/commit/c/{block}/0") for block in committed("s.zarr")}
    before = {block: commit.stat().st_mtime_ns for block, commit in commits.items()}
    assert 0 < len(before) < embedding.blocks
    code, out, _ = score(*words, model=model, fields=[], store="s.zarr")
    assert code == 0
    assert f"{len(before)} of {embedding.blocks} blocks were there already" in out
    assert {block: commit.stat().st_mtime_ns for block, commit in commits.items()} == before
    whole = score_variants(files.table, files.genome, load(model), context=32, progress=False)
    found = pd.read_csv("s.csv")
    np.testing.assert_allclose(found["cosine"], whole["cosine"], rtol=1e-4, atol=1e-8)
    assert found["position"].tolist() == whole["position"].tolist()
    assert found["reason"].isna().all()
