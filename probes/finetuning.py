"""Tuning a language model on a task of a store: train, choose the evaluation, test once, write everything down."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, did_you_mean
from probes.augmentation import NUMBERS, augmentations
from probes.experiment import begin, is_finished, keep_epochs
from probes.ia3_probe import IA3Probe
from probes.outcome import STATE, finish, read_finished
from probes.planning import DRAWS, SPEC_VERSION
from probes.results import ProbeResult, digest
from probes.roles import check_regions, several_tests, split_roles, tested_on
from probes.token_data import describe_tokens, read_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from embedstore.models import Model
    from embedstore.store import Store
    from probes.token_data import TokenData

logger = logging.getLogger(__name__)

KIND, RECIPE = "ia3", "paper"
"""What results say of probe and recipe: IA3 with a linear head, as in Boshar et al. 2024."""


class FinetuneResult(NamedTuple):
    """What `finetune` returns.

    Attributes
    ----------
    tests
        By split, the result of testing on it: row, table per class, folder, scores with what is true.
    history
        One row per evaluation: step, train_loss, [valid_loss, valid,] seconds. Losses of values are of standardised
        ones.
    best_step
        After which step the evaluation was that is kept.
    predictions
        One row per test sample and target, for values and for targets of 0 and 1 of whole sequences: split, id, target,
        truth, prediction (of a 0/1 target its logit). Empty for other tasks, whose predictions ``probe.predict`` gives.
    parameters
        How many numbers there are: ``ia3`` and ``head``, which are trained, and ``model``, which are not.
    probe
        The tuned model with its head.
    """

    tests: dict[str, ProbeResult]
    history: pd.DataFrame
    best_step: int
    predictions: pd.DataFrame
    parameters: dict[str, int]
    probe: IA3Probe


class TunedPlan(NamedTuple):
    """All that decides the numbers of a result, and where it goes: a `probes.planning.Plan` of a model and no rows."""

    store: Store
    task: str
    language_model: Model
    probe: IA3Probe
    fold: int | None
    roles: dict[str, list[str]]
    draws: int
    coding_task: str | None
    spec: dict[str, Any]
    folder: Path | None
    kind: str = KIND
    recipe: str = RECIPE
    predictions: bool = False

    @property
    def model(self) -> str:
        """Name of the language model."""
        return self.language_model.name

    @property
    def layer(self) -> int | str | None:
        """The hidden state that the head reads."""
        return self.language_model.record.get("layer")

    def load(self, role: str) -> TokenData:
        """Read the samples of a role."""
        return read_tokens(
            self.store,
            self.task,
            self.language_model,
            self.roles[role],
            augment=self.probe.augment,
            coding_task=self.coding_task,
            tokens=self.probe.tokens,
        )


def finetune(
    store: Store,
    task: str,
    model: Model,
    *,
    out: str | Path | None = None,
    fold: int | None = None,
    splits: Mapping[str, str | Sequence[str]] | None = None,
    coding_task: str | None = None,
    draws: int = DRAWS,
    **settings: Any,
) -> FinetuneResult:
    """Tune a language model by IA3 with a linear head, choose the evaluation on validation samples, test it once.

    Interrupted, by Ctrl-C or by anything else, a run with a folder for its results goes on from its last evaluation
    when it is started again, and gives the numbers of one that was not interrupted.

    Parameters
    ----------
    store
        An open store; only the task's sequences and labels are read.
    task
        Name of the task: labels of whole sequences, bins, nucleotides or residues; of coding sequences or of proteins,
        as the model reads them.
    model
        From `embedstore.models.load`; it stays as it is. Its layer, precision and device are those of the training.
    out
        Folder for results (default None: nothing is written). They have the files of `probes.run_probe`, so that
        `probes.read_results` and `embedstore results` show them as probe ``"ia3"``; one that is finished is read again.
    fold
        As for `probes.run_probe`.
    splits
        Splits to use as ``"train"``, ``"valid"`` (may be left out) and ``"test"``. Default: those of these names; where
        none is called test, all others are for testing. Each split for testing has a result of its own.
    coding_task
        For proteins: the task of the same samples' coding sequences, which the augmentations ``gc``, ``gc3`` and
        ``gc_skew`` are counted in.
    draws
        Bootstrap draws behind the interval, default 1000.
    **settings
        Parameters of `probes.ia3_probe.IA3Probe`: pooling, augment, learning_rate, batch_size, steps, evaluate_every,
        seed, ...

    Returns
    -------
    FinetuneResult

    Raises
    ------
    InputError
        A setting is unknown or out of range, the splits do not fit, labels are all alike, or the model is no
        transformer encoder.
    NotInStoreError
        The store has no such task or split.
    NonFiniteError
        The training has diverged.
    CheckpointError
        A state or a result on disk is damaged.
    """
    probe = _probe(settings)
    if coding_task is not None and not set(augmentations(probe.augment)) & set(NUMBERS):
        raise InputError(
            f"coding_task is {coding_task!r} (--coding-task), but augment is {probe.augment!r}, which reads no coding "
            "sequences. Leave it out, or augment by gc, gc3 or gc_skew."
        )
    roles = _roles(store, task, fold, splits)
    whole = TunedPlan(store, task, model, probe, fold, roles, draws, coding_task, {}, None)
    plans = [_settled(whole._replace(roles={**roles, "test": [test]}), out) for test in roles["test"]]
    done = {plan.roles["test"][0]: read_finished(plan) for plan in plans if is_finished(plan)}
    todo = [plan for plan in plans if plan.roles["test"][0] not in done]
    if todo:
        check_regions(store, task, roles)
        done |= _run(todo, next(iter(done.values()), None))
    return _result(store, {plan.roles["test"][0]: done[plan.roles["test"][0]] for plan in plans})


def _probe(settings: Mapping[str, Any]) -> IA3Probe:
    """Make the probe after checking its settings."""
    known = IA3Probe().get_params()
    for name in settings:
        if name not in known:
            raise InputError(f"finetune has no setting {name!r}.{did_you_mean(name, known)}")
    probe = IA3Probe(**settings)
    probe.check_settings()
    augmentations(probe.augment)
    return probe


def _roles(
    store: Store, task: str, fold: int | None, splits: Mapping[str, str | Sequence[str]] | None
) -> dict[str, list[str]]:
    """Say which splits are for what; all others are for testing where none is called test."""
    known = [name for name in store.samples(task)["split"].unique() if name]
    if fold is None and splits is None:
        splits = tested_on(several_tests(known) or None)
    return split_roles(known, fold, splits)


def _settled(plan: TunedPlan, out: str | Path | None) -> TunedPlan:
    """Write down everything that decides the numbers of testing on one split, and the folder that it names."""
    given = (plan.store, plan.task, plan.language_model)
    spec: dict[str, Any] = {
        "version": SPEC_VERSION,
        "kind": KIND,
        "recipe": RECIPE,
        "probe": plan.probe.recipe(),
        "draws": plan.draws,
        "data": {role: describe_tokens(*given, names, plan.coding_task) for role, names in plan.roles.items()},
    }
    folder = None if out is None else Path(out) / plan.task / plan.model / digest(spec)[:12]
    return plan._replace(spec=spec, folder=folder)


def _run(plans: list[TunedPlan], trained: ProbeResult | None) -> dict[str, ProbeResult]:
    """Train once, unless that was done for another split, and test on each split."""
    began, first = time.perf_counter(), plans[0]
    probe = first.probe if trained is None else trained.probe
    assert isinstance(probe, IA3Probe)
    for plan in plans:
        begin(plan)
    samples = first.store.samples(first.task)["split"].value_counts()
    sizes = {f"n_{role}": int(samples[names].sum()) for role, names in first.roles.items() if role != "test"}
    if trained is None:
        _train(first)
    history = probe.history_
    valid = float(history["valid"].iloc[probe.best_epoch_ - 1]) if "valid" in history else math.nan
    found = {}
    for plan in plans:
        found[plan.roles["test"][0]] = finish(plan._replace(probe=probe), {**sizes, "blocks_missing": 0}, valid, began)
    return found


def _train(plan: TunedPlan) -> None:
    """Train, writing down what is needed to go on after an interruption."""
    data = {role: plan.load(role) for role in plan.roles if role != "test"}
    for part in data.values():
        part.check_labels()
    logger.info("%s/%s: tuning on %d samples", plan.task, plan.model, len(data["train"]))
    train, valid = data["train"], data.get("valid")
    if plan.folder is None:
        plan.probe.fit(train, valid)
    else:
        plan.probe.fit(train, valid, on_epoch=keep_epochs(plan.folder), state=plan.folder / STATE)


def _result(store: Store, tests: dict[str, ProbeResult]) -> FinetuneResult:
    """Put together what is known of all tests."""
    first = next(iter(tests.values()))
    probe = first.probe
    assert isinstance(probe, IA3Probe)
    history = first.history.assign(step=first.history["epoch"] * probe.evaluate_every).drop(columns="epoch")
    parameters = {name: int(first.row[f"parameters_{name}"]) for name in ("ia3", "head", "model")}
    predictions = _predictions(store, tests)
    return FinetuneResult(tests, history, int(first.row["best_step"]), predictions, parameters, probe)


def _predictions(store: Store, tests: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Return what was said of each test sample, for labels of whole sequences that are no classes."""
    import pandas as pd

    parts = []
    for split, result in tests.items():
        scores = result.scores
        if scores.target is None or scores.score is None or result.probe.record_.level != "sequence":
            continue
        table = store.samples(result.row["task"])
        ids = table["id"][table["split"] == split].to_numpy()
        for number, name in enumerate(result.probe.names_):
            values = {"truth": scores.target[:, number], "prediction": scores.score[:, number]}
            parts.append(pd.DataFrame({"split": split, "id": ids, "target": name, **values}))
    empty = pd.DataFrame(columns=["split", "id", "target", "truth", "prediction"])
    return pd.concat(parts, ignore_index=True) if parts else empty
