"""Sweeps that are killed, or their workers: what is finished stays, and the next run does only the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
from probe_tasks import planted_store
from processes import Told
from sweeps import PAUSE, StandIns, install, logged, spec_folder

from probes.combine import make_specs
from probes.results import RESULT
from probes.scheduler import connected
from probes.specs import Spec
from probes.sweeping import sweep

DEADLINE = 120.0


class Processes(Told):
    """The process of tests/crash/sweep_process.py."""

    def __init__(self) -> None:
        super().__init__("sweep_process.py")

    def start(self, specs: list[Spec], out: Path, workers: int = 0, pause: float | None = None) -> int:
        return self._ask("run", [spec.to_dict() for spec in specs], str(out), workers, pause)

    def wait(self, number: int) -> int:
        return self._ask("wait", number)

    def kill(self, number: int) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        return self.wait(number)


@pytest.fixture(scope="module")
def processes():
    processes = Processes()
    yield processes
    processes.close()


def poll(done) -> None:
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def events(out: Path, event: str) -> list[int]:
    """How often each probe of the log began, or was done."""
    return [many for line, many in logged(out).items() if line.startswith(f"{event} ")]


def stand_ins(many: int, **settings) -> list[Spec]:
    return [Spec("/s.zarr", "t", "m", seed=seed, settings=settings) for seed in range(many)]


# ---- workers -------------------------------------------------------------------------------------


def test_a_killed_worker_loses_nothing_and_repeats_nothing(tmp_path) -> None:
    """Two workers are killed one after the other, each in the middle of a probe; dask gives their probes to others."""
    with connected(2) as client:
        client.register_plugin(StandIns(0.3))  # long beside what it takes to see that one is done, so that none is then
        numbers = list(client.run(os.getpid).values())

        def kill() -> None:
            for done, number in zip((2, 6), numbers, strict=True):
                poll(lambda done=done: len(events(tmp_path, "done")) >= done)
                os.kill(number, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        table = sweep(stand_ins(16), tmp_path, client, progress=False)
        killer.join()
    # A row that was lost on its way from a worker that died is read from disk by the task that dask runs again.
    assert set(table["status"]) <= {"done", "found"}
    assert table["seed"].tolist() == list(range(16))
    assert events(tmp_path, "done") == [1] * 16, "nothing that was finished is computed again"
    assert 16 <= sum(events(tmp_path, "begun")) <= 18, "only what a killed worker was at is begun again"


def test_a_probe_that_kills_its_workers_fails_alone(tmp_path) -> None:
    deadly = stand_ins(1, epochs=14)
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), connected(2) as client:
        client.register_plugin(StandIns(0.0))
        table = sweep([*stand_ins(4), *deadly, *stand_ins(8)[4:]], tmp_path, client, progress=False)
    assert (table["status"] == "failed").tolist() == [False] * 4 + [True] + [False] * 4
    assert table["error"][4].startswith("KilledWorker: ")
    assert logged(tmp_path)[f"begun {spec_folder(deadly[0], tmp_path).name}"] == 2


# ---- the sweep itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_sweep_goes_on(processes, tmp_path, monkeypatch, seed) -> None:
    """Killed several times at moments that the seed decides; what was finished then is not computed again."""
    rng, specs, pause = np.random.default_rng(seed), stand_ins(12), 0.02
    for _ in range(3):
        run = processes.start(specs, tmp_path, pause=pause)
        time.sleep(rng.uniform(0, 12 * pause))
        processes.kill(run)
    assert processes.wait(processes.start(specs, tmp_path, pause=pause)) == 0
    assert all(many <= 2 for many in events(tmp_path, "done")), "between result and log there may be a kill"
    assert sum(events(tmp_path, "begun")) <= 12 + 3
    install(monkeypatch)
    table = sweep(specs, tmp_path, progress=False)
    assert table["status"].tolist() == ["found"] * 12
    whole = sweep(specs, tmp_path / "whole", progress=False)
    pd.testing.assert_frame_equal(table.drop(columns=["path", "status"]), whole.drop(columns=["path", "status"]))


def test_workers_end_with_the_sweep_that_started_them(processes, tmp_path, monkeypatch) -> None:
    run = processes.start(stand_ins(40), tmp_path, workers=2, pause=0.1)
    poll(lambda: len(events(tmp_path, "done")) >= 3)
    children = descendants(run)
    assert len(children) >= 2
    processes.kill(run)
    poll(lambda: not any(alive(child) for child in children))
    before = len(events(tmp_path, "done"))
    assert before < 40
    monkeypatch.setenv(PAUSE, "0")
    install(monkeypatch)
    table = sweep(stand_ins(40), tmp_path, progress=False)
    assert table["status"].eq("found").sum() in (before, before + 1)
    assert len(events(tmp_path, "done")) >= 39


def descendants(number: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = [
        int(word) for file in Path(f"/proc/{number}/task").glob("*/children") for word in file.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---- real probes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Specs of real probes, the seconds and the table of a sweep that nothing disturbs."""
    folder = tmp_path_factory.mktemp("real")
    parts = [f"part{i % 4 + 1}" for i in range(48)]
    planted_store("sequence", "class", splits=parts, path=folder / "s.zarr", hidden=4, epochs=5, batch_size=8)
    specs = make_specs(folder / "s.zarr", "planted", ["toy", "onehot"], folds=[1, 2], settings={"device": "cpu"})
    specs += make_specs(folder / "s.zarr", "planted", "toy", "ridge", folds=[1, 2])
    began = time.perf_counter()
    table = sweep(specs, folder / "whole", progress=False)
    assert table["status"].eq("done").all(), table["error"].tolist()
    return specs, time.perf_counter() - began, table


def assert_same(table: pd.DataFrame, whole: pd.DataFrame) -> None:
    names = ["seconds", "path", "status"]
    pd.testing.assert_frame_equal(table.drop(columns=names), whole.drop(columns=names), check_exact=True)


def finished(out: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in out.rglob(RESULT)}


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_sweep_of_real_probes_ends_at_the_same_table(processes, tmp_path, real, seed) -> None:
    specs, seconds, whole = real
    rng = np.random.default_rng(seed)
    for _ in range(3):
        run = processes.start(specs, tmp_path)
        time.sleep(rng.uniform(0, seconds))
        processes.kill(run)
        before = finished(tmp_path)
        assert before.items() <= finished(tmp_path).items()
    assert processes.wait(processes.start(specs, tmp_path)) == 0
    after = finished(tmp_path)
    assert before.items() <= after.items(), "what was finished was written again"
    table = sweep(specs, tmp_path, progress=False)
    assert table["status"].eq("found").all()
    assert_same(table, whole)
    assert not [file for file in tmp_path.rglob(".*") if RESULT in file.name], "no half-written row"


def test_two_sweeps_at_once_do_each_other_no_harm(processes, tmp_path, real) -> None:
    specs, _, whole = real
    runs = [processes.start(specs, tmp_path), processes.start(specs[::-1], tmp_path), processes.start(specs, tmp_path)]
    assert [processes.wait(run) for run in runs] == [0, 0, 0]
    table = sweep(specs, tmp_path, progress=False)
    assert table["status"].eq("found").all()
    assert_same(table, whole)
