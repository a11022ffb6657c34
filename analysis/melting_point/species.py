"""The species of the melting-point data, the temperatures at which they grow, and how well a model tells them apart.

Source of the measurements: Jarzab et al. 2020, "Meltome atlas" (Nature Methods 17:495), as FLIP has them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.scaling import standardise
from embedstore.errors import InputError
from probes.intervals import bootstrap_sums, interval
from probes.metrics import ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData

THERMOPHILE = 50.0
"""Species that grow best at this temperature (degrees Celsius) or above are thermophiles; the others, mesophiles here.

Oleispira antarctica, which likes the cold, counts among the others.
"""


class Species(NamedTuple):
    """A species of the melting-point data.

    Attributes
    ----------
    growth
        Temperature at which it grows best, degrees Celsius.
    melting
        Mean melting point of its proteins in the public Meltome measurements, degrees Celsius.
    other_names
        What else it is called.
    remark
        What is uncertain.
    """

    growth: float
    melting: float
    other_names: tuple[str, ...] = ()
    remark: str = ""


SPECIES = {
    "Oleispira antarctica": Species(15, 41.8),
    "Caenorhabditis elegans": Species(20, 41.3, ("worm", "c. elegans")),
    "Arabidopsis thaliana": Species(25, 44.8, ("thale cress", "a. thaliana")),
    "Danio rerio": Species(28, 52.1, ("zebrafish", "d. rerio"), "161 measurements only"),
    "Drosophila melanogaster": Species(28, 42.7, ("fruit fly", "d. melanogaster")),
    "Bacillus subtilis": Species(30, 44.1, ("b. subtilis",)),
    "Saccharomyces cerevisiae": Species(30, 49.0, ("yeast", "s. cerevisiae")),
    "Escherichia coli": Species(37, 51.0, ("e. coli",)),
    "Homo sapiens": Species(37, 51.5, ("human", "h. sapiens")),
    "Mus musculus": Species(37, 50.0, ("mouse", "m. musculus")),
    "Geobacillus stearothermophilus": Species(
        60, 69.4, ("g. stearothermophilus", "bacillus stearothermophilus"), "sources say 55 to 65"
    ),
    "Picrophilus torridus": Species(60, 71.7, ("p. torridus",)),
    "Thermus thermophilus": Species(70, 83.7, ("t. thermophilus",)),
}
"""The thirteen species of Meltome, from the coldest to the hottest."""


def known_species(name: str) -> str | None:
    """Return the name that `SPECIES` has for a species.

    Parameters
    ----------
    name
        Scientific name, with a strain or what else follows it; underscores stand for spaces. Or one of its other names,
        exactly.

    Returns
    -------
    str or None
        None where it is none of the thirteen.

    Examples
    --------
    >>> known_species("Oleispira_antarctica_RB-8_lysate_R1"), known_species("Human"), known_species("Bos taurus")
    ('Oleispira antarctica', 'Homo sapiens', None)
    """
    plain = re.sub(r"[_\s]+", " ", name).strip().lower()
    for known, species in SPECIES.items():
        if plain in species.other_names or re.match(rf"{known.lower()}\b", plain):
            return known
    return None


def growth_temperatures(species: Iterable[str], growth: Mapping[str, float] | None = None) -> NDArray[np.float64]:
    """Return the temperature at which each of some species grows best.

    Parameters
    ----------
    species
        Names; see `known_species`.
    growth
        Temperatures by name, in degrees Celsius, that come before those of `SPECIES`.

    Returns
    -------
    numpy.ndarray
        (species,) float64, NaN where it is not known.

    Examples
    --------
    >>> growth_temperatures(["Escherichia coli", "species 1", "species 2"], {"species 1": 20.0})
    array([37., 20., nan])
    """
    names = [str(name) for name in species]
    given = growth or {}
    found = {}
    for name in set(names):
        known = known_species(name)
        found[name] = given.get(name, SPECIES[known].growth if known else np.nan)
    return np.array([found[name] for name in names], dtype=np.float64)


def species_table() -> pd.DataFrame:
    """Return the thirteen species of Meltome.

    Returns
    -------
    pandas.DataFrame
        species, growth and melting (degrees Celsius), mesophile, remark.
    """
    import pandas as pd

    rows = [(name, one.growth, one.melting, one.growth < THERMOPHILE, one.remark) for name, one in SPECIES.items()]
    return pd.DataFrame(rows, columns=["species", "growth", "melting", "mesophile", "remark"])


def study_growth(data: StudyData, growth: Mapping[str, float] | None = None) -> NDArray[np.float64]:
    """Return the temperature at which the species of each sample grows best.

    Parameters
    ----------
    data
        The study. Where its sample table has a column ``growth``, that counts.
    growth
        Temperatures by the name of a species, which come before all others.

    Returns
    -------
    numpy.ndarray
        (sample,) float64, degrees Celsius, NaN where it is not known.
    """
    known = growth_temperatures(data.species, growth)
    if "growth" not in data.samples:
        return known
    given = [name in (growth or {}) for name in data.species]
    return np.where(given, known, data.samples["growth"].to_numpy(np.float64))


class Decoded(NamedTuple):
    """How well species can be told from features; see `decode_species`.

    Attributes
    ----------
    right
        (test sample,) bool: the species said is the true one. A species without training samples is never said.
    balanced
        Mean over species of the share of their test samples that are told right.
    converged
        Whether the regression came to an end.
    """

    right: NDArray[np.bool_]
    balanced: float
    converged: bool


def decode_species(
    features: NDArray[np.floating],
    species: NDArray[np.str_],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    *,
    strength: float = 1.0,
    max_iter: int = 1000,
) -> Decoded:
    """Tell species from features by multinomial logistic regression.

    Parameters
    ----------
    features
        (sample, channel) float; standardised over the training samples, constant channels left out.
    species
        (sample,) names.
    train, test
        (sample,) bool.
    strength
        scikit-learn's C, default 1.
    max_iter
        Steps of the solver at most, default 1000.

    Returns
    -------
    Decoded

    Raises
    ------
    InputError
        The training samples are of one species.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    names = np.unique(species[train])
    if len(names) < 2:
        raise InputError(f"all training samples are of one species, {str(names[0])!r}: there is nothing to tell apart.")
    inside, outside = standardise(features[train], features[test])
    said = np.full(int(test.sum()), _most_frequent(species[train]), dtype=object)
    converged = True
    if inside.shape[1]:
        model = LogisticRegression(C=strength, max_iter=max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
            model.fit(inside, species[train])
        said, converged = model.predict(outside), bool(model.n_iter_.max() < max_iter)
    right = said == species[test]
    each = [right[species[test] == name].mean() for name in np.unique(species[test])]
    return Decoded(right, float(np.mean(each)), converged)


def _most_frequent(names: NDArray[np.str_]) -> str:
    known, counts = np.unique(names, return_counts=True)
    return str(known[counts.argmax()])


def majority(data: StudyData) -> float:
    """Return the share of the test samples that are of the species with most training samples.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    float
        The accuracy of features that tell nothing.
    """
    return float((data.species[data.test] == _most_frequent(data.species[data.train])).mean())


def share_interval(
    right: NDArray[np.bool_], groups: NDArray[np.str_], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a share over groups of samples.

    Parameters
    ----------
    right
        (sample,) bool.
    groups
        (sample,) names; samples of one group are drawn together.
    draws, seed
        Of the bootstrap, default 2,000 draws.

    Returns
    -------
    tuple of float
    """
    index = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(index, right), np.bincount(index)], axis=1).astype(np.int64)
    return interval(bootstrap_sums(sums, lambda drawn: ratio(drawn[:, 0], drawn[:, 1]), draws=draws, seed=seed))


def species_decodability(
    data: StudyData, *, features: Sequence[str] | None = None, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Tell how well each embedding gives the species away, to a linear model.

    A model of proteins can know species from homology; one of coding sequences from codon usage alone. What can be told
    can be used as a stand-in for the temperature a species lives at.

    Parameters
    ----------
    data
        The study.
    features
        Names of its features, default all but those in windows and transplants.
    draws, seed
        Of the bootstrap over groups of test samples, default 2,000 draws.

    Returns
    -------
    pandas.DataFrame
        features, accuracy, low, high (95 % interval), balanced (mean over species), majority (accuracy of the most
        frequent species), chance (one in so many species), species, n_train, n_test, converged.

    Raises
    ------
    InputError
        There are no features of a name, or the training samples are of one species.
    """
    import pandas as pd

    fixed = {
        "majority": majority(data),
        "chance": 1 / len(np.unique(data.species[data.train])),
        "species": len(np.unique(data.species)),
        "n_train": int(data.train.sum()),
        "n_test": int(data.test.sum()),
    }
    rows = []
    for name in plain_features(data) if features is None else features:
        found = decode_species(data.feature(name), data.species, data.train, data.test)
        low, high = share_interval(found.right, data.group[data.test], draws=draws, seed=seed)
        numbers = {"accuracy": float(found.right.mean()), "low": low, "high": high, "balanced": found.balanced}
        rows.append({"features": name, **numbers, **fixed, "converged": found.converged})
    return pd.DataFrame(rows)


def plain_features(data: StudyData) -> list[str]:
    """Return the names of features that analyses of species look at unless told otherwise.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    list of str
        All but those whose name has a parameter, such as ``"window_permuted(8)"``.
    """
    return [name for name in data.features if "(" not in name]
