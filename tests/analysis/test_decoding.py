"""What is decoded from an embedding: closed forms, noise, scikit-learn, planted confounds."""

from __future__ import annotations

import numpy as np
import pytest
from probe_tasks import planted_store
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from spaces import world

import embedstore
from analysis import decodability, gc_content, gc_decodability, partial_decodability
from analysis.gc_content import letter_values
from embedstore import tasks
from embedstore.errors import InputError, NotInStoreError
from embedstore.models.function import function_model
from embedstore.rows import Embedding
from probes.affine import sample_parts
from probes.dataset import ProbeData


def of(found, target: str):
    return found.table.set_index("target").loc[target]


def gc(text: str) -> float:
    known = [letter for letter in text if letter in "ACGT"]
    return sum(letter in "GC" for letter in known) / len(known) if known else np.nan


@pytest.fixture(scope="module")
def letters():
    """Runs of N, also whole windows of them, and GC content that falls along each sequence."""
    rng = np.random.default_rng(0)
    texts = []
    for n in rng.integers(30, 200, 80):
        share = np.linspace(0.8, 0.2, n)
        text = np.where(rng.random(n) < share, rng.choice(list("GC"), n), rng.choice(list("AT"), n))
        if len(texts) % 3 == 0:
            text[: rng.integers(1, 25)] = "N"
        texts.append("".join(text))
    return texts


@pytest.mark.parametrize("window", [None, 20])
def test_values_of_letters_are_those_of_a_loop(letters, window, monkeypatch) -> None:
    monkeypatch.setattr(gc_content, "_AT_ONCE", 7)
    values = letter_values(world(sequences=letters), "world", window)
    most = max(map(len, letters)) // 20
    assert set(values) == {"gc", "length", "n_share"} | ({"position"} if window else set())
    for sample, text in enumerate(letters):
        width = window or len(text)
        for place in range(len(text) // width):
            own = text[place * width : place * width + width]
            wanted = {
                "gc": gc(own),
                "length": len(text),
                "n_share": own.count("N") / width,
                "position": (place + 0.5) * width,
            }
            for name, value in values.items():
                found = value[sample] if window is None else value[sample, place]
                np.testing.assert_allclose(found, wanted[name], rtol=1e-6, atol=1e-7)
        if window is not None:
            assert all(np.isnan(value[sample, len(text) // width : most]).all() for value in values.values())


@pytest.mark.parametrize("options", [{}, {"per": "window", "window": 12}])
def test_one_hot_letters_hold_gc_content_whole(options) -> None:
    store = planted_store("sequence", "class", samples=60)
    found = gc_decodability(store, "planted", "onehot", draws=20, **options)
    row = of(found, "gc")
    assert row["r2"] == pytest.approx(1, abs=1e-6)
    assert (row["low"], row["high"]) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))
    np.testing.assert_allclose(found.predictions["gc_predicted"], found.predictions["gc"], atol=1e-3)
    assert of(found, "n_share").isna()[["r2", "low", "high"]].all()  # there is no N
    assert set(found.table["per"]) == {options.get("per", "sample")}
    lengths = store.lengths("planted")
    assert row["positions"] == (60 if not options else (lengths // 12).sum())
    assert row["samples"] == 60


def test_noise_holds_nothing() -> None:
    store = world(300, noise=np.random.default_rng(0).normal(size=(300, 30)))
    table = gc_decodability(store, "world", "noise", draws=50).table.set_index("target")
    assert (table.loc[["gc", "gc_beyond_confounds", "length"], "r2"].abs() < 0.05).all()


def test_predictions_are_those_of_sklearn_and_held_out() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 12)).astype(np.float32)
    values = {"a": x[:, 0] * 3 + rng.normal(size=60), "b": rng.normal(size=60)}
    store = world(60, x=x)
    penalties = (1e-3, 0.1, 10.0)
    found = decodability(store, "world", "x", values, penalties=penalties, draws=10)
    fold = sample_parts(ProbeData.from_store(store, "world", "x", ["train", "test"], pooled=True, progress=False))
    wanted: dict[str, np.ndarray] = {name: np.zeros(60) for name in values}
    chosen: dict[str, list[float]] = {name: [] for name in values}
    for held in np.unique(fold):
        rest = np.flatnonzero(fold != held)
        for name, value in values.items():
            y = value.astype(np.float32).astype(float)
            errors = np.zeros(3)
            for inner in np.unique(fold[rest]):
                fit, check = rest[fold[rest] != inner], rest[fold[rest] == inner]
                for place, penalty in enumerate(penalties):
                    errors[place] += ((predict(x, y, fit, check, penalty) - y[check]) ** 2).sum()
            test = np.flatnonzero(fold == held)
            chosen[name].append(penalties[int(errors.argmin())])
            wanted[name][test] = predict(x, y, rest, test, chosen[name][-1])
    for name, value in values.items():
        np.testing.assert_allclose(found.predictions[f"{name}_predicted"], wanted[name], rtol=1e-4, atol=1e-4)
        assert of(found, name)["r2"] == pytest.approx(r2_score(value, wanted[name]), abs=1e-5)
        assert of(found, name)["penalty"] == np.median(chosen[name])
    assert of(found, "b")["penalty"] > penalties[0]  # noise wants a large one
    assert found.predictions["sample"].tolist() == store.samples("world")["id"].tolist()


def predict(x, y, fit, there, penalty):
    scaler = StandardScaler().fit(x[fit].astype(float))
    model = Ridge(alpha=penalty * len(fit), solver="svd").fit(scaler.transform(x[fit].astype(float)), y[fit])
    return model.predict(scaler.transform(x[there].astype(float)))


def test_gc_that_is_nothing_but_position_is_nothing_beyond_it() -> None:
    """GC content falls along every sequence alike; a model that knows the position alone decodes it all the same."""
    rng = np.random.default_rng(0)
    share = np.linspace(0.9, 0.1, 160)
    texts = ["".join(np.where(rng.random(160) < share, "G", "A")) for _ in range(120)]
    store = world(sequences=texts)

    def encode(asked):
        return [(np.arange(len(text), dtype=np.float32)[:, None] / 100, np.ones(len(text), int)) for text in asked]

    embedstore.embed(store, "world", function_model("place", encode, version="1"), dtype="float32", progress=False)
    found = gc_decodability(store, "world", "place", per="window", window=20, draws=50)
    assert of(found, "position")["r2"] == pytest.approx(1, abs=1e-3)
    assert of(found, "gc")["r2"] > 0.75
    assert of(found, "gc_from_confounds")["r2"] == pytest.approx(of(found, "gc")["r2"], abs=0.01)
    assert abs(of(found, "gc_beyond_confounds")["r2"]) < 0.03
    assert np.isnan(of(found, "length")["r2"])
    letters_too = gc_decodability(store, "world", "onehot", per="window", window=20, draws=50)
    assert of(letters_too, "gc_beyond_confounds")["r2"] == pytest.approx(1, abs=1e-5)
    assert of(letters_too, "gc_from_confounds")["r2"] == of(found, "gc_from_confounds")["r2"]


@pytest.mark.parametrize("window", [None, 10])
def test_the_partial_share_is_that_of_sklearn(window) -> None:
    """With next to no penalty, both fits are least squares: with the embedding, and without."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 4))
    store = world(60, x=x)
    shape = (60,) if window is None else (60, 7)
    given, noise = rng.normal(size=(2, *shape))
    mine = x[:, 0] if window is None else np.repeat(x[:, :1], 7, axis=1)
    value = (given + mine + noise).astype(np.float32)
    if window is not None:
        gone = np.arange(7) >= store.lengths("world")[:, None] // 10
        value[gone] = given[gone] = np.nan
    options = {"window": window, "penalties": (1e-9,), "draws": 200}
    table = partial_decodability(store, "world", "x", {"v": value}, {"g": given}, **options).set_index("target")

    data = ProbeData.from_store(store, "world", "x", ["train", "test"], pooled=True, progress=False)
    known = ~np.isnan(value)
    sample = np.argwhere(known)[:, 0]
    fold, y, g = sample_parts(data)[sample], value[known].astype(float), given[known][:, None]
    both = np.hstack([x[sample], g])
    said = {}
    for name, columns in (("alone", g), ("both", both)):
        said[name] = np.zeros(len(y))
        for held in np.unique(fold):
            model = LinearRegression().fit(columns[fold != held], y[fold != held])
            said[name][fold == held] = model.predict(columns[fold == held])
    assert table.loc["v_from_given", "r2"] == pytest.approx(r2_score(y, said["alone"]), abs=1e-5)
    errors = {name: (y - values) ** 2 for name, values in said.items()}
    row = table.loc["v_beyond_given"]
    assert row["r2"] == pytest.approx(1 - errors["both"].sum() / errors["alone"].sum(), abs=1e-5)
    assert 0.2 < row["low"] < row["r2"] < row["high"] < 0.9
    assert (row["positions"], row["samples"]) == (len(y), 60)
    rng = np.random.default_rng(0)  # whole samples are drawn
    draws = []
    for _ in range(200):
        copies = np.bincount(rng.integers(0, 60, 60), minlength=60)[sample]
        draws.append(1 - (copies * errors["both"]).sum() / (copies * errors["alone"]).sum())
    np.testing.assert_allclose([row["low"], row["high"]], np.quantile(draws, [0.025, 0.975]), atol=1e-5)


def test_windows_without_letters_are_left_out(letters) -> None:
    texts = ["N" * 40 + text for text in letters]
    store = world(sequences=texts)
    found = gc_decodability(store, "world", "onehot", per="window", window=20, draws=10)
    empty = sum(text[at : at + 20] == "N" * 20 for text in texts for at in range(0, len(text) - 19, 20))
    assert empty > 160
    assert found.predictions["gc"].isna().sum() == found.predictions["gc_predicted"].isna().sum() == empty
    assert of(found, "gc")["positions"] == found.predictions["gc"].notna().sum()
    assert of(found, "n_share")["r2"] == pytest.approx(1, abs=1e-4)  # one-hot letters add up to the rest
    assert set(found.predictions["start"] % 20) == {0}


def test_groups_are_held_out_together() -> None:
    """Vectors that only name the group decode a value of the group, unless the group is held out."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 10)
    store = world(120, columns={"family": group.astype(str)}, names=np.eye(12)[group] + rng.normal(0, 1e-3, (120, 12)))
    values = {"value": rng.normal(size=12)[group]}
    assert of(decodability(store, "world", "names", values, draws=10), "value")["r2"] > 0.99
    apart = decodability(store, "world", "names", values, group="family", draws=10)
    assert of(apart, "value")["r2"] < 0.1


def test_some_splits_and_bad_input() -> None:
    store = world(60, x=np.random.default_rng(0).normal(size=(60, 3)), columns={"family": ["a", "b"] * 30})
    found = gc_decodability(store, "world", "x", splits="train", draws=10)
    assert of(found, "gc")["samples"] == 40
    for options, message in (
        ({"per": "token"}, "per is 'token'; it must be 'sample' or 'window'"),
        ({"per": "window", "window": 1}, "windows of 1 nucleotides; samples have 20 to 79"),
        ({"per": "window", "window": 80}, "windows of 80 nucleotides; samples have 20 to 79"),
        ({"group": "family"}, "values in 2 folds; three or more are needed"),
    ):
        with pytest.raises(InputError, match=message):
            gc_decodability(store, "world", "x", **options)
    with pytest.raises(NotInStoreError, match="no column 'famliy'. Did you mean 'family'"):
        gc_decodability(store, "world", "x", group="famliy")
    with pytest.raises(NotInStoreError, match="no samples of split 'tran'. Did you mean 'train'"):
        gc_decodability(store, "world", "x", splits="tran")
    gap = np.arange(60.0)
    gap[3] = np.nan
    with pytest.raises(InputError, match="a, b are not known at the same places"):
        decodability(store, "world", "x", {"a": gap, "b": np.arange(60.0)})
    with pytest.raises(InputError, match="1 values given 0 numbers; one value"):
        partial_decodability(store, "world", "x", {"a": np.arange(60.0)}, {})
    proteins = tasks.from_sequences("p", ["MKLV" * 9] * 4, splits=["a"] * 4, alphabet="protein")
    store.add_task(proteins)
    with pytest.raises(InputError, match="'p' is of proteins, which have no GC content"):
        gc_decodability(store, "p", "x")


@pytest.mark.usefixtures("many_blocks")
def test_blocks_are_read_one_after_another(monkeypatch) -> None:
    """No read is of more than one block."""
    store = planted_store("sequence", "class", samples=120)
    embedding = store.embedding("planted", "toy")
    assert embedding.blocks > 8
    asked: list[int] = []
    whole = Embedding.read

    def read(self, samples, **options):
        asked.append(len(np.unique(np.asarray(samples) // self.geometry.samples_per_block)))
        return whole(self, samples, **options)

    monkeypatch.setattr(Embedding, "read", read)
    found = gc_decodability(store, "planted", "toy", per="window", window=20, draws=5)
    assert set(asked) == {1}
    assert len(asked) == 4 * embedding.blocks  # two passes, and two with the confounds beside
    assert of(found, "gc")["samples"] == 120
