"""The six protein tasks: their records and published numbers against the paper, and what may stand beside one's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from embedstore import open_store, tasks
from embedstore.errors import InputError
from embedstore.models.records import records
from embedstore.tasks.published import FINE_TUNED, Publication
from probes.metrics import METRICS, check_metric
from probes.outcome import _published
from probes.tables import TASK_ORDER

# Boshar et al. 2024, Table 1: training, validation, test samples; nucleotides.
TABLE_1 = {
    "fluorescence": (21464, 5366, 27217, 714),
    "beta_lactamase_unique": (3457, 865, 1080, 858),
    "beta_lactamase_complete": (11252, 2814, 1080, 858),
    "stability": (53700, 2512, 12851, 135),
    "melting_point": (9432, 1064, 1648, 1176),
    "secondary_structure": (6224, 1556, 334, 724),
}
# Table 2: fluorescence, complete, unique, stability, melting point, CASP12, CB513, TS115.
TABLE_2 = {
    "nt_v2_500m_multi_species": (0.68, 0.79, 0.76, 0.75, 0.82, 0.51, 0.58, 0.61),
    "dnabert2": (0.67, 0.70, 0.60, 0.57, 0.81),
    "esm2_650m": (0.68, 0.89, 0.89, 0.74, 0.72, 0.63, 0.76, 0.76),
    "esm1b_650m": (0.68, 0.88, 0.88, 0.75, 0.72, 0.61, 0.73, 0.72),
}
ORDER = ["fluorescence", "beta_lactamase_complete", "beta_lactamase_unique", "stability", "melting_point"]
TEST_SETS = ["CASP12", "CB513", "TS115"]


@pytest.mark.parametrize("name", TABLE_1)
def test_counts_lengths_and_metrics_are_those_of_the_paper(name):
    found = tasks.publication(name)
    assert (*found.counts["paper"].values(), found.coding.nucleotides) == TABLE_1[name]
    assert list(found.counts["paper"]) == ["train", "valid", "test"]
    record = found.record
    wanted = {"melting_point": "r2", "secondary_structure": "accuracy"}.get(name, "spearman")
    assert (record.metric, record.alphabet, record.strand) == (wanted, "dna", "forward")
    check_metric(record)
    assert (found.labels.source, set(found.columns)) == ("coding", {"cds", "label", "split"})
    for part in (found.labels.layout, found.metric, found.source, found.coding.folder, found.notes["licence"]):
        assert part
    assert name in TASK_ORDER
    assert found.coding.same_length == (found.coding.nucleotides in (714, 858))


def test_every_published_number_is_that_of_the_table():
    for model, row in TABLE_2.items():
        assert model in records()
        for name, number in zip(ORDER, row, strict=False):
            found = tasks.publication(name)
            assert tasks.published_value(found, model, FINE_TUNED) == number
            assert tasks.published_value(found, model, "cnn") is None
            assert tasks.published_value(found, model, "ridge") is None
    values = tasks.publication("secondary_structure").values
    rows = {"NT-v2 500M": "nt_v2_500m_multi_species", "ESM-2 650M": "esm2_650m", "ESM-1b 650M": "esm1b_650m"}
    wanted = {f"{row} {test}": TABLE_2[rows[row]][5 + place] for row in rows for place, test in enumerate(TEST_SETS)}
    assert values == wanted
    melting = tasks.publication("melting_point").values
    in_text = {"ESM-2 650M + GC": 0.74, "ESM-2 650M + species": 0.79, "NT-v2 500M permuted": 0.79}
    in_text |= {"NT-v2 500M in the text": 0.81, "NT-v2 500M + species": 0.83}
    assert in_text.items() <= melting.items()


def test_the_classes_of_residues_are_in_the_order_of_netsurfp():
    record = tasks.record("secondary_structure")
    assert ("".join(record.names), record.level, record.type) == ("GHIBESTC", "nucleotide", "class")


def test_other_names():
    assert tasks.record("mpp") == tasks.record("melting_point")
    assert tasks.publication("ssp").record.name == "secondary_structure"
    assert "mpp" not in tasks.names()


@pytest.mark.parametrize("name", TABLE_1)
def test_a_task_is_the_published_one_as_coding_sequences_and_as_proteins(name):
    found = tasks.publication(name)
    counts = dict(zip(("train", "valid", "test"), TABLE_1[name], strict=False))
    if name == "secondary_structure":
        counts = {"train": 6224, "valid": 1556, "CASP12": 10, "CB513": 254, "TS115": 70}
    splits = pd.Series(np.repeat(list(counts), list(counts.values())))
    assert found.is_this(found.record, splits)
    assert found.is_this(replace(found.record, alphabet="protein"), splits)
    assert not found.is_this(found.record, splits.iloc[1:])
    assert not found.is_this(replace(found.record, title="mine"), splits)


def test_test_sets_that_are_counted_apart_are_not_added_up():
    found = tasks.publication("gene_finding")
    assert found.counted(pd.Series(["train", "test", "other"])) == {"train": 1, "test": 1, "other": 1}


@pytest.mark.parametrize(("kind", "metrics"), METRICS.items())
def test_metrics_of_each_type(kind, metrics):
    names = () if kind == "value" else ("a", "b")
    for metric in ("mcc", "accuracy", "auroc", "auprc", "r2", "spearman"):
        values = {"name": "x", "level": "sequence", "type": kind, "names": names, "metric": metric}
        if metric in metrics:
            check_metric(tasks.TaskRecord(**values))
        elif kind == "value" or metric in METRICS["value"]:
            with pytest.raises(
                InputError, match=f"'{metric}' does not fit type '{kind}'; 'r2' and 'spearman' are for v"
            ):
                tasks.TaskRecord(**values)
        else:
            with pytest.raises(InputError, match=f"has the metric '{metric}'; probes compute {metrics[0]} or"):
                check_metric(tasks.TaskRecord(**values))


def test_recoded_sequences_are_never_the_published_task(monkeypatch):
    monkeypatch.setattr(Publication, "is_this", lambda *_: True)
    frame = pd.DataFrame({"cds": ["ATGGCA"], "label": [1.0], "split": ["test"]})
    task = tasks.coding_task(tasks.make_coding(frame, "mpp"))
    store = open_store("memory://", mode="a")
    store.add_task(task)
    store.add_task(replace(task, name="recoded", source={**task.source, "kind": "recoded"}))
    assert [_published(store, name) for name in ("melting_point", "recoded")] == [True, False]


def test_a_bed_file_is_no_way_to_read_them(tmp_path):
    with pytest.raises(InputError, match=r"'melting_point' is of coding sequences, .* embedstore.tasks.read_coding"):
        tasks.from_bed(tmp_path / "a.bed", tmp_path / "a.fa", record="mpp")
