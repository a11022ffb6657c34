"""Ridge regression with penalised and unpenalised blocks, its penalty chosen by grouped cross-validation.

Embeddings are penalised, what is known beside them (species, GC content) is not: one penalty for a one-hot vector of 13
columns and an embedding of 1,024 channels would shrink the one and drown the other. Unpenalised columns are taken out
of everything else by least squares first (Frisch and Waugh 1933, Econometrica 1:387; Lovell 1963, J. Am. Stat. Assoc.
58:993); what is left is an ordinary ridge regression.

One eigendecomposition of the training samples serves all penalties, folds and seeds: in its basis the sums of products
of a fold's training part are a diagonal less the products of the samples held out, and conjugate gradients with that
diagonal need about 15 steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.solving import DIRECT, by_steps, directly, inverse_of, rank, residuals_left_out, rotation
from embedstore.errors import InputError, NonFiniteError
from probes.gram import checked_penalties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-6, 13))
"""What a penalty is chosen from: 1e-3 to 1e6 in steps of a factor of the root of 10; scikit-learn's alpha."""

CONSTANT = 1e-6
"""A channel whose deviation is a smaller share of its mean, or of the largest deviation in its block, is constant:
single precision leaves rounding noise of 1e-7, which scaling to unit variance would blow up."""

TINY = 1e-12
"""A channel whose deviation is smaller is constant whatever else there is."""


class Block(NamedTuple):
    """Columns of a regression.

    Attributes
    ----------
    values
        (sample, channel) float.
    penalised
        Scale the channels to unit variance over the training samples and shrink their coefficients (default); else the
        columns are fitted as they are.
    """

    values: NDArray[np.floating]
    penalised: bool = True


class Scaling(NamedTuple):
    """How channels are standardised; see `scaling`.

    Attributes
    ----------
    mean
        (channel,) float64.
    deviation
        (channel,) float64, of a population; 0 where the channel is constant.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(channel,) which channels are not constant."""
        return self.deviation > 0


class Fit(NamedTuple):
    """A fitted regression; `predict` applies it.

    Attributes
    ----------
    coefficient
        (channel,) or (channel, target) float64 for the columns of all blocks in their order, as they are (not scaled);
        0 for constant channels.
    intercept
        float, or (target,).
    penalty
        The penalty chosen, or (target,) of them; NaN where no block is penalised.
    at_edge
        The penalty is the smallest or the largest of those to choose from, where these are several.
    errors
        (penalty,) or (penalty, target) mean squared error in cross-validation; empty where nothing is chosen.
    channels
        Penalised channels that are not constant.
    """

    coefficient: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: NDArray[np.float64]
    at_edge: NDArray[np.bool_]
    errors: NDArray[np.float64]
    channels: int


def scaling(values: NDArray[np.floating]) -> Scaling:
    """Return mean and deviation of channels, with what is only rounding noise as constant.

    Every analysis of melting points that scales to unit variance does it by this rule.

    Parameters
    ----------
    values
        (sample, channel) float, of the training samples.

    Returns
    -------
    Scaling
        A channel whose deviation is below `CONSTANT` times its mean or times the largest deviation of any, or below
        `TINY`, has deviation 0.

    Examples
    --------
    >>> scaling(np.array([[1.0, 0.3], [3.0, 0.3 + 1e-17]])).deviation.tolist()
    [1.0, 0.0]
    """
    rows = np.asarray(values, np.float64)
    mean = rows.mean(axis=0)
    deviation = rows.std(axis=0)
    least = np.maximum(CONSTANT * np.maximum(np.abs(mean), deviation.max(initial=0)), TINY)
    return Scaling(mean, np.where(deviation > least, deviation, 0))


def standardise(train: NDArray[np.floating], *others: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    """Scale channels to mean 0 and unit variance over the training samples; constant ones are left out.

    Parameters
    ----------
    train
        (sample, channel) float.
    *others
        (sample, channel) float, to be scaled alike.

    Returns
    -------
    list of numpy.ndarray
        (sample, channel that varies) float64 of each, `train` first.
    """
    found = scaling(train)
    kept = found.kept
    return [
        (np.asarray(part, np.float64)[:, kept] - found.mean[kept]) / found.deviation[kept] for part in (train, *others)
    ]


def fit_ridge(
    blocks: Sequence[Block],
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    penalties: ArrayLike = PENALTIES,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> list[Fit]:
    """Fit one regression on all blocks, with the penalty that predicts held-out groups best.

    Equal to scikit-learn's ``StandardScaler`` and ``RidgeCV(alphas, cv=GroupKFold(folds, shuffle=True))`` where all
    blocks are penalised and folds are of one size: channels are scaled once over the training samples, each fold has
    its own intercept, and the error is a mean over samples (not over folds).

    Parameters
    ----------
    blocks
        Columns of the training samples. An intercept is always fitted, and is not penalised.
    y
        (sample,) or (sample, target) float.
    groups
        (sample,) name of the group of each; a group is never on both sides of a fold. Default: each sample its own.
    penalties
        What to choose from, factors of the squared norm of the coefficients of standardised channels; scikit-learn's
        alpha. One is taken as it is. Default `PENALTIES`.
    folds
        Parts of the cross-validation, default 5; fewer where there are fewer groups.
    seeds
        Of the assignment of groups to folds; default one, 0.

    Returns
    -------
    list of Fit
        One for each seed. They differ only where seeds choose different penalties.

    Raises
    ------
    InputError
        Blocks, labels and groups differ in length, there are fewer than two groups to choose a penalty with, or a
        penalty is not above 0.
    NonFiniteError
        A block or the labels hold NaN or infinity.
    """
    labels, alphas = _checked(blocks, y), checked_penalties(penalties)
    problem = _Problem.of(blocks, labels)
    one = np.ndim(y) == 1
    if not problem.channels or len(alphas) == 1:
        nothing = np.empty((0, labels.shape[1]))
        chosen = np.full(labels.shape[1], alphas[0] if problem.channels else np.nan)
        return [problem.fit(chosen, np.zeros(len(chosen), bool), nothing, one) for _ in seeds]
    names = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if names.shape != (len(labels),):
        raise InputError(f"{len(names):,} groups for {len(labels):,} samples; each sample needs exactly one.")
    fits = []
    for seed in seeds:
        parts = _folds(names, folds, seed)
        errors = np.sum([problem.held_out(part, alphas) for part in parts], axis=0) / len(labels)
        best = np.argmin(errors, axis=0)
        fits.append(problem.fit(alphas[best], (best == 0) | (best == len(alphas) - 1), errors, one))
    return fits


def predict(fit: Fit, blocks: Sequence[Block]) -> NDArray[np.float64]:
    """Apply a fitted regression.

    Parameters
    ----------
    fit
        From `fit_ridge`.
    blocks
        The same columns of other samples.

    Returns
    -------
    numpy.ndarray
        (sample,) or (sample, target) float64.

    Raises
    ------
    InputError
        The blocks have other columns in all than those fitted.
    """
    width = sum(block.values.shape[1] for block in blocks)
    if width != len(fit.coefficient):
        raise InputError(f"the blocks have {width:,} columns; the regression was fitted to {len(fit.coefficient):,}.")
    edges = np.cumsum([block.values.shape[1] for block in blocks])[:-1]
    parts = np.split(fit.coefficient, edges)
    return fit.intercept + sum(block.values @ part for block, part in zip(blocks, parts, strict=True))


def fit_predict(
    blocks: Sequence[Block],
    y: ArrayLike,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    *,
    groups: ArrayLike | None = None,
    penalties: ArrayLike = PENALTIES,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> tuple[NDArray[np.float64], list[Fit]]:
    """Fit on some samples and predict others.

    Parameters
    ----------
    blocks, y, groups
        As for `fit_ridge`, of all samples.
    train, test
        (sample,) bool; a sample may be in neither.
    penalties, folds, seeds
        As for `fit_ridge`.

    Returns
    -------
    numpy.ndarray
        (seed, test sample) float64 predictions, or (seed, test sample, target).
    list of Fit
        One for each seed.

    Raises
    ------
    InputError
        A sample is in both, or as for `fit_ridge`.
    """
    if (train & test).any():
        raise InputError(f"{int((train & test).sum()):,} samples are both for training and for testing.")
    inside = [Block(block.values[train], block.penalised) for block in blocks]
    outside = [Block(block.values[test], block.penalised) for block in blocks]
    named = None if groups is None else np.asarray(groups)[train]
    fits = fit_ridge(inside, np.asarray(y)[train], groups=named, penalties=penalties, folds=folds, seeds=seeds)
    return np.stack([predict(fit, outside) for fit in fits]), fits


class _Problem(NamedTuple):
    """Training samples in the basis in which their sums of products are a diagonal.

    `x` (sample, r) is what is left of the penalised channels without the unpenalised ones, `value` the diagonal of x'x;
    `basis` (channel, r) leads back. `free` (sample, k) are the unpenalised columns about their means, with a column of
    ones; `base` and `through` are the coefficients of those columns that predict y and the penalised channels.
    """

    x: NDArray[np.float64]
    value: NDArray[np.float64]
    basis: NDArray[np.float64]
    free: NDArray[np.float64]
    y: NDArray[np.float64]
    base: NDArray[np.float64]
    through: NDArray[np.float64]
    scale: Scaling
    free_mean: NDArray[np.float64]
    penalised: NDArray[np.bool_]

    @property
    def channels(self) -> int:
        return int(self.scale.kept.sum())

    @classmethod
    def of(cls, blocks: Sequence[Block], y: NDArray[np.float64]) -> _Problem:
        """Scale, take the unpenalised columns out, and rotate."""
        parts = [block for block in blocks if block.penalised]
        scales = [scaling(block.values) for block in parts]
        scale = Scaling(*(np.concatenate(field) for field in zip(*scales, strict=True))) if parts else _NO_SCALE
        z = np.hstack([standardise(block.values)[0] for block in parts]) if parts else np.empty((len(y), 0))
        plain = [np.asarray(block.values, np.float64) for block in blocks if not block.penalised]
        free = np.hstack([np.ones((len(y), 1)), *plain])
        mean = free[:, 1:].mean(axis=0)
        free[:, 1:] -= mean
        inverse = inverse_of(free.T @ free)
        through, base = inverse @ (free.T @ z), inverse @ (free.T @ y)
        z -= free @ through
        value, basis = rotation(z)
        penalised = np.concatenate([np.full(block.values.shape[1], block.penalised) for block in blocks])
        return cls(z @ basis, value, basis, free, y, base, through, scale, mean, penalised)

    def held_out(self, part: NDArray[np.bool_], alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the summed squared error of each (penalty, target) on samples that are left out."""
        x, free, y = self.x[part], self.free[part], self.y[part] - self.free[part] @ self.base
        whole, target = self.free.T @ self.free, -(free.T @ y)
        stays = whole - free.T @ free
        inverse = inverse_of(stays)
        # Over all samples the rotated channels have no products with the unpenalised columns; without a part they do.
        cross, every = -(x.T @ free), self.x.T @ (self.y - self.free @ self.base)
        system = (x, self.value, cross, inverse, every - x.T @ y - cross @ (inverse @ target))
        solved = np.zeros((len(self.value), len(alphas), y.shape[1]))
        done = np.zeros(len(alphas), bool)
        if len(self.value) > DIRECT:
            solved, done = by_steps(*system, alphas, 1 - len(x) / len(self.x))
        quick = len(x) < len(self.value) > DIRECT and rank(stays) == rank(whole)
        if not done.all() and not quick:
            solved[:, ~done], done[:] = directly(*system, alphas[~done]), True
        of_free = np.tensordot(inverse, target[:, None, :] - np.tensordot(cross.T, solved, 1), 1)
        said = np.tensordot(x, solved, 1) + np.tensordot(free, of_free, 1)
        errors = np.asarray(((y[:, None, :] - said) ** 2).sum(axis=0))
        leverage = free @ inverse_of(whole) @ free.T
        for number in np.flatnonzero(~done):
            residual = y - x @ (every / (self.value[:, None] + alphas[number]))
            left = residuals_left_out(x, self.value, leverage, residual, float(alphas[number]))
            errors[number] = (left**2).sum(axis=0)
        return errors

    def fit(
        self, penalty: NDArray[np.float64], at_edge: NDArray[np.bool_], errors: NDArray[np.float64], one: bool
    ) -> Fit:
        """Fit all samples with the penalty of each target; coefficients are those of the columns as they were."""
        right = self.x.T @ (self.y - self.free @ self.base)
        scaled = self.basis @ (right / (self.value[:, None] + np.nan_to_num(penalty)))
        of_free = self.base - self.through @ scaled
        coefficient = np.zeros((len(self.penalised), self.y.shape[1]))
        kept = np.flatnonzero(self.penalised)[self.scale.kept]
        coefficient[kept] = scaled / self.scale.deviation[self.scale.kept, None]
        coefficient[~self.penalised] = of_free[1:]
        intercept = of_free[0] - self.scale.mean @ coefficient[self.penalised] - self.free_mean @ of_free[1:]
        made = Fit(coefficient, intercept, penalty, at_edge, errors, self.channels)
        if not one:
            return made
        alone = {"coefficient": coefficient[:, 0], "intercept": intercept[0], "errors": errors[:, 0]}
        return made._replace(**alone, penalty=penalty[0], at_edge=at_edge[0])


_NO_SCALE = Scaling(np.empty(0), np.empty(0))


def _folds(groups: NDArray[np.int64], folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return which samples each fold holds out."""
    from sklearn.model_selection import GroupKFold

    many = min(folds, len(np.unique(groups)))
    if many < 2:
        raise InputError(
            f"{len(np.unique(groups)):,} groups of training samples and {folds} folds; two or more of both are needed "
            "to choose a penalty. Give one penalty, or other groups."
        )
    parts = []
    for _, out in GroupKFold(many, shuffle=True, random_state=seed).split(groups, groups=groups):
        part = np.zeros(len(groups), bool)
        part[out] = True
        parts.append(part)
    return parts


def _checked(blocks: Sequence[Block], y: ArrayLike) -> NDArray[np.float64]:
    """Return labels as (sample, target), or refuse what cannot be fitted."""
    labels = np.asarray(y, np.float64)
    labels = labels[:, None] if labels.ndim == 1 else labels
    if not len(labels):
        raise InputError("there is no training sample to fit a regression to.")
    if not np.isfinite(labels).all():
        raise NonFiniteError(f"{int((~np.isfinite(labels).all(1)).sum()):,} of {len(labels):,} labels are not finite.")
    for number, block in enumerate(blocks):
        if block.values.ndim != 2 or len(block.values) != len(labels):
            raise InputError(
                f"block {number} is {block.values.shape}; (sample, channel) with the {len(labels):,} samples of the "
                "labels is wanted."
            )
        bad = ~np.isfinite(block.values).all(axis=1)
        if bad.any():
            raise NonFiniteError(
                f"block {number}: {int(bad.sum()):,} samples hold NaN or infinity, the first is sample "
                f"{int(np.flatnonzero(bad)[0])}. Leave them out, or embed again with a precision that holds the values."
            )
    return labels
