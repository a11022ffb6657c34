"""Servers that fail, die or refuse; runs that are killed or meet on one block: a store ends whole or says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask.array  # noqa: F401 - loaded before any thread is started
import numpy as np
import pytest
import s3
import zarr
from toys import ToyModel, random_sequences

import embedstore
from embedstore import objects, tasks
from embedstore.blocks import BlockWriter, create_embedding
from embedstore.errors import BlockTakenError, RemoteError, StoreError

HELPERS = str(Path(__file__).parents[1] / "helpers")
LENGTHS = np.random.default_rng(1).integers(20, 120, 24)
RUN = """
import sys, time
import embedstore
from toys import ToyModel, small_blocks
small_blocks()
class Slow(ToyModel):
    def hidden(self, ids):
        time.sleep(float(sys.argv[2]))
        return super().hidden(ids)
store = embedstore.open_store(sys.argv[1], mode="a")
print("ready", flush=True)
sys.stdin.readline()
embedstore.embed(store, "t", Slow(), progress=False)
"""


def task() -> tasks.Task:
    return tasks.from_sequences("t", random_sequences(LENGTHS, seed=2))


@pytest.fixture(scope="module")
def server():
    with s3.running() as proxy:
        yield proxy


@pytest.fixture
def proxy(server, many_blocks, monkeypatch):
    monkeypatch.setenv("EMBEDSTORE_RETRY_SECONDS", "20")
    server.heal()
    yield server
    server.heal()


@pytest.fixture
def url(request):
    return f"s3://{s3.BUCKET}/{request.node.name.split('[')[0]}.zarr"


def opened(url: str):
    store = embedstore.open_store(url, mode="a")
    store.add_task(task())
    return store


def check_whole(url: str) -> None:
    """Compare a store with one that nothing disturbed, and check every byte."""
    store = embedstore.open_store(url)
    calm = embedstore.open_store("memory://", mode="a")
    calm.add_task(task())
    embedstore.embed(calm, "t", ToyModel(), progress=False)
    np.testing.assert_array_equal(
        store.open("t", "toy")["embedding"].to_numpy(), calm.open("t", "toy")["embedding"].to_numpy()
    )
    report = store.verify()
    assert report.sound, report.problems
    assert report.missing == 0


def start(url: str, pause: float) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN, url, str(pause)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": HELPERS, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("fault", ["unavailable", "dropped"])
def test_a_server_that_fails_now_and_then(proxy, url, fault):
    """A fifth of the requests answered with 503, or a tenth cut off: the run ends as if nothing had happened."""
    proxy.random.seed(3)
    setattr(proxy, fault, 0.2 if fault == "unavailable" else 0.1)
    store = opened(f"{url}.{fault}")
    embedstore.embed(store, "t", ToyModel(), progress=False)
    assert proxy.faults > 10
    proxy.unavailable = 0.0  # the pauses after a 503 take long; cut connections are read through
    check_whole(f"{url}.{fault}")


def test_a_server_that_dies_and_comes_back(proxy, url, monkeypatch):
    monkeypatch.setenv("EMBEDSTORE_RETRY_SECONDS", "0.5")

    class Unplugs(ToyModel):
        def hidden(self, ids):
            proxy.dead = len(self.calls) >= 6
            return super().hidden(ids)

    store = opened(url)
    begun = time.monotonic()
    with pytest.raises(RemoteError, match=rf"^{url}: (reading|writing) .*repeated for 0.5 s; EMBEDSTORE_RETRY_SECONDS"):
        embedstore.embed(store, "t", Unplugs(), progress=False, batch_tokens=100)
    assert time.monotonic() - begun < 60
    proxy.dead = False
    assert store.embedding("t", "toy").missing()
    embedstore.embed(url, "t", ToyModel(), progress=False)
    check_whole(url)


def test_a_killed_run_goes_on(proxy, url):
    store = opened(url)
    for kill in (1, 2):
        process = start(url, 0.2)
        process.stdin.write("\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while proxy.commits < kill and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        emb = store.embedding("t", "toy")
        assert 0 < len(emb.missing()) < emb.blocks
        for block in set(range(emb.blocks)) - set(emb.missing()):
            emb.read_block(block)
    embedstore.embed(url, "t", ToyModel(), progress=False)
    check_whole(url)


def test_two_processes_embed_the_same_blocks(proxy, url):
    opened(url)
    runs = [start(url, 0.0), start(url, 0.0)]
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    texts = [run.communicate(timeout=120)[1] for run in runs]
    for run, text in zip(runs, texts, strict=True):
        assert run.returncode == 0 or "BlockTakenError" in text, text
    embedstore.embed(url, "t", ToyModel(), progress=False)
    check_whole(url)


def test_a_bucket_that_may_only_be_read(proxy, url):
    store = opened(url)
    proxy.denied = ("PUT",)
    with pytest.raises(RemoteError, match=rf"{url}: writing .*403.*Access Denied.*Check the credentials"):
        embedstore.embed(store, "t", ToyModel(), progress=False)
    with pytest.raises(RemoteError, match="writing .*Check the credentials"):
        opened(f"{url}.new")
    proxy.heal()
    embedstore.embed(store, "t", ToyModel(), progress=False)
    check_whole(url)


# ---- commits -------------------------------------------------------------------------------------


def test_a_create_whose_answer_is_lost_has_succeeded(proxy, url):
    """The server wrote it, the answer never came: what is there is our own, so the create counts."""
    store = embedstore.open_store(url, mode="a")
    proxy.lose_next = "PUT"
    assert objects.put(store, "a", [b"one", np.arange(2, dtype="<u2")], exclusive=True) == 7
    assert not proxy.lose_next
    with pytest.raises(BlockTakenError, match=f"{url}/a exists: another run has written it"):
        objects.put(store, "a", [b"two"], exclusive=True)
    objects.put(store, "a", [b"two"])
    objects.put(store, "a", [b"two"], exclusive=True)


def test_what_was_created_must_be_there():
    class Loses(zarr.storage.MemoryStore):
        async def set_if_not_exists(self, key, value):
            pass

    with pytest.raises(RemoteError, match="b was written, and is not there: another run has removed it"):
        objects.put(embedstore.open_store(Loses(), mode="a"), "b", [b"x"], exclusive=True)


def writers(n: int):
    """Return writers of one embedding, each with its own view of a store in memory, and a block of values for each."""
    first = embedstore.open_store("memory://", mode="a")
    first.add_task(task())
    counts = LENGTHS.astype(np.int64)
    found = []
    for number in range(n):
        store = embedstore.open_store(first.zarr_store, mode="a")
        writer = create_embedding(
            store, "t", "toy", record={}, fingerprint={"a": "b"}, width=8, row_count=lambda: counts,
            resolution="nucleotide",
        )  # fmt: skip
        rows = int(counts[list(writer.embedding.block_samples(0))].sum())
        found.append((writer, np.full((rows, 8), number, np.float16), pooled(writer, number)))
    return found


def pooled(writer: BlockWriter, number: int):
    return np.full((len(writer.embedding.block_samples(0)), 8), number, np.float32)


def begun(writer, vector, means):
    part = writer.begin(0)
    part.add(len(means), vector, None, None, means)
    return part


def whose(writer: BlockWriter) -> set[float]:
    emb = embedstore.open_store(writer.embedding.store.zarr_store).embedding("t", "toy")
    return set(np.unique(emb.read_block(0).vector).tolist())


def test_the_slower_of_two_leaves_a_sound_block_alone(many_blocks):
    (one, *values), (two, *others) = writers(2)
    slow, fast = begun(one, *values), begun(two, *others)
    fast.commit()
    with pytest.raises(BlockTakenError, match="committed by another run"):
        slow.commit()
    assert whose(one) == {1.0}


def test_data_overwritten_after_the_other_run_committed_is_settled(many_blocks, caplog):
    """The other run commits while this one sends its data over it: record and data disagree until it is settled."""
    (one, *values), (two, *others) = writers(2)
    slow, fast = begun(one, *values), begun(two, *others)
    put_data = slow._put_data

    def late():
        if not done:
            done.append(fast.commit())
        return put_data()

    done = []
    slow._put_data = late
    assert slow.commit() == done[0]
    assert "several runs have written it at once" in caplog.text
    assert whose(one) == {0.0}


def test_a_loser_whose_data_the_winner_has_overwritten_leaves_it(many_blocks):
    (one, *values), (two, *others) = writers(2)
    slow, fast = begun(one, *values), begun(two, *others)
    put_data = slow._put_data

    def early():
        size = put_data()
        fast.commit()
        return size

    slow._put_data = early
    with pytest.raises(BlockTakenError, match="another run has written it"):
        slow.commit()
    assert whose(one) == {1.0}


def test_runs_that_keep_overwriting_each_other_end_with_words(many_blocks, monkeypatch):
    monkeypatch.setattr(objects, "SETTLE_PAUSE", 0.0)
    (one, *values), (two, *others) = writers(2)
    slow, fast = begun(one, *values), begun(two, *others)
    fast.commit()
    one.embedding._committed.clear()
    monkeypatch.setattr(objects, "_sound", lambda *_: False)
    monkeypatch.setattr(type(one.embedding), "commit", lambda *_: None)
    with pytest.raises(StoreError, match="keep writing it at once. Stop all but one, run `embedstore repair"):
        slow.commit()


@pytest.mark.parametrize("seed", range(6))
def test_any_interleaving_ends_with_one_whole_block(many_blocks, monkeypatch, seed):
    """Three runs write different values to one block at a time; readers meanwhile see one of them, or an error."""
    monkeypatch.setattr(objects, "SETTLE_PAUSE", 0.02)
    rng, real = np.random.default_rng(seed), objects.put

    def jittery(store, key, parts, **options):
        time.sleep(pauses.pop())
        return real(store, key, parts, **options)

    pauses = rng.uniform(0, 0.004, 2000).tolist()
    monkeypatch.setattr(objects, "put", jittery)
    monkeypatch.setattr("embedstore.blocks.put", jittery)
    runs = writers(3)
    outcomes, seen = [], []

    def work(writer, *values):
        try:
            outcomes.append(begun(writer, *values).commit())
        except BlockTakenError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=run) for run in runs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            seen.append(whose(runs[0][0]))
        except StoreError:
            seen.append(None)
    assert len(outcomes) == 3
    assert all(values is None or len(values) == 1 for values in seen)
    assert len(whose(runs[0][0])) == 1
    assert any(isinstance(outcome, int) for outcome in outcomes)
