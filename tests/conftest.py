"""Fixtures that many tests need."""

from __future__ import annotations

import pytest
from toys import ToyModel


@pytest.fixture
def toy_model() -> ToyModel:
    return ToyModel()


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from embedstore import layout

    monkeypatch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
    monkeypatch.setattr(layout, "CHUNK_BYTES", 512)
