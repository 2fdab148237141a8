"""Accounts: what is known of each connected Stripe account, and of the key's own (R4, R6).

Consumes  stripe.events  account.updated, account.application.authorized, account.application.deauthorized
Writes    accounts
Emits     nothing: publishing and Check out look into the table
"""

from collections.abc import Sequence
from typing import Final

from quittance.accounts import Key, learn
from quittance.broker import STRIPE_EVENTS, Queue
from quittance.domain.accounts import AUTHORISED, DEAUTHORISED, UPDATED, Account, account_fact
from quittance.event import OWN_ACCOUNT, Event
from quittance.locks import Connection
from quittance.reading import Reader

QUEUE: Final = Queue("accounts", {STRIPE_EVENTS: (UPDATED, AUTHORISED, DEAUTHORISED)})

READER: Final = Reader(
    ("id", "business_profile", "charges_enabled", "country", "settings"), previous=("charges_enabled",)
)


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Join what the events say to what is known; in whichever order they come, the same is known at the end."""
    told: dict[Key, Account] = {}
    for event in events:
        facts = _facts(event)
        if facts != Account():
            key = event.account, event.livemode
            told[key] = told.get(key, Account()) | facts
    if told:
        await learn(db, told)
    return []


def _facts(event: Event) -> Account:
    obj, previous = READER.read(event.body)
    return account_fact(
        event.type,
        obj,
        previous,
        account=event.account,
        own=event.account == OWN_ACCOUNT,
        at=event.created,
        event_id=event.id,
    )
