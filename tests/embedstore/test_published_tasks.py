"""The seven tasks of BEND: their numbers against the paper, and each loaded from a file of its exact format."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from bend_files import PARTS, REGIONS, TARGETS, THREE, VARIANTS, write_table, write_task
from Bio.Seq import Seq

import embedstore
from embedstore import tasks
from embedstore.errors import InputError
from embedstore.models.records import records
from embedstore.sequences import decode
from embedstore.tasks.published import PAPER_NAMES, ZERO_SHOT
from probes.experiment import split_roles

# Table 3 of the paper's review version, its numbers as printed; a row's first cell is the heading of its part.
TABLE = """
| <b>Literature</b>       |                        | 0.78<br>AUGUSTUS | 0.85<br>Basset          | 0.07 $\\pm$ 0.04<br>Enformer | 0.72<br>Basset       | -               | 0.70<br>DeepSEA              | 0.56<br>DeepSEA           |
| <b>fully supervised</b> | <b>ResNet</b>          | 0.53             | -                       | 0.06                        | -                    | -               | -                            | -                         |
|                         | <b>CNN</b>             | 0.00             | 0.76                    | 0.03                        | 0.71                 | 0.84            | -                            | -                         |
| <b>pre-trained</b>      | <b>ResNet-LM</b>       | 0.35             | 0.81                    | 0.06                        | 0.73                 | 0.87            | 0.56                         | 0.55                      |
|                         | <b>AWD-LSTM</b>        | 0.09             | 0.74                    | 0.05                        | 0.70                 | 0.81            | 0.51                         | 0.48                      |
|                         | <b>NT-H</b>            | 0.41             | 0.75                    | 0.07                        | 0.72                 | 0.88            | 0.55                         | 0.48                      |
|                         | <b>NT-MS</b>           | <b>0.76</b>      | 0.80                    | <b>0.09</b>                 | <b>0.74</b>          | <b>0.92</b>     | 0.55                         | <b>0.77</b>               |
|                         | <b>NT-H-1000G</b>      | 0.31             | -                       | -                           | -                    | 0.89            | 0.45                         | 0.49                      |
|                         | <b>DNABERT</b>         | 0.21             | <b>0.84</b>             | 0.07                        | <b>0.74</b>          | 0.91            | <b>0.60</b>                  | 0.56                      |
|                         | <b>GENA-LM BERT</b>    | 0.23             |                         | 0.05                        | 0.72                 | 0.91            | 0.49                         | 0.55                      |
|                         | <b>GENA-LM BigBird</b> | 0.31             |                         | 0.07                        | 0.74                 | 0.91            | 0.49                         | 0.52                      |
|                         | <b>DNABERT-2</b>       | 0.29             |                         | 0.06                        | 0.72                 | 0.90            | 0.49                         | 0.51                      |
|                         | <b>HyenaDNA large</b>  | 0.36             |                         | 0.07                        | 0.67                 | 0.91            | 0.45                         | 0.51                      |
|                         | <b>HyenaDNA tiny</b>   | 0.09             | 0.79                    | 0.04                        | 0.72                 | 0.86            | 0.47                         | 0.44                      |
"""  # noqa: E501
COLUMNS = (
    "gene_finding",
    "chromatin_accessibility",
    "enhancer_annotation",
    "histone_modification",
    "cpg_methylation",
    "variant_effects_expression",
    "variant_effects_disease",
)
# Table 1, and issue 68 of BEND for the released files.
COUNTS = {
    "gene_finding": [(4780, 598, 598)],
    "histone_modification": [(420_713, 70_801, 120_567), 625_229],
    "cpg_methylation": [(743_095, 109_717, 106_227)],
    "chromatin_accessibility": [2_005_617, 2_062_129],
    "enhancer_annotation": [285],
}


def table_3():
    """Number, and spread or None, by (task, row)."""
    found = {}
    for line in TABLE.strip().splitlines():
        _, row, *cells = [re.sub(r"</?b>", "", cell).strip() for cell in line.split("|")[1:-1]]
        for task, cell in zip(COLUMNS, cells, strict=True):
            number, _, name = cell.partition("<br>")
            if number not in ("", "-"):
                value, _, spread = number.partition(" $\\pm$ ")
                found[task, name or row] = (float(value), float(spread) if spread else None)
    return found


# ---- what was published ---------------------------------------------------------------------------


def test_every_published_number_is_that_of_the_paper():
    seen = {}
    for name in COLUMNS:
        found = tasks.publication(name)
        seen |= {(name, row): (value, found.spread.get(row)) for row, value in found.values.items()}
        assert set(found.spread) <= set(found.values)
    assert seen == table_3()
    assert len(seen) == 83


def test_numbers_are_found_by_model_and_probe():
    paper = table_3()
    for (name, row), (value, _) in paper.items():
        found = tasks.publication(name)
        usual = ZERO_SHOT if name in VARIANTS else "cnn"
        for key, known in PAPER_NAMES.items():
            if known == row:
                assert tasks.published_value(found, *(key if isinstance(key, tuple) else (key, usual))) == value
    genes, disease = tasks.publication("gene_finding"), tasks.publication("variant_effects_disease")
    assert tasks.published_value(genes, "onehot") == 0.0
    for nothing in (("onehot", "linear"), ("nt_2b5_multi_species", "linear"), ("evo", "cnn"), ("onehot", "basset")):
        assert tasks.published_value(genes, *nothing) is None
    assert tasks.published_value(disease, "nt_2b5_multi_species", "cnn") is None
    assert {key for key in PAPER_NAMES if isinstance(key, str)} <= set(records())
    assert {row for _, row in paper} - set(PAPER_NAMES.values()) == {"AUGUSTUS", "Enformer", "DeepSEA"}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_fact_is_there(name):
    found = tasks.publication(name)
    assert found.record == tasks.record(name)
    assert set(found.record.to_dict()) == {
        *("name", "title", "level", "type", "names", "bin_size", "strand", "alphabet", "genome", "metric", "probe"),
        "citation",
    }
    assert all(url.startswith("https://") and url.endswith(file) for file, url in found.downloads.items())
    assert (f"{name}.hdf5" in found.downloads) == (found.labels.source == "hdf5")
    assert f"{name}.bed" in found.downloads
    for part in (found.columns, found.labels.layout, found.metric, found.source, found.notes):
        assert part
    assert json.dumps(found.recipe)
    if name in VARIANTS:
        assert (found.recipe["context_bidirectional"], found.recipe["context_causal"]) == (256, 512)
    else:
        assert found.recipe["optimizer"] == "AdamW"
        assert found.recipe["window"] == {"nucleotide": 1, "bin": 128, "sequence": 512}[found.record.level]


@pytest.mark.parametrize("name", REGIONS)
def test_a_task_is_the_published_one_where_record_and_counts_agree(name):
    found = tasks.publication(name)
    parts = PARTS if name == "enhancer_annotation" else THREE
    for counts in COUNTS[name]:
        if isinstance(counts, int):
            splits = pd.Series(np.resize(parts, counts))
        else:
            splits = pd.Series(np.repeat(parts, counts)).sample(frac=1, random_state=0)
        assert found.is_this(found.record, splits)
        assert not found.is_this(found.record, splits.iloc[1:])
        assert not found.is_this(found.record, splits.replace("test", "train").replace("part1", "part2"))
        assert not found.is_this(tasks.TaskRecord.from_dict(found.record.to_dict() | {"title": "mine"}), splits)
    if name == "gene_finding":
        assert not found.is_this(found.record, pd.Series(np.repeat(THREE, (4779, 599, 598))))


def test_a_task_of_variants_is_the_published_one_by_name_and_count():
    found = tasks.publication("variant_effects_disease")
    assert found.is_this(found.record, pd.Series([""] * 295_495))
    for splits in ([""] * 2 * 295_495, ["test"] * 295_495, [""] * 295_494):
        assert not found.is_this(found.record, pd.Series(splits))
    assert not found.is_this(tasks.record("variant_effects_expression"), pd.Series([""] * 295_495))


# ---- files of the exact format --------------------------------------------------------------------


def load(name, files, **changes):
    options = {"empty_labels": "zero"} if tasks.publication(name).labels.empty else {}
    options |= {"record": name, "labels": files.labels}
    return tasks.from_bed(files.bed, files.genome, **(options | changes))


@pytest.mark.parametrize("name", REGIONS)
def test_a_file_of_its_format_becomes_a_task_in_a_store(name, tmp_path):
    files, found = write_task(name, tmp_path), tasks.publication(name)
    assert list(files.table) == list(found.columns)
    task = load(name, files)
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(task)

    table = store.samples(name)
    for column in ("chromosome", "start", "end", "strand", "split"):
        assert table[column].tolist() == files.table[column].tolist()
    turned = (table["strand"] == "-") & (found.record.strand == "given")
    places = zip(table["chromosome"], table["start"], table["end"], turned, strict=True)
    wanted = [Seq(files.contigs[chromosome][start:end]) for chromosome, start, end, _ in places]
    wanted = [str(one.reverse_complement() if turn else one) for one, turn in zip(wanted, turned, strict=True)]
    assert [decode(codes) for codes in store.sequences(name)] == wanted
    assert {"+", "-"} <= set(table["strand"])

    labels = store.labels(name)
    np.testing.assert_array_equal(labels.values.reshape(-1), np.concatenate(files.planted))
    wanted_dims = {"nucleotide": ("nucleotide",), "bin": ("sample", "bin"), "sequence": ("sample", "target")}
    assert labels.dims == wanted_dims[found.record.level]
    assert labels.names == found.record.names
    if found.labels.bins:
        assert labels.values.shape[1] == found.labels.bins == 782
    assert store.record(name) == found.record
    assert not found.is_this(store.record(name), table["split"])

    known = table["split"].unique()
    assert set(known) == set(found.splits)
    if name == "enhancer_annotation":
        roles = split_roles(known, 10)
        assert (roles["test"], roles["valid"], len(roles["train"])) == (["part10"], ["part1"], 8)
    else:
        assert split_roles(known) == {split: [split] for split in THREE}


def test_classes_of_genes_mark_the_letters_of_splice_sites(tmp_path):
    """Independent of how they were written: GT and AG stand where the labels say, on either strand."""
    files = write_task("gene_finding", tmp_path)
    task = load("gene_finding", files)
    text = "".join(decode(codes) for codes in task.sequences(0, len(task.samples)))
    values, classes = task.labels.values, task.record.names
    pairs = {1: (0, "GT"), 3: (-1, "AG"), 5: (-1, "AC"), 7: (0, "CT")}  # AC and CT are GT and AG on the other strand
    for label, (shift, letters) in pairs.items():
        places = np.flatnonzero(values == label)
        assert len(places) > 3, classes[label]
        assert {text[place + shift : place + shift + 2] for place in places} == {letters}
    assert "transcript_id" in task.samples
    assert "input_length" not in task.samples
    assert task.samples["id"][0].endswith(f"|{files.table['transcript_id'][0]}")


def test_bins_may_be_rows_of_variable_length(tmp_path):
    files = write_task("enhancer_annotation", tmp_path, ragged=True)
    np.testing.assert_array_equal(load("enhancer_annotation", files).labels.values, np.array(files.planted))


def test_empty_labels_of_cpg_are_refused_until_asked_for(tmp_path):
    files = write_task("cpg_methylation", tmp_path)
    assert (files.table["label"] == "").any()
    with pytest.raises(InputError, match=r"cpg_methylation.bed:7: label is ''.*empty_labels='zero'"):
        load("cpg_methylation", files, empty_labels="refuse")


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_too_many_is_refused(name, tmp_path):
    files = write_task(name, tmp_path)
    width = TARGETS[name]
    files.table.loc[2, "label"] = f"0,{width}"
    write_table(files.bed, files.table)
    with pytest.raises(InputError, match=rf"bed:4: label {width} is out of range; .* targets 0 to {width - 1}"):
        load(name, files)


def test_labels_of_another_width_are_refused(tmp_path):
    files = write_task("enhancer_annotation", tmp_path)
    with h5py.File(files.labels, "w") as file:
        file["labels"] = np.array(files.planted)[:, :-1]
    with pytest.raises(InputError, match=r"row 0 of 'labels' .*bed:2\): 781 labels; the sample needs 782, one per bin"):
        load("enhancer_annotation", files)
    with h5py.File(files.labels, "w") as file:
        file["labels"] = np.array(files.planted)[:-1]
    with pytest.raises(InputError, match=r"'labels' has 9 rows for 10 samples"):
        load("enhancer_annotation", files)


def test_names_of_chromosomes_of_another_habit_are_refused(tmp_path):
    files = write_task("chromatin_accessibility", tmp_path / "a")
    theirs = write_task("histone_modification", tmp_path / "b")
    with pytest.raises(InputError, match=r"bed:2: no contig '1'.* calls it 'chr1': its names have 'chr' \(another"):
        load("chromatin_accessibility", files._replace(genome=theirs.genome))
    with pytest.raises(InputError, match=r"bed:2: no contig 'chr1'.* calls it '1': its names have no 'chr'"):
        load("histone_modification", theirs._replace(genome=files.genome))


def test_wrong_splits_are_refused(tmp_path):
    files = write_task("histone_modification", tmp_path)
    write_table(files.bed, files.table.rename(columns={"split": "splits"}))
    with pytest.raises(InputError, match=r"bed:1: no column 'split'. Did you mean 'splits'\?"):
        load("histone_modification", files)
    write_table(files.bed, files.table.replace({"split": {"valid": "validation"}}))
    task = load("histone_modification", files)
    with pytest.raises(InputError, match="the task has the splits test, train, validation, not train, valid and test"):
        split_roles(task.samples["split"].unique())


def test_regions_are_no_variants_and_the_other_way_round(tmp_path):
    files = write_task("variant_effects_disease", tmp_path / "a")
    with pytest.raises(InputError, match="is of variants, places without a length"):
        tasks.from_bed(files.bed, files.genome, record="variant_effects_disease", split="")
    with pytest.raises(
        InputError, match="task 'cpg_methylation' is not one of variants; .* by embedstore.tasks.from_bed"
    ):
        tasks.read_variants(files.bed, "cpg_methylation")


# ---- tables of a file -----------------------------------------------------------------------------

LEAST = 'name = "a"\nlevel = "sequence"\ntype = "multilabel"\nmetric = "auroc"\nnames = 2\n'


def test_a_record_needs_no_publication(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(LEAST)
    found = tasks.publication(path)
    assert (found.labels.source, found.counts, found.values, found.samples) == ("column", {}, {}, 0)
    assert not found.is_this(found.record, pd.Series(["train", "test"]))
    path.write_text(LEAST + "[samples]\npaper = { train = 1, test = 1 }\n")
    assert tasks.publication(path).is_this(found.record, pd.Series(["train", "test"]))
    assert tasks.record(path) == found.record


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[publishd]\nmetric = 3\n", 6, "unknown key 'publishd'. Did you mean 'published'?"),
        ("[label]\nsource = 'column'\n", 6, "unknown key 'label'. Did you mean 'labels'?"),
        (
            "[labels]\nsource = 'colunm'\n",
            7,
            "labels.source is 'colunm'; it must be one of column, hdf5, variants, coding",
        ),
        ("[labels]\nbin = 3\n", 7, "unknown key 'bin' in labels. Did you mean 'bins'?"),
        ("[labels]\nempty = 1\n", 7, "'empty' in labels is 1; it must be of type bool"),
        ("[recipe]\nwindow = '512'\n", 7, "'window' in recipe is '512'; it must be of type int"),
        ("[recipe]\nwindow = -1\n", 7, "'window' in recipe is -1; it must not be negative"),
        ("[recipe]\nlos = 'x'\n", 7, "unknown key 'los' in recipe. Did you mean 'loss'?"),
        ("[samples]\nsplits = 'train'\n", 7, "samples.splits is 'train'; a list of names is wanted"),
        ("[samples]\npaper = 3\n", 7, "samples.paper is 3; a table is wanted"),
        ("[samples.paper]\ntrain = true\n", 7, "'train' in samples.paper is True; it must be of type int"),
        ("[published]\n[published.values]\n'NT-H' = 'x'\n", 8, "'NT-H' in published.values is 'x'"),
        ("[columns]\nname = 1\n", 7, "'name' in columns is 1; it must be of type str"),
        ("[probe]\nhidden = 2.5\n[labels]\nsource = 'column'\n", 7, "probe.hidden is 2.5"),
    ],
)
def test_wrong_tables_are_refused_with_their_line(tmp_path, text, line, message):
    path = tmp_path / "mine.toml"
    path.write_text(LEAST + text)
    with pytest.raises(InputError) as caught:
        tasks.publication(path)
    assert str(caught.value).startswith(f"{path}:{line}: {message}")


@pytest.mark.parametrize("name", ["variant_effects_expression", "variant_effects_disease"])
def test_variants_are_not_taken_for_regions(name, tmp_path) -> None:
    with pytest.raises(InputError, match=f"task '{name}' is of variants, .*read_variants"):
        tasks.from_bed(tmp_path / "v.bed", tmp_path / "g.fa", record=name)
