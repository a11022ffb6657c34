"""Scores of masked language models against transformers' classes, or their formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from encoders import (
    BUILDERS,
    GOLDEN,
    NATIVE,
    REMOVED,
    build,
    change_config,
    change_weights,
    compute,
    copy_of,
    encoder,
    native,
    random_ids,
    rename_weights,
    run_native,
)

from embedstore.errors import CheckpointError
from embedstore.models.checkpoints import read_checkpoint

# Names of the linear map, the norm, the bias and weight of the scores, and the token embedding.
ESM = (
    "lm_head.dense",
    "lm_head.layer_norm",
    "lm_head.bias",
    "lm_head.decoder.weight",
    "esm.embeddings.word_embeddings.weight",
)
BERT = (
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
    "bert.embeddings.word_embeddings.weight",
)
CALM = ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.weight", "embed_tokens.weight")
DNABERT2 = (*BERT[:2], "cls.predictions.decoder.bias", *BERT[3:])
NAMES = {family: ESM if "nt_" in family or "esm" in family else BERT for family in BUILDERS}
NAMES |= {"calm": CALM, "dnabert2": DNABERT2}


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def gelu_new(x):
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def formula(family, hidden, folder=None):
    """Scores in float64 from the tensors of the file."""
    checkpoint = read_checkpoint(folder or GOLDEN / family)
    tensor = {name: t.double().numpy() for name, t in checkpoint.weights.items()}
    dense, norm, bias, decoder, embedding = NAMES[family]
    x = hidden.double().numpy() @ tensor[f"{dense}.weight"].T + tensor[f"{dense}.bias"]
    x = (gelu_new if checkpoint.config.get("hidden_act") == "gelu_new" else gelu)(x)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + checkpoint.config["layer_norm_eps"])
    x = x * tensor[f"{norm}.weight"] + tensor[f"{norm}.bias"]
    return x @ tensor.get(decoder, tensor[embedding]).T + tensor[bias]


@pytest.mark.parametrize("family", BUILDERS)
def test_scores_are_the_formula(family):
    network, ids = encoder(family), random_ids(family, 2, 20)
    hidden = compute(network, ids)
    scores = network.logits(hidden).detach()
    assert scores.shape == (2, 20, network.spec.vocabulary)
    assert scores.std() > 0.02
    np.testing.assert_allclose(scores, formula(family, hidden), rtol=0, atol=2e-5)
    # Small states too, where a wrong epsilon or activation shows most.
    small = hidden / 100
    np.testing.assert_allclose(network.logits(small).detach(), formula(family, small), rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", NATIVE)
def test_scores_are_those_of_the_native_class(family):
    theirs, ours = native(family), encoder(family)
    for length in (30, 720):
        ids = random_ids(family, 1, min(length, 500) if "bird" not in family else length)
        torch.testing.assert_close(ours.logits(compute(ours, ids)), run_native(theirs, ids).logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", BUILDERS)
def test_the_embedding_is_used_where_the_file_has_no_weights_of_the_scores(family, tmp_path):
    _, _, bias, decoder, embedding = NAMES[family]
    network = build(family, copy_of(family, tmp_path))
    weights = read_checkpoint(GOLDEN / family).weights
    assert torch.equal(network.head.decoder.weight, weights.get(decoder, weights[embedding]))
    change_weights(tmp_path, {decoder: REMOVED} if decoder in weights else {})
    assert torch.equal(build(family, tmp_path).head.decoder.weight, weights[embedding])
    own = torch.randn(weights[embedding].shape)
    change_weights(tmp_path, {decoder: own})
    untied = build(family, tmp_path)
    assert torch.equal(untied.head.decoder.weight, own)
    assert torch.equal(untied.embedding.weight, weights[embedding])
    assert torch.equal(untied.head.decoder.bias, weights[bias])


@pytest.mark.parametrize("family", BUILDERS)
def test_part_of_a_head_is_an_error(family, tmp_path):
    dense, norm, bias, *_ = NAMES[family]
    for name in (f"{dense}.weight", f"{dense}.bias", f"{norm}.weight", f"{norm}.bias", bias):
        change_weights(copy_of(family, tmp_path), {name: REMOVED})
        with pytest.raises(CheckpointError, match="missing: ") as error:
            build(family, tmp_path)
        assert "(1 problems; nothing was loaded)" in str(error.value)
        tail = "bias" if name == bias else name
        assert f"{tail} [" in str(error.value)


@pytest.mark.parametrize("family", BUILDERS)
def test_only_a_norm_of_a_head_is_an_error(family, tmp_path):
    norm = NAMES[family][1]
    heads = ("lm_head.", "cls.")
    rename_weights(copy_of(family, tmp_path), lambda k: None if k.startswith(heads) and not k.startswith(norm) else k)
    with pytest.raises(CheckpointError, match=f"unexpected: {norm}"):
        build(family, tmp_path)


@pytest.mark.parametrize("family", BUILDERS)
def test_no_head(family, tmp_path):
    rename_weights(copy_of(family, tmp_path), lambda k: None if k.startswith(("lm_head.", "cls.")) else k)
    network, ids = build(family, tmp_path), random_ids(family, 1, 20)
    hidden = compute(network, ids)
    assert torch.equal(hidden, compute(encoder(family), ids))
    assert network.head is None
    with pytest.raises(NotImplementedError, match="no language-model head"):
        network.logits(hidden)


def test_the_bias_that_transformers_repeats(tmp_path):
    weights = read_checkpoint(GOLDEN / "dnabert").weights
    bias = weights["cls.predictions.bias"]
    repeated = {"cls.predictions.decoder.bias": bias, "cls.predictions.decoder.weight": weights[BERT[4]]}
    change_weights(copy_of("dnabert", tmp_path), repeated)
    assert torch.equal(build("dnabert", tmp_path).head.decoder.bias, bias)
    change_weights(tmp_path, {"cls.predictions.bias": REMOVED})
    assert torch.equal(build("dnabert", tmp_path).head.decoder.bias, bias)


def test_activation_of_the_head(tmp_path):
    change_config(copy_of("dnabert", tmp_path), hidden_act="gelu_new")
    hidden = compute(encoder("dnabert"), random_ids("dnabert", 1, 20))
    for folder in (GOLDEN / "dnabert", tmp_path):
        scores = build("dnabert", folder).logits(hidden).detach()
        np.testing.assert_allclose(scores, formula("dnabert", hidden, folder), rtol=0, atol=2e-5)
