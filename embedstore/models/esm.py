"""Checkpoints with the key names of the ESM family: the Nucleotide Transformer, v1 and v2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from embedstore.errors import CheckpointError
from embedstore.models.transformer import Encoder, EncoderSpec

if TYPE_CHECKING:
    from embedstore.models.checkpoints import Checkpoint

_INVERSE_FREQUENCY = "attention.self.rotary_embeddings.inv_freq"
_LAYER = {
    "attention_norm": ("attention.LayerNorm",),
    "query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "feed_forward_norm": ("LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}


def is_esm(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint says that it is of the ESM family.

    Parameters
    ----------
    checkpoint
        A checkpoint of any architecture.

    Returns
    -------
    bool
    """
    classes = checkpoint.config.get("architectures") or []
    return checkpoint.config.get("model_type") == "esm" or any(str(name).startswith("Esm") for name in classes)


def build_esm(checkpoint: Checkpoint) -> Encoder:
    """Make the encoder of a checkpoint.

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
    prefix = "esm." if any(key.startswith("esm.") for key in checkpoint.weights) else ""
    spec = esm_spec(checkpoint, prefix)
    ignorable = ["lm_head.*", "*contact_head.*", "*position_ids"]
    names: dict[str, tuple[str, ...]] = {"embedding.weight": (f"{prefix}embeddings.word_embeddings.weight",)}
    if spec.positions == "learned":
        names["position_embedding.weight"] = (f"{prefix}embeddings.position_embeddings.weight",)
    else:
        ignorable += [f"{prefix}embeddings.position_embeddings.weight", f"*.{_INVERSE_FREQUENCY}"]
    parts: dict[str, tuple[str, ...]] = {"final_norm": (f"{prefix}encoder.emb_layer_norm_after",)}
    for i in range(spec.layers):
        for ours, theirs in _LAYER.items():
            parts[f"blocks.{i}.{ours}"] = tuple(f"{prefix}encoder.layer.{i}.{name}" for name in theirs)
    for ours, theirs in parts.items():
        linear_without_bias = ours.endswith((".up", ".down")) and not spec.feed_forward_bias
        for kind in ("weight",) if linear_without_bias else ("weight", "bias"):
            names[f"{ours}.{kind}"] = tuple(f"{name}.{kind}" for name in theirs)
    with torch.device("meta"):
        encoder = Encoder(spec)
    checkpoint.fill(encoder, names, ignorable)
    if spec.positions == "rotary":
        encoder.inverse_frequency = _inverse_frequency(checkpoint, spec)
    return encoder


def esm_spec(checkpoint: Checkpoint, prefix: str) -> EncoderSpec:
    """Read the switches of an encoder from the config and the shapes of the weights.

    Parameters
    ----------
    checkpoint
        Config and weights.
    prefix
        ``"esm."`` or nothing: what the keys of the encoder begin with.

    Returns
    -------
    EncoderSpec

    Raises
    ------
    CheckpointError
        If a field is missing or has a value that is not supported.
    """
    config, where = checkpoint.config, f"{checkpoint.folder}/config.json"
    for field in ("emb_layer_norm_before", "is_folding_model"):
        if config.get(field):
            raise CheckpointError(f"{where}: {field} is {config[field]!r}; only models without it are supported.")
    positions = config.get("position_embedding_type")
    if positions not in ("absolute", "rotary"):
        raise CheckpointError(f"{where}: position_embedding_type is {positions!r}; wanted 'absolute' or 'rotary'.")
    width, heads, inner = (checkpoint.integer(f) for f in ("hidden_size", "num_attention_heads", "intermediate_size"))
    if width % heads or (positions == "rotary" and width // heads % 2):
        raise CheckpointError(f"{where}: {width} channels cannot be divided among {heads} heads.")
    epsilon = config.get("layer_norm_eps")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise CheckpointError(f"{where}: layer_norm_eps is {epsilon!r}; wanted a number between 0 and 1.")
    # SwiGLU models say nothing of it in a field that all of them have: the gate shows as twice the rows.
    up = checkpoint.weights.get(f"{prefix}encoder.layer.0.intermediate.dense.weight")
    return EncoderSpec(
        vocabulary=checkpoint.integer("vocab_size"),
        width=width,
        layers=checkpoint.integer("num_hidden_layers", most=len(checkpoint.weights)),
        heads=heads,
        inner=inner,
        epsilon=epsilon,
        positions="learned" if positions == "absolute" else "rotary",
        position_rows=checkpoint.integer("max_position_embeddings"),
        position_offset=checkpoint.integer("pad_token_id") + 1,
        embedding_scale=0.88 if config.get("token_dropout") else 1.0,
        gated=up is not None and up.shape[0] == 2 * inner,
        feed_forward_bias=any(key.endswith(".intermediate.dense.bias") for key in checkpoint.weights),
    )


def esm_max_tokens(checkpoint: Checkpoint) -> int:
    """Return the most tokens that a checkpoint takes, ``<cls>`` included.

    Parameters
    ----------
    checkpoint
        Its config gives ``max_position_embeddings``, of which the first rows (padding id and below) stand for no
        position; its tokenizer config may give a smaller ``model_max_length``.

    Returns
    -------
    int

    Raises
    ------
    CheckpointError
        If no token would fit beside ``<cls>``.
    """
    tokens = checkpoint.integer("max_position_embeddings") - checkpoint.integer("pad_token_id") - 1
    stated = checkpoint.tokenizer_config.get("model_max_length")
    if isinstance(stated, int):
        tokens = min(tokens, stated)
    if tokens < 2:
        raise CheckpointError(
            f"{checkpoint.folder}: max_position_embeddings (config.json) and model_max_length (tokenizer_config.json) "
            f"leave room for {tokens} tokens; wanted at least 2."
        )
    return tokens


def _inverse_frequency(checkpoint: Checkpoint, spec: EncoderSpec) -> torch.Tensor:
    """Return the rotary frequencies of the file, which can be rounded and are the ones the model was trained with."""
    half = spec.width // spec.heads // 2
    stored = [t for name, t in checkpoint.weights.items() if name.endswith(f".{_INVERSE_FREQUENCY}")]
    if not stored:
        return 10000.0 ** (-torch.arange(half, dtype=torch.float32) / half)
    first = stored[0].to(torch.float32, copy=True)
    if first.shape != (half,) or not all(torch.equal(t.float(), first) for t in stored):
        raise CheckpointError(
            f"{checkpoint.folder}: the rotary frequencies (*.{_INVERSE_FREQUENCY}) must have the shape [{half}] and be "
            "equal in all layers."
        )
    return first
