"""The melting-point study: everything that is asked of proteins, their species and their coding sequences, at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.melting_point.data import PERMUTED, PROTEIN, TRUE, StudyData, check_study
from analysis.melting_point.design import SPECIES
from analysis.melting_point.inference import DRAWS, check_numbers, contrast_table
from analysis.melting_point.partition import (
    SEEDS,
    designs,
    fit_designs,
    partition_contrasts,
    score_table,
    window_curve,
)
from analysis.melting_point.regression import RATIOS
from analysis.melting_point.shapley import shapley_table
from analysis.melting_point.study_tables import (
    augmentation_table,
    baseline_table,
    draw_predictions,
    permutation_table,
    sample_table,
    strategy_table,
)
from analysis.melting_point.verdict import judge
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from analysis.melting_point.verdict import Verdict

    Arms = Mapping[str, NDArray[np.floating]]

logger = logging.getLogger(__name__)

LEAST_GROUPS = 10
"""Fewer groups of training or test samples say nothing: there is too little to draw."""

CAPTIONS = {
    "samples": "Samples by species and split, and their mean melting points (degrees Celsius).",
    "baselines": "What needs no language model, alone and with species.",
    "strategies": "Codon strategies of each model, and how many recodings its features are the mean of.",
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
    ratios: Sequence[float] = RATIOS,
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
    ratios
        Between the penalties of the embeddings side by side in a regression of the partition; see
        `analysis.melting_point.regression.fit_ridge`. `analysis.melting_point.regression.ONE_PENALTY` for one penalty.
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
        A study is not what it must be, studies differ in samples or in how many recodings of a strategy they have, or
        the features of proteins, or of true or permuted coding sequences, are missing; there are too few seeds, draws
        or groups; or all melting points are the same.
    """
    import pandas as pd

    check_numbers(len(seeds), draws)
    studies = {data.models.get("coding", "coding"): data} if isinstance(data, StudyData) else dict(data)
    first = _check_same(studies)
    found: dict[str, dict[str, pd.DataFrame]] = {}
    missing: dict[str, str] = {}
    for model, study in studies.items():
        found[model], why = _tables(study, seeds, draws, ratios, progress)
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
        "ratios": list(map(float, ratios)),
        "train": int(first.train.sum()),
        "test": int(first.test.sum()),
        "species": len(np.unique(first.species)),
        "species_share": _species_share(tables["baselines"]),
    }
    return Study({name: tables[name] for name in CAPTIONS if name in tables}, verdict, missing, settings)


def _tables(
    data: StudyData, seeds: Sequence[int], draws: int, ratios: Sequence[float], progress: bool
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the tables of the partition of one model, and why some are missing."""
    fitted = fit_designs(data, designs(data), seeds=seeds, ratios=ratios, progress=progress)
    drawn = draw_predictions(data, fitted, draws)
    tables = {
        "strategies": strategy_table(data),
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
    lacking = tables["strategies"].query("recodings == 0")["strategy"]
    if len(lacking):
        missing["strategies"] = f"nothing of {', '.join(lacking)} is embedded with this model"
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
    _check_even(studies)
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


def _check_even(studies: Mapping[str, StudyData]) -> None:
    """Refuse models whose features are means over unequally many recodings: those of fewer have more noise."""
    for strategy in {name: None for study in studies.values() for name in study.seeds}:
        many = {model: len(study.seeds[strategy]) for model, study in studies.items() if strategy in study.seeds}
        if len(set(many.values())) > 1:
            seen = ", ".join(f"{number} with {model!r}" for model, number in many.items())
            raise InputError(
                f"the studies have unequally many recodings of {strategy!r}: {seen}. The mean over fewer has more "
                "noise, so that models would not be comparable; read_studies reads as many for each."
            )


def _species_share(baselines: pd.DataFrame) -> float:
    """Return the total R2 of the species mean."""
    return float(baselines.set_index("name")["r2"][SPECIES])
