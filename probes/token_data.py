"""Samples of a task as the tokens of a language model, in batches: what a model is tuned on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embedstore.errors import InputError, NotInStoreError, did_you_mean
from embedstore.selection import sample_pieces
from probes.augmentation import augmentations, read_columns
from probes.dataset import Part, ProbeData
from probes.reading import Source
from probes.targets import Targets
from probes.tuned import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from embedstore.models import Model
    from embedstore.models.windows import Piece
    from embedstore.store import Store

_TOGETHER = 1024  # samples that are cut into tokens at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenData(ProbeData):
    """Some samples of a task as tokens; made by `read_tokens`.

    Its parts hold token ids where those of `ProbeData` hold vectors, special tokens included, with a span of 0.

    Attributes
    ----------
    model
        The language model.
    pieces
        By sample, what the model sees of it.
    columns
        By augmentation, what it is made of, for all samples of the task.
    features
        (sample of the task, number) float32, what the head is given besides; None: nothing.
    tokens
        Most tokens of a part, or one longer sample.
    every
        Batches that a seeded pass yields, going on where the pass before it ended; None: all samples once.
    """

    model: Model
    pieces: Mapping[int, list[Piece]]
    columns: Mapping[str, NDArray[Any]]
    features: NDArray[np.float32] | None = None
    tokens: int = 8192
    every: int | None = None

    def __repr__(self) -> str:
        names = f"{self.description['task']}/{self.description['model']}"
        return f"<TokenData {names}: {len(self.samples):,} samples as tokens>"

    def standardised(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> TokenData:
        """Return the samples with labels less their mean, over their deviation.

        Parameters
        ----------
        mean, deviation
            (target,) each.

        Returns
        -------
        TokenData
        """
        labels = self.targets.labels
        shape = (-1,) if "target" in labels.dims else ()
        values = (labels.values - mean.reshape(shape)) / deviation.reshape(shape)
        targets = replace(self.targets, labels=replace(labels, values=values.astype(np.float32)))
        return replace(self, targets=targets)

    def steps(self, size: int) -> int:
        """Return how many batches a seeded pass yields."""
        return super().steps(size) if self.every is None else self.every

    def batches(self, size: int, seed: Sequence[int] | None = None) -> Iterator[list[Part]]:
        """Go through the samples; see `ProbeData.batches`.

        Parameters
        ----------
        size
            Samples per batch.
        seed
            Two numbers: the seed, and the pass, from 1. None (default): all samples once, in the order of the task.

        Yields
        ------
        list of Part
            One batch, in parts of at most `tokens` tokens.
        """
        if seed is None:
            chunks = [self.samples[start : start + size] for start in range(0, len(self.samples), size)]
        else:
            many = self.steps(size)
            begin = (seed[1] - 1) * many * size
            order = self._shuffled(seed[0], begin, begin + many * size)
            chunks = [order[start : start + size] for start in range(0, len(order), size)]
        for chunk in chunks:
            yield [self._part_of(samples) for samples in self._split(chunk)]

    def _shuffled(self, seed: int, begin: int, end: int) -> NDArray[np.int64]:
        """Return samples `begin` to `end` of a stream: all of them in a new order, then in another, and so on."""
        n = len(self.samples)
        rounds = range(begin // n, -(-end // n))
        order = [np.random.default_rng((seed, number)).permutation(self.samples) for number in rounds]
        return np.concatenate(order)[begin - rounds.start * n : end - rounds.start * n]

    def _split(self, chunk: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Cut a batch where its tokens become too many."""
        counts = [sum(len(piece.ids) for piece in self.pieces[sample]) for sample in chunk.tolist()]
        start = total = 0
        for place, count in enumerate(counts):
            if place > start and total + count > self.tokens:
                yield chunk[start:place]
                start, total = place, 0
            total += count
        yield chunk[start:]

    def _part_of(self, samples: NDArray[np.int64]) -> Part:
        """Put the tokens of samples one after another."""
        pieces = [self.pieces[sample] for sample in samples.tolist()]
        flat = [piece for own in pieces for piece in own]
        tokens = [len(piece.ids) for piece in flat]
        span = np.zeros(sum(tokens), np.int64)
        start = np.cumsum([0, *tokens])
        for piece, begin in zip(flat, start[:-1] + [piece.first for piece in flat], strict=True):
            span[begin : begin + len(piece.span)] = piece.span
        first = start[np.cumsum([0, *map(len, pieces)])]
        features = None if self.features is None else torch.from_numpy(self.features[samples])
        ids = torch.from_numpy(np.concatenate([piece.ids for piece in flat]))
        return Part(samples, ids, span, first, self.targets.of(samples), Stream(tokens, features))


def read_tokens(
    store: Store,
    task: str,
    model: Model,
    splits: Sequence[str],
    *,
    augment: str | None = None,
    coding_task: str | None = None,
    tokens: int = 8192,
) -> TokenData:
    """Cut the samples of some splits into the tokens of a model.

    Parameters
    ----------
    store
        An open store.
    task
        Name of the task.
    model
        From `embedstore.models.load`.
    splits
        Names of the splits.
    augment, coding_task
        See `probes.augmentation`.
    tokens
        Most tokens of which activations are held at a time, default 8192.

    Returns
    -------
    TokenData

    Raises
    ------
    InputError
        The task has no labels, its letters are not of the model's alphabet, or the model refuses a sample.
    NotInStoreError
        The store has no such task, or a split has no samples.
    """
    record, labels = store.record(task), store.labels(task)
    if labels is None:
        raise InputError(f"{store.path}: task {task!r} has no labels; a model needs them to be tuned")
    if record.alphabet != model.alphabet:
        raise InputError(
            f"{store.path}: the letters of task {task!r} are {record.alphabet}, and model {model.name!r} reads "
            f"{model.alphabet}. Tune it on the task of the same samples as {model.alphabet}."
        )
    table = store.samples(task)
    known = sorted(table["split"].unique())
    for split in splits:
        if split not in known:
            raise NotInStoreError(
                f"{store.path}: task {task!r} has no samples of split {split!r}.{did_you_mean(split, known)}"
            )
    samples = np.flatnonzero(table["split"].isin(list(splits)))
    targets = Targets(record, labels, table["length"].to_numpy())
    return TokenData(
        record=record,
        targets=targets,
        samples=samples,
        width=model.width,
        description=describe_tokens(store, task, model, splits, coding_task),
        blocks_missing=0,
        _source=Source(None, targets.lengths, False),
        model=model,
        pieces=_cut(store, task, model, samples),
        columns=read_columns(store, task, augmentations(augment), coding_task),
        tokens=tokens,
    )


def describe_tokens(
    store: Store, task: str, model: Model, splits: Sequence[str], coding_task: str | None = None
) -> dict[str, Any]:
    """Say what decides the numbers of samples as tokens, as `probes.reading.describe` does for stored rows.

    Parameters
    ----------
    store, task, model, splits, coding_task
        As for `read_tokens`.

    Returns
    -------
    dict
        Plain data.
    """
    coding = {} if coding_task is None else {"coding": dict(store.task_digests(coding_task))}
    return {
        "task": task,
        "model": model.name,
        "record": store.record(task).to_dict(),
        "embedding": dict(model.fingerprint),
        "digest": dict(store.task_digests(task)),
        "splits": list(splits),
        **coding,
    }


def _cut(store: Store, task: str, model: Model, samples: NDArray[np.int64]) -> dict[int, list[Piece]]:
    """Return the pieces of samples, some of them read at a time."""
    found: dict[int, list[Piece]] = {}
    for start in range(0, len(samples), _TOGETHER):
        some = samples[start : start + _TOGETHER]
        found.update(
            zip(some.tolist(), sample_pieces(store, task, model, some, store.sequences(task, some)), strict=True)
        )
    return found
