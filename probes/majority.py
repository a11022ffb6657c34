"""The baseline that reads no rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch

from embedstore.errors import InputError
from probes.affine import BATCH
from probes.base import Probe
from probes.metrics import check_metric
from probes.targets import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from probes.dataset import Part, ProbeData


class MajorityProbe(Probe):
    """The most frequent class, the share of positives of each target, or the mean: what needs no rows at all.

    Attributes
    ----------
    intercept_ : numpy.ndarray
        (output,) float64: logarithms of the shares of classes, log-odds of 0/1 targets, or means. A count of 0 is taken
        for one half, so that logarithms are finite.
    """

    intercept_: NDArray[np.float64]

    def __init__(self) -> None:
        pass

    def fit(self, data: ProbeData, valid: ProbeData | None = None) -> Self:
        """Count.

        Parameters
        ----------
        data
            Samples whose labels are counted.
        valid
            Its loss and metric are noted.

        Returns
        -------
        MajorityProbe
            Itself.

        Raises
        ------
        InputError
            There is no label.
        """
        check_metric(data.record)
        self._remember(data, 0)
        outputs = len(self.names_)
        n, total = np.zeros(outputs), np.zeros(outputs)
        for start in range(0, len(data), BATCH):
            target = data.targets.of(data.samples[start : start + BATCH]).numpy()
            if data.record.type == "class":
                counts = np.bincount(target[target != UNLABELLED], minlength=outputs)
                n, total = n + counts.sum(), total + counts
            else:
                n, total = n + (~np.isnan(target)).sum(axis=0), total + np.nansum(target, axis=0, dtype=np.float64)
        if not n.any():
            raise InputError(f"{data!r}: no sample has a label; there is nothing to count.")
        if data.record.type == "class":
            self.intercept_ = np.log(np.maximum(total, 0.5) / n)
        elif data.record.type == "multilabel":
            self.intercept_ = np.log(np.maximum(total, 0.5) / np.maximum(n - total, 0.5))
        else:
            self.intercept_ = total / np.maximum(n, 1)
        self.best_epoch_ = 1
        checked = {} if valid is None else {"valid_loss": self.evaluate(valid).loss, "valid": self.score(valid)}
        self.history_ = pd.DataFrame([{"train_loss": self.evaluate(data).loss, **checked}])
        return self

    def outputs(self, data: ProbeData) -> Iterator[tuple[Part, torch.Tensor]]:
        """Give the same outputs for every position.

        Parameters
        ----------
        data
            Samples of the task.

        Yields
        ------
        Part, torch.Tensor
            Some samples and the outputs for their positions, shape (position, output), float32.
        """
        self._check_input(data)
        constant = torch.from_numpy(self.intercept_.astype(np.float32))
        for parts in data.batches(BATCH):
            for part in parts:
                yield part, constant.repeat(len(part.target), 1)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the outputs, (output,) float64.

        Returns
        -------
        dict
        """
        return {"intercept": torch.from_numpy(self.intercept_)}

    def take_weights(self, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Become the fitted probe that had these weights.

        Parameters
        ----------
        weights
            From `weights`.
        about
            Nothing that is needed here.
        """
        self.intercept_ = weights["intercept"].numpy()
