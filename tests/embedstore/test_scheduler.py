"""Embedding by dask workers: what a task carries, what workers answer, and what happens when one cannot."""

from __future__ import annotations

import pickle
import threading
import time

import distributed
import numpy as np
import pytest
from clients import two_workers
from toys import ToyModel, load_toys, store_of_blocks

import embedstore
from embedstore import scheduler, worker_tasks, workers
from embedstore.embedding import prepare
from embedstore.errors import InputError, NonFiniteError, WorkersError
from embedstore.scheduler import run_on_scheduler
from embedstore.worker_tasks import Done, embed_on_worker, prepare_on_worker
from embedstore.workers import embed_spec


@pytest.fixture
def store(tmp_path, many_blocks):
    return store_of_blocks(tmp_path / "s.zarr")


@pytest.fixture
def toy(monkeypatch):
    return load_toys(monkeypatch)


@pytest.fixture
def spec(store):
    return embed_spec(store, "t", {"model": "toy"})


@pytest.fixture(scope="module")
def client():
    with two_workers() as client:
        yield client


def test_a_scheduler_gives_the_values_of_one_process(store, spec, toy, client):
    embedstore.embed(store, "t", ToyModel(), name="whole", progress=False)
    report = run_on_scheduler(spec, client.scheduler.address, progress=False)
    emb = store.embedding("t", "toy")
    assert (report.exit_code, report.failures, report.blocks, report.model) == (0, (), emb.blocks, "toy")
    np.testing.assert_array_equal(
        store.open("t", "toy")["embedding"].to_numpy(), store.open("t", "whole")["embedding"].to_numpy()
    )
    assert store.verify().sound
    assert toy == [{"model": "toy"}], "loaded once in a process"
    again = run_on_scheduler(spec, client, progress=False)
    assert (again.blocks, again.blocks_before, again.blocks_left) == (0, emb.blocks, 0)
    assert client.status == "running", "a client that was given is left open"


def test_a_task_carries_no_data(store, spec):
    """A guard: the whole message of a task is under 2 kB, however large the task of the store is."""
    assert len(pickle.dumps((embed_on_worker, spec, list(range(60))))) < 2000
    assert len(spec.to_json()) < 500


@pytest.mark.parametrize(
    ("seconds", "left", "slots", "size"),
    [(0.0, 100, 2, 1), (0.1, 1000, 2, 50), (0.1, 100, 2, 25), (0.1, 3, 2, 1), (60.0, 100, 2, 1), (2.4, 100, 1, 3)],
)
def test_tasks_of_five_seconds_and_smaller_ones_at_the_end(client, spec, seconds, left, slots, size):
    run = scheduler._Run(spec, client, None)
    run._block_seconds = seconds
    assert run._size(left, slots) == size
    assert scheduler._Run(spec, client, 7)._size(5, slots) == 5


def test_only_a_window_of_tasks_is_given_out(store, spec, toy, client, monkeypatch):
    most = [0]
    real = scheduler._Run._submit

    def submit(run, *given):
        real(run, *given)
        most[0] = max(most[0], len(run._pending))

    monkeypatch.setattr(scheduler._Run, "_submit", submit)
    monkeypatch.setattr(scheduler, "WINDOW", 3)
    assert run_on_scheduler(spec, client, blocks_per_task=1, progress=False).blocks_left == 0
    assert most == [3]


def test_tasks_ask_for_the_resource_that_workers_have(store, spec, toy):
    """Only the worker that has a GPU is given tasks, and one at a time."""
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        common = {"cls": distributed.Worker, "options": {"nthreads": 4, "dashboard": False}}
        cluster.worker_spec.update(
            {
                "plain": common,
                "card": {**common, "options": {**common["options"], "resources": {"GPU": 1}}},
            }
        )
        cluster.sync(cluster._correct_state)
        client.wait_for_workers(2)
        run = scheduler._Run(spec, client, None)
        assert run._wait_for_workers() == 1
        (card,) = [a for a, w in client.scheduler_info()["workers"].items() if w["resources"]]
        seen = []
        real = worker_tasks._embed

        def embed(*given):
            seen.append(distributed.get_worker().address)
            return real(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker_tasks, "_embed", embed)
            assert run_on_scheduler(spec, client, blocks_per_task=4, progress=False).exit_code == 0
        assert set(seen) == {card}


def test_it_waits_for_a_worker(store, spec, toy, caplog):
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        found = []
        thread = threading.Thread(target=lambda: found.append(run_on_scheduler(spec, client, progress=False)))
        thread.start()
        deadline = time.monotonic() + 120
        while "has no workers; waiting for one" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cluster.scale(1)
        thread.join(120)
        assert found[0].exit_code == 0


# ---- faults --------------------------------------------------------------------------------------


def test_a_worker_without_the_store_or_the_checkpoint_is_named(store, spec, client, monkeypatch, tmp_path):
    monkeypatch.setattr(worker_tasks, "_kept", {})
    gone = str(tmp_path / "gone")
    with pytest.raises(
        WorkersError, match=rf"worker inproc://.* on .*NotInStoreError: There is no store at {gone}.*same"
    ):
        run_on_scheduler(spec._replace(store=gone), client, progress=False)
    assert not (tmp_path / "gone").exists()
    with pytest.raises(
        WorkersError, match=rf"worker inproc://.*InputError: '{gone}' is neither a known model.*same paths"
    ):
        run_on_scheduler(embed_spec(store, "t", {"model": gone}), client, progress=False)


def test_a_worker_that_has_another_store_under_the_path(store, spec, toy, client, monkeypatch):
    monkeypatch.setattr(scheduler, "look", lambda *_: None)
    with pytest.raises(WorkersError, match="this machine does not see them: it is not the same store"):
        run_on_scheduler(spec, client, progress=False)


def test_no_scheduler_and_what_is_none(spec, client, monkeypatch):
    monkeypatch.setattr(scheduler, "_CONNECT_SECONDS", 0.2)
    with monkeypatch.context() as patch:
        patch.delattr("distributed.Client.__init__")  # a client that has not connected prints a traceback at its end
        with pytest.raises(WorkersError, match="No scheduler answers at tcp://127.0.0.1:9 .*`dask scheduler`"):
            run_on_scheduler(spec, "tcp://127.0.0.1:9", progress=False)
    with pytest.raises(InputError, match="--scheduler nonsense://x: .*Give an address such as tcp://host:8786"):
        run_on_scheduler(spec, "nonsense://x", progress=False)
    with pytest.raises(InputError, match="blocks_per_task is 0"):
        run_on_scheduler(spec, client, blocks_per_task=0)
    monkeypatch.setattr(type(client), "asynchronous", True)
    with pytest.raises(InputError, match="The client is asynchronous"):
        run_on_scheduler(spec, client)


def test_tasks_that_fail_are_reported_and_end_the_run_when_there_are_too_many(store, spec, toy, client, monkeypatch):
    class Bad(ToyModel):
        def hidden(self, ids):
            raise NonFiniteError("sample 'x' is bad")

    model = ToyModel()
    emb = prepare(store, "t", model).embedding
    worker_tasks._kept[spec.to_json()] = store, Bad()
    monkeypatch.setattr(scheduler, "MOST_FAILURES", 4)
    report = run_on_scheduler(spec, client, blocks_per_task=1, progress=False)
    assert report.exit_code == 1
    assert report.blocks_left == emb.blocks
    assert 5 <= len(report.failures) < emb.blocks
    assert all("NonFiniteError: sample 'x' is bad" in line for line in report.failures[:-1])
    assert report.failures[0].startswith(("blocks 0: worker inproc://", "blocks 1: worker inproc://"))  # side by side
    assert "4 tasks failed: no more were given out" in report.failures[-1]
    worker_tasks._kept.clear()
    assert run_on_scheduler(spec, client, progress=False).exit_code == 0


def test_an_error_that_no_one_expects_is_reported_too(store, spec, toy, client, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(worker_tasks, "_embed", fail)
    report = run_on_scheduler(spec, client, blocks_per_task=50, progress=False)
    assert report.failures == ("blocks 0, 1, 2, 3, 4, ...: ZeroDivisionError: oh",)


def test_blocks_that_another_holds(store, spec, toy, client):
    """The other blocks of the task are done; those held are reported unless they are committed by the end."""
    emb = prepare(store, "t", ToyModel())
    with emb.claim(2):
        report = run_on_scheduler(spec, client, blocks_per_task=4, progress=False)
    assert report.blocks_left == 1
    assert report.failures == ("blocks 2 are being written by another run",)
    assert emb.embedding.missing() == [2]
    done = embed_on_worker(spec, [1, 2, 3])
    assert (done.blocks, done.taken, done.error) == ([1, 2, 3], [], "")
    assert not store.embedding("t", "toy").missing()


def test_committed_blocks_take_no_time(store, spec, toy, monkeypatch):
    assert prepare_on_worker(spec).name == "toy"
    assert embed_on_worker(spec, [0, 1]).blocks == [0, 1]
    worker_tasks._kept[spec.to_json()][1].calls.clear()
    done = embed_on_worker(spec, [0, 1])
    assert (done.blocks, done.seconds, done.worker) == ([0, 1], 0.0, "none")
    assert worker_tasks._kept[spec.to_json()][1].calls == []


def test_another_run_takes_the_place_of_the_model(store, spec, toy):
    """One model is kept: a device has no room for those of all runs that ever were."""
    prepare_on_worker(spec)
    prepare_on_worker(spec._replace(options={"name": "other", "batch_tokens": 50, "quarantine": True}))
    assert len(worker_tasks._kept) == 1
    assert len(toy) == 2
    assert set(store.models("t")) == {"toy", "other"}


def test_a_run_that_is_dropped_says_so(store, spec, toy, client, monkeypatch):
    """Someone cancels the tasks."""
    real = scheduler._Run._submit

    def submit(run, function, blocks):
        real(run, function, blocks)
        if blocks:
            client.cancel(list(run._pending), force=True)

    monkeypatch.setattr(scheduler._Run, "_submit", submit)
    with pytest.raises(WorkersError, match="is gone, or has dropped this run. What was committed is safe"):
        run_on_scheduler(spec, client, progress=False)


def test_a_stopped_run_takes_its_tasks_back(store, spec, toy, client, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    def slow(*_):
        time.sleep(0.3)
        return [], [], 0.1

    monkeypatch.setattr(worker_tasks, "_embed", slow)
    real = scheduler._Run._ended
    monkeypatch.setattr(scheduler._Run, "_ended", lambda run: real(run) if [] in run._pending.values() else stop())
    with pytest.raises(KeyboardInterrupt):
        run_on_scheduler(spec, client, blocks_per_task=1, progress=False)
    deadline, mine = time.monotonic() + 120, spec.digest()
    while [key for key in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)) if mine in key]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_done_is_plain():
    assert pickle.loads(pickle.dumps(Done("w", [1], [], 0.5))) == Done("w", [1], [], 0.5, "", "")
    assert workers.AGAIN.endswith("the same command goes on from there.")


def test_a_result_that_died_with_its_worker_is_waited_for(client, spec):
    """Its task runs again elsewhere: neither a failure nor the end of the run."""

    class Future:
        status = "finished"
        calls = 0

        def result(self, timeout):
            self.calls += 1
            if self.calls == 1:
                self.status = "lost"
                raise KeyError("embed-0")
            return Done("tcp://other", [4], [], 1.0)

    run, future = scheduler._Run(spec, client, None), Future()
    run._pending[future] = [4]
    assert run._ended() == []
    assert run._ended() == []  # lost, not cancelled: still waited for
    future.status = "finished"
    assert run._ended() == [([4], Done("tcp://other", [4], [], 1.0))]
    assert not run._pending
    assert not run.failures
