"""How often in a row a login to a username failed, whether or not such an account exists."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Digest, Model, UtcDateTime


class LoginAttempt(Model):
    """One row a guessed username. It lives in the database, so a guesser gains nothing by hurting Redis."""

    __tablename__ = "login_attempts"

    username_digest: Mapped[bytes] = mapped_column(
        Digest, primary_key=True
    )  # a typed-in password may end up as a username
    failed_count: Mapped[int] = mapped_column(default=0)
    next_allowed_time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
