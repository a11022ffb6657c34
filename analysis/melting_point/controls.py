"""Controls of the melting-point study: labels whose answer is known, other species, runs, and both models together."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.melting_point.data import PROTEIN, TRUE
from analysis.melting_point.design import CATEGORIES, SPECIES, augmentation
from analysis.melting_point.inference import DRAWS, TOTAL, WITHIN, contrast_table, estimate, resample
from analysis.melting_point.measures import species_means
from analysis.melting_point.partition import MEAN, SEEDS, fit_designs, score_table
from analysis.melting_point.regression import Block
from analysis.melting_point.species import THERMOPHILE, plain_features, study_growth
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData
    from analysis.melting_point.inference import Draws
    from analysis.melting_point.partition import Fitted

SHUFFLED_WITHIN = "labels shuffled within species"
SHUFFLED = "labels shuffled"
OFFSETS = "random offset of each species"
CONSTANT = "constant features"
CONTROLS = {
    SHUFFLED_WITHIN: "R2 within species is not above 0: no protein has its own label",
    SHUFFLED: "R2 is not above 0, in total and within species",
    OFFSETS: "R2 within species is not above 0, whatever R2 in total: labels say nothing but the species",
    CONSTANT: "R2 is 0 or a little below",
}
"""What must come out, by control."""

_ROUNDING = 1e-6
"""What constant features predict differs from the mean by no more."""


def shuffled_within(values: NDArray[np.float64], species: NDArray[np.str_], seed: int = 0) -> NDArray[np.float64]:
    """Shuffle values among the samples of each species.

    Parameters
    ----------
    values
        (sample,) float.
    species
        (sample,) names.
    seed
        Of the random numbers.

    Returns
    -------
    numpy.ndarray
        (sample,) float64.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(values)), species))
    shuffled = np.empty(len(values))
    shuffled[np.argsort(species, kind="stable")] = values[order]
    return shuffled


def species_offsets(species: NDArray[np.str_], seed: int = 0) -> NDArray[np.float64]:
    """Return a random number of each species, the same wherever it occurs.

    Parameters
    ----------
    species
        (sample,) names.
    seed
        Part of what the numbers are drawn from.

    Returns
    -------
    numpy.ndarray
        (sample,) float64, standard normal over species.
    """
    names, index = np.unique(species, return_inverse=True)
    words = [hashlib.sha256(f"{seed}|{name}".encode()).digest() for name in names]
    drawn = [np.random.default_rng(int.from_bytes(word[:8], "little")).standard_normal() for word in words]
    return np.array(drawn)[index]


def control_labels(data: StudyData, *, seed: int = 0) -> dict[str, StudyData]:
    """Return the studies of all controls.

    Parameters
    ----------
    data
        The study.
    seed
        Of shuffles and offsets.

    Returns
    -------
    dict
        Name of `CONTROLS` -> study. Training and test labels are shuffled apart, so that each part keeps its own.
        Offsets have the spread of the labels, and what labels differ by within species is shuffled there.
    """
    y, within, whole = data.y, data.y.copy(), data.y.copy()
    for part in (data.train, data.test):
        within[part] = shuffled_within(y[part], data.species[part], seed)
        whole[part] = np.random.default_rng(seed).permutation(y[part])
    deviation = within - species_means(within, data.species, data.train)
    offsets = y.mean() + y.std() * species_offsets(data.species, seed) + deviation
    ones = {name: np.ones((len(y), 4)) for name in plain_features(data)}
    return {
        SHUFFLED_WITHIN: data.with_y(within),
        SHUFFLED: data.with_y(whole),
        OFFSETS: data.with_y(offsets),
        CONSTANT: data._replace(features=ones, by_seed={}),
    }


def control_table(
    data: StudyData, *, features: Sequence[str] | None = None, seed: int = 0, draws: int = DRAWS
) -> pd.DataFrame:
    """Run the regressions on labels, or features, that cannot say anything.

    Parameters
    ----------
    data
        The study.
    features
        Names of features, default all but those in windows and transplants.
    seed
        Of shuffles and offsets, default 0.
    draws
        Of the bootstrap over groups of test samples, default 2,000.

    Returns
    -------
    pandas.DataFrame
        control, features (each alone, and with species beside it), r2, low, high, r2_within, within_low, within_high,
        over_species, over_mean (lower ends of the intervals of how much the R2 within species exceeds that of the means
        of species, and of the mean of all), expected (what must come out), passed: one of the two is not above 0. Where
        species do not differ, the mean of all is the better prediction, and R2 within species a little above 0.

    Raises
    ------
    InputError
        There are no features of a name.
    """
    import pandas as pd

    names = plain_features(data) if features is None else list(features)
    rows = []
    for control, study in control_labels(data, seed=seed).items():
        made: dict[str, list[Block]] = {MEAN: [], SPECIES: augmentation(study, [SPECIES])}
        for name in names:
            made[name] = [Block(study.feature(name))]
            made[f"{name}+{SPECIES}"] = [*made[name], *made[SPECIES]]
        drawn = _drawn(study, made, (0,), draws)[1]
        rows += [{"control": control, "features": name, **_control_row(drawn, name)} for name in list(made)[2:]]
    table = pd.DataFrame(rows)
    table["expected"] = table["control"].map(CONTROLS)
    table["passed"] = (table[["over_species", "over_mean"]] <= _ROUNDING).any(axis=1)
    return table


def _control_row(drawn: Draws, name: str) -> dict[str, float]:
    """Return R2 of a prediction, and by how much it exceeds those that know no sequence."""
    total, within = (estimate(drawn, {name: 1}, measure) for measure in (TOTAL, WITHIN))
    over = [estimate(drawn, {name: 1, other: -1}, WITHIN).low for other in (SPECIES, MEAN)]
    return {
        "r2": total.estimate,
        "low": total.low,
        "high": total.high,
        "r2_within": within.estimate,
        "within_low": within.low,
        "within_high": within.high,
        "over_species": over[0],
        "over_mean": over[1],
    }


def mesophiles(data: StudyData, *, growth: Mapping[str, float] | None = None) -> StudyData:
    """Return the study of the species that do not live in heat.

    Parameters
    ----------
    data
        The study.
    growth
        See `analysis.melting_point.species.study_growth`.

    Returns
    -------
    StudyData
        Samples of species that grow best below 50 degrees Celsius; every analysis runs on it as on any other.

    Raises
    ------
    InputError
        The growth temperature of a species is not known, or no training or test samples are left.
    """
    known = study_growth(data, growth)
    if np.isnan(known).any():
        names = ", ".join(np.unique(data.species[np.isnan(known)])[:5])
        raise InputError(
            f"the temperature at which these species grow best is not known: {names}. Give it (growth=, or a column "
            "'growth' of the samples)."
        )
    kept = known < THERMOPHILE
    if not (kept & data.train).any() or not (kept & data.test).any():
        raise InputError(
            f"no training or test samples are left of species that grow best below {THERMOPHILE:g} degrees."
        )
    return data.rows(kept)


def mesophile_table(
    data: StudyData,
    *,
    growth: Mapping[str, float] | None = None,
    seeds: Sequence[int] = SEEDS,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Score species means, and each embedding alone and with species, with and without species that live in heat.

    Parameters
    ----------
    data
        The study.
    growth
        See `mesophiles`.
    seeds
        Of the folds of the regressions, default five.
    draws
        Of the bootstrap over groups of test samples, default 2,000.

    Returns
    -------
    pandas.DataFrame
        set (``"all species"``, ``"mesophiles"``), species (how many), and the columns of
        `analysis.melting_point.partition.score_table`.

    Raises
    ------
    InputError
        As for `mesophiles`; or no species lives in heat, so that there is nothing to compare.
    """
    import pandas as pd

    cool = mesophiles(data, growth=growth)
    if len(cool.samples) == len(data.samples):
        raise InputError(f"all species grow best below {THERMOPHILE:g} degrees: the whole study is one of mesophiles.")
    parts = []
    for name, study in (("all species", data), ("mesophiles", cool)):
        made = {SPECIES: augmentation(study, [SPECIES])}
        for feature in plain_features(study):
            made[feature] = [Block(study.feature(feature))]
            made[f"{feature}+{SPECIES}"] = [*made[feature], *made[SPECIES]]
        fitted, drawn = _drawn(study, made, seeds, draws)
        table = score_table(study, fitted, drawn)
        table.insert(0, "set", name)
        table.insert(1, "species", len(np.unique(study.species)))
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def condition_table(
    data: StudyData,
    *,
    columns: Sequence[str] = CATEGORIES[1:],
    features: Sequence[str] = (PROTEIN, TRUE),
    seeds: Sequence[int] = SEEDS,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Add the run or the condition of a measurement beside the species: what that explains is no property of proteins.

    Parameters
    ----------
    data
        The study, with one of these columns in its sample table.
    columns
        Default ``run`` and ``condition``; those that the study lacks are left out.
    features
        Names of features, default those of proteins and true coding sequences.
    seeds
        Of the folds of the regressions, default five.
    draws
        Of the bootstrap over groups of test samples, default 2,000.

    Returns
    -------
    pandas.DataFrame
        For species alone and with each features: contrast (``"<name>: +run"``), and the other columns of
        `analysis.melting_point.inference.contrast_table`.

    Raises
    ------
    InputError
        The study has none of the columns, or no features of a name.
    """
    there = [name for name in columns if name in data.samples]
    if not there:
        raise InputError(
            f"the study has no column {' or '.join(columns)}, only {', '.join(map(str, data.samples.columns))}: join "
            "them to the samples when the task is made."
        )
    species = augmentation(data, [SPECIES])
    bases = {SPECIES: species, **{f"{name}+{SPECIES}": [Block(data.feature(name)), *species] for name in features}}
    made, contrasts = dict(bases), {}
    for base, blocks in bases.items():
        for column in there:
            made[f"{base}+{column}"] = [*blocks, *augmentation(data, [f"{SPECIES}+{column}"])]
            contrasts[f"{base}: +{column}"] = {f"{base}+{column}": 1.0, base: -1.0}
    return contrast_table(_drawn(data, made, seeds, draws)[1], contrasts)


def joint_table(
    data: StudyData, *, coding: str = TRUE, seeds: Sequence[int] = SEEDS, draws: int = DRAWS
) -> pd.DataFrame:
    """Put the embeddings of protein and coding sequence side by side, with the species held fixed.

    Boshar et al. 2024 (Bioinformatics 40:btae529) find the two models to complement each other; with species in all
    regressions, that they both know species cannot be the reason.

    Parameters
    ----------
    data
        The study.
    coding
        Features of coding sequences, default ``"true"``.
    seeds
        Of the folds of the regressions, default five.
    draws
        Of the bootstrap over groups of test samples, default 2,000.

    Returns
    -------
    pandas.DataFrame
        Contrasts ``"coding beside protein"`` (both less the protein alone), ``"protein beside coding"`` and ``"coding
        against protein"``, all with species; columns of `analysis.melting_point.inference.contrast_table`.

    Raises
    ------
    InputError
        There are no such features.
    """
    species = augmentation(data, [SPECIES])
    protein, other = Block(data.feature(PROTEIN)), Block(data.feature(coding))
    made = {"protein": [protein, *species], "coding": [other, *species], "both": [protein, other, *species]}
    contrasts = {
        "coding beside protein": {"both": 1.0, "protein": -1.0},
        "protein beside coding": {"both": 1.0, "coding": -1.0},
        "coding against protein": {"coding": 1.0, "protein": -1.0},
    }
    return contrast_table(_drawn(data, made, seeds, draws)[1], contrasts)


def _drawn(
    data: StudyData, made: Mapping[str, Sequence[Any]], seeds: Sequence[int], draws: int
) -> tuple[Fitted, Draws]:
    """Fit regressions, predict the test samples, and draw groups of them."""
    fitted = fit_designs(data, made, seeds=seeds)
    centre = species_means(data.y, data.species, data.train)[data.test]
    groups = data.group[data.test]
    return fitted, resample(data.y[data.test], fitted.predictions, species_mean=centre, groups=groups, draws=draws)
