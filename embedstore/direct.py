"""Reading chunks and shards of a local store straight into memory that is there already.

zarr-python takes half a millisecond for each chunk, and every reader that returns fresh memory pays for its page faults
several times what the copy costs. The bytes are those of the public format (``docs/format.md``); checksums of samples
are the caller's, so those of inner chunks need not be read.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.digests import crc32c
from embedstore.errors import CorruptError
from embedstore.layout import ARRAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedstore.layout import Geometry

_CRC_BYTES = 4
_ABSENT = 2**64 - 1  # offset and length of an inner chunk that is not stored
_MOST_BUFFERS = 1000  # of one system call; Linux takes 1,024
_MOST_FILES = 32  # open at a time
_KEPT_BYTES = 32 * 1024**2  # of indexes and small chunks


_Part = tuple[int, list[memoryview]]  # offset in a file, and where its bytes go


class Wanted(NamedTuple):
    """Rows of a block, those of one sample or another next to each other.

    Attributes
    ----------
    block
        Which block.
    row, rows
        The first row of each piece, counted within the block, and how many it has, shape (piece,).
    place
        The row of the memory to which the first one goes, shape (piece,).
    """

    block: int
    row: NDArray[np.int64]
    rows: NDArray[np.int64]
    place: NDArray[np.int64]


class _Identity(NamedTuple):
    """What changes when a file is replaced by another of the same name."""

    inode: int
    modified: int
    size: int


class DirectReader:
    """Reads the files of one embedding in a local folder.

    Parameters
    ----------
    folder
        Of the embedding's group.
    geometry
        How samples lie in blocks.
    row_bytes
        Bytes of a stored row.
    where
        Names a block for a message.
    """

    def __init__(self, folder: Path, geometry: Geometry, row_bytes: int, where: Callable[[int], str]) -> None:
        self._folder, self._row_bytes, self._where = folder, row_bytes, where
        self._shard_rows, self._chunk_rows = geometry.shard_rows, geometry.chunk_rows
        self._chunks = geometry.shard_rows // geometry.chunk_rows
        self._kept: OrderedDict[str, tuple[_Identity, NDArray[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, wanted: Sequence[Wanted], out: NDArray[Any]) -> Iterator[int]:
        """Read rows of ``vector``, which must be stored without a codec.

        Parameters
        ----------
        wanted
            What to read of each block.
        out
            Memory for all of it, shape (row, channel), contiguous.

        Yields
        ------
        int
            Each block when its rows have been read.

        Raises
        ------
        CorruptError
            If a file is gone, or its index is damaged or does not have these rows.
        """
        target = memoryview(out.reshape(-1).view(np.uint8).data)
        for start in range(0, len(wanted), _MOST_FILES):
            with contextlib.ExitStack() as handles:
                # The disk is told of all that is wanted before the first of it is waited for.
                todo = [self._prepare(each, target, handles) for each in wanted[start : start + _MOST_FILES]]
                for block, path, handle, parts in todo:
                    with self._named(block):
                        for offset, buffers in parts:
                            _read(handle, buffers, offset, path)
                    yield block

    def _prepare(
        self, wanted: Wanted, target: memoryview, handles: contextlib.ExitStack
    ) -> tuple[int, Path, int, list[_Part]]:
        """Open the shard of a block, work out what to read, and have the disk begin."""
        path = self._folder / "vector" / "c" / str(wanted.block) / "0"
        with self._named(wanted.block):
            handle = _open(path)
            handles.callback(os.close, handle)
            parts = self._plan(path, self._index(path, handle), wanted, target)
        if hasattr(os, "posix_fadvise"):
            for offset, buffers in parts:
                os.posix_fadvise(handle, offset, sum(map(len, buffers)), os.POSIX_FADV_WILLNEED)
        return wanted.block, path, handle, parts

    @contextlib.contextmanager
    def _named(self, block: int) -> Iterator[None]:
        """Say which block damage was found in."""
        try:
            yield
        except (CorruptError, OSError) as error:
            raise CorruptError(f"{self._where(block)}: {error}. `embedstore verify` shows all damage.") from error

    def has(self, name: str, block: int) -> bool:
        """Tell whether an array that has one chunk per block has that of a block."""
        return (self._folder / name / "c" / str(block)).exists()

    def small(self, name: str, block: int) -> NDArray[Any]:
        """Read the chunk of an array of rows that has one per block: little-endian values and their CRC-32C.

        Parameters
        ----------
        name
            Of the array.
        block
            Which block.

        Returns
        -------
        numpy.ndarray
            All values of the chunk, flat; not to be written to.

        Raises
        ------
        CorruptError
            If the file is gone or damaged.
        """
        path = self._folder / name / "c" / str(block)
        with self._named(block), contextlib.ExitStack() as handles:
            handle = _open(path)
            handles.callback(os.close, handle)
            identity = _identity(handle)
            known = self._recall(str(path), identity)
            if known is not None:
                return known
            dtype = np.dtype(ARRAYS[name].dtype)
            size = self._shard_rows * dtype.itemsize + _CRC_BYTES
            if identity.size != size:
                raise _damaged(path, f"it has {identity.size:,} bytes and should have {size:,}")
            values = _checked(_bytes(handle, identity.size, 0, path), path).view(dtype)
            return self._keep(str(path), identity, values)

    def _index(self, path: Path, handle: int) -> NDArray[np.uint64]:
        """Return the offset and size of each inner chunk of a shard, shape (chunk, 2)."""
        identity = _identity(handle)
        known = self._recall(str(path), identity)
        if known is not None:
            return known
        size = self._chunks * 16 + _CRC_BYTES
        if identity.size < size:
            raise _damaged(path, f"it has {identity.size:,} bytes, its index alone takes {size:,}")
        index = _checked(_bytes(handle, size, identity.size - size, path), path).view("<u8").reshape(-1, 2)
        there = index[:, 1] != _ABSENT
        begin, length = index[there, 0], index[there, 1]
        wanted = self._chunk_rows * self._row_bytes + _CRC_BYTES
        room = identity.size - size
        if (length != wanted).any() or (begin > room).any() or (begin + length > room).any():
            raise _damaged(path, "its index names bytes that are not there")
        return self._keep(str(path), identity, index)

    def _plan(self, path: Path, index: NDArray[np.uint64], wanted: Wanted, target: memoryview) -> list[_Part]:
        """Return what to read in one go: offsets in the file, and the buffers that the bytes from there on go to."""
        step = self._chunk_rows
        first, last = wanted.row // step, (wanted.row + wanted.rows - 1) // step
        count = np.where(wanted.rows > 0, last - first + 1, 0)  # inner chunks that each piece lies in
        piece = np.repeat(np.arange(len(count)), count)
        chunk = first[piece] + np.arange(len(piece)) - np.repeat(np.cumsum(count) - count, count)
        if len(chunk) and (chunk.min() < 0 or chunk.max() >= len(index) or (index[chunk, 1] == _ABSENT).any()):
            raise _damaged(path, "inner chunks with these rows are not stored")
        begin = np.maximum(wanted.row[piece], chunk * step)
        end = np.minimum(wanted.row[piece] + wanted.rows[piece], (chunk + 1) * step)
        offset = index[chunk, 0].astype(np.int64) + (begin - chunk * step) * self._row_bytes
        size = (end - begin) * self._row_bytes
        place = (wanted.place[piece] + begin - wanted.row[piece]) * self._row_bytes
        order = np.argsort(offset, kind="stable")
        parts: list[_Part] = []
        ended = -1
        for at, length, to in zip(offset[order].tolist(), size[order].tolist(), place[order].tolist(), strict=True):
            buffer = target[to : to + length]
            if parts and at in (ended, ended + _CRC_BYTES) and len(parts[-1][1]) < _MOST_BUFFERS:
                if at != ended:  # the checksum between two chunks is read too, and dropped: one call in place of two
                    parts[-1][1].append(memoryview(bytearray(_CRC_BYTES)))
                parts[-1][1].append(buffer)
            else:
                parts.append((at, [buffer]))
            ended = at + length
        return parts

    def _recall(self, key: str, identity: _Identity) -> NDArray[Any] | None:
        with self._lock:
            known = self._kept.get(key)
            if known is None or known[0] != identity:
                return None
            self._kept.move_to_end(key)
            return known[1]

    def _keep(self, key: str, identity: _Identity, values: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            self._kept[key] = identity, values
            while sum(held.nbytes for _, held in self._kept.values()) > _KEPT_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return values


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise _damaged(path, "it is gone") from error


def _identity(handle: int) -> _Identity:
    status = os.fstat(handle)
    return _Identity(status.st_ino, status.st_mtime_ns, status.st_size)


def _bytes(handle: int, size: int, offset: int, path: Path) -> NDArray[np.uint8]:
    """Read some bytes of a file."""
    out = np.empty(size, np.uint8)
    _read(handle, [memoryview(out.data)], offset, path)
    return out


def _read(handle: int, buffers: list[memoryview], offset: int, path: Path) -> None:
    """Fill buffers with the bytes from an offset on; a call may give fewer than were asked for."""
    while buffers:
        got = os.preadv(handle, buffers, offset)
        if not got:
            raise _damaged(path, f"it ends at byte {offset:,}")
        offset += got
        while buffers and got >= len(buffers[0]):
            got -= len(buffers[0])
            buffers = buffers[1:]
        if got:
            buffers = [buffers[0][got:], *buffers[1:]]


def _checked(content: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Return what comes before the checksum at the end, if that is right."""
    body = content[:-_CRC_BYTES]
    if len(content) < _CRC_BYTES or crc32c(body) != int(content[-_CRC_BYTES:].view("<u4")[0]):
        raise _damaged(path, "the checksum does not fit")
    return body


def _damaged(path: Path, what: str) -> CorruptError:
    return CorruptError(f"{path} cannot be read: {what}")
