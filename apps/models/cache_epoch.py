"""The cache epoch: a number that rises when a process could not publish a change to Redis."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Id, Model, UtcDateTime


class CacheEpoch(Model):
    """The single row. Every process reads it ten times a second (services/cache_epoch.py)."""

    __tablename__ = "doubts"  # processes of older releases read the table by this name

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Id)
    raise_time: Mapped[datetime] = mapped_column(UtcDateTime)  # when the number last rose
