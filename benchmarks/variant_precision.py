"""What each precision does to the ranks of variant scores: Spearman correlation with float64, family by family.

The score is the cosine distance of the rows at the changed nucleotide, in windows of 258 nt of a simulated genome
around random variants (ending with the variant for causal models). The checkpoints are the DNA ones of tests/golden,
which are small and have random weights, scaled so that attention is not flat: what they lose says how many digits the
arithmetic of a family keeps, not what a trained model loses. Folders of trained ones can be added, such as the one of
the demonstration. Rows in float64 come from the same weights with all arithmetic in float64; on a CPU TF32 is imitated
(benchmarks/rounding.py). Prints a table in Markdown, as it stands in docs/variants.md.
Run: python benchmarks/variant_precision.py [demo/resnet_lm] [--variants 300] [--device cuda]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from common import machine
from rounding import golden_checkpoints, reader
from scipy.stats import spearmanr

from analysis.variants import cosine_distance
from embedstore.models.letters import is_causal
from embedstore.simulate import random_variants, simulate_genome

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 258  # a multiple of 6, for words of three and six letters
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


def windows(count: int, causal: bool) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Return reference and alternate windows of random variants, and the place of the variant in them."""
    contigs = simulate_genome(200_000, chromosomes=2).contigs
    place = WINDOW - 1 if causal else WINDOW // 2
    inside = {name: codes[WINDOW:-WINDOW] for name, codes in contigs.items()}
    pairs = []
    for row in random_variants(inside, count).itertuples():
        first = row.position + WINDOW - place
        reference = contigs[row.chromosome][first : first + WINDOW]
        alternate = reference.copy()
        alternate[place] = ord(row.alt)
        pairs.append((reference, alternate))
    return pairs, place


def row_at(read: Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]], codes: np.ndarray, at: int) -> np.ndarray:
    """Return the row that covers a nucleotide."""
    rows, spans = (np.concatenate(part) for part in zip(*read(codes), strict=True))
    return rows[np.searchsorted(np.cumsum(spans), at, side="right")]


def row_pairs(folder: Path, device: str, precision: str, count: int) -> np.ndarray:
    """Return the rows at variants, (variant, allele, channel)."""
    model, read = reader(folder, device, precision)
    pairs, place = windows(count, is_causal(model))
    return np.array([[row_at(read, codes, place) for codes in pair] for pair in pairs])


def correlations(folder: Path, device: str, count: int) -> list[str]:
    """Return the Spearman correlation with float64 for each precision, and for float32 rows stored as float16."""
    exact = row_pairs(folder, device, "float64", count)
    if exact.dtype != np.float64:
        raise TypeError(f"{folder}: rows are {exact.dtype}; the network did not compute in float64.")
    truth = cosine_distance(*exact.swapaxes(0, 1))
    found = {name: row_pairs(folder, device, name, count) for name in PRECISIONS}
    found["stored"] = found["float32"].astype(np.float16)
    scores = (cosine_distance(*rows.swapaxes(0, 1)) for rows in found.values())
    values = [spearmanr(truth, score).statistic for score in scores]
    return ["1" if value > 1 - 1e-12 else f"{value:.5f}" for value in values]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "checkpoints", type=Path, nargs="*", help="folders of further checkpoints, such as trained ones"
    )
    parser.add_argument("--variants", type=int, default=200, help="of each family (200)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", action="store_true", help="only the checkpoints that were named")
    arguments = parser.parse_args()
    device = arguments.device
    print(f"<!-- {machine()}, torch {torch.__version__}, {device}; {arguments.variants} variants -->\n")
    head = ["family", "float32", "tf32" if device != "cpu" else "tf32, imitated", *PRECISIONS[2:]]
    print(f"| {' | '.join([*head, 'float32 stored as float16'])} |\n|{'---|' * (len(head) + 1)}")
    golden = {folder.name: folder for folder in ([] if arguments.only else golden_checkpoints())}
    for name, folder in (golden | {str(folder): folder for folder in arguments.checkpoints}).items():
        if reader(folder, device, "float32")[0].alphabet == "dna":
            print(f"| {name} | {' | '.join(correlations(folder, device, arguments.variants))} |", flush=True)


if __name__ == "__main__":
    main()
