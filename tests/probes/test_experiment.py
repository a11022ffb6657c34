from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from probe_tasks import planted_store
from toys import random_sequences

import embedstore
import probes
from embedstore import tasks
from embedstore.errors import InputError, StoreError
from embedstore.tasks import Labels, TaskRecord
from probes import planning, results, training
from probes.experiment import run_probe, run_ridges, run_spec, spec_folder, split_roles
from probes.linear import RidgeProbe
from probes.predictions import list_predictions
from probes.probe import CNNProbe
from probes.specs import Spec

QUICK = {"progress": False, "device": "cpu", "draws": 50}
RECIPE = {"hidden": 8, "learning_rate": 0.02, "batch_size": 8, "epochs": 4}


@pytest.fixture(scope="module")
def store():
    return planted_store(**RECIPE)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    return run_probe(store, "planted", "toy", out=tmp_path_factory.mktemp("out"), **QUICK)


def test_the_row(store, finished) -> None:
    row = finished.row
    assert (row["task"], row["model"], row["probe"], row["metric"]) == ("planted", "toy", "cnn", "mcc")
    assert (row["n_train"], row["n_valid"], row["n_test"]) == (32, 8, 8)
    assert row["epochs"] == 4
    assert row["parameters"] == 48 * 8 * 3 + 8 + 8 * 8 * 3 + 8 + 8 * 3 + 3
    assert row["low"] < row["test"] < row["high"]
    assert row["valid"] == finished.history["valid"].max()
    assert row["seed"] == finished.probe.seed_
    test = probes.ProbeData.from_store(store, "planted", "toy", "test", progress=False)
    assert finished.probe.score(test) == row["test"]
    assert finished.per_class["name"].tolist() == ["other", "G", "C"]
    assert finished.per_class["n"].sum() == test.targets.counts[test.samples].sum()


def test_the_recipe_of_the_task_is_used_and_can_be_overridden(store, finished) -> None:
    assert {name: finished.probe.get_params()[name] for name in RECIPE} == RECIPE
    other = run_probe(store, "planted", "toy", epochs=1, seed=3, **QUICK)
    assert (other.row["epochs"], other.row["seed"], other.path) == (1, 3, None)
    assert other.row["spec"] != finished.row["spec"]
    with pytest.raises(InputError, match="no parameter 'epoch'. Did you mean 'epochs'"):
        run_probe(store, "planted", "toy", epoch=1)


def test_what_is_written(finished) -> None:
    files = {path.name for path in finished.path.iterdir()}
    assert files == {
        "spec.json", "probe.safetensors", "history.jsonl", "per_class.csv", "curves.png", "curves.csv", "result.json",
        "scores.npz",
    }  # fmt: skip
    assert finished.path.parts[-3:-1] == ("planted", "toy")
    spec = json.loads((finished.path / "spec.json").read_text())
    assert results.digest(spec) == finished.row["spec"]
    assert finished.path.name == finished.row["spec"][:12]
    assert spec["data"]["test"]["splits"] == ["test"]
    lines = pd.read_json(finished.path / "history.jsonl", lines=True)
    np.testing.assert_allclose(lines, finished.history)
    np.testing.assert_allclose(pd.read_csv(finished.path / "curves.csv"), finished.history)
    assert (finished.path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_finished_result_is_not_computed_again(store, finished, monkeypatch) -> None:
    out = finished.path.parents[2]
    with monkeypatch.context() as patch:
        patch.setattr(CNNProbe, "fit", lambda *_, **__: pytest.fail("trained again"))
        again = run_probe(store, "planted", "toy", out=out, **QUICK | {"device": None})
    assert again.row == finished.row
    assert again.path == finished.path
    pd.testing.assert_frame_equal(again.per_class, finished.per_class)
    pd.testing.assert_frame_equal(again.history, finished.history)
    test = probes.ProbeData.from_store(store, "planted", "toy", "test", progress=False)
    np.testing.assert_array_equal(again.probe.predict(test), finished.probe.predict(test))


def test_an_interrupted_run_leaves_its_best_weights_and_is_done_again(store, tmp_path, monkeypatch) -> None:
    def interrupted(*_):
        if metric:
            return 1.0, metric.pop(0)
        raise KeyboardInterrupt

    metric = [0.1, 0.9, 0.3]
    with monkeypatch.context() as patch:
        patch.setattr(training, "_validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_probe(store, "planted", "toy", out=tmp_path, **QUICK)
    (checkpoint,) = tmp_path.rglob("*.safetensors")
    kept = CNNProbe.load(checkpoint)
    assert (kept.best_epoch_, len(kept.history_)) == (2, 2)
    assert len((checkpoint.parent / "history.jsonl").read_text().splitlines()) == 3
    assert probes.read_results(tmp_path).empty
    result = run_probe(store, "planted", "toy", out=tmp_path, **QUICK)
    assert len((result.path / "history.jsonl").read_text().splitlines()) == 4
    assert len(probes.read_results(tmp_path)) == 1


def test_one_hot_goes_through_the_same_code(store, finished) -> None:
    out = finished.path.parents[2]
    result = run_probe(store, "planted", "onehot", out=out, epochs=6, **QUICK)
    assert result.row["test"] > 0.9
    table = probes.read_results(out)
    assert sorted(table["model"]) == ["onehot", "toy"]
    assert table["test"].tolist() == [result.row["test"], finished.row["test"]]


def test_test_samples_are_used_once_and_only_after_training(store, monkeypatch) -> None:
    seen = []
    from_store = probes.ProbeData.from_store

    def watched(store, task, model, names, **options):
        seen.append(names)
        return from_store(store, task, model, names, **options)

    fit = CNNProbe.fit
    monkeypatch.setattr(probes.ProbeData, "from_store", watched)
    monkeypatch.setattr(CNNProbe, "fit", lambda *args, **options: (fit(*args, **options), seen.append("fit"))[0])
    run_probe(store, "planted", "toy", epochs=1, **QUICK)
    assert seen == [["train"], ["valid"], "fit", ["test"]]


def test_a_fold_and_a_task_of_targets() -> None:
    store = planted_store("sequence", "multilabel", splits=[f"part{i % 4 + 1}" for i in range(48)], **RECIPE)
    result = run_probe(store, "planted", "toy", fold=2, **QUICK)
    assert (result.row["fold"], result.row["n_train"]) == (2, 24)
    assert result.row["targets"] == result.row["targets_defined"] == 2
    assert 0 < result.row["base_rate"] < 1
    assert result.per_class.columns.tolist() == ["name", "n", "positives", "base_rate", "auroc", "auprc"]
    own = run_probe(store, "planted", "toy", splits={"train": ["part1", "part2"], "test": "part3"}, **QUICK)
    assert np.isnan(own.row["valid"])
    assert "n_valid" not in own.row


def test_split_roles() -> None:
    parts = [f"part{i}" for i in range(1, 11)]
    assert split_roles(parts, 9) == {"train": parts[:8], "valid": ["part10"], "test": ["part9"]}
    assert split_roles(parts, 10) == {"train": parts[1:9], "valid": ["part1"], "test": ["part10"]}
    assert split_roles(["valid", "train", "test", "other"])["train"] == ["train"]
    for known, fold, splits, message in (
        (parts, None, None, "give fold, 1 to 10"),
        (["train", "test"], None, None, "splits test, train, not train, valid and test: say which to use by splits"),
        (parts, 11, None, "fold 11 is not possible"),
        (parts, 0, None, "fold 0 is not possible"),
        (["train", "valid", "test"], 1, None, "fold 1 is not possible"),
        (parts, None, {"train": "part1"}, "need the keys train, test"),
        (parts, None, {"train": "part1", "test": "part2", "dev": "part3"}, "need the keys train, test"),
        (parts, 1, {"train": "part1", "test": "part2"}, "no fold beside"),
        (parts, None, {"train": ["part1", "part2"], "test": "part2"}, "split 'part2' is used twice"),
    ):
        with pytest.raises(InputError, match=message):
            split_roles(known, fold, splits)


def test_undefined_numbers_are_null_in_json(tmp_path) -> None:
    row = {"test": float("nan"), "n": 3, "name": "x"}
    results.write_json(tmp_path / "row.json", row)
    assert json.loads((tmp_path / "row.json").read_text()) == {"test": None, "n": 3, "name": "x"}
    read = results.read_row(tmp_path / "row.json")
    assert np.isnan(read.pop("test"))
    assert read == {"n": 3, "name": "x"}


def test_learning_curves() -> None:
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3.0, 2.0, 1.0]})
    ax = probes.plot_history(history)
    assert [line.get_label() for line in ax.get_lines()] == ["training loss"]
    plt.close(ax.figure)
    history = history.assign(valid_loss=[3.0, 2.0, 2.5], valid=[0.1, 0.5, 0.4])
    given = Figure().subplots()
    ax = probes.plot_history(history, given, metric="validation mcc")
    assert ax is given
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), history["train_loss"])
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), history["valid_loss"])
    _, right = ax.figure.axes
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), history["valid"])
    np.testing.assert_array_equal(right.get_lines()[1].get_xdata(), [2])
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "best: epoch 2"


def test_names_of_the_package() -> None:
    assert set(probes.__all__) <= set(dir(probes))
    assert all(getattr(probes, name) is not None for name in probes.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = probes.nothing
    assert planning.SPEC_VERSION == 2


# ---- solved together -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    path = tmp_path_factory.mktemp("folds") / "s.zarr"
    return planted_store("sequence", "multilabel", splits=[f"part{i % 4 + 1}" for i in range(48)], path=path)


def spec_of(store, **changes) -> Spec:
    return Spec(str(store.local), "planted", "toy", probe="ridge", **changes)


def test_ridges_together_are_those_alone(folds, tmp_path) -> None:
    specs = [spec_of(folds, fold=fold) for fold in (1, 2, 3, 4)]
    specs.append(spec_of(folds, fold=2, settings={"scale": False}))
    alone = [run_spec(spec, tmp_path / "alone") for spec in specs]
    together = run_ridges(specs, tmp_path / "together")
    for one, other in zip(alone, together, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            if isinstance(value, float) and name != "seconds":
                np.testing.assert_allclose(other[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
            elif name != "seconds":
                assert other[name] == value, name
    assert len({row["spec"] for row in together}) == 5
    assert all(np.isfinite(row["valid"]) for row in together)
    assert run_ridges(specs[::-1], tmp_path / "together") == together[::-1]
    for spec in specs:
        folders = [spec_folder(spec, tmp_path / name) for name in ("alone", "together")]
        one, other = (RidgeProbe.load(folder / "probe.safetensors") for folder in folders)
        np.testing.assert_allclose(other.coefficient_, one.coefficient_, rtol=1e-7, atol=1e-10)
        assert one.data_description_ == other.data_description_
        assert (folders[0] / "spec.json").read_text() == (folders[1] / "spec.json").read_text()


def test_ridges_together_write_predictions_also_when_asked_for_later(folds, tmp_path) -> None:
    spec = spec_of(folds, fold=3, settings={"penalties": [0.1, 1.0]})
    (row,) = run_ridges([spec], tmp_path)
    assert row["spec"][:12] not in list_predictions(folds, "planted", "toy")["name"].tolist()
    later = spec._replace(predictions=True)
    assert run_ridges([later], tmp_path) == [row]
    assert row["spec"][:12] in list_predictions(folds, "planted", "toy")["name"].tolist()


def test_settings_of_a_spec_are_parameters_of_the_probe(folds, tmp_path) -> None:
    for name, value in (("draws", 3), ("task", "other"), ("fold", 2), ("memory_limit", 0)):
        spec = spec_of(folds, fold=1, settings={name: value})
        for function in (run_spec, spec_folder, lambda spec, out: run_ridges([spec], out)):
            with pytest.raises(InputError, match=f"hold '{name}', which is no parameter of a probe"):
                function(spec, tmp_path)


# ---- predictions ---------------------------------------------------------------------------------


def test_predictions_are_written_with_the_result_or_later(folds, tmp_path, monkeypatch) -> None:
    quick = {"fold": 1, "probe": "majority", "draws": 5, "out": tmp_path}
    first = run_probe(folds, "planted", "gc", **quick)
    name = first.row["spec"][:12]
    assert list_predictions(folds, "planted", "gc").empty
    reading = embedstore.open_store(folds.local, mode="r")
    with pytest.raises(StoreError, match="open for reading, and predictions are kept in the store"):
        run_probe(reading, "planted", "gc", predictions=True, **quick)
    later = run_probe(folds, "planted", "gc", predictions=True, **quick)
    assert later.row == first.row
    assert list_predictions(folds, "planted", "gc")["name"].tolist() == [name]
    assert run_probe(reading, "planted", "gc", predictions=True, **quick).row == first.row  # they are there
    with monkeypatch.context() as patch:
        patch.setattr(CNNProbe, "fit", lambda *_, **__: pytest.fail("trained before the store was looked at"))
        with pytest.raises(StoreError, match="open for reading"):
            run_probe(reading, "planted", "toy", predictions=True, fold=1, epochs=1, **QUICK)


# ---- what is read again --------------------------------------------------------------------------


def test_classes_of_any_name_are_read_again(tmp_path) -> None:
    store = embedstore.open_store("memory://", mode="a")
    record = TaskRecord(name="t", level="sequence", type="class", names=("NA", "None", "1"), metric="mcc")
    sequences, splits = random_sequences([30] * 12), [("train", "valid", "test")[i // 3 % 3] for i in range(12)]
    store.add_task(
        tasks.from_sequences("t", sequences, splits=splits, labels=[i % 3 for i in range(12)], record=record)
    )
    for _ in range(2):
        result = run_probe(store, "t", "gc", probe="majority", out=tmp_path, draws=5)
        assert result.per_class["name"].tolist() == ["NA", "None", "1"]
        assert np.isnan(result.per_class["precision"]).sum() == 2  # never predicted


def test_what_a_network_keeps_beside_its_parameters_is_not_counted() -> None:
    store = planted_store("sequence", "multilabel", length=60)
    result = run_probe(store, "planted", "onehot", probe="basset", hidden=3, epochs=1, **QUICK)
    convolutions = 5 * 300 * 19 + 300 * 200 * 11 + 200 * 200 * 7 + 700
    assert result.row["parameters"] == convolutions + 2 * 700 + 200 * 3 + 3 + 3 * 3 + 3 + 3 * 2 + 2


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("alike", ["train", "valid"])
def test_labels_that_are_all_alike_are_refused_before_training(alike: str, monkeypatch) -> None:
    monkeypatch.setattr(CNNProbe, "fit", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(RidgeProbe, "fit", lambda *_, **__: pytest.fail("trained"))
    store = planted_store("sequence", "multilabel", samples=24, length=30)
    labels = store.labels("planted")
    labels.values[:] = np.arange(24)[:, None] // 6 % 2
    labels.values[store.samples("planted")["split"].to_numpy() == alike] = 1
    monkeypatch.setattr(type(store), "labels", lambda self, task: labels)
    for probe in ("cnn", "ridge"):
        with pytest.raises(
            InputError, match=f"splits {alike} have one value only, 1, in every target. Use other splits"
        ):
            run_probe(store, "planted", "toy", probe=probe, **QUICK)


def test_labels_of_the_wrong_width_are_refused(monkeypatch) -> None:
    store = planted_store("sequence", "multilabel", samples=12, length=30)
    labels = store.labels("planted")
    short = Labels(labels.values[:-1], labels.dims, labels.names)
    monkeypatch.setattr(type(store), "labels", lambda self, task: short)
    with pytest.raises(InputError, match="the labels have 11 entries and the samples 12 rows; each needs exactly one"):
        run_probe(store, "planted", "toy", **QUICK)
