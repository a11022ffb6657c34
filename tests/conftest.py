"""Fixtures that many tests need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from toys import ToyModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# An example may take long on a busy machine; that says nothing about the code.
settings.register_profile("embedstore", deadline=None)
settings.load_profile("embedstore")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Tests run side by side: threads of several processes on the same cores wait for each other longer than they work.

    For each module anew: what a test gives to dask workers in its own process may set another number.
    """
    torch.set_num_threads(1)


@pytest.fixture
def toy_model() -> ToyModel:
    return ToyModel()


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from embedstore import layout

    monkeypatch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
    monkeypatch.setattr(layout, "CHUNK_BYTES", 512)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder; give its exit code and what went to stdout and stderr."""
    from embedstore.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    return run
