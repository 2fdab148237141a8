"""RULES S: status is a pure function of the set of facts."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quittance.event import Event
from quittance.outbox import STATUS_CHANGED
from tests.support.folding import final, fold
from tests.support.random_lives import deliveries, lives

MANY = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@MANY
@given(st.data())
def test_every_order_and_repetition_ends_as_the_causal_order(data: st.DataObject) -> None:
    """INVARIANT: what is concluded does not depend on the order in which events arrive, nor on how often.

    Otherwise a webhook that is late, or comes twice, would decide whether a quote counts as paid.
    """
    events: list[Event] = data.draw(lives())
    expected, _ = fold(events)
    shuffled, _ = fold(data.draw(deliveries(events)))
    assert final(shuffled) == final(expected)


@MANY
@given(st.data())
def test_changes_are_numbered_from_one_without_a_gap(data: st.DataObject) -> None:
    """INVARIANT: each change has the next number, and says truly what was before it.

    Otherwise a CRM could not tell a lost change from none.
    """
    _, emitted = fold(data.draw(deliveries(data.draw(lives()))))
    changes = [event for event in emitted if event.type == STATUS_CHANGED]
    assert [event.id.rsplit(":", 1)[1] for event in changes] == [str(n) for n in range(1, len(changes) + 1)]
