"""Tasks in which one protein has several coding sequences: with all of them, with one of each, and with their mean.

Boshar et al. 2024 make two tasks of one set of TEM-1 variants: *complete*, every coding sequence, and *unique*, one
coding sequence per protein, with one test set for both. How they drew them is not published; here every step follows
from a seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError, check_seed
from embedstore.tasks.coding_differences import differences
from embedstore.tasks.coding_rows import protein_digest
from embedstore.tasks.published import publication
from embedstore.tasks.records import names
from embedstore.tasks.records import record as find_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.tasks.coding import CodingData

_BETA_LACTAMASE = "beta_lactamase"
_VALID = 0.2


class DegenerateSets(NamedTuple):
    """The tasks made of one set of variants.

    Attributes
    ----------
    unique : CodingData
        One coding sequence per protein.
    complete : CodingData
        All coding sequences, but those of proteins in the test set: its test samples are those of ``unique``.
    averaged : CodingData
        As ``unique``, with the mean label over the coding sequences of a protein, as PEER has it.
    manifest : dict
        Seed, counts, the sha256 of each set, and the proteins of the test set, as data that JSON can hold.
    """

    unique: CodingData
    complete: CodingData
    averaged: CodingData
    manifest: dict[str, Any]


def unique_and_complete(
    data: CodingData, *, seed: int = 0, test: float = 0.2, valid: float = _VALID, group_val: bool = False
) -> DegenerateSets:
    """Make the unique, the complete and the averaged task of one set of variants.

    Samples with the same coding sequence are replicates: one stays, with their mean label. One coding sequence is drawn
    for each protein, all alike; of these, a share is for testing. Nothing depends on the order of the input.

    Parameters
    ----------
    data
        Coding sequences with one number each; their splits are passed over.
    seed
        Of every draw.
    test
        Share of the proteins that is for testing; 0.2 by default.
    valid
        Share of the others that is for validation; 0.2 by default. The rest is rounded down for training: 5,402
        proteins become 3,457, 865 and 1,080, as published.
    group_val
        Whether a protein of the complete task must not be in training and validation samples both. False (default): it
        may, as published.

    Returns
    -------
    DegenerateSets

    Raises
    ------
    InputError
        If the labels are not one number per sample, a share is not between 0 and 1, or a split would be empty.

    Notes
    -----
    The unique set has as many samples as there are proteins: adding any other sample would repeat one.
    """
    for name, share in (("test", test), ("valid", valid)):
        if not 0 < share < 1:
            raise InputError(f"{name} is {share}; a share between 0 and 1 is wanted.")
    check_seed(seed)
    table = _without_replicates(data)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = table.iloc[rng.permutation(len(table))].drop_duplicates("protein").index
    shuffled = rng.permutation(np.sort(drawn.to_numpy()))
    tested, others = np.split(shuffled, [int(test * len(shuffled))])
    unique = _split(table.loc[np.sort(shuffled)], tested, others, valid)
    pool = np.flatnonzero(~table["protein"].isin(table.loc[tested, "protein"]))
    if group_val:
        proteins = table["protein"].to_numpy()
        kept = set(rng.permutation(np.unique(proteins[pool]))[: _size(len(np.unique(proteins[pool])), valid)])
        complete = table.loc[np.sort(np.concatenate([pool, tested]))]
        part = np.where(complete["protein"].isin(kept), "train", "valid")
        complete = complete.assign(split=np.where(complete.index.isin(tested), "test", part))
    else:
        complete = _split(table.loc[np.sort(np.concatenate([pool, tested]))], tested, rng.permutation(pool), valid)
    means = table.groupby("protein")["label"].mean()
    averaged = unique.assign(label=unique["protein"].map(means))
    sets = {"unique": unique, "complete": complete, "averaged": averaged}
    for name, made in sets.items():
        if set(made["split"]) != {"train", "valid", "test"}:
            raise InputError(
                f"{len(shuffled):,} proteins are too few: the {name} set has no {_missing(made)} samples. Give more "
                "variants, or other shares."
            )
    found = {name: _named(data, name, made, seed) for name, made in sets.items()}
    manifest = {
        "seed": seed,
        "test": test,
        "valid": valid,
        "group_val": group_val,
        "samples": len(data.table),
        "coding_sequences": len(table),
        "proteins": len(shuffled),
        "counts": {name: _counted(made) for name, made in sets.items()},
        "sha256": {name: _digest(made) for name, made in sets.items()},
        "test_proteins": sorted(protein_digest(protein) for protein in table.loc[tested, "protein"]),
    }
    return DegenerateSets(**found, manifest=manifest)


def split_by_differences(
    data: CodingData, parent: str, *, at_most: int = 3, valid: float = _VALID, seed: int = 0
) -> CodingData:
    """Keep one coding sequence per protein, and test on those that are furthest from their parent.

    Parameters
    ----------
    data
        Coding sequences of variants of one parent; their splits are passed over.
    parent
        The parent's protein, without its stop.
    at_most
        Residues that differ from the parent in training and validation samples, at most; 3 by default, as in TAPE (Rao
        et al. 2019) for fluorescence. All others are test samples.
    valid
        Share of the training samples that is for validation; 0.2 by default.
    seed
        Of every draw.

    Returns
    -------
    CodingData
        With a column ``differences``, how many residues differ.

    Raises
    ------
    InputError
        If a protein has another length than the parent.
    """
    table = _without_replicates(data)
    odd = table["protein"].str.len() != len(parent)
    if odd.any():
        first = table[odd].iloc[0]
        raise InputError(
            f"{data.record.name}: {int(odd.sum()):,} proteins are not as long as the parent's {len(parent)} residues; "
            f"the first is {first['id']!r}, {len(first['protein'])}. Variants with substitutions only are wanted."
        )
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = table.iloc[rng.permutation(len(table))].drop_duplicates("protein").sort_index()
    letters = np.array([list(protein.encode()) for protein in drawn["protein"]], np.uint8)
    drawn = drawn.assign(differences=(letters != np.frombuffer(parent.encode(), np.uint8)).sum(axis=1))
    far = drawn.index[drawn["differences"] > at_most].to_numpy()
    near = rng.permutation(drawn.index[drawn["differences"] <= at_most].to_numpy())
    return _named(data, None, _split(drawn, far, near, valid), seed)


def label_noise_ceiling(data: CodingData) -> pd.DataFrame:
    """Say how well the best predictor that sees only the protein could do.

    Parameters
    ----------
    data
        Coding sequences with one number each, several for some proteins.

    Returns
    -------
    pandas.DataFrame
        One row per split, and ``all``: samples, proteins, several (proteins with several samples), sd (of the labels),
        sd_within (of the labels of one protein, pooled over proteins), r2 (1 - their squared ratio: what the true mean
        of each protein would reach), and spearman, of the labels against the mean of their protein in these samples.
        The last is too high where proteins have few samples, since each is part of its own mean. NaN where nothing
        repeats.
    """
    import pandas as pd

    if data.record.level != "sequence":
        raise InputError(
            f"record {data.record.name!r} is of level {data.record.level!r}; one number per sample is wanted."
        )
    parts = {"all": data.table, **dict(tuple(data.table.groupby("split", sort=False)))}
    return pd.DataFrame([{"split": name, **_ceiling(part)} for name, part in parts.items()])


def _ceiling(table: pd.DataFrame) -> dict[str, float]:
    """Return a row of :func:`label_noise_ceiling`."""
    label = table["label"].astype(float)
    grouped = label.groupby(table["protein"])
    means, sizes = grouped.transform("mean"), grouped.size()
    free = int((sizes - 1).sum())
    within = float(((label - means) ** 2).sum() / free) if free else float("nan")
    total = float(label.var(ddof=1))
    varied = bool(free) and label.min() < label.max() and means.min() < means.max()
    return {
        "samples": len(table),
        "proteins": len(sizes),
        "several": int((sizes > 1).sum()),
        "sd": total**0.5,
        "sd_within": within**0.5,
        "r2": 1 - within / total if total > 0 else float("nan"),
        "spearman": float(label.rank().corr(means.rank())) if varied else float("nan"),
    }


def _without_replicates(data: CodingData) -> pd.DataFrame:
    """Return one row per coding sequence with the mean label, in the order of the sequences."""
    if data.record.level != "sequence":
        raise InputError(
            f"record {data.record.name!r} is of level {data.record.level!r}; one number per sample is wanted."
        )
    table = data.table.sort_values(["cds", "id"], kind="stable")
    means = table.groupby("cds", sort=False)["label"].transform("mean")
    return table.assign(label=means).drop_duplicates("cds").reset_index(drop=True)


def _size(many: int, valid: float) -> int:
    """Return how many of some samples are for training."""
    return int((1 - valid) * many)


def _split(table: pd.DataFrame, tested: NDArray[np.int64], others: NDArray[np.int64], valid: float) -> pd.DataFrame:
    """Name the splits of rows given by their index: those tested, the first of the others for training, the rest."""
    train = others[: _size(len(others), valid)]
    part = np.where(table.index.isin(train), "train", "valid")
    return table.assign(split=np.where(table.index.isin(tested), "test", part))


def _named(data: CodingData, kind: str | None, table: pd.DataFrame, seed: int) -> CodingData:
    """Return a set under the record it belongs to."""
    record = data.record
    if kind is not None:
        published = record.name.startswith(_BETA_LACTAMASE) and f"{_BETA_LACTAMASE}_{kind}" in names()
        base = _BETA_LACTAMASE if record.name.startswith(_BETA_LACTAMASE) else record.name
        record = find_record(f"{base}_{kind}") if published else replace(record, name=f"{base}_{kind}")
    table = table.reset_index(drop=True)
    known = publication(record.name) if record.name in names() else None
    source = {**data.source, "made": kind or "split_by_differences", "made_seed": seed}
    return data._replace(record=record, table=table, differences=differences(table, record, known), source=source)


def _missing(table: pd.DataFrame) -> str:
    return " and no ".join(name for name in ("train", "valid", "test") if not (table["split"] == name).any())


def _counted(table: pd.DataFrame) -> Mapping[str, int]:
    return {name: int((table["split"] == name).sum()) for name in ("train", "valid", "test")}


def _digest(table: pd.DataFrame) -> str:
    """Return the sha256 of splits, coding sequences and labels, in order."""
    lines = (f"{row.split}\t{row.cds}\t{row.label!r}\n" for row in table.itertuples())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
