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
    from probes.combine import make_specs
    from probes.comparison import compare, comparison_table, seed_interval
    from probes.dataset import ProbeData
    from probes.experiment import run_probe
    from probes.finetuning import FinetuneResult, finetune
    from probes.ia3_probe import IA3Probe
    from probes.layers import layer_profile
    from probes.linear import LogisticProbe, MajorityProbe, RidgeProbe
    from probes.plots import plot_confusion, plot_layers, plot_reliability, plot_results
    from probes.predicted import gene_track_table
    from probes.predictions import list_predictions, open_predictions
    from probes.probe import CNNProbe, NetworkProbe
    from probes.results import ProbeResult, plot_history, read_results, save_history
    from probes.slots import SlotProbe, SlotRidgeProbe
    from probes.specs import Spec
    from probes.structure import structure_table
    from probes.sweep_file import read_sweep
    from probes.sweeping import sweep
    from probes.tables import results_table

_HOME = {
    "CNN": "probes.cnn",
    "CNNProbe": "probes.probe",
    "FinetuneResult": "probes.finetuning",
    "IA3Probe": "probes.ia3_probe",
    "LogisticProbe": "probes.linear",
    "MajorityProbe": "probes.linear",
    "NetworkProbe": "probes.probe",
    "ProbeData": "probes.dataset",
    "ProbeResult": "probes.results",
    "RidgeProbe": "probes.linear",
    "SlotProbe": "probes.slots",
    "SlotRidgeProbe": "probes.slots",
    "Spec": "probes.specs",
    "compare": "probes.comparison",
    "comparison_table": "probes.comparison",
    "finetune": "probes.finetuning",
    "gene_track_table": "probes.predicted",
    "layer_profile": "probes.layers",
    "list_predictions": "probes.predictions",
    "make_specs": "probes.combine",
    "open_predictions": "probes.predictions",
    "plot_confusion": "probes.plots",
    "plot_history": "probes.results",
    "plot_layers": "probes.plots",
    "plot_reliability": "probes.plots",
    "plot_results": "probes.plots",
    "read_results": "probes.results",
    "read_sweep": "probes.sweep_file",
    "results_table": "probes.tables",
    "run_probe": "probes.experiment",
    "save_history": "probes.results",
    "seed_interval": "probes.comparison",
    "structure_table": "probes.structure",
    "sweep": "probes.sweeping",
}

__all__ = [
    "CNN",
    "CNNProbe",
    "FinetuneResult",
    "IA3Probe",
    "LogisticProbe",
    "MajorityProbe",
    "NetworkProbe",
    "ProbeData",
    "ProbeResult",
    "RidgeProbe",
    "SlotProbe",
    "SlotRidgeProbe",
    "Spec",
    "compare",
    "comparison_table",
    "finetune",
    "gene_track_table",
    "layer_profile",
    "list_predictions",
    "make_specs",
    "open_predictions",
    "plot_confusion",
    "plot_history",
    "plot_layers",
    "plot_reliability",
    "plot_results",
    "read_results",
    "read_sweep",
    "results_table",
    "run_probe",
    "save_history",
    "seed_interval",
    "structure_table",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'probes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
