"""Tasks of tiny sequences for tuning, and a model in which only IA3 can find the label."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from encoders import GOLDEN, change_weights
from safetensors.torch import load_file
from toys import random_sequences

import embedstore
from embedstore import tasks
from embedstore.tasks import TaskRecord

if TYPE_CHECKING:
    from pathlib import Path

    from embedstore.store import Store

SPLITS = ("train", "train", "train", "train", "valid", "test")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def splits_of(samples: int) -> list[str]:
    return [SPLITS[number % len(SPLITS)] for number in range(samples)]


def value_store(path: str, samples: int = 36, *, scale: float = 1.0, metric: str = "r2", **columns: Any) -> Store:
    """Coding sequences of different lengths, labelled by their share of G; task ``share``."""
    sequences = random_sequences([30 + 3 * (number % 9) for number in range(samples)], seed=4)
    labels = [scale * (50 + 20 * text.count("G") / len(text)) for text in sequences]
    record = TaskRecord(name="share", level="sequence", type="value", metric=metric)  # type: ignore[arg-type]
    import pandas as pd

    table = pd.DataFrame(columns) if columns else None
    store = embedstore.open_store(path, mode="a")
    splits = splits_of(samples)
    store.add_task(tasks.from_sequences("share", sequences, labels=labels, record=record, splits=splits, columns=table))
    return store


def residue_store(path: str, samples: int = 36, *, splits: list[str] | None = None, alphabet: str = "dna") -> Store:
    """One of three classes for each of three codons, or for each residue; every sequence is whole six-letter tokens."""
    rng = np.random.default_rng(5)
    if alphabet == "dna":
        kinds = [rng.integers(0, 3, 2 * n) for n in rng.integers(4, 9, samples)]
        sequences = ["".join(("ATA", "GTG", "CTC")[kind] for kind in own) for own in kinds]
        labels = [np.repeat(own, 3) for own in kinds]
    else:
        sequences = ["".join(rng.choice(list(AMINO_ACIDS), n)) for n in rng.integers(8, 20, samples)]
        labels = [np.array([AMINO_ACIDS.index(letter) % 3 for letter in text]) for text in sequences]
    record = TaskRecord(
        name="residues",
        level="nucleotide",
        type="class",
        names=("none", "G", "C"),
        metric="accuracy",
        alphabet=alphabet,  # type: ignore[arg-type]
    )
    store = embedstore.open_store(path, mode="a")
    given = splits or splits_of(samples)
    store.add_task(tasks.from_sequences("residues", sequences, labels=labels, record=record, splits=given))
    return store


def hidden_folder(folder: Path) -> Path:
    """An ESM-2 whose rows tell which third of the letters a residue is of, and hide whether it is an odd one.

    Two units of the first feed-forward part read the odd letters and cancel each other; only where IA3 scales them
    differently do they come out. Nothing else is done to the rows, which have one length, by attention or otherwise.
    """
    name = "esm.encoder.layer.{}.{}"
    shutil.copytree(GOLDEN / "esm2", folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    odd, third = torch.zeros(32), torch.zeros(32)
    odd[:8], odd[8:16], third[16:23], third[23:30] = 1, -1, 1, -1
    embedding = torch.zeros_like(weights["esm.embeddings.word_embeddings.weight"])
    vocabulary = (GOLDEN / "esm2" / "vocab.txt").read_text().split()
    for number, letter in enumerate(AMINO_ACIDS):
        place = 2 * (number % 2) - 1
        embedding[vocabulary.index(letter)] = place * odd + (2 * (number % 3 == 0) - 1) * third
    changed = {"esm.embeddings.word_embeddings.weight": embedding}
    for block in range(3):
        for part in ("attention.output.dense", "output.dense"):
            for kind in ("weight", "bias"):
                key = f"{name.format(block, part)}.{kind}"
                changed[key] = torch.zeros_like(weights[key])
    for kind in ("weight", "bias"):
        key = f"{name.format(0, 'intermediate.dense')}.{kind}"
        changed[key] = torch.zeros_like(weights[key])
        key = f"{name.format(0, 'LayerNorm')}.{kind}"
        changed[key] = torch.ones_like(weights[key]) if kind == "weight" else torch.zeros_like(weights[key])
        key = f"esm.encoder.emb_layer_norm_after.{kind}"
        changed[key] = torch.zeros_like(weights[key])
    changed[f"{name.format(0, 'intermediate.dense')}.weight"][:2] = odd / 2
    changed[f"{name.format(0, 'output.dense')}.weight"][30, 0] = 1
    changed[f"{name.format(0, 'output.dense')}.weight"][30, 1] = -1
    changed["esm.encoder.emb_layer_norm_after.weight"][16:31] = 1
    change_weights(folder, changed)
    return folder


def hidden_store(path: str, samples: int = 90) -> Store:
    """Proteins labelled by their share of the letters that `hidden_folder` hides; task ``hidden``."""
    rng = np.random.default_rng(7)
    sequences = []
    for _ in range(samples):
        odd = rng.random(20) < rng.random()
        letters = rng.integers(0, 10, 20) * 2 + odd
        sequences.append("".join(AMINO_ACIDS[number] for number in letters))
    labels = [sum(AMINO_ACIDS.index(letter) % 2 for letter in text) for text in sequences]
    record = TaskRecord(name="hidden", level="sequence", type="value", metric="r2", alphabet="protein")
    store = embedstore.open_store(path, mode="a")
    store.add_task(tasks.from_sequences("hidden", sequences, labels=labels, record=record, splits=splits_of(samples)))
    return store
