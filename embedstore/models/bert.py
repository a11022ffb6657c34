"""Checkpoints with the key names of BERT: DNABERT, GROVER, DNABERT-2, GENA-LM BERT and GENA-LM BigBird."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from embedstore.errors import CheckpointError
from embedstore.models.esm import encoder_sizes, layer_names, parameter_names
from embedstore.models.heads import head_names
from embedstore.models.transformer import Encoder, EncoderSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.models.transformer import Activation

_SPLIT = {"query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value")}
_LINEAR = _SPLIT | {
    "attention_out": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
_BERT = _LINEAR | {
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_forward_norm": ("output.LayerNorm",),
}
_GENA = _LINEAR | {
    "attention_norm": ("pre_attention_ln",),
    "feed_forward_norm": ("post_attention_ln",),
}
_DNABERT2 = {
    "query_key_value": ("attention.self.Wqkv",),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("mlp.gated_layers",),
    "down": ("mlp.wo",),
    "feed_forward_norm": ("mlp.layernorm",),
}
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_IGNORABLE = ("*position_ids", "*token_type_ids", "*pooler.*", "cls.seq_relationship.*", "cls.predictions.decoder.bias")


def is_bert(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is of the original BERT architecture, as those of DNABERT and GROVER are.

    Parameters
    ----------
    checkpoint
        A checkpoint of any architecture.

    Returns
    -------
    bool
    """
    others = is_dnabert2(checkpoint) or is_gena_bert(checkpoint)
    return checkpoint.config.get("model_type") == "bert" and not others


def is_dnabert2(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is of DNABERT-2.

    Its config says ``bert``, and transformers makes an ordinary BERT with random weights of it: the keys decide.

    Parameters
    ----------
    checkpoint
        A checkpoint of any architecture.

    Returns
    -------
    bool
    """
    return _has(checkpoint, ".attention.self.Wqkv.weight")


def is_gena_bert(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is of GENA-LM's pre-norm BERT.

    Parameters
    ----------
    checkpoint
        A checkpoint of any architecture.

    Returns
    -------
    bool
    """
    return _has(checkpoint, ".pre_attention_ln.weight")


def build_bert(checkpoint: Checkpoint) -> Encoder:
    """Make the encoder of DNABERT or GROVER: post-norm, learned positions.

    Parameters
    ----------
    checkpoint
        Config and weights.

    Returns
    -------
    Encoder
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.
    """
    return _build(checkpoint, _BERT, norms="post", **_learned(checkpoint))


def build_dnabert2(checkpoint: Checkpoint) -> Encoder:
    """Make the encoder of DNABERT-2: post-norm, attention that falls with distance (ALiBi), gated GELU.

    Parameters
    ----------
    checkpoint
        Config and weights.

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
    Zhou et al. 2024, ICLR, arXiv:2306.15006; ``bert_layers.py`` of DNABERT-2-117M.
    """
    return _build(checkpoint, _DNABERT2, norms="post", positions="alibi", gated=True, up_bias=False)


def build_gena_bert(checkpoint: Checkpoint) -> Encoder:
    """Make the encoder of GENA-LM BERT: pre-norm, learned positions.

    Some of its checkpoints have a norm after the last block and some have not. The key decides, not the config, because
    the published configs leave the field out.

    Parameters
    ----------
    checkpoint
        Config and weights.

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
    Fishman et al. 2025, Nucleic Acids Research 53:gkae1310; ``src/gena_lm/modeling_bert.py`` of the GENA_LM repository.
    """
    final = _has(checkpoint, "encoder.last_layer_ln.weight")
    stated = checkpoint.config.get("last_layer_norm")
    if isinstance(stated, bool) and stated is not final:
        raise CheckpointError(
            f"{checkpoint.folder}: config.json says last_layer_norm {stated}, the weights "
            f"{'have' if final else 'lack'} bert.encoder.last_layer_ln: one of the two files belongs to another model."
        )
    return _build(checkpoint, _GENA, norms="pre", final_norm=final, **_learned(checkpoint))


def build_big_bird(checkpoint: Checkpoint) -> Encoder:
    """Make the encoder of GENA-LM BigBird: a BERT whose attention is block-sparse for long inputs.

    Whether attention is full or sparse is decided for each input by its own length.

    Parameters
    ----------
    checkpoint
        Config and weights.

    Returns
    -------
    Encoder
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.
    """
    where = f"{checkpoint.folder}/config.json"
    kind = checkpoint.config.get("attention_type")
    if kind not in ("block_sparse", "original_full"):
        raise CheckpointError(f"{where}: attention_type is {kind!r}; wanted 'block_sparse' or 'original_full'.")
    use_bias = checkpoint.config.get("use_bias")
    if not isinstance(use_bias, bool):
        raise CheckpointError(f"{where}: use_bias is {use_bias!r}; wanted true or false.")
    sparse = kind == "block_sparse"
    return _build(
        checkpoint,
        _BERT,
        norms="post",
        attention_bias=use_bias,
        embedding_scale=checkpoint.integer("hidden_size") ** 0.5
        if checkpoint.config.get("rescale_embeddings")
        else 1.0,
        sparse_block=checkpoint.integer("block_size") if sparse else 0,
        sparse_copies=checkpoint.integer("num_random_blocks") if sparse else 0,
        **_learned(checkpoint),
    )


def _learned(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the switches of learned positions, which old configs do not name."""
    kind = checkpoint.config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: position_embedding_type is {kind!r}; only 'absolute' is supported here."
        )
    return {"positions": "learned", "position_rows": checkpoint.integer("max_position_embeddings")}


def _build(checkpoint: Checkpoint, layer: Mapping[str, tuple[str, ...]], **switches: Any) -> Encoder:
    """Make an encoder whose embeddings and head are those of BERT."""
    where = f"{checkpoint.folder}/config.json"
    activation = checkpoint.config.get("hidden_act")
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"{where}: hidden_act is {activation!r}; wanted one of {', '.join(_ACTIVATIONS)}.")
    prefix = "bert." if any(key.startswith("bert.") for key in checkpoint.weights) else ""
    embedding = f"{prefix}embeddings.word_embeddings.weight"
    head = head_names(
        checkpoint,
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        ("cls.predictions.decoder.weight",),
        embedding,
    )
    spec = EncoderSpec(
        **encoder_sizes(checkpoint, even_heads=False),
        inner=checkpoint.integer("intermediate_size"),
        epsilon=checkpoint.fraction("layer_norm_eps"),
        token_types=checkpoint.integer("type_vocab_size"),
        embedding_norm=True,
        activation=_ACTIVATIONS[activation],
        head=bool(head),
        **{"final_norm": False, **switches},
    )
    modules: dict[str, tuple[str, ...]] = {"embedding_norm": (f"{prefix}embeddings.LayerNorm",)}
    modules |= layer_names(layer, f"{prefix}encoder.layer", spec.layers)
    if spec.final_norm:
        modules["final_norm"] = (f"{prefix}encoder.last_layer_ln",)
    names = {
        "embedding.weight": (embedding,),
        "token_type_embedding.weight": (f"{prefix}embeddings.token_type_embeddings.weight",),
        **head,
        **parameter_names(modules, spec),
    }
    if spec.positions == "learned":
        names["position_embedding.weight"] = (f"{prefix}embeddings.position_embeddings.weight",)
    with torch.device("meta"):
        encoder = Encoder(spec)
    checkpoint.fill(encoder, names, _IGNORABLE)
    return encoder


def _has(checkpoint: Checkpoint, ending: str) -> bool:
    """Tell whether a checkpoint has a key that ends so."""
    return any(key.endswith(ending) for key in checkpoint.weights)
