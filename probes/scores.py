"""What a probe said about some samples: in memory, on disk, and what its metric is not defined for."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import CorruptError
from embedstore.outputs import write_atomically
from probes.metrics import auprc, auroc, base_rate, correlation, per_target, r2, ratio, why_undefined

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray


# What NumPy and zipfile raise on bytes that are no archive of arrays, or one that is damaged.
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Scores(NamedTuple):
    """What a probe said about some samples, with what is true; all that metrics and intervals need.

    Attributes
    ----------
    loss
        Mean loss over everything that has a label.
    confusion
        Tasks of type class: (sample, true class, predicted class) int64, else None.
    sample
        Other types: (position,) int, number of the sample (0 for the first) that a position belongs to, else None.
    target
        Other types: (position, target) float32, NaN where there is no label, else None.
    score
        Other types: (position, target) float32, else None.
    exons
        Tasks with exons: (sample, count) int64, see `probes.exons.EXON_COUNTS`, else None.
    calibration
        Where there are probabilities: (bin, 3) float64, see `probes.calibration.calibration_counts`, else None.
    """

    loss: float
    confusion: NDArray[np.int64] | None = None
    sample: NDArray[np.int64] | None = None
    target: NDArray[np.float32] | None = None
    score: NDArray[np.float32] | None = None
    exons: NDArray[np.int64] | None = None
    calibration: NDArray[np.float64] | None = None


def save_scores(path: str | Path, scores: Scores) -> None:
    """Write scores to a file, whole or not at all.

    The file is put together in memory: as many bytes more as it will have.

    Parameters
    ----------
    path
        The file, ``.npz``; one of that name is replaced.
    scores
        Predictions and truth.
    """
    arrays = {name: value for name, value in scores._asdict().items() if value is not None}
    buffer = io.BytesIO()
    # The checksums of the archive's parts do not say that a part is gone.
    np.savez_compressed(buffer, fields=np.array(list(arrays)), **arrays)
    write_atomically(Path(path), buffer.getvalue())


def load_scores(path: str | Path) -> Scores:
    """Read scores that `save_scores` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    probes.scores.Scores
        Equal to what was saved, to the bit.

    Raises
    ------
    CorruptError
        The file is damaged, or something else.
    FileNotFoundError
        There is none.
    """
    data = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        if arrays.pop("fields").tolist() != list(arrays):
            raise ValueError(f"it holds {', '.join(arrays)}")
        return Scores(float(arrays.pop("loss")), **arrays)
    except _DAMAGE as error:
        raise CorruptError(
            f"{path}: not the scores of a probe, or damaged ({error}). Delete the folder of this result and run the "
            "probe again."
        ) from error


def undefined(metric: str, scores: Scores, names: Sequence[str]) -> list[str]:
    """Name the targets that a metric is not defined for, so that its mean leaves them out.

    Parameters
    ----------
    metric
        See `per_target`.
    scores
        Predictions and truth.
    names
        Names of the targets or classes.

    Returns
    -------
    list of str
        All names where a metric over all classes is not defined.
    """
    values = per_target(metric, scores)
    missing = np.isnan(values) if len(values) == len(names) else np.full(len(names), np.isnan(values).any())
    return [name for name, gone in zip(names, missing.tolist(), strict=True) if gone]


def undefined_note(metric: str, scores: Scores, names: Sequence[str], shown: int = 5) -> str:
    """Say which targets a metric leaves out.

    Parameters
    ----------
    metric
        See `per_target`.
    scores
        Predictions and truth.
    names
        Names of the targets or classes.
    shown
        Names to write out, default 5.

    Returns
    -------
    str
        One sentence; empty where the metric is defined for all.
    """
    missing = undefined(metric, scores, names)
    if not missing:
        return ""
    more = f" and {len(missing) - shown:,} more" if len(missing) > shown else ""
    return (
        f"{metric} is not defined for {len(missing):,} of {len(names):,}, whose {why_undefined(metric)} are all alike "
        f"or missing; its mean leaves them out: {', '.join(missing[:shown])}{more}"
    )


def per_class(scores: Scores, names: tuple[str, ...]) -> pd.DataFrame:
    """Table of what a probe does per class or target.

    Parameters
    ----------
    scores
        Predictions and truth.
    names
        Names of the classes or targets.

    Returns
    -------
    pandas.DataFrame
        Classes: name, n (true), predicted, precision, recall, f1. 0/1 targets: name, n, positives, base_rate, auroc,
        auprc. Values: name, n, r2, pearson, spearman, rmse. NaN where it is not defined.
    """
    import pandas as pd

    if scores.confusion is not None:
        counts = scores.confusion.sum(axis=0)
        true, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
        table = {
            "n": true,
            "predicted": predicted,
            "precision": ratio(right, predicted),
            "recall": ratio(right, true),
            "f1": ratio(2 * right, true + predicted),
        }
        return pd.DataFrame({"name": names, **table})
    assert scores.target is not None
    assert scores.score is not None
    target, score = scores.target, scores.score
    known = ~np.isnan(target)
    n = known.sum(axis=0)
    if ((target == 0) | (target == 1) | ~known).all():
        table = {
            "n": n,
            "positives": (target == 1).sum(axis=0),
            "base_rate": base_rate(target),
            "auroc": auroc(target, score),
            "auprc": auprc(target, score),
        }
    else:
        error = np.where(known, target - score, 0).astype(np.float64)
        table = {
            "n": n,
            "r2": r2(target, score),
            "pearson": correlation(target, score),
            "spearman": correlation(target, score, "spearman"),
            "rmse": np.sqrt(ratio((error**2).sum(axis=0), n)),
        }
    return pd.DataFrame({"name": names, **table})
