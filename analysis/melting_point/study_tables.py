"""Tables of a melting-point study beside its partition: samples, baselines, augmentations and single permutations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.melting_point.baselines import BASELINES, baseline, with_species
from analysis.melting_point.data import PERMUTED, PROTEIN, STRATEGIES, TRUE
from analysis.melting_point.design import SPECIES, augmentation
from analysis.melting_point.inference import DRAWS, contrast_table, estimate, resample
from analysis.melting_point.measures import species_means
from analysis.melting_point.partition import MEAN, SEEDS, fit_designs, score_table
from analysis.melting_point.regression import Block
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from analysis.melting_point.data import StudyData
    from analysis.melting_point.inference import Draws
    from analysis.melting_point.partition import Fitted

AUGMENTATIONS = ("gc", "gc3", "gc_skew", SPECIES)
"""What is put beside embeddings in the table of augmentations."""


def draw_predictions(data: StudyData, fitted: Fitted, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Draw the test samples of a study for predictions of them.

    Parameters
    ----------
    data
        The study.
    fitted
        From `analysis.melting_point.partition.fit_designs`.
    draws, seed
        See `analysis.melting_point.inference.resample`.

    Returns
    -------
    Draws
    """
    centre = species_means(data.y, data.species, data.train)[data.test]
    group = data.group[data.test]
    return resample(data.y[data.test], fitted.predictions, species_mean=centre, groups=group, draws=draws, seed=seed)


def sample_table(data: StudyData) -> pd.DataFrame:
    """Return how many samples there are of each species and split.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    pandas.DataFrame
        species, train (validation samples included), test, mean, deviation (of melting points, degrees Celsius).
    """
    table = data.samples.assign(train=data.train, test=data.test)
    rows = table.groupby("species", sort=True).agg(
        train=("train", "sum"), test=("test", "sum"), mean=("y", "mean"), deviation=("y", "std")
    )
    return rows.reset_index()


def strategy_table(data: StudyData) -> pd.DataFrame:
    """Return which codon strategies the study has features of, and how many recodings they are the mean of.

    Parameters
    ----------
    data
        The study.

    Returns
    -------
    pandas.DataFrame
        strategy (those that the study has, and those of `analysis.melting_point.data.STRATEGIES` that it lacks; the
        true sequences left out), recodings (0 where it lacks it, NaN where the number is not known), note (the seeds).
    """
    import pandas as pd

    names = [name for name in {**dict.fromkeys(STRATEGIES), **data.features} if name not in (PROTEIN, TRUE)]
    rows = []
    for name in names:
        seeds = data.seeds.get(name, ())
        known = len(seeds) if seeds else np.nan
        note = "seeds " + ", ".join(map(str, seeds)) if seeds else ""
        rows.append((name, known if name in data.features else 0, note))
    return pd.DataFrame(rows, columns=["strategy", "recodings", "note"])


def baseline_table(data: StudyData, *, seeds: Sequence[int] = SEEDS, draws: int = DRAWS) -> pd.DataFrame:
    """Score what can be predicted without a language model, alone and with species.

    Parameters
    ----------
    data
        The study.
    seeds, draws
        See `analysis.melting_point.study.melting_point_study`.

    Returns
    -------
    pandas.DataFrame
        name, title, with_species, missing (why there are no numbers) and the columns of
        `analysis.melting_point.partition.score_table`.
    """
    import pandas as pd

    every = [baseline(data, name) for name in BASELINES]
    made, about = {}, []
    for one in every:
        beside = [one.name] if SPECIES in one.name or one.name == "growth" else [one.name, f"{one.name}+{SPECIES}"]
        for name in beside if one.name != MEAN else [MEAN]:
            about.append((name, one.title, name.endswith(f"+{SPECIES}"), one.missing))
            if not one.missing:
                made[name] = with_species(data, one.blocks) if name.endswith(f"+{SPECIES}") else one.blocks
    fitted = fit_designs(data, made, seeds=seeds)
    scores = score_table(data, fitted, draw_predictions(data, fitted, draws))
    titles = pd.DataFrame(about, columns=["name", "title", "with_species", "missing"])
    return titles.merge(scores, on="name", how="left")


def augmentation_table(data: StudyData, *, seeds: Sequence[int] = SEEDS, draws: int = DRAWS) -> pd.DataFrame:
    """Put GC content, GC3, GC skew and the species beside the embeddings of proteins and of true coding sequences.

    Parameters
    ----------
    data
        The study.
    seeds, draws
        See `analysis.melting_point.study.melting_point_study`.

    Returns
    -------
    pandas.DataFrame
        Contrasts such as ``"protein: +gc"``; see `analysis.melting_point.inference.contrast_table`.
    """
    made: dict[str, list[Block]] = {}
    contrasts = {}
    for name in (PROTEIN, TRUE):
        block = Block(data.feature(name))
        made[name] = [block]
        for beside in AUGMENTATIONS:
            made[f"{name}+{beside}"] = [block, *augmentation(data, [beside])]
            contrasts[f"{name}: +{beside}"] = {f"{name}+{beside}": 1.0, name: -1.0}
    fitted = fit_designs(data, made, seeds=seeds)
    return contrast_table(draw_predictions(data, fitted, draws), contrasts)


def permutation_table(data: StudyData, *, draws: int = DRAWS) -> pd.DataFrame:
    """Score single permutations of the codons beside the mean embedding over all of them.

    The noise of a single permutation makes permuted sequences predict worse, and the order of codons look like more
    than it is; the mean over several has less of it.

    Parameters
    ----------
    data
        The study, with `StudyData.by_seed` of ``"permuted"``.
    draws
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        permutation (its number, or ``"mean of k"``), r2, low, high, r2_within, within_low, within_high.

    Raises
    ------
    InputError
        The features of single permutations were not kept.
    """
    import pandas as pd

    if PERMUTED not in data.by_seed:
        raise InputError("features of single permutations were not kept: read the study with keep_seeds=True.")
    arrays = data.by_seed[PERMUTED]
    values = {
        **{str(number): one for number, one in enumerate(arrays)},
        f"mean of {len(arrays)}": data.feature(PERMUTED),
    }
    made = {name: with_species(data, [Block(one)]) for name, one in values.items()}
    fitted = fit_designs(data, made, seeds=(0,))
    drawn = draw_predictions(data, fitted, draws)
    rows = []
    for name in made:
        total, within = (estimate(drawn, {name: 1}, measure) for measure in ("total", "within"))
        ends = {"low": total.low, "high": total.high, "r2_within": within.estimate}
        rows.append(
            {"permutation": name, "r2": total.estimate, **ends, "within_low": within.low, "within_high": within.high}
        )
    return pd.DataFrame(rows)
