"""Trainings that are interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes import training

if TYPE_CHECKING:
    import pytest


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Interrupt the training of a probe after so many steps."""
    step, left = training._step, steps

    def stopping(*given):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return step(*given)

    patch.setattr(training, "_step", stopping)
