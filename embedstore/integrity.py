"""Checking every stored byte against what was committed, and clearing away what cannot be used."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.digests import sequence_digest
from embedstore.errors import CorruptError, InputError, StoreError
from embedstore.objects import children, names, remove, remove_tree
from embedstore.progress import progress_bar
from embedstore.shards import TEMPORARY, claim

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from embedstore.rows import Embedding
    from embedstore.store import Store

logger = logging.getLogger(__name__)


class VerifyReport(NamedTuple):
    """What :func:`verify` found.

    Attributes
    ----------
    problems
        One line per fault: task, model (empty for the task itself), block (-1 where it is not one block's), problem.
    blocks
        Committed blocks that were read.
    missing
        Blocks that no run has committed; they are not a fault.
    samples
        Samples whose checksums were compared.
    """

    problems: pd.DataFrame
    blocks: int
    missing: int
    samples: int

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.problems.empty


def verify(store: Store, task: str | None = None, model: str | None = None, *, progress: bool = False) -> VerifyReport:
    """Read everything in a store and check every digest.

    Parameters
    ----------
    store
        The store.
    task, model
        Only these; all by default.
    progress
        Show a bar.

    Returns
    -------
    VerifyReport
        Damage is reported, not raised.
    """
    import pandas as pd

    from embedstore.provenance import runs

    if model is not None and task is None:
        raise InputError("A model is checked within a task: give the task as well.")
    problems: list[tuple[str, str, int, str]] = []
    blocks = missing = samples = 0
    for name in store.tasks() if task is None else [task]:
        problems += [(name, "", -1, str(error)) for error in _task_faults(store, name)]
        for which in store.models(name) if model is None else [model]:
            try:
                emb = store.embedding(name, which)
            except CorruptError as error:
                problems.append((name, which, -1, str(error)))
                continue
            try:
                runs(emb)
            except CorruptError as error:
                problems.append((name, which, -1, str(error)))
            if emb.fingerprint.get("sequences") != store.task_digests(name)["sequence"]:
                problems.append((name, which, -1, "the rows were made from other sequences than those stored"))
            for block in progress_bar(range(emb.blocks), f"verify {name}/{which}", show=progress, unit="block"):
                fault, committed = block_fault(emb, block)
                if fault is not None:
                    problems.append((name, which, block, str(fault)))
                blocks += committed
                missing += not committed
                samples += len(emb.block_samples(block)) * committed
    table = pd.DataFrame(problems, columns=["task", "model", "block", "problem"])
    return VerifyReport(table, blocks, missing, samples)


def _task_faults(store: Store, task: str) -> Iterator[CorruptError]:
    """Yield what is wrong with a task's own arrays."""
    try:
        store.group(f"{task}/sample")
        store.group(f"{task}/embedding")
        store.samples(task)
        store.labels(task)
        if "variants" in store.task_digests(task):
            store.variants(task)
        lengths = store.lengths(task)
        steps = range(0, len(lengths), 64)
        parts = (store.sequences(task, np.arange(start, min(start + 64, len(lengths)))) for start in steps)
        digest = sequence_digest(lengths, (codes for part in parts for codes in part))
        if digest != store.task_digests(task)["sequence"]:
            yield CorruptError(f"{store.path}: task {task!r}: the sequences differ from their digest")
    except CorruptError as error:
        yield error


def block_fault(emb: Embedding, block: int) -> tuple[CorruptError | None, bool]:
    """Return what is wrong with a block, and whether it is committed."""
    try:
        if emb.commit(block) is None:
            return None, False
        if emb.keeps_rows:
            emb.read_block(block, quarantined=True)
        if emb.keeps_pooled:
            emb.pooled(np.array(emb.block_samples(block)), quarantined=True)
    except CorruptError as error:
        return error, True
    return None, True


def repair(store: Store) -> pd.DataFrame:
    """Remove damaged blocks, what runs left unfinished, and files that belong to nothing.

    Embedding again afterwards does only what is missing. Sound blocks are never touched.

    Parameters
    ----------
    store
        A store opened with ``mode="a"``. Nothing may be writing to one on a server: there are no locks that would tell.

    Returns
    -------
    pandas.DataFrame
        What was done: path and reason.

    Raises
    ------
    BlockTakenError
        If a run is writing to the store.
    """
    import pandas as pd

    if store.mode == "r":
        raise StoreError(f"{store.path} is open for reading. Open it with mode='a' to repair it.")
    done = _clear_unfinished_files(store)
    for name in children(store, ""):
        if store._attributes(name, "task") is None:  # noqa: SLF001 - same package
            if store._attributes(name, "dropped task") is None:  # noqa: SLF001
                done.append(_remove_tree(store, name))
            continue
        done += _repair_task(store, name)
    return pd.DataFrame(done, columns=["path", "reason"])


def _clear_unfinished_files(store: Store) -> list[tuple[str, str]]:
    """Remove what killed runs have left in a local folder; other stores take objects whole or not at all."""
    if store.local is None:
        return []
    locks = store.local / ".locks"
    for lock in sorted(locks.glob("*")) if locks.exists() else []:
        with claim(lock, f"{store.path} ({lock.name})"):
            pass  # what a killed run has left is removed as it is let go of
    left = [name for name in names(store, "") if name.endswith((TEMPORARY, ".partial"))]
    for name in left:
        remove(store, name)
    return [(name, "left by a run that was stopped") for name in left]


def _repair_task(store: Store, task: str) -> list[tuple[str, str]]:
    """Repair the embeddings of a task, its predictions, then the task itself."""
    done = []
    for model in children(store, f"{task}/embedding"):
        where = f"{task}/embedding/{model}"
        if store._attributes(where, "embedding") is None:  # noqa: SLF001
            done.append(_remove_tree(store, where))
            continue
        try:
            emb = store.embedding(task, model)
        except CorruptError:
            # Without its row counts or arrays nothing of it can be read, nor trusted to be completed.
            done.append(_remove_tree(store, where, "its description is damaged"))
            continue
        there = set(names(store, where))
        for block in range(emb.blocks):
            fault, committed = block_fault(emb, block)
            if fault is not None or not committed:
                reason = "not committed" if fault is None else f"damaged: {fault}"
                done += _remove_block(store, where, block, there, reason)
    predictions = f"{task}/prediction"
    for model in children(store, predictions) if store.group(predictions) is not None else []:
        for name in children(store, f"{predictions}/{model}"):
            if store._attributes(f"{predictions}/{model}/{name}", "prediction") is None:  # noqa: SLF001
                done.append(_remove_tree(store, f"{predictions}/{model}/{name}"))
    for fault in list(_task_faults(store, task)):
        group = store.task_group(task)
        if store.local is None:
            # Elsewhere arrays are never replaced when they are created again, so the damaged ones go now.
            for part in ("sequence", "first_nucleotide", "sample", "label", "variant"):
                remove_tree(store, f"{task}/{part}")
        group.attrs["embedstore"] = {**store.task_attributes(task), "kind": "dropped task"}
        done.append((task, f"damaged: {fault} Embed it again with its input files; sound embeddings are kept."))
    return done


def _remove_tree(store: Store, where: str, reason: str = "never finished") -> tuple[str, str]:
    """Remove a group that cannot be used."""
    logger.info("%s: removing %s: %s", store.path, where, reason)
    remove_tree(store, where)
    return where, reason


def _remove_block(store: Store, where: str, block: int, there: set[str], reason: str) -> list[tuple[str, str]]:
    """Remove the objects of a block, the commit record first: a block without one never counts."""
    logger.info("%s: removing block %d of %s: %s", store.path, block, where, reason)
    arrays = ("commit", "vector", "span", "start", "pooled", "quarantined")
    keys = [f"{where}/{array}/c/{block}{end}" for array in arrays for end in ("", "/0")]
    found = [key for key in keys if key in there]
    for key in found:
        remove(store, key)
    return [(key, reason) for key in found]
