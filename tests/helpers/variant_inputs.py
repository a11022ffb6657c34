"""Files for the command line of variants: a small simulated genome with planted variants, as a user would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstore.simulate import Simulation, simulate_genome, write_fasta
from embedstore.simulated_variants import splice_variants

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

HEADER = """##fileformat=VCFv4.2
##INFO=<ID=LABEL,Number=1,Type=Integer,Description="1 has an effect">
##INFO=<ID=KIND,Number=1,Type=String,Description="Consequence">
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">
"""


class VariantFiles(NamedTuple):
    """Files, and what is in them."""

    genome: Path
    vcf: Path
    sim: Simulation
    table: pd.DataFrame


def write_files(folder: Path, count: int = 12, seed: int = 3) -> VariantFiles:
    """Write ``genome.fa`` and ``variants.vcf`` with so many variants of each of three kinds, labels 0 and 1."""
    sim = simulate_genome(length=40_000, chromosomes=2, seed=seed)
    table = splice_variants(sim, count, seed=seed)
    genome = write_fasta(folder / "genome.fa", sim.contigs)
    lines = [
        (row.chromosome, row.position + 1, row.ref, row.alt, f"LABEL={row.label};KIND={row.consequence};AF=0.0{n % 7}1")
        for n, row in enumerate(table.itertuples())
    ]
    return VariantFiles(genome, write_vcf(folder / "variants.vcf", sim, lines), sim, table)


def write_vcf(path: Path, sim: Simulation, lines: list[tuple[str, int, str, str, str]]) -> Path:
    """Write records (CHROM, POS, REF, ALT, INFO)."""
    contigs = "".join(f"##contig=<ID={name},length={len(codes)}>\n" for name, codes in sim.contigs.items())
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    rows = "".join(f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t{info}\n" for chrom, pos, ref, alt, info in lines)
    path.write_text(HEADER + contigs + columns + rows)
    return path


def write_gff(path: Path, sim: Simulation) -> Path:
    """Write the genes as GFF3: a gene, its transcript, and its coding exons."""
    lines = ["##gff-version 3"]
    for row in sim.genes.itertuples():
        parts = [
            ("gene", row.start, row.end, f"ID={row.gene}"),
            ("mRNA", row.start, row.end, f"ID=t_{row.gene};Parent={row.gene}"),
        ]
        parts += [("exon", start, end, f"Parent=t_{row.gene}") for start, end in row.exons]
        lines += [
            f"{row.chromosome}\tsim\t{kind}\t{start + 1}\t{end}\t.\t{row.strand}\t.\t{what}"
            for kind, start, end, what in parts
        ]
    path.write_text("\n".join(lines) + "\n")
    return path
