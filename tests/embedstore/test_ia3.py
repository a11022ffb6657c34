"""IA3 vectors: against peft, against scaled checkpoints of every family, and folded into the weights."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from encoders import BUILDERS, GOLDEN, build, change_weights, compute, copy_of, random_ids
from peft_ia3 import OLD_NAMES, peft_model, peft_vectors
from safetensors.torch import load_file, save_file
from toys import random_sequences

import embedstore
from embedstore import tasks
from embedstore.errors import CheckpointError, InputError
from embedstore.models import load
from embedstore.models.function import function_model
from embedstore.models.ia3 import add_ia3, fold_ia3, load_ia3, save_ia3, tuned_model
from embedstore.models.precision import arithmetic
from embedstore.models.transformer import Encoder, EncoderSpec

# What holds the rows of keys and values, and the columns that l_ff scales, in every block of a checkpoint.
USUAL = ("attention.self.key", "attention.self.value", "output.dense")
MODULES = dict.fromkeys(BUILDERS, USUAL) | {
    "dnabert2": ("attention.self.Wqkv", "attention.self.Wqkv", "mlp.wo"),
    "calm": ("self_attn.k_proj", "self_attn.v_proj", "fc2"),
}
PUBLISHED = {  # layers, width, inner, gated, vectors, share of the encoder in percent
    "NT-v2 500M": (29, 1024, 4096, True, 178_176, 0.036),
    "ESM-2 650M and ESM-1b": (33, 1280, 5120, False, 253_440, 0.039),
    "DNABERT-2": (12, 768, 3072, True, 55_296, 0.047),
}


@cache
def family(name):
    return load(GOLDEN / name)


def drawn(vectors, seed=0, powers=False):
    """Vectors far from 1, the same for one seed; or powers of two."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for vector in vectors.parameters():
            noise = torch.randn(vector.shape, generator=generator)
            vector.copy_(2.0 ** noise.round() if powers else 1 + noise)
    return vectors


def spec_of(layers, width, inner, gated):
    return EncoderSpec(
        vocabulary=4107, width=width, layers=layers, heads=width // 64, inner=inner, epsilon=1e-5,
        positions="rotary", gated=gated,
    )  # fmt: skip


# ---- what the vectors do -------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_vectors_of_ones_change_no_bit_and_others_do(name):
    network, ids = build(name), random_ids(name, 2, 9)
    vectors, base = add_ia3(network), compute(network, ids)
    with vectors.applied(network):
        assert torch.equal(compute(network, ids), base)
    drawn(vectors)
    with vectors.applied(network):
        assert (compute(network, ids) - base).abs().max() > 0.05
    assert torch.equal(compute(network, ids), base)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize("name", BUILDERS)
def test_they_are_what_scaled_weights_of_the_published_names_are(name, tmp_path):
    """The rows of keys and values and the columns of the last map, scaled in the file, give the same network."""
    network, ids = build(name), random_ids(name, 2, 9)
    vectors = drawn(add_ia3(network))
    key, value, down = MODULES[name]
    weights = load_file(copy_of(name, tmp_path) / "model.safetensors")
    changed = {}
    for block in range(network.layers):
        factors = [part[block].detach() for part in (vectors.key, vectors.value, vectors.inner)]
        if name == "calm":  # which rotates pairs of neighbours, where the encoder pairs the halves of a head
            factors[0] = factors[0].unflatten(0, (network.spec.heads, 2, -1)).transpose(1, 2).flatten()
        rows = {key: factors[0], value: factors[1]}
        if key == value:
            rows = {key: torch.cat([torch.ones(network.width), *factors[:2]])}
        for full, tensor in weights.items():
            module, _, kind = full.rpartition(".")
            for ending, factor in rows.items():
                if module.endswith(f".{block}.{ending}"):
                    changed[full] = tensor * (factor[:, None] if kind == "weight" else factor)
            if full.endswith(f".{block}.{down}.weight"):
                changed[full] = tensor * factors[2]
    assert len({full.rpartition(".")[0] for full in changed}) == network.layers * len({key, value, down})
    change_weights(tmp_path, changed)
    wanted = compute(build(name, tmp_path), ids)
    with vectors.applied(network):
        torch.testing.assert_close(compute(network, ids), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_folded_into_the_weights(name):
    ids = random_ids(name, 2, 9)
    for powers in (True, False):
        network = build(name)
        vectors = drawn(add_ia3(network), powers=powers)
        with vectors.applied(network):
            wanted = compute(network, ids)
        fold_ia3(network, vectors)
        found = compute(network, ids)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        weight = network.blocks[-1].down.weight
        assert torch.equal(weight, build(name).blocks[-1].down.weight * vectors.inner[-1])


def test_a_vector_of_powers_of_two_folds_exactly():
    network, ids = build("esm2"), random_ids("esm2", 2, 9)
    vectors = drawn(add_ia3(network), powers=True)
    with vectors.applied(network):
        wanted = compute(network, ids)
    fold_ia3(network, vectors)
    assert torch.equal(compute(network, ids), wanted)


@pytest.mark.parametrize("name", ["esm2", "nt_v2", "dnabert2", "gena_bigbird"])
def test_a_sequence_does_not_depend_on_its_batch(name):
    network, lengths = build(name), [9, 4, 9, 1]
    vectors = drawn(add_ia3(network))
    ids = random_ids(name, sum(lengths))
    with vectors.applied(network), torch.no_grad():
        packed = network.forward_packed(ids, -1, lengths).split(lengths)
        for part, alone in zip(ids.split(lengths), packed, strict=True):
            torch.testing.assert_close(compute(network, part[None])[0], alone, rtol=1e-5, atol=1e-5)
        if network.pads:
            padded = torch.nn.utils.rnn.pad_sequence(list(ids.split(lengths)), batch_first=True, padding_value=1)
            for row, length, alone in zip(compute(network, padded, lengths=lengths), lengths, packed, strict=True):
                torch.testing.assert_close(row[:length], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["esm2", "nt_v2", "dnabert2", "dnabert"])
def test_only_the_vectors_have_gradients(name):
    model = family(name)
    vectors = add_ia3(model)
    before = {key: weight.clone() for key, weight in model.network.state_dict().items()}
    optimizer = torch.optim.Adam(vectors.parameters(), lr=3e-3)
    for _ in range(2):
        optimizer.zero_grad()
        with vectors.applied(model.network):
            model.network(random_ids(name, 2, 9))[..., 0].square().sum().backward()
        optimizer.step()
    assert all(vector.grad.abs().max() > 0 for vector in vectors.parameters())
    assert all((vector != 1).all() for vector in vectors.parameters())
    assert all(weight.grad is None for weight in model.network.parameters())
    assert all(torch.equal(weight, before[key]) for key, weight in model.network.state_dict().items())


@pytest.mark.parametrize("name", ["esm2", "dnabert2"])
def test_vectors_are_float32_beside_products_in_bfloat16(name):
    network, ids = build(name).eval().requires_grad_(False), random_ids(name, 1, 9)
    vectors, cpu = add_ia3(network), torch.device("cpu")

    seen = []

    def run():
        with arithmetic("bfloat16", cpu, gradients=True), vectors.applied(network):
            after = network.blocks[0].query_key_value.register_forward_hook(lambda *given: seen.append(given[2].dtype))
            hidden = network(ids)
            after.remove()
        return hidden

    with arithmetic("bfloat16", cpu):
        assert torch.equal(run().detach(), network(ids))
    run().square().sum().backward()
    assert seen == [torch.bfloat16] * 2
    assert {vector.grad.dtype for vector in vectors.parameters()} == {torch.float32}
    torch.optim.SGD(vectors.parameters(), lr=1e-6).step()
    assert ((vectors.key[0] - 1).abs() > 0).any()  # steps that bfloat16 could not hold
    assert (vectors.key[0].bfloat16() == 1).all()


# ---- how many ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sizes"), PUBLISHED.items())
def test_there_are_as_many_as_published_sizes_give(name, sizes):
    *shape, count, percent = sizes
    with torch.device("meta"):
        network = Encoder(spec_of(*shape))
    assert add_ia3(network).count == count
    share = 100 * count / sum(weight.numel() for weight in network.parameters())
    assert share == pytest.approx(percent, rel=0.02), name


def test_blocks_after_the_layer_that_is_read_have_none():
    assert len(add_ia3(load(GOLDEN / "esm2", layer=1)).key) == 1
    assert len(add_ia3(load(GOLDEN / "esm2", layer="1-2")).key) == 2
    model = load(GOLDEN / "esm2", layer=1)
    vectors = drawn(add_ia3(model))
    ids = random_ids("esm2", 1, 7)
    with vectors.applied(model.network):
        wanted = compute(model.network, ids, 1)
    fold_ia3(model.network, vectors)
    torch.testing.assert_close(compute(model.network, ids, 1), wanted, rtol=1e-5, atol=1e-5)


# ---- peft ----------------------------------------------------------------------------------------


@OLD_NAMES
def test_the_same_vectors_give_what_peft_gives():
    model, network = peft_model(), build("esm2")
    vectors = drawn(add_ia3(network))
    with torch.no_grad():
        for theirs, ours in zip(peft_vectors(model), (vectors.key, vectors.value, vectors.inner), strict=True):
            for one, other in zip(theirs, ours, strict=True):
                one.copy_(other.reshape(one.shape))
        ids = random_ids("esm2", 3, 11)
        with vectors.applied(network):
            torch.testing.assert_close(compute(network, ids), model(ids)[0], rtol=1e-5, atol=1e-5)
    assert sum(v.numel() for part in peft_vectors(model) for v in part) == vectors.count


@OLD_NAMES
def test_training_gives_the_vectors_that_peft_is_trained_to():
    torch.manual_seed(0)
    model, network, ids = peft_model(), build("esm2").requires_grad_(False), random_ids("esm2", 8, 11)
    heads = [torch.nn.Linear(network.width, 1) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    vectors, wanted = add_ia3(network), torch.randn(8)
    theirs = peft_vectors(model)
    groups = (
        [*vectors.parameters(), *heads[0].parameters()],
        [v for p in theirs for v in p] + [*heads[1].parameters()],
    )
    optimizers = [torch.optim.Adam(group, lr=3e-3) for group in groups]
    losses = []
    for _ in range(8):
        with vectors.applied(network):
            hidden = network(ids)
        for x, head, optimizer in zip((hidden, model(ids)[0]), heads, optimizers, strict=True):
            optimizer.zero_grad()
            loss = (head(x.mean(1))[:, 0] - wanted).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    for part, ours in zip(theirs, (vectors.key, vectors.value, vectors.inner), strict=True):
        for one, other in zip(part, ours, strict=True):
            assert (other - 1).abs().max() > 0.01
            torch.testing.assert_close(one.flatten(), other, rtol=0, atol=1e-4)


# ---- on disk, and as models ----------------------------------------------------------------------


def test_saved_and_loaded(tmp_path):
    model = family("esm2")
    vectors = drawn(add_ia3(model))
    save_ia3(tmp_path / "v.safetensors", vectors, model)
    again = load_ia3(tmp_path / "v.safetensors", load(GOLDEN / "esm2", name="another name"))
    for key, vector in vectors.state_dict().items():
        assert torch.equal(again.state_dict()[key], vector), key
    with pytest.raises(CheckpointError, match=r"made for 'esm2' \(\w{12}\), and model 'esm1b' has the digest"):
        load_ia3(tmp_path / "v.safetensors", family("esm1b"))
    with pytest.raises(CheckpointError, match="do not fit the blocks of model 'esm2' that give layer 1"):
        load_ia3(tmp_path / "v.safetensors", load(GOLDEN / "esm2", layer=1))


def test_files_that_hold_no_vectors(tmp_path):
    path = tmp_path / "v.safetensors"
    with pytest.raises(CheckpointError, match="is not a whole file of IA3 vectors"):
        load_ia3(path, family("esm2"))
    save_file({"key.0": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="is not a whole file of IA3 vectors: KeyError"):
        load_ia3(path, family("esm2"))
    save_ia3(path, add_ia3(family("esm2")), family("esm2"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is not a whole file"):
        load_ia3(path, family("esm2"))


def test_a_tuned_model_is_embedded_with_under_a_name_and_a_digest_of_its_own():
    model = family("nt_v2")
    vectors = drawn(add_ia3(model))
    tuned = tuned_model(model, vectors, "nt_v2.tuned")
    store = embedstore.open_store("memory://ia3", mode="a")
    task = tasks.from_sequences("t", random_sequences([30, 41, 12]), splits=[""] * 3)
    store.add_task(task)
    for one in (model, tuned):
        embedstore.embed(store, "t", one, dtype="float32", progress=False)
    assert tuned.fingerprint["checkpoint"] != model.fingerprint["checkpoint"]
    assert tuned_model(model, drawn(add_ia3(model), 1), "x").digest != tuned.digest
    assert tuned_model(model, vectors, "x").digest == tuned.digest
    assert store.embedding("t", "nt_v2.tuned").record["ia3"]
    means = [store.embedding("t", name).pooled(np.arange(3)) for name in ("nt_v2", "nt_v2.tuned")]
    assert np.abs(means[0] - means[1]).max() > 0.01
    piece = model.pieces(store.sequences("t", [2])[0])[0]
    with vectors.applied(model.network):
        rows = compute(model.network, piece.ids[None])[0, 1:].numpy()
    np.testing.assert_allclose(means[1][2], np.average(rows, axis=0, weights=piece.span), rtol=1e-4, atol=1e-5)


# ---- refused -------------------------------------------------------------------------------------


def test_networks_that_have_no_such_parts():
    with pytest.raises(InputError, match=r"Model 'resnet_lm' \(.*\) cannot be tuned by IA3: it is a ConvNet"):
        add_ia3(family("resnet_lm"))
    function = function_model(
        "f",
        lambda texts: [(np.eye(128, dtype="f4")[list(t.encode())], np.ones(len(t), int)) for t in texts],
        version="1",
    )
    with pytest.raises(InputError, match="Model 'f' .*cannot be tuned by IA3"):
        add_ia3(function)
    with pytest.raises(InputError, match="gives layer 0, which no block has changed"):
        add_ia3(load(GOLDEN / "esm2", layer=0))
    vectors = add_ia3(build("esm2"))
    with pytest.raises(InputError, match="These IA3 vectors are for 3 blocks of 32 channels, 128 in .*Use the model"):
        fold_ia3(build("dnabert2"), vectors)
    with (
        pytest.raises(InputError, match="These IA3 vectors are for 3 blocks"),
        vectors.applied(build("dnabert2")),
    ):
        pass
