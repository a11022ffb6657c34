"""Studies of simulated worlds, with features that are plain frequencies: nothing of a store or a model is needed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from analysis.melting_point.data import StudyData, check_study
from embedstore.coding import read_codons, recode
from embedstore.coding.composition import amino_acid_frequencies, codon_frequencies
from embedstore.sequences import encode
from embedstore.simulated_coding import coding_world

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROWTH = {f"species_{number}": 10.0 + 12 * number for number in range(1, 7)}
"""Made-up temperatures: species 1 to 3 are below 50 degrees."""


def composition(cds: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Codon frequencies, and frequencies of pairs of third bases of neighbouring codons: (sequence, 80)."""
    codons = read_codons(cds)
    pairs = np.zeros((len(cds), 16))
    for number, (start, end) in enumerate(zip(codons.first[:-1], codons.first[1:], strict=True)):
        third = codons.index[start:end].astype(int) % 4
        pairs[number] = np.bincount(4 * third[:-1] + third[1:], minlength=16) / (len(third) - 1)
    return np.hstack([codon_frequencies(codons), pairs])


def _seeds(cds: list[NDArray[np.uint8]], strategy: str, ids: list[str], many: int = 5) -> NDArray[np.float64]:
    return np.mean([composition(recode(cds, strategy, ids=ids, seed=seed)) for seed in range(many)], axis=0)


@cache
def world_study(name: str, seed: int = 0) -> StudyData:
    """The study of a world: 1,000 training and 500 test samples of six species. Shared: never change it in place."""
    table = coding_world(name, seed=seed).data.table
    cds, ids = [encode(text) for text in table["cds"]], table["id"].tolist()
    samples = table[["id", "split", "species"]].assign(group=table["id"], y=table["label"].astype(float))
    features = {
        "protein": amino_acid_frequencies(table["protein"].tolist()),
        "true": composition(cds),
        "permuted": _seeds(cds, "permuted", ids),
        "uniform": _seeds(cds, "uniform", ids),
    }
    sequences = {"cds": cds, "protein": [encode(text) for text in table["protein"]]}
    return check_study(StudyData(samples, features, {}, sequences, {"protein": "frequencies", "coding": "frequencies"}))


def small_study(name: str = "mixed", step: int = 5) -> StudyData:
    """One in so many samples of a world, for what needs no exact number."""
    data = world_study(name)
    return data.rows(np.arange(len(data.samples)) % step == 0)
