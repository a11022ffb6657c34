"""Variants: read from VCF, BCF, BED or TSV, checked against the genome, made a task, and written with their scores.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedstore.variants.aligned import variant_positions
    from embedstore.variants.alleles import left_align, trim
    from embedstore.variants.checking import check_variants, match_rates
    from embedstore.variants.reading import read_variants
    from embedstore.variants.windows import variant_task
    from embedstore.variants.writing import write_scores

_HOME = {
    "check_variants": "embedstore.variants.checking",
    "left_align": "embedstore.variants.alleles",
    "match_rates": "embedstore.variants.checking",
    "read_variants": "embedstore.variants.reading",
    "trim": "embedstore.variants.alleles",
    "variant_positions": "embedstore.variants.aligned",
    "variant_task": "embedstore.variants.windows",
    "write_scores": "embedstore.variants.writing",
}

__all__ = [
    "check_variants",
    "left_align",
    "match_rates",
    "read_variants",
    "trim",
    "variant_positions",
    "variant_task",
    "write_scores",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'embedstore.variants' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
