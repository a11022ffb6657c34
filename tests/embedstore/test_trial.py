"""The trial that chooses the size of batches, and what a long run measures beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import ToyModel, random_sequences

import embedstore
from embedstore import embedding, planning, tasks
from embedstore.errors import DeviceMemoryError
from embedstore.models import load
from embedstore.planning import run_trial
from embedstore.selection import Selection

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"


@pytest.fixture
def store(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([200] * 60)))
    return store


class Costly(ToyModel):
    """Takes so long per batch and token; times are counted, not spent."""

    now = 0.0

    def __init__(self, per_batch: float, per_token: float, most: int = 10**9) -> None:
        super().__init__()
        self.packs, self.costs, self.most = True, (per_batch, per_token), most

    def hidden_packed(self, ids, lengths):
        return self.hidden(ids[None])[0]

    def hidden(self, ids):
        if ids.numel() > self.most:
            raise torch.OutOfMemoryError("not enough memory")
        Costly.now += self.costs[0] + self.costs[1] * ids.numel()
        return super().hidden(ids)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("embedstore.planning.time.perf_counter", lambda: Costly.now)
    monkeypatch.setattr(planning, "BUDGETS", {"cpu": (64, 256, 1024)})


def test_large_batches_where_each_costs(store, clock):
    trial = run_trial(store, "t", Costly(0.01, 1e-6), Selection())
    assert trial.batch_tokens == 1024
    assert list(trial.tried) == [64, 256, 1024]
    assert trial.tokens_per_second == trial.tried[1024]
    tokens = sum(len(piece.ids) for codes in store.sequences("t") for piece in ToyModel().pieces(codes))
    assert trial.tokens_per_nucleotide == pytest.approx(tokens / 12_000)
    assert trial.nucleotides_per_second == pytest.approx(trial.tokens_per_second * 12_000 / tokens)


def test_small_batches_where_tokens_cost(store, clock):
    trial = run_trial(store, "t", Costly(0.0, 1e-4), Selection())
    assert trial.batch_tokens == 64  # a larger one is no faster, and takes more memory


def test_the_trial_stops_where_memory_does(store, clock):
    trial = run_trial(store, "t", Costly(0.01, 1e-6, most=100), Selection())
    assert trial.batch_tokens <= 256
    assert 1024 not in trial.tried
    with pytest.raises(DeviceMemoryError, match="not enough memory"):
        run_trial(store, "t", Costly(0.01, 1e-6, most=3), Selection())


def test_a_trial_is_no_longer_than_its_time(store, clock):
    run_trial(store, "t", Costly(5.0, 0.0), Selection())
    before = Costly.now
    trial = run_trial(store, "t", Costly(5.0, 0.0), Selection())
    assert Costly.now - before <= 3 * 5.0
    assert len(trial.tried) == 1


def test_a_long_run_measures_the_device(store, monkeypatch):
    monkeypatch.setattr(embedding, "TRIAL_LETTERS", {"cpu": 0})
    report = embedstore.embed(store, "t", load(MODEL), progress=False)
    assert report.batch_tokens in planning.BUDGETS["cpu"]
    assert report.matmul_rate > 1e8
    assert report.flops > report.tokens * 1000
    assert 0 < report.utilisation < 2
    assert np.isfinite(report.to_dict()["utilisation"])
