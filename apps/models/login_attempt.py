"""Consecutive failed logins per username, whether or not the account exists."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Digest, Model, UtcDateTime


class LoginAttempt(Model):
    """The counter of a username. It is in the database, so an attack on Redis gains no guesses."""

    __tablename__ = "login_attempts"

    # A digest, because a user may type the password into the field of the username.
    username_digest: Mapped[bytes] = mapped_column(Digest, primary_key=True)
    failed_count: Mapped[int] = mapped_column(default=0)
    next_allowed_time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
