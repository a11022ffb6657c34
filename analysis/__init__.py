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
    from analysis.decoding import Decodability, decodability, partial_decodability
    from analysis.demo import DemoResult, run_demo
    from analysis.gc_content import gc_decodability
    from analysis.mutagenesis_map import mutagenesis
    from analysis.plots import plot_gene_tracks, plot_metric_bars, save_figure
    from analysis.representation_plots import (
        plot_decodability,
        plot_decoded,
        plot_embedding_map,
        plot_neighbours,
        plot_similarity,
    )
    from analysis.representations import embedding_map, neighbours, sample_values
    from analysis.scoring import score_variants
    from analysis.similarity import cka, similarity_table
    from analysis.variant_baselines import baseline_scores, trinucleotide_rates
    from analysis.variant_distributions import plot_score_distributions
    from analysis.variant_plots import plot_mutagenesis, plot_roc, plot_score_by_distance
    from analysis.variant_results import write_zero_shot
    from analysis.variant_tables import auroc_table, binned, compare_scores, score_table
    from analysis.variants import cosine_distance, open_pairs, variant_scores

_HOME = {
    "Decodability": "analysis.decoding",
    "DemoResult": "analysis.demo",
    "auroc_table": "analysis.variant_tables",
    "baseline_scores": "analysis.variant_baselines",
    "binned": "analysis.variant_tables",
    "cka": "analysis.similarity",
    "compare_scores": "analysis.variant_tables",
    "cosine_distance": "analysis.variants",
    "decodability": "analysis.decoding",
    "embedding_map": "analysis.representations",
    "gc_decodability": "analysis.gc_content",
    "mutagenesis": "analysis.mutagenesis_map",
    "neighbours": "analysis.representations",
    "open_pairs": "analysis.variants",
    "partial_decodability": "analysis.decoding",
    "plot_decodability": "analysis.representation_plots",
    "plot_decoded": "analysis.representation_plots",
    "plot_embedding_map": "analysis.representation_plots",
    "plot_gene_tracks": "analysis.plots",
    "plot_metric_bars": "analysis.plots",
    "plot_mutagenesis": "analysis.variant_plots",
    "plot_neighbours": "analysis.representation_plots",
    "plot_roc": "analysis.variant_plots",
    "plot_score_by_distance": "analysis.variant_plots",
    "plot_score_distributions": "analysis.variant_distributions",
    "plot_similarity": "analysis.representation_plots",
    "run_demo": "analysis.demo",
    "sample_values": "analysis.representations",
    "save_figure": "analysis.plots",
    "score_table": "analysis.variant_tables",
    "score_variants": "analysis.scoring",
    "similarity_table": "analysis.similarity",
    "trinucleotide_rates": "analysis.variant_baselines",
    "variant_scores": "analysis.variants",
    "write_zero_shot": "analysis.variant_results",
}

__all__ = [
    "Decodability",
    "DemoResult",
    "auroc_table",
    "baseline_scores",
    "binned",
    "cka",
    "compare_scores",
    "cosine_distance",
    "decodability",
    "embedding_map",
    "gc_decodability",
    "mutagenesis",
    "neighbours",
    "open_pairs",
    "partial_decodability",
    "plot_decodability",
    "plot_decoded",
    "plot_embedding_map",
    "plot_gene_tracks",
    "plot_metric_bars",
    "plot_mutagenesis",
    "plot_neighbours",
    "plot_roc",
    "plot_score_by_distance",
    "plot_score_distributions",
    "plot_similarity",
    "run_demo",
    "sample_values",
    "save_figure",
    "score_table",
    "score_variants",
    "similarity_table",
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
