"""Writing and reading blocks against the limits of the disk and of memory, measured in the same run.

Tokens of 6-mers, 512 nucleotides and 512 channels a sample, float16, as hard to compress as those of trained models.
Run: python benchmarks/storage.py [--samples 4096] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorstore
import torch
import zarr
from common import drop_cache, kmer_spans, machine, realistic_rows, table, timed

import embedstore
from embedstore import tasks
from embedstore.blocks import BlockWriter, create_embedding
from embedstore.digests import crc32c
from embedstore.epochs import shuffled
from embedstore.threads import Behind

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstore.blocks import OpenBlock

LENGTH, CHANNELS, BATCH = 512, 512, 64
SPANS = kmer_spans(LENGTH)
SAMPLE_BYTES = len(SPANS) * CHANNELS * 2


def make_writer(store: embedstore.Store, name: str, samples: int) -> BlockWriter:
    """Create the arrays of an embedding."""
    return create_embedding(
        store,
        "bench",
        name,
        record={},
        fingerprint={"sequences": store.task_digests("bench")["sequence"]},
        width=CHANNELS,
        row_count=lambda: np.full(samples, len(SPANS)),
    )


def write_blocks(writer: BlockWriter, vector: np.ndarray) -> None:
    """Write and commit all blocks as the stage does: slabs are added on one thread, blocks committed on another."""
    emb, slab = writer.embedding, 4 * BATCH
    spans = np.tile(SPANS, slab)
    pooled = np.zeros((slab, CHANNELS), np.float32)

    def commit(item: tuple[OpenBlock, object]) -> None:
        item[0].commit()
        item[1].__exit__(None, None, None)  # type: ignore[attr-defined]

    with Behind(commit, 1, "commit") as commits:
        for block in range(emb.blocks):
            held = writer.claim(block)
            held.__enter__()
            part, samples = writer.begin(block), emb.block_samples(block)
            for start in range(samples.start, samples.stop, slab):
                count = min(slab, samples.stop - start)
                rows = slice(start * len(SPANS), (start + count) * len(SPANS))
                part.add(count, vector[rows], spans[: count * len(SPANS)], None, pooled[:count])
            commits.put((part, held))


def write_zarr(writer: BlockWriter, vector: np.ndarray, path: Path) -> None:
    """Write the rows of all blocks with zarr-python: the same chunks and shards, no fsync, no commits."""
    geometry = writer.embedding.geometry
    array = zarr.create_array(
        path,
        shape=(geometry.blocks * geometry.shard_rows, CHANNELS),
        dtype="float16",
        chunks=(geometry.chunk_rows, CHANNELS),
        shards=(geometry.shard_rows, CHANNELS),
        compressors=[zarr.codecs.Crc32cCodec()],
        fill_value=np.nan,
    )
    per_block = geometry.samples_per_block * len(SPANS)
    for block in range(geometry.blocks):
        rows = vector[block * per_block : (block + 1) * per_block]
        array[block * geometry.shard_rows : block * geometry.shard_rows + len(rows)] = rows


def write_files(folder: Path, vector: np.ndarray, size: int) -> None:
    """Write the same bytes as plain files, each flushed: what the disk can do."""
    folder.mkdir()
    content = memoryview(vector.reshape(-1).view(np.uint8).data)
    for number, start in enumerate(range(0, len(content), size)):
        with (folder / str(number)).open("wb", buffering=0) as file:
            part = content[start : start + size]
            while part:
                part = part[file.write(part) :]
            os.fsync(file.fileno())


def read_files(folder: Path, *, check: bool = False, shuffle: bool = False) -> None:
    """Read files into memory used again, 64 samples at a time; check samples, and copy them to random places."""
    buffer = np.empty(BATCH * SAMPLE_BYTES, np.uint8)
    places = np.random.default_rng(0).permutation(4 * BATCH).reshape(4, BATCH)
    batches, turn = np.empty((4 * BATCH, SAMPLE_BYTES), np.uint8), 0
    for file in sorted(folder.iterdir()):
        handle, offset = os.open(file, os.O_RDONLY), 0
        while got := os.preadv(handle, [buffer.data], offset):
            offset += got
            if check:
                for start in range(0, got, SAMPLE_BYTES):
                    crc32c(buffer[start : start + SAMPLE_BYTES])
            if shuffle:
                turn = (turn + 1) % 4
                for number, start in enumerate(range(0, got, SAMPLE_BYTES)):
                    part = buffer[start : min(start + SAMPLE_BYTES, got)]
                    batches[places[turn, number], : len(part)] = part
        os.close(handle)


def epoch(emb: embedstore.Embedding, **options: bool) -> None:
    """Go through an epoch of batches."""
    for _ in shuffled(emb, batch=BATCH, **options):  # type: ignore[arg-type]
        pass


TOKENS = np.empty((BATCH * len(SPANS), CHANNELS), np.float16)
NUCLEOTIDES = torch.empty((BATCH * LENGTH, CHANNELS), dtype=torch.float16)
REPEAT = torch.from_numpy(np.repeat(np.arange(BATCH * len(SPANS)), np.tile(SPANS, BATCH)))


def upsample() -> None:
    """Repeat tokens to float16 nucleotides, in memory that every reader uses again."""
    torch.index_select(torch.from_numpy(TOKENS), 0, REPEAT, out=NUCLEOTIDES)


def random_samples(emb: embedstore.Embedding, seed: int) -> None:
    """Read 64 random samples to nucleotides."""
    emb.read(np.random.default_rng(seed).choice(len(emb.row_count), BATCH, replace=False), out=TOKENS)
    upsample()


def milliseconds(run: Callable[[int], object], folder: Path, *, cold: bool) -> float:
    """Return the median milliseconds of nine different draws."""
    seconds = []
    for seed in range(9):
        if cold:
            drop_cache(folder)
        began = time.perf_counter()
        run(seed)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def writing(folder: Path, store: embedstore.Store, vector: np.ndarray, runs: int) -> str:
    """Print the rates of writing; return the name of an embedding that was written."""
    samples = len(vector) // len(SPANS)
    rates: dict[str, list[float]] = {"disk": [], "blocks": [], "zarr": []}
    for run in range(runs):
        writer = make_writer(store, f"w{run}", samples)
        size = writer.embedding.geometry.samples_per_block * SAMPLE_BYTES
        steps = {
            "disk": lambda run=run, size=size: write_files(folder / f"plain{run}", vector, size),
            "blocks": lambda writer=writer: write_blocks(writer, vector),
            "zarr": lambda writer=writer, run=run: write_zarr(writer, vector, folder / f"zarr{run}"),
        }
        for name, step in steps.items():
            os.sync()
            rates[name].append(vector.nbytes / timed(step, 1) / 1e6)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    table(
        f"writing {vector.nbytes / 1e6:,.0f} MB in {writer.embedding.blocks} blocks, medians of {runs} runs",
        [
            ("", "MB/s", "of the disk"),
            ("plain files, write and fsync: the disk", f"{middle['disk']:,.0f}", "100 %"),
            ("blocks, fsync and commits", f"{middle['blocks']:,.0f}", f"{middle['blocks'] / middle['disk']:.0%}"),
            ("zarr-python, no fsync", f"{middle['zarr']:,.0f}", f"{middle['zarr'] / middle['disk']:.0%}"),
        ],
    )
    return f"w{runs - 1}"


def reading(folder: Path, store: embedstore.Store, name: str, size: int) -> None:
    """Print the rates of reading."""
    emb = store.embedding("bench", name)
    for block in range(emb.blocks):
        emb.commit(block)  # read once per process
    files, shards = folder / "plain0", folder / "s.zarr"

    def rate(run: Callable[[], object], cold: Path | None = None) -> float:
        return size / timed(run, 5, before=(lambda: drop_cache(cold)) if cold else None) / 1e6

    disk = rate(lambda: read_files(files), files)
    copy, checked = (rate(lambda check=check: read_files(files, check=check)) for check in (False, True))
    placed = rate(lambda: read_files(files, check=True, shuffle=True))
    cold, warm = rate(lambda: epoch(emb), shards), rate(lambda: epoch(emb))
    nucleotides = rate(lambda: epoch(emb, nucleotides=True)) * LENGTH / len(SPANS)
    table(
        "a shuffled epoch into torch tensors, every sample checked, medians of 5",
        [
            ("", "MB/s", ""),
            ("disk, cold, into memory used again", f"{disk:,.0f}", ""),
            ("page cache, into memory used again", f"{copy:,.0f}", ""),
            ("the same and CRC-32C of each sample", f"{checked:,.0f}", ""),
            ("the same, and copied to shuffled batches", f"{placed:,.0f}", ""),
            ("epoch of tokens, cold", f"{cold:,.0f}", f"{cold / disk:.0%} of the disk"),
            (
                "epoch of tokens, warm",
                f"{warm:,.0f}",
                f"{warm / checked:.0%} of copy and CRC, {warm / placed:.0%} with shuffling",
            ),
            ("epoch of nucleotides, warm, as nucleotides", f"{nucleotides:,.0f}", ""),
        ],
    )


def single(folder: Path, store: embedstore.Store, name: str) -> None:
    """Print the time of 64 random samples."""
    emb = store.embedding("bench", name)
    for block in range(emb.blocks):
        emb.commit(block)
    where = store.local / f"bench/embedding/{name}/vector"  # type: ignore[operator]
    plain = zarr.open_array(where, mode="r")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(where)}}
    theirs = tensorstore.open(spec, open=True).result()  # keeps no cache unless asked to
    geometry = emb.geometry

    def places(seed: int) -> list[int]:
        picks = np.random.default_rng(seed).choice(len(emb.row_count), BATCH, replace=False)
        per_block = geometry.samples_per_block
        return [int(p // per_block * geometry.shard_rows + p % per_block * len(SPANS)) for p in picks]

    def by_zarr(seed: int) -> None:
        for number, start in enumerate(places(seed)):
            TOKENS[number * len(SPANS) : (number + 1) * len(SPANS)] = plain[start : start + len(SPANS)]
        upsample()

    def by_tensorstore(seed: int) -> None:
        asked = [theirs[start : start + len(SPANS)].read() for start in places(seed)]
        for number, each in enumerate(asked):
            TOKENS[number * len(SPANS) : (number + 1) * len(SPANS)] = each.result()
        upsample()

    rows = [("", "warm ms", "cold ms", "checked against the commit")]
    for text, run, checks in (
        ("embedstore", lambda seed: random_samples(emb, seed), "yes"),
        ("tensorstore", by_tensorstore, "no"),
        ("zarr-python", by_zarr, "no"),
    ):
        warm, cold = (milliseconds(run, folder / "s.zarr", cold=cold) for cold in (False, True))
        rows.append((text, f"{warm:.1f}", f"{cold:.1f}", checks))
    table("64 random samples to nucleotides, medians of 9 draws", rows)


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", default=".", help="on the disk to measure")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir=arguments.folder))
    try:
        rng = np.random.default_rng(0)
        counts = np.full(arguments.samples, len(SPANS))
        vector = np.concatenate([part.astype(np.float16) for part in realistic_rows(rng, counts, CHANNELS)])
        letters = ["ACGT" * (LENGTH // 4)] * arguments.samples
        store = embedstore.open_store(folder / "s.zarr", mode="a")
        store.add_task(tasks.from_sequences("bench", letters))
        print(f"{machine()}; {arguments.samples} samples of {LENGTH} nt x {CHANNELS} channels, float16 tokens")
        name = writing(folder, store, vector, arguments.runs)
        reading(folder, store, name, vector.nbytes)
        single(folder, store, name)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
