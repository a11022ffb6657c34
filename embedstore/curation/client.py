"""A polite client of public web services: slow, patient, cached, and replayable without a network."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from embedstore import __version__
from embedstore.curation.cache import Answer, Cache, Request
from embedstore.errors import InputError, RemoteError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import requests

logger = logging.getLogger(__name__)

TRIES = 6
"""How often a request is sent before it counts as failed."""

BREAKER = 20
"""Consecutive failures of one server after which no more is asked of it."""

_BACKOFF = 0.5  # seconds before the second try; doubled for each further one
_TIMEOUT = (10.0, 120.0)  # seconds to connect, and without a byte
_LONGEST_WAIT = 900.0  # seconds that a Retry-After may ask for
_RETRIED = {429: "too_many_requests", 500: "server_error", 502: "server_error", 503: "server_error"}
_RETRIED[504] = "server_error"
_LONG = 150  # letters of an address in a message
_FINAL = {400, 404, 410}  # the request is wrong, or there is no such thing: asking again would say the same
_KEPT_HEADERS = ("content-type", "link", "location", "x-total-results", "x-uniprot-release", "date")


class Fault(NamedTuple):
    """Why an answer, a record or a protein is of no use.

    Attributes
    ----------
    reason
        One of `embedstore.coding.reasons.REASONS`.
    detail
        What was seen.
    """

    reason: str
    detail: str


class Client:
    """Asks servers, and keeps what they say.

    Each server is asked at most `rate` times a second, over all threads. What fails is tried again after 0.5 s, 1 s,
    2 s ... plus up to as much again by chance, six times in all: the statuses 429, 500, 502, 503 and 504, broken and
    silent connections, bodies cut short, and pages of HTML or damaged JSON with status 200. ``Retry-After`` is
    honoured, and holds back all requests to that server. 400, 404 and 410 are answers. After twenty failures in a row
    no more is asked of a server.

    Parameters
    ----------
    cache
        Folder for the answers; a later run with the same folder asks only what is missing.
    contact
        Address at which the servers' owners can reach you; goes into ``User-Agent``. Needed unless `offline`.
    offline
        Answer from the cache alone, default False.
    slowest
        Most requests per second to any server; by default each service's own rate (ENA 5, NCBI 3, others 5).
    clock, sleep, jitter
        What gives seconds, waits, and gives numbers in [0, 1); for tests.

    Raises
    ------
    InputError
        There is no contact, or requests is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Client(folder, offline=True).get("http://example.org")
    Traceback (most recent call last):
    ...
    embedstore.errors.ServerError: http://example.org: no answer is kept in ..., and the run is offline...
    """

    def __init__(
        self,
        cache: str | Path,
        *,
        contact: str = "",
        offline: bool = False,
        slowest: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not offline and "@" not in contact and not contact.startswith(("http://", "https://")):
            raise InputError(
                f"contact is {contact!r}: the owners of public servers ask for an address at which they can reach you "
                "before they lock you out. Give an e-mail address, or work offline."
            )
        if not offline and find_spec("requests") is None:
            raise InputError("Asking servers needs requests; install 'embedstore[download]', or work offline.")
        self.cache = Cache(cache)
        self.contact = contact
        self.offline = offline
        self.asked = 0
        """Requests sent so far, repeated ones included."""
        self._slowest, self._clock, self._sleep, self._jitter = slowest, clock, sleep, jitter
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}  # when a server may be asked again
        self._failures: dict[str, int] = {}
        self._given_up: dict[str, str] = {}
        self._local = threading.local()

    def get(self, url: str, query: Mapping[str, str] | None = None, **options: Any) -> Answer:
        """Send a GET request; see :meth:`send`.

        Parameters
        ----------
        url
            The address.
        query
            Fields to put behind it.
        **options
            As for :meth:`send`.
        """
        return self.send(Request("GET", f"{url}?{urlencode(query, safe=',:')}" if query else url), **options)

    def post(self, url: str, form: Mapping[str, str] | None = None, *, data: object = None, **options: Any) -> Answer:
        """Send a POST request with a form, or with data as JSON; see :meth:`send`.

        Parameters
        ----------
        url
            The address.
        form
            Fields of a form.
        data
            Sent as JSON where there is no form.
        **options
            As for :meth:`send`.
        """
        return self.send(post_request(url, form, data), **options)

    def send(
        self,
        request: Request,
        *,
        rate: float = 5.0,
        check: Callable[[Answer], Fault | None] | None = None,
        keep: Callable[[Answer], bool] | bool = True,
        follow: bool = True,
    ) -> Answer:
        """Return the answer to a request, from the cache where it is there.

        Parameters
        ----------
        request
            What is asked.
        rate
            Requests per second that the server allows.
        check
            Looks at an answer with status 200 and returns what is wrong with it, or None; such an answer is asked for
            again. Empty bodies and pages of HTML are always wrong.
        keep
            Whether the answer goes into the cache, and may come from it; a function decides by the answer.
        follow
            Follow redirects, default True.

        Returns
        -------
        Answer
            With status 200 to 303, 400, 404 or 410.

        Raises
        ------
        ServerError
            No usable answer after all tries, a status that will not change (403, say), or offline (``not_cached``).
        RemoteError
            The server failed twenty times in a row, or asks to wait longer than a quarter of an hour.
        """
        if keep and (known := self.cache.get(request)) is not None:
            return known
        if self.offline:
            raise ServerError(
                f"{_short(request.url)}: no answer is kept in {self.cache.folder}, and the run is offline. Run once "
                "online with the same input and cache.",
                "not_cached",
            )
        host = urlsplit(request.url).netloc
        if host in self._given_up:
            raise RemoteError(self._given_up[host])
        fault = Fault("", "")
        for attempt in range(TRIES):
            self._wait(host, rate)
            outcome = self._once(request, check, follow)
            if isinstance(outcome, Answer):
                with self._lock:
                    self._failures[host] = 0
                if keep is True or (callable(keep) and keep(outcome)):
                    self.cache.put(request, outcome)
                return outcome
            fault, wait = outcome
            self._count(host, request, fault)
            logger.info("%s: %s (%s), try %d of %d", request.url, fault.reason, fault.detail, attempt + 1, TRIES)
            if wait is not None:
                self._hold(host, wait)
            elif attempt + 1 < TRIES:
                self._sleep(_BACKOFF * 2**attempt * (1 + self._jitter()))
        raise ServerError(f"{_short(request.url)}: {TRIES} tries, the last: {fault.detail}", fault.reason)

    def forget(self, request: Request) -> None:
        """Remove a kept answer that proved to be of no use."""
        self.cache.forget(request)

    def pause(self, seconds: float) -> None:
        """Wait, as between two looks at a job."""
        self._sleep(seconds)

    def _once(
        self, request: Request, check: Callable[[Answer], Fault | None] | None, follow: bool
    ) -> Answer | tuple[Fault, float | None]:
        """Send a request once: the answer, or what is wrong and how long the server asks to wait."""
        import requests

        with self._lock:
            self.asked += 1
        try:
            response = self._session().request(
                request.method,
                request.url,
                data=request.body or None,
                headers={"Content-Type": request.kind} if request.kind else {},
                timeout=_TIMEOUT,
                allow_redirects=follow,
            )
        except requests.Timeout as error:
            return Fault("timeout", str(error)), None
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as error:
            return Fault("connection", str(error)), None
        except requests.RequestException as error:
            raise ServerError(f"{request.url}: cannot be asked: {error}", "connection") from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        answer = Answer(str(response.url), response.status_code, kept, response.content)
        if answer.status in _RETRIED:
            fault = Fault(_RETRIED[answer.status], f"status {answer.status}: {_begin(answer)}")
            return fault, _retry_after(headers, request.url)
        if answer.status >= 400 and answer.status not in _FINAL:
            raise ServerError(
                f"{_short(request.url)}: refused with status {answer.status}: {_begin(answer)}", "refused"
            )
        wrong = _page_fault(answer) or (check(answer) if check else None) if answer.status == 200 else None
        return answer if wrong is None else (wrong, None)

    def _session(self) -> requests.Session:
        """Return this thread's session."""
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.headers["User-Agent"] = f"embedstore/{__version__} ({self.contact})"
        session: requests.Session = self._local.session
        return session

    def _wait(self, host: str, rate: float) -> None:
        """Wait for this request's turn."""
        step = 1 / min(rate, self._slowest or rate)
        with self._lock:
            now = self._clock()
            turn = max(now, self._next.get(host, now))
            self._next[host] = turn + step
        if turn > now:
            self._sleep(turn - now)

    def _hold(self, host: str, seconds: float) -> None:
        """Let nobody ask a server for some seconds."""
        with self._lock:
            self._next[host] = max(self._next.get(host, 0.0), self._clock() + seconds)

    def _count(self, host: str, request: Request, fault: Fault) -> None:
        """Count a failure, and stop at too many."""
        with self._lock:
            self._failures[host] = failures = self._failures.get(host, 0) + 1
        if failures >= BREAKER:
            self._given_up[host] = (
                f"{host}: {failures} failures in a row, the last at {_short(request.url)}: {fault.reason}, "
                f"{fault.detail}. No more is asked of it now. What was fetched is kept: run the same command again "
                "later."
            )
            raise RemoteError(self._given_up[host])


def _short(url: str) -> str:
    """Shorten an address for a message."""
    return url if len(url) <= _LONG else f"{url[:_LONG]}..."


def post_request(url: str, form: Mapping[str, str] | None = None, data: object = None) -> Request:
    """Return a POST request.

    Parameters
    ----------
    url
        The address.
    form
        Fields of a form.
    data
        Sent as JSON where there is no form.

    Returns
    -------
    Request

    Examples
    --------
    >>> post_request("http://a.org", {"ids": "P1,P2"}).body
    b'ids=P1%2CP2'
    """
    if form is not None:
        return Request("POST", url, urlencode(form).encode(), "application/x-www-form-urlencoded")
    return Request("POST", url, json.dumps(data, sort_keys=True).encode(), "application/json")


def json_fault(answer: Answer, *fields: str) -> Fault | None:
    """Say what is wrong with an answer that should be a JSON object with at least one of some fields.

    Parameters
    ----------
    answer
        The answer.
    *fields
        Names, any of which will do; none for any object.

    Returns
    -------
    Fault or None
        ``not_json`` for text that is none, or was cut short, or has other fields.
    """
    try:
        value = answer.json
    except ValueError as error:
        return Fault("not_json", f"{error}: {_begin(answer)}")
    if not isinstance(value, dict) or (fields and not set(fields) & set(value)):
        return Fault("not_json", f"no {' or '.join(fields) or 'object'} in {_begin(answer)}")
    return None


def _page_fault(answer: Answer) -> Fault | None:
    """Say whether a body is empty, or a page for people."""
    start = answer.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return Fault("empty_body", "the body is empty")
    if start.startswith((b"<!doctype html", b"<html")):
        return Fault("html_page", f"a page of HTML with status 200: {_begin(answer)}")
    return None


def _begin(answer: Answer) -> str:
    """Return the first words of a body, on one line."""
    return repr(" ".join(answer.text[:300].split())[:120])


def _retry_after(headers: Mapping[str, str], url: str) -> float | None:
    """Return the seconds that a server asks to wait; None where it does not say."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        if text.isdigit():
            seconds = float(text)
        else:
            # Against the server's own clock, where it tells it: ours may be wrong.
            now = parsedate_to_datetime(headers["date"]) if "date" in headers else None
            when = parsedate_to_datetime(text)
            seconds = max(0.0, (when - now).total_seconds()) if now else 60.0
    except (TypeError, ValueError):
        return None
    if seconds > _LONGEST_WAIT:
        raise RemoteError(f"{url}: the server asks to wait {seconds:,.0f} s. Run the same command again after that.")
    return seconds
