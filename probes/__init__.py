"""Small supervised models trained on what a store holds; the language model stays frozen.

Names are imported when they are first used, so that ``import probes`` stays fast.

Examples
--------
>>> import probes
>>> probes.CNNProbe(hidden=2).hidden
2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.cnn import CNN
    from probes.dataset import ProbeData
    from probes.experiment import run_probe
    from probes.probe import CNNProbe
    from probes.results import ProbeResult, plot_history, read_results, save_history

_HOME = {
    "CNN": "probes.cnn",
    "CNNProbe": "probes.probe",
    "ProbeData": "probes.dataset",
    "ProbeResult": "probes.results",
    "plot_history": "probes.results",
    "read_results": "probes.results",
    "run_probe": "probes.experiment",
    "save_history": "probes.results",
}

__all__ = [
    "CNN",
    "CNNProbe",
    "ProbeData",
    "ProbeResult",
    "plot_history",
    "read_results",
    "run_probe",
    "save_history",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'probes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
