"""The Postman collection: the story of one account, told with the operations of the OpenAPI document.

Method, path, token, body and answer of every request are the document's. What stands here is their order, and what a
request takes from those before it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

_DESCRIPTION = """\
The story of one account, from sign-up to deletion. Pick the environment "Gatehouse" and run the whole collection: every
run signs up somebody new. To send one request alone, send those above it once. Made by `python manage.py postman`."""
_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
# Any ids do; fixed ones let a new import replace the old.
_COLLECTION_ID = "6d1b7a52-6c0f-4a55-9f0e-0b7c1f3a9e01"
_ENVIRONMENT_ID = "6d1b7a52-6c0f-4a55-9f0e-0b7c1f3a9e02"


@dataclass(frozen=True)
class Step:
    """One request of the story. Code in it is JavaScript."""

    name: str
    operation: str  # its operationId in the document
    before: tuple[str, ...] = ()  # lines to run first
    body: Mapping[str, Any] = field(default_factory=dict)  # values other than the example's; None: left out
    token: str | None = None  # the variable with the token; None: access_token or refresh_token, as documented
    refused: str | None = None  # the `error.type`, where it must not succeed
    expect: Mapping[str, str] = field(default_factory=dict)  # {expression: what it must equal}
    keep: Mapping[str, str] = field(default_factory=dict)  # {variable: key of `data`}, for the requests after it


_NOBODY_YET = (
    'pm.collectionVariables.set("username", "postman-" + pm.variables.replaceIn("{{$randomUUID}}").slice(0, 13));',
    'pm.collectionVariables.set("password", pm.variables.replaceIn("{{$randomUUID}}"));',
)
_FOR_ADMINS = {
    "list accounts": "get_api_v1_admin_users",
    "read an account": "get_api_v1_admin_users_user_id",
    "block an account": "post_api_v1_admin_users_user_id_block",
    "unblock an account": "post_api_v1_admin_users_user_id_unblock",
    "change a role": "put_api_v1_admin_users_user_id_role",
    "end the sessions of an account": "delete_api_v1_admin_users_user_id_sessions",
    "delete an account": "delete_api_v1_admin_users_user_id",
}
_SAME_ID = {"String(answer.data.id)": 'String(pm.collectionVariables.get("user_id"))'}

STORY = (
    Step("The process runs", "get_healthz"),
    Step("The database answers", "get_readyz", expect={"answer.data.database": "true"}),
    Step(
        "Sign up",
        "post_api_v1_users",
        before=_NOBODY_YET,
        keep={
            "user_id": "id",
            "access_token": "access_token",
            "fresh_token": "access_token",
            "refresh_token": "refresh_token",
        },
    ),
    Step("Read yourself, from the cache", "get_api_v1_users", expect={"answer.data.cache": "true"}),
    Step("Read yourself by id", "get_api_v1_users_user_id", expect=_SAME_ID),
    Step(
        "Refresh",
        "post_api_v1_refresh",
        expect={'answer.data.access_token === pm.collectionVariables.get("access_token")': "false"},
        keep={"access_token": "access_token"},
    ),
    Step("Read yourself with the new token", "get_api_v1_users", expect=_SAME_ID),
    Step("Replace your data", "put_api_v1_users_user_id", body={"mobile": "13200003333"}, token="fresh_token"),
    Step("Change some of it", "patch_api_v1_users_user_id", token="fresh_token"),
    Step(
        "Another number needs a fresh token",
        "patch_api_v1_users_user_id",
        body={"mobile": "13200004444"},
        refused="fresh_token_required",
    ),
    Step("Take all that is held about you", "get_api_v1_users_user_id_export", token="fresh_token"),
    Step("Log in", "post_api_v1_login", expect=_SAME_ID, keep={"login_token": "access_token"}),
    Step(
        "List your sessions",
        "get_api_v1_sessions",
        expect={"answer.data.data.length": "2", "answer.data.data.filter(one => one.current).length": "1"},
    ),
    Step("End a session that you do not have", "delete_api_v1_sessions_session_id", refused="session_not_found"),
    Step("Log out", "post_api_v1_logout", token="login_token"),
    Step("The session is over", "get_api_v1_users", token="login_token", refused="invalid_token"),
    Step(
        "Set another password",
        "post_api_v1_password",
        body={"current_password": "{{password}}", "new_password": "{{password}}-2"},
        token="fresh_token",
    ),
    Step("End your other sessions", "delete_api_v1_sessions"),
    Step(
        "Read what happened to your account",
        "get_api_v1_audit",
        expect={"answer.data.data.some(one => one.event === 'password.change')": "true"},
    ),
    *(
        Step(f"Only admins: {what}", f"{operation}", refused="forbidden", token="fresh_token")
        for what, operation in _FOR_ADMINS.items()
    ),
    Step("Only services ask about tokens", "post_api_v1_introspect", refused="invalid_client"),
    Step("Only services end them", "post_api_v1_revoke", refused="invalid_client"),
    Step("A name is given once", "post_api_v1_users", refused="username_taken"),
    Step(
        "A mobile number is needed",
        "post_api_v1_users",
        body={"mobile": None},
        refused="invalid_body",
        expect={"Object.keys(answer.error.fields)": '["mobile"]'},
    ),
    Step("Delete yourself", "delete_api_v1_users_user_id", token="fresh_token"),
    Step("The account is gone", "get_api_v1_users", refused="invalid_token"),
)

_EVERY_ANSWER = (
    "const answer = pm.response.json();",
    'pm.test("the envelope, with the status as its code", () => {',
    '    const keys = ["code", "data", "message", "state"].concat(pm.response.code < 400 ? [] : ["error"]);',
    "    pm.expect(answer).to.have.all.keys(keys);",
    "    pm.expect(answer.code).to.equal(pm.response.code);",
    "    pm.expect(answer.state).to.equal(0);",
    "});",
)


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    method: str
    path: str
    spec: Json
    schemas: Json

    @property
    def token(self) -> str | None:
        """The kind of token that it asks for; a service's credentials are none."""
        kinds = [kind for requirement in self.spec.get("security", []) for kind in requirement]
        return next((kind for kind in kinds if kind != "client"), None)

    @property
    def media_type(self) -> str:
        """How its body is written."""
        return next(iter(self.spec["requestBody"]["content"]), "application/json")

    @property
    def example(self) -> Json | None:
        """A body that it accepts."""
        if "requestBody" not in self.spec:
            return None
        example: Json = self.spec["requestBody"]["content"][self.media_type]["example"]
        return example

    @property
    def answer(self) -> Json:
        """The schema of `data` when it succeeds."""
        reference: str = self._schema("200")["properties"]["data"]["$ref"]
        schema: Json = self.schemas[reference.rpartition("/")[2]]
        return schema

    @property
    def refusals(self) -> dict[str, int]:
        """The `error.type` of every refusal, with its status."""
        refused = [status for status in self.spec["responses"] if status != "200"]
        return {kind: int(status) for status in refused for kind in self._error_types(status)}

    def _schema(self, status: str) -> Json:
        schema: Json = self.spec["responses"][status]["content"]["application/json"]["schema"]
        return schema

    def _error_types(self, status: str) -> list[str]:
        error = self._schema(status)["allOf"][-1]["properties"]["error"]
        types: list[str] = error["properties"]["type"]["enum"]
        return types


def files(document: Json) -> dict[str, Json]:
    """Return {file name: content} of the collection and of its environment."""
    return {
        "gatehouse.postman_collection.json": _collection(document),
        "gatehouse.postman_environment.json": {
            "id": _ENVIRONMENT_ID,
            "name": "Gatehouse",
            "values": [{"key": "base_url", "value": "http://127.0.0.1:5000", "type": "default", "enabled": True}],
            "_postman_variable_scope": "environment",
        },
    }


def _collection(document: Json) -> Json:
    operations = {
        spec["operationId"]: Operation(method.upper(), path, spec, document["components"]["schemas"])
        for path, methods in document["paths"].items()
        for method, spec in methods.items()
    }
    return {
        "info": {"_postman_id": _COLLECTION_ID, "name": "Gatehouse", "description": _DESCRIPTION, "schema": _SCHEMA},
        "item": [_item(step, operations[step.operation]) for step in STORY],
        "event": [_script("test", _EVERY_ANSWER)],
    }


def _item(step: Step, operation: Operation) -> Json:
    before = [_script("prerequest", step.before)] if step.before else []
    return {
        "name": step.name,
        "event": [*before, _script("test", _tests(step, operation))],
        "request": _request(step, operation),
        "response": [],
    }


def _script(listen: str, lines: Iterable[str]) -> Json:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": list(lines)}}


def _request(step: Step, operation: Operation) -> Json:
    path = operation.path.replace("{session_id}", "0" * 32).replace("{", "{{").replace("}", "}}")
    request: Json = {
        "method": operation.method,
        "description": operation.spec["summary"],
        "auth": {"type": "noauth"},
        "header": [],
        "url": {"raw": "{{base_url}}" + path, "host": ["{{base_url}}"], "path": path.removeprefix("/").split("/")},
    }
    if operation.token:
        token = _variable(step.token or f"{operation.token}_token")
        request["auth"] = {"type": "bearer", "bearer": [{"key": "token", "value": token, "type": "string"}]}
    body = _body(step, operation)
    if body and operation.media_type != "application/json":
        request["body"] = {"mode": "urlencoded", "urlencoded": [{"key": key, "value": body[key]} for key in body]}
    elif body:
        request["header"] = [{"key": "Content-Type", "value": "application/json"}]
        request["body"] = {"mode": "raw", "raw": json.dumps(body, indent=2), "options": {"raw": {"language": "json"}}}
    return request


def _variable(name: str) -> str:
    return "{{" + name + "}}"


def _body(step: Step, operation: Operation) -> Json:
    """Return the document's example, of the account that the story is about."""
    example = operation.example or {}
    account: Json = {name: _variable(name) for name in ("username", "password") if name in example}
    body = {**example, **account, **step.body}
    return {name: value for name, value in body.items() if value is not None}


def _tests(step: Step, operation: Operation) -> list[str]:
    status = operation.refusals[step.refused] if step.refused else 200
    expectations = _refusal(step.refused) if step.refused else _success(operation, _body(step, operation))
    expectations += [f"pm.expect({expression}).to.eql({value});" for expression, value in step.expect.items()]
    return [
        "const answer = pm.response.json();",
        f'pm.test("status {status}", () => pm.response.to.have.status({status}));',
        *_test(f"refused: {step.refused}" if step.refused else "data as documented", expectations),
        *(f'pm.collectionVariables.set("{variable}", answer.data.{key});' for variable, key in step.keep.items()),
    ]


def _test(name: str, expectations: list[str]) -> list[str]:
    return [f'pm.test("{name}", () => {{', *(f"    {line}" for line in expectations), "});"]


def _refusal(error_type: str) -> list[str]:
    return ["pm.expect(answer.data).to.eql({});", f'pm.expect(answer.error.type).to.equal("{error_type}");']


def _success(operation: Operation, body: Json) -> list[str]:
    """Return that `data` holds the keys which are promised, and the values which were sent."""
    required = operation.answer["required"]
    if not required:
        return ["pm.expect(answer.data).to.eql({});"]
    places = {**{name: name for name in body}, **{name: f"info.{name}" for name in body.get("info", {})}}
    shown = {name: place for name, place in places.items() if name in operation.answer["properties"]}
    sent = ["const sent = JSON.parse(pm.variables.replaceIn(pm.request.body.raw));"] if shown else []
    return [
        f"pm.expect(answer.data).to.include.all.keys({json.dumps(required)});",
        *sent,
        *(f"pm.expect(answer.data.{name}).to.equal(sent.{place});" for name, place in shown.items()),
    ]
