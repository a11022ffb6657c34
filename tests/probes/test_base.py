"""What all kinds of probes share: every kind on tiny planted tasks, files, scikit-learn's ways."""

from __future__ import annotations

import dataclasses
import json
import logging
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from probe_tasks import planted_store
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

from embedstore.errors import CheckpointError, InputError
from probes.dataset import ProbeData
from probes.experiment import run_probe
from probes.kinds import PROBES, probe_kind
from probes.linear import RidgeProbe
from probes.networks import NETWORKS
from probes.planning import make_probe
from probes.probe import NetworkProbe

TASKS = [
    ("nucleotide", "class"),
    ("nucleotide", "value"),
    ("bin", "class"),
    ("bin", "multilabel"),
    ("bin", "value"),
    ("sequence", "class"),
    ("sequence", "multilabel"),
    ("sequence", "value"),
]
TINY = {
    "cnn": {"hidden": 4},
    "mlp": {"hidden": 8, "dropout": 0.1},
    "attention": {"hidden": 4},
    "resnet": {"hidden": 4, "encoder_hidden": 6, "encoder_layers": 2},
    "basset": {"hidden": 6},
}
COLUMNS = [
    *("task", "model", "probe", "recipe", "layer", "fold", "test_split", "seed"),
    *("metric", "test", "low", "high", "targets"),
    *("targets_defined", "test_loss", "base_rate", "ece", "exon_f1", "gene_exact", "valid", "epochs", "best_epoch"),
    *("parameters", "receptive_field", "device", "n_train", "n_valid", "n_test", "blocks_missing", "seconds"),
    *("record", "published", "spec", "embedstore"),
]


@cache
def tiny(level: str, kind: str):
    return planted_store(level, kind, samples=30, length=60)


def split(store, name: str, model: str = "toy", **options) -> ProbeData:
    return ProbeData.from_store(store, "planted", model, name, progress=False, **options)


def can(probe: str, level: str, kind: str) -> bool:
    network = NETWORKS.get(PROBES[probe].parameters.get("network", ""))
    return kind != "value" if probe == "logistic" else network is None or level in network.levels


ONE_EACH = [("nucleotide", "class"), ("bin", "multilabel"), ("sequence", "value")]
OF_RESIDUES = ("slots", "slots_ridge")  # labels of codons: tests/probes/test_slots.py
SHARED = ("mlp", "attention", "resnet", "basset")  # with the CNN: training, loss and metric of every task


@pytest.mark.parametrize(
    ("probe", "level", "kind"),
    [
        (probe, *task)
        for probe in PROBES
        if probe not in OF_RESIDUES
        for task in (ONE_EACH if probe in SHARED else TASKS)
    ],
)
def test_every_probe_on_every_task(probe: str, level: str, kind: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda _, path: path.touch())  # drawing takes longer than all the rest
    store = tiny(level, kind)
    trained = "network" in PROBES[probe].parameters
    letters = trained and NETWORKS[probe].needs == "onehot"
    settings = {"epochs": 2, "batch_size": 8} | TINY.get(probe, {}) if trained else {}
    settings |= {} if probe == "majority" else {"progress": False}
    options = {"probe": probe, "out": tmp_path, "draws": 10, **settings}
    if not can(probe, level, kind):
        with pytest.raises(InputError, match=f"those of task .* belong to a {level}|is a task of values|of values"):
            run_probe(store, "planted", "onehot", **options)
        return
    result = run_probe(store, "planted", "onehot" if letters else "toy", **options)
    row = result.row
    assert list(row) == [name for name in COLUMNS if name in row]
    absent = set(COLUMNS) - set(row)
    assert absent <= {"layer", "fold", "base_rate", "ece", "exon_f1", "gene_exact", "receptive_field"}
    assert ("base_rate" in row) == (kind == "multilabel")
    assert ("ece" in row) == (kind != "value" and probe != "ridge")
    assert row["epochs"] == len(result.history) >= row["best_epoch"] >= 1
    assert (row["n_train"], row["n_valid"], row["n_test"]) == (20, 5, 5)
    assert (row["probe"], row["blocks_missing"], row["published"]) == (probe, 0, False)
    assert row["parameters"] == number_of_weights(result.probe)
    # What is there is read again, and its probe says the same.
    again = run_probe(store, "planted", row["model"], **options)
    assert {**again.row, "test": str(again.row["test"])} == {**row, "test": str(row["test"])}
    assert again.path == result.path
    for one, other in zip(again.scores, result.scores, strict=True):
        np.testing.assert_array_equal(one, other)
    pd.testing.assert_frame_equal(again.per_class, result.per_class)
    pd.testing.assert_frame_equal(again.history, result.history)
    test = split(store, "test", row["model"], pooled=result.probe.data_description_.get("pooled", False))
    np.testing.assert_array_equal(again.probe.predict(test), result.probe.predict(test))
    valid = split(store, "valid", row["model"], pooled=result.probe.data_description_.get("pooled", False))
    np.testing.assert_allclose(row["valid"], result.probe.score(valid), rtol=1e-6)
    files = {path.name for path in result.path.iterdir()}
    drawn = {"curves.png", "curves.csv"} if trained else set()
    common = {"spec.json", "probe.safetensors", "history.jsonl", "per_class.csv", "result.json", "scores.npz"}
    assert files == common | drawn
    check_predictions(result.probe, test, kind)


def number_of_weights(probe) -> int:
    if hasattr(probe, "network_"):
        return sum(weight.numel() for name, weight in probe.network_.named_parameters())
    coefficient = getattr(probe, "coefficient_", np.zeros(0))
    return coefficient.size + probe.intercept_.size


def check_predictions(probe, test: ProbeData, kind: str) -> None:
    predicted, positions = probe.predict(test), int(test.targets.counts[test.samples].sum())
    classes = len(test.targets.names)
    assert predicted.shape == ((positions,) if kind == "class" else (positions, classes))
    assert predicted.dtype == {"class": np.int64, "multilabel": np.uint8, "value": np.float32}[kind]
    if kind == "value" or not probe.probabilities:
        with pytest.raises(InputError, match="it has no probabilities"):
            probe.predict_proba(test)
        outputs = torch.cat([output for _, output in probe.outputs(test)]).numpy()
        if kind == "multilabel":
            np.testing.assert_array_equal(predicted, outputs > 0.5)
        return
    probability = probe.predict_proba(test)
    assert probability.shape == (positions, classes)
    if kind == "class":
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(probability.argmax(axis=1), predicted)
    else:
        np.testing.assert_array_equal(probability > 0.5, predicted)


# ---- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBES)
def test_kinds_make_what_they_say(name: str) -> None:
    kind = probe_kind(name)
    made = kind.make({})
    assert isinstance(made, kind.load())
    assert all(made.get_params()[key] == value for key, value in kind.parameters.items())
    assert kind.seeded == ("seed" in made.get_params())
    assert clone(made).get_params() == made.get_params()
    assert kind.title
    for parameter in kind.parameters:
        with pytest.raises(InputError, match=f"the probe has no parameter '{parameter}'"):
            kind.make({parameter: "mlp"})
    with pytest.raises(NotFittedError):
        made.save("nowhere")


def test_names_of_networks_and_parameters() -> None:
    with pytest.raises(InputError, match="there is no probe 'rigde'. Did you mean 'ridge'"):
        probe_kind("rigde")
    with pytest.raises(InputError, match="no parameter 'penalty'. Did you mean 'penalties'"):
        make_probe(PROBES["ridge"], {"penalty": 3})
    with pytest.raises(InputError, match="no parameter 'dropuot'. Did you mean 'dropout'"):
        make_probe(PROBES["mlp"], {"dropuot": 0.2})
    assert make_probe(PROBES["mlp"], {"dropout": 0.2, "options": {"layers": 2}}).options == {
        "layers": 2,
        "dropout": 0.2,
    }
    assert make_probe(PROBES["majority"], {"progress": False, "device": "cpu"}).get_params() == {}
    made = NetworkProbe(epochs=3, device="cpu", seed=4)
    assert made.recipe() == {
        key: value for key, value in made.get_params().items() if key not in ("device", "progress")
    }


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ridge():
    return RidgeProbe(progress=False).fit(split(tiny("sequence", "multilabel"), "train"))


def test_files_that_hold_no_such_probe(ridge, tmp_path) -> None:
    path = tmp_path / "probe.safetensors"
    ridge.save(path)
    whole = path.read_bytes()
    assert RidgeProbe.load(path, device="cpu").penalties == ridge.penalties
    with pytest.raises(CheckpointError, match=f"{path}: holds a RidgeProbe, not a NetworkProbe"):
        NetworkProbe.load(path)
    for damage in (b"", whole[:-3], whole[: len(whole) // 2], b"\0" * 100):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match=f"{path}: is not a whole file of a probe: .* Train the probe again"):
            RidgeProbe.load(path)
    for metadata in (None, {"format": "pt"}, {"embedstore": "{"}):
        save_file({"x": torch.zeros(1)}, path, metadata)
        with pytest.raises(CheckpointError, match="is not a whole file of a probe"):
            RidgeProbe.load(path)
    with pytest.raises(CheckpointError, match="nothing.safetensors: is not a whole file"):
        RidgeProbe.load(tmp_path / "nothing.safetensors")


def test_a_file_holds_what_it_takes_to_use_the_probe(ridge, tmp_path) -> None:
    path = tmp_path / "probe.safetensors"
    ridge.save(path)
    assert load_file(path).keys() == {"coefficient", "intercept"}
    loaded = RidgeProbe.load(path)
    for name in ("record_", "names_", "data_description_", "seed_", "best_epoch_", "penalty_"):
        assert getattr(loaded, name) == getattr(ridge, name), name
    pd.testing.assert_frame_equal(loaded.history_, ridge.history_)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert json.loads(header["__metadata__"]["embedstore"])["probe"] == "RidgeProbe"


def test_another_model_task_or_width_is_refused(ridge) -> None:
    other = split(planted_store("sequence", "value", samples=30, length=60), "test")
    with pytest.raises(
        InputError, match=r"for task 'planted_sequence_multilabel' \(sequence, multilabel, 1; outputs G"
    ):
        ridge.predict(other)
    with pytest.raises(
        InputError, match=r"trained on planted/toy; .* made differently \(architecture: 'toy', here 'gc'"
    ):
        ridge.predict(split(tiny("sequence", "multilabel"), "test", "gc"))
    with pytest.raises(NotFittedError):
        RidgeProbe().predict(other)


# ---- scikit-learn --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything():
    return split(tiny("sequence", "value"), ["train", "valid", "test"], "kmer1", pooled=True)


def test_search_over_a_grid(everything) -> None:
    """A penalty that leaves nothing must lose against one that does nothing."""
    search = GridSearchCV(RidgeProbe(progress=False), {"penalties": [(1e6,), (1e-6,)]}, cv=3, error_score="raise")
    search.fit(everything)
    assert search.best_params_ == {"penalties": (1e-6,)}
    assert search.best_score_ > 0.99  # the labels are shares of letters, and so are the rows
    assert abs(search.cv_results_["mean_test_score"][0]) < 0.5
    assert search.best_estimator_.score(everything) > 0.99
    network = NetworkProbe("linear", batch_size=8, seed=0, progress=False, device="cpu")
    search = GridSearchCV(network, {"learning_rate": [1e-9, 0.1], "epochs": [20]}, cv=2, error_score="raise")
    assert search.fit(everything).best_params_["learning_rate"] == 0.1


def test_cross_validation_by_groups(everything, monkeypatch) -> None:
    groups = np.repeat(["chr1", "chr2", "chr3", "chr4", "chr5"], 6)
    fit, score, seen = RidgeProbe.fit, RidgeProbe.score, []
    monkeypatch.setattr(RidgeProbe, "fit", lambda self, data, y=None: (seen.append(data), fit(self, data))[1])
    monkeypatch.setattr(RidgeProbe, "score", lambda self, data, y=None: (seen.append(data), score(self, data))[1])
    found = cross_val_score(
        RidgeProbe(progress=False), everything, groups=groups, cv=GroupKFold(5), error_score="raise"
    )
    assert (found > 0.99).all()
    for train, test in zip(seen[::2], seen[1::2], strict=True):
        held = set(groups[test.samples])
        assert len(held) == 1
        assert not held & set(groups[train.samples])
        assert len(train) + len(test) == len(everything)


def test_a_log_line_for_targets_that_are_not_defined(caplog) -> None:
    store = planted_store("sequence", "multilabel", samples=30, length=20)
    target = store.labels("planted").values
    assert 0 < target.mean() < 1
    labels = split(store, "test").targets.of(split(store, "test").samples).numpy()
    alike = (labels == labels[0]).all(axis=0)
    with caplog.at_level(logging.WARNING):
        row = run_probe(store, "planted", "gc", probe="majority", draws=5).row
    assert row["targets_defined"] == 2 - alike.sum()
    assert any("auroc is not defined for" in message for message in caplog.messages) == alike.any()


def test_other_targets_of_the_same_kind_are_refused(ridge) -> None:
    data = split(tiny("sequence", "multilabel"), "test")
    names = dataclasses.replace(data.record, names=("C", "G"))
    other = dataclasses.replace(data, targets=dataclasses.replace(data.targets, record=names))
    assert ridge.predict(data).shape == (5, 2)
    with pytest.raises(InputError, match=r"outputs G, C\); .* has sequence, multilabel, 1 and outputs C, G"):
        ridge.predict(other)
