"""The OpenAPI document is valid and complete, and accepts exactly the bodies that the service accepts.

The suite's client checks every answer against it; the client itself is tested here too.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from openapi_spec_validator import validate

from apps import create_app
from apps.api_v1.answers import NoAnswer
from apps.errors import InvalidBody
from apps.forms import fields
from apps.forms.binding import fields_of, read_form
from apps.forms.fields import JsonForm
from apps.forms.introspection import TokenForm
from apps.forms.login import LoginForm
from apps.forms.urlencoded import read_urlencoded
from apps.forms.user import PatchForm, SignUpForm, UpdateForm
from apps.http import openapi
from apps.http.contract import Policy
from apps.http.converters import DocumentedConverter
from apps.http.endpoint import endpoint
from apps.http.openapi_forms import form_schema
from apps.utils.response import HttpResponse
from apps.utils.username import canonical
from tests.support import corpus
from tests.support.documented_client import resolved
from tests.support.people import People

FORMS = [SignUpForm, UpdateForm, PatchForm, LoginForm]


def formats() -> FormatChecker:
    checker = FormatChecker([])
    for name, check in corpus.FORMATS.items():
        checker.checks(name, ValueError)(lambda value, check=check: not isinstance(value, str) or bool(check(value)))
    return checker


def is_integer(_checker: Any, value: Any) -> bool:
    """Return whether `value` is an integer as it is written: JSON Schema counts 18.0 as one, I2 does not."""
    return type(value) is int


def pattern_of_ecma(_validator: Any, pattern: str, text: Any, _schema: Any) -> Iterator[ValidationError]:
    """Yield a fault as ECMA-262 sees it, which JSON Schema means: for Python `$` also matches before a last newline."""
    if isinstance(text, str) and not re.search(pattern.replace("$", r"\Z"), text):
        yield ValidationError("does not match")


Validator = validators.extend(
    Draft202012Validator,
    {"pattern": pattern_of_ecma},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer),
)


@pytest.fixture(scope="module")
def bare() -> Flask:
    """Return an application without a store: documents and forms need none."""
    return create_app("testing")


@pytest.fixture
def document(bare: Flask) -> dict[str, Any]:
    with bare.app_context():
        return openapi.document()


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """OpenAPI 3.1 and, within it, JSON Schema 2020-12."""
    validate(document)


def test_the_served_document_is_the_one_that_was_made(bare: Flask, document: dict[str, Any]) -> None:
    assert bare.test_client().get("/api/v1/openapi.json").get_json() == document


def test_every_route_has_a_contract(bare: Flask) -> None:
    """Z1: there is no default policy; a route without a declaration fails here."""
    routes = openapi.contracts(bare)
    assert [str(rule) for rule, _, _, contract in routes if contract is None] == []
    assert {rule.rule for rule, *_ in routes} >= {"/api/v1/users/", "/api/v1/users/<id:user_id>", "/api/v1/refresh"}


def test_every_route_that_answers_in_json_is_documented(bare: Flask, document: dict[str, Any]) -> None:
    declared = {
        (openapi.documented_path(rule), method.lower())
        for rule, method, _, contract in openapi.contracts(bare)
        if contract and contract.answer
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == declared


class DayConverter(DocumentedConverter):
    """A converter that describes its parameter."""

    regex = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    schema: ClassVar[dict[str, Any]] = {"type": "string", "format": "date"}
    description = "A day."


def with_path(path: str) -> Flask:
    """Return an application with a documented route at `path`."""
    app = create_app("testing")
    app.url_map.converters["day"] = DayConverter
    view = endpoint(policy=Policy.ANYONE, answer=NoAnswer)(diary)
    app.add_url_rule(path, view_func=view, endpoint="diary")
    return app


def diary() -> Response:
    """Read a diary."""
    return HttpResponse.success()


def test_a_parameter_of_a_path_is_described_by_its_converter() -> None:
    with with_path("/diaries/<id:entry_id>/<day:day>").app_context():
        document = openapi.document()
    validate(document)
    day, entry = document["paths"]["/diaries/{entry_id}/{day}"]["get"]["parameters"]
    user = document["paths"]["/api/v1/users/{user_id}"]["get"]["parameters"][0]
    same = {"in": "path", "required": True}
    assert day == {"name": "day", "description": "A day.", "schema": {"type": "string", "format": "date"}, **same}
    assert user.items() >= {"name": "user_id", "description": "The id of a user.", **same}.items()
    assert entry == user | {"name": "entry_id", "description": "The id of an entry."}


@pytest.mark.parametrize("path", ["/diaries/<name>", "/diaries/<int:number>"])
def test_a_parameter_without_a_documented_converter_is_an_error(path: str) -> None:
    with with_path(path).app_context(), pytest.raises(TypeError, match="needs a DocumentedConverter"):
        openapi.document()


def test_no_object_of_the_document_is_open(document: dict[str, Any]) -> None:
    """Z3: a client that validates an answer refuses a key that is not promised."""

    def open_objects(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            is_object = "properties" in node and node.get("type") == "object"
            # In `fields`, the names that a client made up are promised too, with what is wrong with them.
            if is_object and node.get("additionalProperties") is not False and "unevaluatedProperties" not in node:
                yield path
            for name, inner in node.items():
                yield from open_objects(inner, f"{path}/{name}")

    form_encoded = "/components/schemas/Token"  # of which unknown parameters are ignored
    assert list(open_objects(document, "")) == [form_encoded]


def test_a_token_is_asked_for_where_the_policy_needs_one(document: dict[str, Any]) -> None:
    """Z1, T6: the document names the kind of token."""
    users = document["paths"]["/api/v1/users/"]
    assert users["get"]["security"] == [{"access": []}]
    assert users["post"]["security"] == []  # said, not left out
    assert document["paths"]["/api/v1/refresh"]["post"]["security"] == [{"refresh": []}]


def test_in_cookie_mode_the_document_tells_of_cookies_and_of_the_proof() -> None:
    """I8: a token in a header or a cookie; where something changes the header that a page sends, and its refusal."""
    app = create_app("testing", JWT_TOKEN_LOCATION=["headers", "cookies"])
    with app.app_context():
        document = openapi.document()
    validate(document)
    schemes, users = document["components"]["securitySchemes"], document["paths"]["/api/v1/users/{user_id}"]
    assert schemes["access_cookie"].items() >= {"type": "apiKey", "in": "cookie", "name": "__Host-access_token"}.items()
    assert schemes["refresh_cookie"]["name"] == "__Host-refresh_token"
    assert users["patch"]["security"] == [{"access": []}, {"access_cookie": []}]
    assert document["paths"]["/api/v1/refresh"]["post"]["security"] == [{"refresh": []}, {"refresh_cookie": []}]
    assert "csrf_failed" in resolved(document, users["patch"]["responses"]["403"])["description"]
    proven = {
        (path, method)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "X-CSRF-Token" in [parameter["name"] for parameter in operation.get("parameters", [])]
    }
    assert proven == {
        (openapi.documented_path(rule), method.lower())
        for rule, method, _, contract in openapi.contracts(app)
        if contract and contract.token and method != "GET"
    }


def test_without_cookies_the_document_tells_of_none(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"access", "refresh", "client"}
    assert "CSRF" not in json.dumps(document)


def health_that_answers(app: Flask, make: Callable[[], Response]) -> FlaskClient:
    """Return the suite's client, with a view behind `/healthz` that does not keep its contract."""
    kept = app.view_functions["health.healthz"]

    def view() -> Response:
        """Break the contract."""
        return make()

    view.contract = kept.contract  # type: ignore[attr-defined]
    app.view_functions["health.healthz"] = view
    return app.test_client()


def with_body(**changes: Any) -> Response:
    body = {"code": 200, "data": {"status": "ok"}, "message": "SUCCESS", "state": 0} | changes
    return Response(json.dumps(body), mimetype="application/json")


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: HttpResponse.error(418, "teapot", "short and stout"), "418 is not documented"),
        (lambda: HttpResponse.error(500, "another_type", "what"), "is not one of"),
        (lambda: HttpResponse.success({"status": "ok", "hash": "x"}), "'hash' was unexpected"),
        (lambda: HttpResponse.success({}), "'status' is a required property"),
        (lambda: HttpResponse.success({"status": 1}), "is not of type"),
    ],
)
@pytest.mark.stores("sqlite")
def test_the_client_of_the_suite_refuses_what_is_not_promised(
    app: Flask, make: Callable[[], Response], refusal: str
) -> None:
    client = health_that_answers(app, make)
    with pytest.raises((AssertionError, ValidationError), match=refusal):
        client.get("/healthz")


@pytest.mark.parametrize("fault", [{"extra": 1}, {"code": 201}, {"state": 1}, {"error": {"type": "x"}}])
@pytest.mark.stores("sqlite")
def test_the_client_of_the_suite_refuses_another_envelope(app: Flask, fault: dict[str, Any]) -> None:
    client = health_that_answers(app, lambda: with_body(**fault))
    with pytest.raises(AssertionError):
        client.get("/healthz")


@pytest.mark.stores("sqlite")
def test_the_client_of_the_suite_lets_a_kept_promise_pass(app: Flask) -> None:
    assert health_that_answers(app, with_body).get("/healthz").status_code == 200


def validator(form: type[JsonForm]) -> Any:
    return Validator(form_schema(form), format_checker=formats())


junk = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just([])
    | st.just({})
)
digits = st.text("0123456789", min_size=3, max_size=18)
# A strategy for every field of the forms in FORMS: values within its bounds, on them and beside them.
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "username": st.text("abcXYZ019-._ é张а\u0301\u200bıßＡ\n", min_size=2, max_size=12)
    | st.from_regex(r"\A[a-z0-9-]{5,9}\Z")
    | st.sampled_from(
        ["a" * 64, "a" * 65, "张三丰的账号", "张" * 64, "\ufb2c" * 22, "\ufb2c" * 21, "abcdef", "abcdefg"]
    ),
    "password": st.text(st.characters(codec="utf-8"), min_size=6, max_size=10)
    | st.sampled_from(["", "p" * 7, "p" * 8, "😀" * 128, "😀" * 129, " " * 8, "1234567\0", "é" * 128]),
    "mobile": st.from_regex(fields.MOBILE.pattern, fullmatch=True)
    | st.sampled_from(["(415) 555-2671", "１３２００００１１１１", "0049 30 1234567", "1-800-FLOWERS", "tel:1", "110"])
    | digits
    | digits.map(lambda number: "+" + " ".join(number))
    | st.text("0123456789+ ().-٣\n", min_size=4, max_size=20),
    "age": st.integers(-1, 160) | st.sampled_from([17, 18, 150, 151, 18.0, 2**63 - 1, "18", True]),
    "birth": st.builds(
        "{}-{:02}-{:02} {:02}:{:02}:{:02}".format,
        *(st.integers(*bounds) for bounds in ((1790, 2110), (0, 13), (0, 32), (0, 24), (0, 61), (0, 61))),
    )
    | st.from_regex(fields.BIRTH.pattern, fullmatch=True)
    | st.sampled_from(["2000-02-29 00:00:00", "1900-02-29 00:00:00", "2000-1-1 1:1:1", "2000-01-01 00:00:00\n"]),
}


def bodies(form: type[JsonForm]) -> st.SearchStrategy[Any]:
    """Give bodies near the form: fields on and beside their bounds, some left out, of another type, or too many."""

    paths = list(corpus.leaves(form))
    missing = {path[-1] for path in paths} - set(LEAVES)
    assert not missing, f"add a strategy for {sorted(missing)} to LEAVES in tests/contract/test_openapi.py"
    folders: list[corpus.Path] = [(name,) for name in (*fields_of(form), "extra", "id")]

    @st.composite
    def draw_body(draw: st.DrawFn) -> Any:
        spoilt = draw(st.sampled_from(["nothing", "nothing", "a value", "a key", "all", "everything"]))
        if spoilt == "everything":
            return draw(junk | st.dictionaries(st.sampled_from([*fields_of(form), "extra"]), junk))
        body: Any = form.example
        for path in paths if spoilt == "all" else draw(st.lists(st.sampled_from(paths), max_size=2)):
            body = corpus.changed(body, path, draw(LEAVES[path[-1]]))
        if spoilt == "a value":
            body = corpus.changed(body, draw(st.sampled_from([*paths, *folders, ("info", "extra")])), draw(junk))
        if spoilt == "a key":
            lost = draw(st.sampled_from(list(body)))
            body = {name: value for name, value in body.items() if name != lost}
        return body

    return draw_body()


def is_accepted(form: type[JsonForm], body: Any) -> bool:
    try:
        read_form(form, json.dumps(body).encode())
    except InvalidBody:
        return False
    return True


@pytest.mark.parametrize("form", FORMS)
def test_the_document_accepts_a_body_if_and_only_if_the_service_does(bare: Flask, form: type[JsonForm]) -> None:
    with bare.app_context():
        check = validator(form)

        @settings(max_examples=400, deadline=None, database=None)
        @given(bodies(form))
        def agree(body: Any) -> None:
            accepted = is_accepted(form, body)
            is_none = body is None and form.may_be_empty  # a description says it: generators know no optional null
            assert (check.is_valid(body) or is_none) == accepted

        agree()


PARAMETERS = st.tuples(
    st.sampled_from(["token", "token_type_hint", "Token", "other", "", "%F3", "%8B", "\ufffd"]),
    st.sampled_from(["", "=", "=a", "=%F3", "=%00", "=1", "=null", "=a=b"]),
)


@settings(max_examples=400, deadline=None, database=None)
@given(st.lists(PARAMETERS, max_size=4))
@example([("token", "=%F3"), ("%8B", "=")])
def test_the_document_accepts_a_form_encoded_body_if_and_only_if_the_service_does(
    pairs: list[tuple[str, str]],
) -> None:
    """I2: an unknown parameter is ignored, and one without a value was not sent (RFC 6749, 3.2)."""
    sent: dict[str, list[str]] = {}
    for name, value in pairs:
        if len(value) > 1:
            sent.setdefault(unquote(name), []).append(unquote(value[1:]))
    body = {name: values[0] if len(values) == 1 else values for name, values in sent.items()}
    check = Validator(form_schema(TokenForm))
    try:
        read_urlencoded(TokenForm, "&".join(map("".join, pairs)).encode())
    except InvalidBody:
        assert not check.is_valid(body)
    else:
        assert check.is_valid(body)


LATIN = st.characters(max_codepoint=0x24F, exclude_characters="İ")  # which counts as two


@settings(max_examples=400, deadline=None, database=None)
@given(
    st.text(LATIN, min_size=4, max_size=66)
    | st.from_regex(r"\A[!-~\u00c0-\u00f6]{5,9}\Z")
    | st.sampled_from(["two words", "col·lecció", "a·b-cdefg", "Ludĺ·lota", "o’brien", "abcdef", "é" * 65])
)
def test_the_pattern_of_usernames_accepts_the_latin_names_that_the_service_does(name: str) -> None:
    """A form made from the document needs no knowledge of the format."""
    try:
        accepted = bool(canonical(name))
    except ValueError:
        accepted = False
    fits = bool(re.search(fields.USERNAME.pattern.replace("$", r"\Z"), name)) and 4 <= len(name) <= 64
    assert fits == accepted


def test_the_pattern_of_usernames_refuses_no_character_that_the_service_accepts() -> None:
    """Of any script: only the other direction is left to the service."""
    wrong = []
    for character in map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x20000)]):
        for name in (character * 7, character * 4, "a" * 6 + character):
            with suppress(ValueError):
                canonical(name)
                if not re.search(fields.USERNAME.pattern, name):
                    wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("form", FORMS)
def test_they_agree_about_every_body_of_the_corpus(bare: Flask, form: type[JsonForm]) -> None:
    with bare.app_context():
        check = validator(form)
        assert check.is_valid(form.example)
        assert [path for path, body in corpus.unknown_names(form) if check.is_valid(body)] == []


@pytest.mark.stores("sqlite")
def test_they_agree_over_http(people: People) -> None:
    """The same, through everything that stands before the form."""
    alice = people.sign_up()
    with people.client.application.app_context():
        checks = {"PUT": (UpdateForm, validator(UpdateForm)), "PATCH": (PatchForm, validator(PatchForm))}

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.sampled_from(["PUT", "PATCH"]).flatmap(lambda method: st.tuples(st.just(method), bodies(checks[method][0])))
    )
    def agree(case: tuple[str, Any]) -> None:
        method, body = case
        response = alice.request(method, f"/users/{alice.id}", json=body)
        form, check = checks[method]
        is_none = body is None and form.may_be_empty
        assert (response.status_code == 200) == (check.is_valid(body) or is_none), response.text

    agree()
