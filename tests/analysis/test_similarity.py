"""Centred kernel alignment: direct formulas on kernels of all pairs, what it must not change under, the store."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import RECORD, add_space, world

from analysis import cka, similarity, similarity_table
from embedstore import tasks
from embedstore.errors import InputError, NotInStoreError


def direct(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, equations 2 and 3: kernels centred by H."""
    n = len(x)
    h = np.eye(n) - 1 / n
    k, m = x @ x.T, y @ y.T
    hsic = [np.trace(a @ h @ b @ h) for a, b in ((k, m), (k, k), (m, m))]
    return hsic[0] / np.sqrt(hsic[1] * hsic[2])


def direct_unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, from kernels without diagonal."""
    n = len(x)
    k, m = (a @ a.T * (1 - np.eye(n)) for a in (x, y))

    def hsic(a, b):
        return np.trace(a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a.sum(0) @ b.sum(0))

    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@given(st.integers(5, 30), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99), st.floats(-50, 50))
def test_it_is_that_of_the_kernels(n, a, b, seed, mean) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, a)) + mean
    y = np.tanh(x[:, :1] - mean) + rng.normal(size=(n, b)) - mean
    assert cka(x, y, debiased=False) == pytest.approx(direct(x, y), abs=1e-8)
    wanted = direct_unbiased(x - x.mean(0), y - y.mean(0))
    assert cka(x, y) == pytest.approx(wanted, abs=1e-8)
    assert wanted == pytest.approx(direct_unbiased(x, y), abs=1e-5)  # a mean changes nothing


@pytest.mark.parametrize("debiased", [True, False])
def test_turning_moving_and_scaling_change_nothing(debiased) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)) * np.arange(1, 7), rng.normal(size=(40, 5))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert cka(x, 3 * x @ turn - 2, debiased=debiased) == pytest.approx(1)
    assert cka(x @ turn, y, debiased=debiased) == pytest.approx(cka(x, y / 7 + 5, debiased=debiased))
    assert cka(x, y, debiased=debiased) == pytest.approx(cka(y, x, debiased=debiased))
    assert cka(x, x @ np.diag([9, 1, 1, 1, 1, 1.0]), debiased=debiased) < 0.95  # channels by themselves do


def test_the_debiased_one_of_unrelated_spaces_is_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(30, 40)), rng.normal(size=(30, 40))) for _ in range(60)]
    assert abs(np.mean([cka(x, y) for x, y in pairs])) < 0.02
    assert np.mean([cka(x, y, debiased=False) for x, y in pairs]) > 0.5


def test_a_space_that_does_not_vary_has_none() -> None:
    x = np.random.default_rng(0).normal(size=(9, 3))
    for debiased in (True, False):
        assert np.isnan(cka(x, np.full((9, 2), 0.1), debiased=debiased))
    with pytest.raises(InputError, match="9 and 8 samples; as many are wanted, four or more"):
        cka(x, x[:8])


def test_spaces_of_a_store_in_portions_and_across_tasks(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 7)).astype(np.float32), rng.normal(size=(60, 3)).astype(np.float32)
    store = world(60, x=x, y=y)
    ids = store.samples("world")["id"].tolist()
    order = rng.permutation(60)
    other = [store.sequences("world")[place] for place in order]
    store.add_task(
        tasks.from_sequences(
            "other", other, ids=[ids[place] for place in order], splits=["a"] * 60, labels=[0] * 60, record=RECORD
        )
    )
    add_space(store, "y", y[order], "other")
    whole = similarity_table(store, [("world", "x"), ("world", "y"), ("other", "y")])
    monkeypatch.setattr(similarity, "_AT_ONCE", 11)
    table = similarity_table(store, [("world", "x"), ("world", "y"), ("other", "y")])
    np.testing.assert_allclose(table[["cka", "cka_debiased"]], whole[["cka", "cka_debiased"]], rtol=1e-10)
    found = {(row.a, row.b): (row.cka, row.cka_debiased) for row in table.itertuples()}
    assert len(found) == 6
    a, b, c = x.astype(float), y.astype(float), "other/y"
    np.testing.assert_allclose(found["world/x", "world/y"], [direct(a, b), direct_unbiased(a, b)], rtol=1e-6)
    np.testing.assert_allclose(found["world/x", c], found["world/x", "world/y"], rtol=1e-6)
    np.testing.assert_allclose(found["world/y", c], 1, rtol=1e-6)
    assert set(table["samples"]) == {60}

    some = similarity_table(store, [("world", "x"), ("world", "y")], splits="test", limit=15)
    assert (some["a"].tolist(), set(some["samples"])) == (["x", "x", "y"], {15})
    with pytest.raises(NotInStoreError, match="no samples of split 'tset'. Did you mean 'test'"):
        similarity_table(store, [("world", "x")], splits="tset")
    with pytest.raises(InputError, match="3 samples; similarity needs four or more"):
        similarity_table(store, [("world", "x")], limit=3)
    with pytest.raises(InputError, match="no space to compare"):
        similarity_table(store, [])
