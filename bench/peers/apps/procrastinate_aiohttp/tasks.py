"""The procrastinate application and its one task: an event's effects, in one transaction."""

import os
from typing import Any

import procrastinate
import psycopg_pool
from psycopg.types.json import Jsonb

DATABASE_URL = os.environ["DATABASE_URL"]

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=DATABASE_URL))

# Of the worker, opened at the first task: a pool belongs to the event loop that it is opened in.
pool = psycopg_pool.AsyncConnectionPool(DATABASE_URL, min_size=4, max_size=10, open=False)

DEDUPE = "INSERT INTO processed_events (event_id) VALUES (%s) ON CONFLICT DO NOTHING"
CUSTOMER = """
INSERT INTO customers AS old (id, email, name) VALUES (%s, %s, %s)
ON CONFLICT (id) DO UPDATE SET email = coalesce(excluded.email, old.email), name = coalesce(excluded.name, old.name)
"""
QUOTE = """
INSERT INTO quotes (id, customer_id, status) VALUES (%s, %s, %s)
ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, status = excluded.status
"""
OUTBOX = "INSERT INTO outbox (topic, message) VALUES (%s, %s)"


@app.task(retry=5)
async def process_event(event: dict[str, Any]) -> None:
    """Dedupe, then the customer, the quote, the outbox: all of it or nothing."""
    await pool.open()
    thing = event["data"]["object"]
    customer = thing if thing["object"] == "customer" else {"id": thing.get("customer")}
    quote_id = (thing.get("metadata") or {}).get("quote_id")
    async with pool.connection() as connection, connection.transaction():
        if (await connection.execute(DEDUPE, (event["id"],))).rowcount == 0:
            return
        if customer["id"]:
            await connection.execute(CUSTOMER, (customer["id"], customer.get("email"), customer.get("name")))
        if quote_id:
            await connection.execute(QUOTE, (quote_id, customer["id"], event["type"]))
        await connection.execute(OUTBOX, (event["type"], Jsonb({"event": event["id"], "quote": quote_id})))
