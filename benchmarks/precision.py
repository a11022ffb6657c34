"""What each precision costs: the error of every family's rows against float32, on small checkpoints.

The checkpoints are those of tests/golden: random weights, scaled so that attention is not flat. The error of a row is
the length of its difference over its length. On a CPU TF32 is imitated (benchmarks/rounding.py). Prints a table in
Markdown, as it stands in docs/models.md. Run: python benchmarks/precision.py [--device cuda]
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from common import machine
from rounding import golden_checkpoints, reader

from embedstore.sequences import encode

if TYPE_CHECKING:
    from pathlib import Path


def rows(folder: Path, device: str, precision: str) -> list[np.ndarray]:
    """Return the rows of all cases of a family."""
    _, read = reader(folder, device, precision)
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    texts = [case["sequence"] for case in cases if case["length"] >= 20]
    return [found for text in texts for found, _ in read(encode(text))]


def errors(found: list[np.ndarray], exact: list[np.ndarray]) -> np.ndarray:
    """Return the relative error of every row."""
    return np.concatenate(
        [np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1) for a, b in zip(found, exact, strict=True)]
    )


def percent(values: np.ndarray) -> str:
    """Return the median and the largest error in per cent."""
    return f"{100 * np.median(values):.2g} ({100 * values.max():.2g})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print(f"<!-- {machine()}, torch {torch.__version__}, {device} -->\n")
    tf32 = "tf32" if device != "cpu" else "tf32, imitated"
    print(f"| family | {tf32} | float16 | bfloat16 | float32 stored as float16 |\n|---|---|---|---|---|")
    for folder in golden_checkpoints():
        exact = rows(folder, device, "float32")
        cells = [percent(errors(rows(folder, device, name), exact)) for name in ("tf32", "float16", "bfloat16")]
        cells.append(percent(errors([row.astype(np.float16).astype(np.float32) for row in exact], exact)))
        print(f"| {folder.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
