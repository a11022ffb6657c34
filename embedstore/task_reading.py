"""Reading a task from a store: its tables, sequences and labels, each checked before it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.digests import labels_digest, table_digest
from embedstore.errors import CorruptError
from embedstore.indices import sample_indices
from embedstore.layout import unwritten_labels

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from embedstore.store import Store
    from embedstore.tasks.labels import Labels


def read_table(store: Store, task: str, group: str, columns: str, digest: str) -> pd.DataFrame:
    """Read a table that is stored as one array per column.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    group
        Group of the arrays below the task.
    columns, digest
        Names in the task's attributes: of the list of columns, and of the table's digest.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    CorruptError
        If it differs from its digest.
    """
    import pandas as pd

    attributes = store.task_attributes(task)
    values = {name: store.read(f"{task}/{group}/{name}") for name in attributes[columns]}
    table = pd.DataFrame(
        {name: column.astype(object) if column.dtype.kind in "OUT" else column for name, column in values.items()}
    )
    if table_digest(table) != attributes["digest"][digest]:
        raise task_damaged(store, task, f"the {group} table differs from its digest")
    return table


def read_sequences(
    store: Store, task: str, samples: ArrayLike | None, first: NDArray[np.int64]
) -> list[NDArray[np.uint8]]:
    """Read the sequences of samples, neighbours at once.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    samples
        Their indices; None: all.
    first
        Where each sample of the task begins on the nucleotide axis, shape (sample,).

    Returns
    -------
    list of numpy.ndarray
        Upper-case ASCII letters of each sample, in the order asked for, uint8.

    Raises
    ------
    CorruptError
        If letters, or the places of samples, are gone.
    """
    lengths = store.lengths(task)
    wanted = sample_indices(samples, len(lengths))
    if (first < 0).any():
        raise task_damaged(store, task, "the places of samples on the nucleotide axis are gone")
    array = store.array(f"{task}/sequence")
    ordered = np.unique(wanted)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1) if len(ordered) else []
    found: dict[int, NDArray[np.uint8]] = {}
    for run in runs:
        start, stop = int(first[run[0]]), int(first[run[-1]] + lengths[run[-1]])
        letters = store.read_part(array, np.s_[start:stop], f"{store.path}: task {task!r}")
        if not letters.all():
            raise task_damaged(store, task, f"letters {start} to {stop} of the sequence are gone")
        found.update({int(i): letters[first[i] - start : first[i] - start + lengths[i]] for i in run})
    return [found[int(i)] for i in wanted]


def read_labels(store: Store, task: str) -> Labels | None:
    """Read the labels of a task.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.

    Returns
    -------
    Labels or None
        None where it has none.

    Raises
    ------
    CorruptError
        If they differ from their digest.
    """
    from embedstore.tasks.labels import Labels

    attributes = store.task_attributes(task)
    if "label" not in attributes["digest"]:
        return None
    array = store.array(f"{task}/label")
    labels = Labels(
        store.read_part(array, np.s_[:], f"{store.path}: task {task!r}"),
        tuple(attributes["label"]["dims"]),
        tuple(attributes["label"]["names"]),
    )
    if unwritten_labels(labels.values) or labels_digest(labels) != attributes["digest"]["label"]:
        raise task_damaged(store, task, "the labels differ from their digest")
    return labels


def task_damaged(store: Store, task: str, what: str) -> CorruptError:
    """Return the error that says what is damaged of a task, and what to do."""
    return CorruptError(
        f"{store.path}: task {task!r}: {what}. Run `embedstore repair {store.path}`, then embed again with the "
        "task's input files: embeddings of the same sequences are kept."
    )
