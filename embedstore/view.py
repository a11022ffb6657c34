"""Labelled, lazy views of a task and its embedding: xarray datasets at nucleotide resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.indices import offsets

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from embedstore.rows import Embedding
    from embedstore.store import Store
    from embedstore.tasks import Labels


def open_dataset(store: Store, task: str, model: str) -> xr.Dataset:
    """Open a task and one model's embedding, lazily, one dask chunk per block.

    Rows are upsampled to nucleotides as they are read, so both storage resolutions look the same and give equal
    values. Reading one position of one sample this way decodes its whole block; for single samples use
    :func:`sample_dataset`, which reads only the chunks that it must.

    Parameters
    ----------
    store
        The store.
    task, model
        Names in the store; ``"onehot"`` needs no embedding.

    Returns
    -------
    xarray.Dataset
        ``embedding`` (float32), ``sequence`` (letters) and ``label``, with the sample table as coordinates.
        Where all samples have one length the dimensions are (sample, position, channel), else (nucleotide, channel)
        and the coordinates ``first_nucleotide`` and ``length`` say which nucleotides a sample takes.
        A column with the name of a dimension or variable, say ``label``, is called ``sample_label`` here.
        ``sel(sample=ID)`` works on the sample dimension. Samples that were quarantined are NaN.
        Where only means were kept, the dataset has ``pooled`` (sample, channel) instead; where only the rows of some
        positions were kept, ``rows`` (row, channel) with the coordinates ``row_sample`` (index of the sample),
        ``row_start`` and ``row_span`` (nucleotides).

    Raises
    ------
    IncompleteError
        When a block is computed that is not embedded yet.
    CorruptError
        When stored bytes are not those that were committed.
    """
    import xarray as xr

    emb = store.embedding(task, model)
    table, lengths = store.samples(task), store.lengths(task)
    if not emb.keeps_rows or emb.keeps_some:
        return _partial(emb, table, lengths)
    fixed = bool((lengths == lengths[0]).all())
    place = ("sample", "position") if fixed else ("nucleotide",)
    shape: tuple[int, ...] = (len(lengths), int(lengths[0])) if fixed else (int(lengths.sum()),)
    chunks = _block_chunks(emb, lengths, fixed=fixed)
    per_channel = (*chunks, (emb.width,))
    variables: dict[str, Any] = {
        "embedding": ((*place, "channel"), _by_block(_embedding, emb, (*shape, emb.width), per_channel, np.float32)),
        "sequence": (place, _by_block(_sequence, emb, shape, chunks, "S1")),
    }
    labels = store.labels(task)
    if labels is not None:
        variables["label"] = _label(labels, shape, chunks, fixed=fixed)
    coordinates = sample_coordinates(table, offsets(lengths)[:-1])
    if fixed:
        coordinates["position"] = np.arange(shape[1])
    attributes = {"task": task, "model": model, "store": store.path, "resolution stored": emb.resolution}
    dataset = xr.Dataset(variables, coordinates, attributes)
    dataset["embedding"].attrs["fingerprint"] = str(emb.fingerprint)
    return dataset


def _partial(emb: Embedding, table: pd.DataFrame, lengths: NDArray[np.int64]) -> xr.Dataset:
    """Open an embedding that holds means only, or the rows of some positions."""
    import xarray as xr

    coordinates = sample_coordinates(table, offsets(lengths)[:-1])
    attributes = {"task": emb.task, "model": emb.name, "store": emb.store.path, "resolution stored": emb.resolution}
    blocks = [np.array(emb.block_samples(block)) for block in range(emb.blocks)]
    if not emb.keeps_rows:
        chunks = (tuple(len(samples) for samples in blocks), (emb.width,))
        array = _by_block(_pooled, emb, (len(lengths), emb.width), chunks, np.float32)
        return xr.Dataset({"pooled": (("sample", "channel"), array)}, coordinates, attributes)
    chunks = (tuple(int(emb.row_count[samples].sum()) for samples in blocks), (emb.width,))
    array = _by_block(_rows, emb, (int(emb.row_count.sum()), emb.width), chunks, np.float32)
    parts = [emb.read_block(block, quarantined=True) for block in range(emb.blocks) if emb.commit(block) is not None]
    if len(parts) == emb.blocks:
        coordinates["row_start"] = ("row", np.concatenate([part.start for part in parts if part.start is not None]))
        coordinates["row_span"] = ("row", np.concatenate([part.span for part in parts]))
    coordinates["row_sample"] = ("row", np.repeat(np.arange(len(lengths)), emb.row_count))
    return xr.Dataset({"rows": (("row", "channel"), array)}, coordinates, attributes)


def sample_dataset(store: Store, task: str, model: str, sample: str) -> xr.Dataset:
    """Read one sample, at nucleotide resolution, from only the chunks that it lies in.

    Parameters
    ----------
    store
        The store.
    task, model
        Names in the store.
    sample
        Id of the sample.

    Returns
    -------
    xarray.Dataset
        In memory: ``embedding`` (position, channel) float32, ``sequence`` (position) and the sample's ``label``; the
        columns of the sample table are scalar coordinates.
    """
    import xarray as xr

    emb = store.embedding(task, model)
    index = int(store.indices(task, [sample])[0])
    row = store.samples(task).iloc[index]
    letters = store.sequences(task, [index])[0]
    variables: dict[str, Any] = {
        "embedding": (("position", "channel"), emb.read([index]).nucleotides()),
        "sequence": (("position",), letters.view("S1")),
    }
    labels = store.labels(task)
    if labels is not None:
        if labels.dims[0] == "nucleotide":
            start = int(store.lengths(task)[:index].sum())
            variables["label"] = (("position",), labels.values[start : start + len(letters)])
        else:
            variables["label"] = (labels.dims[1:], labels.values[index])
    coordinates = {"sample": row["id"], **{_coordinate(name): row[name] for name in row.index if name != "id"}}
    coordinates["position"] = np.arange(len(letters))
    return xr.Dataset(variables, coordinates, {"task": task, "model": model, "store": store.path})


def sample_coordinates(table: pd.DataFrame, first: NDArray[np.int64]) -> dict[str, Any]:
    """Return a sample table as coordinates of a dataset.

    Parameters
    ----------
    table
        From `Store.samples`, or some of its rows.
    first
        (sample,) first nucleotide of each on the flat axis.

    Returns
    -------
    dict
        The ids as index of the dimension ``sample``, the other columns along it. A column with the name of a dimension
        or variable, say ``label``, is called ``sample_label``.
    """
    columns = {_coordinate(name): ("sample", table[name].to_numpy()) for name in table.columns if name != "id"}
    return {"sample": table["id"].to_numpy(), **columns, "first_nucleotide": ("sample", first)}


def _coordinate(column: str) -> str:
    """Return the name of a column of the sample table in a dataset, where some names are taken."""
    taken = {"sample", "position", "channel", "nucleotide", "bin", "target"}
    taken |= {"embedding", "sequence", "label", "first_nucleotide"}
    return f"sample_{column}" if column in taken else column


def _block_chunks(emb: Embedding, lengths: NDArray[np.int64], *, fixed: bool) -> tuple[tuple[int, ...], ...]:
    """Return dask chunks along the samples (and positions) or nucleotides, one per block."""
    blocks = [emb.block_samples(block) for block in range(emb.blocks)]
    if fixed:
        return tuple(len(samples) for samples in blocks), (int(lengths[0]),)
    return (tuple(int(lengths[samples.start : samples.stop].sum()) for samples in blocks),)


def _by_block(
    function: Any, emb: Embedding, shape: tuple[int, ...], chunks: tuple[tuple[int, ...], ...], dtype: Any
) -> da.Array:
    """Return a dask array whose every chunk is a function of the embedding's handle and a block number."""
    import dask.array as da
    from dask.base import tokenize

    where = emb.store.path if emb.store.local else id(emb.store)
    token = tokenize(where, emb.task, emb.name, emb.fingerprint, shape)
    numbers = da.arange(emb.blocks, chunks=1)
    array = da.map_blocks(
        function,
        numbers,
        emb=emb,
        shape=shape,
        chunks=chunks,
        new_axis=list(range(1, len(chunks))),
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        name=f"{function.__name__.strip('_')}-{token}",
    )
    assert array.shape == shape
    return array  # type: ignore[no-any-return]


def _embedding(block: NDArray[np.int64], emb: Embedding, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read a block and upsample it to nucleotides."""
    rows = emb.read_block(int(block[0]), quarantined=True)
    return rows.nucleotides().reshape(-1, *shape[1:])


def _rows(block: NDArray[np.int64], emb: Embedding, shape: tuple[int, ...]) -> NDArray[np.float32]:  # noqa: ARG001
    """Read the rows of a block as they are stored."""
    return emb.read_block(int(block[0]), quarantined=True).vector.astype(np.float32)


def _pooled(block: NDArray[np.int64], emb: Embedding, shape: tuple[int, ...]) -> NDArray[np.float32]:  # noqa: ARG001
    """Read the means of a block's samples."""
    return emb.pooled(np.array(emb.block_samples(int(block[0]))), quarantined=True)


def _sequence(block: NDArray[np.int64], emb: Embedding, shape: tuple[int, ...]) -> NDArray[np.bytes_]:
    """Read the letters of a block."""
    letters = emb.store.sequences(emb.task, np.array(emb.block_samples(int(block[0]))))
    return np.concatenate(letters).view("S1").reshape(-1, *shape[1:])


def _label(labels: Labels, shape: tuple[int, ...], chunks: tuple[tuple[int, ...], ...], *, fixed: bool) -> Any:
    """Return labels as a variable whose first axis is chunked like the embedding's."""
    import dask.array as da

    values, dims = labels.values, labels.dims
    if dims[0] == "nucleotide" and fixed:
        values, dims = values.reshape(shape), ("sample", "position")
    along = chunks[0] if dims[0] == "nucleotide" or fixed else (len(values),)
    return dims, da.from_array(values, chunks=(along, *((n,) for n in values.shape[1:])))
