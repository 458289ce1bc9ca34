"""Sessions: a login of a user on a device, to which the tokens refer."""

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Digest, ExactString, Id, Model, UtcDateTime
from apps.utils import clock

# Why a client uses a refresh token that is not the session's current one.
RetiredTokenUse = Literal[
    "within_grace", "successor_unused", "successor_used", "grace_over", "window_over", "other_user_agent"
]


class Session(Model):
    """A session. Its id is the `sid` of its tokens. Once `revoke_time` is set, none of them is accepted."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_user_id_expire_time", "user_id", "expire_time"),)

    id: Mapped[str] = mapped_column(ExactString(32), primary_key=True)  # 128 random bits in hex
    user_id: Mapped[int] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"))
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(255))
    refresh_generation: Mapped[int] = mapped_column(default=0)  # of the current refresh token
    rotate_time: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when a refresh issued that token
    rotated_by: Mapped[bytes | None] = mapped_column(Digest)  # of the token's generation and the User-Agent that got it
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    last_used_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    expire_time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)  # of that token: the idle limit
    end_time: Mapped[datetime] = mapped_column(UtcDateTime)  # the absolute limit of every token
    revoke_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoke_reason: Mapped[str | None] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
