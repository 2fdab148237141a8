"""Which changes notifications has to hear of: those that a mail may come of, and no other (RULES S5)."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from quittance.event import Event
from quittance.outbox import NOTIFICATIONS_QUEUE, STATUS_CHANGED, routes
from tests.support.folding import fold
from tests.support.random_lives import deliveries, lives
from workers.mail.changes import change_of

Asked = set[tuple[str, int, str, str | None]]  # quote, revision, kind, owner


def asked_for(changes: Sequence[Event]) -> Asked:
    """Every mail that changes ask for, once (the table has a key for each)."""
    asked: Asked = set()
    for change in map(change_of, changes):
        asked |= {(change.quote_id, 0, anomaly, change.owner.email) for anomaly in change.anomalies}
        if change.paid_at is not None:
            asked.add((change.quote_id, change.paid_revision or change.revision, "paid", change.owner.email))
    return asked


def goes_to_notifications(event: Event) -> bool:
    return any(route.routing_key == NOTIFICATIONS_QUEUE for route in routes(event))


@settings(deadline=None)
@given(st.data())
def test_no_mail_is_missed_and_no_change_is_told_in_vain_whatever_the_order(data: st.DataObject) -> None:
    _, emitted = fold(data.draw(deliveries(data.draw(lives()))))
    changes = [event for event in emitted if event.type == STATUS_CHANGED]
    told = [event for event in changes if goes_to_notifications(event)]
    assert asked_for(told) == asked_for(changes)
    for event in told:
        assert asked_for([event])
