"""The embedding stage against a batch-1 loop, the share of time it waits for the disk, and its peak memory.

The loop is what BEND does: one sequence at a time through the same network, upsample, float32, one .npy each in a
tar.gz. Both use a 6-layer, 320-wide Nucleotide Transformer v2 with random weights. Run: python benchmarks/embedding.py
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import webdataset as wds
from common import machine, random_checkpoint, table

import embedstore
from embedstore import layout, models, tasks


def sequences(samples: int, length: int = 512) -> list[str]:
    """Return random sequences."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(samples)]


def loop(model: models.Model, letters: list[str], path: Path) -> float:
    """Embed one sequence at a time into a tar.gz; return the seconds."""
    began = time.perf_counter()
    with wds.TarWriter(str(path), compress=True) as sink:
        for number, text in enumerate(letters):
            parts = []
            for piece in model.pieces(np.frombuffer(text.encode(), np.uint8)):
                hidden = model.hidden(torch.from_numpy(piece.ids)[None])[0]
                parts.append(np.repeat(hidden[piece.first :].numpy(), piece.span, axis=0))
            sink.write({"__key__": f"sample_{number}", "input.npy": np.concatenate(parts)[None]})
    return time.perf_counter() - began


def stage(model: models.Model, letters: list[str], path: Path) -> embedstore.EmbedReport:
    """Embed into a store."""
    store = embedstore.open_store(path, mode="a")
    store.add_task(tasks.from_sequences("bench", letters))
    return embedstore.embed(store, "bench", model, progress=False)


def peak_memory(folder: Path, samples: int, blocks: str) -> int:
    """Return the peak resident bytes of a process that embeds some samples."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(folder), str(samples), blocks],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def child(folder: Path, samples: int, *, held: bool) -> None:
    """Embed in a process of its own and print its peak memory."""
    if held:
        # A block is a sixteenth of a small task, 8 to 128 MiB. Held at 8 MiB, what remains is the stage's own.
        layout.SHARD_BYTES = layout.SMALLEST_SHARD_BYTES
    model = models.load(folder / "checkpoint")
    stage(model, sequences(samples), folder / f"memory{samples}{held}.zarr")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Measure and print ratios."""
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir="."))
    try:
        model = models.load(random_checkpoint(folder / "checkpoint"))
        letters = sequences(192)
        stage(model, letters[:16], folder / "warm.zarr")
        runs = []
        for number in range(3):
            seconds = loop(model, letters, folder / f"loop{number}.tar.gz")
            began = time.perf_counter()
            report = stage(model, letters, folder / f"stage{number}.zarr")
            runs.append((seconds, time.perf_counter() - began, report.seconds_waiting / report.seconds))
        slow, fast, waiting = np.median(np.array(runs), axis=0)
        megabases = len(letters) * 512 / 1e6
        print(f"{machine()}; {len(letters)} sequences of 512 nt, 6 layers x 320, float32 arithmetic")
        table(
            "embedding, medians of 3 paired runs",
            [
                ("", "s per Mb", "ratio"),
                ("batch-1 loop to tar.gz", f"{slow / megabases:.1f}", "1"),
                ("stage to store", f"{fast / megabases:.1f}", f"1/{slow / fast:.2f}"),
                ("share of time waiting for the writer", f"{waiting:.2%}", ""),
            ],
        )
        sizes = (512, 2048, 8192)
        for blocks in ("as they are", "held"):
            peaks = [peak_memory(folder, samples, blocks) for samples in sizes]
            rows = [
                (f"{n} samples", f"{p / 1e6:.0f}", f"{p / peaks[0]:.3f}") for n, p in zip(sizes, peaks, strict=True)
            ]
            table(f"peak memory of the process, block sizes {blocks}", [("", "MB", "of the first"), *rows])
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(Path(sys.argv[2]), int(sys.argv[3]), held=sys.argv[4] == "held")
    else:
        main()
