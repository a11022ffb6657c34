"""The head of a masked language model: scores of the ids from the last hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint


class MaskedHead(nn.Module):
    """A linear map, an activation, a norm, and the scores; as in BERT, ESM and CaLM.

    Parameters
    ----------
    width, vocabulary
        Channels, ids.
    epsilon
        Of the norm.
    activation
        As a module.
    """

    def __init__(self, width: int, vocabulary: int, epsilon: float, activation: nn.Module) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = activation
        self.norm = nn.LayerNorm(width, epsilon)
        self.decoder = nn.Linear(width, vocabulary)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return scores.

        Parameters
        ----------
        hidden
            Last hidden state, shape (..., width).

        Returns
        -------
        Tensor
            Shape (..., id), before softmax.
        """
        scores: Tensor = self.decoder(self.norm(self.activation(self.dense(hidden))))
        return scores


def head_names(
    checkpoint: Checkpoint, dense: str, norm: str, bias: tuple[str, ...], decoder: tuple[str, ...], embedding: str
) -> dict[str, tuple[str, ...]]:
    """Return where the parameters of a network's head are in a checkpoint.

    Parameters
    ----------
    checkpoint
        Says which of the names are there.
    dense, norm
        Names of the linear map and the norm.
    bias, decoder
        Names that the bias and the weight of the scores can have, the preferred first.
    embedding
        Weight of the token embedding, which the scores share where the file has none of their own.

    Returns
    -------
    dict of str to tuple of str
        Our name: (name in the file,). Empty where the checkpoint has nothing of a head.
    """
    candidates = (f"{dense}.weight", *bias, *decoder)
    if not any(name in checkpoint.weights for name in candidates):
        return {}
    present = [name for name in decoder if name in checkpoint.weights]
    biases = [name for name in bias if name in checkpoint.weights]
    return {
        "head.dense.weight": (f"{dense}.weight",),
        "head.dense.bias": (f"{dense}.bias",),
        "head.norm.weight": (f"{norm}.weight",),
        "head.norm.bias": (f"{norm}.bias",),
        "head.decoder.weight": ((present or [embedding])[0],),
        "head.decoder.bias": ((biases or list(bias))[0],),
    }
