"""Users of the API, for readable tests: `alice = people.sign_up("alice-liddell")`, `alice.get("/users/")`."""

import itertools
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PASSWORD = "correct horse battery"
BIRTH = "2000-01-31 12:30:59"

_numbers = itertools.count(1)


def sign_up_body(username: str | None = None, **changes: Any) -> dict[str, Any]:
    body = {
        "username": username or f"somebody-{next(_numbers)}",
        "password": PASSWORD,
        "mobile": "13200001111",
        "info": {"age": 18, "birth": BIRTH},
    }
    return body | changes


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Person:
    client: FlaskClient
    id: int
    username: str
    access_token: str
    refresh_token: str
    password: str = PASSWORD

    def request(self, method: str, path: str, *, token: str | None = None, **kwargs: Any) -> TestResponse:
        headers = bearer(token or self.access_token) | kwargs.pop("headers", {})
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **kwargs)

    def get(self, path: str, **kwargs: Any) -> TestResponse:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> TestResponse:
        return self.request("POST", path, **kwargs)

    def put(self, path: str, **kwargs: Any) -> TestResponse:
        return self.request("PUT", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> TestResponse:
        return self.request("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> TestResponse:
        return self.request("DELETE", path, **kwargs)

    def refresh(self) -> TestResponse:
        return self.post("/refresh", token=self.refresh_token)


@dataclass
class People:
    client: FlaskClient

    def sign_up(self, username: str | None = None, **changes: Any) -> Person:
        body = sign_up_body(username, **changes)
        return self._person(self.client.post("/api/v1/users/", json=body), body["password"])

    def log_in(self, username: str, password: str = PASSWORD) -> Person:
        response = self.client.post("/api/v1/login", json={"username": username, "password": password})
        return self._person(response, password)

    def _person(self, response: TestResponse, password: str) -> Person:
        assert response.status_code == 200, response.text
        data = response.get_json()["data"]
        return Person(
            self.client, data["id"], data["username"], data["access_token"], data["refresh_token"], password=password
        )

    def admin(self) -> Person:
        """Create an admin with `manage.py create-admin` and log in."""
        body = sign_up_body()
        result = self.client.application.test_cli_runner().invoke(
            args=[
                "create-admin",
                f"--username={body['username']}",
                f"--mobile={body['mobile']}",
                "--age=40",
                f"--birth={BIRTH}",
                "--password-stdin",
            ],
            input=PASSWORD + "\n",
        )
        assert result.exit_code == 0, result.output
        return self.log_in(body["username"])
