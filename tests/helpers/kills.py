"""Killing workers and schedulers of embedding runs at random moments, and looking at what is left of the store."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from processes import Told

import embedstore
from embedstore import shards
from embedstore.errors import NotInStoreError

KINDS = ("device worker", "dask worker", "dask scheduler")
PAUSE = 0.02
DEADLINE = 120.0


class Forks(Told):
    """The process of tests/crash/forking.py."""

    def __init__(self, folder: Path) -> None:
        super().__init__("forking.py")
        self.folder, self._number = folder, 0

    def start(self, role: str, *arguments: object) -> Fork:
        self._number += 1
        log = self.folder / f"{role}{self._number}.log"
        given = [argument if isinstance(argument, (float, dict)) else str(argument) for argument in arguments]
        return Fork(self, self._ask(role, str(log), *given), log)

    def run(self, role: str, *arguments: object) -> tuple[int, str]:
        return self.start(role, *arguments).wait()


class Fork(NamedTuple):
    forks: Forks
    pid: int
    log: Path

    def wait(self) -> tuple[int, str]:
        """Return the exit code and what was printed."""
        code = self.forks._ask("wait", self.pid)
        return code, self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def said(self, ending: str, lines: int = 1) -> list[str]:
        """Wait for the lines of a file beside the log."""
        file, deadline = Path(f"{self.log}.{ending}"), time.monotonic() + DEADLINE
        while not (file.exists() and len(found := file.read_text().split()) >= lines):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.005)
        return found


class Cluster:
    """A dask scheduler and two workers, as forks."""

    def __init__(self, forks: Forks) -> None:
        self.forks = forks
        self.begin()

    def begin(self) -> None:
        self.scheduler = self.forks.start("scheduler")
        (self.address,) = self.scheduler.said("address")
        self.workers = [self.forks.start("worker", self.address) for _ in range(2)]

    def kill_worker(self, which: int) -> None:
        self.workers[which].kill()
        self.workers[which] = self.forks.start("worker", self.address)

    def kill_scheduler(self) -> None:
        """Kill the scheduler; its workers end by themselves, or are made to."""
        self.scheduler.kill()
        for worker in self.workers:
            worker.kill()

    def close(self) -> None:
        self.kill_scheduler()


class Tally(NamedTuple):
    """What came of the kills of one kind; all but the first three should be 0."""

    kind: str
    kills: int = 0
    stores: int = 0
    lost: int = 0
    wrong: int = 0
    faults: int = 0
    surprises: int = 0


def values(path: Path) -> np.ndarray:
    return embedstore.open_store(path).open("crash", "toy")["embedding"].to_numpy()


def committed(path: Path) -> dict[int, np.ndarray]:
    """Return the rows of all committed blocks, as a reader gets them: checked."""
    with contextlib.suppress(NotInStoreError):
        emb = embedstore.open_store(path).embedding("crash", "toy")
        return {block: emb.read_block(block).vector for block in set(range(emb.blocks)) - set(emb.missing())}
    return {}


def campaign(folder: Path, kills: dict[str, int], seed: int = 0, say=lambda line: None) -> list[Tally]:
    """Kill so many processes of each kind, each in a run of its own store that is resumed and compared.

    A run that ends before it is killed is not counted, and is done again.
    """
    rng = np.random.default_rng(seed)
    with contextlib.closing(Forks(folder)) as forks, contextlib.closing(Cluster(forks)) as cluster:
        code, text = forks.run("embed", folder / "whole.zarr", 0.0)
        assert code == 0, text
        whole, found = values(folder / "whole.zarr"), []
        for kind, wanted in kills.items():
            tally = Tally(kind)
            while tally.kills < wanted:
                path = folder / f"killed{tally.stores}.zarr"
                tally = _one(kind, path, forks, cluster, rng, whole, tally)
                shutil.rmtree(path)
                say(f"{kind}: {tally.kills} of {wanted}")
            found.append(tally)
    return found


def _one(
    kind: str, path: Path, forks: Forks, cluster: Cluster, rng: np.random.Generator, whole: np.ndarray, tally: Tally
) -> Tally:
    """Kill once, resume, compare."""
    killed, as_expected = _disturb(kind, path, forks, cluster, rng)
    before = committed(path)
    resume = ("devices", path, 0.0) if kind == KINDS[0] else ("client", path, 0.0, cluster.address)
    code, _ = forks.run(*resume)
    after = committed(path)
    lost = sum(len(rows) for block, rows in before.items() if not np.array_equal(rows, after.get(block)))
    wrong = code != 0 or not np.array_equal(values(path), whole)
    store = embedstore.open_store(path, mode="a")
    store.repair()
    faults = len(store.verify().problems) + sum(
        file.name.endswith((shards.TEMPORARY, ".partial")) for file in path.rglob("*")
    )
    return Tally(
        kind,
        tally.kills + killed,
        tally.stores + 1,
        tally.lost + lost,
        tally.wrong + wrong,
        tally.faults + faults,
        tally.surprises + (not as_expected) + (code != 0),
    )


def _disturb(kind: str, path: Path, forks: Forks, cluster: Cluster, rng: np.random.Generator) -> tuple[bool, bool]:
    """Run and kill something at a random moment; tell whether it was in time, and the run ended as it should."""
    if kind == "device worker":
        run = forks.start("devices", path, PAUSE)
        victim = int(run.said("workers", 2)[rng.integers(2)])
        time.sleep(rng.uniform(0, 0.7))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        code, text = run.wait()
        killed = "killed by SIGKILL" in text
        return killed, code == (1 if killed else 0)
    run = forks.start("client", path, PAUSE, cluster.address)
    time.sleep(rng.uniform(0, 1.0))
    if kind == "dask worker":
        cluster.kill_worker(int(rng.integers(2)))
        code, text = run.wait()
        return True, code == 0
    cluster.kill_scheduler()
    code, text = run.wait()
    cluster.begin()
    gone = "WorkersError: The scheduler at" in text or "WorkersError: No scheduler answers" in text
    return code != 0, code == 0 or gone
