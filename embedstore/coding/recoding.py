"""Tasks recoded with a codon strategy: the same samples and labels, other codons."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedstore.coding.strategies import consensus, parse_strategy, recode
from embedstore.coding.usage import ALL, codon_usage
from embedstore.digests import sequence_digest, table_digest
from embedstore.errors import InputError, did_you_mean
from embedstore.tasks.coding_rows import UNKNOWN_SPECIES
from embedstore.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.store import Store

TRAIN = "train"
"""The split from which codon usage is estimated."""


def recoded_name(task: str, strategy: str, seed: int = 0) -> str:
    """Return what a recoded task is called.

    Parameters
    ----------
    task
        Name of the task it comes from.
    strategy
        A codon strategy, with its parameter.
    seed
        Default 0.

    Returns
    -------
    str
        ``{task}.{strategy}.seed{seed}``, without the characters that names in a store cannot have; for ``"true"`` the
        name of the task.

    Raises
    ------
    InputError
        There is no such strategy.

    Examples
    --------
    >>> recoded_name("melting_point", "window_permuted(8)"), recoded_name("melting_point", "true")
    ('melting_point.window_permuted-8.seed0', 'melting_point')
    """
    found, argument = parse_strategy(strategy)
    if found.name == "true":
        return task
    argument = re.sub(r"[^A-Za-z0-9_.-]", "_", argument)
    return f"{task}.{found.name}{f'-{argument}' if argument else ''}.seed{seed}"


def recoded_task(
    task: Task,
    strategy: str,
    *,
    seed: int = 0,
    table: str | int = "transl_table",
    species: str = "species",
    usage: pd.DataFrame | None = None,
    parent: NDArray[np.uint8] | Literal["consensus"] | None = None,
) -> Task:
    """Recode the coding sequences of a task.

    Parameters
    ----------
    task
        Its sequences are whole codons. A column ``has_start`` says which begin with their start codon, where there is
        one; see `embedstore.coding.recode`.
    strategy
        A codon strategy, with its parameter; see `embedstore.coding.STRATEGIES`.
    seed
        Default 0.
    table
        The column that holds the genetic code of each sample (default ``"transl_table"``), or one genetic code for all.
    species
        The column that holds the species of each sample, default ``"species"``.
    usage
        Codon usage, a row per species. By default it is estimated from the train samples (split ``"train"``) with one
        pseudocount per codon: of each species for ``freq_species`` and ``transplant``, of all for ``freq_global``. It
        is never estimated from samples that are predicted.
    parent
        The sequence of which all are variants, for shared strategies; or ``"consensus"``, the commonest codon at each
        place.

    Returns
    -------
    Task
        With the ids, splits, labels and columns of the task, called `recoded_name`; its source says kind ``recoded``,
        strategy, seed, and digests of what it was made from. For ``"true"``, the task itself.

    Raises
    ------
    InputError
        The task is of proteins, a column is missing, a species that is asked for has no train samples, or a sequence
        cannot be recoded.
    """
    found, argument = parse_strategy(strategy)
    if found.name == "true":
        return task
    if task.record.alphabet != "dna":
        raise InputError(f"task {task.name!r} is of proteins, which have no codons: recode the task of their CDS.")
    sequences = task.sequences(0, len(task.samples))
    if "parent" not in found.needs:
        parent = None
    elif isinstance(parent, str):
        parent = consensus(sequences)
    tables = _tables(task, table)
    kinds = _species(task, species, found.name, estimated=usage is None)
    new: dict[int, NDArray[np.uint8]] = {}
    used: dict[str, str] = {}
    for one in np.unique(tables).tolist():
        rows = np.flatnonzero(tables == one).tolist()
        options = _options(task.samples.iloc[rows], None if kinds is None else [kinds[row] for row in rows])
        if "usage" in found.needs:
            wanted = [argument] if argument else sorted(set(options["species"] or [ALL]))
            options["usage"] = _train_usage(task, sequences, wanted, kinds, one) if usage is None else usage
            used[str(one)] = table_digest(options["usage"].reset_index())
        part = [sequences[row] for row in rows]
        try:
            new |= zip(rows, recode(part, strategy, seed=seed, table=one, parent=parent, **options), strict=True)
        except InputError as error:
            raise InputError(f"task {task.name!r}: {error}") from None
    recoded = [new[row] for row in range(len(sequences))]
    source: dict[str, object] = {
        "kind": "recoded",
        "task": task.name,
        "strategy": f"{found.name}({argument})" if argument else found.name,
        "seed": seed,
        "sequence_digest": sequence_digest(task.samples["length"].to_numpy(np.int64), sequences),
        "transl_table": table,
        **({"usage": TRAIN if usage is None else "given", "usage_sha256": used} if used else {}),
        **({} if parent is None else {"parent": parent.tobytes().decode()}),
        "source": task.source,
    }
    name = recoded_name(task.name, strategy, seed)
    return replace(task, name=name, sequences=lambda start, stop: recoded[start:stop], source=source)


def stored_task(store: Store, name: str) -> Task:
    """Return a task that a store holds, as it was added.

    Parameters
    ----------
    store
        Where it is.
    name
        Its name there.

    Returns
    -------
    Task
        Its sequences are read from the store when they are asked for.

    Raises
    ------
    NotInStoreError
        The store has no such task.
    """
    variants = store.variants(name) if "variants" in store.task_digests(name) else None
    return Task(
        name,
        store.record(name),
        store.samples(name),
        store.labels(name),
        lambda start, stop: store.sequences(name, np.arange(start, stop)),
        dict(store.task_attributes(name)["source"]),
        variants,
    )


def _column(task: Task, name: str, what: str) -> pd.Series:
    """Return a column of the sample table."""
    if name not in task.samples:
        raise InputError(
            f"task {task.name!r} has no column {name!r}, which is to hold the {what} of each sample."
            f"{did_you_mean(name, task.samples.columns)}"
        )
    return task.samples[name]


def _species(task: Task, column: str, strategy: str, *, estimated: bool) -> list[str] | None:
    """Return the species of each sample, where the usage of its own is asked for or is to be estimated; else None."""
    if strategy != "freq_species" and not (strategy == "transplant" and estimated):
        return None
    kinds: list[str] = _column(task, column, "species").astype(str).tolist()
    unknown = kinds.count(UNKNOWN_SPECIES)
    if strategy == "freq_species" and estimated and unknown:
        raise InputError(
            f"task {task.name!r}: {unknown:,} of {len(kinds):,} samples are of species {UNKNOWN_SPECIES!r}, the first "
            f"{task.samples['id'].iloc[kinds.index(UNKNOWN_SPECIES)]!r}, so there is no usage of their own to draw "
            "with. Add the task with its species (embedstore coding --species), or use freq_global."
        )
    return kinds


def _tables(task: Task, table: str | int) -> NDArray[np.int64]:
    """Return the genetic code of each sample."""
    if isinstance(table, int | np.integer):
        return np.full(len(task.samples), int(table))
    try:
        column = _column(task, table, "genetic code")
    except InputError as error:
        raise InputError(f"{error} Where all samples have the same, pass its number: table=1, or --table 1.") from None
    if column.dtype.kind not in "iu":
        raise InputError(
            f"task {task.name!r}: column {table!r} is to hold numbers of genetic codes; it holds {column.dtype}, first "
            f"{column.iloc[0]!r}."
        )
    return column.to_numpy(np.int64)


def _train_usage(
    task: Task, sequences: Sequence[NDArray[np.uint8]], wanted: list[str], kinds: list[str] | None, table: int
) -> pd.DataFrame:
    """Estimate codon usage from the train samples, read with one genetic code."""
    train = np.flatnonzero(task.samples["split"] == TRAIN).tolist()
    groups = [ALL if kinds is None else kinds[row] for row in train]
    missing = [group for group in wanted if group not in groups]
    if missing:
        raise InputError(
            f"task {task.name!r} has no samples of split {TRAIN!r} to estimate the codon usage of "
            f"{', '.join(map(repr, missing[:5]))} from.{did_you_mean(missing[0], set(groups))} Pass usage= (--usage), "
            "as embedstore.coding.codon_usage makes it."
        )
    return codon_usage([sequences[row] for row in train], groups, table=table)


def _options(samples: pd.DataFrame, species: list[str] | None) -> dict[str, Any]:
    """Return what `recode` is to know of some samples."""
    options: dict[str, Any] = {"ids": samples["id"].tolist(), "species": species}
    if "has_start" in samples and samples["has_start"].dtype.kind == "b":
        options["has_start"] = samples["has_start"].tolist()
    return options
