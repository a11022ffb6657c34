"""Stores behind a URL: S3, Google Cloud Storage, Azure and HTTP, through zarr's store over obstore.

Requests are repeated by obstore itself, within the limits below. What it then gives up on becomes a
:class:`~embedstore.errors.RemoteError` that names the store. ``docs/remote.md`` says what is promised.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.storage import ObjectStore

from embedstore.errors import InputError, RemoteError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

RETRY_SECONDS = ("EMBEDSTORE_RETRY_SECONDS", 30.0)
"""Environment variable and default: how long a request that fails is sent again."""
TIMEOUT_SECONDS = ("EMBEDSTORE_TIMEOUT_SECONDS", 60.0)
"""Environment variable and default: how long a server may stay silent before a request counts as failed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries: random, growing from the first to at most the second."""
LONGEST_REQUEST = 3600.0
"""Seconds that one request may take while bytes still flow."""

_NEVER = 10**6  # tries: time is what ends them


def open_remote(url: str, *, read_only: bool) -> RemoteStore:
    """Open the zarr store at a URL.

    Parameters
    ----------
    url
        ``s3://bucket/name``, ``gs://...``, ``az://...``, ``http://...`` or ``https://...``. Credentials and endpoints
        come from the environment variables that are usual for each (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` ...).
    read_only
        Whether writing is refused.

    Returns
    -------
    RemoteStore

    Raises
    ------
    InputError
        If the URL or a setting is not understood.
    """
    wait, silence = _seconds(*RETRY_SECONDS), _seconds(*TIMEOUT_SECONDS)
    http = url.startswith(("http://", "https://"))
    options: dict[str, Any] = {
        "timeout": timedelta(seconds=LONGEST_REQUEST),
        "read_timeout": timedelta(seconds=silence),
        "connect_timeout": timedelta(seconds=min(silence, 10.0)),
    }
    if url.startswith("http://") or any(
        os.environ.get(name, "").lower() in ("true", "1") for name in ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
    ):
        options["allow_http"] = True  # options given here replace those that obstore takes from the environment
    pauses = {
        "init_backoff": timedelta(seconds=FIRST_PAUSE),
        "max_backoff": timedelta(seconds=LONGEST_PAUSE),
        "base": 2,
    }
    retries: Any = {"max_retries": _NEVER, "retry_timeout": timedelta(seconds=wait), "backoff": pauses}
    try:
        upstream = from_url(url, client_options=options, retry_config=retries)  # type: ignore[call-overload]
    except (BaseError, ValueError) as error:
        raise InputError(f"{url} cannot be opened: {plain(error)}. Write it as s3://bucket/name.zarr.") from error
    return RemoteStore(upstream, read_only=read_only, url=url, lists=not http)


def _seconds(name: str, default: float) -> float:
    """Return a number of seconds from the environment."""
    text = os.environ.get(name, "")
    try:
        value = float(text or default)
    except ValueError:
        value = -1.0
    if not 0 <= value < 10**6:
        raise InputError(f"The environment variable {name} is {text!r}: it must be a number of seconds, such as 30.")
    return value


def plain(error: BaseException) -> str:
    """Return what obstore says, without its debugging part and the markup of the server's answer."""
    text = str(error).split("\n\nDebug source")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:600].rstrip(". ")


class RemoteStore(ObjectStore[Any]):
    """zarr's store over obstore, with errors that say which store failed and what to do.

    Parameters
    ----------
    store
        obstore's.
    read_only
        Whether writing is refused.
    url
        For messages.
    lists
        Whether the server tells what it holds; a plain web server does not.
    """

    def __init__(self, store: Any, *, read_only: bool = False, url: str = "", lists: bool = True) -> None:
        super().__init__(store, read_only=read_only)
        self.url, self.lists = url, lists

    def __str__(self) -> str:
        return self.url

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return the same store with another access."""
        return type(self)(self.store, read_only=read_only, url=self.url, lists=self.lists)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the content of an object, or part of it; None where there is none."""
        get = super().get
        try:
            return await self._try("reading", key, lambda: get(key, prototype, byte_range))
        except NotSupportedError:
            # A simple web server sends the whole file when it is asked for a part.
            whole = await self._try("reading", key, lambda: get(key, prototype))
        return None if whole is None else whole[_part(byte_range, len(whole))]

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Any) -> list[Buffer | None]:
        """Return parts of several objects."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object of a name."""
        exists = super().exists
        return await self._try("looking for", key, lambda: exists(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        put = super().set
        await self._try("writing", key, lambda: put(key, value))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless there is one of that name. Afterwards it is there; whose it is, reading it tells."""
        create = super().set_if_not_exists
        try:
            await self._try("writing", key, lambda: create(key, value))
        except (NotSupportedError, NotImplementedError):
            # The server has no conditional writes: look first, then write.
            await ZarrStore.set_if_not_exists(self, key, value)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        delete = super().delete
        await self._try("removing", key, lambda: delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        delete = super().delete_dir
        await self._try("removing", prefix, lambda: delete(prefix))

    async def getsize(self, key: str) -> int:
        """Return the bytes of an object."""
        size = super().getsize
        return await self._try("reading the size of", key, lambda: size(key))

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the bytes of all objects below a prefix."""
        size = super().getsize_prefix
        return await self._try("listing", prefix, lambda: size(prefix))

    def list(self) -> AsyncGenerator[str, None]:
        """Yield all names."""
        return self._listing(super().list, "")

    def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """Yield the names below a prefix."""
        names = super().list_prefix
        return self._listing(lambda: names(prefix), prefix)

    def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """Yield what lies directly below a prefix."""
        names = super().list_dir
        return self._listing(lambda: names(prefix), prefix)

    async def _listing(self, begin: Callable[[], AsyncGenerator[str, None]], prefix: str) -> AsyncGenerator[str, None]:
        if not self.lists:
            raise NotImplementedError(f"{self.url} cannot be listed")

        async def collect() -> tuple[str, ...]:
            return tuple([name async for name in begin()])

        for name in await self._try("listing", prefix, collect):
            yield name

    async def _try(self, doing: str, key: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make a request, and turn errors of obstore into ours.

        obstore repeats requests itself, but not when the connection broke within an answer, nor a conditional write
        whose answer was lost. All that is asked of a store here may be asked twice, so these are repeated as well.
        """
        limit = time.monotonic() + _seconds(*RETRY_SECONDS)
        while True:
            try:
                return await call()
            except (NotSupportedError, NotImplementedError):
                raise
            except FileNotFoundError as error:
                if doing != "writing":
                    raise
                raise RemoteError(
                    f"{self.url}: writing {key!r} failed: {plain(error)}. Create the bucket first; embedstore does not."
                ) from error
            except BaseError as error:
                if time.monotonic() > limit or not _broken_off(error):
                    raise RemoteError(f"{self.url}: {doing} {key!r} failed: {plain(error)}. {_cure(error)}") from error
                logger.warning("%s: %s %r again: %s", self.url, doing, key, plain(error))
                await asyncio.sleep(FIRST_PAUSE)


def _broken_off(error: BaseError) -> bool:
    """Tell whether the connection broke after it was made; other errors come again, or were repeated by obstore."""
    return "HTTP error: " in str(error) and "builder error" not in str(error)


def _part(wanted: ByteRequest | None, length: int) -> slice:
    """Return the bytes asked for of an object that came whole."""
    if isinstance(wanted, RangeByteRequest):
        return slice(wanted.start, wanted.end)
    if isinstance(wanted, OffsetByteRequest):
        return slice(wanted.offset, None)
    assert isinstance(wanted, SuffixByteRequest)
    return slice(max(0, length - wanted.suffix), None)


def _cure(error: BaseError) -> str:
    """Say what to do about an error."""
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return (
            "Check the credentials (AWS_ACCESS_KEY_ID ... in the environment) and what they allow: reading needs to "
            "list and get objects, embedding also to put them, repairing also to delete them."
        )
    wait = os.environ.get(RETRY_SECONDS[0]) or f"{RETRY_SECONDS[1]:g}"
    return (
        f"Check the address (AWS_ENDPOINT_URL; AWS_ALLOW_HTTP=true for one without TLS) and the server. A request is "
        f"repeated for {wait} s; {RETRY_SECONDS[0]} sets another limit. Blocks committed before are safe: the same "
        "command goes on from there."
    )
