"""Training a probe and applying it: one loop for every task."""

from __future__ import annotations

import copy
import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from embedstore.errors import InputError, NonFiniteError
from embedstore.progress import progress_bar
from probes.metrics import Scores, check_metric, confusions, mean_defined, per_target
from probes.spans import layout
from probes.targets import loss_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from probes.cnn import CNN
    from probes.dataset import Part, ProbeData

logger = logging.getLogger(__name__)


class Settings(NamedTuple):
    """How a probe is trained.

    Attributes
    ----------
    hidden, kernel
        Shape of the network, see `probes.cnn.CNN`.
    learning_rate, weight_decay
        Of AdamW.
    batch_size
        Samples per step.
    epochs
        Times that all samples are used.
    patience
        Stop when the validation metric has not risen for this many epochs; None never stops early.
    positive_weight
        Factor for the loss of positive labels; None is 1.
    seed
        Decides the first weights and the order of the samples.
    device
        Where the network is.
    """

    hidden: int
    kernel: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    patience: int | None
    positive_weight: float | None
    seed: int
    device: str


def train(
    network: CNN,
    data: ProbeData,
    valid: ProbeData | None,
    settings: Settings,
    on_epoch: Callable[[list[dict[str, float]], int], None],
    *,
    progress: bool = True,
) -> None:
    """Train a network, keeping the weights of the epoch with the best validation metric.

    AdamW at a constant rate, the loss a mean over the labels of a batch, as in BEND. Without validation data the last
    weights are kept. Whatever ends training, an interrupt included, the network is left with the best weights so far.

    Parameters
    ----------
    network
        The network, changed in place.
    data
        To train on.
    valid
        To choose the epoch with.
    settings
        How to train.
    on_epoch
        Called after every epoch, while the network has that epoch's weights, with a record of every epoch so far
        (epoch, train_loss, [valid_loss, valid,] seconds) and the number of the best one.
    progress
        Show a progress bar over the epochs.

    Raises
    ------
    NonFiniteError
        The loss is not finite.
    InputError
        The metric does not fit the task or is not defined on `valid`, or there is no label to train on.
    """
    check_metric(data.record)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    history: list[dict[str, float]] = []
    best, best_value, best_epoch = copy.deepcopy(network.state_dict()), -math.inf, 0
    bar = progress_bar(range(1, settings.epochs + 1), f"training {data.record.name}", show=progress, unit="epoch")
    try:
        for epoch in bar:
            began = time.perf_counter()
            record = {"epoch": epoch, "train_loss": _epoch(network, optimizer, data, settings, epoch)}
            value = float(epoch)
            if valid is not None:
                record["valid_loss"], value = _validate(network, valid, settings)
                record["valid"] = value
            record["seconds"] = time.perf_counter() - began
            history.append(record)
            if value > best_value:
                best, best_value, best_epoch = copy.deepcopy(network.state_dict()), value, epoch
            bar.set_postfix({key: f"{number:.4g}" for key, number in record.items() if key != "epoch"})
            logger.info("%s: %s", data, record)
            on_epoch(history, best_epoch)
            if settings.patience is not None and epoch - best_epoch >= settings.patience:
                logger.info("%s: no better validation metric for %d epochs, stopping", data, settings.patience)
                break
    finally:
        bar.close()
        network.load_state_dict(best)


def _validate(network: CNN, valid: ProbeData, settings: Settings) -> tuple[float, float]:
    """Return loss and metric on validation samples."""
    scores = evaluate(network, valid, settings)
    value = mean_defined(per_target(valid.record.metric, scores))
    if math.isnan(value):
        raise InputError(
            f"{valid!r}: {valid.record.metric} is not defined on the validation samples: the labels of every target "
            "are all alike. Use other splits."
        )
    return scores.loss, value


def _epoch(network: CNN, optimizer: torch.optim.Optimizer, data: ProbeData, settings: Settings, epoch: int) -> float:
    """Use every sample once; return the mean loss per label."""
    network.train()
    total, labels = 0.0, 0
    for parts in data.batches(settings.batch_size, seed=(settings.seed, epoch)):
        count = sum(part.labels for part in parts)
        if count == 0:  # A step would only decay the weights.
            continue
        optimizer.zero_grad()
        batch = 0.0
        for part in parts:
            output, target = _forward(network, part, settings), part.target.to(settings.device)
            loss = loss_sum(output, target, data.record.type, settings.positive_weight) / count
            loss.backward()  # type: ignore[no-untyped-call]
            batch += float(loss.detach())
        if not math.isfinite(batch):
            raise NonFiniteError(
                f"{data!r}: the loss is {batch} in epoch {epoch}, on the batch of samples "
                f"{parts[0].samples[0]}, ... A lower learning rate than {settings.learning_rate} may help."
            )
        optimizer.step()
        total, labels = total + batch * count, labels + count
    if labels == 0:
        raise InputError(f"{data!r}: no sample has a label; there is nothing to train on")
    return total / labels


def _forward(network: CNN, part: Part, settings: Settings) -> torch.Tensor:
    """Return the outputs of a part of a batch."""
    plan = layout(part.span, part.first_row, settings.kernel, network.window)
    return network.forward_tokens(part.vector.to(settings.device), plan.to(settings.device))


def predict(network: CNN, data: ProbeData, settings: Settings) -> Iterator[tuple[Part, torch.Tensor]]:
    """Apply a network to all samples in the order of the task.

    Parameters
    ----------
    network
        A trained network.
    data
        The samples.
    settings
        Batch size, kernel and device.

    Yields
    ------
    Part, torch.Tensor
        Some samples and their outputs (position, output) before softmax or sigmoid.
    """
    network.eval()
    with torch.inference_mode():
        for parts in data.batches(settings.batch_size):
            for part in parts:
                yield part, _forward(network, part, settings)


def evaluate(network: CNN, data: ProbeData, settings: Settings) -> Scores:
    """Apply a network to all samples and compare with their labels.

    Memory is bounded by the confusion matrices of the samples (classes), or by the scores of all positions.

    Parameters
    ----------
    network
        A trained network.
    data
        The samples.
    settings
        Batch size, kernel, device and positive weight.

    Returns
    -------
    Scores
    """
    outputs = len(data.targets.names)
    classes = data.record.type == "class"
    loss, labels, sample = 0.0, 0, 0
    matrices, owners, truths, scored = [], [], [], []
    for part, output in predict(network, data, settings):
        loss += float(loss_sum(output, part.target.to(settings.device), data.record.type, settings.positive_weight))
        labels += part.labels
        many = len(part.samples)
        owner = np.repeat(np.arange(many), data.targets.counts[part.samples])
        truth = part.target.numpy()
        if classes:
            matrices.append(confusions(owner, truth, output.argmax(dim=1).cpu().numpy(), many, outputs))
        else:
            owners.append(owner + sample)
            truths.append(truth)
            scored.append(output.cpu().numpy())
        sample += many
    mean = loss / labels if labels else float("nan")
    if classes:
        return Scores(mean, np.concatenate(matrices))
    return Scores(mean, None, np.concatenate(owners), np.concatenate(truths), np.concatenate(scored))
