"""Ridge regression with penalised and unpenalised blocks, its penalties chosen by grouped cross-validation.

Embeddings are penalised, what is known beside them (species, GC content) is not: one penalty for a one-hot vector of 13
columns and an embedding of 1,024 channels would shrink the one and drown the other. Unpenalised columns are taken out
of everything else by least squares first (Frisch and Waugh 1933, Econometrica 1:387; Lovell 1963, J. Am. Stat. Assoc.
58:993); what is left is an ordinary ridge regression.

Two embeddings side by side have penalties of their own, of a ratio that is chosen with them: one penalty for both would
have to let the noise of the one in for the sake of the other, and make both worse than the other alone.

One eigendecomposition of the training samples serves all penalties, folds and seeds of a ratio: in its basis the sums
of products of a fold's training part are a diagonal less the products of the samples held out, and conjugate gradients
with that diagonal need about 15 steps.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.problem import Problem, Turned
from embedstore.errors import InputError, NonFiniteError
from probes.gram import checked_penalties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-6, 13))
"""What a penalty is chosen from: 1e-3 to 1e6 in steps of a factor of the root of 10; scikit-learn's alpha."""

RATIOS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
"""What the ratio of a further penalised block is chosen from: its channels have the penalty divided by it, and of 0 the
block is left out. The first block has ratio 1."""

ONE_PENALTY = (1.0,)
"""The ratios with which all penalised blocks have the same penalty."""


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
    ratio
        (penalised block,) or (penalised block, target) the ratios chosen: a block has `penalty` divided by its ratio,
        and is left out where that is 0. 1 for the first, and for blocks whose channels are all constant.
    at_edge
        The penalty is the smallest or the largest of those to choose from, where these are several.
    errors
        (penalty,) or (penalty, target) mean squared error in cross-validation with the ratios chosen; empty where
        nothing is chosen.
    channels
        Penalised channels that are not constant.
    """

    coefficient: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: NDArray[np.float64]
    ratio: NDArray[np.float64]
    at_edge: NDArray[np.bool_]
    errors: NDArray[np.float64]
    channels: int


def fit_ridge(
    blocks: Sequence[Block],
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    penalties: ArrayLike = PENALTIES,
    ratios: ArrayLike = RATIOS,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> list[Fit]:
    """Fit one regression on all blocks, with the penalties that predict held-out groups best.

    Equal to scikit-learn's ``StandardScaler`` and ``RidgeCV(alphas, cv=GroupKFold(folds, shuffle=True))`` where all
    blocks are penalised, one of them or with one penalty, and folds are of one size: channels are scaled once over the
    training samples, each fold has its own intercept, and the error is a mean over samples (not over folds).

    Several penalised blocks have penalties of their own (banded ridge: Nunez-Elizalde et al. 2019, NeuroImage 197:482),
    equal to one penalty for channels that are scaled by the square root of the ratio of their block. The ratio is
    chosen together with the penalty, by as many cross-validations as there are ratios, to the power of the number of
    blocks beyond the first.

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
    ratios
        What the ratio of each further penalised block is chosen from; see `Fit`. Without effect on fits of one
        penalised block. Default `RATIOS`; `ONE_PENALTY` for the same penalty everywhere. Of equally good ones the first
        is taken.
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
        Blocks, labels and groups differ in length, there are fewer than two groups to choose a penalty with, a penalty
        is not above 0, or a ratio is below 0.
    NonFiniteError
        A block or the labels hold NaN or infinity.
    """
    labels, alphas = _checked(blocks, y), checked_penalties(penalties)
    problem = Problem.of(blocks, labels)
    every = _combined(problem.widths, _checked_ratios(ratios))
    if not problem.channels or len(alphas) == len(every) == 1:
        nothing = np.empty((0, labels.shape[1]))
        turned = problem.turned(every[0])
        fits = [_fitted(turned, every[0], alphas if problem.channels else np.array([np.nan]), nothing)] * len(seeds)
    else:
        fits = _chosen(problem, every, alphas, _parts(len(labels), groups, folds, seeds))
    return [_of_one(fit) for fit in fits] if np.ndim(y) == 1 else fits


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
    ratios: ArrayLike = RATIOS,
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
    penalties, ratios, folds, seeds
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
    fits = fit_ridge(
        inside, np.asarray(y)[train], groups=named, penalties=penalties, ratios=ratios, folds=folds, seeds=seeds
    )
    return np.stack([predict(fit, outside) for fit in fits]), fits


def _combined(widths: Sequence[int], ratios: Sequence[float]) -> list[tuple[float, ...]]:
    """Return the ratios of all penalised blocks that are tried; 1 for the first that has a channel."""
    others = [number for number, width in enumerate(widths) if width][1:]
    made = []
    for values in product(ratios, repeat=len(others)):
        one = np.ones(len(widths))
        one[others] = values
        made.append(tuple(one.tolist()))
    return made


def _chosen(
    problem: Problem,
    every: Sequence[tuple[float, ...]],
    alphas: NDArray[np.float64],
    parts: Sequence[Sequence[NDArray[np.bool_]]],
) -> list[Fit]:
    """Return the fit of each seed's folds with the ratios and the penalty of the smallest error."""
    fits: list[Fit] = []
    for ratio in every:
        turned = problem.turned(ratio)
        found = []
        for folds in parts:
            errors = np.sum([turned.held_out(part, alphas) for part in folds], axis=0) / len(problem.y)
            found.append(_fitted(turned, ratio, alphas, errors))
        fits = [_better(*pair) for pair in zip(fits, found, strict=True)] if fits else found
    return fits


def _fitted(turned: Turned, ratio: Sequence[float], alphas: NDArray[np.float64], errors: NDArray[np.float64]) -> Fit:
    """Fit all samples with the penalty of the smallest error for each target, or the only one."""
    targets = turned.problem.y.shape[1]
    best = np.argmin(errors, axis=0) if len(errors) else np.zeros(targets, np.int64)
    at_edge = ((best == 0) | (best == len(alphas) - 1)) & (len(errors) > 1)
    penalty = alphas[best]
    shares = np.tile(np.asarray(ratio, np.float64)[:, None], targets)
    return Fit(*turned.coefficients(penalty), penalty, shares, at_edge, errors, turned.problem.channels)


def _better(former: Fit, later: Fit) -> Fit:
    """Return for each target the fit of the smaller error, the former of equals."""
    wins = later.errors.min(axis=0) < former.errors.min(axis=0)
    values = (np.where(wins, *pair) for pair in zip(later[:-1], former[:-1], strict=True))
    return Fit._make([*values, former.channels])


def _of_one(fit: Fit) -> Fit:
    """Return the fit of a single target without its axis."""
    return Fit._make([*(values[..., 0] for values in fit[:-1]), fit.channels])


def _parts(samples: int, groups: ArrayLike | None, folds: int, seeds: Sequence[int]) -> list[list[NDArray[np.bool_]]]:
    """Return which samples each fold of each seed holds out."""
    names = np.arange(samples) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if names.shape != (samples,):
        raise InputError(f"{len(names):,} groups for {samples:,} samples; each sample needs exactly one.")
    return [_folds(names, folds, seed) for seed in seeds]


def _checked_ratios(ratios: ArrayLike) -> tuple[float, ...]:
    """Return ratios, or refuse what cannot scale a block."""
    values = np.atleast_1d(np.asarray(ratios, np.float64))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            f"ratios are {ratios!r}; they must be one or more finite numbers, 0 (the block is left out) or above."
        )
    return tuple(values.tolist())


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
