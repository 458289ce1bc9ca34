"""Clients: other services, with the scopes that say what they may do."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Digest, ExactString, Model, UtcDateTime
from apps.utils import clock


class Client(Model):
    """A client (RFC 6749, 2). Its secret has 256 random bits, so a plain hash does not reveal it."""

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(ExactString(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(ExactString(16), server_default="service")
    scopes: Mapped[str] = mapped_column(ExactString(512), server_default="introspect revoke")  # RFC 6749, 3.3
    secret_digest: Mapped[bytes] = mapped_column(Digest)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)

    def has_scope(self, scope: str) -> bool:
        """Return True if the client is a service with this scope. Only services may act on the tokens of all users."""
        return self.kind == "service" and scope in self.scopes.split()
