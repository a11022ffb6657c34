from __future__ import annotations

import numpy as np
import pytest
import torch

from embedstore.errors import InputError
from embedstore.tasks import Labels, TaskRecord
from probes.targets import Targets, labelled, loss_sum


def record(level: str, kind: str, **options) -> TaskRecord:
    metric = {"class": "mcc", "multilabel": "auroc", "value": "r2"}[kind]
    names = options.pop("names", {"class": ("a", "b", "c"), "multilabel": ("x", "y"), "value": ()}[kind])
    return TaskRecord(name="toy", level=level, type=kind, names=names, metric=metric, **options)


def test_labels_of_samples_by_level() -> None:
    lengths = np.array([3, 2, 4])
    flat = Labels(np.array([0, 1, 2, 0, -100, 2, 2, 1, 0], np.int16), ("nucleotide",))
    targets = Targets(record("nucleotide", "class"), flat, lengths)
    assert targets.window is None
    assert targets.counts.tolist() == [3, 2, 4]
    assert targets.of(np.array([2, 0])).tolist() == [2, 2, 1, 0, 0, 1, 2]
    assert targets.of(np.array([1])).dtype == torch.int64

    multi = Labels(np.array([[0, 1], [1, 1], [1, 0]], np.uint8), ("sample", "target"))
    targets = Targets(record("sequence", "multilabel"), multi, lengths)
    assert targets.window == "all"
    assert targets.of(np.array([2, 1])).tolist() == [[1, 0], [1, 1]]

    values = Labels(np.array([0.5, np.nan, 2.0], np.float32), ("sample",))
    targets = Targets(record("sequence", "value"), values, lengths)
    assert targets.names == ("0",)
    assert targets.of(np.array([2])).tolist() == [[2.0]]

    bins = Labels(np.array([[1, 0], [0, 0], [1, 1]], np.uint8), ("sample", "bin"))
    targets = Targets(record("bin", "multilabel", names=("x",), bin_size=4), bins, np.array([8, 9, 11]))
    assert targets.window == 4
    assert targets.of(np.array([0, 2])).tolist() == [[1], [0], [1], [1]]


def test_bins_of_samples_of_several_lengths_are_padded_with_nan() -> None:
    bins = np.array([[[1, 0], [0, 1]], [[1, 1], [np.nan, np.nan]]], np.float32)
    targets = Targets(
        record("bin", "multilabel", bin_size=5), Labels(bins, ("sample", "bin", "target")), np.array([10, 7])
    )
    assert targets.counts.tolist() == [2, 1]
    assert targets.of(np.array([0, 1])).tolist() == [[1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("level", "kind", "values", "dims", "message"),
    [
        ("nucleotide", "class", np.zeros(8, int), ("nucleotide",), "have 8 entries and the samples 9 nucleotides"),
        ("sequence", "class", np.zeros(2, int), ("sample",), "have 2 entries and the samples 3 rows"),
        ("sequence", "class", np.zeros((3, 2), int), ("sample", "target"), r"need \('sample',\)"),
        ("nucleotide", "class", np.full(9, 3), ("nucleotide",), "9 labels are not classes 0 to 2.*first is 3"),
        ("nucleotide", "class", np.full(9, -1), ("nucleotide",), "not classes 0 to 2, or -100"),
        ("sequence", "multilabel", np.full((3, 2), 2), ("sample", "target"), "6 labels are not 0 or 1"),
        ("sequence", "value", np.full(3, np.inf), ("sample",), "3 labels are not finite numbers"),
        ("bin", "class", np.zeros((3, 2), int), ("sample", "bin"), "sample 1 has 2 nucleotides, which are 1 complete"),
        ("bin", "class", np.zeros((3, 1), int), ("sample", "bin"), "sample 2 has 4 nucleotides, which are 2 complete"),
    ],
)
def test_labels_that_do_not_fit(level, kind, values, dims, message) -> None:
    lengths = np.array([4, 2, 4]) if level == "bin" else np.array([3, 2, 4])
    if level == "bin" and values.shape[1] == 1:
        lengths = np.array([2, 2, 4])
    about = record(level, kind, bin_size=2 if level == "bin" else 1)
    with pytest.raises(InputError, match=message):
        Targets(about, Labels(values, dims), lengths)


@pytest.mark.parametrize("kind", ["class", "multilabel", "value"])
def test_padding_contributes_nothing_to_loss_or_gradient(kind: str) -> None:
    """BEND's mask for BCE is a bitwise complement and lets padding through; a value of -100 there gives loss 100 x."""
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(30, 3, generator=generator, requires_grad=True)
    target = torch.randint(0, 2, (30,) if kind == "class" else (30, 3), generator=generator)
    target = target if kind == "class" else target.float()
    padded = target.clone()
    padded[20:] = -100 if kind == "class" else torch.nan
    assert labelled(padded).sum() == labelled(target[:20]).sum()
    loss = loss_sum(output, padded, kind, 3.0)
    loss.backward()
    gradient = output.grad.clone()
    output.grad = None
    expected = loss_sum(output[:20], target[:20], kind, 3.0)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, output.grad)
    assert (gradient[20:] == 0).all()


def test_losses_are_those_of_the_definition() -> None:
    output, target = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]])
    p = torch.sigmoid(output)
    expected = -(7 * torch.log(p[0, 0]) + torch.log(1 - p[0, 1]))
    torch.testing.assert_close(loss_sum(output, target, "multilabel", 7.0), expected)
    torch.testing.assert_close(loss_sum(output, target, "value"), torch.tensor(0.25 + 1.0))
    torch.testing.assert_close(loss_sum(output, torch.tensor([1]), "class"), -output.log_softmax(1)[0, 1])
