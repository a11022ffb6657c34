"""Files and folders that commands write: refused before the work begins, written whole or not at all."""

# os.path answers no where pathlib raises, as about a folder that may not be searched.
# ruff: noqa: PTH110, PTH111, PTH112, PTH113, PTH121

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from embedstore.errors import DiskSpaceError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_file(
    path: str | os.PathLike[str],
    *,
    option: str = "--out",
    suffixes: Sequence[str] = (),
    source: str | os.PathLike[str] | None = None,
) -> Path:
    """Return the path of a file to write, if it can be written there; nothing is written yet.

    Parameters
    ----------
    path
        The file; a leading ``~`` is the home folder.
    option
        What the user calls it, for messages. Default ``"--out"``.
    suffixes
        Those that say what can be written. Default: any.
    source
        A file that is read and must not be overwritten. Default: none.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        The suffix is not one of them, the folder does not exist, may not be written to or lies in a store, or the path
        is a folder, a device, a file that may not be changed, or the source.
    """
    found = Path(os.path.expanduser(path))
    name = f"{option} {found}"
    if suffixes and not (found.name.endswith(tuple(suffixes)) and found.name not in suffixes):
        raise InputError(f"{name}: the name must end in one of {', '.join(suffixes)}, which says what is written.")
    if os.path.isdir(found):
        raise InputError(f"{name} is a folder; a file is wanted. Name one in it.")
    parent = _folder(found.parent, name)
    if parent != found.parent:
        raise InputError(f"{name}: there is no folder {found.parent}. Make it, or name another place.")
    # A file is replaced by renaming, which would also replace a device such as /dev/null.
    if os.path.lexists(found) and not (os.path.isfile(found) and os.access(found, os.W_OK)):
        why = "may not be written to" if os.path.isfile(found) else "is no ordinary file"
        raise InputError(f"{name} is there and {why}. Name another file.")
    if source is not None and os.path.exists(found) and os.path.exists(source) and os.path.samefile(found, source):
        raise InputError(f"{name} is the input file, which would be overwritten. Name another file.")
    return found


def check_folder(path: str | os.PathLike[str], *, option: str = "--out") -> Path:
    """Return the path of a folder to write into, if that can be done; it need not exist, and is not made yet.

    Parameters
    ----------
    path
        The folder; a leading ``~`` is the home folder.
    option
        What the user calls it, for messages. Default ``"--out"``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        It, or what it would lie in, is a file, a store, or may not be written to.
    """
    found = Path(os.path.expanduser(path))
    _folder(found, f"{option} {found}")
    return found


def _folder(path: Path, name: str) -> Path:
    """Return the nearest folder on the way to a path that exists, if files and folders can be made in it."""
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not os.path.isdir(there):
        what = "is a file" if os.path.isfile(there) else "is no folder"
        raise InputError(f"{name}: {there} {what}, and a folder is wanted there. Name another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{name}: you have no permission to write into {there}. Name another place.")
    # `embedstore repair` removes from a store what does not belong to it.
    places = (there.absolute(), *there.absolute().parents)
    stores = [place for place in places if os.path.isfile(place / "zarr.json")]
    if stores:
        raise InputError(f"{name} lies in the store {stores[-1]}, where nothing else may be. Name a place beside it.")
    return there


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, beside a file that is there whole or not at all, also after a crash.

    Parameters
    ----------
    path
        The file; one of that name is replaced when the block ends without an error, and stays otherwise.

    Yields
    ------
    pathlib.Path
        Where to write. It has the same suffix.

    Raises
    ------
    DiskSpaceError
        The disk, or the user's share of it, is full.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes files that only their owner may read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free = shutil.disk_usage(target.parent).free
        raise DiskSpaceError(
            f"{path}: the disk is full ({free / 2**20:,.1f} MiB free), so this file was not written. Free some space "
            "and run the same again, or name another place.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what runs that were killed inside `written_whole` have left beside a file.

    Parameters
    ----------
    path
        The file, which stays. No other run may be writing it.
    """
    for left in path.parent.glob(f".[0-9]*.{glob.escape(path.name)}"):
        left.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash.

    Parameters
    ----------
    path
        The file; one of that name is replaced.
    data
        Its bytes.

    Raises
    ------
    DiskSpaceError
        The disk is full; a file that was there stays.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(data)
