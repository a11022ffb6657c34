"""What a probe is to predict: the labels of a task, per output position of a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from embedstore.errors import InputError
from embedstore.indices import offsets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedstore.tasks import Labels, TaskRecord
    from probes.spans import Window

UNLABELLED = -100
"""Class of a position that has no label; NaN in tasks of other types."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The labels of all samples of a task, one row per output position.

    A position is a nucleotide, a bin or a whole sample, as the task's level says. Positions of a sample follow one
    another; an incomplete last bin is none.

    Parameters
    ----------
    record
        The task's record: level, type, bin size, names.
    labels
        Labels of all samples.
    lengths
        (sample,) nucleotides of all samples.

    Raises
    ------
    InputError
        The labels do not fit the record or the lengths, or hold other values than classes, 0 and 1, or numbers.
    """

    record: TaskRecord
    labels: Labels
    lengths: NDArray[np.int64]

    def __post_init__(self) -> None:
        self._check_shape()
        self._check_values()

    @property
    def window(self) -> Window:
        """What a position stands for, as `probes.cnn.CNN` takes it."""
        return window_of(self.record)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(sample,) positions of each sample."""
        if self.record.level == "nucleotide":
            return self.lengths
        if self.record.level == "bin":
            return self.lengths // self.record.bin_size
        return np.ones_like(self.lengths)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes or targets; numbers where a task of values gives none."""
        many = self.labels.values.shape[-1] if "target" in self.labels.dims else 1
        return self.record.names or tuple(str(number) for number in range(many))

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """(sample + 1,) first position of each sample on a flat axis."""
        return offsets(self.counts)

    def of(self, samples: NDArray[np.int64]) -> torch.Tensor:
        """Return the labels of some samples, their positions one after another.

        Parameters
        ----------
        samples
            (n,) indices.

        Returns
        -------
        torch.Tensor
            (position,) int64 classes, -100 where there is no label; for other types (position, target) float32, NaN
            where there is no label.
        """
        values = self.labels.values
        if self.record.level == "nucleotide":
            parts = [values[self._first[i] : self._first[i + 1]] for i in samples]
        elif self.record.level == "bin":
            parts = [values[i, : self.counts[i]] for i in samples]
        else:
            parts = [values[samples]]
        flat = np.concatenate(parts)
        if self.record.type == "class":
            return torch.from_numpy(flat.astype(np.int64))
        return torch.from_numpy(flat.reshape(len(flat), -1).astype(np.float32))

    def kinds(self, samples: NDArray[np.int64]) -> list[NDArray[np.generic]]:
        """Return the different labels of some samples, per target; one target for classes.

        Parameters
        ----------
        samples
            (n,) indices.

        Returns
        -------
        list of numpy.ndarray
            Distinct labels of each target, empty where it has none.
        """
        target = self.of(samples)
        known = labelled(target)
        if target.ndim == 1:
            return [np.unique(target[known].numpy())]
        return [np.unique(column[mask].numpy()) for column, mask in zip(target.T, known.T, strict=True)]

    def _check_shape(self) -> None:
        record, values = self.record, self.labels.values
        wanted = {"nucleotide": ("nucleotide",), "bin": ("sample", "bin"), "sequence": ("sample",)}[record.level]
        allowed = {wanted} if record.type == "class" or record.level == "nucleotide" else {wanted, (*wanted, "target")}
        if self.labels.dims not in allowed:
            raise InputError(
                f"{record.name}: labels have the dimensions {self.labels.dims}; level {record.level!r} and type "
                f"{record.type!r} need {' or '.join(map(str, sorted(allowed)))}."
            )
        axis = int(self._first[-1]) if record.level == "nucleotide" else len(self.lengths)
        if values.shape[0] != axis:
            raise InputError(
                f"{record.name}: the labels have {values.shape[0]:,} entries and the samples {axis:,} "
                f"{'nucleotides' if record.level == 'nucleotide' else 'rows'}; each needs exactly one."
            )
        if record.level == "bin":
            extra = np.arange(values.shape[1]) >= self.counts[:, None]
            known = _labelled(values).reshape(*extra.shape, -1).any(axis=2)
            bad = (self.counts > values.shape[1]) | (known & extra).any(axis=1)
            if bad.any():
                i = int(np.argmax(bad))
                raise InputError(
                    f"{record.name}: sample {i} has {self.lengths[i]:,} nucleotides, which are {self.counts[i]:,} "
                    f"complete bins of {record.bin_size}, but other labels than for these (of {values.shape[1]:,})."
                )

    def _check_values(self) -> None:
        values, kind = self.labels.values, self.record.type
        if kind == "value":
            bad = np.isinf(values)
            wanted = "finite numbers, or NaN where there is no label"
        elif kind == "multilabel":
            bad = _labelled(values) & (values != 0) & (values != 1)
            wanted = "0 or 1"
        else:
            classes = len(self.names)
            bad = _labelled(values) & ((values < 0) | (values >= classes))
            wanted = f"classes 0 to {classes - 1}, or {UNLABELLED} where there is no label"
        if bad.any():
            raise InputError(
                f"{self.record.name}: {int(bad.sum()):,} labels are not {wanted}; the first is {values[bad][0]}."
            )


def window_of(record: TaskRecord) -> Window:
    """Return what an output of a network for a task stands for.

    Parameters
    ----------
    record
        The task's record.

    Returns
    -------
    None, int or "all"
        As `probes.cnn.CNN` takes it.
    """
    if record.level == "nucleotide":
        return None
    return record.bin_size if record.level == "bin" else "all"


def _labelled(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return where there is a label."""
    if values.dtype.kind == "f":
        return ~np.isnan(values)  # type: ignore[no-any-return]
    return values != UNLABELLED if values.dtype.kind == "i" else np.ones(values.shape, dtype=bool)


def labelled(target: torch.Tensor) -> torch.Tensor:
    """Return where there is a label.

    Parameters
    ----------
    target
        From `Targets.of`.

    Returns
    -------
    torch.Tensor
        bool, of the shape of `target`.
    """
    return ~torch.isnan(target) if target.is_floating_point() else target != UNLABELLED


def loss_sum(
    output: torch.Tensor, target: torch.Tensor, kind: str, positive_weight: float | None = None
) -> torch.Tensor:
    """Add up the loss over everything that has a label.

    Positions without a label contribute nothing, to the loss or to its gradient. (BEND's masked binary cross-entropy
    counts them: it takes the bitwise complement of the label for the mask.)

    Parameters
    ----------
    output
        (position, output) float, before softmax or sigmoid.
    target
        From `Targets.of`.
    kind
        Type of the task: ``"class"``, cross-entropy; ``"multilabel"``, binary cross-entropy per target; ``"value"``,
        squared error.
    positive_weight
        Factor for the loss of positive labels of a multilabel task, default 1.

    Returns
    -------
    torch.Tensor
        Scalar; divide by ``labelled(target).sum()`` for the mean.
    """
    if kind == "class":
        return functional.cross_entropy(output, target, ignore_index=UNLABELLED, reduction="sum")
    mask = labelled(target)
    if kind == "value":
        return functional.mse_loss(output[mask], target[mask], reduction="sum")
    weight = None if positive_weight is None else output.new_tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(output[mask], target[mask], pos_weight=weight, reduction="sum")
