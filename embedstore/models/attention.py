"""The ways in which tokens attend to each other: full, with rotated or linearly biased positions, or block-sparse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    Biases = Callable[[], Iterable[tuple[slice, Tensor]]]

# Queries whose biases are held at a time: 12 heads of 1,024 queries and 10,000 keys take 0.5 GB.
_BIASED_QUERIES = 1024


def rotation(inverse_frequency: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of rotary positions, always in float32.

    Parameters
    ----------
    inverse_frequency
        Of each channel pair, shape (channel of a head / 2,).
    tokens
        Length of the sequences.

    Returns
    -------
    tuple of Tensor
        Each of shape (token, channel of a head).

    References
    ----------
    Su et al. 2021, arXiv:2104.09864, in the layout of GPT-NeoX: channel i is paired with channel i + half.
    """
    frequency = inverse_frequency.float()
    angle = torch.outer(torch.arange(tokens, device=frequency.device).float(), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate channel pairs (i, i + half) by the angles of their positions, in float32.

    Parameters
    ----------
    x
        Queries or keys, shape (batch, head, token, channel).
    cosine, sine
        From `rotation`.

    Returns
    -------
    Tensor
        The shape and dtype of `x`.
    """
    first, second = x.chunk(2, dim=-1)
    return (x * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)


def alibi_slopes(heads: int) -> Tensor:
    """Return how fast the attention of each head falls with distance.

    Parameters
    ----------
    heads
        Number of heads. Where it is not a power of two, those of the next lower power come first, then every other one
        of the next higher power.

    Returns
    -------
    Tensor
        Shape (head,), positive.

    References
    ----------
    Press et al. 2022, ICLR, arXiv:2108.12409; its published code gives the rule for other numbers of heads.

    Examples
    --------
    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * (heads - power), 2)]
    # On the CPU also where a network is built on the meta device: this is a constant, not a weight.
    return torch.tensor(slopes, device="cpu")


def alibi_biases(slopes: Tensor, tokens: int, mask: Tensor | None) -> Biases:
    """Return what is added to the scores of token pairs, for some of the queries at a time.

    Parameters
    ----------
    slopes
        From `alibi_slopes`: the score of tokens i and j is lowered by slope * abs(i - j).
    tokens
        Length of the sequences.
    mask
        Which keys are tokens, shape (batch, 1, 1, token), bool; None when all are.

    Returns
    -------
    callable
        Gives queries (a slice) and their biases, shape (1 or batch, head, query, key), float32, part by part. Where all
        queries are one part it is held, to be used in every block; otherwise every block makes its parts anew.
    """
    place = torch.arange(tokens, device=slopes.device, dtype=slopes.dtype)

    def part(start: int) -> tuple[slice, Tensor]:
        asking = slice(start, start + _BIASED_QUERIES)
        bias = ((place[asking, None] - place).abs_() * -slopes[:, None, None])[None]
        return asking, bias if mask is None else bias.masked_fill(~mask, -torch.inf)

    if tokens <= _BIASED_QUERIES:
        held = [part(0)]
        return lambda: held
    return lambda: (part(start) for start in range(0, tokens, _BIASED_QUERIES))


def alibi_biases_of_lengths(slopes: Tensor, lengths: Collection[int]) -> dict[int, Biases]:
    """Return the biases of sequences of several lengths.

    Parameters
    ----------
    slopes
        From `alibi_slopes`.
    lengths
        Tokens of the sequences.

    Returns
    -------
    dict
        By length, what `alibi_biases` returns. Those that are held are views of the largest: a bias depends on the
        distance alone.
    """
    short = [length for length in lengths if length <= _BIASED_QUERIES]
    found = {length: alibi_biases(slopes, length, None) for length in lengths if length > _BIASED_QUERIES}
    if short:
        ((_, largest),) = alibi_biases(slopes, max(short), None)()

        def part(length: int) -> Biases:
            held = [(slice(0, length), largest[:, :, :length, :length])]
            return lambda: held

        found |= {length: part(length) for length in short}
    return found


def alibi_attention(query: Tensor, key: Tensor, value: Tensor, biases: Biases) -> Tensor:
    """Let tokens attend to each other, the less the farther apart they are, to both sides alike.

    Parameters
    ----------
    query, key, value
        Shape (batch, head, token, channel).
    biases
        From `alibi_biases`.

    Returns
    -------
    Tensor
        Shape (batch, head, token, channel).
    """
    parts = [
        functional.scaled_dot_product_attention(
            query[:, :, asking], key, value, attn_mask=bias.to(query.dtype).expand(len(query), -1, -1, -1)
        )
        for asking, bias in biases()
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def sparse_attention(query: Tensor, key: Tensor, value: Tensor, block: int, copies: int, tokens: int) -> Tensor:
    """Let every block of tokens attend to the first, the last and its neighbours, as BigBird does when it is frozen.

    The first and the last block attend to everything. What is drawn at random in training is always block 0 in
    evaluation mode, so block 0 counts ``1 + copies`` times for all blocks between.

    Parameters
    ----------
    query, key, value
        Shape (batch, head, token, channel); the tokens are a multiple of `block`, at least six blocks.
    block
        Tokens of a block.
    copies
        Random blocks of the config.
    tokens
        How many tokens are real; the rest is padding that no token attends to.

    Returns
    -------
    Tensor
        Shape (batch, head, token, channel).

    References
    ----------
    Zaheer et al. 2020, NeurIPS, arXiv:2007.14062; the frozen block list is that of transformers' BigBirdModel.
    """
    batch, total = query.shape[0], query.shape[2]
    blocks = total // block
    real = torch.arange(total, device=query.device) < tokens
    weight = torch.zeros(total, device=query.device).masked_fill(~real, -torch.inf)
    # Counting a key n times in a softmax is adding log(n) to its score.
    weight_again = weight.clone()
    weight_again[:block] += math.log(1 + copies)

    def attend(asking: Tensor, asked: Tensor) -> Tensor:
        """Let blocks (group, block) attend to the blocks of each group (group, of blocks)."""
        token = torch.arange(block, device=query.device)
        rows = (asking[:, :, None] * block + token).flatten(1)
        columns = (asked[:, :, None] * block + token).flatten(1)
        bias = (weight if asked.shape[1] == blocks else weight_again)[columns]
        q, k, v = (
            x[:, :, index].transpose(1, 2).flatten(0, 1)
            for x, index in ((query, rows), (key, columns), (value, columns))
        )
        bias = bias.to(q.dtype).repeat(batch, 1)[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return mixed.view(batch, -1, *mixed.shape[1:]).transpose(1, 2).flatten(2, 3)

    number = torch.arange(blocks, device=query.device)
    middle = number[2:-2, None]
    around = torch.cat([middle * 0, middle - 1, middle, middle + 1, middle * 0 + blocks - 1], dim=1)
    return torch.cat(
        [
            attend(number[None, :1], number[None]),
            attend(number[None, 1:2], torch.cat([number[:3], number[-1:]])[None]),
            attend(middle, around),
            attend(number[None, -2:-1], torch.cat([number[:1], number[-3:]])[None]),
            attend(number[None, -1:], number[None]),
        ],
        dim=2,
    )
