"""What is given to the head of a tuned model beside its embedding: GC content and species of each sample.

Source: Boshar et al. 2024, who append the share of G and C, or the species as one 0 or 1 for each, to the mean
embedding of melting-point samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedstore.store import Store

    Columns = Mapping[str, NDArray[Any]]

NUMBERS = ("gc", "gc3", "gc_skew")
"""Augmentations that are a number of the coding sequence; see `embedstore.coding`."""

SPECIES = "species"
"""The augmentation that is a column of the sample table, one output for each species of the training samples."""


def augmentations(text: str | None) -> tuple[str, ...]:
    """Read which augmentations are wanted.

    Parameters
    ----------
    text
        Names of `NUMBERS` and `SPECIES`, joined by ``+``; None for none.

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        There is no such augmentation, or one is named twice.

    Examples
    --------
    >>> augmentations("gc+species")
    ('gc', 'species')
    """
    names = () if text is None else tuple(str(text).split("+"))
    for name in names:
        if name not in (*NUMBERS, SPECIES):
            known = (*NUMBERS, SPECIES)
            raise InputError(
                f"augment is {text!r}: there is no augmentation {name!r}.{did_you_mean(name, known)} Join several by "
                "+, as in gc+species."
            )
        if names.count(name) > 1:
            raise InputError(f"augment is {text!r}: {name!r} is named twice.")
    return names


def read_columns(store: Store, task: str, names: tuple[str, ...], coding_task: str | None = None) -> Columns:
    """Read what the augmentations of a task are made of.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    names
        From `augmentations`.
    coding_task
        Task of the same samples' coding sequences, which GC comes from where `task` is one of proteins; None (default):
        `task` itself.

    Returns
    -------
    dict of str to numpy.ndarray
        By augmentation, (sample,) for all samples of the task: float64, or text for species.

    Raises
    ------
    InputError
        The task has no species, or is one of proteins and no coding sequences are named, or those are of other samples.
    """
    from embedstore.coding import composition

    found: dict[str, NDArray[Any]] = {}
    numbers = [name for name in names if name != SPECIES]
    if numbers:
        source = coding_task or task
        if store.record(source).alphabet != "dna":
            raise InputError(
                f"{store.path}: task {source!r} holds proteins, which have no {numbers[0]}. Name the task of their "
                "coding sequences: coding_task (--coding-task)."
            )
        sequences = _in_order(store, task, source)
        found = {name: getattr(composition, name)(sequences)[:, 0] for name in numbers}
        bad = next((name for name, values in found.items() if not np.isfinite(values).all()), None)
        if bad is not None:
            first = store.sample_id(task, int(np.argmax(~np.isfinite(found[bad]))))
            raise InputError(
                f"{store.path}: task {source!r}, sample {first!r}: its {bad} is not defined, for want of letters to "
                "count. Leave the sample out, or choose another augmentation."
            )
    if SPECIES in names:
        table = store.samples(task)
        if SPECIES not in table:
            raise InputError(
                f"{store.path}: the sample table of task {task!r} has no column 'species', only "
                f"{', '.join(table.columns)}. Add the task with its species."
            )
        found[SPECIES] = table[SPECIES].to_numpy(dtype=object)
    return found


def _in_order(store: Store, task: str, source: str) -> list[NDArray[np.uint8]]:
    """Return the sequences of a task in the order of another that has the same ids."""
    if source == task:
        return store.sequences(task)
    ids, others = (store.samples(name)["id"].astype(str) for name in (task, source))
    missing = sorted(set(ids) - set(others))
    if missing:
        raise InputError(
            f"{store.path}: {len(missing):,} samples of task {task!r} are not in {source!r}, the first is "
            f"{missing[0]!r}: a coding sequence is found by the sample's id. Name the task they come from."
        )
    return store.sequences(source, store.indices(source, ids.tolist()))


class Augmentation(NamedTuple):
    """How the columns of samples become numbers: what was learnt of training samples.

    Attributes
    ----------
    mean, deviation
        By name, of the training samples; a number is given less the mean, over the deviation.
    species
        Those of the training samples, sorted; a sample of another one has 0 for all.
    """

    mean: dict[str, float]
    deviation: dict[str, float]
    species: tuple[str, ...] | None

    @classmethod
    def fit(cls, columns: Columns, samples: NDArray[np.int64]) -> Self:
        """Learn from training samples.

        Parameters
        ----------
        columns
            From `read_columns`.
        samples
            Indices of the training samples.

        Returns
        -------
        Augmentation
        """
        numbers = {name: values[samples] for name, values in columns.items() if name != SPECIES}
        mean = {name: float(values.mean()) for name, values in numbers.items()}
        # A number that is the same for all training samples says nothing, whatever it is divided by.
        deviation = {name: float(values.std()) or 1.0 for name, values in numbers.items()}
        kinds = tuple(sorted({str(one) for one in columns[SPECIES][samples]})) if SPECIES in columns else None
        return cls(mean, deviation, kinds)

    @property
    def width(self) -> int:
        """How many numbers a sample has."""
        return len(self.mean) + len(self.species or ())

    def numbers(self, columns: Columns) -> NDArray[np.float32]:
        """Return the numbers of samples.

        Parameters
        ----------
        columns
            From `read_columns`.

        Returns
        -------
        numpy.ndarray
            (sample, number) float32: standardised numbers, then a 0 or 1 for each species.
        """
        found = [(columns[name] - mean) / self.deviation[name] for name, mean in self.mean.items()]
        found += [columns[SPECIES].astype(str) == kind for kind in self.species or ()]
        return np.stack(found, axis=1).astype(np.float32)
