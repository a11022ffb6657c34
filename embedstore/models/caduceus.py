"""Caduceus: a masked language model that reads in both directions with selective state spaces (Mamba)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from embedstore.errors import CheckpointError
from embedstore.models.causal import CausalConvolution
from embedstore.models.network import Network
from embedstore.models.selective_scan import selective_scan
from embedstore.models.tied import head_key, tied_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaduceusSpec:
    """The sizes and switches of a network; in brackets the field of its ``config.json``.

    Attributes
    ----------
    vocabulary, width, layers
        Ids, padded to a multiple [vocab_size, pad_vocab_size_multiple]; channels of one strand [d_model]; blocks
        [n_layer].
    inner, state, kernel, step_rank
        Of a state space [ssm_cfg]: channels [expand * d_model]; numbers of state per channel [d_state]; tokens under
        the convolution before it [d_conv]; rank of the map to step sizes [dt_rank].
    projection_bias, kernel_bias
        Whether the projections [bias] and the convolution [conv_bias] have one.
    epsilon, root_mean_square
        Of the norms [norm_epsilon]; whether they divide by the root mean square alone [rms_norm].
    multiply
        Whether the outputs of the two directions are multiplied and not added [bidirectional_strategy].
    tied
        Whether the directions share their projections in and out [bidirectional_weight_tie].
    complement
        Of every id that of the complementary letter [complement_map], where the network is equivariant to the reverse
        complement [rcps]; None where it is not.
    centred
        Whether the norms inside the blocks subtract the mean nonetheless. See `build_caduceus`.
    swaps
        Whether the strands change places before every block, as they do in one of the two ways in which the published
        code computes an equivariant network [fused_add_norm].
    head
        Whether there is a masked-LM head.
    """

    vocabulary: int
    width: int
    layers: int
    inner: int
    state: int
    kernel: int
    step_rank: int
    projection_bias: bool
    kernel_bias: bool
    epsilon: float
    root_mean_square: bool
    multiply: bool
    tied: bool
    complement: tuple[int, ...] | None
    centred: bool
    swaps: bool
    head: bool


class Caduceus(Network):
    """Blocks of a norm, Mamba in both directions, and a residual connection; a norm after the last block.

    The state 0 is the embeddings; the state k is what block k adds to and its addition, together: what the norm of the
    next block gets. It is kept in float32, whatever ``residual_in_fp32`` says.

    An equivariant network runs on a sequence and on its reverse complement. The first half of its channels is the
    sequence's, the second the reverse complement's with tokens and channels in reverse order, so that the state of the
    reverse complement is the state flipped along tokens and channels. In networks that swap strands the halves have
    changed places after an odd number of blocks.

    Parameters
    ----------
    spec
        Its sizes.

    References
    ----------
    Schiff et al. 2024, Caduceus, arXiv:2403.03234; ``caduceus/modeling_caduceus.py`` and ``modeling_rcps.py``. Gu and
    Dao 2023, Mamba, arXiv:2312.00752.
    """

    def __init__(self, spec: CaduceusSpec) -> None:
        super().__init__()
        self.width = spec.width if spec.complement is None else 2 * spec.width
        self.layers = spec.layers
        self.swaps = spec.swaps
        self.complement = spec.complement
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.blocks = nn.ModuleList(CaduceusBlock(spec) for _ in range(spec.layers))
        self.final_norm = _norm(spec)
        if spec.head:
            self.head = nn.Linear(spec.width, spec.vocabulary, bias=False)

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:  # noqa: ARG002 - never padded
        """Yield the hidden states; see `Network.states`."""
        strands = ids[None]
        if self.complement is not None:
            complement = torch.tensor(self.complement, device=ids.device)
            strands = torch.stack([ids, complement[ids.flip(1)]])
        x = self.embedding(strands)  # (strand, batch, token, channel)
        yield _joined(x)
        for block in self.blocks:
            if self.swaps:
                # Not only the strands: each is written in the other's order of tokens and channels.
                x = x.flip(0, 2, 3)
            x = block(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            yield _joined(x)

    def last(self, state: Tensor) -> Tensor:
        """Apply the final norm, to each strand in its own order of channels; see `Network.last`."""
        if self.complement is None:
            normed: Tensor = self.final_norm(state)
            return normed
        forward, reverse = state.chunk(2, dim=-1)
        return torch.cat([self.final_norm(forward), self.final_norm(reverse.flip(-1)).flip(-1)], dim=-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of the ids; those from the two strands are added. See `Network.logits`."""
        if self.complement is None:
            return super().logits(hidden)
        forward, reverse = hidden.chunk(2, dim=-1)
        of_complement = super().logits(reverse.flip(-1))
        return super().logits(forward) + of_complement[..., torch.tensor(self.complement, device=hidden.device)]


class CaduceusBlock(nn.Module):
    """A norm and Mamba in both directions, with a residual connection around them.

    Parameters
    ----------
    spec
        Sizes of the network.
    """

    def __init__(self, spec: CaduceusSpec) -> None:
        super().__init__()
        maps = 1 if spec.tied else 2
        self.multiply = spec.multiply
        self.norm = _norm(spec, centred=spec.centred)
        self.in_proj = nn.ModuleList(
            nn.Linear(spec.width, 2 * spec.inner, bias=spec.projection_bias) for _ in range(maps)
        )
        self.spaces = nn.ModuleList(StateSpace(spec) for _ in range(2))
        self.out_proj = nn.ModuleList(nn.Linear(spec.inner, spec.width, bias=spec.projection_bias) for _ in range(maps))

    def forward(self, x: Tensor) -> Tensor:
        """Return the next hidden state.

        Parameters
        ----------
        x
            Hidden state, shape (batch, token, channel), float32 also where matrix products are not.

        Returns
        -------
        Tensor
            The same shape.
        """
        normed = self.norm(x)
        # Projections look at one token at a time: where both directions share one, it is applied once.
        projected = [project(normed) for project in self.in_proj]
        forward = self.out_proj[0](self.spaces[0](projected[0]))
        reverse = self.out_proj[-1](self.spaces[1](projected[-1].flip(1)).flip(1))
        y: Tensor = x + (forward * reverse if self.multiply else forward + reverse)
        return y


class StateSpace(nn.Module):
    """Mamba without its projections in and out, in one direction: a convolution, a selective scan and a gate.

    Parameters
    ----------
    spec
        Sizes of the network.
    """

    def __init__(self, spec: CaduceusSpec) -> None:
        super().__init__()
        self.sizes = [spec.step_rank, spec.state, spec.state]
        self.convolution = CausalConvolution(spec.inner, spec.kernel, bias=spec.kernel_bias)
        self.x_proj = nn.Linear(spec.inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(spec.step_rank, spec.inner)
        self.log_rate = nn.Parameter(torch.empty(spec.inner, spec.state))
        self.skip = nn.Parameter(torch.empty(spec.inner))

    def forward(self, projected: Tensor) -> Tensor:
        """Scan from the first token to the last.

        Parameters
        ----------
        projected
            Input and gate, shape (batch, token, 2 * channel).

        Returns
        -------
        Tensor
            Shape (batch, token, channel).
        """
        x, gate = projected.chunk(2, dim=-1)
        x = functional.silu(self.convolution(x))
        step, into, out_of = self.x_proj(x).split(self.sizes, dim=-1)
        # The bias is added where the scan is computed: a step is the softplus of both, which needs all the digits.
        step = functional.linear(step, self.dt_proj.weight)
        with torch.autocast(x.device.type, enabled=False):
            return selective_scan(
                *(tensor.to(self.skip.dtype) for tensor in (x, step, into, out_of, gate)),
                rate=-torch.exp(self.log_rate),
                skip=self.skip,
                step_bias=self.dt_proj.bias,
            )


def _norm(spec: CaduceusSpec, *, centred: bool = False) -> nn.Module:
    if spec.root_mean_square and not centred:
        return nn.RMSNorm(spec.width, spec.epsilon)
    return nn.LayerNorm(spec.width, spec.epsilon, bias=not spec.root_mean_square)


def _joined(x: Tensor) -> Tensor:
    """Put the strands, shape (strand, batch, token, channel), beside each other in the order of the first."""
    return x[0] if len(x) == 1 else torch.cat([x[0], x[1].flip(1, 2)], dim=-1)


def build_caduceus(checkpoint: Checkpoint, *, kernels: bool = False) -> Caduceus:
    """Make the network of a checkpoint.

    Parameters
    ----------
    checkpoint
        Config and weights, of CaduceusForMaskedLM or the bare Caduceus.
    kernels
        Whether the norms of its blocks do what Mamba's GPU kernels do. See the notes.

    Returns
    -------
    Caduceus
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape, or tensors that are one differ.

    Notes
    -----
    With rms_norm and fused_add_norm and without rcps there are two readings of the norms inside the blocks. Behind the
    reference numbers (tests/golden/caduceus_ph) they subtract the mean: a plain-torch stand-in of Mamba's fused norm
    does not look at its flag for RMS norms. The kernel itself does (``is_rms_norm`` in ``mamba_ssm/modules/block.py``),
    so a checkpoint that was trained on a GPU wants `kernels`. Without it, and where it matters, a warning is logged.
    """
    prefix = "caduceus." if any(key.startswith("caduceus.") for key in checkpoint.weights) else ""
    equivariant, fused = _flag(checkpoint, "rcps"), _flag(checkpoint, "fused_add_norm")
    # An equivariant network has its modules inside others.
    in_wrapper, in_embedding, in_head = ("submodule.", "embedding.", "lm_head.") if equivariant else ("", "", "")
    norm = f"{'' if fused else in_wrapper}weight"
    backbone = f"{prefix}backbone."
    embedding = f"{backbone}embeddings.word_embeddings.{in_embedding}weight"
    # The code of equivariant networks always shares this tensor.
    tied = equivariant or checkpoint.config.get("tie_word_embeddings", True)
    head = head_key(checkpoint, f"lm_head.{in_head}weight", embedding, tied=tied, bare=not prefix)
    spec = _spec(checkpoint, equivariant=equivariant, fused=fused, head=head is not None)
    if kernels:
        spec = replace(spec, centred=False)
    elif spec.centred and spec.root_mean_square:
        _log.warning(
            "%s: norms of the blocks subtract the mean, as in the reference numbers of this architecture; Mamba's GPU "
            "kernels do not. For a checkpoint that was trained with them use rules='kernels'.",
            checkpoint.folder,
        )
    names = {"embedding.weight": embedding} | ({"head.weight": head} if head else {})
    names |= _norm_names(spec, "final_norm", f"{backbone}norm_f.{norm}")
    ignorable = [f"lm_head.{in_head}weight", "lm_head.complement_map", "*word_embeddings.complement_map"]
    for i in range(spec.layers):
        layer = f"{backbone}layers.{i}."
        names |= _norm_names(spec, f"blocks.{i}.norm", f"{layer}norm.{norm}")
        mixer, copies = _mixer_names(checkpoint, spec, f"{layer}mixer.{in_wrapper}")
        names |= {f"blocks.{i}.{ours}": theirs for ours, theirs in mixer.items()}
        ignorable += copies
    with torch.device("meta"):
        network = Caduceus(spec)
    checkpoint.fill(network, {ours: (theirs,) for ours, theirs in names.items()}, ignorable)
    return network


def _norm_names(spec: CaduceusSpec, ours: str, theirs: str) -> dict[str, str]:
    """Return where the parameters of a norm are in a checkpoint, given the name of its weight there."""
    names = {f"{ours}.weight": theirs}
    return names if spec.root_mean_square else names | {f"{ours}.bias": theirs.removesuffix("weight") + "bias"}


def _mixer_names(checkpoint: Checkpoint, spec: CaduceusSpec, prefix: str) -> tuple[dict[str, str], list[str]]:
    """Return where the parameters of Mamba in both directions are, and the names of copies of some of them."""
    names: dict[str, str] = {}
    copies: list[str] = []
    for kind in ("weight", "bias") if spec.projection_bias else ("weight",):
        for module in ("in_proj", "out_proj"):
            forward, reverse = (f"{prefix}mamba_{direction}.{module}.{kind}" for direction in ("fwd", "rev"))
            if spec.tied:
                names[f"{module}.0.{kind}"] = tied_key(checkpoint, forward, reverse)
                copies += [forward, reverse]
            else:
                names |= {f"{module}.0.{kind}": forward, f"{module}.1.{kind}": reverse}
    parts = {
        "convolution.weight": "conv1d.weight",
        "x_proj.weight": "x_proj.weight",
        "dt_proj.weight": "dt_proj.weight",
        "dt_proj.bias": "dt_proj.bias",
        "log_rate": "A_log",
        "skip": "D",
    } | ({"convolution.bias": "conv1d.bias"} if spec.kernel_bias else {})
    for i, direction in enumerate(("fwd", "rev")):
        names |= {f"spaces.{i}.{ours}": f"{prefix}mamba_{direction}.{theirs}" for ours, theirs in parts.items()}
    return names, copies


def _spec(checkpoint: Checkpoint, *, equivariant: bool, fused: bool, head: bool) -> CaduceusSpec:
    """Read the sizes and switches of a network."""
    config, where = checkpoint.config, f"{checkpoint.folder}/config.json"
    strategy, settings = config.get("bidirectional_strategy"), config.get("ssm_cfg")
    if not _flag(checkpoint, "bidirectional") or strategy not in ("add", "ew_multiply"):
        raise CheckpointError(
            f"{where}: bidirectional is {config['bidirectional']!r} and bidirectional_strategy {strategy!r}; wanted "
            "true and 'add' or 'ew_multiply'."
        )
    if not isinstance(settings, dict):
        raise CheckpointError(f"{where}: ssm_cfg is {settings!r}; wanted the settings of Mamba.")
    mamba = replace(checkpoint, config={f"ssm_cfg.{name}": value for name, value in settings.items()})
    width, multiple = checkpoint.integer("d_model"), checkpoint.integer("pad_vocab_size_multiple")
    vocabulary = -(-checkpoint.integer("vocab_size") // multiple) * multiple
    return CaduceusSpec(
        vocabulary=vocabulary,
        width=width,
        layers=checkpoint.integer("n_layer", most=len(checkpoint.weights)),
        inner=mamba.integer("ssm_cfg.expand") * width,
        state=mamba.integer("ssm_cfg.d_state"),
        kernel=mamba.integer("ssm_cfg.d_conv"),
        step_rank=-(-width // 16) if settings.get("dt_rank") == "auto" else mamba.integer("ssm_cfg.dt_rank"),
        projection_bias=_flag(mamba, "ssm_cfg.bias"),
        kernel_bias=_flag(mamba, "ssm_cfg.conv_bias"),
        epsilon=checkpoint.fraction("norm_epsilon"),
        root_mean_square=_flag(checkpoint, "rms_norm"),
        multiply=strategy == "ew_multiply",
        tied=_flag(checkpoint, "bidirectional_weight_tie"),
        complement=_complement(checkpoint, vocabulary) if equivariant else None,
        centred=fused and not equivariant,
        swaps=equivariant and fused,
        head=head,
    )


def _flag(checkpoint: Checkpoint, name: str) -> bool:
    """Return a field that is true or false."""
    value = checkpoint.config.get(name)
    if not isinstance(value, bool):
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: the field {name!r} is {value!r}; wanted true or false."
        )
    return value


def _complement(checkpoint: Checkpoint, vocabulary: int) -> tuple[int, ...]:
    """Return the complement of every id; ids that the config does not name are their own."""
    stated = checkpoint.config.get("complement_map")
    pairs = {str(i): i for i in range(vocabulary)} | (stated if isinstance(stated, dict) else {})
    complement = tuple(pairs[str(i)] for i in range(vocabulary))
    if not stated or len(pairs) > vocabulary or any(pairs.get(str(other)) != i for i, other in enumerate(complement)):
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: complement_map is {stated!r}; wanted, for ids below {vocabulary}, their "
            "complements, of which each is the other's."
        )
    for name, tensor in checkpoint.weights.items():
        if name.endswith("complement_map") and not tensor.is_meta and tuple(tensor.tolist()) != complement:
            raise CheckpointError(
                f"{checkpoint.folder}: {name} is {tensor.tolist()}, but config.json says {list(complement)}."
            )
    return complement
