"""Opening a store and reading tasks from it.

A store is a zarr v3 hierarchy; ``docs/format.md`` describes it. Everything that is read is checked: task arrays against
the digests in the task's attributes, rows against their commit records.
"""

from __future__ import annotations

import contextlib
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedstore.errors import CorruptError, InputError, NotInStoreError, StoreError, did_you_mean
from embedstore.indices import ids_to_indices
from embedstore.layout import FORMAT_VERSION, check_name, check_version
from embedstore.locations import has_zarrs, zarr_store
from embedstore.objects import children
from embedstore.onehot import ONE_HOT, open_embedding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    import xarray as xr
    import zarr
    from numpy.typing import ArrayLike, NDArray
    from zarr.abc.store import Store as ZarrStore

    from embedstore.integrity import VerifyReport
    from embedstore.rows import Embedding
    from embedstore.tasks import Labels, Task, TaskRecord


_CODEC_PIPELINE = threading.Lock()


def open_store(path: str | Path | ZarrStore, mode: Literal["r", "a"] = "r") -> Store:
    """Open a store.

    Parameters
    ----------
    path
        A local path, a URL (``s3://``, ``gs://``, ``az://``; ``http://`` and ``https://`` for reading; ``file://``),
        ``"memory://"`` for a new store in memory, or any zarr store object. See ``docs/remote.md``.
    mode
        ``"r"`` (default): read an existing store. ``"a"``: read and write, and create it where there is none.

    Returns
    -------
    Store

    Raises
    ------
    NotInStoreError
        If there is no store at the path and ``mode`` is ``"r"``.
    StoreError
        If something else than a store is there.
    FormatVersionError
        If a newer version of embedstore wrote it.

    Examples
    --------
    >>> open_store("memory://", mode="a").tasks()
    []
    """
    if mode not in ("r", "a"):
        raise InputError(f"mode is {mode!r}: it must be 'r' (read) or 'a' (read and write, created if missing).")
    return Store(path, mode)


class Store:
    """A store of tasks and their embeddings; open one with :func:`open_store`.

    Attributes
    ----------
    path
        Where the store is, as text.
    local
        Its folder, where it is on this machine's disks, else None.
    """

    def __init__(self, path: str | Path | ZarrStore, mode: Literal["r", "a"] = "r") -> None:
        self.mode = mode
        self.zarr_store, self.path, self.local = zarr_store(path, mode)
        # What opens it again in another process. A store in memory, or a store object, can only be shared in place.
        named = self.local or (isinstance(path, str) and not path.startswith("memory://"))
        self._source = self.path if named else self.zarr_store
        self._check_root()

    def __repr__(self) -> str:
        from embedstore.describe import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from embedstore.describe import describe_html

        return describe_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self._source, self.mode)

    def _check_root(self) -> None:
        """Create the root group where there is none, and refuse what is not a store of ours."""
        import zarr

        root = self.group("")
        if root is None:
            if self.local is not None and self.local.exists() and any(self.local.iterdir()):
                raise StoreError(
                    f"{self.path} exists and is not an embedstore store: it has no zarr.json. Give the path of a "
                    "store, or of an empty or new folder."
                )
            if self.mode == "r":
                raise NotInStoreError(
                    f"There is no store at {self.path}. `embedstore embed` creates one; check the path."
                )
            # Another run of the same job may create it at this very moment.
            with contextlib.suppress(zarr.errors.ContainsGroupError):
                zarr.create_group(
                    self.zarr_store, attributes={"embedstore": {"format_version": FORMAT_VERSION, "kind": "store"}}
                )
            return
        check_version(dict(root.attrs).get("embedstore"), self.path, "store")

    # ---- names -----------------------------------------------------------------------------------

    def group(self, path: str) -> zarr.Group | None:
        """Return a group of the hierarchy, or None where there is none.

        Raises
        ------
        CorruptError
            If its metadata cannot be read.
        """
        import zarr

        mode: Literal["r", "r+"] = "r" if self.mode == "r" else "r+"
        try:
            group = zarr.open_group(self.zarr_store, path=path, mode=mode, zarr_format=3, use_consolidated=False)
            dict(group.attrs)  # read from the store now, so that damage shows here
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{self.path}/{path}: zarr.json is damaged: {error}") from error
        return group

    def tasks(self) -> list[str]:
        """Return the names of the tasks in the store."""
        return [name for name in children(self, "") if self._attributes(name, "task")]

    def models(self, task: str) -> list[str]:
        """Return the names of the models that a task has been embedded with, completely or in part."""
        self.task_group(task)
        where = f"{task}/embedding"
        return [name for name in children(self, where) if self._attributes(f"{where}/{name}", "embedding")]

    def _finished(self, path: str, kind: str) -> zarr.Group | None:
        """Return a group of some kind, or None where it is not one or was never finished."""
        group = self.group(path)
        ours = dict(group.attrs).get("embedstore") if group is not None else None
        if not isinstance(ours, dict) or ours.get("kind") != kind:
            return None
        check_version(ours, f"{self.path}/{path}", kind)
        return group

    def _attributes(self, path: str, kind: str) -> dict[str, Any] | None:
        """Return our attributes of a group of some kind, or None where it is not one or was never finished."""
        group = self._finished(path, kind)
        return None if group is None else dict(group.attrs)["embedstore"]  # type: ignore[return-value]

    def task_group(self, task: str) -> zarr.Group:
        """Return the zarr group of a task."""
        check_name(task, "task")
        group = self._finished(task, "task")
        if group is None:
            known = self.tasks()
            raise NotInStoreError(
                f"{self.path} has no task {task!r}.{did_you_mean(task, known)} `embedstore embed {task}` with its "
                "input files adds it."
            )
        return group

    def model_group(self, task: str, model: str) -> zarr.Group:
        """Return the zarr group of a task's embedding."""
        self.task_group(task)
        check_name(model, "model")
        path = f"{task}/embedding/{model}"
        group = self._finished(path, "embedding")
        if group is None:
            known = [*self.models(task), ONE_HOT]
            raise NotInStoreError(
                f"{self.path}: task {task!r} is not embedded with model {model!r}.{did_you_mean(model, known)}"
            )
        return group

    # ---- arrays ----------------------------------------------------------------------------------

    def array(self, path: str, *, rust: bool = False) -> zarr.Array[Any]:
        """Open an array; through the Rust codec pipeline where asked, installed, and the store is a local folder."""
        import zarr

        # zarrs skips an inner chunk's checksum when it reads part of a shard: only rows, which have checksums of their
        # own, are read through it.
        fast = rust and self.local is not None and has_zarrs()
        settings = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"} if fast else {}
        try:
            # The setting is one for all threads: without the lock an array opened meanwhile elsewhere would get it too.
            with _CODEC_PIPELINE, zarr.config.set(settings):
                return zarr.open_array(self.zarr_store, path=path, mode="r", zarr_format=3)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{self.path}/{path}: the array's metadata is gone or damaged: {error}") from error

    def read(self, path: str) -> NDArray[Any]:
        """Read a whole array."""
        values: NDArray[Any] = self.read_part(self.array(path), np.s_[:], f"{self.path}/{path}")
        return values

    def read_part(self, array: zarr.Array[Any], selection: Any, where: str) -> Any:
        """Read part of an array; damage that the codecs notice becomes an error that says where."""
        try:
            return np.asarray(array[selection])
        except (ValueError, RuntimeError, OSError, IndexError) as error:  # IndexError: zarrs, of a file cut short
            raise CorruptError(
                f"{where}: {array.name} cannot be read: {error}. Run `embedstore verify {self.path}` to see all damage."
            ) from error

    # ---- tasks -----------------------------------------------------------------------------------

    def task_attributes(self, task: str) -> dict[str, Any]:
        """Return what is stored about a task: record, source, digests, counts."""
        ours = self.task_group(task).attrs["embedstore"]
        assert isinstance(ours, dict)
        return ours

    def task_digests(self, task: str) -> dict[str, str]:
        """Return the sha256 digests of a task's sequences, sample table and labels."""
        return dict(self.task_attributes(task)["digest"])

    def record(self, task: str) -> TaskRecord:
        """Return the record of a task: what is predicted, and how it is scored."""
        from embedstore.tasks import TaskRecord

        return TaskRecord.from_dict(self.task_attributes(task)["record"])

    def lengths(self, task: str) -> NDArray[np.int64]:
        """Return the nucleotides of each sample, shape (sample,)."""
        self.task_group(task)
        lengths: NDArray[np.int64] = self._once(f"{task}/sample/length")
        if (lengths <= 0).any():
            from embedstore.task_reading import task_damaged

            raise task_damaged(self, task, "sample lengths are gone")
        return lengths

    def samples(self, task: str) -> pd.DataFrame:
        """Read the sample table of a task.

        Returns
        -------
        pandas.DataFrame
            A row per sample: id, chromosome, start, end, strand, split, length (letters), then columns of the input.
        """
        from embedstore.task_reading import read_table

        return read_table(self, task, "sample", "columns", "samples")

    def variants(self, task: str) -> pd.DataFrame:
        """Read the table of variants of a task that `embedstore.variants.variant_task` made.

        Raises
        ------
        InputError
            If the task is not one of variants.
        """
        from embedstore.task_reading import read_table

        if "variants" not in self.task_digests(task):
            raise InputError(
                f"{self.path}: task {task!r} is not one of variants; make it with embedstore.variants.variant_task."
            )
        return read_table(self, task, "variant", "variant_columns", "variants")

    def indices(self, task: str, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of samples by id.

        Raises
        ------
        NotInStoreError
            If an id is unknown.
        """
        known = self._ids(task)
        return ids_to_indices([ids] if isinstance(ids, str) else ids, known, f"{self.path}: task {task!r}")

    def sample_id(self, task: str, sample: int) -> str:
        """Return the id of a sample."""
        return str(self._ids(task)[sample])

    def _ids(self, task: str) -> NDArray[Any]:
        return self._once(f"{task}/sample/id")

    def _once(self, path: str) -> NDArray[Any]:
        """Read an array of the sample axis, and keep it: it is asked for with every block."""
        if path not in self._kept:
            self._kept[path] = self.read(path)
        return self._kept[path]

    @cached_property
    def _kept(self) -> dict[str, NDArray[Any]]:
        return {}

    def sequences(self, task: str, samples: ArrayLike | None = None) -> list[NDArray[np.uint8]]:
        """Read the sequences of samples.

        Parameters
        ----------
        task
            Name of the task.
        samples
            Their indices; all by default.

        Returns
        -------
        list of numpy.ndarray
            Upper-case ASCII letters of each, in the order asked for, uint8.
        """
        from embedstore.task_reading import read_sequences

        return read_sequences(self, task, samples, self._once(f"{task}/first_nucleotide"))

    def labels(self, task: str) -> Labels | None:
        """Read the labels of a task: values and the names of their dimensions; None where it has none."""
        from embedstore.task_reading import read_labels

        return read_labels(self, task)

    def add_task(self, task: Task) -> None:
        """Add a task: its sequences, sample table and labels. The same task again changes nothing.

        Raises
        ------
        FingerprintError
            If another task of that name is stored.
        """
        from embedstore.adding import add_task

        add_task(self, task)

    # ---- embeddings ------------------------------------------------------------------------------

    def embedding(self, task: str, model: str) -> Embedding:
        """Return the rows of a task under a model, to be read by blocks or samples.

        Parameters
        ----------
        task
            Name of the task.
        model
            Name of the embedding, or ``"onehot"``: computed from the sequence.

        Returns
        -------
        embedstore.rows.Embedding

        Raises
        ------
        NotInStoreError
            The store has no such task or embedding.
        """
        return open_embedding(self, task, model)

    def open(self, task: str, model: str) -> xr.Dataset:
        """Open a task and one model's embedding as a lazy dataset at nucleotide resolution.

        See :func:`embedstore.view.open_dataset`.
        """
        from embedstore.view import open_dataset

        return open_dataset(self, task, model)

    def sample(self, task: str, model: str, id: str) -> xr.Dataset:  # noqa: A002 - the field's name for it
        """Read one sample by id, from only the chunks that it lies in; see :func:`embedstore.view.sample_dataset`."""
        from embedstore.view import sample_dataset

        return sample_dataset(self, task, model, id)

    def verify(self, task: str | None = None, model: str | None = None) -> VerifyReport:
        """Read everything and check every digest; see :func:`embedstore.integrity.verify`."""
        from embedstore.integrity import verify

        return verify(self, task, model)

    def repair(self) -> pd.DataFrame:
        """Remove damaged and unfinished blocks and orphaned files; see :func:`embedstore.integrity.repair`."""
        from embedstore.integrity import repair

        return repair(self)
