"""Whether what the caches hold may be old: raised by a process that could not tell Redis of a change."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Id, Model, UtcDateTime


class Doubt(Model):
    """One row, which every process looks at ten times a second."""

    __tablename__ = "doubts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Id)  # of the doubts so far
    raise_time: Mapped[datetime] = mapped_column(UtcDateTime)  # of the last one
