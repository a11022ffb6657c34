"""The variant tasks of BEND: from a file of its exact format to scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from bend_files import VARIANTS, write_table, write_task
from scipy.spatial.distance import cosine
from sklearn.metrics import roc_auc_score
from toys import ToyModel

import embedstore
from analysis.scoring import score_variants
from embedstore import tasks
from embedstore.errors import InputError, ReferenceMismatchError
from embedstore.genome import Genome
from embedstore.sequences import decode, encode
from embedstore.variants import check_variants

DISEASE = "variant_effects_disease"


@pytest.fixture
def files(tmp_path):
    return write_task(DISEASE, tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_from_the_released_format_to_scores(tmp_path, name, toy_model):
    files = write_task(name, tmp_path)
    assert list(files.table) == list(tasks.publication(name).columns)
    assert (files.table["start"] == files.table["end"]).all()
    variants = tasks.read_variants(files.bed, name)
    assert list(variants)[:5] == ["chromosome", "position", "ref", "alt", "label"]
    assert variants["position"].tolist() == files.table["start"].tolist()
    assert variants["label"].tolist() == np.concatenate(files.planted).tolist()
    other = list(files.table)[-1]
    assert variants[other].tolist() == files.table[other].tolist()
    assert len(variants.columns) == 6

    assert tasks.publication(name).recipe["context_bidirectional"] == 256
    store = embedstore.open_store("memory://", mode="a")
    scores = score_variants(variants, files.genome, toy_model, store, name=name, progress=False)
    made = store.variants(name)

    model = ToyModel()
    for row, line in enumerate(files.table.itertuples()):
        text = files.contigs[line.chromosome]
        first = min(max(line.start - 256, 0), len(text) - 512)
        place = line.start - first
        windows = [
            text[first : line.start] + letter + text[line.start + 1 : first + 512] for letter in (line.ref, line.alt)
        ]
        samples = made.loc[row, ["reference", "alternate"]].to_numpy(int)
        assert [decode(codes) for codes in store.sequences(name, samples)] == windows
        ours, theirs = (model.expected(encode(window))[place].astype(np.float64) for window in windows)
        assert scores["cosine"][row] == pytest.approx(cosine(ours, theirs), abs=1e-6)
    assert scores["label"].tolist() == variants["label"].tolist()
    assert 0 <= roc_auc_score(scores["label"], scores["cosine"]) <= 1
    found = tasks.publication(name)
    splits = pd.Series("", index=made.index)
    assert not found.is_this(store.record(name), splits)
    many = found._replace(counts={"paper": {"all": len(variants)}})
    assert many.is_this(store.record(name), splits)


def test_rows_of_one_nucleotide_are_the_same_variants(files):
    wanted = tasks.read_variants(files.bed, DISEASE)
    write_table(files.bed, files.table.assign(end=files.table["start"] + 1))
    pd.testing.assert_frame_equal(tasks.read_variants(files.bed, DISEASE), wanted)
    write_table(files.bed, files.table.assign(label=files.table["label"].astype(float)))
    pd.testing.assert_frame_equal(tasks.read_variants(files.bed, DISEASE), wanted)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "end",
            lambda row: row["start"] + 2,
            r"bed:5: start is \d+, end is \d+ and ref is '[ACGT]'; a variant begins at start. start is",
        ),
        ("end", lambda row: row["start"] - 1, r"bed:5: start is \d+, end is \d+ and ref is"),
        ("end", lambda _: "x", r"bed:5: end is 'x'; a whole number is wanted"),
        ("start", lambda _: -1, r"bed:5: start is -1; it must be 0 or more"),
        ("ref", lambda _: "AC", r"bed:5: ref is 'AC' and alt is '[ACGT]'; each must be one of A, C, G, T"),
        ("alt", lambda _: "R", r"bed:5: ref is '[ACGT]' and alt is 'R'; each must be one of A, C, G, T"),
        ("alt", lambda row: row["ref"], r"bed:5: ref and alt are both '[ACGT]'"),
        ("label", lambda _: "2", r"bed:5: label is '2'; a label is wanted: 0 or 1"),
        ("label", lambda _: "", r"bed:5: there is no label; 0 or 1 is wanted"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(files, column, value, message):
    table = files.table.astype(object)
    table.loc[3, column] = value(table.loc[3])
    write_table(files.bed, table)
    with pytest.raises(InputError, match=message):
        tasks.read_variants(files.bed, DISEASE)


def test_copies_and_missing_columns_are_refused(files):
    write_table(files.bed, pd.concat([files.table, files.table.iloc[[2]]]))
    with pytest.raises(
        InputError, match=rf"bed:{len(files.table) + 2}: chr\d+:\d+ [ACGT]>[ACGT] is there already. Remove"
    ):
        tasks.read_variants(files.bed, DISEASE)
    write_table(files.bed, files.table.rename(columns={"label": "labels"}))
    with pytest.raises(InputError, match=r"bed:1: no column 'label', which variant_effects_disease has. Did you mean"):
        tasks.read_variants(files.bed, DISEASE)
    write_table(files.bed, files.table.rename(columns={"chromosome": "chrom"}))
    with pytest.raises(InputError, match="a header is wanted that begins with chromosome, start, end"):
        tasks.read_variants(files.bed, DISEASE)


def test_the_reference_letters_of_another_place_are_refused(files):
    """Coordinates that count from 1, or another build."""
    write_table(files.bed, files.table.assign(start=files.table["start"] + 1, end=files.table["start"] + 1))
    with Genome(files.genome) as genome, pytest.raises(ReferenceMismatchError, match=r"genome\.fa"):
        check_variants(tasks.read_variants(files.bed, DISEASE), genome)


def test_the_python_shown_for_a_task_runs(tmp_path, monkeypatch, capsys, toy_model):
    """As `embedstore tasks` prints it, with another model and without the download."""
    from embedstore import models
    from embedstore.cli import main

    monkeypatch.chdir(tmp_path)
    files = write_task(DISEASE, tmp_path / "data")
    files.genome.rename("GRCh38.fa")
    monkeypatch.setattr(models, "load", lambda _: toy_model)
    assert main(["tasks", DISEASE]) == 0
    lines = [line[2:] for line in capsys.readouterr().out.split("To use it, in Python\n")[1].splitlines()]
    fetch = f'tasks.download("{DISEASE}", "data")'
    assert fetch in lines
    found: dict[str, object] = {}
    exec("\n".join(line for line in lines if line != fetch), found)
    assert len(found["scores"]) == len(files.table)
