"""What a simulated gene is made of: codon usage, splice-site matrices, motifs, background sequence.

The numbers are round figures of the kind found in small-intron eukaryotes such as insects: codons that prefer to end
in C or G, introns rich in T, background poor in CpG and rich in A and T. They belong to no species.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERS = np.frombuffer(b"ACGT", np.uint8)

# NCBI translation table 1, codons in the order AAA, AAC, AAG, AAT, ACA ... TTT.
GENETIC_CODE = "KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF"

# Percent of each amino acid in known proteins (UniProtKB/Swiss-Prot statistics, rounded).
_AMINO_ACIDS = {
    "A": 8.3, "R": 5.5, "N": 4.1, "D": 5.5, "C": 1.4, "Q": 3.9, "E": 6.7, "G": 7.1, "H": 2.3, "I": 5.9,
    "L": 9.7, "K": 5.8, "M": 2.4, "F": 3.9, "P": 4.7, "S": 6.6, "T": 5.4, "W": 1.1, "Y": 2.9, "V": 6.9,
}  # fmt: skip
# How much the codons of one amino acid are preferred, by their last letter A, C, G, T.
_THIRD_LETTER = np.array([0.8, 4.0, 3.0, 1.2])
_STOPS = {"TAA": 0.45, "TAG": 0.25, "TGA": 0.3}

CODONS = LETTERS[np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(64, 3)]
"""(codon, 3) uint8: the 64 codons, AAA first, TTT last."""


def _codon_usage() -> NDArray[np.float64]:
    """Return the share of each sense codon, (64,), and 0 for stops."""
    usage = np.zeros(64)
    for amino_acid, share in _AMINO_ACIDS.items():
        family = np.array([letter == amino_acid for letter in GENETIC_CODE])
        weight = family * _THIRD_LETTER[np.arange(64) % 4]
        usage += share * weight / weight.sum()
    return np.asarray(usage / usage.sum())


def _stop_usage() -> NDArray[np.float64]:
    """Return the share of each stop codon, (64,)."""
    return np.array([_STOPS.get(codon.tobytes().decode(), 0.0) for codon in CODONS])


_ATG = GENETIC_CODE.index("M")

CODON_USAGE = _codon_usage()
"""(64,) share of each codon inside a coding sequence; stops 0."""

STOP_USAGE = _stop_usage()
"""(64,) share of each stop codon."""


def _matrix(rows: str) -> NDArray[np.float64]:
    """Read a position weight matrix: percent of A, C, G, T per position, positions parted by slashes."""
    matrix = np.array([row.split() for row in rows.split("/")], dtype=np.float64)
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


# Consensus MAG|GTRAGT and YYYYYYYYYYNYAG|G (Mount 1982, Nucleic Acids Res. 10:459), sharpened a little.
DONOR_EXON = _matrix("35 35 18 12 / 64 10 11 15 / 8 3 81 8")
DONOR = _matrix("0 0 100 0 / 0 0 0 100 / 58 2 38 2 / 74 7 11 8 / 7 5 82 6 / 14 14 18 54")
ACCEPTOR = _matrix(" / ".join(["8 30 8 54"] * 12) + " / 24 28 22 26 / 4 66 1 29 / 100 0 0 0 / 0 0 100 0")
ACCEPTOR_EXON = _matrix("24 14 51 11")
# Yeast-like TACTAAC, read from the first T; animals have the looser YTNAY.
BRANCH_POINT = _matrix("6 20 4 70 / 55 15 15 15 / 4 86 2 8 / 4 6 3 87 / 62 5 25 8 / 98 1 0 1 / 3 72 3 22")
# The four letters before ATG, consensus MAAM (Drosophila: Cavener 1987, Nucleic Acids Res. 15:1353).
START_CONTEXT = _matrix("38 38 12 12 / 68 10 16 6 / 62 18 12 8 / 44 36 12 8")
TATA_BOX = _matrix("4 4 2 90 / 92 2 2 4 / 2 2 2 94 / 94 1 1 4 / 62 1 1 36 / 92 1 3 4 / 46 4 14 36 / 38 12 32 18")
POLYA_SIGNAL = _matrix("96 1 1 2 / 94 2 2 2 / 2 2 2 94 / 95 1 2 2 / 95 2 1 2 / 94 2 2 2")

_BASE = {"background": [31, 19, 19, 31], "intron": [25, 16, 15, 44]}


def _chain(kind: str) -> NDArray[np.float64]:
    """Return P(letter | the two before it), (4, 4, 4): composition, few CpG, runs of A and of T."""
    a, c, g, t = range(4)
    weight = np.ones((4, 4, 1)) * np.array(_BASE[kind], dtype=np.float64)
    weight[:, c, g] *= 0.35
    for run in (a, t):
        weight[:, run, run] *= 1.15
        weight[run, run, run] *= 1.25
    weight[:, t, a] *= 0.8
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def draw_background(rng: np.random.Generator, length: int, kind: str) -> NDArray[np.uint8]:
    """Draw sequence from a second-order Markov chain.

    Parameters
    ----------
    rng
        Source of randomness.
    length
        Nucleotides.
    kind
        ``"background"``: between genes, both strands alike; ``"intron"``: rich in T.

    Returns
    -------
    numpy.ndarray
        (length,) uint8, ASCII letters. It is made of several hundred chains side by side, one after another.
    """
    chains = 512
    steps = -(-length // chains)
    cumulative = np.cumsum(_chain(kind), axis=-1)[..., :3]
    drawn = np.empty((steps + 2, chains), np.int64)
    drawn[:2] = rng.integers(4, size=(2, chains))
    chance = rng.random((steps, chains, 1))
    for step in range(steps):
        drawn[step + 2] = (chance[step] > cumulative[drawn[step], drawn[step + 1]]).sum(axis=1)
    return LETTERS[drawn[2:].T.ravel()[:length]]


def draw_matrix(rng: np.random.Generator, matrix: NDArray[np.float64], count: int) -> NDArray[np.uint8]:
    """Draw words from a position weight matrix.

    Parameters
    ----------
    rng
        Source of randomness.
    matrix
        (position, 4) probabilities of A, C, G, T.
    count
        Words.

    Returns
    -------
    numpy.ndarray
        (count, position) uint8, ASCII letters.
    """
    chance = rng.random((count, len(matrix), 1))
    return np.asarray(LETTERS[(chance > np.cumsum(matrix, axis=1)[:, :3]).sum(axis=-1)])


def draw_introns(rng: np.random.Generator, lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw introns: GT..., T-rich sequence, branch point, polypyrimidine tract, ...AG.

    Parameters
    ----------
    rng
        Source of randomness.
    lengths
        (intron,) nucleotides, 60 or more.

    Returns
    -------
    codes : numpy.ndarray
        uint8, all introns one after another, as transcribed.
    branch_points : numpy.ndarray
        (intron,) where each branch point motif begins, counted from the start of its intron.
    """
    codes = draw_background(rng, int(lengths.sum()), "intron")
    starts = np.cumsum(lengths) - lengths
    ends = starts + lengths
    branches = lengths - rng.integers(26, 42, size=len(lengths))
    for matrix, place in ((DONOR, starts), (BRANCH_POINT, starts + branches), (ACCEPTOR, ends - len(ACCEPTOR))):
        codes[place[:, None] + np.arange(len(matrix))] = draw_matrix(rng, matrix, len(lengths))
    return codes, branches


class Transcript(NamedTuple):
    """A gene as it is transcribed, 5' to 3', with the promoter before it.

    Attributes
    ----------
    codes : numpy.ndarray
        (nucleotide,) uint8, ASCII letters: promoter, leader, exons and introns in turn, trailer.
    exons : numpy.ndarray
        (exon, 2) int64, start and end in `codes` of the coding part of each exon, stop codon included.
    motifs : list of tuple
        (kind, start, end) of the motifs, in `codes`.
    """

    codes: NDArray[np.uint8]
    exons: NDArray[np.int64]
    motifs: list[tuple[str, int, int]]


PROMOTER = 40
"""Nucleotides of a `Transcript` before the place where transcription starts."""


def draw_transcripts(rng: np.random.Generator, count: int) -> list[Transcript]:
    """Draw genes with 2 to 7 coding exons of 60 to 300 nucleotides and introns of 60 to 400.

    Parameters
    ----------
    rng
        Source of randomness.
    count
        Genes.

    Returns
    -------
    list of Transcript
        One per gene.
    """
    exon_counts = rng.integers(2, 8, size=count)
    exons = _draw_exons(rng, exon_counts)
    lengths = np.clip(rng.lognormal(np.log(130), 0.5, size=int((exon_counts - 1).sum())), 60, 400).astype(np.int64)
    codes, branches = draw_introns(rng, lengths)
    introns = _split(codes, lengths)
    ends = rng.integers([[PROMOTER + 40], [80]], [[PROMOTER + 121], [201]], size=(2, count))
    leaders, trailers = (_split(draw_background(rng, int(part.sum()), "background"), part) for part in ends)
    _plant_ends(rng, leaders, trailers)
    transcripts = []
    last_exons = np.cumsum(exon_counts)
    for gene, (last, many) in enumerate(zip(last_exons, exon_counts, strict=True)):
        own = slice(last - many - gene, last - gene - 1)  # a gene has one intron fewer than exons
        parts = [np.empty(0, np.uint8)] * (2 * many + 1)
        parts[0], parts[-1] = leaders[gene], trailers[gene]
        parts[1::2], parts[2:-1:2] = exons[last - many : last], introns[own]
        edges = np.cumsum([len(part) for part in parts])
        motifs = [("tata_box", PROMOTER - 31, PROMOTER - 23)]
        motifs += [("branch_point", start, start + 7) for start in (edges[1:-2:2] + branches[own]).tolist()]
        motifs += [("polya_signal", int(edges[-1]) - 26, int(edges[-1]) - 20)]
        transcripts.append(Transcript(np.concatenate(parts), edges[:-1].reshape(-1, 2), motifs))
    return transcripts


def _draw_exons(rng: np.random.Generator, exon_counts: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """Draw coding sequences and cut each into exons where its codons fit the exon side of a splice site.

    The place of a cut is drawn among 13 neighbours with the odds that the matrices give them: introns then lie in all
    three phases, and codons keep their usage.
    """
    last = np.cumsum(exon_counts)
    lengths = rng.integers(74, 287, size=int(exon_counts.sum()))
    ends = np.cumsum(lengths)[last - 1]
    lengths[last - 1] -= np.diff(ends, prepend=0) % 3
    edges = np.cumsum(lengths)
    ends = edges[last - 1]
    codons = rng.choice(64, size=int(edges[-1]) // 3, p=CODON_USAGE) if len(edges) else np.empty(0, np.int64)
    codons[(ends - np.diff(ends, prepend=0)) // 3] = _ATG
    codons[ends // 3 - 1] = rng.choice(64, size=len(ends), p=STOP_USAGE)
    coding = CODONS[codons].ravel()
    cuts = np.delete(edges, last - 1)
    around = cuts[:, None] + np.arange(-6, 7)
    letters = np.searchsorted(LETTERS, coding)
    matrix = np.concatenate([DONOR_EXON, ACCEPTOR_EXON])
    odds = sum(np.log(matrix[i][letters[around + i - 3]]) for i in range(len(matrix)))
    cuts = around[np.arange(len(cuts)), np.argmax(odds + rng.gumbel(size=around.shape), axis=1)]
    return np.split(coding, np.sort(np.concatenate([cuts, ends]))[:-1]) if len(edges) else []


def _plant_ends(rng: np.random.Generator, leaders: list[NDArray[np.uint8]], trailers: list[NDArray[np.uint8]]) -> None:
    """Write TATA boxes, start contexts and polyadenylation signals into the untranslated ends."""
    for parts, place, matrix in (
        (leaders, PROMOTER - 31, TATA_BOX),
        (leaders, -len(START_CONTEXT), START_CONTEXT),
        (trailers, -26, POLYA_SIGNAL),
    ):
        for part, word in zip(parts, draw_matrix(rng, matrix, len(parts)), strict=True):
            start = place % len(part)
            part[start : start + len(word)] = word


def _split(codes: NDArray[np.uint8], lengths: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """Cut sequence into pieces of given lengths, which add up to its own."""
    return np.split(codes, np.cumsum(lengths)[:-1]) if len(lengths) else []
