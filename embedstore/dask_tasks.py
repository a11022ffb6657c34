"""Tasks given to the workers of a dask.distributed scheduler, whatever becomes of these."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from embedstore.errors import WorkersError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

logger = logging.getLogger(__name__)

RESOURCE = "GPU"
"""A task asks for one of these where workers have them (``dask worker --resources GPU=1``)."""

_FETCH_SECONDS = 15.0
_LOOK_SECONDS = 0.05
_SAY_SECONDS = 60.0  # between two log lines while there is no worker


class DaskTasks:
    """Tasks of a client: each runs until it is done or dask gives it up, on as many workers as that takes.

    Parameters
    ----------
    client
        Left open.
    run
        What the tasks belong to, and how it goes on, for the message that the scheduler is gone.

    Attributes
    ----------
    address
        Of the scheduler.
    """

    def __init__(self, client: Client, run: str) -> None:
        self.address = str(client.scheduler.address) if client.scheduler else "the scheduler"
        self._client, self._of = client, run
        self._pending: dict[Future[Any], Any] = {}
        self._resources: dict[str, float] | None = None

    def cancel(self) -> None:
        """Take back the tasks that have not begun; those that run end by themselves."""
        if self._pending and self._client.status == "running":
            with contextlib.suppress(Exception):  # the run has ended, one way or another
                self._client.cancel(list(self._pending))
        self._pending.clear()

    def _wait_for_workers(self) -> int:
        """Return how many tasks can run at a time, as soon as it is more than none."""
        said = -math.inf
        while True:
            self._check()
            try:
                # Of all workers: some versions of distributed tell of five, unless they are asked for more.
                workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
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

    def _give(self, function: Callable[..., Any], arguments: tuple[Any, ...], *, key: str, tag: Any) -> None:
        """Submit a task; what became of it comes back with its tag."""
        # A worker's death is no failure of the task, and dask runs it again by itself. What does fail would fail again.
        future = self._client.submit(function, *arguments, key=key, pure=False, retries=0, resources=self._resources)
        self._pending[future] = tag

    def _ended(self) -> list[tuple[Any, Any]]:
        """Return tag and outcome (or exception) of the tasks that have ended, waiting up to a second for one."""
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
                outcome = future.result(timeout=_FETCH_SECONDS)
            except TimeoutError:  # its worker has died since, and it runs again elsewhere
                continue
            except Exception as error:  # noqa: BLE001 - whatever dask raises for a task that it has given up
                self._check()
                if future.status in ("pending", "lost"):  # it could not be fetched from a worker that has died
                    continue
                outcome = error
            found.append((self._pending.pop(future), outcome))
        return found

    def _check(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> WorkersError:
        return WorkersError(f"The scheduler at {self.address} is gone, or has dropped {self._of}")
