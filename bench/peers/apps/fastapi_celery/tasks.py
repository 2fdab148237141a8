"""The Celery application and its one task: an event's effects, in one transaction."""

import json
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from fastapi_celery.database import Customer, Event, Outbox, ProcessedEvent, Quote, Session, engine

celery = Celery("fastapi_celery", broker=os.environ["AMQP_URL"])
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_concurrency=2,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@worker_process_init.connect
def forked(**_: Any) -> None:
    """Connections are not shared with the process that we are forked from (SQLAlchemy: pools and multiprocessing)."""
    engine.dispose(close=False)


@celery.task
def process_event(event_id: str) -> None:
    """Dedupe, then the customer, the quote, the outbox: all of it or nothing."""
    with Session.begin() as session:
        new = insert(ProcessedEvent).values(event_id=event_id).on_conflict_do_nothing()
        if session.execute(new).rowcount == 0:
            return
        received = session.get_one(Event, event_id)
        thing = json.loads(received.payload)["data"]["object"]
        customer = thing if thing["object"] == "customer" else {"id": thing.get("customer")}
        if customer["id"]:
            upsert = insert(Customer).values(id=customer["id"], email=customer.get("email"), name=customer.get("name"))
            keep = {
                "email": func.coalesce(upsert.excluded.email, Customer.email),
                "name": func.coalesce(upsert.excluded.name, Customer.name),
            }
            session.execute(upsert.on_conflict_do_update(index_elements=[Customer.id], set_=keep))
        quote_id = (thing.get("metadata") or {}).get("quote_id")
        if quote_id:
            update = {"customer_id": customer["id"], "status": received.type}
            upsert = insert(Quote).values(id=quote_id, **update)
            session.execute(upsert.on_conflict_do_update(index_elements=[Quote.id], set_=update))
        session.add(Outbox(topic=received.type, message={"event": event_id, "quote": quote_id}))
