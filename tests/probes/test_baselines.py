"""The baselines against BEND's own numbers, and against sequences that are alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embedstore.errors import InputError
from embedstore.sequences import one_hot
from probes.baselines import Basset, ResNet, letter_ids

GOLDEN = Path(__file__).parents[1] / "golden" / "baselines"
BEND = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float32)
"""Our rows (A, C, G, T, zeros for N) of BEND's letters A, C, G, N, T."""


def golden(name: str) -> tuple[dict, dict[str, torch.Tensor], dict[str, np.ndarray]]:
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    stored = folder / "model.safetensors"
    arrays = np.load(folder / "weights.npz") if not stored.exists() else {}
    weights = load_file(stored) if stored.exists() else {key: torch.from_numpy(arrays[key]) for key in arrays}
    return config, weights, dict(np.load(folder / "io.npz"))


def rows(ids: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Vector, span and first_row of sequences of one length."""
    vector = BEND[torch.from_numpy(ids).flatten()]
    return vector, np.ones(len(vector), np.int64), np.arange(len(ids) + 1) * ids.shape[1]


def letters(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    """One-hot rows of random sequences with some N."""
    generator = torch.Generator().manual_seed(seed)
    return [BEND[torch.randint(0, 5, (length,), generator=generator)] for length in lengths]


def apply(network: torch.nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    """Outputs of sequences that are computed together."""
    first_row = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return network.forward_tokens(torch.cat(parts), network.layout(np.ones(first_row[-1], np.int64), first_row))


def test_letters_are_numbered_as_in_bend() -> None:
    codes = np.frombuffer(b"ACGNT", np.uint8)
    assert letter_ids(torch.from_numpy(one_hot(codes))).tolist() == [0, 1, 2, 3, 4]
    assert letter_ids(BEND.half()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["resnet_supervised_per_nucleotide", "resnet_supervised_pooled"])
def test_resnet_equals_bends(name) -> None:
    config, weights, arrays = golden(name)
    network = ResNet(
        config["output_size"],
        hidden=config["hidden_size_downstream"],
        encoder_hidden=config["hidden_size"],
        encoder_layers=config["n_layers"],
        encoder_kernel=config["kernel_size"],
        window=config.get("output_downsample_window"),
    ).eval()
    network.load_bend(weights)
    vector, span, first_row = rows(arrays["x"])
    with torch.inference_mode():
        encoded = network.encode(torch.from_numpy(arrays["x"])).numpy()
        output = network.forward_tokens(vector, network.layout(span, first_row)).reshape(config["output_shape"])
    np.testing.assert_allclose(encoded, arrays["encoder_out"], atol=config["tolerance_abs"], rtol=0)
    for key, activated in (("none", output), ("softmax", output.softmax(-1)), ("sigmoid", output.sigmoid())):
        np.testing.assert_allclose(activated, arrays[f"y_{key}"], atol=config["tolerance_abs"], rtol=0)


@pytest.mark.parametrize("name", ["basset_small", "basset_full"])
def test_basset_equals_bends(name) -> None:
    config, weights, arrays = golden(name)
    network = Basset(
        config["output_size"], config["input_len"], config["hidden"], config["channels"], config["kernel_sizes"]
    ).eval()
    network.load_state_dict(weights)
    vector, span, first_row = rows(arrays["x"])
    stacked = torch.nn.functional.one_hot(torch.from_numpy(arrays["x"]), 5).float().mT
    with torch.inference_mode():
        stack = network.conv_net(stacked).numpy()
        output = network.forward_tokens(vector, network.layout(span, first_row))
    np.testing.assert_allclose(stack, arrays["conv_net_out"], atol=config["tolerance_abs"], rtol=0)
    np.testing.assert_allclose(output, arrays["y_none"], atol=config["tolerance_abs"], rtol=0)
    np.testing.assert_allclose(output.sigmoid(), arrays["y_sigmoid"], atol=config["tolerance_abs"], rtol=0)


def test_defaults_are_bends() -> None:
    config, weights, _ = golden("basset_full")
    shapes = {key: tensor.shape for key, tensor in Basset(config["output_size"], 512).state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in weights.items()}
    assert sum(p.numel() for p in Basset(125, 512).parameters()) == pytest.approx(4.1e6, rel=0.02)
    network = ResNet(9)
    assert [block.convolution.dilation[0] for block in network.encoder.blocks] == [1, 2, 4, 8, 16, 32] * 5
    assert {block.convolution.weight.shape for block in network.encoder.blocks} == {torch.Size([256, 256, 3])}
    assert network.receptive_field == 631 + 4
    assert ResNet(9, encoder_kernel=9).receptive_field == 2521 + 4


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("window", [None, 16, "all"])
def test_a_sequence_does_not_depend_on_its_batch(window, training) -> None:
    """Padding is zeros in every layer, not the letter A, in outputs and in gradients."""
    torch.manual_seed(0)
    network = ResNet(3, 4, encoder_hidden=8, encoder_layers=7, encoder_kernel=5, window=window).train(training)
    parts = letters([50, 130, 7, 130, 1])
    wanted = torch.cat([apply(network, [part]) for part in parts])
    together = apply(network, parts)
    torch.testing.assert_close(together, wanted, rtol=0, atol=1e-5)
    grads = []
    for output in (wanted, together):
        network.zero_grad()
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    for alone, both in zip(*grads, strict=True):
        # Norms amplify rounding; padding that is not zero changes gradients by a tenth and more.
        torch.testing.assert_close(both, alone, rtol=0, atol=1e-3 * float(alone.abs().max()))


def test_basset_in_evaluation_does_not_depend_on_the_batch() -> None:
    network = Basset(3, 60, hidden=6, channels=(5, 4, 3)).eval()
    parts = letters([60, 60, 60])
    wanted = torch.cat([apply(network, [part]) for part in parts])
    torch.testing.assert_close(apply(network, parts), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("layers", "encoder_kernel", "kernel"), [(3, 3, 3), (4, 5, 3), (7, 3, 5)])
def test_receptive_field_is_what_an_output_sees(layers, encoder_kernel, kernel) -> None:
    torch.manual_seed(0)
    network = ResNet(2, 4, kernel, encoder_hidden=8, encoder_layers=layers, encoder_kernel=encoder_kernel).eval()
    reach = network.receptive_field // 2
    (part,) = letters([2 * reach + 21])
    middle = reach + 10
    changed = part.clone()
    changed[middle] = part[middle].roll(1) if part[middle].any() else torch.eye(4)[0]
    difference = (apply(network, [changed]) - apply(network, [part])).abs().sum(dim=1)
    seen = np.flatnonzero(difference.detach().numpy())
    assert seen.tolist() == list(range(middle - reach, middle + reach + 1))


def test_rows_that_are_no_letters_are_refused() -> None:
    with pytest.raises(InputError, match="a row for each nucleotide, not one for 6 of them"):
        ResNet(2, 4, encoder_hidden=8, encoder_layers=1).layout([1, 6], [0, 2])
    with pytest.raises(InputError, match="a row for each nucleotide, not one for 60 of them"):
        Basset(2, 60, 4, (3, 3, 3)).layout([60], [0, 1])


def test_basset_refuses_other_lengths() -> None:
    with pytest.raises(InputError, match="made for sequences of 60 nucleotides; here is one of 59"):
        Basset(2, 60, 4, (3, 3, 3)).layout(np.ones(119), [0, 60, 119])


@pytest.mark.parametrize(("hidden", "kernel"), [(4, 3), (8, 4)])
def test_resnet_of_impossible_size(hidden, kernel) -> None:
    seen = f"encoder_hidden is {hidden} and encoder_kernel {kernel}"
    with pytest.raises(InputError, match=seen):
        ResNet(2, encoder_hidden=hidden, encoder_kernel=kernel)
