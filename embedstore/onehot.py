"""The baseline without a model: the nucleotides themselves as rows, computed as they are read and never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError
from embedstore.indices import offsets, sample_indices
from embedstore.layout import block_geometry
from embedstore.rows import Embedding, Rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embedstore.store import Store

ONE_HOT = "onehot"
"""Name of the model that is computed from the stored sequence and never stored."""

LETTER_BASELINES = (*(f"kmer{k}" for k in range(1, 7)), "gc")
"""Names of the other baselines that are computed from it; see `probes.letters`."""


class Computed(Embedding):
    """Rows that are computed from the stored sequence as they are read, and never stored; parent of all such.

    Parameters
    ----------
    store, task, name
        As for `embedstore.rows.Embedding`.
    record, fingerprint, resolution
        As its attributes.
    width
        Channels of a row.
    row_count
        Rows of each sample, shape (sample,).
    """

    def __init__(
        self,
        store: Store,
        task: str,
        name: str,
        *,
        record: dict[str, Any],
        fingerprint: dict[str, str],
        resolution: str,
        width: int,
        row_count: NDArray[np.int64],
    ) -> None:
        self.store, self.task, self.name = store, task, name
        self.record = {**record, "width": width}
        self.fingerprint = {**fingerprint, "sequences": store.task_digests(task)["sequence"]}
        self.resolution, self.codec, self.dtype, self.width = resolution, "none", np.dtype(np.float32), width
        self.keeps_rows, self.keeps_pooled, self.keeps_some = True, True, False
        self._names = []
        self.row_count = row_count
        self.geometry = block_geometry(row_count, width * self.dtype.itemsize)

    def missing(self) -> list[int]:
        """Return no block: the sequence is all it takes."""
        return []


class OneHot(Computed):
    """The nucleotides themselves as rows of four channels (A, C, G, T), computed as they are read."""

    def __init__(self, store: Store, task: str, name: str = ONE_HOT) -> None:
        from embedstore.sequences import one_hot

        self._one_hot = one_hot
        what = {"architecture": ONE_HOT}
        super().__init__(
            store,
            task,
            name,
            record={"name": ONE_HOT, **what},
            fingerprint=what,
            resolution="nucleotide",
            width=4,
            row_count=store.lengths(task),
        )

    def read(self, samples: ArrayLike, *, quarantined: bool = False, out: NDArray[Any] | None = None) -> Rows:  # noqa: ARG002
        """Read the rows of some samples, in the order asked for."""
        wanted = sample_indices(samples, len(self.row_count))
        parts = [self._one_hot(codes) for codes in self.store.sequences(self.task, wanted)]
        vector = self._memory(sum(map(len, parts)), out)
        np.concatenate([*parts, np.empty((0, self.width), self.dtype)], out=vector)
        return Rows(wanted, vector, np.ones(len(vector), np.int64), offsets(self.row_count[wanted]))

    def pooled(self, samples: ArrayLike | None = None, *, quarantined: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        """Return the letter frequencies of samples (all by default), shape (sample, 4), float32."""
        wanted = sample_indices(samples, len(self.row_count))
        means = [self._one_hot(codes).mean(0) for codes in self.store.sequences(self.task, wanted)]
        return np.array(means, np.float32).reshape(len(wanted), self.width)


def open_embedding(store: Store, task: str, name: str) -> Embedding:
    """Return the rows of a task under a model, stored or (``"onehot"``) computed."""
    if name == ONE_HOT:
        if store.record(task).alphabet != "dna":
            raise InputError(f"{store.path}: task {task!r} is of proteins; one-hot rows are those of A, C, G, T.")
        return OneHot(store, task)
    return Embedding(store, task, name)
