"""The outcome of a probe: tested once, with intervals, and written down so that it is found again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pandas as pd

import embedstore
from embedstore.outputs import remove_unfinished
from probes.calibration import expected_calibration_error
from probes.exons import exon_metric
from probes.intervals import bootstrap, interval
from probes.metrics import base_rate, mean_defined, per_target
from probes.predictions import check_writable, list_predictions, save_predictions
from probes.results import RESULT, ProbeResult, digest, read_row, save_history, write_json
from probes.scores import load_scores, per_class, save_scores, undefined_note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import TypeAlias

    from embedstore.store import Store
    from probes.base import Probe
    from probes.dataset import ProbeData
    from probes.finetuning import TunedPlan
    from probes.planning import Plan
    from probes.scores import Scores
    from probes.specs import Spec

    Planned: TypeAlias = Plan | TunedPlan

logger = logging.getLogger(__name__)

DRAWS_SEED = 0
"""Seed of the draws. It is the same for all probes, so that those tested on the same samples have the same draws."""

CHECKPOINT, HISTORY, STATE = "probe.safetensors", "history.jsonl", "state.safetensors"
_SCORES, _CLASSES = "scores.npz", "per_class.csv"


def sizes_of(data: Mapping[str, ProbeData]) -> dict[str, int]:
    """Return how many samples there were in each role, and how many blocks are not there.

    Parameters
    ----------
    data
        Samples by role.

    Returns
    -------
    dict
        ``n_train``, ``n_valid``, ``blocks_missing``.
    """
    missing = max((part.blocks_missing for part in data.values()), default=0)
    return {f"n_{role}": len(part) for role, part in data.items()} | {"blocks_missing": missing}


def valid_metric(probe: Probe, valid: ProbeData | None) -> float:
    """Return the task's metric on validation samples, of the fitted probe.

    Parameters
    ----------
    probe
        The probe.
    valid
        What it was chosen on; None where there was nothing.

    Returns
    -------
    float
        NaN where there was nothing.
    """
    if valid is None:
        return float("nan")
    if "valid" in probe.history_:
        return float(probe.history_["valid"].iloc[probe.best_epoch_ - 1])
    return probe.score(valid)


def finish(plan: Planned, sizes: dict[str, int], valid: float, began: float) -> ProbeResult:
    """Test a fitted probe and write everything down.

    Parameters
    ----------
    plan
        What it is.
    sizes
        From `sizes_of`, of what it was trained on.
    valid
        From `valid_metric`.
    began
        When the run began, by `time.perf_counter`.

    Returns
    -------
    ProbeResult
    """
    probe, record = plan.probe, plan.store.record(plan.task)
    test = plan.load("test")
    test.check_labels()
    scores = probe.evaluate(test)
    note = undefined_note(record.metric, scores, test.targets.names)
    if note:
        logger.warning("%s/%s: %s", plan.task, plan.model, note)
    missing = max(sizes.pop("blocks_missing"), test.blocks_missing)
    row: dict[str, Any] = {
        "task": plan.task,
        "model": plan.model,
        "probe": plan.kind,
        "recipe": plan.recipe,
        "layer": plan.layer,
        "fold": plan.fold,
        "test_split": "+".join(plan.roles["test"]),
        "seed": probe.seed_,
        "metric": record.metric,
        **columns_of_test(record.metric, scores, plan.draws),
        "valid": valid,
        **_about(probe),
        **sizes,
        "n_test": len(test),
        "blocks_missing": missing,
        "seconds": time.perf_counter() - began,
        "record": record.name,
        "published": _published(plan.store, plan.task),
        "spec": digest(plan.spec),
        "embedstore": embedstore.__version__,
        **probe.columns(),
    }
    row = {key: value for key, value in row.items() if value is not None}
    table = per_class(scores, test.targets.names)
    if plan.predictions:
        _predict(plan, probe, test, row)
    if plan.folder is not None:
        _write(plan.folder, row, table, probe, scores)
    return ProbeResult(row, probe.history_, table, probe, plan.folder, scores)


def _predict(plan: Planned, probe: Probe, test: ProbeData, row: dict[str, Any]) -> None:
    """Write what a probe says of the test samples into the store."""
    save_predictions(plan.store, probe, test, row["spec"][:12], attributes={"spec": plan.spec, "row": row})


def _about(probe: Probe) -> dict[str, Any]:
    """Return the columns of a row that come from training."""
    network = getattr(probe, "network_", None)
    # What a network keeps beside its parameters (running means) is not trained.
    learned = probe.weights().values() if network is None else network.parameters()
    return {
        "epochs": len(probe.history_),
        "best_epoch": probe.best_epoch_,
        "parameters": sum(weight.numel() for weight in learned),
        "receptive_field": None if network is None else network.receptive_field,
        "device": "cpu" if network is None else next(network.parameters()).device.type,
    }


def columns_of_test(metric: str, scores: Scores, draws: int) -> dict[str, Any]:
    """Return the columns of a row that come from the test samples.

    Parameters
    ----------
    metric
        Of the task.
    scores
        What is said of the test samples, with what is true.
    draws
        Bootstrap draws behind the interval.

    Returns
    -------
    dict
        test, low, high, targets, targets_defined, test_loss, and those of the kind of task.
    """
    values = per_target(metric, scores)
    low, high = interval(bootstrap(metric, scores, draws=draws, seed=DRAWS_SEED))
    columns: dict[str, Any] = {
        "test": mean_defined(values),
        "low": low,
        "high": high,
        "targets": len(values),
        "targets_defined": int((values == values).sum()),
        "test_loss": scores.loss,
    }
    if scores.target is not None and metric in ("auroc", "auprc"):
        columns["base_rate"] = mean_defined(base_rate(scores.target))
    if scores.calibration is not None:
        columns["ece"] = expected_calibration_error(scores.calibration)
    if scores.exons is not None:
        total = scores.exons.sum(axis=0)
        columns |= {name: float(exon_metric(name, total)) for name in ("exon_f1", "gene_exact")}
    return columns


def _published(store: Store, task: str) -> bool:
    """Return whether a task of a store is a published one."""
    from embedstore.tasks import names, publication

    record = store.record(task)
    if store.task_attributes(task)["source"].get("kind") == "recoded":  # other codons than those of the published task
        return False
    return record.name in names() and publication(record.name).is_this(record, store.samples(task)["split"])


def _write(folder: Path, row: dict[str, Any], table: pd.DataFrame, probe: Probe, scores: Scores) -> None:
    """Write what a finished result has; the row last."""
    probe.save(folder / CHECKPOINT)
    save_scores(folder / _SCORES, scores)
    table.to_csv(folder / _CLASSES, index=False)
    if "epoch" in probe.history_:
        metric = f"validation {probe.record_.metric}"
        save_history(probe.history_, folder / "curves.png", metric=metric, best=probe.best_epoch_)
    else:
        (folder / HISTORY).write_text(probe.history_.to_json(orient="records", lines=True, double_precision=15))
    write_json(folder / RESULT, row)
    (folder / STATE).unlink(missing_ok=True)
    remove_unfinished(folder / STATE)


def predicted(spec: Spec, out: str | Path) -> bool:
    """Tell whether the predictions of a probe are in its store.

    Parameters
    ----------
    spec
        The probe.
    out
        Folder for results.

    Returns
    -------
    bool
    """
    from probes.planning import plan_of

    return _has_predictions(plan_of(spec, out))


def _has_predictions(plan: Planned) -> bool:
    name = digest(plan.spec)[:12]
    return name in list_predictions(plan.store, plan.task, plan.model)["name"].to_list()


def read_finished(plan: Planned) -> ProbeResult:
    """Read a finished result.

    Parameters
    ----------
    plan
        What it is.

    Returns
    -------
    ProbeResult
    """
    folder = plan.folder
    assert folder is not None
    probe = type(plan.probe).load(folder / CHECKPOINT, device=plan.probe.get_params().get("device"))
    # A class may be named NA or None, which pandas would take for nothing.
    table = pd.read_csv(folder / _CLASSES, dtype={"name": str}, keep_default_na=False, na_values=[""])
    row = read_row(folder / RESULT)
    if plan.predictions and not _has_predictions(plan):
        check_writable(plan.store)
        _predict(plan, probe, plan.load("test"), row)
    return ProbeResult(row, probe.history_, table, probe, folder, load_scores(folder / _SCORES))
