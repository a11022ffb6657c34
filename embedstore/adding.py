"""Writing a task into a store: sequences, sample table and labels, committed by the group's attributes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.digests import labels_digest, sequence_digest, table_digest
from embedstore.errors import FingerprintError, InputError, StoreError
from embedstore.indices import offsets
from embedstore.layout import FORMAT_VERSION, check_name, create_array, ensure_group
from embedstore.shards import claim, sync_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    import zarr

    from embedstore.store import Store
    from embedstore.tasks import Labels, Task

WAIT_FOR_OTHERS = 600.0
"""Seconds to wait for another run that is adding the same task, or creating the same arrays: many begin at once in a
job array."""

_STEP = 2**20  # values of a chunk of the task arrays
_READ = 64  # samples whose sequences are fetched at a time


def add_task(store: Store, task: Task) -> None:
    """Write a task, or check that the stored one is the same.

    Parameters
    ----------
    store
        Opened with ``mode="a"``.
    task
        What to add; its sequences are read on demand, a few samples at a time.

    Raises
    ------
    FingerprintError
        If a task of that name with other sequences, samples or labels is stored; both are shown field by field.
    InputError
        If the table and the sequences disagree, or the name is not allowed.
    """
    check_name(task.name, "task")
    if store.mode == "r":
        raise StoreError(f"{store.path} is open for reading. Open it with mode='a' to add task {task.name!r}.")
    _check_table(task)
    digests = task_digests(task)  # takes long for a large task, which others need not wait for
    with writing(store, f"{task.name}.lock", f"task {task.name!r} of {store.path}", wait=WAIT_FOR_OTHERS):
        before = store._attributes(task.name, "task")  # noqa: SLF001 - same package
        if before is None:
            left = store._attributes(task.name, "dropped task")  # noqa: SLF001
            if left is not None:
                refuse_difference(store, f"task {task.name!r}", left["digest"], digests, _CURE)
            _write(store, task, digests)
        else:
            refuse_difference(store, f"task {task.name!r}", before["digest"], digests, _CURE)


_CURE = "Give the task another name, or write to another store."
ANOTHER_NAME = "Give this run another name (--name), or embed into another store."


def refuse_difference(store: Store, what: str, stored: Mapping[str, Any], now: Mapping[str, Any], cure: str) -> None:
    """Raise an error that shows two fingerprints field by field, if they differ.

    Raises
    ------
    FingerprintError
        If any field differs.
    """
    fields = [key for key in {**stored, **now} if stored.get(key) != now.get(key)]
    if fields:
        lines = "\n".join(f"  {key}: stored {stored.get(key)!r}, now {now.get(key)!r}" for key in fields)
        raise FingerprintError(f"{store.path}: {what} was made from something else than now:\n{lines}\n{cure}")


@contextlib.contextmanager
def writing(store: Store, lock: str, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Keep other writers of the same thing out, where the store is a local folder, waiting some seconds for them."""
    if store.local is None:
        yield
        return
    with claim(store.local / ".locks" / lock, what, wait=wait):
        yield


def task_digests(task: Task) -> dict[str, str]:
    """Return the sha256 digests of a task's sequences, sample table, labels and variants."""
    lengths = task.samples["length"].to_numpy(np.int64)
    digests = {"sequence": sequence_digest(lengths, _sequences(task)), "samples": table_digest(task.samples)}
    if task.labels is not None:
        digests["label"] = labels_digest(task.labels)
    if task.variants is not None:
        digests["variants"] = table_digest(task.variants)
    return digests


def _sequences(task: Task) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Yield each sample's sequence, checked against the table."""
    lengths = task.samples["length"].to_numpy()
    for start in range(0, len(lengths), _READ):
        stop = min(start + _READ, len(lengths))
        for sample, codes in zip(range(start, stop), task.sequences(start, stop), strict=True):
            if len(codes) != lengths[sample]:
                raise InputError(
                    f"Task {task.name!r}: sample {task.samples['id'].iloc[sample]!r} has {len(codes)} letters, its "
                    f"table says {lengths[sample]}."
                )
            yield codes


def _check_table(task: Task) -> None:
    """Refuse tables whose ids repeat, or that are empty."""
    ids = task.samples["id"]
    if not len(ids):
        raise InputError(f"Task {task.name!r} has no samples.")
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise InputError(f"Task {task.name!r}: {len(repeated)} sample ids repeat, the first: {list(repeated[:5])}.")
    if (task.samples["length"] <= 0).any():
        raise InputError(f"Task {task.name!r}: a sample has no letters: {ids[task.samples['length'] <= 0].iloc[0]!r}.")


def _write(store: Store, task: Task, digests: dict[str, str]) -> None:
    """Write all arrays of a task, then its attributes, which make it count."""
    import zarr

    lengths = task.samples["length"].to_numpy(np.int64)
    if task.labels is not None:
        _check_labels(task.labels, task)
    root = zarr.open_group(store.zarr_store, mode="r+", use_consolidated=False)
    group = ensure_group(root, task.name)
    first = offsets(lengths)
    placed = create_array(group, "first_nucleotide", lengths.shape, chunks=(2**16,), codec="zstd")
    placed[:] = first[:-1]
    _write_sequence(group, task, int(first[-1]))
    _write_table(group, "sample", task.samples)
    if task.variants is not None:
        _write_table(group, "variant", task.variants)
    if task.labels is not None:
        _write_labels(group, task.labels)
    ensure_group(group, "embedding")
    attributes: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": "task",
        "record": task.record.to_dict(),
        "source": task.source,
        "digest": digests,
        "samples": len(lengths),
        "nucleotides": int(first[-1]),
        "length": int(lengths[0]) if (lengths == lengths[0]).all() else None,
        "columns": list(task.samples.columns),
    }
    if task.variants is not None:
        attributes["variant_columns"] = list(task.variants.columns)
    if task.labels is not None:
        attributes["label"] = {"dims": list(task.labels.dims), "names": list(task.labels.names)}
    if store.local is not None:
        sync_tree(store.local / task.name)
    group.attrs["embedstore"] = attributes
    if store.local is not None:
        sync_tree(store.local / task.name, below=False)


def _check_labels(labels: Labels, task: Task) -> None:
    """Refuse labels whose first axis is not that of the samples or the nucleotides."""
    wanted = int(task.samples["length"].sum()) if labels.dims[0] == "nucleotide" else len(task.samples)
    if len(labels.values) != wanted or labels.values.ndim != len(labels.dims):
        raise InputError(
            f"Task {task.name!r}: labels have shape {labels.values.shape}; with dimensions {labels.dims} the first "
            f"must be {wanted}."
        )


def _write_sequence(group: zarr.Group, task: Task, total: int) -> None:
    """Write all letters, a few chunks at a time."""
    array = create_array(group, "sequence", (total,), chunks=(min(_STEP, total),), codec="zstd")
    held: list[Any] = []
    size = start = 0
    for codes in _sequences(task):
        held.append(codes)
        size += len(codes)
        if size >= 16 * _STEP:
            letters = np.concatenate(held)
            whole = size // _STEP * _STEP
            array[start : start + whole] = letters[:whole]
            start, held, size = start + whole, [letters[whole:]], size - whole
    if size:
        array[start:] = np.concatenate(held)


def _write_table(group: zarr.Group, what: str, table: pd.DataFrame) -> None:
    """Write each column of a table of samples or variants as an array."""
    ensure_group(group, what)
    for name in table.columns:
        check_name(str(name), "column")
        values = table[name].to_numpy()
        text = values.dtype.kind in "OUT"
        array = create_array(
            group,
            f"{what}/{name}",
            values.shape,
            dtype=str if text else values.dtype,
            dims=(what,),
            chunks=(2**16,),
            codec="zstd",
        )
        array[:] = values.astype(object) if text else values


def _write_labels(group: zarr.Group, labels: Labels) -> None:
    """Write the labels in chunks of whole samples, bins or nucleotides."""
    shape = labels.values.shape
    step = max(1, _STEP // int(np.prod(shape[1:], dtype=int)))
    array = create_array(
        group,
        "label",
        shape,
        dtype=labels.values.dtype,
        dims=labels.dims,
        chunks=(min(step, shape[0]), *shape[1:]),
        codec="zstd",
    )
    array[...] = labels.values
