"""Every task of BEND, from files of its exact format to a table of results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from bend_files import REGIONS, TARGETS, VARIANTS, write_task
from toys import ToyModel

import embedstore
from embedstore import tasks
from embedstore.errors import InputError
from probes import read_results, run_probe
from probes.results import results_folder
from probes.roles import split_roles
from probes.tables import TASK_ORDER, results_table, to_text

SETTINGS = {"epochs": 1, "draws": 20, "seed": 0, "progress": False, "device": "cpu"}
METRIC = {"gene_finding": "mcc", "enhancer_annotation": "auprc", **dict.fromkeys(TARGETS, "auroc")}
OUTPUTS = {"gene_finding": 9, "enhancer_annotation": 1, **TARGETS}
SIZES = {"gene_finding": None, "enhancer_annotation": (8, 1, 1), **dict.fromkeys(TARGETS, (8, 8, 8))}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The store, and by task its files and the result of a probe on embeddings and of one on letters."""
    folder = tmp_path_factory.mktemp("bend")
    store = embedstore.open_store(folder / "bend.zarr", mode="a")
    found = {}
    for name in REGIONS:
        files = write_task(name, folder / name)
        empty = "zero" if tasks.publication(name).labels.empty else "refuse"
        store.add_task(tasks.from_bed(files.bed, files.genome, record=name, labels=files.labels, empty_labels=empty))
        embedstore.embed(store, name, ToyModel(window=6000), progress=False)
        fold = 10 if name == "enhancer_annotation" else None
        options = {"out": results_folder(store), "fold": fold, **SETTINGS}
        found[name] = (
            files,
            [
                run_probe(store, name, "toy", **options),
                run_probe(store, name, "toy", probe="majority", out=options["out"], fold=fold, draws=20),
            ],
        )
    return store, found


@pytest.mark.parametrize("name", REGIONS)
def test_a_row_for_every_task(results, name: str) -> None:
    _, found = results
    files, (result, _) = found[name]
    row, record = result.row, tasks.record(name)
    assert (row["task"], row["record"], row["metric"], row["recipe"]) == (name, name, METRIC[name], "bend")
    assert row["published"] is False
    assert result.probe.names_ == record.names
    assert len(result.per_class) == OUTPUTS[name]
    published = {key: value for key, value in record.probe.items() if key != "epochs"}
    assert published.items() <= result.probe.get_params().items()
    assert row["epochs"] == 1
    sizes = SIZES[name] or tuple((files.table["split"] == split).sum() for split in ("train", "valid", "test"))
    assert (row["n_train"], row["n_valid"], row["n_test"]) == sizes
    assert row.get("fold") == (10 if name == "enhancer_annotation" else None)
    assert ("exon_f1" in row) == (name == "gene_finding")
    assert row["targets"] == (1 if name == "gene_finding" else OUTPUTS[name])
    # A fold of one sample has the same draw each time, but for rounding.
    assert -1 <= row["low"] <= row["test"] + 1e-12
    assert row["test"] <= row["high"] + 1e-12 <= 1 + 1e-12


@pytest.mark.parametrize("name", REGIONS)
def test_what_was_tested_is_what_was_planted(results, name: str) -> None:
    """The labels behind a result, in the order of the file, whatever became of them in between."""
    _, found = results
    files, (result, baseline) = found[name]
    tested = split_roles(files.table["split"], result.row.get("fold"))["test"]
    planted = [labels for labels, split in zip(files.planted, files.table["split"], strict=True) if split in tested]
    if name == "gene_finding":
        wanted = [np.bincount(labels, minlength=9) for labels in planted]
        np.testing.assert_array_equal(result.scores.confusion.sum(axis=2), wanted)
        assert result.per_class["n"].tolist() == np.sum(wanted, axis=0).tolist()
    else:
        np.testing.assert_array_equal(result.scores.target, np.concatenate(planted).reshape(-1, OUTPUTS[name]))
        assert result.per_class["positives"].tolist() == result.scores.target.sum(axis=0).tolist()
        defined = [0 < column.mean() < 1 for column in result.scores.target.T]
        assert result.row["targets_defined"] == sum(defined)
        rates = result.scores.target.mean(axis=0)
        np.testing.assert_allclose(result.row["base_rate"], rates.mean(), rtol=1e-6)
        np.testing.assert_allclose(baseline.row["test"], rates.mean() if METRIC[name] == "auprc" else 0.5, rtol=1e-6)


def test_one_table_of_all(results) -> None:
    store, _ = results
    rows = read_results(results_folder(store))
    assert len(rows) == 2 * len(REGIONS)
    table = results_table(rows)
    assert list(dict.fromkeys(table["task"])) == [name for name in TASK_ORDER if name in REGIONS]
    assert table["published"].isna().all()  # these are not BEND's samples
    assert table["kind"].value_counts().tolist() == [5, 5]
    assert dict(zip(table["task"], table["metric"], strict=True)) == METRIC
    text = to_text(table)
    assert all(name in text for name in ("toy", "majority", *(metric for metric in ("MCC", "AUROC"))) if name != "MCC")
    pd.testing.assert_series_equal(table["n_test"], table["n_test"].astype(float))


@pytest.mark.parametrize("name", VARIANTS)
def test_tasks_of_variants_are_read_and_not_trained_on(tmp_path, name: str) -> None:
    """They have no splits: nothing is trained. tests/analysis scores them."""
    files = write_task(name, tmp_path)
    table = tasks.read_variants(files.bed, name)
    np.testing.assert_array_equal(table["label"], np.concatenate(files.planted))
    assert not tasks.record(name).probe
    with pytest.raises(InputError, match="not train, valid and test: say which to use by splits"):
        split_roles([""])
