"""A frozen language model as the embedding stage uses it."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from embedstore.errors import EmbedstoreError, InputError
from embedstore.models.grouping import alike
from embedstore.models.layers import parse_layer
from embedstore.models.precision import arithmetic, check_precision
from embedstore.models.windows import Piece
from embedstore.sequences import check_letters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from embedstore.models.layers import Layer
    from embedstore.models.network import Network
    from embedstore.models.windows import WindowRule
    from embedstore.tokenizers.tokens import Alphabet


class Model:
    """A network, its tokenizer and its way of cutting sequences. Made by `load`.

    Parameters
    ----------
    name
        Under which embeddings are stored.
    network
        With its weights.
    windows
        How sequences become pieces.
    alphabet
        What the letters of a sequence are.
    layer
        The hidden state to give, as `embedstore.models.layers.parse_layer` reads it: -1 for the last one (after the
        final norm, where there is one), k for the state after block k, 0 for the embeddings, ``"mean"`` or a range such
        as ``"9-12"`` for the mean of the states after those blocks.
    precision
        How exactly the sums are done (`embedstore.models.precision.check_precision`).
    device
        Where the network is put.
    record
        What describes the model, as JSON can hold it; must have ``architecture``, ``tokenizer`` and ``rules``.
    digest
        sha256 over the files of the checkpoint, hexadecimal.

    Attributes
    ----------
    width : int
        Channels of the hidden state.
    pads : bool
        Whether `hidden` takes sequences of different lengths, padded on the right.
    packs : bool
        Whether `hidden_packed` takes sequences of different lengths, one after the other without padding.

    Raises
    ------
    InputError
        If the network has no such layer, or there is no such device.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        windows: WindowRule,
        *,
        alphabet: Alphabet,
        layer: int | str,
        precision: str,
        device: str | torch.device,
        record: dict[str, Any],
        digest: str,
    ) -> None:
        self.name = name
        self.pads, self.packs = network.pads, network.packs
        self.alphabet = alphabet
        self.layer = parse_layer(layer, network.layers, name)
        self.width = _width(network, self.layer, name)
        self.device = usable_device(device)
        self.precision = check_precision(precision, self.device)
        self.digest = digest
        self.record = {
            **record,
            "width": self.width,
            "layers": network.layers,
            "layer": _layer_text(self.layer),
            "window": windows.description,
            "precision": self.precision,
        }
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._windows = windows

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything on the model's side that decides the numbers."""
        return {
            "checkpoint": self.digest,
            "architecture": str(self.record["architecture"]),
            "tokenizer": str(self.record["tokenizer"]),
            "layer": str(self.record["layer"]),
            "window": self._windows.description,
            "precision": self.precision,
            "rules": str(self.record["rules"]),
        }

    @property
    def network(self) -> Network:
        """The network, in evaluation mode; its weights take no gradients."""
        return self._network

    def with_network(self, network: Network, *, name: str, digest: str, about: dict[str, Any]) -> Model:
        """Return this model with other weights.

        Parameters
        ----------
        network
            Of the same architecture and sizes.
        name
            Under which embeddings are stored.
        digest
            What says which weights these are.
        about
            What the record says besides.

        Returns
        -------
        Model
        """
        other = copy.copy(self)
        other.name, other.digest, other.record = name, digest, {**self.record, **about}
        other._network = network.to(self.device).eval().requires_grad_(False)  # noqa: SLF001 - same class
        return other

    def pieces(self, codes: np.ndarray) -> list[Piece]:
        """Cut a sequence into the pieces that the network sees.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,), uint8, at least one.

        Returns
        -------
        list of Piece
            In the order of the sequence.

        Raises
        ------
        InputError
            If the sequence is empty, or its letters are not of the model's alphabet.
        """
        if not len(codes):
            raise InputError("An empty sequence has no embedding; remove it from the task.")
        check_letters(codes, self.alphabet, f"Model {self.name!r}")
        return self._windows.cut(codes)

    def pieces_of(self, letters: np.ndarray, lengths: np.ndarray) -> list[list[Piece]]:
        """Cut many sequences into pieces; faster than one by one where their lengths are equal.

        Parameters
        ----------
        letters
            The sequences one after the other, upper-case ASCII letters, shape (letter,), uint8.
        lengths
            Letters of each sequence, shape (sequence,), int64.

        Returns
        -------
        list of list of Piece
            What `pieces` returns for each sequence. Spans may be shared between sequences, and ids be rows of one
            array: neither is to be written to.

        Raises
        ------
        InputError
            What `pieces` raises for the first sequence that it refuses; the attribute ``sequence`` of the error is the
            number of that sequence. Also if the lengths do not add up to the letters.
        """
        begin = np.cumsum(lengths) - lengths
        found: list[list[Piece]] = [[] for _ in lengths]
        for group in alike(letters, lengths, self.alphabet, self._windows.regular):
            first, length = int(group[0]), int(lengths[group[0]])
            with _of_sequence(first):
                if len(group) == 1:
                    found[first] = self.pieces(letters[begin[first] : begin[first] + length])
                    continue
                if begin[group[-1]] - begin[first] == (len(group) - 1) * length:  # one after the other: no copy
                    codes = letters[begin[first] :][: len(group) * length].reshape(-1, length)
                else:
                    codes = sliding_window_view(letters, length)[begin[group]]
                for piece in self._windows.cut(codes):
                    each = map(Piece, piece.ids, repeat(piece.first), repeat(piece.span))
                    for number, own in zip(group.tolist(), each, strict=True):
                        found[number].append(own)
        return found

    def row_counts(self, letters: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Count the rows that many sequences will have.

        Parameters
        ----------
        letters, lengths
            As for `pieces_of`.

        Returns
        -------
        ndarray
            Rows of all pieces of each sequence, shape (sequence,), int64.

        Raises
        ------
        InputError
            As `pieces_of` does.
        """
        begin = np.cumsum(lengths) - lengths
        counts = np.empty(len(lengths), np.int64)
        for group in alike(letters, lengths, self.alphabet, self._windows.regular):
            first = int(group[0])
            with _of_sequence(first):
                pieces = self.pieces(letters[begin[first] : begin[first] + lengths[first]])
            counts[group] = sum(len(piece.span) for piece in pieces)
        return counts

    def hidden(
        self, ids: torch.Tensor, lengths: torch.Tensor | None = None, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run the network.

        Parameters
        ----------
        ids
            Token ids, shape (batch, token), int64, on `device`.
        lengths
            Tokens of each sequence, shape (batch,), int64, on `device`; the ids after them are padding. None (default)
            when all have the same length.
        rows
            Tokens of each sequence whose states are wanted, shape (batch, row), int64, on `device`; None (default) for
            all. What some do not depend on is left out where the architecture allows.

        Returns
        -------
        torch.Tensor
            Hidden states, shape (batch, token or row, width), float32, on `device`. A sequence's rows do not depend on
            the others of the batch (to 1e-5 of their size in float32); rows of padding hold anything.

        Raises
        ------
        InputError
            If there are lengths and the network is one that cannot take padding (`pads`).
        """
        if lengths is not None and not self.pads:
            raise InputError(
                f"Model {self.name!r} ({self.record['architecture']}) cannot take padded sequences: its rows would "
                "change. Give it batches of sequences of one length."
            )
        with arithmetic(self.precision, self.device):
            net, layer = self._network, self.layer
            hidden: torch.Tensor = net(ids, layer, lengths) if rows is None else net.kept(ids, rows, layer, lengths)
        return hidden.float()

    def hidden_packed(
        self, ids: torch.Tensor, lengths: Sequence[int], rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run the network on sequences of any lengths, one after the other without padding.

        Fastest where sequences of one length are neighbours: those attend in one call, as a batch does in `hidden`.

        Parameters
        ----------
        ids
            Token ids of all sequences, shape (token,), int64, on `device`.
        lengths
            Tokens of each sequence, at least 1; their sum is the number of ids.
        rows
            Tokens of the stream whose states are wanted, shape (row,), int64, on `device`; None (default) for all.

        Returns
        -------
        torch.Tensor
            Hidden states, shape (token or row, width), float32, on `device`. A sequence's rows are those that `hidden`
            gives for it alone (to 1e-5 of their size in float32).

        Raises
        ------
        InputError
            If the network is one that cannot (`packs`), or the lengths do not make up the ids.
        """
        from embedstore.models.packing import check_lengths

        if not self.packs:
            raise InputError(
                f"Model {self.name!r} ({self.record['architecture']}) cannot take sequences one after the other in one "
                "stream. Give `hidden` batches of sequences of one length."
            )
        check_lengths(lengths, len(ids))
        with arithmetic(self.precision, self.device):
            net, options = self._network, (self.layer, lengths)
            hidden: torch.Tensor = (
                net.forward_packed(ids, *options) if rows is None else net.kept_packed(ids, rows, *options)
            )
        return hidden.float()

    def logits(
        self, ids: torch.Tensor, lengths: torch.Tensor | None = None, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scores of the language-model head.

        Parameters
        ----------
        ids, lengths, rows
            As for `hidden`. The scores of a masked model at a position are those of the letter there; the scores of a
            causal model (HyenaDNA, AWD-LSTM) are those of the next one.

        Returns
        -------
        torch.Tensor
            Scores before softmax, shape (batch, token or row, id), float32, on `device`.

        Raises
        ------
        InputError
            If the checkpoint has no head.
        """
        if self._network.head is None:
            raise InputError(f"The checkpoint of model {self.name!r} has no language-model head.")
        if lengths is not None and not self.pads:
            raise InputError(f"Model {self.name!r} cannot take padded sequences; see `hidden`.")
        with arithmetic(self.precision, self.device):
            net = self._network
            state = net(ids, -1, lengths) if rows is None else net.kept(ids, rows, -1, lengths)
            scores: torch.Tensor = net.logits(state)
        return scores.float()


@contextmanager
def _of_sequence(number: int) -> Iterator[None]:
    """Say in the attribute ``sequence`` of an error which of many sequences it is about."""
    try:
        yield
    except EmbedstoreError as error:
        vars(error)["sequence"] = number
        raise


def _layer_text(layer: Layer) -> str | int:
    """Return a layer as a record holds it."""
    return layer if isinstance(layer, int) else f"mean of {layer[0]}-{layer[1]}"


def _width(network: Network, layer: Layer, name: str) -> int:
    """Return the channels of a hidden state, or of a mean of several."""
    if layer == -1:
        return network.width
    first, last = layer if isinstance(layer, tuple) else (layer, layer)
    widths = {number: network.state_width(number) for number in range(first, last + 1)}
    if len(set(widths.values())) > 1:
        raise InputError(f"Model {name!r}: these layers have different channels, so they have no mean: {widths}.")
    return widths[first]


def usable_device(name: str | torch.device) -> torch.device:
    """Return a device after making sure that it can hold a tensor.

    Parameters
    ----------
    name
        As torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        There is no such device here.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"Cannot use the device {str(name)!r}: {said}. Use 'cpu', or 'cuda' on a machine with a GPU and a CUDA "
            "build of torch."
        ) from error
    return device
