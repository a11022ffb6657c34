"""What a linear map finds in an embedding, whether anyone asked for it or not.

A quantity that can be decoded is one that a probe of something else may lean on. Everything is held out: folds of whole
samples (or groups of samples), one pass for the sums that all folds and penalties are solved from, one for predictions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from analysis.representations import choose_samples
from embedstore.errors import InputError, NotInStoreError, did_you_mean
from embedstore.tasks import Labels, TaskRecord
from probes.affine import FOLDS, sample_parts
from probes.chunks import BATCH, position_means
from probes.dataset import ProbeData
from probes.gram import Gram, checked_penalties, gram_sums, solve_ridge, squared_error
from probes.intervals import bootstrap, bootstrap_sums, interval
from probes.linear import PENALTIES
from probes.metrics import per_target, ratio
from probes.reading import Source, check_kept, describe, open_rows
from probes.scores import Scores
from probes.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from embedstore.store import Store
    from probes.dataset import Part


class Decodability(NamedTuple):
    """What was decoded.

    Attributes
    ----------
    table
        A row for each target: target; r2, low, high, the share of its variance that held-out predictions explain and
        the 95 % interval over samples; penalty, the median over folds; positions and samples, how many there are; per,
        ``"sample"`` or ``"window"``.
    predictions
        A row for each sample or window: sample (id), start (first nucleotide of the window), and for each target
        ``TARGET`` and ``TARGET_predicted``, NaN where there is no value.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame


def decodability(
    store: Store,
    task: str,
    model: str,
    values: Mapping[str, ArrayLike],
    *,
    window: int | None = None,
    splits: str | Sequence[str] | None = None,
    group: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    draws: int = 1000,
    progress: bool = False,
) -> Decodability:
    """Decode any numbers from an embedding by ridge regression, held out in five folds.

    Within each fold every target has a penalty of its own, chosen by cross-validation over the other four.

    Parameters
    ----------
    store
        An open store.
    task, model
        Names; a baseline computed from the letters, such as ``"onehot"``, is a model too.
    values
        Name -> (sample,) numbers, or (sample, window) where windows are asked for; NaN where there is none. Windows
        follow one another from the first nucleotide, and those beyond the last complete one are NaN.
    window
        Nucleotides of a window; None (default) for means of samples.
    splits
        Use the samples of these splits only, default all.
    group
        Column of the sample table: samples that are alike in it are held out together, as those of one chromosome or
        one cluster of homologs should be. Default: each sample by itself.
    penalties
        As for `probes.linear.RidgeProbe`.
    draws
        Bootstrap draws of samples behind the intervals, default 1000.
    progress
        Show progress bars, default False.

    Returns
    -------
    Decodability

    Raises
    ------
    InputError
        Values are not as many as samples, are known at different places, or there are too few samples or groups for
        folds.
    NotInStoreError
        There is no such task, model, split or column.
    IncompleteError
        A block is not embedded yet.
    """
    data = _labelled(store, task, model, values, window, splits)
    found = _held_out(data, _folds(store, task, data, group), penalties, progress)
    table = _table(data, found, draws)
    table["per"] = "sample" if window is None else "window"
    ids = store.samples(task)["id"].to_numpy()[data.samples]
    counts = data.targets.counts[data.samples]
    start = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    columns: dict[str, Any] = {"sample": ids[found.sample], "start": start * (window or 1)}
    for place, name in enumerate(data.targets.names):
        truth = found.truth[:, place]
        columns |= {name: truth, f"{name}_predicted": np.where(np.isnan(truth), np.nan, found.predicted[:, place])}
    return Decodability(table, pd.DataFrame(columns))


def partial_decodability(
    store: Store,
    task: str,
    model: str,
    value: Mapping[str, ArrayLike],
    given: Mapping[str, ArrayLike],
    *,
    window: int | None = None,
    splits: str | Sequence[str] | None = None,
    group: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    draws: int = 1000,
    progress: bool = False,
) -> pd.DataFrame:
    """Tell what an embedding adds to what other numbers say of a value.

    Parameters
    ----------
    store, task, model, window, splits, group, penalties, draws, progress
        As for `decodability`.
    value
        Name -> numbers, of one value.
    given
        Name -> numbers, known wherever the value is.

    Returns
    -------
    pandas.DataFrame
        Two rows, with the columns of `Decodability.table`: ``NAME_from_given``, the R2 of the given numbers by least
        squares, without the embedding; and ``NAME_beyond_given``, the partial R2 of the embedding, 1 - e / f, where e
        is the squared error with the embedding beside the given numbers and f that without. Both of held-out
        predictions, in the same folds; below 0 where the embedding does harm.

    Raises
    ------
    InputError
        As for `decodability`, or there is not one value, or a given number is missing where it is known.
    """
    if len(value) != 1 or not given:
        raise InputError(
            f"{len(value)} values given {len(given)} numbers; one value and one number or more are wanted."
        )
    every = _labelled(store, task, model, {**value, **given}, window, splits)
    data = _labelled(store, task, model, value, window, splits)
    beside = _Beside.of(data, every.targets)
    folds = _folds(store, task, data, group)
    found = _held_out(beside, folds, penalties, progress)
    x = every.targets.of(every.samples).numpy()[:, 1:].astype(np.float64)
    alone = _least_squares(x, found.truth[:, 0].astype(np.float64), folds[found.sample])
    table = _table(data, found._replace(predicted=alone[:, None]), draws)
    known = ~np.isnan(found.truth[:, 0])
    number = np.unique(found.sample[known], return_inverse=True)[1]
    errors = [(found.truth[known, 0] - said[known]) ** 2 for said in (found.predicted[:, 0], alone)]
    sums = np.stack([np.bincount(number, error.astype(np.float64)) for error in errors], axis=1)
    low, high = interval(bootstrap_sums(sums, _partial_r2, draws=draws))
    (name,) = value
    own = {"r2": float(_partial_r2(sums.sum(axis=0))), "low": low, "high": high, "penalty": found.penalty[0]}
    rows = [table.iloc[0].to_dict() | {"penalty": np.nan, "target": f"{name}_from_given"}]
    rows.append(rows[0] | own | {"target": f"{name}_beyond_given"})
    return pd.DataFrame(rows).assign(per="sample" if window is None else "window")


def _partial_r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - ratio(sums[..., 0], sums[..., 1])


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64], fold: NDArray[np.str_]) -> NDArray[np.float32]:
    """Predict each fold from the others by least squares; numbers that are the same everywhere say nothing."""
    known = ~np.isnan(y)
    mean, spread = x[known].mean(axis=0), x[known].std(axis=0)
    x = np.concatenate([np.ones((len(x), 1)), (x - mean) / np.where(spread > 0, spread, 1)], axis=1)
    said = np.full(len(y), np.nan, np.float32)
    for held in np.unique(fold):
        own, rest = known & (fold == held), known & (fold != held)
        said[own] = x[own] @ np.linalg.lstsq(x[rest], y[rest])[0]
    return said


@dataclass(frozen=True, eq=False)
class _Beside(ProbeData):
    """Means of samples or windows as rows, with further channels: all targets but the first of others."""

    beside: Targets | None = None

    @classmethod
    def of(cls, data: ProbeData, beside: Targets) -> Self:
        given = {one.name: getattr(data, one.name) for one in fields(ProbeData)}
        given["width"] += len(beside.names) - 1
        return cls(**given, beside=beside)

    def batches(self, size: int, seed: Sequence[int] | None = None) -> Iterator[list[Part]]:
        for parts in super().batches(size, seed):
            yield [self._joined(part) for part in parts]

    def _joined(self, part: Part) -> Part:
        assert self.beside is not None
        further = np.nan_to_num(self.beside.of(part.samples).numpy()[:, 1:])  # NaN only where there is no value
        x = np.concatenate([position_means(part.vector.numpy(), part, self.record), further], axis=1, dtype=np.float64)
        counts = self.targets.counts[part.samples]
        width = self.record.bin_size if self.record.level == "bin" else part.span
        span = np.broadcast_to(width, len(x)).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])
        return part._replace(vector=torch.from_numpy(x), span=span, first_row=first)


class _HeldOut(NamedTuple):
    """sample: (position,) place of its sample. truth, predicted: (position, target). penalty: (target,) median."""

    sample: NDArray[np.int64]
    truth: NDArray[np.float32]
    predicted: NDArray[np.float32]
    penalty: NDArray[np.float64]


def _held_out(data: ProbeData, folds: NDArray[np.str_], penalties: Sequence[float], progress: bool) -> _HeldOut:
    """Predict every sample by a fit to the other folds."""
    alphas = checked_penalties(penalties)
    sums = {name: gram for name, gram in gram_sums(data, folds, progress=progress).items() if gram.n}
    if len(sums) < 3:
        raise InputError(
            f"{data!r}: values in {len(sums)} folds; three or more are needed, one to predict and two to choose a "
            "penalty with. Use more samples, or a column with more groups."
        )
    solved = {name: _solve(sums, name, alphas) for name in sums}
    sample, predicted = _predict(data, folds, solved)
    penalty = np.median([found[2] for found in solved.values()], axis=0)
    return _HeldOut(sample, data.targets.of(data.samples).numpy(), predicted, penalty)


def _labelled(
    store: Store,
    task: str,
    model: str,
    values: Mapping[str, ArrayLike],
    window: int | None,
    splits: str | Sequence[str] | None,
) -> ProbeData:
    """Return samples of the store with these values for labels; rows are read as they are needed."""
    lengths, names = store.lengths(task), tuple(values)
    level: Literal["sequence", "bin"] = "sequence" if window is None else "bin"
    about: dict[str, Any] = {"name": task, "bin_size": window or 1, "alphabet": store.record(task).alphabet}
    record = TaskRecord(level=level, type="value", names=names, metric="r2", **about)
    label = np.stack([np.asarray(value, np.float32) for value in values.values()], axis=-1)
    missing_values = np.isnan(label)
    if (missing_values != missing_values[..., :1]).any():
        raise InputError(
            f"{store.path}: task {task!r}: {', '.join(names)} are not known at the same places. Decode each by itself, "
            "or set all of them to NaN where one is."
        )
    dims = ("sample", "target") if window is None else ("sample", "bin", "target")
    targets = Targets(record, Labels(label, dims, names), lengths)
    embedding = open_rows(store, task, model)
    check_kept(embedding, record, pooled=window is None)
    source = Source(embedding, lengths, window is None)
    kept, missing = source.there(choose_samples(embedding, splits), allow_partial=False)
    used = sorted(store.samples(task)["split"].iloc[kept].unique())
    return ProbeData(record, targets, kept, embedding.width, describe(store, task, model, used), missing, source)


def _folds(store: Store, task: str, data: ProbeData, group: str | None) -> NDArray[np.str_]:
    """Cut samples into five parts that share no group."""
    if group is None:
        return sample_parts(data)
    table = store.samples(task)
    if group not in table:
        raise NotInStoreError(
            f"{store.path}: task {task!r} has no column {group!r}.{did_you_mean(group, table.columns)}"
        )
    names, number = np.unique(table[group].astype(str).to_numpy()[data.samples], return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names)) % min(FOLDS, len(names))
    return np.asarray(part[number], dtype=str)


def _solve(
    sums: Mapping[str, Gram], held: str, penalties: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit to all folds but one; return coefficients (channel, target), intercepts and penalties (target,)."""
    rest = [gram for name, gram in sums.items() if name != held]
    total = sum(rest[1:], rest[0])
    error: Any = 0.0
    for gram in rest:
        fewer = total - gram
        error += squared_error(gram, *solve_ridge(fewer, penalties * fewer.n))
    best = error.argmin(axis=0)
    coefficient, intercept = solve_ridge(total, penalties * total.n)
    targets = np.arange(len(best))
    return coefficient[best, :, targets].T, intercept[best, targets], penalties[best]


def _predict(
    data: ProbeData, folds: NDArray[np.str_], solved: Mapping[str, tuple[NDArray[np.float64], ...]]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Predict every sample by the fit that has not seen its fold; return the place of its sample, and predictions."""
    sample, predicted = [], []
    targets = len(data.targets.names)
    for part in (part for parts in data.batches(BATCH) for part in parts):
        place = np.searchsorted(data.samples, part.samples)
        owner = np.repeat(place, data.targets.counts[part.samples])
        mean = position_means(part.vector.numpy(), part, data.record)
        values = np.full((len(owner), targets), np.nan, np.float32)
        for fold, (coefficient, intercept, _) in solved.items():
            own = folds[owner] == fold
            values[own] = mean[own] @ coefficient + intercept
        sample.append(owner)
        predicted.append(values)
    return np.concatenate(sample), np.concatenate(predicted)


def _table(data: ProbeData, found: _HeldOut, draws: int) -> pd.DataFrame:
    """Return a row for each target."""
    rows = []
    known = ~np.isnan(found.truth).any(axis=1)
    number = np.unique(found.sample[known], return_inverse=True)[1]  # a sample without values is none to draw
    for place, name in enumerate(data.targets.names):
        truth, predicted = (each[known][:, [place]] for each in (found.truth, found.predicted))
        one = Scores(float("nan"), None, number, truth, predicted)
        low, high = interval(bootstrap("r2", one, draws=draws))
        row = {"target": name, "r2": float(per_target("r2", one)[0]), "low": low, "high": high}
        sizes = {"positions": int(known.sum()), "samples": int(number.max()) + 1}
        rows.append(row | {"penalty": float(found.penalty[place])} | sizes)
    return pd.DataFrame(rows)
