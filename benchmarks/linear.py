"""Ridge probes of all penalties, targets and folds from one pass over a store, against reading it and scikit-learn.

20 targets x 12 penalties x 10 folds on the means of 100,000 samples, 1,024 channels, float32, in a store on disk. Each
size runs in a process of its own, whose peak memory is measured. Run: python benchmarks/linear.py [--samples N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import drop_cache, machine, realistic_rows, table, timed

import embedstore
from embedstore import tasks
from embedstore.blocks import create_embedding
from probes.dataset import ProbeData
from probes.gram import gram_sums
from probes.linear import PENALTIES, RidgeProbe, fit_ridges

CHANNELS, TARGETS, FOLDS, LENGTH = 1024, 20, 10, 8
SPLITS = [f"part{fold}" for fold in range(FOLDS)]
ROLES = [
    {
        "train": [SPLITS[(fold + step) % FOLDS] for step in range(2, FOLDS)],
        "valid": [SPLITS[(fold + 1) % FOLDS]],
        "test": [SPLITS[fold]],
    }
    for fold in range(FOLDS)
]


def write(path: Path, samples: int) -> None:
    """Write a store with the means of samples, labels that are linear in them, and noise."""
    rng = np.random.default_rng(0)
    chunk = 1000
    weights = rng.normal(size=(CHANNELS, TARGETS)).astype(np.float32) / CHANNELS**0.5
    rows = list(realistic_rows(rng, np.full(-(-samples // chunk), chunk), CHANNELS))
    noise = rng.normal(size=(samples, TARGETS)).astype(np.float32)
    labels = np.concatenate([part @ weights for part in rows])[:samples] + 5 * noise
    names = tuple(f"target{number}" for number in range(TARGETS))
    record = tasks.TaskRecord(name="bench", level="sequence", type="value", names=names, metric="r2")
    splits = [SPLITS[number % FOLDS] for number in range(samples)]
    store = embedstore.open_store(path, mode="a")
    store.add_task(tasks.from_sequences("bench", ["ACGTACGT"] * samples, labels=labels, splits=splits, record=record))
    digest = store.task_digests("bench")["sequence"]
    writer = create_embedding(
        store,
        "bench",
        "model",
        record={},
        fingerprint={"sequences": digest},
        width=CHANNELS,
        row_count=lambda: np.ones(samples, np.int64),
        dtype="float32",
        keep="pooled",
    )
    means = np.concatenate(rows)[:samples]
    for block in range(writer.embedding.blocks):
        own = writer.embedding.block_samples(block)
        with writer.claim(block):
            writer.write(block, None, None, means[own.start : own.stop])
    writer.finish()


def opened(path: Path) -> tuple[ProbeData, np.ndarray]:
    """Return the samples, read anew in every pass, and their splits."""
    store = embedstore.open_store(path)
    data = ProbeData.from_store(store, "bench", "model", SPLITS, pooled=True, memory_limit=0, progress=False)
    return data, store.samples("bench")["split"].to_numpy()


def read(path: Path) -> None:
    """Read and check every mean once, block by block."""
    emb = embedstore.open_store(path).embedding("bench", "model")
    for block in range(emb.blocks):
        emb.pooled(np.array(emb.block_samples(block)))


def child(path: Path) -> None:
    """Measure in a process of its own; print the numbers as JSON."""
    data, split = opened(path)
    began = time.perf_counter()
    probes = fit_ridges(data, ROLES, split=split, probe=RidgeProbe(progress=False))
    seconds = {"fit": time.perf_counter() - began}
    # Not ru_maxrss of getrusage: a process inherits that of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    seconds["batches"] = timed(lambda: sum(len(part.samples) for parts in data.batches(512) for part in parts), 1)
    seconds["sums"] = timed(lambda: gram_sums(data, split), 1)
    seconds["read warm"] = timed(lambda: read(path))
    seconds["read cold"] = timed(lambda: read(path), before=lambda: drop_cache(path))
    fits = [(probe.penalty_, probe.coefficient_.tolist()) for probe in probes[:1]]
    print(json.dumps({"peak": int(peak.split()[1]) * 1024, "seconds": seconds, "fits": fits}))


def measured(path: Path) -> dict:
    """Run `child` for a store."""
    command = [sys.executable, __file__, "--child", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


def scikit(path: Path, penalty: float, repeats: int) -> tuple[float, np.ndarray]:
    """Return the seconds of one fit by scikit-learn on rows in memory, and the coefficients for rows as they are."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    store = embedstore.open_store(path)
    split = store.samples("bench")["split"]
    train = np.flatnonzero(split.isin(ROLES[0]["train"]))
    x = store.embedding("bench", "model").pooled(train).astype(np.float64)
    y = store.labels("bench").values[train].astype(np.float64)  # type: ignore[union-attr]
    scaler = StandardScaler(copy=False).fit(x)
    x = scaler.transform(x)
    model = Ridge(alpha=penalty * len(x))
    seconds = timed(lambda: model.fit(x, y), repeats)
    return seconds, model.coef_.T / scaler.scale_[:, None]


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000, help="of the largest task")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir="."))
    try:
        sizes = [arguments.samples // 4, arguments.samples // 2, arguments.samples]
        found = {}
        for samples in sizes:
            write(folder / f"{samples}.zarr", samples)
            found[samples] = measured(folder / f"{samples}.zarr")
        largest = found[sizes[-1]]
        penalty, coefficient = largest["fits"][0]
        once, wanted = scikit(folder / f"{sizes[-1]}.zarr", penalty, 3)
    finally:
        shutil.rmtree(folder)
    difference = np.abs(np.array(coefficient) - wanted).max() / np.abs(wanted).max()
    seconds, many = largest["seconds"], len(PENALTIES) * FOLDS
    whole = seconds["fit"]
    print(f"{machine()}; {TARGETS} targets x {len(PENALTIES)} penalties x {FOLDS} folds, {CHANNELS} channels float32")
    print(f"largest difference to scikit-learn's coefficients, relative to the largest: {difference:.1e}")
    table(
        f"{sizes[-1]:,} samples, seconds",
        [
            ("", "s", "share of ours"),
            ("all folds, penalties and targets (ours)", f"{whole:.2f}", "1"),
            ("  of it passing through batches alone", f"{seconds['batches']:.2f}", f"{seconds['batches'] / whole:.2f}"),
            ("  of it sums (reads ahead on a thread)", f"{seconds['sums']:.2f}", f"{seconds['sums'] / whole:.2f}"),
            ("  of it solving", f"{whole - seconds['sums']:.2f}", f"{1 - seconds['sums'] / whole:.2f}"),
            ("reading the rows once, file cache", f"{seconds['read warm']:.2f}", f"{seconds['read warm'] / whole:.2f}"),
            ("reading the rows once, disk", f"{seconds['read cold']:.2f}", f"{seconds['read cold'] / whole:.2f}"),
            ("scikit-learn Ridge, one fold and penalty, rows in memory", f"{once:.2f}", f"{once / whole:.2f}"),
            (f"  times {many} (extrapolated)", f"{many * once:.0f}", f"{many * once / whole:.0f}"),
        ],
    )
    rows = [("samples", "s", "peak memory, MB")]
    rows += [(f"{n:,}", f"{one['seconds']['fit']:.2f}", f"{one['peak'] / 1e6:.0f}") for n, one in found.items()]
    table("growth", rows)


if __name__ == "__main__":
    main()
