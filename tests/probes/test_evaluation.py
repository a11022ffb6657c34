"""Scores of outputs against scikit-learn and torch, however they come in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, matthews_corrcoef, mean_squared_error, roc_auc_score
from torch.nn import functional

from embedstore.rows import Rows
from embedstore.tasks import Labels, TaskRecord
from probes import dataset
from probes.dataset import ProbeData
from probes.evaluation import evaluate
from probes.metrics import per_target

LENGTHS = np.array([5, 1, 9, 4, 7])
EXONS = (
    *("exon_forward", "donor_forward", "intron_forward", "acceptor_forward"),
    *("exon_reverse", "donor_reverse", "intron_reverse", "acceptor_reverse", "non_coding"),
)


def data_of(values, level, kind, names, metric) -> ProbeData:
    first = np.concatenate([[0], np.cumsum(LENGTHS)])
    n = first[-1] if level == "nucleotide" else len(LENGTHS)
    rows = Rows(np.arange(len(LENGTHS)), np.ones((first[-1], 2), np.float32), np.ones(first[-1], np.int64), first)
    dims = ("nucleotide",) if level == "nucleotide" else ("sample", "target")[: np.ndim(values)]
    assert len(values) == n
    record = TaskRecord(name="t", level=level, type=kind, names=names, metric=metric)
    return ProbeData.from_rows(rows, Labels(np.asarray(values), dims), record)


def outputs_of(data, output, size):
    """The outputs, cut as a probe gives them."""
    first = np.concatenate([[0], np.cumsum(data.targets.counts)])
    for parts in data.batches(size):
        for part in parts:
            yield part, torch.cat([output[first[sample] : first[sample + 1]] for sample in part.samples.tolist()])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_classes(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=LENGTHS.sum())
    truth[rng.random(len(truth)) < 0.2] = -100
    truth[:3] = 0, 1, 2
    data = data_of(truth, "nucleotide", "class", ("a", "b", "c"), "mcc")
    output = torch.from_numpy(rng.normal(size=(len(truth), 3)).astype(np.float32) * 3)
    scores = evaluate(outputs_of(data, output, size), data)
    known, said = truth >= 0, output.argmax(dim=1).numpy()
    chance = output.double().softmax(dim=1).numpy()
    np.testing.assert_allclose(scores.loss, log_loss(truth[known], chance[known], labels=[0, 1, 2]), rtol=1e-5)
    assert scores.confusion.shape == (5, 3, 3)
    first = np.concatenate([[0], np.cumsum(LENGTHS)])
    for sample, counts in enumerate(scores.confusion):
        here = slice(first[sample], first[sample + 1])
        kept = known[here]
        wanted = (
            np.zeros((3, 3))
            if not kept.any()
            else confusion_matrix(truth[here][kept], said[here][kept], labels=range(3))
        )
        np.testing.assert_array_equal(counts, wanted)
    np.testing.assert_allclose(per_target("mcc", scores)[0], matthews_corrcoef(truth[known], said[known]), atol=1e-12)
    assert scores.calibration[:, 0].sum() == known.sum()
    np.testing.assert_allclose(scores.calibration[:, 2].sum(), (said == truth)[known].sum())
    np.testing.assert_allclose(scores.calibration[:, 1].sum(), chance.max(axis=1)[known].sum(), rtol=1e-5)
    assert scores.exons is None
    plain = evaluate(outputs_of(data, output, size), data, detail=False)
    assert (plain.calibration, plain.loss) == (None, scores.loss)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([None, 1.0, 82.86]))
def test_targets(seed: int, size: int, weight: float | None) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(2, size=(5, 2)).astype(float)
    truth[:2] = [[0, 1], [1, 0]]
    truth[4, 1] = np.nan
    data = data_of(truth, "sequence", "multilabel", ("x", "y"), "auroc")
    output = torch.from_numpy(rng.normal(size=(5, 2)).astype(np.float32))
    scores = evaluate(outputs_of(data, output, size), data, positive_weight=weight)
    known = ~np.isnan(truth)
    chance = torch.from_numpy(truth[known]).float()
    wanted = functional.binary_cross_entropy_with_logits(
        output[torch.from_numpy(known)], chance, pos_weight=None if weight is None else torch.tensor(weight)
    )
    np.testing.assert_allclose(scores.loss, float(wanted), rtol=1e-5)
    np.testing.assert_array_equal(scores.sample, np.arange(5))
    np.testing.assert_array_equal(scores.target, truth.astype(np.float32))
    np.testing.assert_array_equal(scores.score, output.numpy())
    found = per_target("auroc", scores)
    np.testing.assert_allclose(found[0], roc_auc_score(truth[:, 0], output[:, 0]))
    assert scores.calibration[:, 0].sum() == known.sum()
    np.testing.assert_allclose(scores.calibration[:, 2].sum(), np.nansum(truth))


def test_owners_of_positions_go_on_from_part_to_part(monkeypatch) -> None:
    values = np.arange(LENGTHS.sum(), dtype=float)
    data = data_of(values, "nucleotide", "value", (), "r2")
    monkeypatch.setattr(dataset, "PART_NUCLEOTIDES", 6)
    output = torch.from_numpy(values[:, None].astype(np.float32)) + 0.5
    pairs = list(outputs_of(data, output, 3))
    assert len(pairs) > 2
    scores = evaluate(pairs, data)
    np.testing.assert_array_equal(scores.sample, np.repeat(np.arange(5), LENGTHS))
    np.testing.assert_allclose(scores.loss, mean_squared_error(values, values + 0.5))
    assert scores.calibration is None


@pytest.mark.parametrize("kind", ["class", "multilabel"])
def test_estimates_of_labels_have_squared_errors_and_no_calibration(kind: str) -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0, 1, 2, -100, 1]) if kind == "class" else rng.integers(2, size=(5, 3)).astype(np.uint8)
    metric = "mcc" if kind == "class" else "auroc"
    data = data_of(truth, "sequence", kind, ("a", "b", "c"), metric)
    output = torch.from_numpy(rng.normal(size=(5, 3)).astype(np.float32))
    scores = evaluate(outputs_of(data, output, 2), data, probabilities=False, positive_weight=50.0)
    kept = truth >= 0 if kind == "class" else np.ones(5, bool)
    wanted = np.eye(3)[truth[kept]] if kind == "class" else truth
    error = (output.numpy()[kept] - wanted) ** 2
    np.testing.assert_allclose(scores.loss, error.sum() / 4 if kind == "class" else error.mean(), rtol=1e-5)
    assert scores.calibration is None


def test_exons_are_counted_where_a_task_has_them() -> None:
    truth = np.full(LENGTHS.sum(), 8)
    truth[[1, 2]] = 0  # one exon in the first sample
    data = data_of(truth, "nucleotide", "class", EXONS, "mcc")
    output = functional.one_hot(torch.from_numpy(truth), 9).float() * 5
    scores = evaluate(outputs_of(data, output, 2), data)
    assert scores.exons.shape[0] == 5
    assert per_target("exon_f1", scores)[0] == 1
    output[2] = output[0]  # its second half is missed
    assert per_target("exon_f1", evaluate(outputs_of(data, output, 2), data))[0] == 0
    assert evaluate(outputs_of(data, output, 2), data, detail=False).exons is None


def test_nothing_labelled_has_no_loss() -> None:
    data = data_of(np.full(5, -100), "sequence", "class", ("a", "b"), "mcc")
    scores = evaluate(outputs_of(data, torch.zeros(5, 2), 2), data)
    assert np.isnan(scores.loss)
    assert scores.confusion.sum() == 0
