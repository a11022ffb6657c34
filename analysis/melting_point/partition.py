"""How much of a prediction is the species, codon usage within it, and the order of codons.

Differences of R2 between regressions that are tested on the same samples, with folds of the same samples: what the
species adds to the protein's embedding, what permuted coding sequences add to both, and what their true order adds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.data import PERMUTED, PROTEIN, TRANSPLANTS, TRUE, UNIFORM
from analysis.melting_point.design import SPECIES, augmentation
from analysis.melting_point.inference import MEASURES, estimate
from analysis.melting_point.measures import measures, species_means
from analysis.melting_point.regression import PENALTIES, RATIOS, Block, fit_predict
from embedstore.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData
    from analysis.melting_point.inference import Draws
    from analysis.melting_point.regression import Fit

logger = logging.getLogger(__name__)

_SLIGHT = 1e-4
"""Errors of two penalties are alike that differ by a smaller share of the largest."""

MEAN = "mean"
"""Name of the prediction that is the mean of the training labels."""

SEEDS = tuple(range(5))
"""Seeds of the assignment of groups to folds, by default."""


class Term(NamedTuple):
    """A term of the partition.

    Attributes
    ----------
    name
        As in tables.
    full, reduced
        The predictions whose difference it is.
    meaning
        In words.
    """

    name: str
    full: str
    reduced: str
    meaning: str


def joined(*parts: str) -> str:
    """Return the name of the regression on some features, species among them.

    Parameters
    ----------
    *parts
        Names of features, and ``"species"``, in the order of `designs`.

    Returns
    -------
    str
    """
    return "+".join(parts)


PROTEIN_SPECIES = joined(PROTEIN, SPECIES)

TERMS = (
    Term("d_species", PROTEIN_SPECIES, PROTEIN, "the species, beside the protein's embedding"),
    Term(
        "d_comp",
        joined(PROTEIN_SPECIES, PERMUTED),
        PROTEIN_SPECIES,
        "codon usage of the gene, within the species: what permuting the codons keeps",
    ),
    Term(
        "d_local",
        joined(PROTEIN_SPECIES, TRUE),
        joined(PROTEIN_SPECIES, PERMUTED),
        "the order of the codons: what permuting them takes away",
    ),
    Term(
        "d_gLMprotein",
        joined(PROTEIN_SPECIES, UNIFORM),
        PROTEIN_SPECIES,
        "what a model of coding sequences adds from the amino acids alone",
    ),
    Term(
        "d_usage",
        joined(PROTEIN_SPECIES, PERMUTED),
        joined(PROTEIN_SPECIES, UNIFORM),
        "codon usage of the gene, within the species, where the model sees the amino acids both times",
    ),
    Term(
        "pair_local",
        joined(TRUE, SPECIES),
        joined(PERMUTED, SPECIES),
        "the order of the codons, without the protein's embedding",
    ),
)
"""The terms, and the predictions they are differences of."""


class Fitted(NamedTuple):
    """Predictions of the test samples.

    Attributes
    ----------
    predictions
        Name -> (seed, test sample) float64.
    penalties
        Name -> fits, one for each seed; empty for a mean.
    """

    predictions: dict[str, NDArray[np.float64]]
    fits: dict[str, list[Fit]]


def designs(data: StudyData, *, alone: bool = True) -> dict[str, list[Block]]:
    """Return the columns of all regressions of the partition.

    Parameters
    ----------
    data
        The study, with features of the protein and of true and permuted coding sequences.
    alone
        Have every strategy alone and with species, too, default True.

    Returns
    -------
    dict of str to list of Block
        Names are those of features, and ``species``, joined by ``+``; terms of strategies that the study lacks are left
        out, and so are transplants, which are predicted but never fitted to.

    Raises
    ------
    InputError
        The features of the protein, or of the true or the permuted coding sequences, are missing.
    """
    protein, species = Block(data.feature(PROTEIN)), augmentation(data, [SPECIES])
    coding = {
        name: Block(values)
        for name, values in data.features.items()
        if name != PROTEIN and not name.startswith(TRANSPLANTS)
    }
    for name in (TRUE, PERMUTED):
        data.feature(name)
    made: dict[str, list[Block]] = {
        MEAN: [],
        SPECIES: species,
        PROTEIN: [protein],
        PROTEIN_SPECIES: [protein, *species],
    }
    for name in (TRUE, PERMUTED):
        made[joined(PROTEIN, name)] = [protein, coding[name]]
    for name in (TRUE, PERMUTED, UNIFORM):
        if name in coding:
            made[joined(PROTEIN_SPECIES, name)] = [protein, *species, coding[name]]
    for name, block in coding.items() if alone else ():
        made[name] = [block]
        made[joined(name, SPECIES)] = [block, *species]
    return made


def fit_designs(
    data: StudyData,
    made: Mapping[str, Sequence[Block]],
    *,
    seeds: Sequence[int] = SEEDS,
    penalties: Sequence[float] = PENALTIES,
    ratios: Sequence[float] = RATIOS,
    folds: int = 5,
    progress: bool = False,
) -> Fitted:
    """Fit regressions to the training samples and predict the test samples.

    Parameters
    ----------
    data
        The study.
    made
        Name -> columns; none for the mean of the training labels.
    seeds, penalties, ratios, folds
        See `analysis.melting_point.regression.fit_ridge`; groups are those of the study.
    progress
        Show a progress bar.

    Returns
    -------
    Fitted
    """
    predictions, fits = {}, {}
    many = int(data.test.sum())
    with progress_bar(None, "fitting", show=progress, total=len(made), unit="regression") as bar:
        for name, blocks in made.items():
            if not blocks:
                predictions[name] = np.full((len(seeds), many), data.y[data.train].mean())
            else:
                predictions[name], fits[name] = fit_predict(
                    blocks,
                    data.y,
                    data.train,
                    data.test,
                    groups=data.group,
                    penalties=penalties,
                    ratios=ratios,
                    folds=folds,
                    seeds=seeds,
                )
                _warn(name, fits[name])
            bar.update(1)
    return Fitted(predictions, fits)


def _warn(name: str, fits: Sequence[Fit]) -> None:
    """Say so where a better penalty may lie below all there are; above them there is nothing left to shrink."""
    smallest = [fit.penalty for fit in fits if len(fit.errors) > 1 and _falls(fit.errors)]
    if smallest:
        logger.warning("%s: the smallest penalty, %g, predicts best; give smaller ones.", name, smallest[0])


def _falls(errors: NDArray[np.float64]) -> bool:
    """Return whether the smallest penalty is the best and the error still falls there: few channels need none."""
    return bool(np.argmin(errors) == 0 and errors[1] - errors[0] > _SLIGHT * errors.max())


def score_table(data: StudyData, fitted: Fitted, drawn: Draws) -> pd.DataFrame:
    """Return all measures of every prediction, with intervals of R2.

    Parameters
    ----------
    data
        The study.
    fitted
        From `fit_designs`.
    drawn
        Draws of the same predictions; see `analysis.melting_point.inference.resample`.

    Returns
    -------
    pandas.DataFrame
        name, r2_within, within_low, within_high, r2 (total), low, high, r2_pearson, r2_oos, spearman, mae, rmse, n,
        flag, penalty and ratio (medians over seeds; the ratio is that of the last penalised block, NaN where there is
        only one), r2_deviation (over seeds).
    """
    import pandas as pd

    y, centre = data.y[data.test], species_means(data.y, data.species, data.train)[data.test]
    mean = float(data.y[data.train].mean())
    rows = []
    for name, values in fitted.predictions.items():
        every = [measures(y, one, train_mean=mean, species_mean=centre) for one in values]
        flags = sorted({one.flag for one in every} - {""})
        numbers = pd.DataFrame([one._asdict() for one in every]).drop(columns="flag")
        within, total = (estimate(drawn, {name: 1}, measure) for measure in MEASURES)
        fits = fitted.fits.get(name, ())
        rows.append(
            {
                "name": name,
                **numbers.mean().to_dict(),
                "n": len(y),
                "flag": "; ".join(flags),
                "within_low": within.low,
                "within_high": within.high,
                "low": total.low,
                "high": total.high,
                "penalty": _median([float(fit.penalty) for fit in fits]),
                "ratio": _median([float(fit.ratio[-1]) for fit in fits if len(fit.ratio) > 1]),
                "r2_deviation": float(numbers["r2"].std(ddof=0)),
            }
        )
    head = ["name", "r2_within", "within_low", "within_high", "r2", "low", "high"]
    table = pd.DataFrame(rows)
    return table[[*head, *(column for column in table if column not in head)]]


def _median(values: Sequence[float]) -> float:
    """Return the median, NaN of none."""
    return float(np.median(values)) if values else np.nan


def partition_contrasts(drawn: Draws) -> dict[str, dict[str, float]]:
    """Return the terms whose predictions are all there, as contrasts.

    Parameters
    ----------
    drawn
        Draws of the predictions.

    Returns
    -------
    dict
        Name of the term -> prediction -> weight.
    """
    known = set(drawn.names)
    return {term.name: {term.full: 1.0, term.reduced: -1.0} for term in TERMS if {term.full, term.reduced} <= known}


def window_curve(drawn: Draws) -> pd.DataFrame:
    """Return the R2 that is lost by permuting codons inside windows of more and more codons.

    Parameters
    ----------
    drawn
        Draws, with predictions such as ``"window_permuted(8)+species"``.

    Returns
    -------
    pandas.DataFrame
        One row for each measure and width, ascending: measure, width (codons; 1 is the true sequence, infinity
        ``permuted``), estimate, low, high, p of the loss R2(true + species) - R2(window + species), and step, step_low,
        step_high, the loss less that of the width before. No rows where the study has no windows.
    """
    import pandas as pd

    names = {1.0: TRUE, **_windows(drawn.names), np.inf: PERMUTED}
    columns = ["measure", "width", "estimate", "low", "high", "p", "step", "step_low", "step_high"]
    if len(names) == 2:
        return pd.DataFrame(columns=columns).astype(dict.fromkeys(columns[1:], np.float64))
    rows = []
    for measure in MEASURES:
        before = TRUE
        for width, name in sorted(names.items()):
            # Of a prediction and itself the weights add up to 0.
            loss = estimate(drawn, _difference(TRUE, name), measure)
            step = estimate(drawn, _difference(before, name), measure)
            rows.append([measure, width, *loss, step.estimate, step.low, step.high])
            before = name
    return pd.DataFrame(rows, columns=columns)


def _difference(one: str, other: str) -> dict[str, float]:
    """Return one strategy with species less another."""
    weights = {joined(one, SPECIES): 1.0}
    weights[joined(other, SPECIES)] = weights.get(joined(other, SPECIES), 0.0) - 1.0
    return weights


def _windows(names: Sequence[str]) -> dict[float, str]:
    """Return the strategies that permute in windows, by width."""
    head, tail = "window_permuted(", f")+{SPECIES}"
    found = [
        name.removeprefix(head).removesuffix(tail) for name in names if name.startswith(head) and name.endswith(tail)
    ]
    return {float(width): f"{head}{width})" for width in found}
