"""Putting the bytes of chunks, shards and commit records where a store keeps them: a folder or an object store."""

from __future__ import annotations

import logging
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedstore.errors import BlockTakenError, RemoteError, StoreError
from embedstore.shards import sync_folder, write_durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from embedstore.rows import Embedding
    from embedstore.store import Store

logger = logging.getLogger(__name__)

SETTLE_TRIES = 8
"""How often a block that several runs wrote at once is written again until its bytes and its record agree."""
SETTLE_PAUSE = 0.5
"""Seconds, at most, before the first of these: a random time, doubled with each, so that one of the runs is last."""


def put(store: Store, key: str, parts: Iterable[NDArray[Any] | bytes], *, exclusive: bool = False) -> int:
    """Write an object so that it is there whole or not at all.

    Parameters
    ----------
    store
        Opened with ``mode="a"``.
    key
        Its name below the store's root.
    parts
        Pieces of the content.
    exclusive
        Refuse to replace an existing object.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    BlockTakenError
        If ``exclusive`` and the object exists; in an object store, only if its content is another one.
    DiskSpaceError
        If the disk is full.
    RemoteError
        If the server fails for longer than requests are repeated.
    """
    if store.local is not None:
        return write_durable(store.local / key, parts, exclusive=exclusive)
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    content = b"".join(part if isinstance(part, bytes) else part.data.cast("B") for part in parts)
    if exclusive:
        _create(store, key, content)
    else:
        sync(store.zarr_store.set(key, default_buffer_prototype().buffer.from_bytes(content)))
    return len(content)


def _create(store: Store, key: str, content: bytes) -> None:
    """Create an object, and read it back: a create that was repeated may have failed against its own success."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    prototype = default_buffer_prototype()
    sync(store.zarr_store.set_if_not_exists(key, prototype.buffer.from_bytes(content)))
    there = sync(store.zarr_store.get(key, prototype))
    if there is None:
        raise RemoteError(f"{store.path}/{key} was written, and is not there: another run has removed it.")
    if there.to_bytes() != content:
        raise BlockTakenError(f"{store.path}/{key} exists: another run has written it.")


def commit_block(
    emb: Embedding,
    block: int,
    put_data: Callable[[], int],
    key: str,
    record: list[NDArray[Any] | bytes],
) -> int:
    """Write the data of a block, then its commit record.

    In a local folder a lock keeps other runs out. Object stores have none, so that two runs may write the same block at
    once. The record then goes to the first. The others compare what is stored with it, and where it is not sound, write
    data and record again, until a run has read back what it, or another one, has written.

    Parameters
    ----------
    emb, block
        What is written.
    put_data
        Writes everything but the record and returns the bytes; it may be called again.
    key
        Name of the record.
    record
        Its content.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    BlockTakenError
        If another run has committed the block; it is sound.
    StoreError
        If runs keep overwriting each other.
    """
    if emb.store.local is not None:
        return put_data() + put(emb.store, key, record, exclusive=True)
    # Looked at once more: while it was computed another run may have finished it, and that is cheap to leave alone.
    if emb.commit(block) is not None:
        raise BlockTakenError(f"{emb.where(block)} has been committed by another run.")
    size = put_data()
    try:
        return size + put(emb.store, key, record, exclusive=True)
    except BlockTakenError:
        if _sound(emb, block):
            raise
    for attempt in range(SETTLE_TRIES):
        logger.warning("%s: several runs have written it at once; writing it again", emb.where(block))
        size = put_data() + put(emb.store, key, record)
        if _sound(emb, block):
            return size
        time.sleep(random.uniform(0, SETTLE_PAUSE * 2**attempt))  # noqa: S311 - not for secrets
        if _sound(emb, block):
            return size
    raise StoreError(
        f"{emb.where(block)}: several runs keep writing it at once. Stop all but one, run "
        f"`embedstore repair {emb.store.path}`, and embed again: only this block is done anew."
    )


def _sound(emb: Embedding, block: int) -> bool:
    """Tell whether a block's stored bytes are those of the commit record that is there now."""
    from embedstore.integrity import block_fault

    emb._committed.pop(block, None)  # noqa: SLF001 - what was read before may have been replaced
    fault, committed = block_fault(emb, block)
    return committed and fault is None


def names(store: Store, prefix: str) -> list[str]:
    """Return the sorted names of all objects below a group or array.

    Raises
    ------
    StoreError
        If the server does not tell.
    """
    if store.local is not None:
        files = (Path(folder) / name for folder, _, found in os.walk(store.local / prefix) for name in found)
        return sorted(file.relative_to(store.local).as_posix() for file in files)
    from zarr.core.sync import sync

    async def listed() -> list[str]:
        return [name async for name in store.zarr_store.list_prefix(f"{prefix}/")]

    try:
        return sorted(sync(listed()))
    except NotImplementedError as error:
        raise StoreError(f"{store.path} cannot be listed, which this needs.") from error


def children(store: Store, path: str) -> list[str]:
    """Return the names of the groups below a group, finished or not, sorted.

    A store that cannot be listed answers from its consolidated metadata.

    Parameters
    ----------
    store
        An open store.
    path
        Of the group, ``""`` for the root.

    Returns
    -------
    list of str

    Raises
    ------
    StoreError
        If it can do neither.
    """
    if store.local is not None:
        return sorted(file.parent.name for file in (store.local / path).glob("*/zarr.json"))
    import zarr
    from zarr.core.sync import sync

    async def listed() -> list[str]:
        return [name async for name in store.zarr_store.list_dir(path)]

    try:
        return sorted(name for name in sync(listed()) if name != "zarr.json")
    except (NotImplementedError, OSError):
        members = zarr.open_group(store.zarr_store, mode="r").metadata.consolidated_metadata
        if members is None:
            cure = "`embedstore embed` writes it when it is done."
            raise StoreError(f"{store.path} cannot be listed and lacks consolidated metadata: {cure}") from None
        prefix = f"{path}/" if path else ""
        return sorted({n[len(prefix) :].split("/")[0] for n in members.flattened_metadata if n.startswith(prefix)})


def remove(store: Store, key: str) -> None:
    """Remove an object for good, if it is there."""
    if store.local is not None:
        file = store.local / key
        file.unlink(missing_ok=True)
        sync_folder(file.parent)
        return
    from zarr.core.sync import sync

    sync(store.zarr_store.delete(key))


def remove_tree(store: Store, prefix: str) -> None:
    """Remove a group or array and all below it, its description first: without it nothing of it counts."""
    if store.local is not None:
        import shutil

        folder = store.local / prefix
        shutil.rmtree(folder)
        sync_folder(folder.parent)
        return
    from zarr.core.sync import sync

    sync(store.zarr_store.delete(f"{prefix}/zarr.json"))
    sync(store.zarr_store.delete_dir(prefix))


def stored_bytes(store: Store, prefix: str) -> int | None:
    """Return the bytes of all objects below a group or array; None where the store cannot tell with one request."""
    if store.local is not None:
        return sum((store.local / name).stat().st_size for name in names(store, prefix))
    if not getattr(store.zarr_store, "lists", False):
        return None
    from zarr.core.sync import sync

    return sync(store.zarr_store.getsize_prefix(f"{prefix}/"))
