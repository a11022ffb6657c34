"""A frozen language model as the embedding stage uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from embedstore.models.windows import Piece, WindowRule


class Model:
    """A network, its tokenizer and its way of cutting sequences. Made by `load`.

    Parameters
    ----------
    name
        Under which embeddings are stored.
    network
        Called as ``network(ids, layer)``; has `width` and `layers`.
    windows
        How sequences become pieces.
    layer
        The hidden state to give: -1 for the last one (after the final norm, where there is one), k for the state after
        block k, 0 for the embeddings.
    device
        Where the network is put.
    record
        What describes the model, as JSON can hold it; must have ``architecture`` and ``tokenizer``.
    digest
        sha256 over the files of the checkpoint, hexadecimal.

    Attributes
    ----------
    width : int
        Channels of the hidden state.

    Raises
    ------
    InputError
        If the network has no such layer, or there is no such device.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        windows: WindowRule,
        *,
        layer: int,
        device: str | torch.device,
        record: dict[str, Any],
        digest: str,
    ) -> None:
        self.width = int(network.width)  # type: ignore[arg-type]  # Module attributes are typed Tensor | Module
        layers = int(network.layers)  # type: ignore[arg-type]
        if not -1 <= layer <= layers:
            raise InputError(
                f"Model {name!r} has no layer {layer}: wanted -1 (last hidden state), 0 (embeddings) or 1 to {layers} "
                "(after that block)."
            )
        self.name = name
        self.layer = layer
        self.device = _device(device)
        self.digest = digest
        self.record = {**record, "width": self.width, "layers": layers, "layer": layer, "window": windows.description}
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._windows = windows

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything on the model's side that decides the numbers."""
        return {
            "checkpoint": self.digest,
            "architecture": str(self.record["architecture"]),
            "tokenizer": str(self.record["tokenizer"]),
            "layer": str(self.layer),
            "window": self._windows.description,
            "precision": "float32",
        }

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
            If the sequence is empty.
        """
        if not len(codes):
            raise InputError("An empty sequence has no embedding; remove it from the task.")
        return self._windows.cut(codes)

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Parameters
        ----------
        ids
            Token ids, shape (batch, token), int64, on `device`. All pieces of a batch have the same length, so there is
            no padding and a piece's result does not depend on the others.

        Returns
        -------
        torch.Tensor
            Hidden states, shape (batch, token, width), float32, on `device`.
        """
        return self._run(ids, self.layer)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the scores of a masked-LM head.

        Parameters
        ----------
        ids
            As for `hidden`.

        Returns
        -------
        torch.Tensor
            Scores before softmax, shape (batch, token, id), float32, on `device`.

        Raises
        ------
        InputError
            If the checkpoint has no head, or its head is not read.
        """
        import torch

        if getattr(self._network, "decoder", None) is None:
            raise InputError(f"Model {self.name!r} has no masked-LM head that is read.")
        with torch.inference_mode():
            scores: torch.Tensor = self._network.logits(self._run(ids, -1))  # type: ignore[operator]  # as above
        return scores

    def _run(self, ids: torch.Tensor, layer: int) -> torch.Tensor:
        """Run the network up to a layer."""
        import torch

        # On a GPU torch's convolutions use TF32 unless told otherwise, which is float32 in name only (errors of 1e-3);
        # its matrix products do not.
        convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch adds it at import
        before = convolutions.fp32_precision
        convolutions.fp32_precision = "ieee"
        try:
            with torch.inference_mode():
                hidden: torch.Tensor = self._network(ids, layer)
        finally:
            convolutions.fp32_precision = before
        return hidden


def _device(name: str | torch.device) -> torch.device:
    """Return a device after making sure that it can hold a tensor."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"Cannot use the device {str(name)!r}: {str(error).splitlines()[0]} Use 'cpu', or 'cuda' on a machine with "
            "a GPU and a CUDA build of torch."
        ) from error
    return device
