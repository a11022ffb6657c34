"""IA3: a frozen encoder tuned by three vectors a block, which scale its keys, its values and its feed-forward part.

Source: Liu et al. 2022, NeurIPS, arXiv:2205.05638, section 3.3: ``k' = l_k * k``, ``v' = l_v * v``, and the
feed-forward part ``W2 (l_ff * activation(W1 x))``. Where that part has a gate, ``l_ff`` scales the product of both
halves, which is the input of ``W2`` in every family. Vectors begin as ones, so that the first outputs are those of the
base.
"""

from __future__ import annotations

import copy
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from embedstore.errors import CheckpointError, InputError
from embedstore.models.model import Model
from embedstore.models.training_state import write_tensors
from embedstore.models.transformer import Encoder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from embedstore.models.network import Network
    from embedstore.models.transformer import Block


class IA3(nn.Module):
    """The vectors of an encoder, float32 whatever the precision of its sums.

    Parameters
    ----------
    blocks
        Blocks that are tuned, from the first on.
    width, inner
        Channels of the hidden state, and inside the feed-forward part.

    Attributes
    ----------
    key, value, inner : torch.nn.ParameterList
        One vector a block: (width,), (width,) and (inner,).
    """

    def __init__(self, blocks: int, width: int, inner: int) -> None:
        super().__init__()
        self.key = nn.ParameterList(torch.ones(width) for _ in range(blocks))
        self.value = nn.ParameterList(torch.ones(width) for _ in range(blocks))
        self.inner = nn.ParameterList(torch.ones(inner) for _ in range(blocks))

    @property
    def count(self) -> int:
        """Numbers in all vectors."""
        return sum(vector.numel() for vector in self.parameters())

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Blocks, and channels of the hidden state and inside the feed-forward part."""
        return len(self.key), len(self.key[0]), len(self.inner[0])

    @contextmanager
    def applied(self, network: Network) -> Iterator[None]:
        """Let an encoder compute with the vectors while the context lasts; its weights stay as they are.

        Parameters
        ----------
        network
            The encoder that they were made for.

        Raises
        ------
        InputError
            If it is no encoder, or one of other sizes.
        """
        blocks = _checked_blocks(self, network)
        handles = []
        try:
            for block, key, value, inner in zip(blocks, self.key, self.value, self.inner, strict=False):
                handles.append(block.query_key_value.register_forward_hook(_Scaled(key, value)))
                handles.append(block.down.register_forward_pre_hook(_ScaledInput(inner)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _checked_blocks(vectors: IA3, network: Network) -> list[Block]:
    """Return the blocks of an encoder after making sure that it has the sizes of the vectors."""
    encoder = _encoder(network, "This network")
    spec = encoder.spec
    blocks, width, inner = vectors.sizes
    if blocks > spec.layers or (width, inner) != (spec.width, spec.inner):
        raise InputError(
            f"These IA3 vectors are for {blocks} blocks of {width} channels, {inner} in the feed-forward part; the "
            f"encoder has {spec.layers} blocks of {spec.width} and {spec.inner}. Use the model they were made for."
        )
    return cast("list[Block]", list(encoder.blocks))


class _Scaled:
    """Scales keys and values in what the map to queries, keys and values gives; queries stay as they are."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key, self.value = key, value

    def __call__(self, _module: nn.Module, _given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        # In float32, rounded once: a vector in half precision could not change by less than 0.4 %.
        return (out * _fused(self.key, self.value)).to(out.dtype)


class _ScaledInput:
    """Scales what goes into a linear map."""

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __call__(self, _module: nn.Module, given: tuple[Tensor]) -> Tensor:
        return (given[0] * self.inner).to(given[0].dtype)


def _fused(key: Tensor, value: Tensor) -> Tensor:
    """Return factors for queries (1), keys and values one after another, as the encoder has them."""
    return torch.cat([torch.ones_like(key), key, value])


def add_ia3(model: Model | Network) -> IA3:
    """Make the IA3 vectors of a model, all ones.

    Parameters
    ----------
    model
        A model whose network is a transformer encoder: Nucleotide Transformer v1 and v2, ESM-1b, ESM-2, DNABERT,
        DNABERT-2, GROVER, GENA-LM, CaLM; or such a network. Of a model that gives an earlier hidden state than the
        last, only the blocks up to that one are tuned.

    Returns
    -------
    IA3
        On the device of the network. `IA3.applied` makes the network compute with them.

    Raises
    ------
    InputError
        If the network is no such encoder, or the hidden state comes before the first block.
    """
    if isinstance(model, Model):
        network, what, layer = model.network, f"Model {model.name!r} ({model.record['architecture']})", model.layer
    else:
        network, what, layer = model, "This network", -1
    spec = _encoder(network, what).spec
    last = layer[1] if isinstance(layer, tuple) else layer
    blocks = spec.layers if last == -1 else last
    if blocks < 1:
        raise InputError(f"{what} gives layer {layer}, which no block has changed: there is nothing to tune.")
    return IA3(blocks, spec.width, spec.inner).to(next(network.parameters()).device)


def _encoder(network: Network, what: str) -> Encoder:
    """Return a network after making sure that it is an encoder."""
    if isinstance(network, Encoder):
        return network
    raise InputError(
        f"{what} cannot be tuned by IA3: it is a {type(network).__name__}, and the vectors scale the keys, values and "
        "feed-forward parts of transformer encoders. Use a model of the families of NT, ESM, BERT, DNABERT-2 or CaLM, "
        "or a probe on frozen embeddings."
    )


def fold_ia3(network: Network, vectors: IA3) -> None:
    """Multiply the vectors into the weights of an encoder, in place, so that it computes the same without them.

    Exact where a vector holds powers of two; elsewhere equal to rounding.

    Parameters
    ----------
    network
        The encoder that they were made for.
    vectors
        The vectors.

    Raises
    ------
    InputError
        If they do not belong together.
    """
    blocks = _checked_blocks(vectors, network)
    with torch.no_grad():
        for block, key, value, inner in zip(blocks, vectors.key, vectors.value, vectors.inner, strict=False):
            scale = _fused(key, value)
            block.query_key_value.weight.mul_(scale[:, None])
            if block.query_key_value.bias is not None:
                block.query_key_value.bias.mul_(scale)
            block.down.weight.mul_(inner)


def tuned_model(model: Model, vectors: IA3, name: str) -> Model:
    """Return a model with the vectors in its weights, which can be embedded with as any other.

    Parameters
    ----------
    model
        The base; it stays as it is.
    vectors
        Its vectors.
    name
        Of the new model, under which embeddings are stored.

    Returns
    -------
    Model
        With a digest of its own, made of those of the base and of the vectors: the store never takes its embeddings for
        those of the base.

    Raises
    ------
    InputError
        If they do not belong together.
    """
    network = copy.deepcopy(model.network)
    fold_ia3(network, vectors)
    digest = hashlib.sha256(f"{model.digest} ia3 {_digest(vectors)}".encode()).hexdigest()
    return model.with_network(network, name=name, digest=digest, about={"ia3": _digest(vectors)})


def _digest(vectors: IA3) -> str:
    """Return the sha256 of the vectors."""
    found = hashlib.sha256()
    for key, vector in sorted(vectors.state_dict().items()):
        found.update(key.encode())
        found.update(vector.cpu().numpy().tobytes())
    return found.hexdigest()


def save_ia3(path: str | os.PathLike[str], vectors: IA3, model: Model) -> None:
    """Write the vectors to a safetensors file, with the digest of the model that they belong to.

    Parameters
    ----------
    path
        The file; one of that name is replaced, in one step.
    vectors
        The vectors.
    model
        Their base.
    """
    about = {"model": model.name, "checkpoint": model.digest, "architecture": model.record["architecture"]}
    write_tensors(Path(path), vectors.state_dict(), {"ia3": json.dumps(about)})


def load_ia3(path: str | os.PathLike[str], model: Model) -> IA3:
    """Read vectors that `save_ia3` wrote.

    Parameters
    ----------
    path
        The file.
    model
        Their base, loaded from the same checkpoint.

    Returns
    -------
    IA3
        On the device of the model.

    Raises
    ------
    CheckpointError
        If the file is damaged, is something else, or belongs to another checkpoint.
    InputError
        If the model cannot have vectors.
    """
    from safetensors import SafetensorError, safe_open

    vectors = add_ia3(model)
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["ia3"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        theirs = about["checkpoint"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: is not a whole file of IA3 vectors: {error!r}. Tune the model again."
        ) from error
    if theirs != model.digest:
        raise CheckpointError(
            f"{path}: these IA3 vectors were made for {about.get('model')!r} ({theirs[:12]}), and model {model.name!r} "
            f"has the digest {model.digest[:12]}: scaling other weights would mean nothing. Load the checkpoint that "
            "they were made for."
        )
    try:
        vectors.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: these IA3 vectors do not fit the blocks of model {model.name!r} that give layer "
            f"{model.record['layer']}: {error}. Load the model with the layer that they were made for."
        ) from error
    return vectors
