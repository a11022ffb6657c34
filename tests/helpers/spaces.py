"""Stores whose samples have known vectors: a function model that looks each sequence up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from toys import random_sequences

import embedstore
from embedstore import tasks
from embedstore.models.function import function_model
from embedstore.tasks import TaskRecord

if TYPE_CHECKING:
    from embedstore.store import Store

RECORD = TaskRecord(name="world", level="sequence", type="class", names=("no", "yes"), metric="mcc")


def add_space(store: Store, name: str, vectors: np.ndarray, task: str = "world") -> None:
    """Embed so that the mean of each sample is its vector: every letter has the same row."""
    texts = [codes.tobytes().decode() for codes in store.sequences(task)]
    known = dict(zip(texts, vectors.astype(np.float32), strict=True))
    nothing = np.zeros(vectors.shape[1], np.float32)

    def encode(asked):
        return [(np.tile(known.get(text, nothing), (len(text), 1)), np.ones(len(text), int)) for text in asked]

    embedstore.embed(store, task, function_model(name, encode, version="1"), dtype="float32", progress=False)


def world(samples: int = 60, *, columns: dict[str, Any] | None = None, sequences=None, **spaces: np.ndarray) -> Store:
    """A store with the task ``world`` and the spaces that are given."""
    sequences = sequences or random_sequences(np.arange(20, 20 + samples))
    samples = len(sequences)
    task = tasks.from_sequences(
        "world",
        sequences,
        splits=[("train", "test")[place % 3 == 0] for place in range(samples)],
        labels=[place % 2 for place in range(samples)],
        record=RECORD,
        columns=None if columns is None else pd.DataFrame(columns),
    )
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(task)
    for name, vectors in spaces.items():
        add_space(store, name, vectors)
    return store
