"""What predicts melting points within a species, where no difference between species can help.

Each species is an experiment of its own; what they have in common is a mean over experiments that may differ more than
by chance (random effects).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.design import SPECIES, augmentation, filled, one_hot, sequences_of
from analysis.melting_point.measures import measures, species_means
from analysis.melting_point.partition import SEEDS, fit_designs
from analysis.melting_point.regression import Block
from analysis.melting_point.species import plain_features
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from analysis.melting_point.data import StudyData

OVERALL = "mean of species"
"""Name of the row that holds the random-effects mean."""

_LEAST = 5
"""Fewer values have no rank correlation worth an interval."""


class RandomEffects(NamedTuple):
    """A mean over experiments that differ; see `random_effects`.

    Attributes
    ----------
    mean
        Of the effects.
    low, high
        Its 95 % interval.
    tau2
        Variance between experiments beyond that within them.
    q
        Cochran's Q, the weighted sum of squares about the mean with no such variance.
    i2
        Share of Q that is more than chance.
    k
        Experiments.
    """

    mean: float
    low: float
    high: float
    tau2: float
    q: float
    i2: float
    k: int


def random_effects(values: ArrayLike, variances: ArrayLike) -> RandomEffects:
    """Average effects of experiments that differ by more than chance.

    The variance between experiments is that of DerSimonian and Laird 1986 (Control. Clin. Trials 7:177), the interval
    that of Hartung and Knapp 2001 (Stat. Med. 20:3875), with Student's t, and never narrower than without their factor:
    for a handful of experiments the normal interval is too narrow.

    Parameters
    ----------
    values
        (experiment,) float; NaN are left out.
    variances
        (experiment,) float, of each value, above 0.

    Returns
    -------
    RandomEffects
        All NaN without a value; without an interval for one.

    Examples
    --------
    >>> found = random_effects([0.0, 2.0], [0.5, 0.5])
    >>> found.mean, found.tau2
    (1.0, 1.5)
    """
    from scipy.stats import t

    effect, variance = np.asarray(values, np.float64), np.asarray(variances, np.float64)
    kept = ~np.isnan(effect) & ~np.isnan(variance)
    effect, variance = effect[kept], variance[kept]
    k, nan = len(effect), float("nan")
    if k < 2:
        return RandomEffects(float(effect[0]) if k else nan, nan, nan, nan, nan, nan, k)
    weight = 1 / variance
    fixed = np.average(effect, weights=weight)
    q = float((weight * (effect - fixed) ** 2).sum())
    tau2 = max(0.0, (q - (k - 1)) / float(weight.sum() - (weight**2).sum() / weight.sum()))
    weight = 1 / (variance + tau2)
    mean = float(np.average(effect, weights=weight))
    factor = max(1.0, float((weight * (effect - mean) ** 2).sum()) / (k - 1))
    reach = float(t.ppf(0.975, k - 1)) * np.sqrt(factor / weight.sum())
    i2 = max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0
    return RandomEffects(mean, float(mean - reach), float(mean + reach), tau2, q, i2, k)


def correlation_mean(correlations: ArrayLike, n: ArrayLike, *, ranks: bool, controls: int = 0) -> RandomEffects:
    """Average correlations of species on Fisher's scale.

    Parameters
    ----------
    correlations
        (species,) float between -1 and 1.
    n
        (species,) samples behind each.
    ranks
        They are of ranks: their variance on this scale is 1.06 / (n - 3) (Fieller, Hartley and Pearson 1957, Biometrika
        44:470), else 1 / (n - 3).
    controls
        Variables that were held fixed; each counts as a sample less.

    Returns
    -------
    RandomEffects
        mean, low and high as correlations again; tau2 on Fisher's scale.
    """
    r, size = np.asarray(correlations, np.float64), np.asarray(n, np.float64) - controls
    usable = (size > 3) & (np.abs(r) < 1)
    variance = np.divide(1.06 if ranks else 1.0, size - 3, out=np.full(r.shape, np.nan), where=usable)
    scaled = np.arctanh(r, out=np.full(r.shape, np.nan), where=usable)
    found = random_effects(scaled, variance)
    mean, low, high = (float(np.tanh(value)) for value in found[:3])
    return found._replace(mean=mean, low=low, high=high)


def _fisher(r: float, n: int, *, ranks: bool, controls: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a correlation."""
    from scipy.stats import norm

    size = n - controls
    if not abs(r) < 1 or size <= 3:
        return float("nan"), float("nan")
    reach = norm.ppf(0.975) * np.sqrt((1.06 if ranks else 1.0) / (size - 3))
    return float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach))


def per_species(
    data: StudyData, *, features: Sequence[str] | None = None, seeds: Sequence[int] = SEEDS
) -> pd.DataFrame:
    """Score predictions within each species, and average over species.

    Parameters
    ----------
    data
        The study. Regressions are fitted once, to all species, with the species beside each features.
    features
        Names of features, default all but those in windows and transplants.
    seeds
        Of the folds of the regressions, default five; predictions are averaged over them.

    Returns
    -------
    pandas.DataFrame
        One row per features and species, and one with the random-effects mean (`OVERALL`): features
        (``"<name>+species"``), species, n (test samples), spearman, low, high (95 % interval, Fisher's scale), r2
        (about the species' mean in training), bias (degrees Celsius), mae, tau2, i2 and k of the mean (see
        `random_effects`).

    Raises
    ------
    InputError
        There are no features of a name.
    """
    import pandas as pd

    names = plain_features(data) if features is None else list(features)
    species = augmentation(data, [SPECIES])
    made = {f"{name}+{SPECIES}": [Block(data.feature(name)), *species] for name in names}
    fitted = fit_designs(data, made, seeds=seeds)
    y, centre = data.y[data.test], species_means(data.y, data.species, data.train)[data.test]
    of = data.species[data.test]
    rows = []
    for name, values in fitted.predictions.items():
        said = values.mean(axis=0)
        part = [{"features": name, "species": str(one), **_scores(y, said, centre, of == one)} for one in np.unique(of)]
        table = pd.DataFrame(part)
        mean = correlation_mean(table["spearman"], table["n"], ranks=True)
        rows += part
        rows.append(
            {
                "features": name,
                "species": OVERALL,
                "n": len(y),
                "spearman": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "tau2": mean.tau2,
                "i2": mean.i2,
                "k": mean.k,
            }
        )
    return pd.DataFrame(rows)


def _scores(
    y: NDArray[np.float64], said: NDArray[np.float64], centre: NDArray[np.float64], here: NDArray[np.bool_]
) -> dict[str, float | int]:
    """Return the scores of the test samples of one species."""
    found = measures(y[here], said[here], species_mean=centre[here])
    rank = found.spearman if found.n >= _LEAST else float("nan")
    low, high = _fisher(rank, found.n, ranks=True)
    bias = float((said[here] - y[here]).mean())
    return {
        "n": found.n,
        "spearman": rank,
        "low": low,
        "high": high,
        "r2": found.r2_within,
        "bias": bias,
        "mae": found.mae,
    }


def codon_adaptation(counts: ArrayLike, usage: ArrayLike, table: int = 1) -> NDArray[np.float64]:
    """Compute the codon adaptation index of genes: how near their codons are to those that are used most.

    Source: Sharp and Li 1987, Nucleic Acids Res. 15:1281. The weight of a codon is its frequency over that of the most
    frequent codon of its amino acid; the index is the geometric mean of the weights of a gene's codons. Met and Trp,
    which have one codon, and stop codons do not count.

    Parameters
    ----------
    counts
        (gene, 64) codons of each gene, in the order of `embedstore.coding.CODONS`.
    usage
        (64,) or (gene, 64), what is adapted to: probability or count of each codon; above 0 (use a pseudocount).
    table
        Genetic code, default 1.

    Returns
    -------
    numpy.ndarray
        (gene,) float64 between 0 and 1; NaN for genes without a codon that counts.

    Raises
    ------
    InputError
        A codon that counts has a usage of 0 or less.
    """
    from embedstore.coding import genetic_code

    code = genetic_code(table)
    counted = (code.size > 1) & (code.family > 0)
    number, used = np.asarray(counts, np.float64), np.asarray(usage, np.float64)
    if not (used[..., counted] > 0).all():
        raise InputError("codon usage holds zeros, of which no geometric mean can be taken: add a pseudocount.")
    most = np.zeros(used.shape)
    for family in np.unique(code.family[counted]):
        members = code.family == family
        most[..., members] = used[..., members].max(axis=-1, keepdims=True)
    weight = np.zeros(used.shape)
    np.log(np.divide(used, most, out=np.ones(used.shape), where=counted), out=weight, where=counted)
    total = number[:, counted].sum(axis=1)
    summed = (number * weight)[:, counted].sum(axis=1)
    mean: NDArray[np.float64] = np.divide(summed, total, out=np.full(len(number), np.nan), where=total > 0)
    return np.asarray(np.exp(mean))


def partial_correlation(x: NDArray[np.float64], y: NDArray[np.float64], fixed: NDArray[np.float64]) -> float:
    """Correlate what is left of two variables when others are held fixed.

    Parameters
    ----------
    x, y
        (sample,) float.
    fixed
        (sample, variable) float; an intercept is always among them.

    Returns
    -------
    float
        Pearson's correlation of the residuals of least squares; NaN where one of the two has nothing left.
    """
    columns = np.column_stack([np.ones(len(x)), fixed])
    both = np.column_stack([x, y])
    left = both - columns @ np.linalg.lstsq(columns, both, rcond=None)[0]
    size = np.sqrt((left**2).sum(axis=0))
    if (size <= 1e-9 * np.sqrt((both**2).sum(axis=0))).any():
        return float("nan")
    return float((left[:, 0] @ left[:, 1]) / size.prod())


def codon_bias_correlations(data: StudyData, *, usage: pd.DataFrame | None = None, table: int = 1) -> pd.DataFrame:
    """Correlate melting points with codon adaptation and GC3 within species, protein composition held fixed.

    Highly expressed genes have well-adapted codons, and may be more stable: what a model of coding sequences can gain
    within a species without knowing anything of the order of codons.

    Parameters
    ----------
    data
        The study, with coding sequences; all samples count, nothing being fitted to some and tested on others.
    usage
        Codon usage that genes are adapted to, a row per species, such as that of highly expressed genes. Default: that
        of all training genes of the species.
    table
        Genetic code, default 1.

    Returns
    -------
    pandas.DataFrame
        variable (``"cai"``, ``"gc3"``), fixed (``"species"``; ``"species, amino acids"``, the frequencies of the
        encoded amino acids and the log of the length; ``"species, amino acids, gc3"`` or ``"..., cai"``), species
        (each, and `OVERALL`, the random-effects mean), n, r (partial correlation), low, high (95 % interval, Fisher's
        scale), tau2, i2, k.

    Raises
    ------
    InputError
        The study has no coding sequences, or `usage` lacks a species.
    """
    import pandas as pd

    variables, amino = _codon_variables(data, usage, table)
    names = np.unique(data.species)
    rows = []
    for variable, other in (("cai", "gc3"), ("gc3", "cai")):
        beside = np.column_stack([amino, variables[other]])
        fixed_by = {
            SPECIES: np.empty((len(amino), 0)),
            f"{SPECIES}, amino acids": amino,
            f"{SPECIES}, amino acids, {other}": beside,
        }
        for fixed, columns in fixed_by.items():
            part = []
            for name in names:
                here = data.species == name
                r = _within(variables[variable][here], data.y[here], columns[here])
                low, high = _fisher(r, int(here.sum()), ranks=False, controls=columns.shape[1])
                part.append({"species": str(name), "n": int(here.sum()), "r": r, "low": low, "high": high})
            found = pd.DataFrame(part)
            mean = correlation_mean(found["r"], found["n"], ranks=False, controls=columns.shape[1])
            part.append({"species": OVERALL, "n": len(amino), "r": mean.mean, "low": mean.low, "high": mean.high})
            part[-1] |= {"tau2": mean.tau2, "i2": mean.i2, "k": mean.k}
            rows += [{"variable": variable, "fixed": fixed, **row} for row in part]
    return pd.DataFrame(rows)


def _within(x: NDArray[np.float64], y: NDArray[np.float64], fixed: NDArray[np.float64]) -> float:
    """Return a partial correlation; NaN where there are too few samples for what is held fixed."""
    return partial_correlation(x, y, fixed) if len(x) > fixed.shape[1] + 4 else float("nan")


def _codon_variables(
    data: StudyData, usage: pd.DataFrame | None, table: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Return CAI and GC3 of each sample, and its amino acid frequencies (19 of 20, which sum to 1) and log length."""
    from embedstore.coding import codon_usage, genetic_code, read_codons
    from embedstore.coding.composition import codon_counts, gc3
    from embedstore.coding.usage import usage_rows

    codons = read_codons(sequences_of(data, "cds"))
    counts = codon_counts(codons)
    if usage is None:
        inside = np.flatnonzero(data.train).tolist()
        cds = [sequences_of(data, "cds")[place] for place in inside]
        usage = codon_usage(cds, data.species[inside].tolist(), table=table)
    known = set(map(str, usage.index))
    of_species = np.array([name if name in known else "" for name in data.species])
    if (of_species == "").any():
        missing = ", ".join(np.unique(data.species[of_species == ""])[:5])
        raise InputError(f"there is no codon usage of {missing}: give one row for each species (usage=).")
    rows = usage_rows(usage, of_species.tolist(), table)
    code = genetic_code(table)
    amino = counts @ one_hot(code.family.astype(str), [str(family) for family in range(1, len(code.letters))])
    total = np.maximum(amino.sum(axis=1, keepdims=True), 1)
    everything = np.ones(len(counts), bool)
    adapted = filled(codon_adaptation(counts, rows, table)[:, None], everything)
    variables = {"cai": adapted[:, 0], "gc3": filled(gc3(codons), everything)[:, 0]}
    return variables, np.column_stack([(amino / total)[:, :-1], np.log(total)])
