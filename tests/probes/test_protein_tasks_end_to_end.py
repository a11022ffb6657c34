"""Protein tasks from coding sequences to a table of results, with their own metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from toys import ToyModel

import embedstore
from embedstore.errors import InputError
from embedstore.tasks import coding_task, make_coding
from probes import read_results, run_probe
from probes.results import results_folder
from probes.tables import results_table, to_text

CODONS = ["GCT", "GGA", "AAA", "CTG", "GAC", "TTC"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Stability that is a sum over codons, and structure in which each codon has its class; one toy model of codons."""
    rng = np.random.default_rng(1)
    store = embedstore.open_store(tmp_path_factory.mktemp("proteins") / "s.zarr", mode="a")
    chosen = [rng.integers(0, 6, int(size)) for size in rng.integers(6, 12, 150)]
    cds = ["".join(CODONS[one] for one in codons) for codons in chosen]
    value = [np.exp(np.mean(np.arange(6)[codons])) for codons in chosen]
    stability = pd.DataFrame({"cds": cds, "label": value, "split": np.resize(["train"] * 3 + ["valid", "test"], 150)})
    tests = np.resize(["train"] * 3 + ["CASP12", "CB513", "TS115"], 150)
    structure = pd.DataFrame(
        {"cds": cds, "label": ["".join("GHIBES"[one] for one in row) for row in chosen], "split": tests}
    )
    structure.loc[0, "cds"] += "TAA"
    for frame, name in ((stability, "stability"), (structure, "secondary_structure")):
        store.add_task(coding_task(make_coding(frame, name)))
        embedstore.embed(store, name, ToyModel(), progress=False)
    return store


def test_spearman_of_a_ridge_probe(store) -> None:
    options = {"out": results_folder(store), "draws": 50, "progress": False}
    result = run_probe(store, "stability", "toy", probe="ridge", **options)
    target, score = (values[:, 0] for values in (result.scores.target, result.scores.score))
    np.testing.assert_allclose(result.row["test"], spearmanr(target, score).statistic, rtol=1e-6)
    assert result.row["metric"] == "spearman"
    assert 0.8 < result.row["low"] < result.row["test"] < result.row["high"] <= 1
    assert result.row["published"] is False
    majority = run_probe(store, "stability", "toy", probe="majority", out=options["out"], draws=50)
    assert np.isnan([majority.row[name] for name in ("test", "low", "high")]).all()


def test_accuracy_of_each_test_set(store) -> None:
    options = {"out": results_folder(store), "draws": 50, "progress": False}
    with pytest.raises(
        InputError, match="the task has the splits CASP12, CB513, TS115, train, valid, not train, valid"
    ):
        run_probe(store, "secondary_structure", "toy", probe="logistic", **options)
    for test in ("CASP12", "TS115"):
        splits = {"train": "train", "valid": "valid", "test": test}
        result = run_probe(store, "secondary_structure", "toy", probe="logistic", splits=splits, **options)
        assert result.row["metric"] == "accuracy"
        assert result.row["test"] > 0.95
        residues = store.lengths("secondary_structure")[store.samples("secondary_structure")["split"] == test].sum()
        counts = result.scores.confusion
        assert counts.sum() == residues  # each at its three nucleotides
        np.testing.assert_allclose(result.row["test"], np.trace(counts.sum(axis=0)) / residues)


def test_a_table_with_their_metrics(store) -> None:
    table = results_table(read_results(results_folder(store)))
    assert list(dict.fromkeys(table["task"])) == ["stability", "secondary_structure"]
    assert set(table["metric"]) == {"spearman", "accuracy"}
    text = to_text(table)
    for wanted in ("stability (Spearman)", "secondary_structure (accuracy)", "undefined"):
        assert wanted in text
    remark = "the metric is not defined for the others, whose test labels or predictions are all alike"
    assert remark in table.loc[table["probe"] == "majority", "remarks"].iloc[0]
