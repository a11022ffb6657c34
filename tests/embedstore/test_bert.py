"""Checkpoints with the key names of BERT: the classes of transformers with other switches, names, and refusals."""

from __future__ import annotations

import pytest
import torch
from encoders import (
    GOLDEN,
    REMOVED,
    build,
    change_config,
    change_weights,
    compute,
    copy_of,
    encoder,
    random_ids,
    rename_weights,
    run_native,
    shake,
)
from safetensors.torch import load_file

from embedstore.errors import CheckpointError

FAMILIES = ["dnabert", "grover", "dnabert2", "gena_bert_last_ln", "gena_bert_no_last_ln", "gena_bigbird"]
SIZES = {
    "vocab_size": 30,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "max_position_embeddings": 200,
}


def check_against(theirs, ours, lengths):
    for length in lengths:
        ids = torch.randint(0, 30, (2, length))
        expected = run_native(theirs, ids)
        for layer in range(ours.layers):
            torch.testing.assert_close(
                compute(ours, ids, layer), expected.hidden_states[layer][:, :length], rtol=0, atol=2e-5
            )
        hidden = compute(ours, ids)
        torch.testing.assert_close(hidden, expected.hidden_states[-1][:, :length], rtol=0, atol=2e-5)
        torch.testing.assert_close(ours.logits(hidden), expected.logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"])
def test_bert_that_transformers_saves(tmp_path, activation):
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(**SIZES, hidden_act=activation, layer_norm_eps=1e-3, type_vocab_size=3, pad_token_id=0)
    theirs = shake(BertForMaskedLM(config))
    theirs.save_pretrained(tmp_path)
    check_against(theirs, build("dnabert", tmp_path), [1, 17, 200])


@pytest.mark.parametrize(
    ("block", "copies", "switches"),
    [
        (4, 1, {"use_bias": False, "hidden_act": "gelu"}),
        (4, 3, {"rescale_embeddings": True}),
        (2, 5, {"layer_norm_eps": 1e-3}),
        (12, 2, {}),
        (1, 1, {}),
    ],
)
def test_big_bird_that_transformers_saves(tmp_path, block, copies, switches):
    from transformers import BigBirdConfig, BigBirdForMaskedLM

    config = BigBirdConfig(
        **SIZES, block_size=block, num_random_blocks=copies, pad_token_id=3, attention_type="block_sparse", **switches
    )
    theirs = shake(BigBirdForMaskedLM(config))
    theirs.save_pretrained(tmp_path)
    ours = build("gena_bigbird", tmp_path)
    limit = (5 + 2 * copies) * block
    check_against(theirs, ours, [limit - 1, limit, limit + 1, limit + block, limit + 3 * block + block // 2])


def test_big_bird_with_full_attention(tmp_path):
    change_config(copy_of("gena_bigbird", tmp_path), attention_type="original_full", block_size=REMOVED)
    full, sparse = build("gena_bigbird", tmp_path), encoder("gena_bigbird")
    assert full.pads
    assert not sparse.pads
    ids = random_ids("gena_bigbird", 1, 705)
    assert torch.equal(compute(full, ids[:, :704]), compute(sparse, ids[:, :704]))
    assert (compute(full, ids) - compute(sparse, ids)).abs().max() > 1e-2
    padded = compute(full, ids, -1, [300])[:, :300]
    torch.testing.assert_close(padded, compute(full, ids[:, :300]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bare_encoder_without_prefix(tmp_path, family):
    ids = random_ids(family, 1, 30)
    rename_weights(copy_of(family, tmp_path), lambda name: name[5:] if name.startswith("bert.") else None)
    bare = build(family, tmp_path)
    assert bare.head is None
    assert torch.equal(compute(bare, ids), compute(encoder(family), ids))


@pytest.mark.parametrize("family", ["dnabert", "dnabert2", "gena_bigbird"])
def test_old_names_of_norms(tmp_path, family):
    ids = random_ids(family, 1, 30)

    def old(name):
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    rename_weights(copy_of(family, tmp_path), old)
    assert sum(name.endswith(("gamma", "beta")) for name in load_file(tmp_path / "model.safetensors")) >= 8
    renamed = build(family, tmp_path)
    assert torch.equal(compute(renamed, ids), compute(encoder(family), ids))
    assert torch.equal(renamed.head.norm.weight, encoder(family).head.norm.weight)


def test_what_is_left_out_of_a_pretraining_checkpoint(tmp_path):
    names = ("cls.seq_relationship.weight", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
    change_weights(copy_of("dnabert", tmp_path), {name: torch.ones(2, 24) for name in names})
    ids = random_ids("dnabert", 1, 10)
    assert torch.equal(compute(build("dnabert", tmp_path), ids), compute(encoder("dnabert"), ids))
    change_weights(tmp_path, {"bert.embeddings.other": torch.ones(2)})
    with pytest.raises(
        CheckpointError, match=r"\(1 problems; nothing was loaded\):\n  unexpected: bert.embeddings.other"
    ):
        build("dnabert", tmp_path)


@pytest.mark.parametrize("family", ["gena_bert_last_ln", "gena_bert_no_last_ln"])
def test_the_last_norm_of_gena_is_decided_by_its_key(tmp_path, family):
    final = family == "gena_bert_last_ln"
    ids = random_ids(family, 1, 30)
    for stated in (REMOVED, final, None):
        change_config(copy_of(family, tmp_path), last_layer_norm=stated)
        assert torch.equal(compute(build(family, tmp_path), ids), compute(encoder(family), ids))
    change_config(tmp_path, last_layer_norm=not final)
    with pytest.raises(CheckpointError) as error:
        build(family, tmp_path)
    assert f"config.json says last_layer_norm {not final}, the weights {'have' if final else 'lack'}" in str(
        error.value
    )


def test_half_of_the_last_norm_of_gena(tmp_path):
    name = "bert.encoder.last_layer_ln.{}"
    change_weights(copy_of("gena_bert_last_ln", tmp_path), {name.format("bias"): REMOVED})
    with pytest.raises(CheckpointError, match="missing: bert.encoder.last_layer_ln.bias"):
        build("gena_bert_last_ln", tmp_path)
    change_weights(copy_of("gena_bert_last_ln", tmp_path), {name.format("weight"): REMOVED})
    with pytest.raises(CheckpointError, match="unexpected: bert.encoder.last_layer_ln.bias"):
        build("gena_bert_last_ln", tmp_path)


def test_other_token_types_do_not_matter(tmp_path):
    types = encoder("dnabert").token_type_embedding.weight.detach().clone()
    types[1] = 1000
    change_weights(copy_of("dnabert", tmp_path), {"bert.embeddings.token_type_embeddings.weight": types})
    ids = random_ids("dnabert", 1, 10)
    assert torch.equal(compute(build("dnabert", tmp_path), ids), compute(encoder("dnabert"), ids))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": REMOVED}, "config.json: the field 'hidden_size' is None; wanted an integer of 1 to 10000000"),
        ({"num_hidden_layers": REMOVED}, "'num_hidden_layers' is None"),
        ({"num_attention_heads": "4"}, "'num_attention_heads' is '4'"),
        ({"num_attention_heads": 7}, r"config.json: \d+ channels cannot be divided among 7 heads"),
        ({"intermediate_size": REMOVED}, "'intermediate_size' is None"),
        ({"intermediate_size": 33}, "wrong: "),
        ({"vocab_size": REMOVED}, "'vocab_size' is None"),
        ({"vocab_size": 99}, r"word_embeddings.weight is \[\d+, \d+\] torch.float32, wanted \[99, "),
        ({"type_vocab_size": REMOVED}, "'type_vocab_size' is None"),
        ({"type_vocab_size": 3}, r"token_type_embeddings.weight is \[2, "),
        ({"layer_norm_eps": REMOVED}, "'layer_norm_eps' is None; wanted a number between 0 and 1"),
        ({"hidden_act": REMOVED}, "hidden_act is None; wanted one of gelu, gelu_new, gelu_fast, gelu_pytorch_tanh"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"num_hidden_layers": 1}, r"unexpected: bert.encoder.layer\.1"),
        ({"num_hidden_layers": 4}, r"missing: bert.encoder.layer\.3"),
    ],
)
def test_other_configs_are_refused(tmp_path, family, fields, message):
    change_config(copy_of(family, tmp_path), **fields)
    with pytest.raises(CheckpointError, match=message):
        build(family, tmp_path)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "dnabert2"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "is 'relative_key'; only 'absolute' is supported here"),
        ({"max_position_embeddings": REMOVED}, "'max_position_embeddings' is None"),
        ({"max_position_embeddings": 100}, r"position_embeddings.weight is \[\d+, \d+\] torch.float32, wanted \[100, "),
    ],
)
def test_other_positions_are_refused(tmp_path, family, fields, message):
    change_config(copy_of(family, tmp_path), **fields)
    with pytest.raises(CheckpointError, match=message):
        build(family, tmp_path)


def test_positions_that_an_old_config_does_not_name(tmp_path):
    assert "position_embedding_type" not in (GOLDEN / "dnabert" / "config.json").read_text()
    change_config(copy_of("dnabert", tmp_path), position_embedding_type="absolute")
    ids = random_ids("dnabert", 1, 10)
    assert torch.equal(compute(build("dnabert", tmp_path), ids), compute(encoder("dnabert"), ids))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_type": REMOVED}, "attention_type is None; wanted 'block_sparse' or 'original_full'"),
        ({"attention_type": "sparse"}, "attention_type is 'sparse'"),
        ({"use_bias": REMOVED}, "use_bias is None; wanted true or false"),
        ({"use_bias": 1}, "use_bias is 1"),
        ({"use_bias": False}, "unexpected: bert.encoder.layer.0.attention.self.key.bias"),
        ({"block_size": REMOVED}, "'block_size' is None"),
        ({"block_size": 0}, "'block_size' is 0"),
        ({"num_random_blocks": 1.5}, "'num_random_blocks' is 1.5"),
    ],
)
def test_other_big_birds_are_refused(tmp_path, fields, message):
    change_config(copy_of("gena_bigbird", tmp_path), **fields)
    with pytest.raises(CheckpointError, match=message):
        build("gena_bigbird", tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_weights_are_refused(tmp_path, family):
    attention = "Wqkv" if family == "dnabert2" else "key"
    width = encoder(family).width
    weight = f"encoder.layer.1.attention.self.{attention}.weight"
    for name, tensor, message in [
        ("encoder.layer.1.attention.output.dense.bias", REMOVED, rf"missing: \S+output.dense.bias \[{width}\]"),
        (weight, torch.ones(7, width), rf"wrong: \S+{attention}.weight is \[7, {width}\]"),
        ("embeddings.token_type_embeddings.weight", REMOVED, r"missing: \S+token_type_embeddings.weight \[2, "),
        ("encoder.layer.1.other", torch.ones(2), "unexpected: bert.encoder.layer.1.other"),
    ]:
        change_weights(copy_of(family, tmp_path), {f"bert.{name}": tensor})
        with pytest.raises(CheckpointError, match=message):
            build(family, tmp_path)
