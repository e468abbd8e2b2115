"""A headless Chromium for tests of pages, driven by its DevTools protocol over loopback.

Its own command line cannot do it: a window is never narrower than 500 px there, and console errors are mixed with the
browser's own log.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

DEADLINE_S = 30.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One page of the browser; `console` holds every console error, uncaught exception and refused load so far."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=DEADLINE_S, suppress_origin=True)
        self._last_id = 0
        self._loaded = False
        self.console: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - the protocol is JSON
        """Send a command and return its result; what the page says meanwhile is kept."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last_id:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.console.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.console.append(params["entry"]["text"])
            case "Network.requestWillBeSent" if params["request"]["url"].startswith(("http", "ws")):
                self.console.append(f"asked the network for {params['request']['url']}")

    def open(self, path: Path, *, width_px: int, dark: bool = False) -> None:
        """Show a file in a window of this width, and wait until it has loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=1000,
            deviceScaleFactor=1,
            mobile=width_px < 600,
        )
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._hear(json.loads(self._socket.recv()))

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever the page computes
        """Return the JSON value of an expression, a promise of it awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait until an expression is true; the test fails where it is not within `DEADLINE_S`."""
        wait = Retrying(
            stop=stop_after_delay(DEADLINE_S), wait=wait_fixed(0.05), retry=retry_if_result(lambda it: not it)
        )
        try:
            wait(self.evaluate, condition)
        except RetryError:
            pytest.fail(f"not so within {DEADLINE_S:g} s: {condition}; the console says {self.console}")

    def screenshot(self, target: Path) -> None:
        """Write the whole page as a PNG, also what is below the window."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        target.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Let go of the page."""
        self._socket.close()


@contextmanager
def browser_page(profile: Path) -> Iterator[Page]:
    """Start Chromium with a new profile folder, yield its one page, and end it; the test fails where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.fail("no Chromium is installed, so nobody has looked at the report: install the package chromium")
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            page = Page(_page_address(profile))
            try:
                yield page
                page.call("Browser.close")
            finally:
                page.close()
            process.wait(timeout=DEADLINE_S)
        finally:
            process.kill()


def _page_address(profile: Path) -> str:
    port_file = profile / "DevToolsActivePort"
    wait = Retrying(
        stop=stop_after_delay(DEADLINE_S), wait=wait_fixed(0.1), retry=retry_if_result(lambda text: "\n" not in text)
    )
    try:
        text = wait(lambda: port_file.read_text() if port_file.exists() else "")
    except RetryError:
        pytest.fail(f"Chromium did not open its DevTools port in {DEADLINE_S:g} s")
    targets = httpx.get(f"http://127.0.0.1:{text.split()[0]}/json/list", timeout=DEADLINE_S, trust_env=False).json()
    return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
