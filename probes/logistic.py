"""Logistic regression on rows in memory, by scikit-learn."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from embedstore.errors import InputError, NonFiniteError
from embedstore.progress import progress_bar
from probes.affine import FOLDS, LinearProbe, sample_parts
from probes.chunks import BATCH, chunk_of, position_means
from probes.evaluation import evaluate
from probes.gram import checked_penalties
from probes.metrics import check_metric, mean_defined, per_target
from probes.reading import free_memory
from probes.targets import loss_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from probes.dataset import ProbeData

logger = logging.getLogger(__name__)

PENALTIES = tuple(10.0**power for power in range(-5, 0))
UNSEEN = -30.0
"""Logit of a class that has no label in training: it is never predicted, and its loss is finite."""


class LogisticProbe(LinearProbe):
    """Logistic regression: of all classes together, or of each 0/1 target for itself, by scikit-learn.

    Labels of nucleotides are counted per token, which gives the fit to nucleotides. The rows are held in memory as
    float64. The penalty is the one with the highest validation metric; without validation samples a fifth of the
    samples is held out to choose it, and all of them are fitted with it.

    Parameters
    ----------
    penalties
        What to choose the penalty from: factors of half the squared norm of the coefficients of standardised channels,
        where the loss is a mean over positions; scikit-learn's C is 1 / (penalty x positions). Default 1e-5 to 0.1 in
        factors of 10.
    max_iter
        Iterations of the solver at most, default 1000.
    tol
        Largest element of the gradient at which the solver stops, default 1e-5.
    progress
        Show a progress bar, default True.

    Attributes
    ----------
    coefficient_, intercept_ : numpy.ndarray
        (channel, output) and (output,) float64, for rows as they are; outputs are logits. A target that had one value
        in training, or a class that had no label, has coefficients 0.
    penalty_ : float
        The chosen penalty.
    history_ : pandas.DataFrame
        One row per penalty: penalty, train_loss, valid_loss, valid (the metric), converged.
    """

    def __init__(
        self,
        penalties: tuple[float, ...] = PENALTIES,
        max_iter: int = 1000,
        tol: float = 1e-5,
        progress: bool = True,
    ) -> None:
        self.penalties = penalties
        self.max_iter = max_iter
        self.tol = tol
        self.progress = progress

    def fit(self, data: ProbeData, valid: ProbeData | None = None) -> Self:
        """Fit.

        Parameters
        ----------
        data
            To fit to.
        valid
            To choose the penalty with; without it a fifth of the samples of `data` is held out for it.

        Returns
        -------
        LogisticProbe
            Itself.

        Raises
        ------
        InputError
            The task is one of values, there is no label, the rows do not fit in memory, a penalty is out of range, or
            the metric is not defined on the validation samples.
        NonFiniteError
            A row holds NaN or infinity.
        """
        check_metric(data.record)
        if data.record.type == "value":
            raise InputError(f"{data.record.name} is a task of values: use a ridge probe.")
        penalties = checked_penalties(self.penalties)
        data.check_apart(valid)
        self._remember(data, 0)
        self.coefficient_ = np.zeros((data.width, len(self.names_)))
        if valid is None and len(data) < FOLDS:
            raise InputError(f"{data!r}: choosing a penalty takes {FOLDS} samples or more, or validation samples.")
        if valid is not None:
            fits = self._fit(data, penalties)
            best = self._choose(fits, valid)
        else:
            held = sample_parts(data) == "0"
            best = self._choose(self._fit(data[~held], penalties), data[held])
            fits, best = self._fit(data, penalties[best : best + 1]), 0
        self.coefficient_, self.intercept_ = fits.coefficient[best], fits.intercept[best]
        return self

    def _fit(self, data: ProbeData, penalties: NDArray[np.float64]) -> LogisticFits:
        return fit_logistic(data, penalties, max_iter=self.max_iter, tol=self.tol, progress=self.progress)

    def _choose(self, fits: LogisticFits, valid: ProbeData) -> int:
        """Compare the fits on validation samples, and note how they did."""
        self._check_input(valid)
        loss, metric = [], []
        for self.coefficient_, self.intercept_ in zip(fits.coefficient, fits.intercept, strict=True):
            scores = evaluate(self.outputs(valid), valid, detail=False)
            loss.append(scores.loss)
            metric.append(mean_defined(per_target(valid.record.metric, scores)))
        if np.isnan(metric).all():
            raise InputError(
                f"{valid!r}: {valid.record.metric} is not defined on the validation samples: the labels of every "
                "target are all alike. Use other splits."
            )
        best = int(np.nanargmax(metric))
        found = {"train_loss": fits.loss, "valid_loss": loss, "valid": metric, "converged": fits.converged}
        self.history_ = pd.DataFrame({"penalty": self.penalties, **found})
        self.penalty_, self.best_epoch_ = float(self.penalties[best]), best + 1
        return best


class LogisticFits(NamedTuple):
    """Fits for some penalties.

    Attributes
    ----------
    coefficient, intercept
        (penalty, channel, output) and (penalty, output) float64, for rows as they are.
    loss
        (penalty,) mean loss per training label.
    converged
        (penalty,) whether the solver reached its tolerance.
    """

    coefficient: NDArray[np.float64]
    intercept: NDArray[np.float64]
    loss: NDArray[np.float64]
    converged: NDArray[np.bool_]


class _Problem(NamedTuple):
    """Standardised rows in memory with their labels.

    x: (row, channel) float64. y: (row,) int64 class, or (row, target) float32, NaN unlabelled. weight: (row,) positions
    that a row stands for. mean, factor: (channel,) what was subtracted and multiplied.
    """

    x: NDArray[np.float64]
    y: NDArray[Any]
    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]


def fit_logistic(
    data: ProbeData, penalties: NDArray[np.float64], *, max_iter: int, tol: float, progress: bool
) -> LogisticFits:
    """Fit for every penalty, each beginning where the one with the next larger penalty ended.

    Parameters
    ----------
    data
        Samples of a task of classes or of 0/1 targets.
    penalties
        (p,) factors of half the squared norm of the coefficients, where the loss is a mean over positions.
    max_iter, tol
        As `sklearn.linear_model.LogisticRegression` has them.
    progress
        Show progress bars.

    Returns
    -------
    LogisticFits

    Raises
    ------
    InputError
        The rows do not fit in memory, or there is no label.
    NonFiniteError
        A row holds NaN or infinity.
    """
    problem = _problem(data, progress)
    shape = (len(penalties), data.width, len(data.targets.names))
    coefficient, intercept = np.zeros(shape), np.zeros((shape[0], shape[2]))
    converged = np.ones(len(penalties), dtype=bool)
    columns = [None] if problem.y.ndim == 1 else list(range(shape[2]))
    for column in progress_bar(columns, "fitting", show=progress, unit="target"):
        converged &= _fit_one(problem, column, penalties, coefficient, intercept, max_iter, tol)
    if not converged.all():
        logger.warning(
            "%r: %d iterations were too few for penalties %s", data, max_iter, penalties[~converged].tolist()
        )
    loss = [_loss(problem, w, b) for w, b in zip(coefficient, intercept, strict=True)]
    coefficient *= problem.factor[:, None]
    intercept -= np.einsum("c,pct->pt", problem.mean, coefficient)
    return LogisticFits(coefficient, intercept, np.array(loss), converged)


def _problem(data: ProbeData, progress: bool) -> _Problem:
    """Hold the labelled rows in memory, standardised."""
    xs, ys, weights = [], [], []
    limit, nbytes, done = free_memory() // 2, 0, 0
    every = np.arange(len(data.targets.names))
    bar = progress_bar(None, "reading", show=progress, total=len(data), unit="sample")
    with bar:
        for part in (part for parts in data.batches(BATCH) for part in parts):
            if data.record.type == "class":
                chunk = chunk_of(part, data, every)
                row, label = np.nonzero(chunk.y)
                x, y, weight = chunk.x[row], label, chunk.y[row, label]
            else:
                y = part.target.numpy()
                known = ~np.isnan(y).all(axis=1)
                x, y = position_means(part.vector.cpu().numpy(), part, data.record)[known], y[known]
                weight = np.ones(len(y))
            bad = ~np.isfinite(x).all(axis=1)
            if bad.any():
                raise NonFiniteError(
                    f"{data!r}: {int(bad.sum())} rows of samples {part.samples[0]} to {part.samples[-1]} hold NaN or "
                    "infinity. A fit would be NaN: leave these samples out, or embed again."
                )
            xs.append(x)
            ys.append(y)
            weights.append(weight)
            bar.update(len(part.samples))
            nbytes, done = nbytes + 8 * x.size, done + len(part.samples)
            if 2 * nbytes > limit:
                raise InputError(
                    f"{data!r}: a logistic probe holds its rows in memory twice while it begins; they would take about "
                    f"{2 * nbytes / done * len(data) / 1e9:.1f} GB, half of the free memory is {limit / 1e9:.1f} GB. "
                    "Use a ridge probe, or a linear one, which read the rows as they need them."
                )
    weight = np.concatenate(weights)
    if not len(weight):
        raise InputError(f"{data!r}: no sample has a label; there is nothing to fit.")
    stacked = np.concatenate(xs).astype(np.float64)
    mean = np.average(stacked, axis=0, weights=weight)
    stacked -= mean
    spread = np.sqrt(np.average(stacked**2, axis=0, weights=weight))
    factor = np.where(spread > 1e-7 * np.abs(mean), 1 / np.where(spread > 0, spread, 1), 0)
    stacked *= factor
    return _Problem(stacked, np.concatenate(ys), weight, mean, factor)


def _fit_one(
    problem: _Problem,
    column: int | None,
    penalties: NDArray[np.float64],
    coefficient: NDArray[np.float64],
    intercept: NDArray[np.float64],
    max_iter: int,
    tol: float,
) -> NDArray[np.bool_]:
    """Fit all classes, or the target of a column, for every penalty; return whether the solver came to an end."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    y = problem.y if column is None else problem.y[:, column]
    known = np.ones(len(y), dtype=bool) if column is None else ~np.isnan(y)
    whole = known.all()
    x, y, weight = (each if whole else each[known] for each in (problem.x, y, problem.weight))
    seen = np.unique(y).astype(int)
    converged = np.ones(len(penalties), dtype=bool)
    if column is None:
        intercept[:] = UNSEEN
    elif len(seen) < 2:
        positives = float(y.sum())
        intercept[:, column] = np.log(max(positives, 0.5) / max(len(y) - positives, 0.5))
        return converged
    if len(seen) < 2:
        intercept[:, seen] = 0
        return converged
    model = LogisticRegression(max_iter=max_iter, tol=tol, warm_start=True)
    for place in np.argsort(-penalties):
        model.set_params(C=1 / (penalties[place] * weight.sum()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
            model.fit(x, y, sample_weight=weight)
        converged[place] = model.n_iter_.max() < max_iter
        if column is not None:
            coefficient[place, :, column], intercept[place, column] = model.coef_[0], model.intercept_[0]
        elif len(seen) == 2:  # half the log-odds for and against
            coefficient[place][:, seen] = np.outer(model.coef_[0], [-0.5, 0.5])
            intercept[place, seen] = model.intercept_[0] * np.array([-0.5, 0.5])
        else:
            coefficient[place][:, seen], intercept[place, seen] = model.coef_.T, model.intercept_
    return converged


def _loss(problem: _Problem, coefficient: NDArray[np.float64], intercept: NDArray[np.float64]) -> float:
    """Return the mean loss per label."""
    output, target = torch.from_numpy(problem.x @ coefficient + intercept), torch.from_numpy(problem.y)
    if target.ndim == 2:
        return float(loss_sum(output, target.double(), "multilabel") / (~target.isnan()).sum())
    each = torch.nn.functional.cross_entropy(output, target, reduction="none").numpy()
    return float(np.average(each, weights=problem.weight))
