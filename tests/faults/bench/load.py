"""The clients of the bench: each changes its own account, reads it back, and checks every answer.

A client counts its mobile number up. It writes each acknowledged number to disk before it goes on, so the journal
holds what the service acknowledged, whichever process is killed.
"""

import json
import os
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.people import PASSWORD, bearer, sign_up_body

_TIMEOUT = 15  # seconds that a client waits for an answer
NO_ANSWER = 0


class Answer(NamedTuple):
    """The outcome of a request: its status, or `NO_ANSWER`, its time and its data."""

    sent: float
    seconds: float
    what: str
    status: int
    data: dict[str, Any]


@dataclass
class Client:
    """A user with an account. Tries the `ports` in order until one accepts the connection."""

    name: str
    ports: list[int]
    journal: Path
    answers: list[Answer] = field(default_factory=list)
    acknowledged: int = 0  # the last number that the service acknowledged
    attempted: int = 0
    wrong: list[dict[str, Any]] = field(default_factory=list)  # answers with another user's data
    stale: list[str] = field(default_factory=list)  # reads of a number older than the acknowledged one
    id: int = 0
    token: str = ""

    def sign_up(self) -> None:
        answer = self.send("sign-up", "POST", "/users/", sign_up_body(self.name, mobile=number(0)))
        assert answer.status == 200, answer
        self.id, self.token = answer.data["id"], answer.data["access_token"]

    def log_in(self) -> None:
        answer = self.send("login", "POST", "/login", {"username": self.name, "password": PASSWORD})
        if answer.status == 200:
            self.token = answer.data["access_token"]

    def write(self) -> None:
        """Increment the number; if it is acknowledged, write it to the journal."""
        self.attempted += 1
        answer = self.send("write", "PATCH", f"/users/{self.id}", {"mobile": number(self.attempted)})
        if answer.status == 200:
            self.check_whose(answer)
            with self.journal.open("a") as journal:
                journal.write(json.dumps({"user": self.id, "number": self.attempted}) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
            self.acknowledged = self.attempted

    def read(self) -> None:
        answer = self.send("read", "GET", "/users/")
        if answer.status == 200:
            self.check_whose(answer)
            if answer.data["mobile"] not in self.possible():
                self.stale.append(f"{answer.data['mobile']} after {number(self.acknowledged)}")

    def possible(self) -> set[str]:
        """Return the numbers that a read may find: the acknowledged one, and later ones whose answer never came."""
        return {number(value) for value in range(self.acknowledged, self.attempted + 1)}

    def check_whose(self, answer: Answer) -> None:
        if answer.data["id"] != self.id or answer.data["username"] != self.name:
            self.wrong.append(answer.data)

    def send(self, what: str, method: str, path: str, body: Any = None) -> Answer:
        sent = time.monotonic()
        status, data = NO_ANSWER, {}
        for port in self.ports:
            connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
            try:
                connection.connect()
            except OSError:
                continue
            headers = bearer(self.token) if self.token else {}
            try:
                connection.request(
                    method, f"/api/v1{path}", json.dumps(body) if body else None,
                    headers | ({"Content-Type": "application/json"} if body else {}),
                )  # fmt: skip
                response = connection.getresponse()
                status, data = response.status, json.loads(response.read())["data"]
            except (OSError, HTTPException, ValueError):
                pass
            finally:
                connection.close()
            break
        answer = Answer(sent, time.monotonic() - sent, what, status, data)
        self.answers.append(answer)
        return answer


def number(value: int) -> str:
    return f"132{value:08}"


class Load:
    """Runs all clients at once until the block ends."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.stop = threading.Event()

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self.run, args=(client,)) for client in self.clients]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, client: Client) -> None:
        while not self.stop.is_set():
            client.write()
            for _ in range(3):
                client.read()
            if client.answers[-1].status == 401:
                client.log_in()
            time.sleep(0.01)


def lost_writes(journal: Path, found: dict[int, str]) -> list[str]:
    """Return the acknowledged writes that are lost: the user's number is older than the last one in the journal."""
    last = {}
    for line in journal.read_text().splitlines():
        entry = json.loads(line)
        last[entry["user"]] = entry["number"]
    return [f"user {user}: {number(value)}" for user, value in last.items() if found[user] < number(value)]
