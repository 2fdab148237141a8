"""Lives of a quote with recurring items."""

from dev.life import Expected, Life
from dev.story import DAY
from dev.story_after import FullStory
from dev.stripe_events import Json
from dev.stripe_objects import Purchase


def _subscribe(story: FullStory) -> tuple[Json, Json]:
    """A subscription session that is paid at once. Gives the subscription and the first charge."""
    session = story.open_session(mode="subscription")
    story.wait(50)
    customer = story.add_customer()
    sub = story.subscribe(session, customer["id"])
    bill = story.bill(sub, reason="subscription_create")
    session["invoice"] = bill["id"]
    intent = story.bill_intent(bill)
    charge = story.bill_paid(bill, intent)
    story.change("customer.subscription.updated", sub, status="active")
    story.wait(1)
    story.complete(session)
    return sub, charge


def subscription(p: Purchase) -> Life:
    """A subscription, its first invoice paid."""
    story = FullStory(p)
    _subscribe(story)
    return Life("subscription", p, story.events, _paid(p))


def subscription_renewed(p: Purchase, *, renewals: int = 2) -> Life:
    """A subscription that renews."""
    story = FullStory(p)
    sub, _ = _subscribe(story)
    for _ in range(renewals):
        story.renew(sub)
    return Life("subscription_renewed", p, story.events, _paid(p, invoices=1 + renewals))


def subscription_past_due(p: Purchase) -> Life:
    """A renewal is declined: the quote stays paid, the subscription is past due."""
    story = FullStory(p)
    sub, _ = _subscribe(story)
    story.renew(sub, paid=False)
    return Life("subscription_past_due", p, story.events, _paid(p, invoices=2, subscription_status="past_due"))


def subscription_cancelled(p: Purchase) -> Life:
    """A subscription that renews once and is cancelled by hand."""
    story = FullStory(p)
    sub, _ = _subscribe(story)
    story.renew(sub)
    story.wait(DAY)
    story.cancel(sub)
    return Life("subscription_cancelled", p, story.events, _paid(p, invoices=2, subscription_status="canceled"))


def subscription_refunded(p: Purchase) -> Life:
    """The first invoice's charge is refunded; the subscription goes on."""
    story = FullStory(p)
    _, charge = _subscribe(story)
    story.wait(DAY)
    story.refund(charge)
    expected = Expected(
        status="refunded",
        amount_due=p.amount,
        captured=p.amount,
        refunded=p.amount,
        documents=("invoice",),
        subscription_status="active",
    )
    return Life("subscription_refunded", p, story.events, expected)


def _paid(p: Purchase, *, invoices: int = 1, subscription_status: str = "active") -> Expected:
    return Expected(
        status="paid",
        amount_due=p.amount,
        captured=p.amount,
        documents=("invoice",) * invoices,
        subscription_status=subscription_status,
    )
