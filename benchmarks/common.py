"""What the benchmarks share: realistic vectors, timing, and a table of ratios."""

from __future__ import annotations

import os
import platform
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def machine() -> str:
    """Say what ran the benchmark."""
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]  # noqa: PTH123, SIM115
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}, Python {platform.python_version()}"


def realistic_rows(rng: np.random.Generator, counts: np.ndarray, channels: int) -> Iterator[np.ndarray]:
    """Yield float32 token vectors of samples, as hard to compress as those of trained models.

    Channels have log-normal scales and means of their own (two are massive, as in trained transformers), and part of
    the variance is shared within a sample.
    """
    scale = rng.lognormal(0, 0.5, channels).astype(np.float32)
    scale[:2] *= 30
    mean = rng.normal(0, 0.5, channels).astype(np.float32)
    for count in counts:
        shared = rng.normal(size=channels).astype(np.float32)
        own = rng.normal(size=(count, channels)).astype(np.float32)
        yield (mean + scale * (0.5 * shared + 0.87 * own))


def kmer_spans(length: int, k: int = 6) -> np.ndarray:
    """Return the spans of k-mer tokens over a sequence: whole words, then single letters."""
    return np.concatenate([np.full(length // k, k), np.ones(length % k, int)]).astype(np.uint16)


def timed(run: Callable[[], object], repeats: int = 3, before: Callable[[], object] | None = None) -> float:
    """Return the median seconds of some runs."""
    seconds = []
    for _ in range(repeats):
        if before:
            before()
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def drop_cache(folder: Path) -> None:
    """Ask the system to forget the pages of all files below a folder, so that the next read comes from the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print aligned rows; the first is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def random_checkpoint(
    folder: Path, *, layers: int = 6, hidden: int = 320, heads: int = 16, inner: int = 640, seed: int = 0
) -> Path:
    """Write a Nucleotide Transformer v2 checkpoint with random weights: official key names, 6-mer vocabulary."""
    import json

    import torch
    from safetensors.torch import save_file

    tokens = _write_6mer_tokenizer(folder)
    config = {
        "architectures": ["EsmForMaskedLM"],
        "model_type": "esm",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 2050,
        "position_embedding_type": "rotary",
        "emb_layer_norm_before": False,
        "token_dropout": False,
        "pad_token_id": 1,
        "mask_token_id": 2,
        "vocab_size": tokens,
        "add_bias_fnn": False,
    }
    torch.manual_seed(seed)

    def dense(out: int, into: int) -> torch.Tensor:
        return torch.randn(out, into) / into**0.5

    state = {"esm.embeddings.word_embeddings.weight": torch.randn(tokens, hidden)}
    for layer in range(layers):
        home = f"esm.encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            state[f"{home}.attention.{name}.weight"] = dense(hidden, hidden)
            state[f"{home}.attention.{name}.bias"] = torch.zeros(hidden)
        for name in ("attention.LayerNorm", "LayerNorm"):
            state[f"{home}.{name}.weight"] = torch.ones(hidden)
            state[f"{home}.{name}.bias"] = torch.zeros(hidden)
        steps = torch.arange(0, hidden // heads, 2).float()
        state[f"{home}.attention.self.rotary_embeddings.inv_freq"] = 10000 ** (-steps / (hidden // heads))
        state[f"{home}.intermediate.dense.weight"] = dense(2 * inner, hidden)
        state[f"{home}.output.dense.weight"] = dense(hidden, inner)
    state["esm.encoder.emb_layer_norm_after.weight"] = torch.ones(hidden)
    state["esm.encoder.emb_layer_norm_after.bias"] = torch.zeros(hidden)
    save_file(state, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def esm_checkpoint(
    folder: Path, *, layers: int = 6, hidden: int = 320, heads: int = 20, inner: int = 1280, seed: int = 0
) -> Path:
    """Write a checkpoint with random weights that transformers and we load alike: its ESM class, 6-mer vocabulary."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM

    config = EsmConfig(
        vocab_size=_write_6mer_tokenizer(folder),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=2050,
        position_embedding_type="rotary",
        token_dropout=False,
        pad_token_id=1,
        mask_token_id=2,
    )
    torch.manual_seed(seed)
    EsmForMaskedLM(config).save_pretrained(folder)
    return folder


def _write_6mer_tokenizer(folder: Path) -> int:
    """Write the tokenizer of the Nucleotide Transformer; return its number of tokens."""
    import itertools
    import json

    words = ["".join(word) for word in itertools.product("ATCG", repeat=6)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *words, *"ATCGN"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    settings = {"tokenizer_class": "EsmTokenizer", "model_max_length": 2048, "eos_token": None, "cls_token": "<cls>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(vocabulary)
