"""What the study says: a rule that was written down before any number was seen, and the evidence for its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.melting_point.data import TRUE
from analysis.melting_point.inference import WITHIN
from embedstore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

RULE = (
    "d_local lower CI > 0 on within-species R2 for >=2 models and the loss "
    "R2(true+S)-R2(window_permuted(w)+S) rises smoothly from 0 at w=1 -> local is real; "
    "d_local ~ 0 and d_comp > 0 -> composition; both ~ 0 -> species only."
)
"""The rule, word for word as it was fixed in advance."""

LOCAL, COMPOSITION, SPECIES_ONLY, UNDECIDED = "local", "composition", "species only", "undecided"
"""Conclusions; ``"undecided"`` where the rule names none."""

MODELS = 2
"""So many models must agree before the order of codons is said to matter."""

FIRST_SHARE = 0.5
"""A loss rises from 0 where the narrowest windows lose less than this share of what permuting whole sequences loses."""

STEP_SHARE = 0.75
"""A loss rises smoothly where no widening of the windows makes more than this share of it."""


class Verdict(NamedTuple):
    """A conclusion and what it rests on.

    Attributes
    ----------
    conclusion
        ``"local"``, ``"composition"``, ``"species only"`` or ``"undecided"``.
    text
        The same in sentences, with its numbers.
    evidence
        One row for each model and criterion: model, criterion, estimate, low, high (95 % interval), wanted, holds.
    """

    conclusion: str
    text: str
    evidence: pd.DataFrame


def judge(partition: pd.DataFrame, curve: pd.DataFrame) -> Verdict:
    """Apply the rule.

    Source: `RULE`. Where it leaves a word open, it is read so: an interval is the 95 % percentile interval of the
    paired bootstrap; a term is above 0 where its lower end is, and else about 0; composition counts where more than
    half of the models have it; a loss rises smoothly from 0 where the interval of the whole loss lies above 0, the
    narrowest windows lose less than half of it, no step down is significant, and no single step makes more than three
    quarters of it. Only R2 within species is looked at, and never how much a model gains from the species: a model that
    knows the species imperfectly gains from it too.

    Parameters
    ----------
    partition
        Rows of `analysis.melting_point.inference.contrast_table` with a column ``model``.
    curve
        Rows of `analysis.melting_point.partition.window_curve` with a column ``model``.

    Returns
    -------
    Verdict

    Raises
    ------
    InputError
        The terms ``d_local`` and ``d_comp`` are missing for a model.
    """
    import pandas as pd

    models = list(dict.fromkeys(partition["model"]))
    rows: list[dict[str, object]] = []
    local: list[str] = []
    composed: list[str] = []
    rising: list[str] = []
    for model in models:
        terms = partition[(partition["model"] == model) & (partition["measure"] == WITHIN)].set_index("contrast")
        missing = [name for name in ("d_local", "d_comp") if name not in terms.index]
        if missing or not models:
            raise InputError(f"model {model!r} has no {' and no '.join(missing)}: the rule needs both.")
        for name, having in (("d_local", local), ("d_comp", composed)):
            holds = bool(terms.loc[name, "low"] > 0)
            rows.append(_row(model, f"{name} > 0", terms.loc[name], "lower end above 0", holds))
            if holds:
                having.append(model)
        steps = _rise(model, curve[(curve["model"] == model) & (curve["measure"] == WITHIN)])
        rows += steps
        if steps and all(row["holds"] for row in steps):
            rising.append(model)
    if not models:
        raise InputError("there is no model to judge: the table of terms is empty.")
    evidence = pd.DataFrame(rows)
    return Verdict(*_conclude(models, local, composed, rising, evidence), evidence)


def _row(model: str, criterion: str, numbers: pd.Series, wanted: str, holds: bool) -> dict[str, object]:
    """Return a row of the evidence."""
    values = {name: float(numbers[name]) for name in ("estimate", "low", "high")}
    return {"model": model, "criterion": criterion, **values, "wanted": wanted, "holds": holds}


def _rise(model: str, curve: pd.DataFrame) -> list[dict[str, object]]:
    """Return what says whether a loss rises smoothly from 0; nothing where there are no windows."""
    import pandas as pd

    ordered = curve.sort_values("width").reset_index(drop=True)
    inner = ordered[(ordered["width"] > 1) & np.isfinite(ordered["width"])]
    if inner.empty:
        return []
    whole, first = ordered.iloc[-1], inner.iloc[0]
    # Of a loss that is not there, any part is too much.
    size = max(float(whole["estimate"]), 0.0)
    steps = ordered[ordered["width"] > 1].rename(columns={"step": "estimate", "estimate": "loss"})
    steps = steps.drop(columns=["low", "high"]).rename(columns={"step_low": "low", "step_high": "high"})
    lowest = steps.iloc[int(np.argmin(steps["high"].to_numpy()))]
    highest = steps.iloc[int(np.argmax(steps["estimate"].to_numpy()))]
    share = pd.Series({"estimate": highest["estimate"] / size if size else np.nan, "low": np.nan, "high": np.nan})
    return [
        _row(model, "loss of permuting whole sequences > 0", whole, "lower end above 0", bool(whole["low"] > 0)),
        _row(
            model,
            f"loss begins near 0 (windows of {first['width']:.0f})",
            first,
            f"below {FIRST_SHARE:g} of the whole loss, {size:.3f}",
            bool(first["estimate"] < FIRST_SHARE * size),
        ),
        _row(model, "loss never falls (lowest step)", lowest, "upper end not below 0", bool(lowest["high"] >= 0)),
        _row(
            model,
            "loss has no jump (largest step, as a share)",
            share,
            f"at most {STEP_SHARE:g}",
            bool(highest["estimate"] <= STEP_SHARE * size),
        ),
    ]


def _conclude(
    models: list[str], local: list[str], composed: list[str], rising: list[str], evidence: pd.DataFrame
) -> tuple[str, str]:
    """Return the conclusion and its text."""
    both = [model for model in local if model in rising]
    numbers = "; ".join(_said(evidence, model) for model in models)
    if len(both) >= MODELS:
        text = (
            f"The order of codons matters: within species, true coding sequences predict melting points better than "
            f"permuted ones with {len(both)} of {len(models)} models ({', '.join(both)}), and the wider the windows "
            "in which codons are permuted, the more is lost."
        )
        return LOCAL, f"{text} {numbers}."
    if local:
        why = (
            f"{len(local)} of {len(models)} models ({', '.join(local)}) lose by permuting within species; "
            f"{len(both)} of them lose more with wider windows, and {MODELS} that do are wanted"
        )
        return UNDECIDED, f"Undecided: {why}. {numbers}."
    if 2 * len(composed) > len(models):
        text = (
            "Codon usage within species matters, the order of codons does not: permuted coding sequences add to "
            f"protein and species with {len(composed)} of {len(models)} models ({', '.join(composed)}), their true "
            "order adds nothing to that."
        )
        return COMPOSITION, f"{text} {numbers}."
    text = (
        "Species only: beside the protein and the species, neither the codon usage of a gene nor the order of its "
        "codons adds anything that these samples show. What coding sequences add to proteins, if anything, is which "
        "species they are from."
    )
    return SPECIES_ONLY, f"{text} {numbers}."


def _said(evidence: pd.DataFrame, model: str) -> str:
    """Return the two terms of a model as text."""
    rows = evidence[evidence["model"] == model].set_index("criterion")
    parts = [
        f"{name} {row['estimate']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        for name, row in ((name, rows.loc[f"{name} > 0"]) for name in ("d_local", "d_comp"))
    ]
    return f"{model}: {', '.join(parts)}"


NOTE = (
    f"A gain from adding the species to a model does not show that the model lacked it, and a gap that is left after "
    f"adding it does not show an effect of order: only {TRUE} against permuted sequences at fixed species does."
)
"""What the rule is not fooled by; printed below every verdict."""
