"""Small simulated genomes and tables in exactly the format of BEND's released files, with what was planted in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import pandas as pd

from embedstore.simulate import simulate_genome, write_fasta, write_gene_finding
from embedstore.simulated_variants import splice_variants

if TYPE_CHECKING:
    from pathlib import Path

PARTS = [f"part{number}" for number in range(1, 11)]
THREE = ["train", "valid", "test"]
TARGETS = {"chromatin_accessibility": 125, "histone_modification": 18, "cpg_methylation": 7}
REGIONS = ("gene_finding", "enhancer_annotation", *TARGETS)
VARIANTS = ("variant_effects_expression", "variant_effects_disease")


class BendFiles(NamedTuple):
    """Files of a task, and the truth: contigs by name, the table as written, labels per row (or per variant)."""

    genome: Path
    bed: Path
    labels: Path | None
    contigs: dict[str, str]
    table: pd.DataFrame
    planted: list[np.ndarray]


def write_task(name: str, folder: Path, *, seed: int = 0, ragged: bool = False) -> BendFiles:
    """Write the files of any of the seven tasks; `ragged` stores the bins of enhancers as rows of variable length."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "gene_finding":
        return _gene_finding(folder, seed)
    if name == "enhancer_annotation":
        return _enhancer(folder, seed, ragged)
    if name in VARIANTS:
        return _variants(name, folder, seed)
    return _windows(name, folder, seed)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, sep="\t", index=False, lineterminator="\n")
    return path


def _gene_finding(folder: Path, seed: int) -> BendFiles:
    """Genes on both strands; columns strand, length and transcript_id; a ragged row of classes per gene."""
    sim = simulate_genome(length=60_000, chromosomes=3, seed=seed)
    files = write_gene_finding(sim, folder, seed=seed)
    table = pd.read_csv(files.bed, sep="\t")
    table.insert(4, "length", table["end"] - table["start"])
    table["transcript_id"] = [f"ENST{row:011d}.{row % 7 + 1}" for row in range(len(table))]
    with h5py.File(files.labels) as file:
        planted = list(file["labels"])
    bed = write_table(files.bed, table)
    return BendFiles(files.genome, bed, files.labels, _texts(sim.contigs), table, planted)


def _enhancer(folder: Path, seed: int, ragged: bool) -> BendFiles:
    """One region of 100,096 nucleotides per part, each on a chromosome of its own; 782 bins of 128."""
    rng = np.random.default_rng(seed)
    contigs = _genome(rng, {f"chr{number}": 100_300 for number in range(1, 11)})
    start = rng.integers(0, 200, len(contigs))
    table = pd.DataFrame({"chromosome": list(contigs), "start": start, "end": start + 100_096})
    table["strand"] = rng.choice(["+", "-"], len(table))
    table["split"] = PARTS
    planted = [(rng.random(782) < 0.02).astype(np.int64) for _ in range(len(table))]
    labels = folder / "enhancer_annotation.hdf5"
    with h5py.File(labels, "w") as file:
        if ragged:
            rows = file.create_dataset("labels", len(planted), h5py.vlen_dtype(np.int64))
            for row, one in enumerate(planted):
                rows[row] = one
        else:
            file["labels"] = np.array(planted)
    bed = write_table(folder / "enhancer_annotation.bed", table)
    return BendFiles(write_fasta(folder / "genome.fa", contigs), bed, labels, _texts(contigs), table, planted)


def _windows(name: str, folder: Path, seed: int) -> BendFiles:
    """Windows of 512 nucleotides on both strands; indices of targets, joined by commas, some empty for CpG."""
    rng = np.random.default_rng(seed)
    chromosomes = ["1", "2", "X"] if name == "chromatin_accessibility" else ["chr1", "chr2", "chrX"]
    contigs = _genome(rng, dict.fromkeys(chromosomes, 4000))
    targets = TARGETS[name]
    rows, planted = [], []
    for row in range(24):
        label = (rng.random(targets) < 3 / targets).astype(np.uint8)
        label[row % targets] = 1  # every target is set somewhere, the last one too
        if row == 0:
            label[-1] = 1
        if name == "cpg_methylation" and row % 8 == 5:
            label[:] = 0
        text = ",".join(str(target) for target in np.flatnonzero(label))
        start = int(rng.integers(0, 4000 - 512))
        rows.append((chromosomes[row % 3], start, start + 512, "+-"[row // 3 % 2], text, THREE[row % 3]))
        planted.append(label)
    table = pd.DataFrame(rows, columns=["chromosome", "start", "end", "strand", "label", "split"])
    bed = write_table(folder / f"{name}.bed", table)
    return BendFiles(write_fasta(folder / "genome.fa", contigs), bed, None, _texts(contigs), table, planted)


def _variants(name: str, folder: Path, seed: int) -> BendFiles:
    """Variants of a simulated genome as rows without length, with the column that each of the two files has beside."""
    sim = simulate_genome(length=60_000, chromosomes=3, seed=seed)
    found = splice_variants(sim, 12, seed=seed)
    table = found[["chromosome"]].assign(start=found["position"], end=found["position"], ref=found["ref"])
    table["alt"] = found["alt"]
    table["label"] = found["label"]
    if name == "variant_effects_expression":
        table["actual"] = np.round(np.random.default_rng(seed).normal(size=len(table)), 3)
    else:
        table["full_label"] = np.where(found["label"] == 1, "Pathogenic/Likely pathogenic", "Benign")
    bed = write_table(folder / f"{name}.bed", table)
    planted = list(found["label"].to_numpy()[:, None])
    return BendFiles(write_fasta(folder / "genome.fa", sim.contigs), bed, None, _texts(sim.contigs), table, planted)


def _genome(rng: np.random.Generator, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    letters = np.frombuffer(b"ACGT", np.uint8)
    return {name: letters[rng.integers(4, size=size)] for name, size in sizes.items()}


def _texts(contigs: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: codes.tobytes().decode() for name, codes in contigs.items()}
