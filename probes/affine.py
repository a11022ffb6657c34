"""What linear probes share: outputs from coefficients, and how a penalty is chosen without validation samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embedstore.errors import InputError
from probes.base import Probe
from probes.chunks import position_means

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from probes.dataset import Part, ProbeData

BATCH = 256
"""Samples that are predicted at once."""
FOLDS = 5
"""Parts that samples are cut into where a penalty is to be chosen without validation samples."""


class LinearProbe(Probe):
    """A probe whose outputs are linear in the rows: tokens are multiplied first, then averaged or repeated.

    Attributes
    ----------
    coefficient_ : numpy.ndarray
        (channel, output) float64, for rows as they are.
    intercept_ : numpy.ndarray
        (output,) float64.
    penalty_ : float
        The chosen penalty.
    """

    coefficient_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    penalty_: float

    def outputs(self, data: ProbeData) -> Iterator[tuple[Part, torch.Tensor]]:
        """Apply to samples in their order.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Yields
        ------
        Part, torch.Tensor
            Some samples and the outputs for their positions, shape (position, output), float32.
        """
        self._check_input(data)
        for parts in data.batches(BATCH):
            for part in parts:
                values = part.vector.cpu().numpy().astype(np.float64) @ self.coefficient_ + self.intercept_
                if data.record.level == "nucleotide":
                    values = np.repeat(values, part.span, axis=0)
                else:
                    values = position_means(values, part, data.record)
                yield part, torch.from_numpy(values.astype(np.float32))

    def _check_input(self, data: ProbeData) -> None:
        super()._check_input(data)
        if data.width != len(self.coefficient_):
            raise InputError(f"the probe was trained on {len(self.coefficient_)} channels; {data!r} has {data.width}.")

    def weights(self) -> dict[str, torch.Tensor]:
        """Return coefficients (channel, output) and intercepts (output,), float64.

        Returns
        -------
        dict
        """
        return {"coefficient": torch.from_numpy(self.coefficient_), "intercept": torch.from_numpy(self.intercept_)}

    def about(self) -> dict[str, Any]:
        """Return the chosen penalty.

        Returns
        -------
        dict
        """
        return {"penalty": self.penalty_}

    def take_weights(self, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Become the fitted probe that had these weights.

        Parameters
        ----------
        weights
            From `weights`.
        about
            From `about`.
        """
        self.coefficient_, self.intercept_ = weights["coefficient"].numpy(), weights["intercept"].numpy()
        self.penalty_ = about["penalty"]


def sample_parts(data: ProbeData) -> NDArray[np.str_]:
    """Cut samples at random, always in the same way, into five parts, or fewer where there are fewer samples.

    Parameters
    ----------
    data
        The samples.

    Returns
    -------
    numpy.ndarray
        (sample,) name of the part of each.
    """
    return np.asarray(np.random.default_rng(0).permutation(len(data)) % min(FOLDS, len(data)), dtype=str)
