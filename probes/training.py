"""Training a network and applying it: one loop for every task and every network."""

from __future__ import annotations

import copy
import logging
import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from embedstore.errors import CheckpointError, InputError, NonFiniteError
from embedstore.models.training_state import load_state, save_state
from embedstore.progress import progress_bar
from embedstore.threads import Ahead
from probes.evaluation import evaluate
from probes.metrics import check_metric, mean_defined, per_target, why_undefined
from probes.targets import loss_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import nn

    from probes.dataset import Part, ProbeData

logger = logging.getLogger(__name__)

WARM_UP = 0.05
"""Share of the steps in which the rate of schedule ``"cosine"`` rises."""

STATE_SECONDS = 10.0
"""How often the state of a run is written: what a run that is killed loses at most, beside the epoch it is in."""

_AHEAD = 2  # batches made ready while one is computed


class Settings(NamedTuple):
    """How a network is trained.

    Attributes
    ----------
    learning_rate, weight_decay
        Of AdamW.
    decay
        What the weight decay acts on: ``"all"`` parameters, or ``"weights"``, those that are no bias and no scale.
    schedule
        ``"constant"``, or ``"cosine"``: the rate rises over the first steps and then falls to 0 along half a cosine
        (Loshchilov and Hutter 2017, without restarts).
    clip
        Largest norm of the gradient; None leaves it as it is.
    precision
        ``"float32"``, or ``"bfloat16"`` for products where torch finds it safe (autocast).
    batch_size
        Samples per step.
    epochs
        Times that all samples are used.
    patience
        Stop when the validation metric has not risen for this many epochs; None never stops early.
    positive_weight
        Factor for the loss of positive labels; None is 1.
    seed
        Decides the first weights, the order of the samples and what dropout drops.
    device
        Where the network is.
    choose
        What the epoch is chosen by: the validation ``"metric"`` (default), or the validation ``"loss"``.
    """

    learning_rate: float
    weight_decay: float
    decay: str
    schedule: str
    clip: float | None
    precision: str
    batch_size: int
    epochs: int
    patience: int | None
    positive_weight: float | None
    seed: int
    device: str
    choose: str = "metric"


class _Run:
    """A network in training: its best weights so far, and the record of every epoch."""

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        decayed = [weight for weight in network.parameters() if settings.decay == "all" or weight.ndim > 1]
        others = [weight for weight in network.parameters() if settings.decay != "all" and weight.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}]
        groups += [{"params": others, "weight_decay": 0.0}] if others else []
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        # A module of both, so that one file can hold both.
        self.both = torch.nn.ModuleDict({"now": network, "best": copy.deepcopy(network)})
        self.history: list[dict[str, float]] = []
        self.best_value, self.best_epoch = -math.inf, 0

    def save(self, file: Path, about: dict[str, Any]) -> None:
        """Write what `resume` needs."""
        run = {"settings": about, "history": self.history, "best": [self.best_value, self.best_epoch]}
        save_state(file, self.both, self.optimizer, run)

    def resume(self, file: Path, about: dict[str, Any]) -> None:
        """Go on from where `save` was called."""
        try:
            run = load_state(file, self.both, self.optimizer, about)
        except (CheckpointError, InputError) as error:
            raise CheckpointError(
                f"{file}: is not a state that this run can go on from ({error.__cause__ or error}). Delete this file "
                "to train the probe from its first epoch."
            ) from error
        self.history, (self.best_value, self.best_epoch) = run["history"], run["best"]


def train(
    network: nn.Module,
    data: ProbeData,
    valid: ProbeData | None,
    settings: Settings,
    on_epoch: Callable[[list[dict[str, float]], int], None],
    *,
    state: Path | None = None,
    about: dict[str, Any] | None = None,
    progress: bool = True,
) -> None:
    """Train a network, keeping the weights of the epoch with the best validation metric.

    The loss of a step is a mean over the labels of its batch, as in BEND. Without validation data the last weights are
    kept. Whatever ends training, an interrupt included, the network is left with the best weights so far.

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
    state
        File that a run killed at any moment goes on from, with the numbers of a run that was not; None (default): none
        is kept.
    about
        What decides the numbers, as data that JSON can hold: a state of other settings is refused.
    progress
        Show a progress bar over the epochs.

    Raises
    ------
    NonFiniteError
        The loss is not finite.
    InputError
        The metric does not fit the task or is not defined on `valid`, or there is no label to train on.
    CheckpointError
        `state` is damaged or of another run.
    """
    check_metric(data.record)
    run, about = _Run(network, settings), about or {}
    if state is not None and state.exists():
        run.resume(state, about)
        logger.info("%s: going on after epoch %d of %d", data, len(run.history), settings.epochs)
        on_epoch(run.history, run.best_epoch)
    saved = time.monotonic()
    done = len(run.history)
    counts = {"initial": done, "total": settings.epochs, "unit": "epoch"}
    bar = progress_bar(range(done + 1, settings.epochs + 1), f"training {data.record.name}", show=progress, **counts)
    try:
        for epoch in bar:
            if _stale(run, settings):
                logger.info("%s: no better validation metric for %d epochs, stopping", data, settings.patience)
                break
            record = _one_epoch(run, network, data, valid, settings, epoch)
            bar.set_postfix({key: f"{number:.4g}" for key, number in record.items() if key != "epoch"})
            logger.info("%s: %s", data, record)
            on_epoch(run.history, run.best_epoch)
            if state is not None and time.monotonic() - saved >= STATE_SECONDS:
                run.save(state, about)
                saved = time.monotonic()
    finally:
        bar.close()
        network.load_state_dict(run.both["best"].state_dict())


def _stale(run: _Run, settings: Settings) -> bool:
    """Return whether the validation metric has not risen for too long."""
    return settings.patience is not None and len(run.history) - run.best_epoch >= settings.patience


def _one_epoch(
    run: _Run, network: nn.Module, data: ProbeData, valid: ProbeData | None, settings: Settings, epoch: int
) -> dict[str, float]:
    """Train for an epoch, validate, and keep the weights where they are the best so far."""
    began = time.perf_counter()
    record = {"epoch": epoch, "train_loss": _epoch(network, run.optimizer, data, settings, epoch)}
    value = float(epoch)
    if valid is not None:
        record["valid_loss"], record["valid"] = _validate(network, valid, settings)
        value = -record["valid_loss"] if settings.choose == "loss" else record["valid"]
    record["seconds"] = time.perf_counter() - began
    run.history.append(record)
    if value > run.best_value:
        run.both["best"].load_state_dict(network.state_dict())
        run.best_value, run.best_epoch = value, epoch
    return record


def _validate(network: nn.Module, valid: ProbeData, settings: Settings) -> tuple[float, float]:
    """Return loss and metric on validation samples."""
    outputs = predict(network, valid, settings)
    scores = evaluate(outputs, valid, positive_weight=settings.positive_weight, detail=False)
    if scores.score is not None and not np.isfinite(scores.score).all():
        raise NonFiniteError(
            f"{valid!r}: outputs for validation samples are not finite after an epoch: the training has diverged. A "
            f"lower learning rate than {settings.learning_rate} may help."
        )
    value = mean_defined(per_target(valid.record.metric, scores))
    if math.isnan(value):
        raise InputError(
            f"{valid!r}: {valid.record.metric} is not defined on the validation samples: the "
            f"{why_undefined(valid.record.metric)} of every target are all alike. Use other splits."
        )
    return scores.loss, value


def rate(settings: Settings, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    settings
        Schedule and highest rate.
    step
        Which one, from 0.
    steps
        How many there are in all epochs.

    Returns
    -------
    float
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    return settings.learning_rate * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def _epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, data: ProbeData, settings: Settings, epoch: int
) -> float:
    """Use every sample once; return the mean loss per label."""
    network.train()
    total, labels = 0.0, 0
    batches = data.steps(settings.batch_size)
    seed = int(np.random.SeedSequence((settings.seed, epoch)).generate_state(1)[0])
    ready = Ahead(_prepared(network, data, settings, (settings.seed, epoch)), _AHEAD, "batches")
    with torch.random.fork_rng(devices=[]), ready:
        torch.manual_seed(seed)  # dropout: an epoch draws the same whether the run was interrupted before or not
        for number, batch in enumerate(ready):
            count = sum(part.labels for part, _ in batch)
            if count == 0:  # A step would only decay the weights.
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate(settings, (epoch - 1) * batches + number, settings.epochs * batches)
            loss = _step(network, optimizer, batch, count, data.record.type, settings)
            if not math.isfinite(loss):
                raise NonFiniteError(
                    f"{data!r}: the loss is {loss} in epoch {epoch}, on the batch of samples "
                    f"{batch[0][0].samples[0]}, ... A lower learning rate than {settings.learning_rate} may help."
                )
            total, labels = total + loss * count, labels + count
    if labels == 0:
        raise InputError(f"{data!r}: no sample has a label; there is nothing to train on")
    return total / labels


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: list[tuple[Part, Any]],
    count: int,
    kind: str,
    settings: Settings,
) -> float:
    """Do one step on a batch, part by part; return the mean loss per label."""
    optimizer.zero_grad()
    total = torch.zeros((), device=settings.device)
    for part, plan in batch:
        output, target = _forward(network, part, plan, settings), part.target.to(settings.device)
        loss = loss_sum(output, target, kind, settings.positive_weight) / count
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    value = float(total)
    if settings.clip is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
    if math.isfinite(value):
        optimizer.step()
    return value


def _prepared(
    network: nn.Module, data: ProbeData, settings: Settings, seed: Sequence[int] | None
) -> Iterator[list[tuple[Part, Any]]]:
    """Yield batches with what the network needs to know of their layout, which takes no weights."""
    for parts in data.batches(settings.batch_size, seed=seed):
        yield [(part, part.plan(network)) for part in parts]


def _forward(network: nn.Module, part: Part, plan: Any, settings: Settings) -> torch.Tensor:
    """Return the outputs of a part of a batch, float32."""
    mixed: AbstractContextManager[Any] = nullcontext()
    if settings.precision == "bfloat16":
        mixed = torch.autocast(torch.device(settings.device).type, dtype=torch.bfloat16)
    with mixed:
        output: torch.Tensor = network.forward_tokens(  # type: ignore[operator]
            part.vector.to(settings.device), plan.to(settings.device)
        )
    return output.float()


def predict(network: nn.Module, data: ProbeData, settings: Settings) -> Iterator[tuple[Part, torch.Tensor]]:
    """Apply a network to all samples in the order of the task.

    Parameters
    ----------
    network
        A trained network.
    data
        The samples.
    settings
        Batch size, precision and device.

    Yields
    ------
    Part, torch.Tensor
        Some samples and their outputs (position, output) before softmax or sigmoid.
    """
    network.eval()
    with Ahead(_prepared(network, data, settings, None), _AHEAD, "batches") as ready:
        for batch in ready:
            for part, plan in batch:
                with torch.inference_mode():
                    output = _forward(network, part, plan, settings)
                yield part, output
