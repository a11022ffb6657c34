"""Ctrl-C between steps."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def noted_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that no step is cut in half; the second one interrupts at once.

    Outside the main thread, which alone gets signals, the event is never set.

    Yields
    ------
    threading.Event
        Set by the first Ctrl-C.

    Examples
    --------
    >>> with noted_interrupt() as interrupted:
    ...     interrupted.is_set()
    False
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_number: int, _frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
