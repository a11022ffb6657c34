"""Single-nucleotide variants of a simulated genome: broken splice sites, and controls that break nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError
from embedstore.gene_model import GENETIC_CODE, LETTERS, PROMOTER

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.simulate import Simulation

_FROM_EXON_END = 3  # the donor matrix reaches three letters into the exon


def splice_variants(sim: Simulation, count: int, seed: int = 0) -> pd.DataFrame:
    """Draw variants that break splice sites, and as many synonymous and intergenic ones.

    A splice variant changes one of the two invariant letters of a donor (GT) or an acceptor (AG). For each, one
    synonymous and one intergenic variant with the same reference and alternate letter are drawn: a score that only
    knows which letter became which cannot tell the three kinds apart. Synonymous variants change the third letter of a
    codon and not its amino acid; they are not among the three letters next to an intron, which are part of its splice
    site. Intergenic ones are outside of genes and promoters.

    Parameters
    ----------
    sim
        The genome.
    count
        Variants of each of the three kinds.
    seed
        Same simulation and seed, same variants.

    Returns
    -------
    pandas.DataFrame
        3 x `count` rows in genome order, no position twice. Columns: chromosome; position (0-based); ref and alt
        (letters on the forward strand); consequence (``splice_donor``, ``splice_acceptor``, ``synonymous``,
        ``intergenic``); label (1 for splice variants, 0 for the others).

    Raises
    ------
    InputError
        If the genome is too small for so many.

    Examples
    --------
    >>> from embedstore.simulate import simulate_genome
    >>> splice_variants(simulate_genome(60_000, chromosomes=3), 10)["label"].sum()
    np.int64(10)
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    genome = np.concatenate(list(sim.contigs.values()))
    sites = _splice_sites(np.concatenate(list(sim.labels.values())))
    splice = _one_each(rng, genome, np.concatenate(list(sites.values())))
    if len(splice) < count:
        raise InputError(f"{count:,} splice variants are wanted; the genome has {len(splice):,} letters of GT and AG.")
    splice = splice[:count]
    synonymous = _one_each(rng, genome, *_synonymous(sim, genome))
    intergenic = _one_each(rng, genome, np.flatnonzero(_intergenic(sim)))
    found = {
        "splice_donor": splice[np.isin(splice[:, 0], sites["splice_donor"])],
        "splice_acceptor": splice[np.isin(splice[:, 0], sites["splice_acceptor"])],
        "synonymous": _matched(genome, splice, synonymous, "synonymous"),
        "intergenic": _matched(genome, splice, intergenic, "intergenic"),
    }
    place, alternate = np.concatenate(list(found.values())).T
    first = np.cumsum([0, *(len(codes) for codes in sim.contigs.values())])
    contig = np.searchsorted(first, place, side="right") - 1
    table = pd.DataFrame(
        {
            "chromosome": np.array(list(sim.contigs), dtype=object)[contig],
            "position": place - first[contig],
            "ref": [chr(letter) for letter in genome[place]],
            "alt": [chr(letter) for letter in alternate],
            "consequence": np.repeat(list(found), [len(part) for part in found.values()]),
            "label": np.repeat([1, 1, 0, 0], [len(part) for part in found.values()]),
        }
    )
    return table.iloc[np.argsort(place)].reset_index(drop=True)


def _splice_sites(labels: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
    """Return the places of the two letters of each donor and acceptor, on a genome of joined chromosomes."""
    donor, acceptor, donor_reverse, acceptor_reverse = (np.flatnonzero(labels == k) for k in (1, 3, 5, 7))
    return {
        "splice_donor": np.concatenate([donor, donor + 1, donor_reverse, donor_reverse - 1]),
        "splice_acceptor": np.concatenate([acceptor, acceptor - 1, acceptor_reverse, acceptor_reverse + 1]),
    }


def _intergenic(sim: Simulation) -> NDArray[np.bool_]:
    """Return what is outside of genes and promoters, on a genome of joined chromosomes."""
    free = {name: np.ones(len(codes), bool) for name, codes in sim.contigs.items()}
    for chromosome, start, end in zip(*(sim.genes[name] for name in ("chromosome", "start", "end")), strict=True):
        free[chromosome][max(0, start - PROMOTER) : end + PROMOTER] = False
    return np.concatenate(list(free.values()))


def _synonymous(sim: Simulation, genome: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return places and alternate letters of all synonymous changes, on a genome of joined chromosomes."""
    amino_acid = np.frombuffer(GENETIC_CODE.encode(), np.uint8)
    index = np.zeros(256, np.int64)
    index[LETTERS] = np.arange(4)
    complement = np.zeros(256, np.int64)
    complement[LETTERS] = LETTERS[::-1]
    first = dict(zip(sim.contigs, np.cumsum([0, *map(len, sim.contigs.values())]), strict=False))
    places, alternates = [], []
    for chromosome, strand, exons in zip(*(sim.genes[name] for name in ("chromosome", "strand", "exons")), strict=True):
        place = np.concatenate([np.arange(start, end) for start, end in exons]) + first[chromosome]
        inner = np.concatenate([_inside(end - start) for start, end in exons])
        if strand == "-":
            place, inner = place[::-1], inner[::-1]
        sense = genome[place] if strand == "+" else complement[genome[place]]
        codons = index[sense].reshape(-1, 3) @ [16, 4, 1]
        changed = codons[:, None] - codons[:, None] % 4 + np.arange(4)  # the third letter is any of the four
        same = (amino_acid[changed] == amino_acid[codons][:, None]) & (changed != codons[:, None])
        same &= inner[2::3, None]
        same[-1] = False  # a stop codon is not labelled as exon
        codon, letter = np.nonzero(same)
        places.append(place[2::3][codon])
        alternates.append(LETTERS[letter] if strand == "+" else complement[LETTERS[letter]])
    return np.concatenate(places), np.concatenate(alternates)


def _inside(length: int) -> NDArray[np.bool_]:
    """Return which nucleotides of an exon are not next to its ends."""
    place = np.arange(length)
    return (place >= _FROM_EXON_END) & (place < length - _FROM_EXON_END)


def _one_each(
    rng: np.random.Generator,
    genome: NDArray[np.uint8],
    places: NDArray[np.int64],
    alternates: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return one change per place, in random order, (place, alternate letter); any of three where none are given."""
    if alternates is None:
        places = rng.permutation(places)
        step = rng.integers(1, 4, size=len(places))
        return np.stack([places, LETTERS[(np.searchsorted(LETTERS, genome[places]) + step) % 4]], axis=1)
    order = rng.permutation(len(places))
    kept = order[np.unique(places[order], return_index=True)[1]]
    return rng.permutation(np.stack([places[kept], alternates[kept]], axis=1))


def _matched(
    genome: NDArray[np.uint8], wanted: NDArray[np.int64], candidates: NDArray[np.int64], kind: str
) -> NDArray[np.int64]:
    """Return candidates with the same reference and alternate letters as those wanted, as many of each pair."""
    pairs, offered = (genome[change[:, 0]].astype(np.int64) * 256 + change[:, 1] for change in (wanted, candidates))
    chosen = []
    for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
        found = np.flatnonzero(offered == pair)
        if len(found) < count:
            raise InputError(
                f"{count} {kind} variants {chr(pair // 256)}>{chr(pair % 256)} are wanted to match splice variants; "
                f"the genome has {len(found)}. Ask for fewer variants or simulate a longer genome."
            )
        chosen.append(candidates[found[:count]])
    return np.concatenate(chosen)
