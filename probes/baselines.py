"""Supervised networks on the letters themselves: BEND's dilated ResNet and Basset."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from embedstore.errors import InputError
from embedstore.models.convnet import ConvNet, ConvNetSpec, official_names
from probes.cnn import CNN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from probes.spans import Layout, Window

LETTERS = 5
"""Letters of BEND's one-hot vectors: A, C, G, N, T, in this order."""


def letter_ids(one_hot: torch.Tensor) -> torch.Tensor:
    """Turn one-hot rows of A, C, G, T into BEND's numbers of letters.

    Parameters
    ----------
    one_hot
        (nucleotide, 4), all zeros for N.

    Returns
    -------
    torch.Tensor
        (nucleotide,) int64: 0 A, 1 C, 2 G, 3 N, 4 T.
    """
    number = one_hot.float() @ one_hot.new_tensor([1, 2, 3, 5], dtype=torch.float32)
    return torch.where(number > 0, number - 1, 3).long()


class Apart(NamedTuple):
    """Sequences one after another with gaps between, wide enough that no convolution reaches across."""

    place: torch.Tensor
    total: int
    probe: Layout

    def to(self, device: torch.device | str) -> Apart:
        """Copy to a device."""
        return Apart(self.place.to(device), self.total, self.probe.to(device))


class Count(NamedTuple):
    """How many sequences there are, all of one length."""

    sequences: int

    def to(self, device: torch.device | str) -> Count:  # noqa: ARG002 - as other layouts
        """Return itself: a number is nowhere."""
        return self


def _lengths(span: ArrayLike, first_row: ArrayLike) -> NDArray[np.int64]:
    """Return how long sequences are; every row must be a nucleotide."""
    spans, first = np.asarray(span), np.asarray(first_row, dtype=np.int64)
    if (spans != 1).any():
        raise InputError(
            f"this network reads letters: a row for each nucleotide, not one for {int(spans.max())} of them"
        )
    return np.diff(first)


class ResNet(nn.Module):
    """BEND's supervised baseline: a dilated residual network on one-hot letters, then the two-layer CNN.

    Source: BEND, `bend/models/downstream.py`, class ConvNetForSupervised. Its published text gives kernel 9; the
    configuration that was shipped passes the CNN's kernel 3 on to the encoder. Beyond the ends of a sequence there are
    zeros in every layer, whatever else is in its batch; BEND pads with the letter A.

    Parameters
    ----------
    output_size
        Classes or targets.
    hidden
        Channels of the CNN, default 64.
    kernel
        Width of the CNN's convolutions, default 3.
    encoder_hidden, encoder_layers
        Channels and blocks of the residual network, default 256 and 30.
    encoder_kernel
        Width of its convolutions: 3 (default), what BEND ran, or 9, what it meant.
    window
        See `probes.cnn.CNN`.

    Attributes
    ----------
    receptive_field : int
        Nucleotides that decide a position before averaging: 635 by default, of which 631 are the encoder's; 2,525 and
        2,521 with ``encoder_kernel=9``.
    """

    def __init__(
        self,
        output_size: int,
        hidden: int = 64,
        kernel: int = 3,
        encoder_hidden: int = 256,
        encoder_layers: int = 30,
        encoder_kernel: int = 3,
        window: Window = None,
    ) -> None:
        super().__init__()
        if encoder_hidden < LETTERS or encoder_kernel % 2 == 0:
            raise InputError(
                f"encoder_hidden is {encoder_hidden} and encoder_kernel {encoder_kernel}; wanted are {LETTERS} "
                "channels or more, one for each letter, and an odd kernel"
            )
        self.spec = ConvNetSpec(LETTERS, encoder_hidden, encoder_layers, encoder_kernel)
        self.encoder = ConvNet(self.spec, head=False)
        self.probe = CNN(encoder_hidden, output_size, hidden, kernel, window)
        reach = (encoder_kernel - 1) * sum(self.spec.dilations())
        self.receptive_field = reach + self.probe.receptive_field

    def layout(self, span: ArrayLike, first_row: ArrayLike) -> Apart:
        """Plan `forward_tokens`; see `probes.cnn.CNN.layout`. Every row must stand for one nucleotide."""
        lengths = _lengths(span, first_row)
        gap = (self.spec.kernel_size // 2) * max(self.spec.dilations(), default=0)
        number = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(number)) + gap * number
        total = len(number) + gap * (len(lengths) - 1)
        return Apart(torch.from_numpy(place), total, self.probe.layout(span, first_row))

    def encode(self, ids: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Apply the residual network.

        Parameters
        ----------
        ids
            (batch, place) int64, letters as `letter_ids` numbers them.
        real
            (batch, place, 1) bool, which places hold a nucleotide; None where all do. Others are zero to convolutions.

        Returns
        -------
        torch.Tensor
            (batch, place, channel).
        """
        x = nn.functional.one_hot(ids, self.spec.hidden_size).float()
        for block in self.encoder.blocks:
            x = block(x, real)
        return x

    def forward_tokens(self, vector: torch.Tensor, layout: Apart) -> torch.Tensor:
        """Apply the network to one-hot rows (nucleotide, 4); returns (output position, output)."""
        ids = torch.zeros(layout.total, dtype=torch.int64, device=vector.device)
        real = torch.zeros(layout.total, dtype=torch.bool, device=vector.device)
        ids[layout.place], real[layout.place] = letter_ids(vector), True
        encoded = self.encode(ids[None], real[None, :, None])[0, layout.place]
        return self.probe.forward_tokens(encoded, layout.probe)

    def load_bend(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take the weights of BEND's ConvNetForSupervised.

        Parameters
        ----------
        weights
            Under BEND's names.
        """
        names = official_names(self.spec, head=False)
        own = {f"encoder.{ours}": weights[f"encoder.{theirs}"] for ours, (theirs,) in names.items()}
        prefix = "downstream_cnn."
        own |= {name.replace(prefix, "probe."): weights[name] for name in weights if name.startswith(prefix)}
        self.load_state_dict(own)


class Basset(nn.Module):
    """Basset as BEND has it, for whole sequences of one length.

    Source: Kelley et al. 2016, Genome Res. 26:990; BEND, `bend/models/basset.py`, whose names its weights have here. As
    there, nothing but dropout lies between the last two linear layers. Statistics of the batch norms are those of the
    part of a batch that is computed at once, about 50,000 nucleotides.

    Parameters
    ----------
    output_size
        Targets.
    length
        Nucleotides of each sequence.
    hidden
        Channels of the linear layers, default 1,000.
    channels, kernels, pools
        Of the three convolutions, and the places that each pools together.
    dropout
        Default 0.3.

    Attributes
    ----------
    receptive_field : None
        The whole sequence.

    Raises
    ------
    InputError
        Sequences of this length leave nothing after pooling.
    """

    receptive_field = None

    def __init__(
        self,
        output_size: int,
        length: int,
        hidden: int = 1000,
        channels: Sequence[int] = (300, 200, 200),
        kernels: Sequence[int] = (19, 11, 7),
        pools: Sequence[int] = (3, 4, 4),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.length = length
        left = length
        for pool in pools:
            left //= pool
        if left < 1:
            raise InputError(
                f"sequences of {length} nucleotides leave nothing after pooling by {', '.join(map(str, pools))}: "
                f"Basset needs {int(np.prod(pools))} or more"
            )
        stages: list[nn.Module] = []
        for before, after, kernel, pool in zip((LETTERS, *channels), channels, kernels, pools, strict=False):
            convolution = nn.Conv1d(before, after, kernel, padding="same")
            stages += [convolution, nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(pool)]
        self.conv_net = nn.Sequential(*stages)
        self.clf = nn.Sequential(
            nn.Flatten(),
            nn.Linear(left * channels[-1], hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, output_size),
        )

    def layout(self, span: ArrayLike, first_row: ArrayLike) -> Count:
        """Plan `forward_tokens`; every row stands for one nucleotide, and every sequence has the one length."""
        lengths = _lengths(span, first_row)
        if (lengths != self.length).any():
            other = int(lengths[lengths != self.length][0])
            raise InputError(f"Basset was made for sequences of {self.length} nucleotides; here is one of {other}")
        return Count(len(lengths))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Apply the network to letters (sequence, nucleotide), numbered as `letter_ids` does; (sequence, output)."""
        one_hot = nn.functional.one_hot(ids, LETTERS).float().transpose(1, 2)
        result: torch.Tensor = self.clf(self.conv_net(one_hot))
        return result

    def forward_tokens(self, vector: torch.Tensor, layout: Count) -> torch.Tensor:
        """Apply the network to one-hot rows (nucleotide, 4); returns (sequence, output)."""
        return self.forward(letter_ids(vector).view(layout.sequences, self.length))
