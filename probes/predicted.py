"""Predictions as labelled data: beside the truth, on the axes of `embedstore.Store.open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError, NotInStoreError, did_you_mean
from embedstore.indices import offsets
from embedstore.view import sample_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from embedstore.store import Store
    from embedstore.tasks import Labels

_VARIABLES = ("prediction", "probability", "value", "class", "target")


def lay_out(
    store: Store, task: str, arrays: Mapping[str, NDArray[Any]], names: Sequence[str], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Put predictions on the axes of the task's labels.

    Parameters
    ----------
    store, task
        Where the task is.
    arrays
        ``sample`` (sample,) indices; ``first`` (sample + 1,) where the positions of each begin; and of all positions
        one after another ``prediction``, ``probability`` or ``value``.
    names
        Of the classes or targets.
    attributes
        Of the dataset.

    Returns
    -------
    xarray.Dataset
        See `probes.predictions.open_predictions`.
    """
    import xarray as xr

    record, labels = store.record(task), store.labels(task)
    assert labels is not None
    samples, first, lengths = arrays["sample"], arrays["first"], store.lengths(task)
    coordinates = {
        f"sample_{key}" if key in _VARIABLES else key: value
        for key, value in sample_coordinates(store.samples(task).iloc[samples], offsets(lengths[samples])[:-1]).items()
    }
    fixed = bool((lengths == lengths[0]).all())
    truth, dims = _truth(labels, samples, lengths, fixed)
    variables: dict[str, Any] = {"label": (dims, truth)}
    places = tuple(dim for dim in dims if dim != "target")
    for key, values in arrays.items():
        if key in ("sample", "first"):
            continue
        laid = values
        if record.level == "bin":
            laid = _in_bins(values, first, truth.shape[1])
        elif record.level == "nucleotide" and fixed:
            laid = values.reshape(len(samples), -1, *values.shape[1:])
        if laid.ndim == len(places):
            variables[key] = (places, laid)
        elif record.type != "class" and "target" not in dims:
            variables[key] = (places, laid[..., 0])  # one target, for which labels have no dimension either
        else:
            last = "class" if record.type == "class" else "target"
            variables[key] = ((*places, last), laid)
            coordinates[last] = list(names)
    if "position" in dims:
        coordinates["position"] = np.arange(int(lengths[0]))
    return xr.Dataset(variables, coordinates, dict(attributes))


def _truth(
    labels: Labels, samples: NDArray[np.int64], lengths: NDArray[np.int64], fixed: bool
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the labels of samples, and their dimensions as `Store.open` has them."""
    if labels.dims[0] != "nucleotide":
        return labels.values[samples], labels.dims
    first = offsets(lengths)
    truth = np.concatenate([labels.values[first[i] : first[i + 1]] for i in samples])
    if not fixed:
        return truth, labels.dims
    return truth.reshape(len(samples), -1, *truth.shape[1:]), ("sample", "position", *labels.dims[1:])


def _in_bins(values: NDArray[Any], first: NDArray[np.int64], bins: int) -> NDArray[Any]:
    """Lay bins out as (sample, bin, ...); samples with fewer bins end in NaN, or -100 for classes."""
    whole = values.dtype.kind in "ui"
    laid = np.full(
        (len(first) - 1, bins, *values.shape[1:]), -100 if whole else np.nan, np.int64 if whole else values.dtype
    )
    counts = np.diff(first)
    laid[np.arange(bins) < counts[:, None]] = values
    return laid


def gene_track_table(predictions: xr.Dataset, sample: str) -> pd.DataFrame:
    """Return truth and prediction along one sample, as `analysis.plots.plot_gene_tracks` draws them.

    Parameters
    ----------
    predictions
        From `open_predictions`, of a task with a class for each nucleotide.
    sample
        Id of the sample.

    Returns
    -------
    pandas.DataFrame
        One row per nucleotide: position (in the sample, from 0), truth (class, -100 where there is no label) and
        predicted (class).

    Raises
    ------
    InputError
        The predictions are not of nucleotides.
    NotInStoreError
        The sample is not among those that were predicted.

    Examples
    --------
    With `analysis.plots.plot_gene_tracks`::

        table = gene_track_table(predictions, "gene7")
        plot_gene_tracks({"truth": table["truth"], "predicted": table["predicted"]})
    """
    import pandas as pd

    along = {"position", "nucleotide"} & set(predictions.dims)
    if not along or "prediction" not in predictions:
        raise InputError(
            f"predictions of task {predictions.attrs.get('task')!r} have the dimensions "
            f"{', '.join(map(str, predictions.dims))}: a track needs a class for each nucleotide."
        )
    ids = predictions.indexes["sample"]
    if sample not in ids:
        known = did_you_mean(sample, list(map(str, ids[:1000])))
        raise NotInStoreError(f"sample {sample!r} is not among the {len(ids):,} that were predicted.{known}")
    if "position" in along:
        one = predictions.sel(sample=sample)
    else:
        place = predictions.sel(sample=sample)
        start = int(place["first_nucleotide"])
        one = predictions.isel(nucleotide=slice(start, start + int(place["length"])))
    truth, predicted = one["label"].to_numpy(), one["prediction"].to_numpy().astype(np.int64)
    return pd.DataFrame({"position": np.arange(len(truth)), "truth": truth.astype(np.int64), "predicted": predicted})
