"""Simulated genomes with planted genes: sequence, gene structure, labels and variants whose truth is known.

A genome has protein-coding genes on both strands: start context, ATG, codons of biased usage without an in-frame stop,
stop codon; introns GT...AG in all three phases, with donor and acceptor context, branch point and polypyrimidine tract;
a TATA box before the transcript and a polyadenylation signal near its end. Between genes lies background sequence with
copies of a few repeats. `embedstore.gene_model` holds the numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore import gene_model
from embedstore.errors import InputError
from embedstore.sequences import reverse_complement
from embedstore.simulated_variants import motif_variants, random_variants, splice_variants, write_vcf

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "GeneFindingFiles",
    "Simulation",
    "motif_variants",
    "random_variants",
    "simulate_genome",
    "splice_variants",
    "splits",
    "write_fasta",
    "write_gene_finding",
    "write_gff",
    "write_vcf",
]

EXON, DONOR, INTRON, ACCEPTOR, NON_CODING = 0, 1, 2, 3, 8
"""Classes of the forward strand, in BEND's order; the reverse strand's are 4 higher. Class 8 has no strand."""

_LEAST_GAP = 300
_REPEAT = 300


class Simulation(NamedTuple):
    """A simulated genome.

    Attributes
    ----------
    contigs : dict of str to numpy.ndarray
        Chromosome name -> (nucleotide,) uint8, ASCII letters A, C, G, T.
    genes : pandas.DataFrame
        One row per gene, in genome order: gene, chromosome, start, end (transcript, 0-based, half-open), strand, exons.
        ``exons`` is a tuple of (start, end) of the coding part of each exon, in genome order; the stop codon is
        included.
    labels : dict of str to numpy.ndarray
        Chromosome name -> (nucleotide,) int8, BEND's nine classes. A donor is the first and an acceptor the last
        nucleotide of an intron, as transcribed. Untranslated regions and stop codons are non-coding.
    motifs : pandas.DataFrame
        Where motifs were planted: kind (``tata_box``, ``branch_point``, ``polya_signal``), chromosome, start, end,
        strand.
    """

    contigs: dict[str, NDArray[np.uint8]]
    genes: pd.DataFrame
    labels: dict[str, NDArray[np.int8]]
    motifs: pd.DataFrame


class GeneFindingFiles(NamedTuple):
    """Paths of a gene-finding task in BEND's format."""

    genome: Path
    bed: Path
    labels: Path


def simulate_genome(
    length: int = 1_500_000, genes: int | None = None, chromosomes: int = 10, seed: int = 0
) -> Simulation:
    """Simulate a genome.

    Parameters
    ----------
    length
        Nucleotides in all, default 1.5 million; the chromosomes are equally long (the last takes the remainder).
    genes
        Number of genes, default one in 2,700 nucleotides. They are spread evenly over the chromosomes.
    chromosomes
        Number of chromosomes, ``chr1``, ``chr2`` ..., default 10.
    seed
        Same arguments, same bytes.

    Returns
    -------
    Simulation
        Sequences, genes, labels and motifs.

    Raises
    ------
    InputError
        If a number is negative, there is no nucleotide, or the genes do not fit into a chromosome.

    Examples
    --------
    >>> sim = simulate_genome(length=60_000, chromosomes=3, seed=1)
    >>> len(sim.genes), sim.contigs["chr1"][:5].tobytes()
    (22, b'...')
    """
    import pandas as pd

    genes = length // 2700 if genes is None else genes
    if min(length, chromosomes) < 1 or min(genes, seed) < 0:
        raise InputError(
            f"length={length}, genes={genes}, chromosomes={chromosomes}, seed={seed}: must not be negative."
        )
    rng = np.random.default_rng(seed)
    transcripts = gene_model.draw_transcripts(rng, genes)
    repeats = [gene_model.draw_background(rng, _REPEAT, "background") for _ in range(3)]
    contigs, labels = {}, {}
    gene_rows: list[tuple[object, ...]] = []
    motif_rows: list[tuple[object, ...]] = []
    for number, own in enumerate(np.array_split(np.arange(genes), chromosomes)):
        name = f"chr{number + 1}"
        size = length // chromosomes + (length % chromosomes if number == chromosomes - 1 else 0)
        contig = gene_model.draw_background(rng, size, "background")
        label = np.full(size, NON_CODING, np.int8)
        starts = _place(rng, name, size, [len(transcripts[gene].codes) for gene in own])
        _plant_repeats(rng, contig, repeats)
        for start, gene in zip(starts.tolist(), own.tolist(), strict=True):
            strand = "+-"[int(rng.integers(2))]
            placed = _Placed(transcripts[gene], start, strand)
            contig[placed.at], label[placed.at] = placed.codes(), placed.labels()
            transcribed = placed.span(gene_model.PROMOTER, len(transcripts[gene].codes))
            gene_rows.append((f"gene{gene + 1}", name, *transcribed, strand, placed.exons()))
            motif_rows += [(kind, name, *placed.span(*span), strand) for kind, *span in transcripts[gene].motifs]
        contigs[name], labels[name] = contig, label
    return Simulation(
        contigs,
        pd.DataFrame(gene_rows, columns=["gene", "chromosome", "start", "end", "strand", "exons"]),
        labels,
        pd.DataFrame(motif_rows, columns=["kind", "chromosome", "start", "end", "strand"]),
    )


class _Placed(NamedTuple):
    """A transcript on a chromosome."""

    transcript: gene_model.Transcript
    start: int
    strand: str

    @property
    def at(self) -> slice:
        """Where it is, promoter included."""
        return slice(self.start, self.start + len(self.transcript.codes))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Turn coordinates in the transcript into those of the genome."""
        if self.strand == "+":
            return self.start + start, self.start + end
        return self.at.stop - end, self.at.stop - start

    def exons(self) -> tuple[tuple[int, int], ...]:
        """Return the exons in genome order."""
        return tuple(sorted(self.span(*exon) for exon in self.transcript.exons.tolist()))

    def codes(self) -> NDArray[np.uint8]:
        """Return the forward strand."""
        return self.transcript.codes if self.strand == "+" else reverse_complement(self.transcript.codes)

    def labels(self) -> NDArray[np.int8]:
        """Return the classes along the forward strand."""
        exons = self.transcript.exons
        label = np.full(len(self.transcript.codes), NON_CODING, np.int8)
        label[exons[0, 0] : exons[-1, 1]] = INTRON
        for start, end in exons:
            label[start:end] = EXON
        label[exons[:-1, 1]] = DONOR
        label[exons[1:, 0] - 1] = ACCEPTOR
        label[exons[-1, 1] - 3 : exons[-1, 1]] = NON_CODING
        if self.strand == "+":
            return label
        return np.where(label == NON_CODING, NON_CODING, label + 4)[::-1].astype(np.int8)


def _place(rng: np.random.Generator, name: str, size: int, lengths: list[int]) -> NDArray[np.int64]:
    """Return where each gene starts: in turn, with random gaps of 300 nucleotides or more."""
    free = size - sum(lengths) - _LEAST_GAP * (len(lengths) + 1)
    if free < 0:
        raise InputError(
            f"{name} has {size:,} nucleotides; its {len(lengths)} genes and the gaps between them need "
            f"{size - free:,}. Give fewer genes or a longer genome."
        )
    gaps = _LEAST_GAP + np.floor(free * rng.dirichlet(np.ones(len(lengths) + 1))).astype(np.int64)
    return np.asarray(np.cumsum(gaps[:-1]) + np.cumsum([0, *lengths[:-1]])[: len(lengths)])


def _plant_repeats(rng: np.random.Generator, contig: NDArray[np.uint8], repeats: list[NDArray[np.uint8]]) -> None:
    """Write copies of repeats, 12 % diverged, over 5 % of a contig; genes are written over them."""
    many = len(contig) // (20 * _REPEAT)
    for start in rng.integers(len(contig) - _REPEAT + 1, size=many).tolist():
        copy = repeats[int(rng.integers(len(repeats)))].copy()
        changed = rng.random(_REPEAT) < 0.12
        copy[changed] = gene_model.LETTERS[rng.integers(4, size=int(changed.sum()))]
        contig[start : start + _REPEAT] = copy if rng.random() < 0.5 else reverse_complement(copy)


def splits(sim: Simulation) -> dict[str, str]:
    """Assign whole chromosomes to splits: the last fifth ``test``, a tenth before it ``valid``, the others ``train``.

    Parameters
    ----------
    sim
        A simulation with three chromosomes or more.

    Returns
    -------
    dict of str to str
        Chromosome name -> split.

    Raises
    ------
    InputError
        If there are fewer than three chromosomes.

    Examples
    --------
    >>> splits(simulate_genome(length=30_000, chromosomes=3))
    {'chr1': 'train', 'chr2': 'valid', 'chr3': 'test'}
    """
    many = len(sim.contigs)
    if many < 3:
        raise InputError(f"{many} chromosomes cannot be split into train, valid and test; simulate three or more.")
    test, valid = max(1, many // 5), max(1, many // 10)
    names = ["train"] * (many - valid - test) + ["valid"] * valid + ["test"] * test
    return dict(zip(sim.contigs, names, strict=True))


def write_fasta(path: str | Path, contigs: Mapping[str, NDArray[np.uint8]]) -> Path:
    """Write contigs as FASTA, 60 letters to a line.

    Parameters
    ----------
    path
        File to write.
    contigs
        Name -> (nucleotide,) uint8, ASCII letters.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = Path(path)
    with path.open("wb") as file:
        for name, codes in contigs.items():
            file.write(f">{name}\n".encode())
            text = codes.tobytes()
            file.writelines(text[i : i + 60] + b"\n" for i in range(0, len(text), 60))
    return path


def write_gene_finding(
    sim: Simulation, folder: str | Path, *, flank: tuple[int, int] = (100, 500), seed: int = 0
) -> GeneFindingFiles:
    """Write a gene-finding task in BEND's format: one window per gene, with flanks of random length.

    Parameters
    ----------
    sim
        A simulation with three chromosomes or more.
    folder
        Where to write ``genome.fa``, ``gene_finding.bed`` and ``gene_finding.hdf5``; made if it is not there.
    flank
        Fewest and most nucleotides on either side of a transcript, default 100 and 500. A window ends with its
        chromosome. Where it reaches into a neighbouring gene, that is labelled too.
    seed
        Of the flanks.

    Returns
    -------
    GeneFindingFiles
        Paths. The BED file has a header and the columns chromosome, start, end, strand, transcript_id, split; the
        hdf5 file has one dataset, ``labels``, with one int8 array per row: the classes along the forward strand.

    Raises
    ------
    InputError
        If there are fewer than three chromosomes.
    """
    import h5py

    split = splits(sim)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    genes = sim.genes
    flanks = np.random.default_rng(seed).integers(flank[0], flank[1] + 1, size=(2, len(genes)))
    size = genes["chromosome"].map({name: len(codes) for name, codes in sim.contigs.items()})
    windows = genes.assign(
        start=np.maximum(0, genes["start"] - flanks[0]),
        end=np.minimum(size, genes["end"] + flanks[1]),
        split=genes["chromosome"].map(split),
    ).rename(columns={"gene": "transcript_id"})
    bed = folder / "gene_finding.bed"
    columns = ["chromosome", "start", "end", "strand", "transcript_id", "split"]
    windows.to_csv(bed, sep="\t", columns=columns, index=False, lineterminator="\n")
    with h5py.File(folder / "gene_finding.hdf5", "w") as file:
        rows = file.create_dataset("labels", len(windows), dtype=h5py.vlen_dtype(np.int8))
        for index, (name, start, end) in enumerate(zip(*(windows[column] for column in columns[:3]), strict=True)):
            rows[index] = sim.labels[name][start:end]
    return GeneFindingFiles(write_fasta(folder / "genome.fa", sim.contigs), bed, folder / "gene_finding.hdf5")


def write_gff(sim: Simulation, path: str | Path) -> Path:
    """Write the genes as GFF3: gene, mRNA, exons and coding sequences.

    Parameters
    ----------
    sim
        A simulation.
    path
        File to write.

    Returns
    -------
    pathlib.Path
        The file. A gene ``gene1`` has one transcript, ``gene1.1``; the untranslated ends are part of the first and the
        last exon.
    """
    lines = ["##gff-version 3"]
    lines += [f"##sequence-region {name} 1 {len(codes)}" for name, codes in sim.contigs.items()]
    columns = ("gene", "chromosome", "start", "end", "strand", "exons")
    for gene, chromosome, start, end, strand, coding in zip(*(sim.genes[name] for name in columns), strict=True):
        edges = [start, *np.array(coding).ravel().tolist()[1:-1], end]
        rows = [("gene", start, end, ".", f"ID={gene}"), ("mRNA", start, end, ".", f"ID={gene}.1;Parent={gene}")]
        rows += [("exon", *edges[i : i + 2], ".", f"Parent={gene}.1") for i in range(0, len(edges), 2)]
        rows += [
            ("CDS", *exon, phase, f"ID={gene}.1.cds;Parent={gene}.1")
            for exon, phase in zip(coding, _phases(coding, strand), strict=True)
        ]
        lines += [
            f"{chromosome}\tembedstore\t{kind}\t{first + 1}\t{last}\t.\t{strand}\t{phase}\t{attributes}"
            for kind, first, last, phase, attributes in rows
        ]
    path = Path(path)
    path.write_text("\n".join(lines) + "\n")
    return path


def _phases(coding: tuple[tuple[int, int], ...], strand: str) -> list[int]:
    """Return how many nucleotides stand before the first whole codon of each exon, in the direction of the gene."""
    step = 1 if strand == "+" else -1
    lengths = np.array([end - start for start, end in coding])[::step]
    phases: list[int] = (-(np.cumsum(lengths) - lengths) % 3)[::step].tolist()
    return phases
