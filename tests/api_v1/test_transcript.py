"""The lesson's curl transcript, line by line."""

from flask.testing import FlaskClient

from tests.support.people import People, bearer

SIGN_UP = {
    "username": "12345678",
    "password": "12345678",
    "mobile": "13200001111",
    "info": {"age": 18, "birth": "2023-08-23 12:30:59"},
}


def test_the_transcript_of_the_lesson_replays(client: FlaskClient) -> None:
    signed_up = client.post("/api/v1/users/", json=SIGN_UP).get_json()
    tokens = {name: signed_up["data"].pop(name) for name in ("access_token", "refresh_token")}
    user = {"age": 18, "id": signed_up["data"]["id"], "mobile": "13200001111", "username": "12345678"}
    assert signed_up == {"code": 200, "data": user, "message": "SUCCESS", "state": 0}

    read = client.get("/api/v1/users/", headers=bearer(tokens["access_token"])).get_json()
    assert read == {"code": 200, "data": user | {"cache": True}, "message": "SUCCESS", "state": 0}

    refreshed = client.post("/api/v1/refresh", headers=bearer(tokens["refresh_token"])).get_json()
    assert list(refreshed["data"]) == ["access_token"]
    again = client.get("/api/v1/users/", headers=bearer(refreshed["data"]["access_token"]))
    assert again.get_json()["data"]["username"] == "12345678"


def test_a_refresh_token_may_be_used_again_and_again(people: People) -> None:
    alice = people.sign_up()
    assert [alice.refresh().status_code for _ in range(3)] == [200, 200, 200]


def test_an_invalid_body_is_answered_as_in_the_lesson(client: FlaskClient) -> None:
    response = client.post("/api/v1/users/", json={name: SIGN_UP[name] for name in SIGN_UP if name != "mobile"})
    assert response.status_code == 400
    assert response.get_json() == {
        "code": 400,
        "data": {},
        "message": "add user fail:{'mobile': ['This field is required.']}",
        "state": 0,
        "error": {"type": "invalid_body", "fields": {"mobile": ["This field is required."]}},
    }
