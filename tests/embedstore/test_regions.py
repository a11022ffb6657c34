from __future__ import annotations

import gzip
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.regions import SAMPLE_COLUMNS, read_regions
from embedstore.text import read_tabbed, typed

CONTIGS = {"chr1": 100, "chr2": 50}
HEADER = "chromosome\tstart\tend\tstrand\tlabel\tsplit"
ROWS = ["chr1\t0\t10\t+\t0\ttrain", "chr2\t40\t50\t-\t1,2\ttest", "chr1\t5\t100\t.\t\tvalid"]


def bed(tmp_path, text, name="task.bed"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path, **options):
    return read_regions(read_tabbed(path, first=("chromosome", "start", "end")), CONTIGS, **options)


def test_samples_are_the_rows_in_their_order(tmp_path):
    samples = read(bed(tmp_path, "\n".join([HEADER, *ROWS]) + "\n"))
    assert list(samples) == [*SAMPLE_COLUMNS, "label"]
    assert samples["id"].to_list() == ["chr1:0-10(+)", "chr2:40-50(-)", "chr1:5-100(.)"]
    assert samples["chromosome"].to_list() == ["chr1", "chr2", "chr1"]
    assert samples["strand"].to_list() == ["+", "-", "."]
    assert samples["split"].to_list() == ["train", "test", "valid"]
    assert samples[["start", "end", "length"]].to_numpy().tolist() == [[0, 10, 10], [40, 50, 10], [5, 100, 95]]
    assert (samples[["start", "end", "length"]].dtypes == np.int64).all()


@pytest.mark.parametrize(
    "form", ["crlf", "no newline at the end", "blank lines at the end", "gzip", "shuffled columns"]
)
def test_other_forms_of_the_same_file_read_the_same(tmp_path, form):
    lines = [HEADER, *ROWS]
    wanted = read(bed(tmp_path, "\n".join(lines) + "\n"))
    text = "\n".join(lines)
    if form == "shuffled columns":
        order = [0, 1, 2, 5, 3, 4]
        text = "\n".join("\t".join(line.split("\t")[cell] for cell in order) for line in lines)
    content = {
        "crlf": "\r\n".join([*lines, ""]).encode(),
        "blank lines at the end": (text + "\n\n\n").encode(),
        "gzip": gzip.compress((text + "\n").encode()),
    }.get(form, text.encode())
    pd.testing.assert_frame_equal(read(bed(tmp_path, content, "other.bed")), wanted)


GOOD = "\n".join([HEADER, *ROWS, "{}", "chr1\t1\t2\t+\t\ttrain"]) + "\n"
FAULTS = {
    "past the end": ("chr2\t40\t51\t+\t\ttrain", "end is 51, past the end of 'chr2' (50 nucleotides)"),
    "negative start": ("chr1\t-1\t5\t+\t\ttrain", "start is -1; it must be 0 or more"),
    "end before start": ("chr1\t9\t5\t+\t\ttrain", "start is 9 and end is 5; end must be greater"),
    "zero length": ("chr1\t5\t5\t+\t\ttrain", "start is 5 and end is 5"),
    "unknown contig": ("1\t1\t5\t+\t\ttrain", "no contig '1' in the genome. The genome calls it 'chr1'"),
    "space in the contig": ("chr1 \t1\t5\t+\t\ttrain", "no contig 'chr1 ' in the genome. Did you mean 'chr1'"),
    "empty split": ("chr1\t1\t5\t+\t\t", "split is ''"),
    "space in the split": ("chr1\t1\t5\t+\t\ttrain ", "split is 'train '"),
    "strand": ("chr1\t1\t5\t1\t\ttrain", "strand is '1'; + or - or . is wanted"),
    "float coordinates": ("chr1\t1.0\t5\t+\t\ttrain", "start is '1.0'; a whole number is wanted"),
    "thousands": ("chr1\t1\t5,000\t+\t\ttrain", "end is '5,000'"),
    "empty coordinate": ("chr1\t\t5\t+\t\ttrain", "start is ''"),
    "huge coordinate": (f"chr1\t1\t1{'0' * 30}\t+\t\ttrain", "end is '1000"),
    "the same row": (ROWS[1], "1 ids are there already: 'chr2:40-50(-)' at {}:3 and {}:5"),
    "too few cells": ("chr1\t1\t5\t+\t0", "5 cell(s), 6 are wanted"),
    "too many cells": ("chr1\t1\t5\t+\t0\ttrain\tx", "7 cell(s), 6 are wanted"),
    "blank line": ("", "1 cell(s), 6 are wanted"),
    "spaces for tabs": (
        "chr1 1 5 + 0 train",
        "1 cell(s), 6 are wanted as in the header: 'chr1 1 5 + 0 train'. It is sep",
    ),
    "carriage return": ("chr1\t1\t5\t+\t\rx\ttrain", "a carriage return within a line"),
    "binary": ("chr1\t1\t5\t+\t\0\ttrain", "a NUL byte"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, fault):
    row, message = FAULTS[fault]
    path = bed(tmp_path, GOOD.format(row))
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:5: ")
    assert message.format(path, path) in str(caught.value)


def test_many_bad_rows_are_counted_and_the_first_shown(tmp_path):
    path = bed(tmp_path, "\n".join([HEADER, *["chr2\t40\t51\t+\t\ttrain"] * 7]))
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: end is 51")
    assert "7 rows have this fault (also 3, 4, 5, 6, ...)" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (b"", "", "the file is empty"),
        (b"\n\n", "", "the file is empty"),
        ("\n".join(ROWS).encode(), ":1", "a header is wanted that begins with chromosome, start, end"),
        (HEADER.replace("\t", " ").encode() + b"\nchr1 0 10 + 0 train\n", ":1", "It is separated by spaces"),
        (b"chrom\tstart\tend\tsplit\nchr1\t0\t1\ttrain\n", ":1", "the first line is 'chrom\\tstart\\tend\\tsplit'"),
        (b"\xef\xbb\xbf" + HEADER.encode() + b"\nchr1\t0\t1\t+\t\ttrain\n", ":1", "byte order mark"),
        (HEADER.encode("utf-16") + b"\n\0", ":1", "byte order mark"),
        (HEADER.encode() + b"\n" + ROWS[0].encode() + b"\nchr\xff\t1\t2\t+\t\ttrain\n", ":3", "is not UTF-8"),
        (HEADER.encode(), "", "a header but no rows"),
        (b"chromosome\tstart\tend\tsplit\tsplit\nchr1\t0\t1\ta\ta\n", ":1", "two columns are named 'split'"),
        (b"chromosome\tstart\tend\t\nchr1\t0\t1\ta\n", ":1", "column 4 is named ''"),
        (b"chromosome\tstart\tend\tsplit \nchr1\t0\t1\ta\n", ":1", "column 4 is named 'split '"),
        (b"chromosome\tstart\tend\tSplit\nchr1\t0\t1\ta\n", ":1", "no column 'split'. Did you mean 'Split'"),
        (gzip.compress(HEADER.encode() * 9, mtime=0)[:-9], "", "cut off or damaged"),
    ],
)
def test_files_without_the_right_shape_are_refused(tmp_path, content, place, message):
    path = bed(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no.bed: cannot be read: No such file"):
        read(tmp_path / "no.bed")


def test_a_file_without_splits_needs_to_be_told(tmp_path):
    path = bed(tmp_path, "chromosome\tstart\tend\nchr1\t0\t1\nchr1\t2\t4\n")
    assert read(path, split="")["split"].to_list() == ["", ""]
    assert read(path, split="test")["split"].to_list() == ["test", "test"]
    with pytest.raises(InputError, match="has a column 'split', and split='test' was passed"):
        read(bed(tmp_path, "\n".join([HEADER, *ROWS])), split="test")


def test_strands_must_be_known_where_they_matter(tmp_path):
    path = bed(tmp_path, "chromosome\tstart\tend\tsplit\nchr1\t0\t1\ta\n")
    assert read(path)["strand"].to_list() == ["."]
    with pytest.raises(InputError, match=":1: no column 'strand', which a record with strand 'given' needs"):
        read(path, strand="given")
    with pytest.raises(InputError, match=":4: strand is '.'; \\+ or - is wanted"):
        read(bed(tmp_path, "\n".join([HEADER, *ROWS])), strand="given")


def test_transcripts_at_one_place_are_told_apart_by_their_ids(tmp_path):
    head = "chromosome\tstart\tend\tsplit\ttranscript_id\tscore\tname"
    rows = ["chr1\t0\t9\ta\tT1\t1\tx", "chr1\t0\t9\ta\tT2\t1\tx", "chr1\t0\t9\ta\tT2\t1\ty"]
    samples = read(bed(tmp_path, "\n".join([head, *rows])))
    assert samples["id"].to_list() == ["chr1:0-9(.)|T1|x", "chr1:0-9(.)|T2|x", "chr1:0-9(.)|T2|y"]
    turned = read(bed(tmp_path, "\n".join([head, *rows[::-1]]), "turned.bed"))
    assert turned["id"].to_list() == samples["id"].to_list()[::-1]
    with pytest.raises(InputError, match=r":5: 1 ids are there already: 'chr1:0-9\(.\)\|T1\|x' at .*:2 and .*:5.*'id'"):
        read(bed(tmp_path, "\n".join([head, *rows, "chr1\t0\t9\tb\tT1\t2\tx"])))


def test_a_column_of_ids_is_taken_as_it_is(tmp_path):
    head = "chromosome\tstart\tend\tsplit\tid"
    samples = read(bed(tmp_path, f"{head}\nchr1\t0\t9\ta\tfirst one\nchr1\t0\t9\ta\t2\n"))
    assert samples["id"].to_list() == ["first one", "2"]
    assert list(samples) == list(SAMPLE_COLUMNS)


@pytest.mark.parametrize("name", ["", " x", "x ", "a\u00a0b", "p\u0430x", "x" * 1001, "a\x1bb", "\u200b"])
def test_ids_that_cannot_be_told_apart_are_refused(tmp_path, name):
    path = bed(tmp_path, f"chromosome\tstart\tend\tsplit\tid\nchr1\t0\t9\ta\tx\nchr1\t0\t9\ta\t{name}\n")
    with pytest.raises(InputError, match=":3: id is .*printable ASCII"):
        read(path)


def test_the_first_five_repeated_ids_are_shown(tmp_path):
    rows = [f"chr1\t{start}\t{start + 1}\ta" for start in range(8)] * 2
    with pytest.raises(InputError) as caught:
        read(bed(tmp_path, "\n".join(["chromosome\tstart\tend\tsplit", *rows])))
    assert "8 ids are there already" in str(caught.value)
    assert str(caught.value).count(" at ") == 5


def test_a_column_of_lengths_is_checked_not_lost(tmp_path, caplog):
    head = "chromosome\tstart\tend\tlength\tsplit"
    right = read(bed(tmp_path, f"{head}\nchr1\t0\t9\t9\ta\nchr2\t0\t7\t7\ta\n"))
    assert list(right) == list(SAMPLE_COLUMNS)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        other = read(bed(tmp_path, f"{head}\nchr1\t0\t9\t9\ta\nchr2\t0\t7\t30\ta\n"))
    assert other["length"].to_list() == [9, 7]
    assert other["input_length"].to_list() == [9, 30]
    assert "kept as 'input_length'" in caplog.text


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["1", "-20"], [1, -20]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1e-3", ".5"], [0.001, 0.5]),
        (["true", "FALSE"], [True, False]),
        (["007", "1"], ["007", "1"]),
        (["1", ""], ["1", ""]),
        (["nan", "1"], ["nan", "1"]),
        (["NA", "x"], ["NA", "x"]),
        (['"a', "b"], ['"a', "b"]),
        (["9" * 30, "1"], ["9" * 30, "1"]),
        (["9" * 18, "1"], [int("9" * 18), 1]),
    ],
)
def test_other_columns_keep_what_they_hold(tmp_path, cells, wanted):
    rows = [f"chr1\t{row}\t9\ta\t{cell}" for row, cell in enumerate(cells)]
    samples = read(bed(tmp_path, "\n".join(["chromosome\tstart\tend\tsplit\textra", *rows])))
    assert samples["extra"].to_list() == wanted
    assert [type(cell) for cell in samples["extra"].to_list()] == [type(cell) for cell in wanted]


def test_names_stay_text():
    assert typed(pd.DataFrame({"gene_id": ["1"], "name": ["2"], "n": ["3"]}).astype(str)).iloc[0].to_list() == [
        "1",
        "2",
        3,
    ]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(sorted(CONTIGS)), st.integers(-3, 105), st.integers(-3, 105)), min_size=1, max_size=8
    )
)
def test_a_file_is_read_whole_or_not_at_all(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("bed") / "x.bed"
    lines = [f"{name}\t{start}\t{end}\ta\tT{row}" for row, (name, start, end) in enumerate(rows)]
    path.write_text("\n".join(["chromosome\tstart\tend\tsplit\ttranscript_id", *lines]))
    if all(0 <= start < end <= CONTIGS[name] for name, start, end in rows):
        samples = read(path)
        assert list(zip(samples["chromosome"], samples["start"], samples["end"], strict=True)) == rows
    else:
        with pytest.raises(InputError):
            read(path)
