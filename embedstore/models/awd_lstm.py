"""The AWD-LSTM language model of BEND: stacked LSTMs, read from left to right."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from embedstore.errors import CheckpointError
from embedstore.models.network import Network
from embedstore.models.tied import tied_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint


# What torch calls the parameters of a layer: input to hidden, hidden to hidden, and their biases.
_LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


PENALTIES = {"alpha": 2.0, "beta": 1.0}
"""In training: what the mean square of the output, and of its changes between positions, are multiplied with."""


@dataclass(frozen=True)
class AwdLstmSpec:
    """Sizes and dropout rates of a network; the fields bear the names of its ``config.json``.

    Attributes
    ----------
    vocab_size, input_size, hidden_size, num_hidden_layers
        Ids; channels of the embeddings and of the last layer, of which the scores are products with the embeddings;
        channels of the layers before the last; layers.
    reset_token_id
        Id after which memory is cleared; None (default) for none.
    input_dropout_prob, hidden_dropout_prob, dropout_prob, weight_dropout_prob
        In training: of the embeddings, of what leaves each layer, of the output, of the recurrent weights. Default 0.
    """

    vocab_size: int
    input_size: int
    hidden_size: int
    num_hidden_layers: int
    reset_token_id: int | None = None
    input_dropout_prob: float = 0.0
    hidden_dropout_prob: float = 0.0
    dropout_prob: float = 0.0
    weight_dropout_prob: float = 0.0

    def sizes(self) -> list[tuple[int, int]]:
        """Return the channels that go into and come out of every layer.

        Returns
        -------
        list of tuple of int
            Length `num_hidden_layers`.

        Examples
        --------
        >>> AwdLstmSpec(7, input_size=16, hidden_size=24, num_hidden_layers=3).sizes()
        [(16, 24), (24, 24), (24, 16)]
        >>> AwdLstmSpec(7, input_size=16, hidden_size=24, num_hidden_layers=1).sizes()
        [(16, 16)]
        """
        edges = [self.input_size, *[self.hidden_size] * (self.num_hidden_layers - 1), self.input_size]
        return list(itertools.pairwise(edges))

    def checkpoint(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return a network as BEND's AWDLSTMForLM is stored.

        Parameters
        ----------
        network
            An `AwdLstm` of these sizes, with its head.

        Returns
        -------
        config : dict
            Contents of ``config.json``. BEND's code never uses its embedding dropout.
        tensors : dict of str to Tensor
            Its parameters under BEND's names; the decoder's weight is the embedding's and left out.
        """
        config = {"architectures": ["AWDLSTMForLM"], "model_type": "AWDLSTM", "torch_dtype": "float32"}
        fixed = {"batch_first": True, "bidirectional": False, "embedding_dropout_prob": 0.0, **PENALTIES}
        own = network.state_dict()
        tensors = {"encoder.embedding.weight": own["embedding.weight"], "decoder.bias": own["head.bias"]}
        for i in range(self.num_hidden_layers):
            names = _official_names(f"encoder.encoder.lstm.{i}.", wrapped=self.weight_dropout_prob > 0)
            tensors |= {name: _swap_gates(own[f"lstms.{i}.{ours}"]) for ours, name in zip(_LSTM, names, strict=True)}
        return {**config, **asdict(self), **fixed}, tensors


class AwdLstm(Network):
    """An embedding and LSTM layers; the scores of the next id are products with the embeddings, plus a bias.

    The state 0 is the embeddings. Between the first and the last the states have `hidden_size` channels, which need not
    be `width`.

    Parameters
    ----------
    spec
        Its sizes.
    head
        Whether it has the decoder.

    References
    ----------
    Marin et al. 2024, BEND; ``bend/models/awd_lstm.py``, class AWDLSTMForLM. Merity et al. 2018, arXiv:1708.02182.
    """

    # What is to the right of a token never reaches it.
    pads = True

    def __init__(self, spec: AwdLstmSpec, head: bool = True) -> None:
        super().__init__()
        self.width = spec.input_size
        self.layers = spec.num_hidden_layers
        self.reset_id = spec.reset_token_id
        self.embedding = nn.Embedding(spec.vocab_size, spec.input_size)
        self.lstms = nn.ModuleList(nn.LSTM(size, out, batch_first=True) for size, out in spec.sizes())
        if head:
            self.head = nn.Linear(spec.input_size, spec.vocab_size)
            self.tie()

    def tie(self) -> None:
        """Make the decoder's weight the embedding's: one parameter, which must be there."""
        assert self.head is not None
        self.head.weight = self.embedding.weight

    def state_width(self, number: int) -> int:
        """Return the channels of a state; see `Network.state_width`."""
        return self.width if number == 0 else int(self.lstms[number - 1].hidden_size)  # type: ignore[arg-type]

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the hidden states; see `Network.states`."""
        ends = None if self.reset_id is None else ids == self.reset_id
        if ends is not None and lengths is not None:
            # Padding does not count as something that follows.
            ends &= torch.arange(1, ids.shape[1] + 1, device=ids.device) < lengths[:, None]
        x = self.embedding(ids)
        yield x
        for lstm in self.lstms:
            x = lstm(x)[0] if ends is None else _run_with_resets(lstm, x, ends)
            yield x


def _run_with_resets(lstm: nn.Module, x: Tensor, ends: Tensor) -> Tensor:
    """Run a layer step by step, clearing its memory after the tokens marked in `ends`, as BEND's cell does.

    BEND does not look at the first token. It clears the state in place, where it is also the output of that token: a
    row of zeros, unless nothing follows.
    """
    outputs: list[Tensor] = []
    state: tuple[Tensor, Tensor] | None = None
    for i in range(x.shape[1]):
        if i > 1 and state is not None:
            stays = ~ends[:, i - 1, None]
            state = (state[0] * stays, state[1] * stays)
            outputs[-1] = outputs[-1] * stays[..., None]
        output, state = lstm(x[:, i : i + 1], state)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def build_awd_lstm(checkpoint: Checkpoint) -> AwdLstm:
    """Make the network of a checkpoint.

    Parameters
    ----------
    checkpoint
        Config and weights, of BEND's AWDLSTMForLM, AWDLSTMModelForInference or AWDLSTMModel.

    Returns
    -------
    AwdLstm
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape, or the model reads in both directions.
    """
    spec = _spec(checkpoint)
    prefix = "encoder." if "encoder.embedding.weight" in checkpoint.weights else ""
    wrapped = f"{prefix}encoder.lstm.0.h2h.weight" not in checkpoint.weights
    embedding = f"{prefix}embedding.weight"
    names = {"embedding.weight": (embedding,)}
    ignorable = []
    head = any(key.startswith("decoder.") for key in checkpoint.weights)
    if head:
        names |= {"head.weight": (tied_key(checkpoint, embedding, "decoder.weight"),), "head.bias": ("decoder.bias",)}
        ignorable.append("decoder.weight")
    layers: list[str] = []
    for i in range(spec.num_hidden_layers):
        theirs = _official_names(f"{prefix}encoder.lstm.{i}.", wrapped=wrapped)
        copy = f"{prefix}encoder.lstm.{i}.module.h2h.weight"
        theirs[1] = _recurrent_key(checkpoint, theirs[1], copy)
        names |= {f"lstms.{i}.{ours}": (name,) for ours, name in zip(_LSTM, theirs, strict=True)}
        layers += theirs
        ignorable.append(copy)
    gates = {key: _swap_gates(tensor) for key, tensor in checkpoint.weights.items() if key in layers and tensor.ndim}
    with torch.device("meta"):
        network = AwdLstm(spec, head)
    dataclasses.replace(checkpoint, weights=checkpoint.weights | gates).fill(network, names, ignorable)
    if head:
        network.tie()
    return network


def _official_names(layer: str, *, wrapped: bool) -> list[str]:
    """Return what BEND calls the parameters of a layer; without weight dropout it has no wrapper around its cell."""
    cell, recurrent = (f"{layer}module.", f"{layer}weight_raw") if wrapped else (layer, f"{layer}h2h.weight")
    return [f"{cell}i2h.weight", recurrent, f"{cell}i2h.bias", f"{cell}h2h.bias"]


def _swap_gates(tensor: Tensor) -> Tensor:
    """Exchange the last two quarters of the rows.

    BEND's gates are input, forget, output, cell; torch's are input, forget, cell, output.
    """
    size = len(tensor) // 4
    return torch.cat([tensor[: 2 * size], tensor[3 * size :], tensor[2 * size : 3 * size]])


def _recurrent_key(checkpoint: Checkpoint, raw: str, copy: str) -> str:
    """Return the name of a layer's recurrent weights.

    Where both names are in the file, BEND fills `copy` from `raw` before every use. In a file written during training
    it is what the weight dropout of the last step left: zeros, and the others divided by the share that was kept.
    """
    dropout, weights = checkpoint.config.get("weight_dropout_prob"), checkpoint.weights
    if isinstance(dropout, float) and 0 < dropout < 1 and raw in weights and copy in weights:
        whole, left = weights[raw], weights[copy].float()
        if whole.shape == left.shape and not whole.is_meta:
            dropped = torch.where(left == 0, 0, whole.float() / (1 - dropout))
            if torch.allclose(left, dropped, rtol=1e-5):
                return raw
    return tied_key(checkpoint, raw, copy)


def _spec(checkpoint: Checkpoint) -> AwdLstmSpec:
    """Read the sizes of a network from the config."""
    config, where = checkpoint.config, f"{checkpoint.folder}/config.json"
    if config.get("bidirectional"):
        raise CheckpointError(
            f"{where}: bidirectional is {config['bidirectional']!r}. BEND's two stacks give 2 * input_size channels "
            "and were never published; only models that read from left to right are supported."
        )
    reset = config.get("reset_token_id")
    if reset is not None and (not isinstance(reset, int) or isinstance(reset, bool)):
        raise CheckpointError(f"{where}: reset_token_id is {reset!r}; wanted an id or null.")
    return AwdLstmSpec(
        vocab_size=checkpoint.integer("vocab_size"),
        input_size=checkpoint.integer("input_size"),
        hidden_size=checkpoint.integer("hidden_size"),
        num_hidden_layers=checkpoint.integer("num_hidden_layers", most=len(checkpoint.weights)),
        reset_token_id=reset,
    )
