"""Random histories of customers and checkouts, told as Stripe would, and what is true at their end.

The end is told by a simulation of its own, in causal order: an address is a queue in which customers stand in the order
in which they came; they leave it when they move or are deleted; the first one stands for the address.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from quittance.event import Event
from tests.customers.address_events import created, deleted, moved, session, updated

ADDRESSES = ("ann@example.com", "bob@example.com", "eve@example.com")


@dataclass
class History:
    """The events so far, in causal order, and the world that they tell of."""

    account: str
    now: int = 0
    events: list[Event] = field(default_factory=list)
    where: dict[str, str | None] = field(default_factory=dict)  # of customers: the present address
    gone: dict[str, str | None] = field(default_factory=dict)  # of deleted ones: the last address
    queues: dict[str, list[str]] = field(default_factory=dict)
    checkouts: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def canonical(self, address: str | None) -> str | None:
        """Who has stood longest in the address's queue."""
        queue = self.queues.get(address or "", [])
        return queue[0] if queue else None

    def known(self, session_id: str) -> tuple[str | None, str | None]:
        """What the quote of a session knows of its customer: address in normal form, Stripe customer."""
        typed, customer = self.checkouts[session_id]
        address = self.gone[customer] if customer in self.gone else self.where.get(customer or "")
        address = address or typed
        return address, self.canonical(address) or (None if customer in self.gone else customer)

    def add(self, event: Event) -> None:
        """One second passes with each event."""
        self.events.append(event)
        self.now += 1

    def go(self, customer: str, address: str | None) -> None:
        """A customer comes to an address, or has none from now on."""
        self.leave(customer)
        self.where[customer] = address
        if address is not None:
            self.queues.setdefault(address, []).append(customer)

    def leave(self, customer: str) -> None:
        """A customer leaves its queue; the address has been seen."""
        for queue in self.queues.values():
            if customer in queue:
                queue.remove(customer)


@st.composite
def histories(draw: st.DrawFn, account: str) -> History:
    """A history of up to 14 events of a few customers, addresses and sessions."""
    history = History(account)
    for _ in range(draw(st.integers(1, 14))):
        customer = f"cus_{draw(st.integers(0, 3))}"
        address = draw(st.sampled_from((*ADDRESSES, None)))
        if customer in history.gone:
            check_out(history, draw, None, draw(st.sampled_from(ADDRESSES)))
        elif customer not in history.where:
            begin(history, draw, customer, address)
        else:
            live_on(history, draw, customer, address)
    return history


def begin(history: History, draw: st.DrawFn, customer: str, address: str | None) -> None:
    """A customer appears: made, or only seen at a checkout; or a guest checks out."""
    how = draw(st.sampled_from(("made", "seen", "guest")))
    if how == "made" or address is None:
        history.go(customer, address)
        history.add(created(customer, spelt(draw, address), at=history.now, account=history.account))
    else:
        check_out(history, draw, customer if how == "seen" else None, address)


def live_on(history: History, draw: st.DrawFn, customer: str, address: str | None) -> None:
    """Something happens to a customer."""
    here = history.where[customer]
    about = {"at": history.now, "account": history.account}
    match draw(st.sampled_from(("move", "touch", "delete", "buy", "buy"))):
        case "move" if address != here:
            history.go(customer, address)
            history.add(moved(customer, spelt(draw, here), spelt(draw, address), **about))
        case "delete":
            history.leave(customer)
            history.gone[customer] = here
            history.add(deleted(customer, draw(st.sampled_from((None, here))), **about))
        case "buy" if here is not None:
            check_out(history, draw, customer, here)
        case _:
            history.add(updated(customer, spelt(draw, here), **about))


def check_out(history: History, draw: st.DrawFn, customer: str | None, address: str) -> None:
    """Somebody pays a quote."""
    session_id = f"cs_{len(history.checkouts)}"
    history.checkouts[session_id] = (address, customer)
    history.queues.setdefault(address, [])
    if customer is not None and customer not in history.where:
        history.go(customer, address)
    history.add(
        session(session_id, f"Q-{session_id}", spelt(draw, address), customer, at=history.now, account=history.account)
    )


def spelt(draw: st.DrawFn, address: str | None) -> str | None:
    """An address as somebody might write it."""
    return None if address is None else draw(st.sampled_from((address, address.upper(), f" {address.title()}")))


@st.composite
def deliveries(draw: st.DrawFn, events: list[Event]) -> list[list[Event]]:
    """The events in any order, some of them again later, in batches as they may come."""
    order = draw(st.permutations(events))
    again = draw(st.lists(st.sampled_from(events), max_size=4))
    batches: list[list[Event]] = []
    for one in order:
        if not batches or draw(st.booleans()):
            batches.append([])
        batches[-1].append(one)
    return [*batches, *([one] for one in again)]
