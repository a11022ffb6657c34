"""Which layer of a model holds the labels, where one was made to."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from encoders import GOLDEN
from matplotlib import pyplot as plt
from toys import random_sequences

import embedstore
from embedstore import models, tasks
from embedstore.errors import InputError
from probes.comparison import comparison_table
from probes.layers import COLUMNS, layer_profile
from probes.plots import plot_layers
from probes.results import read_results, results_folder
from probes.tables import results_table

BEST = 1
LAYERS = {0: "lm.0", BEST: "lm.1", 2: "lm.2", -1: "lm.last", "1-2": "lm.mean"}
RECORD = tasks.TaskRecord(name="t", level="sequence", type="value", names=("planted",), metric="r2")
QUICK = {"progress": False, "penalties": (1e-4, 1e-2, 1.0)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A task whose labels are a channel of one layer, on which a stand-in of the others knows nothing."""
    store = embedstore.open_store(tmp_path_factory.mktemp("store") / "s.zarr", mode="a")
    sequences = random_sequences([60] * 300, seed=4)
    splits = [("train", "train", "valid", "test")[number % 4] for number in range(300)]
    made = {layer: models.load(GOLDEN / "nt_v1", layer=layer) for layer in LAYERS}
    store.add_task(tasks.from_sequences("first", sequences, splits=splits))
    pooled = {}
    for layer, name in LAYERS.items():
        embedstore.embed(store, "first", made[layer], name=name, progress=False)
        pooled[layer] = store.embedding("first", name).pooled().astype(np.float64)
    # The direction of this layer that the others say least of.
    scaled = [pooled[BEST] - pooled[BEST].mean(axis=0)]
    scaled += [pooled[layer] - pooled[layer].mean(axis=0) for layer in (0, 2, -1)]
    others = np.column_stack(scaled[1:])
    kept = others @ np.linalg.lstsq(others, scaled[0], rcond=None)[0]
    _, directions = scipy.linalg.eigh(kept.T @ kept, scaled[0].T @ scaled[0])
    labels = scaled[0] @ directions[:, 0]
    labels = (labels / labels.std())[:, None]
    store.add_task(tasks.from_sequences("t", sequences, splits=splits, labels=labels, record=RECORD))
    for layer, name in LAYERS.items():
        embedstore.embed(store, "t", made[layer], name=name, progress=False)
    return store


@pytest.fixture(scope="module")
def profile(store):
    return layer_profile(store, "t", **QUICK)


def test_the_planted_layer_is_best(store, profile) -> None:
    assert tuple(profile.columns) == COLUMNS
    assert profile["model"].tolist() == ["lm.0", "lm.1", "lm.2", "lm.last", "lm.mean"]
    np.testing.assert_array_equal(profile["layer"], [0, 1, 2, profile["layers"][0] + 1, np.nan])
    assert profile["checkpoint"].nunique() == 1
    assert len(profile["checkpoint"][0]) == 12
    assert (profile["metric"] == "r2").all()
    for column in ("valid", "test"):
        assert profile["model"][profile[column].argmax()] == "lm.1"
        assert profile.set_index("model")[column]["lm.1"] > 0.9
        assert (profile.set_index("model")[column].drop(["lm.1", "lm.mean"]) < 0.6).all()
    assert ((profile["low"] <= profile["test"]) & (profile["test"] <= profile["high"])).all()
    rows = read_results(results_folder(store))
    assert sorted(rows["path"]) == sorted(profile["path"])
    axes = plot_layers(profile[["layer", "test", "low", "high"]].dropna())
    assert "best: layer 1" in " ".join(text.get_text() for text in axes.get_legend().get_texts())
    plt.close(axes.figure)


def test_a_layer_that_is_a_mean_of_several_goes_into_all_tables(store, profile) -> None:
    rows = read_results(results_folder(store))
    assert {"mean of 1-2", -1, 1} <= set(rows["layer"])
    table = comparison_table(rows, {"model": "lm.0"}, draws=50).set_index("model")
    assert table["layer"]["lm.mean"] == "mean of 1-2"
    assert table["layer"]["lm.1"] == 1
    assert table["difference"].idxmax() == "lm.1"
    cells = results_table(rows).set_index("model")
    assert cells["layer"].to_dict() == {"lm.0": "0", "lm.1": "1", "lm.2": "2", "lm.last": "", "lm.mean": "mean of 1-2"}


def test_baselines_beside_the_layers(store, tmp_path) -> None:
    found = layer_profile(store, "t", ["lm.2", "gc", "onehot"], out=tmp_path, **QUICK)
    assert sorted(found["model"]) == ["gc", "lm.2", "onehot"]
    assert found.set_index("model")["layer"].isna().to_dict() == {"gc": True, "lm.2": False, "onehot": True}


def test_what_cannot_be_profiled(store, tmp_path) -> None:
    empty = embedstore.open_store("memory://", mode="a")
    empty.add_task(tasks.from_sequences("t", ["ACGT"]))
    with pytest.raises(InputError, match="task 't' has no embeddings; a profile needs one for every layer"):
        layer_profile(empty, "t")
    with pytest.raises(InputError, match="t/lm.0: InputError: .*learning_rate must be a finite number above 0; got -1"):
        layer_profile(store, "t", ["lm.0"], probe="linear", learning_rate=-1, epochs=1, out=tmp_path, progress=False)
