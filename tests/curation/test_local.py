"""Coding sequences from files at hand, the list itself, and the table of what was lost."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from databases import CDS, OTHER, PROTEIN, gene, reject

from embedstore.cli import main
from embedstore.curation import curate
from embedstore.curation.local import read_files
from embedstore.curation.retention import STAGES, retention_table
from embedstore.errors import InputError


def local(tmp_path, path, *rows, **options):
    return curate(pd.DataFrame(rows), tmp_path / "out", fasta=[path], **options)


@pytest.mark.parametrize("name", ["cds.fna", "cds.fna.gz"])
def test_by_identifier_and_by_translation(tmp_path, fasta, name):
    other = gene(OTHER, start="GTG")
    path = fasta(("lcl|c_cds_1 [protein_id=NP_1.2] [gene=abc]", CDS), ("x", other), name=name)
    rows = [
        {"id": "NP_1", "protein": PROTEIN},
        {"id": "by gene", "protein": PROTEIN, "gene": "abc"},
        {"id": "blind", "protein": OTHER},
        {"id": "no", "protein": OTHER[:-1]},
    ]
    found = local(tmp_path, path, *rows, names=["gene"])
    assert found.dataset["cds"].tolist() == [CDS, CDS, other]
    assert found.dataset["transl_table"].tolist() == [1, 1, 11]
    assert found.dataset["cds_source"].tolist() == [name] * 3
    assert reject(found)[:2] == ("candidates", "not_in_files")


def test_a_name_does_not_vouch_for_the_sequence(tmp_path, fasta):
    path = fasta(("P00001", gene(OTHER)), ("good", CDS))
    found = local(tmp_path, path, {"id": "P00001", "protein": PROTEIN})
    assert found.dataset["cds_accession"].tolist() == ["good"]
    found = local(tmp_path, fasta(("P00001", gene(OTHER))), {"id": "P00001", "protein": PROTEIN})
    assert reject(found)[:2] == ("checked", "translation_differs")


def test_names_may_repeat_within_a_file(tmp_path, fasta):
    path = fasta(("a", gene(OTHER)), ("a", CDS), ("a", gene(PROTEIN, pick=1)))
    found = local(tmp_path, path, {"id": "a", "protein": PROTEIN})
    assert found.dataset["distinct_cds"].tolist() == [2]


def test_tables_of_local_files(tmp_path, fasta):
    """Mitochondrial and nuclear genes in one file: the one table that gives the protein, unless the list says."""
    mitochondrial, plain = gene("MTWLTTW", table=3), gene("MKVVKV", table=1, pick=1)
    path = fasta(("a", mitochondrial), ("b", plain))
    rows = [{"id": "a", "protein": "MTWLTTW"}, {"id": "b", "protein": "MKVVKV"}]
    assert "TGA" in mitochondrial
    assert local(tmp_path, path, *rows).dataset["id"].tolist() == ["b"]
    found = local(tmp_path, path, *rows, tables=[1, 3])
    assert found.dataset[["id", "transl_table"]].to_numpy().tolist() == [["a", 3]]
    assert reject(found) == ("checked", "several_tables", "of 1, 3: give it in a column transl_table")
    rows[1]["transl_table"] = 1.0
    assert local(tmp_path, path, *rows, tables=[1, 3]).dataset["transl_table"].tolist() == [3, 1]
    path = fasta(("a [transl_table=3]", mitochondrial))
    assert local(tmp_path, path, rows[0]).dataset["transl_table"].tolist() == [3]


def test_records_out_of_frame_are_found_by_name_only(tmp_path, fasta):
    found = local(tmp_path, fasta(("a", CDS[:-1])), {"id": "a", "protein": PROTEIN}, {"id": "b", "protein": PROTEIN})
    assert found.rejects["reason"].tolist() == ["not_multiple_of_3", "not_in_files"]


def test_files_first_then_databases(world, run, fasta):
    world.add("P00002", OTHER)
    found = run(("P00001", PROTEIN), ("P00002", OTHER), fasta=[fasta(("P00001", CDS))])
    assert found.dataset["cds_source"].tolist() == ["cds.fna", "ENA"]
    assert world.asked("P00001") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("<html>", r"cds.fna:1: begins with '<html>.*a FASTA file of coding sequences is wanted"),
        (">a\nACG\n>b\n", r"cds.fna:3: record 'b' has no sequence. Is the file cut off\?"),
    ],
)
def test_bad_local_files(tmp_path, text, message):
    (tmp_path / "cds.fna").write_text(text)
    with pytest.raises(InputError, match=message):
        read_files([tmp_path / "cds.fna"])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": [], "protein": []}, "table: has no rows"),
        ({"acession": ["P1"], "protein": ["M"]}, "table: no column 'id' or 'accession'. Did you mean"),
        ({"id": ["P1"], "proteins": ["M"]}, r"table: no column 'protein' \(or 'sequence'\). Did you mean 'proteins'"),
        (
            {"id": ["P1"], "protein": ["M"], "cds": ["ATG"], "flags": [""]},
            "has the column.s. cds, flags, which curation writes",
        ),
    ],
)
def test_bad_lists(tmp_path, fasta, frame, message):
    with pytest.raises(InputError, match=message):
        curate(pd.DataFrame(frame), tmp_path, fasta=[fasta(("a", "ATG"))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["gen"]}, r"the list has no column 'gen' \(names, --names\). Did you mean 'gene'"),
        ({"workers": 0}, "workers is 0; 1 or more is wanted"),
        ({"folder": "cds.fna"}, "cds.fna is a file, and a folder is wanted there"),
        ({"fasta": ["none.fna"]}, "none.fna: cannot be read: No such file"),
    ],
)
def test_nothing_is_written_where_an_argument_is_wrong(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cds.fna").write_text(">a\nATGGCC\n")
    given = {"folder": "out", "fasta": ["cds.fna"], **options}
    frame = pd.DataFrame({"id": ["a"], "protein": ["MA"], "gene": ["g"]})
    with pytest.raises(InputError, match=message):
        curate(frame, given.pop("folder"), **given)
    assert [path.name for path in tmp_path.iterdir()] == ["cds.fna"]


@pytest.mark.parametrize("rate", ["0", "-1", "nan"])
def test_a_rate_is_above_zero(tmp_path, capsys, rate):
    command = ["curate", "list.csv", "--fasta", "cds.fna", "--rate", rate, "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert f"--rate is {float(rate)}; requests per second, above 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_to_search(tmp_path):
    with pytest.raises(InputError, match="Nothing to search: give FASTA files of coding sequences, or a client"):
        curate(pd.DataFrame({"id": ["a"], "protein": ["M"]}), tmp_path)


def test_empty_cells_and_numbers_of_a_frame(tmp_path, fasta):
    frame = pd.DataFrame(
        {"id": [7], "sequence": ["MKV"], "species": [None], "taxon": [np.nan], "label": [np.float32(1.5)]}
    )
    found = curate(frame, tmp_path / "out", fasta=[fasta(("7", gene("MKV")))])
    assert found.dataset["species"].tolist() == [""]
    assert json.loads((tmp_path / "out" / "dataset.jsonl").read_text())["label"] == 1.5
    frame["label"] = [np.array([1, 2, 3], np.int8)]  # as Parquet gives lists
    curate(frame, tmp_path / "out", fasta=[tmp_path / "cds.fna"])
    assert json.loads((tmp_path / "out" / "dataset.jsonl").read_text())["label"] == [1, 2, 3]


def test_the_dataset_is_read_as_a_task(tmp_path, fasta):
    from embedstore.tasks.coding import coding_task, protein_task, read_coding

    path = fasta(("a", CDS), ("b", gene(OTHER, start="GTG")))
    rows = [{"id": "x", "protein": PROTEIN, "split": "train"}, {"id": "y", "protein": OTHER, "split": "test"}]
    local(tmp_path, path, *({**row, "label": 40.5, "species": "Escherichia coli"} for row in rows))
    data = read_coding(tmp_path / "out" / "dataset.jsonl", "melting_point")
    assert data.table["protein"].tolist() == [PROTEIN, OTHER]
    assert data.table["transl_table"].tolist() == [1, 11]
    assert data.table["distinct_cds"].tolist() == [1, 1]
    cds, proteins = coding_task(data), protein_task(data)
    assert [one.tobytes().decode() for one in proteins.sequences(0, 2)] == [PROTEIN, OTHER]
    assert cds.sequences(1, 2)[0].tobytes().startswith(b"GTG")


def test_retention_counts_stages_species_and_lengths():
    fates = pd.DataFrame(
        {
            "species": ["b", "b", "a", "a", "a", "", "a", "a"],
            "length": [10, 20, 30, 40, 50, 60, 70, 80],
            "stage": ["", "checked", "", "fetched", "candidates", "", "mapping", "accessions"],
        }
    )
    table = retention_table(fates).set_index(["group", "name"])
    assert table.loc[("all", "all"), [*STAGES]].tolist() == [7, 6, 5, 4, 3]
    assert table.loc["species"]["proteins"].to_dict() == {"a": 5, "b": 2, "unknown": 1}
    assert table.loc["species"]["retention"].to_dict() == {"a": 0.2, "b": 0.5, "unknown": 1.0}
    assert table.loc["species"]["length_kept"].to_dict() == {"a": 30, "b": 10, "unknown": 60}
    assert table.loc["length"]["proteins"].tolist() == [2, 2, 2, 2]
    assert table.loc["length"].index.tolist() == ["10 to 28", "28 to 45", "45 to 62", "62 to 80"]
    lost = retention_table(fates[fates["stage"] != ""])
    assert np.isnan(lost.loc[0, "length_kept"])
