"""One probe from a store to a result: train, choose the epoch, test once, write everything down."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.kinds import probe_kind
from probes.outcome import CHECKPOINT, HISTORY, STATE, finish, read_finished, sizes_of, valid_metric
from probes.planning import DRAWS, arguments, make_plan, plan_of
from probes.predictions import check_writable
from probes.results import RESULT, digest, write_json
from probes.roles import split_roles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedstore.store import Store
    from probes.base import Probe
    from probes.dataset import ProbeData
    from probes.outcome import Planned
    from probes.planning import Plan
    from probes.results import ProbeResult
    from probes.specs import Spec

__all__ = ["run_probe", "run_ridges", "run_spec", "spec_folder", "split_roles"]

logger = logging.getLogger(__name__)


def run_probe(
    store: Store,
    task: str,
    model: str,
    *,
    probe: str = "cnn",
    recipe: str = "bend",
    out: str | Path | None = None,
    fold: int | None = None,
    splits: Mapping[str, str | Sequence[str]] | None = None,
    draws: int = DRAWS,
    memory_limit: int | None = None,
    allow_partial: bool = False,
    predictions: bool = False,
    **overrides: Any,
) -> ProbeResult:
    """Train a probe with a recipe, choose the epoch on validation samples, test it once.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    model
        Name of the model, or of a baseline computed from the letters: ``"onehot"``, ``"kmer1"`` to ``"kmer6"``,
        ``"gc"``.
    probe
        Kind of probe, default ``"cnn"``; see `probes.kinds.PROBES`.
    recipe
        ``"bend"`` (default) or ``"best"``; see `probes.recipes.RECIPES`.
    out
        Folder for results (default None: nothing is written). The result's own folder in it is named after everything
        that decides the numbers; a finished result found there is returned as it is, and one that was interrupted goes
        on where it was.
    fold
        For tasks whose splits are part1, part2, ...: which of them is for testing, from 1. The next one (after the
        last, the first) is for validation, the others for training, as in BEND.
    splits
        Names of the splits to use as ``"train"``, ``"valid"`` (may be left out) and ``"test"``; default those of
        these names.
    draws
        Bootstrap draws behind the interval, default 1000.
    memory_limit
        See `ProbeData.from_store`.
    allow_partial
        Use the samples that are embedded where some are not yet; the result says how many blocks are missing.
    predictions
        Write what the probe says of the test samples into the store, see `probes.predictions`; it must be writable.
    **overrides
        Parameters of the probe that replace those of the recipe.

    Returns
    -------
    ProbeResult
        The row, the history, a table per class, the trained probe and the folder.

    Raises
    ------
    InputError
        A parameter is unknown or out of range, the splits do not fit, or labels are all alike.
    NotInStoreError
        The store has no such task, model or split.
    IncompleteError
        A block that is needed is not embedded yet.
    """
    roles = split_roles(store.samples(task)["split"].unique(), fold, splits)
    plan = make_plan(
        store,
        task,
        model,
        roles,
        overrides,
        probe=probe,
        recipe=recipe,
        fold=fold,
        draws=draws,
        memory_limit=memory_limit,
        allow_partial=allow_partial,
        predictions=predictions,
        out=out,
    )
    if is_finished(plan):
        logger.info("%s: finished before, nothing is computed", plan.folder)
        return read_finished(plan)
    _check(plan)
    began = time.perf_counter()
    begin(plan)
    data = {role: plan.load(role) for role in roles if role != "test"}
    for part in data.values():
        part.check_labels()
    _fit(plan, data)
    sizes, valid = sizes_of(data), valid_metric(plan.probe, data.get("valid"))
    del data  # their memory is free again before the test samples are read
    return finish(plan, sizes, valid, began)


def run_spec(spec: Spec, out: str | Path, *, progress: bool = False) -> dict[str, Any]:
    """Run what a spec names, unless its result is there.

    Parameters
    ----------
    spec
        The probe.
    out
        Folder for results.
    progress
        Show progress bars, default False.

    Returns
    -------
    dict
        The row of the result.
    """
    result = run_probe(**arguments(spec, progress), out=out)
    return result.row


def run_ridges(specs: Sequence[Spec], out: str | Path) -> list[dict[str, Any]]:
    """Run ridge probes of one task and model, whatever their folds, from one pass over the rows.

    Parameters
    ----------
    specs
        Of kind ``"ridge"``, of one store, task and model.
    out
        Folder for results.

    Returns
    -------
    list of dict
        The row of each, as `run_spec` gives it.
    """
    from probes.linear import fit_ridges

    rows: dict[int, dict[str, Any]] = {}
    todo: dict[str, list[tuple[int, Plan]]] = {}
    for number, spec in enumerate(specs):
        plan = plan_of(spec, out)
        if is_finished(plan):
            rows[number] = read_finished(plan).row
        else:
            _check(plan)
            todo.setdefault(digest(plan.probe.recipe()), []).append((number, plan))
    for group in todo.values():
        began = time.perf_counter()
        first = group[0][1]
        used = sorted({name for _, plan in group for names in _to_learn(plan).values() for name in names})
        data = first._replace(roles={"all": used}).load("all")
        split = first.store.samples(first.task)["split"].to_numpy()
        probes = fit_ridges(data, [plan.roles for _, plan in group], split=split[data.samples], probe=first.probe)
        learnt = []
        for (_, plan), fitted in zip(group, probes, strict=True):
            parts = {role: data[np.isin(split[data.samples], names)] for role, names in _to_learn(plan).items()}
            for part in parts.values():
                part.check_labels()
            learnt.append((sizes_of(parts), valid_metric(fitted, parts.get("valid"))))
        parts = {}
        del data  # their memory is free again before the test samples are read
        for (number, plan), fitted, (sizes, valid) in zip(group, probes, learnt, strict=True):
            begin(plan)
            rows[number] = finish(plan._replace(probe=fitted), sizes, valid, began).row
    return [rows[number] for number in range(len(specs))]


def spec_folder(spec: Spec, out: str | Path) -> Path:
    """Return the folder that the result of a spec is in, or will be.

    Parameters
    ----------
    spec
        The probe.
    out
        Folder for results.

    Returns
    -------
    pathlib.Path
        ``out/<task>/<model>/<first 12 digits of the digest of everything that decides the numbers>``.
    """
    folder = plan_of(spec, out).folder
    assert folder is not None
    return folder


def is_finished(plan: Planned) -> bool:
    """Tell whether a result is on disk.

    Parameters
    ----------
    plan
        What it is.

    Returns
    -------
    bool
    """
    return plan.folder is not None and (plan.folder / RESULT).exists()


def _check(plan: Plan) -> None:
    """Refuse what cannot be done, before any work."""
    if plan.predictions:
        check_writable(plan.store)
    plan.check()


def begin(plan: Planned) -> None:
    """Write down what is going to be computed.

    Parameters
    ----------
    plan
        What it is.
    """
    if plan.folder is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_json(plan.folder / "spec.json", plan.spec)


def _to_learn(plan: Plan) -> dict[str, list[str]]:
    """Return the splits for training and validation, by role."""
    return {role: names for role, names in plan.roles.items() if role != "test"}


def _fit(plan: Plan, data: dict[str, ProbeData]) -> None:
    """Train, writing down what is needed to go on after an interruption."""
    train, valid = data["train"], data.get("valid")
    if "network" not in probe_kind(plan.kind).parameters or plan.folder is None:
        plan.probe.fit(train, valid)
    else:
        plan.probe.fit(train, valid, on_epoch=keep_epochs(plan.folder), state=plan.folder / STATE)


def keep_epochs(folder: Path) -> Callable[[Probe], None]:
    """Return what writes an epoch's record, and its weights where they are the best so far.

    Parameters
    ----------
    folder
        Of the result.

    Returns
    -------
    callable
        Takes the probe after each epoch, as ``on_epoch`` of `probes.probe.NetworkProbe.fit`.
    """
    history = folder / HISTORY
    history.unlink(missing_ok=True)
    written = 0

    def write(probe: Probe) -> None:
        nonlocal written
        with history.open("a") as file:
            file.write(probe.history_.iloc[written:].to_json(orient="records", lines=True, double_precision=15))
        resumed = written == 0 and len(probe.history_) > 1
        written = len(probe.history_)
        if probe.best_epoch_ == len(probe.history_) and not resumed:
            probe.save(folder / CHECKPOINT)

    return write
