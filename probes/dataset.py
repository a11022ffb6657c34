"""Samples of a task with their stored embeddings and labels, in batches."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from embedstore.errors import CorruptError, InputError, NonFiniteError, NotInStoreError, did_you_mean
from embedstore.indices import offsets
from embedstore.progress import progress_bar
from probes.pools import draw_pools, read_ahead
from probes.reading import Held, Source, check_kept, describe, free_memory, hold, open_rows, take
from probes.targets import Targets, labelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedstore.rows import Rows
    from embedstore.store import Store
    from embedstore.tasks import Labels, TaskRecord

logger = logging.getLogger(__name__)

PART_NUCLEOTIDES = 50_000


class Part(NamedTuple):
    """Some samples of a batch: few enough that what a network computes for them stays in the processor's cache.

    Attributes
    ----------
    samples
        (n,) int64, indices in the task.
    vector
        (row, channel) in stored precision.
    span
        (row,) int64, nucleotides per row.
    first_row
        (n + 1,) int64, where each sample's rows begin.
    target
        Labels of all positions, as `probes.targets.Targets.of` gives them.
    more
        What a network must know besides spans and first rows; None (default): nothing.
    """

    samples: NDArray[np.int64]
    vector: torch.Tensor
    span: NDArray[np.int64]
    first_row: NDArray[np.int64]
    target: torch.Tensor
    more: Any = None

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return int(labelled(self.target).sum())

    def plan(self, network: torch.nn.Module) -> Any:
        """Return what a network needs to know of the layout of these samples, which takes no weights."""
        more = () if self.more is None else (self.more,)
        return network.layout(self.span, self.first_row, *more)  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Some samples of a task: what a probe is trained or tested on.

    Make one with `ProbeData.from_store` or, for arrays of your own, `ProbeData.from_rows`. Indexing takes samples out
    by their places, so that scikit-learn can cut folds: ``cross_val_score(CNNProbe(), data, cv=5)``.

    Attributes
    ----------
    record
        The task's record.
    targets
        Labels of all samples of the task.
    samples
        (n,) int64, indices of these samples, ascending.
    width
        Channels of the embedding.
    description
        What decides the numbers: names, digests, fingerprints. Seeds are derived from it.
    blocks_missing
        Blocks of the embedding that are not there, and whose samples were left out; 0 unless this was allowed.
    in_memory
        Whether the rows are held in memory; else they are read anew in every epoch.
    """

    record: TaskRecord
    targets: Targets
    samples: NDArray[np.int64]
    width: int
    description: dict[str, Any]
    blocks_missing: int
    _source: Source
    _held: Held | None = None

    def __repr__(self) -> str:
        where = f"in memory ({self._held.vector.device})" if self._held is not None else "read from the store"
        names = f"{self.description.get('task', self.record.name)}/{self.description.get('model', 'rows')}"
        return f"<ProbeData {names}: {len(self.samples):,} samples, {self.width} channels, {where}>"

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def shape(self) -> tuple[int]:
        """How many samples there are, as scikit-learn asks for it."""
        return (len(self.samples),)

    @property
    def in_memory(self) -> bool:
        """Whether the rows are held in memory."""
        return self._held is not None

    def __getitem__(self, places: Any) -> ProbeData:
        """Take samples out by their places (numbers, a mask or a slice); they stay in the order of the task."""
        key = places[0] if isinstance(places, tuple) else places
        samples = np.sort(np.atleast_1d(self.samples[key]))
        if len(samples) == 0 or (np.diff(samples) == 0).any():
            what = "no sample" if len(samples) == 0 else "the same sample twice"
            raise InputError(f"{self!r}: the places {key!r} name {what}; each may be taken once, and one at least")
        chosen = hashlib.sha256(samples.tobytes()).hexdigest()
        return replace(self, samples=samples, description={**self.description, "samples": chosen})

    @classmethod
    def from_store(
        cls,
        store: Store,
        task: str,
        model: str,
        splits: str | Sequence[str],
        *,
        pooled: bool = False,
        allow_partial: bool = False,
        memory_limit: int | None = None,
        progress: bool = True,
    ) -> ProbeData:
        """Take the samples of some splits from a store.

        Parameters
        ----------
        store
            An open store.
        task
            Name of the task.
        model
            Name of the model, or of a baseline that is computed from the letters: ``"onehot"``, ``"kmer1"`` to
            ``"kmer6"``, ``"gc"`` (`probes.letters`).
        splits
            Name of a split, or several.
        pooled
            Take the mean of each sample instead of its rows, for tasks with labels of whole sequences. An embedding
            that keeps means only has nothing else.
        allow_partial
            Leave out samples whose blocks are not embedded yet; by default they are an error.
        memory_limit
            Hold the rows in memory if they take no more bytes than this, default half of the memory that is free now;
            0 reads them block by block in every epoch. The numbers are the same.
        progress
            Show a progress bar while rows are read into memory.

        Returns
        -------
        ProbeData

        Raises
        ------
        InputError
            The task has no labels, or the embedding does not hold what is asked for.
        NotInStoreError
            The store has no such task or model, or a split has no samples.
        IncompleteError
            A block that is needed is not embedded yet.
        """
        record, labels = store.record(task), store.labels(task)
        if labels is None:
            raise InputError(f"{store.path}: task {task!r} has no labels; a probe needs them")
        table = store.samples(task)
        wanted = [splits] if isinstance(splits, str) else list(splits)
        known = sorted(table["split"].unique())
        for split in wanted:
            if split not in known:
                raise NotInStoreError(
                    f"{store.path}: task {task!r} has no samples of split {split!r}.{did_you_mean(split, known)}"
                )
        embedding = open_rows(store, task, model)
        check_kept(embedding, record, pooled)
        targets = Targets(record, labels, table["length"].to_numpy())
        source = Source(embedding, targets.lengths, pooled)
        samples = np.flatnonzero(table["split"].isin(wanted))
        description = {**describe(store, task, model, wanted), **({"pooled": True} if pooled else {})}
        kept, missing = source.there(samples, allow_partial)
        if missing:
            description["samples"] = hashlib.sha256(kept.tobytes()).hexdigest()
        data = cls(record, targets, kept, embedding.width, description, missing, source)
        nbytes = source.nbytes(kept)
        limit = free_memory() // 2 if memory_limit is None else memory_limit
        logger.info(
            "%s/%s %s: %d samples, %.2f GB, %s",
            task,
            model,
            "+".join(wanted),
            len(kept),
            nbytes / 1e9,
            "held in memory" if nbytes <= limit else f"read in every epoch (limit {limit / 1e9:.2f} GB)",
        )
        if nbytes > limit:
            return data
        pools = progress_bar(data._pools(None), f"reading {'+'.join(wanted)}", show=progress, unit="pool")
        return replace(data, _held=hold(source.load(kept, pools)))

    @classmethod
    def from_rows(cls, rows: Rows, labels: Labels, record: TaskRecord) -> ProbeData:
        """Take all samples of rows in memory.

        Parameters
        ----------
        rows
            The rows; `samples` must be 0, 1, 2, ...
        labels
            Labels of these samples.
        record
            Says what the labels are.

        Returns
        -------
        ProbeData

        Raises
        ------
        NonFiniteError
            A row holds NaN or infinity.
        """
        bad = ~np.isfinite(rows.vector).all(axis=1)
        if bad.any():
            sample = int(np.searchsorted(rows.first_row, np.argmax(bad), side="right")) - 1
            raise NonFiniteError(
                f"{record.name}: {int(bad.sum()):,} of {len(bad):,} rows hold NaN or infinity; the first is of sample "
                f"{rows.samples[sample]}. A probe would learn nothing from them: leave these samples out."
            )
        digest = hashlib.sha256()
        for array in (*rows[:4], labels.values):
            digest.update(np.ascontiguousarray(array).data)
        span = offsets(rows.span)
        targets = Targets(record, labels, np.diff(span[rows.first_row]))
        description = {"record": record.to_dict(), "digest": {"rows and labels": digest.hexdigest()}}
        samples, width = np.asarray(rows.samples), rows.vector.shape[1]
        source = Source(None, targets.lengths, False)
        return cls(record, targets, samples, width, description, 0, source, hold(rows))

    def check_apart(self, other: ProbeData | None) -> None:
        """Refuse other samples of which some are among these.

        Parameters
        ----------
        other
            To compare with; None is apart.

        Raises
        ------
        InputError
            Both are of one task, and share samples.
        """
        if other is None or other.description.get("digest") != self.description.get("digest"):
            return
        shared = np.intersect1d(self.samples, other.samples)
        if len(shared):
            raise InputError(
                f"{self!r} and {other!r} share {len(shared):,} samples, the first is sample {shared[0]}: what a probe "
                "is trained on cannot judge it. Use splits or folds that are apart."
            )

    def check_labels(self) -> None:
        """Refuse samples whose labels are all alike: nothing can be learnt from them, and no metric computed.

        Raises
        ------
        InputError
            There is no label, or every target has one value only.
        """
        kinds = self.targets.kinds(self.samples)
        if max(map(len, kinds)) < 2:
            values = np.concatenate(kinds)
            seen = f"one value only, {values[0]:g}," if len(values) else "no label"
            raise InputError(
                f"{self!r}: splits {', '.join(self.description.get('splits', ['given']))} have {seen} in every target. "
                "Use other splits, or check the labels of the task."
            )

    def to(self, device: str) -> ProbeData:
        """Keep the rows on a device, if they are in memory and fit there.

        Parameters
        ----------
        device
            ``"cpu"``, ``"cuda"``, ...

        Returns
        -------
        ProbeData
            With the rows there; or unchanged, with a line in the log, where they do not fit.
        """
        if self._held is None or self._held.vector.device == torch.device(device):
            return self
        nbytes = self._held.vector.nbytes
        if torch.device(device).type == "cuda":  # pragma: no cover - needs a GPU
            free = torch.cuda.mem_get_info(device)[0]
            if 2 * nbytes > free:
                logger.info("%r: %.2f GB stay in host memory, the device has %.2f free", self, nbytes / 1e9, free / 1e9)
                return self
        return replace(self, _held=self._held._replace(vector=self._held.vector.to(device)))

    def steps(self, size: int) -> int:
        """Return how many batches of so many samples `batches` yields."""
        return -(-len(self) // size)

    def batches(self, size: int, seed: Sequence[int] | None = None) -> Iterator[list[Part]]:
        """Go through all samples once.

        Where rows are not held in memory, one thread reads the next blocks (one in order, else eight) while these are
        used.

        Parameters
        ----------
        size
            Samples per batch; the last has fewer.
        seed
            Numbers that decide the order; None (default) keeps the order of the task.

        Yields
        ------
        list of Part
            One batch, in parts of about 50,000 nucleotides or one longer sample.
        """
        pools = self._pools(seed)
        order = np.concatenate(pools)
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        if self._held is None:
            yield from read_ahead(chunks, pools, self._load, self._parts)
        else:
            yield from (self._parts(chunk, [self._held]) for chunk in chunks)

    def _pools(self, seed: Sequence[int] | None) -> list[NDArray[np.int64]]:
        """Group the samples by their blocks, in the order of a seed."""
        return draw_pools(self.samples, self._source.block_of(self.samples), seed)

    def _load(self, pool: NDArray[np.int64]) -> Held:
        """Read a pool's samples."""
        wanted = np.sort(pool)
        return hold(self._source.load(wanted, [wanted]))

    def _parts(self, chunk: NDArray[np.int64], held: list[Held]) -> list[Part]:
        """Put the rows of some samples next to each other, about 50,000 nucleotides, or means, at a time."""
        sizes = np.ones(len(chunk), np.int64) if self._source.pooled else self.targets.lengths[chunk]
        before = np.cumsum(sizes) - sizes
        cuts = np.flatnonzero(np.diff(before // PART_NUCLEOTIDES)) + 1
        return [self._part(samples, held) for samples in np.split(chunk, cuts)]

    def _part(self, samples: NDArray[np.int64], held: list[Held]) -> Part:
        rows = take(held, samples)
        nucleotides = np.add.reduceat(rows.span, rows.first_row[:-1])
        wrong = np.flatnonzero(nucleotides != self.targets.lengths[samples])
        if len(wrong):
            sample, found = samples[wrong[0]], nucleotides[wrong[0]]
            raise CorruptError(
                f"{self!r}: the rows of sample {sample} stand for {found:,} nucleotides; the sample has "
                f"{self.targets.lengths[sample]:,}. Run `embedstore verify` on the store."
            )
        return Part(samples, rows.vector, rows.span, rows.first_row, self.targets.of(samples))
