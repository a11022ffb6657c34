"""Codon transplants: what a model says of a protein that is written with the codons of another species.

The protein stays the same. If the predicted melting point moves as far as the means of the two species lie apart, the
model reads the species from the codons and answers with its mean (slope 1); if it stays, it does not (slope 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.melting_point.data import TRANSPLANTS, TRUE
from analysis.melting_point.design import sequences_of
from analysis.melting_point.measures import species_means
from analysis.melting_point.regression import Block, fit_ridge, predict
from embedstore.errors import InputError
from probes.intervals import bootstrap_sums, interval
from probes.metrics import ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData

RECODINGS = 10
"""Recodings that are averaged in each arm: one alone moves a prediction by more than its codon usage does."""

LEAST_SPREAD = 0.2
"""A slope is refused where the standard deviation of the means of species, over that of the melting points, is smaller:
it would be the ratio of two noises."""

ALL = "all"
"""Name of the row of all donors."""

_HEAD, _TAIL = TRANSPLANTS, ")"


def transplant_features(
    data: StudyData,
    encode: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating]],
    *,
    recodings: int = RECODINGS,
    table: int = 1,
    donors: Sequence[str] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Recode test samples with the codon usage of each species and embed them.

    A store can hold the same: ``embedstore recode TASK --strategy "transplant(SPECIES)" --seeds 10``, embedded and read
    with `analysis.melting_point.reading.read_study`.

    Parameters
    ----------
    data
        The study, with coding sequences.
    encode
        From coding sequences, as uint8 letters, to (sequence, channel) float: what made its features of true sequences.
    recodings
        Of each sample by each donor, averaged; default 10.
    table
        Genetic code, default 1.
    donors
        Species, default all that have training samples. Codon usage is that of the training samples.

    Returns
    -------
    dict
        Name of the donor -> (test sample, channel) float64. A sample's own species is the arm that it is held against.

    Raises
    ------
    InputError
        The study has no coding sequences, or as for `embedstore.coding.recode`.
    """
    from embedstore.coding import codon_usage, recode

    cds = sequences_of(data, "cds")
    inside = np.flatnonzero(data.train).tolist()
    usage = codon_usage([cds[place] for place in inside], data.species[inside].tolist(), table=table)
    tested = np.flatnonzero(data.test).tolist()
    ids = data.samples["id"].to_numpy(dtype=str)[tested].tolist()
    outside = [cds[place] for place in tested]
    made: dict[str, NDArray[np.float64]] = {}
    for donor in usage.index if donors is None else donors:
        every = (
            recode(outside, f"{_HEAD}{donor}{_TAIL}", ids=ids, seed=seed, table=table, usage=usage)
            for seed in range(recodings)
        )
        made[str(donor)] = np.mean([np.asarray(encode(one), np.float64) for one in every], axis=0)
    return made


def transplant(
    data: StudyData,
    *,
    features: str = TRUE,
    arms: Mapping[str, NDArray[np.floating]] | None = None,
    seeds: Sequence[int] = (0,),
    draws: int = 2000,
) -> pd.DataFrame:
    """Regress the change of predictions under transplanted codons on the difference between species.

    The change is the prediction with the donor's codons less that with the codons of the protein's own species, both
    recoded, so that what is lost with the order of codons is lost in both.

    Parameters
    ----------
    data
        The study.
    features
        What the prediction is fitted to, default ``"true"``, over the training samples.
    arms
        Donor -> (test sample, channel) or (sample, channel) float, from `transplant_features`. Default: the features of
        the study that are called ``"transplant(<species>)"``.
    seeds
        Of the folds of the regression, default one; predictions are averaged over them.
    draws
        Of the bootstrap over groups of test samples, default 2,000.

    Returns
    -------
    pandas.DataFrame
        One row for all donors (``"all"``) and one for each: donor, slope (least squares with an intercept), low, high
        (95 % interval), change (mean of the absolute change, degrees Celsius), shift (mean change), expected (mean of
        the difference between the means of the species), n (pairs of a test sample and a donor), spread (standard
        deviation of species means over that of melting points, training samples), note (why there is no slope).

    Raises
    ------
    InputError
        There are fewer than two arms, an arm has another shape, or no test sample's own species is among the arms.
    """
    import pandas as pd

    found = _changes(data, features, arms, seeds)
    spread = _spread(data)
    donors = [ALL, *np.unique(found.donor).tolist()]
    return pd.DataFrame([{"donor": donor, **_row(found, donor, spread, draws)} for donor in donors])


class _Changes(NamedTuple):
    """Changes of predictions: one of each test sample and each donor that is not its own species."""

    donor: NDArray[np.str_]
    group: NDArray[np.int64]
    change: NDArray[np.float64]
    expected: NDArray[np.float64]


def _changes(
    data: StudyData, features: str, arms: Mapping[str, NDArray[np.floating]] | None, seeds: Sequence[int]
) -> _Changes:
    """Predict every arm, and hold it against the arm of each sample's own species."""
    given = _arms(data) if arms is None else {name: _tested(data, name, values) for name, values in arms.items()}
    if len(given) < 2:
        raise InputError(
            f"a transplant takes arms of two species or more; there are {len(given)}. Recode with the strategy "
            f'"{_HEAD}SPECIES{_TAIL}" and embed, or give arms from transplant_features.'
        )
    inside = [Block(data.feature(features)[data.train])]
    fits = fit_ridge(inside, data.y[data.train], groups=data.group[data.train], seeds=seeds)
    said = {name: np.mean([predict(fit, [Block(values)]) for fit in fits], axis=0) for name, values in given.items()}
    species = data.species[data.test]
    own = np.full(len(species), np.nan)
    for name, values in said.items():
        own = np.where(species == name, values, own)
    known = ~np.isnan(own)
    if not known.any():
        raise InputError(
            f"arms are of {', '.join(sorted(given))}; test samples are of {', '.join(np.unique(species))}. Each needs "
            "the arm of its own species to be held against."
        )
    means = species_means(data.y, data.species, data.train)
    of_species = {name: float(means[data.species == name][0]) for name in given if (data.species == name).any()}
    group = np.unique(data.group[data.test], return_inverse=True)[1]
    parts = []
    for donor in (name for name in given if name in of_species):
        kept = known & (species != donor)
        expected = of_species[donor] - means[data.test][kept]
        parts.append((np.full(kept.sum(), donor), group[kept], (said[donor] - own)[kept], expected))
    return _Changes(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _arms(data: StudyData) -> dict[str, NDArray[np.floating]]:
    """Return the features of a study that are transplants, by donor."""
    return {
        name.removeprefix(_HEAD).removesuffix(_TAIL): values[data.test]
        for name, values in data.features.items()
        if name.startswith(_HEAD)
    }


def _tested(data: StudyData, name: str, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the test samples of an arm."""
    if len(values) == len(data.samples):
        return values[data.test]
    if len(values) != data.test.sum():
        raise InputError(
            f"the arm of {name!r} has {len(values):,} samples; the study has {len(data.samples):,}, "
            f"{int(data.test.sum()):,} of them for testing."
        )
    return values


def _spread(data: StudyData) -> float:
    """Return the deviation of the means of species over that of the labels, of the training samples."""
    means = species_means(data.y, data.species, data.train)[data.train]
    deviation = data.y[data.train].std()
    return float(means.std() / deviation) if deviation > 0 else 0.0


def _row(found: _Changes, donor: str, spread: float, draws: int) -> dict[str, float | int | str]:
    """Return the numbers of one donor, or of all."""
    kept = np.ones(len(found.donor), bool) if donor == ALL else found.donor == donor
    x, y, group = found.expected[kept], found.change[kept], found.group[kept]
    row: dict[str, float | int | str] = {
        "slope": np.nan,
        "low": np.nan,
        "high": np.nan,
        "change": float(np.abs(y).mean()),
        "shift": float(y.mean()),
        "expected": float(x.mean()),
        "n": len(x),
        "spread": spread,
        "note": "",
    }
    if spread < LEAST_SPREAD:
        return row | {
            "note": f"no slope: species means spread {spread:.2f} of the melting points, less than {LEAST_SPREAD}"
        }
    if np.ptp(x) < 1e-9:
        return row | {"note": "no slope: all differences between species are alike"}
    columns = np.column_stack([np.ones_like(x), x, y, x * x, x * y])
    sums: NDArray[Any] = np.zeros((int(group.max()) + 1, 5))
    np.add.at(sums, group, columns)
    # Without a sample, as for those of the donor itself, a group has nothing to draw.
    sums = sums[sums[:, 0] > 0]
    low, high = interval(bootstrap_sums(sums, _slope, draws=draws))
    return row | {"slope": float(_slope(sums.sum(axis=0)[None])[0]), "low": low, "high": high}


def _slope(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least-squares slope from rows of n, x, y, xx, xy."""
    n, x, y, xx, xy = sums.T
    return ratio(n * xy - x * y, n * xx - x * x)
