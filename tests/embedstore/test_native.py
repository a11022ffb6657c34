"""ESM-C, ProtT5 and ModernBERT against golden numbers and transformers' untouched classes; all layouts of files."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embedstore.errors import CheckpointError
from embedstore.models import native
from embedstore.models.checkpoints import Checkpoint, read_checkpoint
from embedstore.models.native import build_esmc, build_modernbert, build_prott5

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = {"esmc": build_esmc, "prott5": build_prott5, "modernbert": build_modernbert}


@pytest.fixture(scope="module")
def checkpoints():
    return {name: read_checkpoint(GOLDEN / name) for name in FAMILIES}


@pytest.fixture(scope="module")
def networks(checkpoints):
    return {name: build(checkpoints[name]) for name, build in FAMILIES.items()}


@pytest.fixture(scope="module")
def untouched():
    """The classes as transformers gives them, with the weights of the golden files."""
    from transformers import (
        EsmcConfig,
        EsmcForMaskedLM,
        ModernBertConfig,
        ModernBertForMaskedLM,
        T5Config,
        T5EncoderModel,
    )

    models = {}
    for name, config, model in (
        ("esmc", EsmcConfig, EsmcForMaskedLM),
        ("prott5", T5Config, T5EncoderModel),
        ("modernbert", ModernBertConfig, ModernBertForMaskedLM),
    ):
        fields = json.loads((GOLDEN / name / "config.json").read_text())
        models[name] = model(config(**fields, attn_implementation="eager")).eval()
        weights = load_file(GOLDEN / name / "model.safetensors")
        tied = {
            "shared.weight": "encoder.embed_tokens.weight",
            "model.embeddings.tok_embeddings.weight": "decoder.weight",
        }
        weights |= {tied[key]: weights[key] for key in weights.keys() & tied.keys()}
        models[name].load_state_dict(weights, strict=True)
    return models


def cases(name):
    arrays = np.load(GOLDEN / name / "cases.npz")
    listed = json.loads((GOLDEN / name / "cases.json").read_text())["cases"]
    return {case["id"]: torch.from_numpy(arrays[f"{case['id']}/ids"]).long() for case in listed}, arrays


def run(network, ids, *arguments, **options):
    with torch.inference_mode():
        return network(ids, *arguments, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_golden(networks, name):
    ids, arrays = cases(name)
    for case, tokens in ids.items():
        hidden = run(networks[name], tokens[None])[0].numpy()
        np.testing.assert_allclose(hidden, arrays[f"{case}/hidden"], rtol=0, atol=1e-5, err_msg=case)


@pytest.mark.parametrize("name", FAMILIES)
def test_states_are_those_of_the_untouched_class(networks, untouched, name):
    network, tokens = networks[name], cases(name)[0]["longer"][None]
    with torch.inference_mode():
        theirs = untouched[name](tokens, output_hidden_states=True)
        states = list(network.states(tokens))
        assert len(states) == len(theirs.hidden_states) == network.layers + 1
        # Theirs are before the final norm, but for the last.
        for ours, expected in zip([*states[:-1], network.last(states[-1])], theirs.hidden_states, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)
        assert (states[-1] - network.last(states[-1])).abs().max() > 0.1
        torch.testing.assert_close(network(tokens), network.last(states[-1]))
        torch.testing.assert_close(network(tokens, 2), states[2])
        torch.testing.assert_close(network(tokens, (1, network.layers)), torch.stack(states[1:]).mean(0))
        if name == "prott5":
            assert network.head is None
        else:
            torch.testing.assert_close(network.logits(network(tokens)), theirs.logits, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_changes_nothing(networks, name):
    network = networks[name]
    assert network.pads
    # More padding than ModernBERT's window reaches: rows that see nothing but padding must not spoil the others.
    ids = torch.randint(4, 25, (4, 400), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([400, 3, 130, 257])
    padded = run(network, ids, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            padded[row, :length], run(network, ids[row : row + 1, :length])[0], rtol=0, atol=1e-5
        )
    assert (run(network, ids)[2, :130] - padded[2, :130]).abs().max() > 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_no_weight_is_left_out(checkpoints, name):
    """Every tensor of a file is used: without it, and with one more, it is refused."""
    build, checkpoint = FAMILIES[name], checkpoints[name]
    for key in checkpoint.weights:
        weights = {k: v for k, v in checkpoint.weights.items() if k != key}
        with pytest.raises(CheckpointError, match="missing: "):
            build(dataclasses.replace(checkpoint, weights=weights))
    with pytest.raises(CheckpointError, match=r"unexpected: more \[1\]"):
        build(dataclasses.replace(checkpoint, weights=checkpoint.weights | {"more": torch.zeros(1)}))


# ---- ESM-C ---------------------------------------------------------------------------------------


def to_evolutionaryscale(weights):
    """Return the golden weights as the esm package names them."""
    w = {name.removeprefix("esmc."): tensor for name, tensor in weights.items()}
    out = {"embed.weight": w["embed_tokens.weight"], "transformer.norm.weight": w["norm.weight"]}
    for i in range(3):
        old, new = f"layers.{i}", f"transformer.blocks.{i}"
        for kind in ("weight", "bias"):
            out[f"{new}.attn.layernorm_qkv.0.{kind}"] = w[f"{old}.input_layernorm.{kind}"]
            out[f"{new}.ffn.0.{kind}"] = w[f"{old}.post_attention_layernorm.{kind}"]
        qkv = [w[f"{old}.self_attn.{part}_proj.weight"] for part in "qkv"]
        out[f"{new}.attn.layernorm_qkv.1.weight"] = torch.cat(qkv)
        out[f"{new}.attn.q_ln.weight"] = w[f"{old}.self_attn.q_norm.weight"]
        out[f"{new}.attn.k_ln.weight"] = w[f"{old}.self_attn.k_norm.weight"]
        out[f"{new}.attn.out_proj.weight"] = w[f"{old}.self_attn.o_proj.weight"]
        out[f"{new}.ffn.1.weight"] = torch.cat([w[f"{old}.mlp.gate_proj.weight"], w[f"{old}.mlp.up_proj.weight"]])
        out[f"{new}.ffn.3.weight"] = w[f"{old}.mlp.down_proj.weight"]
    for kind in ("weight", "bias"):
        for i, part in ((0, "dense"), (2, "layer_norm"), (3, "decoder")):
            out[f"sequence_head.{i}.{kind}"] = w[f"lm_head.{part}.{kind}"]
    return out


def to_biohub(weights):
    """Return them as biohub's fused files do."""
    pairs = {
        "layernorm_qkv.0.": "layernorm_qkv.layer_norm_",
        "layernorm_qkv.1.": "layernorm_qkv.",
        "ffn.0.": "ffn.layer_norm_",
        "ffn.1.": "ffn.fc1_",
        "ffn.3.": "ffn.fc2_",
    }
    out = {}
    for name, tensor in to_evolutionaryscale(weights).items():
        for old, new in pairs.items():
            name = name.replace(old, new)
        head = name.startswith("sequence_head.")
        out[name.replace("sequence_head", "lm_head") if head else f"esmc.{name}"] = tensor
    return out | {f"esmc.transformer.blocks.{i}.ffn._extra_state": torch.empty(0) for i in range(3)}


@pytest.mark.parametrize("convert", [to_evolutionaryscale, to_biohub])
def test_layouts_of_esmc(checkpoints, networks, convert):
    checkpoint = checkpoints["esmc"]
    weights = convert(checkpoint.weights)
    # Sizes as the authors name them; the inner width is in the weights.
    sizes = {"vocab_size": 64, "d_model": 48, "n_layers": 3, "n_heads": 4}
    ids = cases("esmc")[0]["longer"][None]
    for config in (checkpoint.config, {"model_type": "esmc", **sizes}):
        other = dataclasses.replace(checkpoint, config=config, weights=weights)
        network = build_esmc(other)
        assert torch.equal(run(network, ids), run(networks["esmc"], ids))
        hidden = torch.randn(5, 48)
        assert torch.equal(network.logits(hidden), networks["esmc"].logits(hidden))
    with pytest.raises(CheckpointError, match=r"the fields \['num_attention_heads'\] are missing.*EvolutionaryScale's"):
        del sizes["n_heads"]
        build_esmc(dataclasses.replace(checkpoint, config=sizes, weights=weights))
    bad = next(key for key in weights if "layernorm_qkv" in key and weights[key].shape == (144, 48))
    with pytest.raises(CheckpointError, match=r"wrong: esmc.layers.0.self_attn.k_proj.weight is \[47, 48\]"):
        build_esmc(dataclasses.replace(checkpoint, weights=weights | {bad: torch.zeros(142, 48)}))
    with pytest.raises(CheckpointError, match="unexpected: .*layernorm_qkv"):
        build_esmc(dataclasses.replace(checkpoint, weights=weights | {bad: torch.zeros(())}))


def test_bare_models(checkpoints, networks):
    for name, prefix in (("esmc", "esmc."), ("modernbert", "model.")):
        weights = {k.removeprefix(prefix): v for k, v in checkpoints[name].weights.items() if k.startswith(prefix)}
        network = FAMILIES[name](dataclasses.replace(checkpoints[name], weights=weights))
        ids = cases(name)[0]["short"][None]
        assert torch.equal(run(network, ids), run(networks[name], ids))
        with pytest.raises(NotImplementedError):
            network.logits(torch.zeros(1, 48))


# ---- ProtT5 --------------------------------------------------------------------------------------


def test_names_of_the_t5_embedding(checkpoints, networks):
    checkpoint = checkpoints["prott5"]
    shared = checkpoint.weights["shared.weight"]
    ids = cases("prott5")[0]["non_standard"][None]
    rest = {name: tensor for name, tensor in checkpoint.weights.items() if name != "shared.weight"}
    # Half precision, as published; a decoder and its head are left out.
    both = {"encoder.embed_tokens.weight": shared, "shared.weight": shared.clone()}
    more = {"decoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1), "lm_head.weight": torch.zeros(1)}
    for weights in (rest | {"encoder.embed_tokens.weight": shared}, rest | both | more):
        network = build_prott5(dataclasses.replace(checkpoint, weights=weights))
        assert torch.equal(run(network, ids), run(networks["prott5"], ids))
    half = {name: tensor.half() for name, tensor in checkpoint.weights.items()}
    network = build_prott5(dataclasses.replace(checkpoint, weights=half))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    both["shared.weight"] = shared + 1
    with pytest.raises(CheckpointError, match="shared.weight and encoder.embed_tokens.weight are one tensor"):
        build_prott5(dataclasses.replace(checkpoint, weights=rest | both))


# ---- ModernBERT ----------------------------------------------------------------------------------

OLD = {"global_attn_every_n_layers": 3, "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}
SLIDING, FULL = "sliding_attention", "full_attention"


def modernbert(checkpoint, drop=(), **fields):
    config = {name: value for name, value in (checkpoint.config | fields).items() if name not in drop}
    return build_modernbert(dataclasses.replace(checkpoint, config=config))


def test_fields_of_modernbert(checkpoints, networks):
    checkpoint = checkpoints["modernbert"]
    assert OLD.items() <= checkpoint.config.items()
    ids = cases("modernbert")[0]["longer"][None]
    expected = run(networks["modernbert"], ids)
    for field, value in (
        ("global_attn_every_n_layers", 2),
        ("global_rope_theta", 20_000.0),
        ("local_rope_theta", 500.0),
        ("local_rope_theta", None),
        ("local_attention", 64),
        ("norm_eps", 0.01),
        ("hidden_activation", "relu"),
    ):
        other = run(modernbert(checkpoint, **{field: value}), ids)
        assert (other - expected).abs().max() > 1e-3, field
    # Null: as in the other layers.
    same = run(modernbert(checkpoint, local_rope_theta=160_000.0), ids)
    assert torch.equal(run(modernbert(checkpoint, local_rope_theta=None), ids), same)
    rotary = {FULL: {"rope_type": "default", "rope_theta": 160_000.0}}
    rotary[SLIDING] = {"rope_type": "default", "rope_theta": 10_000.0}
    new = modernbert(checkpoint, OLD, layer_types=[FULL, SLIDING, SLIDING, FULL], rope_parameters=rotary)
    assert torch.equal(run(new, ids), expected)


def test_decoder_of_modernbert(checkpoints, networks):
    checkpoint, hidden = checkpoints["modernbert"], torch.randn(3, 48)
    expected = networks["modernbert"].logits(hidden)
    other = checkpoint.weights | {"decoder.weight": torch.randn(320, 48)}
    untied = build_modernbert(dataclasses.replace(checkpoint, weights=other))
    assert (untied.logits(hidden) - expected).abs().max() > 0.1
    assert torch.equal(modernbert(checkpoint, ["tie_word_embeddings"]).logits(hidden), expected)
    with pytest.raises(CheckpointError, match="missing: decoder.weight"):
        modernbert(checkpoint, tie_word_embeddings=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_missing_fields(checkpoints, name):
    sizes = {
        "esmc": ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
        "prott5": ["vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "layer_norm_epsilon"],
        "modernbert": ["vocab_size", "num_attention_heads", "local_attention", "norm_eps", *OLD],
    }[name]
    for field in [*sizes, *(["relative_attention_num_buckets"] if name == "prott5" else [])]:
        config = {key: value for key, value in checkpoints[name].config.items() if key != field}
        with pytest.raises(CheckpointError, match=rf"config.json: .*{field}"):
            FAMILIES[name](dataclasses.replace(checkpoints[name], config=config))


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("esmc", "num_attention_heads", 5, "makes no model of it.*not a multiple"),
        ("esmc", "hidden_act", "nonsense", "makes no model of it: KeyError: 'nonsense'"),
        ("esmc", "num_hidden_layers", 10**6, "'num_hidden_layers' is 1000000; wanted an integer of 1 to 47"),
        ("esmc", "hidden_size", 52, r"wrong: esmc.embed_tokens.weight is \[64, 48\]"),
        ("prott5", "feed_forward_proj", "gated-gelu", "missing: encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
        ("prott5", "layer_norm_epsilon", "1e-6", "wanted a number between 0 and 1"),
        ("modernbert", "layer_types", ["full_attention"] * 3 + ["other"], "makes no model of it"),
        ("modernbert", "global_rope_theta", "160000", "global_rope_theta is '160000'"),
    ],
)
def test_other_configs_are_refused(checkpoints, name, field, value, message):
    config = checkpoints[name].config | {field: value}
    with pytest.raises(CheckpointError, match=message):
        FAMILIES[name](dataclasses.replace(checkpoints[name], config=config))


# ---- published sizes -----------------------------------------------------------------------------


def on_meta(build, config, drop=()):
    """Build with the config's sizes from weights without values, named as the class names them."""
    from transformers import (
        EsmcConfig,
        EsmcForMaskedLM,
        ModernBertConfig,
        ModernBertForMaskedLM,
        T5Config,
        T5EncoderModel,
    )

    config_class, model = {
        build_esmc: (EsmcConfig, EsmcForMaskedLM),
        build_prott5: (T5Config, T5EncoderModel),
        build_modernbert: (ModernBertConfig, ModernBertForMaskedLM),
    }[build]
    with torch.device("meta"):
        weights = model(config_class(**config | {"pad_token_id": None})).state_dict()
    weights = {name: tensor for name, tensor in weights.items() if name not in drop}
    network = build(Checkpoint(Path("published"), config, {}, weights, {}))
    assert all(p.is_meta for p in network.parameters())
    assert not any(b.is_meta for b in network.buffers())
    return sum(p.numel() for p in network.parameters())


def esmc_size(width, layers, inner):
    """Embedding; per block four square matrices, a gated feed-forward part, 6 norm vectors; final norm; head."""
    block = 4 * width**2 + 3 * width * inner + 6 * width
    return 64 * width + layers * block + width + (width**2 + 3 * width + 64 * width + 64)


@pytest.mark.parametrize(
    ("width", "layers", "heads", "inner", "millions"),
    [(960, 30, 15, 2560, 333.0), (1152, 36, 18, 3072, 574.9), (2560, 80, 40, 6912, 6_000)],
)
def test_published_sizes_of_esmc(width, layers, heads, inner, millions):
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }
    count = on_meta(build_esmc, {"vocab_size": 64, **sizes})
    assert count == esmc_size(width, layers, inner)
    assert count / 1e6 == pytest.approx(millions, rel=0.08)


def test_published_size_of_prott5():
    config = json.loads((GOLDEN / "prott5" / "config.json").read_text())
    config |= {"d_model": 1024, "d_ff": 16384, "d_kv": 128, "num_heads": 32, "num_layers": 24, "num_decoder_layers": 24}
    count = on_meta(build_prott5, config)
    assert count == 128 * 1024 + 24 * (4 * 1024 * 4096 + 2 * 1024 * 16384 + 2 * 1024) + 32 * 32 + 1024
    assert round(count / 1e5) == 12_081


@pytest.mark.parametrize(
    ("width", "layers", "heads", "inner", "expected"),
    [(768, 22, 12, 1152, 135_000_000), (1024, 28, 16, 2624, 377_000_000)],
)
@pytest.mark.parametrize("tied", [True, False])
def test_sizes_of_modernbert(width, layers, heads, inner, expected, tied):
    config = json.loads((GOLDEN / "modernbert" / "config.json").read_text()) | {"vocab_size": 32_000}
    config |= {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    config["intermediate_size"] = inner
    count = on_meta(build_modernbert, config, drop=["decoder.weight"] if tied else [])
    # Embedding and its norm; blocks (the first without its attention norm); final norm; head with a tied decoder.
    block = 4 * width**2 + 3 * width * inner + 2 * width
    body = 32_000 * width + width + layers * block - width + width
    assert count == body + width**2 + width + (0 if tied else 32_000 * width) + 32_000
    assert body == pytest.approx(expected, rel=0.02)


# ---- manners -------------------------------------------------------------------------------------


def test_building_is_quiet(checkpoints, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name, build in FAMILIES.items():
        network = build(checkpoints[name])
        run(network, cases(name)[0]["short"][None])
        assert network.body.config._attn_implementation == "sdpa"
    assert not caplog.text
    assert capfd.readouterr() == ("", "")


def test_transformers_is_imported_only_where_it_is_used():
    code = "import sys, embedstore.models.native; sys.exit('transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "transformers" not in vars(native)
