"""Every task with every model, probe, recipe, fold and seed: what a sweep is to run, checked before anything runs."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import EmbedstoreError, IncompleteError, InputError, did_you_mean
from probes.specs import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from embedstore.rows import Embedding
    from embedstore.store import Store
    from embedstore.tasks import TaskRecord

logger = logging.getLogger(__name__)


class LeftOut(NamedTuple):
    """A combination that was asked for and cannot be.

    Attributes
    ----------
    spec
        The combination.
    reason
        Why it cannot be.
    """

    spec: Spec
    reason: str


class Asked(NamedTuple):
    """What is to be combined with what; see `make_specs`."""

    tasks: Sequence[str]
    models: Sequence[str] = ("all",)
    probes: Sequence[str] = ("cnn",)
    recipes: Sequence[str] = ("bend",)
    folds: Sequence[int] | None = None
    seeds: Sequence[int] = (0,)
    settings: Mapping[str, Any] = {}
    allow_partial: bool = False
    predictions: bool = False
    tests: Sequence[str] | None = None


def make_specs(
    store: Store | str | Path,
    tasks: str | Sequence[str],
    models: str | Sequence[str],
    probes: str | Sequence[str] = ("cnn",),
    recipes: str | Sequence[str] = ("bend",),
    *,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Any] | None = None,
    allow_partial: bool = False,
    predictions: bool = False,
    tests: Sequence[str] | None = None,
) -> list[Spec]:
    """Combine every task with every model, probe, recipe, fold or test split, and seed.

    What cannot be is left out, and a warning says what and why: a network that reads letters on an embedding, a
    network for whole sequences on a task of nucleotides, an embedding of which only means are kept for a probe that
    needs rows, more seeds than one for a probe that draws nothing.

    Parameters
    ----------
    store
        A store that has a path or an address, or either of these.
    tasks
        Names of tasks in the store.
    models
        Names of embeddings in the store, of baselines (``"onehot"``, ``"kmer1"`` to ``"kmer6"``, ``"gc"``), or
        ``"all"`` for every embedding of the task.
    probes
        Kinds of probes, default ``("cnn",)``.
    recipes
        Where the settings of training come from, default ``("bend",)``.
    folds
        Parts to test on, for tasks whose splits are part1, part2, ...; None (default) is all of them.
    seeds
        One probe is trained for each, default ``(0,)``.
    settings
        Parameters of the probes that replace those of the recipe.
    allow_partial
        Use the samples that are embedded where some are not yet.
    predictions
        Write down what the probes predict for the test samples.
    tests
        Splits to test on, for tasks with several, such as ``["CASP12", "CB513"]``: a probe for each. None (default):
        the one called test; where a task has none, all others than train and valid.

    Returns
    -------
    list of Spec
        Each once, by task, model, probe, recipe, fold or test split, and seed in the order given.

    Raises
    ------
    NotInStoreError
        The store has no such task or model.
    IncompleteError
        An embedding has blocks that are not embedded yet, and `allow_partial` is False.
    InputError
        A name or a number is not possible, or nothing is left that is.
    """
    asked = Asked(
        _several(tasks),
        _several(models),
        _several(probes),
        _several(recipes),
        None if folds is None else list(folds),
        list(seeds),
        settings or {},
        allow_partial,
        predictions,
        None if tests is None else _several(tests),
    )
    found, left_out = combine(store, [asked])
    for line in reasons(left_out):
        logger.warning("%s", line)
    return found


def combine(
    store: Store | str | Path, several: Sequence[Asked], where: Callable[[int, str, object], str] = lambda *_: ""
) -> tuple[list[Spec], list[LeftOut]]:
    """Make the specs of several sets of combinations, each once.

    Parameters
    ----------
    store
        As for `make_specs`.
    several
        What is asked for.
    where
        Says in which line of a file a value stands: called with the place in `several`, the name of the field and the
        value.

    Returns
    -------
    specs : list of Spec
    left_out : list of LeftOut
        Combinations that cannot be.

    Raises
    ------
    EmbedstoreError
        As `make_specs`.
    """
    from embedstore.store import Store, open_store

    opened = store if isinstance(store, Store) else open_store(store)
    address = store_address(opened)
    found: dict[str, Spec] = {}
    left_out: list[LeftOut] = []
    asked_for = 0
    for number, asked in enumerate(several):
        made: list[Spec] = []
        for spec, reason in _product(opened, address, asked, partial(where, number)):
            if reason:
                left_out.append(LeftOut(spec, reason))
            else:
                made.append(spec)
        if not made:
            raise InputError(f"{where(number, 'tasks', None)}nothing is left to run. {' '.join(reasons(left_out))}")
        found |= {json.dumps(spec.to_dict(), sort_keys=True): spec for spec in made}
        asked_for += len(made)
    if asked_for > len(found):
        logger.info("%d probes were asked for more than once", asked_for - len(found))
    return list(found.values()), left_out


def reasons(left_out: Iterable[LeftOut]) -> list[str]:
    """Say what was left out and why, in one line for each reason.

    Parameters
    ----------
    left_out
        Combinations that cannot be.

    Returns
    -------
    list of str
    """
    counts = Counter(reason for _, reason in left_out)
    return [f"Left out, {many} of what was asked for: {reason}." for reason, many in counts.items()]


def store_address(store: Store | str) -> str:
    """Return the absolute path or the address of a store, by which any process can open it.

    Parameters
    ----------
    store
        The store, its path or its address.

    Returns
    -------
    str

    Raises
    ------
    InputError
        The store is in the memory of this process.
    """
    from embedstore.workers import embed_spec

    return embed_spec(store, "", {}).store


def _several(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Put a place in a file before the message of an error."""
    try:
        yield
    except EmbedstoreError as error:
        if not place:
            raise
        raise type(error)(f"{place}{error}") from error


def _product(
    store: Store, address: str, asked: Asked, where: Callable[[str, object], str]
) -> Iterator[tuple[Spec, str]]:
    """Yield every combination, with the reason where it cannot be."""
    _check(asked, where)
    splits_of: dict[str, list[str]] = {}
    for task in asked.tasks:
        with _at(where("tasks", task)):
            splits_of[task] = list(store.samples(task)["split"].unique())
    _check_tests(splits_of, asked, where)
    for task, splits in splits_of.items():
        record = store.record(task)
        parts = _parts(task, splits, asked, where)
        for model in _models(store, task, asked, where):
            with _at(where("models", model)):
                embedding = _complete(store, task, model, asked.allow_partial)
            for probe, recipe, part, seed in itertools.product(asked.probes, asked.recipes, parts, asked.seeds):
                fields = (dict(asked.settings), asked.allow_partial, asked.predictions, part.test)
                spec = Spec(address, task, model, probe, recipe, part.fold, seed, *fields)
                yield spec, _reason(spec, record, embedding, splits, asked)


def _check(asked: Asked, where: Callable[[str, object], str]) -> None:
    """Refuse what can be refused without a look at the store."""
    from probes.kinds import probe_kind
    from probes.planning import make_probe
    from probes.recipes import RECIPES

    for field in ("tasks", "models", "probes", "recipes", "seeds", "folds", "tests"):
        value = getattr(asked, field)
        if value is not None and not value:
            raise InputError(f"{where(field, None)}{field} is empty: name one or more.")
    for recipe in asked.recipes:
        if recipe not in RECIPES:
            raise InputError(f"{where('recipes', recipe)}there is no recipe {recipe!r}.{did_you_mean(recipe, RECIPES)}")
    for seed in asked.seeds:
        with _at(where("seeds", seed)):
            Spec.from_dict({"store": "", "task": "", "model": "", "seed": seed})
    for probe in asked.probes:
        with _at(where("probes", probe)):
            kind = probe_kind(probe)
        for name, value in asked.settings.items():
            with _at(where("settings", name)), _at(f"probe {probe!r}: "):
                Spec.from_dict({"store": "", "task": "", "model": "", "settings": {name: value}})
                make_probe(kind, {name: value})


def _models(store: Store, task: str, asked: Asked, where: Callable[[str, object], str]) -> list[str]:
    """Return the names of the models of a task that are asked for."""
    names = list(asked.models)
    if "all" in names:
        stored = store.models(task)
        if not stored:
            raise InputError(
                f"{where('models', 'all')}{store.path}: task {task!r} has no embedding yet. `embedstore embed {task} "
                f"--store {store.path} --model MODEL` adds one; baselines such as onehot need none."
            )
        place = names.index("all")
        names[place : place + 1] = stored
    return list(dict.fromkeys(names))


def _complete(store: Store, task: str, model: str, allow_partial: bool) -> Embedding:
    """Return an embedding; refuse one that is not complete."""
    from probes.reading import open_rows

    embedding = open_rows(store, task, model)
    missing = 0 if allow_partial else len(embedding.missing())
    if missing:
        raise IncompleteError(
            f"{store.path}: {task}/{model}: {missing} of {embedding.blocks} blocks are not embedded yet. `embedstore "
            f"embed {task} --model {model} --store {store.path}` adds them; allow_partial uses the samples that are "
            "there."
        )
    return embedding


class _Part(NamedTuple):
    """What a probe is tested on: the fold, or the split where a task has several; neither for the split test."""

    fold: int | None = None
    test: str | None = None


def _check_tests(splits_of: Mapping[str, Sequence[str]], asked: Asked, where: Callable[[str, object], str]) -> None:
    """Refuse a test split that none of the tasks has, and folds beside test splits."""
    if asked.tests is None:
        return
    if asked.folds is not None:
        raise InputError(f"{where('tests', None)}tests and folds both say what to test on: leave one of them out.")
    known = {name for splits in splits_of.values() for name in splits if name}
    for test in asked.tests:
        if test not in known:
            tasks = " and ".join(map(repr, splits_of))
            raise InputError(f"{where('tests', test)}there is no split {test!r} in {tasks}.{did_you_mean(test, known)}")


def _parts(task: str, splits: Sequence[str], asked: Asked, where: Callable[[str, object], str]) -> Sequence[_Part]:
    """Return what probes of a task are tested on."""
    from probes.roles import several_tests, split_roles, tested_on

    if asked.tests is not None:
        for test in set(asked.tests) & set(splits):
            with _at(where("tests", test)), _at(f"task {task!r}: "):
                split_roles(splits, None, tested_on(test))
        return [_Part(test=test) for test in dict.fromkeys(asked.tests)]
    others = several_tests(splits)
    if others and asked.folds is None and not any(re.fullmatch(r"part\d+", name) for name in others):
        return [_Part(test=test) for test in others]
    return [_Part(fold) for fold in _folds(task, splits, asked.folds, where)]


def _folds(
    task: str, splits: Sequence[str], wanted: Sequence[int] | None, where: Callable[[str, object], str]
) -> Sequence[int | None]:
    """Return the folds to run; None stands for a task that has none."""
    from probes.roles import split_roles

    if {"train", "valid", "test"} <= set(splits):
        return [None] if wanted is None else wanted
    if wanted is None:
        with _at(where("tasks", task)), _at(f"task {task!r}: "):
            parts = sum(re.fullmatch(r"part\d+", name) is not None for name in splits)
            split_roles(splits, 1 if parts >= 3 else None)
        return range(1, parts + 1)
    for fold in wanted:
        with _at(where("folds", fold)), _at(f"task {task!r}: "):
            Spec.from_dict({"store": "", "task": task, "model": "", "fold": fold})
            split_roles(splits, fold)
    return wanted


def _reason(spec: Spec, record: TaskRecord, embedding: Embedding, splits: Sequence[str], asked: Asked) -> str:
    """Say why a combination cannot be; empty where it can."""
    from probes.kinds import probe_kind
    from probes.networks import NETWORKS
    from probes.planning import pools

    kind = probe_kind(spec.probe)
    if spec.fold is not None and {"train", "valid", "test"} <= set(splits):
        return f"task {spec.task!r} has the splits train, valid and test, and no folds"
    if spec.test is not None and spec.test not in splits:
        return f"task {spec.task!r} has no split {spec.test!r}"
    if not kind.seeded and spec.seed != asked.seeds[0]:
        return f"probe {spec.probe!r} draws nothing: it is run for the first seed only"
    network = NETWORKS.get(kind.parameters.get("network", ""))
    if network is not None and network.needs == "onehot" and spec.model != "onehot":
        return f"probe {spec.probe!r} reads letters: model 'onehot', not {spec.model!r}"
    if network is not None and record.level not in network.levels:
        return f"probe {spec.probe!r} is not for tasks of level {record.level!r}, such as {spec.task!r}"
    if not embedding.keeps_rows and not pools(embedding.store, spec.task, spec.probe):
        return f"probe {spec.probe!r} needs rows; {spec.task}/{spec.model} holds the mean of each sample only"
    return ""
