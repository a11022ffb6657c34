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
    from analysis.mutagenesis_map import mutagenesis
    from analysis.plots import plot_gene_tracks, plot_metric_bars, save_figure
    from analysis.scoring import score_variants
    from analysis.variant_baselines import baseline_scores, trinucleotide_rates
    from analysis.variant_plots import plot_mutagenesis, plot_roc, plot_score_by_distance, plot_score_distributions
    from analysis.variant_results import write_zero_shot
    from analysis.variant_tables import auroc_table, binned, compare_scores, score_table
    from analysis.variants import cosine_distance, open_pairs, variant_scores

_HOME = {
    "DemoResult": "analysis.demo",
    "auroc_table": "analysis.variant_tables",
    "baseline_scores": "analysis.variant_baselines",
    "binned": "analysis.variant_tables",
    "compare_scores": "analysis.variant_tables",
    "cosine_distance": "analysis.variants",
    "mutagenesis": "analysis.mutagenesis_map",
    "open_pairs": "analysis.variants",
    "plot_gene_tracks": "analysis.plots",
    "plot_metric_bars": "analysis.plots",
    "plot_mutagenesis": "analysis.variant_plots",
    "plot_roc": "analysis.variant_plots",
    "plot_score_by_distance": "analysis.variant_plots",
    "plot_score_distributions": "analysis.variant_plots",
    "run_demo": "analysis.demo",
    "save_figure": "analysis.plots",
    "score_table": "analysis.variant_tables",
    "score_variants": "analysis.scoring",
    "trinucleotide_rates": "analysis.variant_baselines",
    "variant_scores": "analysis.variants",
    "write_zero_shot": "analysis.variant_results",
}

__all__ = [
    "DemoResult",
    "auroc_table",
    "baseline_scores",
    "binned",
    "compare_scores",
    "cosine_distance",
    "mutagenesis",
    "open_pairs",
    "plot_gene_tracks",
    "plot_metric_bars",
    "plot_mutagenesis",
    "plot_roc",
    "plot_score_by_distance",
    "plot_score_distributions",
    "run_demo",
    "save_figure",
    "score_table",
    "score_variants",
    "trinucleotide_rates",
    "variant_scores",
    "write_zero_shot",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
