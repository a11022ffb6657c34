"""What the melting-point study is about: proteins, their species and melting points, and their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

PROTEIN, TRUE, PERMUTED, UNIFORM = "protein", "true", "permuted", "uniform"
"""Names of features: of the protein's embedding, and of the coding sequence's under codon strategies."""

WINDOWS = (2, 4, 8, 16, 32)
"""Codons within which ``window_permuted`` shuffles, by default."""

STRATEGIES = (TRUE, PERMUTED, UNIFORM, *(f"window_permuted({width})" for width in WINDOWS))
"""Codon strategies that `analysis.melting_point.reading.read_study` looks for by default, besides transplants."""

TRANSPLANTS = "transplant("
"""How the names of features begin whose sequences were written with the codons of another species."""

TRAINING = ("train", "valid")
"""Splits that regressions are fitted to; their penalties come from cross-validation in them."""

_COLUMNS = ("id", "split", "species", "group", "y")


class StudyData(NamedTuple):
    """Samples with their melting points, and features of them.

    Attributes
    ----------
    samples
        One row per sample: id, split (train, valid, test), species (``"unknown"`` where it is), group (samples of one
        group are drawn together and never on both sides of a fold: proteins that are the same or alike), y (melting
        point, degrees Celsius); further columns of the task, such as run and condition, where there are any.
    features
        Name -> (sample, channel) float: ``"protein"``, and one for each codon strategy, such as ``"true"``,
        ``"permuted"`` and ``"window_permuted(8)"``. Those of a strategy with several seeds are the mean over them.
    by_seed
        Name of a strategy -> one (sample, channel) array per seed; empty where they are not kept.
    sequences
        ``"cds"`` and ``"protein"`` -> upper-case ASCII letters of each sample, uint8; empty where there are none.
    models
        Names of what made the features: ``"protein"`` and ``"coding"``.
    seeds
        Name of a strategy -> seeds of the recodings that its features are the mean of; of a strategy that is not here
        they are not known.
    """

    samples: pd.DataFrame
    features: Mapping[str, NDArray[np.floating]]
    by_seed: Mapping[str, Sequence[NDArray[np.floating]]] = {}
    sequences: Mapping[str, Sequence[NDArray[np.uint8]]] = {}
    models: Mapping[str, str] = {}
    seeds: Mapping[str, Sequence[int]] = {}

    @property
    def y(self) -> NDArray[np.float64]:
        """(sample,) melting points."""
        return self.samples["y"].to_numpy(np.float64)

    @property
    def species(self) -> NDArray[np.str_]:
        """(sample,) names."""
        return self.samples["species"].to_numpy(dtype=str)

    @property
    def group(self) -> NDArray[np.str_]:
        """(sample,) names of groups."""
        return self.samples["group"].to_numpy(dtype=str)

    @property
    def train(self) -> NDArray[np.bool_]:
        """(sample,) which are for fitting: those of `TRAINING`."""
        return self.samples["split"].isin(TRAINING).to_numpy(bool)

    @property
    def test(self) -> NDArray[np.bool_]:
        """(sample,) which are for testing."""
        return (self.samples["split"] == "test").to_numpy(bool)

    def feature(self, name: str) -> NDArray[np.floating]:
        """Return features by name.

        Raises
        ------
        InputError
            There are none of that name.
        """
        if name not in self.features:
            raise InputError(f"the study has no features {name!r}.{did_you_mean(name, self.features)}")
        return self.features[name]

    def with_y(self, y: NDArray[np.floating]) -> StudyData:
        """Return the same study of other labels, for controls.

        Parameters
        ----------
        y
            (sample,) float.
        """
        return self._replace(samples=self.samples.assign(y=np.asarray(y, np.float64)))

    def rows(self, kept: NDArray[np.bool_]) -> StudyData:
        """Return some samples.

        Parameters
        ----------
        kept
            (sample,) bool.
        """
        return self._replace(
            samples=self.samples[kept].reset_index(drop=True),
            features={name: values[kept] for name, values in self.features.items()},
            by_seed={name: [values[kept] for values in every] for name, every in self.by_seed.items()},
            sequences={
                name: [one for one, keep in zip(every, kept, strict=True) if keep]
                for name, every in self.sequences.items()
            },
        )


def check_study(data: StudyData) -> StudyData:
    """Refuse a study that cannot be what it says.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    StudyData
        The same.

    Raises
    ------
    InputError
        A column is missing, features or sequences are not of these samples, a label is not finite, a split is none of
        train, valid and test, there are no samples to train or to test with, or a group is in both.
    """
    for name in _COLUMNS:
        if name not in data.samples:
            raise InputError(
                f"samples have no column {name!r}, only {', '.join(map(str, data.samples.columns))}. A study needs "
                f"{', '.join(_COLUMNS)}."
            )
    n = len(data.samples)
    for name, values in data.features.items():
        if np.ndim(values) != 2 or len(values) != n:
            raise InputError(f"features {name!r} are {np.shape(values)}; (sample, channel) of {n:,} samples is wanted.")
    lengths = [(name, len(every)) for name, every in data.sequences.items()]
    lengths += [(name, len(one)) for name, seeds in data.by_seed.items() for one in seeds]
    for name, length in lengths:
        if length != n:
            raise InputError(f"{length:,} of {name!r} for {n:,} samples.")
    if not np.isfinite(data.y).all():
        bad = data.samples["id"][~np.isfinite(data.y)].tolist()
        raise InputError(f"{len(bad):,} samples have no melting point: {bad[:5]}. Leave them out.")
    _check_splits(data)
    return data


def _check_splits(data: StudyData) -> None:
    """Refuse splits of other names, empty ones, and groups on both sides."""
    others = sorted(set(data.samples["split"]) - {*TRAINING, "test"})
    if others:
        raise InputError(f"splits are called {others}; {', '.join(TRAINING)} and test are wanted.")
    for name, part in (("train", data.train), ("test", data.test)):
        if not part.any():
            raise InputError(f"no sample is in split {name!r}; a study needs samples to fit and samples to test.")
    shared = np.intersect1d(data.group[data.train], data.group[data.test])
    if len(shared):
        raise InputError(
            f"{len(shared):,} groups have training and test samples, the first {str(shared[0])!r}: what is tested "
            "would have been seen. Split by group, or name groups more finely where these proteins are not alike."
        )
