"""What a melting point can be predicted from without any language model, to stand beside every number of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.design import SPECIES, augmentation, filled, sequences_of
from analysis.melting_point.regression import Block
from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData

HASHED_PAIRS = 4096
"""Columns of the codon pairs: there are 64 times 64, so that none share one."""


class Baseline(NamedTuple):
    """A baseline.

    Attributes
    ----------
    name
        Its key.
    title
        What tables and figures call it.
    blocks
        Its columns, none for a mean.
    missing
        ``""``, or why the study cannot have it.
    """

    name: str
    title: str
    blocks: list[Block]
    missing: str = ""


_TITLES = {
    "mean": "mean of all",
    "species": "mean of the species",
    "species+run": "mean of species and run",
    "growth": "growth temperature of the species",
    "gc": "GC",
    "gc3": "GC3",
    "length": "length of the protein",
    "amino_acids": "amino-acid composition (20)",
    "amino_acid_pairs": "amino-acid pairs (400)",
    "codons": "codon frequencies (64)",
    "rscu": "relative synonymous codon usage (59)",
    "codon_pairs": "codon pairs (4,096)",
    "neighbour": "nearest protein by shared 3-residue words",
}
"""Baselines by name; those of one-hot letters, networks without training and others are features of a study."""

BASELINES = tuple(_TITLES)
"""Names of the baselines, in the order of tables."""


def baseline(data: StudyData, name: str) -> Baseline:
    """Return the columns of a baseline.

    Parameters
    ----------
    data
        The study.
    name
        One of `BASELINES`.

    Returns
    -------
    Baseline
        Where the study lacks what it needs, `missing` says so: a table has its row, without numbers.

    Raises
    ------
    InputError
        There is no such baseline.
    """
    if name not in _TITLES:
        raise InputError(f"no baseline is called {name!r}.{did_you_mean(name, BASELINES)}")
    try:
        return Baseline(name, _TITLES[name], _blocks(data, name))
    except InputError as error:
        return Baseline(name, _TITLES[name], [], str(error))


def _blocks(data: StudyData, name: str) -> list[Block]:
    """Return the columns of a baseline, or refuse a study that lacks them."""
    from embedstore.coding import composition

    if name == "mean":
        return []
    if name in ("species", "species+run", "gc", "gc3"):
        return augmentation(data, [name])
    if name == "growth":
        return [Block(_growth(data), penalised=False)]
    if name == "neighbour":
        return [Block(_neighbour(data), penalised=False)]
    of_proteins: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {
        "length": composition.length,
        "amino_acids": composition.amino_acid_frequencies,
        "amino_acid_pairs": composition.amino_acid_pairs,
    }
    if name in of_proteins:
        values = of_proteins[name](proteins(data))
    else:
        of_codons = {"codons": composition.codon_frequencies, "rscu": composition.rscu}
        values = {**of_codons, "codon_pairs": composition.codon_pairs}[name](sequences_of(data, "cds"))
    return [Block(filled(values, data.train))]


def proteins(data: StudyData) -> list[str]:
    """Return the proteins of a study as text.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        It has none.
    """
    return [codes.tobytes().decode("ascii") for codes in sequences_of(data, "protein")]


def _growth(data: StudyData) -> NDArray[np.float64]:
    """Return the temperature at which each species grows best; refused where one is unknown."""
    from analysis.melting_point.species import study_growth

    growth = study_growth(data)
    unknown = np.unique(data.species[np.isnan(growth)])
    if len(unknown):
        raise InputError(
            f"the temperature at which these species grow best is not known: {', '.join(unknown[:5])}. A column "
            "'growth' of the samples (degrees Celsius) gives it."
        )
    return growth[:, None]


def _neighbour(data: StudyData) -> NDArray[np.float64]:
    """Return the melting point of the training protein that shares the largest part of its 3-residue words.

    Shared words stand for identity, which needs an alignment; cosine similarity of their counts, those of a training
    sample's own group left out. Ties, and proteins that share no word, get the mean over the training proteins alike.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    texts = proteins(data)
    counter = CountVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False, dtype=np.float32)
    words = normalize(counter.fit_transform(texts)).tocsr()
    train = np.flatnonzero(data.train)
    labels, group = data.y[train], data.group
    found = np.empty(len(texts))
    known = words[train].T.tocsc()
    for start in range(0, len(texts), 512):
        part = np.arange(start, min(start + 512, len(texts)))
        alike = (words[part] @ known).toarray()
        alike[group[part][:, None] == group[train]] = 0
        best = alike.max(axis=1, keepdims=True)
        nearest = (alike >= best) & ((best > 0) | (group[part][:, None] != group[train]))
        found[part] = (nearest @ labels) / np.maximum(nearest.sum(axis=1), 1)
    return found[:, None]


def with_species(data: StudyData, blocks: Sequence[Block]) -> list[Block]:
    """Return columns with those of the species beside them.

    Parameters
    ----------
    data
        The study.
    blocks
        Columns.

    Returns
    -------
    list of Block
    """
    return [*blocks, *augmentation(data, [SPECIES])]
