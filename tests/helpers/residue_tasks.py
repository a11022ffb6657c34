"""Coding sequences whose codons decide each residue's class, and an encoder that writes it into six-letter tokens."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

import embedstore
from embedstore import tasks
from embedstore.models.function import function_model
from embedstore.tasks import TaskRecord
from probes.dataset import ProbeData

if TYPE_CHECKING:
    from embedstore.store import Store

CODONS = ["".join(letters) for letters in product("ACGT", repeat=3)]
CLASS = {codon: place % 8 for place, codon in enumerate(CODONS)}
NAMES = tuple("GHIBESTC")
RECORD = TaskRecord(name="structure", level="nucleotide", type="class", names=NAMES, metric="accuracy")
SPLITS = ["train", "train", "train", "valid", "A", "B"]


def residue_classes(text: str) -> list[int]:
    return [CLASS.get(text[at : at + 3], 0) for at in range(0, len(text), 3)]


def spans(texts: list[str]) -> list[np.ndarray]:
    """Six letters a token; one letter where six are not left before the end or an N."""
    found = []
    for text in texts:
        own, at = [], 0
        while at < len(text):
            word = text[at : at + 6]
            own.append(6 if len(word) == 6 and "N" not in word else 1)
            at += own[-1]
        found.append(np.array(own))
    return found


def planted(texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that hold the classes of a token's first and second codon, as one-hot vectors beside each other."""
    answer = []
    for text, span in zip(texts, spans(texts), strict=True):
        rows = np.zeros((len(span), 16), np.float32)
        for row, at, width in zip(rows, np.cumsum(span) - span, span, strict=True):
            row[CLASS.get(text[at : at + 3] if width == 6 else text[at // 3 * 3 : at // 3 * 3 + 3], 0)] = 1
            if width == 6:
                row[8 + CLASS[text[at + 3 : at + 6]]] = 1
        answer.append((rows, span))
    return answer


planted.spans = spans  # type: ignore[attr-defined]


def coding_sequences(samples: int, seed: int = 0) -> list[str]:
    """Sequences of 1, 2, ... codons in random order: odd numbers among them, and no two of one length."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(CODONS, n + 1)) for n in rng.permutation(samples)]


def structure_store(
    sequences: list[str],
    labels: list[Any] | None = None,
    encoder: Any = planted,
    *,
    splits=None,
    path="memory://",
    **options,
) -> Store:
    """A store with the task ``structure``, embedded under the name ``planted``; labels are those of residues."""
    labels = labels or [residue_classes(text) for text in sequences]
    task = tasks.from_sequences(
        "structure",
        sequences,
        splits=splits or [SPLITS[place % len(SPLITS)] for place in range(len(sequences))],
        labels=[np.repeat(one, 3) for one in labels],
        record=RECORD,
    )
    store = embedstore.open_store(path, mode="a")
    store.add_task(task)
    embedstore.embed(store, "structure", function_model("planted", encoder, version="1"), progress=False, **options)
    return store


def part_of(store: Store, *splits: str) -> ProbeData:
    return ProbeData.from_store(store, "structure", "planted", splits, progress=False)
