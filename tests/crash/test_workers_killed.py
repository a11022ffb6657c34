"""Workers and schedulers that are killed: nothing committed is lost, and the next run ends at the same values."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kills import DEADLINE, KINDS, Forks, campaign, values

import embedstore
from embedstore import layout, processes, scheduler, tasks
from embedstore.embedding import prepare
from embedstore.errors import WorkersError
from embedstore.models import load
from embedstore.processes import run_on_devices
from embedstore.scheduler import run_on_scheduler
from embedstore.workers import embed_spec

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.mark.timeout(600)
def test_twenty_kills_then_resume(tmp_path):
    """kill -9 of a worker process, a dask worker and a scheduler; tests/crash/campaign.py does it 200 times."""
    for tally in campaign(tmp_path, dict(zip(KINDS, (8, 8, 4), strict=True))):
        assert tally.kills >= 4
        assert tally[3:] == (0, 0, 0, 0), tally


@pytest.mark.parametrize("role", ["embed", "devices"])
def test_a_clock_that_runs_backwards_changes_nothing(tmp_path, forks, role):
    for name, options in (("whole", {}), ("backwards", {"backwards": True})):
        code, text = forks.run(role, tmp_path / name, 0.0, options)
        assert code == 0, text
    np.testing.assert_array_equal(values(tmp_path / "whole"), values(tmp_path / "backwards"))
    assert embedstore.open_store(tmp_path / "backwards").verify().sound


def test_workers_end_with_their_parent(tmp_path, forks):
    """A parent that is killed leaves no worker behind to hold blocks: the next run goes on at once."""
    run = forks.start("devices", tmp_path / "s", 0.2)
    pids = [int(pid) for pid in run.said("workers", 2)]
    time.sleep(0.5)
    run.kill()
    deadline = time.monotonic() + DEADLINE
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    code, text = forks.run("devices", tmp_path / "s", 0.0)
    assert code == 0, text


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


# ---- with processes as a user starts them --------------------------------------------------------


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store whose embedding is prepared in small blocks: the workers take up the arrays that they find."""
    monkeypatch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
    monkeypatch.setattr(layout, "CHUNK_BYTES", 512)
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    rng = np.random.default_rng(0)
    store.add_task(tasks.from_sequences("t", ["".join(rng.choice(list("ACGT"), 400)) for _ in range(150)]))
    model = load(MODEL)
    embedstore.embed(store, "t", model, name="whole", progress=False)
    assert len(prepare(store, "t", model).embedding.missing()) > 10
    return store


def complete(store):
    emb = store.embedding("t", "nt_v1")
    np.testing.assert_allclose(
        store.open("t", "nt_v1")["embedding"].to_numpy(), store.open("t", "whole")["embedding"].to_numpy(), atol=2e-3
    )
    return not emb.missing() and store.verify().sound


def test_a_killed_subprocess(store, monkeypatch):
    started = []
    real = processes._start
    monkeypatch.setattr(processes, "_start", lambda environment: started.append(real(environment)) or started[-1])
    monkeypatch.setattr(processes, "_wait_for_arrays", lambda *_: None)
    spec = embed_spec(store, "t", {"model": str(MODEL)})

    def kill(worker):
        if worker is started[0]:
            worker.kill()

    monkeypatch.setattr(processes._Worker, "listen", _then(processes._Worker.listen, lambda w: kill(w.process)))
    report = run_on_devices(spec, ["cpu", "cpu"], progress=False)
    assert report.failures == ("worker 1 of 2 on cpu: killed by SIGKILL: it said nothing",)
    assert report.exit_code == 1
    emb = store.embedding("t", "nt_v1")
    assert {block % 2 for block in emb.missing()} == {0}, "the other worker did all of its share"
    assert report.blocks_left == len(emb.missing())
    monkeypatch.undo()
    report = run_on_devices(spec, ["cpu"], progress=False)
    assert (report.failures, report.blocks_left, report.exit_code) == ((), 0, 0)
    assert complete(store)


def _then(function, after):
    def both(worker):
        function(worker)
        after(worker)

    return both


@contextlib.contextmanager
def dask(*words):
    process = subprocess.Popen(
        [BIN / "dask", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def test_dask_commands_with_a_killed_scheduler(tmp_path, store):
    """`dask scheduler` and `dask worker` as in docs/cluster.md; the scheduler is killed, the same call goes on."""
    spec = embed_spec(store, "t", {"model": str(MODEL)})
    with contextlib.ExitStack() as held:
        for number in range(2):
            file = tmp_path / f"scheduler{number}.json"
            server = held.enter_context(
                dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file)
            )
            worker = (
                "--scheduler-file",
                file,
                "--nthreads",
                1,
                "--no-dashboard",
                "--resources",
                "GPU=1",
                "--local-directory",
                tmp_path,
            )
            held.enter_context(dask("worker", *worker))
            address = _address(file)
            if number == 0:

                def kill(_, server=server):
                    os.killpg(server.pid, signal.SIGKILL)

                with pytest.raises(WorkersError, match="is gone.*the same command goes on"):
                    _watched(spec, address, kill)
                assert store.embedding("t", "nt_v1").missing()
            else:
                report = run_on_scheduler(spec, address, progress=False)
                assert (report.failures, report.exit_code) == ((), 0)
    assert complete(store)


def _address(file: Path) -> str:
    import json

    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return json.loads(file.read_text())["address"]
        time.sleep(0.05)
    raise AssertionError("the scheduler does not start")


def _watched(spec, address, after):
    """Run with one block in a task, and do something after the first one."""

    class Bar(contextlib.AbstractContextManager):
        def update(self, blocks):
            after(blocks)

        def __exit__(self, *_):
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "progress_bar", lambda *_, **__: Bar())
        run_on_scheduler(spec, address, blocks_per_task=1)
