"""HyenaDNA: a causal language model that mixes tokens with long convolutions in place of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from embedstore.errors import CheckpointError, InputError
from embedstore.models.causal import CausalConvolution, LongFilter
from embedstore.models.network import Network
from embedstore.models.tied import head_key, tied_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint


@dataclass(frozen=True)
class HyenaDNASpec:
    """The sizes of a network; in brackets the field of its ``config.json``.

    Attributes
    ----------
    vocabulary, width, layers, inner
        Ids, padded to a multiple [vocab_size, pad_vocab_size_multiple]; channels [d_model]; blocks [n_layer]; channels
        inside a feed-forward layer [d_inner].
    tokens
        The most tokens of a sequence, special ones included [max_seq_len].
    kernel
        Tokens under the short convolution [short_filter_order].
    features, filter_width, filter_layers
        Of the networks that give the long filters: features of a position [emb_dim], channels [filter_order], hidden
        layers after the first [num_inner_mlps].
    epsilon
        Of the norms [layer_norm_epsilon].
    head
        Whether there is a causal head.
    """

    vocabulary: int
    width: int
    layers: int
    inner: int
    tokens: int
    kernel: int
    features: int
    filter_width: int
    filter_layers: int
    epsilon: float
    head: bool


class HyenaDNA(Network):
    """Blocks of a Hyena operator and a feed-forward layer, each after a norm and with a residual connection.

    The state 0 is the embeddings; there is a norm after the last block. The scores at a position are those of the next
    id.

    Parameters
    ----------
    spec
        Its sizes.

    References
    ----------
    Nguyen et al. 2023, HyenaDNA, arXiv:2306.15794. Poli et al. 2023, Hyena hierarchy, arXiv:2302.10866.
    """

    # What is to the right of a token never reaches it.
    pads = True

    def __init__(self, spec: HyenaDNASpec) -> None:
        super().__init__()
        self.width = spec.width
        self.layers = spec.layers
        self.tokens = spec.tokens
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.blocks = nn.ModuleList(HyenaBlock(spec) for _ in range(spec.layers))
        self.final_norm = nn.LayerNorm(spec.width, spec.epsilon)
        if spec.head:
            self.head = nn.Linear(spec.width, spec.vocabulary, bias=False)

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:  # noqa: ARG002 - causal
        """Yield the hidden states; see `Network.states`.

        Raises
        ------
        InputError
            If there are more tokens than the filters have positions.
        """
        if ids.shape[1] > self.tokens:
            raise InputError(
                f"A sequence has {ids.shape[1]:,} tokens, special tokens included; this HyenaDNA takes at most "
                f"{self.tokens:,} (max_seq_len of its config.json). Cut it into windows, or use a longer model."
            )
        x = self.embedding(ids)
        yield x
        for block in self.blocks:
            x = block(x)
            yield x

    def last(self, state: Tensor) -> Tensor:
        """Apply the final norm; see `Network.last`."""
        normed: Tensor = self.final_norm(state)
        return normed


class HyenaBlock(nn.Module):
    """A Hyena operator of order 2 and a feed-forward layer.

    The operator projects every token to two gates and a value. A short causal convolution runs over all three, a long
    one over the product of value and second gate; the first gate multiplies what comes out.

    Parameters
    ----------
    spec
        Sizes of the network.
    """

    def __init__(self, spec: HyenaDNASpec) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.width, spec.epsilon)
        self.in_proj = nn.Linear(spec.width, 3 * spec.width)
        self.short_filter = CausalConvolution(3 * spec.width, spec.kernel)
        self.filter = LongFilter(spec.width, spec.tokens, spec.features, spec.filter_width, spec.filter_layers)
        self.out_proj = nn.Linear(spec.width, spec.width)
        self.norm2 = nn.LayerNorm(spec.width, spec.epsilon)
        self.fc1 = nn.Linear(spec.width, spec.inner)
        self.fc2 = nn.Linear(spec.inner, spec.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next hidden state.

        Parameters
        ----------
        x
            Hidden state, shape (batch, token, width), float32 also where matrix products are not.

        Returns
        -------
        Tensor
            The same shape.
        """
        outer, inner, value = self.short_filter(self.in_proj(self.norm1(x))).chunk(3, dim=-1)
        x = x + self.out_proj(outer * self.filter(inner * value))
        y: Tensor = x + self.fc2(functional.gelu(self.fc1(self.norm2(x)), approximate="tanh"))
        return y


def build_hyenadna(checkpoint: Checkpoint) -> HyenaDNA:
    """Make the network of a checkpoint.

    Parameters
    ----------
    checkpoint
        Config and weights, as in the ``-hf`` repositories: of HyenaDNAForCausalLM or HyenaDNAModel.

    Returns
    -------
    HyenaDNA
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape, or the model is of another order than 2.
    """
    prefix = "hyena." if any(key.startswith("hyena.") for key in checkpoint.weights) else ""
    embedding = f"{prefix}backbone.embeddings.word_embeddings.weight"
    tied = checkpoint.config.get("tie_word_embeddings", True)
    head = head_key(checkpoint, "lm_head.weight", embedding, tied=tied, bare=not prefix)
    spec = _spec(checkpoint, head=head is not None)
    names = {"embedding.weight": embedding} | ({"head.weight": head} if head else {})
    names |= _parameters("final_norm", f"{prefix}backbone.ln_f")
    ignorable = ["lm_head.weight"]
    for i in range(spec.layers):
        block, copies = _block_names(checkpoint, f"{prefix}backbone.layers.{i}.", spec.filter_layers)
        names |= {f"blocks.{i}.{ours}": theirs for ours, theirs in block.items()}
        ignorable += copies
    with torch.device("meta"):
        network = HyenaDNA(spec)
    checkpoint.fill(network, {ours: (theirs,) for ours, theirs in names.items()}, ignorable)
    return network


def _block_names(checkpoint: Checkpoint, prefix: str, filter_layers: int) -> tuple[dict[str, str], list[str]]:
    """Return where the tensors of a block are in a checkpoint, and the names of copies of some of them."""
    filter_ = f"{prefix}mixer.filter_fn."
    # Sine and linear layers alternate; all sines share one tensor of frequencies.
    sines = [f"{filter_}implicit_filter.{2 * i + 1}.freq" for i in range(filter_layers + 1)]
    names = {
        "filter.frequency": tied_key(checkpoint, *sines),
        "filter.out.weight": f"{filter_}implicit_filter.{2 * (filter_layers + 1)}.weight",
        "filter.decay": f"{filter_}modulation.deltas",
        "filter.bias": f"{filter_}bias",
        "filter.positions": f"{filter_}pos_emb.z",
        "filter.times": f"{filter_}pos_emb.t",
    }
    for i in range(filter_layers + 1):
        names |= _parameters(f"filter.hidden.{i}", f"{filter_}implicit_filter.{2 * i}")
    for module in ("in_proj", "short_filter", "out_proj"):
        names |= _parameters(module, f"{prefix}mixer.{module}")
    for module in ("fc1", "fc2"):
        names |= _parameters(module, f"{prefix}mlp.{module}")
    for module in ("norm1", "norm2"):
        names |= _parameters(module, f"{prefix}{module}")
    return names, sines


def _parameters(ours: str, theirs: str) -> dict[str, str]:
    """Return where the weight and the bias of a module are in a checkpoint."""
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def _spec(checkpoint: Checkpoint, *, head: bool) -> HyenaDNASpec:
    """Read the sizes of a network, and refuse what the published models are not."""
    for field, wanted in (("hyena_order", 2), ("use_bias", True), ("train_freq", True)):
        if checkpoint.config.get(field) != wanted:
            raise CheckpointError(
                f"{checkpoint.folder}/config.json: {field} is {checkpoint.config.get(field)!r}; only {wanted!r} is "
                "supported, as in the published models."
            )
    multiple = checkpoint.integer("pad_vocab_size_multiple")
    return HyenaDNASpec(
        vocabulary=-(-checkpoint.integer("vocab_size") // multiple) * multiple,
        width=checkpoint.integer("d_model"),
        layers=checkpoint.integer("n_layer", most=len(checkpoint.weights)),
        inner=checkpoint.integer("d_inner"),
        tokens=checkpoint.integer("max_seq_len"),
        kernel=checkpoint.integer("short_filter_order"),
        features=checkpoint.integer("emb_dim"),
        filter_width=checkpoint.integer("filter_order"),
        filter_layers=checkpoint.integer("num_inner_mlps", most=len(checkpoint.weights)),
        epsilon=checkpoint.fraction("layer_norm_epsilon"),
        head=head,
    )
