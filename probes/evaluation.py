"""Comparing what a probe says with what is true, in one pass whose memory is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from probes.calibration import calibration_counts
from probes.exons import exon_counts, has_exons
from probes.metrics import confusions
from probes.scores import Scores
from probes.targets import labelled, loss_sum

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from embedstore.tasks import TaskRecord
    from probes.dataset import Part, ProbeData


def evaluate(
    outputs: Iterable[tuple[Part, torch.Tensor]],
    data: ProbeData,
    *,
    positive_weight: float | None = None,
    probabilities: bool = True,
    detail: bool = True,
) -> Scores:
    """Compare the outputs of a probe with the labels.

    Memory is bounded by the confusion matrices of the samples (classes), or by the scores of all positions.

    Parameters
    ----------
    outputs
        Parts of the data and the outputs for their positions, shape (position, output), before softmax or sigmoid.
    data
        Where the parts come from.
    positive_weight
        Factor of the loss of positive labels of a multilabel task; None is 1.
    probabilities
        Whether softmax or sigmoid makes probabilities of the outputs (default). Else the outputs are estimates of the
        labels themselves, as those of a ridge regression: the loss is their squared error, and there is no calibration.
    detail
        Also count exons and calibration (default); the loss and the metric need neither.

    Returns
    -------
    Scores
    """
    names, record = data.targets.names, data.record
    loss, labels, sample = 0.0, 0, 0
    matrices, owners, truths, scored, exons, calibration = [], [], [], [], [], []
    for part, output in outputs:
        part_loss = _loss(output, part.target.to(output.device), record, positive_weight, probabilities)
        loss, labels = loss + part_loss, labels + part.labels
        many, counts, truth = len(part.samples), data.targets.counts[part.samples], part.target.numpy()
        owner = np.repeat(np.arange(many), counts)
        output = output.float().cpu()  # noqa: PLW2901 - the same thing elsewhere
        if detail and probabilities and record.type != "value":
            calibration.append(_calibration(output, part.target))
        if record.type == "class":
            predicted = output.argmax(dim=1).numpy()
            matrices.append(confusions(owner, truth, predicted, many, len(names)))
            if detail and record.level == "nucleotide" and has_exons(names):
                cuts = np.cumsum(counts)[:-1]
                pairs = zip(np.split(truth, cuts), np.split(predicted, cuts), strict=True)
                exons += [exon_counts(true, said, names) for true, said in pairs]
        else:
            owners.append(owner + sample)
            truths.append(truth)
            scored.append(output.numpy())
        sample += many
    counted = np.sum(calibration, axis=0) if calibration else None
    mean = loss / labels if labels else float("nan")
    if record.type == "class":
        return Scores(mean, np.concatenate(matrices), exons=np.stack(exons) if exons else None, calibration=counted)
    owner, truth, score = (np.concatenate(part) for part in (owners, truths, scored))
    return Scores(mean, None, owner, truth, score, calibration=counted)


def _loss(
    output: torch.Tensor, target: torch.Tensor, record: TaskRecord, positive_weight: float | None, probabilities: bool
) -> float:
    """Return the sum of the loss over labels."""
    if probabilities or record.type == "value":
        return float(loss_sum(output, target, record.type, positive_weight))
    if record.type == "class":
        known = labelled(target)
        wanted = torch.nn.functional.one_hot(target[known], output.shape[1])
        return float(((output[known] - wanted) ** 2).sum())
    return float(loss_sum(output, target, "value"))


def _calibration(output: torch.Tensor, target: torch.Tensor) -> NDArray[np.float64]:
    """Count how probable the probe's statements were and how often they were right."""
    known = labelled(target)
    if target.is_floating_point():
        return calibration_counts(output.sigmoid()[known].numpy(), target[known].numpy())
    probability, predicted = output[known].softmax(dim=1).max(dim=1)
    return calibration_counts(probability.numpy(), (predicted == target[known]).numpy())
