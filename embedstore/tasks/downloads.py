"""Fetching the released files of published tasks, each with its checksum written down at the first download."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError, RemoteError
from embedstore.outputs import check_folder
from embedstore.progress import progress_bar
from embedstore.shards import write_durable
from embedstore.tasks.published import publication
from embedstore.text import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

CHECKSUMS = "checksums.json"
"""File in a folder of downloads that holds the sha256, address, date and bytes of each."""

_TIMEOUT = 60.0  # seconds without a byte
# A server that has moved a file often answers with a page that says so, and with code 200.
_BEGINS = {".bed": (b"chromosome\t", b"\x1f\x8b"), ".hdf5": (b"\x89HDF\r\n\x1a\n",)}


def download(name: str | Path, folder: str | Path, *, progress: bool = False) -> list[Path]:
    """Fetch the released files of a task, or check those that are there.

    At the first download the sha256 of each file is written to ``checksums.json`` in the folder, because BEND has
    published none. From then on the file must match it: where it is there nothing is fetched, and a server that gives
    another one is refused. A file that was put there by hand is taken as it is, its checksum included. The genome is
    not fetched.

    Parameters
    ----------
    name
        A published task, or a ``.toml`` file with a table ``download``.
    folder
        Where the files go; made if it is not there.
    progress
        Show a bar per file, default False.

    Returns
    -------
    list of pathlib.Path
        The files, in the order of the record.

    Raises
    ------
    InputError
        The task has no addresses; a file differs from its checksum, or is not of the kind that its name says.
    RemoteError
        A server cannot be reached, refuses, or stops before the end. No file is left behind then.
    """
    addresses = publication(name).downloads
    if not addresses:
        raise InputError(f"{name}: the record has no table 'download', which says where its files are.")
    folder = check_folder(folder, option="the folder for the files (--out)")
    folder.mkdir(parents=True, exist_ok=True)
    return [_one(folder, file, url, progress) for file, url in addresses.items()]


def _one(folder: Path, file: str, url: str, progress: bool) -> Path:
    """Return one file, there and checked."""
    if Path(file).name != file or not url.startswith(("http://", "https://")):
        raise InputError(f"download of {file!r} from {url!r}: a plain file name and an http(s) address are wanted.")
    path = folder / file
    known = _checksums(folder).get(file, {}).get("sha256")
    if path.exists():
        found = file_digest(path)
        if known is not None and found != known:
            raise InputError(
                f"{path}: its sha256 is {found}; {folder / CHECKSUMS} has {known}. The file was changed after its "
                f"download. Delete it to fetch it again, or delete its entry there to accept it as it is."
            )
        _check_kind(path, path, "Delete it, or put the right one there.")
        url = ""  # where it came from is not known, unless that was written down before
    else:
        _fetch(path, url, known, progress)
        found = file_digest(path)
    if known is None:
        _write_down(folder, file, url, path, found)
    return path


def _fetch(path: Path, url: str, known: str | None, progress: bool) -> None:
    """Fetch a file; it gets its name when it is whole and its checksum is the known one."""
    import pooch
    import requests

    by_hand = f"If you can get the file elsewhere, put it at {path}: it is then used, and not fetched."
    # pooch tells of every download on the terminal, with advice that is not for users of this package.
    pooch.get_logger().setLevel(logging.WARNING)
    logger.info("fetching %s", url)
    # pooch asks whether the bar is true, which for tqdm is whether there is anything to do, before it knows how much.
    bar = progress_bar(None, path.name, show=progress, total=1, unit="B", unit_scale=True)
    try:
        with bar:
            pooch.retrieve(url, known, fname=path.name, path=path.parent, downloader=_checking(path, url, bar))
    except requests.HTTPError as error:
        answer = "an error" if error.response is None else f"{error.response.status_code} {error.response.reason}"
        raise RemoteError(f"{url}: the server answers {answer}. {by_hand}") from error
    except requests.RequestException as error:
        raise RemoteError(f"{url}: cannot be fetched: {error}. {by_hand}") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{url}: the server has another file than at the first download ({error}) If it is a new release and you "
            f"want it, delete the entry {path.name!r} in {path.parent / CHECKSUMS}."
        ) from error


def _checking(path: Path, url: str, bar: Any) -> Callable[[str, str, object], None]:
    """Return what fetches a file for pooch and looks at its first bytes."""
    from pooch import HTTPDownloader

    fetch = HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=_TIMEOUT)

    def checked(url_: str, output: str, pooch: object) -> None:
        fetch(url_, output, pooch)
        _check_kind(Path(output), path, f"It came from {url}; look there with a browser.")

    return checked


def _check_kind(path: Path, named: Path, cure: str) -> None:
    """Refuse a file whose first bytes are not those of its kind."""
    wanted = _BEGINS.get(named.suffix)
    with path.open("rb") as file:
        seen = file.read(40)
    if wanted is not None and not seen.startswith(wanted):
        raise InputError(f"{named}: begins with {seen!r}, which no {named.suffix} file of BEND does. {cure}")


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what is known of the files of a folder."""
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or not all(isinstance(entry, dict) for entry in known.values()):
            raise ValueError("an object of objects is wanted")
    except ValueError as error:
        raise InputError(f"{path}: is not JSON as it was written here: {error}. Mend it, or delete it.") from error
    return known


def _write_down(folder: Path, file: str, url: str, path: Path, digest: str) -> None:
    """Add a file to the checksums; the old list stays whole until the new one is."""
    entry = {
        "sha256": digest,
        "url": url,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "bytes": path.stat().st_size,
    }
    text = json.dumps({**_checksums(folder), file: entry}, indent=2) + "\n"
    write_durable(folder / CHECKSUMS, [text.encode()])
