"""Checkpoints with the key names of the ESM family: ESM-1b, ESM-2 and the Nucleotide Transformer, v1 and v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from embedstore.errors import CheckpointError
from embedstore.models.heads import head_names
from embedstore.models.transformer import Encoder, EncoderSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstore.models.checkpoints import Checkpoint

_INVERSE_FREQUENCY = "rotary_embeddings.inv_freq"  # of every block, or one for all
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
    return checkpoint.config.get("model_type") == "esm" or any(
        str(name).startswith(("EsmFor", "EsmModel")) for name in classes
    )


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
    embedding = f"{prefix}embeddings.word_embeddings.weight"
    head = head_names(
        checkpoint, "lm_head.dense", "lm_head.layer_norm", ("lm_head.bias",), ("lm_head.decoder.weight",), embedding
    )
    spec = _spec(checkpoint, prefix, head=bool(head))
    ignorable = ["lm_head.decoder.bias", "*contact_head.*", "*position_ids"]
    names: dict[str, tuple[str, ...]] = {"embedding.weight": (embedding,)} | head
    if spec.positions == "learned":
        names["position_embedding.weight"] = (f"{prefix}embeddings.position_embeddings.weight",)
    else:
        ignorable += [f"{prefix}embeddings.position_embeddings.weight", f"*{_INVERSE_FREQUENCY}"]
    modules: dict[str, tuple[str, ...]] = {"final_norm": (f"{prefix}encoder.emb_layer_norm_after",)}
    if spec.embedding_norm:
        modules["embedding_norm"] = (f"{prefix}embeddings.layer_norm",)
    modules |= layer_names(_LAYER, f"{prefix}encoder.layer", spec.layers)
    names |= parameter_names(modules, spec)
    with torch.device("meta"):
        encoder = Encoder(spec)
    checkpoint.fill(encoder, names, ignorable)
    if spec.positions == "rotary":
        stored = _inverse_frequency(checkpoint, spec)
        encoder.inverse_frequency = encoder.inverse_frequency if stored is None else stored
    return encoder


def layer_names(layer: Mapping[str, tuple[str, ...]], prefix: str, layers: int) -> dict[str, tuple[str, ...]]:
    """Return where the modules of all blocks are in a checkpoint.

    Parameters
    ----------
    layer
        For one block: our module and its modules in the checkpoint.
    prefix
        What stands before the number of a block.
    layers
        Number of blocks.

    Returns
    -------
    dict of str to tuple of str
        Our module: its modules in the checkpoint.
    """
    return {
        f"blocks.{i}.{ours}": tuple(f"{prefix}.{i}.{name}" for name in theirs)
        for i in range(layers)
        for ours, theirs in layer.items()
    }


def parameter_names(modules: Mapping[str, tuple[str, ...]], spec: EncoderSpec) -> dict[str, tuple[str, ...]]:
    """Return where the weights and biases of modules are in a checkpoint.

    Parameters
    ----------
    modules
        Our module: its modules in the checkpoint.
    spec
        Says which linear maps have no bias.

    Returns
    -------
    dict of str to tuple of str
        Our parameter: its tensors in the checkpoint.
    """
    without = {"query_key_value": not spec.attention_bias, "up": not spec.up_bias, "down": not spec.down_bias}
    return {
        f"{ours}.{kind}": tuple(f"{name}.{kind}" for name in theirs)
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
        if kind == "weight" or not without.get(ours.rpartition(".")[2], False)
    }


def _spec(checkpoint: Checkpoint, prefix: str, *, head: bool) -> EncoderSpec:
    """Read the switches of an encoder from the config and the shapes of the weights."""
    config, where = checkpoint.config, f"{checkpoint.folder}/config.json"
    if config.get("is_folding_model"):
        raise CheckpointError(
            f"{where}: is_folding_model is {config['is_folding_model']!r}: this is no language model."
        )
    positions = config.get("position_embedding_type")
    if positions not in ("absolute", "rotary"):
        raise CheckpointError(f"{where}: position_embedding_type is {positions!r}; wanted 'absolute' or 'rotary'.")
    inner = checkpoint.integer("intermediate_size")
    # SwiGLU models say nothing of it in a field that all of them have: the gate shows as twice the rows.
    up = checkpoint.weights.get(f"{prefix}encoder.layer.0.intermediate.dense.weight")
    gated = up is not None and up.shape[0] == 2 * inner
    bias = any(key.endswith(".intermediate.dense.bias") for key in checkpoint.weights)
    return EncoderSpec(
        **encoder_sizes(checkpoint, even_heads=positions == "rotary"),
        inner=inner,
        epsilon=checkpoint.fraction("layer_norm_eps"),
        positions="learned" if positions == "absolute" else "rotary",
        position_rows=checkpoint.integer("max_position_embeddings"),
        position_offset=checkpoint.integer("pad_token_id") + 1,
        embedding_norm=bool(config.get("emb_layer_norm_before")),
        dropout_mask_id=checkpoint.integer("mask_token_id") if config.get("token_dropout") else None,
        activation="silu" if gated else "gelu",
        gated=gated,
        up_bias=bias,
        down_bias=bias,
        head=head,
    )


def encoder_sizes(checkpoint: Checkpoint, *, even_heads: bool) -> dict[str, Any]:
    """Read the sizes of an encoder from the fields that most configs have.

    Parameters
    ----------
    checkpoint
        Its config has ``vocab_size``, ``hidden_size``, ``num_hidden_layers`` and ``num_attention_heads``.
    even_heads
        Whether the channels of a head must be an even number, as rotary positions need.

    Returns
    -------
    dict of str to int
        The fields vocabulary, width, layers and heads of an `EncoderSpec`.

    Raises
    ------
    CheckpointError
        If a field is missing, or the channels cannot be divided among the heads.
    """
    width, heads = checkpoint.integer("hidden_size"), checkpoint.integer("num_attention_heads")
    if width % heads or (even_heads and width // heads % 2):
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: {width} channels cannot be divided among {heads} heads."
        )
    return {
        "vocabulary": checkpoint.integer("vocab_size"),
        "width": width,
        "layers": checkpoint.integer("num_hidden_layers", most=len(checkpoint.weights)),
        "heads": heads,
    }


def esm_max_tokens(checkpoint: Checkpoint) -> int:
    """Return the most tokens that a checkpoint takes, special tokens included.

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
        If no token would fit beside the special ones.
    """
    tokens = checkpoint.integer("max_position_embeddings") - checkpoint.integer("pad_token_id") - 1
    stated = checkpoint.tokenizer_config.get("model_max_length")
    if isinstance(stated, int):
        tokens = min(tokens, stated)
    if tokens < 3:
        raise CheckpointError(
            f"{checkpoint.folder}: max_position_embeddings (config.json) and model_max_length (tokenizer_config.json) "
            f"leave room for {tokens} tokens; wanted at least 3."
        )
    return tokens


def _inverse_frequency(checkpoint: Checkpoint, spec: EncoderSpec) -> torch.Tensor | None:
    """Return the rotary frequencies of the file, which can be rounded and are the ones the model was trained with."""
    half = spec.width // spec.heads // 2
    stored = [t for name, t in checkpoint.weights.items() if name.endswith(_INVERSE_FREQUENCY)]
    if not stored:
        return None
    first = stored[0].to(torch.float32, copy=True)
    alike = first.is_meta or all(t.shape == first.shape and torch.equal(t.float(), first) for t in stored)
    if first.shape != (half,) or not alike:
        raise CheckpointError(
            f"{checkpoint.folder}: the rotary frequencies (*{_INVERSE_FREQUENCY}) must have the shape [{half}] and be "
            "equal in all layers."
        )
    return first
