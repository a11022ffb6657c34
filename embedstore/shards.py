"""Bytes of zarr shards and chunks, and writing them so that a crash or a power cut loses nothing committed.

zarr-python writes a shard at a third of the disk's speed and never calls fsync. The encoder here follows the public
format (zarr v3 ``sharding_indexed`` with ``[bytes, (zstd), crc32c]`` inside and a checksummed index at the end); tests
read its files with zarr-python, zarrs and tensorstore.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
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

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1  # between two looks at a lock that another run holds
_ABSENT = 2**64 - 1  # offset and length of an inner chunk that is not stored


def chunk_parts(values: NDArray[Any], codec: Codec = "none") -> list[NDArray[Any] | bytes]:
    """Return the bytes of one zarr chunk: little-endian values, zstd where asked, crc32c."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    body: NDArray[Any] | bytes = plain.reshape(-1).view(np.uint8)
    if codec == "zstd":
        from numcodecs import Zstd

        body = bytes(Zstd(level=1, checksum=True).encode(body))
    return [body, crc32c(body).to_bytes(4, "little")]


class ShardEncoder:
    """Turns the rows of a block, as they come, into the bytes of one zarr shard, without copying whole chunks.

    Parameters
    ----------
    chunk_rows, shard_rows
        Rows of an inner chunk and of the shard.
    codec
        ``"none"`` or ``"zstd"``.
    """

    def __init__(self, chunk_rows: int, shard_rows: int, codec: Codec = "none") -> None:
        self._chunk_rows, self._codec = chunk_rows, codec
        self._index = np.full((shard_rows // chunk_rows, 2), _ABSENT, "<u8")
        self._chunks = self._offset = 0
        self._begun: NDArray[Any] | None = None  # rows of a chunk that is not full yet

    def add(self, rows: NDArray[Any]) -> Iterator[NDArray[Any] | bytes]:
        """Yield the bytes of the chunks that become full; they are views of `rows` where possible.

        Parameters
        ----------
        rows
            The next rows, shape (row, channel).
        """
        if self._begun is not None:
            lacking = self._chunk_rows - len(self._begun)
            chunk = np.concatenate([self._begun, rows[:lacking]])
            rows = rows[lacking:]
            if len(chunk) < self._chunk_rows:
                self._begun = chunk
                return
            self._begun = None
            yield from self._chunk(chunk)
        whole = len(rows) // self._chunk_rows * self._chunk_rows
        for start in range(0, whole, self._chunk_rows):
            yield from self._chunk(rows[start : start + self._chunk_rows])
        if whole < len(rows):
            self._begun = rows[whole:].copy()

    def end(self) -> Iterator[NDArray[Any] | bytes]:
        """Yield the last chunk, padded with NaN, and the index. Inner chunks past the last row are absent."""
        if self._begun is not None:
            pad = np.full((self._chunk_rows - len(self._begun), *self._begun.shape[1:]), np.nan, self._begun.dtype)
            yield from self._chunk(np.concatenate([self._begun, pad]))
        yield from chunk_parts(self._index)

    def _chunk(self, rows: NDArray[Any]) -> list[NDArray[Any] | bytes]:
        parts = chunk_parts(rows, self._codec)
        size = sum(len(part) for part in parts)
        self._index[self._chunks] = self._offset, size
        self._chunks, self._offset = self._chunks + 1, self._offset + size
        return parts


def shard_parts(
    rows: NDArray[Any], chunk_rows: int, shard_rows: int, codec: Codec = "none"
) -> Iterator[NDArray[Any] | bytes]:
    """Yield the bytes of one zarr shard of rows that are all there; see `ShardEncoder`."""
    encoder = ShardEncoder(chunk_rows, shard_rows, codec)
    yield from encoder.add(rows)
    yield from encoder.end()


class DurableFile:
    """A file that after a crash is there whole or not at all.

    The bytes go to a temporary sibling, are flushed to the disk, and get their name last.

    Parameters
    ----------
    path
        Final name. Missing parent folders are made.

    Raises
    ------
    DiskSpaceError
        By any method, if the disk is full; the temporary file is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        _make_folder(path.parent)
        self._temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}"
        with self._failing():
            self._file = self._temporary.open("wb", buffering=0)

    def write(self, parts: Iterable[NDArray[Any] | bytes]) -> None:
        """Write the next pieces of the content."""
        with self._failing():
            for part in parts:
                view = memoryview(part if isinstance(part, bytes) else part.data).cast("B")
                while view:  # a raw write may be short
                    written = self._file.write(view)
                    self.size += written
                    view = view[written:]

    def publish(self, *, exclusive: bool = False) -> int:
        """Flush the file and give it its name; return its bytes.

        Raises
        ------
        BlockTakenError
            If ``exclusive`` and there is a file of that name.
        """
        with self._failing():
            os.fsync(self._file.fileno())
            self._file.close()
            if exclusive:
                _publish(self._temporary, self.path)
            else:
                self._temporary.replace(self.path)
            sync_folder(self.path.parent)
        return self.size

    def discard(self) -> None:
        """Remove what was written."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Leave nothing behind when something fails, and say what it was."""
        try:
            yield
        except BaseException as error:
            if hasattr(self, "_file"):
                self.discard()
            if isinstance(error, FileExistsError):
                raise BlockTakenError(f"{self.path} exists: another run has written it.") from error
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskSpaceError(
                    f"The disk is full: writing {self.path} stopped after {self.size:,} bytes. Blocks committed before "
                    "are safe. Free some space and run the same command again: it goes on where this one stopped."
                ) from error
            raise


def write_durable(path: Path, parts: Iterable[NDArray[Any] | bytes], *, exclusive: bool = False) -> int:
    """Write a file so that after a crash it is there whole or not at all.

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
    file = DurableFile(path)
    file.write(parts)
    return file.publish(exclusive=exclusive)


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
def claim(path: Path, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock file while a piece of work is done; the system lets go of it when the process dies.

    The file and its folder are there only while they are needed: zarr warns of files that it does not know.

    Parameters
    ----------
    path
        The lock file.
    what
        What it stands for, for messages.
    wait
        Seconds to wait for another that holds it; none by default.

    Raises
    ------
    BlockTakenError
        If another process, or another thread of this one, holds it, and still does after `wait`.
    """
    handle = _lock_in_time(path, what, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # others hold locks there
            path.parent.rmdir()


def _lock_in_time(path: Path, what: str, wait: float) -> int:
    """Return the handle of a locked file, looking again and again until the time is up."""
    deadline, said = time.monotonic() + wait, False
    while True:
        try:
            return _lock(path, what)
        except BlockTakenError:
            if time.monotonic() >= deadline:
                raise
            if not said:
                logger.info("Another run is writing %s; waiting up to %.0f s for it.", what, wait)
            said = True
            time.sleep(min(_LOOK_SECONDS, wait))


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
