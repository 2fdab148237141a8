"""The endpoint: verify, commit the event, hand it to Celery, answer.

Between the commit and `delay` a crash loses the task: what is usual, and usually lived with (a sweep would look for events
that were not processed). Endpoints that block are plain functions, which FastAPI runs in threads.
"""

import os
from collections.abc import Iterator
from typing import Annotated

import stripe
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import insert

from fastapi_celery.database import Event, Session
from fastapi_celery.tasks import process_event

SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]

app = FastAPI()


async def raw_body(request: Request) -> bytes:
    """The bytes that were signed."""
    return await request.body()


def session() -> Iterator[orm.Session]:
    """One for each request."""
    with Session() as opened:
        yield opened


@app.post("/webhooks/stripe")
def receive(
    payload: Annotated[bytes, Depends(raw_body)],
    db: Annotated[orm.Session, Depends(session)],
    stripe_signature: Annotated[str, Header()],
) -> dict[str, bool]:
    """Stripe's webhook."""
    try:
        event = stripe.Webhook.construct_event(payload, stripe_signature, SECRET)
    except (ValueError, stripe.SignatureVerificationError) as refused:
        raise HTTPException(status_code=400) from refused
    received = insert(Event).values(id=event.id, type=event.type, payload=payload.decode())
    db.execute(received.on_conflict_do_nothing())
    db.commit()
    process_event.delay(event.id)
    return {"received": True}
