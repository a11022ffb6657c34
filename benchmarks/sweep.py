"""Many small probes in order and on one, two and four dask workers: seconds, overhead of each, bytes of a task.

Overhead is what a probe takes beside its own run: finding out that it is not finished, opening the store, dask, and
waiting for rows. More workers than cores cannot be faster. The values must be equal.

    python benchmarks/sweep.py [--probes 64] [--samples 400]
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np
from common import machine, table

if TYPE_CHECKING:
    import pandas as pd

    from probes.specs import Spec

WORKERS = (0, 1, 2, 4)


class Run(NamedTuple):
    seconds: float
    starting: float
    rows: pd.DataFrame
    again: float


def make_store(path: Path, samples: int) -> None:
    """Write a store with a task of classes, read from its letters by a small untrained network."""
    import embedstore
    from embedstore import tasks
    from embedstore.models import load

    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 200)) for _ in range(samples)]
    labels = [int(text.count("G") > text.count("C")) for text in sequences]
    splits = [("train", "train", "valid", "test")[i % 4] for i in range(samples)]
    record = tasks.TaskRecord(name="strong", level="sequence", type="class", names=("no", "yes"), metric="mcc")
    store = embedstore.open_store(path, mode="a")
    store.add_task(tasks.from_sequences("strong", sequences, labels=labels, splits=splits, record=record))
    golden = Path(__file__).parents[1] / "tests" / "golden" / "nt_v1"
    embedstore.embed(store, "strong", load(golden), name="small", progress=False)


def sweep(specs: list[Spec], out: Path, workers: int) -> Run:
    """Run a sweep, and run it again."""
    from contextlib import ExitStack

    from probes.scheduler import connected
    from probes.sweeping import sweep

    began = time.perf_counter()
    with ExitStack() as held:
        client = held.enter_context(connected(workers)) if workers else None
        starting = time.perf_counter() - began
        began = time.perf_counter()
        rows = sweep(specs, out, client, progress=False)
        seconds = time.perf_counter() - began
        assert rows["status"].eq("done").all(), rows["error"].unique()
        began = time.perf_counter()
        found = sweep(specs, out, client, progress=False)
        again = time.perf_counter() - began
        assert found["status"].eq("found").all()
    return Run(seconds, starting, rows, again)


def task_bytes(specs: list[Spec], out: Path) -> int:
    """Return the bytes of the largest task."""
    from probes.sweeping import jobs, run_job

    return max(len(pickle.dumps((run_job, job.specs, str(out)))) for job in jobs(specs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probes", type=int, default=64)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    from probes.combine import make_specs

    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        make_store(folder / "s.zarr", arguments.samples)
        settings = {"epochs": arguments.epochs, "hidden": 16, "device": "cpu"}
        specs = make_specs(folder / "s.zarr", "strong", "small", seeds=range(arguments.probes), settings=settings)
        runs = {workers: sweep(specs, folder / f"out{workers}", workers) for workers in WORKERS}
        size = task_bytes(specs, folder / "out0")
    rows = [("workers", "start-up", "seconds", "speed-up", "overhead per probe", "found again", "equal values")]
    for workers, run in runs.items():
        # A worker is busy with its probes one after the other: what is left of its time is overhead.
        overhead = (run.seconds * min(max(workers, 1), len(specs)) - run.rows["seconds"].sum()) / len(specs)
        rows.append(
            (
                str(workers) if workers else "in order",
                f"{run.starting:.1f} s",
                f"{run.seconds:.1f} s",
                f"{runs[0].seconds / run.seconds:.2f}",
                f"{1000 * overhead:.0f} ms",
                f"{1000 * run.again / len(specs):.1f} ms each",
                "yes" if run.rows["test"].equals(runs[0].rows["test"]) else "no",
            )
        )
    cores = len(os.sched_getaffinity(0))
    title = f"{len(specs)} probes of {arguments.samples} samples, {arguments.epochs} epochs, one thread each"
    table(f"{title}; {size} bytes a task; {machine()}; {cores} usable", rows)


if __name__ == "__main__":
    main()
