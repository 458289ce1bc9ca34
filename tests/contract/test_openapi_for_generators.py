"""What generators of clients and readers find in the OpenAPI document: names, refusals, bodies, tags and links."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from apps import create_app
from apps.errors import ApiError
from apps.http import openapi
from apps.http.contract import Policy
from apps.settings.reader import InvalidSettings
from tests.support.documented_client import resolved

Json = dict[str, Any]

# Generators make the names of functions from these. A change breaks the clients of others.
OPERATIONS = {
    "sign_up": "post /api/v1/users/",
    "read_me": "get /api/v1/users/",
    "read_user": "get /api/v1/users/{user_id}",
    "replace_user": "put /api/v1/users/{user_id}",
    "update_user": "patch /api/v1/users/{user_id}",
    "delete_user": "delete /api/v1/users/{user_id}",
    "login": "post /api/v1/login",
    "refresh": "post /api/v1/refresh",
    "list_sessions": "get /api/v1/sessions",
    "end_session": "delete /api/v1/sessions/{session_id}",
    "end_other_sessions": "delete /api/v1/sessions",
    "logout": "post /api/v1/logout",
    "change_password": "post /api/v1/password",
    "list_audit_events": "get /api/v1/audit",
    "export_user": "get /api/v1/users/{user_id}/export",
    "read_settings": "get /api/v1/settings",
    "introspect": "post /api/v1/introspect",
    "revoke": "post /api/v1/revoke",
    "healthz": "get /healthz",
    "readyz": "get /readyz",
    "list_accounts": "get /api/v1/admin/users",
    "read_account": "get /api/v1/admin/users/{user_id}",
    "delete_account": "delete /api/v1/admin/users/{user_id}",
    "end_account_sessions": "delete /api/v1/admin/users/{user_id}/sessions",
    "block_account": "post /api/v1/admin/users/{user_id}/block",
    "unblock_account": "post /api/v1/admin/users/{user_id}/unblock",
    "change_role": "put /api/v1/admin/users/{user_id}/role",
}


def made_with(**settings: Any) -> Json:
    with create_app("testing", **settings).app_context():
        return openapi.document()


@pytest.fixture(scope="module")
def app() -> Flask:
    """Return an application without a store: the document needs none."""
    return create_app("testing")


@pytest.fixture(scope="module")
def document(app: Flask) -> Json:
    with app.app_context():
        return openapi.document()


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def operation(document: Json, name: str) -> Json:
    return next(operation for *_, operation in operations(document) if operation["operationId"] == name)


def refusal(document: Json, name: str, status: int) -> Json:
    """Return the schema of a refusal of an operation."""
    response = resolved(document, operation(document, name)["responses"][str(status)])
    return resolved(document, response["content"]["application/json"]["schema"])


def fields_check(document: Json, name: str, status: int) -> Draft202012Validator:
    schema = refusal(document, name, status)["properties"]["error"]["properties"]["fields"]
    return Draft202012Validator({**schema, "components": document["components"]})


def test_the_names_of_the_operations_are_frozen(document: Json) -> None:
    """If this fails for a new route, add it: the name is for ever."""
    found = {operation["operationId"]: f"{method} {path}" for path, method, operation in operations(document)}
    assert found == OPERATIONS
    assert len(found) == len(list(operations(document)))


def test_a_refusal_is_one_flat_object_for_each_status(document: Json) -> None:
    """Generators merge no `allOf`: they left every refusal out."""
    for _, _, spec in operations(document):
        for status, response in spec["responses"].items():
            if status != "200":
                schema = refusal(document, spec["operationId"], int(status))
                assert set(response) == {"$ref"}
                assert schema["properties"]["code"] == {"const": int(status)}
                assert schema["properties"]["error"]["properties"]["type"]["enum"]
                assert "fields" in schema["properties"]["error"]["properties"]
                assert schema["properties"]["error"]["required"] == ["type"]
    assert "allOf" not in str(document)


def test_no_component_has_a_name_of_the_languages(document: Json) -> None:
    """In TypeScript, a type `Error` would hide the global one."""
    assert {"Error", "Response", "Request", "Object", "Record"} & set(document["components"]["schemas"]) == set()


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"mobile": ["Must be a phone number."]}, True),
        ({"info": {"age": ["Must be an integer."], "extra": ["Unknown field."]}}, True),
        ({"info": ["Must be an object."]}, True),
        ({"body": ["Not JSON."], "extra": ["Unknown field."]}, True),
        ({"mobile": "Must be a phone number."}, False),
        ({"mobile": {"text": ["Must be a phone number."]}}, False),
        ({"info": {"age": "Must be an integer."}}, False),
        ({"extra": {"deep": ["Unknown field."]}}, False),
    ],
)
def test_the_fields_of_a_refusal_are_those_of_the_form(document: Json, fields: Json, fits: bool) -> None:
    assert fields_check(document, "sign_up", 400).is_valid(fields) == fits


@pytest.mark.parametrize(
    ("name", "status", "names"),
    [
        ("sign_up", 400, ["username", "password", "mobile", "info", "body"]),
        ("sign_up", 409, ["username", "password", "mobile", "info", "body"]),
        ("update_user", 400, ["username", "password", "mobile", "info", "body"]),
        ("change_password", 400, ["current_password", "new_password", "body"]),
        ("introspect", 400, ["token", "token_type_hint"]),  # every body is form data
        ("list_audit_events", 400, ["limit", "cursor", "user_id"]),  # a query has no body
    ],
)
def test_every_field_of_a_form_or_query_has_its_problems(
    document: Json, name: str, status: int, names: list[str]
) -> None:
    schema = refusal(document, name, status)["properties"]["error"]["properties"]["fields"]
    assert list(resolved(document, schema)["properties"]) == names


def test_an_error_that_names_fields_says_so() -> None:
    """The document gives these errors the fields of the form."""

    def all_errors(error: type[ApiError]) -> Iterator[type[ApiError]]:
        for kind in error.__subclasses__():
            yield kind
            yield from all_errors(kind)

    found = {error.__name__ for error in all_errors(ApiError) if error.names_fields}
    assert found >= {"InvalidBody", "WeakPassword", "UsernameTaken"}
    assert [error for error in all_errors(ApiError) if error.fields and not error.names_fields] == []


def test_a_refusal_that_several_routes_share_is_written_once(document: Json) -> None:
    references = [
        response["$ref"]
        for *_, spec in operations(document)
        for response in spec["responses"].values()
        if "$ref" in response
    ]
    assert set(references) == {f"#/components/responses/{name}" for name in document["components"]["responses"]}
    assert len(references) > 4 * len(set(references))


def test_a_body_is_a_component_with_the_name_of_its_form(document: Json) -> None:
    bodies = {
        spec["operationId"]: schema
        for *_, spec in operations(document)
        for media in spec.get("requestBody", {"content": {}})["content"].values()
        if (schema := media["schema"])
    }
    assert bodies["sign_up"] == {"$ref": "#/components/schemas/SignUp"}
    assert bodies["update_user"] == {"$ref": "#/components/schemas/Patch"}
    assert all(set(schema) == {"$ref"} for schema in bodies.values())
    schemas = document["components"]["schemas"]
    assert schemas["SignUp"]["properties"]["info"] == {"$ref": "#/components/schemas/Info"}
    nullable = [{"$ref": "#/components/schemas/PatchInfo"}, {"type": "null"}]
    assert schemas["Patch"]["properties"]["info"] == {"anyOf": nullable}


def test_the_answers_may_lack_a_mobile_number_and_an_age(document: Json) -> None:
    """Clients that are generated today must survive accounts without them."""
    for name in ("UserAnswer", "LoginAnswer", "AccountAnswer"):
        properties = document["components"]["schemas"][name]["properties"]
        assert properties["mobile"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
        assert properties["age"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def test_an_operation_lists_only_refusals_that_can_happen(app: Flask, document: Json) -> None:
    """Reading yourself meets no other user. A documented method is never the wrong one, so no operation lists 405."""
    assert {"403", "404", "412"} & set(operation(document, "read_me")["responses"]) == set()
    assert {"403", "404"} <= set(operation(document, "read_user")["responses"])
    assert [spec["operationId"] for *_, spec in operations(document) if "405" in spec["responses"]] == []
    without_id = [
        rule.rule
        for rule, _, _, contract in openapi.contracts(app)
        if contract and contract.policy is Policy.SELF_OR_ADMIN and "user_id" not in rule.arguments
    ]
    assert without_id == []  # declare SELF


def test_the_tags_are_in_the_order_of_use_with_a_line_each(document: Json) -> None:
    tags = [tag["name"] for tag in document["tags"]]
    assert tags[:5] == ["user", "login", "token", "session", "password"]
    assert tags[-4:] == ["settings", "introspection", "health", "admin"]
    assert set(tags) == {tag for *_, spec in operations(document) for tag in spec["tags"]}
    assert all(10 < len(tag["description"]) < 100 and tag["description"].endswith(".") for tag in document["tags"])


def test_the_first_scheme_is_the_access_token(document: Json) -> None:
    """*Authorize* on the documentation page shows it first."""
    assert next(iter(document["components"]["securitySchemes"])) == "access"


def test_the_description_tells_all_that_the_docstring_says(document: Json) -> None:
    spec = operation(document, "replace_user")
    assert spec["summary"] == "Replace a user's data."
    rules = "A new password or mobile number requires a fresh token. A new password ends every other session."
    whose = "For: The user of the token or, for the id of another user in the path, an admin."
    assert spec["description"] == f"{rules}\n\n{whose}"


def test_the_head_says_what_comes_before_the_first_call(document: Json) -> None:
    """The envelope, the lifetimes, fresh tokens and the first three calls."""
    text = document["info"]["description"]
    calls = [line for line in text.splitlines() if line.startswith("curl ")]
    assert [call.split(" $URL")[1].split()[0] for call in calls] == [
        "/api/v1/users/",
        "/api/v1/users/",
        "/api/v1/refresh",
    ]
    assert '`{"code", "data", "message", "state"}`' in text
    assert "access token lives 2 minutes, and a refresh token 5 minutes" in text
    assert "fresh_token_required" in text


@pytest.mark.parametrize(
    ("lifetime", "words"),
    [(90, "90 seconds"), (1, "1 second"), (900, "15 minutes"), (3600, "1 hour"), (86_400, "1 day"), (0.5 + 1, "1.5 s")],
)
def test_the_head_tells_the_lifetimes_of_this_service(lifetime: float, words: str) -> None:
    document = made_with(JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=lifetime), JWT_REFRESH_ROTATION=True)
    text = " ".join(document["info"]["description"].split())
    assert f"An access token lives {words}" in text
    assert "also returns a new refresh token and retires the old one" in text


def test_the_contact_is_the_operator(document: Json) -> None:
    assert document["info"]["contact"] == {"name": "The operator of this service"}
    for url in ("https://example.com/help", "mailto:help@example.com"):
        set_to = made_with(CONTACT_URL=url)
        validate(set_to)
        assert set_to["info"]["contact"] == {"name": "The operator of this service", "url": url}


@pytest.mark.parametrize("url", ["example.com", "javascript:alert(1)", "https://", "https://a b"])
def test_a_contact_that_is_no_address_stops_the_start(url: str) -> None:
    with pytest.raises(InvalidSettings, match="CONTACT_URL: must look like"):
        create_app("testing", CONTACT_URL=url)


def test_links_lead_to_operations_and_fill_their_paths(document: Json) -> None:
    """Stateful tests and readers follow them: what a client may call next with this answer."""
    linked = {
        spec["operationId"]: spec["responses"]["200"]["links"]
        for *_, spec in operations(document)
        if "links" in spec["responses"]["200"]
    }
    assert {"read_user", "refresh"} <= set(linked["sign_up"]) & set(linked["login"])
    assert linked["sign_up"]["read_user"] == {
        "operationId": "read_user",
        "parameters": {"path.user_id": "$response.body#/data/id"},
    }
    assert linked["list_sessions"]["end_session"]["parameters"] == {"path.session_id": "$response.body#/data/data/0/id"}
    for links in linked.values():
        for name, link in links.items():
            wanted = [
                f"path.{it['name']}" for it in operation(document, name).get("parameters", []) if it["in"] == "path"
            ]
            assert list(link["parameters"]) == wanted
