"""Which layer of a language model holds what a task needs: one probe per stored layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from distributed import Client

    from embedstore.store import Store

COLUMNS = (
    "checkpoint",
    "layer",
    "layers",
    "model",
    "probe",
    "metric",
    "test",
    "low",
    "high",
    "valid",
    "n_test",
    "path",
)
"""Columns of `layer_profile`."""


def layer_profile(
    store: Store,
    task: str,
    models: Sequence[str] | None = None,
    *,
    probe: str = "ridge",
    recipe: str = "bend",
    fold: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    client: Client | None = None,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Probe every stored layer of a model in the same way.

    Each layer is an embedding of its own in the store (``embedstore embed --layer 6 --name lm.layer6``). The layer with
    the best validation metric is the one to use; the test metric says how good it is, and must not choose it.

    Parameters
    ----------
    store
        An open store, in a place that another process can open too.
    task
        Name of the task.
    models
        Names of embeddings, or of baselines to compare with; default all embeddings of the task.
    probe, recipe, fold, seed
        As for `probes.run_probe`; the default probe is a ridge regression, solved exactly.
    out, client, progress
        As for `probes.sweep`.
    **settings
        Parameters of the probe that replace those of the recipe.

    Returns
    -------
    pandas.DataFrame
        One row per layer: checkpoint (first digits of its digest), layer (0: the input of the first block, 1 to
        `layers`: after that block, ``layers + 1``: the last hidden state, after a final norm where there is one; NaN
        for a mean of layers, and for baselines, which have none), layers (blocks of the network), model (name of the
        embedding), probe, metric, test, low, high, valid, n_test, path (folder of the result).
        Sorted by checkpoint and layer; draw it with `probes.plots.plot_layers`.

    Raises
    ------
    InputError
        There is no embedding, or a probe failed.
    """
    from probes.combine import make_specs
    from probes.reading import open_rows
    from probes.sweeping import sweep

    names = store.models(task) if models is None else list(models)
    if not names:
        raise InputError(f"{store.path}: task {task!r} has no embeddings; a profile needs one for every layer")
    specs = make_specs(
        store,
        task,
        names,
        probes=[probe],
        recipes=[recipe],
        folds=None if fold is None else [fold],
        seeds=[seed],
        settings=settings,
    )
    rows = sweep(specs, out, client, progress=progress)
    failed = rows[rows["status"] == "failed"]
    if len(failed):
        raise InputError(f"{store.path}: {task}/{failed['model'].iloc[0]}: {failed['error'].iloc[0]}")
    embeddings = [open_rows(store, task, name) for name in rows["model"]]
    records = [embedding.record for embedding in embeddings]
    rows = rows.assign(
        checkpoint=[embedding.fingerprint.get("checkpoint", "")[:12] for embedding in embeddings],
        layers=[int(record.get("layers", 0)) for record in records],
        layer=[_depth(record) for record in records],
    )
    ordered = rows.sort_values(["checkpoint", "layer", "model"], kind="stable", ignore_index=True)
    return ordered.reindex(columns=COLUMNS)


def _depth(record: dict[str, Any]) -> float:
    """Return the number of a layer, counted from the input; NaN for a mean of layers."""
    layer = record.get("layer")
    if not isinstance(layer, int):
        return float("nan")
    return float(layer if layer >= 0 else record["layers"] + 1)
