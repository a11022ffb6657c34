"""The dilated residual convolutional language model of BEND (there called ConvNet, after GPN)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from embedstore.errors import CheckpointError
from embedstore.models.network import Network, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.models.layers import Layer


@dataclass(frozen=True)
class ConvNetSpec:
    """The sizes of a network; the fields bear the names of its ``config.json``.

    Attributes
    ----------
    vocab_size, hidden_size, n_layers, kernel_size
        Ids, channels, blocks, nucleotides under a convolution. Ids become one-hot vectors of `hidden_size` channels, so
        `hidden_size` is at least `vocab_size`.
    dilation_cycle, dilation_double_every, dilation_max
        Block i (from 0) has the dilation ``min(dilation_max, 2 ** ((i % dilation_cycle) // dilation_double_every))``.
    """

    vocab_size: int
    hidden_size: int
    n_layers: int
    kernel_size: int = 9
    dilation_cycle: int = 6
    dilation_double_every: int = 1
    dilation_max: int = 32

    def dilations(self) -> list[int]:
        """Return the dilation of every block.

        Returns
        -------
        list of int
            Length `n_layers`.

        Examples
        --------
        >>> ConvNetSpec(vocab_size=7, hidden_size=24, n_layers=8).dilations()
        [1, 2, 4, 8, 16, 32, 1, 2]
        """
        return [
            min(self.dilation_max, 2 ** ((i % self.dilation_cycle) // self.dilation_double_every))
            for i in range(self.n_layers)
        ]

    def checkpoint(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return a network as BEND's ConvNetForMaskedLM is stored.

        Parameters
        ----------
        network
            A `ConvNet` of these sizes, with its head.

        Returns
        -------
        config : dict
            Contents of ``config.json``.
        tensors : dict of str to Tensor
            Its parameters under BEND's names.
        """
        config = {"architectures": ["ConvNetForMaskedLM"], "model_type": "ConvNet", "torch_dtype": "float32"}
        own = network.state_dict()
        tensors = {theirs: own[ours] for ours, (theirs,) in official_names(self, head=True).items()}
        return config | asdict(self), tensors


class ConvNet(Network):
    """Blocks of a dilated convolution and a position-wise layer, each with GELU, norm and a residual connection.

    The state 0 is the one-hot input; there is no norm after the last block.

    Parameters
    ----------
    spec
        Its sizes.
    head
        Whether it has a masked-LM head.

    References
    ----------
    Marin et al. 2024, BEND; ``bend/models/dilated_cnn.py``, classes ConvNetModel and ConvNetForMaskedLM.
    """

    pads = True

    def __init__(self, spec: ConvNetSpec, head: bool = True) -> None:
        super().__init__()
        self.width = spec.hidden_size
        self.layers = spec.n_layers
        self.blocks = nn.ModuleList(
            ConvBlock(spec.hidden_size, spec.kernel_size, dilation) for dilation in spec.dilations()
        )
        if head:
            self.head = nn.Sequential(
                nn.Linear(spec.hidden_size, spec.hidden_size),
                nn.GELU(),
                nn.LayerNorm(spec.hidden_size),
                nn.Linear(spec.hidden_size, spec.vocab_size),
            )

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the hidden states; see `Network.states`."""
        real = None
        if lengths is not None:
            real = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None])[..., None]
        x = functional.one_hot(ids, self.width).float()
        yield x
        for block in self.blocks:
            x = block(x, real)
            yield x

    def kept(self, ids: Tensor, rows: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:
        """Return a hidden state at some tokens, of which only what they see is computed; see `Network.kept`."""
        if isinstance(layer, tuple):
            return super().kept(ids, rows, layer, lengths)
        blocks = cast("list[ConvBlock]", list(self.blocks))[: self.layers if layer == -1 else layer]
        # Tokens on either side that are still needed: of the first block all that the rows see, of the last one only
        # its own kernel.
        margin = sum(block.reach for block in blocks)
        first = rows.amin(1, keepdim=True)
        wide = int((rows - first).max()) + 1
        tokens = torch.full_like(first, ids.shape[1]) if lengths is None else lengths[:, None]
        x, place = functional.one_hot(ids, self.width).float(), torch.arange(ids.shape[1], device=ids.device)[None]
        cut = False
        for block in blocks:
            if not cut and wide + 2 * margin < x.shape[1]:
                cut = True
                place = first + torch.arange(-margin, wide + margin, device=ids.device)
                x = take_rows(x, place.clamp(0, ids.shape[1] - 1))
            outside = cut or lengths is not None
            x = block(x, ((place >= 0) & (place < tokens))[..., None] if outside else None, whole=not cut)
            margin -= block.reach
            place = place[:, block.reach : place.shape[1] - block.reach] if cut else place
        return take_rows(x, rows - first if cut else rows)


class DilatedConvolution(nn.Conv1d):
    """A one-dimensional convolution over (batch, token, channel), of the same length, for odd kernels.

    In training it is done as a flat image in channels-last order, which needs no transposed copies: on a CPU that is
    1.6 to 2 times as fast as the one-dimensional operator. In evaluation it is that operator, whose roundings are those
    of the published code: the other way they differ by 2e-5 in outputs up to 25, for 5 % of the time with 256 channels.
    """

    @property
    def reach(self) -> int:
        """Tokens on either side that an output depends on."""
        return (self.kernel_size[0] - 1) // 2 * self.dilation[0]

    def forward(self, x: Tensor, whole: bool = True) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x
            Shape (batch, token, channel in).
        whole
            There is nothing beyond the ends, and as many tokens come out as go in. Else only those come out whose
            neighbours are all there.

        Returns
        -------
        Tensor
            Shape (batch, token, channel out); `reach` tokens fewer on either side where not `whole`.
        """
        dilation = self.dilation[0]
        padding = self.reach if whole else 0
        if not self.training:
            y = functional.conv1d(x.transpose(1, 2), self.weight, self.bias, padding=padding, dilation=dilation)
            return y.transpose(1, 2)
        image = x.transpose(1, 2).unsqueeze(2)
        y = functional.conv2d(image, self.weight.unsqueeze(2), self.bias, padding=(0, padding), dilation=(1, dilation))
        return y.squeeze(2).transpose(1, 2)


class ConvBlock(nn.Module):
    """A dilated convolution and a position-wise linear map, each followed by GELU and a norm.

    Parameters
    ----------
    width
        Channels.
    kernel
        Nucleotides under the convolution, an odd number.
    dilation
        Distance between them.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.convolution = DilatedConvolution(width, width, kernel, dilation=dilation)
        self.convolution_norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        self.linear_norm = nn.LayerNorm(width)

    @property
    def reach(self) -> int:
        """Tokens on either side that an output depends on."""
        return self.convolution.reach

    def forward(self, x: Tensor, real: Tensor | None = None, whole: bool = True) -> Tensor:
        """Return the next hidden state.

        Parameters
        ----------
        x
            Hidden state, shape (batch, token, width).
        real
            Which tokens are no padding, shape (batch, token, 1), bool. None (default) when all are.
        whole
            As for `DilatedConvolution`.

        Returns
        -------
        Tensor
            Shape (batch, token, width), or fewer tokens, as `DilatedConvolution` gives them.
        """
        if real is not None:
            # A convolution sees zeros beyond the end of a sequence that is alone; norms and biases fill the padding.
            x = x * real
        own = x if whole else x[:, self.reach : x.shape[1] - self.reach]
        x = own + self.convolution_norm(functional.gelu(self.convolution(x, whole)))
        y: Tensor = x + self.linear_norm(functional.gelu(self.linear(x)))
        return y


def official_names(spec: ConvNetSpec, head: bool) -> dict[str, tuple[str, ...]]:
    """Return where each parameter of a `ConvNet` is in BEND's checkpoints.

    Parameters
    ----------
    spec
        Sizes of the network.
    head
        Whether it is the masked-LM class, with the prefix ``model.`` and the head ``cls``, or the bare model.

    Returns
    -------
    dict of str to tuple of str
        Our name: (name in the file,).
    """
    prefix = "model." if head else ""
    # The numbers are places in BEND's Sequentials, whose other members have no parameters.
    parts = {"convolution": "conv.1", "convolution_norm": "conv.4", "linear": "ffn.0", "linear_norm": "ffn.2"}
    modules = {
        f"blocks.{i}.{ours}": f"{prefix}encoder.{i}.{theirs}"
        for i in range(spec.n_layers)
        for ours, theirs in parts.items()
    }
    if head:
        modules |= {f"head.{i}": f"cls.decoder.{i}" for i in (0, 2, 3)}
    return {f"{ours}.{kind}": (f"{theirs}.{kind}",) for ours, theirs in modules.items() for kind in ("weight", "bias")}


def build_convnet(checkpoint: Checkpoint) -> ConvNet:
    """Make the network of a checkpoint.

    Parameters
    ----------
    checkpoint
        Config and weights, of BEND's ConvNetForMaskedLM or ConvNetModel.

    Returns
    -------
    ConvNet
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.
    """
    checkpoint.integer("n_layers", most=len(checkpoint.weights))
    spec = ConvNetSpec(**{field.name: checkpoint.integer(field.name) for field in fields(ConvNetSpec)})
    if spec.hidden_size < spec.vocab_size or spec.kernel_size % 2 == 0:
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: hidden_size is {spec.hidden_size}, vocab_size {spec.vocab_size}, "
            f"kernel_size {spec.kernel_size}; wanted hidden_size of at least vocab_size (ids become one-hot vectors of "
            "hidden_size channels) and an odd kernel_size."
        )
    head = any(key.startswith("cls.") for key in checkpoint.weights)
    with torch.device("meta"):
        network = ConvNet(spec, head)
    checkpoint.fill(network, official_names(spec, head), ignorable=())
    return network
