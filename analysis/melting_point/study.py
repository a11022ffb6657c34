"""The melting-point study: everything that is asked of proteins, their species and their coding sequences, at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.melting_point.baselines import BASELINES, baseline, with_species
from analysis.melting_point.data import PERMUTED, PROTEIN, TRUE, StudyData, check_study
from analysis.melting_point.design import SPECIES, augmentation
from analysis.melting_point.inference import DRAWS, check_numbers, contrast_table, estimate, resample
from analysis.melting_point.measures import species_means
from analysis.melting_point.partition import (
    MEAN,
    SEEDS,
    designs,
    fit_designs,
    partition_contrasts,
    score_table,
    shapley_table,
    window_curve,
)
from analysis.melting_point.regression import Block
from analysis.melting_point.verdict import judge
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.inference import Draws
    from analysis.melting_point.partition import Fitted
    from analysis.melting_point.verdict import Verdict

    Arms = Mapping[str, NDArray[np.floating]]

logger = logging.getLogger(__name__)

LEAST_GROUPS = 10
"""Fewer groups of training or test samples say nothing: there is too little to draw."""

AUGMENTATIONS = ("gc", "gc3", "gc_skew", SPECIES)
"""What is put beside embeddings in the table of augmentations."""

CAPTIONS = {
    "samples": "Samples by species and split, and their mean melting points (degrees Celsius).",
    "baselines": "What needs no language model, alone and with species.",
    "scores": "Every regression of the partition: R2 within species and in total, on the same test samples.",
    "partition": "Differences of R2 with 95 % intervals of the paired bootstrap; Holm over the terms of a model.",
    "shapley": "R2 divided between protein, species, composition and order; what two share is divided evenly, so that "
    "codon usage that only gives the species away has a share.",
    "window_curve": "R2 lost by permuting codons in windows, with the species beside the embedding.",
    "augmentations": "GC, GC3, GC skew and species beside the embeddings, as Boshar et al. 2024 put them.",
    "permutations": "Single permutations beside the mean embedding over all of them, with species.",
    "decodability": "How well a linear classifier tells the species from each embedding.",
    "erased": "Before and after the species is erased from the embeddings.",
    "left_out": "Each species predicted from the others.",
    "by_species": "Rank correlation within each species, and its random-effects mean.",
    "usage": "Partial correlation of codon usage with melting points within species.",
    "transplant": "Change of predictions with another species' codons, against the difference between the species.",
    "controls": "Regressions on labels and features that cannot say anything.",
    "mesophiles": "With and without the species that live in heat.",
    "conditions": "Run and condition of the measurement beside the species.",
    "joint": "Protein and coding sequence side by side, with species.",
    "evidence": "What the verdict rests on.",
}
"""What each table of a study is."""


class Study(NamedTuple):
    """A finished study.

    Attributes
    ----------
    tables
        Name -> table; see `CAPTIONS`. Those of several models have a column ``model``.
    verdict
        What the rule says.
    missing
        Table -> why the study cannot have it.
    settings
        Models, seeds, draws and numbers of samples.
    """

    tables: dict[str, pd.DataFrame]
    verdict: Verdict
    missing: dict[str, str]
    settings: dict[str, Any]


def melting_point_study(
    data: StudyData | Mapping[str, StudyData],
    *,
    seeds: Sequence[int] = SEEDS,
    draws: int = DRAWS,
    species_analyses: bool = True,
    arms: Mapping[str, Arms] | None = None,
    progress: bool = False,
) -> Study:
    """Run the study.

    Parameters
    ----------
    data
        The study of one model of coding sequences, or name of the model -> study. All have the same samples and
        proteins; the rule of the verdict wants two models or more.
    seeds
        Of the assignment of groups to folds, default five.
    draws
        Of the bootstrap, default 2,000.
    species_analyses
        Run what is asked about species beyond the partition, too (default): telling species from embeddings, erasing
        them, leaving them out, controls, and others. Takes about as long as the partition.
    arms
        Name of a model -> donor -> features of recoded test samples, for
        `analysis.melting_point.transplant.transplant`.
    progress
        Show a progress bar.

    Returns
    -------
    Study

    Raises
    ------
    InputError
        A study is not what it must be, studies differ in samples, or the features of proteins, or of true or permuted
        coding sequences, are missing; there are too few seeds, draws or groups; or all melting points are the same.
    """
    import pandas as pd

    check_numbers(len(seeds), draws)
    studies = {data.models.get("coding", "coding"): data} if isinstance(data, StudyData) else dict(data)
    first = _check_same(studies)
    found: dict[str, dict[str, pd.DataFrame]] = {}
    missing: dict[str, str] = {}
    for model, study in studies.items():
        found[model], why = _tables(study, seeds, draws, progress)
        missing |= {f"{name} ({model})": text for name, text in why.items()}
        if species_analyses:
            tables, why = _species_tables(study, seeds, draws, (arms or {}).get(model))
            found[model] |= tables
            missing |= {f"{name} ({model})": text for name, text in why.items()}
    names = [name for name in CAPTIONS if any(name in tables for tables in found.values())]
    made = {
        name: pd.concat([one[name].assign(model=model) for model, one in found.items() if name in one])
        .pipe(lambda table: table[["model", *(column for column in table if column != "model")]])
        .reset_index(drop=True)
        for name in names
    }
    verdict = judge(made["partition"], made.get("window_curve", pd.DataFrame(columns=["model", "measure", "width"])))
    own = {"samples": sample_table(first), "baselines": baseline_table(first, seeds=seeds, draws=draws)}
    tables = {**own, **made, "evidence": verdict.evidence}
    settings = {
        "models": list(studies),
        "protein_model": first.models.get("protein", PROTEIN),
        "seeds": list(map(int, seeds)),
        "draws": draws,
        "train": int(first.train.sum()),
        "test": int(first.test.sum()),
        "species": len(np.unique(first.species)),
        "species_share": _species_share(tables["baselines"]),
    }
    return Study({name: tables[name] for name in CAPTIONS if name in tables}, verdict, missing, settings)


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


def baseline_table(data: StudyData, *, seeds: Sequence[int] = SEEDS, draws: int = DRAWS) -> pd.DataFrame:
    """Score what can be predicted without a language model, alone and with species.

    Parameters
    ----------
    data
        The study.
    seeds, draws
        See `melting_point_study`.

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
        See `melting_point_study`.

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


def _tables(
    data: StudyData, seeds: Sequence[int], draws: int, progress: bool
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the tables of the partition of one model, and why some are missing."""
    fitted = fit_designs(data, designs(data), seeds=seeds, progress=progress)
    drawn = draw_predictions(data, fitted, draws)
    tables = {
        "scores": score_table(data, fitted, drawn),
        "partition": contrast_table(drawn, partition_contrasts(drawn)),
        "shapley": shapley_table(drawn),
        "window_curve": window_curve(drawn),
    }
    more: dict[str, Callable[[], pd.DataFrame]] = {
        "augmentations": lambda: augmentation_table(data, seeds=seeds, draws=draws),
        "permutations": lambda: permutation_table(data, draws=draws),
    }
    found, missing = _tried(more)
    return tables | found, missing


def _species_tables(
    data: StudyData, seeds: Sequence[int], draws: int, arms: Arms | None
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return what is asked about species beyond the partition, and why some of it is missing."""
    from analysis.melting_point.controls import condition_table, control_table, joint_table, mesophile_table
    from analysis.melting_point.erasure import species_erased
    from analysis.melting_point.left_out import leave_one_species_out
    from analysis.melting_point.species import species_decodability
    from analysis.melting_point.transplant import transplant
    from analysis.melting_point.within import codon_bias_correlations, per_species

    more: dict[str, Callable[[], pd.DataFrame]] = {
        "decodability": lambda: species_decodability(data, draws=draws),
        "erased": lambda: species_erased(data, draws=draws),
        "left_out": lambda: leave_one_species_out(data),
        "by_species": lambda: per_species(data, seeds=seeds),
        "usage": lambda: codon_bias_correlations(data),
        "transplant": lambda: transplant(data, arms=arms, draws=draws),
        "controls": lambda: control_table(data, draws=draws),
        "mesophiles": lambda: mesophile_table(data, seeds=seeds, draws=draws),
        "conditions": lambda: condition_table(data, seeds=seeds, draws=draws),
        "joint": lambda: joint_table(data, seeds=seeds, draws=draws),
    }
    return _tried(more)


def _tried(
    more: Mapping[str, Callable[[], pd.DataFrame]],
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the tables that can be made of this study, and why the others cannot."""
    tables, missing = {}, {}
    for name, function in more.items():
        try:
            tables[name] = function()
        except InputError as error:
            logger.info("no table of %s: %s", name, error)
            missing[name] = str(error)
    return tables, missing


def _check_same(studies: Mapping[str, StudyData]) -> StudyData:
    """Refuse studies of different samples or proteins; return the first."""
    if not studies:
        raise InputError("there is no study: give that of one model of coding sequences or more.")
    (name, first), *others = ((name, check_study(study)) for name, study in studies.items())
    for model, study in studies.items():
        missing = [one for one in (PROTEIN, TRUE, PERMUTED) if one not in study.features]
        if missing:
            raise InputError(
                f"the study of {model!r} has no features {missing[0]!r}, without which there is no partition. Recoded "
                "sequences come from `embedstore recode TASK --store S --strategy permuted --seeds 5`, then `embed`."
            )
    for other, study in others:
        same = first.samples[["id", "split", "species", "group", "y"]].equals(
            study.samples[["id", "split", "species", "group", "y"]]
        )
        if not same or not np.array_equal(first.feature(PROTEIN), study.feature(PROTEIN)):
            raise InputError(
                f"the studies of {name!r} and {other!r} differ in their samples or proteins; models are only compared "
                "on the same ones."
            )
    for part, kept in (("training", first.train), ("test", first.test)):
        many = len(np.unique(first.group[kept]))
        if many < LEAST_GROUPS:
            raise InputError(
                f"{many} groups of {part} samples (proteins that are not alike); {LEAST_GROUPS} are wanted."
            )
        if np.ptp(first.y[kept]) == 0:
            raise InputError(
                f"all {part} samples have the melting point {first.y[kept][0]:g}: nothing can be predicted."
            )
    return first


def _species_share(baselines: pd.DataFrame) -> float:
    """Return the total R2 of the species mean."""
    return float(baselines.set_index("name")["r2"][SPECIES])
