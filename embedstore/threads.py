"""Stages that run beside each other: one that works ahead of a loop, and ones that follow it, with bounded queues."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")

_LOOK = 0.1  # seconds after which a thread that waits to hand something over looks whether it is still wanted


class Ahead(Generic[T]):
    """Iterates over something on a thread of its own, a few items ahead of the loop that takes them.

    Use it in a ``with`` statement: leaving it, for whatever reason, ends the thread.

    Parameters
    ----------
    items
        What to iterate over; it runs on the thread.
    depth
        Items that may be ready and not taken yet.
    name
        Of the thread.

    Attributes
    ----------
    seconds : float
        Time that the items took to make.
    waited : float
        Time that the loop waited for items.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self.seconds = self.waited = 0.0
        self._items = items
        self._ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            began = time.perf_counter()
            kind, item = self._ready.get()
            self.waited += time.perf_counter() - began
            if kind == "error":
                assert isinstance(item, BaseException)
                raise item
            if kind == "end":
                return
            yield item  # type: ignore[misc]

    def _hand_over(self, kind: str, item: T | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put((kind, item), timeout=_LOOK)
                return

    def _work(self) -> None:
        try:
            items = iter(self._items)
            while not self._stop.is_set():
                began = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    break
                self.seconds += time.perf_counter() - began
                self._hand_over("item", item)
        except BaseException as error:  # noqa: BLE001 - raised again by the loop
            self._hand_over("error", error)
            return
        self._hand_over("end", None)


class Behind(Generic[T]):
    """Does something with items, in order, on a thread of its own.

    Use it in a ``with`` statement: leaving it waits until all that was handed over is done. After an error the items
    that follow go to `discard`, and the error is raised by the next `put`, or on leaving.

    Parameters
    ----------
    work
        What to do with an item.
    depth
        Items that may wait; `put` waits when there are more.
    name
        Of the thread.
    discard
        What to do with an item instead, after an error.

    Attributes
    ----------
    seconds : float
        Time that the work took.
    waited : float
        Time that `put` waited.
    """

    def __init__(
        self, work: Callable[[T], object], depth: int, name: str, discard: Callable[[T], object] | None = None
    ) -> None:
        self.seconds = self.waited = 0.0
        self._work, self._discard = work, discard
        self._todo: queue.Queue[tuple[T] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._todo.put(None)
        self._thread.join()
        if error is None:
            self.check()

    def put(self, item: T) -> None:
        """Hand an item over.

        Raises
        ------
        BaseException
            What an item before it raised.
        """
        self.check()
        began = time.perf_counter()
        self._todo.put((item,))
        self.waited += time.perf_counter() - began

    def check(self) -> None:
        """Raise what an item raised."""
        if self._error is not None:
            raise self._error

    def _loop(self) -> None:
        while (item := self._todo.get()) is not None:
            began = time.perf_counter()
            if self._error is None:
                try:
                    self._work(item[0])
                except BaseException as error:  # noqa: BLE001 - raised again by `put` or on leaving
                    self._error = error
            elif self._discard is not None:
                self._discard(item[0])
            self.seconds += time.perf_counter() - began
