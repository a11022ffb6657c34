"""Training against arithmetic done by hand, and runs that were stopped against runs that were not."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from probe_tasks import planted_store
from safetensors.torch import load_file, save_file
from stops import stop_after

from embedstore.errors import CheckpointError, InputError, NonFiniteError
from embedstore.rows import Rows
from embedstore.tasks import Labels, TaskRecord
from probes import training
from probes.dataset import ProbeData
from probes.experiment import run_probe
from probes.outcome import CHECKPOINT, STATE
from probes.probe import NetworkProbe
from probes.training import Settings, rate

QUICK = {"progress": False, "device": "cpu", "draws": 20}
SETTINGS = Settings(0.1, 0.01, "all", "constant", None, "float32", 8, 10, None, None, 0, "cpu")
RUNS = {
    "dropout": ("mlp", "toy", {"dropout": 0.4, "hidden": 12, "learning_rate": 0.01}),
    "batch norm": ("basset", "onehot", {"hidden": 10, "learning_rate": 0.003}),
    "cosine": ("cnn", "toy", {"hidden": 4, "schedule": "cosine", "decay": "weights", "clip": 0.5}),
    "patience": ("linear", "toy", {"learning_rate": 0.003, "patience": 5, "epochs": 60}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store("sequence", "multilabel", length=72, path=tmp_path_factory.mktemp("store") / "s.zarr")


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    """The results of runs that nothing stopped."""
    done = {}

    def run(name):
        if name not in done:
            done[name] = start(store, name, tmp_path_factory.mktemp("whole"))
        return done[name]

    return run


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(training, "STATE_SECONDS", 0.0)


def start(store, name, out):
    probe, model, settings = RUNS[name]
    return run_probe(store, "planted", model, probe=probe, out=out, **QUICK | {"epochs": 6, "batch_size": 8} | settings)


def assert_same(one, other) -> None:
    weights, others = (load_file(result.path / CHECKPOINT) for result in (one, other))
    assert weights.keys() == others.keys()
    for key, weight in weights.items():
        assert torch.equal(weight, others[key]), key
    pd.testing.assert_frame_equal(one.history.drop(columns="seconds"), other.history.drop(columns="seconds"), rtol=0)
    lines = [pd.read_json(result.path / "history.jsonl", lines=True) for result in (one, other)]
    pd.testing.assert_frame_equal(*(line.drop(columns="seconds") for line in lines), rtol=0)
    assert {**one.row, "seconds": 0} == {**other.row, "seconds": 0}
    names = [sorted(path.name for path in result.path.iterdir()) for result in (one, other)]
    assert names[0] == names[1]


# ---- stopped and run again -----------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_gives_the_numbers_of_one_that_was_not(
    store, tmp_path, monkeypatch, every_epoch, undisturbed, name
) -> None:
    """Stopped twice, each time at a seeded step, which is amid an epoch."""
    rng, whole = np.random.default_rng(sorted(RUNS).index(name)), undisturbed(name)
    from_epoch, epochs = training._epoch, []
    monkeypatch.setattr(training, "_epoch", lambda *given: (epochs.append(given[-1]), from_epoch(*given))[1])
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, int(rng.integers(5, 10)))  # four steps are an epoch
            start(store, name, tmp_path)
        assert len(list(tmp_path.rglob(STATE))) == 1
    result = start(store, name, tmp_path)
    assert_same(result, whole)
    assert not list(tmp_path.rglob(STATE))
    begun = [epoch for epoch, before in zip(epochs[1:], epochs, strict=False) if epoch <= before]
    assert len(begun) == 2  # an epoch that was cut short, each time
    assert 1 not in epochs[1:]


@pytest.mark.parametrize(("where", "count"), [("_step", 11), ("fsync", 4)])
def test_a_killed_run_gives_the_numbers_of_one_that_was_not(store, tmp_path, undisturbed, where, count) -> None:
    """Killed amid an epoch, and while the state is written."""
    probe, model, settings = RUNS["dropout"]
    script = f"""
        import os, signal
        import torch
        from embedstore.store import open_store
        from probes import experiment, training

        torch.set_num_threads(1)
        training.STATE_SECONDS = 0.0
        left = {count}

        def killing(function):
            def call(*arguments):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments)
            return call

        if {where!r} == "_step":
            training._step = killing(training._step)
        else:
            os.fsync = killing(os.fsync)
        store = open_store({str(store.local)!r}, mode="r")
        settings = {QUICK | {"epochs": 6, "batch_size": 8} | settings!r}
        experiment.run_probe(store, "planted", {model!r}, probe={probe!r}, out={str(tmp_path)!r}, **settings)
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list(tmp_path.rglob(STATE))) == 1
    assert len(list(tmp_path.rglob(f".*.{STATE}"))) == (where == "fsync")
    assert_same(start(store, "dropout", tmp_path), undisturbed("dropout"))


def test_states_of_other_runs_and_damaged_ones_are_refused(store, tmp_path, monkeypatch, every_epoch) -> None:
    data = [ProbeData.from_store(store, "planted", "toy", name, progress=False) for name in ("train", "valid")]
    probe = NetworkProbe("linear", epochs=3, batch_size=8, seed=1, progress=False, device="cpu")
    state = tmp_path / "state.safetensors"
    probe.fit(*data, state=state)
    whole, before = state.read_bytes(), {name: weight.clone() for name, weight in probe.weights().items()}
    cure = rf"{state}: is not a state that this run can go on from .*Delete this file to train the probe from its first"
    for other in (NetworkProbe(**probe.get_params() | {"seed": 2}), NetworkProbe(**probe.get_params() | {"epochs": 4})):
        with pytest.raises(CheckpointError, match=cure):
            other.fit(*data, state=state)
    for damage in (b"", b"nothing of the kind", whole[: len(whole) // 2], whole[:-1]):
        state.write_bytes(damage)
        with pytest.raises(CheckpointError, match=cure):
            probe.fit(*data, state=state)
    save_file({"network.now.linear.weight": torch.zeros(2, 2)}, state, {"format": "pt"})
    with pytest.raises(CheckpointError, match=cure):
        probe.fit(*data, state=state)
    state.write_bytes(whole)
    monkeypatch.setattr(training, "_step", lambda *_: pytest.fail("trained again"))
    again = NetworkProbe(**probe.get_params()).fit(*data, state=state)
    assert all(torch.equal(before[name], weight) for name, weight in again.weights().items())
    assert len(again.history_) == 3


def test_patience_ends_a_run(undisturbed) -> None:
    row = undisturbed("patience").row
    assert row["epochs"] - row["best_epoch"] == 5
    assert 5 < row["epochs"] < 60


# ---- steps by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "batches"), [(10, 7), (100, 3), (40, 1), (5, 12)])
def test_the_rate_is_that_of_torchs_schedulers(epochs: int, batches: int) -> None:
    steps = epochs * batches
    rising = max(1, round(0.05 * steps))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - rising)
    schedule: torch.optim.lr_scheduler.LRScheduler = falling
    if rising > 1:
        up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / rising, total_iters=rising - 1)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [up, falling], [rising])
    wanted = []
    for _ in range(steps):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    cosine = SETTINGS._replace(schedule="cosine", epochs=epochs)
    found = [rate(cosine, step, steps) for step in range(steps)]
    if rising == 1:  # the first step is at the full rate, and so is the first of the fall
        wanted = [0.1, *wanted[:-1]]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert {rate(SETTINGS, step, steps) for step in range(steps)} == {0.1}


def test_every_step_has_its_rate(store, monkeypatch) -> None:
    data = ProbeData.from_store(store, "planted", "toy", "train", progress=False)
    step, rates = training._step, []

    def watched(network, optimizer, *others):
        rates.append({group["lr"] for group in optimizer.param_groups})
        return step(network, optimizer, *others)

    monkeypatch.setattr(training, "_step", watched)
    probe = NetworkProbe("linear", epochs=3, batch_size=10, schedule="cosine", decay="weights", progress=False).fit(
        data
    )
    settings = SETTINGS._replace(schedule="cosine", learning_rate=probe.learning_rate)
    assert len(data) == 32
    assert rates == [{rate(settings, number, 12)} for number in range(12)]


def by_hand(x, y, weight, bias, *, decay, clip, steps, positive_weight):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) on the mean binary cross-entropy, in float64."""
    parameters, sums = [weight, bias], [[0.0, 0.0], [0.0, 0.0]]
    for step, _ in enumerate(range(steps), 1):
        chance = 1 / (1 + np.exp(-(x @ parameters[0].T + parameters[1])))
        slope = (chance * (1 + (positive_weight - 1) * y) - positive_weight * y) / y.size
        gradients = [slope.T @ x, slope.sum(axis=0)]
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        for place, gradient in enumerate(gradients):
            gradient = gradient * min(1, (clip or np.inf) / (norm + 1e-6))
            sums[place][0] = 0.9 * sums[place][0] + 0.1 * gradient
            sums[place][1] = 0.999 * sums[place][1] + 0.001 * gradient**2
            first, second = sums[place][0] / (1 - 0.9**step), sums[place][1] / (1 - 0.999**step)
            shrink = 1 - 0.05 * 2.0 if place == 0 or decay == "all" else 1
            parameters[place] = parameters[place] * shrink - 0.05 * first / (np.sqrt(second) + 1e-8)
    return parameters


@pytest.mark.parametrize(
    ("decay", "clip", "positive_weight"),
    [("all", None, None), ("weights", None, None), ("weights", 0.12, None), ("all", 0.5, 7.0)],
)
def test_steps_are_those_of_adamw(decay, clip, positive_weight) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(20, 6)).astype(np.float32), rng.integers(2, size=(20, 3)).astype(np.uint8)
    record = TaskRecord(name="t", level="sequence", type="multilabel", names=tuple("abc"), metric="auroc")
    rows = Rows(np.arange(20), x, np.ones(20, np.int64), np.arange(21))
    data = ProbeData.from_rows(rows, Labels(y, ("sample", "target")), record)
    settings = {"learning_rate": 0.05, "weight_decay": 2.0, "batch_size": 50, "progress": False, "device": "cpu"}
    probe = NetworkProbe("linear", seed=3, decay=decay, clip=clip, positive_weight=positive_weight, **settings)
    start = probe.set_params(epochs=1, learning_rate=1e-12).fit(data).weights()
    first = [start["linear.weight"].double().numpy(), start["linear.bias"].double().numpy()]
    probe.set_params(epochs=8, learning_rate=0.05).fit(data)
    found = by_hand(x, y, *first, decay=decay, clip=clip, steps=8, positive_weight=positive_weight or 1.0)
    if clip is not None:  # Adam does not see a factor of all gradients: some steps must be cut, and some not
        twice = by_hand(x, y, *first, decay=decay, clip=2 * clip, steps=8, positive_weight=positive_weight or 1.0)
        assert np.abs(twice[0] - found[0]).max() > 2e-3
    for name, wanted in zip(("linear.weight", "linear.bias"), found, strict=True):
        np.testing.assert_allclose(probe.weights()[name].numpy(), wanted, rtol=2e-4, atol=2e-5)


def test_products_in_bfloat16_stay_near_float32(store) -> None:
    data = [ProbeData.from_store(store, "planted", "toy", name, progress=False) for name in ("train", "valid")]
    made = {
        name: NetworkProbe("cnn", hidden=8, epochs=4, batch_size=8, seed=1, precision=name, progress=False).fit(*data)
        for name in ("float32", "bfloat16")
    }
    one, other = (made[name].history_["train_loss"] for name in ("float32", "bfloat16"))
    np.testing.assert_allclose(other, one, rtol=0.02)
    assert not np.allclose(other, one, rtol=1e-6)
    weights = made["bfloat16"].weights().values()
    assert {weight.dtype for weight in weights} == {torch.float32}
    outputs = [torch.cat([output for _, output in probe.outputs(data[1])]) for probe in made.values()]
    assert outputs[1].dtype == torch.float32


# ---- what cannot be ------------------------------------------------------------------------------


def labelled(values, kind="multilabel", metric="auroc", **record):
    values = np.asarray(values)
    rows = Rows(np.arange(len(values)), np.eye(len(values), 4, dtype=np.float32), np.ones(len(values), int), None)
    rows = rows._replace(first_row=np.arange(len(values) + 1))
    names = record.pop("names", ("x",))
    found = TaskRecord(name="t", level="sequence", type=kind, names=names, metric=metric)
    return ProbeData.from_rows(rows, Labels(values, ("sample", "target")[: values.ndim]), found)


def test_training_that_diverges_says_so() -> None:
    settings = {"progress": False, "device": "cpu", "epochs": 1, "seed": 0}
    both = labelled(np.array([[0], [1], [0], [1]], np.uint8))
    apart = labelled(np.array([[1], [0]], np.uint8))
    with pytest.raises(NonFiniteError, match="not finite after an epoch: the training has diverged. A lower learning"):
        NetworkProbe("mlp", options={"layers": 3}, learning_rate=1e30, **settings).fit(both, apart)
    probe = NetworkProbe("mlp", options={"layers": 3}, learning_rate=1e30, **settings | {"epochs": 3})
    with pytest.raises(
        NonFiniteError, match=r"the loss is (nan|inf) in epoch 2, on the batch of samples .* A lower lea"
    ):
        probe.fit(both)


def test_batches_without_a_label_do_no_step_and_no_label_at_all_is_refused(monkeypatch) -> None:
    step, seen = training._step, []
    monkeypatch.setattr(training, "_step", lambda *given: (seen.append(given[3]), step(*given))[1])
    settings = {"progress": False, "device": "cpu", "epochs": 2, "seed": 0, "batch_size": 1}
    some = labelled(np.array([0, -100, 1, -100, -100]), "class", "mcc", names=("no", "yes"))
    probe = NetworkProbe("linear", **settings).fit(some)
    assert seen == [1] * 4
    assert np.isfinite(probe.history_["train_loss"]).all()
    with pytest.raises(InputError, match="no sample has a label; there is nothing to train on"):
        NetworkProbe("linear", **settings).fit(labelled(np.full(3, -100), "class", "mcc", names=("no", "yes")))


def test_a_metric_that_does_not_fit_is_refused_before_training() -> None:
    data = labelled(np.array([[0], [1]], np.uint8), metric="mcc")
    with pytest.raises(InputError, match="type 'multilabel' and has the metric 'mcc'"):
        NetworkProbe("linear", progress=False).fit(data)


def test_validation_stops_only_for_labels_that_are_alike(store) -> None:
    """Targets that are alike are left out of the mean that chooses the epoch; one that is not is enough."""
    values = np.array([[0, 1], [1, 1], [0, 1], [1, 1]], np.uint8)
    data = labelled(values, names=("x", "y"))
    history = NetworkProbe("linear", epochs=2, progress=False, seed=0).fit(labelled(values[:3], names=("x", "y")), data)
    assert history.history_["valid"].notna().all()
    assert list(itertools.pairwise(history.history_["epoch"])) == [(1, 2)]


def test_every_epoch_and_every_seed_drops_other_channels(store, monkeypatch) -> None:
    data = ProbeData.from_store(store, "planted", "toy", "train", progress=False)
    step, seeds = training._step, []
    monkeypatch.setattr(training, "_step", lambda *given: (seeds.append(torch.initial_seed()), step(*given))[1])
    for seed in (1, 2):
        NetworkProbe("mlp", epochs=3, batch_size=100, seed=seed, progress=False, device="cpu").fit(data)
    assert len(set(seeds)) == len(seeds) == 6
