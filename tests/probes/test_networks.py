from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore import tasks
from embedstore.errors import InputError
from probes.networks import MLP, NETWORKS, Attention, Linear, build_network

LEVELS = {"gene_finding": "nucleotide", "enhancer_annotation": "bin", "cpg_methylation": "sequence"}
SMALL = {
    "cnn": {"hidden": 5},
    "linear": {},
    "mlp": {"hidden": 5, "layers": 2},
    "attention": {"hidden": 5},
    "resnet": {"hidden": 4, "encoder_hidden": 6, "encoder_layers": 2},
    "basset": {"hidden": 6},
}
"""Settings that are quick to compute."""


class Batch(NamedTuple):
    """Rows of some sequences, and the same at nucleotide resolution."""

    vector: torch.Tensor
    span: np.ndarray
    first_row: np.ndarray
    nucleotides: list[torch.Tensor]


def batch(spans: list[list[int]], channels: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(len(span), channels, generator=generator, dtype=torch.float64) for span in spans]
    upsampled = [v.repeat_interleave(torch.tensor(s), dim=0) for v, s in zip(vectors, spans, strict=True)]
    first_row = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
    return Batch(torch.cat(vectors), np.concatenate(spans), first_row, upsampled)


def windows(nucleotides: list[torch.Tensor], window) -> list[torch.Tensor]:
    """What each output stands for, (nucleotide, channel) each."""
    if window == "all":
        return nucleotides
    size = 1 if window is None else window
    return [x[i : i + size] for x in nucleotides for i in range(0, len(x) - size + 1, size)]


def plain(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One output from its nucleotides, written as in the papers."""
    if isinstance(network, Linear):
        return x.mean(dim=0) @ network.linear.weight.T + network.linear.bias
    if isinstance(network, MLP):
        result = x.mean(dim=0)
        layers = [part for part in network.layers if isinstance(part, torch.nn.Linear)]
        for layer in layers[:-1]:
            result = torch.nn.functional.gelu(result @ layer.weight.T + layer.bias)
        return result @ layers[-1].weight.T + layers[-1].bias
    assert isinstance(network, Attention)
    score = torch.tanh(network.project(x)) @ network.score.weight[0]
    pooled = (score.softmax(dim=0)[:, None] * x).sum(dim=0)
    return pooled @ network.linear.weight.T + network.linear.bias


def make(kind: str, window) -> torch.nn.Module:
    made = {
        "linear": lambda: Linear(6, 3, window),
        "mlp": lambda: MLP(6, 3, hidden=5, layers=2, window=window),
        "attention": lambda: Attention(6, 3, hidden=5, window=window),
    }[kind]()
    return made.double()


CASES = [
    (kind, window)
    for kind in ("linear", "mlp", "attention")
    for window in (None, 1, 5, 16, "all")
    if not (kind == "attention" and window is None)
]


@pytest.mark.parametrize(("kind", "window"), CASES)
@settings(max_examples=20, deadline=None)
@given(
    spans=st.lists(st.lists(st.integers(1, 14), min_size=1, max_size=10), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_over_rows_equals_over_nucleotides(kind, window, spans, seed) -> None:
    """Outputs and the gradients of all weights, for rows that straddle windows and incomplete last windows too."""
    torch.manual_seed(seed)
    network, data = make(kind, window), batch(spans, seed=seed)
    wanted = windows(data.nucleotides, window)

    def over_rows() -> torch.Tensor:
        return network.forward_tokens(data.vector, network.layout(data.span, data.first_row))

    def over_nucleotides() -> torch.Tensor:
        outputs = [plain(network, x) for x in wanted]
        return torch.stack(outputs) if outputs else torch.zeros(0, 3, dtype=torch.float64)

    results = []
    for compute in (over_rows, over_nucleotides):
        network.zero_grad()
        output = compute()
        if len(wanted):
            (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
        results.append([output.detach(), *grads])
    assert results[0][0].shape == (len(wanted), 3)
    for rows, nucleotides in zip(*results, strict=True):
        torch.testing.assert_close(rows, nucleotides, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "window"), CASES)
def test_gradients_are_those_of_finite_differences(kind, window) -> None:
    torch.manual_seed(0)
    network, data = make(kind, window), batch([[1, 6, 20, 4], [3, 5, 17]])
    plan = network.layout(data.span, data.first_row)
    inputs = (data.vector.requires_grad_(), *network.parameters())
    assert torch.autograd.gradcheck(lambda vector, *_: network.forward_tokens(vector, plan), inputs)


@pytest.mark.parametrize("window", [1, 8, "all"])
def test_attention_of_huge_scores_is_finite_and_takes_the_highest(window) -> None:
    network, data = Attention(6, 3, hidden=5, window=window), batch([[3] * 8])
    with torch.no_grad():
        network.score.weight.fill_(1e4)
        network.project.weight.fill_(1.0)
    vector = data.vector.float()
    output = network.forward_tokens(vector, network.layout(data.span, data.first_row))
    rows = torch.arange(8).repeat_interleave(3).split(24 if window == "all" else window)
    highest = [x[torch.tanh(network.project(vector[x])).sum(dim=1).argmax()] for x in rows]
    torch.testing.assert_close(output, network.linear(vector[torch.stack(highest)]))


def test_attention_over_equal_rows_gives_their_vector() -> None:
    network = Attention(6, 3, hidden=5, window="all")
    vector = torch.randn(1, 6).repeat(4, 1)
    output = network.forward_tokens(vector, network.layout([1, 7, 2, 30], [0, 4]))
    torch.testing.assert_close(output, network.linear(vector[:1]))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_mean_of_a_sample_is_all_that_it_takes(kind) -> None:
    """Pooled rows, one per sample, give what all rows give."""
    network, data = make(kind, "all"), batch([[6, 6, 1], [4, 3], [9]])
    means = torch.stack([x.mean(dim=0) for x in data.nucleotides])
    pooled = network.forward_tokens(means, network.layout([13, 7, 9], [0, 1, 2, 3]))
    torch.testing.assert_close(pooled, network.forward_tokens(data.vector, network.layout(data.span, data.first_row)))


def test_dropout_is_there_in_training_only() -> None:
    network = MLP(6, 3, hidden=64, dropout=0.5, window="all")
    vector = torch.randn(4, 6)
    plan = network.layout([6] * 4, [0, 4])
    outputs = [network.forward_tokens(vector, plan) for _ in range(2)]
    assert not torch.equal(*outputs)
    network.eval()
    outputs = [network.forward_tokens(vector, plan) for _ in range(2)]
    assert torch.equal(*outputs)


def test_layers_and_dropout_out_of_range() -> None:
    with pytest.raises(InputError, match="layers is 0"):
        MLP(6, 3, layers=0)
    with pytest.raises(InputError, match="dropout 1.0"):
        MLP(6, 3, dropout=1.0)


def test_attention_needs_something_to_pool() -> None:
    with pytest.raises(InputError, match="pools over the nucleotides of an output"):
        Attention(6, 3, window=None)


def built(name: str, task: str, **changes) -> torch.nn.Module:
    width = 4 if NETWORKS[name].needs == "onehot" else 6
    return build_network(name, width, 3, tasks.record(task), {**SMALL[name], **changes}, np.array([256]))


ALLOWED = [(name, task) for name in NETWORKS for task, level in LEVELS.items() if level in NETWORKS[name].levels]


@pytest.mark.parametrize(("name", "task"), ALLOWED)
def test_every_network_does_its_levels(name, task) -> None:
    """One output per position of two sequences, of half precision as it is stored, differentiable in every weight."""
    network = built(name, task)
    if NETWORKS[name].needs == "onehot":
        span, vector = np.ones(512, np.int64), torch.eye(4)[torch.randint(0, 4, (512,))]
    else:
        span, vector = np.full(64, 8), torch.randn(64, 6)
    plan = network.layout(span, np.array([0, len(span) // 2, len(span)])).to("cpu")
    output = network.forward_tokens(vector.half(), plan)
    level = LEVELS[task]
    positions = {"nucleotide": 512, "bin": 512 // tasks.record("enhancer_annotation").bin_size, "sequence": 2}[level]
    assert output.shape == (positions, 3)
    assert output.dtype == torch.float32
    (output * torch.randn_like(output)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.receptive_field is None or network.receptive_field % 2 == 1


@pytest.mark.parametrize(("name", "task"), ALLOWED)
def test_layouts_move_to_a_device(name, task) -> None:
    network = built(name, task)
    span = np.ones(512, np.int64)
    plan = network.layout(span, [0, 256, 512]).to("meta")

    def devices(part) -> set[str]:
        if isinstance(part, torch.Tensor):
            return {part.device.type}
        return set().union(*map(devices, part)) if isinstance(part, tuple) else set()

    assert devices(plan) <= {"meta"}
    assert devices(plan) or name == "basset"


@pytest.mark.parametrize(("name", "changes"), [("cnn", {}), ("cnn", {"kernel": 5}), ("linear", {}), ("mlp", {})])
def test_receptive_field_is_what_an_output_sees(name, changes) -> None:
    network = built(name, "gene_finding", **changes).double()
    vector = torch.randn(41, 6, dtype=torch.float64)
    plan = network.layout(np.ones(41, np.int64), [0, 41])
    changed = vector.clone()
    changed[20] += 1
    difference = network.forward_tokens(changed, plan) - network.forward_tokens(vector, plan)
    seen = np.flatnonzero(difference.abs().sum(dim=1).detach().numpy())
    reach = network.receptive_field // 2
    assert seen.tolist() == list(range(20 - reach, 20 + reach + 1))


@pytest.mark.parametrize("name", ["linear", "mlp", "attention"])
def test_a_bin_sees_its_own_nucleotides_only(name) -> None:
    network = built(name, "enhancer_annotation").double()
    data = batch([[100] * 5])
    plan = network.layout(data.span, data.first_row)
    for row, bins in enumerate([[0], [0, 1], [1, 2], [2], []]):  # three bins of 128, and 116 nucleotides that are none
        changed = data.vector.clone()
        changed[row] += 1
        difference = network.forward_tokens(changed, plan) - network.forward_tokens(data.vector, plan)
        assert np.flatnonzero(difference.abs().sum(dim=1).detach().numpy()).tolist() == bins


def test_first_weights_follow_torchs_seed() -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(built("attention", "cpg_methylation").parameters())

    assert all(map(torch.equal, weights(1), weights(1)))
    assert not all(map(torch.equal, weights(1), weights(2)))


@pytest.mark.parametrize(
    ("name", "width", "task", "changes", "lengths", "parts"),
    [
        ("cnm", 6, "gene_finding", {}, [9], ["no network 'cnm'", "Did you mean 'cnn'?"]),
        ("cnn", 6, "gene_finding", {"hiden": 3}, [9], ["'cnn' has no setting 'hiden'", "Did you mean 'hidden'?"]),
        ("linear", 6, "gene_finding", {"hidden": 3}, [9], ["'linear' has no setting 'hidden'", "It has none"]),
        (
            "attention",
            6,
            "gene_finding",
            {},
            [9],
            ["'attention'", "a bin or a sequence", "'gene_finding'", "nucleotide"],
        ),
        ("basset", 4, "enhancer_annotation", {}, [512], ["'basset'", "a sequence", "'enhancer_annotation'", "a bin"]),
        ("resnet", 6, "gene_finding", {}, [9], ["'resnet' reads letters", "model 'onehot'", "6 channels"]),
        ("basset", 4, "cpg_methylation", {}, [512, 600], ["Basset needs samples of one length"]),
        ("basset", 4, "cpg_methylation", {}, [47, 47], ["sequences of 47 nucleotides", "3, 4, 4", "needs 48 or more"]),
        ("cnn", 6, "gene_finding", {"kernel": 4}, [9], ["kernel is 4; an odd number, 1 or more is wanted"]),
    ],
)
def test_what_does_not_fit_is_refused(name, width, task, changes, lengths, parts) -> None:
    with pytest.raises(InputError) as error:
        build_network(name, width, 3, tasks.record(task), changes, np.array(lengths))
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_the_registry_says_what_it_builds() -> None:
    for name, kind in NETWORKS.items():
        assert kind.name == name
        assert kind.title
        assert kind.needs in ("rows", "pooled or rows", "onehot")
        assert set(SMALL[name]) <= set(kind.defaults)
