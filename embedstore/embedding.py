"""The embedding stage: plan, then slabs of samples, batches, device, cast, rows, blocks, commits.

`embedstore.pipeline` has the stages, which run beside each other; here is what a run is told and what it reports.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.blocks import BlockWriter, create_embedding
from embedstore.computing import Runner
from embedstore.errors import InputError
from embedstore.pipeline import Pipeline, Seconds
from embedstore.planning import check_alphabet, check_choices, check_space, fingerprint, run_trial, usual_budget
from embedstore.progress import progress_bar
from embedstore.provenance import begin_run, end_run
from embedstore.selection import select
from embedstore.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from embedstore.layout import Codec, Keep, Resolution, Strands
    from embedstore.models import Model
    from embedstore.selection import Selection

logger = logging.getLogger(__name__)

TRIAL_LETTERS = {"cpu": 2 * 10**6, "cuda": 5 * 10**7}
"""A run of fewer letters has no trial of batch sizes: the trial would cost more than it gains."""


class EmbedReport(NamedTuple):
    """What a run did.

    Attributes
    ----------
    samples, rows, tokens, blocks, bytes
        Embedded and written by this run; tokens as the network saw them.
    blocks_before
        Blocks of this run's share that were committed before and not done again.
    blocks_left
        Blocks that are not committed yet: of other shards, or of no one.
    padding
        Ratio of padded to real tokens.
    batch_tokens
        Most tokens of a batch.
    quarantined
        Ids of samples whose rows were not finite.
    seconds
        Wall time of computing and writing.
    busy
        Seconds of each stage, which run beside each other.
    flops
        Floating-point operations of the network, and ...
    matmul_rate
        ... how many per second the device does in a large matrix product; NaN where nothing was measured.
    """

    task: str
    model: str
    samples: int
    rows: int
    tokens: int
    blocks: int
    bytes: int
    blocks_before: int
    blocks_left: int
    padding: float
    batch_tokens: int
    quarantined: list[str]
    seconds: float
    busy: Seconds
    flops: float
    matmul_rate: float

    @property
    def utilisation(self) -> float:
        """Share of the device's matrix-product rate that the run reached; NaN where it was not measured."""
        return self.flops / (self.seconds * self.matmul_rate) if self.seconds else float("nan")

    @property
    def idle(self) -> float:
        """Share of the time in which the device had nothing to do."""
        return max(0.0, 1 - self.busy.computing / self.seconds) if self.seconds else 0.0

    @property
    def bottleneck(self) -> str:
        """The stage that a faster run would need to be faster."""
        tokens, disk = self.busy.waiting_for_tokens, self.busy.waiting_for_disk
        if max(tokens, disk) < 0.05 * self.seconds or max(tokens, disk) < 0.1 * self.busy.computing:
            return "computing"
        if tokens > disk:
            return "tokenising"
        return max(("copying", "writing", "committing"), key=lambda stage: getattr(self.busy, stage))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        derived = {name: getattr(self, name) for name in ("utilisation", "idle", "bottleneck")}
        return {**self._asdict(), "busy": self.busy._asdict(), **derived}


def embed(
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
    codec: Codec = "none",
    batch_tokens: int | None = None,
    quarantine: bool = False,
    shard: tuple[int, int] | None = None,
    blocks: Sequence[int] | None = None,
    progress: bool = True,
) -> EmbedReport:
    """Embed a task with a model into a store; blocks that are committed already are not done again.

    The result does not depend on `batch_tokens`, `shard` or `blocks` (to float32 rounding). A run may be stopped at any
    moment: what is committed stays, and the same call goes on from there.

    Parameters
    ----------
    store
        A store opened with ``mode="a"``, or its path.
    task
        Name of a task in it.
    model
        From :func:`embedstore.models.load`.
    name
        Name of the embedding in the store; the model's own by default.
    keep
        ``"rows"``, ``"pooled"`` (the mean of each sample over its nucleotides) or ``"both"`` (default).
    positions
        Nucleotides whose rows are kept, 0-based within each sample: a table with columns ``id`` and ``position``, such
        a tab-separated file, or the name of a whole-number column of the sample table. None (default) for all.
    strands
        ``"forward"`` (default), or ``"both"``: at each nucleotide the mean of the sequence and its reverse complement.
    resolution
        ``"token"`` (default): one stored row per token. ``"nucleotide"``: each token's row repeated on disk, for tools
        that know nothing of spans.
    dtype
        ``"float16"`` (default) or ``"float32"``.
    codec
        ``"none"`` (default) or ``"zstd"``.
    batch_tokens
        Most tokens in a batch. Default: found by a trial of two seconds; for small tasks 4,096 on a CPU, 65,536 else.
    quarantine
        Store NaN for samples for which the model gives NaN or infinity, and list them, instead of stopping.
    shard
        ``(i, n)``: only every n-th block, from block i - 1 on, so that n runs with i = 1 ... n do all of them.
    blocks
        Only these blocks.
    progress
        Show a bar.

    Returns
    -------
    EmbedReport

    Raises
    ------
    FingerprintError
        If the store holds rows under this name that were made from something else.
    NonFiniteError
        If the model gives NaN or infinity, or a value too large for `dtype`; the sample is named.
    DiskSpaceError
        If the disk has not enough room for what is left, or fills up.
    DeviceMemoryError
        If the device has not enough memory, also for batches of half the size.
    BlockTakenError
        If another run is writing the same blocks.
    """
    if batch_tokens is not None and batch_tokens < 1:
        raise InputError(f"batch_tokens is {batch_tokens}: it must be at least 1.")
    store = store if isinstance(store, Store) else open_store(store, mode="a")
    selection = select(store, task, keep=keep, resolution=resolution, strands=strands, positions=positions)
    writer = _prepare(store, task, model, selection, name=name, dtype=dtype, codec=codec, progress=progress)
    emb = writer.embedding
    mine = _share(emb.blocks, shard, blocks)
    todo = [block for block in mine if emb.commit(block) is None]
    logger.info("%s: %d of %d blocks to embed", emb, len(todo), emb.blocks)
    check_space(emb, todo, selection)
    if not todo:
        writer.finish()
        return _report(emb, None, mine, todo, Seconds(*[0.0] * 8), (0.0, float("nan")))
    measured = (float("nan"), float("nan"))
    if batch_tokens is None:
        batch_tokens, measured = _tried(store, task, model, selection, sum(map(len, map(emb.block_samples, todo))))
    computed = None if keep == "pooled" else _computed_dtype(selection, dtype)
    runner = Runner(model, batch_tokens, computed, means=keep != "rows")
    settings = {"batch_tokens": batch_tokens, "shard": shard, "blocks": len(todo), "quarantine": quarantine}
    run = begin_run(emb, model.device, **settings)
    pipeline = Pipeline(writer, runner, selection, quarantine=quarantine)
    total = sum(len(emb.block_samples(block)) for block in mine)
    before = total - sum(len(emb.block_samples(block)) for block in todo)
    bar = progress_bar(None, f"embed {task}/{emb.name}", show=progress, total=total, initial=before, unit="seq")
    with bar:
        busy = pipeline.run(todo, bar)
    report = _report(emb, pipeline, mine, todo, busy, measured)
    end_run(emb, run, samples=report.samples, rows=report.rows, quarantined=report.quarantined, seconds=report.seconds)
    writer.finish()
    return report


def prepare(
    store: Store,
    task: str,
    model: Model,
    *,
    name: str | None = None,
    keep: Keep = "both",
    positions: str | Path | pd.DataFrame | None = None,
    strands: Strands = "forward",
    resolution: Resolution = "token",
    dtype: str = "float16",
    codec: Codec = "none",
    progress: bool = True,
) -> BlockWriter:
    """Create the arrays of an embedding without computing anything, or take up those that are there.

    Parameters
    ----------
    store
        Opened with ``mode="a"``.
    task, model, name, keep, positions, strands, resolution, dtype, codec, progress
        As for `embed`.

    Returns
    -------
    BlockWriter

    Raises
    ------
    FingerprintError
        If the store holds rows under this name that were made from something else.
    """
    selection = select(store, task, keep=keep, resolution=resolution, strands=strands, positions=positions)
    return _prepare(store, task, model, selection, name=name, dtype=dtype, codec=codec, progress=progress)


def _prepare(
    store: Store,
    task: str,
    model: Model,
    selection: Selection,
    *,
    name: str | None,
    dtype: str,
    codec: Codec,
    progress: bool,
) -> BlockWriter:
    """Create the arrays of what is to be kept, or take up those that are there."""
    check_choices(dtype=dtype, codec=codec)
    check_alphabet(store, task, model)
    return create_embedding(
        store,
        task,
        name or model.name,
        record=dict(model.record),
        fingerprint=fingerprint(store, task, model, selection, dtype=dtype, codec=codec),
        width=model.width,
        row_count=lambda: selection.row_counts(store, task, model, progress=progress),
        dtype=dtype,
        resolution=selection.resolution,
        codec=codec,
        keep=selection.keep,
        few=selection.positions is not None,
    )


def _share(blocks: int, shard: tuple[int, int] | None, wanted: Sequence[int] | None) -> list[int]:
    """Return the blocks that a run is to do, ascending."""
    if wanted is not None:
        bad = [block for block in wanted if not 0 <= block < blocks]
        if bad:
            raise InputError(f"There is no block {bad[0]}: blocks are numbered 0 to {blocks - 1}.")
    if shard is None:
        return sorted(set(wanted)) if wanted is not None else list(range(blocks))
    if wanted is not None:
        raise InputError("Give a shard or blocks, not both.")
    number, of = shard
    if not 1 <= number <= of:
        raise InputError(f"shard is {number} of {of}: the number must be from 1 to {of}.")
    return list(range(number - 1, blocks, of))


def _computed_dtype(selection: Selection, dtype: str) -> str:
    """Return the precision in which rows leave the device: the mean of two strands is rounded once, on the host."""
    return "float32" if selection.strands == "both" else dtype


def _tried(
    store: Store, task: str, model: Model, selection: Selection, samples: int
) -> tuple[int, tuple[float, float]]:
    """Return the tokens of a batch, and (flops per token, matmul rate of the device), measured where a run is long."""
    lengths = store.lengths(task)
    letters = int(lengths.sum()) * samples // len(lengths)
    if letters < TRIAL_LETTERS["cpu" if model.device.type == "cpu" else "cuda"]:
        return usual_budget(model), (float("nan"), float("nan"))
    from embedstore.models.flops import flops, matmul_rate

    trial = run_trial(store, task, model, selection)
    logger.info("tokens per second by batch: %s; batches of %d", trial.tried, trial.batch_tokens)
    if model.record["architecture"] == "function":  # what it computes is its own affair, and not counted
        return trial.batch_tokens, (float("nan"), float("nan"))
    middle = lengths.argsort()[len(lengths) // 2 : len(lengths) // 2 + 1]
    ids = [len(job.ids) for each in selection.place(store, task, model, middle) for job in each.jobs]
    return trial.batch_tokens, (flops(model, ids) / sum(ids), matmul_rate(model.device, model.precision))


def _report(
    emb: Any, pipeline: Pipeline | None, mine: list[int], todo: list[int], busy: Seconds, measured: tuple[float, float]
) -> EmbedReport:
    """Sum a run up."""
    tokens = pipeline.runner.tokens if pipeline else 0
    return EmbedReport(
        emb.task,
        emb.name,
        samples=pipeline.samples if pipeline else 0,
        rows=pipeline.rows if pipeline else 0,
        tokens=tokens,
        blocks=len(todo),
        bytes=pipeline.bytes if pipeline else 0,
        blocks_before=len(mine) - len(todo),
        blocks_left=len(emb.missing()),
        padding=pipeline.runner.padded / tokens if pipeline and tokens else 1.0,
        batch_tokens=pipeline.runner.budget if pipeline else 0,
        quarantined=sorted(pipeline.quarantined) if pipeline else [],
        seconds=busy.total,
        busy=busy,
        flops=measured[0] * tokens,
        matmul_rate=measured[1],
    )
