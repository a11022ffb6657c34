"""Families that run through transformers' own classes: ESM-C, ProtT5 and ModernBERT (ModernGENA).

Only named classes are used, built from the fields of ``config.json`` that decide the numbers; nothing is looked up by
the name of a class in a file, and no code of a checkpoint is run. transformers is imported where it is used: it takes
seconds.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from embedstore.errors import CheckpointError
from embedstore.models.network import Network
from embedstore.models.tied import tied_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.models.layers import Layer

# The ids are for training and generation; as defaults they can lie outside a small vocabulary.
_COMMON: dict[str, Any] = {"attn_implementation": "sdpa"} | dict.fromkeys(
    ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
)


class NativeNetwork(Network):
    """An encoder of transformers, its final norm taken out.

    Parameters
    ----------
    body
        The encoder.
    norm
        Name of its final norm, which becomes this network's.
    head
        What gives the scores; None (default) where the checkpoint has nothing for it.
    """

    pads = True

    def __init__(self, body: Any, norm: str, head: nn.Module | None = None) -> None:
        super().__init__()
        self.width = body.config.hidden_size
        self.layers = body.config.num_hidden_layers
        # Without it the class gives the states as they are between its blocks, the last one too.
        self.final_norm = getattr(body, norm)
        setattr(body, norm, nn.Identity())
        self.body = body
        self.head = head

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the hidden states; see `Network.states`."""
        yield from self._run(ids, lengths, output_hidden_states=True).hidden_states

    def last(self, state: Tensor) -> Tensor:
        """Return the last hidden state: the final norm of the one after the last block."""
        normed: Tensor = self.final_norm(state)
        return normed

    def forward(self, ids: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:
        """Return a hidden state, or a mean of several; see `Network.forward`."""
        if layer != -1:
            return super().forward(ids, layer, lengths)
        # The class would keep all states of a batch in memory to give them.
        return self.last(self._run(ids, lengths, output_hidden_states=False).last_hidden_state)

    def _run(self, ids: Tensor, lengths: Tensor | None, *, output_hidden_states: bool) -> Any:
        """Run the encoder."""
        mask = None
        if lengths is not None:
            mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        return self.body(input_ids=ids, attention_mask=mask, output_hidden_states=output_hidden_states)


# ---- ESM-C ---------------------------------------------------------------------------------------

# The parameters of a block in transformers, and where they are in the layouts of EvolutionaryScale and of biohub (fused
# for NVIDIA's Transformer Engine). Several of ours: one tensor of theirs, cut along the first axis.
_ESMC_BLOCK = {
    ("input_layernorm.weight",): ("attn.layernorm_qkv.0.weight", "attn.layernorm_qkv.layer_norm_weight"),
    ("input_layernorm.bias",): ("attn.layernorm_qkv.0.bias", "attn.layernorm_qkv.layer_norm_bias"),
    tuple(f"self_attn.{part}_proj.weight" for part in "qkv"): (
        "attn.layernorm_qkv.1.weight",
        "attn.layernorm_qkv.weight",
    ),
    ("self_attn.q_norm.weight",): ("attn.q_ln.weight",),
    ("self_attn.k_norm.weight",): ("attn.k_ln.weight",),
    ("self_attn.o_proj.weight",): ("attn.out_proj.weight",),
    ("post_attention_layernorm.weight",): ("ffn.0.weight", "ffn.layer_norm_weight"),
    ("post_attention_layernorm.bias",): ("ffn.0.bias", "ffn.layer_norm_bias"),
    ("mlp.gate_proj.weight", "mlp.up_proj.weight"): ("ffn.1.weight", "ffn.fc1_weight"),
    ("mlp.down_proj.weight",): ("ffn.3.weight", "ffn.fc2_weight"),
}
_ESMC_PARTS = {theirs: ours for ours, names in _ESMC_BLOCK.items() for theirs in names}
_ESMC_OTHERS = {"embed.": "esmc.embed_tokens.", "transformer.norm.": "esmc.norm."} | {
    f"{head}.{i}.": f"lm_head.{name}."
    for head in ("sequence_head", "lm_head")
    for i, name in ((0, "dense"), (2, "layer_norm"), (3, "decoder"))
}
_ESMC_KEY = re.compile(r"(?:esmc\.)?(?:transformer\.blocks\.(\d+)\.(.+)|(.+\.)(weight|bias))")
_ESMC_SIZES = {"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}


def is_esmc(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint says that it is an ESM-C.

    Parameters
    ----------
    checkpoint
        A checkpoint of any architecture.

    Returns
    -------
    bool
    """
    said = [checkpoint.config.get("model_type"), *(checkpoint.config.get("architectures") or [])]
    return any(str(name).lower().startswith("esmc") for name in said)


def build_esmc(checkpoint: Checkpoint) -> NativeNetwork:
    """Make the network of an ESM-C checkpoint.

    Parameters
    ----------
    checkpoint
        Config and weights, in the layout of transformers, of EvolutionaryScale or of biohub. EvolutionaryScale's files
        come without a config; one with transformers' names, or with `d_model`, `n_layers`, `n_heads`, must be in the
        folder.

    Returns
    -------
    NativeNetwork
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.
    """
    from transformers import EsmcConfig, EsmcForMaskedLM

    checkpoint = dataclasses.replace(checkpoint, config=_esmc_config(checkpoint), weights=_esmc_weights(checkpoint))
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    fields = _fields(checkpoint, sizes, ("hidden_act", "rope_parameters", "attention_bias", "mlp_bias", "head_dim"))
    whole = _on_meta(checkpoint, lambda: EsmcForMaskedLM(EsmcConfig(**fields, **_COMMON)))
    prefix = _prefix(checkpoint, "esmc.")
    head = whole.lm_head if _prefix(checkpoint, "lm_head.") else None
    network = NativeNetwork(whole.esmc, "norm", head)
    names = _names(network, {"body.": prefix, "final_norm.": f"{prefix}norm.", "head.": "lm_head."})
    checkpoint.fill(network, names, ["*._extra_state"])
    return _with_frequencies(network)


def _esmc_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config under transformers' names; the inner width is in the weights where it is not there."""
    config = dict(checkpoint.config)
    for name, theirs in _ESMC_SIZES.items():
        config.setdefault(name, config.get(theirs))
    down = [tensor for key, tensor in checkpoint.weights.items() if key.endswith((".ffn.3.weight", ".ffn.fc2_weight"))]
    if down and down[0].ndim:
        config.setdefault("intermediate_size", down[0].shape[-1])
    missing = [name for name in ("vocab_size", "intermediate_size", *_ESMC_SIZES) if config.get(name) is None]
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: the fields {missing} are missing. EvolutionaryScale's files come "
            "without them: write the sizes of the model into config.json, under the names of transformers' EsmcConfig."
        )
    return config


def _esmc_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights under transformers' names; what is not known keeps its own."""
    weights: dict[str, Tensor] = {}
    for key, tensor in checkpoint.weights.items():
        match = _ESMC_KEY.fullmatch(key)
        block, part, other, kind = match.groups() if match else (None,) * 4
        if part in _ESMC_PARTS and tensor.ndim:
            ours = _ESMC_PARTS[part]
            weights |= zip(
                (f"esmc.layers.{block}.{name}" for name in ours), tensor.tensor_split(len(ours)), strict=True
            )
        else:
            weights[f"{_ESMC_OTHERS[other]}{kind}" if other in _ESMC_OTHERS else key] = tensor
    return weights


# ---- ProtT5 --------------------------------------------------------------------------------------


def build_prott5(checkpoint: Checkpoint) -> NativeNetwork:
    """Make the encoder of a T5 checkpoint; a decoder in it is left out.

    Parameters
    ----------
    checkpoint
        Config and weights. The embedding is ``shared.weight``, ``encoder.embed_tokens.weight`` or both.

    Returns
    -------
    NativeNetwork
        With the weights of the checkpoint; without a head.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.
    """
    from transformers import T5Config, T5EncoderModel

    sizes = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets")
    fields = _fields(checkpoint, sizes, ("relative_attention_max_distance", "feed_forward_proj"))
    fields["layer_norm_epsilon"] = checkpoint.fraction("layer_norm_epsilon")
    whole = _on_meta(checkpoint, lambda: T5EncoderModel(T5Config(**fields, **_COMMON)))
    network = NativeNetwork(whole.encoder, "final_layer_norm")
    embedding = ("shared.weight", "encoder.embed_tokens.weight")
    names = _names(network, {"body.": "encoder.", "final_norm.": "encoder.final_layer_norm."})
    names["body.embed_tokens.weight"] = (tied_key(checkpoint, *embedding),)
    checkpoint.fill(network, names, [*embedding, "decoder.*", "lm_head.*"])
    return network.eval()


# ---- ModernBERT ----------------------------------------------------------------------------------


def build_modernbert(checkpoint: Checkpoint) -> NativeNetwork:
    """Make the network of a ModernBERT checkpoint.

    Parameters
    ----------
    checkpoint
        Config and weights. Fields of transformers 4 (`global_attn_every_n_layers`, `global_rope_theta`,
        `local_rope_theta`) and of transformers 5 (`layer_types`, `rope_parameters`) are understood.

    Returns
    -------
    NativeNetwork
        With the weights of the checkpoint.

    Raises
    ------
    CheckpointError
        If a field or key is missing, unknown, or of the wrong type or shape.
    """
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    switches = ("hidden_activation", "classifier_activation")
    biases = ("norm_bias", "attention_bias", "mlp_bias", "decoder_bias", "classifier_bias")
    fields = _fields(checkpoint, (*sizes, "local_attention"), (*switches, *biases))
    fields |= {"norm_eps": checkpoint.fraction("norm_eps"), **_attention_pattern(checkpoint)}
    whole = _on_meta(checkpoint, lambda: ModernBertForMaskedLM(ModernBertConfig(**fields, **_COMMON)))
    prefix = _prefix(checkpoint, "model.")
    embedding = f"{prefix}embeddings.tok_embeddings.weight"
    head = nn.Sequential(whole.head, whole.decoder) if _prefix(checkpoint, "head.") else None
    network = NativeNetwork(whole.model, "final_norm", head)
    theirs = {"body.": prefix, "final_norm.": f"{prefix}final_norm.", "head.0.": "head.", "head.1.": "decoder."}
    names = _names(network, theirs)
    tied = checkpoint.config.get("tie_word_embeddings", True) and "decoder.weight" not in checkpoint.weights
    if head is not None and tied:
        names["head.1.weight"] = (embedding,)
    checkpoint.fill(network, names, ())
    if head is not None and tied:
        head[1].weight = network.body.embeddings.tok_embeddings.weight
    return _with_frequencies(network)


def _attention_pattern(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return which layers see everything and which a window, and the rotary frequencies of both."""
    config = checkpoint.config
    types, rotary = config.get("layer_types"), config.get("rope_parameters")
    if types is None:
        every = checkpoint.integer("global_attn_every_n_layers")
        layers = range(checkpoint.integer("num_hidden_layers"))
        types = ["sliding_attention" if i % every else "full_attention" for i in layers]
    if rotary is None:
        everywhere, nearby = config.get("global_rope_theta"), config.get("local_rope_theta")
        if nearby is None and "local_rope_theta" in config:
            nearby = everywhere  # as in transformers 4
        if not all(isinstance(theta, int | float) and theta > 0 for theta in (everywhere, nearby)):
            raise CheckpointError(
                f"{checkpoint.folder}/config.json: global_rope_theta is {everywhere!r}, local_rope_theta {nearby!r}; "
                "wanted positive numbers, or the field rope_parameters."
            )
        thetas = {"full_attention": everywhere, "sliding_attention": nearby}
        rotary = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()}
    return {"layer_types": types, "rope_parameters": rotary}


# ---- common parts --------------------------------------------------------------------------------


def _fields(checkpoint: Checkpoint, sizes: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """Return fields of the config: the sizes, which must be there, and others where they are."""
    # No file has more layers than tensors: a config cannot make us build for hours.
    most = {"num_hidden_layers": len(checkpoint.weights), "num_layers": len(checkpoint.weights)}
    values = {name: checkpoint.integer(name, most=most.get(name, 10**7)) for name in sizes}
    given = {name: checkpoint.config[name] for name in others if checkpoint.config.get(name) is not None}
    return values | given


def _on_meta(checkpoint: Checkpoint, make: Callable[[], Any]) -> Any:
    """Make a model without memory for its weights."""
    try:
        with torch.device("meta"):
            return make()
    except Exception as error:
        # transformers and what it stands on raise nearly anything for a config that makes no sense.
        what = " ".join(str(error).split())
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: transformers makes no model of it: {type(error).__name__}: {what}"
        ) from error


def _prefix(checkpoint: Checkpoint, prefix: str) -> str:
    """Return a prefix if any key of a checkpoint begins with it, or nothing."""
    return prefix if any(key.startswith(prefix) for key in checkpoint.weights) else ""


def _names(network: nn.Module, prefixes: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Return where each parameter is in the file: as in the network, but for what its name begins with."""
    return {
        ours: (theirs + ours.removeprefix(begin),)
        for ours in network.state_dict()
        for begin, theirs in prefixes.items()
        if ours.startswith(begin)
    }


def _with_frequencies(network: NativeNetwork) -> NativeNetwork:
    """Return a network for use, its rotary frequencies computed anew: no file has them, and on meta they are empty."""
    rotary = network.body.rotary_emb
    network.body.rotary_emb = type(rotary)(network.body.config)
    return network.eval()
