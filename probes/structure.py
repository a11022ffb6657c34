"""How well secondary structure is predicted: what papers report of it, for each test set by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from embedstore.errors import InputError
from probes.intervals import bootstrap_sums, interval
from probes.metrics import accuracy, confusions, ratio
from probes.residues import letters_per_residue
from probes.targets import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from probes.base import Probe
    from probes.dataset import ProbeData

    _Prepare = Callable[[NDArray[Any]], NDArray[Any]]
    _Measure = Callable[[NDArray[Any]], NDArray[np.float64]]

THREE_STATES = dict(zip("GHIBESTC", "HHHEECCC", strict=True))
"""Class of DSSP's eight -> helix (H), strand (E) or coil (C), as NetSurfP-2.0 (Klausen et al. 2019) joins them."""

NOTHING = (float("nan"), float("nan"))
"""Interval of a test set without labels."""


def structure_table(
    probe: Probe,
    data: ProbeData,
    split: ArrayLike,
    *,
    majority: int,
    mask: Sequence[NDArray[np.bool_]] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test a probe of secondary structure on each test set by itself; test sets are never pooled.

    A residue counts once, whatever the number of its nucleotides; its prediction is the class with the largest mean
    output over them.

    Parameters
    ----------
    probe
        Any probe of a task with a class of each nucleotide (coding sequences) or residue (proteins).
    data
        The samples of all test sets.
    split
        (sample,) name of the test set of each sample, in the order of `data.samples`.
    majority
        Index of the most frequent class in training, as `probes.slots.SlotProbe.majority_` has it.
    mask
        For each sample, (residue,) whether the evaluation mask counts the residue. With it everything is reported
        twice: of all labelled residues, and of those that the mask counts. Default: of all labelled residues.
    draws, seed
        Bootstrap draws of proteins behind the intervals, default 1000, and the seed of their random numbers, default 0.

    Returns
    -------
    pandas.DataFrame
        A row for each test set, choice of residues and measure: test_set; residues, ``"labelled"`` or ``"evaluation
        mask"``; measure; value, low, high (95 %); n_residues, n_proteins. Measures are ``accuracy`` over all residues
        of the set (what is published), ``accuracy_per_protein``, the mean over proteins, ``q3``, accuracy after joining
        the classes to helix, strand and coil, ``majority``, the share of the most frequent class in training, and
        ``f1_G`` and so on, NaN where a class neither is there nor is predicted.

    Raises
    ------
    InputError
        The classes are not DSSP's, or there is not one test set, or one mask of the right length, for each sample.

    Notes
    -----
    Sources: accuracy over residues of one set, TAPE (Rao et al. 2019) and NetSurfP-2.0 (Klausen et al. 2019); the
    bootstrap over proteins, as in `probes.intervals`.
    """
    sets = np.asarray(split, dtype=str)
    if sets.shape != data.samples.shape:
        raise InputError(f"{data!r}: {sets.shape} names of test sets for {len(data):,} samples; each needs one.")
    measures = _measures(data.targets.names, majority)
    rows = []
    for chosen, counts in _confusions(probe, data, mask).items():
        for test_set in dict.fromkeys(sets.tolist()):
            own = counts[sets == test_set]
            own = own[own.any(axis=(1, 2))]  # a protein without such residues says nothing
            for name, (prepare, function) in measures.items():
                sums = prepare(own)
                low, high = interval(bootstrap_sums(sums, function, draws=draws, seed=seed)) if len(own) else NOTHING
                value = float(function(sums.sum(axis=0)))
                rows.append((test_set, chosen, name, value, low, high, int(own.sum()), len(own)))
    columns = ["test_set", "residues", "measure", "value", "low", "high", "n_residues", "n_proteins"]
    return pd.DataFrame(rows, columns=columns)


def _measures(names: Sequence[str], majority: int) -> dict[str, tuple[_Prepare, _Measure]]:
    """Return for each measure what it needs of each protein, and the measure of sums of that."""
    unknown = [name for name in names if name not in THREE_STATES]
    if unknown:
        raise InputError(
            f"the classes {', '.join(names)} are not those of DSSP ({', '.join(THREE_STATES)}): {unknown[0]!r} has no "
            "place among helix, strand and coil."
        )
    if not 0 <= majority < len(names):
        raise InputError(f"majority is {majority}; it must be the index of one of {len(names)} classes.")
    states = np.array([[THREE_STATES[name] == state for state in "HEC"] for name in names], np.int64)
    measures: dict[str, tuple[_Prepare, _Measure]] = {
        "accuracy": (_same, accuracy),
        "accuracy_per_protein": (_shares, _mean),
        "q3": (lambda counts: states.T @ counts @ states, accuracy),
        "majority": (_same, partial(_share_of, majority)),
    }
    return measures | {f"f1_{name}": (_same, partial(_f1, place)) for place, name in enumerate(names)}


def _same(counts: NDArray[Any]) -> NDArray[Any]:
    return counts


def _shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the accuracy of each protein, and 1 to count it."""
    return np.stack([accuracy(counts), np.ones(len(counts))], axis=1)


def _mean(sums: NDArray[Any]) -> NDArray[np.float64]:
    return ratio(sums[..., 0], sums[..., 1])


def _share_of(place: int, sums: NDArray[Any]) -> NDArray[np.float64]:
    """Return the share of residues that are of a class."""
    return ratio(sums[..., place, :].sum(axis=-1), sums.sum(axis=(-2, -1)))


def _f1(place: int, sums: NDArray[Any]) -> NDArray[np.float64]:
    """Return the harmonic mean of precision and recall of a class."""
    found = sums[..., place, :].sum(axis=-1) + sums[..., :, place].sum(axis=-1)
    return ratio(2 * sums[..., place, place], found)


def _confusions(
    probe: Probe, data: ProbeData, mask: Sequence[NDArray[np.bool_]] | None
) -> dict[str, NDArray[np.int64]]:
    """Count true and predicted classes of residues, (sample, true, predicted), for each choice of residues."""
    letters, classes = letters_per_residue(data.record), len(data.targets.names)
    residues = data.targets.lengths[data.samples] // letters
    if mask is not None and [len(one) for one in mask] != residues.tolist():
        raise InputError(
            f"{data!r}: the mask has {len(mask)} samples of {[len(one) for one in mask][:5]}... residues; wanted are "
            f"{len(data)} of {residues[:5].tolist()}... (letters / {letters}), in the order of the samples."
        )
    chosen = ["labelled"] if mask is None else ["labelled", "evaluation mask"]
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in chosen}
    done = 0
    for part, output in probe.outputs(data):
        said = output.float().cpu().numpy().reshape(-1, letters, classes).mean(axis=1).argmax(axis=1)
        label = part.target.numpy()[::letters]
        many = len(part.samples)
        owner = np.repeat(np.arange(many), residues[done : done + many])
        found["labelled"].append(confusions(owner, label, said, many, classes))
        if mask is not None:
            hidden = np.where(np.concatenate(list(mask[done : done + many])), label, UNLABELLED)
            found["evaluation mask"].append(confusions(owner, hidden, said, many, classes))
        done += many
    return {name: np.concatenate(counts) for name, counts in found.items()}
