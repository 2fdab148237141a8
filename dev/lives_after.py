"""Lives of a quote that is paid by card and then refunded or disputed."""

from dev.life import Expected, Life
from dev.lives_paid import card_payment
from dev.story import DAY
from dev.story_after import FullStory, RefundEvents
from dev.stripe_objects import Purchase


def refunded(p: Purchase, *, refund_events: RefundEvents = "all", inside: bool = False) -> Life:
    """Paid, then refunded whole."""
    story = FullStory(p, refund_events=refund_events)
    _, _, charge = card_payment(story)
    story.refund(charge, inside=inside)
    expected = Expected(status="refunded", amount_due=p.amount, captured=p.amount, refunded=p.amount)
    return Life("refunded", p, story.events, expected)


def refunded_in_part(p: Purchase, *, refund_events: RefundEvents = "all", inside: bool = False) -> Life:
    """Paid, then two refunds of a quarter each."""
    story = FullStory(p, refund_events=refund_events)
    _, _, charge = card_payment(story)
    part = p.amount // 4
    story.refund(charge, part, inside=inside)
    story.wait(DAY)
    story.refund(charge, part, inside=inside)
    expected = Expected(status="partially_refunded", amount_due=p.amount, captured=p.amount, refunded=2 * part)
    return Life("refunded_in_part", p, story.events, expected)


def refunded_charge_only(p: Purchase) -> Life:
    """As refunded_in_part, on an account that sends only `charge.refunded`."""
    life = refunded_in_part(p, refund_events="charge_only")
    return Life("refunded_charge_only", p, life.events, life.expected)


def refunded_refund_only(p: Purchase) -> Life:
    """As refunded, on an account that sends only `refund.*`."""
    life = refunded(p, refund_events="refund_only")
    return Life("refunded_refund_only", p, life.events, life.expected)


def refund_fails(p: Purchase) -> Life:
    """A refund that does not arrive: the money is the seller's again."""
    story = FullStory(p)
    _, _, charge = card_payment(story)
    back = story.refund(charge, status="pending")
    story.wait(DAY)
    story.by_stripe()
    story.refund_becomes(back, charge, "failed")
    return Life("refund_fails", p, story.events, Expected(status="paid", amount_due=p.amount, captured=p.amount))


def _dispute(name: str, p: Purchase, outcome: str | None, *, inquiry: bool = False) -> Life:
    story = FullStory(p)
    _, _, charge = card_payment(story)
    story.by_stripe()
    found = story.open_dispute(charge, inquiry=inquiry)
    story.wait(DAY)
    story.answer_dispute(found)
    story.wait(DAY)
    if outcome is not None:
        story.close_dispute(found, outcome)
    status = {"lost": "dispute_lost", None: "disputed"}.get(outcome, "paid")
    expected = Expected(
        status=status,
        amount_due=p.amount,
        captured=p.amount,
        lost=p.amount if outcome == "lost" else 0,
        dispute_status=found["status"],
    )
    return Life(name, p, story.events, expected)


def dispute_open(p: Purchase) -> Life:
    """Paid, then disputed; not decided yet."""
    return _dispute("dispute_open", p, None)


def dispute_won(p: Purchase) -> Life:
    """Paid, disputed, won."""
    return _dispute("dispute_won", p, "won")


def dispute_lost(p: Purchase) -> Life:
    """Paid, disputed, lost."""
    return _dispute("dispute_lost", p, "lost")


def inquiry(p: Purchase) -> Life:
    """The bank only asks; the inquiry is closed and no money moves."""
    return _dispute("inquiry", p, "warning_closed", inquiry=True)
