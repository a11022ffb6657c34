"""Where stores are: local folders, URLs, memory; and whether the Rust codec pipeline is there to read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedstore.errors import InputError, StoreError

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore


def zarr_store(path: str | Path | ZarrStore, mode: str) -> tuple[ZarrStore, str, Path | None]:
    """Return the zarr store at a path, its name, and its folder where it is local."""
    from zarr.abc.store import Store as ZarrStore
    from zarr.storage import FsspecStore, LocalStore, MemoryStore

    read_only = mode == "r"
    if isinstance(path, LocalStore):
        path = path.root
    if isinstance(path, ZarrStore):
        return path, str(path), None
    if isinstance(path, str) and path.startswith("file://"):
        path = path.removeprefix("file://")
    if isinstance(path, str) and "://" in path:
        if path.startswith("memory://"):
            return MemoryStore(), path, None
        try:
            return FsspecStore.from_url(path, read_only=read_only), path, None
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{path} cannot be opened: {error}. `pip install 'embedstore[remote]'` brings what http:// needs; "
                "other protocols need their fsspec package (s3fs, gcsfs, ...)."
            ) from error
    folder = Path(path).expanduser()
    if folder.is_file():
        raise StoreError(f"{folder} is a file, not a store. Give the path of a store's folder.")
    if mode == "a":
        folder.mkdir(parents=True, exist_ok=True)
    return LocalStore(folder, read_only=read_only), str(folder), folder


def has_zarrs() -> bool:
    """Tell whether the package zarrs is installed."""
    from importlib.util import find_spec

    return find_spec("zarrs") is not None
