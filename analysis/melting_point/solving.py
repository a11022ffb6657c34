"""Ridge regressions without some of the samples, solved in the basis in which the sums of all are a diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probes.gram import Gram, solve_ridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECT = 256
"""Up to so many channels an eigendecomposition without the samples is as fast as steps towards the solution."""

_STEPS = 80
_TOLERANCE = 1e-7
_RANK = 1e-11


def rotation(products: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the basis in which sums of products are a diagonal.

    Parameters
    ----------
    products
        (row, row) float64, symmetric without negative eigenvalues.

    Returns
    -------
    value, vector : numpy.ndarray
        (r,) eigenvalues above rounding and (row, r) their vectors.
    """
    value, vector = np.linalg.eigh(products)
    kept = value > _RANK * max(value.max(initial=0), 1.0)
    return value[kept], vector[:, kept]


def inverse_of(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pseudo-inverse of a symmetric matrix.

    Parameters
    ----------
    square
        (column, column) float64.

    Returns
    -------
    numpy.ndarray
        (column, column) float64; where columns add up to others, it gives the shortest solution.
    """
    return np.asarray(np.linalg.pinv(square, rcond=_RANK, hermitian=True))


def directly(
    x: NDArray[np.float64],
    value: NDArray[np.float64],
    cross: NDArray[np.float64],
    inverse: NDArray[np.float64],
    right: NDArray[np.float64],
    alphas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve ridge regressions of all samples but some, for many penalties, by an eigendecomposition.

    Parameters
    ----------
    x
        (sample left out, channel) float64, in the basis of `rotation`.
    value
        (channel,) float64, eigenvalues of the sums of products of all samples.
    cross, inverse
        (channel, column) products of the channels with unpenalised columns, of the samples that stay, and (column,
        column) pseudo-inverse of the products of these columns among themselves.
    right
        (channel, target) float64, products with the labels, of the samples that stay.
    alphas
        (penalty,) float64.

    Returns
    -------
    numpy.ndarray
        (channel, penalty, target) float64: c of (diagonal of value - x'x - cross inverse cross' + penalty) c = right.
    """
    nothing = np.zeros(len(value))
    xx = np.diag(value) - x.T @ x - cross @ inverse @ cross.T
    gram = Gram(1, nothing, nothing, np.zeros(right.shape[1]), xx, right, np.zeros(right.shape[1]))
    return solve_ridge(gram, alphas, scale=False)[0].transpose(1, 0, 2)


def residuals_left_out(
    x: NDArray[np.float64],
    value: NDArray[np.float64],
    leverage: NDArray[np.float64],
    residual: NDArray[np.float64],
    alpha: float,
) -> NDArray[np.float64]:
    """Return how far samples are from what a ridge regression of all others predicts, from that of all.

    Exact, and quick where few samples are left out of a regression of many channels. Source: Allen 1974, Technometrics
    16:125, for several samples at once: (I - H)^-1 e with their part H of the hat matrix and their residuals e.

    Parameters
    ----------
    x, value
        As for `directly`.
    leverage
        (sample left out, sample left out) part of the hat matrix of the unpenalised columns; without these samples the
        columns must span as much as with them.
    residual
        (sample left out, target) of the regression of all samples.
    alpha
        The penalty.

    Returns
    -------
    numpy.ndarray
        (sample left out, target) float64.
    """
    return np.asarray(np.linalg.solve(np.eye(len(x)) - (x / (value + alpha)) @ x.T - leverage, residual))


def rank(square: NDArray[np.float64]) -> int:
    """Return the rank of a symmetric matrix, by the bound on rounding that `inverse_of` has."""
    value = np.linalg.eigvalsh(square)
    return int((value > _RANK * max(value.max(initial=0), 0.0)).sum())


def by_steps(
    x: NDArray[np.float64],
    value: NDArray[np.float64],
    cross: NDArray[np.float64],
    inverse: NDArray[np.float64],
    right: NDArray[np.float64],
    alphas: NDArray[np.float64],
    share: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Solve as `directly` does, for all penalties and targets at once by conjugate gradients.

    Source: Golub and Van Loan 2013, algorithm 11.5.1. The diagonal times the share of the samples in the training part
    is what the matrix would be if the part held out were like the whole.

    Parameters
    ----------
    x, value, cross, inverse, right, alphas
        As for `directly`.
    share
        Of the samples that stay.

    Returns
    -------
    numpy.ndarray
        As for `directly`.
    numpy.ndarray
        (penalty,) bool: solved; the others need more steps.
    """
    targets = right.shape[1]
    penalty = np.repeat(alphas, targets)
    wanted = np.tile(right, (1, len(alphas)))
    diagonal = share * value[:, None] + penalty
    found = np.zeros_like(wanted)
    left = wanted.copy()
    step = left / diagonal
    size = np.einsum("ck,ck->k", left, step)
    enough = _TOLERANCE**2 * size
    for _ in range(_STEPS):
        going = size > enough
        if not going.any():
            break
        ahead = step[:, going]
        product = (value[:, None] + penalty[going]) * ahead - x.T @ (x @ ahead) - cross @ (inverse @ (cross.T @ ahead))
        length = size[going] / np.einsum("ck,ck->k", ahead, product)
        found[:, going] += length * ahead
        left[:, going] -= length * product
        guess = left[:, going] / diagonal[:, going]
        former, size[going] = size[going], np.einsum("ck,ck->k", left[:, going], guess)
        step[:, going] = guess + size[going] / former * ahead
    solved = (size <= enough).reshape(len(alphas), targets).all(axis=1)
    return found.reshape(len(value), len(alphas), targets), solved
