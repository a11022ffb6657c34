"""Answers of servers, kept on disk as they came: a stopped run goes on from them, and an offline run replays them.

A folder with one small JSON file per request, named by the sha256 of the request, and one file per body, named by the
sha256 of the body. Both are plain, so that anyone can look at what a server said and when.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from embedstore.errors import InputError

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """What is asked of a server.

    Attributes
    ----------
    method
        ``"GET"`` or ``"POST"``.
    url
        The whole address, its query included.
    body
        What is posted; empty for GET.
    kind
        Content type of the body; empty for GET.
    """

    method: str
    url: str
    body: bytes = b""
    kind: str = ""

    @property
    def key(self) -> str:
        """sha256 of the request, in hex: equal requests have equal keys."""
        return hashlib.sha256(b"\0".join([self.method.encode(), self.url.encode(), self.body])).hexdigest()


class Answer(NamedTuple):
    """What a server said.

    Attributes
    ----------
    url
        Where the answer came from, after redirects.
    status
        HTTP status.
    headers
        Names in lower case.
    body
        The bytes, decompressed.
    """

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are shown as question marks."""
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body as JSON; ValueError where it is not."""
        return json.loads(self.body)


class Cache:
    """A folder of answers.

    Several processes may use one folder at a time: files appear whole.

    Parameters
    ----------
    folder
        Made when the first answer is kept.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache, asked = Cache(folder), Request("GET", "http://a.org/x")
    ...     cache.put(asked, Answer("http://a.org/x", 200, {}, b"yes"))
    ...     cache.get(asked).body, cache.get(Request("GET", "http://a.org/y"))
    (b'yes', None)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, request: Request) -> Answer | None:
        """Return the answer to a request that was kept; None where there is none, or where it is damaged (logged).

        Raises
        ------
        InputError
            A file of the cache cannot be read.
        """
        path = self._request_path(request)
        try:
            known = json.loads(path.read_bytes())
            body = self._body_path(known["sha256"]).read_bytes()
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            logger.warning("%s: is not a record as it was written here: %s is asked for again.", path, request.url)
            return None
        except OSError as error:
            raise InputError(f"{path}: a file of the cache cannot be read: {error.strerror}.") from error
        if hashlib.sha256(body).hexdigest() != known["sha256"]:
            logger.warning("%s: its body is damaged: %s is asked for again.", path, request.url)
            return None
        return Answer(known["url"], known["status"], known["headers"], body)

    def put(self, request: Request, answer: Answer) -> None:
        """Keep an answer: the body first, so that a record always has one."""
        digest = hashlib.sha256(answer.body).hexdigest()
        _write(self._body_path(digest), answer.body)
        record = {
            "method": request.method,
            "asked": request.url,
            "posted": request.body.decode("utf-8", "replace"),
            "url": answer.url,
            "status": answer.status,
            "headers": answer.headers,
            "sha256": digest,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _write(self._request_path(request), json.dumps(record, indent=1).encode())

    def forget(self, request: Request) -> None:
        """Remove the answer to a request, so that it is asked again."""
        self._request_path(request).unlink(missing_ok=True)

    def _request_path(self, request: Request) -> Path:
        return self.folder / "requests" / request.key[:2] / f"{request.key}.json"

    def _body_path(self, digest: str) -> Path:
        return self.folder / "bodies" / digest[:2] / digest


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole; the digest in its record tells of bytes that a crash lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
