"""Small stores with a planted truth that a probe can find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.tasks import TaskRecord

if TYPE_CHECKING:
    from embedstore.store import Store

SPLITS = ("train", "train", "train", "train", "valid", "test")


def planted_labels(level: str, kind: str, sequences: list[str], bin_size: int = 1) -> list[Any]:
    """Labels that the letters decide: G or C or neither; share of G; whether there are many G."""
    labels: list[Any] = []
    for text in sequences:
        codes = np.frombuffer(text.encode(), np.uint8)
        marks = np.where(codes == ord("G"), 1, np.where(codes == ord("C"), 2, 0))
        if level == "sequence":
            marks = marks[None]
        elif level == "bin":
            marks = marks.reshape(-1, bin_size)
        if level == "nucleotide":
            labels.append(marks if kind == "class" else marks.astype(float))
            continue
        share = np.stack([(marks == 1).mean(1), (marks == 2).mean(1)], axis=1)
        if kind == "class":
            found = np.where(share[:, 0] > share[:, 1], 1, 0)
        elif kind == "multilabel":
            found = (share > 0.25).astype(int)
        else:
            found = share
        labels.append(found[0] if level == "sequence" else found)
    return labels


def planted_record(level: str, kind: str, bin_size: int = 1, **probe: Any) -> TaskRecord:
    names = {"class": ("other", "G", "C") if level == "nucleotide" else ("no", "yes")}.get(kind, ("G", "C"))
    return TaskRecord(
        name=f"planted_{level}_{kind}",
        level=level,  # type: ignore[arg-type]
        type=kind,  # type: ignore[arg-type]
        names=names if (level, kind) != ("nucleotide", "value") else (),
        bin_size=bin_size,
        metric={"class": "mcc", "multilabel": "auroc", "value": "r2"}[kind],  # type: ignore[arg-type]
        probe=probe,
    )


def planted_store(
    level: str = "nucleotide",
    kind: str = "class",
    *,
    samples: int = 48,
    length: int | None = None,
    splits: list[str] | None = None,
    path: Any = "memory://",
    **probe: Any,
) -> Store:
    """A store with one task, ``planted``, embedded with `toys.ToyModel` under the name ``toy``."""
    bin_size = 30 if level == "bin" else 1
    rng = np.random.default_rng(1)
    if length is None and level == "bin":
        length = 120
    lengths = rng.integers(40, 160, samples) if length is None else np.full(samples, length)
    sequences = random_sequences(lengths, seed=2)
    record = planted_record(level, kind, bin_size, **probe)
    task = tasks.from_sequences(
        "planted",
        sequences,
        splits=splits or [SPLITS[i % len(SPLITS)] for i in range(samples)],
        labels=planted_labels(level, kind, sequences, bin_size),
        record=record,
    )
    store = embedstore.open_store(path, mode="a")
    store.add_task(task)
    embedstore.embed(store, "planted", ToyModel(width=48), progress=False)  # type: ignore[arg-type]
    return store
