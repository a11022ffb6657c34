"""Embedding by the workers of a dask.distributed scheduler.

A task carries an :class:`~embedstore.workers.EmbedSpec` and the numbers of some blocks, never data: workers read and
write the store themselves, and keep the model that they have loaded. What is done is known from the store alone, so
workers and scheduler may die at any time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import BlockTakenError, EmbedstoreError, InputError, WorkersError
from embedstore.progress import progress_bar
from embedstore.workers import AGAIN, EmbedSpec, WorkersReport, load_spec, look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client, Future

    from embedstore.models import Model
    from embedstore.rows import Embedding
    from embedstore.store import Store

logger = logging.getLogger(__name__)

RESOURCE = "GPU"
"""A task asks for one of these where workers have them (``dask worker --resources GPU=1``)."""
TASK_SECONDS = 5.0
"""Work in a task: the scheduler spends about a millisecond on each."""
WINDOW = 2000
"""Tasks that the scheduler holds at a time, at most."""
MOST_FAILURES = 10
"""After so many failed tasks no more are given out: a worker that fails fast would be given all of them."""
SAME_PATHS = "Workers need the store and the checkpoint under the same paths as this machine."

_CONNECT_SECONDS = 15.0
_LOOK_SECONDS = 0.05
_SAY_SECONDS = 60.0  # between two log lines while there is no worker


class Done(NamedTuple):
    """What a task did.

    Attributes
    ----------
    worker
        Its address.
    blocks
        Blocks that are committed now, by this task or before it.
    taken
        Blocks that another process was writing.
    seconds
        Time in `embedstore.embed`; 0 where nothing was left to do.
    error
        Why it failed, if it did.
    name
        Of the embedding.
    """

    worker: str
    blocks: list[int]
    taken: list[int]
    seconds: float
    error: str = ""
    name: str = ""


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

    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="embedstore")
    except ValueError as error:
        raise InputError(f"--scheduler {address}: {error}. Give an address such as tcp://host:8786.") from error
    except OSError as error:
        raise WorkersError(
            f"No scheduler answers at {address} ({error}). Start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS --nthreads 1`; see docs/cluster.md."
        ) from error


def _numbers(blocks: Sequence[int]) -> str:
    """Return some block numbers as text, shortened."""
    return ", ".join(map(str, blocks[:5])) + (", ..." if len(blocks) > 5 else "")


class _Run:
    """The client's side of a run.

    Attributes
    ----------
    address
        Of the scheduler.
    workers
        Addresses of the workers that have done something.
    taken
        Blocks that another process was writing when a task came to them.
    failures
        A line for each task that failed.
    """

    def __init__(self, spec: EmbedSpec, client: Client, blocks_per_task: int | None) -> None:
        self.spec, self.workers, self.taken = spec, set[str](), set[int]()
        self.failures: list[str] = []
        self._client, self._per_task = client, blocks_per_task
        self._block_seconds = 0.0  # of the last task; 0 before there is one
        self._pending: dict[Future[Any], list[int]] = {}
        self._key = f"embed-{spec.digest()}"
        self.address = str(client.scheduler.address) if client.scheduler else "the scheduler"

    def prepare(self) -> Embedding:
        """Let a worker create the arrays; return them as this machine sees them."""
        self._wait_for_workers()
        self._submit(prepare_on_worker, [])
        while not (ended := self._ended()):
            pass
        done = ended[0][1]
        if not isinstance(done, Done) or done.error:
            raise WorkersError(f"{done.error if isinstance(done, Done) else done} {SAME_PATHS}")
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
                    text = done.error if isinstance(done, Done) else done
                    self.failures.append(f"blocks {_numbers(blocks)}: {text}")
                    continue
                self.workers.add(done.worker)
                self.taken.update(done.taken)
                if done.seconds:
                    self._block_seconds = done.seconds / max(1, len(done.blocks))
                update(len(done.blocks))
        if len(self.failures) >= MOST_FAILURES:
            self.failures.append(f"{MOST_FAILURES} tasks failed: no more were given out. {SAME_PATHS}")

    def cancel(self) -> None:
        """Take back the tasks that have not begun; those that run end by themselves."""
        if self._pending and self._client.status == "running":
            with contextlib.suppress(Exception):  # the run has ended, one way or another
                self._client.cancel(list(self._pending))
        self._pending.clear()

    def _size(self, left: int, slots: int) -> int:
        """Return how many blocks the next task has."""
        if self._per_task is not None:
            return min(left, self._per_task)
        if not self._block_seconds:
            return 1
        # Towards the end tasks become smaller, so that all workers end at about the same time.
        return max(1, min(math.ceil(TASK_SECONDS / self._block_seconds), left // (2 * slots)))

    def _wait_for_workers(self) -> int:
        """Return how many tasks can run at a time, as soon as it is more than none."""
        said = -math.inf
        while True:
            self._check()
            try:
                workers = self._client.scheduler_info()["workers"].values()
            except OSError as error:
                raise self._gone() from error
            cards = sum(int(worker["resources"].get(RESOURCE, 0)) for worker in workers)
            self._resources = {RESOURCE: 1} if cards else None
            if workers:
                return cards or len(workers)
            if time.monotonic() - said > _SAY_SECONDS:
                logger.warning("%s has no workers; waiting for one.", self.address)
                said = time.monotonic()
            time.sleep(_LOOK_SECONDS)

    def _submit(self, function: Callable[..., Done], blocks: list[int]) -> None:
        # A worker's death is no failure of the task, and dask runs it again by itself. What does fail would fail again.
        arguments = (self.spec, blocks) if blocks else (self.spec,)
        what = f"{blocks[0]}-{blocks[-1]}-{len(blocks)}" if blocks else "prepare"
        future = self._client.submit(
            function,
            *arguments,
            key=f"{self._key}-{what}",
            pure=False,
            retries=0,
            resources=self._resources,
        )
        self._pending[future] = blocks

    def _ended(self) -> list[tuple[list[int], Done | str]]:
        """Return blocks and outcome of the tasks that have ended, waiting up to a second for one."""
        deadline = time.monotonic() + 1
        # The result of a task is lost when its worker dies before it was fetched: dask runs the task again.
        while not (ready := [future for future in self._pending if future.status not in ("pending", "lost")]):
            self._check()
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_SECONDS)
        found: list[tuple[list[int], Done | str]] = []
        for future in ready:
            if future.status == "cancelled":
                raise self._gone()
            try:
                found.append((self._pending[future], future.result(timeout=_CONNECT_SECONDS)))
            except TimeoutError:  # its worker has died since, and it runs again elsewhere
                continue
            except Exception as error:  # noqa: BLE001 - whatever dask raises for a task that it has given up
                self._check()
                if future.status in ("pending", "lost"):  # it could not be fetched from a worker that has died
                    continue
                found.append((self._pending[future], f"{type(error).__name__}: {' '.join(str(error).split())}"))
            del self._pending[future]
        return found

    def _check(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> WorkersError:
        return WorkersError(f"The scheduler at {self.address} is gone, or has dropped this run. {AGAIN}")


# ---- on the workers ------------------------------------------------------------------------------

_lock = threading.Lock()
_kept: dict[str, tuple[Store, Model]] = {}


def prepare_on_worker(spec: EmbedSpec) -> Done:
    """Create the arrays of a run, or take up those that are there.

    Parameters
    ----------
    spec
        The run.
    """
    from embedstore.embedding import prepare

    begun = time.perf_counter()
    with _lock:
        try:
            store, model = _ready(spec)
            options = {key: value for key, value in spec.options.items() if key not in ("batch_tokens", "quarantine")}
            name = prepare(store, spec.task, model, **options).embedding.name
        except (EmbedstoreError, OSError, ModuleNotFoundError) as error:
            return Done(_here(), [], [], 0.0, _told(error))
    return Done(_here(), [], [], time.perf_counter() - begun, name=name)


def embed_on_worker(spec: EmbedSpec, blocks: list[int]) -> Done:
    """Embed blocks of a run; those that are committed already take no time.

    Parameters
    ----------
    spec
        The run.
    blocks
        Their numbers.
    """
    # Threads of a worker share a device and a model: one computes at a time.
    with _lock:
        try:
            store, model = _ready(spec)
            done, taken, seconds = _embed(spec, store, model, blocks)
        except (EmbedstoreError, OSError, ModuleNotFoundError) as error:
            return Done(_here(), [], [], 0.0, _told(error))
    return Done(_here(), done, taken, seconds)


def _embed(spec: EmbedSpec, store: Store, model: Model, blocks: list[int]) -> tuple[list[int], list[int], float]:
    """Embed blocks; return those that are done, those that others hold, and the seconds."""
    from embedstore.embedding import embed

    def run(some: list[int]) -> float:
        return embed(store, spec.task, model, blocks=some, progress=False, **spec.options).seconds

    with contextlib.suppress(BlockTakenError):
        return blocks, [], run(blocks)
    # Another process is at one of them, perhaps one that the scheduler has lost sight of: do the others.
    began, taken = time.perf_counter(), []
    for block in blocks:
        try:
            run([block])
        except BlockTakenError:
            taken.append(block)
    emb = look(spec, spec.options.get("name") or model.name)
    taken = [block for block in taken if emb is None or emb.commit(block) is None]
    return [block for block in blocks if block not in taken], taken, time.perf_counter() - began


def _ready(spec: EmbedSpec) -> tuple[Store, Model]:
    """Return the store and the model of a run; they are kept until another run comes."""
    text = spec.to_json()
    if text not in _kept:
        _kept.clear()
        _use_threads(str(spec.model.get("device", "cpu")))
        _kept[text] = load_spec(spec)
    return _kept[text]


def _use_threads(device: str) -> None:
    """Let torch use the cores that the worker was given."""
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # not on a worker
        threads = get_worker().state.nthreads
        if device == "cpu":
            import torch

            torch.set_num_threads(threads)


def _here() -> str:
    """Return the address of this worker."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return "none"


def _told(error: BaseException) -> str:
    """Return an error as text: an exception may not survive the way, and dask would add its own."""
    return f"worker {_here()} on {socket.gethostname()}: {type(error).__name__}: {' '.join(str(error).split())}"
