"""Running a model on batches: ids to the device, the network, and what is stored of its output back to the host.

On CUDA the ids go up from pinned memory, and rows come down on a stream of their own into pinned buffers, while the
next batch is computed.
"""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.batches import split
from embedstore.errors import DeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    from embedstore.models import Model
    from embedstore.placing import Job

logger = logging.getLogger(__name__)

_FEW = 4
"""Fewer than one row in so many is few."""


class Output(NamedTuple):
    """What a batch gave.

    Attributes
    ----------
    rows
        Rows to store, those of one job after another, shape (row, channel); None where rows are not kept.
    largest
        Largest magnitude in each of them before the cast, shape (row,), float32; NaN or infinite where the model's
        output was. Where rows are not kept, that of each job's mean.
    sums
        Sum over the nucleotides of each job, shape (job, channel), float32; None where means are not kept.
    """

    rows: NDArray[Any] | None
    largest: NDArray[np.float32]
    sums: NDArray[np.float32] | None


class Computed(NamedTuple):
    """A batch on its way back from the device.

    Attributes
    ----------
    batch
        Indices of its jobs.
    wait
        Waits for the output and returns it, with the seconds that the device took; may be called once.
    release
        Gives the buffers of the output back; to be called when it has been copied.
    """

    batch: NDArray[np.int64]
    wait: Callable[[], tuple[Output, float]]
    release: Callable[[], None]


class Runner:
    """Runs batches of a model, and halves them once if the device has not enough memory.

    Parameters
    ----------
    model
        From `embedstore.models.load`.
    budget
        Most tokens of a batch.
    dtype
        Of the rows that are given back; None for none.
    means
        Whether sums are given back. Where they are not, and few rows are, a model computes little else.

    Attributes
    ----------
    budget : int
        Halved when memory was exhausted.
    tokens, padded : int
        Real and padded tokens computed so far.
    """

    def __init__(self, model: Model, budget: int, dtype: str | None, *, means: bool = True) -> None:
        self.model, self.budget, self.dtype, self.means = model, budget, dtype, means
        self.tokens = self.padded = 0
        self._halved = False
        self._copies: Any = None

    def run(self, jobs: Sequence[Job], batch: NDArray[np.int64]) -> Iterator[Computed]:
        """Compute a batch; usually all at once.

        Parameters
        ----------
        jobs
            All jobs.
        batch
            Indices of those to run, by falling length.

        Yields
        ------
        Computed

        Raises
        ------
        DeviceMemoryError
            If batches do not fit on the device after they were halved once.
        """
        lengths = np.array([len(job.ids) for job in jobs], np.int64)
        todo = [batch]
        while todo:
            part = todo.pop(0)
            if self._halved and len(part) > 1 and int(lengths[part].sum()) > self.budget:
                todo = split(part, lengths, self.budget) + todo
                part = todo.pop(0)
            try:
                yield self._compute([jobs[i] for i in part], part)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self._halve(part, lengths, error)
                todo.insert(0, part)

    def _halve(self, part: NDArray[np.int64], lengths: NDArray[np.int64], error: BaseException) -> None:
        """Halve the budget the first time, give up the second."""
        import torch

        tokens, longest = int(lengths[part].sum()), int(lengths[part].max())
        if self._halved or len(part) == 1:
            what = "after they were halved once" if self._halved else "of one sequence"
            raise DeviceMemoryError(
                f"{self.model.device} has not enough memory for batches of {tokens:,} tokens (the longest sequence has "
                f"{longest:,}) {what}: {str(error).splitlines()[0]} Give fewer --batch-tokens, a lower --precision, or "
                "a device with more memory."
            ) from error
        self._halved, self.budget = True, max(1, tokens // 2)
        logger.warning("Memory was exhausted by %d tokens: batches have %d from now on.", tokens, self.budget)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _compute(self, jobs: list[Job], batch: NDArray[np.int64]) -> Computed:
        """Start a batch."""
        import torch

        if self.model.device.type == "cuda":
            return self._compute_cuda(jobs, batch)
        began = time.perf_counter()
        with torch.inference_mode():
            output = Output(*(None if part is None else part.numpy() for part in self._run(jobs)))  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        return Computed(batch, lambda: (output, seconds), lambda: None)

    def _run(self, jobs: list[Job]) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """Return the rows to store, the largest magnitude of each, and the sums of jobs where they are kept."""
        kept = None if self.means or self.dtype is None else _few(jobs)
        return self._reduce(jobs, self._hidden(jobs)) if kept is None else self._rows(self._hidden_rows(jobs, kept))

    def _hidden(self, jobs: list[Job]) -> list[torch.Tensor]:
        """Return the hidden states of runs of jobs of one length, each of shape (job, token, channel)."""
        import torch

        model, device = self.model, self.model.device
        lengths = [len(job.ids) for job in jobs]
        runs = _runs(lengths)
        self.tokens += sum(lengths)
        if len(runs) > 1 and model.packs:
            self.padded += sum(lengths)
            stream = model.hidden_packed(_upload(np.concatenate([job.ids for job in jobs]), device), lengths)
            parts = torch.split(stream, [count * length for count, length in runs])
            return [part.reshape(*run, -1) for part, run in zip(parts, runs, strict=True)]
        hidden = model.hidden(**self._padded(jobs, lengths))
        starts = np.cumsum([0, *(count for count, _ in runs)]).tolist()
        return [hidden[start : start + count, :length] for start, (count, length) in zip(starts, runs, strict=False)]

    def _hidden_rows(self, jobs: list[Job], kept: NDArray[np.int64]) -> torch.Tensor:
        """Return the hidden states at the rows that are kept, shape (row, channel); `kept` as `_few` gives it."""
        model, device = self.model, self.model.device
        lengths = [len(job.ids) for job in jobs]
        self.tokens += sum(lengths)
        if len(set(lengths)) > 1 and model.packs:
            self.padded += sum(lengths)
            rows = (np.cumsum(lengths) - lengths)[:, None] + kept
            stream = _upload(np.concatenate([job.ids for job in jobs]), device)
            hidden = model.hidden_packed(stream, lengths, _upload(rows.ravel(), device))
        else:
            hidden = model.hidden(**self._padded(jobs, lengths), rows=_upload(kept, device)).flatten(0, 1)
        many = [len(_taken(job)) for job in jobs]
        if min(many) == kept.shape[1]:
            return hidden
        wanted = np.flatnonzero(np.arange(kept.shape[1]) < np.array(many)[:, None])
        return hidden.index_select(0, _upload(wanted, device))

    def _padded(self, jobs: list[Job], lengths: list[int]) -> dict[str, torch.Tensor]:
        """Return the ids of jobs on the device, and their lengths where these differ, as `Model.hidden` takes them."""
        device, alike = self.model.device, lengths[0] == lengths[-1]
        ids = np.zeros((len(jobs), lengths[0]), np.int64)
        for row, job in zip(ids, jobs, strict=True):
            row[: len(job.ids)] = job.ids
        self.padded += ids.size
        found = {"ids": _upload(ids, device)}
        return found if alike else {**found, "lengths": _upload(np.array(lengths), device)}

    def _rows(self, exact: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return rows as they are stored, and the largest magnitude of each."""
        import torch

        largest = exact.abs().amax(1) if len(exact) else exact.new_empty(0)
        return exact.to(getattr(torch, self.dtype or "float32")), largest, None

    def _reduce(
        self, jobs: list[Job], hidden: list[torch.Tensor]
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """Return the rows to store, the largest magnitude of each, and the sum of each job over its nucleotides."""
        import torch

        device, start = self.model.device, 0
        rows, sums = [], []
        for run in hidden:
            members = jobs[start : start + len(run)]
            start += len(run)
            if self.means or self.dtype is None:
                weight = np.zeros(run.shape[:2], np.float32)
                for line, job in zip(weight, members, strict=True):
                    line[job.first : job.first + len(job.span)] = job.span
                sums.append(torch.einsum("btc,bt->bc", run, _upload(weight, device)))
            if self.dtype is None:
                continue
            first, kept = members[0].first, len(members[0].span)
            if all(job.take is None and job.first == first and len(job.span) == kept for job in members):
                rows.append(run[:, first : first + kept].flatten(0, 1))
            else:
                length = run.shape[1]
                index = [number * length + _taken(job) for number, job in enumerate(members)]
                rows.append(run.flatten(0, 1).index_select(0, _upload(np.concatenate(index), device)))
        total = torch.cat(sums) if sums else None
        if self.dtype is None:
            assert total is not None
            return None, total.abs().amax(1), total
        return *self._rows(torch.cat(rows))[:2], total

    def _compute_cuda(self, jobs: list[Job], batch: NDArray[np.int64]) -> Computed:
        """Start a batch on a CUDA device; what it gives is copied on a stream of its own."""
        import torch

        if self._copies is None:
            self._copies = torch.cuda.Stream(self.model.device)  # type: ignore[no-untyped-call]
        begun, done, copied = (torch.cuda.Event(enable_timing=True) for _ in range(3))  # type: ignore[no-untyped-call]
        begun.record()
        with torch.inference_mode():
            tensors = self._run(jobs)
        done.record()
        pinned: list[torch.Tensor | None] = []
        with torch.cuda.stream(self._copies):
            done.wait(self._copies)
            for tensor in tensors:
                # Torch keeps freed pinned memory for the next batch: a pool of as many buffers as are in use.
                there = None if tensor is None else torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                if there is not None and tensor is not None:
                    there.copy_(tensor, non_blocking=True)
                    tensor.record_stream(self._copies)
                pinned.append(there)
            copied.record(self._copies)

        def wait() -> tuple[Output, float]:
            copied.synchronize()
            arrays = [None if tensor is None else tensor.numpy() for tensor in pinned]
            return Output(*arrays), begun.elapsed_time(done) / 1000  # type: ignore[arg-type]

        return Computed(batch, wait, pinned.clear)


def _few(jobs: list[Job]) -> NDArray[np.int64] | None:
    """Return the output rows that are stored where they are few, shape (job, row), shorter lines filled up with theirs.

    None where they are so many that a model should give all.
    """
    if any(job.take is None for job in jobs):
        return None
    most = max(len(_taken(job)) for job in jobs)
    if not most or _FEW * most * len(jobs) > sum(len(job.ids) for job in jobs):
        return None
    kept = np.zeros((len(jobs), most), np.int64)
    for line, job in zip(kept, jobs, strict=True):
        taken = _taken(job)
        line[:] = taken[-1] if len(taken) else job.first
        line[: len(taken)] = taken
    return kept


def _taken(job: Job) -> NDArray[np.int64]:
    """Return the output rows of a job that are stored."""
    return np.arange(job.first, job.first + len(job.span)) if job.take is None else job.take


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """Return how many neighbours have one length, and that length."""
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    return [(stop - start, lengths[start]) for start, stop in itertools.pairwise(edges)]


def _upload(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy values to a device, from pinned memory where that lets the copy run beside other work."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is exhausted; on the CPU torch has no class of its own for that."""
    import torch

    text = str(error).lower()
    said = "not enough memory" in text or "can't allocate memory" in text
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or said
