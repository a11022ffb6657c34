"""Proteins beside nucleotides: what a task takes, what a model takes, and that the two are never confused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embedstore
from embedstore import tasks
from embedstore.cli import main
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.planning import plan
from embedstore.sequences import check_letters, decode, encode
from embedstore.tasks import TaskRecord

GOLDEN = Path(__file__).parents[1] / "golden"
RESIDUES = "ACDEFGHIKLMNPQRSTVWYXBZUOJ"
PROTEINS = ["MKTAYIAKQR", "mkvlX", "ACGT"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(RESIDUES + RESIDUES.lower(), min_size=1, max_size=40), min_size=1, max_size=5))
def test_from_a_table_of_proteins_to_a_store_and_back(texts):
    with TemporaryDirectory() as folder:
        table, path = Path(folder, "p.csv"), Path(folder, "s.zarr")
        table.write_text("id,sequence,split\n" + "".join(f"s{i},{text},all\n" for i, text in enumerate(texts)))
        embedstore.open_store(path, mode="a").add_task(tasks.from_table(table, alphabet="protein"))
        store = embedstore.open_store(path)
        assert [decode(codes) for codes in store.sequences("p")] == [text.upper() for text in texts]
        assert store.record("p").alphabet == "protein"
        count = sum(map(len, texts))
        assert f"{len(texts)} samples, {count} aa" in repr(store)
        assert f"{count} residues" in repr(tasks.from_sequences("p", texts, alphabet="protein"))


@pytest.mark.parametrize(("letter", "cure"), [("*", "remove it"), ("-", ""), (".", ""), ("2", "")])
def test_what_is_no_residue(letter, cure):
    message = f"sample 1: residue 2 .0-based.: letter '{re.escape(letter)}' is no amino.*{cure}"
    with pytest.raises(InputError, match=message):
        tasks.from_sequences("p", ["MK", f"MK{letter}A"], alphabet="protein")


def test_proteins_in_files(tmp_path):
    (tmp_path / "p.csv").write_text("id,sequence,split\na,MKL,train\nb,MK*,test\n")
    with pytest.raises(InputError, match=r"p.csv:3: residue 2 \(0-based\): letter '\*'"):
        tasks.from_table(tmp_path / "p.csv", alphabet="protein")
    with pytest.raises(InputError, match=r"p.csv:2: .*letter 'M' is none of .* pass alphabet='protein'"):
        tasks.from_table(tmp_path / "p.csv")
    (tmp_path / "p.fa").write_text(">a one\nMKLV\nWWAC\n>b\nMKLVE-\n")
    task = tasks.from_fasta(tmp_path / "p.fa", alphabet="protein")
    assert decode(task.sequences(0, 1)[0]) == "MKLVWWAC"
    with pytest.raises(InputError, match=r"p.fa:5: b:5 \(0-based\): letter '-' is no amino acid"):
        task.sequences(1, 2)
    (tmp_path / "r.toml").write_text(
        'name = "tm"\nlevel = "sequence"\ntype = "value"\nmetric = "r2"\nalphabet = "protein"\n'
    )
    (tmp_path / "v.csv").write_text("id,sequence,split,label\na,MKL,train,3.5\n")
    assert tasks.from_table(tmp_path / "v.csv", record=tmp_path / "r.toml").record.alphabet == "protein"


def test_records():
    record = TaskRecord(name="tm", level="sequence", type="value", metric="r2", alphabet="protein")
    assert TaskRecord.from_dict(record.to_dict()) == record
    # A record of a store written before there were proteins.
    old = {key: value for key, value in record.to_dict().items() if key != "alphabet"}
    assert TaskRecord.from_dict(old).alphabet == "dna"
    with pytest.raises(InputError, match="alphabet is 'rna'; it must be one of dna, protein"):
        replace(record, alphabet="rna")
    with pytest.raises(InputError, match="a protein has no other strand"):
        replace(record, strand="given")
    # What is asked for goes before what the record says.
    given_dna = tasks.from_sequences("t", ["ACGT"], record=record, alphabet="dna")
    assert (given_dna.record.alphabet, record.alphabet) == ("dna", "protein")


def test_what_makes_no_sense_for_proteins(tmp_path):
    with pytest.raises(InputError, match="in which N is asparagine: leave out other_letters='N'"):
        tasks.from_sequences("p", PROTEINS, alphabet="protein", other_letters="N")
    record = TaskRecord(name="x", level="sequence", type="value", metric="r2", alphabet="protein")
    (tmp_path / "r.bed").write_text("chromosome\tstart\tend\tsplit\tlabel\nchr1\t0\t4\ttrain\t1\n")
    (tmp_path / "g.fa").write_text(">chr1\nACGTACGT\n")
    with pytest.raises(InputError, match="of proteins, and a BED file names regions"):
        tasks.from_bed(tmp_path / "r.bed", tmp_path / "g.fa", record=record)
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("p", PROTEINS, alphabet="protein"))
    with pytest.raises(InputError, match="one-hot rows are those of A, C, G, T"):
        store.embedding("p", "onehot")


def test_a_protein_has_no_strand(tmp_path):
    def table(strands):
        rows = [f"s{i},ACGT,all,{strand}" for i, strand in enumerate(strands)]
        (tmp_path / "p.csv").write_text("\n".join(["id,sequence,split,strand", *rows]) + "\n")
        return tmp_path / "p.csv"

    with pytest.raises(InputError, match="p.csv:4: strand is '-', but a protein has no other strand"):
        tasks.from_table(table(".+-"), alphabet="protein")
    assert list(tasks.from_table(table(".+-")).samples["strand"]) == [".", "+", "-"]
    assert list(tasks.from_table(table(".+"), alphabet="protein").samples["strand"]) == [".", "+"]
    with pytest.raises(InputError, match="sample 0: strand is '-'"):
        tasks.from_sequences("p", ["MK"], columns=pd.DataFrame({"strand": ["-"]}), alphabet="protein")


def test_a_hint_only_where_letters_are_those_of_a_protein():
    for text, hint in (
        ("ACRKV", ""),
        ("ACGU", " For RNA, write T for U first."),
        ("MKTAE", " If these are proteins.*"),
    ):
        with pytest.raises(InputError, match=rf"read such letters as N\.{hint}$"):
            tasks.from_sequences("d", [text])


def test_from_proteins_to_rows(tmp_path):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("p", PROTEINS, alphabet="protein"))
    store.add_task(tasks.from_sequences("d", ["ACGTACGT"]))
    model = load(GOLDEN / "esm2")
    embedstore.embed(store, "p", model, progress=False)
    again = embedstore.open_store(tmp_path / "s.zarr")
    assert again.record("p").alphabet == "protein"
    assert [decode(codes) for codes in again.sequences("p")] == ["MKTAYIAKQR", "MKVLX", "ACGT"]
    assert dict(again.open("p", "esm2").sizes) == {"nucleotide": 19, "channel": 32, "sample": 3}
    for task, other, message in (
        ("d", model, "are dna, model 'esm2' takes protein"),
        ("p", load(GOLDEN / "nt_v1"), ""),
    ):
        for run in (embedstore.embed, plan):
            with pytest.raises(InputError, match=message or "are protein, model 'nt_v1' takes dna"):
                run(store, task, other, progress=False)


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.fa").write_text(">a\nMKLV\n")
    words = ["embed", "p", "--model", str(GOLDEN / "esm2"), "--fasta", "p.fa"]
    assert main(words) == 1
    assert "pass alphabet='protein'" in capsys.readouterr().err
    assert main([*words, "--alphabet", "protein"]) == 0
    (tmp_path / "r.bed").write_text("chromosome\tstart\tend\n")
    assert main([*words, "--alphabet", "protein", "--bed", "r.bed", "--name", "x", "--store", "other.zarr"]) == 1
    assert "a BED file names regions of a genome, not proteins" in capsys.readouterr().err


@settings(deadline=None)
@given(st.text("ACGTUN", min_size=25, max_size=45))
def test_what_is_taken_for_a_protein(text):
    check_letters(encode(text + "M"), "protein", "It")
    if len(text) >= 30 and all(one in text for one in "ACG") and ("T" in text or "U" in text):
        with pytest.raises(InputError, match="looks like DNA"):
            check_letters(encode(text), "protein", "It")
    else:
        check_letters(encode(text), "protein", "It")


@pytest.mark.parametrize("text", ["A", "ACGTURYSWKMBDHVN", "N" * 50])
def test_letters_of_nucleotides(text):
    check_letters(encode(text), "dna", "It")


@pytest.mark.parametrize(
    "text",
    [
        "M",
        RESIDUES,
        "ACGT" * 7,  # too short to say
        "AAT" * 20,  # an antifreeze glycoprotein
        "GA" * 40,  # silk
        "ACG" * 20,  # no T
        "ACT" * 20,
        "AGT" * 20,
        "CGT" * 20,
        "ACGT" * 20 + "M",
    ],
)
def test_letters_of_proteins(text):
    check_letters(encode(text), "protein", "It")


@pytest.mark.parametrize(
    ("text", "alphabet", "message"),
    [
        (
            "ACGE",
            "dna",
            r"It takes nucleotides \(IUPAC codes\); letter 4 of the sequence is 'E'. The .* like a protein",
        ),
        ("AC-E", "dna", r"letter 3 of the sequence is '-'\.$"),
        ("acgt", "dna", "letter 1 of the sequence is 'a'"),
        ("MK*", "protein", r"It takes amino acids; letter 3 of the sequence is '\*'\.$"),
        ("ACGT" * 8, "protein", "a sequence of 32 letters, all of them A, C, G, T, U or N, looks like DNA"),
        ("ACGU" * 10, "protein", "looks like DNA"),
        ("ACGTN" * 6, "protein", "looks like DNA"),
    ],
)
def test_letters_of_another_kind(text, alphabet, message):
    with pytest.raises(InputError, match=message):
        check_letters(np.frombuffer(text.encode(), np.uint8), alphabet, "It")


def test_a_sequence_that_a_model_refuses_is_named(tmp_path):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    ids = ["short", "long"]
    store.add_task(tasks.from_sequences("p", ["MK", "MKLV" * 300], ids=ids, alphabet="protein"))
    model = load(GOLDEN / "esm2", windows=False)
    for options in ({}, {"resolution": "nucleotide"}):
        with pytest.raises(InputError, match="task 'p', sample 'long': A sequence of 1,200 letters is longer than"):
            embedstore.embed(store, "p", model, progress=False, **options)
