"""Clients: other services, and what their scopes allow them to do."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Literal, get_args

from sqlalchemy import select

from apps.database.transaction import reading, transactional
from apps.errors import InsufficientScope, InvalidClient
from apps.extensions import db
from apps.models import Client
from apps.services.audit import record, record_alone

Scope = Literal["introspect", "revoke"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_CLIENT_ID = re.compile(r"[0-9a-f]{16}")


def add_client(name: str, scopes: Sequence[Scope]) -> tuple[Client, str]:
    """Add a client and return it with its secret. Only a digest is stored, so the secret is shown only here."""
    secret = secrets.token_urlsafe(32)
    return _insert(name, _joined(scopes), _digest(secret)), secret


@transactional
def set_scopes(client_id: str, scopes: Sequence[Scope]) -> bool:
    """Replace the scopes of a client, from its next request on. Return True if the client exists."""
    client = db.session.get(Client, client_id, with_for_update=True)
    if client is None:
        return False
    client.scopes = _joined(scopes)
    record("client.update", None, client=client_id, scopes=client.scopes)
    return True


@transactional
def remove_client(client_id: str) -> bool:
    """Remove a client; its next request is refused. Return True if it existed."""
    client = db.session.get(Client, client_id)
    if client is None:
        return False
    db.session.delete(client)
    record("client.remove", None, client=client_id)
    return True


@reading
def list_clients() -> Sequence[Client]:
    """Return all clients, oldest first."""
    return db.session.scalars(select(Client).order_by(Client.create_time)).all()


def authenticate_client(client_id: str, secret: str) -> Client:
    """Return the client with these credentials. Raises `InvalidClient`; a wrong secret of a client is audited."""
    client = _find(client_id) if _CLIENT_ID.fullmatch(client_id) else None  # PostgreSQL refuses a NUL
    stored = bytes(client.secret_digest) if client else bytes(32)
    if hmac.compare_digest(stored, _digest(secret)) and client:
        return client
    if client:
        record_alone("client.authenticate", None, outcome="failure", client=client.id)
    raise InvalidClient


def require_scope(client: Client, scope: Scope) -> None:
    """Raise `InsufficientScope`, and audit it, unless the client has the scope."""
    if not client.has_scope(scope):
        record_alone("client.authorize", None, outcome="failure", client=client.id, scope=scope)
        raise InsufficientScope(scope)


def _joined(scopes: Sequence[Scope]) -> str:
    return " ".join(scope for scope in SCOPES if scope in scopes)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


@reading
def _find(client_id: str) -> Client | None:
    return db.session.get(Client, client_id)


@transactional
def _insert(name: str, scopes: str, secret_digest: bytes) -> Client:
    client = Client(id=secrets.token_hex(8), name=name, kind="service", scopes=scopes, secret_digest=secret_digest)
    db.session.add(client)
    record("client.add", None, client=client.id, scopes=scopes)
    return client
