"""Who made what is stored: one record per run, kept beside the rows."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shlex
import sys
import uuid
from typing import TYPE_CHECKING, Any

from embedstore.blocks import software
from embedstore.layout import FORMAT_VERSION, ensure_group
from embedstore.objects import children

if TYPE_CHECKING:
    import torch

    from embedstore.rows import Embedding


def begin_run(embedding: Embedding, device: torch.device, **settings: Any) -> str:
    """Record that a run begins, so that one that is killed leaves a trace; return the record's name.

    Parameters
    ----------
    embedding
        What it writes to; its store must be open for writing.
    device
        Where the model runs.
    **settings
        What the run was told that does not decide the numbers, as JSON can hold it.

    Returns
    -------
    str
    """
    name = f"{_now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    record = {
        "command": shlex.join(sys.argv),
        "begun": _now().isoformat(timespec="seconds"),
        "ended": None,
        "device": device_name(device),
        "settings": settings,
        "software": software(),
    }
    _put(embedding, name, record)
    return name


def end_run(embedding: Embedding, name: str, **result: Any) -> None:
    """Add to the record of a run when it ended and what it did."""
    where = f"{embedding.task}/embedding/{embedding.name}/run/{name}"
    attributes = embedding.store._attributes(where, "run")  # noqa: SLF001 - same package
    assert attributes is not None
    record = attributes["record"]
    _put(embedding, name, {**record, "ended": _now().isoformat(timespec="seconds"), **result})


def runs(embedding: Embedding) -> dict[str, dict[str, Any]]:
    """Return the records of the runs that wrote an embedding, by name; names sort by when a run began."""
    store, where = embedding.store, f"{embedding.task}/embedding/{embedding.name}/run"
    found: dict[str, dict[str, Any]] = {}
    if store.group(where) is None:
        return found
    for name in children(store, where):
        attributes = store._attributes(f"{where}/{name}", "run")  # noqa: SLF001 - same package
        if attributes is not None:
            found[name] = attributes["record"]
    return found


def device_name(device: torch.device) -> str:
    """Return what a device is, in words.

    Examples
    --------
    >>> import torch
    >>> device_name(torch.device("cpu")).startswith("cpu, ")
    True
    """
    import torch

    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    return f"{device}, {platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def _put(embedding: Embedding, name: str, record: dict[str, Any]) -> None:
    import zarr

    where = f"{embedding.task}/embedding/{embedding.name}"
    group = zarr.open_group(embedding.store.zarr_store, path=where, mode="r+", use_consolidated=False)
    run = ensure_group(group, f"run/{name}")
    run.attrs["embedstore"] = {"format_version": FORMAT_VERSION, "kind": "run", "record": record}


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
