"""What embeddings say of melting points once nothing linear in them tells the species.

Least-squares concept erasure (LEACE): the affine change of an embedding, smallest in the mean square, after which no
linear model can tell a concept better than from its mean. Source: Belrose et al. 2023, NeurIPS, arXiv:2306.03819.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.melting_point.design import SPECIES, augmentation
from analysis.melting_point.inference import DRAWS, TOTAL, WITHIN, estimate, resample
from analysis.melting_point.measures import species_means
from analysis.melting_point.partition import fit_designs
from analysis.melting_point.regression import Block
from analysis.melting_point.scaling import standardise
from analysis.melting_point.species import decode_species, majority, plain_features
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from analysis.melting_point.data import StudyData
    from analysis.melting_point.inference import Draws

_LEAST = 1e-7
"""Singular values of the whitened cross-covariance below this are rounding noise. The library's own threshold, 0.01,
keeps species of fewer than about one in a thousand training samples in the embedding."""


def erase(values: NDArray[np.floating], concept: ArrayLike, train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Take everything linear about a concept out of features.

    Parameters
    ----------
    values
        (sample, channel) float.
    concept
        (sample,) names, such as species; those of samples that are not for training are not looked at.
    train
        (sample,) bool, the samples that the erasure is fitted to.

    Returns
    -------
    numpy.ndarray
        (sample, channel that varies) float64: all samples, standardised over the training samples and erased. Channels
        that are constant but for rounding noise are left out first: scaled to unit variance, the noise would tell the
        species again.

    Raises
    ------
    InputError
        The training samples have fewer than two names, or the package concept-erasure is not installed.
    """
    names, member = np.unique(np.asarray(concept)[train].astype(str), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"erasing a concept takes two names or more among the training samples; there is {names}.")
    fitter = _fitter()
    import torch

    inside, every = standardise(values[train], values)
    onehot = np.eye(len(names))[member]
    # Holding the variance down, which the library does for models that go on computing, would let species back in.
    found = fitter.fit(torch.from_numpy(inside), torch.from_numpy(onehot), svd_tol=_LEAST, constrain_cov_trace=False)
    erased: NDArray[np.float64] = found.eraser(torch.from_numpy(every)).numpy()
    return erased


def erase_species(data: StudyData, *, features: Sequence[str] | None = None) -> StudyData:
    """Return a study whose features tell nothing linear about the species.

    Parameters
    ----------
    data
        The study. The erasure is fitted to its training samples.
    features
        Names of features to keep, default all but those in windows and transplants.

    Returns
    -------
    StudyData
        With these features only, standardised and erased; every analysis runs on it as on any other.

    Raises
    ------
    InputError
        As for `erase`, or there are no features of a name.
    """
    names = plain_features(data) if features is None else features
    erased = {name: erase(data.feature(name), data.species, data.train) for name in names}
    return data._replace(features=erased, by_seed={})


def species_erased(
    data: StudyData,
    *,
    features: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Predict melting points from embeddings before and after species are erased.

    What is left above 0 is not the species; accuracy of telling species must fall to that of the most frequent one, or
    nothing can be concluded.

    Parameters
    ----------
    data
        The study.
    features
        Names of features, default all but those in windows and transplants.
    seeds
        Of the folds of the regressions, default one.
    draws
        Of the bootstrap over groups of test samples, default 2,000.

    Returns
    -------
    pandas.DataFrame
        features, accuracy_before, accuracy_after (of telling the species of test samples), majority, r2_before,
        r2_after with low and high (95 % interval), within_before, within_after with within_low and within_high (R2
        within species, with the species beside the features: what erasing took from within species is the difference),
        channels (that vary), n_test.

    Raises
    ------
    InputError
        As for `erase_species`.
    """
    import pandas as pd

    names = plain_features(data) if features is None else list(features)
    studies = {"before": data, "after": erase_species(data, features=names)}
    species = augmentation(data, [SPECIES])
    made = {}
    for when, one in studies.items():
        for name in names:
            made[f"{name} {when}"] = [Block(one.features[name])]
            made[f"{name}+{SPECIES} {when}"] = [Block(one.features[name]), *species]
    predictions = fit_designs(data, made, seeds=seeds).predictions
    centre = species_means(data.y, data.species, data.train)[data.test]
    groups = data.group[data.test]
    drawn = resample(data.y[data.test], predictions, species_mean=centre, groups=groups, draws=draws)
    rows = [
        {
            "features": name,
            **{f"accuracy_{when}": _accuracy(data, one.features[name]) for when, one in studies.items()},
            "majority": majority(data),
            **_around("r2", "", drawn, name, TOTAL),
            **_around("within", "within_", drawn, f"{name}+{SPECIES}", WITHIN),
            "channels": studies["after"].features[name].shape[1],
            "n_test": int(data.test.sum()),
        }
        for name in names
    ]
    return pd.DataFrame(rows)


def _accuracy(data: StudyData, features: NDArray[np.floating]) -> float:
    return float(decode_species(features, data.species, data.train, data.test).right.mean())


def _around(head: str, ends: str, drawn: Draws, name: str, measure: str) -> dict[str, float]:
    """Return R2 before and after, and the interval of the latter, by the names of columns."""
    before, after = (estimate(drawn, {f"{name} {when}": 1}, measure) for when in ("before", "after"))
    return {
        f"{head}_before": before.estimate,
        f"{head}_after": after.estimate,
        f"{ends}low": after.low,
        f"{ends}high": after.high,
    }


def _fitter() -> Any:
    """Return the class that fits the erasure, or say what is missing."""
    try:
        with warnings.catch_warnings():
            # The package compiles a function in a way that torch will drop; nothing here runs it.
            warnings.simplefilter("ignore", DeprecationWarning)
            from concept_erasure import LeaceFitter
    except ImportError as error:
        raise InputError(
            f"erasing species needs the package concept-erasure ({error}): pip install 'embedstore[proteins]'."
        ) from error
    return LeaceFitter
