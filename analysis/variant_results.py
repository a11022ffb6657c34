"""Zero-shot numbers of variant tasks among the results of probes, for one table of models and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from embedstore.store import Store


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
    import pandas as pd

    import embedstore
    from analysis.variant_tables import check_same, scored_variants
    from embedstore.tasks.published import ZERO_SHOT, publication
    from embedstore.tasks.records import names
    from probes.outcome import columns_of_test
    from probes.planning import SPEC_VERSION
    from probes.reading import describe
    from probes.results import RESULT, digest, results_folder, write_json
    from probes.scores import save_scores

    check_same(scores, store.variants(task), columns=("chromosome", "position", "ref", "alt"))
    compared = scored_variants(scores, column, groups=groups)
    assert compared.score is not None
    spec = {
        "version": SPEC_VERSION,
        "kind": ZERO_SHOT,
        "recipe": "",
        "probe": {"score": column, "groups": groups, **(settings or {})},
        "draws": draws,
        "data": {"test": describe(store, task, model, [""])},
    }
    record = store.record(task)
    published = record.name in names() and publication(record.name).is_this(record, pd.Series([""] * len(scores)))
    row = {
        "task": task,
        "model": model,
        "probe": ZERO_SHOT,
        "recipe": "",
        "seed": 0,
        "metric": "auroc",
        **columns_of_test("auroc", compared, draws),
        "n_test": len(compared.score),
        "blocks_missing": 0,
        "record": record.name,
        "published": published,
        "spec": digest(spec),
        "embedstore": embedstore.__version__,
    }
    layer = store.embedding(task, model).record.get("layer")
    folder = (results_folder(store) if out is None else Path(out)) / task / model / digest(spec)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spec.json", spec)
    save_scores(folder / "scores.npz", compared)
    write_json(folder / RESULT, row if layer is None else {**row, "layer": layer})
    return folder
