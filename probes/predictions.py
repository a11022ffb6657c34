"""Predictions for each sample, kept in the store beside the embeddings they were made from.

They lie in ``<task>/prediction/<model>/<name>``; ``docs/format.md`` describes them. As for everything in a store, a
group's attributes are written last: one that lacks them was never finished, and is not read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.adding import WAIT_FOR_OTHERS, writing
from embedstore.errors import (
    CorruptError,
    FingerprintError,
    InputError,
    NonFiniteError,
    NotInStoreError,
    StoreError,
    did_you_mean,
)
from embedstore.indices import offsets
from embedstore.layout import FORMAT_VERSION, check_name, create_array, ensure_group
from embedstore.objects import children, remove, remove_tree
from embedstore.objects import names as stored_names
from embedstore.shards import sync_tree
from probes.predicted import lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    import torch
    import xarray as xr
    from numpy.typing import NDArray

    from embedstore.store import Store
    from probes.base import Probe
    from probes.dataset import Part, ProbeData

    Outputs = Iterable[tuple[Part, torch.Tensor]]

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
KIND = "prediction"

_OWN = ("format_version", "kind", "record", "names", "arrays", "task_digest", "samples")


class _Values(NamedTuple):
    """What is stored of all positions: name, dimensions, values, fill value."""

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    fill: Any


def check_writable(store: Store) -> None:
    """Refuse a store that predictions cannot be written to; to be called before a probe is trained.

    Parameters
    ----------
    store
        The store.

    Raises
    ------
    StoreError
        It is open for reading, or its folder may not be written to.
    """
    if store.mode == "r" or store.zarr_store.read_only:
        raise StoreError(
            f"{store.path} is open for reading, and predictions are kept in the store: open it with mode='a', or do "
            "without predictions."
        )
    if store.local is not None and not os.access(store.local, os.W_OK):
        raise StoreError(f"{store.path}: predictions are kept in the store, and its folder may not be written to.")


def save_predictions(
    store: Store,
    probe: Probe | Outputs,
    data: ProbeData,
    name: str,
    *,
    attributes: Mapping[str, Any],
    probabilities: bool = True,
    class_probability: bool = False,
) -> str:
    """Keep what a probe predicts for samples, all of it or nothing.

    Predictions of the same name are replaced. They are held in memory until they are complete.

    Parameters
    ----------
    store
        Opened with ``mode="a"``.
    probe
        A fitted probe, or its outputs: parts of the data, in their order, with (position, output) before softmax or
        sigmoid.
    data
        The samples, from `ProbeData.from_store`.
    name
        Name of the predictions: the first 12 digits of the digest of a spec.
    attributes
        What is kept with them as data that JSON can hold: spec and row. Numbers that are not defined (NaN) become null.
    probabilities
        Where outputs are given: whether softmax or sigmoid makes probabilities of them (default). Else they are
        estimates of the labels themselves, as those of a ridge regression, and kept as values.
    class_probability
        Keep the probability of every class of each position as well, float16 (default False: only the class).

    Returns
    -------
    str
        Path of the group in the store.

    Raises
    ------
    StoreError
        The store cannot be written to.
    InputError
        The outputs are not those of the data, or the data are not of a task in a store.
    NonFiniteError
        An output is NaN or infinite.
    """
    check_writable(store)
    check_name(name, "prediction")
    task, model = data.description.get("task"), data.description.get("model")
    if task is None or model is None:
        raise InputError(f"{data!r}: only predictions for samples of a store can be kept in it.")
    taken = sorted(set(attributes) & set(_OWN))
    if taken:
        raise InputError(f"attributes of predictions cannot be named {', '.join(taken)}: these are kept anyway.")
    outputs: Any = probe
    if hasattr(probe, "outputs"):
        outputs, probabilities = probe.outputs(data), bool(getattr(probe, "probabilities", True))
    values = _collect(outputs, data, probabilities, class_probability)
    counts = data.targets.counts[data.samples]
    arrays = [
        _Values("sample", ("sample",), data.samples.astype(np.int64), -1),
        _Values("first", ("edge",), offsets(counts), -1),
        *values,
    ]
    about = {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "record": data.record.to_dict(),
        "names": list(data.targets.names),
        "samples": len(data),
        "task_digest": store.task_digests(task),
        "arrays": {one.name: {"dims": list(one.dims), "sha256": _digest(one.values)} for one in arrays},
        **_plain(dict(attributes)),
    }
    try:
        json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"attributes of predictions must be data that JSON can hold: {error}.") from error
    where = f"{task}/{KIND}/{model}/{name}"
    with writing(store, f"{where.replace('/', '.')}.lock", f"{store.path}/{where}", wait=WAIT_FOR_OTHERS):
        _write(store, where, arrays, about)
    logger.info("%s/%s: predictions for %d samples", store.path, where, len(data))
    return where


def _collect(outputs: Outputs, data: ProbeData, probabilities: bool, class_probability: bool) -> list[_Values]:
    """Go through the outputs once; return what is kept of them."""
    record, classes = data.record, len(data.targets.names)
    kept: dict[str, list[NDArray[Any]]] = {}
    place = 0
    for part, output in outputs:
        numbers = output.float().cpu()
        many, positions = len(part.samples), int(data.targets.counts[part.samples].sum())
        if not np.array_equal(part.samples, data.samples[place : place + many]) or numbers.shape != (
            positions,
            classes,
        ):
            raise InputError(
                f"{data!r}: outputs of shape {tuple(numbers.shape)} for samples {part.samples[:3]}, ... do not fit; "
                f"({positions}, {classes}) is wanted, and samples in the order of the data, next "
                f"{data.samples[place : place + 3]}."
            )
        if not bool(numbers.isfinite().all()):
            raise NonFiniteError(
                f"{data!r}: an output for samples {part.samples[0]} to {part.samples[-1]} is not finite."
            )
        place += many
        if record.type == "class":
            kept.setdefault("prediction", []).append(numbers.argmax(dim=1).numpy())
            if class_probability and probabilities:
                kept.setdefault("probability", []).append(numbers.softmax(dim=1).numpy().astype(np.float16))
        elif record.type == "multilabel" and probabilities:
            kept.setdefault("probability", []).append(numbers.sigmoid().numpy())
        else:
            kept.setdefault("value", []).append(numbers.numpy())
    if place != len(data):
        raise InputError(f"{data!r}: there are outputs for {place:,} of {len(data):,} samples; all are wanted.")
    # The largest number of the data type is no class, so that what was never written is seen.
    small = np.min_scalar_type(classes)
    last = "class" if record.type == "class" else "target"
    found = []
    for name, parts in kept.items():
        values = np.concatenate(parts)
        if name == "prediction":
            found.append(_Values(name, ("position",), values.astype(small), int(np.iinfo(small).max)))
        else:
            found.append(_Values(name, ("position", last), values, math.nan))
    return found


def _plain(value: Any) -> Any:
    """Return data in which NaN is None, which every reader of JSON knows."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _digest(values: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _write(store: Store, where: str, arrays: list[_Values], about: dict[str, Any]) -> None:
    """Write arrays, then the attributes that make them count."""
    import zarr

    if stored_names(store, where):
        remove(store, f"{where}/zarr.json")  # without its description the rest does not count
        remove_tree(store, where)
    root = zarr.open_group(store.zarr_store, mode="r+", use_consolidated=False)
    group = ensure_group(root, where)
    for one in arrays:
        step = max(1, CHUNK_BYTES // max(1, one.values[:1].nbytes))
        array = create_array(
            group,
            one.name,
            one.values.shape,
            dtype=one.values.dtype,
            dims=one.dims,
            chunks=(min(step, len(one.values)), *one.values.shape[1:]),
            fill=one.fill,
        )
        array[...] = one.values
    if store.local is not None:
        sync_tree(store.local / where)
    group.attrs["embedstore"] = about
    if store.local is not None:
        sync_tree(store.local / where, below=False)


def list_predictions(store: Store, task: str, model: str | None = None) -> pd.DataFrame:
    """List the predictions that are kept for a task.

    Parameters
    ----------
    store
        The store.
    task
        Name of the task.
    model
        Only those of this model; all by default.

    Returns
    -------
    pandas.DataFrame
        One row each: model, name, samples, then the columns of the result's row as far as it was kept.
    """
    import pandas as pd

    store.task_group(task)
    rows = []
    for which in _below(store, f"{task}/{KIND}") if model is None else [model]:
        for name in _below(store, f"{task}/{KIND}/{which}"):
            ours = store._attributes(f"{task}/{KIND}/{which}/{name}", KIND)  # noqa: SLF001 - the store's own words
            if ours is not None:
                row = {key: value for key, value in ours.get("row", {}).items() if key not in ("task", "model")}
                rows.append({"model": which, "name": name, "samples": ours["samples"], **row})
    return pd.DataFrame(rows, columns=None if rows else ["model", "name", "samples"])


def _below(store: Store, path: str) -> list[str]:
    """Return the names of the groups below one that may be missing."""
    return children(store, path) if store.group(path) is not None else []


def open_predictions(store: Store, task: str, model: str, name: str) -> xr.Dataset:
    """Read predictions with the truth beside them, on the axes of `Store.open`.

    Parameters
    ----------
    store
        The store.
    task, model, name
        Names; `list_predictions` has them.

    Returns
    -------
    xarray.Dataset
        In memory, for the samples that were predicted: ``prediction`` (class), ``probability`` or ``value``, and
        ``label``, with the sample table as coordinates. Dimensions are those of the labels, with ``class`` or
        ``target`` last: (sample), (sample, bin), (sample, position) where all samples of the task have one length,
        else (nucleotide); then the coordinates ``first_nucleotide`` and ``length`` say which nucleotides a sample
        takes. Bins that a sample does not have are NaN, or -100 for classes. Attributes are those that were kept.

    Raises
    ------
    NotInStoreError
        There are no such predictions, or they were never finished.
    FingerprintError
        The task is not the one that was predicted.
    CorruptError
        What is stored is not what was written.
    """
    ours, arrays = _read(store, task, model, name)
    kept = {key: value for key, value in ours.items() if key not in ("format_version", "kind", "arrays", "task_digest")}
    return lay_out(
        store, task, arrays, ours["names"], {"task": task, "model": model, "store": store.path, "name": name, **kept}
    )


def _read(store: Store, task: str, model: str, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the attributes and arrays of predictions, checked."""
    where = f"{task}/{KIND}/{model}/{name}"
    digests = store.task_digests(task)
    for text, what in ((model, "model"), (name, "prediction")):
        check_name(text, what)
    ours = store._attributes(where, KIND)  # noqa: SLF001 - as above
    if ours is None:
        known = list_predictions(store, task, model)["name"].tolist()
        raise NotInStoreError(
            f"{store.path}: task {task!r} has no finished predictions {name!r} of model {model!r}."
            f"{did_you_mean(name, known)} `embedstore probe {task} --model {model} --predictions` makes some."
        )
    if ours["task_digest"] != digests:
        raise FingerprintError(
            f"{store.path}/{where}: these predictions are for other samples or labels than those of task {task!r} now. "
            "Run the probe again."
        )
    arrays = {}
    for key, described in ours["arrays"].items():
        arrays[key] = store.read(f"{where}/{key}")
        if _digest(arrays[key]) != described["sha256"]:
            raise CorruptError(
                f"{store.path}/{where}/{key}: differs from its digest. Run the probe again to replace it."
            )
    return ours, arrays
