"""Annotations of genomes: genes as tables, and the places in them that variants may be near."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from embedstore.annotation_files import Annotation, read_annotation
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["SHORTEST_INTRON", "Annotation", "nearest", "read_annotation", "splice_sites", "transcription_starts"]

_log = logging.getLogger(__name__)

SHORTEST_INTRON = 13
"""Nucleotides; shorter gaps between exons are frameshifts written as gaps, as in Ensembl's Variant Effect Predictor."""


def splice_sites(annotation: Annotation, *, shortest_intron: int = SHORTEST_INTRON) -> pd.DataFrame:
    """Return the donors and acceptors of all transcripts.

    Introns lie between the exons of a transcript; its coding parts stand for them where the file gives no exons. Exons
    on other chromosomes or strands (trans-splicing) are apart.

    Parameters
    ----------
    annotation
        Genes.
    shortest_intron
        Nucleotides, default `SHORTEST_INTRON`; shorter gaps are no introns.

    Returns
    -------
    pandas.DataFrame
        Each site of a gene once, in genome order: chromosome; position (0-based: the first nucleotide of the intron for
        a donor, the last one for an acceptor, as transcribed); strand; kind (``"donor"``, ``"acceptor"``); gene.
        Introns whose strand is not known have none, which is logged.
    """
    import pandas as pd

    exons, cds = annotation.exons, annotation.cds
    whole = exons["transcript"].unique()
    parts = pd.concat([exons, cds[~cds["transcript"].isin(whole)]], ignore_index=True)
    own = ["chromosome", "strand", "gene", "transcript"]
    parts = parts.sort_values([*own, "start"], kind="stable")
    groups = parts.groupby(own, sort=False)
    # Exons of one transcript may overlap where a frameshift goes back: an intron begins after all that came before.
    before = groups["end"].cummax().groupby([parts[name] for name in own], sort=False).shift(fill_value=-1)
    gap = (before >= 0) & (parts["start"] - before >= shortest_intron)
    introns = parts[own].assign(first=before, last=parts["start"] - 1)[gap]
    unknown = introns["strand"] == "."
    if unknown.any():
        _log.warning("%d introns have no strand, so no donor and acceptor.", int(unknown.sum()))
    introns = introns[~unknown]
    forward = introns["strand"] == "+"
    sites = [
        introns[["chromosome", "strand", "gene"]].assign(position=places, kind=kind)
        for kind, places in (
            ("donor", introns["first"].where(forward, introns["last"])),
            ("acceptor", introns["last"].where(forward, introns["first"])),
        )
    ]
    return _ordered(pd.concat(sites), ["chromosome", "position", "strand", "kind", "gene"], annotation)


def transcription_starts(annotation: Annotation) -> pd.DataFrame:
    """Return where transcription starts.

    Parameters
    ----------
    annotation
        Genes.

    Returns
    -------
    pandas.DataFrame
        Each place of a gene once, in genome order: chromosome; position (0-based, the first nucleotide transcribed);
        strand; gene. Transcripts whose strand is not known have none, which is logged.
    """
    transcripts = annotation.transcripts
    unknown = transcripts["strand"] == "."
    if unknown.any():
        _log.warning("%d transcripts have no strand, so no place where they start.", int(unknown.sum()))
    transcripts = transcripts[~unknown]
    position = transcripts["start"].where(transcripts["strand"] == "+", transcripts["end"] - 1)
    return _ordered(transcripts.assign(position=position), ["chromosome", "position", "strand", "gene"], annotation)


def _ordered(sites: pd.DataFrame, columns: list[str], annotation: Annotation) -> pd.DataFrame:
    """Return each row once, chromosomes in the order of the file."""
    rank = {name: place for place, name in enumerate(annotation.transcripts["chromosome"].unique())}
    sites = sites[columns].drop_duplicates().astype({"position": np.int64})
    order = np.lexsort((sites["position"], sites["chromosome"].map(rank)))
    return sites.iloc[order].reset_index(drop=True)


def nearest(variants: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    """Find the site that is nearest to each variant.

    Parameters
    ----------
    variants
        chromosome and position (0-based); with the columns start and removed of
        :func:`embedstore.variants.check_variants`, all nucleotides that are taken out count.
    sites
        As `splice_sites` or `transcription_starts` give them.

    Returns
    -------
    pandas.DataFrame
        One row per variant, in their order: distance (float64, nucleotides; along the strand of the site: negative
        upstream of it, 0 at it or where it is taken out; NaN where the chromosome has no site), kind (``""`` where
        sites have none) and gene of the site. Of two equally far the one with the lower position.

    Raises
    ------
    InputError
        If no chromosome of the variants has a site because one of the two writes ``chr1`` and the other ``1``.
    """
    import pandas as pd

    chromosome = variants["chromosome"].astype(str)
    names = _check_names(chromosome, sites["chromosome"])
    first = variants["position"].to_numpy(np.int64)
    last = first
    if "start" in variants and "removed" in variants:
        start, removed = variants["start"].to_numpy(np.int64), variants["removed"].str.len().to_numpy(np.int64)
        first = np.where(start >= 0, start, first)
        last = first + np.maximum(removed, 1) - 1
    distance = np.full(len(variants), np.nan)
    chosen = np.full(len(variants), -1)
    for name, rows in variants.groupby(chromosome.to_numpy(), sort=False).indices.items():
        if name not in names:
            continue
        own = np.flatnonzero(sites["chromosome"] == name)
        own = own[np.argsort(sites["position"].to_numpy()[own], kind="stable")]
        at, away = _closest(sites["position"].to_numpy(np.int64)[own], first[rows], last[rows])
        chosen[rows] = own[at]
        distance[rows] = np.where(sites["strand"].to_numpy()[own[at]] == "-", -away, away)
    found = {"distance": distance + 0.0}  # no -0.0
    for column in ("kind", "gene"):
        texts = sites[column].to_numpy(object) if column in sites else np.full(len(sites), "", dtype=object)
        found[column] = np.append(texts, "")[chosen]
    return pd.DataFrame(found, index=variants.index).astype({"kind": str, "gene": str})


def _check_names(variants: Iterable[str], sites: Iterable[str]) -> set[str]:
    """Return the chromosomes that have sites; refuse two ways of writing them."""
    ours, theirs = set(variants), set(sites)
    if ours and theirs and not ours & theirs:
        bare = {name.removeprefix("chr"): name for name in theirs}
        for name in sorted(ours):
            if name.removeprefix("chr") in bare:
                raise InputError(
                    f"the annotation has no chromosome {name!r}, but {bare[name.removeprefix('chr')]!r}: names "
                    "with 'chr' and without. Write both alike, and check that they are of one build."
                )
    return theirs


def _closest(
    positions: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of some ascending positions is nearest to each stretch, and how far the stretch is after it."""
    after = np.searchsorted(positions, first)
    right = np.minimum(after, len(positions) - 1)
    left = np.maximum(np.searchsorted(positions, positions[np.maximum(after - 1, 0)]), 0)
    to_right = np.where(after < len(positions), np.maximum(positions[right] - last, 0), np.iinfo(np.int64).max)
    to_left = np.where(after > 0, first - positions[left], np.iinfo(np.int64).max)
    is_left = to_left <= to_right
    return np.where(is_left, left, right), np.where(is_left, to_left, -to_right)
