"""The embedding stage against batch-1 loops, its padding, and how its memory and time grow with the task.

The loops do what BEND does: one sequence at a time, upsample, float32, one .npy each in a tar.gz; once through the same
network as the stage, once through the ESM class of transformers and its tokenizer (weights of the same sizes). All
arithmetic is float32. On a CPU the network has 6 layers of 320 channels; `--device cuda` takes the shape of the
Nucleotide Transformer v2 500M. Run: python benchmarks/embedding.py [--device cuda] [--largest 100000]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import webdataset as wds
from common import machine, random_checkpoint, table

import embedstore
from embedstore import models, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {
    "cpu": {"layers": 6, "hidden": 320, "heads": 16, "inner": 640},
    "cuda": {"layers": 29, "hidden": 1024, "heads": 16, "inner": 4096},
}


def sequences(lengths: np.ndarray) -> list[str]:
    """Return random sequences."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", np.uint8)
    return [letters[rng.integers(0, 4, length)].tobytes().decode() for length in lengths]


def genes(samples: int) -> np.ndarray:
    """Return lengths from 1.4 to 14 kb, log-uniform."""
    return np.exp(np.random.default_rng(1).uniform(np.log(1400), np.log(14_000), samples)).astype(int)


def loop(embed_one: Callable[[str], np.ndarray], letters: list[str], path: Path) -> float:
    """Embed one sequence at a time into a tar.gz; return the seconds."""
    began = time.perf_counter()
    with wds.TarWriter(str(path), compress=True) as sink:
        for number, text in enumerate(letters):
            sink.write({"__key__": f"sample_{number}", "input.npy": embed_one(text)[None]})
    return time.perf_counter() - began


def ours(model: models.Model) -> Callable[[str], np.ndarray]:
    """Return a function that embeds one sequence with our network."""

    def embed_one(text: str) -> np.ndarray:
        parts = []
        for piece in model.pieces(np.frombuffer(text.encode(), np.uint8)):
            hidden = model.hidden(torch.from_numpy(piece.ids)[None].to(model.device))[0].cpu()
            parts.append(np.repeat(hidden[piece.first :].numpy(), piece.span, axis=0))
        return np.concatenate(parts)

    return embed_one


def native(folder: Path, device: str, **sizes: int) -> Callable[[str], np.ndarray]:
    """Return a function that embeds one sequence with the tokenizer and the ESM class of transformers."""
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    tokenizer = EsmTokenizer(str(folder / "vocab.txt"), eos_token=None)
    config = EsmConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        # Its feed-forward part has no gate: of one and a half times the width it has as many weights as ours.
        intermediate_size=sizes["inner"] * 3 // 2,
        max_position_embeddings=2050,
        position_embedding_type="rotary",
        pad_token_id=1,
        mask_token_id=2,
    )
    network = EsmModel(config, add_pooling_layer=False).eval().to(device)

    def embed_one(text: str) -> np.ndarray:
        parts = []
        for start in range(0, len(text), 6000):  # windows below the model's context
            part = text[start : start + 6000]
            ids = tokenizer(part, return_tensors="pt")["input_ids"].to(device)
            with torch.no_grad():
                hidden = network(ids).last_hidden_state[0, 1:].cpu().numpy()
            spans = [6] * (len(part) // 6) + [1] * (len(part) % 6)
            parts.append(np.repeat(hidden, spans, axis=0))
        return np.concatenate(parts)

    return embed_one


def stage(model: models.Model, letters: list[str], path: Path, **options: int) -> embedstore.EmbedReport:
    """Embed into a store."""
    store = embedstore.open_store(path, mode="a")
    store.add_task(tasks.from_sequences("bench", letters))
    return embedstore.embed(store, "bench", model, progress=False, **options)


def compare(folder: Path, model: models.Model, name: str, letters: list[str], device: str, runs: int = 3) -> None:
    """Print seconds per megabase of the loops and of the stage, in pairs."""
    one = native(folder / "checkpoint", device, **SIZES[device])
    megabases = sum(map(len, letters)) / 1e6
    stage(model, letters[:16], folder / f"{name}-warm.zarr")
    one(letters[0])
    seconds: dict[str, list[float]] = {"native": [], "ours": [], "stage": []}
    for run in range(runs):
        seconds["native"].append(loop(one, letters, folder / f"{name}{run}n.tar.gz"))
        seconds["ours"].append(loop(ours(model), letters, folder / f"{name}{run}o.tar.gz"))
        began = time.perf_counter()
        report = stage(model, letters, folder / f"{name}{run}.zarr")
        seconds["stage"].append(time.perf_counter() - began)
    middle = {which: statistics.median(values) for which, values in seconds.items()}
    rows = [("", "s per Mb", "stage is faster by")]
    for which, text in (
        ("native", "loop, batch 1, transformers, tar.gz"),
        ("ours", "loop, batch 1, our network, tar.gz"),
        ("stage", "stage to store"),
    ):
        rows.append((text, f"{middle[which] / megabases:.1f}", f"{middle[which] / middle['stage']:.2f}"))
    table(f"{name}: {len(letters)} sequences, {megabases:.2f} Mb, medians of {runs} paired runs", rows)
    from embedstore.models.flops import flops, matmul_rate

    pieces = model.pieces(np.frombuffer(letters[0].encode(), np.uint8))
    per_token = flops(model, [len(piece.ids) for piece in pieces]) / sum(len(piece.ids) for piece in pieces)
    rate = matmul_rate(model.device, model.precision)
    print(
        f"  last stage: padded/real {report.padding:.3f}, idle {report.idle:.1%}, waiting for the disk "
        f"{report.busy.waiting_for_disk / report.seconds:.2%}, {report.tokens / report.seconds:,.0f} tokens/s, "
        f"{report.tokens * per_token / report.seconds / rate:.0%} of the {rate / 1e9:,.0f} GFLOP/s of a matrix product"
    )


def growth(folder: Path, largest: int) -> None:
    """Print peak memory and time of processes that embed more and more sequences with a small network."""
    random_checkpoint(folder / "small", layers=1, hidden=64, heads=4, inner=128)
    sizes = [size for size in (1000, 10_000, 100_000) if size <= largest]
    done = []
    for size in sizes:
        store = embedstore.open_store(folder / f"growth{size}.zarr", mode="a")
        store.add_task(tasks.from_sequences("warm", sequences(np.full(200, 512))))
        store.add_task(tasks.from_sequences("bench", sequences(np.full(size, 512))))
        command = [sys.executable, __file__, "--child", str(folder), str(size)]
        done.append(
            [float(x) for x in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]
        )
    rows = [("sequences", "peak MB", "of the first", "s", "s per 1,000, of the first")]
    for size, (peak, seconds) in zip(sizes, done, strict=True):
        each = seconds / size / (done[0][1] / sizes[0])
        rows.append((f"{size:,}", f"{peak / 1e6:.0f}", f"{peak / done[0][0]:.3f}", f"{seconds:.1f}", f"{each:.2f}"))
    table("growth with the task: 512 nt each, 1 layer of 64 channels, float32 rows", rows)


def child(folder: Path, samples: int) -> None:
    """Embed in a process of its own; print its peak memory and the seconds of embedding."""
    model = models.load(folder / "small")
    store = embedstore.open_store(folder / f"growth{samples}.zarr", mode="a")
    options = {"batch_tokens": 4096, "dtype": "float32", "progress": False}
    embedstore.embed(store, "warm", model, **options)  # first calls pay for set-up
    began = time.perf_counter()
    embedstore.embed(store, "bench", model, **options)
    seconds = time.perf_counter() - began
    # Not ru_maxrss of getrusage: a process inherits that of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) * 1024, seconds)


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--largest", type=int, default=100_000, help="sequences of the largest task")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="embedstore-benchmark-", dir="."))
    try:
        sizes = SIZES[arguments.device]
        model = models.load(random_checkpoint(folder / "checkpoint", **sizes), device=arguments.device)
        print(f"{machine()}; {arguments.device}; {sizes['layers']} layers x {sizes['hidden']}, float32")
        compare(folder, model, "windows", sequences(np.full(192, 512)), arguments.device)
        compare(folder, model, "genes", sequences(genes(24)), arguments.device)
        growth(folder, arguments.largest)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
