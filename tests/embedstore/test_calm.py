"""CaLM: channels in another order give the rotation of adjacent pairs; what its checkpoints must say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders import GOLDEN, REMOVED, arrays, build, cases, change_config, change_weights, compute, copy_of

from embedstore.errors import CheckpointError
from embedstore.models.attention import rotate, rotation
from embedstore.models.calm import build_calm
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.transformer import rotary_frequencies

FREQUENCIES = "layers.{}.self_attn.rope.freqs"


def rotate_adjacent(x, frequency):
    """Rotate channels (0, 1), (2, 3), ... of x (head, token, channel) one pair at a time, in float64."""
    out = np.empty(x.shape)
    for position, i in np.ndindex(x.shape[1], x.shape[2] // 2):
        cosine, sine = np.cos(position * frequency[i]), np.sin(position * frequency[i])
        first, second = x[:, position, 2 * i], x[:, position, 2 * i + 1]
        out[:, position, 2 * i] = cosine * first - sine * second
        out[:, position, 2 * i + 1] = sine * first + cosine * second
    return out


def test_attention_scores_are_those_of_adjacent_pairs():
    checkpoint = read_checkpoint(GOLDEN / "calm")
    network, heads, width = build_calm(checkpoint), 4, 48
    weights = {name: tensor.double().numpy() for name, tensor in checkpoint.weights.items()}
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (30, width)).astype(np.float32))
    frequency = [10000 ** (-2 * i / 12) for i in range(6)]
    cosine, sine = rotation(rotary_frequencies(12), 30)
    for layer in range(network.layers):
        theirs = []
        for kind in ("q", "k"):
            name = f"layers.{layer}.self_attn.{kind}_proj"
            projected = x.double().numpy() @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
            theirs.append(rotate_adjacent(projected.reshape(30, heads, 12).swapaxes(0, 1), frequency))
        with torch.no_grad():
            parts = network.blocks[layer].query_key_value(x).unflatten(-1, (3, heads, 12)).permute(1, 2, 0, 3)
        query, key = (rotate(part[None], cosine, sine)[0] for part in parts[:2])
        expected = theirs[0] @ theirs[1].swapaxes(1, 2)
        np.testing.assert_allclose(query @ key.mT, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        # Values keep their order: they are not rotated, and the next linear map reads them.
        name = f"layers.{layer}.self_attn.v_proj"
        value = x.double().numpy() @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        np.testing.assert_allclose(parts[2].transpose(0, 1).flatten(1), value, rtol=0, atol=1e-4)


def test_without_another_order_the_numbers_are_wrong(monkeypatch):
    monkeypatch.setattr("embedstore.models.calm._halves", lambda tensor, heads: tensor)
    ids = arrays("calm")["longer/ids"].astype(np.int64)[None]
    wrong = compute(build("calm"), ids)[0].numpy()
    assert np.abs(wrong - arrays("calm")["longer/hidden"]).max() > 0.1


def test_the_checkpoint_is_left_as_it_was():
    checkpoint = read_checkpoint(GOLDEN / "calm")
    before = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    network = build_calm(checkpoint)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    for name, tensor in checkpoint.weights.items():
        assert torch.equal(tensor, before[name]), name


def test_frequencies_in_the_file(tmp_path):
    change_weights(copy_of("calm", tmp_path), {FREQUENCIES.format(i): REMOVED for i in range(3)})
    case = cases("calm")["cases"][0]["id"]
    ids = arrays("calm")[f"{case}/ids"].astype(np.int64)[None]
    np.testing.assert_allclose(
        compute(build("calm", tmp_path), ids)[0], arrays("calm")[f"{case}/hidden"], rtol=0, atol=2e-5
    )
    usual = rotary_frequencies(12)
    for wrong in (usual * 1.001, usual.flip(0), usual[:5], torch.cat([usual, usual])):
        change_weights(tmp_path, {FREQUENCIES.format(2): wrong})
        with pytest.raises(CheckpointError, match=r"layers\.2\.\S+ must hold the 6 numbers 10000 \*\* \(-2 i / 12\)"):
            build("calm", tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope_embedding": False}, "config.json: rope_embedding is False; wanted true"),
        ({"rope_embedding": REMOVED}, "rope_embedding is None"),
        ({"rope_embedding": 1}, "rope_embedding is 1"),
        ({"embed_dim": REMOVED}, "config.json: the field 'embed_dim' is None"),
        ({"attention_heads": REMOVED}, "'attention_heads' is None"),
        ({"num_layers": "3"}, "'num_layers' is '3'"),
        ({"num_layers": 10**6}, "'num_layers' is 1000000"),
        ({"ffn_embed_dim": REMOVED}, "'ffn_embed_dim' is None"),
        ({"vocab_size": REMOVED}, "'vocab_size' is None"),
        ({"layer_norm_eps": REMOVED}, "'layer_norm_eps' is None; wanted a number between 0 and 1"),
        ({"attention_heads": 5}, "48 channels cannot be divided among 5 heads"),
        ({"attention_heads": 16}, "48 channels cannot be divided among 16 heads, evenly and in pairs"),
        ({"attention_heads": 8}, "must hold the 3 numbers"),
        ({"num_layers": 2}, "unexpected: layers.2.fc1.bias"),
        ({"num_layers": 4}, "missing: layers.3.fc1.weight"),
        ({"ffn_embed_dim": 95}, r"layers.0.fc1.weight is \[96, 48\] torch.float32, wanted \[95, 48\]"),
        ({"vocab_size": 70}, r"embed_tokens.weight is \[69, 48\]"),
    ],
)
def test_other_configs_are_refused(tmp_path, fields, message):
    change_config(copy_of("calm", tmp_path), **fields)
    with pytest.raises(CheckpointError, match=message):
        build("calm", tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("layers.1.self_attn.q_proj.weight", REMOVED, r"missing: layers.1.self_attn.q_proj.weight \[48, 48\]"),
        ("layers.1.self_attn.q_proj.weight", torch.ones(47, 48), r"q_proj.weight is \[47, 48\]"),
        ("layers.1.self_attn.k_proj.bias", torch.ones(49), r"k_proj.bias is \[49\]"),
        ("layers.1.self_attn.k_proj.bias", torch.ones(48, 2), r"k_proj.bias is \[48, 2\]"),
        ("contact_head.regression.weight", torch.ones(1, 12), "unexpected: contact_head.regression.weight"),
        ("layers.1.self_attn.rope.other", torch.ones(6), "unexpected: layers.1.self_attn.rope.other"),
    ],
)
def test_other_weights_are_refused(tmp_path, name, tensor, message):
    change_weights(copy_of("calm", tmp_path), {name: tensor})
    with pytest.raises(CheckpointError, match=message):
        build("calm", tmp_path)


def test_frequencies_without_values_are_not_looked_at():
    checkpoint = read_checkpoint(GOLDEN / "calm")
    meta = {name: tensor.to("meta") for name, tensor in checkpoint.weights.items()}
    assert build_calm(replace(checkpoint, weights=meta)).layers == 3
