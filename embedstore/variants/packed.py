"""Files that may be compressed: opened for reading, and known to be whole."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # that bgzip ends a file with
_HEAD_BYTES = 1 << 16


def compression(path: Path) -> str:
    """Tell how a file is compressed, by its content.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        ``""``, ``"gzip"``, or ``"bgzip"``: gzip in blocks that can be found again.

    Raises
    ------
    InputError
        If it cannot be read, is empty, or is of bgzip and lacks the block that ends it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(18)
            if head[12:14] == b"BC" and head.startswith(b"\x1f\x8b\x08\x04"):
                file.seek(0, 2)
                file.seek(max(file.tell() - len(_LAST_BLOCK), 0))
                tail = file.read()
                if tail != _LAST_BLOCK:
                    raise InputError(
                        f"{path}: the bgzip file is cut off: it lacks the empty block that ends one. Fetch it again."
                    )
                return "bgzip"
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error
    if not head:
        raise InputError(f"{path}: the file is empty; variants are wanted, as VCF, BCF, BED or TSV.")
    return "gzip" if head.startswith(b"\x1f\x8b") else ""


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, unpacked where it is compressed.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    file
        Binary.
    """
    return cast("BinaryIO", gzip.open(path, "rb")) if compression(path) else path.open("rb")


@contextlib.contextmanager
def blaming_damage(path: Path) -> Iterator[None]:
    """Where a file is refused: look first whether it is damaged, which may be the cause of the fault that was seen.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        That of the damage, or else the one that was raised.
    """
    try:
        yield
    except InputError:
        with whole(path), open_bytes(path) as file:
            while file.read(1 << 20):
                pass
        raise


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn damage of a compressed file into an error that names it.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it is cut off or damaged.
    """
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the compressed file is cut off or damaged ({error}). Fetch it again.") from error


def beginning(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bytes
        64 KiB, or the whole of a smaller one.

    Raises
    ------
    InputError
        If it cannot be read or is empty.
    """
    with whole(path), open_bytes(path) as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip():
        raise InputError(f"{path}: the file is empty; variants are wanted, as VCF, BCF, BED or TSV.")
    return head
