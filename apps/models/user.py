"""Users: persons with an account."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, SmallInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Blob, Digest, ExactString, Id, Model, UtcDateTime
from apps.security import field_encryption
from apps.utils import clock


class User(Model):
    """A user. `version` rises with every change, so that a lost update is detected and refused."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("username_key", name="uq_users_username_key"),
        Index("ix_users_create_time_id", "create_time", "id"),
        CheckConstraint("role IN ('user', 'admin')", name="role"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    username: Mapped[str] = mapped_column(ExactString(64))
    username_key: Mapped[str] = mapped_column(ExactString(191))  # the canonical form, unique
    password_hash: Mapped[str] = mapped_column(String(255))
    mobile_ciphertext: Mapped[bytes] = mapped_column(Blob)
    mobile_index: Mapped[bytes] = mapped_column(Digest, index=True)
    age: Mapped[int] = mapped_column(SmallInteger)
    birth: Mapped[datetime] = mapped_column(UtcDateTime)
    photo: Mapped[str | None] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16), default="user")
    block_time: Mapped[datetime | None] = mapped_column(UtcDateTime)  # set while the account is blocked
    version: Mapped[int] = mapped_column(default=1)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, onupdate=clock.now)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012

    @property
    def mobile(self) -> str:
        """The mobile number, decrypted."""
        return field_encryption.decrypt(self.mobile_ciphertext, mobile_context(self.id))

    def has_mobile(self, number: str) -> bool:
        """Return True if this is the stored number. One that does not decrypt never matches, so it can be replaced."""
        try:
            return self.mobile == number
        except field_encryption.Undecryptable:
            return False

    def set_mobile(self, number: str) -> None:
        """Store `number`, encrypted for this row, and its index for searches. The row must have its id."""
        self.mobile_ciphertext = field_encryption.encrypt(number, mobile_context(self.id))
        self.mobile_index = field_encryption.blind_index(number)


def mobile_context(user_id: int) -> str:
    """Return the context that binds a ciphertext to its table, column and row: moved elsewhere, it does not decrypt."""
    return f"users.mobile:{user_id}"
