"""Signing keys. The private keys are encrypted, so a dump of the database cannot sign tokens."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import ExactString, Model, ShortBytes, UtcDateTime
from apps.utils import clock


class SigningKey(Model):
    """A key. It is published when created, signs from its activation to the next key's, and verifies until retired."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(ExactString(43), primary_key=True)  # its thumbprint (RFC 7638)
    algorithm: Mapped[str] = mapped_column(String(16))
    private_key_ciphertext: Mapped[bytes] = mapped_column(ShortBytes(512))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    activate_time: Mapped[datetime | None] = mapped_column(UtcDateTime)  # in the future while a rotation is pending
    retire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)


def private_key_context(kid: str) -> str:
    """Return the context that binds a ciphertext to its row: moved to another row, it does not decrypt."""
    return f"signing_keys.private_key:{kid}"
