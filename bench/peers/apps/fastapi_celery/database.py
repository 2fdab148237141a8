"""The tables, by SQLAlchemy's declarative mapping; `python -m fastapi_celery.database` creates them."""

import os
from datetime import datetime

from sqlalchemy import BigInteger, Identity, Text, create_engine, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

# As many as requests at a time: a connection beyond the pool's size is opened and closed for each of them.
engine = create_engine(os.environ["DATABASE_URL"], pool_size=20)
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    """What SQLAlchemy collects the tables in."""


class Event(Base):
    """An event as it was received; committed before Stripe gets its 200."""

    __tablename__ = "events"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    type: Mapped[str] = mapped_column(Text)
    payload: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ProcessedEvent(Base):
    """The ids of the events that have had their effects: an event that comes twice has them once."""

    __tablename__ = "processed_events"
    event_id: Mapped[str] = mapped_column(Text, primary_key=True)
    processed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Customer(Base):
    """Who pays."""

    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    email: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str | None] = mapped_column(Text)


class Quote(Base):
    """What is paid for."""

    __tablename__ = "quotes"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    customer_id: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)


class Outbox(Base):
    """What others are to be told."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    topic: Mapped[str] = mapped_column(Text)
    message: Mapped[dict[str, str | None]] = mapped_column(JSONB)


if __name__ == "__main__":
    Base.metadata.create_all(engine)
