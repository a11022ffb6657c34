"""What embedding a task would take: rows, tokens, bytes, time from a short trial, and whether the disk has room."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.adding import ANOTHER_NAME, refuse_difference
from embedstore.batches import plan_batches
from embedstore.computing import Runner
from embedstore.errors import DeviceMemoryError, DiskSpaceError, InputError, NotInStoreError
from embedstore.layout import ARRAYS, FORMAT_VERSION, Geometry, Keep, Resolution, Strands, block_geometry
from embedstore.selection import Selection, select
from embedstore.store import Store, open_store

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.models import Model
    from embedstore.placing import Job
    from embedstore.rows import Embedding

BUDGETS = {"cpu": (1024, 4096, 16_384), "cuda": (16_384, 65_536, 262_144)}
"""Tokens per batch that a trial compares; other devices are tried like CUDA."""
USUAL_BUDGET = {"cpu": 4096, "cuda": 65_536}
"""Tokens per batch where there is no trial."""
_TRIAL_SECONDS = 2.0
_TRIAL_SAMPLES = 256
_GAIN = 1.03  # a larger batch must be so much faster to be chosen: it costs memory


class Trial(NamedTuple):
    """What a short trial measured.

    Attributes
    ----------
    batch_tokens
        The smallest budget that is within 3 % of the fastest.
    tokens_per_second, nucleotides_per_second
        With it.
    tokens_per_nucleotide
        Of the samples tried, special tokens included.
    tried
        Tokens per second by budget.
    """

    batch_tokens: int
    tokens_per_second: float
    nucleotides_per_second: float
    tokens_per_nucleotide: float
    tried: dict[int, float]


class EmbedPlan(NamedTuple):
    """What a run would do.

    Attributes
    ----------
    samples, nucleotides, rows, blocks
        Size of the task and of what is stored for it; no rows where only means are kept.
    tokens
        What the network would compute, special tokens included, estimated from the trial; NaN without one.
    bytes
        Bytes that the complete embedding takes on disk, without a codec.
    rows_done, blocks_done
        What is committed already and would be reused.
    batch_tokens
        Tokens of a batch that the trial chose, or the usual number.
    seconds
        Estimated time of the rest, from the trial; NaN without one.
    free_bytes
        Free space where the store is; None where that is not known.
    """

    task: str
    model: str
    samples: int
    nucleotides: int
    rows: int
    tokens: float
    blocks: int
    bytes: int
    rows_done: int
    blocks_done: int
    batch_tokens: int
    seconds: float
    free_bytes: int | None


def plan(
    store: Store | str | Path,
    task: str,
    model: Model,
    *,
    name: str | None = None,
    keep: Keep = "both",
    positions: str | Path | pd.DataFrame | None = None,
    strands: Strands = "forward",
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
    keep, positions, strands, resolution, dtype
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
    store = store if isinstance(store, Store) else open_store(store)
    check_choices(dtype=dtype)
    check_alphabet(store, task, model)
    selection = select(store, task, keep=keep, resolution=resolution, strands=strands, positions=positions)
    name = name or model.name
    lengths = store.lengths(task)
    counts, geometry, done = _laid_out(store, task, model, name, selection, dtype=dtype, progress=progress)
    ready = np.isin(np.arange(len(lengths)) // geometry.samples_per_block, done)
    tried = run_trial(store, task, model, selection) if trial and not ready.all() else None
    left = int(lengths[~ready].sum())
    return EmbedPlan(
        task,
        name,
        len(lengths),
        int(lengths.sum()),
        int(counts.sum()),
        lengths.sum() * tried.tokens_per_nucleotide if tried else float("nan"),
        geometry.blocks,
        stored_bytes(counts, lengths, model.width, dtype, selection),
        int(counts[ready].sum()),
        len(done),
        tried.batch_tokens if tried else usual_budget(model),
        left / tried.nucleotides_per_second if tried else (float("nan") if left else 0.0),
        shutil.disk_usage(store.local).free if store.local else None,
    )


def _laid_out(
    store: Store, task: str, model: Model, name: str, selection: Selection, *, dtype: str, progress: bool
) -> tuple[NDArray[np.int64], Geometry, list[int]]:
    """Return the rows of each sample, how they lie or would lie in blocks, and the blocks that are committed."""
    try:
        emb = store.embedding(task, name)
    except NotInStoreError:
        pooled = selection.keep == "pooled"
        counts = np.zeros(len(store.lengths(task)), np.int64)
        if not pooled:
            counts = selection.row_counts(store, task, model, progress=progress)
        row_bytes = model.width * (4 if pooled else np.dtype(dtype).itemsize)
        few = pooled or selection.positions is not None
        return counts, block_geometry(np.maximum(counts, pooled), row_bytes, few=few), []
    now = fingerprint(store, task, model, selection, dtype=dtype, codec=emb.codec)
    refuse_difference(store, f"{task}/{name}", emb.fingerprint, now, ANOTHER_NAME)
    missing = set(emb.missing())
    return emb.row_count, emb.geometry, [block for block in range(emb.blocks) if block not in missing]


def check_choices(**chosen: str) -> None:
    """Refuse a dtype or codec that is none."""
    choices = {"dtype": ("float16", "float32"), "codec": ("none", "zstd")}
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


def fingerprint(
    store: Store, task: str, model: Model, selection: Selection, *, dtype: str, codec: str
) -> dict[str, str]:
    """Return everything that decides the numbers of an embedding."""
    return {
        "format": str(FORMAT_VERSION),
        "sequences": store.task_digests(task)["sequence"],
        "resolution": selection.resolution,
        "dtype": dtype,
        "codec": codec,
        **selection.fingerprint(),
        **model.fingerprint,
    }


def stored_bytes(
    row_count: NDArray[np.int64], lengths: NDArray[np.int64], width: int, dtype: str, selection: Selection
) -> int:
    """Return the bytes that samples take on disk without a codec."""
    by_row = width * np.dtype(dtype).itemsize
    if selection.positions is not None or (row_count != lengths).any():
        by_row += np.dtype(ARRAYS["span"].dtype).itemsize
    if selection.positions is not None:
        by_row += np.dtype(ARRAYS["start"].dtype).itemsize
    by_sample = 8 + (0 if selection.keep == "rows" else 4 * width)
    return (0 if selection.keep == "pooled" else int(row_count.sum()) * by_row) + len(row_count) * by_sample


def check_space(emb: Embedding, todo: list[int], selection: Selection) -> None:
    """Refuse to begin what cannot fit on the disk."""
    if emb.store.local is None or not todo:
        return
    samples = np.concatenate([np.array(emb.block_samples(block)) for block in todo])
    lengths = emb.store.lengths(emb.task)[samples]
    needed = stored_bytes(emb.row_count[samples], lengths, emb.width, emb.dtype.name, selection)
    free = shutil.disk_usage(emb.store.local).free
    # zstd takes at most a few per cent off float vectors: the plain size is what to expect.
    if needed > free:
        raise DiskSpaceError(
            f"{emb.store.path}: {emb.task}/{emb.name} needs {needed:,} bytes for {len(todo)} blocks, the disk has "
            f"{free:,} free. Free some space, or put the store on another disk."
        )


def usual_budget(model: Model) -> int:
    """Return the tokens of a batch where nothing was tried."""
    return USUAL_BUDGET["cpu" if model.device.type == "cpu" else "cuda"]


def run_trial(store: Store, task: str, model: Model, selection: Selection) -> Trial:
    """Embed some samples, spread evenly over a task, in batches of different sizes for about two seconds.

    Parameters
    ----------
    store, task
        Where the samples are.
    model
        What to run.
    selection
        Says whether both strands are run.

    Returns
    -------
    Trial

    Raises
    ------
    DeviceMemoryError
        If the device has not enough memory for the smallest batch.
    """
    lengths = store.lengths(task)
    samples = np.unique(np.linspace(0, len(lengths) - 1, min(_TRIAL_SAMPLES, len(lengths))).astype(int))
    samples = samples[: max(1, int(np.searchsorted(np.cumsum(lengths[samples]), 2**21, side="right")))]
    placed = selection.place(store, task, model, samples)
    jobs = [job for each in placed for job in each.jobs]
    tokens = sum(len(job.ids) for job in jobs)
    dtype = None if selection.keep == "pooled" else "float32"
    tried: dict[int, float] = {}
    ended = time.perf_counter() + _TRIAL_SECONDS
    means = selection.keep != "rows"
    _time(Runner(model, 1, dtype, means=means), jobs[:1])  # first calls pay for set-up
    for budget in BUDGETS["cpu" if model.device.type == "cpu" else "cuda"]:
        try:
            tried[budget] = _rate(Runner(model, budget, dtype, means=means), jobs, (ended - time.perf_counter()) / 2)
        except DeviceMemoryError:
            if not tried:
                raise
            break
        slower = budget != max(tried, key=lambda each: tried[each])
        if slower or time.perf_counter() > ended or budget >= tokens:
            break
    best = next(budget for budget in tried if tried[budget] * _GAIN >= max(tried.values()))
    per_nucleotide = tokens / int(lengths[samples].sum())
    return Trial(best, tried[best], tried[best] / per_nucleotide, per_nucleotide, tried)


def _rate(runner: Runner, jobs: list[Job], seconds: float) -> float:
    """Return tokens per second with batches of a runner's size; at least one batch is run."""
    lengths = np.array([len(job.ids) for job in jobs], np.int64)
    spent = 0.0
    batches = plan_batches(lengths, runner.budget, packs=runner.model.packs, pads=runner.model.pads)
    # Long and short ones in turn: the first batches are those of the longest sequences.
    for batch in batches[:: max(1, len(batches) // 4)] + batches[1:]:
        spent += _time(runner, [jobs[i] for i in batch])
        if spent > seconds:
            break
    return runner.tokens / spent


def _time(runner: Runner, jobs: list[Job]) -> float:
    """Return the seconds that a batch takes."""
    began = time.perf_counter()
    for computed in runner.run(jobs, np.arange(len(jobs))):
        computed.wait()
        computed.release()
    return time.perf_counter() - began
