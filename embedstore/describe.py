"""What a store holds, as tables, text and HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import CorruptError
from embedstore.objects import stored_bytes

if TYPE_CHECKING:
    from embedstore.rows import Embedding
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
        Keys ``task``, ``model`` (empty for the task itself), ``samples``, ``nucleotides`` and ``stored_bytes`` (None
        where the store cannot tell). Of a task ``alphabet``, ``source`` and ``digest``. Of an embedding ``channels``,
        ``precision``, ``blocks_done``, ``blocks``, ``rows_done``, ``rows``, ``ratio`` (bytes at nucleotide resolution
        in float32 to bytes stored; None where not all rows are kept), ``quarantined`` (ids), ``fingerprint``,
        ``record``, ``software`` and ``runs``: who wrote it, with which command line, on what.
    """
    found = []
    for task in store.tasks():
        attributes = store.task_attributes(task)
        size = stored_bytes(store, task)
        parts = [stored_bytes(store, f"{task}/{part}") for part in ("embedding", "prediction")]
        inner = None if None in parts else sum(part or 0 for part in parts)
        found.append(
            {
                "task": task,
                "model": "",
                "samples": attributes["samples"],
                "nucleotides": attributes["nucleotides"],
                "alphabet": store.record(task).alphabet,
                "source": attributes["source"],
                "digest": attributes["digest"],
                "stored_bytes": None if size is None or inner is None else size - inner,
            }
        )
        found += [_embedding(store, task, model, attributes) for model in store.models(task)]
    return found


def _embedding(store: Store, task: str, model: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the record of one embedding."""
    from embedstore.provenance import runs

    emb = store.embedding(task, model)
    done = [block for block in range(emb.blocks) if _committed(emb, block)]
    rows = int(emb.row_count.sum())
    rows_done = int(sum(emb.row_count[np.array(emb.block_samples(block))].sum() for block in done))
    size = stored_bytes(store, f"{task}/embedding/{model}")
    # What is not a whole sequence has no size at nucleotide resolution to compare with.
    whole = emb.keeps_rows and not emb.keeps_some
    full = attributes["nucleotides"] * emb.width * 4 * (rows_done / rows) if whole else None
    return {
        "task": task,
        "model": model,
        "samples": attributes["samples"],
        "nucleotides": attributes["nucleotides"],
        "channels": emb.width,
        "precision": _precision(emb),
        "blocks_done": len(done),
        "blocks": emb.blocks,
        "rows_done": rows_done,
        "rows": rows,
        "stored_bytes": size,
        "ratio": full / size if size and full is not None else None,
        "quarantined": [store.sample_id(task, int(sample)) for sample in emb.quarantined()],
        "fingerprint": emb.fingerprint,
        "record": emb.record,
        "software": emb.attributes["software"],
        "runs": runs(emb),
    }


def _precision(emb: Embedding) -> str:
    """Say what is stored of each sample."""
    if not emb.keeps_rows:
        return "float32 means only"
    some = "some positions, " if emb.keeps_some else ""
    return f"{some}{emb.dtype} per {emb.resolution}" + (f", {emb.codec}" if emb.codec != "none" else "")


def _committed(emb: Any, block: int) -> bool:
    """Tell whether a block has a sound commit record."""
    try:
        return emb.commit(block) is not None
    except CorruptError:
        return False


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
        rows = f"{item['rows_done']:,} of {item['rows']:,} rows" if item["rows"] else ""
        if item["quarantined"]:
            state += f", {len(item['quarantined'])} sequences quarantined"
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
