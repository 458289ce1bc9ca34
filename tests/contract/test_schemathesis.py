"""The OpenAPI document, fuzzed: schemathesis sends valid and invalid requests and checks every response against it."""

from collections.abc import Iterable
from typing import Any
from unicodedata import normalize
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis import AuthContext, Case
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from apps import create_app
from apps.forms import fields
from tests.support import corpus, stores
from tests.support.people import People, Person

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=7, max_size=64)
MOBILES = r"\A[ (]{0,2}\+?[ (]{0,2}[0-9](?:[ ()./\[\]\-\u00a0\u2011\u2013]{0,3}[0-9\uff10-\uff19]){4,14}\)?\Z"
FORMATS = {
    "username": st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=7, max_size=64)
    | names.map(str.upper)
    | st.text("ÄÖÜäöüßéèçñøåłŐ", min_size=7, max_size=64)
    | st.text("张三丰的账号李小龙", min_size=4, max_size=64),
    "mobile": st.from_regex(MOBILES),
    "birth": st.datetimes().filter(lambda t: 1800 <= t.year < 2026).map(lambda t: t.strftime(fields.BIRTH_FORMAT)),
}


class Current:
    """The application of the running test. The cases are generated before a store exists, so they carry a placeholder.

    The placeholder "access" or "refresh" becomes a real token here: a new one for each request, because some requests
    end their session.
    """

    app: Flask = create_app("testing")
    people: People
    admin: Person

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        kind = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        if kind in ("access", "refresh"):
            session = self.log_in()
            token = {"access": session.access_token, "refresh": session.refresh_token}[kind]
            environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return self.app(environ, start_response)

    def log_in(self) -> Person:
        try:
            return self.people.log_in(self.admin.username)
        except AssertionError:  # a request has renamed or deleted the admin
            self.admin = self.people.admin()
            return self.admin


current = Current()
schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", current)
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)


@schema.auth(refresh_interval=None)
class Token:
    """Adds the kind of token that the document requires."""

    def get(self, case: Case, context: AuthContext) -> str | None:
        return next((kind for needed in context.operation.definition.raw.get("security", []) for kind in needed), None)

    def set(self, case: Case, kind: str | None, context: AuthContext) -> None:
        if kind:
            case.headers["Authorization"] = f"Bearer {kind}"


@pytest.fixture
def running(app: Flask, people: People) -> None:
    current.app, current.people, current.admin = app, people, people.admin()


def excluded_for(case: Case) -> list[Any]:
    """Return the checks to skip: JSON Schema accepts some bodies that the service refuses, made-up cursors and ETags.

    It refuses `null`, which counts as no body where none is needed.
    """
    if case.body is None:
        return [negative_data_rejection]
    is_made_up = "cursor" in (case.query or {}) or "If-Match" in (case.headers or {})
    is_strict = says_it_strictly(case.body) and says_it_strictly(case.query) and not is_made_up
    return [] if is_strict else [positive_data_acceptance]


def says_it_strictly(body: Any) -> bool:
    """Return True if a body that fits the schema also keeps the rules that JSON Schema cannot express.

    The schema does not check formats, and it accepts 18.0 as an integer, which I2 refuses.
    """
    if isinstance(body, dict):
        return all(says_it_strictly(value) and format_holds(name, value) for name, value in body.items())
    return not isinstance(body, float)


def format_holds(name: str, value: Any) -> bool:
    if name.endswith("password") and isinstance(value, str):
        return len(normalize("NFC", value)) >= 8  # JSON Schema counts before the normalisation
    if name not in corpus.FORMATS or not isinstance(value, str):
        return True
    try:
        return bool(corpus.FORMATS[name](value))
    except ValueError:
        return False


@pytest.mark.stores("sqlite")
@schema.parametrize()
@settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_the_service_keeps_every_promise_of_the_document(case: Case, running: None) -> None:
    """I1, I9, Z1, Z3, T13: all checks of schemathesis, with and without a valid token."""
    case.call_and_validate(excluded_checks=excluded_for(case))


@pytest.mark.stores("sqlite")
def test_the_service_keeps_its_promises_along_the_links(running: None) -> None:
    """I1, I9: requests with the ids of earlier answers; what was deleted is gone, and what was made can be read."""

    class Story(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            stores.empty(current.app, "")  # the same requests get the same answers
            current.admin = current.people.admin()

        def validate_response(self, response: Any, case: Case, **_: Any) -> None:
            case.validate_response(response, excluded_checks=excluded_for(case), recorder=self.recorder)

    Story.run(
        settings=settings(
            max_examples=25,
            stateful_step_count=8,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
    )
