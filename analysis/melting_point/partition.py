"""How much of a prediction is the species, codon usage within it, and the order of codons.

Differences of R2 between regressions that are tested on the same samples, with folds of the same samples: what the
species adds to the protein's embedding, what permuted coding sequences add to both, and what their true order adds.
"""

from __future__ import annotations

import logging
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.data import PERMUTED, PROTEIN, TRANSPLANTS, TRUE, UNIFORM
from analysis.melting_point.design import SPECIES, augmentation
from analysis.melting_point.inference import MEASURES, estimate
from analysis.melting_point.measures import measures, species_means
from analysis.melting_point.regression import PENALTIES, Block, fit_predict
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


def _joined(*parts: str) -> str:
    return "+".join(parts)


PROTEIN_SPECIES = _joined(PROTEIN, SPECIES)

TERMS = (
    Term("d_species", PROTEIN_SPECIES, PROTEIN, "the species, beside the protein's embedding"),
    Term(
        "d_comp",
        _joined(PROTEIN_SPECIES, PERMUTED),
        PROTEIN_SPECIES,
        "codon usage of the gene, within the species: what permuting the codons keeps",
    ),
    Term(
        "d_local",
        _joined(PROTEIN_SPECIES, TRUE),
        _joined(PROTEIN_SPECIES, PERMUTED),
        "the order of the codons: what permuting them takes away",
    ),
    Term(
        "d_gLMprotein",
        _joined(PROTEIN_SPECIES, UNIFORM),
        PROTEIN_SPECIES,
        "what a model of coding sequences adds from the amino acids alone",
    ),
    Term(
        "d_usage",
        _joined(PROTEIN_SPECIES, PERMUTED),
        _joined(PROTEIN_SPECIES, UNIFORM),
        "codon usage of the gene, within the species, where the model sees the amino acids both times",
    ),
    Term(
        "pair_local",
        _joined(TRUE, SPECIES),
        _joined(PERMUTED, SPECIES),
        "the order of the codons, without the protein's embedding",
    ),
)
"""The terms, and the predictions they are differences of."""

PLAYERS = (PROTEIN, SPECIES, "composition", "local")
"""What `shapley` divides R2 between."""


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
        made[_joined(PROTEIN, name)] = [protein, coding[name]]
    for name in (TRUE, PERMUTED, UNIFORM):
        if name in coding:
            made[_joined(PROTEIN_SPECIES, name)] = [protein, *species, coding[name]]
    for name, block in coding.items() if alone else ():
        made[name] = [block]
        made[_joined(name, SPECIES)] = [block, *species]
    return made


def fit_designs(
    data: StudyData,
    made: Mapping[str, Sequence[Block]],
    *,
    seeds: Sequence[int] = SEEDS,
    penalties: Sequence[float] = PENALTIES,
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
    seeds, penalties, folds
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
        flag, penalty (median over seeds), r2_deviation (over seeds).
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
        penalties = [float(fit.penalty) for fit in fitted.fits.get(name, ())]
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
                "penalty": float(np.median(penalties)) if penalties else np.nan,
                "r2_deviation": float(numbers["r2"].std(ddof=0)),
            }
        )
    head = ["name", "r2_within", "within_low", "within_high", "r2", "low", "high"]
    table = pd.DataFrame(rows)
    return table[[*head, *(column for column in table if column not in head)]]


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


def shapley_contrasts() -> dict[str, dict[str, float]]:
    """Return the mean contribution of each of `PLAYERS` over the orders in which they can be added, as contrasts.

    The true order of codons can only be added to their composition, never taken without it: orders in which ``local``
    precedes ``composition`` do not exist, and 12 of the 24 are left. The four add up to the R2 of all less that of the
    mean.

    Returns
    -------
    dict
        Name of the player -> prediction -> weight.

    Notes
    -----
    Shapley value under precedence constraints: Faigle and Kern 1992, Int. J. Game Theory 21:249.
    """
    orders = [order for order in permutations(PLAYERS) if order.index("composition") < order.index("local")]
    found: dict[str, dict[str, float]] = {player: {} for player in PLAYERS}
    for order in orders:
        for place, player in enumerate(order):
            weights = found[player]
            for name, sign in ((_coalition(order[: place + 1]), 1), (_coalition(order[:place]), -1)):
                weights[name] = weights.get(name, 0.0) + sign / len(orders)
    return found


def _coalition(players: Sequence[str]) -> str:
    """Return the prediction that some players make."""
    coding = TRUE if "local" in players else PERMUTED if "composition" in players else None
    parts = [name for name in (PROTEIN, SPECIES) if name in players]
    if coding and parts == [SPECIES]:
        return _joined(coding, SPECIES)
    return _joined(*parts, *([coding] if coding else [])) or MEAN


def shapley_table(drawn: Draws) -> pd.DataFrame:
    """Return what each of `PLAYERS` contributes, with intervals; see `shapley_contrasts`.

    Parameters
    ----------
    drawn
        Draws of all predictions of the partition, those of each strategy alone included.

    Returns
    -------
    pandas.DataFrame
        player, measure, estimate, low, high, p.
    """
    import pandas as pd

    rows = [
        {"player": player, "measure": measure, **estimate(drawn, weights, measure)._asdict()}
        for measure in MEASURES
        for player, weights in shapley_contrasts().items()
    ]
    return pd.DataFrame(rows)


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
    weights = {_joined(one, SPECIES): 1.0}
    weights[_joined(other, SPECIES)] = weights.get(_joined(other, SPECIES), 0.0) - 1.0
    return weights


def _windows(names: Sequence[str]) -> dict[float, str]:
    """Return the strategies that permute in windows, by width."""
    head, tail = "window_permuted(", f")+{SPECIES}"
    found = [
        name.removeprefix(head).removesuffix(tail) for name in names if name.startswith(head) and name.endswith(tail)
    ]
    return {float(width): f"{head}{width})" for width in found}
