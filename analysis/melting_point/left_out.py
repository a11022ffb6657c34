"""Leave one species out: how a model does on a species that it has never seen.

A model that has learnt what makes proteins stable is off by a little; one that has learnt species is off by the
difference between the new species and the mean of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.melting_point.measures import measures, r2_about
from analysis.melting_point.regression import Block, fit_predict
from analysis.melting_point.species import plain_features, study_growth
from embedstore.errors import InputError
from embedstore.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData

GROWTH = "growth"
"""Name of the temperature at which a species grows best, among what is known beside an embedding."""


def leave_one_species_out(
    data: StudyData,
    *,
    features: Sequence[str] | None = None,
    growth: Mapping[str, float] | None = None,
    least: int = 10,
    seeds: Sequence[int] = (0,),
    progress: bool = False,
) -> pd.DataFrame:
    """Predict the proteins of each species from those of all others.

    A one-hot vector of the species is of no use here, the species being new; the temperature at which it grows best
    stands in its place.

    Parameters
    ----------
    data
        The study. Fitted are its training samples of the other species, tested the test samples of this one: proteins
        like those in testing are in no case in training.
    features
        Names of features, default all but those in windows and transplants.
    growth
        Temperatures by species, degrees Celsius, that come before those of the study and of
        `analysis.melting_point.species.SPECIES`. Features with it beside them are tried where it is known for every
        species, and for three or more of them.
    least
        Species with fewer test samples are left out, default 10.
    seeds
        Of the folds of the regressions, default one; predictions are averaged over them.
    progress
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per features and species: features (``"<name>+growth"`` with the temperature), species, n_train, n_test,
        bias (mean predicted less mean measured melting point, degrees Celsius), expected (bias of the mean of the other
        species' training samples), beyond (bias less expected: what the model makes of the new species), r2_centred (1
        - squared error / squared deviation, both about their means, so that bias does not count), spearman, mae.

    Raises
    ------
    InputError
        There are fewer than three species with enough test samples, or no features of a name.
    """
    import pandas as pd

    left = _species(data, least)
    names = plain_features(data) if features is None else list(features)
    designs = {name: [Block(data.feature(name))] for name in names}
    beside = study_growth(data, growth)
    if not np.isnan(beside).any() and len(np.unique(beside)) > 2:
        column = Block(beside[:, None], penalised=False)
        designs |= {GROWTH: [column], **{f"{name}+{GROWTH}": [Block(data.feature(name)), column] for name in names}}
    rows = []
    with progress_bar(None, "species left out", show=progress, total=len(designs) * len(left), unit="fit") as bar:
        for name, blocks in designs.items():
            for species in left:
                rows.append({"features": name, "species": species, **_row(data, blocks, species, seeds)})
                bar.update(1)
    return pd.DataFrame(rows)


def _species(data: StudyData, least: int) -> list[str]:
    """Return the species with enough test samples."""
    names, counts = np.unique(data.species[data.test], return_counts=True)
    kept = [str(name) for name in names[counts >= least] if name != "unknown"]
    if len(kept) < 3 or len(np.unique(data.species[data.train])) < 3:
        raise InputError(
            f"leaving one species out takes three or more with {least} test samples each; there are {len(kept)}: "
            f"{', '.join(kept) or 'none'}."
        )
    return kept


def _row(data: StudyData, blocks: Sequence[Block], species: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Fit the other species, predict this one."""
    here = data.species == species
    train, test = data.train & ~here, data.test & here
    predictions, _ = fit_predict(blocks, data.y, train, test, groups=data.group, seeds=seeds)
    y, said = data.y[test], predictions.mean(axis=0)
    bias, expected = float((said - y).mean()), float(data.y[train].mean() - y.mean())
    found = measures(y, said)
    return {
        "n_train": int(train.sum()),
        "n_test": int(test.sum()),
        "bias": bias,
        "expected": expected,
        "beyond": bias - expected,
        "r2_centred": r2_about(_centred(y), _centred(said), 0.0),
        "spearman": found.spearman,
        "mae": found.mae,
    }


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values - values.mean())
