"""Bytes of zarr shards and chunks, and writing them so that a crash or a power cut loses nothing committed.

zarr-python writes a shard at a third of the disk's speed and never calls fsync. The encoder here follows the public
format (zarr v3 ``sharding_indexed`` with ``[bytes, (zstd), crc32c]`` inside and a checksummed index at the end); tests
read its files with zarr-python, zarrs and tensorstore.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.digests import crc32c
from embedstore.errors import BlockTakenError, DiskSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from embedstore.layout import Codec

TEMPORARY = ".embedstore-tmp"
"""Ending of files that are being written; what is left of them after a crash is removed by ``repair``."""

_ABSENT = 2**64 - 1  # offset and length of an inner chunk that is not stored


def chunk_parts(values: NDArray[Any], codec: Codec = "none") -> list[NDArray[Any] | bytes]:
    """Return the bytes of one zarr chunk: little-endian values, zstd where asked, crc32c."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    body: NDArray[Any] | bytes = plain.reshape(-1).view(np.uint8)
    if codec == "zstd":
        from numcodecs import Zstd

        body = bytes(Zstd(level=1, checksum=True).encode(body))
    return [body, crc32c(body).to_bytes(4, "little")]


def shard_parts(
    rows: NDArray[Any], chunk_rows: int, shard_rows: int, codec: Codec = "none"
) -> Iterator[NDArray[Any] | bytes]:
    """Yield the bytes of one zarr shard, piece by piece, without copying full chunks.

    Parameters
    ----------
    rows
        Rows of the block, shape (row, channel); at most ``shard_rows`` of them.
    chunk_rows, shard_rows
        Rows of an inner chunk and of the shard.
    codec
        ``"none"`` or ``"zstd"``.

    Yields
    ------
    array or bytes
        Inner chunks in order (the last one padded with NaN), then the index. Inner chunks past the last row are absent.
    """
    index = np.full((shard_rows // chunk_rows, 2), _ABSENT, "<u8")
    offset = 0
    for number, start in enumerate(range(0, len(rows), chunk_rows)):
        chunk = rows[start : start + chunk_rows]
        if len(chunk) < chunk_rows:
            pad = np.full((chunk_rows - len(chunk), *rows.shape[1:]), np.nan, rows.dtype)
            chunk = np.concatenate([chunk, pad])
        parts = chunk_parts(chunk, codec)
        size = sum(len(part) for part in parts)
        index[number] = offset, size
        offset += size
        yield from parts
    yield from chunk_parts(index)


def write_durable(path: Path, parts: Iterable[NDArray[Any] | bytes], *, exclusive: bool = False) -> int:
    """Write a file so that after a crash it is there whole or not at all.

    The bytes go to a temporary sibling, are flushed to the disk, and get their name last.

    Parameters
    ----------
    path
        Final name. Missing parent folders are made.
    parts
        Pieces of the content.
    exclusive
        Refuse to replace an existing file.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    BlockTakenError
        If ``exclusive`` and the file exists.
    DiskSpaceError
        If the disk is full; the temporary file is removed.
    """
    _make_folder(path.parent)
    temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}"
    size = 0
    try:
        with temporary.open("wb", buffering=0) as file:
            for part in parts:
                view = memoryview(part if isinstance(part, bytes) else part.data).cast("B")
                while view:  # a raw write may be short
                    written = file.write(view)
                    size += written
                    view = view[written:]
            os.fsync(file.fileno())
        if exclusive:
            _publish(temporary, path)
        else:
            temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise BlockTakenError(f"{path} exists: another run has written it.") from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(
                f"The disk is full: writing {path} stopped after {size:,} bytes. Blocks committed before are safe. "
                "Free some space and run the same command again: it goes on where this one stopped."
            ) from error
        raise
    return size


def _publish(temporary: Path, path: Path) -> None:
    """Give a file its name, unless that is taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        # A disk without hard links: the block's lock, which the caller holds, has to do.
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each made durable."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk: a rename may outlive a power cut that its file does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path, *, below: bool = True) -> None:
    """Flush the files of a folder (and all ``below`` it) to the disk; for the few that zarr-python writes itself."""
    for path, folders, files in os.walk(folder):
        for name in files:
            handle = os.open(Path(path) / name, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(path))
        if not below:
            folders.clear()


@contextlib.contextmanager
def claim(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file while a piece of work is done; the system lets go of it when the process dies.

    The file and its folder are there only while they are needed: zarr warns of files that it does not know.

    Raises
    ------
    BlockTakenError
        If another process, or another thread of this one, holds it.
    """
    handle = _lock(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # others hold locks there
            path.parent.rmdir()


def _lock(path: Path, what: str) -> int:
    """Return the handle of a locked file that still has its name."""
    import fcntl

    while True:
        # `exist_ok` would look at the folder again, which another run may have removed by then.
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another run has just removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise BlockTakenError(
                f"Another run is writing {what}. Wait until it has finished, or stop it, and run this again: "
                "what it commits will not be done twice."
            ) from error
        except FileNotFoundError:  # removed by the run that held it: what was locked here has no name any more
            pass
        os.close(handle)
