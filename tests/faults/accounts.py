"""The state machine's model of accounts and sessions, to be compared with the stored rows."""

from dataclasses import dataclass, field

from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from apps.extensions import db
from tests.support.forge import claims_of
from tests.support.people import PASSWORD, Person

Sessions = dict[str, tuple[bool, int]]  # {id: (is it live, generation of its refresh token)}
Stored = tuple[str, bool, Sessions] | None  # role, is blocked, sessions; None: no such user


@dataclass(eq=False)
class Login:
    """A session, with the fresh access token of its login and its current refresh token."""

    account: "Account"
    person: Person
    is_alive: bool = True
    generation: int = 0
    retired: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(claims_of(self.person.access_token)["sid"])

    def rotate(self, response: TestResponse) -> None:
        """Store the refresh token that a refresh returned."""
        self.retired.append(self.person.refresh_token)
        self.person.refresh_token = response.get_json()["data"]["refresh_token"]
        self.generation += 1


@dataclass(eq=False)
class Account:
    id: int
    username: str
    password: str = PASSWORD
    role: str = "user"
    is_blocked: bool = False
    is_deleted: bool = False
    logins: list[Login] = field(default_factory=list)

    def add(self, person: Person) -> Login:
        self.logins.append(Login(self, person))
        return self.logins[-1]

    def end(self, but: Login | None = None) -> None:
        """Mark every session as ended, except `but`."""
        for login in self.logins:
            login.is_alive = login.is_alive and login is but

    def learn(self, found: Stored, new: list[Login]) -> None:
        """Set the state of these logins to what is stored."""
        for login in new:
            login.is_alive = bool(found and found[2][login.id][0])

    @property
    def expected(self) -> Stored:
        sessions = {login.id: (login.is_alive, login.generation) for login in self.logins}
        return None if self.is_deleted else (self.role, self.is_blocked, sessions)


def stored(app: Flask, user_id: int) -> Stored:
    """Return the state of an account in the database."""
    users = text("SELECT role, block_time IS NOT NULL FROM users WHERE id = :id")
    sessions = text("SELECT id, revoke_time IS NULL, refresh_generation FROM sessions WHERE user_id = :id")
    with app.app_context():
        user = db.session.execute(users, {"id": user_id}).one_or_none()
        rows = db.session.execute(sessions, {"id": user_id}).all()
        db.session.rollback()
    assert user or not rows, "sessions without a user"
    return user and (user[0], bool(user[1]), {row[0]: (bool(row[1]), row[2]) for row in rows})
