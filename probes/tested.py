"""Results on disk as comparisons need them: what they were tested on, and bootstrap draws over seeds and folds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError
from probes.intervals import average_draws, bootstrap
from probes.metrics import mean_defined, per_target
from probes.results import RESULT, ProbeResult, read_row
from probes.scores import load_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from probes.scores import Scores

    Result = str | Path | ProbeResult

SAME_SAMPLES = ("task", "digest", "splits")
"""Entries of a spec's description of data that say which samples they are, whatever model embedded them."""

FREE = ("seed", "fold", "draws", "predictions", "allow_partial", "store", "device", "progress")
"""Entries of a spec that may differ between the seeds and folds of one probe, or that decide no number."""


class Finished(NamedTuple):
    """A result on disk.

    Attributes
    ----------
    folder
        Where it is.
    row
        Its row.
    test
        What it was tested on, see `probes.reading.describe`.
    fixed
        What must be the same for all seeds and folds of one probe.
    """

    folder: Path
    row: dict[str, Any]
    test: dict[str, Any]
    fixed: dict[str, Any]


class Draws(NamedTuple):
    """What was drawn for one probe.

    Attributes
    ----------
    metric
        Its name.
    folds
        Metric of every seed of every fold.
    draws
        (draw,) float64, seeds and folds averaged.
    truth
        A digest of the true labels of each fold.
    n
        Test samples of all folds.
    """

    metric: str
    folds: list[list[float]]
    draws: NDArray[np.float64]
    truth: list[str]
    n: int

    @property
    def means(self) -> list[float]:
        """Metric of each fold, mean over seeds."""
        return [float(np.mean(seeds)) for seeds in self.folds]


def read_tested(results: Result | Sequence[Result]) -> list[Finished]:
    """Read what is needed of results.

    Parameters
    ----------
    results
        A result, or several seeds and folds of one probe: folders, or what `probes.run_probe` returned.

    Returns
    -------
    list of Finished

    Raises
    ------
    InputError
        A result is not complete, or they are not of one probe.
    CorruptError
        A file is damaged.
    """
    many = [results] if isinstance(results, str | Path | ProbeResult) else list(results)
    if not many:
        raise InputError("no results are given: at least one is needed.")
    read = [_read(result) for result in many]
    for result in read[1:]:
        for key in {**read[0].fixed, **result.fixed}:
            one, other = (of.fixed.get(key, "left out") for of in (read[0], result))
            if one != other:
                raise InputError(
                    f"{read[0].folder} and {result.folder} are not seeds or folds of one probe: {key} is {one!r} in "
                    f"the first and {other!r} in the second."
                )
    return read


def _read(result: Result) -> Finished:
    """Read the row and the spec of a result."""
    folder = result.path if isinstance(result, ProbeResult) else Path(result)
    if folder is None:
        raise InputError("a result that was not written holds no scores of its test samples: run the probe with out=.")
    for name in (RESULT, "spec.json", "scores.npz"):
        if not (folder / name).exists():
            raise InputError(
                f"{folder}: {name} is not there, so this is no finished result, or one of an older version. "
                "Run the probe again."
            )
    spec = read_row(folder / "spec.json")
    test = spec.pop("data")["test"]
    fixed = {"task": test["task"], "model": test["model"], "embedding": test.get("embedding")}
    for key, value in spec.items():
        fixed |= value if isinstance(value, dict) else {key: value}
    return Finished(folder, read_row(folder / RESULT), test, {key: fixed[key] for key in fixed if key not in FREE})


def common_metric(results: Sequence[Finished], metric: str | None) -> str:
    """Return the metric to compute.

    Parameters
    ----------
    results
        From `read_tested`.
    metric
        The one that is wanted; None, that of the task.

    Returns
    -------
    str

    Raises
    ------
    InputError
        None is wanted, and the results have several.
    """
    metrics = sorted({result.row["metric"] for result in results})
    if metric is None and len(metrics) > 1:
        raise InputError(f"the results have the metrics {' and '.join(metrics)}: say which one by metric=.")
    return metric or str(metrics[0])


def by_fold(results: Sequence[Finished]) -> list[list[Finished]]:
    """Put results that were tested on the same samples together.

    Parameters
    ----------
    results
        From `read_tested`.

    Returns
    -------
    list of list of Finished
        The seeds of each fold; folds in the same order for every probe.

    Raises
    ------
    InputError
        A result is given twice.
    """
    folds: dict[str, list[Finished]] = {}
    for result in results:
        samples = json.dumps([result.test[key] for key in SAME_SAMPLES], sort_keys=True)
        folds.setdefault(samples, []).append(result)
    for fold in folds.values():
        if len({str(result.folder.resolve()) for result in fold}) < len(fold):
            raise InputError(f"{fold[0].folder}: a result is given twice.")
    return [folds[key] for key in sorted(folds)]


def draw(folds: list[list[Finished]], metric: str, draws: int) -> Draws:
    """Draw samples of each fold on their own, the same ones for all its seeds.

    Parameters
    ----------
    folds
        From `by_fold`.
    metric
        See `probes.metrics.per_target`.
    draws
        How often to draw.

    Returns
    -------
    Draws

    Raises
    ------
    InputError
        Seeds of a fold were tested on different samples, or the metric does not fit.
    CorruptError
        A file is damaged.
    """
    values: list[list[float]] = []
    drawn: list[NDArray[np.float64]] = []
    truths: list[str] = []
    n = 0
    for number, fold in enumerate(folds):
        values.append([])
        of_seeds, seen = [], set()
        for result in fold:
            scores = load_scores(result.folder / "scores.npz")
            values[-1].append(mean_defined(per_target(metric, scores)))
            # The seed of the first fold is that of the interval in a result's row.
            of_seeds.append(bootstrap(metric, scores, draws=draws, seed=number))
            seen.add(_truth(scores))
            samples = _samples(scores)
        if len(seen) > 1:
            raise InputError(
                f"{fold[0].folder} and other seeds: the labels of the test samples differ, so these are not the same "
                "samples. Train all seeds on the same, complete embeddings."
            )
        drawn.append(average_draws(of_seeds))
        truths += seen
        n += samples
    return Draws(metric, values, average_draws(drawn), truths, n)


def _samples(scores: Scores) -> int:
    """Return how many samples were tested."""
    if scores.confusion is not None:
        return len(scores.confusion)
    assert scores.sample is not None
    return int(scores.sample[-1]) + 1


def _truth(scores: Scores) -> str:
    """Return a digest of the true labels: of classes, of how many positions have each in each sample."""
    if scores.confusion is not None:
        arrays: list[NDArray[Any]] = [scores.confusion.sum(axis=2)]
    else:
        assert scores.sample is not None
        assert scores.target is not None
        arrays = [scores.sample, scores.target]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
