"""Several tabs of one Chromium, driven over a pipe with the Chrome DevTools Protocol."""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tests.support import chromium

_START = 'exec "$@" 3<&0 4>&1 <&- >&-'  # --remote-debugging-pipe reads from 3 and writes to 4


class Browser:
    """A running Chromium. A message is JSON with a zero byte at its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self._write: BinaryIO = process.stdin  # type: ignore[assignment]
        self._read: BinaryIO = process.stdout  # type: ignore[assignment]
        self._ids = itertools.count(1)
        self._unread = b""
        self._profile: dict[str, str] = {}

    def forget(self) -> None:
        """Open the next tabs in a new profile, without cookies and storage."""
        self._profile = {"browserContextId": self._ask("Target.createBrowserContext")["browserContextId"]}

    def open(self, url: str) -> "Tab":
        """Open a tab, and return it when the page is loaded."""
        target = self._ask("Target.createTarget", url="about:blank", **self._profile)["targetId"]
        tab = Tab(self, self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self._ask("Page.navigate", tab.session, url=url)
        while tab.run("return [location.href, document.readyState]") != [url, "complete"]:
            time.sleep(0.05)
        return tab

    def run(self, *scripts: tuple["Tab", str]) -> list[Any]:
        """Run a script in each tab, all at the same time, and return what they return. `await` works in them."""
        ids = [self._send("Runtime.evaluate", tab.session, **_evaluation(script)) for tab, script in scripts]
        return [_value(answer) for answer in self._receive(ids)]

    def quit(self) -> None:
        """End the browser."""
        self._send("Browser.close")

    def _ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        (answer,) = self._receive([self._send(method, session, **parameters)])
        result: dict[str, Any] = answer["result"]
        return result

    def _send(self, method: str, session: str = "", **parameters: Any) -> int:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        return number

    def _receive(self, ids: list[int]) -> list[dict[str, Any]]:
        answers: dict[int, dict[str, Any]] = {}
        while not answers.keys() >= {*ids}:
            while b"\0" not in self._unread:
                read = os.read(self._read.fileno(), 65536)
                assert read, "the browser ended"
                self._unread += read
            message, _, self._unread = self._unread.partition(b"\0")
            answer = json.loads(message)
            answers[answer.get("id", 0)] = answer
        return [answers[number] for number in ids]


class Tab(NamedTuple):
    """A tab; the tabs of a profile share cookies and storage."""

    browser: Browser
    session: str

    def run(self, script: str) -> Any:
        """Run a script and return what it returns."""
        return self.browser.run((self, script))[0]


@contextmanager
def browser(profile: Path, *options: str, hosts: Iterable[str] = ()) -> Iterator[Browser]:
    """Start a browser. `hosts` are those of `chromium.command`."""
    command = chromium.command(profile, "--remote-debugging-pipe", *options, hosts=hosts)
    with subprocess.Popen(
        ["sh", "-c", _START, "sh", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            running = Browser(process)
            yield running
            running.quit()
            process.wait(20)
        finally:
            process.kill()


def _evaluation(script: str) -> dict[str, Any]:
    return {"expression": f"(async () => {{ {script} }})()", "awaitPromise": True, "returnByValue": True}


def _value(answer: dict[str, Any]) -> Any:
    result = answer.get("result", {})
    assert "exceptionDetails" not in result, result
    return result.get("result", {}).get("value")
