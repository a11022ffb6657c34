"""Where stores are: local folders, URLs, memory; and whether the Rust codec pipeline is there to read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedstore.errors import InputError, NotInStoreError, StoreError

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore

REMOTE = ("s3://", "gs://", "az://", "http://", "https://")
"""Beginnings of the URLs of stores on servers."""


def zarr_store(path: str | Path | ZarrStore, mode: str) -> tuple[ZarrStore, str, Path | None]:
    """Return the zarr store at a path, its name, and its folder where it is local."""
    from zarr.abc.store import Store as ZarrStore
    from zarr.storage import LocalStore, MemoryStore

    read_only = mode == "r"
    if isinstance(path, LocalStore):
        path = path.root
    if isinstance(path, ZarrStore):
        return path, str(path), None
    if isinstance(path, str) and path.startswith("file://"):
        path = path.removeprefix("file://")
    if isinstance(path, str) and "://" in path:
        if not path.startswith("memory://"):
            url = path.rstrip("/")
            return _remote(url, mode), url, None
        if read_only:
            raise NotInStoreError(
                f"There is no store at {path}: a store in memory is new, and empty, each time it is opened. Open it "
                "with mode='a', and hand on the store itself."
            )
        return MemoryStore(), path, None
    folder = Path(path).expanduser()
    if folder.is_file():
        raise StoreError(f"{folder} is a file, not a store. Give the path of a store's folder.")
    if mode == "a":
        folder.mkdir(parents=True, exist_ok=True)
    return LocalStore(folder, read_only=read_only), str(folder), folder


def _remote(url: str, mode: str) -> ZarrStore:
    """Return the zarr store at the URL of a server."""
    if not url.startswith(REMOTE):
        raise InputError(
            f"{url} cannot be opened: a store's URL begins with one of {', '.join((*REMOTE, 'file://', 'memory://'))}. "
            "Other places: give `open_store` a zarr store object (zarr.storage.FsspecStore.from_url)."
        )
    if mode == "a" and url.startswith("http"):
        raise InputError(f"{url}: a web server can only be read from. Give an s3://, gs:// or az:// URL to write to.")
    try:
        from embedstore.remote import open_remote
    except ImportError as error:
        raise InputError(
            f"{url} needs the package obstore ({error}): `pip install 'embedstore[remote]'` brings it."
        ) from error
    return open_remote(url, read_only=mode == "r")


def has_zarrs() -> bool:
    """Tell whether the package zarrs is installed."""
    from importlib.util import find_spec

    return find_spec("zarrs") is not None
