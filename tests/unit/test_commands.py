"""The commands of manage.py, and both servers as real processes."""

import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import text

from apps import create_app
from apps.about import ROOT
from apps.commands import register_commands, server
from apps.database.revision import needed_revision
from apps.extensions import db
from apps.http import openapi
from tests.support import live
from tests.support.people import BIRTH, PASSWORD, People, bearer, sign_up_body
from tests.support.settings import change_settings

STOP = 45  # seconds; granian allows a worker 30, and a slow start may use them up
sqlite_alone = pytest.mark.stores("sqlite")


def invoke(app: Flask, *arguments: str, typed: str = "") -> Result:
    return app.test_cli_runner().invoke(args=list(arguments), input=typed)


def admin_options(**changes: str) -> list[str]:
    options = {"username": "white-rabbit", "mobile": "13200001111", "age": "40", "birth": BIRTH} | changes
    return ["create-admin", "--password-stdin", *(f"--{name}={value}" for name, value in options.items())]


@sqlite_alone
def test_create_admin_makes_an_admin_who_can_log_in(app: Flask, people: People) -> None:
    result = invoke(app, *admin_options(), typed=PASSWORD + "\n")
    assert (result.exit_code, result.output.split(" with ")[0]) == (0, "created admin white-rabbit")
    with app.app_context():
        assert db.session.scalar(text("SELECT role FROM users")) == "admin"
    assert people.log_in("white-rabbit").get("/admin/users").status_code == 200


@sqlite_alone
@pytest.mark.parametrize(
    ("changes", "password", "fault"),
    [
        ({"username": "short"}, PASSWORD, "longer than 6"),
        ({"birth": "yesterday"}, PASSWORD, "Must have the format"),
        ({"age": "17"}, PASSWORD, "18"),
        ({}, "canary", "8"),
        ({}, "", "required"),
    ],
)
def test_create_admin_refuses_what_sign_up_refuses(
    app: Flask, changes: dict[str, str], password: str, fault: str
) -> None:
    result = invoke(app, *admin_options(**changes), typed=password + "\n")
    assert result.exit_code == 1
    assert fault in result.output
    assert "canary" not in result.output


@sqlite_alone
def test_create_admin_does_not_take_a_name_twice(app: Flask, people: People) -> None:
    people.sign_up("white-rabbit")
    result = invoke(app, *admin_options(), typed=PASSWORD + "\n")
    assert (result.exit_code, result.output) == (1, "Error: This username is taken. Choose another one.\n")


def test_create_admin_works_before_the_first_run(tmp_path: Path) -> None:
    """Without configuration and without tables."""
    live.checkout(tmp_path)
    done = subprocess.run(
        [sys.executable, "manage.py", *admin_options()],
        cwd=tmp_path,
        env=live.unconfigured(),
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "created admin white-rabbit with id 1"


@sqlite_alone
def test_openapi_prints_the_document(app: Flask) -> None:
    with app.app_context():
        assert json.loads(invoke(app, "openapi").output) == openapi.document()


@sqlite_alone
def test_config_example_prints_the_example(app: Flask) -> None:
    assert invoke(app, "config-example").output == (ROOT / "config.example.py").read_text()


def all_commands(group: click.Group, *path: str) -> dict[str, click.Command]:
    """Return {"keys list": command} of a group and its subgroups."""
    found = {" ".join((*path, name)): command for name, command in group.commands.items()}
    for name, command in group.commands.items():
        found |= all_commands(command, *path, name) if isinstance(command, click.Group) else {}
    return found


def registered() -> dict[str, click.Command]:
    app = create_app("testing", DATABASE_URL="sqlite://")
    register_commands(app)
    return all_commands(app.cli)


COMMANDS = registered()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    assert COMMANDS[name].get_short_help_str()
    for option in COMMANDS[name].params:
        assert not isinstance(option, click.Option) or option.help


@sqlite_alone
def test_help_lists_the_commands(app: Flask) -> None:
    listed = invoke(app, "--help").output
    assert all(f"  {name} " in listed for name in COMMANDS if " " not in name)


@sqlite_alone
def test_more_than_one_worker_needs_redis(app: Flask) -> None:
    """Without Redis each worker would have its own cache."""
    result = invoke(app, "serve", "--workers=2")
    assert result.exit_code == 2
    assert "REDIS_URL" in result.output


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.parametrize(("workers", "is_warned"), [(1, False), (1000, True)])
def test_serve_warns_of_more_connections_than_the_database_allows(
    app: Flask, monkeypatch: pytest.MonkeyPatch, workers: int, is_warned: bool
) -> None:
    """F17: the limit is the database's own, and the warning comes at the start, not at peak load."""
    monkeypatch.setattr("apps.commands.supervisor.Supervisor.run", lambda self: None)
    change_settings(app, REDIS_URL="redis://127.0.0.1:1")
    result = invoke(app, "serve", "--port=0", f"--workers={workers}")
    assert result.exit_code == 0
    assert ("may open 6000 connections" in result.stderr) == is_warned


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_serve_names_the_migration_and_the_command_that_a_database_needs(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.commands.supervisor.Supervisor.run", lambda self: None)
    needed = needed_revision()
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    try:
        said = invoke(app, "serve", "--port=0").stderr
    finally:
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :needed"), {"needed": needed})
    assert f"Is at migration 0001, needs {needed}. Run `manage.py db upgrade`." in said
    assert "migration" not in invoke(app, "serve", "--port=0").stderr


@pytest.mark.settings(JWT_ALGORITHM="ES256")
@sqlite_alone
def test_serve_names_the_command_that_makes_a_signing_key(
    app: Flask, monkeypatch: pytest.MonkeyPatch, output: io.StringIO
) -> None:
    monkeypatch.setattr("apps.commands.supervisor.Supervisor.run", lambda self: None)
    assert invoke(app, "serve", "--port=0").exit_code == 0
    assert "run `manage.py keys rotate`" in output.getvalue()


@sqlite_alone
def test_serve_starts_while_the_database_is_away_and_shows_no_password(app: Flask, tmp_path: Path) -> None:
    """S1, L1."""
    live.checkout(tmp_path)
    code = "from apps.commands import supervisor as s; s.Supervisor.run = lambda _: None; import manage; manage.main()"
    url = "postgresql://gatehouse:S3cr%40tTail99@127.0.0.1:1/d"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--port=0"],
        cwd=tmp_path, env=live.unconfigured() | {"DATABASE_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "warning: the database does not respond yet: " in done.stderr
    assert "Tail99" not in done.stdout + done.stderr


@pytest.mark.parametrize("url", ["postgresql://u:S3cr%40tTail99@127.0.0.1:1/d", "sqlite:///empty.db"])
def test_a_command_says_in_a_line_what_is_wrong_with_the_database(tmp_path: Path, url: str) -> None:
    """L1."""
    live.checkout(tmp_path)
    done = subprocess.run(
        [sys.executable, "manage.py", "clients", "list"],
        cwd=tmp_path, env=live.unconfigured() | {"DATABASE_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(
        "the database does not respond" if "empty" not in url else "the database has no tables"
    )
    assert "Tail99" not in done.stderr


def ask(url: str, token: str | None = None, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"} | (bearer(token) if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as response:
        return json.load(response)["data"]


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_server_with_nothing_configured_replays_the_transcript_and_stops(tmp_path: Path, command: str) -> None:
    """V5: over real HTTP; after SIGTERM the server exits with 0."""
    with live.live_server(tmp_path, command) as server:
        api = f"{server.url}/api/v1"
        signed_up = ask(f"{api}/users/", body=sign_up_body("12345678"))
        read = ask(f"{api}/users/", token=signed_up["access_token"])
        assert read == {"age": 18, "cache": True, "id": 1, "mobile": "13200001111", "username": "12345678"}
        refreshed = ask(f"{api}/refresh", token=signed_up["refresh_token"], body={})
        assert ask(f"{api}/users/", token=refreshed["access_token"])["username"] == "12345678"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP) == 0
    with live.live_server(tmp_path, command) as server:  # the files under instance/ are enough to continue
        assert ask(f"{server.url}/api/v1/users/", token=refreshed["access_token"])["id"] == 1
    assert PASSWORD not in server.log


def test_a_request_under_way_is_answered_before_the_server_stops(tmp_path: Path) -> None:
    """V5."""
    body = json.dumps(sign_up_body()).encode()
    head = "POST /api/v1/users/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    with live.live_server(tmp_path, "serve") as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=30) as connection:
            connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body[:9])
            wait_for_worker(server)
            server.process.send_signal(signal.SIGTERM)
            connection.sendall(body[9:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(STOP) == 0


def wait_for_worker(server: live.Live) -> None:
    """Send another request. Its answer proves that the worker has begun the request before it."""
    ask(f"{server.url}/healthz")


def test_any_server_can_import_the_application(tmp_path: Path) -> None:
    """`wsgi:app` creates its tables and is ready."""
    live.checkout(tmp_path)
    code = "from wsgi import app; print(app.test_client().get('/readyz').status_code)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=live.unconfigured(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "200"


def test_serve_leaves_threads_for_those_who_neither_hash_nor_ask_the_database() -> None:
    """V3, V8: in every profile; each worker also allows only its share of a limit."""
    names = ("GATEHOUSE_PROCESSES", "GATEHOUSE_DATABASE_POOL_SIZE", "GATEHOUSE_PASSWORD_HASH_QUEUE")
    with create_app("testing", DATABASE_URL="sqlite://", PASSWORD_HASH_CONCURRENCY=1).app_context():
        chosen = {
            threads: [server._worker_environment(4, threads)[name] for name in names] for threads in (1, 4, 8, 64)
        }
    assert chosen == {1: ["4", "1", "0"], 4: ["4", "2", "1"], 8: ["4", "6", "5"], 64: ["4", "6", "61"]}


def test_the_workers_do_not_keep_what_only_commands_need() -> None:
    """Workers are forked and inherit all modules that `serve` has imported."""
    code = """
import sys
from apps import create_app
from apps.commands import register_commands
app = create_app("testing", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
register_commands(app)
print(app.test_cli_runner().invoke(args=["serve", "--help"]).exit_code)
print([name for name in ("alembic", "flask_migrate", "pymysql") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=live.unconfigured(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n[]\n"
