"""The two-layer convolutional probe of BEND, over nucleotides and, with equal results, over tokens.

Source: BEND (Marin et al., ICLR 2024), `bend/models/downstream.py`, class CNN. Its weights have the same names here, so
a state dictionary of one loads into the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from embedstore.errors import InputError
from probes.spans import gather_sum, layout

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from probes.spans import Gather, Layout, Window


class _Transpose(nn.Module):
    """Swap positions and channels; also what keeps the numbering of BEND's weight names."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class CNN(nn.Module):
    """Convolution, GELU, convolution, GELU, [average over windows], linear layer.

    Both convolutions keep the length (zeros beyond the ends). There is no normalisation and no dropout.

    Parameters
    ----------
    input_size
        Channels of the embedding.
    output_size
        Classes or targets.
    hidden
        Channels of both convolutions, default 64.
    kernel
        Width of both convolutions in nucleotides, odd, default 3.
    window
        What an output stands for: None (default), one nucleotide; a number, that many nucleotides, an incomplete last
        window being dropped; ``"all"``, the sequence.

    Attributes
    ----------
    receptive_field : int
        Nucleotides that decide a position before averaging: 5 with kernel 3.

    Raises
    ------
    InputError
        The kernel is even.

    Examples
    --------
    >>> CNN(4, 9)(torch.zeros(2, 50, 4)).shape
    torch.Size([2, 50, 9])
    """

    def __init__(
        self, input_size: int, output_size: int, hidden: int = 64, kernel: int = 3, window: Window = None
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"the kernel must be an odd number of nucleotides; got {kernel}")
        self.window, self.kernel = window, kernel
        self.receptive_field = 2 * (kernel - 1) + 1
        self.conv1 = _convolution(input_size, hidden, kernel)
        self.conv2 = _convolution(hidden, hidden, kernel)
        self.linear = nn.Sequential(nn.Linear(hidden, output_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network to vectors at nucleotide resolution, sequences of one length.

        This is the definition; `forward_tokens` gives the same numbers faster.

        Parameters
        ----------
        x
            (sequence, nucleotide, channel) float.

        Returns
        -------
        torch.Tensor
            (sequence, output position, output): one output per nucleotide or per window, before any softmax or
            sigmoid.
        """
        x = self.conv2(self.conv1(x))
        if self.window == "all":
            x = x.mean(dim=1, keepdim=True)
        elif self.window is not None:
            x = nn.functional.avg_pool1d(x.transpose(1, 2), self.window).transpose(1, 2)
        result: torch.Tensor = self.linear(x)
        return result

    def layout(self, span: ArrayLike, first_row: ArrayLike) -> Layout:
        """Plan `forward_tokens` for the rows of some sequences.

        Parameters
        ----------
        span, first_row
            See `probes.spans.layout`.

        Returns
        -------
        Layout
        """
        return layout(span, first_row, self.kernel, self.window)

    def forward_tokens(self, vector: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Apply the network to rows that stand for spans of nucleotides, sequences of any lengths.

        Every sequence is treated as if it were alone: outside it there are zeros before either convolution. (BEND pads
        a batch to its longest sequence, so there a sequence's last positions depend on what else is in its batch.)

        Parameters
        ----------
        vector
            (row, channel) float of any precision, all sequences one after another, no padding.
        layout
            From `layout`, or from `probes.spans.layout` with this network's kernel and window.

        Returns
        -------
        torch.Tensor
            (output position, output), all sequences one after another.
        """
        x = _convolve_tokens(self.conv1, vector.to(next(self.parameters()).dtype), layout.conv1)
        x = _convolve_tokens(self.conv2, x, layout.conv2)
        # Linear layer and gather commute; each order does the linear layer on the fewer rows.
        if self.window is None:
            return gather_sum(self.linear(x), layout.output)
        result: torch.Tensor = self.linear(gather_sum(x, layout.output))
        return result


def _convolution(input_size: int, hidden: int, kernel: int) -> nn.Sequential:
    """Return one convolution with its GELU, positions before channels."""
    return nn.Sequential(
        _Transpose(), nn.Conv1d(input_size, hidden, kernel, padding=kernel // 2), _Transpose(), nn.GELU()
    )


def _convolve_tokens(layer: nn.Sequential, x: torch.Tensor, gather: Gather) -> torch.Tensor:
    """Multiply each row by the weights of every tap, add up what each position sees, apply the GELU."""
    weight, bias = layer[1].parameters()
    taps = weight.permute(2, 0, 1).flatten(0, 1)  # (tap x hidden, channel)
    products = (x @ taps.T).view(-1, weight.shape[0])
    return nn.functional.gelu(gather_sum(products, gather) + bias)
