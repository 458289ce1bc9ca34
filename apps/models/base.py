"""The base class of the tables, and column types that behave alike on every database."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import VARBINARY, BigInteger, DateTime, Dialect, Integer, LargeBinary, String, TypeDecorator

from apps.extensions import Base, db

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model

# SQLite generates ids only for INTEGER; with AUTOINCREMENT it never reuses one (T8).
Id = BigInteger().with_variant(Integer, "sqlite")


def ShortBytes(length: int) -> LargeBinary:  # noqa: N802 (reads as the type it makes)
    """Return a type for bytes. MariaDB and MySQL can index them only as VARBINARY."""
    return LargeBinary(length).with_variant(VARBINARY(length), "mysql", "mariadb")


Blob, Digest = ShortBytes(255), ShortBytes(32)


def ExactString(length: int) -> String:  # noqa: N802 (reads as the type it makes)
    """Return a text type that compares and sorts byte by byte on every database, not by a language's collation."""
    return (
        String(length)
        .with_variant(String(length, collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(String(length, collation="C"), "postgresql")
    )


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC with microseconds, stored without an offset on every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Request microseconds from MariaDB and MySQL, which store none by default."""
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects.mysql import DATETIME  # the import takes a megabyte

            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert to UTC. Raises `ValueError` for a naive datetime, which is a bug of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: a time zone is required")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Return the stored time as an aware datetime in UTC."""
        return value and value.replace(tzinfo=UTC)
