"""One transformer encoder; its switches say which published family it computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedstore.models.attention import (
    alibi_attention,
    alibi_biases,
    alibi_biases_of_lengths,
    alibi_slopes,
    rotate,
    rotation,
    sparse_attention,
)
from embedstore.models.heads import MaskedHead
from embedstore.models.network import Network, take_rows
from embedstore.models.packing import (
    Run,
    kernel_attention,
    packed_attention,
    places,
    runs,
    share_of_each,
    stream_kernel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embedstore.models.attention import Biases
    from embedstore.models.layers import Layer
    from embedstore.models.packing import Attention

Activation = Literal["gelu", "gelu_tanh", "silu"]
_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
}


@dataclass(frozen=True)
class EncoderSpec:
    """The switches and sizes of an encoder.

    Attributes
    ----------
    vocabulary, width, layers, heads
        Rows of the token embedding, channels, blocks, attention heads.
    inner
        Channels inside the feed-forward part.
    epsilon
        Added to the variance by every norm.
    positions
        ``"learned"``: a vector per position is added to the token embeddings. ``"rotary"``: queries and keys are
        rotated, the first half of the channels of a head paired with the second half. ``"alibi"``: attention falls with
        distance.
    norms
        ``"pre"``: a block is ``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``. ``"post"``: ``norm(x +
        attention(x))``, then ``norm(x + feed_forward(x))``.
    position_rows
        Rows of the learned position embedding.
    position_offset
        Row of the first position; the ESM family counts from the padding id + 1 = 2.
    token_types
        Rows of the token type embedding, of which the first is added to every token; 0 where there is none.
    embedding_norm, final_norm
        A norm follows the embeddings; the last block.
    embedding_scale
        Factor on the token embeddings.
    dropout_mask_id
        Id of the mask token in models trained with token dropout, which is part of the model at inference too: the
        embeddings of masked tokens are zero, and all are scaled by 0.88 / (1 - share of masked tokens). None where
        there is no such thing.
    activation
        Of the feed-forward part and the head: GELU with the error function, its approximation by tanh, or SiLU.
    gated
        The feed-forward part is ``activation(first half) * second half`` (Shazeer 2020, arXiv:2002.05202).
    attention_bias, up_bias, down_bias
        Which linear maps have biases: those of query, key and value; into and out of the feed-forward part.
    sparse_block
        Tokens of a block of block-sparse attention; 0 where attention is always full.
    sparse_copies
        How often more than once block 0 counts in block-sparse attention.
    head
        The network has a masked-LM head.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    epsilon: float
    positions: Literal["learned", "rotary", "alibi"]
    norms: Literal["pre", "post"] = "pre"
    position_rows: int = 0
    position_offset: int = 0
    token_types: int = 0
    embedding_norm: bool = False
    final_norm: bool = True
    embedding_scale: float = 1.0
    dropout_mask_id: int | None = None
    activation: Activation = "gelu"
    gated: bool = False
    attention_bias: bool = True
    up_bias: bool = True
    down_bias: bool = True
    sparse_block: int = 0
    sparse_copies: int = 0
    head: bool = False


class _Places(NamedTuple):
    """What a block must know of a batch: how positions are rotated, and how tokens attend to each other."""

    rotation: tuple[Tensor, Tensor] | None
    attention: Attention
    alone: bool = False  # whether some tokens may attend to all, without the others doing so


class Encoder(Network):
    """A transformer encoder.

    Parameters
    ----------
    spec
        Its switches and sizes.
    """

    inverse_frequency: Tensor
    slopes: Tensor

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.width = spec.width
        self.layers = spec.layers
        # Whether attention is sparse depends on the length, and pads would be in its blocks.
        self.pads = not spec.sparse_block
        self.packs = True
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        if spec.positions == "learned":
            self.position_embedding = nn.Embedding(spec.position_rows, spec.width)
        if spec.positions == "rotary":
            self.register_buffer("inverse_frequency", rotary_frequencies(spec.width // spec.heads), persistent=False)
        if spec.positions == "alibi":
            self.register_buffer("slopes", alibi_slopes(spec.heads), persistent=False)
        if spec.token_types:
            self.token_type_embedding = nn.Embedding(spec.token_types, spec.width)
        self.embedding_norm = nn.LayerNorm(spec.width, spec.epsilon) if spec.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.final_norm = nn.LayerNorm(spec.width, spec.epsilon) if spec.final_norm else nn.Identity()
        if spec.head:
            activation = nn.GELU("tanh" if spec.activation == "gelu_tanh" else "none")
            self.head = MaskedHead(spec.width, spec.vocabulary, spec.epsilon, activation)

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the hidden states: `Network.states`."""
        return self._run(*self._begin(ids, lengths))

    def _begin(self, ids: Tensor, lengths: Tensor | None) -> tuple[Tensor, _Places]:
        """Return the embeddings, and what blocks must know."""
        tokens = ids.shape[1]
        spec = self.spec
        turned = rotation(self.inverse_frequency, tokens) if spec.positions == "rotary" else None
        real = None if lengths is None else torch.arange(tokens, device=ids.device) < lengths[:, None]
        mask = None if real is None else real[:, None, None]
        biases = alibi_biases(self.slopes, tokens, mask) if spec.positions == "alibi" else None

        def share(chosen: Tensor) -> Tensor:  # of the tokens: padding may be any id
            whole = torch.ones_like(chosen) if real is None else real
            return (chosen & whole).sum(1, keepdim=True) / whole.sum(1, keepdim=True)

        alone = biases is None and not spec.sparse_block
        return self._embed(ids, slice(tokens), share), _Places(turned, self._attention(tokens, biases, mask), alone)

    def packed_states(self, ids: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        """Yield the hidden states of a stream: `Network.packed_states`."""
        return self._run(*self._begin_packed(ids, lengths))

    def _begin_packed(self, ids: Tensor, lengths: Sequence[int]) -> tuple[Tensor, _Places]:
        """Return the embeddings of a stream, and what blocks must know."""
        spec = self.spec
        position, owner = places(lengths, ids.device)
        turned = None
        if spec.positions == "rotary":
            cosine, sine = rotation(self.inverse_frequency, max(lengths))
            turned = cosine[position], sine[position]
        x = self._embed(ids[None], position, lambda chosen: share_of_each(chosen[0], owner, len(lengths))[None])
        return x, _Places(turned, self._packed_attention(lengths, ids.device))

    def kept(self, ids: Tensor, rows: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:
        """Return a hidden state at some tokens; see `Network.kept`."""
        if isinstance(layer, tuple) or layer == 0:
            return super().kept(ids, rows, layer, lengths)
        return self._kept(*self._begin(ids, lengths), rows, layer)

    def kept_packed(self, ids: Tensor, rows: Tensor, layer: Layer, lengths: Sequence[int]) -> Tensor:
        """Return a hidden state at some tokens of a stream; see `Network.kept_packed`."""
        if isinstance(layer, tuple) or layer == 0:
            return super().kept_packed(ids, rows, layer, lengths)
        return self._kept(*self._begin_packed(ids, lengths), rows[None], layer)[0]

    def _kept(self, x: Tensor, places: _Places, rows: Tensor, layer: int) -> Tensor:
        """Run the blocks up to a layer, the last of them for some tokens only."""
        final = self.layers if layer == -1 else layer
        for number, block in enumerate(self.blocks, 1):
            x = block(x, places, rows if number == final else None)
            if number == final:
                break
        return self.last(x) if layer == -1 else x

    def _run(self, x: Tensor, places: _Places) -> Iterator[Tensor]:
        """Yield the embeddings and what each block makes of them."""
        yield x
        for block in self.blocks:
            x = block(x, places)
            yield x

    def _attention(self, tokens: int, biases: Biases | None = None, mask: Tensor | None = None) -> Attention:
        """Return how tokens of sequences of one length, or padded to it, attend to each other."""
        spec = self.spec
        if biases is not None:
            return partial(alibi_attention, biases=biases)
        if spec.sparse_block and tokens > (5 + 2 * spec.sparse_copies) * spec.sparse_block:
            return partial(_sparse_attention, block=spec.sparse_block, copies=spec.sparse_copies)
        return partial(functional.scaled_dot_product_attention, attn_mask=mask)

    def _packed_attention(self, lengths: Sequence[int], device: torch.device) -> Attention:
        """Return how tokens of a stream of sequences attend to each other."""
        spec = self.spec
        biases = alibi_biases_of_lengths(self.slopes, set(lengths)) if spec.positions == "alibi" else {}
        parts = [Run(*run, self._attention(run[1], biases.get(run[1]))) for run in runs(lengths)]
        usual = partial(packed_attention, parts=parts)
        full = spec.positions != "alibi" and not spec.sparse_block
        kernel = stream_kernel(lengths, device, spec.width // spec.heads) if full else None
        if kernel is None:
            return usual
        half = partial(kernel_attention, kernel=kernel)
        # Only now is it known what the linear maps give: that depends on the precision that is in force.
        return lambda *x: (half if x[0].dtype in (torch.float16, torch.bfloat16) else usual)(*x)

    def last(self, state: Tensor) -> Tensor:
        """Return the last hidden state: `Network.last`."""
        out: Tensor = self.final_norm(state)
        return out

    def _embed(self, ids: Tensor, position: slice | Tensor, share: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the embeddings of tokens and positions.

        `share` takes which tokens are chosen, shape (batch, token), and returns which share of those of their sequence
        that is, shape (batch, token or 1).
        """
        spec = self.spec
        x: Tensor = self.embedding(ids) * spec.embedding_scale
        if spec.dropout_mask_id is not None:
            masked = ids == spec.dropout_mask_id
            x = x.masked_fill(masked[..., None], 0) * (0.88 / (1 - share(masked)))[..., None]
        if spec.token_types:
            x = x + self.token_type_embedding.weight[0]
        if spec.positions == "learned":
            x = x + self.position_embedding.weight[spec.position_offset :][position]
        out: Tensor = self.embedding_norm(x)
        return out


class Block(nn.Module):
    """Attention and feed-forward parts, each with a norm and a residual connection.

    Parameters
    ----------
    spec
        Switches and sizes of the encoder.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.activation = _ACTIVATIONS[spec.activation]
        self.attention_norm = nn.LayerNorm(spec.width, spec.epsilon)
        self.query_key_value = nn.Linear(spec.width, 3 * spec.width, bias=spec.attention_bias)
        self.attention_out = nn.Linear(spec.width, spec.width)
        self.feed_forward_norm = nn.LayerNorm(spec.width, spec.epsilon)
        self.up = nn.Linear(spec.width, (2 if spec.gated else 1) * spec.inner, bias=spec.up_bias)
        self.down = nn.Linear(spec.inner, spec.width, bias=spec.down_bias)

    def forward(self, x: Tensor, places: _Places, rows: Tensor | None = None) -> Tensor:
        """Return the next hidden state.

        Parameters
        ----------
        x
            Hidden state, shape (batch, token, width).
        places
            Positions of the batch, and how its tokens attend to each other.
        rows
            Tokens of each sequence whose state is wanted, shape (batch, row), int64; None (default) for all.

        Returns
        -------
        Tensor
            Shape (batch, token or row, width).
        """
        own = x if rows is None else take_rows(x, rows)
        if self.spec.norms == "pre":
            x = own + self._attention(self.attention_norm(x), places, rows)
            return x + self._feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(own + self._attention(x, places, rows))
        out: Tensor = self.feed_forward_norm(x + self._feed_forward(x))
        return out

    def _attention(self, x: Tensor, places: _Places, rows: Tensor | None) -> Tensor:
        """Let tokens attend to each other; return what all, or some of them, get."""
        split = self.query_key_value(x).unflatten(-1, (3, self.spec.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if places.rotation is not None:
            query, key = rotate(query, *places.rotation), rotate(key, *places.rotation)
        if rows is None:
            mixed = places.attention(query, key, value).transpose(1, 2).flatten(2)
        elif places.alone:
            query = query.gather(2, rows[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3]))
            mixed = places.attention(query, key, value).transpose(1, 2).flatten(2)
        else:
            mixed = take_rows(places.attention(query, key, value).transpose(1, 2).flatten(2), rows)
        out: Tensor = self.attention_out(mixed)
        return out

    def _feed_forward(self, x: Tensor) -> Tensor:
        """Transform each token by itself."""
        inner: Tensor = self.up(x)
        if self.spec.gated:
            gate, value = inner.chunk(2, dim=-1)
            inner = self.activation(gate) * value
        else:
            inner = self.activation(inner)
        out: Tensor = self.down(inner)
        return out


def _sparse_attention(query: Tensor, key: Tensor, value: Tensor, block: int, copies: int) -> Tensor:
    """Attend in whole blocks: nothing attends to what is added, and it is cut off again."""
    tokens = query.shape[2]
    q, k, v = (functional.pad(x, (0, 0, 0, -tokens % block)) for x in (query, key, value))
    return sparse_attention(q, k, v, block, copies, tokens)[:, :, :tokens]


def rotary_frequencies(channels: int) -> Tensor:
    """Return the usual frequencies of rotary positions.

    Parameters
    ----------
    channels
        Of a head, an even number.

    Returns
    -------
    Tensor
        Shape (channels / 2,), float32: 10000 ** (-2 i / channels).
    """
    # On the CPU also where a network is built on the meta device: this is a constant, not a weight.
    return 10000.0 ** (-torch.arange(0, channels, 2, dtype=torch.float32, device="cpu") / channels)
