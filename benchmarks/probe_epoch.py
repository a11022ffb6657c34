"""One epoch of the gene-finding probe: on tokens, on nucleotides, and as BEND loads and computes it.

6-mer tokens, 512 channels, sequences of 1.4 to 14 kb, 9 classes, BEND's two-layer CNN. All three train the same
network on the same vectors, in one run. Run: python benchmarks/probe_epoch.py [--samples N]
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import webdataset as wds
from common import kmer_spans, machine, realistic_rows, table

from embedstore import tasks
from embedstore.indices import offsets
from embedstore.rows import Rows
from probes import CNN, CNNProbe, ProbeData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANNELS, CLASSES, BATCH = 512, 9, 16
EPOCHS = 4  # the first pays for warming up and is left out


def simulate(samples: int) -> tuple[Rows, tasks.Labels, list[np.ndarray]]:
    """Return token rows, labels, and the float32 vectors that BEND would have kept."""
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(1_400), np.log(14_000), samples)).astype(int)
    spans = [kmer_spans(length) for length in lengths]
    counts = np.array([len(span) for span in spans])
    vectors = list(realistic_rows(rng, counts, CHANNELS))
    rows = Rows(
        np.arange(samples),
        np.concatenate(vectors).astype(np.float16),
        np.concatenate(spans).astype(int),
        offsets(counts),
    )
    labels = rng.integers(0, CLASSES, lengths.sum()).astype(np.int16)
    names = tasks.record("gene_finding").names
    upsampled = [np.repeat(v, s, axis=0) for v, s in zip(vectors, spans, strict=True)]
    return rows, tasks.Labels(labels, ("nucleotide",), names), upsampled


def token_level(rows: Rows, labels: tasks.Labels, precision: str = "float32") -> float:
    """Return the median seconds of an epoch of our probe."""
    data = ProbeData.from_rows(rows, labels, tasks.record("gene_finding"))
    settings = {"batch_size": BATCH, "epochs": EPOCHS, "precision": precision, "seed": 0}
    probe = CNNProbe(**settings, device="cpu", progress=False).fit(data)
    return statistics.median(probe.history_["seconds"].iloc[1:])


def train(
    batches: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]], epochs: int = EPOCHS, parts: int = 1
) -> float:
    """Train at nucleotide resolution, a step every so many parts; return the median seconds of an epoch."""
    network = CNN(CHANNELS, CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    seconds = []
    for _ in range(epochs):
        began = time.perf_counter()
        for number, (x, y) in enumerate(batches(), 1):
            loss = torch.nn.functional.cross_entropy(network(x).flatten(0, 1), y.flatten().long(), ignore_index=-100)
            loss.backward()
            if number % parts == 0:
                optimizer.step()
                optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def collate(x: list[np.ndarray], y: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad a batch to its longest sequence with -100, then set the padded features to 0, as BEND does."""
    features = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in x], batch_first=True, padding_value=-100)
    features[features == -100] = 0
    targets = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in y], batch_first=True, padding_value=-100)
    return features, targets


def in_memory(rows: Rows, labels: list[np.ndarray], size: int = BATCH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield padded batches from token rows in memory, upsampled as they are needed."""
    samples = len(labels)
    for start in range(0, samples, size):
        pick = range(start, min(start + size, samples))
        parts = [slice(rows.first_row[i], rows.first_row[i + 1]) for i in pick]
        x = [np.repeat(rows.vector[part].astype(np.float32), rows.span[part], axis=0) for part in parts]
        yield collate(x, [labels[i] for i in pick])


def from_tar(path: Path, shuffle: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield padded batches from BEND's format, through a buffer of `shuffle` samples."""
    x: list[np.ndarray] = []
    y: list[np.ndarray] = []
    for sample in wds.WebDataset(str(path), shardshuffle=False, empty_check=False).shuffle(shuffle):
        x.append(np.load(io.BytesIO(sample["input.npy"]))[0])
        y.append(np.load(io.BytesIO(sample["output.npy"])))
        if len(x) == BATCH:
            yield collate(x, y)
            x, y = [], []
    if x:
        yield collate(x, y)


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    samples = parser.parse_args().samples
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir="."))
    try:
        rows, labels, upsampled = simulate(samples)
        each = np.split(labels.values, np.cumsum([len(x) for x in upsampled])[:-1])
        with wds.TarWriter(str(folder / "bend.tar.gz"), compress=True) as sink:
            for number, (x, y) in enumerate(zip(upsampled, each, strict=True)):
                sink.write({"__key__": f"sample_{number}", "input.npy": x[None], "output.npy": y})
        nucleotides = sum(len(x) for x in upsampled)
        del upsampled
        tokens = token_level(rows, labels)
        mixed = token_level(rows, labels, "bfloat16")
        plain = train(lambda: in_memory(rows, each))
        single = train(lambda: in_memory(rows, each, 1), parts=BATCH)
        bend = train(lambda: from_tar(folder / "bend.tar.gz"), epochs=3)
        print(f"{machine()}, {torch.get_num_threads()} threads; {samples} sequences, {nucleotides:,} nt, batch {BATCH}")
        table(
            "seconds per epoch after the first, medians",
            [
                ("", "s", "ours is faster by"),
                ("token level (ours)", f"{tokens:.2f}", "1"),
                ("token level, products in bfloat16", f"{mixed:.2f}", f"{mixed / tokens:.1f}"),
                ("nucleotide level, one sequence at a time, no padding", f"{single:.2f}", f"{single / tokens:.1f}"),
                ("nucleotide level, padded batches, rows in memory", f"{plain:.2f}", f"{plain / tokens:.1f}"),
                ("BEND's format, collate and module", f"{bend:.2f}", f"{bend / tokens:.1f}"),
            ],
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
