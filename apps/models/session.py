"""One login of one person on one device: what stands behind a pair of tokens."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import ExactString, Id, Model, UtcDateTime
from apps.utils import clock


class Session(Model):
    """The row whose id is the `sid` of the tokens. Once `revoke_time` is set, none of its tokens is accepted again."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_user_id_expire_time", "user_id", "expire_time"),)

    id: Mapped[str] = mapped_column(ExactString(32), primary_key=True)  # 128 random bits in hex
    user_id: Mapped[int] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"))
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(255))
    refresh_generation: Mapped[int] = mapped_column(default=0)  # of the one refresh token that is not retired
    rotate_time: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when that one was issued, unless by the login
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    last_used_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    expire_time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)  # of that refresh token: the idle limit
    end_time: Mapped[datetime] = mapped_column(UtcDateTime)  # no token lives longer: the absolute limit
    revoke_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoke_reason: Mapped[str | None] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
