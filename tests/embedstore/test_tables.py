from __future__ import annotations

import gzip
import sys

import numpy as np
import pandas as pd
import pytest

from embedstore.errors import InputError
from embedstore.sequences import decode
from embedstore.tasks import TaskRecord, from_table

MARKS = TaskRecord(name="marks", level="sequence", type="multilabel", names=("a", "b", "c"), metric="auroc")
KIND = TaskRecord(name="kind", level="sequence", type="class", names=("no", "yes"), metric="mcc")
HEAT = TaskRecord(name="heat", level="sequence", type="value", metric="r2")

FRAME = pd.DataFrame(
    {
        "id": ["s1", "s2", "s3"],
        "sequence": ["ACGT", "ggNcc", "T"],
        "label": ["0,2", "1", "2"],
        "split": ["train", "valid", "test"],
        "species": ["yeast", "E. coli, K12", "yeast"],
        "weight": [1, 2, 3],
    }
)


def write(path, frame=FRAME):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="," if ".csv" in path.name else "\t", index=False)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.tsv.gz", "t.parquet", "T.v1.CSV"])
def test_every_format_gives_the_same_task(tmp_path, name):
    path = write(tmp_path / name.lower())
    path = path.rename(tmp_path / name)
    task = from_table(path, record=MARKS)
    assert task.name == "marks"
    assert [decode(codes) for codes in task.sequences(0, 3)] == ["ACGT", "GGNCC", "T"]
    assert [decode(codes) for codes in task.sequences(1, 2)] == ["GGNCC"]
    wanted = {
        "id": ["s1", "s2", "s3"],
        "chromosome": [""] * 3,
        "start": [0] * 3,
        "end": [4, 5, 1],
        "strand": ["."] * 3,
        "split": ["train", "valid", "test"],
        "length": [4, 5, 1],
        "species": ["yeast", "E. coli, K12", "yeast"],
        "weight": [1, 2, 3],
    }
    assert task.samples.to_dict("list") == wanted
    assert list(task.samples) == list(wanted)
    assert task.labels.values.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert task.labels.dims == ("sample", "target")
    assert task.source["kind"] == "table"


def test_labels_of_other_types(tmp_path):
    labels = from_table(write(tmp_path / "k.csv", FRAME.assign(label=["0", "1", "-100"])), record=KIND).labels
    assert (labels.values.tolist(), labels.values.dtype, labels.dims) == ([0, 1, -100], np.int16, ("sample",))
    labels = from_table(write(tmp_path / "h.csv", FRAME.assign(label=["0.5", "-1e3", "nan"])), record=HEAT).labels
    assert (labels.values.dtype, labels.names) == (np.float32, ())
    np.testing.assert_array_equal(labels.values, np.array([0.5, -1000, np.nan], np.float32))


def test_parquet_keeps_its_types(tmp_path):
    frame = FRAME.assign(
        label=[[0, 2], [], [1]],
        weight=[0.5, None, 2],
        code=["007", "1", None],
        flag=[True, False, True],
        count=pd.array([1, None, 3], dtype="Int64"),
        small=np.array([1, 2, 3], np.uint8),
    )
    task = from_table(write(tmp_path / "t.parquet", frame), record=MARKS, empty_labels="zero")
    assert task.labels.values.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert task.samples["code"].to_list() == ["007", "1", ""]
    assert task.samples["flag"].to_list() == [True, False, True]
    assert task.samples["count"].to_list() == ["1", "", "3"]
    assert task.samples["small"].dtype == np.int64
    np.testing.assert_array_equal(task.samples["weight"], [0.5, np.nan, 2])


def test_a_table_without_labels_and_splits(tmp_path):
    path = write(tmp_path / "plain.v2.csv", FRAME[["id", "sequence"]])
    with pytest.raises(InputError, match=":1: no column 'split'"):
        from_table(path)
    task = from_table(path, split="")
    assert (task.name, task.record.name, task.labels) == ("plain", "plain", None)
    assert task.samples["split"].to_list() == [""] * 3
    assert from_table(path, split="", name="mine").name == "mine"


def test_columns_that_say_where_a_sequence_came_from_are_used(tmp_path):
    places = FRAME.assign(
        chromosome=["I", "II", "I"], start=[5, 6, 7], end=[9, 11, 8], strand=["+", "-", "+"], length=0
    )
    task = from_table(write(tmp_path / "t.tsv", places.drop(columns="label")))
    assert task.samples["chromosome"].to_list() == ["I", "II", "I"]
    assert task.samples["start"].to_list() == [5, 6, 7]
    assert task.samples["length"].to_list() == [4, 5, 1]
    assert task.samples["input_length"].to_list() == [0, 0, 0]
    assert decode(task.sequences(1, 2)[0]) == "GGNCC"


FAULTS = {
    "letter": ("id,sequence,label,split\ns1,ACGT,0,a\ns2,ACXT,0,a\n", ":3: nucleotide 2", "letter 'X'"),
    "letter after a quoted line end": ('id,sequence,label,split,x\ns1,AC,0,a,"\n"\ns2,ACXT,0,a,\n', ":4: nuc", "'X'"),
    "not ascii": ("id,sequence,label,split\ns1,ACÅ,0,a\n", ":2: sequence: letter 3", "not ASCII"),
    "empty sequence": ("id,sequence,label,split\ns1,,0,a\n", ":2", "the sequence is empty"),
    "empty label": ("id,sequence,label,split\ns1,A,,a\n", ":2", "label is ''; one number is wanted. Write -100"),
    "label": (
        "id,sequence,label,split\ns1,A,2,a\n",
        ":2",
        "label 2.0 is out of range; task 'kind' has the classes 0 to 1",
    ),
    "label text": ("id,sequence,label,split\ns1,A,1,a\ns2,A,yes,a\n", ":3", "label is 'yes'"),
    "two labels": ('id,sequence,label,split\ns1,A,"1,0",a\n', ":2", "label is '1,0'; one number is wanted"),
    "underscore": ("id,sequence,label,split\ns1,A,0_1,a\n", ":2", "label is '0_1'"),
    "fraction": ("id,sequence,label,split\ns1,A,0.5,a\n", ":2", "label 0.5 is out of range"),
    "empty split": ("id,sequence,label,split\ns1,A,1,\n", ":2", "split is ''"),
    "ids": ("id,sequence,label,split\ns1,A,1,a\ns2,A,1,a\ns1,A,1,a\n", ":4", "'s1' at {}:2 and {}:4"),
    "cells": ("id,sequence,label,split\ns1,A,1,a\ns2,A,1\n", ":3", "3 cell(s), 4 are wanted"),
    "quote": ('id,sequence,label,split\ns1,A,1,"a\n', ":2", "is not CSV"),
    "no sequence": ("id,sequnce,label,split\ns1,A,1,a\n", ":1", "no column 'sequence'. Did you mean 'sequnce'"),
    "no label": ("id,sequence,split\ns1,A,a\n", ":1", "no column 'label'"),
    "columns": ("id,id,sequence\ns1,A,A\n", ":1", "two columns are named 'id'"),
    "no rows": ("id,sequence,label,split\n", "", "no rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_table_is_refused_with_file_and_line(tmp_path, fault):
    text, place, message = FAULTS[fault]
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        from_table(path, record=KIND)
    assert str(caught.value).startswith(f"{path}{place}")
    assert message.format(path, path) in str(caught.value)


def test_long_sequences_and_unicode_line_separators_do_not_break_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"id,sequence,split,note\nlong,{'ACGT' * 50_000},a,x\u2028y\x0bz\n", encoding="utf-8")
    task = from_table(path)
    assert task.samples["length"].to_list() == [200_000]
    assert task.samples["note"].to_list() == ["x\u2028y\x0bz"]


def test_odd_letters_become_n_on_request(tmp_path):
    path = write(tmp_path / "t.csv", FRAME.assign(sequence=["ACUT", "A", "R"], label="1"))
    task = from_table(path, record=KIND, other_letters="N")
    assert [decode(codes) for codes in task.sequences(0, 3)] == ["ACNT", "A", "N"]


def test_labels_without_a_record_are_not_guessed(tmp_path):
    with pytest.raises(InputError, match=":1: has a column 'label'; pass record="):
        from_table(write(tmp_path / "t.csv"))


def test_a_column_cannot_hold_labels_along_the_sequence(tmp_path):
    with pytest.raises(InputError, match="labels per nucleotide; a column cannot hold those. Give an hdf5 file"):
        from_table(write(tmp_path / "t.csv"), record="gene_finding")
    with pytest.raises(InputError, match="empty_labels is 'drop'"):
        from_table(write(tmp_path / "t.csv"), record=MARKS, empty_labels="drop")


def test_bad_parquet_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        from_table(path)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        from_table(tmp_path / "no.parquet")
    write(path, FRAME.iloc[:0])
    with pytest.raises(InputError, match="has no rows"):
        from_table(path)
    write(path, FRAME.assign(sequence=["A", None, "C"]).drop(columns="label"))
    with pytest.raises(InputError, match="t.parquet: row 1: the sequence is empty"):
        from_table(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="needs pyarrow; install"):
        from_table(path)


def test_other_kinds_of_file_are_refused(tmp_path):
    path = tmp_path / "t.xlsx.gz"
    path.write_bytes(gzip.compress(b"x"))
    with pytest.raises(InputError, match=r"ending in .csv, .tsv, .txt"):
        from_table(path)
