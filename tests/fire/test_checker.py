"""The checker can fail: each broken promise is noticed, and named."""

from dev.mailbox import Mail
from fire.checker import difference, gaps, mail_faults, told


def mail(message_id: str) -> Mail:
    return Mail(("a@example.com",), "paid", message_id, "", 0.0, b"")


def test_a_lost_event_is_named() -> None:
    assert difference(["evt_1", "evt_2"], ["evt_2"], "archived") == {"not archived": ["evt_1"]}


def test_a_doubled_effect_is_named() -> None:
    assert difference(["evt_1"], ["evt_1", "evt_1"], "handled by quotes") == {"twice handled by quotes": ["evt_1"]}


def test_what_happened_to_others_is_no_fault() -> None:
    assert difference(["evt_1"], ["evt_1", "evt_9"], "archived") == {}


def test_a_gap_a_missing_end_and_a_number_too_many_are_named() -> None:
    last = {"whole": 2, "gap": 3, "short": 2, "long": 1, "none": 1, "new": 0}
    sequences = {"whole": [1, 2], "gap": [1, 3], "short": [1], "long": [1, 2]}
    assert gaps(sequences, last, "here") == {"a gap or a number too many here": ["gap", "long", "none", "short"]}


def test_a_mail_that_is_missing_or_comes_too_often_is_named() -> None:
    expected = {"Q-1": "<1@x>", "Q-2": "<2@x>", "Q-3": "<3@x>"}
    mails = [mail("<1@x>"), mail("<1@x>"), mail("<2@x>")]
    assert mail_faults(expected, mails, 1) == {"not mailed": ["Q-3"]}
    assert mail_faults(expected, mails, 0) == {"not mailed": ["Q-3"], "mailed again (at most 0 may be)": ["Q-1"]}


def test_what_is_told_is_short_and_says_how_many_more() -> None:
    assert told({"not archived": [str(number) for number in range(7)]}, 2) == "not archived: 0, 1 and 5 more"
