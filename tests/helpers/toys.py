"""A model without weights whose outputs can be worked out by hand, and sequences for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from embedstore.store import Store


class ToyPiece(NamedTuple):
    ids: np.ndarray
    first: int
    span: np.ndarray


class ToyModel:
    """Words of three letters, single letters at the end, windows of 60 letters, one special token in front.

    The hidden state of a token is a table row plus a tenth of the row of the token before it in the same window, so
    expected values can be worked out by hand (`expected`).
    """

    def __init__(self, width: int = 8, seed: int = 0, word: int = 3, window: int = 60) -> None:
        self.name, self.width, self.word, self.window = "toy", width, word, window
        self.device, self.alphabet, self.precision = torch.device("cpu"), "dna", "float32"
        self.pads = self.packs = False
        self.table = np.random.default_rng(seed).normal(size=(5**word + 300, width)).astype(np.float32)
        self.record = {"id": "toy", "architecture": "toy", "width": width}
        self.fingerprint = {"architecture": "toy", "checkpoint": f"seed {seed}", "layer": "-1"}
        self.calls: list[tuple[int, ...]] = []

    def pieces(self, codes: np.ndarray) -> list[ToyPiece]:
        found = []
        for start in range(0, len(codes), self.window):
            part = np.searchsorted(np.frombuffer(b"ACGNT", np.uint8), codes[start : start + self.window])
            whole = len(part) // self.word
            words = part[: whole * self.word].reshape(whole, self.word) @ (5 ** np.arange(self.word))
            ids = np.concatenate([[5**self.word + 200], words, 5**self.word + part[whole * self.word :]])
            span = np.concatenate([np.full(whole, self.word), np.ones(len(part) % self.word, int)]).astype(np.int32)
            found.append(ToyPiece(ids.astype(np.int64), 1, span))
        return found

    def pieces_of(self, letters: np.ndarray, lengths: np.ndarray) -> list[list[ToyPiece]]:
        return [self.pieces(codes) for codes in np.split(letters, np.cumsum(lengths)[:-1])]

    def row_counts(self, letters: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return np.array([sum(len(p.span) for p in parts) for parts in self.pieces_of(letters, lengths)])

    def hidden(self, ids: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        self.calls.append(tuple(ids.shape))
        state = torch.from_numpy(self.table)[ids]
        state[:, 1:] += 0.1 * torch.from_numpy(self.table)[ids[:, :-1]]
        return state if rows is None else state.gather(1, rows[..., None].expand(-1, -1, self.width))

    def expected(self, codes: np.ndarray) -> np.ndarray:
        """Rows at nucleotide resolution, worked out one token at a time."""
        out = []
        for piece in self.pieces(codes):
            for place in range(len(piece.span)):
                row = self.table[piece.ids[place + 1]] + np.float32(0.1) * self.table[piece.ids[place]]
                out += [row] * int(piece.span[place])
        return np.array(out)


def random_sequences(lengths: list[int] | np.ndarray, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), n)) for n in lengths]


def small_blocks() -> None:
    """Make blocks of a few kilobytes, so that small tasks have many."""
    from embedstore import layout

    layout.SMALLEST_SHARD_BYTES, layout.CHUNK_BYTES = 4096, 512


def store_of_blocks(path: Path) -> Store:
    """A store whose task ``t`` has 120 samples in many blocks, where blocks are small."""
    from embedstore import open_store, tasks

    store = open_store(path, mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences([60] * 120)))
    return store


def load_toys(patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put the toy model in place of what `load` loads, also in dask workers; give the list of what is asked for."""
    from embedstore import worker_tasks

    asked: list[dict[str, Any]] = []

    def load(**options: Any) -> ToyModel:
        asked.append(options)
        return ToyModel()

    patch.setattr("embedstore.models.load", load)
    patch.setattr(worker_tasks, "_kept", {})
    return asked
