"""What differs between the models that can be pretrained: the network, and what it is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from embedstore.models.awd_lstm import PENALTIES, AwdLstm, AwdLstmSpec
from embedstore.models.convnet import ConvNet, ConvNetSpec
from embedstore.models.corpus import FIRST_LETTER

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

VOCABULARY = FIRST_LETTER + 4
"""Ids of the tokenizer of BEND's and GPN's models."""


class MaskedConvNet:
    """BEND's dilated ResNet, which predicts masked nucleotides.

    Parameters
    ----------
    settings
        Of the run: hidden, layers, kernel, dilation_cycle.

    Attributes
    ----------
    spec, network
        Sizes, and the network with its head.
    masked
        Whether masked nucleotides are predicted, or each next one.
    predicts
        The same in words, with what the network sees of the sequence.
    """

    masked = True
    predicts = "masked nucleotide (sees both sides)"

    def __init__(self, settings: dict[str, Any]) -> None:
        sizes = (settings[name] for name in ("hidden", "layers", "kernel", "dilation_cycle"))
        self.spec = ConvNetSpec(VOCABULARY, *sizes)
        self.network = ConvNet(self.spec)

    def run(self, ids: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - no dropout
        """Return the last hidden state in training, and what is added to the loss: nothing."""
        return self.network(ids), torch.zeros((), device=ids.device)


class NextAwdLstm:
    """BEND's AWD-LSTM, which predicts each next nucleotide; all layers have the same width.

    Dropout of input, of what leaves each layer, of the output (in each the same channels at all positions of a window)
    and of the recurrent weights; penalties on the size of the output and on its changes from one position to the next.
    The state is not handed on from window to window, because windows are drawn at random.

    Parameters
    ----------
    settings
        Of the run: hidden, layers, dropout (a share of BEND's rates).

    Attributes
    ----------
    spec, network, masked, predicts
        As of `MaskedConvNet`.

    References
    ----------
    Merity et al. 2018, arXiv:1708.02182, sections 3 and 4. Marin et al. 2024, BEND; ``bend/models/awd_lstm.py``.
    """

    masked = False
    predicts = "next nucleotide (sees the left side only, as the Markov model does)"

    def __init__(self, settings: dict[str, Any]) -> None:
        hidden, share = settings["hidden"], settings["dropout"]
        self.spec = AwdLstmSpec(
            VOCABULARY,
            input_size=hidden,
            hidden_size=hidden,
            num_hidden_layers=settings["layers"],
            input_dropout_prob=0.65 * share,
            hidden_dropout_prob=0.3 * share,
            dropout_prob=0.4 * share,
            weight_dropout_prob=0.5 * share,
        )
        self.network = AwdLstm(self.spec)
        nn.init.uniform_(self.network.embedding.weight, -0.1, 0.1)  # Merity et al., section 5

    def run(self, ids: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the last hidden state in training, and what is added to the loss."""
        spec, network = self.spec, self.network

        def drop(x: Tensor, rate: float, shape: tuple[int, ...]) -> Tensor:
            keep = torch.from_numpy(random.random(shape) >= rate).to(x.device)
            return x * keep / (1 - rate)

        def drop_channels(x: Tensor, rate: float) -> Tensor:
            return drop(x, rate, (len(x), 1, x.shape[2]))

        x = drop_channels(network.embedding(ids), spec.input_dropout_prob)
        raw = x
        for lstm in network.lstms:
            weight = lstm.get_parameter("weight_hh_l0")
            dropped = {"weight_hh_l0": drop(weight, spec.weight_dropout_prob, weight.shape)}
            raw = torch.func.functional_call(lstm, dropped, (x,))[0]
            x = drop_channels(raw, spec.hidden_dropout_prob)
        output = drop_channels(x, spec.dropout_prob)
        changes = raw[:, 1:] - raw[:, :-1]
        penalty = PENALTIES["alpha"] * output.square().mean() + PENALTIES["beta"] * changes.square().mean()
        return output, penalty


Objective = MaskedConvNet | NextAwdLstm
OBJECTIVES: dict[str, type[Objective]] = {"convnet": MaskedConvNet, "awd_lstm": NextAwdLstm}
