"""What the tables share: their base class and column types that mean the same on every database."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import VARBINARY, BigInteger, DateTime, Dialect, Integer, LargeBinary, String, TypeDecorator

from apps.extensions import Base, db

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model

# SQLite gives out ids only for INTEGER; with AUTOINCREMENT it never gives one out twice (T8).
Id = BigInteger().with_variant(Integer, "sqlite")


def ShortBytes(length: int) -> LargeBinary:  # noqa: N802 (reads as the type it makes)
    """Return a column of bytes; MariaDB and MySQL index them only as VARBINARY."""
    return LargeBinary(length).with_variant(VARBINARY(length), "mysql", "mariadb")


Blob, Digest = ShortBytes(255), ShortBytes(32)


def ExactString(length: int) -> String:  # noqa: N802 (reads as the type it makes)
    """Return a text column that compares and sorts byte by byte on every database, never by a collation."""
    return (
        String(length)
        .with_variant(String(length, collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(String(length, collation="C"), "postgresql")
    )


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, with microseconds; stored without an offset on every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Ask MariaDB and MySQL for the microseconds that they leave out unless asked."""
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects.mysql import DATETIME  # a megabyte, for those who have it

            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Store the UTC time; a naive value is a fault of the program."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Say that the stored time is UTC."""
        return value and value.replace(tzinfo=UTC)
