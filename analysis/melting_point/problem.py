"""Training samples of a regression with penalised blocks, made ready to be solved for many penalties and folds.

Sums of products are formed once. Scaling a block by the square root of a ratio scales its part of them, so that another
ratio between the penalties of blocks costs an eigendecomposition and a rotation, and all penalties, folds and seeds
share these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.scaling import Scaling, scaling, standardise
from analysis.melting_point.solving import DIRECT, by_steps, directly, inverse_of, rank, residuals_left_out, rotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.melting_point.regression import Block

_NO_SCALE = Scaling(np.empty(0), np.empty(0))


class Problem(NamedTuple):
    """Training samples, with the unpenalised columns taken out of the penalised ones.

    Attributes
    ----------
    z
        (sample, channel) float64: what is left of the standardised channels of all penalised blocks.
    widths
        Channels of each penalised block that are not constant.
    products
        Sums of products of the channels (channel, channel), alone; where there are more channels than samples those of
        the samples (sample, sample), one for each penalised block.
    free
        (sample, column) float64: a column of ones, and the unpenalised columns about their means `free_mean`.
    y
        (sample, target) float64.
    base, through
        (column, target) and (column, channel): coefficients of `free` that predict the labels and the channels.
    scale
        Of the channels of all penalised blocks, constant ones included.
    free_mean
        (unpenalised column,) float64.
    penalised
        (column of any block,) bool.
    """

    z: NDArray[np.float64]
    widths: tuple[int, ...]
    products: list[NDArray[np.float64]]
    free: NDArray[np.float64]
    y: NDArray[np.float64]
    base: NDArray[np.float64]
    through: NDArray[np.float64]
    scale: Scaling
    free_mean: NDArray[np.float64]
    penalised: NDArray[np.bool_]

    @classmethod
    def of(cls, blocks: Sequence[Block], y: NDArray[np.float64]) -> Problem:
        """Scale, take the unpenalised columns out, and sum up products.

        Parameters
        ----------
        blocks
            Columns of the training samples.
        y
            (sample, target) float64.

        Returns
        -------
        Problem
        """
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
        widths = tuple(int(one.kept.sum()) for one in scales)
        if z.shape[1] > z.shape[0]:
            products = [part @ part.T for part in np.split(z, np.cumsum(widths)[:-1], axis=1)]
        else:
            products = [z.T @ z]
        penalised = np.concatenate([np.full(block.values.shape[1], block.penalised) for block in blocks])
        return cls(z, widths, products, free, y, base, through, scale, mean, penalised)

    @property
    def channels(self) -> int:
        """Penalised channels that are not constant."""
        return sum(self.widths)

    def turned(self, ratio: Sequence[float]) -> Turned:
        """Scale each penalised block by the square root of its ratio and rotate, so that products are a diagonal.

        Parameters
        ----------
        ratio
            One for each penalised block; a block of ratio 0 is left out.

        Returns
        -------
        Turned
        """
        factor = np.sqrt(np.repeat(np.asarray(ratio, np.float64), self.widths))
        if self.z.shape[1] > self.z.shape[0]:
            scaled = [one * part for one, part in zip(ratio, self.products, strict=True)]
            value, vector = rotation(np.sum(scaled, axis=0))
            basis = factor[:, None] ** 2 * (self.z.T @ vector) / np.sqrt(value)
            return Turned(self, self.z @ basis, value, basis)
        kept = np.flatnonzero(factor)
        part = self.products[0] if len(kept) == len(factor) else self.products[0][np.ix_(kept, kept)]
        value, vector = rotation(factor[kept, None] * part * factor[kept])
        basis = np.zeros((len(factor), len(value)))
        basis[kept] = factor[kept, None] * vector
        rows = self.z if len(kept) == len(factor) else self.z[:, kept]
        return Turned(self, rows @ basis[kept], value, basis)


class Turned(NamedTuple):
    """A problem in the basis in which the sums of products of its scaled channels are a diagonal.

    Attributes
    ----------
    problem
        It.
    x
        (sample, r) float64, the channels in that basis.
    value
        (r,) float64, the diagonal of x'x.
    basis
        (channel, r) float64; leads back to coefficients of standardised channels as they were before they were scaled.
    """

    problem: Problem
    x: NDArray[np.float64]
    value: NDArray[np.float64]
    basis: NDArray[np.float64]

    def held_out(self, part: NDArray[np.bool_], alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the summed squared error on samples that are left out.

        Parameters
        ----------
        part
            (sample,) bool, which are left out.
        alphas
            (penalty,) float64.

        Returns
        -------
        numpy.ndarray
            (penalty, target) float64.
        """
        whole_free, base = self.problem.free, self.problem.base
        x, free, y = self.x[part], whole_free[part], self.problem.y[part] - whole_free[part] @ base
        whole, target = whole_free.T @ whole_free, -(free.T @ y)
        stays = whole - free.T @ free
        inverse = inverse_of(stays)
        # Over all samples the rotated channels have no products with the unpenalised columns; without a part they do.
        cross, every = -(x.T @ free), self.x.T @ (self.problem.y - whole_free @ base)
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

    def coefficients(self, penalty: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fit all samples.

        Parameters
        ----------
        penalty
            (target,) float64; NaN, where nothing is penalised, is none.

        Returns
        -------
        coefficient, intercept : numpy.ndarray
            (column, target) for the columns of all blocks as they are, 0 for constant channels, and (target,).
        """
        problem = self.problem
        right = self.x.T @ (problem.y - problem.free @ problem.base)
        scaled = self.basis @ (right / (self.value[:, None] + np.nan_to_num(penalty)))
        of_free = problem.base - problem.through @ scaled
        coefficient = np.zeros((len(problem.penalised), problem.y.shape[1]))
        kept = np.flatnonzero(problem.penalised)[problem.scale.kept]
        coefficient[kept] = scaled / problem.scale.deviation[problem.scale.kept, None]
        coefficient[~problem.penalised] = of_free[1:]
        intercept = of_free[0] - problem.scale.mean @ coefficient[problem.penalised] - problem.free_mean @ of_free[1:]
        return coefficient, intercept
