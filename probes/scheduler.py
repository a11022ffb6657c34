"""Giving tasks to the workers of a dask.distributed scheduler, whatever becomes of these."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from embedstore.dask_tasks import DaskTasks
from embedstore.errors import InputError
from embedstore.scheduler import WINDOW, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Client

AGAIN = "What is finished is on disk; the same sweep goes on from there."


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


class Tasks(DaskTasks):
    """The tasks of a sweep.

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
        super().__init__(client, f"this sweep. {AGAIN}")

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
                    self._wait_for_workers()
                    looked = time.monotonic()
                while left and len(self._pending) < WINDOW:
                    place, (key, arguments) = left.pop()
                    self._give(function, arguments, key=key, tag=place)
                for place, result in self._ended():
                    take(place, result)
        finally:
            self.cancel()
