"""Checkpoints of CaLM, a language model of codons, with the key names of fair-esm."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from embedstore.errors import CheckpointError
from embedstore.models.esm import layer_names, parameter_names
from embedstore.models.heads import head_names
from embedstore.models.transformer import Encoder, EncoderSpec, rotary_frequencies

if TYPE_CHECKING:
    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint

_LAYER = {
    "attention_norm": ("self_attn_layer_norm",),
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.out_proj",),
    "feed_forward_norm": ("final_layer_norm",),
    "up": ("fc1",),
    "down": ("fc2",),
}
_QUERY_OR_KEY = re.compile(r"layers\.\d+\.self_attn\.[qk]_proj\.(weight|bias)")
_FREQUENCIES = re.compile(r"layers\.\d+\.self_attn\.rope\.freqs")


def build_calm(checkpoint: Checkpoint) -> Encoder:
    """Make the encoder of a checkpoint.

    CaLM rotates adjacent channels of a head, (0, 1), (2, 3), ...; our encoder rotates channel i with i + half.
    Attention does not change when the channels of queries and keys are put into another order, so their linear maps get
    first the rows of even channels, then those of odd ones.

    Parameters
    ----------
    checkpoint
        Config and weights. The config has the names of the arguments of the published code (``embed_dim``,
        ``num_layers``, ``attention_heads``, ``ffn_embed_dim``, ``rope_embedding``).

    Returns
    -------
    Encoder
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.

    References
    ----------
    Outeiral and Deane 2024, Nature Machine Intelligence 6:170; ``calm/model.py`` and ``calm/multihead_attention.py`` of
    the CaLM repository.
    """
    where = f"{checkpoint.folder}/config.json"
    if checkpoint.config.get("rope_embedding") is not True:
        raise CheckpointError(f"{where}: rope_embedding is {checkpoint.config.get('rope_embedding')!r}; wanted true.")
    width, heads = checkpoint.integer("embed_dim"), checkpoint.integer("attention_heads")
    if width % (2 * heads):
        raise CheckpointError(f"{where}: {width} channels cannot be divided among {heads} heads, evenly and in pairs.")
    head = head_names(
        checkpoint,
        "lm_head.dense",
        "lm_head.layer_norm",
        ("lm_head.bias",),
        ("lm_head.weight",),
        "embed_tokens.weight",
    )
    spec = EncoderSpec(
        vocabulary=checkpoint.integer("vocab_size"),
        width=width,
        layers=checkpoint.integer("num_layers", most=len(checkpoint.weights)),
        heads=heads,
        inner=checkpoint.integer("ffn_embed_dim"),
        epsilon=checkpoint.fraction("layer_norm_eps"),
        positions="rotary",
        head=bool(head),
    )
    modules = {"final_norm": ("emb_layer_norm_after",)} | layer_names(_LAYER, "layers", spec.layers)
    names = {"embedding.weight": ("embed_tokens.weight",)} | head | parameter_names(modules, spec)
    _check_frequencies(checkpoint, width // heads)
    with torch.device("meta"):
        encoder = Encoder(spec)
    weights = {
        name: _halves(tensor, heads) if _QUERY_OR_KEY.fullmatch(name) and len(tensor) == width else tensor
        for name, tensor in checkpoint.weights.items()
    }
    replace(checkpoint, weights=weights).fill(encoder, names, ["layers.*.self_attn.rope.freqs"])
    return encoder


def _halves(tensor: Tensor, heads: int) -> Tensor:
    """Put the even channels of every head before the odd ones."""
    return tensor.view(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)


def _check_frequencies(checkpoint: Checkpoint, channels: int) -> None:
    """Make sure that the frequencies in the file are the usual ones, which the encoder has."""
    usual = rotary_frequencies(channels)
    for name, tensor in checkpoint.weights.items():
        if not _FREQUENCIES.fullmatch(name) or tensor.is_meta:
            continue
        if tensor.shape != usual.shape or not torch.allclose(tensor.float(), usual, rtol=1e-5):
            raise CheckpointError(
                f"{checkpoint.folder}: {name} must hold the {len(usual)} numbers 10000 ** (-2 i / {channels}); the "
                "model was trained with other positions."
            )
