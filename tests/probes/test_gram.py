from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_tasks import planted_store
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from embedstore.errors import InputError, NonFiniteError
from embedstore.rows import Rows
from embedstore.tasks import Labels, TaskRecord
from probes import gram
from probes.dataset import ProbeData
from probes.gram import Gram, gram_sums, label_patterns, solve_ridge, squared_error

FIELDS = ("n", "x", "y", "xx", "xy", "yy")


def same(one: Gram, other: Gram, rtol: float = 1e-10) -> None:
    moved = other.about(one.shift)
    for name in FIELDS:
        value = getattr(one, name)
        np.testing.assert_allclose(value, getattr(moved, name), rtol=rtol, atol=rtol * max(1, np.abs(value).max()))


def direct(x: np.ndarray, y: np.ndarray) -> Gram:
    """Sums of whole matrices."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return Gram(len(x), np.zeros(x.shape[1]), x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y**2).sum(0))


def sequence_data(x: np.ndarray, y: np.ndarray, kind: str = "value", lengths=None, names=()) -> ProbeData:
    """One row per sample."""
    n = len(x)
    record = TaskRecord(
        name="t",
        level="sequence",
        type=kind,  # type: ignore[arg-type]
        names=names,
        metric={"value": "r2", "class": "mcc", "multilabel": "auroc"}[kind],  # type: ignore[arg-type]
    )
    labels = Labels(y, ("sample", "target")[: y.ndim], names)
    rows = Rows(np.arange(n), x, np.full(n, 3) if lengths is None else lengths, np.arange(n + 1))
    return ProbeData.from_rows(rows, labels, record)


def noisy(n: int = 120, channels: int = 7, targets: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, channels)) * rng.lognormal(0, 1, channels) + rng.normal(0, 5, channels)).astype(np.float32)
    y = x @ rng.normal(size=(channels, targets)) + rng.normal(size=(n, targets)) + 3
    return x, y.astype(np.float32)


def upsampled(data: ProbeData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels and samples at nucleotide resolution, or means over each position, by plain loops."""
    xs, ys, owners = [], [], []
    for parts in data.batches(10):
        for part in parts:
            target, first = part.target.numpy(), 0
            for i, sample in enumerate(part.samples):
                own = slice(part.first_row[i], part.first_row[i + 1])
                each = np.repeat(part.vector[own].numpy().astype(np.float64), part.span[own], axis=0)
                size = {"nucleotide": 1, "bin": data.record.bin_size, "sequence": len(each)}[data.record.level]
                count = data.targets.counts[sample]
                xs.append(np.array([each[j * size : (j + 1) * size].mean(0) for j in range(count)]))
                ys.append(target[first : first + count])
                owners += [sample] * count
                first += count
    return np.concatenate(xs), np.concatenate(ys), np.array(owners)


KINDS = [(level, kind) for level in ("bin", "sequence") for kind in ("class", "multilabel", "value")]


@pytest.mark.parametrize(("level", "kind"), [("nucleotide", "class"), ("nucleotide", "value"), *KINDS])
def test_sums_of_tokens_are_those_of_nucleotides(level, kind, monkeypatch) -> None:
    monkeypatch.setattr(gram, "CHUNK_BYTES", 8 * 48 * 100)
    store = planted_store(level, kind, samples=30)
    data = ProbeData.from_store(store, "planted", "toy", ["train", "valid"], progress=False)
    assert data.batches(1).__next__()[0].span.max() > 1
    x, y, owner = upsampled(data)
    if kind == "class":
        y = np.eye(len(data.targets.names))[y]
    groups = np.where(np.arange(len(data)) % 3 == 0, "b", "a")
    sums = gram_sums(data, groups)
    assert list(sums) == ["a", "b"]
    for name, found in sums.items():
        chosen = np.isin(owner, data.samples[groups == name])
        same(found, direct(x[chosen], y[chosen]))


@pytest.mark.parametrize("kind", ["class", "value"])
def test_nucleotides_without_label_are_left_out_of_their_token(kind) -> None:
    rng = np.random.default_rng(3)
    span = np.array([6, 6, 1, 3, 1, 1])
    x = rng.normal(size=(6, 4)).astype(np.float16)
    labels = rng.integers(0, 3, 18).astype(np.int16) if kind == "class" else rng.normal(size=18).astype(np.float32)
    labels[[0, 4, 12, 17]] = -100 if kind == "class" else np.nan
    labels[6:12] = labels[0]
    names = ("a", "b", "c") if kind == "class" else ()
    metric = "mcc" if kind == "class" else "r2"
    record = TaskRecord(name="t", level="nucleotide", type=kind, names=names, metric=metric)  # type: ignore[arg-type]
    rows = Rows(np.arange(2), x, span, np.array([0, 3, 6]))
    data = ProbeData.from_rows(rows, Labels(labels, ("nucleotide",), names), record)
    known = labels != -100 if kind == "class" else ~np.isnan(labels)
    y = np.eye(3)[labels[known]] if kind == "class" else labels[known][:, None]
    same(gram_sums(data, ["g", "g"])["g"], direct(np.repeat(x, span, axis=0)[known], y))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), held=st.integers(1, 19), rows=st.integers(1, 50))
def test_total_minus_a_fold_is_the_rest(seed, held, rows) -> None:
    x, y = noisy(20, 3, 2, seed)
    data = sequence_data(x, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gram, "CHUNK_BYTES", 8 * 3 * rows)
        patch.setattr(gram, "BATCH", 3)
        sums = gram_sums(data, np.where(np.arange(20) < held, "held", "rest"))
    total = sums["held"] + sums["rest"]
    same(total, direct(x, y))
    same(total - sums["held"], direct(x[held:], y[held:]))
    # Sums of another pass, which is about another row, add up to the same.
    other = gram_sums(data[held:], np.full(20 - held, "rest"))["rest"]
    assert not np.array_equal(other.shift, sums["held"].shift)
    same(sums["held"] + other, direct(x, y))
    same(total - other, direct(x[:held], y[:held]))


def test_the_size_of_chunks_changes_rounding_only(monkeypatch) -> None:
    data = sequence_data(*noisy(300))
    found = []
    for limit in (1, 8 * 7 * 37, 2**30):
        monkeypatch.setattr(gram, "CHUNK_BYTES", limit)
        found.append(gram_sums(data, np.arange(300) % 4))
    for other in found[1:]:
        for name in found[0]:
            same(found[0][name], other[name], rtol=1e-12)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("many", [120, 5])
def test_ridge_is_that_of_sklearn(scale, many) -> None:
    x, y = noisy()
    x, y = x[:many], y[:many]
    x[:, 4] = 2.5  # a constant channel
    alphas = [1e-3, 0.7, 40, 1e6]
    one = gram_sums(sequence_data(x, y), ["g"] * many)["g"]
    coefficient, intercept = solve_ridge(one, alphas, scale=scale)
    scaler = StandardScaler(with_mean=scale, with_std=scale).fit(x.astype(np.float64))
    for place, alpha in enumerate(alphas):
        model = Ridge(alpha=alpha, solver="svd").fit(scaler.transform(x.astype(np.float64)), y.astype(np.float64))
        wanted = model.coef_ / (scaler.scale_ if scale else 1)
        np.testing.assert_allclose(coefficient[place].T, wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())
        predicted = x.astype(np.float64) @ coefficient[place] + intercept[place]
        np.testing.assert_allclose(predicted, model.predict(scaler.transform(x.astype(np.float64))), rtol=1e-6)
        assert (coefficient[place][4] == 0).all()


def test_large_means_take_no_digits() -> None:
    """Relative to 1e6 times the spread, plain sums would leave 1e-4 of a variance; those about a row leave none."""
    x, y = noisy()
    x = (np.round(x * 4) + 2.0**22).astype(np.float32)
    one = gram_sums(sequence_data(x, y), ["g"] * len(x))["g"]
    coefficient, _ = solve_ridge(one, [1e-2])
    scaled = StandardScaler().fit_transform(x.astype(np.float64) - 2.0**22)
    model = Ridge(alpha=1e-2, solver="svd").fit(scaled, y.astype(np.float64))
    np.testing.assert_allclose(coefficient[0].T * (x.astype(np.float64) - 2.0**22).std(0), model.coef_, rtol=1e-8)


def test_a_channel_that_is_constant_but_for_the_first_row_has_no_coefficient() -> None:
    x, y = noisy()
    x[1:, 2], x[0, 2] = 0.1, 7
    sums = gram_sums(sequence_data(x, y), ["held"] + ["train"] * (len(x) - 1))
    coefficient, _ = solve_ridge(sums["train"], [1e-3])
    assert (coefficient[0][2] == 0).all()
    assert (coefficient[0][3] != 0).all()


def test_squared_error_is_that_of_predictions() -> None:
    x, y = noisy()
    sums = gram_sums(sequence_data(x, y), ["a"] * 80 + ["b"] * 40)
    coefficient, intercept = solve_ridge(sums["a"], [1e-3, 10])
    for name, part in (("a", slice(80)), ("b", slice(80, None))):
        wanted = ((np.einsum("nc,pct->pnt", x[part], coefficient) + intercept[:, None] - y[part]) ** 2).sum(axis=1)
        np.testing.assert_allclose(squared_error(sums[name], coefficient, intercept), wanted, rtol=1e-6)
        one = squared_error(sums[name], coefficient[1], intercept[1])
        np.testing.assert_allclose(one, wanted[1], rtol=1e-6)
    np.testing.assert_allclose(sums["b"].variance, y[80:].var(axis=0, dtype=np.float64), rtol=1e-9)


def test_targets_are_grouped_by_where_they_have_labels() -> None:
    x, y = noisy(700, targets=5)
    y[600:, 1] = y[600:, 3] = np.nan
    y[3, 4] = np.nan
    data = sequence_data(x, y)
    patterns = label_patterns(data)
    assert [targets.tolist() for targets in patterns] == [[0, 2], [1, 3], [4]]
    assert [t.tolist() for t in label_patterns(data[:600], data[600:])] == [[0, 2], [1, 3], [4]]
    assert [t.tolist() for t in label_patterns(data[np.r_[:3, 4:600]])] == [[0, 1, 2, 3, 4]]
    for targets in patterns:
        known = ~np.isnan(y[:, targets[0]])
        same(gram_sums(data, ["g"] * 700, targets)["g"], direct(x[known], y[known][:, targets]))
    with pytest.raises(InputError, match=r"some of the targets \[0, 1, 2, 3, 4\] have no label where others have one"):
        gram_sums(data, ["g"] * 700)


def test_no_labels_at_all_give_empty_sums() -> None:
    x, y = noisy(4)
    one = gram_sums(sequence_data(x, np.full_like(y, np.nan)), ["g"] * 4)["g"]
    assert (one.n, one.xx.any()) == (0, False)
    with pytest.raises(InputError, match="no labelled position to fit"):
        solve_ridge(one, [1.0])


@pytest.mark.parametrize("bad", [[], [0.0], [1, -1], [np.nan], [np.inf], [[1.0]]])
def test_penalties_out_of_range(bad) -> None:
    with pytest.raises(InputError, match="penalties must be one or more finite numbers above 0"):
        gram.checked_penalties(bad)


def test_refusals(monkeypatch) -> None:
    x, y = noisy(20)
    data = sequence_data(x, y)
    with pytest.raises(InputError, match=r"\(3,\) groups for 20 samples"):
        gram_sums(data, ["g"] * 3)
    other = gram_sums(sequence_data(x[:, :3], y), ["g"] * 20)["g"]
    with pytest.raises(InputError, match=r"sums of \(7, 3\) and of \(3, 3\).* do not add up"):
        gram_sums(data, ["g"] * 20)["g"] + other


@pytest.mark.parametrize("places", [[4, 11], [0]])
def test_rows_that_are_not_finite_are_named(places) -> None:
    x, y = noisy(20)
    data = sequence_data(x, y)
    bad = data._held.vector.clone()
    bad[places, 2] = float("nan")
    broken = dataclasses.replace(data, _held=data._held._replace(vector=bad))
    with pytest.raises(NonFiniteError, match=rf"ProbeData t/rows.*{len(places)} samples hold NaN .*\{places}"):
        gram_sums(broken, ["g"] * 20)
