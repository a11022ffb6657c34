"""An S3 server in a process of its own, and a proxy in front of it that misbehaves on request.

The server is moto's: no credentials are checked, conditional writes are honoured. What moto does in two steps (look,
then write) the proxy keeps whole by letting one conditional write through at a time.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "bucket"


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Server:
    """A server process; it may be stopped and started, what it holds is lost then."""

    def __init__(self) -> None:
        self._start()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._start()  # another process has taken the port in between
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("PUT", f"/{BUCKET}") == 200 and self.process.poll() is None:
                    return
            time.sleep(0.05)
        self.stop()
        raise AssertionError("the S3 server did not answer")

    def _start(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers={"Host": "s3.amazonaws.com"})
        status = connection.getresponse().status
        connection.close()
        return status

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)


class Proxy:
    """Hands requests to a server, and does to some of them what the test asks for.

    Attributes
    ----------
    delay
        Seconds before a request is handed on.
    unavailable
        Share of requests answered with 503 and not handed on.
    dropped
        Share of requests whose connection is cut: half of them before they are handed on, half in the middle of the
        answer, so that the server has done what was asked.
    denied
        Methods that are answered with 403.
    lose_next
        The next request of this method is done, and its answer lost.
    dead
        Connections are closed at once.
    requests
        How many were made, by method.
    faults, commits
        Requests that failed on purpose, and commit records that were written.
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self.target, self.random = target, random.Random(seed)
        self.delay = self.unavailable = self.dropped = 0.0
        self.denied: tuple[str, ...] = ()
        self.lose_next = ""
        self.dead = False
        self.requests: dict[str, int] = {}
        self.faults = self.commits = 0
        self.one = threading.Lock()
        self._server = _Quiet(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def heal(self) -> None:
        self.delay = self.unavailable = self.dropped = 0.0
        self.denied, self.lose_next, self.dead, self.requests = (), "", False, {}
        self.faults = self.commits = 0

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request, client_address):
        """Connections are cut on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _handle(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy.requests[self.command] = proxy.requests.get(self.command, 0) + 1
        if proxy.dead:
            return self._cut()
        time.sleep(proxy.delay)
        if self.command in proxy.denied:
            return self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        chance = proxy.random.random()
        if chance < proxy.unavailable:
            proxy.faults += 1
            return self._answer(503, b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>")
        chance -= proxy.unavailable
        if 0 <= chance < proxy.dropped / 2:
            proxy.faults += 1
            return self._cut()
        status, headers, content = self._forward(body)
        proxy.commits += self.command == "PUT" and "/commit/c/" in self.path and status == 200
        if proxy.lose_next == self.command:
            proxy.lose_next = ""
            return self._cut()
        if proxy.dropped / 2 <= chance < proxy.dropped:
            proxy.faults += 1
            return self._answer(status, content, headers, cut=True)
        return self._answer(status, content, headers)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        proxy = self.server.proxy
        guard = proxy.one if "If-None-Match" in self.headers else contextlib.nullcontext()
        connection = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=30)
        with guard:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def _answer(self, status: int, content: bytes, headers=(), *, cut: bool = False) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # of what HEAD did not send
            elif name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def environment(port: int) -> dict[str, str]:
    """Return the environment variables with which a store on a server at a port is found."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


@contextlib.contextmanager
def running() -> Iterator[Proxy]:
    """Run a server with a proxy in front of it, and point the environment there."""
    server = Server()
    proxy = Proxy(server.port)
    before = dict(os.environ)
    os.environ.update(environment(proxy.port))
    try:
        yield proxy
    finally:
        os.environ.clear()
        os.environ.update(before)
        proxy.stop()
        server.stop()
