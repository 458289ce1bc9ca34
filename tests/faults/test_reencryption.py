"""D3 under load: `manage.py keys reencrypt` is killed halfway and started again, while clients read and change."""

import itertools
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, select
from werkzeug.test import TestResponse

from apps.config import TestConfig, settings
from apps.extensions import db
from apps.models import User
from apps.models.user import mobile_context
from apps.security import field_encryption
from apps.utils import clock
from tests.support import live
from tests.support.people import People
from tests.support.settings import change_settings

pytestmark = [pytest.mark.stores("postgresql"), pytest.mark.timeout(120)]

USERS = 3_000  # D3 asks for 100,000, but every batch is the same work, and the suite must stay fast
FIRST = 1_000_000  # id of the first user
OLD, NEW = TestConfig.FIELD_ENCRYPTION_KEYS[0], "another-field-encryption-key-of-the-suite"


def test_a_killed_run_is_started_again_and_no_row_is_left(app: Flask, tmp_path: Path) -> None:
    """D3: no row is left with the old key or unreadable, and no request is refused."""
    insert_users(app)
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW, OLD])
    client, stop = Client(app), threading.Event()
    thread = threading.Thread(target=client.run, args=(stop,))
    thread.start()
    try:
        with start(app, tmp_path) as first:
            assert first.stderr
            assert first.stderr.readline().endswith(" so far\n")
            first.kill()
        with app.app_context():
            behind = sum(not field_encryption.is_current(blob) for blob in mobiles().values())
        assert 0 < behind < USERS
        with start(app, tmp_path) as second:
            out, _ = second.communicate()
        assert second.returncode == 0
        assert 0 < int(out.split()[1]) <= behind  # "re-encrypted N rows"; a client may have been faster
    finally:
        stop.set()
        thread.join()
    assert client.problems == []
    assert len(client.numbers) > 1
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW])
    with app.app_context():
        numbers = {id_: field_encryption.decrypt(blob, mobile_context(id_)) for id_, blob in mobiles().items()}
    del numbers[client.admin.id]
    assert numbers == {FIRST + number: number_of(number) for number in range(USERS)} | client.numbers


def number_of(number: int) -> str:
    return f"132{number:08}"


def insert_users(app: Flask) -> None:
    """Insert users who never log in, encrypted with the old key. Sign-ups would be slow."""
    with app.app_context():
        rows = [
            {
                "id": FIRST + number, "username": f"row-{number}", "username_key": f"row-{number}",
                "password_hash": "-", "age": 18, "birth": clock.now(),
                "mobile_ciphertext": field_encryption.encrypt(number_of(number), mobile_context(FIRST + number)),
                "mobile_index": field_encryption.blind_index(number_of(number)),
            }
            for number in range(USERS)
        ]  # fmt: skip
        db.session.execute(insert(User), rows)
        db.session.commit()


def mobiles() -> dict[int, bytes]:
    return {id_: bytes(blob) for id_, blob in db.session.execute(select(User.id, User.mobile_ciphertext))}


def start(app: Flask, folder: Path) -> subprocess.Popen[str]:
    live.checkout(folder)
    environment = {
        "DATABASE_URL": settings(app).DATABASE_URL,
        "GATEHOUSE_FIELD_ENCRYPTION_KEYS": json.dumps([NEW, OLD]),
        "GATEHOUSE_FIELD_INDEX_KEY": settings(app).FIELD_INDEX_KEY,
    }
    return subprocess.Popen(
        [sys.executable, "manage.py", "keys", "reencrypt", "--batch=100"],
        cwd=folder, env=live.unconfigured() | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


class Client:
    """An admin who changes the number of random users, and after each change reads that user and another."""

    def __init__(self, app: Flask) -> None:
        self.admin = People(FlaskClient(app)).admin()
        self.numbers: dict[int, str] = {}  # the changed ones, by user id
        self.problems: list[str] = []

    def run(self, stop: threading.Event) -> None:
        for changes in itertools.count():
            if stop.is_set():
                return
            changed, read = random.sample(range(USERS), 2)
            number = f"139{changes:08}"
            self.expect(200, self.admin.patch(f"/users/{FIRST + changed}", json={"mobile": number}))
            self.numbers[FIRST + changed] = number
            for one in (FIRST + changed, FIRST + read):
                answer = self.expect(200, self.admin.get(f"/users/{one}"))
                if answer["data"].get("mobile") != self.numbers.get(one, number_of(one - FIRST)):
                    self.problems.append(f"{one}: {answer}")

    def expect(self, status: int, response: TestResponse) -> Any:
        if response.status_code != status:
            self.problems.append(response.text)
        return response.get_json()
