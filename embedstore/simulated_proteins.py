"""Simulated variants, residues and synonymous genes: protein tasks whose answers are known.

`dms_world` is a deep mutational scan: single substitutions in one parent. `structure_world` has a class for every
residue. `degenerate_world` has proteins with several coding sequences each. See `embedstore.simulated_coding` for
melting points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.coding import CODONS, genetic_code
from embedstore.errors import InputError
from embedstore.sequences import AMINO_ACIDS
from embedstore.simulated_coding import random_proteins, written
from embedstore.tasks.labels import UNLABELLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedstore.tasks.coding import CodingData

__all__ = ["CLASS_OF_CODON", "degenerate_world", "dms_world", "structure_world"]

_CODE = genetic_code(1)
_CODONS_OF = [_CODE.synonyms(letter) for letter in AMINO_ACIDS]
_START, _STOP = CODONS.index("ATG"), CODONS.index("TAA")
_CLASSES = 8
_SAME_CLASS = 0.8  # chance that a residue has the class of the one before it
_TEST_SETS = ("CASP12", "CB513", "TS115")
# The third codon of some sequences: read as N in the last place, or in the first, where 6-mer tokens lose step.
_OPEN_CODONS = ("GCN", "YTA")

CLASS_OF_CODON: NDArray[np.int64] = np.where(
    _CODE.family == 0, -1, (np.cumsum(_CODE.family > 0) - 1) * 5 % _CLASSES
).astype(np.int64)
"""(64,) the class of residues that `structure_world` writes with each codon, -1 for stop codons."""


def dms_world(*, seed: int = 0, variants: int = 2000, test: int = 600, residues: int = 120) -> CodingData:
    """Simulate a deep mutational scan: every variant differs from one parent in one codon.

    A substitution lowers the fitness by the weight of its place (most places hardly matter, a few do), a little more
    the more the amino acids differ; noise is a tenth of the standard deviation. The codon of the new amino acid is
    drawn evenly.

    Whoever recodes each variant by itself buries one changed codon under all the synonymous ones: only strategies that
    recode the parent once (``permuted_shared``, ``uniform_shared``) leave a signal.

    Parameters
    ----------
    seed
        Same arguments, same samples.
    variants
        Number of variants, no two alike as proteins, default 2,000.
    test
        How many of them are test samples, default 600; the others are for training.
    residues
        Of the parent, default 120. The first is M and does not vary; there is no stop codon.

    Returns
    -------
    CodingData
        Of the task ``beta_lactamase_unique``; ids say what is changed, such as ``K5R``. ``source["parent"]`` is the
        parent's coding sequence, which is none of the samples; `embedstore.coding.consensus` finds it too.

    Raises
    ------
    InputError
        If there are not so many variants, or a number is out of range.

    Examples
    --------
    >>> dms_world(variants=50, test=10).table["split"].value_counts().to_dict()
    {'train': 40, 'test': 10}
    """
    import pandas as pd

    from embedstore.tasks.coding import make_coding

    most = 19 * (residues - 1)
    if min(seed, test) < 0 or not test < variants <= most:
        raise InputError(
            f"dms_world: variants={variants}, test={test}, seed={seed}, of a parent of residues={residues}, which has "
            f"{most:,} variants of one amino acid: wanted 0 <= test < variants <= {most:,}, and a seed of 0 or more."
        )
    rng = np.random.default_rng(seed)
    (parent,) = random_proteins(rng, np.array([residues]))
    parent[0] = AMINO_ACIDS.index("M")
    codons = _coded(rng, parent)
    weight, kind = rng.gamma(1.0, size=residues), rng.normal(size=20)
    chosen = rng.permutation(most)[:variants]
    place = 1 + chosen // 19
    new = (parent[place] + 1 + chosen % 19) % 20
    effect = -weight[place] * (1 + 0.2 * (kind[new] - kind[parent[place]]) ** 2)
    rows = np.repeat(codons[None], variants, axis=0)
    rows[np.arange(variants), place] = _coded(rng, new)
    frame = pd.DataFrame(
        {
            "id": [f"{AMINO_ACIDS[parent[at]]}{at + 1}{AMINO_ACIDS[to]}" for at, to in zip(place, new, strict=True)],
            "split": ["train"] * (variants - test) + ["test"] * test,
            "cds": [written(row).tobytes().decode() for row in rows],
            "label": effect + 0.1 * effect.std() * rng.normal(size=variants),
        }
    )
    source = {"kind": "simulated", "world": "dms", "parent": written(codons).tobytes().decode()}
    return make_coding(frame, "beta_lactamase_unique", seed=seed, source=source)


def structure_world(*, seed: int = 0, samples: int = 120, lengths: tuple[int, int] = (20, 60)) -> CodingData:
    """Simulate residue classes that are written into the codons: `CLASS_OF_CODON` says the class of each.

    Classes come in runs, four of five residues having the class of the one before them. A codon tells its residue's
    class and no other, so whoever reads every codon can be right everywhere; who gives the two residues of a 6-mer one
    answer is wrong about one of them wherever they differ.

    A tenth of the samples have a third codon with a letter that is no A, C, G or T, ``GCN`` or ``YTA``; its residue has
    no class. The first sample has a single residue. Half of the sequences, about, are an odd number of codons long, so
    that a 6-mer model meets half a token at their end.

    Parameters
    ----------
    seed
        Same arguments, same samples.
    samples
        Number of sequences, default 120: two thirds for training and validation, the others in the three test sets.
    lengths
        Fewest and most residues, default 20 and 60; at least 3.

    Returns
    -------
    CodingData
        Of the task ``secondary_structure``. No sequence has a start or stop codon of its own.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> structure_world(samples=12).table["label"].iloc[0]
    (...,)
    """
    import pandas as pd

    from embedstore.tasks.coding import make_coding

    if seed < 0 or samples < 12 or not 3 <= lengths[0] <= lengths[1]:
        raise InputError(
            f"structure_world: samples={samples}, lengths={lengths}, seed={seed}: wanted at least 12 samples, lengths "
            "of at least 3 with the smaller one first, and a seed of 0 or more."
        )
    rng = np.random.default_rng(seed)
    sizes = rng.integers(lengths[0], lengths[1] + 1, size=samples)
    sizes[0] = 1
    codons_of = [np.flatnonzero(one == CLASS_OF_CODON) for one in range(_CLASSES)]
    texts, labels = [], []
    for number, size in enumerate(sizes.tolist()):
        classes = _runs(rng, size)
        text = written(np.array([rng.choice(codons_of[one]) for one in classes.tolist()]))
        if number and number % 10 == 0:
            text[6:9] = np.frombuffer(_OPEN_CODONS[number // 10 % 2].encode(), np.uint8)
            classes[2] = UNLABELLED
        texts.append(text.tobytes().decode())
        labels.append(tuple(classes.tolist()))
    splits = ["train" if number % 3 else _TEST_SETS[number // 3 % 3] for number in range(samples)]
    frame = pd.DataFrame({"id": [f"chain{number + 1}" for number in range(samples)], "split": splits})
    source = {"kind": "simulated", "world": "structure", "lengths": list(lengths)}
    frame = frame.assign(cds=texts, label=pd.Series(labels, dtype=object))
    return make_coding(frame, "secondary_structure", genes=False, seed=seed, source=source)


def degenerate_world(
    *, seed: int = 0, proteins: int = 60, most: int = 6, nonsense: int = 12, replicates: int = 10, residues: int = 40
) -> CodingData:
    """Simulate proteins with one to several coding sequences each, truncated ones and repeated measurements.

    The label is the protein's own value, of variance 1, plus 0.3 times a normal variable of the coding sequence, plus
    0.1 times noise of each measurement.

    Parameters
    ----------
    seed
        Same arguments, same samples.
    proteins
        Number of full-length proteins, default 60.
    most
        Most coding sequences of one protein, default 6: the proteins have 1, 2, ... `most`, 1, 2, ... of them.
    nonsense
        Further samples with a stop codon inside, default 12; no two are alike as proteins.
    replicates
        Further samples whose coding sequence is that of one before them, measured again, default 10.
    residues
        Of a protein, default 40, the first M; there is no stop codon at the end.

    Returns
    -------
    CodingData
        Of the task ``beta_lactamase_complete``, all in the split ``train``, in random order. The columns
        ``protein_number`` and ``coding_number`` (a replicate has that of what it repeats) say what is what.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> table = degenerate_world(proteins=6, nonsense=2, replicates=3).table
    >>> len(table), table["cds"].nunique(), table["protein"].nunique()
    (26, 23, 8)
    """
    import pandas as pd

    from embedstore.tasks.coding import make_coding

    if min(seed, nonsense, replicates) < 0 or min(proteins, most) < 1 or residues < 20:
        raise InputError(
            f"degenerate_world: proteins={proteins}, most={most}, nonsense={nonsense}, replicates={replicates}, "
            f"residues={residues}, seed={seed}: wanted at least 1 protein, 1 coding sequence and 20 residues, and "
            "nothing below 0."
        )
    rng = np.random.default_rng(seed)
    found = random_proteins(rng, np.full(proteins + nonsense, residues))
    owner = np.repeat(np.arange(proteins), 1 + np.arange(proteins) % most)
    owner = np.append(owner, np.arange(proteins, proteins + nonsense))
    value = rng.normal(size=len(found))[owner] + 0.3 * rng.normal(size=len(owner))
    texts = []
    for protein in owner.tolist():
        codons = np.append(_START, _coded(rng, found[protein][1:]))
        if protein >= proteins:
            codons[rng.integers(1, residues - 1)] = _STOP
        texts.append(written(codons).tobytes().decode())
    measured = np.append(np.arange(len(owner)), rng.integers(len(owner), size=replicates))
    measured = rng.permutation(measured)
    frame = pd.DataFrame(
        {
            "id": [f"sample{number + 1}" for number in range(len(measured))],
            "split": "train",
            "cds": [texts[number] for number in measured],
            "label": value[measured] + 0.1 * rng.normal(size=len(measured)),
            "protein_number": owner[measured],
            "coding_number": measured,
        }
    )
    source = {"kind": "simulated", "world": "degenerate", "residues": residues}
    return make_coding(frame, "beta_lactamase_complete", stops=True, seed=seed, source=source)


def _coded(rng: np.random.Generator, protein: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw a codon for each amino acid, evenly."""
    return np.array([rng.choice(_CODONS_OF[amino_acid]) for amino_acid in protein.tolist()])


def _runs(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    """Draw the classes of a sequence."""
    fresh = rng.random(size) >= _SAME_CLASS
    fresh[0] = True
    # A new class is drawn among all, so that the chance of the same one is a little higher than said.
    return rng.integers(_CLASSES, size=size)[np.maximum.accumulate(np.where(fresh, np.arange(size), 0))]
