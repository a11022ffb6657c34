"""What every network is to the rest: states after its blocks, one of them asked for, and the scores of its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from embedstore.models.layers import Layer


class Network(nn.Module):
    """A language model's network.

    A subclass sets the attributes and writes `states`; `last` and `logits` where it has a final norm or a head;
    `packed_states` where `packs` is True.

    Attributes
    ----------
    width
        Channels of the hidden state.
    layers
        Number of blocks.
    pads
        Whether a sequence that is padded on the right, with its length given, gets what it gets alone. Where it is
        False, a batch must hold sequences of one length.
    packs
        Whether sequences of different lengths may come one after the other in one stream, without padding.
    head
        What `logits` runs; None where the checkpoint has no masked-LM or causal head.
    """

    width: int
    layers: int
    pads: bool = False
    packs: bool = False

    def __init__(self) -> None:
        super().__init__()
        # Not in the class: an attribute there would hide the module that a subclass sets.
        self.head: nn.Module | None = None

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the hidden states, one block at a time.

        Parameters
        ----------
        ids
            Token ids, shape (batch, token), int64.
        lengths
            Tokens of each sequence, shape (batch,), int64; what follows them is padding. None (default) when there is
            none.

        Yields
        ------
        Tensor
            ``layers + 1`` of them, shape (batch, token, width): the embeddings, then the state after each block. Rows
            of padding hold anything.
        """
        raise NotImplementedError

    def packed_states(self, ids: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        """Yield the hidden states of a stream of sequences, one block at a time.

        Parameters
        ----------
        ids
            Token ids of the sequences, one after the other, shape (token,), int64.
        lengths
            Tokens of each sequence, at least 1; their sum is the number of ids.

        Yields
        ------
        Tensor
            ``layers + 1`` of them, shape (1, token, width): what `states` yields for each sequence by itself, one after
            the other.

        Raises
        ------
        NotImplementedError
            If the network cannot (`packs`).
        """
        raise NotImplementedError("This network takes no stream of sequences.")

    def state_width(self, number: int) -> int:  # noqa: ARG002 - the same for all, where a subclass does not say otherwise
        """Return the channels of a state.

        Parameters
        ----------
        number
            0 for the embeddings, k for the state after block k.

        Returns
        -------
        int
        """
        return self.width

    def last(self, state: Tensor) -> Tensor:
        """Return the last hidden state from the one after the last block: its final norm, where there is one.

        Parameters
        ----------
        state
            Shape (..., width).

        Returns
        -------
        Tensor
            The same shape.
        """
        return state

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of the ids at each position.

        Parameters
        ----------
        hidden
            Last hidden state, shape (..., width).

        Returns
        -------
        Tensor
            Shape (..., id), before softmax.

        Raises
        ------
        NotImplementedError
            If the network has no head.
        """
        if self.head is None:
            raise NotImplementedError("This network has no language-model head.")
        scores: Tensor = self.head(hidden)
        return scores

    def forward(self, ids: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:
        """Return a hidden state, or a mean of several.

        Parameters
        ----------
        ids, lengths
            As for `states`.
        layer
            -1 (default): the last hidden state, after the final norm where there is one. k: the state after block k, 0
            being the embeddings. (first, last): the mean of the states after the blocks first to last.

        Returns
        -------
        Tensor
            Shape (batch, token, width).
        """
        return self._chosen(self.states(ids, lengths), layer)

    def forward_packed(self, ids: Tensor, layer: Layer, lengths: Sequence[int]) -> Tensor:
        """Return a hidden state, or a mean of several, of a stream of sequences.

        Parameters
        ----------
        ids, lengths
            As for `packed_states`.
        layer
            As for `forward`.

        Returns
        -------
        Tensor
            Shape (token, width).

        Raises
        ------
        NotImplementedError
            If the network cannot (`packs`).
        """
        return self._chosen(self.packed_states(ids, lengths), layer)[0]

    def kept(self, ids: Tensor, rows: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:
        """Return a hidden state, or a mean of several, at some tokens: what `forward` gives there.

        A subclass may leave out what these do not depend on.

        Parameters
        ----------
        ids, layer, lengths
            As for `forward`.
        rows
            Tokens of each sequence, shape (batch, row), int64; none of padding.

        Returns
        -------
        Tensor
            Shape (batch, row, width).
        """
        return take_rows(self(ids, layer, lengths), rows)

    def kept_packed(self, ids: Tensor, rows: Tensor, layer: Layer, lengths: Sequence[int]) -> Tensor:
        """Return a hidden state, or a mean of several, at some tokens of a stream: what `forward_packed` gives there.

        Parameters
        ----------
        ids, layer, lengths
            As for `forward_packed`.
        rows
            Places in the stream, shape (row,), int64.

        Returns
        -------
        Tensor
            Shape (row, width).
        """
        return self.forward_packed(ids, layer, lengths)[rows]

    def _chosen(self, states: Iterable[Tensor], layer: Layer) -> Tensor:
        """Return the state that is asked for, running no block after it."""
        first, final = (
            (self.layers, self.layers) if layer == -1 else layer if isinstance(layer, tuple) else (layer, layer)
        )
        total: Tensor | None = None
        for number, state in enumerate(states):
            if number >= first:
                total = state if total is None else total + state
            if number == final:
                break
        assert total is not None
        return self.last(total) if layer == -1 else total / (final - first + 1)


def take_rows(state: Tensor, rows: Tensor) -> Tensor:
    """Return some rows of each sequence.

    Parameters
    ----------
    state
        Shape (batch, token, channel).
    rows
        Tokens of each sequence, shape (batch, row), int64.

    Returns
    -------
    Tensor
        Shape (batch, row, channel).
    """
    return state.gather(1, rows[..., None].expand(-1, -1, state.shape[2]))
