"""Linear probes that are solved rather than trained."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from embedstore.errors import InputError, did_you_mean
from probes.affine import LinearProbe, sample_parts
from probes.gram import Gram, checked_penalties, gram_sums, label_patterns, solve_ridge, squared_error
from probes.logistic import LogisticProbe
from probes.majority import MajorityProbe
from probes.metrics import check_metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from probes.dataset import ProbeData

__all__ = ["LogisticProbe", "MajorityProbe", "RidgeProbe", "fit_ridges"]

logger = logging.getLogger(__name__)

PENALTIES = tuple(10.0**power for power in range(-7, 5))
ALIKE = 1e-12
"""A target whose variance is a smaller share of its mean square has labels that are all alike."""


class RidgeProbe(LinearProbe):
    """Ridge regression on the labels: of each nucleotide, or on the mean over a bin or a sample.

    Classes become one target of 0 and 1 each, and the largest output is the prediction; the outputs of multilabel tasks
    estimate the 0 or 1 of each target. Solved exactly from sums (`probes.gram`). The penalty is the one with the
    highest share of explained variance (mean over targets) on validation samples, or else in cross-validation over
    samples in five parts, from the same sums.

    Parameters
    ----------
    penalties
        What to choose the penalty from: factors of the squared norm of the coefficients of standardised channels, where
        the error is a mean over positions, so that they do not depend on how many there are; scikit-learn's alpha
        divided by the number of positions. Default 1e-7 to 1e4 in factors of 10.
    scale
        Scale channels to unit variance (default).
    progress
        Show a progress bar, default True.

    Attributes
    ----------
    coefficient_, intercept_ : numpy.ndarray
        (channel, output) and (output,) float64, for rows as they are.
    penalty_ : float
        The chosen penalty.
    history_ : pandas.DataFrame
        One row per penalty: penalty; train_loss and valid_loss, mean squared errors (of classes, summed over the
        classes of a position); valid_r2, the mean share of explained variance that was compared. Without
        validation samples the last two are those of the cross-validation.
    """

    probabilities: ClassVar[bool] = False

    def __init__(self, penalties: tuple[float, ...] = PENALTIES, scale: bool = True, progress: bool = True) -> None:
        self.penalties = penalties
        self.scale = scale
        self.progress = progress

    def fit(self, data: ProbeData, valid: ProbeData | None = None) -> Self:
        """Fit.

        Parameters
        ----------
        data
            To fit to.
        valid
            To choose the penalty with; without it by cross-validation over the samples of `data`.

        Returns
        -------
        RidgeProbe
            Itself.

        Raises
        ------
        InputError
            There is no label, a penalty is out of range, or there is nothing to choose the penalty with.
        NonFiniteError
            A row holds NaN or infinity.
        """
        self._begin(data)
        data.check_apart(valid)
        if valid is None and len(data) < 2:
            raise InputError(f"{data!r}: choosing a penalty takes two samples or more, or validation samples.")
        if valid is not None:
            self._check_input(valid)
        groups = sample_parts(data) if valid is None else np.full(len(data), "train")
        patterns = label_patterns(*(part for part in (data, valid) if part is not None))
        sums = []
        for targets in patterns:
            grams = gram_sums(data, groups, targets, progress=self.progress)
            if valid is not None:
                grams |= gram_sums(valid, np.full(len(valid), "valid"), targets, progress=self.progress)
            sums.append((targets, grams))
        return self._solve(sums, sorted(set(groups.tolist())), ["valid"] if valid is not None else [])

    def _begin(self, data: ProbeData) -> None:
        """Note the data and refuse what cannot be fitted."""
        check_metric(data.record)
        checked_penalties(self.penalties)
        self._remember(data, 0)
        self.coefficient_ = np.zeros((data.width, len(self.names_)))
        self.intercept_ = np.zeros(len(self.names_))

    def _solve(
        self, sums: list[tuple[NDArray[np.int64], dict[str, Gram]]], train: Sequence[str], valid: Sequence[str]
    ) -> Self:
        """Choose the penalty and fit, from the sums of groups for each set of targets that are labelled alike."""
        shape = (len(self.penalties), len(self.names_))
        coefficient, intercept = np.zeros((shape[0], *self.coefficient_.shape)), np.zeros(shape)
        error, checked, variation = np.zeros(shape), np.zeros(shape), np.zeros(shape[1])
        labels = {"train": 0.0, "valid": 0.0}
        for targets, grams in sums:
            total, held = _total(grams, train), _total(grams, valid or train)
            if not total.n:
                logger.warning("no label to train on for %s", [self.names_[target] for target in targets])
                continue
            solved = solve_ridge(total, self._alphas(total), scale=self.scale)
            coefficient[:, :, targets], intercept[:, targets] = solved
            error[:, targets] = squared_error(total, *solved)
            if valid:
                checked[:, targets] = squared_error(held, *solved)
            else:
                checked[:, targets] = self._cross_validate(grams, train)
            alike = held.variance <= ALIKE * held.yy / max(held.n, 1)
            variation[targets] = np.where(alike, 0, held.variance * held.n)
            columns = 1 if self.record_.type == "class" else len(targets)
            labels["train"] += total.n * columns
            labels["valid"] += held.n * columns
        if not labels["train"]:
            raise InputError(f"{self._task}: no sample has a label; there is nothing to fit.")
        if not variation.any():
            where = "the validation samples" if valid else "the samples"
            raise InputError(
                f"{self._task}: explained variance is not defined on {where}: the labels of every target are all "
                "alike. Use other splits."
            )
        r2 = 1 - (checked[:, variation > 0] / variation[variation > 0]).mean(axis=1)
        best = int(np.argmax(r2))
        table = {"train_loss": error.sum(axis=1) / labels["train"], "valid_loss": checked.sum(axis=1) / labels["valid"]}
        self.history_ = pd.DataFrame({"penalty": self.penalties, **table, "valid_r2": r2})
        self.penalty_, self.best_epoch_ = float(self.penalties[best]), best + 1
        self.coefficient_, self.intercept_ = np.ascontiguousarray(coefficient[best]), intercept[best]
        return self

    @property
    def _task(self) -> str:
        return f"{self.data_description_.get('task', self.record_.name)}/{self.data_description_.get('model', 'rows')}"

    def _alphas(self, gram: Gram) -> NDArray[np.float64]:
        return np.asarray(self.penalties, np.float64) * gram.n

    def _cross_validate(self, grams: dict[str, Gram], groups: Sequence[str]) -> NDArray[np.float64]:
        """Return the squared errors of all groups, each predicted from the others, shape (penalty, target)."""
        error: Any = 0.0
        for held in groups:
            rest = _total(grams, [group for group in groups if group != held])
            error += squared_error(grams[held], *solve_ridge(rest, self._alphas(rest), scale=self.scale))
        return np.asarray(error)


def _total(grams: Mapping[str, Gram], names: Sequence[str]) -> Gram:
    """Add up the sums of some groups."""
    total = grams[names[0]]
    for name in names[1:]:
        total += grams[name]
    return total


def fit_ridges(
    data: ProbeData,
    roles: Sequence[Mapping[str, Sequence[str]]],
    *,
    split: ArrayLike,
    probe: RidgeProbe | None = None,
) -> list[RidgeProbe]:
    """Fit a ridge probe for each fold from one pass over the samples of all.

    Parameters
    ----------
    data
        The training and validation samples of all folds.
    roles
        For each fold, names of the splits to use as ``"train"`` and ``"valid"``; ``"test"`` must be others. A fold
        without ``"valid"`` is fitted for itself.
    split
        (sample,) name of the split of each, in the order of `data.samples`.
    probe
        Has the parameters, default those of a new `RidgeProbe`.

    Returns
    -------
    list of RidgeProbe
        Equal to those fitted to each fold alone, but for rounding (about 1e-12).

    Raises
    ------
    InputError
        A split has no samples here, or serves two roles in a fold.
    """
    made, names = probe or RidgeProbe(), np.asarray(split, dtype=str)
    known = set(names.tolist())
    for number, role in enumerate(roles):
        used = [*role["train"], *role.get("valid", ())]
        for name in used:
            if name not in known:
                raise InputError(f"{data!r} has no samples of split {name!r}.{did_you_mean(name, known)}")
        every = [*used, *role.get("test", ())]
        twice = sorted({name for name in every if every.count(name) > 1})
        if twice:
            raise InputError(f"fold {number}: splits {', '.join(twice)} serve twice; a fold shares no samples.")
    sums = [(targets, gram_sums(data, names, targets, progress=made.progress)) for targets in label_patterns(data)]
    found = []
    for role in roles:
        one: RidgeProbe = clone(made)
        if not role.get("valid"):
            found.append(one.fit(_of_splits(data, names, role["train"])))
            continue
        one._begin(_of_splits(data, names, role["train"]))  # noqa: SLF001 - same module
        found.append(one._solve(sums, role["train"], role["valid"]))  # noqa: SLF001
    return found


def _of_splits(data: ProbeData, names: NDArray[np.str_], splits: Sequence[str]) -> ProbeData:
    """Return the samples of some splits, described as if they had been taken from the store alone."""
    part = data[np.isin(names, list(splits))]
    if "splits" not in data.description:
        return part
    kept = {"samples": part.description["samples"]} if "samples" in data.description else {}
    plain = {key: value for key, value in part.description.items() if key != "samples"}
    return replace(part, description={**plain, "splits": list(splits), **kept})
