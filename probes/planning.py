"""What a run of a probe is, settled before anything is computed: parameters, splits, and the folder of its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError, did_you_mean
from probes.dataset import ProbeData
from probes.kinds import ProbeKind, probe_kind
from probes.reading import Source, describe, open_rows
from probes.recipes import recipe_settings
from probes.results import digest
from probes.roles import check_regions, split_roles, tested_on
from probes.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstore.store import Store
    from probes.base import Probe
    from probes.specs import Spec

SPEC_VERSION = 2
"""Part of every spec; a change in what the same settings compute must change it."""

DRAWS = 1000
"""Bootstrap draws behind an interval."""


_OF_THE_RUN = (
    *("store", "task", "model", "probe", "recipe", "fold", "splits", "draws", "memory_limit", "out"),
    *("allow_partial", "predictions"),
)


class Plan(NamedTuple):
    """All that decides the numbers of a result, and where it goes."""

    store: Store
    task: str
    model: str
    kind: str
    probe: Probe
    recipe: str
    fold: int | None
    roles: dict[str, list[str]]
    draws: int
    memory_limit: int | None
    allow_partial: bool
    predictions: bool
    spec: dict[str, Any]
    folder: Path | None

    @property
    def layer(self) -> int | str | None:
        """The hidden state that the rows are of."""
        return open_rows(self.store, self.task, self.model).record.get("layer")

    @property
    def pooled(self) -> bool:
        """Whether the probe reads the mean of each sample."""
        return pools(self.store, self.task, self.kind)

    def check(self) -> None:
        """Refuse, before a row is read, a probe that is not for this task or model, shared regions, missing blocks."""
        record, labels = self.store.record(self.task), self.store.labels(self.task)
        check_regions(self.store, self.task, self.roles)
        if labels is None:
            return  # said when samples are loaded
        lengths = self.store.lengths(self.task)
        outputs = len(Targets(record, labels, lengths).names)
        embedding = open_rows(self.store, self.task, self.model)
        self.probe.check_fits(record, outputs, embedding.width, lengths)
        used = [name for names in self.roles.values() for name in names]
        samples = np.flatnonzero(self.store.samples(self.task)["split"].isin(used))
        Source(embedding, lengths, self.pooled).there(samples, self.allow_partial)

    def load(self, role: str) -> ProbeData:
        """Read the samples of a role."""
        splits, progress = self.roles[role], bool(self.probe.get_params().get("progress", False))
        options: dict[str, Any] = {"pooled": self.pooled, "allow_partial": self.allow_partial}
        options["memory_limit"] = self.memory_limit
        return ProbeData.from_store(self.store, self.task, self.model, splits, progress=progress, **options)


def make_plan(
    store: Store,
    task: str,
    model: str,
    roles: dict[str, list[str]],
    overrides: Mapping[str, Any],
    *,
    probe: str = "cnn",
    recipe: str = "bend",
    fold: int | None = None,
    draws: int = DRAWS,
    memory_limit: int | None = None,
    allow_partial: bool = False,
    predictions: bool = False,
    out: str | Path | None = None,
) -> Plan:
    """Settle everything that decides the numbers of a run; attributes are read, and no rows.

    Parameters
    ----------
    store, task, model, probe, recipe, fold, draws, memory_limit, allow_partial, predictions, out
        As for `probes.run_probe`.
    roles
        Splits for training, validation and testing.
    overrides
        Parameters of the probe that replace those of the recipe.

    Returns
    -------
    Plan
    """
    settings = {**recipe_settings(recipe, store.record(task), probe), **overrides}
    made = make_probe(probe_kind(probe), settings)
    spec: dict[str, Any] = {
        "version": SPEC_VERSION,
        "kind": probe,
        "recipe": recipe,
        "probe": made.recipe(),
        "draws": draws,
        "data": {role: describe(store, task, model, names) for role, names in roles.items()},
    }
    if pools(store, task, probe):
        spec["pooled"] = True
    if allow_partial:
        missing = open_rows(store, task, model).missing()
        spec |= {"blocks_missing": missing} if missing else {}
    folder = None if out is None else Path(out) / task / model / digest(spec)[:12]
    where = (draws, memory_limit, allow_partial, predictions, spec, folder)
    return Plan(store, task, model, probe, made, recipe, fold, roles, *where)


def plan_of(spec: Spec, out: str | Path | None) -> Plan:
    """Settle what a spec names.

    Parameters
    ----------
    spec
        The probe.
    out
        Folder for results.

    Returns
    -------
    Plan
    """
    given = arguments(spec, progress=False)
    store, task = given.pop("store"), given.pop("task")
    roles = split_roles(store.samples(task)["split"].unique(), spec.fold, given.pop("splits"))
    own = {name: given.pop(name) for name in ("probe", "recipe", "fold", "allow_partial", "predictions")}
    return make_plan(store, task, given.pop("model"), roles, given, **own, out=out)


def arguments(spec: Spec, progress: bool) -> dict[str, Any]:
    """Return the arguments of `probes.run_probe` that a spec stands for.

    Parameters
    ----------
    spec
        The probe.
    progress
        Whether to show progress bars.

    Returns
    -------
    dict
        Arguments by name; those beyond its own are parameters of the probe.
    """
    from embedstore.store import open_store

    kind = probe_kind(spec.probe)
    for name in spec.settings:
        if name in _OF_THE_RUN:
            raise InputError(
                f"settings of the probe {spec} hold {name!r}, which is no parameter of a probe. Settings are such as "
                "epochs or learning_rate; a run has the same splits and draws as all others of a sweep."
            )
    seed = {"seed": spec.seed} if kind.seeded and spec.seed is not None else {}
    return {
        "store": open_store(spec.store, mode="a" if spec.predictions else "r"),
        "task": spec.task,
        "model": spec.model,
        "probe": spec.probe,
        "recipe": spec.recipe,
        "fold": spec.fold,
        "splits": tested_on(spec.test),
        "allow_partial": spec.allow_partial,
        "predictions": spec.predictions,
        **seed,
        "progress": progress,
        **spec.settings,
    }


def pools(store: Store, task: str, kind: str) -> bool:
    """Return whether a probe reads the mean of each sample in place of its rows.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    kind
        Kind of probe.

    Returns
    -------
    bool
        True for probes on means, for tasks with labels of whole sequences.
    """
    from probes.networks import NETWORKS

    network = NETWORKS.get(probe_kind(kind).parameters.get("network", ""))
    return store.record(task).level == "sequence" and (network is None or network.needs == "pooled or rows")


def make_probe(kind: ProbeKind, settings: Mapping[str, Any]) -> Probe:
    """Make a probe; settings that only its network knows may stand beside the others.

    Parameters
    ----------
    kind
        What kind.
    settings
        Parameters by name. ``progress`` and ``device`` are left out for probes that know none.

    Returns
    -------
    Probe

    Raises
    ------
    InputError
        There is no parameter of such a name.
    """
    from probes.networks import NETWORKS

    known = set(kind.load()().get_params()) - set(kind.parameters)
    own = {name: value for name, value in settings.items() if name in known}
    others = {
        name: value for name, value in settings.items() if name not in known and name not in ("progress", "device")
    }
    network = NETWORKS.get(kind.parameters.get("network", ""))
    options = {} if network is None else {name: value for name, value in others.items() if name in network.defaults}
    for name in others:
        if name not in options:
            choices = known | (set() if network is None else set(network.defaults))
            raise InputError(f"the probe has no parameter {name!r}.{did_you_mean(name, choices)}")
    if options:
        own["options"] = {**(own.get("options") or {}), **options}
    return kind.make(own)
