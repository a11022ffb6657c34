from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from probe_tasks import planted_store
from sklearn.base import clone

from embedstore.errors import InputError, NonFiniteError
from embedstore.rows import Rows
from embedstore.tasks import Labels, TaskRecord
from probes import dataset, training
from probes.cnn import CNN
from probes.dataset import ProbeData
from probes.probe import CNNProbe

QUICK = {"hidden": 16, "learning_rate": 0.01, "batch_size": 8, "epochs": 12, "progress": False, "device": "cpu"}


def split(store, name: str, model: str = "toy") -> ProbeData:
    return ProbeData.from_store(store, "planted", model, name, progress=False)


@pytest.fixture(scope="module")
def store():
    return planted_store()


@pytest.fixture(scope="module")
def fitted(store) -> CNNProbe:
    return CNNProbe(**QUICK).fit(split(store, "train"), split(store, "valid"))


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        ("nucleotide", "class"),
        ("nucleotide", "value"),
        ("bin", "multilabel"),
        ("bin", "class"),
        ("sequence", "multilabel"),
        ("sequence", "value"),
        ("sequence", "class"),
    ],
)
def test_planted_truth_is_found_at_every_level(level: str, kind: str) -> None:
    """The one-hot rows hold the truth whole, so the probe must find it on samples it has not seen."""
    store = planted_store(level, kind)
    quick = QUICK | {"epochs": 25}
    probe = CNNProbe(**quick).fit(split(store, "train", "onehot"), split(store, "valid", "onehot"))
    test = split(store, "test", "onehot")
    assert probe.score(test) > {"nucleotide": 0.97, "bin": 0.8, "sequence": 0.6}[level]
    predicted = probe.predict(test)
    positions = int(test.targets.counts[test.samples].sum())
    assert len(predicted) == positions
    if kind == "value":
        assert predicted.dtype == np.float32
        with pytest.raises(InputError, match="no probabilities"):
            probe.predict_proba(test)
        return
    probability = probe.predict_proba(test)
    if kind == "class":
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(probability.argmax(axis=1), predicted)
    else:
        np.testing.assert_array_equal(probability > 0.5, predicted)


def test_a_model_of_tokens_is_probed_at_nucleotides(store, fitted) -> None:
    test = split(store, "test")
    assert fitted.score(test) > 0.9
    truth = test.targets.of(test.samples).numpy()
    assert (fitted.predict(test) == truth).mean() > 0.9
    assert fitted.history_.columns.tolist() == ["epoch", "train_loss", "valid_loss", "valid", "seconds"]
    assert fitted.history_["train_loss"].iloc[-1] < 0.5 * fitted.history_["train_loss"].iloc[0]


def test_the_best_epoch_is_kept(store, fitted, monkeypatch) -> None:
    assert fitted.best_epoch_ == fitted.history_["valid"].argmax() + 1
    assert fitted.score(split(store, "valid")) == fitted.history_["valid"].max()
    metric, weights = iter([0.1, 0.9, 0.3, 0.9]), []
    monkeypatch.setattr(training, "_validate", lambda *_: (1.0, next(metric)))
    probe = CNNProbe(**QUICK | {"epochs": 4})
    probe.fit(
        split(store, "train"),
        split(store, "valid"),
        on_epoch=lambda probe: weights.append(probe.network_.linear[0].weight.tolist()),
    )
    assert probe.best_epoch_ == 2  # of equal ones the first
    assert probe.network_.linear[0].weight.tolist() == weights[1]
    assert weights[1] not in (weights[0], weights[2], weights[3])


def test_without_validation_the_last_epoch_is_kept(store) -> None:
    probe = CNNProbe(**QUICK | {"epochs": 2}).fit(split(store, "train"))
    assert probe.best_epoch_ == 2
    assert probe.history_.columns.tolist() == ["epoch", "train_loss", "seconds"]


def test_every_epoch_has_its_own_order(store, monkeypatch) -> None:
    orders = []
    batches = ProbeData.batches

    def watched(self, size, seed=None):
        for parts in batches(self, size, seed):
            orders.append(tuple(sample for part in parts for sample in part.samples))
            yield parts

    monkeypatch.setattr(ProbeData, "batches", watched)
    CNNProbe(**QUICK | {"epochs": 3}).fit(split(store, "train"))
    assert len(set(orders)) == len(orders) == 3 * 32 / 8


def test_patience_stops(store, monkeypatch) -> None:
    metric = iter([0.1, 0.2, 0.1, 0.3, 0.3, 0.2, 0.1, 0.4])
    monkeypatch.setattr(training, "_validate", lambda *_: (1.0, next(metric)))
    probe = CNNProbe(**QUICK | {"epochs": 200, "patience": 3}).fit(split(store, "train"), split(store, "valid"))
    assert (len(probe.history_), probe.best_epoch_) == (7, 4)


def test_equal_experiments_give_equal_numbers_and_others_other_seeds(store, fitted) -> None:
    state = torch.get_rng_state()
    again = clone(fitted).fit(split(store, "train"), split(store, "valid"))
    assert torch.equal(torch.get_rng_state(), state)
    assert again.seed_ == fitted.seed_
    for name, weight in fitted.network_.state_dict().items():
        assert torch.equal(weight, again.network_.state_dict()[name])
    one = QUICK | {"epochs": 1}
    seeds = {CNNProbe(**one | extra).fit(split(store, "train")).seed_ for extra in ({}, {"hidden": 8}, {"epochs": 2})}
    assert len(seeds | {fitted.seed_}) == 4
    assert CNNProbe(**one, seed=11).fit(split(store, "train")).seed_ == 11


def test_reading_anew_gives_the_numbers_of_memory(store, fitted) -> None:
    data = ProbeData.from_store(store, "planted", "toy", "train", memory_limit=0, progress=False)
    again = clone(fitted).fit(data, split(store, "valid"))
    for name, weight in fitted.network_.state_dict().items():
        assert torch.equal(weight, again.network_.state_dict()[name])


def test_parts_of_a_batch_add_up_to_the_batch(store, monkeypatch) -> None:
    """Gradients of parts are summed with the batch's number of labels, so the cut changes rounding only."""
    losses = []
    for nucleotides in (100, 10**9):
        monkeypatch.setattr(dataset, "PART_NUCLEOTIDES", nucleotides)
        probe = CNNProbe(**QUICK | {"epochs": 3}, seed=1).fit(split(store, "train"))
        losses.append(probe.history_["train_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_one_step_is_adamw_on_the_mean_loss(store) -> None:
    """A whole epoch in one batch, against the nucleotide-level module and torch's own loss and optimizer."""
    data = split(store, "train")
    probe = CNNProbe(**QUICK | {"epochs": 1, "batch_size": 1000}, weight_decay=5.0, seed=5).fit(data)
    torch.manual_seed(5)
    network = CNN(48, 3, 16)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=5.0)
    outputs, targets = [], []
    for sample in data.samples:
        rows = store.embedding("planted", "toy").read([sample])
        outputs.append(network(torch.from_numpy(rows.nucleotides())[None])[0])
        targets.append(data.targets.of(np.array([sample])))
    loss = torch.nn.functional.cross_entropy(torch.cat(outputs), torch.cat(targets))
    loss.backward()
    optimizer.step()
    np.testing.assert_allclose(probe.history_["train_loss"], loss.item(), rtol=1e-5)
    for name, weight in network.state_dict().items():
        # Adam divides a gradient by itself: where it is nearly zero, rounding decides the step.
        torch.testing.assert_close(probe.network_.state_dict()[name], weight, rtol=0, atol=2e-4)


def test_positions_without_label_change_nothing(store) -> None:
    """Labels hidden in half of the samples: the rest are trained and scored as if the others were not there."""
    rng = np.random.default_rng(0)
    span = np.full(60, 4)
    rows = Rows(np.arange(6), rng.normal(size=(60, 5)).astype(np.float32), span, np.arange(0, 61, 10))
    values = rng.integers(0, 2, (6, 40)).astype(np.int16)
    record = TaskRecord(name="half", level="nucleotide", type="class", names=("a", "b"), metric="mcc")
    hidden = values.copy()
    hidden[3:] = -100
    probe = CNNProbe(**QUICK | {"epochs": 3, "batch_size": 6}, seed=0)
    all_rows = probe.fit(ProbeData.from_rows(rows, Labels(hidden.ravel(), ("nucleotide",)), record)).history_
    few = Rows(np.arange(3), rows.vector[:30], span[:30], rows.first_row[:4])
    only = clone(probe).fit(ProbeData.from_rows(few, Labels(values[:3].ravel(), ("nucleotide",)), record)).history_
    np.testing.assert_allclose(all_rows["train_loss"], only["train_loss"], rtol=1e-4)
    scores = probe.evaluate(ProbeData.from_rows(rows, Labels(hidden.ravel(), ("nucleotide",)), record))
    assert scores.confusion.sum() == 120
    nothing = np.full(240, -100, np.int16)
    with pytest.raises(InputError, match="no sample has a label"):
        probe.fit(ProbeData.from_rows(rows, Labels(nothing, ("nucleotide",)), record))
    assert np.isnan(probe.evaluate(ProbeData.from_rows(rows, Labels(nothing, ("nucleotide",)), record)).loss)


def test_positive_weight_finds_more_positives() -> None:
    store = planted_store("sequence", "multilabel")
    share = []
    for weight in (None, 50.0):
        probe = CNNProbe(**QUICK | {"epochs": 5}, positive_weight=weight, seed=1).fit(split(store, "train"))
        share.append(probe.predict_proba(split(store, "test")).mean())
    assert share[1] > share[0] + 0.2


def test_an_interrupt_keeps_the_best_weights(store, monkeypatch) -> None:
    evaluate, calls = training.evaluate, []

    def interrupted(outputs, data, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return evaluate(outputs, data, **options)

    monkeypatch.setattr(training, "evaluate", interrupted)
    probe = CNNProbe(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        probe.fit(split(store, "train"), split(store, "valid"))
    assert len(probe.history_) == 4
    assert probe.score(split(store, "valid")) == probe.history_["valid"].max()


def test_save_and_load(store, fitted, tmp_path) -> None:
    fitted.save(tmp_path / "probe.safetensors")
    loaded = CNNProbe.load(tmp_path / "probe.safetensors", device="cpu")
    test = split(store, "test")
    np.testing.assert_array_equal(loaded.predict_proba(test), fitted.predict_proba(test))
    assert loaded.recipe() == fitted.recipe()
    assert (loaded.seed_, loaded.best_epoch_, loaded.record_) == (fitted.seed_, fitted.best_epoch_, fitted.record_)
    np.testing.assert_array_equal(loaded.history_, fitted.history_)
    assert [path.name for path in tmp_path.iterdir()] == ["probe.safetensors"]


def test_parameters_as_scikit_learn_has_them() -> None:
    probe = CNNProbe(hidden=3).set_params(epochs=7)
    assert clone(probe).get_params() == probe.get_params()
    assert "hidden=3" in repr(probe)


def test_progress_and_log(store, caplog, capsys) -> None:
    with caplog.at_level(logging.INFO, logger="probes"):
        CNNProbe(**QUICK | {"epochs": 2, "progress": True}).fit(split(store, "train"), split(store, "valid"))
    assert "training planted_nucleotide_class" in capsys.readouterr().err
    assert sum("train_loss" in message for message in caplog.messages) == 2


def test_refusals(store, fitted) -> None:
    train = split(store, "train")
    for name, value in (
        ("epochs", 0),
        ("hidden", 0),
        ("patience", 0),
        ("learning_rate", 0.0),
        ("positive_weight", -1.0),
        ("epochs", "three"),
        ("batch_size", 1.5),
        ("clip", True),
        ("weight_decay", -0.1),
        ("seed", -1),
        ("options", 3),
    ):
        with pytest.raises(InputError, match=f"{name} must be .*; got {value!r}"):
            CNNProbe(**QUICK | {name: value}).fit(train)
    with pytest.raises(InputError, match=r"trained on planted/toy; .*planted/onehot.*made differently \(architecture"):
        fitted.predict(split(store, "test", "onehot"))
    for name, value in (("schedule", "cosin"), ("decay", "some"), ("precision", "float16")):
        with pytest.raises(InputError, match=f"{name} is {value!r}; it must be one of"):
            CNNProbe(**QUICK | {name: value}).fit(train)
    with pytest.raises(NonFiniteError, match="the loss is nan in epoch 1, on the batch of samples"):
        CNNProbe(**QUICK | {"learning_rate": 1e30}).fit(train)
    rows = Rows(np.arange(2), np.ones((2, 3), np.float32), np.ones(2, int), np.arange(3))
    record = TaskRecord(name="alike", level="sequence", type="multilabel", names=("x",), metric="auroc")
    alike = ProbeData.from_rows(rows, Labels(np.ones((2, 1), np.uint8), ("sample", "target")), record)
    train_of_two = ProbeData.from_rows(rows, Labels(np.array([[0], [1]], np.uint8), ("sample", "target")), record)
    with pytest.raises(InputError, match="auroc is not defined on the validation samples"):
        CNNProbe(**QUICK).fit(train_of_two, alike)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", None, "epochs must be 1 or more, a whole number; got None"),
        ("batch_size", 2.5, "batch_size must be 1 or more, a whole number; got 2.5"),
        ("batch_size", None, "batch_size must be .*; got None"),
        ("patience", True, "patience must be .*; got True"),
        ("learning_rate", None, "learning_rate must be a finite number above 0; got None"),
        ("learning_rate", float("nan"), "learning_rate must be .*; got nan"),
        ("clip", float("inf"), "clip must be .*; got inf"),
        ("clip", "1", "clip must be .*; got '1'"),
        ("weight_decay", -0.1, "weight_decay must be a finite number, 0 or more; got -0.1"),
        ("seed", -1, r"seed must be a whole number, 0 to 2\^63 - 1; got -1"),
        ("seed", 1.5, "seed must be .*; got 1.5"),
        ("options", ["dropout"], r"options must be a dictionary of settings by name; got \['dropout'\]"),
        ("options", {"dropout": 0.5}, "network 'cnn' has no setting 'dropout'"),
        ("network", "cnm", "there is no network 'cnm'. Did you mean 'cnn'"),
        ("kernel", 4, "network 'cnn': kernel is 4; an odd number, 1 or more is wanted"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused(store, name, value, message) -> None:
    with pytest.raises(InputError, match=message):
        CNNProbe(**QUICK | {name: value}).fit(split(store, "train"))


def test_settings_that_may_be_none_or_zero(store) -> None:
    free = {"hidden": None, "patience": None, "clip": None, "positive_weight": None, "weight_decay": 0}
    probe = CNNProbe(**QUICK | free | {"epochs": 1, "options": {"hidden": 3}}).fit(split(store, "train"))
    assert probe.weights()["linear.0.weight" if "linear.0.weight" in probe.weights() else "linear.weight"].shape == (
        3,
        3,
    )


def test_basset_names_the_lengths_that_do_not_fit() -> None:
    lengths = planted_store("sequence", "multilabel", samples=12)
    data = split(lengths, "train", "onehot")
    seen = np.unique(data.targets.lengths[data.samples])
    message = f"among these are some of {seen[0]} and some of {seen[1]} nucleotides. Cut them to one length"
    with pytest.raises(InputError, match=message):
        CNNProbe("basset", progress=False).fit(data)


def test_samples_for_training_do_not_choose_the_epoch(store) -> None:
    train = split(store, "train")
    with pytest.raises(InputError, match="share 3 samples, the first is sample 0"):
        CNNProbe(**QUICK).fit(train, train[:3])


def test_a_probe_wants_the_width_it_was_trained_on() -> None:
    record = TaskRecord(name="t", level="sequence", type="multilabel", names=("x",), metric="auroc")
    labels = Labels(np.array([[0], [1]], np.uint8), ("sample", "target"))
    two, three = (
        ProbeData.from_rows(
            Rows(np.arange(2), np.eye(2, n, dtype=np.float32), np.ones(2, int), np.arange(3)), labels, record
        )
        for n in (2, 3)
    )
    with pytest.raises(InputError, match="the probe was trained on 2 channels; .* has 3"):
        CNNProbe("linear", epochs=1, progress=False).fit(two).predict(three)
