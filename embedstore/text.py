"""Tables of text: tab-separated and comma-separated files, read whole with the place of every row.

Nothing is guessed, filled up or dropped on the way, which is what pandas does with a row that is too short, a blank
line or a cell that reads NA.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

_INTEGER = r"-?(?:0|[1-9]\d{0,17})"
_NUMBER = r"[-+]?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"


class TextTable(NamedTuple):
    """A table as it stands in a file: nothing but text, with the place of each row."""

    path: Path
    frame: pd.DataFrame
    lines: NDArray[np.int64] | None  # None where the format has no lines; rows are then counted from 0

    def where(self, row: int) -> str:
        """Name the place of a row.

        Parameters
        ----------
        row
            Index of the row.

        Returns
        -------
        str
            ``file:line``, or ``file: row n`` where the file has no lines.
        """
        return f"{self.path}: row {row}" if self.lines is None else f"{self.path}:{self.lines[row]}"

    def refuse(self, bad: ArrayLike, fault: Callable[[int], str], cure: str = "") -> None:
        """Raise an error for the first row of a mask, if there is any.

        Parameters
        ----------
        bad
            Shape (row,), bool.
        fault
            Says what is wrong with a row.
        cure
            A sentence that says what to do.

        Raises
        ------
        InputError
            If any row is marked.
        """
        rows = np.flatnonzero(np.asarray(bad, bool))
        if not rows.size:
            return
        others = ", ".join(self.where(int(row)).rpartition(":")[2] for row in rows[1:5])
        more = (
            f" {rows.size:,} rows have this fault (also {others}{', ...' if rows.size > 5 else ''})." if others else ""
        )
        raise InputError(f"{self.where(int(rows[0]))}: {fault(int(rows[0]))}.{more} {cure}".rstrip())


def file_digest(path: str | Path) -> str:
    """Return the digest of a file as it stands on the disk.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        sha256, in hex.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: str | Path) -> bytes:
    """Read a text file, plain or gzip, and check that it is clean text.

    Parameters
    ----------
    path
        The file. Compression is told by the content, not the name.

    Returns
    -------
    bytes
        UTF-8 text whose lines end in a newline only, without newlines at the end of the file.

    Raises
    ------
    InputError
        If the file cannot be read, is empty, is not UTF-8, begins with a byte order mark or holds a lone carriage
        return or a NUL. Windows line ends (CRLF) are read as line ends.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}). Fetch it again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}:1: begins with a byte order mark. Save the file as UTF-8 without one (no BOM).")
    raw = raw.replace(b"\r\n", b"\n").rstrip(b"\n")
    if not raw.strip():
        raise InputError(f"{path}: the file is empty; a table with a header line is wanted.")
    for odd, name in ((b"\r", "a carriage return within a line"), (b"\0", "a NUL byte")):
        if odd in raw:
            line = raw.count(b"\n", 0, raw.index(odd)) + 1
            raise InputError(f"{path}:{line}: {name}; plain text with one row per line is wanted.")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: is not UTF-8 text.") from None
    return raw


def read_tabbed(path: str | Path, first: Sequence[str] = ()) -> TextTable:
    """Read a tab-separated table with a header line; nothing is quoted, and every cell stays text.

    Parameters
    ----------
    path
        The file, plain or gzip.
    first
        Names that the first columns must have.

    Returns
    -------
    TextTable
        One row per line after the header.

    Raises
    ------
    InputError
        If the file is not clean text, the header is not as wanted, a line has another number of cells, or there
        are no rows.
    """
    import pandas as pd

    path = Path(path)
    raw = read_bytes(path)
    head, _, body = raw.partition(b"\n")
    header = head.decode().split("\t")
    if tuple(header[: len(first)]) != tuple(first):
        cause = " It is separated by spaces." if b"\t" not in head and len(head.split()) > 1 else ""
        raise InputError(
            f"{path}:1: the first line is {head.decode()[:80]!r}; a header is wanted that begins with "
            f"{', '.join(first)}, separated by tabs.{cause}"
        )
    check_header(path, header)
    if not body:
        raise InputError(f"{path}: has a header but no rows.")
    _check_cells(path, body, len(header))
    frame = pd.read_csv(
        io.BytesIO(body),
        sep="\t",
        header=None,
        names=header,
        dtype=str,
        na_filter=False,
        quoting=3,  # csv.QUOTE_NONE: a quote is a letter like any other
        lineterminator="\n",
        skip_blank_lines=False,
    )
    return TextTable(path, frame, np.arange(2, len(frame) + 2))


def check_header(path: Path, header: Sequence[str]) -> None:
    """Refuse a header with empty or repeated names.

    Parameters
    ----------
    path
        The file, for the message.
    header
        Names of the columns.

    Raises
    ------
    InputError
        If a name is empty, has spaces around it, or is used twice.
    """
    for place, name in enumerate(header, 1):
        if not name or name != name.strip():
            raise InputError(f"{path}:1: column {place} is named {name!r}; a name without spaces around it is wanted.")
        if name in header[: place - 1]:
            raise InputError(f"{path}:1: two columns are named {name!r}. Names must be unique.")


def _check_cells(path: Path, body: bytes, columns: int) -> None:
    """Refuse lines with another number of cells than the header (pandas would fill up short ones)."""
    letters = np.frombuffer(body, np.uint8)
    ends = np.append(np.flatnonzero(letters == ord("\n")), letters.size)
    tabs = np.searchsorted(np.flatnonzero(letters == ord("\t")), ends)
    cells = np.diff(tabs, prepend=0) + 1
    bad = np.flatnonzero(cells != columns)
    if bad.size:
        row = int(bad[0])
        text = body[ends[row - 1] + 1 if row else 0 : ends[row]].decode()
        cause = " It is separated by spaces." if len(text.split(" ")) >= columns else ""
        raise InputError(
            f"{path}:{row + 2}: {cells[row]} cell(s), {columns} are wanted as in the header: {text[:80]!r}.{cause}"
        )


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give columns of text the type that all their cells allow.

    Parameters
    ----------
    frame
        Columns of text.

    Returns
    -------
    pandas.DataFrame
        Columns of int64, float64, bool (cells True and False, in any case) or text. Numbers with leading zeros or
        too many digits stay text, as do columns with empty cells, and those called ``name`` or ``..._id``.
    """
    frame = frame.copy()
    for name in frame.columns:
        texts = frame[name]
        if name == "name" or name.endswith("_id"):
            continue
        if texts.str.fullmatch(_INTEGER).all():
            frame[name] = texts.astype(np.int64)
        elif texts.str.fullmatch(_NUMBER).all():
            frame[name] = texts.astype(np.float64)
        elif texts.str.lower().isin(["true", "false"]).all():
            frame[name] = texts.str.lower() == "true"
    return frame
