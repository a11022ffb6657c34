"""Caduceus: golden files, the selective scan against a loop over numbers, reverse complements, and configs."""

from __future__ import annotations

import copy
import dataclasses
import importlib.machinery
import math
import sys
import types
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import REMOVED, arrays, cases, change_config, change_weights, compute, copy_of, rename_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import CheckpointError
from embedstore.models import selective_scan as scan_module
from embedstore.models.caduceus import build_caduceus
from embedstore.models.checkpoints import Checkpoint, read_checkpoint
from embedstore.models.selective_scan import selective_scan

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = ["caduceus_ph", "caduceus_ps", "caduceus_ps_unfused"]
EQUIVARIANT = FAMILIES[1:]
CASES = [(family, case["id"]) for family in FAMILIES for case in cases(family)["cases"]]
COMPLEMENT = torch.tensor([0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11, 12, 13, 14, 15])
FORWARD = "caduceus.backbone.layers.0.mixer.mamba_fwd."
REVERSE = "caduceus.backbone.layers.0.mixer.mamba_rev."


@cache
def network(family):
    return build_caduceus(read_checkpoint(GOLDEN / family)).eval().requires_grad_(False)


def ids_of(length, batch=1, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(7, 12, (batch, length)))


@pytest.mark.parametrize(("family", "case"), CASES)
def test_golden(family, case):
    ids = arrays(family)[f"{case}/ids"].astype(np.int64)[None]
    expected = arrays(family)[f"{case}/hidden"]
    np.testing.assert_allclose(compute(network(family), ids)[0], expected, rtol=0, atol=cases(family)["tolerance_abs"])


def one_by_one(x, step, into, out_of, gate, rate, skip, step_bias):
    """Compute a selective scan of one sequence number by number."""
    tokens, channels = x.shape
    state = [[0.0] * rate.shape[1] for _ in range(channels)]
    y = np.empty_like(x)
    for t in range(tokens):
        for c in range(channels):
            d = math.log1p(math.exp(step[t, c] + step_bias[c]))
            out = skip[c] * x[t, c]
            for n in range(rate.shape[1]):
                state[c][n] = math.exp(d * rate[c, n]) * state[c][n] + d * into[t, n] * x[t, c]
                out += out_of[t, n] * state[c][n]
            y[t, c] = out * gate[t, c] / (1 + math.exp(-gate[t, c]))
    return y


def scan_inputs(batch, tokens, channels=3, states=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    wide, narrow = (batch, tokens, channels), (batch, tokens, states)
    inputs = {"x": draw(*wide), "step": draw(*wide), "into": draw(*narrow), "out_of": draw(*narrow)}
    inputs |= {"gate": draw(*wide), "rate": -torch.exp(draw(channels, states))}
    return inputs | {"skip": draw(channels), "step_bias": draw(channels)}


def per_sequence(inputs, row):
    return {name: (t[row] if t.ndim == 3 else t).numpy() for name, t in inputs.items()}


@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 12), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_scan(batch, tokens, chunk, seed):
    inputs = scan_inputs(batch, tokens, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "CHUNK", chunk * batch * 6)  # tokens at a time, 0 standing for 1
        y = selective_scan(**inputs)
    for row in range(batch):
        np.testing.assert_allclose(y[row], one_by_one(**per_sequence(inputs, row)), rtol=1e-9, atol=1e-11)


def test_scan_in_float32_across_chunks():
    inputs = scan_inputs(1, 3000, channels=4, states=16, dtype=torch.float32)
    assert scan_module.CHUNK // (4 * 16) < 3000
    expected = one_by_one(**per_sequence({name: t.double() for name, t in inputs.items()}, 0))
    np.testing.assert_allclose(selective_scan(**inputs)[0], expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_scan_of_extreme_steps():
    # A step of 200 forgets everything, one of exp(-200) keeps everything; neither overflows.
    inputs = scan_inputs(1, 6, dtype=torch.float32)
    for step, kept in ((200.0, 0.0), (-200.0, 1.0)):
        inputs["step"][:, 3:] = step
        inputs["into"][:, 3:] = 0
        inputs["step_bias"][:] = 0
        inputs["out_of"][:], inputs["gate"][:], inputs["skip"][:] = 1, 30, 0
        y = selective_scan(**inputs)[0] / 30
        torch.testing.assert_close(y[3:], kept * y[2].expand(3, -1), rtol=1e-6, atol=1e-6)


def test_gradients_of_the_scan():
    inputs = scan_inputs(2, 5)
    names = list(inputs)
    tensors = tuple(t.requires_grad_() for t in inputs.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "CHUNK", 2 * 12)  # two tokens at a time
        assert torch.autograd.gradcheck(
            lambda *values: selective_scan(**dict(zip(names, values, strict=True))), tensors
        )


@pytest.fixture
def mamba_ssm(monkeypatch):
    """Put a module with the kernel's name and arguments in place of the package; return what it was called with."""
    calls = []

    def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
        calls.append({"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias})
        assert delta_softplus
        assert not torch.is_autocast_enabled("cpu")
        rows = [
            one_by_one(
                *(t[i].T.double().numpy() for t in (u, delta, B, C, z)), *(t.numpy() for t in (A, D, delta_bias))
            )
            for i in range(len(u))
        ]
        return torch.from_numpy(np.stack(rows)).to(u.dtype).transpose(1, 2)

    package = types.ModuleType("mamba_ssm")
    package.__spec__ = importlib.machinery.ModuleSpec("mamba_ssm", None)
    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for module in (package, types.ModuleType("mamba_ssm.ops"), interface):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_kernel_is_for_cuda_only(mamba_ssm, monkeypatch):
    inputs = scan_inputs(2, 7)
    expected = selective_scan(**inputs)
    assert not mamba_ssm
    find = scan_module._kernel
    assert find(torch.device("cpu")) is None
    monkeypatch.setattr(scan_module, "_kernel", lambda device: find(torch.device("cuda")))
    torch.testing.assert_close(selective_scan(**inputs), expected)
    (call,) = mamba_ssm
    assert {name: tuple(t.shape) for name, t in call.items()} == {
        **dict.fromkeys(("u", "delta", "z"), (2, 3, 7)),
        **dict.fromkeys(("B", "C"), (2, 2, 7)),
        **dict.fromkeys(("D", "delta_bias"), (3,)),
        "A": (3, 2),
    }


def test_without_the_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    monkeypatch.setattr(scan_module.importlib.util, "find_spec", lambda name: None)
    assert scan_module._kernel(torch.device("cuda")) is None


def test_kernel_gets_float32_under_autocast(mamba_ssm, monkeypatch):
    find = scan_module._kernel
    monkeypatch.setattr(scan_module, "_kernel", lambda device: find(torch.device("cuda")))
    ids = ids_of(9)
    with torch.autocast("cpu", torch.bfloat16):
        states = list(network("caduceus_ps").states(ids))
    assert len(mamba_ssm) == 4  # two blocks, two directions, both strands at a time
    assert {t.dtype for call in mamba_ssm for t in call.values()} == {torch.float32}
    assert {state.dtype for state in states} == {torch.float32}
    last = network("caduceus_ps").last(states[-1])
    difference = (last - compute(network("caduceus_ps"), ids)).abs().mean()
    assert 1e-4 < difference < 0.1


def mamba(w, x):
    """Run one direction of Mamba as published, from tensors by their official names."""
    inner, gate = np.split(x @ w["in_proj.weight"].T + w.get("in_proj.bias", 0), 2, axis=1)
    kernel = w["conv1d.weight"][:, 0]
    padded = np.pad(inner, ((kernel.shape[1] - 1, 0), (0, 0)))
    inner = sum(padded[k : k + len(x)] * kernel[:, k] for k in range(kernel.shape[1])) + w.get("conv1d.bias", 0)
    inner = inner / (1 + np.exp(-inner))
    rank, state = w["dt_proj.weight"].shape[1], w["A_log"].shape[1]
    step, into, out_of = np.split(inner @ w["x_proj.weight"].T, [rank, rank + state], axis=1)
    step = step @ w["dt_proj.weight"].T
    y = one_by_one(inner, step, into, out_of, gate, -np.exp(w["A_log"]), w["D"], w["dt_proj.bias"])
    return y @ w["out_proj.weight"].T + w.get("out_proj.bias", 0)


def published(checkpoint, ids):
    """Compute states and the last hidden state of the code that config.json names, in float64."""
    config = checkpoint.config
    weights = {name.removeprefix("caduceus.backbone."): t.double().numpy() for name, t in checkpoint.weights.items()}
    weights = {name.replace("submodule.", ""): t for name, t in weights.items()}
    twice, fused = config["rcps"], config["fused_add_norm"]

    def normed(x, name, *, centred=False):
        if centred or not config["rms_norm"]:
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["norm_epsilon"])
        return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0)

    def mixed(x, i):
        prefix = f"layers.{i}.mixer.mamba_"
        forward, reverse = (
            {n.removeprefix(prefix + d): t for n, t in weights.items() if n.startswith(prefix + d)}
            for d in ("fwd.", "rev.")
        )
        if config["bidirectional_weight_tie"]:
            reverse |= {name: t for name, t in forward.items() if name.split(".")[0] in ("in_proj", "out_proj")}
        one, other = mamba(forward, x), mamba(reverse, x[::-1])[::-1]
        return one + other if config["bidirectional_strategy"] == "add" else one * other

    def both(function, x):
        """Apply a function to each strand in its own order."""
        if not twice:
            return function(x)
        first, second = np.split(x, 2, axis=1)
        return np.concatenate([function(first), function(second[::-1, ::-1])[::-1, ::-1]], axis=1)

    name = "embeddings.word_embeddings." + ("embedding.weight" if twice else "weight")
    x = weights[name][ids]
    if twice:
        x = np.concatenate([x, weights[name][COMPLEMENT.numpy()[ids][::-1]][::-1, ::-1]], axis=1)
    states = [x]
    for i in range(config["n_layer"]):
        if twice and fused:
            x = np.concatenate(np.split(x, 2, axis=1)[::-1], axis=1)
        centred = fused and not twice  # as in the reference numbers
        h = both(lambda part, i=i, centred=centred: normed(part, f"layers.{i}.norm", centred=centred), x)
        x = x + both(lambda part, i=i: mixed(part, i), h)
        states.append(x)
    return states, both(lambda part: normed(part, "norm_f"), x)


def expected_states(checkpoint, ids):
    ours = build_caduceus(checkpoint).double()
    states, last = published(checkpoint, ids[0].numpy())
    with torch.no_grad():
        found = list(ours.states(ids))
        assert len(found) == len(states) == ours.layers + 1
        for state, expected in zip(found, states, strict=True):
            np.testing.assert_allclose(state[0], expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours(ids)[0], last, rtol=0, atol=1e-9)
    return ours, last


@pytest.mark.parametrize("family", FAMILIES)
def test_states_from_the_formulas(family):
    ours, _ = expected_states(read_checkpoint(GOLDEN / family), ids_of(13, seed=1))
    assert (ours.width, ours.layers, ours.pads) == (32 if family in EQUIVARIANT else 16, 2, False)


def variant(family, fields, **ssm):
    """Change a golden checkpoint into one of other switches, with random tensors where they need others."""
    checkpoint = read_checkpoint(GOLDEN / family)
    config = checkpoint.config | fields | {"ssm_cfg": checkpoint.config["ssm_cfg"] | ssm}
    torch.manual_seed(0)
    weights = dict(checkpoint.weights)
    for name in checkpoint.weights:
        if ssm.get("conv_bias") is False and name.endswith("conv1d.bias"):
            del weights[name]
        if name.endswith(("in_proj.weight", "out_proj.weight")):
            reverse = name.replace("mamba_fwd", "mamba_rev")
            if fields.get("bidirectional_weight_tie") is False:
                weights[reverse] = torch.randn_like(weights[name]) / 4
            for key in (name, reverse):
                if ssm.get("bias") and key in weights:
                    weights[key.replace("weight", "bias")] = torch.randn(len(weights[key])) / 4
        if "norm" in name and fields.get("rms_norm") is False:
            weights[name.replace("weight", "bias")] = torch.randn_like(weights[name]) / 4
        if name.endswith("dt_proj.weight") and "dt_rank" in ssm:
            weights[name] = torch.randn(len(weights[name]), ssm["dt_rank"])
            weights[name.replace("dt_proj", "x_proj")] = torch.randn(ssm["dt_rank"] + 32, 32) / 4
    return dataclasses.replace(checkpoint, config=config, weights=weights)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("fields", "ssm"),
    [
        ({"bidirectional_strategy": "ew_multiply"}, {}),
        ({"bidirectional_weight_tie": False}, {}),
        ({"bidirectional_weight_tie": False, "bidirectional_strategy": "ew_multiply"}, {"bias": True}),
        ({"rms_norm": False}, {}),
        ({"residual_in_fp32": True}, {"bias": True, "conv_bias": False}),
        ({}, {"dt_rank": 3}),
    ],
)
def test_switches(family, fields, ssm):
    ids = ids_of(9, seed=2)
    plain = compute(network(family), ids)[0]
    _, last = expected_states(variant(family, fields, **ssm), ids)
    assert np.abs(last - plain.numpy()).max() > 0.1


def test_without_the_fused_path_norms_do_not_centre():
    # The files of both paths are alike where a network is not equivariant.
    expected_states(variant("caduceus_ph", {"fused_add_norm": False}), ids_of(9))


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_change_nothing(family):
    ids = ids_of(150, batch=3, seed=3)
    together = compute(network(family), ids)
    for row in range(3):
        alone = compute(network(family), ids[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("family", EQUIVARIANT)
@given(st.integers(1, 60), st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_reverse_complements(family, length, seed):
    ours = copy.deepcopy(network(family)).double()
    ids = ids_of(length, batch=2, seed=seed)
    reverse = COMPLEMENT[ids.flip(1)]
    for state, other in zip(ours.states(ids), ours.states(reverse), strict=True):
        torch.testing.assert_close(other.flip(1, 2), state, rtol=0, atol=1e-10)
    hidden, other = compute(ours, ids), compute(ours, reverse)
    torch.testing.assert_close(other.flip(1, 2), hidden, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.logits(other).flip(1)[..., COMPLEMENT], ours.logits(hidden), rtol=0, atol=1e-9)


def test_logits():
    ids = ids_of(20)
    for family in FAMILIES:
        ours = network(family)
        hidden, embedding = compute(ours, ids), ours.embedding.weight
        scores = hidden[..., :16] @ embedding.T
        if family in EQUIVARIANT:
            scores = scores + hidden[..., 16:].flip(-1) @ embedding[COMPLEMENT].T
        torch.testing.assert_close(ours.logits(hidden), scores, rtol=0, atol=1e-4)


def test_heads(tmp_path):
    folder, ids = copy_of("caduceus_ph", tmp_path), ids_of(20)
    hidden = compute(network("caduceus_ph"), ids)
    other = torch.randn(16, 16)
    change_weights(folder, {"lm_head.weight": other})
    with pytest.raises(CheckpointError, match="differ"):
        build_caduceus(read_checkpoint(folder))
    change_config(folder, tie_word_embeddings=False)
    untied = build_caduceus(read_checkpoint(folder))
    torch.testing.assert_close(untied.logits(hidden).detach(), hidden @ other.T)
    # The bare class has no prefix and no head.
    change_config(folder, tie_word_embeddings=True)
    change_weights(folder, {"lm_head.weight": REMOVED})
    rename_weights(folder, lambda name: name.removeprefix("caduceus."))
    bare = build_caduceus(read_checkpoint(folder))
    assert bare.head is None
    torch.testing.assert_close(compute(bare, ids), hidden)


def test_head_of_an_equivariant_network_is_always_tied(tmp_path):
    folder = copy_of("caduceus_ps", tmp_path)
    change_config(folder, tie_word_embeddings=False)
    assert build_caduceus(read_checkpoint(folder)).head is not None
    change_weights(folder, {"lm_head.lm_head.weight": torch.randn(16, 16)})
    with pytest.raises(CheckpointError, match="differ"):
        build_caduceus(read_checkpoint(folder))


def test_repeated_projections(tmp_path):
    folder, ids = copy_of("caduceus_ph", tmp_path), ids_of(20)
    weights = read_checkpoint(folder).weights
    change_weights(
        folder, {f"{REVERSE}{name}_proj.weight": weights[f"{FORWARD}{name}_proj.weight"] for name in ("in", "out")}
    )
    repeated = build_caduceus(read_checkpoint(folder))
    torch.testing.assert_close(compute(repeated, ids), compute(network("caduceus_ph"), ids))
    change_weights(folder, {f"{REVERSE}out_proj.weight": weights[f"{FORWARD}out_proj.weight"] + 1e-3})
    with pytest.raises(CheckpointError, match=r"mamba_fwd.out_proj.weight and .*mamba_rev.out_proj.weight are one"):
        build_caduceus(read_checkpoint(folder))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bidirectional": False}, "bidirectional is False"),
        ({"bidirectional": REMOVED}, "'bidirectional' is None"),
        ({"bidirectional_strategy": "concat"}, "strategy 'concat'; wanted true and 'add'"),
        ({"bidirectional_weight_tie": "yes"}, "'bidirectional_weight_tie' is 'yes'"),
        ({"bidirectional_weight_tie": False}, "missing: .*mamba_rev.in_proj.weight"),
        ({"rms_norm": False}, "missing: caduceus.backbone.norm_f.bias"),
        ({"rms_norm": REMOVED}, "'rms_norm' is None"),
        ({"fused_add_norm": REMOVED}, "'fused_add_norm' is None"),
        ({"fused_add_norm": False}, "missing: .*norm.submodule.weight"),
        ({"rcps": REMOVED}, "'rcps' is None"),
        ({"rcps": False}, "missing: caduceus.backbone.embeddings.word_embeddings.weight"),
        ({"ssm_cfg": None}, "ssm_cfg is None"),
        ({"ssm_cfg": {}}, "'ssm_cfg.expand' is None"),
        ({"n_layer": 3}, "missing: caduceus.backbone.layers.2"),
        ({"n_layer": 1}, "unexpected: caduceus.backbone.layers.1"),
        ({"d_model": 17}, r"embedding.weight is \[16, 16\].*wanted \[16, 17\]"),
        ({"norm_epsilon": None}, "'norm_epsilon' is None"),
        ({"complement_map": None}, "complement_map is None"),
        ({"complement_map": {"7": 10}}, "each is the other's"),
        ({"complement_map": {"7": 17, "17": 7}}, "each is the other's"),
        ({"complement_map": {"7": "10", "10": "7"}}, "each is the other's"),
        ({"complement_map": {"7": 9, "9": 7}}, "complement_map is .* but config.json says"),
    ],
)
def test_other_configs_are_refused(tmp_path, fields, message):
    folder = copy_of("caduceus_ps", tmp_path)
    change_config(folder, **fields)
    with pytest.raises(CheckpointError, match=message):
        build_caduceus(read_checkpoint(folder))


def test_complements_by_number_not_by_order(tmp_path):
    # transformers writes the keys of a config in the order of their letters: 0, 1, 10, 11, ...
    folder, ids = copy_of("caduceus_ps", tmp_path), ids_of(20)
    official = read_checkpoint(folder).config["complement_map"]
    change_config(folder, complement_map=dict(sorted(official.items())), vocab_size=12)
    change_weights(folder, {"lm_head.complement_map": REMOVED})
    torch.testing.assert_close(
        compute(build_caduceus(read_checkpoint(folder)), ids), compute(network("caduceus_ps"), ids)
    )
    change_config(folder, complement_map={key: official[key] for key in ("7", "8", "9", "10")})
    torch.testing.assert_close(
        compute(build_caduceus(read_checkpoint(folder)), ids), compute(network("caduceus_ps"), ids)
    )


def test_other_keys_are_refused(tmp_path):
    folder = copy_of("caduceus_ph", tmp_path)
    change_weights(folder, {f"{FORWARD}D": REMOVED, "score.weight": torch.zeros(2, 16)})
    with pytest.raises(CheckpointError, match="2 problems") as caught:
        build_caduceus(read_checkpoint(folder))
    assert f"missing: {FORWARD}D [32]" in str(caught.value)
    assert "unexpected: score.weight" in str(caught.value)


@pytest.mark.parametrize("family", ["caduceus_ph", "caduceus_ps"])
def test_published_size(family):
    # The 131k model: 16 blocks of 256 channels; 512 inside, 16 numbers of state, rank 16.
    official = read_checkpoint(GOLDEN / family)
    shapes = {
        "A_log": (512, 16),
        "D": (512,),
        "conv1d.weight": (512, 1, 4),
        "conv1d.bias": (512,),
        "x_proj.weight": (48, 512),
        "dt_proj.weight": (512, 16),
        "dt_proj.bias": (512,),
        "in_proj.weight": (1024, 256),
        "out_proj.weight": (256, 512),
    }
    weights = {}
    for key, tensor in official.weights.items():
        shape = next((s for name, s in shapes.items() if key.endswith(name)), None)
        shape = shape or tuple(
            256 if size == 16 and (i or len(tensor.shape) == 1) else size for i, size in enumerate(tensor.shape)
        )
        if key.endswith("complement_map"):
            shape = (16,)
        for i in range(16) if ".layers.0." in key else [None]:
            name = key if i is None else key.replace(".0.", f".{i}.", 1)
            weights[name] = torch.empty(shape, device="meta")
            if name.endswith(("in_proj.weight", "out_proj.weight")):  # repeated, but on this device they have no values
                weights[name.replace("mamba_fwd", "mamba_rev")] = torch.empty(shape, device="meta")
    config = official.config | {"d_model": 256, "n_layer": 16}
    built = build_caduceus(Checkpoint(official.folder, config, {}, weights, {}))
    assert (built.width, built.layers) == (512 if family == "caduceus_ps" else 256, 16)
    direction = 512 * 16 + 512 + 512 * 5 + 48 * 512 + 512 * 17
    block = 256 * 1024 + 512 * 256 + 2 * direction + 256
    embedding = 16 * 256
    # The head is the embedding once more.
    assert sum(p.numel() for p in built.parameters()) == 2 * embedding + 16 * block + 256 == 7_729_408
