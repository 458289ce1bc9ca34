"""The keys that sign tokens, where others verify them: private halves encrypted, so a dump signs nothing."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import ExactString, Model, ShortBytes, UtcDateTime
from apps.utils import clock


class SigningKey(Model):
    """A key is published when it is made, signs from its activation to the next one's and verifies until it retires."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(ExactString(43), primary_key=True)  # its thumbprint (RFC 7638)
    algorithm: Mapped[str] = mapped_column(String(16))
    private_key_ciphertext: Mapped[bytes] = mapped_column(ShortBytes(512))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    activate_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)


def private_key_context(kid: str) -> str:
    """Return what a ciphertext is bound to: moved to another row it no longer opens."""
    return f"signing_keys.private_key:{kid}"
