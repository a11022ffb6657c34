"""Causal convolutions of each channel by itself: short ones, and ones as long as the sequence."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from embedstore.models.precision import arithmetic

if TYPE_CHECKING:
    from torch import Tensor

SPECTRA_BYTES = 2**28
"""What a long filter keeps of its spectra beside the one it used last."""

PLAIN_TOKENS = 4096
"""Sequences up to this length are transformed at twice their length, longer ones at the next length that is fast."""

_SHIFT = 0.05  # what the window of a long filter decays to; fixed in the published code


class CausalConvolution(nn.Conv1d):
    """A convolution of each channel by itself over (batch, token, channel); a token sees itself and those before it.

    Written as shifted products, which on a CPU gives the very numbers of the one-dimensional operator, whose parameters
    it has, two to three times as fast and with no transposed copies.

    Parameters
    ----------
    channels
        Channels in and out.
    kernel
        Tokens under it.
    bias
        Whether there is one. Default True.
    """

    def __init__(self, channels: int, kernel: int, bias: bool = True) -> None:
        super().__init__(channels, channels, kernel, groups=channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x
            Shape (batch, token, channel).

        Returns
        -------
        Tensor
            The same shape.
        """
        taps = self.weight.unbind(-1)
        padded = functional.pad(x, (0, 0, len(taps) - 1, 0))
        y: Tensor = x.new_zeros(()) if self.bias is None else self.bias
        for i, tap in enumerate(taps):
            y = torch.addcmul(y, padded[:, i : i + x.shape[1]], tap[:, 0])
        return y


class LongFilter(nn.Module):
    """A causal convolution as long as the sequence, whose filter is a small network's function of the position.

    The filter does not depend on the sequence, and the one for fewer positions is the beginning of the one for more. So
    its spectrum is computed once for every size of transform and kept: always the one used last, and those used before
    as far as they fit into `SPECTRA_BYTES`. A spectrum takes 8 bytes per channel and position.

    Parameters
    ----------
    channels, tokens
        Of the sequences: channels, and the most tokens.
    features, width, layers
        Of the small network: features of a position, channels, hidden layers after the first.

    References
    ----------
    Poli et al. 2023, Hyena hierarchy, arXiv:2302.10866, section 3.3.
    """

    positions: Tensor
    times: Tensor

    def __init__(self, channels: int, tokens: int, features: int, width: int, layers: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(size, width) for size in [features, *[width] * layers])
        self.frequency = nn.Parameter(torch.empty(1, width))
        self.out = nn.Linear(width, channels, bias=False)
        self.decay = nn.Parameter(torch.empty(1, 1, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("positions", torch.empty(1, tokens, features))
        self.register_buffer("times", torch.empty(1, tokens, 1))
        self._spectra: OrderedDict[int, Tensor] = OrderedDict()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, in the precision of the parameters whatever autocast says.

        A transform rounds all rows alike, by 1e-7 of the largest, which shows in rows of small values after the next
        norm. Where time allows, its size and the order of operations are those of the published code, for the same
        roundings.

        Parameters
        ----------
        x
            Shape (batch, token, channel).

        Returns
        -------
        Tensor
            The same shape.
        """
        length = x.shape[1]
        size = 2 * length if length <= PLAIN_TOKENS else fast_length(2 * length)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.bias.dtype)
            spectrum = torch.fft.rfft(x.transpose(1, 2), size) * self._spectrum(size)
            y: Tensor = torch.fft.irfft(spectrum, size, norm="forward")[..., :length].transpose(1, 2)
            return y + x * self.bias

    def response(self, length: int) -> Tensor:
        """Compute the filter.

        Parameters
        ----------
        length
            Number of positions, from the first.

        Returns
        -------
        Tensor
            Shape (position, channel).
        """
        x = self.positions[0, :length]
        for linear in self.hidden:
            x = torch.sin(self.frequency * linear(x))
        window = torch.exp(-self.times[0, :length] * self.decay[0].abs())
        response: Tensor = self.out(x) * (window + _SHIFT)
        return response

    def _spectrum(self, size: int) -> Tensor:
        """Return the filter's transform of a size, shape (channel, frequency), for sequences up to half that size."""
        if torch.is_grad_enabled() and self.frequency.requires_grad:
            self._spectra.clear()  # the parameters are about to change
            return self._transform(size)
        if size not in self._spectra:
            # In full float32 even where the network is not: the sines multiply errors of their arguments by ten or so.
            with arithmetic("float32", self.bias.device):
                spectrum = self._transform(size)
            # Torch forbids gradients through what was made in inference mode, and a later call may want the sequence's.
            with torch.inference_mode(False):
                self._spectra[size] = spectrum.clone()
            while len(self._spectra) > 1 and sum(s.nbytes for s in self._spectra.values()) > SPECTRA_BYTES:
                self._spectra.popitem(last=False)
        self._spectra.move_to_end(size)
        return self._spectra[size]

    def _transform(self, size: int) -> Tensor:
        # Half the size of a transform is what it takes without the end running into the beginning. Products of very few
        # rows are rounded in another way, so that the filter for them would not quite begin those for more.
        length = size // 2
        response = self.response(min(max(length, 16), self.positions.shape[1]))[:length]
        spectrum: Tensor = torch.fft.rfft(response.T, size) / size
        return spectrum

    def _apply(self, fn: Any, recurse: bool = True) -> LongFilter:
        """Forget the spectra of another device or precision."""
        self._spectra.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Forget the spectra of other weights."""
        self._spectra.clear()
        super()._load_from_state_dict(*args, **kwargs)


def fast_length(least: int) -> int:
    """Return the next length of which Fourier transforms are fast: 2 ** a * 3 ** b * 5 ** c.

    Parameters
    ----------
    least
        The shortest that will do, at least 1.

    Returns
    -------
    int

    Examples
    --------
    >>> [fast_length(n) for n in (1, 7, 1024, 1025, 2050)]
    [1, 8, 1024, 1080, 2160]
    """
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-least // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best
