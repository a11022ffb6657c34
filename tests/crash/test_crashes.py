"""Killed, starved and doubled runs: what was committed stays, and the next run ends at the same values."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from toys import ToyModel, random_sequences

import embedstore
from embedstore import shards, tasks
from embedstore.blocks import create_embedding
from embedstore.errors import BlockTakenError, DiskSpaceError, EmbedstoreError, NotInStoreError

WORKER = Path(__file__).with_name("embed_worker.py")


class Runs:
    """Starts embedding runs as processes, and waits for them."""

    def __init__(self) -> None:
        helpers = str(WORKER.parents[1] / "helpers")
        self.worker = subprocess.Popen(
            [sys.executable, "-W", "error", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": helpers},
        )
        if self.worker.stdout.readline() != "ready\n":
            self.close()
            raise AssertionError(f"{WORKER} did not start")

    def close(self) -> None:
        self.worker.stdin.close()
        self.worker.stdout.close()
        try:
            self.worker.wait(30)
        finally:
            self.worker.kill()
            self.worker.wait()

    def ask(self, line: str) -> int:
        self.worker.stdin.write(line + "\n")
        self.worker.stdin.flush()
        return int(self.worker.stdout.readline())

    def start(self, path: Path, pause: float) -> int:
        return self.ask(f"{path} {pause}")

    def wait(self, path: Path, process: int) -> tuple[int, str]:
        """Return the exit code of a run and what it printed."""
        code = self.ask(f"wait {process}")
        log = Path(f"{path}.{process}.log")  # not there when the run was killed before its first line
        return code, log.read_text() if log.exists() else ""


@pytest.fixture(scope="module")
def runs():
    runs = Runs()
    yield runs
    runs.close()


def values(path: Path) -> np.ndarray:
    return embedstore.open_store(path).open("crash", "toy")["embedding"].to_numpy()


@pytest.mark.timeout(600)
def test_twenty_kills_then_resume(tmp_path, runs):
    """kill -9 at 20 random moments; the store ends value-equal to one that was never disturbed."""
    whole, path = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    code, text = runs.wait(whole, runs.start(whole, 0))
    assert code == 0, text
    rng = np.random.default_rng(0)
    kills = finished = blocks_seen = 0
    longest = 0.6  # seconds; follows the speed of the machine, so that kills fall into the run and not before it
    while kills < 20 or blocks_seen <= 20:
        process = runs.start(path, 0.005)
        time.sleep(rng.uniform(0, longest))
        os.kill(process, signal.SIGKILL)
        code, text = runs.wait(path, process)
        assert code in (0, -signal.SIGKILL), text
        kills += code == -signal.SIGKILL
        finished += code == 0
        before = blocks_seen
        if path.exists():
            # Whatever the moment, a reader gets what was committed, checked, and nothing else.
            with contextlib.suppress(NotInStoreError):
                emb = embedstore.open_store(path).embedding("crash", "toy")
                done = set(range(emb.blocks)) - set(emb.missing())
                for block in done:
                    emb.read_block(block)
                blocks_seen += len(done)
        longest *= 1.3 if blocks_seen == before else 0.9 if code == 0 else 1.0
        if code == 0 or kills % 7 == 0:
            shutil.rmtree(path, ignore_errors=True)  # young stores are killed too
    code, text = runs.wait(path, runs.start(path, 0))
    assert code == 0, text
    np.testing.assert_array_equal(values(path), values(whole))
    store = embedstore.open_store(path, mode="a")
    store.repair()
    assert store.verify().sound
    assert not [f for f in path.rglob("*") if f.name.endswith((shards.TEMPORARY, ".partial"))]
    np.testing.assert_array_equal(values(path), values(whole))


def test_two_runs_at_once(tmp_path, runs):
    """The first to claim a block wins; the other gets a typed error, and no row is lost or doubled."""
    path, whole = tmp_path / "s.zarr", tmp_path / "whole.zarr"
    embedstore.open_store(path, mode="a")
    processes = [runs.start(path, 0.02), runs.start(path, 0.02)]
    results = [runs.wait(path, process) for process in processes]
    assert sorted(code for code, _ in results) == [0, 1]
    loser = next(text for code, text in results if code)
    assert "BlockTakenError" in loser  # it is being written by the other, or has just been committed
    runs.wait(whole, runs.start(whole, 0))
    np.testing.assert_array_equal(values(path), values(whole))


def test_a_block_is_written_once(tmp_path, many_blocks, toy_model):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([50] * 40)))
    embedstore.embed(store, "t", toy_model, progress=False)
    emb = store.embedding("t", "toy")
    writer = create_embedding(
        store, "t", "toy", record={}, fingerprint=emb.fingerprint, width=8, row_count=lambda: emb.row_count
    )
    with pytest.raises(BlockTakenError, match="just been committed"), writer.claim(0):
        pass
    rows = emb.read_block(0)
    with pytest.raises(BlockTakenError, match="another run has written it"):
        writer.write(0, rows.vector, rows.span.astype(np.uint16), emb.pooled(emb.block_samples(0)))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_command_line_cleanly(tmp_path, runs, sign):
    """Ctrl-C and SIGTERM give their exit codes, say how to go on, and keep what was committed."""
    path = tmp_path / "s.zarr"
    process = runs.start(path, 0.2)  # slow, so that there is much left to do when the first commit is seen
    commits = path / "crash" / "embedding" / "toy" / "commit" / "c"
    deadline = time.monotonic() + 120
    while not commits.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process, sign)
    code, text = runs.wait(path, process)
    assert code == 128 + sign, text
    assert "What was committed is safe" in text
    assert "Traceback" not in text
    store = embedstore.open_store(path)
    emb = store.embedding("crash", "toy")
    assert 0 < len(emb.missing()) < emb.blocks
    assert store.verify().sound


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_on_a_small_disk(small_disk, many_blocks, toy_model, monkeypatch):
    """Too large a run is refused before it begins; one that fills the disk all the same loses nothing committed."""
    store = embedstore.open_store(small_disk / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([300] * 100)))
    wide = ToyModel(width=512)
    with pytest.raises(DiskSpaceError, match="needs .* bytes .* has .* free"):
        embedstore.embed(store, "t", wide, progress=False)
    # Another program takes the room after the check.
    monkeypatch.setattr("embedstore.embedding.check_space", lambda *_: None)
    with pytest.raises(DiskSpaceError, match="disk is full.*committed before are safe"):
        embedstore.embed(store, "t", wide, progress=False)
    emb = store.embedding("t", "toy")
    done = sorted(set(range(emb.blocks)) - set(emb.missing()))
    assert done
    for block in done:
        rows = emb.read_block(block)
        expected = np.concatenate([wide.expected(c) for c in store.sequences("t", rows.samples)])
        np.testing.assert_array_equal(rows.nucleotides(), expected.astype(np.float16))
    assert not list(small_disk.rglob(f"*{shards.TEMPORARY}"))


def test_failing_at_the_nth_write(tmp_path, many_blocks, toy_model, monkeypatch):
    """Every single write of a run fails once: each time the run stops with an error and can be resumed."""
    real, calls, fail_at = shards.DurableFile.publish, [0], [0]

    def failing(file, **options):
        calls[0] += 1
        if calls[0] == fail_at[0]:
            file.discard()
            raise OSError(5, "Input/output error", str(file.path))
        return real(file, **options)

    monkeypatch.setattr(shards.DurableFile, "publish", failing)
    sequences = random_sequences([50] * 24)
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", sequences))
    embedstore.embed(store, "t", toy_model, name="whole", progress=False)
    writes = calls[0]
    assert writes >= 8
    expected = store.open("t", "whole")["embedding"].to_numpy()
    for number in range(1, writes + 1):
        calls[0], fail_at[0] = 0, number
        with pytest.raises(OSError, match="Input/output error"):
            embedstore.embed(store, "t", toy_model, name=f"n{number}", progress=False)
        fail_at[0] = 0
        embedstore.embed(store, "t", toy_model, name=f"n{number}", progress=False)
        np.testing.assert_array_equal(store.open("t", f"n{number}")["embedding"].to_numpy(), expected)
    assert store.verify().sound


def test_readers_during_writing_see_whole_blocks_or_an_error(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([80] * 60)))
    model = ToyModel()
    expected = {i: model.expected(c).astype(np.float16) for i, c in enumerate(store.sequences("t"))}
    wrong, seen, stop = [], [0, 0], threading.Event()

    def read() -> None:
        rng = np.random.default_rng(0)
        while not stop.is_set():
            sample = int(rng.integers(60))
            try:
                rows = embedstore.open_store(tmp_path / "s.zarr").embedding("t", "toy").read([sample])
            except EmbedstoreError:
                seen[0] += 1
                continue
            seen[1] += 1
            if not np.array_equal(rows.nucleotides(), expected[sample]):
                wrong.append(sample)

    reader = threading.Thread(target=read)

    def wait(place: int, many: int) -> None:
        deadline = time.monotonic() + 120
        while seen[place] < many:
            assert reader.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    class Slow(ToyModel):
        def hidden(self, ids):
            time.sleep(0.02)
            return super().hidden(ids)

    reader.start()
    try:
        wait(0, 1)
        embedstore.embed(store, "t", Slow(), progress=False)
        wait(1, 20)
    finally:
        stop.set()
        reader.join()
    assert not wrong
