"""Variant scores, figures and the demonstration; everything reads from a store.

Names are imported when they are first used, so that ``import analysis`` stays fast.

Examples
--------
>>> import analysis
>>> float(analysis.cosine_distance([[1.0, 0.0]], [[0.0, 1.0]])[0])
1.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.demo import DemoResult, run_demo
    from analysis.plots import plot_gene_tracks, plot_metric_bars, plot_roc, plot_score_distributions, save_figure
    from analysis.variants import auroc_table, cosine_distance, score_variants, variant_task

_HOME = {
    "DemoResult": "analysis.demo",
    "auroc_table": "analysis.variants",
    "cosine_distance": "analysis.variants",
    "plot_gene_tracks": "analysis.plots",
    "plot_metric_bars": "analysis.plots",
    "plot_roc": "analysis.plots",
    "plot_score_distributions": "analysis.plots",
    "run_demo": "analysis.demo",
    "save_figure": "analysis.plots",
    "score_variants": "analysis.variants",
    "variant_task": "analysis.variants",
}

__all__ = [
    "DemoResult",
    "auroc_table",
    "cosine_distance",
    "plot_gene_tracks",
    "plot_metric_bars",
    "plot_roc",
    "plot_score_distributions",
    "run_demo",
    "save_figure",
    "score_variants",
    "variant_task",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
