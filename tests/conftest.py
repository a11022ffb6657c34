"""Fixtures that many tests need."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from toys import ToyModel

# Tests run side by side: threads of several processes on the same cores wait for each other far longer than they work.
torch.set_num_threads(1)

# An example may take long on a busy machine; that says nothing about the code.
settings.register_profile("embedstore", deadline=None)
settings.load_profile("embedstore")


@pytest.fixture
def toy_model() -> ToyModel:
    return ToyModel()


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from embedstore import layout

    monkeypatch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
    monkeypatch.setattr(layout, "CHUNK_BYTES", 512)
