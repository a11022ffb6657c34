"""The encoder: golden files, every state against transformers' classes, padding; and checkpoints of the ESM family."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders import (
    BUILDERS,
    GOLDEN,
    NATIVE,
    REMOVED,
    arrays,
    build,
    cases,
    change_config,
    change_weights,
    compute,
    copy_of,
    encoder,
    native,
    random_ids,
    rename_weights,
    run_native,
    shake,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import CheckpointError
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.esm import build_esm, esm_max_tokens

CASES = [(family, case["id"]) for family in BUILDERS for case in cases(family)["cases"]]
PADDED = [family for family in BUILDERS if family != "gena_bigbird"]
MASK = 32  # of the proteins' vocabulary
FREQUENCY = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"


@pytest.mark.parametrize(("family", "case"), CASES)
def test_golden(family, case):
    ids = arrays(family)[f"{case}/ids"].astype(np.int64)[None]
    tolerance = cases(family)["tolerance_abs"]
    network, expected = encoder(family), arrays(family)[f"{case}/hidden"]
    np.testing.assert_allclose(compute(network, ids)[0], expected, rtol=0, atol=tolerance)
    before = f"{case}/before_last_ln/hidden"
    if before in arrays(family).files:
        state = compute(network, ids, network.layers)[0]
        np.testing.assert_allclose(state, arrays(family)[before], rtol=0, atol=tolerance)
        assert np.abs(arrays(family)[before] - expected).max() > 0.1


def test_golden_has_a_state_before_the_last_norm():
    assert sum(name.endswith("/before_last_ln/hidden") for name in arrays("gena_bert_last_ln").files) == 9


@pytest.mark.parametrize("family", NATIVE)
def test_every_state_is_that_of_the_native_class(family):
    theirs, ours = native(family), encoder(family)
    # The limit of block-sparse attention is 704; 1,024 is a length that the native class treats in its own way.
    for length in (704, 705, 960, 1024) if family == "gena_bigbird" else (3, 40, 200):
        ids = random_ids(family, 2, length, seed=length)
        expected = run_native(theirs, ids)
        assert len(expected.hidden_states) == ours.layers + 1
        for layer, state in enumerate(expected.hidden_states):
            wanted = -1 if layer == ours.layers else layer  # what transformers calls the last is after the final norm
            torch.testing.assert_close(compute(ours, ids, wanted), state[:, :length], rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", BUILDERS)
def test_a_state_is_what_a_network_of_fewer_blocks_gives(tmp_path, family):
    ours = encoder(family)
    change_config(copy_of(family, tmp_path), **{"num_layers" if family == "calm" else "num_hidden_layers": 1})
    rename_weights(tmp_path, lambda name: None if re.search(r"layers?\.[1-9]\.", name) else name)
    short = build(family, tmp_path)
    assert short.layers == 1 < ours.layers
    ids = random_ids(family, 2, 30)
    assert torch.equal(ours.last(compute(ours, ids, 1)), compute(short, ids))


@pytest.mark.parametrize("family", BUILDERS)
def test_means_and_how_far_the_network_is_run(family):
    network, ids, ran = encoder(family), random_ids(family, 2, 20), []
    hooks = [block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(network.blocks, 1)]
    try:
        single = [compute(network, ids, k) for k in range(network.layers + 1)]
        for first, last in [(1, network.layers), (0, 1), (2, 2)]:
            ran.clear()
            mean = torch.stack(single[first : last + 1]).double().mean(0).float()
            torch.testing.assert_close(compute(network, ids, (first, last)), mean, rtol=0, atol=1e-6)
            assert ran == list(range(1, last + 1))
        ran.clear()
        compute(network, ids, 0)
        assert ran == []
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", PADDED)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_padding_and_company_change_nothing(family, data):
    lengths = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=5))
    network, ids = encoder(family), random_ids(family, len(lengths), max(lengths), seed=data.draw(st.integers(0, 99)))
    if family.startswith("esm"):
        ids[np.random.default_rng(0).random(ids.shape) < 0.2] = MASK
        ids[:, 0] = 5  # not all tokens are masked
        for row, length in zip(ids, lengths, strict=True):
            row[length:] = data.draw(st.sampled_from([1, MASK]))  # what stands in padding is of no account
    assert network.pads
    layer = data.draw(st.sampled_from([-1, 0, 1, (1, network.layers)]))
    together = compute(network, ids, layer, lengths)
    order = data.draw(st.permutations(range(len(lengths))))
    shuffled = compute(network, ids[order], layer, np.array(lengths)[order])
    for i, length in enumerate(lengths):
        alone = compute(network, ids[i : i + 1, :length], layer)[0]
        close = {"rtol": 0, "atol": 1e-5 * max(1.0, float(alone.abs().max()))}
        torch.testing.assert_close(together[i, :length], alone, **close)
        torch.testing.assert_close(shuffled[order.index(i), :length], alone, **close)


@pytest.mark.parametrize("family", PADDED)
def test_padding_would_count_if_it_were_not_masked(family):
    network, ids = encoder(family), random_ids(family, 1, 40)
    unmasked = compute(network, ids)[0, :10]
    assert (unmasked - compute(network, ids[:, :10])[0]).abs().max() > 1e-2


@pytest.mark.parametrize("length", [50, 704, 705, 768])
def test_sparse_attention_in_a_batch_of_one_length(length):
    network, ids = encoder("gena_bigbird"), random_ids("gena_bigbird", 3, length)
    assert not network.pads
    together = compute(network, ids)
    for row, one in zip(ids, together, strict=True):
        torch.testing.assert_close(one, compute(network, row[None])[0], rtol=0, atol=1e-5)


# What the README of the golden files says that an embedding does not need, and the decoder, which can be the embedding.
NOT_NEEDED = r"contact_head|position_ids$|pooler|inv_freq$|rope\.freqs$|lm_head(\.decoder)?\.weight$"


@pytest.mark.parametrize("family", BUILDERS)
def test_a_checkpoint_without_one_of_its_keys_is_refused(family):
    checkpoint = read_checkpoint(GOLDEN / family)
    unused = rf"{NOT_NEEDED}|^esm.embeddings.position_embeddings" if family in ("nt_v2", "esm2") else NOT_NEEDED
    for key in checkpoint.weights:
        rest = replace(checkpoint, weights={k: v for k, v in checkpoint.weights.items() if k != key})
        if re.search(unused, key):
            BUILDERS[family](rest)
        else:
            with pytest.raises(CheckpointError, match="missing: |unexpected: |wrong: "):
                BUILDERS[family](rest)


# Token dropout (ESM-1b, ESM-2)


@pytest.mark.parametrize("family", ["esm1b", "esm2"])
def test_masked_tokens_with_token_dropout(family):
    theirs, ours = native(family), encoder(family)
    lengths = [50, 31, 12, 44]
    ids = random_ids(family, 4, 50)
    ids[0, [3, 10, 11]] = ids[1, [0, 30]] = ids[2, [5]] = MASK  # and none in the last
    attention = torch.arange(50) < torch.tensor(lengths)[:, None]
    ids[~attention] = 1
    expected = run_native(theirs, ids, attention_mask=attention.long())
    for layer in (0, 1, -1):
        state = compute(ours, ids, layer, lengths)
        torch.testing.assert_close(state[attention], expected.hidden_states[layer][attention], rtol=0, atol=2e-5)
    one = run_native(theirs, ids[:1])
    torch.testing.assert_close(compute(ours, ids[:1], 0), one.hidden_states[0], rtol=0, atol=2e-5)
    if family == "esm2":  # no positions and no norm: what is left of a masked token is nothing
        assert not compute(ours, ids[:1], 0)[0, [3, 10, 11]].any()
        unmasked = ours.embedding.weight[ids[0, 0]] * 0.88 / (1 - 3 / 50)
        torch.testing.assert_close(compute(ours, ids[:1], 0)[0, 0], unmasked)


# Checkpoints of the ESM family


@pytest.mark.parametrize("positions", ["absolute", "rotary"])
@pytest.mark.parametrize("switch", [False, True])
def test_checkpoints_that_transformers_saves(tmp_path, positions, switch):
    from transformers import EsmConfig, EsmForMaskedLM

    sizes = {"vocab_size": 30, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    switches = {"position_embedding_type": positions, "token_dropout": switch, "emb_layer_norm_before": not switch}
    other = {"num_hidden_layers": 3, "pad_token_id": 1, "mask_token_id": 2, "max_position_embeddings": 40}
    theirs = shake(EsmForMaskedLM(EsmConfig(**sizes, **switches, **other)))
    theirs.save_pretrained(tmp_path)
    ours = build_esm(read_checkpoint(tmp_path))
    ids = torch.randint(2, 30, (3, 17))
    expected = run_native(theirs, ids)
    for layer in (0, 1, 2, -1):
        torch.testing.assert_close(compute(ours, ids, layer), expected.hidden_states[layer], rtol=0, atol=2e-5)
    torch.testing.assert_close(ours.logits(compute(ours, ids)), expected.logits, rtol=0, atol=2e-5)


def test_bare_encoder_without_prefix(tmp_path):
    rename_weights(copy_of("nt_v1", tmp_path), lambda name: name[4:] if name.startswith("esm.") else None)
    bare = build("nt_v1", tmp_path)
    ids = random_ids("nt_v1", 1, 9)
    assert bare.head is None
    assert torch.equal(compute(bare, ids), compute(encoder("nt_v1"), ids))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"emb_layer_norm_before": True}, r"missing: esm.embeddings.layer_norm.weight \[24\]"),
        ({"is_folding_model": True}, "is_folding_model is True: this is no language model"),
        ({"position_embedding_type": "relative_key"}, "is 'relative_key'; wanted 'absolute' or 'rotary'"),
        ({"position_embedding_type": REMOVED}, "is None; wanted 'absolute' or 'rotary'"),
        ({"hidden_size": REMOVED}, "config.json: the field 'hidden_size' is None; wanted an integer of 1 to 10000000"),
        ({"hidden_size": True}, "'hidden_size' is True"),
        ({"hidden_size": "24"}, "'hidden_size' is '24'"),
        ({"vocab_size": REMOVED}, "'vocab_size' is None"),
        ({"intermediate_size": 0}, "'intermediate_size' is 0"),
        ({"num_attention_heads": REMOVED}, "'num_attention_heads' is None"),
        ({"num_attention_heads": 5}, "24 channels cannot be divided among 5 heads"),
        ({"num_attention_heads": 8}, "24 channels cannot be divided among 8 heads"),
        ({"pad_token_id": REMOVED}, "'pad_token_id' is None"),
        ({"max_position_embeddings": 2.0}, "'max_position_embeddings' is 2.0"),
        ({"token_dropout": True, "mask_token_id": REMOVED}, "'mask_token_id' is None"),
        ({"layer_norm_eps": "small"}, "'layer_norm_eps' is 'small'; wanted a number between 0 and 1"),
        ({"layer_norm_eps": REMOVED}, "'layer_norm_eps' is None"),
        ({"layer_norm_eps": 1}, "'layer_norm_eps' is 1;"),
        ({"layer_norm_eps": 1.0}, r"'layer_norm_eps' is 1\.0;"),
        ({"layer_norm_eps": 0.0}, r"'layer_norm_eps' is 0\.0;"),
        ({"layer_norm_eps": float("nan")}, "'layer_norm_eps' is nan"),
        # Weights decide: twice the rows are a gate, so other numbers of rows fit neither kind of feed-forward part.
        ({"intermediate_size": 40}, r"wrong: esm.encoder.layer.0.intermediate.dense.weight is \[96, 24\]"),
        ({"intermediate_size": 96}, r"wrong: esm.encoder.layer.0.output.dense.weight is \[24, 48\]"),
        ({"num_hidden_layers": 1}, "unexpected: esm.encoder.layer.1"),
        ({"num_hidden_layers": 3}, "missing: esm.encoder.layer.2"),
        ({"num_hidden_layers": 10**6}, "'num_hidden_layers' is 1000000; wanted an integer of 1 to"),
        ({"position_embedding_type": "absolute"}, f"unexpected: {FREQUENCY.format(0)}"),
    ],
)  # fmt: skip
def test_other_configs_are_refused(tmp_path, fields, message):
    change_config(copy_of("nt_v2", tmp_path), **fields)
    with pytest.raises(CheckpointError, match=message):
        build("nt_v2", tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("encoder.emb_layer_norm_after.bias", REMOVED, r"missing: esm.encoder.emb_layer_norm_after.bias \[24\]"),
        ("other", torch.ones(2), r"unexpected: esm.other \[2\]"),
        ("encoder.layer.1.LayerNorm.weight", torch.ones(5), r"weight is \[5\] torch.float32, wanted \[24\]"),
        ("encoder.layer.1.LayerNorm.weight", torch.ones(24).long(), r"torch.int64, wanted \[24\] of floats"),
        ("encoder.layer.1.attention.self.key.weight", torch.ones(24, 23), r"key.weight is \[24, 23\]"),
        ("encoder.layer.1.output.dense.bias", torch.ones(24), "unexpected: esm.encoder.layer.1.output.dense.bias"),
        ("encoder.layer.1.intermediate.dense.bias", torch.ones(96), r"missing: esm\S+0.intermediate.dense.bias"),
    ],
)  # fmt: skip
def test_other_weights_are_refused(tmp_path, name, tensor, message):
    change_weights(copy_of("nt_v2", tmp_path), {f"esm.{name}": tensor})
    with pytest.raises(CheckpointError, match=message):
        build("nt_v2", tmp_path)


def test_stored_rotary_frequencies_are_used(tmp_path):
    ids, plain = random_ids("nt_v2", 1, 30), encoder("nt_v2")
    usual = 10000.0 ** (-torch.arange(3) / 3)
    names = [FREQUENCY.format(i) for i in range(2)]
    change_weights(copy_of("nt_v2", tmp_path), dict.fromkeys(names, REMOVED))
    computed = build("nt_v2", tmp_path)
    torch.testing.assert_close(computed.inverse_frequency, usual, rtol=1e-6, atol=0)
    torch.testing.assert_close(compute(computed, ids), compute(plain, ids), rtol=0, atol=1e-5)
    change_weights(tmp_path, dict.fromkeys(names, 2 * usual))
    assert (compute(build("nt_v2", tmp_path), ids) - compute(plain, ids)).abs().max() > 1e-2
    for other in (usual, torch.ones(4)):
        change_weights(tmp_path, {names[1]: other})
        with pytest.raises(CheckpointError, match=r"must have the shape \[3\] and be equal in all layers"):
            build("nt_v2", tmp_path)


def test_rotary_frequencies_rounded_to_half_precision(tmp_path):
    stored = read_checkpoint(GOLDEN / "esm2").weights[FREQUENCY.format(0)]
    usual = 10000.0 ** (-torch.arange(4) / 4)
    assert torch.equal(stored, usual.half().float())
    assert not torch.equal(stored, usual)
    assert torch.equal(encoder("esm2").inverse_frequency, stored)
    change_weights(copy_of("esm2", tmp_path), {FREQUENCY.format(i): stored.half() for i in range(3)})
    halves = build("esm2", tmp_path).inverse_frequency
    assert halves.dtype == torch.float32
    assert torch.equal(halves, stored)


def test_most_tokens(tmp_path):
    copy_of("nt_v2", tmp_path)
    assert esm_max_tokens(read_checkpoint(tmp_path)) == 2048
    (tmp_path / "tokenizer_config.json").unlink()
    assert esm_max_tokens(read_checkpoint(tmp_path)) == 2048
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    assert esm_max_tokens(read_checkpoint(tmp_path)) == 512
    change_config(tmp_path, max_position_embeddings=3)
    with pytest.raises(CheckpointError, match="room for 1 tokens"):
        esm_max_tokens(read_checkpoint(tmp_path))
