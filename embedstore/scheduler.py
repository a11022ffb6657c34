"""Embedding by the workers of a dask.distributed scheduler.

A task carries an :class:`~embedstore.workers.EmbedSpec` and the numbers of some blocks, never data: workers read and
write the store themselves, and keep the model that they have loaded. What is done is known from the store alone, so
workers and scheduler may die at any time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING

from embedstore.dask_tasks import DaskTasks
from embedstore.errors import InputError, WorkersError
from embedstore.progress import progress_bar
from embedstore.worker_tasks import Done, embed_on_worker, prepare_on_worker
from embedstore.workers import AGAIN, WorkersReport, look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client

    from embedstore.rows import Embedding
    from embedstore.workers import EmbedSpec

logger = logging.getLogger(__name__)

TASK_SECONDS = 5.0
"""Work in a task: the scheduler spends about a millisecond on each."""
WINDOW = 2000
"""Tasks that the scheduler holds at a time, at most."""
MOST_FAILURES = 10
"""After so many failed tasks no more are given out: a worker that fails fast would be given all of them."""
SAME_PATHS = "Workers need the store and the checkpoint under the same paths as this machine."

_CONNECT_SECONDS = 15.0


def run_on_scheduler(
    spec: EmbedSpec, scheduler: str | Client, *, blocks_per_task: int | None = None, progress: bool = True
) -> WorkersReport:
    """Embed with the workers of a scheduler.

    A worker that dies loses the block it is writing; dask gives its task to another one. Workers may come and go while
    this runs, and it waits where there is none.

    Parameters
    ----------
    spec
        The run. ``device`` among its model's arguments is where each worker computes.
    scheduler
        Its address, ``"tcp://host:8786"``, or a client, which is left open.
    blocks_per_task
        Blocks that a worker does at a time. By default as many as take five seconds, by the last task that ended.
    progress
        Show a bar of the blocks that are committed.

    Returns
    -------
    WorkersReport

    Raises
    ------
    WorkersError
        If the scheduler cannot be reached or goes away, or no worker can load the model or see the store.
    InputError
        If the scheduler's address or `blocks_per_task` is not one.
    """
    if blocks_per_task is not None and blocks_per_task < 1:
        raise InputError(f"blocks_per_task is {blocks_per_task}: it must be at least 1.")
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        client = held.enter_context(connect(scheduler)) if isinstance(scheduler, str) else scheduler
        if client.asynchronous:
            raise InputError("The client is asynchronous: give one that is not, or the scheduler's address.")
        run = _Run(spec, client, blocks_per_task)
        held.callback(run.cancel)
        emb = run.prepare()
        prepared = time.monotonic()
        todo = emb.missing()
        before = emb.blocks - len(todo)
        logger.info("%s: %d of %d blocks to embed by %s", emb, len(todo), emb.blocks, run.address)
        what = f"embed {spec.task}/{emb.name}"
        bar = progress_bar(None, what, show=progress, total=emb.blocks, initial=before, unit="block")
        with bar:
            run.embed(todo, bar.update)
    left = emb.missing()
    held_elsewhere = sorted(set(left) & run.taken)
    if held_elsewhere:
        run.failures.append(f"blocks {_numbers(held_elsewhere)} are being written by another run")
    return WorkersReport(
        spec.store,
        spec.task,
        emb.name,
        workers=len(run.workers),
        blocks=emb.blocks - before - len(left),
        blocks_before=before,
        blocks_left=len(left),
        blocks_others=0,
        seconds=time.monotonic() - began,
        seconds_starting=prepared - began,
        failures=tuple(run.failures),
    )


def connect(address: str) -> Client:
    """Return a client of the scheduler at an address.

    Parameters
    ----------
    address
        Such as ``tcp://host:8786``.

    Returns
    -------
    distributed.Client

    Raises
    ------
    InputError
        It is no address.
    WorkersError
        No scheduler answers there.
    """
    from distributed import Client
    from distributed.comm.core import connect as reach
    from distributed.security import Security
    from distributed.utils import LoopRunner

    async def answer() -> None:
        arguments = Security().get_connection_args("client")
        await (await reach(address, timeout=_CONNECT_SECONDS, **arguments)).close()

    try:
        # First without a client: one that has not connected prints a traceback as it is given up.
        LoopRunner(asynchronous=False).run_sync(answer)
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="embedstore")
    except ValueError as error:
        raise InputError(f"--scheduler {address}: {error}. Give an address such as tcp://host:8786.") from error
    except OSError as error:
        raise WorkersError(
            f"No scheduler answers at {address} ({error}). Start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS --nthreads 1`; see docs/cluster.md."
        ) from error


def _why(outcome: Done | Exception) -> str:
    """Return why a task failed, as one line."""
    if isinstance(outcome, Done):
        return outcome.error
    return f"{type(outcome).__name__}: {' '.join(str(outcome).split())}"


def _numbers(blocks: Sequence[int]) -> str:
    """Return some block numbers as text, shortened."""
    return ", ".join(map(str, blocks[:5])) + (", ..." if len(blocks) > 5 else "")


class _Run(DaskTasks):
    """The client's side of a run.

    Attributes
    ----------
    workers
        Addresses of the workers that have done something.
    taken
        Blocks that another process was writing when a task came to them.
    failures
        A line for each task that failed.
    """

    def __init__(self, spec: EmbedSpec, client: Client, blocks_per_task: int | None) -> None:
        super().__init__(client, f"this run. {AGAIN}")
        self.spec, self.workers, self.taken = spec, set[str](), set[int]()
        self.failures: list[str] = []
        self._per_task = blocks_per_task
        self._block_seconds = 0.0  # of the last task; 0 before there is one
        self._key = f"embed-{spec.digest()}"

    def prepare(self) -> Embedding:
        """Let a worker create the arrays; return them as this machine sees them."""
        self._wait_for_workers()
        self._submit(prepare_on_worker, [])
        while not (ended := self._ended()):
            pass
        done = ended[0][1]
        if not isinstance(done, Done) or done.error:
            raise WorkersError(f"{_why(done)} {SAME_PATHS}")
        emb = look(self.spec, done.name)
        if emb is None:
            raise WorkersError(
                f"Worker {done.worker} has the arrays of {self.spec.task}/{done.name} in {self.spec.store}, and this "
                f"machine does not see them: it is not the same store. {SAME_PATHS}"
            )
        return emb

    def embed(self, todo: list[int], update: Callable[[int], object]) -> None:
        """Give blocks out until all are done, or too much fails."""
        todo = sorted(todo, reverse=True)
        slots, looked = 0, -math.inf
        while (todo or self._pending) and len(self.failures) < MOST_FAILURES:
            if time.monotonic() - looked > 1:
                slots, looked = self._wait_for_workers(), time.monotonic()
            # Few tasks wait at a worker: those that join later find some left.
            while todo and len(self._pending) < min(WINDOW, 4 * slots):
                size = self._size(len(todo), slots)
                self._submit(embed_on_worker, [todo.pop() for _ in range(size)])
            for blocks, done in self._ended():
                if not isinstance(done, Done) or done.error:
                    self.failures.append(f"blocks {_numbers(blocks)}: {_why(done)}")
                    continue
                self.workers.add(done.worker)
                self.taken.update(done.taken)
                if done.seconds:
                    self._block_seconds = done.seconds / max(1, len(done.blocks))
                update(len(done.blocks))
        if len(self.failures) >= MOST_FAILURES:
            self.failures.append(f"{MOST_FAILURES} tasks failed: no more were given out. {SAME_PATHS}")

    def _size(self, left: int, slots: int) -> int:
        """Return how many blocks the next task has."""
        if self._per_task is not None:
            return min(left, self._per_task)
        if not self._block_seconds:
            return 1
        # Towards the end tasks become smaller, so that all workers end at about the same time.
        return max(1, min(math.ceil(TASK_SECONDS / self._block_seconds), left // (2 * slots)))

    def _submit(self, function: Callable[..., Done], blocks: list[int]) -> None:
        """Give a worker a function of the run, and the blocks that it is for."""
        what = f"{blocks[0]}-{blocks[-1]}-{len(blocks)}" if blocks else "prepare"
        self._give(function, (self.spec, blocks) if blocks else (self.spec,), key=f"{self._key}-{what}", tag=blocks)
