"""A process that starts embedding runs, dask schedulers and dask workers as forks of itself: each starts at once.

Commands are lines of JSON, ``[ROLE, LOG, ARGUMENT ...]``; the answer is the number of the new process, and
``["wait", NUMBER]`` answers with an exit code, negative where a signal ended it. This process itself never touches a
store and starts no thread: none can be lost in a fork.

Roles: ``embed PATH PAUSE`` (in one process), ``devices PATH PAUSE`` (``--devices cpu,cpu``; the numbers of the workers
go to ``LOG.workers``), ``client PATH PAUSE ADDRESS`` (``--scheduler``), ``scheduler`` (its address goes to
``LOG.address``), ``worker ADDRESS``.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

import dask.array  # noqa: F401 - loaded here so that no fork has to
import distributed
import numpy as np
import torch
import zarr  # noqa: F401
from toys import ToyModel, random_sequences, small_blocks

import embedstore.dask_tasks
import embedstore.embedding
import embedstore.models.records
import embedstore.scheduler
from embedstore import open_store, processes, tasks, workers
from embedstore.processes import run_on_devices
from embedstore.scheduler import run_on_scheduler

TASK = "crash"


class SlowModel(ToyModel):
    """The toy model with a pause, so that a run lasts long enough to be disturbed."""

    pause = 0.0

    def hidden(self, ids):
        time.sleep(self.pause)
        return super().hidden(ids)


def load(*, pause: float, backwards: bool = False, device: str = "cpu") -> SlowModel:
    """Stand in for `embedstore.models.load`."""
    model = SlowModel()
    model.pause = pause
    if backwards:
        turn_clock_back()
    return model


def turn_clock_back() -> None:
    """From now on the wall clock of this process runs backwards, an hour with every look."""
    import datetime as dt

    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    class Backwards(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(earlier(), tz)

    time.time = earlier
    time.time_ns = lambda: int(earlier() * 1e9)
    dt.datetime = Backwards


def task() -> tasks.Task:
    lengths = np.random.default_rng(1).integers(20, 200, 70)
    return tasks.from_sequences(TASK, random_sequences(lengths, seed=2))


def spec(path: str, pause: float, **model) -> workers.EmbedSpec:
    open_store(path, mode="a").add_task(task())
    return workers.embed_spec(path, TASK, {"pause": pause, **model})


class Forked:
    """What `embedstore.processes` needs of a subprocess.Popen, for a fork."""

    def __init__(self, log: str) -> None:
        ours, theirs = [], []
        for write in (True, False, False):
            read_end, write_end = os.pipe()
            ours.append(os.fdopen(write_end, "w") if write else os.fdopen(read_end, "r"))
            theirs.append(read_end if write else write_end)
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for number, end in enumerate(theirs):
                os.dup2(end, number)
            for stream in ours:
                os.close(stream.fileno())
            sys.stdin = os.fdopen(0)
            leave(processes.main)
        for end in theirs:
            os.close(end)
        self.stdin, self.stdout, self.stderr = ours
        with Path(f"{log}.workers").open("a") as file:
            file.write(f"{self.pid}\n")

    def poll(self):
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def wait(self, timeout=60.0):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise processes.subprocess.TimeoutExpired("fork", timeout)
            time.sleep(0.005)
        return self.returncode

    def send(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send(signal.SIGTERM)

    def kill(self):
        self.send(signal.SIGKILL)


def leave(run) -> None:
    """Run something and end this process with its exit code."""
    try:
        code = run()
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def show(report: workers.WorkersReport) -> int:
    print("\n".join(report.lines()))
    return report.exit_code


def embed(log, path, pause, **model):
    return workers.embed_share(spec(path, pause, **model), (1, 1), lambda **_: None) and 0


def devices(log, path, pause, **model):
    processes._start = lambda environment: Forked(log)
    return show(run_on_devices(spec(path, pause, **model), ["cpu", "cpu"], progress=False))


def client(log, path, pause, address):
    return show(run_on_scheduler(spec(path, pause), address, progress=False))


def scheduler(log):
    async def main():
        async with distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False) as server:
            Path(f"{log}.part").write_text(server.address)
            Path(f"{log}.part").rename(f"{log}.address")
            await server.finished()

    asyncio.run(main())


def worker(log, address):
    async def main():
        folder = str(Path(log).parent)
        async with distributed.Worker(address, nthreads=1, dashboard=False, local_directory=folder) as server:
            await server.finished()

    asyncio.run(main())


ROLES = {role.__name__: role for role in (embed, devices, client, scheduler, worker)}


def main() -> None:
    torch.set_num_threads(1)
    small_blocks()
    embedstore.models.load = load
    # A scheduler that was killed does not answer later either.
    embedstore.scheduler._CONNECT_SECONDS = embedstore.dask_tasks._FETCH_SECONDS = 3.0
    print("ready", flush=True)
    for line in sys.stdin:
        role, *arguments = json.loads(line)
        if role == "wait":
            _, status = os.waitpid(arguments[0], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if child == 0:
            log = os.open(arguments[0], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            options = arguments.pop() if isinstance(arguments[-1], dict) else {}
            leave(functools.partial(ROLES[role], *arguments, **options))
        print(child, flush=True)


if __name__ == "__main__":
    main()
