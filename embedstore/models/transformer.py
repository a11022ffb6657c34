"""One transformer encoder; its switches say which published family it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EncoderSpec:
    """The switches and sizes of an encoder.

    Every block is pre-norm (``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``), and a norm follows the
    last block.

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
        rotated, the first half of the channels of a head paired with the second half (Su et al. 2021,
        arXiv:2104.09864, in the layout of GPT-NeoX).
    position_rows
        Rows of the learned position embedding; 0 with rotary positions.
    position_offset
        Row of the first position; the ESM family counts from the padding id + 1 = 2.
    embedding_scale
        Factor on the token embeddings; 0.88 in models trained with token dropout, which apply it at inference too.
    gated
        The feed-forward part is ``silu(first half) * second half`` (SwiGLU; Shazeer 2020, arXiv:2002.05202) instead of
        GELU with the error function.
    feed_forward_bias
        The two linear maps of the feed-forward part have biases. Those of attention always have.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    epsilon: float
    positions: Literal["learned", "rotary"]
    position_rows: int
    position_offset: int
    embedding_scale: float
    gated: bool
    feed_forward_bias: bool


class Encoder(nn.Module):
    """A transformer encoder.

    Parameters
    ----------
    spec
        Its switches and sizes.
    """

    inverse_frequency: Tensor

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.width = spec.width
        self.layers = spec.layers
        self.position_offset = spec.position_offset
        self.embedding_scale = spec.embedding_scale
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        if spec.positions == "learned":
            self.position_embedding = nn.Embedding(spec.position_rows, spec.width)
        else:
            self.register_buffer("inverse_frequency", torch.empty(spec.width // spec.heads // 2), persistent=False)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.final_norm = nn.LayerNorm(spec.width, spec.epsilon)
        self.rotary = spec.positions == "rotary"

    def forward(self, ids: Tensor, layer: int = -1) -> Tensor:
        """Return a hidden state.

        Parameters
        ----------
        ids
            Token ids, shape (batch, token), without padding.
        layer
            -1: the last hidden state, after the final norm. k: the state after block k, 0 being the embeddings.

        Returns
        -------
        Tensor
            Shape (batch, token, width).
        """
        x: Tensor = self.embedding(ids) * self.embedding_scale
        rotation = None
        if self.rotary:
            rotation = self._rotation(ids.shape[1])
        else:
            first = self.position_offset
            x = x + self.position_embedding.weight[first : first + ids.shape[1]]
        for block in self.blocks[: self.layers if layer < 0 else layer]:
            x = block(x, rotation)
        if layer < 0:
            x = self.final_norm(x)
        return x

    def _rotation(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Return cosine and sine, shape (token, channel of a head), always in float32."""
        frequency = self.inverse_frequency.float()
        angle = torch.outer(torch.arange(tokens, device=frequency.device).float(), frequency)
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()


class Block(nn.Module):
    """Attention and feed-forward parts, each with a norm before and a residual connection.

    Parameters
    ----------
    spec
        Switches and sizes of the encoder.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        bias = spec.feed_forward_bias
        self.heads = spec.heads
        self.gated = spec.gated
        self.attention_norm = nn.LayerNorm(spec.width, spec.epsilon)
        self.query_key_value = nn.Linear(spec.width, 3 * spec.width)
        self.attention_out = nn.Linear(spec.width, spec.width)
        self.feed_forward_norm = nn.LayerNorm(spec.width, spec.epsilon)
        self.up = nn.Linear(spec.width, (2 if spec.gated else 1) * spec.inner, bias=bias)
        self.down = nn.Linear(spec.inner, spec.width, bias=bias)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return the next hidden state.

        Parameters
        ----------
        x
            Hidden state, shape (batch, token, width).
        rotation
            Cosine and sine of the rotary positions, each of shape (token, channel of a head), or None.

        Returns
        -------
        Tensor
            Shape (batch, token, width).
        """
        x = x + self._attention(self.attention_norm(x), rotation)
        inner: Tensor = self.up(self.feed_forward_norm(x))
        if self.gated:
            gate, value = inner.chunk(2, dim=-1)
            inner = functional.silu(gate) * value
        else:
            inner = functional.gelu(inner)
        out: Tensor = x + self.down(inner)
        return out

    def _attention(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Let every token attend to every other; no mask, because batches hold sequences of one length."""
        batch, tokens, width = x.shape
        split = self.query_key_value(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = _rotate(query, *rotation), _rotate(key, *rotation)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate channel pairs (i, i + half) of shape (batch, head, token, channel), in float32."""
    first, second = x.chunk(2, dim=-1)
    return (x * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)
