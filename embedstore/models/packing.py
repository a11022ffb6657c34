"""Sequences of different lengths in one stream, without padding: where each is, and attention within each alone."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

# With fewer runs of sequences of one length than this, a call of the usual attention for each of them is used.
_MANY_RUNS = 4
# Where the kernel for many runs is, and the channels of a head that it takes: a multiple of, and at most.
_KERNEL_DEVICE = "cuda"
_KERNEL_CHANNELS = 8, 256


class Run(NamedTuple):
    """Neighbours of one length in a stream, and how their tokens attend to each other.

    Attributes
    ----------
    sequences, tokens
        Number of sequences, and tokens of each.
    attention
        Takes queries, keys and values of shape (sequence, head, token, channel); returns that shape.
    """

    sequences: int
    tokens: int
    attention: Attention


class Kernel(NamedTuple):
    """A kernel that attends within the sequences of a stream, and what it must know of them.

    Attributes
    ----------
    attention
        A function with the arguments of `torch.nn.attention.varlen.varlen_attn`.
    borders
        Where each sequence starts, and where the last one ends, shape (sequence + 1,), int32.
    longest
        Tokens of the longest sequence.
    """

    attention: Callable[..., Any]
    borders: Tensor
    longest: int


def check_lengths(lengths: Sequence[int], tokens: int) -> None:
    """Make sure that sequences make up a stream.

    Parameters
    ----------
    lengths
        Tokens of each sequence.
    tokens
        Of the stream.

    Raises
    ------
    InputError
        If there are no sequences, one is empty, or their tokens are not those of the stream.
    """
    if not len(lengths):
        raise InputError("There are no lengths: a stream must have one sequence or more.")
    if min(lengths) < 1:
        empty = next(i for i, length in enumerate(lengths) if length < 1)
        raise InputError(f"Sequence {empty} of the stream has a length of {lengths[empty]}; wanted at least 1 token.")
    if sum(lengths) != tokens:
        raise InputError(
            f"The {len(lengths):,} lengths add up to {sum(lengths):,} tokens, but the stream has {tokens:,} ids. Give "
            "the tokens of every sequence, in the order of the stream."
        )


def runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return how many neighbours have one length, and that length.

    Parameters
    ----------
    lengths
        Tokens of each sequence.

    Returns
    -------
    list of tuple of int
        In the order of the stream.

    Examples
    --------
    >>> runs([5, 5, 2, 5])
    [(2, 5), (1, 2), (1, 5)]
    """
    return [(sum(1 for _ in same), length) for length, same in groupby(lengths)]


def places(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where in which sequence each token of a stream is.

    Parameters
    ----------
    lengths
        Tokens of each sequence.
    device
        Where the result is wanted.

    Returns
    -------
    tuple of Tensor
        Position in its sequence and number of the sequence, each of shape (token,), int64.

    Examples
    --------
    >>> [place.tolist() for place in places([3, 2], torch.device("cpu"))]
    [[0, 1, 2, 0, 1], [0, 0, 0, 1, 1]]
    """
    # Worked out on the host, where the lengths are: a GPU would have to be waited for to learn the size of the result.
    count = torch.tensor(lengths, device="cpu")
    owner = torch.repeat_interleave(count)
    position = torch.arange(len(owner), device="cpu") - (count.cumsum(0) - count)[owner]
    return position.to(device), owner.to(device)


def share_of_each(chosen: Tensor, owner: Tensor, sequences: int) -> Tensor:
    """Return for each token of a stream which share of its sequence's tokens is chosen.

    Parameters
    ----------
    chosen
        Shape (token,), bool.
    owner
        From `places`.
    sequences
        Number of sequences.

    Returns
    -------
    Tensor
        Shape (token,), float32.
    """
    both = torch.stack([chosen.long(), torch.ones_like(owner)], dim=1)
    found, tokens = both.new_zeros(sequences, 2).index_add_(0, owner, both).unbind(1)
    return (found / tokens)[owner]


def packed_attention(query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Run]) -> Tensor:
    """Let the tokens of each sequence of a stream attend to each other.

    Parameters
    ----------
    query, key, value
        Shape (1, head, token, channel).
    parts
        The runs of the stream, in order.

    Returns
    -------
    Tensor
        Shape (1, head, token, channel).
    """
    sizes = [run.sequences * run.tokens for run in parts]
    mixed = []
    for run, q, k, v in zip(parts, *(torch.split(x, sizes, dim=2) for x in (query, key, value)), strict=True):
        own = (q, k, v)
        if run.sequences > 1:
            own = tuple(x[0].unflatten(1, (run.sequences, run.tokens)).transpose(0, 1) for x in own)
        mixed.append(run.attention(*own).transpose(1, 2).flatten(0, 1))
    stream = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
    return stream.transpose(0, 1)[None]


def kernel_attention(query: Tensor, key: Tensor, value: Tensor, kernel: Kernel) -> Tensor:
    """Let the tokens of each sequence of a stream attend to each other, by one call of a kernel.

    Parameters
    ----------
    query, key, value
        Shape (1, head, token, channel).
    kernel
        From `stream_kernel`.

    Returns
    -------
    Tensor
        Shape (1, head, token, channel).
    """
    own = [x[0].transpose(0, 1) for x in (query, key, value)]
    # Seven arguments by position are what every release of torch that has the function takes.
    mixed: Tensor = kernel.attention(*own, kernel.borders, kernel.borders, kernel.longest, kernel.longest)
    return mixed.transpose(0, 1)[None]


def stream_kernel(lengths: Sequence[int], device: torch.device, channels: int) -> Kernel | None:
    """Return the kernel for full attention in half precision over a stream of many lengths.

    Parameters
    ----------
    lengths
        Tokens of each sequence.
    device
        Where the network is.
    channels
        Of a head.

    Returns
    -------
    Kernel or None
        None where there are few runs of sequences of one length, no CUDA device, no such function in this release of
        torch, or a width of heads that it does not take: then each run is attended by itself.
    """
    step, most = _KERNEL_CHANNELS
    if device.type != _KERNEL_DEVICE or len(runs(lengths)) < _MANY_RUNS or channels % step or channels > most:
        return None
    function = varlen_function()
    if function is None:
        return None
    borders = torch.tensor([0, *lengths], device="cpu").cumsum(0).to(device, torch.int32)
    return Kernel(function, borders, max(lengths))


def varlen_function() -> Callable[..., Any] | None:
    """Return `torch.nn.attention.varlen.varlen_attn`, or None where this release of torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
