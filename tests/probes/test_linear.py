from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from probe_tasks import planted_store
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss, matthews_corrcoef, roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from embedstore.errors import InputError, NonFiniteError
from embedstore.rows import Rows
from embedstore.tasks import Labels, TaskRecord
from probes import logistic
from probes.affine import sample_parts
from probes.dataset import ProbeData
from probes.kinds import PROBES
from probes.linear import PENALTIES, LogisticProbe, MajorityProbe, RidgeProbe, fit_ridges

QUIET = {"progress": False}
METRIC = {"value": "r2", "class": "mcc", "multilabel": "auroc"}
KINDS = [("nucleotide", "class"), ("nucleotide", "value")]
KINDS += [(level, kind) for level in ("bin", "sequence") for kind in ("class", "multilabel", "value")]


def sequence_data(x: np.ndarray, y: np.ndarray, kind: str = "value", classes: int = 3) -> ProbeData:
    """One row per sample."""
    names = tuple("abcdefg"[: classes if kind == "class" else y.shape[1]])
    record = TaskRecord(name="t", level="sequence", type=kind, names=names, metric=METRIC[kind])  # type: ignore[arg-type]
    labels = Labels(y, ("sample", "target")[: y.ndim], names)
    rows = Rows(np.arange(len(x)), x, np.full(len(x), 3), np.arange(len(x) + 1))
    return ProbeData.from_rows(rows, labels, record)


def noisy(n: int = 200, channels: int = 6, targets: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, channels)) * rng.lognormal(0, 1, channels) + 2).astype(np.float32)
    y = x @ rng.normal(size=(channels, targets)) + 4 * rng.normal(size=(n, targets))
    return x, y.astype(np.float32)


def split(store, name: str, model: str = "toy") -> ProbeData:
    return ProbeData.from_store(store, "planted", model, name, progress=False)


def at_positions(data: ProbeData) -> tuple[np.ndarray, np.ndarray]:
    """Mean rows and labels of all positions, by plain loops."""
    xs, ys = [], []
    for parts in data.batches(10):
        for part in parts:
            for i, sample in enumerate(part.samples):
                own = slice(part.first_row[i], part.first_row[i + 1])
                each = np.repeat(part.vector[own].numpy().astype(np.float64), part.span[own], axis=0)
                size = {"nucleotide": 1, "bin": data.record.bin_size, "sequence": len(each)}[data.record.level]
                xs += [each[j * size : (j + 1) * size].mean(0) for j in range(data.targets.counts[sample])]
            ys.append(part.target.numpy())
    return np.array(xs), np.concatenate(ys)


@pytest.mark.parametrize(("level", "kind"), KINDS)
def test_ridge_of_every_task_is_that_of_sklearn(level, kind, tmp_path) -> None:
    store = planted_store(level, kind, samples=120 if level == "sequence" else 30)
    train, valid, test = (split(store, name) for name in ("train", "valid", "test"))
    probe = RidgeProbe(**QUIET).fit(train, valid)
    x, y = at_positions(train)
    y = np.eye(len(probe.names_))[y] if kind == "class" else y
    scaler = StandardScaler().fit(x)
    model = Ridge(alpha=probe.penalty_ * len(x), solver="svd").fit(scaler.transform(x), y)
    there, true = at_positions(test)
    wanted = model.predict(scaler.transform(there)).reshape(len(there), -1)
    found = torch.cat([output for _, output in probe.outputs(test)])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    predicted = probe.predict(test)
    if kind == "class":
        np.testing.assert_array_equal(predicted, wanted.argmax(axis=1))
        assert probe.score(test) == pytest.approx(matthews_corrcoef(true, predicted))
    elif kind == "multilabel":
        np.testing.assert_array_equal(predicted, wanted > 0.5)
    assert probe.score(test) > 0.3
    with pytest.raises(InputError, match="no probabilities"):
        probe.predict_proba(test)

    path = tmp_path / "p.safetensors"
    probe.save(path)
    again = RidgeProbe.load(path)
    np.testing.assert_array_equal(again.predict(test), predicted)
    assert (again.penalty_, again.recipe()) == (probe.penalty_, probe.recipe())


def test_the_penalty_is_chosen_by_validation_error() -> None:
    x, y = noisy(60, 30)
    y[:, 1] *= 100  # a target of another size counts as much
    data = sequence_data(x, y)
    train, valid = data[:40], data[40:]
    probe = RidgeProbe(**QUIET).fit(train, valid)
    scaler = StandardScaler().fit(x[:40].astype(np.float64))
    a, b = scaler.transform(x[:40].astype(np.float64)), scaler.transform(x[40:].astype(np.float64))
    rows = []
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty * 40, solver="svd").fit(a, y[:40].astype(np.float64))
        errors = [(model.predict(z) - t.astype(np.float64)) ** 2 for z, t in ((a, y[:40]), (b, y[40:]))]
        r2 = 1 - (errors[1].mean(0) / y[40:].astype(np.float64).var(0)).mean()
        rows.append([penalty, errors[0].mean(), errors[1].mean(), r2])
    assert list(probe.history_) == ["penalty", "train_loss", "valid_loss", "valid_r2"]
    np.testing.assert_allclose(probe.history_, rows, rtol=1e-6)
    best = int(np.argmax([row[-1] for row in rows]))
    assert 0 < best < len(PENALTIES) - 1
    assert (probe.penalty_, probe.best_epoch_, probe.seed_) == (PENALTIES[best], best + 1, 0)
    assert probe.evaluate(valid).loss == pytest.approx(rows[best][2], rel=1e-5)
    assert probe.evaluate(train).loss == pytest.approx(rows[best][1], rel=1e-5)


def test_loss_of_classes_is_that_of_evaluate() -> None:
    store = planted_store("nucleotide", "class", samples=30)
    train, valid = split(store, "train"), split(store, "valid")
    probe = RidgeProbe(**QUIET).fit(train, valid)
    row = probe.history_.iloc[probe.best_epoch_ - 1]
    assert row["train_loss"] == pytest.approx(probe.evaluate(train).loss, rel=1e-5)
    assert row["valid_loss"] == pytest.approx(probe.evaluate(valid).loss, rel=1e-5)


def test_without_validation_samples_by_cross_validation() -> None:
    x, y = noisy(60, 30, targets=1)
    data = sequence_data(x, y)
    probe = RidgeProbe(penalties=(1e-3, 0.1, 10.0), scale=False, **QUIET).fit(data)
    part = sample_parts(data)
    assert sorted(np.unique(part, return_counts=True)[1]) == [12] * 5
    folds = [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in "01234"]
    model = RidgeCV([p * 48 for p in probe.penalties], cv=folds, scoring="neg_mean_squared_error")
    model.fit(x.astype(np.float64), y[:, 0].astype(np.float64))
    assert probe.penalty_ == pytest.approx(model.alpha_ / 48)
    assert probe.history_["valid_loss"].min() == pytest.approx(-model.best_score_, rel=1e-6)
    whole = Ridge(alpha=probe.penalty_ * 60).fit(x.astype(np.float64), y[:, 0].astype(np.float64))
    np.testing.assert_allclose(probe.coefficient_[:, 0], whole.coef_, rtol=1e-6)
    np.testing.assert_array_equal(
        RidgeProbe(**QUIET).fit(data).coefficient_, RidgeProbe(**QUIET).fit(data).coefficient_
    )


def test_targets_with_missing_labels_are_fitted_for_themselves() -> None:
    x, y = noisy()
    y[:150:3, 1] = np.nan
    data = sequence_data(x, y)
    together = RidgeProbe(**QUIET).fit(data[:150], data[150:])
    for target in range(3):
        known = ~np.isnan(y[:150, target])
        model = Ridge(alpha=together.penalty_ * known.sum(), solver="svd")
        scaler = StandardScaler().fit(x[:150][known].astype(np.float64))
        model.fit(scaler.transform(x[:150][known].astype(np.float64)), y[:150][known, target].astype(np.float64))
        np.testing.assert_allclose(together.coefficient_[:, target], model.coef_ / scaler.scale_, rtol=1e-6)
    assert together.evaluate(data[:150]).loss == pytest.approx(
        together.history_["train_loss"][together.best_epoch_ - 1], rel=1e-5
    )


def test_a_target_without_labels_is_said_and_gets_zeros(caplog) -> None:
    x, y = noisy()
    y[:150, 2] = np.nan
    data = sequence_data(x, y)
    with caplog.at_level(logging.WARNING):
        probe = RidgeProbe(**QUIET).fit(data[:150], data[150:])
    assert "no label to train on for ['c']" in caplog.text
    assert not probe.coefficient_[:, 2].any()
    assert probe.coefficient_[:, :2].all()


FOLDS = [
    {"train": [f"p{j}" for j in range(5) if j not in (i, (i + 1) % 5)], "valid": [f"p{(i + 1) % 5}"]} for i in range(5)
]


@pytest.mark.parametrize("kind", ["class", "value"])
def test_all_folds_from_one_pass_are_those_fitted_alone(kind, monkeypatch) -> None:
    names = [f"p{i % 5}" for i in range(30)]
    store = planted_store("nucleotide", kind, samples=30, splits=names)
    data = ProbeData.from_store(store, "planted", "toy", sorted(set(names)), progress=False)
    passes = []
    batches = ProbeData.batches
    monkeypatch.setattr(ProbeData, "batches", lambda self, *args: passes.append(1) or batches(self, *args))
    roles = [{**role, "test": [f"p{i}"]} for i, role in enumerate(FOLDS)]
    found = fit_ridges(data, roles, split=names, probe=RidgeProbe(**QUIET))
    assert len(passes) == 1
    for role, probe in zip(roles, found, strict=True):
        train, valid = (
            ProbeData.from_store(store, "planted", "toy", role[part], progress=False) for part in ("train", "valid")
        )
        alone = RidgeProbe(**QUIET).fit(train, valid)
        np.testing.assert_allclose(probe.coefficient_, alone.coefficient_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(probe.history_, alone.history_, rtol=1e-9)
        assert probe.data_description_ == alone.data_description_
        assert (probe.penalty_, probe.best_epoch_) == (alone.penalty_, alone.best_epoch_)


def test_a_fold_without_validation_is_fitted_for_itself() -> None:
    data = sequence_data(*noisy())
    names = np.repeat(["a", "b"], 100)
    (one,) = fit_ridges(data, [{"train": ["a"]}], split=names, probe=RidgeProbe(**QUIET))
    alone = RidgeProbe(**QUIET).fit(data[:100])
    np.testing.assert_array_equal(one.coefficient_, alone.coefficient_)
    assert one.data_description_ == alone.data_description_


def test_folds_that_cannot_be() -> None:
    data = sequence_data(*noisy(20))
    names = np.repeat(["train", "valid"], 10)
    with pytest.raises(InputError, match="has no samples of split 'vaild'. Did you mean 'valid'"):
        fit_ridges(data, [{"train": ["train"], "valid": ["vaild"]}], split=names)
    for role in ({"train": ["train"], "valid": ["train"]}, {"train": ["train"], "valid": ["valid"], "test": ["valid"]}):
        with pytest.raises(InputError, match="fold 0: splits (train|valid) serve twice"):
            fit_ridges(data, [role], split=names)


def test_ridge_refusals() -> None:
    x, y = noisy(20)
    data = sequence_data(x, y)
    for probe in (RidgeProbe(penalties=(0.0,)), LogisticProbe(penalties=())):
        made = sequence_data(x, (y > 0).astype(np.int8), "multilabel")
        with pytest.raises(InputError, match="penalties must be"):
            probe.fit(made)
    with pytest.raises(InputError, match="takes two samples or more, or validation samples"):
        RidgeProbe().fit(data[:1])
    with pytest.raises(InputError, match="t/rows: no sample has a label; there is nothing to fit"):
        RidgeProbe(**QUIET).fit(sequence_data(x, np.full_like(y, np.nan)))
    flat = sequence_data(x, np.full_like(y, 0.1))
    with pytest.raises(InputError, match="not defined on the samples: the labels of every target are all alike"):
        RidgeProbe(**QUIET).fit(flat)
    y[10:] = 5
    with pytest.raises(InputError, match="not defined on the validation samples: the labels"):
        RidgeProbe(**QUIET).fit(sequence_data(x, y)[:10], sequence_data(x, y)[10:])
    fitted = RidgeProbe(**QUIET).fit(data)
    with pytest.raises(InputError, match="trained on 6 channels; .* has 4"):
        fitted.predict(sequence_data(x[:, :4], y))
    with pytest.raises(InputError, match="trained on 6 channels; .* has 4"):
        RidgeProbe(**QUIET).fit(data, sequence_data(x[:, :4], y))


def labels_of(kind: str, y: np.ndarray) -> np.ndarray:
    return y.argmax(axis=1).astype(np.int16) if kind == "class" else (y > 0).astype(np.int8)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_of_classes_is_that_of_sklearn(classes, tmp_path) -> None:
    x, y = noisy(targets=classes)
    label = labels_of("class", y)
    data = sequence_data(x, label, "class", classes)
    probe = LogisticProbe(penalties=(1.0, 1e-2), tol=1e-8, **QUIET).fit(data[:150], data[150:])
    a, b = (
        StandardScaler().fit(x[:150].astype(np.float64)).transform(z.astype(np.float64)) for z in (x[:150], x[150:])
    )
    scores, losses = [], []
    for penalty in probe.penalties:
        model = LogisticRegression(C=1 / (penalty * 150), tol=1e-8, max_iter=1000).fit(a, label[:150])
        scores.append(matthews_corrcoef(label[150:], model.predict(b)))
        losses.append([log_loss(label[:150], model.predict_proba(a)), log_loss(label[150:], model.predict_proba(b))])
        if penalty == probe.penalty_:
            np.testing.assert_allclose(probe.predict_proba(data[150:]), model.predict_proba(b), rtol=1e-4)
    assert probe.best_epoch_ == np.argmax(scores) + 1
    np.testing.assert_allclose(probe.history_["valid"], scores)
    np.testing.assert_allclose(probe.history_[["train_loss", "valid_loss"]], losses, rtol=1e-4)
    assert probe.history_["converged"].all()
    path = tmp_path / "p.safetensors"
    probe.save(path)
    again = LogisticProbe.load(path)
    np.testing.assert_array_equal(again.predict_proba(data), probe.predict_proba(data))
    assert again.penalty_ == probe.penalty_


def test_logistic_regression_per_target_is_that_of_sklearn() -> None:
    x, y = noisy(targets=4)
    label = (y > 0).astype(np.float32)
    label[:40, 1] = np.nan  # some labels are missing
    label[:150, 2], label[:150, 3] = 1, np.nan  # one value only; none
    data = sequence_data(x, label.astype(np.float32), "multilabel")
    probe = LogisticProbe(penalties=(1e-2,), tol=1e-8, **QUIET).fit(data[:150], data[150:])
    scaler = StandardScaler().fit(x[:150].astype(np.float64))
    found = probe.predict_proba(data[150:])
    for target in (0, 1):
        known = ~np.isnan(label[:150, target])
        model = LogisticRegression(C=1 / (1e-2 * known.sum()), tol=1e-8)
        model.fit(scaler.transform(x[:150].astype(np.float64))[known], label[:150][known, target])
        wanted = model.predict_proba(scaler.transform(x[150:].astype(np.float64)))[:, 1]
        np.testing.assert_allclose(found[:, target], wanted, rtol=1e-4)
    assert not probe.coefficient_[:, 2:].any()
    np.testing.assert_allclose(probe.intercept_[2:], [np.log(150 / 0.5), 0])
    areas = [roc_auc_score(label[150:, target], found[:, target]) for target in (0, 1)]
    assert probe.history_["valid"][0] == pytest.approx(np.mean([*areas, 0.5, 0.5]))


def test_logistic_regression_on_tokens_is_that_on_nucleotides() -> None:
    store = planted_store("nucleotide", "class", samples=24)
    train, valid = split(store, "train"), split(store, "valid")
    probe = LogisticProbe(penalties=(1e-2,), tol=1e-8, **QUIET).fit(train, valid)
    x, y = at_positions(train)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / (1e-2 * len(x)), tol=1e-8, max_iter=1000).fit(scaler.transform(x), y)
    there, true = at_positions(valid)
    wanted = model.predict_proba(scaler.transform(there))
    np.testing.assert_allclose(probe.predict_proba(valid), wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(probe.predict(valid), model.predict(scaler.transform(there)))
    np.testing.assert_allclose(
        probe.history_["train_loss"], log_loss(y, model.predict_proba(scaler.transform(x))), rtol=1e-5
    )
    assert probe.history_["valid"][0] == pytest.approx(matthews_corrcoef(true, probe.predict(valid)))


def test_logistic_without_validation_samples_holds_some_out() -> None:
    x, y = noisy()
    data = sequence_data(x, labels_of("class", y), "class")
    probe = LogisticProbe(penalties=(0.3, 1e-3), **QUIET).fit(data)
    held = sample_parts(data) == "0"
    chosen = LogisticProbe(penalties=(0.3, 1e-3), **QUIET).fit(data[~held], data[held])
    assert probe.penalty_ == chosen.penalty_
    assert probe.history_.equals(chosen.history_)
    model = LogisticRegression(C=1 / (probe.penalty_ * 200), tol=1e-5, max_iter=1000)
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(
        probe.predict_proba(data), model.fit(scaled, y.argmax(1)).predict_proba(scaled), atol=1e-3
    )
    assert len(cross_val_score(clone(probe), data, cv=3)) == 3
    assert len(cross_val_score(RidgeProbe(**QUIET), data, cv=3)) == 3
    with pytest.raises(InputError, match="takes 5 samples or more, or validation samples"):
        LogisticProbe().fit(data[:4])


@pytest.mark.parametrize("present", [[1], [0, 2]])
def test_a_class_without_labels_is_never_predicted(present) -> None:
    x, _ = noisy()
    label = np.array(present, np.int16)[np.arange(200) % len(present)]
    label[150:] = np.arange(50) % 3
    data = sequence_data(x, label, "class")
    probe = LogisticProbe(penalties=(1e-2,), **QUIET).fit(data[:150], data[150:])
    assert set(probe.predict(data).tolist()) <= set(present)
    absent = [c for c in range(3) if c not in present]
    assert (probe.predict_proba(data)[:, absent] < 1e-6).all()
    assert np.isfinite(probe.history_["valid_loss"]).all()


def test_too_few_iterations_are_said(caplog) -> None:
    x, y = noisy()
    data = sequence_data(x, labels_of("class", y), "class")
    with caplog.at_level(logging.WARNING):
        probe = LogisticProbe(penalties=(1e-5,), max_iter=2, **QUIET).fit(data[:150], data[150:])
    assert "2 iterations were too few for penalties [1e-05]" in caplog.text
    assert not probe.history_["converged"].any()


def test_logistic_refusals(monkeypatch) -> None:
    x, y = noisy(40)
    data = sequence_data(x, labels_of("class", y), "class")
    other = sequence_data(x + 1, labels_of("class", y), "class")
    with pytest.raises(InputError, match="t is a task of values: use a ridge probe"):
        LogisticProbe().fit(sequence_data(x, y))
    with pytest.raises(InputError, match="no sample has a label; there is nothing to fit"):
        LogisticProbe(**QUIET).fit(sequence_data(x, np.full(40, -100, np.int16), "class"), data)
    with pytest.raises(InputError, match="auroc is not defined on the validation samples"):
        flat = sequence_data(x, np.r_[y[:20] > 0, np.ones((20, 3))].astype(np.int8), "multilabel")
        LogisticProbe(**QUIET).fit(flat[:20], flat[20:])
    bad = data._held.vector.clone()
    bad[7, 0] = float("inf")
    broken = dataclasses.replace(data, _held=data._held._replace(vector=bad))
    with pytest.raises(NonFiniteError, match="1 rows of samples 0 to 39 hold NaN or infinity"):
        LogisticProbe(**QUIET).fit(broken, other)
    monkeypatch.setattr(logistic, "free_memory", lambda: 2 * 2 * 8 * x.size - 2)
    with pytest.raises(InputError, match=r"they would take about 0.0 GB, half of the free memory is 0.0 GB"):
        LogisticProbe(**QUIET).fit(data, other)
    monkeypatch.setattr(logistic, "free_memory", lambda: 2 * 2 * 8 * x.size)
    LogisticProbe(**QUIET).fit(data, other)


def test_validation_samples_that_were_trained_on_are_refused() -> None:
    x, y = noisy(40)
    for probe, kind in ((RidgeProbe(progress=False), "value"), (LogisticProbe(**QUIET), "class")):
        data = sequence_data(x, labels_of(kind, y) if kind == "class" else y, kind)
        with pytest.raises(InputError, match="share 40 samples, the first is sample 0"):
            probe.fit(data, data)


@pytest.mark.parametrize(("level", "kind"), KINDS)
def test_majority(level, kind, tmp_path) -> None:
    store = planted_store(level, kind, samples=30)
    train, valid, test = (split(store, name) for name in ("train", "valid", "test"))
    probe = MajorityProbe().fit(train, valid)
    _, y = at_positions(train)
    output = torch.cat([output for _, output in probe.outputs(test)]).numpy()
    assert output.shape == (test.targets.counts[test.samples].sum(), len(probe.names_))
    assert (output == output[0]).all()
    if kind == "class":
        share = np.bincount(y, minlength=len(probe.names_)) / len(y)
        np.testing.assert_allclose(probe.predict_proba(test)[0], share, rtol=1e-5)
        assert set(probe.predict(test).tolist()) == {int(share.argmax())}
        assert probe.history_["train_loss"][0] == pytest.approx(-(share * np.log(share)).sum(), rel=1e-5)
    elif kind == "multilabel":
        np.testing.assert_allclose(probe.predict_proba(test)[0], y.mean(axis=0), rtol=1e-5)
        assert probe.score(test) == 0.5
    else:
        np.testing.assert_allclose(probe.predict(test)[0], y.mean(axis=0), rtol=1e-5)
    assert {"train_loss", "valid_loss", "valid"} == set(probe.history_)
    probe.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(MajorityProbe.load(tmp_path / "m.safetensors").predict(test), probe.predict(test))


def test_majority_with_missing_labels_and_empty_classes() -> None:
    x, _ = noisy(6)
    label = np.array([2, 2, -100, 0, -100, 2], np.int16)
    probe = MajorityProbe().fit(sequence_data(x, label, "class"))
    np.testing.assert_allclose(probe.intercept_, np.log([1 / 4, 0.5 / 4, 3 / 4]))
    assert list(probe.history_) == ["train_loss"]
    marks = np.array([[1, 0, np.nan], [1, np.nan, np.nan], [0, 0, np.nan]], np.float32)
    probe = MajorityProbe().fit(sequence_data(x[:3], marks, "multilabel"))
    np.testing.assert_allclose(probe.intercept_, [np.log(2), np.log(0.5 / 2), 0])
    with pytest.raises(InputError, match="no sample has a label; there is nothing to count"):
        MajorityProbe().fit(sequence_data(x[:3], np.full((3, 2), np.nan, np.float32)))


@pytest.mark.parametrize("name", ["ridge", "logistic", "majority"])
def test_they_are_known_by_name(name) -> None:
    probe = PROBES[name].make({})
    assert type(probe) in (RidgeProbe, LogisticProbe, MajorityProbe)
    assert clone(probe).get_params() == probe.get_params()
    assert "progress" not in probe.recipe()
