"""What the small servers of the load's tests share: loopback, failures as they are told, and a freeze."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Failure:
    """What happens to the next request of a method: a status or no answer at all, whether carried out or not."""

    method: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    carried_out: bool = False


class FakeService:
    """A service that carries requests out in memory, and the failures that are still to come."""

    # sent with each answer
    headers: dict[str, str] = {}  # noqa: RUF012 - replaced by those who need others

    def __init__(self) -> None:
        self.failures: deque[Failure] = deque()
        self.seen: list[tuple[str, str]] = []
        # the headers of each request of `seen`
        self.seen_headers: list[dict[str, str]] = []
        # cleared, it lets every request wait, as a frozen server does
        self.running = threading.Event()
        self.running.set()
        self.lock = threading.Lock()

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Do what a request asks for and return status and answer."""
        raise NotImplementedError

    def fail(
        self,
        method: str,
        status: int | None = None,
        *,
        times: int = 1,
        headers: dict[str, str] | None = None,
        carried_out: bool = False,
    ) -> None:
        """Let the next `times` requests of a method fail."""
        self.failures.extend(Failure(method, status, headers or {}, carried_out) for _ in range(times))

    def take_failure(self, method: str) -> Failure | None:
        """Return the failure that is meant for a request of this method, if one is next."""
        with self.lock:
            if self.failures and self.failures[0].method == method:
                return self.failures.popleft()
            return None


def _handler(service: FakeService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            service.seen.append((self.command, self.path))
            service.seen_headers.append(dict(self.headers.items()))
            service.running.wait(30)
            failure = service.take_failure(self.command)
            if failure is None or failure.carried_out:
                status, content = service.respond(self.command, self.path, body)
            if failure is not None:
                status, content = failure.status or 0, b"{}"
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**service.headers, **(failure.headers if failure else {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that http.server looks for

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # clients that come at once must not wait for the second try of a lost connection request
    request_queue_size = 256


@contextmanager
def served(service: FakeService) -> Iterator[str]:
    """Serve on a free port of loopback; yields the URL."""
    server = _Server(("127.0.0.1", 0), _handler(service))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        service.running.set()
        server.shutdown()
        server.server_close()
        thread.join()
