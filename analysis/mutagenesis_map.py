"""Every change of one letter in a region, scored: a map of positions by letters."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.scoring import score_variants
from analysis.variant_ways import CONTEXT, CONTEXT_CAUSAL
from analysis.variants import score_kinds
from embedstore.errors import InputError
from embedstore.genome import Genome, contig_hint
from embedstore.sequences import decode

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from embedstore.models import Model
    from embedstore.store import Store

_log = logging.getLogger(__name__)

_LETTERS = np.array(list("ACGT"))
# What these give for a letter in place of itself; the others have no such value.
_ZERO_AT_REFERENCE = (
    *("cosine", "l2", "window_cosine", "window_l2"),
    *("llr_masked", "llr_wild_type", "llr_causal", "llr_sequence"),
)


def parse_region(region: str | tuple[str, int, int], genome: Genome) -> tuple[str, int, int]:
    """Return chromosome, start and end of a region that lies on a genome.

    Parameters
    ----------
    region
        ``"chromosome:start-end"`` or (chromosome, start, end), 0-based, half-open.
    genome
        The genome.

    Returns
    -------
    chromosome : str
    start, end : int

    Raises
    ------
    InputError
        If it is not written so, or not wholly on the genome.
    """
    wanted = (
        "'chromosome:start-end' or (chromosome, start, end) is wanted, 0-based, half-open, such as 'chr1:1000-1200'"
    )
    if isinstance(region, str):
        parts = re.fullmatch(r"(.+):(\d+)-(\d+)", region, re.ASCII)
        if parts is None:
            raise InputError(f"The region is {region!r}; {wanted}.")
        chromosome, start, end = parts[1], int(parts[2]), int(parts[3])
    else:
        try:
            chromosome, start, end = region
            start, end = (int(number.__index__()) for number in (start, end))
        except (TypeError, ValueError, AttributeError):
            raise InputError(f"The region is {region!r}; {wanted}.") from None
    if chromosome not in genome.contigs:
        raise InputError(f"{genome.path}: no contig {chromosome!r}.{contig_hint(chromosome, genome.contigs)}")
    size = genome.contigs[chromosome]
    if not 0 <= start < end <= size:
        raise InputError(
            f"The region is {chromosome}:{start}-{end}; 0 <= start < end <= {size:,}, the length of {chromosome!r} in "
            f"{genome.path.name}, is wanted (0-based, half-open)."
        )
    return chromosome, start, end


def mutagenesis(
    region: str | tuple[str, int, int],
    genome: Genome | str | Path,
    model: Model,
    store: Store | str | Path = "memory://",
    *,
    score: str = "cosine",
    **options: Any,
) -> xr.DataArray:
    """Score all three alternates at every position of a region.

    The three alternates of a position share its reference window: four windows a position, or three and a fraction with
    ``stride``, with which neighbours share it too (those at the same place in their words, where a model reads words).

    Parameters
    ----------
    region
        ``"chromosome:start-end"`` or (chromosome, start, end): nucleotides of the forward strand, 0-based, half-open.
    genome
        The genome, or its FASTA file.
    model
        From `embedstore.models.load`, with ``precision="float32"``.
    store
        A store opened with ``mode="a"``, or its path; by default one in memory, which is not kept.
    score
        One name in `analysis.variants.SCORES`; default the cosine distance.
    **options
        Of `analysis.score_variants`: ``context``, ``strands``, ``stride`` ...; the ``name`` of the task in the store
        is by default ``mutagenesis.`` and the region.

    Returns
    -------
    xarray.DataArray
        (position, letter) float64, letters A, C, G, T. Coordinates ``position`` (0-based) and, along it, ``reference``
        (the letter of the genome). At the letter of the genome stands what a letter gives in place of itself: 0 for
        distances and log-likelihood ratios, NaN for inner products and entropies. NaN also where a change is not
        scored, such as at letters of the genome other than A, C, G and T. Attributes: ``chromosome``, ``score``,
        ``model``, ``context`` (nucleotides on either side, or on the left for causal models).

    Raises
    ------
    InputError
        If the region is malformed, not on the genome, or without a letter that can be changed; and for what
        `analysis.score_variants` refuses.

    References
    ----------
    Zhou and Troyanskaya 2015, Nat. Methods 12:931 ("in silico saturated mutagenesis").
    """
    import xarray as xr

    from embedstore.models.letters import is_causal

    if not isinstance(genome, Genome):
        with Genome(genome) as opened:
            return mutagenesis(region, opened, model, store, score=score, **options)
    score_kinds(score)
    chromosome, start, end = parse_region(region, genome)
    position = np.arange(start, end)
    reference = np.array(list(decode(genome.fetch(chromosome, start, end))))
    variants, cells = _changes(chromosome, position, reference)
    if variants.empty:
        raise InputError(
            f"{genome.path.name}: {chromosome}:{start}-{end} has no letter A, C, G or T; there is nothing to change."
        )
    options.setdefault("name", f"mutagenesis.{re.sub('[^A-Za-z0-9._-]', '-', chromosome)}_{start}_{end}")
    scored = score_variants(variants, genome, model, store, scores=(score,), **options)
    missing = scored.loc[scored["reason"] != "", "reason"]
    if len(missing):
        counts = "; ".join(f"{count:,}: {reason}" for reason, count in missing.value_counts().items())
        _log.warning("%s:%d-%d: %d changes are not scored and NaN: %s.", chromosome, start, end, len(missing), counts)
    values = np.full((len(position), 4), np.nan)
    if score in _ZERO_AT_REFERENCE:
        values[reference[:, None] == _LETTERS] = 0
    values[cells] = scored[score]
    context = options.get("context")
    if context is None:
        context = CONTEXT_CAUSAL if is_causal(model) else CONTEXT
    return xr.DataArray(
        values,
        {"position": position, "letter": _LETTERS, "reference": ("position", reference)},
        ("position", "letter"),
        score,
        {"chromosome": chromosome, "score": score, "model": model.name, "context": context},
    )


def _changes(
    chromosome: str, position: NDArray[np.int64], reference: NDArray[np.str_]
) -> tuple[pd.DataFrame, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the variants of a region, and the row and column of each in the map."""
    import pandas as pd

    other = (reference[:, None] != _LETTERS) & np.isin(reference, _LETTERS)[:, None]
    row, letter = np.nonzero(other)
    table = pd.DataFrame(
        {
            "chromosome": np.repeat(chromosome, len(row)).astype(object),
            "position": position[row],
            "ref": reference[row].astype(object),
            "alt": _LETTERS[letter].astype(object),
        }
    )
    return table, (row, letter)
