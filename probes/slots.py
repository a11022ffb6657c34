"""Probes of secondary structure: a head for each place that a residue's codon can have in its token."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from embedstore.errors import InputError, did_you_mean
from probes.affine import BATCH, LinearProbe
from probes.base import Probe
from probes.linear import RidgeProbe
from probes.logistic import LogisticProbe
from probes.metrics import check_metric
from probes.residues import (
    GENERIC,
    SINGLE,
    TAILS,
    ResidueData,
    Tail,
    assigned,
    count_residues,
    letters_per_residue,
    offset_channels,
    residues_of,
    slot_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from embedstore.tasks import TaskRecord
    from probes.dataset import Part, ProbeData

logger = logging.getLogger(__name__)

LEAST = 100
"""Labelled training residues that a slot needs to have a head of its own."""


class SlotProbe(Probe):
    """Logistic regression on residues, with coefficients of their own for each slot of a token.

    A residue's feature is the mean of the rows of its three nucleotides (of its one row, in a protein). Its slot is 0
    where its codon is the first of a token, 1 where it is the second, and so on, told from the spans of the rows;
    letters that are tokens by themselves, as after the last full token, go through slot 0. All other residues, as those
    behind an N that shifts the frame, go through a generic head, which is fitted to all residues and also knows where
    in its token a residue begins. A slot with fewer than `LEAST` labelled residues, or whose labels are all alike in
    training or validation, uses the generic head too. Each head is a `probes.linear.LogisticProbe` with a penalty of
    its own.

    Source of the heads: token classification with two outputs per 6-mer, as in Boshar et al. 2024.

    Parameters
    ----------
    slots
        How many slots a token may have, default 2, as tokens of six letters do; 0 for the generic head alone.
    tail
        What is done with residues whose three letters are tokens by themselves: ``"slot0"`` (default); ``"generic"``,
        the generic head; ``"drop"``, they are not learnt from, and predicted through slot 0.
    penalties
        What to choose the penalties from; None (default) for those of `probes.linear.LogisticProbe`.
    progress
        Show a progress bar, default True.

    Attributes
    ----------
    coefficient_, intercept_ : dict of str to numpy.ndarray
        By head, (channel, class) and (class,) float64, for rows as they are. The generic head has
        `probes.residues.OFFSETS` more channels.
    penalty_ : dict of str to float
        The chosen penalty of each head.
    counts_ : pandas.DataFrame
        Training residues by slot and class, from `probes.residues.count_residues`.
    majority_ : int
        The most frequent class in training.
    history_ : pandas.DataFrame
        That of the heads, one after another, with a column ``head``; ``valid`` is called ``valid_metric``.
    """

    inner: ClassVar[type[LinearProbe]] = LogisticProbe
    """What each head is."""

    coefficient_: dict[str, NDArray[np.float64]]
    intercept_: dict[str, NDArray[np.float64]]
    penalty_: dict[str, float]
    counts_: pd.DataFrame

    def __init__(
        self, slots: int = 2, tail: Tail = "slot0", penalties: tuple[float, ...] | None = None, progress: bool = True
    ) -> None:
        self.slots = slots
        self.tail = tail
        self.penalties = penalties
        self.progress = progress

    def check_fits(self, record: TaskRecord, outputs: int, width: int, lengths: NDArray[np.int64]) -> None:  # noqa: ARG002
        """Refuse a task that has no class for each residue; see `probes.base.Probe.check_fits`."""
        if isinstance(self.slots, bool) or not isinstance(self.slots, int) or self.slots < 0:
            raise InputError(f"slots is {self.slots!r}; it must be a whole number, 0 or more.")
        if self.tail not in TAILS:
            hint = did_you_mean(str(self.tail), TAILS)
            raise InputError(f"tail is {self.tail!r}; it must be one of {', '.join(TAILS)}.{hint}")
        if (record.level, record.type) != ("nucleotide", "class"):
            raise InputError(
                f"task {record.name!r} has labels of level {record.level!r} and type {record.type!r}; slots are for a "
                "class of each residue (level 'nucleotide', type 'class'). Use another probe."
            )
        letters = letters_per_residue(record)
        odd = np.flatnonzero(lengths % letters)
        if len(odd):
            raise InputError(
                f"task {record.name!r}: sample {odd[0]} has {lengths[odd[0]]:,} nucleotides, which are no whole codons "
                f"({len(odd):,} samples in all). Give coding sequences from their first codon to their last."
            )

    def fit(self, data: ProbeData, valid: ProbeData | None = None) -> Self:
        """Fit all heads.

        Parameters
        ----------
        data
            To fit to.
        valid
            To choose the penalties with; without it as a probe of one head does.

        Returns
        -------
        SlotProbe
            Itself.

        Raises
        ------
        InputError
            The task is not one of residues, there is no label, letters of one residue differ in their labels, or tokens
            of several codons were stored for each nucleotide.
        NonFiniteError
            A row holds NaN or infinity.
        """
        check_metric(data.record)
        self.check_fits(data.record, len(data.targets.names), data.width, data.targets.lengths[data.samples])
        data.check_apart(valid)
        self._remember(data, 0)
        self.counts_ = count_residues(data, self.slots)
        self.coefficient_, self.intercept_, self.penalty_ = {}, {}, {}
        histories = []
        for head in self._heads(valid):
            name = slot_name(head)
            fitted = self._fit_head(head, data, valid)
            self.coefficient_[name], self.intercept_[name] = fitted.coefficient_, fitted.intercept_
            self.penalty_[name] = fitted.penalty_
            histories.append(fitted.history_.rename(columns={"valid": "valid_metric"}).assign(head=name))
            self.best_epoch_ = sum(map(len, histories[:-1])) + fitted.best_epoch_
        self.history_ = pd.concat(histories, ignore_index=True)
        return self

    @property
    def majority_(self) -> int:
        """The most frequent class in training."""
        return int(self.counts_[list(self.names_)].sum().to_numpy().argmax())

    def _heads(self, valid: ProbeData | None) -> list[int]:
        """Return the slots that get a head of their own, and the generic one, which comes last."""
        tables = [self.counts_] if valid is None else [self.counts_, count_residues(valid, self.slots)]
        seen = [self._by_head(table) for table in tables]
        present = [head for head, labels in seen[0].items() if labels.any()]
        own = []
        for head in present:
            if head == GENERIC or len(present) == 1:
                continue
            if seen[0][head].sum() < LEAST or any((labels[head] > 0).sum() < 2 for labels in seen):
                logger.warning(
                    "%s: too few labels, or all alike, for a head of its own; it uses the generic one", slot_name(head)
                )
                continue
            own.append(head)
        return [*own, GENERIC]

    def _by_head(self, table: pd.DataFrame) -> dict[int, NDArray[np.int64]]:
        """Return the labelled residues of each head by class."""
        counts = table[list(self.names_)]
        found = {head: counts.loc[slot_name(head)].to_numpy().copy() for head in (*range(self.slots), GENERIC)}
        if self.tail != "drop":
            found[int(self._head_of(np.array([SINGLE]))[0])] += counts.loc[slot_name(SINGLE)].to_numpy()
        return found

    def _head_of(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the head of residues by slot; without slots all have the generic one."""
        return assigned(slot, self.tail if self.slots else "generic")

    def _fit_head(self, head: int, data: ProbeData, valid: ProbeData | None) -> LinearProbe:
        """Fit one head to the residues that it is for."""
        options = {} if self.penalties is None else {"penalties": self.penalties}
        parts = [None if part is None else ResidueData.of(part, head, self.slots, self.tail) for part in (data, valid)]
        made: Any = self.inner
        fitted: LinearProbe = made(**options, progress=self.progress).fit(*parts)
        return fitted

    def outputs(self, data: ProbeData) -> Iterator[tuple[Part, torch.Tensor]]:
        """Apply to samples in their order; the nucleotides of a residue have one output.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Yields
        ------
        Part, torch.Tensor
            Some samples and the outputs for their nucleotides, shape (nucleotide, class), float32.
        """
        self._check_input(data)
        self.check_fits(data.record, len(self.names_), data.width, data.targets.lengths[data.samples])
        letters = letters_per_residue(data.record)
        for part in (part for parts in data.batches(BATCH) for part in parts):
            found = residues_of(part, data.record, self.slots)
            head = self._head_of(found.places.slot)
            values = np.empty((len(head), len(self.names_)), np.float32)
            for name in self.coefficient_:
                if name == slot_name(GENERIC):
                    continue
                own = head == int(name.removeprefix("slot "))
                values[own] = found.x[own].astype(np.float64) @ self.coefficient_[name] + self.intercept_[name]
                head[own] = SINGLE  # done
            rest, name = head != SINGLE, slot_name(GENERIC)
            x = offset_channels(found.x[rest], found.places.offset[rest])
            values[rest] = x @ self.coefficient_[name] + self.intercept_[name]
            yield part, torch.from_numpy(np.repeat(values, letters, axis=0))

    def weights(self) -> dict[str, torch.Tensor]:
        """Return coefficients (channel, class) and intercepts (class,) of each head, float64.

        Returns
        -------
        dict
        """
        found = {f"{name}.coefficient": torch.from_numpy(value) for name, value in self.coefficient_.items()}
        return found | {f"{name}.intercept": torch.from_numpy(value) for name, value in self.intercept_.items()}

    def about(self) -> dict[str, Any]:
        """Return the chosen penalties and the counts of training residues.

        Returns
        -------
        dict
        """
        counts = {name: row.tolist() for name, row in self.counts_.iterrows()}
        return {"penalty": self.penalty_, "counts": counts, "columns": list(self.counts_)}

    def take_weights(self, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Become the fitted probe that had these weights.

        Parameters
        ----------
        weights
            From `weights`.
        about
            From `about`.
        """
        self.penalty_ = dict(about["penalty"])
        self.coefficient_ = {name: weights[f"{name}.coefficient"].numpy() for name in self.penalty_}
        self.intercept_ = {name: weights[f"{name}.intercept"].numpy() for name in self.penalty_}
        self.counts_ = pd.DataFrame.from_dict(about["counts"], orient="index", columns=about["columns"])
        self.counts_.index.name = "slot"


class SlotRidgeProbe(SlotProbe):
    """As `SlotProbe`, each head a `probes.linear.RidgeProbe`: solved from sums, whatever the number of residues."""

    probabilities: ClassVar[bool] = False
    inner: ClassVar[type[LinearProbe]] = RidgeProbe
