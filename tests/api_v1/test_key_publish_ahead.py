"""T12: a rotation under a simulated clock, seen by services that load the JWK Set in any second around it.

A timeline holds what a service gets in each second in the worst case: the newest token, and a JWK Set that is as old as
the reload of a process and `Cache-Control` allow. PyJWKClient and npm's jose replay it with their defaults.
"""

import io
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

import jwt as pyjwt
import pytest
import time_machine
from flask import Flask

from apps.about import ROOT
from apps.config import ProdConfig
from apps.services import key as keys
from tests.support import programs
from tests.support.keys import command, rotate, signing_key_of

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROTATION = 40  # second of the timeline
LEAST = 45  # the least JWT_KEYS_PUBLISH_AHEAD of production, with the default JWT_KEYS_RELOAD
END = ROTATION + LEAST + 60
LONGEST_REFUSAL = 40  # seconds after `rotate --now`: reload of a process 5, cache 5, look-ups of the libraries 30

Timeline = list[tuple[str, str]]  # the JWK Set and the newest token of each second
Refusals = dict[int, list[int]]  # {second of a service's first load: seconds in which it refused the token}
Replay = Callable[[Timeline, "Clock", pytest.MonkeyPatch], Refusals]

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_PUBLISH_AHEAD=LEAST)]


class Clock:
    second = 0

    def monotonic(self) -> float:
        return float(self.second)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the service and of PyJWKClient."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def record_timeline(app: Flask, clock: Clock, *options: str) -> Timeline:
    """Rotate just after a reload of the keys, and record every second around it."""
    sets, tokens, client = [], [], app.test_client()
    with time_machine.travel(START, tick=False) as time_of_day:
        rotate(app)
        keys.init_app(app)
        for clock.second in range(END):
            response = client.get("/.well-known/jwks.json")
            sets.append(response.text)
            if clock.second == ROTATION:
                command(app, "keys", "rotate", *options)
            key = signing_key_of(app)
            tokens.append(pyjwt.encode({}, key.private_key, key.algorithm, headers={"kid": key.kid}))
            time_of_day.shift(1)
    age = int(response.headers["Cache-Control"].removeprefix("public, max-age="))
    return list(zip([sets[0]] * age + sets[:-age], tokens, strict=True))


def replay_with_pyjwt(timeline: Timeline, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Refusals:
    class Opener:
        def open(self, _request: object, **_options: object) -> io.BytesIO:
            return io.BytesIO(timeline[clock.second][0].encode())

    monkeypatch.setattr(urllib.request, "build_opener", lambda *_handlers: Opener())
    refusals: Refusals = {}
    for first in range(END):
        client = pyjwt.PyJWKClient("http://gatehouse.test/.well-known/jwks.json")
        for clock.second in range(first, END):
            token = timeline[clock.second][1]
            try:
                pyjwt.decode(token, client.get_signing_key_from_jwt(token), ["EdDSA"])
            except pyjwt.PyJWKClientError:
                refusals.setdefault(first, []).append(clock.second)
    return refusals


def replay_with_jose(timeline: Timeline, *_: object) -> Refusals:
    programs.skip_unless_installed("newman")  # `npm ci` installs jose with it
    script = ROOT / "tests" / "support" / "replay_with_jose.mjs"
    done = subprocess.run(
        ["node", script], input=json.dumps(timeline), capture_output=True, text=True, check=True, timeout=120
    )
    return {int(first): seconds for first, seconds in json.loads(done.stdout).items()}


replays = pytest.mark.parametrize("replay", [replay_with_pyjwt, replay_with_jose])


@replays
def test_a_rotation_refuses_no_token(app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch, replay: Replay) -> None:
    """T12: with the least time that production allows, and whenever a service loaded the JWK Set."""
    timeline = record_timeline(app, clock)
    kids = [pyjwt.get_unverified_header(token)["kid"] for _, token in timeline]
    assert [second for second in range(1, END) if kids[second] != kids[second - 1]] == [ROTATION + LEAST]
    assert replay(timeline, clock, monkeypatch) == {}


@replays
def test_a_rotation_at_once_refuses_tokens_for_a_bounded_time(
    app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch, replay: Replay
) -> None:
    """The time that docs/deploy.md states for `--now`. It also shows that the replay finds refusals."""
    refusals = replay(record_timeline(app, clock, "--now"), clock, monkeypatch)
    seconds = {second - ROTATION for refused in refusals.values() for second in refused}
    assert LONGEST_REFUSAL - 10 < max(seconds) < LONGEST_REFUSAL


def test_the_default_exceeds_the_caches_of_common_libraries() -> None:
    """T12: jose and Envoy keep the JWK Set for 10 minutes, PyJWKClient for 5."""
    assert ProdConfig.JWT_KEYS_PUBLISH_AHEAD.total_seconds() > 600
