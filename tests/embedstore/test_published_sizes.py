"""Every published size of the encoder families, without values: all keys are known, and so many weights are published.

Sizes are those of the checkpoints' config.json files, as the papers give them. Keys and shapes come from the native
class of transformers where there is one, else from the lists of the published code.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embedstore.models.bert import build_bert, build_big_bird, build_dnabert2, build_gena_bert
from embedstore.models.calm import build_calm
from embedstore.models.checkpoints import Checkpoint
from embedstore.models.esm import build_esm


def sizes(layers, width, heads, inner=None):
    """The four fields that all configs of transformers have."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner or 4 * width,
    }


def linear(name, rows, columns, bias=True):
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def native(kind, config, **extra):
    """Keys and shapes of a class of transformers."""
    import transformers

    architecture = {"esm": "Esm", "bert": "Bert", "big_bird": "BigBird"}[kind]
    with torch.device("meta"):
        settings = getattr(transformers, f"{architecture}Config")(**config)
        model = getattr(transformers, f"{architecture}ForMaskedLM")(settings)
    keys = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    keys.pop("esm.rotary_embeddings.inv_freq", None)  # in the published files it is in every block
    return keys | extra


def frequencies(config):
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    blocks = range(config["num_hidden_layers"]) if config["position_embedding_type"] == "rotary" else ()
    return {f"esm.encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq": (half,) for i in blocks}


def esm(config):
    """NT v1, ESM-1b and ESM-2; a rotary file has a position embedding too, of which no use is made."""
    rows = {"esm.embeddings.position_embeddings.weight": (config["max_position_embeddings"], config["hidden_size"])}
    ids = {"esm.embeddings.position_ids": (1, config["max_position_embeddings"])}
    return native("esm", config, **rows, **ids, **frequencies(config))


def nt_v2(config):
    """As ESM, but the feed-forward part has a gate and no biases."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = esm(config)
    for i in range(config["num_hidden_layers"]):
        keys[f"esm.encoder.layer.{i}.intermediate.dense.weight"] = (2 * inner, width)
        for part in ("intermediate", "output"):
            del keys[f"esm.encoder.layer.{i}.{part}.dense.bias"]
    return keys


def bert(config):
    width = config["hidden_size"]
    keys = native("bert", config, **linear("bert.pooler.dense", width, width))
    return keys | linear("cls.seq_relationship", 2, width) | {"bert.embeddings.position_ids": (1, 512)}


def bert_without_layers(config):
    return {name: shape for name, shape in bert(config).items() if ".encoder." not in name}


def dnabert2(config):
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = bert_without_layers(config)
    del keys["bert.embeddings.position_embeddings.weight"]
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        keys |= linear(f"{layer}.attention.self.Wqkv", 3 * width, width)
        keys |= linear(f"{layer}.attention.output.dense", width, width)
        keys |= norm(f"{layer}.attention.output.LayerNorm", width) | norm(f"{layer}.mlp.layernorm", width)
        keys |= linear(f"{layer}.mlp.gated_layers", 2 * inner, width, bias=False)
        keys |= linear(f"{layer}.mlp.wo", width, inner)
    return keys


def gena_bert(config):
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = bert_without_layers(config)
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            keys |= linear(f"{layer}.attention.{name}", width, width)
        keys |= norm(f"{layer}.pre_attention_ln", width) | norm(f"{layer}.post_attention_ln", width)
        keys |= linear(f"{layer}.intermediate.dense", inner, width) | linear(f"{layer}.output.dense", width, inner)
    return keys


def gena_bert_with_last_norm(config):
    return gena_bert(config) | norm("bert.encoder.last_layer_ln", config["hidden_size"])


def big_bird(config):
    return native("big_bird", config, **linear("bert.pooler", config["hidden_size"], config["hidden_size"]))


def calm(config):
    width, inner = config["embed_dim"], config["ffn_embed_dim"]
    keys = {"embed_tokens.weight": (69, width), "lm_head.weight": (69, width), "lm_head.bias": (69,)}
    keys |= linear("lm_head.dense", width, width) | norm("lm_head.layer_norm", width)
    keys |= norm("emb_layer_norm_after", width)
    for i in range(config["num_layers"]):
        layer = f"layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            keys |= linear(f"{layer}.self_attn.{name}", width, width)
        keys |= norm(f"{layer}.self_attn_layer_norm", width) | norm(f"{layer}.final_layer_norm", width)
        keys |= linear(f"{layer}.fc1", inner, width) | linear(f"{layer}.fc2", width, inner)
        keys[f"{layer}.self_attn.rope.freqs"] = (width // config["attention_heads"] // 2,)
    return keys


ESM = {"model_type": "esm", "pad_token_id": 1}
NT = ESM | {"mask_token_id": 2, "token_dropout": False, "emb_layer_norm_before": False, "layer_norm_eps": 1e-12}
NT1 = NT | {"vocab_size": 4105, "max_position_embeddings": 1002, "position_embedding_type": "absolute"}
NT2 = NT | {"vocab_size": 4107, "max_position_embeddings": 2050, "position_embedding_type": "rotary"}
PROTEIN = ESM | {"vocab_size": 33, "mask_token_id": 32, "max_position_embeddings": 1026, "token_dropout": True}
PROTEIN |= {"layer_norm_eps": 1e-5}
ESM1B = PROTEIN | {"position_embedding_type": "absolute", "emb_layer_norm_before": True}
ESM2 = PROTEIN | {"position_embedding_type": "rotary", "emb_layer_norm_before": False}
BERT = {"model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": 512}
BERT |= {"type_vocab_size": 2}
BASE, LARGE = sizes(12, 768, 12), sizes(24, 1024, 16)
GENA = BERT | {"vocab_size": 32000}
BIG_BIRD = BASE | {"model_type": "big_bird", "vocab_size": 32000, "hidden_act": "gelu_new", "layer_norm_eps": 1e-12}
BIG_BIRD |= {"max_position_embeddings": 4096, "type_vocab_size": 2, "attention_type": "block_sparse", "block_size": 64}
BIG_BIRD |= {"num_random_blocks": 3, "use_bias": True, "rescale_embeddings": False, "pad_token_id": 3}
CALM = {"model_type": "calm", "vocab_size": 69, "layer_norm_eps": 1e-5, "rope_embedding": True, "num_layers": 12}
CALM |= {"embed_dim": 768, "attention_heads": 12, "ffn_embed_dim": 3072}

PUBLISHED = {
    "nt_500m": (build_esm, esm, NT1 | sizes(24, 1280, 20)),
    "nt_2.5b": (build_esm, esm, NT1 | sizes(32, 2560, 20)),
    "nt_v2_50m": (build_esm, nt_v2, NT2 | sizes(12, 512, 16)),
    "nt_v2_50m_3mer": (build_esm, nt_v2, NT2 | sizes(12, 512, 16) | {"vocab_size": 6 + 4**3 + 5}),
    "nt_v2_100m": (build_esm, nt_v2, NT2 | sizes(22, 512, 16)),
    "nt_v2_250m": (build_esm, nt_v2, NT2 | sizes(24, 768, 16)),
    "nt_v2_500m": (build_esm, nt_v2, NT2 | sizes(29, 1024, 16)),
    "dnabert_3": (build_bert, bert, BERT | BASE | {"vocab_size": 5 + 4**3}),
    "dnabert_4": (build_bert, bert, BERT | BASE | {"vocab_size": 5 + 4**4}),
    "dnabert_5": (build_bert, bert, BERT | BASE | {"vocab_size": 5 + 4**5}),
    "dnabert_6": (build_bert, bert, BERT | BASE | {"vocab_size": 5 + 4**6}),
    "dnabert2": (build_dnabert2, dnabert2, BERT | BASE | {"vocab_size": 4096}),
    "grover": (build_bert, bert, BERT | BASE | {"vocab_size": 609}),
    "gena_bert_base": (build_gena_bert, gena_bert, GENA | BASE),
    "gena_bert_large": (build_gena_bert, gena_bert_with_last_norm, GENA | LARGE | {"layer_norm_eps": 1e-5}),
    "gena_bigbird_base": (build_big_bird, big_bird, BIG_BIRD),
    "esm1b": (build_esm, esm, ESM1B | sizes(33, 1280, 20)),
    "esm2_8m": (build_esm, esm, ESM2 | sizes(6, 320, 20)),
    "esm2_35m": (build_esm, esm, ESM2 | sizes(12, 480, 20)),
    "esm2_150m": (build_esm, esm, ESM2 | sizes(30, 640, 20)),
    "esm2_650m": (build_esm, esm, ESM2 | sizes(33, 1280, 20)),
    "esm2_3b": (build_esm, esm, ESM2 | sizes(36, 2560, 40)),
    "esm2_15b": (build_esm, esm, ESM2 | sizes(48, 5120, 40)),
    "calm": (build_calm, calm, CALM),
}


def checkpoint(name):
    _, keys, config = PUBLISHED[name]
    weights = {key: torch.empty(shape, device="meta") for key, shape in keys(config).items()}
    return Checkpoint(Path(name), config, {}, weights, {})


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_of_every_size_is_known(name):
    build, _, config = PUBLISHED[name]
    network = build(checkpoint(name))
    assert network.layers == config.get("num_hidden_layers", config.get("num_layers"))
    assert network.head is not None
    assert network.pads is (name != "gena_bigbird_base")
    assert all(parameter.is_meta for parameter in network.parameters())
    assert not any(buffer.is_meta for key, buffer in network.named_buffers() if key.endswith("slopes"))


# As published and rounded: DNABERT, DNABERT-2 and NT v1 in Zhou et al. 2024 (table of models), GENA-LM in its README,
# ESM-1b and ESM-2 in the README of fair-esm and on the hub, CaLM in Outeiral and Deane 2024. The decoder of the head is
# the embedding; without any head they are what transformers counts for the bare models, and what GENA-LM's README says.
WITH_HEAD = {
    "nt_500m": "480M",
    "nt_2.5b": "2537M",
    "dnabert_3": "86M",
    "dnabert_4": "86M",
    "dnabert_5": "87M",
    "dnabert_6": "89M",
    "dnabert2": "117M",
    "esm1b": "0.65B",
    "esm2_8m": "7.5M",
    "esm2_35m": "33.5M",
    "esm2_150m": "148M",
    "esm2_650m": "0.65B",
    "esm2_3b": "2.8B",
    "esm2_15b": "15B",
    "calm": "86M",
}
WITHOUT_HEAD = {"nt_500m": "478.8M", "nt_2.5b": "2530.7M", "gena_bert_base": "110M", "gena_bert_large": "336M"}
# The hub counts what is in the file: also the decoder, and position embeddings of which no use is made.
IN_FILE = {"nt_v2_50m": "55.9M", "nt_v2_100m": "97.9M", "nt_v2_250m": "235M", "nt_v2_500m": "498M"}


def count(tensors):
    return sum(tensor.numel() for tensor in tensors)


def assert_rounds_to(number, published):
    unit = {"M": 1e6, "B": 1e9}[published[-1]]
    digits = len(published[:-1].partition(".")[2])
    assert f"{number / unit:.{digits}f}" == published[:-1]


@pytest.mark.parametrize(("name", "published"), WITH_HEAD.items())
def test_parameters_with_head(name, published):
    network = PUBLISHED[name][0](checkpoint(name))
    assert_rounds_to(count(network.parameters()) - network.head.decoder.weight.numel(), published)


@pytest.mark.parametrize(("name", "published"), WITHOUT_HEAD.items())
def test_parameters_without_head(name, published):
    network = PUBLISHED[name][0](checkpoint(name))
    assert_rounds_to(count(network.parameters()) - count(network.head.parameters()), published)


@pytest.mark.parametrize(("name", "published"), IN_FILE.items())
def test_parameters_in_the_file(name, published):
    assert_rounds_to(count(checkpoint(name).weights.values()), published)
