"""Zero-shot numbers of variant tasks among the results of probes, for one table of models and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from embedstore.store import Store
    from probes.scores import Scores

_SAME = ("chromosome", "position", "ref", "alt")
_WANTED = {"masked": "letters", "reference": "letters", "left": "letters", "sequence": "sequence"}


def write_zero_shot(
    scores: pd.DataFrame,
    store: Store,
    task: str,
    model: str,
    *,
    column: str = "cosine",
    groups: str | int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    draws: int = 1000,
) -> Path:
    """Write the AUROC of a variant score as a result, as those of probes are.

    `embedstore results`, `probes.results_table` and `probes.compare` then have it beside them, with the published
    number where the task is one of BEND's. The probe is called ``zero-shot``. The same call again replaces the result.

    Parameters
    ----------
    scores
        From `analysis.score_variants`, with ``label``; variants without label or score are left out.
    store, task, model
        Where the embedding behind the scores is.
    column
        The score, default ``cosine``.
    groups
        What is drawn together for the interval, see `analysis.score_table`.
    settings
        What else decided the scores, such as ``{"strands": "both"}``; part of what the result is named by.
    out
        Folder for results, default the one beside the store.
    draws
        Bootstrap draws behind the interval, default 1000.

    Returns
    -------
    pathlib.Path
        Folder of the result: ``result.json``, ``spec.json`` and ``scores.npz``.

    Raises
    ------
    InputError
        The scores are not those of the task's variants, a column is missing, or all labels are alike.
    """
    from analysis.variant_tables import check_same, scored_variants
    from embedstore.tasks.published import ZERO_SHOT
    from probes.planning import SPEC_VERSION
    from probes.reading import describe
    from probes.results import RESULT, digest, results_folder, write_json
    from probes.scores import save_scores

    check_same(scores, store.variants(task), columns=_SAME)
    compared = scored_variants(scores, column, groups=groups)
    spec = {
        "version": SPEC_VERSION,
        "kind": ZERO_SHOT,
        "recipe": "",
        "probe": {"score": column, "groups": groups, **(settings or {})},
        "draws": draws,
        "data": {"test": describe(store, task, model, [""])},
    }
    row = _row(store, task, model, compared, draws) | {"spec": digest(spec)}
    folder = (results_folder(store) if out is None else Path(out)) / task / model / digest(spec)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spec.json", spec)
    save_scores(folder / "scores.npz", compared)
    write_json(folder / RESULT, row)
    return folder


def _row(store: Store, task: str, model: str, compared: Scores, draws: int) -> dict[str, Any]:
    """Return the row of a result, without what names it."""
    import pandas as pd

    import embedstore
    from analysis.variant_groups import few_drawn
    from embedstore.tasks.published import ZERO_SHOT, publication
    from embedstore.tasks.records import names
    from probes.outcome import columns_of_test

    record = store.record(task)
    splits = pd.Series([""] * len(store.variants(task)))
    found = columns_of_test("auroc", compared, draws)
    if few_drawn(compared):
        found |= dict.fromkeys(("low", "high"), float("nan"))
    assert compared.score is not None
    row = {
        "task": task,
        "model": model,
        "probe": ZERO_SHOT,
        "recipe": "",
        "seed": 0,
        "metric": "auroc",
        **found,
        "n_test": len(compared.score),
        "blocks_missing": 0,
        "record": record.name,
        "published": record.name in names() and publication(record.name).is_this(record, splits),
        "embedstore": embedstore.__version__,
    }
    layer = store.embedding(task, model).record.get("layer")
    return row if layer is None else {**row, "layer": layer}


def embedding_behind(
    scores: pd.DataFrame, store: Store, column: str, *, task: str | None = None, model: str | None = None
) -> tuple[str, str]:
    """Find the embedding that a score was read from.

    Parameters
    ----------
    scores
        From `analysis.score_variants`.
    store
        Where its windows were embedded.
    column
        The score.
    task, model
        The embedding, as far as it is known; default, the only one of the same variants that such a score can be of.

    Returns
    -------
    task, model : str

    Raises
    ------
    InputError
        There is none, or more than one; they are listed.
    """
    from analysis.variants import SCORES
    from embedstore.errors import InputError

    # A score of the user's own may be of any.
    needs = SCORES[column].needs if column in SCORES else None
    found = [
        (one, other)
        for one in (store.tasks() if task is None else [task])
        if _is_of(scores, store, one, needs)
        for other in store.models(one)
        if model in (None, other) and (needs is None or _gives(store, one, other) == _WANTED.get(needs))
    ]
    # Averaged scores have windows of several strands and frames; the first of them stands for all.
    first = [place for place in found if _is_first(store, place[0])] or found
    if len(first) == 1:
        return first[0]
    listed = ", ".join(f"{one}/{other}" for one, other in first)
    what = f"{column} may be of {listed}" if first else f"no embedding of these variants gives {column}"
    raise InputError(f"{store.path}: {what}. Say which one the score is of: task= and model= (--task, --model).")


def _is_of(scores: pd.DataFrame, store: Store, task: str, needs: str | None) -> bool:
    """Tell whether a task holds windows of these variants that such a score can be read from."""
    from analysis.variant_tables import check_same
    from embedstore.errors import InputError

    if task not in store.tasks() or "variants" not in store.task_digests(task):
        return False
    try:
        check_same(scores, store.variants(task), columns=_SAME)
    except InputError:
        return False
    alleles = {"masked": "masked", "reference": "reference", "left": "reference"}.get(needs or "", "both")
    return needs is None or store.task_attributes(task)["source"].get("alleles") == alleles


def _gives(store: Store, task: str, model: str) -> str | None:
    """Return which log probabilities an embedding holds; None for hidden states."""
    said: dict[str, str] = store.embedding(task, model).record.get("log_probabilities") or {}
    return said.get("kind")


def _is_first(store: Store, task: str) -> bool:
    """Tell whether windows are of the forward strand and the first frame."""
    source = store.task_attributes(task)["source"]
    return source.get("strand", "+") == "+" and not source.get("frame", 0)
