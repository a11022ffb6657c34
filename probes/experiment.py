"""One probe from a store to a result: train, choose the epoch, test once, write everything down."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import embedstore
from embedstore.errors import InputError, did_you_mean
from probes.dataset import ProbeData, describe
from probes.intervals import bootstrap, interval
from probes.metrics import base_rate, mean_defined, per_class, per_target
from probes.probe import CNNProbe
from probes.results import RESULT, ProbeResult, digest, read_row, save_history, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from embedstore.store import Store
    from embedstore.tasks import TaskRecord
    from probes.metrics import Scores

logger = logging.getLogger(__name__)

SPEC_VERSION = 1
"""Part of every spec; a change in what the same settings compute must change it."""

_CHECKPOINT = "probe.safetensors"


def run_probe(
    store: Store,
    task: str,
    model: str,
    *,
    out: str | Path | None = None,
    fold: int | None = None,
    splits: Mapping[str, str | Sequence[str]] | None = None,
    draws: int = 1000,
    memory_limit: int | None = None,
    **overrides: Any,
) -> ProbeResult:
    """Train a probe with the task's recipe, choose the epoch on validation samples, test it once.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    model
        Name of the model, or ``"onehot"`` for the baseline.
    out
        Folder for results (default None: nothing is written). The result's own folder in it is named after everything
        that decides the numbers; a finished result found there is returned as it is.
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
    **overrides
        Parameters of `CNNProbe` that replace those of the task's recipe.

    Returns
    -------
    ProbeResult
        The row, the history, a table per class, the trained probe and the folder.

    Raises
    ------
    InputError
        A parameter is unknown or out of range, or the splits do not fit.
    NotInStoreError
        The store has no such task, model or split.
    IncompleteError
        A block that is needed is not embedded yet.
    """
    record = store.record(task)
    probe = _probe(record, overrides)
    roles = split_roles(store.samples(task)["split"].unique(), fold, splits)
    spec = {
        "version": SPEC_VERSION,
        "probe": probe.recipe(),
        "draws": draws,
        "data": {role: describe(store, task, model, names) for role, names in roles.items()},
    }
    spec_digest = digest(spec)
    folder = None if out is None else Path(out) / task / model / spec_digest[:12]
    if folder is not None and (folder / RESULT).exists():
        logger.info("%s: finished before, nothing is computed", folder)
        return _read(folder, probe.device)

    def load(role: str) -> ProbeData:
        return ProbeData.from_store(store, task, model, roles[role], memory_limit=memory_limit, progress=probe.progress)

    began = time.perf_counter()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "spec.json", spec)
    sizes = _fit(probe, load, [role for role in roles if role != "test"], folder)
    test = load("test")
    scores = probe.evaluate(test)
    row = {
        "task": task,
        "model": model,
        "probe": "cnn",
        **({} if fold is None else {"fold": fold}),
        "metric": record.metric,
        **_test(record, scores, draws, probe.seed_),
        **_about(probe),
        **sizes,
        "n_test": len(test),
        "seconds": time.perf_counter() - began,
        "spec": spec_digest,
        "embedstore": embedstore.__version__,
    }
    table = per_class(scores, test.targets.names)
    if folder is not None:
        _write(folder, row, table, probe)
    return ProbeResult(row, probe.history_, table, probe, folder)


def split_roles(
    known: Iterable[str], fold: int | None = None, splits: Mapping[str, str | Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Say which splits are for training, validation and testing.

    Parameters
    ----------
    known
        Names of the task's splits.
    fold
        For splits part1, part2, ...: which is for testing, from 1; the next is for validation, the others for training.
        Source: BEND, `bend/utils/data_downstream.py`; parts in the order of their numbers.
    splits
        The answer, where it is neither of the usual ones.

    Returns
    -------
    dict
        ``"train"``, ``"valid"`` (where there is one) and ``"test"``, each a list of names.

    Raises
    ------
    InputError
        The names do not fit.

    Examples
    --------
    >>> split_roles(["part1", "part2", "part3", "part4"], fold=4)
    {'train': ['part2', 'part3'], 'valid': ['part1'], 'test': ['part4']}
    """
    names = sorted(set(known))
    if splits is not None:
        if fold is not None or not {"train", "test"} <= set(splits) <= {"train", "valid", "test"}:
            raise InputError(
                f"splits need the keys train, test and, if wanted, valid, and no fold beside; got {sorted(splits)}, "
                f"fold {fold}"
            )
        roles = {role: [part] if isinstance(part, str) else list(part) for role, part in splits.items()}
        used = [name for part in roles.values() for name in part]
        for name in used:
            if used.count(name) > 1:
                raise InputError(f"split {name!r} is used twice; training and test samples must be apart: {roles}")
        return roles
    parts = sorted((name for name in names if re.fullmatch(r"part\d+", name)), key=lambda name: int(name[4:]))
    if fold is None:
        if {"train", "valid", "test"} <= set(names):
            return {role: [role] for role in ("train", "valid", "test")}
        cure = f"give fold, 1 to {len(parts)}" if len(parts) >= 3 else "say which to use by splits"
        raise InputError(f"the task has the splits {', '.join(names)}, not train, valid and test: {cure}")
    if len(parts) < 3 or not 1 <= fold <= len(parts):
        raise InputError(
            f"fold {fold} is not possible: folds are 1 to the number of splits part1, part2, ..., at least 3; the "
            f"task's splits are {', '.join(names)}"
        )
    test, valid = parts[fold - 1], parts[fold % len(parts)]
    return {"train": [part for part in parts if part not in (test, valid)], "valid": [valid], "test": [test]}


def _probe(record: TaskRecord, overrides: dict[str, Any]) -> CNNProbe:
    """Make a probe from a task's recipe."""
    known = CNNProbe().get_params()
    for name in overrides:
        if name not in known:
            raise InputError(f"the probe has no parameter {name!r}.{did_you_mean(name, known)}")
    return CNNProbe(**{**record.probe, **overrides})


def _fit(probe: CNNProbe, load: Callable[[str], ProbeData], roles: list[str], folder: Path | None) -> dict[str, int]:
    """Train; return how many samples there were. Their memory is free again before the test samples are read."""
    data = {role: load(role) for role in roles}
    probe.fit(data["train"], data.get("valid"), on_epoch=None if folder is None else _keep(folder))
    return {f"n_{role}": len(part) for role, part in data.items()}


def _keep(folder: Path) -> Callable[[CNNProbe], None]:
    """Return what writes an epoch's record, and its weights where they are the best so far."""
    history = folder / "history.jsonl"
    history.unlink(missing_ok=True)

    def write(probe: CNNProbe) -> None:
        with history.open("a") as file:
            file.write(probe.history_.iloc[-1:].to_json(orient="records", lines=True, double_precision=15))
        if probe.best_epoch_ == len(probe.history_):
            probe.save(folder / _CHECKPOINT)

    return write


def _about(probe: CNNProbe) -> dict[str, Any]:
    """Return the columns of a row that come from training."""
    return {
        # The epoch that was kept is the one with the best validation metric.
        "valid": float(probe.history_["valid"].max()) if "valid" in probe.history_ else float("nan"),
        "seed": probe.seed_,
        "epochs": len(probe.history_),
        "best_epoch": probe.best_epoch_,
        "parameters": sum(weight.numel() for weight in probe.network_.parameters()),
        "device": next(probe.network_.parameters()).device.type,
    }


def _test(record: TaskRecord, scores: Scores, draws: int, seed: int) -> dict[str, Any]:
    """Return the columns of a row that come from the test samples."""
    values = per_target(record.metric, scores)
    low, high = interval(bootstrap(record.metric, scores, draws=draws, seed=seed))
    columns = {
        "test": mean_defined(values),
        "low": low,
        "high": high,
        "targets": len(values),
        "targets_defined": int((values == values).sum()),
        "test_loss": scores.loss,
    }
    if record.type == "multilabel":
        assert scores.target is not None
        columns["base_rate"] = mean_defined(base_rate(scores.target))
    return columns


def _write(folder: Path, row: dict[str, Any], table: pd.DataFrame, probe: CNNProbe) -> None:
    """Write what a finished result has beyond its checkpoint; the row last."""
    probe.save(folder / _CHECKPOINT)
    table.to_csv(folder / "per_class.csv", index=False)
    save_history(probe.history_, folder / "curves.png", metric=f"validation {probe.record_.metric}")
    write_json(folder / RESULT, row)


def _read(folder: Path, device: str | None) -> ProbeResult:
    """Read a finished result."""
    probe = CNNProbe.load(folder / _CHECKPOINT, device=device)
    table = pd.read_csv(folder / "per_class.csv", dtype={"name": str})
    return ProbeResult(read_row(folder / RESULT), probe.history_, table, probe, folder)
