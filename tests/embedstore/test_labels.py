from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from embedstore.errors import InputError
from embedstore.tasks import Labels, TaskRecord
from embedstore.tasks import labels as labels_module
from embedstore.tasks.labels import array_labels, column_labels, hdf5_labels

MARKS = TaskRecord(name="marks", level="sequence", type="multilabel", names=tuple("abcde"), metric="auroc")
KIND = TaskRecord(name="kind", level="sequence", type="class", names=tuple("abc"), metric="mcc")
HEAT = TaskRecord(name="heat", level="sequence", type="value", metric="r2")
HEATS = TaskRecord(name="heats", level="sequence", type="value", names=("x", "y"), metric="r2")
BASES = TaskRecord(name="bases", level="nucleotide", type="class", names=tuple("abc"), metric="mcc")
DEPTH = TaskRecord(name="depth", level="nucleotide", type="value", metric="r2")
BINS = TaskRecord(name="bins", level="bin", bin_size=4, type="multilabel", names=("on",), metric="auprc")
TRACKS = TaskRecord(name="tracks", level="bin", bin_size=4, type="multilabel", names=("p", "q", "r"), metric="auprc")
BIN_KIND = TaskRecord(name="kinds", level="bin", bin_size=4, type="class", names=tuple("abc"), metric="mcc")


def where(row):
    return f"x.bed:{row + 2}"


def column(*texts):
    return pd.Series(texts, dtype=str)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=8), min_size=1, max_size=12))
def test_index_lists_are_multi_hot_as_scikit_learn_has_them(rows):
    labels = column_labels(column(*(",".join(map(str, row)) for row in rows)), MARKS, where)
    assert labels.values.dtype == np.uint8
    assert (labels.dims, labels.names) == (("sample", "target"), MARKS.names)
    np.testing.assert_array_equal(labels.values, MultiLabelBinarizer(classes=range(5)).fit_transform(rows))


def test_many_rows_are_parsed_in_parts(monkeypatch):
    monkeypatch.setattr(labels_module, "_ROWS_AT_ONCE", 3)
    texts = column("0", "", "1,1", "4", "", "", "", "2,3", "0,4")
    values = column_labels(texts, MARKS, where, "zero").values
    wanted = [[0], [], [1], [4], [], [], [], [2, 3], [0, 4]]
    np.testing.assert_array_equal(values, MultiLabelBinarizer(classes=range(5)).fit_transform(wanted))
    refused(
        lambda: column_labels(column("0", "", "1", "2", "0", "1,7"), MARKS, where, "zero"), "x.bed:7: label 7 is out"
    )


@pytest.mark.parametrize(
    ("record", "text", "message"),
    [
        (MARKS, "", "label is ''; a list of target indices, joined by commas, is wanted. Pass empty_labels='zero'"),
        (MARKS, "5", "label 5 is out of range; task 'marks' has the targets 0 to 4"),
        (MARKS, "1,", "label is '1,'"),
        (MARKS, "1, 2", "label is '1, 2'"),
        (MARKS, "-1", "label is '-1'"),
        (MARKS, "1.0", "label is '1.0'"),
        (MARKS, "9" * 12, "label is '999"),
        (KIND, "", "label is ''; one number is wanted. Write -100"),
        (KIND, "3", "label 3.0 is out of range; task 'kind' has the classes 0 to 2, and -100"),
        (KIND, "-1", "label -1.0 is out of range"),
        (KIND, "nan", "label nan is out of range"),
        (HEAT, "", "label is ''; one number is wanted. Write nan"),
        (HEAT, "inf", "label inf is not a finite number"),
        (HEAT, "1e39", "label 1e+39 is not a finite number that float32 can hold"),
        (HEATS, "1", "label is '1'; 2 numbers joined by commas is wanted"),
    ],
)
def test_a_bad_text_is_refused_with_its_place(record, text, message):
    good = {"marks": "0,1", "kind": "2", "heat": "0.5", "heats": "0.5,2"}[record.name]
    refused(lambda: column_labels(column(good, good, text), record, where), f"x.bed:4: {message}")


def test_an_empty_text_is_zero_for_several_targets_only():
    assert column_labels(column("", "1"), MARKS, where, "zero").values.sum(axis=1).tolist() == [0, 1]
    refused(lambda: column_labels(column("", "1"), KIND, where, "zero"), "x.bed:2: label is ''")


def test_several_values_in_a_text():
    labels = column_labels(column("1,-2.5", "nan,1e3"), HEATS, where)
    np.testing.assert_array_equal(labels.values, np.array([[1, -2.5], [np.nan, 1000]], np.float32))
    assert labels.dims == ("sample", "target")


LENGTHS = np.array([3, 1, 4])
ROWS = [[0, 1, 2], [-100], [2, 2, 1, 0]]


def test_labels_along_sequences_lie_one_after_another():
    flat = [0, 1, 2, -100, 2, 2, 1, 0]
    for given_as in (
        ROWS,
        [np.array(row, np.int8) for row in ROWS],
        np.array(flat),
        [np.array(r, float) for r in ROWS],
    ):
        labels = array_labels(given_as, BASES, LENGTHS, where)
        assert labels.values.dtype == np.int16
        assert (labels.values.tolist(), labels.dims) == (flat, ("nucleotide",))
    turned = array_labels(ROWS, BASES, LENGTHS, where, np.array([True, False, True]))
    assert turned.values.tolist() == [2, 1, 0, -100, 0, 1, 2, 2]


def test_values_along_sequences():
    labels = array_labels([[0.5, np.nan], [1]], DEPTH, np.array([2, 1]), where)
    assert labels.values.dtype == np.float32
    np.testing.assert_array_equal(labels.values, np.array([0.5, np.nan, 1], np.float32))


def test_labels_of_bins():
    lengths = np.array([8, 8])
    labels = array_labels([[0, 1], [1, 1]], BINS, lengths, where)
    assert (labels.values.tolist(), labels.values.dtype, labels.dims) == ([[0, 1], [1, 1]], np.uint8, ("sample", "bin"))
    values = np.arange(12).reshape(2, 2, 3) % 2
    labels = array_labels(values, TRACKS, lengths, where, np.array([False, True]))
    assert labels.dims == ("sample", "bin", "target")
    np.testing.assert_array_equal(labels.values, [values[0], values[1][::-1]])
    labels = array_labels([[0, -100], [2, 1]], BIN_KIND, lengths, where)
    assert (labels.values.tolist(), labels.dims) == ([[0, -100], [2, 1]], ("sample", "bin"))


@pytest.mark.parametrize(
    ("record", "values", "lengths", "message"),
    [
        (BASES, [[0, 1], [0]], [3, 1], "x.bed:2: 2 labels; the sample needs 3, one per nucleotide"),
        (BASES, [[0, 1, 1], [[0]]], [3, 1], "x.bed:3: 1 x 1 labels"),
        (BASES, [[0, 1, 1], [3]], [3, 1], "x.bed:3: nucleotide 0: label 3 is out of range"),
        (BASES, [[0, 1, -1], [3]], [3, 1], "x.bed:2: nucleotide 2: label -1 is out of range"),
        (BASES, [[0, 1, 0.5], [1]], [3, 1], "x.bed:2: nucleotide 2: label 0.5 is out of range"),
        (BASES, [["a", "b", "c"], [1]], [3, 1], "labels are of type <U1; numbers are wanted"),
        (BASES, [[0, 1, 2]], [3, 1], "1 rows of labels for 2 samples"),
        (BASES, np.array([0, 1, 2]), [3, 1], "3 rows of labels for 2 samples"),
        (DEPTH, [[0, np.inf]], [2], "x.bed:2: nucleotide 1: label inf is not a finite"),
        (BINS, [[0, 2], [1, 1]], [8, 8], "x.bed:2: bin 1: label 2 is neither 0 nor 1"),
        (BINS, [[0, np.nan], [1, 1]], [8, 8], "label nan is neither 0 nor 1"),
        (BINS, [[0, 1, 1], [1, 1]], [8, 8], "x.bed:2: 3 labels; the sample needs 2, one per bin"),
        (
            BINS,
            [[0, 1], [1]],
            [8, 4],
            "x.bed:3: 4 nucleotides; labels per bin need samples of one length, a multiple of 4",
        ),
        (BINS, [[0, 1]], [9], "x.bed:2: 9 nucleotides; labels per bin need"),
        (TRACKS, [[[0, 1], [1, 1]]], [8], "x.bed:2: 2 x 2 labels; the sample needs 2 x 3"),
        (KIND, [0, 1, 1], [3, 1], "3 rows of labels for 2 samples"),
        (KIND, 1, [3], "0 rows of labels for 1 samples"),
        (KIND, [[0, 1], [1, 1]], [3, 1], "labels have shape (2, 2); (2,) is wanted"),
        (KIND, [0, 7], [3, 1], "x.bed:3: label 7 is out of range"),
        (MARKS, [[0, 1], [1, 1]], [3, 1], "labels have shape (2, 2); (2, 5) is wanted"),
        (MARKS, [[0, 1], [1]], [3, 1], "rows of labels differ in length"),
        (MARKS, np.eye(5)[:2] * 2, [3, 1], "x.bed:2: label 2.0 is neither 0 nor 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(record, values, lengths, message):
    refused(lambda: array_labels(values, record, np.array(lengths), where), message)


def test_arrays_for_whole_sequences():
    lengths = np.array([3, 1])
    assert array_labels([2, -100], KIND, lengths, where).values.tolist() == [2, -100]
    assert array_labels(np.array([[2], [0]], np.uint8), KIND, lengths, where).dims == ("sample",)
    assert array_labels([True, False], KIND, lengths, where).values.tolist() == [1, 0]
    one = TaskRecord(name="one", level="sequence", type="multilabel", names=("a",), metric="auroc")
    assert array_labels([[1], [0]], one, lengths, where).dims == ("sample", "target")


def write(path, name="labels", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, **options)
    return path


def ragged(path, rows, name="labels"):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, (len(rows),), h5py.vlen_dtype(np.int8))
        for number, row in enumerate(rows):
            file[name][number] = row
    return path


def test_hdf5_rows_ragged_and_fixed(tmp_path):
    labels = hdf5_labels(ragged(tmp_path / "r.hdf5", ROWS), BASES, LENGTHS, where)
    assert labels.values.tolist() == [0, 1, 2, -100, 2, 2, 1, 0]
    turned = hdf5_labels(tmp_path / "r.hdf5", BASES, LENGTHS, where, np.array([True, False, False]))
    assert turned.values.tolist() == [2, 1, 0, -100, 2, 2, 1, 0]
    square = write(tmp_path / "s.hdf5", data=np.array([[0, 1], [1, 0]], np.float32))
    assert hdf5_labels(square, BINS, np.array([8, 8]), where).values.tolist() == [[0, 1], [1, 0]]
    assert hdf5_labels(square, BASES, np.array([2, 2]), where).values.tolist() == [0, 1, 1, 0]
    assert hdf5_labels(square, HEATS, np.array([5, 6]), where).values.tolist() == [[0, 1], [1, 0]]
    flat = write(tmp_path / "f.hdf5", data=np.array([2, 1]))
    assert hdf5_labels(flat, KIND, np.array([5, 6]), where).values.tolist() == [2, 1]


@pytest.mark.parametrize(("rows", "last"), [(ROWS[:2], "x.bed:3"), ([*ROWS, [0]], "x.bed:4"), ([], "none")])
def test_hdf5_with_another_number_of_rows_is_refused(tmp_path, rows, last):
    path = ragged(tmp_path / "r.hdf5", rows)
    refused(
        lambda: hdf5_labels(path, BASES, LENGTHS, where),
        f"{path}: 'labels' has {len(rows)} rows for 3 samples (the last with both: {last})",
    )


def test_hdf5_faults_name_both_files(tmp_path):
    path = ragged(tmp_path / "r.hdf5", [[0, 1, 2], [1, 1], [2, 2, 1, 0]])
    refused(
        lambda: hdf5_labels(path, BASES, LENGTHS, where),
        f"{path}: row 1 of 'labels' (x.bed:3): 2 labels; the sample needs 1",
    )
    path = ragged(tmp_path / "r.hdf5", [[0, 1, 2], [9], [2, 2, 1, 0]])
    refused(
        lambda: hdf5_labels(path, BASES, LENGTHS, where), f"{path}: row 1 of 'labels' (x.bed:3): nucleotide 0: label 9"
    )
    path = write(tmp_path / "n.hdf5", name="label", data=np.zeros(3))
    refused(lambda: hdf5_labels(path, KIND, LENGTHS, where), f"{path}: no dataset 'labels'. Did you mean 'label'")
    path = write(tmp_path / "t.hdf5", data=["a", "b", "c"])
    refused(lambda: hdf5_labels(path, KIND, LENGTHS, where), f"{path}: row 0", "numbers are wanted")
    path = write(tmp_path / "z.hdf5", data=1)
    refused(lambda: hdf5_labels(path, KIND, LENGTHS, where), "has 0 rows for 3 samples")
    path.write_bytes(b"not hdf5")
    refused(lambda: hdf5_labels(path, KIND, LENGTHS, where), f"{path}: cannot be read as hdf5")
    refused(lambda: hdf5_labels(tmp_path / "no.hdf5", KIND, LENGTHS, where), "no.hdf5: cannot be read as hdf5")


def test_labels_know_their_axes():
    with pytest.raises(InputError, match=r"shape \(2, 2\) cannot have the dimensions \('sample',\)"):
        Labels(np.zeros((2, 2)), ("sample",))
    with pytest.raises(InputError, match="cannot have the dimensions"):
        Labels(np.zeros(2), ("row",))
