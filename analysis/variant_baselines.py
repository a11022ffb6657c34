"""What a score of variants has to beat: numbers that follow from letters, or from where genes are, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.annotation import Annotation
    from embedstore.genome import Genome


class Baseline(NamedTuple):
    """A number that needs no model.

    Attributes
    ----------
    title
        In words.
    direction
        1 where a larger number is taken for a larger effect, -1 where a smaller one is.
    """

    title: str
    direction: int


BASELINES = {
    "gc_change": Baseline("change of the number of G and C", 1),
    "cpg_loss": Baseline("CpG dinucleotides lost", 1),
    "transition": Baseline("transition, not transversion", 1),
    "trinucleotide_rate": Baseline("mutability of the trinucleotide", 1),
    "distance_to_splice_site": Baseline("distance to the nearest splice site", -1),
    "distance_to_tss": Baseline("distance to the nearest transcription start", -1),
}
"""Every baseline by name. Only for distances is it plain which way they point; an AUROC far below 0.5 tells as well."""

_OTHER = 4
_CODES = np.full(256, _OTHER, np.int64)
_CODES[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)
_PYRIMIDINES = ("C", "T")
_CHANGES = [
    f"{before}[{ref}>{alt}]{after}"
    for ref in _PYRIMIDINES
    for alt in "ACGT"
    if alt != ref
    for before in "ACGT"
    for after in "ACGT"
]
"""The 96 changes of a trinucleotide as Alexandrov et al. 2013 (Nature 500:415) write and order them."""

_AT_ONCE = 1 << 22
"""Letters of the genome that are read together."""


def baseline_scores(
    variants: pd.DataFrame,
    genome: Genome,
    *,
    annotation: Annotation | None = None,
    rates: pd.DataFrame | str | Path | None = None,
) -> pd.DataFrame:
    """Compute what needs no model, for variants of every kind that it is defined for.

    Parameters
    ----------
    variants
        From `analysis.score_variants` or `embedstore.variants.check_variants`; another table with chromosome, position,
        ref and alt is checked first.
    genome
        The genome.
    annotation
        From `embedstore.annotation.read_annotation`, for the distances.
    rates
        From `trinucleotide_rates`, or a file of such a table (``.csv``, otherwise tab-separated), for
        ``trinucleotide_rate``.

    Returns
    -------
    pandas.DataFrame
        A row per variant, with the index of `variants`, float64; NaN where a baseline is not defined, or what changes
        is not known (``start`` -1). Columns: ``gc_change``, how many G and C more or fewer; ``cpg_loss``, how many CpG
        fewer (negative: more; the same on both strands); ``transition``, 1 for A<>G and C<>T, 0 for other single
        letters; ``trinucleotide_rate``, single letters only, where `rates` are given; ``distance_to_splice_site`` and
        ``distance_to_tss``, in nucleotides, 0 or more, where an annotation is given (nearer is taken for a larger
        effect). Which way each points is in `BASELINES`, and `analysis.score_table` knows.

    Raises
    ------
    InputError
        A column is missing, or the rates are not those of the 96 changes.
    """
    import pandas as pd

    variants = _checked(variants, genome)
    rate = None if rates is None else _read_rates(rates)
    kept = (variants["start"] >= 0).to_numpy(bool)
    scored = variants[kept]
    removed, added = (_texts(scored, name) for name in ("removed", "added"))
    left, right = _flanks(scored, removed, genome)
    found = {
        "gc_change": np.abs(_count(added, "G", "C") - _count(removed, "G", "C")),
        "cpg_loss": _cpg(left, removed, right) - _cpg(left, added, right),
        "transition": _transition(removed, added),
    }
    if rate is not None:
        change = _changes(left, removed, added, right)
        found["trinucleotide_rate"] = np.where(change < 0, np.nan, rate[change])
    if annotation is not None:
        found |= _distances(scored, annotation)
    values = np.full((len(variants), len(found)), np.nan)
    values[kept] = np.stack(list(found.values()), axis=1)
    return pd.DataFrame(values, index=variants.index, columns=list(found))


def trinucleotide_rates(variants: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """Estimate how often each of the 96 changes of a trinucleotide is seen where it could be.

    The variants must be a background: changes that are there whether or not they have an effect, such as those of a
    population between genes. Never the variants that are evaluated: how often a change is among them depends on how
    their positives and negatives were chosen, and the baseline would be trained on the test set.

    Parameters
    ----------
    variants
        Single letters count (each change once), other kinds are left out; columns as for `baseline_scores`.
    genome
        The genome that they are variants of; all of it is read, about a minute per Gb.

    Returns
    -------
    pandas.DataFrame
        96 rows: change (``A[C>T]G``; both strands are one: the changed letter is C or T), changes (distinct variants),
        occurrences (of the trinucleotide in the genome, both strands), rate (NaN where it does not occur).

    Raises
    ------
    InputError
        A column is missing, or there is no single-letter variant with both neighbours known.

    References
    ----------
    Alexandrov et al. 2013, Nature 500:415, for the 96 changes.
    """
    import pandas as pd

    from probes.metrics import ratio

    variants = _checked(variants, genome)
    seen = variants[variants["start"] >= 0].drop_duplicates(["chromosome", "start", "removed", "added"])
    removed, added = (_texts(seen, name) for name in ("removed", "added"))
    left, right = _flanks(seen, removed, genome)
    change = _changes(left, removed, added, right)
    change = change[change >= 0]
    if not len(change):
        raise InputError(f"none of {len(variants):,} variants is a change of one letter with known neighbours.")
    changes = np.bincount(change, minlength=len(_CHANGES))
    occurrences = _occurrences(genome)
    return pd.DataFrame(
        {"change": _CHANGES, "changes": changes, "occurrences": occurrences, "rate": ratio(changes, occurrences)}
    )


def _checked(variants: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """Return variants with the letters that change, which are found where they are not there yet."""
    if {"chromosome", "start", "removed", "added"} <= set(variants.columns):
        return variants
    from embedstore.variants import check_variants

    return check_variants(variants, genome).set_index(variants.index)


def _texts(variants: pd.DataFrame, name: str) -> pd.Series[str]:
    """Return a column of letters, numbered from 0."""
    return variants[name].astype(str).reset_index(drop=True)


def _read_rates(rates: pd.DataFrame | str | Path) -> NDArray[np.float64]:
    """Return the rates of the 96 changes in their order."""
    import pandas as pd

    where = "the table of rates"
    if not isinstance(rates, pd.DataFrame):
        where, path = str(rates), Path(rates)
        try:
            rates = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t")
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a table of rates: {error}") from error
    if not {"change", "rate"} <= set(rates.columns):
        raise InputError(
            f"{where} has the columns {', '.join(map(str, rates.columns))}; change (as A[C>T]G) and rate are wanted."
        )
    known = rates.set_index("change")["rate"]
    missing = [name for name in _CHANGES if name not in known.index]
    if missing or not known.index.is_unique:
        what = f"{len(missing)} are missing, the first {missing[0]}" if missing else "some are there twice"
        raise InputError(f"{where}: each of the 96 changes is wanted once, C or T as the changed letter; {what}.")
    return known.loc[_CHANGES].to_numpy(np.float64)


# ---- letters -------------------------------------------------------------------------------------


def _flanks(
    variants: pd.DataFrame, removed: pd.Series[str], genome: Genome
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the letters before and after what is removed, (variant,) codes each, 4 for N or none."""
    start = variants["start"].to_numpy(np.int64)
    places = np.stack([start - 1, start + removed.str.len().to_numpy(np.int64)])
    found = np.full(places.shape, _OTHER, np.int64)
    for name, rows in variants.reset_index(drop=True).groupby("chromosome", sort=False).indices.items():
        chromosome = str(name)
        found[:, rows] = _letters_at(genome, chromosome, places[:, rows])
    return found[0], found[1]


def _letters_at(genome: Genome, chromosome: str, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the letters at places of a chromosome, codes of the same shape; 4 beyond its ends and for others."""
    from embedstore.variants.reference import read_refused

    length = genome.contigs[chromosome]
    found = np.full(places.shape, _OTHER, np.int64)
    inside = (places >= 0) & (places < length)
    part = np.where(inside, places // _AT_ONCE, -1)
    for number in np.unique(part[inside]).tolist():
        here = part == number
        first, last = int(places[here].min()), int(places[here].max())
        found[here] = _CODES[read_refused(genome, chromosome, first, last + 1)][places[here] - first]
    return found


def _count(text: pd.Series[str], *letters: str) -> NDArray[np.float64]:
    """Return how often letters occur in texts."""
    return np.asarray(sum(text.str.count(letter) for letter in letters), np.float64)


def _cpg(left: NDArray[np.int64], text: pd.Series[str], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many CpG there are in texts between their neighbours."""
    letters = np.array([*"ACGTN"], dtype=object)
    return np.asarray((letters[left] + text + letters[right]).str.count("CG"), np.float64)


def _single(text: pd.Series[str]) -> NDArray[np.int64]:
    """Return texts of a single letter as codes, others as 4."""
    first = text.str[:1].where(text.str.len() == 1, "N")
    return _CODES[np.frombuffer("".join(first).encode("ascii"), np.uint8)]


def _transition(removed: pd.Series[str], added: pd.Series[str]) -> NDArray[np.float64]:
    """Return 1 for transitions, 0 for transversions, NaN for other kinds of variants."""
    one, other = _single(removed), _single(added)
    # A and G, C and T have codes that differ by 2.
    return np.where((one == _OTHER) | (other == _OTHER), np.nan, np.abs(one - other) == 2)


def _changes(
    left: NDArray[np.int64], removed: pd.Series[str], added: pd.Series[str], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the number of each variant in `_CHANGES`, -1 for other kinds and unknown neighbours."""
    ref, alt = _single(removed), _single(added)
    known = np.all([letter != _OTHER for letter in (left, ref, alt, right)], axis=0)
    # A and G are read on the other strand, where a letter has the code 3 - its own.
    purine = ref % 2 == 0
    before, after = np.where(purine, 3 - right, left), np.where(purine, 3 - left, right)
    ref, alt = np.where(purine, 3 - ref, ref), np.where(purine, 3 - alt, alt)
    # The alternates of C are A, G, T and those of T are A, C, G.
    number = (3 * (ref == 3) + alt - (alt > ref)) * 16 + before * 4 + after
    return np.where(known, number, -1)


def _occurrences(genome: Genome) -> NDArray[np.int64]:
    """Return how often the trinucleotide of each of the 96 changes is in a genome, both strands together."""
    counts = np.zeros(125, np.int64)
    for codes in _stretches(genome):
        counts += np.bincount(codes[:-2] * 25 + codes[1:-1] * 5 + codes[2:], minlength=125)
    table = counts.reshape(5, 5, 5)[:4, :4, :4]
    both = table + table[::-1, ::-1, ::-1].transpose(2, 1, 0)  # the reverse complement
    order = ["ACGT".index(letter) for letter in "".join(name[0] + name[2] + name[6] for name in _CHANGES)]
    before, ref, after = np.array(order).reshape(-1, 3).T
    return np.asarray(both[before, ref, after])


def _stretches(genome: Genome) -> Iterator[NDArray[np.uint8]]:
    """Yield the codes of a genome in stretches that share two letters, so that no trinucleotide is missed or twice."""
    # Numbers of trinucleotides, up to 124, also fit: eight times less memory to go through.
    small = _CODES.astype(np.uint8)
    from embedstore.variants.reference import read_refused

    for name, length in genome.contigs.items():
        for first in range(0, length - 2, _AT_ONCE):
            yield small[read_refused(genome, name, first, min(first + _AT_ONCE + 2, length))]


# ---- places --------------------------------------------------------------------------------------


def _distances(variants: pd.DataFrame, annotation: Annotation) -> dict[str, NDArray[np.float64]]:
    """Return distances to the nearest sites of an annotation, NaN where a chromosome has none."""
    from embedstore.annotation import nearest, splice_sites, transcription_starts

    sites = {
        "distance_to_splice_site": splice_sites(annotation),
        "distance_to_tss": transcription_starts(annotation),
    }
    return {name: np.abs(nearest(variants, where)["distance"].to_numpy(np.float64)) for name, where in sites.items()}
