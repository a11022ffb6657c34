"""Measures of predicted melting points: total, within species, and the partial R2 of two nested regressions.

The melting points of proteins differ between species far more than within one, so a prediction that knows nothing but
the species has a high total R2. `r2_within` counts errors against the mean of each species in the training samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError, NonFiniteError
from probes.metrics import correlation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONSTANT_PREDICTION = "constant prediction"
CONSTANT_LABELS = "constant labels"
TOO_FEW = "fewer than 2 samples"


class Measures(NamedTuple):
    """Measures of a prediction; NaN where one is not defined, and `flag` says why.

    Attributes
    ----------
    r2
        1 - squared error / squared deviation from the mean of the test labels: scikit-learn's ``r2_score``, the
        coefficient of determination. Below 0 where that mean would have been a better prediction.
    r2_pearson
        Squared Pearson correlation. A shift or a factor of the predictions does not change it.
    r2_oos
        As `r2`, about the mean of the training labels.
    r2_within
        As `r2`, about the mean of each species in the training samples.
    spearman
        Correlation of ranks, ties sharing the mean of theirs.
    mae, rmse
        Mean absolute error and root of the mean squared error, in the unit of the labels (degrees Celsius).
    n
        Samples.
    flag
        ``""``, or why some measures are NaN.
    """

    r2: float
    r2_pearson: float
    r2_oos: float
    r2_within: float
    spearman: float
    mae: float
    rmse: float
    n: int
    flag: str


def measures(
    y: ArrayLike, prediction: ArrayLike, *, train_mean: float = np.nan, species_mean: ArrayLike | None = None
) -> Measures:
    """Compute all measures of a prediction.

    Parameters
    ----------
    y, prediction
        (sample,) float.
    train_mean
        Mean of the training labels; `r2_oos` is NaN without it.
    species_mean
        (sample,) float, mean of the training labels of the species of each sample, from `species_means`; `r2_within` is
        NaN without it.

    Returns
    -------
    Measures

    Raises
    ------
    InputError
        The two differ in length.
    NonFiniteError
        One holds NaN or infinity.

    Examples
    --------
    >>> measures([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]).r2
    0.5
    """
    truth, said = checked_pair(y, prediction)
    nan = float("nan")
    if len(truth) < 2:
        error = truth - said
        size = (float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))) if len(truth) else (nan, nan)
        return Measures(nan, nan, nan, nan, nan, *size, len(truth), TOO_FEW)
    error = truth - said
    flag = CONSTANT_LABELS if np.ptp(truth) == 0 else CONSTANT_PREDICTION if np.ptp(said) == 0 else ""
    pearson, spearman = (float(correlation(truth[:, None], said[:, None], kind)[0]) for kind in ("pearson", "spearman"))
    return Measures(
        r2_about(truth, said, truth.mean()),
        pearson**2,
        r2_about(truth, said, train_mean),
        nan if species_mean is None else r2_about(truth, said, species_mean),
        spearman,
        float(np.abs(error).mean()),
        float(np.sqrt((error**2).mean())),
        len(truth),
        flag,
    )


def r2_about(y: ArrayLike, prediction: ArrayLike, centre: ArrayLike) -> float:
    """Return 1 - squared error / squared deviation from some other prediction.

    Parameters
    ----------
    y, prediction
        (sample,) float.
    centre
        One value, or (sample,) of them: the prediction that scores 0.

    Returns
    -------
    float
        NaN where all labels equal `centre`, or where it is NaN.

    Examples
    --------
    >>> r2_about([40.0, 42.0, 70.0, 72.0], [41.0, 41.0, 71.0, 72.0], [41.0, 41.0, 71.0, 71.0])
    0.25
    """
    truth, said = checked_pair(y, prediction)
    total = ((truth - np.asarray(centre, np.float64)) ** 2).sum()
    return 1 - float(((truth - said) ** 2).sum() / total) if total > 0 else float("nan")


def partial_r2(y: ArrayLike, reduced: ArrayLike, full: ArrayLike) -> float:
    """Return the share of the squared error of one prediction that another one removes.

    Parameters
    ----------
    y, reduced, full
        (sample,) float: labels, and the predictions without and with what is asked about.

    Returns
    -------
    float
        (squared error of `reduced` - squared error of `full`) / squared error of `reduced`; negative where `full` is
        worse, NaN where `reduced` has no error.

    Examples
    --------
    >>> partial_r2([0.0, 0.0], [2.0, 2.0], [1.0, 1.0])
    0.75
    """
    return r2_about(y, full, reduced)


def species_means(y: ArrayLike, species: ArrayLike, train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for every sample the mean label of its species in the training samples.

    Parameters
    ----------
    y
        (sample,) float.
    species
        (sample,) names.
    train
        (sample,) bool.

    Returns
    -------
    numpy.ndarray
        (sample,) float64. A species that the training samples lack has the mean over the species there are, each
        counting once: the same that a regression on one-hot species predicts for it.

    Raises
    ------
    InputError
        There is no training sample.

    Examples
    --------
    >>> species_means([1.0, 3.0, 8.0, 0.0], ["a", "a", "b", "c"], np.array([True, True, True, False])).tolist()
    [2.0, 2.0, 8.0, 5.0]
    """
    labels, names = np.asarray(y, np.float64), np.asarray(species, dtype=str)
    if not train.any():
        raise InputError("there is no training sample to take the means of species from.")
    known, index = np.unique(names[train], return_inverse=True)
    means = np.bincount(index, labels[train]) / np.bincount(index)
    place = np.minimum(np.searchsorted(known, names), len(known) - 1)
    return np.where(known[place] == names, means[place], means.mean())


def checked_pair(y: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return labels and predictions as float64, or refuse them.

    Parameters
    ----------
    y, prediction
        (sample,) float.

    Returns
    -------
    y, prediction : numpy.ndarray

    Raises
    ------
    InputError
        They differ in length.
    NonFiniteError
        One holds NaN or infinity.
    """
    truth, said = np.asarray(y, np.float64), np.asarray(prediction, np.float64)
    if truth.shape != said.shape or truth.ndim != 1:
        raise InputError(f"labels are {truth.shape} and predictions {said.shape}; (sample,) of one length is wanted.")
    for name, values in (("labels", truth), ("predictions", said)):
        if not np.isfinite(values).all():
            raise NonFiniteError(f"{int((~np.isfinite(values)).sum()):,} of {len(values):,} {name} are not finite.")
    return truth, said
