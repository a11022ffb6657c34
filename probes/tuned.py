"""A frozen language model with IA3 vectors, and the linear head that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from embedstore.models.ia3 import add_ia3
from embedstore.models.precision import arithmetic
from probes.residues import GENERIC, SINGLE, residue_places
from probes.spans import Gather, gather_sum, output_gather

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedstore.models import Model
    from probes.spans import Window

Pooling = Literal["mean", "tokens", "cls"]
POOLINGS: tuple[Pooling, ...] = ("mean", "tokens", "cls")
"""How rows become the embedding of a sequence: their mean over nucleotides or residues, their mean over tokens that are
not special, or the row of the special token in front."""

SLOTS = 2
"""Codons of a six-letter token."""


class Stream(NamedTuple):
    """What is to be known of tokens of samples, one after another, besides their spans.

    Attributes
    ----------
    tokens
        Of each piece that the model sees by itself.
    features
        (sample, number) float32, what the head is given besides; None: nothing.
    """

    tokens: list[int]
    features: torch.Tensor | None


class Reading(NamedTuple):
    """How the tokens of a part become outputs.

    Attributes
    ----------
    tokens
        Of each piece.
    output
        From tokens to what the head reads: sequences, bins, residues or nucleotides.
    slot
        (residue,) int64, which of the head's outputs are a residue's; None: all are.
    features
        (sample, number); None: nothing.
    """

    tokens: list[int]
    output: Gather
    slot: torch.Tensor | None
    features: torch.Tensor | None

    def to(self, device: torch.device | str) -> Reading:
        """Copy to a device."""
        slot, features = (None if one is None else one.to(device) for one in self[2:])
        return Reading(self.tokens, self.output.to(device), slot, features)


class Shape(NamedTuple):
    """What a tuned model is to say, and from what.

    Attributes
    ----------
    outputs
        Classes or targets.
    window
        What an output stands for; see `probes.cnn.CNN`.
    pooling
        For labels of whole sequences; see `POOLINGS`.
    letters
        Letters of a residue, for labels of residues; 0 for others.
    slots
        Heads for residues: one for each place that a residue has in its token, and one more where training residues lie
        in no such place; 1 for other labels.
    features
        Numbers that the head is given besides.
    """

    outputs: int
    window: Window
    pooling: Pooling = "mean"
    letters: int = 0
    slots: int = 1
    features: int = 0


class TunedNetwork(nn.Module):
    """A frozen language model with IA3 vectors, and a linear head.

    Its parameters and its state are the vectors and the head; the model is not a part of it.

    Parameters
    ----------
    model
        From `embedstore.models.load`; it stays as it is.
    shape
        What is to be said, and from what.

    Attributes
    ----------
    ia3 : embedstore.models.ia3.IA3
        The vectors.
    head : torch.nn.Linear
        With ``slots * outputs`` outputs.
    """

    receptive_field = None

    def __init__(self, model: Model, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.ia3 = add_ia3(model)
        self.head = nn.Linear(model.width + shape.features, shape.slots * shape.outputs)
        self._base = _Base(model)

    def layout(self, span: NDArray[np.int64], first_row: NDArray[np.int64], stream: Stream) -> Reading:
        """Plan `forward_tokens`.

        Parameters
        ----------
        span
            (token,) letters that each token stands for, 0 for special ones.
        first_row
            (sample + 1,) where each sample's tokens begin.
        stream
            The rest.

        Returns
        -------
        Reading
        """
        shape = self.shape
        slot = None
        if shape.letters:
            found = slots_of(span, shape.letters)
            slot = torch.from_numpy(np.where(found < shape.slots, found, 0))
        weight, window = span, shape.letters if shape.letters > 1 else shape.window
        if shape.pooling == "tokens":
            weight = np.sign(span)
        elif shape.pooling == "cls":
            weight = np.zeros_like(span)
            weight[np.cumsum([0, *stream.tokens[:-1]])] = 1
        return Reading(stream.tokens, output_gather(weight, first_row, window), slot, stream.features)

    def forward_tokens(self, ids: torch.Tensor, reading: Reading) -> torch.Tensor:
        """Return outputs for token ids.

        Parameters
        ----------
        ids
            (token,) int64.
        reading
            From `layout`.

        Returns
        -------
        torch.Tensor
            (position, output) float32.
        """
        shape, model = self.shape, self._base.model
        with arithmetic(model.precision, model.device, gradients=True), self.ia3.applied(model.network):
            hidden = model.network.forward_packed(ids, model.layer, reading.tokens)
        x = gather_sum(hidden.float(), reading.output)
        if reading.features is not None:
            x = torch.cat([x, reading.features], dim=1)
        out: torch.Tensor = self.head(x)
        if reading.slot is None:
            return out
        out = out.view(-1, shape.slots, shape.outputs)
        own = out.gather(1, reading.slot[:, None, None].expand(-1, 1, shape.outputs))[:, 0]
        return own.repeat_interleave(shape.letters, dim=0)


class _Base:
    """Holds the model, so that a module's parameters, state and copies do not include it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __deepcopy__(self, _memo: object) -> _Base:
        return self


def slots_of(span: NDArray[np.int64], letters: int) -> NDArray[np.int64]:
    """Return which head is for each residue.

    Parameters
    ----------
    span
        (token,) letters of each token, whole samples one after another.
    letters
        Letters per residue.

    Returns
    -------
    numpy.ndarray
        (residue,) int64: 0 for the first codon of a token and for codons whose letters are tokens by themselves, 1 for
        the second codon, 2 for what lies in neither place.

    Examples
    --------
    A six-letter token, three single letters, then an N that shifts the frame.

    >>> slots_of(np.array([6, 1, 1, 1, 1, 6, 6, 1, 1]), 3)
    array([0, 1, 0, 2, 2, 2, 2, 2])
    """
    slot = residue_places(span, letters, SLOTS).slot
    return np.where(slot == SINGLE, 0, np.where(slot == GENERIC, SLOTS, slot))
