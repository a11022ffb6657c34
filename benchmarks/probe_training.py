"""Training the gene-finding probe from files on disk: from a store, and as BEND does it, from tar.gz.

Genes of about 8 kb as 6-mer tokens of 512 channels, nine classes that depend on the vectors, BEND's two-layer CNN,
AdamW and the same first weights. Ours runs in a process of its own, whose peak memory is measured; BEND's loop reads
webdataset shards through a shuffle buffer, pads each batch and validates after each epoch. With `--bend-epochs` below
`--epochs` its time is scaled up, and the output says so. Run: python benchmarks/probe_training.py [--genes N]
[--bend-epochs N]
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
import torch
import webdataset as wds
from common import kmer_spans, machine, realistic_rows, table
from probe_epoch import BATCH, CHANNELS, CLASSES, from_tar

import embedstore
from embedstore import tasks
from embedstore.blocks import create_embedding
from probes import CNN, CNNProbe, ProbeData

RATE = 3e-3


def simulate(folder: Path, genes: int) -> None:
    """Write the same genes as a store and as BEND's files; four fifths are for training."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4_000, 12_000, genes)
    spans = [kmer_spans(length) for length in lengths]
    counts = np.array([len(span) for span in spans])
    direction = rng.normal(size=(CHANNELS, CLASSES)).astype(np.float32) / CHANNELS**0.5
    split = np.where(np.arange(genes) % 5 == 4, "valid", "train")
    sinks = {name: wds.TarWriter(str(folder / f"{name}.tar.gz"), compress=True) for name in ("train", "valid")}
    vectors, labels = [], []
    for number, vector in enumerate(realistic_rows(rng, counts, CHANNELS)):
        half = vector.astype(np.float16)
        score = half.astype(np.float32) @ direction + rng.gumbel(size=(len(half), CLASSES)) * 0.5
        label = np.repeat(score.argmax(1), spans[number]).astype(np.int64)
        upsampled = np.repeat(half.astype(np.float32), spans[number], axis=0)[None]
        sinks[split[number]].write({"__key__": f"sample_{number}", "input.npy": upsampled, "output.npy": label})
        vectors.append(half)
        labels.append(label)
    for sink in sinks.values():
        sink.close()
    store = embedstore.open_store(folder / "store.zarr", mode="a")
    letters = ["ACGT" * (length // 4) + "ACG"[: length % 4] for length in lengths]
    record = tasks.record("gene_finding")
    store.add_task(tasks.from_sequences("genes", letters, splits=split.tolist(), labels=labels, record=record))
    fingerprint = {"sequences": store.task_digests("genes")["sequence"]}
    writer = create_embedding(
        store, "genes", "model", record={}, fingerprint=fingerprint, width=CHANNELS, row_count=lambda: counts,
        dtype="float16", keep="rows",
    )  # fmt: skip
    for block in range(writer.embedding.blocks):
        own = writer.embedding.block_samples(block)
        here = slice(own.start, own.stop)
        with writer.claim(block):
            writer.write(block, np.concatenate(vectors[here]), np.concatenate(spans[here]), None)
    writer.finish()


def child(folder: Path, epochs: int) -> None:
    """Train from the store; print what it took as JSON."""
    began = time.perf_counter()
    store = embedstore.open_store(folder / "store.zarr")
    data, valid = (ProbeData.from_store(store, "genes", "model", name, progress=False) for name in ("train", "valid"))
    reading = time.perf_counter() - began
    probe = CNNProbe(batch_size=BATCH, epochs=epochs, learning_rate=RATE, seed=0, device="cpu", progress=False)
    probe.fit(data, valid)
    seconds = time.perf_counter() - began
    # Not ru_maxrss of getrusage: a process inherits that of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    losses = probe.history_["valid_loss"].tolist()
    print(json.dumps({"seconds": seconds, "reading": reading, "peak": int(peak.split()[1]) * 1024, "losses": losses}))


def bend(folder: Path, epochs: int) -> tuple[float, list[float]]:
    """Train as BEND does; return the seconds of all epochs and the validation losses."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CNN(CHANNELS, CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    losses = []
    began = time.perf_counter()
    for _ in range(epochs):
        for x, y in from_tar(folder / "train.tar.gz", shuffle=1000):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x).flatten(0, 1), y.flatten(), ignore_index=-100).backward()
            optimizer.step()
        total = count = 0.0
        with torch.inference_mode():
            for x, y in from_tar(folder / "valid.tar.gz"):
                output = network(x).flatten(0, 1)
                total += float(
                    torch.nn.functional.cross_entropy(output, y.flatten(), ignore_index=-100, reduction="sum")
                )
                count += int((y != -100).sum())
        losses.append(total / count)
    return time.perf_counter() - began, losses


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--bend-epochs", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.epochs)
        return
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir="."))
    try:
        simulate(folder, arguments.genes)
        command = [sys.executable, __file__, "--child", str(folder), "--epochs", str(arguments.epochs)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
        ours = json.loads(done.stdout.splitlines()[-1])
        seconds, losses = bend(folder, arguments.bend_epochs)
        sizes = {name: sum(f.stat().st_size for f in folder.rglob(name) if f.is_file()) for name in ("*.tar.gz", "*")}
    finally:
        shutil.rmtree(folder)
    scaled = seconds * arguments.epochs / arguments.bend_epochs
    note = "" if arguments.bend_epochs == arguments.epochs else f", scaled up from {arguments.bend_epochs}"
    print(f"{machine()}, {torch.get_num_threads()} threads; {arguments.genes} genes, batch {BATCH}")
    print(f"tar.gz {sizes['*.tar.gz'] / 1e9:.2f} GB, store {(sizes['*'] - sizes['*.tar.gz']) / 1e9:.2f} GB")
    table(
        f"{arguments.epochs} epochs with validation, from files on disk",
        [
            ("", "s", "ours is faster by"),
            ("from the store (ours)", f"{ours['seconds']:.1f}", "1"),
            ("  of it reading, once", f"{ours['reading']:.1f}", ""),
            (f"BEND's loop over tar.gz{note}", f"{scaled:.0f}", f"{scaled / ours['seconds']:.1f}"),
        ],
    )
    print(f"peak memory of ours {ours['peak'] / 1e9:.2f} GB")
    last = min(len(losses), len(ours["losses"])) - 1
    print(f"validation loss after {last + 1} epochs: ours {ours['losses'][last]:.4f}, BEND's loop {losses[last]:.4f}")


if __name__ == "__main__":
    main()
