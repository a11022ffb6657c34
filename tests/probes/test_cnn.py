from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from embedstore.errors import InputError
from probes.cnn import CNN
from probes.spans import layout

GOLDEN = Path(__file__).parents[1] / "golden" / "probe"


@pytest.mark.parametrize("folder", sorted(path.name for path in GOLDEN.iterdir()))
def test_equals_bends_own_module(folder: str) -> None:
    config = json.loads((GOLDEN / folder / "config.json").read_text())
    window = config.get("output_downsample_window")
    network = CNN(
        config["input_size"], config["output_size"], config["hidden_size"], config.get("kernel_size", 3), window
    )
    network.load_state_dict(load_file(GOLDEN / folder / "model.safetensors"))
    # BEND always pads by 1, which shortens the output of wider kernels; ours keeps the length.
    for layer in (network.conv1[1], network.conv2[1]):
        layer.padding = (1,)
    arrays = np.load(GOLDEN / folder / "io.npz")
    x = torch.from_numpy(arrays["x"])
    if x.ndim == 2:
        x = torch.nn.functional.one_hot(x, config["input_size"]).float()
    if factor := config.get("upsample_factor"):
        x = torch.nn.functional.interpolate(x.mT, scale_factor=factor, mode="linear").mT
        x = x[:, : config["forward_arguments"]["length"]]
    with torch.inference_mode():
        y = network(x)
    if window or config["output_size"] == 1:
        y = y.flatten(1)
    activations = {
        "none": lambda v: v,
        "softmax": lambda v: v.softmax(-1),
        "softplus": torch.nn.functional.softplus,
        "sigmoid": torch.sigmoid,
    }
    for name, activation in activations.items():
        np.testing.assert_allclose(activation(y), arrays[f"y_{name}"], atol=config["tolerance_abs"], rtol=0)


def test_golden_weights_over_tokens() -> None:
    """The token-level forward gives BEND's numbers too; the golden input has one row per nucleotide."""
    # The others upsample linearly, or pad kernel 5 by 1: neither is a convolution of one length over tokens.
    for folder in sorted({path.name for path in GOLDEN.iterdir()} - {"upsample_6", "kernel_5_hidden_2_pooled"}):
        config = json.loads((GOLDEN / folder / "config.json").read_text())
        window = config.get("output_downsample_window")
        network = CNN(config["input_size"], config["output_size"], config["hidden_size"], window=window)
        network.load_state_dict(load_file(GOLDEN / folder / "model.safetensors"))
        arrays = np.load(GOLDEN / folder / "io.npz")
        n, length = arrays["x"].shape[:2]
        x = torch.from_numpy(arrays["x"])
        if x.ndim == 2:
            x = torch.nn.functional.one_hot(x, config["input_size"])
        plan = network.layout(np.ones(n * length), np.arange(n + 1) * length)
        with torch.inference_mode():
            y = network.forward_tokens(x.flatten(0, 1), plan)
        np.testing.assert_allclose(
            y.reshape(arrays["y_none"].shape), arrays["y_none"], atol=config["tolerance_abs"], rtol=0
        )


def nucleotide_level(network: CNN, vectors: list[torch.Tensor], spans: list[list[int]]) -> torch.Tensor:
    """Each sequence alone through the nucleotide-level module, the outputs one after another."""
    outputs = []
    for vector, span in zip(vectors, spans, strict=True):
        x = torch.repeat_interleave(vector, torch.tensor(span), dim=0)[None]
        if isinstance(network.window, int) and x.shape[1] < network.window:
            continue
        outputs.append(network(x)[0])
    return torch.cat(outputs) if outputs else torch.zeros(0, network.linear[0].out_features)


@pytest.mark.parametrize("window", [None, 1, 5, 16, "all"])
@settings(max_examples=20, deadline=None)
@given(
    spans=st.lists(st.lists(st.integers(1, 14), min_size=1, max_size=12), min_size=1, max_size=4),
    kernel=st.sampled_from([1, 3, 5, 7]),
    seed=st.integers(0, 2**32 - 1),
)
def test_token_level_equals_nucleotide_level(spans, kernel, window, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(len(span), 6, generator=generator) for span in spans]
    network = CNN(6, 3, hidden=5, kernel=kernel, window=window)
    first_row = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
    plan = layout(np.concatenate(spans), first_row, kernel, window)
    results = []
    for compute in (
        lambda: nucleotide_level(network, vectors, spans),
        lambda: network.forward_tokens(torch.cat(vectors), plan),
    ):
        network.zero_grad()
        output = compute()
        if len(output):
            (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), *(p.grad for p in network.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1])
    for nucleotides, tokens in zip(*results, strict=True):
        torch.testing.assert_close(tokens, nucleotides, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("window", [None, 4, "all"])
def test_gradients_are_those_of_finite_differences(window) -> None:
    network = CNN(3, 2, hidden=4, window=window).double()
    vector = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    plan = layout([1, 6, 2, 4, 3], [0, 3, 5], window=window)
    assert torch.autograd.gradcheck(lambda v: network.forward_tokens(v, plan), vector)


def test_a_sequence_does_not_depend_on_its_batch() -> None:
    network = CNN(8, 4)
    spans = [[6] * 20 + [1], [3], [6] * 50 + [1] * 5, [1, 1]]
    vectors = [torch.randn(len(span), 8) for span in spans]
    alone = [network.forward_tokens(v, layout(s, [0, len(s)])) for v, s in zip(vectors, spans, strict=True)]
    first_row = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
    together = network.forward_tokens(torch.cat(vectors), layout(np.concatenate(spans), first_row))
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_stored_half_precision_is_computed_in_single() -> None:
    network = CNN(8, 4)
    vector = torch.randn(5, 8).half()
    plan = layout([6] * 5, [0, 5])
    assert network.forward_tokens(vector, plan).dtype == torch.float32
    assert torch.equal(network.forward_tokens(vector, plan), network.forward_tokens(vector.float(), plan))


def test_rows_stay_few() -> None:
    """A token of 100 letters needs 3 rows after the first convolution and 5 after the second."""
    plan = layout([100] * 7, [0, 7])
    assert len(plan.conv1.forward.start) - 1 == 3 * 7
    assert len(plan.conv2.forward.start) - 1 == 5 * 7
    assert len(plan.output.forward.start) - 1 == 700


def test_bad_kernel_and_window() -> None:
    with pytest.raises(InputError, match="odd number of nucleotides; got 4"):
        layout([3], [0, 1], kernel=4)
    with pytest.raises(InputError, match="odd number of nucleotides; got 2"):
        CNN(3, 2, kernel=2)
    with pytest.raises(InputError, match="one nucleotide or more; got 0"):
        layout([3], [0, 1], window=0)


def test_layout_moves_to_a_device() -> None:
    plan = layout([6, 1], [0, 2], window=2).to("meta")
    assert {bags.row.device.type for gather in plan for bags in gather} == {"meta"}
    assert {bags.weight.device.type for bags in plan.output} == {"meta"}
