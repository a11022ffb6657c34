"""Giving tasks to the workers of a dask.distributed scheduler, whatever becomes of these."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError, WorkersError
from embedstore.scheduler import RESOURCE, WINDOW, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Client, Future

logger = logging.getLogger(__name__)

AGAIN = "What is finished is on disk; the same sweep goes on from there."

_FETCH_SECONDS = 15.0
_LOOK_SECONDS = 0.05
_SAY_SECONDS = 60.0  # between two log lines while there is no worker


@contextlib.contextmanager
def connected(workers: str | int) -> Iterator[Client]:
    """Connect to a scheduler, or start one with some workers on this machine; closed at the end.

    Parameters
    ----------
    workers
        Address of a scheduler, or a number of processes to start, each with one thread.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        The address is not one, or the number is below 1.
    WorkersError
        No scheduler answers.
    """
    import dask
    from distributed import Client, LocalCluster

    if isinstance(workers, str):
        with connect(workers) as client:
            yield client
        return
    logging.getLogger("distributed").setLevel(logging.WARNING)  # a scheduler of our own says too much at "info"
    if workers < 1:
        raise InputError(f"--workers {workers}: one process or more is wanted.")
    with (
        # A worker that dies takes no probe with it but the one that it runs: none waits there.
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class Tasks:
    """Tasks of a client: each runs until it is done or dask gives it up, on as many workers as that takes.

    Parameters
    ----------
    client
        Left open.

    Raises
    ------
    InputError
        The client is asynchronous.
    """

    def __init__(self, client: Client) -> None:
        if client.asynchronous:
            raise InputError("The client is asynchronous: give one that is not.")
        self._client = client
        self._pending: dict[Future[Any], int] = {}
        self._address = str(client.scheduler.address) if client.scheduler else "the scheduler"

    def run(
        self,
        function: Callable[..., Any],
        todo: Sequence[tuple[str, tuple[Any, ...]]],
        take: Callable[[int, Any], None],
    ) -> None:
        """Run a function with many arguments.

        Whatever ends this, tasks that have not begun are taken back; those that run end by themselves.

        Parameters
        ----------
        function
            A function of a module.
        todo
            Key and arguments of each task.
        take
            Called with the place of a task and what it returned, or the exception for which dask gave it up.

        Raises
        ------
        WorkersError
            The scheduler has gone away.
        """
        left, looked = list(enumerate(todo))[::-1], -math.inf
        try:
            while left or self._pending:
                if time.monotonic() - looked > 1:
                    resources, looked = self._wait_for_workers(), time.monotonic()
                while left and len(self._pending) < WINDOW:
                    place, (key, arguments) = left.pop()
                    # A worker's death is no failure of the task, and dask runs it again by itself. What does fail
                    # would fail again.
                    future = self._client.submit(
                        function, *arguments, key=key, pure=False, retries=0, resources=resources
                    )
                    self._pending[future] = place
                for place, result in self._ended():
                    take(place, result)
        finally:
            if self._pending and self._client.status == "running":
                with contextlib.suppress(Exception):  # the run has ended, one way or another
                    self._client.cancel(list(self._pending))

    def _wait_for_workers(self) -> dict[str, float] | None:
        """Return what a task asks for, as soon as there is a worker."""
        said = -math.inf
        while True:
            self._check()
            try:
                workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            except OSError as error:
                raise self._gone() from error
            if workers:
                return {RESOURCE: 1} if any(worker["resources"].get(RESOURCE) for worker in workers) else None
            if time.monotonic() - said > _SAY_SECONDS:
                logger.warning("%s has no workers; waiting for one.", self._address)
                said = time.monotonic()
            time.sleep(_LOOK_SECONDS)

    def _ended(self) -> list[tuple[int, Any]]:
        """Return the tasks that have ended and what came of them, waiting up to a second for one."""
        deadline = time.monotonic() + 1
        # The result of a task is lost when its worker dies before it was fetched: dask runs the task again.
        while not (ready := [future for future in self._pending if future.status not in ("pending", "lost")]):
            self._check()
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_SECONDS)
        found = []
        for future in ready:
            if future.status == "cancelled":
                raise self._gone()
            try:
                result = future.result(timeout=_FETCH_SECONDS)
            except TimeoutError:  # its worker has died since, and it runs again elsewhere
                continue
            except Exception as error:  # noqa: BLE001 - whatever dask raises for a task that it has given up
                self._check()
                if future.status in ("pending", "lost"):  # it could not be fetched from a worker that has died
                    continue
                result = error
            found.append((self._pending.pop(future), result))
        return found

    def _check(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> WorkersError:
        return WorkersError(f"The scheduler at {self._address} is gone, or has dropped this sweep. {AGAIN}")
