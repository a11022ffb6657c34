"""The store against BEND's format, and against a plain .npy of the same tokens.

BEND keeps one float32 .npy per sample, upsampled to nucleotides, in a tar.gz (webdataset). Both sides get the same
vectors: 6-mer tokens, 512 channels, 512 nucleotides a sample. Run: python benchmarks/store.py [--samples N]
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import webdataset as wds
from common import drop_cache, kmer_spans, machine, realistic_rows, table, timed

import embedstore
from embedstore import tasks
from embedstore.blocks import create_embedding

LENGTH, CHANNELS = 512, 512
TAR, NPY = "tar.gz (BEND)", "npy"


def write_bend(path: Path, rows: list[np.ndarray], spans: np.ndarray) -> float:
    """Write BEND's format; return the seconds."""
    began = time.perf_counter()
    with wds.TarWriter(str(path), compress=True) as sink:
        for number, tokens in enumerate(rows):
            upsampled = np.repeat(tokens, spans, axis=0)[None]
            sink.write({"__key__": f"sample_{number}", "input.npy": upsampled})
    return time.perf_counter() - began


def read_bend(path: Path) -> int:
    """Read every sample into a torch tensor; return the values read."""
    values = 0
    for sample in wds.WebDataset(str(path), shardshuffle=False, empty_check=False):
        values += torch.from_numpy(np.load(io.BytesIO(sample["input.npy"]))).numel()
    return values


def write_store(store: embedstore.Store, name: str, rows: list[np.ndarray], spans: np.ndarray, **options: str) -> float:
    """Write the same rows into a store; return the seconds, commits and fsync included."""
    began = time.perf_counter()
    nucleotide = options.get("resolution") == "nucleotide"
    count = LENGTH if nucleotide else len(spans)
    writer = create_embedding(
        store,
        "bench",
        name,
        record={},
        fingerprint={"sequences": store.task_digests("bench")["sequence"]},
        width=CHANNELS,
        row_count=lambda: np.full(len(rows), count),
        **options,  # type: ignore[arg-type]
    )
    weights = spans.astype(np.float32) / LENGTH
    for block in range(writer.embedding.blocks):
        samples = writer.embedding.block_samples(block)
        tokens = rows[samples.start : samples.stop]
        pooled = np.stack([weights @ sample for sample in tokens])
        half = [sample.astype(np.float16) for sample in tokens]
        vector = np.concatenate([np.repeat(sample, spans, axis=0) for sample in half] if nucleotide else half)
        with writer.claim(block):
            writer.write(block, vector, None if nucleotide else np.tile(spans, len(tokens)), pooled)
    return time.perf_counter() - began


def read_tokens(store: embedstore.Store, name: str) -> int:
    """Read every block into a torch tensor of stored rows."""
    emb = store.embedding("bench", name)
    return sum(torch.from_numpy(emb.read_block(block).vector).numel() for block in range(emb.blocks))


def read_nucleotides(store: embedstore.Store, name: str) -> int:
    """Read every block into a torch tensor of float32 nucleotides, one buffer used again."""
    emb = store.embedding("bench", name)
    out = None
    values = 0
    for block in range(emb.blocks):
        rows = emb.read_block(block)
        out = rows.nucleotides(out)
        values += torch.from_numpy(out).numel()
    return values


def read_store(store: embedstore.Store, name: str, picks: np.ndarray) -> tuple[float, float, float]:
    """Return the seconds to read all rows, all nucleotides, and 64 random samples."""
    emb = store.embedding("bench", name)
    return (
        timed(lambda: read_tokens(store, name)),
        timed(lambda: read_nucleotides(store, name)),
        timed(lambda: torch.from_numpy(emb.read(picks).vector), 9),
    )


def codec_pipelines(store: embedstore.Store) -> tuple[float, float]:
    """Return the seconds to read all zstd rows through the Rust codec pipeline and Python's, medians of 15 pairs.

    Of compressed rows: those without a codec are read from their files directly.
    """
    rust, pure = [], []
    for _ in range(15):
        rust.append(timed(lambda: read_tokens(store, "token_zstd"), 1))
        with mock.patch("embedstore.store.has_zarrs", return_value=False):
            pure.append(timed(lambda: read_tokens(store, "token_zstd"), 1))
    return statistics.median(rust), statistics.median(pure)


def read_memmap(path: Path, tokens: int, picks: np.ndarray) -> tuple[float, float, float]:
    """Return the same for a plain .npy of the tokens; it has no spans, so no nucleotides."""
    memmap = np.load(path, mmap_mode="r")
    step = tokens * 64
    starts = range(0, len(memmap), step)
    return (
        timed(lambda: [torch.from_numpy(memmap[start : start + step].copy()) for start in starts]),
        np.nan,
        timed(lambda: [torch.from_numpy(memmap[i * tokens : (i + 1) * tokens].copy()) for i in picks], 9),
    )


def size(path: Path) -> int:
    """Return the bytes of a file or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    samples = parser.parse_args().samples
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir="."))
    try:
        compare(folder, samples)
    finally:
        shutil.rmtree(folder)


def written(
    store: embedstore.Store, folder: Path, rows: list[np.ndarray], spans: np.ndarray
) -> dict[str, tuple[float, Path]]:
    """Write the rows in every way; return the seconds and the place of each."""
    tar, npy, home = folder / "bend.tar.gz", folder / "tokens.npy", folder / "store.zarr" / "bench" / "embedding"
    ways = {TAR: (write_bend(tar, rows, spans), tar)}
    for resolution in ("token", "nucleotide"):
        for codec in ("none", "zstd"):
            name = resolution if codec == "none" else f"{resolution}_{codec}"
            took = write_store(store, name, rows, spans, resolution=resolution, codec=codec)
            ways[name.replace("_", " ")] = took, home / name
    ways[NPY] = timed(lambda: np.save(npy, np.concatenate(rows).astype(np.float16)), 1), npy
    return ways


def warm_table(
    store: embedstore.Store, ways: dict[str, tuple[float, Path]], spans: np.ndarray, picks: np.ndarray
) -> None:
    """Read what was written in every way, and print times, sizes and their ratios to BEND's."""
    tar_seconds, tar = ways[TAR]
    read_tar = timed(lambda: read_bend(tar))
    raw = store.lengths("bench").sum() * CHANNELS * 4
    head = ("", "MB", "of tar.gz", "of raw", "write s", "of tar.gz", "rows s", "of tar.gz", "nt s", "of tar.gz")
    lines = [(*head, "64 random ms")]
    for name, (seconds, path) in ways.items():
        if name == TAR:
            tokens, full, random = np.nan, read_tar, np.nan
        elif name == NPY:
            tokens, full, random = read_memmap(path, len(spans), picks)
        else:
            tokens, full, random = read_store(store, path.name, picks)
        stored = size(path)
        lines.append(
            (
                name,
                f"{stored / 1e6:,.1f}",
                f"{stored / size(tar):.3f}",
                f"1/{raw / stored:.1f}",
                f"{seconds:.2f}",
                f"1/{tar_seconds / seconds:.1f}",
                f"{tokens:.3f}",
                f"1/{read_tar / tokens:.1f}",
                f"{full:.3f}",
                f"1/{read_tar / full:.1f}",
                f"{random * 1000:.1f}",
            )
        )
    table("warm cache, medians of 3 (64 random samples: of 9); tar.gz has no random access at all", lines)


def compare(folder: Path, samples: int) -> None:
    """Write and read everything in one run."""
    rng = np.random.default_rng(0)
    spans = kmer_spans(LENGTH)
    rows = list(realistic_rows(rng, np.full(samples, len(spans)), CHANNELS))
    letters = ["".join(rng.choice(list("ACGT"), LENGTH)) for _ in range(samples)]
    store = embedstore.open_store(folder / "store.zarr", mode="a")
    store.add_task(tasks.from_sequences("bench", letters))
    raw = samples * LENGTH * CHANNELS * 4
    print(f"{machine()}; {samples} samples x {LENGTH} nt x {CHANNELS} channels = {raw / 1e6:,.0f} MB as float32")
    ways = written(store, folder, rows, spans)
    warm_table(store, ways, spans, rng.integers(0, samples, 64))
    rust, pure = codec_pipelines(store)
    print(f"all zstd rows: zarr-python's codecs {pure:.3f} s, the Rust pipeline {rust:.3f} s: {pure / rust:.1f} times")
    cold = timed(lambda: read_tokens(store, "token"), 3, before=lambda: drop_cache(ways["token"][1]))
    cold_tar = timed(lambda: read_bend(ways[TAR][1]), 1, before=lambda: drop_cache(folder))
    print(f"cold: all rows {cold:.3f} s, tar.gz {cold_tar:.2f} s, ratio 1/{cold_tar / cold:.1f}")


if __name__ == "__main__":
    main()
