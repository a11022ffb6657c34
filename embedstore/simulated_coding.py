"""Simulated coding sequences with melting points whose causes are planted: species, protein, GC, order of codons.

A label is a weighted sum of independent parts, so it is known what share of its variance a model can explain that reads
the species, the protein, the codons a gene uses, or the order they stand in. `embedstore.models.composition_models` has
encoders that read these and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.coding import CODONS, genetic_code, read_codons, recode, translate
from embedstore.coding.composition import amino_acid_frequencies, gc3
from embedstore.coding.usage import within_families
from embedstore.errors import InputError, did_you_mean
from embedstore.sequences import AMINO_ACIDS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.coding import Codons
    from embedstore.tasks.coding import CodingData

__all__ = ["COMPONENTS", "WORLDS", "CodingWorld", "coding_world", "random_proteins", "third_base_agreement", "written"]

COMPONENTS = ("species", "protein", "gc", "local", "noise")
"""What a label is made of."""

WORLDS: dict[str, dict[str, float]] = {
    name: dict(zip(COMPONENTS, shares, strict=True))
    for name, shares in {
        "mixed": (0.5, 0.15, 0.05, 0.15, 0.15),
        "species_only": (0.65, 0.15, 0.0, 0.0, 0.2),
        "local_only": (0.0, 0.15, 0.0, 0.5, 0.35),
        "gc_only": (0.0, 0.15, 0.5, 0.0, 0.35),
    }.items()
}
"""Share of the label's variance that is due to each component, by the name of the world."""

MEAN, SPREAD = 50.0, 8.0
"""Mean and standard deviation of a label, in degrees Celsius."""

_ORDERS = 16  # of the same codons, of which the most or the least regular is taken
_START, _STOP = CODONS.index("ATG"), CODONS.index("TAA")
_CODE = genetic_code(1)
_LETTERS = np.frombuffer("".join(CODONS).encode(), np.uint8).reshape(64, 3)

# About the frequencies in Swiss-Prot, in percent, in the order of AMINO_ACIDS.
_AMINO_ACIDS = np.array(
    [8.3, 1.4, 5.5, 6.7, 3.9, 7.1, 2.3, 5.9, 5.8, 9.7, 2.4, 4.1, 4.7, 3.9, 5.5, 6.6, 5.4, 6.9, 1.1, 2.9]
)
_LIKE_BASE = 120  # concentration of a gene's amino acid composition about that of all genes
_USAGE = 1.5  # concentration of the codon usage of a species: the smaller, the more uneven
_TILT = 0.5  # spread of the log odds of G or C in third places between the genes of a species


class CodingWorld(NamedTuple):
    """Coding sequences and labels, and what the labels are made of.

    Attributes
    ----------
    name : str
        Of `WORLDS`.
    data : CodingData
        The samples, of the task ``melting_point``; label in degrees Celsius.
    truth : pandas.DataFrame
        One row per sample, indexed by its id, with the columns of `COMPONENTS`, each of mean 0 and variance 1. A label
        is `MEAN` + `SPREAD` times the sum of sqrt(share) times the component.
    shares : dict of str to float
        The share of each component in the variance of the label.
    usage : pandas.DataFrame
        Codon usage that genes were drawn from: a row per species, a column per codon; the codons of an amino acid sum
        to 1. `embedstore.coding.recode` takes it.
    """

    name: str
    data: CodingData
    truth: pd.DataFrame
    shares: dict[str, float]
    usage: pd.DataFrame


def coding_world(
    name: str,
    *,
    seed: int = 0,
    samples: int = 1500,
    test: int = 500,
    valid: int = 0,
    species: int = 6,
    lengths: tuple[int, int] = (80, 120),
    aa_leak: float = 0.0,
) -> CodingWorld:
    """Simulate genes of several species whose melting points have planted causes.

    Genes begin with ATG and end with TAA. Each species has a codon usage of its own, and each gene leans to or from G
    and C in third places; all genes draw their amino acids from one composition, so that proteins say nothing about the
    species. Of 16 random orders of a gene's synonymous codons one is taken: that in which neighbouring codons end in
    the same letter most often, or least often, with even odds. So how often codons are used says nothing about order.

    The components of a label are the species' own offset; a linear function of amino acid frequencies; GC in third
    places, less what species and amino acids explain of it; how often neighbouring codons end alike, less the mean over
    the 16 orders; and noise.

    Parameters
    ----------
    name
        One of `WORLDS`. The worlds of one seed have the same sequences and components; they differ in the shares of
        these, and so in their labels.
    seed
        Same arguments, same samples.
    samples
        Number of genes, default 1,500.
    test, valid
        How many of them are test samples (default 500) and validation samples (default 0); the others are for training.
    species
        Number of species, default 6, named ``species_1`` ...; they have as many genes each.
    lengths
        Fewest and most residues of a protein, default 80 and 120.
    aa_leak
        How much the amino acid composition differs between species: standard deviation of the log frequencies, default
        0. Above 0 proteins betray their species.

    Returns
    -------
    CodingWorld
        Samples ``gene1`` ..., in random order.

    Raises
    ------
    InputError
        If there is no such world, or a number is out of range.

    Examples
    --------
    >>> world = coding_world("mixed", samples=120, test=40)
    >>> world.data.table["split"].value_counts().to_dict(), world.usage.shape
    ({'train': 80, 'test': 40}, (6, 64))
    """
    import pandas as pd

    from embedstore.tasks.coding import make_coding

    if name not in WORLDS:
        raise InputError(f"There is no world {name!r}.{did_you_mean(name, WORLDS)}")
    _check(samples, test, valid, species, lengths, aa_leak, seed)
    rng = np.random.default_rng(seed)
    ids = [f"gene{number + 1}" for number in range(samples)]
    owner = rng.permutation(np.arange(samples) % species)
    usage = _usage(rng, species)
    drawn = _genes(rng, usage, owner, rng.integers(lengths[0], lengths[1] + 1, size=samples), aa_leak)
    genes, local = _ordered(rng, drawn, ids, seed)
    truth = pd.DataFrame(_components(rng, genes, local, owner), pd.Index(ids, name="id"), list(COMPONENTS))
    shares = WORLDS[name]
    names = [f"species_{number + 1}" for number in range(species)]
    train = samples - valid - test
    frame = pd.DataFrame(
        {
            "id": ids,
            "split": ["train"] * train + ["valid"] * valid + ["test"] * test,
            "cds": [codes.tobytes().decode() for codes in genes],
            "label": MEAN + SPREAD * truth.to_numpy() @ np.sqrt([shares[part] for part in COMPONENTS]),
            "species": [names[number] for number in owner],
        }
    )
    source = {"kind": "simulated", "world": name, "species": species, "lengths": list(lengths), "aa_leak": aa_leak}
    data = make_coding(frame, "melting_point", seed=seed, source=source)
    return CodingWorld(name, data, truth, dict(shares), pd.DataFrame(usage, names, list(CODONS)))


def third_base_agreement(codons: Codons) -> NDArray[np.float64]:
    """Return how often neighbouring codons end in the same letter.

    Parameters
    ----------
    codons
        Of coding sequences; see `embedstore.coding.read_codons`. A codon with other letters than A, C, G, T agrees with
        none.

    Returns
    -------
    numpy.ndarray
        (sample,) float64, share of a sequence's neighbouring pairs; NaN where there is only one codon.

    Examples
    --------
    >>> from embedstore.sequences import encode
    >>> third_base_agreement(read_codons([encode("ATGCCGCCA")]))
    array([0.5])
    """
    last = np.where(codons.index < 0, -np.arange(len(codons.index)) - 1, codons.index % 4)
    same = np.append(last[1:] == last[:-1], False)
    same[codons.first[1:] - 1] = False  # the next codon is of another sequence
    pairs = np.diff(codons.first) - 1
    counts = np.add.reduceat(same, codons.first[:-1], dtype=np.int64)
    share: NDArray[np.float64] = np.divide(counts, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return share


def random_proteins(rng: np.random.Generator, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Draw proteins, each residue on its own, with about the amino acid frequencies of Swiss-Prot.

    Parameters
    ----------
    rng
        Source of random numbers.
    lengths
        (protein,) residues of each.

    Returns
    -------
    list of numpy.ndarray
        Each (residue,) places in `embedstore.sequences.AMINO_ACIDS`.
    """
    drawn = rng.choice(20, size=int(lengths.sum()), p=_AMINO_ACIDS / _AMINO_ACIDS.sum())
    return np.split(drawn, np.cumsum(lengths)[:-1])


def written(codons: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Write codons as letters.

    Parameters
    ----------
    codons
        (codon,) places in `embedstore.coding.CODONS`.

    Returns
    -------
    numpy.ndarray
        (nucleotide,) uint8, ASCII letters.

    Examples
    --------
    >>> written(np.array([14, 48])).tobytes()
    b'ATGTAA'
    """
    letters: NDArray[np.uint8] = _LETTERS[codons].ravel()
    return letters


def _check(
    samples: int, test: int, valid: int, species: int, lengths: tuple[int, int], aa_leak: float, seed: int
) -> None:
    """Raise where a number makes no sense."""
    # Fewer genes than this leave nothing of GC once species and amino acids are accounted for.
    least = 2 * (species + len(AMINO_ACIDS))
    wrong = {
        f"samples={samples}: wanted at least {least} with {species} species": samples < least,
        f"test={test}, valid={valid}: wanted 0 or more, and fewer than samples={samples} in all": min(test, valid) < 0
        or test + valid >= samples,
        f"species={species}: wanted at least 2": species < 2,
        f"lengths={lengths}: wanted two numbers of residues, at least 10, the smaller one first": not (
            10 <= lengths[0] <= lengths[1]
        ),
        f"aa_leak={aa_leak}, seed={seed}: must not be negative": min(aa_leak, seed) < 0,
    }
    faults = [text for text, seen in wrong.items() if seen]
    if faults:
        raise InputError(f"coding_world: {'; '.join(faults)}.")


def _usage(rng: np.random.Generator, species: int) -> NDArray[np.float64]:
    """Draw the codon usage of each species, (species, 64); stop codons are even."""
    weights = rng.gamma(_USAGE, size=(species, 64))  # gamma variables over their sum are a Dirichlet variable
    weights[:, _CODE.family == 0] = 1
    return within_families(weights, 1)


def _genes(
    rng: np.random.Generator,
    usage: NDArray[np.float64],
    owner: NDArray[np.int64],
    lengths: NDArray[np.int64],
    aa_leak: float,
) -> list[NDArray[np.uint8]]:
    """Draw the codons of genes: ATG, codons by the gene's amino acids and leaning and the species' usage, TAA."""
    base = np.log(_AMINO_ACIDS) + aa_leak * rng.normal(size=(len(usage), 20))
    base = np.exp(base) / np.exp(base).sum(axis=1, keepdims=True)
    amino_acids = rng.gamma(_LIKE_BASE * base[owner])
    amino_acids /= amino_acids.sum(axis=1, keepdims=True)
    strong = np.isin(np.arange(64) % 4, (1, 2))
    leaning = np.exp(_TILT * rng.normal(size=(len(owner), 1)) * (strong - 0.5))
    place = np.array([AMINO_ACIDS.find(chr(letter)) for letter in _CODE.amino_acid])  # -1 for stop codons
    odds = within_families(usage[owner] * leaning, 1) * np.where(place < 0, 0, amino_acids[:, place])
    steps = odds.cumsum(axis=1)
    genes = []
    for edges, length in zip(steps / steps[:, -1:], lengths.tolist(), strict=True):
        inner = np.searchsorted(edges, rng.random(length - 1), side="right")
        genes.append(written(np.concatenate([[_START], inner, [_STOP]])))
    return genes


def _ordered(
    rng: np.random.Generator, genes: list[NDArray[np.uint8]], ids: list[str], seed: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Take the most or the least regular of some orders of each gene's codons, and how much it is out of the common."""
    orders = [recode(genes, "permuted", ids=ids, seed=_ORDERS * seed + number) for number in range(_ORDERS)]
    agreement = np.array([third_base_agreement(read_codons(order)) for order in orders])
    taken = np.where(rng.random(len(genes)) < 0.5, agreement.argmax(axis=0), agreement.argmin(axis=0))
    local = agreement[taken, np.arange(len(genes))] - agreement.mean(axis=0)
    return [orders[number][gene] for gene, number in enumerate(taken.tolist())], local


def _components(
    rng: np.random.Generator,
    genes: list[NDArray[np.uint8]],
    local: NDArray[np.float64],
    owner: NDArray[np.int64],
) -> dict[str, NDArray[np.float64]]:
    """Return the components of the labels, each of mean 0 and variance 1."""
    proteins = [translate(codes) for codes in genes]
    composition = amino_acid_frequencies(proteins)
    known = np.hstack([np.eye(owner.max() + 1)[owner], composition])
    strong = gc3(genes)[:, 0]
    parts = {
        "species": rng.normal(size=owner.max() + 1)[owner],
        "protein": composition @ rng.normal(size=composition.shape[1]),
        "gc": strong - known @ np.linalg.lstsq(known, strong, rcond=None)[0],
        "local": local,
        "noise": rng.normal(size=len(genes)),
    }
    return {name: (part - part.mean()) / part.std() for name, part in parts.items()}
