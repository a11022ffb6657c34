"""What embedding a task would take: rows, bytes, blocks, time, and whether the disk has room."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.adding import ANOTHER_NAME, refuse_difference
from embedstore.errors import DiskSpaceError, InputError, NotInStoreError
from embedstore.layout import ARRAYS, FORMAT_VERSION, Resolution, block_geometry
from embedstore.progress import progress_bar
from embedstore.store import Store, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedstore.models import Model, Piece
    from embedstore.rows import Embedding

_READ = 64  # samples tokenised at a time while rows are counted
_TRIAL_SECONDS = 2.0


class EmbedPlan(NamedTuple):
    """What a run would do.

    Attributes
    ----------
    samples, nucleotides, rows, blocks
        Size of the task and of what is stored for it.
    bytes
        Bytes that the complete embedding takes on disk, without a codec.
    rows_done, blocks_done
        What is committed already and would be reused.
    seconds
        Estimated time of the rest, from a short trial; NaN without one.
    free_bytes
        Free space where the store is; None where that is not known.
    """

    task: str
    model: str
    samples: int
    nucleotides: int
    rows: int
    blocks: int
    bytes: int
    rows_done: int
    blocks_done: int
    seconds: float
    free_bytes: int | None


def plan(
    store: Store | str | Path,
    task: str,
    model: Model,
    *,
    name: str | None = None,
    resolution: Resolution = "token",
    dtype: str = "float16",
    trial: bool = True,
    progress: bool = True,
) -> EmbedPlan:
    """Count what :func:`embed` would compute and store, without writing anything.

    Parameters
    ----------
    store
        A store, or its path.
    task
        Name of a task in it.
    model
        From :func:`embedstore.models.load`.
    name
        Name of the embedding in the store; the model's own by default.
    resolution, dtype
        As for :func:`embed`.
    trial
        Embed a few samples for two seconds to estimate the time.
    progress
        Show a bar while tokens are counted.

    Returns
    -------
    EmbedPlan

    Raises
    ------
    FingerprintError
        If the store holds rows under this name that were made from something else: :func:`embed` would refuse them.
    """
    check_choices(resolution=resolution, dtype=dtype)
    store = store if isinstance(store, Store) else open_store(store)
    check_alphabet(store, task, model)
    name = name or model.name
    lengths = store.lengths(task)
    row_bytes = model.width * np.dtype(dtype).itemsize
    rows_done = blocks_done = 0
    try:
        emb = store.embedding(task, name)
    except NotInStoreError:
        counts = lengths if resolution == "nucleotide" else row_counts(store, task, model, progress=progress)
        blocks = block_geometry(counts, row_bytes).blocks
    else:
        now = fingerprint(store, task, model, resolution=resolution, dtype=dtype, codec=emb.codec)
        refuse_difference(store, f"{task}/{name}", emb.fingerprint, now, ANOTHER_NAME)
        counts, blocks = emb.row_count, emb.blocks
        missing = set(emb.missing())
        done = [block for block in range(blocks) if block not in missing]
        rows_done = int(sum(counts[np.array(emb.block_samples(block))].sum() for block in done))
        blocks_done = len(done)
    rows = int(counts.sum())
    rate = _trial(store, task, model) if trial and rows_done < rows else np.nan
    left = (rows - rows_done) / rows * int(lengths.sum())
    return EmbedPlan(
        task,
        name,
        len(lengths),
        int(lengths.sum()),
        rows,
        blocks,
        stored_bytes(rows, len(lengths), model.width, dtype, spans=bool((counts != lengths).any())),
        rows_done,
        blocks_done,
        left / rate if rows_done < rows else 0.0,
        shutil.disk_usage(store.local).free if store.local else None,
    )


def check_choices(**chosen: str) -> None:
    """Refuse a resolution, dtype or codec that is none."""
    choices = {"resolution": ("token", "nucleotide"), "dtype": ("float16", "float32"), "codec": ("none", "zstd")}
    for what, value in chosen.items():
        if value not in choices[what]:
            raise InputError(f"{what} is {value!r}: it must be one of {', '.join(choices[what])}.")


def check_alphabet(store: Store, task: str, model: Model) -> None:
    """Refuse proteins for a model of nucleotides, and the reverse."""
    found = store.record(task).alphabet
    if found != model.alphabet:
        raise InputError(
            f"{store.path}: the sequences of task {task!r} are {found}, model {model.name!r} takes {model.alphabet}. "
            f"Use a {found} model, or make a task of {'translated' if found == 'dna' else 'coding'} sequences."
        )


def fingerprint(store: Store, task: str, model: Model, *, resolution: str, dtype: str, codec: str) -> dict[str, str]:
    """Return everything that decides the numbers of an embedding."""
    return {
        "format": str(FORMAT_VERSION),
        "sequences": store.task_digests(task)["sequence"],
        "resolution": resolution,
        "dtype": dtype,
        "codec": codec,
        **model.fingerprint,
    }


def stored_bytes(rows: int, samples: int, width: int, dtype: str, *, spans: bool) -> int:
    """Return the bytes that an embedding takes on disk without a codec."""
    span = np.dtype(ARRAYS["span"].dtype).itemsize if spans else 0
    return rows * (width * np.dtype(dtype).itemsize + span) + samples * (width * 4 + 8)


def row_counts(store: Store, task: str, model: Model, *, progress: bool) -> NDArray[np.int64]:
    """Tokenise every sample and return how many rows each will have."""
    samples = len(store.lengths(task))
    counts = np.empty(samples, np.int64)
    for start in progress_bar(range(0, samples, _READ), f"tokenise {task}", show=progress, unit="x64 seq"):
        stop = min(start + _READ, samples)
        for sample, codes in zip(range(start, stop), store.sequences(task, np.arange(start, stop)), strict=True):
            counts[sample] = sum(len(piece.span) for piece in pieces_of(store, task, sample, model, codes))
    return counts


def pieces_of(store: Store, task: str, sample: int, model: Model, codes: NDArray[np.uint8]) -> list[Piece]:
    """Cut the sequence of a sample into pieces; a model that refuses it is told which one it is."""
    try:
        return model.pieces(codes)
    except InputError as error:
        raise InputError(f"{store.path}: task {task!r}, sample {store.sample_id(task, sample)!r}: {error}") from error


def _trial(store: Store, task: str, model: Model) -> float:
    """Return nucleotides per second over evenly spread samples, the first one not counted."""
    lengths = store.lengths(task)
    order = np.linspace(0, len(lengths) - 1, min(64, len(lengths))).astype(int)
    done, begun = 0, time.perf_counter()
    for number, sample in enumerate(order):
        pieces = pieces_of(store, task, int(sample), model, store.sequences(task, [sample])[0])
        for piece in pieces:
            model.hidden(batch_ids([piece], model))
        if number == 0 and len(order) > 1:
            begun = time.perf_counter()  # first calls pay for set-up
            continue
        done += int(lengths[sample])
        if time.perf_counter() - begun > _TRIAL_SECONDS:
            break
    return done / max(time.perf_counter() - begun, 1e-9)


def check_space(emb: Embedding, todo: list[int]) -> None:
    """Refuse to begin what cannot fit on the disk."""
    if emb.store.local is None or not todo:
        return
    rows = int(sum(emb.row_count[np.array(emb.block_samples(block))].sum() for block in todo))
    samples = sum(len(emb.block_samples(block)) for block in todo)
    needed = stored_bytes(rows, samples, emb.width, emb.dtype.name, spans=emb.has_spans)
    free = shutil.disk_usage(emb.store.local).free
    # zstd takes at most a few per cent off float vectors: the plain size is what to expect.
    if needed > free:
        raise DiskSpaceError(
            f"{emb.store.path}: {emb.task}/{emb.name} needs {needed:,} bytes for {len(todo)} blocks, the disk has "
            f"{free:,} free. Free some space, or put the store on another disk."
        )


def batch_ids(pieces: list[Piece], model: Model) -> Any:
    """Return the ids of pieces of equal length as a tensor on the model's device."""
    import torch

    return torch.from_numpy(np.stack([piece.ids for piece in pieces])).to(model.device)
