from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq

from embedstore.errors import InputError
from embedstore.sequences import decode, encode
from embedstore.tasks import Labels, TaskRecord, from_bed, from_fasta, from_sequences, record
from embedstore.tasks.samples import plain_columns

GENOME = {
    "chr1": "".join(np.random.default_rng(1).choice(list("ACGTacgt"), 300)),
    "chr2": "".join(np.random.default_rng(2).choice(list("ACGTN"), 200)),
}
REGIONS = [("chr1", 5, 40, "+", "train"), ("chr2", 0, 200, "-", "valid"), ("chr1", 290, 300, "-", "test")]
KIND = TaskRecord(name="kind", level="sequence", type="class", names=("no", "yes"), metric="mcc", strand="given")


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "genome.fa"
    lines = [
        f">{name}\n" + "\n".join(text[i : i + 60] for i in range(0, len(text), 60)) for name, text in GENOME.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_bed(tmp_path, labels=None, regions=REGIONS):
    path = tmp_path / "task.bed"
    frame = pd.DataFrame(regions, columns=["chromosome", "start", "end", "strand", "split"])
    if labels is not None:
        frame.insert(4, "label", labels)
    frame.to_csv(path, sep="\t", index=False)
    return path


def write_rows(tmp_path, rows):
    path = tmp_path / "task.hdf5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("labels", (len(rows),), h5py.vlen_dtype(np.int8), compression="gzip")
        for number, row in enumerate(rows):
            dataset[number] = row
    return path


def region(name, start, end, strand):
    text = Seq(GENOME[name][start:end].upper())
    return str(text.reverse_complement() if strand == "-" else text)


def texts(task, start=0, stop=None):
    return [decode(codes) for codes in task.sequences(start, len(task.samples) if stop is None else stop)]


def test_gene_finding_keeps_labels_and_sequences_in_genome_order(tmp_path, fasta):
    # The label of each nucleotide is which letter it is, so that any shift or turn between the two would show.
    rows = [["ACGTN".index(letter) for letter in GENOME[n][s:e].upper()] for n, s, e, _, _ in REGIONS]
    path, hdf5 = write_bed(tmp_path), write_rows(tmp_path, rows)
    task = from_bed(path, fasta, record="gene_finding", labels=hdf5)
    assert (task.name, task.record) == ("gene_finding", record("gene_finding"))
    assert texts(task) == [region(n, s, e, "+") for n, s, e, _, _ in REGIONS]
    assert task.samples["strand"].to_list() == ["+", "-", "-"]
    assert task.samples["split"].to_list() == ["train", "valid", "test"]
    assert task.labels.dims == ("nucleotide",)
    assert "".join("ACGTN"[label] for label in task.labels.values) == "".join(texts(task))
    assert repr(task) == (
        "Task('gene_finding': 3 samples (1 train, 1 valid, 1 test), 245 nucleotides, labels per nucleotide)"
    )


def test_labels_turn_with_the_sequence_where_the_strand_is_given(tmp_path, fasta):
    given = TaskRecord.from_dict(record("gene_finding").to_dict() | {"strand": "given", "name": "mine"})
    rows = [["ACGTN".index(letter) for letter in GENOME[n][s:e].upper()] for n, s, e, _, _ in REGIONS]
    task = from_bed(write_bed(tmp_path), fasta, record=given, labels=str(write_rows(tmp_path, rows)), name="other")
    assert task.name == "other"
    assert texts(task) == [region(*place[:4]) for place in REGIONS]
    complement = "TGCAN"
    first = np.cumsum([0, *task.samples["length"]])
    for sample, (_, _, _, strand, _) in enumerate(REGIONS):
        letters = "".join(
            ("ACGTN" if strand == "+" else complement)[label]
            for label in task.labels.values[first[sample] : first[sample + 1]]
        )
        assert letters == texts(task)[sample]


def test_sequences_are_read_for_the_samples_asked_for(tmp_path, fasta):
    task = from_bed(write_bed(tmp_path, [0, 1, 0]), fasta, record=KIND)
    wanted = [region(*place[:4]) for place in REGIONS]
    assert texts(task, 1, 3) == wanted[1:]
    assert texts(task, 0, 1) == wanted[:1]
    assert texts(task, 2, 2) == []


def test_single_integers_are_labels_and_not_all_zeros(tmp_path, fasta):
    task = from_bed(write_bed(tmp_path, [1, 0, 2]), fasta, record="cpg_methylation")
    wanted = np.zeros((3, 7))
    wanted[[0, 1, 2], [1, 0, 2]] = 1
    np.testing.assert_array_equal(task.labels.values, wanted)
    assert "label" not in task.samples


def test_empty_labels_are_refused_or_zero(tmp_path, fasta):
    path = write_bed(tmp_path, ["0,6", "", "6,6"])
    with pytest.raises(InputError, match=r"task.bed:3: label is ''.*empty_labels='zero'"):
        from_bed(path, fasta, record="cpg_methylation")
    task = from_bed(path, fasta, record="cpg_methylation", empty_labels="zero")
    assert task.labels.values.tolist() == [[1, 0, 0, 0, 0, 0, 1], [0] * 7, [0, 0, 0, 0, 0, 0, 1]]


def test_bins_of_a_fixed_length(tmp_path, fasta):
    path = write_bed(tmp_path, regions=[("chr1", 0, 256, "-", "part1"), ("chr1", 40, 296, "+", "part2")])
    hdf5 = tmp_path / "task.hdf5"
    with h5py.File(hdf5, "w") as file:
        file["labels"] = np.array([[0, 1], [1, 1]])
    task = from_bed(path, fasta, record="enhancer_annotation", labels=hdf5)
    assert (task.labels.values.tolist(), task.labels.dims) == ([[0, 1], [1, 1]], ("sample", "bin"))
    with pytest.raises(InputError, match=r"task.bed:1: no column 'label'. .*labels= with an hdf5 file"):
        from_bed(path, fasta, record="enhancer_annotation")


def test_a_task_without_labels_says_so(tmp_path, fasta):
    path = write_bed(tmp_path, ["a", "b", "c"])
    task = from_bed(path, fasta, record=KIND, labels=False)
    assert task.labels is None
    assert task.samples["label"].to_list() == ["a", "b", "c"]
    assert "no labels" in repr(task)


def test_hdf5_labels_leave_the_column_as_it_is(tmp_path, fasta):
    rows = [[8] * (end - start) for _, start, end, _, _ in REGIONS]
    task = from_bed(write_bed(tmp_path, [3, 4, 5]), fasta, record="gene_finding", labels=write_rows(tmp_path, rows))
    assert set(task.labels.values) == {8}
    assert task.samples["label"].to_list() == [3, 4, 5]


def test_a_label_row_of_another_length_names_both_files(tmp_path, fasta):
    rows = [[8] * (end - start) for _, start, end, _, _ in REGIONS]
    hdf5 = write_rows(tmp_path, [rows[0], rows[1][:-1], rows[2]])
    with pytest.raises(InputError, match=r"task.hdf5: row 1 of 'labels' \(.*task.bed:3\): 199 labels; .* needs 200"):
        from_bed(write_bed(tmp_path), fasta, record="gene_finding", labels=hdf5)


def test_the_source_tells_where_it_came_from(tmp_path, fasta):
    path = write_bed(tmp_path)
    hdf5 = write_rows(tmp_path, [[8] * (end - start) for _, start, end, _, _ in REGIONS])
    source = from_bed(path, fasta, record="gene_finding", labels=hdf5).source
    assert json.loads(json.dumps(source)) == source
    assert (source["bed"], source["fasta"], source["labels"]) == ("task.bed", "genome.fa", "task.hdf5")
    assert source["bed_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source["labels_sha256"] == hashlib.sha256(hdf5.read_bytes()).hexdigest()
    packed = tmp_path / "packed.fa.gz"
    packed.write_bytes(gzip.compress(fasta.read_bytes()))
    again = from_bed(path, packed, record="gene_finding", labels=hdf5)
    assert again.source["genome_digest"] == source["genome_digest"]
    fasta.write_text(fasta.read_text()[:100] + "N" + fasta.read_text()[101:])
    changed = from_bed(path, fasta, record="gene_finding", labels=hdf5).source
    assert changed["genome_digest"] != source["genome_digest"]


def test_a_genome_that_is_cut_off_or_of_another_naming_is_refused(tmp_path, fasta):
    path = write_bed(tmp_path, [0, 1, 0])
    whole = fasta.read_text()
    fasta.write_text(whole[:-60])
    with pytest.raises(InputError, match=r"task.bed:3: end is 200, past the end of 'chr2'.*build"):
        from_bed(path, fasta, record=KIND)
    (tmp_path / "genome.fa.fai").unlink()
    fasta.write_text(whole.replace(">chr", ">"))
    with pytest.raises(InputError, match=r"task.bed:2: no contig 'chr1'.* 3 rows .* calls it '1'"):
        from_bed(path, fasta, record=KIND)


def test_a_bad_letter_is_refused_when_it_is_read(tmp_path, fasta):
    fasta.write_text(fasta.read_text().replace(GENOME["chr2"][:10], "R" + GENOME["chr2"][1:10]))
    path = write_bed(tmp_path, [0, 1, 0])
    task = from_bed(path, fasta, record=KIND)
    assert texts(task, 0, 1) == [region(*REGIONS[0][:4])]
    with pytest.raises(InputError, match=r"genome.fa:8: chr2:0 \(0-based\): letter 'R'"):
        task.sequences(0, 3)
    mapped = from_bed(path, fasta, record=KIND, other_letters="N")
    assert texts(mapped)[1] == region("chr2", 1, 200, "-") + "N"


def test_a_file_without_splits_can_be_given_one(tmp_path, fasta):
    path = write_bed(tmp_path, [0, 1, 0])
    pd.read_csv(path, sep="\t").drop(columns="split").to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="no column 'split'"):
        from_bed(path, fasta, record=KIND)
    assert set(from_bed(path, fasta, record=KIND, split="test").samples["split"]) == {"test"}


def test_every_sequence_of_a_fasta_is_a_sample(fasta):
    task = from_fasta(fasta)
    assert (task.name, task.record.name, task.labels) == ("genome", "genome", None)
    assert texts(task) == [text.upper() for text in GENOME.values()]
    assert task.samples["id"].to_list() == ["chr1", "chr2"]
    assert task.samples[["chromosome", "start", "end", "strand", "split", "length"]].to_numpy().tolist() == [
        ["", 0, 300, ".", "", 300],
        ["", 0, 200, ".", "", 200],
    ]
    labelled = from_fasta(fasta, record=KIND, labels=[1, 0], splits=["train", "test"], name="mine")
    assert (labelled.name, labelled.labels.values.tolist()) == ("mine", [1, 0])
    assert labelled.samples["split"].to_list() == ["train", "test"]
    with pytest.raises(InputError, match="genome.fa: sequence 'chr2': label 7 is out of range"):
        from_fasta(fasta, record=KIND, labels=[1, 7])
    with pytest.raises(InputError, match="has labels; pass record="):
        from_fasta(fasta, labels=[1, 0])


def test_sequences_in_memory():
    columns = pd.DataFrame({"gene": ["x", "y"], "chromosome": ["I", "II"], "gc": [0.5, 0.25]}, index=[7, 8])
    task = from_sequences(
        "toy", ["acgt", encode("GGN")], ids=["a", "b"], splits=["p", "q"], labels=[1, 0], record=KIND, columns=columns
    )
    assert texts(task) == ["ACGT", "GGN"]
    assert texts(task, 1, 2) == ["GGN"]
    assert task.samples.to_dict("list") == {
        "id": ["a", "b"],
        "chromosome": ["I", "II"],
        "start": [0, 0],
        "end": [4, 3],
        "strand": [".", "."],
        "split": ["p", "q"],
        "length": [4, 3],
        "gene": ["x", "y"],
        "gc": [0.5, 0.25],
    }
    assert (task.labels.values.tolist(), task.source) == ([1, 0], {"kind": "memory"})
    assert from_sequences("toy", ["A", "C"]).samples["id"].to_list() == ["0", "1"]


def test_labels_in_memory_along_the_sequence():
    genes = record("gene_finding")
    for labels in ([[0, 8], [1]], np.array([0, 8, 1]), Labels(np.array([0, 8, 1], np.int16), ("nucleotide",))):
        task = from_sequences("g", ["AC", "G"], labels=labels, record=genes)
        assert (task.labels.values.tolist(), task.labels.names) == ([0, 8, 1], genes.names)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sequences": []}, "task 't' has no sequences"),
        ({"sequences": ["AC", ""]}, "task 't': sample 1: the sequence is empty"),
        ({"sequences": ["AC", "AXC"]}, "sample 1: nucleotide 1 \\(0-based\\): letter 'X'"),
        ({"sequences": ["AC", "ACU"]}, "letter 'U'.*write T for U"),
        ({"sequences": [np.array([0, 1])]}, "sample 0: an array of int64, shape \\(2,\\); text or uint8"),
        ({"sequences": [np.zeros((2, 2), np.uint8)]}, "shape \\(2, 2\\)"),
        ({"ids": ["a"]}, "ids has 1 entries for 2 samples"),
        ({"ids": ["a", "a"]}, "sample 1: 1 ids are there already: 'a' at task 't': sample 0 and"),
        ({"ids": ["a", ""]}, "sample 1: id is ''"),
        ({"splits": ["a"]}, "splits has 1 entries"),
        ({"columns": pd.DataFrame({"x": [1]})}, "columns has 1 entries"),
        ({"columns": pd.DataFrame({"length": [1, 2]})}, "columns has 'length', which every task has"),
        ({"labels": [0, 1]}, "pass record="),
        ({"labels": [0], "record": KIND}, "1 rows of labels for 2 samples"),
        (
            {"labels": Labels(np.zeros((2, 1)), ("sample", "target")), "record": KIND},
            "record 'kind' wants \\('sample',\\)",
        ),
        ({"record": "knd"}, "no published task 'knd'"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        from_sequences("t", **{"sequences": ["AC", "GGT"], **given})


def test_columns_become_what_a_store_can_hold():
    frame = pd.DataFrame(
        {
            "small": np.array([1, 2], np.uint8),
            "half": np.array([1, np.nan], np.float32),
            "flag": [True, False],
            "maybe": pd.array([1, None], dtype="Int64"),
            "kind": pd.Categorical(["a", None]),
            "mixed": [1, "x"],
            "when": pd.to_datetime(["2020-01-02", None]),
        }
    )
    plain = plain_columns(frame)
    assert [column.dtype.kind for _, column in plain.items()][:3] == ["i", "f", "b"]
    assert plain["maybe"].to_list() == ["1", ""]
    assert plain["kind"].to_list() == ["a", ""]
    assert plain["mixed"].to_list() == ["1", "x"]
    assert plain["when"].to_list() == ["2020-01-02 00:00:00", ""]
    assert frame["small"].dtype == np.uint8


def test_importing_tasks_loads_nothing_heavy():
    script = "import sys, embedstore.tasks; print({'pandas', 'h5py', 'pyfaidx', 'torch', 'zarr'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
