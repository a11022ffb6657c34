from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from probe_tasks import planted_store

import probes
from embedstore.errors import InputError
from probes import planning, results, training
from probes.experiment import run_probe, split_roles
from probes.probe import CNNProbe

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
