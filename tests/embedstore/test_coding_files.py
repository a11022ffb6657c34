"""Files of coding sequences: folders of FASTA with labels in their headers, and tables."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedstore.errors import InputError
from embedstore.sequences import decode
from embedstore.store import Store
from embedstore.tasks import TaskRecord, read_coding

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"
CDS = "ATGGCTTGGAAATAA"  # MAWK and a stop
MINE = TaskRecord(name="mine", level="sequence", type="value", metric="r2")


def fasta(*records):
    return "".join(f">{header}\n{sequence[:6]}\n{sequence[6:]}\n" for header, sequence in records)


def folder(path, **files):
    path.mkdir(parents=True)
    for name, headers in files.items():
        (path / f"{name}.fna").write_text(fasta(*((header, CDS) for header in headers)))
    return path


# ---- folders --------------------------------------------------------------------------------------


def test_a_folder_of_the_release(tmp_path):
    files = {"train": ["a|51.5", "b|40"], "val": ["c|1e1"], "test": ["d|-2.5"]}
    below = folder(tmp_path / "melting_point", **files)
    for path in (below, tmp_path):
        data = read_coding(path, "mpp")
        assert data.table["id"].tolist() == list("abcd")
        assert data.table["split"].tolist() == ["train", "train", "valid", "test"]
        assert data.table["label"].tolist() == [51.5, 40, 10, -2.5]
        assert set(data.table["protein"]) == {"MAWK"}
        assert set(data.source["files"]) == {"train.fna", "val.fna", "test.fna"}
    (below / "val.fna").rename(below / "validation.fa")
    (below / "test.fna").unlink()
    with gzip.open(below / "test.fasta.gz", "wt") as file:
        file.write(fasta(("d|-2.5", CDS)))
    pd.testing.assert_frame_equal(read_coding(below, "mpp").table, data.table)


def test_a_folder_of_secondary_structure(tmp_path):
    path = folder(
        tmp_path / "ssp", train=["a HHHH", "b EEEE"], CASP12=["c 0,1,2,7"], CB513=["d 0127"], TS115=["e|CCCC"]
    )
    table = read_coding(path, "ssp").table
    assert table["split"].tolist() == ["train", "train", "CASP12", "CB513", "TS115"]
    assert table["label"].tolist() == [(1,) * 4, (4,) * 4, (0, 1, 2, 7), (0, 1, 2, 7), (7,) * 4]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"test": ["a|1"]}, "no file train.fna; it holds test.fna. A folder with a FASTA file per split"),
        ({}, "no file train.fna; it holds nothing"),
        ({"train": ["a|1"], "extra": ["b|1"]}, "extra.fna: which split it holds does not follow .* train, val, valid"),
        (
            {"train": ["a|1"], "val": ["b|1"], "valid": ["c|1"]},
            "valid.fna: val.fna is there as well, and both are the s",
        ),
    ],
)
def test_a_folder_that_is_not_one_of_the_release(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        read_coding(folder(tmp_path / "x", **files), "mpp")


# ---- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name", "label"),
    [
        ("P1|51.5", "P1", 51.5),
        ("P1\t51.5", "P1", 51.5),
        ("P1 51.5", "P1", 51.5),
        ("P1,51.5", "P1", 51.5),
        ("sp|P1|7|51.5", "sp", 51.5),
        ("51.5", "one_0", 51.5),
        ("12 51.5", "12", 51.5),
        ("P1 label=51.5 length=5", "P1", 51.5),
        ("label=51.5", "one_0", 51.5),
        ("P1 0.50 0.50", "P1", 0.5),
    ],
)
def test_the_label_of_a_header(tmp_path, header, name, label):
    path = tmp_path / "one.fna"
    path.write_text(fasta((header, CDS)))
    table = read_coding(path, "mpp", split="test").table
    assert table[["id", "label", "split"]].to_numpy().tolist() == [[name, label, "test"]]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("P1", "the header 'P1' has no label. The id, then its label, one number as the last field"),
        ("P1|51.5|x", "has no label"),
        ("", "the header '' has no label"),
        ("P1|0.4|0.7", r"can be read in 2 ways \(0.7; 0.4\)"),
        ("0.4|0.7", r"can be read in 2 ways"),
        ("P1|nan", "has no label"),
    ],
)
def test_a_header_that_says_nothing_or_too_much_is_refused_with_its_line(tmp_path, header, message):
    path = tmp_path / "one.fna"
    path.write_text(fasta(("a|1", CDS), (header, CDS)))
    with pytest.raises(InputError, match=f"one.fna:4: .*{message}"):
        read_coding(path, "mpp", split="test")


@pytest.mark.parametrize(
    "header", ["a|HHHC", "a 1,1,1,7", "a|1117", "a 1 1 1 7", "a|1|1|1|7", "a 9 1,1,1,7", "[1, 1, 1, 7]", "a label=HHHC"]
)
def test_the_labels_of_residues_in_a_header(tmp_path, header):
    path = tmp_path / "one.fna"
    path.write_text(fasta((header, CDS)))
    table = read_coding(path, "ssp", split="CB513").table
    assert table["label"].tolist() == [(1, 1, 1, 7)]


def test_labels_of_residues_that_cannot_be_read(tmp_path):
    path = tmp_path / "one.fna"
    path.write_text(fasta(("a|helix", CDS)))
    with pytest.raises(InputError, match=r"one.fna:1: the header 'a\|helix' has no label. The id, then the classes"):
        read_coding(path, "ssp", split="CB513")
    path.write_text(fasta(("a|HH", CDS)))
    with pytest.raises(InputError, match=r"one.fna:1: label_length: 2 labels for 4 residues"):
        read_coding(path, "ssp", split="CB513")
    path.write_text(fasta(("a 3 1,1,1,7", CDS)))  # four in the last field, five in all: as many as codons
    with pytest.raises(
        InputError, match=r"one.fna:1: the header 'a 3 1,1,1,7' can be read in 2 ways \(1,1,1,7; 3,1,1,1,7"
    ):
        read_coding(path, "ssp", split="CB513")


def test_rows_are_numbered_where_ids_repeat(tmp_path):
    path = folder(tmp_path / "mpp", train=["protein|1", "protein|2"], test=["protein|3"])
    with pytest.raises(InputError, match=r"train.fna:4: repeated_id: id 'protein' .* \(ids='row' numbers them\)"):
        read_coding(path, "mpp")
    table = read_coding(path, "mpp", ids="row").table
    assert table["id"].tolist() == ["0", "1", "2"]
    assert set(table["input_id"]) == {"protein"}
    with pytest.raises(InputError, match="ids is 'x'; it must be 'given' or 'row'"):
        read_coding(path, "mpp", ids="x")


def test_a_file_that_is_no_fasta(tmp_path):
    path = tmp_path / "one.fna"
    path.write_text("<html>not found</html>\n")
    with pytest.raises(
        InputError, match="one.fna:1: the first line is '<html>not found</html>'; FASTA begins with '>'"
    ):
        read_coding(path, "mpp")
    with pytest.raises(InputError, match="a folder, a FASTA file .* or a table .* There is no such file"):
        read_coding(tmp_path / "one.xlsx", "mpp")


# ---- tables ---------------------------------------------------------------------------------------


def rows():
    return pd.DataFrame(
        {
            "id": list("abc"),
            "sequence": [CDS] * 3,
            "target": [1.5, -2, 3],
            "set": ["train", "val", "test"],
            "depth": [1, 2, 3],
        }
    )


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    else:
        frame.to_csv(path, sep="\t" if ".tsv" in path.name else ",", index=False)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.tsv.gz", "a.parquet", "a.jsonl"])
def test_tables_of_every_kind_say_the_same(tmp_path, name):
    table = read_coding(write(rows(), tmp_path / name), MINE).table
    assert table["label"].tolist() == [1.5, -2, 3]
    assert table["split"].tolist() == ["train", "valid", "test"]
    assert table["depth"].tolist() == [1, 2, 3]
    assert table["depth"].dtype == np.int64


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_labels_of_residues_as_lists(tmp_path, name):
    frame = pd.DataFrame({"cds": [CDS] * 2, "labels": [[1, 1, 1, -100], [7, 7, 0, 0]], "split": ["train", "CB513"]})
    table = read_coding(write(frame, tmp_path / name), "ssp").table
    assert table["label"].tolist() == [(1, 1, 1, -100), (7, 7, 0, 0)]


@pytest.mark.parametrize(
    ("name", "place"), [("a.csv", "a.csv:3"), ("a.jsonl", "a.jsonl:2"), ("a.parquet", "a.parquet: row 1")]
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, name, place):
    path = write(rows().assign(sequence=[CDS, CDS[:-1], CDS]), tmp_path / name)
    with pytest.raises(InputError, match=f"the first is at .*{place}.\n.*{place}: not_multiple_of_3: 14 nucleotides"):
        read_coding(path, MINE)


def test_json_that_is_no_table(tmp_path):
    path = tmp_path / "a.jsonl"
    for text, message in (
        ("{", "a.jsonl:1: is not JSON"),
        ('{"a": 1}\n[1]', "a.jsonl:2: holds list; an object with a key per column"),
        ('{"a": 1}\n{"b": 1}', "a.jsonl:2: has other keys than line 1: a, b. Write null for no value"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_coding(path, MINE)
    path.write_text(json.dumps({"cds": CDS, "label": 1, "split": "train", "protein": None}))
    assert read_coding(path, MINE).table["protein"].tolist() == ["MAWK"]


# ---- the command ----------------------------------------------------------------------------------


def test_the_command_adds_both_tasks_and_says_what_differs(run, tmp_path):
    write(rows(), tmp_path / "a.csv")
    code, out, err = run("coding", "a.csv", "--task", "mpp", "--store", "s.zarr")
    assert code == 0, err
    assert out.startswith(
        "Task('melting_point': 3 samples (1 train, 1 valid, 1 test), 45 nucleotides, labels per sample)\n"
    )
    assert "Task('melting_point.protein': 3 samples (1 train, 1 valid, 1 test), 12 residues, labels per sample)" in out
    assert "samples in train (paper)" in out
    assert Store(tmp_path / "s.zarr").tasks() == ["melting_point", "melting_point.protein"]
    code, _, _ = run("coding", "a.csv", "--task", "mpp", "--store", "s.zarr")  # again: the same
    assert code == 0
    code, _, err = run("coding", "a.csv", "--task", "mpp", "--store", "s.zarr", "--column", "label=depth")
    assert (code, "stored" in err) == (1, True)
    options = ("--column", "label=depth", "--name", "depths")
    assert run("coding", "a.csv", "--task", "mpp", "--store", "s.zarr", *options)[0] == 0
    assert "depths.protein" in Store(tmp_path / "s.zarr").tasks()


def test_the_command_writes_what_it_leaves_out(run, tmp_path):
    write(rows().assign(sequence=[CDS, CDS[:-1], CDS]), tmp_path / "a.csv")
    command = ("coding", "a.csv", "--task", "mpp", "--store", "s.zarr")
    code, _, err = run(*command)
    assert (code, "a.csv:3: not_multiple_of_3" in err) == (1, True)
    code, out, _ = run(*command, "--faults", "reject", "--rejects", "left.tsv")
    assert (code, "1 rows were left out: 1 not_multiple_of_3. They are in left.tsv." in out) == (0, True)
    rejects = pd.read_csv("left.tsv", sep="\t")
    assert rejects[["where", "id", "reason"]].to_numpy().tolist() == [["a.csv:3", "b", "not_multiple_of_3"]]
    for options, message in (
        (("--rejects", "x"), "--rejects names a file for rows that are left out; say --faults reject"),
        (
            ("--faults", "reject", "--rejects", "none/x"),
            "--rejects none/x: there is no folder none. Make it, or name another place.",
        ),
        (("--seed", "-1"), "seed is -1; a whole number from 0"),
        (("--column", "label"), "--column 'label': a name, '=' and the column of the table are wanted"),
        (("--transl-table", "two"), "--transl-table is 'two'; the number of a genetic code, or 'find', is wanted"),
    ):
        code, _, err = run(*command, *options)
        assert (code, message in err) == (1, True), err


def test_nonsense_variants_by_command(run, tmp_path):
    frame = rows().assign(sequence=["ATGTAATGGAAATAA", CDS, CDS])
    write(frame, tmp_path / "a.csv")
    command = ("coding", "a.csv", "--task", "fluorescence", "--store", "s.zarr", "--transl-table", "1")
    code, _, err = run(*command)
    assert (code, "Pass stops='X' (--stops X)" in err) == (1, True)
    assert not (tmp_path / "s.zarr").exists()
    assert run(*command, "--stops", "X")[0] == 0
    proteins = Store(tmp_path / "s.zarr").sequences("fluorescence.protein")
    assert [decode(one) for one in proteins] == ["MXWK", "MAWK", "MAWK"]


def test_the_commands_shown_for_a_task_run(run, tmp_path):
    """As printed, but for the models."""
    folder(tmp_path / "ssp", train=["a HHHH", "b EEEE"], CASP12=["c 0,1,2,7"], CB513=["d 0127"], TS115=["e|CCCC"])
    _, out, _ = run("tasks", "ssp")
    add, *embed = [line.strip() for line in out.split("To use it\n")[1].strip().splitlines()]
    assert add == "embedstore coding ssp --task ssp --store store.zarr"
    code, _, err = run(*shlex.split(add)[1:])
    assert code == 0, err
    assert [line.split()[2] for line in embed] == ["secondary_structure", "secondary_structure.protein"]
    assert sorted(Store(tmp_path / "store.zarr").tasks()) == ["secondary_structure", "secondary_structure.protein"]
    code, _, err = run(*shlex.split(embed[0].replace("MODEL", str(MODEL)))[1:])
    assert code == 0, err
