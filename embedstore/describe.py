"""What a store holds, as tables, text and HTML."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import CorruptError

if TYPE_CHECKING:
    from embedstore.store import Store


def contents(store: Store) -> list[dict[str, Any]]:
    """Return one record per task and per embedding of a store.

    Parameters
    ----------
    store
        The store.

    Returns
    -------
    list of dict
        Keys ``task``, ``model`` (empty for the task itself), ``samples``, ``nucleotides`` and ``stored_bytes`` (local
        stores, else None); of a task ``alphabet``; of an embedding ``channels``, ``precision``, ``blocks_done``,
        ``blocks``, ``rows_done``, ``rows`` and ``ratio``: bytes at nucleotide resolution in float32 to bytes stored.
    """
    found = []
    for task in store.tasks():
        attributes = store.task_attributes(task)
        size = _stored_bytes(store, task) if store.local else None
        inner = _stored_bytes(store, f"{task}/embedding") if store.local else None
        found.append(
            {
                "task": task,
                "model": "",
                "samples": attributes["samples"],
                "nucleotides": attributes["nucleotides"],
                "alphabet": store.record(task).alphabet,
                "stored_bytes": None if size is None or inner is None else size - inner,
            }
        )
        found += [_embedding(store, task, model, attributes) for model in store.models(task)]
    return found


def _embedding(store: Store, task: str, model: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the record of one embedding."""
    emb = store.embedding(task, model)
    done = [block for block in range(emb.blocks) if _committed(emb, block)]
    rows = int(emb.row_count.sum())
    rows_done = int(sum(emb.row_count[np.array(emb.block_samples(block))].sum() for block in done))
    size = _stored_bytes(store, f"{task}/embedding/{model}") if store.local else None
    full = attributes["nucleotides"] * emb.width * 4 * (rows_done / rows)
    return {
        "task": task,
        "model": model,
        "samples": attributes["samples"],
        "nucleotides": attributes["nucleotides"],
        "channels": emb.width,
        "precision": f"{emb.dtype} per {emb.resolution}" + (f", {emb.codec}" if emb.codec != "none" else ""),
        "blocks_done": len(done),
        "blocks": emb.blocks,
        "rows_done": rows_done,
        "rows": rows,
        "stored_bytes": size,
        "ratio": full / size if size else None,
        "fingerprint": emb.fingerprint,
        "record": emb.record,
        "software": emb.attributes["software"],
    }


def _committed(emb: Any, block: int) -> bool:
    """Tell whether a block has a sound commit record."""
    try:
        return emb.commit(block) is not None
    except CorruptError:
        return False


def _stored_bytes(store: Store, path: str) -> int:
    """Return the bytes of all files below a path of a local store."""
    assert store.local is not None
    return sum(
        (Path(folder) / name).stat().st_size for folder, _, names in os.walk(store.local / path) for name in names
    )


def human_bytes(size: float | None) -> str:
    """Return a number of bytes with a unit.

    Examples
    --------
    >>> human_bytes(1536), human_bytes(None)
    ('1.5 KiB', '?')
    """
    if size is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _lines(store: Store) -> list[tuple[str, str, str, str, str]]:
    """Return (name, size, rows, bytes, state) of each task and embedding."""
    lines = []
    for item in contents(store):
        if not item["model"]:
            unit = "nt" if item["alphabet"] == "dna" else "aa"
            size = f"{item['samples']:,} samples, {item['nucleotides']:,} {unit}"
            lines.append((item["task"], size, "", human_bytes(item["stored_bytes"]), ""))
            continue
        whole = item["blocks_done"] == item["blocks"]
        state = "complete" if whole else f"{item['blocks_done']} of {item['blocks']} blocks"
        ratio = f" (1/{item['ratio']:.1f} of float32 nucleotides)" if item["ratio"] else ""
        rows = f"{item['rows_done']:,} of {item['rows']:,} rows"
        size = f"{item['channels']} channels, {item['precision']}"
        lines.append((f"  {item['model']}", size, rows, human_bytes(item["stored_bytes"]) + ratio, state))
    return lines


def describe(store: Store) -> str:
    """Return a store as text: tasks, models, rows done of total, sizes, ratio, completeness."""
    lines = _lines(store)
    head = f"<embedstore.Store {store.path}>"
    if not lines:
        return f"{head}\n  empty"
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    rows = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([head, *rows])


def describe_html(store: Store) -> str:
    """Return a store as an HTML table for notebooks."""
    cells = "".join(
        "<tr>" + "".join(f"<td style='text-align:left;white-space:pre'>{html.escape(c)}</td>" for c in line) + "</tr>"
        for line in _lines(store)
    )
    head = "".join(f"<th style='text-align:left'>{h}</th>" for h in ("task / model", "size", "rows", "stored", "state"))
    return f"<b>embedstore.Store</b> <code>{html.escape(store.path)}</code><table><tr>{head}</tr>{cells}</table>"
