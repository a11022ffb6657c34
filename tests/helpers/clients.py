"""Clients of dask schedulers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def two_workers() -> Iterator[distributed.Client]:
    """Two workers in this process, which therefore use the patches of a test."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client
