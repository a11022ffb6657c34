"""One, two and four processes on one machine (`--devices cpu*N`): speed-up, and whether the stores are equal.

Each process has one thread, so that processes are compared and not threads. Two times are given: with the start-up of
Python and torch, and from the moment when the last process has loaded the model. More processes than cores cannot be
faster.

    python benchmarks/workers.py [--samples 400] [--length 3000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from common import machine, random_checkpoint, table

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

WORKERS = (1, 2, 4)


class Run(NamedTuple):
    included: float
    excluded: float
    values: np.ndarray


def embed(folder: Path, checkpoint: Path, sequences: list[str], workers: int) -> Run:
    """Embed with some processes into a new store."""
    import embedstore
    from embedstore import tasks
    from embedstore.processes import run_on_devices
    from embedstore.workers import embed_spec

    store = embedstore.open_store(folder / f"{workers}-{time.monotonic_ns()}.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", sequences))
    spec = embed_spec(store, "t", {"model": str(checkpoint)}, batch_tokens=4096)
    report = run_on_devices(spec, ["cpu"] * workers, threads=1, progress=False)
    assert report.exit_code == 0, report.failures
    assert store.verify().sound
    rows = store.embedding("t", report.model).read(range(len(sequences)))
    return Run(report.seconds, report.seconds - report.seconds_starting, rows.vector)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--length", type=int, default=3000, help="nucleotides of each (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), arguments.length)) for _ in range(arguments.samples)]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        checkpoint = random_checkpoint(Path(folder) / "checkpoint")
        runs: dict[int, list[Run]] = {workers: [] for workers in WORKERS}
        for _ in range(arguments.repeats):  # side by side in time: a busy machine slows all of them
            for workers in WORKERS:
                runs[workers].append(embed(Path(folder), checkpoint, sequences, workers))
    first = runs[1][0].values
    rows = [("processes", "seconds", "speed-up", "without start-up", "speed-up", "largest difference", "equal values")]
    medians = {
        n: [statistics.median(getattr(r, f) for r in found) for f in Run._fields[:2]] for n, found in runs.items()
    }
    for workers, found in runs.items():
        largest = max(float(np.abs(run.values.astype(np.float32) - first.astype(np.float32)).max()) for run in found)
        equal = all(np.array_equal(run.values, first) for run in found)
        times = [f(m) for m, base in zip(medians[workers], medians[1], strict=True) for f in (_seconds, _ratio(base))]
        rows.append((str(workers), *times, f"{largest:.2g}", "yes" if equal else "no"))
    cores = len(os.sched_getaffinity(0))
    table(f"{arguments.samples} sequences of {arguments.length} nt, 6 layers of 320; {machine()}; {cores} usable", rows)


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _ratio(base: float) -> Callable[[float], str]:
    return lambda value: f"{base / value:.2f}"


if __name__ == "__main__":
    main()
