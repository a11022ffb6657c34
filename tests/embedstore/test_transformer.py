"""The encoder against the native ESM classes of transformers, on other sizes and switches than the golden files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embedstore.errors import CheckpointError
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.esm import build_esm, esm_max_tokens

GOLDEN = Path(__file__).parents[1] / "golden"


def native(folder, **config):
    """Save a random EsmForMaskedLM of transformers; return it without its head."""
    from transformers import EsmConfig, EsmForMaskedLM

    sizes = {
        "vocab_size": 30,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
    }
    torch.manual_seed(0)
    model = EsmForMaskedLM(
        EsmConfig(**(sizes | {"pad_token_id": 1, "mask_token_id": 2, "max_position_embeddings": 40} | config))
    ).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # The usual start (weights of 0.02, norms of 1) would hide a forgotten norm and make attention flat.
            weight.normal_(1.0 if "LayerNorm.weight" in name else 0.0, 0.2)
    model.save_pretrained(folder)
    return model.esm


@pytest.mark.parametrize("positions", ["absolute", "rotary"])
@pytest.mark.parametrize("token_dropout", [False, True])
def test_native_esm(tmp_path, positions, token_dropout):
    theirs = native(tmp_path, position_embedding_type=positions, token_dropout=token_dropout)
    ours = build_esm(read_checkpoint(tmp_path))
    ids = torch.randint(4, 30, (3, 17))
    with torch.inference_mode():
        states = theirs(ids, output_hidden_states=True)
        torch.testing.assert_close(ours(ids), states.last_hidden_state, rtol=0, atol=2e-5)
        for layer in (0, 1, 2):
            torch.testing.assert_close(ours(ids, layer), states.hidden_states[layer], rtol=0, atol=2e-5)


def test_bare_encoder_without_prefix(tmp_path):
    theirs = native(tmp_path, position_embedding_type="absolute", token_dropout=False)
    weights = {
        k.removeprefix("esm."): v for k, v in load_file(tmp_path / "model.safetensors").items() if k.startswith("esm.")
    }
    save_file(weights, tmp_path / "model.safetensors")
    ids = torch.randint(4, 30, (1, 9))
    with torch.inference_mode():
        torch.testing.assert_close(
            build_esm(read_checkpoint(tmp_path))(ids), theirs(ids).last_hidden_state, rtol=0, atol=2e-5
        )


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"):
        shutil.copy(GOLDEN / "nt_v2" / name, tmp_path)
    return tmp_path


def change_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


FREQUENCY = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"


def test_stored_rotary_frequencies_are_used(folder):
    ids = torch.tensor([[3, 10, 11, 12, 13, 14]])
    plain = build_esm(read_checkpoint(folder))
    expected = 10000.0 ** (-torch.arange(3) / 3)

    def drop(weights):
        del weights[FREQUENCY.format(0)], weights[FREQUENCY.format(1)]

    change_weights(folder, drop)
    computed = build_esm(read_checkpoint(folder))
    torch.testing.assert_close(computed.inverse_frequency, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(computed(ids), plain(ids), rtol=0, atol=1e-5)

    def double(weights):
        for i in range(2):
            weights[FREQUENCY.format(i)] = 2 * expected

    change_weights(folder, double)
    doubled = build_esm(read_checkpoint(folder))
    assert (doubled(ids) - plain(ids)).abs().max() > 1e-2

    def differ(weights):
        weights[FREQUENCY.format(1)] = expected

    change_weights(folder, differ)
    with pytest.raises(CheckpointError, match=r"must have the shape \[3\] and be equal in all layers"):
        build_esm(read_checkpoint(folder))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"emb_layer_norm_before": True}, "emb_layer_norm_before is True"),
        ({"is_folding_model": True}, "is_folding_model is True"),
        ({"position_embedding_type": "relative_key"}, "wanted 'absolute' or 'rotary'"),
        ({"hidden_size": None}, "'hidden_size' is None; wanted an integer of 1 to 10000000"),
        ({"hidden_size": True}, "'hidden_size' is True"),
        ({"num_attention_heads": 5}, "24 channels cannot be divided among 5 heads"),
        ({"num_attention_heads": 8}, "24 channels cannot be divided among 8 heads"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        # Weights decide: twice the rows are a gate, so other numbers of rows fit neither kind of feed-forward part.
        ({"intermediate_size": 40}, r"wrong: esm.encoder.layer.0.intermediate.dense.weight is \[96, 24\]"),
        ({"intermediate_size": 96}, r"wrong: esm.encoder.layer.0.output.dense.weight is \[24, 48\]"),
        ({"num_hidden_layers": 1}, "unexpected: esm.encoder.layer.1"),
        ({"num_hidden_layers": 3}, "missing: esm.encoder.layer.2"),
    ],
)
def test_other_configs_are_refused(folder, fields, message):
    change_config(folder, **fields)
    with pytest.raises(CheckpointError, match=message):
        build_esm(read_checkpoint(folder))


def test_most_tokens(folder):
    assert esm_max_tokens(read_checkpoint(folder)) == 2048
    (folder / "tokenizer_config.json").unlink()
    assert esm_max_tokens(read_checkpoint(folder)) == 2048
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    assert esm_max_tokens(read_checkpoint(folder)) == 512
    change_config(folder, max_position_embeddings=3)
    with pytest.raises(CheckpointError, match="room for 1 tokens"):
        esm_max_tokens(read_checkpoint(folder))
