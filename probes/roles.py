"""Which splits of a task are for training, validation and testing, and that they are apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embedstore.errors import InputError, NotInStoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from embedstore.store import Store


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
    NotInStoreError
        The task has no such split.

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
            if name not in names:
                raise NotInStoreError(
                    f"the task has no split {name!r}, only {', '.join(names)}.{did_you_mean(name, names)}"
                )
            if used.count(name) > 1:
                raise InputError(f"split {name!r} is used twice; training and test samples must be apart: {roles}")
        return roles
    parts = sorted((name for name in names if re.fullmatch(r"part\d+", name)), key=lambda name: int(name[4:]))
    if fold is None:
        if {"train", "valid", "test"} <= set(names):
            return {role: [role] for role in ("train", "valid", "test")}
        cure = f"give fold, 1 to {len(parts)}" if len(parts) >= 3 else "say which to use by splits (--test)"
        raise InputError(f"the task has the splits {', '.join(names)}, not train, valid and test: {cure}")
    if len(parts) < 3 or not 1 <= fold <= len(parts):
        raise InputError(
            f"fold {fold} is not possible: folds are 1 to the number of splits part1, part2, ..., at least 3; the "
            f"task's splits are {', '.join(names)}"
        )
    test, valid = parts[fold - 1], parts[fold % len(parts)]
    return {"train": [part for part in parts if part not in (test, valid)], "valid": [valid], "test": [test]}


def tested_on(test: str | Sequence[str] | None) -> dict[str, str | list[str]] | None:
    """Return the splits of a probe that is tested on named ones, as `split_roles` takes them.

    Parameters
    ----------
    test
        What is not called test, such as ``"CASP12"``; None: the usual splits.

    Returns
    -------
    dict or None

    Examples
    --------
    >>> tested_on("CASP12")
    {'train': 'train', 'valid': 'valid', 'test': 'CASP12'}
    """
    if test is None:
        return None
    return {"train": "train", "valid": "valid", "test": test if isinstance(test, str) else list(test)}


def several_tests(splits: Iterable[str]) -> list[str]:
    """Return the splits that a task has for testing where none is called test: all but train and valid.

    Parameters
    ----------
    splits
        Names of the task's splits; samples without one have the name ``""``.

    Returns
    -------
    list of str
        Sorted; empty where there are the usual splits, or no training and validation samples.

    Examples
    --------
    >>> several_tests(["train", "valid", "TS115", "CASP12"]), several_tests(["train", "valid", "test"])
    (['CASP12', 'TS115'], [])
    """
    known = {name for name in splits if name}
    return sorted(known - {"train", "valid"}) if {"train", "valid"} <= known and "test" not in known else []


def check_regions(store: Store, task: str, roles: Mapping[str, Sequence[str]]) -> None:
    """Refuse roles of which two hold the same region of a genome.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    roles
        From `split_roles`.

    Raises
    ------
    InputError
        A region is in two of them. Samples that were not cut from a genome are not compared.
    """
    table = store.samples(task)
    role_of = {name: role for role, names in roles.items() for name in names}
    known = table[(table["chromosome"] != "") & table["split"].isin(list(role_of))]
    known = known.assign(role=known["split"].map(role_of))
    place = ["chromosome", "start", "end"]  # either strand: one is the other's reverse complement
    both = known.groupby(place, sort=False)["role"].transform("nunique") > 1
    # Variants come as pairs of alleles of one region; they have no labels and no splits, and never get here.
    if both.any():
        first = known[both].sort_values(place, kind="stable").iloc[:2]
        one, other = (f"{row.id!r} ({row.split})" for row in first.itertuples())
        where = "{chromosome}:{start}-{end}".format(**first.iloc[0])
        raise InputError(
            f"{store.path}: task {task!r}: {int(both.sum()):,} samples are in more than one of training, "
            f"validation and test; the first are {one} and {other}, both {where}. Give each region one split."
        )
