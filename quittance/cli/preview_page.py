"""A preview, and what a replay changed, as people read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from quittance.cli import output
from quittance.cli.preview import Preview

ENDINGS: Final = {"session": "Checkout Session to expire", "coupon": "coupon to delete"}


def print_preview(preview: Preview) -> None:
    """Print what would happen, in the order in which people ask: does it work, what does it tell whom."""
    asked = [step for step in preview.steps if step.after is None]
    following = len(preview.steps) - len(asked)
    output.print_table(
        ("queue", "event", "type", "would be", "why"),
        (
            (step.queue, step.event_id, step.type, step.outcome, _why(step.reason, step.error))
            for step in preview.steps
            if step.after is None or step.outcome == "fails"
        ),
    )
    print_changes(preview.status_changes)
    print_mails(preview.mails)
    if preview.stripe_requests:
        output.heading("customers that would be looked up at Stripe, and created there where unknown")
        output.print_table(
            ("account", "mode", "customer", "name", "quote", ""),
            map(_request, preview.stripe_requests),
        )
    if preview.stripe_endings:
        output.heading("what would be ended at Stripe")
        output.print_table(
            ("account", "mode", "", "quote", "revision", "at Stripe"),
            (
                (
                    row["account"],
                    output.mode(row["livemode"]),
                    ENDINGS[row["kind"]],
                    row["quote_id"],
                    row["revision"],
                    row["stripe_id"],
                )
                for row in preview.stripe_endings
            ),
        )
    if preview.rows:
        output.heading("rows that would be written")
        output.print_table(
            ("table", "inserted", "updated", "deleted"),
            (
                (name, counts.get("inserted"), counts.get("updated"), counts.get("deleted"))
                for name, counts in sorted(preview.rows.items())
            ),
            numbers=("inserted", "updated", "deleted"),
        )
    output.say("")
    output.say(
        f"{output.count(len(asked), 'delivery', 'deliveries')}"
        f" ({output.count(following, 'event')} between workers would follow): "
        f"{output.count(len(preview.crm_events), 'CRM event')}, {output.count(len(preview.mails), 'mail')}, "
        f"{output.count(preview.fails, 'failure')}. Nothing was changed."
    )


def print_changes(changes: Sequence[Mapping[str, Any]]) -> None:
    """Status changes, given the data of their CRM events and what differs in each."""
    output.heading("status changes, each told to the CRM")
    if not changes:
        output.say("none")
        return
    output.print_table(
        ("quote", "no.", "from", "to", "due", "captured", "refunded", "lost", "changed", "cause"),
        map(_change, changes),
        numbers=("no.", "due", "captured", "refunded", "lost"),
    )


def print_mails(mails: Sequence[Mapping[str, Any]]) -> None:
    """Mails to sellers."""
    output.heading("mails")
    if not mails:
        output.say("none")
        return
    output.print_table(
        ("quote", "kind", "to", "subject", "state"),
        ((row["quote_id"], row["kind"], row["recipient"], row["subject"], row["state"]) for row in mails),
    )


def amounts(data: Mapping[str, Any]) -> list[str]:
    """The four amounts of a CRM event's data."""
    names = ("amount_due", "amount_captured", "amount_refunded", "amount_lost")
    return [output.money(data.get(name), data.get("currency"), data.get("exponent")) for name in names]


def _change(data: Mapping[str, Any]) -> tuple[object, ...]:
    cause = data.get("cause") or {}
    return (
        data.get("quote_id"),
        data.get("sequence"),
        data.get("previous") or "(new)",
        data.get("status"),
        *amounts(data),
        data["changed"] if data.get("previous") else "all",
        f"{cause.get('type')} {cause.get('id')}",
    )


def _request(row: Mapping[str, Any]) -> tuple[object, ...]:
    passed_over = "" if row["state"] == "due" else f"{row['state']}: with the STRIPE_API_KEY of this environment"
    return row["account"], output.mode(row["livemode"]), row["email"], row["name"], row["quote_id"], passed_over


def _why(reason: str | None, error: str | None) -> str:
    return f"{reason}: {error}" if reason else ""
