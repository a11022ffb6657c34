"""Maps and neighbours of samples, against scikit-learn and planted groups."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances
from spaces import world

import embedstore
from analysis import embedding_map, neighbours, sample_values
from embedstore import tasks
from embedstore.errors import InputError, NotInStoreError
from embedstore.tasks import TaskRecord


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    group = np.arange(90) % 3
    return (rng.normal(size=(90, 6)) + 8 * np.eye(3, 6)[group]).astype(np.float32)


@pytest.fixture(scope="module")
def store(vectors):
    species = np.array(["yeast", "human", "fly"])[np.arange(90) % 3]
    return world(90, columns={"species": species, "gc": np.arange(90.0)}, x=vectors)


def test_values_of_samples(store) -> None:
    table = sample_values(store, "world", [4, 1])
    for place, sample in enumerate((4, 1)):
        codes = store.sequences("world")[sample]
        assert table["gc"][place] == pytest.approx(np.isin(codes, list(b"GC")).mean())
    assert table["label"].tolist() == ["no", "yes"]
    assert table["sample_gc"].tolist() == [4, 1]
    assert table["species"].tolist() == ["human", "human"]
    assert len(sample_values(store, "world")) == 90
    record = TaskRecord(name="v", level="sequence", type="value", metric="r2")
    texts = ["ACGT", "NNN"]
    store.add_task(tasks.from_sequences("v", texts, splits=["a", "a"], labels=[1.5, 2.5], record=record))
    table = sample_values(store, "v")
    assert table["label"].tolist() == [1.5, 2.5]
    assert np.isnan(table["gc"][1])
    store.add_task(tasks.from_sequences("p", ["MKLV", "MK"], splits=["a", "a"], alphabet="protein"))
    assert not {"gc", "label"} & set(sample_values(store, "p"))


def test_the_map_of_principal_components_is_that_of_sklearn(store, vectors) -> None:
    table = embedding_map(store, "world", "x")
    model = PCA(2).fit(vectors.astype(float))
    wanted = model.transform(vectors.astype(float))
    sign = np.sign((wanted * table[["x", "y"]]).sum(axis=0).to_numpy())
    np.testing.assert_allclose(table[["x", "y"]], wanted * sign, atol=1e-5)
    np.testing.assert_allclose(table.attrs["explained"], model.explained_variance_ratio_, rtol=1e-6)
    assert table["id"].tolist() == store.samples("world")["id"].tolist()
    assert (table.attrs["method"], table.attrs["model"]) == ("pca", "x")


def test_a_map_of_one_channel_has_one_component(store) -> None:
    table = embedding_map(store, "world", "gc")
    centred = table["gc"] - table["gc"].mean()
    np.testing.assert_allclose(np.abs(table["x"]), np.abs(centred), atol=1e-6)
    assert (table["y"] == 0).all()
    assert table.attrs["explained"] == [pytest.approx(1), 0]


def test_the_map_of_tsne_is_that_of_sklearn_and_keeps_groups_apart(store, vectors) -> None:
    table = embedding_map(store, "world", "x", method="tsne", seed=3)
    stored = store.embedding("world", "x").pooled().astype(float)
    np.testing.assert_allclose(stored, vectors, rtol=1e-5)
    components = PCA(6, random_state=3).fit_transform(stored)
    wanted = TSNE(perplexity=89 / 3, random_state=3).fit_transform(components)
    np.testing.assert_allclose(table[["x", "y"]], wanted, rtol=1e-3, atol=1e-3)
    distance = pairwise_distances(table[["x", "y"]])
    alike = table["species"].to_numpy()[:, None] == table["species"].to_numpy()
    assert distance[alike].max() < distance[~alike].min() * 2
    assert "explained" not in table.attrs


def test_umap_is_asked_for_where_it_is_installed(store, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="needs the package umap-learn.*pip install umap-learn"):
        embedding_map(store, "world", "x", method="umap")
    asked = {}

    class UMAP:
        def __init__(self, **options) -> None:
            asked.update(options)

        def fit_transform(self, vectors):
            return vectors[:, :2] * 2

    module = ModuleType("umap")
    module.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", module)
    table = embedding_map(store, "world", "x", method="umap", seed=5)
    np.testing.assert_allclose(
        np.abs(table[["x", "y"]]), 2 * np.abs(embedding_map(store, "world", "x")[["x", "y"]]), atol=1e-4
    )
    assert asked == {"n_neighbors": 15, "random_state": 5, "n_jobs": 1}


def test_some_samples_are_drawn_and_quarantined_ones_left_out(store, caplog) -> None:
    table = embedding_map(store, "world", "x", limit=20, splits=["test"], seed=1)
    assert (len(table), set(table["split"])) == (20, {"test"})
    assert table["id"].tolist() == embedding_map(store, "world", "x", limit=20, splits="test", seed=1)["id"].tolist()
    assert table["id"].tolist() != embedding_map(store, "world", "x", limit=20, splits="test", seed=2)["id"].tolist()

    bad = world(12)

    def encode(asked):
        rows = [np.full((len(text), 2), len(text), np.float32) for text in asked]
        for one in rows:
            one[:, 1] = np.nan if len(one) == 25 else one[:, 1] ** 2
        return [(one, np.ones(len(one), int)) for one in rows]

    from embedstore.models.function import function_model

    embedstore.embed(bad, "world", function_model("bad", encode, version="1"), quarantine=True, progress=False)
    with caplog.at_level(logging.WARNING):
        assert len(embedding_map(bad, "world", "bad")) == 11
    assert "1 quarantined samples are left out" in caplog.text


# ---- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_all_distances(store, vectors, metric) -> None:
    table = neighbours(store, "world", "x", ["species", "label", "sample_gc"], k=7, metric=metric, bins=4)
    distance = pairwise_distances(vectors.astype(float), metric=metric)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :7]
    groups = {"species": np.arange(90) % 3, "label": np.arange(90) % 2, "sample_gc": np.arange(90) * 4 // 90}
    for name, group in groups.items():
        row = table.set_index("by").loc[name]
        assert row["share"] == pytest.approx((group[near] == group[:, None]).mean(), abs=0.01)
        pairs = (group[:, None] == group) & ~np.eye(90, dtype=bool)
        assert row["chance"] == pytest.approx(pairs.sum() / (90 * 89), abs=1e-3)
        assert row["low"] <= row["share"] <= row["high"]
        assert (row["k"], row["samples"], row["groups"]) == (7, 90, len(np.unique(group)))
    assert table["share"][0] == 1
    assert abs(table["share"][1] - table["chance"][1]) < 0.1


def test_samples_without_a_value_are_left_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    value = np.arange(40.0)
    value[:10] = np.nan
    table = neighbours(world(40, columns={"value": value}, x=x), "world", "x", "value", k=3, draws=20)
    assert table["samples"].tolist() == [30]
    distance = pairwise_distances(x[10:], metric="cosine") + 9 * np.eye(30)
    group = np.arange(30) // 6
    wanted = (group[np.argsort(distance, axis=1)[:, :3]] == group[:, None]).mean()
    assert table["share"][0] == pytest.approx(wanted, abs=1e-6)


def test_bad_input(store) -> None:
    for options, message in (
        ({"k": 90}, "90 samples have a value of 'species'; k = 90 neighbours"),
        ({"k": 0}, "k = 0 neighbours need 1 or more"),
        ({"metric": "cosin"}, "metric is 'cosin'. Did you mean 'cosine'"),
    ):
        with pytest.raises(InputError, match=message):
            neighbours(store, "world", "x", "species", **options)
    with pytest.raises(NotInStoreError, match="has no 'speceis'. Did you mean 'species'"):
        neighbours(store, "world", "x", "speceis")
    with pytest.raises(InputError, match="method is 'pac'. Did you mean 'pca'"):
        embedding_map(store, "world", "x", method="pac")
    with pytest.raises(InputError, match="2 samples; a map needs three"):
        embedding_map(store, "world", "x", limit=2)
